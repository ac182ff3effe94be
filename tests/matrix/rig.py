"""Every client that can be had here, each in a process of a user of its own, one line per question.

A worker is given host, port, sslmode and sslrootcert (or nothing) with tabs between them, and
answers with what the server says of the session (`true`: encrypted), or with a hyphen and the
client's own words, their line ends as U+001F.  Its first line is the driver's version, empty where
only the package knows it.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from tests.clients import WHEELS, ClientDied, ClientMissing, Libpqs, Psql, Result, environment
from tests.matrix.people import Person

SOURCES = Path(__file__).parent / "drivers"
ALL = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
HOST = "localhost"

_PATIENCE = 60  # seconds for an answer; a JVM on a busy machine takes three to come up


class Worker(Protocol):
    """A client as one user.  *version* is the driver's."""

    version: str

    def connect(self, port: int, sslmode: str, sslrootcert: str = "", host: str = HOST) -> Result:
        """Connect, and ask the server whether the session is encrypted.  Raises ClientDied."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Driver:
    """A client of the matrix.

    *slug* is its row in `qs-certs clients`, *modes* what it has of libpq's.  *libpq* where it is
    a binding of it: then `check` foretells what it does.  *major* is that of a libpq from a wheel.
    """

    name: str
    slug: str
    start: Callable[[Rig, Person, Path], Worker]
    modes: tuple[str, ...] = ALL
    libpq: bool = False
    major: int | None = None


class Rig:
    """The programs of the drivers, built once; a folder that every user can read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for source in SOURCES.iterdir():
            if source.is_file():
                shutil.copy(source, folder)

    @classmethod
    @contextmanager
    def made(cls) -> Iterator[Rig]:
        folder = Path(tempfile.mkdtemp(prefix="qs-certs-matrix-"))
        folder.chmod(0o755)
        try:
            yield cls(folder)
        finally:
            shutil.rmtree(folder)

    def go(self) -> Path:
        """The Go program.  The build cache is kept: the first build takes half a minute."""
        program = self.folder / "go-driver"
        if not program.exists():
            env = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode"}
            env["GOCACHE"] = os.environ.get("GOCACHE", str(_cache() / "go-build"))
            _build("go", "build", "-o", str(program), "driver.go", cwd=self.folder, env=env)
        return program

    def java(self) -> str:
        """The class path."""
        if not (self.folder / "Driver.class").exists():
            _build("javac", "-cp", str(_JAR), "Driver.java", cwd=self.folder)
        return f"{self.folder}:{_JAR}"

    def node(self) -> Path:
        """The Node program, beside its packages: those of package-lock.json and no others."""
        if not (self.folder / "node_modules").exists():
            command = ("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
            env = {"npm_config_cache": str(_cache() / "npm"), "HOME": str(self.folder)}
            proxies = ("HTTPS_PROXY", "https_proxy", "NODE_EXTRA_CA_CERTS", "npm_config_registry")
            env |= {name: os.environ[name] for name in proxies if name in os.environ}
            if (config := Path.home() / ".npmrc").exists():
                env["npm_config_userconfig"] = str(config)
            _build(*command, cwd=self.folder, env=env)
        return self.folder / "driver.js"


_JAR = Path("/usr/share/java/postgresql.jar")


def _cache() -> Path:
    import platformdirs

    named = os.environ.get("QS_CERTS_TEST_CACHE")
    return Path(named) if named else platformdirs.user_cache_path("qs-certs-tests")


def _build(*command: str, cwd: Path, env: dict[str, str] | None = None) -> None:
    """Raises ClientMissing where a tool is not there, or does not do it."""
    if shutil.which(command[0]) is None:
        raise ClientMissing(f"{command[0]} is not installed")
    done = subprocess.run(
        command,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C", **(env or {})},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    if done.returncode != 0:
        raise ClientMissing(f"{' '.join(command[:2])}: {(done.stderr + done.stdout)[-400:]}")


class LineWorker:
    """A driver in a process that lives as long as the matrix, and answers line by line."""

    def __init__(self, words: list[str], person: Person, home: Path, *, becomes: bool) -> None:
        """*becomes*: the program starts as root and itself becomes the person."""
        uid = None if becomes else person.uid
        env = environment(home, {"PATH": os.environ["PATH"]})
        self._process = subprocess.Popen(
            words,
            env=env,
            cwd="/",
            user=uid,
            group=uid,
            extra_groups=None if uid is None else [],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.version = self._line()

    def connect(self, port: int, sslmode: str, sslrootcert: str = "", host: str = HOST) -> Result:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it died; reading the answer tells
            self._process.stdin.write("\t".join((host, str(port), sslmode, sslrootcert)).encode())
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        said = self._line()
        if said.startswith("-"):
            return Result("fails", said[1:].replace("\x1f", "\n").strip())
        return Result({"true": "encrypted", "false": "plaintext"}[said])  # type: ignore[arg-type]

    def _line(self) -> str:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _PATIENCE)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            self._process.kill()
            assert self._process.stderr is not None
            said = self._process.stderr.read().decode(errors="replace")[-400:]
            raise ClientDied(said or f"no answer for {_PATIENCE} s")
        return line.decode(errors="replace").rstrip("\n")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class LibpqWorker:
    """psql, or a libpq from a wheel."""

    def __init__(self, client: Psql | Libpqs, home: Path, major: int | None = None) -> None:
        self._pool = client if isinstance(client, Libpqs) else None
        self._client = client[major or 0] if isinstance(client, Libpqs) else client
        self._home = home
        self.version = f"{self._client.version // 10000}.{self._client.version % 10000}"

    def connect(self, port: int, sslmode: str, sslrootcert: str = "", host: str = HOST) -> Result:
        text = f"host={host} port={port} user=app dbname=postgres sslmode={sslmode}"
        text += f" sslrootcert={sslrootcert}" if sslrootcert else ""
        return self._client.connect(text, self._home)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()


@cache
def package_version(package: str) -> str:
    """Of a Debian package, as its authors count: 1.4.5."""
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", package],
        capture_output=True,
        text=True,
        check=False,
    )
    return re.sub(r"^\d+:|[-+].*", "", done.stdout)


def _psql(rig: Rig, person: Person, home: Path) -> Worker:
    return LibpqWorker(Psql(person.uid), home)


def _wheel(major: int) -> Callable[[Rig, Person, Path], Worker]:
    return lambda rig, person, home: LibpqWorker(Libpqs(person.uid), home, major)


def _python(module: str, package: str = "", *more: str) -> Callable[[Rig, Person, Path], Worker]:
    from importlib.util import find_spec

    def start(rig: Rig, person: Person, home: Path) -> Worker:
        if find_spec(module) is None:
            raise ClientMissing(f"{module} is not installed")
        program = str(SOURCES / "python_driver.py")
        words = [sys.executable, program, module, str(person.uid), *more]
        worker = LineWorker(words, person, home, becomes=True)
        worker.version = worker.version or package_version(package)
        return worker

    return start


def _program(
    words: Callable[[Rig], list[str]], package: str = ""
) -> Callable[[Rig, Person, Path], Worker]:
    def start(rig: Rig, person: Person, home: Path) -> Worker:
        command = words(rig)
        if shutil.which(command[0]) is None:
            raise ClientMissing(f"{command[0]} is not installed")
        try:
            worker = LineWorker(command, person, home, becomes=False)
        except ClientDied as died:
            raise ClientMissing(f"{' '.join(command)}: {died}") from died
        worker.version = worker.version or package_version(package)
        return worker

    return start


def _script(program: str, file: str, *more: str) -> Callable[[Rig, Person, Path], Worker]:
    return _program(lambda rig: [program, str(rig.folder / file), *more])


_ODBC = next(map(str, Path("/usr/lib").glob("*/odbc/psqlodbcw.so")), "psqlodbcw.so")
_JVM = ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")
_PG8000_MODES = ("prefer", "require")
_NODE_MODES = ("disable", "prefer", "require", "verify-ca", "verify-full")
_LIB_PQ_MODES = ("disable", "require", "verify-ca", "verify-full")

DRIVERS = (
    Driver("psql", "psql", _psql, libpq=True),
    *(
        Driver(f"libpq {major}", "libpq", _wheel(major), libpq=True, major=major)
        for major in WHEELS
    ),
    Driver("psycopg", "psycopg", _python("psycopg"), libpq=True),
    Driver("psycopg2", "psycopg2", _python("psycopg2"), libpq=True),
    Driver("SQLAlchemy", "sqlalchemy", _python("sqlalchemy"), libpq=True),
    Driver("psqlODBC", "psqlodbc", _python("pyodbc", "odbc-postgresql", _ODBC), libpq=True),
    Driver("DBD::Pg", "dbd-pg", _script("perl", "driver.pl"), libpq=True),
    Driver("Ruby pg", "ruby-pg", _script("ruby", "driver.rb"), libpq=True),
    Driver("PHP pgsql", "php", _script("php", "driver.php"), libpq=True),
    Driver("PHP PDO", "php", _script("php", "driver.php", "pdo"), libpq=True),
    Driver(
        "RPostgreSQL",
        "rpostgresql",
        _program(lambda rig: ["Rscript", "--vanilla", str(rig.folder / "driver.R")]),
        libpq=True,
    ),
    Driver("pgjdbc", "pgjdbc", _program(lambda rig: [*_JVM, "-cp", rig.java(), "Driver"])),
    Driver("pgx", "pgx-4", _program(lambda rig: [str(rig.go())], "golang-github-jackc-pgx-v4-dev")),
    Driver(
        "lib/pq",
        "lib-pq-1.11",
        _program(lambda rig: [str(rig.go()), "pq"], "golang-github-lib-pq-dev"),
        _LIB_PQ_MODES,
    ),
    Driver("asyncpg", "asyncpg", _python("asyncpg")),
    Driver("pg8000", "pg8000", _python("pg8000"), _PG8000_MODES),
    Driver(
        "node-postgres",
        "node-postgres",
        _program(lambda rig: ["node", str(rig.node())]),
        _NODE_MODES,
    ),
)


class Pool:
    """The drivers as one user, all started at once; each is used by one thread at a time."""

    def __init__(
        self, rig: Rig, person: Person, home: Path, drivers: tuple[Driver, ...] = DRIVERS
    ) -> None:
        self._building = threading.Lock()
        self._rig, self._person, self._home = rig, person, home
        self.workers: dict[str, Worker] = {}
        self.missing: dict[str, str] = {}
        self._drivers = drivers
        self.each(drivers, self._start)

    def _start(self, driver: Driver) -> None:
        try:
            with self._building:  # both Go drivers are one program
                worker = driver.start(self._rig, self._person, self._home)
        except ClientMissing as missing:
            self.missing[driver.name] = str(missing)
        else:
            self.workers[driver.name] = worker

    def each(self, drivers: tuple[Driver, ...], act: Callable[[Driver], None]) -> None:
        """Do it with every driver, some at once."""
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(act, drivers))

    def present(self) -> tuple[Driver, ...]:
        return tuple(driver for driver in self._drivers if driver.name in self.workers)

    def close(self) -> None:
        for worker in self.workers.values():
            with suppress(OSError):
                worker.close()
