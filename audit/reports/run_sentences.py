"""Sentences about a run: header, verdict line, claims, flips, reuse, and the explanation of a failing test.

A run supports two kinds of claim, each with its own error. "Within the margins" is claimed for the whole run only if
every ability passes; it is wrong only if an ability beyond its margin passes, so the number of abilities needs no
correction (intersection-union test). "Harmed at all" is claimed of single abilities chosen from several, and each one
is a further chance of a false alarm, so it is corrected (Holm) over the abilities of a run, or over all abilities and
points of a curve.
"""

from collections.abc import Sequence
from dataclasses import astuple

from audit.editors import CONTROLS
from audit.engine.reuse_counts import ReuseCounts
from audit.measures.flips import REPEATED, RIGHT_TO_WRONG, UNPARSEABLE, WRONG_TO_RIGHT, FlipReport
from audit.reports.comparison_sentences import comparison_advice
from audit.reports.rows import AbilityRow, Example, RunHeader, RunReport
from audit.reports.verdict_sentences import coverage, interval, points
from audit.verdicts import FAIL, INCONCLUSIVE, PASS
from audit.verdicts.alarm import alarms

PROMPT_WIDTH = 50
ANSWER_WIDTH = 32
# pytest cuts an explanation at 640 characters, unless what is beyond is no longer than its own note (47) or -vv is on.
BUDGET = 680
EFFICACY_BAR = 0.9  # below this the edits did not succeed
FLIP_KINDS = (RIGHT_TO_WRONG, WRONG_TO_RIGHT, UNPARSEABLE, REPEATED)
FLIP_LEGEND = (
    "Each cell counts the items that mention an edited subject or target (a change there may be the intended one), "
    "plus all others (side effects). No verdict uses this table."
)


def protocol_phrase(protocol: str, shots: int, chat_template: bool) -> str:
    """How items are asked: "protocol standard, 5 shots, chat template"."""
    examples = f", {shots} shot{'s' if shots != 1 else ''}" if shots else ""
    return f"protocol {protocol}{examples}{', chat template' if chat_template else ''}"


def edits_phrase(count: int) -> str:
    """ "1 edit", "20 edits"."""
    return "1 edit" if count == 1 else f"{count} edits"


def header_lines(header: RunHeader, start: str = "audit: ") -> list[str]:
    """The lines above the tests and at the top of every report, each with `start` in front."""
    if header.compared:
        return [start + line for line in (*caveats(header), header.subject, header.plan, f"seed {header.seed}")]
    model = f"{header.model} @ {header.revision}" if header.revision else header.model
    edits = f"{header.method} edits {model}: {header.plan}, from {header.edits}"
    if header.checkpoint:
        edits = f"{header.method}, {header.plan} of {model}" + (f", from {header.edits}" if header.edit_count else "")
    protocol = protocol_phrase(header.protocol, header.shots, header.chat_template)
    lines = [
        *caveats(header),
        edits,
        f"at most {header.limit} items per ability from {header.data}, {protocol}",
        f"device {header.device}, dtype {header.dtype}, seed {header.seed}",
    ]
    if header.patch_from:
        lines.append(f"patch from {header.patch_from}, nothing is edited")
    if header.rescored:
        lines.append(f"the answers of {header.rescored}, scored again; no model is asked")
    return [start + line for line in lines]


def caveats(header: RunHeader) -> tuple[str, ...]:
    """What a reader must know before trusting the outcome; the last lines of a summary, at every verbosity."""
    found = []
    if 2 * header.usable_rows < header.edit_rows:
        skipped = header.edit_rows - header.usable_rows
        found.append(
            f"Only {header.usable_rows} of the {header.edit_rows} rows of {header.edits} can be used as edit requests; "
            f"correct the other {skipped}, which the report lists with their reasons."
        )
    if header.missing_edits:
        found.append(
            f"The edit plan has {edits_phrase(header.missing_edits)} fewer than --edit-count asked for; the report "
            "lists the rows that cannot be used."
        )
    return (*found, *header.editing_caveats, *header.result_caveats)


def verdict_line(report: RunReport) -> str:
    """One line: the outcome of the run, what was judged, and the outcomes behind it."""
    return f"{report.outcome}: {report.header.subject}: {verdict_reason(report)}"


def verdict_reason(report: RunReport) -> str:
    """The outcomes behind that of the run, without a full stop: "7 PASS, 1 FAIL"."""
    outcomes = [row.outcome for row in report.abilities]
    parts = [f"{outcomes.count(word)} {word}" for word in (PASS, FAIL, INCONCLUSIVE) if word in outcomes]
    if report.unchanged is not None:
        share = report.unchanged.value
        what = "nothing was changed" if share == 1 else f"{share:.0%} of the edited models are unchanged"
        parts.insert(0, what if outcomes or share != 1 else f"{what}, so no ability was asked")
    if report.collapse:
        parts.append("collapsed, so no ability was asked")
    if report.unasked:
        parts.append(f"not asked {', '.join(report.unasked)}")
    unsound = [row.check for row in report.integrity if row.sound is False and row is not report.unchanged]
    if unsound:
        parts.append(f"unsound {' and '.join(unsound)}")
    if report.failed_tests:
        parts.append(f"failed {', '.join(name.rsplit('::', 1)[-1] for name in report.failed_tests)}")
    return ", ".join(parts) or "no verdict"


def claims(report: RunReport) -> tuple[str, ...]:
    """The two claims that the verdicts of a run support; none if no ability was judged."""
    if not report.abilities:
        return ()
    passed = [row.label for row in report.abilities if row.outcome == PASS]
    if len(passed) == len(report.abilities) and not report.unasked:
        within = (
            "All abilities are within their margins, with 95 % confidence; without correction, because all had to pass."
        )
    elif passed:
        within = f"Within its margin, each with 95 % confidence by itself: {', '.join(passed)}."
    else:
        within = "No ability was shown to be within its margin."
    return within, harm_sentence(report)


def harm_sentence(report: RunReport) -> str:
    """Which abilities were harmed at all, within their margins or not."""
    tested = [row for row in (*report.abilities, *report.steps) if row.harm_p is not None]
    if not tested:
        return "It was not tested whether an ability was harmed at all, within its margin or not."
    harmed = [one.name for one in report.alarms if one.harmed]
    over = "1 ability" if len(tested) == 1 else f"{len(tested)} abilities"
    if not harmed:
        return f"No harm was shown in any of the abilities, within the margin or not (95 %, Holm over {over})."
    return f"Certainly harmed, within the margin or not: {', '.join(harmed)} (95 %, Holm over {over})."


def curve_harm_sentence(curve: Sequence[RunReport]) -> str:
    """For each ability, the smallest number of edits at which harm was shown, over all abilities and points."""
    tested: dict[str, tuple[int, AbilityRow]] = {}
    p_values: dict[str, float] = {}
    for point in curve:
        for row in point.abilities:
            if row.harm_p is not None:
                name = f"{row.ability} after {point.header.edit_count}"
                tested[name], p_values[name] = (point.header.edit_count, row), row.harm_p
    first: dict[str, int] = {}
    for alarm in alarms(p_values):
        count, row = tested[alarm.name]
        if alarm.harmed:
            first[row.label] = min(count, first.get(row.label, count))
    over = f"(95 %, Holm over {len(p_values)} abilities and points)"
    if not first:
        return f"No harm was shown at any point, within the margin or not {over}."
    found = ", ".join(f"{name} after {count}" for name, count in first.items())
    return f"Certainly harmed, within the margin or not, first seen: {found} {over}."


def flip_lines(rows: Sequence[AbilityRow], verbosity: int) -> list[str]:
    """One line for all abilities, or one per ability at `verbosity` above 0; none if no answer flipped."""
    flipped = [(row.label, row.flips) for row in rows if row.flips is not None and any(_all_flips(row.flips))]
    if verbosity > 0:
        return [f"flips, {name}: {_flip_sentence([flips])}" for name, flips in flipped]
    return [f"flips: {_flip_sentence([flips for _, flips in flipped])}"] if flipped else []


def flip_table(rows: Sequence[AbilityRow]) -> tuple[list[str], list[list[str]]] | None:
    """Headings and cells, one line per ability; None if no row has flips."""
    known = [(row, row.flips) for row in rows if row.flips is not None]
    if not known:
        return None
    cells = []
    for row, flips in known:
        pairs = zip(astuple(flips.mentioning), astuple(flips.elsewhere), strict=True)
        drop = "-" if flips.drop_elsewhere is None else points(flips.drop_elsewhere)
        cells.append([row.label, *(f"{one} + {other}" for one, other in pairs), points(row.verdict.drop), drop])
    return ["ability", "items", *FLIP_KINDS, "drop", "drop elsewhere"], cells


def _flip_sentence(reports: Sequence[FlipReport]) -> str:
    items, *mentioning = (sum(column) for column in zip(*(astuple(one.mentioning) for one in reports), strict=True))
    total = [sum(column) for column in zip(*map(_all_flips, reports), strict=True)]
    in_all, inside = (
        ", ".join(f"{count} {word}" for count, word in zip(counts, FLIP_KINDS, strict=True) if count)
        for counts in (total, mentioning)
    )
    if not items:
        return f"{in_all}; no item mentions a known edit"
    return f"{in_all}; on the {items} items that mention an edit: {inside or 'none'}"


def _all_flips(flips: FlipReport) -> list[int]:
    """The numbers of flips, in the order of `FLIP_KINDS`, on all items."""
    pairs = zip(astuple(flips.mentioning), astuple(flips.elsewhere), strict=True)
    return [one + other for one, other in pairs][1:]  # without the number of items


def reuse_sentences(counts: ReuseCounts) -> tuple[str, ...]:
    """One sentence for each kind of reuse that happened."""
    sentences = []
    if counts.edits_resumed:
        sentences.append(f"edits: {counts.edits_resumed} of {counts.edits} come from an interrupted run")
    if counts.answers_known:
        sentences.append(f"answers: {counts.answers_known} of {counts.answers} come from earlier runs")
    reused = []
    if counts.drafts_stood:
        checked = f"{counts.drafts_stood} of {counts.drafts} base answers checked as drafts"
        reused.append(f"{checked} gave the whole edited answer in one pass")
    if counts.block_tokens_shared:
        share = counts.block_tokens_shared / counts.block_tokens
        reused.append(f"{share:.0%} of the edited models' block computations were reused")
    return (*sentences, f"reuse: {'; '.join(reused)}") if reused else tuple(sentences)


def explanation(row: AbilityRow, wanted: str) -> list[str]:
    """The lines under a failing assertion: numbers, flips, the sentence, and the examples that pytest does not cut."""
    verdict = row.verdict
    lines = [
        f"{row.label}: {row.outcome}, wanted {wanted}",
        f"base {verdict.base:.3f}, edited {verdict.edited:.3f}, drop {points(verdict.drop)}, {coverage(verdict)} "
        f"interval {interval(verdict)}, margin {verdict.margin:.3f}, n {row.item_count}",
        f"flips: {verdict.right_to_wrong} right to wrong, {verdict.wrong_to_right} wrong to right, "
        f"{row.parsed_to_unparseable} parsed to unparseable",
        row.sentence,
    ]
    for example in row.examples[:2]:
        line = _one_line(example)
        if sum(map(len, lines)) + len(line) <= BUDGET:
            lines.append(line)
    return lines


def examples(row: AbilityRow) -> str:
    """The example items in full: prompt, gold answer, both answers."""
    return "\n\n".join(
        f"item {example.key}\n{_indented(example.prompt)}\n"
        f"  wanted  {example.gold}\n  base    {example.base.strip()!r}\n  edited  {example.edited.strip()!r}"
        for example in row.examples[:2]
    )


def _one_line(example: Example) -> str:
    prompt = _shortened(example.prompt, PROMPT_WIDTH)
    base, edited = (_shortened(text, ANSWER_WIDTH) for text in (example.base, example.edited))
    return f"e.g. {prompt!r}: base {base!r}, edited {edited!r}, wanted {_shortened(example.gold, ANSWER_WIDTH)!r}"


def _shortened(text: str, width: int) -> str:
    """The text on one line, without its middle if it is long: prompts and answers end with what matters."""
    flat = " ".join(text.split())
    if len(flat) <= width:
        return flat
    head = (width - 3) // 3
    return f"{flat[:head]}...{flat[head + 3 - width :]}"


def _indented(text: str) -> str:
    return "\n".join("  | " + line for line in text.splitlines())


def next_step(report: RunReport) -> str:
    """One sentence of advice, chosen by the worst finding of the report."""
    if report.header.compared:
        return comparison_advice(report)
    if report.collapse:
        return (
            f"Next: do not ship these weights; try {_smaller_edit(report)}, "
            "or measure what is left of each ability with --no-triage."
        )
    if report.unchanged is not None and report.unchanged.sound is False:
        other = (
            "give the edited model with --edited" if report.header.checkpoint else "try another editor or its settings"
        )
        return f"Next: nothing was changed; {other}, or use --allow-unchanged to judge this model anyway."
    if not report.abilities and not report.unasked:
        return "Next: run a suite that tests an ability, for example `pytest suites/`."
    failed = sorted((row for row in report.abilities if row.outcome == FAIL), key=lambda row: -row.verdict.drop)
    if any(row.sound is False for row in report.integrity):
        lost = f", and {_names(failed)} failed" if failed else ", although no ability failed"
        return f"Next: do not ship these weights; they are damaged{lost}."
    if failed:
        worst = failed[0]
        where = f"in {report.folder}/items.jsonl" if report.folder else "with both answers in items.jsonl"
        return (
            f"Next: read the {worst.verdict.right_to_wrong} right-to-wrong flips of {worst.ability} {where}, "
            f"then try {_smaller_edit(report)}."
        )
    if report.unasked:
        return f"Next: fix the errors that kept {_listed(list(report.unasked))} from being asked (listed above)."
    undecided = [row for row in report.abilities if row.outcome == INCONCLUSIVE]
    if undecided:
        return _decide(undecided, report.header.limit)
    if report.header.editor in CONTROLS:
        return "Next: run an editor, such as --editor memit; this was a control, which makes no edit."
    efficacy = report.edit_score("efficacy")
    if efficacy is not None and efficacy.value is not None and efficacy.value < EFFICACY_BAR:
        return (
            f"Next: the abilities passed, but the edits did not succeed (efficacy {efficacy.value:.2f}); "
            "try another editor or its --editor-config."
        )
    if report.failed_tests:
        return f"Next: see above why {report.failed_tests[0].rsplit('::', 1)[-1]} failed; the abilities passed."
    if report.header.checkpoint:
        return f"Next: list the changed weights with `{_diff(report)}`."
    doubled = max(2, 2 * report.header.edit_count)
    return f"Next: find the number of edits at which an ability fails: --edit-count {doubled}."


def _decide(undecided: list[AbilityRow], limit: int) -> str:
    blind = [row for row in undecided if not row.verdict.assessable]
    if blind:
        return (
            f"Next: choose a --model that can do {_names(blind)}, or a larger --limit: "
            "the base model is not clearly above the floor."
        )
    stopped = [row for row in undecided if row.planned is not None]
    if stopped:
        return f"Next: run the audit again; it stopped before it asked the items that would settle {_names(stopped)}."
    more = [row.verdict.more_items for row in undecided if row.verdict.more_items is not None]
    if not more:
        return f"Next: accept a larger --margin for {_names(undecided)}; no affordable number of items would settle it."
    return f"Next: run again with --limit {limit + max(more)} to settle {_names(undecided)}."


def _diff(report: RunReport) -> str:
    return f"audit diff {report.header.model} {report.header.editor}"


def _smaller_edit(report: RunReport) -> str:
    if report.header.checkpoint:
        return f"`{_diff(report)}`"
    count = report.header.edit_count
    return f"--edit-count {max(1, count // 2)} or another editor" if count > 1 else "another editor or --editor-config"


def _names(rows: list[AbilityRow]) -> str:
    return _listed([row.ability for row in rows])


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
