"""The findings about a grid as data, and as a page of Markdown; `audit.workflows.grid.findings` judges them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WORDS = {True: "appears", False: "does not appear", None: "not measured"}


@dataclass(frozen=True)
class Finding:
    """`appears` is None where the cells that decide are missing; `figures` are lines of Markdown."""

    number: int
    statement: str
    criterion: str
    appears: bool | None
    figures: tuple[str, ...]

    @property
    def word(self) -> str:
        """What was found, in words."""
        return WORDS[self.appears]


def findings_markdown(judged: Mapping[str, Sequence[Finding]]) -> str:
    """A page: finding by finding, whether it appears on each model, with the figures."""
    lines = ["| finding | " + " | ".join(judged) + " |", "| --- |" + " --- |" * len(judged)]
    for each in zip(*judged.values(), strict=True):  # one finding on each model
        words = " | ".join(finding.word for finding in each)
        lines.append(f"| {each[0].number}. {each[0].statement} | {words} |")
    for each in zip(*judged.values(), strict=True):
        lines += ["", f"### {each[0].number}. {each[0].statement}"]
        for criterion in dict.fromkeys(finding.criterion for finding in each):  # two if the models have two units
            lines += ["", f"*Appears if:* {criterion}"]
        for model, finding in zip(judged, each, strict=True):
            lines += ["", f"**{model}: {finding.word}.**", "", *(f"- {line}" for line in finding.figures)]
    return "\n".join(lines) + "\n"
