"""MEND: a small trained network turns a fine-tuning gradient into an edit (Mitchell et al. 2022, arXiv 2110.11309).

An edit is one forward and one backward pass and no search: the factors x and δ of each edited map's gradient
(`rank_one_gradients`) go through the network (`mend_network`), and ΔW = -rate · Σ_t δ̃_t x̃_tᵀ. Requests in one batch
are edits whose updates add up. The network belongs to one model's weights; `audit train-mend` trains it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from audit.editors.mend.network import TrainedNetwork, network_fingerprint
from audit.editors.stages.editor_settings import EditorSettings, parse_overrides, require, resolve
from audit.editors.stages.rank_one_gradients import gradient_factors, is_transposed, target_rows
from audit.edits.requests import EditRequest
from audit.engine.batching import pack
from audit.errors import AuditError
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import LowRankDelta, Patch, WeightPatch
from audit.models.tokens import join
from audit.progress import Progress
from audit.store.content import Store


@dataclass(frozen=True)
class MendSettings(EditorSettings):
    """`weights` is the folder of the trained network ("": the model's own folder); `network` is the sha256 of its
    tensors, found there (where it is set, it must be that one); `token_budget` bounds the padded tokens of one backward
    pass. Layers and all else come with the trained network."""

    weights: str = ""
    network: str = ""
    token_budget: int = 4096

    def check(self, depth: int) -> None:
        require(self.token_budget >= 1, "token_budget", self.token_budget, "a whole number of at least 1")


class Mend:
    """Edits with a trained network; refuses a model that the network was not trained for.

    That is checked when the editor first meets a model, and when a sequence of edits begins: within a sequence the
    model changes from step to step, and the network goes on with the gradients of the model as it is then.
    """

    name: ClassVar[str] = "mend"
    batches: ClassVar[bool] = True

    def __init__(self, config: Mapping[str, str] | None = None, seed: int = 0, store: Store | None = None) -> None:
        """`seed` is kept for the patch's description only: nothing is drawn."""
        self._overrides = parse_overrides(MendSettings, self.name, config or {})
        self._seed = seed
        self._trained: WeakKeyDictionary[LanguageModel, TrainedNetwork] = WeakKeyDictionary()

    def settings(self, lm: LanguageModel) -> MendSettings:
        """The settings that this editor uses on this model; `network` stays empty where there is none yet.

        Raises:
            AuditError: another network was asked for than the folder holds.
        """
        settings = resolve(MendSettings, self.name, lm, self._overrides)
        found = network_fingerprint(self._folder(lm, settings))
        wanted = settings.network
        require(wanted in ("", found), "network", wanted, f"{found or 'none'}, or another folder as weights")
        return replace(settings, network=found)

    def edit(self, lm: LanguageModel, requests: Sequence[EditRequest], progress: Progress | None = None) -> Patch:
        """A patch with the sum of every request's update; the model's weights stay as they are.

        Raises:
            AuditError: there is no network trained for this model, or a request cannot be used.
        """
        if not requests:
            raise AuditError(f"the editor {self.name} was given no edit request; give at least one.")
        settings = self.settings(lm)
        if lm not in self._trained:
            self.forget(lm)
        trained = self._trained[lm]
        pairs = [(request.question, request.target_new) for request in requests]
        maps = list(trained.network.sizes)
        parts: dict[str, dict[int, tuple[Tensor, Tensor]]] = {path: {} for path in maps}
        losses: dict[int, float] = {}
        sizes = [len(join(lm.tokenizer, *pair).ids) for pair in pairs]
        for batch in pack(sizes, settings.token_budget):
            found = gradient_factors(lm, target_rows(lm, [pairs[index] for index in batch]), maps)
            for path, factors in found.factors.items():
                for row, index in enumerate(batch):
                    used = factors.used[row]  # (columns,)
                    parts[path][index] = (factors.inputs[row, used], factors.errors[row, used])
            losses.update(zip(batch, found.losses.tolist(), strict=True))
            if progress is not None:
                progress(len(losses), len(requests))

        deltas: dict[str, LowRankDelta] = {}
        for path in maps:
            ordered = [parts[path][index] for index in range(len(requests))]
            inputs = torch.cat([x for x, _ in ordered])  # (tokens of all requests, in)
            errors = torch.cat([delta for _, delta in ordered])  # (tokens of all requests, out)
            deltas[f"{path}.weight"] = trained.network.delta(path, inputs.cpu(), errors.cpu())
        transposed = frozenset(f"{path}.weight" for path in maps if is_transposed(lm, path))
        return WeightPatch(deltas, transposed, self._meta(settings, requests, losses))

    def forget(self, lm: LanguageModel) -> None:
        """Meet a model that no edit has touched: find the network beside it, and check that it was trained for it.

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
                f"{str(trained.card.get('base'))[:12]}, not {base[:12]}); train one for them with `{train} --out DIR`."
            )
        if not trained.network.is_trained:
            raise AuditError(
                f"the editing network in {folder} has never been trained; train it with `{train} --out DIR`."
            )
        self._trained[lm] = trained

    def remember(self, lm: LanguageModel, requests: Sequence[EditRequest]) -> None:
        """Nothing is carried from step to step but the model itself."""

    @staticmethod
    def _folder(lm: LanguageModel, settings: MendSettings) -> Path:
        return Path(settings.weights or str(lm.model.config.name_or_path)).expanduser()

    def _meta(
        self, settings: MendSettings, requests: Sequence[EditRequest], losses: Mapping[int, float]
    ) -> dict[str, str]:
        """What the patch tells about how it was made."""
        return {
            "editor": self.name,
            "requests": ",".join(request.case_id for request in requests),
            "losses": ",".join(f"{losses[index]:.4g}" for index in range(len(requests))),
            "seed": str(self._seed),
            **{f"settings.{name}": str(value) for name, value in asdict(settings).items()},
        }
