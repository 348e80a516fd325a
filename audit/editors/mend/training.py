"""Training of MEND's editing network.

    trainer = MendTrainer(lm, lessons, settings, seed=0)
    trainer.run(steps=2000, folder=Path("build/mend"))
    network = trainer.best_network()

L = c_edit · NLL(rephrased edit | edited) + c_loc · KL(base ‖ edited) on unrelated text (Mitchell et al. 2022, arXiv
2110.11309, equation 4), differentiated through the edit (`audit.editors.mend.losses`).

The random draws of a step depend only on the seed and the step number, so a resumed training gives the same result bit
for bit.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from audit.editors.mend.lessons import MendLessons
from audit.editors.mend.losses import divergence, edited_by, updates_of
from audit.editors.mend.network import MendNetwork
from audit.editors.stages.editor_settings import (
    EditorSettings,
    Published,
    Shapes,
    require,
    require_not_negative,
    require_positive,
)
from audit.editors.stages.rank_one_gradients import map_sizes, mlp_maps, padded_targets, row_losses
from audit.edits.requests import EditRequest
from audit.edits.sources import requests_fingerprint
from audit.errors import AuditError
from audit.models.fingerprints import content_fingerprint, weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.store.files import read_json, require_file

STATE_FILE = "state.json"
MOST_GROUPS = 8
VALIDATION_EDITS = 80  # at most, for each batch size
SETTINGS_NAME = "train-mend"

_LAST_THREE: Published = {
    Shapes.GPT2_XL: {"layers": (45, 46, 47)},
    Shapes.GPT_J: {"layers": (25, 26, 27)},
    Shapes.LLAMA_7B: {"layers": (29, 30, 31)},
    Shapes.LLAMA_3_8B: {"layers": (29, 30, 31)},
    Shapes.MISTRAL_7B: {"layers": (29, 30, 31)},
    Shapes.QWEN_2_7B: {"layers": (25, 26, 27)},
}


@dataclass(frozen=True)
class MendTrainingSettings(EditorSettings):
    """Settings of the training; defaults as published for GPT-2 XL (appendix of the paper, and the authors' code).

    `layers`: the blocks whose MLP maps are all edited. `rank`: of the residual layers. `first_rate`: initial value of
    the learned rates. `edit_weight` and `locality_weight`: c_edit and c_loc. `network_step` and `rate_step`: Adam's
    step sizes for the network and for the learned rates; both fall to zero over the last half of the steps (constant in
    the paper). `clip`: bound of the gradient norm. `batch_sizes`: numbers of edits in one update, one drawn per pass.
    `edits_a_pass` and `texts_a_pass`: approximate numbers of edits and texts in a pass, in up to eight separate models.
    `accumulate`: passes per step. `text_tokens`: maximum length of a text. `validate_every`: steps between validations.
    `patience`: number of validations without improvement after which training stops.
    """

    published: ClassVar[Published] = _LAST_THREE

    layers: tuple[int, ...] = (0,)
    rank: int = 1920
    first_rate: float = 1e-4
    edit_weight: float = 0.1
    locality_weight: float = 1.0
    network_step: float = 1e-6
    rate_step: float = 1e-4
    clip: float = 100.0
    batch_sizes: tuple[int, ...] = (1,)
    edits_a_pass: int = 1
    texts_a_pass: int = 1
    accumulate: int = 10
    text_tokens: int = 64
    validate_every: int = 500
    patience: int = 40

    @classmethod
    def for_depth(cls, model_type: str, depth: int) -> dict[str, Any]:
        return {"layers": tuple(range(max(0, depth - 3), depth))}

    def check(self, depth: int) -> None:
        inside = bool(self.layers) and all(0 <= layer < depth for layer in self.layers)
        require(inside and len(set(self.layers)) == len(self.layers), "layers", self.layers, "different layers that "
                f"exist, between 0 and {depth - 1}")  # fmt: skip
        counts = ("rank", "edits_a_pass", "texts_a_pass", "accumulate", "text_tokens", "validate_every", "patience")
        for name in counts:
            require(getattr(self, name) >= 1, name, getattr(self, name), "a whole number of at least 1")
        require_positive(self, "first_rate", "edit_weight", "network_step", "rate_step", "clip")
        require_not_negative(self, "locality_weight")
        sizes = self.batch_sizes
        require(bool(sizes) and all(size >= 1 for size in sizes), "batch_sizes", sizes, "whole numbers of at least 1")


@dataclass(frozen=True)
class Validation:
    """Mean losses on validation subjects after `step` steps; `likely` is the share of rephrasings whose target tokens
    have a mean probability (geometric) above 1/2.
    """

    step: int
    edit: float
    locality: float
    likely: float

    def total(self, settings: MendTrainingSettings) -> float:
        return settings.edit_weight * self.edit + settings.locality_weight * self.locality


@dataclass
class MendTrainer:
    """A network in training, with the full state of a checkpoint."""

    lm: LanguageModel
    lessons: MendLessons
    settings: MendTrainingSettings
    seed: int = 0
    step: int = 0
    seconds: float = 0.0
    history: list[Validation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.network = self._new_network()
        others = [parameter for name, parameter in self.network.named_parameters() if name != "rates"]
        self.adam = torch.optim.Adam([{"params": others}, {"params": [self.network.rates]}])
        self.best: dict[str, Tensor] | None = None
        self._by_subject: dict[str, list[EditRequest]] = {}
        for request in self.lessons.training:
            self._by_subject.setdefault(request.subject, []).append(request)
        largest, people = max(self.settings.batch_sizes), len(self._by_subject)
        require(largest <= people, "batch_sizes", self.settings.batch_sizes, f"at most the {people} subjects there are")

    def run(self, steps: int, folder: Path, progress: Callable[[int, int], None] | None = None) -> None:
        """Train for `steps` steps, or until `patience` validations bring no improvement; writes checkpoints to
        `folder`.
        """
        started, before = time.monotonic(), self.seconds
        while self.step < steps and not self._exhausted():
            self._learn(steps)
            self.step += 1
            if self.step % self.settings.validate_every == 0 or self.step == steps:
                self._validate()
                self.seconds = before + time.monotonic() - started
                self.save(folder)
            if progress is not None:
                progress(self.step, steps)

    def best_network(self) -> MendNetwork:
        """The network with the best validation.

        Raises:
            AuditError: there was no validation yet.
        """
        if self.best is None:
            raise AuditError("the training ended before its first validation; train for more steps.")
        network = self._new_network()
        network.load_state_dict(self.best)
        return network

    def save(self, folder: Path) -> None:
        """Write networks, moments and counters; the counters last, so that an incomplete checkpoint is never read."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"now.{name}": x for name, x in self.network.state_dict().items()}
        tensors |= {f"best.{name}": x for name, x in (self.best or {}).items()}
        for name, parameter in self.network.named_parameters():
            tensors |= {f"adam.{key}.{name}": x for key, x in self.adam.state[parameter].items()}
        file = f"step-{self.step}.safetensors"
        save_file({name: x.detach().cpu().contiguous().clone() for name, x in tensors.items()}, folder / file)
        counters = {
            "origin": self._origin(),
            "step": self.step,
            "seconds": self.seconds,
            "history": [asdict(validation) for validation in self.history],
        }
        (folder / f"{STATE_FILE}.tmp").write_text(json.dumps(counters, indent=1) + "\n", encoding="utf-8")
        (folder / f"{STATE_FILE}.tmp").replace(folder / STATE_FILE)
        for old in folder.glob("step-*.safetensors"):
            if old.name != file:
                old.unlink()

    def load(self, folder: Path) -> None:
        """Resume from a checkpoint.

        Raises:
            AuditError: there is none, or it was made with another model, data, settings or seed.
        """
        try:
            counters = read_json(folder / STATE_FILE)
            origin, self.step, self.seconds = (
                dict(counters["origin"]),
                int(counters["step"]),
                float(counters["seconds"]),
            )
            self.history = [Validation(**validation) for validation in counters["history"]]
        except FileNotFoundError:
            raise AuditError(f"{folder} has no training to resume; leave --resume out.") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise AuditError(
                f"the {STATE_FILE} in {folder} cannot be read ({reason}); train in another folder."
            ) from None
        for key, value in self._origin().items():
            if origin.get(key) != value:
                raise AuditError(
                    f"the training in {folder} was started with {key} {origin.get(key)!r}, not {value!r}; "
                    "resume it with the same options, or train in another folder."
                )
        file = folder / f"step-{self.step}.safetensors"
        try:
            require_file(file)
            tensors = load_file(file)
        except (SafetensorError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise AuditError(f"{file} cannot be read ({reason}); train in another folder.") from None

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}

        self.network.load_state_dict(part("now."))
        self.best = {name: x.to(self.network.rates.device) for name, x in part("best.").items()} or None
        for name, parameter in self.network.named_parameters():
            moments = {key: tensors[f"adam.{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}
            self.adam.state[parameter] = {
                key: x if key == "step" else x.to(parameter.device) for key, x in moments.items()
            }

    def _new_network(self) -> MendNetwork:
        maps = mlp_maps(self.lm, self.settings.layers)
        sizes = {path: map_sizes(self.lm, path) for path in maps}
        network = MendNetwork(sizes, self.settings.rank, self.settings.first_rate, self.seed)
        return network.to(self.lm.device)

    def _origin(self) -> dict[str, Any]:
        """What a checkpoint depends on: model, data, seed and settings."""
        texts = content_fingerprint([self.lessons.texts, self.lessons.validation_texts])
        return {
            "model": weights_fingerprint(self.lm),
            "edits": requests_fingerprint((*self.lessons.training, *self.lessons.validation)),
            "texts": texts,
            "seed": self.seed,
            "settings": json.loads(json.dumps(asdict(self.settings))),
        }

    def _exhausted(self) -> bool:
        totals = [validation.total(self.settings) for validation in self.history]
        return bool(totals) and len(totals) - 1 - totals.index(min(totals)) >= self.settings.patience

    def _learn(self, steps: int) -> None:
        """One step of Adam over `accumulate` passes."""
        settings = self.settings
        share_left = min(1.0, 2 * (1 - self.step / steps))
        for group, size in zip(self.adam.param_groups, (settings.network_step, settings.rate_step), strict=True):
            group["lr"] = size * share_left
        self.adam.zero_grad()
        for number in range(settings.accumulate):
            rng = Random(f"{self.seed} {self.step} {number}")
            size = rng.choice(settings.batch_sizes)
            count = max(1, min(MOST_GROUPS, settings.edits_a_pass // size))
            groups = [self._drawn_group(rng, size) for _ in range(count)]
            share = max(1, settings.texts_a_pass // count)
            texts = [rng.choices(self.lessons.texts, k=share) for _ in range(count)]
            updates = updates_of(self.lm, self.network, groups, collect_statistics=True)
            pairs = [(_rephrased(rng, request), request.target_new) for group in groups for request in group]
            with edited_by(self.lm, updates, count):
                edit = row_losses(self.lm, padded_targets(self.lm, pairs)).mean()
            locality = divergence(self.lm, updates, texts, settings.text_tokens)
            loss = settings.edit_weight * edit + settings.locality_weight * locality
            (loss / settings.accumulate).backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip)
        self._require_finite(float(norm))
        self.adam.step()

    def _require_finite(self, value: float) -> None:
        if not math.isfinite(value):
            raise AuditError(
                f"a loss or gradient of the training is not finite at step {self.step}; "
                "lower network_step or first_rate."
            )

    def _drawn_group(self, rng: Random, size: int) -> list[EditRequest]:
        """Requests of different subjects, so that they do not contradict each other."""
        subjects = rng.sample(list(self._by_subject), size)
        return [rng.choice(self._by_subject[subject]) for subject in subjects]

    @torch.no_grad()
    def _validate(self) -> None:
        """Compute the losses on validation subjects for all batch sizes of training, with the same draws every time."""
        settings, rng = self.settings, Random("validation")
        requests = list(self.lessons.validation)
        rng.shuffle(requests)
        edit: list[float] = []
        locality: list[float] = []
        likely: list[float] = []
        for size in settings.batch_sizes:
            size = min(size, len(requests))
            usable = min(len(requests), max(VALIDATION_EDITS, size))
            groups = [requests[start : start + size] for start in range(0, usable - size + 1, size)]
            together = max(1, settings.edits_a_pass // size)
            for start in range(0, len(groups), together):
                part = groups[start : start + together]
                texts = [rng.choices(self.lessons.validation_texts, k=max(1, size)) for _ in part]
                updates = updates_of(self.lm, self.network, part)
                pairs = [(_rephrased(rng, request), request.target_new) for group in part for request in group]
                with edited_by(self.lm, updates, len(part)):
                    losses = row_losses(self.lm, padded_targets(self.lm, pairs))
                edit.append(float(losses.mean()))
                likely.append(float((losses < math.log(2)).float().mean()))
                locality.append(float(divergence(self.lm, updates, texts, settings.text_tokens)))
        validation = Validation(self.step, _mean(edit), _mean(locality), _mean(likely))
        self._require_finite(validation.total(settings))
        if all(validation.total(settings) < earlier.total(settings) for earlier in self.history):
            self.best = {name: x.detach().clone() for name, x in self.network.state_dict().items()}
        self.history.append(validation)


def _rephrased(rng: Random, request: EditRequest) -> str:
    """The edit's own prompt or one of its paraphrases."""
    return rng.choice((request.filled_prompt, *request.paraphrases))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
