"""The scores of a small audit of each pocket model, to the last digit, as the first edition of the audit gave them."""

import json
from pathlib import Path

import pytest

from audit import Audit

GOLDEN = json.loads((Path(__file__).parent / "golden" / "verdicts.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("model", GOLDEN)
def test_a_seeded_audit_gives_the_same_scores(model: str) -> None:
    report = Audit(model=model, editor="memit", edit_count=5, limit=24, seed=0, use_store=False).run()
    scores = {f"{score.measure} ({score.protocol})": score.value for score in report.edit_scores}
    assert {name: scores[name] for name in scores if "likelihood" not in name} == GOLDEN[model]["edit_scores"]
    assert {row.ability for row in report.abilities} == GOLDEN[model]["abilities"].keys()
    for row in report.abilities:
        verdict = getattr(row, "verdict", row)
        found = {name: getattr(verdict, name) for name in ("base", "edited", "drop", "n")}
        assert found == GOLDEN[model]["abilities"][row.ability], row.ability
