import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.abilities import ABILITIES, load_ability
from audit.abilities.data import Origin
from audit.abilities.data.sources import FolderSource, PocketSource, RowCache, items
from audit.abilities.sentiment import Sentiment
from audit.errors import AuditError

ABILITY = Sentiment()
FROZEN = ["sentiment/100", "sentiment/410", "sentiment/656"]


class Sentences:
    name = "sentences"

    def __init__(self, count: int) -> None:
        self.count = count

    def rows(self, ability_name: str):
        return [{"sentence": f"sentence {number}", "label": number % 2} for number in range(self.count)]

    def origin(self, ability_name: str) -> Origin:
        return Origin("sentences")


def keys(count: int, limit: int | None, seed: int) -> list[str]:
    return [item.key for item in items(ABILITY, Sentences(count), limit, seed)]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 5))
def test_the_items_of_a_smaller_limit_are_a_prefix(small, large, seed):
    small, large = sorted((small, large))
    assert keys(60, large, seed)[:small] == keys(60, small, seed)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 5))
def test_added_rows_keep_the_order_of_the_others(count, added, seed):
    before = keys(count, None, seed)
    after = keys(count + added, None, seed)
    assert [key for key in after if key in set(before)] == before


def test_another_seed_gives_other_items():
    assert keys(60, 20, 0) != keys(60, 20, 1)
    assert set(keys(60, None, 0)) == {f"sentiment/{index}" for index in range(60)}


def test_the_subset_does_not_depend_on_the_process():
    # Python's own hash is salted in each process, and another order would silently change what runs compare.
    assert keys(1000, 3, 7) == FROZEN


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_1_is_refused(limit):
    with pytest.raises(AuditError, match="at least 1"):
        keys(5, limit, 0)


def test_a_source_without_rows_is_refused():
    with pytest.raises(AuditError, match="no rows for the ability 'sentiment'"):
        keys(0, 5, 0)


def test_a_folder_of_json_lines(tmp_path):
    (tmp_path / "sst2.jsonl").write_text('{"sentence": "fine\\u2028ly made", "label": 1}\n\n', encoding="utf-8")
    (item,) = items(ABILITY, FolderSource(tmp_path), None, 0)
    assert item.gold == ("positive",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"sentence": "a", "label": 1}\n{"sentence"', "line 2 is not JSON"),
        (b"[1, 2]", "line 1 is a list"),
        (b"\xff\xfe", "cannot read"),
        (None, "has no sst2.jsonl or sst2.parquet for sentiment"),
    ],
)
def test_the_error_names_a_bad_file(tmp_path, content, message):
    if content is not None:
        (tmp_path / "sst2.jsonl").write_bytes(content)
    with pytest.raises(AuditError, match=message):
        items(ABILITY, FolderSource(tmp_path), None, 0)


@pytest.mark.parametrize("name", ABILITIES)
def test_the_pocket_world_has_every_ability(name):
    ability = load_ability(name)
    found = items(ability, PocketSource(), 40, 0)
    assert len(found) == 40
    assert len({item.key for item in found}) == 40
    assert all(ability.prompt(item) and item.ability == name for item in found)
    assert 0 <= ability.floor(found) < 0.9


def test_a_row_cache_reads_rows_once_and_delegates_the_rest(tmp_path):
    (tmp_path / "rte.jsonl").write_text('{"sentence1": "a", "sentence2": "b", "label": 0}\n', encoding="utf-8")
    source = FolderSource(tmp_path)
    cache = RowCache(source)
    assert (cache.name, cache.origin("nli")) == (source.name, source.origin("nli"))
    cache.check()
    first = cache.rows("nli")
    assert cache.rows("nli") is first == source.rows("nli")
    with pytest.raises(AuditError, match=r"has no rte\.train\.jsonl"):
        cache.training_rows("nli")
