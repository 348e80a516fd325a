import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.reports.verdict_sentences import verdict_sentence
from audit.verdicts import FAIL, INCONCLUSIVE, PASS, StoppingRule
from audit.verdicts.betting import Against, Counted, Wealth, anytime_upper, visiting_order
from audit.verdicts.margins import Retained
from audit.verdicts.sequential import EARLY_SHARE, SequentialVerdict, looks_of, stopping_rule
from audit.verdicts.verdict import judge


def run(base, edited, *, margin=0.05, floor=0.5, clusters=None, block=32, counts=(None, None)):
    """(outcome of the last look, verdict, looks taken)"""
    n = len(base)
    names = clusters or [str(k) for k in range(n)]
    rule = stopping_rule(names, block)
    sequential = SequentialVerdict(margin, floor, rule)
    order = visiting_order(names, seed=0)
    outcome, looks, visited = None, 0, []
    while sequential.further:
        wanted, items = sequential.further, []
        while len(items) < wanted and order:
            items += order.pop(0).tolist()
        first, second = (None if table is None else table[items] for table in counts)
        outcome = sequential.add(base[items], edited[items], [names[k] for k in items], first, second)
        looks, visited = looks + 1, visited + items
    assert len(visited) == len(set(visited))
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
    upper = anytime_upper(values, np.ones(len(drops)), Counted(1, len(drops), len(drops), len(drops)), alpha)
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
    assert f"After {verdict.n} of 400 items" in verdict_sentence(verdict, "0.05", 400)


def test_a_collapse_fails_within_fifteen_percent_of_the_items():
    outcome, verdict, _ = run(*answers(400, 200))
    assert outcome is verdict.outcome is FAIL
    assert verdict.n <= 0.15 * 400 + 32  # to the end of the block
    assert verdict.lower > verdict.margin


def test_what_no_look_settles_is_judged_at_the_end_with_what_is_left_of_alpha():
    base, edited = answers(400, 12)
    outcome, verdict, looks = run(base, edited)
    assert outcome is None and looks > 2 and verdict.n == 400
    full = judge(base, edited, margin=0.05, floor=0.5, alpha=0.05 * (1 - EARLY_SHARE))
    assert (verdict.outcome, verdict.lower, verdict.upper) == (full.outcome, full.lower, full.upper)
    assert "97.5 % confidence" in verdict_sentence(verdict, "0.05", 400)


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
    assert outcome is PASS and verdict.n == 200 and looks == 3  # a block, then 1/8 and 1/4
    outcome, verdict, _ = run(scores, 1 - scores, floor=0.0, counts=(counts, broken))
    assert outcome is FAIL and verdict.n == 100
    worse = np.where(np.arange(800)[:, None] % 20 == 0, broken, counts)
    outcome, verdict, looks = run(scores, scores, floor=0.0, counts=(counts, worse))
    assert outcome is None and looks == 5 and verdict.n == 800


def test_the_order_visits_whole_clusters_once_and_is_seeded():
    clusters = [f"passage {k // 3}" for k in range(100)]
    visited = visiting_order(clusters, seed=4)
    assert sorted(np.concatenate(visited).tolist()) == list(range(100))
    assert len(visited) == 34
    assert all(len({clusters[k] for k in one}) == 1 for one in visited)
    again, other = (np.concatenate(visiting_order(clusters, seed=seed)).tolist() for seed in (4, 5))
    assert np.concatenate(visited).tolist() == again != other
    assert visiting_order([], seed=0) == []


def test_one_pair_among_single_items_does_not_halve_the_bets():
    base, edited = answers(400, 0)
    alone, pair = run(base, edited)[1], run(base, edited, clusters=["pair", "pair", *map(str, range(398))])[1]
    assert alone.outcome is pair.outcome is PASS
    assert alone.n <= pair.n <= 1.1 * alone.n


def test_what_a_capped_cluster_leaves_out_is_granted_to_the_hypothesis():
    counted = Counted.of((300, 5), 0.05)
    assert (counted.cap, counted.items, counted.counted) == (1, 310, 305)
    # If the drop of all is at least 0.05 although all left out are lost, that of the others is at least this.
    assert counted.line(0.05, 1.0) == pytest.approx((0.05 * 310 - 5) / 305)
    assert Counted.of((0, 0, 100), 0.05).cap == 3  # nothing to gain by counting less
    drops = np.array([[1.0] * 5 + [0.0] * 300])  # the pairs are lost
    against = Against(0.05, 1.0, counted)
    against.bet(2 * drops[:, :5], np.full(5, 2.0))
    assert against.wealth.now < 0


def test_the_next_look_is_where_a_verdict_is_possible():
    sequential = SequentialVerdict(0.05, 0.5, StoppingRule((400,), block=32))
    assert sequential.further == 32  # a block, whatever comes
    sequential.add(np.ones(32), np.ones(32))
    wanted = sequential.further
    assert sequential.add(np.ones(wanted - 1), np.ones(wanted - 1)) is None
    assert sequential.further == 32  # the last one may cost a block
    assert sequential.add(np.ones(1), np.ones(1)) is PASS
    assert sequential.further == 0


def test_the_next_look_comes_sooner_where_harm_shows():
    harmed, unchanged = (SequentialVerdict(0.05, 0.0, StoppingRule((400,), block=8)) for _ in range(2))
    harmed.add(np.ones(16), np.arange(16) % 4 > 0)
    unchanged.add(np.ones(16), np.ones(16))
    assert harmed.further < unchanged.further <= 32  # never more than twice what was asked


def test_answers_that_settle_nothing_and_are_not_all_are_inconclusive():
    sequential = SequentialVerdict(0.05, 0.5, StoppingRule((400,), block=8))
    sequential.add(np.ones(40), np.ones(40))
    verdict = sequential.verdict()
    assert verdict.outcome is INCONCLUSIVE and verdict.more_items is None
    stopped = "After 40 of 400 items, where it was stopped, the drop of 0.000 does not settle a margin of 0.05."
    assert verdict_sentence(verdict, "0.05", 400) == stopped


def test_harm_is_tested_with_the_share_of_alpha_that_belongs_to_it():
    base, edited = answers(400, 200)
    stopped = SequentialVerdict(0.05, 0.5, StoppingRule((400,), block=8))
    bettors = Wealth(1.0)
    while stopped.further:
        place = len(stopped._base)
        some = slice(place, place + stopped.further)
        stopped.add(base[some], edited[some])
        bettors.bet(base[some] - edited[some])
    assert stopped.verdict().n < 400
    assert stopped.harm_p_value() == pytest.approx(math.exp(-bettors.highest) / EARLY_SHARE)
    whole = SequentialVerdict(0.05, 0.5, StoppingRule((100,), block=8))
    base, edited = answers(100, 6)
    whole.add(base, edited)
    assert whole.harm_p_value() == pytest.approx(0.5**6 / (1 - EARLY_SHARE))  # McNemar's, 6 lost and none gained


def test_harm_of_a_corpus_metric_is_tested_at_its_looks():
    counts, broken = np.tile([2, 0, 0], (400, 1)), np.tile([0, 1, 2], (400, 1))
    sequential = SequentialVerdict(0.05, 0.0, StoppingRule((400,), block=8))
    sequential.add(np.ones(20), np.zeros(20), None, counts[:20], broken[:20])
    assert sequential.harm_p_value() is None  # no look yet
    sequential.add(np.ones(30), np.zeros(30), None, counts[:30], broken[:30])
    assert sequential.further == 0
    assert sequential.harm_p_value() == pytest.approx(1 / 20_000 / (EARLY_SHARE * 0.1))


def test_a_look_with_too_few_clusters_leaves_its_alpha_to_the_next():
    assert looks_of(400) == [(50, 0.1), (100, 0.3), (200, 0.6)]
    assert looks_of(200) == [(50, 0.4), (100, 0.6)]
    assert looks_of(60) == []


def test_a_callers_mistake_is_named():
    sequential = SequentialVerdict(0.05, 0.5, StoppingRule((10,), block=1))
    sequential.add([1.0], [1.0], ["a"])
    with pytest.raises(ValueError, match="'a' is in two blocks"):
        sequential.add([1.0], [1.0], ["a"])
    with pytest.raises(ValueError, match="a cluster of 2 items; the largest of the stopping rule has 1"):
        sequential.add([1.0, 1.0], [1.0, 1.0], ["b", "b"])
    with pytest.raises(ValueError, match="2 base scores, 1 edited"):
        sequential.add([1.0, 1.0], [1.0])


# Likelihoods with floors, and odds -----------------------------------------------------------------------------------


def run_on_likelihoods(base, edited, floors, *, margin=None, clusters=None, block=32):
    """(verdict, the object) of scores with floors; the constructor's floor is not used."""
    names = clusters or [str(k) for k in range(len(base))]
    sequential = SequentialVerdict(margin or Retained(0.9), math.nan, stopping_rule(names, block))
    order = visiting_order(names, seed=0)
    while sequential.further:
        wanted, items = sequential.further, []
        while len(items) < wanted and order:
            items += order.pop(0).tolist()
        sequential.add(base[items], edited[items], [names[k] for k in items], floors=floors[items])
    return sequential.verdict(), sequential


def likelihoods(n: int, seed: int = 0):
    generator = np.random.default_rng(seed)
    floors = generator.uniform(0.2, 0.5, n)
    return np.minimum(1.0, floors + generator.uniform(0.1, 0.6, n)), floors


def test_likelihoods_at_their_floors_fail_early():
    base, floors = likelihoods(400)
    verdict, sequential = run_on_likelihoods(base, floors, floors)
    assert verdict.outcome is FAIL and verdict.method == "betting" and verdict.n < 100
    assert verdict.lower > verdict.margin
    assert verdict.kept == pytest.approx(0, abs=1e-12) and verdict.kept_lower is None
    assert verdict.floor == pytest.approx(floors.mean(), abs=0.03)
    assert sequential.harm_p_value() < 0.01


def test_unchanged_likelihoods_pass_early():
    base, floors = likelihoods(600)
    verdict, _ = run_on_likelihoods(base, base, floors)
    assert verdict.outcome is PASS and verdict.n < 400
    assert (verdict.kept, verdict.drop) == (1.0, 0.0)
    assert verdict.upper <= verdict.margin == pytest.approx(0.1 * (verdict.base - verdict.floor))
    points, _ = run_on_likelihoods(base, base, floors, margin=0.05)
    assert points.outcome is PASS and points.n < 200


def test_harmed_likelihoods_never_pass_early():
    for seed in range(20):
        base, floors = likelihoods(400, seed)
        edited = base - 0.12 * (base - floors)
        verdict, _ = run_on_likelihoods(base, edited, floors)
        assert verdict.outcome is not PASS


def test_likelihoods_at_the_floor_before_the_edit_are_not_bet_on():
    _, floors = likelihoods(400)
    base = np.random.default_rng(1).permutation(floors)
    verdict, _ = run_on_likelihoods(base, base, floors)
    assert verdict.outcome is INCONCLUSIVE and verdict.kept is None
    harmed, _ = run_on_likelihoods(base, np.zeros(400), floors)
    assert harmed.outcome is INCONCLUSIVE


def test_what_no_look_at_likelihoods_settles_is_judged_at_the_end():
    base, floors = likelihoods(200)
    edited = base - 0.06 * (base - floors)
    verdict, sequential = run_on_likelihoods(base, edited, floors)
    whole = judge(base, edited, margin=Retained(0.9), floor=0.0, floors=floors, alpha=0.05 * (1 - EARLY_SHARE), seed=0)
    assert verdict.n == 200 and verdict.outcome is whole.outcome
    assert (verdict.lower, verdict.kept_lower) == pytest.approx((whole.lower, whole.kept_lower), abs=1e-9)
    assert sequential.harm_p_value() is not None


def test_one_pair_among_single_likelihoods_does_not_halve_the_bets():
    base, floors = likelihoods(600)
    alone, _ = run_on_likelihoods(base, base, floors)
    pair, _ = run_on_likelihoods(base, base, floors, clusters=["pair", "pair", *map(str, range(598))])
    assert alone.outcome is pair.outcome is PASS
    assert Counted.of((598, 1), 0.0, 1.0, -0.025).cap == 1  # what a share bets on is far below 1, and below 0
    assert Counted.of((0, 300), 0.0, 1.0, -0.025).cap == 2


def run_on_odds(base, edited, positives, block=32):
    sequential, looks = SequentialVerdict(Retained(0.8), math.nan, StoppingRule((len(base),), block)), []
    scores, place = np.full(len(base), 0.5), 0
    while sequential.further:
        some = slice(place, place + sequential.further)
        place = some.stop
        odds = {"base_odds": base[some], "edited_odds": edited[some], "positives": positives[some]}
        sequential.add(scores[some], scores[some], **odds)
        looks.append(place)
    return sequential.verdict(), looks, sequential


def test_odds_are_looked_at_like_a_corpus_metric():
    generator = np.random.default_rng(0)
    positives = generator.random(800) < 0.5
    odds = 3 * positives + generator.standard_normal(800)
    random = generator.standard_normal(800)
    verdict, looks, sequential = run_on_odds(odds, np.stack([random, random], axis=1), positives)
    assert verdict.outcome is FAIL and looks == [32, 100] and verdict.n == 100
    assert verdict.lower > verdict.margin and verdict.kept < 0.5
    assert sequential.harm_p_value() < 0.05
    # The placements of a look are those among the items that it has seen.
    again = judge(
        np.zeros(100), np.zeros(100), margin=Retained(0.8), floor=0.5, alpha=0.05 * EARLY_SHARE * 0.1,
        base_odds=odds[:100], edited_odds=random[:100], positives=positives[:100],
    )  # fmt: skip
    assert (verdict.base, verdict.drop, verdict.lower) == pytest.approx((again.base, again.drop, again.lower))
    verdict, looks, _ = run_on_odds(odds, odds, positives)
    assert verdict.outcome is PASS and looks[-1] < 800 and verdict.kept == 1.0


def test_harmed_odds_do_not_pass_and_one_class_settles_nothing():
    generator = np.random.default_rng(1)
    positives = generator.random(400) < 0.5
    odds = 2 * positives + generator.standard_normal(400)
    verdict, _, _ = run_on_odds(odds, odds - 0.9 * positives, positives)
    assert verdict.outcome is not PASS
    verdict, looks, sequential = run_on_odds(odds, odds, np.ones(400, dtype=bool))
    assert verdict.outcome is INCONCLUSIVE and looks[-1] == 400
    assert sequential.harm_p_value() == 1.0


def test_floors_of_some_blocks_only_are_refused():
    sequential = SequentialVerdict(0.05, 0.5, StoppingRule((10,), block=1))
    sequential.add([1.0, 0.5], [1.0, 0.5], floors=[0.1, 0.2])
    with pytest.raises(ValueError, match="give them with every block"):
        sequential.add([1.0], [1.0])
