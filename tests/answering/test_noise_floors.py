"""The check that a margin is not below the noise floor of a calibrated model."""

import pytest

from audit.answering.noise_floors import Calibration
from audit.errors import AuditError
from audit.verdicts.margins import Points, Retained
from audit.verdicts.noise import NoiseFloor

FLOOR = NoiseFloor(n=100, flips=2, moved=0.02, floor=0.06)
MEASURED = Calibration("nli", 0.9, 0.5, "float32", "bfloat16", FLOOR)


def test_a_margin_of_the_floor_may_be_asked_for() -> None:
    assert MEASURED.require(Points(0.06)) == FLOOR
    assert MEASURED.require(Retained(0.8)) == FLOOR  # 0.08 points of the 0.4 above chance


def test_a_margin_under_the_floor_is_refused_in_a_sentence() -> None:
    with pytest.raises(AuditError) as caught:
        MEASURED.require(Points(0.01))
    assert str(caught.value) == (
        "nli: a margin of 0.01 is under the noise floor of 0.0600: the same weights changed 2 of 100 scores against "
        "themselves (0.0200 points; at most 0.0600 with 95 % confidence); ask for at least that, or calibrate again on "
        "more items."
    )


def test_a_share_is_shown_as_it_was_written_and_in_points() -> None:
    with pytest.raises(AuditError, match=r"^nli: a margin of 95% \(0\.0200\) is under the noise floor of 0\.0600"):
        MEASURED.require(Retained(0.95))


def test_a_share_of_nothing_is_left_to_the_verdict() -> None:
    nothing = Calibration("nli", 0.4, 0.5, "float32", "bfloat16", FLOOR)
    assert nothing.require(Retained(0.95)) == FLOOR
