"""Probes of edit requests, and the replies of a model to them.

    probes = edit_probes(requests)
    base = ask_edits(lm, probes)
    with patch.applied(lm):
        edited = ask_edits(lm, probes)

`audit.measures.edit_success` scores the replies.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean

from audit.edits.answers import answer_words, same_answer
from audit.edits.requests import EditRequest
from audit.engine import Decoding
from audit.engine.batching import TOKEN_BUDGET, require_room
from audit.engine.generation import generate
from audit.engine.likelihoods import TeacherForced, teacher_forced
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.tokens import join, target_ids
from audit.progress import Progress

REWRITE, PARAPHRASE, NEIGHBORHOOD, PORTABILITY = KINDS = ("rewrite", "paraphrase", "neighborhood", "portability")
SPARE_TOKENS = 2  # generated after the length of the target, to see whether its last word is complete


@dataclass(frozen=True)
class EditProbe:
    """A prompt of one edit request, of one of the `KINDS`.

    `answer` is the expected answer of the edited model; each of the `aliases` is right too. `rival` is the answer that
    its probability is compared with: the old one, and for neighborhood probes the new one.
    """

    case_id: str
    kind: str
    prompt: str
    answer: str
    aliases: tuple[str, ...] = ()
    rival: str | None = None

    @property
    def answers(self) -> tuple[str, ...]:
        """All right answers, the expected one first."""
        return self.answer, *self.aliases


@dataclass(frozen=True)
class EditReply:
    """The reply of one model to a probe.

    `text` is the greedy answer. `predictions` are the ids ranked first at each token of the forced answer, and
    `token_hits` says whether they are its tokens. The forced answer is the expected one for neighborhood probes, and
    the right answer with the largest share of hits for all others. `log_probability` is the natural log-probability of
    the forced answer, the mean over its tokens; `rival_log_probability` that of the probe's rival. They are None where
    logits are not finite, and in replies that an older version stored; the second also if there is no rival or if it
    does not fit into the context.
    """

    text: str
    predictions: tuple[int, ...]
    token_hits: tuple[bool, ...]
    log_probability: float | None = None
    rival_log_probability: float | None = None


Replies = Mapping[EditProbe, EditReply]


def edit_probes(requests: Sequence[EditRequest], kinds: Iterable[str] = KINDS) -> tuple[EditProbe, ...]:
    """All probes of the requests, of the given kinds.

    A neighborhood probe is left out if another request edits its fact (this occurs in CounterFact), because its answer
    should change. Such a probe repeats a prompt of the other request, or contains its subject and has its old answer.
    Probes have a rival if the request has an old answer, and the two differ.
    """
    wanted = frozenset(kinds)
    prompts = {prompt for request in requests for prompt in (request.filled_prompt, *request.paraphrases)}
    edited_facts: dict[tuple[str, ...], set[str]] = {}  # old answer -> subjects whose answer changes
    for request in requests:
        if request.target_true is not None:
            edited_facts.setdefault(answer_words(request.target_true), set()).add(request.subject)
    probes: dict[EditProbe, None] = {}  # removes duplicate probes of a request
    for request in requests:
        case_id, target, old = request.case_id, request.target_new, request.target_true
        rival = None if old is None or same_answer(old, target) else old
        found = [EditProbe(case_id, REWRITE, request.filled_prompt, target, rival=rival)]
        found += [EditProbe(case_id, PARAPHRASE, prompt, target, rival=rival) for prompt in request.paraphrases]
        for probe in request.neighborhood:
            losers = edited_facts.get(answer_words(probe.answer), set()) - {request.subject}
            if probe.prompt not in prompts and not any(subject in probe.prompt for subject in losers):
                agree = any(same_answer(target, answer) for answer in (probe.answer, *probe.aliases))
                rival = None if old is None or agree else target
                found.append(EditProbe(case_id, NEIGHBORHOOD, probe.prompt, probe.answer, probe.aliases, rival))
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


def ask_edits(
    lm: LanguageModel,
    probes: Sequence[EditProbe],
    *,
    token_budget: int = TOKEN_BUDGET,
    progress: Progress | None = None,
) -> dict[EditProbe, EditReply]:
    """The replies of the model in its current state to all probes: greedily and under teacher forcing.

    The rivals are forced in batches of their own, so that they change no other number.

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
    compared = [(probe, probe.rival) for probe in probes if probe.rival is not None and _fits(lm, probe, probe.rival)]
    against = teacher_forced(lm, [(probe.prompt, rival) for probe, rival in compared], token_budget=token_budget)
    rivals = {probe: _per_token(one) for (probe, _), one in zip(compared, against, strict=True)}
    replies: dict[EditProbe, EditReply] = {}
    for index, probe in enumerate(probes):
        best = max(islice(forced, len(_forced_answers(probe))), key=lambda one: fmean(one.token_hits))
        replies[probe] = EditReply(texts[index], best.predictions, best.token_hits, _per_token(best), rivals.get(probe))
    return replies


def _fits(lm: LanguageModel, probe: EditProbe, answer: str) -> bool:
    """Whether the probe with this answer can be tokenized and fits into the context."""
    try:
        require_room(lm, join(lm.tokenizer, lm.full_prompt(probe.prompt), answer).ids, "A rival", probe.prompt)
    except AuditError:
        return False
    return True


def _per_token(forced: TeacherForced) -> float | None:
    """The mean log-probability per token; None if it is not finite."""
    value = forced.log_probability / forced.tokens
    return value if math.isfinite(value) else None


def _forced_answers(probe: EditProbe) -> tuple[str, ...]:
    """The answers under teacher forcing; locality compares two models on the same tokens, hence on one answer."""
    return probe.answers[:1] if probe.kind == NEIGHBORHOOD else probe.answers


def _rounded_up(tokens: int) -> int:
    """The smallest power of two that is at least `tokens`."""
    return 1 << (tokens - 1).bit_length()
