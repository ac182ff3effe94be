"""Host names and the names in certificates, against libpq 15 to 18: outcome and message."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from cryptography.x509 import (
    DNSName,
    GeneralName,
    IPAddress,
    ObjectIdentifier,
    OtherName,
    RFC822Name,
    UniformResourceIdentifier,
)

from qs_certs.libpq.hostname import matches, names_in
from tests.oracle.judge import Case, Oracle
from tests.pki import Authority
from tests.postgres import Settings

pytestmark = [pytest.mark.libpq, pytest.mark.psql]

ROOT = Authority.root("Names Root")


def dns(*names: str) -> list[GeneralName]:
    return [DNSName(name) for name in names]


def ip(*addresses: str) -> list[GeneralName]:
    return [IPAddress(ip_address(address)) for address in addresses]


LOCAL = dns("localhost", "qs.example.com")
WILD = dns("*.pq.example.com")
OTHERS: list[GeneralName] = [
    RFC822Name("someone@example.com"),
    UniformResourceIdentifier("https://localhost"),
    OtherName(ObjectIdentifier("1.2.3.4"), b"\x0c\x01x"),
]

# Alternative names, common names, and the hosts that are asked for with each.
NAMES: dict[str, tuple[list[GeneralName], list[str], list[str]]] = {
    "dns": (
        LOCAL,
        [],
        ["localhost", "LOCALHOST", "qs.example.com", "QS.Example.COM", "qs.example.com.", "qs"],
    ),
    "dns with a final dot": (dns("localhost."), [], ["localhost", "localhost."]),
    "common name": ([], ["localhost"], ["localhost", "LocalHost", "other", "127.0.0.1"]),
    "two common names": ([], ["first", "second"], ["first", "second"]),
    "common name beside dns": (dns("other"), ["localhost"], ["localhost", "other"]),
    "common name beside ip": (ip("127.0.0.1"), ["localhost"], ["localhost", "127.0.0.1", "127.1"]),
    "common name beside other kinds": (OTHERS, ["localhost"], ["localhost", "other"]),
    "ip": (
        ip("127.0.0.1"),
        [],
        ["127.0.0.1", "127.1", "0x7f.1", "2130706433", "127.0.0.2", "localhost", "0177.0.0.1"],
    ),
    "ip as dns": (dns("127.0.0.1"), [], ["127.0.0.1", "127.1"]),
    "ip as common name": ([], ["127.0.0.1"], ["127.0.0.1", "127.1"]),
    "ip as common name beside dns": (dns("foo"), ["127.0.0.1"], ["127.0.0.1", "foo"]),
    "ip as common name beside ip": (ip("10.0.0.9"), ["127.0.0.1"], ["127.0.0.1", "10.0.0.9"]),
    "ipv6": (
        ip("::1", "2001:db8::1:0:0:5", "::ffff:10.1.2.3"),
        [],
        ["::1", "0:0:0::1", "::2", "[::1]", "2001:DB8:0:0:1::5", "::ffff:a01:203", "10.1.2.3"],
    ),
    "ipv6 shown, mapped": (ip("::ffff:10.1.2.3"), [], ["::1"]),
    "ipv6 shown, two": (ip("::2"), [], ["::1"]),
    "ipv6 shown, runs": (ip("1:0:0:2:0:0:0:3"), [], ["::1"]),
    "ipv6 shown, compatible": (ip("::10.1.2.3"), [], ["::1"]),
    "ipv6 shown, one of two": (ip("::10.0.0.0"), [], ["::1"]),
    "ipv6 shown, nothing": (ip("::"), [], ["::1", "::"]),
    "wildcard": (
        WILD,
        [],
        [
            "a.pq.example.com",
            "A.PQ.example.com",
            "a.b.pq.example.com",
            "pq.example.com",
            ".pq.example.com",
            "*.pq.example.com",
        ],
    ),
    "wildcard as common name": ([], ["*.pq.example.com"], ["a.pq.example.com", "pq.example.com"]),
    "partial wildcard": (dns("a*.pq.example.com"), [], ["ab.pq.example.com"]),
    "wildcard within": (dns("a.*.example.com"), [], ["a.pq.example.com"]),
    "wildcard of an address": (dns("*.0.0.1"), [], ["127.0.0.1", "127.0.0.2"]),
    "bare wildcard": (dns("*", "*."), [], ["localhost", "a."]),
    "two names": (dns("one", "two"), [], ["three"]),
    "three names of two kinds": (dns("one") + ip("10.0.0.1") + dns("two"), ["localhost"], ["x"]),
    "ip before dns": (ip("10.0.0.1") + dns("one"), [], ["x", "one"]),
    "no names": ([], [], ["localhost", "127.0.0.1"]),
    "an embedded null": (dns("localhost\0.evil.example"), [], ["localhost", "x"]),
    "an embedded null after the match": (dns("localhost", "x\0y"), [], ["localhost", "z"]),
    "an embedded null in the common name": ([], ["localhost\0.evil.example"], ["localhost"]),
}


@pytest.mark.parametrize("names", NAMES)
def test_every_host_name_ends_as_predicted(names: str, oracle: Oracle) -> None:
    alternative, common_names, hosts = NAMES[names]
    leaf = ROOT.leaf(san=alternative, common_name=common_names)
    oracle.postgres.configure(Settings(chain=ROOT.chain(leaf), key=leaf.key_pem))
    for host in hosts:
        shaken = oracle.agree(Case(ROOT.certificate.pem, host=host), modes=("verify-full",))
        assert shaken.established


def test_the_table_holds_names_that_match_and_names_that_do_not() -> None:
    verdicts = [
        matches(host, names_in(ROOT.leaf(san=alternative, common_name=common_names).der))
        for alternative, common_names, hosts in NAMES.values()
        for host in hosts
    ]
    assert min(verdicts.count(True), verdicts.count(False)) > 20


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_an_address_alone_is_no_host_name(mode: str, oracle: Oracle) -> None:
    leaf = ROOT.leaf(dns=["localhost"], ips=["127.0.0.1"])
    oracle.postgres.configure(Settings(chain=ROOT.chain(leaf), key=leaf.key_pem))
    oracle.agree(Case(ROOT.certificate.pem, host=None), modes=(mode,))
