"""A language model with the fingerprints of its loaded weights and tokenizer."""

from dataclasses import dataclass

from audit.models.fingerprints import content_fingerprint, tokenizer_fingerprint, weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch

# Raise it whenever the engine may give another answer to the same question, so that stored answers are asked again.
ENGINE_VERSION = 3


@dataclass(frozen=True, eq=False)
class KnownModel:
    """A model with the fingerprints of what was loaded; never its name, for an edited model has the same."""

    lm: LanguageModel
    weights: str
    tokenizer: str

    @classmethod
    def of(cls, lm: LanguageModel) -> "KnownModel":
        return cls(lm, weights_fingerprint(lm), tokenizer_fingerprint(lm))

    def state(self, patch: Patch | None = None) -> str:
        """sha256 over all that an answer depends on besides the question; `patch` is what is done to the model."""
        return content_fingerprint(
            {
                "engine": ENGINE_VERSION,
                "weights": self.weights,
                "tokenizer": self.tokenizer,
                "patch": None if patch is None else patch.fingerprint,
                "dtype": str(self.lm.dtype),
                "device": self.lm.device.type,
            }
        )
