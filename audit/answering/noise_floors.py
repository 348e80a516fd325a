"""Noise floors of a model: what `audit calibrate` measured on it, and the check that a margin is above its floor.

    keep_calibrations(log, [calibration], settings, "pocket")
    noise_floor_for(margins, log, "nli", settings, "pocket")    # raises if the margin is below the floor

Calibrations are stored in the answer log of the base model, so that later audits of the same model and data find them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from audit.errors import AuditError
from audit.settings.declaration import Effect
from audit.settings.options import AuditSettings
from audit.store.answer_log import AnswerLog
from audit.store.content import content_fingerprint
from audit.verdicts.margins import Margin, Retained, SuiteMargins
from audit.verdicts.noise import NoiseFloor

HALF = ("bfloat16", "float16")
# Raise it whenever a stored calibration takes another form, so that older ones are ignored.
STORED_VERSION = 2


@dataclass(frozen=True)
class Calibration:
    """One ability of a model, asked twice without any edit.

    `base` is its score by `reading` the first time and `chance` its floor. `batches` compares with the same items in
    other batches, `arithmetic` with the same weights computed in `other` instead of `dtype` (None: the model could not
    be loaded so).
    """

    ability: str
    base: float
    chance: float
    dtype: str
    other: str
    batches: NoiseFloor
    arithmetic: NoiseFloor | None = None
    reading: str = "answers"

    @property
    def held(self) -> NoiseFloor:
        """The floor for margins. In half precision, rounding decides near ties in the audit too, so both count."""
        if self.dtype in HALF and self.arithmetic is not None:
            return max(self.batches, self.arithmetic, key=lambda noise: noise.floor)
        return self.batches

    def require(self, margin: Margin) -> NoiseFloor:
        """The floor, after the check that the margin is not below it.

        A retained share of nothing (the base score is not above chance) passes; its verdict deals with that.

        Raises:
            AuditError: the margin is below the floor.
        """
        points, shared = margin.at(self.base, self.chance), isinstance(margin, Retained)
        held = self.held
        if points >= held.floor or (shared and points == 0):
            return held
        asked = f"{margin} ({points:.4f})" if shared else f"{points:g}"
        raise AuditError(
            f"{self.ability}: a margin of {asked} is under the noise floor of {held.floor:.4f}: the same weights "
            f"changed {held.flips} of {held.n} scores against themselves ({held.moved:.4f} points; at most "
            f"{held.floor:.4f} with {100 * (1 - held.alpha):g} % confidence); ask for at least that, or calibrate "
            "again on more items."
        )

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Calibration":
        """The calibration from its fields as JSON data (`asdict`)."""
        arithmetic = plain["arithmetic"]
        floors = {
            "batches": NoiseFloor(**plain["batches"]),
            "arithmetic": None if arithmetic is None else NoiseFloor(**arithmetic),
        }
        return cls(**{**plain, **floors})


def keep_calibrations(log: AnswerLog, found: Iterable[Calibration], settings: AuditSettings, data: str) -> None:
    """Store calibrations in the log of the base model; a later one of the same ability replaces an earlier one."""
    log.add({_key(one.ability, settings, data): asdict(one) for one in found})


def kept_calibration(log: AnswerLog | None, ability: str, settings: AuditSettings, data: str) -> Calibration | None:
    """The last calibration of an ability in the log of the base model; None if there is none.

    It holds for this model and the source `data` with these settings, whichever items it used.
    """
    kept = None if log is None else log.known().get(_key(ability, settings, data))
    return None if kept is None else Calibration.from_plain(kept)


def noise_floor_for(
    margins: SuiteMargins, log: AnswerLog | None, ability: str, settings: AuditSettings, data: str
) -> NoiseFloor | None:
    """The noise floor of an ability, None without a calibration.

    Raises:
        AuditError: the margin is below it.
    """
    kept = kept_calibration(log, ability, settings, data)
    return None if kept is None else kept.require(margins.of(kept.reading))


def _key(ability: str, settings: AuditSettings, data: str) -> str:
    how = settings.by_effect(Effect.ANSWERS) | {"data": data}
    what = [settings.abilities.identity(ability), *how.values()]
    return content_fingerprint({"calibration": what, "version": STORED_VERSION})
