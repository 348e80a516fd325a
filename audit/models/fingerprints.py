"""sha256 fingerprints of weights and tokenizers: cache keys, and the check that a model is unchanged after editing."""

import json
from collections.abc import Iterator
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from audit.models.language_model import LanguageModel
from audit.store.content import content_fingerprint as content_fingerprint
from audit.store.content import hash_tensors


def weights_fingerprint(lm: LanguageModel) -> str:
    """sha256 over the name, dtype, shape and bytes of every parameter and persistent buffer (tied weights once).

    Tensors are sorted by name. A change of dtype or of a single bit changes the fingerprint.
    """
    return hash_tensors(_distinct_tensors(lm))


def tokenizer_fingerprint(lm: LanguageModel) -> str:
    """sha256 over all rules that turn text into ids and back; padding and truncation settings do not count."""
    return content_fingerprint(tokenizer_rules(lm.tokenizer))


def tokenizer_rules(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The JSON content that `tokenizer_fingerprint` hashes."""
    if tokenizer.is_fast:
        rules = json.loads(tokenizer.backend_tokenizer.to_str())
        # A call with padding stores its setting in the tokenizer. That is state, not a rule.
        rules.pop("padding", None)
        rules.pop("truncation", None)
    else:
        rules = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    specials = {
        "bos": tokenizer.bos_token_id,
        "eos": tokenizer.eos_token_id,
        "unknown": tokenizer.unk_token_id,
    }
    return {"rules": rules, "specials": specials}


def _distinct_tensors(lm: LanguageModel) -> Iterator[tuple[str, Tensor]]:
    seen: set[tuple[int, tuple[int, ...], tuple[int, ...]]] = set()
    for name, tensor in sorted(lm.model.state_dict().items()):
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
        if tensor.numel() == 0 or place not in seen:
            seen.add(place)
            yield name, tensor
