"""A real PostgreSQL server with TLS on a free port of 127.0.0.1, made for one test session.

    with Postgres.start() as server:
        server.set_tls(issuing.chain(leaf), leaf.key_pem)
        server.set_hba("hostssl")
        server.mark()
        ...                              # a client connects to server.conninfo(sslmode="prefer")
        assert server.log() == []

Every host name reaches it: `conninfo(host="db.test")` adds `hostaddr=127.0.0.1`.  The server
itself is as lax as OpenSSL can be made (SHA-1, 1024 bits, TLS 1.0): judging is the client's part.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

Hba = Literal["host", "hostssl", "hostnossl"]
Protocol = Literal["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"]

ROLE = "app"
DATABASE = "postgres"
ADDRESS = "127.0.0.1"

ADMIN = "bench"  # the bench's own role: pg_hba.conf lets it in whatever the tests ask for
_DEADLINE = 20.0  # seconds for the server to start or reload; it needs a small part of it

SILENCE_WITHIN = 5.0
"""Seconds after which a client that is still connected is an error: see `Postgres.log`."""

# What the operating system's OpenSSL forbids by default, the server may serve all the same.
_OPENSSL_CONF = """\
openssl_conf = lax
[lax]
ssl_conf = ssl
[ssl]
system_default = any
[any]
MinProtocol = None
CipherString = DEFAULT:@SECLEVEL=0
"""

_POSTGRESQL_CONF = """\
listen_addresses = '{address}'
port = {port}
unix_socket_directories = ''
max_connections = 50
shared_buffers = 16MB
fsync = off
autovacuum = off
log_line_prefix = '%p '
include 'bench.conf'
"""

# The shell that guards the server.  It ends the server and removes the folder as soon as the
# other end of its standard input is closed: by `stop`, or by the death of the tests, however
# they die.  A server that ends by itself leaves its log until then.
_GUARD = """\
exec 3<&0 </dev/null
"$1" -D "$2/data" 3<&- >"$2/log" 2>&1 &
server=$!
(read -r _ <&3; [ -e "$2/exit-status" ] || kill -QUIT $server) &
reader=$!
wait $server
echo $? >"$2/exit-status"
wait $reader
cd / && rm -rf "$2"
"""


class PostgresMissing(Exception):
    """This machine has no PostgreSQL server that the tests could run; the text says why."""


class PostgresFailed(Exception):
    """The server did not start, or refused what it was asked; the text is its own log."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What tests vary.  TLS is on where there is a *chain*."""

    chain: bytes | None = None
    key: bytes = b""
    min_protocol: Protocol = "TLSv1.2"
    max_protocol: Protocol | None = None
    client_ca: bytes | None = None
    client_crl: bytes | None = None
    hba: Hba = "host"
    method: Literal["trust", "scram-sha-256"] = "trust"
    log_connections: bool = False


class Postgres:
    """A running server.  Settings are in force when the method that makes them returns."""

    def __init__(self, folder: Path, port: int, guard: subprocess.Popen[bytes]) -> None:
        self.port = port
        self.settings = Settings()
        self.folder = folder
        self._guard = guard
        self._known_by = os.getpid()
        """A fork (scripts/mutation.py) does not know what the forks before it have left."""
        self._mark = 0
        self._own_pids: set[int] = set()
        self._resident: frozenset[int] = frozenset()

    @classmethod
    @contextmanager
    def start(cls) -> Iterator[Postgres]:
        """A server without TLS that lets everybody in, gone when the block ends.

        Raises PostgresMissing where there is none to start, PostgresFailed with the log where it
        does not come up.
        """
        server = cls._launch()
        try:
            yield server
        finally:
            server._stop()

    @classmethod
    def _launch(cls) -> Postgres:
        for _ in range(3):
            server = cls._launch_on(_free_port())
            try:
                server._wait_until_ready()
            except BaseException as failed:
                server._stop()
                # Somebody took the port between our look and the server's.
                if "Address already in use" in str(failed):
                    continue
                raise
            return server
        raise PostgresFailed("no free port in three attempts")

    @classmethod
    def _launch_on(cls, port: int) -> Postgres:
        binaries, account = _binaries(), _account()
        folder = Path(tempfile.mkdtemp(prefix="qs-certs-postgres-"))
        (folder / "openssl.cnf").write_text(_OPENSSL_CONF)
        _give(folder, account)
        _give(folder / "openssl.cnf", account)
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LC_ALL": "C",
            "OPENSSL_CONF": str(folder / "openssl.cnf"),
        }
        try:
            _initdb(binaries, folder / "data", account, environment)
        except PostgresFailed:
            shutil.rmtree(folder)
            raise
        with (folder / "data/postgresql.conf").open("a") as conf:
            conf.write(_POSTGRESQL_CONF.format(address=ADDRESS, port=port))
        (folder / "log").touch()
        _give(folder / "log", account)
        _write(folder / "data", Settings(), 0)
        guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", str(binaries / "postgres"), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=account,
            env=environment,
            cwd="/",
            start_new_session=True,  # an interrupt at the terminal is for pytest
        )
        return cls(folder, port, guard)

    def _wait_until_ready(self) -> None:
        self._wait_for(self._answers, "the server does not answer")
        self._ask(f"create role {ROLE} login")
        # The server's own processes that pg_stat_activity does not list: the statistics
        # collector before PostgreSQL 15.
        self._resident = frozenset(_children(self._pid)) - self._own_pids

    def _stop(self) -> None:
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait(_DEADLINE)

    # What tests vary.

    def set_tls(
        self,
        chain_pem: bytes | None,
        key_pem: bytes = b"",
        *,
        min_protocol: Protocol = "TLSv1.2",
        max_protocol: Protocol | None = None,
        client_ca: bytes | None = None,
        client_crl: bytes | None = None,
    ) -> None:
        """Serve this chain (leaf first), or with None no TLS at all (`ssl = off`).

        *client_ca* makes the server ask for client certificates.  Raises PostgresFailed where
        the server does not take the files, a key that does not fit for instance.
        """
        self.configure(
            replace(
                self.settings,
                chain=chain_pem,
                key=key_pem,
                min_protocol=min_protocol,
                max_protocol=max_protocol,
                client_ca=client_ca,
                client_crl=client_crl,
            )
        )

    def set_hba(self, hba: Hba) -> None:
        """Let in sessions of both kinds (`host`), with TLS only, or without TLS only."""
        self.configure(replace(self.settings, hba=hba))

    def set_log_connections(self, on: bool) -> None:
        """Log connections that succeed too; off at first, as by default."""
        self.configure(replace(self.settings, log_connections=on))

    def configure(self, settings: Settings) -> None:
        """Put all settings in force; costs nothing where they already are.

        Raises PostgresFailed with the log where the server refuses them; the old ones stay.
        """
        if settings == self.settings and self._known_by == os.getpid():
            return
        try:
            self._reload(settings)
        except PostgresFailed:
            self._reload(self.settings)
            raise
        self.settings = settings
        self._known_by = os.getpid()

    def _reload(self, settings: Settings) -> None:
        before = self._log_size()
        generation = time.monotonic_ns()
        wanted = str(generation)
        _write(self.folder / "data", settings, generation)
        if sys.platform != "win32":
            os.kill(self._pid, signal.SIGHUP)

        # Between two connections the server takes up postgresql.conf, pg_hba.conf and the TLS
        # files, in this order (postmaster.c): a session that sees the first has them all.
        def in_force() -> bool:
            self._refuse_errors(before)
            return self._ask("select current_setting('bench.generation')") == [wanted]

        self._wait_for(in_force, "the server does not reload")
        self._refuse_errors(before)

    def _refuse_errors(self, since: int) -> None:
        lines = self._log_from(since)
        if any("not reloaded" in line or "contains errors" in line for line in lines):
            raise PostgresFailed("\n".join(lines))

    # What tests read.

    def conninfo(self, host: str | None = "localhost", **parameters: str | int) -> str:
        """A connection string for libpq.  Whatever the *host*, it leads here (`hostaddr`)."""
        values: dict[str, str | int] = {} if host is None else {"host": host}
        values |= {"hostaddr": ADDRESS, "port": self.port, "user": ROLE, "dbname": DATABASE}
        values |= parameters
        return " ".join(f"{name}={_quoted(str(value))}" for name, value in values.items())

    @property
    def version(self) -> int:
        """The major version: 15."""
        return int(self._ask("show server_version_num")[0]) // 10000

    def mark(self) -> None:
        """Begin `log` anew: lines of clients that connected before are not in it."""
        self._settle()
        self._mark = self._log_size()
        self._own_pids.clear()

    def log(self) -> list[str]:
        """The lines logged since `mark`, when the server is done with every client so far.

        Without what concerns the bench's own connections.  Raises PostgresFailed while a client
        is still connected.
        """
        self._settle()
        return self._log_from(self._mark)

    def _settle(self) -> None:
        """Wait until no client's process is left: only then has each written what it had to.

        Our own connection comes after all others in the queue of the listening socket, so that
        they have their processes when it is answered.
        """

        def quiet() -> bool:
            listed = self._ask(
                "select pid from pg_stat_activity where backend_type <> 'client backend'"
            )
            known = self._resident | self._own_pids | {int(pid) for pid in listed}
            return set(_children(self._pid)) <= known

        self._wait_for(quiet, "a client is still connected", SILENCE_WITHIN)

    def _log_size(self) -> int:
        return (self.folder / "log").stat().st_size

    def _log_from(self, start: int) -> list[str]:
        """Log lines without the process ids in front; continued lines stay with their first."""
        with (self.folder / "log").open("rb") as file:
            file.seek(start)
            text = file.read().decode(errors="replace")
        lines, wanted = [], True
        for line in text.splitlines():
            pid, space, rest = line.partition(" ")
            if space and pid.isdigit():
                wanted = int(pid) not in self._own_pids
                line = rest  # noqa: PLW2901
            if wanted:
                lines.append(line)
        return lines

    # How the bench talks to its server.

    @property
    def _pid(self) -> int:
        return int((self.folder / "data/postmaster.pid").read_text().split()[0])

    def _answers(self) -> bool:
        with suppress(OSError, PostgresFailed):  # refused, or "the database system is starting up"
            self._ask("select 1")
            return True
        return False

    def _wait_for(
        self, condition: Callable[[], bool], problem: str, seconds: float = _DEADLINE
    ) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if (self.folder / "exit-status").exists():
                raise PostgresFailed("the server ended:\n" + "\n".join(self._log_from(0)))
            if time.monotonic() > end:
                raise PostgresFailed(f"{problem}:\n" + "\n".join(self._log_from(0)[-20:]))
            time.sleep(0.005)

    def _ask(self, query: str) -> list[str]:
        """The first column of the rows of a query, over a plaintext session of our own.

        The messages are those of the PostgreSQL manual, "Frontend/Backend Protocol".
        """
        startup = f"user\0{ADMIN}\0database\0{DATABASE}\0\0".encode()
        rows: list[str] = []
        with socket.create_connection((ADDRESS, self.port), timeout=_DEADLINE) as connection:
            connection.sendall(struct.pack("!II", len(startup) + 8, 196608) + startup)
            asked = False
            with connection.makefile("rb") as answers:
                while header := answers.read(5):
                    kind, size = struct.unpack("!cI", header)
                    body = answers.read(size - 4)
                    if kind == b"E":
                        raise PostgresFailed(body.replace(b"\0", b" ").decode())
                    if kind == b"K":
                        self._own_pids.add(struct.unpack("!I", body[:4])[0])
                    elif kind == b"D":
                        (length,) = struct.unpack("!i", body[2:6])
                        rows.append(body[6 : 6 + length].decode())
                    elif kind == b"Z" and asked:
                        connection.sendall(struct.pack("!cI", b"X", 4))
                        return rows
                    elif kind == b"Z":
                        text = query.encode() + b"\0"
                        connection.sendall(struct.pack("!cI", b"Q", len(text) + 4) + text)
                        asked = True
        raise PostgresFailed("the server closed our own connection")


@cache
def _binaries() -> Path:
    """The folder that holds `initdb` and `postgres`: the one in use, or the newest."""
    if sys.platform == "win32":
        raise PostgresMissing("the test server is for POSIX systems")
    folders: list[Path] = []
    pg_config = shutil.which("pg_config")
    if pg_config is not None:
        asked = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        folders.append(Path(asked.stdout.strip()))
    versions = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    folders += sorted(versions, key=lambda folder: float(folder.parent.name), reverse=True)
    initdb = shutil.which("initdb")
    if initdb is not None:
        folders.append(Path(initdb).resolve().parent)
    for folder in folders:
        if all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres")):
            return folder
    raise PostgresMissing("no initdb and postgres found: pg_config, /usr/lib/postgresql, PATH")


@cache
def _account() -> str | None:
    """The account for the server where we are root, as whom it refuses to run; else None."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    import pwd

    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise PostgresMissing("run as root on a system without the users postgres and nobody")


def _initdb(binaries: Path, data: Path, account: str | None, environment: dict[str, str]) -> None:
    command = [str(binaries / "initdb"), "-D", str(data), "-U", ADMIN, "-A", "trust"]
    made = subprocess.run(
        [*command, "-E", "UTF8", "--no-locale", "--no-sync"],
        user=account,
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise PostgresFailed(made.stdout + made.stderr)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        port: int = probe.getsockname()[1]
        return port


def _give(path: Path, account: str | None) -> None:
    if account is not None:
        shutil.chown(path, account)


def _write(data: Path, settings: Settings, generation: int) -> None:
    """Write the files that a reload takes up."""
    lines = [
        f"bench.generation = '{generation}'",
        f"log_connections = {'on' if settings.log_connections else 'off'}",
        f"ssl = {'off' if settings.chain is None else 'on'}",
        f"ssl_min_protocol_version = '{settings.min_protocol}'",
        f"ssl_max_protocol_version = '{settings.max_protocol or ''}'",
    ]
    files = {
        "ssl_cert_file": settings.chain,
        "ssl_key_file": settings.key if settings.chain else None,
        "ssl_ca_file": settings.client_ca,
        "ssl_crl_file": settings.client_crl,
    }
    for name, content in files.items():
        if content is not None:
            path = data / f"{name}.pem"
            path.write_bytes(content)
            path.chmod(0o600)  # the server refuses a key that others may read
            _give(path, _account())
            lines.append(f"{name} = '{path}'")
    admin = f"host all {ADMIN} {ADDRESS}/32 trust"
    everybody = f"{settings.hba} all all {ADDRESS}/32 {settings.method}"
    for name, text in (("bench.conf", lines), ("pg_hba.conf", [admin, everybody])):
        (data / name).write_text("\n".join(text) + "\n")
        _give(data / name, _account())


def _children(pid: int) -> list[int]:
    """The processes whose parent is *pid*."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    if listed.exists():
        return [int(child) for child in listed.read_text().split()]
    shown = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    )
    pairs = (line.split() for line in shown.stdout.splitlines())
    return [int(child) for child, parent in pairs if int(parent) == pid]


def _quoted(value: str) -> str:
    """A value in a libpq connection string (PostgreSQL manual, 34.1.1.1)."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
