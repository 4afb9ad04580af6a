"""Gates: what a model's metrics must satisfy before it may be used."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from airflow_dla.errors import InvalidSpec

_RULE = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")
_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_ARITHMETIC: Final[Mapping[type[ast.operator], Callable[[float, float], float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True, slots=True)
class Judgement:
    """One rule of a gate and what came of it.

    Parameters
    ----------
    expression, rule : str
        ``"accuracy - champion.accuracy"`` and ``">= 0"``.
    value : float or None
        None when the rule was skipped.
    held : bool
    """

    expression: str
    rule: str
    value: float | None
    held: bool

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.expression} {self.rule}: skipped, there is nothing to compare with"
        return f"{self.expression} = {self.value:g}, required {self.rule}: {'held' if self.held else 'NOT held'}"

    def to_mapping(self) -> dict[str, Any]:
        """Write it for a report."""
        return {"expression": self.expression, "rule": self.rule, "value": self.value, "held": self.held}


def judge(require: Mapping[str, Any], metrics: Mapping[str, float], *, left_out: Collection[str] = ()) -> tuple[Judgement, ...]:
    """Judge metrics by the rules of a gate.

    Parameters
    ----------
    require : mapping of expression to rule
        ``{"accuracy": ">= 0.95", "accuracy - champion.accuracy": ">= 0"}``
    metrics : mapping of float
    left_out : collection of str
        Inputs that were missing and allowed to be; a rule that names a metric of one
        (``champion.…``) is skipped and holds.

    Raises
    ------
    InvalidSpec
        If an expression or rule cannot be read, or names a metric that was not measured.

    Examples
    --------
    >>> [str(one) for one in judge({"accuracy": ">= 0.95"}, {"accuracy": 0.97})]
    ['accuracy = 0.97, required >= 0.95: held']
    >>> judge({"accuracy - champion.accuracy": ">= 0"}, {"accuracy": 0.97}, left_out=["champion"])[0].held
    True
    """
    return tuple(_judge(expression, str(rule), metrics, left_out) for expression, rule in require.items())


def _judge(expression: str, rule: str, metrics: Mapping[str, float], left_out: Collection[str]) -> Judgement:
    match = _RULE.fullmatch(rule)
    if not match:
        raise InvalidSpec(f"require[{expression!r}] must be a comparison with a number such as '>= 0.95', got {rule!r}")
    tree = _parse(expression)
    if any(name.partition(".")[0] in left_out for name in _names(tree)):
        return Judgement(expression, rule, None, held=True)
    value = _value(tree, metrics, expression)
    return Judgement(expression, rule, value, held=_COMPARE[match[1]](value, float(match[2])))


def check_require(require: Mapping[str, Any]) -> None:
    """Refuse a gate that cannot be read, before anything is launched."""
    for expression, rule in require.items():
        _names(_parse(expression))
        if not _RULE.fullmatch(str(rule)):
            raise InvalidSpec(f"require[{expression!r}] must be a comparison with a number such as '>= 0.95', got {rule!r}")


def _parse(expression: str) -> ast.expr:
    try:
        return ast.parse(expression, mode="eval").body
    except SyntaxError:
        raise InvalidSpec(
            f"require: cannot read {expression!r}; write metrics joined by + - * /, such as 'accuracy - champion.accuracy'"
        ) from None


def _names(tree: ast.expr) -> set[str]:
    """Return the metrics an expression names, refusing anything but arithmetic."""
    match tree:
        case ast.Name(id=name):
            return {name}
        case ast.Attribute():
            return {ast.unparse(tree)}
        case ast.Constant(value=int() | float()):
            return set()
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return _names(left) | _names(right)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _names(operand)
    raise InvalidSpec(f"require: {ast.unparse(tree)!r} is neither a metric, a number, nor + - * / of them")


def _value(tree: ast.expr, metrics: Mapping[str, float], expression: str) -> float:
    match tree:
        case ast.Constant(value=int() | float() as value):
            return float(value)
        case ast.BinOp(left=left, op=op, right=right):
            return _ARITHMETIC[type(op)](_value(left, metrics, expression), _value(right, metrics, expression))
        case ast.UnaryOp(operand=operand):
            return -_value(operand, metrics, expression)
    name = ast.unparse(tree)
    if name not in metrics:
        raise InvalidSpec(f"require[{expression!r}]: the job measured no {name!r}; it measured {', '.join(metrics) or 'nothing'}")
    return metrics[name]
