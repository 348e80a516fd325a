"""`--reading` and `--prompting`: typed, from Python and from a project; every mistake is one sentence."""

from pathlib import Path
from typing import Any

import pytest

from audit.abilities import ABILITIES
from audit.errors import AuditError
from audit.settings.options import OPTIONS, AuditSettings, settings_from
from audit.settings.project_defaults import with_project_defaults
from audit.settings.values import PROMPTINGS, READINGS

NOTHING: dict[str, Any] = {option.name: None for option in OPTIONS}


def typed(*readings: str) -> dict[str, str]:
    return dict(settings_from({"reading": list(readings)}).reading)


def project(folder: Path, line: str, *readings: str) -> dict[str, str]:
    """The readings of a project with this line, under those typed."""
    (folder / "pyproject.toml").write_text(f"[tool.audit]\n{line}\n", encoding="utf-8")
    given = {**NOTHING, "reading": list(readings)} if readings else NOTHING
    return dict(settings_from(with_project_defaults(given, folder)).reading)


@pytest.mark.parametrize("reading", READINGS)
def test_a_reading_is_for_all_abilities_or_for_one(reading: str) -> None:
    assert typed(reading) == {"": reading}
    assert typed(f" nli = {reading} ", "ner=answers") == {"nli": reading, "ner": "answers"}
    assert [AuditSettings(reading=typed(reading)).reading_of(name) for name in ABILITIES] == [reading] * len(ABILITIES)


def test_without_a_reading_it_is_chosen() -> None:
    assert {AuditSettings().reading_of(name) for name in ABILITIES} == {"auto"}
    some = AuditSettings(reading={"": "likelihood", "nli": "auto"})
    assert (some.reading_of("nli"), some.reading_of("ner")) == ("auto", "likelihood")


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["nli=likelihod"], "--reading 'likelihod': give one of auto, answers, choices, calibrated, likelihood"),
        (["likelihod"], "--reading 'likelihod': give one of auto, answers, choices, calibrated, likelihood"),
        (["nlu=likelihood"], "--reading 'nlu=likelihood': there is no ability 'nlu'; give one of reasoning,"),
        (["nli="], "--reading '': give one of auto, answers, choices, calibrated, likelihood."),
        (["=likelihood"], "--reading '=likelihood': there is no ability ''; give one of reasoning,"),
        ([""], "--reading '': give one of auto, answers, choices, calibrated, likelihood."),
        (["nli=choices", "nli=answers"], "--reading 'nli=answers': nli already has a reading; give one."),
        (["choices", "answers"], "--reading 'answers': every ability already has a reading; give one."),
        (["nli"], "--reading 'nli': give one of auto, answers, choices, calibrated, likelihood."),
    ],
)
def test_a_mistake_is_one_sentence(texts: list[str], sentence: str) -> None:
    with pytest.raises(AuditError) as caught:
        settings_from({"reading": texts})
    assert str(caught.value).startswith(sentence) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["nli=likelihod", "likelihod"])
def test_the_closest_name_is_suggested(text: str) -> None:
    with pytest.raises(AuditError, match=r"\(did you mean 'likelihood'\?\)\.$"):
        typed(text)
    with pytest.raises(AuditError, match=r"\(did you mean 'nli'\?\)\.$"):
        typed("nil=likelihood")


@pytest.mark.parametrize("reading", [{"nli": "likelihod"}, {"": "x"}, {"poetry": "answers"}])
def test_readings_from_python_are_checked_in_the_same_way(reading: dict[str, str]) -> None:
    with pytest.raises(AuditError, match="give one of"):
        AuditSettings(reading=reading)


def test_a_project_sets_one_reading_or_a_table(tmp_path: Path) -> None:
    assert project(tmp_path, 'reading = "likelihood"') == {"": "likelihood"}
    assert project(tmp_path, 'reading = { nli = "choices", ner = "likelihood" }') == {
        "nli": "choices",
        "ner": "likelihood",
    }


def test_typed_readings_override_those_of_a_project_for_each_ability(tmp_path: Path) -> None:
    table = 'reading = { nli = "choices", ner = "likelihood" }'
    assert project(tmp_path, table, "nli=answers") == {"nli": "answers", "ner": "likelihood"}
    assert project(tmp_path, 'reading = "likelihood"', "nli=answers") == {"": "likelihood", "nli": "answers"}
    assert project(tmp_path, 'reading = "likelihood"', "answers") == {"": "answers"}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("reading = 3", "reading = 3 is not a table of names and values"),
        ('reading = ["likelihood"]', "is not a table of names and values"),
        ('reading = "likelihod"', "--reading 'likelihod': give one of auto"),
        ('reading = { nlu = "answers" }', "there is no ability 'nlu'"),
    ],
)
def test_a_mistake_of_a_project_is_one_sentence(line: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(AuditError) as caught:
        project(tmp_path, line)
    assert sentence in str(caught.value)


# Prompting -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompting", PROMPTINGS)
def test_a_way_of_prompting_is_parsed(prompting: str) -> None:
    assert settings_from({"prompting": f" {prompting} "}).prompting == prompting


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"prompting": "exmaples"}, "--prompting 'exmaples': give one of auto, plain, examples, chat (did you mean"),
        ({"shots": 2, "prompting": "plain"}, "--shots contradicts --prompting plain; give one of the two."),
        ({"shots": 2, "prompting": "chat"}, "--shots contradicts --prompting chat; give one of the two."),
        ({"chat_template": True, "prompting": "plain"}, "--chat-template contradicts --prompting plain;"),
        ({"chat_template": True, "prompting": "examples"}, "--chat-template contradicts --prompting examples;"),
        ({"protocol": "gu2024", "prompting": "examples"}, "--prompting examples: gu2024 has prompts of its own;"),
        ({"protocol": "gu2024", "prompting": "chat"}, "--prompting chat: gu2024 has prompts of its own;"),
        ({"protocol": "gu2024", "shots": 2}, "--shots 2: gu2024 asks without examples;"),
        ({"editor": "ike", "prompting": "chat"}, "--prompting chat: ike puts its demonstrations before the prompt,"),
    ],
)
def test_options_that_contradict_each_other_are_one_sentence(more: dict[str, Any], sentence: str) -> None:
    with pytest.raises(AuditError) as caught:
        AuditSettings(**more)
    assert str(caught.value).startswith(sentence) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "more",
    [
        {"shots": 2, "prompting": "examples"},
        {"shots": 2, "chat_template": True},
        {"chat_template": True, "prompting": "chat"},
        {"protocol": "gu2024", "prompting": "plain"},
        {"edited": "./checkpoint", "prompting": "chat"},
    ],
)
def test_options_that_agree_are_taken(more: dict[str, Any]) -> None:
    assert AuditSettings(**more).plain() == AuditSettings().plain() | more


@pytest.mark.parametrize(
    ("more", "flag"),
    [
        ({}, ""),
        ({"prompting": "examples"}, ""),
        ({"prompting": "chat"}, "--prompting chat"),
        ({"chat_template": True}, "--chat-template"),
        ({"chat_template": True, "prompting": "chat"}, "--chat-template"),
    ],
)
def test_the_option_that_asks_for_a_chat_template_is_named(more: dict[str, Any], flag: str) -> None:
    assert AuditSettings(**more).chat_flag == flag
