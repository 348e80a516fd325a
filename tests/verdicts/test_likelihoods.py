"""Verdicts on likelihoods, whose items have floors, and on the AUC of log-odds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.verdicts import FAIL, INCONCLUSIVE, PASS, bootstrap
from audit.verdicts.intervals import resolution
from audit.verdicts.margins import Points, Retained
from audit.verdicts.verdict import judge

NINETY = Retained(0.9)
ANY = math.nan  # a floor that must not be used


def readings(seed: int, n: int, height: float = 0.25, loss: float = 0.0, noise: float = 0.02):
    """(n,) base scores, edited scores and floors; the edit takes the share `loss` of every height."""
    generator = np.random.default_rng(seed)
    floors = np.clip(0.4 + 0.15 * generator.standard_normal(n), 0.1, 0.7)
    above = height * np.sqrt(np.minimum(2.0, generator.exponential(size=n)))
    edited = floors + (1 - loss) * above + noise * generator.standard_normal(n)
    return np.clip(floors + above, 0, 1), np.clip(edited, 0, 1), floors


def ranks(seed: int, n: int = 200, distance: float = 1.2, loss: float = 0.0, noise: float = 0.0):
    """(n,) base odds, edited odds and positives."""
    generator = np.random.default_rng(seed)
    positives = np.arange(n) % 2 == 0
    odds = distance * positives + generator.standard_normal(n)
    return odds, odds - loss * positives + noise * generator.standard_normal(n), positives


def by_floors(base, edited, floors, margin=NINETY, **more):
    return judge(base, edited, margin=margin, floor=ANY, floors=floors, **more)


def by_odds(base, edited, positives, margin=NINETY, scores=None, **more):
    first, second = scores or (np.full(len(positives), 0.5), np.full(len(positives), 0.5))
    return judge(
        first, second, margin=margin, floor=ANY, base_odds=base, edited_odds=edited, positives=positives, **more
    )


# Readings with floors ------------------------------------------------------------------------------------------------


def test_a_share_is_kept_item_by_item():
    base, edited, floors = readings(0, 200, loss=0.03)
    verdict = by_floors(base, edited, floors)
    assert verdict.outcome is PASS
    assert verdict.floor == pytest.approx(floors.mean())
    assert verdict.margin == pytest.approx(0.1 * (base.mean() - floors.mean()))
    assert verdict.kept == pytest.approx((edited.mean() - floors.mean()) / (base.mean() - floors.mean()))
    assert 0.9 < verdict.kept_lower < verdict.kept < verdict.kept_upper < 1
    # The limits are those of the line, moved by the estimated margin.
    line = 0.9 * base + 0.1 * floors - edited
    error = line.std(ddof=1) / 200**0.5
    assert verdict.lower - verdict.margin == pytest.approx(line.mean() - 1.6525 * error, abs=1e-3)
    upper = line.mean() + np.maximum(base - floors, 0).mean() * resolution(200)
    assert verdict.upper - verdict.margin == pytest.approx(max(upper, line.mean() + 1.6525 * error), abs=1e-3)


def test_a_model_that_lost_what_is_above_the_floor_fails():
    base, _, floors = readings(1, 100)
    verdict = by_floors(base, floors, floors)
    assert verdict.outcome is FAIL and verdict.lower > verdict.margin
    assert verdict.kept == pytest.approx(0, abs=1e-12)
    assert verdict.kept_lower < 0 <= verdict.kept_upper < 0.2


def test_a_share_of_what_is_above_the_floor_is_not_a_share_of_the_score():
    """The edited score is 95 % of the base score, and 80 % of what lies above the floor."""
    base, edited, floors = readings(2, 200, loss=0.2, noise=0.01)
    assert edited.mean() > 0.9 * base.mean()
    assert by_floors(base, edited, floors).outcome is FAIL
    assert judge(base, edited, margin=NINETY, floor=0.0).outcome is not FAIL


def test_a_base_at_its_floors_can_neither_pass_nor_fail():
    generator = np.random.default_rng(3)
    floors = generator.uniform(0.3, 0.6, 100)
    base = floors + 0.1 * generator.standard_normal(100)
    for edited in (base, base / 2):
        verdict = by_floors(base, edited, floors)
        assert verdict.outcome is INCONCLUSIVE and not verdict.assessable
        assert (verdict.kept, verdict.kept_lower, verdict.kept_upper, verdict.more_items) == (None,) * 4


def test_floors_that_go_with_the_scores_make_a_small_height_assessable():
    generator = np.random.default_rng(4)
    floors = generator.uniform(0.1, 0.9, 100)
    base = floors + generator.uniform(0, 0.08, 100)
    assert by_floors(base, base, floors).assessable
    assert not by_floors(base, base, generator.permutation(floors)).assessable


def test_points_are_a_drop_of_the_mean_whatever_the_floors():
    base, edited, floors = readings(5, 200, loss=0.1)
    verdict = by_floors(base, edited, floors, Points(0.05))
    assert (verdict.margin, verdict.outcome, verdict.harm_lower) == (0.05, PASS, None)
    assert verdict.drop == pytest.approx((base - edited).mean())
    share = by_floors(base, edited, floors)
    assert (verdict.kept, verdict.kept_lower, verdict.kept_upper) == (share.kept, share.kept_lower, share.kept_upper)
    assert verdict.lower == share.harm_lower


def test_more_items_are_advised_where_they_would_settle_it():
    few = by_floors(*readings(6, 30, loss=0.02))
    assert few.outcome is INCONCLUSIVE and few.more_items is not None
    assert by_floors(*readings(6, 30 + 4 * few.more_items, loss=0.02)).outcome is PASS


def test_items_that_share_a_source_carry_less_evidence():
    base, edited, floors = (np.repeat(values, 4) for values in readings(7, 50, loss=0.05, noise=0.05))
    alone, together = (by_floors(base, edited, floors, clusters=c) for c in (None, [str(k // 4) for k in range(200)]))
    assert together.clusters == 50
    assert together.kept == alone.kept
    assert together.kept_lower < alone.kept_lower < alone.kept_upper < together.kept_upper


SCORE = st.integers(0, 100).map(lambda k: k / 100)
TRIPLES = st.lists(st.tuples(SCORE, SCORE, SCORE), min_size=1, max_size=14)


@settings(max_examples=15, deadline=None)
@given(TRIPLES, st.randoms(use_true_random=False))
def test_the_order_of_items_does_not_matter_to_heights(triples, random):
    names = [f"c{k // 2}" for k in range(len(triples))]
    order = random.sample(range(len(triples)), len(triples))
    first = by_floors(*zip(*triples, strict=True), clusters=names)
    second = by_floors(*zip(*(triples[k] for k in order), strict=True), clusters=[names[k] for k in order])
    assert (first.base, first.edited, first.floor) == (second.base, second.edited, second.floor)
    assert (first.lower, first.upper) == pytest.approx((second.lower, second.upper), abs=1e-9)
    assert first.kept == second.kept


@settings(max_examples=15, deadline=None)
@given(TRIPLES, st.sampled_from([NINETY, Points(0.05)]))
def test_limits_hold_the_drop_and_the_share_kept(triples, margin):
    verdict = by_floors(*zip(*triples, strict=True), margin)
    assert -1 <= verdict.lower <= verdict.drop <= verdict.upper <= 1
    assert 0 <= verdict.base_lower <= verdict.base
    assert (verdict.kept is not None) == verdict.assessable
    if verdict.kept is not None:
        assert verdict.kept_lower <= verdict.kept <= verdict.kept_upper


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.02, 0.05, 0.1, 0.3]), st.integers(80, 200))
def test_an_unchanged_model_passes_where_it_can_be_assessed(seed, height, n):
    base, _, floors = readings(seed, n, height)
    verdict = by_floors(base, base, floors)
    assert verdict.kept == 1.0 and verdict.drop == 0.0
    assert verdict.assessable and verdict.outcome is PASS


# The AUC of log-odds -------------------------------------------------------------------------------------------------


def test_an_area_is_judged_above_one_half():
    base, edited, positives = ranks(0, loss=0.02, noise=0.05)
    verdict = by_odds(base, edited, positives)
    pairs = [np.mean(odds[positives][:, None] > odds[~positives]) for odds in (base, edited)]
    assert (verdict.base, verdict.edited) == pytest.approx(pairs)
    assert (verdict.floor, verdict.n, verdict.outcome) == (0.5, 200, PASS)
    assert verdict.margin == pytest.approx(0.1 * (pairs[0] - 0.5))
    assert verdict.kept == pytest.approx((pairs[1] - 0.5) / (pairs[0] - 0.5))
    assert verdict.kept_lower < verdict.kept < verdict.kept_upper


def test_a_model_that_ranks_at_random_fails():
    base, _, positives = ranks(1)
    verdict = by_odds(base, np.random.default_rng(9).standard_normal(200), positives)
    assert verdict.outcome is FAIL and verdict.lower > verdict.margin


def test_several_edited_models_count_as_their_mean():
    base, edited, positives = ranks(2, loss=0.4, noise=0.1)
    alone, with_base = by_odds(base, edited, positives), by_odds(base, np.stack([edited, base], 1), positives)
    assert with_base.drop == pytest.approx(alone.drop / 2)
    assert by_odds(base, edited[:, None], positives) == alone


def test_a_constant_shift_of_all_odds_changes_nothing():
    base, edited, positives = ranks(3, loss=0.05, noise=0.1)
    assert by_odds(base, edited + 3.25, positives) == by_odds(base, edited, positives)
    assert by_odds(base, base + 3.25, positives) == by_odds(base, base, positives)
    assert by_odds(np.exp(base), np.exp(edited), positives) == by_odds(base, edited, positives)  # nor do other scales


def test_the_scores_only_show_which_items_changed():
    base, edited, positives = ranks(4, loss=0.05)
    scores = np.full(200, 0.6), np.where(np.arange(200) < 30, 0.2, 0.6)
    verdict, plain = by_odds(base, edited, positives, scores=scores), by_odds(base, edited, positives)
    assert (verdict.right_to_wrong, verdict.wrong_to_right) == (30, 0)
    assert (verdict.base, verdict.lower, verdict.upper) == (plain.base, plain.lower, plain.upper)


@pytest.mark.parametrize("label", [True, False])
def test_one_class_is_nothing_to_assess(label):
    verdict = by_odds(np.arange(30.0), np.zeros(30), np.full(30, label))
    assert (verdict.outcome, verdict.base, verdict.assessable) == (INCONCLUSIVE, 0.5, False)
    assert (verdict.kept, verdict.more_items) == (None, None)


def test_odds_that_say_nothing_are_not_assessable():
    base, edited, positives = ranks(5, distance=0.0, noise=0.1)
    assert by_odds(base, edited, positives).outcome is INCONCLUSIVE
    assert by_odds(base, edited, positives).kept is None


def test_a_missing_number_is_the_worst_one():
    base, _, positives = ranks(6)
    edited = base.copy()
    edited[:20] = np.nan
    coded = np.where(np.isnan(edited), np.where(positives, -np.inf, np.inf), edited)
    verdict = by_odds(base, edited, positives)
    assert verdict == by_odds(base, coded, positives)
    assert verdict.outcome is FAIL
    all_wrong = by_odds(base, np.full(200, np.nan), positives)
    assert (all_wrong.edited, all_wrong.outcome) == (0.0, FAIL)


def test_perfect_ranks_that_stay_pass_from_59_items_on():
    """An unseen share of 1 - 0.05^(1/n) may rank at random, which costs twice as much as a mean would lose."""
    for n, outcome in ((58, INCONCLUSIVE), (60, PASS)):
        positives = np.arange(n) % 2 == 0
        odds = np.where(positives, 1.0, -1.0)
        verdict = by_odds(odds, odds, positives)
        assert (verdict.base, verdict.outcome) == (1.0, outcome)
        assert verdict.upper == pytest.approx(resolution(n))  # 2 (1 - 1/2)


def test_sources_with_items_of_both_classes_are_drawn_as_a_whole():
    base, edited, positives = ranks(7, loss=0.1, noise=0.3)
    names = [str(k // 4) for k in range(200)]
    verdict = by_odds(base, edited, positives, clusters=names)
    assert verdict.clusters == 50
    assert verdict.drop == by_odds(base, edited, positives).drop


LABELED = st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4), st.booleans()), min_size=1, max_size=16)


@settings(max_examples=15, deadline=None)
@given(LABELED, st.randoms(use_true_random=False))
def test_the_order_of_items_does_not_matter_to_areas(rows, random):
    names = [f"c{k // 2}" for k in range(len(rows))]
    order = random.sample(range(len(rows)), len(rows))
    first = by_odds(*zip(*rows, strict=True), clusters=names)
    second = by_odds(*zip(*(rows[k] for k in order), strict=True), clusters=[names[k] for k in order])
    assert (first.base, first.edited, first.outcome) == (second.base, second.edited, second.outcome)
    assert (first.lower, first.upper) == pytest.approx((second.lower, second.upper), abs=1e-9)
    assert -1 <= first.lower <= first.drop <= first.upper <= 1


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.8, 1.2, 3.0]), st.integers(160, 240))
def test_unchanged_odds_pass_where_they_can_be_assessed(seed, distance, n):
    """Of fewer items, the losses that a sample of n can miss may exceed a tenth of a small area."""
    base, _, positives = ranks(seed, n, distance)
    verdict = by_odds(base, base, positives)
    assert verdict.kept in (1.0, None)
    assert verdict.outcome is (PASS if verdict.assessable else INCONCLUSIVE)


# Both ----------------------------------------------------------------------------------------------------------------


def shares_of_samples(runs: int, n: int, true_loss: float) -> list:
    """Verdicts on readings that keep 1 - `true_loss` of their heights on average, some items more and some less."""
    found = []
    for run in range(runs):
        generator = np.random.default_rng([run, n])
        base, _, floors = readings(run, n, noise=0.0)
        taken = true_loss * generator.exponential(size=n)
        edited = np.clip(base - taken * (base - floors) + 0.02 * generator.standard_normal(n), 0, 1)
        found.append(by_floors(base, edited, floors, seed=run // 20))
    return found


@pytest.mark.parametrize("loss", [0.1, 0.4])
def test_the_limits_of_the_share_kept_miss_it_in_one_of_twenty_samples_each(loss, monkeypatch):
    monkeypatch.setattr(bootstrap, "RESAMPLES", 499)
    found = shares_of_samples(120, 100, loss)
    above = np.mean([verdict.kept_lower > 1 - loss for verdict in found])
    below = np.mean([verdict.kept_upper < 1 - loss for verdict in found])
    allowed = 0.05 + 3 * (0.05 * 0.95 / 120) ** 0.5
    assert above <= allowed and below <= allowed
    widths = [verdict.kept_upper - verdict.kept_lower for verdict in found]
    assert np.mean(widths) < 4 * 1.645 * np.std([verdict.kept for verdict in found])
    assert np.mean([verdict.outcome is PASS for verdict in found]) <= allowed  # at the margin, or far beyond it


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"floors": [0.1]}, "1 floors for 2 items"),
        ({"floors": [0.1, 1.2]}, "1.2 among the floor scores"),
        ({"base_odds": [1.0, 2.0]}, "give base_odds, edited_odds and positives, or none"),
        ({"floors": [0.1, 0.1], "positives": [True, False]}, "a score is of one kind"),
        ({"floors": [0.1, 0.1], "base_counts": [[1, 1]] * 2, "edited_counts": [[1, 1]] * 2}, "a score is of one kind"),
    ],
)
def test_a_callers_mistake_is_named(more, message):
    with pytest.raises(ValueError, match=message):
        judge([0.5, 0.6], [0.5, 0.6], margin=0.05, floor=0.0, **more)
