"""What a server answered to one request, read whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered to one request.

    Parameters
    ----------
    status : int
        HTTP status.
    document : object
        The JSON of the body; its text where it is something else, None where there is none.
    headers : mapping of str
        By their lower-case names.
    """

    status: int
    document: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether the server did what it was asked, or had done it before (304)."""
        return self.status < 400  # noqa: PLR2004 - the first of HTTP's errors

    @property
    def reason(self) -> str:
        """The server's own word for what went wrong, like ``AlreadyExists``; empty where it has none."""
        return str(self.document.get("reason", "")) if isinstance(self.document, Mapping) else ""

    @property
    def words(self) -> str:
        """What the server says went wrong."""
        said = self.document.get("message", "") if isinstance(self.document, Mapping) else self.document
        return str(said or "").strip()[:2000] or f"HTTP status {self.status}"

    @property
    def retry_after_s(self) -> float:
        """How long the server asks to wait before the next request, seconds; 1 where it does not say."""
        try:
            return max(0.0, float(self.headers["retry-after"]))
        except (KeyError, ValueError):
            return 1.0
