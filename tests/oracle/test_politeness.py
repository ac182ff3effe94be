"""What a handshake leaves behind in PostgreSQL's log: nothing, where the server can be content."""

from __future__ import annotations

from pathlib import Path

import pytest

from qs_certs.libpq.handshake import Handshake, Trust, shake_hands
from tests.pki import Authority
from tests.postgres import Hba, Postgres, Protocol, Settings

pytestmark = pytest.mark.psql

ROOT = Authority.root("Polite Root")
OTHER = Authority.root("Impolite Root")
LEAF = ROOT.leaf(dns=["localhost"])
SERVED = Settings(chain=LEAF.pem, key=LEAF.key_pem)


@pytest.fixture
def server(postgres_server: Postgres) -> Postgres:
    postgres_server.configure(SERVED)
    return postgres_server


def shake(server: Postgres, trust: Trust) -> Handshake:
    server.mark()
    return shake_hands("localhost", server.port, hostaddr="127.0.0.1", trust=trust, deadline=5)


@pytest.fixture
def right(tmp_path: Path) -> Trust:
    (tmp_path / "root.crt").write_bytes(ROOT.certificate.pem)
    return Trust(str(tmp_path / "root.crt"))


@pytest.mark.parametrize("hba", ["host", "hostssl", "hostnossl"])
def test_a_verified_handshake_leaves_no_line(hba: Hba, right: Trust, server: Postgres) -> None:
    server.set_hba(hba)
    shaken = shake(server, right)
    assert shaken.verified
    assert server.log() == []


@pytest.mark.parametrize("protocol", ["TLSv1.2", "TLSv1.3"])
def test_neither_protocol_leaves_a_line(protocol: Protocol, right: Trust, server: Postgres) -> None:
    server.set_tls(LEAF.pem, LEAF.key_pem, min_protocol=protocol, max_protocol=protocol)
    shaken = shake(server, right)
    assert shaken.tls_version == protocol
    assert server.log() == []


def test_an_unverified_handshake_leaves_no_line(server: Postgres) -> None:
    assert shake(server, Trust()).established
    assert server.log() == []


def test_being_refused_leaves_no_line(server: Postgres) -> None:
    server.configure(Settings())
    assert shake(server, Trust()).answer == "refused"
    assert server.log() == []


def test_a_refused_chain_leaves_the_one_line_that_libpq_leaves(
    tmp_path: Path, server: Postgres
) -> None:
    (tmp_path / "root.crt").write_bytes(OTHER.certificate.pem)
    shaken = shake(server, Trust(str(tmp_path / "root.crt")))
    assert (shaken.verify_code, shaken.connections) == (20, 2)
    (line,) = server.log()
    assert "could not accept SSL connection" in line


def test_not_even_a_connection_is_logged_beyond_its_arrival(right: Trust, server: Postgres) -> None:
    server.set_log_connections(True)
    shake(server, right)
    lines = server.log()
    assert lines
    assert all("connection received" in line for line in lines)
