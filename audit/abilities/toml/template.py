"""A template of jinja2 for one row: in its sandbox, and with an error for a column that a row does not have.

template = RowTemplate("{{ text }}\nTeam:", "triage.toml, prompt")
template.text({"text": "My invoice is wrong."}, "triage/3")
"""

from typing import Any

from audit.abilities.contract import Row
from audit.errors import AuditError, first_line


class RowTemplate:
    """A template whose variables are the columns of a row; `row` is the row itself, for columns with other names.

    White space around the rendered text is removed. `place` names the template in errors.

    Raises:
        AuditError: the template is not one of jinja2.
    """

    def __init__(self, source: str, place: str) -> None:
        from jinja2 import StrictUndefined, TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        self._place = place
        try:
            self._template = ImmutableSandboxedEnvironment(undefined=StrictUndefined).from_string(source)
        except TemplateError as error:
            number = getattr(error, "lineno", None)
            line = f", line {number}" if number else ""
            raise AuditError(f"{place}{line} is not a template ({first_line(error)}); correct it.") from None

    def text(self, row: Row, key: str) -> str:
        """The text of a row.

        Raises:
            AuditError: the row cannot be rendered, or its text is empty.
        """
        from jinja2 import TemplateError

        try:
            text = self._rendered(row).strip()
        except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            columns = ", ".join(sorted(map(str, row)))
            raise AuditError(
                f"{self._place} cannot render row {key} ({first_line(error)}); the row has {columns}."
            ) from error
        if not text:
            raise AuditError(f"{self._place} renders row {key} as an empty text; correct the template or drop the row.")
        return text

    def _rendered(self, row: Row) -> str:
        variables: dict[str, Any] = {"row": row, **row}
        return self._template.render(variables)
