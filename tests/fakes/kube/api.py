"""The verbs of the API on the store: admission, versions, graceful deletion, the pods' own subresources."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fakes.kube import documents, jobs, patches
from fakes.kube.access import check_policies, check_standard
from fakes.kube.admission import Rules, check_quota
from fakes.kube.conditions import condition
from fakes.kube.resources import RESOURCES, Refused, Resource, forbidden, invalid, modified, not_found
from fakes.kube.selectors import matcher
from fakes.kube.store import Document, Store

_ENDED = ("Succeeded", "Failed")


class Api:
    """What requests do, whoever carries them.

    Parameters
    ----------
    store : `Store`
    rules : `Rules`
    """

    def __init__(self, store: Store, rules: Rules) -> None:
        self.store = store
        self.rules = rules

    # --- reading ---

    def get(self, resource: Resource, namespace: str, name: str) -> Document:
        """Return an object."""
        found = self.store.get(resource.plural, namespace, name)
        if found is None:
            raise not_found(resource, name)
        return found

    def list(self, resource: Resource, namespace: str, query: Mapping[str, str]) -> Document:
        """Return the objects that are chosen, a page of them where that is asked for."""
        match = matcher(query.get("labelSelector", ""), query.get("fieldSelector", ""))
        with self.store.lock:
            found, version = self.store.all(resource.plural, namespace, match), self.store.version
        metadata: dict[str, Any] = {"resourceVersion": str(version)}
        limit, token = int(query.get("limit") or 0), query.get("continue")
        if token:
            version, after = json.loads(base64.b64decode(token))
            if version < self.store.compacted:
                raise Refused(410, "Expired", "The provided continue parameter is too old to display a consistent list result.")
            metadata["resourceVersion"] = str(version)
            found = [one for one in found if _place(one) > after]
        if limit and len(found) > limit:
            metadata |= {"remainingItemCount": len(found) - limit}
            found = found[:limit]
            metadata["continue"] = base64.b64encode(json.dumps([version, _place(found[-1])]).encode()).decode()
        items = [{key: value for key, value in one.items() if key not in ("apiVersion", "kind")} for one in found]
        return {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": metadata, "items": items}

    # --- writing ---

    def create(self, resource: Resource, namespace: str, document: Document, *, dry_run: bool = False) -> Document:
        """Make an object after all that may speak against it."""
        self._check_namespace(resource, namespace)
        if not isinstance(document.get("metadata"), dict):
            raise Refused(400, "BadRequest", "the object provided is unrecognized (must be of type Job): metadata missing")
        documents.check_shape(resource, document)
        document = json.loads(json.dumps(document))
        document["metadata"].pop("resourceVersion", None)
        if resource.plural == "jobs" and not (document.get("spec") or {}).get("template"):
            wrong = (
                "spec.template.spec.containers: Required value",
                'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"',
            )
            raise invalid(resource, document["metadata"].get("name", ""), *wrong)
        documents.defaulted(resource, document)
        self.rules.ask_webhooks(resource, document)
        documents.check_rules(resource, document)
        self._check_references(resource, namespace, document)
        check_policies(self.store, resource, namespace, document)
        if resource.plural == "pods":
            check_standard(self.store, namespace, document)
        with self.store.lock:
            check_quota(self.store, resource, namespace, document)
            if dry_run:
                return document
            made = self.store.create(resource, namespace, document)
        return self._labelled(made) if resource.plural == "jobs" else made

    def patch(self, resource: Resource, namespace: str, name: str, patch: Any, *, content: str, subresource: str = "") -> Document:
        """Change an object by a patch."""

        def change(draft: Document) -> Document:
            if "json-patch" in content:
                new = patches.json_patch(draft, patch)
            elif "strategic" in content:
                new = patches.strategic(draft, patch)
            elif "merge-patch" in content:
                new = patches.merge(draft, patch)
            else:
                raise Refused(
                    415, "UnsupportedMediaType", f"the body of the request was in an unknown format - accepted media types: {content}"
                )
            return self._settled(resource, draft, new, subresource)

        return self.store.change(resource.plural, namespace, name, change)

    def replace(self, resource: Resource, namespace: str, name: str, document: Document, subresource: str = "") -> Document:
        """Put another document in an object's place."""
        return self.store.change(resource.plural, namespace, name, lambda draft: self._settled(resource, draft, document, subresource))

    def delete(self, resource: Resource, namespace: str, name: str, options: Mapping[str, Any] | None = None) -> Document:
        """Delete an object: a pod that runs is given time, one with finalizers waits for them."""
        options = options or {}
        with self.store.lock:
            found = self.get(resource, namespace, name)
            wanted = (options.get("preconditions") or {}).get("uid")
            if wanted and wanted != found["metadata"]["uid"]:
                words = f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {found['metadata']['uid']}"
                raise Refused(409, "Conflict", f'Operation cannot be fulfilled on {resource.qualified} "{name}": {words}')
            grace_s = _grace(found, options) if resource.plural == "pods" else 0
            if resource.plural == "namespaces":
                self._empty(name)
            if options.get("propagationPolicy") == "Orphan" or options.get("orphanDependents"):
                self._disown(found["metadata"]["uid"])
            if not grace_s and not found["metadata"].get("finalizers"):
                return self.store.remove(resource.plural, namespace, name) or found
            return self.store.change(resource.plural, namespace, name, lambda draft: _doom(draft, grace_s))

    def evict(self, namespace: str, name: str, body: Mapping[str, Any]) -> None:
        """Evict a pod by the API."""
        message = f"Eviction API: evicting pod {namespace}/{name}"
        self.disrupt(namespace, name, "EvictionByEvictionAPI", message, (body.get("deleteOptions") or {}).get("gracePeriodSeconds"))

    def disrupt(self, namespace: str, name: str, reason: str, message: str, grace_s: float | None = None) -> None:
        """Delete a pod for a reason that is not its own."""
        self.store.change("pods", namespace, name, lambda draft: condition(draft["status"], "DisruptionTarget", True, reason, message))
        self.delete(RESOURCES["pods"], namespace, name, {} if grace_s is None else {"gracePeriodSeconds": grace_s})

    # --- inside ---

    def _settled(self, resource: Resource, draft: Document, new: Document, subresource: str) -> Document:
        """Return what a changed document becomes: what cannot be changed here stays as it is."""
        name = draft["metadata"]["name"]
        wanted = (new.get("metadata") or {}).get("resourceVersion")
        if wanted not in (None, "", draft["metadata"]["resourceVersion"]):
            raise modified(resource, name)
        documents.check_shape(resource, new)
        made = {**new, "metadata": {**new["metadata"]}}
        for kept in ("uid", "name", "namespace", "creationTimestamp", "generation", "deletionTimestamp", "resourceVersion"):
            if kept in draft["metadata"]:
                made["metadata"][kept] = draft["metadata"][kept]
        if subresource == "status":
            return {**draft, "status": made.get("status", {})}
        if subresource == "resize":
            return self._resized(resource, draft, made)
        if "status" in resource.subresources and "status" in draft:
            made["status"] = draft["status"]
        self.rules.ask_webhooks(resource, made)
        documents.check_rules(resource, made)
        documents.check_change(resource, draft, made)
        return made

    @staticmethod
    def _resized(resource: Resource, draft: Document, made: Document) -> Document:
        documents.check_rules(resource, made)
        spec = {**draft["spec"]}
        for which in ("containers", "initContainers"):
            given = {one["name"]: one.get("resources") or {} for one in made["spec"].get(which) or []}
            if which in spec:
                spec[which] = [{**one, "resources": given.get(one["name"], one["resources"])} for one in spec[which]]
        after = {**draft, "spec": spec, "status": {**draft["status"]}}
        if documents._quality(spec) != draft["status"].get("qosClass"):
            raise invalid(resource, draft["metadata"]["name"], "spec: Invalid value: Pod QOS Class may not change as a result of resizing")
        if draft["status"].get("phase") in _ENDED:
            raise forbidden(resource, draft["metadata"]["name"], "pod has terminated")
        return after

    def _labelled(self, job: Document) -> Document:
        """Give a Job the selector and labels of its own."""

        def change(draft: Document) -> None:
            chosen = jobs.selector(draft)
            draft["spec"]["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": draft["metadata"]["uid"]}}
            template = draft["spec"]["template"]
            template["metadata"] = {**(template.get("metadata") or {})}
            template["metadata"]["labels"] = {**(template["metadata"].get("labels") or {}), **chosen}

        return self.store.change("jobs", job["metadata"]["namespace"], job["metadata"]["name"], change)

    def _check_namespace(self, resource: Resource, namespace: str) -> None:
        if not resource.namespaced:
            return
        found = self.store.get("namespaces", "", namespace)
        if found is None:
            raise not_found(RESOURCES["namespaces"], namespace)
        if "deletionTimestamp" in found["metadata"]:
            raise forbidden(resource, "", f"unable to create new content in namespace {namespace} because it is being terminated")

    def _check_references(self, resource: Resource, namespace: str, document: Document) -> None:
        if resource.plural != "pods":
            return
        name, spec = document["metadata"].get("name", ""), document["spec"]
        account = spec["serviceAccountName"]
        if account != "default" and self.store.get("serviceaccounts", namespace, account) is None:
            raise forbidden(resource, name, f'error looking up service account {namespace}/{account}: serviceaccount "{account}" not found')
        priority = spec.get("priorityClassName")
        if priority and self.store.get("priorityclasses", "", priority) is None and not priority.startswith("system-"):
            raise forbidden(resource, name, f"no PriorityClass with name {priority} was found")

    def _empty(self, namespace: str) -> None:
        """Take everything in a namespace away, as its own controller does in the end."""
        for resource in RESOURCES.values():
            for one in self.store.all(resource.plural, namespace) if resource.namespaced else []:
                self.store.remove(resource.plural, namespace, one["metadata"]["name"])

    def _disown(self, uid: str) -> None:
        for plural, namespace, name in self.store.owned(uid):
            self.store.change(plural, namespace, name, lambda draft: draft["metadata"].pop("ownerReferences"))


def _place(document: Document) -> list[str]:
    return [document["metadata"].get("namespace", ""), document["metadata"]["name"]]


def _grace(pod: Document, options: Mapping[str, Any]) -> int:
    """Return how long a pod may go on."""
    if not pod["spec"].get("nodeName") or pod["status"].get("phase") in _ENDED:
        return 0
    asked = options.get("gracePeriodSeconds")
    return int(pod["spec"].get("terminationGracePeriodSeconds", 30) if asked is None else asked)


def _doom(draft: Document, grace_s: int) -> None:
    """Mark an object as one that is to go; a second time can only make it sooner."""
    metadata = draft["metadata"]
    before = metadata.get("deletionGracePeriodSeconds")
    if "deletionTimestamp" in metadata and before is not None and before <= grace_s:
        return
    moment = datetime.fromtimestamp(time.time() + grace_s, UTC) if grace_s else datetime.now(UTC)
    metadata["deletionTimestamp"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    metadata["deletionGracePeriodSeconds"] = grace_s
