"""Asking an ability's questions until its verdict is certain, and no further.

    asked = InBlocks(interview, seed=0)
    found = asked.until_settled(margin)   # asks no more than that takes, in a seeded order

Each block is put to the untouched model, then to every edited one. Another margin begins with the answers that are
there.
"""

import numpy as np

from audit.answering.interview import Interview
from audit.answering.paired_answers import PairedAnswers
from audit.answering.settlement import Settled, settled
from audit.verdicts.betting import visiting_order
from audit.verdicts.margins import Margin
from audit.verdicts.sequential import stopping_rule

# The fewest items in a block: enough to find most harm, and to keep the device busy.
BLOCK_ON_CPU, BLOCK_ELSEWHERE = 16, 64


class InBlocks:
    """One ability's questions in the order of their asking, and the answers so far.

    Whole clusters, in a permutation that depends on nothing but them and the seed (`visiting_order`).
    """

    def __init__(self, interview: Interview, seed: int) -> None:
        self.interview = interview
        self._seed = seed
        clusters = [item.cluster for item in interview.questions]
        on_cpu = interview.known.lm.device.type == "cpu"
        self._rule = stopping_rule(clusters, BLOCK_ON_CPU if on_cpu else BLOCK_ELSEWHERE)
        order = np.concatenate(visiting_order(clusters, seed)).tolist()
        self._questions = [interview.questions[number] for number in order]
        self._asked: PairedAnswers | None = None

    def until_settled(self, margin: Margin) -> Settled:
        """The verdict under this margin, after as many blocks as it takes."""
        clusters = [item.cluster for item in self._questions]
        floor = self.interview.ability.floor(self.interview.questions)
        crew = self.interview.crew
        return settled(self.answers, clusters, self._rule, margin, floor=floor, seed=self._seed, crew=crew)

    def answers(self, count: int | None = None) -> PairedAnswers:
        """Those to the first `count` questions (None: to all), of which none is asked twice."""
        wanted = len(self._questions) if count is None else count
        known = 0 if self._asked is None else len(self._asked.base.items)
        if wanted > known:
            fresh = self.interview.both(self._questions[known:wanted])
            self._asked = fresh if self._asked is None else self._asked.joined(fresh)
        return self.so_far.part(0, wanted)

    @property
    def so_far(self) -> PairedAnswers:
        """All answers that are there; something was asked before."""
        assert self._asked is not None
        return self._asked
