"""Every script of action.yml and of the workflows is run, with the words that it gives to the audit."""

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from audit.cli import COMMANDS
from audit.settings.options import OPTIONS, settings_from
from tests.ci_scripts import ACTION, ROOT, SCRIPTS, Job, inputs, steps_with_uses
from tests.reports.test_github import commands, file_values

WORKFLOW_SCRIPTS = [key for key in SCRIPTS if not key.startswith("action.yml")]
HOSTILE = "$(touch pwned) `touch pwned`; touch pwned # \"' \\ * ${HOME} ${{ x }}"
# What a script calls is replaced by a program that writes down its words and what it sees of the environment.
FAKE = """#!{python}
import json, os, pathlib, sys
name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
seen = {{key: os.environ[key] for key in ("AUDIT_STORE", "PIP_EXTRA_INDEX_URL", "GH_REPO") if key in os.environ}}
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps([name, words, seen]) + "\\n")
if "curve" in words:
    folder = pathlib.Path("reports/curve-rome-model")
    folder.mkdir(parents=True)
    (folder / "curve.md").write_text("# the curve\\n")
sys.exit(int(os.environ.get("EXIT", "0")))
"""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    made = Job(tmp_path / "repository", tmp_path / "step")
    made.repository.mkdir()
    (made.step / "bin").mkdir(parents=True)
    for name in ("python", "audit", "gh", "git"):
        program = made.step / "bin" / name
        program.write_text(FAKE.format(python=sys.executable), encoding="utf-8")
        program.chmod(0o755)
    return made


def test_the_install_step_takes_the_tested_versions(job: Job) -> None:
    assert job.run("action.yml: Install").returncode == 0
    ((name, words, _),) = job.calls
    assert (name, words[:3]) == ("python", ["-m", "pip", "install"])
    assert words[words.index("--constraint") + 1] == str(ROOT / "constraints.txt")
    assert words[-3:] == ["--extra-index-url", "https://download.pytorch.org/whl/cpu", str(ROOT)]


def test_extras_and_the_usual_index_can_be_chosen(job: Job) -> None:
    assert job.run("action.yml: Install", inputs(extras="gguf,ray", torch_index_url="")).returncode == 0
    ((_, words, _),) = job.calls
    assert words[-1] == f"{ROOT}[gguf,ray]" and "--extra-index-url" not in words


def test_the_name_of_the_store_follows_what_the_run_depends_on(job: Job) -> None:
    model, edits = job.repository / "model", job.repository / "edits.jsonl"
    (model / "deep").mkdir(parents=True)
    (model / "deep" / "a b.safetensors").write_bytes(b"1")
    edits.write_text("one", encoding="utf-8")
    given = inputs(model="model", edits="edits.jsonl", args="--seed 1")

    def name(**changed: str) -> tuple[str, str]:
        (job.step / "output").unlink(missing_ok=True)
        done = job.run("action.yml: Name the store", {**given, **inputs(**changed)})
        assert done.returncode == 0, done.stderr
        assert job.values["path"] == str(job.step / "audit-store")
        assert job.values["key"].startswith(job.values["model"])
        return job.values["model"], job.values["key"]

    first = name()
    assert re.fullmatch(r"audit-store-Linux-[0-9a-f]{16}-[0-9a-f]{16}-", first[0])
    assert name() == first
    for changed in ({"args": "--seed 2"}, {"editor": "rome"}, {"data": "hub"}, {"edited": "x"}):
        other = name(**changed)
        assert other[0] == first[0] and other[1] != first[1]
    edits.write_text("two", encoding="utf-8")
    assert name()[0] == first[0] and name()[1] != first[1]
    (model / "deep" / "a b.safetensors").write_bytes(b"2")
    assert name()[0] != first[0]
    assert len({name(model="org/model", revision=revision)[0] for revision in ("", "main", "0a1b")}) == 3


def test_hostile_inputs_name_a_store_and_do_nothing(job: Job) -> None:
    every = inputs(**{name: f"{HOSTILE}\nkey=x" for name in ("model", "revision", "edited", "edits", "data", "args")})
    assert job.run("action.yml: Name the store", every).returncode == 0
    assert set(job.values) == {"path", "model", "key"} and job.values["key"].startswith("audit-store-Linux-")
    assert not list(job.repository.iterdir())


def test_the_audit_step_runs_the_command_without_suites(job: Job) -> None:
    given = inputs(
        model="org/model", revision="main", editor="memit", edits="my edits.jsonl", edit_count="10", data="hub",
        abilities="nli\nner", margin="ner=90%\n  reasoning=0.03\n", inconclusive="skip", limit="50",
        args="--seed 3 --editor-config 'a b=1'",
    )  # fmt: skip
    done = job.run("action.yml: Audit", {**given, "steps.store.outputs.path": "/a store"})
    assert done.returncode == 0, done.stderr
    ((name, words, seen),) = job.calls
    assert (name, words) == (
        "python",
        [
            *("-m", "audit.cli", "run", "nli", "ner", "--model=org/model", "--revision=main", "--editor=memit"),
            *("--edits=my edits.jsonl", "--edit-count=10", "--data=hub", "--inconclusive=skip", "--limit=50"),
            *("--reports=reports", "--margin=ner=90%", "--margin=reasoning=0.03"),
            *("--seed", "3", "--editor-config", "a b=1"),
        ],
    )
    assert seen == {"AUDIT_STORE": "/a store"}


def test_the_audit_step_runs_suites(job: Job) -> None:
    done = job.run("action.yml: Audit", inputs(suites="suites/ 'my suites/test_a.py'", edited="./checkpoint"))
    assert done.returncode == 0, done.stderr
    ((_, words, seen),) = job.calls
    assert words[:6] == ["-m", "pytest", "-p", "audit.pytest_plugin", "suites/", "my suites/test_a.py"]
    assert words[6:] == ["--edited=./checkpoint", "--reports=reports"]
    assert "AUDIT_STORE" not in seen


def test_the_audit_step_fails_as_the_audit_does(job: Job) -> None:
    for code in (1, 3, 4):
        assert job.run("action.yml: Audit", EXIT=str(code)).returncode == code


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (inputs(suites="suites/", abilities="nli"), "leave out suites or abilities"),
        (inputs(args="--seed '3"), "A quote is not closed in"),
    ],
    ids=["suites and abilities", "an open quote"],
)
def test_the_audit_step_refuses(job: Job, given: dict[str, str], sentence: str) -> None:
    done = job.run("action.yml: Audit", given)
    assert done.returncode == 2
    assert sentence in commands(done.stdout)[0][2]
    assert job.calls == []


def test_hostile_inputs_are_words_of_the_command(job: Job) -> None:
    plain = ("model", "revision", "edited", "editor", "edits", "edit-count", "data", "inconclusive", "limit", "reports")
    hostile = f"{HOSTILE}\n::stop-commands::x"
    given = {f"inputs.{name}": hostile for name in plain}
    lists = inputs(abilities="$(touch pwned)", margin="'$(touch pwned)=0.1'", args="'; touch pwned' `touch` '*'")
    done = job.run("action.yml: Audit", {**given, **lists})
    assert done.returncode == 0, done.stderr
    ((_, words, _),) = job.calls
    assert words[2:5] == ["run", "$(touch", "pwned)"]
    assert words[5:15] == [f"--{name}={hostile}" for name in plain]
    assert words[15:] == ["--margin=$(touch pwned)=0.1", "; touch pwned", "`touch`", "*"]
    assert not list(job.repository.iterdir())
    assert commands(done.stdout) == []


def test_the_audit_step_with_the_real_audit(job: Job) -> None:
    program = job.step / "bin" / "python"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n', encoding="utf-8")
    given = inputs(model="pocket-llama", editor="identity", abilities="sentiment", args="--limit 60 --edit-count 1")
    done = job.run(
        "action.yml: Audit",
        {**given, "steps.store.outputs.path": str(job.step / "store")},
        PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (job.repository / "reports").iterdir()
    values = file_values((job.step / "output").read_text(encoding="utf-8"))
    assert values == {"verdict": "PASS", "harmed": "", "report": str(folder), "html": str(folder / "report.html")}
    assert set(values) | {"artifact-url"} == set(ACTION["outputs"])
    summary = (job.step / "summary").read_text(encoding="utf-8")
    assert summary == (folder / "report.md").read_text(encoding="utf-8")
    assert (job.step / "store").is_dir()


@pytest.mark.parametrize("key", WORKFLOW_SCRIPTS)
def test_a_script_of_the_workflows_runs(key: str, job: Job) -> None:
    report = job.repository / ("report" if "github" in key else "reports/run")
    report.mkdir(parents=True)
    (report / "report.md").write_text("# PASS\n\n## Abilities\n\n|a|\n\n## More\n\nno\n", encoding="utf-8")
    done = job.run(key)
    assert done.returncode == 0, done.stderr
    notes = job.repository / "notes.md"
    if "elease" in key:
        assert notes.read_text(encoding="utf-8") == "# PASS\n\n## Abilities\n\n|a|\n\n"
    if key == "github-nightly.yml: Curve":
        assert (job.step / "summary").read_text(encoding="utf-8") == "# the curve\n"
    for name, words, _ in job.calls:
        if name == "gh":
            assert words[:3] == ["release", "create", "v1"]
        if name == "audit" or "pytest" in words:
            require_known(words)
    assert job.calls or key == "gitlab-ci.yml: release"


def test_workflows_give_the_action_values_that_the_audit_takes(job: Job) -> None:
    for _, step in steps_with_uses():
        if step["uses"].startswith("OWNER/"):
            (job.step / "calls").unlink(missing_ok=True)
            given = inputs(**{name: str(value) for name, value in step["with"].items()})
            assert job.run("action.yml: Audit", given).returncode == 0
            require_known(job.calls[0][1])


def require_known(words: list[str]) -> None:
    """The words are a command with options of the audit, whose values it takes."""
    typed: dict[str, Any] = {}
    by_flag = {option.flag: option for option in OPTIONS}
    assert "pytest" in words or next(word for word in words if word not in ("-m", "audit.cli")) in COMMANDS
    place = 0
    while place < len(words):
        flag, equals, value = words[place].partition("=")
        if flag.startswith("--") and flag != "--junitxml":
            option = by_flag[flag]
            place += not (equals or option.kind.switch)
            given = value if equals else words[place]
            typed.setdefault(option.name, []).append(given) if option.kind.repeatable else typed.update(
                {option.name: given}
            )
        place += 1
    assert len(typed) >= 4
    settings_from(typed)
