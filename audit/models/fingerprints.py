"""sha256 over content: the only keys that caches know, and the proof that editing left no trace."""

import json
from collections.abc import Iterator
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from audit.models.language_model import LanguageModel
from audit.store.content import content_fingerprint as content_fingerprint
from audit.store.content import hash_tensors


def weights_fingerprint(lm: LanguageModel) -> str:
    """sha256 over name, dtype, shape and bytes of every parameter and persistent buffer (tied weights once).

    Names go in sorted; the same weights in another dtype, or with one bit changed, give another fingerprint.
    """
    return hash_tensors(_distinct_tensors(lm))


def tokenizer_fingerprint(lm: LanguageModel) -> str:
    """sha256 over everything that decides how text becomes ids and back; padding and truncation do not count."""
    return content_fingerprint(tokenizer_rules(lm.tokenizer))


def tokenizer_rules(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What `tokenizer_fingerprint` is taken over, as JSON holds it."""
    if tokenizer.is_fast:
        rules = json.loads(tokenizer.backend_tokenizer.to_str())
        # A call that pads leaves its setting behind in the tokenizer: state, not rules.
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
