"""Second moments of keys: one pass, the right tokens, stored by fingerprint, and the corpus where none is given."""

from pathlib import Path

import pytest
import torch

from audit.editors.stages.covariance import CovarianceSettings, KeyCovariance, measure_moments
from audit.editors.stages.solve import Factor, factorize
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.patches import originals_kept
from audit.models.tokens import encode
from audit.store.content import Store
from tests.tiny_models import CORPUS, build_tiny_gpt2


def brute_force(lm: LanguageModel, texts: tuple[str, ...], layer: int) -> torch.Tensor:
    keys: list[torch.Tensor] = []
    down = lm.model.get_submodule(lm.anatomy.down_projections[layer])
    hook = down.register_forward_pre_hook(lambda _, args: keys.append(args[0][0].double()))
    try:
        for text in texts:
            lm.model(input_ids=torch.tensor([encode(lm.tokenizer, text)]), use_cache=False)
    finally:
        hook.remove()
    stacked = torch.cat(keys)
    return (stacked.T @ stacked / len(stacked)).float()


@pytest.fixture
def corpus_file(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text("\n\n".join(CORPUS * 3), encoding="utf-8")
    return path


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_one_pass_equals_a_pass_per_layer_and_brute_force(family: str, request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    moments = measure_moments(lm, CORPUS, (0, 2), tokens=10**6)
    assert moments.tokens == sum(len(encode(lm.tokenizer, text)) for text in CORPUS)
    assert moments.texts == len(CORPUS)
    for layer, C in moments.by_layer.items():
        alone = measure_moments(lm, CORPUS, (layer,), tokens=10**6).by_layer[layer]
        torch.testing.assert_close(C, alone, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(C, brute_force(lm, CORPUS, layer), rtol=1e-4, atol=1e-5)


def test_exactly_the_given_number_of_tokens_is_read(tiny_gpt2: LanguageModel) -> None:
    ids = encode(tiny_gpt2.tokenizer, CORPUS[0])
    assert len(ids) > 5
    moments = measure_moments(tiny_gpt2, CORPUS, (1,), tokens=5)
    assert (moments.tokens, moments.texts) == (5, 1)


def test_convergence_falls_with_more_tokens(tiny_gpt2: LanguageModel) -> None:
    few = measure_moments(tiny_gpt2, CORPUS * 2, (1,), tokens=300)
    again = measure_moments(tiny_gpt2, CORPUS * 2, (1,), tokens=10**6)  # the second half repeats the first
    assert again.convergence < few.convergence


def test_an_empty_corpus_is_refused(tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(AuditError, match="holds no text"):
        measure_moments(tiny_gpt2, ["", ""], (0,), tokens=100)


def test_the_store_gives_the_same_moments_without_measuring(
    tiny_gpt2: LanguageModel, corpus_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    settings = CovarianceSettings(covariance=str(corpus_file), covariance_tokens=400)
    first = KeyCovariance(store)
    factors = first.factors(tiny_gpt2, (0, 1), settings)
    lowers = {layer: factors[layer].lower for layer in (0, 1)}
    monkeypatch.setattr("audit.editors.stages.covariance.measure_moments", lambda *_: pytest.fail("measured again"))
    second = KeyCovariance(store)
    kept = second.factors(tiny_gpt2, (0, 1), settings)
    again = {layer: kept[layer].lower for layer in (0, 1)}
    assert second.report == first.report
    for layer, lower in lowers.items():
        torch.testing.assert_close(again[layer], lower, rtol=0, atol=0)


def test_factors_are_computed_at_their_first_lookup_and_kept(
    tiny_gpt2: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Factor] = []

    def counted(moment: torch.Tensor, ridge: float) -> Factor:
        made.append(factorize(moment, ridge))
        return made[-1]

    monkeypatch.setattr("audit.editors.stages.covariance.factorize", counted)
    given = {layer: torch.eye(128) for layer in range(3)}
    covariance = KeyCovariance(None, given=given)
    factors = covariance.factors(tiny_gpt2, (1,), CovarianceSettings())
    assert not made
    assert factors[1] is factors[1] and len(made) == 1
    other = build_tiny_gpt2(seed=1)
    assert (
        covariance.factors(other, (1,), CovarianceSettings())[1] is not factors[1]
    )  # given moments are used for all models
    # Three layers' factors would take more memory than the tiny model itself.
    many = KeyCovariance(None, given=given).factors(tiny_gpt2, (0, 1, 2), CovarianceSettings())
    assert many[1] is not many[1] and torch.equal(many[1].lower, factors[1].lower)


def test_moments_of_other_weights_or_settings_are_not_used(
    tiny_gpt2: LanguageModel, corpus_file: Path, tmp_path: Path
) -> None:
    lm, store = tiny_gpt2, Store(tmp_path / "store")
    settings = CovarianceSettings(covariance=str(corpus_file), covariance_tokens=400)
    measured = []

    def measure(name: str, layers: tuple[int, ...], settings: CovarianceSettings) -> None:
        before = len(list((tmp_path / "store").rglob("*.safetensors")))
        KeyCovariance(store).factors(lm, layers, settings)
        if len(list((tmp_path / "store").rglob("*.safetensors"))) > before:
            measured.append(name)

    measure("first", (0,), settings)
    measure("again", (0,), settings)
    measure("layers", (1,), settings)
    measure("tokens", (0,), CovarianceSettings(covariance=str(corpus_file), covariance_tokens=500))
    corpus_file.write_text("\n\n".join(CORPUS), encoding="utf-8")
    measure("corpus", (0,), settings)
    with originals_kept(lm) as originals:
        originals.keep(lm.anatomy.weight_name(2)).data[0, 0] += 1
        measure("weights", (0,), settings)
    assert measured == ["first", "layers", "tokens", "corpus", "weights"]


def test_a_corrupt_file_is_measured_again(tiny_gpt2: LanguageModel, corpus_file: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    settings = CovarianceSettings(covariance=str(corpus_file), covariance_tokens=400)
    expected = KeyCovariance(store).factors(tiny_gpt2, (1,), settings)[1].lower
    (path,) = (tmp_path / "store").rglob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-5] ^= 0xFF
    path.write_bytes(content)
    torch.testing.assert_close(KeyCovariance(store).factors(tiny_gpt2, (1,), settings)[1].lower, expected)


def test_identity_measures_nothing(tiny_gpt2: LanguageModel) -> None:
    covariance = KeyCovariance(None)
    factor = covariance.factors(tiny_gpt2, (1,), CovarianceSettings(covariance="identity"))[1]
    key = torch.randn(128)
    torch.testing.assert_close(factor.solve(key), key.double())
    assert covariance.report is not None and covariance.report.origin == "identity"


def test_a_sequence_of_edits_keeps_the_covariance_of_the_unedited_model(
    tiny_gpt2: LanguageModel, corpus_file: Path
) -> None:
    covariance = KeyCovariance(None)
    settings = CovarianceSettings(covariance=str(corpus_file), covariance_tokens=400)
    before = covariance.factors(tiny_gpt2, (1,), settings)
    with originals_kept(tiny_gpt2) as originals:
        originals.keep(tiny_gpt2.anatomy.weight_name(0)).data.mul_(2)
        assert covariance.factors(tiny_gpt2, (1,), settings) is before


def test_the_report_has_the_ridge(tiny_gpt2: LanguageModel) -> None:
    moments = measure_moments(tiny_gpt2, CORPUS, (1,), tokens=20)  # far fewer than 128 key dimensions
    assert factorize(moments.by_layer[1]).ridge > 0
    covariance = KeyCovariance(None, given=moments.by_layer)
    covariance.factors(tiny_gpt2, (1,), CovarianceSettings())[1]
    assert covariance.report is not None and covariance.report.ridge > 0


def test_a_text_with_fewer_tokens_than_key_dimensions_is_refused(tiny_llama: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text(CORPUS[0], encoding="utf-8")
    count = len(encode(tiny_llama.tokenizer, CORPUS[0]))
    store = Store(tmp_path / "store")
    with pytest.raises(AuditError, match=rf"short\.txt: the text has only {count} tokens, fewer than the 80 key dim"):
        KeyCovariance(store).factors(tiny_llama, (1,), CovarianceSettings(covariance=str(path)))
    assert not list((tmp_path / "store").rglob("*.safetensors"))


def test_a_text_with_few_tokens_gets_a_caveat(tiny_llama: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "few.txt"
    caveats = []
    for times in (1, 6):
        path.write_text("\n\n".join(CORPUS * times), encoding="utf-8")
        covariance = KeyCovariance(None)
        covariance.factors(tiny_llama, (1,), CovarianceSettings(covariance=str(path)))
        assert covariance.report is not None
        caveats.append(covariance.report.caveat)
    assert "few.txt, which has only" in caveats[0] and "at least 800 tokens" in caveats[0]
    assert caveats[1] == ""


def test_without_a_corpus_a_real_model_is_measured_on_the_shipped_one(
    tiny_llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach the Hub.")

    monkeypatch.setattr("datasets.load_dataset", offline)
    covariance = KeyCovariance(None)
    settings = CovarianceSettings(covariance_tokens=600)
    lower = covariance.factors(tiny_llama, (1,), settings)[1].lower
    report = covariance.report
    assert report is not None and report.origin == "pocket corpus" and report.tokens == 600
    assert (
        "covariance=texts.txt, or covariance=wikitext" in report.caveat and "(Couldn't reach the Hub)" in report.caveat
    )
    given = KeyCovariance(None)
    pocket = CovarianceSettings(covariance="pocket", covariance_tokens=600)
    assert torch.equal(given.factors(tiny_llama, (1,), pocket)[1].lower, lower)
    assert given.report is not None and given.report.caveat == ""


def test_a_data_set_that_is_asked_for_is_not_replaced(
    tiny_llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("offline")

    monkeypatch.setattr("datasets.load_dataset", offline)
    for source in ("wikitext", "owner/name"):
        with pytest.raises(AuditError, match="cannot be loaded"):
            KeyCovariance(None).factors(tiny_llama, (1,), CovarianceSettings(covariance=source))


def test_wikipedia_is_read_where_it_can_be(tiny_llama: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: [{"text": text} for text in CORPUS * 9])
    covariance = KeyCovariance(None)
    covariance.factors(tiny_llama, (1,), CovarianceSettings(covariance_tokens=500))
    assert covariance.report is not None
    assert covariance.report.origin.startswith("wikimedia/wikipedia") and covariance.report.caveat == ""
