"""Pages from the templates of this room.

Every value is escaped by the template engine, after characters that cannot be seen, or that change the direction of
text, are written as escapes. The content security policy of a page allows its own script and nothing else.
"""

import base64
import hashlib
import re
import unicodedata
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

JOINERS = "\u200c\u200d"  # invisible, but part of words and emoji
MARKS = {"PASS": "✓", "FAIL": "✗", "INCONCLUSIVE": "?"}  # beside the word, so that color is not the only sign


def visible(text: str) -> str:
    r"""The text with control, format, surrogate and unassigned characters, but not line feeds and tabs, as `\u202e`."""
    return re.sub(r"[^\n\t -~]", lambda found: _visible_character(found[0]), text)


def prose(text: str) -> Markup:
    """Sentences of the audit as HTML, with `code` and *emphasis* as in Markdown."""
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(visible(text))))
    return Markup(re.sub(r"\*(\w[^*]*)\*", r"<em>\1</em>", marked))


def page(template: str, **values: Any) -> str:
    """The page of a template, whose inline script is the only one that a browser runs."""
    script = Markup(TEMPLATES.get_template("filters.js").render())
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return TEMPLATES.get_template(template).render(script=script, script_digest=digest, marks=MARKS, **values)


def fragment(template: str, **values: Any) -> Markup:
    """A part of a page."""
    return Markup(TEMPLATES.get_template(template).render(**values))


def _visible_character(mark: str) -> str:
    kind = unicodedata.category(mark)
    hidden = (kind.startswith("C") or kind in ("Zl", "Zp")) and mark not in JOINERS
    return ascii(mark)[1:-1] if hidden else mark


def _finalized(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


TEMPLATES = Environment(
    loader=PackageLoader("audit.reports.html"),
    autoescape=True,
    finalize=_finalized,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters["prose"] = prose
