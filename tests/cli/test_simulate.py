"""``airflow dla simulate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

LINE = "A (batch size 1)\tpython a.py\ta\t--steps\t0\t3600\t1\t1\t-1.000000\t0"
WIDE = "B\tpython b.py\tb\t--steps\t0\t7200\t2\t1\t2.0\t1800.0"
SPEEDS = {
    "fast": {"('A (batch size 1)', 1)": {"null": 2.0}, "('B', 2)": {"null": 1.0}},
    "slow": {"('A (batch size 1)', 1)": {"null": 1.0, "('B', 2)": [1, 1]}},
}
CLUSTER = ("--cluster", "1xfast,2xslow")


@pytest.fixture
def trace(tmp_path: Path):
    """Return a function that writes a trace, its throughputs in the folder above."""
    (tmp_path / "simulation_throughputs.json").write_text(json.dumps(SPEEDS), encoding="utf-8")
    (tmp_path / "traces").mkdir()

    def write(*lines: str) -> str:
        path = tmp_path / "traces" / "jobs.trace"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return str(path)

    return write


def test_simulates_a_trace(dla: Any, trace: Any) -> None:
    """Two equal jobs on a fast and a slow GPU; the slower moves up when the faster is done."""
    found = dla("simulate", trace(LINE, LINE), *CLUSTER, "--json").document
    assert found["avg_jct_h"] == pytest.approx(0.625)
    assert found["makespan_h"] == pytest.approx(0.75)
    assert found["jct_h"] == pytest.approx([0.5, 0.75]) or found["jct_h"] == pytest.approx([0.75, 0.5])
    assert (found["jobs"], found["strategy"], found["objective"], found["cluster"]) == (2, "heterogeneous", "jct", {"fast": 1, "slow": 2})
    assert 0 < found["utilisation"] < 1
    assert found["wall_s"] > 0


def test_speaks_to_people(dla: Any, trace: Any) -> None:
    """The table names the measures."""
    said = dla("simulate", trace(LINE, LINE), *CLUSTER, "--strategy", "fifo").out
    assert "makespan" in said
    assert "h on average" in said


def test_measures_a_part_and_speeds_arrivals_up(dla: Any, trace: Any) -> None:
    """The second job by arrival alone; twice as fast it arrives after 900 s."""
    later = LINE.rsplit("\t", 1)[0] + "\t1800"
    found = dla("simulate", trace(later, LINE), *CLUSTER, "--measure", "1:2", "--speedup", "2", "--json").document
    assert (found["measured"], found["jobs"]) == (1, 2)
    assert found["makespan_h"] == pytest.approx(0.75, abs=0.2)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("A\tB", r"jobs.trace, line 2: expected 10 columns separated by tabs (job_type, command,"),
        (LINE.replace("\t3600\t", "\tmany\t"), "jobs.trace, line 2: total_steps (column 6) must be a number > 0, got 'many'"),
        (LINE.replace("\t3600\t", "\tnan\t"), "line 2: total_steps (column 6)"),
        (LINE.replace("\t3600\t1\t", "\t3600\t1.5\t"), "line 2: scale_factor (column 7) must be a whole number >= 1, got '1.5'"),
        (LINE.replace("\t1\t-1.0", "\t0\t-1.0"), "line 2: priority_weight (column 8) must be a number > 0, got '0'"),
        (LINE.replace("A (batch", "Z (batch"), "has no throughput of 'Z (batch size 1)' on 1 GPUs of fast, slow"),
        (LINE.rsplit("\t", 1)[0] + "\t-5", "line 2: arrival_s (column 10) must be a number of seconds >= 0, got '-5'"),
    ],
)
def test_refuses_a_malformed_line(dla: Any, trace: Any, line: str, said: str) -> None:
    """One message names the file, the line, and what was expected."""
    ended = dla("simulate", trace(LINE, line), *CLUSTER, "--json")
    assert (ended.status, ended.out) == (1, "")
    assert said in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "status", "said"),
    [
        (("--cluster", "8*v100"), 1, "must be like 8xv100"),
        (("--cluster", "0xfast"), 1, "at least one GPU"),
        (("--cluster", "1xfast,2xfast"), 1, "'fast' twice"),
        (("--cluster", "1xa100"), 1, "knows no GPU type 'a100'; it knows fast, slow"),
        ((*CLUSTER, "--strategy", "lifo"), 1, "known are fifo"),
        ((*CLUSTER, "--objective", "speed"), 1, "known are cost"),
        ((*CLUSTER, "--measure", "5:9"), 1, "no job is measured"),
        ((*CLUSTER, "--measure", "five"), 2, "A:B"),
        ((*CLUSTER, "--round-s", "0"), 2, "> 0"),
        ((*CLUSTER, "--throughputs", "/nowhere.json"), 1, "/nowhere.json"),
        (("--cluster", "4xslow", "--objective", "max-min"), 0, ""),
    ],
)
def test_refuses_bad_arguments(dla: Any, trace: Any, argv: tuple[str, ...], status: int, said: str) -> None:
    """Each is one clear message."""
    ended = dla("simulate", trace(LINE), *argv, "--json")
    assert ended.status == status
    assert said in ended.err


def test_a_gang_larger_than_every_type_is_refused(dla: Any, trace: Any) -> None:
    """Two GPUs of a type that has one: never, so it is said at once."""
    assert "can never run: it takes 2 GPUs" in dla("simulate", trace(LINE, WIDE), *CLUSTER).err


def test_refuses_traces_without_jobs_or_speeds(dla: Any, trace: Any, tmp_path: Path) -> None:
    """An empty trace, and one without throughputs near it, say what is missing."""
    assert "has no job" in dla("simulate", trace(""), *CLUSTER).err
    path = trace(LINE)
    (tmp_path / "simulation_throughputs.json").write_text("[]", encoding="utf-8")
    assert "must be a JSON object" in dla("simulate", path, *CLUSTER).err
    (tmp_path / "simulation_throughputs.json").unlink()
    assert "name the file with --throughputs" in dla("simulate", path, *CLUSTER).err
