"""The examples run, and lead to the verdicts that they are there to show."""

import contextlib
import io
import json
import runpy
import sys
from pathlib import Path

import pytest

from audit.cli import main
from audit.reports.folder import read_report

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run in, with a store of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUDIT_STORE", str(tmp_path / "store"))
    return tmp_path


def run_example(name: str, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def audited(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of the `audit` command."""
    monkeypatch.setattr(sys, "argv", ["audit", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_merged_adapter_and_the_adapter_itself_are_judged_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    run_example("merge_lora.py", "lora", monkeypatch=monkeypatch)
    scores = []
    for edited in ("merged", "adapter"):
        asked = ["open_qa", "--limit", "16", "--edits", "lora/facts.jsonl", "--edit-count", "10"]
        given = ["--edited", f"lora/{edited}", "--reports", edited]
        code = audited("run", *asked, *given, monkeypatch=monkeypatch)
        (folder,) = Path(edited).iterdir()
        report = read_report(folder)
        assert code == {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3}[report.outcome]
        rates = {(one.measure, one.protocol): one.value for one in report.edit_scores}
        efficacy = rates["efficacy", "autoregressive"]
        assert efficacy is not None and efficacy >= 0.9
        scores.append(report.abilities[0].verdict.edited)
    assert scores[0] == scores[1]


@pytest.mark.parametrize(("bits", "code"), [("8", 0), ("2", 1)])
def test_rounding_to_eight_bits_passes_and_to_two_fails(bits: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run_example("quantize.py", "quantized", "--bits", bits, "--limit", "64", monkeypatch=monkeypatch)
    tables = [f"quantized/{name}.csv" for name in ("base", "quantized")]
    assert audited("compare", *tables, "--margin", "0.05", monkeypatch=monkeypatch) == code


def test_the_notebook_runs_and_its_outputs_are_those_of_its_code() -> None:
    """With fewer items and edits than it has, so texts are compared by their beginnings only."""
    notebook = json.loads((EXAMPLES / "gate_a_memit_edit.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    names: dict[str, object] = {}
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        for code in cells:
            exec(compile(code.replace("limit=100", "limit=24"), "notebook", "exec"), names)
    outcome, *_ = said.getvalue().split(":")
    assert outcome in ("PASS", "FAIL", "INCONCLUSIVE")
    assert "were not judged" in said.getvalue()
    outputs = [cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(outputs) and not any(one.get("name") == "stderr" for some in outputs for one in some)
