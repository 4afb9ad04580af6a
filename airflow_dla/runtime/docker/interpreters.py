"""Whether an image has a Python that our runner can use; asked of the engine without running anything."""

from __future__ import annotations

import threading
import uuid

from airflow_dla.runtime.command import PYTHONS
from airflow_dla.runtime.docker.engine import Engine
from airflow_dla.runtime.docker.facts import Image


class Interpreters:
    """Looks for a Python in images, once for each.

    Parameters
    ----------
    engine : `Engine`
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[str, str | None] = {}
        self._lock = threading.Lock()

    def find(self, image: Image) -> str | None:
        """Return the path of an image's Python, None when it has none on its PATH."""
        with self._lock:
            if image.id not in self._known:
                self._known[image.id] = self._looked_for(image)
            return self._known[image.id]

    def _looked_for(self, image: Image) -> str | None:
        """Look into a container that never starts: a HEAD of its files costs milliseconds."""
        container = self._engine.create(
            f"dla-look-{uuid.uuid4().hex[:12]}", {"Image": image.id, "Entrypoint": ["true"], "NetworkDisabled": True}
        )
        try:
            return next((path for path in python_candidates(image) if self._engine.has_file(container, path)), None)
        finally:
            self._engine.remove(container, force=True)


def python_candidates(image: Image) -> tuple[str, ...]:
    """Return where to look for a Python in an image, in the order of its PATH.

    Examples
    --------
    >>> python_candidates(Image(id="sha256:1", path=("/opt/bin", "/usr/bin")))
    ('/opt/bin/python3', '/usr/bin/python3', '/opt/bin/python', '/usr/bin/python')
    """
    return tuple(f"{folder.rstrip('/')}/{name}" for name in PYTHONS for folder in image.path)
