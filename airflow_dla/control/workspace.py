"""A workspace as the loops see it: the objects that hooks built from a connection."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from airflow_dla.allocation import Policy
from airflow_dla.artifacts import Store
from airflow_dla.errors import InvalidSpec, WorkspaceMismatch
from airflow_dla.ledger import FollowerKind, Ledger
from airflow_dla.registry import Registry
from airflow_dla.runtime import Discovers, Runtime
from airflow_dla.specs.node_names import cluster_of
from airflow_dla.specs.values import mapping, positive, refuse_unknown, seconds
from airflow_dla.telemetry import Metrics, NoMetrics

_SETTABLE: Final = ("lease", "renew", "reap", "look", "unfollowed", "silent", "bare")


@dataclass(frozen=True, slots=True)
class Timing:
    """How often and how long, in seconds; the defaults are the design's.

    Parameters
    ----------
    lease_s, renew_s : float
        A lease's length, and how often it is renewed.
    poll_s, eager_s, hasty_s : float
        Between two reads of the ledger; the second while something is young or ending, the third just after a launch.
    reap_s : float
        Between two turns of the reaper, in the whole workspace.
    look_s : float
        Between two looks at the machine of an engine, in the whole workspace.
    unfollowed_s : float
        A live attempt that nobody has followed for so long is stopped.
    silent_s : float
        A node asked in vain for so long is written off.
    bare_s : float
        A grant without an attempt is freed when its lease has been expired for so long.
    """

    lease_s: float = 60.0
    renew_s: float = 20.0
    poll_s: float = 1.0
    eager_s: float = 0.2
    hasty_s: float = 0.005
    reap_s: float = 60.0
    look_s: float = 20.0
    unfollowed_s: float = 1800.0
    silent_s: float = 300.0
    bare_s: float = 600.0

    @classmethod
    def from_mapping(cls, raw: object, where: str = "timing") -> Timing:
        """Read what a user may set: ``lease``, ``renew``, ``reap``, ``look``, ``unfollowed``, ``silent``, ``bare``, all optional.

        Raises
        ------
        InvalidSpec
            If a key is unknown, a value is no duration, or a lease does not outlive two renewals.

        Examples
        --------
        >>> Timing.from_mapping({"unfollowed": "2h"}).unfollowed_s
        7200.0
        """
        given = mapping(raw, where)
        refuse_unknown(given, _SETTABLE, where)
        read = cls(**{f"{name}_s": positive(seconds)(value, f"{where}.{name}") for name, value in given.items()})
        if read.lease_s < 2 * read.renew_s:
            raise InvalidSpec(
                f"{where}: a lease of {read.lease_s:g} s that is renewed every {read.renew_s:g} s expires when one renewal is late; "
                "make lease at least twice renew"
            )
        return read


@dataclass(frozen=True, slots=True, eq=False)
class Workspace:
    """Ledger, store, registry and places, as one process reaches them.

    Parameters
    ----------
    name : str
        The connection's id.
    identity : str
        The ledger's own id, as `Ledger.identity` tells it.
    ledger, store, registry
    runtimes : mapping of node to `Runtime`
        The nodes this process can reach; a cluster is named once, for all its nodes.
    follower : str
        Names this process in leases: ``host:pid:random``.
    host : str
        Identity of this host.
    kind : {"triggerer", "worker", "other"}
    policy : `Policy`
        How a shortage is resolved.
    discovered : mapping of node to `Discovers`
        Those of its nodes that are looked at again and again, named as in `runtimes`.
    everywhere : set of str
        Those of its nodes that processes of every host reach.
    clusters : set of str
        Those of its names that stand for several nodes, each called ``CLUSTER.NODE``.
    """

    name: str
    identity: str
    ledger: Ledger
    store: Store
    registry: Registry
    runtimes: Mapping[str, Runtime]
    follower: str
    host: str
    kind: FollowerKind = "other"
    policy: Policy = field(default_factory=Policy)
    metrics: Metrics = field(default_factory=NoMetrics)
    timing: Timing = field(default_factory=Timing)
    discovered: Mapping[str, Discovers] = field(default_factory=dict)
    everywhere: frozenset[str] = frozenset()
    clusters: frozenset[str] = frozenset()

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits, the same for every process that resolves to the same ledger and store."""
        return hashlib.sha256(f"{self.identity}\n{self.store.url}".encode()).hexdigest()[:16]

    @property
    def hostname(self) -> str:
        """The name of this host, without what tells its boots and containers apart."""
        return self.host.partition("/")[0]

    def check_fingerprint(self, expected: str) -> None:
        """Refuse to go on with another workspace than the one a job began in.

        Raises
        ------
        WorkspaceMismatch
            If this process resolved the connection to another ledger or store.
        """
        if self.fingerprint != expected:
            raise WorkspaceMismatch(
                f"connection {self.name!r} is workspace {self.fingerprint} here (store {self.store.url}), but the job began in "
                f"{expected}; make the connection the same in workers, triggerer and API server"
            )

    def nonce(self, attempt: str) -> str:
        """Return what tells an attempt's own lines from its program's: unguessable, the same in every process."""
        return hashlib.sha256(f"{self.identity}\n{attempt}".encode()).hexdigest()[:16]

    @property
    def own_node(self) -> str | None:
        """The node where this process's own work counts: the local place's before an engine's; None where all are clusters."""
        return next((node for node in self.runtimes if node not in self.clusters), None)

    def name_of(self, node: str) -> str:
        """Return the name under which a node is reached: its cluster's, or its own."""
        if node in self.runtimes:
            return node
        return cluster_of(node, self.clusters) or node

    def reached(self, node: str) -> Runtime | None:
        """Return the runtime of a node; None where this process cannot reach it."""
        return self.runtimes.get(self.name_of(node))

    def runtime(self, node: str) -> Runtime:
        """Return the runtime of a node.

        Raises
        ------
        InvalidSpec
            If this process cannot reach it; lists the nodes it can.
        """
        runtime = self.reached(node)
        if runtime is None:
            reached = ", ".join(self.runtimes) or "none"
            raise InvalidSpec(
                f"node {node!r} cannot be reached from host {self.host} (reached are: {reached}); "
                "a local place, or an engine behind a socket, is followed only by processes of its own host"
            )
        return runtime
