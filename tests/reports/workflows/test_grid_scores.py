"""Scores as lines of JSON: complete, and without classes or texts."""

import json
import math

import pytest

from audit.answering.paired_answers import PairedScores
from audit.reports.workflows.grid_scores import AbilityScores, _anonymous, scores_from_jsonl, scores_jsonl
from audit.verdicts.verdict import judge

ODDS = PairedScores(
    [1.0, 0.0, 1.0, 1.0],
    [1.0, 0.0, 0.0, 1.0],
    ["a long passage", "another", "a long passage", "third"],
    None,
    None,
    base_odds=[-2.0, 1.0, math.nan, math.inf],
    edited_odds=[[-1.0], [1.0], [0.5], [-math.inf]],
    positives=[False, True, False, True],
)
COUNTS = PairedScores(
    [1.0, 0.0, 1.0],
    [1.0, 1.0, 0.0],
    ["a", "b", "c"],
    [[0, 0, 1, 1], [0, 1, 0, 0], [0, 0, 1, 1]],
    [[0, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 1]],
)


def back(scores: PairedScores) -> PairedScores:
    (one,) = scores_from_jsonl(scores_jsonl([AbilityScores("nli", 0.5, ("nli/1",), _anonymous(scores))]))
    assert (one.ability, one.floor, one.keys) == ("nli", 0.5, ("nli/1",))
    return one.scores


@pytest.mark.parametrize("scores", [ODDS, COUNTS])
def test_a_verdict_from_the_file_is_that_of_the_run(scores: PairedScores) -> None:
    now, then = (judge(**vars(one), margin=0.05, floor=0.5) for one in (scores, back(scores)))
    assert then == now


def test_a_file_names_no_source_and_no_class() -> None:
    text = scores_jsonl([AbilityScores("nli", 0.5, ("nli/1",), _anonymous(ODDS))])
    assert "passage" not in text
    odds = json.loads(text)["scores"]
    assert odds["positives"] == [True, False, True, False]  # the first item's class, whichever it is
    assert odds["base_odds"][:3] == [2.0, -1.0, None]
    counts = _anonymous(COUNTS).base_counts
    assert counts is not None
    assert list(counts[0]) == [1, 1, 0, 0]
