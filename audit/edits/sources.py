"""The sources of edit requests: a name, or a file whose format is recognized by its content.

    loaded = load_requests("zsre.jsonl")
    loaded.draw(20, seed=0).requests, loaded.skipped

Invalid input raises an `AuditError` of one sentence: file, line, field, reason, remedy.
"""

import difflib
import hashlib
import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from audit.edits import benchmark_files, ours
from audit.edits.checks import Repeats
from audit.edits.requests import EditRequest
from audit.edits.rows import Row, SkippedRow, UnusableError, read_rows, shown
from audit.errors import AuditError

NAMES = ("pocket",)


@dataclass(frozen=True)
class Format:
    """A file format of edit requests.

    A row has this format if it has at least `needed` of the `signature` keys. A row that cannot be used is an error if
    `strict`, and otherwise (in a benchmark's file) skipped and listed. `columns` are the fields of subject and target.
    """

    title: str
    signature: frozenset[str]
    needed: int
    strict: bool
    columns: tuple[str, str]
    read: Callable[[Row], EditRequest]


# The first format that fits is taken. Our own is the last, because its keys occur in the flat CounterFact too.
FORMATS = (
    Format(
        title="CounterFact (ROME's nested schema)",
        signature=frozenset({"requested_rewrite"}),
        needed=1,
        strict=False,
        columns=("requested_rewrite.subject", "requested_rewrite.target_new.str"),
        read=benchmark_files.read_nested_counterfact,
    ),
    Format(
        title="ZsRE (MEND's and EasyEdit's schema)",
        signature=frozenset({"src", "alt", "answers", "rephrase", "loc", "loc_ans"}),
        needed=2,
        strict=False,
        columns=("subject", "alt"),
        read=benchmark_files.read_zsre,
    ),
    Format(
        title="CounterFact (EasyEdit's flat schema)",
        signature=frozenset({"ground_truth", "rephrase_prompt", "locality_prompt", "locality_ground_truth"}),
        needed=2,
        strict=False,
        columns=("subject", "target_new"),
        read=benchmark_files.read_flat_counterfact,
    ),
    Format(
        title="our own format",
        signature=frozenset(ours.REQUIRED),
        needed=1,
        strict=True,
        columns=("subject", "target_new"),
        read=ours.read_request,
    ),
)


@dataclass(frozen=True)
class LoadedRequests:
    """Edit requests and their source.

    `skipped` are the rows of a benchmark's file that cannot be used, and `others` the usable requests of the same
    source that are not among `requests`.
    """

    requests: tuple[EditRequest, ...]
    skipped: tuple[SkippedRow, ...]
    origin: str
    others: tuple[EditRequest, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the requests in their order; empty without requests."""
        return requests_fingerprint(self.requests) if self.requests else ""

    def only(self, chosen: Iterable[EditRequest]) -> "LoadedRequests":
        """The chosen ones of the requests; the rest are among `others`."""
        kept = dict.fromkeys(chosen)
        others = tuple(request for request in (*self.requests, *self.others) if request not in kept)
        return replace(self, requests=tuple(kept), others=others)

    def draw(self, count: int, seed: int) -> "LoadedRequests":
        """The first `count` requests of a seeded shuffle; a larger count only appends requests.

        Raises:
            AuditError: `count` is not positive or more than there are.
        """
        if count < 1:
            raise AuditError(f"--edit-count {count}: give a whole number of at least 1.")
        usable = len(self.requests)
        if count > usable:
            lost = f" ({len(self.skipped)} rows were skipped)" if self.skipped else ""
            raise AuditError(
                f"--edit-count {count} is more than the {usable} usable edit requests in {self.origin}{lost}; "
                f"give at most {usable} or add requests."
            )
        order = list(range(usable))
        random.Random(seed).shuffle(order)
        return self.only(self.requests[index] for index in order[:count])


def load_requests(name_or_path: str) -> LoadedRequests:
    """The edit requests of `name_or_path`, in their order.

    A name from `NAMES` has precedence over a file of that name (write ./pocket for the file).

    Raises:
        AuditError: the file cannot be read, or a row is invalid.
    """
    if name_or_path not in NAMES:
        return _load_file(Path(name_or_path).expanduser())
    from audit.edits.pocket import pocket_requests  # imports the pocket world

    return LoadedRequests(pocket_requests(), (), name_or_path)


def requests_fingerprint(requests: Sequence[EditRequest]) -> str:
    """sha256 over the requests' fields, in order."""
    fields = [ours.request_fields(request) for request in requests]
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode("utf-8")).hexdigest()


def _load_file(path: Path) -> LoadedRequests:
    if not path.exists():
        raise _unknown(str(path))
    rows = read_rows(path)
    requests: list[EditRequest] = []
    skipped: list[SkippedRow] = []
    file_format = _recognize(rows[0])
    if file_format is None:
        raise _unrecognized(rows[0])
    repeats = Repeats(*file_format.columns)
    for row in rows:
        _check_same_format(row, file_format)
        try:
            request = file_format.read(row)
            repeats.check(request, row.line)
        except UnusableError as problem:
            if file_format.strict:
                raise row.error(problem.field, problem.reason, problem.remedy) from problem
            skipped.append(SkippedRow(row.file, row.line, problem.field, problem.reason))
        else:
            requests.append(request)
    if not requests:
        first = skipped[0]
        raise AuditError(
            f"{path}: none of its {len(rows)} rows can be used (line {first.line}, field '{first.field}': "
            f"{first.reason}); correct them or give another file."
        )
    return LoadedRequests(tuple(requests), tuple(skipped), str(path))


def _recognize(row: Row) -> Format | None:
    keys = row.values.keys()
    return next((one for one in FORMATS if len(one.signature & keys) >= one.needed), None)


def _check_same_format(row: Row, file_format: Format) -> None:
    found = _recognize(row)
    # A benchmark's row without a column may look like our format; the benchmark's reader names that column.
    if found is None or found is file_format or found.strict:
        return
    raise AuditError(
        f"{row.file}, line {row.line}: has the format {found.title}, the rows above {file_format.title}; "
        "use one format in a file."
    )


def _unrecognized(row: Row) -> AuditError:
    keys = ", ".join(shown(key) for key in list(row.values)[:6]) or "none"
    return AuditError(
        f"{row.file}, line {row.line}: the format is not recognized from its keys ({keys}); give each row "
        "'subject', 'prompt' and 'target_new' (see docs/edit-requests.md), or a ZsRE or CounterFact file."
    )


def _unknown(name: str) -> AuditError:
    close = difflib.get_close_matches(name, NAMES, n=1)
    guess = f" (did you mean {close[0]!r}?)" if close else ""
    return AuditError(
        f"--edits {name!r} is neither a known name nor a file{guess}; give {' or '.join(NAMES)}, or the path of a "
        "file of edit requests."
    )
