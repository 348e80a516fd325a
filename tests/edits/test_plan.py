"""Edit plans: modes, steps and invalid combinations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.edits.plan import BATCH_MODES, DEFAULT_BATCH_SIZE, DEFAULT_COUNT, MODES, EditPlan, make_plan
from audit.edits.requests import EditRequest
from audit.errors import AuditError


def requests(count: int) -> tuple[EditRequest, ...]:
    return tuple(EditRequest(str(i), f"subject {i}", "{} is", f"target {i}") for i in range(count))


def test_editors_that_batch_default_to_one_batch() -> None:
    plan = make_plan(None, None, None, "memit", True)
    assert (plan.mode, plan.count, plan.batch_size) == ("batch-single", DEFAULT_COUNT, DEFAULT_COUNT)
    assert plan.steps(requests(10)) == (requests(10),)
    assert not plan.sequential


def test_editors_that_do_not_batch_default_to_instances_in_sequence() -> None:
    plan = make_plan(None, None, None, "rome", False)
    assert (plan.mode, plan.count, plan.batch_size) == ("instance-sequential", DEFAULT_COUNT, 1)
    assert plan.steps(requests(10)) == tuple((request,) for request in requests(10))
    assert plan.sequential


def test_instance_single_edits_the_untouched_model() -> None:
    assert not make_plan("instance-single", 3, None, "rome", False).sequential


def test_batches_in_sequence_default_to_ten_and_the_last_may_be_smaller() -> None:
    plan = make_plan("batch-sequential", 25, None, "memit", True)
    assert plan.batch_size == DEFAULT_BATCH_SIZE
    assert [len(step) for step in plan.steps(requests(25))] == [10, 10, 5]
    assert plan.sequential
    assert make_plan("batch-sequential", 4, None, "memit", True).batch_size == 4


def test_a_batch_size_alone_means_batches_in_sequence() -> None:
    plan = make_plan(None, 30, 5, "memit", True)
    assert (plan.mode, plan.batch_size) == ("batch-sequential", 5)


def test_the_default_count_is_at_most_the_number_available() -> None:
    assert make_plan(None, None, None, "memit", True, available=4).count == 4
    assert make_plan(None, None, None, "memit", True, available=400).count == DEFAULT_COUNT


def test_sentence_names_count_mode_and_batch() -> None:
    assert make_plan("instance-single", 1, None, "rome", False).sentence() == "1 edit, instance-single"
    assert make_plan(None, 30, 5, "memit", True).sentence() == "30 edits, batch-sequential, 5 at a time"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("batch-single", 10, None, "rome", False), ["'rome'", "cannot batch", "batch-single", "instance-sequential"]),
        (("batch-sequential", 10, 5, "rome", False), ["'rome'", "cannot batch", "batch-sequential", "memit"]),
        ((None, 10, 5, "rome", False), ["'rome'", "cannot batch", "--edit-batch-size 5"]),
        (("batch-single", 10, 5, "memit", True), ["--edit-batch-size 5", "batch-single", "10", "batch-sequential"]),
        (("instance-single", 10, 5, "memit", True), ["--edit-batch-size 5", "instance-single", "leave it out"]),
        (("instance-sequential", 10, 2, "rome", False), ["--edit-batch-size 2", "instance-sequential"]),
        (("batch-sequential", 5, 6, "memit", True), ["--edit-batch-size 6", "the 5 edits", "at most 5"]),
        ((None, 0, None, "memit", True), ["--edit-count 0", "at least 1"]),
        ((None, -3, None, "rome", False), ["--edit-count -3", "at least 1"]),
        (("batch-sequential", 5, 0, "memit", True), ["--edit-batch-size 0", "at least 1"]),
        (("batch-sequential", 0, None, "memit", True), ["--edit-count 0", "at least 1"]),
        (("batch", 5, None, "memit", True), ["--edit-mode 'batch'", "batch-single"]),
        (("instance-sequentiel", 5, None, "rome", False), ["did you mean 'instance-sequential'"]),
    ],
)
def test_invalid_combinations_are_refused(arguments: tuple, parts: list[str]) -> None:
    with pytest.raises(AuditError) as error:
        make_plan(*arguments)
    sentence = str(error.value)
    assert "\n" not in sentence
    assert all(part in sentence for part in parts), sentence


def test_a_plan_needs_exactly_its_count() -> None:
    with pytest.raises(AuditError, match="the edit plan needs 3 edit requests but got 2"):
        EditPlan("instance-single", 3, 1).steps(requests(2))


@given(st.sampled_from(MODES), st.integers(1, 60), st.integers(1, 60))
def test_steps_keep_every_request_once_and_in_order(mode: str, count: int, batch_size: int) -> None:
    size = min(batch_size, count) if mode == "batch-sequential" else None
    plan = make_plan(mode, count, size, "memit", True)
    steps = plan.steps(requests(count))
    assert tuple(request for step in steps for request in step) == requests(count)
    assert all(len(step) <= plan.batch_size for step in steps)
    assert (max(len(step) for step in steps) == 1) or mode in BATCH_MODES
