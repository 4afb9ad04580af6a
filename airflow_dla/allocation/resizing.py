"""What a live grant becomes: other amounts of CPUs or memory, on the same node with the same GPUs."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from airflow_dla.allocation.devices import charged_cpus
from airflow_dla.specs import Grant, Node

_TINY = 1e-9


class Resizing:
    """Writes targets, one after the other, so that CPUs are shared as little as possible.

    Parameters
    ----------
    cluster : sequence of `Node`
    live : iterable of `Grant`
        All that is charged to nodes.
    """

    def __init__(self, cluster: Sequence[Node], live: Iterable[Grant]) -> None:
        self._nodes = {node.name: node for node in cluster}
        self._on: defaultdict[str, dict[str, Grant]] = defaultdict(dict)
        for grant in live:
            self._on[grant.node][grant.id] = grant

    def target(self, grant: Grant, amounts: Mapping[str, float], reason: str) -> Grant:
        """Return a grant with other amounts of some resources.

        Parameters
        ----------
        amounts : mapping of resource to float
            Those that change.
        """
        changed = {**grant.amounts, **amounts}
        ids = self._cpu_ids(grant, changed["cpu"]) if grant.cpu_ids and "cpu" in amounts else grant.cpu_ids
        target = dataclasses.replace(grant, amounts=changed, cpu_ids=ids, reason=reason)
        self._on[grant.node][grant.id] = target
        return target

    def _cpu_ids(self, grant: Grant, cpus: float) -> tuple[int, ...]:
        """Keep its own ids first, those that others charge least; take more in the same order."""
        ids = self._nodes[grant.node].cpu_ids
        others = [(other.cpu_ids, other.amounts.get("cpu", 0.0)) for name, other in self._on[grant.node].items() if name != grant.id]
        charged = dict(zip(ids, charged_cpus(ids, others), strict=True))
        order = sorted(ids, key=lambda cpu: (cpu not in grant.cpu_ids, charged[cpu], cpu))
        return tuple(sorted(order[: max(1, math.ceil(cpus - _TINY))]))
