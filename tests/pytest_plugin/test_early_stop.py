"""`--early-stop`: an ability is asked until its verdict is certain, and every report says so."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

# A run inside this process forgets whatever it imports itself, and torch cannot be imported twice.
import audit.audit  # noqa: F401
from audit import Audit
from audit.cli import app
from audit.reports.folder import read_report, write_report
from audit.reports.rows import RunReport
from tests.pytest_plugin.conftest import RealSuites
from tests.small_audit import SmallWorld, build, teach

pytest_plugins = ("pytester",)

SUITE = "def test_open_qa(degradation):\n    assert degradation('open_qa', max_drop=0.3).value == {outcome!r}\n"
EARLY = ("--early-stop", "--limit", "60", "--no-triage")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    small = build(tmp_path_factory.mktemp("world"), "llama")
    teach(small)
    return small


def options(world: SmallWorld, **more: object) -> dict[str, object]:
    return world.options(limit=60, use_store=False, early_stop=True, triage=False, device="cpu", **more)


def only_report(root: Path) -> RunReport:
    (folder,) = (root / "reports").iterdir()
    return read_report(folder, with_items=True)


def test_every_output_says_that_a_verdict_came_early(
    world: SmallWorld, real_suites: RealSuites, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(test_open_qa=SUITE.format(outcome="PASS"))
    result = real_suites.run(world, "--editor", "identity", *EARLY)
    result.assert_outcomes(passed=1, skipped=1)  # a control has no edit to judge
    report = only_report(pytester.path)
    (row,) = report.abilities
    assert row.outcome == "PASS" and row.verdict.n == len(report.items) < 40
    assert row.planned == 60 and row.verdict.method == "betting"
    assert row.sentence.startswith(f"After {row.verdict.n} of 60 items the drop of 0.000 is within the margin of 0.3 ")
    assert row.harm_p == 1.0
    result.stdout.re_match_lines([rf"open_qa.* {row.verdict.n} of 60 +PASS", "times: .*base answers"])
    page = (Path(str(report.folder)) / "report.md").read_text(encoding="utf-8")
    assert f"| {row.verdict.n} of 60 |" in page and row.sentence in page
    assert report.reuse.answers == 2 * row.verdict.n


def test_a_failing_assertion_states_the_number_of_items_asked(
    world: SmallWorld, real_suites: RealSuites, pytester: pytest.Pytester
) -> None:
    suite = SUITE.replace("assert degradation", "from audit.verdicts import PASS\n    assert degradation")
    pytester.makepyfile(test_open_qa=suite.replace(".value == {outcome!r}", " == PASS"))
    result = real_suites.run(world, "--editor", "vandal", *EARLY)
    text = result.stdout.str()
    assert re.search(r"margin 0\.300, n \d\d of 60", text), text
    assert "is beyond the margin of 0.3 with 97.5 % confidence, valid at every look" in text


def test_workers_stop_at_the_same_item_as_one_process(
    world: SmallWorld, real_suites: RealSuites, pytester: pytest.Pytester
) -> None:
    pytest.importorskip("xdist")
    pytester.makepyfile(test_open_qa=SUITE.format(outcome="FAIL"))
    alone = Audit(**options(world, editor="vandal", edits=str(world.edits))).verdict("open_qa", 0.3)
    real_suites.run_apart(world, "--editor", "vandal", *EARLY, "-p", "xdist", "-n", "2").assert_outcomes(
        passed=1, skipped=1
    )
    report = only_report(pytester.path)
    assert report.abilities == (alone,)
    assert len(report.items) == alone.verdict.n < 60


def test_the_command_line_stops_early_too(world: SmallWorld, tmp_path: Path) -> None:
    words = ["--model", str(world.model), "--edits", str(world.edits), "--data", str(world.rows), "--no-store"]
    words += ["--reports", str(tmp_path / "reports"), "--editor", "vandal", "--margin", "open_qa=0.3", *EARLY]
    result = CliRunner().invoke(app, ["run", "open_qa", "--device", "cpu", *words])
    assert result.exit_code == 1, result.output
    (row,) = only_report(tmp_path).abilities
    assert row.verdict.n < row.planned == 60  # type: ignore[operator]


def test_everything_is_asked_without_the_option(world: SmallWorld) -> None:
    whole = replace(Audit(**options(world, editor="identity")).settings, early_stop=False)
    row = Audit(whole, source=world.source).verdict("open_qa", 0.3)
    assert (row.verdict.n, row.planned, row.stopping_rule) == (60, None, None)


def test_a_limit_below_one_block_is_asked_whole_with_the_remaining_alpha(world: SmallWorld) -> None:
    row = Audit(**{**options(world, editor="identity"), "limit": 10}).verdict("open_qa", 0.3)
    assert (row.outcome, row.verdict.n, row.planned) == ("INCONCLUSIVE", 10, None)
    assert "97.5 % confidence" in row.sentence


def test_another_margin_starts_with_the_known_answers(world: SmallWorld) -> None:
    audit = Audit(**options(world, editor="identity"))
    wide, narrow, wide_again = (audit.verdict("open_qa", margin) for margin in (0.3, 0.1, 0.3))
    assert wide.verdict.n < narrow.verdict.n
    assert wide_again == wide
    assert Audit(**options(world, editor="identity")).verdict("open_qa", 0.1) == narrow
    report = audit.report()
    assert report.reuse.answers == 2 * narrow.verdict.n == 2 * len(report.items)
    assert report.reuse.answers_known == 0


def test_all_answers_can_be_had_after_an_early_stop(world: SmallWorld) -> None:
    audit = Audit(**options(world, editor="identity"))
    audit.verdict("open_qa", 0.3)
    paired = audit.answers("open_qa")
    (edited,) = paired.edited
    assert len(paired.base.items) == len(edited.items) == len({item.key for item in paired.base.items}) == 60


def test_several_edited_models_are_asked_block_by_block(world: SmallWorld) -> None:
    wanted = options(world, editor="vandal", edit_mode="instance-single", edit_count=2)
    row = Audit(**wanted).verdict("open_qa", 0.3)
    assert row.outcome == "FAIL" and row.verdict.n < 60


def test_early_stop_is_part_of_the_signature(world: SmallWorld) -> None:
    early = Audit(**options(world, editor="identity"))
    whole = Audit(replace(early.settings, early_stop=False), source=world.source)
    assert early.signature() != whole.signature()


@pytest.fixture
def stopped(world: SmallWorld, tmp_path: Path) -> Path:
    """The folder of a run that stopped early with a PASS."""
    audit = Audit(**options(world, editor="identity", margins={"open_qa": 0.2}))
    return write_report(audit.run(["open_qa"]), tmp_path / "reports")


def rescored(folder: Path, *words: str) -> RunReport:
    result = CliRunner().invoke(app, ["rescore", str(folder), "--reports", str(folder.parent / "new"), *words])
    assert result.exit_code in (0, 1, 3), result.output
    (new,) = (folder.parent / "new").iterdir()
    return read_report(new, with_items=True)


def test_rescoring_reproduces_a_stopped_run(stopped: Path) -> None:
    old, new = read_report(stopped, with_items=True), rescored(stopped)
    assert new.abilities == old.abilities
    assert new.items == old.items


def test_rescoring_with_a_wider_margin_stops_sooner(stopped: Path) -> None:
    old, new = read_report(stopped), rescored(stopped, "--margin", "open_qa=0.6")
    assert new.abilities[0].outcome == "PASS"
    assert new.abilities[0].verdict.n < old.abilities[0].verdict.n == len(new.items)


def test_rescoring_never_treats_a_stopped_run_as_a_fixed_sample(stopped: Path) -> None:
    new = rescored(stopped, "--margin", "open_qa=0.12")  # these items, had they been all, would do
    (row,) = new.abilities
    assert row.outcome == "INCONCLUSIVE"
    assert row.sentence.startswith(
        f"After {row.verdict.n} of 60 items, where it was stopped, the drop of 0.000 does not settle"
    )
    result = CliRunner().invoke(app, ["report", str(new.folder)])
    assert "Next: run the audit again; it stopped before it asked" in result.output


def test_a_report_keeps_the_number_of_available_items(stopped: Path) -> None:
    plain = json.loads((stopped / "verdict.json").read_text(encoding="utf-8"))["abilities"][0]
    assert plain["stopping_rule"] == {"clusters_by_size": [60], "block": 16}


def test_a_pocket_model_has_the_same_verdicts_with_fewer_items() -> None:
    wanted = {"model": "pocket-gpt2", "editor": "vandal", "edit_count": 1, "limit": 100, "use_store": False}
    early, whole = (Audit(**wanted, early_stop=early, triage=False).verdict("nli") for early in (True, False))
    assert early.outcome == whole.outcome == "FAIL"
    assert early.verdict.n <= 32 < whole.verdict.n == 100
