"""Strategy ``greedy``: smallest demand first, which starts the most jobs.

The size of a demand is its dominant share: the largest part that its minimum takes of
all there is of a resource.

References
----------
Ghodsi et al.: Dominant Resource Fairness, NSDI 2011.
"""

from __future__ import annotations

import numpy as np

from airflow_dla.allocation.admission import Admission
from airflow_dla.allocation.problem import Policy
from airflow_dla.allocation.table import Asked, Floats, Offered


def admission(asked: Asked, offered: Offered, policy: Policy) -> Admission:  # noqa: ARG001 every strategy is asked alike
    """Order demands by dominant share, then priority, age and id; those that aged go before, the longest waiting first."""
    return Admission(np.lexsort((asked.rank, asked.created, -asked.priority, dominant_share(asked, offered), -asked.aged)))


def dominant_share(asked: Asked, offered: Offered) -> Floats:
    """Return the largest part that each minimum takes of all there is of a resource; infinite where there is none."""
    total = offered.capacity.sum(axis=0)
    shares = np.divide(asked.minimum, total, out=np.full_like(asked.minimum, np.inf), where=np.broadcast_to(total > 0, asked.minimum.shape))
    dominant: Floats = np.where(asked.minimum > 0, shares, 0.0).max(axis=1, initial=0.0)
    return dominant
