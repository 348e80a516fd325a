"""Knowledge neurons: which are chosen, what is added to them, and that nothing else changes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from audit.editors.methods.kn import KnowledgeNeurons, KnowledgeNeuronSettings, coarse, refined
from audit.editors.stages.attribution import AnsweredPrompt, both_ends, midpoints
from audit.editors.stages.editor_settings import Shapes
from audit.edits.requests import EditRequest
from audit.errors import AuditError
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import LowRankDelta, Patch, WeightPatch, load_patch
from audit.models.tokens import join
from tests.editors.plain_attribution import attribute_plainly
from tests.editors.tiny_families import FAMILIES
from tests.tiny_models import build_tiny_gpt2, build_tiny_llama

REQUEST = EditRequest(
    "a",
    "Danielle Darrieux",
    "The mother tongue of {} is",
    "Velden",
    "French",
    paraphrases=("Danielle Darrieux speaks", "At home, Danielle Darrieux uses"),
)
MODES = ("toolkit", "paper")


def changes_of(patch: Patch) -> dict[str, Tensor]:
    """By parameter, the change seen as (out, in)."""
    assert isinstance(patch, WeightPatch)
    factors = {name: delta for name, delta in patch.deltas.items() if isinstance(delta, LowRankDelta)}
    assert factors.keys() == patch.deltas.keys()
    return {name: delta.left @ delta.right for name, delta in factors.items()}


def greedy_by_hand(lm: LanguageModel, ids: tuple[int, ...], count: int) -> tuple[int, ...]:
    said = list(ids)
    for _ in range(count):
        said.append(int(lm.model(input_ids=torch.tensor([said])).logits[0, -1].argmax()))
    return tuple(said[len(ids) :])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_chosen_columns_change_and_the_model_is_restored(
    family: str, mode: str, families: Callable[[str], LanguageModel]
) -> None:
    lm = families(family)
    editor = KnowledgeNeurons({"mode": mode, "steps": "4"})
    before = weights_fingerprint(lm)
    patch, chosen = editor.edit(lm, [REQUEST]), editor.neurons(lm, REQUEST)
    assert weights_fingerprint(lm) == before
    originals = {name: parameter.clone() for name, parameter in lm.model.named_parameters()}
    assert patch.meta["neuron_count"] == str(int(chosen.sum())) != "0"
    with patch.applied(lm):
        written = {lm.anatomy.weight_name(layer): columns for layer, columns in enumerate(chosen)}
        for name, parameter in lm.model.named_parameters():
            moved = parameter != originals[name]
            if name in written:
                by_column = moved.any(1) if lm.anatomy.transposed else moved.any(0)
                assert torch.equal(by_column, written[name]), name
            else:
                assert not bool(moved.any()), name
    assert weights_fingerprint(lm) == before


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
@pytest.mark.parametrize("target", ["Velden", "New Avaria and Belton"])
def test_the_toolkit_adds_the_new_answer_and_subtracts_the_greedy_one(
    family: str, target: str, request: pytest.FixtureRequest
) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    case = replace(REQUEST, target_new=target)
    joined = join(lm.tokenizer, case.filled_prompt, target)
    assert (len(joined.target_ids) == 1) == (target == "Velden")
    said = greedy_by_hand(lm, joined.prompt_ids, len(joined.target_ids))
    embeddings = lm.model.get_input_embeddings().weight
    expected = torch.zeros(lm.anatomy.hidden_size)
    for token in joined.target_ids:
        expected += embeddings[token]
    for token in said:
        expected -= embeddings[token] * (2 if len(joined.target_ids) == 1 else 1)
    for change in changes_of(KnowledgeNeurons({"steps": "4"}).edit(lm, [case])).values():
        for column in change.T[change.any(0)]:
            torch.testing.assert_close(column, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_the_paper_weighs_both_answers_by_the_columns_norm(family: str, request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    editor = KnowledgeNeurons({"mode": "paper", "steps": "4", "old_weight": "0.5", "new_weight": "3"})
    head = lm.model.get_output_embeddings().weight
    new, old = (
        head[list(join(lm.tokenizer, REQUEST.filled_prompt, answer).target_ids)].sum(0)
        for answer in ("Velden", "French")
    )
    for name, change in changes_of(editor.edit(lm, [REQUEST])).items():
        weight = lm.model.get_parameter(name)
        for column in change.any(0).nonzero()[:, 0].tolist():
            size = (weight[column] if lm.anatomy.transposed else weight[:, column]).norm()
            expected = size * (3 * new / new.norm() - 0.5 * old / old.norm())
            torch.testing.assert_close(change[:, column], expected, rtol=1e-4, atol=1e-5)


def test_the_toolkit_chooses_what_plain_attribution_chooses(
    tiny_gpt2: LanguageModel, tiny_llama: LanguageModel
) -> None:
    """Every token at the prompt's end in GPT-2; in Llama along the model's own answer."""
    chosen = KnowledgeNeurons({"steps": "5", "threshold": "0.3"}).neurons
    joined = join(tiny_gpt2.tokenizer, REQUEST.filled_prompt, "French")
    assert len(joined.target_ids) > 1
    scores = attribute_plainly(tiny_gpt2, AnsweredPrompt(joined.prompt_ids, joined.target_ids), "key", both_ends(5))
    assert torch.equal(chosen(tiny_gpt2, REQUEST), scores > 0.3 * scores.max())

    joined = join(tiny_llama.tokenizer, REQUEST.filled_prompt, "French")
    grown = joined.prompt_ids + greedy_by_hand(tiny_llama, joined.prompt_ids, len(joined.target_ids))
    total = torch.zeros(tiny_llama.anatomy.depth, tiny_llama.anatomy.inner_size)
    for t, token in enumerate(joined.target_ids):
        prompt = AnsweredPrompt(grown[: joined.prompt_length + t], (token,))
        total += attribute_plainly(tiny_llama, prompt, "key", both_ends(5))
    assert torch.equal(chosen(tiny_llama, REQUEST), total > 0.3 * total.max())


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_the_paper_chooses_what_plain_attribution_chooses(family: str, request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    by_prompt = []
    for prompt in (REQUEST.filled_prompt, *REQUEST.paraphrases):
        joined = join(lm.tokenizer, prompt, "French")
        total = torch.zeros(lm.anatomy.depth, lm.anatomy.inner_size)
        for t, token in enumerate(joined.target_ids):
            step = AnsweredPrompt(joined.ids[: joined.prompt_length + t], (token,))
            total += attribute_plainly(lm, step, "value", midpoints(5))
        by_prompt.append(total > 0.2 * total.max())
    expected = refined(torch.stack(by_prompt), 0.7, 2, 5)
    assert bool(expected.any())
    assert torch.equal(KnowledgeNeurons({"mode": "paper", "steps": "5"}).neurons(lm, REQUEST), expected)


@given(
    counts=st.lists(st.integers(0, 10), min_size=1, max_size=30),
    percent=st.integers(0, 99),
    wanted=st.tuples(st.integers(1, 5), st.integers(0, 5)),
)
def test_refinement_keeps_what_occurs_in_more_than_the_share_of_prompts(
    counts: list[int], percent: int, wanted: tuple[int, int]
) -> None:
    """Whatever p it ends with, a kept neuron occurs more often than one that is not; p itself where that will do."""
    chosen = torch.tensor([[[prompt < count for count in counts]] for prompt in range(10)])
    fewest, most = wanted[0], sum(wanted)
    kept = refined(chosen, percent / 100, fewest, most)[0].tolist()
    at_once = [10 * count > percent for count in counts]
    if fewest <= sum(at_once) <= most:
        assert kept == at_once
    often = [count for count, is_kept in zip(counts, kept, strict=True) if is_kept]
    seldom = [count for count, is_kept in zip(counts, kept, strict=True) if not is_kept]
    assert min(often, default=11) > max(seldom, default=-1)
    assert 0 not in often


def test_refinement_moves_the_share_towards_two_to_five_neurons() -> None:
    counts = [10] + [8] * 3 + [7] * 4 + [2] * 9
    chosen = torch.tensor([[[prompt < count for count in counts]] for prompt in range(10)])
    assert int(refined(chosen, 0.7, 2, 5).sum()) == 4  # more than 7 of 10: exactly 7 is not enough
    assert int(refined(chosen, 0.6, 2, 5).sum()) == 4  # eight at first; p rises to 0.7
    assert int(refined(chosen, 0.85, 2, 5).sum()) == 4  # one at first; p falls to 0.75
    assert int(refined(chosen, 0.7, 9, 9).sum()) == 8  # out of reach in six rounds


def test_coarse_neurons_lie_above_a_share_of_the_prompts_own_largest_score() -> None:
    scores = torch.tensor([[[10.0, 2.0], [2.1, -9.0]], [[0.0, 0.0], [0.0, 0.0]], [[-1.0, -2.0], [-4.0, -0.1]]])
    assert coarse(scores, 0.2).int().tolist() == [[[1, 0], [1, 0]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]]


@pytest.mark.parametrize("mode", MODES)
def test_a_saved_patch_is_the_same_patch(mode: str, tiny_gpt2: LanguageModel, tmp_path: Path) -> None:
    patch = KnowledgeNeurons({"mode": mode, "steps": "3"}).edit(tiny_gpt2, [REQUEST])
    patch.save(tmp_path)
    loaded = load_patch(tmp_path)
    assert loaded.fingerprint == patch.fingerprint
    with patch.applied(tiny_gpt2):
        edited = weights_fingerprint(tiny_gpt2)
    with loaded.applied(tiny_gpt2):
        assert weights_fingerprint(tiny_gpt2) == edited


@pytest.mark.parametrize("mode", MODES)
def test_half_precision_models_are_edited(mode: str) -> None:
    half = build_tiny_gpt2(dtype=torch.bfloat16)
    before = weights_fingerprint(half)
    changes = changes_of(KnowledgeNeurons({"mode": mode, "steps": "4"}).edit(half, [REQUEST]))
    assert changes
    for change in changes.values():
        assert change.dtype == torch.float32 and bool(change.isfinite().all())
    assert weights_fingerprint(half) == before


def test_the_number_of_steps_is_the_published_one_of_the_mode(
    tiny_gpt2: LanguageModel, tiny_llama: LanguageModel
) -> None:
    def steps(lm: LanguageModel, **config: str) -> int:
        return KnowledgeNeurons(config).settings(lm).steps

    assert (steps(tiny_gpt2), steps(tiny_llama)) == (20, 1)
    assert (steps(tiny_gpt2, mode="paper"), steps(tiny_llama, mode="paper")) == (20, 20)
    assert steps(tiny_llama, steps="7") == 7


def test_published_thresholds() -> None:
    assert KnowledgeNeuronSettings.published[Shapes.GPT_J] == {"threshold": 0.1}
    assert Shapes.GPT2_XL not in KnowledgeNeuronSettings.published
    assert (KnowledgeNeuronSettings.mode, KnowledgeNeuronSettings.threshold) == ("toolkit", 0.2)


@pytest.mark.parametrize("mode", MODES)
def test_an_edit_without_the_old_answer_is_refused(mode: str, tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(AuditError, match=r"'a' has no old answer.*give its target_true"):
        KnowledgeNeurons({"mode": mode}).edit(tiny_gpt2, [replace(REQUEST, target_true=None)])


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("mode", "fast", "mode is 'fast': give toolkit or paper."),
        ("steps", "-1", "steps is -1: give a whole number of at least 0."),
        ("threshold", "1", "threshold is 1.0: give a number from 0 to below 1."),
        ("share", "1.5", "share is 1.5: give a number from 0 to below 1."),
        ("most", "1", "most is 1: give a whole number of at least 2."),
        ("new_weight", "nan", "new_weight is nan: give a number of at least 0."),
    ],
)
def test_settings_out_of_range_are_named(key: str, value: str, sentence: str, tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(AuditError) as caught:
        KnowledgeNeurons({key: value}).edit(tiny_gpt2, [REQUEST])
    assert str(caught.value) == sentence


def test_several_requests_at_once_are_refused(tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(AuditError, match="one edit request at a time and was given 2"):
        KnowledgeNeurons().edit(tiny_gpt2, [REQUEST, REQUEST])


def test_scores_that_are_not_finite_are_refused() -> None:
    broken = build_tiny_llama()
    with torch.no_grad():
        broken.model.get_output_embeddings().weight[3] = torch.inf
    with pytest.raises(AuditError, match="scores for edit 'a' are not finite"):
        KnowledgeNeurons().edit(broken, [REQUEST])
