"""The processes that run one audit together: each asks its share of the questions, and all come to know every answer.

    python -m torch.distributed.run --nproc-per-node 2 -m audit.cli run
    accelerate launch --multi_gpu --num_processes 2 -m audit.cli run

Every process runs the same audit, step by step. A step that one process cannot take is refused in all of them, with
the same sentence: nobody waits for a process that has given up.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from audit.abilities.contract import Ability, Answers, Item
from audit.answering.scores import read_raw
from audit.errors import AuditError, SharedError

if TYPE_CHECKING:
    from accelerate import PartialState

T = TypeVar("T")
LONGEST_STEP = timedelta(days=7)  # the others wait while one edits; whoever dies is noticed by the launcher


class Crew:
    """One process on its own: every share is the whole, and nobody else has to agree."""

    rank = 0
    size = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that edits, shows and saves."""
        return self.rank == 0

    def share(self, everything: Sequence[T]) -> Sequence[T]:
        """What this process does of it: every `size`-th."""
        return everything[self.rank :: self.size]

    def gather(self, work: Callable[[], T]) -> list[T]:
        """Do `work` in every process; what came of it in each, by rank. Where one raises `AuditError`, all do."""
        return [work()]

    def together(self, work: Callable[[], T]) -> T:
        """Do `work` in every process and go on with one's own result once all have theirs."""
        own: list[T] = []
        self.gather(lambda: own.append(work()))
        return own[0]

    def from_first(self, work: Callable[[], T]) -> T:
        """What came of `work` in the first process, which alone does it."""
        return self.gather(lambda: [work()] if self.first else [])[0][0]

    def first_ahead(self, work: Callable[[], T]) -> T:
        """Do `work` in the first process, then in the others, who find on the disk what it has kept there."""
        ahead = self.together(lambda: [work()] if self.first else [])
        behind = self.together(lambda: [] if self.first else [work()])
        return (ahead or behind)[0]

    def agree(self, what: str, value: T) -> T:
        """The value that all processes hold.

        Raises:
            AuditError: they hold different ones.
        """
        held = self.gather(lambda: value)
        if any(one != value for one in held):
            raise AuditError(f"the processes differ in {what}, so they cannot share the work; run the audit in one.")
        return value


class SeveralProcesses(Crew):
    """A crew that accelerate connects, over gloo on the CPU and over NCCL on GPUs."""

    def __init__(self, state: "PartialState") -> None:
        self.rank = state.process_index
        self.size = state.num_processes

    def gather(self, work: Callable[[], T]) -> list[T]:
        from accelerate.utils import gather_object

        done: list[T] = []
        trouble = ""
        try:
            done.append(work())
        except AuditError as error:
            trouble = str(error)
        told: list[tuple[str, list[T]]] = gather_object([(trouble, done)])
        for sentence, _ in told:
            if sentence:
                raise AuditError(sentence) if self.first else SharedError(sentence)
        return [result for _, (result,) in told]


@contextmanager
def crew_here(device: str) -> Iterator[tuple[Crew, str]]:
    """The processes that a launcher started together, and the device of this one; `device` is as typed.

    Without a launcher it is one process on the device that was asked for. Of several each takes the GPU of its place on
    its machine, where there are enough, and else the CPU.

    Raises:
        AuditError: the device cannot be had by each process of several.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "LOCAL_RANK" not in os.environ:
        yield Crew(), device
        return
    from accelerate import PartialState

    own = _own_device(device, int(os.environ.get("LOCAL_WORLD_SIZE", size)))
    state = PartialState(cpu=own == "cpu", timeout=LONGEST_STEP)
    try:
        yield SeveralProcesses(state), own
    finally:
        state.destroy_process_group()


@contextmanager
def passing_folder(crew: Crew) -> Iterator[str]:
    """A folder that all processes of the crew may use, and that is gone afterwards."""
    folder = crew.from_first(lambda: tempfile.mkdtemp(prefix="audit-run-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def asked_by_all(
    crew: Crew, ability: Ability, items: Sequence[Item], ask: Callable[[Sequence[Item]], Answers]
) -> Answers:
    """Ask each process's share of the items, and read all answers in every process."""
    if crew.size == 1:
        return ask(items)

    def raw_of_share() -> tuple[tuple[object, ...], int]:
        asked = ask(crew.share(items))
        return asked.raw, asked.from_store

    shares = crew.gather(raw_of_share)
    raw = [shares[number % crew.size][0][number // crew.size] for number in range(len(items))]
    return read_raw(ability, items, raw, sum(from_store for _, from_store in shares))


def _own_device(device: str, neighbors: int) -> str:
    """ "cuda" (accelerate makes it this process's own) or "cpu"; `neighbors` counts the processes of this machine."""
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise AuditError(
            f"--device {device} does not go with several processes, of which each takes a device of its own; "
            "use auto, cpu or cuda, or start one process."
        )
    gpus = torch.cuda.device_count()
    if device == "cuda" and gpus < neighbors:
        raise AuditError(
            f"--device cuda: there are {neighbors} processes and {gpus} GPUs here, and each process needs its own; "
            "start as many processes as there are GPUs, or use --device cpu."
        )
    return "cpu" if device == "cpu" or gpus < neighbors else "cuda"
