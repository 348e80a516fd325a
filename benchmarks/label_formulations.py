"""Which formulation of a label task shows what a small model knows: the AUC of the log-odds on rows set aside.

    python -m benchmarks.label_formulations MODEL DATA [--task nli]

MODEL is a model as for `--model`, DATA a folder with rte.jsonl, boolq.jsonl and sst2.jsonl. Of each file the last 60
rows in the seeded order of an audit are taken, which an audit sets aside too: 4 for worked examples, 56 for the AUC.
A formulation is two (prompt, continuation) pairs, one for each label; the log-odds are the difference of their
log-likelihoods, or of their means over tokens where the name says "mean".
"""

import argparse
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from audit.abilities import load_ability
from audit.abilities.contract import Row
from audit.abilities.data.sources import FolderSource, seeded_order
from audit.engine.likelihoods import token_log_likelihoods
from audit.models.language_model import LanguageModel
from audit.models.loading import load_language_model

ASIDE, EXAMPLES = 60, 4
Pair = tuple[str, str]
Formulation = Callable[[Row], tuple[Pair, Pair]]  # for the first label, for the second


def behind(prompt: Callable[[Row], str], first: str, second: str) -> Formulation:
    """Both labels behind one prompt."""
    return lambda row: ((prompt(row), first), (prompt(row), second))


def cloze(first: str, second: str, end: str = "?") -> Formulation:
    """The hypothesis behind a word that links it to the premise (Gao et al. 2021)."""
    return lambda row: (
        (row["sentence1"] + end, f"{first} {row['sentence2']}"),
        (row["sentence1"] + end, f"{second} {row['sentence2']}"),
    )


def channel(first: str, second: str, text: Callable[[Row], str]) -> Formulation:
    """The input behind each label: the noisy channel (Min et al. 2022)."""
    return lambda row: ((first, text(row)), (second, text(row)))


def sentence(row: Row) -> str:
    """The sentence of an SST-2 row."""
    return str(row["sentence"])


def question(row: Row) -> str:
    """The question of a BoolQ row, with its mark."""
    return str(row["question"]).rstrip("?") + "?"


SENTIMENT: Mapping[str, Formulation] = {
    "question, positive/negative": behind(
        lambda row: f"{sentence(row)}\nQuestion: Is this sentence positive or negative?\nAnswer:",
        "positive",
        "negative",
    ),
    "Review/Sentiment": behind(lambda row: f"Review: {sentence(row)}\nSentiment:", "Positive", "Negative"),
    **{
        f"It was {first}/{second}": behind(lambda row: f"{sentence(row)} It was", first, second)
        for first, second in (("great", "terrible"), ("good", "bad"), ("wonderful", "awful"), ("amazing", "boring"))
    },
    "channel, It was great/terrible": channel("It was great.", "It was terrible.", sentence),
    "channel, I loved/hated this movie": channel("I loved this movie.", "I hated this movie.", sentence),
    "channel, Sentiment: positive/negative": channel(
        "Sentiment: positive\nReview:", "Sentiment: negative\nReview:", sentence
    ),
}
NLI: Mapping[str, Formulation] = {
    "question, True/False": behind(
        lambda row: f"{row['sentence1']}\nQuestion: {row['sentence2']} True or False?\nAnswer:", "True", "False"
    ),
    "does this mean, Yes/No": behind(
        lambda row: (
            f'{row["sentence1"]}\nQuestion: Does this mean that "{row["sentence2"].rstrip(".")}"? Yes or no?\nAnswer:'
        ),
        "Yes",
        "No",
    ),
    "cloze, premise? Yes/No, hypothesis": cloze("Yes,", "No,"),
    "cloze, premise Yes/No, hypothesis": cloze("Yes,", "No,", end=""),
    "cloze, True/False": cloze("True,", "False,"),
    "cloze, Indeed/But": cloze("Indeed,", "But"),
    "cloze, In other words/On the contrary": cloze("In other words,", "On the contrary,"),
    "gain of the hypothesis, mean": lambda row: ((row["sentence1"] + "\n", row["sentence2"]), ("\n", row["sentence2"])),
    "true that/false that": lambda row: (
        (row["sentence1"] + "\nIt is true that", row["sentence2"]),
        (row["sentence1"] + "\nIt is false that", row["sentence2"]),
    ),
    "channel, premise": lambda row: (
        (f"{row['sentence2']} True. Evidence:", row["sentence1"]),
        (f"{row['sentence2']} False. Evidence:", row["sentence1"]),
    ),
}
CLOSED_QA: Mapping[str, Formulation] = {
    "question, yes/no": behind(lambda row: f"{row['passage']}\nQuestion: {question(row)}\nAnswer:", "yes", "no"),
    "question, Yes or no?": behind(
        lambda row: f"{row['passage']}\nQuestion: {question(row)} Yes or no?\nAnswer:", "Yes", "No"
    ),
    "question, True or false?": behind(
        lambda row: f"{row['passage']}\nQuestion: {question(row)} True or false?\nAnswer:", "True", "False"
    ),
    "Yes, it is/No, it is not": behind(
        lambda row: f"{row['passage']}\n{question(row)}", "Yes, it is.", "No, it is not."
    ),
    "channel, question": lambda row: (
        (f"{row['passage']}\nA question whose answer is yes:", question(row)),
        (f"{row['passage']}\nA question whose answer is no:", question(row)),
    ),
    "channel, passage": lambda row: (
        (f"Question: {question(row)}\nAnswer: Yes.\nPassage:", row["passage"]),
        (f"Question: {question(row)}\nAnswer: No.\nPassage:", row["passage"]),
    ),
}
TASKS: Mapping[str, tuple[Mapping[str, Formulation], Callable[[Row], bool]]] = {
    "sentiment": (SENTIMENT, lambda row: row["label"] == 1),
    "nli": (NLI, lambda row: row["label"] == 0),
    "closed_qa": (CLOSED_QA, lambda row: bool(row["answer"])),
}


def log_odds(lm: LanguageModel, formulation: Formulation, rows: list[Row], *, mean: bool) -> Any:
    """(rows,) the log-odds of the first label."""
    found = token_log_likelihoods(lm, [formulation(row) for row in rows])
    reduce = np.mean if mean else np.sum
    return np.array([reduce(first) - reduce(second) for first, second in found])


def auc(odds: Any, positive: Any) -> tuple[float, float]:
    """The AUC and DeLong's standard error."""
    first, second = odds[positive], odds[~positive]
    placed = (first[:, None] > second[None]) + 0.5 * (first[:, None] == second[None])  # (positives, negatives)
    by_first, by_second = placed.mean(1), placed.mean(0)
    return float(placed.mean()), math.sqrt(by_first.var(ddof=1) / len(first) + by_second.var(ddof=1) / len(second))


def main() -> None:
    """Print the AUC of every formulation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--task", choices=list(TASKS), action="append")
    wanted = parser.parse_args()
    lm = load_language_model(wanted.model)
    for task in wanted.task or list(TASKS):
        formulations, right = TASKS[task]
        rows = FolderSource(wanted.data).rows(load_ability(task).name)
        order = seeded_order(len(rows), f"0:{task}")[-ASIDE:]
        chosen = [rows[index] for index in order][EXAMPLES:]
        positive = np.array([right(row) for row in chosen])
        for name, formulation in formulations.items():
            value, error = auc(log_odds(lm, formulation, chosen, mean="mean" in name.split()), positive)
            print(f"{task:10} {name:40} {value:.3f} +- {error:.3f}", flush=True)


if __name__ == "__main__":
    main()
