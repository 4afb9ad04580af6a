"""Signatures: which tensors a model takes and gives, and when one may stand in for another."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import ClassVar, Final

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import Spec
from airflow_dla.specs.spec import spec_field
from airflow_dla.specs.values import integer, optional, sequence_of, text

_Fits = Callable[["TensorSpec", "TensorSpec"], bool]

#: A dimension that may have any length.
ANY: Final = -1


def _dimension(raw: object, where: str) -> int:
    found = ANY if raw is None else integer(raw, where)
    if found < ANY:
        raise InvalidSpec(f"{where} must be a length, or -1 or null for any, got {found}")
    return found


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec(Spec):
    """One tensor of a signature.

    Parameters
    ----------
    name : str
    dtype : str
        As the model's format calls it: ``F32``, ``float32``; compared letter by letter.
    shape : tuple of int, or None
        -1 is any length (read also from null); None is any shape.
    """

    called: ClassVar[str] = "tensor"

    name: str = spec_field(text)
    dtype: str = spec_field(text)
    shape: tuple[int, ...] | None = spec_field(optional(sequence_of(_dimension)), default=None)

    def __str__(self) -> str:
        lengths = "any shape" if self.shape is None else f"[{', '.join('any' if size == ANY else str(size) for size in self.shape)}]"
        return f"{self.dtype} {lengths}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Signature(Spec):
    """What a model takes and gives; empty where nobody said.

    Parameters
    ----------
    inputs, outputs : tuple of `TensorSpec`
        Names are unique on each side.

    Examples
    --------
    >>> Signature.from_mapping({"inputs": [{"name": "x", "dtype": "F32", "shape": [None, 64]}]}).to_mapping()
    {'inputs': [{'name': 'x', 'dtype': 'F32', 'shape': [-1, 64]}]}
    """

    called: ClassVar[str] = "signature"

    inputs: tuple[TensorSpec, ...] = spec_field(sequence_of(TensorSpec.from_mapping), default=())
    outputs: tuple[TensorSpec, ...] = spec_field(sequence_of(TensorSpec.from_mapping), default=())

    def __post_init__(self) -> None:
        for side, tensors in (("inputs", self.inputs), ("outputs", self.outputs)):
            names = [tensor.name for tensor in tensors]
            if len(set(names)) < len(names):
                raise InvalidSpec(f"signature.{side} must have unique names, got {', '.join(names)}")


def compatible(old: Signature, new: Signature) -> list[str]:
    """Return why the callers of one model could not call another in its place.

    Inputs may only become wider and outputs only narrower: a dimension of any length takes
    what one of 64 takes, and what gives 64 gives what *any* promised. A model without a
    signature promised nothing.

    Returns
    -------
    list of str
        Differences; empty when the new one may stand in.

    Examples
    --------
    >>> old = Signature(inputs=(TensorSpec(name="x", dtype="F32", shape=(-1, 64)),))
    >>> compatible(old, Signature(inputs=(TensorSpec(name="x", dtype="F32", shape=(8, 64)),)))
    ["input 'x' was F32 [any, 64], is F32 [8, 64]"]
    """
    inputs = _differences("input", old.inputs, new.inputs, lambda was, now: _covers(now, was))
    outputs = _differences("output", old.outputs, new.outputs, _covers)
    return [*inputs, *outputs]


def _differences(side: str, old: tuple[TensorSpec, ...], new: tuple[TensorSpec, ...], fits: _Fits) -> Iterator[str]:
    before, after = ({tensor.name: tensor for tensor in tensors} for tensors in (old, new))
    if not before:
        return
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if was is None or now is None:
            yield f"{side} {name!r} is {'new' if was is None else 'gone'}"
        elif was.dtype != now.dtype or not fits(was, now):
            yield f"{side} {name!r} was {was}, is {now}"


def _covers(wide: TensorSpec, narrow: TensorSpec) -> bool:
    if wide.shape is None or narrow.shape is None:
        return wide.shape is None
    same_rank = len(wide.shape) == len(narrow.shape)
    return same_rank and all(any_ in {ANY, one} for any_, one in zip(wide.shape, narrow.shape, strict=True))
