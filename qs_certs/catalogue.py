"""The roots we know: pins, dates, addresses, who needs them.

A root is identified by the SHA-256 of its DER bytes and by nothing else.  Every value here is
taken from the certificate itself and held against two independent bundles by a test.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from types import MappingProxyType

from qs_certs.values import Value

_UTC = timezone.utc


class Root(Value):
    """A trust anchor that can be installed; its PEM is in `roots/NAME.pem`.

    *sha256* and *sha1* are lower-case hex of the DER bytes; *subject* is RFC 4514 text; *serial*
    is hex as `openssl x509 -serial` prints it.  *distrust_after* is the published date from which
    Mozilla no longer accepts TLS servers under this root; libpq knows no such date, but a
    provider that serves browsers too will have left the root by then.  *url* is its publisher's.
    """

    name: str
    subject: str
    sha256: str
    sha1: str
    serial: str
    not_before: datetime
    not_after: datetime
    distrust_after: datetime | None
    url: str
    needed_by: tuple[str, ...]


DEFAULT = "digicert-global-root-g2"

ROOTS: Mapping[str, Root] = MappingProxyType(
    {
        root.name: root
        for root in (
            Root(
                name=DEFAULT,
                subject="CN=DigiCert Global Root G2,OU=www.digicert.com,O=DigiCert Inc,C=US",
                sha256="cb3ccbb76031e5e0138f8dd39a23f9de47ffc35e43c1144cea27d46a5ab1cb5f",
                sha1="df3c24f9bfd666761b268073fe06d1cc8d4f82a4",
                serial="033AF1E6A711A9A0BB2864B11D09FAE5",
                not_before=datetime(2013, 8, 1, 12, tzinfo=_UTC),
                not_after=datetime(2038, 1, 15, 12, tzinfo=_UTC),
                distrust_after=datetime(2029, 4, 15, tzinfo=_UTC),
                url="https://cacerts.digicert.com/DigiCertGlobalRootG2.crt.pem",
                needed_by=(
                    "Adobe Experience Platform Query Service",
                    "Azure Database for PostgreSQL",
                ),
            ),
            Root(
                name="digicert-global-root-g3",
                subject="CN=DigiCert Global Root G3,OU=www.digicert.com,O=DigiCert Inc,C=US",
                sha256="31ad6648f8104138c738f39ea4320133393e3a18cc02296ef97c2ac9ef6731d0",
                sha1="7e04de896a3e666d00e687d33ffad93be83d349e",
                serial="055556BCF25EA43535C3A40FD5AB4572",
                not_before=datetime(2013, 8, 1, 12, tzinfo=_UTC),
                not_after=datetime(2038, 1, 15, 12, tzinfo=_UTC),
                distrust_after=None,
                url="https://cacerts.digicert.com/DigiCertGlobalRootG3.crt.pem",
                needed_by=(),
            ),
            Root(
                name="digicert-tls-rsa4096-root-g5",
                subject="CN=DigiCert TLS RSA4096 Root G5,O=DigiCert\\, Inc.,C=US",
                sha256="371a00dc0533b3721a7eeb40e8419e70799d2b0a0f2c1d80693165f7cec4ad75",
                sha1="a78849dc5d7c758c8cde399856b3aad0b2a57135",
                serial="08F9B478A8FA7EDA6A333789DE7CCF8A",
                not_before=datetime(2021, 1, 15, tzinfo=_UTC),
                not_after=datetime(2046, 1, 14, 23, 59, 59, tzinfo=_UTC),
                distrust_after=datetime(2036, 1, 15, tzinfo=_UTC),
                url="https://cacerts.digicert.com/DigiCertTLSRSA4096RootG5.crt.pem",
                needed_by=(),
            ),
            Root(
                name="digicert-tls-ecc-p384-root-g5",
                subject="CN=DigiCert TLS ECC P384 Root G5,O=DigiCert\\, Inc.,C=US",
                sha256="018e13f0772532cf809bd1b17281867283fc48c6e13be9c69812854a490c1b05",
                sha1="17f3de5e9f0f19e98ef61f32266e20c407ae30ee",
                serial="09E09365ACF7D9C8B93E1C0B042A2EF3",
                not_before=datetime(2021, 1, 15, tzinfo=_UTC),
                not_after=datetime(2046, 1, 14, 23, 59, 59, tzinfo=_UTC),
                distrust_after=None,
                url="https://cacerts.digicert.com/DigiCertTLSECCP384RootG5.crt.pem",
                needed_by=(),
            ),
            Root(
                name="microsoft-rsa-root-ca-2017",
                subject="CN=Microsoft RSA Root Certificate Authority 2017,O=Microsoft Corporation,C=US",
                sha256="c741f70f4b2a8d88bf2e71c14122ef53ef10eba0cfa5e64cfa20f418853073e0",
                sha1="73a5e64a3bff8316ff0edccc618a906e4eae4d74",
                serial="1ED397095FD8B4B347701EAABE7F45B3",
                not_before=datetime(2019, 12, 18, 22, 51, 22, tzinfo=_UTC),
                not_after=datetime(2042, 7, 18, 23, 0, 23, tzinfo=_UTC),
                distrust_after=None,
                url="https://www.microsoft.com/pkiops/certs/"
                "Microsoft%20RSA%20Root%20Certificate%20Authority%202017.crt",
                needed_by=("Azure Database for PostgreSQL",),
            ),
        )
    }
)
"""The roots that `install` knows by name, in the order in which they are shown."""

RETIRED: Mapping[str, str] = MappingProxyType(
    {
        # What old instructions for Query Service still name. Its servers left it on 2024-01-24.
        "digicert-global-root-ca": "4348a0e9444c78cb265e058d5e8944b4d84f9662bd26db257f8934a443c70161",
    }
)
"""Name → SHA-256 of roots that old instructions name: recognised and explained, not installed."""

NEIGHBOURS: Mapping[str, str] = MappingProxyType(
    {
        "microsoft-ecc-root-ca-2017": "358df39d764af9e1b766e9c972df352ee15cfac227af6ad1d70e8e4a6edcba02",
        "isrg-root-x1": "96bcec06264976f37460779acf28c5a7cfe8a3c0aae11a8ffcee05c0bddf08c6",
        "isrg-root-x2": "69729b8e15a86efc177a57afb7171dfc64add28c2fca8cf1507e34453ccb1470",
        "amazon-root-ca-1": "8ecde6884f3d87b1125ba31ac3fcb13d7016de7f57cc904fe1cb97c6ae98196e",
        "digicert-assured-id-root-ca": "3e9099b5015e8f486c00bcea9d111ee721faba355a89bcf1df69561e3dc6325c",
        "digicert-high-assurance-ev-root-ca": "7431e5f4c3c1ce4690774f0b61e05440883ba9a01ed00ba6abd7806ed3b118cf",
        "digicert-trusted-root-g4": "552f7bdcf1a7af9e6ce672017f4f12abf77240c78e761ac203d1d9d20ac89988",
        "baltimore-cybertrust-root": "16af57a9f676b0ab126095aa5ebadef22ab31119d644ac95cd4b93dbf3f26aeb",
    }
)
"""Name → SHA-256 of roots that other services put into root files: to be named, not installed."""

_BY_FINGERPRINT: Mapping[str, Root] = {root.sha256: root for root in ROOTS.values()}
_NAMES: Mapping[str, str] = {
    sha256: name
    for name, sha256 in (
        *((root.name, root.sha256) for root in ROOTS.values()),
        *RETIRED.items(),
        *NEIGHBOURS.items(),
    )
}


def fingerprint(text: str) -> str | None:
    """*text* as a lower-case hex SHA-256 without colons or spaces; None when it is no SHA-256."""
    plain = "".join(text.replace(":", "").split()).lower()
    return plain if re.fullmatch("[0-9a-f]{64}", plain) else None


def by_fingerprint(sha256: str) -> Root | None:
    """The installable root with this fingerprint (lower-case hex)."""
    return _BY_FINGERPRINT.get(sha256)


def find(name_or_fingerprint: str) -> Root | None:
    """The installable root that a user means: a name or a SHA-256, in any spelling of either."""
    sha256 = fingerprint(name_or_fingerprint)
    if sha256 is not None:
        return by_fingerprint(sha256)
    return ROOTS.get(name_or_fingerprint.strip().lower())


def name_of(sha256: str) -> str | None:
    """What we call the certificate with this fingerprint, installable or only recognised."""
    return _NAMES.get(sha256)
