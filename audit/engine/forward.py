"""One call of the model: the four arguments the audit passes, and logits only where they are needed."""

import inspect

import torch
from torch import Tensor
from transformers import DynamicCache

from audit.engine.batching import context_length
from audit.engine.growing_cache import growing_cache
from audit.models.forward_overrides import forwards_replaced, inference_forwards
from audit.models.language_model import LanguageModel


class CausalForward:
    """Calls a model with explicit masks and positions.

    >>> forward = CausalForward(lm)
    >>> cache = forward.new_cache()
    >>> logits = forward(ids, mask, cache, keep=1)       # (rows, 1, vocabulary): the next token after a prompt
    >>> logits = forward(next_ids, longer_mask, cache, keep=1)

    The model's own head is used (never a re-built one), so that logit scaling, soft-capping and biases of every family
    are part of the answer; `logits_to_keep` confines it to the last positions.
    """

    def __init__(self, lm: LanguageModel) -> None:
        self.lm = lm
        self.model = lm.model
        self._lean = inference_forwards(lm.model)
        self.device = lm.device
        accepted = inspect.signature(type(lm.model).forward).parameters
        # BLOOM and MPT have no positions to be told: they derive attention biases from the mask.
        self.takes_positions = "position_ids" in accepted
        limit = context_length(lm)
        self.last_position = None if limit is None else limit - 1
        self.takes_keep = "logits_to_keep" in accepted

    def new_cache(self) -> DynamicCache:
        """An empty key-value cache; layers with sliding windows keep only their window."""
        return growing_cache(self.lm)

    @torch.no_grad()
    def __call__(self, ids: Tensor, mask: Tensor, cache: DynamicCache | None = None, *, keep: int) -> Tensor:
        """Logits of the last `keep` positions, (rows, keep, vocabulary), in the model's dtype.

        `ids` (rows, new) are the tokens to compute; `mask` (rows, past + new) is 1 for tokens and 0 for padding, and
        covers what the cache holds. A token's position is the number of tokens (not columns) before it.
        """
        arguments = {"input_ids": ids, "attention_mask": mask, "use_cache": cache is not None}
        if cache is not None:
            arguments["past_key_values"] = cache
        if self.takes_positions:
            # Rows that are finished, and wait to leave their batch, may run past the context; nobody reads them.
            counted = mask.sum(dim=1, keepdim=True) if ids.shape[1] == 1 else mask.cumsum(dim=1)[:, -ids.shape[1] :]
            arguments["position_ids"] = (counted - 1).clamp_(min=0, max=self.last_position)  # (rows, new)
        if self.takes_keep:
            arguments["logits_to_keep"] = keep
        with forwards_replaced(self._lean):
            logits: Tensor = self.model(**arguments).logits
        return logits[:, -keep:]  # (rows, keep, vocabulary)
