"""The benchmarks of verdicts give rows, from few runs of their smallest designs; all others can be imported."""

import importlib
import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks import verdict_error_rates, verdict_power, verdict_tables, verdict_widths

BENCHMARKS = sorted(path.stem for path in Path(verdict_tables.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_can_be_imported(name):
    if name == "harness" and find_spec("lm_eval") is None:
        pytest.skip("lm-evaluation-harness is not installed")
    importlib.import_module(f"benchmarks.{name}")


@pytest.mark.parametrize("part", verdict_error_rates.PARTS)
def test_error_rates_are_shares(part):
    row = next(row for row in verdict_error_rates.PARTS[part](2) if None not in row.values())
    rates = {name: rate for name, rate in row.items() if name.startswith(("false", "PASS", "beyond", "studentized"))}
    assert rates and all(0 <= rate <= 1 for rate in rates.values())


@pytest.fixture
def one_design(monkeypatch):
    """The smallest design of the benchmark of power."""
    monkeypatch.setattr(verdict_power, "SIZES", (100,))
    monkeypatch.setattr(verdict_power, "DISCORDANCES", (0.1,))


@pytest.mark.parametrize("part", ["graded", "corpus"])
def test_power_is_compared_with_simulated_audits(part, one_design):
    row = next(iter(verdict_power.PARTS[part](4)))
    assert row["n"] == 100 and row["changes"] > 0
    assert 0 < row["margin"] < 1 and 0 < row["simulated"] < 1
    assert all(-100 <= row[name] <= 100 for name in ("PASS, 80%", "PASS, 50%", "seen, 80%"))


def test_widths_are_those_of_both_limits():
    row = next(iter(verdict_widths.widths(2)))
    assert 0 < row["after"] < row["before"] < 1
    assert row["ratio"] == pytest.approx(row["before"] / row["after"])


def test_a_part_is_written_as_data_and_as_a_table(tmp_path, monkeypatch, one_design):
    monkeypatch.setattr(verdict_tables, "RESULTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["verdict_power", "--runs", "4", "--parts", "binary"])
    verdict_power.main()
    rows = json.loads((tmp_path / "verdict-power.json").read_text())["binary"]["rows"]
    assert [row["alpha"] for row in rows] == [0.05, 0.025]
    assert (tmp_path / "verdict-power.md").read_text().count("| 100 | 10 |") == 2
