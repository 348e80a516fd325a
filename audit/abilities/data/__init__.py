"""The rows of the abilities: the protocol of a source, and the origin of its rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from audit.abilities.contract import Row


@dataclass(frozen=True)
class Origin:
    """Where an ability's rows come from, in words, and their revision: a commit, "sha256:" of the file, or None."""

    place: str
    revision: str | None = None


class Source(Protocol):
    """Rows of the abilities in the columns of the real data sets, in a fixed order.

    Labels are the data set's own label names or its numbers. Names are safer: copies differ in the order of numbers.
    """

    @property
    def name(self) -> str:
        """The source's name in messages."""
        ...

    def rows(self, ability_name: str) -> Sequence[Row]:
        """The test rows. Raises `AuditError` if the source has none for this ability."""
        ...

    def training_rows(self, ability_name: str) -> Sequence[Row]:
        """The rows that worked examples are drawn from. Raises `AuditError` if there are none."""
        ...

    def origin(self, ability_name: str) -> Origin:
        """Where the test rows come from; never raises."""
        ...

    def check(self) -> None:
        """Raise `AuditError` if the source has no rows for any ability. Fast: it runs before a model is loaded."""
        ...
