"""PMET: two vectors are optimized together, one is written."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from audit.editors.methods.pmet import Pmet, PmetSettings
from audit.editors.stages.editor_settings import Shapes
from audit.editors.stages.keys import mean_keys
from audit.editors.stages.values import OptimizedValues, optimize_values
from audit.edits.requests import EditRequest
from audit.engine.sequences import essence_sequence, prompt_sequence, rewriting_sequence
from audit.errors import AuditError
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import load_patch
from tests.editors.methods.test_memit import deltas_of
from tests.editors.plain import CONTEXTS, GROUPS, REQUESTS, relative_error, states_at

CONFIG = {"layers": "0,1", "steps": "4", "covariance": "identity", "clamp_norm_factor": "2", "covariance_weight": "1"}
SETTINGS = PmetSettings(steps=6, learning_rate=0.1, clamp_norm_factor=0.3, covariance="identity")
FAMILIES = ["gpt-2", "gpt-j", "opt", "llama-3", "gemma-2", "falcon-new"]


def optimized(
    lm: LanguageModel, settings: PmetSettings = SETTINGS, cases: Sequence[EditRequest] = REQUESTS
) -> OptimizedValues:
    return optimize_values(
        lm, cases, CONTEXTS, layer=1, site="branches", settings=settings, settled_kl=settings.settled_kl
    )


def plainly(lm: LanguageModel, case: EditRequest, settings: PmetSettings) -> tuple[Tensor, Tensor, int]:
    """PMET's optimization for one request, one unpadded sequence at a time: (initial, delta, updates)."""
    paths = (lm.anatomy.attention_projections[1], lm.anatomy.mlps[1])
    rewriting = [rewriting_sequence(lm, case, prefix) for prefix in CONTEXTS.prefixes]
    essence = essence_sequence(lm, case)
    initial = torch.stack([states_at(lm, path, prompt_sequence(lm, case))[1] for path in paths])
    delta = torch.zeros_like(initial, requires_grad=True)
    adam = torch.optim.Adam([delta], lr=settings.learning_rate)

    def log_p(ids: tuple[int, ...], lookup: int) -> Tensor:
        def adding(vector: Tensor) -> Callable[..., Tensor]:
            def add(_: object, __: object, output: Tensor) -> Tensor:
                moved = output.clone()
                moved.view(-1, len(vector))[lookup] += vector
                return moved

            return add

        modules = [lm.model.get_submodule(path) for path in paths]
        hooks = [module.register_forward_hook(adding(delta[i])) for i, module in enumerate(modules)]
        try:
            logits = lm.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()
        finally:
            for hook in hooks:
                hook.remove()
        return torch.log_softmax(logits, -1)

    at_first: Tensor | None = None
    factor, updates = 1.0, 0
    for step in range(settings.steps):
        adam.zero_grad()
        said = [log_p(row.ids, row.lookup)[row.first_label :][: len(row.labels)] for row in rewriting]
        labels = torch.tensor(rewriting[0].labels)
        nll = torch.stack([-rows.gather(1, labels[:, None]).mean() for rows in said]).mean()
        now = log_p(essence.ids, essence.lookup)[essence.lookup]
        at_first = now.detach() if at_first is None else at_first
        kl = settings.kl_factor * (now.exp() * (now - at_first)).sum()
        decay = settings.weight_decay * (delta.norm(dim=1) / initial.norm(dim=1) ** 2).sum()
        loss = factor * nll + kl + decay
        first = all(bool((rows.argmax(-1) == labels).all()) for rows in said)
        factor = 0.1 if first else 1.0
        settled = first and float(kl.detach()) <= settings.settled_kl
        if loss < settings.stop_loss or settled or step == settings.steps - 1:
            break
        loss.backward()
        adam.step()
        updates += 1
        with torch.no_grad():
            for i in range(2):
                delta[i] *= min(1.0, float(settings.clamp_norm_factor * initial[i].norm() / delta[i].norm()))
    return initial, delta.detach(), updates


@pytest.mark.parametrize("family", FAMILIES)
def test_both_vectors_are_those_of_the_plain_form(family: str, families: Callable[[str], LanguageModel]) -> None:
    lm = families(family)
    cases = (REQUESTS[1], REQUESTS[3])
    values = optimized(lm, SETTINGS, cases)
    for row, case in enumerate(cases):
        initial, delta, updates = plainly(lm, case, SETTINGS)
        assert relative_error(values.initial[row], initial) < 1e-5
        assert relative_error(values.delta[row], delta) < 1e-3
        assert values.updates[row] == updates


def test_each_vector_has_its_own_clamp(tiny_llama: LanguageModel) -> None:
    values = optimized(tiny_llama, replace(SETTINGS, clamp_norm_factor=0.01, learning_rate=1.0))
    torch.testing.assert_close(values.delta.norm(dim=2), 0.01 * values.initial.norm(dim=2))


def test_attention_can_have_another_clamp_factor(tiny_llama: LanguageModel) -> None:
    config = {"attention_clamp_norm_factor": "0.001", "clamp_norm_factor": "0.01", "learning_rate": "1"}
    pmet = Pmet(CONFIG | config, contexts=GROUPS)
    values, _ = pmet._targets(tiny_llama, REQUESTS, GROUPS, pmet.settings(tiny_llama), None)
    radius = torch.tensor([0.001, 0.01]) * values.initial.norm(dim=2)
    torch.testing.assert_close(values.delta.norm(dim=2), radius)


def test_a_request_is_finished_once_its_target_ranks_first_at_a_small_divergence(tiny_gpt2: LanguageModel) -> None:
    """The subject ends the prompt, so that the target can rank first; with settled_kl 0 a request is never finished."""
    case = EditRequest("e", "Mara Lind", "The painter is {}", "is")
    settings = replace(SETTINGS, steps=25, clamp_norm_factor=50.0, learning_rate=0.5, stop_loss=0.0)
    finished, never = (optimized(tiny_gpt2, replace(settings, settled_kl=kl), [case]) for kl in (1e9, 0.0))
    assert 0 < finished.updates[0] < never.updates[0] == 24
    for values, kl in ((finished, 1e9), (never, 0.0)):
        _, delta, updates = plainly(tiny_gpt2, case, replace(settings, settled_kl=kl))
        assert values.updates[0] == updates
        assert relative_error(values.delta[0], delta) < 1e-2


@pytest.mark.parametrize("family", ["gpt-2", "gpt-j", "opt", "llama-3"])
def test_the_mlp_reaches_its_own_target(family: str, families: Callable[[str], LanguageModel]) -> None:
    lm = families(family)
    pmet = Pmet(CONFIG | {"layers": "1", "covariance_weight": "1e-6"}, contexts=GROUPS)
    settings = pmet.settings(lm)
    values, targets = pmet._targets(lm, REQUESTS, GROUPS, settings, None)
    assert torch.equal(targets, values.targets[:, 1].double())
    change = deltas_of(pmet.edit(lm, REQUESTS))[lm.anatomy.weight_name(1)]
    K = mean_keys(lm, REQUESTS, GROUPS, 1, 4096).double().T
    assert relative_error((change @ K).T, values.delta[:, 1]) < 1e-2


def test_the_first_of_two_layers_takes_the_root_of_its_share(tiny_llama: LanguageModel) -> None:
    pmet = Pmet(CONFIG, contexts=GROUPS)
    values, _ = pmet._targets(tiny_llama, REQUESTS, GROUPS, pmet.settings(tiny_llama), None)
    K = mean_keys(tiny_llama, REQUESTS, GROUPS, 0, 4096).double().T
    R = values.delta[:, 1].double().T / 2**0.5
    expected = R @ torch.linalg.solve(torch.eye(len(K)).double() + K @ K.T, K).T
    assert (
        relative_error(deltas_of(pmet.edit(tiny_llama, REQUESTS))[tiny_llama.anatomy.weight_name(0)], expected) < 1e-3
    )


def test_the_order_of_requests_changes_nothing(tiny_gpt2: LanguageModel) -> None:
    pmet = Pmet(CONFIG, contexts=GROUPS)
    one, other = (deltas_of(pmet.edit(tiny_gpt2, [REQUESTS[i] for i in order])) for order in ((0, 1, 2), (2, 0, 1)))
    for name, change in one.items():
        assert relative_error(other[name], change) < 1e-3


def test_only_mlp_weights_are_written_and_they_are_restored(tiny_llama: LanguageModel, tmp_path: Path) -> None:
    before = weights_fingerprint(tiny_llama)
    patch = Pmet(CONFIG, contexts=GROUPS).edit(tiny_llama, REQUESTS)
    assert set(deltas_of(patch)) == {tiny_llama.anatomy.weight_name(layer) for layer in (0, 1)}
    with patch.applied(tiny_llama):
        assert weights_fingerprint(tiny_llama) != before
    assert weights_fingerprint(tiny_llama) == before
    patch.save(tmp_path)
    assert load_patch(tmp_path).fingerprint == patch.fingerprint


def test_published_settings_and_their_limits() -> None:
    gpt_j = PmetSettings.published[Shapes.GPT_J]
    assert (gpt_j["steps"], gpt_j["learning_rate"], gpt_j["kl_factor"]) == (30, 0.2, 1.0)
    assert PmetSettings.published[Shapes.LLAMA_7B]["clamp_norm_factor"] == 1.0
    with pytest.raises(AuditError, match=r"settled_kl is -1\.0: give a number of at least 0"):
        PmetSettings(settled_kl=-1.0).check(6)
