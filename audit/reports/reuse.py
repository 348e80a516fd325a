"""What a run did not have to do: counts, which several processes may add up, and the sentences that tell of them."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class TakenOver:
    """Of what there was to do, what an earlier run had done, or the base model for the edited ones.

    A block token is one token going through one block of an edited model. A draft is a written answer of the base
    model; it stood where the edited model writes the same.
    """

    edits: int = 0
    edits_resumed: int = 0
    answers: int = 0
    answers_known: int = 0
    block_tokens: int = 0
    block_tokens_shared: int = 0
    drafts: int = 0
    drafts_stood: int = 0

    def sentences(self) -> tuple[str, ...]:
        """One for each kind of which something was taken over."""
        told = []
        if self.edits_resumed:
            told.append(f"edits: {self.edits_resumed} of {self.edits} were taken over from a run that was interrupted")
        if self.answers_known:
            told.append(f"answers: {self.answers_known} of {self.answers} had been given in earlier runs")
        reused = []
        if self.drafts_stood:
            reused.append(f"{self.drafts_stood} of {self.drafts} answers stood as the base model wrote them")
        if self.block_tokens_shared:
            share = self.block_tokens_shared / self.block_tokens
            reused.append(f"{share:.0%} of the edited models' block computations were shared")
        return (*told, f"reuse: {'; '.join(reused)}") if reused else tuple(told)


def summed(several: Iterable[TakenOver]) -> TakenOver:
    """What processes of one run took over together. They share the edits, and each knows of all that were resumed."""
    counts = [asdict(one) for one in several]
    total = {name: sum(one[name] for one in counts) for name in asdict(TakenOver())}
    total |= {name: max((one[name] for one in counts), default=0) for name in ("edits", "edits_resumed")}
    return TakenOver(**total)
