"""A connection URL with its password, or part of one, where a name, a file or a word belongs.

It is laid into every variable that libpq or we read, every value of a service file, `.pgpass`, a
connection string, and every argument and option of every command; then everything printed and
everything stored is searched for the password.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from qs_certs import cli, secrecy
from qs_certs.libpq.settings import KEYWORDS, SECRET_KEYWORDS, VARIABLES
from tests.faults.counting import Count
from tests.program import Done, Program

CANARY = "Zq7Xv"
SLIPS = {
    "URI": f"postgres://u:{CANARY}@h/db",
    "URI, upper case": f"POSTGRESQL://u:{CANARY}@h/db",
    "URI, password in the query": f"postgresql://h/db?password={CANARY}",
    "URI, raw": f"postgres://u:{CANARY}/{CANARY}?{CANARY}@h/db",
    "HTTPS": f"https://u:{CANARY}@h/x",
    "JDBC": f"jdbc:postgresql://h/db?user=u&password={CANARY}",
    "user:password@host": f"u:{CANARY}@h",
    "key/value": f"host=h password={CANARY}",
    "token": f"eyJhbGciOi{CANARY}J9.eyJ{CANARY}.{CANARY}",
}
LONG = os.environ.get("QS_CERTS_LONG") == "1"
if not LONG:  # what the three kinds of rule are about: a URL, a bare pair, a token
    SLIPS = {name: SLIPS[name] for name in ("URI", "user:password@host", "token")}
FORMS = ((), ("--json",), ("--format", "nagios"), ("--format", "intune"))

every_slip = pytest.mark.parametrize("slip", SLIPS.values(), ids=SLIPS)


def everything(folder: Path) -> bytes:
    """Every name and every byte of the files below *folder*."""
    found = [os.fsencode(path) for path in folder.rglob("*")]
    found += [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return b"\n".join(found)


class Searched:
    """Runs in homes of their own, in which relative names end as well."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs = 0
        self._patch = monkeypatch

    def leaks(
        self,
        *words: str,
        env: dict[str, str] | None = None,
        files: dict[str, str] | None = None,
    ) -> list[str]:
        """What a run says or stores of the canary, beside what was there."""
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            self._patch.chdir(home)
            for name, text in (files or {}).items():
                (home / name).write_text(text)
            before = everything(home).count(CANARY.encode())
            done: Done = Program(home, env or {})(*words)
            self.runs += 1
            after = everything(home).count(CANARY.encode())
            self._patch.chdir("/")
        assert done.code != 70, (words, done)
        assert done.out + done.err
        said = [line for line in (done.out + done.err).splitlines() if CANARY in line]
        return said + ["stored"] * (after > before)


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> Searched:
    return Searched(monkeypatch)


LOOKING = ("--timeout", "0.5")
RUNS = (
    ("check",),
    ("check", "--all", *LOOKING),
    ("check", "-p", "9", *LOOKING),
    ("check", "host=127.0.0.1 port=9", *LOOKING),
    ("install", "--offline", "--impact", "--dry-run"),
    ("install", "--offline"),
)
SHOWN = ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGSSLROOTCERT", "PGSSLCRL", "PGSERVICEFILE")
"""Variables whose value an answer repeats: all kinds of runs meet each."""
OURS = ("QS_CERTS_URL", "QS_CERTS_STORE", "HTTPS_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@every_slip
def test_a_variable_gives_nothing_away(searched: Searched, slip: str, count: Count) -> None:
    forms = itertools.cycle(FORMS)
    runs = itertools.cycle(RUNS)
    for name in sorted(VARIABLES):
        for _ in range(len(RUNS) if LONG or name in SHOWN else 1):
            words = next(runs)
            form = next(forms) if words[0] == "check" else next(forms)[:1]
            form = () if form == ("--format",) else form
            assert not searched.leaks(*words, *form, env={name: slip}), (name, words)
    for name in OURS:
        install = ("install", "--timeout", "1")
        for form in FORMS[:2]:
            assert not searched.leaks(*install, *form, env={name: slip}), name
        assert not searched.leaks("history", env={name: slip}), name
    count("runs with a URL and its password where it does not belong", searched.runs)


KEPT_IN_FILES = sorted(KEYWORDS - SECRET_KEYWORDS)
REPEATED = ("host", "hostaddr", "port", "service", "sslmode", "sslrootcert", "sslcrl", "sslcert")


@every_slip
def test_a_service_file_and_pgpass_give_nothing_away(
    searched: Searched, slip: str, count: Count
) -> None:
    forms = itertools.cycle(FORMS)
    contents = [
        {".pg_service.conf": f"[x]\n{key}={slip}\n"}
        for key in (KEPT_IN_FILES if LONG else REPEATED)
    ]
    contents += [
        {".pg_service.conf": f"[x]\nhost=127.0.0.1\nport=9\n{key}={slip}\n"}
        for key in KEPT_IN_FILES
        if key not in ("host", "port") and (LONG or key in REPEATED)
    ]
    contents.append({".pg_service.conf": f"[{slip}]\nhost=127.0.0.1\nport=9\n"})
    escaped = slip.replace(":", "\\:")
    contents += [
        {".pgpass": f"{host}:{port}:d:u:pw\n"}
        for host, port in ((slip, "5432"), (escaped, "5432"), ("h", escaped), (escaped, "*"))
    ]
    for files in contents:
        found = searched.leaks("check", "--all", *LOOKING, *next(forms), files=files)
        found += searched.leaks("check", "--service", "x", *LOOKING, *next(forms), files=files)
        assert not found, files
    for files in contents[-5:]:
        words = ("install", "--offline", "--impact", "--dry-run")
        assert not searched.leaks(*words, files=files), files
    count("runs with a URL and its password where it does not belong", searched.runs)


@every_slip
def test_a_connection_string_gives_nothing_away(
    searched: Searched, slip: str, count: Count
) -> None:
    forms = itertools.cycle(FORMS)
    for key in KEPT_IN_FILES if LONG else REPEATED:
        text = f"host=127.0.0.1 port=9 {key}='{slip}'"
        assert not searched.leaks("check", text, *LOOKING, *next(forms)), key
    for name in sorted(VARIABLES) if LONG else SHOWN:
        pasted = f"{name}='{slip}' psql 'host=127.0.0.1 port=9'"
        assert not searched.leaks("check", pasted, *LOOKING, *next(forms)), name
    count("runs with a URL and its password where it does not belong", searched.runs)


def places() -> list[tuple[str, ...]]:
    """Every command with each of its options that take a value, and with an argument."""
    command = typer.main.get_command(cli.app)
    found: list[tuple[str, ...]] = []
    for name, one in sorted(getattr(command, "commands").items()):  # noqa: B009 - of any group
        for parameter in one.params:
            if parameter.param_type_name == "argument":
                found.append((name,))
            elif not parameter.is_flag:
                found.append((name, max(parameter.opts, key=len)))
    return found


@pytest.mark.parametrize("place", places(), ids=" ".join)
def test_an_argument_or_an_option_gives_nothing_away(
    searched: Searched, place: tuple[str, ...], count: Count
) -> None:
    more = {"check": LOOKING, "install": ("--timeout", "1")}.get(place[0], ())
    for slip in SLIPS.values():
        for form in FORMS if place[0] == "check" else FORMS[:2]:
            assert not searched.leaks(*place, slip, *more, *form), slip
    count("runs with a URL and its password where it does not belong", searched.runs)


# --- the controls ---------------------------------------------------------------------------------

Leak = Callable[[Searched], list[str]]
SEEN: dict[str, Leak] = {
    "PGHOST": lambda s: s.leaks("check", "--all", *LOOKING, env={"PGHOST": CANARY}),
    "PGSERVICE": lambda s: s.leaks("check", env={"PGSERVICE": CANARY}),
    "PGSSLROOTCERT": lambda s: s.leaks("check", env={"PGSSLROOTCERT": f"/x/{CANARY}"}),
    "PGSSLROOTCERT, install": lambda s: s.leaks(
        "install", "--offline", env={"PGSSLROOTCERT": f"/x/{CANARY}"}
    ),
    "service": lambda s: s.leaks(
        "check", "--all", *LOOKING, files={".pg_service.conf": f"[x]\nhost={CANARY}\n"}
    ),
    ".pgpass": lambda s: s.leaks(
        "check", "--all", *LOOKING, files={".pgpass": f"{CANARY}:9:*:u:p\n"}
    ),
    "--target": lambda s: s.leaks("install", "--offline", "--target", CANARY),
    "--user": lambda s: s.leaks("list", "--user", CANARY),
    "a root": lambda s: s.leaks("install", CANARY),
}


@pytest.mark.parametrize("leak", SEEN.values(), ids=SEEN)
def test_a_name_that_is_one_is_repeated(
    searched: Searched, leak: Leak, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: each of these doors would show what it is given."""
    monkeypatch.setattr("qs_certs.userlist._is_administrator", lambda: True)
    assert leak(searched)


@pytest.mark.parametrize(
    "name",
    [
        "password-db.example.com",
        "/var/run/postgresql",
        "C:\\Users\\ana@corp\\root.crt",
        "C:/Users/ana@corp/root.crt",
        "/home/ana@example.com/.postgresql/root.crt",
        "\\\\server\\share\\root.crt",
        "@abstract",
        "::1,db:5432",
        "ABC@AdobeOrg",
        "secret-project/root.crt",
        "eyJ",
    ],
)
def test_names_that_people_have_are_no_slips(name: str) -> None:
    assert not secrecy.suspicious_file(name)


def test_a_good_pghost_with_an_odd_name_is_still_checked(searched: Searched) -> None:
    assert searched.leaks("check", "--all", *LOOKING, env={"PGHOST": f"password-{CANARY}.invalid"})
