"""Triage: a collapsed model is found before the abilities are asked, and no other model is stopped."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from audit import Audit
from audit.abilities import ABILITIES, load_ability
from audit.abilities.contract import Ability, Item
from audit.answering.paired_answers import PairedAnswers, read_raw
from audit.answering.run_answers import AbilityRun
from audit.answering.triage import ITEMS, triage
from audit.errors import AuditError, CollapseError
from audit.measures.integrity import Integrity
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch, identity_patch
from audit.reports.run_sentences import verdict_line
from tests.tiny_models import build_tiny_gpt2

BROKEN, GARBLED, FLUENT, SOUND = (identity_patch() for _ in range(4))
PERPLEXITY = {BROKEN: math.nan, GARBLED: 1e6, FLUENT: 1e6, SOUND: 2.5}


def integrity_of(patch: Patch) -> Integrity:
    return Integrity(True, patch is not BROKEN, {"w": 3.0}, 2.0, PERPLEXITY[patch])


@dataclass(frozen=True)
class FakeRun:
    """All models answer "0" to the items of `open_qa`; the garbled model never stops."""

    ability: Ability
    asked: list[str]
    patches: Sequence[Patch] = ()
    items: Sequence[Item] = tuple(Item(str(k), "open_qa", {}, ("0",), "c") for k in range(10))

    def paired_answers(self, some: Sequence[Item]) -> PairedAnswers:
        self.asked.append(self.ability.name)
        assert len(some) == ITEMS
        said = [["run " * 30 if patch is GARBLED else "0"] * len(some) for patch in (None, *self.patches)]
        base, *edited = [
            read_raw(self.ability, some, [{"text": text, "ids": list(range(len(text) // 4))} for text in one])
            for one in said
        ]
        return PairedAnswers(self.ability, base, tuple(edited))


class FakeRuns:
    """Fake runs of `open_qa` under the names of all abilities; those of `missing` have no data."""

    def __init__(self, missing: Sequence[str] = ()) -> None:
        self.asked: list[str] = []
        self._missing = missing

    def __call__(self, name: str) -> AbilityRun:
        if name in self._missing:
            raise AuditError(f"{name}: no such file")
        choice = load_ability(name).decoding is None
        run: Any = FakeRun(load_ability(name if choice else "open_qa"), self.asked)
        return run  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return build_tiny_gpt2()


def test_a_sound_model_is_asked_nothing(lm: LanguageModel) -> None:
    runs = FakeRuns()
    assert triage([SOUND], integrity_of, runs, lm) is None
    assert not runs.asked


def test_a_broken_model_is_asked_nothing(lm: LanguageModel) -> None:
    runs = FakeRuns()
    assert triage([BROKEN], integrity_of, runs, lm) == (
        "The edited model has collapsed: its logits on plain text are NaN or infinite."
    )
    assert not runs.asked


def test_a_garbled_model_is_asked_until_the_signs_suffice(lm: LanguageModel) -> None:
    runs = FakeRuns()
    sentence = triage([GARBLED], integrity_of, runs, lm)
    assert sentence is not None
    assert "12 of 12 answers" in sentence
    assert len(runs.asked) == 3


def test_abilities_without_data_are_left_out(lm: LanguageModel) -> None:
    runs = FakeRuns(missing=("reasoning", "nli"))
    assert triage([GARBLED], integrity_of, runs, lm) is not None
    assert triage([GARBLED], integrity_of, FakeRuns(missing=tuple(ABILITIES)), lm) is None  # no sign of a collapse


def test_a_model_that_answers_has_not_collapsed(lm: LanguageModel) -> None:
    runs = FakeRuns()
    assert triage([FLUENT], integrity_of, runs, lm) is None
    assert len(runs.asked) == len(ABILITIES) - 1  # all with written answers


def test_all_of_several_models_must_have_collapsed(lm: LanguageModel) -> None:
    measured: list[Patch] = []

    def noting(patch: Patch) -> Integrity:
        measured.append(patch)
        return integrity_of(patch)

    assert triage([BROKEN, SOUND, BROKEN], noting, FakeRuns(), lm) is None
    assert measured == [BROKEN, SOUND]
    sentence = triage([BROKEN, GARBLED, BROKEN], integrity_of, FakeRuns(), lm)
    assert sentence is not None
    assert sentence.endswith("So have the 2 others, each edited for itself.")


def ruined(tmp_path: Path, **more: Any) -> Audit:
    """An audit of a pocket model with noise of 64 standard deviations in its middle."""
    config = {"editor": "vandal", "editor_config": {"scale": "64"}, "store": tmp_path / "store"}
    return Audit(model="pocket-gpt2", limit=4, device="cpu", **config | more)


def test_a_ruined_pocket_model_fails_at_once_and_is_asked_without_triage(tmp_path: Path) -> None:
    audit = ruined(tmp_path)
    with pytest.raises(CollapseError, match=r"guess among 1,728 tokens .* Use --no-triage to ask them anyway"):
        audit.verdict("sentiment")
    report = audit.run(["sentiment", "open_qa"])
    assert (report.outcome, report.abilities, report.unasked) == ("FAIL", (), {})
    assert report.collapse is not None
    assert verdict_line(report).startswith(
        "FAIL: vandal on pocket-gpt2, 10 edits, batch-single: collapsed, so no ability was asked, unsound "
    )
    assert {row.check for row in report.integrity if row.sound is False} == {"relative update norm", "perplexity ratio"}
    assert report.edit_scores

    # Answers that triage collected are not asked for again.
    full = ruined(tmp_path, triage=False).run(["nli"])
    assert [row.ability for row in full.abilities] == ["nli"]
    assert full.collapse is None
    assert (full.reuse.answers, full.reuse.answers_known) == (8, 8)


def test_nothing_is_measured_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from audit.editing import edit_run

    calls: list[str] = []
    real = edit_run.perplexity
    monkeypatch.setattr(edit_run, "perplexity", lambda *given: calls.append("base") or real(*given))
    audit = ruined(tmp_path, editor="identity", editor_config={}, use_store=False, store=None)
    assert audit.collapse is None
    assert audit.integrity.sound
    assert (calls, set(audit.stages.seconds)) == (["base"], {"loading", "editing", "integrity"})
