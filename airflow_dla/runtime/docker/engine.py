"""One Docker engine: the requests that we make of it, typed, each with its time limit, its faults in our words.

What the engine refuses for a reason that lies in the job is `LaunchRefused`; when it does
not answer, or is itself out of order, it is `PlaceUnavailable`, and the same call may be
made again. Every method may be called from several threads at once.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from airflow_dla.errors import Conflict, InvalidSpec, LaunchRefused, PlaceUnavailable
from airflow_dla.runtime.answers import Answer
from airflow_dla.runtime.docker.archives import first_file, packed, stat_of
from airflow_dla.runtime.docker.clients import Clients, answer_of, send
from airflow_dla.runtime.docker.entering import enter, shell
from airflow_dla.runtime.docker.facts import EngineFacts, Image
from airflow_dla.runtime.docker.frames import Demultiplexer
from airflow_dla.runtime.docker.inputs import Attached
from airflow_dla.runtime.docker.listings import WORKSPACE, Summary, by_attempt, limits
from airflow_dla.runtime.docker.pulls import Pulls
from airflow_dla.runtime.docker.sharing import Shared
from airflow_dla.runtime.docker.streams import LogStream
from airflow_dla.runtime.wires import Wire

_MAKING_S: Final = 2.0
_IMAGE_AGE_S: Final = 5.0
_TAIL_LINES: Final = 50
_ALWAYS_S: Final = float("inf")
_FOLDER: Final = 1 << 31  # Go's os.ModeDir
_SYMLINK: Final = 1 << 27  # Go's os.ModeSymlink

_CREATED: Final = "created"
_RUNS: Final = ("running", "paused")

_MISSING: Final = 404
_CONFLICT: Final = 409
_SERVER: Final = 500


class Engine:
    """An engine, by a client library that is loaded when it is first asked.

    Parameters
    ----------
    connect : callable
        Returns a new `docker.APIClient`, logged in to private registries.
    name : str
        Name of the place, for messages.
    address : str
        Where the engine listens, for messages.
    quick_s, slow_s : float
        Seconds without a word after which it counts as not answering: looks, and changes.
    clock : callable
        Seconds of a monotonic clock.
    """

    def __init__(
        self, connect: Callable[[], Any], *, name: str, address: str = "", quick_s: float = 10.0, slow_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.name = name
        self._quick_s = quick_s
        self._slow_s = slow_s
        self._clock = clock
        self._clients = Clients(connect, name=name, address=address, clock=clock)
        self._pulls = Pulls(self._clients, clock=clock)
        self._facts = Shared(self._ask_facts, clock)
        self._facts_faults = 0
        self._images: dict[str, Shared[Image | None]] = {}
        self._lists: dict[tuple[str, bool], Shared[dict[str, Summary]]] = {}
        self._made: set[str] = set()

    def close(self) -> None:
        """Close the connections that nobody uses now; a later call opens others."""
        self._clients.close()

    # --- what there is ---

    def facts(self) -> EngineFacts:
        """Return what the engine says of itself and its host; asked again after a lost connection."""
        if self._facts_faults != self._clients.faults:
            self._facts_faults = self._clients.faults
            self._facts.forget()
        return self._facts.get(_ALWAYS_S)

    def image(self, name: str) -> Image | None:
        """Return an image that the engine has, or None; known for some seconds."""
        shared = self._images.setdefault(name, Shared(lambda: self._ask_image(name), self._clock))
        return shared.get(_IMAGE_AGE_S)

    def inspect(self, name: str) -> dict[str, Any] | None:
        """Return all that the engine knows of a container, by name or id; None if there is none."""
        return self._inspected("/containers/{0}/json", name)

    def listing(self, workspace: str, *, running: bool = False, max_age_s: float = 0.0) -> Mapping[str, Summary]:
        """Return every container of a workspace, or only what runs, by the label of its attempt.

        However many threads ask, the engine is asked once for all who accept an answer of that age.
        """
        shared = self._lists.setdefault((workspace, running), Shared(lambda: self._ask_listing(workspace, running=running), self._clock))
        return shared.get(max_age_s)

    def find(self, name: str) -> Summary | None:
        """Return one container by its name, as a list would show it; None if there is none."""
        document = self.inspect(name)
        if document is None:
            return None
        with self._clients.reading():
            return Summary.from_inspect(document)

    def await_end(self, container: str, timeout_s: float) -> None:
        """Return when a container may have ended, or after so many seconds; it says nothing of an engine that does not answer."""
        with self._clients.borrow() as client, contextlib.suppress(OSError, ValueError):
            response = send(client, "post", "/containers/{0}/wait", container, timeout_s=self._quick_s, stream=True)
            try:
                if response.ok:
                    Wire(response.raw).wait(timeout_s)
            finally:
                response.close()

    def memory_held(self, container: str) -> int:
        """Return the bytes of memory that a running container holds and the kernel cannot take back."""
        document = self._asked("/containers/{0}/stats", container, params={"stream": 0, "one-shot": 1})
        with self._clients.reading():
            held = document["memory_stats"]
            given_back = held.get("stats", {}).get("total_inactive_file", held.get("stats", {}).get("inactive_file", 0))
            return int(held.get("usage", 0)) - int(given_back)

    def tail(self, container: str, limit: int) -> bytes:
        """Return the end of a container's output, at most so many bytes; nothing where there is none."""
        with self._clients.borrow() as client:
            what = {"stdout": 1, "stderr": 1, "tail": _TAIL_LINES}
            response = send(client, "get", "/containers/{0}/logs", container, params=what, timeout_s=self._quick_s)
            frames = Demultiplexer()
            return b"".join(data for _, data in frames.feed(response.content))[-limit:] if response.ok else b""

    def foreign(self, workspace: str | None = None) -> tuple[Mapping[str, Any], ...]:
        """Return the running containers that are not a workspace's, or not any's: their Id, Name and HostConfig."""
        found = self._ask_list(running=True)
        others = [one for one in found if WORKSPACE not in one.labels or (workspace and one.labels[WORKSPACE] != workspace)]
        documents = [self.inspect(one.id) for one in others]
        with self._clients.reading():
            return tuple(limits(document) for document in documents if document is not None)

    def stream(self, container: str) -> LogStream:
        """Return the output of a container that was started, by byte offset; connects when it is first read."""
        return LogStream(self._clients, container, clock=self._clock)

    # --- making a container ---

    def pull(self, name: str) -> None:
        """See that the engine has an image; return once it has.

        Raises
        ------
        NotReady
            While it is fetched; says how far it is.
        LaunchRefused
            If it cannot be had; says why, in the registry's words.
        """
        if self.image(name) is None:
            self._pulls.ask(name)
            self._images.pop(name, None)

    def create(self, name: str, body: Mapping[str, Any]) -> str:
        """Make a container, or find the one of that name; return its id.

        Raises
        ------
        LaunchRefused
            If the engine will not have it so; says why.
        """
        answer = self.ask("post", "/containers/create", body=body, params={"name": name}, timeout_s=self._slow_s)
        if not answer.good:
            return self._existing(name, answer)
        with self._clients.reading():
            made = str(answer.document["Id"])
        self._made.add(made)
        return made

    def start(self, container: str, *, stdin: bytes | None = None, again: bool = False) -> None:
        """Start a container that never ran, and hand it what it shall read on its standard input.

        One that runs gets the input alone, in case whoever started it did not come so far;
        one that has ended stays so, though the engine would run it again, unless `again` says so.

        Raises
        ------
        LaunchRefused
            If it cannot run: no such command, not executable, no such device; or it is gone.
        """
        new = container in self._made  # nobody else has had the time to start it
        self._made.discard(container)
        state = _CREATED if new or again else self._state(container)
        if state != _CREATED and (stdin is None or state not in _RUNS):
            return
        with self._clients.borrow() as client:
            attached = None if stdin is None else Attached(client, container, patience_s=self._quick_s)
            try:
                if state == _CREATED:  # what runs may have ended before the engine hears of it, and would run again
                    self._begin(client, container)
                if attached is not None and stdin is not None and not attached.write(stdin):
                    self._state(container)  # an engine that answers has read it all; one that does not may be gone
            finally:
                if attached is not None:
                    attached.close()

    # --- a container's life ---

    def kill(self, container: str, signal: str) -> bool:
        """Send a signal, by its name; False where nothing runs.

        Raises
        ------
        InvalidSpec
            If there is no such signal.
        """
        answer = self.ask("post", "/containers/{0}/kill", container, params={"signal": signal})
        if answer.status in (_MISSING, _CONFLICT) or "is not running" in answer.words:
            return False
        if not answer.good:
            raise self._failed(f"signal {signal!r} cannot be sent to container {container[:12]}", answer)
        return True

    def remove(self, container: str, *, force: bool = False) -> None:
        """Remove a container and its anonymous volumes; one that is gone, or about to be, is no error.

        Raises
        ------
        Conflict
            If it runs, and `force` does not allow to kill it.
        """
        answer = self.ask("delete", "/containers/{0}", container, params={"v": 1, "force": int(force)}, timeout_s=self._slow_s)
        if answer.good or answer.status == _MISSING or "already in progress" in answer.words:
            return
        if answer.status == _CONFLICT:
            raise Conflict(f"place {self.name}: container {container[:12]} cannot be removed: {answer.words}")
        raise self._failed(f"container {container[:12]} cannot be removed", answer)

    def update(self, container: str, body: Mapping[str, Any]) -> str | None:
        """Change a container's limits; return None once they are in force, else why they are not, in the engine's words."""
        answer = self.ask("post", "/containers/{0}/update", container, body=body, timeout_s=self._slow_s)
        return None if answer.good else answer.words

    def enter(self, container: str, command: Sequence[str], *, terminal: bool) -> int:
        """Run a command, by default a shell of its image, in a running container on our own streams; return its exit status."""
        argv = command or shell(lambda path: self.has_file(container, path))
        return enter(self._clients, container, argv, terminal=terminal, patience_s=self._quick_s)

    # --- files in a container ---

    def has_file(self, container: str, path: str) -> bool:
        """Whether something lies there in a container, running or not; a link counts by what it leads to."""
        return self._stat(container, path) is not None

    def read_file(self, container: str, path: str, limit: int) -> bytes | None:
        """Return the beginning of a file of a container, at most `limit` bytes; None where there is no file."""
        found = self._stat(container, path)
        if found is None or found["mode"] & _FOLDER:
            return None
        with self._clients.borrow() as client:
            what = {"path": found["path"]}
            response = send(client, "get", "/containers/{0}/archive", container, params=what, timeout_s=self._quick_s, stream=True)
            try:
                return first_file(response.raw, limit) if response.ok else None
            finally:
                response.close()

    def put_files(self, container: str, folder: str, files: Mapping[str, bytes], *, owner: tuple[int, int] = (0, 0)) -> None:
        """Write files, readable for their owner alone, into a folder that the container has.

        Raises
        ------
        LaunchRefused
            If it has not, or may not be written.
        """
        self.put_archive(container, folder, packed(files, owner=owner))

    def put_archive(self, container: str, folder: str, archive: bytes) -> None:
        """Unpack a tar archive in a folder that the container has; it may have ended, or never have started.

        Raises
        ------
        LaunchRefused
            If it has not, or may not be written.
        """
        answer = self.ask("put", "/containers/{0}/archive", container, params={"path": folder}, data=archive, timeout_s=self._slow_s)
        if not answer.good:
            raise self._refused(f"files cannot be put into {folder} of container {container[:12]}", answer)

    # --- anything else ---

    def ask(self, method: str, path: str, *parts: str, body: Any = None, timeout_s: float = 0.0, **request: Any) -> Answer:
        """Send one request, its body as JSON; return the engine's answer, good or not.

        Parameters
        ----------
        method, path, *parts, **request
            As `Clients.ask` takes them.
        body : object, optional
        timeout_s : float, optional
            `quick_s` by default.
        """
        if body is not None:
            request |= {"data": json.dumps(body), "headers": {"Content-Type": "application/json"}}
        return self._clients.ask(method, path, *parts, timeout_s=timeout_s or self._quick_s, **request)

    # --- inside ---

    def _asked(self, path: str, *parts: str, **request: Any) -> Any:
        """Return the document that the engine must have."""
        answer = self.ask("get", path, *parts, **request)
        if not answer.good:
            raise self._failed(f"it has no answer to {path}", answer)
        return answer.document

    def _inspected(self, path: str, name: str) -> dict[str, Any] | None:
        answer = self.ask("get", path, name)
        if answer.status == _MISSING:
            return None
        if not answer.good:
            raise self._failed(f"{name!r} cannot be looked at", answer)
        with self._clients.reading():
            return dict(answer.document)

    def _ask_facts(self) -> EngineFacts:
        info, version = self._asked("/info"), self._asked("/version")
        with self._clients.reading():
            return EngineFacts.from_engine(info, version)

    def _ask_image(self, name: str) -> Image | None:
        document = self._inspected("/images/{0}/json", name)
        with self._clients.reading():
            return None if document is None else Image.from_inspect(document)

    def _ask_list(self, *, running: bool, label: str = "") -> list[Summary]:
        filters = {"label": [label]} if label else {}
        documents = self._asked("/containers/json", params={"all": int(not running), "filters": json.dumps(filters)})
        with self._clients.reading():
            return [Summary.from_document(document) for document in documents]

    def _ask_listing(self, workspace: str, *, running: bool) -> dict[str, Summary]:
        return by_attempt(self._ask_list(running=running, label=f"{WORKSPACE}={workspace}"))

    def _begin(self, client: Any, container: str) -> None:
        answer = self._clients.checked(answer_of(send(client, "post", "/containers/{0}/start", container, timeout_s=self._slow_s)))
        if not answer.good:
            raise self._refused(f"the container {container[:12]} cannot start", answer)

    def _state(self, container: str) -> str:
        """Return how far a container is; one that is gone is refused by the engine, in its words, when it shall start."""
        found = self.inspect(container)
        return _CREATED if found is None else str(found["State"]["Status"])

    def _existing(self, name: str, answer: Answer) -> str:
        """Return the id of a container that was not made now; the engine checks the name last, so any refusal may hide it."""
        until = self._clock() + _MAKING_S
        while (found := self.inspect(name)) is None and answer.status == _CONFLICT and self._clock() < until:
            time.sleep(0.02)  # another is making it, and has the name already
        if found is not None:
            return str(found["Id"])
        if answer.status == _CONFLICT:
            raise PlaceUnavailable(f"place {self.name}: the container {name} is about to be removed: {answer.words}; ask again")
        raise self._refused(f"the container {name} cannot be made", answer)

    def _stat(self, container: str, path: str) -> dict[str, Any] | None:
        """Return what lies at a path, the links on the way followed, with the ``path`` where it lies."""
        for _ in range(2):  # the engine follows a chain of links to its end
            answer = self._clients.ask("head", "/containers/{0}/archive", container, params={"path": path}, timeout_s=self._quick_s)
            if not answer.good:
                return None
            with self._clients.reading():
                found = stat_of(answer.headers["x-docker-container-path-stat"])
            if not found["mode"] & _SYMLINK:
                return {**found, "path": path}
            path = found["linkTarget"]
        return None

    def _refused(self, what: str, answer: Answer) -> LaunchRefused:
        return LaunchRefused(f"place {self.name}: {what}: {answer.words}")

    def _failed(self, what: str, answer: Answer) -> PlaceUnavailable | InvalidSpec:
        """Return the error of a request that no job asked for: ours is wrong, or the engine is."""
        message = f"place {self.name}: {what}: {answer.words}"
        return PlaceUnavailable(message) if answer.status >= _SERVER else InvalidSpec(message)
