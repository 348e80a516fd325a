"""What one audit found, as plain data: the session fills it, every renderer reads it, `verdict.json` stores it.

Scores are score points in [0, 1]; a drop is base minus edited, so a loss is positive; times are in seconds. Numbers
that came out non-finite are None, because JSON has no word for them. Nothing here knows a model, a test or a terminal.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit.measures.flips import FlipReport
from audit.reports.reuse import TakenOver
from audit.verdicts import FAIL, INCONCLUSIVE, PASS
from audit.verdicts.outcome import StoppingRule

if TYPE_CHECKING:
    from audit.verdicts.alarm import Alarm

SCHEMA_VERSION = 1


def asked_how(protocol: str, shots: int, chat_template: bool) -> str:
    """The protocol, and what stands around each question: "protocol standard, 5 shots, chat template"."""
    examples = f", {shots} shot{'s' if shots != 1 else ''}" if shots else ""
    return f"protocol {protocol}{examples}{', chat template' if chat_template else ''}"


@dataclass(frozen=True)
class RunHeader:
    """What was audited and how. `plan` is a sentence part: "10 edits, batch-single"."""

    started: str  # ISO 8601, UTC
    model: str
    revision: str | None
    editor: str
    edits: str
    plan: str
    edit_count: int
    device: str
    dtype: str
    seed: int
    limit: int
    restraint: str | None = None
    patch_from: str | None = None  # the folder of an earlier run's patch, where nothing was edited in this one
    data: str = "pocket"
    protocol: str = "standard"
    shots: int = 0
    chat_template: bool = False
    rescored: str | None = None  # the folder of the run whose saved answers were scored again in this one
    checkpoint: bool = False  # whether `editor` is a checkpoint that somebody else edited

    @property
    def method(self) -> str:
        """The editor, and what holds its changes back."""
        return f"{self.editor} + {self.restraint}" if self.restraint else self.editor

    @property
    def asked_how(self) -> str:
        """The protocol, and what stands around each question."""
        return asked_how(self.protocol, self.shots, self.chat_template)

    def lines(self) -> list[str]:
        """The header as it stands above the tests and in every report."""
        model = f"{self.model} @ {self.revision}" if self.revision else self.model
        edits = f"{self.method} edits {model}: {self.plan}, from {self.edits}"
        if self.checkpoint:
            edits = f"{self.method}, {self.plan} of {model}" + (f", from {self.edits}" if self.edit_count else "")
        lines = [
            f"audit: {edits}",
            f"audit: at most {self.limit} items per ability from {self.data}, {self.asked_how}",
            f"audit: device {self.device}, dtype {self.dtype}, seed {self.seed}",
        ]
        if self.patch_from:
            lines.append(f"audit: patch from {self.patch_from}, nothing is edited")
        if self.rescored:
            lines.append(f"audit: the answers of {self.rescored}, scored again; no model is asked")
        return lines


@dataclass(frozen=True)
class AnswerRecord:
    """One answer: the text the model gave, what the parser read in it, and its score."""

    text: str
    value: Any
    parseable: bool
    score: float
    beside: Mapping[str, float] = field(default_factory=dict)  # further metrics, which decide nothing
    log_likelihoods: tuple[float, ...] | None = None  # of the item's choices, where it has some


@dataclass(frozen=True)
class ItemRecord:
    """One question with both answers. `edited` holds one answer for every edited model that was asked.

    `fields` are what the item was made from, in the data set's columns; reports of older versions have none.
    `mentions` are the edited subjects and targets that it mentions, `flips` what became of the answer.
    """

    ability: str
    key: str
    cluster: str
    prompt: str
    choices: tuple[str, ...]
    gold: tuple[str, ...]
    base: AnswerRecord
    edited: tuple[AnswerRecord, ...]
    fields: Mapping[str, Any] | None = None
    mentions: tuple[str, ...] = ()
    flips: tuple[str, ...] = ()

    @property
    def edited_score(self) -> float:
        """The mean over the edited models."""
        return sum(answer.score for answer in self.edited) / len(self.edited)


@dataclass(frozen=True)
class Example:
    """An item worth looking at, cut to what fits in a report."""

    key: str
    prompt: str
    gold: str
    base: str
    edited: str


@dataclass(frozen=True)
class AbilityRow:
    """One ability's verdict. `lower` and `upper` are one-sided 95 % limits of the drop."""

    ability: str
    title: str
    metric: str
    outcome: str
    base: float
    edited: float
    drop: float
    lower: float
    upper: float
    margin: float
    n: int
    clusters: int
    floor: float
    method: str
    right_to_wrong: int
    wrong_to_right: int
    parsed_to_unparseable: int
    changed: int  # items whose answer text changed
    base_unparseable: float  # rate
    edited_unparseable: float  # rate
    items_fingerprint: str
    base_from_store: bool
    sentence: str
    examples: tuple[Example, ...] = ()
    base_lower: float | None = None  # one-sided 95 % lower limit of the base score
    beside: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # further metrics: (base, edited)
    more_items: int | None = None  # about how many further items would settle an INCONCLUSIVE verdict
    protocol: str = "standard"  # how it was asked and scored; numbers of two protocols do not compare
    asked_margin: str = ""  # as it was asked for: "0.05", or the share to be retained, "90%"
    sequential: StoppingRule | None = None  # what might have been asked, of a run that might stop early
    harm_p: float | None = None  # chance of such a drop if nothing was harmed; None where it was not tested
    noise_floor: float | None = None  # what the same weights lose against themselves, where that was calibrated
    noise_items: int | None = None  # ... on so many items
    flips: FlipReport | None = None  # on items that mention an edit, and elsewhere; reports of older versions lack it

    @property
    def named(self) -> str:
        """The ability as numbers are headed: with its protocol, unless that is the standard one."""
        return self.ability if self.protocol == "standard" else f"{self.ability} ({self.protocol})"

    @property
    def planned(self) -> int | None:
        """The items that could have been asked, where the verdict came before the last of them."""
        return self.sequential.items if self.sequential is not None and self.n < self.sequential.items else None

    @property
    def asked(self) -> str:
        """The number of items as tables show it: "64 of 200" where the verdict came early."""
        return str(self.n) if self.planned is None else f"{self.n} of {self.planned}"

    @property
    def assessable(self) -> bool:
        """Whether the base model is clearly above the floor, so that there is something to lose."""
        return self.base_lower is None or self.base_lower > self.floor


@dataclass(frozen=True)
class EditScore:
    """One measure of the edit itself under one protocol ("autoregressive" or "teacher-forced").

    `n` counts edit requests; `lower` and `upper` are 95 % limits.
    """

    measure: str
    protocol: str
    value: float | None
    n: int
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class IntegrityRow:
    """One check of the edited weights: what was measured, and whether that is sound (None: no limit is set)."""

    check: str
    value: float | bool | None
    sound: bool | None
    sentence: str


@dataclass(frozen=True)
class SkippedEdit:
    """A row of the edits file that could not be used."""

    file: str
    line: int
    field: str
    reason: str


@dataclass(frozen=True)
class RunReport:
    """Everything needed to judge a run and to repeat it."""

    header: RunHeader
    abilities: tuple[AbilityRow, ...] = ()
    edit_scores: tuple[EditScore, ...] = ()
    integrity: tuple[IntegrityRow, ...] = ()
    skipped: tuple[SkippedEdit, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    taken_over: TakenOver = field(default_factory=TakenOver)
    failed_tests: tuple[str, ...] = ()  # those that failed for another reason than an ability's verdict
    items: tuple[ItemRecord, ...] = ()
    unasked: Mapping[str, str] = field(default_factory=dict)  # abilities that could not be asked, and why
    collapse: str | None = None  # why the edited model is no working language model, where that is so
    folder: str | None = None  # where it was written

    @property
    def outcome(self) -> str:
        """FAIL if the model collapsed, or an ability, a check of the weights or another test fails; else INCONCLUSIVE
        if any is; else PASS.

        An ability that was not asked is not known to have been retained: with one, no run passes.
        """
        outcomes = {row.outcome for row in self.abilities}
        if self.collapse or FAIL in outcomes or self.failed_tests or any(row.sound is False for row in self.integrity):
            return FAIL
        undecided = INCONCLUSIVE in outcomes or bool(self.unasked) or not self.abilities
        return INCONCLUSIVE if undecided else PASS

    @property
    def alarms(self) -> "list[Alarm]":
        """Which abilities were harmed at all, however little; all of them together hold with 95 % confidence (Holm)."""
        from audit.verdicts.alarm import alarms

        return alarms({row.ability: row.harm_p for row in self.abilities if row.harm_p is not None})

    def count(self, outcome: str) -> int:
        return sum(row.outcome == outcome for row in self.abilities)

    @property
    def verdict_line(self) -> str:
        """One line: the outcome and what it is made of."""
        parts = [f"{self.count(word)} {word}" for word in (PASS, FAIL, INCONCLUSIVE) if self.count(word)]
        if self.collapse:
            parts.append("collapsed, so no ability was asked")
        if self.unasked:
            parts.append(f"not asked {', '.join(self.unasked)}")
        unsound = [row.check for row in self.integrity if row.sound is False]
        if unsound:
            parts.append(f"unsound {' and '.join(unsound)}")
        if self.failed_tests:
            parts.append(f"failed {', '.join(name.rsplit('::', 1)[-1] for name in self.failed_tests)}")
        header = self.header
        return f"{self.outcome}: {header.method} on {header.model}, {header.plan}: {', '.join(parts) or 'no verdict'}"

    def table(self, width: int = 100) -> str:
        """The summary as plain text, as the terminal shows it."""
        from audit.reports.terminal import summary

        return summary(self, width=width, color=False)

    def save(self, root: Path | str = "reports") -> Path:
        """Write `verdict.json`, `items.jsonl` and `report.md` into a new folder under `root`; return the folder."""
        from audit.reports.folder import write_report

        return write_report(self, Path(root))

    def _repr_markdown_(self) -> str:
        """A notebook shows the report itself."""
        from audit.reports.markdown import markdown

        return markdown(self)
