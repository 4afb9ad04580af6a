"""GPU devices and CPU ids."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_dla.allocation.devices import Devices, charged_cpus, hand_out_cpus


def test_a_share_goes_to_the_fullest_device_that_holds_it():
    """0.3 goes beside 0.6, not beside 0.2; whole devices stay whole."""
    devices = Devices([1.0, 0.8, 0.4])
    assert devices.take(0, 0.3)
    assert devices.seats == {0: 2}
    assert devices.whole_left == 1


def test_a_whole_gpu_needs_an_idle_device():
    """Shares do not add up to a whole, and a promise is kept."""
    devices = Devices([1.0, 0.5, 0.5])
    assert not devices.take(0, 2.0)
    assert devices.take(1, 1.0)
    assert not devices.take(2, 0.75)
    assert devices.hand_out() == {1: (0,)}


def test_what_cannot_grow_keeps_what_it_has():
    """A resize that fails changes nothing."""
    devices = Devices([1.0, 1.0])
    devices.take(0, 0.5)
    devices.take(1, 1.0)
    assert not devices.resize(0, 2.0)
    assert (devices.seats, devices.promised, devices.whole_left) == ({0: 0}, {1: 1}, 0)
    assert devices.resize(0, 1.0)
    assert devices.hand_out() == {1: (0,), 0: (1,)}


def test_a_share_may_be_given_a_seat():
    """It goes where it is told if it fits there; an idle device that was promised is not free."""
    devices = Devices([1.0, 0.8, 0.4])
    assert devices.take(0, 0.3, seat=1)
    assert devices.take(1, 1.0)
    assert devices.take(2, 0.3, seat=0)
    assert devices.seats == {0: 1, 2: 2}
    assert devices.unpromised() == pytest.approx([0.0, 0.5, 0.1])


def test_the_widest_share_counts_ones_own():
    """A demand may have what it has, and what is free beside it."""
    devices = Devices([0.75, 0.5])
    devices.take(0, 0.25)
    assert devices.widest(0) == pytest.approx(0.75)


def test_what_is_dropped_is_free_again():
    """Resizing to nothing frees the device."""
    devices = Devices([1.0])
    devices.take(0, 0.5)
    assert devices.resize(0, 0.0)
    assert devices.whole_left == 1


def test_whole_cpus_get_idle_ids_while_there_are_some():
    """The larger chooses first; then the least charged are shared."""
    assert hand_out_cpus([4, 5, 6], [0.0] * 3, [0.5, 2.0, 0.5, 1.0]) == [(4,), (4, 5), (5,), (6,)]


@settings(max_examples=60, deadline=None)
@given(amounts=st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5, 3.0, 9.0]), max_size=8), taken=st.integers(0, 4))
def test_as_many_ids_as_cpus_rounded_up(amounts: list[float], taken: int):
    """Every grant has its own ids, each once; whole grants share none while the sum fits."""
    ids = [3, 1, 4, 8]
    chosen = hand_out_cpus(ids, [1.0] * taken + [0.0] * (4 - taken), amounts)
    assert [len(own) for own in chosen] == [min(4, -int(-amount // 1)) for amount in amounts]
    assert all(set(own) <= set(ids) and len(set(own)) == len(own) for own in chosen)
    if all(amount == int(amount) for amount in amounts) and sum(amounts) + taken <= 4:
        assert len({cpu for own in chosen for cpu in own}) == sum(amounts)


def test_live_grants_charge_their_ids():
    """1.5 CPUs on two ids are 0.75 on each; ids of no concern are left out."""
    assert charged_cpus([0, 1, 2], [((0, 1), 1.5), ((1, 9), 1.0)]) == [0.75, 1.25, 0.0]
