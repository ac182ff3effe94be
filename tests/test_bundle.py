"""Reading as OpenSSL does, one promise at a time."""

from __future__ import annotations

import base64
import ssl
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from qs_certs import bundle, openssl
from qs_certs.bundle import canonical, parse
from qs_certs.values import replace
from tests.shapes import ANY_USAGE, EMAIL, SERVER_AUTH, deeply_damaged, pem, pki, trust

P = pki()
RIGHT, OTHER, THIRD = (pem(der) for der in (P.right, P.other, P.third))


def fingerprint(der: bytes) -> str:
    return sha256(der).hexdigest()


# --- reading --------------------------------------------------------------------------------------


def test_a_block_knows_where_it_is_and_what_it_holds() -> None:
    content = b"# first\n" + RIGHT + b"# second\n\n" + pem(P.other, "X509 CERTIFICATE")
    first, second = parse(content).blocks

    assert (first.number, first.line, first.label) == (1, 2, "CERTIFICATE")
    assert content[first.start : first.end] == RIGHT
    assert (first.der, first.sha256) == (P.right, fingerprint(P.right))
    assert (second.number, second.label) == (2, "X509 CERTIFICATE")
    assert content[: second.start].count(b"\n") == second.line - 1
    assert second.end == len(content)


@pytest.mark.parametrize(
    ("content", "read"),
    [
        pytest.param(OTHER + RIGHT + b"\x1a", 2, id="at the end"),
        pytest.param((OTHER + RIGHT).replace(b"\n", b"\r\n") + b"\x1a", 2, id="at the end, CRLF"),
        pytest.param(OTHER + b"\x1a" + RIGHT, 1, id="between two"),
        pytest.param(OTHER + b"\x1a\r\n" + RIGHT + b"\x1a", 1, id="on a line between two"),
        pytest.param(OTHER + b"# \x1a\n" + RIGHT, 1, id="in a comment"),
        pytest.param(OTHER.rstrip(b"\n") + b"\x1a\n" + RIGHT, 1, id="after END"),
        pytest.param(b"\x1a\n" + OTHER + RIGHT, 0, id="at the beginning"),
        pytest.param(b"\x1a", 0, id="alone"),
    ],
)
def test_a_text_file_ends_at_the_first_ctrl_z(content: bytes, read: int) -> None:
    parsed = parse(content, text_mode=True)
    seen = content[: content.index(b"\x1a")]
    assert (parsed.raw, parsed.stop) == (content, len(seen))
    assert parsed.blocks == parse(seen).blocks
    assert len(parsed.certificates) == read == openssl.load_bytes(seen).certificates
    assert parse(content).stop is None


def test_a_block_that_a_ctrl_z_cuts_is_damaged_as_one_at_the_end_of_a_file() -> None:
    parsed = parse(OTHER + RIGHT[:200] + b"\x1a" + RIGHT[200:], text_mode=True)
    assert parsed.problem == "bad end line"
    assert parsed.damaged is not None
    assert parsed.damaged.number == 2


@pytest.mark.parametrize(
    "behind",
    [pytest.param(b"\x1a" + RIGHT, id="glued"), pytest.param(b"\x1a\n" + RIGHT[:99], id="cut")],
)
def test_damage_behind_a_ctrl_z_refuses_the_file_as_an_openssl_that_reads_on_does(
    behind: bytes,
) -> None:
    content = OTHER.rstrip(b"\n") + behind
    parsed = parse(content, text_mode=True)
    assert parsed.problem == "bad end line"
    assert (parsed.blocks, parsed.fingerprints) == (parse(content).blocks, frozenset())
    if sys.platform != "win32":  # there it may be the one or the other
        assert openssl.load_bytes(content).error is not None
    assert openssl.load_bytes(content.split(b"\x1a")[0]).error is None  # a control: the other


def test_a_nul_in_front_of_a_ctrl_z_ends_the_reading_and_one_behind_it_does_not() -> None:
    assert parse(OTHER + b"\0\n\x1a", text_mode=True).stop == len(OTHER)
    assert parse(OTHER + b"\x1a\n\0", text_mode=True).stop == len(OTHER)
    assert parse(OTHER + b"\x1a\n\0").stop == len(OTHER) + 2  # a control: that is binary mode


def test_text_mode_is_nothing_where_there_is_no_ctrl_z() -> None:
    for content in (b"", OTHER + RIGHT, OTHER + b"\0" + RIGHT, OTHER[:99]):
        assert parse(content, text_mode=True) == parse(content)


def test_a_trusted_certificate_is_known_by_the_certificate_alone() -> None:
    (block,) = parse(pem(P.right + trust(trusted=SERVER_AUTH), "TRUSTED CERTIFICATE")).blocks
    assert (block.der, block.sha256) == (P.right, fingerprint(P.right))


@pytest.mark.parametrize(
    ("settings", "refuses"),
    [
        pytest.param(b"", False, id="none"),
        pytest.param(trust(), False, id="empty"),
        pytest.param(trust(trusted=SERVER_AUTH), False, id="trusted for servers"),
        pytest.param(trust(trusted=ANY_USAGE), False, id="trusted for anything"),
        pytest.param(trust(trusted=EMAIL + SERVER_AUTH), False, id="trusted for mail and servers"),
        pytest.param(trust(trusted=EMAIL), True, id="trusted for mail"),
        pytest.param(trust(trusted=b""), True, id="trusted for nothing"),
        pytest.param(trust(rejected=EMAIL), False, id="rejected for mail"),
        pytest.param(trust(rejected=SERVER_AUTH), True, id="rejected for servers"),
        pytest.param(trust(rejected=ANY_USAGE), True, id="rejected for anything"),
        pytest.param(
            trust(trusted=SERVER_AUTH, rejected=SERVER_AUTH), True, id="trusted and rejected"
        ),
    ],
)
def test_trust_settings_exclude_servers_where_openssl_says_so(
    settings: bytes, refuses: bool
) -> None:
    content = pem(P.right + settings, "TRUSTED CERTIFICATE")
    assert parse(content).refusing == ({fingerprint(P.right)} if refuses else set())
    assert _trusts_a_server(content) != refuses


def _trusts_a_server(content: bytes) -> bool:
    """Let OpenSSL verify the served chain against *content*."""
    from tests.test_file_shapes import server_context, verifies

    return verifies(content, server_context())


def test_the_first_copy_decides_whether_servers_are_trusted() -> None:
    refusing = pem(P.right + trust(rejected=SERVER_AUTH), "TRUSTED CERTIFICATE")
    for content in (refusing + RIGHT, RIGHT + refusing):
        assert _trusts_a_server(content) != bool(parse(content).refusing)
    assert parse(refusing + RIGHT).refusing
    assert not parse(RIGHT + refusing).refusing


def test_a_nul_byte_ends_the_reading_only_where_openssl_stops() -> None:
    hidden = RIGHT + b"\0\n" + OTHER
    harmless = RIGHT + b"# a\0b\n" + OTHER
    assert parse(hidden).stop == len(RIGHT)
    assert parse(harmless).stop is None
    for content in (hidden, harmless):
        loaded = openssl.load_bytes(content)
        assert loaded.certificates == len(parse(content).fingerprints)


def test_a_start_line_counts_where_the_line_buffer_starts_anew() -> None:
    for padding, found in ((253, 0), (254, 1), (255, 0), (508, 1)):
        content = b"x" * padding + RIGHT
        assert len(parse(content).certificates) == found
        assert openssl.load_bytes(content).certificates == found


def test_a_byte_order_mark_counts_only_on_the_first_line_of_the_search_for_a_block() -> None:
    mark = b"\xef\xbb\xbf"
    for content, found in (
        (mark + RIGHT, 1),
        (b"# c\n" + mark + RIGHT, 0),
        (OTHER + mark + RIGHT, 2),
        (OTHER + b"# c\n" + mark + RIGHT, 1),
        (mark + mark + RIGHT, 0),
        (b"x -----BEGIN \n" + mark + RIGHT, 0),
    ):
        assert len(parse(content).certificates) == found
        assert openssl.load_bytes(content).certificates == found


def test_a_certificate_with_a_header_is_refused_and_a_key_with_one_is_not() -> None:
    header = b"-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC," + b"00" * 16 + b"\n\n"
    for content, problem in (
        (RIGHT.replace(b"-----\n", header, 1), "bad decrypt"),
        (RIGHT.replace(b"-----\n", b"-----\nNote: x\n\n", 1), "not proc type"),
        (pem(P.right, "RSA PRIVATE KEY").replace(b"-----\n", header, 1) + OTHER, None),
    ):
        assert parse(content).problem == problem
        assert (openssl.load_bytes(content).error is None) == (problem is None)


def test_openssl_gives_up_at_a_block_of_any_label_with_bad_base64() -> None:
    content = RIGHT + b"-----BEGIN NOTE-----\n!!!!\n-----END NOTE-----\n"
    assert parse(content).problem == "bad base64 decode"
    assert parse(content).certificates == ()
    assert [block.der for block in parse(content).readable] == [P.right]
    assert openssl.load_bytes(content).error == "PEM lib"


def test_a_file_of_revocation_lists_loads_and_holds_no_certificate() -> None:
    content = pem(P.crl, "X509 CRL")
    loaded = openssl.load_bytes(content)
    assert (loaded.error, loaded.certificates, loaded.crls) == (None, 0, 1)
    assert (parse(content).problem, parse(content).certificates) == (None, ())


def test_deep_damage_is_openssls_to_find() -> None:
    content = OTHER + pem(deeply_damaged(P.right)) + THIRD

    assert parse(content).problem is None
    assert openssl.load_bytes(content).error is not None
    assert openssl.refused(parse(content)) == {2}


# --- how much work --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(RIGHT.replace(b"\n", b" \n"), id="certificates that need the slow path"),
        pytest.param(b"-----BEGIN X-----\n", id="start lines without end"),
        pytest.param(b"-----BEGIN X-----", id="start lines on one line"),
        pytest.param(b"a\0\n", id="NUL bytes"),
        pytest.param(b"x" * 250 + b"\0", id="NUL bytes on one line"),
    ],
)
def test_twice_the_file_is_twice_the_work(line: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    gets = bundle._gets

    def counted(raw: bytes, at: int, limit: int) -> tuple[bytes, int]:
        nonlocal calls
        calls += 1
        return gets(raw, at, limit)

    monkeypatch.setattr(bundle, "_gets", counted)
    work = []
    for times in (100, 200, 400):
        calls = 0
        parse(line * times)
        work.append(calls)
    assert work[0] > 0
    assert work[1] <= 2 * work[0] + 4
    assert work[2] <= 2 * work[1] + 4


def test_a_standard_file_is_read_without_reading_lines_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = 0
    gets = bundle._gets

    def counted(raw: bytes, at: int, limit: int) -> tuple[bytes, int]:
        nonlocal calls
        calls += 1
        return gets(raw, at, limit)

    monkeypatch.setattr(bundle, "_gets", counted)
    assert len(parse((b"# one of many\n" * 20 + OTHER) * 50).certificates) == 50
    assert calls == 50  # the start lines


# --- the inverse ----------------------------------------------------------------------------------


def test_canonical_is_what_openssl_writes() -> None:
    expected = ssl.DER_cert_to_PEM_cert(P.right).encode()
    assert canonical(P.right) == expected
    assert parse(canonical(P.right)).fingerprints == {fingerprint(P.right)}


# --- OpenSSL's own loader -------------------------------------------------------------------------


NO_CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""In place of each one's own."""


def test_loading_a_path_and_bytes_agree_and_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for content in (RIGHT + RIGHT + pem(P.crl, "X509 CRL"), b"", OTHER[:-40]):
        by_bytes = replace(openssl.load_bytes(content), context=NO_CONTEXT)
        assert list(tmp_path.iterdir()) == []
        path = tmp_path / "root.crt"
        path.write_bytes(content)
        assert replace(openssl.load(path), context=NO_CONTEXT) == by_bytes
        path.unlink()


def test_loaded_counts_distinct_certificates_and_lists_cas() -> None:
    loaded = openssl.load_bytes(RIGHT * 2 + pem(P.leaf))
    assert (loaded.certificates, loaded.crls, loaded.error) == (2, 0, None)
    assert loaded.ca_ders == {P.right}


def test_a_file_that_is_not_there_is_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        openssl.load(tmp_path / "root.crt")
    assert openssl.load_bytes(b"").error == bundle.NOTHING_FOUND


def test_base64_is_read_as_openssl_reads_it() -> None:
    text = base64.b64encode(P.right)
    head, tail = b"-----BEGIN CERTIFICATE-----\n", b"\n-----END CERTIFICATE-----\n"

    def columns(part: bytes) -> bytes:
        return b"\n".join(part[at : at + 64] for at in range(0, len(part), 64))

    rows = {
        "one line": text,
        "odd lines": text[:7] + b"\n" + text[7:11] + b" \t\n" + text[11:],
        "a dash ends it": text + b"\n-what follows is ignored, even !",
        "a dash ends it too early": text[:41] + b"-" + text[41:],
        "data after padding": text + b"==AA",
        "three paddings": text.rstrip(b"=") + b"===",
        "form feed": text[:40] + b"\x0c" + text[40:],
        "colon": b"Note: x\n" + text,
        "empty header, 64 columns": b"\n" + columns(text),
        "empty header, one line": b"\n" + text,
        "empty header, 65 columns": b"\n" + text[:65] + b"\n" + columns(text[65:]),
        "empty header, one line of 64": b"\n" + base64.b64encode(P.right[:48]),
    }
    seen = set()
    for name, body in rows.items():
        ours = parse(head + body.rstrip(b"\n") + tail).problem is None
        assert ours == (openssl.load_bytes(head + body.rstrip(b"\n") + tail).error is None), name
        seen.add(ours)
    assert seen == {True, False}
