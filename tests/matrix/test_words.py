"""What clients say when a connection fails, provoked for real, and explained by `explain`.

Each trouble of a server is shown to every client at hand in verify-full, with our root given; what
it says goes into `explain` as it is.  Most of libpq's troubles sound alike, other drivers tell
more: the finding code is the one that the client's own words allow.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from qs_certs.knowledge import explain
from tests.clients import Result
from tests.conftest import Pki
from tests.libpq.servers import Behaviour, Server, answering, serving
from tests.matrix.conftest import Count
from tests.matrix.people import Person
from tests.matrix.rig import DRIVERS, HOST, Driver, Pool, Rig
from tests.pki import DAY, Certificate, self_signed
from tests.postgres import Postgres, Settings

FAMILIES = {
    "pgjdbc": "java",
    "pgx": "pgx",
    "lib/pq": "lib/pq",
    "asyncpg": "asyncpg",
    "pg8000": "pg8000",
    "node-postgres": "node",
}

every_driver = pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.name)


def family(driver: Driver) -> str:
    return FAMILIES.get(driver.name, "libpq")


@dataclass(frozen=True, slots=True)
class Trouble:
    """One way to fail.  *code* is what most drivers' words mean, *codes* where a family differs.

    None: that family cannot have this trouble.
    """

    code: str
    codes: Mapping[str, str | None] = field(default_factory=dict)
    tls: Callable[[Pki], tuple[bytes, bytes]] | None = None
    settings: Callable[[Settings], Settings] = lambda usual: usual
    answer: Behaviour | None = None
    host: str = HOST
    port: int | None = None
    mode: str | None = None
    """In place of verify-full, or what a driver has for it."""


def chained(make: Callable[[Pki], Certificate]) -> Callable[[Pki], tuple[bytes, bytes]]:
    """What the server presents: a leaf under the usual issuer."""

    def tls(pki: Pki) -> tuple[bytes, bytes]:
        leaf = make(pki)
        return pki.issuing.chain(leaf), leaf.key_pem

    return tls


def of_itself(pki: Pki) -> tuple[bytes, bytes]:
    leaf = self_signed(dns=[HOST], common_name=HOST)
    return leaf.pem, leaf.key_pem


def under_an_impostor(pki: Pki) -> tuple[bytes, bytes]:
    issuing = pki.root.impostor().intermediate("Impostor's Issuing CA")
    leaf = issuing.leaf(dns=[HOST])
    return issuing.chain(leaf), leaf.key_pem


def hanging_up(connection: socket.socket, server: Server) -> None:
    connection.recv(8)


LIBPQ_SAYS_ONE_THING = {"libpq": "verification-failed"}
TROUBLES = {
    "expired leaf": Trouble(
        "expired-certificate",
        LIBPQ_SAYS_ONE_THING,
        chained(
            lambda pki: pki.issuing.leaf(
                dns=[HOST], not_before=DAY - timedelta(90), not_after=DAY - timedelta(9)
            )
        ),
    ),
    "leaf of tomorrow": Trouble(
        "not-yet-valid",
        LIBPQ_SAYS_ONE_THING,
        chained(
            lambda pki: pki.issuing.leaf(
                dns=[HOST], not_before=DAY + timedelta(9), not_after=DAY + timedelta(90)
            )
        ),
    ),
    "self-signed leaf": Trouble(
        "self-signed-certificate",
        {
            **LIBPQ_SAYS_ONE_THING,
            "java": "untrusted-chain",
            "pgx": "untrusted-chain",
            "lib/pq": "untrusted-chain",
        },
        of_itself,
    ),
    "no intermediate": Trouble(
        "untrusted-chain",
        {**LIBPQ_SAYS_ONE_THING, "node": "incomplete-chain"},
        lambda pki: (pki.leaf.pem, pki.leaf.key_pem),
    ),
    "impostor of our root": Trouble(
        "untrusted-chain",
        {
            **LIBPQ_SAYS_ONE_THING,
            "java": "impostor-root",
            "pgx": "impostor-root",
            "lib/pq": "impostor-root",
        },
        under_an_impostor,
    ),
    "other name": Trouble(
        "host-name-mismatch",
        tls=chained(
            lambda pki: pki.issuing.leaf(dns=["a.example.com"], common_name="a.example.com")
        ),
    ),
    "other names": Trouble(
        "host-name-mismatch",
        tls=chained(
            lambda pki: pki.issuing.leaf(dns=["a.example.com", "b.example.com", "c.example.com"])
        ),
    ),
    "no name at all": Trouble(
        "host-name-mismatch", tls=chained(lambda pki: pki.issuing.leaf(common_name="Server"))
    ),
    "address": Trouble(
        "host-name-mismatch",
        tls=chained(lambda pki: pki.issuing.leaf(dns=["a.example.com"], ips=["10.0.0.9"])),
        host="127.0.0.1",
    ),
    "no TLS": Trouble("server-without-tls", settings=lambda usual: replace(usual, chain=None)),
    "web proxy": Trouble(
        "server-without-tls",
        {"libpq": "http-proxy", "java": "not-postgresql", "node": "not-postgresql"},
        answer=answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    ),
    "closed at once": Trouble(
        "closed-at-once", {"pg8000": "server-without-tls"}, answer=hanging_up
    ),
    "old TLS": Trouble(
        "old-tls-protocol",
        settings=lambda usual: replace(usual, min_protocol="TLSv1", max_protocol="TLSv1.1"),
    ),
    "nobody there": Trouble("unreachable", port=9),
    "no such host": Trouble("name-not-resolved", {"pg8000": "unreachable"}, host="nowhere.invalid"),
    "misspelt mode": Trouble(
        "invalid-setting", {"pg8000": None, "node": None}, mode="verify-everything"
    ),
}


@pytest.fixture(scope="module")
def pool(rig: Rig, persons: dict[str, Person], pki: Pki) -> Iterator[Pool]:
    """Every client as one user, whose home is empty."""
    (rig.folder / "our-root.pem").write_bytes(pki.root.certificate.pem)
    started = Pool(rig, persons["ana"], persons["ana"].home)
    yield started
    started.close()


@contextmanager
def troubled(trouble: Trouble, postgres: Postgres, pki: Pki) -> Iterator[int]:
    """A server in that trouble; its port."""
    chain, key = trouble.tls(pki) if trouble.tls is not None else (pki.chain, pki.leaf.key_pem)
    postgres.configure(trouble.settings(Settings(chain=chain, key=key)))
    if trouble.answer is None:
        yield trouble.port or postgres.port
    else:
        with serving(trouble.answer) as server:
            yield server.port


@pytest.fixture(scope="module")
def said(
    rig: Rig, pool: Pool, postgres_server: Postgres, pki: Pki
) -> dict[tuple[str, str], Result]:
    """What came of each trouble with each client, by the names of the two."""
    results: dict[tuple[str, str], Result] = {}
    root = str(rig.folder / "our-root.pem")
    for name, trouble in TROUBLES.items():
        with troubled(trouble, postgres_server, pki) as port:

            def ask(
                driver: Driver, name: str = name, trouble: Trouble = trouble, port: int = port
            ) -> None:
                mode = trouble.mode or driver.modes[-1]
                worker = pool.workers[driver.name]
                results[name, driver.name] = worker.connect(port, mode, root, trouble.host)

            pool.each(pool.present(), ask)
    return results


@pytest.mark.parametrize(
    ("name", "driver", "expected"),
    [
        pytest.param(name, driver, expected, id=f"{name}-{driver.name}")
        for name, trouble in TROUBLES.items()
        for driver in DRIVERS
        if (expected := trouble.codes.get(family(driver), trouble.code)) is not None
    ],
)
def test_what_a_client_says_of_a_trouble_is_explained(
    name: str,
    driver: Driver,
    expected: str,
    pool: Pool,
    said: dict[tuple[str, str], Result],
    count: Count,
) -> None:
    if driver.name in pool.missing:
        pytest.skip(pool.missing[driver.name])
    result = said[name, driver.name]
    assert result.outcome == "fails"
    found = explain(result.message)
    assert found is not None, result.message
    assert found.code == expected, result.message
    count("messages in clients' own words are explained", 1)


@every_driver
def test_the_same_client_with_the_same_file_connects_to_a_sound_server(
    driver: Driver, rig: Rig, pool: Pool, postgres_server: Postgres, pki: Pki
) -> None:
    """The control: it is the trouble that made it fail."""
    if driver.name in pool.missing:
        pytest.skip(pool.missing[driver.name])
    postgres_server.configure(Settings(chain=pki.chain, key=pki.leaf.key_pem))
    root = str(rig.folder / "our-root.pem")
    mode = driver.modes[-1]
    assert pool.workers[driver.name].connect(postgres_server.port, mode, root) == Result(
        "encrypted"
    )


# By driver or family; what is not here makes no claim, since libpq with OpenSSL 3 reports what
# happens to lie in memory, which some bindings then cannot decode.
LOCKED_FILE = {f"libpq {major}": "root-unreadable" for major in (13, 14, 15, 16)} | dict.fromkeys(
    ("pgjdbc", "pgx", "asyncpg"), "root-unreadable"
)
LOCKED_FOLDER = {
    "libpq": "root-missing",
    "java": "root-unreadable",
    "pgx": "untrusted-chain",
    "lib/pq": "folder-unreadable",
    "asyncpg": "root-unreadable",
}


@every_driver
def test_what_a_client_says_of_what_sudo_left_behind_is_explained(
    driver: Driver,
    persons: dict[str, Person],
    pool: Pool,
    postgres: Postgres,
    pki: Pki,
    count: Count,
) -> None:
    """A file, then a folder, that belong to root; the default file, so it must be the user's home."""
    if driver.name in pool.missing:
        pytest.skip(pool.missing[driver.name])
    folder = persons["ana"].home / ".postgresql"
    locked_file = LOCKED_FILE.get(driver.name)
    locked_folder = LOCKED_FOLDER.get(family(driver))
    folder.mkdir()
    try:
        (folder / "root.crt").write_bytes(pki.root.certificate.pem)
        for expected, mode_of_file, mode_of_folder in (
            (locked_file, 0o600, 0o755),
            (locked_folder, 0o644, 0o700),
        ):
            (folder / "root.crt").chmod(mode_of_file)
            folder.chmod(mode_of_folder)
            result = pool.workers[driver.name].connect(postgres.port, driver.modes[-1])
            if expected is not None:
                found = explain(result.message)
                assert found is not None, result.message
                assert found.code == expected, result.message
                count("messages in clients' own words are explained", 1)
    finally:
        shutil.rmtree(folder)
