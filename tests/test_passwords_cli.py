"""A password of a connection string appears nowhere: not in what the program prints, in any format,
not in what its functions return or raise, and not in a file.

The strings are those of tests/libpq/test_passwords.py, well-formed and malformed, and the ways to
get one onto a command line wrongly.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, example, given, settings

import qs_certs
from qs_certs import accounts, diagnosis, render, servers
from qs_certs.errors import QsCertsError
from qs_certs.libpq import pasted
from qs_certs.libpq import settings as parsing
from qs_certs.libpq.handshake import Trust, shake_hands
from qs_certs.results import CheckReport, Failure
from tests.conftest import Pki
from tests.libpq.servers import answering, certified, serving
from tests.libpq.test_passwords import (
    BROKEN,
    JWT,
    WELL_FORMED,
    WORD,
    Write,
    everything_about,
    passwords,
)
from tests.program import Done, Program, snapshot

STRINGS = {**WELL_FORMED, **{f"broken: {name}": write for name, write in BROKEN.items()}}


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A `check` for a user of its own."""

    home: Path

    def said(self, conninfo: str, env: Mapping[str, str] | None = None) -> str:
        """Everything that comes of a check of *conninfo*, in every format."""
        environment = {"HOME": str(self.home), **(env or {})}
        result: CheckReport | Failure
        with mock.patch.dict(os.environ, environment, clear=True):
            try:
                result = qs_certs.check(conninfo, timeout=0.5)
            except QsCertsError as error:
                result = Failure("check", error)
                chain = everything_about(error)
            else:
                chain = ""
        return "\n".join(
            (
                chain,
                repr(result),
                render.as_text(result, render.Style()),
                *render.talk(result),
                render.as_json(result),
                str(render.document(result)),
                render.as_nagios(result)[0],
                render.as_intune(result),
            )
        )


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[Elsewhere]:
    """Behind every host is the same server with TLS: only then is a corrected string shown."""
    home = tmp_path_factory.mktemp("home")
    with serving(answering(b"S", certified(pki.issuing, pki.leaf))) as server:
        shaken = shake_hands("localhost", server.port, trust=Trust(), deadline=5)
    assert shaken.established
    with (
        mock.patch.object(diagnosis, "shake_hands", return_value=shaken),
        mock.patch.object(accounts, "password_database_home", return_value=str(home)),
    ):
        yield Elsewhere(home)
    assert list(home.rglob("*")) == []  # not one file was written, in no test


@pytest.mark.parametrize("write", STRINGS.values(), ids=STRINGS)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(password=passwords)
@example(password=JWT)
@example(password=f"{WORD}@{WORD}/{WORD}?{WORD}#{WORD}:{WORD}")
@example(password=f"{WORD}'{WORD}' {WORD}")
def test_a_check_never_says_the_password(elsewhere: Elsewhere, write: Write, password: str) -> None:
    assert WORD not in elsewhere.said(write(password))


@pytest.mark.parametrize("write", WELL_FORMED.values(), ids=WELL_FORMED)
def test_a_good_string_is_corrected_without_its_password(
    elsewhere: Elsewhere, write: Write
) -> None:
    said = elsewhere.said(write(JWT))
    assert "host=h" in said
    assert "sslmode=verify-full" in said


@settings(max_examples=20, deadline=None)
@given(password=passwords)
def test_the_password_of_the_environment_is_never_said(elsewhere: Elsewhere, password: str) -> None:
    said = elsewhere.said("host=h", {"PGPASSWORD": password.replace("\0", ""), "PGUSER": "u"})
    assert WORD not in said
    assert "weak-sslmode" in said


@pytest.mark.parametrize(
    "leaky",
    [
        pytest.param(f"host={WORD}", id="a host is shown"),
        pytest.param(f"host=h sslrootcert=/{WORD}", id="a file is shown"),
        pytest.param(f"host=h sslmode={WORD}", id="a wrong mode is shown"),
    ],
)
def test_this_would_see_a_leak(elsewhere: Elsewhere, leaky: str) -> None:
    assert WORD in elsewhere.said(leaky)


def test_this_would_see_a_password_that_parsing_keeps(elsewhere: Elsewhere) -> None:
    with mock.patch.object(parsing, "SECRET_KEYWORDS", frozenset()):
        said = elsewhere.said(f"host=h password={WORD}")
    assert WORD in said


# --- the command line -----------------------------------------------------------------------------

SECRET = f"{WORD}-{JWT}"

LINES = {
    "quotes forgotten": ["check", "host=h", f"password={SECRET}"],
    "quotes forgotten, psql": ["check", "psql", "-h", "h", f"password={SECRET}"],
    "mysql's habit": ["check", "-h", "h", f"-p{SECRET}"],
    "-p apart": ["check", "-h", "h", "-p", SECRET],
    "--port=": ["check", "-h", "h", f"--port={SECRET}"],
    "-W": ["check", "-h", "h", f"-W{SECRET}"],
    "--password=": ["check", "-h", "h", f"--password={SECRET}"],
    "--password:": ["check", "-h", "h", f"--password:{SECRET}"],
    "--password apart": ["check", "-h", "h", "--password", SECRET],
    "no command": [f"host=h password={SECRET}"],
    "no command, URI": [f"postgresql://u:{SECRET}@h/db"],
    "another command": ["roots", "x", f"--password={SECRET}"],
    "explain": ["explain", f"host=h password={SECRET}"],
    "explain, words": ["explain", "psql", "-h", "h", f"password={SECRET}"],
    "two strings": ["check", "host=h", f"postgresql://u:{SECRET}@h/db"],
    "a URI for a host": ["check", "-h", f"postgresql://u:{WORD}@h/db"],
    "user and password for a host": ["check", "--host", f"u:{WORD}@h"],
    "a string for a host": ["check", "--host", f"host=h password={WORD}"],
    "a string for a service": ["check", "--service", f"service=x password={WORD}"],
    "port": ["check", f"host=h port={SECRET}"],
    "sslmode": ["check", f"host=h sslmode={SECRET}"],
}


@pytest.fixture
def program(tmp_path: Path) -> Program:
    home = tmp_path / "home"
    home.mkdir()
    return Program(home)


@pytest.mark.parametrize("words", LINES.values(), ids=LINES)
@pytest.mark.parametrize("form", [(), ("--json",), ("--format", "nagios"), ("--format=intune",)])
def test_no_slip_on_the_command_line_repeats_the_password(
    program: Program, words: list[str], form: tuple[str, ...]
) -> None:
    done: Done = program(*words, *form)
    assert done.code in (2, 3), done
    assert WORD not in done.out + done.err
    assert done.out + done.err
    assert snapshot(program.home).keys() == {"."}


def test_a_host_may_be_called_after_passwords() -> None:
    """The control: only what is no name is refused."""
    asked = servers.asked_for(accounts.surroundings({}), None, "password-db.example.com", 80, None)
    assert asked is not None
    assert asked.settings.servers[0].host == "password-db.example.com"


PASTED = {
    "psql": f"psql 'host=h\n port=x password={SECRET}'",
    "URI": f"postgresql://u:{SECRET}@h:x/db",
    "no string at all": f"my password is {SECRET}",
    "no UTF-8": f"host=h password={SECRET}\udcff port=x",
}


@pytest.mark.parametrize("text", PASTED.values(), ids=PASTED)
def test_a_process_that_reads_it_from_standard_input_does_not_repeat_it(
    program: Program, text: str
) -> None:
    pasted = text.encode("utf-8", "surrogateescape")
    done = program.process("check", "-", stdin=pasted)
    assert done.code == 2, done
    assert WORD not in done.out + done.err
    assert done.err.startswith("qs-certs: error: ")
    assert snapshot(program.home).keys() == {"."}


def test_a_bug_shows_where_and_not_what(program: Program) -> None:
    def bug(*_: object, **__: object) -> None:
        secret = SECRET
        raise ValueError(secret)

    with mock.patch.object(pasted, "parse_conninfo", bug):
        done = program("check", f"host=h password={SECRET}")
    assert done.code == 70
    assert WORD not in done.out + done.err
    assert "ValueError" in done.err
    assert "in bug" in done.err
    # What Python itself would have printed:
    try:
        bug()
    except ValueError:
        usual = io.StringIO()
        with contextlib.redirect_stderr(usual):
            traceback.print_exc(file=sys.stderr)
        assert WORD in usual.getvalue()


def test_service_files_and_pgpass_give_no_password_away(program: Program) -> None:
    (program.home / ".pg_service.conf").write_text(
        f"[a]\nhost=127.0.0.1\nport=9\npassword={SECRET}\n[b]\nhost=127.0.0.1\n"
        f"pasword={SECRET}\n[c]\n{SECRET}\n[d]\nport={SECRET}\n"
    )
    (program.home / ".pgpass").write_text(f"127.0.0.1:9:*:u:{SECRET}\n{SECRET}\n:{SECRET}\n")
    for words in (
        ["check", "--all", "--json"],
        ["check", "--all"],
        *(["check", "--service", name] for name in "abcd"),
        ["install", "--offline", "--impact", "--dry-run", "--json"],
        ["install", "--offline", "--impact"],
    ):
        done = program(*words)
        assert done.code in (0, 1, 2, 3, 4), done
        assert WORD not in done.out + done.err, words
    store = [path for path in program.store.rglob("*") if path.is_file()]
    assert store  # the installation is recorded there
    assert all(WORD.encode() not in path.read_bytes() for path in store)
