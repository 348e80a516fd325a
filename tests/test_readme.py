"""What the README shows works: commands and options exist, links lead somewhere, examples load."""

import json
import re
from pathlib import Path

import pytest

from audit.abilities import ABILITIES, load_ability
from audit.cli import COMMANDS
from audit.edits.sources import load_requests
from audit.settings.options import OPTIONS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
MOST_WORDS = 900
COMMANDS_SHOWN = [line.partition(" #")[0] for tongue, code in BLOCKS if tongue == "bash" for line in code.splitlines()]


def test_it_is_short() -> None:
    assert len(README.split()) <= MOST_WORDS


def test_every_command_is_one_that_a_test_runs() -> None:
    """The targets of make run in continuous integration; those of pytest are tried in
    tests/pytest_plugin/test_readme_commands.py."""
    rest = [line for line in COMMANDS_SHOWN if not line.startswith(("make ", "pytest suites/ ", "audit ", ". .venv"))]
    assert rest == []


def test_the_audit_commands_that_are_named_exist() -> None:
    named = set(re.findall(r"`audit ([a-z-]+)", README)) | {
        line.split()[1] for line in COMMANDS_SHOWN if line.startswith("audit ")
    }
    assert {"budget", "bisect", "grid", "compare"} <= named <= set(COMMANDS)


def test_the_edit_request_example_loads(tmp_path: Path) -> None:
    (line,) = [code for tongue, code in BLOCKS if tongue == "json"]
    file = tmp_path / "facts.jsonl"
    file.write_text(line, encoding="utf-8")
    (request,) = load_requests(str(file)).requests
    assert request.target_new == json.loads(line)["target_new"]


def test_the_suite_line_is_that_of_the_suite() -> None:
    (line,) = re.findall(r'`assert degradation\("reasoning", max_drop=([\d.]+), keep="(\d+%)"\) == PASS`', README)
    suite = (ROOT / "suites" / "test_reasoning.py").read_text(encoding="utf-8")
    assert f"MAX_DROP = {line[0]} " in suite and f'KEEP = "{line[1]}"' in suite
    assert 'assert degradation("reasoning", max_drop=MAX_DROP, keep=KEEP) == PASS' in suite


def test_every_option_that_is_shown_exists() -> None:
    shown = {flag for code in re.findall(r"`([^`\n]+)`|^(pytest .*)$", README, re.MULTILINE)
             for flag in re.findall(r"--[a-z][a-z-]+", "".join(code))}  # fmt: skip
    assert {"--editor", "--edits", "--model", "--margin"} <= shown
    assert shown <= {option.flag for option in OPTIONS}


def test_the_abilities_of_the_real_run_are_all_in_order() -> None:
    rows = re.findall(r"^(\w+) .* (?:PASS|FAIL|INCONCLUSIVE)$", README, re.MULTILINE)
    assert rows == list(ABILITIES)


def test_the_benchmarks_that_are_named_are_those_of_the_abilities() -> None:
    (named,) = re.findall(r"the eight benchmarks \(([^)]*)\)", README)
    plain = [re.sub(r"\W", "", name.lower()) for name in named.split(", ")]
    read = [load_ability(name).data_name.replace("_", "") for name in ABILITIES]
    assert plain == read


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "examples/README.md"])
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    anchors = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.+)$", text, re.M)
    }
    folder = (ROOT / page).parent
    missing = [
        target
        for target in targets
        if not (target[1:] in anchors if target.startswith("#") else (folder / target).exists())
    ]
    assert missing == []


def test_the_files_and_rooms_that_the_map_names_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:audit|suites|tests)/[\w/.]*)`", text))
    assert len(named) > 40
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_make_targets_that_are_named_exist() -> None:
    pages = README + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\bmake (audit|test|lint|format|docs|real-models)\b", pages))
    assert named == {"audit", "test", "lint", "format", "docs", "real-models"}
    assert all(re.search(rf"^{target}:", MAKEFILE, re.MULTILINE) for target in named)


def test_make_audit_judges_by_the_margins_of_the_suites() -> None:
    (recipe,) = re.findall(r"^audit: .*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert "--margin" not in MAKEFILE
    assert re.findall(r"--edit-count (\d+)", recipe) == ["1", "10"]
