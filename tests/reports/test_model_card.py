"""The card of an edited model: the hub reads its metadata, other text stays, and no foreign text becomes Markdown."""

from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import EvalResult, ModelCard, metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results
from markdown_it import MarkdownIt
from markdown_it.token import Token

from audit.errors import AuditError
from audit.reports.model_card import BEGIN, END, card_section, eval_results, merged_card
from audit.reports.rows import IntegrityRow, RunReport
from tests.reports.sample import FAILED, HEADER, PASSED, REPORT, row_with

HUB = replace(REPORT, header=replace(HEADER, model="openai-community/gpt2", revision="607a30d7", data="hub"))
THEIRS = """---
license: mit
language:
- en
tags: chat
model-index:
- name: my-model
  results:
  - task:
      type: text-generation
    dataset:
      name: MMLU
      type: cais/mmlu
    metrics:
    - type: accuracy
      value: 0.5
---
# My model

A text with  two blanks, a tab\t, an é and no end of line
---
| a | table |"""


def tokens(text: str) -> list[Token]:
    """All tokens of a card, as a Markdown renderer that allows HTML sees it."""
    parsed = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    return [one for token in parsed for one in (token, *(token.children or ()))]


def test_the_hub_reads_the_metadata(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text(merged_card("", HUB), encoding="utf-8")
    card, metadata = ModelCard.load(file), metadata_load(file)
    assert metadata is not None
    name, results = model_index_to_eval_results(metadata["model-index"])
    assert (name, results) == ("gpt2-memit", eval_results(HUB)) == (card.data.model_name, card.data.eval_results)
    assert metadata["base_model"] == "openai-community/gpt2"
    assert metadata["tags"] == ["knowledge-editing", "model-editing", "memit"]
    assert str(card) == file.read_text(encoding="utf-8")


def test_a_result_is_the_edited_score_with_its_verdict() -> None:
    first, second, _ = eval_results(HUB)
    assert (first.dataset_type, first.dataset_config, first.dataset_split) == ("openai/gsm8k", "main", "test")
    assert first.dataset_revision == "740312add88f781978c0658806c59bc2815b9866"
    assert (first.metric_type, first.metric_name, first.metric_value) == ("solve_rate", "solve rate", 0.62)
    assert first.metric_args is not None
    expected = {"verdict": "FAIL", "base": 0.86, "drop": 0.24, "lower": 0.19, "upper": 0.291, "margin": 0.05, "n": 200}
    assert expected.items() <= first.metric_args.items()
    assert (second.dataset_type, second.dataset_config) == ("nyu-mll/glue", "sst2")


def test_results_of_one_source_are_not_merged_into_each_other() -> None:
    names = {result.task_name for result in ModelCard(merged_card("", REPORT)).data.eval_results or ()}
    assert names == {"Reasoning", "Sentiment", "Summarization"}


def test_a_report_without_abilities_has_no_results() -> None:
    report = replace(REPORT, abilities=(), collapse="The edited model writes nothing.")
    card = ModelCard(merged_card("", report))
    assert (card.data.eval_results, card.data.model_name) == (None, None)
    assert "**The edited model writes nothing.** No ability was asked." in card.text
    again = ModelCard(merged_card(merged_card("", REPORT), report))
    assert (again.data.eval_results, again.data.model_name) == (None, None)


@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
def test_everything_else_in_a_card_stays_byte_for_byte(line_break: str, tmp_path: Path) -> None:
    theirs = THEIRS.replace("\n", line_break)
    body = ModelCard(theirs).text
    merged = merged_card(theirs, REPORT)
    card = ModelCard(merged)
    before, _, rest = card.text.partition(BEGIN)
    assert before == body + 2 * line_break
    assert rest.partition(END)[2] == line_break
    assert line_break == "\n" or "\n" not in merged.replace("\r\n", "")
    (tmp_path / "README.md").write_bytes(merged.encode())
    assert list(metadata_load(tmp_path / "README.md") or ()) == ["license", "language", "tags", "model-index"]
    assert card.data.tags == ["chat", "knowledge-editing", "model-editing", "memit"]
    assert card.data.model_name == "my-model"
    assert card.data.eval_results is not None
    assert card.data.eval_results[0].dataset_name == "MMLU"
    assert len(card.data.eval_results) == 1 + len(REPORT.abilities)


def test_a_later_run_replaces_the_section_and_the_results_of_an_earlier_one() -> None:
    first = merged_card(THEIRS, REPORT)
    moved = first + "\nWritten later.\n"
    assert merged_card(first, REPORT) == first
    second = merged_card(moved, replace(REPORT, abilities=(PASSED,), edit_scores=()))
    card = ModelCard(second)
    assert [one.task_name for one in card.data.eval_results or ()] == [None, "Sentiment"]
    assert (second.count(BEGIN), second.count(END)) == (1, 1)
    assert card.text.startswith(ModelCard(THEIRS).text)
    assert card.text.endswith(f"{END}\n\nWritten later.\n")
    assert "Edit success" not in second


def test_a_card_without_metadata_gets_some() -> None:
    card = ModelCard(merged_card("# Mine\n", REPORT, name="mine", base_model="a/b"))
    assert card.text.startswith(f"# Mine\n\n{BEGIN}\n")
    assert (card.data.model_name, card.data.base_model) == ("mine", "a/b")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("---\nlicense: [\n---\n", "the metadata of README.md cannot be read"),
        ("---\n- a list\n---\n", r"cannot be read \(repo card metadata block should be a dict\)"),
        ("---\nmodel-index:\n- results: []\n---\n", "cannot be read"),
        (f"{BEGIN}\n", f"README.md has 1 markers {BEGIN} and 0 markers {END}"),
        (f"{END}\n{BEGIN}\n", "leave one pair or none"),
        (2 * f"{BEGIN}\n{END}\n", "has 2 markers"),
    ],
)
def test_a_card_that_cannot_be_merged_is_one_sentence(text: str, error: str) -> None:
    with pytest.raises(AuditError, match=error) as caught:
        merged_card(text, REPORT, origin="README.md")
    assert "\n" not in str(caught.value)


def test_a_comparison_of_several_models_is_no_card() -> None:
    rows = tuple(row_with(PASSED, ability=f"x of {model}", model=model) for model in ("step-1", "step-2"))
    with pytest.raises(AuditError, match=r"compares 2 models \(step-1, step-2\)"):
        merged_card("", replace(REPORT, abilities=rows))


def test_a_comparison_has_a_card() -> None:
    header = replace(HEADER, compared=True, model="/home/me/base.csv", editor="/home/me/edited.csv", data="results")
    text = merged_card("", replace(REPORT, header=header, edit_scores=(), integrity=()))
    assert "/home/me" not in text
    card = ModelCard(text)
    assert (card.data.model_name, card.data.tags) == ("edited.csv", ["knowledge-editing", "model-editing"])


def test_the_section_says_what_was_lost() -> None:
    section = card_section(REPORT)
    assert "## Audit of the edit: FAIL" in section
    assert "| `reasoning` | `solve rate` | - | 0.860 | 0.620 | 0.240 | [0.190, 0.291] |" in section
    assert "| efficacy | 0.980 |" in section
    assert "**UNSOUND**" not in section
    assert "```text\npytest suites/ --editor memit\n```" in section


HOSTILE = "<script>x</script> | [a](http://evil.example) ![i](//e) `b` **c** " + f"{END} \u202e www.e.f\n# d"


def hostile() -> RunReport:
    """A report whose every text from a model, data set or path is hostile."""
    row = row_with(FAILED, ability=HOSTILE, title=HOSTILE, metric=HOSTILE, origin=HOSTILE)
    header = replace(
        HEADER,
        **dict.fromkeys(("model", "revision", "editor", "edits", "plan", "data", "restraint"), HOSTILE),
        editing_caveats=(HOSTILE,),
    )
    return replace(
        REPORT,
        header=header,
        abilities=(row,),
        integrity=(IntegrityRow("x", 1.0, False, HOSTILE), IntegrityRow("y", 1.0, False, "w_1_*2* <b> layers.[0]")),
        unasked={HOSTILE: HOSTILE},
        fingerprints={"weights": HOSTILE, f"data {HOSTILE}": HOSTILE},
        versions={HOSTILE: HOSTILE},
        command=HOSTILE,
    )


def test_no_foreign_text_becomes_markdown() -> None:
    text = merged_card("", hostile())
    found = tokens(ModelCard(text).text)
    kinds = {one.type for one in found}
    assert [one.content.strip() for one in found if one.type.startswith("html")] == [BEGIN, END]
    assert kinds & {"link_open", "image", "em_open"} == set()
    headings = [one for one in found if one.type == "heading_open"]
    plain = [one for one in tokens(ModelCard(merged_card("", REPORT)).text) if one.type == "heading_open"]
    assert len(headings) == len(plain)
    assert "\u202e" not in ModelCard(text).text
    (table,) = [k for k, one in enumerate(found) if one.type == "tbody_open"][-1:]
    cells = [one for one in found[table:] if one.type == "td_open"]
    assert len(cells) == 11
    assert "w_1_*2* <b> layers.[0]" in "".join(one.content for one in found if one.type == "text")


def test_a_hostile_card_merges_again(tmp_path: Path) -> None:
    first = merged_card(THEIRS, hostile())
    assert merged_card(first, hostile()) == first
    file = tmp_path / "README.md"
    file.write_text(first, encoding="utf-8")
    metadata = metadata_load(file)
    assert metadata is not None
    _, results = model_index_to_eval_results(metadata["model-index"])
    assert isinstance(results[1], EvalResult)
    assert results[1].task_name == HOSTILE
