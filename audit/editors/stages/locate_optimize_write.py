"""What ROME, MEMIT and their successors share: settings, contexts and covariance that belong to the editor object."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import ClassVar, Generic, TypeVar
from weakref import WeakKeyDictionary

from torch import Tensor

from audit.editors.stages.contexts import Contexts, sample_prefixes
from audit.editors.stages.covariance import CovarianceReport, KeyCovariance
from audit.editors.stages.hyperparameters import ValueSettings, layers_from, parse_overrides, resolve
from audit.editors.stages.located_layers import LocatedLayers
from audit.editors.stages.values import OptimizedValues
from audit.edits.requests import EditRequest
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch
from audit.progress import Progress
from audit.store.content import Store

S = TypeVar("S", bound=ValueSettings)


class LocateOptimizeWrite(Generic[S]):
    """Base of the editors that find a key, optimise a value and write one onto the other.

    Contexts and covariance are taken from each model as the editor first meets it, and kept: a sequence of edits, where
    the model changes from edit to edit, uses those of its beginning, as the references do. So `forget` meets the model,
    and a run that was interrupted goes on with what it began with.
    """

    name: ClassVar[str]
    batches: ClassVar[bool]
    settings_kind: type[S]
    openings: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        config: Mapping[str, str] | None = None,
        seed: int = 0,
        store: Store | None = None,
        *,
        contexts: Contexts | None = None,
        moments: Mapping[int, Tensor] | None = None,
    ) -> None:
        """
        Args:
            config: overrides as typed, see the editor's settings.
            seed: seed of the prefix contexts.
            store: where measured covariances and located layers are kept between runs; None keeps none.
            contexts: prefix contexts to use instead of sampled ones.
            moments: second moments by layer to use instead of measured ones.
        """
        self._overrides = parse_overrides(self.settings_kind, self.name, config or {})
        self._seed = seed
        self._given_contexts = contexts
        self._contexts: WeakKeyDictionary[LanguageModel, Contexts] = WeakKeyDictionary()
        self._covariance = KeyCovariance(store, moments)
        self._located = LocatedLayers(store)

    def settings(self, lm: LanguageModel) -> S:
        """The settings that this editor uses on this model."""
        return resolve(self.settings_kind, self.name, lm, self._overrides, self._located)

    @property
    def covariance_report(self) -> CovarianceReport | None:
        """Where C came from and how far it has converged; None before the first edit."""
        return self._covariance.report

    def contexts(self, lm: LanguageModel) -> Contexts:
        """The prefix contexts for this model, sampled on first use."""
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

    def edit(self, lm: LanguageModel, requests: Sequence[EditRequest], progress: Progress | None = None) -> Patch:
        """A patch that makes the model say the new targets; the model's weights stay as they are.

        Raises:
            AuditError: a request cannot be used, a setting is out of range, or a loss is not finite.
        """
        if not requests:
            raise AuditError(f"the editor {self.name} was given no edit request; give at least one.")
        if not self.batches and len(requests) != 1:
            raise AuditError(
                f"the editor {self.name} takes one edit request at a time and was given {len(requests)}; "
                "choose an instance mode, or an editor that batches such as memit."
            )
        settings = self.settings(lm)
        self._meet(lm, settings)
        return self._edit(lm, requests, settings, progress)

    def forget(self, lm: LanguageModel) -> None:
        """A sequence begins on the model as it is now."""
        self._meet(lm, self.settings(lm))

    def remember(self, lm: LanguageModel, requests: Sequence[EditRequest]) -> None:
        """A step of a sequence is written."""

    def _edit(
        self, lm: LanguageModel, requests: Sequence[EditRequest], settings: S, progress: Progress | None
    ) -> Patch:
        raise NotImplementedError

    def _layers(self, settings: S) -> tuple[int, ...]:
        """The layers that are written, rising."""
        raise NotImplementedError

    def _meet(self, lm: LanguageModel, settings: S) -> None:
        """Take from the model, unless that was done before, what all its edits share."""
        self.contexts(lm)
        self._covariance.factors(lm, self._layers(settings), settings)

    def _grouped(self, sampled: tuple[str, ...]) -> Contexts:
        """The bare prompt and the sampled prefixes, grouped for the editor's mean."""
        raise NotImplementedError

    def _meta(
        self, lm: LanguageModel, settings: S, requests: Sequence[EditRequest], values: OptimizedValues
    ) -> dict[str, str]:
        """What the patch tells about how it was made."""
        report = self._covariance.report
        return {
            "editor": self.name,
            "requests": ",".join(request.case_id for request in requests),
            "losses": ",".join(f"{loss:.4g}" for loss in values.losses),
            "updates": ",".join(map(str, values.updates)),
            "seed": str(self._seed),
            "layers.from": layers_from(self.settings_kind, self.name, lm, self._overrides, self._located),
            **{f"settings.{name}": str(value) for name, value in asdict(settings).items()},
            **({f"covariance.{name}": str(value) for name, value in asdict(report).items()} if report else {}),
        }
