"""What a job asks for: amounts of resources, with ranges, units and per-GPU values."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs.values import amount, mapping, refuse_unknown, text

#: Every resource and the unit its amounts are held in.
RESOURCES: Final[Mapping[str, str]] = MappingProxyType(
    {"cpu": "cores", "gpu": "GPUs", "gpu_memory": "GiB", "memory": "GiB", "shm": "GiB", "disk": "GiB", "network": "MB/s"}
)

_NUMBER = r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_AMOUNT = re.compile(rf"({_NUMBER})(?:\s*-\s*({_NUMBER}))?\s*([A-Za-z]+(?:/s)?)?\s*(/gpu)?")
_GIB: Final = 2**30
_BYTES = {
    "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
}  # fmt: skip
_SIZES = {unit: size / _GIB for unit, size in _BYTES.items()}
_UNITS: Final[Mapping[str, Mapping[str, float]]] = {
    "cpu": {"m": 0.001},
    "gpu": {"m": 0.001},
    "gpu_memory": _SIZES,
    "memory": _SIZES,
    "shm": _SIZES,
    "disk": _SIZES,
    "network": {"MB/s": 1.0, "GB/s": 1000.0, "Mbit/s": 0.125, "Gbit/s": 125.0},
}


@dataclasses.dataclass(frozen=True, slots=True)
class Range:
    """An amount between what is needed and what is wanted.

    Parameters
    ----------
    minimum, wanted : float
        In the resource's unit; equal for a plain number, which is granted whole or waits.
    per_gpu : bool
        Whether the amounts are for each GPU granted.
    """

    minimum: float
    wanted: float
    per_gpu: bool = False

    @classmethod
    def parse(cls, resource: str, raw: object, where: str) -> Self:
        """Read ``4``, ``"4-8"``, ``"1-2GiB"``, ``"500m"`` or ``"8GiB/gpu"``.

        Examples
        --------
        >>> Range.parse("memory", "512MiB-2048MiB", "request.memory")
        Traceback (most recent call last):
        airflow_dla.errors.InvalidSpec: request.memory: cannot read '512MiB-2048MiB' as an amount...
        >>> Range.parse("memory", "512-2048MiB", "request.memory")
        Range(minimum=0.5, wanted=2.0, per_gpu=False)
        >>> Range.parse("cpu", "8/gpu", "request.cpu")
        Range(minimum=8.0, wanted=8.0, per_gpu=True)
        """
        if not isinstance(raw, str):
            plain = amount(raw, where)
            return cls(plain, plain)
        match = _AMOUNT.fullmatch(raw.strip())
        if not match:
            raise InvalidSpec(f"{where}: cannot read {raw!r:.80} as an amount of {resource} >= 0; write 4, '4-8', {_example(resource)}")
        low, high, unit, per_gpu = match.groups()
        scale = _scale(resource, unit, where)
        minimum = amount(float(low) * scale, where)
        wanted = minimum if high is None else amount(float(high) * scale, where)
        if minimum > wanted:
            raise InvalidSpec(f"{where}: a range goes from the minimum to what is wanted, got {raw!r}")
        if per_gpu and resource in {"gpu", "gpu_memory"}:
            raise InvalidSpec(f"{where}: {resource} cannot be given per GPU, got {raw!r}")
        return cls(minimum, wanted, bool(per_gpu))

    def to_plain(self) -> float | str:
        """Write the amount back, in the resource's own unit."""
        if self.minimum == self.wanted:
            return f"{self.wanted!r}/gpu" if self.per_gpu else self.wanted
        return f"{self.minimum!r}-{self.wanted!r}{'/gpu' if self.per_gpu else ''}"


def _scale(resource: str, unit: str | None, where: str) -> float:
    if unit is None:
        return 1.0
    if unit not in _UNITS[resource]:
        raise InvalidSpec(f"{where}: unknown unit {unit!r} for {resource}; known are {', '.join(_UNITS[resource])}")
    return _UNITS[resource][unit]


def _example(resource: str) -> str:
    units = [unit for unit in ("GiB", "MB/s", "m") if unit in _UNITS[resource]]
    example = {"GiB": "'8GiB', '1-2GiB', '8GiB/gpu'", "MB/s": "'100MB/s'", "m": "'500m', '8/gpu'"}
    return example[units[0]]


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """What a job or replica asks for.

    Parameters
    ----------
    amounts : mapping of resource to `Range`
        A resource that is not named is neither granted nor limited.
    gpu_type : str or None
        The only type of GPU that will do, for example ``"h200"``.

    Examples
    --------
    >>> request = Request.from_mapping({"cpu": "1-2", "memory": "1GiB"})
    >>> request.amounts["cpu"].wanted
    2.0
    >>> Request.from_mapping({"ram": 1})
    Traceback (most recent call last):
    airflow_dla.errors.InvalidSpec: request: unknown key 'ram'; known are cpu, gpu, gpu_memory, ...
    """

    amounts: Mapping[str, Range]
    gpu_type: str | None = None

    called: ClassVar[str] = "request"

    def __post_init__(self) -> None:
        gpu = self.amounts.get("gpu", Range(0.0, 0.0))
        if gpu.wanted == 0:
            self._refuse_gpu_parts()
        if gpu.wanted > 1 and not (gpu.minimum.is_integer() and gpu.wanted.is_integer()):
            raise InvalidSpec(f"request.gpu must be whole numbers of GPUs or a share of one, got {gpu.to_plain()}")

    def _refuse_gpu_parts(self) -> None:
        per_gpu = [resource for resource, found in self.amounts.items() if found.per_gpu]
        if per_gpu:
            raise InvalidSpec(f"request: {', '.join(per_gpu)} given per GPU, but no gpu is asked for; add gpu or drop '/gpu'")
        for part, given in (("gpu_type", self.gpu_type), ("gpu_memory", self.amounts.get("gpu_memory"))):
            if given is not None:
                raise InvalidSpec(f"request: {part} without a gpu; add gpu or drop {part}")

    @classmethod
    def from_mapping(cls, raw: object, where: str = "request") -> Self:
        """Read and check a plain mapping.

        Raises
        ------
        InvalidSpec
            On unknown keys and on amounts that are negative or cannot be read.
        """
        if isinstance(raw, cls):
            return raw
        given = dict(mapping(raw, where))
        refuse_unknown(given, [*RESOURCES, "gpu_type"], where)
        gpu_type = given.pop("gpu_type", None)
        amounts = {key: Range.parse(key, value, f"{where}.{key}") for key, value in given.items() if value is not None}
        if not any(found.wanted > 0 for found in amounts.values()):
            raise InvalidSpec(f"{where} asks for nothing; name at least one of {', '.join(RESOURCES)}")
        return cls(MappingProxyType(amounts), None if gpu_type is None else text(gpu_type, f"{where}.gpu_type"))

    def to_mapping(self) -> dict[str, Any]:
        """Write a plain mapping that `from_mapping` reads back as the same request."""
        written: dict[str, Any] = {key: found.to_plain() for key, found in self.amounts.items()}
        return written if self.gpu_type is None else {**written, "gpu_type": self.gpu_type}


def amounts(raw: object, where: str) -> dict[str, float]:
    """Parse plain amounts by resource, with units but without ranges, into the units of `RESOURCES`.

    Examples
    --------
    >>> amounts({"cpu": 80, "memory": "512MiB"}, "node.capacity")
    {'cpu': 80.0, 'memory': 0.5}
    """
    refuse_unknown(mapping(raw, where), RESOURCES, where)
    return {resource: _fixed(resource, value, f"{where}.{resource}") for resource, value in mapping(raw, where).items()}


def _fixed(resource: str, raw: object, where: str) -> float:
    found = Range.parse(resource, raw, where)
    if found.minimum != found.wanted or found.per_gpu:
        raise InvalidSpec(f"{where} must be one amount, without a range or '/gpu', got {raw!r:.80}")
    return found.wanted
