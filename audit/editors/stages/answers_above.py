"""The loss of targets as a function of one down projection's output, from the last prompt token on.

    answers = AnswersAbove.prepared(lm, [target_row(lm, request) for request in requests], layer=3)
    losses = answers.losses(lambda inputs, outputs: outputs + inputs @ change.T)  # (rows,)

For editors that leave the weights alone and replace a layer's output (GRACE, WISE). The input of the down projection
does not depend on its output, so it is computed once, and only the blocks from there on run again, on the columns from
the last prompt token on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from audit.editors.stages.fine_tuning import TargetLabels, TargetRow
from audit.engine.sequences import EditSequence, align
from audit.engine.taps import in_rows, run_body, tapped
from audit.engine.upper_blocks import UpperBlocks
from audit.models.language_model import LanguageModel


@dataclass(frozen=True, eq=False)
class AnswersAbove:
    """Rows prepared for one layer.

    Column 0 is the last prompt token, and column t predicts token t of the target; shorter targets are padded. All
    tensors are on `lm.device`, wherever the layer is.

    Attributes:
        inputs: of the down projection, (rows, columns, inner).
        outputs: of the down projection, (rows, columns, hidden).
        labels: of all rows, with columns as above, and weights in the mean over a target's tokens.
    """

    upper: UpperBlocks
    down: nn.Module
    inputs: Tensor
    outputs: Tensor
    labels: TargetLabels

    @classmethod
    def prepared(cls, lm: LanguageModel, rows: Sequence[TargetRow], layer: int) -> "AnswersAbove":
        """Run all rows once, without gradient, on the model with its attachments."""
        down = lm.anatomy.down_projections[layer]
        sequences = aligned_sequences(rows)
        aligned = align(sequences, lm.device)
        with tapped(lm, len(rows), inputs=[down], outputs=[down], stop=down) as taps:
            run_body(lm, aligned.ids, aligned.mask, aligned.positions)
        upper = UpperBlocks.prepared(lm, aligned, start=layer)
        labels = TargetLabels.of(rows, sequences, 1.0, lm.device)
        inputs, outputs = (tap[down][:, aligned.lookup :].to(lm.device) for tap in (taps.inputs, taps.outputs))
        return cls(upper, lm.model.get_submodule(down), inputs, outputs, labels)

    @property
    def activations(self) -> Tensor:
        """The down projection's inputs where target tokens are predicted, (labels, inner) in float32."""
        return self.inputs[self.labels.rows, self.labels.columns].float()

    def losses(self, output_of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """−log p of each row's target, the mean over its tokens: (rows,) in float32.

        `output_of` maps the down projection's input and output, (rows, columns, width) each, on `lm.device`, to the
        output to use.
        """
        labels, rows = self.labels, len(self.inputs)
        device = labels.ids.device

        def replace(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            replaced = output_of(in_rows(args[0], rows).to(device), in_rows(output, rows).to(device))
            return replaced.to(output.device, output.dtype).view(output.shape)

        hook = self.down.register_forward_hook(replace)
        try:
            nll = labels.losses(self.upper)  # (labels,)
        finally:
            hook.remove()
        return torch.zeros(rows, device=device).index_add(0, labels.rows, nll * labels.weights)


def aligned_sequences(rows: Sequence[TargetRow]) -> list[EditSequence]:
    """The rows as sequences, with the last token of the prompt as the lookup."""
    return [EditSequence(row.ids, row.places[0]) for row in rows]
