"""What a later step of a sequence must not disturb: the keys that its earlier steps wrote."""

from collections.abc import Mapping, Sequence
from typing import TypeVar
from weakref import WeakKeyDictionary

from torch import Tensor

from audit.editors.stages.contexts import Contexts
from audit.editors.stages.hyperparameters import ValueSettings
from audit.editors.stages.keys import context_keys
from audit.editors.stages.layer_by_layer import LayerByLayer
from audit.editors.stages.solve import PastKeys
from audit.edits.requests import EditRequest
from audit.models.language_model import LanguageModel
from audit.store.content import Store

S = TypeVar("S", bound=ValueSettings)


class KeepsPastKeys(LayerByLayer[S]):
    """Base of the editors that write a batch and leave alone what the batches before it wrote.

    `remember` reads a step's keys on the model that holds that step, `forget` drops them all. Outside of sequences
    neither is called and nothing is kept.
    """

    def __init__(
        self,
        config: Mapping[str, str] | None = None,
        seed: int = 0,
        store: Store | None = None,
        *,
        contexts: Contexts | None = None,
        moments: Mapping[int, Tensor] | None = None,
    ) -> None:
        super().__init__(config, seed, store, contexts=contexts, moments=moments)
        self._past: WeakKeyDictionary[LanguageModel, dict[int, PastKeys]] = WeakKeyDictionary()

    def forget(self, lm: LanguageModel) -> None:
        super().forget(lm)
        self._past.pop(lm, None)

    def remember(self, lm: LanguageModel, requests: Sequence[EditRequest]) -> None:
        settings = self.settings(lm)
        self._meet(lm, settings)
        past = self._past.setdefault(lm, {})
        for layer in self._layers(settings):
            keys = context_keys(lm, requests, self.contexts(lm), layer, settings.token_budget).T  # (inner, requests)
            kept = self._seen_by_solve(lm, layer, keys)
            past[layer] = past.get(layer, PastKeys.none(len(kept))).joined(kept)

    def _past_of(self, lm: LanguageModel, layer: int) -> PastKeys | None:
        return self._past.get(lm, {}).get(layer)

    def _seen_by_solve(self, lm: LanguageModel, layer: int, keys: Tensor) -> Tensor:
        """Keys (inner, n) as the least squares takes them, and as they are therefore kept."""
        return keys
