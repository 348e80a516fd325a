"""A language model with its fingerprints, and the fingerprint of the state that stored answers belong to."""

from dataclasses import dataclass

from audit.engine.model_state import ENGINE_VERSION as ENGINE_VERSION
from audit.engine.model_state import state_fingerprint
from audit.models.fingerprints import tokenizer_fingerprint, weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch


@dataclass(frozen=True, eq=False)
class KnownModel:
    """A model with the fingerprints of its weights and tokenizer. Edited models keep the name, so it is not a key."""

    lm: LanguageModel
    weights: str
    tokenizer: str

    @classmethod
    def of(cls, lm: LanguageModel) -> "KnownModel":
        """The model with the fingerprints of its current weights and of its tokenizer; it reads every weight once."""
        return cls(lm, weights_fingerprint(lm), tokenizer_fingerprint(lm))

    def state(self, patch: Patch | None = None) -> str:
        """sha256 over all that an answer depends on besides the prompt; `patch` is the applied patch (None: none)."""
        changed = None if patch is None else patch.fingerprint
        return state_fingerprint(self.weights, self.tokenizer, changed, str(self.lm.dtype), self.lm.device.type)
