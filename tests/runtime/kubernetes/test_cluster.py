"""What is asked of a cluster, and what its answers mean."""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from fakes.kubernetes_api import FakeCluster, Play, Refused, ScriptedKubelet, Streams
from kubernetes_jobs import job_of, pod_of, until

from airflow_dla.errors import Conflict, InvalidSpec, LaunchRefused, NotFound, PlaceUnavailable
from airflow_dla.runtime.kubernetes.answers import Answer
from airflow_dla.runtime.kubernetes.cluster import Cluster, Completed, Exists, Gone
from airflow_dla.runtime.kubernetes.server import Server


def words(name: str = "") -> dict[str, Any]:
    """Return a document that every cluster takes."""
    return {"metadata": {"name": name or f"words-{uuid.uuid4().hex[:8]}", "labels": {"of": "a-test"}}, "data": {"said": "yes"}}


@pytest.fixture
def made(anywhere: Cluster):
    """Return the name of an object that is there."""
    name = anywhere.create("configmaps", words())["metadata"]["name"]
    yield name
    anywhere.delete("configmaps", name)


def test_what_was_made_is_there_until_it_is_deleted(anywhere: Cluster):
    """Once: a second one of its name is refused, and deleting it again finds nothing."""
    name = anywhere.create("configmaps", words())["metadata"]["name"]
    found = anywhere.get("configmaps", name)
    assert found is not None
    assert found["data"] == {"said": "yes"}
    with pytest.raises(Exists, match="already exists"):
        anywhere.create("configmaps", words(name))
    assert not anywhere.delete("configmaps", name, uid="another")
    assert anywhere.delete("configmaps", name, uid=found["metadata"]["uid"])
    assert anywhere.get("configmaps", name) is None
    assert not anywhere.delete("configmaps", name)


def test_a_patch_may_be_of_one_version_only(anywhere: Cluster, made: str):
    """Whoever comes second is told so."""
    first = anywhere.get("configmaps", made)
    assert first is not None
    changed = anywhere.patch("configmaps", made, {"data": {"said": None, "more": "x"}})
    assert changed is not None
    assert changed["data"] == {"more": "x"}
    with pytest.raises(Conflict, match="modified"):
        anywhere.patch("configmaps", made, {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "data": {"a": "b"}})
    assert anywhere.patch("configmaps", "nowhere", {"data": {}}) is None


def test_a_test_in_a_patch_decides_who_was_first(anywhere: Cluster, made: str):
    """A value that is another, or not there, refuses the whole patch."""
    step = {"op": "add", "path": "/data/more", "value": "x"}
    for path, value in (("/data/said", "no"), ("/metadata/annotations/absent", "x")):
        with pytest.raises(Conflict, match="wants before"):
            anywhere.patch("configmaps", made, [{"op": "test", "path": path, "value": value}, step], json_patch=True)
    changed = anywhere.patch("configmaps", made, [{"op": "test", "path": "/data/said", "value": "yes"}, step], json_patch=True)
    assert changed is not None
    assert changed["data"] == {"said": "yes", "more": "x"}
    assert anywhere.patch("configmaps", "nowhere", [step], json_patch=True) is None


def test_selectors_choose(anywhere: Cluster, made: str):
    """By label and by field; one that is none says so."""
    assert [one["metadata"]["name"] for one in anywhere.list("configmaps", labels="of=a-test", fields=f"metadata.name={made}")[0]] == [made]
    assert anywhere.list("configmaps", labels="of in (another, third)", fields=f"metadata.name={made}")[0] == []
    with pytest.raises(InvalidSpec, match="unable to parse"):
        anywhere.list("configmaps", labels="of=(")


def test_a_watch_tells_what_changes(anywhere: Cluster, made: str):
    """From the list on, in order, until its time is over."""
    _, version = anywhere.list("configmaps")
    anywhere.patch("configmaps", made, {"data": {"more": "1"}})
    anywhere.patch("configmaps", made, {"metadata": {"labels": {"of": "nobody"}}})
    told = list(anywhere.watch("configmaps", labels="of=a-test", resource_version=version, timeout_s=1))
    assert [event.type for event in told if event.object["metadata"].get("name") == made] == ["MODIFIED", "DELETED"]


def test_what_the_server_forgot_is_gone(anywhere: Cluster):
    """Whoever watches on from long ago lists again."""
    with pytest.raises(Gone, match="too old"):
        list(anywhere.watch("configmaps", resource_version="1", timeout_s=1))


@pytest.mark.parametrize(
    ("kind", "document", "match"),
    [
        ("configmaps", {"metadata": {"name": "Not_A_Name"}}, "Invalid value"),
        ("jobs", {"metadata": {"name": "empty"}, "spec": {}}, "Required value"),
        (
            "pods",
            {"metadata": {"name": "lost"}, "spec": {"serviceAccountName": "nobody", "containers": [{"name": "a", "image": "b"}]}},
            "nobody",
        ),
    ],
)
def test_what_breaks_a_rule_is_refused(anywhere: Cluster, kind: str, document: dict[str, Any], match: str):
    """With the server's words."""
    with pytest.raises(LaunchRefused, match=match):
        anywhere.create(kind, document)


def test_a_namespace_that_is_not_there(cluster: Cluster):
    """Nothing can be made in it, and nothing is there."""
    nowhere = cluster.at("nowhere")
    with pytest.raises(LaunchRefused, match='namespaces "nowhere" not found'):
        nowhere.create("configmaps", words())
    assert nowhere.list("configmaps")[0] == []


def test_a_kind_that_is_not_served(anywhere: Cluster):
    """Says what may be missing; one object of it is just not there."""
    assert anywhere.get("workloads", "x") is None
    assert not anywhere.serves("workloads")
    with pytest.raises(NotFound, match="is what brings it installed"):
        anywhere.list("workloads")
    with pytest.raises(NotFound, match="no kind 'nonsense'"):
        anywhere.list("nonsense")


def test_what_the_server_says_of_itself(anywhere: Cluster):
    """Its version, what can be done to a kind, and what we may."""
    major, minor = anywhere.version()
    assert major == 1
    assert anywhere.serves("pods", "resize") == (minor >= 33)
    assert anywhere.allowed("create", "jobs")


def test_a_trial_leaves_nothing(anywhere: Cluster):
    """The server says what it would make of it."""
    document = words()
    assert anywhere.create("configmaps", document, dry_run=True)["data"] == {"said": "yes"}
    assert anywhere.get("configmaps", document["metadata"]["name"]) is None


def test_a_list_comes_in_pages(cluster: Cluster, fake: FakeCluster):
    """Of any length, and whole also where the past is forgotten between two of them."""
    for number in range(7):
        cluster.create("configmaps", words(f"w{number}"))
    cluster = Cluster(fake.connect, name="k8s", namespace="ml", page=3)
    items, version = cluster.list("configmaps")
    assert [item["metadata"]["name"] for item in items] == [f"w{number}" for number in range(7)]
    assert version == str(fake.store.version)
    seen = fake.api.list
    calls = []

    def forgetful(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            fake.compact()
        return seen(*arguments)

    fake.api.list = forgetful  # type: ignore[method-assign]
    assert len(cluster.list("configmaps")[0]) == 7
    assert len(calls) == 5


def test_a_missing_permission_names_itself(cluster: Cluster, fake: FakeCluster):
    """It refuses a launch, and only delays whoever looks at what may run already."""
    fake.rules.deny("create", "jobs")
    fake.rules.deny("get", "pods")
    fake.rules.deny("get", "nodes")
    assert not cluster.allowed("create", "jobs")
    with pytest.raises(LaunchRefused, match="give its user the verb 'create' on 'jobs' of API group 'batch' in a Role of namespace 'ml'"):
        cluster.create("jobs", job_of("a"))
    with pytest.raises(PlaceUnavailable, match="the verb 'get' on 'pods' in a Role"):
        cluster.get("pods", "a")
    with pytest.raises(PlaceUnavailable, match="the verb 'get' on 'nodes' in a ClusterRole"):
        cluster.get("nodes", "a")


def test_a_webhook_and_a_quota_refuse(cluster: Cluster, fake: FakeCluster):
    """With their own words, and what would do."""
    fake.rules.webhooks.append(("images.example", "jobs", 400, lambda job: "images come from our registry"))
    with pytest.raises(LaunchRefused, match=r'admission webhook "images.example" denied the request: images come from our registry'):
        cluster.create("jobs", job_of("a"))
    cluster.create("resourcequotas", {"metadata": {"name": "few"}, "spec": {"hard": {"count/configmaps": "1"}}})
    cluster.create("configmaps", words())
    with pytest.raises(LaunchRefused, match=r"exceeded quota: few, requested: count/configmaps=1, used: .*have the quota raised"):
        cluster.create("configmaps", words())


def test_a_busy_server_is_asked_once_more(cluster: Cluster, fake: FakeCluster):
    """After the time that it names; then it is for the caller to come again."""
    fake.rules.throttle(retry_after_s=0)
    assert cluster.get("pods", "a") is None
    fake.rules.throttle(times=2, retry_after_s=0)
    with pytest.raises(PlaceUnavailable, match="Too many requests"):
        cluster.get("pods", "a")
    assert cluster.get("pods", "a") is None


def test_a_server_that_is_out_of_order(cluster: Cluster, fake: FakeCluster):
    """Is no refusal of the job."""
    fake.rules.answer_next(Refused(500, "InternalError", "etcdserver: request timed out"))
    with pytest.raises(PlaceUnavailable, match="request timed out"):
        cluster.create("configmaps", words())


def test_an_expired_token_is_loaded_again(fake: FakeCluster):
    """Once for each request; if the new one is no better, the caller comes again."""
    fake.rules.tokens = {"second"}
    tokens = iter(["first", "second", "second"])
    cluster = Cluster(lambda: fake.connect(next(tokens)), name="k8s", namespace="ml")
    assert cluster.get("pods", "a") is None
    assert cluster.get("pods", "a") is None
    fake.rules.tokens = {"third"}
    with pytest.raises(PlaceUnavailable, match="renew those of the place's connection"):
        cluster.get("pods", "a")
    assert next(tokens, None) is None


def test_a_server_that_is_gone_comes_back(cluster: Cluster, fake: FakeCluster):
    """Until then each call says so, and none waits long."""
    assert cluster.get("pods", "a") is None
    fake.stop()
    began = time.monotonic()
    for _ in range(3):
        with pytest.raises(PlaceUnavailable, match="is the API server running"):
            cluster.get("pods", "a")
    assert time.monotonic() - began < 2
    fake.start()
    assert cluster.get("pods", "a") is None


def test_one_waits_for_a_silent_server_and_the_others_know(fake: FakeCluster):
    """A thread pool does not fill with waiting."""
    cluster = Cluster(fake.connect, name="k8s", namespace="ml", quick_s=0.3)
    fake.freeze()
    began = time.monotonic()
    for _ in range(5):
        with pytest.raises(PlaceUnavailable, match="took too long"):
            cluster.get("pods", "a")
    assert time.monotonic() - began < 1.5
    fake.thaw()


def test_something_else_may_listen_there():
    """It is no API server, and that is said."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        from kubernetes import client

        configuration = client.Configuration(host=f"https://127.0.0.1:{listener.getsockname()[1]}")
        cluster = Cluster(lambda: client.ApiClient(configuration), name="k8s", quick_s=0.3)
        with pytest.raises(PlaceUnavailable, match="took too long"):
            cluster.get("pods", "a")


# --- containers ---


def upper(pod: str, container: str, argv: list[str], streams: Streams) -> int:
    """Write in capitals what is read, as far as a full stop."""
    for data in streams.read():
        streams.write(data.upper())
        if b"." in data:
            break
    streams.write(b"that was all", error=True)
    return len(argv)


@pytest.fixture
def running(cluster: Cluster, kubelet: ScriptedKubelet) -> str:
    """Return a pod whose container runs on."""
    kubelet.script = lambda pod, container: Play(code=None, log=b"first\nsecond\n")
    kubelet.on_execute = upper  # type: ignore[assignment]
    cluster.create("jobs", job_of("a"))
    return pod_of(cluster, "a", "Running")


@pytest.mark.parametrize("protocol", ["v5.channel.k8s.io", "v4.channel.k8s.io"])
def test_a_command_talks_both_ways(cluster: Cluster, fake: FakeCluster, running: str, protocol: str):
    """Megabytes of any bytes, whatever version of the protocol the server speaks."""
    fake.protocols = (protocol,)
    piece = bytes(range(97, 123)) * 40_000
    done = cluster.run(running, "main", ["one", "two"], [piece, piece, b"."])
    assert done == Completed(piece.upper() * 2 + b".", b"that was all", 2)


def test_only_a_recent_server_tells_the_end_of_input(cluster: Cluster, fake: FakeCluster, running: str):
    """To older ones the command must know it by itself, or time is up."""
    assert cluster.run(running, "main", ["one"], [b"abc"]).out == b"ABC"
    fake.protocols = ("v4.channel.k8s.io",)
    with pytest.raises(PlaceUnavailable, match=r"did not end within 0.5 s"):
        cluster.run(running, "main", ["one"], [b"abc"], timeout_s=0.5)


def test_output_comes_as_it_is_written(cluster: Cluster, kubelet: ScriptedKubelet, running: str):
    """Not when the command has ended."""
    heard = threading.Event()

    def patient(pod: str, container: str, argv: list[str], streams: Streams) -> int:
        streams.write(b"first")
        assert heard.wait(5)
        streams.write(b"last")
        return 0

    kubelet.on_execute = patient  # type: ignore[assignment]
    with cluster.exec(running, "main", ["patient"]) as channel:
        found = iter(channel)
        assert next(found) == b"first"
        heard.set()
        assert list(found) == [b"last"]
        assert channel.code == 0


def test_a_server_that_falls_silent_amid_a_command(cluster: Cluster, kubelet: ScriptedKubelet, fake: FakeCluster, running: str):
    """Cut off it is known at once; a command that says nothing is waited for."""

    def cut(pod: str, container: str, argv: list[str], streams: Streams) -> int:
        streams.write(b"a")
        fake.cut()
        return 0

    def slow(pod: str, container: str, argv: list[str], streams: Streams) -> int:
        time.sleep(0.5)
        return 0

    kubelet.on_execute = cut  # type: ignore[assignment]
    with pytest.raises(PlaceUnavailable, match="broke off"):
        cluster.run(running, "main", ["cut"])
    kubelet.on_execute = slow  # type: ignore[assignment]
    assert cluster.run(running, "main", ["slow"]).code == 0


def test_where_no_command_can_run(cluster: Cluster, kubelet: ScriptedKubelet, running: str):
    """No pod, no such container, none that runs, no such program."""
    kubelet.on_execute = None
    assert cluster.run(running, "main", ["ls"]).code == 127
    for pod, container in (("nowhere", "main"), (running, "other")):
        with pytest.raises(NotFound):
            cluster.run(pod, container, ["ls"])
    kubelet.finish(running)
    pod_of(cluster, "a", "Succeeded")
    with pytest.raises(NotFound, match="container not found"):
        cluster.run(running, "main", ["ls"])


def test_a_log_as_far_as_it_goes(cluster: Cluster, kubelet: ScriptedKubelet, running: str):
    """All, the last lines, the first bytes; none of what has not started; not there when it is gone."""
    assert cluster.log(running, "main") == b"first\nsecond\n"
    assert cluster.log(running, "main", tail_lines=1) == b"second\n"
    assert cluster.log(running, "main", limit_bytes=3) == b"fir"
    stamped = cluster.log(running, "main", timestamps=True).splitlines()
    assert [line.split(b" ", 1)[1] for line in stamped] == [b"first", b"second"]
    kubelet.script = lambda pod, container: Play(waits="ImagePullBackOff")
    cluster.create("jobs", job_of("b"))
    assert cluster.log(pod_of(cluster, "b"), "main") == b""
    with pytest.raises(NotFound, match="not found"):
        cluster.log("nowhere", "main")
    with pytest.raises(NotFound, match="not valid"):
        cluster.log(running, "other")


def test_a_pod_is_given_time_to_end(cluster: Cluster, kubelet: ScriptedKubelet):
    """As much as is asked for, rounded up; a second time can only make it sooner."""
    kubelet.script = lambda pod, container: Play(code=None, stubborn=True)
    cluster.create("jobs", job_of("a"))
    pod = pod_of(cluster, "a", "Running")
    assert cluster.delete("pods", pod, grace_s=29.5)
    found = cluster.get("pods", pod)
    assert found is not None
    assert found["metadata"]["deletionGracePeriodSeconds"] == 30
    assert cluster.delete("pods", pod, grace_s=0.2)
    until(lambda: cluster.get("pods", pod) is None)
    failed: Callable[[], Any] = lambda: (cluster.get("jobs", "a") or {})["status"].get("failed")  # noqa: E731 - one line
    assert until(failed) == 1


# --- versions ------------------------------------------------------------------------


class OfOneGroup(Server):
    """A server with one API group, or without it.

    Parameters
    ----------
    versions : str
        Of the group; it is not there without one.
    """

    def __init__(self, *versions: str) -> None:
        super().__init__(lambda: None, name="k8s")
        self.served = versions
        self.asked: list[str] = []

    def ask(self, method: str, path: str, query: Any = (), *, body: Any = None, timeout_s: float, content: str = "json") -> Answer:
        """Answer from memory."""
        self.asked.append(path)
        if path.count("/") == len(("apis", "group")):
            return Answer(200, {"versions": [{"version": each} for each in self.served]}) if self.served else Answer(404, {})
        return Answer(200, {"items": [], "metadata": {}})


@pytest.mark.parametrize(
    ("served", "version"), [(("v1beta1",), "v1beta1"), (("v1beta2", "v1beta1"), "v1beta2"), (("v1beta2",), "v1beta2"), ((), "v1beta2")]
)
def test_the_newest_version_that_is_served(served: tuple[str, ...], version: str):
    """Of what has two, asked once; what is installed later is found."""
    server = OfOneGroup(*served)
    cluster = Cluster(lambda: None, name="k8s", namespace="ml", server=server)
    for _ in range(2):
        cluster.list("workloads")
    cluster.at("other").list("localqueues")
    asked = server.asked.count("/apis/kueue.x-k8s.io")
    assert asked == (1 if served else 3)
    assert f"/apis/kueue.x-k8s.io/{version}/namespaces/ml/workloads" in server.asked
    assert f"/apis/kueue.x-k8s.io/{version}/namespaces/other/localqueues" in server.asked
