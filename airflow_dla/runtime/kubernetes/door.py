"""The door of a helper in a pod, from outside: one verb of ``agents.door`` at a time, run in its container."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, Self

from airflow_dla.errors import LaunchRefused, NotFound, PlaceUnavailable
from airflow_dla.runtime.kubernetes import frames
from airflow_dla.runtime.kubernetes.bundle import CONTROL, door_command

#: Exit statuses of ``agents.door``, and a shell's where there is no such program.
OK, NO_ROOM, PASSED = 0, 74, 75
_NO_PROGRAM: Final = 127
_TRIES: Final = 3
_SHORT_S: Final = 60.0
_SAID: Final = 400


class Session(Protocol):
    """A command that runs in a container; iterating gives its standard output, until it ends."""

    def __enter__(self) -> Self:
        """Return itself."""

    def __exit__(self, *_: object) -> None:
        """Cut it off, if it has not ended."""

    def __iter__(self) -> Iterator[bytes]:
        """Yield standard output as it comes."""

    @property
    def err(self) -> bytes:
        """Return what it wrote to its standard error."""

    @property
    def code(self) -> int:
        """Return its exit status, once it has ended."""


class Cluster(Protocol):
    """What freight needs of a cluster."""

    def exec(
        self, pod: str, container: str, argv: Sequence[str], stdin: Iterable[bytes] = (), *, timeout_s: float | None = None
    ) -> Session:
        """Start a command in a container, which reads `stdin` while we read from it.

        Raises
        ------
        NotFound
            If that container does not run.
        PlaceUnavailable
            If the cluster does not answer.
        """

    def log(self, pod: str, container: str, *, tail_lines: int | None = None) -> bytes:
        """Return the last lines that a container wrote."""


class Door:
    """The door of one container.

    Parameters
    ----------
    cluster : `Cluster`
    pod, container : str
    control, python : str
        Its folder and interpreter there.
    """

    def __init__(self, cluster: Cluster, pod: str, container: str, *, control: str = CONTROL, python: str = "python3") -> None:
        self._cluster = cluster
        self._pod = pod
        self._container = container
        self._control = control
        self._python = python

    def ask(self, *words: str, value: Any = None) -> dict[str, Any]:
        """Run a short verb; return what it answers, nothing where it is about something that has passed.

        Parameters
        ----------
        words : str
        value : JSON, optional
            What it reads.

        Raises
        ------
        PlaceUnavailable
            If it did not do what it was asked for.
        LaunchRefused
            If there is no Python.
        """
        said: list[bytes] = []
        stdin = () if value is None else (frames.framed_json(value), frames.framed(frames.END))
        with self._run(words, stdin, timeout_s=_SHORT_S) as session:
            said.extend(session)
            if session.code == PASSED:
                return {}
            self._judge(session)
        return dict(json.loads(next(frames.read(said))[1])) if said else {}

    def send(self, *words: str, stdin: Iterable[bytes]) -> tuple[int, str]:
        """Run a verb that reads for long; return its exit status, and what it says is wrong."""
        with self._run(words, stdin) as session:
            for _ in session:
                pass
            if session.code not in (OK, PASSED):
                return session.code, _text(session)
            return session.code, ""

    def give(self, what: str, wanted: Mapping[str, Any], paths: Sequence[str]) -> Given:
        """Return files of an offer, to be closed."""

        def opened(paths: Sequence[str], skip: int) -> Generator[bytes]:
            asked = {**wanted, "paths": list(paths), "skip": skip}
            with self._run(("give", what), (frames.framed_json(asked), frames.framed(frames.END))) as session:
                yield from session
                self._judge(session)

        return Given(opened, paths)

    @contextlib.contextmanager
    def _run(self, words: Sequence[str], stdin: Iterable[bytes], *, timeout_s: float | None = None) -> Iterator[Session]:
        argv = door_command(*words, control=self._control, python=self._python)
        try:
            with self._cluster.exec(self._pod, self._container, argv, stdin, timeout_s=timeout_s) as session:
                yield session
        except NotFound as error:
            raise PlaceUnavailable(f"container {self._container} of pod {self._pod} does not run: {error}") from error

    def _judge(self, session: Session) -> None:
        who = f"container {self._container} of pod {self._pod}"
        if session.code == _NO_PROGRAM:
            raise LaunchRefused(f"{who} cannot run our door: {_text(session)}; the helper's image needs {self._python}, 3.8 or later")
        if session.code != OK:
            raise PlaceUnavailable(f"{who} did not do what it was asked for (status {session.code}): {_text(session)}")


class Given:
    """Files that come out of a pod one after the other; where the way breaks it is opened again at the same byte.

    Parameters
    ----------
    opened : callable
        Paths, and bytes to skip of the first → frames.
    paths : sequence of str
    """

    def __init__(self, opened: Callable[[Sequence[str], int], Generator[bytes]], paths: Sequence[str]) -> None:
        self._opened = opened
        self._paths = paths
        self._way: Generator[bytes] | None = None
        self._frames: Iterator[tuple[bytes, bytes]] = iter(())

    def __iter__(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Yield path and bytes of each."""
        for index, path in enumerate(self._paths):
            yield path, self._pieces(index)

    def close(self) -> None:
        """Cut the way."""
        if self._way is not None:
            self._way.close()
        self._way = None

    def _pieces(self, index: int) -> Iterator[bytes]:
        done, tries = 0, _TRIES
        while True:
            try:
                for kind, payload in self._reading(index, done):
                    if kind != frames.DATA:
                        return
                    done, tries = done + len(payload), _TRIES
                    yield payload
            except PlaceUnavailable:
                self.close()
                tries -= 1
                if not tries:
                    raise

    def _reading(self, index: int, done: int) -> Iterator[tuple[bytes, bytes]]:
        if self._way is None:
            self._way = self._opened(self._paths[index:], done)
            self._frames = frames.read(self._way)
        return self._frames


def _text(session: Session) -> str:
    return " ".join(session.err[-_SAID:].decode("utf-8", "replace").split())
