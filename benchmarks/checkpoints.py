"""Time a further edited model of an edit plan that shares work with the base model.

    OMP_NUM_THREADS=1 python -m benchmarks.checkpoints [--shape pocket-llama gpt2-small] [--limit 40] [--rounds 3]

The edit plan is a set of separate ROME edits in the middle block. The base model and the first edited model answer the
items of an ability; then each further edited model does so without sharing, with sharing, and without again (A B A).
The answers must be equal. Seconds cover the whole evaluation, including applying and reverting the patch, parsing and
scoring.

The saving depends on how many answers of the base model the edited model keeps. A well edited trained model keeps most
of them. A random model has no margin between its tokens, so a full ROME edit changes every answer; weaker edits are
measured beside it. The answers of a random model never end by themselves and are cut after a few tokens.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter, process_time

import torch
from rich.console import Console
from rich.table import Table

from audit.abilities import ABILITIES, load_ability
from audit.abilities.contract import Answers
from audit.abilities.data.sources import PocketSource, items
from audit.answering.answers import Reuse, ask
from audit.editors.methods.rome import Rome
from audit.edits.sources import load_requests
from audit.models.language_model import LanguageModel
from audit.models.loading import load_language_model, pocket_names
from audit.models.patches import LowRankDelta, Patch, WeightPatch
from benchmarks.editing import machine
from benchmarks.random_models import SHAPES, build, published_contexts

RESULTS = Path(__file__).parent / "results"
BAR = 0.65  # of the seconds of a full evaluation
STRENGTHS = (0.03, 0.1, 1.0)  # shares of an edit of a random model: most, some and hardly any answers stay as they were
QUICKLY = {"covariance": "identity", "steps": "3"}  # for random models: any change of the block will do


@dataclass(frozen=True)
class Result:
    """Median seconds of one edited model without and with sharing, their ratio, and how many drafts were kept."""

    shape: str
    ability: str
    items: int
    full_processor: float
    shared_processor: float
    ratio_processor: float
    full_wall: float
    shared_wall: float
    ratio_wall: float
    drafts: int
    stood: int
    same_answers: bool


@dataclass(frozen=True)
class Seconds:
    """Processor and wall seconds."""

    processor: float
    wall: float


def prepare(shape: str, layer: int | None, edits: int) -> tuple[LanguageModel, list[Patch]]:
    """The model and one patch for each request, all in one block (the middle one by default)."""
    random = shape not in pocket_names()
    lm = build(shape, "cpu", torch.float32) if random else load_language_model(shape, device="cpu")
    config = {
        **({"covariance": "identity"} if random else {}),
        "layer": str(lm.anatomy.depth // 2 if layer is None else layer),
    }
    editor = Rome(config, contexts=published_contexts()[0]) if random else Rome(config)
    requests = load_requests("pocket").draw(edits, 0).requests
    return lm, [editor.edit(lm, [request]) for request in requests]


def weakened(patch: Patch, strength: float) -> Patch:
    """The patch scaled by `strength`."""
    if strength == 1:
        return patch
    assert isinstance(patch, WeightPatch)
    deltas = {
        name: LowRankDelta(strength * delta.left, delta.right)
        for name, delta in patch.deltas.items()
        if isinstance(delta, LowRankDelta)
    }
    return WeightPatch(deltas, patch.transposed)


def said(asked: Answers) -> list[str]:
    """The answers to compare: texts, or the numbers of the chosen options."""
    return [
        answer.text if isinstance(raw, list) else raw["text"]
        for answer, raw in zip(asked.answers, asked.raw, strict=True)
    ]


def measure(
    shape: str, lm: LanguageModel, patches: Sequence[Patch], ability_name: str, limit: int, rounds: int, cut: int | None
) -> Result:
    """Time one ability over the further edited models."""
    ability = load_ability(ability_name)
    if cut is not None and ability.decoding is not None:
        ability.decoding = replace(ability.decoding, max_new_tokens=min(cut, ability.decoding.max_new_tokens))
    asked_items = items(ability, PocketSource(), limit, 0)
    reuse = Reuse.of(lm, patches)
    ask(lm, ability, asked_items, reuse=reuse)
    ask(lm, ability, asked_items, patch=patches[0], reuse=reuse)
    reuse.counts.drafts = reuse.counts.drafts_stood = 0
    seconds: tuple[list[Seconds], list[Seconds]] = ([], [])  # without and with sharing
    same = True

    def timed(patch: Patch, shared: bool) -> list[str]:
        wall, processor = perf_counter(), process_time()
        asked = ask(lm, ability, asked_items, patch=patch, reuse=reuse if shared else None)
        seconds[shared].append(Seconds(process_time() - processor, perf_counter() - wall))
        return said(asked)

    for _ in range(rounds):
        for patch in patches[1:]:
            before, with_sharing, after = timed(patch, False), timed(patch, True), timed(patch, False)
            same = same and before == with_sharing == after
    full, shared = (
        Seconds(statistics.median(s.processor for s in of), statistics.median(s.wall for s in of)) for of in seconds
    )
    return Result(
        shape,
        ability_name,
        len(asked_items),
        full.processor,
        shared.processor,
        shared.processor / full.processor,
        full.wall,
        shared.wall,
        shared.wall / full.wall,
        reuse.counts.drafts,
        reuse.counts.drafts_stood,
        same,
    )


def summed(results: Sequence[Result]) -> Result:
    """The sum over the abilities."""
    full_processor, shared_processor = sum(r.full_processor for r in results), sum(r.shared_processor for r in results)
    full_wall, shared_wall = sum(r.full_wall for r in results), sum(r.shared_wall for r in results)
    return Result(
        results[0].shape,
        "all",
        sum(r.items for r in results),
        full_processor,
        shared_processor,
        shared_processor / full_processor,
        full_wall,
        shared_wall,
        shared_wall / full_wall,
        sum(r.drafts for r in results),
        sum(r.stood for r in results),
        all(r.same_answers for r in results),
    )


def show(results: Sequence[Result], console: Console) -> None:
    """One row an ability, with the bar beside their sum."""
    table = Table(title="a further checkpoint of an edit plan, seconds")
    columns = ("shape", "ability", "items", "full", "shared", "ratio", "wall ratio", "bar", "stood", "same answers")
    for column in columns:
        table.add_column(column, justify="left" if column in ("shape", "ability") else "right")
    for result in results:
        is_all = result.ability == "all"
        missed = is_all and result.ratio_processor > BAR
        table.add_row(
            result.shape,
            result.ability,
            str(result.items),
            f"{result.full_processor:.2f}",
            f"{result.shared_processor:.2f}",
            f"{result.ratio_processor:.2f}" + (" [bold]missed[/bold]" if missed else ""),
            f"{result.ratio_wall:.2f}",
            f"≤ {BAR}" if is_all else "",
            f"{result.stood}/{result.drafts}" if result.drafts else "",
            "yes" if result.same_answers else "[bold]no[/bold]",
        )
    console.print(table)


def main() -> None:
    """Measure, print a table, and keep the numbers under benchmarks/results."""
    parser = argparse.ArgumentParser(description="Time a further checkpoint of an edit plan.")
    parser.add_argument("--shape", nargs="+", choices=(*pocket_names(), *SHAPES), default=["pocket-llama"])
    parser.add_argument("--abilities", nargs="+", choices=tuple(ABILITIES), default=list(ABILITIES))
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--edits", type=int, default=3, help="checkpoints of the edit plan; the first is not timed")
    parser.add_argument("--layer", type=int, help="the block that is edited; the middle one by default")
    parser.add_argument("--cut", type=int, default=24, help="the longest answer of a random shape, in tokens")
    parser.add_argument("--strength", type=float, nargs="+", default=STRENGTHS, help="of a random shape's edits")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    console = Console()
    for shape in given.shape:
        random = shape not in pocket_names()
        lm, patches = prepare(shape, given.layer, given.edits)
        cut = given.cut if random else None
        path = RESULTS / f"checkpoints-{shape}.json"
        kept = json.loads(path.read_text(encoding="utf-8"))["results"] if path.is_file() else {}
        for strength in given.strength if random else (1.0,):
            plan = [weakened(patch, strength) for patch in patches]
            results = [measure(shape, lm, plan, name, given.limit, given.rounds, cut) for name in given.abilities]
            results.append(summed(results))
            show(results, console)
            settings = {
                "rounds": given.rounds,
                "longest answer": cut,
                "checkpoints": given.edits,
                "first edited block": Reuse.of(lm, plan).lower.first_edited,
                "blocks": lm.anatomy.depth,
            }
            abilities = {result.ability: asdict(result) for result in results}
            kept[f"strength {strength:g}, {given.limit} items"] = {"settings": settings, "abilities": abilities}
            text = json.dumps({"machine": machine(), "results": kept}, indent=2)
            path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
