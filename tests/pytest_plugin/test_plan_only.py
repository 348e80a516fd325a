"""`--plan-only`: the suites show what they could certify, no model is loaded, and nothing is written."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

import audit.audit
import audit.editing.edit_run

# A run inside this process forgets whatever it imports itself, and numpy and torch cannot be imported twice.
import audit.models.loading
import audit.workflows.preflight
from tests.pytest_plugin.conftest import EDITED, Suites
from tests.small_audit import abilities, write_lines

pytest_plugins = ("pytester",)

NOT_HERE = ("--model", "owner/no-such-model")  # so nothing can be timed either
LOCALITY = "def test_locality(locality): assert locality"


class PreflightSuites:
    """Runs suites with `--plan-only` on the pocket world, and without a conftest."""

    def __init__(self, suites: Suites) -> None:
        suites.pytester.makeconftest("")
        self.suites = suites

    def run(self, names: str, *options: str) -> pytest.RunResult:
        return self.suites.run(names, "-p", "audit.pytest_plugin", "--plan-only", "--no-store", "-rs", *options)

    def run_apart(self, names: str, *options: str) -> pytest.RunResult:
        return self.suites.run_apart(names, "-p", "audit.pytest_plugin", "--plan-only", "--no-store", "-rs", *options)


@pytest.fixture
def preflight(suites: Suites, monkeypatch: pytest.MonkeyPatch) -> PreflightSuites:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return PreflightSuites(suites)


def test_no_model_is_loaded_and_nothing_is_written(preflight: PreflightSuites, monkeypatch: pytest.MonkeyPatch) -> None:
    def loading(*_: object, **__: object) -> None:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr(audit.editing.edit_run, "load_language_model", loading)
    monkeypatch.setattr(audit.models.loading._models, "from_pretrained", loading)
    monkeypatch.setattr(audit.models.loading._tokenizers, "from_pretrained", loading)
    monkeypatch.setattr(audit.audit.Audit, "prepare", loading)
    preflight.suites.pytester.makepyfile(test_edited=EDITED, test_locality=LOCALITY)
    result = preflight.run("nli sentiment", "--limit", "400", "--model", "pocket-gpt2")
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(skipped=4)
    result.stdout.fnmatch_lines(
        [
            "*side-effect audit, preflight only*",
            "audit: memit edits pocket-gpt2: preflight only, from pocket",
            "nli * 400 * 10.0 % assumed * 0.05 *can be certified",
            "sentiment * 400 * can be certified",
            "minutes: a rough estimate without a past run: 3.08 million weights*",
            "PREFLIGHT: memit on pocket-gpt2: 2 of 2 margins can be certified, about *minutes of answers",
        ]
    )
    text = result.stdout.str()
    assert "preflight only: nli: a margin of 0.05 can be certified (smallest: 0.04" in text
    assert text.count(": preflight only\n") == 2  # the edit and locality
    assert not (preflight.suites.path / "reports").exists()


@pytest.mark.parametrize(
    ("model", "minutes"),
    [(NOT_HERE, "unknown, since there is no past run*"), (("--model", "pocket-gpt2"), "a rough estimate*")],
)
def test_torch_is_not_imported_for_a_cpu(preflight: PreflightSuites, model: tuple[str, ...], minutes: str) -> None:
    preflight.suites.pytester.makeconftest(
        "import sys\ndef pytest_terminal_summary(): print('HEAVY', [m for m in ('torch', 'scipy') if m in sys.modules])"
    )
    result = preflight.run_apart("nli", "--device", "cpu", *model)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines([f"minutes: {minutes}", "HEAVY []"])


def test_a_margin_that_is_too_small_comes_with_a_remedy(preflight: PreflightSuites) -> None:
    result = preflight.run("open_qa", "--limit", "100", "--margin", "open_qa=7pp", *NOT_HERE)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["open_qa * 0.07  too small  --limit 1*"])
    said = " ".join(result.stdout.str().split())
    assert "open_qa: a margin of 0.07 is too small for 100 items, which certify 0.089: about --limit 1" in said
    assert "is enough, and the data has 480." in said


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n", "2")])
def test_the_controller_collects_the_rows_of_the_workers(preflight: PreflightSuites, workers: tuple[str, ...]) -> None:
    if workers:
        pytest.importorskip("xdist")
    names = "nli sentiment closed_qa"
    result = preflight.run_apart(names, *NOT_HERE, *workers)
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(skipped=3)
    result.stdout.fnmatch_lines([f"{name} * too small *" for name in ("nli", "closed_qa", "sentiment")])
    result.stdout.fnmatch_lines(["PREFLIGHT: memit on owner/no-such-model: 0 of 3 margins can be certified"])


def test_missing_data_of_one_ability_does_not_stop_the_others(preflight: PreflightSuites, tmp_path: Path) -> None:
    write_lines(tmp_path / "rte.jsonl", abilities()["rte"])
    result = preflight.run("nli sentiment", "--data", str(tmp_path), *NOT_HERE)
    assert result.ret == pytest.ExitCode.OK
    said = " ".join(result.stdout.str().split())
    assert f"preflight only: sentiment cannot be asked: {tmp_path} has no sst2.jsonl or sst2.parquet" in said
    assert "0 of 1 margin can be certified, cannot be asked: sentiment" in said
    assert "but the data has only 12." in said


def test_a_folder_without_data_ends_the_run(preflight: PreflightSuites) -> None:
    result = preflight.run("nli", "--data", "nowhere", *NOT_HERE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --data nowhere: there is no such folder; *"])


def test_wrong_margins_end_the_run_with_one_sentence(preflight: PreflightSuites) -> None:
    result = preflight.run("nli", "--margin", "nli=3", *NOT_HERE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --margin 'nli=3': a margin lies between 0 and 1 score points, *"])

    preflight.suites.pytester.makepyfile(test_wrong="def test_wrong(degradation): degradation('nli', max_drop=3)")
    result = preflight.run("", *NOT_HERE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "a margin of 3" in result.stdout.str()
    assert "Traceback" not in result.stdout.str()


def test_the_data_of_a_conftest_is_used(
    preflight: PreflightSuites, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lines(tmp_path / "rte.jsonl", abilities()["rte"])
    monkeypatch.setenv("AUDIT_TEST_ROWS", str(tmp_path))
    result = preflight.run("nli", "-p", "tests.pytest_plugin.on_rows", *NOT_HERE)
    result.stdout.fnmatch_lines([f"audit: at most 200 items per ability from {tmp_path}, *", "nli * 12 *"])


def test_junit_properties_have_the_smallest_margin(preflight: PreflightSuites) -> None:
    preflight.run("nli", "--junit-xml", "preflight.xml", *NOT_HERE)
    found = ElementTree.parse(preflight.suites.path / "preflight.xml").iter("property")
    properties = {one.get("name"): one.get("value") for one in found}
    assert (properties["nli.items"], properties["nli.margin"]) == ("200", "0.05")
    assert 0.05 < float(properties["nli.smallest_margin"] or 0) < 0.07


def test_early_stop_makes_the_minutes_an_upper_limit(preflight: PreflightSuites) -> None:
    result = preflight.run("nli", "--early-stop", *NOT_HERE)
    result.stdout.fnmatch_lines(["--early-stop may end an ability before its last item, so the minutes are an upper *"])
    lines = preflight.run("nli", "-q", *NOT_HERE).stdout.lines
    assert [line for line in lines if line.startswith("PREFLIGHT: ")]
    assert not [line for line in lines if "certifies" in line or line.startswith("audit:")]


def test_a_run_without_audit_tests_stays_silent(preflight: PreflightSuites) -> None:
    preflight.suites.pytester.makepyfile(test_other="def test_other(): pass")
    result = preflight.run("", "--data", "nowhere")
    result.assert_outcomes(passed=1)
    assert "audit:" not in result.stdout.str()
    assert "PREFLIGHT" not in result.stdout.str()
