"""What a job asks for, in its pod."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from runtime.kubernetes.schemas import VERSIONS, check

from airflow_dla.runtime.kubernetes import body, names

Make = Callable[..., Any]
IN = "requiredDuringSchedulingIgnoredDuringExecution"
SIDECAR = {"name": "proxy", "image": "proxy:1", "args": ["--to", "$(HOST)"], "env": {"A": "b"}, "limits": {"cpu": 0.5, "memory": "64MiB"}}
EVERYTHING = {
    "affinity": {"nodeAffinity": {IN: {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]}}},
    "annotations": {"prometheus.io/scrape": "true"},
    "cap_add": ["SYS_PTRACE"],
    "dns": ["10.0.0.10"],
    "dns_options": ["ndots:2"],
    "dns_policy": "ClusterFirst",
    "dns_search": ["ml.svc"],
    "host_aliases": {"db": "10.0.0.1"},
    "host_network": True,
    "hostname": "trainer",
    "image_pull_policy": "Always",
    "image_pull_secrets": ["other"],
    "labels": {"team": "vision"},
    "node_selector": {"disk": "ssd", "pool": "cpu"},
    "priority_class": "high",
    "privileged": True,
    "runtime_class": "nvidia",
    "scheduler": "volcano",
    "service_account": "train",
    "sidecars": [SIDECAR],
    "supplemental_groups": [44],
    "sysctls": {"net.core.somaxconn": 1024},
    "tolerations": [{"key": "gpu", "operator": "Exists"}, {"key": "spot", "operator": "Exists"}],
    "user": "0:0",
}


@pytest.fixture
def made(launch: Make, place: Make) -> Make:
    """Return a function that makes a Job of overrides and other fields, on a place that has some of its own."""
    where = place(node_selector={"pool": "gpu"}, tolerations=[{"key": "gpu", "operator": "Exists"}], image_pull_secrets=["registry"])

    def make(overrides: dict[str, Any], **fields: Any) -> dict[str, Any]:
        return body.job(launch(overrides=overrides, **fields), where, workspace="w", runner="dla-runner-0a")

    return make


def spec_of(document: dict[str, Any]) -> dict[str, Any]:
    """Return the spec of a Job's pod."""
    return dict(document["spec"]["template"]["spec"])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("outputs", [(), ("model",)])
def test_everything_at_once_is_what_clusters_take(version: str, outputs: tuple[str, ...], made: Make, job: Make):
    """The API's own schema has every field."""
    check(made(EVERYTHING, job=job(outputs=outputs), volumes={"/a": "pvc:cache/a:ro", "/tmp": "/srv/tmp"}), version)


def test_nothing_asked_for_changes_nothing(made: Make):
    """The place's own hold."""
    spec = spec_of(made({}))
    assert (spec["nodeSelector"], spec["imagePullSecrets"]) == ({"pool": "gpu"}, [{"name": "registry"}])
    assert not {"hostNetwork", "dnsConfig", "hostAliases", "schedulerName"} & spec.keys()


def test_what_is_added_leaves_the_places_own(made: Make):
    """A job cannot leave the nodes of its place; taints and secrets are more, never fewer."""
    spec = spec_of(made(EVERYTHING))
    assert spec["nodeSelector"] == {"disk": "ssd", "pool": "gpu"}
    assert [found["key"] for found in spec["tolerations"]] == ["gpu", "spot"]
    assert spec["imagePullSecrets"] == [{"name": "registry"}, {"name": "other"}]


def test_the_granted_node_stays(made: Make):
    """Each term of the job's affinity is bound to it; a preference is added."""
    (term,) = spec_of(made(EVERYTHING))["affinity"]["nodeAffinity"][IN]["nodeSelectorTerms"]
    assert term["matchFields"] == [{"key": "metadata.name", "operator": "In", "values": ["gpu-7"]}]
    assert term["matchExpressions"][0]["key"] == "zone"
    apart = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    found = spec_of(made({"affinity": apart}))["affinity"]
    assert found["podAntiAffinity"] == apart["podAntiAffinity"]
    assert found["nodeAffinity"][IN]["nodeSelectorTerms"][0]["matchFields"][0]["values"] == ["gpu-7"]


def test_rights_that_were_opened(made: Make):
    """Root is root for ours too, which then give the job's files to it; a privileged pod says nothing of escalation."""
    spec = spec_of(made(EVERYTHING))
    main = spec["containers"][0]["securityContext"]
    assert (main["privileged"], main["capabilities"]["add"], "allowPrivilegeEscalation" in main) == (True, ["SYS_PTRACE"], False)
    assert (spec["securityContext"]["runAsUser"], spec["securityContext"]["runAsNonRoot"]) == (0, False)
    assert spec["securityContext"]["supplementalGroups"] == [44]
    assert spec["securityContext"]["sysctls"] == [{"name": "net.core.somaxconn", "value": "1024"}]


def test_networks_and_names(made: Make):
    """Resolvers, hosts, and the host's own network."""
    spec = spec_of(made(EVERYTHING))
    assert (spec["hostNetwork"], spec["dnsPolicy"], spec["hostname"]) == (True, "ClusterFirst", "trainer")
    assert spec["dnsConfig"] == {"nameservers": ["10.0.0.10"], "searches": ["ml.svc"], "options": [{"name": "ndots", "value": "2"}]}
    assert spec["hostAliases"] == [{"ip": "10.0.0.1", "hostnames": ["db"]}]
    assert spec_of(made({"host_network": True}))["dnsPolicy"] == "ClusterFirstWithHostNet"
    assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("train", False)


def test_sidecars_see_the_job_and_take_nothing_of_its_grant(made: Make, job: Make):
    """They start before it and end after it, with the rights that every job has."""
    document = made({"sidecars": [SIDECAR]}, job=job(outputs=("model",)))
    names_ = [found["name"] for found in spec_of(document)["initContainers"]]
    found = spec_of(document)["initContainers"][-1]
    assert names_ == ["fetch", "mate", "proxy"]
    assert (found["restartPolicy"], found["args"]) == ("Always", ["--to", "$$(HOST)"])
    assert found["resources"] == {"requests": {"cpu": "0", "memory": "0"}, "limits": {"cpu": "500m", "memory": str(64 * 2**20)}}
    assert {mount["mountPath"] for mount in found["volumeMounts"]} == {"/dla", "/tmp"}
    assert found["securityContext"]["allowPrivilegeEscalation"] is False


def test_a_volume_takes_the_place_of_tmp(made: Make):
    """Two mounts at one folder are none; what nobody mounts any more is not made."""
    spec = spec_of(made({}, volumes={"/tmp": "pvc:scratch"}))
    mounts = [found for found in spec["containers"][0]["volumeMounts"] if found["mountPath"] == "/tmp"]
    assert mounts == [{"name": "asked-0", "mountPath": "/tmp"}]
    assert [found["name"] for found in spec["volumes"]] == ["dla", "asked-0"]


def test_labels_and_annotations_of_the_pod(made: Make):
    """People's are beside ours."""
    metadata = made(EVERYTHING)["spec"]["template"]["metadata"]
    assert (metadata["labels"]["team"], metadata["labels"][names.ATTEMPT]) == ("vision", "0d9f.2")
    assert (metadata["annotations"]["prometheus.io/scrape"], metadata["annotations"][names.ATTEMPT]) == ("true", "0d9f.2")
