import dataclasses
import random
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from audit.engine import Decoding
from audit.engine.generation import StopStrings, end_tokens, generate, next_token
from audit.errors import AuditError
from audit.models.anatomy import find_anatomy
from audit.models.language_model import LanguageModel
from audit.models.tokens import encode
from tests.engine.reference import BUDGETS, greedy_ids, greedy_text, mixed_prompts
from tests.tiny_models import CONTEXT_LENGTH, build_tiny_llama, build_tokenizer

ENDLESS = Decoding(20, stop=())


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def lm(request: pytest.FixtureRequest, tiny_gpt2: LanguageModel, tiny_llama: LanguageModel) -> LanguageModel:
    return tiny_gpt2 if request.param == "gpt2" else tiny_llama


@pytest.fixture(scope="module")
def prompts() -> list[str]:
    return mixed_prompts(14)


@pytest.fixture(scope="module")
def one_by_one(lm: LanguageModel, prompts: list[str]) -> list[str]:
    return [greedy_text(lm, prompt, ENDLESS, end_tokens(lm)) for prompt in prompts]


@pytest.mark.parametrize("budget", BUDGETS)
def test_answers_equal_those_of_one_prompt_at_a_time_without_padding_or_cache(
    lm: LanguageModel, prompts: list[str], one_by_one: list[str], budget: int
) -> None:
    assert len(set(one_by_one)) > 5
    assert generate(lm, prompts, ENDLESS, token_budget=budget) == one_by_one


def test_answers_follow_their_prompts_in_any_order(lm: LanguageModel, prompts: list[str]) -> None:
    answers = dict(zip(prompts, generate(lm, prompts, ENDLESS), strict=True))
    shuffled = random.Random(1).sample(prompts, len(prompts))
    assert generate(lm, shuffled, ENDLESS, token_budget=300) == [answers[prompt] for prompt in shuffled]
    assert [generate(lm, [prompt], ENDLESS)[0] for prompt in prompts[:3]] == [answers[p] for p in prompts[:3]]


def test_answers_are_those_of_transformers(lm: LanguageModel, prompts: list[str]) -> None:
    expected = []
    for prompt in prompts:
        ids = encode(lm.tokenizer, prompt)
        output = lm.model.generate(
            input_ids=torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
            max_new_tokens=20,
            do_sample=False,
            pad_token_id=0,
        )
        expected.append(lm.tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True))
    assert generate(lm, prompts, ENDLESS) == expected


def test_stop_strings_end_rows_at_different_times(lm: LanguageModel, prompts: list[str]) -> None:
    whole = generate(lm, prompts, ENDLESS)
    # Stop strings that occur: two characters from the middle of some answers, which may lie across two tokens.
    stop = tuple(text[at : at + 2] for text, at in zip(whole[::3], (1, 4, 7, 10, 13), strict=True) if text[at : at + 2])
    decoding = Decoding(20, stop)
    answers = generate(lm, prompts, decoding, token_budget=500)
    assert answers == [greedy_text(lm, prompt, decoding, end_tokens(lm)) for prompt in prompts]
    assert answers != whole
    assert not any(end in answer for answer in answers for end in stop)


@pytest.mark.parametrize("owner", ["generation_config", "config", "tokenizer"])
def test_an_end_of_text_token_ends_a_row_wherever_it_is_configured(prompts: list[str], owner: str) -> None:
    lm = build_tiny_llama()
    whole = generate(lm, prompts, ENDLESS)
    token = greedy_ids(lm, prompts[0], 3, end_tokens(lm))[-1]
    if owner == "tokenizer":
        lm.tokenizer.eos_token_id = token
    else:
        getattr(lm.model, owner).eos_token_id = [token, 1]
    ends = end_tokens(lm)
    assert token in ends
    answers = generate(lm, prompts, ENDLESS)
    assert answers == [greedy_text(lm, prompt, ENDLESS, ends) for prompt in prompts]
    assert answers[0] != whole[0]


def test_identical_prompts_are_computed_once(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _watch_calls(lm, monkeypatch)
    answers = generate(lm, ["Mara Lind"] * 5 + ["The harbour"], Decoding(3, ()))
    assert answers[:5] == [answers[0]] * 5
    assert rows[0]["input_ids"].shape[0] == 2


def test_the_model_gets_only_tokens_masks_and_positions(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _watch_calls(lm, monkeypatch)
    generate(lm, ["Mara Lind was born in Velden", "Mara"], Decoding(3, ()))
    allowed = {"input_ids", "attention_mask", "position_ids", "past_key_values", "use_cache", "logits_to_keep"}
    assert all(set(call) <= allowed for call in calls)
    lengths = calls[0]["attention_mask"].sum(dim=1)
    assert calls[0]["position_ids"][:, -1].tolist() == (lengths - 1).tolist()
    assert calls[1]["position_ids"][:, 0].tolist() == lengths.tolist()


def test_rows_that_finish_leave_the_batch(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = mixed_prompts(14)[:-1]
    text = generate(lm, prompts, ENDLESS)[0]
    calls = _watch_calls(lm, monkeypatch)
    generate(lm, prompts, Decoding(20, tuple(set(text) | set("aeiou "))))
    sizes = [call["input_ids"].shape[0] for call in calls]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0]


def test_a_collapsed_row_answers_nothing_and_does_not_change_its_neighbours(prompts: list[str]) -> None:
    lm = build_tiny_llama()  # its head is not tied to its embeddings
    before = generate(lm, prompts, ENDLESS)
    whole = build_tiny_llama()
    token = lm.tokenizer(" Mara", add_special_tokens=False)["input_ids"][0]
    lm.model.get_input_embeddings().weight[token] = float("nan")
    after = generate(lm, prompts, ENDLESS)
    ends = end_tokens(whole)
    read = [encode(lm.tokenizer, prompt) + greedy_ids(whole, prompt, 20, ends)[:-1] for prompt in prompts]
    broken = [token in ids for ids in read]
    assert 0 < sum(broken) < len(prompts)
    assert after == ["" if bad else text for bad, text in zip(broken, before, strict=True)]


def test_a_prompt_that_fills_the_context_is_named(lm: LanguageModel) -> None:
    with pytest.raises(AuditError, match=rf"^Prompt 1 .* the context of {lm.name} holds {CONTEXT_LENGTH}; shorten it"):
        generate(lm, ["Mara", "!" * 600], ENDLESS)


def test_an_answer_ends_with_the_context(lm: LanguageModel) -> None:
    prompt = "!" * 400
    while len(encode(lm.tokenizer, prompt)) > CONTEXT_LENGTH - 3:
        prompt = prompt[:-1]
    room = CONTEXT_LENGTH - len(encode(lm.tokenizer, prompt))
    ends = end_tokens(lm)
    short = mixed_prompts(9)  # enough for the long row to wait for others before it leaves
    answers = generate(lm, [prompt, *short], ENDLESS)
    assert answers[0] == greedy_text(lm, prompt, Decoding(room, ()), ends)
    assert answers[1:] == [greedy_text(lm, text, ENDLESS, ends) for text in short]


def test_an_empty_prompt_needs_a_beginning_of_text_token(tiny_gpt2: LanguageModel, tiny_llama: LanguageModel) -> None:
    assert generate(tiny_llama, [""], ENDLESS) == [greedy_text(tiny_llama, "", ENDLESS, end_tokens(tiny_llama))]
    with pytest.raises(AuditError, match="Prompt 0 is empty"):
        generate(tiny_gpt2, [""], ENDLESS)


def test_no_prompts_give_no_answers(lm: LanguageModel) -> None:
    assert generate(lm, [], ENDLESS) == []


@pytest.mark.parametrize("decoding", [Decoding(0), Decoding(3, ("",))])
def test_invalid_decodings_are_refused(tiny_gpt2: LanguageModel, decoding: Decoding) -> None:
    with pytest.raises(AuditError, match="must"):
        generate(tiny_gpt2, ["Mara"], decoding)


def test_progress_counts_prompts(lm: LanguageModel, prompts: list[str]) -> None:
    seen: list[tuple[int, int]] = []
    generate(lm, prompts, Decoding(2, ()), token_budget=60, progress=lambda done, of: seen.append((done, of)))
    assert len(seen) > 2
    assert seen == sorted(seen)
    assert seen[-1] == (len(prompts), len(prompts))


FAMILIES: dict[str, tuple[type[PreTrainedModel], type, dict[str, Any]]] = {
    "neox": (GPTNeoXForCausalLM, GPTNeoXConfig, {"intermediate_size": 64}),
    "opt": (OPTForCausalLM, OPTConfig, {"ffn_dim": 64, "word_embed_proj_dim": 32, "pad_token_id": 1, "init_std": 0.2}),
    "bloom, which takes no positions": (BloomForCausalLM, BloomConfig, {}),
    "mistral with a window shorter than the prompts": (
        MistralForCausalLM,
        MistralConfig,
        {"intermediate_size": 64, "num_key_value_heads": 2, "sliding_window": 9},
    ),
    "gemma2 with capped logits": (
        Gemma2ForCausalLM,
        Gemma2Config,
        {
            "intermediate_size": 64,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "sliding_window": 9,
            "attn_logit_softcapping": None,
        },
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_no_answer_in_other_families(tiny_llama: LanguageModel, family: str) -> None:
    model_class, config_class, extra = FAMILIES[family]
    sizes = {"vocab_size": len(tiny_llama.tokenizer), "hidden_size": 32, "num_hidden_layers": 2}
    config = config_class(**({**sizes, "num_attention_heads": 4, "initializer_range": 0.2} | extra))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = model_class(config).eval().requires_grad_(False)
    lm = dataclasses.replace(tiny_llama, name=family, model=model, anatomy=find_anatomy(model))
    prompts = mixed_prompts(6)
    decoding = Decoding(12, ())
    expected = [greedy_text(lm, prompt, decoding, end_tokens(lm)) for prompt in prompts]
    assert len(set(expected)) > 1
    assert generate(lm, prompts, decoding) == expected


def byte_fallback_tokenizer() -> PreTrainedTokenizerFast:
    """As Llama 2's: a newline and every rare character are spelled in bytes, `▁` is a space."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"Marindx"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    words = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    words.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    words.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")


@pytest.mark.parametrize("build", [build_tokenizer, byte_fallback_tokenizer])
@pytest.mark.parametrize("stop", ["\n", "ind", "é", " M", "M ", "東", "\n\n"])
def test_a_stop_string_is_found_with_the_token_that_completes_it(build: Any, stop: str) -> None:
    tokenizer = build()
    stopping = StopStrings(tokenizer, (stop,))
    text = f"Mara{stop}x"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    completed = next(n for n in range(1, len(ids) + 1) if stop in stopping.decode(ids[:n]))
    assert stopping.may_complete(ids[completed - 1])
    assert stopping.cut(stopping.decode(ids)) == ("Mara", True)


def test_the_earliest_stop_string_cuts() -> None:
    stopping = StopStrings(build_tokenizer(), ("\n", "b"))
    assert stopping.cut("a b\nc") == ("a ", True)
    assert stopping.cut("a\nb") == ("a", True)
    assert stopping.cut("a c") == ("a c", False)


@pytest.mark.parametrize(
    ("text", "answer", "stopped"),
    [
        ("\nParis\nQuestion", "\nParis", True),  # the line break before the first visible character does not count
        ("\n \n Paris", "\n \n Paris", False),
        ("\n\n", "\n\n", False),
        ("\nQ: next", "", True),  # a stop string with visible characters does
        ("<think>\nIs it Paris?\n", "<think>\nIs it Paris?\n", False),
        ("<think>\nQ: Is it Paris?\n</think>\n\nParis\nx", "<think>\nQ: Is it Paris?\n</think>\n\nParis", True),
        ("It is so.\n</think>\nParis", "It is so.", True),  # nothing shows that this is thinking while it is written
    ],
)
def test_stop_strings_count_from_the_first_visible_character_of_the_answer(
    text: str, answer: str, stopped: bool
) -> None:
    stopping = StopStrings(build_tokenizer(), ("\n", "\nQ:"))
    written = next((cut for n in range(len(text) + 1) if (cut := stopping.cut(text[:n]))[1]), stopping.cut(text))
    assert written == (answer, stopped)


def test_an_answer_after_an_empty_line_is_written_to_its_end() -> None:
    tokenizer = build_tokenizer()
    stopping, written = StopStrings(tokenizer, ("\n",)), list[int]()
    ids = tokenizer("\n\n Mara Lind\nQuestion", add_special_tokens=False)["input_ids"]
    ends = [next_token(written, token, 50, stopping, frozenset()) for token in ids]
    assert next(text for text in ends if text is not None) == "\n\n Mara Lind"


def _watch_calls(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    original = lm.model.forward

    def forward(**arguments: Any) -> Any:
        calls.append(arguments)
        return original(**arguments)

    monkeypatch.setattr(lm.model, "forward", forward)
    return calls
