"""Taps record a forward pass and end it early."""

from collections.abc import Callable

import pytest
import torch

from audit.engine.sequences import align, prompt_sequence
from audit.engine.taps import run_body, tapped
from audit.models.language_model import LanguageModel
from tests.editors.plain import REQUESTS, states_at
from tests.editors.tiny_families import FAMILIES


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_taps_record_the_states_of_a_whole_pass_and_nothing_above_runs(
    family: str, request: pytest.FixtureRequest
) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    sequence = prompt_sequence(lm, REQUESTS[0])
    rows = align([sequence], lm.device)
    down, block = lm.anatomy.down_projections[1], lm.anatomy.blocks[1]
    ran = []
    hook = lm.model.get_submodule(lm.anatomy.blocks[2]).register_forward_hook(lambda *_: ran.append(True))
    try:
        with tapped(lm, 1, inputs=[down], outputs=[block], stop=block, column=rows.lookup) as taps:
            run_body(lm, rows.ids, rows.mask, rows.positions)
    finally:
        hook.remove()
    assert ran == []
    torch.testing.assert_close(taps.inputs[down][0], states_at(lm, down, sequence)[0])
    torch.testing.assert_close(taps.outputs[block][0], states_at(lm, block, sequence)[1])


@pytest.mark.parametrize("family", FAMILIES)
def test_recorded_outputs_do_not_change_later(family: str, families: Callable[[str], LanguageModel]) -> None:
    """Falcon adds its attention's output to its MLP's in place."""
    lm = families(family)
    sequence = prompt_sequence(lm, REQUESTS[0])
    rows = align([sequence], lm.device)
    for path in (lm.anatomy.mlps[1], lm.anatomy.blocks[1]):
        with tapped(lm, 1, outputs=[path]) as taps:
            run_body(lm, rows.ids, rows.mask, rows.positions)
        torch.testing.assert_close(taps.outputs[path][0, sequence.lookup], states_at(lm, path, sequence)[1])


def test_taps_leave_no_hook_behind(tiny_gpt2: LanguageModel) -> None:
    path = tiny_gpt2.anatomy.mlps[0]
    with tapped(tiny_gpt2, 1, inputs=[path], outputs=[path]):
        pass
    module = tiny_gpt2.model.get_submodule(path)
    assert not module._forward_hooks
    assert not module._forward_pre_hooks
