"""Early stopping: answers come in blocks until the verdict is certain, and saved answers give the same verdict."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.abilities import load_ability
from audit.abilities.contract import Ability, Answers, Item
from audit.answering.crew import Crew
from audit.answering.judgments import Judgment, saved_judgment, sequential_judgment
from audit.answering.paired_answers import PairedAnswers, read_raw
from audit.answering.run_answers import AbilityRun, AnswerBlocks
from audit.verdicts import FAIL, INCONCLUSIVE, PASS, Outcome, StoppingRule
from audit.verdicts.margins import Points
from audit.verdicts.sequential import stopping_rule
from tests.answering.test_crew import TwoThreads

ABILITY = load_ability("open_qa")


def answers_of(right: Sequence[bool], clusters: Sequence[str], from_store: int = 0) -> Answers:
    items = [
        Item(str(k), "open_qa", {"question": f"where is {k}"}, ("here",), cluster) for k, cluster in enumerate(clusters)
    ]
    return read_raw(ABILITY, items, [{"text": " here" if one else " there"} for one in right], from_store)


def pair(base: Answers, edited: Answers) -> PairedAnswers:
    return PairedAnswers(ABILITY, base, (edited,))


def found(base: Answers, edited: Answers, margin: float = 0.2, block: int = 8, crew: Crew | None = None) -> Judgment:
    """The sequential judgment of these answers."""
    clusters = [item.cluster for item in base.items]
    whole = pair(base, edited)
    rule = stopping_rule(clusters, block)
    return sequential_judgment(
        lambda count: whole.part(0, count), clusters, rule, Points(margin), floor=0.0, seed=0, crew=crew
    )


def test_asking_stops_as_soon_as_the_verdict_is_certain() -> None:
    names = [str(k) for k in range(100)]
    whole = answers_of([True] * 100, names)
    passed, failed = found(whole, whole), found(whole, answers_of([False] * 100, names))
    assert (passed.verdict.outcome, failed.verdict.outcome) == (PASS, FAIL)
    assert (
        failed.verdict.n
        == len(failed.answers.base.items)
        <= 16
        < passed.verdict.n
        == len(passed.answers.edited[0].items)
        < 30
    )
    assert failed.harm_p is not None and failed.harm_p < 0.05 < 1 == passed.harm_p


def test_a_judgment_of_all_items_has_wider_limits_than_a_fixed_one() -> None:
    names = [str(k) for k in range(100)]
    base, edited = answers_of([True] * 100, names), answers_of([k % 6 > 0 for k in range(100)], names)
    slow = found(base, edited)
    assert slow.verdict.n == 100
    fixed = pair(base, edited).verdict(margin=0.2, seed=0)
    assert slow.verdict.lower < fixed.lower <= fixed.upper < slow.verdict.upper


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3)), min_size=5, max_size=40), st.sampled_from([0.1, 0.3, 0.6]))
def test_saved_answers_give_the_same_judgment(drawn: list[tuple[bool, int]], margin: float) -> None:
    names = [str(number) for number, (_, size) in enumerate(drawn) for _ in range(size)]
    right = [one for one, size in drawn for _ in range(size)]
    base, edited = answers_of([True] * len(names), names), answers_of(right, names)
    first = found(base, edited, margin)
    assert first.rule is not None
    again = saved_judgment(first.answers, first.rule, Points(margin), floor=0.0, seed=0)
    assert again.verdict == first.verdict
    assert again.harm_p == first.harm_p
    ends = [item.cluster for item in first.answers.base.items]
    assert len(ends) == len(names) or names[len(ends)] != ends[-1]  # whole clusters


def test_too_few_saved_answers_are_inconclusive() -> None:
    base = answers_of([True] * 20, [str(k) for k in range(20)])
    again = saved_judgment(pair(base, base), StoppingRule((100,), 8), Points(0.05), floor=0.0, seed=0)
    assert again.verdict.outcome is INCONCLUSIVE and again.verdict.n == 20


NLI = load_ability("nli")
NLI_ITEMS = [NLI.item({"sentence1": f"P{k}.", "sentence2": f"H{k}.", "label": k % 2}, f"nli/{k}") for k in range(200)]


@dataclass
class Run:
    """As much of an `AbilityRun` as `AnswerBlocks` takes; the edited model is right on every second item."""

    right: int  # of ten items, those that the base model answers right
    clear: bool
    asked: int = 0  # items put to the edited model
    ability: Ability = NLI
    items: Sequence[Item] = tuple(NLI_ITEMS)
    crew: Crew = field(default_factory=Crew)
    known: Any = field(default_factory=lambda: SimpleNamespace(lm=SimpleNamespace(device=torch.device("cpu"))))

    def base_answers(self, some: Sequence[Item]) -> PairedAnswers:
        base = self._answers(some, self.right)
        return PairedAnswers(NLI, base, (base,))

    def paired_answers(self, some: Sequence[Item]) -> PairedAnswers:
        self.asked += len(some)
        return PairedAnswers(NLI, self._answers(some, self.right), (self._answers(some, 5),))

    def _answers(self, some: Sequence[Item], right: int) -> Answers:
        tenths = [int(item.key.split("/")[1]) // 2 % 10 for item in some]
        texts = [item.gold[0] if tenth < right else "?" for item, tenth in zip(some, tenths, strict=True)]
        return read_raw(NLI, some, [{"text": f" {text}"} for text in texts])


@pytest.mark.parametrize(
    ("right", "clear", "outcome", "asked"),
    [(5, False, INCONCLUSIVE, 16), (5, True, INCONCLUSIVE, 200), (10, False, FAIL, None), (10, True, FAIL, None)],
)
def test_if_the_base_model_is_at_its_floor_one_block_is_compared(
    right: int, clear: bool, outcome: Outcome, asked: int | None
) -> None:
    """The floor is 0.5: no edited model can pass or fail where the base model is right on half of the items."""
    run = Run(right, clear)
    found = AnswerBlocks(cast("AbilityRun", run), seed=0).judgment(Points(0.05))
    assert found.verdict.outcome is outcome
    assert found.verdict.n == run.asked
    assert run.asked == asked or (asked is None and 16 < run.asked < 200)


def test_joined_parts_equal_the_whole() -> None:
    whole = answers_of([k % 3 > 0 for k in range(9)], list("aabbbcccd"), from_store=9)
    front, back = pair(whole, whole).part(0, 4), pair(whole, whole).part(4, 9)
    assert (front.base.from_store, back.edited[0].from_store) == (4, 5)
    again = front.joined(back)
    assert vars(again.base) == vars(again.edited[0]) == vars(whole)


def test_all_processes_stop_with_the_first() -> None:
    names = [str(k) for k in range(100)]
    base = answers_of([True] * 100, names)
    answers = [base, answers_of([k % 2 > 0 for k in range(100)], names)]  # even if they differ, no process waits
    table: list[object] = [None, None]
    barrier, stopped = threading.Barrier(2, timeout=10), [0, 0]

    def work(rank: int) -> None:
        stopped[rank] = found(base, answers[rank], crew=TwoThreads(rank, table, barrier)).verdict.n

    threads = [threading.Thread(target=work, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stopped[0] == stopped[1] == found(base, base).verdict.n


@pytest.mark.parametrize("margin", [0.1, 0.3])
def test_a_part_counts_as_stored_only_if_all_answers_were(margin: float) -> None:
    names = [str(k) for k in range(50)]
    assert found(answers_of([True] * 50, names, 50), answers_of([True] * 50, names), margin).answers.base.from_store > 0
    assert (
        found(answers_of([True] * 50, names, 49), answers_of([True] * 50, names), margin).answers.base.from_store == 0
    )
