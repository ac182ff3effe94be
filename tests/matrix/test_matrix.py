"""Every client at hand, root file and sslmode, for real, against what `check` and `clients` say.

    python -m pytest tests/matrix

The clients run as users of their own, and find the root file where they look by themselves; where
ours is in it, `qs-certs install` has put it there.  What a client says when it fails is given to
`explain`, as it is.  QS_CERTS_LONG=1 asks for all cells of both kinds of servers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from qs_certs.knowledge import CLIENTS, explain
from tests.clients import Result
from tests.conftest import Pki
from tests.matrix.cells import (
    CONTEXT,
    Foretold,
    State,
    check_says,
    clients_say,
    furnish,
    home_of,
    states,
    verifying,
)
from tests.matrix.conftest import Count
from tests.matrix.people import Person
from tests.matrix.rig import ALL, DRIVERS, Driver, Pool, Rig
from tests.postgres import Postgres
from tests.program import Program

LONG = bool(os.environ.get("QS_CERTS_LONG"))
OF_A_TLS_ONLY_SERVER = ("none", "installed", "another's", "merged", "glued")
"""The states in which the short form asks a server that refuses plaintext, too."""

every_driver = pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.name)


@dataclass(frozen=True, slots=True)
class Cell:
    """One connection, what was foretold of it, and what came of it."""

    hba: str
    state: State
    mode: str
    foretold: str
    result: Result

    @property
    def disagreement(self) -> str | None:
        if self.result.outcome == self.foretold:
            return None
        said = f"{self.result.outcome}, not {self.foretold}: {self.result.message}"
        return f"{self.hba} server, {self.state.name}, {self.mode}: {said}"


@dataclass(slots=True)
class Outcomes:
    """Of one driver; *missing* says why there are none."""

    version: str = ""
    missing: str = ""
    cells: list[Cell] = field(default_factory=list)
    counter_check: Result | None = None


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """`qs-certs clients --json`, by slug."""
    document = Program(tmp_path_factory.mktemp("home")).ok("clients", "--json").document
    return {row["slug"]: row for row in document["clients"]}


@pytest.fixture(scope="module")
def matrix(
    rig: Rig,
    persons: dict[str, Person],
    postgres_server: Postgres,
    pki: Pki,
    rows: dict[str, Any],
) -> Iterator[dict[str, Outcomes]]:
    """All cells.  State by state, since the home is the same for all drivers."""
    ana = persons["ana"]
    pool = Pool(rig, ana, ana.home)
    found = {name: Outcomes(missing=reason) for name, reason in pool.missing.items()}
    found |= {name: Outcomes(worker.version) for name, worker in pool.workers.items()}
    try:
        for state in states(pki):
            sslrootcert = furnish(ana.home, ana, state, rig.folder, pki.root.certificate)
            postgres_server.set_tls(pki.chain, pki.leaf.key_pem)
            checked = check_says(ana.home, postgres_server, sslrootcert)

            def ask(
                driver: Driver,
                hba: str,
                state: State = state,
                sslrootcert: str = sslrootcert,
                checked: Foretold = checked,
            ) -> None:
                foretold = checked
                if not driver.libpq:
                    foretold = clients_say(driver, rows[driver.slug], state)
                worker = pool.workers[driver.name]
                for mode in driver.modes:
                    result = worker.connect(postgres_server.port, mode, sslrootcert)
                    cell = Cell(hba, state, mode, foretold[mode][hba], result)
                    found[driver.name].cells.append(cell)

            postgres_server.set_hba("host")
            pool.each(pool.present(), partial(ask, hba="host"))
            if LONG or state.name in OF_A_TLS_ONLY_SERVER:
                postgres_server.set_hba("hostssl")
                pool.each(pool.present(), partial(ask, hba="hostssl"))
        postgres_server.set_hba("host")
        for driver in pool.present():
            worker = pool.workers[driver.name]
            missing = worker.connect(postgres_server.port, driver.modes[-1], "/missing.crt")
            found[driver.name].counter_check = missing
        yield found
    finally:
        pool.close()


@every_driver
def test_the_counter_check_of_every_row_fails_as_it_must(
    driver: Driver, matrix: dict[str, Outcomes]
) -> None:
    result = of(matrix, driver).counter_check
    assert result is not None
    assert result.outcome == "fails"
    found = explain(result.message)
    assert found is not None, result.message
    assert found.code == "root-missing", result.message


def of(matrix: dict[str, Outcomes], driver: Driver) -> Outcomes:
    outcomes = matrix[driver.name]
    if outcomes.missing:
        pytest.skip(outcomes.missing)
    return outcomes


@every_driver
def test_a_client_does_what_check_and_clients_say(
    driver: Driver, matrix: dict[str, Outcomes], count: Count
) -> None:
    outcomes = of(matrix, driver)
    wrong = [cell.disagreement for cell in outcomes.cells if cell.disagreement]
    assert not wrong, "\n".join(wrong)
    count(f"of them {driver.name} {outcomes.version}", len(outcomes.cells))
    count("cells (client, version, state, mode) agree with check and clients", len(outcomes.cells))


@every_driver
def test_with_another_ca_in_the_file_a_client_refuses_what_it_accepts_with_ours(
    driver: Driver, matrix: dict[str, Outcomes], rows: dict[str, Any]
) -> None:
    """The control, without any prediction: it is the file that makes the difference."""
    ended = {
        (cell.state.name, cell.mode): cell.result.outcome
        for cell in of(matrix, driver).cells
        if cell.hba == "host"
    }
    for mode in verifying(driver, tuple(rows[driver.slug]["notes"]), named=True):
        assert ended["named, ours", mode] == "encrypted"
        assert ended["named, another's", mode] == "fails"
    for mode in {"require", "verify-ca", "verify-full"} & set(rows[driver.slug]["sslmodes"]):
        assert ended["installed", mode] == ended["merged", mode] == "encrypted"
        assert ended["another's", mode] == "fails"


@pytest.mark.parametrize(
    "driver", [driver for driver in DRIVERS if not driver.libpq], ids=lambda driver: driver.name
)
def test_a_row_that_is_wrong_about_require_would_be_noticed(
    driver: Driver, matrix: dict[str, Outcomes], rows: dict[str, Any]
) -> None:
    """The control of the table: what was seen does not fit another one."""
    cells = of(matrix, driver).cells
    modes = set(rows[driver.slug]["sslmodes"]) ^ {"require"}
    wrong_row = {**rows[driver.slug], "sslmodes": sorted(modes)}
    assert any(
        cell.result.outcome != clients_say(driver, wrong_row, cell.state)[cell.mode][cell.hba]
        for cell in cells
    )


@every_driver
def test_what_a_client_says_is_explained(
    driver: Driver, matrix: dict[str, Outcomes], count: Count
) -> None:
    failed = [cell for cell in of(matrix, driver).cells if cell.result.outcome == "fails"]
    wrong = []
    for cell in failed:
        found = explain(cell.result.message)
        code, expected = found.code if found else None, trouble(driver, cell)
        if code != expected:
            wrong.append(f"{cell.state.name}, {cell.mode}: {code}: {cell.result.message}")
    assert not wrong, "\n".join(wrong)
    assert failed or driver.name == "lib/pq"
    count("messages in clients' own words are explained", len(failed))


def trouble(driver: Driver, cell: Cell) -> str:
    """The finding code for what is wrong in a cell that fails."""
    if cell.mode == "disable":
        return "plaintext-refused"
    reads_the_file = driver.slug not in ("lib-pq-1.11", "node-postgres", "pg8000")
    skipped = driver.slug == "pgx-4" and cell.state.name == "truncated"
    if cell.state.damaged and reads_the_file and not skipped:
        return "root-unloadable"
    if driver.slug == "pgx-4" and cell.mode == "allow":
        return "plaintext-refused"
    if cell.state.missing and reads_the_file and driver.slug != "pgx-4":
        return "root-missing"
    if not driver.libpq:
        return "untrusted-chain"
    # libpq 13 keeps to itself that allow was refused first.
    falls_back = cell.mode == "prefer" or (cell.mode == "allow" and driver.major != 13)
    return "verification-failed-then-plaintext" if falls_back else "verification-failed"


@every_driver
def test_the_row_in_clients_names_the_version_that_ran(
    driver: Driver, matrix: dict[str, Outcomes], rows: dict[str, Any]
) -> None:
    version, row = of(matrix, driver).version, rows[driver.slug]
    assert row["proven"] == "tested"
    tested = row["tested_versions"]
    assert any(f"{version}.".startswith(f"{each}.") for each in tested), (version, tested)


def test_every_row_that_says_tested_is_in_the_matrix() -> None:
    claimed = {client.slug for client in CLIENTS if client.proven == "tested"}
    assert claimed == {driver.slug for driver in DRIVERS}


def test_pg8000_in_the_matrix_is_what_its_row_speaks_of(rows: dict[str, Any]) -> None:
    assert rows["pg8000"]["verified_when"] == CONTEXT
    assert rows["pg8000"]["sslmodes"] == []


@pytest.fixture(scope="module")
def homes(
    rig: Rig, persons: dict[str, Person], postgres_server: Postgres, pki: Pki
) -> dict[str, dict[str, str]]:
    """Outcomes in verify-full where HOME and the password database disagree.

    By driver, then by who has our root: the other one of the two has another CA's.
    """
    ours = State("installed", install=True)
    theirs = State("another's", pki.other.certificate.pem)
    postgres_server.set_tls(pki.chain, pki.leaf.key_pem)
    postgres_server.set_hba("host")
    ended: dict[str, dict[str, str]] = {driver.name: {} for driver in DRIVERS}
    for who, person in (("passwd", persons["ben"]), ("HOME", persons["cleo"])):
        elsewhere = rig.folder / f"home-{who}"
        elsewhere.mkdir()
        person.give(elsewhere)
        at_home, away = (ours, theirs) if who == "passwd" else (theirs, ours)
        furnish(person.home, person, at_home, rig.folder, pki.root.certificate)
        furnish(elsewhere, person, away, rig.folder, pki.root.certificate)
        pool = Pool(rig, person, elsewhere)

        def ask(driver: Driver, who: str = who, pool: Pool = pool) -> None:
            mode = driver.modes[-1]
            result = pool.workers[driver.name].connect(postgres_server.port, mode)
            ended[driver.name][who] = result.outcome

        try:
            pool.each(pool.present(), ask)
        finally:
            pool.close()
    return ended


@every_driver
def test_a_client_looks_into_the_home_that_clients_names(
    driver: Driver, homes: dict[str, dict[str, str]], rows: dict[str, Any], count: Count
) -> None:
    ended = homes[driver.name]
    if not ended:
        pytest.skip(f"{driver.name} is not here")
    decides = home_of(rows[driver.slug], driver)
    blind = "encrypted" if driver.slug == "pg8000" else "fails"
    if decides is None:
        assert ended == {"passwd": blind, "HOME": blind}
    else:
        assert ended == {
            who: "encrypted" if who == decides else "fails" for who in ("passwd", "HOME")
        }
    count("cells (client, version, state, mode) agree with check and clients", len(ended))


def test_all_sslmodes_of_libpq_are_asked_of_every_binding() -> None:
    assert all(driver.modes == ALL for driver in DRIVERS if driver.libpq)
