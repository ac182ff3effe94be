"""What the connection string changes, and what the server is asked to forgive: libpq 15 to 18."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from qs_certs.libpq.handshake import Handshake, Trust, shake_hands
from qs_certs.libpq.outcomes import SSLMODES, TrustAnchors, outcomes
from tests.clients import Client, Psql
from tests.libpq.servers import Behaviour, answering, certified, serving, speaking_tls, tls_context
from tests.oracle.judge import PREFIX, Case, Oracle
from tests.pki import Authority
from tests.postgres import Protocol, Settings

pytestmark = [pytest.mark.libpq, pytest.mark.psql]

ROOT = Authority.root("Connecting Root")
OTHER = Authority.root("Connecting Stranger")
ISSUING = ROOT.intermediate("Connecting CA")
LEAF = ISSUING.leaf(dns=["localhost"])
SERVED = Settings(chain=ISSUING.chain(LEAF), key=LEAF.key_pem)
NEVER_PLAINTEXT = ("require", "verify-ca", "verify-full")


@pytest.mark.parametrize("root", ["right", "other"])
def test_the_systems_roots(
    root: str, oracle: Oracle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle.postgres.configure(SERVED)
    pem = (ROOT if root == "right" else OTHER).certificate.pem
    (tmp_path / "roots.pem").write_bytes(pem)
    env = {"SSL_CERT_FILE": str(tmp_path / "roots.pem"), "SSL_CERT_DIR": str(tmp_path / "none")}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    case = Case(OTHER.certificate.pem, parameters={"sslrootcert": "system"})
    assert oracle.agree(case, since=16, env=env).established is (root == "right")


def test_a_root_file_named_in_the_connection_string(oracle: Oracle, tmp_path: Path) -> None:
    oracle.postgres.configure(SERVED)
    named = tmp_path / "a file.crt"
    case = Case(OTHER.certificate.pem, parameters={"sslrootcert": str(named)})
    assert not oracle.agree(case).verified
    named.write_bytes(ROOT.certificate.pem)
    assert oracle.agree(case).verified


@pytest.mark.parametrize(
    ("server", "client", "verdict"),
    [
        (("TLSv1.2", None), ("TLSv1.2", None), "TLSv1.3"),
        (("TLSv1.2", "TLSv1.2"), ("TLSv1.2", None), "TLSv1.2"),
        (("TLSv1.2", None), ("TLSv1.2", "TLSv1.2"), "TLSv1.2"),
        (("TLSv1.2", None), ("tlsv1.3", None), "TLSv1.3"),
        (("TLSv1.2", "TLSv1.2"), ("TLSv1.3", None), None),
        (("TLSv1.3", None), ("TLSv1.2", "TLSv1.2"), None),
        (("TLSv1", "TLSv1.1"), ("TLSv1.2", None), None),
        (("TLSv1", "TLSv1"), ("TLSv1.2", "TLSv1.3"), None),
    ],
)
def test_protocol_bounds(
    server: tuple[Protocol, Protocol | None],
    client: tuple[str, str | None],
    verdict: str | None,
    oracle: Oracle,
) -> None:
    lowest, highest = server
    oracle.postgres.set_tls(SERVED.chain, SERVED.key, min_protocol=lowest, max_protocol=highest)
    parameters = {"ssl_min_protocol_version": client[0]}
    if client[1] is not None:
        parameters["ssl_max_protocol_version"] = client[1]
    shaken = oracle.agree(Case(ROOT.certificate.pem, parameters=parameters))
    assert shaken.tls_version == verdict
    assert shaken.only_old_protocols is (verdict is None)


@pytest.mark.parametrize("sslsni", ["0", "1"])
def test_with_and_without_the_servers_name(sslsni: str, oracle: Oracle) -> None:
    oracle.postgres.configure(SERVED)
    case = Case(ROOT.certificate.pem, parameters={"sslsni": sslsni})
    assert oracle.agree(case, modes=("verify-full",)).established


@pytest.mark.parametrize("root", ["right", "absent"])
def test_direct_negotiation_with_a_server_that_has_none(root: str, oracle: Oracle) -> None:
    if oracle.postgres.version >= 17:
        pytest.skip("this PostgreSQL has direct negotiation")
    oracle.postgres.configure(SERVED)
    content = ROOT.certificate.pem if root == "right" else None
    case = Case(content, parameters={"sslnegotiation": "direct"})
    shaken = oracle.agree(case, since=17)
    assert (shaken.answer, shaken.connections) == ("closed", 1)


def test_direct_negotiation_with_the_systems_roots_has_one_complaint(oracle: Oracle) -> None:
    oracle.postgres.configure(SERVED)
    case = Case(None, parameters={"sslnegotiation": "direct", "sslrootcert": "system"})
    oracle.agree(case, modes=SSLMODES[:-1], since=17)


@pytest.mark.parametrize("root", ["right", "other", "absent", "unusable"])
def test_a_client_certificate_without_its_key(root: str, oracle: Oracle) -> None:
    oracle.postgres.configure(SERVED)
    roots = {
        "right": ROOT.certificate.pem,
        "other": OTHER.certificate.pem,
        "absent": None,
        "unusable": b"not a certificate\n",
    }
    folder = oracle.home / ".postgresql"
    error = f'certificate present, but not private key file "{folder}/postgresql.key"'
    case = Case(roots[root], client_certificate_error=error)
    case.furnish(oracle.home)
    stray = folder / "postgresql.crt"
    stray.write_bytes(LEAF.pem)
    try:
        oracle.agree(case)
    finally:
        stray.unlink()


def _unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _in_turn(servers: list[tuple[str, int]], trust: Trust) -> tuple[str, Handshake]:
    """As a diagnosis goes through several hosts."""
    for host, port in servers:
        shaken = shake_hands(host, port, hostaddr="127.0.0.1", trust=trust, deadline=5)
        if not shaken.tries_next_host:
            return host, shaken
    raise AssertionError("nobody there")


@pytest.mark.parametrize(
    ("first", "second"), [("nobody", "right"), ("right", "wrong"), ("wrong", "right")]
)
def test_the_next_host_is_tried_only_where_nobody_listens(
    first: str, second: str, oracle: Oracle
) -> None:
    oracle.postgres.configure(SERVED)
    _, trust = Case(ROOT.certificate.pem).furnish(oracle.home)
    there = oracle.postgres.port
    known = {
        "nobody": ("localhost", _unused_port()),
        "right": ("localhost", there),
        "wrong": ("elsewhere.test", there),
    }
    servers = [known[first], known[second]]
    host, shaken = _in_turn(servers, trust)
    anchors = TrustAnchors("loads", trust.root_file)
    predicted = outcomes(anchors, shaken.shown_to(host))[-1]
    hosts, ports = (",".join(map(str, column)) for column in zip(*servers, strict=True))
    conninfo = f"host={hosts} port={ports} hostaddr=127.0.0.1,127.0.0.1 sslmode=verify-full"
    for client in oracle.clients.values():
        result = client.connect(f"{conninfo} user=app dbname=postgres", oracle.home)
        oracle.cells += 1
        assert result.outcome == predicted.outcome
        assert (predicted.libpq_message or "") in result.message
    assert predicted.outcome == ("fails" if first == "wrong" else "encrypted")


def test_the_oracle_sees_a_wrong_prediction(oracle: Oracle, tmp_path: Path) -> None:
    oracle.postgres.configure(SERVED)
    (tmp_path / "right.crt").write_bytes(ROOT.certificate.pem)
    mistaken = Case(OTHER.certificate.pem, trust=Trust(str(tmp_path / "right.crt")))
    with pytest.raises(AssertionError, match="verify-full: encrypted predicted, fails happened"):
        oracle.agree(mistaken)
    misworded = Case(ROOT.certificate.pem, client_certificate_error="no such complaint")
    with pytest.raises(AssertionError, match="require: fails predicted, encrypted happened"):
        oracle.agree(misworded)
    (oracle.home / ".postgresql/postgresql.crt").write_bytes(LEAF.pem)
    try:
        with pytest.raises(AssertionError, match="require: 'no such complaint' predicted"):
            oracle.agree(misworded)
    finally:
        (oracle.home / ".postgresql/postgresql.crt").unlink()


@pytest.mark.parametrize("content", ["right", "other", "absent"])
def test_psql_itself_agrees(content: str, oracle: Oracle, psql: Psql) -> None:
    oracle.postgres.configure(SERVED)
    roots = {"right": ROOT.certificate.pem, "other": OTHER.certificate.pem, "absent": None}
    alone = Oracle(oracle.postgres, {"psql": psql}, oracle.home)
    alone.agree(Case(roots[content]))
    oracle.cells += alone.cells


# Servers that are no PostgreSQL: the message of libpq is all there is to compare.

_without_alpn = tls_context(ISSUING.chain(LEAF), LEAF.key_pem, alpn=None)
STRANGERS: dict[str, tuple[Behaviour, dict[str, str]]] = {
    "N": (answering(b"N"), {}),
    "HTTP": (answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"), {}),
    "another byte": (answering(b"?"), {}),
    "direct, without agreement on the protocol": (
        speaking_tls(_without_alpn),
        {"sslnegotiation": "direct"},
    ),
    "direct, of another authority": (
        speaking_tls(certified(OTHER, OTHER.leaf(dns=["localhost"]))),
        {"sslnegotiation": "direct"},
    ),
    "direct, of another name": (
        speaking_tls(certified(ROOT, ROOT.leaf(dns=["elsewhere.test"]))),
        {"sslnegotiation": "direct"},
    ),
}


@pytest.mark.parametrize("stranger", STRANGERS)
def test_strangers_are_told_off_in_libpqs_words(stranger: str, oracle: Oracle) -> None:
    behaviour, parameters = STRANGERS[stranger]
    direct = "sslnegotiation" in parameters
    anchors, trust = Case(ROOT.certificate.pem).furnish(oracle.home)
    with serving(behaviour) as server:
        shaken = shake_hands(
            "localhost",
            server.port,
            hostaddr="127.0.0.1",
            trust=trust,
            sslnegotiation="direct" if direct else "postgres",
            deadline=3,
        )
        predicted = outcomes(
            anchors,
            shaken.shown_to("localhost"),
            sslnegotiation="direct" if direct else "postgres",
        )
        conninfo = f"host=localhost hostaddr=127.0.0.1 port={server.port} user=app dbname=postgres"
        conninfo += "".join(f" {name}={value}" for name, value in parameters.items())
        modes = ("require", "verify-full")
        asked: list[Client] = [
            client for client in oracle.clients.values() if not direct or client.version >= 170000
        ]
        if not asked:
            pytest.skip("no libpq with direct negotiation")
        for client in asked:
            for outcome in predicted:
                if outcome.mode in modes and outcome.outcome == "fails":
                    result = client.connect(f"{conninfo} sslmode={outcome.mode}", oracle.home)
                    oracle.cells += 1
                    assert PREFIX.sub("", result.message) == outcome.libpq_message
    assert predicted[-1].outcome == "fails"
    assert predicted[-1].libpq_message
