"""GRACE's codebook: every edit keeps its label, balls of different labels do not overlap, far inputs are unchanged."""

from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from audit.models.codebook import SAME_PLACE, Codebook
from audit.models.language_model import LanguageModel
from audit.models.patches import ModulePatch
from tests.models.attached import all_logits, spread_inputs

RADIUS = 1.0
ROUNDING = 1e-4
# Coarse places, so that keys often coincide, touch and lie inside each other's balls.
places = st.tuples(*[st.integers(-6, 6).map(lambda n: n / 4)] * 2).filter(any)
labels = st.sampled_from([(1,), (2,), (1, 2), (2, 1)])  # as many tokens, the same sum and mean: only sequences differ
inserts = st.lists(st.tuples(places, labels, st.sampled_from([0.25, 1.0, 2.0])), min_size=1, max_size=12)


def filled(entries: list[tuple[tuple[float, float], tuple[int, ...], float]]) -> Codebook:
    book = Codebook.empty("layer")
    for number, (place, label, radius) in enumerate(entries):
        book = book.with_entry(torch.tensor(place), torch.full((3,), float(number)), label, radius)
    return book


def label_at(book: Codebook, place: Tensor) -> tuple[int, ...] | None:
    entry = int(book.nearest_entries(place[None])[0])
    return None if entry < 0 else book.labels[entry]


@given(inserts)
def test_every_edit_key_retrieves_its_latest_label(
    entries: list[tuple[tuple[float, float], tuple[int, ...], float]],
) -> None:
    book = filled(entries)
    latest = {place: label for place, label, _ in entries}
    for place, label in latest.items():
        assert label_at(book, torch.tensor(place)) == label
    assert len(book.labels) == len(latest)


@given(inserts)
def test_balls_of_different_labels_never_overlap(
    entries: list[tuple[tuple[float, float], tuple[int, ...], float]],
) -> None:
    book = filled(entries)
    assert bool((book.radii >= 0).all())
    for i, j in combinations(range(len(book.labels)), 2):
        if book.labels[i] != book.labels[j]:
            apart = float((book.keys[i] - book.keys[j]).norm())
            assert float(book.radii[i] + book.radii[j]) <= apart + ROUNDING


@given(inserts, places)
def test_a_position_uses_the_nearest_ball_that_contains_it(
    entries: list[tuple[tuple[float, float], tuple[int, ...], float]], place: tuple[float, float]
) -> None:
    book = filled(entries)
    apart = (book.keys - torch.tensor(place)).norm(dim=-1)
    holding = [i for i in range(len(apart)) if apart[i] <= book.radii[i] - ROUNDING]
    entry = int(book.nearest_entries(torch.tensor([place]))[0])
    if holding:
        assert float(apart[entry]) <= min(float(apart[i]) for i in holding) + ROUNDING
    elif entry >= 0:
        assert float(apart[entry]) <= float(book.radii[entry]) + ROUNDING


def test_a_new_key_far_from_all_others_gets_the_full_radius() -> None:
    book = filled([((0.25, 0.0), (1,), RADIUS), ((5.0, 0.0), (2,), RADIUS)])
    assert book.radii.tolist() == [1.0, 1.0]


def test_balls_that_touch_are_split_in_the_middle() -> None:
    book = filled([((0.25, 0.0), (1,), RADIUS), ((1.25, 0.0), (2,), RADIUS)])
    assert book.radii.tolist() == [0.5, 0.5]


def test_labels_are_compared_as_sequences_not_by_their_means() -> None:
    book = filled([((0.25, 0.0), (1, 2), RADIUS), ((1.25, 0.0), (2, 1), RADIUS)])
    assert book.radii.tolist() == [0.5, 0.5]


def test_a_ball_of_the_same_label_grows_to_reach_the_new_key() -> None:
    book = filled([((0.25, 0.0), (1,), RADIUS), ((1.75, 0.0), (1,), RADIUS)])
    assert book.radii.tolist() == [1.5, 1.0]


def test_growth_ends_at_a_ball_of_another_label() -> None:
    book = filled([((0.25, 0.0), (1,), 0.5), ((1.5, 0.0), (2,), 0.5), ((0.25, 1.25), (1,), 1.0)])
    assert book.radii[0] == pytest.approx(0.75)


def test_a_repeated_edit_replaces_the_old_one() -> None:
    key = torch.tensor([3.0, 4.0])
    book = Codebook.empty("layer").with_entry(key, torch.zeros(3), (1,), RADIUS)
    book = book.with_entry(key * (1 + SAME_PLACE / 2), torch.ones(3), (2,), RADIUS)
    assert book.labels == ((2,),)
    assert book.radii.tolist() == [1.0]
    assert torch.equal(book.values, torch.ones(1, 3))


def test_inputs_that_are_not_finite_match_no_entry() -> None:
    book = filled([((0.25, 0.0), (1,), RADIUS)])
    assert book.nearest_entries(torch.tensor([[float("nan"), 0.0], [float("inf"), 0.0], [0.5, 0.0]])).tolist() == [
        -1,
        -1,
        0,
    ]


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_only_positions_inside_a_ball_are_replaced(family: str, request: pytest.FixtureRequest) -> None:
    """The key is the input at one position. Its output is the value; all other positions are bit-identical."""
    lm: LanguageModel = request.getfixturevalue(family)
    module = lm.anatomy.down_projections[1]
    inputs, before = spread_inputs(lm, module)  # (rows, columns, inner), (rows, columns, hidden)
    value = torch.linspace(-1, 1, lm.anatomy.hidden_size)
    book = Codebook.empty(module).with_entry(inputs[1, 3], value, (1,), 1e-2)
    logits = all_logits(lm)
    with ModulePatch((book,)).applied(lm):
        _, after = spread_inputs(lm, module)
        edited = all_logits(lm)
    assert torch.equal(after[1, 3], value)
    untouched = torch.ones(after.shape[:2], dtype=torch.bool)
    untouched[1, 3] = False
    assert torch.equal(after[untouched], before[untouched])
    assert torch.equal(edited[0], logits[0])
    assert torch.equal(edited[1, :3], logits[1, :3])
    assert not torch.equal(edited[1, 3:], logits[1, 3:])


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_an_empty_codebook_is_the_identity(family: str, request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    before = all_logits(lm)
    with ModulePatch((Codebook.empty(lm.anatomy.down_projections[1]),)).applied(lm):
        assert torch.equal(all_logits(lm), before)
