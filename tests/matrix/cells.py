"""The cells of the matrix: what is in the home, and what `check` and `clients` say will happen.

A cell is one connection of one client in one sslmode to a real PostgreSQL with one root file.
Nothing in here knows what clients do: for a binding of libpq the outcome is that of `qs-certs
check` with the same file, for every other driver it follows from its row in `qs-certs clients`.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.clients import Outcome
from tests.conftest import Pki
from tests.matrix.people import Person
from tests.matrix.rig import HOST, Driver
from tests.pki import Certificate
from tests.postgres import Postgres
from tests.program import Program

Hba = str
Foretold = Mapping[str, Mapping[Hba, Outcome]]
"""Outcomes by sslmode, for a server that accepts plaintext too (`host`), and one that does not."""


@dataclass(frozen=True, slots=True)
class State:
    """What lies in the home.  *content* is put into root.crt; with *install*, our program then
    merges our root in; *named* is given to the client as sslrootcert instead."""

    name: str
    content: bytes | None = None
    install: bool = False
    named: bytes | None = None

    @property
    def trusted(self) -> bool:
        """Our root is in a file that libpq can load."""
        return self.install or self.name == "named, ours"

    @property
    def damaged(self) -> bool:
        return self.name in DAMAGED

    @property
    def missing(self) -> bool:
        return self.name == "none"


DAMAGED = ("glued", "truncated", "UTF-16", "empty", "NUL")


def states(pki: Pki) -> tuple[State, ...]:
    right, other = pki.root.certificate.pem, pki.other.certificate.pem
    theirs = b"# The other product's root\r\n" + other.replace(b"\n", b"\r\n").rstrip()
    return (
        State("none"),
        State("installed", install=True),
        State("another's", other),
        State("merged", theirs, install=True),
        State("glued", other.rstrip(b"\n") + right),
        State("truncated", other[: len(other) // 2] + b"\n" + right),
        State("UTF-16", right.decode().encode("utf-16")),
        State("empty", b""),
        State("NUL", b"\0" + right),
        State("named, ours", named=right),
        State("named, another's", named=other),
    )


def furnish(
    home: Path, person: Person, state: State, shared: Path, root: Certificate | None = None
) -> str:
    """Bring the home into *state*; the sslrootcert to give, if any.

    The *root* is installed by the program itself, in a process of the person.
    """
    folder = home / ".postgresql"
    shutil.rmtree(folder, ignore_errors=True)
    if state.content is not None:
        folder.mkdir()
        (folder / "root.crt").write_bytes(state.content)
        person.give(folder)
    if state.install:
        assert root is not None
        source = shared / "our-root.pem"
        source.write_bytes(root.pem)
        words = ("install", "--from", source, "--sha256", root.sha256)
        done = Program(home, user=person.uid).process(*words)
        assert done.code == 0, done
        assert (folder / "root.crt").stat().st_uid == person.uid
    if state.named is None:
        return ""
    path = shared / "named.pem"
    path.write_bytes(state.named)
    return str(path)


def check_says(home: Path, postgres: Postgres, sslrootcert: str) -> Foretold:
    """What `qs-certs check --json` foretells for this home."""
    named = {"sslrootcert": sslrootcert} if sslrootcert else {}
    text = postgres.conninfo(HOST, sslmode="verify-full", **named)
    (server,) = Program(home)("check", text, "--json").document["servers"]
    return {
        each["mode"]: {"host": each["outcome"], "hostssl": each["outcome_if_plaintext_refused"]}
        for each in server["sslmodes"]
    }


def clients_say(driver: Driver, row: Mapping[str, Any], state: State) -> Foretold:
    """What follows from a row of `qs-certs clients --json`.

    A mode of *row* is judged by the root file; another one verifies by the driver's own roots,
    where OWN_ROOTS has it, or not at all.
    """
    return {mode: _by_row(driver, row, state, mode) for mode in driver.modes}


def _by_row(
    driver: Driver, row: Mapping[str, Any], state: State, mode: str
) -> Mapping[Hba, Outcome]:
    notes = tuple(row["notes"])
    verifies = verifying(driver, notes, state.named is not None)
    judged = mode in row["sslmodes"] or (state.named is not None and mode in verifies)
    trusted = state.trusted or (state.name == "truncated" and SKIPS_DAMAGE in notes)
    if mode == "disable":
        return _PLAINTEXT
    if state.damaged and not trusted and BREAKS_EVERY_MODE in notes:
        return _FAILS
    if mode == "allow":  # TLS is its second try, and nobody's verdict there
        return _PLAINTEXT if NEVER_AFTER_ALLOW in notes else _EITHER
    if judged:
        return _ENCRYPTED if trusted or (state.missing and mode == "require") else _FAILS
    return _FAILS if mode in verifies else _ENCRYPTED


_PLAINTEXT: Mapping[Hba, Outcome] = {"host": "plaintext", "hostssl": "fails"}
_ENCRYPTED: Mapping[Hba, Outcome] = {"host": "encrypted", "hostssl": "encrypted"}
_EITHER: Mapping[Hba, Outcome] = {"host": "plaintext", "hostssl": "encrypted"}
_FAILS: Mapping[Hba, Outcome] = {"host": "fails", "hostssl": "fails"}

# The notes of `clients` that the outcome of a cell follows from; each must stand there verbatim.
BREAKS_EVERY_MODE = "A root file without any usable certificate breaks every mode but disable."
SKIPS_DAMAGE = "Skips a damaged block where libpq gives up the whole file."
NEVER_AFTER_ALLOW = "With allow it does not get as far as TLS where the server refuses plaintext."
REQUIRE_WITH_A_FILE = "With sslrootcert given, require checks the chain, too."
NODE_VERIFIES = "prefer, require and verify-ca in a connection string all mean verify-full."
CONTEXT = "Only with such a context; ssl_context=True encrypts and verifies nothing."


def verifying(driver: Driver, notes: tuple[str, ...], named: bool) -> tuple[str, ...]:
    """The modes in which a driver verifies, by whatever roots; *named*: given a file of them."""
    if NODE_VERIFIES in notes:
        return ("prefer", "require", "verify-ca", "verify-full")
    if driver.slug == "pg8000":  # a root file is given to it as a context, in place of any mode
        return driver.modes if named else ()
    if named and REQUIRE_WITH_A_FILE in notes:
        return ("require", "verify-ca", "verify-full")
    return ("verify-ca", "verify-full")


def home_of(row: Mapping[str, Any], driver: Driver) -> str | None:
    """Whose word on the home counts, by `clients`: "HOME", "passwd", or None: it has no default."""
    looks_in = row["looks_in"]
    since = re.search(r"from libpq (\d+) on HOME decides", looks_in)
    if since is not None:
        old = driver.major is not None and driver.major < int(since[1])
        return "passwd" if old else "HOME"
    if "password database" in looks_in or "user.home" in looks_in:
        return "passwd"
    return "HOME" if "by HOME" in looks_in else None
