"""Jobs that a decision speaks of by their attempts' ids, by the names that people know."""

from __future__ import annotations

import re
from typing import Final

from airflow_dla.ledger import Ledger

_ATTEMPT: Final = re.compile(r"\b([0-9a-f]{20})\.\d+\b")


def named(ledger: Ledger, text: str, *, but: str) -> str:
    """Return a text with ``DAG.TASK (RUN)`` in place of each attempt's id; the ledger is asked only if there is one.

    Parameters
    ----------
    ledger : `Ledger`
    text : str
    but : str
        The job whose task log it is for, by ``JobKey.id``: its own ids stay.
    """
    ids = {found.group() for found in _ATTEMPT.finditer(text) if found.group(1) != but}
    known = ledger.attempts(ids) if ids else {}
    return _ATTEMPT.sub(lambda found: str(known[found.group()].spec.key) if found.group() in known else found.group(), text)
