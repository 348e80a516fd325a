"""How a run asks its abilities: chosen once, on the base model alone, from rows that it does not judge."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audit import Audit
from audit.abilities import ABILITIES, load_ability
from audit.abilities.contract import readings_of
from audit.abilities.data.set_aside import EXAMPLES, PILOT, set_aside
from audit.abilities.presentation import Presentation
from audit.answering import answers as asking
from audit.answering.items import candidates_for, choice_for, drawn_items, margin_for, with_reading
from audit.errors import AbilityError, AuditError
from audit.reports.rows import AbilityRow
from audit.settings.options import DEFAULT_SHOTS, AuditSettings
from audit.verdicts.margins import Points, Retained, SuiteMargins
from tests.small_audit import SmallWorld, abilities, build, widen, write_lines

ROWS, LIMIT = 90, 20
TEMPLATE = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}\n{% endfor %}[assistant]"
MARGINS = SuiteMargins(Points(0.05), Retained(0.8))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return widen(build(tmp_path_factory.mktemp("world"), "llama"), ROWS)


@pytest.fixture(scope="module")
def chatty(world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    """The same world with a chat template."""
    return with_template(world, tmp_path_factory.mktemp("chatty"), TEMPLATE)


def with_template(world: SmallWorld, folder: Path, template: str) -> SmallWorld:
    for file in world.model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return replace(world, model=folder)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Whether each call of a model was of an edited one."""
    calls: list[bool] = []
    ask = asking._ask

    def counted(*args: Any) -> None:
        calls.append(args[5] is not None)
        ask(*args)

    monkeypatch.setattr(asking, "_ask", counted)
    yield calls


def audit(world: SmallWorld, **more: Any) -> Audit:
    wanted = {"editor": "identity", "device": "cpu", "limit": LIMIT, "use_store": False, "triage": False}
    return Audit(**world.options(**wanted | more))


def row(world: SmallWorld, name: str, **more: Any) -> AbilityRow:
    return audit(world, **more).verdict(name)


def offered(name: str, tokenizer: Any = None, **more: Any) -> list[Presentation]:
    return candidates_for(name, AuditSettings(**more), tokenizer)


class Chat:
    """A tokenizer with a chat template."""

    chat_template = TEMPLATE


# What is tried -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ABILITIES)
def test_every_reading_is_tried_in_each_way_in_order(name: str) -> None:
    readings = [one.reading for one in readings_of(load_ability(name))]
    ways = [(0, False), (DEFAULT_SHOTS, False), (0, True)]
    assert offered(name, Chat()) == [Presentation(one, *way) for one in readings for way in ways]
    assert offered(name) == [one for one in offered(name, Chat()) if not one.chat]
    assert offered(name, Chat(), editor="ike") == offered(name)  # ike's demonstrations stand outside of a turn
    assert offered(name, protocol="gu2024") == [Presentation(load_ability(name, "gu2024").reading)]


@pytest.mark.parametrize(
    ("more", "way"),
    [
        ({"prompting": "plain"}, (0, False)),
        ({"prompting": "examples"}, (DEFAULT_SHOTS, False)),
        ({"prompting": "examples", "shots": 2}, (2, False)),
        ({"prompting": "chat"}, (0, True)),
        ({"shots": 3}, (3, False)),
        ({"chat_template": True}, (0, True)),
        ({"chat_template": True, "shots": 1}, (1, True)),
    ],
)
def test_a_way_of_prompting_that_was_typed_is_the_only_one(more: Mapping[str, Any], way: tuple[int, bool]) -> None:
    assert offered("nli", Chat(), reading={"": "likelihood"}, **more) == [Presentation("likelihood", *way)]
    assert {(one.shots, one.chat) for one in offered("nli", Chat(), **more)} == {way}


def test_the_reading_of_an_ability_goes_before_that_of_all_and_both_before_the_suites() -> None:
    both = AuditSettings(reading={"": "likelihood", "nli": "choices"})
    assert [both.reading_of(name) for name in ("nli", "ner")] == ["choices", "likelihood"]
    assert with_reading(both, "ner", "answers") is both
    only = AuditSettings(reading={"nli": "choices"})
    assert with_reading(only, "ner", "answers").reading_of("ner") == "answers"
    assert with_reading(only, "nli", "answers").reading_of("nli") == "choices"
    assert with_reading(AuditSettings(), "nli", "").reading_of("nli") == "auto"


def test_a_pocket_model_on_its_own_data_is_asked_as_its_card_says(asked: list[bool]) -> None:
    found = Audit(editor="identity", model="pocket-llama", limit=8, device="cpu", use_store=False).verdict("sentiment")
    assert (found.reading, found.prompting, found.trials) == ("answers", "plain", ())


# The choice ----------------------------------------------------------------------------------------------------------


def test_the_edited_model_has_no_influence_on_the_choice(world: SmallWorld) -> None:
    """Without a store, each run measures anew."""
    editors: list[dict[str, Any]] = [
        {"editor": "identity"},
        {"editor": "vandal", "editor_config": {"scale": "16"}},
        {"editor": "tests.fake_editors:Nudge", "edit_count": 2},
    ]
    found = [row(world, "sentiment", **one) for one in editors]
    assert len({one.trials for one in found}) == 1 and len(found[0].trials) > 1
    assert len({(one.reading, one.prompting, one.offset) for one in found}) == 1
    assert found[0].verdict.drop == 0 != found[1].verdict.drop


def test_a_stored_choice_is_not_measured_again(world: SmallWorld, tmp_path: Path, asked: list[bool]) -> None:
    kept = {"use_store": True, "store": tmp_path}
    first = row(world, "dialogue", **kept)
    assert asked.count(False) >= len(first.trials)
    asked.clear()
    again = row(world, "dialogue", editor="vandal", **kept)
    assert asked == [True]  # the edited model, once; nothing of the base model, and no pilot
    assert (again.trials, again.reading, again.base_from_store) == (first.trials, first.reading, True)


def test_the_pilot_asks_the_base_model_only_and_no_judged_item(
    world: SmallWorld, monkeypatch: pytest.MonkeyPatch, asked: list[bool]
) -> None:
    seen: list[tuple[str, ...]] = []
    ask = asking.ask

    def noted(lm: Any, ability: Any, items: Any, **more: Any) -> Any:
        seen.append(tuple(item.key for item in items))
        return ask(lm, ability, items, **more)

    monkeypatch.setattr("audit.answering.run_answers.ask", noted)
    run = audit(world, editor="vandal")
    run._run_items.of("sentiment")
    assert seen and True not in asked
    pilot = {key for keys in seen for key in keys}
    run.verdict("sentiment")
    assert pilot.isdisjoint(item.key for item in run.answers("sentiment").base.items)


def test_a_tokenizer_with_a_template_is_asked_in_it_too(chatty: SmallWorld, world: SmallWorld) -> None:
    trials, without = (row(one, "dialogue").trials for one in (chatty, world))
    assert any(", chat:" in trial for trial in trials)
    assert not any(", chat" in trial for trial in without)
    assert row(chatty, "dialogue", prompting="chat").prompting == "chat"


@pytest.mark.parametrize("template", ["{{ raise_exception('no such role') }}", "{% if %}"])
def test_a_template_that_fails_is_listed_with_its_reason(world: SmallWorld, template: str, tmp_path: Path) -> None:
    trials = row(with_template(world, tmp_path, template), "dialogue").trials
    (said,) = {trial.partition(", chat: ")[2] for trial in trials if ", chat: " in trial}
    assert said.startswith("the chat template cannot render a prompt (") and said.endswith("; ask without it")


def test_an_example_that_is_too_long_is_listed_with_its_reason(world: SmallWorld, tmp_path: Path) -> None:
    rows = [{**one, "sentence": f"{one['sentence']} {'long ' * 20}"} for one in abilities(ROWS)["sst2"]]
    write_lines(tmp_path / "sst2.jsonl", rows)
    found = row(replace(world, rows=tmp_path), "sentiment")
    long = [trial for trial in found.trials if f"{DEFAULT_SHOTS} examples: " in trial]
    assert long and all("holds 256" in trial for trial in long)
    assert found.prompting == "plain"


@pytest.mark.parametrize("prompting", ["plain", "examples", "chat"])
def test_a_way_of_prompting_that_was_typed_is_used_for_every_reading(chatty: SmallWorld, prompting: str) -> None:
    found = row(chatty, "dialogue", prompting=prompting)
    said = {"plain": "plain", "examples": "4 examples", "chat": "chat"}[prompting]
    assert found.prompting == said
    assert found.trials[0].partition(": ")[0] == f"choices, {said}"


def test_worked_examples_are_items_set_aside(world: SmallWorld) -> None:
    wanted = AuditSettings(prompting="examples", limit=LIMIT, reading={"": "likelihood"})
    drawn = drawn_items("nli", world.source, wanted)
    aside = set_aside(load_ability("nli"), world.source, LIMIT, 0)
    assert (len(aside.examples), len(aside.pilot), aside.judged) == (EXAMPLES, PILOT, LIMIT)
    prompt = drawn.ability.prompt(drawn.items[0])
    for one in aside.examples[:DEFAULT_SHOTS]:
        assert f"{one.fields['sentence1']}? " in prompt
    assert drawn.ability.reading == "likelihood" and len(drawn.items) == LIMIT


# Too few rows --------------------------------------------------------------------------------------------------------


@pytest.fixture
def few(world: SmallWorld, tmp_path: Path) -> SmallWorld:
    """Twelve rows of each data set, of which three could be set aside."""
    for name, rows in abilities().items():
        write_lines(tmp_path / f"{name}.jsonl", rows)
    return replace(world, rows=tmp_path)


def test_of_too_few_rows_all_are_judged_by_the_first_reading(few: SmallWorld, asked: list[bool]) -> None:
    found = row(few, "nli")
    assert (found.reading, found.prompting, found.verdict.n, found.trials) == ("answers", "plain", 12, ())
    by = row(few, "nli", reading={"": "likelihood"})
    assert (by.reading, by.prompting, by.verdict.n, by.trials) == ("likelihood", "plain", 12, ())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"prompting": "examples"}, "worked examples"),
        ({"shots": 2}, "worked examples"),
        ({"reading": {"": "calibrated"}}, "--reading nli=calibrated"),
    ],
)
def test_what_takes_rows_aside_is_refused_in_a_sentence(few: SmallWorld, more: Mapping[str, Any], said: str) -> None:
    with pytest.raises(AbilityError) as caught:
        row(few, "nli", **more)
    assert f": {said}: {few.rows} has only 12 rows for nli, of which 3 can be set aside" in str(caught.value)
    assert str(caught.value).endswith("and 16 are needed; give more rows, or a training split.")


def test_examples_come_from_a_training_split_that_is_too_small_for_a_pilot(few: SmallWorld) -> None:
    write_lines(few.rows / "sst2.train.jsonl", [{"sentence": f"so {k}", "label": k % 2} for k in range(8)])
    for more, said in (({"shots": 2}, "2 examples"), ({"prompting": "examples"}, "4 examples")):
        wanted = AuditSettings(limit=LIMIT, **more)
        drawn = drawn_items("sentiment", few.source, wanted)
        assert (len(drawn.items), drawn.ability.reading, drawn.chosen.presentation.prompting) == (12, "answers", said)
        assert drawn.ability.prompt(drawn.items[0]).count("so ") == int(said[0])
    assert row(few, "sentiment", shots=2).verdict.n == 12


def test_without_a_model_the_first_candidate_is_taken(world: SmallWorld) -> None:
    wanted = AuditSettings(limit=LIMIT)
    assert choice_for("nli", world.source, wanted).presentation == Presentation("answers")
    assert drawn_items("nli", world.source, wanted).ability.reading == "answers"


# Margins and readings in a run ---------------------------------------------------------------------------------------


def test_a_likelihood_has_the_share_to_keep_as_its_margin() -> None:
    several = {one.reading: one for one in readings_of(load_ability("nli"))}
    assert margin_for(several["likelihood"], MARGINS, AuditSettings()) == Retained(0.8)
    for reading in ("answers", "choices", "calibrated"):
        assert margin_for(several[reading], MARGINS, AuditSettings()) == Points(0.05)
    typed = AuditSettings(margins={"nli": "95%"})
    assert {margin_for(one, MARGINS, typed) for one in several.values()} == {Retained(0.95)}


def test_points_for_a_likelihood_are_refused_in_a_sentence(world: SmallWorld) -> None:
    run = audit(world, reading={"": "likelihood"}, margins={"nli": 0.05})
    with pytest.raises(AbilityError) as caught:
        run.verdict("nli")
    assert str(caught.value) == (
        "nli was not asked: --margin nli=0.05 is in score points, but nli is read by likelihood, whose margin is a "
        "share to keep; give a share such as nli=90%, or another reading such as --reading nli=answers."
    )
    assert run.unasked["nli"] in str(caught.value)
    with pytest.raises(AbilityError, match=r"keep=0\.05 is in score points, .* such as keep=\"90%\", or another"):
        audit(world, reading={"": "likelihood"}).verdict("nli", keep="0.05")


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"reading": {"nli": "choices"}, "protocol": "gu2024"}, "nli under the protocol gu2024 is read by answers;"),
        ({"reading": {"": "calibrated"}, "protocol": "gu2024"}, "nli under the protocol gu2024 is read by answers;"),
    ],
)
def test_a_reading_that_a_protocol_does_not_have_is_refused(
    world: SmallWorld, more: Mapping[str, Any], sentence: str
) -> None:
    with pytest.raises(AbilityError) as caught:
        row(world, "nli", **more)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_reading_that_one_ability_lacks_does_not_stop_the_others(world: SmallWorld) -> None:
    run = audit(world, reading={"": "choices"}, prompting="plain")
    report = run.run(["reasoning", "dialogue"])
    assert [one.ability for one in report.abilities] == ["dialogue"]
    assert report.unasked["reasoning"].startswith("--reading reasoning=choices: reasoning under the protocol standard")


def test_chat_prompts_without_a_template_are_refused_before_anything_is_asked(
    world: SmallWorld, asked: list[bool]
) -> None:
    with pytest.raises(AuditError) as caught:
        audit(world, prompting="chat").prepare()
    assert str(caught.value) == (
        f"--prompting chat: the tokenizer of {world.model} has no chat template; leave the option out, or choose a "
        "model that was tuned for chat."
    )
    with pytest.raises(AbilityError, match="the chat template cannot render a prompt"):
        row(world, "nli", prompting="chat", reading={"": "likelihood"})
    assert asked == []


def test_one_ability_has_one_reading_in_a_run(world: SmallWorld) -> None:
    run = audit(world, prompting="plain")
    assert run.verdict("dialogue", reading="likelihood").reading == "likelihood"
    with pytest.raises(AbilityError, match="dialogue was asked by likelihood before in this run, and now by choices;"):
        run.verdict("dialogue", reading="choices")
    assert run.verdict("nli", reading="choices").reading == "choices"


def test_written_answers_are_asked_for_whatever_the_reading(world: SmallWorld) -> None:
    run = audit(world, reading={"": "likelihood"}, prompting="plain")
    run.verdict("open_qa")
    written = run._run_items.written("open_qa")
    assert written.ability.decoding is not None
    assert [one.key for one in written.items] == [one.key for one in run.answers("open_qa").base.items]
    with pytest.raises(AuditError, match="dialogue under the protocol standard is read by choices or likelihood"):
        run._run_items.written("dialogue")


def test_the_choice_is_in_the_report(world: SmallWorld) -> None:
    run = audit(world)
    found = run.verdict("sentiment")
    (kept,) = run.report().abilities
    assert kept.trials == found.trials and kept.reading == found.reading
    assert json.loads(json.dumps(run.settings.plain()))["reading"] == {}


def test_items_that_ask_for_an_edited_fact_are_listed_and_not_judged(world: SmallWorld) -> None:
    """Item k asks where person k % 4 lives, in city k % 3; the requests edit where person j lives, in city j."""
    wanted = {"seed": 1, "limit": ROWS, "reading": {"": "answers"}, "prompting": "plain", "edit_mode": "batch-single"}
    audit = Audit(**world.options(editor="identity", edit_count=2, **wanted))
    row = audit.verdict("open_qa")
    subjects = {request.subject: request.target_true for request in audit.requests}
    expected = {
        f"open_qa/{k}": ("Mara Lind", "Kara Quinwick", "Gira Corley")[k % 4]
        for k in range(ROWS)
        if k % 4 == k % 3 and ("Mara Lind", "Kara Quinwick", "Gira Corley")[k % 4] in subjects
    }
    assert expected
    assert {fact.key: fact.subject for fact in row.edited_facts} == expected
    assert all(subjects[fact.subject] == fact.target for fact in row.edited_facts)
    assert row.verdict.n == ROWS - len(expected)
    assert not {item.key for item in audit.report().items} & set(expected)
    assert not audit.verdict("reasoning").edited_facts


def test_an_ability_whose_every_item_asks_for_an_edited_fact_is_refused(world: SmallWorld, tmp_path: Path) -> None:
    for file in world.rows.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    asked = [{"question": f"where lives Mara Lind, {k}", "answer": ["Velden"]} for k in range(ROWS)]
    write_lines(tmp_path / "nq_open.jsonl", asked)
    options = replace(world, rows=tmp_path).options(editor="identity", edit_count=4, edit_mode="batch-single")
    with pytest.raises(AbilityError, match=r"all \d+ items of open_qa ask for facts that this run edits .*Velden"):
        Audit(**options).verdict("open_qa")
