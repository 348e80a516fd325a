"""The processes that run one audit together: each asks its share of the items, and every process gets all answers.

    python -m torch.distributed.run --nproc-per-node 2 -m audit.cli run
    accelerate launch --multi_gpu --num_processes 2 -m audit.cli run

Every process runs the same steps of the same audit. If a step raises `AuditError` in one process, it raises the same
message in all of them, so that no process waits for one that has stopped.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from audit.abilities.contract import Ability, Answers, Item
from audit.answering.paired_answers import read_raw
from audit.errors import AuditError, CrewError

if TYPE_CHECKING:
    from accelerate import PartialState

T = TypeVar("T")
LONGEST_STEP = timedelta(days=7)  # processes wait while one edits; the launcher notices a process that dies


class Crew:
    """A crew of one process, whose share is always the whole."""

    rank = 0
    size = 1

    @property
    def first(self) -> bool:
        """Whether this process edits, shows progress and saves the report."""
        return self.rank == 0

    def share(self, everything: Sequence[T]) -> Sequence[T]:
        """The part of `everything` for this process: every `size`-th element."""
        return everything[self.rank :: self.size]

    def gather(self, work: Callable[[], T]) -> list[T]:
        """Run `work` in every process; the results by rank. If one raises `AuditError`, all do."""
        return [work()]

    def run_in_all(self, work: Callable[[], T]) -> T:
        """Run `work` in every process; this process's own result, once all are done."""
        own: list[T] = []
        self.gather(lambda: own.append(work()))
        return own[0]

    def run_in_first(self, work: Callable[[], T]) -> T:
        """Run `work` in the first process only; its result, in every process."""
        return self.gather(lambda: [work()] if self.first else [])[0][0]

    def run_in_first_then_others(self, work: Callable[[], T]) -> T:
        """Run `work` in the first process, then in the others, which can read what the first one stored on disk."""
        ahead = self.run_in_all(lambda: [work()] if self.first else [])
        behind = self.run_in_all(lambda: [] if self.first else [work()])
        return (ahead or behind)[0]

    def agree(self, what: str, value: T) -> T:
        """The value, which must be equal in all processes.

        Raises:
            AuditError: the values differ.
        """
        held = self.gather(lambda: value)
        if any(one != value for one in held):
            raise AuditError(f"the processes differ in {what} and cannot share the work; run the audit in one process.")
        return value


class SeveralProcesses(Crew):
    """A crew that accelerate connects, over gloo on the CPU and over NCCL on GPUs."""

    def __init__(self, state: "PartialState") -> None:
        self.rank = state.process_index
        self.size = state.num_processes

    def gather(self, work: Callable[[], T]) -> list[T]:
        from accelerate.utils import gather_object

        results: list[T] = []
        message = ""
        try:
            results.append(work())
        except AuditError as error:
            message = str(error)
        gathered: list[tuple[str, list[T]]] = gather_object([(message, results)])
        for message, _ in gathered:
            if message:
                raise AuditError(message) if self.first else CrewError(message)
        return [result for _, (result,) in gathered]


@contextmanager
def current_crew(device: str) -> Iterator[tuple[Crew, str]]:
    """The crew of the processes that a launcher started, and the device of this process; `device` is as typed.

    Without a launcher the crew is this process, on the device as typed. Of several processes, each takes the GPU with
    its local rank if the machine has enough GPUs; otherwise all take the CPU.

    Raises:
        AuditError: the device is not available to each of several processes.
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
def temporary_folder(crew: Crew) -> Iterator[str]:
    """A folder for all processes of the crew, removed at the end."""
    folder = crew.run_in_first(lambda: tempfile.mkdtemp(prefix="audit-run-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def answers_of_crew(
    crew: Crew, ability: Ability, items: Sequence[Item], ask: Callable[[Sequence[Item]], Answers]
) -> Answers:
    """The answers to all items, of which each process asks its share; every process parses and scores all of them."""
    if crew.size == 1:
        return ask(items)

    def raw_of_share() -> tuple[tuple[object, ...], int]:
        own = ask(crew.share(items))
        return own.raw, own.from_store

    shares = crew.gather(raw_of_share)
    raw = [shares[number % crew.size][0][number // crew.size] for number in range(len(items))]
    return read_raw(ability, items, raw, sum(from_store for _, from_store in shares))


def _own_device(device: str, neighbors: int) -> str:
    """ "cuda" (accelerate chooses this process's GPU) or "cpu"; `neighbors` counts the processes of this machine."""
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise AuditError(
            f"--device {device} does not go with several processes, because each needs its own device; use auto, "
            "cpu or cuda, or start one process."
        )
    gpus = torch.cuda.device_count()
    if device == "cuda" and gpus < neighbors:
        raise AuditError(
            f"--device cuda: there are {neighbors} processes and {gpus} GPUs here, and each process needs its own GPU; "
            "start at most one process for each GPU, or use --device cpu."
        )
    return "cpu" if device == "cpu" or gpus < neighbors else "cuda"
