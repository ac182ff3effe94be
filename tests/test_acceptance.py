"""What the issue asks for, word for word, with the real program, psql and PostgreSQL."""

from __future__ import annotations

import itertools
import ssl
import stat
import time
from pathlib import Path

import pytest

import qs_certs
from qs_certs import catalogue, openssl
from qs_certs.bundle import canonical, parse
from tests.clients import Psql
from tests.conftest import Pki
from tests.pki import Authority
from tests.postgres import Postgres
from tests.program import Program, snapshot

G2 = catalogue.ROOTS[catalogue.DEFAULT]
EMBEDDED = Path(qs_certs.__file__).parent / "roots" / f"{G2.name}.pem"
DEBIAN = Path("/etc/ssl/certs/ca-certificates.crt")


@pytest.fixture
def program(tmp_path: Path) -> Program:
    home = tmp_path / "home"
    home.mkdir()
    return Program(home)


def test_in_an_empty_home_one_command_makes_the_right_file_in_two_seconds(
    program: Program,
) -> None:
    took = []
    for _ in range(3):  # colleagues share this machine: the best of three is the program's own
        start = time.perf_counter()
        done = program.process("install", "--offline")
        took.append(time.perf_counter() - start)
        assert done.code == 0, done
        if took[-1] < 2:
            break
        assert program.process("rollback").code == 0
    assert min(took) < 2
    loaded = openssl.load(program.root_file)
    assert loaded.error is None
    assert [ssl.DER_cert_to_PEM_cert(der) for der in loaded.ca_ders] == [EMBEDDED.read_text()]
    assert program.root_file.read_bytes() == EMBEDDED.read_bytes()
    assert stat.S_IMODE(program.root_file.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(program.root_file.stat().st_mode) == 0o644
    assert sorted(path.name for path in program.root_file.parent.iterdir()) == ["root.crt"]


@pytest.mark.psql
def test_psql_loads_the_file_that_install_made(
    program: Program, psql: Psql, postgres: Postgres
) -> None:
    conninfo = postgres.conninfo(host="localhost", sslmode="verify-full")
    assert "does not exist" in psql.connect(conninfo, home=program.home).message
    assert program.process("install", "--offline").code == 0
    loaded = psql.connect(conninfo, home=program.home).message
    assert "certificate verify failed" in loaded  # read, and the test's server is of another CA
    program.root_file.write_bytes(program.root_file.read_bytes()[:-40])
    assert "could not read root certificate file" in psql.connect(conninfo, program.home).message


def test_a_second_install_touches_nothing(program: Program) -> None:
    assert program.process("install", "--offline").code == 0
    before = snapshot(program.home)
    done = program.process("install")  # would have to download, if there were anything to do
    assert done.code == 0
    assert "nothing to do" in done.out
    assert done.err == ""
    assert snapshot(program.home) == before
    program.root_file.write_bytes(b"")  # a control
    assert snapshot(program.home) != before


@pytest.mark.parametrize(
    "env",
    [
        pytest.param({}, id="the proxy is down"),
        pytest.param(
            {"HTTPS_PROXY": "", "QS_CERTS_URL": "https://root.invalid/root.pem"},
            id="the name cannot be resolved",
        ),
        pytest.param(
            {"HTTPS_PROXY": "", "QS_CERTS_URL": "https://127.0.0.1:9/root.pem"},
            id="nobody answers",
        ),
    ],
)
def test_without_any_network_the_embedded_copy_is_installed(
    program: Program, env: dict[str, str]
) -> None:
    program = Program(program.home, env)
    document = program.process("install", "--json").document
    assert document["exit_code"] == 0
    (target,) = document["targets"]
    assert (target["status"], target["source"]) == ("changed", "embedded")
    (warning,) = [each for each in document["findings"] if each["code"] == "could-not-download"]
    assert "used the embedded copy" in warning["message"]
    assert program.root_file.read_bytes() == EMBEDDED.read_bytes()


def test_every_byte_of_debian_s_bundle_stays_in_front(program: Program) -> None:
    if not DEBIAN.exists():
        pytest.skip(f"this machine has no {DEBIAN}")
    mine = program.home / "bundle.crt"
    mine.write_bytes(DEBIAN.read_bytes())
    if openssl.load(mine).ca_ders >= openssl.load(EMBEDDED).ca_ders:
        # Debian has G2 already: there is nothing to do, until it is taken out.
        before = snapshot(program.home)
        assert "nothing to do" in program.ok("install", "--offline", "--target", mine).out
        assert snapshot(program.home) == before
        program.ok("remove", "--target", mine)
    old = mine.read_bytes()
    count = openssl.load(mine).certificates
    program.ok("install", "--offline", "--target", mine)
    assert mine.read_bytes() == old + EMBEDDED.read_bytes()
    assert openssl.load(mine).certificates == count + 1
    program.ok("remove", "--target", mine)
    assert mine.read_bytes() == old


def ten_thousand() -> bytes:
    """Ten thousand roots: one real one, renamed in place.  Nothing checks a root's signature."""
    name = "Root 00000"
    der = Authority.root(name).certificate.der
    assert der.count(name.encode()) == 2  # subject and issuer
    return b"".join(
        canonical(der.replace(name.encode(), f"Root {number:05}".encode()))
        for number in range(10_000)
    )


@pytest.mark.slow
def test_every_byte_of_ten_thousand_certificates_stays_in_front(program: Program) -> None:
    old = ten_thousand()
    mine = program.home / "many.crt"
    mine.write_bytes(old)
    done = program("install", "--offline", "--target", mine, "--json")
    assert done.code == 0, done
    assert mine.read_bytes() == old + EMBEDDED.read_bytes()
    assert len(parse(mine.read_bytes()).fingerprints) == 10_001  # OpenSSL counted them in install
    # The diff shows the end of the file, not all of it.
    assert len(done.out) < 10_000
    assert done.document["targets"][0]["added"] == [G2.name]
    program.ok("rollback", "--target", mine)
    assert mine.read_bytes() == old


@pytest.mark.psql
def test_verify_full_works_exactly_while_the_root_is_installed(
    program: Program, psql: Psql, postgres: Postgres, pki: Pki
) -> None:
    root = pki.root.certificate
    source = program.home / "root.pem"
    source.write_bytes(root.pem)
    conninfo = postgres.conninfo(host="localhost", sslmode="verify-full")

    outcomes = [psql.connect(conninfo, home=program.home).outcome]
    for words in itertools.chain(
        [("install", "--from", source, "--sha256", root.sha256)], [("rollback",)] * 2
    ):
        done = program.process(*words)
        assert done.code == 0, done
        outcomes.append(psql.connect(conninfo, home=program.home).outcome)
    assert outcomes == ["fails", "encrypted", "fails", "encrypted"]

    # Controls: it is this root that does it, and the host name still counts.
    assert "certificate verify failed" in _with_root(program, pki.other, psql, conninfo)
    program.ok("rollback")
    wrong_name = postgres.conninfo(host="another.example", sslmode="verify-full")
    assert "does not match host name" in psql.connect(wrong_name, home=program.home).message


def _with_root(program: Program, root: Authority, psql: Psql, conninfo: str) -> str:
    """psql's message where *root* alone is trusted."""
    source = program.home / "other.pem"
    source.write_bytes(root.certificate.pem)
    program.ok("install", "--from", source, "--sha256", root.certificate.sha256, "--replace")
    return psql.connect(conninfo, home=program.home).message


def test_the_process_and_the_call_in_this_process_print_the_same(program: Program) -> None:
    """A control of the bench: most tests call the entry point without a process of its own."""
    for words in (["roots"], ["list", "--json"], ["rollback", "9"], ["--version"], ["nonsense"]):
        assert program(*words) == program.process(*words)
