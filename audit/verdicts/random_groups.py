"""Random groups of clusters: resampling that takes a bounded time for any number of clusters.

Ten thousand resamples of 100,000 clusters would be a thousand million draws. Clusters are independent, so the sums of
random groups of them are independent too, and resampling these gives the same distribution (the method of random
groups; Wolter, Introduction to Variance Estimation, 2007, chapter 2). A standard error from 1,000 groups has an error
of its own of 2.2 %, which the studentized distribution contains. Estimates, standard errors and bounds on unseen
changes still come from the clusters themselves.
"""

import numpy as np

from audit.verdicts.intervals import Floats

MANY = 10_000  # up to so many clusters nothing is grouped
GROUPS = 1_000


def in_random_groups(table: Floats, seed: int) -> Floats:
    """(clusters, ...) values -> (`GROUPS`, ...) sums over random groups of equal size; up to `MANY` clusters as is.

    Tables of the same length and seed get the same groups. The order of the rows must not depend on that of the items.
    """
    if len(table) <= MANY:
        return table
    places = np.random.default_rng([seed, len(table)]).permutation(len(table))
    starts = np.linspace(0, len(table), GROUPS, endpoint=False).astype(np.intp)
    return np.asarray(np.add.reduceat(table[places], starts, axis=0))
