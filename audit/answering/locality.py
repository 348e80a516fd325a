"""Asking base and edited models about what no edit touched: each prompt once, however often a search comes back to it.

A search for the simplest prompt asks one prompt at a time, and most of them several times. Keeping the edited model
beside the untouched one would be quickest, and take twice the memory; leaving the edits on between two questions would
leave the weights to whoever comes next. So what is not known yet is asked of the untouched model, and then of each
edited one inside its patch's context manager: a survey in one batch, a search prompt by prompt.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from audit.editing.steps import EditedModel
from audit.engine.known_model import KnownModel
from audit.measures.locality_contrasts import ANSWER_TOKENS, SHOWN, Continuation, Contrast, contrast
from audit.measures.locality_topics import Topics
from audit.models.fingerprints import content_fingerprint
from audit.progress import Stages
from audit.store.answer_log import AnswerLog
from audit.store.content import Store

EXAMPLES_FOLDER = "hypothesis"


@dataclass(frozen=True)
class Survey:
    """Which of some prompts were disturbed."""

    disturbed: tuple[Contrast, ...]
    asked: int

    @property
    def prompts(self) -> tuple[str, ...]:
        """The disturbed ones."""
        return tuple(one.prompt for one in self.disturbed)

    @property
    def share(self) -> float:
        return len(self.disturbed) / self.asked if self.asked else 0.0

    def __str__(self) -> str:
        return f"{len(self.disturbed)} of {self.asked} prompts drawn ({self.share:.0%}) are disturbed"


class Locality:
    """The base model and the edited ones, side by side after any prompt.

    Args:
        topics: what no edit touched.
        seed: of the prompts that are drawn.
        store: where answers and failing prompts are kept between runs; None keeps nothing.
    """

    def __init__(
        self,
        known: KnownModel,
        models: Sequence[EditedModel],
        topics: Topics,
        *,
        seed: int,
        store: Store | None,
        stages: Stages,
    ) -> None:
        self.topics = topics
        self.seed = seed
        self.folder: Path | None = None if store is None else store.root / EXAMPLES_FOLDER
        self._known = known
        self._models = models
        self._store = store
        self._stages = stages
        self._contrasts: dict[str, Contrast] = {}

    def contrast(self, prompt: str) -> Contrast:
        """Base against edited after one prompt; of several edited models, the one that went furthest."""
        return self.contrasts([prompt])[0]

    def contrasts(self, prompts: Sequence[str]) -> list[Contrast]:
        """The same of many prompts, in their order; those that are not known yet are asked together.

        Raises:
            AuditError: a prompt is empty, or does not fit into the model's context.
        """
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._contrasts]
        held = {} if self._log is None or not missing else self._log.known()
        keys = {prompt: content_fingerprint(["contrast", ANSWER_TOKENS, SHOWN, prompt]) for prompt in missing}
        self._contrasts.update({prompt: _contrast(held[key]) for prompt, key in keys.items() if key in held})
        missing = [prompt for prompt in missing if prompt not in self._contrasts]
        if missing:
            with self._asking():
                fresh = contrast(self._known.lm, [model.patch for model in self._models], missing)
            self._contrasts.update(zip(missing, fresh, strict=True))
            if self._log is not None:
                self._log.add({keys[one.prompt]: asdict(one) for one in fresh})
        return [self._contrasts[prompt] for prompt in prompts]

    def survey(self, prompts: Sequence[str], max_divergence: float) -> Survey:
        """Ask all prompts and tell which are disturbed; see `Contrast.disturbed`."""
        found = self.contrasts(prompts)
        return Survey(tuple(one for one in found if one.disturbed(max_divergence)), len(found))

    @cached_property
    def _log(self) -> AnswerLog | None:
        """What was found before with the same weights and patches."""
        if self._store is None:
            return None
        states = [self._known.state(model.patch) for model in self._models]
        return AnswerLog.of(self._store, content_fingerprint(["locality", *states]))

    def _asking(self) -> AbstractContextManager[Any]:
        return self._stages("locality", "locality")


def _contrast(plain: dict[str, Any]) -> Contrast:
    return Contrast(plain["prompt"], plain["divergence"], _continuation(plain["base"]), _continuation(plain["edited"]))


def _continuation(plain: dict[str, Any]) -> Continuation:
    likely = tuple((token, probability) for token, probability in plain["likely"])
    return Continuation(plain["answer"], plain["probability"], likely)
