"""Editors of somebody else's, quick and exact: what they write depends on everything that an edit plan must keep.

--editor tests.fake_editors:Nudge
"""

from collections.abc import Sequence
from typing import ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from audit.edits.requests import EditRequest
from audit.models.codebook import Codebook, slot_of
from audit.models.language_model import LanguageModel
from audit.models.patches import LowRankDelta, ModulePatch, Patch, WeightPatch
from audit.progress import Progress


class Nudge:
    """A rank-one change that follows from the requests, from the weight as it is, and from the weight as it was when
    this editor first met the model (as others take their prefix contexts from it)."""

    name: ClassVar[str] = "nudge"
    batches: ClassVar[bool] = True
    edits: int  # how many times `edit` was called

    def __init__(self) -> None:
        self.edits = 0
        self._met: WeakKeyDictionary[LanguageModel, Tensor] = WeakKeyDictionary()

    def edit(self, lm: LanguageModel, requests: Sequence[EditRequest], progress: Progress | None = None) -> Patch:
        self.edits += 1
        name = lm.anatomy.weight_name(1)
        weight = _weight(lm)
        first = self._met.setdefault(lm, weight.clone())
        seed = sum(map(ord, "".join(request.case_id for request in requests)))
        noise = torch.randn(len(weight), generator=torch.Generator().manual_seed(seed))
        left = (weight @ weight.T @ noise + first.sum(1) + self._memory(lm)) / weight.norm() ** 2  # (hidden,)
        delta = LowRankDelta(0.1 * left[:, None], noise.new_ones(1, weight.shape[1]))
        transposed = frozenset({name}) if lm.anatomy.transposed else frozenset[str]()
        return WeightPatch({name: delta}, transposed, {"editor": self.name})

    def _memory(self, lm: LanguageModel) -> float:
        return 0.0


class Diary(Nudge):
    """A nudge that also depends on what it was told after each step."""

    name: ClassVar[str] = "diary"

    def __init__(self) -> None:
        super().__init__()
        self._pages: WeakKeyDictionary[LanguageModel, float] = WeakKeyDictionary()

    def forget(self, lm: LanguageModel) -> None:
        self._pages[lm] = 1.0

    def remember(self, lm: LanguageModel, requests: Sequence[EditRequest]) -> None:
        self._pages[lm] = self._pages[lm] / 2 + float(_weight(lm).norm()) * len(requests)

    def _memory(self, lm: LanguageModel) -> float:
        return self._pages[lm]


class Sticker:
    """Attaches a codebook that grows by one entry a request; changes no weight."""

    name: ClassVar[str] = "sticker"
    batches: ClassVar[bool] = True

    def __init__(self) -> None:
        self.edits = 0

    def edit(self, lm: LanguageModel, requests: Sequence[EditRequest], progress: Progress | None = None) -> Patch:
        self.edits += 1
        module, width = lm.anatomy.mlps[1], lm.anatomy.hidden_size
        before = lm.attached.get(slot_of(module))
        book = before.attachment if before else Codebook(module, *[torch.zeros(0, width)] * 2, torch.zeros(0), ())
        assert isinstance(book, Codebook)
        for request in requests:
            new, label = torch.full((1, width), len(book.labels) + 1.0), (ord(request.case_id[-1]),)
            keys, values, radii = (
                torch.cat([book.keys, new]),
                torch.cat([book.values, new]),
                torch.ones(len(book.keys) + 1),
            )
            book = Codebook(module, keys, values, radii, (*book.labels, label))
        return ModulePatch((book,), {"editor": self.name})


def _weight(lm: LanguageModel) -> Tensor:
    """The weight of the second block's down projection, seen as (hidden, inner)."""
    weight = lm.model.get_parameter(lm.anatomy.weight_name(1)).detach().float()
    return weight.T if lm.anatomy.transposed else weight
