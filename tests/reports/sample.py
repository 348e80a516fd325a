"""A hand-made report: one ability that passes, one that fails, one undecided, and everything a renderer may meet."""

from dataclasses import fields, replace
from typing import Any

from audit.engine.reuse_counts import ReuseCounts
from audit.reports.rows import (
    AbilityRow,
    AnswerRecord,
    EditScore,
    Example,
    IntegrityRow,
    ItemRecord,
    RunHeader,
    RunReport,
    SkippedEdit,
)
from audit.verdicts import Outcome, Verdict

HEADER = RunHeader(
    started="2026-11-21T10:15:00+00:00",
    model="pocket-gpt2",
    revision=None,
    editor="memit",
    edits="pocket",
    plan="10 edits in one batch",
    edit_count=10,
    device="cpu",
    dtype="float32",
    seed=0,
    limit=200,
)


def row_with(row: AbilityRow, **changes: Any) -> AbilityRow:
    """The row with other fields, of its own or of its verdict."""
    if "outcome" in changes:
        changes["outcome"] = Outcome(changes["outcome"])
    of_verdict = {part.name: changes.pop(part.name) for part in fields(Verdict) if part.name in changes}
    return replace(row, verdict=replace(row.verdict, **of_verdict), **changes)


PASSED = AbilityRow(
    ability="sentiment",
    title="Sentiment",
    metric="accuracy",
    verdict=Verdict(
        outcome=Outcome.PASS,
        base=0.96,
        edited=0.955,
        drop=0.005,
        lower=-0.0123,
        upper=0.0231,
        margin=0.05,
        n=200,
        clusters=200,
        floor=0.51,
        method="tango",
        right_to_wrong=2,
        wrong_to_right=1,
    ),
    asked_margin="0.05",
    parsed_to_unparseable=0,
    changed=5,
    base_unparseable=0.0,
    edited_unparseable=0.005,
    items_fingerprint="ab12",
    base_from_store=True,
)
FAILED = row_with(
    PASSED,
    ability="reasoning",
    title="Reasoning",
    metric="solve rate",
    outcome="FAIL",
    base=0.86,
    edited=0.62,
    drop=0.24,
    lower=0.19,
    upper=0.291,
    floor=0.03,
    right_to_wrong=50,
    wrong_to_right=2,
    parsed_to_unparseable=7,
    changed=131,
    edited_unparseable=0.035,
    base_from_store=False,
    examples=(
        Example(
            key="reasoning/17",
            prompt="Question: Mara has 3 baskets of 4 pears and eats 2. How many pears are left?\nAnswer:",
            gold="10",
            base=" 3*4=12. 12-2=10. #### 10",
            edited=" 3*4=12. 12-2=12. #### 12",
        ),
        Example(key="reasoning/4", prompt="Question: 1 | 2 `x`?\nAnswer:", gold="3", base=" #### 3", edited=""),
    ),
)
UNDECIDED = row_with(
    PASSED,
    ability="summarization",
    title="Summarization",
    metric="mean of ROUGE-1/2/L",
    outcome="INCONCLUSIVE",
    base=0.71,
    edited=0.69,
    drop=0.02,
    lower=-0.021,
    upper=0.061,
    method="paired bootstrap",
    base_lower=0.68,
    more_items=140,
    beside={"rouge1": (0.72, 0.7)},
)


def answer(text: str, score: float) -> AnswerRecord:
    return AnswerRecord(text=text, value=text.strip(), parseable=bool(text), score=score)


REPORT = RunReport(
    header=HEADER,
    abilities=(FAILED, PASSED, UNDECIDED),
    edit_scores=(
        EditScore("efficacy", "autoregressive", 0.98, 10),
        EditScore("efficacy", "teacher-forced", 1.0, 10),
        EditScore("generalization", "autoregressive", 0.85, 20),
        EditScore("generalization", "teacher-forced", 0.9, 20),
        EditScore("portability", "autoregressive", None, 0),
        EditScore("efficacy", "likelihood, nats per token", 4.25, 10, 3.5, 5.0),
        EditScore("locality", "likelihood, nats per token", -0.0312, 9, -0.0651, 0.0027),
        EditScore("efficacy", "likelihood", 0.9, 10, 0.596, 0.982),
        EditScore("efficacy, magnitude", "likelihood", 0.41, 10, 0.2, 0.62),
    ),
    integrity=(
        IntegrityRow("finite weights", True, True, "all weights are finite"),
        IntegrityRow("update norm", 0.031, None, "the update's norm is 0.031 of the weight's"),
    ),
    skipped=(SkippedEdit("zsre.json", 12, "answers", "the target is empty"),),
    seconds={"editing": 4.21, "base answers": 0.3, "edited answers": 9.87},
    settings={"editor": "memit", "limit": 200},
    fingerprints={"weights": "0f" * 32},
    versions={"torch": "2.13.0"},
    command="pytest suites/ --editor memit",
    reuse=ReuseCounts(answers=20, answers_known=5),
    items=(
        ItemRecord(
            ability="reasoning",
            key="reasoning/17",
            cluster="reasoning/17",
            prompt="Question: é?\nAnswer:",
            choices=(),
            gold=("10",),
            base=answer(" 10", 1.0),
            edited=(answer(" 12", 0.0), answer(" 10", 1.0)),
        ),
    ),
)
ALL_PASS = replace(REPORT, abilities=(PASSED,), skipped=())
