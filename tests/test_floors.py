"""The house: imports point downwards only, and nothing heavy stands on the way to `pytest --help`."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the ground up. A room may import from its own floor and from those below it; the longest name that fits counts.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("audit.errors", "audit.progress"),
    ("audit.store",),
    ("audit.pocket",),
    ("audit.models",),
    ("audit.edits",),
    ("audit.engine",),
    ("audit.abilities",),
    ("audit.pocket.training",),  # the corpus asks the abilities' own prompts, and editors read the corpus
    ("audit.editors",),
    ("audit.verdicts",),
    ("audit.measures",),
    ("audit.settings",),
    ("audit.answering",),
    ("audit.editing",),
    ("audit.reports",),
    ("audit.audit",),
    ("audit.workflows",),
    ("audit.cli", "audit.pytest_plugin", "audit.plugin", "audit.pocket.training.train", "audit.pocket.training.card"),
)

LIGHT = (
    "audit",
    "audit.errors",
    "audit.settings.options",
    "audit.settings.project_defaults",
    "audit.store",
    "audit.store.inventory",
    "audit.abilities",
    "audit.abilities.contract",
    "audit.abilities.registry",
    "audit.abilities.toml.ability",
    "audit.abilities.summarization",
    "audit.edits.requests",
    "audit.edits.plan",
    "audit.edits.sources",
    "audit.measures.locality_prompts",
    "audit.verdicts",
    "audit.reports.rows",
    "audit.reports.github",
    "audit.reports.junit",
    "audit.reports.terminal",
    "audit.reports.markdown",
    "audit.reports.workflows.preflight",
    "audit.verdicts.comparison",
    "audit.workflows.compare",
    "audit.workflows.preflight",
    "audit.workflows.results.origin",
    "audit.workflows.store_care",
    "audit.pytest_plugin",
    "audit.pytest_plugin.fixtures",
    "audit.pytest_plugin.preflight",
    "audit.pytest_plugin.state",
    "audit.pytest_plugin.terminal",
    "audit.pytest_plugin.xdist",
    "audit.cli",
)
HEAVY = ("torch", "transformers", "datasets", "scipy", "rouge_score", "nltk", "pandas")


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / "audit").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


@cache
def imports(module: str) -> frozenset[str]:
    """The modules of the package that `module` imports: at its top, inside a function, or for type checkers only."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{module} imports relatively; write the whole name"
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {member if member in MODULES else node.module for member in members}
    return frozenset(found & MODULES.keys()) - {module}


def floor_of(name: str) -> int:
    """The height of the floor whose longest name begins `name`; -1 for the bare package."""
    fitting = [
        (len(room), height)
        for height, rooms in enumerate(FLOORS)
        for room in rooms
        if name == room or name.startswith(room + ".")
    ]
    return max(fitting, default=(0, -1))[1]


def reachable(module: str) -> set[str]:
    """Every module that `module` imports, directly or through others."""
    found: set[str] = set()
    waiting = list(imports(module))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += imports(name)
    return found


def test_every_room_has_a_floor() -> None:
    assert [module for module in MODULES if floor_of(module) < 0 and module != "audit"] == []


def test_every_floor_has_a_room() -> None:
    assert [room for rooms in FLOORS for room in rooms if room not in MODULES] == []


def test_imports_point_downwards() -> None:
    """The package itself gives its public names lazily, so it alone may name what is above it."""
    pairs = {(module, name) for module in MODULES for name in imports(module) if module != "audit"}
    assert {(module, name) for module, name in pairs if floor_of(name) > floor_of(module)} == set()


def test_no_module_imports_itself_through_others() -> None:
    assert {module for module in MODULES if module in reachable(module)} == set()


def test_editors_never_see_abilities_and_abilities_never_see_editors() -> None:
    for room, stranger in (("audit.editors", "audit.abilities"), ("audit.abilities", "audit.editors")):
        seen = {
            (module, name)
            for module in MODULES
            for name in imports(module)
            if module.startswith(room) and name.startswith(stranger)
        }
        assert seen == set()


def test_reports_see_neither_models_nor_the_audit() -> None:
    for module in MODULES:
        if module.startswith("audit.reports"):
            seen = {name for name in imports(module) if name.startswith(("audit.models", "audit.audit"))}
            assert not seen, f"{module} imports {sorted(seen)}"


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_import_nothing_heavy(module: str) -> None:
    script = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    finished = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split() == []


def test_files_stay_readable_in_one_sitting() -> None:
    lengths = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in MODULES.items()}
    assert {module: length for module, length in lengths.items() if length > 360} == {}


def test_a_class_or_function_has_a_name_of_its_own() -> None:
    """In these rooms one name is one concept; elsewhere the same noun may name the same thing on two floors."""
    where: dict[str, list[str]] = {}
    callables: set[str] = set()
    for room in ("edits", "engine", "editors", "measures"):
        for file in sorted((ROOT / "audit" / room).rglob("*.py")):
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    callables.add(node.name)
                    names = [node.name]
                else:
                    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
                    names = [target.id for target in targets if isinstance(target, ast.Name)]
                for name in names:
                    where.setdefault(name, []).append(file.relative_to(ROOT).as_posix())
    public = {name for name in callables if not name.startswith("_")} - {"Row"}  # also a local alias in the engine
    assert len(public) > 200
    assert {name: files for name, files in where.items() if name in public and len(files) > 1} == {}


@pytest.mark.parametrize("room", ["engine", "measures"])
def test_a_public_name_has_a_docstring(room: str) -> None:
    missing, documented = [], 0
    for file in sorted((ROOT / "audit" / room).rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
        for owner in (tree, *classes):
            for node in owner.body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                    documented += ast.get_docstring(node) is not None
                    missing += [] if ast.get_docstring(node) else [f"{file.name}:{node.lineno} {node.name}"]
    assert documented > 50
    assert missing == []
