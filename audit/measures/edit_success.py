"""Did the edits take, did they carry over, and did they stay where they belong?

    questions = edit_questions(requests)
    base = ask_edits(lm, questions)            # the untouched model: the only baseline of locality
    with patch.applied(lm):
        edited = ask_edits(lm, questions)
    score_edits(base, edited).efficacy_autoregressive

Two protocols under two names. *Autoregressive*: the model speaks for itself, greedily, and its answer must begin with
the target, word by word. *Teacher-forced*: the model is shown the target's earlier tokens and must rank the next one
first; this leaks length and content, and flatters (96.8 % against 38.5 %, arXiv 2502.11177).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from audit.edits.answers import answer_words, begins_with, same_opening, without_article
from audit.edits.requests import EditRequest
from audit.engine.batching import TOKEN_BUDGET
from audit.engine.decoding import Decoding
from audit.engine.generation import generate
from audit.engine.teacher import teacher_forced
from audit.measures.rates import Rate, rate_by_request
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch
from audit.models.tokens import target_ids
from audit.progress import Progress

REWRITE, PARAPHRASE, NEIGHBORHOOD, PORTABILITY = KINDS = ("rewrite", "paraphrase", "neighborhood", "portability")
SPARE_TOKENS = 2  # beyond the target's own: enough to see whether its last word ends there


@dataclass(frozen=True)
class EditQuestion:
    """One question about one request. `answer` is what the edited model ought to say."""

    case_id: str
    kind: str
    prompt: str
    answer: str


@dataclass(frozen=True)
class EditReply:
    """What one state of the model said.

    `text` is its greedy answer; `predictions` are the ids it ranks first at each token of the expected answer under
    teacher forcing, and `token_hits` whether that is the expected token.
    """

    text: str
    predictions: tuple[int, ...]
    token_hits: tuple[bool, ...]


Replies = Mapping[EditQuestion, EditReply]


@dataclass(frozen=True)
class EditScores:
    """The edits' own scores; each is None where no request has such probes (absent is not zero).

    `*_autoregressive`: the greedy answer begins with the target. `*_teacher_forced`: every target token ranks first.
    `*_token_accuracy`: share of target tokens that rank first. `locality_autoregressive`: a neighborhood probe is
    answered as the untouched model answered it, as far as the probe's own answer is long. `locality_teacher_forced`:
    share of tokens ranked first under teacher forcing of the true answer that are the untouched model's.
    `neighborhood_accuracy`: the true answer is still given. `immediate_efficacy`: the greedy answer to the rewrite
    right after its own step; `efficacy_*` is measured at the end. `efficacy_before`: what the untouched model scores.
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
        """(measure, protocol, rate) in the order of a report."""
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


def edit_questions(requests: Sequence[EditRequest], kinds: Iterable[str] = KINDS) -> tuple[EditQuestion, ...]:
    """Every question about the requests, of the kinds asked for.

    A neighborhood probe that asks for what another of the requests edits (in CounterFact some do) is left out, because
    its answer ought to change: the same prompt, or the other's subject together with its old answer.
    """
    wanted = frozenset(kinds)
    prompts = {prompt for request in requests for prompt in (request.question, *request.paraphrases)}
    edited_facts: dict[tuple[str, ...], set[str]] = {}  # old answer -> subjects that lose it
    for request in requests:
        if request.target_true is not None:
            edited_facts.setdefault(answer_words(request.target_true), set()).add(request.subject)
    questions: dict[EditQuestion, None] = {}  # a probe that a request lists twice is asked once
    for request in requests:
        case_id, target = request.case_id, request.target_new
        found = [EditQuestion(case_id, REWRITE, request.question, target)]
        found += [EditQuestion(case_id, PARAPHRASE, prompt, target) for prompt in request.paraphrases]
        for probe in request.neighborhood:
            losers = edited_facts.get(answer_words(probe.answer), set())
            if probe.prompt not in prompts and not any(subject in probe.prompt for subject in losers):
                found.append(EditQuestion(case_id, NEIGHBORHOOD, probe.prompt, probe.answer))
        found += [EditQuestion(case_id, PORTABILITY, probe.prompt, probe.answer) for probe in request.portability]
        questions.update((question, None) for question in found if question.kind in wanted)
    return tuple(questions)


def score_edits(base: Replies, edited: Replies, immediate: Replies | None = None) -> EditScores:
    """Score the replies of the edited model; `base` are those of the untouched one, never of a step in between.

    `immediate` are replies to rewrites, each collected right after the step that edited it.

    Raises:
        ValueError: a neighborhood probe was not put to the untouched model.
    """
    asked = {kind: [(q, reply) for q, reply in edited.items() if q.kind == kind] for kind in KINDS}
    missing = [question.prompt for question, _ in asked[NEIGHBORHOOD] if question not in base]
    if missing:
        raise ValueError(f"the untouched model was not asked {missing[0]!r}")
    near = [(question, base[question], reply) for question, reply in asked[NEIGHBORHOOD]]
    before = [(question, reply) for question, reply in base.items() if question.kind == REWRITE]
    after_step = [(question, reply) for question, reply in (immediate or {}).items() if question.kind == REWRITE]
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
        locality_autoregressive=rate_by_request((q.case_id, says_the_same(q, old, new)) for q, old, new in near),
        locality_teacher_forced=rate_by_request((q.case_id, tokens_unchanged(old, new)) for q, old, new in near),
        neighborhood_accuracy=_rate(asked[NEIGHBORHOOD], says_answer),
        immediate_efficacy=_rate(after_step, says_answer),
        efficacy_before=_rate(before, says_answer),
    )


def says_answer(question: EditQuestion, reply: EditReply) -> float:
    """1 when the greedy answer begins with the expected one at a word boundary."""
    return float(begins_with(reply.text, question.answer))


def ranks_all_first(question: EditQuestion, reply: EditReply) -> float:
    """1 when every token of the expected answer ranks first under teacher forcing."""
    return float(bool(reply.token_hits) and all(reply.token_hits))


def tokens_first(question: EditQuestion, reply: EditReply) -> float:
    """The share of the expected answer's tokens that rank first under teacher forcing."""
    return sum(reply.token_hits) / len(reply.token_hits) if reply.token_hits else 0.0


def says_the_same(question: EditQuestion, old: EditReply, new: EditReply) -> float:
    """1 when both greedy answers open with the same words, as many as the probe's own answer has."""
    words = len(without_article(answer_words(question.answer)))
    return float(same_opening(old.text, new.text, words))


def tokens_unchanged(old: EditReply, new: EditReply) -> float:
    """The share of positions where the same token ranks first before and after."""
    pairs = list(zip(old.predictions, new.predictions, strict=True))
    return sum(before == after for before, after in pairs) / len(pairs) if pairs else 1.0


def ask_edits(
    lm: LanguageModel,
    questions: Sequence[EditQuestion],
    *,
    token_budget: int = TOKEN_BUDGET,
    progress: Progress | None = None,
) -> dict[EditQuestion, EditReply]:
    """Put every question to the model as it is now, greedily and under teacher forcing.

    Answers get as many tokens as the expected one has and a few to spare, rounded up so that most share a batch.
    """
    prompts = [question.prompt.rstrip(" ") for question in questions]  # the answer brings its own space
    by_length: dict[int, list[int]] = {}
    for index, question in enumerate(questions):
        tokens = len(target_ids(lm.tokenizer, question.prompt, question.answer))
        by_length.setdefault(_rounded_up(tokens + SPARE_TOKENS), []).append(index)
    texts: dict[int, str] = {}
    for length, indices in sorted(by_length.items()):
        decoding = Decoding(max_new_tokens=length)
        answers = generate(lm, [prompts[index] for index in indices], decoding, token_budget=token_budget)
        texts.update(zip(indices, answers, strict=True))
        if progress is not None:
            progress(len(texts), len(questions))
    forced = teacher_forced(
        lm, [(question.prompt, question.answer) for question in questions], token_budget=token_budget
    )
    return {
        question: EditReply(texts[index], forced[index].predictions, forced[index].token_hits)
        for index, question in enumerate(questions)
    }


def measure_edits(
    lm: LanguageModel, patch: Patch, requests: Sequence[EditRequest], *, progress: Progress | None = None
) -> EditScores:
    """Scores of one patch that holds all the requests; the model is left as it was found."""
    questions = edit_questions(requests)
    base = ask_edits(lm, questions, progress=progress)
    with patch.applied(lm):
        edited = ask_edits(lm, questions, progress=progress)
    return score_edits(base, edited)


def _rate(
    replies: Iterable[tuple[EditQuestion, EditReply]], score: Callable[[EditQuestion, EditReply], float]
) -> Rate | None:
    return rate_by_request((question.case_id, score(question, reply)) for question, reply in replies)


def _rounded_up(tokens: int) -> int:
    """The next power of two."""
    return 1 << (tokens - 1).bit_length()
