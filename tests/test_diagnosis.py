"""Every live finding of `check`, against real servers and ones that misbehave.

Beside each finding stands the same check without its cause, and beside each verdict on a real
PostgreSQL the real psql: both succeed or both fail.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from qs_certs import accounts, catalogue, diagnosis, sources
from qs_certs.accounts import Progress
from qs_certs.bundle import canonical
from qs_certs.catalogue import Root
from qs_certs.knowledge import FINDINGS
from tests import clients
from tests.clients import ClientMissing, Libpqs, Psql
from tests.conftest import Pki
from tests.libpq.servers import (
    Behaviour,
    Server,
    answering,
    certified,
    hold,
    serving,
    speaking_tls,
    tls_context,
)
from tests.pki import DAY, Authority, Certificate, self_signed
from tests.postgres import Postgres
from tests.program import Done, Program
from tests.shapes import SERVER_AUTH, pem, trust

CHECK = ("check", "--json", "--timeout", "5")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pki: Pki) -> Program:
    """A user whose root file holds the test root alone."""
    home = tmp_path / "home"
    folder = home / ".postgresql"
    folder.mkdir(parents=True)
    monkeypatch.setattr(accounts, "password_database_home", lambda: str(home))
    (folder / "root.crt").write_bytes(pki.root.certificate.pem)
    return Program(home)


SOFTENED = {"error": "warning"}
"""What is wrong where the goal is reached all the same."""
OTHERWISE = {
    "unix-socket": "ok",  # what is explained is the refusal of one
    "root-crl-present": "error",  # only the pipe is in these tests
}


def codes(done: Done) -> dict[str, dict[str, Any]]:
    found = {finding["code"]: finding for finding in done.document["findings"]}
    for code, finding in found.items():
        explained = OTHERWISE.get(code, FINDINGS[code].severity)
        assert finding["severity"] in (explained, SOFTENED.get(explained)), finding
    return found


def at_fault(done: Done) -> set[str]:
    return {code for code, finding in codes(done).items() if finding["severity"] == "error"}


def server_of(done: Done) -> dict[str, Any]:
    (server,) = done.document["servers"]
    found: dict[str, Any] = server
    return found


# --- side by side ---------------------------------------------------------------------------------


def at_once(
    work: Callable[[int], Any], items: Sequence[int], progress: Progress | None = None
) -> list[Any]:
    """diagnosis.at_once, with an end where it waits for ever."""
    answer: Future[list[Any]] = Future()

    def ask() -> None:
        try:
            answer.set_result(diagnosis.at_once(work, items, progress))
        except BaseException as error:  # noqa: BLE001 - raised again on the other side
            answer.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    return answer.result(5)


def test_several_are_asked_at_the_same_time_and_answer_in_their_order() -> None:
    together = threading.Barrier(3, timeout=4)
    done: list[tuple[int, int]] = []

    def work(number: int) -> tuple[int, bool]:
        together.wait()
        return number, threading.current_thread().daemon  # see test_ctrl_c_waits_for_no_server

    found = at_once(work, [3, 1, 2], lambda *counts: done.append(counts))
    assert found == [(3, True), (1, True), (2, True)]
    assert done == [(1, 3), (2, 3), (3, 3)]


def test_one_is_asked_without_a_thread() -> None:
    here = threading.get_ident()
    assert diagnosis.at_once(lambda _: threading.get_ident(), []) == []
    assert diagnosis.at_once(lambda _: threading.get_ident(), [1]) == [here]
    together = threading.Barrier(2, timeout=4)  # the control: two
    assert sorted(at_once(lambda _: together.wait(), [1, 2])) == [0, 1]


def test_more_than_there_are_threads_for_are_all_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "WORKERS", 2)
    asked: set[int] = set()

    def work(number: int) -> int:
        asked.add(threading.get_ident())
        return -number

    assert at_once(work, range(50)) == [-number for number in range(50)]
    assert 1 <= len(asked) <= 2


def test_what_one_of_them_raises_is_raised() -> None:
    def work(number: int) -> int:
        if number == 2:
            raise KeyboardInterrupt
        return number

    assert at_once(work, [1, 3]) == [1, 3]
    with pytest.raises(KeyboardInterrupt):
        at_once(work, [1, 2, 3])


# --- chains and names, on a real PostgreSQL -------------------------------------------------------


@dataclass
class World:
    """What a row may change: the server, the user's files, the connection string."""

    postgres: Postgres
    home: Path
    pki: Pki
    conninfo: str

    @property
    def root_file(self) -> Path:
        return self.home / ".postgresql" / "root.crt"

    def serve(self, issuer: Authority, leaf: Certificate) -> None:
        self.postgres.set_tls(issuer.chain(leaf), leaf.key_pem)

    def serve_under(self, name: str) -> None:
        """A chain under an unknown root of this name."""
        issuing = Authority.root(name).intermediate(f"{name} 2", pathlen=0)
        self.serve(issuing, issuing.leaf(dns=["localhost"]))


@pytest.fixture
def world(program: Program, postgres: Postgres, pki: Pki) -> World:
    return World(postgres, program.home, pki, postgres.conninfo("localhost"))


Spoil = Callable[[World], object]


def leaf_only(world: World) -> None:
    world.postgres.set_tls(world.pki.leaf.pem, world.pki.leaf.key_pem)


def expired_leaf(world: World) -> None:
    world.serve(
        world.pki.issuing,
        world.pki.issuing.leaf(
            dns=["localhost"],
            not_before=DAY - timedelta(days=30),
            not_after=DAY - timedelta(days=2),
        ),
    )


def young_leaf(world: World) -> None:
    world.serve(
        world.pki.issuing,
        world.pki.issuing.leaf(
            dns=["localhost"],
            not_before=DAY + timedelta(days=2),
            not_after=DAY + timedelta(days=30),
        ),
    )


def expired_root(world: World) -> None:
    old = world.pki.root.renewed(DAY - timedelta(days=400), DAY - timedelta(days=2))
    world.root_file.write_bytes(old.certificate.pem)


def expired_intermediate(world: World) -> None:
    issuing = world.pki.root.intermediate(
        "Old Issuing CA", not_before=DAY - timedelta(days=30), not_after=DAY - timedelta(days=2)
    )
    world.serve(issuing, issuing.leaf(dns=["localhost"]))


def self_signed_leaf(world: World) -> None:
    leaf = self_signed(dns=["localhost"], common_name="db.test")
    world.postgres.set_tls(leaf.pem, leaf.key_pem)


def crl(*parts: str) -> Spoil:
    """root.crl with these: "root", "issuing", "revoking", "expired"."""

    def write(world: World) -> None:
        pki = world.pki
        made: dict[str, Callable[[], bytes]] = {
            "root": pki.root.crl,
            "issuing": pki.issuing.crl,
            "revoking": lambda: pki.issuing.crl([pki.leaf]),
            "expired": lambda: pki.issuing.crl(
                last_update=DAY - timedelta(days=9), next_update=DAY - timedelta(days=2)
            ),
        }
        content = b"".join(made[part]() for part in parts)
        (world.home / ".postgresql" / "root.crl").write_bytes(content)

    return write


def root_file(make: Callable[[Pki], bytes]) -> Spoil:
    return lambda world: world.root_file.write_bytes(make(world.pki))


def connect(host: str | None, **parameters: str) -> Spoil:
    def change(world: World) -> None:
        world.conninfo = world.postgres.conninfo(host, **parameters)

    return change


def excluded(pki: Pki) -> bytes:
    settings = trust(rejected=SERVER_AUTH)
    return pem(pki.root.certificate.der + settings, "TRUSTED CERTIFICATE")


REFUSED = [
    # what goes wrong, its code, the exit code, words of the message
    pytest.param(
        root_file(lambda pki: pki.other.certificate.pem),
        "untrusted-chain",
        3,
        ["Test Root", "does not hold"],
        id="unknown root",
    ),
    pytest.param(leaf_only, "incomplete-chain", 3, ["Test Issuing CA"], id="no intermediate"),
    pytest.param(self_signed_leaf, "untrusted-chain", 3, ["db.test"], id="self-signed"),
    pytest.param(
        root_file(lambda pki: pki.root.impostor().certificate.pem),
        "impostor-root",
        3,
        ["Test Root", "another key"],
        id="impostor",
    ),
    pytest.param(
        root_file(lambda pki: pki.other.cross_sign(pki.root).pem),
        "untrusted-chain",
        3,
        ["Test Root", "cross-signed copy"],
        id="cross-signed copy only",
    ),
    pytest.param(
        root_file(lambda pki: pki.other.cross_sign(pki.root).pem + pki.root.certificate.pem),
        "untrusted-chain",
        3,
        ["Test Root", "cross-signed copy"],
        id="cross-signed copy first",
    ),
    pytest.param(
        root_file(excluded),
        "untrusted-chain",
        1,
        ["trust settings"],
        id="trust settings",
    ),
    pytest.param(expired_leaf, "expired-certificate", 3, ["expired on"], id="expired"),
    pytest.param(
        expired_intermediate,
        "expired-certificate",
        3,
        ["Old Issuing CA"],
        id="expired intermediate",
    ),
    pytest.param(expired_root, "expired-certificate", 3, ["the root in"], id="expired root"),
    pytest.param(young_leaf, "not-yet-valid", 3, ["only from", "clock says"], id="too young"),
    pytest.param(
        connect("wrong.test"),
        "host-name-mismatch",
        3,
        ['"wrong.test"', "localhost", "db.test", "*.wild.test", "127.0.0.1"],
        id="another name",
    ),
    pytest.param(
        connect("a.b.wild.test"), "host-name-mismatch", 3, ["*.wild.test"], id="two labels"
    ),
    pytest.param(connect(None), "no-host-name", 3, ["host name must be specified"], id="no name"),
    pytest.param(crl("root"), "crl-failure", 3, ["root.crl", "CRL"], id="no CRL of the issuing CA"),
    pytest.param(crl("root", "expired"), "crl-failure", 3, ["expired"], id="expired CRL"),
    pytest.param(crl("root", "revoking"), "revoked-certificate", 3, ["revoked"], id="revoked"),
    pytest.param(
        lambda world: world.serve_under("Zscaler Root CA"),
        "tls-inspection",
        3,
        ["Zscaler Root CA"],
        id="TLS inspection",
    ),
    pytest.param(
        lambda world: world.serve_under("San Francisco Reset CA"),
        "untrusted-chain",
        3,
        ["San Francisco"],
        id="a town that ends in a product",
    ),
    pytest.param(
        lambda world: world.postgres.set_tls(None),
        "server-without-tls",
        3,
        ["offers no TLS"],
        id="no TLS",
    ),
    pytest.param(
        lambda world: world.postgres.set_tls(
            world.pki.chain, world.pki.leaf.key_pem, min_protocol="TLSv1", max_protocol="TLSv1.1"
        ),
        "old-tls-protocol",
        3,
        ["TLS 1.2"],
        id="old TLS",
    ),
    pytest.param(
        lambda world: world.root_file.unlink(), "root-missing", 3, ["root.crt"], id="no root file"
    ),
    pytest.param(
        root_file(lambda pki: b"\xef\xbb"), "root-unloadable", 3, ["no certificate"], id="no PEM"
    ),
    pytest.param(
        lambda world: (world.root_file.unlink(), world.root_file.mkdir()),
        "root-unloadable",
        3,
        ["no certificate"],
        id="a folder in its place",
    ),
    pytest.param(
        lambda world: (world.root_file.unlink(), world.root_file.symlink_to("root.crt")),
        "folder-unreadable",
        3,
        ["root.crt", os.strerror(errno.ELOOP)],
        id="a link to itself",
    ),
    pytest.param(
        lambda world: (world.root_file.parent / "postgresql.crt").symlink_to("postgresql.crt"),
        "stray-client-certificate",
        3,
        ["could not open certificate file", os.strerror(errno.ELOOP)],
        id="a client certificate that links to itself",
    ),
]


@pytest.mark.psql
@pytest.mark.parametrize(("spoil", "code", "exit_code", "words"), REFUSED)
def test_a_refusal_is_explained_and_psql_refuses_too(
    program: Program,
    world: World,
    psql: Psql,
    spoil: Spoil,
    code: str,
    exit_code: int,
    words: list[str],
) -> None:
    good = program(*CHECK, world.conninfo + " sslmode=verify-full")
    assert good.code == 0, good
    assert set(codes(good)) == {"verified"}
    spoil(world)
    done = program(*CHECK, world.conninfo + " sslmode=verify-full")
    assert done.code == exit_code, done.out
    finding = codes(done)[code]
    assert finding["severity"] == "error"
    for word in words:
        assert word in finding["message"]
    (full,) = [each for each in server_of(done)["sslmodes"] if each["mode"] == "verify-full"]
    theirs = psql.connect(world.conninfo + " sslmode=verify-full", world.home)
    assert (theirs.outcome, full["outcome"]) == ("fails", "fails")
    first_line = full["libpq_message"].splitlines()[0]
    assert first_line in theirs.message


ACCEPTED = [
    pytest.param(connect("db.test"), id="another name of the certificate"),
    pytest.param(connect("b.wild.test"), id="a wildcard"),
    pytest.param(crl("root", "issuing"), id="current CRLs"),
    pytest.param(
        root_file(lambda pki: pki.other.certificate.pem + pki.root.certificate.pem),
        id="the right root among others",
    ),
]


@pytest.mark.psql
@pytest.mark.parametrize("change", ACCEPTED)
def test_what_psql_verifies_is_verified(
    program: Program, world: World, psql: Psql, change: Spoil
) -> None:
    change(world)
    done = program(*CHECK, world.conninfo + " sslmode=verify-full")
    assert done.code == 0, done
    assert "verified" in codes(done)
    assert not at_fault(done)
    assert psql.connect(world.conninfo + " sslmode=verify-full", world.home).outcome == "encrypted"


def test_a_verified_server_is_described(program: Program, world: World) -> None:
    world.root_file.write_bytes(world.pki.other.certificate.pem + world.pki.root.certificate.pem)
    server = server_of(program(*CHECK, f"localhost:{world.postgres.port}"))
    assert (server["host"], server["port"]) == ("localhost", world.postgres.port)
    assert server["address"] == "127.0.0.1"
    assert server["answer"] == "tls"
    assert server["tls_version"] == "TLSv1.3"
    assert server["cipher"].startswith("TLS_")
    assert server["host_name_ok"] is True
    assert server["verify_error"] is None
    assert server["effective_sslmode"] == "prefer"
    assert [each["sha256"] for each in server["chain"]] == [
        world.pki.leaf.sha256,
        world.pki.issuing.certificate.sha256,
    ]
    assert server["anchor"] == {
        "subject": "CN=Test Root,O=qs-certs tests",
        "sha256": world.pki.root.certificate.sha256,
        "position": 2,
    }
    assert [each["mode"] for each in server["sslmodes"]] == [
        "disable",
        "allow",
        "prefer",
        "require",
        "verify-ca",
        "verify-full",
    ]


def unknown_key(pki: Pki) -> bytes:
    """The root with a key of a kind that nobody knows, as a new kind is to old programs."""
    elliptic = bytes.fromhex("06072a8648ce3d0201")
    der = pki.root.certificate.der
    assert der.count(elliptic) == 1
    return pem(der.replace(elliptic, elliptic[:-1] + b"\x7e"))


@pytest.mark.psql
def test_an_issuer_whose_key_nobody_can_check_is_not_called_an_impostor(
    program: Program, world: World, psql: Psql
) -> None:
    world.root_file.write_bytes(unknown_key(world.pki))
    done = program(*CHECK, world.conninfo + " sslmode=verify-full")
    assert (done.code, at_fault(done)) == (3, {"untrusted-chain"})
    assert "cannot be checked" in codes(done)["untrusted-chain"]["message"]
    assert psql.connect(world.conninfo + " sslmode=verify-full", world.home).outcome == "fails"
    world.root_file.write_bytes(world.pki.root.impostor().certificate.pem)  # the control
    assert at_fault(program(*CHECK, world.conninfo)) == {"impostor-root"}


def modes(done: Done) -> dict[str, dict[str, Any]]:
    return {each["mode"]: each for each in server_of(done)["sslmodes"]}


def test_verify_ca_resists_an_attacker_only_under_a_root_of_one_s_own(
    program: Program, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libpq documentation, "SSL Mode Descriptions": anybody gets a certificate under a public CA."""
    strict = world.conninfo + " sslmode=verify-ca"
    own = modes(program(*CHECK, strict))
    sha256 = world.pki.root.certificate.sha256
    monkeypatch.setattr(catalogue, "_NAMES", {sha256: "a public root"})
    public = modes(program(*CHECK, strict))
    for found, ca in ((own, True), (public, False)):
        assert found["verify-ca"]["resists_man_in_the_middle"] is ca
        assert found["verify-full"]["resists_man_in_the_middle"] is True
        assert found["require"]["resists_man_in_the_middle"] is False


@pytest.mark.parametrize(
    ("goal", "code", "words"),
    [
        ("verify-full", "verified", "verify-full: encrypted, chain and host name verified"),
        ("verify-ca", "verified", "verify-ca: encrypted, chain verified"),
        ("require", "reached", "require: encrypted"),
        ("prefer", "reached", "prefer: encrypted"),
        ("allow", "reached", "allow: plaintext"),
        ("disable", "reached", "disable: plaintext"),
    ],
)
def test_good_news_says_what_was_reached(
    program: Program, world: World, goal: str, code: str, words: str
) -> None:
    full = world.conninfo + " sslmode=verify-full"
    done = program(*CHECK, full, "--sslmode", goal)
    assert done.code == 0
    assert set(codes(done)) == {code}
    assert codes(done)[code]["severity"] == "ok"
    assert codes(done)[code]["message"].endswith(f":{world.postgres.port} {words}")


def test_verify_ca_as_a_goal_is_told_what_it_does_not_do(program: Program, world: World) -> None:
    aim = ("--sslmode", "verify-ca")
    done = program(*CHECK, world.conninfo + " sslmode=verify-ca", *aim)
    finding = codes(done)["public-root-verify-ca"]
    assert finding["severity"] == "warning"
    assert finding["fix"] + finding["advice"] == [server_of(done)["conninfo"]]
    stricter = program(*CHECK, world.conninfo + " sslmode=verify-full", *aim)
    assert "public-root-verify-ca" not in codes(stricter)
    milder = program(*CHECK, world.conninfo + " sslmode=verify-ca", "--sslmode", "require")
    assert set(codes(milder)) == {"reached"}
    assert "weak-sslmode" not in codes(stricter)
    assert "public-root-verify-ca" not in codes(program(*CHECK, world.conninfo))


@pytest.mark.parametrize(
    ("words", "env", "source"),
    [
        ("sslmode=require", {}, "the connection string"),
        ("service=own", {}, "the service file"),
        ("", {"PGSSLMODE": "require"}, "the environment (PGSSLMODE)"),
        ("", {}, "libpq's default"),
    ],
    ids=["string", "service", "environment", "default"],
)
def test_a_weak_mode_is_told_with_where_it_comes_from(
    program: Program, world: World, words: str, env: dict[str, str], source: str
) -> None:
    (world.home / ".pg_service.conf").write_text("[own]\nsslmode=require\n")
    done = dataclasses.replace(program, env=env)(*CHECK, f"{world.conninfo} {words}")
    finding = codes(done)["weak-sslmode"]
    assert finding["severity"] == "warning"
    assert f", from {source}; it is weaker than verify-full" in finding["message"]
    possible = codes(done).get("plaintext-possible")
    assert (possible is None) is bool(words or env)
    if possible is not None:
        assert possible["severity"] == "warning"
        assert possible["fix"] + possible["advice"] == [server_of(done)["conninfo"]]


def test_what_is_not_shown_is_not_judged(program: Program) -> None:
    with serving(answering(b"N")) as server:
        report = server_of(program(*CHECK, f"host=localhost port={server.port}"))
    assert (report["host_name_ok"], report["anchor"], report["chain"]) == (None, None, [])
    assert (report["conninfo"], report["verify_error"]) == (None, None)


def test_a_server_that_is_named_by_its_address_is_shown_by_it(
    program: Program, world: World
) -> None:
    done = program(*CHECK, world.postgres.conninfo(None), "--sslmode", "require")
    assert server_of(done)["host"] == "127.0.0.1"
    where = f"127.0.0.1:{world.postgres.port} "
    assert codes(done)["reached"]["message"].startswith(where)


def test_a_chain_that_is_not_verified_has_no_anchor(program: Program, world: World) -> None:
    assert server_of(program(*CHECK, world.conninfo))["anchor"]["position"] == 1
    world.root_file.write_bytes(world.pki.other.certificate.pem)
    report = server_of(program(*CHECK, world.conninfo))
    assert (report["anchor"], report["host_name_ok"]) == (None, True)
    connect("wrong.test")(world)
    assert server_of(program(*CHECK, world.conninfo))["host_name_ok"] is False


def test_a_wrong_name_and_an_unknown_root_are_both_told(program: Program, world: World) -> None:
    world.root_file.write_bytes(world.pki.other.certificate.pem)
    connect("wrong.test")(world)
    done = program(*CHECK, world.conninfo)
    assert {"untrusted-chain", "host-name-mismatch"} <= at_fault(done)


def test_a_certificate_that_ends_soon_is_told(program: Program, world: World) -> None:
    done = program(*CHECK, world.conninfo, "--warn-days", "100")
    finding = codes(done)["certificate-expires-soon"]
    assert done.code == 0
    assert "db.test" in finding["message"]  # and not the intermediate, which lasts years
    assert next(iter(codes(done))) == "verified"  # the good news first
    required = program(*CHECK, world.conninfo, "--warn-days", "100", "--sslmode", "require")
    assert list(codes(required))[:2] == ["reached", "certificate-expires-soon"]
    assert "certificate-expires-soon" not in codes(program(*CHECK, world.conninfo))
    assert program(*CHECK, world.conninfo, "--warn-days", "100", "--strict").code == 3


def test_a_stray_client_certificate_fails_a_good_server(
    program: Program, world: World, psql: Psql
) -> None:
    (world.home / ".postgresql" / "postgresql.crt").write_bytes(world.pki.leaf.pem)
    full = world.conninfo + " sslmode=verify-full"
    done = program(*CHECK, full)
    assert done.code == 3
    assert "stray-client-certificate" in at_fault(done)
    assert psql.connect(full, world.home).outcome == "fails"
    elsewhere = full + " sslcert=/nonexistent"
    assert program(*CHECK, elsewhere).code == 0
    assert psql.connect(elsewhere, world.home).outcome == "encrypted"


@pytest.mark.libpq
def test_a_client_certificate_is_left_alone_where_the_connection_wants_none(
    program: Program, world: World, libpqs: Libpqs
) -> None:
    """sslcertmode is libpq 16's."""
    try:
        libpq = libpqs[17]
    except ClientMissing as missing:
        pytest.skip(str(missing))
    (world.home / ".postgresql" / "postgresql.crt").write_bytes(world.pki.leaf.pem)
    for mode, code, outcome in (("allow", 3, "fails"), ("disable", 0, "encrypted")):
        full = f"{world.conninfo} sslmode=verify-full sslcertmode={mode}"
        assert program(*CHECK, full).code == code
        assert libpq.connect(full, world.home).outcome == outcome


@pytest.mark.libpq
def test_the_systems_roots_verify_where_libpq_says_so(
    program: Program, world: World, libpqs: Libpqs
) -> None:
    """sslrootcert=system is libpq 16's."""
    try:
        libpq = libpqs[17]
    except ClientMissing as missing:
        pytest.skip(str(missing))
    own = world.home / "system.pem"
    full = world.conninfo + " sslrootcert=system"
    for issuer, code, outcome in ((world.pki.root, 0, "encrypted"), (world.pki.other, 3, "fails")):
        own.write_bytes(issuer.certificate.pem)
        env = {"SSL_CERT_FILE": str(own)}
        assert dataclasses.replace(program, env=env)(*CHECK, full).code == code
        assert libpq.connect(full, world.home, env).outcome == outcome


@pytest.mark.psql
def test_the_lowest_version_of_tls_is_the_one_that_was_asked_for(
    program: Program, world: World, psql: Psql
) -> None:
    world.postgres.set_tls(world.pki.chain, world.pki.leaf.key_pem, max_protocol="TLSv1.2")
    full = world.conninfo + " sslmode=verify-full"
    for words, outcome in (
        ("", "encrypted"),
        (" ssl_min_protocol_version=TLSv1.2", "encrypted"),
        (" ssl_min_protocol_version=TLSv1.3", "fails"),
        (" ssl_min_protocol_version=''", "encrypted"),
    ):
        assert modes(program(*CHECK, full + words))["verify-full"]["outcome"] == outcome
        assert psql.connect(full + words, world.home).outcome == outcome


def test_sslcrldir_replaces_root_crl(program: Program, world: World, psql: Psql) -> None:
    full = world.conninfo + " sslmode=verify-full"
    crl("root", "issuing")(world)
    assert program(*CHECK, full).code == 0
    empty = world.home / "crls"
    empty.mkdir()
    hidden = f"{full} sslcrldir={empty}"
    assert program(*CHECK, hidden).code == 3
    assert psql.connect(hidden, world.home).outcome == "fails"
    # A list that is named decides, too, whatever root.crl holds.
    crl("root")(world)
    assert program(*CHECK, full).code == 3
    lists = world.home / "all.crl"
    lists.write_bytes(world.pki.root.crl() + world.pki.issuing.crl())
    named = f"{full} sslcrl={lists}"
    assert program(*CHECK, named).code == 0
    assert psql.connect(named, world.home).outcome == "encrypted"


@pytest.mark.skipif(sys.platform == "win32", reason="only on POSIX: named pipes")
@pytest.mark.parametrize("place", ["root.crl", "sslcrl", "sslcrldir"])
def test_nobody_waits_for_a_pipe_in_place_of_a_crl(
    program: Program, world: World, psql: Psql, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """libpq does, and no time limit ends that: nothing that a check may call healthy."""
    if sys.platform == "win32":
        return  # for the type checker
    full = world.conninfo + " sslmode=verify-full"
    lists = world.home / "lists"
    lists.mkdir()
    for authority in (world.pki.root, world.pki.issuing):
        told = ["openssl", "crl", "-noout", "-hash"]
        name = subprocess.run(told, input=authority.crl(), capture_output=True, check=True).stdout
        last = lists / f"{name.decode().strip()}.r0"
        last.write_bytes(authority.crl())
    whole = world.pki.root.crl() + world.pki.issuing.crl()
    if place == "root.crl":
        last = world.root_file.with_name("root.crl")
        last.write_bytes(whole)
    elif place == "sslcrl":
        last = world.home / "all.crl"
        last.write_bytes(whole)
        full += f" sslcrl={last}"
    else:
        full += f" sslcrldir={lists}"
    assert program.process(*CHECK, full).code == 0
    assert psql.connect(full, world.home).outcome == "encrypted"

    last.unlink()
    os.mkfifo(last)
    done = program.process(*CHECK, full)
    assert done.code == 3
    assert str(last) in codes(done)["crl-failure"]["message"]
    assert "verified" not in codes(done)
    assert server_of(done)["sslmodes"] == []
    monkeypatch.setattr(clients, "_PATIENCE", 2)
    with pytest.raises(clients.ClientDied):
        psql.connect(full, world.home)

    last.unlink()
    last.symlink_to(os.devnull)  # ends at once, and holds nothing: ignored, or a list is missing
    done = program.process(*CHECK, full)
    theirs = psql.connect(full, world.home)
    assert (done.code == 0) == (theirs.outcome == "encrypted"), (done, theirs)


# --- a root of the catalogue ----------------------------------------------------------------------


@pytest.fixture
def catalogued(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> Root:
    """The test root, as if it were one of the catalogue."""
    certificate = pki.root.certificate
    root = Root(
        name="test-root",
        subject=certificate.x509.subject.rfc4514_string(),
        sha256=certificate.sha256,
        sha1="0" * 40,
        serial="01",
        not_before=certificate.x509.not_valid_before_utc,
        not_after=certificate.x509.not_valid_after_utc,
        distrust_after=None,
        url="https://127.0.0.1:9/test-root.pem",
        needed_by=(),
    )
    known = MappingProxyType({**catalogue.ROOTS, root.name: root})
    monkeypatch.setattr(catalogue, "ROOTS", known)
    monkeypatch.setattr(
        catalogue, "_BY_FINGERPRINT", {each.sha256: each for each in known.values()}
    )
    real = sources.embedded
    monkeypatch.setattr(
        sources, "embedded", lambda each: certificate.der if each == root else real(each)
    )
    return root


G2 = canonical(sources.embedded(catalogue.ROOTS[catalogue.DEFAULT]))


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(G2, id="another root"),
        pytest.param(None, id="no file"),
        pytest.param(b"", id="an empty file"),
        pytest.param(
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", id="a damaged file"
        ),
    ],
)
def test_the_root_of_the_catalogue_that_would_help_is_named_and_helps(
    program: Program, world: World, catalogued: Root, before: bytes | None
) -> None:
    full = world.conninfo + " sslmode=verify-full"
    assert program(*CHECK, full).code == 0
    if before is None:
        world.root_file.unlink()
    else:
        world.root_file.write_bytes(before)
    done = program(*CHECK, full)
    assert done.code == 1, done.out
    (command,) = codes(done)["catalogue-root-would-fix"]["fix"]
    assert catalogued.name in command
    assert program.ok(*shlex.split(command)[1:], "--offline").code == 0
    assert program(*CHECK, full).code == 0


def test_a_root_of_the_catalogue_that_does_not_fit_is_not_named(
    program: Program, world: World
) -> None:
    world.root_file.write_bytes(world.pki.other.certificate.pem)
    assert "catalogue-root-would-fix" not in codes(program(*CHECK, world.conninfo))


def test_a_damaged_file_that_holds_the_issuer_is_the_only_thing_at_fault(
    program: Program, world: World, pki: Pki
) -> None:
    damaged = pki.root.certificate.pem + pki.other.certificate.pem.replace(b"MII", b"M!!", 1)
    world.root_file.write_bytes(damaged)
    done = program(*CHECK, world.conninfo)
    assert at_fault(done) == {"root-unloadable", "goal-missed"}
    why = modes(done)["verify-full"]["libpq_message"].splitlines()[0]
    assert codes(done)["goal-missed"]["message"].endswith(f" verify-full: {why}")
    # The control: another root in the damaged file does not explain the chain.
    world.root_file.write_bytes(
        damaged.replace(pki.root.certificate.pem, pki.other.certificate.pem)
    )
    assert at_fault(program(*CHECK, world.conninfo)) == {"root-unloadable", "untrusted-chain"}


def test_a_catalogue_name_on_an_impostor_is_not_the_catalogue_root(
    program: Program, world: World
) -> None:
    """The name alone proves nothing: the signature does."""
    issuing = Authority.root("DigiCert Global Root G2").intermediate("Fake", pathlen=0)
    world.serve(issuing, issuing.leaf(dns=["localhost"]))
    done = program(*CHECK, world.conninfo)
    assert done.code == 3
    assert "catalogue-root-would-fix" not in codes(done)


# --- servers that are no PostgreSQL, or not well --------------------------------------------------


def closing(connection: socket.socket, _server: Server) -> None:
    connection.recv(8)


def silent(connection: socket.socket, _server: Server) -> None:
    hold(connection)


HTTP = b"HTTP/1.1 400 Bad Request\r\n\r\n"

ANSWERS: list[Any] = [
    pytest.param(answering(b"N"), "server-without-tls", "refused", 3, id="N"),
    pytest.param(answering(HTTP), "http-proxy", "not-postgresql", 3, id="HTTP"),
    pytest.param(answering(b"220 mail\r\n"), "not-postgresql", "not-postgresql", 3, id="SMTP"),
    pytest.param(answering(b"\x1b[2J"), "not-postgresql", "not-postgresql", 3, id="escape codes"),
    pytest.param(answering(b"E\0\0\0\x08no"), "server-error", "error", 4, id="E"),
    pytest.param(closing, "closed-at-once", "closed", 4, id="closes"),
    pytest.param(silent, "timed-out", "timed-out", 4, id="silent"),
]


@pytest.mark.parametrize(("behaviour", "code", "answer", "exit_code"), ANSWERS)
def test_what_is_no_verified_postgresql_is_told_apart(
    program: Program, behaviour: Behaviour, code: str, answer: str, exit_code: int
) -> None:
    with serving(behaviour) as server:
        began = time.monotonic()
        done = program("check", "--json", "--timeout", "0.5", f"localhost:{server.port}")
        took = time.monotonic() - began
    assert took < 0.5 + 0.5
    assert done.code == exit_code, done.out
    assert at_fault(done) == {code}
    assert server_of(done)["answer"] == answer
    assert done.document["status"] == ("unknown" if exit_code == 4 else "action-needed")


def test_the_polite_server_of_the_same_bench_is_verified(program: Program, pki: Pki) -> None:
    """The control of the rows above, and the count: one connection where all is well."""
    with serving(answering(b"S", certified(pki.issuing, pki.leaf))) as server:
        done = program(*CHECK, f"localhost:{server.port}")
        assert done.code == 0, done.out
        assert server.settle(1) == ["close_notify"]
        assert len(server.received) == 1


def test_a_refused_chain_costs_one_more_connection(program: Program, pki: Pki) -> None:
    leaf = pki.other.leaf(dns=["localhost"])
    with serving(answering(b"S", certified(pki.other, leaf))) as server:
        assert program(*CHECK, f"localhost:{server.port}").code == 3
        server.settle(2)
        assert len(server.received) == 2


def test_nobody_there(program: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    done = program(*CHECK, f"localhost:{port}")
    assert done.code == 4
    assert at_fault(done) == {"unreachable"}
    assert server_of(done)["answer"] == "unreachable"


def test_a_name_that_does_not_resolve(program: Program) -> None:
    done = program(*CHECK, "host=no-such-host.invalid port=1")
    assert done.code == 4
    assert at_fault(done) == {"name-not-resolved"}
    assert server_of(done)["address"] is None


@pytest.mark.psql
def test_direct_tls_is_refused_by_a_server_that_does_not_know_it(
    program: Program, world: World
) -> None:
    if world.postgres.version >= 17:
        pytest.skip("needs a PostgreSQL server before 17")
    direct = world.conninfo + " sslmode=verify-full sslnegotiation=direct"
    done = program(*CHECK, direct)
    assert done.code == 3, done.out
    assert at_fault(done) == {"direct-tls-refused"}


def test_direct_tls_is_verified_where_it_is_taken(program: Program, pki: Pki) -> None:
    words = "sslmode=verify-full sslnegotiation=direct"
    with serving(speaking_tls(certified(pki.issuing, pki.leaf))) as server:
        done = program(*CHECK, f"host=localhost port={server.port} {words}")
        assert (done.code, at_fault(done)) == (0, set())
    no_alpn = tls_context(pki.chain, pki.leaf.key_pem, alpn=None)
    with serving(speaking_tls(no_alpn)) as server:
        done = program(*CHECK, f"host=localhost port={server.port} {words}")
        assert (done.code, at_fault(done)) == (3, {"direct-tls-refused"})


@pytest.mark.skipif(sys.platform == "win32", reason="only on POSIX")
@pytest.mark.parametrize(
    ("words", "host"),
    [
        (["host=/tmp"], "/tmp"),
        (["host=/tmp,localhost port=1,1"], "/tmp"),  # whether it answers is not ours to try
        (["-p", "5432"], "(the default socket)"),
        (["dbname=x"], "(the default socket)"),
    ],
)
def test_a_unix_socket_is_no_server_to_verify(
    program: Program, words: list[str], host: str
) -> None:
    done = program(*CHECK, *words)
    assert done.code == 0
    assert set(codes(done)) == {"unix-socket"}
    finding = codes(done)["unix-socket"]
    assert finding["severity"] == "ok"
    assert finding["message"].startswith(f"{host} is a Unix socket")
    server = server_of(done)
    assert (server["host"], server["sslmodes"]) == (host, [])
    assert server["answer"] == "unreachable"
    program.root_file.unlink()  # nothing was reached that would make this a trifle
    assert at_fault(program(*CHECK, *words)) == {"root-missing"}


# --- several hosts --------------------------------------------------------------------------------


def dead_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.mark.psql
def test_the_next_host_is_tried_where_no_connection_came_about(
    program: Program, world: World, psql: Psql
) -> None:
    port = world.postgres.port
    hosts = f"host=localhost,localhost port={dead_port()},{port} sslmode=verify-full"
    done = program(*CHECK, hosts)
    assert [each["answer"] for each in done.document["servers"]] == ["unreachable", "tls"]
    assert psql.connect(f"{hosts} user=app dbname=postgres", world.home).outcome == "encrypted"
    assert done.code == 0, done.out
    assert codes(done)["unreachable"]["severity"] == "warning"
    assert program(*CHECK, f"host=localhost port={dead_port()}").code == 4


def test_all_dead_hosts_could_not_tell(program: Program) -> None:
    done = program(*CHECK, f"host=localhost,localhost port={dead_port()},{dead_port()}")
    assert done.code == 4
    assert len(done.document["servers"]) == 2


def test_the_next_host_is_not_tried_where_the_first_refused(program: Program, pki: Pki) -> None:
    good = answering(b"S", certified(pki.issuing, pki.leaf))
    with serving(answering(b"N")) as first, serving(good) as second:
        done = program(*CHECK, f"host=localhost,localhost port={first.port},{second.port}")
        assert [each["answer"] for each in done.document["servers"]] == ["refused"]
        assert done.code == 3
        assert second.received == []


# --- all that are known ---------------------------------------------------------------------------


def test_of_all_connections_each_is_judged_by_its_own_file_and_the_default_is_shown(
    program: Program, world: World
) -> None:
    own = world.home / "own.crt"
    own.write_bytes(world.root_file.read_bytes())
    world.root_file.write_bytes(world.pki.other.certificate.pem)
    where = f"host=localhost\nport={world.postgres.port}\nsslmode=verify-full\n"
    services = world.home / ".pg_service.conf"
    services.write_text(f"[own]\n{where}sslrootcert={own}\n[default]\n{where}")
    done = program(*CHECK, "--all")
    file = done.document["root_file"]
    assert (file["path"], file["decided_by"]) == (str(world.root_file), "default")
    reached = {
        each["origin"].split()[1]: each["verify_error"] is None for each in done.document["servers"]
    }
    assert reached == {"own": True, "default": False}
    assert "no-known-server" not in codes(done)
    one = program(*CHECK, "--service", "own").document["root_file"]
    assert (one["path"], one["decided_by"]) == (str(own), "service")
    services.unlink()
    none = program(*CHECK, "--all")
    assert (none.code, none.document["servers"]) == (0, [])
    assert set(codes(none)) == {"no-known-server"}
    assert codes(none)["no-known-server"]["severity"] == "ok"
    assert none.document["root_file"]["path"] == str(world.root_file)


# --- manners --------------------------------------------------------------------------------------


@pytest.mark.psql
def test_a_postgresql_that_is_content_logs_nothing(
    program: Program, world: World, psql: Psql
) -> None:
    world.postgres.mark()
    assert program(*CHECK, world.conninfo).code == 0
    assert world.postgres.log() == []
    psql.connect(world.conninfo + " user=nobody-there sslmode=require", world.home)
    assert world.postgres.log() != []  # the log would have told


@pytest.mark.psql
def test_a_postgresql_that_logs_connections_sees_one(program: Program, world: World) -> None:
    world.postgres.set_log_connections(True)
    world.postgres.mark()
    assert program(*CHECK, world.conninfo).code == 0
    log = world.postgres.log()
    assert len([line for line in log if "connection received" in line]) == 1
    assert not [line for line in log if "authorized" in line or "ERROR" in line or "FATAL" in line]


# --- the corrected connection string --------------------------------------------------------------


@pytest.mark.psql
@pytest.mark.parametrize("mode", ["disable", "prefer", "require", "verify-ca"])
@pytest.mark.parametrize("form", ["key/value", "psql", "URI"])
def test_the_corrected_connection_string_works_in_psql(
    program: Program, world: World, psql: Psql, mode: str, form: str
) -> None:
    given = f"{world.conninfo} password=Zq7Xv sslmode={mode}"
    if form == "psql":
        given = f'psql "{given}"'
    if form == "URI":
        given = f"postgresql://app:Zq7Xv@localhost:{world.postgres.port}/postgres?sslmode={mode}"
    done = program(*CHECK, given)
    assert done.code == 0, done.out
    finding = codes(done)["weak-sslmode"]
    assert mode in finding["message"]
    corrected = server_of(done)["conninfo"]
    assert finding["fix"] + finding["advice"] == [corrected]
    if form == "psql":
        name, corrected = shlex.split(corrected)
        assert name == "psql"
    assert "Zq7Xv" not in corrected
    assert psql.connect(corrected, world.home).outcome == "encrypted"
    world.root_file.write_bytes(world.pki.other.certificate.pem)
    assert psql.connect(corrected, world.home).outcome == "fails"  # it does verify
    assert "weak-sslmode" not in codes(program(*CHECK, corrected))


@pytest.mark.parametrize(
    ("mode", "possible"), [("disable", True), ("allow", True), ("prefer", True), ("require", False)]
)
def test_plaintext_is_called_possible_where_it_is(
    program: Program, world: World, mode: str, possible: bool
) -> None:
    done = program(*CHECK, f"{world.conninfo} sslmode={mode}")
    assert ("plaintext-possible" in codes(done)) is possible
    ends = "ends in" if mode in ("disable", "allow") else "can be forced into"
    assert (f"with {mode} the connection {ends} plaintext where" in done.out) is possible
    assert "sslmode=prefer" not in str([each["fix"] for each in codes(done).values()])
