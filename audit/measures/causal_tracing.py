"""Causal tracing: where a model recalls a fact (Meng et al. 2022, arXiv 2202.05262, section 2.1).

    run = TracedRuns(lm, fact, noise)                    # the clean run, and runs with noise on the subject
    run.probabilities([NOTHING, Restored("mlp", (3, 4), (7,))])

Noise is added to the embeddings of the subject, then clean states are restored in one or a few layers at one position.
The indirect effect of these states is the increase in the probability of the right answer's first token. The output of
a block is restored alone. MLPs and attentions each add little to the residual stream, so they are restored in a window
of layers: 10 of 48 for GPT-2 XL as in the paper, the same share for other depths.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from audit.engine.batching import TOKEN_BUDGET, run_batches
from audit.engine.forward import CausalForward
from audit.engine.likelihoods import teacher_forced
from audit.engine.taps import hidden_of, in_rows, tapped, with_hidden
from audit.models.anatomy import module_at
from audit.models.language_model import LanguageModel
from audit.models.tokens import join, subject_span
from audit.progress import Progress

NOISE_SCALE = 3.0  # standard deviations of the embeddings, as in the paper
NOISE_SEED = 0
NOISE_SAMPLES = 5
WINDOW_SHARE = 10 / 48

Kind = Literal["block", "mlp", "attention"]
KINDS: tuple[Kind, ...] = ("block", "mlp", "attention")
TOKEN_ROLES = (
    "first subject token",
    "middle subject tokens",
    "last subject token",
    "first later token",
    "further tokens",
    "last prompt token",
)
_ROWS_OF_EMBEDDINGS = 4096


@dataclass(frozen=True)
class KnownFact:
    """A fact that the model knows; `prompt` has a `{}` for the subject and ends before the answer."""

    prompt: str
    subject: str
    answer: str

    @property
    def filled_prompt(self) -> str:
        """The prompt with the subject filled in."""
        before, after = self.prompt.split("{}", 1)
        return before + self.subject + after


@dataclass(frozen=True)
class Restored:
    """The clean states to restore: the outputs of modules of `kind` in `layers` at token `positions`."""

    kind: Kind
    layers: tuple[int, ...]
    positions: tuple[int, ...]


NOTHING = Restored("block", (), ())


@dataclass(frozen=True)
class Trace:
    """Mean probabilities of the first answer token over the traced facts; the tuples have one entry per block."""

    facts: int
    clean: float
    corrupted: float
    subject_last: tuple[float, ...]  # clean state restored at the last token of the subject
    prompt_last: tuple[float, ...]  # clean state restored at the last token of the prompt


@dataclass(frozen=True)
class Effects:
    """Average indirect effects over `facts` facts: by kind of module, then (roles, layers), in probability.

    `clean` and `corrupted` are the mean probabilities of the first answer token. `window` is the number of layers whose
    MLPs or attentions are restored together (blocks are restored alone). `role_facts` counts the facts with a token of
    each of `TOKEN_ROLES`; the effects of a role without facts are None.
    """

    facts: int
    clean: float
    corrupted: float
    samples: int
    window: int
    role_facts: tuple[int, ...]
    by_kind: dict[Kind, tuple[tuple[float, ...] | None, ...]]


class TracedRuns:
    """The clean run of one fact, and its corrupted runs with clean states restored.

    `noise` (samples, subject tokens, hidden_size) is added to the embeddings of the subject: one corrupted run per
    sample. `first` and `last` are the positions of the subject, `length` is the number of prompt tokens, and `clean` is
    the probability of the first answer token in the clean run.
    """

    def __init__(self, lm: LanguageModel, fact: KnownFact, noise: Tensor, token_budget: int = TOKEN_BUDGET) -> None:
        joined = join(lm.tokenizer, fact.filled_prompt, fact.answer)
        self.first, self.last = subject_span(lm.tokenizer, fact.prompt, fact.subject)
        self.length = joined.prompt_length
        self._lm, self._noise, self._token_budget = lm, noise, token_budget
        self._forward = CausalForward(lm)
        self._ids = torch.tensor(joined.prompt_ids, device=lm.device)
        self._answer = joined.target_ids[0]
        self._paths: dict[Kind, tuple[str, ...]] = {
            "block": lm.anatomy.blocks,
            "mlp": lm.anatomy.mlps,
            "attention": lm.anatomy.attentions,
        }
        with tapped(lm, 1, outputs=[path for paths in self._paths.values() for path in paths]) as taps:
            self.clean = float(self._answer_probabilities(1)[0])
        self._states = taps.outputs  # by path, (1, length, hidden_size)

    def probabilities(self, places: Sequence[Restored]) -> Tensor:
        """The probability of the first answer token with each of `places` restored, (places,): a mean over samples."""
        samples = len(self._noise)
        rows = [(place, sample) for place in places for sample in range(samples)]
        found = torch.zeros(len(rows))

        def run(batch: list[int]) -> None:
            with self._corrupted([rows[index] for index in batch]):
                found[batch] = self._answer_probabilities(len(batch)).cpu()

        each = max(1, self._token_budget // self.length)
        run_batches([list(range(len(rows))[start : start + each]) for start in range(0, len(rows), each)], run)
        return found.view(len(places), samples).mean(dim=1)

    def _answer_probabilities(self, rows: int) -> Tensor:
        ids = self._ids.repeat(rows, 1)  # (rows, length), without padding
        logits = self._forward(ids, torch.ones_like(ids), keep=1)[:, -1]  # (rows, vocabulary)
        return logits.float().softmax(-1)[:, self._answer]

    @contextmanager
    def _corrupted(self, rows: Sequence[tuple[Restored, int]]) -> Iterator[None]:
        """Add each row's noise sample to its subject, and restore its clean states."""
        noise = self._noise[[sample for _, sample in rows]]  # (rows, subject tokens, hidden)

        def corrupt(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            output = output.clone()  # (rows, length, hidden)
            output[:, self.first : self.last + 1] += noise.to(output)
            return output

        places: dict[str, list[tuple[int, int]]] = {}
        for row, (place, _) in enumerate(rows):
            for layer in place.layers:
                path = self._paths[place.kind][layer]
                places.setdefault(path, []).extend((row, position) for position in place.positions)
        with ExitStack() as hooks:
            embeddings = module_at(self._lm.model, self._lm.anatomy.embeddings)
            hooks.callback(embeddings.register_forward_hook(corrupt).remove)
            for path, at in places.items():
                hooks.callback(self._restoring_hook(path, at, len(rows)))
            yield

    def _restoring_hook(self, path: str, at: Sequence[tuple[int, int]], rows: int) -> Any:
        where, positions = torch.tensor(at).T

        def restore(_: nn.Module, __: Any, output: Any) -> Any:
            hidden = hidden_of(output).clone()
            in_rows(hidden, rows)[where, positions] = self._states[path][0, positions].to(hidden)
            return with_hidden(output, hidden)

        return module_at(self._lm.model, path).register_forward_hook(restore).remove


def recalled_facts(lm: LanguageModel, facts: Sequence[KnownFact], progress: Progress | None = None) -> list[KnownFact]:
    """The facts whose answer the model ranks first token by token, so that it would generate it greedily."""
    scores = teacher_forced(lm, [(fact.filled_prompt, fact.answer) for fact in facts], progress=progress)
    return [fact for fact, score in zip(facts, scores, strict=True) if all(score.token_hits)]


def trace_facts(lm: LanguageModel, facts: Sequence[KnownFact]) -> Trace:
    """Restore the output of each block at the last token of the subject and of the prompt, with one noise sample.

    Raises:
        ValueError: there are no facts.
    """
    depth = lm.anatomy.depth
    total = torch.zeros(2 + 2 * depth)
    for run in _traced(lm, facts, samples=1, seed=NOISE_SEED, token_budget=TOKEN_BUDGET):
        places = [Restored("block", (block,), (at,)) for at in (run.last, run.length - 1) for block in range(depth)]
        total += torch.cat([torch.tensor([run.clean]), run.probabilities([NOTHING, *places])])
    mean = (total / len(facts)).tolist()
    return Trace(len(facts), mean[0], mean[1], tuple(mean[2 : 2 + depth]), tuple(mean[2 + depth :]))


def measure_effects(
    lm: LanguageModel,
    facts: Sequence[KnownFact],
    *,
    samples: int = NOISE_SAMPLES,
    seed: int = NOISE_SEED,
    token_budget: int = TOKEN_BUDGET,
    progress: Progress | None = None,
) -> Effects:
    """Restore every kind of module in every layer at every token from the subject's first on, for each fact.

    Before the subject, clean and corrupted runs are the same, so the effect is zero. The effect of a role is averaged
    over its tokens within a fact, then over the facts that have such tokens.

    Raises:
        ValueError: there are no facts, or no noise samples.
    """
    depth = lm.anatomy.depth
    window = window_size(depth)
    sums = torch.zeros(len(KINDS), len(TOKEN_ROLES), depth, dtype=torch.float64)
    role_facts = [0] * len(TOKEN_ROLES)
    clean = corrupted = 0.0
    runs = _traced(lm, facts, samples=samples, seed=seed, token_budget=token_budget)
    for done, run in enumerate(runs, start=1):
        positions = range(run.first, run.length)
        places = [
            Restored(kind, (layer,) if kind == "block" else window_around(layer, window, depth), (position,))
            for kind in KINDS
            for layer in range(depth)
            for position in positions
        ]
        probabilities = run.probabilities([NOTHING, *places]).double()
        effects = (probabilities[1:] - probabilities[0]).view(len(KINDS), depth, len(positions))
        roles = torch.tensor([token_role(position, run.first, run.last, run.length) for position in positions])
        for role in sorted(set(roles.tolist())):
            sums[:, role] += effects[:, :, roles == role].mean(dim=2)
            role_facts[role] += 1
        clean += run.clean
        corrupted += float(probabilities[0])
        if progress is not None:
            progress(done, len(facts))
    by_kind = {
        kind: tuple(tuple((sums[at, role] / n).tolist()) if n else None for role, n in enumerate(role_facts))
        for at, kind in enumerate(KINDS)
    }
    n = len(facts)
    return Effects(n, clean / n, corrupted / n, samples, window, tuple(role_facts), by_kind)


def window_size(depth: int) -> int:
    """The number of layers whose MLPs or attentions are restored together in a model of `depth` blocks."""
    return max(1, round(WINDOW_SHARE * depth))


def window_around(layer: int, window: int, depth: int) -> tuple[int, ...]:
    """The `window` layers around `layer`, cut at the ends of the model."""
    return tuple(range(max(0, layer - window // 2), min(depth, layer + (window + 1) // 2)))


def token_role(position: int, first: int, last: int, length: int) -> int:
    """The index in `TOKEN_ROLES` of the token at `position`, from the subject's `first` on.

    `length` is the number of prompt tokens. The only token of a subject, and a subject's last token at the end of the
    prompt, have the role "last subject token".
    """
    if position == last:
        return 2
    if position < last:
        return 0 if position == first else 1
    if position == length - 1:
        return 5
    return 3 if position == last + 1 else 4


def _traced(
    lm: LanguageModel, facts: Sequence[KnownFact], *, samples: int, seed: int, token_budget: int
) -> Iterator[TracedRuns]:
    if not facts:
        raise ValueError("there are no facts to trace; give at least one")
    if samples < 1:
        raise ValueError(f"{samples} noise samples for each fact; give at least 1")
    scale = NOISE_SCALE * embedding_spread(lm)
    generator = torch.Generator().manual_seed(seed)  # on the CPU, so that a seed gives the same noise on every device
    for fact in facts:
        first, last = subject_span(lm.tokenizer, fact.prompt, fact.subject)
        noise = torch.randn(samples, last - first + 1, lm.anatomy.hidden_size, generator=generator)
        yield TracedRuns(lm, fact, scale * noise, token_budget)


@torch.no_grad()
def embedding_spread(lm: LanguageModel) -> float:
    """The standard deviation of the embedding module's output over the whole vocabulary (some families scale it)."""
    embeddings = module_at(lm.model, lm.anatomy.embeddings)
    rows = lm.model.get_parameter(f"{lm.anatomy.embeddings}.weight").shape[0]
    count, total, squares = 0, 0.0, 0.0
    for start in range(0, rows, _ROWS_OF_EMBEDDINGS):
        ids = torch.arange(start, min(start + _ROWS_OF_EMBEDDINGS, rows), device=lm.device)
        rows_out = embeddings(ids).cpu().double()  # (tokens, hidden)
        count, total = count + rows_out.numel(), total + float(rows_out.sum())
        squares += float((rows_out**2).sum())
    return float(((squares - total**2 / count) / (count - 1)) ** 0.5)
