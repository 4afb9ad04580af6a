"""Label and field selectors, as an API server reads them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from fakes.kube.resources import Refused

Match = Callable[[Mapping[str, Any]], bool]

_SET = re.compile(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)$")


def matcher(labels: str, fields: str) -> Match:
    """Return whether a document is chosen by both selectors.

    Raises
    ------
    Refused
        If one is not written as it should be.
    """
    wanted = [_label(part.strip()) for part in re.split(r",(?![^(]*\))", labels) if part.strip()]
    wanted += [_field(part.strip()) for part in fields.split(",") if part.strip()]
    return lambda document: all(one(document) for one in wanted)


def _label(text: str) -> Match:
    if found := _SET.match(text):
        name, values = found[1], {value.strip() for value in found[3].split(",")}
        return lambda document: (_labels(document).get(name) in values) == (found[2] == "in")
    if re.fullmatch(r"!?[\w./-]+", text):
        return lambda document: (text.lstrip("!") in _labels(document)) != text.startswith("!")
    split = re.fullmatch(r"([\w./-]+)\s*(==|=|!=)\s*([\w.-]*)", text)
    if split is None:
        raise Refused(400, "BadRequest", f"unable to parse requirement: found '{text}', expected: identifier")
    return lambda document: (_labels(document).get(split[1]) == split[3]) == (split[2] != "!=")


def _field(text: str) -> Match:
    split = re.fullmatch(r"([\w.]+)(==|=|!=)(.*)", text)
    if split is None:
        raise Refused(400, "BadRequest", f"invalid selector: '{text}'; can't understand '{text}'")
    return lambda document: (str(_at(document, split[1])) == split[3]) == (split[2] != "!=")


def _labels(document: Mapping[str, Any]) -> Mapping[str, str]:
    return document["metadata"].get("labels") or {}


def _at(document: Any, path: str) -> Any:
    for part in path.split("."):
        document = (document or {}).get(part, "")
    return document
