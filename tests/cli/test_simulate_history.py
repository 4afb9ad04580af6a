"""``airflow dla simulate --history`` and its plots."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from fixtures_workspace import job_spec

from airflow_dla.cli.plots import Chart, Line, write_plot
from airflow_dla.cli.reach import Reach
from airflow_dla.cli.simulate_history import added
from airflow_dla.control import decide
from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import Exit, ExitReason, Node

HERE = ("--conn-id", "dla_test")


@pytest.fixture
def lived(reach: Reach) -> Reach:
    """Return a workspace where two jobs ran, one after the other, on one GPU."""
    reach.ledger.upgrade()
    reach.ledger.register_node(Node(name="laptop", capacity={"cpu": 4.0, "memory": 8.0}))
    for task in ("train", "evaluate"):
        attempt = reach.ledger.open_attempt(job_spec(task=task))
        reach.ledger.round(lambda snapshot: decide(snapshot, reach.settings.policy), holder="h", lease_s=60.0)
        reach.ledger.finish(attempt.id, Exit(reason=ExitReason.SUCCEEDED))
    return reach


def test_replays_what_happened_as_it_would_be(dla: Any, lived: Reach, tmp_path: Path) -> None:
    """Three columns of measures; the file holds the plot, and needs nothing else."""
    plot = tmp_path / "history.html"
    found = dla("simulate", "--history", "--add", "cpu=2", "--strategy", "fair", "--plot", str(plot), *HERE, "--json").document
    assert (found["jobs"], found["strategy"], found["added"]) == (2, "fair", {"cpu": 2.0})
    assert all(found[name]["all"]["jobs"] == 2 for name in ("happened", "replayed", "changed"))
    assert plot.read_text(encoding="utf-8").count("<svg") == 2
    said = dla("simulate", "--history", *HERE).out
    assert "happened" in said
    assert "- jobs ask when they asked" in said


def test_without_history_or_trace_it_says_what_to_name(dla: Any, reach: Reach) -> None:
    """Neither is guessed."""
    reach.ledger.upgrade()
    assert "knows no job" in dla("simulate", "--history", *HERE).err
    assert "name a TRACE" in dla("simulate", *HERE).err
    assert dla("simulate", "--history", "--add", "gpu", *HERE).status == 2


def test_more_goes_where_there_is_most() -> None:
    """With ids where the node hands out ids; of what no node has nothing is added."""
    nodes = [Node(name="a", capacity={"gpu": 2.0}, gpu_ids=("g0", "g1")), Node(name="b", capacity={"gpu": 1.0, "cpu": 8.0})]
    first, second = added(nodes, {"gpu": 2.0, "cpu": 4.0})
    assert (first.capacity["gpu"], len(first.gpu_ids), second.capacity["cpu"]) == (4.0, 4, 12.0)
    with pytest.raises(InvalidSpec, match="no node has any disk"):
        added(nodes, {"disk": 1.0})


CHART = Chart("GPUs <in> use", "hours", "GPUs", (Line("a & b", [(0.0, 1.0), (1.0, 3.0)]), Line("none", [])), steps=True)


def test_a_page_escapes_and_needs_no_network(tmp_path: Path) -> None:
    """Text is text; nothing is loaded."""
    path = tmp_path / "plot.html"
    write_plot(str(path), [CHART])
    page = path.read_text(encoding="utf-8")
    assert "GPUs &lt;in&gt; use" in page
    assert "a &amp; b" in page
    assert not any(part in page for part in ("http:", "https:", "src=", "<script", "@import"))


def test_a_picture_needs_the_extra(tmp_path: Path) -> None:
    """It is drawn where matplotlib is installed, else the extra is named; other endings are refused."""
    path = tmp_path / "plot.png"
    if importlib.util.find_spec("matplotlib"):
        write_plot(str(path), [CHART])
        assert path.read_bytes().startswith(b"\x89PNG")
    else:
        with pytest.raises(InvalidSpec, match=r"airflow-dla\[plot\]"):
            write_plot(str(path), [CHART])
    with pytest.raises(InvalidSpec, match=r"\.png or \.html"):
        write_plot("plot.pdf", [CHART])
