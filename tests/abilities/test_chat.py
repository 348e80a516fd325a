"""Chat templates: one user turn, one BOS, no forced space, and answers that end with the turn."""

from typing import Any

import pytest
import torch

from audit.abilities import ABILITIES, load_ability
from audit.abilities.data.sources import PocketSource, items
from audit.abilities.presentation import ChatAbility, Shot, present_ability, require_chat_template
from audit.engine.generation import end_tokens, generate
from audit.errors import AuditError
from audit.models.tokens import encode, join
from tests.tiny_models import TokenizerKind, build_tiny_llama, build_tokenizer

END = "<|im_end|>\n"
TURNS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WITH_BOS = "{{ bos_token }}" + TURNS
THINKING = TURNS + "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
CLOSED = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}<|im_start|>"


def chatty(kind: TokenizerKind, template: str | None) -> Any:
    tokenizer = build_tokenizer(kind)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("name", ABILITIES)
def test_the_prompt_is_one_turn_of_the_user(name: str) -> None:
    tokenizer, source, plain = chatty("plain", TURNS), PocketSource(), load_ability(name)
    ability = present_ability(name, "standard", source, chat_tokenizer=tokenizer)
    (item,) = items(ability, source, 1, 0)
    assert ability.prompt(item) == f"<|im_start|>user\n{plain.prompt(item)}<|im_end|>\n<|im_start|>assistant\n"
    assert ability.decoding == plain.decoding


def test_worked_examples_are_earlier_turns() -> None:
    shots = (Shot("A?", "yes"), Shot("B?", "no"))
    source = PocketSource()
    ability = ChatAbility(load_ability("closed_qa"), chatty("plain", TURNS), shots)
    (item,) = items(ability, source, 1, 0)
    turns = ability.prompt(item).split("<|im_start|>")
    assert turns[1:5] == [f"user\nA?{END}", f"assistant\nyes{END}", f"user\nB?{END}", f"assistant\nno{END}"]
    assert turns[5] == f"user\n{load_ability('closed_qa').prompt(item)}{END}"
    assert turns[6] == "assistant\n"


@pytest.mark.parametrize(
    ("kind", "template", "count"),
    [
        ("bos", WITH_BOS, 1),  # the template writes it and the tokenizer adds it
        ("bos", TURNS, 1),
        ("metaspace", WITH_BOS, 1),
        ("plain", WITH_BOS, 1),
        ("plain", TURNS, 0),  # a model without BOS
    ],
)
def test_there_is_one_bos(kind: TokenizerKind, template: str, count: int) -> None:
    tokenizer = chatty(kind, template)
    ability = ChatAbility(load_ability("dialogue"), tokenizer)
    (item,) = items(ability, PocketSource(), 1, 0)
    prompt = ability.prompt(item)
    for ids in (encode(tokenizer, prompt), list(join(tokenizer, prompt, item.choices[0]).ids)):
        assert ids.count(tokenizer.bos_token_id) == count
        assert ids[0] == tokenizer.convert_tokens_to_ids(tokenizer.bos_token if count else "<|im_start|>")


@pytest.mark.parametrize("template", [TURNS, CLOSED])
def test_a_choice_begins_its_turn_without_a_space(template: str) -> None:
    tokenizer = chatty("plain", template)
    ability = ChatAbility(load_ability("dialogue"), tokenizer)
    (item,) = items(ability, PocketSource(), 1, 0)
    joined = join(tokenizer, ability.prompt(item), item.choices[0])
    assert tokenizer.decode(list(joined.target_ids)) == item.choices[0]
    assert list(joined.prompt_ids) == encode(tokenizer, ability.prompt(item))


def test_thinking_that_the_template_begins_is_ended() -> None:
    template = TURNS.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
    ability = ChatAbility(load_ability("nli"), chatty("plain", template))
    (item,) = items(ability, PocketSource(), 1, 0)
    assert ability.prompt(item).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_thinking_is_switched_off() -> None:
    ability = ChatAbility(load_ability("nli"), chatty("plain", THINKING))
    (item,) = items(ability, PocketSource(), 1, 0)
    assert ability.prompt(item).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_the_token_that_closes_a_turn_ends_an_answer() -> None:
    lm = build_tiny_llama()
    lm.tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_end|>"]})
    lm.tokenizer.eos_token = "<|im_end|>"
    turn = lm.tokenizer.convert_tokens_to_ids("<|im_end|>")
    lm.model.resize_token_embeddings(len(lm.tokenizer))
    assert lm.model.config.eos_token_id != turn
    assert turn in end_tokens(lm)

    decoding = load_ability("nli").decoding
    assert decoding is not None
    (long,) = generate(lm, ["Velden lies"], decoding)
    first = encode(lm.tokenizer, "Velden lies")
    with torch.no_grad():
        logits = lm.model(torch.tensor([first])).logits[0, -1]
        lm.model.lm_head.weight[turn] = 3 * lm.model.lm_head.weight[logits.argmax()]  # now the likeliest
    assert generate(lm, ["Velden lies"], decoding) == [""]
    assert long


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        (None, "--chat-template: the tokenizer of tiny has no chat template; leave the option out, or choose"),
        ("{{ raise_exception('roles must alternate') }}", "cannot render a prompt (roles must alternate); leave"),
        ("{% if %}", "--chat-template: the chat template of tiny cannot render a prompt ("),
    ],
)
def test_a_tokenizer_without_a_valid_template_gives_an_error_of_one_sentence(
    template: str | None, complaint: str
) -> None:
    with pytest.raises(AuditError) as caught:
        require_chat_template(chatty("plain", template), "tiny")
    assert complaint in str(caught.value)
    require_chat_template(chatty("plain", TURNS), "tiny")
