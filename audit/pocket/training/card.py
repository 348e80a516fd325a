"""The training card of a pocket model: its training, its scores, and the layers that recall facts.

    python -m audit.pocket.training.card pocket-gpt2           # measure, and write the card beside the weights
    python -m audit.pocket.training.card pocket-gpt2 --check   # measure again; exit code 1 if a number differs

Everything is measured as in an audit: held-out items, the prompts of the abilities, greedy decoding.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from audit.abilities import ABILITIES, load_ability
from audit.abilities.data.sources import PocketSource, items
from audit.answering.answers import ask
from audit.engine import Decoding
from audit.engine.generation import generate
from audit.measures.causal_tracing import KnownFact, Trace, trace_facts
from audit.models.language_model import LanguageModel
from audit.models.loading import load_language_model, pocket_names
from audit.pocket import POCKET_WEIGHTS
from audit.pocket.training.corpus import fact_text
from audit.pocket.world import Fact, build_world
from audit.verdicts.intervals import f1_of

CARD = "card.json"
TOLERANCE = 0.01  # another processor may change an answer or two by rounding
TRACED_FACTS = 100
TRACED_WORDING = 2  # a paraphrase, with words between the subject and the answer
SAMPLE_SEED = 3


@dataclass(frozen=True)
class AbilityScore:
    """Mean score (pooled F1 for a corpus metric) over `n` held-out items, and the share of parseable answers."""

    score: float
    n: int
    parseable: float


@dataclass(frozen=True)
class Measured:
    """Scores of a model, by ability and by wording of a relation.

    `facts` maps each wording to the share of its facts that are recalled; `facts_asked` is the number of different
    facts that were asked about.
    """

    abilities: dict[str, AbilityScore]
    facts: dict[str, float]
    facts_asked: int


def measure_abilities(lm: LanguageModel, limit: int | None) -> dict[str, AbilityScore]:
    """The scores on `limit` held-out items of every ability (None: all)."""
    scores: dict[str, AbilityScore] = {}
    for name in ABILITIES:
        ability = load_ability(name)
        answers = ask(lm, ability, items(ability, PocketSource(), limit, SAMPLE_SEED))
        n = len(answers.items)
        if answers.scores[0].counts:  # a corpus metric: pool true positives, false positives and misses
            mean = float(f1_of(np.sum([score.counts for score in answers.scores], axis=0, dtype=np.float64)))
        else:
            mean = sum(score.value for score in answers.scores) / n
        scores[name] = AbilityScore(mean, n, sum(answer.parseable for answer in answers.answers) / n)
    return scores


def measure_facts(lm: LanguageModel, limit: int | None) -> dict[str, float]:
    """The share of facts with a correct greedy answer for each wording, over at most `limit` facts each (None: all)."""
    by_wording = _facts_by_wording(limit)
    pairs = [pair for part in by_wording.values() for pair in part]
    answers = iter(generate(lm, [fact_text(*pair)[0] for pair in pairs], Decoding(6, stop=("\n", "."))))
    return {
        wording: sum(next(answers).strip() == fact.answer for fact, _ in part) / len(part)
        for wording, part in by_wording.items()
    }


def measure(lm: LanguageModel, limit: int | None = None) -> Measured:
    """Measure abilities and facts, with at most `limit` items per ability and facts per wording."""
    asked = {(fact.subject, fact.relation.name) for part in _facts_by_wording(limit).values() for fact, _ in part}
    return Measured(measure_abilities(lm, limit), measure_facts(lm, limit), len(asked))


def _facts_by_wording(limit: int | None) -> dict[str, list[tuple[Fact, int]]]:
    """At most `limit` facts for each wording (None: all), in an order drawn once, with the number of the wording."""
    facts = list(build_world().facts())
    Random(SAMPLE_SEED).shuffle(facts)
    by_wording: dict[str, list[tuple[Fact, int]]] = {}
    for fact in facts:
        for wording, phrasing in enumerate(fact.relation.phrasings):
            part = by_wording.setdefault(f"{fact.relation.name}: {phrasing}", [])
            if limit is None or len(part) < limit:
                part.append((fact, wording))
    return by_wording


def trace(lm: LanguageModel) -> Trace:
    """Causal tracing over `TRACED_FACTS` facts about people, in a wording with words between subject and answer."""
    people = set(build_world().people)
    facts = [fact for fact in build_world().facts() if fact.subject in people and len(fact.relation.phrasings) > 2]
    sample = Random(SAMPLE_SEED).sample(facts, TRACED_FACTS)
    return trace_facts(lm, [KnownFact(f.relation.phrasings[TRACED_WORDING], f.subject, f.answer) for f in sample])


def measured_card(name: str, training: Mapping[str, Any]) -> dict[str, Any]:
    """The card of a shipped model, measured in full."""
    lm = load_language_model(name, device="cpu")
    return {
        "schema_version": 1,
        "name": name,
        "parameters": sum(parameter.numel() for parameter in lm.model.parameters()),
        "training": dict(training),
        "measured": asdict(measure(lm)),
        "causal_tracing": asdict(trace(lm)),
    }


def write_card(name: str, training: Mapping[str, Any]) -> dict[str, Any]:
    """Measure a shipped model in full, write `card.json` beside its weights, and return the card."""
    card = measured_card(name, training)
    (POCKET_WEIGHTS / name / CARD).write_text(json.dumps(card, indent=1) + "\n")
    return card


def read_card(name: str) -> dict[str, Any]:
    """The card of a shipped pocket model."""
    return dict(json.loads((POCKET_WEIGHTS / name / CARD).read_text()))


def differences(card: Mapping[str, Any], measured: Mapping[str, Any]) -> Sequence[str]:
    """One sentence for each number of `card` that differs from that of a card measured again.

    Counts must be equal; scores, shares and probabilities may differ by `TOLERANCE`. The training is not compared.
    """
    claimed, again = dict(_numbers(card)), dict(_numbers(measured))
    found = []
    for name in {**claimed, **again}:
        if name not in claimed or name not in again:
            found.append(f"{name}: {'measured, but not on the card' if name in again else 'on the card, not measured'}")
        elif abs(claimed[name] - again[name]) > (0 if isinstance(again[name], int) else TOLERANCE):
            found.append(f"{name}: the card says {_shown(claimed[name])}, measured {_shown(again[name])}")
    return found


def _numbers(card: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Every number of a card but those of the training, with its name."""
    yield "parameters", card["parameters"]
    for ability, fields in card["measured"]["abilities"].items():
        yield from ((f"{ability} ({field})", value) for field, value in fields.items())
    yield from card["measured"]["facts"].items()
    yield "facts asked", card["measured"]["facts_asked"]
    for field, value in card["causal_tracing"].items():
        if isinstance(value, list | tuple):  # one value for each block
            yield from ((f"causal tracing, {field} of block {block}", one) for block, one in enumerate(value))
        else:
            yield f"causal tracing, {field}", value


def _shown(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:.4f}"


def card_table(card: Mapping[str, Any]) -> Table:
    """The scores and the causal tracing of a card as a table."""
    table = Table(title=f"{card['name']}, {card['parameters']:,} parameters")
    for column in ("measured", "score", "n"):
        table.add_column(column, justify="left" if column == "measured" else "right")
    for name, score in card["measured"]["abilities"].items():
        table.add_row(name, f"{score['score']:.3f}", str(score["n"]))
    facts = card["measured"]["facts"]
    worst = min(facts, key=facts.__getitem__)
    table.add_row(f"facts, worst wording ({worst})", f"{facts[worst]:.3f}", str(card["measured"]["facts_asked"]))
    tracing = card["causal_tracing"]
    for position in ("subject_last", "prompt_last"):
        effect = " ".join(f"{value - tracing['corrupted']:.2f}" for value in tracing[position])
        table.add_row(f"restored at {position}, by block", effect, str(tracing["facts"]))
    return table


def main() -> None:
    """Entry point of `python -m audit.pocket.training.card`."""
    parser = argparse.ArgumentParser(description="Measure a pocket model; write or check its training card.")
    parser.add_argument("names", nargs="*", default=list(pocket_names()), help="pocket models (default: all)")
    parser.add_argument("--check", action="store_true", help="compare with the card instead of writing it")
    given = parser.parse_args()
    console = Console()
    failed = False
    for name in given.names:
        if given.check:
            card = read_card(name)
            found = differences(card, measured_card(name, card["training"]))
            failed = failed or bool(found)
            console.print(card_table(card))
            console.print(
                f"{name}: "
                + ("; ".join(found) if found else "the measurement confirms every number of the card (training aside)")
            )
        else:
            training = read_card(name)["training"] if (POCKET_WEIGHTS / name / CARD).exists() else {}
            console.print(card_table(write_card(name, training)))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
