import numpy as np
import pytest
from scipy.stats import multinomial

from audit.verdicts.intervals import paired_limits, resolution
from audit.verdicts.rehearsal import Design, rehearse

DESIGNS = [
    Design(60, 0.1, binary=True),
    Design(100, 0.03, 0.4),
    Design(300, 0.2, 0.3, weights=(1.0, 2.0, 3.0) * 100),
    Design(90, 0.1, binary=True, clusters=tuple(str(k // 3) for k in range(90))),
    Design(90, 0.1, 0.5, clusters=tuple(str(k // 3) for k in range(90))),
]


@pytest.mark.parametrize("design", DESIGNS, ids=range(len(DESIGNS)))
def test_a_larger_margin_is_certified_more_often_and_what_is_just_too_bad_hardly_ever(design):
    unharmed, harmed = rehearse(design, runs=1000), rehearse(design, 0.05, runs=1000)
    assert unharmed.chance.sum() == pytest.approx(1, abs=1e-3)
    for runs in (unharmed, harmed):
        chances = [runs.certify(margin) for margin in np.linspace(0, 0.99, 40)]
        assert chances == sorted(chances)
        assert chances[-1] == pytest.approx(1, abs=1e-3) and chances[0] < 0.1
    assert harmed.certify(0.05) < 0.05 + 3 * (0.05 / 1000) ** 0.5
    assert unharmed.see() < 0.05 + 3 * (0.05 / 1000) ** 0.5
    assert rehearse(design, 0.2, runs=200).see() > 0.3


def test_no_margin_below_the_resolution_is_certified_and_with_no_change_all_above():
    for design in (Design(100, 0.0), Design(100, 0.0, binary=True)):
        assert rehearse(design).certify(resolution(100) - 1e-6) < 1e-12
        assert rehearse(design).certify(resolution(100) + 1e-6) == pytest.approx(1)


def test_outcomes_of_independent_items_have_their_exact_probability():
    runs = rehearse(Design(20, 0.3, binary=True), drop=0.1)
    exact = multinomial(20, [0.2, 0.1, 0.7])
    lost, gained = runs.limits.lost.ravel(), runs.limits.gained.ravel()
    there = lost + gained <= 20
    expected = exact.pmf(np.stack([lost, gained, 20 - lost - gained], axis=1)[there])
    assert runs.chance.ravel()[there] == pytest.approx(expected, abs=1e-12)
    passes = [paired_limits(a, b, 20).upper <= 0.4 for a, b in zip(lost[there], gained[there], strict=True)]
    assert runs.certify(0.4) == pytest.approx(expected[passes].sum())


def test_the_resamples_and_the_expansion_that_replaces_them_agree(monkeypatch):
    design = Design(277, 0.12, 0.3)
    resampled = []
    for many in (10, 60):
        monkeypatch.setattr("audit.verdicts.rehearsal._MANY", many)
        runs = rehearse(design, 0.01, runs=3000)
        resampled.append((runs.certify(0.02), runs.certify(0.03), runs.see()))
    assert resampled[0] == pytest.approx(resampled[1], abs=0.03)


def test_the_same_seed_rehearses_the_same_runs():
    first, again, other = (rehearse(DESIGNS[1], seed=seed, runs=100).limits.drop for seed in (3, 3, 4))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
