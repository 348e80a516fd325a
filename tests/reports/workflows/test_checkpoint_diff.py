"""What a checkpoint changed, as sentences, table, files and picture."""

import csv
import json
import math
from base64 import b64decode
from pathlib import Path

import pytest
from matplotlib import pyplot as plt
from rich.console import Console

from audit.errors import AuditError
from audit.measures.checkpoint_diff import CheckpointDiff, TensorChange
from audit.measures.integrity import THRESHOLDS
from audit.reports.plots.weight_changes import MOST_SPECTRA, change_plot, draw_changes
from audit.reports.workflows.checkpoint_diff import (
    MOST_ON_PAGE,
    MOST_ROWS,
    diff_csv,
    diff_html,
    diff_json,
    diff_markdown,
    diff_table,
    sentences,
    write_diff,
)
from tests.reports.html.pages import Page


def change(layer: int | None, role: str, name: str, relative_norm: float, rank: int | None = 2) -> TensorChange:
    matrix = (
        {}
        if rank is None
        else {
            "spectral_norm": 3.0,
            "relative_spectral_norm": 0.25,
            "effective_rank": 1.75,
            "numerical_rank": rank,
            "singular_values": (3.0, 1.0, 1e-9)[: rank + 1],
        }
    )
    shares = {threshold: 0.5 if threshold < 0.5 else 0.0 for threshold in THRESHOLDS}
    shape = (16,) if rank is None else (16, 32)
    return TensorChange(name, layer, role, shape, 2.0, relative_norm, 0.125, shares, relative_norm < 1e-6, **matrix)


WHERE = (
    change(4, "MLP", "model.layers.4.mlp.down_proj.weight", 0.5),
    change(5, "MLP", "model.layers.5.mlp.down_proj.weight", 0.25, 1),
    change(6, "attention", "model.layers.6.self_attn.q_proj.weight", 0.125),
    change(None, "norm", "model.norm.weight", 1e-8, None),
)


def diff(*changes: TensorChange, **told: object) -> CheckpointDiff:
    return CheckpointDiff("lab/base", "./made/edited", "checkpoint", 99, 8, changes or WHERE, **told)  # type: ignore[arg-type]


def test_the_sentences_say_what_changed_and_where() -> None:
    text = " ".join(sentences(diff(stored_as="float16")))
    assert "4 of 99 tensors differ; the change is in layers 4-6 (MLP, attention)." in text
    assert "1 of the 4 tensors differ by no more than rounding (the checkpoint is stored in float16)." in text
    assert "50 % by more than 0.1, 0 % by more than 1 times themselves" in text
    assert "exp(H)" in text and "Roy & Vetterli 2007" in text
    alone = sentences(diff(change(None, "embedding", "model.embed_tokens.weight", 0.1)))
    assert "is outside the layers (embedding)" in alone[0]
    assert "in layer 5 (MLP)" in sentences(diff(WHERE[1]))[0]
    assert "in layers 4, 6 (MLP, attention)" in sentences(diff(WHERE[0], WHERE[2]))[0]


def test_the_sentences_say_that_a_model_is_quantized() -> None:
    text = " ".join(sentences(diff(quantized_as="Q4_K, Q6_K")))
    assert "./made/edited is quantized (Q4_K, Q6_K) and lab/base is not quantized: the tensors that were not" in text
    text = " ".join(sentences(diff(base_quantized_as="Q8_0")))
    assert "./made/edited is not quantized and lab/base is quantized (Q8_0): the tensors that were not edited" in text
    text = " ".join(sentences(diff(quantized_as="Q8_0", base_quantized_as="Q8_0")))
    assert "Both models are quantized (Q8_0): " in text and "do not separate" not in text
    assert "quantized" not in " ".join(sentences(diff()))
    assert json.loads(diff_json(diff(quantized_as="Q8_0")))["quantized_as"] == "Q8_0"


def test_identical_weights_are_told_in_one_sentence(tmp_path: Path) -> None:
    same = CheckpointDiff("base", "copy", "checkpoint", 99, 8, ())
    assert sentences(same) == ("The weights of copy equal those of base bit for bit: no tensor differs.",)
    assert [file.name for file in write_diff(same, tmp_path)] == ["diff.json", "diff.csv", "table.md", "diff.html"]
    assert json.loads((tmp_path / "diff.json").read_text())["identical"] is True
    attached = CheckpointDiff("base", "patch", "patch", 99, 8, (), attaches_modules=True)
    assert sentences(attached)[0].startswith("patch attaches modules to base") and len(sentences(attached)) == 2


def test_the_files_hold_every_number(tmp_path: Path) -> None:
    broken = change(7, "MLP", "model.layers.7.mlp.down_proj.weight", math.inf, None)
    whole = diff(broken, *WHERE)
    content = json.loads(diff_json(whole))
    assert (content["tensors"], content["changed"], content["kind"]) == (99, 5, "checkpoint")
    assert content["changes"][0]["relative_norm"] is None  # not finite
    first = content["changes"][1]
    assert (first["layer"], first["role"], first["shape"], first["numerical_rank"]) == (4, "MLP", [16, 32], 2)
    assert first["entry_shares"] == {"0.01": 0.5, "0.05": 0.5, "0.1": 0.5, "0.2": 0.5, "0.5": 0.0, "1": 0.0}
    rows = list(csv.DictReader(diff_csv(whole).splitlines()))
    assert [row["tensor"] for row in rows] == [one.name for one in whole.changes]
    assert (rows[0]["relative_norm"], rows[1]["relative_norm"], rows[1]["shape"]) == ("inf", "0.5", "16×32")
    assert (rows[4]["layer"], rows[4]["spectral_norm"], rows[1]["entries_over_0.2"]) == ("", "", "0.5")
    files = write_diff(whole, tmp_path / "new" / "folder")
    names = ["diff.json", "diff.csv", "table.md", "changes.png", "changes.svg", "diff.html"]
    assert [file.name for file in files] == names and all(file.stat().st_size for file in files)
    (tmp_path / "file").touch()
    with pytest.raises(AuditError, match=r"--out .*file/folder: it cannot be written"):
        write_diff(whole, tmp_path / "file" / "folder")


def test_the_markdown_has_a_line_a_tensor() -> None:
    text = diff_markdown(diff())
    assert text.startswith("# What edited changed in base\n")
    line = (
        "| model.layers.5.mlp.down_proj.weight | 5 | MLP | 16×32 | 0.25 | 3 | 0.25 | 1.8 | 1 | 50.0 % | 0.0 % | 0.125 |"
    )
    assert line in text
    assert "| model.norm.weight | – | norm | 16 | 1e-08 | – | – | – | – | 50.0 % | 0.0 % | 0.125 |" in text


def test_the_table_fits_a_terminal_and_says_what_it_leaves_out() -> None:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(diff_table(diff()))
    lines = console.export_text().splitlines()
    assert any("mlp.down_proj" in line and "0.25" in line for line in lines)
    assert all("…" not in line for line in lines)
    many = diff(*(change(i, "MLP", f"model.layers.{i}.mlp.down_proj.weight", 0.1) for i in range(MOST_ROWS + 3)))
    table = diff_table(many)
    assert table.row_count == MOST_ROWS and str(table.caption).startswith("and 3 more")


def test_the_figure_shows_where_how_many_directions_and_which_entries() -> None:
    figure = change_plot(diff())
    try:
        norms, spectra, shares = figure.axes
        assert [text.get_text() for text in norms.get_legend().get_texts()] == ["attention", "MLP", "norm"]
        assert sum(len(marks.get_offsets()) for marks in norms.collections) == 4
        assert [len(line.get_xdata()) for line in spectra.lines] == [
            2,
            1,
            2,
        ]  # what is no more than rounding is left out
        assert "(rank 1, effective 1.8)" in spectra.get_legend().get_texts()[1].get_text()
        assert all(list(line.get_ydata())[-1] == 0 for line in shares.lines)
        assert "edited changed in base: 4 of 99 tensors" in figure.get_suptitle()
        assert all(axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes)
    finally:
        plt.close(figure)


@pytest.mark.parametrize(
    "changes",
    [
        (change(None, "norm", "model.norm.weight", math.inf, None),),
        (change(3, "MLP", "model.layers.3.mlp.down_proj.weight", 1e-9, 0),),
        tuple(change(i % 8, "MLP", f"model.layers.{i % 8}.m{i}.weight", 10.0 ** (i - 6)) for i in range(12)),
    ],
    ids=["nothing finite", "rounding alone", "many"],
)
def test_any_change_can_be_drawn(changes: tuple[TensorChange, ...], tmp_path: Path) -> None:
    figure = change_plot(diff(*changes))
    assert len(figure.axes[1].lines) <= MOST_SPECTRA
    plt.close(figure)
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        draw_changes(diff(*changes), tmp_path / folder)
    for name in ("changes.png", "changes.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_the_page_has_the_sentences_the_table_and_the_figure(tmp_path: Path) -> None:
    write_diff(diff(), tmp_path)
    page = Page((tmp_path / "diff.html").read_text(encoding="utf-8"))
    assert page.wrong == [] and page.one("h1").text == "What edited changed in base"
    assert all(sentence in page.one("main").text for sentence in sentences(diff()))
    assert [one.text for one in page.all("li")] == ["base: lab/base", "edited: ./made/edited (checkpoint)"]
    assert [one.text for one in page.all("th", "left") if one.attributes["scope"] == "row"] == [
        one.name for one in WHERE
    ]
    figure = (page.one("img").attributes["src"] or "").removeprefix("data:image/svg+xml;base64,")
    assert b64decode(figure).decode() == (tmp_path / "changes.svg").read_text(encoding="utf-8")


def test_of_very_many_tensors_the_page_has_the_largest_changes() -> None:
    many = [change(k, "MLP", f"layer.{k}.weight", 1 / (1 + k)) for k in range(MOST_ON_PAGE + 5)]
    page = Page(diff_html(diff(*many), ""))
    assert len(page.all("tr")) == 1 + MOST_ON_PAGE and not page.all("img")
    assert page.one("p", "quiet").text == "and 5 more with smaller changes; diff.csv has all"
