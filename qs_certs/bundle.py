"""A root file as bytes: what libpq reads in it, and how a root gets in and out again.  Pure.

libpq hands the file to OpenSSL's `X509_load_cert_crl_file`
(libpq:fe-secure-openssl.c `initialize_SSL`), so `parse` reads as OpenSSL's PEM reader does
(openssl:crypto/pem/pem_lib.c, crypto/pem/pem_info.c), with its line buffer, its idea of white
space and its idea of base64.  It looks no deeper into a certificate than its outermost elements;
what OpenSSL refuses beyond that is found by `qs_certs.openssl.refused`.
"""

from __future__ import annotations

import contextlib
import re
from binascii import a2b_base64, b2a_base64
from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256
from typing import NamedTuple

from qs_certs.values import Value

CERTIFICATE_LABELS = ("CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE")
NOTHING_FOUND = "no certificate or crl found"
BOM = b"\xef\xbb\xbf"

_CRL_LABEL = "X509 CRL"
_LOADED_LABELS = (*CERTIFICATE_LABELS, _CRL_LABEL)

_BEGIN = b"-----BEGIN "
_END = b"-----END "
_TAIL = b"-----"
_CHUNK = 254
"""LINESIZE - 1: the most that one BIO_gets reads of a line (pem_lib.c)."""

# pem_lib.c sanitize_line strips every trailing `char <= ' '`.  `char` is signed on x86, on Apple's
# ARM and on Windows, so bytes from 0x80 are "less" than a space there.
_STRIPPED = bytes(range(0x21)) + bytes(range(0x80, 0x100))


class Block(Value):
    """One BEGIN...END.  Offsets count bytes; *end* is after the END line's newline.

    *line* is that of BEGIN; it and *number* count from 1.  *der* is the certificate alone (without
    the trust settings of a TRUSTED CERTIFICATE), None for anything else; *sha256* its fingerprint.
    *problem* holds OpenSSL's words for why it gives up the whole file here.
    """

    label: str
    start: int
    end: int
    line: int
    number: int
    der: bytes | None = None
    sha256: str | None = None
    problem: str | None = None
    refuses_servers: bool = False
    """A TRUSTED CERTIFICATE whose trust settings exclude TLS servers."""


class Bundle(Value):
    """A root file, as OpenSSL reads it.  *stop* is the offset of a NUL byte that ends the reading.

    Everything from *stop* on is ignored without a word.  Blocks after a damaged one are listed,
    although OpenSSL, which gives up there, never gets to see them.
    """

    raw: bytes
    blocks: tuple[Block, ...]
    stop: int | None = None

    @property
    def damaged(self) -> Block | None:
        """The block at which OpenSSL gives up the whole file."""
        return next((block for block in self.blocks if block.problem is not None), None)

    @property
    def readable(self) -> tuple[Block, ...]:
        """Every certificate in it, whether or not the file as a whole would load."""
        return tuple(block for block in self.blocks if block.der is not None)

    @property
    def certificates(self) -> tuple[Block, ...]:
        """The certificates that libpq loads, in order: none at all where one block is damaged."""
        return self.readable if self.damaged is None else ()

    @property
    def fingerprints(self) -> frozenset[str]:
        """SHA-256 of the certificates that libpq loads."""
        return frozenset(block.sha256 for block in self.certificates if block.sha256)

    @property
    def refusing(self) -> frozenset[str]:
        """Fingerprints of loaded certificates that no TLS server is trusted through.

        The first copy decides: OpenSSL drops later ones (x509_lu.c X509_STORE_add_cert).
        """
        first: dict[str, bool] = {}
        for block in self.certificates:
            first.setdefault(block.sha256 or "", block.refuses_servers)
        return frozenset(fingerprint for fingerprint, refuses in first.items() if refuses)

    @property
    def problem(self) -> str | None:
        """OpenSSL's reason not to load the file, as libpq prints it; None: it loads."""
        if (damaged := self.damaged) is not None:
            return damaged.problem
        loads = any(block.label in _LOADED_LABELS for block in self.blocks)
        return None if loads else NOTHING_FOUND


class Damage(Value):
    """What cannot be mended without dropping it.  *number* is None where it is no block."""

    number: int | None
    line: int
    reason: str


class Merged(Value):
    """What `merge` would write.  *repaired* holds a plain sentence for each mend.

    Where there is *damage*, *data* is the content unchanged, and nothing may be written.
    """

    data: bytes
    added: tuple[str, ...] = ()
    repaired: tuple[str, ...] = ()
    damage: tuple[Damage, ...] = ()


class Removed(Value):
    """What `remove` would write, and the fingerprint of each block cut out, in file order."""

    data: bytes
    removed: tuple[str, ...] = ()


class _DamagedBlock(Exception):
    """OpenSSL gives up here; the argument holds its words."""


# --- reading ----------------------------------------------------------------------------------


class _Start(NamedTuple):
    """A start line: where its BEGIN is, its label, and where the next line starts."""

    at: int
    label: str
    body: int


def parse(raw: bytes) -> Bundle:
    """Read *raw* as OpenSSL does.  Never fails; time is linear in the length.

    Where OpenSSL has given up, reading goes on with less trust: a block then has to start at the
    start of a line, and ends before the next one starts.
    """
    blocks: list[Block] = []
    at, line, counted = 0, 1, 0
    stop: int | None = None
    given_up = False
    marks = _Marks(raw)
    while stop is None:
        start = _next_start(marks, at, lines_only=given_up)
        if start is None:
            break
        if isinstance(start, int):
            stop = start
            continue
        line, counted = line + raw.count(b"\n", counted, start.at), start.at
        place = (start.label, start.at)
        count = len(blocks) + 1
        try:
            if (standard := _STANDARD.match(raw, start.at)) is not None:
                data, at = a2b_base64(standard[2]), standard.end()
            else:
                limit = _extent(raw, start.body)[0] if given_up else len(raw)
                data, at = _content(raw, start, limit)
            der, refuses = _certificate(start.label, data)
        except _DamagedBlock as damage:
            given_up = True
            at, stop = _extent(raw, start.body)
            blocks.append(Block(*place, at, line, count, problem=str(damage)))
        else:
            fingerprint = sha256(der).hexdigest() if der is not None else None
            blocks.append(Block(*place, at, line, count, der, fingerprint, None, refuses))
    return Bundle(raw, tuple(blocks), stop)


def _gets(raw: bytes, at: int, limit: int) -> tuple[bytes, int]:
    """One BIO_gets: the chunk, cut at a NUL as C strings are, and where the next one starts.

    Empty at the end of the file, and where the chunk starts with a NUL: OpenSSL takes both for
    the end (openssl:crypto/bio/bss_file.c file_gets returns strlen).
    """
    most = min(at + _CHUNK, limit)
    newline = raw.find(b"\n", at, most)
    after = newline + 1 if newline >= 0 else most
    chunk = raw[at:after]
    return (chunk.partition(b"\0")[0] if b"\0" in chunk else chunk), after


class _Marks:
    """Where the next BEGIN or NUL is.  Each is looked for once, so that reading stays linear."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._begin = self._nul = -1

    def next(self, at: int) -> int:
        """The next one from *at*, which never decreases; the end where there is none."""
        if self._begin < at:
            self._begin = self._find(_BEGIN, at)
        if self._nul < at:
            self._nul = self._find(b"\0", at)
        return min(self._begin, self._nul)

    def _find(self, mark: bytes, at: int) -> int:
        found = self.raw.find(mark, at)
        return found if found >= 0 else len(self.raw)


def _next_start(marks: _Marks, at: int, *, lines_only: bool) -> _Start | int | None:
    """The next start line from *at* (pem_lib.c get_name).

    None at the end of the file; the offset of a NUL that ends the reading.
    """
    raw = marks.raw
    first = True
    while True:
        # A start line is at the start of a chunk, and only the first chunk may hide it behind a
        # BOM: skip to the chunk with the next BEGIN, or the next NUL, which may end it all.
        mark = marks.next(at)
        if mark == len(raw):
            return None
        line = raw.rfind(b"\n", at, mark) + 1
        skipped = max(line, at)
        skipped += (mark - skipped) // _CHUNK * _CHUNK
        first = first and skipped == at
        at = skipped
        chunk, after = _gets(raw, at, len(raw))
        if not chunk:
            return at
        if first and len(chunk) > len(BOM) and chunk.startswith(BOM):
            chunk, at = chunk[len(BOM) :], at + len(BOM)
        first = False
        chunk = chunk.rstrip(_STRIPPED)
        if (
            chunk.startswith(_BEGIN)
            and chunk.endswith(_TAIL)
            and not (lines_only and not _at_line_start(raw, at))
        ):
            return _Start(at, chunk[len(_BEGIN) : -len(_TAIL)].decode("latin-1"), after)
        at = after


_STANDARD = re.compile(
    rb"-----BEGIN ((?:X509 |TRUSTED )?CERTIFICATE)-----\r?\n"
    rb"((?:[A-Za-z0-9+/]{64}\r?\n)*"
    rb"(?:[A-Za-z0-9+/]{4}){0,15}"
    rb"(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)\r?\n)"
    rb"-----END \1-----(?:\r?\n|\Z)"
)
"""What nearly every certificate looks like: read the same way, only faster."""


def _content(raw: bytes, start: _Start, limit: int) -> tuple[bytes, int]:
    """The decoded content of a block, and its end (pem_lib.c PEM_read_bio_ex)."""
    header, text, end = _header_and_data(raw, start, limit)
    data = _decoded(text)
    if start.label in _LOADED_LABELS:
        _check_header(header)
    return data, end


def _header_and_data(raw: bytes, start: _Start, limit: int) -> tuple[bytes, bytes, int]:
    """Header, base64 text and end of a block (pem_lib.c get_header_and_data)."""
    end_line = _END + start.label.encode("latin-1") + _TAIL
    header: list[bytes] = []
    data: list[bytes] = []
    lines = header
    state = "maybe"  # header_status: maybe, in, post
    partial = short = False
    at = start.body
    while True:
        chunk, at = _gets(raw, at, limit)
        if not chunk:
            raise _DamagedBlock("bad end line")
        after_partial = partial
        partial = len(chunk) == _CHUNK and not chunk.endswith(b"\n")
        if state == "maybe" and b":" in chunk:
            state = "in"
        chunk = chunk.rstrip(_STRIPPED)
        if not chunk:
            # A newline right after a chunk that filled the buffer only ends that line.
            if not after_partial:
                if state == "post":
                    raise _DamagedBlock("bad end line")
                state, lines = "post", data
            continue
        if chunk.startswith(_END):
            if chunk != end_line:
                raise _DamagedBlock("bad end line")
            break
        if short:
            raise _DamagedBlock("bad end line")
        lines.append(chunk)
        if state == "post":
            if len(chunk) > 64:
                raise _DamagedBlock("PEM lib")
            short = len(chunk) < 64
    if state == "maybe":
        header, data = data, header
    return b"\n".join(header), b"\n".join(data), at


_BASE64 = re.compile(
    rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)?",
)


def _decoded(text: bytes) -> bytes:
    """Base64 as EVP_DecodeUpdate takes it: white space ignored, and a `-` ends it."""
    packed = text.translate(None, b" \t\r\n").partition(b"-")[0]
    if not _BASE64.fullmatch(packed):
        raise _DamagedBlock("bad base64 decode")
    if not packed:
        raise _DamagedBlock("PEM lib")
    return a2b_base64(packed)


def _check_header(header: bytes) -> None:
    """Only an encrypted block may have a header (pem_lib.c PEM_get_EVP_CIPHER_INFO).

    An encrypted certificate would be decrypted with an empty password, and never is.
    """
    if header:
        raise _DamagedBlock(
            "bad decrypt" if header.startswith(b"Proc-Type:") else "not proc type",
        )


_BASE64_LINES = re.compile(rb"(?:[A-Za-z0-9+/= \t\r]*\n)*[A-Za-z0-9+/= \t\r]*")


def _extent(raw: bytes, body: int) -> tuple[int, int | None]:
    """Where a damaged block ends, and the NUL that hides what follows it, if one does.

    It ends with an END line, before the next BEGIN line, or, without either, with the last line
    that could be base64: what `merge(repair=True)` drops is no more than the block.
    """
    mark = body if raw.startswith((_BEGIN, _END), body) else _next_mark(raw, body)
    nul = _first_hiding_nul(raw, body, mark)
    if nul is None and mark < len(raw):
        return (_line_end(raw, mark) if raw.startswith(_END, mark) else mark), None
    lines = _BASE64_LINES.match(raw, body)
    end = lines.end() if lines else body
    return (end, None) if nul is None else (min(end, nul), nul)


def _next_mark(raw: bytes, at: int) -> int:
    """The next line that starts with BEGIN or END; the end of the file where there is none."""
    while (at := raw.find(b"\n-----", at)) >= 0:
        at += 1
        if raw.startswith((_BEGIN, _END), at):
            return at
    return len(raw)


def _line_end(raw: bytes, at: int) -> int:
    """The end of the line at *at*, after its newline."""
    newline = raw.find(b"\n", at)
    return newline + 1 if newline >= 0 else len(raw)


def _first_hiding_nul(raw: bytes, at: int, until: int) -> int | None:
    """The first NUL in `raw[at:until]` at which OpenSSL stops reading."""
    if raw.find(b"\0", at, until) < 0:
        return None
    while at < until:
        chunk, after = _gets(raw, at, len(raw))
        if not chunk:
            return at
        at = after
    return None


# --- just enough DER ------------------------------------------------------------------------------

_INTEGER, _BIT_STRING, _OCTET_STRING, _OID, _SEQUENCE = 0x02, 0x03, 0x04, 0x06, 0x30
_SERVER_AUTH = bytes.fromhex("2b06010505070301")  # RFC 5280 §4.2.1.12 id-kp-serverAuth
_ANY_USAGE = bytes.fromhex("551d2500")  # RFC 5280 §4.2.1.12 anyExtendedKeyUsage


def _element(data: bytes, at: int) -> tuple[int, int, int]:
    """Tag, first content byte and end of the DER element at *at* (X.690 §8.1)."""
    if at + 2 > len(data):
        raise _DamagedBlock("too long")
    tag, length = data[at], data[at + 1]
    at += 2
    if length >= 0x80:
        size = length & 0x7F
        if not 1 <= size <= 4 or at + size > len(data):
            raise _DamagedBlock("too long")
        length = int.from_bytes(data[at : at + size], "big")
        at += size
    if at + length > len(data):
        raise _DamagedBlock("too long")
    return tag, at, at + length


def _children(data: bytes, at: int, end: int) -> list[tuple[int, int, int]]:
    """The elements that fill `data[at:end]`."""
    found = []
    while at < end:
        child = _element(data, at)
        if child[2] > end:
            raise _DamagedBlock("too long")
        found.append(child)
        at = child[2]
    return found


def _certificate_end(data: bytes, at: int = 0) -> int:
    """Where the certificate at *at* ends: SEQUENCE of TBS, algorithm, signature (RFC 5280 §4.1)."""
    tag, inside, end = _element(data, at)
    if tag != _SEQUENCE:
        raise _DamagedBlock("wrong tag")
    children = [child[0] for child in _children(data, inside, end)]
    if children != [_SEQUENCE, _SEQUENCE, _BIT_STRING]:
        raise _DamagedBlock("wrong tag")
    return end


def _certificate(label: str, data: bytes) -> tuple[bytes | None, bool]:
    """The certificate in a decoded block, if it is one, and whether its trust excludes servers.

    OpenSSL ignores what follows a certificate or CRL (pem_info.c calls d2i without a look at
    where it ended), except after a TRUSTED CERTIFICATE.
    """
    if label in CERTIFICATE_LABELS:
        end = _certificate_end(data)
        trusted = label.startswith("TRUSTED") and end < len(data)
        return data[:end], trusted and _refuses_servers(data[end:])
    if label == _CRL_LABEL and _element(data, 0)[0] != _SEQUENCE:
        raise _DamagedBlock("wrong tag")
    return None, False


def _refuses_servers(aux: bytes) -> bool:
    """Whether trust settings exclude TLS servers (openssl:crypto/x509/x509_trust.c obj_trust).

    X509_CERT_AUX is a SEQUENCE of an optional SEQUENCE of trusted uses and an optional [0] of
    rejected ones; a list of trusted uses excludes all others.
    """
    servers = {_SERVER_AUTH, _ANY_USAGE}
    tag, inside, end = _element(aux, 0)
    if tag != _SEQUENCE:
        raise _DamagedBlock("wrong tag")
    trusted: set[bytes] | None = None
    rejected: set[bytes] = set()
    for child, at, child_end in _children(aux, inside, end):
        if child in (_SEQUENCE, 0xA0):
            uses = {aux[first:last] for _, first, last in _children(aux, at, child_end)}
            if child == _SEQUENCE:
                trusted = uses
            else:
                rejected = uses
    return bool(rejected & servers) or (trusted is not None and not trusted & servers)


def _der_certificate(data: bytes, at: int = 0) -> bytes | None:
    """The bare DER certificate that starts at *at*, if one does."""
    try:
        return data[at : _certificate_end(data, at)]
    except _DamagedBlock:
        return None


# --- writing --------------------------------------------------------------------------------------


def canonical(der: bytes) -> bytes:
    """One clean PEM block: 64 columns, LF.  What every client reads."""
    text = b2a_base64(der, newline=False)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return b"\n".join((b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----", b""))


def replacement(ders: Iterable[bytes]) -> bytes:
    """A root file of exactly these certificates."""
    return b"".join(canonical(der) for der in dict.fromkeys(ders))


def merge(
    raw: bytes | None,
    ders: Sequence[bytes],
    *,
    repair: bool = False,
    refused: Collection[int] = frozenset(),
) -> Merged:
    """Add the certificates *ders* to the root file *raw* (None: there is none).

    Where libpq sees them all already and the file loads, nothing changes.  Otherwise what was
    there stays, byte for byte, except for what had to be mended; the new blocks go to the end.
    *refused* holds the numbers of blocks of *raw* that OpenSSL refuses though `parse` does not.
    *repair* drops what is damaged, and mends also where nothing else has to be written.
    """
    if raw is None:
        raw = b""
    wanted = {sha256(der).hexdigest(): der for der in ders}
    before = parse(raw)
    trusted = before.fingerprints - before.refusing
    if not repair and not refused and wanted.keys() <= trusted:
        return Merged(raw)

    identities = {_identity(before, before.blocks[number - 1]) for number in refused}
    if repair:
        data, repaired = _repair(raw, identities, wanted)
        bundle = parse(data)
    else:
        mended = _mend(raw)
        data, repaired = mended.data, mended.repaired
        bundle = before if data == raw else parse(data)
        if damage := _damage(bundle, mended, identities, wanted.keys()):
            return Merged(raw, damage=damage)

    added = tuple(fingerprint for fingerprint in wanted if fingerprint not in bundle.fingerprints)
    if added:
        glue = b"\n" if data and not data.endswith(b"\n") else b""
        data += glue + replacement(wanted[fingerprint] for fingerprint in added)
    return Merged(data, added, repaired)


def _identity(bundle: Bundle, block: Block) -> bytes:
    """What tells a block from others wherever it stands."""
    return block.der or bundle.raw[block.start : block.end].strip()


_REFUSED = "OpenSSL cannot read what it holds"
_EXCLUDES = "its trust settings exclude TLS servers"
_HIDDEN = "a NUL byte hides everything after it"


def _damage(
    bundle: Bundle, mended: _Mended, refused: set[bytes], wanted: Collection[str]
) -> tuple[Damage, ...]:
    """All that `merge` cannot keep, by its place in the file as an editor shows it."""
    refusing = bundle.refusing & set(wanted)
    found: list[tuple[int | None, int, str]] = []
    for block in bundle.blocks:
        reason = block.problem
        if reason is None and refused and _identity(bundle, block) in refused:
            reason = _REFUSED
        if reason is None and block.refuses_servers and block.sha256 in refusing:
            reason = _EXCLUDES
        if reason is not None:
            found.append((block.number, block.start, reason))
    if bundle.stop is not None:
        found.append((None, bundle.stop, _HIDDEN))
    lines = mended.lines([offset for _, offset, _ in found])
    return tuple(
        Damage(number, line, reason) for (number, _, reason), line in zip(found, lines, strict=True)
    )


def _repair(
    data: bytes, refused: set[bytes], wanted: dict[str, bytes]
) -> tuple[bytes, tuple[str, ...]]:
    """Mend what can be mended and drop the rest, until there is neither; and say so."""
    sentences: list[str] = []
    while True:
        mended = _mend(data)
        dropped, said = _drop(mended, refused, wanted)
        sentences += [*mended.repaired, *said]
        if dropped == data:
            return data, tuple(sentences)
        data = dropped


def _drop(
    mended: _Mended, refused: set[bytes], wanted: dict[str, bytes]
) -> tuple[bytes, list[str]]:
    """Drop byte order marks, NUL bytes that hide something, or else damaged blocks."""
    data = mended.data
    if re.search(rb"^" + BOM, data, re.MULTILINE):
        data = re.sub(rb"^(?:" + BOM + rb")+", b"", data, flags=re.MULTILINE)
        return data, ["removed a byte order mark"]
    bundle = parse(data)
    if bundle.stop is not None:
        visible = re.sub(rb"^\0+", b"", data, flags=re.MULTILINE)
        if parse(visible).stop is not None:
            visible = data.replace(b"\0", b"")
        return visible, ["removed NUL bytes that hid what follows them"]
    pieces: list[bytes] = []
    said: list[str] = []
    at = 0
    for damage in _damage(bundle, mended, refused, wanted.keys()):
        block = bundle.blocks[(damage.number or 1) - 1]
        pieces.append(data[at : block.start])
        at = block.end
        if damage.reason == _EXCLUDES and block.der is not None:
            pieces.append(canonical(block.der))
            said.append(f"removed the trust settings of block {damage.number}")
        else:
            said.append(f"dropped block {damage.number} (line {damage.line}): {damage.reason}")
    return (_joined([*pieces, data[at:]]) if said else data), said


def _joined(pieces: Iterable[bytes]) -> bytes:
    """The pieces in a row, each on lines of its own: neighbours must never be glued."""
    out: list[bytes] = []
    for piece in filter(None, pieces):
        if out and not out[-1].endswith(b"\n"):
            out.append(b"\n")
        out.append(piece)
    return b"".join(out)


def remove(raw: bytes, fingerprints: Collection[str], *, before: bytes | None = None) -> Removed:
    """Cut every certificate with one of these SHA-256 *fingerprints*; all other bytes stay.

    *before* is the content before our own install: where only the newline is left that `merge`
    had to put between it and our block, that goes as well.
    """
    cut = [block for block in parse(raw).readable if block.sha256 in fingerprints]
    kept = []
    at = 0
    for block in cut:
        kept.append(raw[at : block.start])
        at = block.end
        # A block may start in the middle of a line, where OpenSSL's buffer starts a new chunk;
        # what stands before it keeps the newline.
        if block.start and not _at_line_start(raw, block.start) and raw[at - 1 : at] == b"\n":
            at -= 1
    data = b"".join((*kept, raw[at:]))
    if before is not None and data == before + b"\n" and before and not before.endswith(b"\n"):
        data = before
    return Removed(data, tuple(block.sha256 for block in cut if block.sha256))


def _at_line_start(raw: bytes, at: int) -> bool:
    """Whether *at* starts a line, counting a byte order mark as nothing."""
    if raw[max(at - len(BOM), 0) : at] == BOM:
        at -= len(BOM)
    return at == 0 or raw[at - 1 : at] == b"\n"


# --- mends that cost nothing ----------------------------------------------------------------------


class _Mended(Value):
    """*data* is *text* (the file in one plain encoding) with *edits*: offset in data, shift."""

    data: bytes
    text: bytes
    edits: tuple[tuple[int, int], ...]
    repaired: tuple[str, ...]

    def lines(self, offsets: Iterable[int]) -> list[int]:
        """The lines of *text*, from 1, where these ascending *offsets* of *data* stand."""
        found = []
        line, counted = 1, 0
        for offset in offsets:
            index = bisect_right(self.edits, (offset, len(self.data))) - 1
            place = offset - (self.edits[index][1] if index >= 0 else 0)
            line, counted = line + self.text.count(b"\n", counted, place), place
            found.append(line)
        return found


def _mend(raw: bytes) -> _Mended:
    """*raw*, with everything mended that can be without dropping anything."""
    text, repaired = raw, []
    for mend in (_mend_der, _mend_utf16, _mend_carriage_returns, _mend_literal_newlines):
        text, sentence = mend(text)
        repaired += [sentence] if sentence else []
    lines = _mend_lines(text)
    if lines.repaired and parse(text).damaged is None and parse(lines.data).damaged is not None:
        # What is mended here was invisible to libpq, and did no harm.
        lines = _Mended(text, text, (), ())
    return _Mended(lines.data, text, lines.edits, (*repaired, *lines.repaired))


_AFTER_BLOCK = re.compile(rb"-----END [A-Z0-9 ]{1,64}-----[\r\n]*|\A")


def _mend_der(raw: bytes) -> tuple[bytes, str]:
    """A bare DER certificate in place of PEM, or after it, becomes PEM."""
    pieces: list[bytes] = []
    at = 0
    for gap in _AFTER_BLOCK.finditer(raw):
        place = gap.end()
        if place < at:
            continue
        while (der := _der_certificate(raw, place)) is not None:
            # One that was cut off claims a part of what follows for its missing end.
            end = place + len(der)
            if raw.find(_BEGIN, place, end + len(_BEGIN) - 1) >= 0 or (
                der.endswith(b"\n") and raw.startswith(_BEGIN, end)
            ):
                break
            pieces += [raw[at:place], canonical(der)]
            place += len(der)
            while raw[place : place + 1] in (b"\r", b"\n"):
                place += 1
            at = place
    if not pieces:
        return raw, ""
    return _joined([*pieces, raw[at:]]), "converted a DER certificate to PEM"


_UTF16 = re.compile(
    # Units that are text in most languages, and never two characters of ASCII text.
    rb"\xfe\xff(?P<be_marked>(?:\x00[\t\n\r\x20-\xff]|[\x03-\x06][\x00-\xff])+)"
    rb"|(?:\xff\xfe)?(?P<le>(?:[\t\n\r\x20-\xff]\x00|[\x00-\xff][\x03-\x06]){8,})"
    rb"|(?P<be>(?:\x00[\t\n\r\x20-\xff]|[\x03-\x06][\x00-\xff]){8,})"
)


def _mend_utf16(raw: bytes) -> tuple[bytes, str]:
    """A file in UTF-16, or a part of it (PowerShell's `>>`), becomes UTF-8."""
    if b"\0" not in raw:
        return raw, ""

    def decoded(part: re.Match[bytes]) -> bytes:
        encoding = "utf-16-le" if part.lastgroup == "le" else "utf-16-be"
        return part[part.lastgroup or 0].decode(encoding, "replace").encode()

    text = _UTF16.sub(decoded, raw)
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            whole = raw.decode("utf-16").encode()
        except UnicodeError:
            whole = b""
        if whole.count(_BEGIN) >= text.count(_BEGIN):
            text = whole
    return (text, "converted UTF-16 to UTF-8") if text != raw else (raw, "")


_CARRIAGE_RETURN_ONLY = re.compile(rb"-----BEGIN [A-Z0-9 ]{1,64}-----\r(?![\r\n])")


def _mend_carriage_returns(text: bytes) -> tuple[bytes, str]:
    """Lines that end in CR alone end in LF; CR CR LF, which OpenSSL reads, stays."""
    if not _CARRIAGE_RETURN_ONLY.search(text):
        return text, ""
    return re.sub(rb"\r(?![\r\n])", b"\n", text), "converted CR line ends to LF"


_ON_ONE_LINE = re.compile(
    rb"(?:^|(?<=\\n))-----BEGIN ([A-Z0-9 ]{1,64})-----(?:\\r)?\\n"
    rb"[^-\n]*-----END \1-----(?:(?:\\r)?\\n)?",
    re.MULTILINE,
)


def _mend_literal_newlines(text: bytes) -> tuple[bytes, str]:
    r"""A block whose newlines are written as `\n`, as in JSON or .env files, gets real ones."""

    def lines(block: re.Match[bytes]) -> bytes:
        return re.sub(rb"(?:\\r)?\\n", b"\n", block[0])

    mended = _ON_ONE_LINE.sub(lines, text)
    return (mended, "replaced literal \\n by newlines") if mended != text else (text, "")


_CANDIDATE = re.compile(
    rb"(?:^[ \t]*|(?<=-----))-----BEGIN (?P<label>[A-Z0-9 ]{1,64})-----(?P<end>[ \t\r]*\n)"
    rb"(?P<body>[^-]*(?:-(?!----)[^-]*)*)-----END (?P=label)-----",
    re.MULTILINE,
)
_BLANK_LINES = re.compile(rb"(?<=\n)(?:[ \t\r]*\n)+")
_INDENT = re.compile(rb"^[ \t]+", re.MULTILINE)


def _mend_lines(text: bytes) -> _Mended:
    """Blocks that share a line, indented blocks, blank lines within a block."""
    pieces: list[bytes] = []
    edits: list[tuple[int, int]] = []
    counts = {"glued": 0, "indented": 0, "blank": 0}
    at = shift = last_end = 0
    for block in _CANDIDATE.finditer(text):
        new = block[0]
        if block.start() == last_end > 0:
            pieces += [text[at : block.start()], b"\n"]
            at = block.start()
            shift += 1
            edits.append((at + shift, shift))
            counts["glued"] += 1
        last_end = block.end()
        indented = new.startswith((b" ", b"\t")) or block["body"].endswith((b" ", b"\t"))
        if indented:
            new = _INDENT.sub(b"", new)
        blank = _BLANK_LINES.search(new) is not None and parse(new).damaged is not None
        if blank:
            new = _BLANK_LINES.sub(b"", new)
        if new != block[0] and parse(new).readable:
            counts["indented"] += indented
            counts["blank"] += blank
            pieces += [text[at : block.start()], new]
            at = block.end()
            shift += len(new) - len(block[0])
            edits.append((at + shift, shift))
    sentences = {
        "glued": "put a newline between two blocks on one line",
        "indented": "removed the indentation of a block",
        "blank": "removed a blank line inside a block",
    }
    repaired = tuple(
        sentences[what] + (f" ({count} times)" if count > 1 else "")
        for what, count in counts.items()
        if count
    )
    return _Mended(b"".join((*pieces, text[at:])), text, tuple(edits), repaired)


# --- certificates from elsewhere ------------------------------------------------------------------

_ANY_CERTIFICATE = re.compile(
    rb"-----BEGIN ((?:X509 |TRUSTED )?CERTIFICATE)-----([^-]*)-----END \1-----"
)
_ANY_PRIVATE_KEY = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----")


def _plain(source: bytes) -> bytes:
    """The text of *source* in an encoding whose ASCII is ASCII, with real newlines."""
    return _mend_literal_newlines(_mend_utf16(source)[0])[0]


def certificates_in(source: bytes) -> tuple[bytes, ...]:
    """Every certificate (DER) in what was downloaded or given: PEM in any clothing, or one DER."""
    whole = _der_certificate(source)
    if whole is not None:
        return (whole,)
    found = []
    for block in _ANY_CERTIFICATE.finditer(_plain(source)):
        with contextlib.suppress(_DamagedBlock):
            found.append(_certificate(block[1].decode(), _decoded(block[2]))[0])
    return tuple(dict.fromkeys(filter(None, found)))


def holds_private_key(source: bytes) -> bool:
    """Whether *source* is, or contains, a private key: PEM, or PKCS #1, #8, #12 or SEC 1 in DER."""
    if _ANY_PRIVATE_KEY.search(_plain(source)):
        return True
    try:
        tag, inside, end = _element(source, 0)
        children = [child[0] for child in _children(source, inside, end)]
    except _DamagedBlock:
        return False
    # All of these start with a version number, which neither a certificate nor a CRL nor a
    # PKCS #7 does; an encrypted PKCS #8 is an algorithm and the ciphertext (RFC 5958 §3).
    return tag == _SEQUENCE and (
        children[:1] == [_INTEGER] or children == [_SEQUENCE, _OCTET_STRING]
    )
