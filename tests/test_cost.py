"""What a `check` costs where that can be counted: modules, files, connections, handshakes.

Times are for scripts/bench.py; these hold on any machine.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import Pki
from tests.postgres import Postgres
from tests.program import SOURCE, Program

ROOMS = {
    "accounts", "bundle", "catalogue", "console", "errors", "files", "inspection", "libpq",
    "libpq.locations", "libpq.outcomes", "openssl", "render", "results", "rootfile", "secrecy",
    "values", "windows", "__main__",
}  # fmt: skip
HEAVY = {"requests", "certifi", "cryptography", "rich", "platformdirs", "concurrent", "logging"}
HEAVY |= {
    "asyncio",
    "email",
    "http",
    "json",
    "pickle",
    "random",
    "tempfile",
    "typing",
    "unittest",
    "xml",
}

LOOKING = {"execve", "open", "openat", "stat", "lstat", "newfstatat", "statx", "access"}
LOOKING |= {"faccessat", "faccessat2", "readlink", "readlinkat", "getcwd", "chdir", "statfs"}

MODULES = """
import runpy, sys
bare = set(sys.modules)
sys.argv = ["qs-certs", *sys.argv[1:]]
try:
    runpy.run_module("qs_certs", run_name="__main__")
except SystemExit:
    pass
ours = sorted(set(sys.modules) - bare)
sys.stderr.write(" ".join(ours))
"""


@pytest.fixture
def program(tmp_path: Path) -> Program:
    made = Program(tmp_path / "home")
    made.home.mkdir()
    made.ok("install", "--offline")
    return made


def modules(program: Program, *words: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", MODULES, *words],
        env=program.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.split())


def ours(found: set[str]) -> set[str]:
    return {name.removeprefix("qs_certs.") for name in found if name.startswith("qs_certs.")}


def test_a_local_check_loads_these_rooms_and_nothing_heavy(program: Program) -> None:
    found = modules(program, "check")
    assert ours(found) <= ROOMS
    assert {"rootfile", "openssl"} <= ours(found)
    assert not {name.partition(".")[0] for name in found} & HEAVY


def test_what_is_heavy_is_noticed_where_it_is_needed(program: Program) -> None:
    assert "json" in modules(program, "check", "--json")
    assert "upkeep" in ours(modules(program, "history"))


def test_only_the_command_that_was_asked_for_is_made(program: Program) -> None:
    code = (
        "import typer.main as m; from qs_certs import cli\n"
        "import sys; print(*m.get_command(cli._app_for(sys.argv[1:])).commands)"
    )

    def made(*words: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            env=program.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split()

    assert made("check", "--json") == ["check"]
    assert len(made("--help")) > 5
    assert len(made("chek")) > 5


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux: strace")
def test_a_local_check_opens_the_root_file_twice_and_writes_nothing(
    program: Program, tmp_path: Path
) -> None:
    """Once to parse it, once for OpenSSL."""
    if shutil.which("strace") is None:
        pytest.skip("no strace on this machine")
    calls = traced(program, tmp_path, "check")
    opened = [path for name, path, flags in calls if name == "openat" and "O_WRONLY" not in flags]
    assert Counter(opened)[str(program.root_file)] == 2
    assert changing(calls) == set()
    assert len([1 for _, path, _ in calls if path.startswith(str(program.home))]) < 60
    # The control: what writes is seen to write, in each of its ways.
    assert changing(traced(program, tmp_path, "rollback")) >= {"openat", "fsync", "unlink"}


def changing(calls: list[tuple[str, str, str]]) -> set[str]:
    """The names of the calls that could change something: those that do not only look."""
    return {
        name
        for name, _, rest in calls
        if name not in LOOKING or re.search("O_(WRONLY|RDWR|CREAT|TRUNC)", rest)
    }


def traced(program: Program, folder: Path, *words: str) -> list[tuple[str, str, str]]:
    """The calls that name a file in the home, or make something durable."""
    log = folder / "strace.log"
    subprocess.run(
        ["strace", "-f", "-qq", "-y", "-o", str(log), "-e", "trace=%file,fsync",
         sys.executable, "-m", "qs_certs", *words],
        env=program.environment,
        cwd=SOURCE,
        capture_output=True,
        check=False,
    )  # fmt: skip
    calls = []
    for line in log.read_text(errors="replace").splitlines():
        found = re.match(r'\d+\s+(\w+)\((?:AT_FDCWD<[^>]*>, )?(?:"([^"]*)"|\d+<([^>]*)>)(.*)', line)
        if found and str(program.home) in line:
            calls.append((found[1], found[2] or found[3] or "", found[4]))
    return calls


class Counting:
    """A relay to a server that counts connections and what is sent at their beginning."""

    def __init__(self, port: int) -> None:
        self.upstream = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.connections = 0
        self.hellos = 0
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def close(self) -> None:
        """Stop, when every connection has ended."""
        self.listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self.listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            server = socket.create_connection(("127.0.0.1", self.upstream))
            for source, sink, sent in ((client, server, True), (server, client, False)):
                pump = threading.Thread(target=self._pump, args=(source, sink, sent))
                self._threads.append(pump)
                pump.start()

    def _pump(self, source: socket.socket, sink: socket.socket, sent: bool) -> None:
        with source, contextlib.suppress(OSError):
            while data := source.recv(65536):
                # A TLS record of type handshake that begins with a ClientHello (RFC 8446 §4).
                if sent and data[:1] == b"\x16" and data[5:6] == b"\x01":
                    self.hellos += 1
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@pytest.mark.psql
def test_a_live_check_is_one_connection_and_one_handshake_where_all_is_well(
    postgres: Postgres, pki: Pki, tmp_path: Path
) -> None:
    program = Program(tmp_path)
    program.root_file.parent.mkdir()
    program.root_file.write_bytes(pki.root.certificate.pem)
    with contextlib.closing(Counting(postgres.port)) as relay:
        program.ok("check", f"localhost:{relay.port}")
        assert (relay.connections, relay.hellos) == (1, 1)
        # The control: an unknown root is looked at again, without verification, to explain it.
        program.root_file.write_bytes(pki.other.certificate.pem)
        assert program("check", f"localhost:{relay.port}").code == 3
        assert relay.connections > 2


@pytest.mark.psql
@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux: strace")
@pytest.mark.parametrize("client", ["psql", "qs-certs", "control"])
def test_nothing_that_is_sent_waits_for_an_acknowledgement_as_in_libpq(
    postgres: Postgres, pki: Pki, tmp_path: Path, client: str
) -> None:
    """Otherwise close_notify, sent right behind Finished, leaves 40 ms late (Nagle)."""
    if shutil.which("strace") is None:
        pytest.skip("no strace on this machine")
    root = tmp_path / "root.crt"
    root.write_bytes(pki.root.certificate.pem)
    conninfo = postgres.conninfo(sslmode="verify-full", sslrootcert=str(root))
    connect = f"import socket; socket.create_connection(('127.0.0.1', {postgres.port}))"
    command = {
        "psql": ["psql", conninfo, "-c", "select 1"],
        "qs-certs": [sys.executable, "-m", "qs_certs", "check", conninfo],
        "control": [sys.executable, "-c", connect],
    }[client]
    log = tmp_path / "calls"
    subprocess.run(
        ["strace", "-f", "-qq", "-o", str(log), "-e", "trace=setsockopt,connect", *command],
        env=Program(tmp_path).environment,
        cwd=SOURCE,
        capture_output=True,
        check=True,
    )
    calls = log.read_text(errors="replace")
    assert f"htons({postgres.port})" in calls
    assert ("TCP_NODELAY, [1]" in calls) == (client != "control")
