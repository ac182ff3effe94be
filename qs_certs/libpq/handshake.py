"""One polite handshake, as libpq does it: the only user of sockets.

libpq's order (libpq:fe-connect.c `PQconnectPoll`): resolve, connect to one address after the other,
ask for TLS with SSLRequest and read *one* byte (or start with TLS where `sslnegotiation=direct`),
then TLS with libpq's flags.  Here it ends there, with close_notify: no startup packet, so no user
name and no password is ever sent, and a PostgreSQL server that was content logs nothing.

A state of the world is a value, never an exception: see `Handshake.answer`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import queue
import re
import socket
import ssl
import stat
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone

from qs_certs.libpq.hostname import mismatch, names_in
from qs_certs.libpq.outcomes import Shown
from qs_certs.results import Answer, ServedCertificate
from qs_certs.values import Value, replace

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
ALPN_PROTOCOL = "postgresql"
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

    Negotiation = Literal["postgres", "direct"]


class Trust(Value):
    """What libpq would verify the chain against.

    *root_file* is the path that libpq loads, None where it finds none: then nothing is verified.
    *system* is `sslrootcert=system`: OpenSSL's own default paths, and no CRLs.  *crl_file* and
    *crl_folder* are `sslcrl` or `root.crl`, and `sslcrldir`; libpq ignores them where they do not
    load.
    """

    root_file: str | None = None
    system: bool = False
    crl_file: str | None = None
    crl_folder: str | None = None


class Served(Value):
    """A certificate of a chain; *described* is None where `ssl` cannot decode it."""

    der: bytes
    described: ServedCertificate | None

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.der).hexdigest()


class Handshake(Value):
    """What a server answered, and what became of TLS.

    *answer* "tls" means that the server speaks TLS, not that libpq is content with it: that is
    *established*.  Where it is not, either *verify_error* (with OpenSSL's *verify_code*, X509_V_ERR_*)
    says what is wrong with the chain, or *tls_error* has libpq's message for anything else.
    """

    answer: Answer
    address: str | None = None
    detail: str | None = None
    """A plain reason for every answer but "tls"."""
    unexpected_byte: int | None = None
    """The first byte of something that is not PostgreSQL; 0x48, an H, is HTTP."""
    tls_version: str | None = None
    cipher: str | None = None
    alpn: str | None = None
    served: tuple[Served, ...] = ()
    """The chain in the order in which the server sent it, leaf first."""
    built: tuple[Served, ...] = ()
    """The chain that OpenSSL verified, leaf first, trust anchor last; empty where it verified none."""
    verified: bool = False
    verify_code: int | None = None
    verify_error: str | None = None
    tls_error: str | None = None
    only_old_protocols: bool = False
    """The server speaks no TLS version within the bounds; libpq's lower bound is TLS 1.2."""
    waits_for: str | None = None
    """A pipe or a device where a CRL is expected: libpq would wait there, so it was not read."""
    root_file_error: str | None = None
    """The root file exists and does not load (in Python's words): nothing was verified."""
    negotiation: Negotiation = "postgres"
    connections: int = 0

    @property
    def established(self) -> bool:
        """Whether libpq would have gone on to the host name and the startup packet."""
        return self.answer == "tls" and self.verify_error is None and self.tls_error is None

    @property
    def tries_next_host(self) -> bool:
        """Whether libpq goes on to the next of several hosts: only where no connection came about."""
        return self.connections == 0

    def shown_to(self, host: str | None, *, public_anchor: bool = True) -> Shown:
        """What decides the outcomes, for a connection whose `host` is *host*."""
        leaf = self.served[0].der if self.served else None
        return Shown(
            self.answer,
            self.unexpected_byte,
            self.tls_error,
            self.verify_error,
            None if leaf is None else mismatch(host, names_in(leaf)),
            public_anchor,
        )


def shake_hands(
    host: str,
    port: int,
    *,
    hostaddr: str | None = None,
    trust: Trust,
    sslnegotiation: Negotiation = "postgres",
    sni: bool = True,
    minimum: str = "TLSv1.2",
    maximum: str | None = None,
    deadline: float,
) -> Handshake:
    """Asks one server for TLS and says good-bye.  Never raises for a state of the world.

    *minimum* and *maximum* are `ssl_min_protocol_version` and `ssl_max_protocol_version`.
    *deadline* is in seconds, for everything together: name resolution, every address, the answer,
    the handshake, and the second connection.  That second one is made, unverified, only where the
    chain was refused: OpenSSL keeps nothing of a chain that it refuses, and we want to describe it.
    """
    ends = _Deadline(deadline)
    bounds = _Bounds(minimum, maximum)
    endless = _endless_crl(trust)
    if endless is not None:
        trust = replace(trust, crl_file=None, crl_folder=None)
    context, root_file_error = _context(trust, bounds)
    try:
        addresses = _resolve(host, hostaddr, port, ends)
    except _Unanswered as unanswered:
        return Handshake(unanswered.answer, detail=unanswered.detail, negotiation=sslnegotiation)
    manner = _Manner(_server_name(host) if sni else None, sslnegotiation, bounds)
    shaken = _attempt(addresses, context, manner, ends)
    shaken = replace(shaken, root_file_error=root_file_error)
    if endless is not None and root_file_error is None and shaken.answer == "tls":
        return Handshake(
            "timed-out",
            shaken.address,
            waits_for=endless,
            negotiation=sslnegotiation,
            connections=shaken.connections,
        )
    if shaken.verify_error is None:
        return shaken
    addresses = [address for address in addresses if address.text == shaken.address]
    context, _ = _context(Trust(), bounds)
    seen = _attempt(addresses, context, manner, ends)
    return replace(
        shaken,
        served=seen.served,
        tls_version=seen.tls_version,
        cipher=seen.cipher,
        alpn=seen.alpn,
        connections=shaken.connections + seen.connections,
    )


class _Unanswered(Exception):
    """No TLS: the rest of the attempt is skipped."""

    def __init__(self, answer: Answer, detail: str, unexpected_byte: int | None = None) -> None:
        super().__init__(detail)
        self.answer: Answer = answer
        self.detail = detail
        self.unexpected_byte = unexpected_byte


class _Deadline:
    """A span of time that only shrinks."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self, shares: int = 1) -> float:
        """Seconds for the next step, where *shares* of them still want their part."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise self.over()
        return left / shares

    def for_goodbye(self) -> _Deadline:
        """At most a second, and a tenth of one even after the end."""
        return _Deadline(min(1.0, max(0.1, self._end - time.monotonic())))

    def over(self) -> _Unanswered:
        return _Unanswered("timed-out", f"no answer within {self._seconds:g} seconds")


class _Address(Value):
    family: socket.AddressFamily
    sockaddr: Any

    @property
    def text(self) -> str:
        return str(self.sockaddr[0])


def _resolve(host: str, hostaddr: str | None, port: int, ends: _Deadline) -> list[_Address]:
    """All addresses in the system's order.  `hostaddr` spares the look-up, as in libpq.

    The look-up runs in a thread of its own, since the system's has no time limit.
    """
    wanted = hostaddr or host
    if not wanted:
        raise _Unanswered("unreachable", "no host name and no address given")
    flags = socket.AI_NUMERICHOST if hostaddr else 0
    found: queue.SimpleQueue[list[_Address] | Exception] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            # As bytes, like libpq: Python would turn text into punycode first.
            name = wanted.encode("utf-8", "surrogateescape")
            rows = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=flags)
            found.put([_Address(row[0], row[4]) for row in rows])
        except (OSError, ValueError, OverflowError) as error:
            found.put(error)

    threading.Thread(target=look_up, name="name-resolution", daemon=True).start()
    try:
        answer = found.get(timeout=ends.left())
    except queue.Empty:
        raise _Unanswered("timed-out", f'could not resolve "{wanted}" in time') from None
    if isinstance(answer, Exception):
        raise _Unanswered("unreachable", f'could not resolve "{wanted}": {_reason(answer)}')
    return answer


def _attempt(
    addresses: Sequence[_Address], context: ssl.SSLContext, manner: _Manner, ends: _Deadline
) -> Handshake:
    """One connection, from the first address that accepts it to close_notify."""
    shaken = Handshake("unreachable", negotiation=manner.negotiation)
    try:
        connection, address = _connect(addresses, ends)
        shaken = replace(shaken, address=address, connections=1)
        with connection:
            if manner.negotiation == "postgres":
                _ask_for_tls(connection, ends)
            session = _Session(connection, context, manner.server_name)
            return _speak_tls(session, manner, ends, shaken)
    except _Unanswered as unanswered:
        return replace(
            shaken,
            answer=unanswered.answer,
            detail=unanswered.detail,
            unexpected_byte=unanswered.unexpected_byte,
        )


def _connect(addresses: Iterable[_Address], ends: _Deadline) -> tuple[socket.socket, str]:
    """The first connection that comes about.

    An address that does not answer gets only its share of the time, so that a dead IPv6 address
    before a living IPv4 one does not use it up.
    """
    remaining = list(addresses)
    answers: set[Answer] = set()
    reasons = []
    while remaining:
        try:
            patience = ends.left(shares=len(remaining))
        except _Unanswered:
            answers.add("timed-out")
            break
        address = remaining.pop(0)
        try:
            connection = socket.socket(address.family, socket.SOCK_STREAM)
        except OSError as error:  # an IPv6 address on a system without IPv6
            answers.add("unreachable")
            reasons.append(f"{address.text}: {_reason(error)}")
            continue
        try:
            connection.settimeout(patience)
            # libpq:fe-connect.c `connectNoDelay`.  Without it close_notify, which follows Finished at
            # once, waits for the server's delayed acknowledgement: 40 ms of every check.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.connect(address.sockaddr)
        except OSError as error:
            connection.close()
            timed_out = isinstance(error, TimeoutError)
            answers.add("timed-out" if timed_out else "unreachable")
            reasons.append(f"{address.text}: {'no answer' if timed_out else _reason(error)}")
        else:
            return connection, address.text
    answer: Answer = "timed-out" if answers == {"timed-out"} else "unreachable"
    raise _Unanswered(answer, "; ".join(reasons) or "no answer in time")


def _ask_for_tls(connection: socket.socket, ends: _Deadline) -> None:
    """SSLRequest; returns where the server is willing (PostgreSQL protocol, "SSL Session Encryption").

    Exactly one byte is read: whatever a man in the middle put behind it must meet TLS, not us
    (CVE-2021-23222).  An error's text is neither read nor shown: nobody has vouched for it
    (CVE-2024-10977).
    """
    try:
        connection.settimeout(ends.left())
        connection.sendall(SSL_REQUEST)
        connection.settimeout(ends.left())
        answer = connection.recv(1)
    except TimeoutError:
        raise ends.over() from None
    except OSError as error:
        raise _Unanswered("closed", _reason(error)) from None
    if answer == b"S":
        return
    if answer == b"":
        raise _Unanswered("closed", "the server closed the connection when asked for TLS")
    if answer == b"N":
        raise _Unanswered("refused", "the server does not offer TLS")
    if answer == b"E":
        raise _Unanswered("error", "the server answered with an error when asked for TLS")
    detail = f"the server answered with the byte 0x{answer[0]:02x}, which is not PostgreSQL's"
    raise _Unanswered("not-postgresql", detail, answer[0])


class _Session:
    """TLS over a connection, in steps that the deadline can end.

    OpenSSL gets its bytes from us, a record's worth at a time.  With a socket of its own it would
    read on for as long as a server sends what it must skip, and no time limit would be looked at.
    """

    def __init__(
        self, connection: socket.socket, context: ssl.SSLContext, server_name: bytes | None
    ) -> None:
        self._connection = connection
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)

    def drive(self, step: Callable[[], object], left: Callable[[], float]) -> None:
        """Carries out a step of `self.tls`; *left* gives the seconds for each wait."""
        while True:
            try:
                step()
            except ssl.SSLWantReadError:
                self._send(left)
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._send(left)  # the alert
                raise
            else:
                return self._send(left)
            self._receive(left)

    def _send(self, left: Callable[[], float]) -> None:
        data = self._outgoing.read()
        if data:
            self._connection.settimeout(left())
            self._connection.sendall(data)

    def _receive(self, left: Callable[[], float]) -> None:
        self._connection.settimeout(left())
        data = self._connection.recv(16384)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()


def _speak_tls(session: _Session, manner: _Manner, ends: _Deadline, shaken: Handshake) -> Handshake:
    """The handshake and the good-bye: libpq:fe-secure-openssl.c `open_client_SSL`."""
    tls = session.tls
    try:
        session.drive(tls.do_handshake, ends.left)
    except ssl.SSLCertVerificationError as refused:
        return replace(
            shaken,
            answer="tls",
            verify_code=refused.verify_code,
            verify_error=refused.verify_message,
        )
    except TimeoutError:
        raise ends.over() from None
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError):
        raise _Unanswered("closed", "the server closed the connection during TLS") from None
    except ssl.SSLError as error:
        return _failed(error, manner.bounds, shaken)
    except OSError as error:
        raise _Unanswered("closed", _reason(error)) from None
    verifying = tls.context.verify_mode is ssl.CERT_REQUIRED
    cipher = tls.cipher()
    alpn = tls.selected_alpn_protocol()
    shaken = replace(
        shaken,
        answer="tls",
        tls_version=tls.version(),
        cipher=None if cipher is None else cipher[0],
        alpn=alpn,
        verified=verifying,
        served=_chain(tls, "get_unverified_chain"),
        built=_chain(tls, "get_verified_chain") if verifying else (),
        tls_error=_alpn_error(alpn) if manner.negotiation == "direct" else None,
    )
    # close_notify, and a moment for the server's own: closing with its bytes unread would reset
    # the connection, and the server would log that.  If it does not wait, we have what we came for.
    with contextlib.suppress(OSError, _Unanswered):
        session.drive(tls.unwrap, ends.for_goodbye().left)
    return shaken


def _alpn_error(selected: str | None) -> str | None:
    """The message of libpq where a direct connection did not agree on the protocol."""
    if selected is None:
        return "direct SSL connection was established without ALPN protocol negotiation extension"
    if selected != ALPN_PROTOCOL:
        return "SSL connection was established with unexpected ALPN protocol"
    return None


# OpenSSL's reasons; libpq adds its hint to all of them but HTTP_REQUEST.
_OUT_OF_BOUNDS = frozenset(
    (
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "UNSUPPORTED_PROTOCOL",
        "UNSUPPORTED_SSL_VERSION",
        "WRONG_SSL_VERSION",
        "VERSION_TOO_LOW",
        "VERSION_TOO_HIGH",
        "NO_PROTOCOLS_AVAILABLE",
        "BAD_PROTOCOL_VERSION_NUMBER",
        "UNKNOWN_SSL_VERSION",
    )
)
_NOT_TLS = frozenset(("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST"))


def _failed(error: ssl.SSLError, bounds: _Bounds, shaken: Handshake) -> Handshake:
    """A handshake that failed for anything but the chain, with libpq's message.

    Bytes that are no TLS after the server's own "S" are somebody else's: SSH greets with an S.
    """
    reason = error.reason or ""
    message = f"SSL error: {_openssl_text(error)}"
    if reason in _OUT_OF_BOUNDS | _NOT_TLS and reason != "HTTP_REQUEST":
        message += (
            "\nThis may indicate that the server does not support any SSL protocol version"
            f" between {bounds.minimum or 'TLSv1'} and {bounds.maximum or 'TLSv1.3'}."
        )
    not_tls = reason in _NOT_TLS
    return replace(
        shaken,
        answer="not-postgresql" if not_tls else "tls",
        detail="the server answered with something that is not TLS" if not_tls else None,
        tls_error=message,
        only_old_protocols=reason in _OUT_OF_BOUNDS,
    )


def _openssl_text(error: ssl.SSLError) -> str:
    """OpenSSL's words alone, as libpq prints them: without Python's code and line number."""
    text = str(error.args[-1] if error.args else error)
    found = re.fullmatch(r"(?:\[[^]]*\] )?(.*?)(?: \(_ssl\.c:\d+\))?", text, re.DOTALL)
    return found[1] if found else text


_VERSIONS = {
    "tlsv1": ssl.TLSVersion.TLSv1,
    "tlsv1.1": ssl.TLSVersion.TLSv1_1,
    "tlsv1.2": ssl.TLSVersion.TLSv1_2,
    "tlsv1.3": ssl.TLSVersion.TLSv1_3,
}


class _Bounds(Value):
    """`ssl_min_protocol_version` and `ssl_max_protocol_version`; libpq ignores their case.

    Empty and None are no bound.
    """

    minimum: str | None
    maximum: str | None

    def apply(self, context: ssl.SSLContext) -> None:
        with warnings.catch_warnings():  # Python warns of TLS 1.0 and 1.1; the user asked for them
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = _VERSIONS.get(
                (self.minimum or "").lower(), ssl.TLSVersion.MINIMUM_SUPPORTED
            )
            context.maximum_version = _VERSIONS.get(
                (self.maximum or "").lower(), ssl.TLSVersion.MAXIMUM_SUPPORTED
            )


class _Manner(Value):
    """How TLS is asked for; the same in both connections."""

    server_name: bytes | None
    negotiation: Negotiation
    bounds: _Bounds


def _context(trust: Trust, bounds: _Bounds) -> tuple[ssl.SSLContext, str | None]:
    """OpenSSL with the flags that libpq sets, and why the root file does not load, if so:
    libpq:fe-secure-openssl.c `initialize_SSL`.

    Never `create_default_context`: from Python 3.13 on it sets flags that libpq does not.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # libpq compares the names itself: see `hostname`
    context.verify_mode = ssl.CERT_NONE
    context.verify_flags &= ~(ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN)
    context.set_ciphers("DEFAULT")  # OpenSSL's own, where Python has a narrower list
    context.set_alpn_protocols([ALPN_PROTOCOL])  # as libpq from 17 on, in both negotiations
    bounds.apply(context)
    if trust.system:
        context.set_default_verify_paths()
        context.verify_mode = ssl.CERT_REQUIRED
        return context, None
    if trust.root_file is None:
        return context, None
    try:
        _refuse_pipe(trust.root_file)
        context.load_verify_locations(cafile=trust.root_file)
    except OSError as error:
        return context, _openssl_text(error) if isinstance(error, ssl.SSLError) else _reason(error)
    context.verify_mode = ssl.CERT_REQUIRED
    _load_crls(context, trust)
    return context, None


def _load_crls(context: ssl.SSLContext, trust: Trust) -> None:
    """A CRL that loads is checked for the whole chain; one that does not is ignored."""
    if not (trust.crl_file or trust.crl_folder):
        return
    try:
        if trust.crl_file:
            _refuse_pipe(trust.crl_file)
        context.load_verify_locations(
            cafile=trust.crl_file or None, capath=trust.crl_folder or None
        )
    except OSError:
        return
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN


_HASHED = r"[0-9a-f]{8}\.r?[0-9]+"
"""What OpenSSL opens in a folder, in the middle of a handshake: openssl:by_dir.c
`get_cert_by_subject_ex`."""


def _endless_crl(trust: Trust) -> str | None:
    """What OpenSSL would wait for, past every deadline, among the CRLs that libpq loads.

    libpq loads them only beside a root file.  A folder is several where the system's separator
    stands between them: openssl:by_dir.c `add_cert_dir`.
    """
    if trust.root_file is None:
        return None
    named = [trust.crl_file] if trust.crl_file else []
    for folder in (trust.crl_folder or "").split(os.pathsep):
        with contextlib.suppress(OSError):
            names = os.listdir(folder) if folder else []  # noqa: PTH208 - as libpq spells it
            named += [os.path.join(folder, each) for each in names if re.fullmatch(_HASHED, each)]  # noqa: PTH118
    return next((each for each in named if _is_endless(each)), None)


def _is_endless(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or (
        stat.S_ISCHR(mode) and not os.path.samefile(path, os.devnull)  # noqa: PTH121
    )


def _refuse_pipe(path: str) -> None:
    """Raise OSError for a pipe or a device: OpenSSL would wait there, past every deadline."""
    mode = os.stat(path).st_mode  # noqa: PTH116 - as libpq asks
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "not a regular file (a pipe, a socket or a device)")


def _server_name(host: str) -> bytes | None:
    """The name for SNI; libpq sends none for what looks like an address (RFC 6066 §3).

    Python refuses a leading dot and more than 255 bytes; no certificate stands for such a name.
    """
    if not host.strip("0123456789.") or ":" in host or host.startswith(".") or len(host) > 255:
        return None
    # As bytes: Python would turn text into punycode, and libpq sends what stands there.
    return host.encode() if host.isascii() else None


def _chain(
    tls: ssl.SSLObject, which: Literal["get_unverified_chain", "get_verified_chain"]
) -> tuple[Served, ...]:
    """A chain from OpenSSL.

    Public from Python 3.13 on, but as bytes alone; the objects beneath, there since 3.10, also
    decode themselves.
    """
    beneath: Any = getattr(tls, "_sslobj", None)
    return tuple(_served(certificate) for certificate in getattr(beneath, which)() or ())


def _served(certificate: Any) -> Served:
    der: bytes = ssl.PEM_cert_to_DER_cert(certificate.public_bytes())
    try:
        return Served(der, _described(der, certificate.get_info()))
    except (ValueError, KeyError, OverflowError, ssl.SSLError):
        return Served(der, None)


def _described(der: bytes, info: dict[str, Any]) -> ServedCertificate:
    return ServedCertificate(
        subject=_name(info["subject"]),
        issuer=_name(info["issuer"]),
        sha256=hashlib.sha256(der).hexdigest(),
        not_before=_moment(info["notBefore"]),
        not_after=_moment(info["notAfter"]),
    )


_SHORT = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}


def _name(relative_names: Sequence[Sequence[tuple[str, str]]]) -> str:
    """RFC 4514's order (most specific first) and short names; nothing is escaped."""
    return ",".join(
        "+".join(f"{_SHORT.get(kind, kind)}={value}" for kind, value in relative)
        for relative in reversed(relative_names)
    )


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _moment(text: str) -> datetime:
    """The time that OpenSSL writes as `Jan  5 09:34:43 2018 GMT`, in every locale.

    As `ssl.cert_time_to_seconds`, which loads strptime's machinery for it.
    """
    month, day, clock, year, _ = text.split()
    hour, minute, second = clock.split(":")
    return datetime(
        int(year),
        _MONTHS.index(month) + 1,
        int(day),
        int(hour),
        int(minute),
        int(second),
        0,
        timezone.utc,
    )


def _reason(error: Exception) -> str:
    """The system's own words, without number."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
