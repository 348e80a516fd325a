# ruff: noqa: RUF009 - `option` makes a dataclass field, which ruff does not know
"""The options of an audit, each declared once, as a field of the frozen `AuditSettings`.

pytest, the `audit` command and `[tool.audit]` read their options from `OPTIONS`, which lists these fields, and all call
`settings_from`: `pytest --margin ner=3pp` and `audit run --margin ner=3pp` mean the same and raise the same errors.
What depends on an option follows from its `Effect`: the keys under which results are kept, and the past runs that a
preflight uses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from audit.abilities import PROTOCOLS
from audit.abilities.contract import Ability
from audit.abilities.registry import Abilities, AbilityEntry, load_entry, unknown
from audit.editors.restraints.choice import RESTRAINTS
from audit.edits.plan import MODES
from audit.errors import AuditError
from audit.settings.declaration import Effect, Option, option
from audit.settings.values import (
    DEVICES,
    PROMPTINGS,
    READINGS,
    Choice,
    Device,
    EditorConfig,
    Folder,
    GivenAbilities,
    Margins,
    Name,
    Readings,
    RestraintText,
    Switch,
    Text,
    Whole,
    written,
)
from audit.verdicts.margins import Margin

DTYPES = ("auto", "float32", "bfloat16", "float16")
INCONCLUSIVE_POLICIES = ("fail", "skip")
DEFAULT_MARGIN = 0.05  # score points, for suites and commands that set no margin
DEFAULT_KEEP = "90%"  # the share to keep where an ability is read by likelihood, if the suite sets none
DEFAULT_SHOTS = 4  # worked examples under --prompting examples without --shots


@dataclass(frozen=True)
class AuditSettings:
    """The settings of one audit: every option, checked and in canonical form.

    `edited` is a checkpoint that replaces the editor. `edits` None means the pocket world's edit requests for an editor
    and unknown ones for a checkpoint. `margins` override those of the suites; a number is score points, text is parsed
    as `--margin` is. `store` None means the user's cache folder; with `use_store` False nothing is kept between runs
    except `patch`. `plan_only` is read by the plugin and the command, not by `Audit`.

    Raises:
        AuditError: a value is out of range, or two settings contradict each other.
    """

    editor: str = option(
        Effect.EDITS,
        Name(),
        "NAME",
        "editing method: a built-in name or package.module:Class",
        default="memit",
        replaces=("edited", "editor_config", "patch"),
    )
    model: str = option(
        Effect.MODEL,
        Name(),
        "NAME",
        "pocket model, local folder, GGUF file or Hub id",
        default="pocket-llama",
        replaces=("revision",),
    )
    revision: str | None = option(Effect.MODEL, Text(), "REV", "branch, tag or commit of a Hub model")
    edited: str | None = option(
        Effect.EDITS,
        Name(),
        "PATH|HUB-ID",
        "audit this edited checkpoint, adapter or patch of the model instead of running an editor; give its edit "
        "requests with --edits if they are known",
        replaces=("editor", "edit_mode", "edit_batch_size", "editor_config", "restraint", "patch"),
    )
    edits: str | None = option(Effect.EDITS, Name(), "NAME|FILE", "edit requests: 'pocket' or a file (default: pocket)")
    edit_mode: str | None = option(
        Effect.EDITS,
        Choice(MODES),
        "MODE",
        f"one of {', '.join(MODES)} (default: depends on the editor and --edit-count)",
        editor_only=True,
    )
    edit_count: int | None = option(
        Effect.EDITS, Whole(1), "N", "number of edit requests to apply (default: 10, or all if there are fewer)"
    )
    edit_batch_size: int | None = option(
        Effect.EDITS,
        Whole(1),
        "B",
        "edit requests per batch (default: all of them, or 10 in batch-sequential mode)",
        editor_only=True,
    )
    editor_config: Mapping[str, str] = option(
        Effect.EDITS, EditorConfig(), "KEY=VALUE", "set one hyperparameter of the editor; repeatable", editor_only=True
    )
    restraint: str | None = option(
        Effect.EDITS,
        RestraintText(),
        "NAME",
        f"limit the change that the editor makes: {', '.join(RESTRAINTS.values())}",
        editor_only=True,
    )
    margins: Mapping[str, Margin] = option(
        Effect.VERDICTS,
        Margins(),
        "ABILITY=MARGIN",
        "largest acceptable drop in score points (0.03 or 3pp), or the share above the floor that must be kept "
        "(90%); overrides the suite's margin; repeatable",
        name="margin",
    )
    inconclusive: str = option(
        Effect.VERDICTS,
        Choice(INCONCLUSIVE_POLICIES),
        "fail|skip",
        "outcome of a test whose verdict is INCONCLUSIVE",
        default="fail",
    )
    ability: Sequence[AbilityEntry | Ability | str] = option(
        Effect.ABILITIES,
        GivenAbilities(),
        "NAME|FILE|CLASS",
        "what to ask: a built-in ability, or your own by its .toml file, package.module:Class or entry point; "
        "repeatable (default: the eight built-in abilities)",
        default=(),
    )
    # The values of the ANSWERS options, in this order, are part of the key of a calibration.
    protocol: str = option(
        Effect.ANSWERS,
        Choice(tuple(PROTOCOLS)),
        "NAME",
        f"how items are asked and scored: {', '.join(PROTOCOLS)}",
        default="standard",
    )
    data: str = option(
        Effect.ANSWERS,
        Name(),
        "pocket|hub|DIR",
        "source of the items: the pocket world, the eight public data sets, or a folder with your own files",
        default="pocket",
    )
    shots: int = option(
        Effect.ANSWERS,
        Whole(0),
        "N",
        "worked examples from the training split before each item (protocol standard only)",
        default=0,
    )
    chat_template: bool = option(
        Effect.ANSWERS, Switch(), "", "ask through the tokenizer's chat template", default=False
    )
    reading: Mapping[str, str] = option(
        Effect.ANSWERS,
        Readings(),
        "READING",
        f"how answers become scores: {', '.join(READINGS)}, for all abilities or as ABILITY=READING; auto takes the "
        "first that the base model is clearly above the floor of; repeatable",
    )
    prompting: str = option(
        Effect.ANSWERS,
        Choice(PROMPTINGS),
        "NAME",
        f"how items are put to the model: {', '.join(PROMPTINGS)}; auto chooses on the base model, from rows set aside",
        default="auto",
    )
    limit: int = option(Effect.ITEMS, Whole(1), "N", "maximum number of items asked per ability", default=200)
    seed: int = option(Effect.ITEMS, Whole(0), "N", "random seed, for example of edit requests and items", default=0)
    edit_seed: int | None = option(
        Effect.EDITS,
        Whole(0),
        "N",
        "random seed of the edits alone, so that other edits are judged on the same items (default: --seed)",
    )
    device: str = option(
        Effect.COMPUTATION,
        Device(),
        "DEVICE",
        f"one of {', '.join(DEVICES)}; map spreads a large model over all GPUs",
        default="auto",
    )
    dtype: str = option(Effect.COMPUTATION, Choice(DTYPES), "DTYPE", f"one of {', '.join(DTYPES)}", default="auto")
    reports: Path = option(
        Effect.OUTPUT, Folder(), "DIR", "folder in which each run makes its own folder", default=Path("reports")
    )
    item_texts: bool = option(
        Effect.OUTPUT,
        Switch(),
        "",
        "leave every text of the items out of the reports (prompts, right answers, answers); keys and scores stay",
        default=True,
        name="no_items",
    )
    patch: Path | None = option(
        Effect.EDITS,
        Folder(),
        "DIR",
        "keep the finished patch in this folder; later runs of the same edit plan load it instead of editing",
        editor_only=True,
    )
    store: Path | None = option(
        Effect.OUTPUT,
        Folder(),
        "DIR",
        "folder for answers, patches and unfinished edit plans (default: AUDIT_STORE, or the user's cache folder)",
        replaces=("no_store",),
    )
    use_store: bool = option(
        Effect.OUTPUT,
        Switch(),
        "",
        "keep nothing between runs, and use nothing from earlier ones",
        default=True,
        name="no_store",
        replaces=("store",),
    )
    reuse: bool = option(
        Effect.COMPUTATION,
        Switch(),
        "",
        "compute every answer of the edited model from scratch, for comparison",
        default=True,
        name="no_reuse",
    )
    early_stop: bool = option(
        Effect.ITEMS, Switch(), "", "stop asking an ability as soon as its verdict is certain", default=False
    )
    triage: bool = option(
        Effect.VERDICTS,
        Switch(),
        "",
        "ask all items even if the edited model has collapsed",
        default=True,
        name="no_triage",
    )
    allow_unchanged: bool = option(
        Effect.VERDICTS,
        Switch(),
        "",
        "judge an edited model that equals the base model; without this the run fails, except with --editor identity",
        default=False,
    )
    plan_only: bool = option(
        Effect.OUTPUT,
        Switch(),
        "",
        "ask nothing: show which margins could be certified and how long the run would take",
        default=False,
        in_project=False,
    )

    def __post_init__(self) -> None:
        for declared in OPTIONS:
            value = getattr(self, declared.field)
            if value is not None:
                object.__setattr__(self, declared.field, declared.kind.check(declared.flag, value))
        for flag, by_ability in (("--margin", self.margins), ("--reading", self.reading)):
            for name, value in by_ability.items():
                if name and name not in self.abilities.names:
                    raise unknown(name, self.abilities.names, f"{flag} '{name}={value}'")
        if self.shots and self.protocol != "standard":
            raise AuditError(f"--shots {self.shots}: {self.protocol} asks without examples; leave one of the two out.")
        fixed = "--shots" if self.shots else "--chat-template" if self.chat_template else ""
        if fixed and self.prompting in ("plain", "examples" if self.chat_template else "chat"):
            raise AuditError(f"{fixed} contradicts --prompting {self.prompting}; give one of the two.")
        prompted = self.chat_flag or ("--prompting examples" if self.prompting == "examples" else "")
        if prompted and self.protocol != "standard":
            raise AuditError(f"{prompted}: {self.protocol} has prompts of its own; leave one of the two out.")
        if self.chat_flag and self.editor == "ike" and self.edited is None:
            raise AuditError(
                f"{self.chat_flag}: ike puts its demonstrations before the prompt, outside of any chat turn; "
                "leave one of the two out."
            )
        for declared in OPTIONS if self.edited is not None else ():
            if declared.editor_only and getattr(self, declared.field):
                raise AuditError(
                    f"{declared.flag} says how to edit, but --edited {self.edited} is already edited: "
                    "leave one of the two out."
                )

    @property
    def abilities(self) -> Abilities:
        """The built-in abilities and those that were given."""
        return Abilities(tuple(map(load_entry, self.ability)))  # they are loaded already

    def load_ability(self, name: str) -> Ability:
        """The ability of a name under the protocol. Raises `AuditError` if there is none."""
        return self.abilities.load(name, self.protocol)

    def with_ability(self, text: str) -> "AuditSettings":
        """The settings in which the ability that `text` names, by name, file or class, is known.

        Raises:
            AuditError: there is no such ability, or it is malformed.
        """
        known = self.abilities.name_of(text) is not None
        return self if known else replace(self, ability=(*self.ability, text))

    def reading_of(self, ability: str) -> str:
        """The reading asked for: "auto", "answers", "choices", "calibrated" or "likelihood"."""
        return self.reading.get(ability) or self.reading.get("") or "auto"

    @property
    def seed_of_edits(self) -> int:
        """The seed that draws the edit requests, and that editors and restraints get."""
        return self.seed if self.edit_seed is None else self.edit_seed

    @property
    def chat_flag(self) -> str:
        """The option that asks for the chat template, as it is typed; "" without one."""
        return "--chat-template" if self.chat_template else "--prompting chat" if self.prompting == "chat" else ""

    def plain(self) -> dict[str, Any]:
        """The settings as JSON can hold them, with margins and folders as a user would type them."""
        return {name: written(value) for name, value in vars(self).items()}

    def by_effect(self, *effects: Effect) -> dict[str, Any]:
        """The settings with one of these effects, by field, in the order of their declaration, as `plain` has them."""
        return {one.field: written(getattr(self, one.field)) for one in OPTIONS if one.effect in effects}


OPTIONS: tuple[Option, ...] = tuple(
    replace(one.metadata["option"], field=one.name, name=one.metadata["option"].name or one.name)
    for one in fields(AuditSettings)
)


def settings_from(typed: Mapping[str, Any]) -> AuditSettings:
    """Settings from option values as typed, by option name; None or a missing name means the default.

    Repeatable options are lists of strings, switches are booleans. Raises `AuditError` with one sentence.
    """
    given: dict[str, Any] = {}
    for one in OPTIONS:
        value = typed.get(one.name)
        if value is not None and value != []:
            given[one.field] = one.value(value)
    if not given.get("use_store", True) and "store" in given:
        raise AuditError(f"--store {given['store']} and --no-store contradict each other: give one of the two.")
    return AuditSettings(**given)
