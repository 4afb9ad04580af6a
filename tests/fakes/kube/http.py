"""The API over HTTP: addresses, watches, logs, commands, and what a server looks like that is in trouble."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from fakes.kube import metrics
from fakes.kube.discovery import discovered
from fakes.kube.output import Output
from fakes.kube.resources import RESOURCES, Refused, Resource, forbidden
from fakes.kube.selectors import Match, matcher
from fakes.kube.store import Change, Document
from fakes.kube.websocket import Socket, accepted

if TYPE_CHECKING:
    from fakes.kubernetes_api import FakeCluster

_PATH = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+)/(?P<version>[^/]+))"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/))?/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+)(?:/(?P<subresource>[a-z]+))?)?$"
)
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class Target:
    """What an address names.

    Parameters
    ----------
    resource : `Resource`
    namespace, name, subresource : str
    """

    resource: Resource
    namespace: str
    name: str
    subresource: str

    def chosen(self, change: Change, match: Match) -> tuple[str, Document] | None:
        """Return what a watch of it tells of a change."""
        plural, namespace, _ = change.key
        return change.told(match) if plural == self.resource.plural and self.namespace in ("", namespace) else None


class ApiServer(ThreadingHTTPServer):
    """Listens on the loopback for one fake cluster; a thread for each connection."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, cluster: FakeCluster, port: int = 0) -> None:
        self.cluster = cluster
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Remember the connection, to be able to cut it."""
        request, address = super().get_request()
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections.add(request)
        return request, address

    def shutdown_request(self, request: Any) -> None:
        """Forget it."""
        self.connections.discard(request)
        super().shutdown_request(request)

    def cut(self) -> None:
        """Cut every connection, as a server that ends does."""
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hung up."""
        if not isinstance(sys.exception(), OSError):
            logging.getLogger(__name__).error("the fake cluster failed:\n%s", traceback.format_exc())


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: ApiServer
    wbufsize = 1 << 16
    user: str | None = None

    def __getattr__(self, name: str) -> Any:
        """Answer every method by one function."""
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Say nothing."""

    def _answer(self) -> None:
        cluster = self.server.cluster
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size) if size else b""
        cluster.wait_while_frozen()
        if cluster.closed:
            self.close_connection = True
            return
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._route(body)
        except Refused as refused:
            self._send(refused.code, refused.document, refused.headers)

    def _route(self, body: bytes) -> None:
        cluster = self.server.cluster
        address = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(address.query, keep_blank_values=True).items()}
        cluster.count(self.command, address.path, query)
        token = cluster.rules.admit(self.headers.get("Authorization"))
        self.user = cluster.access.user(token) if token not in cluster.rules.tokens else None
        if (found := discovered(address.path, cluster.minor, frozenset(cluster.groups))) is not None:
            self._send(200, found)
            return
        document = _parsed(body)
        if address.path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews":
            self._send(201, self._review(document))
            return
        match = _PATH.match(address.path)
        resource = None if match is None else metrics.PODS if match["group"] == metrics.GROUP else RESOURCES.get(match["plural"])
        if match is None or resource is None or not self._served(match, resource):
            self._send_text(404, "404 page not found\n")
            return
        target = Target(resource, unquote(match["namespace"] or ""), unquote(match["name"] or ""), match["subresource"] or "")
        self._serve(target, query, document)

    def _served(self, match: re.Match[str], resource: Resource) -> bool:
        named = resource.api_version == (match["core"] or f"{match['group']}/{match['version']}")
        return named and (not resource.group or resource.group in self.server.cluster.groups)

    def _serve(self, target: Target, query: dict[str, str], body: Any) -> None:
        resource, namespace, name = target.resource, target.namespace, target.name
        cluster = self.server.cluster
        watches = query.get("watch") in ("true", "1")
        verb = _VERBS.get(self.command) or ("get" if name else "watch" if watches else "list")
        self._authorize("deletecollection" if verb == "delete" and not name else verb, target)
        if target.subresource and target.subresource not in resource.subresources:
            self._send_text(404, "404 page not found\n")
        elif target.subresource in ("log", "exec", "eviction", "token"):
            getattr(self, f"_{target.subresource}")(target, query, body)
        elif resource is metrics.PODS:
            self._send(200, metrics.measured(cluster, namespace, name, query))
        elif self.command != "GET":
            self._write(target, query, body)
        elif name:
            self._send(200, cluster.api.get(resource, namespace, name))
        elif watches:
            self._watch(target, query)
        else:
            self._send(200, cluster.api.list(resource, namespace, query))

    def _authorize(self, verb: str, target: Target) -> None:
        """Raise where a permission is missing."""
        resource, subresource = target.resource, target.subresource
        if self._may(verb, resource, target.namespace, subresource):
            return
        what = f"{resource.plural}/{subresource}" if subresource else resource.plural
        where = f' in the namespace "{target.namespace}"' if resource.namespaced and target.namespace else " at the cluster scope"
        who = self.user or self.server.cluster.rules.user
        raise forbidden(resource, target.name, f'User "{who}" cannot {verb} resource "{what}" in API group "{resource.group}"{where}')

    def _may(self, verb: str, resource: Resource, namespace: str, subresource: str) -> bool:
        cluster = self.server.cluster
        allowed = self.user is None or cluster.access.may(self.user, verb, resource, namespace, subresource)
        return allowed and cluster.rules.may(verb, resource.plural, subresource)

    def _token(self, target: Target, query: dict[str, str], body: Any) -> None:
        self._send(201, self.server.cluster.access.token(target.namespace, target.name))

    def _write(self, target: Target, query: dict[str, str], body: Any) -> None:
        resource, namespace, name = target.resource, target.namespace, target.name
        api = self.server.cluster.api
        if self.command == "POST":
            self._send(201, api.create(resource, namespace, body, dry_run=query.get("dryRun") == "All"))
        elif self.command == "PUT":
            self._send(200, api.replace(resource, namespace, name, body, target.subresource))
        elif self.command == "PATCH":
            content = self.headers.get("Content-Type", "")
            self._send(200, api.patch(resource, namespace, name, body, content=content, subresource=target.subresource))
        else:
            grace = {"gracePeriodSeconds": int(query["gracePeriodSeconds"])} if "gracePeriodSeconds" in query else {}
            self._delete(target, query, {**grace, **(body or {})})

    def _delete(self, target: Target, query: dict[str, str], options: dict[str, Any]) -> None:
        api = self.server.cluster.api
        if target.name:
            self._send(200, api.delete(target.resource, target.namespace, target.name, options))
            return
        for one in api.list(target.resource, target.namespace, query)["items"]:
            with contextlib.suppress(Refused):
                api.delete(target.resource, one["metadata"].get("namespace", ""), one["metadata"]["name"], options)
        self._send(200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})

    def _review(self, document: Document) -> Document:
        wanted = document["spec"]["resourceAttributes"]
        resource = RESOURCES.get(wanted["resource"]) or Resource(wanted["resource"], "", wanted.get("group", ""))
        allowed = self._may(wanted["verb"], resource, wanted.get("namespace", ""), wanted.get("subresource", ""))
        return {**document, "metadata": {}, "status": {"allowed": allowed}}

    # --- streams ---

    def _watch(self, target: Target, query: dict[str, str]) -> None:
        match = matcher(query.get("labelSelector", ""), query.get("fieldSelector", ""))
        until = time.monotonic() + float(query.get("timeoutSeconds") or 1800)
        with self.server.cluster.watching(target.resource.plural) as alive:
            self._begin("application/json")
            try:
                for kind, document in self._events(target, match, query.get("resourceVersion") or "0", until, alive):
                    self._event(kind, document)
            except Refused as refused:
                self._event("ERROR", refused.document)
            self._end()

    def _events(
        self, target: Target, match: Match, version: str, until: float, alive: Callable[[], bool]
    ) -> Iterator[tuple[str, Document]]:  # fmt: skip
        cluster, resource = self.server.cluster, target.resource
        store = cluster.store
        with store.lock:
            first = store.all(resource.plural, target.namespace, match) if version == "0" else []
            at = store.start(None if version == "0" else int(version))
        for document in first:
            yield "ADDED", document
        marked = time.monotonic()
        while time.monotonic() < until and alive():
            with store.lock:
                changes, at = store.read(at, 0.1)
                seen = store.version
            told = [one for change in changes if (one := target.chosen(change, match)) is not None]
            yield from told
            if time.monotonic() - marked >= cluster.bookmark_s:
                marked = time.monotonic()
                yield "BOOKMARK", {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": {"resourceVersion": str(seen)}}

    def _log(self, target: Target, query: dict[str, str], body: Any) -> None:
        cluster = self.server.cluster
        pod, name = cluster.api.get(target.resource, target.namespace, target.name), target.name
        containers = [one["name"] for one in [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or [])]]
        container = query.get("container") or containers[0]
        if container not in containers:
            raise Refused(400, "BadRequest", f"container {container} is not valid for pod {name}")
        output = cluster.kubelet.output(pod, container)
        if output is None:
            why = "PodInitializing" if pod["spec"].get("initContainers") else "ContainerCreating"
            raise Refused(400, "BadRequest", f'container "{container}" in pod "{name}" is waiting to start: {why}')
        wanted: dict[str, Any] = {"since": query.get("sinceTime", ""), "timestamps": query.get("timestamps") == "true"}
        if query.get("follow") != "true":
            self._shown(output, query, wanted)
            return
        with cluster.following() as alive:
            self._begin("text/plain")
            if alive is None:
                self._chunk(output.read(**wanted) + b"failed to create fsnotify watcher: too many open files")
                self._end()
                return
            for data in output.follow(**wanted):
                if data:
                    self._chunk(data)
                if not alive():
                    self.close_connection = True
                    return
            self._end()

    def _shown(self, output: Output, query: dict[str, str], wanted: dict[str, Any]) -> None:
        """Send what a log has now; as with a real server, much of it in chunks and little with its length."""
        tail, limit = query.get("tailLines"), query.get("limitBytes")
        if tail or limit:
            data = output.read(tail=int(tail) if tail else None, limit=int(limit) if limit else None, **wanted)
            self._send_bytes(200, data, "text/plain")
            return
        self._begin("text/plain")
        for part in output.pieces(**wanted):
            if part:
                self._chunk(part)
        self._end()

    def _exec(self, target: Target, query: dict[str, str], body: Any) -> None:
        cluster = self.server.cluster
        pod, name = cluster.api.get(target.resource, target.namespace, target.name), target.name
        containers = [one["name"] for one in [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or [])]]
        container = query.get("container") or containers[0]
        if container not in containers:
            raise Refused(400, "BadRequest", f"container {container} is not valid for pod {name}")
        if "*/*" not in self.headers.get("Accept", "*/*"):
            self._send_text(406, "406: Not Acceptable\n\nAvailable representations: ")
            return
        asked = [one.strip() for one in self.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        protocol = next((one for one in asked if one in cluster.protocols), None)
        if protocol is None or self.headers.get("Upgrade", "").lower() != "websocket":
            raise Refused(400, "BadRequest", "you must specify at least one of stdin, stdout, stderr over an upgraded connection")
        if not pod["spec"].get("nodeName"):
            raise Refused(400, "BadRequest", f"pod {name} does not have a host assigned")
        self.send_response_only(101, "Switching Protocols")
        for header, value in (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Protocol", protocol)):
            self.send_header(header, value)
        self.send_header("Sec-WebSocket-Accept", accepted(self.headers["Sec-WebSocket-Key"]))
        self.end_headers()
        self.wfile.flush()
        self.close_connection = True
        streams = Socket(self.rfile, self.wfile, protocol)
        argv = parse_qs(urlsplit(self.path).query)["command"]
        try:
            streams.end(cluster.kubelet.execute(pod, query.get("container") or pod["spec"]["containers"][0]["name"], argv, streams))
        except Refused as refused:
            streams.refuse(refused)

    def _eviction(self, target: Target, query: dict[str, str], body: Any) -> None:
        cluster = self.server.cluster
        cluster.api.get(target.resource, target.namespace, target.name)
        cluster.api.evict(target.namespace, target.name, body or {})
        self._send(201, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})

    # --- bytes ---

    def _send(self, code: int, document: Any, headers: dict[str, str] | None = None) -> None:
        self._send_bytes(code, json.dumps(document).encode(), "application/json", headers)

    def _send_text(self, code: int, text: str) -> None:
        self._send_bytes(code, text.encode("latin-1"), "text/plain; charset=utf-8")

    def _send_bytes(self, code: int, data: bytes, content: str, headers: dict[str, str] | None = None) -> None:
        self.send_response_only(code)
        for name, value in {"Content-Type": content, "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def _begin(self, content: str) -> None:
        self.send_response_only(200)
        self.send_header("Content-Type", content)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()

    def _event(self, kind: str, document: Document) -> None:
        self._chunk(json.dumps({"type": kind, "object": document}).encode() + b"\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _end(self) -> None:
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()


def _parsed(body: bytes) -> Any:
    if not body:
        return None
    try:
        return json.loads(body)
    except ValueError as error:
        raise Refused(
            400, "BadRequest", f"the object provided is unrecognized: couldn't get version/kind; json parse error: {error}"
        ) from None
