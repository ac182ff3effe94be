"""The 65 contents of a root file whose outcome in libpq is known, each built as bytes.

*right* is the root over the server's chain (root, intermediate, leaf; the server sends the last
two), *other* an unrelated root, *third* one that no shape holds.
"""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs7,
)
from cryptography.x509.oid import NameOID

NOW = datetime.now(timezone.utc).replace(microsecond=0)
HOST = "db.example.test"

# Object identifiers of extended key usages, each as a DER element.
SERVER_AUTH = bytes.fromhex("06082b06010505070301")
EMAIL = bytes.fromhex("06082b06010505070304")
ANY_USAGE = bytes.fromhex("0604551d2500")


def pem(der: bytes, label: str = "CERTIFICATE") -> bytes:
    """One PEM block as OpenSSL writes it: 64 columns, LF."""
    text = base64.b64encode(der).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", "")).encode()


def deeply_damaged(der: bytes) -> bytes:
    """*der* with its outermost elements in order, and OpenSSL refuses it nevertheless."""
    at = der.index(b"\x06\x03\x55\x04\x03")  # the OID of the common name becomes a string
    return der[:at] + b"\x1f" + der[at + 1 :]


def tlv(tag: int, content: bytes) -> bytes:
    """A DER element with content of less than 128 bytes."""
    assert len(content) < 128
    return bytes((tag, len(content))) + content


def trust(*, trusted: bytes | None = None, rejected: bytes | None = None) -> bytes:
    """The trust settings of a TRUSTED CERTIFICATE (X509_CERT_AUX) with these OIDs."""
    lists = b"" if trusted is None else tlv(0x30, trusted)
    return tlv(0x30, lists + (b"" if rejected is None else tlv(0xA0, rejected)))


@dataclass(frozen=True, slots=True)
class Pki:
    """Certificates in DER; keys in PEM (PKCS #8)."""

    right: bytes
    other: bytes
    third: bytes
    intermediate: bytes
    leaf: bytes
    impostor: bytes
    cross: bytes
    expired_right: bytes
    expired_other: bytes
    key: bytes
    leaf_key: bytes
    crl: bytes
    pkcs7_der: bytes


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    ca: bool = True,
    expired: bool = False,
) -> x509.Certificate:
    end = NOW - timedelta(days=1) if expired else NOW + timedelta(days=365)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=700))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        # Without key identifiers OpenSSL cannot tell the impostor of row 57 from the right root.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    if not ca:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False
        )
    return builder.sign(issuer_key, hashes.SHA256())


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


@lru_cache(maxsize=1)
def pki() -> Pki:
    """The certificates of all shapes; made once per process."""
    root, other, third, middle, leaf, stranger = (
        ec.generate_private_key(ec.SECP256R1()) for _ in range(6)
    )
    right = _certificate("Right Root", root, "Right Root", root)
    other_root = _certificate("Other Root", other, "Other Root", other)
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(other_root.subject)
        .last_update(NOW - timedelta(days=1))
        .next_update(NOW + timedelta(days=300))
        .sign(other, hashes.SHA256())
    )
    return Pki(
        right=_der(right),
        other=_der(other_root),
        third=_der(_certificate("Third Root", third, "Third Root", third)),
        intermediate=_der(_certificate("Intermediate", middle, "Right Root", root)),
        leaf=_der(_certificate(HOST, leaf, "Intermediate", middle, ca=False)),
        impostor=_der(_certificate("Right Root", stranger, "Right Root", stranger)),
        cross=_der(_certificate("Right Root", root, "Other Root", other)),
        expired_right=_der(_certificate("Right Root", root, "Right Root", root, expired=True)),
        expired_other=_der(_certificate("Third Root", third, "Third Root", third, expired=True)),
        key=root.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        leaf_key=leaf.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        crl=crl.public_bytes(Encoding.DER),
        pkcs7_der=pkcs7.serialize_certificates([right], Encoding.DER),
    )


@dataclass(frozen=True, slots=True)
class Shape:
    """One content.  *mark* is its outcome in libpq with OpenSSL 3 and verify-full.

    "ok"; "N", "no certificate or crl found"; "V", it loads, but the server's chain does not
    verify; else libpq's reason not to load it.
    """

    number: int
    title: str
    build: Callable[[Pki], bytes]
    mark: str = "ok"

    @property
    def content(self) -> bytes:
        return self.build(pki())

    @property
    def loads(self) -> bool:
        return self.mark in ("ok", "V")

    @property
    def verifies(self) -> bool:
        return self.mark == "ok"


def lines_of(der: bytes) -> list[bytes]:
    return pem(der).splitlines()


def _bad_base64(der: bytes) -> bytes:
    lines = lines_of(der)
    lines[2] = b"!!!!not-base64!!!!"
    return b"\n".join(lines) + b"\n"


def _broken_der(der: bytes) -> bytes:
    return pem(der[: len(der) // 2])


def _truncated(der: bytes) -> bytes:
    return b"\n".join(lines_of(der)[:5]) + b"\n"


def _flipped_algorithm(der: bytes) -> bytes:
    """The outer signature algorithm altered: the self-signature is not checked (row 43)."""
    certificate = x509.load_der_x509_certificate(der)
    at = der.index(certificate.tbs_certificate_bytes) + len(certificate.tbs_certificate_bytes)
    oid_end = at + 2 + der[at + 1] - 1
    return pem(der[:oid_end] + bytes((der[oid_end] ^ 1,)) + der[oid_end + 1 :])


def _text_dump(der: bytes) -> bytes:
    return (
        subprocess.run(
            ["openssl", "x509", "-text", "-inform", "DER"],
            input=der,
            capture_output=True,
            check=True,
        ).stdout
        if _HAS_OPENSSL
        else b"Certificate:\n    Data:\n        Version: 3 (0x2)\n" + pem(der)
    )


def _has_openssl() -> bool:
    try:
        return (
            subprocess.run(["openssl", "version"], capture_output=True, check=False).returncode == 0
        )
    except OSError:
        return False


_HAS_OPENSSL = _has_openssl()

_HTML = b"<!DOCTYPE html>\n<html><head><title>Log in</title></head>\n<body>Please</body></html>\n"
_BOM = b"\xef\xbb\xbf"


def _utf16(text: bytes, *, mark: bool = False) -> bytes:
    return (b"\xff\xfe" if mark else b"") + text.decode().encode("utf-16-le")


def _indented(der: bytes) -> bytes:
    return b"".join(
        (b"    " if line.startswith(b"-----") else b"") + line + b"\n" for line in lines_of(der)
    )


def _one_line(der: bytes) -> bytes:
    first, *middle, last = lines_of(der)
    return b"\n".join((first, b"".join(middle), last, b""))


def _blank_inside(der: bytes) -> bytes:
    lines = lines_of(der)
    return b"\n".join((*lines[:3], b"", *lines[3:], b""))


SHAPES: list[Shape] = [
    Shape(1, "right", lambda p: pem(p.right)),
    Shape(2, "other, right", lambda p: pem(p.other) + pem(p.right)),
    Shape(3, "right, other", lambda p: pem(p.right) + pem(p.other)),
    Shape(4, "right twice", lambda p: pem(p.right) * 2),
    Shape(
        5,
        "comments and blank lines between blocks",
        lambda p: b"# ours\n\n" + pem(p.other) + b"\n# theirs\n\n" + pem(p.right) + b"\n",
    ),
    Shape(6, "openssl x509 -text", lambda p: _text_dump(p.right)),
    Shape(
        7,
        "non-ASCII comments",
        lambda p: b"# caf\xe9\n# " + "Zürich\n".encode() + pem(p.right),
    ),
    Shape(8, "CRLF", lambda p: pem(p.right).replace(b"\n", b"\r\n")),
    Shape(9, "LF, then CRLF", lambda p: pem(p.other) + pem(p.right).replace(b"\n", b"\r\n")),
    Shape(10, "CR only", lambda p: pem(p.right).replace(b"\n", b"\r"), "N"),
    Shape(11, "no final newline", lambda p: pem(p.right).rstrip(b"\n")),
    Shape(12, "other glued to right", lambda p: pem(p.other)[:-1] + pem(p.right), "bad end line"),
    Shape(13, "right glued to other", lambda p: pem(p.right)[:-1] + pem(p.other), "bad end line"),
    Shape(14, "indented BEGIN and END", lambda p: _indented(p.right), "N"),
    Shape(15, "trailing spaces", lambda p: pem(p.right).replace(b"\n", b"   \n")),
    Shape(16, "base64 on one long line", lambda p: _one_line(p.right)),
    Shape(17, "blank line inside base64", lambda p: _blank_inside(p.right), "not proc type"),
    Shape(18, "BOM, right", lambda p: _BOM + pem(p.right)),
    Shape(19, "BOM, right, other", lambda p: _BOM + pem(p.right) + pem(p.other)),
    Shape(20, "BOM, other, right", lambda p: _BOM + pem(p.other) + pem(p.right)),
    Shape(21, "other, BOM, right", lambda p: pem(p.other) + _BOM + pem(p.right)),
    Shape(22, "BOM and newline, right", lambda p: _BOM + b"\n" + pem(p.right)),
    Shape(23, "UTF-16 with BOM", lambda p: _utf16(pem(p.right), mark=True), "N"),
    Shape(24, "other, then right in UTF-16", lambda p: pem(p.other) + _utf16(pem(p.right)), "V"),
    Shape(
        25,
        "other in UTF-16, then right in ASCII",
        lambda p: _utf16(pem(p.other), mark=True) + pem(p.right),
        "N",
    ),
    Shape(26, "DER", lambda p: p.right, "N"),
    Shape(27, "other in PEM, right in DER", lambda p: pem(p.other) + p.right, "V"),
    Shape(28, "right in PEM, other in DER", lambda p: pem(p.right) + p.other),
    Shape(29, "PKCS #7 in PEM", lambda p: pem(p.pkcs7_der, "PKCS7"), "N"),
    Shape(30, "PKCS #7 in DER", lambda p: p.pkcs7_der, "N"),
    Shape(31, "TRUSTED, no settings", lambda p: pem(p.right, "TRUSTED CERTIFICATE")),
    Shape(
        32,
        "TRUSTED for servers",
        lambda p: pem(p.right + trust(trusted=SERVER_AUTH), "TRUSTED CERTIFICATE"),
    ),
    Shape(
        33,
        "TRUSTED, rejected for servers",
        lambda p: pem(p.right + trust(rejected=SERVER_AUTH), "TRUSTED CERTIFICATE"),
        "V",
    ),
    Shape(
        34,
        "TRUSTED for mail only",
        lambda p: pem(p.right + trust(trusted=EMAIL), "TRUSTED CERTIFICATE"),
        "V",
    ),
    Shape(35, "X509 CERTIFICATE", lambda p: pem(p.right, "X509 CERTIFICATE")),
    Shape(
        36,
        "bad base64, right",
        lambda p: _bad_base64(p.other) + pem(p.right),
        "bad base64 decode",
    ),
    Shape(
        37,
        "right, bad base64",
        lambda p: pem(p.right) + _bad_base64(p.other),
        "bad base64 decode",
    ),
    Shape(
        38,
        "right, bad base64, other",
        lambda p: pem(p.right) + _bad_base64(p.other) + pem(p.other),
        "bad base64 decode",
    ),
    Shape(39, "broken DER, right", lambda p: _broken_der(p.other) + pem(p.right), "too long"),
    Shape(40, "right, broken DER", lambda p: pem(p.right) + _broken_der(p.other), "too long"),
    Shape(41, "no END, right", lambda p: _truncated(p.other) + pem(p.right), "too long"),
    Shape(42, "right, no END", lambda p: pem(p.right) + _truncated(p.other), "bad end line"),
    Shape(43, "flipped signature algorithm", lambda p: _flipped_algorithm(p.right)),
    Shape(44, "private key, right", lambda p: p.key + pem(p.right)),
    Shape(45, "right, private key", lambda p: pem(p.right) + p.key),
    Shape(46, "private key only", lambda p: p.key, "N"),
    Shape(47, "empty", lambda p: b"", "N"),
    Shape(48, "comments only", lambda p: b"# nothing yet\n# really\n", "N"),
    Shape(49, "HTML", lambda p: _HTML, "N"),
    Shape(50, "HTML, right", lambda p: _HTML + pem(p.right)),
    Shape(51, "NUL, right", lambda p: b"\0" + pem(p.right), "N"),
    Shape(52, "literal \\n", lambda p: pem(p.right).replace(b"\n", b"\\n"), "N"),
    Shape(53, "expired unrelated root, right", lambda p: pem(p.expired_other) + pem(p.right)),
    Shape(54, "expired copy, right", lambda p: pem(p.expired_right) + pem(p.right)),
    Shape(55, "right, expired copy", lambda p: pem(p.right) + pem(p.expired_right)),
    Shape(56, "expired copy only", lambda p: pem(p.expired_right), "V"),
    Shape(57, "impostor, right", lambda p: pem(p.impostor) + pem(p.right)),
    Shape(58, "impostor only", lambda p: pem(p.impostor), "V"),
    Shape(59, "leaf only", lambda p: pem(p.leaf), "V"),
    Shape(60, "intermediate only", lambda p: pem(p.intermediate), "V"),
    Shape(61, "leaf, intermediate", lambda p: pem(p.leaf) + pem(p.intermediate), "V"),
    Shape(62, "intermediate, right", lambda p: pem(p.intermediate) + pem(p.right)),
    Shape(63, "cross-signed only", lambda p: pem(p.cross), "V"),
    Shape(64, "cross-signed, other", lambda p: pem(p.cross) + pem(p.other)),
    Shape(65, "200 times other, right", lambda p: pem(p.other) * 200 + pem(p.right)),
]
