"""When a trigger may fire, and where its blocking calls run."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from airflow_dla.runtime.host import host_id
from airflow_dla.runtime.processes import boot_id, is_known

T = TypeVar("T")

#: Calls that wait for the ledger; never asyncio's default pool, which has six threads on two cores.
_LEDGER = ThreadPoolExecutor(4, thread_name_prefix="dla-ledger")

#: Seconds the scheduler may need to learn that the process which deferred has ended, at least; measured on a host with nothing else to do.
_SETTLE_S: Final = 3.0
#: Seconds between deferral and event where that process cannot be seen.
_UNSEEN_S: Final = 8.0
#: Longest wait for that process, in seconds.
_LONGEST_S: Final = 30.0


async def in_ledger_pool(call: Callable[..., T], *args: Any) -> T:
    """Call in a thread of our own, with this coroutine's context, which Airflow's lookups need."""
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_LEDGER, lambda: context.run(call, *args))


def this_process(waited_s: float = 0.0) -> dict[str, Any]:
    """Return what names this process for ever, host, pid and start time in clock ticks, and how long it took to begin.

    Parameters
    ----------
    waited_s : float
        Seconds of its life in which it only waited.
    """
    stat = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace")
    ticks = int(stat.rpartition(")")[2].split()[19])
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return {"host": host_id(), "pid": os.getpid(), "start_ticks": ticks, "began_after_s": max(0.0, age_s - waited_s)}


async def settled(task_process: dict[str, Any] | None, *, seen: bool) -> None:
    """Wait until the process that deferred is gone, and the scheduler knows.

    An event fired before that makes Airflow 3.3 fail the task: the executor's
    success of the first hop then meets a task that is queued or running again
    (apache/airflow#67287, #71580). A job that runs for longer waits for nothing.
    The supervisor may reap it seconds later, and under load a turn of the scheduler
    takes longer than any fixed time: about as long as the process took to begin.

    Parameters
    ----------
    task_process : dict or None
        As `this_process` told.
    seen : bool
        Whether a scheduler is there at all: ``dag.test()`` has neither executor nor scheduler.
    """
    if task_process is None or not seen:
        return
    if task_process["host"] != host_id():
        await asyncio.sleep(_UNSEEN_S)
        return
    pid, ticks = task_process["pid"], task_process["start_ticks"]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LONGEST_S):
            while is_known(pid, boot=boot_id(), start_ticks=ticks):  # noqa: ASYNC110 - another process sets no event
                await asyncio.sleep(0.25)
    await asyncio.sleep(min(_LONGEST_S, max(_SETTLE_S, task_process.get("began_after_s", 0.0))))
