"""Made-up runs for the commands that read the folder of a run."""

import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from audit.abilities import ABILITIES, load_ability
from audit.abilities.contract import Ability, Answers, Item
from audit.abilities.data.sources import FolderSource, items
from audit.answering.judgments import Judgment
from audit.answering.paired_answers import PairedAnswers, read_raw
from audit.reports.ability_rows import records, row_of
from audit.reports.folder import write_report
from tests.reports.sample import REPORT
from tests.small_audit import abilities, write_lines

SAYINGS = [
    "",
    " True",
    " yes",
    " positive",
    " B",
    " 7 #### 7",
    " person: Mara Lind",
    " Velden",
    " Mara Lind comes at 3.",
]


def answers(ability: Ability, asked: tuple[Item, ...], seed: int, right: float) -> Answers:
    """Made-up raw output: the gold with probability `right`, else anything."""
    generator = random.Random(f"{ability.name} {seed}")
    raw: list[object] = []
    for item in asked:
        gold = generator.random() < right
        if ability.decoding is None:
            ranked = [generator.choice([-1.0, -2.0, -2.5]) for _ in item.choices]
            raw.append([0.0 if str(k) in item.gold else one for k, one in enumerate(ranked)] if gold else ranked)
        else:
            raw.append(
                {"text": f" {'; '.join(item.gold)}" if gold and item.gold else generator.choice(SAYINGS), "ids": [1]}
            )
    if ability.decoding is None:
        raw[0] = [math.nan] * len(asked[0].choices)
    return read_raw(ability, asked, raw, from_store=len(asked))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write the folder of a made-up run: `run(protocol="gu2024", right=0.2)`."""
    monkeypatch.setenv("COLUMNS", "120")
    rows = tmp_path / "rows"
    rows.mkdir()
    for name, data in abilities().items():
        write_lines(rows / f"{name}.jsonl", [{**row, "passage": row.get("passage", "At sea.")} for row in data * 4])

    def write(protocol: str = "standard", right: float = 0.6, names: tuple[str, ...] = tuple(ABILITIES)) -> Path:
        judged, kept = [], []
        for name in names:
            ability = load_ability(name, protocol)
            asked = items(ability, FolderSource(rows), None, 0)
            base = answers(ability, asked, 0, 0.95)
            edited = tuple(answers(ability, asked, seed, right) for seed in (1, 2))
            paired = PairedAnswers(ability, base, edited)
            seed = REPORT.header.seed
            verdict, harm_p = paired.verdict(margin=0.05, seed=seed), paired.harm_p_value(seed=seed)
            judged.append(row_of(Judgment(verdict, paired, harm_p), 0.05))
            kept += records(paired)
        report = replace(REPORT, abilities=tuple(judged), items=tuple(kept), settings={"margins": {"nli": 0.05}})
        return write_report(report, tmp_path / "reports")

    return write
