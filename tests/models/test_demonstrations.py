"""The text in front of a prompt, and the room that is left for the answer."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import AuditError
from audit.models.demonstrations import Demonstrations, NewFact
from audit.models.language_model import LanguageModel
from audit.models.patches import ModulePatch, originals_kept
from audit.models.tokens import encode
from tests.tiny_models import CONTEXT_LENGTH, CORPUS, build_tiny_llama

FACTS = (
    NewFact("The mother tongue of Danielle Darrieux is", "Velden"),
    NewFact("Mara Lind was born in", "New Avaria"),
    NewFact("Kara Quinwick plays the", "café"),
)
Told = Callable[..., Demonstrations]


def told(
    *,
    facts: tuple[NewFact, ...] = FACTS,
    style: str = "published",
    count: int = 16,
    repeats: int = 1,
    length: int | None = None,
    answer_room: int = 8,
) -> Demonstrations:
    return Demonstrations(facts, style, count, repeats, length, answer_room)


@pytest.fixture
def asking(tiny_llama: LanguageModel) -> Iterator[Callable[[Demonstrations, str], str]]:
    with originals_kept(tiny_llama) as originals:

        def ask(demonstrations: Demonstrations, prompt: str) -> str:
            originals.attach(demonstrations)
            return tiny_llama.full_prompt(prompt)

        yield ask


def test_the_most_similar_fact_comes_last(asking: Callable[[Demonstrations, str], str]) -> None:
    text = asking(told(), "Where was Mara Lind born?")
    assert text.endswith("New Fact: Mara Lind was born in New Avaria\nPrompt: Where was Mara Lind born?")
    assert text.count("New Fact:") == 3
    assert "Danielle Darrieux is Velden" in text and "plays the café" in text


def test_the_plain_style_repeats_the_most_similar_fact(asking: Callable[[Demonstrations, str], str]) -> None:
    text = asking(told(style="plain", count=2, repeats=3), "Kara Quinwick plays the")
    sentence = "Kara Quinwick plays the café.\n"
    assert text.endswith(3 * sentence + "Kara Quinwick plays the")
    assert text.count("\n") == 4


def test_only_the_latest_edit_of_a_prompt_is_used(asking: Callable[[Demonstrations, str], str]) -> None:
    again = NewFact(FACTS[1].prompt, "Belton")
    text = asking(told(facts=(*FACTS, again), style="plain"), FACTS[1].prompt)
    assert "New Avaria" not in text and text.endswith(f"{again.sentence}.\n{FACTS[1].prompt}")


def test_of_equally_similar_facts_the_latest_edit_comes_first() -> None:
    again = NewFact(FACTS[0].prompt, "Belton")
    assert told().ranked("3 + 4 =") == list(reversed(FACTS))
    assert told(facts=(*FACTS, again)).ranked("3 + 4 =") == [again, FACTS[2], FACTS[1]]


def test_facts_in_a_script_without_spaces_are_ranked_and_written_without_spaces(
    asking: Callable[[Demonstrations, str], str],
) -> None:
    facts = (NewFact("北京的市长是", "王林"), NewFact("東京の知事は", "田中"), NewFact("上海的大学是", "林王"))
    text = asking(told(facts=facts, style="plain", count=1, repeats=1), "北京在哪里")
    assert text == "北京的市长是王林.\n北京在哪里"


def test_prompts_without_a_common_word_get_demonstrations_too(
    asking: Callable[[Demonstrations, str], str],
) -> None:
    assert asking(told(count=1), "3 + 4 =").startswith("New Fact: ")


def test_the_least_similar_are_dropped_first(
    tiny_llama: LanguageModel, asking: Callable[[Demonstrations, str], str]
) -> None:
    prompt = FACTS[0].prompt
    whole = asking(told(style="plain"), prompt)
    needed = len(encode(tiny_llama.tokenizer, whole))
    shorter = asking(told(style="plain", length=needed + 7, answer_room=8), prompt)
    assert shorter == whole.split("\n", 1)[1]
    assert asking(told(style="plain", length=needed + 8, answer_room=8), prompt) == whole
    assert asking(told(style="plain", length=10, answer_room=8), prompt) == prompt


LLAMA = build_tiny_llama(layers=1)


@given(
    st.lists(st.sampled_from(CORPUS), min_size=1, max_size=12),
    st.lists(st.sampled_from(" ".join(CORPUS).split(" ")), min_size=1, max_size=60),
    st.sampled_from(["published", "plain"]),
    st.integers(1, 20),
    st.integers(1, CONTEXT_LENGTH),
)
def test_the_context_is_never_exceeded(
    questions: list[str], words: list[str], style: str, repeats: int, answer_room: int
) -> None:
    facts = tuple(NewFact(question, "Velden") for question in questions)
    prompt = " ".join(words)
    demonstrations = told(facts=facts, style=style, repeats=repeats, length=CONTEXT_LENGTH, answer_room=answer_room)
    with ModulePatch((demonstrations,)).applied(LLAMA):
        asked = LLAMA.full_prompt(prompt)
    assert asked.endswith(prompt)
    assert asked == prompt or len(encode(LLAMA.tokenizer, asked)) + answer_room <= CONTEXT_LENGTH


def test_demonstrations_need_a_model_to_count_tokens() -> None:
    with pytest.raises(AuditError, match="apply their patch to a model first"):
        told().full_prompt("Kara Quinwick plays the")
