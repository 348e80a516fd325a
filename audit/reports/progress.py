"""Progress bars while editing and answering, on a terminal only."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import KW_ONLY, dataclass
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SPEED_PERIOD = 1800.0  # seconds of history for the estimate of the time left: one step of an edit plan can take minutes

Suspend = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class TerminalProgress:
    """Shows each stage of an audit as a bar below the current line, and removes it afterwards.

        progress = TerminalProgress(sys.stderr)
        with progress.stage("reasoning, base") as done:
            done(3, 200)

    `suspend` is a context manager around each stage (to suspend pytest's output capture). `column` returns the column
    of the cursor in the current line, so that later output continues there.
    """

    stream: TextIO
    _: KW_ONLY
    suspend: Suspend = nullcontext
    column: Callable[[], int] = lambda: 0
    color: bool = True
    clock: Callable[[], float] = time.monotonic

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """Show a stage; call the yielded function with (done, total)."""
        with self.suspend():
            column = self.column()
            if column:
                self.stream.write("\n")
            console = Console(file=self.stream, force_terminal=True, no_color=not self.color, highlight=False)
            with Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("left"),
                console=console,
                speed_estimate_period=SPEED_PERIOD,
                get_time=self.clock,
                transient=True,
                refresh_per_second=4,
            ) as bars:
                task = bars.add_task(name, total=None)

                def done(count: int, total: int) -> None:
                    bars.update(task, completed=count, total=total)

                yield done
            if column:
                self.stream.write(f"\x1b[1A\x1b[{column}C")  # one line up, then to the old column
                self.stream.flush()


def on_terminal(stream: TextIO) -> TerminalProgress | None:
    """Progress bars on `stream`; None if it is not a terminal."""
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        return None
    return TerminalProgress(stream, color="NO_COLOR" not in os.environ)
