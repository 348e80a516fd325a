"""Raw output becomes answers: thinking is not part of an answer, and silence is counted."""

from dataclasses import replace

import pytest

from audit.abilities.closed_qa import ClosedQA
from audit.answering.judgments import fixed_judgment
from audit.answering.paired_answers import PairedAnswers, read_raw
from audit.measures.edited_facts import EditedFact
from audit.reports.ability_rows import row_of
from audit.reports.item_sentences import edited_fact_sentences, silence_sentences
from audit.reports.json_report import report_from_json, verdict_json
from audit.reports.markdown import markdown
from audit.reports.terminal import summary
from audit.verdicts.margins import Points
from tests.reports.sample import REPORT

ABILITY = ClosedQA()
ITEMS = [ABILITY.item({"passage": f"P{k}.", "question": "is it", "answer": True}, str(k)) for k in range(4)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("\nyes", "yes"),
        ("<think>\nno, or so\n</think>\n\nyes", "yes"),
        ("no doubt</think> yes", "yes"),
        ("<think>yes", None),
        ("", None),
    ],
)
def test_the_answer_is_what_follows_the_thinking(text: str, value: str | None) -> None:
    answer = read_raw(ABILITY, ITEMS[:1], [{"text": text, "ids": []}]).answers[0]
    assert (answer.value, answer.parseable, answer.text) == (value, value is not None, text)


def test_empty_answers_and_open_thinking_are_counted_and_said() -> None:
    base, edited = (
        read_raw(ABILITY, ITEMS, [{"text": text, "ids": []} for text in texts])
        for texts in (("yes", "", "\n", "<think>hm"), ("", "", "", "<think>\nyes\n</think>yes"))
    )
    row = row_of(fixed_judgment(PairedAnswers(ABILITY, base, (edited,)), Points(0.05), seed=0), 0.05)
    assert (row.empty, row.unended_thinking) == ((2, 3), (1, 0))
    said = silence_sentences([row])
    assert (
        said[0].startswith("closed_qa: 2 answers of the base model were empty (4 items): ")
        and "--chat-template" in said[0]
    )
    assert said[1].startswith("closed_qa: 3 answers of the edited model were empty")
    assert "before their thinking was closed" in said[2] and len(said) == 3

    report = replace(REPORT, abilities=(row,), skipped=())
    assert report_from_json(verdict_json(report), origin="x").abilities == (row,)
    assert all(sentence in markdown(report) for sentence in said)
    shown = " ".join(summary(report, width=100, color=False).split())
    assert all(sentence in shown for sentence in said)
    assert not silence_sentences([replace(row, empty=(0, 0), unended_thinking=(0, 0))])


def test_items_that_ask_for_an_edited_fact_are_listed() -> None:
    facts = tuple(EditedFact(f"open_qa/{k}", "Mara Lind", "baker") for k in range(5))
    row = replace(REPORT.abilities[0], edited_facts=facts[:1])
    said = edited_fact_sentences([row])
    assert said == [f"{row.label}: 1 item asks for an edited fact and is not judged (open_qa/0: Mara Lind, baker)."]
    report = replace(REPORT, abilities=(row,), skipped=())
    assert report_from_json(verdict_json(report), origin="x").abilities == (row,)
    assert said[0] in markdown(report)
    assert said[0] in " ".join(summary(report, width=100, color=False).split())
    assert edited_fact_sentences([replace(row, edited_facts=facts)])[0].endswith(
        "(open_qa/0: Mara Lind, baker; open_qa/1: Mara Lind, baker; open_qa/2: Mara Lind, baker; and 2 more)."
    )
    assert edited_fact_sentences([replace(row, edited_facts=())]) == []
