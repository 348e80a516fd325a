"""A codebook beside one layer: where what the layer sees comes close to a stored key, it says a stored value.

    codebook = Codebook.empty("transformer.h.3.mlp.c_proj").with_entry(key, value, label, radius=5.0)
    with ModulePatch((codebook,)).applied(lm):
        ...  # near the key the layer says the value, everywhere else it is untouched, bit for bit

This is GRACE's memory (Hartvigsen et al. 2022, arXiv 2211.11031, section 3). The reference decides once a call, by the
last prompt token, and keeps the decision while it generates. Here each position of each row decides for itself, by its
own input, so an answer depends neither on the batch and its padding nor on how a text is cut into calls.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from audit.models.anatomy import module_at
from audit.models.language_model import LanguageModel

Label = tuple[int, ...]  # the token ids of a target
SAME_PLACE = 1e-3  # of a key's norm: closer keys are one key, up to rounding
_ROUNDING = 1e-3  # of the squared norms: more than the fast distance can be wrong


@dataclass(frozen=True, eq=False)
class Codebook:
    """Entries of the layer `module`: `keys` (entries, inputs), `values` (entries, outputs), `radii` (entries,).

    All are float32. Each entry owns the ball of its radius around its key. Balls of different labels never overlap;
    where balls of one label do, the nearest key decides.
    """

    kind: ClassVar[str] = "codebook"

    module: str
    keys: Tensor
    values: Tensor
    radii: Tensor
    labels: tuple[Label, ...]

    @classmethod
    def empty(cls, module: str) -> "Codebook":
        """A codebook that changes nothing."""
        return cls(module, torch.zeros(0, 0), torch.zeros(0, 0), torch.zeros(0), ())

    @classmethod
    def restored(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> "Codebook":
        """The codebook that has these `tensors` and `settings`."""
        labels = tuple(tuple(int(token) for token in label) for label in settings["labels"])
        return cls(settings["module"], tensors["keys"], tensors["values"], tensors["radii"], labels)

    @property
    def slot(self) -> str:
        return slot_of(self.module)

    def asked(self, prompt: str) -> str:
        return prompt

    def tensors(self) -> dict[str, Tensor]:
        return {"keys": self.keys, "values": self.values, "radii": self.radii}

    def settings(self) -> dict[str, Any]:
        return {"module": self.module, "labels": [list(label) for label in self.labels]}

    def with_entry(self, key: Tensor, value: Tensor, label: Label, radius: float) -> "Codebook":
        """A codebook that holds one entry more; `key` is (inputs,), `value` (outputs,).

        GRACE's rules (algorithm 1), for all entries rather than the nearest one alone:
        - a key at the place of a stored one takes its place, so the latest edit of a prompt holds;
        - *split*: a foreign ball that the new one would touch and the new ball shrink to half of their distance;
        - *extend*: if the nearest key has the same label and its ball would touch the new one, it grows to reach the
          new key, as far as no foreign ball stands in the way.
        Labels are compared as token sequences. The reference stores nothing new when it extends and loses the new key
        if that ball is split later; here each edit keeps an entry of its own.
        """
        key, value = key.detach().float().cpu()[None], value.detach().float().cpu()[None]  # (1, width)
        if not len(self.labels):
            return Codebook(self.module, key, value, torch.tensor([radius]), (label,))
        old = self._selected((_distances(key, self.keys)[0] > SAME_PLACE * key.norm()).nonzero()[:, 0])
        apart, radii = _distances(key, old.keys)[0], old.radii.clone()  # (entries,) twice
        foreign = torch.tensor([other != label for other in old.labels], dtype=torch.bool)

        touched = foreign & (apart < radii + radius)
        radii[touched] = torch.minimum(radii[touched], apart[touched] / 2)
        new_radius = torch.tensor([radius, *(apart[touched] / 2).tolist()]).min()
        if len(apart):
            nearest = int(apart.argmin())
            if not foreign[nearest] and apart[nearest] <= radii[nearest] + radius:
                room = (_distances(old.keys[nearest][None], old.keys)[0] - radii)[foreign]  # up to each foreign ball
                reach = torch.cat([apart[nearest][None], room]).min()
                radii[nearest] = torch.maximum(radii[nearest], reach)
        return Codebook(
            self.module,
            torch.cat([old.keys, key]),
            torch.cat([old.values, value]),
            torch.cat([radii, new_radius[None]]),
            (*old.labels, label),
        )

    def chosen(self, inputs: Tensor) -> Tensor:
        """For each of `inputs` (positions, inputs) the entry whose ball holds it, the nearest of several; -1 for none.

        A quick product rules most positions out; what is left is measured exactly, position by position.
        """
        entries = torch.full((len(inputs),), -1, device=inputs.device)
        if not len(self.labels):
            return entries
        keys, radii = self.keys.to(inputs.device), self.radii.to(inputs.device)
        wide = inputs.float()
        squares = wide.square().sum(-1)[:, None] + keys.square().sum(-1)  # (positions, entries)
        near = squares - 2 * wide @ keys.T <= radii.square() + _ROUNDING * squares
        candidates = near.any(-1).nonzero()[:, 0]
        apart = _distances(wide[candidates], keys)  # (candidates, entries)
        apart = apart.masked_fill(~(apart <= radii), torch.inf)
        nearest, entry = apart.min(-1)
        entries[candidates] = entry.masked_fill(nearest.isinf(), -1)
        return entries

    def put_on(self, lm: LanguageModel) -> Callable[[], None]:
        values = self.values.to(lm.device)

        def replace(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            entries = self.chosen(args[0].detach().flatten(0, -2)).view(args[0].shape[:-1])
            hit = entries >= 0
            if not bool(hit.any()):
                return None
            replaced = output.clone()
            replaced[hit] = values[entries[hit]].to(output.device, output.dtype)
            return replaced

        return module_at(lm.model, self.module).register_forward_hook(replace).remove

    def _selected(self, entries: Tensor) -> "Codebook":
        labels = tuple(self.labels[entry] for entry in entries.tolist())
        return Codebook(self.module, self.keys[entries], self.values[entries], self.radii[entries], labels)


def slot_of(module: str) -> str:
    """The slot of a codebook beside `module`."""
    return f"codebook {module}"


def _distances(these: Tensor, those: Tensor) -> Tensor:
    """‖a − b‖ of every pair, from the differences themselves: nothing cancels where a is close to b."""
    return torch.cdist(these, those, compute_mode="donot_use_mm_for_euclid_dist")
