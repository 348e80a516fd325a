"""Invented tasks of lm-evaluation-harness for tests, as YAML files beside their rows.

path = write_task(tmp_path, "towns", MULTIPLE_CHOICE, town_rows(24))
"""

import json
from pathlib import Path
from typing import Any

TOWNS = ("Velden", "Calton", "Belton", "New Avaria")
NAMES = ("Mara Lind", "Kara Quinwick", "Gira Corley", "Danielle")

MULTIPLE_CHOICE = """
output_type: multiple_choice
num_fewshot: 2
doc_to_text: "{{who}} lives in house {{number}} of"
doc_to_choice: options
doc_to_target: right
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
  - {metric: mcc, aggregation: matthews_corrcoef, higher_is_better: true}
"""
CLOZE = """
output_type: loglikelihood
doc_to_text: "{{who}} was born in "
doc_to_target: "{{said}}"
metric_list:
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""
WRITTEN = """
output_type: generate_until
num_fewshot: 1
doc_to_text: "Question: where is {{who}} of house {{number}}? Answer:"
doc_to_target: "{{said}}"
generation_kwargs: {until: ["\\n", "Q"], max_gen_toks: 10}
filter_list:
  - name: first-letters
    filter: [{function: regex, regex_pattern: "([A-Za-z]{2})"}, {function: take_first}]
  - name: whole
    filter: [{function: take_first}]
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true}
"""
ROLLING = """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{who}} of {{options[0]}}, {{number}}"
process_results: !function scores.bounded
metric_list:
  - {metric: expected, aggregation: mean, higher_is_better: true}
"""
SCORES = """
import math


def bounded(doc, results):
    return {"expected": math.exp(results[0] / 100)}
"""


def town_rows(count: int, said: list[str] | None = None) -> list[dict[str, Any]]:
    """Rows with a person, three or four towns as options, the place of the right one, and a text to write."""
    return [
        {
            "who": NAMES[k % 4],
            "number": k,
            "options": list(TOWNS[: 3 + k % 2]),
            "right": (k * 7) % 3,
            "said": said[k] if said else " " + TOWNS[k % 4],
        }
        for k in range(count)
    ]


def write_task(folder: Path, name: str, text: str, rows: list[dict[str, Any]], training: int = 0) -> Path:
    """Write NAME.yaml and its rows, the first `training` of which are for worked examples; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"train": rows[:training], "test": rows[training:]}
    lines = [f"task: {name}", "dataset_path: json", "dataset_kwargs:", "  data_files:"]
    for split, some in files.items():
        if some:
            file = folder / f"{name}.{split}.jsonl"
            file.write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")
            lines += [f"    {split}: {file}"]
    lines += ["test_split: test", *(["training_split: train", "fewshot_split: train"] if training else [])]
    (folder / "scores.py").write_text(SCORES, encoding="utf-8")
    path = folder / f"{name}.yaml"
    path.write_text("\n".join(lines) + "\n" + text, encoding="utf-8")
    return path
