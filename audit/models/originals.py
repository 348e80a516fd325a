"""The original state of a model, so that every change can be reverted bit for bit.

    with originals_kept(lm) as originals:
        originals.keep("transformer.h.0.mlp.c_proj.weight").mul_(2)
        originals.attach(codebook)
    # the original model again

Touched tensors are copied and copied back. Subtracting a change would leave rounding errors.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from audit.errors import AuditError
from audit.models.language_model import Attached, Attachment, LanguageModel
from audit.store.content import hash_tensors


class TouchedTensor(NamedTuple):
    """A parameter that was written: its content before the change, and now (the model's own tensor, not a copy)."""

    name: str
    original: Tensor
    current: Tensor


class Originals:
    """Copies of a model's tensors from before their first change, and the attachments that it had.

    Call `keep(name)` before writing a parameter. It copies the tensor at the first call only, so the extra memory is
    that of the touched tensors. Tied parameters are one tensor.
    """

    def __init__(self, lm: LanguageModel) -> None:
        self._lm = lm
        self._model = lm.model
        self._kept: dict[int, _Kept] = {}
        self._replaced: dict[str, Attachment | None] = {}

    def keep(self, name: str) -> nn.Parameter:
        """Copy parameter `name` and return it, ready to be written in place.

        Raises:
            AuditError: the model has no such parameter.
        """
        parameter = parameter_at(self._model, name)
        if id(parameter) not in self._kept:
            clone = parameter.detach().clone()
            self._kept[id(parameter)] = _Kept(name, parameter, clone, hash_tensors([(name, clone)]))
        return parameter

    def attach(self, attachment: Attachment) -> None:
        """Put an attachment on the model. An earlier one in the same slot is removed until `restore`."""
        slot = attachment.slot
        before = self._lm.attached.pop(slot, None)
        if before is not None:
            before.take_off()
        self._replaced.setdefault(slot, before.attachment if before else None)
        self._lm.attached[slot] = Attached(attachment, attachment.put_on(self._lm))

    def touched(self) -> tuple[TouchedTensor, ...]:
        """Every kept tensor, in the order of `keep`."""
        return tuple(TouchedTensor(kept.name, kept.clone, kept.parameter.detach()) for kept in self._kept.values())

    def restore(self) -> None:
        """Copy every kept tensor back and check its bits; remove the attachments and put earlier ones back.

        Raises:
            AuditError: a parameter was replaced by another object instead of being written in place.
        """
        for slot, before in self._replaced.items():
            self._lm.attached.pop(slot).take_off()
            if before is not None:
                self._lm.attached[slot] = Attached(before, before.put_on(self._lm))
        self._replaced.clear()
        # In reverse order: if two tensors share memory, the older content is written last.
        for kept in reversed(self._kept.values()):
            with torch.no_grad():
                kept.parameter.copy_(kept.clone)
        for kept in self._kept.values():
            now = parameter_at(self._model, kept.name)
            if hash_tensors([(kept.name, now)]) != kept.fingerprint:
                raise AuditError(
                    f"{kept.name} could not be restored because it was replaced by another tensor; "
                    "change the patch to write weights in place."
                )
        self._kept.clear()


@contextmanager
def originals_kept(lm: LanguageModel) -> Iterator[Originals]:
    """Undo everything written through the yielded `Originals` on exit, also after an exception."""
    originals = Originals(lm)
    try:
        yield originals
    finally:
        originals.restore()


def parameter_at(model: nn.Module, name: str) -> nn.Parameter:
    """The parameter `name` (a tied one under any of its names); raises `AuditError` if there is none."""
    try:
        return model.get_parameter(name)
    except AttributeError:
        raise AuditError(
            f"the model has no parameter {name!r}; apply the patch to the model that it was made for."
        ) from None


@dataclass(frozen=True, eq=False)
class _Kept:
    name: str
    parameter: nn.Parameter
    clone: Tensor
    fingerprint: str
