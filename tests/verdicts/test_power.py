import numpy as np
import pytest

from audit.errors import AuditError
from audit.verdicts.bootstrap import as_ratios
from audit.verdicts.intervals import f1_of, resolution
from audit.verdicts.power import observed_change, power_of
from audit.verdicts.rehearsal import Design, rehearse
from tests.verdicts import simulated_scores as simulated


@pytest.mark.parametrize(
    ("n", "discordance", "expected"),
    [(1319, 0.02, 0.0097), (277, 0.10, 0.0472), (3610, 0.05, 0.0093), (872, 0.20, 0.0377)],
)
def test_the_smallest_margin_is_that_of_the_power_formula(n, discordance, expected):
    assert (1.6449 + 0.8416) * (discordance / n) ** 0.5 == pytest.approx(expected, abs=5e-5)
    assert power_of(n, discordance, binary=True).smallest_margin == pytest.approx(expected, rel=0.25)


def test_the_smallest_margin_is_never_below_the_resolution():
    certain, usual = (power_of(400, 0.1, binary=True, alpha=alpha).smallest_margin for alpha in (0.05 / 8, 0.05))
    assert certain > usual
    assert power_of(100, 0.0, binary=True).smallest_margin == pytest.approx(resolution(100), abs=2e-5)


@pytest.mark.parametrize(("n", "discordance"), [(100, 0.05), (277, 0.1), (1000, 0.02)])
def test_the_planned_power_of_binary_scores_is_the_simulated_one(n, discordance):
    power, design = power_of(n, discordance, binary=True), Design(n, discordance, binary=True)
    certify = rehearse(design).certify
    drops = simulated.flips(np.random.default_rng(n), 4000, n, discordance, 0.0)
    lost, gained = (drops > 0).sum(1), (drops < 0).sum(1)
    passed = simulated.score_limits(lost, gained, n, power.smallest_margin).passed.mean()
    assert passed == pytest.approx(certify(power.smallest_margin), abs=0.03)
    assert 0.8 <= certify(power.smallest_margin) < 0.9

    drop = power.smallest_drop
    drops = simulated.flips(np.random.default_rng(n), 4000, n, max(discordance, drop), drop)
    seen = simulated.score_limits((drops > 0).sum(1), (drops < 0).sum(1), n, 0.0).beyond.mean()
    assert seen == pytest.approx(rehearse(design, drop).see(), abs=0.03)


@pytest.mark.parametrize(("n", "discordance"), [(100, 0.02), (277, 0.02), (277, 0.1), (400, 0.5)])
def test_the_power_of_graded_scores_is_kept_however_few_items_change(n, discordance):
    generator, runs = np.random.default_rng(n), 1500
    drops = (generator.random((runs, n)) < discordance) * generator.uniform(-0.3, 0.3, (runs, n))
    power = power_of(n, discordance, binary=False, change=0.3 / 3**0.5)
    found = simulated.studentized_limits(simulated.mean_contrast(drops), power.smallest_margin)
    assert found.passed.mean() == pytest.approx(0.8, abs=0.03)

    drops = simulated.leaning_drops(
        generator, runs, n, discordance, power.smallest_drop, lambda shape: generator.uniform(0, 0.3, shape)
    )
    seen = simulated.studentized_limits(simulated.mean_contrast(drops), 0.0).beyond
    assert seen.mean() == pytest.approx(0.8, abs=0.03 + 0.02)  # the drop is searched to 2 %


def test_the_power_of_a_corpus_metric_is_kept():
    generator, runs, n = np.random.default_rng(3), 1000, 277
    gold = generator.poisson(simulated.ENTITIES, n)
    before, after = simulated.entity_counts(generator, 1, 50_000, 0.05, 0.0, np.resize(gold, 50_000))
    changes = observed_change(as_ratios(before[0].astype(float)), as_ratios(after[0].astype(float)))
    power = power_of(n, len(changes) / 50_000, binary=False, change=changes, corpus_weights=gold.tolist())
    contrast = simulated.f1_contrast(*simulated.entity_counts(generator, runs, n, 0.05, 0.0, gold))
    found = simulated.studentized_limits(contrast, power.smallest_margin, together=100)
    assert found.passed.mean() == pytest.approx(0.8, abs=0.03 + 0.01)


@pytest.mark.parametrize(("n", "discordance"), [(100, 0.05), (277, 0.1)])
def test_a_drop_of_a_corpus_metric_is_not_promised_from_changes_that_lost_nothing(n, discordance):
    generator = np.random.default_rng(n)
    gold = generator.poisson(simulated.ENTITIES, n)
    before, after = simulated.entity_counts(generator, 1, 20_000, discordance, 0.0, np.resize(gold, 20_000))
    changes = observed_change(as_ratios(before[0].astype(float)), as_ratios(after[0].astype(float)))
    loss = float(f1_of(before[0].sum(axis=0).astype(float)))

    def seen_at_the_smallest_drop(loss):
        power = power_of(
            n, len(changes) / 20_000, binary=False, change=changes, corpus_weights=gold.tolist(), loss=loss
        )
        drop = power.smallest_drop
        counts = simulated.entity_counts(generator, 400, n, max(discordance, drop / 0.6), drop, gold)
        return simulated.studentized_limits(simulated.f1_contrast(*counts), 0.0, together=100).beyond.mean()

    assert seen_at_the_smallest_drop(loss) > 0.8 - 0.04  # two standard errors of 400 runs
    assert seen_at_the_smallest_drop(None) < 0.7


@pytest.mark.parametrize("size", [3, 6])
def test_the_power_of_shared_sources_is_kept(size):
    sizes, runs, alike = [size] * (300 // size), 3000, 0.25
    names = [str(k // size) for k in range(300)]
    power = power_of(300, 0.1, binary=True, clusters=names, alike=alike)
    both = simulated.clustered_flips(np.random.default_rng(size), runs, sizes, 0.1, 0.0, alike**0.5)
    assert simulated.clustered_limits(*both, sizes, power.smallest_margin).passed.mean() == pytest.approx(0.8, abs=0.03)


def test_more_items_and_less_change_certify_smaller_margins():
    margins = [power_of(n, 0.1, binary=True).smallest_margin for n in (100, 300, 1000)]
    assert margins == sorted(margins, reverse=True)
    by_change = [power_of(300, 0.05, binary=False, change=change).smallest_margin for change in (0.1, 0.4)]
    assert by_change == sorted(by_change)


def test_shared_sources_and_long_sentences_cost_items():
    names = [str(k // 4) for k in range(400)]
    margins = [power_of(400, 0.1, binary=True, clusters=names, alike=alike).smallest_margin for alike in (0, 0.5)]
    assert power_of(400, 0.1, binary=True).smallest_margin < margins[0] < margins[1]
    even, uneven = (power_of(300, 0.02, binary=False, corpus_weights=w) for w in ([2] * 300, [0, 1, 5] * 100))
    assert uneven.smallest_margin > even.smallest_margin


def test_sources_of_one_item_each_are_no_sources():
    assert power_of(277, 0.1, binary=True, clusters=[str(k) for k in range(277)]) == power_of(277, 0.1, binary=True)


def test_the_power_is_the_same_each_time_and_hardly_another_with_another_seed():
    names = [str(k // 2) for k in range(200)]
    first, again, other = (power_of(200, 0.05, binary=True, clusters=names, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert other.smallest_margin == pytest.approx(first.smallest_margin, rel=0.05)


def test_the_change_of_a_past_run_is_that_of_its_items():
    generator = np.random.default_rng(2)
    drops = np.where(generator.random(300) < 0.1, generator.standard_normal(300) / 10, 0)
    table = np.stack([0.5 + drops, np.ones(300)], axis=1)
    changes = observed_change(table, table * [0, 1] + [0.5, 0])
    assert changes == pytest.approx(np.abs(drops[drops != 0]))
    counts = as_ratios(np.tile([[2.0, 0, 1]], (40, 1)))
    assert observed_change(counts, counts) == ()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"items": 0}, "0 items; give at least one"),
        ({"discordance": 1.5}, "a discordance of 1.5; give a share from 0 to 1"),
        ({"alike": -1.0}, "a likeness of -1.0"),
        ({"change": 0.0}, "a change of 0.0 points"),
        ({"change": ()}, r"a change of \(\) points"),
        ({"clusters": ["a", "b"]}, "2 cluster keys for 3 items; give one for every item"),
        ({"loss": 1.5}, "a loss of 1.5 points"),
        ({"corpus_weights": [0, 0, 0]}, "gold entities"),
        ({"corpus_weights": [1, 1, 1], "binary": True}, "0/1 scores of a corpus metric"),
    ],
)
def test_values_out_of_range_are_refused(given, said):
    with pytest.raises(AuditError, match=said):
        power_of(**({"items": 3, "discordance": 0.1, "binary": False} | given))
