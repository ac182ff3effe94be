"""The catalogue against the certificates themselves, from two bundles that we did not make."""

from __future__ import annotations

import hashlib
import re
import ssl
import subprocess
import sys
import warnings
from datetime import timezone
from pathlib import Path
from urllib.parse import unquote, urlsplit

import certifi
import pytest
from cryptography import x509

import qs_certs
from qs_certs import catalogue
from qs_certs.catalogue import ROOTS, Root

CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
BUNDLES = {
    "certifi": Path(certifi.where()),
    "debian": Path("/etc/ssl/certs/ca-certificates.crt"),
}
EMBEDDED = Path(qs_certs.__file__).parent / "roots"
G2 = ROOTS[catalogue.DEFAULT]

every_root = pytest.mark.parametrize("root", ROOTS.values(), ids=ROOTS.keys())


def _certificates(pem: str) -> list[bytes]:
    return [ssl.PEM_cert_to_DER_cert(block) for block in CERTIFICATE.findall(pem)]


def _bundle(name: str) -> dict[str, bytes]:
    """The DER of a bundle's certificates by subject's common name."""
    path = BUNDLES[name]
    if not path.exists():
        pytest.skip(f"this machine has no {path}")
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # foreign roots with odd serial numbers
        for der in _certificates(path.read_text(encoding="utf-8")):
            names = x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(
                x509.NameOID.COMMON_NAME
            )
            found.update({str(name.value): der for name in names})
    return found


def _common_name(root: Root) -> str:
    return root.subject.removeprefix("CN=").partition(",")[0]


def _read(der: bytes, known: Root) -> Root:
    """The catalogue's entry as the certificate itself has it; the rest is copied from *known*."""
    certificate = x509.load_der_x509_certificate(der)
    return Root(
        name=known.name,
        subject=certificate.subject.rfc4514_string(),
        sha256=hashlib.sha256(der).hexdigest(),
        sha1=hashlib.sha1(der).hexdigest(),
        serial=f"{certificate.serial_number:032X}",
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        distrust_after=known.distrust_after,
        url=known.url,
        needed_by=known.needed_by,
    )


def test_at_least_one_independent_bundle_is_on_this_machine() -> None:
    assert any(path.exists() for path in BUNDLES.values())


@every_root
@pytest.mark.parametrize("bundle", BUNDLES)
def test_every_value_is_that_of_the_certificate_in_an_independent_bundle(
    root: Root, bundle: str
) -> None:
    assert _read(_bundle(bundle)[_common_name(root)], root) == root


@every_root
def test_the_embedded_certificate_is_the_catalogue_s(root: Root) -> None:
    (der,) = _certificates((EMBEDDED / f"{root.name}.pem").read_text(encoding="ascii"))
    assert _read(der, root) == root


@every_root
def test_the_embedded_file_is_one_clean_pem_block(root: Root) -> None:
    raw = (EMBEDDED / f"{root.name}.pem").read_bytes()
    assert raw == ssl.DER_cert_to_PEM_cert(_certificates(raw.decode("ascii"))[0]).encode("ascii")


def test_there_is_no_embedded_file_without_a_catalogue_entry() -> None:
    assert {path.name for path in EMBEDDED.iterdir()} == {f"{name}.pem" for name in ROOTS}


@every_root
def test_a_changed_byte_is_noticed(root: Root) -> None:
    der = bytearray(_certificates((EMBEDDED / f"{root.name}.pem").read_text(encoding="ascii"))[0])
    der[-1] ^= 1  # in the signature: everything that can be read still reads the same
    changed = _read(bytes(der), root)
    assert changed.subject == root.subject
    assert (changed.sha256, changed.sha1) != (root.sha256, root.sha1)
    assert catalogue.by_fingerprint(changed.sha256) is None


@every_root
def test_the_root_is_a_self_signed_ca(root: Root) -> None:
    pem = (EMBEDDED / f"{root.name}.pem").read_bytes()
    certificate = x509.load_pem_x509_certificate(pem)
    certificate.verify_directly_issued_by(certificate)
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@every_root
def test_dates_are_aware_utc_and_in_order(root: Root) -> None:
    assert root.not_before.tzinfo is timezone.utc
    assert root.not_after.tzinfo is timezone.utc
    if root.distrust_after is not None:
        assert root.distrust_after.tzinfo is timezone.utc
        assert root.not_before < root.distrust_after < root.not_after


def test_distrust_dates_are_the_published_ones() -> None:
    published = {
        name: f"{root.distrust_after:%Y-%m-%d}"
        for name, root in ROOTS.items()
        if root.distrust_after is not None
    }
    assert published == {
        "digicert-global-root-g2": "2029-04-15",
        "digicert-tls-rsa4096-root-g5": "2036-01-15",
    }


PUBLISHERS = {
    "DigiCert Inc": "cacerts.digicert.com",
    "DigiCert, Inc.": "cacerts.digicert.com",
    "Microsoft Corporation": "www.microsoft.com",
}


@every_root
def test_the_address_is_the_publisher_s_and_of_this_certificate(root: Root) -> None:
    """Both publishers name the file as the certificate's subject is named.

    What lies there is for scripts/pins.py to say, which asks the network.
    """
    pem = (EMBEDDED / f"{root.name}.pem").read_bytes()
    subject = x509.load_pem_x509_certificate(pem).subject
    (publisher,) = subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)
    address = urlsplit(root.url)
    assert (address.scheme, address.netloc) == ("https", PUBLISHERS[str(publisher.value)])
    file = Path(unquote(address.path)).name.removesuffix(".pem")
    assert file.replace(" ", "") == f"{_common_name(root)}.crt".replace(" ", "")


def test_each_service_needs_the_roots_that_its_documentation_names() -> None:
    published = {
        # experience-platform: query-service/clients/ssl-modes.md
        "Adobe Experience Platform Query Service": {"digicert-global-root-g2"},
        # azure-docs: postgresql/security/security-tls.md
        "Azure Database for PostgreSQL": {"digicert-global-root-g2", "microsoft-rsa-root-ca-2017"},
    }
    services = {service for root in ROOTS.values() for service in root.needed_by}
    assert published == {
        service: {name for name, root in ROOTS.items() if service in root.needed_by}
        for service in services
    }


def test_the_default_comes_first() -> None:
    assert next(iter(ROOTS)) == catalogue.DEFAULT


@pytest.mark.parametrize("name", [*catalogue.RETIRED, *catalogue.NEIGHBOURS])
def test_recognised_roots_are_named_but_cannot_be_installed(name: str) -> None:
    sha256 = {**catalogue.RETIRED, **catalogue.NEIGHBOURS}[name]
    assert catalogue.name_of(sha256) == name
    assert catalogue.by_fingerprint(sha256) is None
    assert catalogue.find(name) is None
    assert catalogue.find(sha256) is None


@pytest.mark.parametrize(
    ("common_name", "name"),
    [
        ("DigiCert Global Root CA", "digicert-global-root-ca"),
        ("Microsoft ECC Root Certificate Authority 2017", "microsoft-ecc-root-ca-2017"),
        ("ISRG Root X1", "isrg-root-x1"),
        ("ISRG Root X2", "isrg-root-x2"),
        ("Amazon Root CA 1", "amazon-root-ca-1"),
        ("DigiCert Assured ID Root CA", "digicert-assured-id-root-ca"),
        ("DigiCert High Assurance EV Root CA", "digicert-high-assurance-ev-root-ca"),
        ("DigiCert Trusted Root G4", "digicert-trusted-root-g4"),
        ("Baltimore CyberTrust Root", "baltimore-cybertrust-root"),
        ("DigiCert Assured ID Root G2", None),
    ],
)
def test_a_neighbour_in_a_real_bundle_is_recognised(common_name: str, name: str | None) -> None:
    """certifi drops retired roots, so one bundle that still holds it is enough."""
    held = [der for each in BUNDLES if (der := _bundle(each).get(common_name)) is not None]
    assert held
    assert {catalogue.name_of(hashlib.sha256(der).hexdigest()) for der in held} == {name}


COLONS = ":".join(re.findall("..", G2.sha256.upper()))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(G2.name, id="name"),
        pytest.param("DigiCert-Global-Root-G2", id="name in another case"),
        pytest.param(G2.sha256, id="fingerprint"),
        pytest.param(G2.sha256.upper(), id="fingerprint in upper case"),
        pytest.param(COLONS, id="fingerprint with colons"),
        pytest.param(f"  {COLONS.replace(':', ' ')}\n", id="fingerprint with spaces"),
    ],
)
def test_a_root_is_found_by_any_spelling(text: str) -> None:
    assert catalogue.find(text) is G2


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("digicert", id="part of a name"),
        pytest.param(G2.sha1, id="SHA-1"),
        pytest.param(G2.sha256[:-1], id="a digit short"),
        pytest.param(G2.sha256 + "0", id="a digit long"),
        pytest.param(G2.sha256[:-1] + "g", id="not hex"),
        pytest.param("\N{FULLWIDTH DIGIT ONE}" * 64, id="digits that are not ASCII"),
    ],
)
def test_what_is_no_root_is_not_found(text: str) -> None:
    assert catalogue.find(text) is None
    assert catalogue.fingerprint(text) is None


def test_a_fingerprint_of_an_unknown_certificate_is_still_a_fingerprint() -> None:
    assert catalogue.fingerprint("AB:" * 31 + "AB") == "ab" * 32
    assert catalogue.find("ab" * 32) is None


def test_importing_the_catalogue_loads_nothing_heavy() -> None:
    code = "import sys; from qs_certs import catalogue; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(qs_certs.__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "qs_certs.catalogue" in loaded
    assert not {"ssl", "hashlib", "requests", "certifi", "cryptography"} & set(loaded)
