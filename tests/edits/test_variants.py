"""Variants of edit requests: other targets of the same prompt, and subjects in the prompts of other requests."""

from audit.edits.requests import EditRequest, Probe
from audit.edits.variants import request_variants

REQUESTS = (
    EditRequest("a", "Mara", "{} was born in", "Velden", "Belton", ("The birthplace of Mara is",)),
    EditRequest("b", "Kara", "{} was born in", "Calton", "Orsk", ("The birthplace of Kara is",)),
    EditRequest("c", "Gira", "{} plays the", "piano", "harp", ("Listen to Gira on the", "Her instrument is"),
                (Probe("Lena plays the", "harp"),)),
)  # fmt: skip


def test_each_request_gets_different_variants_of_its_subject() -> None:
    found = request_variants(REQUESTS, 3, seed=0)
    assert [variant.subject for variant in found] == ["Mara"] * 3 + ["Kara"] * 3 + ["Gira"] * 3
    edits = {(variant.filled_prompt, variant.target_new) for variant in (*REQUESTS, *found)}
    assert len(edits) == len(REQUESTS) + len(found)  # no edit occurs twice
    assert len({variant.case_id for variant in found}) == len(found)
    assert found == request_variants(REQUESTS, 3, seed=0) != request_variants(REQUESTS, 3, seed=1)


def test_prompts_and_answers_come_from_one_request() -> None:
    answers = {"{} was born in": {"Velden", "Belton", "Calton", "Orsk"}, "{} plays the": {"piano", "harp"}}
    for variant in request_variants(REQUESTS, 5, seed=0):
        assert variant.target_new in answers[variant.prompt]
        assert variant.target_new != variant.target_true
        assert all(variant.subject in text for text in variant.paraphrases)


def test_a_new_target_of_the_same_prompt_keeps_the_rest_of_the_request() -> None:
    kept = [v for v in request_variants(REQUESTS, 5, seed=0) if v.subject == "Mara" and v.target_true == "Belton"]
    assert {variant.target_new for variant in kept} <= {"Calton", "Orsk"} and kept
    assert all((v.prompt, v.paraphrases) == (REQUESTS[0].prompt, REQUESTS[0].paraphrases) for v in kept)


def test_the_fact_whose_prompt_is_borrowed_must_not_change() -> None:
    (borrowed,) = {v for v in request_variants(REQUESTS, 5, seed=0) if (v.subject, v.target_new) == ("Mara", "piano")}
    assert borrowed.paraphrases == ("Listen to Mara on the",)  # the other one does not name the subject
    assert borrowed.neighborhood == (Probe("Gira plays the", "harp"), Probe("Lena plays the", "harp"))


def test_a_variant_is_neither_the_request_nor_its_old_fact() -> None:
    assert request_variants(REQUESTS[:1], 8, seed=0) == ()
    assert request_variants(REQUESTS, 0, seed=0) == ()
