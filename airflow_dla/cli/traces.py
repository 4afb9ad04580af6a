"""Job traces in Gavel's format, and the throughputs that belong to them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from airflow_dla.allocation.simulation import Workload
from airflow_dla.errors import InvalidSpec, NotFound

#: The columns of a trace, separated by tabs.
COLUMNS: Final = (
    "job_type",
    "command",
    "working_dir",
    "num_steps_arg",
    "needs_data_dir",
    "total_steps",
    "scale_factor",
    "priority_weight",
    "SLO",
    "arrival_s",
)
#: Where throughputs are looked for: in the trace's folder, then in its parent.
THROUGHPUTS: Final = "simulation_throughputs.json"

_ALONE: Final = "null"
_SCALE: Final = re.compile(r" \(scale factor \d+\)$")
_Row = tuple[float, int, float, list[float], float, float]


def read_trace(path: Path, kinds: Sequence[str], throughputs: Path | None = None, *, speedup: float = 1.0) -> Workload:
    """Read the jobs of a trace.

    Parameters
    ----------
    path : Path
        One job on a line, with the columns of `COLUMNS`; a blank line is skipped.
    kinds : sequence of str
        GPU types, in the order of the columns of the answer's throughput.
    throughputs : Path, optional
        JSON: by type, by ``('job_type', scale_factor)``, under ``null``: steps per second alone.
        `THROUGHPUTS` in the trace's folder or its parent by default.
    speedup : float
        By how much faster jobs arrive.

    Raises
    ------
    OSError
        If a file cannot be read.
    NotFound
        If no throughputs are found.
    InvalidSpec
        If a line or the throughputs break the format; says where, and what was expected.
    """
    speeds = _Speeds(_beside(path) if throughputs is None else throughputs, kinds)
    rows = [
        _row(line, f"{path}, line {number}", speeds, speedup)
        for number, line in enumerate(_text(path).split("\n"), start=1)
        if line.strip()
    ]
    if not rows:
        raise InvalidSpec(f"{path} has no job; each line must have {len(COLUMNS)} columns separated by tabs: {', '.join(COLUMNS)}")
    arrival, gpus, steps, rates, weight, deadline = zip(*rows, strict=True)
    return Workload(
        arrival_s=np.array(arrival),
        gpus=np.array(gpus, dtype=np.intp),
        steps=np.array(steps),
        throughput=np.array(rates),
        weight=np.array(weight),
        deadline_s=np.array(deadline),
    )


def _row(line: str, where: str, speeds: _Speeds, speedup: float) -> _Row:
    cells = line.rstrip("\r").split("\t")
    if len(cells) != len(COLUMNS):
        raise InvalidSpec(f"{where}: expected {len(COLUMNS)} columns separated by tabs ({', '.join(COLUMNS)}), got {len(cells)}")
    cell = dict(zip(COLUMNS, cells, strict=True))
    gpus = int(_number(cell, "scale_factor", where, "a whole number >= 1", lambda value: value >= 1 and value == int(value)))
    steps = _number(cell, "total_steps", where, "a number > 0", lambda value: value > 0)
    weight = _number(cell, "priority_weight", where, "a number > 0", lambda value: value > 0)
    slack = _number(cell, "SLO", where, "a number > 0, or below 0 for none", lambda value: value != 0)
    arrival = _number(cell, "arrival_s", where, "a number of seconds >= 0", lambda value: value >= 0) / speedup
    rates = speeds.of(_SCALE.sub("", cell["job_type"]), gpus, where)
    deadline = arrival + slack * steps / max(rates) if slack > 0 and max(rates) > 0 else math.inf
    return arrival, gpus, steps, rates, weight, deadline


def _number(cell: Mapping[str, str], column: str, where: str, rule: str, kept: Callable[[float], bool]) -> float:
    try:
        value = float(cell[column])
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and kept(value)):
        raise InvalidSpec(f"{where}: {column} (column {COLUMNS.index(column) + 1}) must be {rule}, got {cell[column]!r}")
    return value


class _Speeds:
    """Steps per second of a job alone, by type."""

    def __init__(self, path: Path, kinds: Sequence[str]) -> None:
        try:
            table: Any = json.loads(_text(path))
        except ValueError as error:
            raise InvalidSpec(f"{path} must be JSON: {error}") from None
        if not isinstance(table, dict):
            raise InvalidSpec(f"{path} must be a JSON object by GPU type, got {type(table).__name__}")
        unknown = [kind for kind in kinds if kind not in table]
        if unknown:
            raise InvalidSpec(f"{path} knows no GPU type {unknown[0]!r}; it knows {', '.join(sorted(table))}")
        self._path, self._kinds, self._table = path, kinds, table
        self._known: dict[tuple[str, int], list[float]] = {}

    def of(self, job_type: str, gpus: int, where: str) -> list[float]:
        """Return a job type's steps per second on so many GPUs of each type, 0 where it is not listed."""
        key = (job_type, gpus)
        if key not in self._known:
            rates = [self._rate(kind, str(key), where) for kind in self._kinds]
            if not any(rates):
                raise InvalidSpec(f"{where}: {self._path} has no throughput of {job_type!r} on {gpus} GPUs of {', '.join(self._kinds)}")
            self._known[key] = rates
        return self._known[key]

    def _rate(self, kind: str, key: str, where: str) -> float:
        entry = self._table[kind].get(key, {_ALONE: 0.0}) if isinstance(self._table[kind], dict) else None
        rate = entry.get(_ALONE) if isinstance(entry, dict) else None
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not math.isfinite(rate) or rate < 0:
            raise InvalidSpec(f"{where}: {self._path} must have a number >= 0 at {kind}, {key}, {_ALONE}, got {rate!r}")
        return float(rate)


def _beside(path: Path) -> Path:
    folder = path.resolve().parent
    for candidate in (folder / THROUGHPUTS, folder.parent / THROUGHPUTS):
        if candidate.is_file():
            return candidate
    raise NotFound(f"no {THROUGHPUTS} in {folder} nor in {folder.parent}; name the file with --throughputs")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidSpec(f"{path} must be text in UTF-8: {error}") from None
