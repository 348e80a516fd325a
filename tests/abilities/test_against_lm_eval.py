"""Comparison with lm-evaluation-harness: numbers, matches and labels by its own task files, filters and metrics."""

import random
import re
from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Template
from lm_eval.api.metrics import exact_match_hf_evaluate
from lm_eval.config.evaluate_config import EvaluatorConfig
from lm_eval.filters.extraction import RegexFilter

from audit.abilities import load_ability
from audit.abilities.data.sources import FolderSource
from tests.abilities.data.test_real_slices import REAL, real_items

needs_slices = pytest.mark.skipif(not REAL.is_dir(), reason=f"no slices of the real data sets in {REAL}")


def task(path: str) -> dict[str, Any]:
    found: dict[str, Any] = EvaluatorConfig.load_yaml_config(Path(str(lm_eval.__file__)).parent / "tasks" / path)
    return found


def same(settings_of: dict[str, Any], said: str, gold: str) -> bool:
    """Exact match of an answer and a gold as configured in the task."""
    (metric,) = settings_of["metric_list"]
    how = {key: metric[key] for key in ("regexes_to_ignore", "ignore_case", "ignore_punctuation")}
    return bool(exact_match_hf_evaluate([said], [gold], **how)["exact_match"])


GSM8K, NQ = task("gsm8k/gsm8k.yaml"), task("nq_open/nq_open.yaml")


def number_right(which: str, said: str, solution: str) -> bool:
    """Whether lm-eval counts an answer to GSM8K as right, with "strict-match" or "flexible-extract"."""
    (chosen,) = [one["filter"][0] for one in GSM8K["filter_list"] if one["name"] == which]
    options = {key: chosen[key] for key in ("regex_pattern", "group_select") if key in chosen}
    (((found,),)) = RegexFilter(**options).apply([[said]], [{}])
    return same(GSM8K, found, solution)


def our_number_right(said: str, solution: str) -> bool:
    ability = load_ability("reasoning")
    item = ability.item({"question": "How many?", "answer": solution}, "k")
    return ability.score(item, ability.parse(said)).value == 1.0


NUMBERS = st.integers(-99_999, 99_999).map(lambda n: f"{n:,}") | st.integers(-99_999, 99_999).map(str)
PROSE = st.lists(st.sampled_from(["She", "has", "pears", "so", "in all"]), max_size=4).map(" ".join)


@settings(max_examples=80, deadline=None)
@given(PROSE, NUMBERS, NUMBERS, PROSE)
def test_a_marked_number_is_read_as_strict_match_reads_it(before: str, said: str, gold: str, after: str) -> None:
    for text in (f"{before}\n#### {said}", f"{before} 7\n#### {said}\n{after} 8"):
        for solution in (f"It is.\n#### {gold}", f"It is.\n#### {said}"):
            assert our_number_right(text, solution) == number_right("strict-match", text, solution)


@settings(max_examples=80, deadline=None)
@given(PROSE, NUMBERS, NUMBERS, PROSE)
def test_an_unmarked_number_is_read_as_flexible_extract_reads_it(before: str, said: str, gold: str, after: str) -> None:
    for text in (f"{before} {said} {after}", f"12 {before} {said}.", f"{before} ${said.lstrip('-')} {after}"):
        for solution in (f"It is.\n#### {gold}", f"It is.\n#### {said}"):
            assert our_number_right(text, solution) == number_right("flexible-extract", text, solution)


@pytest.mark.parametrize(
    ("which", "said", "gold"),
    [
        ("flexible-extract", "so 18 eggs. Thanks...", "18"),  # it extracts "..."
        ("flexible-extract", "so 18 eggs, $.", "18"),  # and "$."
        ("flexible-extract", "18 eggs..", "18"),
        ("strict-match", "so she has $18\n#### $18", "18"),  # it needs a digit right after the mark
        ("strict-match", "so 18.0\n#### 18.0", "18"),  # one number, two spellings
        ("flexible-extract", "from 28 take 10: 28-10=18", "18"),  # right here ...
        ("flexible-extract", "it is 28 and then 10-18", "18"),  # ... but here the minus is taken for a sign
    ],
)
def test_right_numbers_that_lm_eval_misses(which: str, said: str, gold: str) -> None:
    assert our_number_right(said, f"#### {gold}")
    assert number_right(which, said, f"#### {gold}") == (said == "from 28 take 10: 28-10=18")


@needs_slices
def test_real_solutions_are_right_and_others_wrong_in_both() -> None:
    solutions = [str(item.fields["answer"]) for item in real_items("reasoning")]
    for solution, other in zip(solutions, [*solutions[1:], solutions[0]], strict=True):
        assert our_number_right(solution, solution) and number_right("strict-match", solution, solution)
        assert our_number_right(other, solution) == number_right("strict-match", other, solution)
        bare = f"The answer is {solution.rsplit(' ', 1)[-1]}."
        assert our_number_right(bare, solution) and number_right("flexible-extract", bare, solution)


def answer_right(said: str, golds: tuple[str, ...]) -> bool:
    """Whether lm-eval counts an answer to NQ as right, cut at the stops of its task."""
    cut = re.split("|".join(map(re.escape, NQ["generation_kwargs"]["until"])), said)[0].strip()
    return any(same(NQ, cut, gold) for gold in golds)


def our_answer_right(said: str, golds: tuple[str, ...]) -> bool:
    ability = load_ability("open_qa")
    item = ability.item({"question": "who", "answer": list(golds)}, "k")
    return ability.score(item, ability.parse(said)).value == 1.0


NAMES = st.lists(st.sampled_from(["the", "The", "a", "Velden", "velden", "Kelm", "12", "O'Hara"]), max_size=3)
ANSWERS = st.tuples(NAMES, st.sampled_from(["Mara", "mara", "Lind", "1969"])).map(
    lambda two: " ".join([*two[0], two[1]])
)


@settings(max_examples=80, deadline=None)
@given(ANSWERS, st.lists(ANSWERS, min_size=1, max_size=3).map(tuple))
def test_answers_without_stops_match_as_in_lm_eval(said: str, golds: tuple[str, ...]) -> None:
    assert our_answer_right(f" {said}", golds) == answer_right(f" {said}", golds)


@needs_slices
def test_real_golds_match_in_both_unless_lm_eval_stops_within_them() -> None:
    lost = 0
    for item in real_items("open_qa"):
        for gold in item.gold:
            assert our_answer_right(f" {gold}", item.gold), gold
            stopped = "." in gold or "," in gold
            assert answer_right(f" {gold}", item.gold) or stopped, gold
        lost += not any(answer_right(f" {gold}", item.gold) for gold in item.gold)
    assert lost >= 10  # items on which no answer is right in lm-eval


LABELED = {"nli": "glue/rte", "sentiment": "glue/sst2", "closed_qa": "super_glue/boolq"}


@needs_slices
@pytest.mark.parametrize("name", LABELED)
def test_prompts_labels_and_accuracy_are_those_of_lm_evals_task(name: str) -> None:
    ability, theirs = load_ability(name), task(f"{LABELED[name]}/default.yaml")
    prompt, choices, generator = Template(theirs["doc_to_text"]), theirs["doc_to_choice"], random.Random(0)
    ours, right = [], []
    for number, row in enumerate(FolderSource(REAL).rows(name)):
        item = ability.item(row, str(number))
        label = int(row["answer"] if name == "closed_qa" else row["label"])
        assert item.gold == (choices[label],)
        assert ability.prompt(item) == prompt.render(
            {key: v.strip() if isinstance(v, str) else v for key, v in row.items()}
        )
        place = generator.randrange(2)
        ours.append(ability.score(item, ability.parse(f" {choices[place]}")).value)
        right.append(place == label)
    assert ours == right
    assert 0.3 < np.mean(ours) < 0.7
