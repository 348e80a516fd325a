"""The upper part of a model, run again and again from one hidden state that the lower part gave once.

    upper = UpperBlocks.prepared(lm, rows, start=18)
    hidden = upper.entering.clone()  # (rows, columns from the lookup on, hidden_size)
    hidden[:, 0] += delta            # column 0 is the lookup
    logits = upper.logits(hidden, at_rows, at_columns)

The model's own forward runs, with three detours that live only as long as the call: blocks below `start` hand their
input through, the hidden state that enters block `start` (or the final norm) is replaced, and the head sees only the
places that are asked for. Nothing of any architecture is written a second time, so masks, rotary embeddings, logit
scaling and soft-capping are the model's own.

Columns before the lookup do not depend on what happens at the lookup (causality), so their keys and values are kept
and only the columns from the lookup on are run.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from audit.engine.constant_prefix import constant_prefix
from audit.engine.lean_modules import only_at
from audit.engine.sequences import AlignedRows
from audit.engine.shared_beginnings import BegunRows, not_begun
from audit.engine.taps import tapped
from audit.models.detours import entered_with, handing_through, tuple_length
from audit.models.language_model import LanguageModel


@dataclass(frozen=True, eq=False)
class UpperBlocks:
    """`entering`: what enters block `start` from the lookup column on, (rows, columns, hidden_size), no gradient.

    `prefix` holds keys and values of the columns before the lookup, one pair a layer; empty when there are none.
    `start` equal to the model's depth means: only the final norm and the head are left to run.
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
        rows: AlignedRows | BegunRows,
        start: int,
        *,
        lower_only: bool = False,
        whole: bool = False,
    ) -> "UpperBlocks":
        """Run the whole body once, without a gradient, and keep what the upper part needs.

        Rows may have been begun already. With `lower_only` the pass ends where block `start` begins: enough for rows
        whose lookup is their first column, as there is no prefix whose keys and values the upper part would need. With
        `whole` it runs to its end, for callers whose own taps look into the last MLP.
        """
        anatomy = lm.anatomy
        lengths: list[int] = []

        def see(_: nn.Module, __: Any, output: Any) -> None:
            lengths.append(tuple_length(output))

        entry = anatomy.blocks[start] if start < anatomy.depth else anatomy.final_norm
        # The last block's keys and values are there before its MLP runs, and nothing above is looked at.
        stop = anatomy.mlps[-1] if start < anatomy.depth - 1 and not whole else None
        begun = rows if isinstance(rows, BegunRows) else not_begun(rows)
        rows = begun.rows
        lowest = min(start, anatomy.depth - 1)
        hook = lm.model.get_submodule(anatomy.blocks[0]).register_forward_hook(see)
        try:
            with tapped(lm, len(rows.ids), inputs=[entry], stop=entry if lower_only else stop) as taps:
                kept = begun.run(lm, lowest if begun.before else None)
        finally:
            hook.remove()
        # Layers that are handed through never look at theirs; they share one so that only its length is there.
        prefix = [kept[max(index - lowest, 0)] for index in range(anatomy.depth)] if kept else []
        return cls(lm, rows, start, taps.inputs[entry][:, rows.lookup :], tuple(prefix), lengths[0] if lengths else 0)

    def entered_at(self, start: int, entering: Tensor) -> "UpperBlocks":
        """The same rows, entered at block `start` or higher: `entering` is what enters there from the lookup on.

        Many starts then share the one pass that `prepared` made.
        """
        # As in `prepared`: handed-through layers share a pair, for its length alone.
        last = len(self.prefix) - 1
        prefix = tuple(self.prefix[min(max(index, start), last)] for index in range(len(self.prefix)))
        return UpperBlocks(self.lm, self.rows, start, entering, prefix, self.tuple_length)

    def select(self, rows: Tensor) -> "UpperBlocks":
        """The same for some rows only."""

        def chosen(tensor: Tensor) -> Tensor:
            return tensor[rows.to(tensor.device)]  # each layer may be on a device of its own

        shared = {id(pair): (chosen(pair[0]), chosen(pair[1])) for pair in self.prefix}
        prefix = tuple(shared[id(pair)] for pair in self.prefix)
        entering = chosen(self.entering)
        return UpperBlocks(self.lm, self.rows.select(rows), self.start, entering, prefix, self.tuple_length)

    def logits(self, entering: Tensor, at_rows: Tensor, at_columns: Tensor, lean: bool = False) -> Tensor:
        """Logits (places, vocabulary) in float32 at (row, column counted from the lookup), for a given `entering`.

        They are on `lm.device`, wherever the head is. With `lean` the last block's MLP sees no other places either;
        not for callers who look into it.
        """
        model, anatomy = self.lm.model, self.lm.anatomy
        entry = anatomy.blocks[self.start] if self.start < anatomy.depth else anatomy.final_norm

        def only_asked(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            hidden = args[0]
            return (hidden[at_rows.to(hidden.device), at_columns.to(hidden.device)], *args[1:])  # (places, hidden_size)

        with ExitStack() as detours:
            cache = detours.enter_context(constant_prefix(self.lm, self.prefix)) if self.prefix else None
            for path in anatomy.blocks[: self.start]:
                detours.enter_context(handing_through(model.get_submodule(path), self.tuple_length))
            detours.enter_context(entered_with(model.get_submodule(entry), entering))
            if lean and self.start < anatomy.depth:
                last = model.get_submodule(anatomy.mlps[-1])
                detours.enter_context(only_at(last, len(entering), at_rows, at_columns))
            head: nn.Module = model.get_output_embeddings()  # type: ignore[no-untyped-call]
            detours.callback(head.register_forward_pre_hook(only_asked).remove)
            output = model(
                input_ids=self.rows.ids[:, self.rows.lookup :],
                attention_mask=self.rows.mask,
                position_ids=self.rows.positions[:, self.rows.lookup :],
                past_key_values=cache,
                use_cache=cache is not None,
            )
        return output.logits.to(self.lm.device).float()  # type: ignore[no-any-return]
