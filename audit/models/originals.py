"""What a model was before it was changed, and the way back: bit for bit, whatever happened in between.

    with originals_kept(lm) as originals:
        originals.keep("transformer.h.0.mlp.c_proj.weight").mul_(2)
        originals.attach(codebook)
    # the model as it was

Originals of the touched tensors are kept and copied back; subtracting a change again would leave rounding behind.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audit.errors import AuditError
from audit.models.language_model import Attached, Attachment, LanguageModel
from audit.store.content import hash_tensors


class Originals:
    """The tensors of a model as they were before their first change, and the attachments that were on it.

    `keep(name)` must be called before a parameter is written; it clones the tensor on the first call for that tensor
    only, so the memory spent is that of what was touched. Tied parameters are one tensor.
    """

    def __init__(self, lm: LanguageModel) -> None:
        self._lm = lm
        self._model = lm.model
        self._kept: dict[int, _Kept] = {}
        self._replaced: dict[str, Attachment | None] = {}

    def keep(self, name: str) -> nn.Parameter:
        """Remember parameter `name` and return it, ready to be written in place.

        Raises:
            AuditError: the model has no such parameter.
        """
        parameter = parameter_at(self._model, name)
        if id(parameter) not in self._kept:
            clone = parameter.detach().clone()
            self._kept[id(parameter)] = _Kept(name, parameter, clone, hash_tensors([(name, clone)]))
        return parameter

    def attach(self, attachment: Attachment) -> None:
        """Put an attachment on the model; the one that was in its slot comes off until `restore`."""
        slot = attachment.slot
        before = self._lm.attached.pop(slot, None)
        if before is not None:
            before.take_off()
        self._replaced.setdefault(slot, before.attachment if before else None)
        self._lm.attached[slot] = Attached(attachment, attachment.put_on(self._lm))

    def touched(self) -> tuple[tuple[str, Tensor, Tensor], ...]:
        """(name, original, current) of every kept tensor; the current one is the model's own, not a copy."""
        return tuple((kept.name, kept.clone, kept.parameter.detach()) for kept in self._kept.values())

    def restore(self) -> None:
        """Copy every kept tensor back and check that the model now holds it, bit for bit; attachments come off.

        Raises:
            AuditError: a parameter was replaced by another object instead of being written in place.
        """
        for slot, before in self._replaced.items():
            self._lm.attached.pop(slot).take_off()
            if before is not None:
                self._lm.attached[slot] = Attached(before, before.put_on(self._lm))
        self._replaced.clear()
        # Last kept first: should two tensors share memory, the older content lands last.
        for kept in reversed(self._kept.values()):
            with torch.no_grad():
                kept.parameter.copy_(kept.clone)
        for kept in self._kept.values():
            now = parameter_at(self._model, kept.name)
            if hash_tensors([(kept.name, now)]) != kept.fingerprint:
                raise AuditError(
                    f"{kept.name} is not what it was before the patch, because it was replaced by another tensor; "
                    "mend the patch so that it writes weights in place."
                )
        self._kept.clear()


@contextmanager
def originals_kept(lm: LanguageModel) -> Iterator[Originals]:
    """Everything written through the yielded `Originals` is undone on the way out, exceptions or not."""
    originals = Originals(lm)
    try:
        yield originals
    finally:
        originals.restore()


def parameter_at(model: nn.Module, name: str) -> nn.Parameter:
    """The parameter called `name` (tied ones under each of their names); AuditError when the model has none."""
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
