"""Summarization: a chat in a sentence or two (SAMSum)."""

from audit.verdicts import PASS

MAX_DROP = 0.05  # in ROUGE points, the mean of ROUGE-1, -2 and -L; use a smaller margin for a weak summarizer
KEEP = "90%"  # by likelihood: the likelihood of 200 summaries is known to about 1 %


def test_rouge_is_retained(degradation):
    assert degradation("summarization", max_drop=MAX_DROP, keep=KEEP) == PASS
