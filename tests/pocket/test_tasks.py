"""The eight tasks: columns of the real data sets, right answers, and no test item in training."""

import re
from itertools import islice
from random import Random

import pytest

from audit.abilities import ABILITIES, load_ability
from audit.errors import AuditError
from audit.pocket.tasks import TASKS, held_out_examples, ner, open_qa
from audit.pocket.training.corpus import lessons, render
from audit.pocket.world import GIVEN, Example

COLUMNS = {
    "gsm8k": {"question", "answer"},
    "rte": {"sentence1", "sentence2", "label"},
    "nq_open": {"question", "answer"},
    "boolq": {"question", "answer", "passage"},
    "mutual": {"article", "options", "answers"},
    "samsum": {"dialogue", "summary"},
    "conll2003": {"tokens", "ner_tags"},
    "sst2": {"sentence", "label"},
}
DATA_NAMES = tuple(COLUMNS)


def test_there_is_a_task_for_every_ability() -> None:
    assert set(TASKS) == {load_ability(name).data_name for name in ABILITIES} == set(COLUMNS)


@pytest.mark.parametrize("data_name", DATA_NAMES)
def test_rows_have_the_columns_of_the_real_data_set(data_name: str) -> None:
    examples = held_out_examples(data_name)
    assert len(examples) >= 400
    assert all(set(example.row) == COLUMNS[data_name] for example in examples)
    assert len({repr(example.row) for example in examples}) == len(examples)


@pytest.mark.parametrize("data_name", DATA_NAMES)
def test_the_answer_in_training_scores_1(data_name: str) -> None:
    ability = next(a for a in map(load_ability, ABILITIES) if a.data_name == data_name)
    for example in held_out_examples(data_name):
        item = ability.item(example.row, "x")
        said = str(item.choices.index(example.completion)) if item.choices else " " + example.completion
        assert ability.score(item, ability.parse(said)).value == 1.0


@pytest.mark.parametrize("data_name", DATA_NAMES)
def test_no_constant_answer_scores_well(data_name: str) -> None:
    ability = next(a for a in map(load_ability, ABILITIES) if a.data_name == data_name)
    items = [ability.item(example.row, str(n)) for n, example in enumerate(held_out_examples(data_name))]
    assert ability.floor(items) <= 0.60


def test_an_unknown_data_set_is_refused() -> None:
    with pytest.raises(AuditError, match=r"^the pocket world has no data set 'mnli'; it has gsm8k, "):
        held_out_examples("mnli")


def test_no_test_item_is_in_training() -> None:
    """60,000 lessons against the prompts of all test items."""
    prompts, passages = set(), set()
    for lesson in islice(lessons(1001), 60_000):
        prompts.add(lesson.text[: lesson.taught[0][0]])
        passages.add(lesson.text.split("\n")[0])
    for data_name in DATA_NAMES:
        prompts_of_test = {render(data_name, example)[0] for example in held_out_examples(data_name)}
        assert not prompts_of_test & prompts
        if data_name in ("boolq", "rte"):  # the passage or premise is new too
            assert not {prompt.split("\n")[0] for prompt in prompts_of_test} & passages


def test_training_has_no_question_about_a_fact_of_the_test() -> None:
    training = {(fact.subject, fact.relation.name) for fact in open_qa.askable(False)}
    test = {(fact.subject, fact.relation.name) for fact in open_qa.askable(True)}
    assert training and test and not training & test


@pytest.mark.parametrize("data_name", [name for name in DATA_NAMES if name != "nq_open"])
def test_training_and_test_draw_from_disjoint_sets(data_name: str) -> None:
    def rows(test: bool) -> set[str]:
        rng = Random(5)
        return {repr(TASKS[data_name](rng, test).row) for _ in range(3000)}

    assert not rows(False) & rows(True)


def test_word_problems_are_calculated_correctly() -> None:
    for example in held_out_examples("gsm8k"):
        steps, _, result = example.row["answer"].rpartition("\n#### ")
        for step in steps.split("\n"):
            left, right = step.split(" = ")
            assert re.fullmatch(r"\d+ [-+*] \d+", left)
            assert eval(left) == int(right)  # noqa: S307 - two numbers and a sign, just matched
        assert int(result) == int(steps.rpartition(" = ")[2]) >= 0


def test_closed_questions_are_answerable_from_their_passage() -> None:
    for example in held_out_examples("boolq"):
        evidence, _, comparison = example.completion.partition(". ")
        value, verdict = evidence.split()[-1], comparison.split()[-1]
        assert comparison.split()[1] == f"{value}:"
        assert value in example.row["passage"]
        # The value in the question is that of the evidence if and only if the answer is yes.
        assert (value in example.row["question"].split()) is (verdict == "yes") is example.row["answer"]


def test_the_listed_entities_are_those_of_the_tags() -> None:
    def surfaces(example: Example) -> list[str]:
        found: list[list[str]] = []
        for token, tag in zip(example.row["tokens"], example.row["ner_tags"], strict=True):
            if ner.TAGS[tag].startswith("B-"):
                found.append([token])
            elif ner.TAGS[tag].startswith("I-"):
                found[-1].append(token)
        return [" ".join(words) for words in found]

    for example in held_out_examples("conll2003"):
        listed = [] if example.completion == "none" else example.completion.split("; ")
        assert [part.split(": ")[1] for part in listed] == surfaces(example)


def test_the_right_turn_agrees_with_the_dialogue_and_the_others_do_not_repeat_it() -> None:
    for example in held_out_examples("mutual"):
        options = example.row["options"]
        assert len(set(options)) == 4
        assert options["ABCD".index(example.row["answers"])] == example.completion
    letters = [example.row["answers"] for example in held_out_examples("mutual")]
    assert max(letters.count(letter) for letter in "ABCD") < 0.35 * len(letters)


def test_summaries_contain_no_small_talk() -> None:
    for example in held_out_examples("samsum"):
        assert example.row["summary"].split()[0] in GIVEN
        assert not set("!?") & set(example.row["summary"])
