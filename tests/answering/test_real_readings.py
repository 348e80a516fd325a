"""Every reading on a real model; skipped where `make real-models` was not run. Without real rows, on invented ones."""

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from audit import Audit
from audit.answering.answers import AnswerLogs
from audit.answering.crew import Crew
from audit.editing.edit_run import EditRun
from audit.models.language_model import LanguageModel
from audit.settings.options import AuditSettings
from tests.conftest import REAL_MODELS

SHARED = Path(os.environ.get("AUDIT_SHARED") or Path(__file__).resolve().parents[2] / "../shared")
REAL = SHARED / "data" / "real"
LIMIT = 24

ROWS = str(REAL) if REAL.is_dir() else "pocket"

pytestmark = pytest.mark.real_model


@pytest.fixture(scope="module")
def base(smollm2: LanguageModel) -> Audit:
    """An audit that changes nothing, over all tests of this file; the fixture skips without the model."""
    model = str(REAL_MODELS / "SmolLM2-135M-Instruct-Q4")
    return Audit(AuditSettings(editor="identity", model=model, data=ROWS, use_store=False, device="cpu"))


@pytest.mark.parametrize(
    ("name", "reading"),
    [
        ("sentiment", "answers"),
        ("dialogue", "choices"),
        ("sentiment", "calibrated"),
        ("open_qa", "likelihood"),
        ("sentiment", "likelihood"),
        ("dialogue", "likelihood"),
    ],
)
def test_an_edit_that_changes_nothing_loses_nothing(name: str, reading: str, base: Audit) -> None:
    """All on one loaded model."""
    wanted = replace(base.settings, reading={"": reading}, prompting="plain", limit=LIMIT, triage=False)
    run = EditRun(wanted, AnswerLogs(None), Crew(), base.stages, changes=base.changes, known=base.known)
    audit = Audit(wanted, source=base.source, edit_run=run)
    row = audit.verdict(name)
    verdict = row.verdict
    assert (row.reading, row.prompting, verdict.n) == (reading, "plain", LIMIT)
    assert (verdict.drop, row.changed) == (0, 0)
    assert row.outcome != "FAIL"
    paired = audit.answers(name)
    scores = [score.value for answers in (paired.base, *paired.edited) for score in answers.scores]
    assert len(scores) == 2 * LIMIT and all(math.isfinite(value) and 0 <= value <= 1 for value in scores)
    assert all(math.isfinite(one) for one in (verdict.base, verdict.floor, verdict.lower, verdict.upper))
    if reading == "calibrated":
        assert row.offset != 0
    if reading == "likelihood":
        assert row.base_unparseable == 0
        # It takes something from a real prompt where it writes nothing right; of the invented world it knows nothing.
        assert (
            ROWS == "pocket" or verdict.base > verdict.floor
        )  # the model takes something from the prompt, where it writes nothing right
