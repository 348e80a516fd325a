"""Completion in the shell: the scripts, the values of options and arguments, and that it imports nothing slow."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.abilities import ABILITIES
from audit.cli import app
from audit.editors import EDITORS
from audit.pocket import pocket_names

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "import sys; sys.argv[0] = 'audit'; from audit.cli import main; main()"


def completed(words: str, folder: Path, program: str = PROGRAM) -> list[str]:
    """What the shell offers for the last of the words; a blank at the end begins a new one."""
    variables = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "_AUDIT_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=variables, capture_output=True, text=True, timeout=60
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout.splitlines()


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with two runs, and something else in reports/."""
    for name in ("20261101-memit", "20261102-rome", "grid"):
        (tmp_path / "reports" / name).mkdir(parents=True)
        (tmp_path / "reports" / name / ("grid.csv" if name == "grid" else "verdict.json")).write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("audit run --editor me", ["mend", "memit", "memit-seq"]),
        ("audit run --editor ", list(EDITORS)),
        ("audit run --model ", list(pocket_names())),
        ("audit curve ", list(ABILITIES)),
        ("audit run --ability s", ["summarization", "sentiment"]),
        ("audit run --dtype f", ["float32", "float16"]),
        ("audit report ", ["reports/20261101-memit", "reports/20261102-rome"]),
        ("audit rescore reports/20261102", ["reports/20261102-rome"]),
        ("audit store ", ["size", "prune", "verify"]),
        ("audit completion ", ["bash", "zsh", "fish"]),
        ("audit run --edits fa", [""]),  # nothing, so the shell completes files
    ],
)
def test_commands_and_values_are_completed(words: str, expected: list[str], runs: Path) -> None:
    assert completed(words, runs) == expected


def test_completion_imports_nothing_slow(runs: Path) -> None:
    slow = ("torch", "transformers", "numpy", "rich", "datasets", "huggingface_hub")
    shown = f"import atexit, sys; atexit.register(lambda: print(*({slow!r} & sys.modules.keys())));"
    shown = shown.replace(repr(slow), f"set({slow!r})") + PROGRAM
    assert completed("audit run --model pocket-l", runs, shown) == ["pocket-llama", ""]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_says_how_to_load_it(shell: str) -> None:
    result = CliRunner().invoke(app, ["completion", shell])
    assert result.exit_code == 0
    assert f"_AUDIT_COMPLETE=complete_{shell}" in result.output
    assert f"# for this shell:  {'audit completion fish | source' if shell == 'fish' else 'eval'}" in result.output
    assert result.output.startswith("#compdef audit" if shell == "zsh" else "# for this shell")


def test_another_shell_is_refused() -> None:
    result = CliRunner().invoke(app, ["completion", "tcsh"])
    assert (result.exit_code, result.output) == (2, "audit: audit completion 'tcsh': give one of bash, zsh, fish.\n")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_with_the_script(runs: Path, tmp_path: Path) -> None:
    """The script itself, in a real bash: the function that it defines fills COMPREPLY."""
    command = tmp_path / "bin" / "audit"
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable}\nimport sys; sys.path.insert(0, {str(ROOT)!r})\n{PROGRAM}\n")
    command.chmod(0o755)
    script = (
        'eval "$(audit completion bash)"; COMP_WORDS=(audit run --editor mem); COMP_CWORD=3; '
        '_audit_completion audit; echo "${COMPREPLY[@]}"; complete -p audit'
    )
    variables = {**os.environ, "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}"}
    finished = subprocess.run(
        ["bash", "--norc", "-c", script], cwd=runs, env=variables, capture_output=True, text=True, timeout=60
    )
    assert finished.stderr == ""
    assert finished.stdout.splitlines()[0] == "memit memit-seq"
    assert "-F _audit_completion audit" in finished.stdout
