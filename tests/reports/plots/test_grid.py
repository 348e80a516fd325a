"""Curves: files that hold the series they should."""

from pathlib import Path

from audit.reports.plots.grid import ability_panels, draw_grid, kept_panels, mean_drops
from audit.reports.workflows.grid_shares import GridShares
from tests.workflows.grid.made_results import graded, graded_sequence, made, sequence

RESULTS = [
    *sequence("rome", {1: 0.9, 10: 0.5}),
    *sequence("rome", {1: 0.9, 10: 0.6}, restraint="rect:0.4"),
    made("rome", "instance-single", 3, 0.9),
    *sequence("kn", {1: 0.0}),
]


def test_every_model_gets_two_figures_in_two_formats(tmp_path: Path) -> None:
    files = draw_grid([*RESULTS, *sequence("rome", {1: 0.9}, model="pocket-llama")], tmp_path)
    assert sorted(file.name for file in files) == sorted(
        f"{kind}-{model}.{form}"
        for kind in ("abilities", "mean-drop")
        for model in ("pocket-gpt2", "pocket-llama")
        for form in ("png", "svg")
    )
    assert all(file.stat().st_size > 1000 for file in files)


def test_a_panel_shows_every_ability_from_the_unedited_model_on() -> None:
    figure = ability_panels("pocket-gpt2", RESULTS)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["kn, instance-sequential", "rome, instance-sequential", "rome + rect:0.4, instance-sequential"]
    lines = {str(line.get_label()): line for line in figure.axes[1].get_lines()}
    assert set(lines) == {"reasoning", "sentiment", "efficacy right after the edit"}
    assert [list(axis) for axis in lines["reasoning"].get_data()] == [[0, 1, 10], [0.9, 0.9, 0.5]]


def test_the_mean_drop_has_a_line_for_every_series_of_several_cells() -> None:
    (axes,) = mean_drops("pocket-gpt2", RESULTS).axes
    labels = [line.get_label() for line in axes.get_lines()]
    assert labels[:2] == ["rome, instance-sequential", "rome + rect:0.4, instance-sequential"]


def test_equal_results_give_equal_files(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        draw_grid(RESULTS, tmp_path / folder)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_shares_have_a_line_with_a_band_for_each_series_and_a_panel_for_each_ability(tmp_path: Path) -> None:
    cells = [
        *graded_sequence("rome", {1: 1.0, 10: 0.6}),
        *graded_sequence("rome", {1: 0.5}, seed=1),
        graded("memit", "batch-single", 10, 0.9),
        graded("identity", "batch-single", 1, 1.0),
    ]
    figure = kept_panels("m", cells, GridShares())
    assert [axes.get_title() for axes in figure.axes[:3]] == ["mean over these abilities", "reasoning", "sentiment"]
    lines = {str(line.get_label()): line for line in figure.axes[0].get_lines()}
    assert {"rome, instance-sequential", "memit, batch-single"} <= set(lines)
    assert not any("identity" in name or "seed" in name for name in lines)
    places, kept = lines["rome, instance-sequential"].get_data()
    assert list(places) == [1, 10]
    assert kept[0] > 0.97 > 0.65 > kept[1] > 0.55
    assert len(figure.axes[0].collections) == 2  # a band and a bar
    assert "kept-pocket-gpt2.png" in {file.name for file in draw_grid(cells, tmp_path)}
