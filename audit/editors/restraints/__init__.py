"""Restraints: changes to an editor's update that reduce its side effects.

    restraint = load_restraint("rect:0.4", seed=0)
    patch = restraint.after_edit(lm, editor.edit(lm, requests))  # keeps the 40 % of largest relative change

A restraint works with every editor that returns weight changes. Importing this module does not import torch.
"""

from typing import TYPE_CHECKING, Protocol

from audit.editors.restraints.choice import parse_restraint

if TYPE_CHECKING:
    from audit.models.language_model import LanguageModel
    from audit.models.patches import Patch


class Restraint(Protocol):
    """Restrains an editor's change. Both methods run on `lm` before the patch is written, and leave it unchanged.

    `after_edit` is called after each step of an edit plan. `after_plan` is called once, on the base model, with all
    steps together. The returned patch replaces the given one.

    Raises:
        AuditError: the patch attaches modules, so there is no weight change to restrain.
    """

    def after_edit(self, lm: "LanguageModel", patch: "Patch") -> "Patch": ...

    def after_plan(self, lm: "LanguageModel", patch: "Patch") -> "Patch": ...


def load_restraint(text: str, seed: int = 0) -> Restraint:
    """The restraint named by `text`, as in `parse_restraint`; `seed` is for the random choice of `random`."""
    choice = parse_restraint(text)
    if choice.kind == "prune":
        from audit.editors.restraints.prune import Prune

        return Prune(choice)
    from audit.editors.restraints.rect import RandomShare, Rect

    return Rect(choice) if choice.kind == "rect" else RandomShare(choice, seed)
