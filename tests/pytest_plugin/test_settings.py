"""Each option reaches the audit as a setting. `tests/settings/test_options.py` tests the values."""

from pathlib import Path
from typing import Any

import pytest

from audit.settings.options import AuditSettings
from tests.pytest_plugin.conftest import Suites

pytest_plugins = ("pytester",)

SHOW = """
def test_settings(audit_run):
    print("SETTINGS", audit_run.settings)
"""
OPTIONS = """
--editor rome --model ./mine --revision v2 --edits zsre.json --edit-mode batch-sequential --edit-count 20
--edit-batch-size 5 --editor-config layers=3,4 --editor-config steps=5 --restraint prune:2.0 --margin ner=3pp
--margin nli=0.02 --inconclusive skip --limit 50 --seed 7 --device cuda:1 --dtype bfloat16 --reports out --patch mine
--data ./rows --shots 5 --chat-template --early-stop --no-triage
"""
SETTINGS: dict[str, Any] = {
    "editor": "rome",
    "model": "./mine",
    "revision": "v2",
    "edits": "zsre.json",
    "edit_mode": "batch-sequential",
    "edit_count": 20,
    "edit_batch_size": 5,
    "editor_config": {"layers": "3,4", "steps": "5"},
    "margins": {"ner": 0.03, "nli": 0.02},
    "inconclusive": "skip",
    "limit": 50,
    "seed": 7,
    "device": "cuda:1",
    "dtype": "bfloat16",
    "reports": Path("out"),
    "restraint": "prune:2",
    "patch": Path("mine"),
    "data": "./rows",
    "shots": 5,
    "chat_template": True,
    "early_stop": True,
    "triage": False,
}


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ("", AuditSettings()),
        (f"{OPTIONS} --store kept", AuditSettings(**SETTINGS, store=Path("kept"))),
        (f"{OPTIONS} --no-store", AuditSettings(**SETTINGS, use_store=False)),
    ],
    ids=["none", "all", "no store"],
)
def test_options_become_settings(suites: Suites, options: str, settings: AuditSettings) -> None:
    suites.pytester.makepyfile(test_show=SHOW)
    result = suites.run("", "-s", *options.split())
    assert f"SETTINGS {settings}" in result.stdout.str()
    assert result.ret == 0
