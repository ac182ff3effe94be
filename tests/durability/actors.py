"""Processes that change, edit or read a root file at the same time.

They are forked from this one, which has loaded everything: a change then costs milliseconds.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import signal
import ssl
import struct
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from qs_certs import changes
from qs_certs.changes import Target, Wanted
from qs_certs.errors import QsCertsError
from qs_certs.results import Source, TargetResult
from tests.faults.scenarios import Place
from tests.pki import Authority, Certificate

assert sys.platform != "win32"

T = TypeVar("T")


@dataclass(slots=True)
class Actor(Generic[T]):
    """A forked process; `outcome` waits for what its work returned, and is None if it was killed.

    An exception in it is raised here.
    """

    pid: int
    _answer: int
    _status: int | None = None

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)
            self._wait()

    def outcome(self) -> T | None:
        with os.fdopen(os.dup(self._answer), "rb") as pipe:
            answer = pipe.read()
        if self._wait() == -signal.SIGKILL:
            return None
        outcome = pickle.loads(answer)
        if isinstance(outcome, BaseException):
            raise outcome
        found: T = outcome
        return found

    def _wait(self) -> int:
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._status

    def close(self) -> None:
        self.kill()
        if self._answer >= 0:
            os.close(self._answer)
            self._answer = -1


def fork(work: Callable[[], T]) -> Actor[T]:
    """Start *work* in a process of its own.  Who calls this must `close` it: see `Acting`."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # The workers of pytest-xdist have threads; the child uses nothing of theirs.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            try:
                answer: object = work()
            except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
                answer = RuntimeError(repr(error))
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(pickle.dumps(answer))
        finally:
            os._exit(0)
    os.close(writing)
    return Actor(pid, reading)


class Acting:
    """A `with` whose every process is killed at its end, whatever happens."""

    def __init__(self) -> None:
        self._actors: list[Actor[Any]] = []

    def __enter__(self) -> Acting:
        return self

    def __call__(self, work: Callable[[], T]) -> Actor[T]:
        actor = fork(work)
        self._actors.append(actor)
        return actor

    def __exit__(self, *_: object) -> None:
        for actor in self._actors:
            actor.close()


@contextlib.contextmanager
def gate() -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """(wait, open): forked processes wait until all of them are let go in one moment."""
    reading, writing = os.pipe()
    closed = False

    def wait() -> None:
        with contextlib.suppress(OSError):
            os.close(writing)
        os.read(reading, 1)  # nothing ever comes but the end

    def let_go() -> None:
        nonlocal closed
        closed = True
        os.close(writing)

    try:
        yield wait, let_go
    finally:
        os.close(reading)
        if not closed:
            os.close(writing)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command in a process of its own reported."""

    status: str
    change: int | None
    error: str | None
    message: str = ""


def told(result: TargetResult) -> Outcome:
    error = result.error
    if error is None:
        return Outcome(result.status, result.change_id, None)
    assert isinstance(error, QsCertsError)
    return Outcome(result.status, result.change_id, error.code, f"{error.message} {error.why}")


@cache
def root(number: int) -> Certificate:
    """The same one each time, but in forked processes only if it was asked for before."""
    return Authority.root(f"Soak Root {number}").certificate


def install(place: Place, certificate: Certificate) -> TargetResult:
    def fetch() -> tuple[bytes, Source, str | None]:
        return certificate.der, "file", None

    wanted = Wanted(certificate.sha256, fetch)
    return changes.install((Target(str(place.target)),), (wanted,)).targets[0]


def remove(place: Place, certificate: Certificate) -> TargetResult:
    return changes.remove((Target(str(place.target)),), (certificate.sha256,)).targets[0]


# --- readers ------------------------------------------------------------------------------------


class Reader:
    """Loads a root file as libpq does, again and again, and counts what it met.

    Loading "succeeds" with a file that was cut between two certificates, so the number of the
    certificates is what is judged.
    """

    def __init__(self, path: Path, legal: frozenset[int]) -> None:
        self._path = str(path)
        self._legal = legal
        self._shared = mmap.mmap(-1, 32)

    def run(self) -> None:
        loads = bad = missing = 0
        while True:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            try:
                context.load_verify_locations(cafile=self._path)
                bad += context.cert_store_stats()["x509"] not in self._legal
            except FileNotFoundError:
                missing += 1
            except ssl.SSLError:
                bad += 1
            loads += 1
            struct.pack_into("QQQ", self._shared, 0, loads, bad, missing)

    @property
    def seen(self) -> tuple[int, int, int]:
        """Loads so far; those with a wrong number of certificates; those that found no file."""
        loads, bad, missing = struct.unpack_from("QQQ", self._shared, 0)
        return loads, bad, missing
