"""The base of ROME, MEMIT and their successors, which write a value onto a key of an MLP.

An edit has three stages: *keys* k* (`keys`), *values* v* (`values`), and the *solve* for the update ΔW, which maps k*
to v* and protects the other keys by their second moment C (`covariance`, `solve`). The files of the methods put the
stages together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar, TypeVar
from weakref import WeakKeyDictionary

from torch import Tensor

from audit.editors.stages.base_editor import BaseEditor
from audit.editors.stages.covariance import CovarianceSettings, KeyCovariance
from audit.editors.stages.editor_settings import layers_from, require
from audit.editors.stages.keys import Contexts, sample_prefixes
from audit.editors.stages.value_loss import ValueSettings
from audit.editors.stages.values import OptimizedValues
from audit.edits.requests import EditRequest
from audit.engine.sequences import essence_sequence, rewriting_sequence
from audit.models.language_model import LanguageModel
from audit.models.tokens import text_after_subject
from audit.store.content import Store


@dataclass(frozen=True)
class KeyValueSettings(ValueSettings, CovarianceSettings):
    """Settings shared by ROME, MEMIT and their successors.

    For each length in `context_lengths`, `contexts_per_length` prefix contexts of that many tokens are sampled.
    """

    context_lengths: tuple[int, ...] = (5, 10)
    contexts_per_length: int = 10

    def check(self, depth: int) -> None:
        super().check(depth)
        require(self.contexts_per_length >= 0, "contexts_per_length", self.contexts_per_length, "at least 0")
        lengths = self.context_lengths
        require(all(length >= 1 for length in lengths), "context_lengths", lengths, "whole numbers of at least 1")


S = TypeVar("S", bound=KeyValueSettings)


class KeyValueEditor(BaseEditor[S]):
    """Adds prefix contexts and covariance, and the state of a sequence, to the base of editors.

    Contexts and covariance are computed at the first use of a model and kept. As in the references, a sequence of edits
    uses those of the model before its first edit. `forget` computes them, so that an interrupted sequence can be
    resumed with the same ones.
    """

    openings: ClassVar[tuple[str, ...]]  # of the sampled prefix contexts

    def __init__(
        self,
        config: Mapping[str, str] | None = None,
        seed: int = 0,
        store: Store | None = None,
        *,
        contexts: Contexts | None = None,
        moments: Mapping[int, Tensor] | None = None,
    ) -> None:
        """The arguments of `BaseEditor`, and:

        Args:
            contexts: prefix contexts to use in place of sampled ones.
            moments: second moments C by layer, (inner, inner), to use in place of measured ones.
        """
        super().__init__(config, seed, store)
        self._given_contexts = contexts
        self._contexts: WeakKeyDictionary[LanguageModel, Contexts] = WeakKeyDictionary()
        self._covariance = KeyCovariance(store, moments)
        self._begin()

    def _begin(self) -> None:
        """Start the records that a method keeps for each model."""

    def contexts(self, lm: LanguageModel) -> Contexts:
        """The prefix contexts for this model, sampled at first use."""
        if self._given_contexts is not None:
            return self._given_contexts
        if lm not in self._contexts:
            settings = self.settings(lm)
            sampled = tuple(
                prefix
                for number, length in enumerate(settings.context_lengths)
                for prefix in sample_prefixes(
                    lm, self.openings, settings.contexts_per_length, length, self._seed + number
                )
            )
            self._contexts[lm] = self._grouped(sampled)
        return self._contexts[lm]

    def check(self, lm: LanguageModel, request: EditRequest) -> str:
        """Like `BaseEditor.check`; a note if the subject's last token, where keys are read, also covers later text."""
        super().check(lm, request)
        rewriting_sequence(lm, request)
        essence_sequence(lm, request)
        beyond = text_after_subject(lm.tokenizer, request.prompt, request.subject)
        return f"the last token of the subject {request.subject!r} also covers {beyond!r} after it" if beyond else ""

    def forget(self, lm: LanguageModel) -> None:
        """Start a sequence of edits on the unedited model."""
        self._prepare(lm, self.settings(lm))

    def remember(self, lm: LanguageModel, requests: Sequence[EditRequest]) -> None:
        """Note that the model holds one more step of the sequence."""

    def _layers(self, settings: S) -> tuple[int, ...]:
        """The layers that are written, rising."""
        raise NotImplementedError

    def _grouped(self, sampled: tuple[str, ...]) -> Contexts:
        """Group the bare prompt and the sampled prefixes for the mean key."""
        raise NotImplementedError

    def _prepare(self, lm: LanguageModel, settings: S) -> None:
        """Compute contexts and covariance at the first use of this model."""
        self.contexts(lm)
        self._covariance.factors(lm, self._layers(settings), settings)

    def _edit_meta(
        self, lm: LanguageModel, settings: S, requests: Sequence[EditRequest], values: OptimizedValues
    ) -> dict[str, str]:
        """The meta of a patch, with losses, updates, the source of the layers and the covariance."""
        losses, updates = ",".join(f"{loss:.4g}" for loss in values.losses), ",".join(map(str, values.updates))
        source = layers_from(self.settings_kind, self.name, lm, self._overrides, self._located)
        report = asdict(self._covariance.report) if self._covariance.report else {}
        return {
            **self._meta(settings, requests, losses=losses, updates=updates),
            "layers.from": source,
            **{f"covariance.{name}": str(value) for name, value in report.items() if value != ""},
        }
