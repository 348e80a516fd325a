"""C = E[kkᵀ], the uncentered second moment of an MLP's keys, which ROME and MEMIT protect from an edit.

    covariance = KeyCovariance(store)
    factor = covariance.factors(lm, layers, settings)[layer]  # Cholesky factor of C

The keys are the down projection's inputs at all tokens of a corpus. One pass measures all layers and ends at the
deepest. Ten to twenty tokens for each key dimension are enough (arXiv 2506.04226), which takes seconds; the references
read 44 million, which takes days. How far C has converged is measured in the same pass and reported.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from audit.editors.stages.corpora import (
    POCKET,
    WIKIPEDIA,
    Corpus,
    CorpusUnavailableError,
    check_source,
    fallback_corpus,
    open_corpus,
)
from audit.editors.stages.editor_settings import EditorSettings, require, require_not_negative
from audit.editors.stages.solve import IDENTITY, Factor, factorize, solving_device
from audit.engine.sequences import EditSequence, align, within_budget
from audit.engine.taps import run_body, tapped
from audit.errors import AuditError
from audit.models.fingerprints import content_fingerprint, tokenizer_fingerprint, weights_fingerprint
from audit.models.forward_overrides import activations_fused
from audit.models.language_model import LanguageModel
from audit.models.loading import pocket_names
from audit.models.tokens import encode
from audit.store.content import Store

AUTO, NO_COVARIANCE = "auto", "identity"
LONGEST_TEXT = 1024  # tokens; longer texts are cut
TOKENS_PER_DIMENSION = 20
ENOUGH_PER_DIMENSION = 10  # tokens; a text file with fewer gets a caveat
_TOKENS_PER_BATCH = 4096  # the keys of every layer are held for one batch
_PROBES = 16
_KEPT_SHARE = 0.6  # factors are kept if they take at most this share of the memory of the weights


@dataclass(frozen=True)
class CovarianceSettings(EditorSettings):
    """Settings of C.

    Attributes:
        covariance: the source of C: "auto" (the pocket corpus for pocket models, else Wikipedia from the hub, else the
            pocket corpus with a caveat in the report), "identity" (C = I), "pocket", "wikitext" (WikiText-2 from the
            local cache or the hub), the path of a text file, or a hub data set as name[:config][@split].
        covariance_tokens: tokens to read; 0 means 20 for each key dimension.
        covariance_ridge: added to the diagonal of C, as a share of its mean. Small models have neurons that hardly ever
            fire; without a ridge they dominate C⁻¹k.
    """

    covariance: str = AUTO
    covariance_tokens: int = 0
    covariance_ridge: float = 0.0

    def check(self, depth: int) -> None:
        super().check(depth)
        if self.covariance not in (AUTO, NO_COVARIANCE):
            check_source(self.covariance)
        require(self.covariance_tokens >= 0, "covariance_tokens", self.covariance_tokens, "at least 0")
        require_not_negative(self, "covariance_ridge")


@dataclass(frozen=True, eq=False)
class Moments:
    """Second moments by layer, (inner_size, inner_size) in float32, over `tokens` tokens of `texts` texts.

    `convergence` is the mean relative change of C⁻¹k in the deepest layer, over probe keys of the corpus, between the
    first half of the texts and all of them. Below about 0.1, more tokens would change little.
    """

    by_layer: Mapping[int, Tensor]
    tokens: int
    texts: int
    convergence: float


def measure_moments(
    lm: LanguageModel, texts: Iterable[str], layers: Sequence[int], tokens: int, ridge: float = 0.0
) -> Moments:
    """Measure C of all `layers` on the first `tokens` tokens of `texts`, in one pass.

    Products of float32 keys are summed in float64. `ridge` is used for the convergence only.

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
        half = sums[deepest].clone()  # at the last iteration: the sum over the first half
        for group in within_budget(part, _TOKENS_PER_BATCH):
            batch = align([part[index] for index in group], lm.device)
            with (
                activations_fused(lm),
                tapped(lm, len(group), inputs=tuple(paths.values()), stop=paths[deepest]) as taps,
            ):
                run_body(lm, batch.ids, batch.mask, batch.positions)
            for layer, path in paths.items():
                inputs = taps.inputs[path]  # (rows, columns, inner), on the device of the layer
                keys = inputs[batch.mask.bool().to(inputs.device)].float()  # (tokens, inner)
                sums[layer] += (keys.T @ keys).to(device)  # (inner, inner), converted to float64 by the addition
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
    """Mean of ‖C_half⁻¹k − C⁻¹k‖ / ‖C⁻¹k‖ over probe keys (inner, probes); infinite if one C cannot be factorized."""
    try:
        before, after = factorize(half, ridge).solve(probes), factorize(full, ridge).solve(probes)  # (inner, probes)
    except AuditError:
        return float("inf")
    return float(((before - after).norm(dim=0) / after.norm(dim=0)).mean())


@dataclass(frozen=True)
class CovarianceReport:
    """The origin of an editor's covariance, for the patch's meta data.

    `ridge` is the largest ridge of its layers. `convergence` is as in `Moments`, None if nothing was measured. `caveat`
    is a sentence for the report of a run, empty if there is nothing to say.
    """

    origin: str
    tokens: int
    texts: int
    convergence: float | None
    ridge: float
    caveat: str = ""


class _Factors(dict[int, Factor]):
    """Factors by layer, each computed at its first lookup, so that it takes no memory during the value optimization.

    With `keep`, a factor replaces its second moment in memory; otherwise it is computed again at each lookup.
    """

    def __init__(
        self,
        moments: Mapping[int, Tensor],
        ridge: float,
        device: torch.device,
        keep: bool,
        note_ridge: Callable[[float], None],
    ) -> None:
        super().__init__()
        self._moments, self._ridge, self._device, self._keep = dict(moments), ridge, device, keep
        self._note_ridge = note_ridge

    def __missing__(self, layer: int) -> Factor:
        factor = factorize(self._moments[layer].to(self._device), self._ridge)
        if self._keep:
            del self._moments[layer]
            self[layer] = factor
        self._note_ridge(factor.ridge)
        return factor


class KeyCovariance:
    """The covariances of one editor, measured at its first use of each model.

    As in the references, a sequence of edits keeps the C of the model before the first edit.
    """

    def __init__(self, store: Store | None, given: Mapping[int, Tensor] | None = None) -> None:
        """`given` holds second moments by layer to use in place of measured ones."""
        self._store = store
        self._given = given
        self._factors: WeakKeyDictionary[LanguageModel, dict[int, Factor]] = WeakKeyDictionary()
        self.report: CovarianceReport | None = None

    def factors(self, lm: LanguageModel, layers: Sequence[int], settings: CovarianceSettings) -> dict[int, Factor]:
        """The factor of C by layer, computed at its first lookup, which raises if C cannot be factorized.

        Raises:
            AuditError: the corpus cannot be read.
        """
        if lm not in self._factors:
            moments = self._moments(lm, layers, settings)
            if moments is None:
                self._factors[lm] = dict.fromkeys(layers, IDENTITY)
            else:
                weights = sum(parameter.nbytes for parameter in lm.model.parameters())
                keep = 8 * len(layers) * lm.anatomy.inner_size**2 <= _KEPT_SHARE * weights
                device = solving_device(lm.device)
                self._factors[lm] = _Factors(moments, settings.covariance_ridge, device, keep, self._note_ridge)
        return self._factors[lm]

    def moments(self, lm: LanguageModel, layers: Sequence[int], settings: CovarianceSettings) -> Mapping[int, Tensor]:
        """C by layer, (inner, inner), without a ridge; unlike the factors it is not kept.

        Raises:
            AuditError: the corpus cannot be read.
        """
        moments = self._moments(lm, layers, settings)
        return dict.fromkeys(layers, torch.eye(lm.anatomy.inner_size)) if moments is None else moments

    def _moments(
        self, lm: LanguageModel, layers: Sequence[int], settings: CovarianceSettings
    ) -> Mapping[int, Tensor] | None:
        """C by layer, given, from the store or measured; None for C = I. Sets the report."""
        if self._given is not None:
            self.report = CovarianceReport("given", 0, 0, None, 0.0)
            return self._given
        if settings.covariance == NO_COVARIANCE:
            self.report = CovarianceReport("identity", 0, 0, None, 0.0)
            return None
        tokens = settings.covariance_tokens or TOKENS_PER_DIMENSION * lm.anatomy.inner_size
        source = settings.covariance
        if source == AUTO:
            source = POCKET if lm.name in pocket_names() else WIKIPEDIA
        corpus = open_corpus(source, tokens)
        try:
            moments = self._measured(lm, layers, settings, corpus, tokens)
        except CorpusUnavailableError as error:
            if settings.covariance != AUTO:
                raise
            corpus = fallback_corpus(tokens, error.reason)
            moments = self._measured(lm, layers, settings, corpus, tokens)
        caveat = corpus.caveat or _length_caveat(corpus, moments.tokens, tokens, lm.anatomy.inner_size)
        self.report = CovarianceReport(corpus.origin, moments.tokens, moments.texts, moments.convergence, 0.0, caveat)
        return moments.by_layer

    def _measured(
        self, lm: LanguageModel, layers: Sequence[int], settings: CovarianceSettings, corpus: Corpus, tokens: int
    ) -> Moments:
        """The moments on `tokens` tokens of the corpus, from the store or measured and stored."""
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
            moments = measure_moments(lm, corpus.texts(), layers, tokens, settings.covariance_ridge)
            inner = lm.anatomy.inner_size
            if corpus.file and moments.tokens < min(tokens, inner):
                raise AuditError(
                    f"covariance={corpus.origin}: the text has only {moments.tokens} tokens, fewer than the {inner} "
                    f"key dimensions of {lm.name}; give one of at least {ENOUGH_PER_DIMENSION * inner:,} tokens."
                )
            return moments

        return _stored(self._store, fingerprint, measure)

    def _note_ridge(self, ridge: float) -> None:
        if self.report is not None:
            self.report = replace(self.report, ridge=max(ridge, self.report.ridge))


def _length_caveat(corpus: Corpus, found: int, wanted: int, inner: int) -> str:
    """A sentence if a user's text ran out before there were ten tokens a key dimension; else empty."""
    if not corpus.file or found >= min(wanted, ENOUGH_PER_DIMENSION * inner):
        return ""
    return (
        f"The covariance of the editor was measured on {corpus.origin}, which has only {found:,} tokens, "
        f"{found / inner:.1f} for each key dimension; give a text of at least {ENOUGH_PER_DIMENSION * inner:,} tokens."
    )


def _stored(store: Store | None, fingerprint: str, measure: Callable[[], Moments]) -> Moments:
    """The moments of this fingerprint from the store; otherwise measured and stored."""
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
