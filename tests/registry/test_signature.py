"""Signatures: what is read, and what may stand in for what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dla.errors import InvalidSpec
from airflow_dla.registry import Signature, TensorSpec, compatible

_shapes = st.none() | st.lists(st.integers(-1, 4), max_size=3).map(tuple)
_tensors = st.builds(TensorSpec, name=st.sampled_from("abc"), dtype=st.sampled_from(["F32", "I64"]), shape=_shapes)
_sides = st.lists(_tensors, max_size=3, unique_by=lambda tensor: tensor.name).map(tuple)
_signatures = st.builds(Signature, inputs=_sides, outputs=_sides)


def takes(shape: tuple[int, ...] | None, dtype: str = "F32", name: str = "x") -> Signature:
    """Return the signature of a model with one input."""
    return Signature(inputs=(TensorSpec(name=name, dtype=dtype, shape=shape),))


def gives(shape: tuple[int, ...] | None) -> Signature:
    """Return the signature of a model with one output."""
    return Signature(outputs=(TensorSpec(name="y", dtype="F32", shape=shape),))


@given(_signatures)
def test_a_signature_survives_its_mapping(signature: Signature) -> None:
    """What is written is read back as the same signature."""
    assert Signature.from_mapping(signature.to_mapping()) == signature


@given(_signatures)
def test_a_signature_may_stand_in_for_itself(signature: Signature) -> None:
    """Compatibility is reflexive."""
    assert compatible(signature, signature) == []


@given(*[st.builds(lambda x, y: Signature(inputs=takes(x).inputs, outputs=gives(y).outputs), _shapes, _shapes)] * 3)
def test_compatibility_is_transitive(first: Signature, second: Signature, third: Signature) -> None:
    """What may follow a successor may follow the first."""
    if not compatible(first, second) and not compatible(second, third):
        assert compatible(first, third) == []


@pytest.mark.parametrize(
    ("old", "new", "fits"),
    [
        (takes((8, 64)), takes((-1, 64)), True),
        (takes((-1, 64)), takes((8, 64)), False),
        (takes((8, 64)), takes(None), True),
        (takes(None), takes((8, 64)), False),
        (takes((64,)), takes((1, 64)), False),
        (takes((64,)), takes((64,), dtype="F16"), False),
        (takes((64,)), takes((64,), name="z"), False),
        (takes((64,)), Signature(), False),
        (Signature(), takes((64,)), True),
        (gives((-1, 10)), gives((8, 10)), True),
        (gives((8, 10)), gives((-1, 10)), False),
    ],
)
def test_inputs_may_widen_and_outputs_may_narrow(old: Signature, new: Signature, *, fits: bool) -> None:
    """Anything else would break a caller."""
    assert (compatible(old, new) == []) is fits


def test_differences_are_said() -> None:
    """Each names the tensor, what it was and what it is."""
    new = Signature(inputs=(TensorSpec(name="z", dtype="F32"),))
    assert compatible(takes((64,)), new) == ["input 'x' is gone", "input 'z' is new"]


@pytest.mark.parametrize("shape", [[-2], ["many"], 64, [1.5]])
def test_a_shape_is_a_list_of_lengths(shape: object) -> None:
    """Anything else is refused with its place."""
    with pytest.raises(InvalidSpec, match="shape"):
        TensorSpec.from_mapping({"name": "x", "dtype": "F32", "shape": shape})
