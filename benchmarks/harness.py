"""Time the same items through lm-evaluation-harness (in the test extra), end to end.

    python -m benchmarks.harness [--model pocket-llama] [--limit 200] [--rounds 2]

The harness runs through its Python API: `simple_evaluate` with the Hugging Face backend on the same loaded model,
batches of 32, and tasks that are configured here over JSON files of the same prompts. Free text is asked by
`generate_until` with the same stop strings and token limits; RTE, BoolQ, SST-2 and MuTual are `multiple_choice`. The
time of the audit includes sampling the items, asking, parsing and scoring; the time of the harness is its call of
`simple_evaluate` without a bootstrap. Both run in turn (A B A B); figures are medians of processor seconds.
"""

import argparse
import copy
import json
import logging
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from rich.console import Console
from rich.table import Table

from audit.abilities import ABILITIES, load_ability
from audit.abilities.contract import Ability, Item
from audit.abilities.data.sources import PocketSource, items
from audit.abilities.readings.choices import best_choice
from audit.engine.generation import generate
from audit.engine.likelihoods import rank
from audit.models.language_model import LanguageModel
from audit.settings.options import AuditSettings
from benchmarks.asking import Seconds, best, load, timed
from benchmarks.editing import machine
from benchmarks.plain_asking import BATCH

RESULTS = Path(__file__).parent / "results"
BAR = 3.0
CHOICES = {"nli": ("True", "False"), "closed_qa": ("yes", "no"), "sentiment": ("positive", "negative")}


def options(ability: Ability, item: Item) -> tuple[str, ...]:
    """The choices of an item that is ranked here, or none."""
    return item.choices or CHOICES.get(ability.name, ())


def ask_ours(lm: LanguageModel, limit: int) -> dict[str, list[Any]]:
    """Load, ask, parse and score; by ability the chosen indices, or the texts."""
    said: dict[str, list[Any]] = {}
    for name in ABILITIES:
        ability = load_ability(name)
        asked = items(ability, PocketSource(), limit, 0)
        prompts = [ability.prompt(item) for item in asked]
        if options(ability, asked[0]):
            values = rank(lm, prompts, [options(ability, item) for item in asked])
            said[name] = [best(row) for row in values]
            texts = [
                best_choice(item, row) if item.choices else options(ability, item)[best(row)]
                for item, row in zip(asked, values, strict=True)
            ]
        else:
            assert ability.decoding is not None
            said[name] = texts = list(generate(lm, prompts, ability.decoding))
        for item, text in zip(asked, texts, strict=True):
            ability.score(item, ability.parse(text))
    return said


def task(name: str, limit: int, folder: Path) -> dict[str, Any]:
    """The harness's configuration of an ability over a JSON file in `folder`."""
    ability = load_ability(name)
    asked = items(ability, PocketSource(), limit, 0)
    path = folder / f"{name}.json"
    rows: list[dict[str, Any]] = []
    for item in asked:
        choices = options(ability, item)
        gold: int | str = " ".join(item.gold)  # a sentence may hold no entity
        if choices:
            gold = int(item.gold[0]) if item.choices else choices.index(item.gold[0])
        rows.append({"prompt": ability.prompt(item), "gold": gold, "choices": list(choices)})
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    config: dict[str, Any] = {
        "task": f"audit_{name}",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(path)}},
        "test_split": "test",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "gold",
        "target_delimiter": " ",
        "num_fewshot": 0,
    }
    if rows[0]["choices"]:
        return config | {
            "output_type": "multiple_choice",
            "doc_to_choice": "{{choices}}",
            "metric_list": [{"metric": "acc"}],
        }
    assert ability.decoding is not None
    decoding = {"until": list(ability.decoding.stop), "max_gen_toks": ability.decoding.max_new_tokens}
    return config | {
        "output_type": "generate_until",
        "generation_kwargs": {**decoding, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    }


def ask_harness(model: HFLM, tasks: Sequence[dict[str, Any]], manager: TaskManager) -> dict[str, list[Any]]:
    """What `simple_evaluate` logs: by ability the index of the likeliest choice, or the text."""
    evaluation = simple_evaluate(
        model=model, tasks=[dict(one) for one in tasks], batch_size=BATCH, bootstrap_iters=0, task_manager=manager
    )
    assert evaluation is not None
    said: dict[str, list[Any]] = {}
    for name, samples in evaluation["samples"].items():
        ordered = sorted(samples, key=lambda sample: int(sample["doc_id"]))
        if isinstance(ordered[0]["filtered_resps"][0], str):
            said[name.removeprefix("audit_")] = [sample["filtered_resps"][0] for sample in ordered]
        else:
            said[name.removeprefix("audit_")] = [
                best([float(value) for value, _ in sample["filtered_resps"]]) for sample in ordered
            ]
    return said


def main() -> None:
    """Measure, print a table, and keep the numbers under benchmarks/results."""
    parser = argparse.ArgumentParser(description="Time the eight abilities beside lm-evaluation-harness.")
    parser.add_argument("--model", default="pocket-llama")
    parser.add_argument("--limit", type=int, default=AuditSettings().limit)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    lm = load(given.model)
    taken: tuple[list[Seconds], list[Seconds]] = ([], [])
    manager = TaskManager()
    with tempfile.TemporaryDirectory() as folder:
        tasks = [task(name, given.limit, Path(folder)) for name in ABILITIES]
        model = HFLM(pretrained=lm.model, tokenizer=copy.deepcopy(lm.tokenizer), batch_size=BATCH, device="cpu")
        for _ in range(given.rounds):
            ours, seconds = timed(lambda: ask_ours(lm, given.limit))
            taken[0].append(seconds)
            theirs, seconds = timed(lambda: ask_harness(model, tasks, manager))
            taken[1].append(seconds)
    table = Table(title=f"{given.model}, the same answers as lm-evaluation-harness")
    for column in ("ability", "items", "same"):
        table.add_column(column, justify="left" if column == "ability" else "right")
    same = {}
    for name, said in ours.items():
        same[name] = sum(one == other for one, other in zip(said, theirs[name], strict=True))
        table.add_row(name, str(len(said)), str(same[name]))
    console = Console()
    console.print(table)
    ours_seconds, theirs_seconds = (
        Seconds(statistics.median(s.processor for s in side), statistics.median(s.wall for s in side)) for side in taken
    )
    ratio = theirs_seconds.processor / ours_seconds.processor
    console.print(
        f"ours {ours_seconds.processor:.2f} s ({ours_seconds.wall:.2f} wall), harness {theirs_seconds.processor:.2f} s "
        f"({theirs_seconds.wall:.2f} wall): {ratio:.2f} times (bar {BAR:g})"
    )
    result = {
        "machine": machine(),
        "rounds": given.rounds,
        "items": {name: len(said) for name, said in ours.items()},
        "same": same,
        "ours": ours_seconds.__dict__,
        "harness": theirs_seconds.__dict__,
        "ratio": ratio,
    }
    (RESULTS / f"harness-{given.model}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
