"""Who did the harm, in words and files."""

import json
from dataclasses import replace
from pathlib import Path

from audit.reports.workflows.bisect import Culprits, Evaluation, NamedEdit, write_culprits
from tests.reports.html.pages import Page
from tests.reports.sample import FAILED, HEADER, PASSED, row_with

ONE = NamedEdit(137, "case-9", "Mara Lind lives in the city of", "New Avaria")
ASKED = (
    Evaluation("all edits", FAILED.verdict, True, True),
    Evaluation("edit 3", replace(FAILED.verdict, drop=0.06, lower=0.0, upper=0.1, n=50), True, False),
)
COST = row_with(FAILED, drop=0.061, lower=0.04, upper=0.083)
FOUND = Culprits(HEADER, FAILED, (ONE,), "halving", ASKED, COST, PASSED)


def test_the_edit_its_cost_and_what_is_left_are_told() -> None:
    assert FOUND.sentences() == [
        "edit #137 'Mara Lind lives in the city of -> New Avaria' costs 6.1 points of reasoning, 90 % interval "
        "[4.0, 8.3], on 200 items that the search did not use.",
        "Without it the plan passes (drop 0.005 [-0.013, 0.024], margin 0.050).",
        "Found by halving in 2 evaluations of reasoning, 1 of them too close to be certain; with all edits it drops "
        "by 0.240 [0.190, 0.291].",
    ]
    assert FOUND.confirmed


def test_harm_that_is_not_certain_blames_nobody() -> None:
    unsure = replace(FOUND, cost=row_with(COST, lower=-0.001))
    assert not unsure.confirmed
    assert "not certain to be harm" in unsure.sentences()[0]


def test_of_many_edits_a_few_are_named_and_a_search_cut_short_is_told() -> None:
    many = replace(FOUND, edits=tuple(replace(ONE, number=k) for k in range(1, 12)), minimal=False)
    assert many.sentences()[0].startswith("the 11 edits #1 ")
    assert " and 3 more together cost 6.1 points" in many.sentences()[0]
    assert many.sentences()[-1].startswith("The search stopped at its limit of evaluations")


def test_the_files_hold_every_evaluation(tmp_path: Path) -> None:
    json_file, text, html = write_culprits(FOUND, tmp_path)
    document = json.loads(json_file.read_text(encoding="utf-8"))
    assert document["edits"][0]["number"] == 137 and len(document["evaluations"]) == 2
    assert "| edit 3 | 0.060 | [0.000, 0.100] | 50 | yes (not certain) |" in text.read_text(encoding="utf-8")
    page = Page(html.read_text(encoding="utf-8"))
    assert page.wrong == [] and page.one("h1").text.startswith("Edit #137 'Mara Lind")
    assert [one.text for one in page.all("th", "left") if one.attributes["scope"] == "row"] == [
        "#137", "all edits", "edit 3"
    ]  # fmt: skip
    assert all(sentence in page.one("main").text for sentence in FOUND.sentences()[1:])
