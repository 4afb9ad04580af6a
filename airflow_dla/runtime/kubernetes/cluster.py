"""One namespace of a cluster: the requests that we make of its API server, typed, their faults in our words.

What is refused for a reason that lies in the job is `LaunchRefused`. When the server does
not answer, is out of order, asks us to wait or does not know us any more, it is
`PlaceUnavailable`, and the same call may be made again; so it is with permissions that
are missing for looking at what may run already. Documents are plain JSON both ways.
Every method may be called from several threads at once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from airflow_dla.errors import Conflict, NotFound
from airflow_dla.runtime.answers import Answer
from airflow_dla.runtime.kubernetes.answers import CONFLICT, GONE, INVALID, MISSING, Exists, Gone, refusal
from airflow_dla.runtime.kubernetes.channel import PROTOCOLS, Channel, Completed, greeting
from airflow_dla.runtime.kubernetes.kinds import Kind, kind_of
from airflow_dla.runtime.kubernetes.server import Query, Server
from airflow_dla.runtime.wires import Wire

__all__ = ["Cluster", "Completed", "Event", "Exists", "Gone"]

_WAITING: Final = 400
_SLICE: Final = 1 << 16
_TICK_S: Final = 1.0
#: What a server says of a JSON patch whose `test` does not hold.
_UNTRUE: Final = "the server rejected our request due to an error in our request"


@dataclass(frozen=True, slots=True)
class Event:
    """What a watch tells.

    Parameters
    ----------
    type : str
        ``ADDED``, ``MODIFIED``, ``DELETED``, or ``BOOKMARK``, whose object has a resource version alone.
    object : mapping
        The document as it is then.
    """

    type: str
    object: dict[str, Any]


class Cluster:
    """A namespace of a cluster, by a client library that is loaded when it is first asked.

    Parameters
    ----------
    connect : callable
        Returns a `kubernetes.client.ApiClient` with the credentials of now; called again when they have expired.
    name : str
        Name of the place, for messages.
    namespace : str
    quick_s, slow_s : float
        Seconds without a word after which the server counts as not answering: looks, and changes.
    clock : callable
        Seconds of a monotonic clock.
    server : `Server`, optional
        What another namespace of the same cluster is asked by.
    page : int
        Objects that one answer to a list has at most.
    """

    def __init__(
        self, connect: Callable[[], Any], *, name: str, namespace: str = "default", quick_s: float = 10.0, slow_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic, server: Server | None = None, page: int = 500,
    ) -> None:  # fmt: skip
        self.name = name
        self.namespace = namespace
        self._connect = connect
        self._quick_s = quick_s
        self._slow_s = slow_s
        self._clock = clock
        self._page = page
        self._server = server or Server(connect, name=name, clock=clock)

    def at(self, namespace: str) -> Cluster:
        """Return another namespace of the same cluster, over the same connections."""
        return Cluster(
            self._connect, name=self.name, namespace=namespace, quick_s=self._quick_s, slow_s=self._slow_s, clock=self._clock,
            server=self._server, page=self._page,
        )  # fmt: skip

    # --- objects ---

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return an object, or None where there is none."""
        of = self._of(kind)
        answer = self._server.ask("GET", of.path(self.namespace, name), timeout_s=self._quick_s)
        if answer.status == MISSING:
            return None
        return self._good(answer, "get", of, name)

    def list(
        self, kind: str, *, labels: str = "", fields: str = "", cluster_wide: bool = False
    ) -> tuple[list[dict[str, Any]], str]:  # fmt: skip
        """Return the objects that selectors choose, as they are now, and the resource version to watch on from.

        Parameters
        ----------
        kind : str
            Plural: ``pods``.
        labels, fields : str
            Selectors as `kubectl` has them.
        cluster_wide : bool
            Whether to look in all namespaces.

        Raises
        ------
        NotFound
            If the cluster serves no such kind.
        """
        of = self._of(kind)
        path = of.path("" if cluster_wide else self.namespace)
        wanted = _given(labelSelector=labels, fieldSelector=fields)
        while True:
            pages = self._pages(path, wanted, of)
            try:
                found = list(pages)
            except Gone:
                continue  # the list was forgotten between two of its pages
            items = [item for page in found for item in page.get("items") or []]
            return items, str(found[-1]["metadata"].get("resourceVersion", ""))

    def create(self, kind: str, document: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Make an object; return it as the cluster has it.

        Raises
        ------
        Exists
            If there is one of that name.
        LaunchRefused
            If the cluster will not have it: permissions, quota, an admission webhook, an invalid document.
        """
        of = self._of(kind)
        query = [("dryRun", "All")] if dry_run else []
        document = {"apiVersion": of.api_version, "kind": of.name, **document}
        answer = self._server.ask("POST", of.path(self.namespace), query, body=document, timeout_s=self._slow_s)
        return self._good(answer, "create", of, str(document.get("metadata", {}).get("name", "")))

    def patch(
        self, kind: str, name: str, patch: Mapping[str, Any] | Sequence[Any], *, subresource: str = "", json_patch: bool = False
    ) -> dict[str, Any] | None:
        """Change an object; return it as it is then, or None where there is none.

        Parameters
        ----------
        kind, name : str
        patch : mapping or sequence
            A merge patch; with a ``metadata.resourceVersion`` only of that version. A list of
            operations where `json_patch`, whose ``test`` may say what must be there before.
        subresource : str
            ``status``, ``resize``.
        json_patch : bool

        Raises
        ------
        Conflict
            If it is not what the patch wants before it.
        LaunchRefused
            If the cluster will not have it so.
        """
        of = self._of(kind)
        content = "json-patch+json" if json_patch else "merge-patch+json"
        path = of.path(self.namespace, name, subresource)
        answer = self._server.ask("PATCH", path, body=patch, timeout_s=self._slow_s, content=content)
        if answer.status == MISSING and answer.reason == "NotFound":
            return None
        if json_patch and answer.status == INVALID and answer.words == _UNTRUE:
            raise Conflict(f"place {self.name}: {kind} {name!r} in namespace {self.namespace!r} is not what the patch wants before it")
        return self._good(answer, "patch", of, name)

    def delete(self, kind: str, name: str, *, grace_s: float | None = None, uid: str | None = None) -> bool:
        """Delete an object and, after it, what it owns; return whether it was there.

        Parameters
        ----------
        kind, name : str
        grace_s : float, optional
            Seconds that a pod has before it is killed, rounded up; its own by default.
        uid : str, optional
            Of the one that is meant: another of its name stays.
        """
        of = self._of(kind)
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if grace_s is not None:
            options["gracePeriodSeconds"] = -int(-grace_s // 1)
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        answer = self._server.ask("DELETE", of.path(self.namespace, name), body=options, timeout_s=self._slow_s)
        if answer.status == MISSING or (answer.status == CONFLICT and uid is not None):
            return False
        self._good(answer, "delete", of, name)
        return True

    def watch(
        self, kind: str, *, labels: str = "", fields: str = "", resource_version: str, timeout_s: float = 30.0,
        stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[Event]:  # fmt: skip
        """Yield what changes from a resource version on, until the server ends it, `timeout_s` from now.

        Parameters
        ----------
        kind, labels, fields : str
            As `list` takes them.
        resource_version : str
            What a list returned, or the last event's object has.
        timeout_s : float
        stop : callable
            Asked each second whether to end.

        Raises
        ------
        Gone
            If the server has forgotten what came after that version.
        PlaceUnavailable
            If the connection breaks, or says nothing for longer than it should.
        """
        of = self._of(kind)
        query = [
            *_given(labelSelector=labels, fieldSelector=fields, resourceVersion=resource_version),
            ("watch", "true"), ("allowWatchBookmarks", "true"), ("timeoutSeconds", str(int(timeout_s))),
        ]  # fmt: skip
        response = self._server.open("GET", of.path(self.namespace), query, timeout_s=self._quick_s)
        if isinstance(response, Answer):
            raise refusal(response, place=self.name, verb="watch", kind=of, namespace=self.namespace)
        wire = Wire(response)
        try:
            for line in self._lines(wire, self._clock() + timeout_s + self._quick_s, stop):
                yield self._event(line, of)
        finally:
            wire.close()

    # --- containers ---

    def log(
        self, pod: str, container: str, *, since: str = "", tail_lines: int | None = None, limit_bytes: int | None = None,
        timestamps: bool = False,
    ) -> bytes:  # fmt: skip
        """Return what a container has written, nothing where it has not started.

        Parameters
        ----------
        pod, container : str
        since : str
            Time in RFC 3339, of which servers look at whole seconds.
        tail_lines, limit_bytes : int, optional
            The last so many lines, the first so many bytes of what is chosen.
        timestamps : bool
            Whether each line begins with its time and a space.

        Raises
        ------
        NotFound
            If the pod is gone, or has no such container.
        """
        response = self._log(pod, container, since=since, tail_lines=tail_lines, limit_bytes=limit_bytes, timestamps=timestamps)
        if response is None:
            return b""
        try:
            return bytes(response.read())
        except Exception as fault:
            raise self._server.unavailable(fault) from fault
        finally:
            response.release_conn()

    def output(self, pod: str, container: str, *, since: str = "", follow: bool) -> Wire | None:
        """Open what a container has written, each line with its time; None where it has not started.

        Where it is to `follow` what is written on, the server ends it when the container has ended, and sometimes before.

        Raises
        ------
        NotFound
            If the pod is gone, or has no such container.
        """
        response = self._log(pod, container, since=since, timestamps=True, follow=follow)
        return None if response is None else Wire(response)

    def exec(
        self, pod: str, container: str, argv: Sequence[str], stdin: Iterable[bytes] = (), *,
        patience_s: float = 60.0, timeout_s: float | None = None,
    ) -> Channel:  # fmt: skip
        """Run a command in a running container; return its streams, to be used in a `with` statement.

        Parameters
        ----------
        pod, container : str
        argv : sequence of str
        stdin : iterable of bytes
            Taken piece by piece while the command reads. It should know by itself where its
            input ends: only servers since 1.30 can tell it.
        patience_s : float
            Seconds without a sign of life from the server.
        timeout_s : float, optional
            Seconds that the command may take.

        Raises
        ------
        NotFound
            If the pod is gone, or its container does not run; maybe not before its output is read.
        """
        of = kind_of("pods")
        headers, _ = asked = greeting()
        query = [("container", container), *(("command", part) for part in argv), ("stdin", "true"), ("stdout", "true"), ("stderr", "true")]
        response = self._server.open("GET", of.path(self.namespace, pod, "exec"), query, headers=headers, timeout_s=self._slow_s)
        where = f"place {self.name}: {' '.join(argv[:2])!r} in container {container!r} of pod {pod!r}"
        if isinstance(response, Answer):
            raise self._not_run(response, of, pod)
        protocol = self._agreed(response, asked[1])
        return Channel(
            Wire(response), stdin, closes=protocol == PROTOCOLS[0], where=where, patience_s=patience_s, timeout_s=timeout_s,
            clock=self._clock,
        )  # fmt: skip

    def run(
        self, pod: str, container: str, argv: Sequence[str], stdin: Iterable[bytes] = (), *,
        limit: int = 1 << 24, timeout_s: float = 30.0,
    ) -> Completed:  # fmt: skip
        """Run a command in a running container; return what it did, of its output at most `limit` bytes.

        Raises
        ------
        NotFound
            If the pod is gone, or its container does not run.
        PlaceUnavailable
            If the connection breaks, or it takes longer than `timeout_s`.
        """
        out = bytearray()
        with self.exec(pod, container, argv, stdin, patience_s=timeout_s, timeout_s=timeout_s) as channel:
            for data in channel:
                out += data[: limit - len(out)]
            return Completed(bytes(out), channel.err, channel.code)

    # --- the cluster itself ---

    def allowed(self, verb: str, kind: str, subresource: str = "") -> bool:
        """Whether we may do something to a kind of object in this namespace."""
        of = self._of(kind)
        what = {"verb": verb, "resource": of.plural, "group": of.group, "subresource": subresource}
        where = {"namespace": self.namespace} if of.namespaced else {}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": what | where}}
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = self._server.ask("POST", path, body=review, timeout_s=self._quick_s)
        return bool(self._good(answer, "get", of, "")["status"]["allowed"])

    def version(self) -> tuple[int, int]:
        """Return the version of the server: major and minor."""
        document = self._good(self._server.ask("GET", "/version", timeout_s=self._quick_s), "get", kind_of("nodes"), "")
        minor = "".join(letter for letter in document["minor"] if letter.isdigit())
        return int(document["major"]), int(minor)

    def serves(self, kind: str, subresource: str = "") -> bool:
        """Whether the cluster has a kind of object, or what can be done to it: ``serves("pods", "resize")``."""
        of = self._of(kind)
        answer = self._server.ask("GET", of.root, timeout_s=self._quick_s)
        if answer.status == MISSING:
            return False
        wanted = f"{of.plural}/{subresource}" if subresource else of.plural
        return any(found["name"] == wanted for found in self._good(answer, "get", of, "")["resources"])

    # --- inside ---

    def _of(self, kind: str) -> Kind:
        """Return a kind in the version that the cluster serves of it."""
        of = kind_of(kind)
        if not of.older:
            return of
        served = self._server.versions.get(of.group)
        if served is None:
            answer = self._server.ask("GET", f"/apis/{of.group}", timeout_s=self._quick_s)
            if answer.status == MISSING:
                return of  # it may be there later
            served = frozenset(found["version"] for found in self._good(answer, "get", of, "")["versions"])
            self._server.versions[of.group] = served
        return of if of.version in served else replace(of, version=of.older)

    def _good(self, answer: Answer, verb: str, kind: Kind, name: str) -> dict[str, Any]:
        """Return the document of a good answer, or raise what another one means."""
        if not answer.good:
            raise refusal(answer, place=self.name, verb=verb, kind=kind, namespace=self.namespace, name=name)
        if not isinstance(answer.document, dict):
            fault = ValueError(f"its answer is not an API server's: {answer.words[:100]!r}")
            raise self._server.unavailable(fault) from fault
        return answer.document

    def _pages(self, path: str, wanted: Query, kind: Kind) -> Iterator[dict[str, Any]]:
        more = ""
        while True:
            query = [*wanted, ("limit", str(self._page)), *_given(**{"continue": more})]
            page = self._good(self._server.ask("GET", path, query, timeout_s=self._slow_s), "list", kind, "")
            yield page
            more = str(page["metadata"].get("continue") or "")
            if not more:
                return

    def _lines(self, wire: Wire, until: float, stop: Callable[[], bool]) -> Iterator[bytes]:
        """Yield the lines of an answer until it ends."""
        begun = b""
        while not stop():
            try:
                received = wire.receive(_SLICE)
            except (OSError, ValueError) as fault:
                raise self._server.unavailable(fault) from fault
            if received is None:
                if self._clock() >= until:
                    raise self._server.unavailable(TimeoutError("it did not end its watch"))
                wire.wait(_TICK_S)
                continue
            if not received:
                return
            *lines, begun = (begun + received).split(b"\n")
            yield from (line for line in lines if line.strip())

    def _event(self, line: bytes, kind: Kind) -> Event:
        try:
            document = json.loads(line)
            event = Event(document["type"], document["object"])
        except (KeyError, TypeError, ValueError) as fault:
            raise self._server.unavailable(fault) from fault
        if event.type == "ERROR":
            answer = Answer(int(event.object.get("code", GONE)), event.object)
            raise refusal(answer, place=self.name, verb="watch", kind=kind, namespace=self.namespace)
        return event

    def _log(self, pod: str, container: str, **wanted: Any) -> Any:
        """Open a log; None where the container has not started."""
        of = kind_of("pods")
        names = {"since": "sinceTime", "tail_lines": "tailLines", "limit_bytes": "limitBytes"}
        given = {names.get(name, name): value for name, value in wanted.items() if value not in (None, "", False)}
        query = [("container", container), *((name, str(value).lower() if value is True else str(value)) for name, value in given.items())]
        response = self._server.open("GET", of.path(self.namespace, pod, "log"), query, timeout_s=self._slow_s)
        if not isinstance(response, Answer):
            return response
        if response.status == _WAITING and "waiting to start" in response.words:
            return None
        if response.status in (_WAITING, MISSING):
            raise NotFound(f"place {self.name}: no log of container {container!r} in pod {pod!r}: {response.words}")
        raise refusal(response, place=self.name, verb="get", kind=of, namespace=self.namespace, name=pod)

    def _not_run(self, answer: Answer, kind: Kind, pod: str) -> Exception:
        """Return the error of a command that did not even start."""
        if answer.status == _WAITING or "container not found" in answer.words:
            return NotFound(f"place {self.name}: nothing runs in pod {pod!r}: {answer.words}")
        return refusal(answer, place=self.name, verb="exec", kind=kind, namespace=self.namespace, name=pod)

    def _agreed(self, response: Any, expected: str) -> str:
        """Return the protocol that the server chose for a websocket."""
        if response.headers.get("Sec-WebSocket-Accept") != expected:
            response.close()
            fault = ValueError(f"it does not speak websockets: HTTP status {response.status}; does a proxy stand before it?")
            raise self._server.unavailable(fault) from fault
        return str(response.headers.get("Sec-WebSocket-Protocol", ""))


def _given(**query: str) -> list[tuple[str, str]]:
    return [(name, value) for name, value in query.items() if value]
