"""The door of a pod: verbs that are repeated, cut off, damaged, too late, or do not fit on the disk."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from contracts.runtime import job_file, wait_until
from contracts.store import leaves, plant

import airflow_dla
from airflow_dla.agents import frames
from airflow_dla.agents.arrivals import Arrivals
from airflow_dla.agents.offers import Offer
from airflow_dla.agents.protocol import ControlFolder

AGENTS = Path(airflow_dla.__file__).parent / "agents"
END = frames.framed(frames.END)


class Entered:
    """A pod's volume, and its door."""

    def __init__(self, folder: Path) -> None:
        self.control = ControlFolder(folder)
        self.control.inside.path.mkdir(parents=True)

    def command(self, words: Sequence[str]) -> list[str]:
        """Return the command of a verb."""
        return [sys.executable, str(AGENTS), "door", str(self.control.path), *words]

    def run(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a verb."""
        return subprocess.run(self.command(words), input=stdin, capture_output=True, check=False, timeout=30)

    def ask(self, *words: str, value: Any = None) -> Any:
        """Run a verb that answers."""
        done = self.run(*words, stdin=b"" if value is None else frames.framed_json(value) + END)
        assert done.returncode == 0, done.stderr
        read, write = os.pipe()
        os.write(write, done.stdout)
        os.close(write)
        found = frames.read_json(read)
        os.close(read)
        return found

    def plan(self, *files: tuple[str, bytes]) -> int:
        """Say what is to come; return its number."""
        entries = [{"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for path, data in files]
        item = {"name": "input 'train'", "target": "in/train", "key": "k", "writable": False, "files": entries}
        return int(self.ask("plan", value={"in-train": item})["number"])

    def arrived(self) -> dict[str, bytes]:
        """Return the files that are whole."""
        return leaves(self.control.path / "arriving" / "in-train-k" / "files")


def sent(*files: tuple[str, bytes]) -> bytes:
    """Return files as a follower sends them."""
    found = b""
    for path, data in files:
        found += frames.framed_json(["in-train", path])
        found += b"".join(frames.framed(frames.DATA, data[at : at + 3]) for at in range(0, len(data), 3))
        found += frames.framed_json({"size": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    return found


@pytest.fixture
def door(tmp_path: Path) -> Entered:
    """Return a door."""
    return Entered(tmp_path / "control")


def test_words_count_once(door: Entered) -> None:
    """The first stop holds, whoever says another; a grant is the last one, and the job sees it."""
    for reason in ("preempted", "stopped"):
        assert door.run("put", "stop", json.dumps({"reason": reason})).returncode == 0
    assert json.loads(door.control.stop.read_text()) == {"reason": "preempted"}
    for cpus in (1, 2):
        door.run("put", "grant", json.dumps({"amounts": {"cpu": cpus}}))
    assert json.loads(door.control.inside.grant.read_text()) == {"amounts": {"cpu": 2}}
    assert door.control.inside.grant.stat().st_mode & 0o777 == 0o644
    refused = door.run("put", "job", "{}")
    assert (refused.returncode, b"nobody reads job.json" in refused.stderr) == (65, True)
    assert sorted(path.name for path in door.control.path.iterdir()) == ["dla", "grant.json", "stop.json"]


def test_a_word_wakes_the_mate(door: Entered) -> None:
    """It has not to wait for its next look; a process that only has the mate's number is left alone."""
    code = "import signal, time; signal.signal(signal.SIGHUP, lambda *_: exit(7)); print(flush=True); time.sleep(30)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as mate:
        assert mate.stdout is not None
        mate.stdout.readline()
        ticks = int(Path(f"/proc/{mate.pid}/stat").read_text().rpartition(")")[2].split()[19])
        door.control.mate.write_text(json.dumps({"pid": mate.pid, "start_ticks": ticks + 1}))
        door.run("put", "stop", "{}")
        assert mate.poll() is None
        door.control.mate.write_text(json.dumps({"pid": mate.pid, "start_ticks": ticks}))
        door.run("put", "ended", "{}")
        assert mate.wait(10) == 7


def test_state(door: Entered) -> None:
    """What the helper said last, nothing before it did."""
    assert door.ask("state") == {}
    (door.control.path / "state.json").write_text('{"role": "mate"}')
    assert door.ask("state") == {"role": "mate"}


def test_files_arrive(door: Entered) -> None:
    """One by one; what is there is not asked for again, whoever plans."""
    files = (("a", b"1234567"), ("sub/b", b""))
    number = door.plan(*files)
    assert door.run("take", str(number), stdin=sent(files[0]) + END).returncode == 0
    assert door.arrived() == {"a": b"1234567"}
    assert not door.control.inside.input("train").exists()
    item = Arrivals(door.control).plan
    assert item is not None
    again = door.ask("plan", value=item["items"])
    assert again == {"number": 2, "needs": [["in-train", "sub/b"]]}
    assert door.run("take", "1", stdin=END).returncode == 75


@pytest.mark.parametrize("wrong", [b"7654321", b"12345678", b""], ids=["others", "longer", "nothing"])
def test_damaged_bytes(door: Entered, wrong: bytes) -> None:
    """They are nowhere, and what came before them stays."""
    number = door.plan(("a", b"1"), ("b", b"1234567"))
    done = door.run("take", str(number), stdin=sent(("a", b"1"), ("b", wrong)) + END)
    assert done.returncode == 65
    assert b"files/b has" in done.stderr
    assert door.arrived() == {"a": b"1"}


def test_cut_anywhere(door: Entered) -> None:
    """However much arrived, a file is whole or not there."""
    files = (("a", b"123456"), ("b", b"1"))
    number, stream = door.plan(*files), sent(*files)
    for size in range(0, len(stream), 29):
        assert door.run("take", str(number), stdin=stream[:size]).returncode == 65
        assert {path: data for path, data in files if path in door.arrived()} == door.arrived()
    assert not list((door.control.path / "arriving").rglob("part-*"))


def test_killed_in_the_middle(door: Entered) -> None:
    """What it wrote of a file is nowhere, and the next one may bring it."""
    files = (("a", b"1" * 1000), ("b", b"2" * 1000))
    number, stream = door.plan(*files), sent(*files)
    for size in (500, 2500, 4500):
        with subprocess.Popen(door.command(["take", str(number)]), stdin=subprocess.PIPE) as taking:
            assert taking.stdin is not None
            taking.stdin.write(stream[:size])
            taking.stdin.flush()
            wait_until((door.control.path / "arriving").exists)
            taking.send_signal(signal.SIGKILL)
    assert {path: data for path, data in files if path in door.arrived()} == door.arrived()
    assert door.run("take", str(number), stdin=stream + END).returncode == 0
    assert door.arrived() == dict(files)


def test_two_at_once(door: Entered) -> None:
    """The second finds that somebody is about it."""
    number, stream = door.plan(("a", b"123")), sent(("a", b"123"))
    with subprocess.Popen(door.command(["take", str(number)]), stdin=subprocess.PIPE) as first:
        assert first.stdin is not None
        first.stdin.write(stream[:25])
        first.stdin.flush()
        wait_until(lambda: list((door.control.path / "arriving").rglob("part-*")))
        assert door.run("take", str(number), stdin=stream + END).returncode == 75
        first.stdin.write(stream[25:] + END)
        first.stdin.flush()
        assert first.wait(20) == 0
    assert door.arrived() == {"a": b"123"}


def test_an_outside_file_says_its_hash_last(door: Entered) -> None:
    """Nobody knew it before; a transfer that was damaged is found all the same."""
    item = {
        "name": "input 'far'",
        "target": "in/far",
        "key": "k",
        "writable": False,
        "files": [{"path": "a", "size": None, "sha256": None}],
    }
    assert door.ask("plan", value={"in-train": item})["needs"] == [["in-train", "a"]]
    wrong = sent(("a", b"123")).replace(b"123", b"124", 1)
    assert door.run("take", "1", stdin=wrong + END).returncode == 65
    assert door.run("take", "1", stdin=sent(("a", b"123")) + END).returncode == 0


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Entered]:
    """Return a door to a volume of one MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"this user may not mount: {mounted.stderr.decode()}")
    yield Entered(folder / "control")
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk(small: Entered) -> None:
    """The attempt ends with what would do, and nothing half is left."""
    data = bytes(2 << 20)
    number = small.plan(("a", data))
    head = frames.framed_json(["in-train", "a"]) + frames.framed(frames.DATA, data)
    done = small.run("take", str(number), stdin=head + frames.framed_json({"size": len(data), "sha256": ""}) + END)
    assert done.returncode == 74
    error = json.loads((small.control.path / "failed.json").read_text())["error"]
    assert error[0] == "user_error"
    assert error[1].startswith("input 'train': no space left for its 2 MiB: ")
    assert error[1].endswith("give the place a larger `scratch`")
    assert small.arrived() == {}


def test_offers(door: Entered, tmp_path: Path) -> None:
    """Files of an offer are given from any byte on; what is not offered is not."""
    folder = plant(tmp_path / "out", {"a": b"123456", "b": b"7"})
    Offer(door.control, "outputs").make({"model": {"kind": "model", "folder": str(folder), "files": [{"path": "a"}, {"path": "b"}]}})
    offered = door.ask("offer", "outputs")
    assert (offered["number"], list(offered["items"])) == (1, ["model"])

    def given(**wanted: Any) -> subprocess.CompletedProcess[bytes]:
        words = {"number": 1, "item": "model", "paths": ["a", "b"], **wanted}
        return door.run("give", "outputs", stdin=frames.framed_json(words) + END)

    done = given(skip=4)
    assert (done.returncode, done.stdout) == (
        0,
        frames.framed(frames.DATA, b"56") + frames.framed_json({}) + frames.framed(frames.DATA, b"7") + frames.framed_json({}) + END,
    )
    assert given(number=2).returncode == 75
    assert given(item="other").returncode == 75
    assert given(paths=["../secret"]).returncode == 65
    (folder / "a").unlink()
    (folder / "a").symlink_to("/etc/passwd")
    refused = given(paths=["a"])
    assert (refused.returncode, b"symbolic link" in refused.stderr) == (74, True)


def test_answers(door: Entered) -> None:
    """One to an offer that has passed is refused."""
    offer = Offer(door.control, "outputs")
    said = {"number": 1, "items": {"model": {"put": {}}}}
    assert door.run("answer", "outputs", stdin=frames.framed_json(said) + END).returncode == 75
    offer.make({"model": {}})
    assert door.run("answer", "outputs", stdin=frames.framed_json(said) + END).returncode == 0
    assert offer.news() == {"model": {"put": {}}}
    assert offer.news() is None
    offer.close()
    assert door.run("answer", "outputs", stdin=frames.framed_json(said) + END).returncode == 75


def test_an_attempt_is_laid_out_from_an_archive(tmp_path: Path) -> None:
    """The archive unpacks itself once, and goes on as what it is told."""
    from airflow_dla.runtime.kubernetes.bundle import bundle, fetch_command  # noqa: PLC0415 - only here

    archive, job, control = tmp_path / "agents.zip", tmp_path / "job.json", tmp_path / "control"
    archive.write_bytes(bundle().data)
    job.write_text(json.dumps(job_file(outputs=("model",)).to_mapping()))
    control.mkdir()
    command = fetch_command((os.getuid(), os.getgid()), python=sys.executable, archive=str(archive), control=str(control), job=str(job))
    began = time.time()
    for _ in range(2):
        subprocess.run(command, check=True, timeout=30)
    assert (control / "agents" / "runner.py").stat().st_mode & 0o777 == 0o644
    assert not (control / "agents" / "staging.py").exists()
    assert sorted(path.name for path in (control / "dla").iterdir()) == [
        "checkpoint", "checkpoints", "code", "in", "job.json", "out", "tmp",
    ]  # fmt: skip
    assert (control / "agents").stat().st_mtime >= began - 1
    bundle.cache_clear()
    assert bundle().data == archive.read_bytes()
