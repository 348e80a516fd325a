"""Errors that are reported to the user in one sentence."""


class AuditError(Exception):
    """An error that the user can correct: one sentence with what was wrong, the value, and the remedy.

    The plugin exits with pytest's code for usage errors and the command line with code 2, both without a traceback.
    """


class AbilityError(AuditError):
    """One ability has no usable items or cannot be run. Other abilities continue, but the run cannot pass."""


class CollapseError(AuditError):
    """The edited model no longer works as a language model. The run fails without running any ability."""


class NoChangeError(AuditError):
    """The edited model equals the base model. The run fails without running any ability."""


class CrewError(AuditError):
    """An error that another process of the crew reports; this process exits without output."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for use inside a sentence; the name of its type if it has no message."""
    lines = str(error).strip().splitlines()
    return (lines[0].rstrip(".: ") if lines else "") or type(error).__name__
