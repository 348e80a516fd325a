import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from audit.verdicts.alarm import alarms, harm_p_value, holm
from audit.verdicts.bootstrap import contrast_of, standard_error
from audit.verdicts.intervals import f1_of, recall_by_class_of
from audit.verdicts.placements import as_pairs, placements


def test_zero_one_scores_have_mcnemars_exact_p_value():
    base = np.array([1.0] * 60 + [0.0] * 40)
    edited = base.copy()
    edited[:9], edited[60:63] = 0, 1
    found = harm_p_value(base, edited)
    assert found == pytest.approx(binomtest(9, 12, alternative="greater").pvalue)
    assert 2 * found == pytest.approx(binomtest(9, 12).pvalue)  # McNemar's exact test has two sides


def test_few_changes_are_swapped_in_all_ways():
    base, edited = np.full(30, 0.5), np.full(30, 0.5)
    edited[:4] = [0.1, 0.3, 0.6, 0.2]
    drops = (base - edited)[:4]
    signs = list(itertools.product([1, -1], repeat=4))
    expected = np.mean([np.dot(sign, drops) >= drops.sum() - 1e-12 for sign in signs])
    assert harm_p_value(base, edited) == expected


def test_many_changes_agree_with_the_normal_tail():
    generator = np.random.default_rng(3)
    drops = 0.02 + 0.2 * generator.standard_normal(300)
    base = np.full(300, 0.5)
    edited = np.clip(base - drops, 0, 1)
    z = (base - edited).sum() / np.sqrt(np.square(base - edited).sum())
    assert harm_p_value(base, edited) == pytest.approx(norm.sf(z), abs=0.005)


def test_items_that_share_a_source_are_swapped_together():
    base = np.ones(40)
    edited = np.where(np.arange(40) < 8, 0.0, 1.0)
    together = [str(k // 4) for k in range(40)]  # eight losses in two passages
    assert harm_p_value(base, edited) == pytest.approx(2**-8)
    assert harm_p_value(base, edited, clusters=together) == 2**-2


def test_a_corpus_metric_is_recomputed_for_every_swap():
    base = np.tile([2.0, 0, 0], (50, 1))
    edited = base.copy()
    edited[:3] = [0, 1, 2]
    table = {"base_counts": base, "edited_counts": edited}
    assert harm_p_value(np.ones(50), np.ones(50), **table) == 1 / 8
    assert f1_of(edited.sum(axis=0)) < 1


def odds_of(n: int, seed: int):
    generator = np.random.default_rng(seed)
    positives = np.arange(n) % 2 == 0
    return 1.2 * positives + generator.standard_normal(n), positives, generator


def test_the_p_value_of_an_area_is_near_that_of_delongs_normal_test():
    base, positives, generator = odds_of(200, 4)
    edited = base - 0.15 * positives + 0.5 * generator.standard_normal(200)
    first, second = (as_pairs(placements(odds[:, None], positives), positives) for odds in (base, edited))
    contrast = contrast_of(first, second)
    drop = float(recall_by_class_of(first.sum(0)) - recall_by_class_of(second.sum(0)))
    z = drop / float(standard_error(contrast))
    found = harm_p_value(base * 0, base * 0, base_odds=base, edited_odds=edited, positives=positives)
    assert 0.01 < found < 0.5
    assert found == pytest.approx(norm.sf(z), abs=0.01)


def test_odds_without_harm_raise_the_alarm_in_at_most_five_percent_of_runs():
    raised, runs = 0, 200
    for seed in range(runs):
        shared, positives, generator = odds_of(60, seed)
        base, edited = (shared + 0.5 * generator.standard_normal(60) for _ in range(2))
        raised += harm_p_value(base * 0, base * 0, base_odds=base, edited_odds=edited, positives=positives) <= 0.05
    assert 0 < raised / runs <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5


def test_a_shift_of_the_odds_or_a_single_class_is_no_harm():
    base, positives, _ = odds_of(60, 0)
    table = {"base_odds": base, "positives": positives}
    assert harm_p_value(base * 0, base * 0, edited_odds=base + 1, **table) == 1.0
    table["positives"] = np.zeros(60, dtype=bool)
    assert harm_p_value(base * 0, base * 0, edited_odds=-base, **table) == 1.0


def test_floors_change_no_p_value():
    base = np.linspace(0.4, 0.9, 40)
    edited = base - 0.01 * np.random.default_rng(0).standard_normal(40)
    assert harm_p_value(base, edited, floors=base / 2) == harm_p_value(base, edited)


def test_no_change_and_improvement_are_no_harm():
    base = np.linspace(0, 0.9, 40)
    assert harm_p_value(base, base) == 1.0
    assert harm_p_value(base, base + 0.1) == 1.0
    assert harm_p_value(np.zeros(9), np.ones(9)) == 1.0


def test_the_alarm_is_false_in_at_most_five_percent_of_runs_without_harm():
    generator = np.random.default_rng(11)
    raised = 0
    for _ in range(300):
        change = np.where(generator.random(60) < 0.15, generator.uniform(-0.4, 0.4, 60), 0.0)
        raised += harm_p_value(np.full(60, 0.5), 0.5 - change, seed=0) <= 0.05
    assert raised / 300 <= 0.05 + 3 * (0.05 * 0.95 / 300) ** 0.5


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=7))
def test_holm_is_the_closed_test_of_bonferroni(p_values):
    """A hypothesis falls if Bonferroni's test rejects every intersection that it is part of (Marcus et al., 1976)."""
    numbers = range(len(p_values))
    adjusted = np.zeros(len(p_values))
    for size in range(1, len(p_values) + 1):
        for group in itertools.combinations(numbers, size):
            together = min(1.0, size * min(p_values[k] for k in group))
            adjusted[list(group)] = np.maximum(adjusted[list(group)], together)
    assert holm(p_values) == pytest.approx(adjusted, abs=1e-12)


def test_an_alarm_names_what_was_harmed_among_all_that_was_asked():
    found = alarms({"nli": 0.03, "ner@10": 0.001, "ner@100": 0.02})
    assert [(alarm.name, alarm.harmed) for alarm in found] == [("nli", True), ("ner@10", True), ("ner@100", True)]
    assert [alarm.adjusted for alarm in found] == pytest.approx([0.04, 0.003, 0.04])


def test_a_number_above_one_is_refused_as_a_p_value():
    with pytest.raises(ValueError, match=r"1\.2 is not a p-value"):
        holm([0.1, 1.2])
