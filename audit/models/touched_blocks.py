"""From which block on a patch changes what a model computes.

lowest = first_touched_block(lm, patch)
# what enters block `lowest` is the untouched model's, for every text
"""

from audit.models.codebook import Codebook
from audit.models.language_model import Attachment, LanguageModel
from audit.models.originals import parameter_at
from audit.models.patches import ModulePatch, Patch, PatchSequence, WeightPatch
from audit.models.side_memory import SideMemory


def first_touched_block(lm: LanguageModel, patch: Patch) -> int:
    """The lowest block that `patch` changes; the model's depth if it changes what comes after the blocks, or nothing.

    0 for whatever comes before the blocks, for weights that are tied to such, and for what this function does not know.
    """
    if isinstance(patch, PatchSequence):
        return min((first_touched_block(lm, one) for one in patch.patches), default=lm.anatomy.depth)
    if isinstance(patch, ModulePatch):
        return min((_of_attachment(lm, one) for one in patch.attachments), default=lm.anatomy.depth)
    if isinstance(patch, WeightPatch):
        return min((_of_parameter(lm, name) for name in patch.deltas), default=lm.anatomy.depth)
    return 0


def _of_attachment(lm: LanguageModel, attachment: Attachment) -> int:
    return _of_name(lm, attachment.module) if isinstance(attachment, Codebook | SideMemory) else 0


def _of_parameter(lm: LanguageModel, name: str) -> int:
    """The lowest block of all places where the model has this weight."""
    weight = parameter_at(lm.model, name)
    everywhere = lm.model.named_parameters(remove_duplicate=False)
    return min(_of_name(lm, place) for place, parameter in everywhere if parameter is weight)


def _of_name(lm: LanguageModel, name: str) -> int:
    """The block that a parameter or module belongs to by its name."""
    for number, block in enumerate(lm.anatomy.blocks):
        if name == block or name.startswith(f"{block}."):
            return number
    head = lm.model.get_output_embeddings()  # type: ignore[no-untyped-call]
    after = [lm.anatomy.final_norm, *(path for path, module in lm.model.named_modules() if module is head)]
    return lm.anatomy.depth if any(name == path or name.startswith(f"{path}.") for path in after) else 0
