"""What a job may ask of its pod, and how it is written."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_dla.errors import InvalidSpec
from airflow_dla.runtime.kubernetes.overrides import SETTINGS, asked


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"env_from": []}, r"overrides: 'env_from' is never open; use agent\(env=…\)"),
        ({"containers": []}, r"'containers' is never open; use sidecars"),
        ({"node_name": "gpu-7"}, r"'node_name' is never open; the grant says it: ask for labels with request="),
        ({"host_pid": True}, r"'host_pid' is never open; it shows a job what is others'"),
        ({"nodeSelector": {}}, r"unknown key 'nodeSelector'.*did you mean 'node_selector'"),
        ({"affinity": {"node": {}}}, r"overrides\.affinity: unknown key 'node'; known are nodeAffinity"),
        ({"affinity": {"nodeAffinity": []}}, r"overrides\.affinity\.nodeAffinity must be a mapping"),
        ({"tolerations": [{"value": "a"}]}, r"overrides\.tolerations\[0\] lacks a key"),
        ({"labels": {"airflow-dla/attempt": "other.1"}}, r"'airflow-dla/attempt' is not a job's to set; Jobs, queues or nodes are steered"),
        ({"labels": {"kueue.x-k8s.io/queue-name": "q"}}, r"is not a job's to set"),
        ({"annotations": {"container.apparmor.security.beta.kubernetes.io/main": "unconfined"}}, r"is not a job's to set"),
        ({"image_pull_policy": "always"}, r"must be one of Always, IfNotPresent, Never"),
        ({"sidecars": [{"name": "proxy"}]}, r"overrides\.sidecars\[0\] lacks image; it has name"),
        ({"sidecars": [{"name": "main", "image": "a"}]}, r"'main' is the name of a container of ours"),
        ({"sidecars": [{"name": "a", "image": "a"}, {"name": "a", "image": "b"}]}, r"a is the name of two; name each otherwise"),
        ({"sidecars": [{"name": "a", "image": "a", "volumeMounts": []}]}, r"unknown key 'volumeMounts'"),
    ],
)
def test_what_cannot_be_asked(given: dict[str, Any], said: str):
    """The message names the setting and says what to write instead."""
    with pytest.raises(InvalidSpec, match=said):
        asked(given)


def test_what_can_be_asked():
    """Lists are lists of JSON, words are Kubernetes' own."""
    assert asked({"dns_options": ["ndots:2", "edns0"], "sysctls": {"net.core.somaxconn": 1024}, "cap_add": ["cap_sys_ptrace"]}) == {
        "dns_options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
        "sysctls": [{"name": "net.core.somaxconn", "value": "1024"}],
        "cap_add": ["SYS_PTRACE"],
    }
    assert asked({}) == {}


def test_the_settings_are_in_order():
    """A list that people read is sorted."""
    assert list(SETTINGS) == sorted(SETTINGS)
