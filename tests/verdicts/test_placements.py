import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.verdicts.bootstrap import contrast_of, influences, standard_error
from audit.verdicts.intervals import cluster_sums, recall_by_class_of
from audit.verdicts.placements import as_pairs, odds_of, placements


def area(odds: np.ndarray, positives: np.ndarray) -> float:
    """The AUC by counting all pairs."""
    pairs = [(x > y) + (x == y) / 2 for x in odds[positives] for y in odds[~positives]]
    return sum(pairs) / len(pairs)


def table_of(odds, positives) -> np.ndarray:
    return as_pairs(placements(np.asarray(odds, float).reshape(len(positives), -1), positives), positives)


ODDS = st.lists(
    st.tuples(st.one_of(st.integers(-3, 3), st.sampled_from([-math.inf, math.inf])), st.booleans()),
    min_size=2,
    max_size=25,
).filter(lambda rows: len({label for _, label in rows}) == 2)


@settings(max_examples=60, deadline=None)
@given(ODDS)
def test_the_score_of_the_table_is_the_share_of_pairs_ranked_right(rows):
    odds, positives = np.array([row[0] for row in rows], float), np.array([row[1] for row in rows])
    found = recall_by_class_of(table_of(odds, positives).sum(axis=0))
    assert float(found) == pytest.approx(area(odds, positives), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(ODDS)
def test_both_classes_have_the_same_mean_placement(rows):
    odds, positives = np.array([row[0] for row in rows], float), np.array([row[1] for row in rows])
    placed = placements(odds[:, None], positives)
    assert placed.min() >= 0 and placed.max() <= 1
    assert placed[positives].mean() == pytest.approx(placed[~positives].mean(), abs=1e-12)


def test_several_models_have_the_mean_of_their_areas():
    generator = np.random.default_rng(0)
    odds, positives = generator.standard_normal((40, 3)), np.arange(40) % 3 == 0
    found = recall_by_class_of(table_of(odds, positives).sum(axis=0))
    assert float(found) == pytest.approx(np.mean([area(model, positives) for model in odds.T]))


def test_the_error_is_delongs():
    """Equation 4 of DeLong et al. (1988), for the difference of two AUCs of the same items."""
    generator, n = np.random.default_rng(1), 400
    positives = generator.random(n) < 0.4
    before = positives + generator.standard_normal(n)
    after = before - 0.3 * positives + 0.5 * generator.standard_normal(n)
    moved = []  # the placements of each class, by counting
    for label in (True, False):
        ours, others = positives == label, positives != label
        above = [
            (((o[ours][:, None] > o[others]) + (o[ours][:, None] == o[others]) / 2).mean(axis=1))
            for o in (before, after)
        ]
        moved.append((above[0] - above[1]) * (1 if label else -1))
    delong = math.sqrt(sum(np.var(values, ddof=1) / len(values) for values in moved))
    contrast = contrast_of(table_of(before, positives), table_of(after, positives))
    assert float(standard_error(contrast)) == pytest.approx(delong, rel=0.003)
    centered = [(values - values.mean()) / len(values) for values in moved]
    direct = math.sqrt(sum(np.square(values).sum() for values in centered) * n / (n - 1))
    assert float(standard_error(contrast)) == pytest.approx(direct, rel=1e-12)


def test_the_influence_of_an_item_is_its_placement_above_the_area_over_its_class():
    generator = np.random.default_rng(2)
    positives, odds = np.arange(60) < 20, generator.standard_normal(60)
    odds[positives] += 1
    table, placed = table_of(odds, positives), placements(odds[:, None], positives)
    expected = (placed - area(odds, positives)) / np.where(positives, 20, 40)
    assert influences(contrast_of(table, table * [0, 1, 0, 1])) == pytest.approx(expected)


def test_the_error_of_items_that_share_a_source_is_that_of_the_sums():
    """Obuchowski (1997): the items of a cluster may be of both classes, and their covariances count."""
    generator, positives = np.random.default_rng(3), np.arange(200) % 2 == 0
    codes = np.arange(200) // 4
    odds = positives + generator.standard_normal(50)[codes] + 0.3 * generator.standard_normal(200)
    placed = placements(odds[:, None], positives)
    shares = cluster_sums((placed - area(odds, positives)) / 100, codes)
    table = cluster_sums(table_of(odds, positives), codes)
    found = standard_error(contrast_of(table, table * [0, 1, 0, 1]))
    assert float(found) == pytest.approx(math.sqrt(np.square(shares).sum() * 50 / 49), rel=1e-12)
    # An item and its opposite in the same cluster rise and fall together, which leaves the ranks as they are.
    assert float(found) < 0.85 * math.sqrt(np.square((placed - area(odds, positives)) / 100).sum())


def test_odds_that_are_not_numbers_rank_as_wrong_as_possible():
    positives = np.array([True, True, False, False])
    known, unknown, _ = odds_of([2.0, 3.0, 0.0, 1.0], [math.nan, 3.0, 0.0, math.nan], positives, 4)
    assert unknown[:, 0].tolist() == [-math.inf, 3.0, 0.0, math.inf]
    assert recall_by_class_of(table_of(known, positives).sum(axis=0)) == 1.0
    assert recall_by_class_of(table_of(unknown, positives).sum(axis=0)) == 0.25
    assert placements(unknown, positives).tolist() == [0.0, 0.5, 0.5, 0.0]


@pytest.mark.parametrize(
    ("given_odds", "message"),
    [
        (([1.0], None, None), "give base_odds, edited_odds and positives, or none"),
        ((None, None, [True]), "give base_odds, edited_odds and positives, or none"),
        (([1.0, 2.0], [1.0, 2.0], [True]), "for 2 items; give a truth value for every item"),
        (([1.0, 2.0], [1.0], [True, False]), r"odds of shape \(1,\) for 2 items"),
        (([1.0, 2.0], np.zeros((2, 0)), [True, False]), r"give \(n,\) or \(n, models\)"),
    ],
)
def test_a_callers_mistake_is_named(given_odds, message):
    with pytest.raises(ValueError, match=message):
        odds_of(*given_odds, 2)
