"""The edits that cause the harm to an ability: data, sentences and files of `audit bisect`."""

from dataclasses import asdict, dataclass
from pathlib import Path

from audit.reports.folder import write_findings
from audit.reports.html.findings_page import Findings, FindingsTable, findings_html
from audit.reports.markdown import table_lines
from audit.reports.rows import AbilityRow, RunHeader
from audit.reports.run_sentences import header_lines
from audit.reports.verdict_sentences import coverage, interval, interval_column, points
from audit.verdicts import Verdict

SHOWN = 8  # edits in one sentence


@dataclass(frozen=True)
class NamedEdit:
    """An edit by its number in the edit plan (1 is the first)."""

    number: int
    case_id: str
    question: str
    target_new: str

    def __str__(self) -> str:
        return f"#{self.number} '{self.question} -> {self.target_new}'"


@dataclass(frozen=True)
class Evaluation:
    """One test of whether a model with some of the edits fails; `sure` if the interval excludes the margin."""

    edits: str  # "edits 1 to 32", "16 of the edits"
    verdict: Verdict
    failed: bool
    sure: bool


@dataclass(frozen=True)
class Culprits:
    """The edits that cause the harm to an ability.

    plan         the verdict on the whole edit plan, on the items of the search
    cost         the drop that the edits cause: the plan with them against the plan without them, on fresh items
    without      the plan without them against the base model, on the same fresh items
    minimal      whether the search finished, so that no single edit can be left out
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
        """Whether the harm is confirmed on items that the search did not use."""
        return self.cost.verdict.lower > 0

    def sentences(self) -> list[str]:
        """The edits, the drop that they cause, and how they were found."""
        cost, many = self.cost.verdict, len(self.edits) > 1
        shown = ", ".join(map(str, self.edits[:SHOWN]))
        more = f" and {len(self.edits) - SHOWN} more" if len(self.edits) > SHOWN else ""
        who = f"the {len(self.edits)} edits {shown}{more} together cost" if many else f"edit {shown} costs"
        harm = (
            f"{who} {_rounded(cost.drop)} points of {self.cost.ability}, {coverage(cost)} interval "
            f"[{_rounded(cost.lower)}, {_rounded(cost.upper)}], on {cost.n} items that the search did not use."
        )
        if not self.confirmed:
            harm += " This is not certain to be harm, so the harm cannot be attributed to these edits."
        rest, plan = self.without.verdict, self.plan.verdict
        kept = {"PASS": "passes", "FAIL": "still fails, so other edits harm too"}.get(rest.outcome, "is INCONCLUSIVE")
        unsure = sum(not one.sure for one in self.evaluations)
        close = f", {unsure} of them too close to be certain" if unsure else ""
        sentences = [
            harm,
            f"Without {'them' if many else 'it'} the plan {kept} (drop {points(rest.drop)} {interval(rest)}, "
            f"margin {rest.margin:.3f}).",
            f"Found by {self.method} in {len(self.evaluations)} evaluations of {self.cost.ability}{close}; with all "
            f"edits it drops by {points(plan.drop)} {interval(plan)}.",
        ]
        if many:
            sentences.append("No single edit causes the harm; these edits cause it together.")
        if not self.minimal:
            sentences.append("The search stopped at its limit of evaluations; a higher limit may find fewer edits.")
        return sentences


def culprits_markdown(found: Culprits) -> str:
    """The sentences and every evaluation."""
    first, *others = found.sentences()
    lines = [f"# {first[0].upper()}{first[1:]}", "", *header_lines(found.header, "- "), ""]
    lines += [*(f"{sentence}\n" for sentence in others)]
    lines += table_lines(*_evaluations(found), texts=(0, 2, 4))
    return "\n".join(lines) + "\n"


def culprits_html(found: Culprits) -> str:
    """The same as a page, with a table of the edits."""
    first, *others = found.sentences()
    edits = [[f"#{edit.number}", edit.case_id, edit.question, edit.target_new] for edit in found.edits]
    tables = [
        FindingsTable("The edits that cause the harm", ["edit", "case", "prompt", "new target"], edits, (1, 2, 3)),
        FindingsTable("Evaluations of the search", *_evaluations(found), (2, 4)),
    ]
    title = f"{first[0].upper()}{first[1:]}"
    return findings_html(Findings(title, others, header_lines(found.header, ""), tables))


def write_culprits(found: Culprits, folder: Path) -> tuple[Path, ...]:
    """Write `culprits.json`, `culprits.md` and `culprits.html` into `folder`, and return the files."""
    document = {**asdict(found), "confirmed": found.confirmed, "sentences": found.sentences()}
    return write_findings(folder, "culprits", document, culprits_markdown(found), culprits_html(found))


def _evaluations(found: Culprits) -> tuple[list[str], list[list[str]]]:
    """Headings and one line for each evaluation."""
    heading, intervals = interval_column(one.verdict for one in found.evaluations)
    rows = []
    for one, limits in zip(found.evaluations, intervals, strict=True):
        fails = ("yes" if one.failed else "no") + ("" if one.sure else " (not certain)")
        rows.append([one.edits, points(one.verdict.drop), limits, str(one.verdict.n), fails])
    return ["model with", "drop", heading, "n", "fails"], rows


def _rounded(value: float) -> str:
    return f"{100 * value:.1f}"
