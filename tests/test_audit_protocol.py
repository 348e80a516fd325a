"""An audit in the paper's words: every number says so, and what the data cannot be asked is told."""

from pathlib import Path

from audit import Audit
from audit.abilities import ABILITIES
from tests.small_audit import build


def test_seven_abilities_are_asked_in_the_papers_words_and_the_eighth_says_what_it_lacks(tmp_path: Path) -> None:
    world = build(tmp_path)
    audit = Audit(
        **world.options(editor="identity", protocol="gu2024", limit=4, edit_count=1, store=tmp_path / "store")
    )
    report = audit.run()
    asked = [name for name in ABILITIES if name != "open_qa"]
    assert [(row.ability, row.protocol) for row in report.abilities] == [(name, "gu2024") for name in asked]
    assert list(report.unasked) == ["open_qa"]
    assert "no column 'document' or 'passage'" in report.unasked["open_qa"]
    assert report.outcome != "PASS"
    prompts = [item.prompt for item in report.items if item.ability == "sentiment"]
    assert len(prompts) == 4
    assert all(prompt.startswith("For each snippet of text,label") for prompt in prompts)
    (row,) = [row for row in report.abilities if row.ability == "ner"]
    assert (row.verdict.n, row.verdict.clusters, row.metric) == (16, 4, "recall by type")


def test_the_two_protocols_share_no_answers(tmp_path: Path) -> None:
    world = build(tmp_path)
    options = world.options(editor="identity", limit=4, edit_count=1, store=tmp_path / "store")
    ours = Audit(**options).verdict("nli")
    papers = Audit(**options, protocol="gu2024").verdict("nli")
    again = Audit(**options, protocol="gu2024").verdict("nli")
    assert ours.items_fingerprint != papers.items_fingerprint == again.items_fingerprint
    assert (papers.base_from_store, again.base_from_store) == (False, True)
