"""Contrasts of a locality search: each prompt is asked once and kept between runs, and the weights are restored."""

from pathlib import Path
from typing import Any

import pytest

from audit import Audit
from audit.answering import locality as room
from audit.measures.locality_topics import OTHER_RELATIONS, OTHER_SUBJECTS, UNRELATED
from audit.models.fingerprints import weights_fingerprint
from tests.small_audit import SmallWorld, build

PROMPTS = ("Kara was", "The", "The ferry", "Kara was")


@pytest.fixture
def world(tmp_path: Path) -> SmallWorld:
    return build(tmp_path)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The batches of prompts that are put to a model."""
    seen: list[tuple[str, ...]] = []
    contrast = room.contrast

    def counting(lm: Any, patches: Any, prompts: Any) -> Any:
        seen.append(tuple(prompts))
        return contrast(lm, patches, prompts)

    monkeypatch.setattr(room, "contrast", counting)
    return seen


def audit(world: SmallWorld, **more: Any) -> Audit:
    return Audit(**world.options(editor="vandal", device="cpu", **{"edit_count": 1, **more}))


def test_new_prompts_are_one_batch_and_later_runs_ask_none(
    world: SmallWorld, tmp_path: Path, batches: list[tuple[str, ...]]
) -> None:
    first = audit(world, store=tmp_path / "store")
    found = first.locality.contrasts(PROMPTS)
    assert batches == [("Kara was", "The", "The ferry")]
    assert found[0] == found[3] == first.locality.contrast("Kara was")
    assert audit(world, store=tmp_path / "store").locality.contrasts(PROMPTS) == found
    assert len(batches) == 1
    assert first.locality.folder == tmp_path / "store" / "hypothesis"


def test_another_edit_or_no_store_asks_again(world: SmallWorld, tmp_path: Path, batches: list[tuple[str, ...]]) -> None:
    audit(world, store=tmp_path / "store").locality.contrast("The")
    audit(world, store=tmp_path / "store", seed=1).locality.contrast("The")
    alone = audit(world, use_store=False).locality
    alone.contrast("The")
    assert len(batches) == 3
    assert alone.folder is None


def test_the_weights_are_restored_after_each_batch(world: SmallWorld) -> None:
    one = audit(world, use_store=False)
    before = weights_fingerprint(one.lm)
    assert one.locality.survey(PROMPTS, 0.0).share == 1
    assert weights_fingerprint(one.lm) == before
    assert one.measured


def test_topics_come_from_the_requests_their_file_and_fixed_texts(world: SmallWorld) -> None:
    edited = audit(world, use_store=False)
    (subject,) = edited.locality.topics.edited_subjects
    others = edited.locality.topics.cores[OTHER_SUBJECTS]
    assert {request.subject for request in edited.changes.drawn.others} <= {word for core in others for word in core}
    assert not any(subject in word for core in others for word in core)
    assert edited.locality.topics.cores[OTHER_RELATIONS] == ()
    assert edited.locality.topics.cores[UNRELATED]


def test_of_several_edited_models_the_largest_divergence_counts(world: SmallWorld) -> None:
    several = audit(world, use_store=False, edit_count=2, edit_mode="instance-single")
    both = several.locality.contrast("The").divergence
    from audit.measures.locality_contrasts import contrast

    each = [contrast(several.lm, [model.patch], ["The"])[0].divergence for model in several.edited]
    assert both == max(each)
