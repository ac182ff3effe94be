"""What is fuzzed: each target takes any bytes, and raises where a promise is broken.

A target stands for everything that strangers can hand to us: a root file, a connection string, the
store's journal, a server's answers, a certificate's names, the answer to a download.
"""

from __future__ import annotations

import hashlib
import json
import socket
import time
from collections.abc import Callable
from unittest import mock

from qs_certs import bundle, catalogue, merging, sources
from qs_certs.errors import StoreTampered, WrongFingerprint, WrongUsage
from qs_certs.journal import Journal
from qs_certs.libpq import handshake, hostname, outcomes, pasted, settings
from tests.libpq import test_passwords as passwords

HANG = 1.0
"""Seconds of processor time after which a target counts as hanging."""
G2 = sources.embedded(catalogue.ROOTS[catalogue.DEFAULT])
G2_PIN = hashlib.sha256(G2).hexdigest()
_PIN = {G2_PIN}

Target = Callable[[bytes], None]


def root_file(data: bytes) -> None:
    """`bundle`, `merging`: reading is total and lossless, and the laws of merge and remove hold."""
    parsed = bundle.parse(data)
    at = 0
    for number, block in enumerate(parsed.blocks, start=1):
        assert at <= block.start < block.end <= len(data)
        assert block.number == number
        assert data.startswith(b"-----BEGIN ", block.start)
        at = block.end
    merging.certificates_in(data)
    merging.holds_private_key(data)
    merged = merging.merge(data, [G2])
    if merged.damage:
        assert merged.data == data
    else:
        again = merging.merge(merged.data, [G2])
        assert (again.data, again.added, again.repaired) == (merged.data, (), ())
        assert bundle.parse(merged.data).fingerprints >= parsed.fingerprints | _PIN
        if not merged.repaired:
            glue = b"" if data.endswith(b"\n") or not data else b"\n"
            assert merged.data == data + (glue + bundle.canonical(G2)) * bool(merged.added)
            if merged.added:
                assert merging.remove(merged.data, _PIN, before=data).data == data
    repaired = merging.merge(data, [G2], repair=True)
    assert bundle.parse(repaired.data).fingerprints >= parsed.fingerprints | _PIN
    # Of garbage, a second repair may mend more; it takes nothing away, and puts nothing in.
    again = merging.merge(repaired.data, [G2], repair=True)
    assert not again.added
    assert bundle.parse(again.data).fingerprints >= bundle.parse(repaired.data).fingerprints
    left = merging.remove(data, _PIN)
    assert not bundle.parse(left.data).fingerprints & _PIN or parsed.damaged is not None


_WRITERS = [*passwords.WELL_FORMED.values(), *passwords.BROKEN.values()]


def connection_string(data: bytes) -> None:
    """`libpq.pasted`: refuses with WrongUsage or reads, and no password is in either."""
    text = data[1:].decode("utf-8", "replace")  # what a terminal hands over can be encoded
    _settings_are_sound(text)
    password = f"{passwords.WORD}{text[:4]}{passwords.WORD}"
    for written in (
        passwords.WELL_FORMED["key/value"](password) + text[4:],
        _WRITERS[data[0] % len(passwords.WELL_FORMED)](password) if data else "",
    ):
        assert passwords.WORD not in _settings_are_sound(written), repr(written)


def _settings_are_sound(text: str) -> str:
    """Everything that was said about *text*."""
    try:
        given = pasted.parse_conninfo(text)
        said = repr(given) + settings.corrected(given) + pasted.corrected_psql(given)
        resolved = settings.resolve(given, None, {})
    except WrongUsage as error:
        return passwords.everything_about(error)
    again = pasted.parse_conninfo(settings.corrected(given))
    assert settings.resolve(again, None, {}).servers == resolved.servers
    return said + repr(resolved)


def service_file(data: bytes) -> None:
    """Service files and `.pgpass`: only WrongUsage, and no password goes further."""
    text = data.decode("utf-8", "surrogateescape")
    secret = f"{passwords.WORD}{text[:4]}{passwords.WORD}".replace("\n", "").replace("\r", "")
    for content in (text, f"[s]\nhost=h\npassword={secret}\n{text}"):
        said = repr(settings.service_names(text))
        try:
            said += repr(settings.parse_service_file(content, "s"))
        except WrongUsage as error:
            said += passwords.everything_about(error)
        assert passwords.WORD not in said, repr(content)
    for content in (text, f"{text}\nh:5432:d:u:{secret}"):
        assert passwords.WORD not in repr(settings.pgpass_hosts(content)), repr(content)


def journal(data: bytes) -> None:
    """`store`: whole records or StoreTampered, and what is read is what a reader reads again.

    Lines get a right checksum, so that the fuzzer gets behind it; an odd first byte leaves them.
    """
    raw = data[1:] if data[:1] and data[0] % 2 else _sealed(data[1:])
    try:
        read = _read_journal(raw)
    except StoreTampered:
        return
    assert raw.startswith(read.raw)
    assert _read_journal(read.raw).raw == read.raw
    for entry in read.open:
        for name in (entry.change.before, entry.change.after):
            assert name is None or (len(name) == 64 and name.isalnum())


def _read_journal(raw: bytes) -> Journal:
    found = Journal("journal.jsonl")
    found.read(raw)
    found.examine()
    return found


def _sealed(bodies: bytes) -> bytes:
    """Lines of a journal: each `@` is the hash of all before it, and each line has its checksum."""
    before = hashlib.sha256()
    lines = []
    for body in bodies.split(b"\n"):
        line = body.replace(b"@", before.hexdigest().encode())
        line += b" " + hashlib.sha256(line).hexdigest().encode() + b"\n"
        before.update(line)
        lines.append(line)
    return b"".join(lines)


def server(data: bytes) -> None:
    """`libpq.handshake`: whatever a server sends is a value, and has outcomes."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    direct: handshake.Negotiation = "direct" if data[:1] == b"\0" else "postgres"
    with theirs, ours:
        theirs.send(data[:60_000] if direct == "postgres" else data[1:60_000])
        theirs.shutdown(socket.SHUT_WR)
        with (
            mock.patch.object(handshake, "_resolve", return_value=[]),
            mock.patch.object(handshake, "_connect", return_value=(ours, "127.0.0.1")),
        ):
            shaken = handshake.shake_hands(
                "h", 1, trust=handshake.Trust(), sslnegotiation=direct, deadline=5.0
            )
    assert shaken.answer in ("tls", "refused", "error", "not-postgresql", "closed", "timed-out")
    assert (shaken.unexpected_byte is None) == (
        shaken.answer != "not-postgresql" or shaken.tls_error is not None
    )
    anchors = outcomes.TrustAnchors("absent", "/root.crt")
    told = outcomes.outcomes(anchors, shaken.shown_to("h"), sslnegotiation=direct)
    assert not any(each.host_name_verified for each in told)


def certificate(data: bytes) -> None:
    """`libpq.hostname`: the names of anything that calls itself a certificate."""
    names = hostname.names_in(data)
    for host in ("db.example.com", "192.0.2.1", "::1", data[:40].decode("latin-1"), None):
        message = hostname.mismatch(host, names)
        assert hostname.matches(host, names) == (message is None)


class _Answer:
    """What requests would hand over: the first lines of *data* are headers."""

    def __init__(self, data: bytes) -> None:
        head, _, self._body = data.partition(b"\n\n")
        lines = head.decode("latin-1").split("\n")
        self.status_code = 404 if head.startswith(b"404") else 200
        pairs = (line.partition(":") for line in lines)
        self.headers = {name.title(): value.strip() for name, _, value in pairs}
        self.raw = self

    def read(self, size: int, decode_content: bool) -> bytes:
        assert not decode_content
        chunk, self._body = self._body[:size], self._body[size:]
        return chunk


def download(data: bytes) -> None:
    """`sources`: a body within the limit or a plain reason, and never a wrong certificate."""
    try:
        body = sources._content(_Answer(data), time.monotonic() + 5)  # type: ignore[arg-type]
    except sources._Failed:
        return
    assert len(body) <= sources.DOWNLOAD_LIMIT
    sources._instead(body)
    found = merging.certificates_in(body)
    assert all(merging.certificates_in(bundle.canonical(der)) == (der,) for der in found)
    try:
        der = sources._pinned(found, G2_PIN, "x") if found else G2
    except WrongFingerprint:
        return
    assert der == G2


def broken_journal(data: bytes) -> None:
    """The control: a reader that forgot what a record may lack.  The fuzzer must find that."""
    for line in _sealed(data[1:]).split(b"\n")[:-1]:
        try:
            record = json.loads(line.rpartition(b" ")[0])
        except ValueError:
            return
        if isinstance(record, dict) and "id" in record and record.get("kind") == "change":
            [record[name] for name in ("at", "command", "target", "before", "after", "mode")]
            [len(each) for name in ("added", "removed") for each in record[name]]


TARGETS: dict[str, Target] = {
    each.__name__: each
    for each in (root_file, connection_string, service_file, journal, server, certificate, download)
}
CONTROL = {"broken_journal": broken_journal}


def timed(target: Target) -> Target:
    """*target*, which must not use the processor for longer than `HANG` seconds."""

    def run(data: bytes) -> None:
        started = time.thread_time()
        target(data)
        assert time.thread_time() - started < HANG, "hangs"

    return run
