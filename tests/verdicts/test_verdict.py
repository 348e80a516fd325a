import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from audit.errors import AuditError
from audit.reports.verdict_sentences import verdict_sentence
from audit.verdicts import FAIL, INCONCLUSIVE, PASS
from audit.verdicts.intervals import paired_limits, resolution
from audit.verdicts.verdict import judge


def paired(n: int, right: int, lost: int, gained: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """0/1 scores with so many base items right, of which `lost` break, and `gained` of the others mended."""
    base = np.arange(n) < right
    edited = base.copy()
    edited[:lost] = False
    edited[right : right + gained] = True
    return base.astype(float), edited.astype(float)


def test_identical_answers_are_a_drop_of_exactly_nothing():
    verdict = judge(*paired(400, 360, 0), margin=0.05, floor=0.5)
    assert verdict.outcome is PASS
    assert verdict.drop == 0.0
    assert (verdict.right_to_wrong, verdict.wrong_to_right) == (0, 0)
    assert (verdict.method, verdict.n, verdict.clusters) == ("tango", 400, 400)
    assert verdict.upper == pytest.approx(resolution(400))


def test_identical_answers_on_few_items_certify_nothing():
    verdict = judge(*paired(40, 40, 0), margin=0.05, floor=0.5)
    assert verdict.outcome is INCONCLUSIVE
    assert verdict.drop == 0.0
    assert verdict.more_items == 19
    assert "about 19 more items would" in verdict_sentence(verdict, "0.05")
    assert judge(*paired(59, 59, 0), margin=0.05, floor=0.5).outcome is PASS
    assert judge(*paired(58, 58, 0), margin=0.05, floor=0.5).outcome is INCONCLUSIVE


def test_identical_continuous_scores_on_few_items_certify_nothing():
    scores = np.linspace(0.3, 0.9, 20)
    verdict = judge(scores, scores, margin=0.05, floor=0.1)
    assert (verdict.outcome, verdict.drop, verdict.method) == (INCONCLUSIVE, 0.0, "studentized bootstrap")
    scores = np.linspace(0.3, 0.9, 200)
    assert judge(scores, scores, margin=0.05, floor=0.1).outcome is PASS


def test_a_collapse_fails():
    verdict = judge(*paired(400, 360, 200), margin=0.05, floor=0.5)
    assert verdict.outcome is FAIL
    assert verdict.lower > verdict.margin
    assert verdict.right_to_wrong == 200
    assert "beyond the margin of 0.05" in verdict_sentence(verdict, "0.05")


def test_certain_harm_that_is_estimated_beyond_the_margin_fails():
    verdict = judge(*paired(400, 360, 26), margin=0.05, floor=0.5)
    assert 0 < verdict.lower < verdict.margin < verdict.drop
    assert verdict.outcome is FAIL
    assert "real harm" in verdict_sentence(verdict, "0.05")


def test_an_estimate_beyond_the_margin_that_may_be_chance_is_inconclusive():
    verdict = judge(*paired(60, 40, 9, 5), margin=0.05, floor=0.1)
    assert verdict.lower < 0 < verdict.margin < verdict.drop
    assert verdict.outcome is INCONCLUSIVE


def test_harm_within_the_margin_passes_and_says_so():
    verdict = judge(*paired(3600, 3000, 30), margin=0.05, floor=0.5)
    assert verdict.outcome is PASS
    assert verdict.lower > 0
    assert "detectable, but acceptable" in verdict_sentence(verdict, "0.05")


def test_an_improvement_never_fails():
    edited, base = paired(400, 360, 200)
    verdict = judge(base, edited, margin=0.0, floor=0.1)
    assert verdict.outcome is PASS
    assert verdict.drop == -0.5


@pytest.mark.parametrize("lost", [0, 100])
def test_a_base_at_the_floor_can_neither_pass_nor_fail(lost):
    # 54 % right where the majority class has 52 %: identical answers prove nothing, and a loss has nothing to lose.
    verdict = judge(*paired(400, 216, lost), margin=0.05, floor=0.52)
    assert verdict.outcome is INCONCLUSIVE
    assert verdict.more_items is None
    assert "not clearly above the floor of 0.520" in verdict_sentence(verdict, "0.05")
    assert ("although it fell by 0.250" in verdict_sentence(verdict, "0.05")) == bool(lost)


def test_the_advice_holds():
    few = judge(*paired(100, 90, 2), margin=0.05, floor=0.5)
    assert few.outcome is INCONCLUSIVE
    assert few.more_items is not None
    total = 100 + few.more_items
    assert paired_limits(0.02 * total, 0, total).upper <= 0.05
    assert paired_limits(0.02 * (total - 2), 0, total - 2).upper > 0.05


def test_no_number_of_items_settles_a_drop_at_the_margin():
    verdict = judge(*paired(100, 90, 5), margin=0.05, floor=0.5)
    assert (verdict.outcome, verdict.more_items) == (INCONCLUSIVE, None)
    assert "no affordable number of items" in verdict_sentence(verdict, "0.05")


@pytest.mark.parametrize("lost", [0, 3, 20])
def test_the_certified_margin_is_the_smallest_that_passes(lost):
    scores = paired(300, 250, lost)
    margin = judge(*scores, margin=0.01, floor=0.5).upper
    assert judge(*scores, margin=margin, floor=0.5).outcome is PASS
    assert judge(*scores, margin=margin - 1e-6, floor=0.5).outcome is not PASS


def test_items_of_one_source_carry_less_evidence():
    base, edited = paired(200, 200, 12)
    together = [str(index // 4) for index in range(200)]  # the twelve losses lie in three passages
    apart, grouped = (judge(base, edited, margin=0.11, floor=0.5, clusters=clusters) for clusters in (None, together))
    assert (apart.method, grouped.method) == ("tango", "clustered tango")
    assert (apart.clusters, grouped.clusters, grouped.n) == (200, 50, 200)
    assert (apart.outcome, grouped.outcome) == (PASS, INCONCLUSIVE)
    assert grouped.base_lower is not None and apart.base_lower is not None
    assert grouped.base_lower < apart.base_lower
    assert grouped.drop == apart.drop == 0.06


def test_a_shared_source_never_makes_the_interval_narrower():
    base, edited = paired(200, 180, 1)
    pairs = ["same", "same", *map(str, range(198))]
    alone = judge(base, edited, margin=0.05, floor=0.5)
    paired_up = judge(base, edited, margin=0.05, floor=0.5, clusters=pairs)
    assert paired_up.lower <= alone.lower
    assert paired_up.upper >= alone.upper


def test_singleton_clusters_are_no_clusters():
    scores = paired(100, 80, 3)
    alone = judge(*scores, margin=0.05, floor=0.5)
    assert judge(*scores, margin=0.05, floor=0.5, clusters=[f"k{index}" for index in range(100)]) == alone


def test_recall_by_class_comes_from_pairs_of_counts():
    base_counts = np.array([[1, 1, 0, 0], [0, 0, 1, 1]] * 100)
    edited_counts = base_counts.copy()
    edited_counts[1::2, 2] = 0  # one of the two classes is never found any more
    clusters = [str(k // 2) for k in range(200)]
    values = base_counts[:, ::2].sum(axis=1), edited_counts[:, ::2].sum(axis=1)
    verdict = judge(
        *values, margin=0.05, floor=0.0, clusters=clusters, base_counts=base_counts, edited_counts=edited_counts
    )
    assert (verdict.base, verdict.edited, verdict.drop) == (1.0, 0.5, 0.5)
    assert (verdict.outcome, verdict.clusters, verdict.right_to_wrong) == ("FAIL", 100, 100)


def test_corpus_f1_comes_from_the_counts():
    base_counts = np.tile([2, 0, 0], (300, 1))
    edited_counts = base_counts.copy()
    edited_counts[:150] = [1, 1, 1]
    values = np.ones(300), np.where(np.arange(300) < 150, 0.5, 1.0)
    verdict = judge(*values, margin=0.05, floor=0.0, base_counts=base_counts, edited_counts=edited_counts)
    assert verdict.base == 1.0
    assert verdict.edited == pytest.approx(2 * 450 / (2 * 450 + 150 + 150))
    assert verdict.outcome is FAIL
    assert verdict.right_to_wrong == 150


def test_an_f1_is_not_the_mean_of_sentence_f1s():
    counts = np.array([[9, 1, 0]] * 100 + [[0, 0, 0]] * 100)
    verdict = judge(np.ones(200), np.ones(200), margin=0.05, floor=0.0, base_counts=counts, edited_counts=counts)
    assert verdict.base == pytest.approx(18 / 19)
    assert (verdict.drop, verdict.outcome) == (0.0, PASS)


@pytest.mark.parametrize("margin", [-0.01, 1.0, 5, float("nan")])
def test_a_margin_out_of_range_is_refused(margin):
    with pytest.raises(AuditError, match=r"margin of .* is out of range"):
        judge([1.0], [1.0], margin=margin, floor=0.0)


def test_no_items_are_refused():
    with pytest.raises(AuditError, match="at least one item"):
        judge([], [], margin=0.05, floor=0.0)


@pytest.mark.parametrize(
    ("base", "edited", "more", "message"),
    [
        ([1.0], [1.0, 0.0], {}, "same items"),
        ([1.0], [float("nan")], {}, "nan among the edited"),
        ([1.5], [1.0], {}, "1.5 among the base"),
        ([1.0], [1.0], {"clusters": ["a", "b"]}, "2 cluster keys"),
        ([1.0], [1.0], {"base_counts": [[1, 0, 0]]}, "only one model"),
        ([1.0], [1.0], {"base_counts": [[1] * 5], "edited_counts": [[1] * 5]}, r"give \(n, 3\)"),
        ([1.0], [1.0], {"base_counts": [[1, 0, 0]], "edited_counts": [[1, 0, -1]]}, "none negative"),
        ([1.0], [1.0], {"base_counts": [[1, 0, 0]], "edited_counts": [[1, 1]]}, "count the same in both"),
    ],
)
def test_a_callers_mistake_is_named(base, edited, more, message):
    with pytest.raises(ValueError, match=message):
        judge(base, edited, margin=0.05, floor=0.0, **more)


BINARY = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])), min_size=1, max_size=30)
GRADED = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=15)
ANY = st.one_of(BINARY, GRADED)
RANK = {FAIL: 0, INCONCLUSIVE: 1, PASS: 2}


def verdict_of(pairs, margin=0.05, clusters=None):
    base, edited = zip(*pairs, strict=True)
    return judge(base, edited, margin=margin, floor=0.0, clusters=clusters)


@settings(max_examples=25, deadline=None)
@given(ANY)
def test_limits_hold_the_drop_and_their_bounds(pairs):
    verdict = verdict_of(pairs)
    assert -1 <= verdict.lower <= verdict.drop <= verdict.upper <= 1
    assert 0 <= verdict.base_lower <= verdict.base <= 1
    assert verdict.right_to_wrong + verdict.wrong_to_right <= verdict.n


@settings(max_examples=15, deadline=None)
@given(ANY, st.integers(1, 4))
def test_swapping_the_models_mirrors_the_drop(pairs, size):
    clusters = [str(index // size) for index in range(len(pairs))]
    there = verdict_of(pairs, clusters=clusters)
    back = verdict_of([pair[::-1] for pair in pairs], clusters=clusters)
    assert back.drop == -there.drop
    assert (back.lower, back.upper) == pytest.approx((-there.upper, -there.lower), abs=1e-9)
    assert (back.right_to_wrong, back.wrong_to_right) == (there.wrong_to_right, there.right_to_wrong)


@settings(max_examples=15, deadline=None)
@given(ANY, st.randoms(use_true_random=False))
def test_the_order_of_items_does_not_matter(pairs, random):
    order = random.sample(range(len(pairs)), len(pairs))
    clusters = [f"c{index // 2}" for index in range(len(pairs))]
    first = verdict_of(pairs, clusters=clusters)
    second = verdict_of([pairs[place] for place in order], clusters=[clusters[place] for place in order])
    assert (first.base, first.drop, first.outcome) == (second.base, second.drop, second.outcome)
    assert (first.lower, first.upper) == pytest.approx((second.lower, second.upper), abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(ANY, st.floats(0, 0.99), st.floats(0, 0.99))
def test_a_wider_margin_is_never_stricter(pairs, one, other):
    assume(one != other)
    strict, lenient = (verdict_of(pairs, margin) for margin in sorted((one, other)))
    assert RANK[strict.outcome] <= RANK[lenient.outcome]


@settings(max_examples=15, deadline=None)
@given(ANY)
def test_the_same_scores_give_the_same_verdict(pairs):
    assert verdict_of(pairs) == verdict_of(pairs)
