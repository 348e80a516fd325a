"""`kill -9` at any moment: what a run had answered is kept, and the resumed run says what an undisturbed one says."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# One process with one thread, so that it may fork: each child asks, and is killed while it does.
SCRIPT = """
import functools, json, os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from audit.abilities import load_ability
from audit.abilities.data.sources import PocketSource, items
from audit.store.answer_log import AnswerLog
from audit.models.patches import DenseDelta, WeightPatch
from audit.answering import answers as asking
from tests.small_audit import build

small = Path(sys.argv[1])
from audit.models.loading import load_language_model
world = build(small)
lm = load_language_model(str(world.model))
asking.write_answers = functools.partial(asking.write_answers, token_budget=256)
asking.rank = functools.partial(asking.rank, token_budget=256)
weight = lm.anatomy.weight_name(0)
noise = torch.randn(lm.model.get_parameter(weight).shape, generator=torch.Generator().manual_seed(0))
patch = WeightPatch({weight: DenseDelta(0.2 * noise)})
abilities = {name: load_ability(name) for name in ("open_qa", "dialogue")}
questions = {name: (ability, items(ability, world.source, 60, 0)) for name, ability in abilities.items()}

def run(folder):
    found = []
    for name, (ability, asked) in questions.items():
        for state, change in (("base", None), ("edited", patch)):
            log = AnswerLog(folder / state)
            found.append(asking.ask(lm, ability, asked, patch=change, log=log).raw)
    return json.dumps(found)

def answered(folder):
    return sum(len(AnswerLog(folder / state).known()) for state in ("base", "edited"))

began = time.perf_counter()
undisturbed = run(small / "undisturbed")
reach, everything = (time.perf_counter() - began) / 4, answered(small / "undisturbed")
chance, folders = random.Random(0), [[0]]  # the answers in each folder before the first kill and after each
for _ in range(20):
    folder, sizes = small / f"killed-{len(folders)}", folders[-1]
    child = os.fork()
    if child == 0:
        run(folder)
        os._exit(0)
    time.sleep(chance.uniform(0, reach))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    sizes.append(answered(folder))
    # The speed of a busy machine changes: go on where kills came too early or too late to mean anything.
    if sizes[-1] == everything:
        folders.append([0])
        reach /= 2
    elif sizes[-1] == sizes[-2]:
        reach *= 2
same = [run(small / f"killed-{number}") == undisturbed for number, _ in enumerate(folders, start=1)]
print(json.dumps({"folders": folders, "same": same, "everything": everything}))
"""


def test_twenty_random_kills_change_no_answer(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert all(said["same"])
    assert all(sizes == sorted(sizes) for sizes in said["folders"])
    amid = {size for sizes in said["folders"] for size in sizes} - {0, said["everything"]}
    assert len(amid) > 2, f"the kills came too early or too late to mean anything: {said['folders']}"
