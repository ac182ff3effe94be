"""Servers that misbehave: the right answer, and never past the deadline."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qs_certs.libpq.handshake import Handshake, Trust, shake_hands
from tests.libpq.servers import (
    Behaviour,
    Server,
    answering,
    certified,
    hold,
    serving,
    tls_context,
)
from tests.pki import Authority

ROOT = Authority.root("Misbehaving Root")
LEAF = ROOT.leaf(dns=["localhost"])
DEADLINE = 1.0

ERROR = b"E\0\0\0\x30SFATAL\0C53300\0M\x1b]0;owned\x07\x1b[2Jtoo many clients\0\0"


def silent(connection: socket.socket, _server: Server) -> None:
    hold(connection)


def closing(connection: socket.socket, _server: Server) -> None:
    connection.recv(8)


def resetting(connection: socket.socket, _server: Server) -> None:
    connection.recv(8)
    _reset(connection)


def resetting_within_tls(connection: socket.socket, _server: Server) -> None:
    connection.recv(8)
    connection.sendall(b"S")
    connection.recv(16)
    _reset(connection)


def closing_within_tls(connection: socket.socket, _server: Server) -> None:
    connection.recv(8)
    connection.sendall(b"S")
    connection.recv(65536)


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def greeting(text: bytes) -> Behaviour:
    """Speaks first, as SSH and SMTP do."""

    def behave(connection: socket.socket, _server: Server) -> None:
        connection.sendall(text)
        hold(connection)

    return behave


def dripping(connection: socket.socket, _server: Server) -> None:
    """A real handshake, one byte every 30 milliseconds."""
    connection.recv(8)
    connection.sendall(b"S")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = certified(ROOT, LEAF).wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(connection.recv(65536))
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    for byte in outgoing.read():
        connection.sendall(bytes((byte,)))
        time.sleep(0.03)


def endless_records(connection: socket.socket, _server: Server) -> None:
    """HelloRequests, which OpenSSL skips for as long as they come."""
    connection.recv(8)
    connection.sendall(b"S")
    while True:
        connection.sendall(b"\x16\x03\x03\0\4\0\0\0\0" * 100)


def endless_garbage(connection: socket.socket, _server: Server) -> None:
    connection.recv(8)
    connection.sendall(b"S")
    while True:
        connection.sendall(b"\xff" * 1000)


def endless_data(connection: socket.socket, _server: Server) -> None:
    """Never lets go: data without end where close_notify was due."""
    connection.recv(8)
    connection.sendall(b"S")
    with certified(ROOT, LEAF).wrap_socket(connection, server_side=True) as session:
        while True:
            session.sendall(b"x" * 1000)


def deaf_to_close_notify(connection: socket.socket, _server: Server) -> None:
    connection.recv(8)
    connection.sendall(b"S")
    with certified(ROOT, LEAF).wrap_socket(connection, server_side=True):
        time.sleep(DEADLINE * 3)


def long_chain(links: int) -> Behaviour:
    """A chain of so many certificates beyond the leaf, of about 600 bytes each."""
    assert LEAF.key_pem is not None
    chain = LEAF.pem + OTHERS.pem * links
    return answering(b"S", tls_context(chain, LEAF.key_pem))


OTHERS = Authority.root("One of many").certificate


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    path = tmp_path / "root.crt"
    path.write_bytes(ROOT.certificate.pem)
    return Trust(str(path))


ROWS: dict[str, tuple[Behaviour, str, int | None]] = {
    "polite (control)": (answering(b"S", certified(ROOT, LEAF)), "tls", None),
    "nothing": (silent, "timed-out", None),
    "N": (answering(b"N"), "refused", None),
    "N and more": (answering(b"N" * 1000), "refused", None),
    "E with escape codes": (answering(ERROR), "error", None),
    "HTTP": (answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "not-postgresql", ord("H")),
    "SMTP greets first": (greeting(b"220 mail ESMTP\r\n"), "not-postgresql", ord("2")),
    "SSH greets first, with an S": (greeting(b"SSH-2.0-OpenSSH_9\r\n"), "not-postgresql", None),
    "a control byte": (answering(b"\x1b"), "not-postgresql", 0x1B),
    "a zero byte": (answering(b"\0"), "not-postgresql", 0),
    "closes at once": (closing, "closed", None),
    "resets at once": (resetting, "closed", None),
    "nothing after S": (answering(b"S"), "timed-out", None),
    "closes after S": (closing_within_tls, "closed", None),
    "resets in the middle of TLS": (resetting_within_tls, "closed", None),
    "bytes injected after S": (
        answering(b"S" + ERROR, certified(ROOT, LEAF)),
        "not-postgresql",
        None,
    ),
    "HTTP after S": (answering(b"SHTTP/1.1 200 OK\r\n\r\n"), "not-postgresql", None),
    "one byte at a time": (dripping, "timed-out", None),
    "endless records": (endless_records, "timed-out", None),
    "endless garbage": (endless_garbage, "not-postgresql", None),
    "endless chain": (long_chain(400), "tls", None),
    "endless data instead of a good-bye": (endless_data, "tls", None),
    "deaf to close_notify": (deaf_to_close_notify, "tls", None),
}


def timed(server: Server, trust: Trust) -> tuple[Handshake, float]:
    began = time.monotonic()
    shaken = shake_hands("localhost", server.port, trust=trust, deadline=DEADLINE)
    return shaken, time.monotonic() - began


@pytest.mark.parametrize("row", ROWS)
def test_the_answer_is_right_and_in_time(row: str, trust: Trust) -> None:
    behaviour, answer, unexpected = ROWS[row]
    with serving(behaviour) as server:
        shaken, took = timed(server, trust)
    assert shaken.answer == answer
    assert shaken.unexpected_byte == unexpected
    assert took < DEADLINE + 0.5
    assert bool(shaken.detail) is (answer != "tls")
    texts = f"{shaken.detail} {shaken.tls_error} {shaken.verify_error}"
    assert "owned" not in texts
    assert texts.replace("\n", " ").isprintable()


@pytest.mark.parametrize("row", ["bytes injected after S", "endless garbage", "endless chain"])
def test_what_openssl_refuses_is_not_established(row: str, trust: Trust) -> None:
    with serving(ROWS[row][0]) as server:
        shaken, _ = timed(server, trust)
    assert not shaken.established
    assert (shaken.tls_error or "").startswith("SSL error: ")
    assert shaken.served == ()


@pytest.mark.parametrize("row", ["polite (control)", "endless data instead of a good-bye"])
def test_what_was_established_stays_so_however_the_good_bye_goes(row: str, trust: Trust) -> None:
    with serving(ROWS[row][0]) as server:
        shaken, _ = timed(server, trust)
    assert shaken.established
    assert shaken.verified


def test_a_chain_below_openssls_limit_is_taken(trust: Trust) -> None:
    with serving(long_chain(100)) as server:
        shaken, _ = timed(server, trust)
    assert shaken.established
    assert len(shaken.served) == 101


def test_a_hanging_second_connection_does_not_spoil_the_first(tmp_path: Path) -> None:
    path = tmp_path / "other.crt"
    path.write_bytes(OTHERS.pem)
    polite: Callable[[socket.socket, Server], None] = answering(b"S", certified(ROOT, LEAF))

    def once(connection: socket.socket, server: Server) -> None:
        (silent if server.received else polite)(connection, server)

    with serving(once) as server:
        shaken, took = timed(server, Trust(str(path)))
    assert (shaken.answer, shaken.verify_code, shaken.connections) == ("tls", 20, 2)
    assert shaken.served == ()
    assert took < DEADLINE + 0.5
