"""Does the audit work on this model and this data? Two controls whose verdicts are known beforehand must come out so.

`identity` changes nothing, so every ability must PASS: a FAIL would be noise, an INCONCLUSIVE an ability that this
model does not have, or has too few items for. `vandal` writes noise into one MLP matrix, so every ability must FAIL:
what does not notice noise many times the weights' own size would not notice an edit either.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from audit.audit import Audit
from audit.errors import UnaskedError
from audit.progress import Watcher
from audit.reports.rows import AbilityRow
from audit.settings.options import AuditSettings
from audit.verdicts import FAIL, PASS

SCALES = (1.0, 4.0, 16.0)  # of the noise, in standard deviations of the weight; the next where the one before is missed


@dataclass(frozen=True)
class Control:
    """One ability under both controls. `scale` is that of the weakest noise tried that was noticed, or the strongest.

    `identity` and `vandal` are None where the ability could not be asked, for the `reason`.
    """

    ability: str
    identity: AbilityRow | None
    vandal: AbilityRow | None
    scale: float
    reason: str = ""

    @property
    def works(self) -> bool:
        """Whether verdicts about this ability, on this model and data, can be believed."""
        rows = self.identity, self.vandal
        return [None if row is None else row.outcome for row in rows] == [PASS, FAIL]

    @property
    def sentence(self) -> str:
        """What the controls say about the ability."""
        if self.identity is None or self.vandal is None:
            return f"not asked: {self.reason}"
        if self.identity.outcome == FAIL:
            return "fails although nothing was changed: its answers are noise"
        if self.identity.outcome != PASS:
            return f"cannot pass although nothing was changed: {self.identity.sentence}"
        if self.vandal.outcome != FAIL:
            return f"does not notice noise of {self.scale:g} standard deviations: {self.vandal.sentence}"
        return f"passes untouched, fails under noise of {self.scale:g} standard deviations"


def run_controls(
    settings: AuditSettings, abilities: Sequence[str], watcher: Watcher | None = None
) -> tuple[Control, ...]:
    """Audit the untouched and the ruined model; `settings` say which model, data and margins.

    Raises:
        AuditError: no audit can be run at all.
    """
    untouched, reasons = _rows(replace(settings, editor="identity"), abilities, watcher)
    controls: dict[str, Control] = {}
    waiting = [ability for ability in abilities if ability in untouched]
    for scale in SCALES:
        ruined, more = _rows(replace(settings, editor="vandal", editor_config={"scale": str(scale)}), waiting, watcher)
        reasons |= more
        for ability in waiting:
            controls[ability] = Control(
                ability, untouched[ability], ruined.get(ability), scale, reasons.get(ability, "")
            )
        waiting = [ability for ability in waiting if ability in ruined and ruined[ability].outcome != FAIL]
        if not waiting:
            break
    return tuple(controls.get(one, Control(one, None, None, 0.0, reasons.get(one, ""))) for one in abilities)


def _rows(
    settings: AuditSettings, abilities: Sequence[str], watcher: Watcher | None
) -> tuple[dict[str, AbilityRow], dict[str, str]]:
    """The verdicts by ability, and why others could not be asked."""
    audit = Audit(replace(settings, triage=False), watcher=watcher)
    audit.prepare()
    rows: dict[str, AbilityRow] = {}
    for ability in abilities:
        with suppress(UnaskedError):  # told in `unasked`
            rows[ability] = audit.verdict(ability)
    return rows, audit.unasked
