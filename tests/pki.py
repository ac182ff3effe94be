"""A PKI for tests: authorities, server certificates and revocation lists, right and wrong ones.

Everything is a function of its arguments and of the day: EC keys are derived from a label, so the
same call gives the same key and serial number; only signatures (and RSA keys) are random.  Valid
certificates began `DAY - 1 day`; none of this touches the disk.

    root = Authority.root("Test Root")
    issuing = root.intermediate("Test Issuing CA")
    leaf = issuing.leaf(dns=["db.test"])
    issuing.chain(leaf)     what a server sends: leaf and intermediates, without the root
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import cache
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

DAY = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
"""Midnight (UTC) of the day on which the tests began."""

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def ec_key(label: str) -> ec.EllipticCurvePrivateKey:
    """The P-256 key that belongs to a label: always the same one."""
    number = int.from_bytes(hashlib.sha256(label.encode()).digest(), "big")
    return ec.derive_private_key(number % (_P256_ORDER - 1) + 1, ec.SECP256R1())


@cache
def rsa_key(bits: int = 2048, label: str = "") -> rsa.RSAPrivateKey:
    """An RSA key, one per size and label and session.  1024 bits is the weak one."""
    return rsa.generate_private_key(65537, bits)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate, with the key that it certifies where the bench holds it."""

    der: bytes
    key_pem: bytes = field(default=b"", repr=False)

    @property
    def pem(self) -> bytes:
        return self.x509.public_bytes(serialization.Encoding.PEM)

    @property
    def sha256(self) -> str:
        """Lower-case hex, of the DER bytes."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def x509(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(self.der)


def key_usage(*names: str) -> x509.KeyUsage:
    """A key usage extension in which exactly the named bits are set."""
    every = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    unknown = set(names) - set(every)
    if unknown:
        raise ValueError(f"no such key usage: {unknown}")
    return x509.KeyUsage(**{name: name in names for name in every})


CA_USAGE = key_usage("key_cert_sign", "crl_sign")
LEAF_USAGE = key_usage("digital_signature", "key_encipherment")
SERVER_AUTH = (ExtendedKeyUsageOID.SERVER_AUTH,)
CLIENT_AUTH = (ExtendedKeyUsageOID.CLIENT_AUTH,)


def subject(common_name: str | Sequence[str] | None, organization: str | None = None) -> x509.Name:
    """A distinguished name: no, one or several common names."""
    names = [common_name] if isinstance(common_name, str) else list(common_name or ())
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names]
    if organization is not None:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)


def _certificate(
    name: x509.Name,
    key: Key,
    issuer_name: x509.Name,
    issuer_key: Key,
    *,
    serial: int | None,
    not_before: datetime | None,
    not_after: datetime | None,
    sha1: bool,
    extensions: Iterable[tuple[x509.ExtensionType, bool] | None],
    key_identifiers: bool,
) -> Certificate:
    """Sign one certificate.  *key_identifiers*: with subject and authority key identifiers.

    Without them OpenSSL cannot tell an impostor from the real issuer by identifier, so that it
    comes to compare signatures.
    """
    begins = not_before or DAY - timedelta(days=1)
    ends = not_after or DAY + timedelta(days=90)
    public = key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer_name)
        .public_key(public)
        .serial_number(serial or _serial(name, public, issuer_name, begins, ends))
        .not_valid_before(begins)
        .not_valid_after(ends)
    )
    for entry in extensions:
        if entry is not None:
            builder = builder.add_extension(entry[0], critical=entry[1])
    if key_identifiers:
        builder = builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(public), critical=False
        ).add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    signed = builder.sign(issuer_key, hashes.SHA256())
    der = signed.public_bytes(serialization.Encoding.DER)
    return Certificate(_signed_with_sha1(signed, issuer_key) if sha1 else der, _key_pem(key))


# AlgorithmIdentifier with SHA-256 and with SHA-1: RFC 5758 §3.2 and RFC 3279 §2.2.3 (EC),
# RFC 4055 §5 and RFC 3279 §2.2.1 (RSA).
_EC_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_EC_SHA1 = bytes.fromhex("300906072a8648ce3d0401")
_RSA_SHA256 = bytes.fromhex("300d06092a864886f70d01010b0500")
_RSA_SHA1 = bytes.fromhex("300d06092a864886f70d0101050500")


def _signed_with_sha1(certificate: x509.Certificate, issuer_key: Key) -> bytes:
    """DER of the same certificate under a SHA-1 signature, which `cryptography` refuses to make."""
    ec_signs = isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    modern, dated = (_EC_SHA256, _EC_SHA1) if ec_signs else (_RSA_SHA256, _RSA_SHA1)
    body = certificate.tbs_certificate_bytes
    # The first occurrence is the field `signature`; only version and serial number precede it.
    content = body[2 + (body[1] & 0x7F if body[1] & 0x80 else 0) :].replace(modern, dated, 1)
    to_sign = _der(0x30, content)
    if isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        signature = issuer_key.sign(to_sign, ec.ECDSA(hashes.SHA1()))
    else:
        signature = issuer_key.sign(to_sign, padding.PKCS1v15(), hashes.SHA1())
    return _der(0x30, to_sign + dated + _der(0x03, b"\0" + signature))


def _der(tag: int, content: bytes) -> bytes:
    """One DER element (X.690 §8.1.3: the definite form of the length)."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def _serial(
    name: x509.Name,
    public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    issuer_name: x509.Name,
    begins: datetime,
    ends: datetime,
) -> int:
    """A serial number from what the certificate says; positive and at most 20 octets (RFC 5280)."""
    spki = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    said = b"|".join(
        (name.public_bytes(), spki, issuer_name.public_bytes(), f"{begins}{ends}".encode())
    )
    return int.from_bytes(hashlib.sha256(said).digest()[:16], "big") + 1


def _key_pem(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority: a root, or an intermediate with the authority that issued it."""

    certificate: Certificate
    name: x509.Name
    key: Key = field(repr=False)
    issuer: Authority | None = None

    @classmethod
    def root(
        cls,
        common_name: str = "Test Root",
        *,
        key: Key | None = None,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        ca: bool | None = True,
        pathlen: int | None = None,
        usage: x509.KeyUsage | None = CA_USAGE,
        sha1: bool = False,
        key_identifiers: bool = True,
    ) -> Authority:
        """A self-signed trust anchor.  *ca* None: without basic constraints, as X.509 v1 had it."""
        own = key or ec_key(f"authority:{common_name}")
        name = subject(common_name, "qs-certs tests")
        certificate = _certificate(
            name,
            own,
            name,
            own,
            serial=None,
            not_before=not_before,
            not_after=not_after or DAY + timedelta(days=3650),
            sha1=sha1,
            extensions=(_basic(ca, pathlen), _usage(usage)),
            key_identifiers=key_identifiers,
        )
        return cls(certificate, name, own)

    def impostor(self) -> Authority:
        """A root of the same name with another key."""
        return self._self_signed(
            ec_key(f"impostor:{self.certificate.x509.serial_number}"), None, None
        )

    def renewed(self, not_before: datetime, not_after: datetime) -> Authority:
        """A root of the same name and key with other dates: an expired copy, a successor."""
        return self._self_signed(self.key, not_before, not_after)

    def _self_signed(
        self, key: Key, not_before: datetime | None, not_after: datetime | None
    ) -> Authority:
        certificate = _certificate(
            self.name,
            key,
            self.name,
            key,
            serial=None,
            not_before=not_before,
            not_after=not_after or DAY + timedelta(days=3650),
            sha1=False,
            extensions=(_basic(True, None), _usage(CA_USAGE)),
            key_identifiers=True,
        )
        return Authority(certificate, self.name, key)

    def cross_sign(
        self,
        other: Authority,
        *,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> Certificate:
        """*other*'s name and key, certified by this authority: a bridge between two roots."""
        return _certificate(
            other.name,
            other.key,
            self.name,
            self.key,
            serial=None,
            not_before=not_before,
            not_after=not_after or DAY + timedelta(days=1825),
            sha1=False,
            extensions=(_basic(True, None), _usage(CA_USAGE)),
            key_identifiers=True,
        )

    def intermediate(
        self,
        common_name: str = "Test Issuing CA",
        *,
        key: Key | None = None,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        ca: bool | None = True,
        pathlen: int | None = None,
        usage: x509.KeyUsage | None = CA_USAGE,
        extended_usage: Sequence[ObjectIdentifier] = (),
        permitted: Sequence[x509.GeneralName] = (),
        excluded: Sequence[x509.GeneralName] = (),
        sha1: bool = False,
        key_identifiers: bool = True,
    ) -> Authority:
        """An authority under this one.  *permitted* and *excluded* are name constraints."""
        own = key or ec_key(f"authority:{common_name}")
        name = subject(common_name, "qs-certs tests")
        constraints = (
            x509.NameConstraints(permitted or None, excluded or None)
            if (permitted or excluded)
            else None
        )
        certificate = _certificate(
            name,
            own,
            self.name,
            self.key,
            serial=None,
            not_before=not_before,
            not_after=not_after or DAY + timedelta(days=1825),
            sha1=sha1,
            extensions=(
                _basic(ca, pathlen),
                _usage(usage),
                _extended(extended_usage),
                (constraints, True) if constraints else None,
            ),
            key_identifiers=key_identifiers,
        )
        return Authority(certificate, name, own, self)

    def leaf(
        self,
        *,
        dns: Sequence[str] = (),
        ips: Sequence[str] = (),
        san: Sequence[x509.GeneralName] = (),
        common_name: str | Sequence[str] | None = None,
        key: Key | None = None,
        serial: int | None = None,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        ca: bool | None = False,
        usage: x509.KeyUsage | None = LEAF_USAGE,
        extended_usage: Sequence[ObjectIdentifier] = SERVER_AUTH,
        sha1: bool = False,
        key_identifiers: bool = True,
    ) -> Certificate:
        """A server's certificate.

        The subject alternative names are *dns*, *ips* and *san* (any other kind), in this order;
        with none of them the extension is absent.  *ca* None leaves out the basic constraints.
        """
        names = _alternative_names(dns, ips, san)
        return _certificate(
            subject(common_name),
            key or ec_key(f"leaf:{common_name}:{names}"),
            self.name,
            self.key,
            serial=serial,
            not_before=not_before,
            not_after=not_after,
            sha1=sha1,
            extensions=_leaf_extensions(names, common_name, ca, usage, extended_usage),
            key_identifiers=key_identifiers,
        )

    def chain(self, leaf: Certificate, *, with_root: bool = False) -> bytes:
        """PEM of what a server sends: the leaf, then each intermediate; the root if asked for."""
        certificates = [leaf]
        authority: Authority | None = self
        while authority is not None:
            if authority.issuer is not None or with_root:
                certificates.append(authority.certificate)
            authority = authority.issuer
        return b"".join(certificate.pem for certificate in certificates)

    def crl(
        self,
        revoked: Iterable[Certificate] = (),
        *,
        last_update: datetime | None = None,
        next_update: datetime | None = None,
    ) -> bytes:
        """A revocation list of this authority, as PEM.  One with a past *next_update* is expired."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update(last_update or DAY - timedelta(days=1))
            .next_update(next_update or DAY + timedelta(days=30))
            .add_extension(x509.CRLNumber(1), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
        )
        for certificate in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(certificate.x509.serial_number)
                .revocation_date(DAY - timedelta(days=1))
                .build()
            )
        signed = builder.sign(self.key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)


def self_signed(
    *,
    dns: Sequence[str] = (),
    ips: Sequence[str] = (),
    common_name: str | Sequence[str] | None = None,
    key: Key | None = None,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    ca: bool | None = False,
    usage: x509.KeyUsage | None = LEAF_USAGE,
    extended_usage: Sequence[ObjectIdentifier] = SERVER_AUTH,
) -> Certificate:
    """A server's certificate that nobody but itself vouches for."""
    names = _alternative_names(dns, ips, ())
    own = key or ec_key(f"self-signed:{common_name}:{names}")
    name = subject(common_name)
    return _certificate(
        name,
        own,
        name,
        own,
        serial=None,
        not_before=not_before,
        not_after=not_after,
        sha1=False,
        extensions=_leaf_extensions(names, common_name, ca, usage, extended_usage),
        key_identifiers=True,
    )


def _alternative_names(
    dns: Sequence[str], ips: Sequence[str], san: Sequence[x509.GeneralName]
) -> list[x509.GeneralName]:
    addresses = [x509.IPAddress(ip_address(ip)) for ip in ips]
    return [*(x509.DNSName(name) for name in dns), *addresses, *san]


def _leaf_extensions(
    names: list[x509.GeneralName],
    common_name: str | Sequence[str] | None,
    ca: bool | None,
    usage: x509.KeyUsage | None,
    extended_usage: Sequence[ObjectIdentifier],
) -> list[tuple[x509.ExtensionType, bool] | None]:
    # RFC 5280 §4.2.1.6: the extension is critical exactly where the subject is empty.
    names_entry = (x509.SubjectAlternativeName(names), not common_name) if names else None
    return [names_entry, _basic(ca, None), _usage(usage), _extended(extended_usage)]


def _basic(ca: bool | None, pathlen: int | None) -> tuple[x509.ExtensionType, bool] | None:
    return None if ca is None else (x509.BasicConstraints(ca, pathlen), True)


def _usage(usage: x509.KeyUsage | None) -> tuple[x509.ExtensionType, bool] | None:
    return None if usage is None else (usage, True)


def _extended(purposes: Sequence[ObjectIdentifier]) -> tuple[x509.ExtensionType, bool] | None:
    return (x509.ExtendedKeyUsage(purposes), False) if purposes else None
