"""`[tool.audit]` sets defaults under the names of the options, with the same checks."""

from pathlib import Path
from typing import Any

import pytest

from audit.errors import AuditError
from audit.settings.options import OPTIONS, AuditSettings, settings_from
from audit.settings.project_defaults import nearest_project, project_defaults, with_project_defaults
from audit.verdicts.margins import Points, Retained

NOTHING: dict[str, Any] = {option.name: None for option in OPTIONS}


def project(folder: Path, table: str) -> Path:
    (folder / "pyproject.toml").write_text(f"[tool.other]\nx = 1\n[tool.audit]\n{table}\n", encoding="utf-8")
    return folder


def settings(folder: Path, **typed: Any) -> AuditSettings:
    return settings_from(with_project_defaults({**NOTHING, **typed}, folder))


def test_the_table_fills_in_options_that_are_not_typed(tmp_path: Path) -> None:
    project(tmp_path, 'model = "gpt2"\nedit-count = 3\nearly_stop = true\nno-reuse = false\nmargin = { nli = "90%" }')
    wanted = settings(tmp_path, limit="50")
    assert wanted == AuditSettings(
        model="gpt2", edit_count=3, early_stop=True, margins={"nli": Retained(0.9)}, limit=50
    )


def test_typed_options_override_the_table_and_margins_do_so_per_ability(tmp_path: Path) -> None:
    project(tmp_path, 'seed = 4\n[tool.audit.margin]\nnli = 0.02\nner = "3pp"')
    wanted = settings(tmp_path, seed="7", margin=["nli=0.1"])
    assert wanted.seed == 7
    assert wanted.margins == {"nli": Points(0.1), "ner": Points(0.03)}


@pytest.mark.parametrize("folder", [None, "there"])
def test_without_a_table_the_defaults_hold(tmp_path: Path, folder: str | None) -> None:
    assert settings_from(with_project_defaults(NOTHING, folder and tmp_path)) == AuditSettings()


def test_paths_are_relative_to_the_file_and_names_are_kept(tmp_path: Path) -> None:
    project(tmp_path, 'model = "./mine"\nedits = "pocket"\ndata = "../rows"\nreports = "out"')
    wanted = settings(tmp_path)
    assert (wanted.model, wanted.edits) == (str(tmp_path / "mine"), "pocket")
    assert Path(wanted.data).resolve() == tmp_path.parent / "rows"
    assert wanted.reports == tmp_path / "out"


def test_a_typed_editor_drops_the_settings_of_the_projects_editor(tmp_path: Path) -> None:
    project(tmp_path, 'editor = "memit"\nrestraint = "rect:0.4"\neditor_config = { layers = "3" }')
    assert settings(tmp_path).editor_config == {"layers": "3"}
    other = settings(tmp_path, editor="rome")
    assert (other.editor, other.editor_config, other.restraint) == ("rome", {}, "rect:0.4")
    assert settings(tmp_path, edited="./checkpoint").restraint is None


def test_no_store_overrides_a_store_in_the_table(tmp_path: Path) -> None:
    project(tmp_path, 'store = "kept"')
    assert settings(tmp_path).store == tmp_path / "kept"
    assert not settings(tmp_path, no_store=True).use_store


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("modle = 'x'", "'modle' is not an option that a project can set (did you mean 'model'?)"),
        ("plan-only = true", "'plan-only' is not an option that a project can set; remove it"),
        ("early-stop = 1", "early-stop = 1 is neither true nor false"),
        ("limit = true", "limit = True is neither a string nor a number"),
        ("limit = [1]", r"limit = [1] is neither a string nor a number"),
        ("margin = 0.05", "margin = 0.05 is not a table of names and values; write { name = value }"),
        ("margin = { nli = [1] }", "is not a table of names and values"),
        ("limit = ", "is not TOML"),
    ],
)
def test_each_mistake_in_the_table_is_one_error(tmp_path: Path, table: str, sentence: str) -> None:
    with pytest.raises(AuditError) as caught:
        project_defaults(project(tmp_path, table))
    assert sentence in str(caught.value)
    assert str(tmp_path / "pyproject.toml") in str(caught.value)


@pytest.mark.parametrize(("table", "sentence"), [("limit = 0", "--limit '0'"), ("margin = { nli = 3 }", "'nli=3'")])
def test_values_are_checked_like_typed_ones(tmp_path: Path, table: str, sentence: str) -> None:
    with pytest.raises(AuditError, match=sentence):
        settings(project(tmp_path, table))


def test_the_nearest_file_upwards_is_used(tmp_path: Path) -> None:
    project(tmp_path, "")
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert nearest_project(tmp_path / "a" / "b") == tmp_path
    project(tmp_path / "a", "")
    assert nearest_project(tmp_path / "a" / "b") == tmp_path / "a"


def test_only_the_options_of_a_command_are_filled_in(tmp_path: Path) -> None:
    project(tmp_path, "limit = 5\nedit_count = 3")
    assert with_project_defaults({"limit": None}, tmp_path) == {"limit": "5"}
