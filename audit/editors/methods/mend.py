"""MEND: a small trained network turns a fine-tuning gradient into an edit (Mitchell et al. 2022, arXiv 2110.11309).

An edit takes one forward and one backward pass. The factors x and δ of each edited map's gradient
(`rank_one_gradients`) pass through the network (`audit.editors.mend.network`), and ΔW = −rate · Σ_t δ̃_t x̃_tᵀ. The
updates of requests in one batch are added. The network belongs to one model's weights; `audit train-mend` trains it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from audit.editors.mend.network import TrainedNetwork, network_fingerprint
from audit.editors.stages.base_editor import BaseEditor
from audit.editors.stages.editor_settings import EditorSettings, require
from audit.editors.stages.rank_one_gradients import gradient_factors, is_transposed, padded_targets
from audit.edits.requests import EditRequest
from audit.engine.batching import pack
from audit.errors import AuditError
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import LowRankDelta, Patch, WeightPatch
from audit.models.tokens import join
from audit.progress import Tick
from audit.store.content import Store


@dataclass(frozen=True)
class MendSettings(EditorSettings):
    """`weights` is the folder of the trained network ("": the model's own folder). `network` is the sha256 of its
    tensors; if it is set, it must match the folder. `token_budget` bounds the padded tokens of one backward pass.
    Layers and all other settings come with the trained network.
    """

    weights: str = ""
    network: str = ""
    token_budget: int = 4096

    def check(self, depth: int) -> None:
        require(self.token_budget >= 1, "token_budget", self.token_budget, "a whole number of at least 1")


class Mend(BaseEditor[MendSettings]):
    """Edits many facts at once with a trained network; refuses a model that the network was not trained for.

    This is checked at the first edit of a model and at the start of a sequence of edits. Within a sequence the model
    changes from step to step, and the network uses the gradients of the current model.
    """

    name: ClassVar[str] = "mend"
    settings_kind = MendSettings

    def __init__(self, config: Mapping[str, str] | None = None, seed: int = 0, store: Store | None = None) -> None:
        """See `BaseEditor`; nothing is drawn, so `seed` changes only the meta of the patch."""
        super().__init__(config, seed, store)
        self._trained: WeakKeyDictionary[LanguageModel, TrainedNetwork] = WeakKeyDictionary()

    def settings(self, lm: LanguageModel) -> MendSettings:
        """The settings of this editor for this model; `network` is "" if there is no network yet.

        Raises:
            AuditError: `network` is set and the folder has another network.
        """
        settings = super().settings(lm)
        fingerprint = network_fingerprint(self._folder(lm, settings))
        wanted = settings.network
        require(
            wanted in ("", fingerprint), "network", wanted, f"{fingerprint or 'none'}, or another folder as weights"
        )
        return replace(settings, network=fingerprint)

    def _edit(self, lm: LanguageModel, requests: Sequence[EditRequest], settings: MendSettings, tick: Tick) -> Patch:
        """A patch with the sum of the updates of all requests.

        Raises:
            AuditError: there is no network trained for this model, or a request cannot be used.
        """
        if lm not in self._trained:
            self.forget(lm)
        trained = self._trained[lm]
        pairs = [(request.filled_prompt, request.target_new) for request in requests]
        maps = list(trained.network.sizes)
        parts: dict[str, dict[int, tuple[Tensor, Tensor]]] = {path: {} for path in maps}
        losses: dict[int, float] = {}
        sizes = [len(join(lm.tokenizer, *pair).ids) for pair in pairs]
        for batch in pack(sizes, settings.token_budget):
            gradients = gradient_factors(lm, padded_targets(lm, [pairs[index] for index in batch]), maps)
            for path, factors in gradients.factors.items():
                for row, index in enumerate(batch):
                    used = factors.used[row]  # (columns,)
                    parts[path][index] = (factors.inputs[row, used], factors.errors[row, used])
            losses.update(zip(batch, gradients.losses.tolist(), strict=True))
            tick(len(losses) / len(requests))

        deltas: dict[str, LowRankDelta] = {}
        for path in maps:
            ordered = [parts[path][index] for index in range(len(requests))]
            inputs = torch.cat([x for x, _ in ordered])  # (tokens of all requests, in)
            errors = torch.cat([delta for _, delta in ordered])  # (tokens of all requests, out)
            deltas[f"{path}.weight"] = trained.network.delta(path, inputs.cpu(), errors.cpu())
        transposed = frozenset(f"{path}.weight" for path in maps if is_transposed(lm, path))
        all_losses = ",".join(f"{losses[index]:.4g}" for index in range(len(requests)))
        return WeightPatch(deltas, transposed, self._meta(settings, requests, losses=all_losses))

    def forget(self, lm: LanguageModel) -> None:
        """Load the network of an unedited model, and check that it was trained for these weights.

        Raises:
            AuditError: there is no such network, it cannot be read, or it was trained for other weights.
        """
        self._trained.pop(lm, None)
        train = f"audit train-mend --model {lm.name}"
        folder = self._folder(lm, self.settings(lm))
        try:
            trained = TrainedNetwork.load(folder)
        except (FileNotFoundError, NotADirectoryError):
            raise AuditError(
                f"the editor mend has no editing network for {lm.name} in {str(folder)!r}; train one with "
                f"`{train} --out DIR` and name it with --editor-config weights=DIR."
            ) from None
        base = weights_fingerprint(lm)
        if trained.card.get("base") != base:
            raise AuditError(
                f"the editing network in {folder} was trained for other weights than those of {lm.name} (fingerprint "
                f"{str(trained.card.get('base'))[:12]}, not {base[:12]}); train a new one with `{train} --out DIR`."
            )
        if not trained.network.is_trained:
            raise AuditError(
                f"the editing network in {folder} has never been trained; train it with `{train} --out DIR`."
            )
        self._trained[lm] = trained

    def remember(self, lm: LanguageModel, requests: Sequence[EditRequest]) -> None:
        """Do nothing: a sequence has no state besides the model."""

    @staticmethod
    def _folder(lm: LanguageModel, settings: MendSettings) -> Path:
        return Path(settings.weights or str(lm.model.config.name_or_path)).expanduser()
