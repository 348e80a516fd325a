"""The audit itself: base answers, edits, edited answers, comparisons; the only place that knows the order of things."""

from audit.session.audit import Audit

__all__ = ["Audit"]
