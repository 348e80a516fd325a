"""Editors of the residual stream on models that normalize the output of an MLP before it is added."""

from collections.abc import Callable

import pytest
import torch

from audit.editors.methods.alphaedit import AlphaEdit
from audit.editors.methods.emmet import Emmet
from audit.editors.methods.memit import BatchEditor, Memit, MemitSeq
from audit.editors.stages.keys import BARE
from audit.engine.sequences import prompt_sequence
from audit.models.language_model import LanguageModel
from tests.editors.plain import REQUESTS, relative_error, states_at

Families = Callable[[str], LanguageModel]

VALUES = {"steps": "5", "clamp_norm_factor": "2"}
EXACT = VALUES | {"covariance": "identity", "covariance_weight": "1e-6"}
ONE_LAYER = EXACT | {"layers": "1"}
FREE = VALUES | {
    "layers": "1",
    "covariance": "pocket",
    "covariance_tokens": "300",
    "null_space_share": "1",
    "l2": "1e-6",
}
EDITORS: dict[str, Callable[[], BatchEditor]] = {  # type: ignore[type-arg]
    "memit": lambda: Memit(ONE_LAYER, contexts=BARE),
    "memit-seq": lambda: MemitSeq(ONE_LAYER, contexts=BARE),
    "emmet": lambda: Emmet(EXACT | {"layer": "1", "relaxation": "1e-6"}, contexts=BARE),
    "alphaedit": lambda: AlphaEdit(FREE, contexts=BARE),
}


@pytest.mark.parametrize("name", EDITORS)
@pytest.mark.parametrize("family", ["gemma-2", "gemma-3", "llama-3"])
def test_the_block_moves_by_the_residual_that_was_asked_for(name: str, family: str, families: Families) -> None:
    lm, editor = families(family), EDITORS[name]()
    settings = editor.settings(lm)
    _, targets = editor._targets(lm, REQUESTS, BARE, settings, lambda _: None)
    asked = targets - editor._current(lm, REQUESTS, settings).double()  # (requests, hidden)
    block = lm.anatomy.blocks[1]
    before = torch.stack([states_at(lm, block, prompt_sequence(lm, case))[1] for case in REQUESTS])
    with editor.edit(lm, REQUESTS).applied(lm):
        after = torch.stack([states_at(lm, block, prompt_sequence(lm, case))[1] for case in REQUESTS])
    assert relative_error((after - before).double(), asked) < 1e-2
