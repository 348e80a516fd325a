"""Layers for locate-and-edit methods, recommended from causal tracing.

The rule follows Meng et al. (2022, arXiv 2202.05262, section 2.2) and Meng et al. (2023, arXiv 2210.07229, section
4.2). It uses the average indirect effect of the MLPs at the subject's last token, by layer.
- ROME writes the layer of the peak (the lowest of several equal ones).
- The *range* is the contiguous layers around the peak with at least half of its effect.
- MEMIT writes the layers of that range up to the peak, at most the last five.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from audit.editors.stages.editor_settings import Layers, LocatedLayers
from audit.edits.sources import LoadedRequests
from audit.engine.batching import TOKEN_BUDGET
from audit.errors import AuditError
from audit.measures.causal_tracing import (
    NOISE_SAMPLES,
    TOKEN_ROLES,
    Effects,
    KnownFact,
    measure_effects,
    recalled_facts,
)
from audit.models.language_model import LanguageModel
from audit.models.tokens import subject_span
from audit.progress import Progress

SUBJECT_LAST = TOKEN_ROLES.index("last subject token")
RANGE_SHARE = 0.5
LONGEST_RUN_UP = 5  # layers for MEMIT, the peak included
DEFAULT_COUNT = 100  # facts


@dataclass(frozen=True)
class Recommendation:
    """The recommended layers for ROME and MEMIT, and the `range` around the peak.

    `effects` are those of the MLPs at the subject's last token, one per layer.
    """

    rome: int
    memit: tuple[int, ...]
    range: tuple[int, ...]
    effects: tuple[float, ...]


@dataclass(frozen=True)
class TracingResult:
    """The effects and the recommendation; of `asked` facts from `source`, `effects.facts` were recalled and traced."""

    model: str
    source: str
    asked: int
    seed: int
    effects: Effects
    recommendation: Recommendation


def recommend_layers(
    lm: LanguageModel,
    requests: LoadedRequests,
    *,
    count: int | None = None,
    seed: int = 0,
    samples: int = NOISE_SAMPLES,
    token_budget: int = TOKEN_BUDGET,
    kept: LocatedLayers | None = None,
    progress: Progress | None = None,
) -> TracingResult:
    """Trace `count` facts of `requests` (their old answers) and recommend layers; `kept` stores them for later runs.

    Only facts that the model recalls are traced, and only if the last token of their subject is found. With `count`
    None, 100 facts are used, or all if there are fewer.

    Raises:
        AuditError: there are too few facts, none can be traced, or restoring MLPs has no effect.
    """
    facts = sampled_facts(requests, count, seed)
    known = [fact for fact in recalled_facts(lm, facts) if _is_located(lm, fact)]
    if not known:
        raise AuditError(
            f"{lm.name} recalls none of the {len(facts)} facts of {requests.origin}, so there is nothing to trace; "
            "pass --facts a file of facts that it knows, with their answers as target_true."
        )
    effects = measure_effects(lm, known, samples=samples, seed=seed, token_budget=token_budget, progress=progress)
    recommendation = recommend(effects)
    if kept is not None:
        kept.keep(lm, Layers(recommendation.rome, recommendation.memit))
    return TracingResult(lm.name, requests.origin, len(facts), seed, effects, recommendation)


def sampled_facts(requests: LoadedRequests, count: int | None, seed: int) -> list[KnownFact]:
    """The first `count` (None: 100) old facts of `requests` in a seeded random order.

    Raises:
        AuditError: there are no old answers, or fewer than `count`.
    """
    facts = [
        KnownFact(request.prompt, request.subject, request.target_true)
        for request in requests.requests
        if request.target_true is not None
    ]
    if not facts:
        raise AuditError(
            f"none of the {len(requests.requests)} edit requests of {requests.origin} has an old answer to trace; "
            "give them a target_true."
        )
    if count is not None and count > len(facts):
        raise AuditError(
            f"--count {count} is more than the {len(facts)} facts of {requests.origin}; choose a smaller number."
        )
    random.Random(seed).shuffle(facts)
    return facts[: DEFAULT_COUNT if count is None else count]


def _is_located(lm: LanguageModel, fact: KnownFact) -> bool:
    try:
        subject_span(lm.tokenizer, fact.prompt, fact.subject)
    except AuditError:
        return False
    return True


def recommend(effects: Effects) -> Recommendation:
    """The layers to write, by the rule of this module.

    Raises:
        AuditError: restoring MLPs at the subject's last token has no positive effect.
    """
    curve: Sequence[float] = effects.by_kind["mlp"][SUBJECT_LAST] or ()
    peak = max(range(len(curve)), key=curve.__getitem__, default=-1)
    if peak < 0 or curve[peak] <= 0:
        raise AuditError(
            f"restoring clean MLPs at the subject's last token has no effect over {effects.facts} facts, so no "
            "layer can be recommended; trace more facts with --count."
        )
    low = high = peak
    while low > 0 and curve[low - 1] >= RANGE_SHARE * curve[peak]:
        low -= 1
    while high + 1 < len(curve) and curve[high + 1] >= RANGE_SHARE * curve[peak]:
        high += 1
    run_up = tuple(range(max(low, peak - LONGEST_RUN_UP + 1), peak + 1))
    return Recommendation(peak, run_up, tuple(range(low, high + 1)), tuple(curve))
