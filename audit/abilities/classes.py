"""Abilities that are classes of somebody else: importing, checking and fingerprinting them.

ability_of_class("my_pkg.tasks:Triage")      # a module that can be imported
ability_of_class("./triage.py:Triage")       # or a file
"""

import hashlib
import inspect
import re
import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from audit.abilities.contract import Ability
from audit.engine import Decoding
from audit.errors import AuditError, first_line

MEMBERS = (
    "name", "title", "data_name", "metric", "protocol", "reading", "decoding", "scorer",
    "item", "prompt", "parse", "score", "gold_answer", "floor",
)  # fmt: skip
READINGS = ("answers", "choices", "calibrated", "likelihood")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_BASE = "audit.abilities.written.WrittenAbility has most of them"


def ability_of_class(text: str) -> Ability:
    """A new object of a class, named as "package.module:Class" or "file.py:Class".

    Raises:
        AuditError: the class cannot be imported or called without arguments, or it is not an ability.
    """
    place, _, name = text.rpartition(":")
    try:
        module = _module_of_file(Path(place)) if place.endswith(".py") else import_module(place)
    except (ArithmeticError, AttributeError, ImportError, LookupError, NameError, OSError, SyntaxError, TypeError,
            ValueError) as error:  # fmt: skip
        raise AuditError(f"the ability {text} cannot be imported ({first_line(error)}); check {place!r}.") from error
    kind = getattr(module, name, None)
    if not inspect.isclass(kind):
        classes = [key for key, value in vars(module).items() if inspect.isclass(value)]
        there = [key for key in classes if getattr(module, key).__module__ == module.__name__]
        raise AuditError(
            f"the ability {text} has no class {name!r} in {place}; it has {', '.join(there) or 'no classes'}."
        )
    try:
        inspect.signature(kind).bind()
    except TypeError as error:
        raise AuditError(
            f"the ability {text} cannot be made without arguments ({error}); give them defaults, or hand an object "
            "over in a conftest.py."
        ) from None
    return checked(kind(), text)


def checked(ability: Any, text: str) -> Ability:
    """The object, if it is an ability; `text` names it in errors.

    Raises:
        AuditError: it lacks a member, or one is of the wrong kind.
    """
    missing = [member for member in MEMBERS if not hasattr(ability, member)]
    if missing:
        raise AuditError(f"{text} is no ability, because it has no {' and no '.join(missing)}; {_BASE}.")
    idle = [name for name in ("item", "prompt", "parse", "score") if not callable(getattr(ability, name))]
    if idle:
        raise AuditError(f"{text} is no ability, because its {idle[0]} cannot be called; make it a method.")
    if ability.reading not in READINGS:
        raise AuditError(f"{text} has the reading {ability.reading!r}; use one of {', '.join(READINGS)}.")
    if ability.decoding is not None and not isinstance(ability.decoding, Decoding):
        raise AuditError(f"{text} has decoding = {ability.decoding!r}; give an audit.engine.Decoding, or None.")
    if ability.reading == "answers" and ability.decoding is None:
        raise AuditError(f"{text} is read by answers and has no decoding; give an audit.engine.Decoding.")
    found: Ability = ability
    return found


def class_fingerprint(ability: Ability) -> str:
    """sha256 over the module that defines the class, and over what the object holds.

    An ability that depends on more, such as a file that it reads, has a member `fingerprint` of its own.
    """
    own = getattr(ability, "fingerprint", "")
    module = sys.modules.get(type(ability).__module__)
    try:
        code = inspect.getsource(module) if module is not None else ""
    except (OSError, TypeError):  # typed into an interpreter
        code = ""
    held = sorted((name, _ADDRESS.sub("", repr(value))) for name, value in vars(ability).items())
    return hashlib.sha256(repr([own, code, type(ability).__qualname__, held]).encode()).hexdigest()


def _module_of_file(path: Path) -> ModuleType:
    """The module in a file, imported anew under a name that no package has."""
    if not path.is_file():
        raise OSError(f"there is no file {path}")
    name = f"ability_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    spec = spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # its name ends in .py
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
