"""The commands and the example of docs/compare.md and docs/scale.md work, on files of the form that they name."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from audit.cli import app

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests" / "workflows" / "results" / "data"
NAMES = {"places": "mmlu", "sums": "gsm8k"}  # the pages name tasks that people know


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


COMMANDS = [
    line.split(" #")[0].strip()
    for page in ("docs/compare.md", "docs/scale.md", "README.md")
    for block in blocks(page, "bash")
    for line in block.splitlines()
    if line.startswith("audit compare")
]


def samples(source: Path, folder: Path) -> None:
    """Samples of the harness under other names, in the folder of a model as the harness makes it."""
    folder.mkdir(parents=True)
    for file in source.iterdir():
        name, text = file.name, file.read_text(encoding="utf-8")
        for old, new in NAMES.items():
            name = name.replace(f"_{old}_", f"_{new}_")
            text = text.replace(f'"{old}"', f'"{new}"') if file.suffix == ".json" else text
        (folder / name).write_text(text, encoding="utf-8")


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that the commands name."""
    for name in ("base", "edited", "step-100", "step-200"):
        samples(DATA / "lm_eval" / ("base" if name == "base" else "edited"), tmp_path / "out" / name / f"org__{name}")
    generator = np.random.default_rng(0)
    for name in ("base", "edited"):
        (tmp_path / "logs").mkdir(exist_ok=True)
        (tmp_path / "logs" / name).symlink_to(DATA / "inspect_eval" / name)
        scores = (generator.random(300) < 0.8).astype(int)
        lines = ["id,score", *(f"{k},{score}" for k, score in enumerate(scores))]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_pages_have_commands() -> None:
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize("command", sorted(set(COMMANDS)))
def test_a_command_of_the_pages_runs(command: str, results: Path) -> None:
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code in (0, 1, 3), result.output
    (report,) = (results / "reports").iterdir()
    assert (report / "report.md").is_file()
    assert ("junit" in command) == (results / "junit.xml").is_file()


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("docs/compare.md", "python")
    exec(compile(code, "docs/compare.md", "exec"), {"__name__": "page"})
    first, second = capsys.readouterr().out.splitlines()
    outcome, drop, lower, upper = first.split()
    assert (outcome, float(drop)) == ("INCONCLUSIVE", 0.25)
    assert float(lower) < 0.25 < float(upper)
    assert second == "PASS"
