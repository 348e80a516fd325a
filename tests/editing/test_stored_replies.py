"""Replies to the probes of edits that a store holds: used again, unless an older version wrote them."""

from pathlib import Path
from typing import Any

import pytest

from audit import Audit
from audit.measures.edit_probes import edit_probes
from audit.models.fingerprints import content_fingerprint
from tests.small_audit import SmallWorld, build


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return build(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("mode", ["batch-single", "instance-single"])
def test_log_probabilities_are_kept(
    mode: str, world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = world.options(editor="vandal", edit_mode=mode, edit_count=3, device="cpu", store=tmp_path / "store")
    first = Audit(**options).edit_scores

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the model was asked")

    monkeypatch.setattr("audit.editing.edit_run.ask_edits", refuse)
    second = Audit(**options).edit_scores
    assert second == first
    assert second.efficacy_change is not None and second.efficacy_change.n == 3
    assert second.efficacy_preference is not None and second.neighborhood_magnitude is not None


def test_replies_of_an_older_version_are_not_used(world: SmallWorld, tmp_path: Path) -> None:
    options = world.options(editor="vandal", edit_count=3, device="cpu")
    undisturbed = Audit(**options, use_store=False).edit_scores
    audit = Audit(**options, store=tmp_path / "store")
    probes = edit_probes(audit.requests)
    for patch in (None, audit.edited[0].patch):
        log = audit.edit_run.logs.of(audit.known, patch)
        assert log is not None
        old = {content_fingerprint(["edit", one.prompt, *one.answers]): [" stale", [1], [True]] for one in probes}
        log.add(old)
    assert audit.edit_scores == undisturbed
