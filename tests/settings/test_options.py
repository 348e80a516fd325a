"""Options are parsed into settings, or end in an error that names flag, value and remedy."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.abilities import ABILITIES
from audit.errors import AuditError
from audit.settings.declaration import Option
from audit.settings.options import OPTIONS, AuditSettings, settings_from
from audit.settings.values import Device, EditorConfig, Whole, parse_folder, parse_margins
from audit.verdicts.margins import Points, Retained


def test_without_options_all_settings_have_their_defaults() -> None:
    assert settings_from({option.name: None for option in OPTIONS}) == AuditSettings()


def test_every_setting_has_an_option() -> None:
    other = {"margin": "margins", "no_store": "use_store", "no_reuse": "reuse", "no_triage": "triage"}
    other["no_items"] = "item_texts"
    assert {other.get(option.name, option.name) for option in OPTIONS} == set(AuditSettings.__dataclass_fields__)


@pytest.mark.parametrize("option", [one for one in OPTIONS if one.stated_default], ids=lambda option: option.flag)
def test_the_stated_defaults_are_the_defaults(option: Option) -> None:
    assert settings_from({option.name: option.stated_default}) == AuditSettings()


def test_items_of_the_pocket_world_are_asked_plainly_by_default() -> None:
    plain = AuditSettings()
    assert (plain.data, plain.protocol, plain.shots, plain.chat_template) == ("pocket", "standard", 0, False)


def test_the_options_that_change_a_prompt_are_parsed() -> None:
    typed = {"data": " hub ", "protocol": "standard", "shots": "5", "chat_template": True}
    wanted = settings_from(typed)
    assert (wanted.data, wanted.protocol, wanted.shots, wanted.chat_template) == ("hub", "standard", 5, True)


@pytest.mark.parametrize("around", [{"shots": 1}, {"chat_template": True}])
def test_the_papers_prompts_take_no_shots_and_no_chat_template(around: dict[str, Any]) -> None:
    with pytest.raises(AuditError, match="leave one of the two out"):
        AuditSettings(protocol="gu2024", **around)
    assert AuditSettings(protocol="gu2024").protocol == "gu2024"


@given(points=st.floats(0.001, 0.999))
def test_points_and_percentage_points_mean_the_same(points: float) -> None:
    in_points = parse_margins([f"ner={points}"])["ner"]
    in_percent = parse_margins([f"ner={points * 100!r}pp"])["ner"]
    assert isinstance(in_points, Points) and isinstance(in_percent, Points)
    assert in_percent.points == pytest.approx(in_points.points, abs=1e-11)


def test_a_margin_may_be_a_share_to_retain() -> None:
    assert parse_margins(["ner=90%"]) == {"ner": Retained(0.9)}
    assert AuditSettings(margins={"ner": "90%", "nli": 0.02}).margins == {"ner": Retained(0.9), "nli": Points(0.02)}


def test_settings_can_be_written_as_json() -> None:
    plain = AuditSettings(margins={"ner": "90%"}, reports="out", editor_config={"a": "1"}).plain()
    assert (plain["margins"], plain["reports"], plain["editor_config"]) == ({"ner": "90%"}, "out", {"a": "1"})
    assert json.loads(json.dumps(plain)) == plain


def test_margins_tolerate_blanks_and_capitals() -> None:
    assert parse_margins([" ner = 3 PP ", "nli=.02"]) == {"ner": Points(0.03), "nli": Points(0.02)}


@pytest.mark.parametrize("text", ["ner=0", "ner=1", "ner=-0.1", "ner=100pp", "ner=0pp"])
def test_margins_lie_between_0_and_1(text: str) -> None:
    with pytest.raises(AuditError, match=re.escape(f"--margin {text!r}: a margin lies between 0 and 1")):
        parse_margins([text])


@pytest.mark.parametrize("text", ["ner=inf", "ner=nan", "ner=nanpp", "ner=inf%"])
def test_margins_are_finite(text: str) -> None:
    with pytest.raises(AuditError, match=re.escape(f"--margin {text!r}: ") + ".*is not a finite number"):
        parse_margins([text])


@pytest.mark.parametrize("text", ["ner", "=0.03", "ner=", "", "="])
def test_margins_need_an_ability_and_a_value(text: str) -> None:
    with pytest.raises(AuditError, match="write ABILITY=MARGIN"):
        parse_margins([text])


@pytest.mark.parametrize("ability", list(ABILITIES))
def test_every_ability_may_have_a_margin(ability: str) -> None:
    assert parse_margins([f"{ability}=1pp"]) == {ability: Points(0.01)}


@given(number=st.integers(1, 10**12))
def test_whole_numbers_are_parsed(number: int) -> None:
    assert Whole(1).parse("--limit", f" {number} ") == number


@pytest.mark.parametrize("text", ["", " ", "-", "--1", "1e3", "1.0", "0x10", "1_000", "²", "٣", "ten", "-1", "0"])
def test_text_other_than_a_whole_number_of_at_least_one_is_an_error(text: str) -> None:
    with pytest.raises(AuditError, match=r"--limit .*: give a whole number of at least 1"):
        Whole(1).parse("--limit", text)


def test_editor_config_keeps_equals_signs_in_values() -> None:
    parsed = EditorConfig().parse("--editor-config", ["layers=3,4", "covariance=a=b"])
    assert parsed == {"layers": "3,4", "covariance": "a=b"}


@pytest.mark.parametrize("text", ["auto", "cpu", "cuda", "cuda:0", "cuda:11", "mps", "map"])
def test_devices_are_accepted(text: str) -> None:
    assert Device().check("--device", text) == text


@pytest.mark.parametrize("text", ["", "gpu", "cuda:", "cuda:x", "cpu:0", "CUDA", "cuda:N"])
def test_other_devices_are_errors(text: str) -> None:
    with pytest.raises(AuditError, match=r"--device .*: give one of auto, cpu, cuda, cuda:N, mps, map"):
        Device().check("--device", text)


def test_folders_may_be_new_but_not_files(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    assert parse_folder("--reports", str(tmp_path / "new" / "deep")) == tmp_path / "new" / "deep"
    for blocked in (file, file / "below"):
        with pytest.raises(AuditError, match="that is a file, not a folder"):
            parse_folder("--reports", str(blocked))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"limit": 0}, "--limit 0: give a whole number of at least 1."),
        ({"seed": -1}, "--seed -1: give a whole number of at least 0."),
        ({"edit_count": -3}, "--edit-count -3"),
        ({"edit_mode": "all"}, "--edit-mode 'all': give one of instance-single"),
        ({"dtype": "half"}, "--dtype 'half'"),
        ({"device": "tpu"}, "--device 'tpu'"),
        ({"model": " "}, "--model is empty"),
        ({"margins": {"ner": 5}}, "--margin 'ner=5': a margin lies between 0 and 1"),
        ({"margins": {"poetry": 0.1}}, "there is no ability 'poetry'"),
    ],
)
def test_settings_from_python_are_checked_in_the_same_way(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(AuditError) as caught:
        AuditSettings(**options)
    assert complaint in str(caught.value)


def test_folders_may_be_given_as_text() -> None:
    settings = AuditSettings(reports="out", store="kept")  # type: ignore[arg-type]
    assert (settings.reports, settings.store) == (Path("out"), Path("kept"))


def test_an_ability_is_named_by_its_file_and_then_by_its_name(tmp_path: Path) -> None:
    from tests.abilities.triage import write_ability

    path = str(write_ability(tmp_path))
    for some in (["triage", path, "nli"], [path, "triage", "nli", "nli"], [path, "nli"]):
        wanted = settings_from({"ability": some, "margin": ["triage=3pp"]})
        assert set(wanted.abilities.asked) == {"triage", "nli"}
        assert wanted.with_ability("triage") is wanted
        assert set(wanted.plain()["ability"]) == {path, "nli"}
    assert AuditSettings(ability=path).abilities.asked == ("triage",)
    assert AuditSettings().with_ability(path).abilities.name_of(path) == "triage"
    with pytest.raises(AuditError, match="there is no ability 'triage'; give one of"):
        AuditSettings(ability=["triage"])
