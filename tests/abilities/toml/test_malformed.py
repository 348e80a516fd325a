"""Every malformed description, row or data file is one sentence that names the file and what to do."""

from pathlib import Path
from typing import Any

import pytest

from audit.abilities.registry import load_entry
from audit.errors import AuditError
from audit.settings.options import AuditSettings
from tests.abilities.triage import DESCRIPTION, tickets, write_ability

PLAIN = 'prompt = "{{ text }}"\ngold = "team"\n'

# How the description is wrong, and the sentence about it.
DESCRIPTIONS: dict[str, tuple[str, str]] = {
    "no TOML": ("prompt = ", "is not TOML (Invalid value"),
    "no prompt": ('gold = "team"', "has no prompt; every ability needs"),
    "no gold": ('prompt = "{{ text }}"', "has no gold; every ability needs"),
    "unknown key": (PLAIN + 'metrik = "accuracy"', "metrik is not a key of an ability (did you mean 'metric'?)"),
    "unknown key in a table": (PLAIN + "[answers]\nmax_tokens = 8", "[answers] max_tokens is not a key of an ability"),
    "wrong type": ('prompt = 3\ngold = "team"', "prompt = 3 is not a text; correct it"),
    "empty text": (PLAIN + 'cluster = ""', "cluster = '' is not a text"),
    "table as text": (PLAIN + 'answers = "long"', "answers = 'long' is not a table"),
    "boolean as number": (PLAIN + "[answers]\nmax_new_tokens = true", "max_new_tokens = True is not a whole number"),
    "empty list": (PLAIN + "readings = []", "readings = [] is not a list of texts"),
    "stop is no list": (PLAIN + '[answers]\nstop = "x"', "[answers] stop = 'x' is not a list of texts"),
    "too many tokens": (PLAIN + "[answers]\nmax_new_tokens = 0", "max_new_tokens = 0 is not from 1 to 4096"),
    "template error": ('prompt = "{{ text"\ngold = "team"', "prompt, line 1 is not a template (unexpected end"),
    "example error": (PLAIN + '[answers]\nexample = "{% if %}"', "[answers] example, line 1 is not a template"),
    "no regular expression": (PLAIN + "[answers]\npattern = '('", "pattern = '(' is no regular expression"),
    "no group": (PLAIN + "[answers]\npattern = 'a+'", "has 0 groups; put the answer into one group"),
    "two groups": (PLAIN + "[answers]\npattern = '(a)(b)'", "has 2 groups; put the answer into one group"),
    "unknown metric": (PLAIN + 'metric = "bleu"', "metric = 'bleu' is unknown; use accuracy, exact match"),
    "unknown reading": (PLAIN + 'readings = ["answer"]', "readings = 'answer' is unknown; use answers, choices"),
    "reading twice": (PLAIN + 'readings = ["answers", "answers"]', "names a reading twice"),
    "choices without options": (PLAIN + 'readings = ["choices"]', "'choices' needs labels or a column of options"),
    "calibrated with three": (
        DESCRIPTION.replace("cluster", 'readings = ["calibrated"]\ncluster'),
        "exactly two labels",
    ),
    "one label": (PLAIN + '[choices]\nlabels = ["a"]', "labels = ['a']: give at least two, all different"),
    "equal labels": (PLAIN + '[choices]\nlabels = ["a", "a "]', "give at least two, all different"),
    "labels and column": (PLAIN + '[choices]\nlabels = ["a", "b"]\ncolumn = "c"', "has both labels and column"),
    "empty choices": (PLAIN + "[choices]", "[choices] is empty; give labels or column"),
    "unknown floor": (PLAIN + 'floor = "chance"', "floor = 'chance' is unknown; use constant, majority, 1/k"),
    "floor of 1": (PLAIN + "floor = 1.0", "floor = 1.0 is no score below 1"),
    "1/k without options": (PLAIN + 'floor = "1/k"', "floor = '1/k' needs a column of options"),
    "hub without a split": (PLAIN + '[data]\nhub = "a/b"', "[data] hub needs a split, and no file"),
    "split without a hub": (PLAIN + '[data]\nsplit = "test"', "split is for a data set of the hub"),
}

# What is wrong with the rows or their file, and the sentence about it.
TWENTY = tickets(20)
ROWS: dict[str, tuple[str, list[dict[str, Any]], str]] = {
    "too few": (DESCRIPTION, TWENTY[:19], "triage.jsonl has 19 rows for triage, and at least 20 are needed; add rows."),
    "no gold column": (DESCRIPTION, [{"text": "t", "customer": "c"}], "row triage/0 has no column 'team' (it has"),
    "empty gold": (DESCRIPTION, [TWENTY[0] | {"team": " "}], "row triage/0 has ' ' in column 'team'; give a text"),
    "no text as gold": (DESCRIPTION, [TWENTY[0] | {"team": {"a": 1}}], "has {'a': 1} in column 'team'"),
    "empty list of golds": (DESCRIPTION, [TWENTY[0] | {"team": []}], "has an empty list in column 'team'"),
    "foreign gold": (
        DESCRIPTION,
        [*TWENTY, TWENTY[0] | {"team": "legal"}],
        "row triage/20 has 'legal' in column 'team'",
    ),
    "no cluster": (DESCRIPTION, [TWENTY[0] | {"customer": None}], "row triage/0 has None in column 'customer'"),
    "no column of the template": (
        DESCRIPTION.replace("{{ text }}", "{{ txt }}"),
        TWENTY,
        "prompt cannot render row triage/0 ('txt' is undefined); the row has customer, options, right, team, text.",
    ),
    "forbidden by the sandbox": (
        DESCRIPTION.replace("{{ text }}", "{{ text.__class__.__mro__ }}"),
        TWENTY,
        "prompt cannot render row triage/0 (access to attribute '__class__' of 'str' object is unsafe)",
    ),
    "an error of the template": (DESCRIPTION.replace("{{ text }}", "{{ 1 / 0 }}"), TWENTY, "(division by zero)"),
    "empty prompt": (
        DESCRIPTION.replace('"Ticket: {{ text }}\\nTeam:"', '"{{ text }}"'),
        [TWENTY[0] | {"text": " "}],
        "prompt renders row triage/0 as an empty text",
    ),
    "no options": (PLAIN + '[choices]\ncolumn = "list"', TWENTY, "row triage/0 has no column 'list'"),
    "options are no list": (PLAIN + '[choices]\ncolumn = "text"', TWENTY, "in column 'text'; give a list of texts"),
    "equal options": (
        PLAIN + '[choices]\ncolumn = "options"',
        [TWENTY[0] | {"options": ["billing", "billing"]}],
        "has the options ['billing', 'billing']; give at least two, all different",
    ),
    "unreadable by the pattern": (
        PLAIN + "[answers]\npattern = 'Team: (\\w+)'",
        TWENTY,
        "row triage/0: no answer is read in the right answer 'billing'; give [answers] a pattern that reads it",
    ),
    "read otherwise by the pattern": (
        PLAIN + "[answers]\npattern = '^(\\w)'",
        TWENTY,
        "'b' is read in the right answer",
    ),
    "nothing after normalization": (
        PLAIN,
        [TWENTY[0] | {"team": "the"}],
        "no answer is read in the right answer 'the'; give",
    ),
}


def sentence_about(path: Path | str) -> str:
    with pytest.raises(AuditError) as caught:
        AuditSettings(ability=[str(path)]).abilities.added[0].check()
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("kind", DESCRIPTIONS)
def test_a_malformed_description_is_one_sentence(kind: str, tmp_path: Path) -> None:
    text, sentence = DESCRIPTIONS[kind]
    path = write_ability(tmp_path, text)
    found = sentence_about(path)
    assert found.startswith(str(path)) and sentence in found


@pytest.mark.parametrize("kind", ROWS)
def test_a_malformed_row_is_one_sentence(kind: str, tmp_path: Path) -> None:
    text, rows, sentence = ROWS[kind]
    found = sentence_about(write_ability(tmp_path, text, rows))
    assert str(tmp_path / "triage.jsonl") in found and sentence in found


def test_the_descriptions_without_these_mistakes_are_read(tmp_path: Path) -> None:
    for text in (DESCRIPTION, PLAIN, PLAIN + '[choices]\ncolumn = "options"\n'):
        rows = [row | {"team": row["right"]} for row in TWENTY] if "column" in text else TWENTY
        load_entry(str(write_ability(tmp_path, text, rows))).check()


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("triage.jsonl", "{'a': 1}\n", "line 1 is not JSON"),
        ("triage.jsonl", "[1]\n", "line 1 is a list, not an object"),
        ("triage.csv", "text,team\nHello, you,billing\n", "line 2 has not the 2 values that the first line names"),
        ("triage.csv", 'text,team\n"Hello,billing\n', "cannot read"),
        ("triage.parquet", "PAR1 no", "put a Parquet file there"),
        ("triage.xlsx", "", "has no file of rows beside it; put one of triage.jsonl, triage.csv, triage.parquet there"),
    ],
)
def test_a_malformed_file_of_rows_is_one_sentence(file: str, content: str, sentence: str, tmp_path: Path) -> None:
    path = write_ability(tmp_path, PLAIN)
    (tmp_path / "triage.jsonl").unlink()
    (tmp_path / file).write_text(content, encoding="utf-8")
    assert sentence in sentence_about(path)


def test_two_files_of_rows_are_one_too_many(tmp_path: Path) -> None:
    path = write_ability(tmp_path, PLAIN)
    (tmp_path / "triage.csv").write_text("text,team\n", encoding="utf-8")
    assert "has both triage.jsonl and triage.csv beside it" in sentence_about(path)


def test_a_file_of_rows_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    found = sentence_about(write_ability(tmp_path, PLAIN + '[data]\nfile = "others.jsonl"'))
    assert f"cannot read {tmp_path / 'others.jsonl'} for triage" in found
    other = sentence_about(write_ability(tmp_path, PLAIN + '[data]\nfile = "others.txt"'))
    assert "has the ending '.txt'; give one of .jsonl, .csv, .parquet" in other


def test_a_description_that_is_not_there_or_has_no_name_is_one_sentence(tmp_path: Path) -> None:
    assert "cannot be read" in sentence_about(tmp_path / "no.toml")
    assert "the name of the file is the name of the ability" in sentence_about(
        write_ability(tmp_path, PLAIN, name="2 teams")
    )
    assert "is named nli, like a built-in ability" in sentence_about(write_ability(tmp_path, PLAIN, name="nli"))
