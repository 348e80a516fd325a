"""The base of ROME, MEMIT and their successors, which write a value onto a key of an MLP.

An edit has three stages: *keys* k* (`keys`), *values* v* (`values`), and the *solve* for the update ΔW, which maps k*
to v* and protects the other keys by their second moment C (`covariance`, `solve`). The files of the methods put the
stages together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar, Generic, TypeVar
from weakref import WeakKeyDictionary

from torch import Tensor

from audit.editors.stages.covariance import CovarianceSettings, KeyCovariance
from audit.editors.stages.editor_settings import LocatedLayers, layers_from, parse_overrides, require, resolve
from audit.editors.stages.keys import Contexts, sample_prefixes
from audit.editors.stages.value_loss import ValueSettings
from audit.editors.stages.values import OptimizedValues
from audit.edits.requests import EditRequest
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch
from audit.progress import Progress
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


class KeyValueEditor(Generic[S]):
    """Base class: settings, prefix contexts, covariance, and the checks before an edit.

    Contexts and covariance are computed at the first use of a model and kept. As in the references, a sequence of edits
    uses those of the model before its first edit. `forget` computes them, so that an interrupted sequence can be
    resumed with the same ones.
    """

    name: ClassVar[str]
    batches: ClassVar[bool]
    settings_kind: type[S]
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
        """
        Args:
            config: overrides of settings, as text.
            seed: seed of the prefix contexts.
            store: keeps measured covariances and located layers between runs; None keeps nothing.
            contexts: prefix contexts to use in place of sampled ones.
            moments: second moments C by layer, (inner, inner), to use in place of measured ones.
        """
        self._overrides = parse_overrides(self.settings_kind, self.name, config or {})
        self._seed = seed
        self._given_contexts = contexts
        self._contexts: WeakKeyDictionary[LanguageModel, Contexts] = WeakKeyDictionary()
        self._covariance = KeyCovariance(store, moments)
        self._located = LocatedLayers(store)

    def settings(self, lm: LanguageModel) -> S:
        """The settings of this editor for this model."""
        return resolve(self.settings_kind, self.name, lm, self._overrides, self._located)

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

    def edit(self, lm: LanguageModel, requests: Sequence[EditRequest], progress: Progress | None = None) -> Patch:
        """A patch that makes the model give the new targets; the model's weights stay as they are.

        Raises:
            AuditError: a request is not valid, a setting is out of range, or a loss is not finite.
        """
        if not requests:
            raise AuditError(f"the editor {self.name} was given no edit request; give at least one.")
        if not self.batches and len(requests) != 1:
            raise AuditError(
                f"the editor {self.name} takes one edit request at a time and was given {len(requests)}; "
                "choose an instance mode, or an editor that batches such as memit."
            )
        settings = self.settings(lm)
        self._prepare(lm, settings)
        return self._edit(lm, requests, settings, progress)

    def forget(self, lm: LanguageModel) -> None:
        """Start a sequence of edits on the unedited model."""
        self._prepare(lm, self.settings(lm))

    def remember(self, lm: LanguageModel, requests: Sequence[EditRequest]) -> None:
        """Note that the model holds one more step of the sequence."""

    def _edit(
        self, lm: LanguageModel, requests: Sequence[EditRequest], settings: S, progress: Progress | None
    ) -> Patch:
        raise NotImplementedError

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

    def _meta(
        self, lm: LanguageModel, settings: S, requests: Sequence[EditRequest], values: OptimizedValues
    ) -> dict[str, str]:
        """The patch's meta data: requests, settings, losses and covariance of this edit."""
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
