"""The way past the parser: `check` without options says and does what it does through typer."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Pki
from tests.libpq.servers import answering, certified, serving
from tests.program import PATIENCE, SOURCE, Done, Program

ENTRANCE = "from qs_certs.__main__ import main; main()"
PARSER = "from qs_certs.cli import main; main()"
LOADED = "import sys; sys.stderr.write(f'typer: {\"typer\" in sys.modules}')"

BUG = "from qs_certs import inspection; inspection.check = lambda *a, **k: {}['s3cret']; "


@pytest.fixture
def program(tmp_path: Path, pki: Pki) -> Program:
    made = Program(tmp_path / "home")
    made.root_file.parent.mkdir(parents=True)
    made.root_file.write_bytes(pki.root.certificate.pem)
    return made


def ended(program: Program, code: str, *words: str, shell: str = "") -> Done:
    """How *code* ends with these words, in a process of its own; *shell* redirects its streams."""
    command = [sys.executable, "-c", code, *words]
    if shell:
        command = ["/bin/sh", "-c", f'exec "$@" {shell}', "sh", *command]
    done = subprocess.run(
        command,
        check=False,
        env=program.environment,
        cwd=SOURCE,
        capture_output=True,
        timeout=PATIENCE,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def both(program: Program, *words: str, shell: str = "", before: str = "") -> Done:
    """The one end of both ways."""
    short, long = (
        ended(program, before + code, *words, shell=shell) for code in (ENTRANCE, PARSER)
    )
    assert short == long
    return short


@pytest.mark.parametrize(
    ("words", "parsed"),
    [
        (["check"], False),
        (["check", "localhost:1"], False),
        (["check", "host=localhost port=1"], False),
        (["check", ""], False),
        (["check", "-"], True),
        (["check", "--json"], True),
        (["check", "-hlocalhost"], True),
        (["check", "localhost:1", "--strict"], True),
        (["check", "localhost:1", "extra"], True),
        (["list"], True),
        ([], True),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else "",
)
def test_only_what_has_options_is_parsed(program: Program, words: list[str], parsed: bool) -> None:
    code = f"import atexit; atexit.register(lambda: exec({LOADED!r})); {ENTRANCE}"
    assert ended(program, code, *words).err.endswith(f"typer: {parsed}")


def test_both_ways_judge_the_root_file(program: Program) -> None:
    assert both(program, "check").code == 1
    program.ok("install", "--offline")
    assert both(program, "check").code == 0
    program.root_file.unlink()
    assert "root-missing" in both(program, "check").out


@pytest.mark.parametrize(
    ("conninfo", "code"),
    [
        pytest.param("", 0 if sys.platform != "win32" else 4, id="empty: the socket"),
        pytest.param("nobody.invalid:80", 4, id="unknown host"),
        pytest.param("host=localhost port=1 sslmode=verify-ca", 4, id="closed port"),
        pytest.param("host=localhost sslmode=verify-fully", 2, id="a wrong mode"),
        pytest.param("host=localhost pasword=s3cret", 2, id="a wrong keyword"),
        pytest.param("service=absent", 2, id="no such service"),
        pytest.param("postgresql://ana:s3cret@localhost:1/db", 4, id="a URI"),
        pytest.param("psql 'host=localhost port=1 password=s3cret'", 4, id="pasted"),
    ],
)
def test_both_ways_read_the_same_connection(program: Program, conninfo: str, code: int) -> None:
    done = both(program, "check", conninfo)
    assert done.code == code
    assert "s3cret" not in done.out + done.err


def test_both_ways_talk_to_the_server(program: Program, pki: Pki) -> None:
    program.ok("install", "--offline")
    with serving(answering(b"S", certified(pki.issuing, pki.leaf))) as server:
        assert both(program, "check", f"localhost:{server.port}").code == 0


def test_a_bug_is_the_same_and_holds_no_value(program: Program) -> None:
    for entrance in (ENTRANCE, PARSER):
        done = ended(program, BUG + entrance, "check")
        assert (done.code, done.out) == (70, "")
        assert done.err.startswith("qs-certs: bug: KeyError\n")
        assert "s3cret" not in done.err


@pytest.mark.skipif(sys.platform == "win32", reason="only on POSIX: redirections of sh")
@pytest.mark.parametrize("shell", [">&-", "2>&-", "<&-", ">/dev/full"])
def test_a_stream_that_takes_nothing_changes_no_verdict(program: Program, shell: str) -> None:
    if "full" in shell and not Path("/dev/full").exists():
        pytest.skip("only on systems with /dev/full")
    assert both(program, "check", shell=shell).code == 1
    # The control: the streams are really gone.
    said = ended(program, "import sys; sys.stdout.write('x'); sys.stdout.flush()", shell=shell)
    assert (said.code == 0) == (shell in ("2>&-", "<&-"))


@pytest.mark.skipif(sys.platform == "win32", reason="only on POSIX: signals")
@pytest.mark.parametrize("code", [ENTRANCE, PARSER], ids=["entrance", "parser"])
def test_an_interrupt_ends_with_130_and_one_line(program: Program, code: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = subprocess.Popen(
            [sys.executable, "-c", code, "check", f"localhost:{silent.getsockname()[1]}"],
            env=program.environment,
            cwd=SOURCE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with process:
            silent.settimeout(PATIENCE)
            talking, _ = silent.accept()
            with talking:
                assert talking.recv(8)
                time.sleep(0.2)
                os.kill(process.pid, signal.SIGINT)
                out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (130, b"", b"qs-certs: interrupted\n")
