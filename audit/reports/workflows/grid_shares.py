"""The shares that the cells of a grid keep of what lies above the floor, from the scores of their items.

shares = GridShares()
shares.of(result).mean                    # Kept(0.91, 0.88, 0.94), over the abilities that can be assessed
shares.difference(first, second)          # of two cells with the same items
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from audit.reports.workflows.grid_cells import CellResult
from audit.verdicts.evidence import Kept
from audit.verdicts.mean_kept import ShareTable, kept_difference, kept_share, mean_difference, mean_kept


@dataclass(frozen=True, eq=False)
class CellShares:
    """The shares of one cell, by ability; abilities whose base is not clear of its floor are left out."""

    result: CellResult

    @cached_property
    def tables(self) -> Mapping[str, ShareTable]:
        """The tables that the shares are computed from."""
        clear = {row.ability for row in self.result.report.abilities if row.verdict.assessable}
        tables = {
            one.ability: ShareTable.of(**vars(one.scores), floor=one.floor)
            for one in self.result.scores
            if one.ability in clear
        }
        return {ability: table for ability, table in tables.items() if table.height > 0}

    @cached_property
    def kept(self) -> Mapping[str, Kept]:
        """The share of each ability with its 90 % limits."""
        return {ability: kept_share(table) for ability, table in self.tables.items()}

    @cached_property
    def mean(self) -> Kept:
        """The mean share with its 90 % limits; NaN without scores."""
        return mean_kept(list(self.kept.values()))


class GridShares:
    """The shares of cells, each computed once."""

    def __init__(self) -> None:
        self._cells: dict[CellResult, CellShares] = {}

    def of(self, result: CellResult) -> CellShares:
        """The shares of one cell."""
        return self._cells.setdefault(result, CellShares(result))

    def difference(self, first: CellResult, second: CellResult) -> Kept:
        """The mean share of the first cell minus that of the second, over abilities with the same items in both.

        NaN if there are none.
        """
        one, other = self.of(first).tables, self.of(second).tables
        same = self.same_items(first, second)
        return mean_difference([kept_difference(one[ability], other[ability]) for ability in same])

    def same_items(self, first: CellResult, second: CellResult) -> tuple[str, ...]:
        """The abilities that both cells have shares of, on the same items with the same base scores."""
        one, other = self.of(first).tables, self.of(second).tables
        keys = [{scores.ability: scores.keys for scores in result.scores} for result in (first, second)]
        return tuple(
            ability
            for ability in one
            if ability in other
            and keys[0][ability] == keys[1][ability]
            and np.array_equal(one[ability].base, other[ability].base)
        )
