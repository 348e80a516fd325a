"""An ability from a .toml file: its items, its parser and metrics, its readings and floors, its rows."""

import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pyarrow
import pytest
from pyarrow import parquet

from audit.abilities.contract import Ability, Item, ScoredText, is_graded
from audit.abilities.presentation import read_as
from audit.abilities.registry import load_entry
from audit.abilities.toml.ability import TomlAbility
from audit.abilities.toml.description import read_description
from audit.errors import AuditError
from tests.abilities.triage import DESCRIPTION, TEAMS, TWO_TEAMS, tickets, write_ability

PLAIN = 'prompt = "{{ text }}"\ngold = "team"\n'
OPTIONS = 'prompt = "{{ text }}"\ngold = "right"\n[choices]\ncolumn = "options"\n'


@pytest.fixture
def make(tmp_path: Path) -> Any:
    def made(text: str = DESCRIPTION, rows: list[dict[str, Any]] | None = None) -> TomlAbility:
        return TomlAbility(read_description(write_ability(tmp_path, text, rows)))

    return made


def items_of_rows(ability: Ability, rows: list[dict[str, Any]]) -> list[Item]:
    return [ability.item(row, f"triage/{k}") for k, row in enumerate(rows)]


def log_likelihoods(*totals: float) -> list[ScoredText]:
    return [ScoredText((" x",), (total,)) for total in totals]


def test_a_row_becomes_an_item(make: Any) -> None:
    ability, row = make(), tickets(2)[1]
    item = ability.item(row, "triage/1")
    assert ability.prompt(item) == "Ticket: The app crashes (case 1).\nTeam:"
    assert (item.key, item.ability, item.gold, item.choices) == ("triage/1", "triage", ("technical",), ())
    assert item.fields == row and len(item.cluster) == 16
    assert ability.item({**row, "text": "other"}, "triage/9").cluster == item.cluster  # the customer's
    assert make(PLAIN).item(row, "triage/1").cluster == "triage/1"
    assert (ability.name, ability.title, ability.metric) == ("triage", "Triage of tickets", "accuracy")


def test_other_values_than_texts(make: Any) -> None:
    ability = make('prompt = "{{ row[\'the n\'] }} {{ when }}"\ngold = "n"\n')
    item = ability.item({"the n": 3, "n": [3, 2.5, True, "4"], "when": (1, {"a": Path("b")})}, "x")
    assert item.gold == ("3", "2.5", "true", "4")
    assert json.loads(json.dumps(item.fields))["when"] == [1, {"a": "b"}]
    assert ability.prompt(item) == "3 [1, {'a': 'b'}]"
    with pytest.raises(AuditError, match="has nan in column 'n'"):
        ability.item({"the n": 3, "n": math.nan, "when": ""}, "x")


@pytest.mark.parametrize(
    ("said", "value"),
    [
        (" billing", "billing"),
        ("**Billing**.", "billing"),
        (" BILLING!", "billing"),
        ("billing team", None),
        ("legal", None),
        ("", None),
    ],
)
def test_with_labels_an_answer_is_one_of_them(make: Any, said: str, value: str | None) -> None:
    answer = make().parse(said)
    assert (answer.value, answer.parseable, answer.text) == (value, value is not None, said)


def test_a_pattern_reads_the_answer(make: Any) -> None:
    ability = make(PLAIN + "[answers]\npattern = '(?:Team|team): *(\\w+)'\nexample = 'Team: {{ team }}'")
    item = ability.item(tickets(1)[0], "x")
    assert ability.gold_answer(item) == "Team: billing"
    assert ability.score(item, ability.parse("So, team: billing. Team: sales")).value == 1
    assert ability.score(item, ability.parse("Team: sales")).value == 0
    assert not ability.parse("billing").parseable


@pytest.mark.parametrize(
    ("metric", "said", "score"),
    [
        ("accuracy", "two billing", 0),
        ("accuracy", "-5", 0),
        ("accuracy", '"5".', 1),
        ("exact match", "the Two billing-teams.", 1),
        ("exact match", "teams", 0),
        ("token F1", "two", 2 / 3),
        ("token F1", "no one", 0),
        ("ROUGE", "the two billing teams", pytest.approx((6 / 7 + 4 / 5 + 6 / 7) / 3)),
    ],
)
def test_the_metrics(make: Any, metric: str, said: str, score: float) -> None:
    ability = make(f'metric = "{metric}"\n{PLAIN}')
    golds = ["two billing teams", "two billingteams", "5"]
    item = ability.item({"text": "t", "team": golds}, "x")
    assert ability.score(item, ability.parse(said)).value == score
    assert ability.score(item, ability.parse("")).value == 0
    assert is_graded(ability) == (metric in ("token F1", "ROUGE"))


def test_the_readings_that_a_description_allows(make: Any) -> None:
    assert [one.reading for one in make(PLAIN).readings()] == ["answers", "likelihood"]
    assert [one.reading for one in make().readings()] == ["answers", "choices", "likelihood"]
    assert [one.reading for one in make(OPTIONS).readings()] == ["answers", "choices", "likelihood"]
    assert [one.reading for one in make(TWO_TEAMS).readings()] == ["answers", "choices", "calibrated", "likelihood"]
    ordered = make('readings = ["likelihood", "choices"]\n' + DESCRIPTION)
    assert [one.reading for one in ordered.readings()] == ["likelihood", "choices"]
    assert read_as(ordered, "").reading == "likelihood"
    with pytest.raises(AuditError, match="is read by likelihood or choices; give one of these"):
        read_as(ordered, "answers")


@pytest.mark.parametrize("text", [DESCRIPTION, OPTIONS])
def test_every_option_is_scored_behind_the_prompt(make: Any, text: str) -> None:
    ability, row = make(text), tickets(2)[1]
    item = ability.item(row, "x")
    options = TEAMS if text == DESCRIPTION else tuple(row["options"])
    for reading in ("choices", "likelihood"):
        scorer = read_as(ability, reading).scorer
        assert scorer is not None
        assert scorer.continuations(item, "P:") == tuple(("P:", option) for option in options)
        answer, score = scorer.read(item, log_likelihoods(-3.0, -1.0, -2.0))
        right = math.exp(-1) / (math.exp(-1) + math.exp(-2) + math.exp(-3))
        assert score.value == (1 if reading == "choices" else pytest.approx(right))
        assert (answer.value, answer.text, answer.parseable) == ("1", options[1], True)
        _, tied = scorer.read(item, log_likelihoods(-1.0, -1.0, -2.0))
        assert tied.value == (0 if reading == "choices" else pytest.approx(1 / (2 + math.exp(-1))))
        broken, wrong = scorer.read(item, log_likelihoods(math.nan, -1.0, -2.0))
        assert (broken.parseable, wrong.value) == (False, 0)


def test_the_floor_of_choices_is_measured(make: Any) -> None:
    rows = [*tickets(3), tickets(1)[0]]
    for text, floor, own in ((DESCRIPTION, 0.5, None), (OPTIONS, 1 / 3, 1 / 3)):
        ability = make("floor = 0.0\n" + text)
        items = items_of_rows(ability, rows)
        assert read_as(ability, "choices").floor(items) == pytest.approx(floor)
        by_likelihood = read_as(ability, "likelihood")
        assert by_likelihood.floor(items) == pytest.approx(floor)
        assert by_likelihood.scorer is not None
        assert by_likelihood.scorer.read(items[0], log_likelihoods(-1.0, -1.0, -2.0))[1].floor == own
    two = make("floor = 0.0\n" + TWO_TEAMS)
    items = items_of_rows(two, [row for row in rows if row["team"] != "sales"])
    assert (two.floor(items), read_as(two, "choices").floor(items)) == (0, pytest.approx(2 / 3))


def test_the_floor_of_written_answers(make: Any) -> None:
    golds: list[Any] = [["a b", "c"], ["c."], "x", "x"]
    rows = [{"text": "t", "team": gold} for gold in golds]
    floors: Mapping[str, float] = {"": 0.5, 'floor = "majority"\n': 0.5, "floor = 0.25\n": 0.25}
    for line, floor in floors.items():
        ability = make(f"{line}{PLAIN}")
        assert ability.floor(items_of_rows(ability, rows)) == pytest.approx(floor)
        assert ability.floor([]) == (0.25 if "0.25" in line else 0)
    graded = make('metric = "token F1"\n' + PLAIN)
    rows = [{"text": "t", "team": gold} for gold in ("x y", "y z", "w")]
    assert graded.floor(items_of_rows(graded, rows)) == pytest.approx((1 + 0.5) / 3)  # of "x y" or "y z"
    shares = make('floor = "1/k"\n' + OPTIONS)
    assert shares.floor(items_of_rows(shares, tickets(5))) == pytest.approx(1 / 3)


def test_the_place_of_an_option_as_gold(make: Any) -> None:
    ability = make('prompt = "{{ text }}"\ngold = "n"\n[choices]\ncolumn = "options"\n')
    row = {"text": "t", "options": ["red", "green"], "n": 1}
    assert ability.item(row, "x").gold == ("green",)
    with pytest.raises(AuditError, match="row x has '2' in column 'n', which is none of its options red, green"):
        ability.item({**row, "n": 2}, "x")
    numbers = ability.item({**row, "options": [1, 2, 30]}, "x")
    assert (numbers.gold, numbers.fields["options"]) == (("1",), ["1", "2", "30"])  # the option, not its place


def test_rows_from_csv_and_parquet(tmp_path: Path) -> None:
    rows = [{key: row[key] for key in ("text", "team", "customer")} for row in tickets(24)]
    path = write_ability(tmp_path, DESCRIPTION, rows)
    from_lines = load_entry(str(path))
    assert from_lines.source is not None
    (tmp_path / "triage.jsonl").unlink()
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    (tmp_path / "triage.csv").write_text(text.getvalue(), encoding="utf-8")
    from_csv = load_entry(str(path))
    assert from_csv.source is not None and from_csv.source.rows("triage") == rows
    (tmp_path / "triage.csv").unlink()
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "triage.parquet")
    from_table = load_entry(str(path))
    assert from_table.source is not None and from_table.source.rows("triage") == rows
    from_table.check()
    assert len({from_lines.fingerprint, from_csv.fingerprint, from_table.fingerprint}) == 3


def test_training_rows_are_in_a_file_of_their_own(tmp_path: Path) -> None:
    write_ability(tmp_path, DESCRIPTION, tickets(6), name="shots")
    path = write_ability(tmp_path, DESCRIPTION + '\n[data]\nfile = "triage.jsonl"\ntraining = "shots.jsonl"\n')
    source = load_entry(str(path)).source
    assert source is not None and len(source.training_rows("triage")) == 6
    without = load_entry(str(write_ability(tmp_path, DESCRIPTION))).source
    assert without is not None
    with pytest.raises(AuditError, match="triage has no file of training rows"):
        without.training_rows("triage")


def test_rows_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from audit.abilities.data import hub

    loaded: list[tuple[str, Any, str, Any]] = []

    class Loaded:
        features: ClassVar[dict[str, Any]] = {}

        def to_list(self) -> list[dict[str, Any]]:
            return tickets(20)

    def load(data_set: hub.HubDataSet, split: str, commit: str | None) -> Loaded:
        loaded.append((data_set.hub_id, data_set.config, split, commit))
        return Loaded()

    monkeypatch.setattr(hub, "_prepared", lambda *_: None)
    monkeypatch.setattr(hub, "_loaded", load)
    monkeypatch.setattr(hub, "_commit_of", lambda _: "c0ffee")
    data = '[data]\nhub = "me/tickets"\nconfig = "en"\nsplit = "test"\nrevision = "c0ffee"\n'
    entry = load_entry(str(write_ability(tmp_path, DESCRIPTION + data)))
    entry.check()
    assert loaded == [("me/tickets", "en", "test", "c0ffee")]
    assert entry.source is not None
    assert (entry.source.name, entry.source.origin("triage").revision) == ("me/tickets", "c0ffee")
    with pytest.raises(AuditError, match="names no training split of me/tickets"):
        entry.source.training_rows("triage")


def test_the_fingerprint_is_that_of_the_description_and_its_rows(tmp_path: Path) -> None:
    def fingerprint(text: str = DESCRIPTION, rows: list[dict[str, Any]] | None = None, name: str = "a") -> str:
        return load_entry(str(write_ability(tmp_path / name, text, rows))).fingerprint

    first = fingerprint()
    assert first == fingerprint(name="b")  # wherever the files are
    assert first == fingerprint("# a comment\n" + DESCRIPTION)
    changed = [
        fingerprint(DESCRIPTION.replace("Team:", "team:")),
        fingerprint(DESCRIPTION.replace("= 8", "= 9")),
        fingerprint(rows=tickets(59)),
    ]
    assert len({first, *changed}) == 4


def test_a_calibrated_reading_takes_its_offset(make: Any) -> None:
    ability = make(TWO_TEAMS)
    item = ability.item(tickets(1)[0], "x")
    calibrated = read_as(ability, "calibrated", 5.0)
    assert calibrated.scorer is not None
    _, score = calibrated.scorer.read(item, log_likelihoods(-1.0, -3.0))
    assert score.value == 0  # log-odds of 2, less than the preference of 5
    assert calibrated.scorer.continuations(item, "P") == (("P", "billing"), ("P", "technical"))
