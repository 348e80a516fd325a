"""Progress on a terminal leaves the screen and the cursor as they were."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from audit.reports.progress import TerminalProgress


def test_a_stage_is_shown_and_the_cursor_returns_to_where_the_line_stopped() -> None:
    stream = io.StringIO()
    with TerminalProgress(stream, column=lambda: 26).stage("reasoning, base") as done:
        done(3, 200)
    text = stream.getvalue()
    assert text.startswith("\n")
    assert "reasoning, base" in text
    assert "3/200" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert text.endswith("\x1b[1A\x1b[26C")


def test_the_time_left_is_shown_although_a_step_takes_minutes() -> None:
    now = [0.0]
    stream = io.StringIO()
    with TerminalProgress(stream, clock=lambda: now[0]).stage("rome edits") as done:
        done(500, 1000)  # taken over from an interrupted run: no measure of speed
        for step in range(1, 4):
            now[0] = 120.0 * step
            done(500 + step, 1000)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert "503/1000 16:34:00 left" in text


def test_at_the_left_edge_the_cursor_is_left_alone() -> None:
    stream = io.StringIO()
    with TerminalProgress(stream).stage("editing"):
        pass
    assert not stream.getvalue().startswith("\n")
    assert not re.search(r"\x1b\[\d+C$", stream.getvalue())


def test_capture_is_suspended_around_a_stage_also_when_it_breaks() -> None:
    log: list[str] = []

    @contextmanager
    def suspend() -> Iterator[None]:
        log.append("aside")
        try:
            yield
        finally:
            log.append("back")

    with pytest.raises(ValueError, match="no"), TerminalProgress(io.StringIO(), suspend=suspend).stage("editing"):
        raise ValueError("no")
    assert log == ["aside", "back"]


def test_without_colour_no_colour_codes() -> None:
    stream = io.StringIO()
    with TerminalProgress(stream, color=False).stage("editing") as done:
        done(1, 2)
    assert not re.search(r"\x1b\[[0-9;]*m", stream.getvalue().replace("\x1b[0m", "").replace("\x1b[1m", ""))
