"""A causal language model with its tokenizer, anatomy and attachments."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from audit.models.anatomy import Anatomy


class Attachment(Protocol):
    """A change of a model's output without a change of weights: a codebook, a side memory or demonstrations.

    `kind` is its key in `audit.models.patches.ATTACHMENTS`, for saving. A model holds one attachment per `slot`: a
    later one replaces the earlier.
    """

    kind: ClassVar[str]

    @property
    def slot(self) -> str:
        """The place that the attachment takes on a model."""
        ...

    def put_on(self, lm: "LanguageModel") -> Callable[[], None]:
        """Register the hooks it needs; the returned function removes them."""
        ...

    def full_prompt(self, prompt: str) -> str:
        """The prompt that the model reads for `prompt`; most attachments return it unchanged."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by name, for saving."""
        ...

    def settings(self) -> Mapping[str, Any]:
        """Everything else, as JSON values; tensors and settings together define the attachment."""
        ...


@dataclass(frozen=True, eq=False)
class Attached:
    """An attachment that is on a model, and the function that removes it."""

    attachment: Attachment
    take_off: Callable[[], None]


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A loaded model with its tokenizer, in eval mode; no parameter requires a gradient.

    `name` is the name given by the user, `revision` the pinned commit of a hub model (None for local files).
    `quantized_as` are the types of the quantized tensors of a GGUF file, such as "Q4_K, Q6_K" (else empty). `attached`
    maps slots to the attachments of the applied patches; only `Originals` writes it. Calls of `model` must not pass
    `token_type_ids`, for which GPT-2 adds an embedding to every token.
    """

    name: str
    revision: str | None
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    anatomy: Anatomy
    attached: dict[str, Attached] = field(default_factory=dict)
    quantized_as: str = ""

    @property
    def device(self) -> torch.device:
        """The device of the embeddings, where input ids go."""
        return self.model.get_parameter(f"{self.anatomy.embeddings}.weight").device

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point dtype of the weights."""
        return self.model.dtype

    def full_prompt(self, prompt: str) -> str:
        """The prompt that the model reads for `prompt`: an attachment may put demonstrations in front."""
        for attached in self.attached.values():
            prompt = attached.attachment.full_prompt(prompt)
        return prompt
