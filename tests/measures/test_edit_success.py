"""Scores of the edits: computed from given replies, then measured on a model."""

from dataclasses import fields, replace
from typing import TYPE_CHECKING

import pytest
import torch

from audit.edits.requests import EditRequest, Probe
from audit.measures.edit_probes import (
    NEIGHBORHOOD,
    PARAPHRASE,
    PORTABILITY,
    REWRITE,
    EditProbe,
    EditReply,
    ask_edits,
    edit_probes,
)
from audit.measures.edit_success import EditScores, measure_edits, score_edits
from audit.measures.rates import wilson_interval
from audit.models.fingerprints import weights_fingerprint
from audit.models.patches import DenseDelta, WeightPatch, identity_patch
from audit.models.tokens import join
from tests.tiny_models import build_tiny_llama

if TYPE_CHECKING:
    from audit.models.language_model import LanguageModel

VELDEN = EditRequest(
    "velden",
    "Velden",
    "The capital of {} is",
    "Orsk",
    "Marl",
    paraphrases=("Velden is governed from", "The seat of Velden is"),
    neighborhood=(Probe("The capital of Tarn is", "New Marl"),),
    portability=(Probe("The mayor of Velden's capital is", "Ina Roth"),),
)
BARE = EditRequest("bare", "Mara", "{} plays the", "piano", "flute")


def reply(text: str, *hits: bool, predictions: tuple[int, ...] | None = None) -> EditReply:
    return EditReply(text, tuple(range(len(hits))) if predictions is None else predictions, hits)


def probe(kind: str, answer: str = "Orsk", case_id: str = "velden", prompt: str = "?") -> EditProbe:
    return EditProbe(case_id, kind, prompt, answer)


def learned(lm: "LanguageModel", prompt: str, answer: str) -> WeightPatch:
    """A patch from a few steps of gradient descent on one answer; the model keeps its weights."""
    joined = join(lm.tokenizer, prompt, answer)
    ids = torch.tensor([joined.ids])  # (1, time)
    labels = ids.clone()
    labels[:, : joined.prompt_length] = -100
    weight = lm.model.get_parameter("lm_head.weight")
    original = weight.detach().clone()
    weight.requires_grad_(True)
    optimizer = torch.optim.Adam([weight], lr=0.05)
    for _ in range(40):
        optimizer.zero_grad()
        lm.model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
    change = weight.detach() - original
    weight.requires_grad_(False).copy_(original)
    return WeightPatch({"lm_head.weight": DenseDelta(change)})


def test_probes_of_a_request() -> None:
    kinds = [(q.kind, q.prompt, q.answer) for q in edit_probes([VELDEN])]
    assert kinds == [
        (REWRITE, "The capital of Velden is", "Orsk"),
        (PARAPHRASE, "Velden is governed from", "Orsk"),
        (PARAPHRASE, "The seat of Velden is", "Orsk"),
        (NEIGHBORHOOD, "The capital of Tarn is", "New Marl"),
        (PORTABILITY, "The mayor of Velden's capital is", "Ina Roth"),
    ]
    assert [q.kind for q in edit_probes([VELDEN, BARE], kinds=(REWRITE,))] == [REWRITE, REWRITE]


@pytest.mark.parametrize(
    "other",
    [
        EditRequest("t", "Tarn", "The capital of {} is", "Orsk"),  # the same prompt
        EditRequest("t", "Tarn", "{} is governed from", "Orsk", "new marl"),  # the same fact in other words
        EditRequest("t", "Tarn", "{}'s seat is", "Orsk", None, ("The capital of Tarn is",)),  # a paraphrase
    ],
)
def test_a_probe_that_another_request_edits_is_left_out(other: EditRequest) -> None:
    assert [q.kind for q in edit_probes([VELDEN, other]) if q.case_id == "velden" and q.kind == NEIGHBORHOOD] == []


def test_a_probe_about_another_fact_of_an_edited_subject_stays() -> None:
    other = EditRequest("t", "Tarn", "The mayor of {} is", "Orsk", "Ina Roth")
    assert NEIGHBORHOOD in [q.kind for q in edit_probes([VELDEN, other])]


def test_efficacy_under_both_protocols() -> None:
    rewrites = [probe(REWRITE, "Old Orsk", str(index)) for index in range(4)]
    said = [
        reply(" Old Orsk, a city", True, True),
        reply(" old orsk", False, True),  # said, though not as tokenized
        reply(" Old Orskian", True, True),  # tokens, though another word
        reply(" Marl", False, False),
    ]
    scores = score_edits({}, dict(zip(rewrites, said, strict=True)))
    assert scores.efficacy_autoregressive is not None
    assert scores.efficacy_teacher_forced is not None
    assert scores.efficacy_token_accuracy is not None
    assert (scores.efficacy_autoregressive.value, scores.efficacy_autoregressive.n) == (0.5, 4)
    assert scores.efficacy_teacher_forced.value == 0.5
    assert scores.efficacy_token_accuracy.value == (1 + 0.5 + 1 + 0) / 4
    assert (scores.efficacy_autoregressive.lower, scores.efficacy_autoregressive.upper) == wilson_interval(2, 4)


def test_missing_probes_give_none_and_not_zero() -> None:
    scores = score_edits({}, {probe(REWRITE): reply(" Marl", False)})
    absent = [field.name for field in fields(EditScores) if getattr(scores, field.name) is None]
    unmeasured = ["immediate_efficacy", "efficacy_before"]  # and without the base model's reply no change
    unmeasured += ["efficacy_change", "efficacy_preference", "efficacy_magnitude"]
    assert [name for name in absent if "efficacy" in name] == unmeasured
    assert len(absent) == len(fields(EditScores)) - 3
    assert [rate for _, _, rate in score_edits({}, {}).entries() if rate is not None] == []


def test_entries_hold_every_score_once() -> None:
    names = [field.name for field in fields(EditScores)]
    numbered = EditScores(**dict(zip(names, range(len(names)), strict=True)))  # type: ignore[arg-type]
    assert sorted(entry[2] for entry in numbered.entries()) == list(range(len(names)))  # type: ignore[type-var]
    assert len({entry[:2] for entry in numbered.entries()}) == len(names)


@pytest.mark.parametrize(
    ("answer", "before", "after", "same"),
    [
        ("New Marl", " New Marl, the town", " new marl. It", 1.0),
        ("New Marl", " New Marl", " New Orsk", 0.0),
        ("Marl", " Tarn of old", " Tarn, in the north", 1.0),  # wrong before and the same after is local
        ("Marl", " Tarn", " Marl", 0.0),  # mended is changed all the same
        ("Marl", "", "", 1.0),
        ("Marl", " Marl", "", 0.0),
        ("the Marl", " Marl", " the Marl", 1.0),
    ],
)
def test_locality_compares_with_the_untouched_model(answer: str, before: str, after: str, same: float) -> None:
    asked = probe(NEIGHBORHOOD, answer)
    scores = score_edits({asked: reply(before, True)}, {asked: reply(after, True)})
    assert scores.locality_autoregressive is not None
    assert scores.locality_autoregressive.value == same


def test_neighborhood_accuracy_compares_with_the_truth() -> None:
    asked = probe(NEIGHBORHOOD, "Marl")
    scores = score_edits({asked: reply(" Tarn", False)}, {asked: reply(" Marl", True)})
    assert scores.neighborhood_accuracy is not None
    assert scores.neighborhood_accuracy.value == 1.0


def test_teacher_forced_locality_counts_unchanged_tokens_right_or_wrong() -> None:
    asked = probe(NEIGHBORHOOD, "New Marl")
    base = {asked: reply("", False, True, False, True, predictions=(5, 6, 7, 8))}
    edited = {asked: reply("", False, True, False, False, predictions=(5, 6, 9, -1))}
    scores = score_edits(base, edited)
    assert scores.locality_teacher_forced is not None
    assert scores.locality_teacher_forced.value == 0.5


def test_immediate_and_retained_efficacy_are_two_numbers() -> None:
    asked = probe(REWRITE)
    scores = score_edits(
        {asked: reply(" Marl", False)}, {asked: reply(" Tarn", False)}, immediate={asked: reply(" Orsk", True)}
    )
    assert scores.immediate_efficacy is not None
    assert scores.efficacy_autoregressive is not None
    assert scores.efficacy_before is not None
    assert (scores.efficacy_before.value, scores.immediate_efficacy.value, scores.efficacy_autoregressive.value) == (
        0.0,
        1.0,
        0.0,
    )


def test_a_missing_baseline_is_an_error() -> None:
    with pytest.raises(ValueError, match="the base model has no reply to the prompt"):
        score_edits({}, {probe(NEIGHBORHOOD): reply(" Marl", True)})


def test_replies_are_what_the_model_says(tiny_llama: "LanguageModel") -> None:
    probes = edit_probes([VELDEN, BARE])
    seen: list[tuple[int, int]] = []
    replies = ask_edits(tiny_llama, probes, progress=lambda done, total: seen.append((done, total)))
    assert list(replies) == list(probes)
    assert seen[-1] == (len(probes), len(probes))
    for asked, said in replies.items():
        target = join(tiny_llama.tokenizer, asked.prompt, asked.answer).target_ids
        assert said.token_hits == tuple(
            predicted == token for predicted, token in zip(said.predictions, target, strict=True)
        )
        assert "\n" not in said.text
    alone = ask_edits(tiny_llama, probes[-1:], token_budget=64)
    (one,), other = alone.values(), replies[probes[-1]]
    assert replace(one, log_probability=None) == replace(other, log_probability=None)
    assert one.log_probability == pytest.approx(other.log_probability, abs=1e-4)  # batches differ


def test_a_learned_fact_counts_as_success() -> None:
    lm = build_tiny_llama()
    patch = learned(lm, VELDEN.filled_prompt, "Orsk.\n")
    scores = measure_edits(lm, patch, [replace(VELDEN, paraphrases=(), neighborhood=(), portability=())])
    before_and_after = (scores.efficacy_before, scores.efficacy_autoregressive, scores.efficacy_teacher_forced)
    assert [rate.value for rate in before_and_after if rate is not None] == [0.0, 1.0, 1.0]


def test_an_identity_patch_leaves_everything_local(tiny_llama: "LanguageModel") -> None:
    scores = measure_edits(tiny_llama, identity_patch(), [VELDEN, BARE])
    assert scores.locality_autoregressive is not None
    assert scores.locality_teacher_forced is not None
    assert (scores.locality_autoregressive.value, scores.locality_teacher_forced.value) == (1.0, 1.0)
    assert scores.efficacy_autoregressive == scores.efficacy_before


def test_a_destructive_patch_is_not_local_and_is_reverted(tiny_llama: "LanguageModel") -> None:
    name = "model.embed_tokens.weight"
    shape = tiny_llama.model.get_parameter(name).shape
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3
    before = weights_fingerprint(tiny_llama)
    many = replace(VELDEN, neighborhood=tuple(Probe(f"The capital of {place} is", "Marl") for place in "ABCDEFGH"))
    scores = measure_edits(tiny_llama, WeightPatch({name: DenseDelta(noise)}), [many])
    assert scores.locality_teacher_forced is not None
    assert scores.locality_teacher_forced.value < 0.5
    assert weights_fingerprint(tiny_llama) == before


def test_each_of_several_answers_is_right() -> None:
    aliased = EditProbe("velden", PORTABILITY, "?", "Orsk", ("New Orsk", "Orsk on Sea"))
    for text, right in ((" New Orsk.", 1.0), (" Orsk", 1.0), (" Orsk on Sea", 1.0), (" Marl", 0.0)):
        scores = score_edits({}, {aliased: reply(text, False)})
        assert scores.portability_autoregressive is not None
        assert scores.portability_autoregressive.value == right


def test_teacher_forcing_takes_the_best_of_several_answers() -> None:
    lm = build_tiny_llama()
    request = replace(VELDEN, portability=(Probe("The capital of Velden is", "Tarn", ("Orsk.", "Marl")),))
    scores = measure_edits(lm, learned(lm, VELDEN.filled_prompt, "Orsk.\n"), [request])
    assert scores.portability_teacher_forced is not None
    assert scores.portability_teacher_forced.value == 1.0


def test_a_locality_probe_about_the_own_subject_is_asked() -> None:
    """KnowEdit's Forgetfulness: the old answer stays right beside the new one."""
    probe = Probe("The capital of Velden, which is not Orsk, is", "Marl")
    request = replace(VELDEN, target_true="Marl", neighborhood=(probe,))
    assert probe.prompt in [one.prompt for one in edit_probes([request], kinds=(NEIGHBORHOOD,))]
