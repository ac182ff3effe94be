"""What lies where a file is expected and is none, or has no end: nothing waits, nothing is lost.

Each is tried in a process of its own with a clock, since what is tested for is a program that hangs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from qs_certs import files
from tests.faults.counting import Count
from tests.program import Done, Program

if sys.platform == "win32":
    pytest.skip("only on POSIX", allow_module_level=True)

CLOCK = 45
"""Seconds, on a machine that is busy; a program that hangs would take for ever."""


def ended(program: Program, *words: str, stdin: int | IO[bytes] = subprocess.DEVNULL) -> Done:
    """Run it to its end; TimeoutExpired where it hangs."""
    done = subprocess.run(
        [sys.executable, "-m", "qs_certs", *words],
        env=program.environment,
        cwd="/",
        stdin=stdin,
        capture_output=True,
        timeout=CLOCK,
        check=False,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


NOWHERE = ("-h", "127.0.0.1", "-p", "9", "--timeout", "2")
PIPES = {
    "root.crt, live check": (".postgresql/root.crt", ("check", *NOWHERE), {}, 4),
    "root.crl, live check": (".postgresql/root.crl", ("check", *NOWHERE), {}, 3),
    "sslcrl": ("crl", ("check", "host=127.0.0.1 port=9 sslcrl={pipe}"), {}, 4),
    "postgresql.crt": (".postgresql/postgresql.crt", ("check", *NOWHERE), {}, 3),
    "PGSSLROOTCERT": ("pipe", ("check", *NOWHERE), {"PGSSLROOTCERT": "{pipe}"}, 4),
    "PGSERVICEFILE": ("pipe", ("check", "--service", "x"), {"PGSERVICEFILE": "{pipe}"}, 2),
    ".pgpass": (".pgpass", ("check", "--all"), {}, 0),
    "--ca-bundle": (
        "pipe",
        ("install", "--target", "{home}/x", "--url", "https://127.0.0.1:9/", "--ca-bundle", "{pipe}"),
        {},
        2,
    ),
    "REQUESTS_CA_BUNDLE": (
        "pipe",
        ("install", "--target", "{home}/x", "--url", "https://127.0.0.1:9/", "--timeout", "1"),
        {"REQUESTS_CA_BUNDLE": "{pipe}", "HTTPS_PROXY": ""},
        0,
    ),
    "journal": (".local/share/qs-certs/journal.jsonl", ("remove",), {}, 5),
    "lock": (".local/share/qs-certs/lock", ("remove",), {}, 6),
    "content": (".local/share/qs-certs/blobs/{blob}", ("rollback",), {}, 5),
}  # fmt: skip


@pytest.mark.parametrize(("place", "words", "env", "code"), PIPES.values(), ids=PIPES)
def test_a_pipe_where_a_file_is_expected_stops_nothing(
    program: Program,
    place: str,
    words: tuple[str, ...],
    env: dict[str, str],
    code: int,
    count: Count,
) -> None:
    (program.home / ".postgresql").mkdir(mode=0o700)
    program.root_file.write_bytes(b"# mine\n")
    program.ok("install", "--offline")
    (blob,) = [
        each for each in (program.store / "blobs").iterdir() if each.read_bytes() == b"# mine\n"
    ]
    pipe = program.home / place.format(blob=blob.name)
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    known = {"pipe": str(pipe), "home": str(program.home)}
    here = Program(program.home, {name: value.format(**known) for name, value in env.items()})
    done = ended(here, *(word.format(**known) for word in words))
    assert done.code == code, done
    assert "Traceback" not in done.err
    assert pipe.is_fifo()
    if pipe != program.root_file:
        assert program.root_file.read_bytes().startswith(b"# mine\n")
    count("pipes and endless files that stopped nothing", 1)


def test_openssl_itself_would_wait_at_a_pipe(tmp_path: Path) -> None:
    """The control: this is what is kept from happening."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    code = "import ssl, sys; ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(sys.argv[1])"
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, "-c", code, str(pipe)], timeout=1, check=False)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        pytest.param(("check", "-"), 2, id="check"),
        pytest.param(("explain",), 2, id="explain"),
        pytest.param(("install", "--from", "-"), 4, id="install"),
        pytest.param(("install", "--from", "/dev/zero"), 4, id="a file"),
    ],
)
def test_input_without_end_is_not_read_to_its_end(
    program: Program, words: tuple[str, ...], code: int, count: Count
) -> None:
    with Path("/dev/zero").open("rb") as endless:
        done = ended(program, *words, stdin=endless)
    assert done.code == code, done
    assert "larger than" in done.err
    assert not program.root_file.exists()
    count("pipes and endless files that stopped nothing", 1)


def test_a_root_file_of_any_size_is_refused_or_kept_whole(program: Program) -> None:
    (program.home / ".postgresql").mkdir(mode=0o700)
    big = (b"# " + b"x" * 77 + b"\n") * 131_073  # 10 MiB
    program.root_file.write_bytes(big)
    program.ok("install", "--offline")
    assert program.root_file.read_bytes().startswith(big)
    program.ok("rollback")
    assert program.root_file.read_bytes() == big

    with program.root_file.open("r+b") as file:
        file.truncate(files.MAXIMUM_SIZE + 1)  # no bytes on the disk
    done = program("install", "--offline")
    assert done.code == 6, done
    assert "larger than" in done.err
    assert program.root_file.stat().st_size == files.MAXIMUM_SIZE + 1


def test_a_password_file_of_many_servers_is_read_in_time(program: Program) -> None:
    lines = "".join(f"/tmp/{number}:1:*:u:p\n" for number in range(2_000))
    (program.home / ".pgpass").write_text(lines)
    done = ended(program, "check", "--all", "--json", "--timeout", "1")
    assert done.code in (1, 3, 4), done.err
    assert len(done.document["servers"]) > 1
