"""action.yml and the workflows of examples/ci/ have the form that their hosts want, and docs/ci.md shows them."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ci_scripts import ACTION, EXAMPLES, ROOT, SCRIPTS, steps_with_uses

PAGE = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")


def schema_of(path: Path) -> str:
    kind = path.name.partition("-")[0]
    return {"action.yml": "github-actions", "github": "github-workflows", "gitlab": "gitlab-ci"}[kind]


def checked(path: Path, schema: str) -> subprocess.CompletedProcess[str]:
    if importlib.util.find_spec("check_jsonschema") is None:
        pytest.skip("check-jsonschema is not installed: install the extra `lint`")
    words = ("-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(path))
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("path", [ROOT / "action.yml", *EXAMPLES], ids=lambda path: path.name)
def test_a_file_has_the_form_that_its_host_wants(path: Path) -> None:
    done = checked(path, schema_of(path))
    assert done.returncode == 0, done.stdout


def test_a_file_of_another_form_is_found(tmp_path: Path) -> None:
    broken = tmp_path / "action.yml"
    broken.write_text((ROOT / "action.yml").read_text(encoding="utf-8").replace("using:", "uses:"), encoding="utf-8")
    assert checked(broken, "github-actions").returncode == 1


@pytest.mark.parametrize("key", SCRIPTS)
def test_no_script_has_an_expression(key: str) -> None:
    assert "${{" not in SCRIPTS[key].text


@pytest.mark.parametrize("key", SCRIPTS)
def test_shellcheck_finds_nothing(key: str, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("shellcheck")
    if not program.is_file():
        pytest.skip("shellcheck is not installed: install the extra `lint`")
    file = tmp_path / "script.sh"
    file.write_text(SCRIPTS[key].text, encoding="utf-8")
    done = subprocess.run([program, "--shell", "bash", file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_actions_of_others_are_pinned_and_this_one_gets_inputs_that_it_has() -> None:
    ours = 0
    for file, step in steps_with_uses():
        assert re.search(r"@(v\d+(\.\d+)*|[0-9a-f]{40})$", step["uses"]), f"{file}: {step['uses']}"
        if step["uses"].startswith("OWNER/"):
            ours += 1
            assert set(step["with"]) <= set(ACTION["inputs"])
    assert ours == 2


def test_workflows_read_outputs_that_the_action_has() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in EXAMPLES)
    read = set(re.findall(r"steps\.audit\.outputs\.([\w-]+)", text))
    assert read and read <= set(ACTION["outputs"])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_page_has_the_workflow_as_it_is(path: Path) -> None:
    assert f"```yaml\n{path.read_text(encoding='utf-8')}```" in PAGE


def test_the_page_lists_all_inputs_and_outputs_with_their_defaults() -> None:
    section = PAGE.partition("## The action")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (.*?) \|", section, re.MULTILINE))
    assert set(rows) == set(ACTION["inputs"]) | set(ACTION["outputs"])
    for name, one in ACTION["inputs"].items():
        assert rows[name] == (f"`{one['default']}`" if one["default"] else ""), name


def test_lint_checks_the_files() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for schema in ("github-actions action.yml", "github-workflows examples/ci/github-*.yml", "gitlab-ci examples/ci/"):
        assert f"--builtin-schema vendor.{schema}" in makefile
