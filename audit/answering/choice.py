"""How an ability is asked and read, as chosen on the base model, and what was tried; `pilot` makes the choice."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audit.abilities.presentation import Presentation


@dataclass(frozen=True)
class Trial:
    """One presentation on the pilot's items: its base score, its lower limit and the floor; or why it was not tried."""

    presentation: Presentation
    n: int = 0
    base: float = 0.0
    base_lower: float = 0.0
    floor: float = 0.0
    needed: float = 0.0  # the lower limit must be above this
    reason: str = ""

    @property
    def clear(self) -> bool:
        """Whether the base model is clearly above what is needed."""
        return not self.reason and self.base_lower > self.needed

    @property
    def distance(self) -> float:
        """How far the base score is above the floor, in units of the distance to its lower limit."""
        return (self.base - self.floor) / max(self.base - self.base_lower, 1e-9)

    @property
    def sentence(self) -> str:
        """The trial in words."""
        how = f"{self.presentation.reading}, {self.presentation.prompting}"
        if self.reason:
            return f"{how}: {self.reason}"
        said = f"base {self.base:.3f}, at least {self.base_lower:.3f}, on {self.n} items"
        needed = f"floor {self.floor:.3f}" + (f", needed {self.needed:.3f}" if self.needed > self.floor else "")
        return f"{how}: {said} ({needed}){'' if self.clear else ', not clear'}"


@dataclass(frozen=True)
class Chosen:
    """The presentation of an ability, and the trials that led to it; none where the settings fix it."""

    presentation: Presentation
    trials: tuple[Trial, ...] = ()

    @property
    def clear(self) -> bool:
        """Whether the choice was fixed or clearly above its floor."""
        return not self.trials or any(one.clear for one in self.trials)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Chosen":
        """The choice from its fields as JSON data (`asdict`)."""
        trials = [{**one, "presentation": Presentation(**one["presentation"])} for one in plain["trials"]]
        return cls(Presentation(**plain["presentation"]), tuple(Trial(**one) for one in trials))
