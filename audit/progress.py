"""The stages of a run: what is going on is shown to whoever watches, and how long it took is remembered."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

Progress = Callable[[int, int], None]  # (units done, units in all)


class Watcher(Protocol):
    """Shows what is going on: `with watcher.stage("editing") as done: done(3, 10)`."""

    def stage(self, name: str) -> AbstractContextManager[Progress]: ...


class Stages:
    """Stages by name; `seconds` sums the wall time under each heading."""

    def __init__(self, watcher: Watcher | None) -> None:
        self.watcher = watcher
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, heading: str, shown: str | None = None) -> Iterator[Progress]:
        """While inside, time runs under `heading`; `shown` is what a watcher sees, None for nothing."""
        start = time.perf_counter()
        seen = nullcontext(_unwatched) if self.watcher is None or shown is None else self.watcher.stage(shown)
        try:
            with seen as done:
                yield done
        finally:
            self.seconds[heading] = self.seconds.get(heading, 0.0) + time.perf_counter() - start


def _unwatched(done: int, total: int) -> None:
    """Nobody watches."""
