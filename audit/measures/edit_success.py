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

Rates are coarse with few edits, so some measures are also read by likelihood. *Likelihood, nats per token*: the mean
log-probability of an answer's tokens, edited minus base. *Likelihood*: whether the new answer is more probable than the
old one, and by how much. As in the official code of ROME (`test_batch_prediction`), the probability of an answer is the
geometric mean of its tokens' probabilities: a longer answer is not less probable for its length.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from audit.edits.answers import answer_words, begins_with, same_opening, without_article
from audit.edits.requests import EditRequest
from audit.measures.edit_probes import (
    KINDS,
    NEIGHBORHOOD,
    PARAPHRASE,
    PORTABILITY,
    REWRITE,
    EditProbe,
    EditReply,
    Replies,
    ask_edits,
    edit_probes,
)
from audit.measures.rates import (
    LIKELIHOOD,
    MAGNITUDE,
    NATS_PER_TOKEN,
    Difference,
    Rate,
    difference_by_request,
    rate_by_request,
)
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch
from audit.progress import Progress


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

    `*_change`: mean log-probability per token of the new answer, edited minus base, in nats; for `locality_change` of
    the neighborhood probe's own answer. `*_preference`: the edited model finds the new answer more probable than the
    old one, for neighborhood probes the true one more probable than the new one (ES, PS and NS of ROME). `*_magnitude`:
    the difference of these probabilities, in [-1, 1].
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
    efficacy_change: Difference | None
    generalization_change: Difference | None
    locality_change: Difference | None
    efficacy_preference: Rate | None
    generalization_preference: Rate | None
    neighborhood_preference: Rate | None
    efficacy_magnitude: Difference | None
    generalization_magnitude: Difference | None
    neighborhood_magnitude: Difference | None

    def entries(self) -> tuple[tuple[str, str, Rate | Difference | None], ...]:
        """(measure, protocol, score) for every score, in report order."""
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
            ("efficacy", NATS_PER_TOKEN, self.efficacy_change),
            ("generalization", NATS_PER_TOKEN, self.generalization_change),
            ("locality", NATS_PER_TOKEN, self.locality_change),
            ("efficacy", LIKELIHOOD, self.efficacy_preference),
            ("generalization", LIKELIHOOD, self.generalization_preference),
            ("neighborhood accuracy", LIKELIHOOD, self.neighborhood_preference),
            (f"efficacy{MAGNITUDE}", LIKELIHOOD, self.efficacy_magnitude),
            (f"generalization{MAGNITUDE}", LIKELIHOOD, self.generalization_magnitude),
            (f"neighborhood accuracy{MAGNITUDE}", LIKELIHOOD, self.neighborhood_magnitude),
        )


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
    changes = {
        kind: difference_by_request(
            (q.case_id, log_probability_change(base[q], reply)) for q, reply in asked[kind] if q in base
        )
        for kind in (REWRITE, PARAPHRASE, NEIGHBORHOOD)
    }
    rivals = {kind: [(q, reply) for q, reply in asked[kind] if _was_compared(q, reply)] for kind in KINDS}
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
        efficacy_change=changes[REWRITE],
        generalization_change=changes[PARAPHRASE],
        locality_change=changes[NEIGHBORHOOD],
        efficacy_preference=_rate(rivals[REWRITE], prefers_answer),
        generalization_preference=_rate(rivals[PARAPHRASE], prefers_answer),
        neighborhood_preference=_rate(rivals[NEIGHBORHOOD], prefers_answer),
        efficacy_magnitude=difference_by_request((q.case_id, lead(reply)) for q, reply in rivals[REWRITE]),
        generalization_magnitude=difference_by_request((q.case_id, lead(reply)) for q, reply in rivals[PARAPHRASE]),
        neighborhood_magnitude=difference_by_request((q.case_id, lead(reply)) for q, reply in rivals[NEIGHBORHOOD]),
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


def log_probability_change(old: EditReply, new: EditReply) -> float:
    """The mean log-probability per token of the forced answer, new minus old, in nats; NaN if one has none."""
    if old.log_probability is None or new.log_probability is None:
        return math.nan
    return new.log_probability - old.log_probability


def prefers_answer(probe: EditProbe, reply: EditReply) -> float:
    """1 if the forced answer is more probable than the probe's rival; 0 without log-probabilities."""
    return float(lead(reply) > 0)


def lead(reply: EditReply) -> float:
    """The probability of the forced answer minus that of the rival, in [-1, 1]; NaN if one has none.

    Both are geometric means over the answer's tokens.
    """
    if reply.log_probability is None or reply.rival_log_probability is None:
        return math.nan
    return math.exp(reply.log_probability) - math.exp(reply.rival_log_probability)


def _was_compared(probe: EditProbe, reply: EditReply) -> bool:
    """Whether the rival was forced; a model without finite logits counts, as one that prefers nothing."""
    return probe.rival is not None and (reply.rival_log_probability is not None or reply.log_probability is None)


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
