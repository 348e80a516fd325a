"""Layers that causal tracing found for a model, kept in the store until an editor asks.

located = LocatedLayers(store)
located.keep(lm, Layers(rome=5, memit=(3, 4, 5)))  # `audit locate` does
located.of(lm)                                     # an editor does, where nothing was published or measured
"""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.store.content import Store


@dataclass(frozen=True)
class Layers:
    """Where to write: the one layer of ROME and its like, and the rising layers of MEMIT and its like."""

    rome: int
    memit: tuple[int, ...]


class LocatedLayers:
    """What the store knows about models, by their weights' fingerprint; each model is looked up once.

    A sequence of edits changes the weights, and keeps what was found when it began.
    """

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._found: WeakKeyDictionary[LanguageModel, tuple[Layers | None]] = WeakKeyDictionary()

    def of(self, lm: LanguageModel) -> Layers | None:
        """The layers located in this model; None when nobody has located any."""
        if self._store is None:
            return None
        if lm not in self._found:
            kept = self._store.get(_key(lm))
            self._found[lm] = (Layers(kept["rome"], tuple(kept["memit"])) if kept else None,)
        return self._found[lm][0]

    def keep(self, lm: LanguageModel, layers: Layers) -> None:
        """Keep `layers` for every later run on the same weights in the same dtype."""
        if self._store is not None:
            self._store.put(_key(lm), {"rome": layers.rome, "memit": list(layers.memit)})
            self._found[lm] = (layers,)


def _key(lm: LanguageModel) -> str:
    return f"located layers {weights_fingerprint(lm)}"
