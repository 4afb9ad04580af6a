"""``airflow dla demo``: a child, away from the Airflow that is there."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from airflow_dla.cli.demo import clean_environment, demo_home
from airflow_dla.errors import InvalidSpec

RUN = "import os, sys; from airflow_dla.cli.demo import run_child; sys.exit(run_child([sys.executable, '-c', sys.argv[1]], os.environ))"
STUBBORN = """
import pathlib, signal, sys, time
def heard(number, frame):
    print('heard', number, flush=True)
    sys.exit(7)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, heard)
print('up', flush=True)
time.sleep(60)
"""


def test_home_is_never_the_inherited_one(tmp_path: Path) -> None:
    """The home lies in the user's data folder, whatever Airflow is there already."""
    present = {"AIRFLOW_HOME": str(tmp_path / "airflow"), "XDG_DATA_HOME": str(tmp_path)}
    assert demo_home(None, present) == tmp_path / "airflow-dla" / "demo"
    assert demo_home(str(tmp_path / "mine"), present) == tmp_path / "mine"
    with pytest.raises(InvalidSpec, match="there already"):
        demo_home(f"{tmp_path}/airflow/", present)


def test_home_may_be_shown_by_airflow(tmp_path: Path) -> None:
    """Who looks at the demo's home with Airflow may run the demo again from the same shell."""
    home = tmp_path / "airflow-dla" / "demo"
    assert demo_home(None, {"AIRFLOW_HOME": str(home), "XDG_DATA_HOME": str(tmp_path)}) == home


def test_environment_is_clean() -> None:
    """Nothing of another Airflow's settings, connections or variables gets through."""
    foreign = ("AIRFLOW__CORE__X", "AIRFLOW_CONN_A", "AIRFLOW_VAR_A", "_AIRFLOW_A", "__AIRFLOW_A", "AIRFLOW_HOME", "AIRFLOW_CONFIG")
    given = {**dict.fromkeys(foreign, "x"), "PATH": "/bin", "LANG": "C"}
    assert clean_environment(given, Path("/demo")) == {"PATH": "/bin", "LANG": "C", "AIRFLOW_HOME": "/demo"}


def test_output_and_status_pass_through() -> None:
    """What the child prints is ours, its status too; a signal that ends it is told as a shell tells it."""
    done = subprocess.run([sys.executable, "-c", RUN, "print('hello'); exit(3)"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "hello\n")
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([sys.executable, "-c", RUN, killed], check=False).returncode == 137


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_forwarded(number: signal.Signals) -> None:
    """The child hears of a signal, once, and its own status counts."""
    process = subprocess.Popen([sys.executable, "-c", RUN, STUBBORN], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    began = time.monotonic()
    process.send_signal(number)
    said, _ = process.communicate(timeout=20)
    assert (said, process.returncode) == (f"heard {int(number)}\n", 7)
    assert time.monotonic() - began < 10
