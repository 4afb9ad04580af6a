"""References: what crosses XCom instead of data.

An artifact is named by the digest of its manifest, a model version by number or
alias, anything outside by a URI that is pinned when it is first used.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

from airflow_dla.errors import InvalidSpec, SecretExposed
from airflow_dla.specs.spec import Spec, choice, identifier, integer, json_value, mapping, mapping_of, optional, spec_field, text

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SECRET_QUERY = re.compile(r"(?i)[?&](password|passwd|secret|token|access_key|secret_key|sig|x-amz-signature)=")


def digest(raw: object, where: str) -> str:
    """Parse an artifact's digest, ``sha256:`` and 64 hexadecimal digits."""
    found = text(raw, where)
    if not _DIGEST.fullmatch(found):
        raise InvalidSpec(f"{where} must be 'sha256:' and 64 hexadecimal digits, got {found!r}")
    return found


def public_url(raw: object, where: str) -> str:
    """Parse a URL that anybody may read: it must not carry a password.

    Raises
    ------
    SecretExposed
        If it does; the message does not repeat the secret.
    """
    found = text(raw, where)
    parts = urlsplit(found)
    if parts.password or _SECRET_QUERY.search(found):
        shown = f"{parts.scheme}://…@{parts.hostname or ''}{parts.path}"
        raise SecretExposed(f"{where} must not carry a password ({shown}); put it into an Airflow connection and name that")
    return found


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRef(Spec):
    """An immutable artifact of the workspace's store.

    Parameters
    ----------
    digest : str
        ``sha256:…`` of the manifest.
    kind : str
        ``dataset``, ``model``, ``report``, ``code``, ``checkpoint`` or another word.
    size : int
        Bytes of all its files.
    """

    called: ClassVar[str] = "artifact reference"

    digest: str = spec_field(digest)
    kind: str = spec_field(identifier, default="artifact")
    size: int = spec_field(integer, default=0)
    dla: str = spec_field(choice("artifact"), default="artifact")

    def to_mapping(self) -> dict[str, Any]:
        """Write the reference as it crosses XCom (under 200 bytes)."""
        return {"dla": self.dla, "digest": self.digest, "kind": self.kind, "size": self.size}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef(Spec):
    """A model version, by number (``digits@3``) or alias (``digits@champion``).

    Parameters
    ----------
    model : str
        Name and version or alias, joined by ``@``.
    missing : {"error", "skip"}
        What to do when there is none: fail, or leave the input out.
    """

    called: ClassVar[str] = "model reference"

    model: str = spec_field(text)
    missing: str = spec_field(choice("error", "skip"), default="error")
    digest: str | None = spec_field(optional(digest), default=None)
    dla: str = spec_field(choice("model"), default="model")

    def __post_init__(self) -> None:
        head, at, tail = self.model.partition("@")
        if not at:
            raise InvalidSpec(f"a model reference is NAME@VERSION or NAME@ALIAS, got {self.model!r}; for example 'digits@champion'")
        identifier(head, "model name")
        identifier(tail, "model version or alias")

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.partition("@")[0]

    @property
    def number(self) -> int | None:
        """The version's number, or None when an alias is named."""
        tail = self.model.partition("@")[2]
        return int(tail) if tail.isdigit() else None

    @property
    def alias(self) -> str | None:
        """The alias, or None when a number is named."""
        return None if self.number is not None else self.model.partition("@")[2]

    def to_mapping(self) -> dict[str, Any]:
        """Write the reference as it crosses XCom."""
        written = Spec.to_mapping(self)
        return {"dla": self.dla, **written}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UriRef(Spec):
    """Data outside the store, never copied into it.

    Parameters
    ----------
    uri : str
        Any address fsspec opens, without a password.
    mode : {"stream", "copy"}
        Read in place, or copied into the job's scratch folder first.
    pin : mapping
        What was seen when it was first used: ``version``, ``etag`` or ``size`` and ``mtime``.
    """

    called: ClassVar[str] = "uri reference"

    uri: str = spec_field(public_url)
    mode: str = spec_field(choice("stream", "copy"), default="stream")
    pin: Mapping[str, Any] = spec_field(mapping_of(json_value), factory=dict)
    dla: str = spec_field(choice("uri"), default="uri")

    def to_mapping(self) -> dict[str, Any]:
        """Write the reference as it crosses XCom."""
        written = Spec.to_mapping(self)
        return {"dla": self.dla, **written}


Reference = ArtifactRef | ModelRef | UriRef

_KINDS: dict[str, type[ArtifactRef | ModelRef | UriRef]] = {"artifact": ArtifactRef, "model": ModelRef, "uri": UriRef}


def reference(raw: object, where: str) -> Reference:
    """Read any reference from its plain mapping.

    Raises
    ------
    InvalidSpec
        With a hint where a string or None stands instead of a reference.
    """
    if raw is None:
        raise InvalidSpec(
            f"{where} is None where a reference is expected; the task before pushed none: use x.output['name'] with a name from its outputs"
        )
    if isinstance(raw, str):
        raise InvalidSpec(
            f"{where} is the string {raw[:80]!r} where a reference is expected; wrap it: uri({raw[:80]!r}) or model('name@alias')"
        )
    kind = mapping(raw, where).get("dla")
    if kind not in _KINDS:
        raise InvalidSpec(f"{where}: 'dla' must be one of {', '.join(_KINDS)}, got {kind!r}; pass x.output['name'], model(…) or uri(…)")
    return _KINDS[kind].from_mapping(raw, where)
