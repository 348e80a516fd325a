"""C = E[kkᵀ], the uncentred second moment of an MLP's keys: what ROME and MEMIT must not disturb.

Keys are the down projection's inputs over all tokens of a corpus. All layers are measured in one pass that ends at the
deepest; ten to twenty tokens a key dimension are enough (arXiv 2506.04226), which takes seconds where the references'
44 million take days. How far it has converged is measured along the way and reported.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from audit.editors.stages.corpora import WIKIPEDIA, open_corpus
from audit.editors.stages.hyperparameters import ValueSettings
from audit.editors.stages.solve import IDENTITY, Factor, factorize, solving_device
from audit.engine.sequences import EditSequence, align, within_budget
from audit.engine.taps import run_body, tapped
from audit.errors import AuditError
from audit.models.fingerprints import content_fingerprint, tokenizer_fingerprint, weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.lean_modules import activations_fused
from audit.models.loading import pocket_names
from audit.models.tokens import encode
from audit.store.content import Store

LONGEST_TEXT = 1024  # tokens; longer texts are cut
TOKENS_A_DIMENSION = 20
_TOKENS_A_BATCH = 4096  # of which every layer's keys are held at once
_PROBES = 16
_KEPT_SHARE = 0.6  # factors that take more than this share of the weights' memory are made anew for each batch


@dataclass(frozen=True, eq=False)
class Moments:
    """Second moments by layer, (inner_size, inner_size) in float32, over `tokens` tokens of `texts` texts.

    `convergence` is the mean relative change of C⁻¹k at the deepest layer, over probe keys of the corpus, between the
    first half of the texts and all of them: below about 0.1 more tokens would change little.
    """

    by_layer: Mapping[int, Tensor]
    tokens: int
    texts: int
    convergence: float


@dataclass(frozen=True)
class CovarianceReport:
    """Where an editor's covariance came from, for the report.

    `ridge` is the largest that a layer was given (0 unless asked for or needed); `convergence` as in `Moments`, None
    where nothing was measured.
    """

    origin: str
    tokens: int
    texts: int
    convergence: float | None
    ridge: float


def measure_moments(
    lm: LanguageModel, texts: Iterable[str], layers: Sequence[int], tokens: int, ridge: float = 0.0
) -> Moments:
    """Measure C of every layer in `layers` on the first `tokens` tokens of `texts`, in one pass.

    Products of float32 keys are summed in float64; `ridge` counts for the convergence only.

    Raises:
        AuditError: the texts hold fewer than two tokens.
    """
    rows = _first_tokens(lm, texts, tokens)
    paths = {layer: lm.anatomy.down_projections[layer] for layer in layers}
    deepest = max(layers)
    inner, device = lm.anatomy.inner_size, solving_device(lm.device)
    sums = {layer: torch.zeros(inner, inner, dtype=torch.float64, device=device) for layer in layers}
    half, probes = sums[deepest], torch.zeros(0)
    for part in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
        half = sums[deepest].clone()  # before the second part: the sum over the first
        for group in within_budget(part, _TOKENS_A_BATCH):
            batch = align([part[index] for index in group], lm.device)
            with (
                activations_fused(lm),
                tapped(lm, len(group), inputs=tuple(paths.values()), stop=paths[deepest]) as taps,
            ):
                run_body(lm, batch.ids, batch.mask, batch.positions)
            for layer, path in paths.items():
                seen = taps.inputs[path]  # (rows, columns, inner), on the device of its layer
                keys = seen[batch.mask.bool().to(seen.device)].float()  # (tokens, inner)
                sums[layer] += (keys.T @ keys).to(device)  # widened as it is added
                probes = keys[:: max(1, len(keys) // _PROBES)][:_PROBES] if layer == deepest else probes
    counted = sum(len(row.ids) for row in rows)
    counted_half = sum(len(row.ids) for row in rows[: len(rows) // 2])
    convergence = _relative_change(half / max(1, counted_half), sums[deepest] / counted, probes.T.to(device), ridge)
    by_layer = {layer: (total / counted).float() for layer, total in sums.items()}
    return Moments(by_layer, counted, len(rows), convergence)


def _first_tokens(lm: LanguageModel, texts: Iterable[str], tokens: int) -> list[EditSequence]:
    longest = min(LONGEST_TEXT, getattr(lm.model.config, "max_position_embeddings", LONGEST_TEXT))
    rows: list[EditSequence] = []
    left = tokens
    for text in texts:
        ids = tuple(encode(lm.tokenizer, text)[: min(longest, left)])
        if ids:
            rows.append(EditSequence(ids, lookup=0))
            left -= len(ids)
        if left <= 0:
            break
    if tokens - left < 2:
        raise AuditError("the covariance corpus holds no text; give one with at least ten tokens a key dimension.")
    return rows


def _relative_change(half: Tensor, full: Tensor, probes: Tensor, ridge: float) -> float:
    """Mean over probe keys (inner, probes) of ‖C_half⁻¹k − C⁻¹k‖ / ‖C⁻¹k‖; infinite where a half does not do."""
    try:
        before, after = factorize(half, ridge).solve(probes), factorize(full, ridge).solve(probes)
    except AuditError:
        return float("inf")
    return float(((before - after).norm(dim=0) / after.norm(dim=0)).mean())


class _Factors(dict[int, Factor]):
    """Factors by layer, each made when it is asked for, so that none takes memory while values are optimised.

    With `keep` a factor takes the place of its second moment, which is let go (whoever gave it may hold it still);
    else it is made anew each time.
    """

    def __init__(
        self,
        moments: Mapping[int, Tensor],
        ridge: float,
        device: torch.device,
        keep: bool,
        told: Callable[[float], None],
    ) -> None:
        super().__init__()
        self._moments, self._ridge, self._device, self._keep, self._told = dict(moments), ridge, device, keep, told

    def __missing__(self, layer: int) -> Factor:
        factor = factorize(self._moments[layer].to(self._device), self._ridge)
        if self._keep:
            del self._moments[layer]
            self[layer] = factor
        self._told(factor.ridge)
        return factor


class KeyCovariance:
    """The covariances of one editor, measured on each model as the editor first meets it, and kept.

    As in the references a sequence of edits keeps the C of the model it began with.
    """

    def __init__(self, store: Store | None, given: Mapping[int, Tensor] | None = None) -> None:
        self._store = store
        self._given = given
        self._factors: WeakKeyDictionary[LanguageModel, dict[int, Factor]] = WeakKeyDictionary()
        self.report: CovarianceReport | None = None

    def factors(self, lm: LanguageModel, layers: Sequence[int], settings: ValueSettings) -> dict[int, Factor]:
        """The factor of C of each layer, made when it is first looked up; that raises where C cannot be factorised.

        Raises:
            AuditError: the corpus cannot be read.
        """
        if lm not in self._factors:
            self._factors[lm] = self._prepare(lm, layers, settings)
        return self._factors[lm]

    def moments(self, lm: LanguageModel, layers: Sequence[int], settings: ValueSettings) -> Mapping[int, Tensor]:
        """C itself of each layer, (inner, inner), without a ridge; not kept, unlike the factors.

        Raises:
            AuditError: the corpus cannot be read.
        """
        if self._given is None and settings.covariance == "identity":
            self.report = CovarianceReport("identity", 0, 0, None, 0.0)
            return dict.fromkeys(layers, torch.eye(lm.anatomy.inner_size))
        moments, origin = self._found(lm, layers, settings)
        convergence = None if self._given is not None else moments.convergence
        self.report = CovarianceReport(origin, moments.tokens, moments.texts, convergence, 0.0)
        return moments.by_layer

    def _prepare(self, lm: LanguageModel, layers: Sequence[int], settings: ValueSettings) -> dict[int, Factor]:
        if self._given is None and settings.covariance == "identity":
            self.report = CovarianceReport("identity", 0, 0, None, 0.0)
            return dict.fromkeys(layers, IDENTITY)
        moments, origin = self._found(lm, layers, settings)
        convergence = None if self._given is not None else moments.convergence
        self.report = CovarianceReport(origin, moments.tokens, moments.texts, convergence, 0.0)
        weights = sum(parameter.nbytes for parameter in lm.model.parameters())
        keep = 8 * len(layers) * lm.anatomy.inner_size**2 <= _KEPT_SHARE * weights
        device = solving_device(lm.device)
        return _Factors(moments.by_layer, settings.covariance_ridge, device, keep, self._tell_ridge)

    def _tell_ridge(self, ridge: float) -> None:
        if self.report is not None:
            self.report = replace(self.report, ridge=max(ridge, self.report.ridge))

    def _found(self, lm: LanguageModel, layers: Sequence[int], settings: ValueSettings) -> tuple[Moments, str]:
        if self._given is not None:
            return Moments(self._given, 0, 0, float("nan")), "given"
        return self._measured(lm, layers, settings)

    def _measured(self, lm: LanguageModel, layers: Sequence[int], settings: ValueSettings) -> tuple[Moments, str]:
        source = settings.covariance
        if source == "auto":
            source = "pocket" if lm.name in pocket_names() else WIKIPEDIA
        tokens = settings.covariance_tokens or TOKENS_A_DIMENSION * lm.anatomy.inner_size
        corpus = open_corpus(source, tokens)
        fingerprint = content_fingerprint(
            {
                "weights": weights_fingerprint(lm),
                "tokenizer": tokenizer_fingerprint(lm),
                "corpus": corpus.fingerprint,
                "tokens": tokens,
                "longest_text": LONGEST_TEXT,
                "layers": list(layers),
                "ridge": settings.covariance_ridge,
            }
        )

        def measure() -> Moments:
            return measure_moments(lm, corpus.texts(), layers, tokens, settings.covariance_ridge)

        return _kept(self._store, fingerprint, measure), corpus.origin


def _kept(store: Store | None, fingerprint: str, measure: Callable[[], Moments]) -> Moments:
    """Moments from the store, or measured and put there; an entry under another fingerprint is never taken."""
    if store is None:
        return measure()
    key = f"covariance {fingerprint}"
    tensors = store.get_tensors(key)
    if tensors is None:
        moments = measure()
        counts = torch.tensor([moments.tokens, moments.texts, moments.convergence], dtype=torch.float64)
        store.put_tensors(key, {"counts": counts} | {f"layer.{at}": C for at, C in moments.by_layer.items()})
        return moments
    tokens, texts, convergence = tensors.pop("counts").tolist()
    by_layer = {int(name.removeprefix("layer.")): C for name, C in tensors.items()}
    return Moments(by_layer, int(tokens), int(texts), convergence)
