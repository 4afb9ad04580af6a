"""Who may do what: service accounts by their tokens, and the Roles that are bound to them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from fakes.kube.resources import RESOURCES, Refused, Resource, forbidden
from fakes.kube.store import Document, Store, now


class Access:
    """Tokens and Roles of a cluster; who has no token is its administrator.

    Parameters
    ----------
    store : `Store`
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tokens: dict[str, tuple[str, str, str]] = {}

    def token(self, namespace: str, account: str) -> Document:
        """Make a token of a service account, good as long as that is there."""
        found = self._store.get("serviceaccounts", namespace, account)
        if found is None:
            raise Refused(404, "NotFound", f'serviceaccounts "{account}" not found')
        made = uuid.uuid4().hex
        self._tokens[made] = (namespace, account, found["metadata"]["uid"])
        return {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {"creationTimestamp": now()},
            "status": {"token": made},
        }

    def user(self, token: str) -> str | None:
        """Return the service account that a token is of, None where there is no token; raise where it is nobody's."""
        if not token:
            return None
        namespace, account, uid = self._tokens.get(token, ("", "", ""))
        found = self._store.get("serviceaccounts", namespace, account)
        if found is None or found["metadata"]["uid"] != uid:
            raise Refused(401, "Unauthorized", "Unauthorized")
        return f"system:serviceaccount:{namespace}:{account}"

    def may(self, user: str, verb: str, resource: Resource, namespace: str, subresource: str) -> bool:
        """Whether a Role that is bound to a service account allows something in a namespace."""
        what = f"{resource.plural}/{subresource}" if subresource else resource.plural
        wanted = {"apiGroups": resource.group, "resources": what, "verbs": verb}
        return any(all({"*", one} & set(rule.get(key) or []) for key, one in wanted.items()) for rule in self._rules(user, namespace))

    def _rules(self, user: str, namespace: str) -> Iterator[dict[str, Any]]:
        for binding in self._store.all("rolebindings", namespace) if namespace else []:
            subjects = [f"system:serviceaccount:{one.get('namespace', namespace)}:{one['name']}" for one in binding.get("subjects") or []]
            role = self._store.get("roles", namespace, binding["roleRef"]["name"])
            if user in subjects and role is not None:
                yield from role.get("rules") or []


def check_standard(store: Store, namespace: str, pod: Document) -> None:
    """Raise where a pod breaks the security standard of its namespace: of ``restricted`` what one can see.

    Raises
    ------
    Refused
    """
    found = store.get("namespaces", "", namespace)
    labels = (found or {}).get("metadata", {}).get("labels") or {}
    if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
        return
    broken = list(dict.fromkeys(_broken(pod["spec"])))
    if broken:
        name = pod["metadata"].get("name", "")
        raise forbidden(RESOURCES["pods"], name, f'violates PodSecurity "restricted:latest": {", ".join(broken)}')


def _broken(spec: Document) -> Iterator[str]:
    shared = spec.get("securityContext") or {}
    for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
        own, named = container.get("securityContext") or {}, f'container "{container["name"]}" must set securityContext.'
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"allowPrivilegeEscalation != false ({named}allowPrivilegeEscalation=false)"
        if "ALL" not in ((own.get("capabilities") or {}).get("drop") or []):
            yield f'unrestricted capabilities ({named}capabilities.drop=["ALL"])'
        if not own.get("runAsNonRoot", shared.get("runAsNonRoot")):
            yield f"runAsNonRoot != true (pod or {named}runAsNonRoot=true)"
        if own.get("runAsUser", shared.get("runAsUser")) == 0:
            yield "runAsUser=0 (pod must not set runAsUser=0)"
        if (own.get("seccompProfile") or shared.get("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield f'seccompProfile (pod or {named}seccompProfile.type to "RuntimeDefault" or "Localhost")'
    if any("hostPath" in volume for volume in spec.get("volumes") or []):
        yield "restricted volume types (volumes use restricted volume type hostPath)"


def check_policies(store: Store, resource: Resource, namespace: str, document: Document) -> None:
    """Raise where a policy of the cluster refuses an object; of its language only ``has(object.…)`` is understood.

    Raises
    ------
    Refused
    """
    for binding in store.all("validatingadmissionpolicybindings"):
        selector = (binding["spec"].get("matchResources") or {}).get("namespaceSelector", {})
        policy = store.get("validatingadmissionpolicies", "", binding["spec"]["policyName"])
        if policy is None or selector.get("matchLabels", {}).get("kubernetes.io/metadata.name", namespace) != namespace:
            continue
        if not any(resource.plural in rule["resources"] for rule in policy["spec"]["matchConstraints"]["resourceRules"]):
            continue
        for validation in policy["spec"]["validations"]:
            if not _holds(validation["expression"], document):
                name = document["metadata"].get("name", "")
                who = f"ValidatingAdmissionPolicy '{policy['metadata']['name']}' with binding '{binding['metadata']['name']}'"
                raise Refused(422, "Invalid", f'{resource.qualified} "{name}" is forbidden: {who} denied request: {validation["message"]}')


def _holds(expression: str, document: Document) -> bool:
    assert expression.startswith("has(object."), f"the fake cluster does not understand {expression}"
    found: Any = document
    for part in expression.removeprefix("has(object.").removesuffix(")").split("."):
        found = (found or {}).get(part)
    return found is not None
