"""Edit scores by likelihood: changes in nats per token, and the preference for the new answer over the old one."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from audit.edits.requests import EditRequest, Probe
from audit.measures.edit_probes import (
    NEIGHBORHOOD,
    PARAPHRASE,
    REWRITE,
    EditProbe,
    EditReply,
    ask_edits,
    edit_probes,
)
from audit.measures.edit_success import EditScores, measure_edits, score_edits
from audit.measures.rates import LIKELIHOOD, NATS_PER_TOKEN, Difference, difference_by_request
from audit.models.patches import DenseDelta, WeightPatch, identity_patch
from audit.models.tokens import join
from audit.reports.run_rows import edit_score_rows
from tests.measures.test_edit_success import BARE, VELDEN, learned
from tests.tiny_models import CONTEXT_LENGTH, build_tiny_llama

if TYPE_CHECKING:
    from audit.models.language_model import LanguageModel

values = st.floats(-50, 50)


def per_token(lm: "LanguageModel", prompt: str, answer: str) -> float:
    """The mean log-probability of the answer's tokens, by one plain call of the model."""
    joined = join(lm.tokenizer, prompt, answer)
    with torch.no_grad():
        logits = lm.model(input_ids=torch.tensor([joined.ids])).logits[0]  # (time, vocabulary)
    start, targets = joined.prompt_length, torch.tensor(joined.target_ids)
    found = logits[start - 1 : -1].log_softmax(-1).gather(1, targets[:, None])  # (answer, 1)
    return float(found.mean())


def measured(score: Difference | None) -> Difference:
    assert score is not None
    return score


def by_likelihood(scores: EditScores) -> list[float]:
    """All values of the measures by likelihood."""
    rows = [row for row in edit_score_rows(scores) if row.protocol in (LIKELIHOOD, NATS_PER_TOKEN)]
    return [math.nan if row.value is None else row.value for row in rows]


@given(st.lists(values, min_size=2, max_size=40))
def test_limits_agree_with_scipy(found: list[float]) -> None:
    difference = measured(difference_by_request((str(place), value) for place, value in enumerate(found)))
    assert difference.value == pytest.approx(sum(found) / len(found), abs=1e-9)
    error = float(stats.sem(found))
    half = float(stats.t.ppf(0.975, len(found) - 1)) * error
    assert difference.lower == pytest.approx(difference.value - half, abs=1e-7)
    assert difference.upper == pytest.approx(difference.value + half, abs=1e-7)


@given(st.lists(st.tuples(st.sampled_from("abc"), values), min_size=1))
def test_a_difference_turns_with_its_sign(found: list[tuple[str, float]]) -> None:
    one, other = (measured(difference_by_request((q, sign * x) for q, x in found)) for sign in (1, -1))
    assert (other.value, other.n, other.probes) == (-one.value, one.n, one.probes)
    if one.n < 2:
        assert (one.lower, one.upper) == (None, None)
    else:
        assert one.lower is not None and other.upper is not None
        assert other.upper == pytest.approx(-one.lower)


def test_requests_weigh_the_same_however_many_probes_they_have() -> None:
    found = measured(difference_by_request([("a", 4.0), ("b", 0.0), ("b", -1.0), ("b", -2.0)]))
    assert (found.value, found.n, found.probes) == (1.5, 2, 4)
    assert difference_by_request([]) is None


def test_one_request_has_no_interval_and_a_broken_model_no_value() -> None:
    assert str(measured(difference_by_request([("a", 1.0), ("a", 2.0)]))) == "+1.500, n = 1"
    broken = measured(difference_by_request([("a", 1.0), ("b", math.nan)]))
    assert math.isnan(broken.value)
    assert (broken.lower, broken.upper, broken.n) == (None, None, 2)
    assert str(measured(difference_by_request([("a", -1e-9), ("b", -1e-9)]))).startswith("+0.000 [+0.000, +0.000]")


def test_the_rival_is_the_old_answer_and_for_neighbors_the_new_one() -> None:
    rivals = {(q.kind, q.rival) for q in edit_probes([VELDEN], kinds=(REWRITE, PARAPHRASE, NEIGHBORHOOD))}
    assert rivals == {(REWRITE, "Marl"), (PARAPHRASE, "Marl"), (NEIGHBORHOOD, "Orsk")}
    assert {q.rival for q in edit_probes([replace(VELDEN, target_true=None)])} == {None}
    same = replace(VELDEN, neighborhood=(Probe("Tarn is ruled from", "Tarn", ("the Orsk",)),))
    assert [q.rival for q in edit_probes([same], kinds=(NEIGHBORHOOD,))] == [None]


def test_replies_have_the_mean_log_probability_of_both_answers(tiny_llama: "LanguageModel") -> None:
    probes = edit_probes([VELDEN, BARE])
    for asked, said in ask_edits(tiny_llama, probes).items():
        assert said.log_probability == pytest.approx(per_token(tiny_llama, asked.prompt, asked.answer), abs=1e-4)
        if asked.rival is None:
            assert said.rival_log_probability is None
        else:
            expected = per_token(tiny_llama, asked.prompt, asked.rival)
            assert said.rival_log_probability == pytest.approx(expected, abs=1e-4)


def test_rivals_change_no_other_number(tiny_llama: "LanguageModel") -> None:
    probes = edit_probes([VELDEN, BARE])
    alone = ask_edits(tiny_llama, [replace(one, rival=None) for one in probes])
    for asked, said in ask_edits(tiny_llama, probes).items():
        assert replace(said, rival_log_probability=None) == alone[replace(asked, rival=None)]


def test_a_learned_fact_is_more_expected_than_before() -> None:
    lm = build_tiny_llama()
    patch = learned(lm, VELDEN.filled_prompt, "Orsk")
    before, old = (per_token(lm, VELDEN.filled_prompt, answer) for answer in ("Orsk", "Marl"))
    scores = measure_edits(lm, patch, [VELDEN, BARE])
    with patch.applied(lm):
        after, left = (per_token(lm, VELDEN.filled_prompt, answer) for answer in ("Orsk", "Marl"))
        other = per_token(lm, BARE.filled_prompt, "piano")
    expected = (after - before + other - per_token(lm, BARE.filled_prompt, "piano")) / 2
    assert after > before + 1
    assert measured(scores.efficacy_change).value == pytest.approx(expected, abs=1e-4)
    assert scores.efficacy_preference is not None and scores.efficacy_preference.value >= 0.5
    alone = measure_edits(lm, patch, [VELDEN])
    assert measured(alone.efficacy_magnitude).value == pytest.approx(math.exp(after) - math.exp(left), abs=1e-4)
    assert alone.efficacy_preference is not None
    assert alone.efficacy_preference.value == float(after > left)
    assert math.exp(before) - math.exp(old) < measured(alone.efficacy_magnitude).value
    assert alone.generalization_preference is not None and alone.generalization_preference.probes == 2


def test_a_model_that_forgets_its_neighbors_has_a_negative_change() -> None:
    lm = build_tiny_llama()
    probes = edit_probes([VELDEN])
    with learned(lm, "The capital of Tarn is", "New Marl").applied(lm):
        knowing = ask_edits(lm, probes)
    forgetful = ask_edits(lm, probes)
    lost, gained = score_edits(knowing, forgetful), score_edits(forgetful, knowing)
    assert measured(lost.locality_change).value < -1
    assert measured(gained.locality_change).value == -measured(lost.locality_change).value
    assert gained.neighborhood_preference is not None and gained.neighborhood_preference.value == 1
    assert measured(gained.neighborhood_magnitude).value > measured(lost.neighborhood_magnitude).value


def test_an_identity_patch_changes_no_likelihood(tiny_llama: "LanguageModel") -> None:
    scores = measure_edits(tiny_llama, identity_patch(), [VELDEN, BARE])
    changes = (scores.efficacy_change, scores.generalization_change, scores.locality_change)
    assert [(one.value, one.n) for one in map(measured, changes)] == [(0.0, 2), (0.0, 1), (0.0, 1)]


def test_logits_that_are_not_finite_give_no_value_and_no_preference() -> None:
    lm = build_tiny_llama()
    shape = lm.model.get_parameter("lm_head.weight").shape
    scores = measure_edits(lm, WeightPatch({"lm_head.weight": DenseDelta(torch.full(shape, math.nan))}), [VELDEN, BARE])
    rows = {(row.measure, row.protocol): row for row in edit_score_rows(scores)}
    assert (rows["efficacy", NATS_PER_TOKEN].value, rows["efficacy", NATS_PER_TOKEN].n) == (None, 2)
    assert rows["efficacy, magnitude", LIKELIHOOD].value is None
    assert rows["efficacy", LIKELIHOOD].value == 0.0


def test_a_rival_that_does_not_fit_is_left_out(tiny_llama: "LanguageModel") -> None:
    long = replace(VELDEN, target_true="Marl " * CONTEXT_LENGTH, neighborhood=())
    scores = measure_edits(tiny_llama, identity_patch(), [long])
    assert (scores.efficacy_preference, scores.efficacy_magnitude, scores.generalization_preference) == (None,) * 3
    assert measured(scores.efficacy_change).value == 0.0


def test_requests_without_an_old_answer_have_changes_alone(tiny_llama: "LanguageModel") -> None:
    request = EditRequest("velden", "Velden", "The capital of {} is", "Orsk")
    rows = edit_score_rows(measure_edits(tiny_llama, identity_patch(), [request]))
    found = [(row.measure, row.protocol) for row in rows if row.protocol.startswith(LIKELIHOOD)]
    assert found == [("efficacy", NATS_PER_TOKEN)]


def test_only_probes_that_the_base_model_was_asked_have_a_change() -> None:
    asked, new = EditProbe("a", REWRITE, "?", "Orsk"), EditReply(" Orsk", (1,), (True,), -0.5)
    assert score_edits({}, {asked: new}).efficacy_change is None
    old = EditReply(" Marl", (2,), (False,), -3.0)
    assert measured(score_edits({asked: old}, {asked: new}).efficacy_change).value == 2.5


@given(st.lists(st.tuples(values, values), min_size=1, max_size=6))
def test_preference_counts_leads_and_the_magnitude_is_their_mean(pairs: Sequence[tuple[float, float]]) -> None:
    replies = {
        EditProbe(str(place), REWRITE, "?", "Orsk", rival="Marl"): EditReply("", (1,), (True,), -abs(new), -abs(old))
        for place, (new, old) in enumerate(pairs)
    }
    scores = score_edits({}, replies)
    assert scores.efficacy_preference is not None
    leads = [math.exp(-abs(new)) - math.exp(-abs(old)) for new, old in pairs]
    assert scores.efficacy_preference.value == pytest.approx(sum(lead > 0 for lead in leads) / len(leads))
    assert -1 <= measured(scores.efficacy_magnitude).value == pytest.approx(sum(leads) / len(leads), abs=1e-12)


def test_instance_mode_compares_each_request_with_the_base_model(tiny_llama: "LanguageModel") -> None:
    patches = {"velden": learned(tiny_llama, VELDEN.filled_prompt, "Orsk"), "bare": identity_patch()}
    base = ask_edits(tiny_llama, edit_probes([VELDEN, BARE]))
    edited: dict[EditProbe, EditReply] = {}
    for request in (VELDEN, BARE):
        with patches[request.case_id].applied(tiny_llama):
            edited |= ask_edits(tiny_llama, edit_probes([request]))
    alone = measure_edits(tiny_llama, patches["velden"], [VELDEN])
    both = measured(score_edits(base, edited).efficacy_change)
    assert both.value == pytest.approx(measured(alone.efficacy_change).value / 2, abs=1e-4)
    assert both.n == 2


def test_all_values_are_numbers(tiny_llama: "LanguageModel") -> None:
    found = by_likelihood(measure_edits(tiny_llama, identity_patch(), [VELDEN, BARE]))
    assert len(found) == 9
    assert all(math.isfinite(value) for value in found)
