"""Passes through the blocks from the lowest edited one on, for tokens that are put to the model again and again.

    passes = UpperPasses(start=27)
    losses = row_losses(lm, rows, passes.logits_at)  # runs the lower blocks for rows that it has not seen yet

Only maps in the blocks from `start` on are edited, so the hidden states that enter block `start` depend on the tokens
alone. They are computed once for each row of tokens and kept. Each row is computed alone, so that its states do not
depend on the rows beside it, and an interrupted training can be resumed bit for bit.
"""

import torch
from torch import Tensor

from audit.editors.stages.rank_one_gradients import logits_at
from audit.engine.lower_blocks import LIMIT_BYTES, LowerStates
from audit.engine.sequences import AlignedRows
from audit.engine.upper_blocks import UpperBlocks
from audit.models.language_model import LanguageModel


class UpperPasses:
    """Passes of one model, whose weights below block `start` must not change.

    Args:
        start: the lowest edited block.
        limit_bytes: the size up to which hidden states are kept; further rows are computed again each time.
    """

    def __init__(self, start: int, limit_bytes: int = LIMIT_BYTES) -> None:
        self._states = LowerStates(start, limit_bytes)

    def logits_at(self, lm: LanguageModel, ids: Tensor, mask: Tensor, positions: Tensor, wanted: Tensor) -> Tensor:
        """Logits (places, vocabulary) in float32 where `wanted` is true; all arguments are (rows, columns).

        The same numbers, and gradients, as those of `rank_one_gradients.logits_at`. Padding is on the right.
        """
        if not self._states.first_edited:
            return logits_at(lm, ids, mask, positions, wanted)
        states = [self._state(lm, row[: int(length)]) for row, length in zip(ids, mask.sum(1), strict=True)]
        entering = torch.nn.utils.rnn.pad_sequence(states, batch_first=True)  # (rows, columns, hidden_size)
        rows = AlignedRows(ids, mask, positions, 0)
        upper = UpperBlocks(lm, rows, self._states.first_edited, entering, (), self._states.tuple_length)
        at_rows, at_columns = wanted.nonzero(as_tuple=True)
        return upper.logits(entering, at_rows, at_columns)

    def _state(self, lm: LanguageModel, ids: Tensor) -> Tensor:
        """The hidden state of one row (columns,) that enters block `start`, (columns, hidden_size)."""
        key = (ids.to("cpu", torch.int32).numpy().tobytes(), 0)
        state = self._states.get(key)
        if state is None:
            every = torch.ones_like(ids)[None]
            row = AlignedRows(ids[None], every, every.cumsum(1) - 1, 0)
            upper = UpperBlocks.prepared(lm, row, self._states.first_edited, lower_only=True)
            self._states.tuple_length = upper.tuple_length
            (state,) = upper.entering
            self._states.keep(key, state)
        return state.to(lm.device)
