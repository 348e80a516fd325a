import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.verdicts import FAIL, INCONCLUSIVE, PASS
from audit.verdicts.betting import Against, Counted, Wealth, anytime_upper, visiting_order
from audit.verdicts.margins import Retained
from audit.verdicts.outcome import SequentialPlan
from audit.verdicts.sequential import EARLY_SHARE, SequentialVerdict, looks_of, sequential_plan
from audit.verdicts.verdict import judge


def run(base, edited, *, margin=0.05, floor=0.5, clusters=None, block=32, counts=(None, None)):
    """(outcome of the last look, verdict, looks taken)"""
    n = len(base)
    names = clusters or [str(k) for k in range(n)]
    plan = sequential_plan(names, block)
    sequential = SequentialVerdict(margin, floor, plan)
    outcome, looks = None, 0
    for items in visiting_order(clusters, n, block, seed=0):
        looks += 1
        first, second = (None if table is None else table[items] for table in counts)
        outcome = sequential.add(base[items], edited[items], [names[k] for k in items], first, second)
        if outcome is not None:
            break
    return outcome, sequential.verdict(), looks


def answers(n: int, lost: int, right: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    base = (np.arange(n) < right * n).astype(float)
    edited = base.copy()
    edited[np.random.default_rng(1).permutation(int(right * n))[:lost]] = 0
    return base, edited


def test_the_wealth_is_the_mean_of_the_products():
    numbers = np.random.default_rng(0).uniform(-0.95, 1, 40)
    wealth = Wealth(0.95)
    wealth.bet(numbers[:25])
    wealth.bet(numbers[25:])
    products = [np.prod(1 + stake * numbers) for stake in 0.95 * 0.7 ** np.arange(8) / 0.95]
    shares = [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 128]
    assert float(wealth.now) == pytest.approx(math.log(np.dot(shares, products)))
    assert wealth.highest >= wealth.now


def test_runs_side_by_side_are_runs_alone():
    numbers = np.random.default_rng(0).uniform(-0.5, 0.6, (5, 30))
    together = Wealth(0.5)
    together.bet(numbers[:, :11])
    together.bet(numbers[:, 11:])
    for row in range(5):
        alone = Wealth(0.5)
        alone.bet(numbers[row])
        assert (alone.now, alone.highest) == pytest.approx((together.now[row], together.highest[row]))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40), st.floats(0.01, 0.9), st.floats(0.005, 0.2))
def test_the_anytime_limit_is_the_least_margin_that_the_bettors_refute(drops, margin, alpha):
    values = np.array(drops)
    upper = anytime_upper(values, np.ones(len(drops)), Counted(1, len(drops), len(drops)), alpha)
    wealth = Wealth(1 - margin)
    wealth.bet(margin - values)
    assert upper >= values.mean() - 1e-9
    if abs(upper - margin) > 1e-6:
        assert (wealth.now >= -math.log(alpha)) == (upper < margin)


def test_an_identical_model_passes_after_a_third_of_the_items():
    outcome, verdict, _ = run(*answers(400, 0))
    assert outcome is verdict.outcome is PASS
    assert verdict.n <= 0.4 * 400
    assert verdict.upper <= verdict.margin and verdict.drop == 0.0
    assert verdict.method == "betting"
    assert f"After {verdict.n} of 400 items" in verdict.sentence


def test_a_collapse_fails_within_fifteen_percent_of_the_items():
    outcome, verdict, _ = run(*answers(400, 200))
    assert outcome is verdict.outcome is FAIL
    assert verdict.n <= 0.15 * 400 + 32  # to the end of the block
    assert verdict.lower > verdict.margin


def test_what_no_look_settles_is_judged_at_the_end_with_what_is_left_of_alpha():
    base, edited = answers(400, 12)
    outcome, verdict, looks = run(base, edited)
    assert outcome is None and looks == 13
    full = judge(base, edited, margin=0.05, floor=0.5, alpha=0.05 * (1 - EARLY_SHARE))
    assert (verdict.outcome, verdict.lower, verdict.upper) == (full.outcome, full.lower, full.upper)
    assert "97.5 % confidence" in verdict.sentence


def test_a_base_at_its_floor_never_passes_early():
    base, edited = answers(400, 0, right=0.52)
    outcome, verdict, _ = run(base, edited, floor=0.5)
    assert (outcome, verdict.outcome) == (None, INCONCLUSIVE)


def test_clusters_are_bet_on_as_a_whole():
    base, edited = answers(400, 0)
    alone, _, _ = run(base, edited)
    outcome, verdict, _ = run(base, edited, clusters=[str(k // 2) for k in range(400)])
    assert alone is outcome is PASS
    assert verdict.clusters == verdict.n / 2
    assert verdict.n > run(base, edited)[1].n  # half as many bets


def test_a_retained_share_is_bet_on_without_an_estimated_margin():
    base, edited = answers(800, 0)
    outcome, verdict, _ = run(base, edited, margin=Retained(0.8))
    assert outcome is PASS
    assert verdict.margin == pytest.approx(0.2 * (verdict.base - 0.5))
    assert verdict.upper <= verdict.margin
    harmed = run(*answers(800, 300), margin=Retained(0.8))[1]
    assert harmed.outcome is FAIL and harmed.lower > harmed.margin and harmed.n < 150


def test_a_corpus_metric_is_looked_at_three_times():
    counts = np.tile([2, 0, 0], (800, 1))
    broken = np.tile([0, 1, 2], (800, 1))
    scores = np.ones(800)
    outcome, verdict, looks = run(scores, scores, floor=0.0, counts=(counts, counts))
    assert outcome is PASS and verdict.n >= 100 and looks * 32 == verdict.n
    outcome, verdict, _ = run(scores, 1 - scores, floor=0.0, counts=(counts, broken))
    assert outcome is FAIL and verdict.n == 128
    worse = np.where(np.arange(800)[:, None] % 20 == 0, broken, counts)
    outcome, verdict, looks = run(scores, scores, floor=0.0, counts=(counts, worse))
    assert outcome is None and looks == 25 and verdict.n == 800


def test_the_order_visits_whole_clusters_once_and_is_seeded():
    clusters = [f"passage {k // 3}" for k in range(100)]
    blocks = visiting_order(clusters, 100, 10, seed=4)
    visited = np.concatenate(blocks)
    assert sorted(visited.tolist()) == list(range(100))
    assert all(len(block) >= 10 for block in blocks[:-1])
    where = {clusters[k]: number for number, block in enumerate(blocks) for k in block}
    assert all(where[clusters[k]] == number for number, block in enumerate(blocks) for k in block)
    assert visited.tolist() == np.concatenate(visiting_order(clusters, 100, 10, seed=4)).tolist()
    assert visited.tolist() != np.concatenate(visiting_order(clusters, 100, 10, seed=5)).tolist()
    assert visiting_order(None, 0, 8, seed=0) == []


def test_a_callers_mistake_is_named():
    sequential = SequentialVerdict(0.05, 0.5, SequentialPlan((10,), block=1))
    sequential.add([1.0], [1.0], ["a"])
    with pytest.raises(ValueError, match="'a' comes in two blocks"):
        sequential.add([1.0], [1.0], ["a"])
    with pytest.raises(ValueError, match="a cluster of 2 items, larger"):
        sequential.add([1.0, 1.0], [1.0, 1.0], ["b", "b"])
    with pytest.raises(ValueError, match="2 base scores, 1 edited"):
        sequential.add([1.0, 1.0], [1.0])
