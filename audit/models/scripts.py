"""Words and spaces by script: Chinese, Japanese, Thai and others write no spaces between words; Korean does."""

import re
import unicodedata

# The beginnings of the Unicode names of characters in scripts without spaces between words.
_UNSPACED = (
    "CJK ", "IDEOGRAPHIC ", "HIRAGANA ", "KATAKANA", "HALFWIDTH KATAKANA", "BOPOMOFO ", "THAI ", "LAO ", "KHMER ",
    "MYANMAR ", "TIBETAN ", "TAI ", "NEW TAI LUE ", "JAVANESE ", "BALINESE ",
)  # fmt: skip
# Symbols in these blocks belong to East Asian scripts; other wide symbols are emoji, which any script may use.
_EAST_ASIAN_BLOCKS = (range(0x2E80, 0x3400), range(0xFE10, 0xFE70))
_PROLONGED = "ー"  # lengthens the sound before it, as in カー


def is_unspaced(mark: str) -> bool:
    """Whether a character is a letter, mark or numeral (but not a digit) of a script without spaces between words."""
    kind = unicodedata.category(mark)
    return kind[0] in "LMN" and kind != "Nd" and unicodedata.name(mark, "").startswith(_UNSPACED)


def split_by_script(word: str) -> list[str]:
    """Split a word into letters of unspaced scripts (with their combining marks) and runs of other characters."""
    parts: list[str] = []
    for mark in word:
        attached = mark == _PROLONGED or unicodedata.category(mark)[0] == "M"
        if parts and (attached or not (is_unspaced(mark) or is_unspaced(parts[-1][0]))):
            parts[-1] += mark
        else:
            parts.append(mark)
    return parts


def words_of(text: str) -> list[str]:
    """The words of a text, without punctuation; each letter of an unspaced script is a word."""
    return [part for word in re.findall(r"\w+", text) for part in split_by_script(word)]


def gap(before: str, after: str) -> str:
    """The space between a prompt and the text after it; empty where the script has none.

    There is no space after a letter of an unspaced script or a wide (East Asian) punctuation mark or symbol. After
    other punctuation and emoji, there is none if the letters on both sides are of unspaced scripts.
    """
    if not before or not after:
        return " "
    last = before[-1]
    letter = next((mark for mark in reversed(before) if mark.isalnum()), last)
    return "" if is_unspaced(last) or _is_wide_mark(last) or (is_unspaced(letter) and is_unspaced(after[0])) else " "


def _is_wide_mark(mark: str) -> bool:
    """Whether a character is a wide (East Asian) punctuation mark or symbol, but not an emoji."""
    width, kind = unicodedata.east_asian_width(mark), unicodedata.category(mark)
    if mark.isalnum() or width not in "FW":
        return False
    return width == "F" or kind[0] == "P" or any(ord(mark) in block for block in _EAST_ASIAN_BLOCKS)
