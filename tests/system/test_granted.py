"""Somebody else's operator behind a grant, in a real Airflow."""

from __future__ import annotations

from pathlib import Path

import pytest
from system.airflow_server import AirflowServer
from system.processes import eventually

from airflow_dla.ledger import connect

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def test_two_that_do_not_fit_take_turns(airflow: AirflowServer, tmp_path: Path) -> None:
    """One runs, the other waits in the triggerer until the share is given back; nothing is left in the ledger."""
    trace = tmp_path / "trace"
    run = airflow.trigger("granted", {"trace": str(trace)})
    tasks = ("one", "other")
    eventually(lambda: [airflow.task("granted", run, task)["state"] for task in tasks].count("deferred") == 1, timeout=90, what="a wait")
    eventually(lambda: any("Waiting for resources" in airflow.log("granted", run, task, 1) for task in tasks), timeout=60, what="a reason")
    Path(f"{trace}.go").touch()
    assert airflow.wait("granted", run, timeout=120) == "success"
    assert trace.read_text().split() == ["begin", "end", "begin", "end"]
    ledger = connect(f"sqlite:///{airflow.home}/dla/ledger.db")
    try:
        assert [lease.grant.id for lease in ledger.leases() if lease.grant.id.endswith(".held")] == []
    finally:
        ledger.close()
