"""The resource-allocation hook: a share of CPUs, GPUs and memory for anybody's operator."""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any, Final

from airflow.sdk import BaseHook

from airflow_dla.control import Workspace, ask, keep, refuse_never_grantable, run_round
from airflow_dla.errors import GrantLost, InvalidSpec, JobTimedOut, LedgerUnavailable, NotFound
from airflow_dla.hooks.workspace import DlaHook
from airflow_dla.ledger import Lease, Round
from airflow_dla.specs import Demand, Grant, JobPolicy, Reason, Request

#: What a bare grant's policy may say.
_POLICY: Final = ("team", "priority", "wait_timeout")


class ResourceAllocationHook(BaseHook):
    """Runs allocation rounds, and holds grants for operators that are not ours.

    Parameters
    ----------
    dla_conn_id : str

    Examples
    --------
    In the ``execute`` of any operator::

        with ResourceAllocationHook().grant(cpu=2, memory="4GiB") as grant:
            train(threads=int(grant.amounts["cpu"]))
    """

    conn_name_attr = "dla_conn_id"
    default_conn_name = DlaHook.default_conn_name
    conn_type = "dla"
    hook_name = "Deep-learning agents: resource allocation"

    def __init__(self, dla_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.dla_conn_id = dla_conn_id

    def get_conn(self) -> Workspace:
        """Return the workspace."""
        return DlaHook(self.dla_conn_id, kind="worker").workspace()

    def round(self, *, force: bool = False) -> Round:
        """Run one allocation round, or learn that nothing has changed that could help."""
        return run_round(self.get_conn(), force=force)

    @contextlib.contextmanager
    def grant(self, *, policy: dict[str, Any] | None = None, **request: float | str) -> Iterator[Grant]:
        """Hold a share of this host for as long as the block runs.

        Parameters
        ----------
        policy : dict, optional
            ``{team, priority, wait_timeout}``; nothing else, since the block can be neither
            stopped at a checkpoint and begun again nor given more or less while it runs.
        **request
            ``cpu=2, memory="4GiB", gpu="0-1"``; see `Request`.

        Yields
        ------
        Grant
            Accounted, not enforced: the block runs in the caller's process.

        Raises
        ------
        InvalidSpec
            If the policy asks for more than that.
        NeverGrantable
            If no node is large enough.
        JobTimedOut
            If ``wait_timeout`` passed without a grant.
        GrantLost
            In the middle of the block, when the lease could not be renewed and the grant is about to be taken away.
        """
        workspace = self.get_conn()
        read = _policy(policy or {})
        demand = Demand(
            id=uuid.uuid4().hex[:20],
            request=Request.from_mapping(request),
            node=workspace.own_node,
            team=read.team,
            priority=read.priority,
            preemptible=False,
        )
        try:
            self.ask(demand)
            self._wait(workspace, demand.id, read.wait_timeout_s)
            with self.holding(demand.id) as lease:
                yield lease.grant
        finally:
            workspace.ledger.release([demand.id])

    def ask(self, demand: Demand) -> Lease | Reason | None:
        """Write a demand unless it is there already, run a round, and return its lease or why it waits.

        Raises
        ------
        NeverGrantable
            If no node is large enough.
        """
        workspace = self.get_conn()
        refuse_never_grantable(workspace, demand)
        return ask(workspace, [demand])[demand.id]

    @contextlib.contextmanager
    def holding(self, demand: str) -> Iterator[Lease]:
        """Renew a grant's lease for as long as the block runs, taking it over from whoever held it; frees nothing.

        Raises
        ------
        NotFound
            If it is not granted.
        GrantLost
            In the middle of the block, when the grant is about to be taken away.
        """
        workspace = self.get_conn()
        workspace.ledger.renew([demand], holder=workspace.follower, lease_s=workspace.timing.lease_s)
        answer = workspace.ledger.answer(demand)
        if not isinstance(answer, Lease):
            raise NotFound(f"demand {demand!r} waits and holds nothing; ask for it and wait first")
        with _Renewal(workspace, demand):
            yield answer

    def _wait(self, workspace: Workspace, demand: str, timeout_s: float | None) -> None:
        began, said = time.monotonic(), ""
        while True:
            answers = ask(workspace, waiting=[demand])
            if demand not in answers:
                raise NotFound(f"demand {demand!r} is gone: it was cancelled, or its grant was taken away; ask again")
            answer = answers[demand]
            if isinstance(answer, Lease):
                return
            text = answer.text if isinstance(answer, Reason) else "the first round has not come yet"
            if text != said:
                said = text
                self.log.info("Waiting for resources: %s", text)
            if timeout_s is not None and time.monotonic() - began > timeout_s:
                raise JobTimedOut(f"no grant within wait_timeout ({timeout_s:g} s): {text}")
            time.sleep(workspace.timing.poll_s)


def _policy(raw: dict[str, Any]) -> JobPolicy:
    """Read the policy of a block of somebody's own code."""
    for name in raw:
        if name not in _POLICY:
            raise InvalidSpec(
                f"policy.{name} is for jobs; a bare grant takes {', '.join(_POLICY)} (its block cannot be preempted, resized or run "
                "elsewhere): use JobOperator for the rest"
            )
    return JobPolicy.from_mapping(raw)


class _Renewal:
    """Renews one lease from a thread, and interrupts its holder before the grant is taken away.

    A round may want the grant changed; it is told that this one cannot be.
    """

    def __init__(self, workspace: Workspace, demand: str) -> None:
        self._workspace = workspace
        self._demand = demand
        self._done = threading.Event()
        self._holder = threading.get_ident()
        self._thread = threading.Thread(target=self._renew, name="dla-lease", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _renew(self) -> None:
        workspace, timing = self._workspace, self._workspace.timing
        renewed = time.monotonic()
        while not self._done.wait(timing.renew_s):
            try:
                held = keep(workspace, [self._demand])
            except LedgerUnavailable:
                held = frozenset({self._demand}) if time.monotonic() - renewed < timing.lease_s + timing.bare_s / 2 else frozenset()
            else:
                renewed = time.monotonic()
            if self._demand not in held:
                _interrupt(self._holder)
                return


def _interrupt(thread: int) -> None:
    """Raise `GrantLost` in a thread: two jobs on one GPU are worse than one that ends."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(GrantLost))
