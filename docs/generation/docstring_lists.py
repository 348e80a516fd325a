"""An extension of griffe: aligned lists in docstrings become the sections that it shows as tables with types.

    lower, upper   the one-sided limits of the drop
    floor          the score of a model that cannot do the task; where every item has
                   its own, their mean

In a class they are its attributes, in a function its arguments.
"""

import re
from typing import Any

from griffe import Extension, Object

ENTRY = re.compile(r"(?P<names>[a-z]\w*(?:, [a-z]\w*)*) {2,}(?P<text>\S.*)")
CONTINUATION = re.compile(r" {6,}(?P<text>\S.*)")


def with_sections(text: str, title: str) -> str:
    """The docstring with each aligned list under `title`, "Attributes" or "Args"."""
    lines: list[str] = []
    names: list[str] = []  # of the entry that goes on
    inside = False
    for line in text.splitlines():
        if entry := ENTRY.fullmatch(line):
            lines += [] if inside else [f"{title}:"]
            names = entry["names"].split(", ")
            lines += [f"    {name}: {entry['text']}" for name in names]
            inside = True
        elif inside and (more := CONTINUATION.fullmatch(line)):
            lines[-len(names) :] = [f"{one} {more['text']}" for one in lines[-len(names) :]]
        else:
            inside = False
            lines.append(line)
    return "\n".join(lines)


class DocstringLists(Extension):
    """Applies `with_sections` to the docstrings of classes and functions."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Called by griffe for each module, class, function and attribute."""
        if obj.docstring is not None and (obj.is_class or obj.is_function):
            obj.docstring.value = with_sections(obj.docstring.value, "Attributes" if obj.is_class else "Args")
