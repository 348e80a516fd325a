"""A codebook on one layer: where the layer's input is close to a stored key, its output is replaced by a stored value.

    codebook = Codebook.empty("transformer.h.3.mlp.c_proj").with_entry(key, value, label, radius=5.0)
    with ModulePatch((codebook,)).applied(lm):
        ...  # near the key the layer returns the value; everywhere else its output is bit-identical

This is the memory of GRACE (Hartvigsen et al. 2022, arXiv 2211.11031, section 3). The reference code decides once per
call, at the last prompt token, and keeps the decision during generation. Here every position of every row is decided
separately from its own input. An answer therefore does not depend on batch, padding, or how a text is split into calls.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from audit.models.anatomy import module_at
from audit.models.language_model import LanguageModel

Label = tuple[int, ...]  # the token ids of a target
SAME_PLACE = 1e-3  # share of the key's norm: closer keys count as the same key
_ROUNDING = 1e-3  # share of the squared norms: upper bound on the error of the fast distance


@dataclass(frozen=True, eq=False)
class Codebook:
    """A codebook on the layer `module`: each entry covers the ball of its radius around its key.

    `keys` (entries, inputs), `values` (entries, outputs) and `radii` (entries,) are float32. `labels` are the token ids
    of the targets. Balls of different labels never overlap; where balls of one label overlap, the nearest key is used.
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
        """Rebuild a codebook from its saved `tensors` and `settings`."""
        labels = tuple(tuple(int(token) for token in label) for label in settings["labels"])
        return cls(settings["module"], tensors["keys"], tensors["values"], tensors["radii"], labels)

    @property
    def slot(self) -> str:
        """The attachment slot: one codebook per layer."""
        return slot_of(self.module)

    def full_prompt(self, prompt: str) -> str:
        """`prompt` unchanged."""
        return prompt

    def tensors(self) -> dict[str, Tensor]:
        """Keys, values and radii, for saving."""
        return {"keys": self.keys, "values": self.values, "radii": self.radii}

    def settings(self) -> dict[str, Any]:
        """Module and labels, for saving."""
        return {"module": self.module, "labels": [list(label) for label in self.labels]}

    def with_entry(self, key: Tensor, value: Tensor, label: Label, radius: float) -> "Codebook":
        """A codebook with one more entry; `key` is (inputs,), `value` (outputs,).

        The rules are those of GRACE (algorithm 1), except that a split considers all entries, not only the nearest:
        - a key at the position of a stored key replaces it, so the latest edit of a prompt wins;
        - *split*: if the new ball touches a ball of another label, both shrink to half the distance between their keys;
        - *extend*: if the nearest key has the same label and its ball would touch the new one, its radius grows to
          reach the new key, but not into a ball of another label.
        Labels are compared as token sequences. The reference code stores no new entry when it extends, and loses the
        new key if that ball is split later; here every edit has its own entry.
        """
        key, value = key.detach().float().cpu()[None], value.detach().float().cpu()[None]  # (1, width)
        if not len(self.labels):
            return Codebook(self.module, key, value, torch.tensor([radius]), (label,))
        old = self._selected((_distances(key, self.keys)[0] > SAME_PLACE * key.norm()).nonzero()[:, 0])
        apart, radii = _distances(key, old.keys)[0], old.radii.clone()  # (entries,) twice
        unlike = torch.tensor([other != label for other in old.labels], dtype=torch.bool)

        touched = unlike & (apart < radii + radius)
        radii[touched] = torch.minimum(radii[touched], apart[touched] / 2)
        new_radius = torch.tensor([radius, *(apart[touched] / 2).tolist()]).min()
        if len(apart):
            nearest = int(apart.argmin())
            if not unlike[nearest] and apart[nearest] <= radii[nearest] + radius:
                # distance to the balls of other labels
                room = (_distances(old.keys[nearest][None], old.keys)[0] - radii)[unlike]
                reach = torch.cat([apart[nearest][None], room]).min()
                radii[nearest] = torch.maximum(radii[nearest], reach)
        return Codebook(
            self.module,
            torch.cat([old.keys, key]),
            torch.cat([old.values, value]),
            torch.cat([radii, new_radius[None]]),
            (*old.labels, label),
        )

    def nearest_entries(self, inputs: Tensor) -> Tensor:
        """The index (positions,) of the entry whose ball contains each of `inputs` (positions, inputs); -1 for none.

        If several do, the nearest key is used. A fast product excludes most positions; the exact distance is computed
        for the rest only.
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
        """Register the hook that replaces outputs of the layer; the returned function removes it."""
        values = self.values.to(lm.device)

        def replace(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            entries = self.nearest_entries(args[0].detach().flatten(0, -2)).view(args[0].shape[:-1])
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
    """The attachment slot of a codebook on `module`."""
    return f"codebook {module}"


def _distances(these: Tensor, those: Tensor) -> Tensor:
    """Pairwise ‖a − b‖, computed from the differences to avoid cancellation when a is close to b."""
    return torch.cdist(these, those, compute_mode="donot_use_mm_for_euclid_dist")
