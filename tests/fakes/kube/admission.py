"""What stands between a request and the store: who may do what, how much, and what webhooks say."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fakes.kube.amounts import quantity, requests_of, written
from fakes.kube.resources import Refused, Resource, forbidden
from fakes.kube.store import Store

#: Returns why a webhook refuses a document; it may change it.
Webhook = Callable[[dict[str, Any]], str | None]

_ENDED = ("Succeeded", "Failed")


@dataclass(slots=True)
class Rules:
    """What a test decides about the server's mood.

    Parameters
    ----------
    user : str
        Whom the server takes every caller for.
    tokens : set of str
        That it takes; any caller will do where it is empty.
    denied : set of str
        ``VERB PLURAL`` or ``VERB PLURAL/SUBRESOURCE``, each ``*`` for all.
    webhooks : list of tuples
        Name, plural, HTTP status, function.
    """

    user: str = "system:serviceaccount:airflow:dla"
    tokens: set[str] = field(default_factory=set)
    denied: set[str] = field(default_factory=set)
    webhooks: list[tuple[str, str, int, Webhook]] = field(default_factory=list)
    _answers: deque[Refused] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def throttle(self, times: int = 1, retry_after_s: int = 1) -> None:
        """Tell the next callers to come later."""
        refused = Refused(
            429, "TooManyRequests", "Too many requests, please try again later.",
            details={"retryAfterSeconds": retry_after_s}, headers={"Retry-After": str(retry_after_s)},
        )  # fmt: skip
        self.answer_next(refused, times)

    def answer_next(self, refused: Refused, times: int = 1) -> None:
        """Refuse the next requests, whatever they are."""
        self._answers.extend([refused] * times)

    def deny(self, verb: str, what: str) -> None:
        """Take a permission away: ``deny("create", "pods/exec")``."""
        self.denied.add(f"{verb} {what}")

    def admit(self, authorization: str | None) -> str:
        """Raise what stands before any request, throttling and unknown callers; return the token."""
        with self._lock:
            if self._answers:
                raise self._answers.popleft()
        token = (authorization or "").removeprefix("Bearer ")
        if self.tokens and token not in self.tokens:
            raise Refused(401, "Unauthorized", "Unauthorized")
        return token

    def may(self, verb: str, plural: str, subresource: str = "") -> bool:
        """Whether the permission was not taken away."""
        what = f"{plural}/{subresource}" if subresource else plural
        return not {f"{verb} {what}", f"* {what}", f"{verb} *", "* *"} & self.denied

    def ask_webhooks(self, resource: Resource, document: dict[str, Any]) -> None:
        """Raise what a webhook says against a document."""
        for name, plural, code, asked in self.webhooks:
            if plural in ("*", resource.plural) and (said := asked(document)):
                raise Refused(code, "", f'admission webhook "{name}" denied the request: {said}')


def check_quota(store: Store, resource: Resource, namespace: str, document: Mapping[str, Any]) -> None:
    """Raise where an object would exceed a quota of its namespace; count it otherwise."""
    asked = _charged(resource, document)
    name = document["metadata"].get("name") or document["metadata"].get("generateName", "")
    for quota in store.all("resourcequotas", namespace):
        hard = {what: quantity(amount) for what, amount in quota["spec"].get("hard", {}).items()}
        used = dict.fromkeys(hard, 0.0)
        for other in store.all(resource.plural, namespace):
            if (other.get("status") or {}).get("phase") not in _ENDED:
                for what, amount in _charged(resource, other).items():
                    used[what] = used.get(what, 0.0) + amount
        lacking = sorted(
            what for what in hard if what.startswith(("requests.", "limits.")) and resource.plural == "pods" and what not in asked
        )
        if lacking:
            raise forbidden(resource, name, f"failed quota: {quota['metadata']['name']}: must specify {','.join(lacking)}")
        over = sorted(what for what in hard if what in asked and used[what] + asked[what] > hard[what])
        if over:
            three = [",".join(f"{what}={written(table[what])}" for what in over) for table in (asked, used, hard)]
            words = f"exceeded quota: {quota['metadata']['name']}, requested: {three[0]}, used: {three[1]}, limited: {three[2]}"
            raise forbidden(resource, name, words)


def _charged(resource: Resource, document: Mapping[str, Any]) -> dict[str, float]:
    counted = {f"count/{resource.qualified}": 1.0}
    if resource.plural != "pods":
        return counted | {resource.plural: 1.0}
    requests, limits = requests_of(document["spec"], "requests"), requests_of(document["spec"], "limits")
    return (
        counted
        | {"pods": 1.0}
        | {f"requests.{name}": amount for name, amount in requests.items()}
        | {name: amount for name, amount in requests.items() if name in ("cpu", "memory")}
        | {f"limits.{name}": amount for name, amount in limits.items()}
    )
