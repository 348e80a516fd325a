"""Answers of one model to the items of an ability: prompts in, the engine's raw output, parsed answers and scores out.

    reuse = Reuse.of(lm, [model.patch for model in models])
    base = ask(lm, ability, items, reuse=reuse)
    edited = [ask(lm, ability, items, patch=model.patch, reuse=reuse) for model in models]
    reuse.forget()  # before the next ability

Only raw output is stored, under the fingerprints of the item and of the model's state. So a changed parser or metric
applies to stored answers, and a model with other weights never gets them. Every batch is stored as it finishes.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from os.path import commonprefix
from typing import Any

import torch

from audit.abilities.contract import Ability, Answers, Item, Scorer, is_verbatim
from audit.answering.paired_answers import Raw, read_raw
from audit.engine.continuations import ScoredTokens
from audit.engine.drafts import write_from_drafts
from audit.engine.generation import GeneratedText, write_answers
from audit.engine.known_model import KnownModel
from audit.engine.likelihoods import rank, token_log_likelihoods, verbatim_scores
from audit.engine.lower_blocks import FromLowerStates, LowerStates
from audit.engine.reuse_counts import ReuseCounts
from audit.models.fingerprints import content_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patch_changes import first_touched_block
from audit.models.patches import Patch
from audit.models.tokens import JoinedTokens, join, join_verbatim
from audit.progress import Progress
from audit.store.answer_log import AnswerLog
from audit.store.content import Store

LONG_BEGINNING = 400  # characters; shorter ones are not worth a pass of their own


class AnswerLogs:
    """The answer logs of a store, one for each model state; without a store no answers are kept."""

    def __init__(self, store: Store | None) -> None:
        self.store = store
        self._logs: dict[str, AnswerLog] = {}

    def of(self, known: KnownModel, patch: Patch | None = None) -> AnswerLog | None:
        """The log of the model with a patch (None: of the base model); None without a store."""
        if self.store is None:
            return None
        state = known.state(patch)
        return self._logs.setdefault(state, AnswerLog.of(self.store, state))


class Reuse:
    """What the edited models of a plan reuse from the base model and from each other; no answer depends on it.

    The states that enter the lowest block that any patch changes are computed once, and the base model's written
    answers are drafts for those of the edited models. States and drafts belong to one ability at a time.

    Args:
        lower: the states that enter the first edited block.
        drafting: whether the base model's answers are drafts.
    """

    def __init__(self, lower: LowerStates, *, drafting: bool) -> None:
        self.lower = lower
        self.counts = ReuseCounts()  # over all abilities
        self._drafting = drafting
        self._drafts: dict[str, tuple[int, ...]] = {}

    @classmethod
    def of(cls, lm: LanguageModel, patches: Sequence[Patch]) -> "Reuse":
        """What models with these patches share.

        In half precision nothing is drafted. A pass over many tokens rounds differently from steps of one token, so a
        near tie could be decided differently and look like an effect of the edit. Passes of equal shape round equally,
        so the lower blocks are shared in every precision.
        """
        first = min((first_touched_block(lm, patch) for patch in patches), default=0)
        if getattr(lm.model.config.get_text_config(), "num_kv_shared_layers", 0):
            first = 0  # upper blocks read keys and values of lower blocks, not only the hidden state
        return cls(LowerStates(first), drafting=lm.dtype == torch.float32)

    def forward(self, lm: LanguageModel, patch: Patch | None) -> FromLowerStates:
        """Calls of the model, to which `patch` is applied now; those of the base model (None) are not counted."""
        return self.lower.forward(lm, None if patch is None else self.counts)

    def learn(self, answers: Mapping[str, Raw]) -> None:
        """Take the base model's written answers, by item fingerprint, as drafts."""
        if self._drafting:
            self._drafts.update({item: tuple(raw["ids"]) for item, raw in answers.items()})

    def drafts(self, items: Sequence[str]) -> dict[int, tuple[int, ...]]:
        """The drafts for items, given by fingerprint; the keys are places in `items`."""
        return {place: self._drafts[item] for place, item in enumerate(items) if item in self._drafts}

    def forget(self) -> None:
        """Drop states and drafts, before the items of another ability."""
        self.lower.forget()
        self._drafts.clear()


def ask(
    lm: LanguageModel,
    ability: Ability,
    items: Sequence[Item],
    *,
    patch: Patch | None = None,
    log: AnswerLog | None = None,
    progress: Progress | None = None,
    reuse: Reuse | None = None,
) -> Answers:
    """Ask the model, with `patch` applied, the items that `log` has no answer to, and parse and score all answers.

    `log` belongs to the model's state with the patch (`KnownModel.state`); each batch is added as it finishes. `reuse`
    is shared by the models of the plan; the base model comes first.
    """
    fingerprints = [item_fingerprint(ability, item) for item in items]
    answers: dict[str, Raw] = {}
    if log is not None:
        known = log.known()
        answers = {one: known[one] for one in fingerprints if one in known}
    missing = {one: item for one, item in zip(fingerprints, items, strict=True) if one not in answers}
    from_store = sum(one in answers for one in fingerprints)
    if missing:
        names = list(missing)

        def answered(fresh: Mapping[int, Raw]) -> None:
            batch = {names[number]: answer for number, answer in fresh.items()}
            answers.update(batch)
            if log is not None:
                log.add(batch)

        def further(done: int, total: int) -> None:
            if progress is not None:
                progress(from_store + done * len(missing) // total, from_store + len(missing))

        with nullcontext() if patch is None else patch.applied(lm):
            _ask(lm, ability, missing, answered, further, patch, reuse)
    if reuse is not None and patch is None and ability.decoding is not None:
        reuse.learn(answers)
    return read_raw(ability, items, [answers[one] for one in fingerprints], from_store)


def item_fingerprint(ability: Ability, item: Item) -> str:
    """sha256 over the engine's input: the prompt, and the choices, how to decode, or what is scored."""
    if ability.scorer is not None:
        how = "verbatim tokens" if is_verbatim(ability.scorer) else "tokens"
        return content_fingerprint([how, *map(list, ability.scorer.continuations(item, ability.prompt(item)))])
    decoding = None if ability.decoding is None else asdict(ability.decoding)
    return content_fingerprint([ability.prompt(item), list(item.choices), decoding])


def _ask(
    lm: LanguageModel,
    ability: Ability,
    items: Mapping[str, Item],
    answered: Callable[[Mapping[int, Raw]], None],
    progress: Progress,
    patch: Patch | None,
    reuse: Reuse | None,
) -> None:
    """Pass the raw output of every batch to `answered`, by place of the item; `items` are by fingerprint."""
    prompts = [ability.prompt(item) for item in items.values()]
    # Worked examples in front of all prompts save more than the lower blocks do, and only one of the two can be shared.
    forward = None if reuse is None or _mostly_shared(prompts) else reuse.forward(lm, patch)
    if ability.scorer is not None:
        _score(lm, ability.scorer, list(items.values()), prompts, answered, progress, forward)
        return
    if ability.decoding is None:
        choices = [item.choices for item in items.values()]
        rank(lm, prompts, choices, progress=progress, on_batch=answered, forward=forward)
        return

    def written(fresh: Mapping[int, GeneratedText]) -> None:
        answered({number: {"text": one.text, "ids": list(one.ids)} for number, one in fresh.items()})

    if reuse is None or patch is None:
        write_answers(lm, prompts, ability.decoding, progress=progress, on_batch=written)
        return
    drafts, lower, counts = reuse.drafts(list(items)), reuse.lower, reuse.counts
    write_from_drafts(
        lm, prompts, drafts, ability.decoding, lower=lower, counts=counts, progress=progress, on_batch=written
    )


def _mostly_shared(prompts: Sequence[str]) -> bool:
    """Whether all prompts share a long beginning, and it is more than a third of their text."""
    shared = len(commonprefix(prompts)) if len(prompts) > 1 else 0  # noqa: RUF071 - of letters, not of paths
    return shared >= LONG_BEGINNING and 3 * shared * len(prompts) > sum(map(len, prompts))


def _score(
    lm: LanguageModel,
    scorer: Scorer,
    items: Sequence[Item],
    prompts: Sequence[str],
    answered: Callable[[Mapping[int, Raw]], None],
    progress: Progress,
    forward: FromLowerStates | None,
) -> None:
    """Score the items' continuations; raw output are the tokens as text, and their log-probabilities."""
    groups = [scorer.continuations(item, prompt) for item, prompt in zip(items, prompts, strict=True)]

    def scored(fresh: Mapping[int, Sequence[Sequence[float]]]) -> None:
        answered({number: _raw_of(lm, groups[number], found, join) for number, found in fresh.items()})

    def scored_verbatim(fresh: Mapping[int, Sequence[ScoredTokens]]) -> None:
        values = {number: [one.log_probabilities for one in found] for number, found in fresh.items()}
        raw = {number: _raw_of(lm, groups[number], found, join_verbatim) for number, found in values.items()}
        greedy = {number: [all(one.hits) for one in found] for number, found in fresh.items()}
        answered({number: {**one, "greedy": greedy[number]} for number, one in raw.items()})

    if is_verbatim(scorer):
        verbatim_scores(lm, groups, progress=progress, on_batch=scored_verbatim, forward=forward)
    else:
        token_log_likelihoods(lm, groups, progress=progress, on_batch=scored, forward=forward)


def _raw_of(
    lm: LanguageModel,
    pairs: Sequence[tuple[str, str]],
    found: Sequence[Sequence[float]],
    joined: Callable[[Any, str, str], JoinedTokens],
) -> Raw:
    tokens = []
    for (prompt, continuation), values in zip(pairs, found, strict=True):
        ids = joined(lm.tokenizer, lm.full_prompt(prompt), continuation).ids
        tokens.append([lm.tokenizer.decode([one]) for one in ids[len(ids) - len(values) :]])
    return {"tokens": tokens, "log_probabilities": [list(values) for values in found]}
