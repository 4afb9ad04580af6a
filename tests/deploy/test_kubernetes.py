"""What a cluster is given: kustomizations that build, documents that every supported version knows, rights that fit together."""

from __future__ import annotations

import shutil
import subprocess
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from airflow.models.connection import Connection
from fixtures_kubernetes import ClusterAccess

import airflow_dla
from airflow_dla.hooks.settings import read_settings
from airflow_dla.runtime.kubernetes import names
from airflow_dla.runtime.kubernetes.permissions import METRICS, PERMISSIONS, Permission

DEPLOY = Path(airflow_dla.__file__).parent / "deploy"
README = DEPLOY.parents[1] / "README.md"
PARTS = ("base", "nodes", "limits", "kueue", "airflow")
OLDEST = "1.30.0"
#: Of Kueue's own: kubernetes-validate knows only what a cluster is born with.
FOREIGN = {"kueue.x-k8s.io/v1beta2"}
CLUSTER_WIDE = {"Namespace", "ClusterRole", "ClusterRoleBinding"}

Build = Callable[[str], list[dict[str, Any]]]


def kubectl(*arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run kubectl; skipped where there is none."""
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl on this machine")
    return subprocess.run(["kubectl", *arguments], capture_output=True, text=True, check=False, input=given, timeout=60)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Return what builds a part as its user does, the files of the Secret filled in."""
    folder = tmp_path_factory.mktemp("deploy") / "kubernetes"
    shutil.copytree(DEPLOY / "kubernetes", folder)
    for example in folder.rglob("*.example"):
        example.rename(example.with_suffix(""))
    built: dict[str, list[dict[str, Any]]] = {}

    def documents(part: str) -> list[dict[str, Any]]:
        if part not in built:
            done = kubectl("kustomize", str(folder / part))
            assert done.returncode == 0, done.stderr
            built[part] = list(yaml.safe_load_all(done.stdout))
        return built[part]

    return documents


def values() -> dict[str, Any]:
    """Return the Helm values."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "helm" / "values.yaml").read_text(encoding="utf-8"))
    return found


def of_kind(documents: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the documents of a kind."""
    return [document for document in documents if document["kind"] == kind]


def bindings(build: Build) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Yield each binding with the documents of its part."""
    for part in PARTS:
        documents = build(part)
        yield from ((document, documents) for document in documents if document["kind"].endswith("RoleBinding"))


def test_every_folder_is_a_part() -> None:
    """What is shipped is what is tested."""
    assert sorted(path.name for path in (DEPLOY / "kubernetes").iterdir()) == sorted(PARTS)


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("part", PARTS)
def test_a_cluster_knows_every_field(part: str, version: str, build: Build) -> None:
    """Of the oldest version and of the newest: no field is unknown or of another type."""
    for document in build(part):
        if document["apiVersion"] in FOREIGN:
            assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
        else:
            kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("part", PARTS)
def test_everything_says_whose_it_is(part: str, build: Build) -> None:
    """One label finds all of it, and only what is the cluster's has no namespace."""
    for document in build(part):
        assert document["metadata"]["labels"]["app.kubernetes.io/name"] == "airflow-dla"
        assert ("namespace" in document["metadata"]) is (document["kind"] not in CLUSTER_WIDE)


def test_bindings_name_a_role_of_their_part_and_the_same_subjects(build: Build) -> None:
    """Whoever follows jobs may do all of it, and nobody else may do anything."""
    found = list(bindings(build))
    assert len(found) == 3
    for binding, documents in found:
        role = binding["roleRef"]
        assert [document["metadata"]["name"] for document in of_kind(documents, role["kind"])] == [role["name"]]
        assert binding["subjects"] == found[0][0]["subjects"]


def test_the_chart_makes_the_accounts_that_are_bound(build: Build) -> None:
    """Workers and triggerer of the Helm values are the subjects that are not of the base's own namespace."""
    binding, documents = next(bindings(build))
    own = [(document["metadata"]["namespace"], document["metadata"]["name"]) for document in of_kind(documents, "ServiceAccount")]
    made = [("airflow", values()[who]["serviceAccount"]["name"]) for who in ("workers", "triggerer")]
    assert [(subject["namespace"], subject["name"]) for subject in binding["subjects"]] == [*own, *made]


#: Which part gives which rights.
GIVES: dict[str, Callable[[Permission], bool]] = {
    "base": lambda needed: needed.allocator is None,
    "nodes": lambda needed: needed.allocator == "dla",
    "kueue": lambda needed: needed.allocator == "kueue",
}


@pytest.mark.parametrize("part", GIVES)
def test_rights_are_those_that_are_used(part: str, build: Build) -> None:
    """Each verb that is given is needed, and each that is needed is given; of the whole cluster only where that is asked for."""
    needed = [permission for permission in PERMISSIONS if GIVES[part](permission)]
    for kind, cluster_wide in (("Role", False), ("ClusterRole", True)):
        rules = [rule for document in of_kind(build(part), kind) for rule in document["rules"]]
        given = [
            (group, resource, verb)
            for rule in rules for group in rule["apiGroups"] for resource in rule["resources"] for verb in rule["verbs"]
        ]  # fmt: skip
        used = [(each.group, each.resource, verb) for each in needed if each.cluster_wide is cluster_wide for verb in each.verbs]
        assert sorted(given) == sorted(used)


def test_the_readme_says_which_rights_and_why() -> None:
    """Its table is that of the permissions, row by row."""
    part = {None: "base", "dla": "nodes", "kueue": "kueue"}
    of = {False: "", True: " of the cluster"}
    kinds = [f" of `{METRICS}`" if each.group == METRICS else of[each.cluster_wide] for each in PERMISSIONS]
    rows = [
        f"| `{each.resource}`{kind} | {', '.join(each.verbs)} | `{part[each.allocator]}` | {each.why} |"
        for each, kind in zip(PERMISSIONS, kinds, strict=True)
    ]
    assert "\n".join(["| what | verbs | part | why |", "|---|---|---|---|", *rows, ""]) in README.read_text(encoding="utf-8")


def test_nothing_may_read_secrets_or_do_everything(build: Build) -> None:
    """No verb stands for all verbs, no resource for all resources; Secrets are only written."""
    for part in PARTS:
        rules = [rule for document in build(part) for rule in document.get("rules", ())]
        for rule in rules:
            assert "*" not in {*rule["verbs"], *rule["resources"], *rule["apiGroups"]}
            assert "secrets" not in rule["resources"] or rule["verbs"] == ["create"]


def test_the_secret_is_what_the_chart_reads(build: Build) -> None:
    """Its keys are those of the Helm values, and what they hold are a workspace's connection and its ledger's."""
    (secret,) = build("airflow")
    read = {entry["envName"]: entry for entry in values()["secret"]}
    assert {entry["secretName"] for entry in read.values()} == {secret["metadata"]["name"]}
    assert {entry["secretKey"] for entry in read.values()} == set(secret["data"])
    held = {name: b64decode(secret["data"][entry["secretKey"]]).decode() for name, entry in read.items()}
    ledger = Connection.from_json(held["AIRFLOW_CONN_DLA_LEDGER"], conn_id="dla_ledger")
    workspace = Connection.from_json(held["AIRFLOW_CONN_DLA_DEFAULT"], conn_id="dla_default")
    assert workspace.extra_dejson["ledger"] == ledger.conn_id
    found = read_settings(workspace, {"dla_ledger": ledger})
    assert [(place.kind, place.in_cluster, place.namespace) for place in found.places] == [("kubernetes", True, "airflow-dla")]
    assert found.ledger_url.startswith("postgresql://")


def test_the_secret_is_not_built_of_examples() -> None:
    """Without the two files nothing is made, so no cluster ever holds a password called PASSWORD."""
    done = kubectl("kustomize", str(DEPLOY / "kubernetes" / "airflow"))
    assert done.returncode != 0
    assert "workspace.json" in done.stderr


def test_the_network_knows_our_pods(build: Build) -> None:
    """Its policies select pods by the labels that they have."""
    found = {document["metadata"]["name"]: document["spec"]["podSelector"] for document in of_kind(build("base"), "NetworkPolicy")}
    chosen = {name: [rule["key"] for rule in selector["matchExpressions"]] for name, selector in found.items()}
    assert chosen == {"airflow-dla-jobs": [names.WORKSPACE], "airflow-dla-members": [names.MEMBERS]}


@pytest.mark.kubernetes
def test_a_real_cluster_would_take_it(named_cluster: ClusterAccess, tmp_path: Path) -> None:
    """In the suite's namespace: the server knows every kind, and its admission takes all that our user may make there."""
    shutil.copytree(DEPLOY / "kubernetes", tmp_path / "kubernetes")
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "bases": ["kubernetes/base", "kubernetes/limits"],  # what Debian's kubectl calls resources that are folders
        "namespace": named_cluster.namespace,
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
    done = kubectl("--kubeconfig", str(named_cluster.kubeconfig), "apply", "--dry-run=server", "-k", str(tmp_path))
    refused = [line for line in done.stderr.splitlines() if line.lower().startswith("error")]
    assert [line for line in refused if not line.startswith("Error from server (Forbidden)")] == []
    assert done.stdout or refused
