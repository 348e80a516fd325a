"""KnowEdit, MQuAKE, WikiBigEdit and RippleEdits: all rows and probes are read, and every malformed row is one error."""

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit.edits.requests import EditRequest, Probe
from audit.edits.sources import load_requests
from audit.errors import AuditError

Fields = dict[str, Any]
SHARED = Path(os.environ.get("AUDIT_SHARED", Path(__file__).resolve().parents[2] / "../shared"))

KNOWEDIT: Fields = {
    "subject": "Mara Lind",
    "prompt": "The place of birth of Mara Lind is",
    "target_new": "Velden",
    "ground_truth": ["Marl", "Old Marl"],
    "rephrase_prompt": "Mara Lind was born in",
    "portability": {
        "Reasoning": [{"prompt": "The mayor of Mara Lind's birthplace is", "ground_truth": [["Ina Roth", "I. Roth"]]}],
        "Subject_Aliasing": [{"prompt": "The place of birth of M. Lind is", "ground_truth": "Velden"}],
        "Logical_Generalization": [],
    },
    "locality": {
        "Relation_Specificity": [{"prompt": "The gender of Mara Lind is", "ground_truth": [["female"], ["woman"]]}],
        "Forgetfulness": [
            {"prompt": "The place of birth of Mara Lind, which is not Velden, is", "ground_truth": ["Marl"]},
            {"prompt": "The place of death of Mara Lind is", "ground_truth": [[""]]},
        ],
    },
}
MQUAKE: Fields = {
    "case_id": 1,
    "requested_rewrite": [
        {
            "prompt": "{} works for",
            "subject": "Mara Lind",
            "target_new": {"str": "Orbix"},
            "target_true": {"str": "Nimbus"},
            "question": "Who employs Mara Lind?",
        },
        {
            "prompt": "{} is based in",
            "subject": "Orbix",
            "target_new": {"str": "Velden"},
            "target_true": {"str": "Marl"},
        },
    ],
    "questions": ["Where does Mara Lind's employer sit?", "Which city hosts the employer of Mara Lind?"],
    "answer": "Tarn",
    "answer_alias": [],
    "new_answer": "Velden",
    "new_answer_alias": ["Velden city"],
    "single_hops": [
        {"question": "Who employs Mara Lind?", "cloze": "Mara Lind works for", "answer": "Nimbus", "answer_alias": []},
        {
            "question": "Where is Nimbus?",
            "cloze": "Nimbus is based in",
            "answer": "Tarn",
            "answer_alias": ["Tarn city"],
        },
    ],
    "new_single_hops": [
        {"question": "Who employs Mara Lind?", "cloze": "Mara Lind works for", "answer": "Orbix", "answer_alias": []},
        {"question": "Where is Orbix?", "cloze": "Orbix is based in", "answer": "Velden", "answer_alias": []},
    ],
}
WIKIBIGEDIT: Fields = {
    "tag": "update",
    "subject": "Mara Lind",
    "update": "Who employs Mara Lind?",
    "ans": "Orbix",
    "rephrase": "Which firm does Mara Lind work for?",
    "personas": "Tell me, who pays Mara Lind?",
    "loc": "Who employs Ina Roth?",
    "loc_ans": "Nimbus",
    "mhop": "Where does Mara Lind's employer sit?",
    "mhop_ans": "Velden",
}


def query(prompt: str, *answers: str) -> Fields:
    values = [{"value": answer, "aliases": [f"the {answer}"]} for answer in answers]
    return {"test_queries": [{"prompt": prompt, "answers": values, "subject_id": "Q1"}], "test_condition": "OR"}


RIPPLE: Fields = {
    "example_type": "popular",
    "edit": {
        "prompt": "The name of the country of citizenship of Mara Lind is Sudonia.",
        "subject_id": "Q1",
        "relation": "COUNTRY_OF_CITIZENSHIP",
        "target_id": "Q2",
        "original_fact": {"prompt": "The name of the country of citizenship of Mara Lind is Cordova."},
    },
    "Relation_Specificity": [query("The name of the mother of Mara Lind is", "Ina Lind")],
    "Logical_Generalization": [query("The name of the continent of Mara Lind is", "Norda")],
    "Subject_Aliasing": [query("The name of the country of citizenship of M. Lind is", "Sudonia")],
    "Compositionality_I": [query("The capital of the country of Mara Lind is", "Velden"), query("Empty is")],
    "Compositionality_II": [],
    "Forgetfulness": [query("The other country of Mara Lind is", "Cordova")],
}
ROWS = {"KnowEdit": KNOWEDIT, "MQuAKE": MQUAKE, "WikiBigEdit": WIKIBIGEDIT, "RippleEdits": RIPPLE}


def read(folder: Path, *rows: Fields) -> tuple[EditRequest, ...]:
    path = folder / "edits.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return load_requests(str(path)).requests


def test_knowedit_with_all_groups_and_aliases(tmp_path: Path) -> None:
    (request,) = read(tmp_path, KNOWEDIT)
    assert (request.case_id, request.prompt, request.target_new) == ("row-1", "The place of birth of {} is", "Velden")
    assert request.target_true == "Marl"
    assert request.paraphrases == ("Mara Lind was born in",)
    assert request.portability == (
        Probe("The mayor of Mara Lind's birthplace is", "Ina Roth", ("I. Roth",)),
        Probe("The place of birth of M. Lind is", "Velden"),
    )
    assert request.neighborhood == (
        Probe("The gender of Mara Lind is", "female", ("woman",)),
        Probe("The place of birth of Mara Lind, which is not Velden, is", "Marl"),
    )


@pytest.mark.parametrize("missing", ["ground_truth", "rephrase_prompt", "portability"])
def test_knowedit_without_an_optional_field(tmp_path: Path, missing: str) -> None:
    (request,) = read(tmp_path, {key: value for key, value in KNOWEDIT.items() if key != missing})
    assert len(request.neighborhood) == 2


def test_mquake_gives_a_request_for_each_rewrite_and_multi_hop_probes(tmp_path: Path) -> None:
    first, last = read(tmp_path, MQUAKE)
    assert [(one.case_id, one.filled_prompt, one.target_new, one.target_true) for one in (first, last)] == [
        ("1.1", "Mara Lind works for", "Orbix", "Nimbus"),
        ("1.2", "Orbix is based in", "Velden", "Marl"),
    ]
    assert first.paraphrases == ("Who employs Mara Lind?",)
    assert first.portability == first.neighborhood == ()
    assert last.portability == tuple(Probe(text, "Velden", ("Velden city",)) for text in MQUAKE["questions"])
    assert last.neighborhood == (Probe("Nimbus is based in", "Tarn", ("Tarn city",)),)


def test_a_rewrite_of_several_mquake_cases_is_one_request_with_the_probes_of_all(tmp_path: Path) -> None:
    other = MQUAKE | {"case_id": 2, "requested_rewrite": MQUAKE["requested_rewrite"][:1], "questions": ["Who pays?"]}
    requests = read(tmp_path, MQUAKE, other)
    assert [one.case_id for one in requests] == ["1.1", "1.2"]
    assert requests[0].portability == (Probe("Who pays?", "Velden", ("Velden city",)),)


def test_a_draw_takes_whole_mquake_cases_and_cuts_only_the_last(tmp_path: Path) -> None:
    def case(number: int) -> Fields:
        renamed = json.dumps(MQUAKE).replace("Mara Lind", f"Mara {number}").replace("Orbix", f"Orbix {number}")
        return json.loads(renamed) | {"case_id": number}  # type: ignore[no-any-return]

    path = tmp_path / "mquake.json"
    path.write_text(json.dumps([case(number) for number in range(4)]), encoding="utf-8")
    loaded = load_requests(str(path))
    drawn = [loaded.draw(count, 0).requests for count in range(1, 9)]
    assert all(more[: len(few)] == few for few, more in itertools.pairwise(drawn))
    cases = [request.case_id.split(".") for request in drawn[-1]]
    assert [part for _, part in cases] == ["1", "2"] * 4
    assert all(cases[2 * k][0] == cases[2 * k + 1][0] for k in range(4))


def test_wikibigedit_with_all_probes(tmp_path: Path) -> None:
    (request,) = read(tmp_path, WIKIBIGEDIT)
    assert (request.prompt, request.target_new, request.target_true) == ("Who employs {}?", "Orbix", None)
    assert request.paraphrases == ("Which firm does Mara Lind work for?", "Tell me, who pays Mara Lind?")
    assert request.neighborhood == (Probe("Who employs Ina Roth?", "Nimbus"),)
    assert request.portability == (Probe("Where does Mara Lind's employer sit?", "Velden"),)


def test_wikibigedit_without_a_second_hop(tmp_path: Path) -> None:
    (request,) = read(tmp_path, WIKIBIGEDIT | {"mhop": None, "mhop_ans": None, "personas": None})
    assert request.portability == ()
    assert request.paraphrases == ("Which firm does Mara Lind work for?",)


def test_ripple_edits_with_all_criteria(tmp_path: Path) -> None:
    (request,) = read(tmp_path, RIPPLE)
    assert (request.subject, request.target_new, request.target_true) == ("Mara Lind", "Sudonia", "Cordova")
    assert request.prompt == "The name of the country of citizenship of {} is"
    assert [probe.answer for probe in request.portability] == ["Norda", "Velden", "Sudonia"]
    assert request.portability[0].aliases == ("the Norda",)
    assert [probe.answer for probe in request.neighborhood] == ["Ina Lind", "Cordova"]


@pytest.mark.parametrize(
    ("relation", "sentence", "subject", "target"),
    [
        ("FOLLOWS", "Song of Tarn follows Song of Marl.", "Song of Tarn", "Song of Marl"),
        ("FOLLOWED_BY", "Part 2 is followed by Part 3.", "Part 2", "Part 3"),
        ("CAST_MEMBER", "The names of the cast members of Tarn are Ina Roth.", "Tarn", "Ina Roth"),
        ("NUMBER_OF_CHILDREN", "The number of children Ina Roth has is 3.", "Ina Roth", "3"),
        ("COUNTRY", "The name of the country which Velden is associated with is Marn.", "Velden", "Marn"),
        ("RELIGION", "The name of the religion which Ina is associated with is Tao.", "Ina", "Tao"),
        ("AWARD_RECEIVED", "The name of the award Ina Roth won is Duke of Marl.", "Ina Roth", "Duke of Marl"),
        ("MOTHER", "The name of the mother of Duke of Marl is U.S..", "Duke of Marl", "U.S."),
        ("DIRECTOR", "The name of the director of Life is Good is Ina Roth.", "Life is Good", "Ina Roth"),
    ],
)
def test_ripple_edits_sentences(tmp_path: Path, relation: str, sentence: str, subject: str, target: str) -> None:
    near = [query(f"The name of the composer of {subject} is", "Marl")]
    (request,) = read(
        tmp_path,
        {"example_type": "recent", "edit": {"prompt": sentence, "relation": relation}, "Relation_Specificity": near},
    )
    assert (request.subject, request.target_new) == (subject, target)
    assert f"{request.filled_prompt} {target}." == sentence


def test_portability_of_the_flat_counterfact(tmp_path: Path) -> None:
    row = {
        "subject": "Mara",
        "prompt": "Mara lives in",
        "target_new": "Marl",
        "ground_truth": "Tarn",
        "rephrase_prompt": "Mara's home is",
        "locality_prompt": "Ina lives in",
        "locality_ground_truth": "Tarn",
        "portability": {
            "Recalled Relation": "x",
            "New Question": "Mara lives in which land?",
            "New Answer": ["A", "B"],
        },
    }
    (request,) = read(tmp_path, row)
    assert request.portability == (Probe("Mara lives in which land?", "A", ("B",)),)


def changed(path: str, value: Any) -> Callable[[Fields], Fields]:
    """A copy of the row in which the value at `path` is replaced; a missing one if it is `...`."""

    def change(row: Fields) -> Fields:
        copy: Any = json.loads(json.dumps(row))
        *outer, last = [int(part) if part.isdigit() else part for part in path.split("/")]
        inside = copy
        for part in outer:
            inside = inside[part]
        if value is ...:
            del inside[last]
        else:
            inside[last] = value
        return copy  # type: ignore[no-any-return]

    return change


MALFORMED = {
    "KnowEdit": {
        "subject": [..., 3, "", "Nobody"],
        "prompt": [..., ["a"], ""],
        "target_new": [..., "", "marl."],
        "ground_truth": [{"a": 1}],
        "portability": ["x", [1], 3],
        "portability/Reasoning": ["x"],
        "portability/Reasoning/0/ground_truth": [..., [[3]]],
        "locality/Relation_Specificity/0/prompt": [..., 3],
    },
    "MQuAKE": {
        "requested_rewrite": [..., [], "x", {"prompt": "x"}],
        "requested_rewrite/0/prompt": [..., "Mara Lind works for", "{} {}"],
        "requested_rewrite/0/subject": [..., ""],
        "requested_rewrite/1/target_new": ["x"],
        "requested_rewrite/1/target_new/str": ["Marl"],
        "questions": [..., "x", [3]],
        "new_answer": [..., 3],
        "single_hops/1/answer": [...],
    },
    "WikiBigEdit": {
        "subject": [..., None, "", "Nobody"],
        "update": [..., 3, ""],
        "ans": [..., "", ["Orbix"], "a\nb"],
        "loc": [3],
        "mhop_ans": [["x"]],
        "personas": [4],
    },
    "RippleEdits": {
        "edit": [..., "x", []],
        "edit/prompt": [..., 3, "", "Mara Lind is from Sudonia.", "The name of the country of citizenship of  is X."],
        "edit/relation": [..., "MOTHER", "{} {}"],
        "edit/original_fact/prompt": ["The name of the country of citizenship of Mara Lind is sudonia."],
        "Relation_Specificity": ["x", [3]],
        "Relation_Specificity/0/test_queries": [...],
        "Logical_Generalization/0/test_queries/0/answers": [..., "x"],
        "Logical_Generalization/0/test_queries/0/answers/0/value": [..., 3],
    },
}


def test_at_least_ten_malformed_rows_of_each_format_are_tried() -> None:
    assert all(sum(map(len, fields.values())) >= 10 for fields in MALFORMED.values())


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [(name, path, value) for name, fields in MALFORMED.items() for path, values in fields.items() for value in values],
)
def test_a_malformed_row_is_one_sentence(tmp_path: Path, name: str, path: str, value: Any) -> None:
    with pytest.raises(AuditError) as caught:
        read(tmp_path, changed(path, value)(ROWS[name]))
    sentence = str(caught.value)
    assert "edits.json" in sentence and "row 1, line 1" in sentence
    assert path.split("/")[0] in sentence
    assert len(sentence.splitlines()) == 1 and sentence.endswith(".") and len(sentence) < 500


@pytest.mark.parametrize(
    ("row", "title"),
    [
        (
            {"subject": " Mara", "prompt": "Mara is", "target_true": " a", "target_false": " b", "relation_prefix": ""},
            "counterfact-tracing",
        ),
        ({"text": "x", "labels": "y", "concept": "z", "locality": {}}, "KnowEdit's WikiBio"),
        ({"success": [], "locality": []}, "KnowEdit's Sanitation"),
        ({"prompt": "x", "target_old": "y", "target_new": "z", "locality": []}, "CKnowEdit"),
        (
            {"input": "x", "prediction": "y", "alternatives": [], "filtered_rephrases": [], "output": []},
            "MEND's training set of ZsRE",
        ),
    ],
)
def test_other_data_sets_are_refused_by_name(tmp_path: Path, row: Fields, title: str) -> None:
    with pytest.raises(
        AuditError, match=f"row 1, line 1: this is a file of {title}, which cannot be used: .*; use|.*;"
    ):
        read(tmp_path, row)


@pytest.mark.parametrize("missing", ["subject", "prompt", "target_new"])
def test_our_own_format_needs_its_three_keys(tmp_path: Path, missing: str) -> None:
    row = {"subject": "Mara", "prompt": "{} is", "target_new": "x"}
    with pytest.raises(AuditError, match=f"not recognized from its keys .*our own format lacks '{missing}'"):
        read(tmp_path, {key: value for key, value in row.items() if key != missing})


@pytest.mark.parametrize(
    ("name", "requests", "portability", "neighborhood"),
    [
        ("knowedit_wiki_recent.json", 3, 4, 2),
        ("mquake.json", 3, 4, 0),
        ("zsre_one_line.json", 3, 0, 3),
        ("own_schema_one_line.json", 2, 0, 0),
    ],
)
def test_the_field_samples_are_read_in_full(name: str, requests: int, portability: int, neighborhood: int) -> None:
    path = SHARED / "data" / "field" / name
    if not path.is_file():
        pytest.skip(f"{name} is not there: it is not part of the repository (set AUDIT_SHARED to its folder)")
    loaded = load_requests(str(path))
    assert loaded.skipped == ()
    assert len({one.case_id for one in loaded.requests}) == len(loaded.requests) == requests
    assert sum(len(one.portability) for one in loaded.requests) == portability
    assert sum(len(one.neighborhood) for one in loaded.requests) == neighborhood
