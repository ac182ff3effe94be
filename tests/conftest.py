"""Fixtures that hand out the bench: a PKI, a real server, real clients.  Built when first used.

`postgres` serves `pki.chain` for every name below `.test` and for localhost, lets TLS and
plaintext sessions in, and is put back into this state before each test.  A test skips, with the
reason, where this machine lacks what it asks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.clients import WHEELS, YARDSTICK, ClientMissing, Libpq, Libpqs, Psql
from tests.faults.counting import count, pytest_terminal_summary  # noqa: F401 - at the end
from tests.pki import Authority, Certificate
from tests.postgres import Postgres, PostgresMissing, Settings


@dataclass(frozen=True, slots=True)
class Pki:
    """The usual cast: a root, its issuing authority and server, and a stranger's root."""

    root: Authority
    issuing: Authority
    leaf: Certificate
    other: Authority

    @property
    def chain(self) -> bytes:
        """What the server sends: leaf and intermediate, PEM."""
        return self.issuing.chain(self.leaf)


@pytest.fixture(scope="session")
def pki() -> Pki:
    root = Authority.root("Test Root")
    issuing = root.intermediate("Test Issuing CA", pathlen=0)
    leaf = issuing.leaf(
        dns=["localhost", "db.test", "*.wild.test"], ips=["127.0.0.1"], common_name="db.test"
    )
    return Pki(root, issuing, leaf, Authority.root("Other Root"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """The server as the last test left it; for settings that one module makes once."""
    try:
        with Postgres.start() as server:
            yield server
    except PostgresMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def postgres(postgres_server: Postgres, pki: Pki) -> Postgres:
    postgres_server.configure(Settings(chain=pki.chain, key=pki.leaf.key_pem))
    return postgres_server


@pytest.fixture(scope="session")
def psql() -> Psql:
    try:
        return Psql()
    except ClientMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def libpqs() -> Iterator[Libpqs]:
    """libpq by major version; raises ClientMissing: see `libpq` for one that skips."""
    pool = Libpqs()
    yield pool
    pool.close()


@pytest.fixture(
    params=[pytest.param(major, id=f"libpq{major}", marks=pytest.mark.libpq) for major in WHEELS]
)
def any_libpq(request: pytest.FixtureRequest, libpqs: Libpqs) -> Libpq:
    """Each libpq from 13 to 18."""
    return _or_skip(libpqs, request.param)


@pytest.fixture(
    params=[pytest.param(major, id=f"libpq{major}", marks=pytest.mark.libpq) for major in YARDSTICK]
)
def libpq(request: pytest.FixtureRequest, libpqs: Libpqs) -> Libpq:
    """Each libpq whose outcomes `check` predicts: 15 to 18."""
    return _or_skip(libpqs, request.param)


def _or_skip(libpqs: Libpqs, major: int) -> Libpq:
    try:
        return libpqs[major]
    except ClientMissing as missing:
        pytest.skip(str(missing))
