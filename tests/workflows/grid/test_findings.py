"""Every finding can appear, not appear, or lack its cells."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import chain

import pytest

from audit.reports.workflows.grid_cells import CellResult
from audit.reports.workflows.grid_findings import findings_markdown
from audit.workflows.grid.findings import findings, findings_by_model
from tests.workflows.grid.made_results import graded, graded_sequence, made, sequence

UP_AND_DOWN = [
    made("rome", "instance-sequential", n, {"reasoning": a, "sentiment": b}, shares={0.1: share})
    for n, a, b, share in ((1, 0.9, 0.9, 0.1), (10, 0.7, 0.6, 0.3), (100, 0.3, 0.7, 0.6))
]


def batches(editor: str, single: dict[int, float], sequential: float, instances: float) -> list[CellResult]:
    """Batches at once; ten batches of ten; ten edits one at a time."""
    return [
        *(made(editor, "batch-single", n, score) for n, score in single.items()),
        made(editor, "batch-sequential", 100, sequential, batch_size=10),
        made(editor, "instance-sequential", 10, instances),
    ]


RECT = {"": (0.5, 1.0), "rect:0.4": (0.7, 0.97), "random:0.4": (0.6, 0.5)}
APPEARING: dict[int, list[CellResult]] = {
    1: UP_AND_DOWN,
    2: sequence("kn", {1: 0.05}),
    3: [*batches("memit", {10: 0.8, 50: 0.6}, 0.3, 0.8), *batches("mend", {10: 0.8, 50: 0.7}, 0.3, 0.8)],
    4: batches("memit", {10: 0.8}, 0.3, 0.7),
    5: sequence("rome", {1: 0.9, 100: 0.5}),
    6: UP_AND_DOWN,
    7: list(chain(*(sequence("rome", {20: s}, restraint=r, efficacy=e) for r, (s, e) in RECT.items()))),
}
MISSING: dict[int, list[CellResult]] = {
    1: sequence("rome", {1: 0.9, 10: 0.7, 100: 0.5}),  # down, but smoothly
    2: sequence("kn", {1: 0.3}),
    3: [*batches("memit", {10: 0.8, 50: 0.6}, 0.3, 0.8), *batches("mend", {10: 0.7, 50: 0.8}, 0.3, 0.8)],
    4: batches("memit", {10: 0.2}, 0.3, 0.7),
    5: sequence("rome", {1: 0.9, 100: 0.5}, efficacy=0.6),
    6: sequence("rome", {1: 0.9, 100: 0.5}),  # the share stays the same
    7: list(chain(*(sequence("rome", {20: 0.5}, restraint=r, efficacy=e) for r, (_, e) in RECT.items()))),
}


def appears(results: Sequence[CellResult], number: int) -> bool | None:
    found = findings(results)[number - 1]
    assert found.number == number
    assert bool(found.figures) == (found.appears is not None)
    return found.appears


@pytest.mark.parametrize("number", range(1, 8))
def test_a_finding_appears_if_the_figures_show_it(number: int) -> None:
    assert appears(APPEARING[number], number) is True


@pytest.mark.parametrize("number", range(1, 8))
def test_a_finding_does_not_appear_if_the_figures_contradict_it(number: int) -> None:
    assert appears(MISSING[number], number) is False


@pytest.mark.parametrize("number", range(1, 8))
def test_a_finding_without_its_cells_is_not_measured(number: int) -> None:
    assert appears([made("identity", "batch-single", 5, 0.9)], number) is None


def test_rect_must_keep_the_efficacy_too() -> None:
    weak = {**RECT, "rect:0.4": (0.7, 0.9)}
    cells = list(chain(*(sequence("rome", {20: s}, restraint=r, efficacy=e) for r, (s, e) in weak.items())))
    assert appears(cells, 7) is False


def test_the_page_shows_every_model_with_its_figures() -> None:
    page = findings_markdown(findings_by_model([*APPEARING[2], *sequence("kn", {1: 0.3}, model="pocket-llama")]))
    assert "**pocket-gpt2: appears.**" in page and "**pocket-llama: does not appear.**" in page
    assert "reasoning 0.90 → 0.05" in page and "reasoning 0.90 → 0.30" in page
    assert page.count("not measured") >= 12


def test_findings_of_two_models_are_not_mixed() -> None:
    with pytest.raises(ValueError, match="one model"):
        findings([*sequence("kn", {1: 0.3}), *sequence("kn", {1: 0.3}, model="pocket-llama")])


def graded_batches(editor: str, single: dict[int, float], sequential: float, instances: float) -> list[CellResult]:
    return [
        *(graded(editor, "batch-single", n, share) for n, share in single.items()),
        graded(editor, "batch-sequential", 100, sequential, batch_size=10),
        graded(editor, "instance-sequential", 10, instances),
    ]


@cache
def wave() -> list[CellResult]:
    return [
        graded("rome", "instance-sequential", n, {"reasoning": a, "sentiment": b}, changed={0.1: share})
        for n, a, b, share in ((1, 1.0, 1.0, 0.1), (10, 0.7, 0.6, 0.3), (100, 0.3, 0.7, 0.6))
    ]


@cache
def kept() -> dict[int, list[CellResult]]:
    """Cells of which each finding appears, by its number."""
    return {
        1: wave(),
        2: graded_sequence("kn", {1: 0.05}),
        3: [
            *graded_batches("memit", {10: 0.9, 50: 0.7}, 0.3, 0.9),
            *graded_batches("mend", {10: 0.9, 50: 0.8}, 0.3, 0.9),
        ],
        4: [*graded_batches("memit", {10: 0.9}, 0.3, 0.7), *graded_batches("mend", {10: 0.9}, 0.3, 0.7)],
        5: graded_sequence("rome", {1: 1.0, 100: 0.5}),
        6: wave(),
        7: [
            *graded_sequence("rome", {20: 0.5}),
            *graded_sequence("rome", {20: 0.7}, restraint="rect:0.4", efficacy=0.95),
        ],
    }


@cache
def lost() -> dict[int, list[CellResult]]:
    """Cells of which none appears."""
    return {
        1: graded_sequence("rome", {1: 1.0, 10: 0.7, 100: 0.5}),
        2: graded_sequence("kn", {1: 0.3}),
        3: [
            *graded_batches("memit", {10: 0.9, 50: 0.7}, 0.3, 0.9),
            *graded_batches("mend", {10: 0.8, 50: 0.79}, 0.3, 0.9),
        ],
        4: [*graded_batches("memit", {10: 0.9}, 0.3, 0.7), *graded_batches("mend", {10: 0.3}, 0.3, 0.7)],
        5: graded_sequence("rome", {1: 1.0, 100: 0.93}),
        6: graded_sequence("rome", {1: 1.0, 100: 0.5}),
        7: [
            *graded_sequence("rome", {20: 0.5}),
            *graded_sequence("rome", {20: 0.7}, restraint="rect:0.4", efficacy=0.9),
        ],
    }


@pytest.mark.parametrize("number", range(1, 8))
def test_shares_decide_where_abilities_are_read_by_likelihood(number: int) -> None:
    assert appears(kept()[number], number) is True
    assert appears(lost()[number], number) is False


def test_compounding_needs_both_editors_in_shares() -> None:
    assert appears(graded_batches("memit", {10: 0.9}, 0.3, 0.7), 4) is None


def test_rect_is_judged_only_where_the_editor_does_harm() -> None:
    mild = [*graded_sequence("rome", {5: 0.97}), *graded_sequence("rome", {5: 0.97}, restraint="rect:0.4")]
    assert appears(mild, 7) is None
    assert appears([*mild, *kept()[7]], 7) is True


@pytest.mark.parametrize(("lost", "shown"), [((0.5, 0.5, 0.95), True), ((0.5, 0.95, 0.95), False)])
def test_a_finding_needs_two_of_three_seeds(lost: tuple[float, ...], shown: bool) -> None:
    cells = [cell for seed, share in enumerate(lost) for cell in graded_sequence("rome", {100: share}, seed=seed)]
    assert appears(cells, 5) is shown
    (line, *_) = findings(cells)[4].figures
    assert line.startswith("seed 0, appears: ROME, 100 edits")


def test_cells_of_another_source_and_of_other_settings_decide_nothing() -> None:
    other = [replace(one, cell=replace(one.cell, edits="zsre")) for one in graded_sequence("kn", {1: 0.0})]
    paper = [replace(one, cell=replace(one.cell, config=("mode=paper",))) for one in graded_sequence("kn", {1: 0.0})]
    page = findings_markdown(findings_by_model([*lost()[2], *lost()[5], *other, *paper]))
    assert "KN destroys the model at once. | does not appear |" in page
    assert "KN (mode=paper), one edit" in page
