"""The upper part of a model, run many times from one hidden state that the lower part computed once.

    upper = UpperBlocks.prepared(lm, rows, start=18)
    hidden = upper.entering.clone()  # (rows, columns from the lookup on, hidden_size)
    hidden[:, 0] += delta            # column 0 is the lookup
    logits = upper.logits(hidden, at_rows, at_columns)

The model's own forward runs, with three changes during the call: blocks below `start` return their input, the hidden
state that enters block `start` (or the final norm) is replaced, and the head receives the requested places only. So
masks, rotary embeddings, logit scaling and soft-capping are the model's own.

Columns before the lookup do not depend on the lookup (causality). Their keys and values are kept, and only the columns
from the lookup on are run.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from audit.engine.prefix_cache import SplitRows, constant_prefix, unsplit
from audit.engine.sequences import AlignedRows
from audit.engine.taps import in_rows, tapped
from audit.models.forward_overrides import block_skipped, forward_replaced, head_at, input_replaced, tuple_length
from audit.models.language_model import LanguageModel


@dataclass(frozen=True, eq=False)
class UpperBlocks:
    """Rows prepared for the blocks from `start` on.

    Attributes:
        rows: the rows without shared prefixes, aligned at the lookup; the mask covers all columns.
        start: the first block to run; if it is the depth of the model, only the final norm and the head run.
        entering: the input of block `start` from the lookup on, (rows, columns, hidden_size), without gradient.
        prefix: keys and values of the columns before the lookup, one pair per layer; empty if there are none.
        tuple_length: the number of values that a block returns, 0 for a bare tensor.
    """

    lm: LanguageModel
    rows: AlignedRows
    start: int
    entering: Tensor
    prefix: tuple[tuple[Tensor, Tensor], ...]
    tuple_length: int

    @classmethod
    def prepared(
        cls,
        lm: LanguageModel,
        rows: AlignedRows | SplitRows,
        start: int,
        *,
        lower_only: bool = False,
        whole: bool = False,
    ) -> "UpperBlocks":
        """Run all blocks once, without gradient, and keep what the upper part needs.

        With `lower_only`, the pass ends before block `start`. That is enough for rows whose lookup is their first
        column, because they have no earlier keys and values. With `whole`, the pass runs to its end, for callers whose
        own taps read the last MLP.
        """
        anatomy = lm.anatomy
        lengths: list[int] = []

        def note_length(_: nn.Module, __: Any, output: Any) -> None:
            lengths.append(tuple_length(output))

        entry = anatomy.blocks[start] if start < anatomy.depth else anatomy.final_norm
        # The last block's keys and values are there before its MLP runs, and nothing above is read.
        stop = anatomy.mlps[-1] if start < anatomy.depth - 1 and not whole else None
        split_rows = rows if isinstance(rows, SplitRows) else unsplit(rows)
        rest = split_rows.rest
        lowest = min(start, anatomy.depth - 1)
        hook = lm.model.get_submodule(anatomy.blocks[0]).register_forward_hook(note_length)
        try:
            with tapped(lm, len(rest.ids), inputs=[entry], stop=entry if lower_only else stop) as taps:
                pairs = split_rows.run(lm, lowest if split_rows.before else None)
        finally:
            hook.remove()
        # Blocks below `start` do not read their pair; they share one, because the cache needs its length.
        prefix = [pairs[max(index - lowest, 0)] for index in range(anatomy.depth)] if pairs else []
        return cls(lm, rest, start, taps.inputs[entry][:, rest.lookup :], tuple(prefix), lengths[0] if lengths else 0)

    def entered_at(self, start: int, entering: Tensor) -> "UpperBlocks":
        """The same rows for an equal or higher `start`; `entering` is the input of that block from the lookup on.

        So one call of `prepared` is enough for many starts.
        """
        last = len(self.prefix) - 1
        prefix = tuple(self.prefix[min(max(index, start), last)] for index in range(len(self.prefix)))
        return UpperBlocks(self.lm, self.rows, start, entering, prefix, self.tuple_length)

    def select(self, rows: Tensor) -> "UpperBlocks":
        """The same for some of the rows, given as indices."""

        def chosen(tensor: Tensor) -> Tensor:
            return tensor[rows.to(tensor.device)]  # layers may be on different devices

        shared = {id(pair): (chosen(pair[0]), chosen(pair[1])) for pair in self.prefix}
        prefix = tuple(shared[id(pair)] for pair in self.prefix)
        entering = chosen(self.entering)
        return UpperBlocks(self.lm, self.rows.select(rows), self.start, entering, prefix, self.tuple_length)

    def logits(self, entering: Tensor, at_rows: Tensor, at_columns: Tensor, lean: bool = False) -> Tensor:
        """Logits (places, vocabulary) in float32 at (row, column counted from the lookup), for a given `entering`.

        The result is on `lm.device`, even if the head is on another device. With `lean`, the last MLP runs at these
        places only, so callers must not tap it.
        """
        model, anatomy = self.lm.model, self.lm.anatomy
        entry = anatomy.blocks[self.start] if self.start < anatomy.depth else anatomy.final_norm

        with ExitStack() as changes:
            cache = changes.enter_context(constant_prefix(self.lm, self.prefix)) if self.prefix else None
            for path in anatomy.blocks[: self.start]:
                changes.enter_context(block_skipped(model.get_submodule(path), self.tuple_length))
            changes.enter_context(input_replaced(model.get_submodule(entry), entering))
            if lean and self.start < anatomy.depth:
                last = model.get_submodule(anatomy.mlps[-1])
                changes.enter_context(only_at(last, len(entering), at_rows, at_columns))
            changes.enter_context(head_at(model, at_rows, at_columns))
            output = model(
                input_ids=self.rows.ids[:, self.rows.lookup :],
                attention_mask=self.rows.mask,
                position_ids=self.rows.positions[:, self.rows.lookup :],
                past_key_values=cache,
                use_cache=cache is not None,
            )
        return output.logits.to(self.lm.device).float()  # type: ignore[no-any-return]


@contextmanager
def only_at(module: nn.Module, rows: int, at_rows: Tensor, at_columns: Tensor) -> Iterator[None]:
    """Inside the context, an MLP computes only the places (at_rows, at_columns) and returns 0 at all others.

    Use it for the last MLP only, and read only these places: no module above that MLP mixes tokens.
    """
    forward = module.forward

    def sparse(hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        by_row = in_rows(hidden, rows)  # (rows, columns, width)
        places = at_rows.to(by_row.device), at_columns.to(by_row.device)
        output: Tensor = forward(by_row[places].view(*(1,) * (hidden.dim() - 2), -1, by_row.shape[-1]), *args, **kwargs)
        everywhere = output.new_zeros(*by_row.shape[:2], output.shape[-1])  # (rows, columns, width)
        return everywhere.index_put(places, output.flatten(0, -2)).view(*hidden.shape[:-1], output.shape[-1])

    with forward_replaced(module, sparse):
        yield
