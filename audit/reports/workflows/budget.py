"""The edit budget as plain data, as sentences and as files."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from audit.reports.files import write_findings
from audit.reports.rows import AbilityRow, RunHeader
from audit.reports.terminal import interval, points
from audit.verdicts import FAIL, PASS

CONFIDENCE = 5  # per cent that each look and each confirmation may err, one-sided


@dataclass(frozen=True)
class Look:
    """The verdicts after so many edits."""

    edits: int
    rows: tuple[AbilityRow, ...]

    @property
    def passed(self) -> bool:
        return all(row.outcome == PASS for row in self.rows)

    @property
    def worst(self) -> AbilityRow | None:
        """The ability that does not pass: a FAIL before an INCONCLUSIVE, the largest drop over its margin first."""
        broken = [row for row in self.rows if row.outcome != PASS]
        return max(broken, key=lambda row: (row.outcome == FAIL, row.drop - row.margin), default=None)


@dataclass(frozen=True)
class Budget:
    """`edits` is the largest number that was tried such that it and every smaller one tried pass; 0 if none does.

    `looks` are in the order taken, `confirmation` holds the verdicts on items that no look asked (empty: there were
    none), `counts` are the numbers at which there was a model to ask.
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
        """The look at the fewest edits that do not pass."""
        return min((look for look in self.looks if not look.passed), key=lambda look: look.edits, default=None)

    def sentences(self) -> list[str]:
        """The budget, what breaks first, and what the number is worth."""
        method, model = self.header.method, self.header.model
        most, broken = self.counts[-1], self.first_broken
        if self.edits == most:
            told = f"budget: at least {self.edits} edits of {method} on {model}, all that the plan has, pass."
        elif self.edits:
            told = f"budget: {_edits(self.edits)} of {method} on {model} pass{'es' if self.edits == 1 else ''}."
        else:
            told = f"budget: none; not even {_edits(self.counts[0])} of {method} on {model} can be shown to be safe."
        sentences = [told]
        if broken is not None and broken.worst is not None:
            row = broken.worst
            what = "is the first to break" if row.outcome == FAIL else "is the first that is not certified any more"
            sentences.append(
                f"{row.named} {what}, at {_edits(broken.edits)}: it loses {points(row.drop)} {interval(row)}, "
                f"margin {row.margin:.3f}, n {row.n} ({row.outcome})."
                + (f" About {row.more_items} more items would settle it (--limit)." if row.more_items else "")
            )
        return [*sentences, *self._guarantee()]

    def _guarantee(self) -> list[str]:
        looks = len(self.looks)
        tried = ", ".join(str(look.edits) for look in sorted(self.looks, key=lambda look: look.edits))
        sentences = [
            f"Tried {tried}: the budget is the largest of these such that it and all smaller ones pass. Numbers that "
            "were not tried may still fail, for harm need not grow evenly; other edits, or another order, have "
            "another budget.",
            f"Each look passes a model harmed beyond a margin with a chance of at most {CONFIDENCE} %"
            + (f", any of the {looks} looks with at most {min(100, looks * CONFIDENCE)} %." if looks > 1 else "."),
        ]
        if not self.edits:
            return sentences
        if not self.confirmation:
            return [*sentences, "No items are left to confirm it on: give a smaller --limit."]
        fresh = min(row.n for row in self.confirmation)
        if self.confirmed:
            return [
                *sentences,
                f"{_edits(self.edits)} passed once more on {fresh} or more items an ability that no look asked: this "
                f"verdict errs with at most {CONFIDENCE} %, however often was looked before.",
            ]
        failed = ", ".join(f"{row.named} {row.outcome}" for row in self.confirmation if row.outcome != PASS)
        return [*sentences, f"On {fresh} or more items that no look asked it was NOT confirmed: {failed}."]


def budget_markdown(budget: Budget) -> str:
    """The sentences, and a table of all looks."""
    names = [row.named for row in budget.looks[0].rows]
    lines = [f"# {budget.sentences()[0]}", "", *(f"- {sentence}" for sentence in budget.sentences()[1:]), ""]
    lines += ["Drops in score points at each look, ✗ FAIL, ? INCONCLUSIVE.", ""]
    lines += [_line(["edits", *names]), _line(["--:"] * (len(names) + 1))]
    lines += [_line([str(look.edits), *map(_drop, look.rows)]) for look in sorted(budget.looks, key=lambda x: x.edits)]
    if budget.confirmation:
        lines.append(_line([f"{budget.edits}, fresh items", *map(_drop, budget.confirmation)]))
    return "\n".join(lines) + "\n"


def write_budget(budget: Budget, folder: Path) -> tuple[Path, ...]:
    """Write `budget.json` and `budget.md` into `folder`; the files written."""
    document = {
        **asdict(budget),
        "confirmed": budget.confirmed,
        "sentences": budget.sentences(),
    }
    return write_findings(folder, "budget", document, budget_markdown(budget))


def _drop(row: AbilityRow) -> str:
    return points(row.drop) + {str(PASS): "", str(FAIL): " ✗"}.get(row.outcome, " ?")


def _edits(count: int) -> str:
    return "1 edit" if count == 1 else f"{count} edits"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
