"""How roots get into the bytes of a root file and out again, and what is mended on the way.  Pure.

`bundle` says what libpq reads; here is all that changes it: `merge`, `remove`, the mends, and the
search for certificates in what was downloaded or given.
"""

from __future__ import annotations

import contextlib
import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256

from qs_certs.bundle import (
    BEGIN,
    BOM,
    CTRL_Z,
    Block,
    Bundle,
    at_line_start,
    canonical,
    certificate_of,
    der_certificate,
    is_private_key,
    parse,
)
from qs_certs.values import Value


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


def replacement(ders: Iterable[bytes]) -> bytes:
    """A root file of exactly these certificates."""
    return b"".join(canonical(der) for der in dict.fromkeys(ders))


def merge(
    raw: bytes | None,
    ders: Sequence[bytes],
    *,
    repair: bool = False,
    refused: Collection[int] = frozenset(),
    text_mode: bool = False,
) -> Merged:
    """Add the certificates *ders* to the root file *raw* (None: there is none).

    Where libpq sees them all already and the file loads, nothing changes.  Otherwise what was
    there stays, byte for byte, except for what had to be mended; the new blocks go to the end.
    *refused* holds the numbers of blocks of *raw* that OpenSSL refuses though `parse` does not.
    *repair* drops what is damaged, and mends also where nothing else has to be written.
    *text_mode* is that of `parse`: nothing goes behind a Ctrl-Z, and none stays.
    """
    if raw is None:
        raw = b""
    wanted = {sha256(der).hexdigest(): der for der in ders}
    before = parse(raw, text_mode=text_mode)
    trusted = before.fingerprints - before.refusing
    if not repair and not refused and wanted.keys() <= trusted:
        return Merged(raw)

    identities = {_identity(before, before.blocks[number - 1]) for number in refused}
    if repair:
        data, repaired = _repair(raw, identities, wanted, text_mode=text_mode)
        bundle = parse(data)
    else:
        mended = _mend(raw, text_mode=text_mode)
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
    """What tells a block from others wherever it stands, in whatever layout.

    A certificate by itself, but for a TRUSTED one: there OpenSSL may have refused the settings.
    """
    if block.der is not None and not block.label.startswith("TRUSTED"):
        return block.der
    return b"".join(bundle.raw[block.start : block.end].split())


_REFUSED = "OpenSSL cannot read what it holds"
_EXCLUDES = "its trust settings exclude TLS servers"
_HIDDEN = "a NUL byte hides everything after it"


def _damage(
    bundle: Bundle, mended: _Mended, refused: set[bytes], wanted: Collection[str]
) -> tuple[Damage, ...]:
    """All that `merge` cannot keep, by its place in the file as an editor shows it."""
    blocks = _damaged(bundle, refused, wanted)
    found: list[tuple[int | None, int, str]]
    found = [(block.number, block.start, reason) for block, reason in blocks]
    if bundle.stop is not None:
        found.append((None, bundle.stop, _HIDDEN))
    lines = mended.lines([offset for _, offset, _ in found])
    return tuple(
        Damage(number, line, reason) for (number, _, reason), line in zip(found, lines, strict=True)
    )


def _damaged(
    bundle: Bundle, refused: set[bytes], wanted: Collection[str]
) -> list[tuple[Block, str]]:
    """The blocks that cannot stay as they are, and why."""
    refusing = bundle.refusing & set(wanted)
    found = []
    for block in bundle.blocks:
        reason = block.problem
        if reason is None and _identity(bundle, block) in refused:
            reason = _REFUSED
        if reason is None and block.refuses_servers and block.sha256 in refusing:
            reason = _EXCLUDES
        if reason is not None:
            found.append((block, reason))
    return found


def _repair(
    data: bytes, refused: set[bytes], wanted: dict[str, bytes], *, text_mode: bool
) -> tuple[bytes, tuple[str, ...]]:
    """Mend what can be mended and drop the rest, until there is neither; and say so."""
    sentences: list[str] = []
    while True:
        mended = _mend(data, text_mode=text_mode)
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
    damaged = _damaged(bundle, refused, wanted.keys())
    lines = mended.lines(block.start for block, _ in damaged)
    for (block, reason), line in zip(damaged, lines, strict=True):
        pieces.append(data[at : block.start])
        at = block.end
        if reason == _EXCLUDES and block.der is not None:
            pieces.append(canonical(block.der))
            said.append(f"removed the trust settings of block {block.number}")
        else:
            said.append(f"dropped block {block.number} (line {line}): {reason}")
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
        if not at_line_start(raw, block.start) and raw[at - 1 : at] == b"\n":
            at -= 1
    data = b"".join((*kept, raw[at:]))
    if before is not None and data == before + b"\n" and before and not before.endswith(b"\n"):
        data = before
    return Removed(data, tuple(block.sha256 for block in cut if block.sha256))


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


def _mend(raw: bytes, *, text_mode: bool) -> _Mended:
    """*raw*, with everything mended that can be without dropping anything."""
    text, repaired = raw, []
    mends = [_mend_der, _mend_utf16, _mend_carriage_returns, _mend_literal_newlines]
    if text_mode:
        mends.insert(2, _mend_ctrl_z)  # what is binary has become text, whose 0x1A is a Ctrl-Z
    for mend in mends:
        text, sentence = mend(text)
        repaired += [sentence] if sentence else []
    lines = _mend_lines(text)
    if lines.repaired and parse(text).damaged is None and parse(lines.data).damaged is not None:
        # What is mended here was invisible to libpq, and did no harm.
        lines = _Mended(text, text, (), ())
    return _Mended(lines.data, text, lines.edits, (*repaired, *lines.repaired))


_AFTER_BLOCK = re.compile(rb"-----END [A-Z0-9 ]{1,64}-----[\r\n\x1a]*|\A\x1a*")


def _mend_der(raw: bytes) -> tuple[bytes, str]:
    """A bare DER certificate in place of PEM, or after it, becomes PEM."""
    pieces: list[bytes] = []
    at = 0
    for gap in _AFTER_BLOCK.finditer(raw):
        place = gap.end()
        if place < at:
            continue
        while (der := der_certificate(raw, place)) is not None:
            # One that was cut off claims a part of what follows for its missing end.
            end = place + len(der)
            if BEGIN in raw[place : end + len(BEGIN) - 1] or (
                der.endswith(b"\n") and raw.startswith(BEGIN, end)
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
        if part["le"] is not None:
            return part["le"].decode("utf-16-le").encode()
        return (part["be_marked"] or part["be"]).decode("utf-16-be").encode()

    text = _UTF16.sub(decoded, raw)
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        with contextlib.suppress(UnicodeError):
            whole = raw.decode("utf-16").encode()
            if whole.count(BEGIN) >= text.count(BEGIN):
                text = whole
    return (text, "converted UTF-16 to UTF-8") if text != raw else (raw, "")


_BEGIN_AFTER_CTRL_Z = re.compile(rb"(?<=[^\n\x1a])\x1a+(?=(?:" + BOM + rb")?-----BEGIN )")


def _mend_ctrl_z(text: bytes) -> tuple[bytes, str]:
    """Every Ctrl-Z goes: cmd's `copy a+b` puts one at the end, and `>>` writes on behind it.

    Whoever appended a certificate wants it read, and OpenSSL from 3.4 on does read it.
    """
    if CTRL_Z not in text:
        return text, ""
    visible = _BEGIN_AFTER_CTRL_Z.sub(b"\n", text).replace(CTRL_Z, b"")
    if CTRL_Z in text.rstrip(b" \t\r\n" + CTRL_Z):
        return visible, "removed a Ctrl-Z (byte 0x1A); what stands behind it is read again"
    return visible, "removed a Ctrl-Z (byte 0x1A) at the end"


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
    at = shift = 0
    last_end: int | None = None
    for block in _CANDIDATE.finditer(text):
        new = block[0]
        if block.start() == last_end:
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
    whole = der_certificate(source)
    if whole is not None:
        return (whole,)
    blocks = _ANY_CERTIFICATE.finditer(_plain(source))
    found = (certificate_of(block[1].decode(), block[2]) for block in blocks)
    return tuple(dict.fromkeys(filter(None, found)))


def holds_private_key(source: bytes) -> bool:
    """Whether *source* is, or contains, a private key: PEM, or PKCS #1, #8, #12 or SEC 1 in DER."""
    return bool(_ANY_PRIVATE_KEY.search(_plain(source))) or is_private_key(source)
