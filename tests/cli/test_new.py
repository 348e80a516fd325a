"""`audit new` writes files that work, and overwrites none."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.abilities.registry import FEWEST_ROWS, load_entry
from audit.cli import app
from audit.cli.new import TEMPLATES

RUNNER = CliRunner()
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new(*words: str) -> list[str]:
    done = RUNNER.invoke(app, ["new", *words])
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "file", "given"),
    [((), "triage.toml", "triage.toml"), (("--class",), "triage.py", "triage.py:Triage")],
)
def test_a_new_ability_is_one(words: tuple[str, ...], file: str, given: str, folder: Path) -> None:
    lines = new("ability", "triage", *words)
    assert lines == [
        *(f"wrote {one}" for one in (file, "triage.jsonl", "suites/test_triage.py", "conftest.py")),
        f"next: put your rows into triage.jsonl, then: audit run --ability {given}",
    ]
    rows = folder / "triage.jsonl"
    rows.write_text(rows.read_text(encoding="utf-8") * FEWEST_ROWS, encoding="utf-8")
    entry = load_entry(given)
    entry.check()
    assert entry.name == "triage" and entry.ability is not None
    item = entry.ability.item({"text": "The app is slow.", "team": "technical"}, "triage/0")
    assert entry.ability.prompt(item) == "Ticket: The app is slow.\nTeam:"
    suite = (folder / "suites" / "test_triage.py").read_text(encoding="utf-8")
    assert f'assert degradation("./{given}", max_drop=MAX_DROP, keep=KEEP) == PASS' in suite
    assert len(suite.splitlines()) == len((ROOT / "suites" / "test_nli.py").read_text(encoding="utf-8").splitlines())
    compile(suite, "test_triage.py", "exec")


@pytest.mark.parametrize("there", ["triage.toml", "triage.jsonl", "suites/test_triage.py"])
def test_no_file_is_overwritten(there: str, folder: Path) -> None:
    (folder / there).parent.mkdir(exist_ok=True)
    (folder / there).write_text("mine", encoding="utf-8")
    done = RUNNER.invoke(app, ["new", "ability", "triage"])
    assert done.exit_code == 2
    assert (
        done.stderr == f"audit: {there} exists already, and no file is overwritten; choose another name, or move it.\n"
    )
    assert [path for path in folder.rglob("*") if path.is_file()] == [folder / there]


def test_a_conftest_that_is_there_is_kept(folder: Path) -> None:
    (folder / "conftest.py").write_text("mine", encoding="utf-8")
    assert "wrote conftest.py" not in new("ability", "triage")
    assert (folder / "conftest.py").read_text(encoding="utf-8") == "mine"


def test_a_new_editor_is_the_documented_one(folder: Path) -> None:
    assert new("editor", "my_whisper")[0] == "wrote my_whisper.py"
    page = (ROOT / "docs" / "write-an-editor.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    written = (folder / "my_whisper.py").read_text(encoding="utf-8")
    assert written.replace("MyWhisper", "Whisper").replace("my_whisper", "whisper") == code


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("ability", "nli"), "nli is a built-in ability; choose another name."),
        (("editor", "rome"), "rome is a built-in editor; choose another name."),
        (("ability", "My-Task"), "the name 'My-Task' is no name of a module; use lower-case letters, digits and _."),
        (("abilty", "x"), "audit new 'abilty': give one of ability, editor (did you mean 'ability'?)."),
    ],
)
def test_a_mistake_is_one_sentence(words: tuple[str, ...], sentence: str, folder: Path) -> None:
    done = RUNNER.invoke(app, ["new", *words])
    assert (done.exit_code, done.stderr) == (2, f"audit: {sentence}\n")
    assert list(folder.iterdir()) == []


def test_every_template_is_used() -> None:
    assert sorted(path.name for path in TEMPLATES.iterdir()) == [
        "ability.py.txt",
        "ability.toml.txt",
        "editor.py.txt",
        "rows.jsonl.txt",
        "suite.py.txt",
    ]
