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
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from audit.editors.mend.lessons import MendLessons
from audit.editors.mend.losses import Updates, answer_divergence, divergence, edited_by, updates_of
from audit.editors.mend.network import MendNetwork
from audit.editors.mend.training_settings import MendTrainingSettings
from audit.editors.mend.upper_passes import UpperPasses
from audit.editors.stages.editor_settings import require
from audit.editors.stages.rank_one_gradients import map_sizes, mlp_maps, padded_targets, row_losses
from audit.edits.requests import EditRequest, Probe
from audit.edits.sources import requests_fingerprint
from audit.errors import AuditError
from audit.models.fingerprints import content_fingerprint, weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.store.files import read_json, require_file

STATE_FILE = "state.json"
MOST_GROUPS = 8
VALIDATION_EDITS = 80  # at most, for each batch size


@dataclass(frozen=True)
class Validation:
    """Mean losses on validation subjects after `step` steps; `likely` is the share of rephrasings whose target tokens
    have a mean probability (geometric) above 1/2. `neighbors` is 0 if their weight is.
    """

    step: int
    edit: float
    locality: float
    likely: float
    neighbors: float = 0.0

    def total(self, settings: MendTrainingSettings) -> float:
        locality = settings.locality_weight * self.locality + settings.neighbor_weight * self.neighbors
        return settings.edit_weight * self.edit + locality


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
        self._logits = UpperPasses(min(self.settings.layers)).logits_at
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
            updates = updates_of(self.lm, self.network, groups, collect_statistics=True, logits=self._logits)
            edit = self._edit_losses(updates, groups, rng).mean()
            locality = self._divergence(updates, texts, rng)
            loss = settings.edit_weight * edit + settings.locality_weight * locality
            if settings.neighbor_weight:
                loss = loss + settings.neighbor_weight * self._neighbor_divergence(updates, groups, share, rng)
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

    def _edit_losses(self, updates: Updates, groups: Sequence[Sequence[EditRequest]], rng: Random) -> Tensor:
        """The loss of each edit, (edits,), at its own prompt or a rephrasing."""
        pairs = [(_rephrased(rng, request), request.target_new) for group in groups for request in group]
        with edited_by(self.lm, updates, len(groups)):
            return row_losses(self.lm, padded_targets(self.lm, pairs), self._logits)

    def _divergence(self, updates: Updates, texts: Sequence[Sequence[str]], rng: Random) -> Tensor:
        places, seed = self.settings.text_places, str(rng.random())
        return divergence(
            self.lm, updates, texts, self.settings.text_tokens, places=places, seed=seed, logits=self._logits
        )

    def _neighbor_divergence(
        self, updates: Updates, groups: Sequence[Sequence[EditRequest]], share: int, rng: Random
    ) -> Tensor:
        """The divergence at `share` probes of each group that do not name a subject of the group; 0 without probes."""
        near = [_unaffected(group) for group in groups]
        if not all(near):
            return torch.zeros((), device=self.lm.device)
        return answer_divergence(
            self.lm, updates, [rng.choices(probes, k=share) for probes in near], logits=self._logits
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
        neighbors: list[float] = []
        likely: list[float] = []
        for size in dict.fromkeys(settings.batch_sizes):
            size = min(size, len(requests))
            usable = min(len(requests), max(VALIDATION_EDITS, size))
            groups = [requests[start : start + size] for start in range(0, usable - size + 1, size)]
            together = max(1, settings.edits_a_pass // size)
            for start in range(0, len(groups), together):
                part = groups[start : start + together]
                texts = [rng.choices(self.lessons.validation_texts, k=max(1, size)) for _ in part]
                updates = updates_of(self.lm, self.network, part, logits=self._logits)
                losses = self._edit_losses(updates, part, rng)
                edit.append(float(losses.mean()))
                likely.append(float((losses < math.log(2)).float().mean()))
                locality.append(float(self._divergence(updates, texts, rng)))
                if settings.neighbor_weight:
                    neighbors.append(float(self._neighbor_divergence(updates, part, max(1, size), rng)))
        validation = Validation(self.step, _mean(edit), _mean(locality), _mean(likely), _mean(neighbors or [0.0]))
        self._require_finite(validation.total(settings))
        if all(validation.total(settings) < earlier.total(settings) for earlier in self.history):
            self.best = {name: x.detach().clone() for name, x in self.network.state_dict().items()}
        self.history.append(validation)


def _rephrased(rng: Random, request: EditRequest) -> str:
    """The edit's own prompt or one of its paraphrases."""
    return rng.choice((request.filled_prompt, *request.paraphrases))


def _unaffected(group: Sequence[EditRequest]) -> list[Probe]:
    """The neighborhood probes of a group that do not name a subject of the group."""
    probes = (probe for request in group for probe in request.neighborhood)
    return [probe for probe in probes if not any(request.subject in probe.prompt for request in group)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
