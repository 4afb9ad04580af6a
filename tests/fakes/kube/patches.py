"""The three kinds of patches, applied as an API server does."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from fakes.kube.resources import Refused

#: What tells the elements of a list apart, by the list's name: strategic merge patches change them one by one.
_KEYS: Final = {
    "containers": "name", "initContainers": "name", "volumes": "name", "env": "name", "volumeMounts": "mountPath",
    "conditions": "type", "ownerReferences": "uid", "imagePullSecrets": "name",
}  # fmt: skip


def merge(document: Any, patch: Any) -> Any:
    """Return a document after a JSON merge patch (RFC 7396)."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    found = dict(document) if isinstance(document, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merge(found.get(name), value)
    return found


def strategic(document: Any, patch: Any, name: str = "") -> Any:
    """Return a document after a strategic merge patch: lists whose elements have a key are merged by it."""
    if isinstance(patch, list) and name in _KEYS:
        return _merged_list(document or [], patch, _KEYS[name])
    if isinstance(patch, list) and name == "finalizers":
        return list(dict.fromkeys([*(document or []), *patch]))
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    if patch.get("$patch") == "replace":
        return {key: copy.deepcopy(value) for key, value in patch.items() if key != "$patch"}
    found = dict(document) if isinstance(document, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        elif not key.startswith("$"):
            found[key] = strategic(found.get(key), value, key)
    return found


def _merged_list(document: list[Any], patch: list[Any], key: str) -> list[Any]:
    found = {element[key]: element for element in document}
    for element in patch:
        if element.get("$patch") == "delete":
            found.pop(element[key], None)
        else:
            found[element[key]] = strategic(found.get(element[key], {}), element)
    return list(found.values())


def json_patch(document: Any, operations: list[dict[str, Any]]) -> Any:
    """Return a document after a JSON patch (RFC 6902).

    Raises
    ------
    Refused
        Where a test does not hold or a path is not there, with the server's few words.
    """
    found = copy.deepcopy(document)
    try:
        for operation in operations:
            found = _operate(found, operation)
    except (KeyError, IndexError, TypeError, ValueError, AssertionError):
        raise Refused(422, "Invalid", "the server rejected our request due to an error in our request") from None
    return found


def _operate(document: Any, operation: dict[str, Any]) -> Any:
    parts = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    if not parts:
        assert operation["op"] in ("add", "replace")
        return copy.deepcopy(operation["value"])
    *way, last = parts
    where = document
    for part in way:
        where = where[int(part)] if isinstance(where, list) else where[part]
    if operation["op"] == "test":
        assert (where[int(last)] if isinstance(where, list) else where.get(last)) == operation["value"]
    elif operation["op"] == "remove":
        del where[int(last) if isinstance(where, list) else last]
    elif operation["op"] in ("add", "replace"):
        _put(where, last, copy.deepcopy(operation["value"]), replaces=operation["op"] == "replace")
    else:
        raise ValueError(operation["op"])
    return document


def _put(where: Any, last: str, value: Any, *, replaces: bool) -> None:
    if isinstance(where, list):
        at = len(where) if last == "-" else int(last)
        where[at : at + replaces] = [value]
        return
    if replaces:
        where[last]  # must be there
    where[last] = value
