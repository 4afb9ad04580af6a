"""Which images have a Python."""

from __future__ import annotations

from airflow_dla.runtime.docker.facts import Image
from airflow_dla.runtime.docker.interpreters import python_candidates


def test_python_candidates(image: Image):
    """Every folder of the image's PATH is looked into, for python3 first."""
    assert python_candidates(image) == ("/opt/bin/python3", "/bin/python3", "/opt/bin/python", "/bin/python")
