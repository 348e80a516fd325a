"""Which edits did the harm: plain data, sentences and files."""

from dataclasses import asdict, dataclass
from pathlib import Path

from audit.reports.files import write_findings
from audit.reports.rows import AbilityRow, RunHeader
from audit.reports.terminal import interval, points

SHOWN = 8  # edits in one sentence


@dataclass(frozen=True)
class NamedEdit:
    """An edit by its place in the plan (1 is the first)."""

    number: int
    case_id: str
    question: str
    target_new: str

    def __str__(self) -> str:
        return f"#{self.number} '{self.question} -> {self.target_new}'"


@dataclass(frozen=True)
class Evaluation:
    """One question to the oracle: does a model with these edits still fail? `sure`: the verdict was no near thing."""

    edits: str  # "edits 1 to 32", "16 of the edits"
    drop: float
    lower: float
    upper: float
    n: int
    failed: bool
    sure: bool


@dataclass(frozen=True)
class Culprits:
    """The edits that the harm to an ability comes from.

    plan         the whole plan's verdict, on the items of the search
    cost         what the edits cost: the plan with them against the plan without them, on items not used before
    without      the plan without them against the base model, on the same items
    minimal      whether the search came to its end, so that no single edit can be taken away
    """

    header: RunHeader
    plan: AbilityRow
    edits: tuple[NamedEdit, ...]
    method: str
    evaluations: tuple[Evaluation, ...]
    cost: AbilityRow
    without: AbilityRow
    minimal: bool = True

    @property
    def confirmed(self) -> bool:
        """Whether the harm shows on items that had no part in the search."""
        return self.cost.lower > 0

    def sentences(self) -> list[str]:
        """Who did it, how much it costs, and how it was found."""
        row, many = self.cost, len(self.edits) > 1
        shown = ", ".join(map(str, self.edits[:SHOWN]))
        more = f" and {len(self.edits) - SHOWN} more" if len(self.edits) > SHOWN else ""
        who = f"the {len(self.edits)} edits {shown}{more} together cost" if many else f"edit {shown} costs"
        told = (
            f"{who} {_rounded(row.drop)} points of {row.ability} "
            f"[{_rounded(row.lower)}, {_rounded(row.upper)}], on {row.n} items that had no part in the search."
        )
        if not self.confirmed:
            told += " That is not certain to be harm: no such part of the plan can be blamed."
        rest = self.without
        kept = {"PASS": "passes", "FAIL": "still fails: other edits harm too"}.get(rest.outcome, "is INCONCLUSIVE")
        unsure = sum(not one.sure for one in self.evaluations)
        near = f", {unsure} of them near things" if unsure else ""
        sentences = [
            told,
            f"Without {'them' if many else 'it'} the plan {kept} (drop {points(rest.drop)} {interval(rest)}, "
            f"margin {rest.margin:.3f}).",
            f"Found by {self.method} in {len(self.evaluations)} evaluations of {row.ability}{near}; with all edits "
            f"it drops by {points(self.plan.drop)} {interval(self.plan)}.",
        ]
        if many:
            sentences.append("No single edit is responsible: the harm comes from these together.")
        if not self.minimal:
            sentences.append("The search stopped at its limit of evaluations, so fewer edits may do; raise it.")
        return sentences


def culprits_markdown(found: Culprits) -> str:
    """The sentences and every evaluation."""
    first, *others = found.sentences()
    lines = [f"# {first[0].upper()}{first[1:]}", "", *(f"- {line}" for line in found.header.lines()), ""]
    lines += [*(f"{sentence}\n" for sentence in others)]
    lines += ["| model with | drop | 95 % limits | n | fails |", "| --- | --: | --- | --: | --- |"]
    for one in found.evaluations:
        told = ("yes" if one.failed else "no") + ("" if one.sure else " (near)")
        lines.append(f"| {one.edits} | {points(one.drop)} | [{one.lower:.3f}, {one.upper:.3f}] | {one.n} | {told} |")
    return "\n".join(lines) + "\n"


def write_culprits(found: Culprits, folder: Path) -> tuple[Path, ...]:
    """Write `culprits.json` and `culprits.md` into `folder`; the files written."""
    document = {**asdict(found), "confirmed": found.confirmed, "sentences": found.sentences()}
    return write_findings(folder, "culprits", document, culprits_markdown(found))


def _rounded(value: float) -> str:
    return f"{100 * value:.1f}"
