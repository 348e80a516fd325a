"""`audit locate`: where in a model facts are recalled, and which layers an editor should write."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from audit.settings.options import DTYPES
from audit.settings.values import DEVICES, parse_choice, parse_device, parse_folder

DEFAULT_SAMPLES = 5


def locate(
    model: Annotated[str, typer.Option(help="a pocket model, a local folder or a hub id")] = "pocket-llama",
    revision: Annotated[str | None, typer.Option(help="the branch, tag or commit of a hub model")] = None,
    facts: Annotated[str, typer.Option(help="'pocket' or a file of edit requests with target_true")] = "pocket",
    count: Annotated[int | None, typer.Option(min=1, help="facts to ask (default: 100, or all)")] = None,
    seed: Annotated[int, typer.Option(min=0, help="seed of the facts and of the noise")] = 0,
    noise_samples: Annotated[int, typer.Option(min=1, help="corrupted runs a fact")] = DEFAULT_SAMPLES,
    device: Annotated[str, typer.Option(help=", ".join(DEVICES))] = "auto",
    dtype: Annotated[str, typer.Option(help=", ".join(DTYPES))] = "auto",
    out: Annotated[Path | None, typer.Option(help="where files land (default: reports/locate-<model>)")] = None,
    store: Annotated[Path | None, typer.Option(help="where the layers are kept for editors (default: as runs)")] = None,
    no_store: Annotated[bool, typer.Option("--no-store", help="keep nothing for editors")] = False,
) -> None:
    """Trace facts through a model (Meng et al. 2022) and recommend the layers to write.

    Editors whose layers nobody has published or measured for the model take the recommended ones from then on.
    """
    parse_device(device)
    parse_choice("--dtype", dtype, DTYPES)
    name = model.rstrip("/").rsplit("/", 1)[-1]
    folder = parse_folder("--out", str(Path("reports") / f"locate-{name}" if out is None else out))

    from rich.console import Console

    from audit.editors.stages.editor_settings import LocatedLayers
    from audit.edits.sources import load_requests
    from audit.measures.layer_recommendation import recommend_layers
    from audit.models.loading import load_language_model
    from audit.reports.progress import on_terminal
    from audit.reports.workflows.locate import located_table, sentences, write_located
    from audit.store.content import store_at

    requests = load_requests(facts)
    lm = load_language_model(model, revision=revision, device=device, dtype=dtype)
    kept = None if no_store else LocatedLayers(store_at(store))
    watcher = on_terminal(sys.stderr)
    with nullcontext() if watcher is None else watcher.stage("facts traced") as done:
        located = recommend_layers(
            lm, requests, count=count, seed=seed, samples=noise_samples, kept=kept, progress=done
        )
    console = Console()
    console.print(located_table(located))
    for sentence in sentences(located):
        typer.echo(sentence)
    for file in write_located(located, folder):
        typer.echo(f"wrote {file}")
