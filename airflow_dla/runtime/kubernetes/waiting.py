"""Why a pod is not there yet, in one sentence, and whether it ever will be.

A cluster waits for ever: for a node that is too small, an image that nobody has, a claim that
was never made. What can come by itself is waited for. What cannot is refused, so that its
author is told; what another node may have is a loss there, and another attempt follows.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from airflow_dla.errors import DlaError, InvalidSpec, JobLost, LaunchRefused, NotReady
from airflow_dla.runtime.facts import seconds
from airflow_dla.runtime.kubernetes.facts import MAIN, Container, Document, Pod
from airflow_dla.runtime.kubernetes.quantities import quantity
from airflow_dla.runtime.starting import why_not_started
from airflow_dla.specs import ExitReason


class Outlook(enum.StrEnum):
    """What can be hoped for: it waits, its node cannot, or the place never will."""

    WAITS = "waits"
    LOST = "lost"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a pod is not there.

    Parameters
    ----------
    text : str
        One sentence: what, where, and what would do.
    outlook : `Outlook`
    """

    text: str
    outlook: Outlook = Outlook.WAITS

    def error(self, place: str) -> DlaError:
        """Return what a launch on a place raises; a wait is told beside the place's name anyway."""
        kinds: Mapping[Outlook, type[DlaError]] = {Outlook.LOST: JobLost, Outlook.REFUSED: LaunchRefused}
        return kinds[self.outlook](f"place {place}: {self.text}") if self.outlook in kinds else NotReady(self.text)


#: How long what may pass is waited for, s: what another component makes; a registry that does not answer; a node that has no room.
_SOON_S: Final = 60.0
_AGAIN_S: Final = 15.0
_REGISTRY_S: Final = 300.0
_TRIES: Final = 2
_SHOWN: Final = 400

Rule = tuple[re.Pattern[str], Outlook, str]


def waiting(pod: Pod | None, document: Document | None, events: Sequence[Document] = (), *, now: float, program: str = "") -> Wait:
    """Say why a pod is not there yet.

    Parameters
    ----------
    pod : `Pod` or None
        None where the cluster has made none.
    document : mapping or None
        Its Job.
    events : sequence of mapping
        Of the Job and of its pod, in any order, as far as somebody looked.
    now : float
        Seconds since the epoch.
    program : str
        First word of the command line, for one that cannot be started.

    Examples
    --------
    >>> waiting(None, {"spec": {"suspend": True}}, now=0.0)
    Wait(text='its Job is suspended', outlook=<Outlook.WAITS: 'waits'>)
    """
    told = sorted(events, key=_at)
    if pod is None:
        return _unmade(document or {}, told)
    if not pod.node:
        return _unscheduled(pod, told, now)
    broken = next((found for name, found in sorted(pod.containers.items(), key=_main_last) if _is_stuck(found)), None)
    if broken is not None:
        return _stuck(pod, broken, told, now, program)
    return _mounting(pod, told, now)


def _main_last(named: tuple[str, Container]) -> bool:
    return named[0] == MAIN


def _at(event: Document) -> float:
    """Return when an event was seen last."""
    series = event.get("series") or {}
    return max(seconds(event.get("lastTimestamp")), seconds(series.get("lastObservedTime")), seconds(event.get("eventTime")))


def _times(event: Document) -> int:
    return max(int(event.get("count") or 1), int((event.get("series") or {}).get("count") or 1))


def _last(events: Sequence[Document], *reasons: str) -> str:
    """Return the words of the newest event of a kind."""
    return next((str(event.get("message") or "") for event in reversed(events) if event.get("reason") in reasons), "")


def _brief(words: str) -> str:
    return " ".join(words.split())[:_SHOWN]


# --- no pod --------------------------------------------------------------------------


def _rule(pattern: str, outlook: Outlook, advice: str) -> Rule:
    return re.compile(pattern, re.IGNORECASE), outlook, advice


_OWNER: Final = "ask the place's owner"
#: What an API server says of a pod that it does not take, and what would do.
_FORBIDDEN: Final[tuple[Rule, ...]] = (
    _rule(r"failed quota: .*must specify", Outlook.REFUSED, "ask for what the namespace's quota counts: request={'cpu': …, 'memory': …}"),
    _rule(r"exceeded quota", Outlook.WAITS, "it waits until others of the namespace have ended"),
    _rule(r"failed calling webhook|webhook.*(timeout|deadline)|internal error", Outlook.WAITS, "it is tried again"),
    _rule(r"admission webhook .* denied|ValidatingAdmissionPolicy", Outlook.REFUSED, f"do what it says, or {_OWNER} to change the rule"),
    _rule(r"violates PodSecurity", Outlook.REFUSED, f"leave that out, or {_OWNER} for a namespace where it is allowed"),
    _rule(
        r"(maximum|minimum) \S+ usage per|limit to request ratio", Outlook.REFUSED, "ask for as much as the namespace's LimitRange takes"
    ),
    _rule(r"serviceaccount .*not found", Outlook.REFUSED, f"name one that the namespace has, or {_OWNER} to make it"),
    _rule(r"no PriorityClass|RuntimeClass .*not found", Outlook.REFUSED, f"name one that the cluster has, or {_OWNER} to make it"),
    _rule(r"is being terminated|namespaces? .*not found", Outlook.REFUSED, "name another namespace for the place"),
    _rule(r" is invalid: | is forbidden: |cannot set blockOwnerDeletion", Outlook.REFUSED, "correct what it names"),
)
_QUOTA: Final = re.compile(r"requested: (?P<requested>.*?), used: (?P<used>.*?), limited: (?P<limited>.*?)$")


def _unmade(document: Document, events: Sequence[Document]) -> Wait:
    if (document.get("spec") or {}).get("suspend"):
        return Wait("its Job is suspended")
    words = _last(events, "FailedCreate")
    if not words:
        return Wait("its Job is created, and no pod is yet")
    said = _brief(words.removeprefix("Error creating: "))
    outlook, advice = next(((outlook, advice) for pattern, outlook, advice in _FORBIDDEN if pattern.search(said)), (Outlook.WAITS, ""))
    if "exceeded quota" in said and _is_beyond(said):
        outlook, advice = Outlook.REFUSED, "ask for less, or have the quota raised: it is more than the namespace may have at all"
    return Wait(f"the cluster makes no pod: {said}{f'; {advice}' if advice else ''}", outlook)


def _is_beyond(said: str) -> bool:
    """Return whether more is asked for than a quota is in all: waiting is no use."""
    match = _QUOTA.search(said)
    if match is None:
        return False
    try:
        requested, limited = _amounts(match["requested"]), _amounts(match["limited"])
    except InvalidSpec:
        return False
    return any(requested[name] > limited.get(name, requested[name]) for name in requested)


def _amounts(written: str) -> dict[str, float]:
    pairs = (part.strip().partition("=") for part in written.split(","))
    return {name: quantity(amount, name) for name, _, amount in pairs if amount}


# --- no node -------------------------------------------------------------------------

_NO_CLAIM: Final = re.compile(r'persistentvolumeclaim "(?P<name>[^"]+)" not found')
_OURS: Final = re.compile(r"waiting for ephemeral volume controller")
#: What the scheduler says of nodes that removing other pods would not make fit.
_HELPLESS: Final = re.compile(r"preemption: 0/(?P<all>\d+) nodes are available: (?P<never>\d+) Preemption is not helpful")
_PREEMPTION: Final = re.compile(r" (?=no new claims to deallocate|preemption: )")
_LACKS: Final = re.compile(r"Insufficient (?P<what>[\w./-]+)")
#: What may change of a node without anybody asking for less: it is cordoned, drained, or away.
_PASSING: Final = re.compile(r"unschedulable|untolerated taint|volume node affinity|unbound|NodeUnschedulable|NodeReady")


def _unscheduled(pod: Pod, events: Sequence[Document], now: float) -> Wait:
    condition = pod.conditions.get("PodScheduled")
    if pod.gates:
        return Wait(f"its pod is held back by scheduling gate {', '.join(pod.gates)} until whoever set it lets it go")
    if condition is not None and condition.reason == "SchedulingGated":
        return Wait("its pod waits for the scheduler")
    words = _brief((condition.message if condition is not None else "") or _last(events, "FailedScheduling"))
    if not words:
        return Wait("its pod waits for the scheduler")
    said, since = _PREEMPTION.split(words)[0], condition.at if condition is not None and condition.at else pod.created_at
    claim = _NO_CLAIM.search(words)
    if claim is not None and not _OURS.search(words):
        advice = "make it in the place's namespace, or name another in agent(volumes=…)"
        return Wait(f"claim {claim['name']!r} is not there; {advice}", _after(now, since, _SOON_S, Outlook.REFUSED))
    grows = bool(_last(events, "TriggeredScaleUp"))
    outlook, advice = (Outlook.WAITS, "nodes are being added") if grows else _ever(pod, words, _after(now, since, _SOON_S, Outlook.LOST))
    return Wait(f"no node has room for it: {said.rstrip('. ')}{f'; {advice}' if advice else ''}", outlook)


def _ever(pod: Pod, words: str, patience: Outlook) -> tuple[Outlook, str]:
    """Return whether a node may ever have it; a scheduler that adds nodes is given its time."""
    helpless = _HELPLESS.search(words)
    if helpless is None or helpless["all"] != helpless["never"]:
        return Outlook.WAITS, "it waits until others have ended" if _LACKS.search(words) else ""
    if pod.pinned:
        # Where it was granted it cannot be, which the ledger did not know: another grant may be elsewhere.
        return patience, "its node cannot have it; another will be looked for" if patience is Outlook.LOST else ""
    if _PASSING.search(words) or patience is Outlook.WAITS:
        return Outlook.WAITS, ""
    return Outlook.REFUSED, "none ever will, and none is added; ask for less, or for other labels"


def _after(now: float, since: float, patience_s: float, outlook: Outlook) -> Outlook:
    """Return an outlook once something has lasted, before that only a wait."""
    return outlook if since and now - since >= patience_s else Outlook.WAITS


# --- no container --------------------------------------------------------------------

_PULLING: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"})
_CONFIG: Final = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError", "PostStartHookError"})
_MISSPELT: Final = re.compile(
    r"invalid reference format|couldn't parse image|InvalidImageName|failed to parse image reference", re.IGNORECASE
)
_REFUSED_BY: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (
        re.compile(r"unauthorized|denied|authentication required|authorization failed|no basic auth|40[13] ", re.IGNORECASE),
        "give the place image_pull_secrets with a login that may read it, or name another image",
    ),
    (
        re.compile(r"not found|manifest unknown|does not exist|404 ", re.IGNORECASE),
        "correct its name or tag, or push it",
    ),
    (
        re.compile(r"no match for platform|exec format", re.IGNORECASE),
        "push it for the nodes' architecture, or ask for nodes of its own with labels",
    ),
)
_AWAY: Final = re.compile(
    r"no such host|timeout|timed out|connection refused|unreachable|TLS|x509|EOF|no route|50\d |temporar", re.IGNORECASE
)
_BACK_OFF: Final = re.compile(r'^Back-off pulling image "[^"]*":? ?(ErrImagePull: )?')
_MISSING_SECRET: Final = re.compile(r'(secret|configmap) "[^"]+" not found', re.IGNORECASE)


def _is_stuck(container: Container) -> bool:
    return container.state == "waiting" and container.reason in _PULLING | _CONFIG


def _stuck(pod: Pod, container: Container, events: Sequence[Document], now: float, program: str) -> Wait:
    scheduled = pod.conditions.get("PodScheduled")
    since_s = now - (scheduled.at if scheduled is not None and scheduled.at else pod.created_at)
    if container.reason in _PULLING:
        return _unpulled(pod, container, events, since_s)
    said = _brief(container.message or container.reason)
    if _MISSING_SECRET.search(said):
        # Ours are made before it may run: somebody deleted one.
        return Wait(f"its container waits: {said}; a new attempt makes it again", Outlook.LOST if since_s >= _SOON_S else Outlook.WAITS)
    reason, message = why_not_started(said, program or "its program")
    outlook = Outlook.LOST if reason is ExitReason.LOST else Outlook.REFUSED
    return Wait(f"its container could not start on node {pod.node}: {message}", outlook)


def _unpulled(pod: Pod, container: Container, events: Sequence[Document], since_s: float) -> Wait:
    failed = [event for event in events if _is_failed_pull(event)]
    words = _BACK_OFF.sub("", container.message) or _last(failed, "Failed") or container.reason
    said = _brief(words)
    if container.reason == "InvalidImageName" or _MISSPELT.search(said):
        return Wait(f"its image has no name that a registry could know: {said}; correct it", Outlook.REFUSED)
    if container.reason == "ErrImageNeverPull":
        advice = "import it there, or leave image_pull_policy out"
        return Wait(f"node {pod.node} has not its image and may not pull it: {said}; {advice}", Outlook.REFUSED)
    tries = max(map(_times, failed), default=0)
    again = tries >= _TRIES or (container.reason == "ImagePullBackOff" and since_s >= _AGAIN_S)
    advice = next((advice for pattern, advice in _REFUSED_BY if pattern.search(said)), "")
    if advice and not _AWAY.search(said):
        return Wait(f"its image cannot be pulled: {said}; {advice}", Outlook.REFUSED if again else Outlook.WAITS)
    hope = Outlook.REFUSED if since_s >= _REGISTRY_S else Outlook.WAITS
    advice = f"let node {pod.node} reach the registry, or name an image that it has"
    return Wait(f"its image's registry cannot be reached from node {pod.node}: {said}; {advice}", hope)


def _is_failed_pull(event: Document) -> bool:
    return event.get("reason") == "Failed" and str(event.get("message") or "").startswith("Failed to pull image")


# --- nothing wrong, or a volume ------------------------------------------------------

_UNMOUNTED: Final = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume"})
_NO_FOLDER: Final = re.compile(r"hostPath type check failed: (?P<path>\S+) is not a directory")


def _mounting(pod: Pod, events: Sequence[Document], now: float) -> Wait:
    failed = next((event for event in reversed(events) if event.get("reason") in _UNMOUNTED), None)
    if failed is not None and pod.main.state == "waiting" and not pod.fetches:
        return _unmounted(pod, failed, now)
    pulling = _last(events, "Pulling")
    if pulling and not _last(events[_index(events, pulling) :], "Pulled", "Started"):
        return Wait(f"{_brief(pulling[:1].lower() + pulling[1:])} on node {pod.node}")
    return Wait(f"its pod is started on node {pod.node}")


def _unmounted(pod: Pod, event: Document, now: float) -> Wait:
    words = _brief(str(event.get("message") or ""))
    folder = _NO_FOLDER.search(words)
    if folder is None:
        return Wait(f"a volume cannot be mounted on node {pod.node}: {words}")
    advice = f"make {folder['path']} there, or ask with labels for nodes that have it"
    began = seconds(event.get("firstTimestamp")) or pod.created_at
    return Wait(f"a folder cannot be mounted on node {pod.node}: {words}; {advice}", _after(now, began, _SOON_S, Outlook.REFUSED))


def _index(events: Sequence[Document], message: str) -> int:
    return max(number for number, event in enumerate(events) if event.get("message") == message)


def trouble(pod: Pod) -> str:
    """Return what stands in the way of a pod that runs, for the task log; empty where nothing does.

    Examples
    --------
    >>> trouble(Pod(name="p", phase="Running"))
    ''
    """
    silent = pod.unreachable
    if silent is not None:
        return f"node {pod.node} does not answer ({silent.reason}); what runs there may run on, and holds its grant until it is gone"
    return ""
