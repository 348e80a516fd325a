"""Success of the edits themselves: efficacy, generalization, portability and locality.

    probes = edit_probes(requests)
    base = ask_edits(lm, probes)            # the base model, the only baseline of locality
    with patch.applied(lm):
        edited = ask_edits(lm, probes)
    score_edits(base, edited).efficacy_autoregressive

Most measures have two protocols. *Autoregressive*: the model answers greedily, and the answer must begin with the
target, word by word. *Teacher-forced*: the model is given the earlier tokens of the target and must rank the next one
first. This reveals the length and content of the target and overstates success (96.8 % against 38.5 %, arXiv
2502.11177).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean

from audit.edits.answers import answer_words, begins_with, same_opening, without_article
from audit.edits.requests import EditRequest
from audit.engine import Decoding
from audit.engine.batching import TOKEN_BUDGET, require_room
from audit.engine.generation import generate
from audit.engine.likelihoods import teacher_forced
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch
from audit.models.tokens import join, target_ids
from audit.progress import Progress

Z_95 = 1.959963984540054  # two-sided 95 %
REWRITE, PARAPHRASE, NEIGHBORHOOD, PORTABILITY = KINDS = ("rewrite", "paraphrase", "neighborhood", "portability")
SPARE_TOKENS = 2  # generated after the length of the target, to see whether its last word is complete


@dataclass(frozen=True)
class EditProbe:
    """A prompt of one edit request, of one of the `KINDS`.

    `answer` is the expected answer of the edited model; each of the `aliases` is right too.
    """

    case_id: str
    kind: str
    prompt: str
    answer: str
    aliases: tuple[str, ...] = ()

    @property
    def answers(self) -> tuple[str, ...]:
        """All right answers, the expected one first."""
        return self.answer, *self.aliases


@dataclass(frozen=True)
class EditReply:
    """The reply of one model to a probe.

    `text` is the greedy answer. `predictions` are the ids ranked first at each token of the forced answer, and
    `token_hits` says whether they are its tokens. The forced answer is the expected one for neighborhood probes, and
    the right answer with the largest share of hits for all others.
    """

    text: str
    predictions: tuple[int, ...]
    token_hits: tuple[bool, ...]


Replies = Mapping[EditProbe, EditReply]


@dataclass(frozen=True)
class Rate:
    """The mean over `n` edit requests of each request's share of successful probes, in [0, 1].

    `lower` and `upper` are the 95 % Wilson limits for `n` requests. Probes of one request are dependent, so the
    interval counts requests; `probes` is the number of probes of all requests. If a request's share is strictly between
    0 and 1, the interval is conservative (too wide).
    """

    value: float
    n: int
    lower: float
    upper: float
    probes: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.lower:.3f}, {self.upper:.3f}], n = {self.n}"


@dataclass(frozen=True)
class EditScores:
    """The scores of the edits; None where no request has such probes.

    `*_autoregressive`: the greedy answer begins with the target. `*_teacher_forced`: every target token ranks first.
    `*_token_accuracy`: share of target tokens that rank first. `locality_autoregressive`: the answers of base and
    edited model to a neighborhood probe begin with the same words, as many as the probe's answer has.
    `locality_teacher_forced`: share of positions of the true answer at which the same token ranks first in both models.
    `neighborhood_accuracy`: the answer is still the true one. `immediate_efficacy`: the greedy answer to the rewrite
    prompt right after the step that edited it; `efficacy_*` is measured at the end. `efficacy_before`: the score of the
    base model.
    """

    efficacy_autoregressive: Rate | None
    efficacy_teacher_forced: Rate | None
    efficacy_token_accuracy: Rate | None
    generalization_autoregressive: Rate | None
    generalization_teacher_forced: Rate | None
    generalization_token_accuracy: Rate | None
    portability_autoregressive: Rate | None
    portability_teacher_forced: Rate | None
    portability_token_accuracy: Rate | None
    locality_autoregressive: Rate | None
    locality_teacher_forced: Rate | None
    neighborhood_accuracy: Rate | None
    immediate_efficacy: Rate | None
    efficacy_before: Rate | None

    def entries(self) -> tuple[tuple[str, str, Rate | None], ...]:
        """(measure, protocol, rate) for every score, in report order."""
        spoken, forced = "autoregressive", "teacher-forced"
        return (
            ("efficacy", spoken, self.efficacy_autoregressive),
            ("generalization", spoken, self.generalization_autoregressive),
            ("locality", spoken, self.locality_autoregressive),
            ("portability", spoken, self.portability_autoregressive),
            ("immediate efficacy", spoken, self.immediate_efficacy),
            ("efficacy before the edit", spoken, self.efficacy_before),
            ("neighborhood accuracy", spoken, self.neighborhood_accuracy),
            ("efficacy", forced, self.efficacy_teacher_forced),
            ("generalization", forced, self.generalization_teacher_forced),
            ("locality", forced, self.locality_teacher_forced),
            ("portability", forced, self.portability_teacher_forced),
            ("efficacy, tokens", forced, self.efficacy_token_accuracy),
            ("generalization, tokens", forced, self.generalization_token_accuracy),
            ("portability, tokens", forced, self.portability_token_accuracy),
        )


def edit_probes(requests: Sequence[EditRequest], kinds: Iterable[str] = KINDS) -> tuple[EditProbe, ...]:
    """All probes of the requests, of the given kinds.

    A neighborhood probe is left out if another request edits its fact (this occurs in CounterFact), because its answer
    should change. Such a probe repeats a prompt of the other request, or contains its subject and has its old answer.
    """
    wanted = frozenset(kinds)
    prompts = {prompt for request in requests for prompt in (request.filled_prompt, *request.paraphrases)}
    edited_facts: dict[tuple[str, ...], set[str]] = {}  # old answer -> subjects whose answer changes
    for request in requests:
        if request.target_true is not None:
            edited_facts.setdefault(answer_words(request.target_true), set()).add(request.subject)
    probes: dict[EditProbe, None] = {}  # removes duplicate probes of a request
    for request in requests:
        case_id, target = request.case_id, request.target_new
        found = [EditProbe(case_id, REWRITE, request.filled_prompt, target)]
        found += [EditProbe(case_id, PARAPHRASE, prompt, target) for prompt in request.paraphrases]
        for probe in request.neighborhood:
            losers = edited_facts.get(answer_words(probe.answer), set()) - {request.subject}
            if probe.prompt not in prompts and not any(subject in probe.prompt for subject in losers):
                found.append(EditProbe(case_id, NEIGHBORHOOD, probe.prompt, probe.answer, probe.aliases))
        found += [EditProbe(case_id, PORTABILITY, one.prompt, one.answer, one.aliases) for one in request.portability]
        probes.update((probe, None) for probe in found if probe.kind in wanted)
    return tuple(probes)


def check_probes(lm: LanguageModel, request: EditRequest) -> None:
    """Check that all probes of a request can be tokenized and fit into the context.

    Raises:
        AuditError: an answer has no tokens, or a probe does not fit into the context.
    """
    for probe in edit_probes([request]):
        for answer in probe.answers:
            tokens = join(lm.tokenizer, lm.full_prompt(probe.prompt), answer)
            require_room(lm, tokens.ids, f"A {probe.kind} probe of edit {request.case_id!r}", probe.prompt)


def score_edits(base: Replies, edited: Replies, immediate: Replies | None = None) -> EditScores:
    """Score the replies of the edited model; `base` are the replies of the base model, never of an intermediate step.

    `immediate` are replies to rewrite prompts, each collected right after the step that edited it.

    Raises:
        ValueError: `base` has no reply to a neighborhood probe.
    """
    asked = {kind: [(q, reply) for q, reply in edited.items() if q.kind == kind] for kind in KINDS}
    missing = [probe.prompt for probe, _ in asked[NEIGHBORHOOD] if probe not in base]
    if missing:
        raise ValueError(f"the base model has no reply to the prompt {missing[0]!r}; ask it for all probes")
    near = [(probe, base[probe], reply) for probe, reply in asked[NEIGHBORHOOD]]
    before = [(probe, reply) for probe, reply in base.items() if probe.kind == REWRITE]
    after_step = [(probe, reply) for probe, reply in (immediate or {}).items() if probe.kind == REWRITE]
    return EditScores(
        efficacy_autoregressive=_rate(asked[REWRITE], says_answer),
        efficacy_teacher_forced=_rate(asked[REWRITE], ranks_all_first),
        efficacy_token_accuracy=_rate(asked[REWRITE], tokens_first),
        generalization_autoregressive=_rate(asked[PARAPHRASE], says_answer),
        generalization_teacher_forced=_rate(asked[PARAPHRASE], ranks_all_first),
        generalization_token_accuracy=_rate(asked[PARAPHRASE], tokens_first),
        portability_autoregressive=_rate(asked[PORTABILITY], says_answer),
        portability_teacher_forced=_rate(asked[PORTABILITY], ranks_all_first),
        portability_token_accuracy=_rate(asked[PORTABILITY], tokens_first),
        locality_autoregressive=rate_by_request((q.case_id, answer_unchanged(q, old, new)) for q, old, new in near),
        locality_teacher_forced=rate_by_request((q.case_id, tokens_unchanged(old, new)) for q, old, new in near),
        neighborhood_accuracy=_rate(asked[NEIGHBORHOOD], says_answer),
        immediate_efficacy=_rate(after_step, says_answer),
        efficacy_before=_rate(before, says_answer),
    )


def says_answer(probe: EditProbe, reply: EditReply) -> float:
    """1 if the greedy answer begins with a right one, up to a word boundary."""
    return float(any(begins_with(reply.text, answer) for answer in probe.answers))


def ranks_all_first(probe: EditProbe, reply: EditReply) -> float:
    """1 if every token of the reply's forced answer ranks first."""
    return float(bool(reply.token_hits) and all(reply.token_hits))


def tokens_first(probe: EditProbe, reply: EditReply) -> float:
    """The share of the tokens of the reply's forced answer that rank first."""
    return sum(reply.token_hits) / len(reply.token_hits) if reply.token_hits else 0.0


def answer_unchanged(probe: EditProbe, old: EditReply, new: EditReply) -> float:
    """1 if both greedy answers begin with the same words, as many as the probe's own answer has."""
    words = len(without_article(answer_words(probe.answer)))
    return float(same_opening(old.text, new.text, words))


def tokens_unchanged(old: EditReply, new: EditReply) -> float:
    """The share of positions at which the same token ranks first before and after; 1 without positions."""
    pairs = list(zip(old.predictions, new.predictions, strict=True))
    return sum(before == after for before, after in pairs) / len(pairs) if pairs else 1.0


def ask_edits(
    lm: LanguageModel,
    probes: Sequence[EditProbe],
    *,
    token_budget: int = TOKEN_BUDGET,
    progress: Progress | None = None,
) -> dict[EditProbe, EditReply]:
    """The replies of the model in its current state to all probes: greedily and under teacher forcing.

    Greedy answers have the length of the longest right one and `SPARE_TOKENS`, rounded up to a power of two so that
    most share a batch.
    """
    prompts = [probe.prompt.rstrip(" ") for probe in probes]  # the answer starts with a space
    by_length: dict[int, list[int]] = {}
    for index, probe in enumerate(probes):
        tokens = max(len(target_ids(lm.tokenizer, probe.prompt, answer)) for answer in probe.answers)
        by_length.setdefault(_rounded_up(tokens + SPARE_TOKENS), []).append(index)
    texts: dict[int, str] = {}
    for length, indices in sorted(by_length.items()):
        decoding = Decoding(max_new_tokens=length)
        answers = generate(lm, [prompts[index] for index in indices], decoding, token_budget=token_budget)
        texts.update(zip(indices, answers, strict=True))
        if progress is not None:
            progress(len(texts), len(probes))
    pairs = [(probe.prompt, answer) for probe in probes for answer in _forced_answers(probe)]
    forced = iter(teacher_forced(lm, pairs, token_budget=token_budget))
    replies: dict[EditProbe, EditReply] = {}
    for index, probe in enumerate(probes):
        best = max(islice(forced, len(_forced_answers(probe))), key=lambda one: fmean(one.token_hits))
        replies[probe] = EditReply(texts[index], best.predictions, best.token_hits)
    return replies


def _forced_answers(probe: EditProbe) -> tuple[str, ...]:
    """The answers under teacher forcing; locality compares two models on the same tokens, hence on one answer."""
    return probe.answers[:1] if probe.kind == NEIGHBORHOOD else probe.answers


def measure_edits(
    lm: LanguageModel, patch: Patch, requests: Sequence[EditRequest], *, progress: Progress | None = None
) -> EditScores:
    """The scores of one patch that contains all requests; the model is left unchanged."""
    probes = edit_probes(requests)
    base = ask_edits(lm, probes, progress=progress)
    with patch.applied(lm):
        edited = ask_edits(lm, probes, progress=progress)
    return score_edits(base, edited)


def _rate(
    replies: Iterable[tuple[EditProbe, EditReply]], score: Callable[[EditProbe, EditReply], float]
) -> Rate | None:
    return rate_by_request((probe.case_id, score(probe, reply)) for probe, reply in replies)


def _rounded_up(tokens: int) -> int:
    """The smallest power of two that is at least `tokens`."""
    return 1 << (tokens - 1).bit_length()


def wilson_interval(successes: float, n: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927); `successes` may be a sum of shares.

    Raises:
        ValueError: `n` is not positive, or `successes` is not in [0, n].
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(
            f"{successes} successes in {n} trials are impossible; give a count between 0 and the number of trials"
        )
    share = successes / n
    scale = 1 + z * z / n
    center = (share + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At 0 and n the limit is exactly 0 or 1; rounding must not change that.
    return (0.0 if successes == 0 else max(0.0, center - half)), (1.0 if successes == n else min(1.0, center + half))


def rate_by_request(scores: Iterable[tuple[str, float]]) -> Rate | None:
    """The `Rate` over (case id, score in [0, 1]) pairs; None if there are none."""
    by_request: dict[str, list[float]] = {}
    for case_id, score in scores:
        by_request.setdefault(case_id, []).append(score)
    if not by_request:
        return None
    n = len(by_request)
    successes = min(math.fsum(_mean(shares) for shares in by_request.values()), float(n))
    lower, upper = wilson_interval(successes, n)
    return Rate(successes / n, n, lower, upper, probes=_total(by_request))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _total(by_request: Mapping[str, Sequence[float]]) -> int:
    return sum(len(shares) for shares in by_request.values())
