"""Jobs of several members that train one model together, in the words of torchrun.

A *member* is what torchrun calls a node: one attempt with a grant of its own, in which
``nproc`` processes, the *ranks*, run. Member 0 is the job itself: its end, outputs,
checkpoints and metrics are the job's. Two members may be granted shares of one machine.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs.grants import Grant
from airflow_dla.specs.spec import Spec, spec_field
from airflow_dla.specs.values import integer, natural, positive, seconds, text

#: Ports of rendezvous: below those that systems hand out by themselves (``ip_local_port_range``).
_PORTS: Final = range(20_000, 30_000)
_RANGE = re.compile(r"\s*(\d{1,6})\s*(?:[-:]\s*(\d{1,6}))?\s*")


def node_range(raw: object, where: str) -> tuple[int, int]:
    """Parse how many members a job has: ``2``, or ``"1-2"`` where fewer will do.

    Examples
    --------
    >>> node_range("1-2", "nodes"), node_range(4, "nodes")
    ((1, 2), (4, 4))
    """
    written = "-".join(map(str, raw)) if isinstance(raw, (list, tuple)) else str(raw)
    match = _RANGE.fullmatch(written)
    if match is None or isinstance(raw, bool):
        raise InvalidSpec(f"{where} must be a number of nodes such as 2, or a range such as '1-2', got {raw!r:.80}")
    least, most = int(match[1]), int(match[2] or match[1])
    if not 1 <= least <= most:
        raise InvalidSpec(f"{where} must be at least 1 and not end below where it begins, got {raw!r:.80}")
    return least, most


def ranks(raw: object, where: str) -> int | str:
    """Parse how many processes a member has: a number, ``"gpu"`` or ``"auto"``."""
    return str(raw) if raw in {"gpu", "auto"} else int(positive(integer)(raw, where))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Distributed(Spec):
    """How a job is spread, as ``torchrun`` would spread it.

    Parameters
    ----------
    nodes : (int, int)
        Fewest and most members; written ``2`` or ``"1-2"``. Most are asked for first.
    nproc : int, "gpu" or "auto"
        Processes of each member: as many as it was granted GPUs; ``"auto"``: or one without any.
    max_restarts : int
        How often all begin again from the checkpoint, inside one Airflow try, after a program
        failed or was killed. Losses count against ``policy.infra_retries`` and preemptions
        against nothing, as for any job.
    shrink_after_s : float
        Seconds to wait for the most members before as many as there is room for will do.

    Examples
    --------
    >>> Distributed.from_mapping({"nodes": "1-2", "max_restarts": 3}).to_mapping()
    {'nodes': [1, 2], 'max_restarts': 3}
    """

    called: ClassVar[str] = "distributed"
    short: ClassVar[dict[str, str]] = {"shrink_after": "shrink_after_s"}

    nodes: tuple[int, int] = spec_field(node_range, default=(1, 1))
    nproc: int | str = spec_field(ranks, default="auto")
    max_restarts: int = spec_field(natural, default=0)
    shrink_after_s: float = spec_field(seconds, default=60.0)

    @property
    def fewest(self) -> int:
        """The fewest members that will do."""
        return self.nodes[0]

    @property
    def most(self) -> int:
        """The most members that are asked for."""
        return self.nodes[1]

    def processes(self, grant: Grant) -> int:
        """Return how many ranks a member with a grant has."""
        if isinstance(self.nproc, int):
            return self.nproc
        return max(1, len(grant.gpu_ids) or int(grant.amounts.get("gpu", 0.0)))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Part(Spec):
    """What one member is told of the whole, as torchrun's variables say it.

    Parameters
    ----------
    run_id : str
        The same for all members of one start, another for each restart.
    node_rank, nodes : int
        Which member it is, of how many.
    first_rank, local_world_size, world_size : int
        Its ranks are ``first_rank … first_rank + local_world_size - 1`` of ``world_size``.
    address, port : str, int
        Where rank 0 listens.
    restarts, max_restarts : int
        How often it began again, and may.
    """

    called: ClassVar[str] = "part"

    run_id: str = spec_field(text)
    node_rank: int = spec_field(natural, default=0)
    nodes: int = spec_field(positive(integer), default=1)
    first_rank: int = spec_field(natural, default=0)
    local_world_size: int = spec_field(positive(integer), default=1)
    world_size: int = spec_field(positive(integer), default=1)
    address: str = spec_field(text, default="127.0.0.1")
    port: int = spec_field(positive(integer))
    restarts: int = spec_field(natural, default=0)
    max_restarts: int = spec_field(natural, default=0)


def parts(how: Distributed, run_id: str, grants: Sequence[Grant], *, address: str | None = None, restarts: int = 0) -> tuple[Part, ...]:
    """Return what each member is told, pure: two followers tell the same.

    Parameters
    ----------
    how : `Distributed`
    run_id : str
        The first member's attempt.
    grants : sequence of `Grant`
        Of each member, the first one's first.
    address : str, optional
        Where the others reach the first; this host itself where its place says nothing.
    restarts : int

    Examples
    --------
    >>> here = [Grant(id=f"j{i}.1", node="n", gpu_ids=("0", "1")[: 2 - i], amounts={"gpu": 2.0 - i}) for i in range(2)]
    >>> [(one.node_rank, one.first_rank, one.local_world_size, one.world_size) for one in parts(Distributed(nodes=(2, 2)), "j.1", here)]
    [(0, 0, 2, 3), (1, 2, 1, 3)]
    """
    counts = [how.processes(grant) for grant in grants]
    common: dict[str, Any] = {"run_id": run_id, "nodes": len(counts), "world_size": sum(counts), "port": port_of(run_id)}
    return tuple(
        Part(
            **common,
            node_rank=number,
            first_rank=sum(counts[:number]),
            local_world_size=count,
            address=address if number and address else "127.0.0.1",
            restarts=restarts,
            max_restarts=how.max_restarts,
        )
        for number, count in enumerate(counts)
    )


def port_of(run_id: str) -> int:
    """Return the port that a start's ranks meet at: derived, so that nobody needs to be told.

    Where rank 0 finds it taken its attempt counts as lost, and the next has another.

    Examples
    --------
    >>> port_of("j.1") == port_of("j.1"), port_of("j.1") == port_of("j.2")
    (True, False)
    """
    return _PORTS[int(hashlib.sha256(run_id.encode()).hexdigest()[:8], 16) % len(_PORTS)]
