"""The NVIDIA GPUs of this host, as its driver tells (NVML): ids, types, memory, and whose processes are on them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from airflow_dla.specs.resources import GIB

#: Words of a product's name that say nothing of its type, and what follows it.
_MAKERS: Final = re.compile(r"^(?:NVIDIA|Tesla|GeForce|Quadro|Graphics|Device)\s+", re.IGNORECASE)
_BUILD: Final = re.compile(r"(?:[- ](?:SXM\d*|PCIE?|NVL|HBM\w*|\d+GB|MIG)\b.*)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU.

    Parameters
    ----------
    id : str
        ``GPU-…``, the same at every start of the host.
    type : str
        ``h200``, ``a100``, ``rtx-4090``.
    memory_gib : float
    pids : tuple of int
        Of the processes that compute on it, as this host numbers them.
    slices : tuple of (str, str)
        Profile and id of each slice of it (MIG); such a GPU is never granted whole.
    """

    id: str
    type: str
    memory_gib: float
    pids: tuple[int, ...] = ()
    slices: tuple[tuple[str, str], ...] = ()


def gpu_type(product: str) -> str:
    """Return what people call a type of GPU.

    Examples
    --------
    >>> gpu_type("NVIDIA H200"), gpu_type("NVIDIA A100-SXM4-80GB"), gpu_type("Tesla T4"), gpu_type("NVIDIA GeForce RTX 4090")
    ('h200', 'a100', 't4', 'rtx-4090')
    """
    name = product
    while (shorter := _MAKERS.sub("", name)) != name:
        name = shorter
    return _BUILD.sub("", name).strip().lower().replace(" ", "-")


def nvidia_gpus() -> tuple[Gpu, ...]:
    """Return this host's GPUs in their driver's order; none where driver or ``nvidia-ml-py`` (extra ``gpu``) are missing."""
    try:
        import pynvml  # noqa: PLC0415 - an optional dependency
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        return tuple(_gpu(pynvml, pynvml.nvmlDeviceGetHandleByIndex(index)) for index in range(pynvml.nvmlDeviceGetCount()))
    finally:
        pynvml.nvmlShutdown()


def _gpu(nvml: Any, handle: Any) -> Gpu:
    slices = tuple(_slices(nvml, handle))
    return Gpu(
        id=_text(nvml.nvmlDeviceGetUUID(handle)),
        type=gpu_type(_text(nvml.nvmlDeviceGetName(handle))),
        memory_gib=nvml.nvmlDeviceGetMemoryInfo(handle).total / GIB,
        pids=tuple(sorted(process.pid for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle))),
        slices=slices,
    )


def _slices(nvml: Any, handle: Any) -> Iterator[tuple[str, str]]:
    """Yield profile and id of a GPU's slices; nothing where it cannot be sliced, or is not."""
    with contextlib.suppress(nvml.NVMLError):
        if nvml.nvmlDeviceGetMigMode(handle)[0] != nvml.NVML_DEVICE_MIG_ENABLE:
            return
        for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            with contextlib.suppress(nvml.NVMLError):  # no slice has this number
                found = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
                yield _text(nvml.nvmlDeviceGetName(found)).rpartition("MIG ")[2], _text(nvml.nvmlDeviceGetUUID(found))


def _text(raw: bytes | str) -> str:
    return raw.decode() if isinstance(raw, bytes) else raw


def groups_of(pid: int) -> str:
    """Return the control groups of a process, as the kernel writes them; nothing when it is gone or not to be seen."""
    try:
        return Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
    except OSError:
        return ""
