"""A causal language model with everything the audit needs to know about it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from audit.models.anatomy import Anatomy


class Attachment(Protocol):
    """Something put onto a model that changes what it says and leaves its weights alone: a codebook, a side memory,
    demonstrations before every prompt.

    `kind` names its class in `audit.models.patches.ATTACHMENTS`, for saving. Two attachments in one `slot` do not
    stand side by side: the later one replaces the earlier.
    """

    kind: ClassVar[str]

    @property
    def slot(self) -> str: ...

    def put_on(self, lm: "LanguageModel") -> Callable[[], None]:
        """Register whatever hooks it needs; the returned function takes them off again."""
        ...

    def asked(self, prompt: str) -> str:
        """What the model is really asked when `prompt` is; most attachments hand it back as it is."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by name, for saving."""
        ...

    def settings(self) -> Mapping[str, Any]:
        """Everything else, as JSON can hold it; tensors and settings together say what it does."""
        ...


@dataclass(frozen=True, eq=False)
class Attached:
    """An attachment that is on a model, and what takes it off."""

    attachment: Attachment
    take_off: Callable[[], None]


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """`name` is what the user typed, `revision` the pinned commit of a hub model (None for local folders).

    The model is in eval mode and no parameter requires a gradient. Calls pass `input_ids`, `attention_mask` and
    `position_ids` only: a GPT-2 that is handed `token_type_ids` adds an embedding to every token. `attached` holds, by
    slot, what patches have put onto the model just now; only `Originals` writes it.
    """

    name: str
    revision: str | None
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    anatomy: Anatomy
    attached: dict[str, Attached] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where input ids go (the embedding's device)."""
        return self.model.get_parameter(f"{self.anatomy.embeddings}.weight").device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    def asked(self, prompt: str) -> str:
        """`prompt` as the model really gets it: what is attached may put demonstrations in front."""
        for attached in self.attached.values():
            prompt = attached.attachment.asked(prompt)
        return prompt
