"""Strategy ``greedy``: smallest demand first, which starts the most jobs.

The size of a demand is its dominant share: the largest part that its minimum takes of
all there is of a resource.

References
----------
Ghodsi et al.: Dominant Resource Fairness, NSDI 2011.
"""

from __future__ import annotations

import numpy as np

from airflow_dla.allocation.table import Asked, Ints, Offered


def admission(asked: Asked, offered: Offered) -> Ints:
    """Order demands by dominant share, then priority, age and id.

    Returns
    -------
    int array, shape (n,)
        Demands, first served first.
    """
    total = offered.capacity.sum(axis=0)
    shares = np.divide(asked.minimum, total, out=np.full_like(asked.minimum, np.inf), where=np.broadcast_to(total > 0, asked.minimum.shape))
    dominant = np.where(asked.minimum > 0, shares, 0.0).max(axis=1, initial=0.0)
    return np.lexsort((asked.rank, asked.created, -asked.priority, dominant))
