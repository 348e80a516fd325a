"""IKE: the facts precede every prompt in every reading, and nothing else changes."""

import pytest
import torch

from audit.editors.methods.ike import Ike
from audit.edits.sources import load_requests
from audit.engine import Decoding
from audit.engine.generation import generate
from audit.engine.likelihoods import rank, teacher_forced
from audit.errors import AuditError
from audit.models.demonstrations import Demonstrations
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.loading import load_language_model
from audit.models.patches import ModulePatch, Patch, originals_kept
from tests.editors.plain import REQUESTS
from tests.models.attached import all_logits

ROOM = {"answer_room": "16"}


def told_by(patch: Patch) -> Demonstrations:
    assert isinstance(patch, ModulePatch)
    (told,) = patch.attachments
    assert isinstance(told, Demonstrations)
    return told


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_every_reading_uses_the_demonstrations(family: str, request: pytest.FixtureRequest) -> None:
    """The patched model answers a prompt like the unpatched model answers the full prompt."""
    lm: LanguageModel = request.getfixturevalue(family)
    prompts = [REQUESTS[0].filled_prompt, "3 + 4 ="]
    before, logits = weights_fingerprint(lm), all_logits(lm)
    with Ike(ROOM).edit(lm, REQUESTS).applied(lm):
        rewritten = [lm.full_prompt(prompt) for prompt in prompts]
        spoken = generate(lm, prompts, Decoding(6))
        ranked = rank(lm, prompts, [["Velden", "French"]] * 2)
        forced = teacher_forced(lm, [(prompt, "Velden") for prompt in prompts])
        assert torch.equal(all_logits(lm), logits)
    assert all(new.endswith(old) and "Hexatech of Belton" in new for new, old in zip(rewritten, prompts, strict=True))
    assert spoken == generate(lm, rewritten, Decoding(6))
    assert ranked == rank(lm, rewritten, [["Velden", "French"]] * 2)
    assert forced == teacher_forced(lm, [(prompt, "Velden") for prompt in rewritten])
    assert weights_fingerprint(lm) == before and [lm.full_prompt(prompt) for prompt in prompts] == prompts


def test_each_step_keeps_the_facts_of_earlier_steps(tiny_gpt2: LanguageModel) -> None:
    with originals_kept(tiny_gpt2) as originals:
        for request in REQUESTS[:3]:
            patch = Ike(ROOM).edit(tiny_gpt2, [request])
            patch.write(tiny_gpt2, originals)
    assert told_by(patch).facts == told_by(Ike(ROOM).edit(tiny_gpt2, REQUESTS[:3])).facts
    assert not tiny_gpt2.attached


def test_no_probe_of_a_request_is_a_demonstration() -> None:
    lm = load_language_model("pocket-gpt2")
    requests = load_requests("pocket").draw(10, 0).requests
    told = {request.filled_prompt for request in requests}
    probes = {p for r in requests for p in (*r.paraphrases, *(n.prompt for n in r.neighborhood))} - told
    with Ike({"style": "published", "count": "16"}).edit(lm, requests).applied(lm):
        for request in requests:
            asked = lm.full_prompt(request.filled_prompt)
            assert not any(probe in asked for probe in probes)


def test_settings_out_of_range_and_no_request_are_refused(tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(AuditError, match="no edit request"):
        Ike().edit(tiny_gpt2, [])
    for key, value in {"style": "loud", "count": "0", "repeats": "0", "answer_room": "0"}.items():
        with pytest.raises(AuditError, match=f"{key} is {value}"):
            Ike({key: value}).edit(tiny_gpt2, REQUESTS[:1])


def test_the_meta_describes_the_edit(tiny_gpt2: LanguageModel) -> None:
    patch = Ike(ROOM).edit(tiny_gpt2, REQUESTS[:2])
    assert isinstance(patch, ModulePatch)
    assert (patch.meta["editor"], patch.meta["requests"]) == ("ike", "a,b")
    assert told_by(patch).length == 256 and told_by(patch).answer_room == 16
