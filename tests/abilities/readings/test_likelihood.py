"""Laws of readings by likelihood: bounded, monotone, fair to ties and NaN, and free of a preference for a label."""

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from audit.abilities import ABILITIES, load_ability
from audit.abilities.contract import Item, ScoredText, readings_of
from audit.abilities.data.sources import PocketSource, items
from audit.abilities.readings.likelihood import (
    LEAST,
    NATS,
    CalibratedChoices,
    Formulation,
    LabelScorer,
    OptionScorer,
    OtherPrompts,
    TextScorer,
    expectation,
)
from audit.answering.paired_answers import PairedAnswers, read_raw
from audit.verdicts.margins import Points

BAD = st.sampled_from([math.nan, -math.inf])
log_probabilities = st.floats(-60.0, 0.0)
tokens = st.lists(log_probabilities, min_size=1, max_size=12)
totals = st.floats(-80.0, 0.0)


def scored(*values: float) -> ScoredText:
    return ScoredText(tuple(f" t{k}" for k in range(len(values))), values)


def item(*gold: str, choices: int = 0, key: str = "x/0", cluster: str = "") -> Item:
    return Item(key, "x", {}, gold, cluster or key, tuple("abcdefgh"[:choices]))


# The right answer's tokens -------------------------------------------------------------------------------------------


@given(tokens)
def test_an_expectation_is_a_share(values: list[float]) -> None:
    found = expectation(scored(*values))
    assert 0 <= found <= 1
    assert expectation(scored(*[0.0] * len(values))) == 1
    assert expectation(scored(*[math.log(LEAST)] * len(values))) == pytest.approx(0, abs=1e-12)


@given(tokens, st.data())
def test_a_likelier_token_never_lowers_the_expectation(values: list[float], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(values) - 1))
    likelier = data.draw(st.floats(values[place], 0.0))
    raised = [likelier if k == place else value for k, value in enumerate(values)]
    assert expectation(scored(*raised)) >= expectation(scored(*values)) - 1e-12
    if likelier > values[place] + 0.01 and likelier > math.log(LEAST) + 0.01:  # above the bound it counts
        assert expectation(scored(*raised)) > expectation(scored(*values))


@given(tokens, st.data())
def test_no_token_costs_more_than_its_share(values: list[float], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(values) - 1))
    lost = [-1e9 if k == place else value for k, value in enumerate(values)]
    least = [math.log(LEAST) if k == place else value for k, value in enumerate(values)]
    assert expectation(scored(*lost)) == pytest.approx(expectation(scored(*least)), abs=1e-12)
    assert expectation(scored(*values)) - expectation(scored(*lost)) <= 1 / len(values) + 1e-12


@given(tokens, st.data())
def test_nan_is_as_wrong_as_possible(values: list[float], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(values)))
    broken = scored(*values[:place], math.nan, *values[place:])
    assert expectation(broken) == 0
    answer, score = TextScorer(str).read(item("a"), [broken])
    assert (answer.text, answer.value, answer.parseable, score.value) == ("", None, False, 0.0)
    assert score.beside == {NATS: math.log(LEAST)}


@pytest.mark.parametrize("impossible", [0.1, math.inf])
def test_a_probability_above_one_is_not_believed(impossible: float) -> None:
    assert expectation(scored(-1.0, impossible)) == 0


def test_without_a_token_nothing_is_expected() -> None:
    assert expectation(scored()) == 0


def test_the_answer_says_nats_and_the_least_expected_token() -> None:
    answer, score = TextScorer(str).read(item("a"), [scored(-0.5, -4.0, -1.5)])
    assert answer.parseable and answer.value == -2.0
    assert answer.text == "-2.00 nats per token; least expected 't1' (p = 0.018)"
    assert score.beside == {NATS: -2.0} and score.floor is None


def test_what_is_scored_is_the_right_answer_behind_the_prompt() -> None:
    one = item("gold")
    assert TextScorer(lambda it: it.gold[0]).continuations(one, "Say:") == (("Say:", "gold"),)


# Options -------------------------------------------------------------------------------------------------------------


@given(st.lists(totals, min_size=2, max_size=8))
def test_the_probabilities_of_the_options_sum_to_one(values: list[float]) -> None:
    options = [scored(value) for value in values]
    found = [OptionScorer().read(item(str(k), choices=len(values)), options)[1] for k in range(len(values))]
    assert math.fsum(score.value for score in found) == pytest.approx(1)
    assert {score.floor for score in found} == {1 / len(values)}
    best = max(range(len(values)), key=lambda k: found[k].value)
    assert found[best].value >= 1 / len(values) - 1e-12


@given(st.lists(totals, min_size=2, max_size=8), st.floats(-300.0, 0.0), st.data())
def test_what_all_options_share_does_not_count(values: list[float], shift: float, data: st.DataObject) -> None:
    gold = str(data.draw(st.integers(0, len(values) - 1)))
    first, second = (
        OptionScorer().read(item(gold, choices=len(values)), [scored(value + more) for value in values])[1].value
        for more in (0.0, shift)
    )
    assert first == pytest.approx(second, abs=1e-9)


@given(st.lists(totals, min_size=2, max_size=8), BAD, st.data())
def test_an_option_that_is_not_finite_makes_the_item_wrong(
    values: list[float], bad: float, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(values) - 1))
    broken = [scored(bad if k == place else value) for k, value in enumerate(values)]
    for gold in range(len(values)):
        answer, score = OptionScorer().read(item(str(gold), choices=len(values)), broken)
        assert (answer.text, answer.parseable, score.value) == ("", False, 0.0)
        assert score.floor == 1 / len(values)


@given(st.integers(2, 8), st.data())
def test_a_tie_of_options_goes_against_the_model(count: int, data: st.DataObject) -> None:
    gold = data.draw(st.integers(0, count - 1))
    answer, score = OptionScorer().read(item(str(gold), choices=count), [scored(-2.0)] * count)
    assert answer.value != str(gold) and score.beside == {"accuracy by choices": 0.0}
    assert score.value == pytest.approx(1 / count)  # the probability itself is at its floor


def test_every_option_is_scored_behind_the_prompt() -> None:
    assert OptionScorer().continuations(item("0", choices=3), "Q:") == (("Q:", "a"), ("Q:", "b"), ("Q:", "c"))


# Two labels ----------------------------------------------------------------------------------------------------------

LABELS = Formulation(lambda one: f"{one.key}:", lambda one: ("yes", "no"))


def raw_odds(odds: float) -> dict[str, object]:
    """Raw output with these log-odds of the first label."""
    return {"tokens": [["a"], ["b"]], "log_probabilities": [[odds - 40.0], [-40.0]]}


labelled = st.lists(st.tuples(st.booleans(), st.floats(-20.0, 20.0)), min_size=2, max_size=30)


def read(kind: str, positive: bool, odds: float, offset: float = 0.0):
    """The answer and the score of one item with these log-odds of "yes"."""
    first, second = (min(odds, 0.0), min(-odds, 0.0)) if math.isfinite(odds) else (odds, 0.0)
    scorer = LabelScorer("yes", LABELS, kind, offset)
    return scorer.read(item("yes" if positive else "no"), [scored(first), scored(second)])


@settings(max_examples=25)
@given(st.lists(st.tuples(st.booleans(), st.integers(-40, 40)), max_size=20), st.integers(-60, 60))
def test_a_preference_for_a_label_does_not_change_the_auc(rows: list[tuple[bool, int]], preference: int) -> None:
    """In quarters of a nat, which floats add exactly: rounding must not make or break a tie."""
    ability = next(one for one in readings_of(load_ability("sentiment")) if one.reading == "likelihood")
    both = [(True, 3), (False, -1), *rows]
    asked = [item("positive" if positive else "negative", key=str(k)) for k, (positive, _) in enumerate(both)]
    base, shifted = (
        read_raw(ability, asked, [raw_odds(0.25 * (odds + more)) for _, odds in both]) for more in (0, preference)
    )
    verdict = PairedAnswers(ability, base, (shifted,)).verdict(margin=Points(0.05), seed=0)
    above = [(one > other) + (one == other) / 2 for yes, one in both for no, other in both if yes and not no]
    assert verdict.base == pytest.approx(sum(above) / len(above))
    assert verdict.edited == pytest.approx(verdict.base) and verdict.drop == pytest.approx(0)
    assert verdict.floor == 0.5


@given(labelled)
def test_the_mean_odds_as_offset_center_them(rows: list[tuple[bool, float]]) -> None:
    offset = math.fsum(odds for _, odds in rows) / len(rows)
    centered = [read("balanced choice", positive, odds, offset)[0].value for positive, odds in rows]
    assert math.fsum(centered) / len(rows) == pytest.approx(0, abs=1e-6)
    if max(odds for _, odds in rows) - min(odds for _, odds in rows) > 1e-3:  # both labels are chosen
        assert min(centered) < 0 < max(centered)


@pytest.mark.parametrize("kind", ["choice", "balanced choice", "odds"])
@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("odds", [0.0, math.nan, -math.inf])
def test_ties_and_nan_of_labels_go_against_the_model(kind: str, positive: bool, odds: float) -> None:
    answer, score = read(kind, positive, odds)
    assert answer.parseable == math.isfinite(odds)
    if kind == "odds":
        assert score.value == (0.5 if odds == 0 else 0.0)
        assert score.beside == {"accuracy": 0.0}
        worst = -math.inf if positive else math.inf
        assert score.odds == (0.0 if odds == 0 else worst) and score.positive == positive
    else:
        assert score.value == 0.0 and answer.value in (None, 0.0)
    if kind == "balanced choice":
        assert score.counts == ((0, 1, 0, 0) if positive else (0, 0, 0, 1))


@given(st.booleans(), st.floats(-20.0, 20.0))
def test_the_likelier_label_is_the_answer(positive: bool, odds: float) -> None:
    assume(abs(odds) > 1e-6)
    right = (odds > 0) == positive
    assert read("choice", positive, odds)[1].value == right
    assert read("balanced choice", positive, odds)[1].counts == ((right, 1, 0, 0) if positive else (0, 0, right, 1))
    score = read("odds", positive, odds)[1]
    assert (score.value > 0.5) == right and score.odds == pytest.approx(odds)


@given(st.lists(st.booleans(), min_size=1, max_size=20), st.sampled_from([-3.0, 3.0]))
def test_the_balanced_accuracy_of_one_label_for_all_is_a_half(golds: list[bool], odds: float) -> None:
    ability = next(one for one in readings_of(load_ability("sentiment")) if one.reading == "calibrated")
    asked = [item("positive" if gold else "negative", key=str(k)) for k, gold in enumerate((True, False, *golds))]
    answers = read_raw(ability, asked, [raw_odds(odds) for _ in asked])
    verdict = PairedAnswers(ability, answers, (answers,)).verdict(margin=Points(0.05), seed=0)
    assert (verdict.base, verdict.floor, verdict.drop) == (pytest.approx(0.5), 0.5, 0.0)
    assert not verdict.assessable


def test_an_offset_belongs_to_the_reading_that_takes_it_out() -> None:
    calibrated = next(one for one in readings_of(load_ability("sentiment")) if one.reading == "calibrated")
    assert isinstance(calibrated, CalibratedChoices)
    moved = calibrated.with_offset(0.75)
    assert isinstance(moved.scorer, LabelScorer) and moved.scorer.offset == 0.75
    assert isinstance(calibrated.scorer, LabelScorer) and calibrated.scorer.offset == 0.0
    assert (moved.name, moved.metric, moved.reading) == (calibrated.name, calibrated.metric, "calibrated")


# Floors --------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 4), min_size=1, max_size=15))
def test_a_floor_never_uses_the_items_own_source(clusters: list[int]) -> None:
    asked = [item("a", key=f"x/{k}", cluster=str(cluster)) for k, cluster in enumerate(clusters)]
    behind = OtherPrompts(_Named(), asked)
    for one in asked:
        other = next(two for two in asked if two.key == behind.prompt(one))
        if len(set(clusters)) > 1:
            assert other.cluster != one.cluster
        elif len(asked) > 1:
            assert other.key != one.key
        assert behind.prompt(one) == OtherPrompts(_Named(), asked).prompt(one)


class _Named:
    """As much of an ability as `OtherPrompts` takes; its prompt is the key of the item."""

    name = title = data_name = metric = "x"
    protocol, reading, decoding, scorer = "standard", "likelihood", None, TextScorer(lambda one: one.gold[0])

    def prompt(self, one: Item) -> str:
        return one.key


# Every ability -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ABILITIES)
def test_every_ability_is_read_by_likelihood_last(name: str) -> None:
    several = readings_of(load_ability(name))
    assert several[-1].reading == "likelihood" and several[0].reading in ("answers", "choices")
    assert len({one.reading for one in several}) == len(several)
    assert [one.reading for one in readings_of(load_ability(name, "gu2024"))] == [load_ability(name, "gu2024").reading]
    for one in several[1:]:
        assert one.decoding is None and one.scorer is not None
        assert (one.name, one.protocol) == (name, "standard")


@pytest.mark.parametrize("name", ABILITIES)
def test_the_right_continuation_of_every_reading_is_among_those_scored(name: str) -> None:
    source = PocketSource()
    for ability in readings_of(load_ability(name)):
        for one in items(ability, source, 20, 0):
            if ability.scorer is None:
                continue
            pairs = ability.scorer.continuations(one, ability.prompt(one))
            assert all(text.strip() for _, text in pairs)
            assert name == "nli" or len({prompt for prompt, _ in pairs}) == 1  # nli averages several formulations
            if name != "reasoning":  # whose rationale is scored without GSM8K's annotations
                assert ability.gold_answer(one) in [text for _, text in pairs]
            if len(pairs) > 1:
                assert len(set(pairs)) == len(pairs)


def test_a_rationale_is_scored_without_annotations() -> None:
    ability = readings_of(load_ability("reasoning"))[-1]
    one = ability.item({"question": "How many?", "answer": "48/2 = <<48/2=24>>24\n#### 24"}, "reasoning/0")
    assert ability.scorer is not None
    ((_, text),) = ability.scorer.continuations(one, "Q")
    assert "<<" not in text and "48/2 = 24" in text and text.endswith("24")


def test_a_perfect_model_has_a_base_of_one_and_a_broken_one_the_floor_at_most() -> None:
    for name in ("sentiment", "dialogue", "open_qa"):
        ability = readings_of(load_ability(name))[-1]
        asked = items(ability, PocketSource(), 20, 0)
        assert ability.scorer is not None
        perfect, broken = [], []
        for one in asked:
            pairs = ability.scorer.continuations(one, ability.prompt(one))
            right = [text == ability.gold_answer(one) for _, text in pairs]
            perfect.append(
                {"tokens": [["a"]] * len(right), "log_probabilities": [[0.0 if r else -50.0] for r in right]}
            )
            broken.append({"tokens": [["a"]] * len(right), "log_probabilities": [[math.nan]] * len(right)})
        good, bad = read_raw(ability, asked, perfect), read_raw(ability, asked, broken)
        floors = replace(bad) if ability.scorer.measured_floor else None
        verdict = PairedAnswers(ability, good, (bad,), floors).verdict(margin=Points(0.05), seed=0)
        assert verdict.base == pytest.approx(1)
        assert verdict.edited == pytest.approx(0)
        assert verdict.outcome == "FAIL"
