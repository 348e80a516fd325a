"""Editors with their defaults on a real model; skipped where `make real-models` was not run."""

import pytest

from audit.editors.methods.rome import Rome
from audit.edits.requests import EditRequest
from audit.engine import Decoding
from audit.engine.generation import generate
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import WeightPatch

pytestmark = pytest.mark.real_model

FACT = EditRequest("eiffel", "The Eiffel Tower", "{} is located in the city of", "Rome", target_true="Paris")
ELSEWHERE = "The Statue of Liberty is located in the city of"


def answers(lm: LanguageModel) -> list[str]:
    return generate(lm, [FACT.filled_prompt, ELSEWHERE], Decoding(max_new_tokens=3))


def test_rome_edits_a_fact_by_default(smollm2: LanguageModel) -> None:
    """No setting, no corpus, no connection: traced layer, C from the shipped corpus, and a caveat that says so."""
    before, weights = answers(smollm2), weights_fingerprint(smollm2)
    patch = Rome().edit(smollm2, [FACT])
    with patch.applied(smollm2):
        after = answers(smollm2)
    assert before[0].startswith(" Paris") and after[0].startswith(" Rome")
    assert before[1] == after[1]
    assert weights_fingerprint(smollm2) == weights
    assert isinstance(patch, WeightPatch)
    assert (patch.meta["settings.layer"], patch.meta["layers.from"]) == ("3", "traced")
    assert patch.meta["covariance.origin"] == "pocket corpus"
    assert patch.meta["covariance.caveat"].startswith("The covariance of the editor was measured on the shipped")
