"""Small servers in threads of this process: polite ones, and ones that misbehave."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.pki import Authority, Certificate

SSL_REQUEST = bytes.fromhex("0000000804d2162f")


@dataclass
class Server:
    """A listening server and what it saw."""

    port: int
    received: list[bytes] = field(default_factory=list)
    """The first bytes of each connection."""
    endings: list[str] = field(default_factory=list)
    """How each TLS session ended: "close_notify", or the error."""
    names: list[str | None] = field(default_factory=list)
    """The SNI of each TLS session."""

    def settle(self, sessions: int) -> list[str]:
        """The endings, once there are so many of them."""
        until = time.monotonic() + 2
        while len(self.endings) < sessions and time.monotonic() < until:
            time.sleep(0.005)
        return self.endings


Behaviour = Callable[[socket.socket, Server], None]


@contextlib.contextmanager
def serving(behaviour: Behaviour, *, host: str = "127.0.0.1") -> Iterator[Server]:
    """A server that treats each connection with *behaviour*, in a thread of its own."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, 0), family=family)
    server = Server(listener.getsockname()[1])
    connections: list[socket.socket] = []

    def treat(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            behaviour(connection, server)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            threading.Thread(target=treat, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def tls_context(chain: bytes, key: bytes, *, alpn: str | None = "postgresql") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Closed before OpenSSL opens it: Windows allows one of them at a time.
    handle, path = tempfile.mkstemp(suffix=".pem")
    with os.fdopen(handle, "wb") as file:
        file.write(chain + key)
    context.load_cert_chain(path)
    Path(path).unlink()
    if alpn is not None:
        context.set_alpn_protocols([alpn])
    return context


def certified(issuer: Authority, leaf: Certificate) -> ssl.SSLContext:
    assert leaf.key_pem is not None
    return tls_context(issuer.chain(leaf), leaf.key_pem)


def answering(reply: bytes, context: ssl.SSLContext | None = None) -> Behaviour:
    """Reads SSLRequest, sends *reply*; TLS with *context* follows where there is one."""

    def behave(connection: socket.socket, server: Server) -> None:
        server.received.append(connection.recv(8))
        connection.sendall(reply)
        if context is not None:
            speak_tls(connection, server, context)
        else:
            hold(connection)

    return behave


def speaking_tls(context: ssl.SSLContext) -> Behaviour:
    """TLS at once."""

    def behave(connection: socket.socket, server: Server) -> None:
        server.received.append(connection.recv(1, socket.MSG_PEEK))
        speak_tls(connection, server, context)

    return behave


def speak_tls(connection: socket.socket, server: Server, context: ssl.SSLContext) -> None:
    names: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    try:
        with context.wrap_socket(
            connection, server_side=True, suppress_ragged_eofs=False
        ) as session:
            data = session.recv(1)
            server.names += names
            if data:
                server.received.append(data)
            ending = "data" if data else "close_notify"
            if not data:
                session.unwrap()
    except OSError as error:
        ending = str(error)
    server.endings.append(ending)


def hold(connection: socket.socket) -> None:
    """Reads until the other side is gone."""
    with contextlib.suppress(OSError):
        while connection.recv(65536):
            pass
