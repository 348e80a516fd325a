"""A source of rows, and where the rows come from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from audit.abilities.contract import Row


@dataclass(frozen=True)
class Origin:
    """Where an ability's rows come from, in words, and in which state: a commit, or a sha256 of the file's content."""

    place: str
    revision: str | None = None


class Source(Protocol):
    """Rows of an ability in the columns of the real data set, in a fixed order.

    Labels may be the data set's numbers or, safer, its own label names (copies differ in the order of numbers).
    """

    @property
    def name(self) -> str:
        """What messages call this source."""
        ...

    def rows(self, ability_name: str) -> Sequence[Row]:
        """The rows that are asked, or `AuditError`: this ability cannot be asked from here."""
        ...

    def training_rows(self, ability_name: str) -> Sequence[Row]:
        """The rows that worked examples are drawn from, or `AuditError`."""
        ...

    def origin(self, ability_name: str) -> Origin:
        """Where the asked rows come from; never raises."""
        ...

    def check(self) -> None:
        """Raise `AuditError` when no ability at all can be asked from here. Cheap: it runs before a model is loaded."""
        ...
