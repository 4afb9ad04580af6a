"""The runner as a container's first process: secrets, signals, orphans."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from contracts.runtime import wait_until

import airflow_dla
from airflow_dla.agents.inside import secrets
from airflow_dla.agents.protocol import JobError
from airflow_dla.agents.usage import Usage, own_groups

AGENTS = Path(airflow_dla.__file__).parent / "agents"
NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


class Inside:
    """A container's inside folder and its first process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(
        self, code: str, entrypoint: Any = "work:main", *, around: tuple[str, ...] = (), alone: bool = False, **more: Any
    ) -> subprocess.Popen[bytes]:
        """Start the process; its standard input is open."""
        (self.folder / "code").mkdir()
        (self.folder / "code" / "work.py").write_text(textwrap.dedent(code))
        given = {"attempt": "job.1", "nonce": "n0", "grant": {"amounts": {"cpu": 1}, "cpu_ids": [9999]}, "store": "", "checkpoint": "job"}
        (self.folder / "job.json").write_text(json.dumps({"entrypoint": entrypoint, **given, **more}))
        env = {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", "DLA_ATTEMPT": "job.1"}
        return subprocess.Popen(
            [*around, sys.executable, str(AGENTS), "inside", str(self.folder), *(["alone"] if alone else [])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env,
        )  # fmt: skip

    def lines(self) -> list[dict[str, Any]]:
        """Return what the runner said."""
        return [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]

    def until_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Say that there are no secrets, and wait until the work has left a file."""
        assert process.stdin
        process.stdin.close()
        wait_until((self.folder / "code" / "ready").exists)


@pytest.fixture
def inside(tmp_path: Path) -> Inside:
    """Return an empty inside folder."""
    return Inside(tmp_path)


@pytest.fixture
def namespace() -> tuple[str, ...]:
    """Return the command that makes what follows a first process."""
    if shutil.which("unshare") is None or subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no process namespace may be made here")
    return tuple(NAMESPACE)


def ended(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process's end and return its status."""
    with process:
        return process.wait(20)


SECRET = """
    import os, sys
    def main(job):
        assert sys.stdin.read() == ""
        assert os.environ["DLA_ATTEMPT"] == "job.1"
        return {"length": len(os.environ.get("TOKEN", "")), "leaked": b"t0ps" in open(f"/proc/{os.getppid()}/environ", "rb").read()}
"""


@pytest.mark.parametrize(("handed", "length"), [(b'{"env": {"TOKEN": "t0psecret"}}', 9), (b"", 0), (b"\n", 0), (b'{"env": {}}', 0)])
def test_secrets(inside: Inside, handed: bytes, length: int):
    """They come by standard input into the work's environment, and not into what /proc shows of the first process."""
    process = inside.start(SECRET)
    out, _ = process.communicate(handed, timeout=30)
    assert process.returncode == 0, out
    assert inside.lines()[-1]["values"] == {"length": length, "leaked": 0}
    assert b"t0psecret" not in out


DAMAGED = [b'{"env": {"TOKEN": "t0psec', b"\xff", b"[]", b'{"env": {"TOKEN": 1}}', b'{"secrets": {}}', b'{"env": []}']


@pytest.mark.parametrize("handed", DAMAGED)
def test_damaged_secrets(inside: Inside, handed: bytes):
    """What was cut off starts nothing, is nobody's fault and is not repeated."""
    process = inside.start("def main(job):\n    print('ran')")
    out, _ = process.communicate(handed, timeout=30)
    assert process.returncode == 1
    assert b"ran" not in out
    assert b"t0ps" not in out
    said = inside.lines()[-1]
    assert said["reason"] == "lost"
    assert "connection to its engine broke" in said["message"]
    with pytest.raises(JobError):
        secrets(handed)


def test_secrets_that_did_not_come():
    """Where some are expected, a connection that broke at once is not taken for a job without any."""
    assert secrets(b'{"env": {"A": "1", "B": "2"}}', "A,B") == {"A": "1", "B": "2"}
    for handed in (b"", b'{"env": {"A": "1"}}'):
        with pytest.raises(JobError, match=r"secrets (A, )?B did not come; the connection to its engine broke") as caught:
            secrets(handed, "A,B")
        assert caught.value.reason == "lost"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_asked_to_stop(inside: Inside, number: signal.Signals):
    """Every signal that asks it to end reaches the function as a wish to stop."""
    code = """
        import time
        def main(job):
            assert not job.stopping
            open("ready", "w").close()
            while not job.stopping:
                time.sleep(0.01)
            return {"bye": 1}
    """
    process = inside.start(code)
    inside.until_ready(process)
    process.send_signal(number)
    assert ended(process) == 0
    assert inside.lines()[-1]["values"] == {"bye": 1}


def test_stopped_before_the_secrets_came(inside: Inside):
    """A stop while it waits for secrets ends it."""
    process = inside.start("def main(job): pass")
    time.sleep(0.5)
    process.terminate()
    assert ended(process) == 128 + signal.SIGTERM


def test_first_process(inside: Inside, namespace: tuple[str, ...]):
    """As process 1 it stops a command with its whole group, and takes the status of orphans without taking the work's."""
    code = """
        import os, signal, subprocess, sys, time
        if len(sys.argv) > 1:
            sys.exit(0)
        def bye(*_):
            open("bye", "w").close()
            sys.exit(7)
        signal.signal(signal.SIGTERM, bye)
        for _ in range(5):  # grandchildren whose parent is gone
            subprocess.run(["sh", "-c", "sleep 0.05 &"], check=True)
        assert subprocess.run([sys.executable, "-c", "raise SystemExit(3)"]).returncode == 3
        time.sleep(0.5)
        states = [open(f"/proc/{pid}/stat").read().rpartition(")")[2].split() for pid in os.listdir("/proc") if pid.isdigit()]
        assert os.readlink("/proc/1/exe") == os.path.realpath(sys.executable)
        assert not [state for state in states if state[0] == "Z"], states
        child = subprocess.Popen(["sleep", "60"], start_new_session=False)
        open("ready", "w").close()
        child.wait()
        print("sleep ended", child.returncode, flush=True)
        time.sleep(60)
    """
    process = inside.start(code, ["python", "work.py"], around=namespace)
    inside.until_ready(process)
    first = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]
    os.kill(int(first), signal.SIGTERM)
    assert ended(process) == 1
    assert (inside.folder / "code" / "bye").exists()
    assert "exited with status 7" in inside.lines()[-1]["message"]


ENDS = [("os.abort()", 128 + signal.SIGABRT), ("os.kill(os.getpid(), 9)", 128 + signal.SIGKILL), ("os._exit(5)", 5)]


@pytest.mark.parametrize(("how", "status"), ENDS)
def test_ends_as_the_work_ended(inside: Inside, namespace: tuple[str, ...], how: str, status: int):
    """A crash, a kill and an exit without a word are told by the status, also of process 1, which no signal can end."""
    process = inside.start(f"import os\ndef main(job):\n    {how}", around=namespace)
    process.communicate(b"", timeout=30)
    assert process.returncode == status


def test_leaves_nobody_behind(inside: Inside):
    """Where it is not process 1, what is left of the work's group ends with it."""
    code = "import subprocess\ndef main(job):\n    return {'pid': subprocess.Popen(['sleep', '60']).pid}"
    process = inside.start(code)
    process.communicate(b"", timeout=30)
    pid = int(inside.lines()[-1]["values"]["pid"])
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or " Z " in Path(f"/proc/{pid}/stat").read_text())


def test_alone_it_measures_the_work(inside: Inside) -> None:
    """What the container used is the last line on standard output, where the program left its own last line open."""
    process = inside.start("import sys\ndef main(job):\n    sys.stdout.write('half a line')", alone=True)
    assert process.stdin
    assert process.stdout
    process.stdin.close()
    out = process.stdout.read().decode()
    assert ended(process) == 0
    before, _, said = out.rpartition("::dla:n0::")
    assert before.endswith("half a line")
    told = json.loads(said)
    here = Usage(own_groups)
    here.look()
    assert (told["kind"], set(told["values"])) == ("peaks", set(here.peaks))
    assert all(value > 0 for value in told["values"].values())


def test_it_measures_nothing_where_others_do(inside: Inside) -> None:
    """Where somebody outside sees the control group, that is enough."""
    process = inside.start("def main(job):\n    pass")
    assert process.stdin
    process.stdin.close()
    assert ended(process) == 0
    assert [line for line in inside.lines() if line["kind"] == "peaks"] == []


def test_a_job_that_cannot_be_read_is_not_measured(inside: Inside) -> None:
    """The work says what is wrong with it, and its first process takes its status all the same."""
    process = inside.start("def main(job):\n    pass", alone=True)
    (inside.folder / "job.json").write_text("{")
    assert process.stdin
    process.stdin.close()
    assert ended(process) == 1


def test_alone_it_ends_the_work_in_time(inside: Inside) -> None:
    """Work that is deaf to being asked is killed when its grace is over; who asks again does not prolong it."""
    code = """
        import signal, time
        def main(job):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            open("ready", "w").close()
            time.sleep(60)
    """
    process = inside.start(code, alone=True, grace_s=1.0)
    inside.until_ready(process)
    began = time.monotonic()
    for _ in range(2):
        process.terminate()
        time.sleep(0.4)
    assert ended(process) == 128 + signal.SIGKILL
    assert 0.9 < time.monotonic() - began < 5
    assert inside.lines()[-1]["kind"] == "peaks"
