"""Smaller versions of benchmarks/verdict_error_rates.py: the false PASS rate where the drop is exactly the margin."""

import numpy as np
import pytest

from audit.verdicts import FAIL, PASS
from audit.verdicts.margins import Retained
from audit.verdicts.rehearsal import Design, rehearse
from audit.verdicts.verdict import judge
from tests.verdicts import simulated_scores as simulated

RUNS = 1500
ALLOWED = 0.05 + 3 * (0.05 * 0.95 / RUNS) ** 0.5  # three standard errors: 0.067


def generator(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("n", [60, 100, 277, 1000])
@pytest.mark.parametrize("discordance", [0.02, 0.05, 0.1, 0.2])
@pytest.mark.parametrize("part", [1.0, 0.9, 0.5])
def test_a_binary_drop_at_the_margin_passes_in_five_percent_of_all_outcomes(n, discordance, part):
    """No simulation: the probabilities of all outcomes, added up."""
    margin = part * discordance
    assert rehearse(Design(n, discordance, binary=True), drop=margin).certify(margin) <= 0.0506


def test_early_stopping_keeps_the_error_of_binary_verdicts():
    drops = simulated.flips(generator(1), RUNS, 277, 0.1, 0.05)
    early, _ = simulated.bets(drops, np.ones(277), 0.05, simulated.EARLY)
    late = simulated.score_limits((drops > 0).sum(1), (drops < 0).sum(1), 277, 0.05, simulated.LATE)
    assert 0.005 < np.mean((early | late).passed) <= ALLOWED
    assert np.mean((early | late).beyond) <= ALLOWED


def test_bets_alone_stay_below_their_alpha_and_find_harm_soon():
    drops = simulated.flips(generator(2), RUNS, 277, 0.2, 0.1)
    at_margin, _ = simulated.bets(drops, np.ones(277), 0.1, 0.05)
    assert np.mean(at_margin.passed) <= 0.05 and np.mean(at_margin.beyond) <= 0.05
    harmed = simulated.flips(generator(3), 200, 277, 0.5, 0.4)
    found, needed = simulated.bets(harmed, np.ones(277), 0.05, 0.01)
    assert found.beyond.all() and np.median(needed) <= 64


@pytest.mark.parametrize(("size", "alike"), [(2, 1.0), (5, 0.7)])
def test_shared_sources_keep_the_error_of_binary_verdicts(size, alike):
    sizes = [size] * (500 // size)
    lost, gained = simulated.clustered_flips(generator(4), RUNS, sizes, 0.1, 0.05, alike)
    items = simulated.score_limits(lost.sum(1), gained.sum(1), 500, 0.05)
    robust = simulated.clustered_limits(lost, gained, sizes, 0.05)
    assert np.mean(robust.passed) <= ALLOWED < np.mean(items.passed)
    assert not np.any(robust.passed & ~items.passed)


@pytest.mark.parametrize("shape", ["skewed", "broken"])
def test_skewed_drops_with_many_zeros_keep_the_error(shape):
    drops = simulated.graded_drops(generator(5), RUNS, 277, 0.15, 0.08, shape)
    found = simulated.studentized_limits(simulated.mean_contrast(drops), 0.08, resamples=199)
    assert 0.01 < np.mean(found.passed) <= 0.05 + 3 * (0.05 * 0.95 / 600) ** 0.5
    assert np.mean(found.beyond) <= ALLOWED


@pytest.mark.parametrize(
    ("n", "rare", "loss"), [(100, 0.03, (0.3, 1.0)), (200, 0.02, (1.0, 1.0)), (200, 0.01, (0.5, 0.5))]
)
def test_small_changes_beside_rare_losses_keep_the_error(n, rare, loss):
    drops = simulated.small_drops(generator(12, n), (RUNS, n), "normal", 0.0, rare, loss)
    found = simulated.studentized_limits(simulated.mean_contrast(drops), rare * sum(loss) / 2, resamples=199)
    assert np.mean(found.passed) <= ALLOWED


@pytest.mark.parametrize(("n", "base", "share"), [(100, 1.0, 0.021), (200, 1.0, 0.0105), (200, 1 / 3, 0.012)])
def test_losses_too_rare_for_the_sample_keep_the_error_where_all_others_lose_a_little(n, base, share):
    """Such losses stay out of the sample in more than 8 % of runs, so the limits must allow for all that they cost."""
    chance, others = generator(13, n), 0.03
    scores = np.ones((RUNS, n)) if base == 1 else chance.beta(9 * base, 9 * (1 - base), (RUNS, n))
    drops = simulated.small_drops(chance, (RUNS, n), "normal", others)
    drops = np.where(chance.random((RUNS, n)) < share, scores, drops)
    found = simulated.studentized_limits(
        simulated.mean_contrast(drops),
        others * (1 - share) + share * base,
        resamples=199,
        height=simulated.height_of(scores),
    )
    assert (1 - share) ** n > 0.08
    assert np.mean(found.passed) <= ALLOWED


def test_corpus_f1_keeps_the_error_with_and_without_looks():
    runs = 600
    counts = simulated.entity_counts(generator(6), runs, 277, 0.2, 0.1)
    contrast = simulated.f1_contrast(*counts)
    fixed = simulated.studentized_limits(contrast, 0.1, resamples=199)
    late = simulated.studentized_limits(contrast, 0.1, simulated.LATE, resamples=199)
    early = simulated.looks(contrast, 0.1, simulated.EARLY, resamples=299)
    allowed = 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5
    assert np.mean(fixed.passed) <= allowed
    assert np.mean((early | late).passed) <= allowed


def test_a_retained_share_keeps_the_error_although_its_margin_is_estimated():
    base, edited = simulated.shared_scores(generator(7), 600, 200, right=0.7, floor=0.25, share=0.9, mended=0.05)
    found = simulated.retained_limits(base, edited, floor=0.25, share=0.9, resamples=199)
    assert 0.01 < np.mean(found.passed) <= 0.05 + 3 * (0.05 * 0.95 / 600) ** 0.5


def test_the_fast_decisions_are_those_of_the_verdicts():
    runs, n, margin = 12, 150, 0.06
    drops = simulated.flips(generator(8), runs, n, 0.12, 0.04)
    base = np.where(drops == 0, 1.0, (drops > 0).astype(float))
    fast = simulated.score_limits((drops > 0).sum(1), (drops < 0).sum(1), n, margin)
    full = [judge(b, b - d, margin=margin, floor=0.0) for b, d in zip(base, drops, strict=True)]
    assert [verdict.outcome is PASS for verdict in full] == fast.passed.tolist()
    assert [verdict.lower > margin for verdict in full] == fast.beyond.tolist()

    names = [str(k // 3) for k in range(n)]
    lost, gained = ((sign * drops > 0).reshape(runs, n // 3, 3).sum(2) for sign in (1, -1))
    fast = simulated.clustered_limits(lost, gained, [3] * (n // 3), margin)
    full = [judge(b, b - d, margin=margin, floor=0.0, clusters=names) for b, d in zip(base, drops, strict=True)]
    assert [verdict.outcome is PASS for verdict in full] == fast.passed.tolist()

    # The resamples of the bootstraps differ, so near ties may; with the margin at these quantiles there are none.
    graded = simulated.graded_drops(generator(9), runs, n, 0.3, 0.04, "even")
    scores = np.full((runs, n), 0.5) + graded / 2
    for margin in (0.03, 0.04, 0.06, 0.08):
        contrast, height = simulated.mean_contrast(graded), simulated.height_of(scores)
        fast = simulated.studentized_limits(contrast, margin, resamples=9999, height=height)
        full = [judge(b, b - d, margin=margin, floor=0.0) for b, d in zip(scores, graded, strict=True)]
        assert sum((v.outcome is PASS) != f for v, f in zip(full, fast.passed, strict=True)) <= 1

    before, after = simulated.entity_counts(generator(11), runs, n, 0.2, 0.04)
    for margin in (0.02, 0.06):
        contrast, height = simulated.f1_contrast(before, after), simulated.f1_height_of(before)
        fast = simulated.studentized_limits(contrast, margin, resamples=9999, height=height)
        full = [
            judge(np.ones(n), np.ones(n), margin=margin, floor=0.0, base_counts=b, edited_counts=e)
            for b, e in zip(before, after, strict=True)
        ]
        assert sum((v.upper <= margin) != f for v, f in zip(full, fast.passed, strict=True)) <= 1
        assert sum((v.lower > margin) != f for v, f in zip(full, fast.beyond, strict=True)) <= 1

    base, edited = simulated.shared_scores(generator(10), runs, n, right=0.8, floor=0.25, share=0.9, mended=0.02)
    fast = simulated.retained_limits(base, edited, floor=0.25, share=0.9, resamples=9999)
    full = [judge(b, e, margin=Retained(0.9), floor=0.25) for b, e in zip(base, edited, strict=True)]
    assert sum((v.outcome is PASS) != f for v, f in zip(full, fast.passed, strict=True)) <= 1
    assert {verdict.outcome for verdict in full} - {PASS, FAIL}
