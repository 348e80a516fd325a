"""The budget in words: what was found, what breaks first, and what the number is worth."""

import json
from dataclasses import replace
from pathlib import Path

from audit.reports.workflows.budget import Budget, Look, budget_markdown, write_budget
from tests.reports.html.pages import Page
from tests.reports.sample import FAILED, HEADER, PASSED, UNDECIDED

GOOD, BAD = Look(1, (PASSED,)), Look(4, (PASSED, UNDECIDED, FAILED))


def budget(**more: object) -> Budget:
    made = Budget(HEADER, 2, (GOOD, Look(2, (PASSED,)), BAD, replace(BAD, edits=3)), (PASSED,), (1, 2, 3, 4))
    return replace(made, **more)  # type: ignore[arg-type]


def test_the_fewest_edits_that_fail_and_their_worst_ability_are_told() -> None:
    found = budget()
    assert found.first_broken is not None and found.first_broken.edits == 3
    assert found.sentences()[1] == (
        "reasoning is the first to fail, at 3 edits: drop 0.240, 90 % interval [0.190, 0.291], margin 0.050, n 200 "
        "(FAIL)."
    )
    undecided = budget(looks=(GOOD, Look(2, (UNDECIDED,))), edits=1)
    assert "summarization is the first that is not certified, at 2 edits" in undecided.sentences()[1]
    assert undecided.sentences()[1].endswith("About 140 more items would settle it (--limit).")


def test_what_the_number_is_worth_is_said() -> None:
    sentences = budget().sentences()
    assert sentences[0] == "budget: 2 edits of memit on pocket-gpt2 pass."
    assert sentences[2].startswith("Tried 1, 2, 3, 4: the budget is the largest of these")
    assert sentences[3].endswith("with probability at most 5 %, any of the 4 looks with at most 20 %.")
    assert "2 edits passed again on at least 200 items per ability that no look used" in sentences[4]


def test_none_all_and_unconfirmed_have_words_of_their_own() -> None:
    none = budget(edits=0, looks=(replace(BAD, edits=1),), confirmation=())
    assert none.sentences()[0].startswith("budget: none; 1 edit of memit") and not none.confirmed
    everything = budget(edits=4, looks=(GOOD, Look(4, (PASSED,))))
    assert everything.sentences()[0].startswith("budget: at least 4 edits")
    assert "give a smaller --limit" in budget(confirmation=()).sentences()[-1]
    assert (
        "items that no look used: summarization INCONCLUSIVE"
        in budget(confirmation=(PASSED, UNDECIDED)).sentences()[-1]
    )


def test_the_files_hold_every_look(tmp_path: Path) -> None:
    whole = budget(looks=(Look(1, (PASSED,)), Look(4, (FAILED,))), edits=1)
    json_file, _, html = write_budget(whole, tmp_path)
    document = json.loads(json_file.read_text(encoding="utf-8"))
    assert document["edits"] == 1 and document["confirmed"] is True
    assert [look["edits"] for look in document["looks"]] == [1, 4]
    assert "| 4 | 0.240 ✗ |" in budget_markdown(whole)
    page = Page(html.read_text(encoding="utf-8"))
    assert page.wrong == [] and page.one("h1").text == whole.sentences()[0].replace("budget", "Budget", 1)
    assert page.one("td", "FAIL").text == "0.240 ✗"
    assert all(sentence in page.one("main").text for sentence in whole.sentences()[1:])
