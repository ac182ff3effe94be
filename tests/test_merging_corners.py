"""What merge, remove and the mends make of odd files, and what they report.

Made from the mutants that survived: each test here kills some.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from qs_certs import merging, openssl
from qs_certs.bundle import parse
from qs_certs.merging import merge, remove
from tests.shapes import EMAIL, NOW, SERVER_AUTH, deeply_damaged, pem, pki, trust
from tests.test_bundle_corners import BODY, BROKEN, CHUNK, block

P = pki()
RIGHT, OTHER, THIRD = (pem(each) for each in (P.right, P.other, P.third))


@pytest.mark.parametrize(
    ("prefix", "said"),
    [
        (b"", ()),
        (b"# x\n" + RIGHT, ()),
        (b"\n\n" + RIGHT, ()),
        (
            RIGHT.rstrip(b"\n") + OTHER,
            ("put a newline between two blocks on one line",),
        ),
        (
            RIGHT.rstrip(b"\n") + OTHER.rstrip(b"\n") + THIRD,
            ("put a newline between two blocks on one line (2 times)",),
        ),
        (
            b"".join(b"  " + line for line in RIGHT.splitlines(keepends=True)),
            ("removed the indentation of a block",),
        ),
        (
            b"".join(b"\t" + line for line in (RIGHT + OTHER).splitlines(keepends=True)),
            ("removed the indentation of a block (2 times)",),
        ),
        (
            block(*BODY[:2], b"", *BODY[2:4], b"", b"", *BODY[4:]),
            ("removed a blank line inside a block",),
        ),
        (
            block(*BODY[:2], b"", *BODY[2:], b"") * 2,
            ("removed a blank line inside a block (2 times)",),
        ),
        (
            RIGHT.rstrip(b"\n") + block(*BODY[:2], b"", *BODY[2:]) + b"# x\n\n",
            (
                "put a newline between two blocks on one line",
                "removed a blank line inside a block",
            ),
        ),
    ],
)
def test_damage_is_named_by_the_line_that_an_editor_shows(
    prefix: bytes, said: tuple[str, ...]
) -> None:
    for content, mends in ((prefix + BROKEN, said), (prefix + BROKEN * 2, said)):
        merged = merge(content, [P.leaf])
        lines = [damage.line for damage in merged.damage]
        first = prefix.count(b"\n") + 1
        assert lines == [first + 3 * number for number in range(len(lines))]
        assert len(lines) == content.count(b"!")
        repaired = merge(content, [P.leaf], repair=True)
        assert repaired.repaired[: len(mends)] == mends
        assert openssl.load_bytes(repaired.data).error is None
        assert BROKEN not in repaired.data
    assert merge(prefix, [P.leaf]).repaired == said
    assert openssl.load_bytes(merge(prefix, [P.leaf]).data).error is None


def test_what_is_indented_and_no_certificate_stays() -> None:
    odd = b"  -----BEGIN X-----\n  AAAA\n  -----END X-----\n"
    assert merge(odd + RIGHT, [P.leaf]).repaired == ()
    assert merge(b"  " + block(*BODY), [P.leaf]).repaired == ("removed the indentation of a block",)
    inside = block(*(b"\t" + line for line in BODY))
    assert merge(inside, [P.leaf]).data.startswith(inside)


def test_an_indented_line_of_a_block_is_mended_and_an_empty_header_is_none() -> None:
    for white in (b" ", b"\t", b" \t"):
        for odd in (white + RIGHT, RIGHT.replace(b"-----END", white + b"-----END")):
            assert openssl.load_bytes(odd).certificates == 0
            merged = merge(odd, [P.leaf])
            assert merged.data == RIGHT + pem(P.leaf)
            assert merged.repaired == ("removed the indentation of a block",)
    for content in (block(b"", *BODY), block(b" ", *BODY)):
        assert openssl.load_bytes(content).certificates == 1
        assert merge(content, [P.leaf]).data == content + pem(P.leaf)


def test_what_libpq_never_saw_stays_as_long_as_nothing_has_to_be_written() -> None:
    hidden = b"  " + OTHER.replace(b"\n", b"\n  ")
    for wanted in ([P.right], []):
        assert openssl.load_bytes(RIGHT + hidden).ca_ders == {P.right}
        assert merge(RIGHT + hidden, wanted) == merging.Merged(RIGHT + hidden)
    # Asked for, or where something has to be written anyway, it becomes one of them.
    for mended in (merge(RIGHT + hidden, [P.right], repair=True), merge(RIGHT + hidden, [P.third])):
        assert parse(mended.data).fingerprints >= parse(RIGHT + OTHER).fingerprints


def test_blocks_that_only_openssl_refuses_are_found_wherever_they_stand() -> None:
    assert [each.number for each in merge(RIGHT + OTHER, [P.third], refused=[1]).damage] == [1]
    assert [each.number for each in merge(OTHER + BROKEN, [P.third], refused=[1]).damage] == [1, 2]
    assert merge(OTHER + BROKEN, [P.third], refused=[2]).damage[0].reason != (
        "OpenSSL cannot read what it holds"
    )
    excluding = pem(P.right + trust(trusted=EMAIL), "TRUSTED CERTIFICATE")
    (damage,) = merge(excluding, [P.right], refused=[1]).damage
    assert damage.reason == "OpenSSL cannot read what it holds"
    # Also where all that is wanted is there: the file as a whole does not load.
    assert merge(RIGHT, [P.right], refused=[1]).damage
    crl = pem(P.crl, "X509 CRL")
    assert [each.number for each in merge(RIGHT + crl, [P.third], refused=[2]).damage] == [2]
    dropped = merge(RIGHT + crl + OTHER, [P.third], refused=[2], repair=True)
    assert dropped.data == RIGHT + OTHER + THIRD
    line = RIGHT.count(b"\n") + 1
    assert dropped.repaired == (
        f"dropped block 2 (line {line}): OpenSSL cannot read what it holds",
    )


DEEP = deeply_damaged(P.other)
BROKEN_SETTINGS = trust(trusted=EMAIL)[:-1] + b"\xff"


@pytest.mark.parametrize(
    ("content", "left"),
    [
        pytest.param(RIGHT + pem(DEEP) + THIRD, RIGHT + THIRD, id="a certificate"),
        pytest.param(
            pem(DEEP) + RIGHT + b"  " + pem(DEEP, "X509 CERTIFICATE") + pem(DEEP),
            RIGHT,
            id="the same under another name, which a mend brings out",
        ),
        pytest.param(
            pem(b"\x30\x00", "X509 CRL") + RIGHT + pem(P.crl, "X509 CRL"),
            RIGHT + pem(P.crl, "X509 CRL"),
            id="one of two revocation lists",
        ),
        pytest.param(
            RIGHT + pem(P.right + BROKEN_SETTINGS, "TRUSTED CERTIFICATE"),
            RIGHT,
            id="settings of trust, and not the certificate without them",
        ),
    ],
)
def test_repair_drops_what_openssl_refuses_and_nothing_else(content: bytes, left: bytes) -> None:
    refused = openssl.refused(parse(content))
    assert refused
    assert parse(content).problem is None
    assert openssl.load_bytes(content).error is not None
    repaired = merge(content, [P.leaf], repair=True, refused=refused)
    assert repaired.data == left + pem(P.leaf)
    assert openssl.load_bytes(repaired.data).error is None
    assert all(said.startswith(("dropped block ", "removed the ind")) for said in repaired.repaired)
    damage = merge(content, [P.leaf], refused=refused).damage
    assert {each.number for each in damage} >= refused
    assert {each.reason for each in damage} == {"OpenSSL cannot read what it holds"}


def test_only_what_is_missing_is_added() -> None:
    assert merge(RIGHT + OTHER, [P.right]).data == RIGHT + OTHER
    assert merge(RIGHT + OTHER, [P.right, P.other]).data == RIGHT + OTHER
    assert merge(RIGHT, [P.right]).data == RIGHT
    assert merge(RIGHT, [P.right, P.other]).added == (parse(OTHER).blocks[0].sha256,)
    assert merge(None, [P.right]).data == RIGHT
    assert merge(b"", []).data == b""


def test_trust_settings_matter_for_the_wanted_alone() -> None:
    mail = pem(P.right + trust(trusted=EMAIL), "TRUSTED CERTIFICATE")
    servers = pem(P.right + trust(trusted=SERVER_AUTH), "TRUSTED CERTIFICATE")
    assert merge(mail, [P.other]).data == mail + OTHER
    assert merge(servers, [P.right]).data == servers
    (damage,) = merge(mail + OTHER, [P.right]).damage
    assert (damage.number, damage.line) == (1, 1)
    repaired = merge(OTHER + mail + THIRD, [P.right, P.third], repair=True)
    assert repaired.data == OTHER + RIGHT + THIRD
    # The first copy decides.
    assert merge(RIGHT + mail, [P.right]).data == RIGHT + mail
    assert [each.number for each in merge(mail + RIGHT, [P.right]).damage] == [1]
    both = merge(mail + RIGHT, [P.right], repair=True)
    assert (both.data, both.repaired) == (
        RIGHT + RIGHT,
        ("removed the trust settings of block 1",),
    )


@pytest.mark.parametrize(
    ("content", "data"),
    [
        (RIGHT + b"\n\0" + OTHER, RIGHT + b"\n" + OTHER + THIRD),
        (b"\0\0\0" + RIGHT, RIGHT + THIRD),
        (b"#" * CHUNK + b"\0x\n" + RIGHT, b"#" * CHUNK + b"x\n" + RIGHT + THIRD),
        (b"# a\0b\n\0\n" + RIGHT, b"# a\0b\n\n" + RIGHT + THIRD),
    ],
)
def test_repair_takes_away_the_nul_bytes_that_hide_something(content: bytes, data: bytes) -> None:
    repaired = merge(content, [P.third], repair=True)
    assert repaired.data == data
    assert repaired.repaired == ("removed NUL bytes that hid what follows them",)
    assert merge(content, [P.third]).damage[0].number is None


def test_remove_takes_back_what_install_put_in() -> None:
    third = parse(THIRD).fingerprints
    for before in (b"# x", RIGHT.rstrip(b"\n")):
        assert remove(before + b"\n" + THIRD, third, before=before).data == before
        assert remove(before + b"\n" + THIRD, third).data == before + b"\n"
        assert remove(before + b"\n" + THIRD, third, before=b"y").data == before + b"\n"
    assert remove(b"\n" + THIRD, third, before=b"").data == b"\n"
    assert remove(b"x\n\n" + THIRD, third, before=b"x\n").data == b"x\n\n"
    assert remove(THIRD + RIGHT + THIRD, third).data == RIGHT
    assert remove(b"#" * CHUNK + THIRD.rstrip(b"\n"), third).data == b"#" * CHUNK


def test_der_is_found_in_place_of_pem_and_behind_it() -> None:
    for content, data in (
        (P.right, RIGHT),
        (P.right + b"\n", RIGHT),
        (P.right + b"\r\n" + P.other, RIGHT + OTHER),
        (RIGHT + P.other + b"\r\n\r\n" + THIRD, RIGHT + OTHER + THIRD),
        (P.right + OTHER, RIGHT + OTHER),
        (RIGHT + P.other + P.third, RIGHT + OTHER + THIRD),
    ):
        merged = merge(content, [P.leaf])
        assert merged.data == data + pem(P.leaf)
        assert merged.repaired == ("converted a DER certificate to PEM",)
    assert merge(b"x" + P.right, [P.leaf]).repaired == ()
    # The last byte of a signature may be anything; OpenSSL does not look at a root's.
    newline = P.right[:-1] + b"\n"
    assert merge(newline, [P.leaf]).data == pem(newline) + pem(P.leaf)


def test_text_in_a_der_certificate_is_not_taken_for_the_end_of_a_block() -> None:
    odd = certificate_named("-----END CERTIFICATE-----")
    merged = merge(odd + OTHER + P.third, [P.leaf])
    assert merged.data == pem(odd) + OTHER + THIRD + pem(P.leaf)
    assert openssl.load_bytes(merged.data).certificates == 4


def certificate_named(name: str) -> bytes:
    """A root with this common name, in DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateBuilder(names, names, key.public_key(), 1, NOW, NOW + timedelta(1))
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("content", "data"),
    [
        (RIGHT.decode().encode("utf-16"), RIGHT),
        (RIGHT.decode().encode("utf-16-le"), RIGHT),
        (RIGHT.decode().encode("utf-16-be"), RIGHT),
        (RIGHT + OTHER.decode().encode("utf-16-le"), RIGHT + OTHER),
        (RIGHT + OTHER.decode().encode("utf-16"), RIGHT + OTHER),
        (RIGHT + b"\xfe\xff" + OTHER.decode().encode("utf-16-be"), RIGHT + OTHER),
        (("# 東京\n" + RIGHT.decode()).encode("utf-16"), "# 東京\n".encode() + RIGHT),
    ],
    ids=["marked", "LE", "BE", "LE appended", "marked, appended", "marked BE, appended", "Asian"],
)
def test_utf16_becomes_utf8(content: bytes, data: bytes) -> None:
    merged = merge(content, [P.third])
    assert merged.data == data + THIRD
    assert merged.repaired == ("converted UTF-16 to UTF-8",)


def test_half_a_pair_of_utf16_is_no_text_and_the_file_is_left_alone() -> None:
    content = "# \ud83d\n".encode("utf-16-le", "surrogatepass") + RIGHT
    merged = merge(content, [P.third])
    assert [each.reason for each in merged.damage] == ["a NUL byte hides everything after it"]
    assert (merged.data, merged.repaired) == (content, ())


@pytest.mark.parametrize("appended", [b"# added\r\n", b"xy\n", b""])
def test_utf16_that_ends_otherwise_loses_nothing(appended: bytes) -> None:
    """PowerShell made it, and another program appended to it; none of it is a certificate."""
    content = "# mine\r\n".encode("utf-16") + appended
    assert merge(content, [P.third]).data == b"# mine\r\n" + appended + THIRD
    half = b"\xff\xfe" + "\ud83d\0".encode("utf-16-le", "surrogatepass")
    assert merge(half + appended, [P.third]).data.startswith(half)


@pytest.mark.parametrize("count", [2, 40])
def test_many_mends_move_no_line_number(count: int) -> None:
    glued = RIGHT.rstrip(b"\n") * count + b"\n"
    blank = block(*BODY[:2], b"", *BODY[2:]) * count
    spread = RIGHT.replace(b"\n", b"\n" * count, 5)
    both = spread.rstrip(b"\n") * count + b"\n"
    for prefix in (glued, blank, glued + blank, blank + glued, both):
        (damage,) = merge(prefix + b"\n" * 5 + BROKEN + b"\n" * 99, [P.leaf]).damage
        assert damage.line == prefix.count(b"\n") + 6
