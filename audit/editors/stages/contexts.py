"""Prefix contexts: short texts put before a prompt so that an edit does not hang on how a sentence begins.

ROME averages its key over the bare prompt and twenty continuations of "<|endoftext|>" in one flat mean; MEMIT takes
the bare prompt as one group and five continuations of common sentence openings as another. Contexts belong to an
editor object and are drawn with its seed, so the same model state gives the same contexts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.tokens import encode

OPENINGS = ("The", "Therefore", "Because", "I", "You")
_TOP_K = 5


@dataclass(frozen=True)
class Contexts:
    """Groups of prefixes; a prefix is put before the filled prompt as it is, so braces in it are only braces.

    The first prefix of the first group is "", the bare prompt.
    """

    groups: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if not self.groups or not all(self.groups) or self.groups[0][0] != "":
            raise AuditError(f'The first prefix context must be "", the bare prompt; got {self.groups!r}.')

    @property
    def prefixes(self) -> tuple[str, ...]:
        return tuple(prefix for group in self.groups for prefix in group)

    @property
    def weights(self) -> tuple[float, ...]:
        """The weight of each prefix in a mean of group means; they sum to one."""
        return tuple(1 / len(group) / len(self.groups) for group in self.groups for _ in group)


def sample_prefixes(lm: LanguageModel, openings: Sequence[str], count: int, length: int, seed: int) -> tuple[str, ...]:
    """`count` texts of `length` new tokens each, top-5 sampled, as "<text>. ", openings taken in turn.

    An empty opening starts from the BOS token (EOS where there is none). Special tokens are never drawn.
    """
    starts = [_start_ids(lm, openings[index % len(openings)]) for index in range(count)]
    texts = [""] * count
    generator = torch.Generator().manual_seed(seed)
    for size in sorted({len(start) for start in starts}):  # equal lengths side by side: no padding at all
        chosen = [index for index, start in enumerate(starts) if len(start) == size]
        rows = torch.tensor([starts[index] for index in chosen], device=lm.device)
        for index, ids in zip(chosen, _continued(lm, rows, length, generator).tolist(), strict=True):
            text = " ".join(str(lm.tokenizer.decode(ids, skip_special_tokens=True)).split())
            texts[index] = f"{text}. " if text else ""
    return tuple(texts)


def _start_ids(lm: LanguageModel, opening: str) -> list[int]:
    if opening:
        return encode(lm.tokenizer, opening)
    start = lm.tokenizer.bos_token_id if lm.tokenizer.bos_token_id is not None else lm.tokenizer.eos_token_id
    return [int(start)] if start is not None else encode(lm.tokenizer, OPENINGS[0])


@torch.no_grad()
def _continued(lm: LanguageModel, rows: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """Append `length` sampled tokens to rows (rows, tokens) of equal length."""
    banned = torch.tensor(sorted(set(lm.tokenizer.all_special_ids)), dtype=torch.long, device=lm.device)
    for _ in range(length):
        positions = torch.arange(rows.shape[1], device=rows.device).expand_as(rows)
        output = lm.model(
            input_ids=rows,
            attention_mask=torch.ones_like(rows),
            position_ids=positions,
            use_cache=False,
            logits_to_keep=1,
        )
        logits = output.logits[:, -1].float()  # (rows, vocabulary)
        logits[:, banned] = -torch.inf
        best, tokens = logits.topk(min(_TOP_K, logits.shape[1]), dim=-1)
        if not bool(torch.isfinite(best).all()):
            raise AuditError(
                f"The model {lm.name!r} gives logits that are not finite, so no prefix contexts can be drawn from it; "
                "load it with dtype float32."
            )
        # Drawn on the CPU, so that one seed means the same texts on every device (up to the model's own rounding).
        drawn = torch.multinomial(best.softmax(-1).cpu(), 1, generator=generator).to(rows.device)
        rows = torch.cat([rows, tokens.gather(1, drawn)], dim=1)
    return rows
