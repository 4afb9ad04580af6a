"""Tests of where a job may go."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_dla.errors import InvalidSpec
from airflow_dla.hooks.places import LOCAL
from airflow_dla.hooks.settings import Settings
from airflow_dla.operators.placing import Placing, placed, refuse_shares
from airflow_dla.specs import PlaceSpec, Request

BARE = PlaceSpec(name="bare", kind="docker", url="unix:///run/a.sock")
OWN = PlaceSpec(name="own", kind="docker", url="unix:///run/b.sock", image="base")
FAR = PlaceSpec(name="far", kind="docker", url="tcp://gpu1:2376", image="base", helper="base")
CLUSTER = PlaceSpec(name="k8s", kind="kubernetes", in_cluster=True)
BASED = PlaceSpec(name="eks", kind="kubernetes", kubeconfig="/k", image="base")
FARTHER = PlaceSpec(name="farther", kind="docker", url="ssh://dla@gpu2", image="base", helper="base")


def settings(*places: PlaceSpec, one_host: bool = True) -> Settings:
    """Return a workspace of such places on host ``h``."""
    return Settings("lab", "sqlite://", "/store", Path("/jobs"), "h", places=places, one_host=one_host)


@pytest.mark.parametrize(
    ("places", "asked", "image", "expected"),
    [
        ((LOCAL,), "any", None, Placing("h")),
        ((LOCAL,), "local", None, Placing("h")),
        ((LOCAL, BARE), "any", None, Placing("h")),
        ((LOCAL, BARE), "local", "img", Placing("h")),
        ((LOCAL, BARE), "any", "img", Placing("bare", in_image=True)),
        ((LOCAL, BARE), "bare", "img", Placing("bare", in_image=True)),
        ((LOCAL, OWN), "own", None, Placing("own", in_image=True)),
        ((OWN,), "any", None, Placing("own", in_image=True)),
        ((LOCAL, OWN), "any", None, Placing(None, {"imageless": "yes"}, in_image=True)),
        ((LOCAL, BARE, OWN), "any", "img", Placing(None, {"images": "yes"}, in_image=True)),
        ((BARE, OWN), "any", None, Placing("own", in_image=True)),
        ((LOCAL, CLUSTER), "any", "img", Placing(None, {"place": "k8s"}, in_image=True)),
        ((LOCAL, CLUSTER), "any", None, Placing("h")),
        ((CLUSTER, BASED), "any", None, Placing(None, {"place": "eks"}, in_image=True)),
        ((LOCAL, BASED), "any", None, Placing(None, {"imageless": "yes"}, in_image=True)),
        ((BARE, CLUSTER), "any", "img", Placing(None, {"images": "yes"}, in_image=True)),
    ],
)
def test_where_a_job_may_go(places: tuple[PlaceSpec, ...], asked: str, image: str | None, expected: Placing) -> None:
    """Of one place it is pinned to the node, of several it asks for their label."""
    found = placed(settings(*places), asked, image, "task 't'")
    assert (found.node, found.labels, found.in_image) == (expected.node, expected.labels, expected.in_image)


def test_on_several_hosts_a_job_stays_on_its_own() -> None:
    """Nodes are bound to their host, and only processes of this one can follow a job here."""
    spread = settings(LOCAL, BARE, OWN, one_host=False)
    assert placed(spread, "bare", "img", "t").node == "bare-h"
    assert placed(spread, "any", "img", "t").labels == {"images": "yes", "host": "h"}
    assert placed(spread, "any", None, "t").labels == {"imageless": "yes", "host": "h"}


def test_on_several_hosts_a_job_goes_where_every_host_can_follow() -> None:
    """Only where there is no such place does it stay on this one."""
    spread = settings(LOCAL, OWN, FAR, FARTHER, one_host=False)
    assert placed(spread, "any", "img", "t").labels == {"images": "yes", "any-host": "yes"}
    assert placed(spread, "far", None, "t").node == "far"
    assert placed(settings(LOCAL, OWN, FAR, one_host=False), "any", "img", "t").node == "far"
    assert placed(settings(LOCAL, OWN, FAR), "any", "img", "t").labels == {"images": "yes"}
    assert placed(settings(LOCAL, OWN, CLUSTER, one_host=False), "any", "img", "t").labels == {"place": "k8s"}
    assert placed(settings(FAR, CLUSTER, one_host=False), "any", "img", "t").labels == {"images": "yes", "any-host": "yes"}
    assert placed(spread, "any", "img", "t").labels.items() <= spread.labels_of(FAR).items()
    assert not placed(spread, "any", "img", "t").labels.items() <= spread.labels_of(OWN).items()


@pytest.mark.parametrize("one_host", [True, False])
@pytest.mark.parametrize("image", [None, "img"])
@pytest.mark.parametrize("places", [(LOCAL, OWN), (LOCAL, BARE, OWN), (BARE, OWN), (LOCAL, CLUSTER)])
def test_the_nodes_that_have_the_labels_are_those_that_will_do(places: tuple[PlaceSpec, ...], image: str | None, one_host: bool) -> None:
    """A place's node carries a label exactly where it could run the job."""
    workspace = settings(*places, one_host=one_host)
    found = placed(workspace, "any", image, "t")
    for place in places:
        carried = workspace.labels_of(place)
        fits = place.kind != "local" if image else place.kind == "local" or place.image is not None
        if found.node is None:
            assert fits == (found.labels.items() <= carried.items())
        else:
            assert fits == (found.node == workspace.node_of(place))


def test_an_image_that_is_not_used_is_said() -> None:
    """The job runs as it did before there were images."""
    assert "Image img is not used" in placed(settings(LOCAL), "any", "img", "t").note
    assert placed(settings(LOCAL, BARE), "any", "img", "t").note == ""


@pytest.mark.parametrize(
    ("places", "asked", "said"),
    [
        ((LOCAL, BARE), "cluster", r"task 't': policy.place is 'cluster'; the places of connection 'lab' are local, bare, or say 'any'"),
        ((), "any", "the places of connection 'lab' are none"),
        ((LOCAL, BARE), "bare", r"the job has no image, and neither has place bare; name one with agent\(image=…\)"),
        ((BARE,), "any", "and neither has place bare"),
    ],
)
def test_a_job_that_no_place_can_run_is_refused(places: tuple[PlaceSpec, ...], asked: str, said: str) -> None:
    """Before it is opened; the message says what there is."""
    with pytest.raises(InvalidSpec, match=said):
        placed(settings(*places), asked, None, "task 't'")


def test_a_share_of_a_gpu_in_a_cluster_is_refused() -> None:
    """No device plugin hands it out; whole ones, and places of other kinds, are fine."""
    there, here = Placing(None, {"place": "k8s"}), Placing("gpu1")
    for gpu in ("0.5", "0.5-1"):
        refuse_shares(Request.from_mapping({"gpu": gpu}), here, "t")
        with pytest.raises(InvalidSpec, match=r"t: request: gpu is .*, and place .k8s. is a cluster, which hands out whole devices; ask"):
            refuse_shares(Request.from_mapping({"gpu": gpu}), there, "t: request")
    for request in (None, Request.from_mapping({"gpu": "0-2"}), Request.from_mapping({"cpu": 0.5})):
        refuse_shares(request, there, "t")
