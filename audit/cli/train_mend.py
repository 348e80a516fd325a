"""`audit train-mend`: train the editing network of MEND for a model and measure it on held-out edits."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from audit.cli.command_line import takes
from audit.settings.options import AuditSettings
from audit.settings.values import parse_pairs


@takes(("seed", "device"), project=False)
def train_mend(
    settings: AuditSettings,
    model: Annotated[str, typer.Option(help="pocket model, local folder or Hub id")] = "pocket-gpt2",
    out: Annotated[Path | None, typer.Option(help="folder for the network (default: ./mend-MODEL)")] = None,
    steps: Annotated[int, typer.Option(min=1, help="maximum number of training steps (Adam)")] = 1000,
    edits: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="training edits in any supported format; repeatable (default: the pocket world, for its models)",
        ),
    ] = None,
    texts: Annotated[
        str | None,
        typer.Option(help="file of text whose predictions should not change, besides the neighborhood probes"),
    ] = None,
    variants: Annotated[
        int,
        typer.Option(min=0, help="further lessons made from each training edit: other targets, other edits' prompts"),
    ] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="continue from the checkpoint in --out")] = False,
    setting: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="a training setting, such as layers=45-47; repeatable")
    ] = None,
) -> None:
    """Train the editing network of the editor mend. Every model needs its own network."""
    from audit.reports.progress import on_terminal
    from audit.workflows.train_mend import MendCourse, train  # imports torch

    overrides = parse_pairs("--setting", setting or [], example="rank=64")
    folder = out or Path(f"mend-{Path(model).name}")
    course = MendCourse(
        model, folder, steps, tuple(edits or ()), texts, variants, settings.seed, resume, settings.device, overrides
    )
    trained = train(course, on_terminal(sys.stderr))
    for name, scores in trained.card["measured"].items():
        shown = ", ".join(
            f"{measure.removesuffix('_autoregressive')} {value:.2f}"
            for measure, value in scores.items()
            if measure.endswith("_autoregressive")
        )
        typer.echo(f"{name}: {shown}")
    typer.echo(f"wrote {folder}; use it with --editor mend --editor-config weights={folder}")
