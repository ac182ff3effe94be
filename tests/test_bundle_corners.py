"""Root files varied at every place that matters, with OpenSSL as the judge; and what mends report.

Made from the mutants that survived: each test here kills some.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
import tempfile

import pytest

from qs_certs import bundle, openssl
from qs_certs.bundle import BOM, canonical, parse
from qs_certs.merging import certificates_in
from tests.shapes import pem, pki

P = pki()
RIGHT, OTHER, THIRD = (pem(der) for der in (P.right, P.other, P.third))
BODY = RIGHT.split(b"\n")[1:-2]
CHUNK = 254
BROKEN = b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"


def agree(content: bytes) -> None:
    """We see as many certificates as OpenSSL, or the error that it meets first."""
    bundle_, loaded = parse(content), openssl.load_bytes(content)
    assert (bundle_.problem is None) == (loaded.error is None), (content, bundle_, loaded)
    if loaded.error is None:
        assert len(bundle_.fingerprints) == loaded.certificates, content
    elif bundle_.problem == bundle.NOTHING_FOUND or loaded.error == bundle.NOTHING_FOUND:
        assert bundle_.problem == loaded.error, content
    for each in bundle_.blocks:
        assert content.startswith(b"-----BEGIN ", each.start)
        assert each.line == content.count(b"\n", 0, each.start) + 1
    if LIBCRYPTO is not None and bundle_.problem not in IN_OTHER_WORDS:
        assert first_reason(content) == bundle_.problem, content


def libcrypto() -> ctypes.CDLL | None:
    """OpenSSL itself: Python's ssl shows the last of its errors, and libpq prints the first."""
    name = ctypes.util.find_library("crypto") if sys.platform == "linux" else None
    if name is None:
        return None
    found = ctypes.CDLL(name)
    pointer = ctypes.c_void_p
    for function, result, arguments in (
        ("X509_STORE_new", pointer, []),
        ("X509_STORE_free", None, [pointer]),
        ("X509_LOOKUP_file", pointer, []),
        ("X509_STORE_add_lookup", pointer, [pointer, pointer]),
        ("X509_load_cert_crl_file", ctypes.c_int, [pointer, ctypes.c_char_p, ctypes.c_int]),
        ("ERR_clear_error", None, []),
        ("ERR_get_error", ctypes.c_ulong, []),
        ("ERR_reason_error_string", ctypes.c_char_p, [ctypes.c_ulong]),
    ):
        getattr(found, function).restype = result
        getattr(found, function).argtypes = arguments
    return found


LIBCRYPTO = libcrypto()
IN_OTHER_WORDS = {"too long", "wrong tag", "bad decrypt"}
"""Within DER, and of what is encrypted, there are more ways to be wrong than we tell apart."""


def first_reason(content: bytes) -> str | None:
    """What libpq prints of these bytes as its root file (libpq:fe-secure-openssl.c
    SSLerrmessage); None where they load."""
    assert LIBCRYPTO is not None
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        store = LIBCRYPTO.X509_STORE_new()
        lookup = LIBCRYPTO.X509_STORE_add_lookup(store, LIBCRYPTO.X509_LOOKUP_file())
        LIBCRYPTO.ERR_clear_error()
        LIBCRYPTO.X509_load_cert_crl_file(lookup, file.name.encode(), 1)
        code = LIBCRYPTO.ERR_get_error()
        LIBCRYPTO.ERR_clear_error()
        LIBCRYPTO.X509_STORE_free(store)
    return LIBCRYPTO.ERR_reason_error_string(code).decode() if code else None


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux: its libcrypto")
def test_openssl_itself_is_there_to_be_asked() -> None:
    assert first_reason(RIGHT) is None
    assert first_reason(b"") == bundle.NOTHING_FOUND
    assert first_reason(RIGHT + BROKEN) == "bad base64 decode"


def block(*lines: bytes, label: bytes = b"CERTIFICATE", end: bytes | None = None) -> bytes:
    last = label if end is None else end
    return b"\n".join(
        (b"-----BEGIN " + label + b"-----", *lines, b"-----END " + last + b"-----", b"")
    )


@pytest.mark.parametrize("length", range(CHUNK - 4, CHUNK + 5))
@pytest.mark.parametrize("filling", [b"#", b" ", b"A", b"\t", b"\x80", b"\0"], ids=repr)
def test_a_line_about_as_long_as_the_buffer(length: int, filling: bytes) -> None:
    line = filling * length
    for content in (
        line + RIGHT,
        line + b"\n" + RIGHT,
        line * 2 + RIGHT,
        line + b"\0" + RIGHT,
        RIGHT + line + OTHER,
        block(line, *BODY),
        block(b"A: b", line, b"", *BODY),
        block(b"A:" + line, b"", *BODY),
        block(b"A:" + line, *BODY),
        block(*BODY, line),
        block(*BODY[:3], line, *BODY[3:]),
        block(*BODY[:3], line, b"", *BODY[3:]),
        block(*(piece + b" " * length for piece in BODY)),
        RIGHT.replace(b"-----\n", b"-----" + b" " * length + b"\n"),
    ):
        agree(content)
        agree(content + OTHER)


def test_a_line_much_longer_than_the_buffer() -> None:
    for length in (CHUNK * CHUNK * 2, CHUNK * CHUNK * 2 + 1):
        agree(b"#" * length + RIGHT)
    assert parse(b"#" * CHUNK * CHUNK * 2 + RIGHT).certificates


@pytest.mark.parametrize("at", range(len(BODY) + 1))
@pytest.mark.parametrize(
    "line",
    [
        *(b"", b" ", b"A: b", b":", b"AAAA", b"AAA=", b"A" * 64, b"A" * 65, b"A" * 68),
        *(b"!", b"-", b"\0", b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"),
        *(b"-----END X-----", b"-----END "),
    ],
    ids=repr,
)
def test_a_line_too_many_at_any_place(at: int, line: bytes) -> None:
    lines = [*BODY[:at], line, *BODY[at:]]
    for content in (block(*lines), block(*lines) + OTHER, OTHER + block(*lines)):
        agree(content)
    agree(block(b"A: b", b"", *lines))


@pytest.mark.parametrize("at", range(len(BODY)))
def test_a_line_too_few_or_too_short_at_any_place(at: int) -> None:
    agree(block(*BODY[:at], *BODY[at + 1 :]))
    agree(block(*BODY[:at], BODY[at][:-4], *BODY[at + 1 :]))
    agree(block(*BODY[:at], BODY[at][:-1], *BODY[at + 1 :]))
    agree(block(*BODY[:at], b" " + BODY[at] + b" ", *BODY[at + 1 :]))
    agree(block(*BODY[:at], BODY[at] + BODY[at], *BODY[at + 1 :]))
    agree(block(*BODY[:at]))


@pytest.mark.parametrize(
    "content",
    [
        block(*BODY, label=b"X509 CERTIFICATE"),
        block(*BODY, end=b"X509 CERTIFICATE"),
        block(*BODY, end=b""),
        block(*BODY, label=b"TRUSTED CERTIFICATE"),
        block(*BODY, label=b"ANYTHING ELSE"),
        block(b"AgEA", label=b"ANYTHING ELSE") + RIGHT,
        block(b"A: b", b"", b"AAAA", label=b"ANYTHING ELSE") + RIGHT,
        block(b"!", label=b"ANYTHING ELSE") + RIGHT,
        block(b"AAAA", label=b"A: B") + RIGHT,
        block(b"A: b\0", b"", b"AAAA", label=b"ANYTHING ELSE") + RIGHT,
        block(b"A: b\0", b"", *BODY),
        block(),
        block(b""),
        block(b"", b""),
        block(b"A: b"),
        block(b"A: b", b""),
        block(b"Proc-Type: 4,ENCRYPTED", b"", *BODY),
        block(b"", *BODY),
        block(b"", b"", *BODY),
        BOM + RIGHT,
        BOM + BOM + RIGHT,
        BOM + b"\n" + RIGHT,
        b"\n" + BOM + RIGHT,
        BOM,
        BOM + b"-",
        RIGHT + BOM + OTHER,
        b"-----BEGIN \n" + RIGHT,
        b"-----BEGIN -----\n" + RIGHT,
        b"-----BEGIN CERTIFICATE----\n" + RIGHT,
        b"x-----BEGIN CERTIFICATE-----\n" + RIGHT,
        RIGHT.rstrip(b"\n"),
        RIGHT.rstrip(b"-\n"),
        RIGHT.replace(b"\n", b"\r\n"),
        RIGHT.replace(b"\n", b" \t\r\n"),
        RIGHT + b"\0",
        b"\0" + RIGHT,
        b"\0\n" + RIGHT,
        b"a\0\n\0\n" + RIGHT,
        RIGHT + b"\n\0\n" + OTHER,
        b"",
        b"\n",
        b"x",
    ],
)
def test_odd_files(content: bytes) -> None:
    agree(content)
    agree(content + OTHER)
    agree(OTHER + content)


STUB = b"\n".join(RIGHT.splitlines()[:4]) + b"\n"


@pytest.mark.parametrize(
    ("content", "ends", "stop"),
    [
        pytest.param(
            STUB + OTHER, [len(STUB), len(STUB + OTHER)], None, id="before the next BEGIN"
        ),
        pytest.param(
            STUB + b"# no base64\n" + OTHER, [len(STUB) + 12, -1], None, id="text before it"
        ),
        pytest.param(STUB + b"# no base64\n", [len(STUB)], None, id="with its base64"),
        pytest.param(
            STUB + b"mine: yes\n", [len(STUB)], None, id="text that starts as base64 does"
        ),
        pytest.param(STUB + b"\0", [len(STUB)], len(STUB), id="before a NUL at the end"),
        pytest.param(STUB + b"A\0A\n", [len(STUB)], None, id="a NUL within the last line"),
        pytest.param(STUB, [len(STUB)], None, id="at the end of the file"),
        pytest.param(STUB.rstrip(b"\n"), [len(STUB) - 1], None, id="without a newline"),
        pytest.param(
            STUB + b"\0\n" + OTHER, [len(STUB)], len(STUB), id="where a NUL hides the rest"
        ),
        pytest.param(
            STUB + b"# x\n\0\n" + OTHER,
            [len(STUB)],
            len(STUB) + 4,
            id="with its base64, before a NUL",
        ),
        pytest.param(
            STUB + b"A\0A\n" + OTHER, [len(STUB) + 4, -1], None, id="a NUL that hides nothing"
        ),
        pytest.param(
            BROKEN + b"#" * CHUNK + OTHER, [len(BROKEN)], None, id="a BEGIN within a line"
        ),
        pytest.param(BROKEN + BOM + OTHER, [len(BROKEN), -1], None, id="a BEGIN behind a mark"),
        pytest.param(BROKEN[:-1] + OTHER, [len(BROKEN + OTHER.splitlines()[0])], None, id="glued"),
    ],
)
def test_a_damaged_block_is_no_more_than_it_has_to_be(
    content: bytes, ends: list[int], stop: int | None
) -> None:
    """OpenSSL reads no further; what follows is kept when the block is dropped."""
    assert openssl.load_bytes(content).error is not None
    found = [each.end for each in parse(content).blocks]
    assert parse(content).stop == stop
    assert found == [end if end >= 0 else len(content) for end in ends]


def der(length: bytes, content: bytes) -> bytes:
    return b"\x30" + length + content


INSIDE = b"\x30\x00\x30\x00\x03\x00"


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (der(b"\x06", INSIDE), True),
        (der(b"\x81\x06", INSIDE), True),
        (der(b"\x84\x00\x00\x00\x06", INSIDE), True),
        (der(b"\x85\x00\x00\x00\x00\x06", INSIDE), False),
        (der(b"\x80", INSIDE), False),
        (der(b"\x80", INSIDE[:-1] + b"\x7a" + bytes(122)), False),
        (der(b"\x81\x80", INSIDE[:-1] + b"\x7a" + bytes(122)), True),
        (der(b"\x07", INSIDE), False),
        (der(b"\x05", INSIDE), False),
        (der(b"\x82\x00", b""), False),
        (der(b"\x81", b""), False),
        (der(b"\x06", b"\x30\x00\x30\x01\x03\x00"), False),
        (der(b"\x06", b"\x30\x00\x31\x00\x03\x00"), False),
        (der(b"\x08", INSIDE + b"\x30\x00"), False),
        (b"\x31\x06" + INSIDE, False),
        (b"\x30", False),
        (b"", False),
    ],
)
def test_the_outermost_elements_make_a_certificate(data: bytes, found: bool) -> None:
    assert certificates_in(data) == ((data,) if found else ())
    assert certificates_in(canonical(data)) == ((data,) if found else ())
    assert (parse(canonical(data)).problem is None) == found


@pytest.mark.parametrize(
    ("data", "holds"),
    [
        (der(b"\x03", b"\x02\x01\x00"), True),
        (der(b"\x05", b"\x02\x01\x00\x30\x00"), True),
        (der(b"\x04", b"\x30\x00\x04\x00"), True),
        (der(b"\x06", INSIDE), False),
        (der(b"\x03", b"\x03\x01\x00"), False),
        (der(b"\x04", b"\x30\x00\x05\x00"), False),
        (b"\x31\x03\x02\x01\x00", False),
        (b"\x02\x01\x00", False),
        (b"", False),
    ],
)
def test_a_private_key_in_der_starts_with_a_version(data: bytes, holds: bool) -> None:
    assert bundle.is_private_key(data) is holds


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (block(*BODY[:3]).rpartition(b"-----END")[0], "bad end line"),
        (block(b"", *BODY[:2], BODY[2][:60], *BODY[3:]), "bad end line"),
        (block(b"", b"", *BODY), "bad end line"),
        (block(b"", *BODY[:3], BODY[3] + b"AAAA", *BODY[4:]), "PEM lib"),
        (block(b"A: b", b"", b" "), "bad end line"),
        (block(b"A: b"), "PEM lib"),
        (block(b"-"), "PEM lib"),
        (block(b"MAo="), "too long"),
        (block(b"MIA="), "too long"),
        (block(b"MIU="), "too long"),
        (block(b"MA=="), "too long"),
        (block(b"MAQwBwIB"), "too long"),
        (block(b"MAQwBwIBAAIBAAIBAA=="), "too long"),
    ],
)
def test_the_words_are_those_that_openssl_says_first(content: bytes, problem: str) -> None:
    """libpq prints the first of OpenSSL's reasons; Python's ssl shows the last."""
    agree(content)
    assert parse(content).problem == problem
