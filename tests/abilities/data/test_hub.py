"""The data sets of the hub, from an imitation of the cache of `datasets`: commits, labels, offline use."""

from pathlib import Path

import datasets
import pytest

from audit.abilities import ABILITIES, load_ability
from audit.abilities.data.hub import HUB_DATA, HubSource
from audit.abilities.data.sources import items, source_of_data
from audit.errors import AuditError
from audit.store.content import Store
from tests.abilities.data.hub_cache import COMMIT, LABELS, HubCache, write_repository
from tests.small_audit import abilities

OTHER = "f" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubCache:
    return HubCache(tmp_path, monkeypatch)


@pytest.mark.parametrize("name", ABILITIES)
def test_every_ability_reads_the_columns_of_the_hub(cache: HubCache, name: str) -> None:
    ability = load_ability(name)
    cache.put(ability.data_name)
    source = HubSource()
    found = items(ability, source, 5, 0)
    assert len(found) == 5
    assert len(source.training_rows(name)) == 12
    assert source.origin(name).revision == (HUB_DATA[ability.data_name].revision or COMMIT)
    for item in found:
        assert ability.parse(item.gold[0] if item.choices else f" {ability.gold_answer(item)}").parseable


def test_every_data_set_of_an_ability_is_in_the_table_and_only_two_commits_are_not_pinned() -> None:
    assert set(HUB_DATA) == {load_ability(name).data_name for name in ABILITIES}
    assert {name for name, one in HUB_DATA.items() if one.revision is None} == {"mutual", "conll2003"}
    assert all(len(one.revision) == 40 for one in HUB_DATA.values() if one.revision is not None)


@pytest.mark.parametrize(("name", "column"), [("nli", "label"), ("sentiment", "label"), ("ner", "ner_tags")])
def test_labels_are_read_by_the_label_names_of_the_loaded_copy(
    cache: HubCache, monkeypatch: pytest.MonkeyPatch, name: str, column: str
) -> None:
    data_name = load_ability(name).data_name
    turned = LABELS[data_name][column][::-1]  # a copy with the names in another order
    monkeypatch.setitem(LABELS, data_name, {column: turned})
    cache.put(data_name)
    numbers = [row[column] for row in abilities()[data_name]]
    read = [row[column] for row in HubSource().rows(name)]
    assert read == [[turned[n] for n in one] if isinstance(one, list) else turned[one] for one in numbers]


def test_a_boolean_stays_a_boolean(cache: HubCache) -> None:
    cache.put("boolq")
    assert [row["answer"] for row in HubSource().rows("closed_qa")] == [k % 2 == 0 for k in range(12)]


def test_a_pinned_commit_is_loaded_even_if_the_cache_has_a_newer_one(cache: HubCache) -> None:
    rows = abilities()["sst2"]
    cache.put("sst2", validation=rows[:3])
    cache.put("sst2", commit=OTHER, validation=rows[3:])  # the newer one
    assert [row["sentence"] for row in HubSource().rows("sentiment")] == [row["sentence"] for row in rows[:3]]


def test_a_cache_with_only_another_commit_is_refused(cache: HubCache) -> None:
    cache.put("sst2", commit=OTHER)
    with pytest.raises(AuditError, match=f"glue sst2, validation is needed at commit bcdcba.*has {OTHER}; connect"):
        HubSource().rows("sentiment")


def test_the_store_keeps_the_first_commit_of_an_unpinned_data_set(cache: HubCache, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    rows = abilities()["mutual"]
    cache.put("mutual", validation=rows[:2])
    first = HubSource(store)
    assert first.origin("dialogue").revision is None
    assert len(first.rows("dialogue")) == 2
    assert first.origin("dialogue").revision == COMMIT

    cache.put("mutual", commit=OTHER, validation=rows[2:], train=rows[:1])
    later = HubSource(store)
    assert later.origin("dialogue").revision == COMMIT
    assert len(later.rows("dialogue")) == 2
    assert HubSource(Store(tmp_path / "another")).origin("dialogue").revision is None


def test_both_splits_of_a_run_have_the_same_commit(cache: HubCache) -> None:
    cache.put("mutual", validation=abilities()["mutual"])
    source = HubSource()  # without a store
    source.rows("dialogue")
    cache.put("mutual", commit=OTHER)
    with pytest.raises(AuditError, match=f"needed at commit {COMMIT}, but the local cache has {OTHER}"):
        source.training_rows("dialogue")


def test_a_data_set_that_cannot_be_loaded_gives_an_error_of_one_sentence(cache: HubCache) -> None:
    cache.put("sst2")
    HubSource().check()
    with pytest.raises(AuditError, match=r"openai/gsm8k main, test cannot be loaded \(.*\); load it once") as caught:
        HubSource().rows("reasoning")
    assert "\n" not in str(caught.value)


def test_an_empty_cache_is_refused_offline(cache: HubCache) -> None:
    with pytest.raises(AuditError, match=r"--data hub: the hub is offline .* none of its data sets is in"):
        HubSource().check()


def test_the_options_of_a_data_set_reach_datasets(monkeypatch: pytest.MonkeyPatch, cache: HubCache) -> None:
    calls: list[object] = []

    def load_dataset(*place: object, **options: object) -> datasets.Dataset:
        calls.append((*place, options))
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(AuditError, match=r"google/boolq, validation cannot be loaded \(no route\); load it once"):
        HubSource().rows("closed_qa")
    revision = HUB_DATA["boolq"].revision
    assert calls == [("google/boolq", None, {"split": "validation", "revision": revision, "keep_in_memory": False})]


def test_datasets_loads_the_imitated_repository(tmp_path: Path) -> None:
    folder = write_repository(tmp_path / "glue", "rte", {"validation": abilities()["rte"]})
    dataset = datasets.load_dataset(str(folder), "rte", split="validation", cache_dir=str(tmp_path / "cache"))
    assert dataset.features["label"].names == LABELS["rte"]["label"]


def test_data_hub_gives_this_source(tmp_path: Path) -> None:
    assert isinstance(source_of_data("hub", Store(tmp_path)), HubSource)
    assert source_of_data("hub").name == "hub"


def test_the_docs_repeat_the_table() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    documented = [
        [cell.strip(" `") for cell in line.split("|")[1:-1]]
        for line in page.splitlines()
        if "/" in line and "|" in line
    ]
    expected = []
    for name in ABILITIES:
        one = HUB_DATA[load_ability(name).data_name]
        revision = one.revision or "the first one loaded"
        expected.append([name, one.hub_id, one.config or "", one.test, one.training, revision])
    assert [cells[:6] for cells in documented] == expected
    assert all(f"| `{data_name}` |" in page for data_name in HUB_DATA)
