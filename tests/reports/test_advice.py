"""The last line fits the worst thing the report holds."""

from dataclasses import replace

import pytest

from audit.reports.rows import EditScore, IntegrityRow, RunReport
from audit.reports.run_sentences import next_step
from tests.reports.sample import ALL_PASS, FAILED, REPORT, UNDECIDED, row_with

BLIND = row_with(UNDECIDED, base=0.4, base_lower=0.33, floor=0.5, more_items=None)
HOPELESS = row_with(UNDECIDED, more_items=None)
IDLE = (EditScore("efficacy", "autoregressive", 0.1, 10),)
CHECKPOINT = replace(REPORT.header, editor="./edited", plan="a checkpoint", edit_count=0, checkpoint=True)
DAMAGED = (IntegrityRow("finite logits", False, False, "Some logits are NaN."),)


@pytest.mark.parametrize(
    ("report", "advice"),
    [
        (REPORT, "read the 50 right-to-wrong flips of reasoning with both answers in items.jsonl"),
        (replace(REPORT, folder="reports/x"), "flips of reasoning in reports/x/items.jsonl"),
        (REPORT, "then try --edit-count 5 or another editor."),
        (replace(REPORT, integrity=DAMAGED), "they are damaged, and reasoning failed."),
        (replace(REPORT, abilities=(UNDECIDED,)), "run again with --limit 340 to settle summarization."),
        (replace(REPORT, abilities=(UNDECIDED, BLIND)), "choose a --model that can do summarization, or a larger"),
        (replace(REPORT, abilities=(HOPELESS,)), "accept a larger --margin for summarization"),
        (replace(ALL_PASS, edit_scores=IDLE), "the edits did not succeed (efficacy 0.10)"),
        (ALL_PASS, "find the number of edits at which an ability fails: --edit-count 20."),
        (replace(ALL_PASS, edit_scores=()), "find the number of edits"),
        (replace(ALL_PASS, failed_tests=("suites/test_edit.py::test_near",)), "see above why test_near failed"),
        (replace(ALL_PASS, abilities=()), "run a suite"),
        (replace(ALL_PASS, integrity=DAMAGED), "do not ship these weights"),
        (
            replace(ALL_PASS, unasked={"ner": "no file", "nli": "no file"}),
            "fix the errors that kept ner and nli from being asked",
        ),
        (replace(ALL_PASS, abilities=(), unasked={"ner": "no file"}), "fix the errors that kept ner from being asked"),
        (replace(ALL_PASS, header=CHECKPOINT), "list the changed weights with `audit diff pocket-gpt2 ./edited`."),
        (replace(REPORT, header=CHECKPOINT), "then try `audit diff pocket-gpt2 ./edited`."),
    ],
)
def test_one_sentence_for_each_situation(report: RunReport, advice: str) -> None:
    assert next_step(report).startswith("Next: ")
    assert advice in next_step(report)
    assert "\n" not in next_step(report)


def test_one_edit_cannot_be_made_fewer() -> None:
    report = replace(REPORT, header=replace(REPORT.header, edit_count=1), abilities=(FAILED,))
    assert "--edit-count" not in next_step(report)
