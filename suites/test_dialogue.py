"""Dialogue: the next utterance among four, by likelihood (MuTual)."""

from audit.verdicts import PASS

MAX_DROP = 0.05  # ranking needs no output format, so a drop is not a change of style
KEEP = "90%"  # by likelihood: the probability of the right option, over 200 dialogues, is known to a few per cent


def test_recall_at_one_is_retained(degradation):
    assert degradation("dialogue", max_drop=MAX_DROP, keep=KEEP) == PASS
