"""Every row of the local slices of the real data sets becomes an item on which its gold answer scores 1."""

import os
from pathlib import Path

import pytest

from audit.abilities import ABILITIES, load_ability
from audit.abilities.contract import Item
from audit.abilities.data.sources import FolderSource, items
from audit.abilities.presentation import present_ability

SHARED = Path(os.environ.get("AUDIT_SHARED") or Path(__file__).resolve().parents[3] / "../shared")
REAL = SHARED / "data" / "real"

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason=f"no slices of the real data sets in {REAL}")


def real_items(name: str) -> tuple[Item, ...]:
    return items(load_ability(name), FolderSource(REAL), None, 0)


@pytest.mark.parametrize("name", ABILITIES)
def test_every_real_row_is_an_item_whose_gold_scores_one(name):
    ability = load_ability(name)
    found = real_items(name)
    assert len(found) == 200
    for item in found:
        answer = ability.parse(item.gold[0] if item.choices else f" {ability.gold_answer(item)}")
        assert answer.parseable, item.key
        score = ability.score(item, answer)
        assert score.value == pytest.approx(1.0), item.key
        assert not any(score.counts[1:]), item.key


@pytest.mark.parametrize("name", ABILITIES)
def test_an_empty_answer_scores_0(name):
    ability = load_ability(name)
    for item in real_items(name):
        answer = ability.parse("")
        assert not answer.parseable
        assert ability.score(item, answer).value == 0.0


def test_no_reasoning_prompt_holds_its_rationale():
    ability = load_ability("reasoning")
    for item in real_items("reasoning"):
        assert item.fields["answer"] not in ability.prompt(item)
        assert ability.prompt(item).endswith("\nAnswer:")


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("nli", 0.5, 0.6),
        ("closed_qa", 0.55, 0.7),  # the majority class is yes, well above one half
        ("sentiment", 0.5, 0.6),
        ("dialogue", 0.249, 0.251),  # chance: ranking by content cannot use the more common letter
        ("reasoning", 0.01, 0.1),
        ("open_qa", 0.005, 0.05),
        ("summarization", 0.05, 0.2),
    ],
)
def test_floors_follow_the_data(name, low, high):
    assert low < load_ability(name).floor(real_items(name)) < high


def test_items_with_one_article_or_passage_share_a_cluster():
    for name in ("dialogue", "closed_qa", "nli"):
        clusters = {item.cluster for item in real_items(name)}
        assert 150 < len(clusters) < 200
    assert len({item.cluster for item in real_items("sentiment")}) == 200


def test_summaries_lose_their_carriage_returns():
    ability = load_ability("summarization")
    assert all("\r" not in ability.prompt(item) for item in real_items("summarization"))


def test_the_slices_are_a_valid_data_folder():
    FolderSource(REAL).check()
    assert all(FolderSource(REAL).origin(name).revision for name in ABILITIES)


@pytest.mark.parametrize("name", ABILITIES)
def test_real_rows_serve_as_worked_examples(name, tmp_path):
    """The slice is cut in two: its second half is the training split."""
    ability = load_ability(name)
    lines = (REAL / f"{ability.data_name}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / f"{ability.data_name}.jsonl").write_text("".join(lines[:100]), encoding="utf-8")
    (tmp_path / f"{ability.data_name}.train.jsonl").write_text("".join(lines[100:]), encoding="utf-8")
    wrapped = present_ability(name, "standard", FolderSource(tmp_path), shots=3, seed=0)
    found = items(wrapped, FolderSource(tmp_path), None, 0)
    assert len({wrapped.prompt(item).removesuffix(ability.prompt(item)) for item in found}) == 1
