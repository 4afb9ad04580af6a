"""YAML and JSON that people write."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from airflow_dla.errors import InvalidSpec


def read_document(path: str) -> Any:
    """Read a YAML or JSON file.

    Parameters
    ----------
    path : str
        ``-`` reads standard input.

    Raises
    ------
    OSError
        If it cannot be read.
    InvalidSpec
        If it is neither; says where it breaks.
    """
    raw = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    try:
        return parse(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidSpec(f"{path} must be text in UTF-8: {error}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidSpec(f"{path} is neither YAML nor JSON: {' '.join(str(error).split())}") from None


def parse(text: str) -> Any:
    r"""Parse JSON, or else YAML, which is not quite a superset: it takes no tabs.

    Examples
    --------
    >>> parse('{\n\t"cpu": 80}'), parse("cpu: 80")
    ({'cpu': 80}, {'cpu': 80})
    """
    try:
        return json.loads(text)
    except ValueError:
        return yaml.safe_load(text)
