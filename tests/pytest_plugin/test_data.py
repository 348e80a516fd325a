"""`--data`, `--shots`, `--chat-template`: errors of one ability fail its test, errors of all end the run."""

import json
from pathlib import Path
from typing import Any

import pytest

# A run inside this process forgets whatever it imports itself, and torch cannot be imported twice.
import audit.audit  # noqa: F401
from audit.abilities.data.hub import HUB_DATA
from tests.abilities.data.hub_cache import HubCache
from tests.pytest_plugin.conftest import Suites
from tests.small_audit import SmallWorld, abilities, build, write_lines

pytest_plugins = ("pytester",)

LOOSE = ("--margin", "open_qa=0.9", "--margin", "nli=0.9", "--inconclusive", "skip")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return build(tmp_path_factory.mktemp("world"))


class DataSuites:
    """Runs the suites of some abilities, with the real audit and an editor that changes nothing."""

    def __init__(self, suites: Suites, world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
        suites.pytester.makeconftest("")
        monkeypatch.setenv("AUDIT_STORE", str(suites.path / "store"))
        self._suites, self._world = suites, world

    def run(self, names: str, *options: str, model: Path | None = None) -> pytest.RunResult:
        plain = ("--editor", "identity", "--device", "cpu", "--limit", "4", "--inconclusive", "skip")
        edited = ("--model", str(model or self._world.model), "--edits", str(self._world.edits))
        return self._suites.run(names, "-p", "audit.pytest_plugin", *plain, *edited, *options)

    def document(self) -> dict[str, Any]:
        (folder,) = (self._suites.path / "reports").iterdir()
        found: dict[str, Any] = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
        found["report.md"] = (folder / "report.md").read_text(encoding="utf-8")
        return found


@pytest.fixture
def runs(suites: Suites, world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> DataSuites:
    return DataSuites(suites, world, monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.mkdir()
    for name in ("rte", "boolq"):
        write_lines(made / f"{name}.jsonl", abilities()[name])
    return made


def test_a_missing_data_set_fails_only_its_own_test(runs: DataSuites, folder: Path) -> None:
    result = runs.run("nli sentiment closed_qa", "--data", str(folder))
    result.assert_outcomes(failed=1, skipped=2)  # a random model is not above chance: INCONCLUSIVE
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    reason = f"{folder} has no sst2.jsonl or sst2.parquet for sentiment; put one there"
    text = " ".join(result.stdout.str().split())
    assert text.count(f"sentiment was not asked: {reason}") == 1
    assert "Traceback" not in text
    assert "cause" not in text
    summary = text.split("side-effect audit", 1)[1].split("short test summary", 1)[0]
    assert summary.count(reason) == 1
    assert "INCONCLUSIVE: identity on" in summary

    document = runs.document()
    assert document["outcome"] == "INCONCLUSIVE"
    assert document["unasked"] == {"sentiment": reason}
    assert [row["ability"] for row in document["abilities"]] == ["nli", "closed_qa"]
    assert document["failed_tests"] == []
    assert document["header"]["data"] == str(folder)
    assert document["fingerprints"]["data nli"].startswith(f"{folder / 'rte.jsonl'}: sha256:")
    assert reason in document["report.md"]


def test_a_bad_row_fails_only_its_ability(runs: DataSuites, folder: Path) -> None:
    write_lines(folder / "boolq.jsonl", [{**row, "passage": ""} for row in abilities()["boolq"]])
    result = runs.run("nli closed_qa", "--data", str(folder))
    result.assert_outcomes(failed=1, skipped=1)
    text = " ".join(result.stdout.str().split())
    assert f"closed_qa was not asked: {folder / 'boolq.jsonl'}: row closed_qa/" in text
    assert "has '' in column 'passage'; give a text that is not empty or drop the row" in text


def test_a_run_that_could_ask_nothing_writes_a_report(runs: DataSuites, folder: Path) -> None:
    result = runs.run("sentiment", "--data", str(folder))
    result.assert_outcomes(failed=1)
    assert runs.document()["outcome"] == "INCONCLUSIVE"
    assert set(runs.document()["unasked"]) == {"sentiment"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--data nowhere", "--data nowhere: there is no such folder; give pocket, hub or a folder of data files."),
        ("--data test_nli.py", "--data test_nli.py: that is a file; give pocket, hub or a folder of data files."),
        ("--data reports", "--data reports: the folder contains no .jsonl or .parquet file named gsm8k, rte, *"),
    ],
)
def test_a_folder_without_data_ends_the_run_before_a_model_is_loaded(
    runs: DataSuites, suites: Suites, options: str, sentence: str
) -> None:
    (suites.path / "reports").mkdir()
    result = runs.run("nli", *options.split(), model=suites.path / "no model is here")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {sentence}"])


def test_hub_data_is_read_from_the_cache_at_its_commits(
    runs: DataSuites, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = HubCache(tmp_path, monkeypatch)
    result = runs.run("nli", "--data", "hub")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --data hub: the hub is offline * none of its data sets is in *"])

    cache.put("rte")
    result = runs.run("nli sentiment", "--data", "hub")
    result.assert_outcomes(failed=1, skipped=1)
    text = " ".join(result.stdout.str().split())
    assert "sentiment was not asked: nyu-mll/glue sst2, validation cannot be loaded (" in text
    document = runs.document()
    assert document["header"]["data"] == "hub"
    assert document["fingerprints"]["data nli"] == f"nyu-mll/glue rte, validation: {HUB_DATA['rte'].revision}"


def test_shots_need_a_training_split(runs: DataSuites, folder: Path) -> None:
    write_lines(
        folder / "rte.train.jsonl", [{**row, "sentence1": f"Then {row['sentence1']}"} for row in abilities()["rte"]]
    )
    result = runs.run("nli closed_qa", "--data", str(folder), "--shots", "2")
    result.assert_outcomes(failed=1, skipped=1)
    text = " ".join(result.stdout.str().split())
    assert "protocol standard, 2 shots" in text
    assert f"closed_qa was not asked with --shots 2: worked examples: {folder} has only 12 rows for" in text
    assert "give more rows, or a training split" in text
    (prompt, *_) = (row["prompt"] for row in items_of(runs))
    assert prompt.count("True or False?\nAnswer: ") == 2
    assert prompt.count("Then ") == 2
    assert prompt.endswith("\nAnswer:")


def test_too_many_shots_for_the_context_fail_the_ability(runs: DataSuites) -> None:
    result = runs.run("reasoning", "--shots", "12")
    result.assert_outcomes(failed=1)
    text = " ".join(result.stdout.str().split())
    assert "reasoning was not asked with --shots 12: Prompt" in text  # the last reading that was tried
    assert "but the context of" in text


def test_a_model_without_chat_template_ends_the_run(runs: DataSuites) -> None:
    result = runs.run("nli", "--chat-template")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --chat-template: the tokenizer of * has no chat template; leave the option *"])


def test_a_chat_template_wraps_every_prompt(runs: DataSuites, world: SmallWorld, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    chatty = build(tmp_path / "chatty").model
    tokenizer = AutoTokenizer.from_pretrained(chatty)
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}<assistant>{{ '\n' }}"
    )
    tokenizer.save_pretrained(chatty)
    result = runs.run("nli sentiment", "--chat-template", "--shots", "1", model=chatty)
    assert "protocol standard, 1 shot, chat template" in " ".join(result.stdout.str().split())
    for row in items_of(runs):
        assert row["prompt"].startswith("<user>")
        assert row["prompt"].count("<assistant>") == 2
        assert row["prompt"].endswith("\n<assistant>\n")


def items_of(runs: DataSuites) -> list[dict[str, Any]]:
    (folder,) = (runs._suites.path / "reports").iterdir()
    return [json.loads(line) for line in (folder / "items.jsonl").read_text(encoding="utf-8").splitlines()]
