"""The mate's way to the store through its follower: addresses that expire, refuse and break, helpers that are killed or asked to end."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from contracts.runtime import job_file, wait_until
from contracts.store import _trees, leaves, plant
from fakes.pod import FakePod
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_dla.agents import frames, links, offers
from airflow_dla.agents.arrivals import Arrivals
from airflow_dla.agents.board import Board, lines
from airflow_dla.agents.offers import Offer
from airflow_dla.agents.protocol import ControlFolder, JobError, JobFile
from airflow_dla.agents.relay import CHECKPOINT, OUTPUTS, Relay, needs
from airflow_dla.artifacts import manifest_of
from airflow_dla.errors import DlaError, PlaceUnavailable
from airflow_dla.runtime.kubernetes import frames as outer_frames
from airflow_dla.runtime.kubernetes.goods import needs_plan
from airflow_dla.runtime.kubernetes.told import read_told
from airflow_dla.specs import ArtifactRef, UriRef

REFERENCE = {"dla": "artifact", "digest": "sha256:" + "ab" * 32}


class Host:
    """A host of signed addresses that does what a test says."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.statuses: list[int] = []
        self.asked: list[str] = []
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data = host.files.get(self.path.partition("?")[0], b"")
                self._answer(data)

            def do_PUT(self) -> None:
                assert "Content-Type" not in self.headers
                data = self.rfile.read(int(self.headers["Content-Length"]))
                if self._answer(b"") < 300:
                    host.files[self.path.partition("?")[0]] = data

            def _answer(self, data: bytes) -> int:
                host.asked.append(f"{self.command} {self.path}")
                status = host.statuses.pop(0) if host.statuses else 200
                self.send_response(status if status > 1 else 200)
                self.send_header("Content-Length", str(len(data) + (1 if status == 1 else 0)))
                self.end_headers()
                self.wfile.write(data if status in (1, 200) else b"")
                return status

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign] # whoever hangs up has read enough
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def link(self, path: str) -> dict[str, Any]:
        """Return an address."""
        return {"url": f"http://127.0.0.1:{self._server.server_address[1]}/{path}?Signature=s3cr3t"}

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def host() -> Iterator[Host]:
    """Return a host."""
    made = Host()
    yield made
    made.close()


class Aside:
    """A relay that works in a thread, while a test plays its follower."""

    def __init__(self, folder: Path, **fields: Any) -> None:
        self.control = ControlFolder(folder / "control")
        self.control.inside.path.mkdir(parents=True)
        self.control.job.write_text(json.dumps(job_file(**fields).to_mapping()))
        self.said = folder / "said"
        self.board = Board(self.control.path / "state.json", os.open(self.said, os.O_WRONLY | os.O_CREAT), role="fetch")
        self.relay = Relay(JobFile.read(self.control.job), self.control, self.board)
        self.found: list[Any] = []

    def begin(self, call: Callable[[Relay], Any]) -> None:
        """Call."""

        def run() -> None:
            try:
                self.found.append(call(self.relay))
            except JobError as error:
                self.found.append(error)

        threading.Thread(target=run, daemon=True).start()

    def state(self) -> dict[str, Any]:
        """Return what it says."""
        return dict(json.loads((self.control.path / "state.json").read_text()))

    def says(self, **words: Any) -> None:
        """Wait until it says something."""
        wait_until(lambda: {name: self.state().get(name) for name in words} == words)

    def plan(self, **items: Any) -> None:
        """Say what is to come."""
        Arrivals(self.control).put_plan(items)

    def result(self) -> Any:
        """Wait for what came of it."""
        return wait_until(lambda: self.found)[0]


@pytest.fixture
def aside(tmp_path: Path) -> Callable[..., Aside]:
    """Return a function that makes a relay."""
    return lambda **fields: Aside(tmp_path / "attempt", **fields)


def entry(path: str, data: bytes, link: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a file of a plan."""
    found = {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return found if link is None else {**found, "get": link}


def item(*files: dict[str, Any], target: str = "in/train", key: str = "sha256:1") -> dict[str, Any]:
    """Return an item of a plan."""
    return {"name": f"input {target[3:]!r}", "target": target, "key": key, "writable": False, "files": list(files)}


INPUTS = {"inputs": {"train": ArtifactRef.from_mapping(REFERENCE)}}


class TestIn:
    """What is fetched."""

    def test_by_addresses(self, aside: Callable[..., Aside], host: Host) -> None:
        """Files are read from their addresses, and no address stays behind."""
        host.files = {"/a": b"1" * 100, "/b": b""}
        one = aside(**INPUTS)
        one.begin(lambda relay: relay.fetch(restore=False))
        one.says(wants="plan")
        one.plan(train=item(entry("a", b"1" * 100, host.link("a")), entry("sub/b", b"", host.link("b"))))
        assert one.result() is None
        assert leaves(one.control.inside.input("train")) == {"a": b"1" * 100, "sub/b": b""}
        assert b"s3cr3t" not in b"".join(path.read_bytes() for path in one.control.path.glob("*.json"))
        assert one.state() == {"role": "fetch"}

    def test_that_expire(self, aside: Callable[..., Aside], host: Host) -> None:
        """New ones are asked for, and only what is missing is read again; one that never was good is not asked for twice."""
        host.files = {f"/{index}": b"x" for index in range(9)}
        host.statuses = [200, 200, 403]
        files = [entry(str(index), b"x", host.link(str(index))) for index in range(9)]
        one = aside(**INPUTS)
        one.begin(lambda relay: relay.fetch(restore=False))
        one.plan(train=item(*files))
        one.says(wants="plan", links="expired")
        assert "s3cr3t" not in json.dumps(one.state())
        before = len(host.asked)
        host.statuses = [403] * 9
        one.plan(train=item(*files))
        one.says(wants="plan", links="refused")
        host.statuses = []
        one.plan(train=item(*files))
        assert one.result() is None
        assert before < len(host.asked) < before + 18

    def test_that_nobody_answers(self, aside: Callable[..., Aside], host: Host) -> None:
        """Bytes are asked for instead."""
        one = aside(**INPUTS)
        one.begin(lambda relay: relay.fetch(restore=False))
        nowhere = {"url": "http://127.0.0.1:9/a?Signature=s3cr3t"}
        one.plan(train=item(entry("a", b"1", nowhere)))
        one.says(wants="plan", links="unreachable")
        assert one.state()["why"].startswith("http://127.0.0.1/a cannot be reached: ConnectionRefusedError")
        one.plan(train=item(entry("a", b"1")))
        one.says(wants="bytes", links="unreachable", progress=[0, 1])

    @pytest.mark.parametrize(("status", "data"), [(404, b"1"), (200, b"2"), (200, b"11")], ids=["gone", "others", "longer"])
    def test_a_damaged_input(self, aside: Callable[..., Aside], host: Host, status: int, data: bytes) -> None:
        """It ends the attempt; a damaged checkpoint is exchanged for the one before."""
        host.files, host.statuses = {"/a": data}, [status] * 3
        one = aside(**INPUTS)
        one.begin(lambda relay: relay.fetch(restore=False))
        one.plan(train=item(entry("a", b"1", host.link("a"))))
        assert "input 'train': artifact sha256:1 is damaged" in str(one.result())
        two = Aside(one.control.path.parent / "two")
        two.begin(lambda relay: relay.fetch(restore=True))
        host.statuses = [status] * 3
        two.plan(checkpoint=item(entry("a", b"1", host.link("a")), target="checkpoint", key="sha256:2"))
        two.says(wants="plan", damaged=["sha256:2"])
        two.plan()
        assert two.result() is None

    def test_an_answer_that_breaks_off(self, aside: Callable[..., Aside], host: Host) -> None:
        """It is read again."""
        host.files, host.statuses = {"/a": b"1"}, [1, 503]
        one = aside(**INPUTS)
        one.begin(lambda relay: relay.fetch(restore=False))
        one.plan(train=item(entry("a", b"1", host.link("a"))))
        assert one.result() is None

    def test_what_the_follower_cannot_get(self, aside: Callable[..., Aside]) -> None:
        """Its words are the error."""
        one = aside(**INPUTS)
        (one.control.path / "failed.json").write_text('{"error": ["user_error", "input \'train\': gone"]}')
        one.begin(lambda relay: relay.fetch(restore=False))
        assert str(one.result()) == "input 'train': gone"

    def test_an_empty_outside_folder(self, aside: Callable[..., Aside]) -> None:
        """It is there, and empty."""
        one = aside(**INPUTS)
        one.begin(lambda relay: relay.fetch(restore=False))
        one.plan(train=item())
        assert one.result() is None
        assert one.control.inside.input("train").is_dir()


class TestOut:
    """What is published."""

    def outputs(self, aside: Callable[..., Aside], **files: bytes) -> Aside:
        """Return a relay with something to publish."""
        one = aside(outputs=("model",))
        plant(one.control.inside.output("model"), files)
        one.begin(lambda relay: relay.publish())
        return one

    def answer(self, one: Aside, number: int, what: str = OUTPUTS, **said: Any) -> bool:
        """Answer."""
        return Offer(one.control, what).reply(number, {"model" if what == OUTPUTS else CHECKPOINT: said})

    def test_to_addresses(self, aside: Callable[..., Aside], host: Host) -> None:
        """Files are written to their addresses; a reference ends it, and an answer to another offer does not."""
        one = self.outputs(aside, a=b"1", b=b"22")
        one.says(outputs=[1, "offered"])
        assert not self.answer(one, 7, reference=REFERENCE)
        assert self.answer(one, 1, put={"a": host.link("a"), "b": host.link("b")})
        one.says(outputs=[1, "sent"])
        assert host.files == {"/a": b"1", "/b": b"22"}
        assert self.answer(one, 1, reference=REFERENCE)
        assert one.result() == {"model": REFERENCE}
        assert not self.answer(one, 1, reference=REFERENCE)
        assert "outputs" not in one.state()

    def test_that_expire(self, aside: Callable[..., Aside], host: Host) -> None:
        """It is offered anew where some were good, else the bytes are asked for."""
        names = [f"f{index}" for index in range(9)]
        one = self.outputs(aside, **dict.fromkeys(names, b"1"))
        one.says(outputs=[1, "offered"])
        host.statuses = [200, 403]
        self.answer(one, 1, put={name: host.link(name) for name in names})
        one.says(outputs=[2, "offered"])
        host.statuses = [403] * 9
        self.answer(one, 2, put={name: host.link(name) for name in names})
        one.says(outputs=[2, "sent"])
        assert "answered 403" in one.state()["why"]
        assert "s3cr3t" not in one.said.read_text()

    def test_what_the_store_refuses(self, aside: Callable[..., Aside]) -> None:
        """The follower's words are the error."""
        one = self.outputs(aside, a=b"1")
        one.says(outputs=[1, "offered"])
        self.answer(one, 1, error=["user_error", "model: no"])
        assert str(one.result()) == "model: no"

    def test_an_empty_output(self, aside: Callable[..., Aside]) -> None:
        """It is never offered."""
        assert "output 'model': cannot publish" in str(self.outputs(aside).result())

    def test_checkpoints(self, aside: Callable[..., Aside], tmp_path: Path) -> None:
        """One by one, each until it is kept; not the one that was restored, and not by those who do not lead."""
        one = aside()
        folder = plant(tmp_path / "taken", {"s": b"1"})
        for number in (1, 2):
            one.begin(lambda relay: relay.save_checkpoint(folder))
            one.says(checkpoint=[number, "offered"])
            self.answer(one, number, CHECKPOINT, reference=REFERENCE)
            wait_until(lambda: len(one.found) == number)  # noqa: B023 - it is called in this turn
        one.plan(checkpoint=item(entry("s", b"1"), target="checkpoint"))
        one.relay.save_checkpoint(folder)


def tell(pod: FakePod, word: str, value: Any) -> None:
    """Say a word as the door does."""
    (pod.control / f".{word}").write_text(json.dumps(value))
    (pod.control / f".{word}").rename(pod.control / f"{word}.json")


def last(pod: FakePod, container: str) -> dict[str, Any]:
    """Return the last line of a log."""
    tail = pod.log("", container, tail_lines=1)
    return dict(json.loads(tail)) if tail.startswith(b"{") else {}


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Callable[..., FakePod]]:
    """Return a function that makes a pod."""
    made: list[FakePod] = []

    def launched(**fields: Any) -> FakePod:
        # Its helpers see the processes of this host as their pod's: no other test may have such a job.
        made.append(FakePod(tmp_path / f"pod-{len(made)}", job_file(f"{uuid.uuid4().hex}.1", **fields)))
        return made[-1]

    yield launched
    for each in made:
        each.close()


def test_sigterm_while_fetching(pod: Callable[..., FakePod]) -> None:
    """A pod that is deleted leaves at once, without a word."""
    one = pod(**INPUTS)
    one.start("fetch")
    wait_until(lambda: last(one, "fetch").get("wants") == "plan")
    one.signal("fetch", signal.SIGTERM)
    assert one.wait("fetch") == 143
    assert not (one.control / "fetched.json").exists()


def test_a_job_that_cannot_be_read(pod: Callable[..., FakePod], tmp_path: Path) -> None:
    """The pod says so, and the job does not start."""
    one = pod()
    (tmp_path / "pod-0" / "job.json").write_text('{"protocol": 99}')
    one.start("fetch")
    assert one.wait("fetch") == 1
    assert "speaks protocol 99" in last(one, "fetch")["error"][1]


def test_sigterm_beside_the_job(pod: Callable[..., FakePod]) -> None:
    """It is what a kubelet sends when the work of the mate begins: it goes on, and ends when all is said and done."""
    one = pod(outputs=("model",))
    one.start("fetch")
    assert one.wait("fetch") == 0
    one.start("mate")
    wait_until((one.control / "mate.json").exists)
    one.signal("mate", signal.SIGTERM)
    time.sleep(0.5)
    assert one.ended("mate") is None
    tell(one, "ended", {"succeeded": False, "hard": False})
    assert one.wait("mate") == 0
    assert last(one, "mate")["published"] == {"outputs": {}, "peaks": {}, "error": None}


def test_told_to_leave(pod: Callable[..., FakePod]) -> None:
    """The follower's word ends it at any time; one that has said all says it again when it is started again, and stays."""
    one = pod(outputs=("model",))
    one.start("fetch")
    one.wait("fetch")
    one.start("mate")
    wait_until((one.control / "mate.json").exists)
    tell(one, "leave", {})
    assert one.wait("mate") == 0
    assert "published" not in last(one, "mate")
    (one.control / "leave.json").unlink()
    tell(one, "ended", {"succeeded": False, "hard": False})
    for _ in range(2):
        one.start("mate")
        wait_until(lambda: "published" in last(one, "mate"))
        assert one.ended("mate") is None
        one.signal("mate", signal.SIGKILL)


def test_what_is_printed_is_apart(pod: Callable[..., FakePod]) -> None:
    """Nothing comes after the last line of the log but another state."""
    one = pod(outputs=("model",))
    one.start("fetch")
    one.wait("fetch")
    one.start("mate")
    (one.dla / "out" / "model").rmdir()
    (one.dla / "out" / "model").symlink_to("/etc")
    tell(one, "ended", {"succeeded": True, "hard": False})
    wait_until(lambda: "published" in last(one, "mate"))
    assert last(one, "mate")["published"]["error"][1].startswith("output 'model' was replaced by a symbolic link")


class TestBothSides:
    """What is written twice says the same."""

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(tree=_trees, executable=st.booleans())
    def test_manifests(self, tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any], executable: bool) -> None:
        """An offer has the files of a manifest."""
        folder = plant(tmp_path_factory.mktemp("out"), tree)
        first = next(folder / path for path in leaves(folder)) if leaves(folder) else None
        if first is not None and executable:
            first.chmod(0o755)
        try:
            expected = [file.to_mapping() for file in manifest_of(folder, kind="model").files]
        except DlaError as error:
            with pytest.raises(JobError, match=str(error).partition(":")[0].replace("\\", ".")[:20]):
                offers.measured(folder)
        else:
            assert offers.measured(folder) == expected

    @pytest.mark.parametrize("trap", ["outside", "dangling", "pipe", "unreadable"])
    def test_what_cannot_be_published(self, tmp_path: Path, trap: str) -> None:
        """Neither side takes it, in the same words."""
        folder = plant(tmp_path / "out", {"a": b"1"})
        if trap == "pipe":
            os.mkfifo(folder / "p")
        elif trap == "unreadable":
            folder = tmp_path / "nothing"
            folder.mkdir()
        else:
            (folder / "l").symlink_to("/etc/passwd" if trap == "outside" else "gone")
        with pytest.raises(DlaError) as theirs:
            manifest_of(folder, kind="model")
        with pytest.raises(JobError) as ours:
            offers.measured(folder)
        assert str(ours.value) == str(theirs.value)

    def test_frames(self) -> None:
        """Each reads what the other sends."""
        read, write = os.pipe()
        os.write(write, outer_frames.framed_json([1]) + outer_frames.framed(frames.DATA, b"x") + outer_frames.framed(outer_frames.END))
        assert list(frames.read(read)) == [(frames.JSON, b"[1]"), (frames.DATA, b"x")]
        sent = frames.framed_json([1]) + frames.framed(frames.DATA, b"x") + frames.framed(frames.END)
        assert list(outer_frames.read([sent[:7], sent[7:]])) == [(frames.JSON, b"[1]"), (frames.DATA, b"x")]
        os.write(write, outer_frames.framed(outer_frames.BROKEN))
        with pytest.raises(frames.Broken, match="damaged"):
            list(frames.read(read))
        os.close(write)
        with pytest.raises(frames.Broken, match="ended 5 bytes early"):
            list(frames.read(read))
        with pytest.raises(PlaceUnavailable, match="too early"):
            list(outer_frames.read([sent[:7]]))
        os.close(read)

    def test_a_quiet_stream(self) -> None:
        """A way that broke without a sign is given up."""
        read, write = os.pipe()
        with pytest.raises(frames.Broken, match=r"nothing came for 0.01 s"):
            list(frames.read(read, idle_s=0.01))
        os.close(read)
        os.close(write)

    @pytest.mark.parametrize("size", [10, 30_000])
    def test_states(self, tmp_path: Path, size: int) -> None:
        """However long, a state is read from the end of a log."""
        outputs = {f'o"{index}': REFERENCE for index in range(size // 100)}
        state = {"role": "mate", "published": {"outputs": outputs, "peaks": {"memory": 1.0}, "error": None}}
        log = ["noise", *lines({"role": "mate"}), *lines(state)]
        assert max(map(len, log)) < 16_000
        told = read_told(lambda count: "\n".join(log[-count:]).encode())
        assert told is not None
        assert told.published is not None
        assert set(told.published.outputs) == set(outputs)

    def test_a_state_that_is_being_said(self) -> None:
        """It is read at the next look."""
        assert read_told(lambda _: b'{"role": "ma') is None
        assert read_told(lambda _: b"") is None
        assert read_told(lambda count: b'{"piece":2,"of":2,"text":""}\n') is None

    @pytest.mark.parametrize(
        "fields",
        [{}, {"attempt": "job.2"}, INPUTS, {"code": ArtifactRef.from_mapping(REFERENCE)}, {"inputs": {"x": UriRef(uri="/x")}}],
    )
    def test_who_waits(self, fields: dict[str, Any], tmp_path: Path) -> None:
        """Both know whether there is anything to bring."""
        job = job_file(**fields)
        (tmp_path / "job.json").write_text(json.dumps(job.to_mapping()))
        read = JobFile.read(tmp_path / "job.json")
        assert needs(read, restore=read.restores) is needs_plan(job)


def test_uploads_are_told_apart(host: Host, tmp_path: Path) -> None:
    """A refusal, a lost host and a file that shrinks."""
    (tmp_path / "f").write_bytes(b"12")
    host.statuses = [404]
    with pytest.raises(links.Missing):
        links.upload(host.link("f"), tmp_path / "f", 2)
    host.statuses = [409]
    with pytest.raises(links.Unreachable, match="answered 409"):
        links.upload(host.link("f"), tmp_path / "f", 2)
    with pytest.raises(links.Unreachable, match="became shorter"):
        links.upload(host.link("f"), tmp_path / "f", 3)
