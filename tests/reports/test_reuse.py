"""The sentences about reuse, and the sum over the processes of a run."""

from hypothesis import given
from hypothesis import strategies as st

from audit.engine.reuse_counts import ReuseCounts
from audit.reports.run_sentences import reuse_sentences

COUNTS = st.builds(ReuseCounts, *[st.integers(0, 1000)] * 8)


def test_no_reuse_has_no_sentence() -> None:
    assert reuse_sentences(ReuseCounts(edits=10, answers=1600, block_tokens=5000, drafts=800)) == ()


def test_each_kind_has_its_sentence() -> None:
    assert reuse_sentences(ReuseCounts(10, 4, 1600, 800, 300, 100, 800, 790)) == (
        "edits: 4 of 10 come from an interrupted run",
        "answers: 800 of 1600 come from earlier runs",
        "reuse: 790 of 800 base answers checked as drafts gave the whole edited answer in one pass; "
        "33% of the edited models' block computations were reused",
    )
    assert reuse_sentences(ReuseCounts(drafts=8, drafts_stood=1)) == (
        "reuse: 1 of 8 base answers checked as drafts gave the whole edited answer in one pass",
    )


@given(COUNTS, COUNTS)
def test_processes_add_up_but_for_the_edits_that_they_share(one: ReuseCounts, other: ReuseCounts) -> None:
    both = ReuseCounts.sum_of([one, other])
    assert both == ReuseCounts.sum_of([other, one])
    assert both.answers == one.answers + other.answers
    assert both.drafts_stood == one.drafts_stood + other.drafts_stood
    assert both.edits == max(one.edits, other.edits)
    assert ReuseCounts.sum_of([one]) == one
