"""Every malformed input of `audit compare` ends with one sentence and exit code 2, and writes no report."""

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from audit.cli import app

DATA = Path(__file__).parent / "data"
LM_EVAL = DATA / "lm_eval" / "base"
GOOD = '{"id": "a", "score": 1}\n{"id": "b", "score": 0}\n'
Make = Callable[[Path], Path | tuple[Path, Path]]


def text(name: str, content: str | bytes) -> Make:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return make


def both(base: Make, edited: Make) -> Make:
    def make(folder: Path) -> tuple[Path, Path]:
        paths = []
        for name, one in (("base", base), ("edited", edited)):
            (folder / name).mkdir()
            made = one(folder / name)
            assert isinstance(made, Path)
            paths.append(made)
        return paths[0], paths[1]

    return make


def loop(folder: Path) -> Path:
    (folder / "loop").symlink_to(folder / "loop")
    return folder / "loop"


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.jsonl")
    return folder / "pipe.jsonl"


def empty_folder(folder: Path) -> Path:
    (folder / "empty").mkdir()
    (folder / "empty" / "notes.txt").write_text("nothing")
    return folder / "empty"


def zipped(name: str, **members: str) -> Make:
    def make(folder: Path) -> Path:
        with zipfile.ZipFile(folder / name, "w") as archive:
            for member, content in members.items():
                archive.writestr(f"{member}.json", content)
        return folder / name

    return make


def samples(task: str, change: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda row: row) -> Make:
    """The samples of a task, with every row changed, or left out where the change gives None."""

    def make(folder: Path) -> Path:
        (source,) = LM_EVAL.glob(f"samples_{task}_*")
        rows = [change(json.loads(line)) for line in source.read_text(encoding="utf-8").splitlines()]
        path = folder / source.name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows if row is not None), encoding="utf-8")
        return path

    return make


def table(**columns: list[Any]) -> Make:
    def make(folder: Path) -> Path:
        parquet.write_table(pa.table(columns), folder / "t.parquet")
        return folder / "t.parquet"

    return make


def two_models(folder: Path) -> Path:
    for name in ("one", "two"):
        shutil.copytree(LM_EVAL, folder / "out" / name)
    return folder / "out"


def broken_aggregates(folder: Path) -> Path:
    shutil.copytree(LM_EVAL, folder / "out")
    (file,) = (folder / "out").glob("results_*")
    file.write_text("{")
    return folder / "out"


CASES: dict[str, tuple[Make, str]] = {
    # paths
    "no file": (lambda folder: folder / "none.jsonl", "cannot be read (No such file or directory)"),
    "symlink loop": (loop, "cannot be read (Too many levels of symbolic links)"),
    "pipe": (pipe, "is a named pipe, not a file"),
    "folder without samples": (empty_folder, "there are no results in this folder; give samples_*.jsonl"),
    "another suffix": (text("t.txt", GOOD), ".txt is no format of results"),
    "packed": (text("t.jsonl.gz", b"\x1f\x8b"), ".gz is no format of results; give one of .jsonl"),
    "averages only": (text("results_2026.json", "{}"), "holds averages and no scores of single items"),
    "two models": (two_models, "there are samples of several models ('one', 'two')"),
    "broken aggregates": (broken_aggregates, "is no results file of lm-evaluation-harness"),
    # text that is no table
    "empty file": (text("t.jsonl", ""), "the file is empty"),
    "blank file": (text("t.jsonl", "\n \n"), "there are no rows"),
    "empty CSV": (text("t.csv", "id,score\n"), "there are no rows"),
    "truncated JSON": (text("t.jsonl", GOOD + '{"id": "c", "sc'), "line 3: is not JSON (Unterminated string"),
    "deep JSON": (text("t.jsonl", GOOD + '{"id": ' + "[" * 200_000), "is not JSON (its JSON is nested too deeply)"),
    "deep first line": (text("t.jsonl", "[" * 200_000), "line 1: is not JSON (its JSON is nested too deeply)"),
    "a list on a line": (text("t.jsonl", GOOD + "[1]\n"), "line 3: is no JSON object"),
    "not UTF-8": (text("t.jsonl", GOOD.encode() + b"\xff\xfe\n"), "line 3: is not UTF-8 text"),
    "CSV with short row": (text("t.csv", "id,score\na,1\nb\n"), "line 3: has another number of cells"),
    "semicolons": (text("t.csv", "id;score\na;1\n"), "its columns are id;score; name them 'id' and 'score'"),
    "column twice": (text("t.csv", "id,score,score\na,1,1\n"), "the column 'score' occurs twice"),
    "no Parquet": (text("t.parquet", "PAR1 not really"), "is no Parquet file ("),
    # rows
    "no score": (text("t.jsonl", '{"id": "a"}\n'), "there is no column 'score' (it has id)"),
    "no id": (text("t.csv", "score\n1\n"), "there is no column 'id' (it has score)"),
    "one score missing": (text("t.jsonl", GOOD + '{"id": "c"}\n'), "item 'c' of scores has no number as score"),
    "NaN": (text("t.jsonl", GOOD + '{"id": "c", "score": NaN}\n'), "item 'c' of scores has no number as score"),
    "NaN in CSV": (text("t.csv", "id,score\na,1\nc,nan\n"), "item 'c' of scores has no number as score"),
    "score yes": (text("t.jsonl", GOOD + '{"id": "c", "score": "yes"}\n'), "line 3: 'score' is \"yes\"; give a number"),
    "score yes in CSV": (text("t.csv", "id,score\na,1\nc,yes\n"), "line 3: 'score' is \"yes\"; give a number"),
    "score a list": (text("t.jsonl", GOOD + '{"id": "c", "score": [1]}\n'), "line 3: 'score' is [1]; give a number"),
    "texts in Parquet": (table(id=["a"], score=["1"]), "the column 'score' has the type string; give a number"),
    "score above 1": (text("t.csv", "id,score\na,0.5\nb,37.5\n"), "item 'b' of scores has score 37.5"),
    "score below 0": (table(id=[1, 2], score=[0.5, -0.5]), "item '2' of scores has score -0.5"),
    "endless score": (text("t.jsonl", '{"id": "a", "score": 1e999}\n'), "item 'a' of scores has score inf"),
    "doubled id": (text("t.jsonl", GOOD + GOOD), "2 items of scores occur more than once ('a', 'b')"),
    "same epoch twice": (text("t.csv", "id,epoch,score\na,1,1\na,1,0\n"), "an item occurs twice in the same epoch"),
    "id null": (text("t.jsonl", GOOD + '{"id": null, "score": 1}\n'), "1 rows have no 'id' and others have one"),
    "some clusters": (text("t.jsonl", '{"id": 1, "score": 1}\n{"id": 2, "score": 1, "cluster": "x"}\n'),
                      "1 rows have no 'cluster' and others have one"),
    "negative floor": (text("t.csv", "id,score,floor\na,1,-0.5\nb,1,-0.5\n"), "the floor -0.5 of scores is out"),
    "negative floors": (text("t.csv", "id,score,floor\na,1,-0.5\nb,1,0.5\n"), "item 'a' of scores has floor -0.5"),
    # samples and logs
    "mixed tasks": (both(samples("towns"), samples("rivers")), "have no task in common ('towns' and 'rivers')"),
    "other format": (both(samples("towns"), text("t.jsonl", GOOD)), "have no task in common ('towns' and 'scores')"),
    "other documents": (
        both(samples("towns"), samples("towns", lambda row: {**row, "doc_hash": f"x{row['doc_id'] % 2}"})),
        "12 of 12 items have the same id in",
    ),
    "other prompts": (
        both(samples("towns"), samples("towns", lambda row: {**row, "prompt_hash": "chat"})), "and another prompt ('0',"
    ),
    "no common ids": (
        both(samples("towns"), samples("towns", lambda row: {**row, "doc_id": row["doc_id"] + 100})), "no item of"
    ),
    "some ids missing": (
        both(samples("towns"), samples("towns", lambda row: row if row["doc_id"] > 1 else None)),
        "2 of 12 items are only in",
    ),
    "other filters": (
        both(samples("sums"), samples("sums", lambda row: row if row["filter"] != "strict-match" else None)),
        "the metric is exact_match,strict-match in",
    ),
    "no metrics": (samples("towns", lambda row: {**row, "metrics": []}), "towns: there is no metric"),
    "score a text in samples": (
        samples("towns", lambda row: {**row, "acc": "x" if row["doc_id"] else 1.0}), "line 2: 'acc' is \"x\""
    ),
    "wrong zip": (zipped("t.eval", hello="{}"), "is no log of inspect_ai (it has no header.json"),
    "no zip": (text("t.eval", "PK"), "is no log of inspect_ai (File is not a zip file)"),
    "no samples in the zip": (
        zipped("t.eval", header='{"eval": {"task": "t"}, "status": "success"}', summaries="[]"), "no sample of t has"
    ),
    "header a list": (zipped("t.eval", header="[]"), "is no log of inspect_ai ("),
    "another JSON": (text("t.json", '{"a": 1}'), "is no log of inspect_ai (it lacks 'samples')"),
    "deep JSON log": (text("t.json", "[" * 200_000), "is no log of inspect_ai (its JSON is nested too deeply)"),
    "damaged sample": (
        text("t.json", '{"eval": {"task": "t"}, "status": "success", "samples": [{"scores": {"s": {"value": 1}}}]}'),
        "a sample of t is damaged (it lacks 'id')",
    ),
    "damaged run": (text("verdict.json", "{}"), "has schema version None"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_malformed_input_is_one_sentence(case: str, tmp_path: Path) -> None:
    make, sentence = CASES[case]
    made = make(tmp_path)
    base, edited = made if isinstance(made, tuple) else (made, made)
    result = CliRunner().invoke(app, ["compare", str(base), str(edited), "--reports", str(tmp_path / "reports")])
    assert result.exit_code == 2, result.output
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("audit: ")
    assert result.stderr.rstrip().endswith(".") and "; " in result.stderr
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--margin", "2"], "--margin 2: a margin lies between 0 and 1"),
        (["--margin", "maths=0.1"], "--margin maths=0.1: there are no results of 'maths'; give one of scores"),
        (["--margin", "0.1", "--margin", "0.2"], "every ability already has the value 0.1"),
        (["--margin", "=0.1"], "--margin '=0.1': write --margin VALUE"),
        (["--floor", "-0.1"], "--floor -0.1: give a score from 0 to below 1"),
        (["--floor", "scores=one"], "--floor one: give a score from 0 to below 1"),
        (["--metric", "acc"], "there is no column 'acc'"),
        (["--trend"], "--trend compares checkpoints in order, and there is one"),
        (["--inconclusive", "maybe"], "--inconclusive 'maybe': give one of fail, skip"),
        (["--junit", "."], "--junitxml .: that is a folder"),
    ],
)
def test_a_wrong_option_is_one_sentence(options: list[str], sentence: str, tmp_path: Path) -> None:
    path = text("t.jsonl", GOOD)(tmp_path)
    result = CliRunner().invoke(
        app, ["compare", str(path), str(path), "--reports", str(tmp_path / "reports"), *options]
    )
    assert result.exit_code == 2, result.output
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "reports").exists()
