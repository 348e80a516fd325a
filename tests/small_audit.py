"""Everything a whole audit needs, small: a random model's folder, eight abilities of a dozen rows, an edits file.

world = build(tmp_path)
Audit(model=str(world.model), edits=str(world.edits), source=world.source, editor="identity", ...)
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from audit.abilities.data.sources import FolderSource
from audit.reports.rows import RunReport
from tests.tiny_models import build_tiny_gpt2, build_tiny_llama

ROWS = 12
NAMES = ("Mara Lind", "Kara Quinwick", "Gira Corley", "Danielle Darrieux")
CITIES = ("Velden", "Calton", "New Avaria", "Belton")


@dataclass(frozen=True)
class SmallWorld:
    """Folders and files of one small audit."""

    model: Path
    rows: Path
    edits: Path

    @property
    def source(self) -> FolderSource:
        return FolderSource(self.rows)

    def options(self, **more: Any) -> dict[str, Any]:
        """Keywords of an `Audit` in this world."""
        return {"model": str(self.model), "edits": str(self.edits), "source": self.source, "limit": 10, **more}


def build(root: Path, family: str = "gpt2") -> SmallWorld:
    """Write the world under `root`."""
    world = SmallWorld(root / f"tiny-{family}", root / "rows", root / "edits.jsonl")
    lm = {"gpt2": build_tiny_gpt2, "llama": build_tiny_llama}[family]()
    lm.model.save_pretrained(world.model)
    lm.tokenizer.save_pretrained(world.model)
    world.rows.mkdir()
    for data_name, rows in abilities().items():
        write_lines(world.rows / f"{data_name}.jsonl", rows)
    write_lines(world.edits, requests())
    return world


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def require_equal_edit_scores(one: RunReport, other: RunReport) -> None:
    """Equal rows; log-probabilities may differ in their last digits, where batches differ."""
    likely = [score for score in one.edit_scores if score.protocol.startswith("likelihood")]
    assert likely
    for old, new in zip(one.edit_scores, other.edit_scores, strict=True):
        if old in likely:
            close = {name: pytest.approx(getattr(new, name), abs=1e-3) for name in ("value", "lower", "upper")}
            assert old == replace(new, **close)
        else:
            assert old == new


def requests() -> list[dict[str, Any]]:
    """Four edit requests in our own format."""
    return [
        {
            "case_id": f"case-{number}",
            "subject": name,
            "prompt": "{} lives in the city of",
            "target_new": CITIES[(number + 1) % 4],
            "target_true": CITIES[number],
            "paraphrases": [f"The home of {name} is"],
            "neighborhood": [{"prompt": f"{NAMES[(number + 1) % 4]} was born in", "answer": CITIES[number]}],
            "portability": [{"prompt": f"The city where {name} lives lies in", "answer": "the north"}],
        }
        for number, name in enumerate(NAMES)
    ]


def abilities(rows: int = ROWS) -> dict[str, list[dict[str, Any]]]:
    """A dozen rows of each data set, or another number, in its own columns."""
    many = [(number, NAMES[number % 4], CITIES[number % 3]) for number in range(rows)]
    return {
        "gsm8k": [
            {"question": f"{name} has {k} coins and finds 2. How many?", "answer": f"{k}+2={k + 2}\n#### {k + 2}"}
            for k, name, _ in many
        ],
        "rte": [
            {"sentence1": f"{name} lives in {city}, house {k}.", "sentence2": f"{name} lives.", "label": k % 2}
            for k, name, city in many
        ],
        "nq_open": [{"question": f"where does {name} the {k} live", "answer": [city]} for k, name, city in many],
        "boolq": [
            {"passage": f"{name} lives at {k}, {city}.", "question": "is it so", "answer": k % 2 == 0}
            for k, name, city in many
        ],
        "mutual": [
            {"article": f"m : is it {k} ?", "options": ["f : a", "f : b", "f : c", "f : d"], "answers": "ABCD"[k % 4]}
            for k, _, _ in many
        ],
        "samsum": [{"dialogue": f"{name}: at {k}?\nB: yes", "summary": f"{name} comes at {k}."} for k, name, _ in many],
        "conll2003": [
            {"tokens": [*name.split(), "is", "in", "Velden", str(k)], "ner_tags": [1, 2, 0, 0, 5, 0]}
            for k, name, _ in many
        ],
        "sst2": [{"sentence": f"{name}'s film no. {k} is fine", "label": k % 2} for k, name, _ in many],
    }


def widen(world: SmallWorld, rows: int) -> SmallWorld:
    """The world with more rows of each data set, so that some can be set aside."""
    for data_name, more in abilities(rows).items():
        write_lines(world.rows / f"{data_name}.jsonl", more)
    return world


def teach(world: SmallWorld, rows: int = 60) -> None:
    """Make open-domain questions whose right answers are what the model says anyway: a base score of 1.

    So an audit of this ability can PASS (nothing changed) and FAIL (noise), although the model is random.
    """
    from audit.abilities.open_qa import OpenQA
    from audit.engine.generation import generate
    from audit.models.loading import load_language_model

    ability = OpenQA()
    lm = load_language_model(str(world.model), device="cpu")
    asked = [{"question": f"what of number {k} and {NAMES[k % 4]}", "answer": ["?"]} for k in range(3 * rows)]
    prompts = [ability.prompt(ability.item(row, "x")) for row in asked]
    assert ability.decoding is not None
    said = generate(lm, prompts, ability.decoding)
    taught = [{**row, "answer": [text]} for row, text in zip(asked, said, strict=True) if ability.parse(text).parseable]
    assert len(taught) >= rows
    write_lines(world.rows / "nq_open.jsonl", taught[:rows])


def teach_labels(world: SmallWorld, rows: int = 60) -> None:
    """Label sentences as the model ranks them by its log-odds, the upper half positive: an AUC of 1 by likelihood."""
    from audit.abilities.presentation import read_as
    from audit.abilities.sentiment import Sentiment
    from audit.answering.answers import ask
    from audit.models.loading import load_language_model

    ability = read_as(Sentiment(), "likelihood")
    asked = [{"sentence": f"{NAMES[k % 4]} and no. {k} of {CITIES[k % 3]}", "label": 0} for k in range(rows)]
    lm = load_language_model(str(world.model), device="cpu")
    odds = [answer.value for answer in ask(lm, ability, [ability.item(row, "x") for row in asked]).answers]
    middle = sorted(odds)[rows // 2]
    labelled = [{**row, "label": int(one >= middle)} for row, one in zip(asked, odds, strict=True)]
    write_lines(world.rows / "sst2.jsonl", labelled)
