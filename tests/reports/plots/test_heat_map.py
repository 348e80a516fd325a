"""Causal tracing as pictures, tables and JSON: everything measured is there, and readable."""

import json
from pathlib import Path

import pytest
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

from audit.errors import AuditError
from audit.measures.causal_tracing import KINDS, TOKEN_ROLES, Effects
from audit.measures.layer_recommendation import SUBJECT_LAST, TracingResult, recommend
from audit.reports.plots.heat_map import draw_heat_maps, heat_maps, panel_title
from audit.reports.terminal import text_console, text_of
from audit.reports.verdict_sentences import points
from audit.reports.workflows.locate import located_json, located_markdown, located_table, sentences, write_located
from tests.reports.html.pages import Page


def located_with(depth: int = 6, window: int = 1) -> TracingResult:
    """A hill in the middle at the subject's last token; no fact has middle subject tokens."""
    hill = tuple(0.3 - 0.1 * abs(layer - depth // 2) for layer in range(depth))
    rows = tuple(
        None if role == 1 else hill if role == SUBJECT_LAST else (0.01,) * depth for role in range(len(TOKEN_ROLES))
    )
    counts = tuple(0 if role == 1 else 40 for role in range(len(TOKEN_ROLES)))
    effects = Effects(40, 0.95, 0.08, 5, window, counts, dict.fromkeys(KINDS, rows))
    return TracingResult("./models/tiny", "facts.jsonl", 50, 0, effects, recommend(effects))


@pytest.mark.parametrize(("depth", "window"), [(1, 1), (6, 1), (48, 10)])
def test_the_figure_says_what_it_shows(depth: int, window: int) -> None:
    figure = heat_maps(located_with(depth, window))
    try:
        panels = figure.axes[:3]
        assert [axes.get_title() for axes in panels] == [panel_title(kind, window) for kind in KINDS]
        roles = [label.get_text() for label in panels[0].get_yticklabels()]
        assert [role.split("\n")[0] for role in roles] == list(TOKEN_ROLES)
        assert roles[1].endswith("(0 facts)")
        assert "tiny" in figure.get_suptitle() and "40 of 50 facts recalled" in figure.get_suptitle()
        bars = figure.axes[3:]
        assert [bar.get_ylabel() for bar in bars] == ["average indirect effect (probability)"] * 3
        assert all("layer" in axes.get_xlabel() for axes in panels)
    finally:
        plt.close(figure)


def test_the_recommended_layers_are_outlined_in_the_mlp_panel() -> None:
    figure = heat_maps(located_with())
    try:
        frames = [[patch for patch in axes.patches if isinstance(patch, Rectangle)] for axes in figure.axes[:3]]
        assert [len(found) for found in frames] == [0, 2, 0]
        memit, rome = frames[1]
        assert (round(rome.get_x() + rome.get_width() / 2), round(rome.get_y() + 0.4)) == (3, SUBJECT_LAST)
        assert memit.get_x() == pytest.approx(2 - 0.46) and memit.get_width() == pytest.approx(1 + 0.92)
    finally:
        plt.close(figure)


def test_equal_results_give_equal_files(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        files = draw_heat_maps(located_with(), tmp_path / folder)
        assert [file.name for file in files] == ["causal-tracing.png", "causal-tracing.svg"]
        assert plt.imread(files[0]).shape[1] > 1500  # (rows, columns, channels)
    for name in ("causal-tracing.png", "causal-tracing.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_the_folder_holds_every_number(tmp_path: Path) -> None:
    located = located_with()
    files = write_located(located, tmp_path / "new" / "folder")
    names = ["locate.json", "table.md", "causal-tracing.png", "causal-tracing.svg", "locate.html"]
    assert [file.name for file in files] == names
    page = Page(files[-1].read_text(encoding="utf-8"))
    assert page.wrong == [] and len(page.all("table")) == 3 and len(page.all("img")) == 1
    assert all(sentence in page.one("main").text for sentence in sentences(located))
    content = json.loads(files[0].read_text(encoding="utf-8"))
    assert (content["asked"], content["recalled"], content["recommendation"]["memit"]) == (50, 40, [2, 3])
    assert content["average_indirect_effect"]["mlp"]["last subject token"] == pytest.approx(
        list(located.recommendation.effects)
    )
    assert content["average_indirect_effect"]["block"]["middle subject tokens"] is None
    (tmp_path / "file").touch()
    with pytest.raises(AuditError, match=r"--out .*file/folder: it cannot be written"):
        write_located(located, tmp_path / "file" / "folder")


def test_the_tables_show_what_was_not_there_as_a_dash() -> None:
    located = located_with()
    text = located_markdown(located)
    assert "| last subject token | 40 | 0.000 | 0.100 | 0.200 | 0.300 | 0.200 | 0.100 |" in text
    assert "| middle subject tokens | 0 | – | – | – | – | – | – |" in text
    assert "MLP output restored: average indirect effect (probability), by layer" in text
    assert "MLP output restored in 10 layers around" in located_markdown(located_with(48, 10))
    assert located_table(located).row_count == len(TOKEN_ROLES)
    assert json.loads(located_json(located))["schema_version"] == 1


@pytest.mark.parametrize(("depth", "window"), [(12, 1), (30, 10), (48, 10)])
def test_a_terminal_shows_every_number_of_a_deep_model(depth: int, window: int) -> None:
    located = located_with(depth, window)
    console = text_console(100, color=False)
    console.print(located_table(located))
    shown = text_of(console)
    row = located.effects.by_kind["mlp"][SUBJECT_LAST]
    assert row is not None and len(row) == depth
    assert all(points(value) in shown for value in row)
    assert "…" not in shown


def test_the_sentences_say_how_many_facts_and_what_follows() -> None:
    text = " ".join(sentences(located_with()))
    assert "recalls 40 of 50 facts (facts.jsonl)" in text
    assert "have the largest effect at layer 3 (0.300), and at least half of it in layers 2-4." in text
    assert "Recommended: layer=3 for rome and variants, layers=2-3 for memit and variants." in text
