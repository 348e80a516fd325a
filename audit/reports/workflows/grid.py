"""The tables of a grid of audits: CSV in long form, and Markdown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise

from audit.measures.rates import NATS_PER_TOKEN
from audit.reports.folder import csv_text
from audit.reports.markdown import table_lines
from audit.reports.rows import AbilityRow
from audit.reports.verdict_sentences import MARKS, coverage, share_kept
from audit.reports.workflows.grid_cells import CellResult, abilities_of, by_series
from audit.reports.workflows.grid_shares import GridShares
from audit.verdicts.evidence import Kept

FIELDS = (
    "model",
    "editor",
    "config",
    "restraint",
    "mode",
    "batch_size",
    "edits",
    "source",
    "seed",
    "measure",
    "base",
    "edited",
    "drop",
    "lower",
    "upper",
    "interval",
    "n",
    "outcome",
    "floor",
    "base_lower",
    "kept",
    "kept_lower",
    "kept_upper",
    "harm_p",
    "harm_p_holm",
    "noise_floor",
    "reading",
    "prompting",
    "protocol",
)
RATIO, NORM = "perplexity ratio", "relative update norm"  # checks of integrity in the tables
LARGE_CHANGE = 0.1  # |ΔW / W|

Column = tuple[str, Callable[[CellResult], str]]


def grid_csv(results: Sequence[CellResult], shares: GridShares | None = None) -> str:
    """Long form, one line per cell and measure.

    Abilities have base, edited, drop and its one-sided limits, which cover `interval`; the share kept of what lies
    above the floor with its limits (90 %); the p-value of any harm, alone and by Holm over the abilities of the cell;
    and the A/A noise floor of the model. Edit scores, the mean share kept, shares of changed entries, integrity checks
    and seconds have one value, in the column `edited`, with limits where there are any.
    """
    shares = shares or GridShares()
    rows: list[dict[str, object]] = []
    for result in results:
        start = asdict(result.cell)
        start |= {"source": start["edits"], "edits": start.pop("count"), "config": " ".join(result.cell.config)}
        kept, holm = shares.of(result).kept, {alarm.name: alarm.adjusted for alarm in result.report.alarms}
        for row in result.report.abilities:
            rows.append({**start, **_ability_fields(row, kept.get(row.ability), holm, result)})
        if kept:
            mean = shares.of(result).mean
            rows.append(
                {**start, "measure": "mean kept", "edited": f"{mean.share:.4f}", **_limits(mean), "n": len(kept)}
            )
        for score in result.report.edit_scores:
            one: dict[str, object] = {"measure": f"{score.measure} ({score.protocol})", "n": score.n}
            if score.value is not None:
                one["edited"] = f"{score.value:.4f}"
            if score.lower is not None and score.upper is not None:
                one |= {"lower": f"{score.lower:.4f}", "upper": f"{score.upper:.4f}", "interval": "95 %"}
            rows.append({**start, **one})
        for threshold, share in result.entry_shares.items():
            rows.append({**start, "measure": f"entries changed by more than {threshold:g}", "edited": f"{share:.5f}"})
        for check in result.report.integrity:
            # Booleans become 0 or 1; None (not finite, or not measured) stays empty.
            value = "" if check.value is None else f"{float(check.value):.6g}"
            rows.append({**start, "measure": check.check, "edited": value})
        seconds = {**result.report.seconds, "processor": result.processor_seconds}
        for stage, spent in seconds.items():
            if spent == spent:  # not NaN, as in files of older versions
                rows.append({**start, "measure": f"seconds, {stage}", "edited": f"{spent:.2f}"})
    return csv_text(FIELDS, rows)


def _ability_fields(
    row: AbilityRow, kept: Kept | None, holm: Mapping[str, float], result: CellResult
) -> dict[str, object]:
    verdict, noise = row.verdict, result.noise.get(row.ability)
    fields: dict[str, object] = {
        name: f"{getattr(verdict, name):.4f}" for name in ("base", "edited", "drop", "lower", "upper", "floor")
    }
    fields |= {"interval": coverage(verdict), "n": str(verdict.n), "outcome": verdict.outcome}
    fields |= {"reading": row.reading, "prompting": row.prompting, "protocol": row.protocol, "measure": row.ability}
    if verdict.base_lower is not None:
        fields["base_lower"] = f"{verdict.base_lower:.4f}"
    if kept is not None:
        fields |= {"kept": f"{kept.share:.4f}", "kept_lower": f"{kept.lower:.4f}", "kept_upper": f"{kept.upper:.4f}"}
    if row.harm_p is not None:
        fields |= {"harm_p": f"{row.harm_p:.3g}", "harm_p_holm": f"{holm[row.ability]:.3g}"}
    if noise is not None:
        fields["noise_floor"] = f"{noise.floor:.3g}"
    return fields


def _limits(share: Kept) -> dict[str, object]:
    return {"lower": f"{share.lower:.4f}", "upper": f"{share.upper:.4f}", "interval": "90 %"}


def grid_markdown(results: Sequence[CellResult], shares: GridShares | None = None) -> str:
    """Tables for each model: how its abilities are asked, what each cell did, and scores and shares kept by ability."""
    shares = shares or GridShares()
    abilities = abilities_of(results)
    lines: list[str] = []
    for model in dict.fromkeys(result.cell.model for result in results):
        chosen = [result for result in results if result.cell.model == model]
        lines += [f"## {model}", ""]
        if any(result.scores for result in chosen):
            lines += [*table_lines(*asked_rows(chosen)), "", *_cells(chosen, shares), ""]
            lines += [*_kept(chosen, abilities, shares), ""]
            lines += ["Edited scores:", ""]
        lines += [*_scores(chosen, abilities), ""]
    lines.append("✗ FAIL, ? INCONCLUSIVE, else PASS. `grid.csv` has the 90 % interval of every drop.\n")
    if any(result.scores for result in results):
        lines += [*_notes(results), ""]
    return "\n".join(lines)


def asked_rows(results: Sequence[CellResult]) -> tuple[list[str], list[list[str]]]:
    """How each ability is asked, the base model's scores, and its noise: the same for all cells of a model."""
    rows = {row.ability: (row, result) for result in results for row in result.report.abilities}
    head = ["ability", "metric", "reading", "protocol", "items", "base", "at least", "floor", "assessed", "A/A"]
    lines: list[list[str]] = []
    for ability in abilities_of(results):
        row, result = rows[ability]
        verdict, noise = row.verdict, result.noise.get(ability)
        of = "" if verdict.clusters == verdict.n else f" in {verdict.clusters} clusters"
        least = "" if verdict.base_lower is None else f"{verdict.base_lower:.3f}"
        shown = [ability, row.metric, row.how, row.protocol, f"{verdict.n}{of}", f"{verdict.base:.3f}", least]
        assessed = "yes" if verdict.assessable else "no"
        lines.append([*shown, f"{verdict.floor:.3f}", assessed, "" if noise is None else f"{noise.floor:.2g}"])
    return head, lines


def cell_columns(results: Sequence[CellResult], shares: GridShares) -> tuple[Column, ...]:
    """What is told of each cell: the mean share kept, tests against neighboring cells, the edits and the weights.

    `results` are the cells of one model, in which the neighbors are found.
    """
    return (
        ("mean kept", lambda one: share_kept(shares.of(one).mean)),
        ("from fewer edits", lambda one: _paired(shares, one, _before(results, one))),
        ("from no restraint", lambda one: _paired(shares, one, _unrestrained(results, one))),
        ("harmed", lambda one: _harmed(one, shares)),
        ("efficacy at once", lambda one: _number(one.immediate_efficacy)),
        ("at the end", lambda one: _edit_score(one, "efficacy")),
        ("generalization", lambda one: _edit_score(one, "generalization")),
        ("locality", lambda one: _edit_score(one, "locality")),
        ("nats", lambda one: _edit_score(one, "efficacy", NATS_PER_TOKEN)),
        ("ES", lambda one: _edit_score(one, "efficacy", "likelihood")),
        ("PS", lambda one: _edit_score(one, "generalization", "likelihood")),
        ("NS", lambda one: _edit_score(one, "neighborhood accuracy", "likelihood")),
        ("perplexity ratio", lambda one: _check(one, RATIO)),
        ("update norm", lambda one: _check(one, NORM)),
        ("entries > 10 %", lambda one: _number(one.entry_shares.get(LARGE_CHANGE), 3)),
        ("minutes", lambda one: f"{one.seconds / 60:.1f}"),
    )


def _cells(results: Sequence[CellResult], shares: GridShares) -> list[str]:
    """A line for each cell."""
    columns = cell_columns(results, shares)
    lines = [
        [series.title, str(result.cell.count), *(text(result) for _, text in columns)]
        for series, cells in by_series(results).items()
        for result in cells
    ]
    return table_lines(["editor and mode", "edits", *(name for name, _ in columns)], lines)


def _kept(results: Sequence[CellResult], abilities: Sequence[str], shares: GridShares) -> list[str]:
    """The share that each ability keeps, with its limits; a cross where harm is certain by Holm."""
    known = [name for name in abilities if any(name in shares.of(result).tables for result in results)]
    lines: list[list[str]] = []
    for series, cells in by_series(results).items():
        for result in cells:
            harmed = {alarm.name for alarm in result.report.alarms if alarm.harmed}
            kept = shares.of(result).kept
            shown = [f"{share_kept(kept[one])}{' ✗' if one in harmed else ''}" if one in kept else "" for one in known]
            lines.append([series.title, str(result.cell.count), *shown])
    return ["Shares kept:", "", *table_lines(["editor and mode", "edits", *known], lines)]


def _scores(results: Sequence[CellResult], abilities: Sequence[str]) -> list[str]:
    head = ["editor and mode", "edits", *abilities, "mean drop", "efficacy at once", "at the end", "locality"]
    bases = {row.ability: row.verdict.base for result in results for row in result.report.abilities}
    lines = [["unedited", "0", *(f"{bases[a]:.3f}" if a in bases else "" for a in abilities), "", "", "", ""]]
    for series, cells in by_series(results).items():
        for result in cells:
            scores = [_score(result, ability) for ability in abilities]
            edit = [result.immediate_efficacy, result.edit_score("efficacy"), result.edit_score("locality")]
            shown = [_number(value) for value in edit]
            lines.append([series.title, str(result.cell.count), *scores, f"{result.mean_drop:.3f}", *shown])
    return table_lines(head, lines)


def _notes(results: Sequence[CellResult]) -> list[str]:
    seconds = [one.processor_seconds for one in results if one.processor_seconds == one.processor_seconds]
    notes = [
        "**Shares.** What is kept of the base score above the floor, with its 90 % interval (one-sided limits at "
        "95 %). Mean kept: over the abilities whose base is clear of its floor; a negative share counts as 0, and "
        "nothing is capped above. *From fewer edits* and *from no restraint*: mean kept minus that of the cell with "
        "the next smaller number of edits, and of the same cell without restraint, paired by item.",
        "**Harm.** *Harmed*, and ✗ beside a share: harm of any size is certain, by Holm over the abilities of the "
        "cell, at 5 %.",
        "**A/A.** The upper 95 % limit of what the unedited model's score moves in other batches, in score points.",
        "**Edits.** Their intervals and numbers are in `grid.csv`. Nats: per token of the new answer, edited minus "
        "base. ES, PS, NS: the share of requests in which the right answer is the more probable one.",
        f"**Cost.** {sum(seconds) / 3600:.1f} processor hours in {len(seconds)} cells; work that was lost with an "
        "interrupted process is not counted. Each cell's file in `cells/` has the command that repeats it, to be run "
        "in the folder of the grid file.",
    ]
    if differing := differing_edits(results):
        notes.append(f"**Different edits.** Not all editors could use the same requests: {'; '.join(differing)}.")
    return [line for note in notes for line in (note, "")]


def differing_edits(results: Sequence[CellResult]) -> list[str]:
    """Where cells of one model, source, seed and number of edits have different edit requests."""
    drawn: dict[tuple[object, ...], dict[str, str]] = {}
    for result in results:
        cell = result.cell
        key = (cell.model, cell.edits, cell.seed, cell.count)
        drawn.setdefault(key, {})[cell.editor] = result.report.fingerprints.get("edits", "")
    return [
        f"{model}, {edits}, seed {seed}, {count} edits ({', '.join(sorted(editors))})"
        for (model, edits, seed, count), editors in drawn.items()
        if len(set(editors.values())) > 1
    ]


def _before(results: Sequence[CellResult], result: CellResult) -> CellResult | None:
    """The cell of the same series with the next smaller number of edits."""
    cells = by_series(results)[result.cell.series]
    return next((low for low, high in pairwise(cells) if high is result), None)


def _unrestrained(results: Sequence[CellResult], result: CellResult) -> CellResult | None:
    if not result.cell.restraint:
        return None
    wanted = {**asdict(result.cell), "restraint": ""}
    return next((one for one in results if asdict(one.cell) == wanted), None)


def _paired(shares: GridShares, result: CellResult, other: CellResult | None) -> str:
    return "" if other is None else share_kept(shares.difference(result, other), sign="+")


def _harmed(result: CellResult, shares: GridShares) -> str:
    judged = shares.of(result).tables
    return f"{sum(alarm.harmed for alarm in result.report.alarms if alarm.name in judged)} of {len(judged)}"


def _edit_score(result: CellResult, measure: str, protocol: str = "autoregressive") -> str:
    score = result.report.edit_score(measure, protocol)
    return "" if score is None else score.shown


def _check(result: CellResult, check: str) -> str:
    value = next((row.value for row in result.report.integrity if row.check == check), None)
    return "" if value is None else f"{float(value):.3g}"


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _score(result: CellResult, ability: str) -> str:
    row = result.report.ability(ability)
    return "" if row is None else f"{row.verdict.edited:.3f}{MARKS[row.outcome]}"
