"""The page docs/options.md, from the declared options and the commands: `python -m docs.generation.options_page`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

from audit.cli import app
from audit.settings.declaration import Effect, Option
from audit.settings.options import OPTIONS

PAGE = Path(__file__).resolve().parents[1] / "options.md"
INTRODUCTION = """\
# Options

This page is made from the declarations in `audit/settings/options.py` and from the commands themselves.
`pytest --help` and `audit COMMAND --help` show the same.

An option is given

- to pytest: `pytest suites/ --device cpu`, or `--audit-device cpu` where another plugin has the short flag;
- to the [commands](#commands) of `audit`, each of which takes some of them;
- in the table `[tool.audit]` of a `pyproject.toml`, without the dashes in front ([example](verdicts.md#margins));
- from Python, as a keyword of [`Audit`](api.md): the column "field".

What is typed overrides `[tool.audit]`, and that overrides the default.
"""
TITLES = {
    Effect.MODEL: "The model",
    Effect.EDITS: "The edits",
    Effect.ABILITIES: "The abilities",
    Effect.ANSWERS: "How items are asked",
    Effect.ITEMS: "Which items are asked",
    Effect.COMPUTATION: "Computation",
    Effect.VERDICTS: "Verdicts",
    Effect.OUTPUT: "Output",
}


def options_page() -> str:
    """The page as Markdown."""
    parts = [INTRODUCTION]
    for effect in Effect:
        rows = [_row(option) for option in OPTIONS if option.effect is effect]
        parts.append(f"## {TITLES[effect]}\n{_table(('option', 'default', 'meaning', 'field'), rows)}\n")
    editing = ", ".join(f"`{option.flag}`" for option in OPTIONS if option.editor_only)
    typed = ", ".join(f"`{option.flag}`" for option in OPTIONS if not option.in_project)
    parts.append(
        "## What does not go together\n"
        f"`--edited` names a checkpoint that is edited already, so it contradicts {editing}. "
        f"`[tool.audit]` cannot set {typed}.\n"
    )
    parts.append(f"## Commands\n{''.join(_command(name, one) for name, one in _commands().items())}".rstrip() + "\n")
    return "\n".join(parts)


def _row(option: Option) -> tuple[str, ...]:
    value = f" {option.metavar}" if option.metavar else ""
    default = "off" if option.kind.switch else option.stated_default or ""
    name = option.field if option.default is not True else f"{option.field}=False"
    return (
        _code(option.flag + value),
        _code(default) if option.stated_default else default,
        _text(option.help),
        _code(name),
    )


def _commands(group: Any = None, prefix: str = "") -> dict[str, Any]:
    """The commands by name, those of a group with its name in front."""
    found: dict[str, Any] = {}
    for name, command in (group or typer.main.get_command(app)).commands.items():
        inner = hasattr(command, "commands")
        found |= _commands(command, f"{prefix}{name} ") if inner else {f"{prefix}{name}": command}
    return found


def _command(name: str, command: Any) -> str:
    """One command: its usage, the parameters that only it has, and the options above that it takes."""
    declared = {option.flag: option.help_line for option in OPTIONS}
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and one.name != "help"]
    own = [one for one in options if declared.get(one.opts[0]) != one.help]
    taken = [f"`{one.opts[0]}`" for one in options if one not in own]
    usage = " ".join([f"audit {name}", *map(_place, arguments), *(["[OPTIONS]"] if options else [])])
    parts = [f"### audit {name}", f"`{usage}`: {_first_sentences(command.help)}"]
    if arguments or own:
        rows = [(_code(_name(one)), _default(one), _text(one.help or "")) for one in (*arguments, *own)]
        parts.append(_table(("argument or option", "default", "meaning"), rows))
    if taken:
        every = len(taken) == len(OPTIONS)
        parts.append("It takes all options above." if every else f"Options above that it takes: {', '.join(taken)}.")
    return "\n\n".join(parts) + "\n\n"


def _first_sentences(text: str) -> str:
    """The first paragraph of a command's help, to follow a colon."""
    first = text.split("\n\n")[0]
    return first[0].lower() + first[1:]


def _place(argument: Any) -> str:
    """An argument as a line of usage shows it: BASE, EDITED..., [ABILITIES]..."""
    word = argument.metavar or argument.name.upper()
    many = "..." if argument.nargs == -1 else ""
    return f"{word}{many}" if argument.required else f"[{word}]{many}"


def _name(one: Any) -> str:
    if one.param_type_name == "argument":
        return one.metavar or one.name.upper()
    return f"{one.opts[0]} {one.metavar or ''}".strip()


def _default(one: Any) -> str:
    if getattr(one, "is_flag", False):
        return "off"
    plain = isinstance(one.default, str | int | Path)
    return "required" if one.required else f"`{one.default}`" if plain and one.default != "" else ""


def _text(text: str) -> str:
    """Text in a cell."""
    return text.replace("<", "&lt;").replace("|", "\\|")


def _code(text: str) -> str:
    """Text as code in a cell. Between backquotes GitHub and the site read an escaped bar in two ways."""
    return f"<code>{text.replace('|', '&#124;')}</code>" if "|" in text else f"`{text}`"


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(headings)]
    lines += [["---"] * len(lines[0]), *(list(row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(options_page(), encoding="utf-8")
