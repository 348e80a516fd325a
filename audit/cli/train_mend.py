"""`audit train-mend`: train MEND's editing network for a model, resumably, and measure it on held-out edits."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from audit.errors import AuditError


def train_mend(
    model: Annotated[str, typer.Option(help="a pocket model, a folder or a hub id")] = "pocket-gpt2",
    out: Annotated[Path | None, typer.Option(help="the network's folder (default: mend-MODEL here)")] = None,
    steps: Annotated[int, typer.Option(min=1, help="at most so many steps of Adam")] = 1000,
    edits: Annotated[
        str | None, typer.Option(help="training edits: ZsRE, CounterFact or our own schema (pocket models need none)")
    ] = None,
    texts: Annotated[
        str | None, typer.Option(help="text to keep unchanged (default: the edits' neighbourhood probes)")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="seed of the network and of what is drawn")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="go on from the checkpoint in --out")] = False,
    setting: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="a training setting, such as layers=45-47")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N, mps")] = "auto",
) -> None:
    """Train the network that the editor mend needs; every model needs one of its own."""
    from audit.reports.progress import on_terminal
    from audit.workflows.train_mend import MendCourse, follow  # brings torch

    overrides: dict[str, str] = {}
    for text in setting or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise AuditError(f"--setting {text!r}: write KEY=VALUE, such as rank=64.")
        overrides[key.strip()] = value
    folder = out or Path(f"mend-{Path(model).name}")
    course = MendCourse(model, folder, steps, edits, texts, seed, resume, device, overrides)
    trained = follow(course, on_terminal(sys.stderr))
    for name, scores in trained.card["measured"].items():
        shown = ", ".join(
            f"{measure.removesuffix('_autoregressive')} {value:.2f}"
            for measure, value in scores.items()
            if measure.endswith("_autoregressive")
        )
        typer.echo(f"{name}: {shown}")
    typer.echo(f"wrote {folder}; use it with --editor mend --editor-config weights={folder}")
