"""Names, metrics, floors and groups; what cannot be judged is refused with one sentence."""

import json
import re
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")

from audit.abilities.contract import Item
from audit.abilities.data.sources import items
from audit.abilities.lm_eval.ability import HarnessAbility, harness_ability
from audit.abilities.registry import load_entry
from audit.answering.items import candidates_for
from audit.engine import Decoding
from audit.errors import AuditError
from audit.settings.options import AuditSettings
from tests.abilities.lm_eval.tasks import CLOZE, MULTIPLE_CHOICE, ROLLING, WRITTEN, town_rows, write_task

LABELS = MULTIPLE_CHOICE.replace("num_fewshot: 2\n", "").replace("options", '["north", "south", "east"]')
PLAIN_CHOICE = MULTIPLE_CHOICE.replace("num_fewshot: 2\n", "")
GROUP = """
group: places
task: [towns, regions]
aggregate_metric_list:
  - {metric: acc, weight_by_size: true}
  - {metric: acc_norm, weight_by_size: false}
"""


@pytest.fixture(autouse=True)
def _own_data_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets"))


def all_items(ability: HarnessAbility) -> tuple[Item, ...]:
    return items(ability, ability.source, None, 0)


def test_a_document_becomes_an_item(tmp_path: Path) -> None:
    path = write_task(tmp_path, "towns", MULTIPLE_CHOICE, town_rows(26), training=4)
    entry = load_entry(f"lm-eval:{path}")
    entry.check()
    ability = entry.ability
    assert isinstance(ability, HarnessAbility) and entry.source is not None
    assert (entry.name, ability.title, ability.metric, ability.reading) == (
        "towns",
        "towns (lm-eval)",
        "acc",
        "choices",
    )
    row = entry.source.rows("towns")[1]
    item = ability.item(row, "towns/1")
    assert (item.key, item.cluster, item.gold) == ("towns/1", "towns/1", (row["doc"]["options"][row["doc"]["right"]],))
    assert row["doc_id"] == 1 and json.loads(json.dumps(item.fields)) == item.fields
    assert ability.prompt(item).endswith("\n\nKara Quinwick lives in house 5 of")
    assert ability.pairs(item)[0] == (ability.prompt(item), " Velden")
    assert len({one.key for one in all_items(ability)}) == 22
    with pytest.raises(AuditError, match="worked examples of its own"):
        entry.source.training_rows("towns")


def test_the_fingerprint_is_that_of_task_metric_and_documents(tmp_path: Path) -> None:
    def fingerprint(place: str, text: str = PLAIN_CHOICE, count: int = 22, metric: str = "") -> str:
        path = write_task(tmp_path / place, "towns", text, town_rows(count))
        return load_entry(f"lm-eval:{path}{metric}").fingerprint

    first = fingerprint("a")
    assert first == fingerprint("b")  # wherever the files are
    others = [
        fingerprint("c", PLAIN_CHOICE.replace("lives in", "is in")),
        fingerprint("d", count=23),
        fingerprint("e", metric=":acc_norm"),
        fingerprint("f", PLAIN_CHOICE + "description: 'Where?'\n"),
    ]
    assert len({first, *others}) == 5
    scored = fingerprint("g", ROLLING)
    changed = tmp_path / "h"
    path = write_task(changed, "towns", ROLLING, town_rows(22))
    (changed / "scores.py").write_text((changed / "scores.py").read_text().replace("100", "50"))
    assert load_entry(f"lm-eval:{path}").fingerprint != scored


def test_the_first_metric_with_a_value_for_each_document_is_taken(tmp_path: Path) -> None:
    towns = write_task(tmp_path, "towns", PLAIN_CHOICE, town_rows(22))
    houses = write_task(tmp_path, "houses", WRITTEN, town_rows(26), training=4)
    assert harness_ability(str(write_task(tmp_path, "births", CLOZE, town_rows(22)))).metric == "acc"
    named = harness_ability(f"{towns}:acc_norm")
    assert (named.name, named.metric) == ("towns:acc_norm", "acc_norm")
    first, whole = harness_ability(str(houses)), harness_ability(f"{houses}:exact_match,whole")
    assert (first.metric, whole.metric) == ("exact_match,first-letters", "exact_match,whole")
    assert first.decoding == Decoding(10, ("\n", "Q"))
    item = all_items(first)[0]
    assert first.parse(" Velden.\nMara").value == " Velden."
    assert not first.parse("\nVelden").parseable
    assert first.score(item, first.parse(item.gold[0])).value == 0  # two letters are read, and the gold has more
    assert whole.score(item, whole.parse(item.gold[0].upper())).value == 1


REFUSED: dict[str, tuple[str, str, str]] = {
    "of the whole set": (
        PLAIN_CHOICE,
        ":mcc",
        "mcc has no number for each document, only one for the whole task; give",
    ),
    "less is better": (CLOZE, ":perplexity", "perplexity is better the lower it is; give one of acc as lm-eval:"),
    "unknown metric": (PLAIN_CHOICE, ":acc_nrom", "has no metric 'acc_nrom'; give one of acc, acc_norm as"),
    "unknown filter": (PLAIN_CHOICE, ":acc,strict", "has no filter 'strict'; give one of none"),
    "no other metric": (
        re.sub(r"process_results.*\n|metric_list:\n.*\n", "", ROLLING),
        "",
        "word_perplexity is better the lower it is, byte_perplexity is .*; choose another task",
    ),
    "beyond 1": (
        ROLLING.replace("bounded", "unbounded"),
        "",
        r"expected is not between 0 and 1 \(it is 45 for a right answer\); choose another task",
    ),
    "a sum": (
        ROLLING.replace("aggregation: mean", "aggregation: median"),
        "",
        "expected is not the mean over the documents",
    ),
    "sampled": (
        WRITTEN.replace("until:", "do_sample: true, temperature: 0.7, until:"),
        "",
        "things samples its answers",
    ),
    "beams": (WRITTEN.replace("until:", "num_beams: 4, until:"), "", "things decodes with num_beams, and answers here"),
    "code": (PLAIN_CHOICE + "unsafe_code: true\n", "", "things runs code that the model writes"),
    "output type": (
        PLAIN_CHOICE.replace("multiple_choice", "guesses"),
        "",
        r"cannot be loaded \(ValueError: Got invalid",
    ),
    "template": (PLAIN_CHOICE.replace("{{who}}", "{{who"), "", r"cannot be loaded \(TemplateSyntaxError: "),
    "no column": (PLAIN_CHOICE.replace("options", "optoins"), "", r"cannot be loaded \("),
    "function": (ROLLING.replace("scores.bounded", "scores.bound"), "", r"cannot be loaded \("),
    "broken YAML": ("metric_list: [\n", "", r"cannot be loaded \(ParserError: "),
    "files": (PLAIN_CHOICE + "dataset_kwargs: {data_files: {test: nowhere.jsonl}}\n", "", r"cannot be loaded \("),
}


@pytest.mark.parametrize("text,metric,sentence", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_judged_is_refused_with_one_sentence(
    tmp_path: Path, text: str, metric: str, sentence: str
) -> None:
    path = write_task(tmp_path, "things", text, town_rows(26), training=4)
    if "unbounded" in text:
        (tmp_path / "scores.py").write_text("def unbounded(doc, results):\n    return {'expected': 45.0}\n")
    with pytest.raises(AuditError, match=sentence) as raised:
        load_entry(f"lm-eval:{path}{metric}")
    assert "\n" not in str(raised.value) and str(raised.value).startswith("lm-eval:")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nowhere.yaml", "there is no file nowhere.yaml; give a task of the harness or its YAML file"),
        ("", "names no task or no metric; write lm-eval:TASK"),
        ("arc_easy:", "names no task or no metric; write lm-eval:TASK"),
        (":acc", "names no task or no metric; write lm-eval:TASK"),
        ("empty.yaml", "names no task; give it a line with task: NAME"),
        ("list.yaml", r"cannot be loaded \(ValueError: Expected YAML dict"),
    ],
)
def test_malformed_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sentence: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.yaml").write_text("doc_to_text: x\n")
    Path("list.yaml").write_text("- a\n- b\n")
    with pytest.raises(AuditError, match=sentence):
        load_entry(f"lm-eval:{name}")


def test_a_score_beyond_1_stops_the_run(tmp_path: Path) -> None:
    path = write_task(tmp_path, "texts", ROLLING, town_rows(22))
    ability = harness_ability(str(path))
    item = all_items(ability)[0]
    assert ability.score_results(item, [-10.0]) == pytest.approx(0.9048, abs=1e-4)
    with pytest.raises(
        AuditError, match=r"expected of document \d+ of texts is 2\.71828, and a score is between 0 and 1"
    ):
        ability.score_results(item, [100.0])


def test_without_the_harness_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(AuditError, match=r"is not installed; pip install 'model-edit-audit\[lm-eval\]'"):
        load_entry("lm-eval:arc_easy")


def test_floors(tmp_path: Path) -> None:
    options = harness_ability(str(write_task(tmp_path, "towns", PLAIN_CHOICE, town_rows(22))))
    assert options.floor(all_items(options)) == pytest.approx((1 / 3 + 1 / 4) / 2)
    rows = [{**row, "right": 2 if row["number"] % 11 else 0} for row in town_rows(22)]
    labels = harness_ability(str(write_task(tmp_path, "regions", LABELS, rows)))
    assert labels.floor(all_items(labels)) == pytest.approx(20 / 22)
    births = harness_ability(str(write_task(tmp_path, "births", CLOZE, town_rows(22))))
    assert births.floor(all_items(births)) == 0
    houses = harness_ability(f"{write_task(tmp_path, 'houses', WRITTEN, town_rows(26), training=4)}:exact_match,whole")
    assert houses.floor(all_items(houses)) == pytest.approx(6 / 22)  # the most frequent of four towns
    assert (options.floor([]), houses.graded) == (0, False)


@pytest.mark.parametrize(
    ("typed", "flag"),
    [
        ({"shots": 3}, "--shots 3"),
        ({"chat_template": True}, "--chat-template"),
        ({"prompting": "examples"}, "--prompting"),
    ],
)
def test_other_prompts_are_refused(tmp_path: Path, typed: dict[str, Any], flag: str) -> None:
    path = write_task(tmp_path, "towns", PLAIN_CHOICE, town_rows(22))
    with pytest.raises(AuditError, match=f"{flag}.*: towns brings its own prompts and worked examples; leave"):
        candidates_for("towns", AuditSettings(ability=[f"lm-eval:{path}"], **typed), None)
    (only,) = candidates_for("towns", AuditSettings(ability=[f"lm-eval:{path}"]), None)
    assert (only.reading, only.prompting) == ("choices", "plain")


def test_a_group_is_one_ability_over_all_documents(tmp_path: Path) -> None:
    write_task(tmp_path, "towns", PLAIN_CHOICE, town_rows(22))
    write_task(tmp_path, "regions", LABELS, town_rows(30))
    path = tmp_path / "places.yaml"
    path.write_text(GROUP)
    entry = load_entry(f"lm-eval:{path}")
    entry.check()
    ability = entry.ability
    assert isinstance(ability, HarnessAbility)
    found = all_items(ability)
    assert (entry.name, ability.metric, len(found)) == ("places", "acc", 52)
    assert len({item.cluster for item in found}) == 52
    assert {item.fields["task"] for item in found} == {"towns", "regions"}
    with pytest.raises(
        AuditError, match=r"places has no mean of acc_norm over all documents .*: lm-eval:towns, lm-eval:"
    ):
        load_entry(f"lm-eval:{path}:acc_norm")


GROUPS: dict[str, tuple[Callable[[str], str], str]] = {
    "no score": (lambda text: text.split("aggregate")[0], "has no mean of a metric over all documents"),
    "mean of the tasks": (lambda text: text.replace("true", "false"), "has no mean of a metric over all documents"),
    "another metric": (lambda text: text.replace("acc,", "mcc,"), "mcc has no number for each document"),
    "several kinds": (lambda text: text.replace("regions", "births"), "are of several kinds"),
}


@pytest.mark.parametrize("change,sentence", GROUPS.values(), ids=GROUPS)
def test_groups_without_one_score(tmp_path: Path, change: Callable[[str], str], sentence: str) -> None:
    write_task(tmp_path, "towns", PLAIN_CHOICE, town_rows(22))
    write_task(tmp_path, "regions", LABELS, town_rows(30))
    write_task(tmp_path, "births", CLOZE, town_rows(22))
    path = tmp_path / "places.yaml"
    path.write_text(change(GROUP))
    with pytest.raises(AuditError, match=sentence):
        load_entry(f"lm-eval:{path}")
