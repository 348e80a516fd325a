"""Prefix contexts: seeded, weighed as published, and safe with braces."""

import pytest

from audit.editors.methods.memit import Memit
from audit.editors.methods.rome import Rome
from audit.editors.stages.contexts import OPENINGS, Contexts, sample_prefixes
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.tokens import encode


def test_one_seed_one_set_of_prefixes(tiny_llama: LanguageModel) -> None:
    first = sample_prefixes(tiny_llama, OPENINGS, 7, 6, seed=3)
    assert first == sample_prefixes(tiny_llama, OPENINGS, 7, 6, seed=3)
    assert first != sample_prefixes(tiny_llama, OPENINGS, 7, 6, seed=4)
    assert len(first) == 7
    for prefix, opening in zip(first, (*OPENINGS, *OPENINGS), strict=False):
        assert prefix.startswith(opening) and prefix.endswith(". ")


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_special_tokens_are_never_drawn(family: str, request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    bare = len(encode(lm.tokenizer, ""))  # a BOS, where the tokenizer adds one
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


def test_no_sampled_contexts_leaves_the_bare_prompt(tiny_gpt2: LanguageModel) -> None:
    assert Memit({"contexts_per_length": "0"}).contexts(tiny_gpt2).weights == (1.0,)


def test_the_bare_prompt_comes_first() -> None:
    with pytest.raises(AuditError, match="bare prompt"):
        Contexts((("The. ", ""),))
    with pytest.raises(AuditError, match="bare prompt"):
        Contexts(((),))
