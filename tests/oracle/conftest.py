"""The oracle's fixture, and its count of cells at the end of the run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients import YARDSTICK, Client, ClientMissing, Libpq, Libpqs
from tests.oracle.judge import Oracle
from tests.postgres import Postgres

CELLS = pytest.StashKey[int]()
CLIENTS = pytest.StashKey[str]()

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
    pytestconfig: pytest.Config,
) -> Iterator[Oracle]:
    """Each test configures the server that it wants; the bench's own `postgres` does, too."""
    oracle = Oracle(postgres_server, oracle_clients, tmp_path_factory.mktemp("home"))
    yield oracle
    pytestconfig.stash[CELLS] = pytestconfig.stash.get(CELLS, 0) + oracle.cells
    pytestconfig.stash[CLIENTS] = ", ".join(
        f"{name} ({_readable(client.version)})" for name, client in oracle_clients.items()
    )


def _readable(version: int) -> str:
    return f"{version // 10000}.{version % 10000}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Under pytest-xdist, hand the count to the process that reports."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["oracle"] = (
            session.config.stash.get(CELLS, 0),
            session.config.stash.get(CLIENTS, ""),
        )


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    cells, clients = getattr(node, "workeroutput", {}).get("oracle", (0, ""))
    stash = node.config.stash
    stash[CELLS] = stash.get(CELLS, 0) + cells
    stash[CLIENTS] = clients or stash.get(CLIENTS, "")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    cells = config.stash.get(CELLS, 0)
    if cells:
        clients = config.stash[CLIENTS]
        terminalreporter.write_sep("-", f"oracle: {cells} connections compared with {clients}")
