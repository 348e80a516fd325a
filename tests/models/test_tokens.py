"""Joint tokenization of prompt and target: one BOS, and the position of the subject's last token."""

import os
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from audit.errors import AuditError
from audit.models.scripts import gap
from audit.models.tokens import JoinedTokens, encode, join, subject_last, target_ids, text_after_subject
from tests.tiny_models import TokenizerKind, build_tokenizer

KINDS = get_args(TokenizerKind)
SHARED = Path(os.environ.get("AUDIT_SHARED", Path(__file__).resolve().parents[3] / "shared"))

kinds = st.sampled_from(KINDS)
texts = st.text(alphabet="abMZ 09.,?#'\"-{}\néß東🙂", max_size=24)
words = st.text(alphabet="abMZ09.'{}é東🙂", min_size=1, max_size=8)


@cache
def tokenizer_of(kind: TokenizerKind) -> Any:
    return build_tokenizer(kind)


@given(kinds, texts, texts)
def test_joining_is_encoding_the_whole_and_cutting_before_the_target(
    kind: TokenizerKind, prompt: str, target: str
) -> None:
    target += "a"  # never empty
    tokenizer = tokenizer_of(kind)
    joined = join(tokenizer, prompt, target)

    prompt, target = prompt.rstrip(" "), target.lstrip(" ")
    afresh = not prompt or prompt[-1].isspace()  # no space after a line break, or before the first word
    assert list(joined.ids) == encode(tokenizer, prompt + ("" if afresh else gap(prompt, target)) + target)
    assert joined.prompt_ids + joined.target_ids == joined.ids
    assert decode(tokenizer, joined.target_ids).endswith(target)
    # Nothing of the target is left in the prompt's tokens: a token that straddles the boundary went to the target.
    # (Decoding a SentencePiece-like text leaves out a space at its very start.)
    assert prompt.lstrip(" ").startswith(decode(tokenizer, joined.prompt_ids).lstrip(" "))


@given(kinds, texts, texts)
def test_spaces_at_the_joint_do_not_matter(kind: TokenizerKind, prompt: str, target: str) -> None:
    tokenizer = tokenizer_of(kind)
    assert join(tokenizer, prompt, target + "a") == join(tokenizer, prompt + "  ", "  " + target + "a")


@given(kinds, st.lists(words), words, st.lists(words), st.lists(words))
def test_the_subjects_last_token_ends_where_the_subject_ends(
    kind: TokenizerKind, before: list[str], subject: str, after: list[str], prefix: list[str]
) -> None:
    tokenizer = tokenizer_of(kind)
    head, tail = (" ".join(word.replace("{", "") or "a" for word in side) for side in (before, after))
    prompt = f"{head} {{}} {tail}".strip()
    front = "".join(f"{word}. " for word in prefix)
    index = subject_last(tokenizer, prompt, subject, front)

    question = front + (f"{head} {subject}" if head else subject)
    ids = encode(tokenizer, f"{question} {tail}".rstrip() if tail else question)
    assert decode(tokenizer, ids[: index + 1]) == question
    assert decode(tokenizer, ids[:index]) != question


@pytest.mark.parametrize("kind", KINDS)
def test_one_space_separates_prompt_and_target(kind: TokenizerKind) -> None:
    tokenizer = tokenizer_of(kind)
    joined = join(tokenizer, "Mara Lind was born ", " in")
    assert decode(tokenizer, joined.ids) == "Mara Lind was born in"
    assert list(joined.prompt_ids) == encode(tokenizer, "Mara Lind was born")
    assert target_ids(tokenizer, "Mara Lind was born", "in") == joined.target_ids
    # No lone space mark: the first target token holds the space and a letter.
    first = tokenizer.convert_ids_to_tokens(joined.target_ids[0])
    assert first[0] in "Ġ▁"
    assert len(first) > 1


@pytest.mark.parametrize(("kind", "front"), [("plain", []), ("bos", ["<s>"]), ("metaspace", ["<s>"])])
def test_the_bos_occurs_once_and_never_in_the_target(kind: TokenizerKind, front: list[str]) -> None:
    tokenizer = tokenizer_of(kind)
    bos = tokenizer.convert_tokens_to_ids("<s>")
    joined = join(tokenizer, "The company", "moved")
    assert tokenizer.convert_ids_to_tokens(joined.ids[: len(front)]) == front
    assert joined.ids.count(bos) == len(front)
    assert joined.prompt_ids[: len(front)] == joined.ids[: len(front)]


@pytest.mark.parametrize("kind", ["bos", "metaspace"])
def test_a_bos_in_the_text_is_not_doubled(kind: TokenizerKind) -> None:
    tokenizer = tokenizer_of(kind)
    bos = tokenizer.bos_token_id
    ids = encode(tokenizer, "<s>Mara Lind")
    assert ids[0] == bos
    assert ids.count(bos) == 1
    assert join(tokenizer, "<s>Mara", "Lind").ids.count(bos) == 1


def test_a_closing_eos_is_left_out() -> None:
    tokenizer = build_tokenizer("bos")
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A <|endoftext|>", special_tokens=[("<s>", bos), ("<|endoftext|>", eos)]
    )
    assert tokenizer("Mara Lind")["input_ids"][-1] == eos
    assert encode(tokenizer, "Mara Lind") == encode(tokenizer_of("bos"), "Mara Lind")
    assert join(tokenizer, "Mara", "Lind") == join(tokenizer_of("bos"), "Mara", "Lind")
    assert encode(tokenizer, "") == [bos]


def test_an_eos_in_the_text_is_kept() -> None:
    tokenizer = tokenizer_of("plain")
    assert encode(tokenizer, "Mara<|endoftext|>")[-1] == tokenizer.eos_token_id


def test_a_token_across_the_boundary_belongs_to_the_target() -> None:
    """Byte tokens, plus one that covers the prompt's last letter, the space and the target's first letter."""

    class Straddling:
        is_fast = True
        bos_token_id = None
        all_special_tokens = ()

        def __call__(self, text: str, **_settings: Any) -> dict[str, list[Any]]:
            assert text == "ab cd"
            spans = [(0, 1), (1, 4), (4, 5)]
            return {"input_ids": [10, 11, 12], "offset_mapping": spans, "special_tokens_mask": [0, 0, 0]}

    assert join(Straddling(), "ab", "cd") == JoinedTokens((10, 11, 12), prompt_length=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["assistant\n", "\t", "assistant<|endoftext|>"])
def test_after_a_line_break_or_a_special_token_the_target_begins_without_a_space(kind: TokenizerKind, end: str) -> None:
    tokenizer = tokenizer_of(kind)
    joined = join(tokenizer, f"Mara: {end}", "Velden")
    assert list(joined.ids) == encode(tokenizer, f"Mara: {end}Velden")
    assert list(joined.prompt_ids) == encode(tokenizer, f"Mara: {end}")


def test_an_empty_prompt_gets_no_space() -> None:
    joined = join(tokenizer_of("plain"), "", "Velden")
    assert joined.prompt_length == 0
    assert list(joined.ids) == encode(tokenizer_of("plain"), "Velden")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("prompt", "target", "text"),
    [
        ("日本の首都は", "東京", "日本の首都は東京"),
        ("日本の首都は ", " 東京", "日本の首都は東京"),
        ("The capital is", "東京", "The capital is 東京"),
        ("한국의 수도는", "서울", "한국의 수도는 서울"),
    ],
)
def test_no_space_separates_prompt_and_target_in_a_script_without_spaces(
    kind: TokenizerKind, prompt: str, target: str, text: str
) -> None:
    assert decode(tokenizer_of(kind), join(tokenizer_of(kind), prompt, target).ids) == text


@pytest.mark.parametrize("kind", KINDS)
def test_braces_in_subject_and_prefix_are_ordinary_text(kind: TokenizerKind) -> None:
    tokenizer = tokenizer_of(kind)
    index = subject_last(tokenizer, "The harbour of {} lies", "A{}B", prefix="{0} {x}. ")
    ids = encode(tokenizer, "{0} {x}. The harbour of A{}B lies")
    assert decode(tokenizer, ids[: index + 1]) == "{0} {x}. The harbour of A{}B"


def test_a_subject_that_occurs_twice_is_found_where_the_braces_are() -> None:
    tokenizer = tokenizer_of("plain")
    index = subject_last(tokenizer, "Velden is not {} but", "Velden")
    assert decode(tokenizer, encode(tokenizer, "Velden is not Velden but")[: index + 1]) == "Velden is not Velden"


def test_a_token_that_covers_letters_after_the_subject_is_an_error() -> None:
    tokenizer = tokenizer_of("plain")
    tokens = tokenizer.convert_ids_to_tokens(encode(tokenizer, "How many coins are"))
    with pytest.raises(AuditError) as caught:
        subject_last(tokenizer, "How many {}s are", "coin")
    for named in ("'coin'", "'How many coins are'", str(tokens)):
        assert named in str(caught.value)


@cache
def gpt2_like() -> PreTrainedTokenizerFast:
    """Byte-level BPE with some of GPT-2's tokens that join the punctuation of a subject and of its prompt."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [(")", "?"), (".", "?"), ("!", "?"), (".", ","), ("a", "b")]
    vocabulary = {token: number for number, token in enumerate([*alphabet, *map("".join, merges)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("subject", "prompt", "last", "after"),
    [
        ("Goin' Ape!", "Who made {}?", "!?", "?"),
        ("Marl (film)", "What is {}?", ")?", "?"),
        ("Acme Inc.", "Who owns {}?", ".?", "?"),
        ("Acme Inc.", "{}, which is in", ".,", ","),
        ("Acme Inc.", "{} is in", ".", ""),
        ("Mara", "Who is {}?", "a", ""),
    ],
)
def test_punctuation_after_the_subject_may_be_in_its_last_token(
    subject: str, prompt: str, last: str, after: str
) -> None:
    tokenizer = gpt2_like()
    index = subject_last(tokenizer, prompt, subject)
    ids = encode(tokenizer, prompt.replace("{}", subject))
    assert tokenizer.convert_ids_to_tokens(ids)[index] == last
    assert text_after_subject(tokenizer, prompt, subject) == after


def test_letters_after_the_subject_are_not_taken_into_its_last_token() -> None:
    with pytest.raises(AuditError, match=r"no token of .* ends where the subject ends"):
        subject_last(gpt2_like(), "{}b is", "Mara")


@pytest.mark.parametrize(("prompt", "places"), [("Mara lives in", 0), ("{} knows {}", 2)])
def test_a_prompt_needs_exactly_one_placeholder(prompt: str, places: int) -> None:
    with pytest.raises(AuditError, match=f"has {places} placeholders for the subject"):
        subject_last(tokenizer_of("plain"), prompt, "Mara")


def test_an_empty_subject_and_an_empty_target_are_errors() -> None:
    with pytest.raises(AuditError, match=r"the subject of the prompt '{} is' is empty"):
        subject_last(tokenizer_of("plain"), "{} is", " ")
    with pytest.raises(AuditError, match="the target after the prompt 'Mara is' is empty"):
        join(tokenizer_of("plain"), "Mara is", "  ")


def test_a_tokenizer_without_offsets_encodes_but_cannot_join() -> None:
    slow = SimpleNamespace(is_fast=False, all_special_tokens=())
    with pytest.raises(AuditError, match="SimpleNamespace has no character offsets"):
        join(slow, "Mara is", "here")
    with pytest.raises(AuditError, match="SimpleNamespace has no character offsets"):
        subject_last(slow, "{} is", "Mara")


def test_the_golden_models_targets_are_those_of_a_leading_space() -> None:
    """The official ROME code encodes " target" by itself; joint tokenization must agree with it there."""
    folder = SHARED / "data" / "golden" / "model"
    if not (folder / "tokenizer.json").is_file():
        pytest.skip(f"no golden tokenizer in {folder}")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    for prompt, target in [
        ("Kara Quinwick works for", "Hexatech"),
        ("The mother tongue of Kamo Quinford is", "Elvian"),
    ]:
        joined = join(tokenizer, prompt, target)
        assert list(joined.prompt_ids) == tokenizer(prompt)["input_ids"]
        assert list(joined.target_ids) == tokenizer(" " + target)["input_ids"]


def decode(tokenizer: Any, ids: Any) -> str:
    text: str = tokenizer.decode(list(ids), skip_special_tokens=True)
    return text
