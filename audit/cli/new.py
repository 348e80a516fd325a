"""`audit new`: the files of an ability or an editor of one's own, as a start."""

import re
from pathlib import Path
from typing import Annotated

import typer

from audit.errors import AuditError
from audit.settings.values import parse_choice

KINDS = ("ability", "editor")
TEMPLATES = Path(__file__).parent / "templates"
NAME = re.compile(r"[a-z][a-z0-9_]*")


def new(
    kind: Annotated[
        str, typer.Argument(metavar="ability|editor", help="what to begin", autocompletion=lambda: list(KINDS))
    ],
    name: Annotated[str, typer.Argument(help="its name: lower-case letters, digits and _")],
    as_class: Annotated[bool, typer.Option("--class", help="an ability as a class instead of a .toml file")] = False,
) -> None:
    """Write the files of an ability or an editor of your own into this folder.

    An ability gets NAME.toml (or NAME.py), NAME.jsonl with a few rows and suites/test_NAME.py; an editor gets NAME.py.
    A conftest.py that loads the plugin is written if there is none. No file is overwritten.
    """
    parse_choice("audit new", kind, KINDS)
    _require_free_name(name, kind)
    texts = _ability_files(name, as_class) if kind == "ability" else {f"{name}.py": _template("editor.py", name)}
    there = [file for file in texts if Path(file).exists()]
    if there:
        raise AuditError(f"{there[0]} exists already, and no file is overwritten; choose another name, or move it.")
    if not Path("conftest.py").exists():
        texts["conftest.py"] = '"""Loads the plugin of the audit."""\n\npytest_plugins = ("audit.pytest_plugin",)\n'
    for file, text in texts.items():
        try:
            Path(file).parent.mkdir(exist_ok=True)
            Path(file).write_text(text, encoding="utf-8")
        except OSError as error:
            raise AuditError(f"{file} cannot be written ({error}); choose another folder.") from None
        typer.echo(f"wrote {file}")
    typer.echo(_next_step(name, kind, as_class))


def _require_free_name(name: str, kind: str) -> None:
    from audit.abilities import ABILITIES
    from audit.editors import EDITORS

    if not NAME.fullmatch(name):
        raise AuditError(f"the name {name!r} is no name of a module; use lower-case letters, digits and _.")
    if name in (ABILITIES if kind == "ability" else EDITORS):
        raise AuditError(f"{name} is a built-in {kind}; choose another name.")


def _ability_files(name: str, as_class: bool) -> dict[str, str]:
    file = f"{name}.py" if as_class else f"{name}.toml"
    place = f"./{file}:{_class_name(name)}" if as_class else f"./{file}"
    return {
        file: _template("ability.py" if as_class else "ability.toml", name),
        f"{name}.jsonl": _template("rows.jsonl", name),
        f"suites/test_{name}.py": _template("suite.py", name).replace("{place}", place),
    }


def _template(kind: str, name: str) -> str:
    text = (TEMPLATES / f"{kind}.txt").read_text(encoding="utf-8")
    return text.replace("{name}", name).replace("{class}", _class_name(name))


def _class_name(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def _next_step(name: str, kind: str, as_class: bool) -> str:
    if kind == "editor":
        return f"next: PYTHONPATH=. audit run --editor {name}:{_class_name(name)} --edit-count 5"
    given = f"{name}.py:{_class_name(name)}" if as_class else f"{name}.toml"
    return f"next: put your rows into {name}.jsonl, then: audit run --ability {given}"
