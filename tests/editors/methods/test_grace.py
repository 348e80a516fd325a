"""GRACE: the edit works at any position of a batch; inputs far from every key are unchanged."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from audit.editors.methods.grace import Grace
from audit.editors.stages.answers_above import AnswersAbove
from audit.editors.stages.fine_tuning import target_row
from audit.edits.requests import EditRequest
from audit.edits.sources import load_requests
from audit.engine import Decoding
from audit.engine.generation import generate
from audit.engine.likelihoods import teacher_forced
from audit.engine.sequences import EditSequence
from audit.errors import AuditError
from audit.measures.edit_success import measure_edits
from audit.models.codebook import Codebook
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.loading import load_language_model
from audit.models.patches import ModulePatch, Patch, originals_kept
from tests.editors.plain import REQUESTS, perturbed_logits
from tests.editors.tiny_families import FAMILIES, build_family
from tests.engine.reference import BUDGETS, mixed_prompts
from tests.models.attached import all_logits

Families = Callable[[str], LanguageModel]
CONFIG = {"layer": "1", "steps": "40", "learning_rate": "1", "epsilon_share": "0.05", "stop_loss": "0.5"}
# One token each: a random model of width 32 has no room for a longer answer in one value.
SHORT = tuple(replace(r, target_new=w) for r, w in zip(REQUESTS, ("Velden", "in", "is", "Mara"), strict=True))


def book_of(patch: Patch) -> Codebook:
    assert isinstance(patch, ModulePatch)
    (codebook,) = patch.attachments
    assert isinstance(codebook, Codebook)
    return codebook


def says(lm: LanguageModel, request: EditRequest) -> bool:
    (answer,) = generate(lm, [request.filled_prompt], Decoding(4, stop=()))
    return answer.strip().startswith(request.target_new)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_codebook_reproduces_the_optimised_loss_in_every_family(family: str, families: Families) -> None:
    """The loss of the patched model is the loss that the editor reached, for targets of several tokens."""
    lm, asked = families(family), [(REQUESTS[1].filled_prompt, REQUESTS[1].target_new)]
    before, logits = weights_fingerprint(lm), all_logits(lm)
    (untouched,) = teacher_forced(lm, asked)
    patch = Grace(CONFIG | {"steps": "6"}).edit(lm, [REQUESTS[1]])
    assert isinstance(patch, ModulePatch)
    with patch.applied(lm):
        (forced,) = teacher_forced(lm, asked)
        assert torch.equal(all_logits(lm), logits)  # far from the key
    assert forced.tokens > 1 and forced.log_probability > untouched.log_probability
    assert -forced.log_probability / forced.tokens == pytest.approx(float(patch.meta["losses"]), rel=2e-3)
    assert not lm.attached and weights_fingerprint(lm) == before
    assert torch.equal(all_logits(lm), logits)


@pytest.mark.parametrize("family", ["gpt-2", "llama-3", "opt"])
def test_answers_depend_on_neither_batch_nor_neighbors_nor_padding(family: str, families: Families) -> None:
    lm = families(family)
    prompts = [*mixed_prompts(8), *(request.filled_prompt for request in SHORT)]
    # A radius so wide that some positions of other prompts are routed too, in the prompt or while generating.
    book = book_of(Grace(CONFIG | {"epsilon_share": "1.1"}).edit(lm, [SHORT[1]]))
    plain = generate(lm, prompts, Decoding(12, stop=()))
    with ModulePatch((book,)).applied(lm):
        alone = generate(lm, prompts, Decoding(12, stop=()), token_budget=1)  # one row a batch
        assert sum(a != b for a, b in zip(alone, plain, strict=True)) > 1
        for budget in BUDGETS[1:3]:
            assert generate(lm, prompts, Decoding(12, stop=()), token_budget=budget) == alone
        assert generate(lm, prompts[::-1], Decoding(12, stop=())) == alone[::-1]


def test_each_step_extends_the_attached_codebook(tiny_gpt2: LanguageModel) -> None:
    lm, grace = tiny_gpt2, Grace(CONFIG)
    with originals_kept(lm) as originals:
        for number, request in enumerate(SHORT[1:], start=1):
            patch = grace.edit(lm, [request])
            patch.write(lm, originals)
            assert len(book_of(patch).labels) == number
        assert all(says(lm, request) for request in SHORT[1:])
    assert not lm.attached
    with patch.applied(lm):  # the last step's patch holds them all
        assert all(says(lm, request) for request in SHORT[1:])


def test_a_new_target_for_the_same_prompt_replaces_the_first(tiny_llama: LanguageModel) -> None:
    lm, grace = tiny_llama, Grace(CONFIG)
    changed = replace(SHORT[1], target_new="Velden")
    with grace.edit(lm, [SHORT[1]]).applied(lm):
        patch = grace.edit(lm, [changed])
        assert says(lm, SHORT[1])
    assert len(book_of(patch).labels) == 1
    with patch.applied(lm):
        assert says(lm, changed)


def test_the_loss_is_that_of_the_whole_model(tiny_gpt2: LanguageModel, tiny_llama: LanguageModel) -> None:
    """One value at the last prompt token, computed without cache, cut or alignment."""
    for lm in (tiny_gpt2, tiny_llama):
        row = target_row(lm, REQUESTS[3])
        down = lm.anatomy.down_projections[1]
        answers = AnswersAbove.prepared(lm, [target_row(lm, REQUESTS[0]), row], 1)
        shift = torch.linspace(-1, 1, lm.anatomy.hidden_size)
        losses = answers.losses(lambda _, said, by=shift: torch.cat([said[:, :1] + by, said[:, 1:]], dim=1))
        sequence = EditSequence(row.ids, row.places[0])
        log_p = perturbed_logits(lm, down, sequence, shift).log_softmax(-1)
        plain = -torch.stack([log_p[place, label] for place, label in zip(row.places, row.labels, strict=True)]).mean()
        torch.testing.assert_close(losses[1], plain, rtol=1e-4, atol=1e-5)
        assert torch.equal(answers.activations[-len(row.labels) :], answers.inputs[1, : len(row.labels)])


def test_half_precision_is_edited_in_float32() -> None:
    lm = build_family("llama-3", torch.bfloat16)
    patch = Grace(CONFIG).edit(lm, [SHORT[1]])
    assert book_of(patch).values.dtype == torch.float32
    with patch.applied(lm):
        assert says(lm, SHORT[1])


def test_the_radius_is_the_one_given_or_a_share_of_the_key(tiny_gpt2: LanguageModel) -> None:
    quick = CONFIG | {"steps": "1"}
    share = book_of(Grace(quick).edit(tiny_gpt2, [REQUESTS[0]]))
    assert float(share.radii[0]) == pytest.approx(0.05 * float(share.keys[0].norm()), rel=1e-5)
    given = book_of(Grace(quick | {"epsilon": "0.25"}).edit(tiny_gpt2, [REQUESTS[0]]))
    assert given.radii.tolist() == [0.25]


def test_several_requests_and_settings_out_of_range_are_refused(tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(AuditError, match="the editor grace takes one edit request at a time and was given 2"):
        Grace().edit(tiny_gpt2, REQUESTS[:2])
    with pytest.raises(AuditError, match="no edit request"):
        Grace().edit(tiny_gpt2, [])
    for key, value in {"layer": "3", "epsilon": "-1", "steps": "0", "learning_rate": "0"}.items():
        with pytest.raises(AuditError, match=f"{key} is"):
            Grace({key: value}).edit(tiny_gpt2, REQUESTS[:1])


def test_the_meta_describes_the_edit_and_the_edit_is_reproducible(tiny_gpt2: LanguageModel) -> None:
    patches = [Grace(CONFIG, seed=seed).edit(tiny_gpt2, REQUESTS[:1]) for seed in (0, 0)]
    assert patches[0].fingerprint == patches[1].fingerprint
    assert isinstance(patches[0], ModulePatch)
    meta = patches[0].meta
    assert (meta["editor"], meta["requests"], meta["settings.layer"]) == ("grace", "a", "1")


@pytest.mark.parametrize("model", ["pocket-gpt2", "pocket-llama"])
def test_pocket_edits_take_and_carry_over(model: str) -> None:
    lm, grace = load_language_model(model), Grace()
    requests = load_requests("pocket").draw(2, 0).requests
    with originals_kept(lm) as originals:
        for request in requests:
            patch = grace.edit(lm, [request])
            patch.write(lm, originals)
    scores = measure_edits(lm, patch, requests)
    assert scores.efficacy_autoregressive is not None and scores.efficacy_autoregressive.value == 1.0
    assert scores.locality_autoregressive is not None and scores.locality_autoregressive.value == 1.0
