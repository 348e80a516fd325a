"""The editor that changes nothing."""

import pytest

from audit.editors.methods.identity import Identity
from audit.errors import AuditError
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import WeightPatch
from tests.editors.plain import REQUESTS


def test_the_patch_is_empty(tiny_gpt2: LanguageModel) -> None:
    told: list[tuple[int, int]] = []
    patch = Identity().edit(tiny_gpt2, REQUESTS, lambda done, total: told.append((done, total)))
    assert isinstance(patch, WeightPatch) and not patch.deltas
    assert told == [(4, 4)]
    before = weights_fingerprint(tiny_gpt2)
    with patch.applied(tiny_gpt2):
        assert weights_fingerprint(tiny_gpt2) == before


def test_it_has_no_settings() -> None:
    with pytest.raises(AuditError, match="it has no settings"):
        Identity({"scale": "1"})
