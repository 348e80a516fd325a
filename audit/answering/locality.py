"""Locality: base model and edited models compared on prompts about what no edit touched.

A search for the simplest disturbed prompt tries one prompt at a time, and most of them several times, so each contrast
is kept. New prompts go through the base model, and then through each edited model inside its patch's context manager:
a survey in one batch, a search prompt by prompt. Two copies of the model would be faster, but take twice the memory.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from audit.engine.known_model import KnownModel
from audit.measures.locality_contrasts import ANSWER_TOKENS, SHOWN, Contrast, GreedyAnswer, contrast
from audit.measures.locality_topics import Topics
from audit.models.fingerprints import content_fingerprint
from audit.models.patches import Patch
from audit.progress import Stages
from audit.store.answer_log import AnswerLog
from audit.store.content import Store
from audit.store.places import PROMPTS


@dataclass(frozen=True)
class Survey:
    """The disturbed prompts among those of a survey; `asked` counts all of them."""

    disturbed: tuple[Contrast, ...]
    asked: int

    @property
    def prompts(self) -> tuple[str, ...]:
        """The disturbed prompts."""
        return tuple(one.prompt for one in self.disturbed)

    @property
    def share(self) -> float:
        return len(self.disturbed) / self.asked if self.asked else 0.0

    def __str__(self) -> str:
        return f"{len(self.disturbed)} of {self.asked} prompts drawn ({self.share:.0%}) are disturbed"


class Locality:
    """The contrast between the base model and the edited models after any prompt.

    Args:
        patches: one for each edited model.
        topics: the topics that no edit touched.
        seed: the seed of the prompts that are drawn.
        store: keeps contrasts and failing prompts between runs; None keeps nothing.
    """

    def __init__(
        self,
        known: KnownModel,
        patches: Sequence[Patch],
        topics: Topics,
        *,
        seed: int,
        store: Store | None,
        stages: Stages,
    ) -> None:
        self.topics = topics
        self.seed = seed
        self.folder: Path | None = None if store is None else store.root / PROMPTS
        self._known = known
        self._patches = patches
        self._store = store
        self._stages = stages
        self._contrasts: dict[str, Contrast] = {}

    def contrast(self, prompt: str) -> Contrast:
        """The contrast after one prompt; of several edited models, that of the largest divergence."""
        return self.contrasts([prompt])[0]

    def contrasts(self, prompts: Sequence[str]) -> list[Contrast]:
        """The contrasts after many prompts, in their order; new prompts are computed in one batch.

        Raises:
            AuditError: a prompt is empty, or longer than the model's context.
        """
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._contrasts]
        held = {} if self._log is None or not missing else self._log.known()
        keys = {prompt: content_fingerprint(["contrast", ANSWER_TOKENS, SHOWN, prompt]) for prompt in missing}
        self._contrasts.update({prompt: _contrast(held[key]) for prompt, key in keys.items() if key in held})
        missing = [prompt for prompt in missing if prompt not in self._contrasts]
        if missing:
            with self._stages("locality", "locality"):
                fresh = contrast(self._known.lm, self._patches, missing)
            self._contrasts.update(zip(missing, fresh, strict=True))
            if self._log is not None:
                self._log.add({keys[one.prompt]: asdict(one) for one in fresh})
        return [self._contrasts[prompt] for prompt in prompts]

    def survey(self, prompts: Sequence[str], max_divergence: float) -> Survey:
        """The disturbed ones among all prompts; see `Contrast.disturbed`."""
        found = self.contrasts(prompts)
        return Survey(tuple(one for one in found if one.disturbed(max_divergence)), len(found))

    @cached_property
    def _log(self) -> AnswerLog | None:
        """The log of contrasts for these weights and patches."""
        if self._store is None:
            return None
        states = [self._known.state(patch) for patch in self._patches]
        return AnswerLog.of(self._store, content_fingerprint(["locality", *states]))


def _contrast(plain: dict[str, Any]) -> Contrast:
    return Contrast(
        plain["prompt"], plain["divergence"], _greedy_answer(plain["base"]), _greedy_answer(plain["edited"])
    )


def _greedy_answer(plain: dict[str, Any]) -> GreedyAnswer:
    likely = tuple((token, probability) for token, probability in plain["likely"])
    return GreedyAnswer(plain["answer"], plain["probability"], likely)
