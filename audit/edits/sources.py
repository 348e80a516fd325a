"""The sources of edit requests: a name, or a file whose format is recognized by its content.

    loaded = load_requests("zsre.jsonl")
    loaded.draw(20, seed=0).requests, loaded.skipped

Invalid input raises an `AuditError` of one sentence: file, line, field, reason, remedy.
"""

import difflib
import hashlib
import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from audit.edits import ours
from audit.edits.benchmark_files import read_flat_counterfact, read_nested_counterfact, read_zsre
from audit.edits.checks import Repeats
from audit.edits.portability_files import (
    LOCALITY_CRITERIA,
    PORTABILITY_CRITERIA,
    read_knowedit,
    read_mquake,
    read_ripple_edits,
    read_wikibigedit,
)
from audit.edits.requests import EditRequest
from audit.edits.rows import Row, SkippedRow, UnusableError, read_rows, shown
from audit.errors import AuditError

NAMES = ("pocket",)


@dataclass(frozen=True)
class Format:
    """A file format of edit requests.

    `fits` says by its fields whether a row has this format. `read` gives the request of a row, or several. A row that
    cannot be used is an error if `strict`, and otherwise (in a benchmark's file) skipped and listed. `columns` are the
    fields of subject and target; `duplicates` says whether several rows may hold the same edit.
    """

    title: str
    fits: Callable[[Mapping[str, Any]], bool]
    columns: tuple[str, str]
    read: Callable[[Row], EditRequest | tuple[EditRequest, ...]]
    strict: bool = False
    duplicates: bool = False


def _has(keys: str, needed: int) -> Callable[[Mapping[str, Any]], bool]:
    """Whether a row has at least `needed` of the keys."""
    signature = frozenset(keys.split())
    return lambda row: len(signature & row.keys()) >= needed


def _is_knowedit(row: Mapping[str, Any]) -> bool:
    """Whether a row has one of KnowEdit's two groups of probes; our own `portability` is a list."""
    grouped = "locality" in row or isinstance(row.get("portability"), dict)
    return grouped and _has("subject prompt target_new", 2)(row)


_flat_counterfact = _has("ground_truth rephrase_prompt locality_prompt locality_ground_truth", 2)

# The first format that fits is taken: KnowEdit and the flat CounterFact have the keys of our own as well.
FORMATS = (
    Format(
        "RippleEdits",
        _has(f"edit example_type {' '.join((*LOCALITY_CRITERIA, *PORTABILITY_CRITERIA))}", 2),
        ("edit.prompt", "edit.prompt"),
        read_ripple_edits,
    ),
    Format(
        "MQuAKE",
        _has("requested_rewrite questions new_answer single_hops new_single_hops", 2),
        ("requested_rewrite.subject", "requested_rewrite.target_new.str"),
        read_mquake,
        duplicates=True,
    ),
    Format(
        "CounterFact (ROME's nested schema)",
        _has("requested_rewrite", 1),
        ("requested_rewrite.subject", "requested_rewrite.target_new.str"),
        read_nested_counterfact,
    ),
    Format("WikiBigEdit", _has("update ans personas mhop mhop_ans", 2), ("subject", "ans"), read_wikibigedit),
    Format(
        "ZsRE (MEND's and EasyEdit's schema)",
        _has("src alt answers rephrase loc loc_ans", 2),
        ("subject", "alt"),
        read_zsre,
    ),
    Format(
        "CounterFact (EasyEdit's flat schema)",
        lambda row: _flat_counterfact(row) and "locality" not in row,
        ("subject", "target_new"),
        read_flat_counterfact,
    ),
    Format("KnowEdit", _is_knowedit, ("subject", "target_new"), read_knowedit),
    Format(
        "our own format", _has(" ".join(ours.REQUIRED), 3), ("subject", "target_new"), ours.read_request, strict=True
    ),
)

# Files of other data sets on editing, which hold no edit requests that can be read.
REFUSED = (
    (
        "counterfact-tracing",
        _has("relation_prefix relation_suffix target_false target_false_id target_true_id", 2),
        "it has facts without paraphrases and probes; use CounterFact itself, from which it was made",
    ),
    ("KnowEdit's WikiBio", _has("text labels concept", 3), "it edits passages, not facts; use KnowEdit's other files"),
    (
        "KnowEdit's Sanitation",
        lambda row: "success" in row and "locality" in row,
        "it erases answers and names no subject; use wiki_recent, wiki_counterfact or ZsRE of KnowEdit",
    ),
    ("CKnowEdit", _has("prompt target_old target_new", 3), "its rows name no subject; write them in our own format"),
    (
        "MEND's training set of ZsRE",
        _has("input prediction alternatives filtered_rephrases output", 3),
        "it names no subject; use zsre_mend_eval.json",
    ),
)


@dataclass(frozen=True)
class LoadedRequests:
    """Edit requests and their source.

    `skipped` are the rows of a benchmark's file that cannot be used, and `others` the usable requests of the same
    source that are not among `requests`. `cases` are the usable rows of a file, each with its requests. If `strict`, a
    row that cannot be used is an error. `notes` are sentences about single requests, for the report.
    """

    requests: tuple[EditRequest, ...]
    skipped: tuple[SkippedRow, ...]
    origin: str
    others: tuple[EditRequest, ...] = ()
    cases: tuple[tuple[Row, tuple[EditRequest, ...]], ...] = ()
    strict: bool = False
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """The number of rows of the file; 0 without a file."""
        return len(self.cases) + len(self.skipped)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the requests in their order; empty without requests."""
        return requests_fingerprint(self.requests) if self.requests else ""

    def only(self, chosen: Iterable[EditRequest]) -> "LoadedRequests":
        """The chosen ones of the requests; the rest are among `others`."""
        kept = dict.fromkeys(chosen)
        edits = {_edit(request) for request in kept}
        others = tuple(request for request in (*self.requests, *self.others) if _edit(request) not in edits)
        return replace(self, requests=tuple(kept), others=others)

    def draw(self, count: int, seed: int, check: Callable[[EditRequest], str] | None = None) -> "LoadedRequests":
        """The first `count` requests of a seeded shuffle of the rows; a larger count only appends requests.

        Args:
            count: how many requests to draw.
            seed: of the shuffle.
            check: gives a note about a request, or raises AuditError if it cannot be used; its row is then skipped, and
                the next one taken. If too few are left, fewer are drawn.

        Raises:
            AuditError: `count` is not positive or more than there are, or a row that must be usable is not.
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
        cases: list[tuple[Row | None, tuple[EditRequest, ...]]] = list(self.cases) or [
            (None, (request,)) for request in self.requests
        ]
        random.Random(seed).shuffle(cases)
        skipped: list[SkippedRow] = []
        notes: list[str] = []

        def checked() -> Iterator[tuple[EditRequest, ...]]:
            for row, requests in cases:
                try:
                    found = [(request.case_id, check(request)) for request in requests] if check else []
                except AuditError as error:
                    if row is None or self.strict:
                        raise AuditError(str(error) if row is None else f"{row.place}: {error}") from error
                    skipped.append(SkippedRow(row.file, row.number, row.line, "row", str(error).removesuffix(".")))
                else:
                    notes.extend(f"{case_id}: {note}" for case_id, note in found if note)
                    yield requests

        drawn = self.only(_merged(checked(), count))
        unusable = {one.row for one in skipped}
        usable_cases = tuple(case for case in self.cases if case[0].number not in unusable)
        return replace(drawn, cases=usable_cases, skipped=(*self.skipped, *skipped), notes=tuple(notes))


def _edit(request: EditRequest) -> tuple[str, str]:
    """What is edited: requests with equal edits differ in their probes only."""
    return request.filled_prompt, request.target_new


def _merged(cases: Iterable[Sequence[EditRequest]], count: int | None = None) -> list[EditRequest]:
    """The first `count` different edits of the cases, in order; of equal ones the first gets the probes of all."""
    merged: dict[tuple[str, str], EditRequest] = {}
    for requests in cases:
        for request in requests:
            known = merged.get(_edit(request))
            if known is None and len(merged) == count:
                break
            merged[_edit(request)] = request if known is None else _with_probes_of(known, request)
        if len(merged) == count:
            break
    return list(merged.values())


def _with_probes_of(request: EditRequest, other: EditRequest) -> EditRequest:
    united: dict[str, Any] = {
        kind: tuple(dict.fromkeys((*getattr(request, kind), *getattr(other, kind))))
        for kind in ("paraphrases", "neighborhood", "portability")
    }
    return replace(request, **united)


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
    with suppress(OSError):  # a folder that may not be read; `read_rows` says so
        if not path.exists():
            raise _unknown(str(path))
    rows = read_rows(path)
    file_format = _format_of(rows[0])
    cases: list[tuple[Row, tuple[EditRequest, ...]]] = []
    skipped: list[SkippedRow] = []
    repeats = Repeats(*file_format.columns, duplicates=file_format.duplicates)
    for row in rows:
        _check_same_format(row, file_format)
        try:
            found = file_format.read(row)
            requests = found if isinstance(found, tuple) else (found,)
            repeats.check(requests, row)
        except UnusableError as problem:
            if file_format.strict:
                raise row.error(problem.field, problem.reason, problem.remedy) from problem
            skipped.append(SkippedRow(row.file, row.number, row.line, problem.field, problem.reason))
        else:
            cases.append((row, requests))
    if not cases:
        first = skipped[0]
        raise AuditError(
            f"{path}: none of its {len(rows)} rows can be used (row {first.row}, line {first.line}, field "
            f"'{first.field}': {first.reason}); correct them or give another file."
        )
    merged = _merged(requests for _, requests in cases)
    return LoadedRequests(tuple(merged), tuple(skipped), str(path), cases=tuple(cases), strict=file_format.strict)


def _recognize(row: Row) -> Format | None:
    return next((one for one in FORMATS if one.fits(row.values)), None)


def _format_of(row: Row) -> Format:
    """The format of a file, by its first row.

    Raises:
        AuditError: the row has no format that can be read.
    """
    for title, fits, reason in REFUSED:
        if fits(row.values):
            raise AuditError(f"{row.place}: this is a file of {title}, which cannot be used: {reason}.")
    found = _recognize(row)
    if found is not None:
        return found
    missing = [key for key in ours.REQUIRED if key not in row.values]
    lack = f" (our own format lacks {' and '.join(map(repr, missing))})" if len(missing) < len(ours.REQUIRED) else ""
    keys = ", ".join(shown(key) for key in list(row.values)[:6]) or "none"
    raise AuditError(
        f"{row.place}: the format is not recognized from its keys ({keys}){lack}; give each row 'subject', 'prompt' "
        "and 'target_new', or a file of a benchmark that docs/edit-requests.md lists."
    )


def _check_same_format(row: Row, file_format: Format) -> None:
    found = _recognize(row)
    # A benchmark's row without a column may look like another format; the benchmark's reader names that column.
    if found is None or found.strict or file_format.fits(row.values):
        return
    raise AuditError(
        f"{row.place}: has the format {found.title}, the rows above {file_format.title}; use one format in a file."
    )


def _unknown(name: str) -> AuditError:
    close = difflib.get_close_matches(name, NAMES, n=1)
    guess = f" (did you mean {close[0]!r}?)" if close else ""
    return AuditError(
        f"--edits {name!r} is neither a known name nor a file{guess}; give {' or '.join(NAMES)}, or the path of a "
        "file of edit requests."
    )
