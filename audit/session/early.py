"""Asking an ability block after block, until its verdict is certain.

    asked = InBlocks(interview, seed=0)
    found = asked.until_settled(margin)   # asks no more than that takes, in a seeded order

Each block is put to the untouched model, then to every edited one. Another margin begins with the answers that are
there.
"""

from collections.abc import Iterator

from audit.session.interview import Interview
from audit.session.settling import Asked, Settled, joined, settled
from audit.verdicts.betting import visiting_order
from audit.verdicts.margins import Margin
from audit.verdicts.sequential import sequential_plan

# The fewest items in a block. On a CPU a batch is hardly cheaper than its items, so small blocks cost next to nothing;
# an accelerator needs many at once to be busy, and what it asks too much it asks in no time.
BLOCK_ON_CPU, BLOCK_ELSEWHERE = 8, 64


class InBlocks:
    """One ability's questions in the order of their asking; every answer is kept for the next margin.

    Whole clusters, in a permutation that depends on nothing but them and the seed (`visiting_order`).
    """

    def __init__(self, interview: Interview, seed: int) -> None:
        self.interview = interview
        self._seed = seed
        questions, on_cpu = interview.questions, interview.known.lm.device.type == "cpu"
        clusters = [item.cluster for item in questions]
        self.plan = sequential_plan(clusters, BLOCK_ON_CPU if on_cpu else BLOCK_ELSEWHERE)
        order = visiting_order(clusters, len(clusters), self.plan.block, seed)
        self._blocks = [[questions[number] for number in block.tolist()] for block in order]
        self._asked: list[Asked] = []

    def until_settled(self, margin: Margin) -> Settled:
        """The verdict under this margin, after as many blocks as it takes."""
        floor = self.interview.ability.floor(self.interview.questions)
        return settled(self._answers(), self.plan, margin, floor=floor, seed=self._seed, crew=self.interview.crew)

    def everything(self) -> Asked:
        """The answers to all questions."""
        return joined(list(self._answers()))

    def so_far(self) -> Asked:
        """All answers that are there."""
        return joined(self._asked)

    def _answers(self) -> Iterator[Asked]:
        """Block by block; a block that was not asked yet is asked when it is wanted."""
        for number, block in enumerate(self._blocks):
            if number == len(self._asked):
                self._asked.append(self.interview.both(block))
            yield self._asked[number]
