"""A root file as bytes: what libpq reads in it.  Pure.

libpq hands the file to OpenSSL's `X509_load_cert_crl_file`
(libpq:fe-secure-openssl.c `initialize_SSL`), so `parse` reads as OpenSSL's PEM reader does
(openssl:crypto/pem/pem_lib.c, crypto/pem/pem_info.c), with its line buffer, its idea of white
space and its idea of base64.  It looks no deeper into a certificate than its outermost elements;
what OpenSSL refuses beyond that is found by `qs_certs.openssl.refused`.
"""

from __future__ import annotations

import re
from binascii import a2b_base64, b2a_base64
from hashlib import sha256

from qs_certs.values import Value

CERTIFICATE_LABELS = ("CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE")
NOTHING_FOUND = "no certificate or crl found"
BOM = b"\xef\xbb\xbf"
CTRL_Z = b"\x1a"
"""The end of a text file for the C library of Windows, wherever it stands in the file."""

_CRL_LABEL = "X509 CRL"
_LOADED_LABELS = (*CERTIFICATE_LABELS, _CRL_LABEL)

BEGIN = b"-----BEGIN "
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
    """A root file, as OpenSSL reads it.  *stop* is the offset of a byte that ends the reading: a
    NUL, or a Ctrl-Z where files are read in text mode.

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
        last_to_first = reversed(self.certificates)
        first = {block.sha256: block.refuses_servers for block in last_to_first if block.sha256}
        return frozenset(fingerprint for fingerprint, refuses in first.items() if refuses)

    @property
    def problem(self) -> str | None:
        """OpenSSL's reason not to load the file, as libpq prints it; None: it loads."""
        if (damaged := self.damaged) is not None:
            return damaged.problem
        loads = any(block.label in _LOADED_LABELS for block in self.blocks)
        return None if loads else NOTHING_FOUND


class _DamagedBlock(Exception):
    """OpenSSL gives up here; the argument holds its words."""


# --- reading ----------------------------------------------------------------------------------


class _Start(Value):
    """A start line: where its BEGIN is, its label, and where the next line starts."""

    at: int
    label: str
    body: int


def parse(raw: bytes, *, text_mode: bool = False) -> Bundle:
    """Read *raw* as OpenSSL does.  Never fails; time is linear in the length.

    With *text_mode* as every OpenSSL on Windows does.  Before 3.4 the first Ctrl-Z ends the file
    there (openssl:crypto/x509/by_file.c X509_load_cert_crl_file_ex, `BIO_new_file(file, "r")`);
    later ones read on ("rb"), and give the file up at a damaged block behind it.
    Where OpenSSL has given up, reading goes on with less trust: a block then has to start at the
    start of a line, and ends before the next one starts.
    """
    if text_mode and (end := raw.find(CTRL_Z)) >= 0:
        seen, whole = parse(raw[:end]), parse(raw)
        refusing = whole if seen.damaged is None and whole.damaged is not None else seen
        return Bundle(raw, refusing.blocks, end if seen.stop is None else seen.stop)
    blocks: list[Block] = []
    at, line, counted = 0, 1, 0
    stop: int | None = None
    given_up = False
    marks = _Marks(raw)
    while stop is None:
        start = _next_start(marks, at, lines_only=given_up)
        if not isinstance(start, _Start):
            stop = start
            break
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
    after = raw.find(b"\n", at, most) + 1 or most
    chunk = raw[at:after]
    return (chunk.partition(b"\0")[0] if b"\0" in chunk else chunk), after


class _Marks:
    """Where the next BEGIN or NUL is.  Each is looked for once, so that reading stays linear."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._begin = self._find(BEGIN, 0)
        self._nul = self._find(b"\0", 0)

    def next(self, at: int) -> int:
        """The next one from *at*, which never decreases; the end where there is none."""
        if self._begin < at:
            self._begin = self._find(BEGIN, at)
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
        if first and chunk.startswith(BOM):
            chunk, at = chunk[len(BOM) :], at + len(BOM)
        first = False
        chunk = chunk.rstrip(_STRIPPED)
        if (
            chunk.startswith(BEGIN)
            and chunk.endswith(_TAIL)
            and not (lines_only and not at_line_start(raw, at))
        ):
            return _Start(at, chunk[len(BEGIN) : -len(_TAIL)].decode("latin-1"), after)
        at = after


def at_line_start(raw: bytes, at: int) -> bool:
    """Whether *at* starts a line, counting a byte order mark as nothing."""
    if raw[max(at - len(BOM), 0) : at] == BOM:
        at -= len(BOM)
    return at == 0 or raw[at - 1 : at] == b"\n"


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


def _header_and_data(raw: bytes, start: _Start, limit: int) -> tuple[list[bytes], bytes, int]:
    """Header lines, base64 text and end of a block (pem_lib.c get_header_and_data)."""
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
    return header, b"\n".join(data), at


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


def _check_header(header: list[bytes]) -> None:
    """Only an encrypted block may have a header (pem_lib.c PEM_get_EVP_CIPHER_INFO).

    An encrypted certificate would be decrypted with an empty password, and never is.
    """
    if header:
        raise _DamagedBlock(
            "bad decrypt" if header[0].startswith(b"Proc-Type:") else "not proc type",
        )


_BASE64_LINES = re.compile(rb"(?:[A-Za-z0-9+/= \t\r]*(?:\n|\Z))*")


def _extent(raw: bytes, body: int) -> tuple[int, int | None]:
    """Where a damaged block ends, and the NUL that hides what follows it, if one does.

    It ends with an END line, before the next BEGIN line, or, without either, with the last line
    that could be base64: what `merging.merge(repair=True)` drops is no more than the block.
    """
    mark = body if raw.startswith((BEGIN, _END), body) else _next_mark(raw, body)
    nul = _first_hiding_nul(raw, body, mark)
    if nul is None and mark < len(raw):
        return (_line_end(raw, mark) if raw.startswith(_END, mark) else mark), None
    lines = _BASE64_LINES.match(raw, body)
    end = lines.end() if lines else body
    return (end, None) if nul is None else (min(end, nul), nul)


def _next_mark(raw: bytes, at: int) -> int:
    """The next line that starts with BEGIN or END; the end of the file where there is none."""
    while at := raw.find(b"\n-----", at) + 1:
        if raw.startswith((BEGIN, _END), at):
            return at
    return len(raw)


def _line_end(raw: bytes, at: int) -> int:
    """The end of the line at *at*, after its newline."""
    return raw.find(b"\n", at) + 1 or len(raw)


def _first_hiding_nul(raw: bytes, at: int, until: int) -> int | None:
    """The first NUL in `raw[at:until]` at which OpenSSL stops reading."""
    if b"\0" not in raw[at:until]:
        return None
    while at < until:
        chunk, after = _gets(raw, at, len(raw))
        if not chunk:
            return at
        at = after
    return None


# --- just enough DER ------------------------------------------------------------------------------

_INTEGER, _BIT_STRING, _OCTET_STRING, _SEQUENCE = 0x02, 0x03, 0x04, 0x30
_SERVER_AUTH = bytes.fromhex("2b06010505070301")  # RFC 5280 §4.2.1.12 id-kp-serverAuth
_ANY_USAGE = bytes.fromhex("551d2500")  # RFC 5280 §4.2.1.12 anyExtendedKeyUsage


def _element(data: bytes, at: int) -> tuple[int, int, int]:
    """Tag, first content byte and end of the DER element at *at* (X.690 §8.1).

    OpenSSL takes BER's indefinite lengths as well; a certificate has none (RFC 5280 §4.1).
    """
    if at + 2 > len(data):
        raise _DamagedBlock("too long")
    tag, length = data[at], data[at + 1]
    at += 2
    if length >= 0x80:
        size = length & 0x7F
        if not 1 <= size <= 4:
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


def _sequence(data: bytes, at: int = 0) -> tuple[list[int], int]:
    """The tags of the elements in the SEQUENCE at *at*, and its end."""
    tag, inside, end = _element(data, at)
    if tag != _SEQUENCE:
        raise _DamagedBlock("wrong tag")
    return [child[0] for child in _children(data, inside, end)], end


def _certificate_end(data: bytes, at: int = 0) -> int:
    """Where the certificate at *at* ends: SEQUENCE of TBS, algorithm, signature (RFC 5280 §4.1)."""
    tags, end = _sequence(data, at)
    if tags != [_SEQUENCE, _SEQUENCE, _BIT_STRING]:
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


def der_certificate(data: bytes, at: int = 0) -> bytes | None:
    """The bare DER certificate that starts at *at*, if one does."""
    try:
        return data[at : _certificate_end(data, at)]
    except _DamagedBlock:
        return None


def certificate_of(label: str, text: bytes) -> bytes | None:
    """The certificate (DER) in a block of this *label*, however the lines of *text* are broken."""
    try:
        return _certificate(label, _decoded(text))[0]
    except _DamagedBlock:
        return None


def is_private_key(data: bytes) -> bool:
    """Whether *data* is a private key in DER: PKCS #1, #8, #12 or SEC 1.

    All of these start with a version number, which neither a certificate nor a CRL nor a PKCS #7
    does; an encrypted PKCS #8 is an algorithm and the ciphertext (RFC 5958 §3).
    """
    try:
        tags, _ = _sequence(data)
    except _DamagedBlock:
        return False
    return tags[:1] == [_INTEGER] or tags == [_SEQUENCE, _OCTET_STRING]


# --- the inverse ----------------------------------------------------------------------------------


def canonical(der: bytes) -> bytes:
    """One clean PEM block: 64 columns, LF.  What every client reads."""
    text = b2a_base64(der, newline=False)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return b"\n".join((b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----", b""))
