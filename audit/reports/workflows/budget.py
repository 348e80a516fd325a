"""The edit budget: data, sentences and files of `audit budget`."""

from dataclasses import asdict, dataclass
from pathlib import Path

from audit.reports.folder import write_findings
from audit.reports.html.findings_page import Findings, FindingsTable, findings_html
from audit.reports.markdown import table_lines
from audit.reports.rows import AbilityRow, RunHeader
from audit.reports.run_sentences import caveats, edits_phrase, header_lines
from audit.reports.verdict_sentences import MARKS, coverage, interval, points
from audit.verdicts import FAIL, PASS

LEGEND = "Drops in score points at each look, ✗ FAIL, ? INCONCLUSIVE"
ERROR = 5  # per cent, one-sided, of each look and of the confirmation


@dataclass(frozen=True)
class Look:
    """The verdicts after a number of edits."""

    edits: int
    rows: tuple[AbilityRow, ...]

    @property
    def passed(self) -> bool:
        return all(row.outcome == PASS for row in self.rows)

    @property
    def worst(self) -> AbilityRow | None:
        """Of the abilities that do not pass, FAIL before INCONCLUSIVE, the one whose drop exceeds its margin most."""
        broken = [row for row in self.rows if row.outcome != PASS]
        excess = {row.ability: row.verdict.drop - row.verdict.margin for row in broken}
        return max(broken, key=lambda row: (row.outcome == FAIL, excess[row.ability]), default=None)


@dataclass(frozen=True)
class Budget:
    """The largest number of edits such that it and every smaller number tried pass; `edits` is 0 if none does.

    `looks` are in the order of the search, `confirmation` has the verdicts on items that no look used (empty if there
    were none left), `counts` are the numbers of edits that can be tried.
    """

    header: RunHeader
    edits: int
    looks: tuple[Look, ...]
    confirmation: tuple[AbilityRow, ...]
    counts: tuple[int, ...]

    @property
    def confirmed(self) -> bool:
        return bool(self.confirmation) and all(row.outcome == PASS for row in self.confirmation)

    @property
    def first_broken(self) -> Look | None:
        """The failed look at the smallest number of edits."""
        return min((look for look in self.looks if not look.passed), key=lambda look: look.edits, default=None)

    def sentences(self) -> list[str]:
        """The budget, the first ability that fails, and the guarantee."""
        method, model = self.header.method, self.header.model
        most, broken = self.counts[-1], self.first_broken
        if self.edits == most:
            found = f"budget: at least {self.edits} edits of {method} on {model} pass, all edits of the plan."
        elif self.edits:
            found = f"budget: {edits_phrase(self.edits)} of {method} on {model} pass{'es' if self.edits == 1 else ''}."
        else:
            found = f"budget: none; {edits_phrase(self.counts[0])} of {method} on {model} cannot be shown to be safe."
        sentences = [found]
        if broken is not None and broken.worst is not None:
            row, verdict, after = broken.worst, broken.worst.verdict, edits_phrase(broken.edits)
            what = "is the first to fail" if row.outcome == FAIL else "is the first that is not certified"
            more = f" About {verdict.more_items} more items would settle it (--limit)." if verdict.more_items else ""
            sentences.append(
                f"{row.label} {what}, at {after}: drop {points(verdict.drop)}, {coverage(verdict)} "
                f"interval {interval(verdict)}, margin {verdict.margin:.3f}, n {verdict.n} ({row.outcome}).{more}"
            )
        return [*sentences, *self._guarantee()]

    def _guarantee(self) -> list[str]:
        looks = len(self.looks)
        tried = ", ".join(str(look.edits) for look in sorted(self.looks, key=lambda look: look.edits))
        sentences = [
            f"Tried {tried}: the budget is the largest of these such that it and all smaller ones pass. Other numbers "
            "may still fail, because harm need not grow steadily. The budget holds for these edits in this order.",
            f"Each look passes a model that is harmed beyond a margin with probability at most {ERROR} %"
            + (f", any of the {looks} looks with at most {min(100, looks * ERROR)} %." if looks > 1 else "."),
        ]
        if not self.edits:
            return sentences
        if not self.confirmation:
            return [*sentences, "No items are left for a confirmation; give a smaller --limit."]
        fresh = min(row.verdict.n for row in self.confirmation)
        if self.confirmed:
            return [
                *sentences,
                f"{edits_phrase(self.edits)} passed again on at least {fresh} items per ability that no look used; the "
                f"error of this verdict is at most {ERROR} %, for any number of looks before.",
            ]
        failed = ", ".join(f"{row.label} {row.outcome}" for row in self.confirmation if row.outcome != PASS)
        return [*sentences, f"It was NOT confirmed on at least {fresh} items that no look used: {failed}."]


def budget_markdown(budget: Budget) -> str:
    """The sentences, and a table of all looks."""
    first, *others = budget.sentences()
    lines = [f"# {first}", "", *(f"- {sentence}" for sentence in (*caveats(budget.header), *others)), ""]
    lines += [f"{LEGEND}.", "", *table_lines(*_looks(budget), texts=())]
    return "\n".join(lines) + "\n"


def budget_html(budget: Budget) -> str:
    """The same as a page."""
    first, *others = budget.sentences()
    table = FindingsTable(LEGEND, *_looks(budget))
    return findings_html(Findings(f"{first[0].upper()}{first[1:]}", others, header_lines(budget.header, ""), [table]))


def write_budget(budget: Budget, folder: Path) -> tuple[Path, ...]:
    """Write `budget.json`, `budget.md` and `budget.html` into `folder`, and return the files."""
    document = {**asdict(budget), "confirmed": budget.confirmed, "sentences": budget.sentences()}
    return write_findings(folder, "budget", document, budget_markdown(budget), budget_html(budget))


def _looks(budget: Budget) -> tuple[list[str], list[list[str]]]:
    """Headings and one line for each look, the confirmation last."""
    looks = sorted(budget.looks, key=lambda look: look.edits)
    rows = [[str(look.edits), *map(_drop, look.rows)] for look in looks]
    if budget.confirmation:
        rows.append([f"{budget.edits}, fresh items", *map(_drop, budget.confirmation)])
    return ["edits", *(row.label for row in budget.looks[0].rows)], rows


def _drop(row: AbilityRow) -> str:
    return points(row.verdict.drop) + MARKS[row.outcome]
