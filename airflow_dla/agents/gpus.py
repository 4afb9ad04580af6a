"""How much a job uses of its GPUs, as their driver tells (NVML); nothing where the driver or ``nvidia-ml-py`` is missing."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import AbstractSet, Any, Callable, Dict, Mapping, Optional, Sequence

_GIB = 2**30
#: The driver's own utilisation is of the last second or less.
_LOOK_S = 1.0
_LONGEST_PAUSE_S = 60.0


@dataclass(frozen=True)
class Sample:
    """One GPU at a moment.

    Parameters
    ----------
    memory : int or None
        Bytes that are held on it; None where the driver does not tell.
    busy : float or None
        The part of the last moments, 0 to 1, in which it computed; None where the driver does not tell, as of a slice.
    """

    memory: Optional[int] = None
    busy: Optional[float] = None


#: Reads a GPU by its id: all that is on it, or what some processes have there.
Read = Callable[[str, Optional[AbstractSet[int]]], Sample]


def in_a_thread(call: Callable[[], None]) -> None:
    """Call without waiting for it: a driver whose GPU fell off may never answer."""
    threading.Thread(target=call, daemon=True, name="gpus").start()


class GpuUsage:
    """The most that a job held and used of its GPUs, and for how long it kept them busy.

    Parameters
    ----------
    gpus : sequence of str
        Ids of GPUs or slices, or numbers.
    members : callable or None
        Returns the job's processes as this host numbers them, where it shares a GPU with
        others; None where all that happens on its GPUs is its own.
    read : callable, optional
        By default through NVML.
    clock : callable
        Returns seconds that only grow.
    run : callable
        Runs a look beside its caller, who has a job to keep.
    """

    def __init__(
        self,
        gpus: Sequence[str],
        members: Optional[Callable[[], AbstractSet[int]]] = None,
        *,
        read: Optional[Read] = None,
        clock: Callable[[], float] = time.monotonic,
        run: Callable[[Callable[[], None]], None] = in_a_thread,
    ) -> None:
        self._gpus = tuple(gpus)
        self._members = members
        self._read = read
        self._clock = clock
        self._run = run
        self._looks = False
        self._pause_s = _LOOK_S
        self._next_at = float("-inf")
        self._seen_at: Optional[float] = None
        self._peaks: Dict[str, float] = {}

    @property
    def peaks(self) -> Dict[str, float]:
        """``gpu_memory``, GiB on one of them, ``gpu``, how many were busy at once, and ``gpu_s``; what was never read is left out."""
        return {name: round(value, 6) for name, value in dict(self._peaks).items()}

    def look(self) -> None:
        """Look, at most once a second and one look at a time; ever more seldom where there is nothing to see."""
        if self._gpus and not self._looks and self._clock() >= self._next_at:
            self._looks = True
            self._run(self._look)

    def _look(self) -> None:
        now = self._clock()
        try:
            self._sample(now)
            self._pause_s = _LOOK_S
        except Exception:  # noqa: BLE001 - no library, no driver, a GPU that fell off: the job must not end for it
            self._seen_at = None
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        self._next_at, self._looks = now + self._pause_s, False

    def _sample(self, now: float) -> None:
        if self._read is None:
            self._read = Nvml().read
        pids = None if self._members is None else self._members()
        samples = [self._read(gpu, pids) for gpu in self._gpus]
        held = [sample.memory for sample in samples if sample.memory is not None]
        busy = [sample.busy for sample in samples if sample.busy is not None]
        if held:
            self._see("gpu_memory", max(held) / _GIB)
        if busy:
            self._see("gpu", sum(busy))
            past_s = 0.0 if self._seen_at is None else now - self._seen_at
            self._peaks["gpu_s"] = self._peaks.get("gpu_s", 0.0) + sum(busy) * past_s
            self._seen_at = now

    def _see(self, what: str, amount: float) -> None:
        self._peaks[what] = max(self._peaks.get(what, 0.0), amount)


def shares_a_gpu(gpus: Sequence[str], amounts: Mapping[str, float]) -> bool:
    """Whether a job has less than all of its GPUs; a slice is all its own.

    Examples
    --------
    >>> shares_a_gpu(["GPU-1"], {"gpu": 0.5}), shares_a_gpu(["GPU-1"], {"gpu": 1.0}), shares_a_gpu(["MIG-1"], {"mig-1g.10gb": 1.0})
    (True, False, False)
    """
    return amounts.get("gpu", 0.0) < sum(not gpu.startswith("MIG-") for gpu in gpus)


class Nvml:
    """The driver of this host, through ``nvidia-ml-py``.

    Raises
    ------
    ImportError
        If that is not installed.
    pynvml.NVMLError
        If there is no driver.
    """

    def __init__(self) -> None:
        import pynvml  # noqa: PLC0415 - an optional dependency

        self._nvml: Any = pynvml
        self._handles: Dict[str, Any] = {}
        pynvml.nvmlInit()

    def read(self, gpu: str, pids: Optional[AbstractSet[int]]) -> Sample:
        """Read a GPU; of what some processes have there where they are named."""
        handle = self._handle(gpu)
        return Sample(self._memory(handle, pids), self._busy(handle, pids))

    def _handle(self, gpu: str) -> Any:
        if gpu not in self._handles:
            by_number = self._nvml.nvmlDeviceGetHandleByIndex
            self._handles[gpu] = by_number(int(gpu)) if gpu.isdigit() else self._nvml.nvmlDeviceGetHandleByUUID(gpu)
        return self._handles[gpu]

    def _memory(self, handle: Any, pids: Optional[AbstractSet[int]]) -> Optional[int]:
        running = self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        held = [process.usedGpuMemory for process in running if pids is None or process.pid in pids]
        if None not in held:
            return int(sum(held))
        return int(self._nvml.nvmlDeviceGetMemoryInfo(handle).used) if pids is None else None

    def _busy(self, handle: Any, pids: Optional[AbstractSet[int]]) -> Optional[float]:
        try:
            if pids is None:
                return float(self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu) / 100
            since_us = int((time.time() - _LOOK_S) * 1e6)
            found = self._nvml.nvmlDeviceGetProcessUtilization(handle, since_us)
        except self._nvml.NVMLError as error:
            idle = getattr(self._nvml, "NVML_ERROR_NOT_FOUND", None) == getattr(error, "value", -1)
            return 0.0 if idle else None
        last = {line.pid: line.smUtil for line in found if line.pid in pids}
        return min(1.0, float(sum(last.values())) / 100)
