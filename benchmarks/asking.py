"""Time the asking of the eight abilities beside transformers.

    python -m benchmarks.asking [--shape pocket-llama gpt2-small] [--limit 200] [--rounds 3] [--others]

Both sides run in one process on one thread, in turn (A B A B), on the same prompts, with the same token limits and stop
strings. Each figure is the median over the rounds. The bar applies to the ratio of processor seconds, which depends
less on the load of the machine than wall seconds do; both are printed. `--others` also times continuous batching and
the static cache of transformers on a few items of one ability. A random model never writes a stop string, so all its
answers reach the token limit.

Why the audit has its own decoding loop (measured on a CPU; see benchmarks/results): `generate` copies the whole cache
at every token and keeps computing finished rows until their batch ends; `generate_batch` (paged attention) takes no
stop strings and is many times slower on a CPU; a static cache attends to its full length at every token and is slower
than a growing cache unless it is compiled. `audit.engine` replaces the loop only: the modules of the model do all
arithmetic.

    python -m benchmarks.asking --shape gpt2-xl llama-7b --device cuda --type bfloat16

times the audit alone on an accelerator, in tokens a second and as a share of the peak rate of its matrix units.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from audit.abilities import ABILITIES, load_ability
from audit.abilities.contract import Ability, Item
from audit.abilities.data.sources import PocketSource, items
from audit.engine.generation import write_answers
from audit.engine.likelihoods import rank
from audit.models.language_model import LanguageModel
from audit.models.loading import load_language_model, pocket_names
from audit.models.tokens import encode
from audit.settings.options import AuditSettings
from benchmarks.editing import machine
from benchmarks.editing_on_accelerator import is_there, matrix_rate
from benchmarks.plain_asking import continuous_texts, plain_choices, plain_texts
from benchmarks.random_models import SHAPES, build

RESULTS = Path(__file__).parent / "results"
BARS = {"pocket-llama": 2.0, "gpt2-small": 1.3}
LIMITS = {"gpt2-small": 16}  # its answers never end early, so fewer items suffice
OTHERS = "nli"


@dataclass(frozen=True)
class Asked:
    """Seconds for the items of one ability (or all of them), their ratio, and how many answers were the same."""

    ability: str
    items: int
    ours: float
    plain: float
    ratio: float
    ours_wall: float
    plain_wall: float
    same: int


@dataclass(frozen=True)
class Seconds:
    """Processor and wall seconds."""

    processor: float
    wall: float


def timed(run: Callable[[], Any]) -> tuple[Any, Seconds]:
    """The result of `run` and its duration."""
    wall, processor = perf_counter(), process_time()
    given = run()
    return given, Seconds(process_time() - processor, perf_counter() - wall)


def ask_ours(lm: LanguageModel, ability: Ability, asked: Sequence[Item]) -> list[Any]:
    """The answers of the audit: texts, or the index of the best option."""
    prompts = [ability.prompt(item) for item in asked]
    if ability.decoding is not None:
        return [answer.text for answer in write_answers(lm, prompts, ability.decoding)]
    return [best(values) for values in rank(lm, prompts, [item.choices for item in asked])]


def ask_plainly(lm: LanguageModel, ability: Ability, asked: Sequence[Item]) -> list[Any]:
    """The answers of transformers to the same items."""
    prompts = [ability.prompt(item) for item in asked]
    if ability.decoding is not None:
        return plain_texts(lm, prompts, ability.decoding)
    return [best(values) for values in plain_choices(lm, prompts, [item.choices for item in asked])]


def best(values: Sequence[float]) -> int:
    """The index of the largest."""
    return max(range(len(values)), key=values.__getitem__)


def load(shape: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> LanguageModel:
    """A pocket model, or a random one of a published shape."""
    return load_language_model(shape, device=device) if shape in pocket_names() else build(shape, device, dtype)


def compare(lm: LanguageModel, ability: Ability, asked: Sequence[Item], rounds: int) -> Asked:
    """Time both sides in turn."""
    taken: tuple[list[Seconds], list[Seconds]] = ([], [])
    given: list[list[Any]] = [[], []]
    for _ in range(rounds):
        for side, ask in enumerate((ask_ours, ask_plainly)):
            given[side], seconds = timed(lambda ask=ask: ask(lm, ability, asked))  # type: ignore[misc]
            taken[side].append(seconds)
    ours, plain = (statistics.median(one.processor for one in side) for side in taken)
    ours_wall, plain_wall = (statistics.median(one.wall for one in side) for side in taken)
    same = sum(mine == other for mine, other in zip(*given, strict=True))
    return Asked(ability.name, len(asked), ours, plain, plain / ours, ours_wall, plain_wall, same)


def summed(results: Sequence[Asked]) -> Asked:
    """The sum over the abilities."""
    ours, plain = sum(one.ours for one in results), sum(one.plain for one in results)
    return Asked(
        "all",
        sum(one.items for one in results),
        ours,
        plain,
        plain / ours,
        sum(one.ours_wall for one in results),
        sum(one.plain_wall for one in results),
        sum(one.same for one in results),
    )


def time_others(lm: LanguageModel, limit: int) -> dict[str, dict[str, Any]]:
    """Ours, `generate`, its static cache and continuous batching on one ability: seconds, and equal answers."""
    ability = load_ability(OTHERS)
    assert ability.decoding is not None
    decoding, prompts = ability.decoding, [ability.prompt(i) for i in items(ability, PocketSource(), limit, 0)]
    ways: dict[str, Callable[[], list[str]]] = {
        "ours": lambda: [answer.text for answer in write_answers(lm, prompts, decoding)],
        "generate": lambda: plain_texts(lm, prompts, decoding),
        "generate, static cache": lambda: plain_texts(lm, prompts, decoding, cache_implementation="static"),
        "generate_batch": lambda: continuous_texts(lm, prompts, decoding),
    }
    found: dict[str, dict[str, Any]] = {}
    ours: list[str] = []
    for name, way in ways.items():
        try:
            texts, seconds = timed(way)
        except (RuntimeError, ValueError, NotImplementedError, ImportError) as cause:
            found[name] = {"failed": f"{type(cause).__name__}: {cause}"[:200]}
            continue
        ours = ours or texts
        found[name] = {
            "items": len(prompts),
            **asdict(seconds),
            "same": sum(mine == other for mine, other in zip(ours, texts, strict=True)),
        }
    return found


def show(shape: str, results: Sequence[Asked], console: Console) -> None:
    """Print one row for each ability; the bar applies to the last row."""
    table = Table(title=f"asking {shape}, processor seconds (wall)")
    for column in ("ability", "items", "ours", "transformers", "ratio", "answers/s", "same"):
        table.add_column(column, justify="left" if column == "ability" else "right")
    for one in results:
        bar = f" (bar {BARS[shape]:g})" if one.ability == "all" and shape in BARS else ""
        table.add_row(
            one.ability,
            str(one.items),
            f"{one.ours:.2f} ({one.ours_wall:.2f})",
            f"{one.plain:.2f} ({one.plain_wall:.2f})",
            f"{one.ratio:.2f}{bar}",
            f"{one.items / one.ours:.1f}",
            f"{one.same}/{one.items}",
        )
    console.print(table)


def on_accelerator(shape: str, device: str, dtype: torch.dtype, limit: int, console: Console) -> None:
    """Tokens a second (read and written), and the share of what a large matrix product reaches."""
    lm = load(shape, device, dtype)
    peak = matrix_rate(device, dtype)
    blocks = [lm.model.get_submodule(path) for path in lm.anatomy.blocks]
    weights = sum(p.numel() for block in blocks for p in block.parameters() if p.dim() == 2)
    weights += lm.model.get_output_embeddings().weight.numel()
    for name in ABILITIES:
        ability = load_ability(name)
        asked = items(ability, PocketSource(), limit, 0)
        ask_ours(lm, ability, asked[:8])  # warms up
        prompts = [ability.prompt(item) for item in asked]
        read = sum(len(encode(lm.tokenizer, prompt)) for prompt in prompts)
        if ability.decoding is None:
            _, seconds = timed(lambda a=ability, i=asked: ask_ours(lm, a, i))  # type: ignore[misc]
            written = 0
        else:
            answers, seconds = timed(lambda p=prompts, d=ability.decoding: write_answers(lm, p, d))  # type: ignore[misc]
            written = sum(len(answer.ids) for answer in answers)
        rate = (read + written) / seconds.wall
        console.print(f"{shape} {name}: {rate:.0f} tokens/s, {2 * weights * rate / peak:.1%} of the matrix rate")


def main() -> None:
    """Measure, print tables, and keep the numbers under benchmarks/results."""
    parser = argparse.ArgumentParser(description="Time the asking of the eight abilities beside transformers.")
    parser.add_argument(
        "--shape", nargs="+", choices=(*pocket_names(), *SHAPES), default=["pocket-llama", "gpt2-small"]
    )
    parser.add_argument("--limit", type=int, help="items for each ability; 16 for random models")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--others", action="store_true", help="continuous batching and the static cache too")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--type", default="float32", choices=("float32", "bfloat16", "float16"))
    given = parser.parse_args()
    console = Console()
    torch.set_num_threads(given.threads)
    for shape in given.shape:
        limit = given.limit or LIMITS.get(shape, AuditSettings().limit)
        if given.device != "cpu":
            if not is_there(given.device):
                console.print(f"not measured: no accelerator ({given.device} is not there)")
                return
            on_accelerator(shape, given.device, getattr(torch, given.type), limit, console)
            continue
        lm = load(shape)
        results = []
        for name in ABILITIES:
            ability = load_ability(name)
            results.append(compare(lm, ability, items(ability, PocketSource(), limit, 0), given.rounds))
        results.append(summed(results))
        show(shape, results, console)
        path = RESULTS / f"asking-{shape}.json"
        kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        kept |= {"machine": machine(), "rounds": given.rounds, "results": {one.ability: asdict(one) for one in results}}
        if given.others:
            kept["others"] = time_others(lm, min(limit, 16))
            console.print(kept["others"])
        path.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
