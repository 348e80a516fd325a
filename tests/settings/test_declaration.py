"""One declaration of an option reaches pytest, the command line, `[tool.audit]`, the settings and every key."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from audit.audit import Audit
from audit.cli import app
from audit.pytest_plugin.flags import Flags, prefixed
from audit.reports.folder import write_report
from audit.reports.rows import RunReport
from audit.settings.declaration import Effect, Option
from audit.settings.options import OPTIONS, AuditSettings, settings_from
from audit.settings.project_defaults import project_defaults
from audit.workflows.past_runs import PastRuns
from audit.workflows.preflight import Preflight
from tests.reports.sample import HEADER, PASSED

# A value other than the default for each option, as typed.
OTHER: dict[str, Any] = {
    "editor": "rome",
    "model": "pocket-gpt2",
    "revision": "v2",
    "edited": "./checkpoint",
    "edits": "zsre.json",
    "edit_mode": "batch-single",
    "edit_count": "3",
    "edit_batch_size": "2",
    "editor_config": ["layers=3"],
    "restraint": "rect:0.4",
    "margin": ["ner=3pp"],
    "ability": ["ner"],
    "inconclusive": "skip",
    "protocol": "gu2024",
    "data": "hub",
    "shots": "2",
    "reading": ["nli=choices"],
    "prompting": "plain",
    "limit": "50",
    "seed": "7",
    "edit_seed": "8",
    "device": "cpu",
    "dtype": "bfloat16",
    "reports": "other",
    "patch": "mine",
    "store": "kept",
}
DEFAULTS = AuditSettings()


def other(option: Option) -> AuditSettings:
    """The defaults with another value for one option."""
    return settings_from({option.name: True if option.kind.switch else OTHER[option.name]})


def of(*effects: Effect) -> list[Option]:
    return [option for option in OPTIONS if option.effect in effects]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.flag)
def test_an_option_sets_its_own_field_and_no_other(option: Option) -> None:
    before, after = DEFAULTS.plain(), other(option).plain()
    assert {name for name in before if before[name] != after[name]} == {option.field}


def test_pytest_and_the_command_line_have_every_option(pytestconfig: pytest.Config) -> None:
    parser = pytest.Parser(_ispytest=True)
    Flags(parser)
    text = CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "250"}).output
    for option in OPTIONS:
        for flag in (option.flag, prefixed(option)):
            typed = [flag] if option.kind.switch else [flag, "x"]
            parsed = getattr(parser.parse_known_args(typed), f"audit_{option.name}")
            assert parsed == (True if option.kind.switch else ["x"] if option.kind.repeatable else "x")
        assert f"{option.flag} " in text


@pytest.mark.parametrize("option", [one for one in OPTIONS if one.in_project], ids=lambda option: option.flag)
def test_a_project_can_set_every_option_but_plan_only(option: Option, tmp_path: Path) -> None:
    name = option.name.replace("_", "-")
    value = "true" if option.kind.switch else f'"{OTHER[option.name]}"'
    if option.kind.listed:
        value = str(OTHER[option.name])
    elif option.kind.repeatable:
        key, _, text = OTHER[option.name][0].partition("=")
        value = f'{{ {key} = "{text}" }}'
    (tmp_path / "pyproject.toml").write_text(f"[tool.audit]\n{name} = {value}\n", encoding="utf-8")
    found, wanted = settings_from(project_defaults(tmp_path)).plain(), other(option).plain()
    below = found[option.field], wanted[option.field]
    assert below[0] == below[1] or Path(below[0]) == tmp_path / below[1]  # a path is relative to the file


@pytest.mark.parametrize("option", of(Effect.ANSWERS, Effect.ITEMS), ids=lambda option: option.flag)
def test_the_signature_of_a_run_changes_with_what_is_asked(option: Option, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.audit.data_revisions", lambda *_: {})
    assert signature(other(option)) != signature(DEFAULTS)


def signature(settings: AuditSettings) -> str:
    parts = SimpleNamespace(
        settings=settings,
        source=SimpleNamespace(name=settings.data),
        changes=SimpleNamespace(identity=lambda known: {}),
        known=None,
        _known=None,
        lm=SimpleNamespace(dtype="float32"),
    )
    return Audit.signature(parts, ["ner"])  # type: ignore[arg-type]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.flag)
def test_a_calibration_is_kept_for_one_way_of_asking(option: Option) -> None:
    from audit.answering.noise_floors import _key

    keys = {_key("ner", settings, settings.data) for settings in (DEFAULTS, other(option))}
    assert len(keys) == (2 if option.effect is Effect.ANSWERS else 1)


def test_the_keys_of_kept_results_have_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    from audit.answering.noise_floors import _key

    monkeypatch.setattr("audit.audit.data_revisions", lambda *_: {})
    monkeypatch.setattr("audit.audit.ENGINE_VERSION", 0)
    assert _key("ner", DEFAULTS, "pocket") == "724594b97dab52ab3a7899c70bcc1b597027053032f312279a64f9bddb439e50"
    assert (
        signature(replace(DEFAULTS, limit=7, early_stop=True))
        == "9dd46b1ec9efbbb82d189e07a622931345099c6d946fc9abd88d129fdbca4732"
    )


@pytest.mark.parametrize("option", of(Effect.MODEL, Effect.ANSWERS), ids=lambda option: option.flag)
def test_the_header_of_a_run_has_the_model_and_the_way_of_asking(option: Option) -> None:
    headers = [Preflight(replace(settings, use_store=False)).header for settings in (DEFAULTS, other(option))]
    before, after = (getattr(header, option.field) for header in headers)
    assert before != after


@pytest.mark.parametrize("option", of(Effect.MODEL, Effect.ANSWERS), ids=lambda option: option.flag)
def test_a_preflight_uses_past_runs_of_the_same_model_and_way_of_asking(option: Option, tmp_path: Path) -> None:
    def past(settings: AuditSettings) -> bool:
        header = replace(HEADER, model=settings.model, data=settings.data)
        report = RunReport(header, (replace(PASSED, ability="nli", protocol="standard"),), settings=settings.plain())
        folder = tmp_path / str(settings == DEFAULTS)
        write_report(report, folder)
        return PastRuns(replace(DEFAULTS, reports=folder), DEFAULTS.data).verdict("nli") is not None

    assert past(DEFAULTS)
    assert not past(other(option))


def test_a_past_run_from_before_an_option_had_its_default(tmp_path: Path) -> None:
    settings = {name: value for name, value in DEFAULTS.plain().items() if name != "chat_template"}
    report = RunReport(replace(HEADER, model=DEFAULTS.model), (replace(PASSED, ability="nli"),), settings=settings)
    write_report(report, tmp_path)
    assert PastRuns(replace(DEFAULTS, reports=tmp_path), "pocket").verdict("nli") is not None
