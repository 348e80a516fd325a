"""`audit compare`: exit codes, files, runs of this project, and nothing heavy on the way."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from audit.cli import app
from audit.reports.folder import read_report
from audit.reports.rows import RunReport
from tests.reports.test_github import file_values

RUNNER = CliRunner()
DATA = Path(__file__).parents[1] / "workflows" / "results" / "data"
LM_EVAL = DATA / "lm_eval"
HEAVY = {"torch", "transformers", "datasets", "scipy", "pandas", "inspect_ai"}


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")


def compared(folder: Path, *arguments: str, code: int | None = None) -> RunReport:
    """The report that `audit compare` leaves."""
    result = RUNNER.invoke(app, ["compare", *arguments, "--reports", str(folder)])
    assert code is None or result.exit_code == code, result.output
    (new,) = folder.iterdir()
    return read_report(new, with_items=True)


def table(path: Path, right: int, of: int = 200) -> str:
    lines = ["id,score,floor", *(f"{k},{int(k < right)},0.25" for k in range(of))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("right", "options", "code"),
    [
        (160, [], 0),
        (120, [], 1),
        (157, ["--margin", "0.02"], 3),
        (157, ["--margin", "0.02", "--inconclusive", "skip"], 0),
        (120, ["--margin", "50%"], 0),
    ],
)
def test_the_exit_code_is_the_outcome(right: int, options: list[str], code: int, tmp_path: Path) -> None:
    base, edited = table(tmp_path / "base.csv", 160), table(tmp_path / "edited.csv", right)
    result = RUNNER.invoke(app, ["compare", base, edited, "--reports", str(tmp_path / "reports"), *options])
    assert result.exit_code == code, result.output
    outcome = {0: "PASS", 1: "FAIL", 3: "INCONCLUSIVE"}[3 if "skip" in options else code]
    assert f"\n{outcome}: {edited} against {base}: 1 {outcome}\n" in result.stdout
    assert "metric score; 200 items, paired by id" in result.stderr


def test_the_report_has_all_files_and_is_shown_again(tmp_path: Path) -> None:
    report = compared(tmp_path / "reports", str(LM_EVAL / "base"), str(LM_EVAL / "edited"), code=1)
    folder = Path(report.folder or "")
    assert sorted(path.name for path in folder.iterdir()) == ["items.jsonl", "report.html", "report.md", "verdict.json"]
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert text.startswith(f"# FAIL: {LM_EVAL / 'edited'} against `{LM_EVAL / 'base'}`")
    assert "asked and decoded as in these results" in text and "greedy" not in text
    assert "| places | " in text and "| exact_match,strict-match |" in text
    shown = RUNNER.invoke(app, ["report", str(folder)])
    assert shown.exit_code == 0 and "places (lm-eval)" in shown.stdout
    assert {item.flips for item in report.items} == {(), ("right to wrong",)}


def test_junit_has_a_case_for_each_ability(tmp_path: Path) -> None:
    file = tmp_path / "junit.xml"
    options = [str(LM_EVAL / "base"), str(LM_EVAL / "edited"), "--junit", str(file)]
    report = compared(tmp_path / "reports", *options, code=1)
    suite = ElementTree.parse(file).getroot()[0]
    assert suite.attrib.items() >= {("tests", "2"), ("failures", "2"), ("skipped", "0")}
    places, sums = suite.iter("testcase")
    assert suite.find("system-out") is None
    assert (places.get("name"), sums.get("name")) == ("places", "sums")
    failure = places.find("failure")
    assert failure is not None and failure.get("message") == report.abilities[0].sentence
    found = {one.get("name"): one.get("value") for one in places.iter("property")}
    assert float(found["places.drop"] or "") == report.abilities[0].verdict.drop and found["places.outcome"] == "FAIL"


def test_junit_skips_what_is_inconclusive_where_that_counts_as_success(tmp_path: Path) -> None:
    file, base, edited = tmp_path / "junit.xml", table(tmp_path / "b.csv", 160), table(tmp_path / "e.csv", 157)
    options = [base, edited, "--margin", "0.02", "--inconclusive", "skip", "--junit", str(file)]
    compared(tmp_path / "reports", *options, code=0)
    suite = ElementTree.parse(file).getroot()[0]
    assert (suite.get("failures"), suite.get("skipped")) == ("0", "1") and suite[0].find("skipped") is not None
    assert "paired by their ids alone" in (suite.findtext("system-out") or "")


def test_a_comparison_in_a_job_of_github_leaves_annotations_and_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    report = compared(tmp_path / "reports", str(LM_EVAL / "base"), str(LM_EVAL / "edited"), code=1)
    values = file_values((tmp_path / "output").read_text(encoding="utf-8"))
    harmed = ", ".join(alarm.name for alarm in report.alarms if alarm.harmed)
    assert (values["verdict"], values["harmed"], values["report"]) == ("FAIL", harmed, report.folder)
    assert "places" in harmed
    assert (tmp_path / "summary").read_text(encoding="utf-8").startswith("# FAIL: ")


def test_a_trend_is_a_table(tmp_path: Path) -> None:
    files = [table(tmp_path / f"{name}.csv", right) for name, right in (("base", 160), ("s1", 159), ("s2", 100))]
    result = RUNNER.invoke(app, ["compare", *files, "--trend", "--reports", str(tmp_path / "reports")])
    assert result.exit_code == 1, result.output
    assert "since the last" in result.stdout and "-0.295 !" in result.stdout


def test_a_comparison_cannot_be_scored_again(tmp_path: Path) -> None:
    report = compared(tmp_path / "reports", str(LM_EVAL / "base"), str(LM_EVAL / "edited"))
    result = RUNNER.invoke(app, ["rescore", str(report.folder)])
    assert result.exit_code == 2
    assert "is a comparison, whose scores are from elsewhere; judge them again with `audit compare" in result.stderr


@pytest.mark.parametrize("protocol", ["standard", "gu2024"])
def test_a_run_against_itself_has_its_own_verdicts(run: Callable[..., Path], protocol: str, tmp_path: Path) -> None:
    folder = run(protocol)
    old = read_report(folder)
    new = compared(tmp_path / "new", str(folder), str(folder), code=1)
    assert len(new.abilities) == 8
    assert new.abilities == old.abilities
    assert [alarm.adjusted for alarm in new.alarms] == [alarm.adjusted for alarm in old.alarms]
    assert new.header.result_caveats == ()


def test_two_runs_are_compared_with_other_margins(run: Callable[..., Path], tmp_path: Path) -> None:
    before, after = run(names=("nli", "ner")), run(right=0.95, names=("nli", "ner"))
    assert before != after
    new = compared(tmp_path / "new", str(before), str(after), "--margin", "ner=70%")
    assert [row.asked_margin for row in new.abilities] == ["0.05", "70%"]
    old = read_report(after)
    assert [row.verdict.edited for row in new.abilities] == [row.verdict.edited for row in old.abilities]
    assert new.abilities[0].verdict == old.abilities[0].verdict  # the base models said the same


def test_no_torch_is_imported(run: Callable[..., Path], tmp_path: Path) -> None:
    folder, base, edited = run(names=("nli",)), table(tmp_path / "b.csv", 160), table(tmp_path / "e.csv", 160)
    pairs = [
        (base, edited),
        (str(folder), str(folder)),
        *(
            (str(DATA / name / "base"), str(DATA / name / "edited"))
            for name in ("lm_eval", "inspect_eval", "inspect_json")
        ),
    ]
    script = (
        "import sys\nimport audit; assert callable(audit.compare)\nfrom audit.cli import app\n"
        f"for pair in {pairs!r}:\n"
        f"    try: app(['compare', *pair, '--reports', {str(tmp_path / 'new')!r}])\n"
        "    except SystemExit: pass\n"
        f"print('imported', *({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines()[-1] == "imported", done.stdout + done.stderr
    assert len(list((tmp_path / "new").iterdir())) == 5
