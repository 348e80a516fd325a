"""The one exception a user is meant to read."""


class AuditError(Exception):
    """Something the user can mend: one sentence with what was wrong, the offending value and the remedy.

    The plugin turns it into pytest's usage exit code, the command line into exit code 2; neither shows a traceback.
    """


class UnaskedError(AuditError):
    """One ability's questions cannot be had or asked. The others go on; the run as a whole cannot pass."""


class CollapsedError(AuditError):
    """The edited model is no working language model any more. The run fails; no ability need be asked to know it."""


class SharedError(AuditError):
    """What another process of the same audit says to the user; this one ends without a word."""
