"""A causal language model with everything the audit needs to know about it."""

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from audit.models.anatomy import Anatomy


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """`name` is what the user typed, `revision` the pinned commit of a hub model (None for local folders).

    The model is in eval mode and no parameter requires a gradient. Calls pass `input_ids`, `attention_mask` and
    `position_ids` only: a GPT-2 that is handed `token_type_ids` adds an embedding to every token.
    """

    name: str
    revision: str | None
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    anatomy: Anatomy

    @property
    def device(self) -> torch.device:
        """Where input ids go (the embedding's device)."""
        return self.model.get_parameter(f"{self.anatomy.embeddings}.weight").device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype
