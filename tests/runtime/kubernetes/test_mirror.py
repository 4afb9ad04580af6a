"""One watch for all who ask, whatever happens to the server meanwhile."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any

import pytest
from fakes.kube.resources import RESOURCES
from fakes.kubernetes_api import FakeCluster, Refused
from kubernetes_jobs import until

from airflow_dla.errors import PlaceUnavailable
from airflow_dla.runtime.kubernetes.cluster import Cluster
from airflow_dla.runtime.kubernetes.mirror import Mirror

CONFIGMAPS = RESOURCES["configmaps"]


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        """Return the seconds."""
        return time.monotonic() + self.ahead


@pytest.fixture
def clock() -> Clock:
    """Return the mirror's clock."""
    return Clock()


@pytest.fixture
def mirror(cluster: Cluster, clock: Clock):
    """Return what is known of the fake cluster's configmaps of a test."""
    mirror = Mirror(cluster, "configmaps", "of=a-test", clock=clock)
    yield mirror
    mirror.close()


def words(name: str, attempt: str = "", **data: str) -> dict[str, Any]:
    """Return a document."""
    annotations = {"airflow-dla/attempt": attempt} if attempt else {}
    return {"metadata": {"name": name, "labels": {"of": "a-test"}, "annotations": annotations}, "data": data}


def lists(fake: FakeCluster) -> int:
    """Return how often the configmaps were listed."""
    return sum(path.endswith("/configmaps") and method == "GET" and "watch" not in query for method, path, query in fake.asked)


def test_it_tells_what_changes(anywhere: Cluster):
    """What was there before, what is made, changed and deleted, on any cluster."""
    mirror = Mirror(anywhere, "configmaps", "of=a-test")
    name = f"m-{uuid.uuid4().hex[:8]}"
    assert mirror.get(name) is None
    anywhere.create("configmaps", words(name, name))
    assert until(lambda: mirror.get(name))["metadata"]["labels"] == {"of": "a-test"}
    anywhere.patch("configmaps", name, {"data": {"more": "x"}})
    until(lambda: (mirror.get(name) or {}).get("data") == {"more": "x"})
    found = mirror.by_attempt(name)
    assert found is not None
    assert found["metadata"]["name"] == name
    anywhere.delete("configmaps", name)
    until(lambda: mirror.get(name) is None)
    last = mirror.by_attempt(name)
    assert last is not None
    assert last["data"] == {"more": "x"}
    mirror.close()


def test_one_watch_for_any_number_of_questions(mirror: Mirror, cluster: Cluster, fake: FakeCluster):
    """A hundred threads and a thousand questions are one list and one watch."""
    for number in range(20):
        cluster.create("configmaps", words(f"w{number}", f"a.{number}"))
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.extend(mirror.get(f"w{number}") for number in range(20))) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2000
    assert None not in found
    assert lists(fake) == 1
    assert until(lambda: fake.watches("configmaps")) == 1
    assert all(mirror.by_attempt(f"a.{number}") == mirror.get(f"w{number}") for number in range(20))


def test_who_wrote_sees_what_he_wrote(mirror: Mirror, cluster: Cluster, fake: FakeCluster):
    """Before the watch tells it; what is older than what is known changes nothing."""
    mirror.all()
    fake.freeze()
    document = fake.store.create(CONFIGMAPS, "ml", words("a", n="1"))
    mirror.put(document)
    assert mirror.get("a") == document
    fake.thaw()
    newer = cluster.patch("configmaps", "a", {"data": {"n": "2"}})
    assert newer is not None
    mirror.put(newer)
    mirror.put(document)
    assert (mirror.get("a") or {})["data"] == {"n": "2"}


def test_what_was_deleted_does_not_come_back(mirror: Mirror, cluster: Cluster):
    """By an answer that is older than its end; another of its name may."""
    old = cluster.create("configmaps", words("a"))
    until(lambda: mirror.get("a"))
    cluster.delete("configmaps", "a")
    until(lambda: mirror.get("a") is None)
    mirror.put(old)
    assert mirror.get("a") is None
    mirror.put(cluster.create("configmaps", words("a", n="2")))
    assert (mirror.get("a") or {})["data"] == {"n": "2"}


def test_the_last_state_is_kept_for_a_while(mirror: Mirror, cluster: Cluster, clock: Clock):
    """Then it is forgotten."""
    cluster.create("configmaps", words("a", "0d9f.2"))
    until(lambda: mirror.get("a"))
    cluster.delete("configmaps", "a")
    until(lambda: mirror.get("a") is None)
    clock.ahead += 599
    cluster.create("configmaps", words("b"))
    until(lambda: answered(mirror, "b"))
    assert mirror.by_attempt("0d9f.2") == mirror.last("a") is not None
    clock.ahead += 2
    cluster.create("configmaps", words("c"))
    until(lambda: answered(mirror, "c"))
    assert mirror.by_attempt("0d9f.2") is mirror.last("a") is None
    assert mirror.last("c") == mirror.get("c")


def test_a_forgotten_past_is_listed_again(mirror: Mirror, cluster: Cluster, fake: FakeCluster):
    """What was made and deleted meanwhile is known after it, though no watch told it."""
    cluster.create("configmaps", words("stays"))
    cluster.create("configmaps", words("goes", "0d9f.2"))
    until(lambda: len(mirror.all()) == 2)
    fake.stop()
    fake.store.remove("configmaps", "ml", "goes")
    fake.store.create(CONFIGMAPS, "ml", words("comes"))
    fake.compact()
    fake.start()
    until(lambda: set(mirror.all()) == {"stays", "comes"})
    assert lists(fake) == 2
    assert mirror.by_attempt("0d9f.2") is not None


def test_a_cut_connection_is_watched_on_from_where_it_was(mirror: Mirror, cluster: Cluster, fake: FakeCluster):
    """Nothing is listed again, nothing is missed."""
    mirror.all()
    until(lambda: fake.watches("configmaps"))
    for number in range(5):
        fake.cut()
        fake.store.create(CONFIGMAPS, "ml", words(f"w{number}"))
    until(lambda: len(mirror.all()) == 5)
    assert lists(fake) == 1


def test_nothing_is_gone_because_nobody_could_look(mirror: Mirror, cluster: Cluster, fake: FakeCluster, clock: Clock):
    """For a minute what was known holds; then it is said that nobody knows; then it is known again."""
    cluster.create("configmaps", words("a"))
    until(lambda: mirror.get("a"))
    fake.stop()
    until(lambda: mirror._fault)
    clock.ahead += 55
    assert mirror.get("a") is not None
    clock.ahead += 10
    with pytest.raises(PlaceUnavailable, match="does not answer"):
        mirror.get("a")
    fake.store.create(CONFIGMAPS, "ml", words("b"))
    fake.start()
    assert until(lambda: answered(mirror, "b"))


def test_a_server_that_is_not_there_is_known_at_once(cluster: Cluster, fake: FakeCluster, mirror: Mirror):
    """The first question does not wait for what cannot come."""
    fake.stop()
    began = time.monotonic()
    with pytest.raises(PlaceUnavailable, match="is the API server running"):
        mirror.get("a")
    assert time.monotonic() - began < 1
    fake.start()
    assert until(lambda: answered(mirror, "a") is None)


@pytest.mark.parametrize(
    "refused",
    [
        Refused(429, "TooManyRequests", "later", headers={"Retry-After": "0"}),
        Refused(500, "InternalError", "etcdserver: leader changed"),
        Refused(403, "Forbidden", "configmaps is forbidden: RBAC is not loaded"),
        Refused(401, "Unauthorized", "Unauthorized"),
    ],
    ids=["throttled", "out of order", "forbidden", "unknown"],
)
def test_a_refusal_is_asked_again(cluster: Cluster, fake: FakeCluster, mirror: Mirror, refused: Refused):
    """It may be permitted, known or less busy later."""
    mirror.all()
    fake.rules.answer_next(refused, times=3)
    fake.cut()
    fake.store.create(CONFIGMAPS, "ml", words("a"))
    assert until(lambda: answered(mirror, "a"))


def test_what_may_not_be_looked_at_says_so(fake: FakeCluster, mirror: Mirror):
    """With the permission that is missing."""
    fake.rules.deny("list", "configmaps")
    with pytest.raises(PlaceUnavailable, match="the verb 'list' on 'configmaps' in a Role"):
        mirror.get("a")


def test_a_silent_connection_is_not_believed(fake: FakeCluster, clock: Clock):
    """A server that hangs is noticed, though the connection stands."""
    hasty = Cluster(fake.connect, name="k8s", namespace="ml", quick_s=0.3, slow_s=0.3)
    mirror = Mirror(hasty, "configmaps", "of=a-test", clock=clock, watch_s=1)
    mirror.all()
    until(lambda: fake.watches("configmaps"))
    fake.freeze()
    until(lambda: mirror._fault)
    fake.thaw()
    fake.store.create(CONFIGMAPS, "ml", words("a"))
    assert until(lambda: answered(mirror, "a"))
    mirror.close()


def test_the_thread_ends_when_nobody_asks(mirror: Mirror, fake: FakeCluster, clock: Clock):
    """And the next question begins another."""
    mirror.all()
    first = mirror._thread
    assert first is not None
    until(lambda: fake.watches("configmaps"))
    clock.ahead += 601
    until(lambda: not first.is_alive())
    fake.store.create(CONFIGMAPS, "ml", words("a"))
    assert mirror.get("a") is not None
    mirror.close()
    until(lambda: not fake.watches("configmaps"))


def test_of_two_of_one_attempt_the_newest(mirror: Mirror, cluster: Cluster):
    """When that is gone, the other."""
    cluster.create("configmaps", words("first", "0d9f.2"))
    cluster.create("configmaps", words("second", "0d9f.2"))
    assert until(lambda: (mirror.by_attempt("0d9f.2") or {"metadata": {"name": ""}})["metadata"]["name"] == "second")
    cluster.delete("configmaps", "second")
    assert until(lambda: (mirror.by_attempt("0d9f.2") or {"metadata": {"name": ""}})["metadata"]["name"] == "first")


def answered(mirror: Mirror, name: str) -> Any:
    """Return an object, or nothing while nobody knows."""
    try:
        return mirror.get(name)
    except PlaceUnavailable:
        return None
