"""The pilot takes the first presentation that is clearly above its floor, and says what it tried."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.abilities import load_ability
from audit.abilities.contract import Ability, Item
from audit.abilities.presentation import Presentation, read_as
from audit.answering.choice import Chosen, Trial
from audit.answering.paired_answers import PairedAnswers, read_raw
from audit.answering.pilot import SCREEN, Pilot, choose_presentation
from audit.answering.run_answers import AbilityRun
from audit.errors import AuditError
from audit.store.answer_log import AnswerLog
from audit.verdicts import Outcome
from audit.verdicts.verdict import judge

READINGS = ("answers", "choices", "calibrated", "likelihood")
WAYS = ((0, False), (4, False), (0, True))
CANDIDATES = [Presentation(reading, shots, chat) for reading in READINGS for shots, chat in WAYS]
POINTS = 0.05
JUDGED = 400
ITEMS = [
    load_ability("nli").item({"sentence1": f"P{k}.", "sentence2": f"H{k}.", "label": k % 2}, f"nli/{k}")
    for k in range(40)
]


@dataclass
class Model:
    """Answers a share of the items right, by presentation (0.5 where none is given); or cannot be asked, for a reason.

    `preference` are the log-odds that it adds for the first label.
    """

    shares: Mapping[Presentation, float | str] = field(default_factory=dict)
    preference: float = 0.0
    asked: list[tuple[Presentation, int]] = field(default_factory=list)

    def run_of(self, one: Presentation) -> AbilityRun:
        share = self.shares.get(replace(one, offset=0.0), 0.5)
        if isinstance(share, str):
            raise AuditError(share)
        return cast("AbilityRun", Run(self, one, share, read_as(load_ability("nli"), one.reading, one.offset)))

    def raw(self, ability: Ability, share: float, place: int) -> Any:
        number = place // 2  # the two labels take turns, and each is right in the same share
        right = int(number * share) < int((number + 1) * share)
        true = (ITEMS[place].gold[0] == "True") == right
        if ability.decoding is not None:
            return {"text": " True" if true else " False", "ids": [1]}
        odds = (1.0 if true else -1.0) + self.preference
        pairs = len(ability.scorer.continuations(ITEMS[place], "")) // 2 if ability.scorer else 1
        return {"tokens": pairs * [["a"], ["b"]], "log_probabilities": pairs * [[odds - 40.0], [-40.0]]}


@dataclass(frozen=True)
class Run:
    """As much of an `AbilityRun` as the pilot takes."""

    model: Model
    presentation: Presentation
    share: float
    ability: Ability

    def base_answers(self, some: Sequence[Item]) -> PairedAnswers:
        self.model.asked.append((self.presentation, len(some)))
        raw = [self.model.raw(self.ability, self.share, ITEMS.index(item)) for item in some]
        base = read_raw(self.ability, some, raw)
        return PairedAnswers(self.ability, base, (base,))


def pilot(model: Model, **more: Any) -> Pilot:
    parts: dict[str, Any] = {"candidates": CANDIDATES, "items": ITEMS, "run_of": model.run_of, "judged": JUDGED}
    return Pilot(**parts | {"points": POINTS, "key": ("nli", "here")} | more)


def chosen(shares: Mapping[Presentation, float | str], **more: Any) -> Chosen:
    return choose_presentation(pilot(Model(shares), **more), None)


def tried(found: Chosen) -> list[Presentation]:
    return [replace(trial.presentation, offset=0.0) for trial in found.trials]


@pytest.mark.parametrize("wanted", CANDIDATES, ids=lambda one: f"{one.reading}, {one.prompting}")
def test_the_first_that_is_clear_is_taken(wanted: Presentation) -> None:
    place = CANDIDATES.index(wanted)
    found = chosen({wanted: 0.9} | dict.fromkeys(CANDIDATES[place + 1 :], 1.0))  # later ones would be better
    assert replace(found.presentation, offset=0.0) == wanted
    assert tried(found) == CANDIDATES[: place + 1]
    assert [trial.clear for trial in found.trials] == [False] * place + [True]
    assert found.clear


def test_where_nothing_is_clear_the_likelihood_farthest_above_its_floor_is_judged() -> None:
    shares = {one: 0.4 for one in CANDIDATES} | {CANDIDATES[-2]: 0.55, CANDIDATES[0]: 0.5}
    found = chosen(shares)
    assert found.presentation == CANDIDATES[-2]
    assert tried(found) == CANDIDATES
    assert not found.clear and not any(trial.clear for trial in found.trials)
    assert all(trial.sentence.endswith(", not clear") for trial in found.trials)


@settings(max_examples=8)
@given(st.lists(st.sampled_from([0.1, 0.3, 0.45, 0.5, 0.55, 0.9]), min_size=12, max_size=12))
def test_the_choice_is_the_first_clear_one_whatever_the_model_knows(drawn: list[float]) -> None:
    found = chosen(dict(zip(CANDIDATES, drawn, strict=True)))
    clear = [trial for trial in found.trials if trial.clear]
    assert tried(found) == CANDIDATES[: len(found.trials)]
    if clear:
        assert clear == [found.trials[-1]] and found.presentation == clear[0].presentation
    else:
        assert found.presentation.reading == "likelihood" and len(found.trials) == len(CANDIDATES)


def test_a_presentation_that_fails_is_listed_with_its_reason_and_the_next_is_tried() -> None:
    long, broken = "its longest prompt has 300 tokens", "the chat template cannot render a prompt"
    found = chosen({CANDIDATES[1]: long, CANDIDATES[2]: broken, CANDIDATES[3]: 1.0})
    assert found.presentation == CANDIDATES[3]
    assert [trial.reason for trial in found.trials] == ["", long, broken, ""]
    assert found.trials[1].sentence == f"answers, 4 examples: {long}"
    assert found.trials[2].sentence == f"answers, chat: {broken}"
    assert found.trials[1].n == 0 and not found.trials[1].clear


def test_one_that_fails_is_not_judged_while_another_can_be() -> None:
    shares: dict[Presentation, float | str] = {one: 0.4 for one in CANDIDATES}
    assert chosen(shares | {CANDIDATES[-1]: "too long"}).presentation in CANDIDATES[-3:-1]
    assert chosen(shares | dict.fromkeys(CANDIDATES[-3:], "too long")).presentation.reading == "calibrated"
    with pytest.raises(AuditError, match="too long"):
        chosen(dict.fromkeys(CANDIDATES, "too long"))


def test_a_written_answer_at_its_floor_is_not_asked_further() -> None:
    model = Model({one: 0.0 for one in CANDIDATES})
    found = choose_presentation(pilot(model), None)
    asked = [n for one, n in model.asked if one.reading == "answers"]
    assert asked == [SCREEN] * 3 == [trial.n for trial in found.trials if trial.presentation.reading == "answers"]
    assert {n for one, n in model.asked if one.reading != "answers"} == {len(ITEMS)}
    clear = choose_presentation(pilot(Model({CANDIDATES[0]: 1.0})), None)
    assert clear.trials[0].n == len(ITEMS)


def reach(trial: Trial, judged: int) -> float:
    return float(np.sqrt(2 * trial.n / judged)) * (trial.base - trial.base_lower)


def test_points_must_fit_between_the_floor_and_the_base_score() -> None:
    """A model that lost everything must fail: 0.9 is clear at 0.05 points, and not at 0.4."""
    shares = {CANDIDATES[0]: 0.9, CANDIDATES[9]: 0.9}
    assert chosen(shares).presentation == CANDIDATES[0]
    found = chosen(shares, points=0.4)
    assert found.presentation == CANDIDATES[9] and found.clear  # a share of what there is fits
    first, last = found.trials[0], found.trials[-1]
    assert first.needed == pytest.approx(first.floor + 0.4 + reach(first, JUDGED)) and first.base_lower > first.floor
    assert f"needed {first.needed:.3f}" in first.sentence
    assert last.needed == pytest.approx(0.5 + reach(last, JUDGED) / 0.9)


def test_a_reading_is_clear_only_if_the_judged_items_can_fail_a_model_at_its_floor() -> None:
    few, many = (chosen({CANDIDATES[0]: 0.75}, judged=judged).trials[0] for judged in (40, 4000))
    assert many.clear and not few.clear


def test_a_clear_reading_fails_a_model_at_its_floor() -> None:
    """With the lowest base score that is clear, a model that falls to its floor gets FAIL in most runs."""
    judged, generator = 140, np.random.default_rng(0)
    trials = (chosen({CANDIDATES[0]: share}, judged=judged).trials[0] for share in np.arange(0.6, 1, 0.025))
    lowest = next(trial for trial in trials if trial.clear)
    assert 0.7 < lowest.base < 0.9
    fails = 0
    for seed in range(40):
        base, edited = (generator.random(judged) < rate for rate in (lowest.base, lowest.floor))
        verdict = judge(base.astype(float), edited.astype(float), margin=POINTS, floor=lowest.floor, seed=seed)
        fails += verdict.outcome is Outcome.FAIL
    assert fails >= 36


@pytest.mark.parametrize("preference", [-3.0, 0.0, 3.0])
def test_calibrated_choices_take_out_the_preference_for_a_label(preference: float) -> None:
    model = Model({CANDIDATES[6]: 0.9}, preference)
    found = choose_presentation(pilot(model, candidates=CANDIDATES[6:9]), None)
    assert found.presentation.reading == "calibrated" and found.clear
    assert found.presentation.offset == pytest.approx(preference)
    assert found.trials[0].base == pytest.approx(0.9) and found.trials[0].floor == 0.5


def test_one_candidate_alone_is_measured_and_judged_in_any_case() -> None:
    found = chosen({CANDIDATES[6]: 0.5}, candidates=CANDIDATES[6:7])
    assert found.presentation.reading == "calibrated" and not found.clear and len(found.trials) == 1


@pytest.mark.parametrize(
    "shares", [{CANDIDATES[0]: 0.9}, {}, {CANDIDATES[6]: 0.9}, {CANDIDATES[1]: "too long", CANDIDATES[4]: 1.0}]
)
def test_a_stored_choice_is_not_measured_again(shares: Mapping[Presentation, float | str], tmp_path: Path) -> None:
    log, model = AnswerLog(tmp_path / "log.jsonl"), Model(shares)
    first = choose_presentation(pilot(model), log)
    assert model.asked
    again = Model({})
    assert choose_presentation(pilot(again), AnswerLog(tmp_path / "log.jsonl")) == first
    assert again.asked == []


@pytest.mark.parametrize(
    "more",
    [
        {"points": 0.1},
        {"candidates": CANDIDATES[:9]},
        {"items": ITEMS[:-1]},
        {"key": ("nli", "elsewhere")},
        {"judged": JUDGED + 1},
    ],
    ids=lambda more: next(iter(more)),
)
def test_what_a_choice_depends_on_makes_a_new_one(more: dict[str, Any], tmp_path: Path) -> None:
    log = AnswerLog(tmp_path / "log.jsonl")
    choose_presentation(pilot(Model()), log)
    again = Model()
    choose_presentation(pilot(again, **more), log)
    assert again.asked


def test_without_trials_the_settings_have_fixed_the_choice() -> None:
    assert Chosen(CANDIDATES[0]).clear
    assert not Chosen(CANDIDATES[0], (Trial(CANDIDATES[0], 20, 0.5, 0.4, 0.5, 0.55),)).clear


def test_a_trial_says_what_was_measured() -> None:
    trial = Trial(Presentation("choices", 4), 56, 0.8, 0.7, 0.55, 0.6)
    assert trial.sentence == "choices, 4 examples: base 0.800, at least 0.700, on 56 items (floor 0.550, needed 0.600)"
    assert trial.clear and trial.distance == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("shots", "chat", "said"),
    [
        (0, False, "plain"),
        (1, False, "1 example"),
        (4, False, "4 examples"),
        (0, True, "chat"),
        (2, True, "chat with 2 examples"),
    ],
)
def test_a_way_of_prompting_has_a_name(shots: int, chat: bool, said: str) -> None:
    assert Presentation("answers", shots, chat).prompting == said


def test_a_reading_that_the_ability_does_not_have_is_one_sentence() -> None:
    with pytest.raises(AuditError) as caught:
        read_as(load_ability("reasoning"), "choices")
    assert str(caught.value) == (
        "--reading reasoning=choices: reasoning under the protocol standard is read by answers or likelihood; "
        "give one of these, or auto."
    )
    assert read_as(load_ability("reasoning"), "").reading == "answers"
