"""References: what crosses XCom instead of data.

An artifact is named by the digest of its manifest, a model version by number or
alias, anything outside by a URI that is pinned when it is first used.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import unquote

from airflow_dla.errors import InvalidSpec, SecretExposed
from airflow_dla.specs.spec import Spec, spec_field
from airflow_dla.specs.values import choice, identifier, json_value, mapping, mapping_of, natural, optional, storable, text

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SECRET_QUERY = re.compile(
    r"(?i)[?&;#](?:[\w.-]*(?:password|passwd|pwd|secret|token|api_?key|access_?key|account_?key|secret_?key|signature|credential)|sig)="
)
#: Over HTTP a user without a password is a token.
_TOKEN = re.compile(r"(?i)https?://[^/?#\s]*@")


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
    if _TOKEN.search(found) or _SECRET_QUERY.search(unquote(found)):
        scheme = found.partition(":")[0]
        raise SecretExposed(f"{where} must not carry a password ({scheme}:…); put it into an Airflow connection and name that")
    return found


def address(raw: object, where: str) -> str:
    """Parse a URL, or the absolute path of a file that every job finds there."""
    found = public_url(raw, where)
    if "://" not in found and not found.startswith("/"):
        raise InvalidSpec(f"{where} must be a URL or an absolute path, got {found!r}; a job runs in a folder of its own")
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
    by : str or None
        The attempt that made it, for the lineage of what is made of it.
    """

    called: ClassVar[str] = "artifact reference"

    digest: str = spec_field(digest)
    kind: str = spec_field(identifier, default="artifact")
    size: int = spec_field(natural, default=0)
    by: str | None = spec_field(optional(text), default=None)
    dla: str = spec_field(choice("artifact"), default="artifact", always=True)


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
    dla: str = spec_field(choice("model"), default="model", always=True)

    def __post_init__(self) -> None:
        head, at, tail = self.model.partition("@")
        if not at:
            raise InvalidSpec(f"a model reference is NAME@VERSION or NAME@ALIAS, got {self.model!r}; for example 'digits@champion'")
        identifier(head, "model name")
        identifier(tail, "model version or alias")
        if tail.isdigit() and tail.startswith("0"):
            raise InvalidSpec(f"model versions are numbered 1, 2, 3, …, got {self.model!r}")

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

    uri: str = spec_field(address)
    mode: str = spec_field(choice("stream", "copy"), default="stream")
    pin: Mapping[str, Any] = spec_field(mapping_of(json_value), factory=dict)
    dla: str = spec_field(choice("uri"), default="uri", always=True)


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
    if isinstance(raw, (ArtifactRef, ModelRef, UriRef)):
        return raw
    if isinstance(raw, str):
        shown = repr(storable(raw, where)[:80])
        raise InvalidSpec(f"{where} is the string {shown} where a reference is expected; wrap it: uri({shown}) or model('name@alias')")
    kind = mapping(raw, where).get("dla")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise InvalidSpec(f"{where}: 'dla' must be one of {', '.join(_KINDS)}, got {kind!r}; pass x.output['name'], model(…) or uri(…)")
    return _KINDS[kind].from_mapping(raw, where)
