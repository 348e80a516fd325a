"""The `audit` command has the options and the output of the plugin, and exit codes for scripts."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from audit.abilities import ABILITIES
from audit.cli import app
from audit.reports.rows import RunReport
from audit.settings.options import OPTIONS, AuditSettings
from tests.pytest_plugin.fake_audit import FakeAudit
from tests.reports.sample import ALL_PASS, REPORT, UNDECIDED
from tests.reports.test_github import commands, file_values

RUNNER = CliRunner()


class FakeRun(FakeAudit):
    """What `audit run` needs beyond what the plugin does."""

    made: AuditSettings
    asked: list[str] | None = None
    result: RunReport = REPORT

    def __init__(self, settings: AuditSettings, *, watcher: Any = None, crew: Any = None) -> None:
        super().__init__(settings)
        self.crew = crew
        FakeRun.made = settings

    def run(self, abilities: list[str] | None = None) -> RunReport:
        FakeRun.asked = abilities
        return FakeRun.result


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[FakeRun]]:
    monkeypatch.setattr("audit.audit.Audit", FakeRun)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    FakeRun.result = REPORT
    yield FakeRun


def options(settings: AuditSettings) -> Mapping[str, Any]:
    return vars(settings)


def test_every_option_of_the_plugin_is_an_option_here() -> None:
    text = RUNNER.invoke(app, ["run", "--help"], env={"COLUMNS": "200"}).output
    assert [option.flag for option in OPTIONS if f"{option.flag} " not in text] == []


def test_options_become_settings(fake: type[FakeRun]) -> None:
    typed = "run ner nli --editor rome --margin ner=3pp --margin nli=0.02 --limit 5 --no-store --editor-config a=1"
    RUNNER.invoke(app, typed.split())
    expected = AuditSettings(
        editor="rome",
        margins={"ner": 0.03, "nli": 0.02},
        limit=5,
        use_store=False,
        editor_config={"a": "1"},
        ability=["ner", "nli"],
    )
    assert options(fake.made) == options(expected)
    assert fake.asked == ["ner", "nli"]


def test_the_default_is_all_defaults_and_all_abilities(fake: type[FakeRun]) -> None:
    RUNNER.invoke(app, ["run"])
    assert options(fake.made) == options(AuditSettings())
    assert fake.asked is None


@pytest.mark.parametrize(
    ("report", "typed", "code"),
    [
        (REPORT, "", 1),
        (ALL_PASS, "", 0),
        (replace(ALL_PASS, abilities=(UNDECIDED,)), "", 3),
        (replace(ALL_PASS, abilities=(UNDECIDED,)), "--inconclusive skip", 0),
    ],
)
def test_the_exit_code_is_the_outcome(fake: type[FakeRun], report: RunReport, typed: str, code: int) -> None:
    fake.result = report
    result = RUNNER.invoke(app, ["run", *typed.split()])
    assert result.exit_code == code
    assert f"{report.outcome}: memit on pocket-gpt2" in result.stdout


def test_a_run_writes_a_folder_that_report_shows_again(tmp_path: Path) -> None:
    first = RUNNER.invoke(app, ["run"])
    (folder,) = (tmp_path / "reports").iterdir()
    again = RUNNER.invoke(app, ["report", f"reports/{folder.name}"])
    assert again.exit_code == 0
    assert first.stdout.splitlines() == again.stdout.splitlines()[3:]  # below the header
    assert "reasoning      0.860   0.620" in again.stdout


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("run --limit none", "audit: --limit 'none': give a whole number of at least 1."),
        ("run --editor nobody", "audit: there is no editor 'nobody'; choose from memit, rome."),
        ("run poetry", "audit: there is no ability 'poetry'; give one of reasoning"),
        ("report nowhere", "audit: nowhere/verdict.json cannot be read: give the folder of a run"),
    ],
)
def test_a_wrong_value_is_one_sentence_and_exit_code_2(tmp_path: Path, typed: str, sentence: str) -> None:
    result = RUNNER.invoke(app, typed.split())
    assert result.exit_code == 2
    assert result.stderr.startswith(sentence)
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "reports").exists()


def test_plan_only_loads_no_model_and_writes_nothing(fake: type[FakeRun], tmp_path: Path) -> None:
    fake.result = None  # type: ignore[assignment]  # no report is made
    typed = "run nli ner --plan-only --model owner/no-such-model --margin ner=0.01 --limit 50 --no-store"
    result = RUNNER.invoke(app, typed.split(), env={"HF_HUB_OFFLINE": "1", "COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    assert "audit: at most 50 items per ability from pocket" in result.stderr
    nli, ner = (
        next(line.split() for line in result.stdout.splitlines() if line.startswith(name)) for name in ("nli", "ner")
    )
    assert (nli[1], ner[1]) == ("50", "50")
    assert ("0.05" in nli, "0.01" in ner) == (True, True)
    assert "PREFLIGHT: memit on owner/no-such-model: 0 of 2 margins can be certified" in result.stdout
    assert not (tmp_path / "reports").exists()


def test_list_prints_all_names() -> None:
    text = RUNNER.invoke(app, ["list"]).stdout
    assert f"abilities: {', '.join(ABILITIES)}" in text
    assert "protocols: standard, gu2024" in text
    assert "memit" in text
    assert "restraints: rect:SHARE, random:SHARE, prune or prune:ALPHA" in text
    assert "pocket models: " in text


def test_locate_traces_a_model_and_writes_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from audit.cli.locate import DEFAULT_SAMPLES
    from audit.measures import causal_tracing, layer_recommendation
    from audit.models import loading
    from tests.tiny_models import build_tiny_gpt2

    assert DEFAULT_SAMPLES == causal_tracing.NOISE_SAMPLES  # said twice, so that --help needs no torch
    lm = build_tiny_gpt2()
    monkeypatch.setattr(loading, "load_language_model", lambda name, **_: lm)
    monkeypatch.setattr(layer_recommendation, "recalled_facts", lambda _, facts: facts)  # a random model knows nothing
    result = RUNNER.invoke(app, "locate --model tiny --count 3 --seed 4 --noise-samples 2 --store kept".split())
    assert result.exit_code == 0, result.output
    assert "tiny-gpt2 recalls 3 of 3 facts (pocket)" in result.stdout
    assert "Recommended: layer=" in result.stdout
    folder = tmp_path / "reports" / "locate-tiny"
    assert sorted(file.name for file in folder.iterdir()) == [
        "causal-tracing.png",
        "causal-tracing.svg",
        "locate.html",
        "locate.json",
        "table.md",
    ]
    assert causal_tracing.TOKEN_ROLES[2] in (folder / "table.md").read_text(encoding="utf-8")
    assert list((tmp_path / "kept").rglob("*.json"))


def test_a_mistake_in_locate_is_one_sentence(tmp_path: Path) -> None:
    for typed, sentence in (
        ("--device gpu", "audit: --device 'gpu': give one of auto"),
        ("--facts nowhere.jsonl", "audit: --edits 'nowhere.jsonl' is neither a known name nor a file"),
        ("--model ./nowhere", "audit: there is no model folder './nowhere'"),
    ):
        result = RUNNER.invoke(app, ["locate", *typed.split()])
        assert (result.exit_code, result.stderr[: len(sentence)]) == (2, sentence)
    assert not (tmp_path / "reports").exists()


def test_a_run_writes_junit_where_it_is_told_to(fake: type[FakeRun], tmp_path: Path) -> None:
    assert RUNNER.invoke(app, ["run", "--junitxml", "out/a.xml", "--inconclusive", "skip"]).exit_code == 1
    suite = ElementTree.parse(tmp_path / "out" / "a.xml").getroot()[0]
    counts = (suite.get("tests"), suite.get("failures"), suite.get("skipped"))
    assert counts == ("3", "1", "1")
    refused = RUNNER.invoke(app, ["run", "--junitxml", "out"])
    assert refused.exit_code == 2
    assert refused.stderr == "audit: --junitxml out: that is a folder, not a file; give a file.\n"


def test_a_run_in_a_job_of_github_leaves_annotations_summary_and_outputs(
    fake: type[FakeRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    result = RUNNER.invoke(app, ["run"])
    assert result.exit_code == 1
    assert commands(result.stdout) == []
    found = [(level, of["title"]) for level, of, _ in commands(result.stderr)]
    assert found == [("error", "reasoning: FAIL"), ("warning", "audit"), ("warning", "summarization: INCONCLUSIVE")]
    (folder,) = (tmp_path / "reports").iterdir()
    values = file_values((tmp_path / "output").read_text(encoding="utf-8"))
    assert (values["verdict"], values["report"]) == ("FAIL", str(folder))
    RUNNER.invoke(app, ["report", str(folder)])  # what is past is not published again
    assert (tmp_path / "output").read_text(encoding="utf-8").count("verdict<<") == 1
