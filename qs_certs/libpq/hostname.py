"""verify-full's rules on names: does a certificate stand for the host that was asked for?

The rules are libpq's from 15 on (libpq:fe-secure-common.c, libpq:fe-secure-openssl.c
`pgtls_verify_peer_name_matches_certificate_guts`), and so are the messages.  They differ from
RFC 6125 and from Python's `ssl`: a common name may match an IP address, a dNSName is compared as
text with one, `127.1` is an address.  Names are read from the DER bytes, because libpq compares
the bytes that stand there and `ssl`'s own decoder converts some of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from qs_certs.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal


class AlternativeName(Value):
    """A dNSName or an iPAddress of the subject alternative names, as the bytes in the certificate."""

    kind: Literal["dns", "ip"]
    value: bytes


class CertificateNames(Value):
    """The names that libpq looks at, in the certificate's order.

    *common_name* is the first one of the subject, None where it has none.
    """

    alternative: tuple[AlternativeName, ...] = ()
    common_name: bytes | None = None


def matches(host: str | None, names: CertificateNames) -> bool:
    """Whether verify-full accepts a certificate with these names for *host*."""
    return mismatch(host, names) is None


def mismatch(host: str | None, names: CertificateNames) -> str | None:
    """The message of libpq for a certificate that does not stand for *host*; None where it does.

    *host* is the `host` of the connection, never `hostaddr`.
    """
    if not host:
        return "host name must be specified for a verified SSL connection"
    wanted = host.encode("utf-8", "surrogateescape")
    own_kind: Literal["dns", "ip"] = "ip" if is_ip_address(host) else "dns"
    examined = list(names.alternative)
    # The common name counts unless there is an alternative name of the host's own kind.
    if names.common_name is not None and all(name.kind != own_kind for name in examined):
        examined.append(AlternativeName("dns", names.common_name))
    for name in examined:
        problem = _unusable(name)
        if problem is not None:
            return problem
        if _is(name, host, wanted):
            return None
    if not examined:
        return "could not get server's host name from server certificate"
    others = len(examined) - 1
    counted = f" (and {others} other name{'s' if others > 1 else ''})" if others else ""
    first = _as_text(examined[0])
    return f'server certificate for "{first}"{counted} does not match host name "{host}"'


def is_ip_address(host: str) -> bool:
    """Whether libpq takes *host* for an address: libpq:fe-secure-openssl.c `is_ip_address`."""
    return ipv4_address(host) is not None or ipv6_address(host) is not None


def _unusable(name: AlternativeName) -> str | None:
    """The message of libpq for a name that ends the comparison with an error."""
    if name.kind == "dns" and b"\0" in name.value:
        return "SSL certificate's name contains embedded null"
    if name.kind == "ip" and len(name.value) not in (4, 16):
        return f"certificate contains IP address with invalid length {len(name.value)}"
    return None


def _is(name: AlternativeName, host: str, wanted: bytes) -> bool:
    if name.kind == "dns":
        return _folded(name.value) == _folded(wanted) or _wildcard_matches(name.value, wanted)
    address = ipv4_address(host) if len(name.value) == 4 else ipv6_address(host)
    return address == name.value


def _wildcard_matches(pattern: bytes, host: bytes) -> bool:
    """A leading `*.` stands for one label: libpq:fe-secure-common.c `wildcard_certificate_match`."""
    if len(pattern) < 3 or not pattern.startswith(b"*.") or len(pattern) > len(host):
        return False
    suffix = pattern[1:]
    label = host[: -len(suffix)]
    return _folded(host).endswith(_folded(suffix)) and b"." not in label


def _folded(name: bytes) -> bytes:
    """Lower case in ASCII only, as `pg_strcasecmp` in the C locale."""
    return name.lower()


def _as_text(name: AlternativeName) -> str:
    if name.kind == "dns":
        return name.value.decode("utf-8", "replace")
    if len(name.value) == 4:
        return _dotted(name.value)
    return _ipv6_text(name.value)


def _ipv6_text(value: bytes) -> str:
    """An IPv6 address as PostgreSQL writes it: an IPv4 address inside is written with dots
    (src/port/inet_net_ntop.c).
    """
    from ipaddress import IPv6Address

    text = IPv6Address(value).compressed
    groups = [value[start : start + 2] for start in range(0, 16, 2)]
    leading_zeros = next((at for at, group in enumerate(groups) if any(group)), 8)
    embeds_ipv4 = leading_zeros == 6 or (leading_zeros == 5 and groups[5] == b"\xff\xff")
    if not embeds_ipv4:
        return text
    ahead = "::ffff:" if leading_zeros == 5 else "::"
    return ahead + _dotted(value[12:])


def _dotted(value: bytes) -> str:
    """An IPv4 address as PostgreSQL writes it."""
    return ".".join(map(str, value))


_PART = r"(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)"
_IPV4 = rf"(?s){_PART}(?:\.{_PART})?(?:\.{_PART})?(?:\.{_PART})?(?:[ \t\n\v\f\r].*)?"


def ipv4_address(host: str) -> bytes | None:
    """The address as `inet_aton` reads it, None where it does not.

    One to four parts, decimal, octal or hexadecimal; the last part fills what is left, and
    anything may follow after white space.
    """
    found = re.fullmatch(_IPV4, host)
    if found is None:
        return None
    parts = [_number(part) for part in found.groups() if part is not None]
    *leading, last = parts
    room = 4 - len(leading)
    if any(part > 0xFF for part in leading) or last >= 1 << (8 * room):
        return None
    return bytes(leading) + last.to_bytes(room, "big")


def _number(part: str) -> int:
    if part[:2] in ("0x", "0X"):
        return int(part, 16)
    return int(part, 8 if part.startswith("0") else 10)


def ipv6_address(host: str) -> bytes | None:
    """The address as `inet_pton(AF_INET6)` reads it, None where it does not: no scope, no brackets."""
    if ":" not in host or "%" in host:
        return None
    from ipaddress import IPv6Address

    try:
        return IPv6Address(host).packed
    except ValueError:
        return None


# The few object identifiers and tags of RFC 5280 that lead to the names (DER content bytes).
_COMMON_NAME = bytes.fromhex("550403")
_SUBJECT_ALT_NAME = bytes.fromhex("551d11")
_OID, _OCTET_STRING = 0x06, 0x04
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_DNS_NAME, _IP_ADDRESS = 0x82, 0x87


def names_in(der: bytes) -> CertificateNames:
    """The names of a certificate (RFC 5280 §4.1, §4.2.1.6); none where the bytes are no certificate."""
    try:
        return _names_in(der)
    except (IndexError, ValueError):
        return CertificateNames()


def _names_in(der: bytes) -> CertificateNames:
    (_, certificate), *_ = _elements(der)
    (_, body), *_ = _elements(certificate)
    fields = [field for field in _elements(body) if field[0] != _VERSION]
    # serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo, ...
    subject = fields[4][1]
    alternative: tuple[AlternativeName, ...] = ()
    for tag, content in fields[6:]:
        if tag == _EXTENSIONS:
            (_, extensions), *_ = _elements(content)
            alternative = tuple(_alternative_names(extensions))
    return CertificateNames(alternative, next(_common_names(subject), None))


def _common_names(subject: bytes) -> Iterator[bytes]:
    for _, relative in _elements(subject):
        for _, attribute in _elements(relative):
            (_, identifier), (_, value), *_ = _elements(attribute)
            if identifier == _COMMON_NAME:
                yield value


def _alternative_names(extensions: bytes) -> Iterator[AlternativeName]:
    for _, extension in _elements(extensions):
        parts = list(_elements(extension))
        if parts[0] != (_OID, _SUBJECT_ALT_NAME) or parts[-1][0] != _OCTET_STRING:
            continue
        (_, general_names), *_ = _elements(parts[-1][1])
        for tag, value in _elements(general_names):
            if tag == _DNS_NAME:
                yield AlternativeName("dns", value)
            elif tag == _IP_ADDRESS:
                yield AlternativeName("ip", value)


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """The tag and content of each element in a row; ValueError where a length is beyond the end."""
    at = 0
    while at < len(der):
        tag, length = der[at], der[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(der[at : at + size], "big")
            at += size
        if at + length > len(der):
            raise ValueError("an element is longer than what holds it")
        yield tag, der[at : at + length]
        at += length
