"""What a job asks for: amounts of resources, with ranges, units and per-GPU values."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs.values import amount, mapping, mapping_of, refuse_unknown, text

#: Every resource and the unit its amounts are held in; slices of GPUs, ``mig-PROFILE``, are resources besides.
RESOURCES: Final[Mapping[str, str]] = MappingProxyType(
    {"cpu": "cores", "gpu": "GPUs", "gpu_memory": "GiB", "memory": "GiB", "shm": "GiB", "disk": "GiB", "network": "MB/s"}
)

_SLICE = re.compile(r"mig-([1-7]g\.\d+gb(?:\+me)?)")
#: What a request names besides resources: which nodes will do.
SELECTORS: Final = ("gpu_type", "labels", "prefer")

_NUMBER = r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_AMOUNT = re.compile(rf"({_NUMBER})(?:\s*-\s*({_NUMBER}))?\s*([A-Za-z]+(?:/s)?)?\s*(/gpu)?")
GIB: Final = 2**30
_BYTES = {
    "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
}  # fmt: skip
_SIZES = {unit: size / GIB for unit, size in _BYTES.items()}
_UNITS: Final[Mapping[str, Mapping[str, float]]] = {
    "cpu": {"m": 0.001},
    "gpu": {"m": 0.001},
    "gpu_memory": _SIZES,
    "memory": _SIZES,
    "shm": _SIZES,
    "disk": _SIZES,
    "network": {"MB/s": 1.0, "GB/s": 1000.0, "Mbit/s": 0.125, "Gbit/s": 125.0},
}


def unit_of(resource: str) -> str | None:
    """Return the unit of a resource; None for a name that is no resource.

    Examples
    --------
    >>> unit_of("memory"), unit_of("mig-1g.10gb"), unit_of("ram")
    ('GiB', 'slices', None)
    """
    return RESOURCES.get(resource) or ("slices" if mig_profile(resource) else None)


def mig_profile(resource: str) -> str | None:
    """Return the profile of a slice of a GPU (NVIDIA MIG); None for any other resource.

    Examples
    --------
    >>> mig_profile("mig-3g.40gb"), mig_profile("gpu")
    ('3g.40gb', None)
    """
    match = _SLICE.fullmatch(resource)
    return match[1] if match else None


def profile(raw: object, where: str) -> str:
    """Parse the profile of a slice: ``1g.10gb``, ``7g.80gb+me``."""
    found = text(raw, where)
    if mig_profile(f"mig-{found}") is None:
        raise InvalidSpec(f"{where} must be a MIG profile such as 1g.10gb, as nvidia-smi -L writes it, got {found!r}")
    return found


def refuse_no_resources(names: Iterable[str], where: str, *, besides: Iterable[str] = ()) -> None:
    """Refuse names that are no resources, naming the known ones.

    Parameters
    ----------
    besides : iterable of str
        What else may be named.
    """
    unknown = {name: None for name in names if unit_of(name) is None}
    refuse_unknown(unknown, [*RESOURCES, *besides, "mig-1g.10gb"], where)


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
        if per_gpu and (resource in {"gpu", "gpu_memory"} or mig_profile(resource)):
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
    known = _UNITS.get(resource, {})
    if unit not in known:
        raise InvalidSpec(f"{where}: unknown unit {unit!r} for {resource}; known are {', '.join(known) or 'none, slices are counted'}")
    return known[unit]


def _example(resource: str) -> str:
    if resource not in _UNITS:
        return "'1-2'"
    units = [unit for unit in ("GiB", "MB/s", "m") if unit in _UNITS[resource]]
    example = {"GiB": "'8GiB', '1-2GiB', '8GiB/gpu'", "MB/s": "'100MB/s'", "m": "'500m', '8/gpu'"}
    return example[units[0]]


_NOTHING: Final = Range(0.0, 0.0)
_NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})


def _no_labels() -> Mapping[str, str]:
    return _NO_LABELS


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """What a job or replica asks for.

    Parameters
    ----------
    amounts : mapping of resource to `Range`
        A resource that is not named is neither granted nor limited.
    gpu_type : str or None
        The only type of GPU that will do, for example ``"h200"``.
    labels : mapping of str
        Labels that a node must have, each with this value.
    prefer : mapping of str
        Labels that a node should have: of the nodes that have room, those with more of them go first.

    Examples
    --------
    >>> request = Request.from_mapping({"cpu": "1-2", "memory": "1GiB", "labels": {"zone": "a"}})
    >>> request.amounts["cpu"].wanted, request.labels["zone"]
    (2.0, 'a')
    >>> Request.from_mapping({"mig-1g.10gb": 1}).to_mapping()
    {'mig-1g.10gb': 1.0}
    >>> Request.from_mapping({"ram": 1})
    Traceback (most recent call last):
    airflow_dla.errors.InvalidSpec: request: unknown key 'ram'; known are cpu, gpu, gpu_memory, ...
    """

    amounts: Mapping[str, Range]
    gpu_type: str | None = None
    labels: Mapping[str, str] = dataclasses.field(default_factory=_no_labels)
    prefer: Mapping[str, str] = dataclasses.field(default_factory=_no_labels)

    called: ClassVar[str] = "request"

    def __post_init__(self) -> None:
        gpu = self.amounts.get("gpu", _NOTHING)
        slices = [resource for resource in self.amounts if resource not in RESOURCES]
        if slices:
            self._check_slices(slices, gpu)
        elif gpu.wanted == 0:
            self._refuse_gpu_parts()
        if gpu.wanted > 1 and not (gpu.minimum.is_integer() and gpu.wanted.is_integer()):
            raise InvalidSpec(f"request.gpu must be whole numbers of GPUs or a share of one, got {gpu.to_plain()}")

    def _check_slices(self, slices: list[str], gpu: Range) -> None:
        for resource in slices:
            found = self.amounts[resource]
            if not (found.minimum.is_integer() and found.wanted.is_integer()):
                raise InvalidSpec(f"request.{resource} must be a whole number of slices, got {found.to_plain()}")
        # CUDA shows a process either GPUs or slices of them, never both.
        if gpu.wanted > 0 or "gpu_memory" in self.amounts:
            beside = "gpu" if gpu.wanted > 0 else "gpu_memory"
            raise InvalidSpec(f"request: {beside} beside {slices[0]}; a job sees whole GPUs or slices, not both, so drop one of the two")
        self._refuse_per_gpu()

    def _refuse_gpu_parts(self) -> None:
        self._refuse_per_gpu()
        for part, given in (("gpu_type", self.gpu_type), ("gpu_memory", self.amounts.get("gpu_memory"))):
            if given is not None:
                raise InvalidSpec(f"request: {part} without a gpu; add gpu or drop {part}")

    def _refuse_per_gpu(self) -> None:
        per_gpu = [resource for resource, found in self.amounts.items() if found.per_gpu]
        if per_gpu:
            raise InvalidSpec(f"request: {', '.join(per_gpu)} given per GPU, but no gpu is asked for; add gpu or drop '/gpu'")

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
        selectors = {key: given.pop(key, None) for key in SELECTORS}
        refuse_no_resources(given, where, besides=SELECTORS)
        amounts = {key: Range.parse(key, value, f"{where}.{key}") for key, value in given.items() if value is not None}
        if not any(found.wanted > 0 for found in amounts.values()):
            raise InvalidSpec(f"{where} asks for nothing; name at least one of {', '.join(RESOURCES)}")
        gpu_type = selectors["gpu_type"]
        return cls(
            MappingProxyType(amounts),
            None if gpu_type is None else text(gpu_type, f"{where}.gpu_type"),
            labels=_labels(selectors["labels"], f"{where}.labels"),
            prefer=_labels(selectors["prefer"], f"{where}.prefer"),
        )

    def to_mapping(self) -> dict[str, Any]:
        """Write a plain mapping that `from_mapping` reads back as the same request."""
        written: dict[str, Any] = {key: found.to_plain() for key, found in self.amounts.items()}
        selectors = {"gpu_type": self.gpu_type, "labels": dict(self.labels), "prefer": dict(self.prefer)}
        return written | {key: value for key, value in selectors.items() if value}


def _labels(raw: object, where: str) -> Mapping[str, str]:
    return _NO_LABELS if raw is None else MappingProxyType(mapping_of(text)(raw, where))


def amounts(raw: object, where: str) -> dict[str, float]:
    """Parse plain amounts by resource, with units but without ranges, into the units of `RESOURCES`.

    Examples
    --------
    >>> amounts({"cpu": 80, "memory": "512MiB"}, "node.capacity")
    {'cpu': 80.0, 'memory': 0.5}
    """
    refuse_no_resources(mapping(raw, where), where)
    return {resource: _fixed(resource, value, f"{where}.{resource}") for resource, value in mapping(raw, where).items()}


def _fixed(resource: str, raw: object, where: str) -> float:
    found = Range.parse(resource, raw, where)
    if found.minimum != found.wanted or found.per_gpu:
        raise InvalidSpec(f"{where} must be one amount, without a range or '/gpu', got {raw!r:.80}")
    return found.wanted
