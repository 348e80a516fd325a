"""Flips in a whole run: both counts add up to the verdict's, and items say what they mention."""

import pytest

from audit.audit import Audit
from audit.reports.rows import RunReport
from audit.workflows.rescore import rescored
from tests.small_audit import SmallWorld, build, teach


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> RunReport:
    """A ruined model; the requests edit people and cities that many questions name."""
    world: SmallWorld = build(tmp_path_factory.mktemp("world"))
    teach(world)
    audit = Audit(**world.options(editor="vandal", edit_count=2, limit=60, use_store=False))
    return audit.run(["open_qa", "ner", "nli"])


def test_flips_on_items_that_mention_an_edit_and_elsewhere_add_up(report: RunReport) -> None:
    for row in report.abilities:
        assert row.flips is not None
        inside, outside = row.flips.mentioning, row.flips.elsewhere
        assert inside.items + outside.items == row.verdict.n
        assert inside.right_to_wrong + outside.right_to_wrong == row.verdict.right_to_wrong
        assert inside.wrong_to_right + outside.wrong_to_right == row.verdict.wrong_to_right
        assert inside.parsed_to_unparseable + outside.parsed_to_unparseable == row.parsed_to_unparseable
    (asked,) = [row for row in report.abilities if row.ability == "open_qa"]
    assert asked.flips is not None and asked.flips.mentioning.items > 0 and asked.flips.elsewhere.items > 0
    assert asked.verdict.right_to_wrong > 0


def test_the_drop_elsewhere_is_that_of_the_other_items(report: RunReport) -> None:
    (row,) = [row for row in report.abilities if row.ability == "open_qa"]
    others = [item for item in report.items if item.ability == "open_qa" and not item.mentions]
    drop = sum(item.base.score - item.edited_score for item in others) / len(others)
    assert row.flips is not None and row.flips.drop_elsewhere == pytest.approx(drop)


def test_items_tell_what_they_mention_and_what_became_of_them(report: RunReport) -> None:
    subjects = {"Mara Lind", "Kara Quinwick", "Gira Corley", "Danielle Darrieux"}
    asked = [item for item in report.items if item.ability == "open_qa"]
    for item in asked:
        assert all(phrase.lower() in item.prompt.lower() or phrase in item.gold for phrase in item.mentions)
        assert ("right to wrong" in item.flips) == (item.edited_score < item.base.score)
    assert {phrase for item in asked for phrase in item.mentions} & subjects


def test_scoring_again_keeps_the_marks(report: RunReport) -> None:
    again = rescored(report, {})
    assert [row.flips for row in again.abilities] == [row.flips for row in report.abilities]
    told, kept = ({item.key: (item.mentions, item.flips) for item in one.items} for one in (again, report))
    assert told == kept
