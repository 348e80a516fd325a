"""KN: knowledge neurons (Dai et al. 2022, arXiv 2104.08696): find the neurons that speak for the old answer, and write
the difference of two word embeddings into what they say.

Two modes. `toolkit`, the default, does what EasyEdit's port of KN does to decoder models: it is what Gu et al. (arXiv
2401.04700) measured when one KN edit destroyed every ability. `paper` is the method as its authors describe it (for
BERT, with answers of one token), carried over to decoders.

| | toolkit | paper |
|---|---|---|
| neurons are scaled | before the activation function (gated: at the gate) | at the down projection's input |
| by the shares α | from 0 to 1, both ends included | the middles of m equal parts of [0, 1] |
| steps m | 20; for gated MLPs 1, which is α = 0 alone | 20 |
| old answer of several tokens | each at the prompt's end; gated: after greedy tokens | each after those before it |
| coarse neurons | Attr > t · max over all blocks | the same |
| refinement | none: all coarse neurons of one prompt | those in more than p · n of n prompts |
| taken from their columns | the greedy continuation, as long as the new answer | the old answer |
| put into their columns | the new answer | the same |
| as a sum of | input embeddings | rows of the head (in BERT these are the input embeddings) |
| times | 1 and 1; 2 and 1 where the new answer is one token | λ₁ and λ₂ · the column's norm / the sum's norm |

As in the toolkit, the mean over the answer's tokens is thresholded. One thing is not copied from it: targets without
their leading space and with a BOS in front; tokens are those that the model meets after the prompt. In `paper` mode the
shares are the middles and not k/m, which is the same integral with a smaller error; λ is scaled by norms as in the
authors' code, since the norms of embeddings and columns differ much between models; and p starts at `share` and moves
by 0.05, at most five times, until `fewest` to `most` neurons are kept, for the fact at hand rather than on average
over a relation. The n prompts are the request's own and its paraphrases, so in this mode generalization is not measured
on wordings that the editor never saw; with no paraphrase there is nothing to refine with.

Both need the old answer (`target_true`), whose probability is attributed to neurons.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor

from audit.editors.stages.attribution import AnsweredPrompt, Place, attribute_neurons, both_ends, midpoints
from audit.editors.stages.editor_settings import GPT_J, EditorSettings, Shape, parse_overrides, require, resolve
from audit.editors.stages.rank_one_gradients import map_sizes, mlp_maps
from audit.edits.requests import EditRequest
from audit.engine.batching import require_room
from audit.engine.forward import CausalForward
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.patches import LowRankDelta, WeightPatch
from audit.models.tokens import join
from audit.progress import Progress
from audit.store.content import Store

_SHARE_STEP, _SHARE_ROUNDS = 0.05, 6  # as in the authors' code

_PUBLISHED: dict[Shape, dict[str, Any]] = {GPT_J: {"threshold": 0.1}}  # EasyEdit hparams/KN; 0.2 for all others


@dataclass(frozen=True)
class KnowledgeNeuronSettings(EditorSettings):
    """Defaults as published: `toolkit` from EasyEdit's hparams/KN, `paper` from the paper.

    `mode` is toolkit or paper, see the module. `steps` is m of the integral; 0 means as many as the mode's source
    takes. `threshold` is t, a share of the largest score. For mode paper only: `share` is p at the start, `fewest` and
    `most` how many neurons are wanted, `old_weight` and `new_weight` λ₁ and λ₂. `token_budget` bounds the padded tokens
    of one batch.
    """

    published: ClassVar[Mapping[Shape, Mapping[str, Any]]] = MappingProxyType(_PUBLISHED)

    mode: str = "toolkit"
    steps: int = 0
    threshold: float = 0.2
    share: float = 0.7
    fewest: int = 2
    most: int = 5
    old_weight: float = 1.0
    new_weight: float = 8.0
    token_budget: int = 16384

    def check(self, depth: int) -> None:
        require(self.mode in ("toolkit", "paper"), "mode", repr(self.mode), "toolkit or paper")
        for name, least in {"steps": 0, "fewest": 1, "most": self.fewest, "token_budget": 1}.items():
            require(getattr(self, name) >= least, name, getattr(self, name), f"a whole number of at least {least}")
        for name in ("threshold", "share"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "a number from 0 to below 1")
        for name in ("old_weight", "new_weight"):
            value = getattr(self, name)
            require(isfinite(value) and value >= 0, name, value, "a number of at least 0")


class KnowledgeNeurons:
    """One fact; as many columns of down projections as there are neurons that speak for its old answer."""

    name: ClassVar[str] = "kn"
    batches: ClassVar[bool] = False

    def __init__(self, config: Mapping[str, str] | None = None, seed: int = 0, store: Store | None = None) -> None:
        """`config`: overrides as typed. Nothing is drawn and nothing is kept, so `seed` and `store` change nothing."""
        self._overrides = parse_overrides(KnowledgeNeuronSettings, self.name, config or {})
        self._seed = seed

    def settings(self, lm: LanguageModel) -> KnowledgeNeuronSettings:
        """The settings that this editor uses on this model, with the number of steps filled in."""
        settings = resolve(KnowledgeNeuronSettings, self.name, lm, self._overrides)
        if settings.steps:
            return settings
        alone_at_nothing = settings.mode == "toolkit" and _is_gated(lm)
        return KnowledgeNeuronSettings(**{**asdict(settings), "steps": 1 if alone_at_nothing else 20})

    def edit(self, lm: LanguageModel, requests: Sequence[EditRequest], progress: Progress | None = None) -> WeightPatch:
        """A patch that adds one vector, in proportion, to the columns of the neurons; the model stays as it is.

        Where no neuron is chosen (no score is above zero, or prompts share none), the patch changes nothing; its meta
        says how many there are.

        Raises:
            AuditError: not exactly one request, no old answer, a setting out of range, or a score that is not finite.
        """
        if len(requests) != 1:
            raise AuditError(
                f"the editor {self.name} takes one edit request at a time and was given {len(requests)}; "
                "choose an instance mode, or an editor that batches such as memit."
            )
        (request,), settings = requests, self.settings(lm)
        kept = self.neurons(lm, request)  # (depth, inner)
        vector = _toolkit_vector(lm, request) if settings.mode == "toolkit" else _paper_vector(lm, request, settings)
        deltas: dict[str, LowRankDelta] = {}
        for layer in kept.any(1).nonzero()[:, 0].tolist():
            name = lm.anatomy.weight_name(layer)
            weight = lm.model.get_parameter(name).float()
            # What the vector is scaled by in every column: (inner,), zero where a neuron was not chosen.
            scale = kept[layer].to(weight.device).float()
            if settings.mode == "paper":
                scale = scale * weight.norm(dim=1 if lm.anatomy.transposed else 0)
            deltas[name] = LowRankDelta(vector[:, None], scale[None, :])  # (hidden, 1) @ (1, inner)
        if progress is not None:
            progress(1, 1)
        transposed = frozenset(deltas) if lm.anatomy.transposed else frozenset[str]()
        return WeightPatch(deltas, transposed, self._meta(request, settings, kept))

    def neurons(self, lm: LanguageModel, request: EditRequest) -> Tensor:
        """Which neurons an edit of this request writes to: (depth, inner_size), bool."""
        settings = self.settings(lm)
        if request.target_true is None:
            raise AuditError(
                f"edit {request.case_id!r} names no old answer, which the editor {self.name} needs to find the neurons "
                "that speak for it; give its target_true."
            )
        if settings.mode == "toolkit":
            return coarse(self._scores(lm, [_toolkit_steps(lm, request)], settings, request), settings.threshold)[0]
        prompts = dict.fromkeys((request.question, *request.paraphrases))
        steps = [_paper_steps(lm, prompt, request.target_true) for prompt in prompts]
        chosen = coarse(self._scores(lm, steps, settings, request), settings.threshold)
        return refined(chosen, settings.share, settings.fewest, settings.most)

    def _scores(
        self,
        lm: LanguageModel,
        prompts: Sequence[Sequence[AnsweredPrompt]],
        settings: KnowledgeNeuronSettings,
        request: EditRequest,
    ) -> Tensor:
        """Attr of every neuron, the mean over the answer's tokens: (prompts, depth, inner)."""
        for steps in prompts:
            require_room(lm, max((step.ids for step in steps), key=len), f"edit {request.case_id!r}", request.question)
        by_step = self._attributed(lm, [step for steps in prompts for step in steps], settings)
        if not bool(by_step.isfinite().all()):
            raise AuditError(
                f"the neurons' scores for edit {request.case_id!r} are not finite; load the model with dtype float32."
            )
        means: list[Tensor] = []
        for steps, scores in zip(prompts, torch.split(by_step, [len(steps) for steps in prompts]), strict=True):
            means.append(scores.sum(0) / sum(len(step.answers) for step in steps))
        return torch.stack(means)

    def _attributed(
        self, lm: LanguageModel, steps: Sequence[AnsweredPrompt], settings: KnowledgeNeuronSettings
    ) -> Tensor:
        """Attr of every neuron, the sum over each step's answers: (steps, depth, inner)."""
        place: Place = "key" if settings.mode == "toolkit" else "value"
        alphas = both_ends(settings.steps) if settings.mode == "toolkit" else midpoints(settings.steps)
        return attribute_neurons(lm, steps, place=place, alphas=alphas, token_budget=settings.token_budget)

    def _meta(self, request: EditRequest, settings: KnowledgeNeuronSettings, kept: Tensor) -> dict[str, str]:
        places = kept.nonzero().tolist()
        return {
            "editor": self.name,
            "requests": request.case_id,
            "neuron_count": str(len(places)),
            "neurons": " ".join(f"{layer}:{neuron}" for layer, neuron in places),
            "seed": str(self._seed),
            **{f"settings.{name}": str(value) for name, value in asdict(settings).items()},
        }


def coarse(scores: Tensor, threshold: float) -> Tensor:
    """Section 3.2's coarse set: scores (prompts, depth, inner) above `threshold` times the prompt's largest one."""
    return scores > threshold * scores.amax(dim=(1, 2), keepdim=True)


def refined(chosen: Tensor, share: float, fewest: int, most: int) -> Tensor:
    """Section 3.3: neurons that stand in more than p · n of the n coarse sets (n, depth, inner): (depth, inner), bool.

    p starts at `share`; as in the authors' code it is lowered by 0.05 while fewer than `fewest` neurons are kept and
    raised while more than `most` are, in six rounds at most. The last round's neurons are the outcome.
    """
    counts = chosen.sum(0)  # (depth, inner)
    # In whole hundredths: 0.7 − 0.05 − 0.05 is not 0.6 to a computer.
    percent, step = round(100 * share), round(100 * _SHARE_STEP)
    kept = 100 * counts > percent * len(chosen)
    for _ in range(_SHARE_ROUNDS - 1):
        found = int(kept.sum())
        if fewest <= found <= most:
            break
        percent += step if found > most else -step
        kept = 100 * counts > max(0, percent) * len(chosen)
    return kept


def _toolkit_steps(lm: LanguageModel, request: EditRequest) -> list[AnsweredPrompt]:
    """Where each token of the old answer is attributed: all at the prompt's end, or along the model's own answer."""
    joined = join(lm.tokenizer, request.question, request.target_true or "")
    if not _is_gated(lm):
        return [AnsweredPrompt(joined.prompt_ids, joined.target_ids)]
    grown = (*joined.prompt_ids, *_greedy(lm, joined.prompt_ids, len(joined.target_ids) - 1))
    return [AnsweredPrompt(grown[: joined.prompt_length + t], (token,)) for t, token in enumerate(joined.target_ids)]


def _paper_steps(lm: LanguageModel, prompt: str, answer: str) -> list[AnsweredPrompt]:
    """Each token of the old answer is attributed after those before it."""
    joined = join(lm.tokenizer, prompt, answer)
    return [
        AnsweredPrompt(joined.ids[: joined.prompt_length + t], (token,)) for t, token in enumerate(joined.target_ids)
    ]


def _toolkit_vector(lm: LanguageModel, request: EditRequest) -> Tensor:
    """What every chosen column gets: Σ emb(new tokens) − Σ emb(greedy tokens), the latter twice where it is one."""
    joined = join(lm.tokenizer, request.question, request.target_new)
    said = _greedy(lm, joined.prompt_ids, len(joined.target_ids))
    embeddings = _embeddings(lm, lm.model.get_input_embeddings())
    weight = 2.0 if len(said) == 1 else 1.0
    return _summed(embeddings, joined.target_ids) - weight * _summed(embeddings, said)


def _paper_vector(lm: LanguageModel, request: EditRequest, settings: KnowledgeNeuronSettings) -> Tensor:
    """What every chosen column gets, per unit of its norm: λ₂ · new − λ₁ · old, both of length one."""
    embeddings = _embeddings(lm, lm.model.get_output_embeddings())  # type: ignore[no-untyped-call]
    new, old = (
        _summed(embeddings, join(lm.tokenizer, request.question, answer or "").target_ids)
        for answer in (request.target_new, request.target_true)
    )
    written: Tensor = settings.new_weight * new / new.norm() - settings.old_weight * old / old.norm()
    return written


def _embeddings(lm: LanguageModel, module: torch.nn.Module) -> Tensor:
    weight = module.get_parameter("weight")  # (vocabulary, hidden)
    if weight.shape[1] != lm.anatomy.hidden_size:
        raise AuditError(
            f"the word embeddings of {lm.name} are {weight.shape[1]} wide and its blocks {lm.anatomy.hidden_size}, "
            "so the editor kn cannot write one into the other; choose a model where they agree."
        )
    return weight


def _summed(embeddings: Tensor, tokens: Sequence[int]) -> Tensor:
    """The sum of the tokens' embeddings, (hidden,) in float32."""
    return embeddings[torch.tensor(tokens, device=embeddings.device)].float().sum(0)


def _greedy(lm: LanguageModel, ids: Sequence[int], count: int) -> tuple[int, ...]:
    """The model's own `count` next tokens, whatever they are."""
    forward, said = CausalForward(lm), list(ids)
    require_room(lm, said, "the prompt of an edit", str(lm.tokenizer.decode(said)), new_tokens=count)
    for _ in range(count):
        row = torch.tensor([said], device=lm.device)
        said.append(int(forward(row, torch.ones_like(row), keep=1)[0, -1].argmax()))
    return tuple(said[len(ids) :])


def _is_gated(lm: LanguageModel) -> bool:
    """Whether a block's MLP multiplies an activated gate with a second map: three maps, or two with a double first."""
    maps = mlp_maps(lm, [0])
    return len(maps) > 2 or map_sizes(lm, maps[0])[1] == 2 * lm.anatomy.inner_size
