"""The progress of a run: stages that a watcher shows and that are timed, and values that are computed once."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
Progress = Callable[[int, int], None]  # (units done, total units)
Tick = Callable[[float], None]  # the share of the work that is done


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
        unseen = nullcontext(lambda done, total: None)
        try:
            with unseen if self.watcher is None or shown is None else self.watcher.stage(shown) as done:
                yield done
        finally:
            self.seconds[heading] = self.seconds.get(heading, 0.0) + time.perf_counter() - start


class Once(Generic[T]):
    """A value that is computed at the first call and returned by every call."""

    def __init__(self, compute: Callable[[], T]) -> None:
        self._compute = compute
        self._values: list[T] = []

    def __call__(self) -> T:
        if not self._values:
            self._values.append(self._compute())
        return self._values[0]

    @property
    def done(self) -> bool:
        """Whether the value was computed."""
        return bool(self._values)

    def or_default(self, default: T) -> T:
        """The value if it was computed, else `default`; computes nothing."""
        return self._values[0] if self._values else default
