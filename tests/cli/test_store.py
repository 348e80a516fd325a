"""`audit store`: sizes, pruning and verification as text and as data, with exit codes for scripts."""

import json
import os
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from audit.cli import app
from audit.store.answer_log import AnswerLog
from audit.store.content import Store

RUNNER = CliRunner()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with two values and a log, 40 days old; it is also the default store."""
    store = Store(tmp_path / "store")
    store.put("located layers 0f0f", {"rome": 1, "memit": [1]})
    store.put("another key", list(range(500)))
    AnswerLog.of(store, "a state").add({"3f2a": "Paris"})
    for path in store.root.rglob("*"):
        os.utime(path, (time.time() - 40 * 86400,) * 2)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("AUDIT_STORE", str(store.root))
    return store.root


def invoked(*typed: str, code: int = 0) -> Result:
    result = RUNNER.invoke(app, ["store", *typed])
    assert result.exit_code == code, result.output
    return result


def test_the_size_is_shown_by_kind_and_by_model(root: Path) -> None:
    lines = [line.split() for line in invoked("size").output.splitlines()]
    assert ["other", "values", "1", "2.5", "kB"] in lines
    assert ["answers", "1", "30", "bytes"] in lines
    assert ["0f0f", "1", "134", "bytes"] in lines
    assert invoked("size").output.splitlines()[-1] == f"{root}: 3 entries, 2.7 kB"


def test_the_size_as_data(root: Path) -> None:
    document = json.loads(invoked("size", "--json").output)
    assert document["store"] == str(root)
    assert (
        document["bytes"]
        == sum(one["bytes"] for one in document["kinds"])
        == sum(one["bytes"] for one in document["models"])
    )
    assert {one["kind"]: one["entries"] for one in document["kinds"]} == {
        "answers": 1,
        "located layers": 1,
        "other values": 1,
    }


def test_a_folder_without_a_store_is_empty(root: Path, tmp_path: Path) -> None:
    output = invoked("size", "--store", str(tmp_path / "none")).output
    assert output == f"{tmp_path / 'none'}: nothing is stored there\n"


def test_pruning_says_first_what_it_would_delete(root: Path) -> None:
    Store(root).get("another key")  # its last use is now
    dry = invoked("prune", "--older-than", "4w", "--dry-run").output.splitlines()
    assert dry[-1] == f"{root}: 2 entries, 164 bytes would be deleted, not used for 28 d"
    assert len(list(root.rglob("*.json*"))) == 3
    done = json.loads(invoked("prune", "--older-than", "4w", "--json").output)
    assert [one["kind"] for one in done["deleted"]] == ["answers", "located layers"]
    assert [path.suffix for path in root.rglob("*") if path.is_file()] == [".json"]
    assert "nothing deleted" in invoked("prune", "--older-than", "12h").output


@pytest.mark.parametrize(
    ("age", "error"), [("30", "give a whole number of hours"), ("-1d", "whole number"), ("0d", "give at least 1h")]
)
def test_a_wrong_age_is_one_sentence(root: Path, age: str, error: str) -> None:
    result = invoked("prune", f"--older-than={age}", code=2)
    assert error in result.output
    assert len(result.output.splitlines()) == 1


def test_damage_is_named_and_deleted_on_demand(root: Path) -> None:
    assert f"{root}: 3 entries read, 0 damaged" in invoked("verify").output
    (file,) = (path for path in root.glob("??/*.json") if path.stat().st_size > 1000)
    file.write_bytes(file.read_bytes()[:-1])
    name = file.relative_to(root).as_posix()
    found = invoked("verify", code=1).output
    assert f"other values, {name}: its content is not what its checksum says" in found
    assert "1 damaged; delete what is damaged with --remove" in found
    assert file.exists()
    removed = json.loads(invoked("verify", "--remove", "--json").output)
    assert [(one["name"], one["fate"]) for one in removed["damaged"]] == [(name, "deleted")]
    assert not file.exists()
    invoked("verify")
