"""The command that Query Service's page copies, pasted as people paste it, judged and given back.

`check` takes it as an argument and from standard input, makes the connection that it speaks of to
a real server, and prints it with sslmode=verify-full and without the token.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from html import escape
from pathlib import Path

import pytest

from qs_certs.errors import WrongUsage
from qs_certs.libpq.pasted import from_words, parse_conninfo
from tests.conftest import Pki
from tests.postgres import Postgres
from tests.program import SOURCE, Done, Program

TOKEN = (
    "eyJhbGciOiJSUzI1NiIsIng1dSI6Imltc19uYTEta2V5LWF0LTEuY2VyIn0."
    "eyJpZCI6IjE2OTk5OTk5OTk5OTlfMSIsInR5cGUiOiJhY2Nlc3NfdG9rZW4ifQ."
    "c2lnbmF0dXJlLXdpdGgtZGFzaGVzX2FuZF91bmRlcnNjb3Jlcw"
)
NEVER_EXPIRES = "0A1B2C3D4E5F@techacct.adobe.com:p8e-AbC_dEf/gHi+jKl="
USER = "0123456789ABCDEF01234567@AdobeOrg"

Paste = Callable[[str], str]
"""Makes what is pasted of the settings, one in a line."""


def joined(lines: str, between: str = " ") -> str:
    return lines.replace("\n", between)


PASTES: dict[str, Paste] = {
    "as the page copies it": lambda s: f"psql '{joined(s)}'",
    "double quotes": lambda s: f'psql "{joined(s)}"',
    "curly quotes": lambda s: f"psql \u2018{joined(s)}\u2019",
    "curly double quotes": lambda s: f"psql \u201c{joined(s)}\u201d",
    "no-break spaces": lambda s: f"psql\u00a0'{joined(s, chr(0xA0))}'",
    "a setting per line": lambda s: f"psql '{s}'",
    "Windows line ends": lambda s: 'psql "{}"'.format(joined(s, "\r\n")) + "\r\n",
    "indented lines": lambda s: 'psql "{}"'.format(joined(s, "\n      ")),
    "backslashes at line ends": lambda s: 'psql "{}"'.format(joined(s, " \\\n")),
    "backslashes in single quotes": lambda s: "psql '{}'".format(joined(s, " \\\n")),
    "backslashes without a space": lambda s: "psql '{}'".format(joined(s, "\\\n")),
    "a backslash after psql": lambda s: f"psql \\\n  '{joined(s)}'",
    "cmd": lambda s: f'C:\\Users\\ana>psql "{joined(s)}"',
    "cmd, carets": lambda s: 'psql "{}"'.format(joined(s, " ^\r\n")),
    "cmd, More?": lambda s: 'C:\\>psql "{}"'.format(joined(s, " ^\r\nMore? ")),
    "cmd, set": lambda s: f'set PGGSSENCMODE=disable && psql "{joined(s)}"',
    "cmd, whole path": lambda s: (
        f'"C:\\Program Files\\PostgreSQL\\16\\bin\\psql.exe" "{joined(s)}"'
    ),
    "PowerShell": lambda s: f"PS C:\\Users\\ana> psql '{joined(s)}'",
    "PowerShell, backticks": lambda s: 'psql "{}"'.format(joined(s, " `\r\n")),
    "PowerShell, prompts": lambda s: 'PS C:\\> psql "{}"'.format(joined(s, "\n>> ")),
    "PowerShell, $env": lambda s: f'$env:PGGSSENCMODE="disable"; psql "{joined(s)}"',
    "PowerShell, whole path": lambda s: (
        f'& "C:\\Program Files\\PostgreSQL\\16\\bin\\psql.exe" "{joined(s)}"'
    ),
    "zsh": lambda s: f"ana@mac ~ % psql '{joined(s)}'",
    "zsh, quote>": lambda s: "% psql '{}'".format(joined(s, "\nquote> ")),
    "zsh, dquote>": lambda s: '% psql "{}"'.format(joined(s, "\ndquote> ")),
    "bash, >": lambda s: "ana@host:~$ psql '{}'".format(joined(s, "\n> ")),
    "export": lambda s: f"export PGGSSENCMODE=disable\npsql '{joined(s)}'",
    "a variable before": lambda s: f"PGGSSENCMODE=disable psql '{joined(s)}'",
    "a semicolon after": lambda s: f"psql '{joined(s)}';",
    "more of a command": lambda s: f"psql '{joined(s)}' -c 'select 1' | less",
    "-d": lambda s: f"psql -d '{joined(s)}'",
    "Markdown, a line": lambda s: f"`psql '{joined(s)}'`",
    "Markdown, a block": lambda s: f"```sh\npsql '{joined(s)}'\n```\n",
    "a page's source": lambda s: escape(f"psql '{joined(s)}'"),
    "a byte order mark": lambda s: f"\ufeffpsql '{joined(s)}'",
    "without psql": joined,
    "without psql, a setting per line": lambda s: s,
    "the password first": lambda s: "psql '{}'".format(" ".join(reversed(s.splitlines()))),
    "a broken token": lambda s: (
        f"psql '{joined(s).replace(TOKEN[40:80], TOKEN[40:60] + chr(10) + TOKEN[60:80])}'"
    ),
    "the other kind of password": lambda s: f"psql '{joined(s).replace(TOKEN, NEVER_EXPIRES)}'",
}


@pytest.fixture
def program(tmp_path: Path, pki: Pki) -> Program:
    """A user who has our root."""
    home = tmp_path / "home"
    (home / ".postgresql").mkdir(parents=True)
    (home / ".postgresql" / "root.crt").write_bytes(pki.root.certificate.pem)
    return Program(home)


@pytest.fixture
def settings(postgres: Postgres) -> str:
    """The settings in the order of the page, one in a line."""
    return (
        f"sslmode=require\nhost=localhost\nport={postgres.port}\ndbname=prod:all\nuser={USER}\n"
        f"password={TOKEN}"
    )


def assert_judged_and_given_back(done: Done, settings: str, *, psql: bool) -> None:
    assert done.code == 0, done
    (corrected,) = (line for line in done.out.splitlines() if line.startswith("use "))
    command = corrected.removeprefix("use ").strip()
    if psql:
        program, command = shlex.split(command)
        assert program == "psql"
    given = dict(word.split("=", 1) for word in command.split())
    wanted = dict(line.split("=", 1) for line in settings.splitlines())
    del wanted["password"]
    given.pop("gssencmode", None)  # where the variable was set
    assert given == {**wanted, "sslmode": "verify-full"}
    for secret in (TOKEN[:12], TOKEN[-12:], TOKEN[60:72], NEVER_EXPIRES[-12:]):
        assert secret not in done.out + done.err
    assert "[weak-sslmode]" in done.out
    assert "[verified]" in done.out


@pytest.mark.parametrize("paste", PASTES.values(), ids=PASTES)
@pytest.mark.parametrize("way", ["argument", "standard input"])
def test_a_pasted_command_is_judged_and_given_back(
    way: str, paste: Paste, program: Program, settings: str
) -> None:
    text = paste(settings)
    if way == "argument":
        done = program("check", text)
    else:
        done = program("check", "-", stdin=text.encode())
    assert_judged_and_given_back(done, settings, psql="psql" in text)


def test_it_takes_what_powershell_pipes(program: Program, settings: str) -> None:
    text = f'psql "{joined(settings)}"\r\n'
    done = program("check", "-", stdin=text.encode("utf-16"))
    assert_judged_and_given_back(done, settings, psql=True)


def test_a_command_for_another_server_is_not_given_back_as_good(
    program: Program, settings: str, pki: Pki
) -> None:
    """The control: what makes these pass is the server's answer."""
    program.root_file.write_bytes(pki.other.certificate.pem)
    done = program("check", f"psql '{joined(settings)}'")
    assert done.code == 3, done
    assert "[verified]" not in done.out
    assert TOKEN[:12] not in done.out + done.err


SHELLS = ("sh", "bash", "zsh")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "line",
    [
        pytest.param("{program} check psql '{one}'", id="behind check"),
        pytest.param("{program} check \"psql '{one}'\"", id="in quotes"),
        pytest.param("{program} check PGGSSENCMODE=disable psql '{one}'", id="with a variable"),
        pytest.param('{program} check psql "{lines}"', id="with line ends"),
        pytest.param("{program} check - <<'END'\npsql '{lines}'\nEND", id="here document"),
    ],
)
def test_a_real_shell_passes_it_on(shell: str, line: str, program: Program, settings: str) -> None:
    """Pasted behind `qs-certs check `, the shell takes the quotes away and `check` copes."""
    if sys.platform == "win32":
        pytest.skip("not on Windows")
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    command = f"{shlex.quote(sys.executable)} -m qs_certs"
    script = line.format(program=command, one=joined(settings), lines=settings)
    ran = subprocess.run(
        [shell, "-c", script],
        env={**program.environment, "PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    done = Done(ran.returncode, ran.stdout, ran.stderr)
    assert_judged_and_given_back(done, settings, psql=True)


@pytest.mark.parametrize(
    "words",
    [
        ["host=h", "password=secret"],
        ["psql", "host=h", "password=secret"],
        ["psql", "password=secret"],
        ["psql", "secret"],
        ["secret", "psql", "host=h"],
        ["host=h", "postgresql://u:secret@h/db"],
        ["mysql", "host=h"],
    ],
    ids=" ".join,
)
def test_words_of_which_some_may_be_a_password_are_refused_without_it(words: list[str]) -> None:
    with pytest.raises(WrongUsage, match="goes into quotes") as raised:
        from_words(words)
    assert "secret" not in f"{raised.value} {raised.value.why} {raised.value.fix}"


def test_one_word_stays_as_it_is() -> None:
    assert from_words(["host=h  port=1"]) == "host=h  port=1"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["psql", "host=h port=1"], {"host": "h", "port": "1"}, id="psql"),
        pytest.param(["/usr/bin/psql", "hostaddr=1.2.3.4"], {"hostaddr": "1.2.3.4"}, id="its path"),
        pytest.param([r"C:\bin\psql.exe", "host = h"], {"host": "h"}, id="on Windows"),
        pytest.param(["psql", "postgresql://h/d"], {"host": "h", "dbname": "d"}, id="a URI"),
    ],
)
def test_words_of_a_command_are_one_command_again(
    words: list[str], expected: dict[str, str]
) -> None:
    assert parse_conninfo(from_words(words)).values == expected


def test_what_stands_before_a_command_is_kept_as_a_shell_would_take_it() -> None:
    given = parse_conninfo(from_words(["PGSSLMODE=verify-ca", "PGUSER=a b", "psql", "host=h"]))
    assert given.values == {"host": "h"}
    assert given.variables == {"PGSSLMODE": "verify-ca", "PGUSER": "a b"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("host=psql.example.com port=1", {"host": "psql.example.com", "port": "1"}, id="a host"),
        pytest.param("jdbc:postgresql://h/\rd", {"host": "h", "port": "5432", "dbname": "d", "sslmode": "prefer"}, id="old Mac"),
        pytest.param("host=h options='a\nb'", {"host": "h", "options": "a\nb"}, id="a line end that is meant"),
        pytest.param("host=h options='a\nb = c'", {"host": "h", "options": "a\nb = c"}, id="no keyword below"),
        pytest.param("host=h options=a\\\nport=1", {"host": "h", "options": "a", "port": "1"}, id="control: a keyword below"),
        pytest.param("```\n\n```", {}, id="an empty fence"),
        pytest.param("psql postgresql://u@h:1/d next", {"host": "h", "port": "1", "dbname": "d", "user": "u"}, id="a port is no password"),
    ],
)  # fmt: skip
def test_what_looks_like_another_form_is_read_as_it_is(text: str, expected: dict[str, str]) -> None:
    assert parse_conninfo(text).values == expected
