"""`audit diff`: the changes between a base model and an edited checkpoint."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from audit.cli.command_line import takes
from audit.progress import Stages
from audit.settings.options import AuditSettings
from audit.settings.values import parse_folder, short_name


@takes(("revision", "device", "dtype"), project=False)
def diff(
    settings: AuditSettings,
    base: Annotated[str, typer.Argument(help="base model: a pocket model, a local folder, a GGUF file or a Hub id")],
    edited: Annotated[
        str,
        typer.Argument(
            help="edited model: a checkpoint, a GGUF file, a LoRA adapter, a saved patch or weight differences"
        ),
    ],
    edited_revision: Annotated[str | None, typer.Option(help="branch, tag or commit of EDITED on the Hub")] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the results (default: reports/diff-<edited>)")] = None,
) -> None:
    """Show which tensors differ: norms, ranks, and shares of entries that changed (Gu et al. 2024).

    EDITED is read tensor by tensor, so the two models need not fit into memory together.
    """
    name = short_name(edited).removesuffix(".safetensors").removesuffix(".gguf")
    folder = parse_folder("--out", str(Path("reports") / f"diff-{name}" if out is None else out))

    from rich.console import Console

    from audit.measures.checkpoint_diff import compare
    from audit.models.checkpoints import open_checkpoint
    from audit.models.loading import load_language_model
    from audit.reports.progress import on_terminal
    from audit.reports.workflows.checkpoint_diff import diff_table, sentences, write_diff

    lm = load_language_model(base, revision=settings.revision, device=settings.device, dtype=settings.dtype)
    checkpoint = open_checkpoint(lm, edited, revision=edited_revision)
    with Stages(on_terminal(sys.stderr))("measuring", "tensors measured") as done:
        found = compare(lm, checkpoint, progress=done)
    if found.changes:
        Console().print(diff_table(found))
    typer.echo("\n".join(sentences(found)))
    typer.echo("\n".join(f"wrote {file}" for file in write_diff(found, folder)))
