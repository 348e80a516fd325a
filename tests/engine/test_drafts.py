"""Answers from drafts equal the answers of plain decoding, whatever the drafts are."""

from collections.abc import Callable, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.engine import Decoding
from audit.engine import drafts as drafts_module
from audit.engine.drafts import write_from_drafts
from audit.engine.generation import GeneratedText, end_tokens, write_answers
from audit.engine.lower_blocks import LowerStates
from audit.engine.reuse_counts import ReuseCounts
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.patches import identity_patch
from audit.models.tokens import encode
from tests.engine.reference import mixed_prompts
from tests.engine.test_lower_blocks import blocks_run, edit
from tests.tiny_models import CONTEXT_LENGTH, build_tiny_gpt2, build_tiny_llama

PROMPTS = mixed_prompts(14)
ENDLESS = Decoding(20, stop=())
SIZES = {"nothing": 0.0, "few": 0.01, "most": 0.3, "collapsed": float("nan")}

Drafts = dict[int, tuple[int, ...]]


def drafted(answers: Sequence[GeneratedText]) -> Drafts:
    return {number: one.ids for number, one in enumerate(answers)}


def stopping_at(answers: Sequence[GeneratedText]) -> tuple[str, ...]:
    """Stop strings that occur: two characters from the middle of some answers, possibly across two tokens."""
    pieces = (one.text[at : at + 2] for one, at in zip(answers[::3], (1, 4, 7, 10, 13), strict=True))
    return tuple(piece for piece in pieces if piece)


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def lm(request: pytest.FixtureRequest, tiny_gpt2: LanguageModel, tiny_llama: LanguageModel) -> LanguageModel:
    return tiny_gpt2 if request.param == "gpt2" else tiny_llama


@pytest.mark.parametrize("budget", (90, 8192))
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_an_edited_model_answers_as_it_does_without_drafts(lm: LanguageModel, size: float, budget: int) -> None:
    decoding = ENDLESS if budget == 90 else Decoding(20, stopping_at(write_answers(lm, PROMPTS, ENDLESS)))
    base = write_answers(lm, PROMPTS, decoding)
    states = LowerStates(2)
    for seed, lower in ((1, None), (1, states), (2, states)):
        with edit(lm, 2, seed, size).applied(lm):
            expected = write_answers(lm, PROMPTS, decoding)
            found = write_from_drafts(lm, PROMPTS, drafted(base), decoding, lower=lower, token_budget=budget)
        assert found == expected
        if size == 0.01:
            assert 0 < sum(a != b for a, b in zip(expected, base, strict=True)) < len(PROMPTS)


def test_accepted_drafts_are_not_decoded(lm: LanguageModel) -> None:
    base = write_answers(lm, PROMPTS, ENDLESS)
    states = LowerStates(2)
    write_from_drafts(lm, PROMPTS, drafted(base), ENDLESS, lower=states)
    counts = ReuseCounts()
    with identity_patch().applied(lm), blocks_run(lm) as runs:
        found = write_from_drafts(lm, PROMPTS, drafted(base), ENDLESS, lower=states, counts=counts)
    assert found == base
    assert runs[:2] == [0, 0] and 1 <= runs[2] <= 3  # a few portions, no steps
    assert (counts.drafts_stood, counts.drafts) == (len(PROMPTS), len(PROMPTS))
    assert 3 * counts.block_tokens_shared == 2 * counts.block_tokens


def wrong(ids: tuple[int, ...]) -> tuple[int, ...]:
    return tuple((token + 7) % 300 for token in ids)


@pytest.mark.parametrize(
    "spoil",
    [
        wrong,
        lambda ids: ids[:5] + wrong(ids[5:]),
        lambda ids: ids[:-1] + wrong(ids[-1:]),
        lambda ids: ids + ids + ids,
        lambda ids: ids[:3],
        lambda ids: (),
    ],
    ids=["from the first token", "in the middle", "in the last token", "too long", "too short", "empty"],
)
def test_drafts_may_be_anything(lm: LanguageModel, spoil: Callable[[tuple[int, ...]], tuple[int, ...]]) -> None:
    for decoding in (ENDLESS, Decoding(20, stopping_at(write_answers(lm, PROMPTS, ENDLESS)))):
        expected = write_answers(lm, PROMPTS, decoding)
        drafts = {number: spoil(one.ids) for number, one in enumerate(expected)}
        assert write_from_drafts(lm, PROMPTS, drafts, decoding) == expected


@settings(max_examples=25)
@given(
    st.lists(st.integers(0, 300), max_size=12),
    st.integers(0, 12),
    st.integers(1, 12),
    st.sampled_from([(), ("\n",), ("a",), ("in", " the")]),
)
def test_any_draft_gives_the_greedy_answer(noise: list[int], right: int, room: int, stop: tuple[str, ...]) -> None:
    lm, decoding = TINY, Decoding(room, stop)
    prompts = PROMPTS[:2]
    expected = write_answers(lm, prompts, decoding)
    drafts = {number: (*one.ids[:right], *noise) for number, one in enumerate(expected)}
    assert write_from_drafts(lm, prompts, drafts, decoding) == expected


TINY = build_tiny_gpt2()


def test_a_draft_past_the_end_of_text_ends_there() -> None:
    lm = build_tiny_llama()
    free = write_answers(lm, PROMPTS, ENDLESS)
    lm.model.generation_config.eos_token_id = [free[0].ids[4], 1]
    assert free[0].ids[4] in end_tokens(lm)
    expected = write_answers(lm, PROMPTS, ENDLESS)
    assert len(expected[0].ids) < len(free[0].ids)
    assert write_from_drafts(lm, PROMPTS, drafted(free), ENDLESS) == expected
    assert write_from_drafts(lm, PROMPTS, drafted(expected), ENDLESS) == expected


def test_a_draft_ends_with_the_context(lm: LanguageModel) -> None:
    prompt = "!" * 400
    while len(encode(lm.tokenizer, prompt)) > CONTEXT_LENGTH - 3:
        prompt = prompt[:-1]
    expected = write_answers(lm, [prompt, "Mara"], ENDLESS)
    drafts = {0: (*expected[0].ids, 5, 6, 7, 8), 1: expected[1].ids}
    assert write_from_drafts(lm, [prompt, "Mara"], drafts, ENDLESS) == expected


def test_prompts_without_a_draft_and_identical_prompts_find_their_answers(lm: LanguageModel) -> None:
    prompts = [PROMPTS[0], PROMPTS[1], PROMPTS[0], PROMPTS[2], PROMPTS[0]]
    expected = write_answers(lm, prompts, ENDLESS)
    drafts: Drafts = {0: expected[0].ids, 2: wrong(expected[2].ids), 3: expected[3].ids}
    assert write_from_drafts(lm, prompts, drafts, ENDLESS) == expected


def test_every_answer_is_reported_once_as_it_is_written(lm: LanguageModel) -> None:
    base = write_answers(lm, PROMPTS, ENDLESS)
    batches: list[Mapping[int, GeneratedText]] = []
    seen: list[tuple[int, int]] = []
    with edit(lm, 2, size=0.01).applied(lm):
        found = write_from_drafts(
            lm,
            PROMPTS,
            drafted(base),
            ENDLESS,
            token_budget=90,
            on_batch=batches.append,
            progress=lambda done, of: seen.append((done, of)),
        )
    assert sorted(number for fresh in batches for number in fresh) == list(range(len(PROMPTS)))
    assert all(one == found[number] for fresh in batches for number, one in fresh.items())
    assert len(batches) > 3
    assert seen == sorted(seen) and seen[-1] == (len(PROMPTS), len(PROMPTS))


def test_drafts_are_given_up_when_too_few_tokens_are_accepted(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafts_module, "TRIED", 50)
    expected = write_answers(lm, PROMPTS, ENDLESS)
    drafts = {number: wrong(one.ids) for number, one in enumerate(expected)}
    counts = ReuseCounts()
    assert write_from_drafts(lm, PROMPTS, drafts, ENDLESS, counts=counts, token_budget=90) == expected
    assert counts.drafts_stood == 0 and 0 < counts.drafts < len(PROMPTS) / 2


@pytest.mark.parametrize("limit", [1 << 30, 20_000])
def test_a_common_prefix_is_computed_once(lm: LanguageModel, limit: int) -> None:
    header = "Question: How many coins does Alra have? Answer: She has 3 + 4 = 7 coins. "
    prompts = [header + prompt for prompt in PROMPTS]
    base = write_answers(lm, prompts, ENDLESS)
    states = LowerStates(2, limit_bytes=limit)
    for seed in (1, 2):
        with edit(lm, 2, seed, 0.1).applied(lm):
            expected = write_answers(lm, prompts, ENDLESS)
            assert write_from_drafts(lm, prompts, drafted(base), ENDLESS) == expected
            assert write_from_drafts(lm, prompts, drafted(base), ENDLESS, lower=states, token_budget=300) == expected
    counts = ReuseCounts()
    write_from_drafts(lm, prompts, drafted(base), ENDLESS, counts=counts, lower=states)
    run = counts.block_tokens / lm.anatomy.depth
    whole = sum(len(encode(lm.tokenizer, prompt)) + len(one.ids) for prompt, one in zip(prompts, base, strict=True))
    assert run < (0.8 if limit > 20_000 else 0.9) * whole


def test_a_prompt_without_room_for_an_answer_is_named(lm: LanguageModel) -> None:
    with pytest.raises(AuditError, match=r"^Prompt 1 "):
        write_from_drafts(lm, ["Mara", "!" * 600], {0: (5, 6)}, ENDLESS)
    assert write_from_drafts(lm, [], {}, ENDLESS) == []
