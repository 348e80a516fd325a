import numpy as np
import pytest

from audit.errors import AuditError
from audit.verdicts.bootstrap import as_ratios
from audit.verdicts.intervals import resolution
from audit.verdicts.planning import (
    assumed_deviation,
    assumed_effect,
    observed_deviation,
    plan_binary,
    plan_graded,
    plan_scores,
    power_binary,
    power_graded,
    power_to_see,
    smallest_margin,
)
from tests.verdicts import simulated_scores as simulated


@pytest.mark.parametrize(
    ("n", "discordance", "expected"),
    [(1319, 0.02, 0.0097), (277, 0.10, 0.0472), (3610, 0.05, 0.0093), (872, 0.20, 0.0377)],
)
def test_the_smallest_margin_is_that_of_the_power_formula(n, discordance, expected):
    assert smallest_margin(n, discordance) == pytest.approx(expected, abs=5e-5)
    assert plan_binary(n, discordance).smallest_margin == pytest.approx(expected, rel=0.25)


def test_the_smallest_margin_is_never_below_the_resolution():
    assert smallest_margin(100, 0.0) == resolution(100)
    assert smallest_margin(400, 0.1, alpha=0.05 / 8) > smallest_margin(400, 0.1)
    assert plan_binary(100, 0.0).smallest_margin == pytest.approx(resolution(100), abs=2e-5)


@pytest.mark.parametrize(("n", "discordance"), [(100, 0.05), (277, 0.1), (1000, 0.02)])
def test_the_planned_power_of_binary_scores_is_the_simulated_one(n, discordance):
    plan = plan_binary(n, discordance)
    drops = simulated.flips(np.random.default_rng(n), 4000, n, discordance, 0.0)
    lost, gained = (drops > 0).sum(1), (drops < 0).sum(1)
    passed = simulated.score_limits(lost, gained, n, plan.smallest_margin).passed.mean()
    assert passed == pytest.approx(power_binary(n, discordance, plan.smallest_margin), abs=0.03)
    assert 0.8 <= power_binary(n, discordance, plan.smallest_margin) < 0.9

    drops = simulated.flips(np.random.default_rng(n), 4000, n, max(discordance, plan.smallest_drop), plan.smallest_drop)
    seen = simulated.score_limits((drops > 0).sum(1), (drops < 0).sum(1), n, 0.0).beyond.mean()
    assert seen == pytest.approx(power_to_see(n, discordance, plan.smallest_drop), abs=0.03)


@pytest.mark.parametrize(("n", "discordance"), [(277, 0.1), (400, 0.5)])
def test_the_planned_power_of_graded_scores_is_the_simulated_one(n, discordance):
    generator, runs = np.random.default_rng(n), 1500
    drops = (generator.random((runs, n)) < discordance) * generator.uniform(-0.3, 0.3, (runs, n))
    deviation = assumed_deviation(discordance, 0.3 / 3**0.5)
    plan = plan_graded(n, deviation, discordance=discordance)
    found = simulated.studentized_limits(simulated.mean_contrast(drops), plan.smallest_margin, resamples=999)
    assert found.passed.mean() == pytest.approx(0.8, abs=0.03 + 0.01)
    assert power_graded(n, deviation, plan.smallest_margin, discordance=discordance) == pytest.approx(0.8, abs=0.01)


def test_more_items_and_less_change_certify_smaller_margins():
    margins = [plan_binary(n, 0.1).smallest_margin for n in (100, 300, 1000)]
    assert margins == sorted(margins, reverse=True)
    assert plan_graded(300, 0.05).smallest_margin < plan_graded(300, 0.1).smallest_margin
    assert plan_graded(300, assumed_deviation(0.05, 0.3)).smallest_margin < plan_graded(300, 0.3).smallest_margin


def test_shared_sources_cost_items():
    effect = assumed_effect([4] * 100, alike=0.5)
    assert effect == 2.5
    assert plan_binary(400, 0.1, effect=effect) == plan_binary(160, 0.1)


def test_the_deviation_of_an_earlier_run_is_that_of_its_drops():
    generator = np.random.default_rng(2)
    drops = generator.standard_normal(300) / 10
    table = np.stack([0.5 + drops, np.ones(300)], axis=1)
    assert observed_deviation(table, table * [0, 1] + [0.5, 0]) == pytest.approx(drops.std(ddof=1))
    counts = as_ratios(np.tile([[2.0, 0, 1]], (40, 1)))
    assert observed_deviation(counts, counts) == 0


def test_long_sentences_weigh_more():
    assert assumed_deviation(0.1, 0.5, [1, 1, 1]) == assumed_deviation(0.1, 0.5)
    assert assumed_deviation(0.1, 0.5, [0, 0, 3]) == pytest.approx(3**0.5 * assumed_deviation(0.1, 0.5))


def test_the_plan_says_what_a_margin_can_hope_for():
    plan = plan_binary(277, 0.1)
    assert "a margin of 0.05 can be certified (smallest: 0.049)" in plan.sentence(0.05)
    assert "a margin of 0.01 is too small for this many items" in plan.sentence(0.01)
    assert plan_binary(2, 0.1).smallest_margin is not None or "smallest: none" in plan_binary(2, 0.1).sentence(0.05)


def test_what_cannot_be_planned_is_refused():
    with pytest.raises(AuditError, match="0 items cannot be planned with"):
        plan_binary(0, 0.1)
    with pytest.raises(AuditError, match="gold entities"):
        assumed_deviation(0.1, 0.5, [])


def test_any_ability_is_planned_from_what_is_known_of_its_items():
    assert plan_scores(277, 0.1, binary=True) == plan_binary(277, 0.1)
    alone, shared = (
        plan_scores(400, 0.1, binary=True, clusters=names) for names in (None, [f"{k // 4}" for k in range(400)])
    )
    assert shared.smallest_margin > alone.smallest_margin
    even, uneven = (plan_scores(300, 0.1, binary=False, corpus_weights=w) for w in ([2] * 300, [0, 1, 5] * 100))
    assert uneven.smallest_margin > even.smallest_margin
    with pytest.raises(AuditError, match="2 cluster keys to plan 3 items with"):
        plan_scores(3, 0.1, binary=True, clusters=["a", "b"])
