"""What the tests of HTML pages share: a parser of pages, and reports with many or with strange items."""

from dataclasses import dataclass, field, replace
from html.parser import HTMLParser

from audit.measures.flips import RIGHT_TO_WRONG, WRONG_TO_RIGHT
from audit.reports.rows import AnswerRecord, ItemRecord, RunReport
from tests.reports.sample import FAILED, PASSED, REPORT, answer, row_with

VOID = {"meta", "input", "img", "br"}
ABILITIES = ("reasoning", "nli", "open_qa", "closed_qa", "dialogue", "summarization", "ner", "sentiment")


@dataclass
class Element:
    """A tag with its attributes and all text inside it."""

    tag: str
    attributes: dict[str, str | None]
    parts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.parts)

    @property
    def classes(self) -> list[str]:
        return (self.attributes.get("class") or "").split()


@dataclass
class Page(HTMLParser):
    """The elements of a page in their order; `unclosed` and `wrong` list tags that do not fit together."""

    source: str
    elements: list[Element] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[Element] = []
        self.feed(self.source)
        self.close()
        self.wrong += [element.tag for element in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(self.elements[-1])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop().tag != tag:
            self.wrong.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.parts.append(data)

    def all(self, tag: str, name: str = "") -> list[Element]:
        """The elements of a tag, with a class if `name` is given."""
        return [one for one in self.elements if one.tag == tag and (not name or name in one.classes)]

    def one(self, tag: str, name: str = "") -> Element:
        (found,) = self.all(tag, name)
        return found


def record(key: str = "reasoning/1", base: str = " 10", edited: str = " 12", **more: object) -> ItemRecord:
    """An item of `reasoning` that was right and became wrong."""
    made = ItemRecord(
        ability=key.split("/")[0],
        key=key,
        cluster=key,
        prompt="Question: é?\nAnswer:",
        choices=(),
        gold=("10",),
        base=answer(base, 1.0),
        edited=(answer(edited, 0.0),),
        flips=(RIGHT_TO_WRONG,),
    )
    return replace(made, **more)  # type: ignore[arg-type]


def scored(probabilities: tuple[float, ...], score: float) -> AnswerRecord:
    """An answer read by likelihood, of three tokens."""
    return AnswerRecord(
        "-1.00 nats per token",
        -1.0,
        True,
        score,
        tokens=((" the", " Arch", "ies"),),
        log_probabilities=(probabilities,),
    )


def report_of(*items: ItemRecord) -> RunReport:
    """A run that failed `reasoning`, with these items."""
    return replace(REPORT, abilities=(FAILED,), items=items)


def large_report(items: int = 200, letters: int = 2000) -> RunReport:
    """Eight abilities, of which every item has a long prompt and two long answers; every third one was won."""
    text = "A word, and more. " * (letters // 18)
    won = {"base": answer(text, 0.0), "edited": (answer("x" + text, 1.0),), "flips": (WRONG_TO_RIGHT,)}
    return replace(
        REPORT,
        abilities=tuple(row_with(PASSED if name == "ner" else FAILED, ability=name) for name in ABILITIES),
        items=tuple(
            replace(
                record(f"{name}/{number}", text, text.upper()),
                prompt=text,
                mentions=("Mara Lind",) if number % 10 == 0 else (),
                **(won if number % 3 == 2 else {}),
            )
            for name in ABILITIES
            for number in range(items)
        ),
    )
