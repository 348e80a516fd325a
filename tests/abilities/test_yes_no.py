"""NLI, closed QA and sentiment: one of two words."""

import pytest

from audit.abilities.closed_qa import ClosedQA
from audit.abilities.nli import NLI
from audit.abilities.sentiment import Sentiment
from audit.errors import AuditError

NLI_ROW = {"sentence1": "Rain fell. ", "sentence2": " It was wet.", "label": 0}
BOOLQ_ROW = {"passage": "Oskar lives in Kelm.", "question": "does oskar live in kelm", "answer": True}
SST_ROW = {"sentence": "a charming journey . ", "label": 1}


def test_the_prompts_are_exact():
    assert NLI().prompt(NLI().item(NLI_ROW, "k")) == "Rain fell.\nQuestion: It was wet. True or False?\nAnswer:"
    assert (
        ClosedQA().prompt(ClosedQA().item(BOOLQ_ROW, "k"))
        == "Oskar lives in Kelm.\nQuestion: does oskar live in kelm?\nAnswer:"
    )
    assert (
        Sentiment().prompt(Sentiment().item(SST_ROW, "k"))
        == "a charming journey .\nQuestion: Is this sentence positive or negative?\nAnswer:"
    )


@pytest.mark.parametrize(
    ("label", "gold"), [(0, "True"), (1, "False"), ("entailment", "True"), ("not_entailment", "False")]
)
def test_entailment_is_zero_and_true(label, gold):
    assert NLI().item({**NLI_ROW, "label": label}, "k").gold == (gold,)


@pytest.mark.parametrize(("label", "gold"), [(0, "negative"), (1, "positive"), ("negative", "negative")])
def test_negative_is_zero(label, gold):
    assert Sentiment().item({**SST_ROW, "label": label}, "k").gold == (gold,)


@pytest.mark.parametrize(
    ("row", "gold"),
    [
        ({"answer": True}, "yes"),
        ({"answer": False}, "no"),
        ({"label": 1}, "yes"),
        ({"label": 0}, "no"),
    ],
)
def test_boolq_and_superglue_columns_agree(row, gold):
    base = {"passage": "A.", "question": "is it"}
    assert ClosedQA().item({**base, **row}, "k").gold == (gold,)


@pytest.mark.parametrize("label", [-1, 2, None, True, "neutral", 0.0])
def test_an_unknown_label_is_refused(label):
    with pytest.raises(AuditError, match=r"row r3 has .* in column 'label'"):
        NLI().item({**NLI_ROW, "label": label}, "r3")


@pytest.mark.parametrize("column", ["sentence1", "sentence2", "label"])
def test_a_missing_column_is_named(column):
    row = {name: value for name, value in NLI_ROW.items() if name != column}
    with pytest.raises(AuditError, match=f"no column '{column}'"):
        NLI().item(row, "r")


@pytest.mark.parametrize("empty", ["", "  \n", None, 7])
def test_an_empty_text_is_refused(empty):
    with pytest.raises(AuditError, match="column 'passage'"):
        ClosedQA().item({**BOOLQ_ROW, "passage": empty}, "r")


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("yes", "yes"),
        (" No.", "no"),
        ("YES, of course, no doubt", "yes"),
        ("Oskar lives in Kelm. no", "no"),
        ("I know nothing. It is not. yes", "yes"),  # "know", "nothing" and "not" do not count as "no"
        ("No one lives there. yes", "no"),  # the first word decides
    ],
)
def test_the_first_whole_word_is_the_answer(said, value):
    answer = ClosedQA().parse(said)
    assert (answer.value, answer.parseable) == (value, True)


@pytest.mark.parametrize("said", ["", "I know", "eyes", "maybe", "yes_no"])
def test_other_words_are_unparseable_and_wrong(said):
    ability = ClosedQA()
    answer = ability.parse(said)
    assert not answer.parseable
    assert ability.score(ability.item(BOOLQ_ROW, "k"), answer).value == 0.0
    assert ability.score(ability.item({**BOOLQ_ROW, "answer": False}, "k"), answer).value == 0.0


def test_the_evidence_before_true_or_false_is_skipped():
    assert NLI().parse(" No is not All. False").value == "False"
    assert NLI().parse(" It follows. true").value == "True"
    assert not NLI().parse(" untrue, falsely").parseable


def test_scores_are_one_or_zero():
    ability = Sentiment()
    item = ability.item(SST_ROW, "k")
    assert ability.score(item, ability.parse(" positive")).value == 1.0
    assert ability.score(item, ability.parse(" negative, not positive")).value == 0.0


def test_a_question_ends_with_exactly_one_question_mark():
    ability = ClosedQA()
    prompts = {
        ability.prompt(ability.item({**BOOLQ_ROW, "question": q}, "k")) for q in ("is it", "is it?", "is it ?? ")
    }
    assert prompts == {"Oskar lives in Kelm.\nQuestion: is it?\nAnswer:"}
    with pytest.raises(AuditError, match="only question marks"):
        ability.item({**BOOLQ_ROW, "question": "?"}, "k")


def test_items_with_one_source_share_a_cluster():
    first, second = (ClosedQA().item({**BOOLQ_ROW, "question": q}, q) for q in ("is it", "was it"))
    other = ClosedQA().item({**BOOLQ_ROW, "passage": "Another."}, "k")
    assert first.cluster == second.cluster != other.cluster
    premise, same = (NLI().item({**NLI_ROW, "sentence2": h}, h) for h in ("A.", "B."))
    assert premise.cluster == same.cluster
    one, two = (Sentiment().item(SST_ROW, key) for key in ("a", "b"))
    assert one.cluster != two.cluster


def test_the_floor_is_the_majority_of_the_items_at_hand():
    items = [ClosedQA().item({**BOOLQ_ROW, "answer": answer}, "k") for answer in (True, True, False)]
    assert ClosedQA().floor(items) == pytest.approx(2 / 3)
    assert NLI().floor([]) == 0.0
