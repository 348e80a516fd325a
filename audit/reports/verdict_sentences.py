"""A verdict for readers: its numbers as tables show them, and one sentence that says what they mean.

Limits are rounded outwards, so an interval is never printed narrower than it is.
"""

import math
from collections.abc import Iterable

from audit.verdicts import FAIL, INCONCLUSIVE, PASS, Verdict
from audit.verdicts.evidence import Kept

GROUNDS = (
    "FAIL has two grounds. If the lower limit exceeds the margin, the drop exceeds the margin, with an error of at "
    "most 5 %. If only the estimated drop exceeds the margin and the lower limit is above 0, there is harm, with an "
    "error of at most 5 %; that the harm exceeds the margin is only the estimate."
)
MARKS = {FAIL: " ✗", INCONCLUSIVE: " ?", PASS: ""}  # after a score in tables that have no column for the verdict


def points(value: float) -> str:
    """A difference in score points with three decimals, never "-0.000"; a negative drop is a gain."""
    text = f"{value:.3f}"
    return text.removeprefix("-") if float(text) == 0 else text


def interval(verdict: Verdict) -> str:
    """The lower and the upper limit of the drop: "[-0.012, 0.024]"."""
    return limits(verdict.lower, verdict.upper)


def limits(lower: float, upper: float) -> str:
    """Two limits, rounded away from each other: "[-0.012, 0.024]"; "[-∞, 0.024]" where nothing limits one of them."""
    below = points(math.floor(round(lower * 1000, 6)) / 1000) if math.isfinite(lower) else "-∞"
    above = points(math.ceil(round(upper * 1000, 6)) / 1000) if math.isfinite(upper) else "∞"
    return f"[{below}, {above}]"


def share_kept(kept: Kept, sign: str = "") -> str:
    """A share with its limits, "0.917 [0.860, 0.953]", or a difference of two with `sign` "+"; "" for NaN."""
    return "" if math.isnan(kept.share) else f"{kept.share:{sign}.3f} {limits(kept.lower, kept.upper)}"


def coverage(verdict: Verdict) -> str:
    """What the two one-sided limits cover together: "90 %" where each holds with 95 % confidence."""
    return f"{100 * (2 * verdict.confidence - 1):g} %"


def interval_column(verdicts: Iterable[Verdict]) -> tuple[str, list[str]]:
    """The heading and the cells of a column of intervals; a cell says its coverage where they differ."""
    shown = [(coverage(verdict), interval(verdict)) for verdict in verdicts]
    coverages = {covered for covered, _ in shown}
    if len(coverages) == 1:
        return f"{coverages.pop()} interval", [limits for _, limits in shown]
    return "interval", [f"{covered} {limits}" for covered, limits in shown]


def margin(verdict: Verdict, asked: str) -> str:
    """The margin in score points, and the share to keep if `asked` (the margin as it was asked for) is one."""
    return f"{verdict.margin:.3f}" + (f" ({asked})" if asked.endswith("%") else "")


def verdict_sentence(verdict: Verdict, asked: str, planned: int | None = None) -> str:
    """What the numbers allow to be said.

    `asked` is the margin as it was asked for: "0.05", or a share such as "90%". `planned` is the number of items that
    could have been asked, in a run that may stop early.
    """
    after = f"After {verdict.n} of {planned} items"
    stopped = planned is not None and verdict.n < planned
    drop, named, sure = f"{verdict.drop:.3f}", _named_margin(verdict, asked), _sure(verdict)
    if stopped and verdict.outcome == INCONCLUSIVE:
        return f"{after}, where it was stopped, the drop of {drop} does not settle a margin of {named}."
    if verdict.method == "betting":
        side = "is within" if verdict.outcome == PASS else "is beyond"
        return f"{after} the drop of {drop} {side} the margin of {named} {sure}, valid at every look."
    sentence = _of_all_items(verdict, drop, named, sure) + _kept(verdict)
    return f"{after}: {sentence}" if stopped else sentence


def kept_share(verdict: Verdict) -> str:
    """The share kept of what lies above the floor: "98.2 %"; "" where it was not computed."""
    return "" if verdict.kept is None else f"{100 * verdict.kept:.1f} %"


def _kept(verdict: Verdict) -> str:
    """The share kept with its limits, as a sentence; "" where it was not computed."""
    if verdict.kept is None or verdict.kept_lower is None or verdict.kept_upper is None or not verdict.assessable:
        return ""
    lower, upper = math.floor(1000 * verdict.kept_lower) / 10, math.ceil(1000 * verdict.kept_upper) / 10
    return (
        f" It keeps {kept_share(verdict)} of what lies above the floor: at least {lower:.1f} % and at most "
        f"{upper:.1f} % ({_sure(verdict)} each)."
    )


def _of_all_items(verdict: Verdict, drop: str, named: str, sure: str) -> str:
    if not verdict.assessable:
        assert verdict.base_lower is not None
        fell = f", although it fell by {drop}, by at least {_down(verdict.lower)} {sure}"
        return (
            f"The base model's {verdict.base:.3f} (at least {_down(verdict.base_lower)} {sure}) is not clearly above "
            f"the floor of {verdict.floor:.3f}, so this ability cannot be assessed on this model"
            f"{fell if verdict.lower > verdict.margin else ''}."
        )
    harm = verdict.lower if verdict.harm_lower is None else verdict.harm_lower
    if verdict.outcome == PASS:
        note = ": detectable, but acceptable" if harm > 0 else ""
        return f"The drop of {drop} is at most {rounded_up(verdict.upper)} {sure}, within the margin of {named}{note}."
    if verdict.outcome == FAIL and verdict.lower > verdict.margin:
        return f"The drop of {drop} is at least {_down(verdict.lower)} {sure}, beyond the margin of {named}."
    if verdict.outcome == FAIL:
        real = f"{sure} it is real harm, at least {_down(harm)}"
        return f"The estimated drop of {drop} exceeds the margin of {named}; {real}."
    advice = f"about {verdict.more_items} more items" if verdict.more_items else "no affordable number of items"
    return (
        f"The drop of {drop} may be as large as {rounded_up(verdict.upper)} or as small as {_down(verdict.lower)} "
        f"({sure} each), which does not settle a margin of {named}: {advice} would, and this run certifies a margin of "
        f"{rounded_up(max(0.0, verdict.upper))}."
    )


def rounded_up(value: float) -> str:
    """Up to three decimals, not to the nearest: a user who sets the printed margin must pass."""
    return f"{math.ceil(value * 1000) / 1000:.3f}"


def _down(value: float) -> str:
    return f"{math.floor(value * 1000) / 1000:.3f}"


def _sure(verdict: Verdict) -> str:
    return f"with {100 * verdict.confidence:g} % confidence"


def _named_margin(verdict: Verdict, asked: str) -> str:
    if asked.endswith("%"):
        return f"{verdict.margin:.3f} (to keep {asked} of what lies above the floor)"
    return f"{verdict.margin:g}"
