"""Tests of the table of what we may do in a cluster."""

from __future__ import annotations

from airflow_dla.runtime.kubernetes.permissions import PERMISSIONS, needed, rules

#: API groups of the kinds that are asked for.
GROUPS = {"jobs": "batch", "workloads": "kueue.x-k8s.io", "localqueues": "kueue.x-k8s.io", "podmetrics": "metrics.k8s.io"}
OUTSIDE = {"nodes"}
#: Parts of objects that exist: a misspelt one would be refused to everybody without a word.
PARTS = {"pods": {"log", "exec", "resize"}}


def test_every_permission_is_of_a_kind_that_is_asked_for() -> None:
    """With the API group that the kind has."""
    for permission in PERMISSIONS:
        assert permission.group == GROUPS.get(permission.kind, "")
        assert permission.part in {"", *PARTS.get(permission.kind, ())}
        assert permission.cluster_wide or permission.kind not in OUTSIDE


def test_each_verb_is_given_once() -> None:
    """What a Role gives and what a ClusterRole gives are apart."""
    given = [(one.group, one.resource, one.cluster_wide, verb) for one in PERMISSIONS for verb in one.verbs]
    assert len(given) == len(set(given))
    assert all(permission.why for permission in PERMISSIONS)


def test_secrets_cannot_be_read() -> None:
    """Whoever reads one Secret of a namespace reads them all."""
    assert [one.verbs for one in PERMISSIONS if one.kind == "secrets"] == [("create",)]


def test_an_allocator_needs_no_more_than_its_own() -> None:
    """Kueue knows the nodes, and who grants by himself needs no Kueue."""
    with_kueue = {permission.resource for permission in needed("kueue")}
    without = {permission.resource for permission in needed("dla")}
    assert with_kueue - without == {"workloads", "localqueues"}
    assert without - with_kueue == {"nodes"}
    assert list(needed("kueue", cluster_wide=True)) == []


def test_a_role_has_a_rule_for_each() -> None:
    """In Kubernetes' own words."""
    written = rules(needed("kueue", cluster_wide=False))
    assert {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "list", "watch", "patch", "delete"]} in written
    assert {"apiGroups": ["kueue.x-k8s.io"], "resources": ["workloads"], "verbs": ["list", "watch"]} in written
