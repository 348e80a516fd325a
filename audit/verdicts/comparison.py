"""The statistics of this project on two lists of scores, for programs that have their own.

from audit import compare
compare({"a": 1, "b": 0, "c": 1}, {"a": 1, "b": 0, "c": 0}, margin=0.05).outcome
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from audit.errors import AuditError
from audit.verdicts import Verdict
from audit.verdicts.intervals import Floats
from audit.verdicts.margins import Margin, margin_of
from audit.verdicts.verdict import judge

Scores = Mapping[str, float] | Sequence[float] | Floats


def compare(
    base: Scores,
    edited: Scores,
    *,
    margin: float | str | Margin = 0.05,
    floor: float = 0.0,
    floors: ArrayLike | None = None,
    clusters: Sequence[str] | None = None,
    alpha: float = 0.05,
    seed: int = 0,
) -> Verdict:
    """Judge whether `edited` scores fall short of `base` scores by more than the margin, on the same items.

    base, edited  n scores in [0, 1] in the same order, or mappings of ids to scores, which are paired by id
    margin        the largest drop in score points (0.05, "5pp"), or the share above the floor to keep ("90%")
    floor         the score of a model that cannot do the task; the verdict is INCONCLUSIVE unless the base is above it
    floors        (n,) floors of the items, in the order of `base`, in place of `floor`
    clusters      (n,) names of the items' sources, in the order of `base`, where some share one
    alpha         of each one-sided limit
    seed          of the bootstrap, which scores other than 0 and 1, and shares to keep, need

    Raises:
        AuditError: the items are not the same in both; or a score, a floor or the margin is out of range.
    """
    if isinstance(base, Mapping) and isinstance(edited, Mapping):
        if base.keys() != edited.keys():
            lost = sorted(map(repr, base.keys() ^ edited.keys()))
            raise AuditError(
                f"compare: {len(lost)} items have only one score ({', '.join(lost[:3])}); give two for every item."
            )
        names = list(base)
        base, edited = [base[name] for name in names], [edited[name] for name in names]
    if isinstance(base, Mapping) or isinstance(edited, Mapping):
        raise AuditError("compare: one of the models has ids and the other has none; give two mappings or two lists.")
    if not 0 <= floor < 1:
        raise AuditError(f"compare: a floor of {floor} is out of range; give one from 0 to below 1.")
    beneath = None if floors is None else np.asarray(floors, dtype=np.float64)
    try:
        return judge(
            base,
            edited,
            margin=margin_of(margin),
            floor=floor,
            floors=beneath,
            clusters=clusters,
            alpha=alpha,
            seed=seed,
        )
    except (ValueError, TypeError) as error:
        raise AuditError(f"compare: {error}.") from None
