"""Sequences of an edit: lookups, labels, alignment and batching."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audit.edits.requests import EditRequest
from audit.engine.sequences import (
    EditSequence,
    align,
    essence_sequence,
    prompt_sequence,
    rewriting_sequence,
    within_budget,
)
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from tests.editors.plain import REQUESTS

SEQUENCES = st.lists(
    st.integers(1, 30).flatmap(
        lambda length: st.builds(EditSequence, st.just(tuple(range(1, length + 1))), st.integers(0, length - 1))
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_labels_are_at_the_positions_that_predict_them(family: str, request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    sequence = rewriting_sequence(lm, REQUESTS[1], "A prefix with {braces}. ")
    whole = (*sequence.ids, sequence.labels[-1])
    for t, label in enumerate(sequence.labels):
        assert whole[sequence.first_label + t + 1] == label
    assert sequence.first_label + len(sequence.labels) == len(sequence.ids)
    assert lm.tokenizer.decode(sequence.labels).strip() == "New Avaria"


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case.case_id)
def test_the_lookup_ends_the_subject(case: EditRequest, family: str, request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    for sequence in (prompt_sequence(lm, case), rewriting_sequence(lm, case, "Yes. "), essence_sequence(lm, case)):
        text = lm.tokenizer.decode(sequence.until_lookup().ids, skip_special_tokens=True)
        assert text.endswith(case.subject)


def test_rows_are_aligned_at_their_lookup() -> None:
    rows = align([EditSequence((1, 2, 3), 1), EditSequence((4, 5, 6, 7), 0)], torch.device("cpu"))
    assert rows.lookup == 1
    assert rows.ids.tolist() == [[1, 2, 3, 0, 0], [0, 4, 5, 6, 7]]
    assert rows.mask.tolist() == [[1, 1, 1, 0, 0], [0, 1, 1, 1, 1]]
    assert rows.positions.tolist() == [[0, 1, 2, 0, 0], [0, 0, 1, 2, 3]]


@given(SEQUENCES, st.integers(1, 200))
def test_every_sequence_is_in_one_group_within_the_budget(sequences: list[EditSequence], budget: int) -> None:
    groups = list(within_budget(sequences, budget))
    assert sorted(index for group in groups for index in group) == list(range(len(sequences)))
    for group in groups:
        padded = align([sequences[index] for index in group], torch.device("cpu")).ids.numel()
        assert padded <= budget or len(group) == 1


def test_a_prompt_without_its_subject_is_refused(tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(AuditError, match=r"exactly one \{\}"):
        prompt_sequence(tiny_gpt2, EditRequest("x", "Mara", "Mara was born in", "Velden"))


def test_an_empty_target_is_refused(tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(AuditError, match="empty"):
        rewriting_sequence(tiny_gpt2, EditRequest("x", "Mara", "{} was born in", " "))
