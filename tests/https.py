"""The other end of a download: a real HTTPS server that misbehaves on request, and a real proxy.

Both listen on the loopback address only, and are asked for as `localhost`.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import trustme

Serve = Callable[[socket.socket, threading.Event], None]
"""Writes a whole answer, headers included, to a connection; returns soon once the event is set."""


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    line: str
    headers: Mapping[str, str]


@dataclass
class Site:
    """A running server; *pages* may be changed at any time."""

    port: int
    pages: dict[str, Serve]
    seen: list[Seen] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"https://localhost:{self.port}{path}"


@dataclass
class Proxy:
    """A running HTTP proxy that understands CONNECT only."""

    port: int
    seen: list[Seen] = field(default_factory=list)


# --- answers -----------------------------------------------------------------------------------


def answer(body: bytes, status: str = "200 OK", **headers: str) -> Serve:
    fields = {"content_length": str(len(body)), **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    raw = f"HTTP/1.1 {status}\r\n{head}\r\n".encode("latin-1") + body

    def serve(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(raw)

    return serve


def redirect(location: str) -> Serve:
    return answer(b"", "302 Found", location=location)


def endless(connection: socket.socket, stop: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while not stop.is_set():
        connection.sendall(b"x" * 16384)


def silent(connection: socket.socket, stop: threading.Event) -> None:
    stop.wait()


def dripping(raw: bytes, at_once: bytes = b"") -> Serve:
    """*at_once*, then one byte of *raw* each second."""

    def serve(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(at_once)
        for byte in raw:
            connection.sendall(bytes([byte]))
            if stop.wait(1):
                return

    return serve


def cut(body: bytes, **headers: str) -> Serve:
    """Only half of what the headers promise."""

    def serve(connection: socket.socket, stop: threading.Event) -> None:
        fields = {"content_length": str(len(body)), **headers}
        head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + head.encode() + b"\r\n")
        connection.sendall(body[: len(body) // 2])

    return serve


def cut_in_a_chunk(body: bytes) -> Serve:
    def serve(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall(f"{len(body):x}\r\n".encode() + body[: len(body) // 2])

    return serve


def chunked(body: bytes) -> Serve:
    def serve(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in (body[:100], body[100:]):
            connection.sendall(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        connection.sendall(b"0\r\n\r\n")

    return serve


def to_the_end(body: bytes) -> Serve:
    """No length at all: the end of the connection is the end of the answer."""

    def serve(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body)

    return serve


BLOCK_PAGE = b"\r\n<!DOCTYPE html><html><body>Access to this site is blocked.</body></html>"


@functools.cache
def _bomb(right: bytes) -> bytes:
    return gzip.compress(right + b"\n" * 50_000_000)


def pages(right: bytes, wrong: bytes) -> dict[str, Serve]:
    """Every behaviour that the tests name, for a site that should serve *right* (both PEM)."""
    der = ssl.PEM_cert_to_DER_cert(right.decode("ascii"))
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(right)
    bare = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return {
        "/pem": answer(right),
        "/der": answer(der),
        "/crlf-bom": answer(b"\xef\xbb\xbf" + right.replace(b"\n", b"\r\n")),
        "/among-others": answer(wrong + b"text\n" + right + wrong),
        "/as-html": answer(right, content_type="text/html"),
        "/chunked": chunked(right),
        "/to-the-end": to_the_end(right),
        "/gzip": answer(gzip.compress(right), content_encoding="gzip"),
        "/deflate": answer(zlib.compress(right), content_encoding="deflate"),
        "/bare-deflate": answer(bare.compress(right) + bare.flush(), content_encoding="deflate"),
        "/identity": answer(right, content_encoding="identity"),
        "/redirect": redirect("/pem"),
        "/redirect-3": redirect("/redirect-2"),
        "/redirect-2": redirect("/redirect"),
        "/wrong": answer(wrong),
        "/wrong-gzip": answer(gzip.compress(wrong), content_encoding="gzip"),
        "/redirect-wrong": redirect("/wrong"),
        "/block-page": answer(BLOCK_PAGE),
        "/empty": answer(b""),
        "/text": answer(b"hello"),
        "/404": answer(right, "404 Not Found"),
        "/500": answer(right, "500 Internal Server Error"),
        "/204": answer(b"", "204 No Content"),
        "/endless": endless,
        "/large": answer(right + b"\n" * 262144),
        "/bomb": answer(_bomb(right), content_encoding="gzip"),
        "/half-gzip": answer(gzip.compress(right)[:-10], content_encoding="gzip"),
        "/no-gzip": answer(right, content_encoding="gzip"),
        "/br": answer(right, content_encoding="br"),
        "/twice": answer(gzip.compress(gzip.compress(right)), content_encoding="gzip, gzip"),
        "/dripping-body": dripping(right, head),
        "/dripping-headers": dripping(head + right),
        "/silent": silent,
        "/cut": cut(right),
        "/cut-chunk": cut_in_a_chunk(right),
        "/not-http": lambda connection, stop: connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n"),
        "/hang-up": lambda connection, stop: None,
        "/redirect-loop": redirect("/redirect-loop"),
        "/redirect-4": redirect("/redirect-3"),
        "/redirect-nowhere": redirect(""),
        "/redirect-http": redirect("http://localhost/pem"),
        "/redirect-file": redirect("file:///etc/hosts"),
        "/redirect-user": redirect("https://user:hunter2@localhost/pem"),
    }


# --- servers -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _listening(handle: Callable[[socket.socket, threading.Event], None]) -> Iterator[int]:
    """Run *handle* in a thread per connection; all are gone when the block is left."""
    stop = threading.Event()
    threads: list[threading.Thread] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def run(connection: socket.socket) -> None:
        # A client that hangs up or refuses our certificate is what many tests are about.
        with connection, contextlib.suppress(OSError):
            handle(connection, stop)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            if stop.is_set():
                connection.close()
                return
            connection.settimeout(10)
            thread = threading.Thread(target=run, args=(connection,), daemon=True)
            threads.append(thread)
            thread.start()

    port: int = listener.getsockname()[1]
    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield port
    finally:
        stop.set()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            pass  # wakes accept() on every system
        acceptor.join(5)
        listener.close()
        for thread in threads:
            thread.join(11)
        assert not any(thread.is_alive() for thread in [acceptor, *threads])


def _head(connection: socket.socket) -> Seen | None:
    """The request line and headers, byte by byte: what follows belongs to somebody else."""
    raw = bytearray()
    while not raw.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            return None
        raw += byte
    line, *fields = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    headers = (text.partition(":") for text in fields)
    return Seen(line, {name.lower(): value.strip() for name, _, value in headers})


@contextlib.contextmanager
def serving(
    authority: trustme.CA,
    served: dict[str, Serve],
    name: str = "localhost",
    not_after: datetime | None = None,
) -> Iterator[Site]:
    """A site whose certificate is for *name* and issued by *authority*."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(
        name, not_before=datetime(2019, 1, 1, tzinfo=timezone.utc), not_after=not_after
    ).configure_cert(context)
    site = Site(0, served)

    def handle(connection: socket.socket, stop: threading.Event) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            request = _head(secured)
            if request is None:
                return
            site.seen.append(request)
            missing = answer(b"no such page", "404 Not Found")
            site.pages.get(request.line.split()[1], missing)(secured, stop)

    with _listening(handle) as site.port:
        yield site


@contextlib.contextmanager
def proxying(authorization: str | None = None) -> Iterator[Proxy]:
    """A CONNECT proxy; with *authorization* it wants exactly that Proxy-Authorization."""
    proxy = Proxy(0)

    def handle(connection: socket.socket, stop: threading.Event) -> None:
        request = _head(connection)
        if request is None:
            return
        proxy.seen.append(request)
        method, target, _ = request.line.split()
        if method != "CONNECT":
            connection.sendall(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n")
            return
        if (
            authorization is not None
            and request.headers.get("proxy-authorization") != authorization
        ):
            connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            return
        host, _, port = target.rpartition(":")
        with socket.create_connection((host, int(port)), 10) as upstream:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_relay, args=(upstream, connection), daemon=True)
            back.start()
            _relay(connection, upstream)
            back.join(11)

    with _listening(handle) as proxy.port:
        yield proxy


def _relay(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(16384):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def authority_file(authority: trustme.CA, folder: Path) -> Path:
    """*authority*'s certificate as a file for `--ca-bundle`."""
    pem = authority.cert_pem.bytes()
    path = folder / f"ca-{hashlib.sha256(pem).hexdigest()[:8]}.pem"
    path.write_bytes(pem)
    return path
