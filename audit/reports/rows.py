"""The result of one audit as plain data: the audit fills it, renderers read it, `verdict.json` stores it.

Scores are score points in [0, 1]; a drop is base minus edited, so a loss is positive; times are in seconds. Numbers
that are not finite are None, because JSON has none. This module imports no model, no test framework and no terminal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from audit.abilities import ABILITIES
from audit.engine.reuse_counts import ReuseCounts
from audit.measures.edited_facts import EditedFact
from audit.measures.flips import FlipReport
from audit.measures.rates import MAGNITUDE, NATS_PER_TOKEN
from audit.reports.verdict_sentences import limits, verdict_sentence
from audit.verdicts import FAIL, INCONCLUSIVE, PASS, Outcome, StoppingRule, Verdict

if TYPE_CHECKING:
    from audit.verdicts.alarm import Alarm

# The edit scores that a curve and a grid follow, with headings that tell the two efficacies apart.
FOLLOWED_SCORES = {
    "immediate efficacy": "efficacy at once",
    "efficacy": "efficacy retained",
    "generalization": "generalization",
    "locality": "locality",
}


# Two checks of integrity that the audit makes by itself; the value of the second is the share of the edited models.
RESTORED, UNCHANGED = "weights restored", "unchanged models"


@dataclass(frozen=True)
class RunHeader:
    """The settings of a run. `plan` describes the edit plan: "10 edits, batch-single"."""

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
    patch_from: str | None = None  # the folder of an earlier run's patch, if this run edited nothing
    data: str = "pocket"
    protocol: str = "standard"
    shots: int = 0
    chat_template: bool = False
    reading: str = "auto"  # as it was asked for: "likelihood", "nli=choices"
    prompting: str = "auto"
    rescored: str | None = None  # the folder of the run whose saved answers this run scored again
    checkpoint: bool = False  # whether `editor` is a checkpoint that somebody else edited
    edit_rows: int = 0  # rows of the file of edit requests; 0 if the requests are from no file
    usable_rows: int = 0
    missing_edits: int = 0  # by which the edits are fewer than --edit-count asked for
    editing_caveats: tuple[str, ...] = ()  # what the editor says of its edits, once they are made
    compared: bool = False  # whether the scores come from results that existed: of `editor`, against those of `model`
    result_caveats: tuple[str, ...] = ()  # what these results leave open

    @property
    def method(self) -> str:
        """The editor and its restraint."""
        return f"{self.editor} + {self.restraint}" if self.restraint else self.editor

    @property
    def subject(self) -> str:
        """What is judged: "memit on pocket-gpt2, 10 edits", or "edited.csv against base.csv"."""
        return f"{self.editor} against {self.model}" if self.compared else f"{self.method} on {self.model}, {self.plan}"


@dataclass(frozen=True)
class AnswerRecord:
    """One answer: the model's text, the value that the parser read in it, and its score."""

    text: str
    value: Any
    parseable: bool
    score: float
    beside: Mapping[str, float] = field(default_factory=dict)  # further metrics, which no verdict uses
    log_likelihoods: tuple[float, ...] | None = None  # of the item's choices, if they were ranked
    # Of each continuation that was scored: its tokens as text, and their log-probabilities.
    tokens: tuple[tuple[str, ...], ...] | None = None
    log_probabilities: tuple[tuple[float, ...], ...] | None = None
    greedy: tuple[bool, ...] | None = None  # whether each of them is what greedy decoding writes, where that counts


@dataclass(frozen=True)
class ItemRecord:
    """One item with its answers: that of the base model, and one of each edited model.

    `fields` is the row of the data set that the item was made from (None in reports of older versions), `mentions` the
    edited subjects and targets in the item, `flips` the kinds of change of the answer. `floor` is the base model's
    answer behind another item's prompt, where the floor is measured so.
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
    floor: AnswerRecord | None = None

    @property
    def edited_score(self) -> float:
        """The mean score over the edited models."""
        return sum(answer.score for answer in self.edited) / len(self.edited)


@dataclass(frozen=True)
class Example:
    """An item whose answer changed, as a report shows it."""

    key: str
    prompt: str
    gold: str
    base: str
    edited: str


@dataclass(frozen=True)
class AbilityRow:
    """One ability: its verdict, how it was asked, and what changed.

    asked_margin      as it was asked for: "0.05", or the share to keep, "90%"
    changed           number of items whose answer text changed
    base_unparseable  share of answers that the parser could not read; `edited_unparseable` likewise
    beside            further metrics, (base, edited), which no verdict uses
    stopping_rule     that of a run that may stop early, None in any other
    harm_p            p-value of "the edited model is no worse"; None if that was not tested
    noise_floor       drop of the unedited model against itself, over `noise_items` items; None if not calibrated
    flips             None in reports of older versions
    reading           "answers", "choices", "calibrated" or "likelihood"; "" in reports of older versions
    prompting         "plain", "4 examples", "chat"; `trials` are sentences about all ways that were tried
    origin            the file or class of an ability that is not built in
    offset            the label preference that the reading "calibrated" takes out, in nats
    empty             written answers without a visible character, of the base model and of all edited ones; such an
                      answer counts as wrong, as does one whose thinking did not end (`unended_thinking`)
    edited_facts      items that were not judged, because they ask for a fact that was edited
    model             of a comparison of several models, the edited one; `title` is the task then
    """

    ability: str
    title: str
    metric: str
    verdict: Verdict
    asked_margin: str
    parsed_to_unparseable: int
    changed: int
    base_unparseable: float
    edited_unparseable: float
    items_fingerprint: str
    base_from_store: bool
    protocol: str = "standard"  # scores of two protocols are not comparable
    examples: tuple[Example, ...] = ()
    beside: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    stopping_rule: StoppingRule | None = None
    harm_p: float | None = None
    noise_floor: float | None = None
    noise_items: int | None = None
    flips: FlipReport | None = None
    empty: tuple[int, int] = (0, 0)
    unended_thinking: tuple[int, int] = (0, 0)
    reading: str = ""
    prompting: str = ""
    offset: float = 0.0
    trials: tuple[str, ...] = ()
    origin: str = ""
    edited_facts: tuple[EditedFact, ...] = ()
    model: str = ""

    @property
    def outcome(self) -> Outcome:
        return self.verdict.outcome

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        return verdict_sentence(
            self.verdict, self.asked_margin, self.stopping_rule.items if self.stopping_rule else None
        )

    @property
    def label(self) -> str:
        """The ability, with its protocol unless that is the standard one."""
        return self.ability if self.protocol == "standard" else f"{self.ability} ({self.protocol})"

    @property
    def how(self) -> str:
        """The reading and the prompting: "answers", or "likelihood, 4 examples" if prompts are not plain."""
        return self.reading if self.prompting in ("", "plain") else f"{self.reading}, {self.prompting}"

    @property
    def planned(self) -> int | None:
        """The items that could have been asked, if the run stopped before the last of them."""
        rule = self.stopping_rule
        return rule.items if rule is not None and self.verdict.n < rule.items else None

    @property
    def item_count(self) -> str:
        """The number of items as tables show it: "64 of 200" if the run stopped early."""
        return str(self.verdict.n) if self.planned is None else f"{self.verdict.n} of {self.planned}"


@dataclass(frozen=True)
class EditScore:
    """One measure of the edit itself under one protocol.

    A rate is in [0, 1], under "autoregressive", "teacher-forced" or "likelihood". A difference has a sign: nats under
    "likelihood, nats per token", probability where the measure is a magnitude. `value` is None where it is not finite.
    `n` counts edit requests; `lower` and `upper` are two-sided 95 % limits, Wilson's of a rate and Student's of a
    difference.
    """

    measure: str
    protocol: str
    value: float | None
    n: int
    lower: float | None = None
    upper: float | None = None

    @property
    def shown(self) -> str:
        """The value as tables show it: "0.980", a difference with its sign, "-" if there is none."""
        if self.value is None:
            return "-"
        signed = self.protocol == NATS_PER_TOKEN or self.measure.endswith(MAGNITUDE)
        return f"{self.value:+z.3f}" if signed else f"{self.value:.3f}"

    @property
    def interval(self) -> str:
        """The limits: "[0.722, 1.000]"; empty if there are none."""
        return "" if self.lower is None or self.upper is None else limits(self.lower, self.upper)


@dataclass(frozen=True)
class IntegrityRow:
    """One check of the edited weights: the measured value, and whether it is sound (None: there is no limit)."""

    check: str
    value: float | bool | None
    sound: bool | None
    sentence: str


@dataclass(frozen=True)
class SkippedEdit:
    """A row of the file of edit requests that could not be used; `row` is None in reports of older versions."""

    file: str
    line: int
    field: str
    reason: str
    row: int | None = None

    @property
    def place(self) -> str:
        """The file, the row and the line."""
        return f"{self.file}, {'' if self.row is None else f'row {self.row}, '}line {self.line}"


@dataclass(frozen=True)
class RunReport:
    """Everything needed to judge a run and to repeat it.

    failed_tests  tests that failed for another reason than an ability's verdict
    unasked       by ability, why it could not be asked
    edit_notes    sentences about single edit requests, each with its case id in front
    collapse      why the edited model is no working language model; None if it is one
    steps         of a comparison of checkpoints in order, each against the one before; the outcome does not count them
    folder        where the report was written
    """

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
    reuse: ReuseCounts = field(default_factory=ReuseCounts)
    failed_tests: tuple[str, ...] = ()
    items: tuple[ItemRecord, ...] = ()
    unasked: Mapping[str, str] = field(default_factory=dict)
    collapse: str | None = None
    folder: str | None = None
    edit_notes: tuple[str, ...] = ()
    steps: tuple[AbilityRow, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """FAIL if the model collapsed, or an ability, a check of the weights or another test fails; else INCONCLUSIVE
        if an ability is or could not be asked, or if there is none; else PASS."""
        outcomes = {row.outcome for row in self.abilities}
        if self.collapse or FAIL in outcomes or self.failed_tests or any(row.sound is False for row in self.integrity):
            return FAIL
        undecided = INCONCLUSIVE in outcomes or bool(self.unasked) or not self.abilities
        return INCONCLUSIVE if undecided else PASS

    @property
    def alarms(self) -> "list[Alarm]":
        """The abilities that were tested for any harm, however small; all findings hold together at 5 % (Holm)."""
        from audit.verdicts.alarm import alarms

        rows = (*self.abilities, *self.steps)
        return alarms({row.ability: row.harm_p for row in rows if row.harm_p is not None})

    @property
    def unchanged(self) -> IntegrityRow | None:
        """The check that found edited models equal to the base model; None if it found none."""
        return next((row for row in self.integrity if row.check == UNCHANGED), None)

    def ability(self, name: str) -> AbilityRow | None:
        """The row of an ability; None if there is none."""
        return next((row for row in self.abilities if row.ability == name), None)

    def edit_score(self, measure: str, protocol: str = "autoregressive") -> EditScore | None:
        """One edit score; None if it has no value."""
        found = (score for score in self.edit_scores if (score.measure, score.protocol) == (measure, protocol))
        return next((score for score in found if score.value is not None), None)


def in_words(choices: Sequence[str], text: str) -> str:
    """An answer in words: of a choice, which is saved as its number, the choice itself."""
    return choices[int(text)] if choices and text.isdecimal() else text


def usual_place(ability: str) -> tuple[int, str]:
    """A key that sorts abilities: the built-in ones in their usual order, then others by name."""
    names = list(ABILITIES)
    return (names.index(ability), "") if ability in names else (len(names), ability)


def shared_abilities(reports: Sequence[RunReport]) -> tuple[str, ...]:
    """The abilities that every report has, in the order of the first."""
    return tuple(row.ability for row in reports[0].abilities if all(one.ability(row.ability) for one in reports))
