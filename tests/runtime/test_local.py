"""Local attempts under real faults: kills, floods, daemons, limits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from contracts.runtime import ended, job_file, wait_until

import airflow_dla
from airflow_dla.artifacts import Store
from airflow_dla.errors import InvalidSpec, JobLost
from airflow_dla.runtime import Launch, Status
from airflow_dla.runtime.local import LocalRuntime
from airflow_dla.runtime.processes import has_mark, marked_with
from airflow_dla.specs import Exit, ExitReason, Grant

Make = Callable[..., Launch]

SLEEP = ["python", "-c", "import time; print('ready', flush=True); time.sleep(60)"]
STUBBORN = [
    "python",
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)",
]


def run(local: LocalRuntime, launch: Launch) -> Exit:
    """Run an attempt to its end."""
    local.submit(launch)
    return ended(local, launch.job.attempt)


def ready(local: LocalRuntime, attempt: str = "job.1") -> None:
    """Wait until a job has said ready."""
    wait_until(lambda: b"ready" in local.logs(attempt, 0).data)


def keeper_pid(local: LocalRuntime, attempt: str = "job.1") -> int:
    """Return the keeper's process."""
    return int(json.loads((local.root / attempt / "keeper.json").read_text())["pid"])


def processes_of(local: LocalRuntime, attempt: str = "job.1") -> set[int]:
    """Return every process that an attempt started."""
    return marked_with(f"DLA_JOB_DIR={local.root / attempt}".encode())


def grant(**amounts: float) -> Grant:
    """Return a grant of some amounts."""
    return Grant(id="job.1", node="laptop", amounts=amounts)


def test_function_with_data(local: LocalRuntime, launch: Make, store: Store, tmp_path: Path):
    """Inputs come verified, metrics and outputs go out, lines are in the log and once more in metrics.jsonl."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "numbers.txt").write_text("1 2 3")
    code = """
        def main(job):
            numbers = [int(word) for word in (job.inputs["train"].path / "numbers.txt").read_text().split()]
            for step, number in enumerate(numbers):
                job.log(step=step, loss=number)
            (job.outputs["model"].path / "sum.txt").write_text(str(sum(numbers) + job.args["extra"]))
            return {"accuracy": 0.5}
    """
    inputs = {"train": store.publish(data, kind="dataset")}
    found = run(local, launch(code, inputs=inputs, outputs=("model",), args={"extra": 4}))
    assert found.succeeded
    assert found.metrics == {"loss": 3.0, "accuracy": 0.5}
    assert found.outputs["model"].kind == "model"
    store.fetch(found.outputs["model"].digest, tmp_path / "got")
    assert (tmp_path / "got" / "sum.txt").read_text() == "10"
    log = local.logs("job.1", 0).data
    assert log.count(b"::dla:n0nce::") == len((local.root / "job.1" / "metrics.jsonl").read_text().splitlines()) == 5
    wait_until(lambda: not (local.root / "job.1" / "in").exists())


def test_same_seed_same_bytes(local: LocalRuntime, launch: Make):
    """Two attempts with one seed give one digest; another seed gives another."""
    code = """
        import random, numpy
        def main(job):
            text = f"{random.random()} {numpy.random.rand()} {sorted({'a', 'b', 'c'})} {list({'a', 'b', 'c'})}"
            (job.outputs["model"].path / "x").write_text(text)
    """
    digests = [
        run(local, launch(code, attempt=f"job.{n}", outputs=("model",), seed=seed)).outputs["model"].digest
        for n, seed in ((1, 7), (2, 7), (3, 8))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_unaware_command(local: LocalRuntime, launch: Make, store: Store, tmp_path: Path):
    """A script with flags runs unchanged; its metrics are read from what it prints."""
    code = """
        import argparse, os
        parser = argparse.ArgumentParser()
        parser.add_argument("--lr", type=float)
        parser.add_argument("--amp", action="store_true")
        parser.add_argument("--layers", type=int, nargs="+")
        parser.add_argument("--out")
        args = parser.parse_args()
        open("scratch.txt", "w").close()
        print("val_auc 0.25\\rval_auc 0.75")
        open(os.path.join(args.out, "m.txt"), "w").write(f"{args.lr} {args.amp} {args.layers} {os.environ['OMP_NUM_THREADS']}")
    """
    args = {"lr": 3e-4, "amp": True, "no": False, "layers": [4, 2], "out": "{outputs.model}"}
    found = run(local, launch(code, ["python", "work.py"], args=args, outputs=("model",), metrics={"val_auc": r"val_auc (\S+)"}))
    assert found.succeeded, found
    assert found.metrics == {"val_auc": 0.75}
    store.fetch(found.outputs["model"].digest, tmp_path / "got")
    assert (tmp_path / "got" / "m.txt").read_text() == "0.0003 True [4, 2] 1"


def test_stop_obeyed(local: LocalRuntime, launch: Make):
    """A job that looks at job.stopping ends by itself, for the reason it was stopped."""
    code = """
        import time
        def main(job):
            while not job.stopping:
                print("ready", flush=True)
                time.sleep(0.01)
            print("bye")
    """
    local.submit(launch(code))
    ready(local)
    local.cancel("job.1", ExitReason.STOPPED)
    found = ended(local, "job.1")
    assert found.reason is ExitReason.STOPPED
    assert "ended by itself" in found.message
    assert b"bye" in local.logs("job.1", 0).data


def test_stop_interrupts_a_function_that_never_looks(local: LocalRuntime, launch: Make):
    """A function that never read job.stopping is interrupted at once; its finally blocks run."""
    code = """
        import time
        def main(job):
            try:
                print("ready", flush=True)
                time.sleep(60)
            finally:
                print("cleaned")
    """
    local.submit(launch(code, grace_s=30))
    ready(local)
    local.cancel("job.1", ExitReason.STOPPED)
    assert ended(local, "job.1", 4).reason is ExitReason.STOPPED
    assert b"cleaned" in local.logs("job.1", 0).data


def test_stop_ignored_is_enforced(local: LocalRuntime, launch: Make):
    """What ignores SIGTERM is killed after the time of grace."""
    local.submit(launch(entrypoint=STUBBORN, grace_s=0.3))
    ready(local)
    local.cancel("job.1", ExitReason.STOPPED)
    found = ended(local, "job.1", 4)
    assert found.reason is ExitReason.STOPPED
    assert "was killed" in found.message
    assert processes_of(local) == set()


def test_run_timeout(local: LocalRuntime, launch: Make):
    """The keeper itself ends what runs too long."""
    found = run(local, launch(entrypoint=SLEEP, run_timeout_s=0.3))
    assert found.reason is ExitReason.TIMED_OUT
    assert "run_timeout of 0.3 s" in found.message


def test_kill_of_the_work(local: LocalRuntime, launch: Make):
    """A work killed from outside ends as killed, by name of the signal; nothing of it is left."""
    local.submit(launch(entrypoint=SLEEP))
    ready(local)
    for pid in processes_of(local):
        os.kill(pid, signal.SIGKILL)
    found = ended(local, "job.1")
    assert (found.reason, found.signal) == (ExitReason.KILLED, signal.SIGKILL)
    assert "SIGKILL" in found.message


def test_kill_of_the_keeper(local: LocalRuntime, launch: Make):
    """Without its keeper an attempt is lost, and its work does not live on."""
    local.submit(launch(entrypoint=["sh", "-c", "setsid sleep 61 & echo ready; sleep 60"]))
    ready(local)
    assert processes_of(local)
    os.kill(keeper_pid(local), signal.SIGKILL)
    wait_until(lambda: not local.status("job.1").alive, 5)
    assert local.status("job.1") == Status(alive=False)
    assert processes_of(local) == set()
    assert local.submit(launch(entrypoint=SLEEP)) == {"node": "laptop", "folder": str(local.root / "job.1"), "address": "127.0.0.1"}
    assert not local.status("job.1").alive


def test_leftover_groups_are_removed(local: LocalRuntime, launch: Make):
    """The next keeper removes the control groups of one that was killed."""
    local.submit(launch(entrypoint=SLEEP))
    ready(local)
    groups = json.loads((local.root / "job.1" / "cgroups.json").read_text())["folders"]
    os.kill(keeper_pid(local), signal.SIGKILL)
    run(local, launch(entrypoint=["true"], attempt="job.2"))
    assert not any(Path(group).exists() for group in groups)
    assert processes_of(local) == set()


DAEMON = """
    import os, sys, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve(sys.executable, [sys.executable, "-c", "import time; time.sleep(62.5)"], {})
        os._exit(0)
    time.sleep(0.2)
    print("left")
"""


@pytest.mark.parametrize("limits", ["cgroups", "watch"])
def test_daemon_is_ended_with_the_work(tmp_path: Path, launch: Make, limits: str):
    """A daemon that forked twice into a session of its own, with an empty environment, does not outlive the work."""
    local = LocalRuntime(tmp_path / "jobs", node="laptop", cgroups=limits == "cgroups")
    assert run(local, launch(DAEMON, ["python", "work.py"])).succeeded
    lines = [path / "cmdline" for path in Path("/proc").iterdir() if path.name.isdigit()]
    assert not any(b"sleep(62.5)" in line.read_bytes() for line in lines if line.exists())


def test_background_child_holding_the_pipe(local: LocalRuntime, launch: Make):
    """A child left behind that holds standard output does not keep the command from ending."""
    found = run(local, launch(entrypoint=["sh", "-c", "sleep 60 & echo loss 1"], metrics={"loss": r"loss (\d+)"}))
    assert found.succeeded
    assert found.metrics == {"loss": 1.0}


def test_large_and_binary_log(local: LocalRuntime, launch: Make):
    """64 MiB in one line and bytes that are no text are in the log as they were written."""
    code = """
        import sys
        for _ in range(64):
            sys.stdout.buffer.write(b"x" * 2**20)
        sys.stdout.buffer.write(b"\\nacc 0.5\\n" + bytes(range(256)))
    """
    found = run(local, launch(code, ["python", "work.py"], metrics={"acc": r"acc (\S+)"}))
    assert found.succeeded
    assert found.metrics == {"acc": 0.5}
    assert (local.root / "job.1" / "log").stat().st_size >= 64 * 2**20 + 256
    assert bytes(range(256)) in local.logs("job.1", 64 * 2**20).data


HOG = "x = bytearray(2**28); x[::4096] = b'1' * len(x[::4096]); import time; time.sleep(60)"


@pytest.mark.parametrize("limits", ["cgroups", "watch"])
def test_out_of_memory(tmp_path: Path, launch: Make, limits: str):
    """More memory than granted ends as out_of_memory, by the kernel or by the watch."""
    local = LocalRuntime(tmp_path / "jobs", node="laptop", cgroups=limits == "cgroups")
    local.submit(launch(entrypoint=["python", "-c", HOG], grant=grant(memory=0.0625)))
    note = local.status("job.1").note
    found = ended(local, "job.1")
    assert found.reason is ExitReason.OUT_OF_MEMORY, (found, note)
    assert "under a limit of 0.0625 GiB; ask for more memory" in found.message
    assert limits == "cgroups" or note == "no cgroup may be made here; memory of 64 MiB watched"


def test_disk(local: LocalRuntime, launch: Make):
    """Who fills more of a disk than was granted is ended at once, and told why."""
    code = """
        import os, time
        def main(job):
            open(os.environ["TMPDIR"] + "/big", "wb").write(os.urandom(2 << 20))
            time.sleep(60)
    """
    local.submit(launch(code, grant=grant(disk=1 / 1024)))
    found = ended(local, "job.1")
    assert found.reason is ExitReason.USER_ERROR
    assert "0.000977 GiB of disk were granted; remove what it needs no more" in found.message


def test_cpu_quota(local: LocalRuntime, launch: Make):
    """Half a CPU is half a CPU, where control groups can say so; a resize is seen by the job."""
    code = """
        import os, time
        def main(job):
            began, used = time.monotonic(), time.process_time()
            while time.monotonic() - began < 0.6:
                pass
            return {"share": (time.process_time() - used) / (time.monotonic() - began)}
    """
    local.submit(launch(code, grant=grant(cpu=0.5, memory=0.25)))
    note = local.status("job.1").note
    found = ended(local, "job.1")
    if not note.startswith("cgroup"):
        pytest.skip(f"no control group may be made here: {note}")
    assert found.metrics["share"] < 0.75


def test_environment_has_nothing_of_the_parent(local: LocalRuntime, launch: Make, monkeypatch: pytest.MonkeyPatch):
    """Variables of Airflow and of its shell reach neither the job nor its keeper; the agent's own do."""
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "very-secret")
    monkeypatch.setenv("PYTHONPATH", "/parent/only")
    code = """
        import os, time
        print(sorted(os.environ), os.environ["MINE"], repr(os.environ["CUDA_VISIBLE_DEVICES"]))
        print("ready", flush=True)
        time.sleep(60)
    """
    local.submit(launch(code, ["python", "work.py"], env={"MINE": "yes"}))
    ready(local)
    around = Path(f"/proc/{keeper_pid(local)}/environ").read_bytes()
    log = local.logs("job.1", 0).data.decode()
    local.cancel("job.1", ExitReason.STOPPED)
    ended(local, "job.1")
    assert b"AIRFLOW" not in around
    assert "AIRFLOW" not in log
    assert "PYTHONPATH" not in log
    assert "yes ''" in log


def test_secrets_are_seen_by_the_job_alone(local: LocalRuntime, launch: Make):
    """A secret is in the job's environment, and on no command line and in no file."""
    secret = "s3cr3t-7f1b"
    local.submit(
        launch(
            "import os, time\nprint(len(os.environ['TOKEN']), 'ready', flush=True)\ntime.sleep(60)",
            ["python", "work.py"],
            secrets={"TOKEN": secret},
        )
    )
    ready(local)
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes_of(local) | {keeper_pid(local)}]
    local.cancel("job.1", ExitReason.STOPPED)
    ended(local, "job.1")
    assert local.logs("job.1", 0).data.startswith(b"11 ready")
    assert not any(secret.encode() in line for line in lines)
    files = [path for path in local.root.rglob("*") if path.is_file()]
    assert files
    assert not any(secret.encode() in path.read_bytes() for path in files)
    assert secret not in json.dumps(local.plan(launch(entrypoint=SLEEP, secrets={"TOKEN": secret})))


SUBMITTER = """
import sys, pathlib
sys.path[:0] = [{package!r}, {tests!r}]
from contracts.runtime import job_file
from airflow_dla.runtime import Launch
from airflow_dla.runtime.local import LocalRuntime
local = LocalRuntime(pathlib.Path({root!r}), node="laptop")
print("up", flush=True)
sys.stdin.readline()
local.submit(Launch(job=job_file("job.1", ["sh", "-c", "echo started >> {tmp}/count; sleep 0.3"])))
print("submitted", flush=True)
{after}
"""


def submitter(local: LocalRuntime, tmp_path: Path, after: str = "") -> subprocess.Popen[str]:
    """Start a process that submits job.1 when it gets a line."""
    places = {
        "package": str(Path(airflow_dla.__file__).parents[1]),
        "tests": str(Path(__file__).parents[1]),
        "root": str(local.root),
        "tmp": str(tmp_path),
    }
    code = textwrap.dedent(SUBMITTER).format(**places, after=after)
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def test_submit_from_two_processes(local: LocalRuntime, tmp_path: Path):
    """Two processes that submit one attempt at once start it once, and leave no zombies."""
    both = [
        submitter(
            local, tmp_path, "import os, time; time.sleep(0.6); print(os.popen(f'ps --ppid {os.getpid()} -o stat= | grep -c Z').read())"
        )
        for _ in range(2)
    ]
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate()[0] for process in both]
    assert ended(local, "job.1").succeeded
    assert (tmp_path / "count").read_text() == "started\n"
    assert [text.split() for text in said] == [["submitted", "0"], ["submitted", "0"]]


def test_submitter_killed_while_it_submits(local: LocalRuntime, tmp_path: Path):
    """Killed at any moment of its submit, a submitter leaves an attempt that a second one finds or starts, once."""
    for number, delay_s in enumerate((0.0, 0.01, 0.03, 0.06)):
        process = submitter(LocalRuntime(local.root / str(number), node="laptop"), tmp_path)
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        time.sleep(delay_s)
        process.kill()
        process.communicate()
        again = LocalRuntime(local.root / str(number), node="laptop")
        again.submit(Launch(job=job_file("job.1", ["sh", "-c", f"echo started >> {tmp_path}/count"])))
        assert ended(again, "job.1").succeeded
    assert (tmp_path / "count").read_text() == "started\n" * 4


def test_survives_the_death_of_its_starter(local: LocalRuntime, tmp_path: Path):
    """A kill of the starter's whole process group leaves the attempt running to its end."""
    process = submitter(local, tmp_path, "import time; time.sleep(60)")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    assert process.stdout.readline() == "submitted\n"
    process.kill()
    process.communicate()
    assert ended(local, "job.1").succeeded


def test_keeper_that_cannot_start(tmp_path: Path, launch: Make):
    """A keeper that dies while it starts is told, with its last words; the attempt can be submitted again."""
    bad = LocalRuntime(tmp_path / "jobs", node="laptop", python="/bin/false")
    with pytest.raises(JobLost, match=r"job\.1: its keeper ended while it started"):
        bad.submit(launch(entrypoint=["true"]))
    good = LocalRuntime(tmp_path / "jobs", node="laptop")
    assert run(good, launch(entrypoint=["true"])).succeeded


@pytest.mark.parametrize("label", ["../evil.1", "a/b.1", "", "nonumber", ".1"])
def test_labels_stay_in_the_folder(local: LocalRuntime, label: str):
    """A label that could leave the root is refused."""
    with pytest.raises(InvalidSpec, match=r"JOB\.NUMBER"):
        local.status(label)


TRAIN = """
    import json, time
    def main(job):
        found = job.checkpoint.load()
        state = json.loads((found / "state.json").read_text()) if found else {"step": 0, "x": 1.0}
        while state["step"] < 6:
            state = {"step": state["step"] + 1, "x": state["x"] * 1.1 + 1}
            job.checkpoint.save(lambda folder: (folder / "state.json").write_text(json.dumps(state)))
            print("at", state["step"], flush=True)
            if state["step"] == 3 and job.args["die"] and not found:
                print("ready", flush=True)
                time.sleep(60)
        (job.outputs["model"].path / "x").write_text(repr(state["x"]))
        return {"resumed": 1 if found else 0}
"""


def test_resume_gives_the_same_model(local: LocalRuntime, launch: Make):
    """A work killed after a checkpoint and resumed gives the bytes of one that was never disturbed."""
    local.submit(launch(TRAIN, outputs=("model",), args={"die": True}))
    ready(local)
    for pid in processes_of(local):
        os.kill(pid, signal.SIGKILL)
    assert ended(local, "job.1").reason is ExitReason.KILLED
    resumed = run(local, launch(TRAIN, attempt="job.2", outputs=("model",), args={"die": True}))
    whole = run(local, launch(TRAIN, attempt="other.1", outputs=("model",), args={"die": False}))
    assert (resumed.metrics["resumed"], whole.metrics["resumed"]) == (1, 0)
    assert b"at 3" not in local.logs("job.2", 0).data
    assert resumed.outputs["model"].digest == whole.outputs["model"].digest


def test_checkpoint_is_saved_while_it_runs(local: LocalRuntime, launch: Make, store: Store):
    """A checkpoint is in the store soon after it was written: also the death of the keeper leaves it."""
    local.submit(launch(TRAIN, outputs=("model",), args={"die": True}))
    wait_until(lambda: store.checkpoint("job"))
    ready(local)
    wait_until(lambda: len(store.checkpoints("job")) == 1, 5)
    os.kill(keeper_pid(local), signal.SIGKILL)
    wait_until(lambda: not local.status("job.1").alive)
    assert run(local, launch(TRAIN, attempt="job.2", outputs=("model",), args={"die": True})).metrics["resumed"] == 1


def test_unaware_checkpoint_folder(local: LocalRuntime, launch: Make):
    """A script that keeps its state in {checkpoint} goes on where it was stopped."""
    code = """
        import os, sys, time
        path = os.path.join(sys.argv[2], "state")
        step = int(open(path).read()) if os.path.exists(path) else 0
        print("from", step, flush=True)
        with open(path, "w") as file:
            file.write(str(step + 1))
        if step == 0:
            time.sleep(0.2)
            print("ready", flush=True)
            time.sleep(60)
    """
    local.submit(launch(code, ["python", "work.py"], args={"ckpt": "{checkpoint}"}))
    ready(local)
    local.cancel("job.1", ExitReason.STOPPED)
    assert ended(local, "job.1").reason is ExitReason.STOPPED
    assert run(local, launch(code, ["python", "work.py"], attempt="job.2", args={"ckpt": "{checkpoint}"})).succeeded
    assert b"from 1" in local.logs("job.2", 0).data


def test_old_folders_are_forgotten(local: LocalRuntime, launch: Make):
    """Ended attempts go after their time; running ones and young ones stay."""
    run(local, launch(entrypoint=["true"]))
    local.submit(launch(entrypoint=SLEEP, attempt="job.2"))
    assert local.forget(older_than_s=3600) == ()
    assert local.forget(older_than_s=-1) == ("job.1",)
    assert set(local.jobs()) == {"job.2"}
    local.cancel("job.2", ExitReason.STOPPED)
    ended(local, "job.2")


def test_a_foreign_process_is_never_signalled(local: LocalRuntime):
    """A keeper.json whose pid belongs to somebody else now is a lost attempt, and that somebody lives on."""
    with subprocess.Popen(["sleep", "60"]) as stranger:
        folder = local.root / "job.1"
        folder.mkdir(parents=True)
        (folder / "keeper.json").write_text(
            json.dumps({"pid": stranger.pid, "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(), "start_ticks": 1})
        )
        local.cancel("job.1", ExitReason.STOPPED)
        assert local.status("job.1") == Status(alive=False)
        assert stranger.poll() is None
        assert not has_mark(stranger.pid, f"DLA_JOB_DIR={folder}".encode())
        stranger.kill()
