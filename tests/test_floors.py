"""The house: imports point downwards only, and nothing heavy stands on the way to `pytest --help`."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the ground up. A room may import from its own floor and from those below it.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("audit.errors",),
    ("audit.store",),
    ("audit.answer_log",),
    ("audit.pocket",),
    ("audit.models",),
    ("audit.edits",),
    ("audit.engine",),
    ("audit.editors",),
    ("audit.abilities",),
    ("audit.verdicts",),
    ("audit.measures",),
    ("audit.options",),
    ("audit.project_defaults",),
    ("audit.reports",),
    ("audit.session",),
    ("audit.grid", "audit.forensics"),
    ("audit.commands", "audit.cli", "audit.plugin", "audit.plan_only", "audit.showing", "audit.workers"),
)
# Words that every floor shares (frozen dataclasses and protocols), and programs that happen to live in the package.
SHARED_WORDS = ("audit.abilities.contract", "audit.editors.contract", "audit.edits.requests")
PROGRAMS = ("audit.pocket.train", "audit.pocket.card", "audit.pocket.__main__")
# The pocket models are trained on the very prompts that they are asked, so their corpus renders with the abilities.
RENDERERS = ("audit.pocket.corpus",)

LIGHT = (
    "audit",
    "audit.errors",
    "audit.options",
    "audit.project_defaults",
    "audit.store",
    "audit.abilities",
    "audit.abilities.contract",
    "audit.abilities.summarization",
    "audit.edits.requests",
    "audit.edits.plan",
    "audit.edits.sources",
    "audit.measures.locality_prompts",
    "audit.verdicts",
    "audit.reports.run",
    "audit.reports.terminal",
    "audit.reports.markdown",
    "audit.reports.plan",
    "audit.session.planning",
    "audit.plugin",
    "audit.plan_only",
    "audit.showing",
    "audit.workers",
    "audit.cli",
)
HEAVY = ("torch", "transformers", "datasets", "scipy", "rouge_score", "nltk", "pandas")


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / "audit").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(module: str, path: Path) -> set[str]:
    """Every module of the package that `path` imports, at its top or inside a function, except for types only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            node.body = []
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively; write the whole name"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "audit"}


def floor_of(name: str) -> int:
    for height, rooms in enumerate(FLOORS):
        if any(name == room or name.startswith(room + ".") for room in rooms):
            return height
    return -1  # the bare package


def test_every_room_has_a_floor() -> None:
    assert [module for module, _ in modules() if floor_of(module) < 0 and module != "audit"] == []


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_point_downwards(module: str, path: Path) -> None:
    upwards = {name for name in imports(module, path) if floor_of(name) > floor_of(module)}
    upwards = {name for name in upwards if not name.startswith(SHARED_WORDS)}
    if module in RENDERERS:
        upwards = {name for name in upwards if not name.startswith("audit.abilities")}
    assert module in PROGRAMS or not upwards


def test_editors_never_see_abilities_and_abilities_never_see_editors() -> None:
    for module, path in modules():
        for room, stranger in (("audit.editors", "audit.abilities"), ("audit.abilities", "audit.editors")):
            if module.startswith(room):
                seen = {name for name in imports(module, path) if name.startswith(stranger)}
                assert all(name.startswith(SHARED_WORDS) for name in seen), f"{module} imports {sorted(seen)}"


def test_reports_see_neither_models_nor_the_session() -> None:
    for module, path in modules():
        if module.startswith("audit.reports"):
            seen = {name for name in imports(module, path) if name.startswith(("audit.models", "audit.session"))}
            assert not seen, f"{module} imports {sorted(seen)}"


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_import_nothing_heavy(module: str) -> None:
    script = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    finished = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split() == []


def test_files_stay_readable_in_one_sitting() -> None:
    lengths = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in modules()}
    assert {module: length for module, length in lengths.items() if length > 360} == {}
