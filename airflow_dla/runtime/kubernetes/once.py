"""One pod for an attempt, also where Kueue has its Job make another.

What Kueue has admitted it may take back, and starts again when there is room: the cluster
makes a new pod of the same Job each time, as soon as the old one has ended and whether
somebody follows it or not. So every pod of such a Job has a gate, past which no scheduler
places it. The first that a follower finds is written into the Job, and then let go; no
other ever is. A Job that was taken back is over for us: another attempt follows.
"""

from __future__ import annotations

from airflow_dla.errors import NotReady
from airflow_dla.runtime.kubernetes import body, names
from airflow_dla.runtime.kubernetes.facts import Document, Pod, bound_of, is_over, is_suspended
from airflow_dla.runtime.kubernetes.shelf import Shelf


def let_go(shelf: Shelf, attempt: str, found: Document) -> Document:
    """Let the first pod of an attempt's Job go; return the Job as it is then.

    Parameters
    ----------
    shelf : `Shelf`
    attempt : str
    found : mapping
        The Job, for which nothing is to be made any more.

    Raises
    ------
    NotReady
        If the Job was removed meanwhile.
    """
    pod = shelf.held(attempt)
    if pod is None:
        return found
    # Who wants a stop does not look for pods that were not let go.
    written = shelf.change(attempt, lambda job: body.bound(job, pod), unless=(names.POD, names.STOP, names.EXIT))
    if written is None:
        raise NotReady("its Job was removed and is made again")
    bound = bound_of(written)
    if bound is not None and bound.uid == pod["metadata"]["uid"]:
        shelf.let_go(pod, body.let_go(pod))
    return written


def was_taken_back(job: Document, pod: Pod | None) -> bool:
    """Return whether Kueue took a Job back after its pod was let go, also if it has started the Job again.

    Parameters
    ----------
    job : mapping
        As the cluster has it now, if its pod is being deleted.
    pod : `Pod` or None
        That was let go.

    Examples
    --------
    >>> job = {"metadata": {"annotations": {"airflow-dla/pod": '{"name": "p", "uid": "u"}'}}, "spec": {"suspend": True}}
    >>> was_taken_back(job, Pod(name="p")), was_taken_back({**job, "metadata": {}}, None)
    (True, False)
    """
    if bound_of(job) is None or is_over(job):
        return False
    if pod is None:
        return True
    if pod.main.ended and pod.deleted_at is None:
        return False
    if is_suspended(job):
        return True
    # The Job controller lets go of what it deletes itself; all others it counts first, and is over then.
    return pod.deleted_at is not None and not pod.tracked
