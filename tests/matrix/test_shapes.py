"""The contents of a root file whose outcome is known, all 65 in the long form, in every client.

The clients that read a default file ask in verify-ca, require and prefer: the shapes' own server
has another name than the bench's.  libpq is held to `check`, pgjdbc and pgx to what their rows in
`clients` say they take and refuse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from qs_certs.knowledge import find_client
from tests.clients import Outcome, Result
from tests.matrix.cells import (
    BREAKS_EVERY_MODE,
    SKIPS_DAMAGE,
    Foretold,
    State,
    check_says,
    furnish,
)
from tests.matrix.conftest import Count
from tests.matrix.people import Person
from tests.matrix.rig import DRIVERS, Driver, Pool, Rig
from tests.matrix.test_matrix import LONG
from tests.postgres import Postgres
from tests.shapes import SHAPES, Shape, pem, pki

MODES = ("verify-ca", "require", "prefer")
SHORT = (4, 7, 8, 18, 24, 26, 34, 42, 43, 45, 56, 59, 60)
CHOSEN = [shape for shape in SHAPES if LONG or shape.number in SHORT]
READERS = tuple(
    driver for driver in DRIVERS if driver.libpq or driver.name in ("pgjdbc", "pgx", "asyncpg")
)

# What the notes of the rows say, by the numbers of the shapes.
JAVA_TAKES = {10, 17, 26, 27, 29, 30, 56, 59, 60, 61, 63}
JAVA_REFUSES = {18, 19, 20, 21, 32, 43, 44, 45}
GO_TAKES = {17, 36, 37, 38, 39, 40, 41, 42, 59, 60, 61, 63}
GO_REFUSES = {18, 19, 21, 31, 32, 35, 43}
GO_FINDS_SOMETHING = {19, 21, 24, 27, 56, 58}
OLD_OPENSSL_REFUSES = {18, 19, 21}
"""A byte order mark, before OpenSSL 3: the wheels of libpq 13 to 15 bring such a one along."""

NOTES = {
    "pgjdbc": (
        "Takes DER, PKCS #7, and a leaf or an intermediate as root, which libpq does not.",
        (
            "Refuses a byte order mark, a private key and most TRUSTED CERTIFICATE blocks, which "
            "libpq takes."
        ),
    ),
    "pgx-4": (
        SKIPS_DAMAGE,
        BREAKS_EVERY_MODE,
        "Takes a leaf or an intermediate as root, which libpq does not.",
    ),
}


@dataclass(frozen=True, slots=True)
class Shaped:
    """What one content did to every client, and what `check` says of it."""

    results: dict[tuple[str, str], Result]
    checked: Foretold


@pytest.fixture(scope="module")
def shaped(
    rig: Rig, persons: dict[str, Person], postgres_server: Postgres
) -> Iterator[tuple[Pool, dict[int, Shaped]]]:
    found: dict[int, Shaped] = {}
    cleo = persons["cleo"]
    pool = Pool(rig, cleo, cleo.home, READERS)
    postgres_server.set_hba("host")
    postgres_server.set_tls(pem(pki().leaf) + pem(pki().intermediate), pki().leaf_key)
    try:
        for shape in CHOSEN:
            state = State(shape.title, shape.content)
            furnish(cleo.home, cleo, state, rig.folder)
            results: dict[tuple[str, str], Result] = {}

            def ask(driver: Driver, results: dict[tuple[str, str], Result] = results) -> None:
                for mode in MODES:
                    worker = pool.workers[driver.name]
                    results[driver.name, mode] = worker.connect(postgres_server.port, mode)

            pool.each(pool.present(), ask)
            found[shape.number] = Shaped(results, check_says(cleo.home, postgres_server, ""))
        yield pool, found
    finally:
        pool.close()


def foretold(driver: Driver, shape: Shape, mode: str, checked: Foretold) -> Outcome:
    number = shape.number
    old = driver.major in (13, 14, 15) and number in OLD_OPENSSL_REFUSES
    if driver.libpq:
        return _ended(False, mode) if old else checked[mode]["host"]
    verifies = checked["verify-ca"]["host"] == "encrypted"
    if driver.name == "asyncpg":  # Python's OpenSSL, but prefer looks at no file
        return "encrypted" if verifies or mode == "prefer" else "fails"
    if driver.name == "pgjdbc":
        verifies = number in JAVA_TAKES or (verifies and number not in JAVA_REFUSES)
        return "encrypted" if verifies or mode != "verify-ca" else "fails"
    verifies = number in GO_TAKES or (verifies and number not in GO_REFUSES)
    usable = verifies or number in GO_FINDS_SOMETHING
    return "encrypted" if verifies or (mode == "prefer" and usable) else "fails"


def _ended(verifies: bool, mode: str) -> Outcome:
    if verifies:
        return "encrypted"
    return "plaintext" if mode == "prefer" else "fails"


@pytest.mark.parametrize("driver", READERS, ids=lambda driver: driver.name)
def test_a_client_takes_a_file_as_check_and_clients_say(
    driver: Driver, shaped: tuple[Pool, dict[int, Shaped]], count: Count
) -> None:
    pool, found = shaped
    if driver.name in pool.missing:
        pytest.skip(pool.missing[driver.name])
    wrong = []
    for shape in CHOSEN:
        this = found[shape.number]
        for mode in MODES:
            result, expected = (
                this.results[driver.name, mode],
                foretold(driver, shape, mode, this.checked),
            )
            if result.outcome != expected:
                wrong.append(f"{shape.number} {shape.title}, {mode}: {result}, not {expected}")
    assert not wrong, "\n".join(wrong)
    cells = len(CHOSEN) * len(MODES)
    count("cells (client, version, state, mode) agree with check and clients", cells)


@pytest.mark.parametrize(("slug", "note"), [(slug, note) for slug in NOTES for note in NOTES[slug]])
def test_the_row_says_what_it_takes_and_refuses(slug: str, note: str) -> None:
    (client,) = find_client(slug)
    assert note in client.notes


def test_the_marks_of_the_shapes_are_what_check_says(
    shaped: tuple[Pool, dict[int, Shaped]],
) -> None:
    for shape in CHOSEN:
        said = shaped[1][shape.number].checked["verify-ca"]["host"]
        assert said == ("encrypted" if shape.verifies else "fails"), shape.title
