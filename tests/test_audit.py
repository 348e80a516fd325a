"""The audit as a whole, on a tiny random model: order, caching, plans, and weights that are never left changed."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from audit import Audit
from audit.abilities import ABILITIES
from audit.engine.drafts import write_from_drafts
from audit.engine.generation import write_answers
from audit.errors import AuditError
from audit.models.fingerprints import weights_fingerprint
from audit.models.patches import DenseDelta, WeightPatch
from audit.reports.folder import read_report, write_report
from audit.reports.rows import RunReport
from audit.reports.run_sentences import reuse_sentences
from audit.settings.options import AuditSettings
from tests.small_audit import SmallWorld, build, teach

QUICK = {"covariance": "identity", "steps": "2", "contexts_per_length": "0"}


class Poison:
    """An editor of somebody else's that writes NaN."""

    name: ClassVar[str] = "poison"
    batches: ClassVar[bool] = True

    def edit(self, lm: Any, requests: Sequence[Any], progress: Any = None) -> WeightPatch:
        weight = lm.anatomy.weight_name(0)
        values = torch.full_like(lm.model.get_parameter(weight), float("nan"))
        return WeightPatch({weight: DenseDelta(values)})


class Clumsy(Poison):
    """An editor that breaks halfway."""

    def edit(self, lm: Any, requests: Sequence[Any], progress: Any = None) -> WeightPatch:
        if requests[0].case_id.endswith("1"):
            raise AuditError("case-1 cannot be edited; leave it out.")
        return WeightPatch({})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    small = build(tmp_path_factory.mktemp("world"))
    teach(small)
    return small


@pytest.fixture
def options(world: SmallWorld, tmp_path: Path) -> dict[str, Any]:
    return world.options(editor="identity", store=tmp_path / "store", device="cpu", limit=60)


def answers(report: RunReport) -> list[list[str]]:
    return [[item.base.text, *(answer.text for answer in item.edited)] for item in report.items]


def test_nothing_edited_nothing_changed(options: dict[str, Any]) -> None:
    report = Audit(**options | {"limit": 6}).run()
    assert [row.ability for row in report.abilities] == list(ABILITIES)
    assert {row.verdict.drop for row in report.abilities} == {0.0}
    assert {row.changed for row in report.abilities} == {0}
    assert len(report.items) == 6 * len(ABILITIES)
    assert all(base == edited for base, edited in answers(report))
    assert all(row.sound for row in report.integrity)


def test_an_ability_passes_untouched_and_fails_under_noise(options: dict[str, Any]) -> None:
    kept = Audit(**options).verdict("open_qa")
    assert (kept.outcome, kept.verdict.base, kept.verdict.edited) == ("PASS", 1.0, 1.0)
    ruined = Audit(**options | {"editor": "vandal"}).verdict("open_qa")
    assert ruined.outcome == "FAIL"
    assert ruined.verdict.right_to_wrong > 30
    assert ruined.changed >= ruined.verdict.right_to_wrong
    assert [example.edited != example.base for example in ruined.examples] == [True, True]


def test_the_margin_of_the_settings_wins_over_the_suites(options: dict[str, Any]) -> None:
    audit = Audit(**options | {"margins": {"open_qa": 0.02}})
    assert audit.verdict("open_qa", max_drop=0.05).verdict.margin == 0.02
    assert audit.verdict("open_qa").outcome == "INCONCLUSIVE"  # 60 items cannot certify 2 points
    assert Audit(**options).verdict("open_qa", max_drop=0.07).verdict.margin == 0.07


def test_a_run_keeps_the_margins_that_were_asked_for_before(options: dict[str, Any]) -> None:
    audit = Audit(**options)
    audit.verdict("open_qa", max_drop=0.4)
    assert audit.run(["open_qa"]).abilities[0].verdict.margin == 0.4


def test_a_notebook_shows_what_was_measured(options: dict[str, Any]) -> None:
    audit = Audit(**options)
    assert audit._repr_markdown_() == "Nothing is measured yet."
    audit.verdict("open_qa", max_drop=0.4)
    assert audit._repr_markdown_().startswith("# PASS: ")


@pytest.mark.parametrize(
    ("editor", "plan"),
    [
        ("identity", {}),
        ("vandal", {}),
        ("memit", {"edit_batch_size": 2}),
        ("memit", {}),
        ("rome", {"edit_mode": "instance-single", "edit_count": 2}),
        ("rome", {"edit_count": 2}),
        (f"{__name__}:Poison", {}),
    ],
)
def test_the_weights_are_what_they_were_whatever_was_done(options: dict[str, Any], editor: str, plan: Any) -> None:
    config = QUICK if editor in ("rome", "memit") else {}
    audit = Audit(**options | {"limit": 4, "editor": editor, "editor_config": config} | plan)
    before = weights_fingerprint(audit.lm)
    report = audit.run(["sentiment", "dialogue"])
    assert weights_fingerprint(audit.lm) == before == report.fingerprints["weights"]
    restored = report.integrity[-1]
    assert (restored.check, restored.sound) == ("weights restored", True)


def test_edits_one_at_a_time_ask_every_item_of_each_model(options: dict[str, Any]) -> None:
    wanted = {"editor": "rome", "edit_mode": "instance-single", "edit_count": 3, "editor_config": QUICK, "limit": 5}
    report = Audit(**options | wanted).run(["open_qa"])
    (row,) = report.abilities
    assert {len(item.edited) for item in report.items} == {3}
    assert row.verdict.edited == pytest.approx(sum(item.edited_score for item in report.items) / 5)
    assert {score.n for score in report.edit_scores if score.measure == "efficacy"} == {3}
    assert "immediate efficacy" not in {score.measure for score in report.edit_scores}


def test_edits_that_pile_up_are_asked_right_after_each_step(options: dict[str, Any]) -> None:
    wanted = {"editor": "rome", "edit_count": 3, "editor_config": QUICK, "limit": 5}
    report = Audit(**options | wanted).run(["open_qa"])
    assert {len(item.edited) for item in report.items} == {1}
    assert [score.n for score in report.edit_scores if score.measure == "immediate efficacy"] == [3]
    assert report.header.plan == "3 edits, instance-sequential"


def test_base_answers_are_asked_once_for_the_same_weights(options: dict[str, Any]) -> None:
    first = Audit(**options)
    second = Audit(**options | {"editor": "vandal"})
    assert first.verdict("open_qa").base_from_store is False
    assert second.verdict("open_qa").base_from_store is True
    assert second.verdict("open_qa").verdict.base == 1.0
    assert first.verdict("open_qa").items_fingerprint == second.verdict("open_qa").items_fingerprint


@pytest.mark.parametrize("other", [{"limit": 7}, {"seed": 1}], ids=["fewer", "in another order"])
def test_a_question_that_was_answered_is_not_asked_again(options: dict[str, Any], other: dict[str, Any]) -> None:
    Audit(**options).verdict("open_qa")  # all the questions there are
    assert Audit(**options | other).verdict("open_qa").base_from_store is True


def test_only_what_was_never_asked_is_asked(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    options = options | {"reading": {"": "answers"}, "prompting": "plain"}  # no pilot, which would ask some before
    Audit(**options | {"limit": 7}).verdict("open_qa")
    undisturbed = Audit(**options | {"use_store": False}).run(["open_qa"])
    asked: list[int] = []

    def counting(write: Any) -> Any:
        def counted(lm: Any, prompts: Sequence[str], *rest: Any, **more: Any) -> Any:
            asked.append(len(prompts))
            return write(lm, prompts, *rest, **more)

        return counted

    for write in (write_answers, write_from_drafts):
        monkeypatch.setattr(f"audit.answering.answers.{write.__name__}", counting(write))
    report = Audit(**options).run(["open_qa"])
    assert asked == [53, 53]  # base and edited
    assert answers(report) == answers(undisturbed)
    assert "answers: 14 of 120 come from earlier runs" in reuse_sentences(report.reuse)


@pytest.mark.parametrize("other", [{"use_store": False}, {"dtype": "bfloat16"}], ids=lambda other: next(iter(other)))
def test_other_weights_are_asked_anew(options: dict[str, Any], other: dict[str, Any]) -> None:
    Audit(**options).verdict("open_qa")
    assert Audit(**options | other).verdict("open_qa").base_from_store is False


@pytest.mark.parametrize(
    "plan", [{"editor": "memit"}, {"editor": "rome", "edit_mode": "instance-single"}, {"editor": "grace"}]
)
def test_a_second_run_never_runs_the_model(
    options: dict[str, Any], plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = options | {"edit_count": 2, "limit": 4, "editor_config": {} if plan["editor"] == "grace" else QUICK} | plan
    first = Audit(**wanted).run()

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the model ran")

    monkeypatch.setattr("transformers.GPT2LMHeadModel.forward", refuse)
    second = Audit(**wanted).run()
    assert answers(second) == answers(first)
    assert second.edit_scores == first.edit_scores
    assert second.integrity == first.integrity
    assert second.fingerprints == first.fingerprints


def test_a_model_of_the_same_name_with_other_weights_gets_none_of_the_old_answers(
    options: dict[str, Any], tmp_path: Path
) -> None:
    world = build(tmp_path / "again")
    options = options | {"model": str(world.model), "limit": 5}
    Audit(**options).verdict("open_qa")
    from tests.tiny_models import build_tiny_gpt2

    build_tiny_gpt2(seed=1).model.save_pretrained(world.model)
    assert Audit(**options).verdict("open_qa").base_from_store is False


def test_a_spoilt_entry_of_the_store_is_asked_again(options: dict[str, Any], tmp_path: Path) -> None:
    before = Audit(**options).verdict("open_qa")
    for entry in (tmp_path / "store").rglob("*.jsonl"):
        entry.write_bytes(entry.read_bytes().replace(b'"text": "', b'"text": "not '))
    after = Audit(**options).verdict("open_qa")
    assert (after.base_from_store, after.verdict.base) == (False, before.verdict.base)


def test_not_a_number_is_caught_by_integrity_and_abilities(options: dict[str, Any]) -> None:
    report = Audit(**options | {"editor": f"{__name__}:Poison", "triage": False}).run(["open_qa", "dialogue"])
    unsound = {row.check for row in report.integrity if row.sound is False}
    assert {"finite weights", "finite logits", "relative update norm", "perplexity ratio"} <= unsound
    assert report.outcome == "FAIL"
    assert [row.verdict.edited for row in report.abilities] == [0.0, 0.0]  # no free points for an index 0
    json.loads((write_report(report, options["store"].parent) / "verdict.json").read_text(encoding="utf-8"))


def test_an_editor_that_breaks_leaves_the_weights_alone(options: dict[str, Any]) -> None:
    audit = Audit(**options | {"editor": f"{__name__}:Clumsy", "edit_mode": "instance-sequential"})
    before = weights_fingerprint(audit.lm)
    with pytest.raises(AuditError, match="case-1 cannot be edited"):
        audit.verdict("open_qa")
    assert weights_fingerprint(audit.lm) == before


def test_two_runs_say_the_same(options: dict[str, Any]) -> None:
    def run() -> RunReport:
        return Audit(**options | {"editor": "rome", "edit_count": 1, "editor_config": QUICK, "limit": 5}).run(["ner"])

    first, second = run(), run()
    assert answers(first) == answers(second)
    assert first.fingerprints == second.fingerprints
    assert [score.value for score in first.edit_scores] == [score.value for score in second.edit_scores]


def test_the_report_holds_what_it_takes_to_repeat_the_run(options: dict[str, Any], tmp_path: Path) -> None:
    report = Audit(**options | {"limit": 4}).run(["nli"])
    assert {"weights", "tokenizer", "edits", "patch", "data nli"} == set(report.fingerprints)
    assert {"python", "torch", "transformers"} <= set(report.versions)
    assert report.settings["model"] == options["model"]
    assert {"loading", "editing", "base answers", "edited answers", "edit scores", "integrity"} == set(report.seconds)
    folder = write_report(report, tmp_path / "reports")
    assert read_report(folder, with_items=True).items == report.items
    assert read_report(str(folder)) == read_report(folder)


def test_a_watcher_sees_every_stage(options: dict[str, Any]) -> None:
    class Watcher:
        stages: ClassVar[list[str]] = []

        @contextmanager
        def stage(self, name: str) -> Iterator[Any]:
            counts: list[tuple[int, int]] = []
            yield lambda done, total: counts.append((done, total))
            assert not counts or counts[-1][0] == counts[-1][1]
            self.stages.append(name)

    Audit(**options | {"limit": 4}, watcher=Watcher()).run(["nli"])
    assert Watcher.stages == ["identity edits", "integrity", "nli, base", "nli, edited", "asking about the edits"]


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"edits": "nowhere.json"}, "--edits 'nowhere.json' is neither a known name nor a file"),
        ({"edit_count": 5}, "--edit-count 5 is more than the 4 usable edit requests"),
        ({"editor": "nobody"}, "there is no editor 'nobody'"),
        ({"editor": "rome", "edit_mode": "batch-single"}, "the editor 'rome' cannot batch"),
        ({"editor": "memit", "editor_config": {"layerz": "1"}}, "layerz"),
        ({"model": "./nowhere"}, "nowhere"),
    ],
)
def test_what_is_wrong_is_said_before_anything_long_begins(
    options: dict[str, Any], wrong: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(AuditError) as caught:
        Audit(**options | wrong).prepare()
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_count_is_found_before_the_model_is_loaded(options: dict[str, Any]) -> None:
    with pytest.raises(AuditError, match="--edit-count 5"):
        Audit(**options | {"edit_count": 5, "model": "./nowhere"}).prepare()


def test_settings_and_options_are_two_ways_of_saying_the_same() -> None:
    assert Audit(AuditSettings(limit=7)).settings == Audit(limit=7).settings
    with pytest.raises(TypeError, match="not both"):
        Audit(AuditSettings(), limit=7)
