"""Comparison of short answers: the normalization that edit requests and measures share."""

import re
import unicodedata

from audit.models.scripts import split_by_script

_APOSTROPHE = re.compile("['\u2019`\u00b4]")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_INITIAL = re.compile(r"(?<=\b[^\W\d])\.")  # U.S. -> US, but "Paris.The" stays two words
_FULL_STOP = re.compile(r"\.(?!\d)")
_HYPHEN = re.compile(r"(?<=\S)-|-(?!\d)")  # "non-partisan" is two words; "-5" keeps its sign
_KEPT_PUNCTUATION = frozenset("#%&.-")  # C# is not C, 5 % is not 5
_ARTICLES = frozenset({"a", "an", "the"})


def answer_words(text: str) -> tuple[str, ...]:
    """The case-folded words of an answer without punctuation.

    In a script without spaces between words (Chinese, Japanese, Thai and others), each letter is a word. Marks that
    distinguish answers stay (`C#`, `C++`, `5%`, `3.5`, `-5`). A text of punctuation only is kept as it is, so that it
    equals only itself.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    plain = _THOUSANDS.sub("", _APOSTROPHE.sub("", folded))
    plain = _HYPHEN.sub(" ", _FULL_STOP.sub(" ", _INITIAL.sub("", plain)))
    words = "".join(" " if _is_dropped(mark) else mark for mark in plain).split()
    return tuple(part for word in words or folded.split() for part in split_by_script(word))


def without_article(words: tuple[str, ...]) -> tuple[str, ...]:
    """The words without a leading article. Other articles stay: "Vitamin A" is not "Vitamin C"."""
    return words[1:] if len(words) > 1 and words[0] in _ARTICLES else words


def same_answer(one: str, other: str) -> bool:
    """Whether two answers have equal words, apart from a leading article; the measures treat them as equal."""
    return without_article(answer_words(one)) == without_article(answer_words(other))


def begins_with(text: str, target: str) -> bool:
    """Whether `text` starts with the words of `target` ("Englishman" does not start with "English").

    No text starts with an empty target.
    """
    words, start = answer_words(text), answer_words(target)
    return _is_prefix(start, words) or _is_prefix(without_article(start), without_article(words))


def same_opening(one: str, other: str, words: int) -> bool:
    """Whether the first `words` words of two answers are equal, apart from a leading article."""
    return without_article(answer_words(one))[:words] == without_article(answer_words(other))[:words]


def _is_prefix(start: tuple[str, ...], words: tuple[str, ...]) -> bool:
    return bool(start) and words[: len(start)] == start


def _is_dropped(mark: str) -> bool:
    return unicodedata.category(mark).startswith("P") and mark not in _KEPT_PUNCTUATION
