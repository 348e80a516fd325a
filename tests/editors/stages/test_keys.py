"""Keys at the lookup do not depend on padding, batch or order; prefix contexts are seeded and weighted as published."""

import pytest
import torch

from audit.editors.methods.memit import Memit
from audit.editors.methods.rome import Rome
from audit.editors.stages.keys import OPENINGS, Contexts, lookup_states, mean_keys, sample_prefixes
from audit.engine.sequences import prompt_sequence
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.tokens import encode
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
    flat = mean_keys(lm, REQUESTS[:1], CONTEXTS, 1, 4096)[0]
    torch.testing.assert_close(flat, keys.mean(0), rtol=1e-4, atol=1e-5)
    grouped = mean_keys(lm, REQUESTS[:1], GROUPS, 1, 4096)[0]
    torch.testing.assert_close(grouped, keys[0] / 2 + keys[1:].mean(0) / 2, rtol=1e-4, atol=1e-5)


def test_a_key_does_not_depend_on_the_other_requests(tiny_llama: LanguageModel) -> None:
    batch = mean_keys(tiny_llama, REQUESTS[::-1], GROUPS, 2, 4096)
    for row, case in enumerate(REQUESTS[::-1]):
        torch.testing.assert_close(mean_keys(tiny_llama, [case], GROUPS, 2, 4096)[0], batch[row], rtol=1e-4, atol=1e-5)


def test_prefixes_depend_on_the_seed(tiny_llama: LanguageModel) -> None:
    first = sample_prefixes(tiny_llama, OPENINGS, 7, 6, seed=3)
    assert first == sample_prefixes(tiny_llama, OPENINGS, 7, 6, seed=3)
    assert first != sample_prefixes(tiny_llama, OPENINGS, 7, 6, seed=4)
    assert len(first) == 7
    for prefix, opening in zip(first, (*OPENINGS, *OPENINGS), strict=False):
        assert prefix.startswith(opening) and prefix.endswith(". ")


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_special_tokens_are_never_sampled(family: str, request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    bare = len(encode(lm.tokenizer, ""))  # 1 if the tokenizer adds a BOS
    for prefix in sample_prefixes(lm, ("",), 8, 10, seed=0):
        assert not set(encode(lm.tokenizer, prefix)[bare:]) & set(lm.tokenizer.all_special_ids)


def test_weights_are_those_of_the_papers(tiny_gpt2: LanguageModel) -> None:
    rome, memit = Rome().contexts(tiny_gpt2), Memit().contexts(tiny_gpt2)
    assert len(rome.prefixes) == 21
    assert rome.weights == pytest.approx([1 / 21] * 21)
    assert memit.weights == pytest.approx([1 / 2] + [1 / 10] * 5)


def test_contexts_belong_to_the_editor(tiny_gpt2: LanguageModel) -> None:
    config = {"context_lengths": "4", "contexts_per_length": "2"}
    editor = Rome(config, seed=1)
    assert editor.contexts(tiny_gpt2) is editor.contexts(tiny_gpt2)
    assert Rome(config, seed=1).contexts(tiny_gpt2) == editor.contexts(tiny_gpt2)
    assert Rome(config, seed=2).contexts(tiny_gpt2) != editor.contexts(tiny_gpt2)


def test_without_sampled_contexts_there_is_the_bare_prompt(tiny_gpt2: LanguageModel) -> None:
    assert Memit({"contexts_per_length": "0"}).contexts(tiny_gpt2).weights == (1.0,)


def test_the_bare_prompt_comes_first() -> None:
    with pytest.raises(AuditError, match="bare prompt"):
        Contexts((("The. ", ""),))
    with pytest.raises(AuditError, match="bare prompt"):
        Contexts(((),))
