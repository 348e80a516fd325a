import pytest

from audit.abilities.summarization import Summarization

ABILITY = Summarization()
ROW = {"dialogue": "Ann: I bought two radios!\r\nBob: nice!", "summary": "Ann bought two radios."}


def item(**changes):
    return ABILITY.item({**ROW, **changes}, "summarization/0")


def value(said: str, summary: str = ROW["summary"]) -> float:
    return ABILITY.score(item(summary=summary), ABILITY.parse(said)).value


def test_the_prompt_has_plain_line_ends():
    assert ABILITY.prompt(item()) == "Ann: I bought two radios!\nBob: nice!\nTL;DR:"


def test_the_score_is_the_mean_of_three_f_measures():
    # gold: ann bought two radio (4); said: ann bought a radio (4), 3 in common, 1 of 3 bigrams, LCS of 3.
    got = ABILITY.score(item(), ABILITY.parse(" Ann bought a radio"))
    assert dict(got.beside) == pytest.approx({"rouge1": 3 / 4, "rouge2": 1 / 3, "rougeL": 3 / 4})
    assert got.value == pytest.approx((3 / 4 + 1 / 3 + 3 / 4) / 3)


def test_words_are_stemmed():
    assert value("Ann bought two radio") == 1.0


def test_an_empty_summary_is_unparseable_and_scores_0():
    assert not ABILITY.parse("  ").parseable
    assert value("  ") == 0.0


def test_the_tokenizer_keeps_only_latin_letters():
    assert value("\u041f\u0440\u0438\u0432\u0435\u0442", "\u041f\u0440\u0438\u0432\u0435\u0442") == 0.0


def test_every_ability_object_has_its_own_scorer():
    first, second = Summarization(), Summarization()
    assert first._rouge._scorer is first._rouge._scorer
    assert first._rouge._scorer is not second._rouge._scorer


def test_the_floor_is_the_better_of_another_summary_and_a_copied_turn():
    alike = [item(), item()]  # the next item's summary is equal, so a constant summary scores 1
    assert ABILITY.floor(alike) == 1.0
    copied = item(dialogue="Ann bought two radios.\nBob: nice!")
    assert ABILITY.floor([copied]) == 1.0
    unlike = [item(), item(dialogue="Cleo: hi\nDan: bye", summary="Cleo greeted Dan at noon")]
    assert 0 < ABILITY.floor(unlike) < 0.5
    assert ABILITY.floor([]) == 0.0
