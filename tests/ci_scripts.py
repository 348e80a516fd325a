"""The scripts of action.yml and of the workflows in examples/ci/, and a machine that runs them as the runner does."""

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples" / "ci").glob("*.yml"))
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Script:
    """The shell of a step or a GitLab job, with its environment before expressions are filled in."""

    file: str
    name: str
    text: str
    environment: Mapping[str, str] = field(default_factory=dict)


def scripts(path: Path) -> Iterator[Script]:
    """Every script of a file."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.name == "action.yml":
        jobs = {"": document["runs"]}
    elif path.name.startswith("github-"):
        jobs = document["jobs"]
    else:
        jobs, common = {}, document[".audit"]["before_script"]
        for name, job in document.items():
            if isinstance(job, dict) and "script" in job and not name.startswith("."):
                lines = [*(common if job.get("extends") else ()), *job["script"]]
                yield Script(path.name, name, "\n".join(lines), document["variables"])
    for job in jobs.values():
        for step in job["steps"]:
            if "run" in step:
                environment = {**job.get("env", {}), **step.get("env", {})}
                yield Script(path.name, step["name"], step["run"], environment)


SCRIPTS = {
    f"{script.file}: {script.name}": script for path in (ROOT / "action.yml", *EXAMPLES) for script in scripts(path)
}


@dataclass(frozen=True)
class Job:
    """The machine that runs a script: a folder with the repository, and another with the files of the step."""

    repository: Path
    step: Path

    def run(self, key: str, context: Mapping[str, str] | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a script as the runner does; `context` gives the values of expressions, `more` is further environment."""
        script, known = SCRIPTS[key], {**defaults(), **(context or {})}
        own = {name: filled(str(value), known) for name, value in script.environment.items()}
        files = {"GITHUB_OUTPUT": "output", "GITHUB_STEP_SUMMARY": "summary", "CALLS": "calls"}
        environment = {
            "PATH": f"{self.step / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.step),
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION_PATH": str(ROOT),
            "RUNNER_TEMP": str(self.step),
            "RUNNER_OS": "Linux",
            "CI_PROJECT_DIR": str(self.repository),
            **{name: str(self.step / file) for name, file in files.items()},
            **own,
            **more,
        }
        (self.step / "script.sh").write_text(script.text, encoding="utf-8")
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(self.step / "script.sh")],
            cwd=self.repository, env=environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    @property
    def calls(self) -> list[tuple[str, list[str], dict[str, str]]]:
        """What the programs were called with."""
        file = self.step / "calls"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return [(name, words, seen) for name, words, seen in map(json.loads, lines)]

    @property
    def values(self) -> dict[str, str]:
        """The outputs of a script that writes NAME=VALUE lines."""
        return dict(line.split("=", 1) for line in (self.step / "output").read_text(encoding="utf-8").splitlines())


def defaults() -> dict[str, str]:
    """The inputs of the action where a workflow gives none, and what other steps give."""
    inputs = {f"inputs.{name}": one["default"] for name, one in ACTION["inputs"].items()}
    github = {"github.token": "t0ken", "github.repository": "org/model", "github.ref_name": "v1"}
    return {**inputs, **github, "github.workspace": "/workspace", "steps.store.outputs.path": ""}


def filled(text: str, context: Mapping[str, str]) -> str:
    """The text with its expressions replaced, each of which is a name."""
    return re.sub(r"\$\{\{ ([\w.-]+) \}\}", lambda found: context[found[1]], text)


def inputs(**given: str) -> dict[str, str]:
    return {f"inputs.{name.replace('_', '-')}": value for name, value in given.items()}


def steps_with_uses() -> list[tuple[str, dict[str, Any]]]:
    found = [("action.yml", step) for step in ACTION["runs"]["steps"] if "uses" in step]
    for path in EXAMPLES:
        if path.name.startswith("github-"):
            jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()
            found += [(path.name, step) for job in jobs for step in job["steps"] if "uses" in step]
    return found
