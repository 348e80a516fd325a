"""`audit diff`: what a checkpoint that somebody else edited changed in its base model."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from audit.settings.options import DTYPES
from audit.settings.values import DEVICES, parse_choice, parse_device, parse_folder


def diff(
    base: Annotated[str, typer.Argument(help="the model before: a pocket model, a local folder or a hub id")],
    edited: Annotated[
        str, typer.Argument(help="the model after: a checkpoint, a LoRA adapter, a saved patch or differences")
    ],
    revision: Annotated[str | None, typer.Option(help="the branch, tag or commit of a hub BASE")] = None,
    edited_revision: Annotated[str | None, typer.Option(help="the branch, tag or commit of a hub EDITED")] = None,
    device: Annotated[str, typer.Option(help=", ".join(DEVICES))] = "auto",
    dtype: Annotated[str, typer.Option(help=", ".join(DTYPES))] = "auto",
    out: Annotated[Path | None, typer.Option(help="where files land (default: reports/diff-<edited>)")] = None,
) -> None:
    """Show which tensors differ: norms, ranks, and shares of entries that changed (Gu et al. 2024).

    The two need not fit into memory together: EDITED is read tensor by tensor.
    """
    parse_device(device)
    parse_choice("--dtype", dtype, DTYPES)
    name = edited.rstrip("/").rsplit("/", 1)[-1].removesuffix(".safetensors")
    folder = parse_folder("--out", str(Path("reports") / f"diff-{name}" if out is None else out))

    from rich.console import Console

    from audit.measures.checkpoint_diff import compare
    from audit.models.checkpoints import open_checkpoint
    from audit.models.loading import load_language_model
    from audit.reports.progress import on_terminal
    from audit.reports.workflows.checkpoint_diff import diff_table, sentences, write_diff

    lm = load_language_model(base, revision=revision, device=device, dtype=dtype)
    checkpoint = open_checkpoint(lm, edited, revision=edited_revision)
    watcher = on_terminal(sys.stderr)
    with nullcontext() if watcher is None else watcher.stage("tensors measured") as done:
        found = compare(lm, checkpoint, progress=done)
    if found.changes:
        Console().print(diff_table(found))
    for sentence in sentences(found):
        typer.echo(sentence)
    for file in write_diff(found, folder):
        typer.echo(f"wrote {file}")
