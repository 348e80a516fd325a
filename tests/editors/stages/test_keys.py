"""Keys at the lookup: the same whatever the padding, the batch and its order."""

import pytest
import torch

from audit.editors.stages.keys import context_keys, lookup_states
from audit.engine.sequences import prompt_sequence
from audit.models.language_model import LanguageModel
from tests.editors.plain import CONTEXTS, GROUPS, REQUESTS, states_at


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
@pytest.mark.parametrize("budget", [1, 60, 4096])
def test_states_equal_those_of_unpadded_sequences(family: str, budget: int, request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    down, block = lm.anatomy.down_projections[1], lm.anatomy.blocks[1]
    sequences = [prompt_sequence(lm, case, prefix) for case in REQUESTS for prefix in CONTEXTS.prefixes]
    states = lookup_states(lm, sequences, inputs=[down], outputs=[block], stop=block, token_budget=budget)
    for row, sequence in enumerate(sequences):
        torch.testing.assert_close(states.inputs[down][row], states_at(lm, down, sequence)[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(states.outputs[block][row], states_at(lm, block, sequence)[1], rtol=1e-4, atol=1e-5)


def test_a_key_is_the_flat_mean_or_the_mean_of_group_means(tiny_gpt2: LanguageModel) -> None:
    lm = tiny_gpt2
    down = lm.anatomy.down_projections[1]
    keys = torch.stack([states_at(lm, down, prompt_sequence(lm, REQUESTS[0], p))[0] for p in CONTEXTS.prefixes])
    flat = context_keys(lm, REQUESTS[:1], CONTEXTS, 1, 4096)[0]
    torch.testing.assert_close(flat, keys.mean(0), rtol=1e-4, atol=1e-5)
    grouped = context_keys(lm, REQUESTS[:1], GROUPS, 1, 4096)[0]
    torch.testing.assert_close(grouped, keys[0] / 2 + keys[1:].mean(0) / 2, rtol=1e-4, atol=1e-5)


def test_a_lone_subject_and_a_crowd_have_the_same_key(tiny_llama: LanguageModel) -> None:
    crowd = context_keys(tiny_llama, REQUESTS[::-1], GROUPS, 2, 4096)
    for row, case in enumerate(REQUESTS[::-1]):
        torch.testing.assert_close(
            context_keys(tiny_llama, [case], GROUPS, 2, 4096)[0], crowd[row], rtol=1e-4, atol=1e-5
        )
