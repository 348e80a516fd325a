"""A checkup of an installation: versions, devices, extras, the store, the hub, and the project that pytest runs in.

    found = checkup(Path.cwd(), store=None)
    found.usable, [problem.sentence for problem in found.problems]

Nothing is changed, nothing is downloaded, and no secret is read out: of a token only whether there is one.
"""

import ast
import importlib.metadata
import itertools
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from rich.filesize import decimal

from audit.errors import AuditError, first_line
from audit.pocket import POCKET_WEIGHTS, pocket_names
from audit.reports.workflows.doctor import Checkup, Problem, Section
from audit.settings.options import OPTIONS, AuditSettings, settings_from
from audit.settings.project_defaults import TABLE, nearest_project, project_defaults, with_project_defaults
from audit.store import PACKAGE
from audit.store.content import STORE_VARIABLE, store_at
from audit.store.inventory import entries

PLUGINS = ("audit.pytest_plugin", "audit.plugin")  # its name, and its former one
# What each extra is for; `pip install 'model-edit-audit[gguf]'` installs one.
EXTRAS = {
    "gguf": "models in GGUF files (--model FILE.gguf)",
    "lm-eval": "tasks of lm-evaluation-harness (--ability lm-eval:TASK)",
    "ray": "a grid on a Ray cluster (audit grid --ray ADDRESS)",
    "test": "the tests of this repository",
    "lint": "checks of style and types of this repository",
    "docs": "the site of the documentation (make docs)",
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LITTLE_SPACE, NO_SPACE = 2 << 30, 100 << 20  # bytes: a large patch, and a few answers


def checkup(folder: Path, *, store: Path | None = None) -> Checkup:
    """Examine this installation, and the project that `folder` belongs to. `store` replaces the usual store."""
    project, settings = _project(folder)
    place = store if store is not None else settings.store if settings is not None else None
    return Checkup(
        (
            _versions(),
            _devices(),
            _extras(),
            _store(place, "--store" if store is not None else f"{TABLE} store"),
            _resources(),
            _hub(needed=settings is not None and settings.data == "hub"),
            project,
        )
    )


def _versions() -> Section:
    facts = {"python": platform.python_version(), "system": platform.platform(terse=True), PACKAGE: _version(PACKAGE)}
    problems = []
    if facts[PACKAGE] is None:
        problems.append(Problem(f"{PACKAGE} is not installed, so its requirements are not known: `pip install -e .`"))
    for requirement in _requirements(""):
        facts[requirement.name] = version = _version(requirement.name)
        install = f"`pip install '{requirement}'`"
        if version is None:
            problems.append(Problem(f"{requirement.name} is not installed, and every audit needs it: {install}", True))
        elif not requirement.specifier.contains(version, prereleases=True):
            problems.append(
                Problem(f"{requirement.name} {version} is too old, {requirement.specifier} is needed: {install}", True)
            )
    for name in ("torch", "transformers"):
        try:
            import_module(name)
        except (ImportError, OSError, RuntimeError, AttributeError, ValueError) as error:
            sentence = f"{name} cannot be imported ({first_line(error)}): `pip install --force-reinstall {name}`"
            problems.append(Problem(sentence, True))
    return Section("versions", facts, tuple(problems))


def _devices() -> Section:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts: dict[str, Any] = {"cpu cores": cores}
    torch: Any = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "get_num_threads"):
        return Section("devices", facts)
    gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    facts |= {
        "threads of torch": torch.get_num_threads(),
        "cuda": [f"{gpu.name}, {decimal(gpu.total_memory)}" for gpu in gpus],
        "mps": torch.backends.mps.is_available(),
    }
    problems = []
    if not gpus and shutil.which("nvidia-smi"):
        problems.append(
            Problem(
                f"there is an NVIDIA driver, but torch {torch.__version__} finds no GPU: install a build of torch for "
                "the driver's version of CUDA, or leave it and audit on the CPU"
            )
        )
    return Section("devices", facts, tuple(problems))


def _extras() -> Section:
    known = importlib.metadata.metadata(PACKAGE).get_all("Provides-Extra") if _version(PACKAGE) else None
    facts = {}
    for extra in known or ():
        missing = [one.name for one in _requirements(extra) if _version(one.name) is None]
        purpose = f"for {EXTRAS[extra]}" if extra in EXTRAS else ""
        state = f"missing {', '.join(missing)}" if missing else "installed"
        facts[extra] = f"{state}; {purpose}" if purpose else state
    return Section("extras", facts)


def _store(place: Path | None, chosen: str) -> Section:
    root = store_at(place).root
    origin = chosen if place is not None else STORE_VARIABLE if os.environ.get(STORE_VARIABLE) else "the user's cache"
    existing = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    facts: dict[str, Any] = {"place": str(root), "chosen by": origin}
    remedy = f"set {STORE_VARIABLE} to a folder that is writable, or use --no-store"
    try:
        free = shutil.disk_usage(existing).free
        with tempfile.TemporaryFile(dir=existing):
            pass
        found = entries(root)
    except OSError as error:
        sentence = f"the store at {root} cannot be written ({error.strerror or error}): {remedy}"
        return Section("store", facts, (Problem(sentence, True),))
    facts |= {
        "size": f"{decimal(sum(entry.bytes for entry in found))} in {len(found)} entries",
        "free on its disk": decimal(free),
    }
    if free >= LITTLE_SPACE:
        return Section("store", facts)
    advice = "free some space, for example with `audit store prune --older-than 30d`"
    sentence = f"the disk of the store at {root} has only {decimal(free)} left: {advice}"
    return Section("store", facts, (Problem(sentence, free < NO_SPACE),))


def _resources() -> Section:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    facts = {"pocket models": list(pocket_names()), "chromium": browser or "missing; only tests of the reports need it"}
    damaged = [name for name in pocket_names() if not _opens(POCKET_WEIGHTS / name / "model.safetensors")]
    problems = []
    if damaged or not pocket_names():
        sentence = f"the weights of {', '.join(damaged)} cannot be read" if damaged else "no pocket model is installed"
        problems.append(Problem(f"{sentence}: `pip install --force-reinstall {PACKAGE}`", True))
    return Section("resources", facts, tuple(problems))


def _hub(*, needed: bool) -> Section:
    from huggingface_hub import constants, get_token

    facts = {
        "offline": bool(constants.HF_HUB_OFFLINE),
        "token": get_token() is not None,
        "cache": str(constants.HF_HUB_CACHE),
    }
    problems = []
    if needed:
        from audit.abilities.data.hub import HubSource

        try:
            HubSource().check()
        except AuditError as error:
            problems.append(Problem(str(error), True))
    return Section("hub", facts, tuple(problems))


def _project(folder: Path) -> tuple[Section, AuditSettings | None]:
    """The project and its settings; None if they are not valid."""
    project = nearest_project(folder)
    loaded = _plugin_loaders(project or folder)
    facts: dict[str, Any] = {"folder": str(project or folder), "plugin loaded by": loaded}
    problems: list[Problem] = []
    if not loaded:
        line = f'pytest_plugins = ("{PLUGINS[0]}",)'
        place = (project or folder) / "conftest.py"
        problems.append(Problem(f"pytest does not load the plugin here: put the line {line} into {place}"))
    settings = None
    try:
        facts[TABLE] = {} if project is None else project_defaults(project)
        settings = settings_from(with_project_defaults({option.name: None for option in OPTIONS}, project))
    except AuditError as error:
        problems.append(Problem(str(error), True))
    return Section("project", facts, tuple(problems)), settings


def _plugin_loaders(root: Path) -> list[str]:
    """What makes pytest load the plugin: files in the root of a project, which are read and not run, or a variable."""
    found = []
    if any(_names_plugin(node) for node in _assignments(root / "conftest.py")):
        found.append("conftest.py")
    for name in ("pyproject.toml", "pytest.toml", "pytest.ini", "tox.ini", "setup.cfg"):
        words = _text(root / name).replace('"', " ").replace("'", " ").replace(",", " ").split()
        given = {second for first, second in itertools.pairwise(words) if first == "-p"}
        if given.intersection(PLUGINS) or {f"-p{plugin}" for plugin in PLUGINS}.intersection(words):
            found.append(name)
    if set(os.environ.get("PYTEST_PLUGINS", "").split(",")).intersection(PLUGINS):
        found.append("PYTEST_PLUGINS")
    return found


def _assignments(file: Path) -> Iterable[ast.expr]:
    """What a file assigns to `pytest_plugins`."""
    try:
        body = ast.parse(_text(file)).body
    except (SyntaxError, ValueError):
        return
    for node in body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(one, ast.Name) and one.id == "pytest_plugins" for one in targets):
                yield node.value


def _names_plugin(value: ast.expr) -> bool:
    return any(isinstance(one, ast.Constant) and one.value in PLUGINS for one in ast.walk(value))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _requirements(extra: str) -> Iterator[Requirement]:
    """What the package needs, or one of its extras."""
    try:
        needed = importlib.metadata.requires(PACKAGE) or ()
    except importlib.metadata.PackageNotFoundError:
        return
    for requirement in map(Requirement, needed):
        if requirement.marker is None:
            if not extra:
                yield requirement
        elif requirement.marker.evaluate({"extra": extra}):
            yield requirement


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _opens(file: Path) -> bool:
    """Whether the header of a file of weights can be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as opened:
            return bool(opened.keys())
    except (OSError, SafetensorError):
        return False
