"""The oracles: real libpq clients, and what a connection with each of them ends as.

    Psql().connect(conninfo, home=...)      the psql of this machine, a process per connection
    Libpqs()[17].connect(conninfo, ...)     libpq 17 out of a wheel, milliseconds per connection

Each connection has an environment of its own: HOME and what the test gives, nothing else of ours.
Whether it was encrypted is not asked of the client but of the server (`pg_stat_ssl`).

Run as a program with the path of a libpq, this file is the worker behind `Libpqs`: that library,
alone in a process without Python's own OpenSSL, one JSON request and answer per line.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import json
import os
import platform
import re
import select
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

Outcome = Literal["encrypted", "plaintext", "fails"]

_QUESTION = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
_OUTCOMES: dict[str, Outcome] = {"t": "encrypted", "f": "plaintext"}
_PATIENCE = 30  # seconds for one connection; libpq itself gives up on a host before (below)


class ClientMissing(Exception):
    """A client cannot be had on this machine; the text says why."""


class ClientDied(Exception):
    """A client crashed, or hung beyond its own time limit: no outcome of a connection."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a connection ended as; *message* is the client's own, empty where it succeeded."""

    outcome: Outcome
    message: str = ""


class Client(Protocol):
    """A libpq.  *version* is PQlibVersion's: 150003 for 15.3."""

    version: int

    def connect(
        self,
        conninfo: str,
        home: Path | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Result:
        """Connect and ask the server whether the session is encrypted.

        *home* is HOME, unset where None; *env* adds to the environment.  libpq before 15 does
        not look at HOME: give it `sslrootcert`.  *cwd* is / where None.  Raises ClientDied.
        """
        ...


def environment(home: Path | None, env: Mapping[str, str] | None) -> dict[str, str]:
    """The whole environment of a client."""
    made = {
        "PATH": os.defpath,
        "LC_ALL": "C",
        # A server that never answers must not hang the tests.  Seconds per host.
        "PGCONNECT_TIMEOUT": "10",
    }
    if home is not None:
        made["HOME"] = str(home)
    return made | dict(env or {})


class Psql:
    """The psql of this machine, run by *user* where we are root.  Raises ClientMissing."""

    def __init__(self, user: int | None = None) -> None:
        self._user = user
        self._path = _find_psql()
        shown = subprocess.run(
            [self._path, "--version"], capture_output=True, text=True, check=True
        ).stdout
        numbers = re.findall(r"\d+", shown)  # psql (PostgreSQL) 15.3 (Debian 15.3-0+deb12u1)
        self.version = int(numbers[0]) * 10000 + int(numbers[1])

    def connect(
        self,
        conninfo: str,
        home: Path | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Result:
        try:
            done = subprocess.run(
                [self._path, "-X", "-A", "-t", "-w", "-d", conninfo, "-c", _QUESTION],
                env=environment(home, env),
                cwd=cwd or "/",
                user=self._user,
                group=self._user,
                extra_groups=None if self._user is None else [],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired as expired:
            raise ClientDied(f"no answer for {_PATIENCE} s") from expired
        if done.returncode != 0:
            return Result("fails", done.stderr.strip().removeprefix("psql: error: "))
        return Result(_OUTCOMES[done.stdout.strip()])


def _find_psql() -> str:
    """The real binary before Debian's wrapper script, which costs more than the connection."""
    installed = Path("/usr/lib/postgresql").glob("[0-9]*/bin/psql")
    newest_first = sorted(installed, key=lambda path: float(path.parts[-3]), reverse=True)
    for path in (*map(str, newest_first), shutil.which("psql")):
        if path is not None:
            return path
    raise ClientMissing("no psql on this machine")


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel that carries a libpq.  *sha256* by machine: these files and no others are loaded."""

    distribution: str
    version: str
    python: str
    libpq: int
    sha256: Mapping[str, str]


WHEELS = {
    # The Python for which a wheel was built does not matter: only its libpq is used.
    13: Wheel(
        "psycopg2-binary",
        "2.9.1",
        "3.9",
        130003,
        {
            "x86_64": "5ced67f1e34e1a450cdb48eb53ca73b60aa0af21c46b9b35ac3e581cf9f00e31",
            "aarch64": "0f2e04bd2a2ab54fa44ee67fe2d002bb90cee1c0f1cc0ebc3148af7b02034cbd",
        },
    ),
    14: Wheel(
        "psycopg2-binary",
        "2.9.3",
        "3.10",
        140001,
        {
            "x86_64": "57804fc02ca3ce0dbfbef35c4b3a4a774da66d66ea20f4bda601294ad2ea6092",
            "aarch64": "083a55275f09a62b8ca4902dd11f4b33075b743cf0d360419e2051a8a5d5ff76",
        },
    ),
    15: Wheel(
        "psycopg2-binary",
        "2.9.7",
        "3.11",
        150003,
        {
            "x86_64": "8f309b77a7c716e6ed9891b9b42953c3ff7d533dc548c1e33fddc73d2f5e21f9",
            "aarch64": "8a7968fd20bd550431837656872c19575b687f3f6f98120046228e451e4064df",
        },
    ),
    16: Wheel(
        "psycopg-binary",
        "3.2.1",
        "3.11",
        160003,
        {
            "x86_64": "aa3931f308ab4a479d0ee22dc04bea867a6365cac0172e5ddcba359da043854b",
            "aarch64": "40bb515d042f6a345714ec0403df68ccf13f73b05e567837d80c886c7c9d3805",
        },
    ),
    17: Wheel(
        "psycopg2-binary",
        "2.9.13",
        "3.11",
        170011,
        {
            "x86_64": "930e7e58b33a4f9c39e7532d7a40147925cf3372baed4229cbebe0cf3ba9ce6b",
            "aarch64": "3aea95340825f5ff236e7b40f0b5602c2c77a1e95943f71fae34909834043d29",
        },
    ),
    18: Wheel(
        "psycopg-binary",
        "3.3.9",
        "3.11",
        180006,
        {
            "x86_64": "0953c1b94c73f97efce5b8fb1dad85cf5e4085b94902e439e27e6805ebc8be99",
            "aarch64": "9f6f4108a2e1d55303dfbb41d0f3b16a0aac95232a24ac8eb3df03f56fcb83aa",
        },
    ),
}
"""By major version of libpq: what Linux machines can be given."""

YARDSTICK = (15, 16, 17, 18)
"""The versions whose outcomes `check` predicts."""


@dataclass(frozen=True, slots=True)
class Option:
    """A row of libpq's PQconninfoOptions; *secret*: not to be shown (dispchar)."""

    variable: str | None
    default: str | None
    secret: bool


class Libpqs:
    """One libpq per major version, fetched and started when first asked for, as *user* if given."""

    def __init__(self, user: int | None = None) -> None:
        self._user = user
        self._started: dict[int, Libpq | ClientMissing] = {}

    def __getitem__(self, major: int) -> Libpq:
        """Raises ClientMissing where this version cannot be had, and does not try twice."""
        found = self._started.get(major)
        if isinstance(found, Libpq) and not found.alive:
            found.close()
            found = None
        if found is None:
            try:
                found = Libpq(_fetch(WHEELS[major]), self._user)
            except ClientMissing as missing:
                found = missing
            self._started[major] = found
        if isinstance(found, ClientMissing):
            raise found
        return found

    def close(self) -> None:
        for libpq in self._started.values():
            if isinstance(libpq, Libpq):
                libpq.close()


class Libpq:
    """A libpq in a worker process, which ends with us; of *user*, where we are root and it is given.

    The process changes its user when it has loaded the library, which may lie in our own home.
    """

    def __init__(self, library: Path, user: int | None = None) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                __file__,
                str(library),
                *([] if user is None else [str(user)]),
            ],
            # Not every library of a wheel knows that its neighbours lie beside it.
            env=environment(None, {"LD_LIBRARY_PATH": str(library.parent)}),
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        greeting = self._answer()
        if "error" in greeting:
            self.close()
            raise ClientMissing(f"{library.name} does not load: {greeting['error']}")
        self.version: int = greeting["version"]

    def connect(
        self,
        conninfo: str,
        home: Path | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Result:
        request = {"conninfo": conninfo, "env": environment(home, env), "cwd": str(cwd or "/")}
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it died; reading the answer tells
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        answer = self._answer()
        return Result(answer["outcome"], answer["message"])

    def options(self) -> dict[str, Option]:
        """Every keyword of a connection string that this version knows."""
        request = {"options": True, "env": environment(None, None), "cwd": "/"}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        return {name: Option(*rest) for name, *rest in self._answer()["options"]}

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], _PATIENCE)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            self.process.kill()
            self.close()
            raise ClientDied("libpq crashed" if ready else f"no answer for {_PATIENCE} s")
        answer: dict[str, Any] = json.loads(line)
        return answer

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(_PATIENCE)
        self.process.stdout.close()


def _fetch(wheel: Wheel) -> Path:
    """The libpq of a wheel, with the libraries that it needs beside it; downloaded once."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in wheel.sha256:
        raise ClientMissing(f"no wheel with libpq is known for {sys.platform} on {machine}")
    cache = _cache()
    unpacked = cache / f"{wheel.distribution}-{wheel.version}-{machine}"
    if not unpacked.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as temporary:
            _download(wheel, machine, Path(temporary))
            try:
                (Path(temporary) / "unpacked").rename(unpacked)
            except OSError:
                if not unpacked.exists():  # else another process was faster
                    raise
    (library,) = unpacked.glob("*.libs/libpq-*")
    return library


def _cache() -> Path:
    named = os.environ.get("QS_CERTS_TEST_CACHE")
    if named:
        return Path(named)
    import platformdirs

    return platformdirs.user_cache_path("qs-certs-tests")


def _download(wheel: Wheel, machine: str, folder: Path) -> None:
    """Put the wheel's content into *folder*/unpacked."""
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in (17, 24, 27, 28)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--retries=1", "--timeout=15"]
    command += ["--implementation=cp", f"--python-version={wheel.python}"]
    command += [f"--platform={name}" for name in (f"manylinux2014_{machine}", *platforms)]
    command += [f"--dest={folder}", f"{wheel.distribution}=={wheel.version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClientMissing(f"{wheel.distribution} {wheel.version}: {done.stderr.strip()[-200:]}")
    (file,) = folder.glob("*.whl")
    if hashlib.sha256(file.read_bytes()).hexdigest() != wheel.sha256[machine]:
        raise ClientMissing(f"{file.name} is not the file that was pinned")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder / "unpacked")


# The worker.


class _Option(ctypes.Structure):
    """libpq-fe.h PQconninfoOption."""

    _fields_ = [
        *((name, ctypes.c_char_p) for name in ("keyword", "envvar", "compiled", "val", "label")),
        ("dispchar", ctypes.c_char_p),
        ("dispsize", ctypes.c_int),
    ]


_CONNECTION_OK = 0
_TUPLES_OK = 2


def _load(path: str) -> ctypes.CDLL:
    """libpq with the types of what we call (libpq-fe.h)."""
    libpq = ctypes.CDLL(path)
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
        ("PQconnectdb", pointer, [text]),
        ("PQstatus", number, [pointer]),
        ("PQerrorMessage", text, [pointer]),
        ("PQfinish", None, [pointer]),
        ("PQexec", pointer, [pointer, text]),
        ("PQresultStatus", number, [pointer]),
        ("PQgetvalue", text, [pointer, number, number]),
        ("PQclear", None, [pointer]),
        ("PQlibVersion", number, []),
        ("PQconndefaults", ctypes.POINTER(_Option), []),
        ("ERR_clear_error", None, []),  # found in the libcrypto that libpq brings along
    ):
        function = getattr(libpq, name)
        function.restype, function.argtypes = result, arguments
    return libpq


def _options(libpq: ctypes.CDLL) -> list[tuple[str, str | None, str | None, bool]]:
    def text(value: bytes | None) -> str | None:
        return None if value is None else value.decode()

    rows = itertools.takewhile(lambda row: row.keyword, libpq.PQconndefaults())
    return [
        (row.keyword.decode(), text(row.envvar), text(row.compiled), b"*" in row.dispchar)
        for row in rows
    ]


def _connect(libpq: ctypes.CDLL, conninfo: str) -> dict[str, str]:
    connection = libpq.PQconnectdb(conninfo.encode())
    try:
        if libpq.PQstatus(connection) == _CONNECTION_OK:
            rows = libpq.PQexec(connection, _QUESTION.encode())
            try:
                if libpq.PQresultStatus(rows) == _TUPLES_OK:
                    ssl = libpq.PQgetvalue(rows, 0, 0).decode()
                    return {"outcome": _OUTCOMES[ssl], "message": ""}
            finally:
                libpq.PQclear(rows)
        message = libpq.PQerrorMessage(connection).decode(errors="replace")
        return {"outcome": "fails", "message": message.strip()}
    finally:
        libpq.PQfinish(connection)


def _work(path: str, user: int | None) -> None:
    """Answer requests until standard input ends."""
    try:
        libpq = _load(path)
    except OSError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    if user is not None and sys.platform != "win32":
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    print(json.dumps({"version": libpq.PQlibVersion()}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        os.environ.clear()
        os.environ.update(request["env"])  # os.environ calls setenv: libpq's getenv sees it
        os.chdir(request["cwd"])
        # A root file that does not load leaves more errors in OpenSSL's queue than libpq takes
        # out, and libpq would report the stale one next time: start like a fresh process.
        libpq.ERR_clear_error()
        if "options" in request:
            print(json.dumps({"options": _options(libpq)}), flush=True)
            continue
        print(json.dumps(_connect(libpq, request["conninfo"])), flush=True)


if __name__ == "__main__":
    _work(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None)
