"""Abilities by name, file, entry point, class and object; those that are malformed are one sentence."""

import re
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

import audit.abilities.registry as registry
from audit.abilities import ABILITIES
from audit.abilities.contract import Answer, Item
from audit.abilities.data.ability_source import AbilitySource, shown_name
from audit.abilities.data.files import FileSource
from audit.abilities.data.sources import FolderSource, PocketSource
from audit.abilities.registry import Abilities, load_entry
from audit.abilities.written import WrittenAbility
from audit.engine import Decoding
from audit.errors import AuditError
from tests.abilities.triage import DESCRIPTION, tickets, write_ability

HERE = __name__


class Capitals(WrittenAbility):
    """A third-party ability, whose rows come from --data."""

    name = "capitals"

    def __init__(self, language: str = "en") -> None:
        self.language = language

    def item(self, row: Any, key: str) -> Item:
        return Item(key, self.name, dict(row), (str(row["capital"]),), key)

    def prompt(self, item: Item) -> str:
        return f"({self.language}) The capital of {item.fields['country']} is"


class Elsewhere(Capitals):
    data_name = "countries"


class Needy(Capitals):
    def __init__(self, language: str) -> None:
        super().__init__(language)


class Stranger:
    name = "stranger"


class Mute(Capitals):
    prompt = "no method"  # type: ignore[assignment]


class Ranked(Capitals):
    decoding = None


class Undecided(Capitals):
    reading = "guesses"


class Hasty(Capitals):
    decoding = 8  # type: ignore[assignment]


class Nameless(Capitals):
    name = "a=b"


class Copycat(Capitals):
    name = "nli"


def test_a_class_with_the_least_is_a_whole_ability() -> None:
    entry = load_entry(f"{HERE}:Capitals")
    ability = entry.ability
    assert ability is not None
    item = ability.item({"country": "Peru", "capital": "Lima"}, "capitals/0")
    assert (entry.name, ability.title, ability.data_name, ability.metric) == (*3 * ("capitals",), "exact match")
    assert ability.decoding == Decoding(32)
    assert ability.score(item, ability.parse(" Lima.")).value == 1
    assert ability.score(item, Answer("", None, False)).value == 0
    assert (ability.gold_answer(item), ability.floor([item])) == ("Lima", 1)


def test_a_class_in_a_file_is_imported_from_there(tmp_path: Path) -> None:
    code = Path(__file__).read_text(encoding="utf-8")
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    one = load_entry(f"{tmp_path / 'mine.py'}:Capitals")
    assert one.name == "capitals" and type(one.ability).__module__.startswith("ability_mine_")
    (tmp_path / "mine.py").write_text(code.replace("The capital of", "The capital city of"), encoding="utf-8")
    assert load_entry(f"{tmp_path / 'mine.py'}:Capitals").fingerprint != one.fingerprint


def test_an_object_is_an_ability_and_what_it_holds_is_part_of_its_fingerprint() -> None:
    english, german = (load_entry(Capitals(language)) for language in ("en", "de"))
    assert english.ability is not None and str(english) == f"{HERE}:Capitals"
    assert load_entry(Capitals()).fingerprint == english.fingerprint != german.fingerprint
    with pytest.raises(AuditError, match="are both named capitals; rename one of them"):
        Abilities((english, german))


def test_an_entry_point_is_an_ability(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("towns", f"{HERE}:Capitals", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry] if group == "audit.abilities" else [])
    assert load_entry("towns").name == "capitals"
    assert registry.entry_point_names() == ["towns"]
    with pytest.raises(
        AuditError, match=r"there is no ability 'twons'; give one of .*, towns, .*\(did you mean 'towns'"
    ):
        load_entry("twons")


def test_a_prefix_names_a_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.PREFIXES, "atlas", f"{HERE}:Capitals")
    entry = load_entry("atlas:de")
    assert (entry.name, str(entry)) == ("capitals", "atlas:de")
    assert entry.ability is not None
    item = entry.ability.item({"country": "Peru", "capital": "Lima"}, "x")
    assert entry.ability.prompt(item).startswith("(de)")


CLASSES = {
    "no module": ("no_such_package.tasks:Triage", "cannot be imported (No module named 'no_such_package'); check"),
    "no file": ("./no.py:Triage", "cannot be imported (there is no file no.py); check './no.py'"),
    "no class": (f"{HERE}:Towns", f"has no class 'Towns' in {HERE}; it has Capitals, Elsewhere, Needy"),
    "a function": (f"{HERE}:test_a_class_with_the_least_is_a_whole_ability", "has no class 'test_a_class"),
    "arguments": (f"{HERE}:Needy", "cannot be made without arguments (missing a required argument: 'language')"),
    "no ability": (f"{HERE}:Stranger", "is no ability, because it has no title and no data_name and no metric"),
    "no method": (f"{HERE}:Mute", "is no ability, because its prompt cannot be called"),
    "no decoding": (f"{HERE}:Ranked", "is read by answers and has no decoding; give an audit.engine.Decoding"),
    "no reading": (f"{HERE}:Undecided", "has the reading 'guesses'; use one of answers, choices"),
    "wrong decoding": (f"{HERE}:Hasty", "has decoding = 8; give an audit.engine.Decoding, or None"),
    "wrong name": (f"{HERE}:Nameless", "has the name 'a=b'; give a name without ="),
    "built-in name": (f"{HERE}:Copycat", "is named nli, like a built-in ability; choose another name"),
    "no name": ("poetry", "there is no ability 'poetry'; give one of reasoning, nli"),
    "no colon": ("triage.py", "there is no ability 'triage.py'; give one of reasoning"),
}


@pytest.mark.parametrize("kind", CLASSES)
def test_a_malformed_class_is_one_sentence(kind: str) -> None:
    text, sentence = CLASSES[kind]
    with pytest.raises(AuditError, match=re.escape(sentence)) as caught:
        load_entry(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mistake", ["x = (", "import no_such_package", "x = 1 / 0", "x = y"])
def test_a_module_that_cannot_be_imported_is_one_sentence(mistake: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(mistake, encoding="utf-8")
    with pytest.raises(AuditError, match=r"the ability .*mine\.py:Triage cannot be imported \(") as caught:
        load_entry(f"{tmp_path / 'mine.py'}:Triage")
    assert "\n" not in str(caught.value)


def test_the_abilities_of_a_run(tmp_path: Path) -> None:
    path = str(write_ability(tmp_path, DESCRIPTION))
    some = Abilities((load_entry("ner"), load_entry(path), load_entry("ner")))
    assert some.names == (*ABILITIES, "triage") and some.asked == ("ner", "triage")
    assert Abilities().asked == tuple(ABILITIES)
    assert [some.name_of(text) for text in (path, "triage", "nli", "poetry")] == ["triage", "triage", "nli", None]
    assert [some.origin(name) for name in ("triage", "ner", "nli")] == [path, "", ""]
    assert some.identity("ner") == "ner" and some.identity("triage").startswith("triage ")
    assert list(some.definitions(["ner", "triage", "nli"])) == ["ability triage"]
    assert some.load("triage", "gu2024").name == "triage"
    assert some.load("ner", "gu2024").protocol == "gu2024"
    with pytest.raises(AuditError, match="there is no ability 'poetry'"):
        some.load("poetry")


def test_the_same_file_given_twice_is_one_ability(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_ability(tmp_path, DESCRIPTION)
    monkeypatch.chdir(tmp_path)
    some = Abilities(tuple(map(load_entry, (str(path), "triage.toml", "./triage.toml"))))
    assert some.asked == ("triage",) and some.name_of("./triage.toml") == "triage"


# Rows ----------------------------------------------------------------------------------------------------------------


def test_an_ability_brings_its_rows_and_others_get_theirs_from_the_source(tmp_path: Path) -> None:
    own = load_entry(str(write_ability(tmp_path, DESCRIPTION, tickets(24))))
    rows = tmp_path / "rows"
    rows.mkdir()
    for name in ("capitals", "countries"):
        (rows / f"{name}.jsonl").write_text('{"country": "Peru", "capital": "Lima"}\n', encoding="utf-8")
    (rows / "rte.jsonl").write_text('{"sentence1": "a", "sentence2": "b", "label": 0}\n', encoding="utf-8")
    entries = (own, load_entry(f"{HERE}:Capitals"))
    source = AbilitySource(FolderSource(rows), Abilities(entries))
    source.check()
    assert len(source.rows("triage")) == 24 and len(source.rows("nli")) == 1
    assert source.rows("capitals") == [{"country": "Peru", "capital": "Lima"}]
    assert source.origin("capitals").place == str(rows / "capitals.jsonl")
    assert AbilitySource(FolderSource(rows), Abilities((load_entry(Elsewhere()),))).origin("capitals").place == str(
        rows / "countries.jsonl"
    )
    pocket = AbilitySource(PocketSource(), Abilities(entries))
    with pytest.raises(AuditError, match="the pocket world has no data set 'capitals'"):
        pocket.rows("capitals")


def test_the_name_in_reports_is_that_of_the_rows_that_are_asked(tmp_path: Path) -> None:
    own, nli = load_entry(str(write_ability(tmp_path, DESCRIPTION))), load_entry("nli")
    alone, both = (AbilitySource(PocketSource(), Abilities(some)) for some in ((own,), (own, nli)))
    assert (shown_name(alone), alone.name) == (str(tmp_path / "triage.jsonl"), "pocket")
    assert (shown_name(both), shown_name(PocketSource())) == ("pocket", "pocket")


def test_an_ability_that_is_named_later_is_checked_then(tmp_path: Path) -> None:
    source = AbilitySource(PocketSource(), Abilities())
    later = load_entry(str(write_ability(tmp_path, DESCRIPTION, tickets(5))))
    with pytest.raises(AuditError, match=r"triage\.jsonl has 5 rows for triage, and at least 20 are needed"):
        source.know(Abilities((later,)))


def test_a_class_whose_rows_make_no_items_is_one_sentence(tmp_path: Path) -> None:
    class Own(Capitals):
        source = FileSource(tmp_path / "own.jsonl")

        def item(self, row: Any, key: str) -> Item:
            if "country" not in row:
                raise AuditError(f"row {key} has no country; add it.")
            return super().item(row, key)

    for row, sentence in (
        ("{}", r"own\.jsonl: row capitals/0 has no country; add it\.$"),
        ('{"country": 1}', r"row capitals/0 makes no item of .*Own \(KeyError: 'capital'\); correct one of the two\.$"),
    ):
        (tmp_path / "own.jsonl").write_text(row + "\n", encoding="utf-8")
        with pytest.raises(AuditError, match=sentence):
            load_entry(Own()).check()
