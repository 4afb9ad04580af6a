"""Places: where jobs run, and what may be asked of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import policies
from airflow_dla.specs.clusters import EMPTY_DIR, extended, label_key, label_value, namespace, object_name, scratch, slices, toleration
from airflow_dla.specs.policies import PlacePolicy
from airflow_dla.specs.references import public_url
from airflow_dla.specs.spec import Spec, spec_field
from airflow_dla.specs.values import (
    boolean,
    choice,
    identifier,
    integer,
    json_value,
    mapping_of,
    optional,
    seconds,
    sequence_of,
    text,
    written,
)

#: Schemes of engines' addresses.
SCHEMES: Final = ("unix", "tcp", "http", "https", "ssh")
#: Label of nodes that run jobs in images, and of nodes that run jobs which name none.
RUNS_IMAGES: Final = "images"
RUNS_WITHOUT_IMAGE: Final = "imageless"
#: Label of the nodes of a place that has several, with the place's name.
IN_PLACE: Final = "place"
#: Label of nodes that only processes of one host can follow, and of nodes that those of every host can.
OF_HOST: Final = "host"
OF_ANY_HOST: Final = "any-host"

#: Who runs jobs where a place names nobody: no user of any host.
NOBODY: Final = "65532:65532"

_TLS: Final = ("ca", "cert", "key")
#: Fields that mean something to one kind of place only; the others to all that run jobs in images.
_OF_DOCKER: Final = ("url", "tls", "folder", "runtime")
_OF_KUBERNETES: Final = (
    "kubeconfig", "context", "in_cluster", "namespace", "scratch", "store", "allocator", "queue", "workload_priorities", "gpu_resource",
    "resources", "node_selector", "tolerations", "service_account", "image_pull_secrets", "priority_class", "runtime_class",
)  # fmt: skip
#: What somebody who wrote a field of the other kind may have meant.
_MEANT: Final[Mapping[str, str]] = {
    "url": "the API server comes from connection, kubeconfig or in_cluster",
    "tls": "certificates stand in the connection or the kubeconfig",
    "folder": "files of jobs lie where scratch says",
    "runtime": "say runtime_class",
    "runtime_class": "say runtime",
    "networks": "a NetworkPolicy of the cluster says whom pods reach",
    "pids": "the kubelets' podPidsLimit says it",
    "namespace": "an engine has none",
}

_image = written(r"\S+", "an image such as 'registry.example.org/team/train:1.2', without spaces")
_user = written(r"\d{1,10}:\d{1,10}", "'uid:gid' in digits such as '1000:1000': an image need not know our names")
_folder = written(r"/.*", "the absolute path of a folder")
_file = written(r"/.*", "the absolute path of a file")


def user_ids(user: str) -> tuple[int, int]:
    """Return the numbers of ``uid:gid``."""
    uid, _, gid = user.partition(":")
    return int(uid), int(gid)


def _engine(raw: object, where: str) -> str:
    """Parse an engine's address: a socket's absolute path, or a host."""
    found = public_url(raw, where)
    parts = urlsplit(found)
    named = parts.path.startswith("/") and not parts.netloc if parts.scheme == "unix" else bool(parts.netloc)
    if parts.scheme not in SCHEMES or not named:
        raise InvalidSpec(
            f"{where} must be an engine's address such as unix:///var/run/docker.sock or tcp://gpu1:2376 (known are "
            f"{', '.join(SCHEMES)}), got {found!r:.80}"
        )
    return found


def _place_name(raw: object, where: str) -> str:
    found = identifier(raw, where)
    if found == "any":
        raise InvalidSpec(f"{where} must not be 'any', with which a job says that every place will do; name it otherwise")
    return found


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PlaceSpec(Spec):
    """One place of a workspace, as its connection names it.

    A local place has nothing but its name: what its hosts grant, their folders and labels are
    the connection's own fields.

    Parameters
    ----------
    name : str
        What jobs call it; also the name of a Docker place's node. Not ``any``.
    kind : {"local", "docker", "kubernetes"}
    connection : str or None
        Airflow connection of the engine's registry (type ``docker``), or of the cluster (type ``kubernetes``).
    url : str
        Docker: of the engine, without a password: ``unix:///run/docker.sock``, ``tcp://gpu1:2376``, ``ssh://dla@gpu1``.
    tls : mapping of str
        Docker: paths ``{"ca": …, "cert": …, "key": …}`` on the hosts of workers and triggerer; all three or none.
    folder : str or None
        Docker: folder of this host that the engine can mount, for the jobs' files; the workspace's ``jobs_folder`` by default.
    helper : str or None
        Image of the containers of ours that fetch and publish. For an engine that is not on this host: with Python 3.11 or later,
        fsspec and what speaks to the store. For a cluster: with Python 3.8 or later; the job's own image by default.
    image : str or None
        Image of jobs that name none.
    user : str or None
        ``uid:gid`` of jobs. On an engine that of the worker unless it is root; else 65532:65532.
    runtime : str or None
        Docker: the engine's runtime, for example ``nvidia``.
    kubeconfig, context : str or None
        Kubernetes: a file on the hosts of workers and triggerer, and what is used of it, where there is no connection.
    in_cluster : bool
        Kubernetes: whether the service account of the worker's own pod is used.
    namespace : str or None
        Kubernetes: where jobs run; by default that of the connection, the context or the worker's own pod, else ``default``.
    scratch : str or mapping
        Kubernetes: where files of jobs lie: ``emptydir``, ``{"storage_class": …, "size": …}`` for a volume made for each job, or
        ``pvc:NAME`` for a folder on a claim that all nodes can mount.
    store : {"direct", "relay"} or None
        Kubernetes: whether pods speak to the artifact store by signed URLs, or the worker relays; None finds out what can be done.
    allocator : {"dla", "kueue"}
        Kubernetes: who decides which job starts when and where.
    queue : str or None
        Kubernetes: Kueue's LocalQueue.
    workload_priorities : mapping of str to int
        Kubernetes: Kueue's WorkloadPriorityClasses, each with the least priority of the jobs that get it.
    gpu_resource : str
        Kubernetes: what the cluster calls its whole GPUs.
    resources : mapping of str
        Kubernetes: what it calls slices of them where that is not ``nvidia.com/mig-PROFILE``.
    node_selector : mapping of str
        Kubernetes: labels of the cluster's nodes that belong to this place; all by default.
    tolerations : tuple of mapping
        Kubernetes: taints of nodes that jobs of this place may run on, in Kubernetes' own words.
    service_account, priority_class, runtime_class : str or None
        Kubernetes: of the pods. No token is ever mounted into one.
    image_pull_secrets : tuple of str
        Kubernetes: names of Secrets for private registries.
    keep_s : float
        Seconds that ended containers are kept for those who want to look into them.
    capacity : mapping
        Overrides what is found there, as the connection's ``capacity`` does for this host. Kubernetes: all that may be granted
        there; its nodes are then not looked at, and the cluster decides where a pod goes.
    labels : mapping of str
        Labels of its node, or of each of its nodes.
    policy : `PlacePolicy`

    Examples
    --------
    >>> place = PlaceSpec.from_mapping({"name": "gpu1", "kind": "docker", "user": "1000:1000", "keep": "1h"})
    >>> place.keep_s, place.url, place.on_this_host
    (3600.0, 'unix:///var/run/docker.sock', True)
    >>> PlaceSpec.from_mapping({"name": "gpu1", "kind": "docker", "url": "gpu1:2376"})
    Traceback (most recent call last):
    airflow_dla.errors.InvalidSpec: place.url must be an engine's address such as unix:///var/run/docker.sock ...
    >>> cluster = PlaceSpec.from_mapping({"name": "k8s", "kind": "kubernetes", "connection": "k8s", "namespace": "ml"})
    >>> cluster.allocator, cluster.scratch, cluster.gpu_resource, cluster.on_this_host
    ('dla', 'emptydir', 'nvidia.com/gpu', False)
    >>> PlaceSpec.from_mapping({"name": "gpu1", "kind": "docker", "namespace": "ml"})
    Traceback (most recent call last):
    airflow_dla.errors.InvalidSpec: place 'gpu1' is of kind docker and takes no namespace, which ...
    """

    called: ClassVar[str] = "place"
    short: ClassVar[Mapping[str, str]] = {"keep": "keep_s"}

    name: str = spec_field(_place_name)
    kind: str = spec_field(choice("local", "docker", "kubernetes"))
    connection: str | None = spec_field(optional(text), default=None)
    url: str = spec_field(_engine, default="unix:///var/run/docker.sock")
    tls: Mapping[str, str] = spec_field(mapping_of(_folder, key=choice(*_TLS)), factory=dict)
    folder: str | None = spec_field(optional(_folder), default=None)
    helper: str | None = spec_field(optional(_image), default=None)
    image: str | None = spec_field(optional(_image), default=None)
    user: str | None = spec_field(optional(_user), default=None)
    runtime: str | None = spec_field(optional(identifier), default=None)
    kubeconfig: str | None = spec_field(optional(_file), default=None)
    context: str | None = spec_field(optional(text), default=None)
    in_cluster: bool = spec_field(boolean, default=False)
    namespace: str | None = spec_field(optional(namespace), default=None)
    scratch: str | Mapping[str, str] = spec_field(scratch, default=EMPTY_DIR)
    store: str | None = spec_field(optional(choice("direct", "relay")), default=None)
    allocator: str = spec_field(choice("dla", "kueue"), default="dla")
    queue: str | None = spec_field(optional(object_name), default=None)
    workload_priorities: Mapping[str, int] = spec_field(mapping_of(integer, key=object_name), factory=dict)
    gpu_resource: str = spec_field(extended, default="nvidia.com/gpu")
    resources: Mapping[str, str] = spec_field(mapping_of(extended, key=slices), factory=dict)
    node_selector: Mapping[str, str] = spec_field(mapping_of(label_value, key=label_key), factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = spec_field(sequence_of(toleration), default=())
    service_account: str | None = spec_field(optional(object_name), default=None)
    image_pull_secrets: tuple[str, ...] = spec_field(sequence_of(object_name), default=())
    priority_class: str | None = spec_field(optional(object_name), default=None)
    runtime_class: str | None = spec_field(optional(object_name), default=None)
    keep_s: float = spec_field(seconds, default=3600.0)
    capacity: Mapping[str, Any] = spec_field(mapping_of(json_value), factory=dict)
    labels: Mapping[str, str] = spec_field(mapping_of(text), factory=dict)
    policy: PlacePolicy = spec_field(PlacePolicy.from_mapping, factory=PlacePolicy)

    def __post_init__(self) -> None:
        if self.kind == "local":
            self._refuse_engine()
        elif self.kind == "docker":
            self._refuse_others(_OF_KUBERNETES, policies.OF_KUBERNETES, "kubernetes")
            self._check_tls()
        else:
            self._refuse_others(_OF_DOCKER, policies.OF_DOCKER, "docker")
            self._check_cluster()

    def _refuse_engine(self) -> None:
        more = [name for name in self.to_mapping() if name not in {"name", "kind"}]
        if more:
            raise InvalidSpec(
                f"place {self.name!r} is local and takes no {', '.join(more)}: say kind: docker or kubernetes, or use the connection's own "
                "fields (capacity, jobs_folder)"
            )

    def _refuse_others(self, fields: tuple[str, ...], rules: tuple[str, ...], kind: str) -> None:
        """Refuse what only the other kind of place understands."""
        given, policy = self.to_mapping(), self.policy.to_mapping()
        more = {name: name for name in fields if name in given} | {f"policy.{name}": name for name in rules if name in policy}
        if more:
            meant = [_MEANT[name] for name in more.values() if name in _MEANT]
            raise InvalidSpec(
                f"place {self.name!r} is of kind {self.kind} and takes no {', '.join(more)}, which kind: {kind} does; "
                f"{'; '.join(meant) or 'drop it'}"
            )

    def _check_tls(self) -> None:
        if self.tls and sorted(self.tls) != sorted(_TLS):
            raise InvalidSpec(f"place {self.name!r}: tls names {', '.join(self.tls)}; give all of {', '.join(_TLS)}, or none")
        if self.tls and not self.url.startswith(("tcp:", "https:")):
            raise InvalidSpec(f"place {self.name!r}: tls goes with tcp:// or https://, not with {self.url!r}; drop it")

    def _check_cluster(self) -> None:
        named = [name for name in ("connection", "kubeconfig", "in_cluster") if getattr(self, name)]
        if len(named) != 1:
            raise InvalidSpec(
                f"place {self.name!r} names {' and '.join(named) or 'no cluster'}; say one of connection (of type kubernetes), kubeconfig "
                "(a file on Airflow's hosts, with context if it has several) and in_cluster: true"
            )
        if self.context is not None and self.in_cluster:
            raise InvalidSpec(f"place {self.name!r}: context {self.context!r} is one of a kubeconfig, and in_cluster needs none; drop it")
        if (self.allocator == "kueue") != (self.queue is not None):
            raise InvalidSpec(
                f"place {self.name!r}: allocator {self.allocator} and queue {self.queue!r}; Kueue needs the name of a LocalQueue of the "
                "namespace, and without Kueue there is none: give both (allocator: kueue, queue: NAME), or neither"
            )
        if self.workload_priorities and self.allocator != "kueue":
            raise InvalidSpec(
                f"place {self.name!r}: workload_priorities are Kueue's, and here our own rounds go by a job's priority; drop them, or say "
                "allocator: kueue with a queue"
            )

    @property
    def on_this_host(self) -> bool:
        """Whether it is reached only from the host it is on: processes, or an engine behind a socket in the file system."""
        return self.kind == "local" or (self.kind == "docker" and self.url.startswith("unix:"))
