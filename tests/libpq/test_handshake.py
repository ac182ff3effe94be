"""The handshake against servers of our own: what is sent, what is learnt, how it ends."""

from __future__ import annotations

import hashlib
import socket
import ssl
import sys
import time
import warnings
from datetime import timedelta
from pathlib import Path

import pytest

from qs_certs.libpq import handshake
from qs_certs.libpq.handshake import Handshake, Trust, shake_hands
from tests.libpq.servers import (
    SSL_REQUEST,
    Server,
    answering,
    certified,
    serving,
    speaking_tls,
    tls_context,
)
from tests.pki import DAY, Authority

ROOT = Authority.root("Handshake Root")
OTHER = Authority.root("Another Root")
ISSUING = ROOT.intermediate("Handshake Issuing CA")
LEAF = ISSUING.leaf(dns=["localhost", "db.test"], ips=["127.0.0.1"])


@pytest.fixture
def right(tmp_path: Path) -> Trust:
    path = tmp_path / "root.crt"
    path.write_bytes(ROOT.certificate.pem)
    return Trust(str(path))


@pytest.fixture
def wrong(tmp_path: Path) -> Trust:
    path = tmp_path / "other.crt"
    path.write_bytes(OTHER.certificate.pem)
    return Trust(str(path))


def shake(
    server: Server,
    trust: Trust,
    *,
    host: str = "db.test",
    hostaddr: str | None = "127.0.0.1",
    sslnegotiation: handshake.Negotiation = "postgres",
    sni: bool = True,
    minimum: str = "TLSv1.2",
    maximum: str | None = None,
) -> Handshake:
    return shake_hands(
        host,
        server.port,
        hostaddr=hostaddr,
        trust=trust,
        sslnegotiation=sslnegotiation,
        sni=sni,
        minimum=minimum,
        maximum=maximum,
        deadline=3,
    )


def test_one_connection_shows_everything_when_all_is_well(right: Trust) -> None:
    with serving(answering(b"S", certified(ISSUING, LEAF))) as server:
        shaken = shake(server, right)
        assert server.settle(1) == ["close_notify"]
    assert shaken.established
    assert shaken.verified
    assert (shaken.answer, shaken.address, shaken.connections) == ("tls", "127.0.0.1", 1)
    assert (shaken.tls_version, shaken.alpn) == ("TLSv1.3", "postgresql")
    assert shaken.cipher is not None
    assert server.received == [SSL_REQUEST]
    assert server.names == ["db.test"]
    issuing = ISSUING.certificate.der
    assert [served.der for served in shaken.served] == [LEAF.der, issuing]
    assert [built.der for built in shaken.built] == [LEAF.der, issuing, ROOT.certificate.der]


def test_a_certificate_is_described_in_words(right: Trust) -> None:
    with serving(answering(b"S", certified(ISSUING, LEAF))) as server:
        shaken = shake(server, right)
    described = shaken.served[1].described
    assert described is not None
    assert described.subject == ISSUING.name.rfc4514_string()
    assert described.issuer == ROOT.name.rfc4514_string()
    assert described.sha256 == hashlib.sha256(ISSUING.certificate.der).hexdigest()
    assert described.not_before == ISSUING.certificate.x509.not_valid_before_utc
    assert described.not_after == ISSUING.certificate.x509.not_valid_after_utc


def test_a_refused_chain_is_described_by_a_second_connection(wrong: Trust) -> None:
    with serving(answering(b"S", certified(ISSUING, LEAF))) as server:
        shaken = shake(server, wrong)
        endings = server.settle(2)
    assert not shaken.established
    assert (shaken.answer, shaken.verify_code, shaken.connections) == ("tls", 20, 2)
    assert shaken.verify_error == "unable to get local issuer certificate"
    assert [served.der for served in shaken.served] == [LEAF.der, ISSUING.certificate.der]
    assert shaken.built == ()
    assert not shaken.verified
    assert "close_notify" in endings
    assert any("unknown ca" in ending.lower() for ending in endings)


def test_without_a_root_file_nothing_is_verified_and_one_connection_is_enough() -> None:
    with serving(answering(b"S", certified(ISSUING, LEAF))) as server:
        shaken = shake(server, Trust())
        assert server.settle(1) == ["close_notify"]
    assert shaken.established
    assert not shaken.verified
    assert shaken.built == ()
    assert len(shaken.served) == 2


def test_a_root_file_that_does_not_load_verifies_nothing_and_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "root.crt"
    path.write_bytes(b"not a certificate")
    with serving(answering(b"S", certified(ISSUING, LEAF))) as server:
        shaken = shake(server, Trust(str(path)))
    assert shaken.root_file_error == "no certificate or crl found"
    assert not shaken.verified
    assert len(shaken.served) == 2


def test_the_systems_roots_verify_too(
    right: Trust, wrong: Trust, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    with serving(answering(b"S", certified(ISSUING, LEAF))) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(right.root_file))
        assert shake(server, Trust(system=True)).verified
        monkeypatch.setenv("SSL_CERT_FILE", str(wrong.root_file))
        assert shake(server, Trust(system=True)).verify_code == 20


@pytest.mark.parametrize(
    ("host", "sni", "sent"),
    [
        ("db.test", True, "db.test"),
        ("DB.test", True, "DB.test"),
        ("db.test.", True, "db.test."),
        ("db.test", False, None),
        ("127.0.0.1", True, None),
        ("127.1", True, None),
        ("::1", True, None),
        ("0x7f.1", True, "0x7f.1"),
        ("a_b.test", True, "a_b.test"),
    ],
)
def test_the_server_name_is_sent_as_libpq_sends_it(
    host: str, sni: bool, sent: str | None, right: Trust
) -> None:
    with serving(answering(b"S", certified(ISSUING, LEAF))) as server:
        assert shake(server, right, host=host, sni=sni).established
        server.settle(1)
    assert [name and name.lower() for name in server.names] == [sent and sent.lower()]


def test_names_are_not_part_of_the_handshake(right: Trust) -> None:
    with serving(answering(b"S", certified(ISSUING, LEAF))) as server:
        shaken = shake(server, right, host="elsewhere.test")
    assert shaken.established
    assert shaken.shown_to("db.test").host_name_error is None
    error = shaken.shown_to("elsewhere.test").host_name_error
    assert error is not None
    assert 'does not match host name "elsewhere.test"' in error


def test_direct_negotiation_starts_with_tls_and_agrees_on_the_protocol(right: Trust) -> None:
    with serving(speaking_tls(certified(ISSUING, LEAF))) as server:
        shaken = shake(server, right, sslnegotiation="direct")
        assert server.settle(1) == ["close_notify"]
    assert shaken.established
    assert (shaken.alpn, shaken.negotiation) == ("postgresql", "direct")
    assert server.received == [b"\x16"]


def test_direct_negotiation_without_agreement_on_the_protocol_fails(right: Trust) -> None:
    assert LEAF.key_pem is not None
    context = tls_context(ISSUING.chain(LEAF), LEAF.key_pem, alpn=None)
    with serving(speaking_tls(context)) as server:
        direct = shake(server, right, sslnegotiation="direct")
    with serving(answering(b"S", context)) as server:
        assert shake(server, right).established  # only direct negotiation insists
    assert not direct.established
    assert direct.tls_error == (
        "direct SSL connection was established without ALPN protocol negotiation extension"
    )


def test_a_server_within_the_bounds_is_reached_and_one_outside_told_apart(right: Trust) -> None:
    context = certified(ISSUING, LEAF)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with serving(answering(b"S", context)) as server:
        assert shake(server, right, maximum="tlsv1.2").tls_version == "TLSv1.2"
        outside = shake(server, right, minimum="TLSv1.3")
    assert outside.answer == "tls"
    assert outside.only_old_protocols
    assert outside.tls_error == (
        "SSL error: tlsv1 alert protocol version\nThis may indicate that the server does not "
        "support any SSL protocol version between TLSv1.3 and TLSv1.3."
    )


def test_a_server_that_speaks_only_old_tls_is_told_apart(right: Trust) -> None:
    context = certified(ISSUING, LEAF)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with serving(answering(b"S", context)) as server:
        shaken = shake(server, right)
    assert shaken.only_old_protocols
    assert shaken.answer == "tls"
    assert "between TLSv1.2 and TLSv1.3" in (shaken.tls_error or "")


def test_a_revoked_certificate_is_refused_and_an_unrelated_crl_file_ignored(
    right: Trust, tmp_path: Path
) -> None:
    def trusting(crl: bytes) -> Trust:
        path = tmp_path / "root.crl"
        path.write_bytes(crl)
        return Trust(right.root_file, crl_file=str(path))

    with serving(answering(b"S", certified(ISSUING, LEAF))) as server:
        good = shake(server, trusting(ROOT.crl() + ISSUING.crl()))
        revoked = shake(server, trusting(ROOT.crl() + ISSUING.crl([LEAF])))
        incomplete = shake(server, trusting(ROOT.crl()))
        expired = shake(
            server,
            trusting(ROOT.crl() + ISSUING.crl(next_update=DAY - timedelta(hours=1))),
        )
        garbage = shake(server, trusting(b"garbage"))
        absent = shake(server, Trust(right.root_file, crl_file=str(tmp_path / "absent")))
    codes = [shaken.verify_code for shaken in (good, revoked, incomplete, expired, garbage, absent)]
    assert codes == [None, 23, 3, 12, None, None]


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6_is_spoken(right: Trust) -> None:
    try:
        serving_six = serving(answering(b"S", certified(ISSUING, LEAF)), host="::1")
        with serving_six as server:
            shaken = shake_hands("::1", server.port, trust=right, deadline=3)
    except OSError as error:
        pytest.skip(f"no IPv6 loopback: {error}")
    assert shaken.established
    assert shaken.address == "::1"


def _addresses(*rows: tuple[str, int]) -> object:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", row) for row in rows]
    return lambda *_args, **_options: found


def test_the_next_address_is_tried_when_one_does_not_accept(
    right: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(answering(b"S", certified(ISSUING, LEAF))) as server:
        rows = (("127.0.0.2", _unused_port()), ("127.0.0.1", server.port))
        monkeypatch.setattr(socket, "getaddrinfo", _addresses(*rows))
        shaken = shake_hands("db.test", server.port, trust=right, deadline=3)
    assert shaken.established
    assert shaken.address == "127.0.0.1"


def _unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_an_unused_port_is_unreachable_and_says_why() -> None:
    shaken = shake_hands("127.0.0.1", _unused_port(), trust=Trust(), deadline=3)
    assert shaken.answer == "unreachable"
    assert shaken.tries_next_host
    assert "refused" in (shaken.detail or "").lower()


@pytest.mark.parametrize(
    ("host", "hostaddr"),
    [
        ("does-not-exist.invalid", None),
        ("db.test", "not-an-address"),
        ("a..b", None),
        ("", None),
        ("x" * 300, None),
        ("nul\0inside", None),
        ("böse.invalid", None),
    ],
)
def test_a_name_that_cannot_be_resolved_is_unreachable(host: str, hostaddr: str | None) -> None:
    shaken = shake_hands(host, 5432, hostaddr=hostaddr, trust=Trust(), deadline=5)
    assert shaken.answer == "unreachable"
    assert shaken.detail
    assert shaken.tries_next_host


def test_a_resolver_that_hangs_costs_no_more_than_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def hanging(*_arguments: object, **_options: object) -> list[object]:
        time.sleep(1)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    began = time.monotonic()
    shaken = shake_hands("db.test", 5432, trust=Trust(), deadline=0.2)
    assert shaken.answer == "timed-out"
    assert time.monotonic() - began < 0.7


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux leaves a full backlog unanswered")
def test_an_address_that_never_answers_leaves_time_for_the_next(
    right: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as deaf, serving(answering(b"S", certified(ISSUING, LEAF))) as server:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        deaf_row = ("127.0.0.1", int(deaf.getsockname()[1]))
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(deaf_row)
        time.sleep(0.05)
        monkeypatch.setattr(socket, "getaddrinfo", _addresses(deaf_row, ("127.0.0.1", server.port)))
        began = time.monotonic()
        shaken = shake_hands("db.test", server.port, trust=right, deadline=1)
        took = time.monotonic() - began
        monkeypatch.setattr(socket, "getaddrinfo", _addresses(deaf_row))
        alone = shake_hands("db.test", server.port, trust=right, deadline=0.3)
        for filler in fillers:
            filler.close()
    assert shaken.established
    assert 0.4 < took < 1
    assert alone.answer == "timed-out"
    assert alone.tries_next_host


def test_the_context_has_libpqs_flags_and_not_those_of_newer_pythons(right: Trust) -> None:
    context, error = handshake._context(right, handshake._Bounds("TLSv1.2", None))
    assert error is None
    assert context.verify_flags == ssl.VERIFY_X509_TRUSTED_FIRST
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert not context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
