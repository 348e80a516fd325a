"""Curves: files that hold the series they should."""

from pathlib import Path

from audit.reports.plots.grid import ability_panels, draw_grid, mean_drops
from tests.workflows.grid.made_results import made, sequence

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
