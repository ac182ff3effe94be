"""Server chains, right and wrong ones, against libpq 15 to 18."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from qs_certs.libpq.outcomes import SSLMODES
from tests.oracle.conftest import WHOLE
from tests.oracle.judge import Case, Oracle
from tests.pki import CLIENT_AUTH, DAY, Authority, Certificate, key_usage, rsa_key, self_signed
from tests.postgres import Hba, Settings

pytestmark = [pytest.mark.libpq, pytest.mark.psql]

MODES = SSLMODES if WHOLE else ("prefer", "verify-full")
NAMES = ["localhost"]
YESTERDAY, TOMORROW = DAY - timedelta(days=1), DAY + timedelta(days=2)
LONG_AGO = DAY - timedelta(days=900)

RIGHT = Authority.root("Right Root")
OTHER = Authority.root("Other Root")
ISSUING = RIGHT.intermediate("Issuing CA")
LEAF = ISSUING.leaf(dns=NAMES)
OPENSSL_1 = frozenset(("libpq 15",))
"""Its wheel carries OpenSSL 1.1.1, whose security level 1 still takes weak keys and SHA-1."""


@dataclass(frozen=True, slots=True)
class Chain:
    """What a server sends, what the root file holds, and OpenSSL's verdict (0: verified)."""

    sent: bytes
    key: bytes
    root: bytes
    code: int
    lenient: frozenset[str] = frozenset()


def chain(
    leaf: Certificate,
    *sent: Certificate,
    root: tuple[Certificate, ...] = (RIGHT.certificate,),
    code: int = 0,
    lenient: frozenset[str] = frozenset(),
) -> Chain:
    pem = b"".join(certificate.pem for certificate in (leaf, *sent))
    anchors = b"".join(certificate.pem for certificate in root)
    return Chain(pem, leaf.key_pem, anchors, code, lenient)


def under(issuing: Authority, code: int = 0, lenient: frozenset[str] = frozenset()) -> Chain:
    """A good leaf of this intermediate, under the right root."""
    leaf = issuing.leaf(dns=NAMES)
    return chain(leaf, issuing.certificate, code=code, lenient=lenient)


def rooted(root: Authority, code: int = 0, lenient: frozenset[str] = frozenset()) -> Chain:
    """A good leaf directly under this root, which the root file holds."""
    return chain(root.leaf(dns=NAMES), root=(root.certificate,), code=code, lenient=lenient)


def _self_signed(code: int, *roots: Certificate, ca: bool = False) -> Chain:
    own = self_signed(dns=NAMES, ca=ca)
    return chain(own, root=roots or (own,), code=code)


def _two_intermediates(pathlen: int | None, code: int) -> Chain:
    upper = RIGHT.intermediate("Upper CA", pathlen=pathlen)
    lower = upper.intermediate("Lower CA")
    return chain(lower.leaf(dns=NAMES), lower.certificate, upper.certificate, code=code)


def _impostor_intermediate() -> Chain:
    """An intermediate of the right name that another root issued."""
    issuing = OTHER.intermediate("Issuing CA")
    return chain(issuing.leaf(dns=NAMES), issuing.certificate, code=20)


ISSUED, ROOT = ISSUING.certificate, RIGHT.certificate
EXPIRED_ROOT = RIGHT.renewed(LONG_AGO, YESTERDAY).certificate
BRIDGE = OTHER.cross_sign(RIGHT)
IMPOSTOR = RIGHT.impostor().certificate

CHAINS: dict[str, Callable[[], Chain]] = {
    "right": lambda: chain(LEAF, ISSUED),
    "right, directly under the root": lambda: rooted(RIGHT),
    "right, RSA": lambda: rooted(Authority.root("RSA Root", key=rsa_key())),
    "right, the root sent too": lambda: chain(LEAF, ISSUED, ROOT),
    "right, out of order": lambda: chain(LEAF, ROOT, ISSUED),
    "right, with a stranger among them": lambda: chain(LEAF, OTHER.certificate, ISSUED),
    "right, without key identifiers": lambda: under(
        RIGHT.intermediate("Plain CA", key_identifiers=False)
    ),
    "unknown root": lambda: chain(LEAF, ISSUED, root=(OTHER.certificate,), code=20),
    "unknown root, sent too": lambda: chain(LEAF, ISSUED, ROOT, root=(OTHER.certificate,), code=19),
    "impostor of the root in the file": lambda: chain(LEAF, ISSUED, root=(IMPOSTOR,), code=20),
    "impostor of the root before the root": lambda: chain(LEAF, ISSUED, root=(IMPOSTOR, ROOT)),
    "impostor of the root after the root": lambda: chain(LEAF, ISSUED, root=(ROOT, IMPOSTOR)),
    "impostor of the intermediate": _impostor_intermediate,
    "leaf expired": lambda: chain(
        ISSUING.leaf(dns=NAMES, not_before=LONG_AGO, not_after=YESTERDAY), ISSUED, code=10
    ),
    "leaf not yet valid": lambda: chain(
        ISSUING.leaf(dns=NAMES, not_before=TOMORROW), ISSUED, code=9
    ),
    "intermediate expired": lambda: under(
        RIGHT.intermediate("Old CA", not_before=LONG_AGO, not_after=YESTERDAY), 10
    ),
    "intermediate not yet valid": lambda: under(
        RIGHT.intermediate("Young CA", not_before=TOMORROW), 9
    ),
    "root expired": lambda: chain(LEAF, ISSUED, root=(EXPIRED_ROOT,), code=10),
    "root expired, its successor after it": lambda: chain(LEAF, ISSUED, root=(EXPIRED_ROOT, ROOT)),
    "root expired, its successor before it": lambda: chain(LEAF, ISSUED, root=(ROOT, EXPIRED_ROOT)),
    "root not yet valid": lambda: chain(
        LEAF, ISSUED, root=(RIGHT.renewed(TOMORROW, DAY + timedelta(99)).certificate,), code=9
    ),
    "intermediate missing": lambda: chain(LEAF, code=20),
    "intermediate missing, in the root file": lambda: chain(LEAF, root=(ISSUED, ROOT)),
    "intermediate alone in the root file": lambda: chain(LEAF, ISSUED, root=(ISSUED,), code=2),
    "leaf alone in the root file": lambda: chain(LEAF, ISSUED, root=(LEAF,), code=20),
    "leaf and intermediate in the root file": lambda: chain(
        LEAF, ISSUED, root=(LEAF, ISSUED), code=2
    ),
    "self-signed": lambda: _self_signed(18, ROOT),
    "self-signed, in the root file": lambda: _self_signed(0),
    "self-signed CA, in the root file": lambda: _self_signed(0, ca=True),
    "cross-signed, the older root": lambda: chain(LEAF, ISSUED, BRIDGE, root=(OTHER.certificate,)),
    "cross-signed, the newer root": lambda: chain(LEAF, ISSUED, BRIDGE),
    "cross-signed, both roots": lambda: chain(LEAF, ISSUED, BRIDGE, root=(OTHER.certificate, ROOT)),
    "bridge alone in the root file": lambda: chain(LEAF, ISSUED, root=(BRIDGE,), code=2),
    "bridge and older root in the root file": lambda: chain(
        LEAF, ISSUED, root=(BRIDGE, OTHER.certificate)
    ),
    "for clients only": lambda: chain(
        ISSUING.leaf(dns=NAMES, extended_usage=CLIENT_AUTH), ISSUED, code=26
    ),
    "without extended key usage": lambda: chain(ISSUING.leaf(dns=NAMES, extended_usage=()), ISSUED),
    "without key usage": lambda: chain(ISSUING.leaf(dns=NAMES, usage=None), ISSUED),
    "leaf's key usage wrong": lambda: chain(
        ISSUING.leaf(dns=NAMES, usage=key_usage("crl_sign")), ISSUED, code=26
    ),
    "leaf is a CA": lambda: chain(ISSUING.leaf(dns=NAMES, ca=True), ISSUED),
    "intermediate is no CA": lambda: under(RIGHT.intermediate("No CA", ca=False), 79),
    "intermediate without basic constraints": lambda: under(
        RIGHT.intermediate("Unconstrained CA", ca=None), 79
    ),
    "intermediate may not sign certificates": lambda: under(
        RIGHT.intermediate("Mute CA", usage=key_usage("crl_sign")), 79
    ),
    "intermediate for clients only": lambda: under(
        RIGHT.intermediate("Clients' CA", extended_usage=CLIENT_AUTH), 26
    ),
    "path within its length": lambda: _two_intermediates(1, 0),
    "path too long": lambda: _two_intermediates(0, 25),
    "root without basic constraints": lambda: rooted(Authority.root("V1 Root", ca=None)),
    "root is no CA": lambda: rooted(Authority.root("No Root", ca=False), 79),
    "root may not sign certificates": lambda: rooted(
        Authority.root("Mute Root", usage=key_usage("crl_sign")), 79
    ),
    "name within the constraints": lambda: under(
        RIGHT.intermediate("Local CA", permitted=[x509.DNSName("localhost")])
    ),
    "name outside the constraints": lambda: under(
        RIGHT.intermediate("Foreign CA", permitted=[x509.DNSName("example.test")]), 47
    ),
    "name excluded": lambda: under(
        RIGHT.intermediate("Excluding CA", excluded=[x509.DNSName("localhost")]), 48
    ),
    "leaf's key weak": lambda: chain(
        ISSUING.leaf(dns=NAMES, key=rsa_key(1024)), ISSUED, code=66, lenient=OPENSSL_1
    ),
    "intermediate's key weak": lambda: under(
        RIGHT.intermediate("Weak CA", key=rsa_key(1024)), 67, OPENSSL_1
    ),
    "root's key weak": lambda: rooted(
        Authority.root("Weak Root", key=rsa_key(1024)), 67, OPENSSL_1
    ),
    "leaf signed with SHA-1": lambda: chain(
        ISSUING.leaf(dns=NAMES, sha1=True), ISSUED, code=68, lenient=OPENSSL_1
    ),
    "intermediate signed with SHA-1": lambda: under(
        RIGHT.intermediate("SHA-1 CA", sha1=True), 68, OPENSSL_1
    ),
    "root signed with SHA-1": lambda: rooted(Authority.root("SHA-1 Root", sha1=True)),
}


@cache
def built(name: str) -> Chain:
    return CHAINS[name]()


@pytest.mark.parametrize("name", CHAINS)
def test_every_chain_ends_as_predicted(name: str, oracle: Oracle) -> None:
    made = built(name)
    servers: tuple[Hba, ...] = ("host", "hostssl") if WHOLE else ("host",)
    for hba in servers:
        oracle.postgres.configure(Settings(chain=made.sent, key=made.key, hba=hba))
        shaken = oracle.agree(Case(made.root, lenient=made.lenient), modes=MODES)
    assert bool(shaken.verify_code) is bool(made.code)
    if ssl.OPENSSL_VERSION_INFO >= (3,):  # older ones see the same faults in another order
        assert (shaken.verify_code or 0) == made.code
    # The chain is described whether or not it was verified, and ends in the root file where it was.
    assert shaken.served[0].described is not None
    assert shaken.connections == (2 if made.code else 1)
    assert bool(shaken.built) is (made.code == 0)
    if shaken.built:
        anchor = shaken.built[-1].der
        assert anchor in [served.der for served in _certificates(made.root)]


def _certificates(pem: bytes) -> list[Certificate]:
    return [
        Certificate(found.public_bytes(Encoding.DER))
        for found in x509.load_pem_x509_certificates(pem)
    ]


ROOT_FILES = {
    "right": ROOT.pem,
    "other": OTHER.certificate.pem,
    "absent": None,
    "unusable": b"not a certificate\n",
}


@pytest.mark.parametrize(
    ("name", "root"),
    [
        ("right", "right"),
        ("right", "other"),
        ("right", "absent"),
        ("right", "unusable"),
        ("leaf expired", "right"),
        ("leaf expired", "absent"),
        ("self-signed", "other"),
    ],
)
@pytest.mark.parametrize("hba", ["host", "hostssl"])
def test_every_sslmode_ends_as_predicted(name: str, root: str, hba: Hba, oracle: Oracle) -> None:
    made = built(name)
    oracle.postgres.configure(Settings(chain=made.sent, key=made.key, hba=hba))
    oracle.agree(Case(ROOT_FILES[root]))
    oracle.agree(Case(ROOT_FILES[root], host="elsewhere.test"), modes=("verify-ca", "verify-full"))


@pytest.mark.parametrize("root", ROOT_FILES)
def test_every_sslmode_ends_as_predicted_without_tls(root: str, oracle: Oracle) -> None:
    oracle.postgres.configure(Settings())
    assert oracle.agree(Case(ROOT_FILES[root])).answer == "refused"
