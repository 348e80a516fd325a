"""How well targets are said, as a function of what one layer's MLP says from the last prompt token on.

    answers = AnswersAbove.prepared(lm, [target_row(lm, request) for request in requests], layer=3)
    losses = answers.losses(lambda seen, said: said + seen @ change.T)  # (rows,)

For editors that leave the weights alone and answer in the layer's stead. What goes into the layer's down projection
does not depend on what comes out of it, so it is computed once, and only the blocks from there on run again, over the
columns from the last prompt token on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from audit.editors.stages.fine_tuning import TargetRow
from audit.engine.sequences import EditSequence, align
from audit.engine.taps import in_rows, run_body, tapped
from audit.engine.upper_blocks import UpperBlocks
from audit.models.language_model import LanguageModel


@dataclass(frozen=True, eq=False)
class AnswersAbove:
    """`seen` (rows, columns, inner) and `said` (rows, columns, hidden) are the down projection's input and output.

    Column 0 is the last prompt token, and column t predicts the target's token t; shorter targets are followed by
    padding. `at_rows`, `at_columns`, `labels` and `weights` are (labels,): where the loss looks, for what, and how
    much. All are on `lm.device`, wherever the layer is.
    """

    upper: UpperBlocks
    down: nn.Module
    seen: Tensor
    said: Tensor
    at_rows: Tensor
    at_columns: Tensor
    labels: Tensor
    weights: Tensor

    @classmethod
    def prepared(cls, lm: LanguageModel, rows: Sequence[TargetRow], layer: int) -> "AnswersAbove":
        """Run everything once, without a gradient, as the model is now with all that is attached to it."""
        down = lm.anatomy.down_projections[layer]
        aligned = align(aligned_sequences(rows), lm.device)
        with tapped(lm, len(rows), inputs=[down], outputs=[down], stop=down) as taps:
            run_body(lm, aligned.ids, aligned.mask, aligned.positions)
        upper = UpperBlocks.prepared(lm, aligned, start=layer)
        found = [
            (index, column, label, 1 / len(row.labels))
            for index, row in enumerate(rows)
            for column, label in enumerate(row.labels)
        ]
        at_rows, at_columns, labels, weights = (
            torch.tensor(values, device=lm.device) for values in zip(*found, strict=True)
        )
        seen, said = (tap[down][:, aligned.lookup :].to(lm.device) for tap in (taps.inputs, taps.outputs))
        return cls(upper, lm.model.get_submodule(down), seen, said, at_rows, at_columns, labels, weights)

    @property
    def activations(self) -> Tensor:
        """What the down projection sees wherever a target token is predicted: (labels, inner) in float32."""
        return self.seen[self.at_rows, self.at_columns].float()

    def losses(self, saying: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """−log p of each row's target, the mean over its tokens: (rows,) in float32.

        `saying` gets what the down projection sees and says, (rows, columns, width) each, on `lm.device`, and gives
        what it is to say.
        """
        device, rows = self.labels.device, len(self.seen)

        def replace(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            said = saying(in_rows(args[0], rows).to(device), in_rows(output, rows).to(device))
            return said.to(output.device, output.dtype).view(output.shape)

        hook = self.down.register_forward_hook(replace)
        try:
            logits = self.upper.logits(self.upper.entering, self.at_rows, self.at_columns)  # (labels, vocabulary)
        finally:
            hook.remove()
        nll = nn.functional.cross_entropy(logits, self.labels, reduction="none")
        return torch.zeros(rows, device=device).index_add(0, self.at_rows, nll * self.weights)


def aligned_sequences(rows: Sequence[TargetRow]) -> list[EditSequence]:
    """The rows with the last token of each prompt as their lookup."""
    return [EditSequence(row.ids, row.places[0]) for row in rows]
