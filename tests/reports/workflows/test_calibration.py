"""A calibration in words: which margins may be asked for, and what the other arithmetic would change."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from audit.answering.noise_floors import Calibration
from audit.errors import AuditError
from audit.reports.workflows.calibration import (
    Calibrated,
    calibration_markdown,
    calibration_table,
    write_calibration,
)
from audit.verdicts.margins import Points, Retained
from audit.verdicts.noise import NoiseFloor
from tests.reports.html.pages import Page

QUIET, SOME, LOUD = NoiseFloor(200, 0, 0.0, 0.0149), NoiseFloor(200, 2, 0.01, 0.0287), NoiseFloor(200, 9, 0.045, 0.0761)
ONE = Calibration("nli", 0.9, 0.5, "float32", "bfloat16", QUIET, SOME)
OTHER = replace(ONE, ability="ner", batches=SOME, arithmetic=LOUD)
FOUND = Calibrated("pocket-gpt2", ("200 items", "device cpu"), (ONE, OTHER), {})


def in_half(one: Calibration) -> Calibration:
    return replace(one, dtype="bfloat16", other="float32")


def test_the_margins_that_may_be_asked_for_are_told() -> None:
    first, second = FOUND.sentences()
    assert first.startswith(
        "On pocket-gpt2 a margin of 0.029 or more is possible for every ability (ner has the highest floor;"
    )
    assert (
        "in bfloat16 instead of float32 the same weights change up to 9 of 200 scores (ner), and the floor is" in second
    )
    assert second.endswith(" 0.077.")
    alike = replace(FOUND, abilities=(ONE,)).sentences()
    assert alike[0].startswith("On pocket-gpt2 a margin of 0.015 or more is possible for every ability. An audit")
    nothing = replace(FOUND, abilities=(replace(ONE, arithmetic=QUIET),)).sentences()
    assert "in bfloat16 instead of float32 the same weights change no score, and" in nothing[1]


def test_in_half_precision_the_larger_of_both_floors_holds() -> None:
    assert OTHER.held is SOME
    assert in_half(OTHER).held is LOUD
    assert in_half(replace(OTHER, batches=LOUD, arithmetic=SOME)).held is LOUD
    assert in_half(replace(OTHER, arithmetic=None)).held is SOME
    told = replace(FOUND, abilities=(in_half(ONE), in_half(OTHER))).sentences()[1]
    assert told == "In float32 the same weights change up to 9 of 200 scores (ner); the floors include this."


def test_what_could_not_be_had_is_told() -> None:
    half = replace(in_half(ONE), arithmetic=None)
    found = replace(FOUND, abilities=(half,), unasked={"ner": "no file."}, without="it does not fit.")
    first, *_, last = found.sentences()
    assert (first, last) == ("ner was not asked: no file.", "Nothing was asked in float32: it does not fit.")


@given(st.floats(0.0001, 0.9999), st.floats(0, 1), st.floats(0, 1))
def test_no_margin_under_the_floor_gets_by_and_none_from_it_on_is_refused(
    points: float, base: float, chance: float
) -> None:
    one = replace(ONE, base=base, chance=chance)
    for margin in (Points(points), Retained(points)):
        allowed = margin.at(base, chance)
        nothing = isinstance(margin, Retained) and allowed == 0  # left to its verdict, which is INCONCLUSIVE
        if allowed >= one.held.floor or nothing:
            assert one.require(margin) is one.held
        else:
            with pytest.raises(AuditError, match=r"nli: a margin of .* is under the noise floor of 0\.0149"):
                one.require(margin)


@pytest.mark.parametrize("one", [ONE, in_half(OTHER), replace(ONE, arithmetic=None)])
def test_what_is_kept_comes_back(one: Calibration) -> None:
    assert Calibration.from_plain(json.loads(json.dumps(asdict(one)))) == one


def test_table_and_files_hold_every_ability(tmp_path: Path) -> None:
    console = Console(width=80)
    with console.capture() as shown:
        console.print(calibration_table(FOUND))
    assert shown.get().splitlines() == [
        "ability   base  items  flips by batches  flips by bfloat16  floor",
        "nli      0.900    200                 0                  2  0.015",
        "ner      0.900    200                 2                  9  0.029",
    ]
    data, text, html = write_calibration(FOUND, tmp_path / "new" / "calibrate-pocket-gpt2")
    assert json.loads(data.read_text(encoding="utf-8"))["abilities"][1]["batches"]["flips"] == 2
    assert text.read_text(encoding="utf-8") == calibration_markdown(FOUND)
    assert "| ner | 0.900 | 200 | 2 | 9 | 0.029 |" in calibration_markdown(FOUND)
    page = Page(html.read_text(encoding="utf-8"))
    assert page.wrong == [] and page.one("h1").text.startswith("Noise floor of ")
    assert [one.text for one in page.all("td")][-1] == "0.029"
    assert all(sentence in page.one("main").text for sentence in FOUND.sentences())
