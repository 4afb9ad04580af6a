"""Placement lists: which pods ask for what, and which nodes there are, as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from airflow_dla.allocation.fragmentation import Kinds
from airflow_dla.allocation.one_pass import Nodes
from airflow_dla.allocation.residuals import WHOLE
from airflow_dla.allocation.table import Ints
from airflow_dla.errors import InvalidSpec

_NODE = ("cpu_milli", "memory_mib", "gpu")
_POD = ("cpu_milli", "memory_mib", "num_gpu", "gpu_milli")


class _Row:
    """One line of a file, which says where it is when it breaks a rule."""

    def __init__(self, where: str, fields: Mapping[str | None, object]) -> None:
        self.where, self._fields = where, fields

    def whole(self, column: str, *, most: int | None = None) -> int:
        raw = str(self._fields.get(column) or "").strip()
        # Tables that went through a spreadsheet or pandas write 12000.0.
        digits = raw.removesuffix(".0")
        if not (digits.isascii() and digits.isdigit()) or (most is not None and int(digits) > most):
            rule = "a whole number >= 0" if most is None else f"a whole number between 0 and {most}"
            raise InvalidSpec(f"{self.where}: {column} must be {rule}, got {raw!r}")
        return int(digits)

    def text(self, column: str) -> str:
        return str(self._fields.get(column) or "").strip()


def read_nodes(path: str) -> tuple[Nodes, tuple[str, ...]]:
    """Read nodes, one a line: ``cpu_milli, memory_mib, gpu`` and, if it matters, ``model``.

    Returns
    -------
    `Nodes`, tuple of str
        And the GPU models that `Nodes.types` counts.

    Raises
    ------
    OSError
        If the file cannot be read.
    InvalidSpec
        If it breaks a rule; says where. If there is no node, or none with a GPU.
    """
    rows = list(_rows(path, _NODE))
    room = np.array([[row.whole("cpu_milli"), row.whole("memory_mib")] for row in rows], dtype=float).reshape(-1, 2)
    gpus = np.array([row.whole("gpu") for row in rows], dtype=np.intp)
    if not gpus.any():
        raise InvalidSpec(f"{path}: a cluster needs at least one node with a GPU, got {len(rows)} without")
    models: dict[str, int] = {}
    types = np.array([models.setdefault(row.text("model"), len(models)) for row in rows], dtype=np.intp)
    return Nodes(room, gpus, types), tuple(models)


def read_pods(path: str, models: Sequence[str]) -> tuple[Kinds, Ints]:
    """Read pods, one a line: ``cpu_milli, memory_mib, num_gpu, gpu_milli`` and, if it matters, ``gpu_spec``.

    Parameters
    ----------
    path : str
    models : sequence of str
        The cluster's; a pod that names others only (``V100M16|V100M32``) fits nowhere.

    Returns
    -------
    `Kinds`, int array
        The different pods and how often there is each; and which one each line has.

    Raises
    ------
    OSError
        If the file cannot be read.
    InvalidSpec
        If it breaks a rule; says where. If it has no pod.
    """
    numbers: dict[tuple[int, int, int, int, str], int] = {}
    kind = np.array([numbers.setdefault(_pod(row), len(numbers)) for row in _rows(path, _POD)], dtype=np.intp)
    if not len(kind):
        raise InvalidSpec(f"{path}: a placement list needs at least one pod below its header")
    pods = list(numbers)
    kinds = Kinds(
        need=np.array([[cpu, memory] for cpu, memory, *_ in pods], dtype=float),
        gpus=np.array([gpus for _, _, gpus, _, _ in pods], dtype=np.intp),
        share=np.array([share for *_, share, _ in pods], dtype=np.intp),
        allowed=np.array([_allowed(spec, models) for *_, spec in pods], dtype=bool),
        weight=np.bincount(kind).astype(float),
    )
    return kinds, kind


def _pod(row: _Row) -> tuple[int, int, int, int, str]:
    gpus = row.whole("num_gpu")
    share = row.whole("gpu_milli", most=WHOLE)
    if gpus and not share:
        raise InvalidSpec(f"{row.where}: gpu_milli must be between 1 and {WHOLE} where num_gpu is {gpus}, got 0")
    return row.whole("cpu_milli"), row.whole("memory_mib"), gpus, share if gpus else 0, row.text("gpu_spec") if gpus else ""


def _allowed(spec: str, models: Sequence[str]) -> list[bool]:
    named = {name.strip() for name in spec.split("|") if name.strip()}
    return [not named or model in named for model in models]


def _rows(path: str, needed: Sequence[str]) -> Iterator[_Row]:
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        try:
            reader = csv.DictReader(file, strict=True)
            missing = [column for column in needed if column not in (reader.fieldnames or ())]
            if missing:
                found = ", ".join(reader.fieldnames or ()) or "nothing"
                raise InvalidSpec(f"{path}:1: the header must name {', '.join(needed)}; {', '.join(missing)} is missing in {found}")
            for fields in reader:
                yield _row(f"{path}:{reader.line_num}", fields)
        except (UnicodeDecodeError, csv.Error) as error:
            raise InvalidSpec(f"{path} must be comma-separated text in UTF-8: {error}") from None


def _row(where: str, fields: Mapping[str | None, object]) -> _Row:
    if None in fields:
        raise InvalidSpec(f"{where}: has more fields than the header names, which are {len(fields) - 1}")
    return _Row(where, fields)
