"""The real slices through the whole audit: every ability, a tiny model, a few rows, base and edited alike."""

import json
import os
from pathlib import Path

import pytest

from audit import Audit
from audit.abilities import ABILITIES
from tests.small_audit import SmallWorld, build

SHARED = Path(os.environ.get("AUDIT_SHARED") or Path(__file__).resolve().parents[1] / "../shared")
REAL = SHARED / "data" / "real"

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason=f"no slices of the real data sets in {REAL}")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    """A random model whose context is long enough for a real dialogue, and for a few before it."""
    made = build(tmp_path_factory.mktemp("world"), family="llama")
    config = json.loads((made.model / "config.json").read_text(encoding="utf-8"))
    config["max_position_embeddings"] = 8192
    (made.model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return made


def test_every_ability_is_asked_about_real_rows(world: SmallWorld, tmp_path: Path) -> None:
    options = {"model": str(world.model), "edits": str(world.edits), "device": "cpu", "store": tmp_path / "store"}
    audit = Audit(editor="identity", data=str(REAL), limit=3, **options)
    for name in ABILITIES:
        audit.verdict(name)
    report = audit.report()
    assert dict(report.unasked) == {}
    assert [(row.ability, row.verdict.n, row.verdict.drop) for row in report.abilities] == [
        (name, 3, 0.0) for name in ABILITIES
    ]
    assert report.header.data == str(REAL)
    assert {f"data {name}" for name in ABILITIES} <= set(report.fingerprints)
    again = Audit(editor="identity", data=str(REAL), limit=3, **options)
    assert again.verdict("ner").items_fingerprint == report.abilities[list(ABILITIES).index("ner")].items_fingerprint
    assert again.verdict("ner").base_from_store
