"""Time qs-certs as whole processes, beside what it should be compared with.

    python scripts/bench.py [--runs N] [--only NAME ...] [--json FILE] [--sslyze PROGRAM]

Prints one Markdown table per group: the medians of wall and processor time, peak memory, and the
ratio of each row to the group's yardstick, taken run by run, since all rows of a group run in turn.
`--json` writes every single run.  Needs the packages of `scripts/test.py` and, for the live group,
a PostgreSQL server; a row whose program is missing is left out, and said so.

Times differ between machines, and on a busy one between runs: read the ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.metadata
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(CHECKOUT)]

ENTRANCE = """
import re
import sys
from qs_certs.__main__ import main
if __name__ == "__main__":
    sys.argv[0] = re.sub(r"(-script\\.pyw|\\.exe)?$", "", sys.argv[0])
    sys.exit(main())
"""
"""What an installer makes of our entry point: `python -m` would load more."""

PROGRAM = (sys.executable, "-c", ENTRANCE)

SAME_OPTIONS = """
import functools
from qs_certs import cli

def without_work(function):
    @functools.wraps(function)
    def nothing(*args, **kwargs):
        pass
    return nothing

for command in cli.app.registered_commands:
    command.callback = without_work(command.callback)
cli.app()
"""
"""An empty typer app: our own commands, options and help texts, and nothing behind them."""

STAGES = {
    "the bare interpreter": "",
    "and OpenSSL": "import hashlib, ssl",
    "and our rooms": "import hashlib, ssl; from qs_certs import console, inspection, render",
}
"""Where the time of a local check goes: each stage does what the one before did, and more."""

LAUNCHER = """
import os, sys, time
answer = os.dup(1)
os.set_inheritable(answer, False)
os.dup2(2, 1)
started = time.perf_counter()
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(child, 0)
figures = [
    os.waitstatus_to_exitcode(status),
    time.perf_counter() - started,
    used.ru_utime + used.ru_stime,
    used.ru_maxrss / 1024,
]
os.write(answer, repr(figures).encode())
"""
"""Starts the command from a small process: a child's peak memory counts from its parent's."""

JUDGED = frozenset({0, 3})
"""The exit codes of a check that came to a verdict: a home for the bench is warned of."""

FOR_MANY = """
import gc
gc.disable()
import sys
from qs_certs import accounts, cli, inspection, rights, userlist
folder, number, *words = sys.argv[1:]
people = tuple(
    accounts.Account(f"user{n:04}", FIRST + n, FIRST + n, f"{folder}/user{n:04}")
    for n in range(int(number))
)
userlist._everybody = lambda: userlist.People(people)
sys.argv[1:] = words
if words:
    cli.main()
inspection._import_everything(live=False)
gc.freeze()
for each in people:
    rights.run_as(each, bool)
"""
"""The program on a machine with so many accounts; without words, a child for each that does nothing
but give up root's rights, one after the other."""
FIRST_ID = 300_000

LOAD_TWICE = """
import ssl, sys
for _ in range(2):
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=sys.argv[1])
"""


@dataclass(frozen=True)
class Row:
    """A command to time.  *before* runs untimed ahead of each run."""

    name: str
    command: Sequence[str]
    home: Path
    before: Callable[[], object] = lambda: None
    env: dict[str, str] = field(default_factory=dict)
    codes: frozenset[int] = frozenset({0})


@dataclass(frozen=True)
class Run:
    """One process: seconds by the clock, seconds of processor time, peak memory in MiB."""

    wall: float
    cpu: float
    memory: float


@dataclass
class Group:
    """Rows that run in turn; the first is the yardstick."""

    name: str
    rows: list[Row]
    runs: dict[str, list[Run]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    conclude: Callable[[Group], list[str]] = lambda _: []
    """More notes, out of what was measured."""


def timed(row: Row) -> Run:
    """Run *row* once.  SystemExit, with what it printed, where it ends with another code."""
    row.before()
    env = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(row.home),
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(CHECKOUT),
        "HTTPS_PROXY": "http://127.0.0.1:9",  # nothing leaves this machine
        **row.env,
    }
    with tempfile.TemporaryFile() as output:
        launched = subprocess.run(
            (sys.executable, "-I", "-S", "-c", LAUNCHER, *row.command),
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            check=True,
        )
        code, *figures = json.loads(launched.stdout)
        if code not in row.codes:
            output.seek(0)
            raise SystemExit(f"{row.name}: exit {code}\n{output.read().decode(errors='replace')}")
    return Run(*figures)


def measure(group: Group, runs: int) -> None:
    for row in group.rows:
        timed(row)  # the first run fills caches: compiled modules, the disk's
        group.runs[row.name] = []
    for _ in range(runs):
        for row in group.rows:
            group.runs[row.name].append(timed(row))


def table(group: Group) -> str:
    yardstick = group.runs[group.rows[0].name]
    lines = [
        f"### {group.name}",
        "",
        "| command | wall ms | processor ms | peak MiB | wall ratio | processor ratio |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in group.rows:
        runs = group.runs[row.name]
        wall, cpu, memory = (
            statistics.median(getattr(run, name) for run in runs)
            for name in ("wall", "cpu", "memory")
        )
        ratios = [
            statistics.median(
                getattr(a, name) / max(getattr(b, name), 1e-9)
                for a, b in zip(runs, yardstick, strict=True)
            )
            for name in ("wall", "cpu")
        ]
        lines.append(
            f"| {row.name} | {wall * 1000:.0f} | {cpu * 1000:.0f} | {memory:.0f} "
            f"| {ratios[0]:.2f} | {ratios[1]:.2f} |"
        )
    return "\n".join(
        [*lines, "", *(f"{note}\n" for note in (*group.notes, *group.conclude(group)))]
    )


# --- what is timed ------------------------------------------------------------------------------


@contextlib.contextmanager
def local(scratch: Path) -> Iterator[Group]:
    """A check of the root file alone."""
    home = scratch / "local"
    install(home)
    same = scratch / "same_options.py"
    same.write_text(SAME_OPTIONS)
    yield Group(
        "Local check",
        [
            Row(
                "an empty typer app with the same options",
                (sys.executable, str(same), "check"),
                home,
            ),
            Row("the bare interpreter", (sys.executable, "-c", "pass"), home),
            Row("qs-certs check", (*PROGRAM, "check"), home),
            Row("qs-certs check --strict", (*PROGRAM, "check", "--strict"), home, codes=JUDGED),
            Row("qs-certs --version", (*PROGRAM, "--version"), home),
        ],
    )


@contextlib.contextmanager
def stages(scratch: Path) -> Iterator[Group]:
    """Where the time of a local check goes."""
    home = scratch / "stages"
    install(home)
    rows = [
        Row(
            name,
            (sys.executable, "-c", f"import gc; gc.disable(); {code or 'pass'}\ngc.freeze()"),
            home,
        )
        for name, code in STAGES.items()
    ]
    rows.append(Row("qs-certs check", (*PROGRAM, "check"), home))
    rows.append(
        Row(
            "and typer: qs-certs check --strict",
            (*PROGRAM, "check", "--strict"),
            home,
            codes=JUDGED,
        )
    )
    yield Group("Where the time of a local check goes", rows)


@contextlib.contextmanager
def live(scratch: Path, delay: float = 0.0, sslyze: str | None = None) -> Iterator[Group]:
    """A check of a server on this machine, whose answers a relay holds back for *delay* seconds."""
    from tests.pki import Authority
    from tests.postgres import ADMIN, ROLE, Postgres, Settings

    root = Authority.root("Bench Root")
    issuing = root.intermediate("Bench Issuing CA", pathlen=0)
    leaf = issuing.leaf(dns=["localhost"])
    home = scratch / "live"
    (home / ".postgresql").mkdir(parents=True, exist_ok=True)
    anchor = home / ".postgresql" / "root.crt"
    anchor.write_bytes(root.certificate.pem)
    with Postgres.start() as server, contextlib.ExitStack() as stack:
        served = Settings(chain=issuing.chain(leaf), key=leaf.key_pem)
        server.configure(served)
        alter = f"alter role {ROLE} password 'bench'"
        subprocess.run(("psql", "-qc", alter, server.conninfo(user=ADMIN)), check=True)

        def ask_for(method: Literal["trust", "scram-sha-256"]) -> None:
            server.configure(replace(served, method=method))

        port = stack.enter_context(relay(server.port, delay)) if delay else server.port
        address = f"localhost:{port}"
        conninfo = server.conninfo(sslmode="verify-full", port=port)
        starttls = (
            "s_client",
            "-starttls",
            "postgres",
            "-connect",
            address,
            "-CAfile",
            str(anchor),
        )
        rows = [
            Row(
                "psql, verify-full",
                ("psql", conninfo, "-c", "select 1"),
                home,
                lambda: ask_for("trust"),
            ),
            Row(
                "psql, verify-full and a password",
                ("psql", conninfo, "-c", "select 1"),
                home,
                lambda: ask_for("scram-sha-256"),
                {"PGPASSWORD": "bench"},
            ),
            Row(f"qs-certs check {'HOST:PORT'}", (*PROGRAM, "check", conninfo), home),
            Row("openssl s_client", ("openssl", *starttls, "-verify_return_error"), home),
        ]
        if delay == 0:
            rows.append(
                Row(
                    "qs-certs check (no server)",
                    (*PROGRAM, "check"),
                    home,
                    codes=frozenset({0, 1}),
                )
            )
            if sslyze:
                rows.append(
                    Row(
                        "sslyze --starttls postgres",
                        (sslyze, "--starttls", "postgres", address),
                        home,
                        codes=frozenset({0, 1}),
                    )
                )
        group = Group(f"Live check, {delay * 1000:.0f} ms there and back", rows)
        group.rows = [row for row in rows if shutil.which(row.command[0])]
        group.notes = [f"{r.name} is not here" for r in rows if r not in group.rows]
        if not sslyze and delay == 0:
            group.notes.append("sslyze was not timed: name it with --sslyze.")
        yield group


@contextlib.contextmanager
def relay(port: int, delay: float) -> Iterator[int]:
    """A port that leads to *port*; each answer waits *delay* seconds, as a round trip would."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def pump(source: socket.socket, sink: socket.socket, wait: float) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                time.sleep(wait)
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                upstream = socket.create_connection(("127.0.0.1", port))
                for end in (client, upstream):  # pass on what comes when it comes
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for source, sink, wait in ((client, upstream, 0.0), (upstream, client, delay)):
                    threading.Thread(target=pump, args=(source, sink, wait), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


@contextlib.contextmanager
def size(scratch: Path, count: int) -> Iterator[Group]:
    """A root file of *count* certificates."""
    home = scratch / f"size-{count}"
    file = home / ".postgresql" / "root.crt"
    file.parent.mkdir(parents=True)
    file.write_bytes(certificates(count))
    store = home / "store"
    before = file.read_bytes()

    def again() -> None:
        shutil.rmtree(store, ignore_errors=True)
        file.write_bytes(before)

    env = {"QS_CERTS_STORE": str(store)}
    yield Group(
        f"A root file of {count:,} certificates, {len(before) / 1024:,.0f} KiB",
        [
            Row("OpenSSL loads it twice", (sys.executable, "-c", LOAD_TWICE, str(file)), home),
            Row("qs-certs check", (*PROGRAM, "check"), home, codes=frozenset({1, 3}), env=env),
            Row("qs-certs install --offline", (*PROGRAM, "install", "--offline"), home, again, env),
            Row("qs-certs list", (*PROGRAM, "list"), home, again, env),
        ],
    )


def certificates(count: int) -> bytes:
    """*count* different self-signed CA certificates, PEM."""
    from datetime import datetime, timezone

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    key = ec.generate_private_key(ec.SECP256R1())
    made = []
    for number in range(count):
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"Bench Root {number}")])
        made.append(
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(number + 1)
            .not_valid_before(datetime(2024, 1, 1, tzinfo=timezone.utc))
            .not_valid_after(datetime(2044, 1, 1, tzinfo=timezone.utc))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
            .public_bytes(Encoding.PEM)
        )
    return b"".join(made)


@contextlib.contextmanager
def many_servers(scratch: Path) -> Iterator[Group]:
    """`check --all` with 200 servers in .pgpass, a tenth of them silent, a tenth closed."""
    home = scratch / "servers"
    install(home)
    limit = 2.0
    with contextlib.ExitStack() as stack:
        refusing = stack.enter_context(refuser())
        silent = stack.enter_context(socket.create_server(("0.0.0.0", 0), backlog=256))  # noqa: S104
        with socket.create_server(("127.0.0.1", 0)) as once:
            closed = once.getsockname()[1]
        ports = [refusing] * 8 + [silent.getsockname()[1], closed]
        lines = [f"127.0.{n // 10}.{n % 10 + 1}:{ports[n % 10]}:*:*:x" for n in range(200)]
        file = home / ".pgpass"
        file.write_text("\n".join(lines) + "\n")
        file.chmod(0o600)
        words = ("check", "--all", "--timeout", str(limit))
        group = Group(
            "200 servers: 160 answer N, 20 say nothing, 20 are closed",
            [
                Row(
                    "qs-certs check 127.0.0.1, silent",
                    (
                        *PROGRAM,
                        "check",
                        f"127.0.0.1:{silent.getsockname()[1]}",
                        "--timeout",
                        str(limit),
                    ),
                    home,
                    codes=frozenset({4}),
                ),
                Row("qs-certs check --all", (*PROGRAM, *words), home, codes=frozenset({3, 4})),
            ],
            notes=[
                f"--timeout {limit:.0f}: one after the other, the silent ones alone would take {20 * limit:.0f} s."
            ],
        )
        yield group


@contextlib.contextmanager
def many_accounts(scratch: Path, number: int = 1_000, waiting: int = 16) -> Iterator[Group]:
    """`--all-users` over *number* homes, which hold the root already, beside a single one; and of a
    server that says nothing, over *waiting* homes.  The accounts are numbers that nobody has.
    """
    from qs_certs import bundle, catalogue, sources

    content = bundle.canonical(sources.embedded(catalogue.ROOTS[catalogue.DEFAULT]))
    scratch.chmod(0o711)  # each account has to reach its home
    homes = scratch / "homes"
    homes.mkdir(mode=0o755)
    for each in range(number):
        home = homes / f"user{each:04}"
        file = home / ".postgresql" / "root.crt"
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
        for path in (home, file.parent, file):
            shutil.chown(path, FIRST_ID + each, FIRST_ID + each)
    code = FOR_MANY.replace("FIRST", str(FIRST_ID))
    limit = 2.0

    def row(name: str, count: int, *words: str, codes: tuple[int, ...] = (0,)) -> Row:
        command = (sys.executable, "-c", code, str(homes), str(count), *words)
        return Row(f"{name}, {count:,}", command, scratch, codes=frozenset(codes))

    with (
        refuser() as refusing,
        socket.create_server(("127.0.0.1", 0), backlog=64) as silent,
    ):
        live = ("check", f"127.0.0.1:{refusing}", "--all-users")
        asked = ("check", f"127.0.0.1:{silent.getsockname()[1]}", "--timeout", str(limit))
        kinds: list[tuple[str, tuple[str, ...], tuple[int, ...]]] = [
            ("a child that does nothing", (), (0,)),
            ("check", ("check", "--all-users"), (0, 3)),
            ("install, nothing to do", ("install", "--offline", "--all-users"), (0,)),
            ("check HOST:PORT, which answers N", live, (3,)),
        ]
        rows = [
            row(name, count, *words, codes=codes)
            for name, words, codes in kinds
            for count in (number, 1)
        ]
        rows.append(row("check HOST:PORT, silent", waiting, *asked, "--all-users", codes=(4,)))

        def conclude(group: Group) -> list[str]:
            runs = [group.runs[each.name] for each in rows[:-1]]
            told = []
            for (name, _, _), many, one in zip(kinds, runs[::2], runs[1::2], strict=True):
                each = [
                    statistics.median(
                        (getattr(a, time) - getattr(b, time)) * 1000 / (number - 1)
                        for a, b in zip(many, one, strict=True)
                    )
                    for time in ("wall", "cpu")
                ]
                told.append(f"{name}: {each[0]:.1f} ms ({each[1]:.1f} ms of processor)")
            return [f"For each home beyond the first: {'; '.join(told)}."]

        yield Group(
            f"--all-users with {number:,} homes",
            rows,
            notes=[
                f"--timeout {limit:.0f}: one after the other would take {waiting * limit:.0f} s."
            ],
            conclude=conclude,
        )


@contextlib.contextmanager
def refuser() -> Iterator[int]:
    """A server on all loopback addresses that answers every SSLRequest with N."""
    listener = socket.create_server(("0.0.0.0", 0), backlog=512)  # noqa: S104 - 127.0.x.y

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client, contextlib.suppress(OSError):
                    client.settimeout(5)
                    client.recv(8)
                    client.sendall(b"N")

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


@contextlib.contextmanager
def long_history(scratch: Path, changes: int = 10_000) -> Iterator[Group]:
    """A store with *changes* changes, beside one with a single change."""
    rows = []
    for count in (1, changes):
        home = scratch / f"history-{count}"
        kept = scratch / f"history-{count}-kept"
        if not kept.exists():
            grow(home, count)
            shutil.copytree(home, kept)

        def again(home: Path = home, kept: Path = kept) -> None:
            shutil.rmtree(home)
            shutil.copytree(kept, home)

        env = {"QS_CERTS_STORE": str(home / "store")}
        label = f"{count:,} change{'s' if count > 1 else ''}"
        rows += [
            Row(
                f"install, {label}",
                (*PROGRAM, "install", "--offline", other_root()),
                home,
                again,
                env,
            ),
            Row(f"rollback, {label}", (*PROGRAM, "rollback"), home, again, env),
            Row(f"history, {label}", (*PROGRAM, "history"), home, again, env),
            Row(f"check, {label}", (*PROGRAM, "check"), home, again, env, frozenset({0, 1, 3})),
        ]
    yield Group(f"A store with {changes:,} changes", rows)


def other_root() -> str:
    from qs_certs import catalogue

    return next(name for name in catalogue.ROOTS if name != catalogue.DEFAULT)


def grow(home: Path, count: int) -> None:
    """Make *count* changes as the program makes them, in this process, without waiting for disks."""
    from unittest import mock

    from qs_certs import api
    from qs_certs.files import Disk

    home.mkdir(parents=True)
    environment = {"HOME": str(home), "QS_CERTS_STORE": str(home / "store")}
    with mock.patch.dict(os.environ, environment), contextlib.ExitStack() as stack:
        for name in dir(Disk):
            if "sync" in name:
                stack.enter_context(mock.patch.object(Disk, name, return_value=None))
        for number in range(count):
            change = api.remove if number % 2 else functools.partial(api.install, offline=True)
            change(())


def install(home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    timed(Row("install", (*PROGRAM, "install", "--offline"), home))


def machine() -> str:
    import ssl

    model = (
        next(
            (
                line.partition(":")[2].strip()
                for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")
            ),
            platform.processor(),
        )
        if Path("/proc/cpuinfo").exists()
        else platform.processor()
    )
    typer = importlib.metadata.version("typer")
    return (
        f"{platform.system()} {platform.release()}, {os.cpu_count()} processors ({model}), "
        f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION}, typer {typer}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sslyze", default=shutil.which("sslyze"))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    groups: dict[str, Callable[[Path], contextlib.AbstractContextManager[Group]]] = {
        "local": local,
        "stages": stages,
        "live": lambda scratch: live(scratch, sslyze=options.sslyze),
        "live-20": lambda scratch: live(scratch, 0.02),
        "size-10": lambda scratch: size(scratch, 10),
        "size-1000": lambda scratch: size(scratch, 1_000),
        "size-10000": lambda scratch: size(scratch, 10_000),
        "servers": many_servers,
        "history": long_history,
    }
    if sys.platform == "linux" and os.geteuid() == 0:
        groups["accounts"] = many_accounts
    else:
        print("accounts: left out, since it needs root on Linux\n")
    print(f"{machine()}\n")
    recorded = {}
    with tempfile.TemporaryDirectory(prefix="qs-certs-bench-") as folder:
        for name, group_of in groups.items():
            if options.only and name not in options.only:
                continue
            with group_of(Path(folder)) as group:
                runs = (
                    max(3, options.runs // 5)
                    if name in ("size-10000", "servers", "accounts")
                    else options.runs
                )
                measure(group, runs)
                print(table(group), flush=True)
                recorded[name] = {
                    key: [asdict(run) for run in each] for key, each in group.runs.items()
                }
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "groups": recorded}, indent=1))


if __name__ == "__main__":
    main()
