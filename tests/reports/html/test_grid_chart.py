"""The chart of a grid: places on two axes that hold every point, its limits and the unedited model."""

import math
from dataclasses import replace

import pytest

from audit.reports.html.grid_chart import BOTTOM, LEFT, RIGHT, TOP, grid_chart
from audit.reports.workflows.grid_shares import GridShares
from audit.verdicts.evidence import Kept
from tests.reports.html.grids import SameShares, small_grid
from tests.workflows.grid.made_results import graded, graded_sequence, made


def test_more_edits_are_on_the_right_and_less_kept_is_below() -> None:
    chart = grid_chart(small_grid(), GridShares())
    assert chart is not None and chart.kept
    lines = {line.name: line for line in chart.lines}
    one, ten, hundred = lines["rome, instance-sequential"].points
    assert one.x < ten.x < hundred.x and one.y < ten.y < hundred.y
    assert ten.x - one.x == pytest.approx(hundred.x - ten.x, abs=0.02)  # a logarithmic axis
    assert one.y == pytest.approx(chart.unedited, abs=1)
    for line in chart.lines:
        for point in line.points:
            assert point.lower is not None and point.upper is not None
            assert LEFT <= point.x <= RIGHT and TOP <= point.upper <= point.y <= point.lower <= BOTTOM
    assert [label for _, label in chart.counts] == ["1", "10", "100"]
    levels = [label for _, label in chart.levels]
    assert levels[0] == "0" and "1" in levels


def test_editors_have_colors_modes_dashes_and_restraints_marks() -> None:
    cells = [*small_grid(), graded("memit", "batch-sequential", 100, 0.5, batch_size=50)]
    chart = grid_chart(cells, GridShares())
    assert chart is not None
    looks = {line.name: (line.color, line.dash, line.mark) for line in chart.lines}
    assert looks["memit, batch-single"] == (1, "dotted", "circle")
    assert looks["memit, batch-sequential of 50"] == (1, "dashdot", "circle")
    assert looks["rome, instance-sequential"] == (2, "solid", "circle")
    assert looks["rome + rect:0.4, instance-sequential"] == (2, "solid", "square")


def test_controls_other_seeds_and_single_instances_are_not_drawn() -> None:
    cells = [*small_grid(), graded("rome", "instance-single", 5, 0.9), graded("rome", "batch-single", 5, 0.9, seed=1)]
    chart = grid_chart(cells, GridShares())
    assert chart is not None and len(chart.lines) == 3
    assert grid_chart([graded("identity", "batch-single", 1, 1.0)], GridShares()) is None


def test_the_band_is_the_mean_of_the_noise_floors_over_the_heights() -> None:
    result = graded("rome", "instance-sequential", 10, 0.8)
    result = replace(result, noise={name: replace(one, floor=0.02) for name, one in result.noise.items()})
    shares = GridShares()
    heights = [table.height for table in shares.of(result).tables.values()]
    chart = grid_chart([result], shares)
    assert chart is not None and chart.band is not None
    assert chart.band[2] == pytest.approx(sum(0.02 / height for height in heights) / 2)
    assert chart.band[0] < chart.unedited < chart.band[1]
    noiseless = grid_chart([replace(result, noise={})], shares)
    assert noiseless is not None and noiseless.band is None


def test_an_infinite_limit_ends_at_the_edge() -> None:
    result = graded("rome", "instance-sequential", 10, 0.8)

    class Endless(SameShares):
        def of(self, result):  # type: ignore[no-untyped-def]
            found = super().of(result)
            found.__dict__["mean"] = Kept(0.8, 0.7, math.inf)
            return found

    chart = grid_chart([result], Endless(result))
    assert chart is not None and chart.lines[0].points[0].upper == TOP


def test_one_number_of_edits_and_a_model_that_gained_have_a_place() -> None:
    chart = grid_chart([made("rome", "instance-sequential", 10, 0.99)], GridShares())
    assert chart is not None and not chart.kept
    (point,) = chart.lines[0].points
    assert LEFT < point.x < RIGHT and chart.unedited < point.y <= BOTTOM and point.lower is None
    assert grid_chart(graded_sequence("rome", {1: 1.0, 10: 0.5}), GridShares()) is not None
