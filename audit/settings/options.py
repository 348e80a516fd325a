"""The options of an audit: one table, one frozen `AuditSettings`, and `parse_*` functions with exact errors.

The plugin and the command line both read their options from `OPTIONS` and both call `settings_from`, so that
`pytest --margin ner=3pp` and `audit run --margin ner=3pp` mean, and complain about, the same thing.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audit.abilities import PROTOCOLS
from audit.editors.restraints.choice import RESTRAINTS, parse_restraint
from audit.edits.plan import MODES
from audit.errors import AuditError
from audit.verdicts.margins import Margin, margin_of, parse_margin

DTYPES = ("auto", "float32", "bfloat16", "float16")
DEVICES = ("auto", "cpu", "cuda", "cuda:N", "mps", "map")
INCONCLUSIVE_POLICIES = ("fail", "skip")
DEFAULT_MARGIN = 0.05  # score points, where no suite states its own


@dataclass(frozen=True)
class Option:
    """One option as the user types it. `name` is the field of `AuditSettings`; `default` is what help states."""

    name: str
    metavar: str
    help: str
    default: str | None = None
    repeatable: bool = False
    switch: bool = False

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def help_line(self) -> str:
        """The help text, with its default where there is one."""
        return f"{self.help} (default: {self.default})" if self.default is not None else self.help


OPTIONS: tuple[Option, ...] = (
    Option("editor", "NAME", "the method that edits: a built-in name or package.module:Class", "memit"),
    Option("model", "NAME", "a pocket model, a local folder or a hub id", "pocket-llama"),
    Option("revision", "REV", "the branch, tag or commit of a hub model"),
    Option(
        "edited", "PATH|HUB-ID", "audit this edited checkpoint, adapter or patch of the model in place of an editor"
    ),
    Option(
        "edits", "NAME|FILE", "what to edit: 'pocket' or a file (default: pocket, or what --edited holds is not known)"
    ),
    Option("edit_mode", "MODE", f"{', '.join(MODES)} (default: what suits the editor and the count)"),
    Option("edit_count", "N", "how many edit requests to apply (default: 10, or all where there are fewer)"),
    Option("edit_batch_size", "B", "edit requests in one batch (default: all of them, or 10 in batch-sequential)"),
    Option("editor_config", "KEY=VALUE", "override one hyperparameter of the editor; repeatable", repeatable=True),
    Option("restraint", "NAME", f"hold the editor's change back: {', '.join(RESTRAINTS.values())}"),
    Option(
        "margin",
        "ABILITY=MARGIN",
        "the largest acceptable drop, 0.03 or 3pp, or the share above the floor that must be retained, 90%, "
        "instead of the suite's own; repeatable",
        repeatable=True,
    ),
    Option("inconclusive", "fail|skip", "what an INCONCLUSIVE verdict does to its test", "fail"),
    Option(
        "data",
        "pocket|hub|DIR",
        "where the questions come from: the invented world, the eight real data sets, or your files of them",
        "pocket",
    ),
    Option("protocol", "NAME", f"how they are asked and scored: {', '.join(PROTOCOLS)}", "standard"),
    Option("shots", "N", "worked examples from the training split before each question of protocol standard", "0"),
    Option("chat_template", "", "ask through the tokenizer's chat template", switch=True),
    Option("limit", "N", "items asked per ability", "200"),
    Option("seed", "N", "seed of the edits, the items and the editor", "0"),
    Option("device", "DEVICE", f"{', '.join(DEVICES)}; map spreads a large model over all GPUs", "auto"),
    Option("dtype", "DTYPE", ", ".join(DTYPES), "auto"),
    Option("reports", "DIR", "where the run's folder lands", "reports/"),
    Option("patch", "DIR", "keep the finished patch there; a later run of the same plan takes it and edits nothing"),
    Option(
        "store",
        "DIR",
        "where answers, patches and unfinished plans are kept (default: the user's cache folder, or AUDIT_STORE)",
    ),
    Option("no_store", "", "keep nothing between runs: ask the base model again", switch=True),
    Option("early_stop", "", "stop asking an ability as soon as its verdict is certain", switch=True),
    Option("plan_only", "", "ask nothing: tell how long it would take and what it could detect", switch=True),
    Option("no_triage", "", "ask every ability even of a model that has collapsed", switch=True),
    Option("no_reuse", "", "compute every answer of an edited model from nothing, for comparison", switch=True),
)


@dataclass(frozen=True)
class AuditSettings:
    """Everything that decides a run, validated: what two equal settings on equal weights give is equal.

    `edited` is a checkpoint that takes the editor's place; `edits` None means the pocket world's for an editor and none
    for a checkpoint; `data` is "pocket", "hub" or a folder. `margins` by ability override those that a suite states;
    numbers are score points, text is read as `--margin` is. `store` None means the user's cache folder; `use_store`
    False keeps nothing between runs but `patch`; `reuse` False computes every edited model's answers from nothing.
    `early_stop` may ask fewer items; `triage` lets a collapsed model fail before it is asked; `plan_only` is heeded by
    who runs an audit, not by the `Audit`. Raises `AuditError` for a value out of range.
    """

    editor: str = "memit"
    model: str = "pocket-llama"
    revision: str | None = None
    edits: str | None = None
    edited: str | None = None
    edit_mode: str | None = None
    edit_count: int | None = None
    edit_batch_size: int | None = None
    editor_config: Mapping[str, str] = field(default_factory=dict)
    restraint: str | None = None
    margins: Mapping[str, Margin] = field(default_factory=dict)
    inconclusive: str = "fail"
    data: str = "pocket"
    protocol: str = "standard"
    shots: int = 0
    chat_template: bool = False
    limit: int = 200
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    reports: Path = Path("reports")
    patch: Path | None = None
    store: Path | None = None
    use_store: bool = True
    reuse: bool = True
    early_stop: bool = False
    triage: bool = True
    plan_only: bool = False

    def __post_init__(self) -> None:
        for name in ("editor", "model", "edits", "edited", "data"):
            if getattr(self, name) is not None and not getattr(self, name).strip():
                raise AuditError(f"--{name} is empty: give a name, or leave the option out for its default.")
        if self.edit_mode is not None:
            parse_choice("--edit-mode", self.edit_mode, MODES)
        parse_choice("--inconclusive", self.inconclusive, INCONCLUSIVE_POLICIES)
        parse_choice("--dtype", self.dtype, DTYPES)
        parse_choice("--protocol", self.protocol, tuple(PROTOCOLS))
        parse_device(self.device)
        for name, least in (("edit_count", 1), ("edit_batch_size", 1), ("limit", 1), ("seed", 0), ("shots", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise AuditError(f"--{name.replace('_', '-')} {value}: give a whole number of at least {least}.")
        if self.shots and self.protocol != "standard":
            raise AuditError(f"--shots {self.shots}: {self.protocol} asks without examples; leave one of the two out.")
        if self.chat_template and self.protocol != "standard":
            raise AuditError(
                f"--chat-template: {self.protocol} asks its own prompts as they are; leave one of the two out."
            )
        if self.chat_template and self.editor == "ike" and self.edited is None:
            raise AuditError(
                "--chat-template: ike puts its demonstrations before the prompt, outside of any turn; "
                "leave one of the two out."
            )
        if self.edited is not None:
            self._refuse_editing()
        read = {name: _margin(name, margin, f"{name}={margin}") for name, margin in self.margins.items()}
        object.__setattr__(self, "margins", read)
        if self.restraint is not None:
            object.__setattr__(self, "restraint", str(parse_restraint(self.restraint)))  # one way to write each
        for name in ("reports", "patch", "store"):
            if getattr(self, name) is not None:
                # Python users may give text; the field holds a path in any case.
                object.__setattr__(self, name, parse_folder(f"--{name}", str(getattr(self, name))))

    def plain(self) -> dict[str, Any]:
        """The settings as JSON can hold them, margins and folders as they would be typed."""
        words = {key: str(value) if isinstance(value, Path) else value for key, value in vars(self).items()}
        return words | {
            "margins": {name: str(margin) for name, margin in self.margins.items()},
            "editor_config": dict(self.editor_config),
        }

    def _refuse_editing(self) -> None:
        """A checkpoint is edited already: nothing that says how to edit goes with it."""
        for name in ("edit_mode", "edit_batch_size", "editor_config", "restraint", "patch"):
            if getattr(self, name):
                raise AuditError(
                    f"--{name.replace('_', '-')} says how to edit, but --edited {self.edited} is edited already: "
                    "leave one of the two out."
                )


def settings_from(typed: Mapping[str, Any]) -> AuditSettings:
    """Settings from option strings as typed, by option name; None or a missing name means the default.

    Repeatable options are sequences of strings, switches are booleans. Raises `AuditError` with one sentence.
    """
    given = {name: value for name, value in typed.items() if value is not None and value != []}
    fields: dict[str, Any] = {}
    for name, value in given.items():
        flag = "--" + name.replace("_", "-")
        match name:
            case "edit_count" | "edit_batch_size" | "limit":
                fields[name] = parse_whole(flag, value, 1)
            case "seed" | "shots":
                fields[name] = parse_whole(flag, value, 0)
            case "margin":
                fields["margins"] = parse_margins(value)
            case "editor_config":
                fields[name] = parse_editor_config(value)
            case "no_store":
                fields["use_store"] = not value
            case "no_reuse":
                fields["reuse"] = not value
            case "no_triage":
                fields["triage"] = not value
            case "chat_template" | "early_stop" | "plan_only":
                fields[name] = value
            case _:
                fields[name] = value.strip()
    if not fields.get("use_store", True) and "store" in fields:
        raise AuditError(f"--store {fields['store']} and --no-store contradict each other: give one of the two.")
    return AuditSettings(**fields)


def parse_whole(flag: str, text: str, least: int) -> int:
    """A whole number of at least `least`; digits only, so that 1e3, 10.0 and ' ' are refused with one sentence."""
    cleaned = text.strip()
    digits = cleaned.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or int(cleaned) < least:
        raise AuditError(f"{flag} {text!r}: give a whole number of at least {least}.")
    return int(cleaned)


def parse_choice(flag: str, text: str, choices: tuple[str, ...]) -> str:
    """One of `choices`, or an error that lists them and guesses what was meant."""
    if text in choices:
        return text
    raise AuditError(f"{flag} {text!r}: give one of {', '.join(choices)}{_guess(text, choices)}.")


def parse_device(text: str) -> str:
    """A device in torch's words; whether the machine has it is known when the model is loaded."""
    kind, _, index = text.partition(":")
    if (text in DEVICES and text != "cuda:N") or (kind == "cuda" and index.isascii() and index.isdigit()):
        return text
    raise AuditError(f"--device {text!r}: give one of {', '.join(DEVICES)}{_guess(text, DEVICES)}.")


def parse_margins(texts: Iterable[str]) -> dict[str, Margin]:
    """`ABILITY=MARGIN` strings as margins by ability: 'ner=0.03' and 'ner=3pp' are both {'ner': Points(0.03)}."""
    margins: dict[str, Margin] = {}
    for text in texts:
        ability, equals, margin = (part.strip() for part in text.partition("="))
        if not equals or not ability or not margin:
            raise AuditError(f"--margin {text!r}: write ABILITY=MARGIN, for example reasoning=0.03 or reasoning=90%.")
        if ability in margins:
            raise AuditError(f"--margin {text!r}: {ability} already has a margin ({margins[ability]}); give one.")
        margins[ability] = _margin(ability, margin, text)
    return margins


def _margin(ability: str, margin: float | str | Margin, text: str) -> Margin:
    """The margin, if there is such an ability and such a margin; `text` is what was typed."""
    from audit.abilities import ABILITIES  # a table of names; no ability is loaded

    if ability not in ABILITIES:
        raise AuditError(
            f"--margin {text!r}: there is no ability {ability!r}; give one of {', '.join(ABILITIES)}"
            f"{_guess(ability, tuple(ABILITIES))}."
        )
    if isinstance(margin, float | int | str):  # both as typed, so that both are held to the same bounds
        return parse_margin(str(margin), f"--margin {text!r}")
    return margin_of(margin)


def parse_editor_config(texts: Iterable[str]) -> dict[str, str]:
    """`KEY=VALUE` strings as a mapping; types are the editor's business, and are checked when it is loaded."""
    config: dict[str, str] = {}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not key or not value:
            raise AuditError(f"--editor-config {text!r}: write KEY=VALUE, for example layers=3,4.")
        if key in config:
            raise AuditError(f"--editor-config {text!r}: {key} is already set to {config[key]!r}; set it once.")
        config[key] = value
    return config


def parse_folder(flag: str, text: str) -> Path:
    """A folder that exists or can be made; a file in its place, or in its parents', is refused."""
    if not text.strip():
        raise AuditError(f"{flag} is empty: give a folder, or leave the option out for its default.")
    folder = Path(text).expanduser()
    if _blocked(folder):
        raise AuditError(f"{flag} {text}: that is a file, not a folder; give a folder.")
    return folder


def _blocked(folder: Path) -> bool:
    """Whether the nearest thing that exists on the way to `folder` is a file."""
    nearest = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    return nearest.is_file()


def _guess(text: str, choices: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(text, choices, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
