"""The stages of a run: their progress, shown by a watcher, and their durations."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

Progress = Callable[[int, int], None]  # (units done, total units)


class Watcher(Protocol):
    """Shows the progress of a stage: `with watcher.stage("editing") as done: done(3, 10)`."""

    def stage(self, name: str) -> AbstractContextManager[Progress]: ...


class Stages:
    """Runs stages; `seconds` sums the wall time of each heading."""

    def __init__(self, watcher: Watcher | None) -> None:
        self.watcher = watcher
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, heading: str, shown: str | None = None) -> Iterator[Progress]:
        """Time a stage under `heading`; the watcher shows it as `shown`, unless that is None."""
        start = time.perf_counter()
        seen = nullcontext(_no_progress) if self.watcher is None or shown is None else self.watcher.stage(shown)
        try:
            with seen as done:
                yield done
        finally:
            self.seconds[heading] = self.seconds.get(heading, 0.0) + time.perf_counter() - start


def _no_progress(done: int, total: int) -> None:
    """Show nothing."""
