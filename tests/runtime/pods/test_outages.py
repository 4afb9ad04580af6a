"""API servers that go away while jobs run: nothing is concluded from silence, and the end is the right one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cluster_runtime import small
from clusters import REAL, ROLE, Site
from contracts.runtime import ended, submitted, wait_until
from cut_wire import CutWire

from airflow_dla.errors import PlaceUnavailable
from airflow_dla.runtime.kubernetes.runtime import KubernetesRuntime
from airflow_dla.specs import Exit, ExitReason

pytestmark = pytest.mark.timeout(240)

Runtimes = Callable[..., KubernetesRuntime]

#: Counts until it has counted far enough.
COUNTS = "i=0; while [ $i -lt %d ]; do echo $i; i=$((i+1)); sleep 0.1; done; echo end"


@pytest.fixture
def wire(site: Site) -> Iterator[tuple[Site, CutWire]]:
    """Return the site past a wire."""
    with site.past() as found:
        yield found


@pytest.fixture
def far(runtimes: Runtimes, wire: tuple[Site, CutWire]) -> KubernetesRuntime:
    """Return a runtime that reaches its cluster by the wire, and takes silence for an outage soon."""
    return runtimes(wire[0], quick_s=1.0, slow_s=3.0, silent_s=3.0)


def counting(far: KubernetesRuntime, count: int = 50) -> str:
    """Start a job that counts for a tenth of so many seconds; return its attempt."""
    submitted(far, small(["sh", "-c", COUNTS % count]), 60)
    wait_until(lambda: far.logs("job.1", 0).data)
    return "job.1"


def patiently(call: Callable[[], Any]) -> Any:
    """Call again while the server does not answer."""
    while True:
        with contextlib.suppress(PlaceUnavailable):
            return call()
        time.sleep(0.1)


def followed(far: KubernetesRuntime, attempt: str, until: Callable[[], bool], offset: int = 0) -> bytes:
    """Read a log on from an offset, as followers do, until something is true; return what came."""
    read = b""
    while not until():
        with contextlib.suppress(PlaceUnavailable):
            read += far.logs(attempt, offset + len(read)).data
        time.sleep(0.1)
    return read


def whole_log(far: KubernetesRuntime, attempt: str) -> list[bytes]:
    """Return the lines of a job's log, read from the beginning."""
    return list(patiently(lambda: far.logs(attempt, 0)).data.splitlines())


def counted(count: int) -> list[bytes]:
    """Return the lines of a job that counted so far."""
    return [*(b"%d" % number for number in range(count)), b"end"]


@pytest.mark.parametrize("how", ["cut", "silent"])
def test_gone_for_a_while(far: KubernetesRuntime, wire: tuple[Site, CutWire], how: str):
    """Whether it refuses or says nothing: it is unavailable, not the job ended; then the end is seen and the log has no hole."""
    attempt = counting(far)
    read = far.logs(attempt, 0).data
    with getattr(wire[1], how)():
        wait_until(lambda: _unavailable(lambda: far.status(attempt)), 20)
        time.sleep(6)
        assert _unavailable(lambda: far.status(attempt))
    found = patiently(lambda: ended(far, attempt, 60))
    assert found.succeeded
    assert whole_log(far, attempt) == counted(50)
    assert b"".join([read, far.logs(attempt, len(read)).data]).splitlines() == counted(50)


def test_connections_that_break(far: KubernetesRuntime, wire: tuple[Site, CutWire]):
    """Broken connections every now and then are nobody's business: no hole and no line twice in the log, the right end."""
    attempt = counting(far, 60)
    read, until = b"", time.monotonic() + 8
    while time.monotonic() < until:
        wire[1].tear()
        begun = time.monotonic()
        read += followed(far, attempt, lambda begun=begun: time.monotonic() > begun + 0.7, len(read))
    assert patiently(lambda: ended(far, attempt, 60)).succeeded
    read += far.logs(attempt, len(read)).data
    assert read.splitlines() == counted(60)


def test_ended_while_it_was_away(far: KubernetesRuntime, wire: tuple[Site, CutWire]):
    """What ended in the meantime is not lost."""
    attempt = counting(far, 20)
    with wire[1].cut():
        time.sleep(5)
    assert patiently(lambda: ended(far, attempt, 60)).succeeded
    assert whole_log(far, attempt) == counted(20)


def test_deleted_while_it_was_away(far: KubernetesRuntime, wire: tuple[Site, CutWire], site: Site):
    """A pod that somebody deleted meanwhile is lost, though no watch told of it."""
    attempt = counting(far, 600)
    with wire[1].cut():
        site.ask("DELETE", f"{site.at('v1', 'pods', site.pod(attempt)['metadata']['name'])}?gracePeriodSeconds=1")
        time.sleep(4)
    assert patiently(lambda: ended(far, attempt, 60)).reason is ExitReason.LOST


def test_cancel_while_away(far: KubernetesRuntime, wire: tuple[Site, CutWire]):
    """A stop that did not arrive is asked for again, and then counts."""
    attempt = counting(far, 600)
    with wire[1].cut(), pytest.raises(PlaceUnavailable):
        far.cancel(attempt, ExitReason.PREEMPTED)
    patiently(lambda: far.cancel(attempt, ExitReason.PREEMPTED))
    assert patiently(lambda: ended(far, attempt, 30)).reason is ExitReason.PREEMPTED


def test_away_while_it_is_launched(far: KubernetesRuntime, wire: tuple[Site, CutWire]):
    """A launch that an outage cut is finished later, once."""
    launch = small(["sh", "-c", "echo $TOKEN"], secrets={"TOKEN": "once"})
    for _ in range(3):
        for way in (contextlib.nullcontext(), wire[1].cut()):
            with way, contextlib.suppress(PlaceUnavailable, AssertionError):
                submitted(far, launch, 0.1)
    patiently(lambda: submitted(far, launch, 60))
    assert patiently(lambda: ended(far, "job.1", 60)).succeeded
    assert whole_log(far, "job.1") == [b"once"]


def test_published_across_outages(far: KubernetesRuntime, wire: tuple[Site, CutWire]):
    """Outputs of 30 MB that many breaks interrupt arrive whole."""
    script = "echo on; head -c 30000000 /dev/zero > {outputs.model}/zeros; echo 7 > {outputs.model}/n"
    patiently(lambda: submitted(far, small(["sh", "-c", script], outputs=("model",)), 60))
    until = time.monotonic() + 90
    found: Exit | None = None
    while found is None:
        assert time.monotonic() < until
        with contextlib.suppress(PlaceUnavailable):
            found = far.status("job.1").exit
        time.sleep(0.3)
        if time.monotonic() < until - 80:
            wire[1].tear()
    assert found.succeeded, found
    assert list(found.outputs) == ["model"]


# --- credentials ---------------------------------------------------------------------


@pytest.mark.parametrize("site", REAL, indirect=True)
def test_expired_token(site: Site, runtimes: Runtimes):
    """A token that is not valid any more is said; a new one in the same connection is used without more ado."""
    with site.limited(ROLE) as limited:
        user = limited.config["users"][0]["user"]
        token, user["token"] = user["token"], "expired"
        runtime = runtimes(limited)
        with pytest.raises(PlaceUnavailable, match=r"credentials have expired .*; ?.*renew|renew those of the place's connection"):
            runtime.status("job.1")
        user["token"] = token
        attempt = patiently(lambda: counting(runtime, 100))
        user["token"] = "expired"
        runtime.cluster._server.forget()  # as a proxy does that closes what is idle
        assert _unavailable(lambda: runtime.logs(attempt, 0)) or runtime.status(attempt).alive
        user["token"] = token
        patiently(lambda: runtime.cancel(attempt, ExitReason.STOPPED))
        assert patiently(lambda: ended(runtime, attempt, 30)).reason is ExitReason.STOPPED


def _unavailable(call: Callable[[], Any]) -> bool:
    try:
        call()
    except PlaceUnavailable:
        return True
    return False
