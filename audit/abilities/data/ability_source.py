"""The source of a run, where some abilities bring rows of their own."""

from collections.abc import Sequence

from audit.abilities.contract import Row
from audit.abilities.data import Origin, Source
from audit.abilities.registry import Abilities


class AbilitySource:
    """The rows that an ability brings, or else those of another source, in which it is called by its data's name.

    `shown` is the name in reports: those of the abilities' own data, if all that are asked from the start bring theirs.
    """

    def __init__(self, source: Source, abilities: Abilities) -> None:
        self._abilities = abilities
        self._source = source
        own = [entry.source for name in abilities.asked if (entry := abilities.entry(name)) and entry.source]
        self.shown = ", ".join(one.name for one in own) if len(own) == len(abilities.asked) else source.name

    def know(self, abilities: Abilities) -> None:
        """Take the rows of more abilities, and check those that were not known before; raises `AuditError`."""
        known, self._abilities = self._abilities, abilities
        for entry in abilities.added:
            if known.entry(entry.name) is None:
                entry.check()

    @property
    def name(self) -> str:
        return self._source.name

    def rows(self, ability_name: str) -> Sequence[Row]:
        source, name = self._of(ability_name)
        return source.rows(name)

    def training_rows(self, ability_name: str) -> Sequence[Row]:
        source, name = self._of(ability_name)
        return source.training_rows(name)

    def origin(self, ability_name: str) -> Origin:
        source, name = self._of(ability_name)
        return source.origin(name)

    def check(self) -> None:
        """Check the other source, unless every ability brings its rows, and these rows."""
        if any(self._of(name)[0] is self._source for name in self._abilities.asked):
            self._source.check()
        for entry in self._abilities.added:
            entry.check()

    def _of(self, ability_name: str) -> tuple[Source, str]:
        """The source of an ability, and what the ability is called there."""
        entry = self._abilities.entry(ability_name)
        if entry is None or entry.ability is None:
            return self._source, ability_name
        return (self._source, entry.ability.data_name) if entry.source is None else (entry.source, ability_name)


def shown_name(source: Source) -> str:
    """The name of a source in reports. Keys take `name`, which does not depend on which abilities are asked."""
    return source.shown if isinstance(source, AbilitySource) else source.name
