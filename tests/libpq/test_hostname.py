"""verify-full's rules on names, held against the system's own address readers and real certificates.

The whole of `mismatch` is compared with psql and libpq 15-18 in tests/oracle.
"""

from __future__ import annotations

import ipaddress
import socket

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from qs_certs.libpq.hostname import (
    AlternativeName,
    CertificateNames,
    ipv4_address,
    ipv6_address,
    matches,
    mismatch,
    names_in,
)
from tests.pki import Authority

ROOT = Authority.root("Host Name Root")


def names(dns: str = "", ip: str = "", common_name: str | None = None) -> CertificateNames:
    return CertificateNames(
        tuple(AlternativeName("dns", name.encode()) for name in dns.split())
        + tuple(AlternativeName("ip", ipaddress.ip_address(text).packed) for text in ip.split()),
        None if common_name is None else common_name.encode(),
    )


def test_the_names_of_a_certificate_are_read_in_its_own_order() -> None:
    leaf = ROOT.leaf(
        common_name=("first.example", "second.example"),
        san=(
            x509.DNSName("a.example"),
            x509.RFC822Name("someone@a.example"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            x509.UniformResourceIdentifier("https://a.example"),
            x509.DNSName("*.b.example"),
            x509.IPAddress(ipaddress.ip_address("::1")),
        ),
    )
    assert names_in(leaf.der) == CertificateNames(
        (
            AlternativeName("dns", b"a.example"),
            AlternativeName("ip", bytes([127, 0, 0, 1])),
            AlternativeName("dns", b"*.b.example"),
            AlternativeName("ip", bytes(15) + b"\1"),
        ),
        b"first.example",
    )


def test_a_certificate_without_names_has_none_and_the_issuers_name_is_not_taken() -> None:
    assert names_in(ROOT.leaf().der) == CertificateNames((), None)
    assert names_in(ROOT.leaf(common_name="own.example").der).common_name == b"own.example"


@given(st.binary(max_size=80))
def test_bytes_that_are_no_certificate_have_no_names(data: bytes) -> None:
    assert names_in(data) == CertificateNames()


@given(st.integers(min_value=0, max_value=10_000), st.integers(min_value=0, max_value=255))
def test_a_damaged_certificate_is_read_without_an_exception(at: int, value: int) -> None:
    der = bytearray(DAMAGEABLE)
    der[at % len(der)] = value
    names_in(bytes(der))


DAMAGEABLE = ROOT.leaf(common_name="a.example", dns=["a.example"]).der


@pytest.mark.parametrize(
    ("host", "presented", "accepted"),
    [
        ("localhost", names("localhost qs.example.com"), True),
        ("LOCALHOST", names("localhost"), True),
        ("localhost", names("LocalHost"), True),
        ("qs.example.com.", names("qs.example.com"), False),
        ("localhost", names("localhost."), False),
        ("localhost.", names("localhost."), True),
        ("localhost", names(common_name="localhost"), True),
        ("localhost", names("other", common_name="localhost"), False),
        ("localhost", names(ip="127.0.0.1", common_name="localhost"), True),
        ("127.0.0.1", names(ip="127.0.0.1"), True),
        ("127.1", names(ip="127.0.0.1"), True),
        ("0x7f000001", names(ip="127.0.0.1"), True),
        ("127.0.0.2", names(ip="127.0.0.1"), False),
        ("127.0.0.1", names("127.0.0.1"), True),
        ("127.1", names("127.0.0.1"), False),
        ("127.0.0.1", names(common_name="127.0.0.1"), True),
        ("127.0.0.1", names("foo", common_name="127.0.0.1"), True),
        ("127.0.0.1", names(ip="10.0.0.9", common_name="127.0.0.1"), False),
        ("::1", names(ip="::1"), True),
        ("0:0::1", names(ip="::1"), True),
        ("[::1]", names(ip="::1"), False),
        ("::ffff:127.0.0.1", names(ip="127.0.0.1"), False),
        ("a.pq.example.com", names("*.pq.example.com"), True),
        ("A.PQ.Example.Com", names("*.pq.example.com"), True),
        ("a.pq.example.com", names(common_name="*.pq.example.com"), True),
        ("a.b.pq.example.com", names("*.pq.example.com"), False),
        ("pq.example.com", names("*.pq.example.com"), False),
        (".pq.example.com", names("*.pq.example.com"), False),
        ("ab.pq.example.com", names("a*.pq.example.com"), False),
        ("a.b.example.com", names("*.*.example.com"), False),
        ("x", names("*"), False),
        ("*.pq.example.com", names("*.pq.example.com"), True),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_names_match_as_in_libpq(host: str, presented: CertificateNames, accepted: bool) -> None:
    assert matches(host, presented) is accepted


@pytest.mark.parametrize(
    ("host", "presented", "message"),
    [
        ("", names("a"), "host name must be specified for a verified SSL connection"),
        (None, names("a"), "host name must be specified for a verified SSL connection"),
        ("y", names("x"), 'server certificate for "x" does not match host name "y"'),
        (
            "y",
            names("x z"),
            'server certificate for "x" (and 1 other name) does not match host name "y"',
        ),
        (
            "y",
            names("x z", ip="::1", common_name="y"),
            'server certificate for "x" (and 2 other names) does not match host name "y"',
        ),
        (
            "10.0.0.1",
            names(ip="10.0.0.2"),
            'server certificate for "10.0.0.2" does not match host name "10.0.0.1"',
        ),
        ("y", names(), "could not get server's host name from server certificate"),
        (
            "good.example",
            names("good.example\0.evil.example"),
            "SSL certificate's name contains embedded null",
        ),
        (
            "10.0.0.1",
            CertificateNames((AlternativeName("ip", b"\x0a\0\0\1\xff"),)),
            "certificate contains IP address with invalid length 5",
        ),
        ("good.example", names("good.example bad\0name"), None),
    ],
)
def test_the_message_is_that_of_libpq(
    host: str | None, presented: CertificateNames, message: str | None
) -> None:
    assert mismatch(host, presented) == message


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("::", "::"),
        ("::1", "::1"),
        ("::2", "::2"),
        ("::1.2.3.4", "::1.2.3.4"),
        ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:0:0:1::1", "2001:0:0:1::1"),
        ("1:0:2:0:3:0:4:0", "1:0:2:0:3:0:4:0"),
    ],
)
def test_an_address_is_shown_as_postgresql_shows_it(address: str, shown: str) -> None:
    message = f'server certificate for "{shown}" does not match host name "y"'
    assert mismatch("y", names(ip=address)) == message


ADDRESS_LIKE = (
    st.text(alphabet="0123456789abfxX.: %", max_size=16)
    | st.from_regex(r"(0x)?[0-9a-f]{1,4}(\.(0x|0)?[0-9]{1,3}){0,4}( .*)?", fullmatch=True)
).filter(lambda host: host.isascii() and "\0" not in host)  # in C, a NUL ends the name


def _inet_aton(host: str) -> bytes | None:
    try:
        return socket.inet_aton(host)
    except (OSError, ValueError):
        return None


def _inet_pton(host: str) -> bytes | None:
    try:
        return socket.inet_pton(socket.AF_INET6, host)
    except (OSError, ValueError):
        return None


@given(ADDRESS_LIKE)
def test_ipv4_addresses_are_read_as_inet_aton_reads_them(host: str) -> None:
    assert ipv4_address(host) == _inet_aton(host)


@pytest.mark.parametrize(
    "host",
    [
        *("127.1", "1.2.3", "0177.1", "0x7f.1", "4294967295", "4294967296", "1.2.3.256", "256.1"),
        *("08", "0x", "1.2.3.4 and more", "1.2.3.4.5", "", " 1.2.3.4", "1..2", "localhost", "00"),
        *("1.16777215", "1.16777216", "1.2.65535", "1.2.65536", "1.2.3.4\n", "1.2.3.0x", "1x"),
        *("-1", "1."),
    ],
)
def test_unusual_ipv4_forms_are_read_as_inet_aton_reads_them(host: str) -> None:
    assert ipv4_address(host) == _inet_aton(host)


@given(ADDRESS_LIKE | st.ip_addresses(v=6).map(str))
def test_ipv6_addresses_are_read_as_inet_pton_reads_them(host: str) -> None:
    assert ipv6_address(host) == _inet_pton(host)
