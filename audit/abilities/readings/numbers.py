"""Reading by answers: the number that a text gives as its answer.

    final_number("She makes $1,234.50 a day.")    "1234.50"
    only_number("1 1/2")                          "3/2", for golds

Numbers are returned as text that `fractions.Fraction` reads exactly: "1234.50", "-3", "3/2".
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction

MOST_DIGITS = 300  # a longer number, or a larger power of ten, is not read

_DASH = "[-\u2212\u2013]"
_CURRENCY = "[$\u20ac\u00a3\u00a5\u20b9]"
_SPACE = "[\u00a0\u202f\u2009]"  # in thousands
_VULGAR = {
    "\u00bd": "1/2", "\u00bc": "1/4", "\u00be": "3/4", "\u2153": "1/3", "\u2154": "2/3", "\u2155": "1/5",
    "\u2156": "2/5", "\u2157": "3/5", "\u2158": "4/5", "\u2159": "1/6", "\u215a": "5/6", "\u215b": "1/8",
    "\u215c": "3/8", "\u215d": "5/8", "\u215e": "7/8",
}  # fmt: skip
_WORDS = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_NUMBER = re.compile(
    rf"""
    (?P<minus>{_DASH}[ \t]*)? {_CURRENCY}? [ \t]* (?P<inner>[-\u2212](?=[\d.\\]))?
    (?:
        \\d?frac(?:\{{\s*(?P<over>\d+)\s*\}}\{{\s*(?P<under>\d+)\s*\}}|(?P<upper>\d)(?P<lower>\d))
      | (?:(?P<whole>\d+)[ ]+)? (?P<top>\d+)[ ]?[/\u2044][ ]?(?P<bottom>\d+) (?![/\d])
      | (?P<before>\d+)?[ ]? (?P<vulgar>[{"".join(_VULGAR)}])
      | (?P<comma> \d{{1,3}}(?:\.\d{{3}})+,(?:\d+|[-\u2013]) | \d{{1,3}}(?:\.\d{{3}}){{2,}}
          | \d{{1,3}}(?:{_SPACE}\d{{3}})+(?:,\d+)?
          | (?<![\d],)(?<!\d)\d+,\d{{1,2}}(?![\d,]) ) (?!\d)
      | (?P<point> \d{{1,2}}(?:,\d{{2}})+,\d{{3}}(?!\d)(?:\.\d+)? | \d{{1,3}}(?:[,'\u2019_]\d{{3}})+(?!\d)(?:\.\d+)?
          | (?:\d+(?:\.\d+)?|\.\d+) )
        (?P<e>[eE][-+]?\d+)?
    )
    (?:
        [ ]?(?:[x\u00d7*]|\\times|\\cdot)[ ]?10[ ]?\^[ ]?\{{?(?P<power>[-+]?\d+)\}}?
      | [ ](?P<word>{"|".join(_WORDS)})\b | (?P<k>[kK])\b | (?P<half>[ ]and[ ]a[ ]half)\b
    )?
    """,
    re.VERBOSE,
)
_SPACED = re.compile(r"\W*(?:(?<=-)|\b)\d{1,3}(?: \d{3})+\W*")  # thousands with plain spaces, if there is nothing else
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_HEADING = re.compile(
    r"\W*(?:(?:step|part|phase|section|question|problem)\s*\d|\d+\s*[.):]\s+\W*[^\W\d])", re.IGNORECASE
)
_COUNTED_HEADING = re.compile(
    r"^#+\s*\W*(?:step|part|phase|section)?\s*\d+\s*[.):](?=\s)|^\W*(?:step|part|phase|section)\s*\d+\b",
    re.I | re.MULTILINE,
)
_COUNTER = re.compile(r"^[ \t]*\d+[.)][ \t]+(?=\W*[^\W\d])", re.MULTILINE)
_INTRODUCES = ("is", "are", "be", "equals", "equal", "of", "to", "answer", "total")  # before "- 3", a negative number


def final_number(text: str) -> str | None:
    """The number that a text gives as its answer, or None.

    This is the number after the first "####" that begins no heading, as in GSM8K (Cobbe et al. 2021); the rest of its
    line must begin with the number or contain no other. Otherwise it is the last number in the last \\boxed{} that has
    one, or else the last number of the text.
    """
    for marked in re.split(r"(?<!#)####(?!#)", text)[1:]:
        line = marked.lstrip().partition("\n")[0]
        if _HEADING.match(line):
            continue
        result = line.rpartition("=")[2]  # of "3 + 9 = 12"
        numbers = list(_numbers(result))
        leads = bool(numbers) and not re.search(r"\w", result[: numbers[0][0]])
        if len(numbers) == 1 or leads:
            return numbers[0][1]
    for boxed in reversed(_BOXED.findall(text)):
        if numbers := list(_numbers(boxed)):
            return numbers[-1][1]
    numbers = list(_numbers(_joined(_without_counters(text))))
    return numbers[-1][1] if numbers else None


def only_number(text: str) -> str | None:
    """The number, if the text is one number (a sign, currency, "%" or full stop may be with it); otherwise None."""
    text = _joined(text.strip())
    found = _NUMBER.match(text)
    if found is None or text[found.end() :].strip(" .%$\u20ac\u00a3\u00a5\u20b9\u00a0\u202f"):
        return None
    return _value(found, text)


def _numbers(text: str) -> Iterator[tuple[int, str]]:
    """The start and value of every readable number."""
    for found in _NUMBER.finditer(text):
        if (value := _value(found, text)) is not None:
            yield found.start(), value


def _joined(text: str) -> str:
    return re.sub(r"(?<=\d) (?=\d)", "", text) if _SPACED.fullmatch(text) else text


def _without_counters(text: str) -> str:
    """The text without the numbers of headings, steps and lists."""
    text = _COUNTED_HEADING.sub("", text)
    counters = list(_COUNTER.finditer(text))
    return _COUNTER.sub("", text) if len(counters) > 1 else text


def _value(found: re.Match[str], text: str) -> str | None:
    part = found.groupdict()
    exponent = int(part["power"] or 0) if len(part["power"] or "") < 5 else MOST_DIGITS + 1
    exponent += _WORDS["thousand"] if part["k"] else _WORDS.get(part["word"] or "", 0)
    if len(found.group()) > MOST_DIGITS or len(part["e"] or "") > 4 or abs(exponent) > MOST_DIGITS:
        return None
    minus = "-" if _negative(found, text) else ""
    if part["point"] or part["comma"]:
        digits = re.sub(r"[,'\u2019_]", "", part["point"]) if part["point"] else _with_point(part["comma"])
        if not (part["e"] or exponent or part["half"]):
            return minus + str(Decimal(digits))
        value = Fraction(digits + (part["e"] or "")) + Fraction(1 if part["half"] else 0, 2)
    else:
        whole = int(part["whole"] or part["before"] or 0)
        ratio = (
            _VULGAR[part["vulgar"]]
            if part["vulgar"]
            else f"{part['over'] or part['upper'] or part['top']}/{part['under'] or part['lower'] or part['bottom']}"
        )
        if not int(ratio.partition("/")[2]):
            return None
        value = whole + Fraction(ratio)
    return minus + str(value * Fraction(10) ** exponent)


def _with_point(written: str) -> str:
    return re.sub(rf"{_SPACE}|\.", "", written).replace(",", ".").rstrip(".-\u2013")


def _negative(found: re.Match[str], text: str) -> bool:
    """Whether the dash before a number is a sign, and not an operator, a hyphen, a range or the bullet of a list."""
    minus = found["minus"]
    if found["inner"] or not minus:
        return bool(found["inner"])
    line = text[: found.start()].rpartition("\n")[2]
    last = line.rstrip()[-1:]
    if line and line[-1:] == last:  # nothing between the dash and what comes before it
        return not (last.isalnum() or last in ")}]%\u2019'")
    if minus.strip() == minus:  # "is -3", but not "5 -3"
        return not (last.isdigit() or last in (")", "}", "%")) or not last
    if not last:  # at the beginning of a line: "- 3", but not "- 3 eggs"
        return not re.match(r"[ \t]*[^\W\d]", text[found.end() :])
    return last in "=:(#*{$" or (last.isalpha() and line.split()[-1].casefold() in _INTRODUCES)
