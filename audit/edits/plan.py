"""The edit plan: how many requests one step edits, and whether edits accumulate.

    plan = make_plan("batch-sequential", count=30, batch_size=10, editor_name="memit", editor_batches=True)
    plan.steps(requests)  # three steps of ten; each edits the result of the step before

| mode | requests in a step | the next step edits |
|---|---|---|
| instance-single | one request | the untouched model |
| instance-sequential | one request | the model edited so far |
| batch-single | all requests | (there is only one step) |
| batch-sequential | `batch_size` requests | the model edited so far |
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from audit.edits.requests import EditRequest
from audit.errors import AuditError

MODES = ("instance-single", "instance-sequential", "batch-single", "batch-sequential")
BATCH_MODES = ("batch-single", "batch-sequential")
DEFAULT_COUNT = 10
DEFAULT_BATCH_SIZE = 10


@dataclass(frozen=True)
class EditPlan:
    """`count` requests, `batch_size` in each step. `seed` selects the requests from their source."""

    mode: str
    count: int
    batch_size: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            close = difflib.get_close_matches(self.mode, MODES, n=1)
            guess = f" (did you mean {close[0]!r}?)" if close else ""
            raise AuditError(f"--edit-mode {self.mode!r} is unknown{guess}; give one of {', '.join(MODES)}.")
        if self.count < 1:
            raise AuditError(f"--edit-count {self.count}: give a whole number of at least 1.")
        if self.batch_size < 1:
            raise AuditError(f"--edit-batch-size {self.batch_size}: give a whole number of at least 1.")
        if self.batch_size > self.count:
            raise AuditError(
                f"--edit-batch-size {self.batch_size} is more than the {self.count} edits of the plan; give at most "
                f"{self.count} or a larger --edit-count."
            )
        if not self.batched and self.batch_size != 1:
            raise AuditError(
                f"--edit-batch-size {self.batch_size} does not go with --edit-mode {self.mode}, which edits one "
                "request at a time; leave it out or use batch-sequential."
            )
        if self.mode == "batch-single" and self.batch_size != self.count:
            raise AuditError(
                f"--edit-batch-size {self.batch_size} does not go with --edit-mode batch-single, which edits all "
                f"{self.count} requests at once; leave it out or use batch-sequential."
            )

    @property
    def batched(self) -> bool:
        """Whether a step may have several requests."""
        return self.mode in BATCH_MODES

    @property
    def sequential(self) -> bool:
        """Whether a step edits the result of the step before (otherwise always the untouched model)."""
        return self.mode.endswith("-sequential")

    def steps(self, requests: Sequence[EditRequest]) -> tuple[tuple[EditRequest, ...], ...]:
        """The requests of each step, in their order; the last batch may be smaller.

        Raises:
            AuditError: there are not exactly `count` requests.
        """
        if len(requests) != self.count:
            raise AuditError(
                f"the edit plan needs {self.count} edit requests but got {len(requests)}; draw exactly "
                f"{self.count} from their source."
            )
        starts = range(0, self.count, self.batch_size)
        return tuple(tuple(requests[start : start + self.batch_size]) for start in starts)

    def sentence(self) -> str:
        """The plan in words: "30 edits, batch-sequential, 10 at a time"."""
        edits = "1 edit" if self.count == 1 else f"{self.count} edits"
        several = f", {self.batch_size} at a time" if self.mode == "batch-sequential" else ""
        return f"{edits}, {self.mode}{several}"


def make_plan(
    mode: str | None,
    count: int | None,
    batch_size: int | None,
    editor_name: str,
    editor_batches: bool,
    *,
    seed: int = 0,
    available: int | None = None,
) -> EditPlan:
    """The plan for the given options (None: not given) and the editor.

    Editors that can batch default to batch-single, others to instance-sequential. A `batch_size` without a mode means
    batch-sequential. The count defaults to 10, or to `available` if that is fewer.

    Raises:
        AuditError: a value is out of range, or the values contradict each other.
    """
    if mode is None and batch_size is not None and (editor_batches or batch_size != 1):
        mode = "batch-sequential"  # refused below if the editor cannot batch
    elif mode is None:
        mode = "batch-single" if editor_batches else "instance-sequential"
    if count is None:
        count = DEFAULT_COUNT if available is None else max(1, min(DEFAULT_COUNT, available))
    if mode in BATCH_MODES and not editor_batches:
        option = f"--edit-mode {mode}" if batch_size is None else f"--edit-batch-size {batch_size} ({mode})"
        raise AuditError(
            f"the editor {editor_name!r} cannot batch: it edits one request at a time, so {option} is not possible; "
            "use instance-sequential or instance-single, or an editor that batches, such as memit."
        )
    if batch_size is None:
        most = {"batch-single": count, "batch-sequential": DEFAULT_BATCH_SIZE}.get(mode, 1)
        batch_size = max(1, min(most, count))
    return EditPlan(mode, count, batch_size, seed)
