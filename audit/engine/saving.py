"""What edited models did not have to compute because the base model, or an edited one before them, had done so."""

from dataclasses import dataclass


@dataclass
class Saving:
    """Counts over the edited models of a plan.

    A block token is one token going through one block: `computed` are those that were run, `shared` those whose result
    was known. `drafts` is how many answers were begun from the base model's, of which `stood` were never decoded.
    """

    computed: int = 0
    shared: int = 0
    drafts: int = 0
    stood: int = 0
