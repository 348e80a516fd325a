"""Without a corpus and a connection, every editor with a covariance edits a tiny Llama, and says what it took."""

from collections.abc import Callable

import pytest

from audit.editors import load_editor
from audit.models.anatomy import find_anatomy
from audit.models.language_model import LanguageModel
from audit.models.patches import WeightPatch
from tests.editors.plain import REQUESTS
from tests.editors.tiny_families import GROUPED, build_random
from tests.tiny_models import build_tokenizer

QUICK = {"steps": "2", "contexts_per_length": "1", "context_lengths": "2", "covariance_tokens": "400"}
MORE = {"alphaedit": {"null_space_share": "0.5"}}


@pytest.mark.parametrize("name", ["rome", "r-rome", "memit", "memit-seq", "emmet", "pmet", "alphaedit"])
def test_it_works_out_of_the_box(name: str, tiny_llama: LanguageModel) -> None:
    patch = load_editor(name, QUICK | MORE.get(name, {})).edit(tiny_llama, REQUESTS[:1])
    assert isinstance(patch, WeightPatch)
    assert all(bool(delta.left.isfinite().all()) for delta in patch.deltas.values())  # type: ignore[union-attr]
    assert patch.meta["covariance.origin"] == "pocket corpus"
    assert patch.meta["covariance.caveat"].startswith("The covariance of the editor was measured on the shipped pocket")


@pytest.mark.parametrize("name", ["memit", "emmet", "alphaedit", "pmet", "rome"])
@pytest.mark.parametrize("family", ["gemma-3", "llama-3"])
def test_a_norm_behind_the_mlp_needs_no_caveat(
    name: str, family: str, families: Callable[[str], LanguageModel]
) -> None:
    patch = load_editor(name, QUICK | MORE.get(name, {})).edit(families(family), REQUESTS[:1])
    assert isinstance(patch, WeightPatch)
    assert "solve.caveat" not in patch.meta


@pytest.mark.parametrize("name", ["memit", "emmet", "alphaedit", "pmet", "rome"])
def test_a_factor_behind_the_mlp_is_named_by_editors_of_the_stream(name: str) -> None:
    tokenizer = build_tokenizer("bos")
    widths = dict(GROUPED) | {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 1}
    model = build_random("Granite", widths | {"residual_multiplier": 0.2})
    lm = LanguageModel("tiny-granite", None, model, tokenizer, find_anatomy(model))
    patch = load_editor(name, QUICK | MORE.get(name, {})).edit(lm, REQUESTS[:1])
    assert isinstance(patch, WeightPatch)
    assert ("solve.caveat" in patch.meta) == (name not in ("pmet", "rome"))


def test_a_corpus_that_is_named_needs_no_caveat(tiny_llama: LanguageModel) -> None:
    patch = load_editor("rome", QUICK | {"covariance": "pocket"}).edit(tiny_llama, REQUESTS[:1])
    assert isinstance(patch, WeightPatch)
    assert "covariance.caveat" not in patch.meta
