"""Restraints: what is done to an editor's change so that it harms less, and the one table that names them.

    restraint = load_restraint("rect:0.4", seed=0)
    patch = restraint.after_edit(lm, editor.edit(lm, requests))  # the share of largest relative change stays

A restraint goes with every editor that hands back weights. Nothing heavy is imported before one is loaded.
"""

from typing import TYPE_CHECKING, Protocol

from audit.editors.restraints.choice import parse_restraint

if TYPE_CHECKING:
    from audit.models.language_model import LanguageModel
    from audit.models.patches import Patch


class Restraint(Protocol):
    """Holds an editor's change back. Both methods find `lm` as it is before the patch is written, and leave it so.

    The session calls `after_edit` after each step of a plan, and `after_plan` once, with everything that the steps
    changed, on the untouched model; what they hand back takes the patch's place.

    Raises:
        AuditError: the patch attaches modules, so there is no change of weights to hold back.
    """

    def after_edit(self, lm: "LanguageModel", patch: "Patch") -> "Patch": ...

    def after_plan(self, lm: "LanguageModel", patch: "Patch") -> "Patch": ...


def load_restraint(text: str, seed: int = 0) -> Restraint:
    """The restraint by its name; `seed` draws what `random` keeps."""
    choice = parse_restraint(text)
    if choice.kind == "prune":
        from audit.editors.restraints.prune import Prune

        return Prune(choice)
    from audit.editors.restraints.rect import RandomShare, Rect

    return Rect(choice) if choice.kind == "rect" else RandomShare(choice, seed)
