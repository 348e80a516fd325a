"""A check that the audit works for a model and its data: two controls with known verdicts.

`identity` changes nothing, so every ability must PASS. A FAIL is noise; INCONCLUSIVE means that the model does not have
the ability, or that there are too few items. `vandal` adds noise to one MLP matrix, so every ability must FAIL: an
ability that noise many times the size of the weights does not change would not show the harm of an edit either.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from audit.audit import Audit
from audit.errors import AbilityError
from audit.progress import Watcher
from audit.reports.rows import AbilityRow
from audit.settings.options import AuditSettings
from audit.verdicts import FAIL, PASS

# The noise, in standard deviations of the weight; each scale is tried if the one before is not noticed.
SCALES = (1.0, 4.0, 16.0)


@dataclass(frozen=True)
class Control:
    """One ability under both controls. `scale` is the weakest noise that was noticed, or the strongest that was tried.

    `identity` and `vandal` are None if the ability could not be asked; `reason` says why.
    """

    ability: str
    identity: AbilityRow | None
    vandal: AbilityRow | None
    scale: float
    reason: str = ""

    @property
    def works(self) -> bool:
        """Whether both controls have the expected verdicts."""
        rows = self.identity, self.vandal
        return [None if row is None else row.outcome for row in rows] == [PASS, FAIL]

    @property
    def sentence(self) -> str:
        """The result of the controls in words."""
        if self.identity is None or self.vandal is None:
            return f"not asked: {self.reason}"
        if self.identity.outcome == FAIL:
            return "fails although nothing was changed: its answers are noisy"
        if self.identity.outcome != PASS:
            return f"cannot pass although nothing was changed: {self.identity.sentence}"
        if self.vandal.outcome != FAIL:
            return f"does not notice noise of {self.scale:g} standard deviations: {self.vandal.sentence}"
        return f"passes untouched, fails under noise of {self.scale:g} standard deviations"


def run_controls(
    settings: AuditSettings, abilities: Sequence[str], watcher: Watcher | None = None
) -> tuple[Control, ...]:
    """Audit the unchanged and the damaged model, with the model, data and margins of `settings`.

    Raises:
        AuditError: no audit can be run at all.
    """
    unchanged, reasons = _rows(replace(settings, editor="identity"), abilities, watcher)
    controls: dict[str, Control] = {}
    waiting = [ability for ability in abilities if ability in unchanged]
    for scale in SCALES:
        damaged, more = _rows(replace(settings, editor="vandal", editor_config={"scale": str(scale)}), waiting, watcher)
        reasons |= more
        for ability in waiting:
            controls[ability] = Control(
                ability, unchanged[ability], damaged.get(ability), scale, reasons.get(ability, "")
            )
        waiting = [ability for ability in waiting if ability in damaged and damaged[ability].outcome != FAIL]
        if not waiting:
            break
    return tuple(controls.get(one, Control(one, None, None, 0.0, reasons.get(one, ""))) for one in abilities)


def _rows(
    settings: AuditSettings, abilities: Sequence[str], watcher: Watcher | None
) -> tuple[dict[str, AbilityRow], dict[str, str]]:
    """The verdicts by ability, and the reasons why others could not be asked."""
    audit = Audit(replace(settings, triage=False), watcher=watcher)
    audit.prepare()
    rows: dict[str, AbilityRow] = {}
    for ability in abilities:
        with suppress(AbilityError):  # is in `unasked`
            rows[ability] = audit.verdict(ability)
    return rows, audit.unasked
