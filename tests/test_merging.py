"""How roots get into a root file and out again: the rows that say it plainly.

The corners are in test_merging_corners.py, the laws in test_bundle_laws.py.
"""

from __future__ import annotations

from hashlib import sha256

import pytest

from qs_certs import merging, openssl
from qs_certs.bundle import parse
from qs_certs.merging import (
    Damage,
    certificates_in,
    holds_private_key,
    merge,
    remove,
    replacement,
)
from tests.shapes import SERVER_AUTH, pem, pki, trust

P = pki()
RIGHT, OTHER, THIRD = (pem(der) for der in (P.right, P.other, P.third))


def fingerprint(der: bytes) -> str:
    return sha256(der).hexdigest()


# --- merging --------------------------------------------------------------------------------------


def test_replacement_holds_each_certificate_once_in_order() -> None:
    assert replacement([P.right, P.other, P.right]) == RIGHT + OTHER
    assert replacement([]) == b""


def test_a_new_file_holds_just_the_roots() -> None:
    merged = merge(None, [P.right, P.other, P.right])
    assert merged.data == RIGHT + OTHER
    assert merged.added == (fingerprint(P.right), fingerprint(P.other))


def test_what_is_there_already_is_not_added_again() -> None:
    merged = merge(OTHER + RIGHT.rstrip(b"\n"), [P.right])
    assert merged == merging.Merged(OTHER + RIGHT.rstrip(b"\n"))


def test_a_root_behind_a_nul_byte_is_not_there() -> None:
    content = OTHER + b"\0\n" + RIGHT
    assert merge(content, [P.right]).damage == (
        Damage(None, 1 + OTHER.count(b"\n"), "a NUL byte hides everything after it"),
    )
    assert merge(content, [P.right], repair=True).data == OTHER + b"\n" + RIGHT
    assert merge(content, [P.other]).data == content  # nothing to write, nothing to mend


def test_damage_names_every_block_and_its_line_as_an_editor_shows_it() -> None:
    bad = b"-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n"
    glued = RIGHT.rstrip(b"\n") + OTHER
    content = b"# top\n" + glued + bad + THIRD + bad
    damage = merge(content, [P.leaf]).damage

    assert [(each.number, each.reason) for each in damage] == [
        (3, "bad base64 decode"),
        (5, "bad base64 decode"),
    ]
    lines = content.split(b"\n")
    for each in damage:
        assert lines[each.line - 1 : each.line + 1] == [b"-----BEGIN CERTIFICATE-----", b"????"]


def test_repair_drops_the_damaged_block_alone_and_says_so() -> None:
    bad = b"-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n"
    merged = merge(b"# mine\n" + OTHER + bad + b"# more\n" + THIRD, [P.right], repair=True)
    assert merged.data == b"# mine\n" + OTHER + b"# more\n" + THIRD + RIGHT
    line = 2 + OTHER.count(b"\n")
    assert merged.repaired == (f"dropped block 2 (line {line}): bad base64 decode",)
    assert merged.damage == ()


def test_repair_of_a_block_without_end_keeps_what_follows() -> None:
    stub = b"\n".join(RIGHT.splitlines()[:4])
    for after in (OTHER, b"# text, no base64\n"):
        merged = merge(stub + b"\n" + after, [P.third], repair=True)
        assert merged.data == after + THIRD


def test_a_byte_order_mark_stays_unless_repair_is_asked_for() -> None:
    content = b"\xef\xbb\xbf" + OTHER
    assert merge(content, [P.right]).data == content + RIGHT
    merged = merge(content, [P.other], repair=True)
    assert (merged.data, merged.repaired) == (OTHER, ("removed a byte order mark",))


@pytest.mark.parametrize(
    "inert",
    [
        pytest.param(b"  -----BEGIN NOTE-----\n  !!!!\n  -----END NOTE-----\n", id="indented"),
        pytest.param(
            b"  " + RIGHT.rstrip(b"\n") + b"-----BEGIN NOTE-----\n!!!!\n-----END NOTE-----\n",
            id="glued to an indented one",
        ),
    ],
)
def test_a_mend_that_would_bring_out_damage_is_left_alone(inert: bytes) -> None:
    assert openssl.load_bytes(OTHER + inert).error is None
    merged = merge(OTHER + inert, [P.third])
    assert (merged.data, merged.repaired) == (OTHER + inert + THIRD, ())


@pytest.mark.parametrize(
    ("content", "mended", "said"),
    [
        pytest.param(
            RIGHT.rstrip(b"\n") + OTHER,
            RIGHT + OTHER,
            "put a newline between two blocks on one line",
            id="two on one line",
        ),
        pytest.param(
            RIGHT.rstrip(b"\n") + OTHER.rstrip(b"\n") + RIGHT,
            RIGHT + OTHER + RIGHT,
            "put a newline between two blocks on one line (2 times)",
            id="three on one line",
        ),
        pytest.param(
            b"# c\n" + b"".join(b"\t" + line for line in RIGHT.splitlines(keepends=True)),
            b"# c\n" + RIGHT,
            "removed the indentation of a block",
            id="indented",
        ),
        pytest.param(
            RIGHT.replace(b"-----END", b"  -----END"),
            RIGHT,
            "removed the indentation of a block",
            id="indented END",
        ),
        pytest.param(
            RIGHT.replace(b"\n", b"\n\n", 3),
            RIGHT,
            "removed a blank line inside a block",
            id="blank lines",
        ),
        pytest.param(
            OTHER + RIGHT.replace(b"\n", b"\r"),
            OTHER + RIGHT,
            "converted CR line ends to LF",
            id="CR after LF",
        ),
        pytest.param(
            b"# \xe9\n" + OTHER + (b"# z\n" + RIGHT).decode().encode("utf-16-le"),
            b"# \xe9\n" + OTHER + b"# z\n" + RIGHT,
            "converted UTF-16 to UTF-8",
            id="UTF-16 appended",
        ),
        pytest.param(
            "# mine\r\n".encode("utf-16") + RIGHT + b"\n" * (len(RIGHT) % 2),
            b"# mine\r\n" + RIGHT + b"\n" * (len(RIGHT) % 2),
            "converted UTF-16 to UTF-8",
            id="appended to UTF-16",
        ),
        pytest.param(
            b"\xfe\xff" + ("# Zürich, Київ, 東京\n" + RIGHT.decode()).encode("utf-16-be"),
            "# Zürich, Київ, 東京\n".encode() + RIGHT,
            "converted UTF-16 to UTF-8",
            id="UTF-16 BE",
        ),
        pytest.param(
            P.right + P.other,
            RIGHT + OTHER,
            "converted a DER certificate to PEM",
            id="two DER",
        ),
        pytest.param(
            OTHER.rstrip(b"\n") + P.right + b"\n# c\n",
            OTHER + RIGHT + b"# c\n",
            "converted a DER certificate to PEM",
            id="DER after PEM without newline",
        ),
        pytest.param(
            RIGHT.replace(b"\n", b"\\r\\n"),
            RIGHT,
            "replaced literal \\n by newlines",
            id="literal newlines",
        ),
    ],
)
def test_a_mend_costs_nothing_and_is_reported(content: bytes, mended: bytes, said: str) -> None:
    merged = merge(content, [P.third])
    assert merged.data == mended + THIRD
    assert merged.repaired == (said,)
    assert P.right in openssl.load_bytes(merged.data).ca_ders
    assert openssl.load_bytes(mended).certificates > openssl.load_bytes(content).certificates


AT_THE_END = "removed a Ctrl-Z (byte 0x1A) at the end"
READ_AGAIN = "removed a Ctrl-Z (byte 0x1A); what stands behind it is read again"
ONE_LINE = "put a newline between two blocks on one line"


@pytest.mark.parametrize(
    ("content", "mended", "said"),
    [
        pytest.param(OTHER + b"\x1a", OTHER, (AT_THE_END,), id="at the end"),
        pytest.param(OTHER + b"\x1a\x1a\r\n", OTHER + b"\r\n", (AT_THE_END,), id="two at the end"),
        pytest.param(b"\x1a", b"", (AT_THE_END,), id="alone"),
        pytest.param(b"\x1a\n" + OTHER, b"\n" + OTHER, (READ_AGAIN,), id="at the beginning"),
        pytest.param(OTHER + b"\x1a" + RIGHT, OTHER + RIGHT, (READ_AGAIN,), id="between two"),
        pytest.param(
            OTHER + b"\x1a\x1a" + RIGHT + b"\x1a", OTHER + RIGHT, (READ_AGAIN,), id="several"
        ),
        pytest.param(
            OTHER.rstrip(b"\n") + b"\x1a" + RIGHT, OTHER + RIGHT, (READ_AGAIN,), id="after END"
        ),
        pytest.param(
            OTHER + b"# c\x1a" + RIGHT, OTHER + b"# c\n" + RIGHT, (READ_AGAIN,), id="after text"
        ),
        pytest.param(
            OTHER + b"# c\x1a\xef\xbb\xbf" + RIGHT,
            OTHER + b"# c\n\xef\xbb\xbf" + RIGHT,
            (READ_AGAIN,),
            id="a byte order mark behind",
        ),
        pytest.param(
            OTHER + RIGHT[:200] + b"\x1a" + RIGHT[200:],
            OTHER + RIGHT,
            (READ_AGAIN,),
            id="in a block",
        ),
        pytest.param(
            OTHER + b"\x1a" + RIGHT.decode().encode("utf-16-le"),
            OTHER + RIGHT,
            ("converted UTF-16 to UTF-8", READ_AGAIN),
            id="UTF-16 behind",
        ),
        pytest.param(
            OTHER + b"\x1a" + P.right,
            OTHER + b"\n" + RIGHT,
            ("converted a DER certificate to PEM", READ_AGAIN),
            id="DER behind",
        ),
        pytest.param(
            b"\x1a" + P.right,
            b"\n" + RIGHT,
            ("converted a DER certificate to PEM", READ_AGAIN),
            id="DER behind one at the beginning",
        ),
        pytest.param(
            OTHER + b"\x1a" + RIGHT.rstrip(b"\n") + OTHER,
            OTHER + RIGHT + OTHER,
            (READ_AGAIN, ONE_LINE),
            id="two on one line behind",
        ),
    ],
)
def test_nothing_is_written_behind_a_ctrl_z_on_windows(
    content: bytes, mended: bytes, said: tuple[str, ...]
) -> None:
    merged = merge(content, [P.third], text_mode=True)
    assert (merged.data, merged.repaired) == (mended + THIRD, said)
    assert merged.damage == ()
    assert fingerprint(P.third) in parse(merged.data, text_mode=True).fingerprints
    # Repair does so too, where nothing else has to be written.
    assert merge(content, [], repair=True, text_mode=True).repaired[: len(said)] == said
    # A control: whoever writes on as elsewhere is not read.
    elsewhere = merge(content, [P.third])
    assert AT_THE_END not in elsewhere.repaired
    assert READ_AGAIN not in elsewhere.repaired
    assert fingerprint(P.third) not in parse(elsewhere.data, text_mode=True).fingerprints


def test_a_ctrl_z_stays_where_nothing_is_written_or_it_harms_nobody() -> None:
    for content in (RIGHT + b"\x1a", RIGHT + b"\x1a" + OTHER):
        assert merge(content, [P.right], text_mode=True) == merging.Merged(content)
        assert merge(content, [P.third]).data == content + b"\n" * content.endswith(b"\x1a") + THIRD
    # A control: what stands behind it is not there, so it is mended.
    merged = merge(OTHER + b"\x1a\n" + RIGHT, [P.right], text_mode=True)
    assert (merged.data, merged.added) == (OTHER + b"\n" + RIGHT, ())


@pytest.mark.parametrize("new", [P.third, P.other], ids=["a new root", "one that is there"])
def test_damage_behind_a_ctrl_z_is_refused_and_dropped_on_demand_alone(new: bytes) -> None:
    bad = b"-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n"
    content = OTHER + b"\x1a\n" + bad + RIGHT
    merged = merge(content, [new], text_mode=True)
    (damage,) = merged.damage
    line = OTHER.count(b"\n") + 2
    assert (damage, merged.data) == (Damage(2, line, "bad base64 decode"), content)
    assert content.split(b"\n")[line - 1 : line + 1] == bad.split(b"\n")[:2]
    repaired = merge(content, [new], repair=True, text_mode=True)
    assert repaired.data == OTHER + b"\n" + RIGHT + THIRD * (new == P.third)
    assert repaired.repaired == (READ_AGAIN, f"dropped block 2 (line {line}): bad base64 decode")


@pytest.mark.parametrize("missing", [1, 2, 7, 12, 300])
def test_a_der_certificate_that_was_cut_off_costs_no_other(missing: int) -> None:
    """Found by the fuzzer: the length that it claims reaches into the block behind it."""
    content = P.right[:-missing]
    for der in (P.third, P.other):
        merged = merge(content, [der], text_mode=openssl.TEXT_MODE)
        assert merged.damage == ()
        assert merged.repaired == () or openssl.TEXT_MODE  # one of its bytes may be a Ctrl-Z
        content = merged.data
    assert parse(content).fingerprints == {fingerprint(P.third), fingerprint(P.other)}
    assert openssl.load_bytes(content).certificates == 2


# --- removing -------------------------------------------------------------------------------------


def test_remove_cuts_every_copy_under_every_label() -> None:
    content = RIGHT + OTHER + pem(P.right, "X509 CERTIFICATE") + b"# end\n" + RIGHT[:-1]
    removed = remove(content, {fingerprint(P.right)})
    assert removed.data == OTHER + b"# end\n"
    assert removed.removed == (fingerprint(P.right),) * 3


def test_remove_of_something_else_changes_nothing() -> None:
    assert remove(RIGHT, {fingerprint(P.other)}) == merging.Removed(RIGHT)


def test_remove_takes_our_newline_back_only_where_nothing_else_changed() -> None:
    before = b"# no newline"
    merged = merge(before, [P.right])
    ours = {fingerprint(P.right)}
    assert remove(merged.data, ours, before=before).data == before
    assert remove(merged.data, ours).data == before + b"\n"
    assert remove(merged.data + b"# x\n", ours, before=before).data == before + b"\n# x\n"


def test_remove_never_glues_neighbours() -> None:
    long_line = b"x" * 254
    content = long_line + RIGHT + OTHER
    assert parse(content).fingerprints == {fingerprint(P.right), fingerprint(P.other)}
    assert remove(content, {fingerprint(P.right)}).data == long_line + b"\n" + OTHER


# --- sources --------------------------------------------------------------------------------------


def test_a_source_may_be_one_der_certificate_or_hold_none() -> None:
    assert certificates_in(P.right) == (P.right,)
    assert certificates_in(b"<html>sign in</html>") == ()
    assert certificates_in(b"") == ()
    assert certificates_in(P.right[:-1]) == ()
    assert certificates_in(RIGHT + RIGHT + OTHER) == (P.right, P.other)


def test_trust_settings_of_a_source_are_not_part_of_its_certificate() -> None:
    source = pem(P.right + trust(rejected=SERVER_AUTH), "TRUSTED CERTIFICATE")
    assert certificates_in(source) == (P.right,)


def _key_forms() -> list[tuple[str, bytes]]:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
        pkcs12,
    )

    key = ec.generate_private_key(ec.SECP256R1())
    secret = BestAvailableEncryption(b"secret")
    forms = {
        "PKCS #8": (PrivateFormat.PKCS8, NoEncryption()),
        "SEC 1": (PrivateFormat.TraditionalOpenSSL, NoEncryption()),
        "encrypted PKCS #8": (PrivateFormat.PKCS8, secret),
    }
    found = [
        (f"{name} in {where}", key.private_bytes(encoding, form, encryption))
        for name, (form, encryption) in forms.items()
        for where, encoding in (("PEM", Encoding.PEM), ("DER", Encoding.DER))
    ]
    found.append(
        ("PKCS #12", pkcs12.serialize_key_and_certificates(None, key, None, None, NoEncryption()))
    )
    openssh = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    return [*found, ("OpenSSH", openssh)]


@pytest.mark.parametrize("source", [pytest.param(form, id=name) for name, form in _key_forms()])
def test_a_private_key_is_recognised_in_every_form(source: bytes) -> None:
    assert holds_private_key(source)


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(P.right, id="certificate in DER"),
        pytest.param(RIGHT, id="certificate"),
        pytest.param(P.crl, id="revocation list in DER"),
        pytest.param(P.pkcs7_der, id="PKCS 7 in DER"),
        pytest.param(b"-----BEGIN PUBLIC KEY-----\n", id="public key"),
        pytest.param(b"about a PRIVATE KEY\n", id="prose"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_is_no_private_key_is_not_taken_for_one(source: bytes) -> None:
    assert not holds_private_key(source)
