"""`audit locate`: the layers that recall facts, which an editor should write."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from audit.cli.command_line import takes
from audit.progress import Stages
from audit.settings.options import AuditSettings
from audit.settings.values import parse_folder, short_name

DEFAULT_SAMPLES = 5


@takes(("model", "revision", "seed", "device", "dtype", "store", "no_store"), project=False)
def locate(
    settings: AuditSettings,
    facts: Annotated[str, typer.Option(help="'pocket', or a file of edit requests with target_true")] = "pocket",
    count: Annotated[int | None, typer.Option(min=1, help="facts to trace (default: 100, or all)")] = None,
    noise_samples: Annotated[int, typer.Option(min=1, help="corrupted runs per fact")] = DEFAULT_SAMPLES,
    out: Annotated[Path | None, typer.Option(help="folder for the results (default: reports/locate-<model>)")] = None,
) -> None:
    """Trace facts through a model (Meng et al. 2022) and recommend the layers to edit.

    The recommended layers are kept in the store. Editors use them for models without published or measured layers.
    """
    folder = parse_folder("--out", str(out or Path("reports") / f"locate-{short_name(settings.model)}"))

    from rich.console import Console

    from audit.editors.stages.editor_settings import LocatedLayers
    from audit.edits.sources import load_requests
    from audit.measures.layer_recommendation import recommend_layers
    from audit.models.loading import load_language_model
    from audit.reports.progress import on_terminal
    from audit.reports.workflows.locate import located_table, sentences, write_located
    from audit.store.content import store_at

    requests = load_requests(facts)
    store = store_at(settings.store) if settings.use_store else None
    lm = load_language_model(
        settings.model, revision=settings.revision, device=settings.device, dtype=settings.dtype, store=store
    )
    kept = LocatedLayers(store) if store else None
    with Stages(on_terminal(sys.stderr))("tracing", "facts traced") as done:
        located = recommend_layers(
            lm, requests, count=count, seed=settings.seed, samples=noise_samples, kept=kept, progress=done
        )
    Console().print(located_table(located))
    typer.echo("\n".join(sentences(located)))
    typer.echo("\n".join(f"wrote {file}" for file in write_located(located, folder)))
