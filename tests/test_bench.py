"""The bench is right: what it calls success, refusal, plaintext and silence really is that."""

from __future__ import annotations

import platform
import socket
import ssl
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests import postgres as postgres_module
from tests.clients import WHEELS, Client, ClientDied, ClientMissing, Libpq, Libpqs, Psql, Wheel
from tests.conftest import Pki
from tests.pki import (
    CLIENT_AUTH,
    DAY,
    Authority,
    Certificate,
    ec_key,
    key_usage,
    rsa_key,
    self_signed,
)
from tests.postgres import ADDRESS, Hba, Postgres, PostgresFailed

pytestmark = pytest.mark.psql

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
VERIFY_FAILED = "SSL error: certificate verify failed"
NO_HBA_ENTRY = "no pg_hba.conf entry"


def with_root_file(home: Path, content: bytes | None) -> Path:
    """A home with this root file (None: without one)."""
    folder = home / ".postgresql"
    folder.mkdir()
    if content is not None:
        (folder / "root.crt").write_bytes(content)
    return home


# Clients.


def test_verify_full_connects_with_the_right_root_only(
    postgres: Postgres, pki: Pki, any_libpq: Libpq, psql: Psql, tmp_path: Path
) -> None:
    """By `sslrootcert`, which every version obeys."""
    right, other = tmp_path / "right.crt", tmp_path / "other.crt"
    right.write_bytes(pki.root.certificate.pem)
    other.write_bytes(pki.other.certificate.pem)
    for client in (any_libpq, psql):

        def connect(root_file: Path, client: Client = client) -> tuple[str, str]:
            conninfo = postgres.conninfo(
                "db.test", sslmode="verify-full", sslrootcert=str(root_file)
            )
            result = client.connect(conninfo, home=tmp_path)
            return result.outcome, result.message

        assert connect(right) == ("encrypted", "")
        outcome, message = connect(other)
        assert outcome == "fails"
        assert VERIFY_FAILED in message
        outcome, message = connect(tmp_path / "none.crt")
        assert outcome == "fails"
        assert f'root certificate file "{tmp_path}/none.crt" does not exist' in message


@pytest.mark.parametrize(
    ("file", "expected", "said"),
    [
        pytest.param("right", "encrypted", "", id="right"),
        pytest.param("other", "fails", VERIFY_FAILED, id="other"),
        pytest.param("none", "fails", "root.crt", id="none"),
    ],
)
def test_the_home_that_a_test_gives_is_the_one_that_libpq_searches(
    postgres: Postgres,
    pki: Pki,
    libpq: Libpq,
    psql: Psql,
    tmp_path: Path,
    file: str,
    expected: str,
    said: str,
) -> None:
    content = {"right": pki.root.certificate.pem, "other": pki.other.certificate.pem}.get(file)
    home = with_root_file(tmp_path, content)
    for client in (libpq, psql):
        result = client.connect(postgres.conninfo(sslmode="verify-full"), home=home)
        assert result.outcome == expected
        assert said in result.message
        if file == "none":
            assert f'"{home}/.postgresql/root.crt" does not exist' in result.message


def test_a_silent_downgrade_is_seen_as_plaintext(
    postgres: Postgres, pki: Pki, libpq: Libpq, psql: Psql, tmp_path: Path
) -> None:
    home = with_root_file(tmp_path, pki.other.certificate.pem)
    for client in (libpq, psql):
        prefer = client.connect(postgres.conninfo(sslmode="prefer"), home=home)
        assert (prefer.outcome, prefer.message) == ("plaintext", "")
        assert client.connect(postgres.conninfo(sslmode="require"), home=home).outcome == "fails"


def test_each_connection_has_an_environment_of_its_own(
    postgres: Postgres, libpq: Libpq, psql: Psql, tmp_path: Path
) -> None:
    for client in (libpq, psql):

        def outcome(env: dict[str, str] | None = None, client: Client = client) -> str:
            return client.connect(postgres.conninfo(), home=tmp_path, env=env).outcome

        assert outcome({"PGSSLMODE": "disable"}) == "plaintext"
        assert outcome() == "encrypted"
        assert outcome({"PGSSLMODE": "verify-full"}) == "fails"
        assert outcome() == "encrypted"


def test_the_environment_of_the_tests_does_not_reach_a_client(
    postgres: Postgres, libpq: Libpq, psql: Psql, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "disable")
    for client in (libpq, psql):
        assert client.connect(postgres.conninfo(), home=tmp_path).outcome == "encrypted"


def test_a_relative_root_file_is_found_from_the_folder_that_a_test_gives(
    postgres: Postgres, pki: Pki, libpq: Libpq, psql: Psql, tmp_path: Path
) -> None:
    (tmp_path / "here.crt").write_bytes(pki.root.certificate.pem)
    conninfo = postgres.conninfo(sslmode="verify-full", sslrootcert="here.crt")
    for client in (libpq, psql):
        assert client.connect(conninfo, cwd=tmp_path).outcome == "encrypted"
        assert client.connect(conninfo, cwd=tmp_path.parent).outcome == "fails"


def test_a_host_name_that_the_certificate_lacks_is_refused(
    postgres: Postgres, pki: Pki, libpq: Libpq, tmp_path: Path
) -> None:
    home = with_root_file(tmp_path, pki.root.certificate.pem)
    for host, expected in (
        ("db.test", "encrypted"),
        ("a.wild.test", "encrypted"),
        ("127.0.0.1", "encrypted"),
        ("elsewhere.test", "fails"),
        ("a.b.wild.test", "fails"),
    ):
        result = libpq.connect(postgres.conninfo(host, sslmode="verify-full"), home=home)
        assert (host, result.outcome) == (host, expected)
    assert "does not match host name" in result.message


def test_each_wheel_carries_the_libpq_that_the_table_says(
    any_libpq: Libpq, request: pytest.FixtureRequest
) -> None:
    major = request.node.callspec.params["any_libpq"]
    assert any_libpq.version == WHEELS[major].libpq
    assert any_libpq.version // 10000 == major


def test_a_connection_through_a_worker_is_cheap(
    postgres: Postgres, libpq: Libpq, psql: Psql, tmp_path: Path
) -> None:
    """6 to 9 ms where it was measured, beside 50 for a process; both are slower on a busy machine."""

    def connect(client: Client) -> None:
        assert client.connect(postgres.conninfo(), home=tmp_path).outcome == "encrypted"

    assert fastest(lambda: connect(libpq)) < 0.7 * fastest(lambda: connect(psql))


def fastest(action: Callable[[], None]) -> float:
    """Seconds that *action* takes when nothing else keeps the machine busy."""
    times = []
    for _ in range(10):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return min(times)


@pytest.mark.libpq
def test_a_libpq_that_died_is_replaced(libpqs: Libpqs, libpq: Libpq) -> None:
    major = libpq.version // 10000
    assert libpqs[major] is libpq
    libpq.process.kill()
    with pytest.raises(ClientDied):
        libpq.connect("host=127.0.0.1 port=1")
    assert libpqs[major].connect("host=127.0.0.1 port=1").outcome == "fails"


def wheel_in(folder: Path, wheel: Wheel) -> Path:
    """A wheel of the right name with something else in it."""
    name = wheel.distribution.replace("-", "_")
    python = "cp" + wheel.python.replace(".", "")
    file = folder / f"{name}-{wheel.version}-{python}-{python}-manylinux2014_x86_64.whl"
    with zipfile.ZipFile(file, "w") as archive:
        info = f"{name}-{wheel.version}.dist-info"
        about = f"Metadata-Version: 2.1\nName: {wheel.distribution}\nVersion: {wheel.version}\n"
        archive.writestr(f"{info}/METADATA", about)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\n")
        archive.writestr(f"{name}.libs/libpq-forged.so.5", "forged")
    return file


@pytest.mark.skipif(sys.platform != "linux", reason="libpq is loaded from Linux wheels")
@pytest.mark.parametrize(
    ("forged", "machine", "why"),
    [
        pytest.param(False, "x86_64", "No matching distribution", id="no-such-wheel"),
        pytest.param(True, "x86_64", "is not the file that was pinned", id="another-file"),
        pytest.param(False, "riscv64", "no wheel with libpq is known", id="unknown-machine"),
    ],
)
def test_a_libpq_that_cannot_be_had_is_missing_for_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forged: bool, machine: str, why: str
) -> None:
    offered, cache = tmp_path / "offered", tmp_path / "cache"
    offered.mkdir()
    if forged:
        wheel_in(offered, WHEELS[17])
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setenv("QS_CERTS_TEST_CACHE", str(cache))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(offered))
    with pytest.raises(ClientMissing, match=why):
        Libpqs()[17]
    assert not cache.exists() or list(cache.iterdir()) == []


# The server.


@pytest.mark.parametrize(
    ("hba", "tls", "outcomes"),
    [
        pytest.param("host", True, ("plaintext", "encrypted", "encrypted"), id="both"),
        pytest.param("hostssl", True, ("fails", "encrypted", "encrypted"), id="tls-only"),
        pytest.param("hostnossl", True, ("plaintext", "plaintext", "fails"), id="plaintext-only"),
        pytest.param("host", False, ("plaintext", "plaintext", "fails"), id="ssl-off"),
    ],
)
def test_the_server_lets_in_whom_a_test_wants(
    postgres: Postgres, pki: Pki, psql: Psql, tmp_path: Path, hba: Hba, tls: bool, outcomes: object
) -> None:
    postgres.set_hba(hba)
    if not tls:
        postgres.set_tls(None)
    results = [
        psql.connect(postgres.conninfo(sslmode=mode), home=tmp_path)
        for mode in ("disable", "prefer", "require")
    ]
    assert tuple(result.outcome for result in results) == outcomes
    refusals = {result.message.splitlines()[-1] for result in results if result.message}
    why = NO_HBA_ENTRY if tls else "server does not support SSL, but SSL was required"
    assert all(why in refusal for refusal in refusals)


@contextmanager
def tls_session(server: Postgres, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    with socket.create_connection((ADDRESS, server.port), timeout=5) as connection:
        connection.sendall(SSL_REQUEST)
        assert connection.recv(1) == b"S"
        with context.wrap_socket(connection, server_hostname="db.test") as session:
            yield session


def unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def close_politely(server: Postgres) -> None:
    with tls_session(server, unverified()) as session:
        session.unwrap()


def close_after_the_handshake(server: Postgres) -> None:
    with tls_session(server, unverified()):
        pass


def close_before_the_handshake(server: Postgres) -> None:
    with socket.create_connection((ADDRESS, server.port), timeout=5) as connection:
        connection.sendall(SSL_REQUEST)
        assert connection.recv(1) == b"S"


def refuse_the_certificate(server: Postgres) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with pytest.raises(ssl.SSLCertVerificationError), tls_session(server, context):
        pass


def connect_only(server: Postgres) -> None:
    socket.create_connection((ADDRESS, server.port), timeout=5).close()


@pytest.mark.parametrize(
    ("behave", "logged"),
    [
        pytest.param(close_politely, [], id="close-notify"),
        pytest.param(connect_only, [], id="connect-only"),
        pytest.param(
            close_before_the_handshake,
            ["could not accept SSL connection: EOF detected"],
            id="closed-before-handshake",
        ),
        pytest.param(
            refuse_the_certificate,
            ["could not accept SSL connection: tlsv1 alert unknown ca"],
            id="certificate-refused",
        ),
    ],
)
def test_the_log_tells_rude_clients_from_polite_ones(
    postgres: Postgres, behave: Callable[[Postgres], None], logged: list[str]
) -> None:
    postgres.mark()
    behave(postgres)
    assert [line.removeprefix("LOG:  ") for line in postgres.log()] == logged


def test_no_line_is_missed_and_none_is_left_over(postgres: Postgres) -> None:
    postgres.mark()
    for _ in range(20):
        close_before_the_handshake(postgres)
    assert len(postgres.log()) == 20
    postgres.mark()
    assert postgres.log() == []


def test_a_log_is_not_read_while_a_client_is_connected(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_module, "SILENCE_WITHIN", 0.2)
    with tls_session(postgres, unverified()) as session:
        with pytest.raises(PostgresFailed, match="still connected"):
            postgres.log()
        session.unwrap()
    postgres.log()


def test_connections_that_succeed_are_logged_on_request(
    postgres: Postgres, psql: Psql, tmp_path: Path
) -> None:
    def lines() -> list[str]:
        postgres.mark()
        assert psql.connect(postgres.conninfo(), home=tmp_path).outcome == "encrypted"
        return postgres.log()

    assert lines() == []
    postgres.set_log_connections(True)
    assert len([line for line in lines() if "connection authorized: user=app" in line]) == 1
    postgres.mark()
    assert postgres.log() == []  # the bench's own connections are no clients


def test_a_key_that_does_not_fit_is_refused_and_the_old_one_stays(
    postgres: Postgres, pki: Pki, psql: Psql, tmp_path: Path
) -> None:
    home = with_root_file(tmp_path, pki.root.certificate.pem)
    stranger = pki.issuing.leaf(dns=["elsewhere.test"])
    with pytest.raises(PostgresFailed, match="key values mismatch"):
        postgres.set_tls(pki.chain, stranger.key_pem)
    conninfo = postgres.conninfo("db.test", sslmode="verify-full")
    assert psql.connect(conninfo, home=home).outcome == "encrypted"


@pytest.mark.parametrize(
    ("version", "outcome"),
    [("TLSv1.1", "fails"), ("TLSv1.2", "encrypted"), ("TLSv1.3", "encrypted")],
)
def test_the_server_speaks_the_protocol_versions_that_it_is_told(
    postgres: Postgres, pki: Pki, libpq: Libpq, tmp_path: Path, version: str, outcome: str
) -> None:
    """libpq's own lower bound is TLS 1.2."""
    postgres.set_tls(
        pki.chain,
        pki.leaf.key_pem,
        min_protocol=version,  # type: ignore[arg-type]
        max_protocol=version,  # type: ignore[arg-type]
    )
    result = libpq.connect(postgres.conninfo(sslmode="require"), home=tmp_path)
    assert result.outcome == outcome
    if outcome == "encrypted":
        with tls_session(postgres, unverified()) as session:
            assert session.version() == version
            session.unwrap()


@pytest.mark.parametrize(
    ("issuer", "revoked", "outcome"),
    [
        pytest.param("root", False, "encrypted", id="right"),
        pytest.param("other", False, "fails", id="stranger"),
        pytest.param("root", True, "fails", id="revoked"),
    ],
)
def test_the_server_judges_client_certificates_when_told_to(
    postgres: Postgres,
    pki: Pki,
    psql: Psql,
    tmp_path: Path,
    issuer: str,
    revoked: bool,
    outcome: str,
) -> None:
    authority = pki.root if issuer == "root" else pki.other
    client = authority.leaf(common_name="app", extended_usage=CLIENT_AUTH)
    postgres.set_tls(
        pki.chain,
        pki.leaf.key_pem,
        client_ca=pki.root.certificate.pem,
        client_crl=pki.root.crl([client] if revoked else []),
    )
    certificate, key = tmp_path / "client.crt", tmp_path / "client.key"
    certificate.write_bytes(client.pem)
    key.touch(0o600)  # libpq refuses a key that others may read
    key.write_bytes(client.key_pem)
    conninfo = postgres.conninfo(sslmode="require", sslcert=str(certificate), sslkey=str(key))
    assert psql.connect(conninfo, home=tmp_path).outcome == outcome


def test_settings_are_in_force_within_a_tenth_of_a_second(postgres: Postgres) -> None:
    def change() -> None:
        postgres.set_hba("host" if postgres.settings.hba == "hostssl" else "hostssl")

    assert fastest(change) < 0.1


@pytest.mark.skipif(sys.platform == "win32", reason="the test server is for POSIX systems")
def test_the_server_does_not_outlive_tests_that_are_killed(postgres: Postgres) -> None:
    program = (
        "import sys\n"
        "from tests.postgres import Postgres\n"
        "with Postgres.start() as server:\n"
        "    print(server.port, server.folder, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as tests:
        assert tests.stdout is not None
        port, folder = tests.stdout.readline().split()
        socket.create_connection((ADDRESS, int(port))).close()
        tests.kill()
    end = time.monotonic() + 10
    while Path(folder).exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert not Path(folder).exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((ADDRESS, int(port)))


# The PKI, as OpenSSL judges it.  Its verify codes say why, where libpq's words are always the same.


@dataclass(frozen=True, slots=True)
class Served:
    """What a server sends, and what is in the client's files."""

    authority: Authority | None
    leaf: Certificate
    trusted: tuple[Certificate, ...]
    crls: tuple[bytes, ...] = ()
    security_level: int = 0
    codes: set[int] = field(default_factory=set)
    """OpenSSL's verify codes for it, by generation; empty: the connection succeeds."""

    @property
    def chain(self) -> bytes:
        return self.leaf.pem if self.authority is None else self.authority.chain(self.leaf)


def _served() -> dict[str, Served]:
    name = ["db.test"]
    yesterday, last_year, tomorrow = (DAY + timedelta(days=days) for days in (-1, -365, 2))
    root, other = Authority.root("Root"), Authority.root("Other")
    issuing = root.intermediate("Issuing")
    leaf = issuing.leaf(dns=name)
    anchor, stranger = root.certificate, other.certificate
    bridge = other.cross_sign(root)
    lone = self_signed(dns=name)
    expired_root = root.renewed(last_year, yesterday).certificate
    renewed_root = root.renewed(yesterday, DAY + timedelta(days=99)).certificate
    nameless, false_nameless = (
        Authority.root("Nameless", key_identifiers=False),
        Authority.root("Nameless", key=ec_key("false"), key_identifiers=False),
    )
    below_nameless = nameless.leaf(dns=name, key_identifiers=False)
    rsa_root = Authority.root("RSA", key=rsa_key())
    dns_test, dns_example = [x509.DNSName("test")], [x509.DNSName("example")]
    whole = (root.crl(), issuing.crl())
    old_crl = issuing.crl(last_update=last_year, next_update=yesterday)

    def under(authority: Authority, codes: set[int], **leaf_options: Any) -> Served:
        leaf = authority.leaf(dns=name, **leaf_options)
        return Served(authority, leaf, (anchor,), codes=codes)

    def weak(authority: Authority, level: int, codes: set[int], **leaf_options: Any) -> Served:
        leaf = authority.leaf(dns=name, **leaf_options)
        trusted = (anchor, rsa_root.certificate)
        return Served(authority, leaf, trusted, security_level=level, codes=codes)

    return {
        "right root": Served(issuing, leaf, (anchor,)),
        "right and other root": Served(issuing, leaf, (stranger, anchor)),
        "other root": Served(issuing, leaf, (stranger,), codes={20}),
        "intermediate not sent": Served(root, leaf, (anchor,), codes={20}),
        "directly under the root": under(root, set()),
        "impostor of the root": Served(issuing, leaf, (root.impostor().certificate,), codes={20}),
        "impostor without identifiers": Served(
            nameless, below_nameless, (false_nameless.certificate,), codes={7}
        ),
        "its real issuer": Served(nameless, below_nameless, (nameless.certificate,)),
        "expired copy of the root": Served(issuing, leaf, (expired_root,), codes={10}),
        "renewed copy of the root": Served(issuing, leaf, (renewed_root,)),
        "cross-signed root alone": Served(issuing, leaf, (bridge,), codes={2}),
        "cross-signed root and its issuer": Served(issuing, leaf, (bridge, stranger)),
        "expired": under(issuing, {10}, not_before=last_year, not_after=yesterday),
        "not yet valid": under(issuing, {9}, not_before=tomorrow),
        "intermediate expired": under(
            root.intermediate("Old", not_before=last_year, not_after=yesterday), {10}
        ),
        "intermediate is no CA": under(root.intermediate("No CA", ca=False), {24, 79}),
        "intermediate may not sign": under(
            root.intermediate("No sign", usage=key_usage("crl_sign")), {24, 79}
        ),
        "path length kept": under(root.intermediate("One", pathlen=1).intermediate("Two"), set()),
        "path length exceeded": under(
            root.intermediate("Zero", pathlen=0).intermediate("Below"), {25}
        ),
        "name permitted": under(root.intermediate("Test", permitted=dns_test), set()),
        "name not permitted": under(root.intermediate("Example", permitted=dns_example), {47}),
        "name excluded": under(root.intermediate("Not test", excluded=dns_test), {48}),
        "for clients only": under(issuing, {26}, extended_usage=CLIENT_AUTH),
        "for anything": under(issuing, set(), extended_usage=()),
        "no key usage": under(issuing, set(), usage=None),
        "no basic constraints": under(issuing, set(), ca=None),
        "leaf that says it is a CA": under(issuing, set(), ca=True),
        "self-signed": Served(None, lone, (anchor,), codes={18}),
        "self-signed and trusted": Served(None, lone, (lone,)),
        "RSA": under(issuing, set(), key=rsa_key()),
        "1024 bits, laxly": weak(issuing, 0, set(), key=rsa_key(1024)),
        "1024 bits, strictly": weak(issuing, 2, {66}, key=rsa_key(1024)),
        "SHA-1, laxly": weak(issuing, 0, set(), sha1=True),
        "SHA-1, strictly": weak(issuing, 2, {68}, sha1=True),
        "SHA-1 with RSA, laxly": weak(rsa_root, 0, set(), sha1=True),
        "SHA-1 with RSA, strictly": weak(rsa_root, 2, {68}, sha1=True),
        "CRLs that revoke nothing": Served(issuing, leaf, (anchor,), whole),
        "CRL of the root only": Served(issuing, leaf, (anchor,), whole[:1], codes={3}),
        "revoked": Served(issuing, leaf, (anchor,), (whole[0], issuing.crl([leaf])), codes={23}),
        "intermediate revoked": Served(
            issuing, leaf, (anchor,), (root.crl([issuing.certificate]), whole[1]), codes={23}
        ),
        "expired CRL": Served(issuing, leaf, (anchor,), (whole[0], old_crl), codes={12}),
    }


SERVED = _served()


@pytest.mark.parametrize("case", SERVED.values(), ids=SERVED.keys())
def test_certificates_are_wrong_in_just_the_way_that_they_should_be(
    postgres: Postgres, tmp_path: Path, case: Served
) -> None:
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(b"".join(anchor.pem for anchor in case.trusted) + b"".join(case.crls))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers(f"DEFAULT:@SECLEVEL={case.security_level}")
    context.load_verify_locations(cafile=trusted)
    if case.crls:
        # Two flags in OpenSSL; Python's VERIFY_CRL_CHECK_CHAIN sets both.
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN

    postgres.set_tls(case.chain, case.leaf.key_pem)
    if not case.codes:
        with tls_session(postgres, context) as session:
            assert session.getpeercert(binary_form=True) == case.leaf.der
            session.unwrap()
        return
    with (
        pytest.raises(ssl.SSLCertVerificationError) as refusal,
        tls_session(postgres, context),
    ):
        pass
    assert refusal.value.verify_code in case.codes


def test_the_same_call_makes_the_same_keys_and_serial_numbers() -> None:
    again = Authority.root("Test Root").intermediate().leaf(dns=["db.test"])
    once = Authority.root("Test Root").intermediate().leaf(dns=["db.test"])
    assert again.key_pem == once.key_pem
    assert again.x509.serial_number == once.x509.serial_number
    other = Authority.root("Test Root").intermediate().leaf(dns=["other.test"])
    assert other.key_pem != once.key_pem
    assert other.x509.serial_number != once.x509.serial_number


def test_a_certificate_names_only_what_it_was_told_to() -> None:
    root = Authority.root("Root")
    bare = root.leaf(common_name=["one.test", "two.test"]).x509
    assert bare.subject.rfc4514_string() == "CN=two.test,CN=one.test"
    with pytest.raises(x509.ExtensionNotFound):
        bare.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    named = root.leaf(dns=["a.test"], ips=["::1"], san=[x509.RFC822Name("x@a.test")]).x509
    names = named.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert [type(name) for name in names.value] == [
        x509.DNSName,
        x509.IPAddress,
        x509.RFC822Name,
    ]
    assert names.critical  # the subject is empty
    assert named.subject.rfc4514_string() == ""
