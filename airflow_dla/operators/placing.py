"""Where a job may go: the places that can run it, and how its demand says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from airflow_dla.errors import InvalidSpec
from airflow_dla.hooks.settings import Settings
from airflow_dla.specs import PlaceSpec, Request
from airflow_dla.specs.places import IN_PLACE, OF_ANY_HOST, OF_HOST, RUNS_IMAGES, RUNS_WITHOUT_IMAGE


@dataclass(frozen=True, slots=True)
class Placing:
    """Which nodes will do for a job.

    Parameters
    ----------
    node : str or None
        The only one that will do; None where several will.
    labels : mapping of str
        What those several have in common and no other node has.
    in_image : bool
        Whether it may run in an image, which nobody looks into before.
    note : str
        What is worth saying in the task log.
    """

    node: str | None
    labels: Mapping[str, str] = field(default_factory=dict)
    in_image: bool = False
    note: str = ""


def placed(settings: Settings, place: str, image: str | None, where: str) -> Placing:
    """Find the places that can run a job, and say so in a way that allocation and followers understand.

    A place that is named is the one. With ``any``, a job with an image goes to the places that
    run images, engines and clusters; where there are none it runs locally, as its author ran it
    before there were any. A job without an image goes to the local place and to those others
    that have an image of their own.

    Of one place that will do, the job is *pinned* to the node, so that whoever cannot reach
    it knows so before anything is granted; a cluster has many nodes, which have its name as a
    label. Of several places the job carries the label that their nodes have in common; nodes
    that are only declared have it not, and nobody could launch anything there.

    Where Airflow runs on several hosts, those places that every host reaches are preferred: a
    job there is followed by whoever is free. Where there are none this host's label is asked
    for as well, for the job's files lie here, and only processes of this host can follow it.

    Parameters
    ----------
    settings : `Settings`
    place : str
        As the job's policy names it.
    image : str or None
        Of the job's agent.
    where : str
        Named in errors.

    Raises
    ------
    InvalidSpec
        If there is no such place, or none can run the job; says what would do.
    """
    fit = _that_fit(settings, place, image, where)
    in_image = any(found.kind != "local" for found in fit)
    note = "" if in_image or not image else f"Image {image} is not used: the job runs in a local process (no place for images will do)"
    if not settings.one_host:
        fit = [found for found in fit if not found.on_this_host] or fit
    if len(fit) == 1 and fit[0].kind == "kubernetes":
        return Placing(None, {IN_PLACE: fit[0].name}, in_image=in_image)
    if len(fit) == 1:
        return Placing(settings.node_of(fit[0]), in_image=in_image, note=note)
    common = {RUNS_IMAGES: "yes"} if image else {RUNS_WITHOUT_IMAGE: "yes"}
    if settings.one_host:
        return Placing(None, common, in_image=in_image)
    bound = {OF_HOST: settings.node} if fit[0].on_this_host else {OF_ANY_HOST: "yes"}
    return Placing(None, {**common, **bound}, in_image=in_image)


def refuse_shares(request: Request | None, placing: Placing, where: str) -> None:
    """Refuse a share of a GPU in a cluster, before it waits for what no node there hands out.

    Raises
    ------
    InvalidSpec
        With what would do.
    """
    gpu = None if request is None else request.amounts.get("gpu")
    if IN_PLACE in placing.labels and gpu is not None and not (gpu.minimum.is_integer() and gpu.wanted.is_integer()):
        raise InvalidSpec(
            f"{where}: gpu is {gpu.to_plain()}, and place {placing.labels[IN_PLACE]!r} is a cluster, which hands out whole devices; ask "
            "for gpu: 1, or for a slice such as mig-1g.10gb: 1"
        )


def _that_fit(settings: Settings, place: str, image: str | None, where: str) -> list[PlaceSpec]:
    named = [found for found in settings.places if place in {"any", found.name}]
    if not named:
        known = ", ".join(found.name for found in settings.places) or "none"
        raise InvalidSpec(f"{where}: policy.place is {place!r}; the places of connection {settings.name!r} are {known}, or say 'any'")
    containers = [found for found in named if found.kind != "local"]
    local = [found for found in named if found.kind == "local"]
    fit = (containers or local) if image else local + [found for found in containers if found.image]
    if not fit:
        raise InvalidSpec(
            f"{where}: the job has no image, and neither has place {' or '.join(found.name for found in containers)}; "
            "name one with agent(image=…), or give the place an image in the connection"
        )
    return fit
