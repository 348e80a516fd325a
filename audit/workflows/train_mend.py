"""The training of an editing network for MEND: lessons, training steps, and a card with measured scores."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from audit.editors.mend.lessons import MendLessons, file_lessons, pocket_lessons
from audit.editors.mend.network import TrainedNetwork
from audit.editors.mend.training import MendTrainer
from audit.editors.mend.training_settings import SETTINGS_NAME, MendTrainingSettings
from audit.editors.methods.mend import Mend
from audit.editors.stages.editor_settings import parse_overrides, resolve
from audit.edits.requests import EditRequest
from audit.edits.sources import load_requests
from audit.errors import AuditError
from audit.measures.edit_success import EditScores, measure_edits
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.loading import load_language_model, pocket_names
from audit.progress import Progress, Stages, Watcher

CHECKPOINT = "training"  # folder of the checkpoint inside the network's folder
TEST_BATCHES = (1, 10)  # edits in one update when held-out edits are measured
MOST_TEST_EDITS = 100
POCKET_COUNTS = ((10, 0), (10, 1), (10, 2), (50, 0), (100, 0))  # (edits, seed)


@dataclass(frozen=True)
class MendCourse:
    """The data, length and folder of one training.

    `edits` and `texts` are files; without `edits` a pocket model is trained on the pocket world. `variants` is the
    number of further lessons made from each training edit. `overrides` are training settings as typed.
    """

    model: str
    out: Path
    steps: int
    edits: tuple[str, ...] = ()
    texts: str | None = None
    variants: int = 0
    seed: int = 0
    resume: bool = False
    device: str = "auto"
    overrides: Mapping[str, str] = field(default_factory=dict)


def train(course: MendCourse, watcher: Watcher | None = None) -> TrainedNetwork:
    """Train, measure on held-out edits, and write `mend.safetensors` and `mend.json` to the folder of the course.

    Raises:
        AuditError: the model or a file cannot be used, a setting is out of range, or there is nothing to resume.
    """
    given = parse_overrides(MendTrainingSettings, SETTINGS_NAME, course.overrides)
    stages, lm = Stages(watcher), load_language_model(course.model, device=course.device)
    lessons = _lessons(course)
    settings = resolve(MendTrainingSettings, SETTINGS_NAME, lm, given)
    trainer = MendTrainer(lm, lessons, settings, course.seed)
    if course.resume:
        trainer.load(course.out / CHECKPOINT)
    with stages("training", f"training mend for {course.model}") as done:
        trainer.run(course.steps, course.out / CHECKPOINT, done)
    best = min(trainer.history, key=lambda validation: validation.total(settings))
    card: dict[str, Any] = {
        "model": course.model,
        "base": weights_fingerprint(lm),
        "training": {
            "lessons": lessons.origin,
            "held_out": {
                "validation": sorted({request.subject for request in lessons.validation}),
                "test": sorted({request.subject for request in lessons.test}),
            },
            "steps": trainer.step,
            "seconds": round(trainer.seconds, 1),
            "seed": course.seed,
            "settings": asdict(settings),
            "best": asdict(best),
        },
    }
    trained = TrainedNetwork(trainer.best_network(), card)
    trained.save(course.out)  # it is measured as stored, in half precision
    with stages("measuring", f"measuring mend for {course.model}") as done:
        measured = _measured(lm, lessons, course, done)
    trained = TrainedNetwork(trained.network, card | {"measured": measured})
    trained.save(course.out)
    return trained


def _lessons(course: MendCourse) -> MendLessons:
    if course.edits:
        return file_lessons(course.edits, course.texts, course.variants, course.seed)
    if course.model not in pocket_names():
        raise AuditError(
            f"there are no training edits for {course.model}; give a file of edit requests with paraphrases, such as "
            "ZsRE's, with --edits."
        )
    if course.texts is not None:
        raise AuditError(f"--texts {course.texts} needs --edits; give both, or neither to learn from the pocket world.")
    return pocket_lessons()


def _measured(lm: LanguageModel, lessons: MendLessons, course: MendCourse, done: Progress) -> dict[str, Any]:
    """Scores on edits that were not in the training data, by a name that describes these edits."""
    test = lessons.test[:MOST_TEST_EDITS]
    batches = {f"test, subjects never seen, batches of {size}": _in_batches(test, size) for size in TEST_BATCHES}
    if not course.edits:
        pocket = load_requests("pocket")
        seen = {request.subject for request in lessons.training}
        strangers = [request for request in pocket.requests if request.subject not in seen]
        batches[f"pocket, people never seen, batches of {TEST_BATCHES[-1]}"] = _in_batches(strangers, TEST_BATCHES[-1])
        for count, seed in POCKET_COUNTS:
            drawn = pocket.draw(count, seed).requests
            known = sum(request.subject in seen for request in drawn)
            batches[f"pocket, {count} edits, seed {seed} ({known} of people seen with other facts)"] = [drawn]
    editor = Mend({"weights": str(course.out)}, course.seed)
    measured: dict[str, Any] = {}
    for number, (name, groups) in enumerate(batches.items()):
        scores = [measure_edits(lm, editor.edit(lm, group), group) for group in groups]
        measured[name] = _means(scores)
        done(number + 1, len(batches))
    return measured


def _in_batches(requests: Sequence[EditRequest], size: int) -> list[Sequence[EditRequest]]:
    return [requests[start : start + size] for start in range(0, len(requests), size)]


def _means(scores: Sequence[EditScores]) -> dict[str, float | int]:
    """Each measured rate over all requests of all batches."""
    means: dict[str, float | int] = {}
    for measure in ("efficacy", "generalization", "locality", "portability"):
        rates = [rate for one in scores if (rate := getattr(one, f"{measure}_autoregressive")) is not None]
        if rates:
            total = sum(rate.n for rate in rates)
            means[f"{measure}_autoregressive"] = round(sum(rate.value * rate.n for rate in rates) / total, 4)
            means[f"{measure}_n"] = total
    return means
