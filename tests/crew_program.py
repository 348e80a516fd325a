"""What each process of a crew runs under a launcher in `tests/answering/test_crew.py`; prints what it saw as JSON.

python -m torch.distributed.run --standalone --nproc-per-node 2 -m tests.crew_program FOLDER
"""

import json
import sys
from pathlib import Path
from typing import Any

from audit.answering.crew import Crew, current_crew, temporary_folder
from audit.errors import AuditError


def main(folder: Path) -> None:
    with current_crew("cpu") as (crew, device), temporary_folder(crew) as shared:
        seen = {"rank": crew.rank, "size": crew.size, "device": device, "shared": shared}
        seen |= {"share": crew.share("abcde"), "gathered": crew.gather(lambda: crew.rank * 10)}
        seen |= {"first": crew.run_in_first(lambda: crew.rank)}
        seen |= {"ahead": crew.run_in_first_then_others(lambda: appended(folder, crew))}
        seen |= {"refused": refused(crew, 1), "refused by the first": refused(crew, 0)}
        seen |= {"disagreed": disagreed(crew), "still there": crew.gather(lambda: 1)}
    seen["shared is gone"] = not Path(shared).exists()
    (folder / f"{crew.rank}.json").write_text(json.dumps(seen), encoding="utf-8")


def appended(folder: Path, crew: Crew) -> str:
    """What the file of all says once this process has signed it."""
    with (folder / "signed").open("a+") as file:
        file.write(str(crew.rank))
        file.seek(0)
        return file.read()


def refused(crew: Crew, rank: int) -> Any:
    """How the process hears that the one of this rank cannot go on."""

    def work() -> int:
        if crew.rank == rank:
            raise AuditError(f"process {rank} cannot")
        return crew.rank

    try:
        return crew.run_in_all(work)
    except AuditError as error:
        return [type(error).__name__, str(error)]


def disagreed(crew: Crew) -> str:
    try:
        crew.agree("their numbers", crew.rank)
    except AuditError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    main(Path(sys.argv[1]))
