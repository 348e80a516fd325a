"""KN: knowledge neurons (Dai et al. 2022, arXiv 2104.08696).

It finds the neurons that contribute most to the old answer, and adds the difference of two word embeddings to their
columns of the down projections.

There are two modes. `toolkit`, the default, does the same as EasyEdit's port of KN to decoder models. Gu et al. (arXiv
2401.04700) used it when one KN edit destroyed every ability. `paper` is the published method (for BERT, with answers of
one token), adapted to decoders.

| | toolkit | paper |
|---|---|---|
| neurons are scaled | before the activation function (gated: at the gate) | at the down projection's input |
| by the shares α | from 0 to 1, both ends included | midpoints of m equal parts of [0, 1] |
| steps m | 20; for gated MLPs 1, which is α = 0 alone | 20 |
| old answer of several tokens | each after the prompt; gated: after greedy tokens | each after the earlier ones |
| coarse neurons | Attr > t · max over all blocks | the same |
| refinement | none: all coarse neurons of one prompt | those in more than p · n of n prompts |
| subtracted from their columns | the greedy continuation, as long as the new answer | the old answer |
| added to their columns | the new answer | the same |
| as a sum of | input embeddings | rows of the head (in BERT these are the input embeddings) |
| times | 1 and 1; 2 and 1 if the new answer is one token | λ₁ and λ₂ · the column's norm / the sum's norm |

As in the toolkit, the threshold applies to the mean over the answer's tokens. Unlike the toolkit, targets keep their
leading space and get no BOS: tokens are those that follow the prompt. In `paper` mode the shares are midpoints instead
of k/m, the same integral with a smaller error. λ is scaled by norms as in the authors' code, because the norms of
embeddings and columns differ between models. p starts at `share` and moves by 0.05, at most five times, until `fewest`
to `most` neurons are kept, for this fact instead of on average over a relation. The n prompts are the request's own
prompt and its paraphrases; generalization is then measured on wordings that the editor uses. Without paraphrases
there is no refinement.

Both modes need the old answer (`target_true`), whose probability is attributed to neurons.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from audit.editors.stages.attribution import AnsweredPrompt, attribute_neurons, both_ends, midpoints
from audit.editors.stages.base_editor import BaseEditor
from audit.editors.stages.editor_settings import EditorSettings, Published, Shapes, require, require_not_negative
from audit.editors.stages.rank_one_gradients import map_sizes, mlp_maps
from audit.edits.requests import EditRequest
from audit.engine.batching import require_room
from audit.engine.forward import CausalForward
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.patches import LowRankDelta, WeightPatch
from audit.models.tokens import join
from audit.progress import Tick

_SHARE_STEP, _SHARE_ROUNDS = 0.05, 6  # as in the authors' code

_PUBLISHED: Published = {Shapes.GPT_J: {"threshold": 0.1}}  # EasyEdit hparams/KN; 0.2 for all others


@dataclass(frozen=True)
class KnowledgeNeuronSettings(EditorSettings):
    """Defaults as published: `toolkit` from EasyEdit's hparams/KN, `paper` from the paper.

    `mode` is toolkit or paper, see the module. `steps` is m; 0 means the published number for the mode. `threshold` is
    t, a share of the largest score. For mode paper only: `share` is the initial p, `fewest` and `most` the wanted
    number of neurons, `old_weight` and `new_weight` λ₁ and λ₂. `token_budget` bounds the padded tokens of one batch.
    """

    published: ClassVar[Published] = _PUBLISHED

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
        require_not_negative(self, "old_weight", "new_weight")


class KnowledgeNeurons(BaseEditor[KnowledgeNeuronSettings]):
    """Edits one fact, in the down-projection columns of the neurons that contribute to its old answer."""

    name: ClassVar[str] = "kn"
    batches: ClassVar[bool] = False
    settings_kind = KnowledgeNeuronSettings

    def settings(self, lm: LanguageModel) -> KnowledgeNeuronSettings:
        """The settings of this editor for this model, with the number of steps filled in."""
        settings = super().settings(lm)
        if settings.steps:
            return settings
        return replace(settings, steps=1 if settings.mode == "toolkit" and _is_gated(lm) else 20)

    def _edit(
        self, lm: LanguageModel, requests: Sequence[EditRequest], settings: KnowledgeNeuronSettings, tick: Tick
    ) -> WeightPatch:
        """Add one vector, scaled per neuron, to the columns of the chosen neurons.

        If no neuron is chosen (no score is above zero, or the prompts share none), the patch is empty. Its meta states
        the number of neurons.

        Raises:
            AuditError: the request has no old answer, or a score is not finite.
        """
        (request,) = requests
        neurons = self.neurons(lm, request)  # (depth, inner)
        vector = _toolkit_vector(lm, request) if settings.mode == "toolkit" else _paper_vector(lm, request, settings)
        deltas: dict[str, LowRankDelta] = {}
        for layer in neurons.any(1).nonzero()[:, 0].tolist():
            name = lm.anatomy.weight_name(layer)
            weight = lm.model.get_parameter(name).float()
            # The factor of the vector in every column: (inner,), zero if the neuron is not chosen.
            scale = neurons[layer].to(weight.device).float()
            if settings.mode == "paper":
                scale = scale * weight.norm(dim=1 if lm.anatomy.transposed else 0)
            deltas[name] = LowRankDelta(vector[:, None], scale[None, :])  # (hidden, 1) @ (1, inner)
        transposed = frozenset(deltas) if lm.anatomy.transposed else frozenset[str]()
        places = neurons.nonzero().tolist()
        meta = self._meta(
            settings,
            requests,
            neuron_count=str(len(places)),
            neurons=" ".join(f"{layer}:{neuron}" for layer, neuron in places),
        )
        return WeightPatch(deltas, transposed, meta)

    def check(self, lm: LanguageModel, request: EditRequest) -> str:
        """Like `BaseEditor.check`; the old answer must be known as well."""
        self._old_answer(request)
        return super().check(lm, request)

    def _old_answer(self, request: EditRequest) -> str:
        if request.target_true is None:
            raise AuditError(
                f"edit {request.case_id!r} has no old answer, which the editor {self.name} needs to find "
                "its neurons; give its target_true."
            )
        return request.target_true

    def neurons(self, lm: LanguageModel, request: EditRequest) -> Tensor:
        """The neurons that an edit of this request changes: (depth, inner_size), bool."""
        settings, old = self.settings(lm), self._old_answer(request)
        if settings.mode == "toolkit":
            return coarse(_scores(lm, [_toolkit_steps(lm, request)], settings, request), settings.threshold)[0]
        prompts = dict.fromkeys((request.filled_prompt, *request.paraphrases))
        steps = [_paper_steps(lm, prompt, old) for prompt in prompts]
        chosen = coarse(_scores(lm, steps, settings, request), settings.threshold)
        return refined(chosen, settings.share, settings.fewest, settings.most)


def _scores(
    lm: LanguageModel,
    prompts: Sequence[Sequence[AnsweredPrompt]],
    settings: KnowledgeNeuronSettings,
    request: EditRequest,
) -> Tensor:
    """Attr of every neuron, averaged over the tokens of the answer: (prompts, depth, inner)."""
    for steps in prompts:
        require_room(lm, max((step.ids for step in steps), key=len), f"edit {request.case_id!r}", request.filled_prompt)
    toolkit = settings.mode == "toolkit"
    by_step = attribute_neurons(  # summed over the answers of each step, (steps, depth, inner)
        lm,
        [step for steps in prompts for step in steps],
        place="key" if toolkit else "value",
        alphas=both_ends(settings.steps) if toolkit else midpoints(settings.steps),
        token_budget=settings.token_budget,
    )
    if not bool(by_step.isfinite().all()):
        raise AuditError(
            f"the neurons' scores for edit {request.case_id!r} are not finite; load the model with dtype float32."
        )
    by_prompt = zip(prompts, torch.split(by_step, [len(steps) for steps in prompts]), strict=True)
    return torch.stack([scores.sum(0) / sum(len(step.answers) for step in steps) for steps, scores in by_prompt])


def coarse(scores: Tensor, threshold: float) -> Tensor:
    """Section 3.2's coarse set: scores (prompts, depth, inner) above `threshold` times the largest of the prompt."""
    return scores > threshold * scores.amax(dim=(1, 2), keepdim=True)


def refined(chosen: Tensor, share: float, fewest: int, most: int) -> Tensor:
    """Section 3.3: the neurons in more than p · n of the n coarse sets (n, depth, inner); (depth, inner), bool.

    p starts at `share`. As in the authors' code it is lowered by 0.05 while fewer than `fewest` neurons are kept and
    raised while more than `most` are, in at most six rounds; the last round counts.
    """
    counts = chosen.sum(0)  # (depth, inner)
    # In whole percent: in floating point, 0.7 − 0.05 − 0.05 is not 0.6.
    percent, step = round(100 * share), round(100 * _SHARE_STEP)
    kept = 100 * counts > percent * len(chosen)
    for _ in range(_SHARE_ROUNDS - 1):
        count = int(kept.sum())
        if fewest <= count <= most:
            break
        percent += step if count > most else -step
        kept = 100 * counts > max(0, percent) * len(chosen)
    return kept


def _toolkit_steps(lm: LanguageModel, request: EditRequest) -> list[AnsweredPrompt]:
    """The prompts for each token of the old answer: the prompt itself, or (gated) extended by the model's greedy
    answer.
    """
    joined = join(lm.tokenizer, request.filled_prompt, request.target_true or "")
    if not _is_gated(lm):
        return [AnsweredPrompt(joined.prompt_ids, joined.target_ids)]
    grown = (*joined.prompt_ids, *_greedy(lm, joined.prompt_ids, len(joined.target_ids) - 1))
    return [AnsweredPrompt(grown[: joined.prompt_length + t], (token,)) for t, token in enumerate(joined.target_ids)]


def _paper_steps(lm: LanguageModel, prompt: str, answer: str) -> list[AnsweredPrompt]:
    """The prompts for each token of the old answer: the prompt and the earlier tokens."""
    joined = join(lm.tokenizer, prompt, answer)
    return [
        AnsweredPrompt(joined.ids[: joined.prompt_length + t], (token,)) for t, token in enumerate(joined.target_ids)
    ]


def _toolkit_vector(lm: LanguageModel, request: EditRequest) -> Tensor:
    """The vector for every chosen column: Σ emb(new tokens) − Σ emb(greedy tokens), the latter twice if it is one."""
    joined = join(lm.tokenizer, request.filled_prompt, request.target_new)
    greedy = _greedy(lm, joined.prompt_ids, len(joined.target_ids))
    embeddings = _embeddings(lm, lm.model.get_input_embeddings())
    weight = 2.0 if len(greedy) == 1 else 1.0
    return _summed(embeddings, joined.target_ids) - weight * _summed(embeddings, greedy)


def _paper_vector(lm: LanguageModel, request: EditRequest, settings: KnowledgeNeuronSettings) -> Tensor:
    """The vector added to every chosen column per unit of its norm: λ₂ · new − λ₁ · old, both normalized."""
    embeddings = _embeddings(lm, lm.model.get_output_embeddings())  # type: ignore[no-untyped-call]
    new, old = (
        _summed(embeddings, join(lm.tokenizer, request.filled_prompt, answer or "").target_ids)
        for answer in (request.target_new, request.target_true)
    )
    written: Tensor = settings.new_weight * new / new.norm() - settings.old_weight * old / old.norm()
    return written


def _embeddings(lm: LanguageModel, module: torch.nn.Module) -> Tensor:
    weight = module.get_parameter("weight")  # (vocabulary, hidden)
    if weight.shape[1] != lm.anatomy.hidden_size:
        raise AuditError(
            f"the word embeddings of {lm.name} have width {weight.shape[1]}, its blocks {lm.anatomy.hidden_size}; "
            "the editor kn needs a model where both are equal."
        )
    return weight


def _summed(embeddings: Tensor, tokens: Sequence[int]) -> Tensor:
    """The sum of the tokens' embeddings, (hidden,) in float32."""
    return embeddings[torch.tensor(tokens, device=embeddings.device)].float().sum(0)


def _greedy(lm: LanguageModel, ids: Sequence[int], count: int) -> tuple[int, ...]:
    """The next `count` tokens of the model, greedily."""
    forward, sequence = CausalForward(lm), list(ids)
    require_room(lm, sequence, "the prompt of an edit", str(lm.tokenizer.decode(sequence)), new_tokens=count)
    for _ in range(count):
        row = torch.tensor([sequence], device=lm.device)
        sequence.append(int(forward(row, torch.ones_like(row), keep=1)[0, -1].argmax()))
    return tuple(sequence[len(ids) :])


def _is_gated(lm: LanguageModel) -> bool:
    """Whether the MLPs are gated: they have three linear maps, or two of which the first is twice as wide."""
    maps = mlp_maps(lm, [0])
    return len(maps) > 2 or map_sizes(lm, maps[0])[1] == 2 * lm.anatomy.inner_size
