"""What a cluster will not run, or not now: said in words that tell what would do, and nothing is left of it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from cluster_runtime import small
from clusters import MERGE, ROLE, Site
from contracts.runtime import ended, submitted, wait_until

from airflow_dla.errors import LaunchRefused, NotReady, PlaceUnavailable
from airflow_dla.runtime import Launch
from airflow_dla.runtime.kubernetes.runtime import KubernetesRuntime
from airflow_dla.specs import ExitReason

pytestmark = pytest.mark.timeout(180)

Runtimes = Callable[..., KubernetesRuntime]

_WRITES = ("sh", "-c", "test $TOKEN = hidden && echo 7 > {outputs.model}/n")


def job(attempt: str = "job.1", command: Sequence[str] = ("true",), **more: Any) -> Launch:
    """Return a launch of a small command."""
    return small(command, attempt, **more)


def explained(runtime: KubernetesRuntime, launch: Launch, words: str, timeout_s: float = 60) -> str:
    """Submit until what it waits for, or why it is refused, is said with some words; return all that is said."""
    said: list[str] = [""]

    def told() -> bool:
        try:
            runtime.submit(launch)
        except (LaunchRefused, NotReady) as error:
            said.append(str(error))
            return bool(re.search(words, said[-1]))
        raise AssertionError(f"it was launched; before, it said {said[-1]!r}")

    try:
        wait_until(told, timeout_s)
    except AssertionError as error:
        raise AssertionError(f"{error}: {said[-1]!r}") from None
    return said[-1]


def refused(runtime: KubernetesRuntime, launch: Launch, timeout_s: float = 60) -> str:
    """Submit until it is refused; return the reason."""
    with pytest.raises(LaunchRefused) as error:
        submitted(runtime, launch, timeout_s)
    return str(error.value)


def nothing_runs(runtime: KubernetesRuntime, site: Site, attempt: str = "job.1") -> None:
    """Check that an attempt has neither a pod nor a chance of one."""
    wait_until(lambda: not runtime.jobs().get(attempt, False), 30)
    job_name = runtime.plan(job(attempt))["job"]["metadata"]["name"]
    wait_until(lambda: not [pod for pod in site.pods() if pod["metadata"]["name"].startswith(job_name)], 30)


# --- quota ---------------------------------------------------------------------------


def test_quota_exceeded(site: Site, runtimes: Runtimes):
    """A job waits for a quota with the cluster's own numbers, and starts when there is room; one that is larger is refused."""
    hard = {"spec": {"hard": {"limits.cpu": "150m"}}}
    with site.own_namespace() as own, own.made("v1", "resourcequotas", "ResourceQuota", hard) as quota:
        runtime = runtimes(own)
        submitted(runtime, job("job.2", ("sleep", "60"), grace_s=1.0), 60)
        assert "limits.cpu" in explained(runtime, job(), "exceeded quota")
        assert "more than the namespace may have at all" in refused(runtime, job("job.3", cpu=0.2))
        own.ask("PATCH", own.at("v1", "resourcequotas", quota["metadata"]["name"]), {"spec": {"hard": {"limits.cpu": "5"}}}, content=MERGE)
        submitted(runtime, job(), 100)
        assert ended(runtime, "job.1", 30).succeeded
        runtime.cancel("job.2", ExitReason.STOPPED)
        ended(runtime, "job.2", 30)


def test_quota_of_jobs(site: Site, runtimes: Runtimes):
    """A namespace that takes no more Jobs refuses this one, and says what would do."""
    with site.own_namespace() as own, own.made("v1", "resourcequotas", "ResourceQuota", {"spec": {"hard": {"count/jobs.batch": "0"}}}):
        runtime = runtimes(own)
        time.sleep(1)  # the quota's own controller looks at it first
        said = refused(runtime, job())
        assert "exceeded quota" in said
        assert "ask for less, wait until others have ended, or have the quota raised" in said
        assert runtime.jobs() == {}


# --- permissions ---------------------------------------------------------------------


@pytest.mark.parametrize(("lacks", "secrets", "said"), [
    ("batch/jobs", {}, "give its user the verb 'create' on 'jobs' of API group 'batch' in a Role of namespace"),
    ("/secrets", {"TOKEN": "hidden"}, "give its user the verb 'create' on 'secrets' in a Role of namespace"),
])  # fmt: skip
def test_forbidden(site: Site, runtimes: Runtimes, lacks: str, secrets: dict[str, str], said: str):
    """What our user may not make is named with the verb and the Role that lack."""
    fewer = {resource: verbs if resource != lacks else [verb for verb in verbs if verb != "create"] for resource, verbs in ROLE.items()}
    role = {resource: verbs for resource, verbs in fewer.items() if verbs}
    with site.limited(role) as limited:
        runtime = runtimes(limited)
        assert said in refused(runtime, job(secrets=secrets))
        nothing_runs(runtime, site)


def test_forbidden_to_look(site: Site, runtimes: Runtimes):
    """Who may not watch pods is told so; nothing is concluded of what may run."""
    said = r"give its user the verb '(list|watch|get)' on 'pods' in a Role of namespace"
    role = {resource: verbs for resource, verbs in ROLE.items() if resource != "/pods"}
    with site.limited(role) as limited, pytest.raises(PlaceUnavailable, match=said):
        submitted(runtimes(limited), job())


def test_least_rights_are_enough(site: Site, runtimes: Runtimes):
    """With the verbs of the table alone a job with a secret and an output runs to its end."""
    with site.limited() as limited:
        runtime = runtimes(limited)
        submitted(runtime, job(command=_WRITES, outputs=("model",), secrets={"TOKEN": "hidden"}), 60)
        found = ended(runtime, "job.1", 60)
        assert found.succeeded, found
        assert list(found.outputs) == ["model"]


def test_without_events(site: Site, runtimes: Runtimes):
    """Who may not read events starts jobs all the same."""
    with site.limited({resource: verbs for resource, verbs in ROLE.items() if resource != "/events"}) as limited:
        runtime = runtimes(limited)
        submitted(runtime, job(), 60)
        assert ended(runtime, "job.1", 30).succeeded


# --- scheduling and images -----------------------------------------------------------


def test_unschedulable(site: Site, pods: KubernetesRuntime):
    """What no node has room for waits with the scheduler's words; stopped then, it never runs."""
    launch = job(cpu=1000.0)
    assert "nodes are available" in explained(pods, launch, "Insufficient cpu")
    pods.cancel("job.1", ExitReason.STOPPED)
    assert ended(pods, "job.1", 30).reason is ExitReason.STOPPED
    nothing_runs(pods, site)


def test_preempted_while_it_waits(site: Site, pods: KubernetesRuntime):
    """What is stopped before it had room says so, whoever launches it again."""
    launch = job(cpu=1000.0)
    with pytest.raises(NotReady):
        pods.submit(launch)
    pods.cancel("job.1", ExitReason.PREEMPTED)
    submitted(pods, launch)
    assert ended(pods, "job.1", 30).reason is ExitReason.PREEMPTED
    nothing_runs(pods, site)


def test_no_image_of_that_name(site: Site, pods: KubernetesRuntime):
    """A name that is none is refused with it; no pod is left that tries on."""
    assert "UPPER/Case:1" in refused(pods, job(image="UPPER/Case:1"), 100)
    nothing_runs(pods, site)
    assert ended(pods, "job.1", 30).reason is ExitReason.REFUSED


def test_no_registry(site: Site, pods: KubernetesRuntime):
    """A registry that does not answer may do so later; meanwhile it is said what would do."""
    said = explained(pods, job(image="127.0.0.1:1/none:1"), "127.0.0.1:1/none:1")
    assert "reach the registry, or name an image that it has" in said
    pods.cancel("job.1", ExitReason.STOPPED)
    assert ended(pods, "job.1", 30).reason is ExitReason.STOPPED
    nothing_runs(pods, site)


# --- what may not be asked -----------------------------------------------------------


@pytest.mark.parametrize(("asked", "said"), [
    ({"volumes": {"/host": "/etc:ro"}}, "/etc"),
    ({"volumes": {"/data": "pvc:somebodys"}}, "somebodys"),
    ({"overrides": {"privileged": True}}, "privileged"),
    ({"overrides": {"host_network": True}}, "host_network"),
    ({"overrides": {"user": "0:0"}}, "0:0"),
    ({"overrides": {"service_account": "admin"}}, "admin"),
    ({"overrides": {"node_selector": {"pool": "gpu"}}}, "node_selector"),
    ({"overrides": {"colour": "blue"}}, "colour"),
])  # fmt: skip
def test_what_the_place_forbids(pods: KubernetesRuntime, asked: dict[str, Any], said: str):
    """A forbidden mount, claim, right, user, account or setting is refused by name before anything is made."""
    with pytest.raises(LaunchRefused, match=re.escape(said)):
        pods.submit(job(**asked))
    assert pods.jobs() == {}


@pytest.mark.parametrize(("asked", "said"), [
    ({"tolerations": [{"operator": "Sometimes"}]}, "tolerations"),
    ({"node_selector": {"no such/key/at all": "x"}}, r"node_?[sS]elector"),
])  # fmt: skip
def test_invalid_override(runtimes: Runtimes, asked: dict[str, Any], said: str):
    """What the policy allows and no cluster can read is refused with the field's name."""
    runtime = runtimes(policy={"overrides": ["tolerations", "node_selector"]})
    with pytest.raises(LaunchRefused, match=said):
        submitted(runtime, job(overrides=asked))
    assert runtime.jobs() == {}


# --- admission -----------------------------------------------------------------------


def test_no_such_priority_class(site: Site, runtimes: Runtimes):
    """A pod that the cluster's admission does not know how to rank never comes; the job says why."""
    runtime = runtimes(priority_class="no-such-class")
    explained(runtime, job(), "no-such-class")
    runtime.cancel("job.1", ExitReason.STOPPED)
    nothing_runs(runtime, site)


def test_a_restricted_namespace(site: Site, runtimes: Runtimes):
    """Our pods keep to the strictest of Kubernetes' own standards, with our containers in them and without."""
    with site.own_namespace(**{"pod-security.kubernetes.io/enforce": "restricted"}) as own:
        runtime = runtimes(own)
        submitted(runtime, job(command=_WRITES, outputs=("model",), secrets={"TOKEN": "hidden"}), 60)
        submitted(runtime, job("job.2"), 60)
        assert ended(runtime, "job.1", 60).succeeded
        assert ended(runtime, "job.2", 60).succeeded


def test_admission_of_pods_refused(site: Site, runtimes: Runtimes):
    """A pod that a namespace's standard forbids never comes; the job says which rule it was."""
    with site.own_namespace(**{"pod-security.kubernetes.io/enforce": "restricted"}) as own:
        runtime = runtimes(own, user="0:0")
        explained(runtime, job(), "PodSecurity")
        runtime.cancel("job.1", ExitReason.STOPPED)
        nothing_runs(runtime, own)


def test_admission_of_jobs_refused(site: Site, runtimes: Runtimes):
    """A Job that a policy of the cluster refuses is refused in the policy's words."""
    rule = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
    says = {"expression": "has(object.metadata.labels.owner)", "message": "every Job names its owner here"}
    policy = {"spec": {"matchConstraints": {"resourceRules": [rule]}, "validations": [says]}}
    with site.own_namespace() as own, own.admits(policy):
        runtime = runtimes(own)
        time.sleep(3)  # until the server has read it
        assert says["message"] in refused(runtime, job())
        assert runtime.jobs() == {}
