"""The oracle's fixture, and its count of cells at the end of the run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients import YARDSTICK, Client, ClientMissing, Libpq, Libpqs
from tests.faults.counting import ORACLE
from tests.oracle.judge import Oracle
from tests.postgres import Postgres

WHOLE = bool(os.environ.get("QS_CERTS_WHOLE_ORACLE"))
"""Every sslmode, and both kinds of servers, in the suites that otherwise ask for the telling ones."""


@pytest.fixture(scope="session")
def oracle_clients(libpqs: Libpqs) -> Iterator[dict[str, Client]]:
    """libpq 15 to 18 from wheels, and the machine's own; at least one of them."""
    clients: dict[str, Client] = {}
    missing = []
    for major in YARDSTICK:
        try:
            clients[f"libpq {major}"] = libpqs[major]
        except ClientMissing as reason:
            missing.append(str(reason))
    installed = _installed_libpq()
    if installed is not None:
        clients["installed libpq"] = installed
    if not clients:
        pytest.skip("; ".join(missing))
    yield clients
    if installed is not None:
        installed.close()


def _installed_libpq() -> Libpq | None:
    """The one that psql uses here, without the cost of a psql per connection."""
    for library in sorted(Path("/usr/lib").glob("*/libpq.so.5")):
        try:
            installed = Libpq(library)
        except ClientMissing:
            continue
        if installed.version // 10000 in YARDSTICK:
            return installed
        installed.close()
    return None


@pytest.fixture(scope="session")
def oracle(
    postgres_server: Postgres,
    oracle_clients: dict[str, Client],
    tmp_path_factory: pytest.TempPathFactory,
) -> Oracle:
    """Each test configures the server that it wants; the bench's own `postgres` does, too."""
    return Oracle(postgres_server, oracle_clients, tmp_path_factory.mktemp("home"))


@pytest.fixture(autouse=True)
def _counted(oracle: Oracle, record_property: Callable[[str, object], None]) -> Iterator[None]:
    """The count travels with the report of the test's end, also under pytest-xdist."""
    before = oracle.cells
    yield
    clients = ", ".join(
        f"{name} ({_readable(client.version)})" for name, client in oracle.clients.items()
    )
    record_property(ORACLE, [f"connections compared with {clients}", oracle.cells - before])


def _readable(version: int) -> str:
    return f"{version // 10000}.{version % 10000}"
