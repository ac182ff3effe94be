"""Secrets that come in by other doors than a connection string: a URL, a proxy, the environment;
and doors by which they could go out: a process that is started, a file, the wire.

What connection strings do is held by tests/test_passwords_cli.py and tests/libpq/test_passwords.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings

from tests.faults.counting import Count
from tests.libpq.servers import SSL_REQUEST, answering, serving
from tests.libpq.test_passwords import JWT, WELL_FORMED, WORD, passwords
from tests.program import Done, Program

if sys.platform == "win32":
    pytest.skip("only on POSIX", allow_module_level=True)

CLOSED = "127.0.0.1:9"
"""Where nothing answers."""

Door = Callable[[str], tuple[list[str], dict[str, str]]]
"""Puts a password into words of the command line and variables of the environment."""


def _variable(name: str, text: str, *words: str) -> tuple[list[str], dict[str, str]]:
    return list(words), {name: text.replace("\0", "")}


DOORS: dict[str, Door] = {
    "proxy": lambda p: _variable(
        "HTTPS_PROXY", f"http://u:{quote(p, safe='')}@{CLOSED}", "install", "--timeout", "1"
    ),
    "proxy, raw": lambda p: _variable(
        "HTTPS_PROXY", f"http://u:{p}@{CLOSED}", "install", "--timeout", "1"
    ),
    "proxy of another kind": lambda p: _variable(
        "ALL_PROXY", f"socks5://u:{p}@{CLOSED}", "install", "--timeout", "1"
    ),
    "QS_CERTS_URL": lambda p: _variable(
        "QS_CERTS_URL", f"https://u:{p}@{CLOSED}/x", "install", "--timeout", "1"
    ),
    "QS_CERTS_URL, token": lambda p: _variable(
        "QS_CERTS_URL",
        f"https://{CLOSED}/x?token={quote(p)}#{quote(p)}",
        "install",
        "--timeout",
        "1",
    ),
    "--url": lambda p: (["install", "--url", f"https://u:{quote(p, safe='')}@{CLOSED}/"], {}),
    "--from URL": lambda p: (
        ["install", "--sha256", "ab" * 32, "--from", f"https://{CLOSED}/x?t={quote(p, safe='')}"],
        {},
    ),
    "PGPASSWORD": lambda p: _variable("PGPASSWORD", p, "check", "host=/x"),
    "PGSSLPASSWORD and others": lambda p: _variable(
        "PGOAUTHCLIENTSECRET", p, "check", "--all", "--timeout", "1"
    ),
}


def everything(folder: Path) -> bytes:
    """Every name and every byte of the files below *folder*."""
    found = [os.fsencode(path) for path in folder.rglob("*")]
    found += [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return b"\n".join(found)


def ran(door: Door, password: str, form: tuple[str, ...]) -> tuple[Done, bytes]:
    with tempfile.TemporaryDirectory() as home:
        words, env = door(password)
        done = Program(Path(home), env)(*words, *form)
        return done, everything(Path(home))


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
@settings(max_examples=4, deadline=None)
@given(password=passwords)
@example(password=f"{WORD}@{WORD}?{WORD}")  # in a URL, it ends the host too early
@example(password=f"1/{WORD}")
def test_a_secret_leaves_by_no_output_and_no_file(door: Door, password: str) -> None:
    for form in ((), ("--json",)):
        done, kept = ran(door, password, form)
        assert done.code in (0, 1, 2, 4), done
        assert "bug" not in done.err, done
        assert WORD not in done.out + done.err
        assert WORD.encode() not in kept


@pytest.mark.parametrize(
    "door",
    [
        pytest.param(lambda p: (["install", "--offline", "--target", p], {}), id="a name"),
        pytest.param(lambda p: (["install", "--url", f"https://{CLOSED}/{WORD}"], {}), id="a path"),
    ],
)
def test_what_is_no_secret_is_said(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: the measure would see a leak, in the output and in the journal."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.chdir(folder)
        done, kept = ran(door, WORD, ())
        assert WORD in done.out + done.err
        assert (WORD.encode() in kept) == ("--target" in done.out)


# --- processes, files and the wire -----------------------------------------------------------------

_WATCHED = """\
import os, sys
log = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
STARTS = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.fork", "pty.spawn")
def hook(event, args):
    writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
    if event in STARTS or writes:
        os.write(log, f"{event} {args!r}\\n".encode("utf-8", "backslashreplace"))
sys.addaudithook(hook)
if sys.argv[1] == "control":
    import subprocess
    subprocess.run(["true", sys.argv[2]])
    sys.exit()
from qs_certs.cli import main
main()
"""


def watched(folder: Path, env: Mapping[str, str], *words: str) -> tuple[str, str]:
    """What a run printed, and which processes and files it started and opened for writing."""
    log = folder / "log"
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED, str(log), *words],
        env=env,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout + done.stderr, log.read_text() if log.exists() else ""


@pytest.mark.parametrize("form", WELL_FORMED)
def test_a_password_reaches_no_process_no_file_and_no_server(
    program: Program, tmp_path: Path, form: str, count: Count
) -> None:
    with serving(answering(b"N")) as server:
        text = (
            WELL_FORMED[form](JWT)
            .replace("=h", "=localhost")
            .replace("@h:80", "@localhost")
            .replace("//h:80", f"//localhost:{server.port}")
        )
        text = text.replace("port=80", f"port={server.port}").replace("//h", "//localhost")
        text = text.replace("-h h", "-h localhost").replace("@h/", "@localhost/")
        env = {**program.environment, "PGPORT": str(server.port), "PGPASSWORD": JWT}
        said, log = watched(tmp_path, env, "check", text, "--timeout", "2")
    assert "server " in said, said
    assert WORD not in said + log
    assert log == ""  # nothing was started, and nothing opened for writing
    assert server.received == [SSL_REQUEST]
    count("connection strings whose password left by no process and no file", 1)


def test_a_process_that_is_started_would_be_seen(program: Program, tmp_path: Path) -> None:
    """The control."""
    _, log = watched(tmp_path, program.environment, "control", WORD)
    assert "subprocess.Popen" in log
    assert WORD in log
    (tmp_path / "log").unlink()
    _, log = watched(tmp_path, program.environment, "install", "--offline")
    assert "journal.jsonl" in log
    assert "subprocess" not in log
