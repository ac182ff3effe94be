"""Every local finding of `check`: a healthy file without it, the damage with it, and the mend.

The commands that a finding names are run as they stand.
"""

from __future__ import annotations

import errno
import hashlib
import os
import pathlib
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import qs_certs
from qs_certs import accounts, catalogue, files, openssl, rights, rootfile, sources
from qs_certs.accounts import Account
from qs_certs.bundle import BOM, NOTHING_FOUND, canonical
from qs_certs.errors import CouldNotRead
from qs_certs.knowledge import FINDINGS
from qs_certs.libpq.locations import Surroundings
from qs_certs.libpq.outcomes import TrustAnchors
from qs_certs.results import CheckReport
from qs_certs.rootfile import Facts
from qs_certs.values import replace as copy
from tests.conftest import Pki
from tests.pki import self_signed
from tests.program import Done, Program
from tests.shapes import SERVER_AUTH, SHAPES, Shape, pem, trust
from tests.shapes import pki as shape_pki

ROOT = catalogue.ROOTS[catalogue.DEFAULT]
DER = sources.embedded(ROOT)
PEM = canonical(DER)

posix = pytest.mark.skipif(sys.platform == "win32", reason="only on POSIX")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """A user whose password database names the same home as HOME, with a healthy root file."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr(accounts, "password_database_home", lambda: str(home))
    program = Program(home)
    program.root_file.parent.mkdir()
    program.root_file.write_bytes(PEM)
    return program


EXPLAINED = {code: kind.severity for code, kind in FINDINGS.items()}
MILDER = {"no-self-signed-root": "warning"}
"""In a file, where it may do no harm; what is explained is the refusal of a server."""
WORSE = {"root-crl-present": "error"}
"""Where it is no file: libpq would wait for it."""


def as_explained(code: str, severity: str) -> bool:
    """Whether `explain CODE` calls it as grave as the finding does."""
    return severity in (MILDER.get(code, EXPLAINED[code]), WORSE.get(code))


def found(done: Done) -> dict[str, dict[str, Any]]:
    """The findings of a run with --json by code."""
    findings = done.document["findings"]
    assert all(as_explained(each["code"], each["severity"]) for each in findings), findings
    return {finding["code"]: finding for finding in findings}


def run_as_named(program: Program, command: str) -> Done:
    """A command of a finding, as it stands."""
    name, *words = shlex.split(command)
    assert name == "qs-certs"
    return program(*words)


def assert_healthy(program: Program) -> None:
    done = program("check", "--json")
    assert done.code == 0, done
    assert done.document["status"] == "ok"
    assert set(found(done)) == {"root-present"}, done.out


def test_a_healthy_file_has_no_other_finding(program: Program) -> None:
    assert_healthy(program)
    document = program("check", "--json").document
    assert document["root_file"] == {
        "path": str(program.root_file),
        "decided_by": "default",
        "exists": True,
        "loads": True,
        "certificates": 1,
        "error": None,
    }
    (root,) = document["roots"]
    assert root["present"]
    assert root["sha256"] == ROOT.sha256
    assert program("check", "--strict").code == 0


# --- what is wrong with the file ------------------------------------------------------------------

Arrange = Callable[[Program], object]


def content(data: bytes) -> Arrange:
    return lambda program: program.root_file.write_bytes(data)


def other() -> bytes:
    return pem(shape_pki().other)


def excluded() -> bytes:
    return pem(DER + trust(rejected=SERVER_AUTH), "TRUSTED CERTIFICATE")


MENDED = [
    pytest.param(lambda p: p.root_file.unlink(), "root-missing", "install", id="no file"),
    pytest.param(
        lambda p: shutil.rmtree(p.root_file.parent), "root-missing", "install", id="no folder"
    ),
    pytest.param(content(b""), "root-unloadable", "install", id="empty"),
    pytest.param(content(other()), "pinned-root-missing", "install", id="another root"),
    pytest.param(
        content(excluded()), "pinned-root-missing", "install --repair", id="servers excluded"
    ),
    pytest.param(content(BOM + PEM), "byte-order-mark", "install --repair", id="BOM"),
    pytest.param(
        content(PEM + other().decode().encode("utf-16-le")),
        "hidden-content",
        "install --repair",
        id="UTF-16 behind",
    ),
    pytest.param(content(pem(shape_pki().leaf)), "no-self-signed-root", "install", id="leaf alone"),
    pytest.param(
        content(pem(shape_pki().intermediate)),
        "no-self-signed-root",
        "install",
        id="intermediate alone",
    ),
    pytest.param(
        content(pem(shape_pki().leaf) + pem(shape_pki().intermediate)),
        "no-self-signed-root",
        "install",
        id="leaf and intermediate",
    ),
]


BEHIND = [
    pytest.param(PEM + b"\x1a", None, "", id="nothing behind"),
    pytest.param(PEM + b"\x1a\r\n# text", None, "", id="text behind"),
    pytest.param(PEM, None, "", id="no Ctrl-Z"),
    pytest.param(PEM + b"\x1a" + other(), "loads", "install --repair", id="another root behind"),
    pytest.param(
        PEM + b"\x1a\n" + other()[:99], "unloadable", "install --repair", id="damage behind"
    ),
    pytest.param(other() + b"\x1a\n" + PEM, "loads", "install --repair", id="the root behind"),
    pytest.param(b"\x1a\n" + PEM, "unloadable", "install", id="at the beginning"),
]


@pytest.mark.parametrize(("data", "state", "mend"), BEHIND)
def test_what_stands_behind_a_ctrl_z_is_found_where_some_openssl_reads_files_as_text(
    program: Program, monkeypatch: pytest.MonkeyPatch, data: bytes, state: str | None, mend: str
) -> None:
    """The OpenSSL of the tests reads on, as a new one does on Windows; tests/windows has an old."""
    path = program.root_file
    path.write_bytes(data)
    around = Surroundings(sys.platform, {"HOME": str(program.home)}, str(program.home))
    own = rootfile.ClientCertificate(None, None, used=False)
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)

    def judge() -> tuple[Facts, dict[str, tuple[str, ...]]]:
        facts = rootfile.look(str(path), "default", around, own)
        return facts, {each.code: each.fix for each in rootfile.judge(facts, around, now, 0)}

    facts, here = judge()
    assert "hidden-content" not in here  # a control: nothing is behind it on this system
    monkeypatch.setattr(openssl, "TEXT_MODE", True)
    facts, there = judge()
    assert facts.parsed is not None
    if state is None:
        assert "hidden-content" not in there
        return
    assert facts.state == state
    assert (ROOT.sha256 in facts.trusted) == (state == "loads" and data.startswith(PEM))
    assert there["hidden-content"] == (f"qs-certs {mend}",)
    assert (facts.error == NOTHING_FOUND) == data.startswith(b"\x1a")


@pytest.mark.parametrize(("arrange", "code", "mend"), MENDED)
def test_what_install_mends_is_found_and_mended_by_the_command_that_it_names(
    program: Program, arrange: Arrange, code: str, mend: str
) -> None:
    assert_healthy(program)
    arrange(program)
    done = program("check", "--json")
    finding = found(done)[code]
    assert finding["fix"] == [f"qs-certs {mend}"]
    (default,) = done.document["roots"]
    assert default["sha256"] == ROOT.sha256
    loads = done.document["root_file"]["loads"]
    lacking = {"pinned-root-missing"} if loads else set()
    assert set(found(done)) == {code} | ({"root-present"} if default["present"] else lacking)
    if finding["severity"] == "error":
        assert (done.code, done.document["status"]) == (1, "action-needed")
    assert run_as_named(program, finding["fix"][0]).code == 0
    after = program("check", "--json")
    assert after.code == 0, after
    assert code not in found(after)


@pytest.mark.parametrize(
    "shape",
    [pytest.param(shape, id=shape.title) for shape in SHAPES if not shape.loads],
)
def test_a_file_that_does_not_load_says_why_and_which_command_mends_it(
    program: Program, shape: Shape
) -> None:
    program.root_file.write_bytes(shape.content)
    done = program("check", "--json")
    finding = found(done)["root-unloadable"]
    assert done.code == 1
    assert (done.document["root_file"]["exists"], done.document["root_file"]["loads"]) == (
        True,
        False,
    )
    (command,) = finding["fix"]
    assert command in ("qs-certs install", "qs-certs install --repair")
    if command == "qs-certs install --repair":  # the milder command would not do
        refused = program("install", "--offline")
        assert refused.code == 1
        assert "--repair" in refused.err
    mended = run_as_named(program, command)
    assert mended.code == 0, mended
    after = program("check", "--json")
    assert after.code == 0, after.out
    assert after.document["root_file"]["loads"]


def test_a_file_that_is_missing_is_told_without_a_who_and_holds_nothing(program: Program) -> None:
    program.root_file.unlink()
    done = program("check", "--json")
    message = found(done)["root-missing"]["message"]
    assert message == f"there is no root file {program.root_file}"
    file = done.document["root_file"]
    assert (file["exists"], file["loads"], file["certificates"]) == (False, None, 0)


def test_an_empty_file_says_no_place_in_it(program: Program) -> None:
    program.root_file.write_bytes(b"")
    done = program("check", "--json")
    file = done.document["root_file"]
    message = found(done)["root-unloadable"]["message"]
    assert message.startswith(f"{program.root_file} does not load: {file['error']}; every")


def test_what_a_file_that_does_not_load_holds_is_no_anchor(program: Program) -> None:
    """libpq takes none of a file whose second block is broken (SHAPES: so does OpenSSL)."""
    program.root_file.write_bytes(PEM + other().replace(b"MII", b"M!!", 1))
    done = program("check", "--json")
    assert [each["present"] for each in done.document["roots"]] == [False]
    assert set(found(done)) == {"root-unloadable"}
    program.root_file.write_bytes(PEM + other())
    assert [each["present"] for each in program("check", "--json").document["roots"]] == [True]


def test_a_file_in_utf_16_is_not_said_to_hide_something(program: Program) -> None:
    """It holds nothing else."""
    program.root_file.write_bytes(PEM.decode().encode("utf-16"))
    assert set(found(program("check", "--json"))) == {"root-unloadable"}


def test_a_broken_leaf_is_not_said_to_be_no_root(program: Program) -> None:
    program.root_file.write_bytes(pem(shape_pki().leaf).replace(b"MII", b"M!!", 1))
    assert set(found(program("check", "--json"))) == {"root-unloadable"}


G3 = catalogue.ROOTS["digicert-global-root-g3"]


@pytest.mark.parametrize(
    ("data", "roots"),
    [
        pytest.param(b"", {ROOT.name: False}, id="none"),
        pytest.param(PEM, {ROOT.name: True}, id="the default"),
        pytest.param(
            canonical(sources.embedded(G3)), {ROOT.name: False, G3.name: True}, id="another"
        ),
        pytest.param(
            canonical(sources.embedded(G3)) + PEM, {ROOT.name: True, G3.name: True}, id="both"
        ),
        pytest.param(PEM + other(), {ROOT.name: True}, id="an unknown one"),
    ],
)
def test_the_default_root_and_others_that_we_know_are_shown(
    program: Program, data: bytes, roots: dict[str, bool]
) -> None:
    program.root_file.write_bytes(data)
    shown = program("check", "--json").document["roots"]
    assert {each["name"]: each["present"] for each in shown} == roots


def test_a_server_s_own_certificate_is_a_root_to_libpq(program: Program, pki: Pki) -> None:
    """OpenSSL lists only CAs among what it has loaded, and takes such a one all the same."""
    own = self_signed(dns=["localhost"])
    program.root_file.write_bytes(own.pem)
    assert set(found(program("check", "--json"))) == {"pinned-root-missing"}
    program.root_file.write_bytes(pki.leaf.pem)
    assert "no-self-signed-root" in found(program("check", "--json"))


def odd(version: int) -> bytes:
    """A leaf of X.509 *version*; cryptography reads 1 and 3, and no extensions in 1."""
    der = shape_pki().leaf
    at = der.index(bytes.fromhex("a0030201")) + 4
    assert der[at] == 2  # version 3, counted from 0
    return der[:at] + bytes([version - 1]) + der[at + 1 :]


@pytest.mark.parametrize("version", [1, 2, 4])
def test_a_certificate_that_only_openssl_reads_is_no_bug(
    program: Program, tmp_path: Path, version: int
) -> None:
    path = write(tmp_path / "odd.pem", pem(odd(version)))
    assert openssl.load(path).error is None
    program.root_file.write_bytes(PEM + path.read_bytes())
    assert program("check").code == 0
    assert "(cannot be described)" in program.ok("list").out
    program.root_file.write_bytes(path.read_bytes())
    assert "no-self-signed-root" in found(program("check", "--json"))
    sha256 = hashlib.sha256(odd(version)).hexdigest()
    program.root_file.unlink()
    refused = program("install", "--from", path, "--sha256", sha256)
    assert "cannot be understood" in refused.err
    assert refused.code == 5


def test_a_sound_file_is_judged_without_a_temporary_one(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check runs before every connection, and on machines whose disk is full."""
    monkeypatch.setattr(tempfile, "tempdir", str(program.home / "nowhere"))
    assert_healthy(program)
    program.root_file.write_bytes(other())
    assert program("check").code == 1
    assert program("install", "--offline").code == 6  # the control: a change needs one


def test_a_file_that_is_remembered_is_judged_as_one_that_is_read(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rootfile, "_understood", {})
    around = Surroundings(sys.platform, {"HOME": str(program.home)}, str(program.home))
    read = rootfile.default(around)
    rootfile.understand_default()
    asked: list[str] = []
    real = openssl.load

    def load(path: str) -> openssl.Loaded:
        asked.append(path)
        return real(path)

    monkeypatch.setattr(openssl, "load", load)
    assert rootfile.default(around) == read
    assert asked == []
    program.root_file.write_bytes(other())
    assert rootfile.default(around) != read
    assert asked == [str(program.root_file)]


def test_an_openssl_that_refuses_the_default_root_is_asked_about_each_file(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL has the last word: where it wants more than our reading does, its words are told."""
    monkeypatch.setattr(rootfile, "_understood", {})
    around = Surroundings(sys.platform, {"HOME": str(program.home)}, str(program.home))
    assert rootfile.default(around).state == "loads"
    real = openssl.load
    monkeypatch.setattr(openssl, "load", lambda path: copy(real(path), error="ca md too weak"))
    rootfile.understand_default()
    facts = rootfile.default(around)
    assert (facts.state, facts.error) == ("unloadable", "ca md too weak")


def test_a_file_that_is_gone_when_it_is_read_is_no_crash(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    around = Surroundings(sys.platform, {"HOME": str(program.home)}, str(program.home))
    real = files.read

    def read(path: str) -> bytes | None:
        pathlib.Path(path).unlink()
        return real(path)

    assert rootfile.default(around).state == "loads"
    monkeypatch.setattr(files, "read", read)
    facts = rootfile.default(around)
    assert (facts.state, facts.readable) == ("unloadable", False)
    assert facts.error == os.strerror(errno.ENOENT)


def test_a_file_that_does_not_load_says_where(program: Program) -> None:
    lines = other().splitlines(keepends=True)
    broken = b"".join([*lines[:2], b"!!!!not base64!!!!\n", *lines[2:]])
    program.root_file.write_bytes(b"# mine\n" + PEM + b"\n" + broken)
    message = found(program("check", "--json"))["root-unloadable"]["message"]
    line = 1 + len(PEM.splitlines()) + 1 + 1
    assert f"bad base64 decode at line {line}, block 2" in message
    assert (b"# mine\n" + PEM + b"\n" + broken).splitlines()[line - 1].startswith(b"-----BEGIN")


def test_a_folder_in_its_place_needs_a_person(program: Program) -> None:
    program.root_file.unlink()
    program.root_file.mkdir()
    done = program("check", "--json")
    assert done.code == 3
    assert "move the folder" in found(done)["root-unloadable"]["advice"][0]
    assert NOTHING_FOUND in found(done)["root-unloadable"]["message"]
    assert done.document["root_file"]["loads"] is False


def spoilt_link(path: Path) -> None:
    path.symlink_to(path.name)


def spoilt_folder(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_bytes(b"")


@posix
@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        pytest.param(spoilt_link, errno.ELOOP, id="a link to itself"),
        pytest.param(spoilt_folder, errno.ENOTDIR, id="a file for a folder"),
    ],
)
def test_a_file_that_cannot_be_looked_at_is_absent_and_says_why(
    program: Program, spoil: Callable[[Path], None], why: int
) -> None:
    program.root_file.unlink()
    assert "folder-unreadable" not in found(program("check", "--json"))
    spoil(program.root_file)
    done = program("check", "--json")
    assert done.code == 3
    finding = found(done)["folder-unreadable"]
    assert os.strerror(why) in finding["message"]
    assert str(program.root_file.parent) in finding["fix"][0]
    assert done.document["root_file"]["exists"] is False


def test_the_retired_root_is_recognised(program: Program) -> None:
    retired = Path("/etc/ssl/certs/DigiCert_Global_Root_CA.pem")
    if not retired.exists():
        pytest.skip("needs DigiCert Global Root CA of Debian's ca-certificates")
    program.root_file.write_bytes(retired.read_bytes())
    done = program("check", "--json")
    assert done.code == 1
    finding = found(done)["retired-root-only"]
    assert run_as_named(program, finding["fix"][0]).code == 0
    assert_healthy(program)
    assert retired.read_bytes() in program.root_file.read_bytes()


def test_an_unrelated_root_is_not_called_retired(program: Program) -> None:
    program.root_file.write_bytes(other())
    codes = set(found(program("check", "--json")))
    assert codes == {"pinned-root-missing"}


# --- what libpq's messages call it ----------------------------------------------------------------

ON_WINDOWS = "C:\\ana\\postgresql\\root.crt"


@pytest.mark.parametrize(
    ("facts", "path"),
    [
        pytest.param(Facts(None, "default", "no-home"), None, id="no home"),
        pytest.param(
            Facts(ON_WINDOWS, "default", "absent"), "C:\\ana/postgresql/root.crt", id="default"
        ),
        pytest.param(Facts(ON_WINDOWS, "PGSSLROOTCERT", "absent"), ON_WINDOWS, id="named"),
        pytest.param(
            Facts("C:\\ą", "option", "absent", as_libpq_sees="C:\\?"),
            "C:\\?",
            id="a letter is lost",
        ),
    ],
)
def test_a_message_names_the_file_as_libpq_does(facts: Facts, path: str | None) -> None:
    assert facts.anchors.path == path


@pytest.mark.parametrize(
    ("error", "readable", "reason"),
    [
        pytest.param(None, True, "", id="none"),
        pytest.param("no certificate or crl found", True, "no certificate or crl found", id="one"),
        # libpq:fe-secure.c SSLerrmessage: what it says of errno depends on its version.
        pytest.param("Permission denied", False, "", id="the system's"),
    ],
)
def test_a_message_holds_openssl_s_reason_and_not_the_system_s(
    error: str | None, readable: bool, reason: str
) -> None:
    facts = Facts("/root.crt", "option", "unloadable", readable=readable, error=error)
    assert facts.anchors == TrustAnchors("unloadable", "/root.crt", reason)


# --- warnings: found, and gone when what made them is ---------------------------------------------


def write(path: Path, data: bytes = PEM) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def key_in_file(program: Program) -> object:
    return program.root_file.write_bytes(PEM + shape_pki().key)


def stray_certificate(program: Program) -> object:
    return write(program.root_file.parent / "postgresql.crt", other())


WARNED = [
    pytest.param(key_in_file, content(PEM), "private-key-in-root-file", 0, id="private key"),
    pytest.param(
        lambda p: (p.root_file.parent / "root.crl").mkdir(),
        lambda p: (p.root_file.parent / "root.crl").rmdir(),
        "root-crl-present",
        3,
        id="root.crl that is no file",
    ),
    pytest.param(
        lambda p: (p.root_file.parent / "postgresql.crt").symlink_to("postgresql.crt"),
        lambda p: (p.root_file.parent / "postgresql.crt").unlink(),
        "stray-client-certificate",
        3,
        id="client certificate that cannot be looked at",
        marks=posix,
    ),
    pytest.param(
        lambda p: write(p.root_file.parent / "root.crl", b"x"),
        lambda p: (p.root_file.parent / "root.crl").unlink(),
        "root-crl-present",
        0,
        id="root.crl",
    ),
    pytest.param(
        stray_certificate,
        lambda p: write(p.root_file.parent / "postgresql.key", shape_pki().key),
        "stray-client-certificate",
        3,
        id="client certificate without key",
    ),
    pytest.param(
        lambda p: p.root_file.parent.chmod(0o777),
        lambda p: p.root_file.parent.chmod(0o755),
        "folder-writable-by-others",
        0,
        id="folder that others write",
        marks=posix,
    ),
    *(
        pytest.param(
            lambda p, place=place: write(p.home / place),
            lambda p, place=place: (p.home / place).unlink(),
            code,
            0,
            id=place,
            marks=posix,
        )
        for place, code in (
            ("postgresql/root.crt", "misplaced-root-file"),
            (".postgres/root.crt", "misplaced-root-file"),
            (".postgresql/root.crt.txt", "misnamed-root-file"),
            (".postgresql/root.crt.pem", "misnamed-root-file"),
            (".postgresql/root.crt.crt", "misnamed-root-file"),
            (".postgresql/root.pem", "misnamed-root-file"),
            (".postgresql/root.cer", "misnamed-root-file"),
            (".postgresql/DigiCertGlobalRootG2.crt.pem", "misnamed-root-file"),
        )
    ),
]


@pytest.mark.parametrize(("arrange", "undo", "code", "exit_code"), WARNED)
def test_what_makes_a_right_file_useless_is_found(
    program: Program, arrange: Arrange, undo: Arrange, code: str, exit_code: int
) -> None:
    assert_healthy(program)
    arrange(program)
    done = program("check", "--json")
    finding = found(done)[code]
    assert done.code == exit_code
    assert finding["severity"] == ("error" if exit_code else "warning")
    assert ("root-present" in found(done)) is (exit_code == 0)
    assert program("check", "--strict").code == 3
    undo(program)
    assert_healthy(program)


def test_a_comment_about_a_key_is_no_key(program: Program) -> None:
    program.root_file.write_bytes(b"# no PRIVATE KEY----- in here\n" + PEM)
    assert_healthy(program)


@pytest.mark.parametrize(
    "env",
    [
        pytest.param({"PGSSLKEY": "{home}/my.key"}, id="PGSSLKEY names the key"),
        pytest.param({"PGSSLCERT": "/nonexistent"}, id="PGSSLCERT leads away"),
        pytest.param({"PGSSLCERTMODE": "disable"}, id="sslcertmode=disable"),
    ],
)
def test_a_client_certificate_is_not_stray_where_the_environment_sees_to_it(
    program: Program, env: dict[str, str]
) -> None:
    stray_certificate(program)
    write(program.home / "my.key", shape_pki().key)
    assert "stray-client-certificate" in found(program("check", "--json"))
    env = {name: value.format(home=program.home) for name, value in env.items()}
    done = replace(program, env=env)("check", "--json")
    assert "stray-client-certificate" not in found(done)


def test_a_named_key_that_is_not_there_makes_the_certificate_stray(program: Program) -> None:
    stray_certificate(program)
    write(program.root_file.parent / "postgresql.key", shape_pki().key)
    assert_healthy(program)
    done = replace(program, env={"PGSSLKEY": "/nonexistent"})("check", "--json")
    assert "/nonexistent" in found(done)["stray-client-certificate"]["message"]


# --- who decides ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chosen:
    """Files a, b and c, of which one decides; *here* are the words that choose."""

    words: str
    env: dict[str, str] = field(default_factory=dict)
    decided_by: str = "default"
    path: str = ".postgresql/root.crt"
    codes: tuple[str, ...] = ()


SERVICES = "[own]\nhost=127.0.0.1\nport=9\nsslrootcert={home}/service.crt\n[plain]\nhost=127.0.0.1\nport=9\n"
NOWHERE = "host=127.0.0.1 port=9"

CHOSEN = [
    pytest.param(Chosen("check"), id="the default"),
    pytest.param(Chosen("check", {"PGSSLROOTCERT": ""}), id="PGSSLROOTCERT empty"),
    pytest.param(
        Chosen(
            "check",
            {"PGSSLROOTCERT": "{home}/env.crt"},
            "PGSSLROOTCERT",
            "env.crt",
            ("environment-overrides",),
        ),
        id="PGSSLROOTCERT",
    ),
    pytest.param(
        Chosen("check --target {home}/option.crt", {}, "option", "option.crt"), id="--target"
    ),
    pytest.param(
        Chosen(
            "check --target {home}/option.crt",
            {"PGSSLROOTCERT": "{home}/env.crt"},
            "option",
            "option.crt",
        ),
        id="--target before PGSSLROOTCERT",
    ),
    pytest.param(
        Chosen(
            "check --target {home}/option.crt 127.0.0.1:9",
            {"PGSSLROOTCERT": "{home}/env.crt"},
            "option",
            "option.crt",
        ),
        id="--target with a server",
    ),
    pytest.param(Chosen("check 127.0.0.1:9"), id="the default with a server"),
    pytest.param(
        Chosen(
            "check --service own",
            {"PGSSLROOTCERT": "{home}/env.crt"},
            "service",
            "service.crt",
            ("service-overrides",),
        ),
        id="the service before PGSSLROOTCERT",
    ),
    pytest.param(
        Chosen("check", {"PGSERVICE": "own"}, "service", "service.crt", ("service-overrides",)),
        id="PGSERVICE without a server",
    ),
    pytest.param(
        Chosen(
            "check --service plain",
            {"PGSSLROOTCERT": "{home}/env.crt"},
            "PGSSLROOTCERT",
            "env.crt",
            ("environment-overrides",),
        ),
        id="a service without one",
    ),
    pytest.param(
        Chosen(
            "check 'service=own sslrootcert={home}/string.crt'",
            {"PGSSLROOTCERT": "{home}/env.crt"},
            "sslrootcert",
            "string.crt",
        ),
        id="the connection string before all",
    ),
]


NAMED_BY = {
    "default": "",
    "PGSSLROOTCERT": " (the environment variable PGSSLROOTCERT names it)",
    "option": " (--target names it)",
    "service": " (sslrootcert in the service file names it)",
    "sslrootcert": " (sslrootcert in the connection string names it)",
}


@posix
@pytest.mark.parametrize("chosen", CHOSEN)
def test_the_file_that_libpq_would_read_is_judged(program: Program, chosen: Chosen) -> None:
    for name in ("env", "option", "service", "string"):
        write(program.home / f"{name}.crt")
    write(program.home / ".pg_service.conf", SERVICES.format(home=program.home).encode())
    env = {name: value.format(home=program.home) for name, value in chosen.env.items()}
    words = shlex.split(chosen.words.format(home=program.home))
    done = replace(program, env=env)(*words, "--json")
    file = done.document["root_file"]
    path = program.home / chosen.path
    assert (file["decided_by"], file["path"]) == (chosen.decided_by, str(path))
    overrides = {"environment-overrides", "service-overrides"}
    assert set(found(done)) & overrides == set(chosen.codes)
    path.unlink()
    missing = found(replace(program, env=env)(*words, "--json"))["root-missing"]["message"]
    assert missing == f"there is no root file {path}{NAMED_BY[chosen.decided_by]}"


def test_a_file_that_is_missing_names_who_asked_for_it_and_where_to_install(
    program: Program,
) -> None:
    path = program.home / "env.crt"
    overridden = replace(program, env={"PGSSLROOTCERT": str(path)})
    done = overridden("check", "--json")
    finding = found(done)["root-missing"]
    assert "PGSSLROOTCERT" in finding["message"]
    assert run_as_named(overridden, finding["fix"][0]).code == 0
    assert path.read_bytes() == PEM
    assert overridden("check").code == 0


def test_a_service_that_does_not_exist_stops_every_connection(program: Program) -> None:
    done = replace(program, env={"PGSERVICE": "gone"})("check", "--json")
    assert done.code == 3
    assert found(done)["service-unusable"]["severity"] == "error"


@posix
def test_a_misnamed_file_that_is_in_use_is_not_misnamed(program: Program) -> None:
    path = write(program.root_file.parent / "DigiCertGlobalRootG2.crt.pem")
    assert "misnamed-root-file" in found(program("check", "--json"))
    done = replace(program, env={"PGSSLROOTCERT": str(path)})("check", "--json")
    assert "misnamed-root-file" not in found(done)


@pytest.mark.parametrize("name", ["PGSSLCRL", "PGSSLCRLDIR"])
def test_a_crl_in_the_environment_is_found(program: Program, name: str) -> None:
    done = replace(program, env={name: "/some/where"})("check", "--json")
    finding = found(done)["environment-overrides"]
    assert name in finding["message"]
    assert finding["fix"] == [f"unset {name}"]


def test_the_systems_roots_are_named_as_such(program: Program) -> None:
    done = replace(program, env={"PGSSLROOTCERT": "system"})("check", "--json")
    assert done.code == 0
    assert set(found(done)) == {"system-roots"}
    assert done.document["root_file"]["loads"] is None


def test_the_systems_roots_in_a_service_file_override_nothing(program: Program) -> None:
    write(program.home / ".pg_service.conf", b"[own]\nsslrootcert=system\n[file]\nsslrootcert=/x\n")
    done = replace(program, env={"PGSERVICE": "own"})("check", "--json")
    assert set(found(done)) == {"system-roots"}
    done = replace(program, env={"PGSERVICE": "file"})("check", "--json")
    assert set(found(done)) == {"root-missing", "service-overrides"}


# --- surroundings ---------------------------------------------------------------------------------


def judged(around: Surroundings, now: datetime | None = None, days: int = 60) -> dict[str, str]:
    """Codes and messages for libpq's default root file there."""
    facts = rootfile.default(around)
    moment = now or datetime(2026, 1, 1, tzinfo=timezone.utc)
    findings = rootfile.judge(facts, around, moment, days)
    assert all(as_explained(each.code, each.severity) for each in findings), findings
    return {each.code: each.message for each in findings}


@posix
def test_a_home_that_differs_from_the_password_database_is_found(
    program: Program, tmp_path: Path
) -> None:
    around = Surroundings("linux", {"HOME": str(program.home)}, str(program.home))
    link = tmp_path / "link"
    link.symlink_to(program.home)
    assert "home-differs" not in judged(around)
    assert "home-differs" not in judged(replace(around, env={"HOME": str(link)}))
    assert "home-differs" not in judged(replace(around, env={}))
    message = judged(replace(around, home=str(tmp_path)))["home-differs"]
    assert str(tmp_path) in message
    gone = replace(around, home="/nonexistent/me", env={"HOME": "/nonexistent/me/"})
    assert "home-differs" not in judged(gone)
    assert "home-differs" in judged(replace(gone, home="/nonexistent/you"))
    assert "home-differs" not in judged(replace(around, home=None))


def test_no_home_at_all_needs_a_person(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "password_database_home", lambda: None)
    homeless = replace(program, env={"HOME": ""})
    done = homeless("check", "--json")
    assert done.code == 3
    assert done.document["root_file"]["path"] is None
    assert set(found(done)) == {"root-missing"}
    # A file that is named needs no home, nor does a certificate.
    target = ("--target", str(program.root_file))
    assert set(found(homeless("check", "--json", *target))) == {"root-present"}
    named = replace(homeless, env={"HOME": "", "PGSSLCERT": str(program.root_file)})
    assert set(found(named("check", "--json", *target))) == {"root-present"}


def test_a_system_that_does_not_tell_its_release_is_no_wsl(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    around = Surroundings("linux", {"HOME": str(program.home)}, str(program.home))
    real = files.read

    def read(path: str) -> bytes | None:
        if path.endswith("osrelease"):
            raise CouldNotRead(f"{path} cannot be read")
        return real(path)

    monkeypatch.setattr(files, "read", read)
    assert "wsl-home" not in judged(around)


@pytest.mark.parametrize(
    ("release", "is_wsl"),
    [
        pytest.param(b"5.15.167.4-microsoft-standard-WSL2\n", True, id="WSL 2"),
        pytest.param(b"4.4.0-19041-Microsoft\n", True, id="WSL 1"),
        pytest.param(b"6.1.0-18-amd64\n", False, id="Debian"),
        pytest.param(None, False, id="no such file"),
    ],
)
def test_wsl_is_recognised(
    program: Program, monkeypatch: pytest.MonkeyPatch, release: bytes | None, is_wsl: bool
) -> None:
    around = Surroundings("linux", {"HOME": str(program.home)}, str(program.home))
    real = files.read
    monkeypatch.setattr(
        files,
        "read",
        lambda path, *rest: release if path == "/proc/sys/kernel/osrelease" else real(path, *rest),
    )
    assert ("wsl-home" in judged(around)) is is_wsl


ROAMING = r"C:\Users\me\AppData\Roaming"


@pytest.mark.parametrize(
    ("appdata", "redirected"),
    [
        pytest.param(ROAMING, False, id="the same"),
        pytest.param(ROAMING.upper() + "\\", False, id="the same in other letters"),
        pytest.param(r"D:\Roaming", True, id="elsewhere"),
        pytest.param(ROAMING + "X", True, id="a longer name"),
        pytest.param("", False, id="not set"),
    ],
)
def test_a_redirected_appdata_is_found(appdata: str, redirected: bool, tmp_path: Path) -> None:
    env = {"APPDATA": appdata, "HOME": str(tmp_path)}  # HOME: of an ssh or a Git for Windows
    around = Surroundings("win32", env, r"C:\Users\me", ROAMING)
    assert "appdata-redirected" not in judged(replace(around, roaming=None))
    found_there = judged(around)
    assert ("appdata-redirected" in found_there) is redirected
    assert "environment-overrides" in judged(replace(around, env=env | {"PGSSLCRL": "C:\\x"}))
    assert found_there["root-missing"] == (rf"there is no root file {ROAMING}\postgresql\root.crt")
    assert not {"home-differs", "wsl-home", "folder-writable-by-others"} & set(found_there)


def test_asyncpg_s_own_file_is_misplaced_only_where_libpq_has_none(tmp_path: Path) -> None:
    around = Surroundings(
        "win32", {"USERPROFILE": str(tmp_path / "ana")}, None, str(tmp_path / "roaming")
    )
    assert around.root_file is not None
    assert around.asyncpg_root_file is not None
    write(Path(around.asyncpg_root_file))
    assert {"root-missing", "misplaced-root-file"} <= set(judged(around))
    write(Path(around.root_file))
    assert not {"root-missing", "misplaced-root-file"} & set(judged(around))
    for place in (("postgresql", "root.crt.txt"), (".postgresql", "root.crt")):
        path = write(Path(around.join(str(tmp_path / "roaming"), *place)))
        assert {"misplaced-root-file", "misnamed-root-file"} & set(judged(around))
        path.unlink()


@pytest.mark.parametrize(
    ("package", "is_python"),
    [
        pytest.param("PythonSoftwareFoundation.Python.3.12_qbz5n2kfra8p0", True, id="Python"),
        pytest.param("Microsoft.WindowsTerminal_8wekyb3d8bbwe", False, id="a terminal"),
    ],
)
def test_the_private_copy_of_a_python_from_the_store_is_found(
    tmp_path: Path, package: str, is_python: bool
) -> None:
    local = str(tmp_path / "local")
    around = Surroundings("win32", {"LOCALAPPDATA": local}, None, ROAMING)
    assert "misplaced-root-file" not in judged(around)
    packages = around.join(local, "Packages")
    Path(packages, package).mkdir(parents=True)
    assert "misplaced-root-file" not in judged(around)
    inside = ("LocalCache", "Roaming", "postgresql", "root.crt")
    copy = write(Path(around.join(packages, package, *inside)))
    message = judged(around).get("misplaced-root-file", "")
    assert (f"{copy} is the private copy" in message) is is_python


def test_a_folder_on_windows_is_not_judged_by_its_mode(tmp_path: Path) -> None:
    """It has an access list, and Python makes up the mode."""
    around = Surroundings("win32", {}, None, str(tmp_path))
    folder = Path(around.folder or "")
    folder.mkdir()
    folder.chmod(0o777)
    assert "folder-writable-by-others" not in judged(around)


def test_a_python_from_the_store_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    around = Surroundings("win32", {}, None, ROAMING)
    assert "store-python" not in judged(around)
    monkeypatch.setattr(
        sys, "base_prefix", r"C:\Program Files\WindowsApps\PythonSoftwareFoundation.Python.3.12"
    )
    assert "store-python" in judged(around)


def test_the_places_that_windows_users_get_wrong_are_known() -> None:
    around = Surroundings("win32", {"USERPROFILE": r"C:\Users\me"}, None, ROAMING)
    assert {
        rf"{ROAMING}\.postgresql\root.crt",
        r"C:\Users\me\.postgresql\root.crt",
        rf"{ROAMING}\postgresql\root.crt.txt",
    } <= set(around.misplaced)


# --- dates ----------------------------------------------------------------------------------------

DISTRUST = ROOT.distrust_after
assert DISTRUST is not None
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("now", "days", "code"),
    [
        pytest.param(DISTRUST - 61 * DAY, 60, None, id="long before"),
        pytest.param(DISTRUST - 60 * DAY, 60, "root-distrust-soon", id="60 days before"),
        pytest.param(DISTRUST - 60 * DAY, 59, None, id="60 days before, asked for 59"),
        pytest.param(DISTRUST - DAY, 0, None, id="the day before, asked for none"),
        pytest.param(DISTRUST, 0, "root-distrusted", id="distrusted"),
        pytest.param(ROOT.not_after - DAY, 60, "root-distrusted", id="about to expire"),
        pytest.param(ROOT.not_after, 0, "root-expired", id="expired"),
    ],
)
def test_the_earlier_of_a_roots_end_and_its_distrust_is_told(
    program: Program, now: datetime, days: int, code: str | None
) -> None:
    around = Surroundings(sys.platform, {"HOME": str(program.home)}, str(program.home))
    codes = {each for each in judged(around, now, days) if each.startswith("root-")}
    assert codes == ({code} if code else set())
    program.root_file.write_bytes(other())  # the control: a root that is not there does not end
    assert not {each for each in judged(around, now, days) if each.startswith("root-")}


def test_a_root_without_a_distrust_date_expires(program: Program) -> None:
    root = catalogue.ROOTS["digicert-global-root-g3"]
    program.root_file.write_bytes(canonical(sources.embedded(root)))
    around = Surroundings(sys.platform, {"HOME": str(program.home)}, str(program.home))
    assert judged(around, root.not_after - 60 * DAY).keys() >= {"root-expires-soon"}
    assert not {"root-expires-soon", "root-expired"} & set(
        judged(around, root.not_after - 61 * DAY)
    )
    assert "root-expired" in judged(around, root.not_after)


def test_warn_days_reaches_the_judge(program: Program) -> None:
    days = (ROOT.distrust_after or ROOT.not_after) - datetime.now(timezone.utc)
    far = str(days.days + 2)
    done = program("check", "--warn-days", far, "--json")
    assert done.code == 0
    assert found(done)["root-distrust-soon"]["severity"] == "warning"
    assert program("check", "--warn-days", far, "--strict").code == 3
    assert "root-distrust-soon" not in found(program("check", "--json"))


# --- rights: with those of an ordinary user -------------------------------------------------------

NOBODY = 65534


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home of nobody, where they can reach it."""
    if sys.platform == "win32":
        pytest.skip("only on POSIX")
    if os.geteuid() != 0:
        pytest.skip("needs root, to be somebody else")
    home = Path(tempfile.mkdtemp(prefix="qs-certs-home-"))
    try:
        write(home / ".postgresql" / "root.crt")
        for path in (home, home / ".postgresql", home / ".postgresql" / "root.crt"):
            shutil.chown(path, NOBODY, NOBODY)
        monkeypatch.setattr(accounts, "password_database_home", lambda: str(home))
        monkeypatch.setenv("HOME", str(home))
        for name in ("PGSSLROOTCERT", "PGSERVICE"):
            monkeypatch.delenv(name, raising=False)
        yield home
    finally:
        shutil.rmtree(home)


def checked_by_them(home: Path) -> CheckReport:
    """`check`, in a process that has no right but theirs."""
    qs_certs.check()  # imports what it needs, while we may read it
    return rights.run_as(Account("nobody", NOBODY, NOBODY, str(home)), qs_certs.check)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize(
    ("forbid", "code", "exit_code"),
    [
        pytest.param(lambda home: None, "root-present", 0, id="theirs (control)"),
        pytest.param(
            lambda home: _make_roots(home / ".postgresql" / "root.crt", 0o600),
            "root-unreadable",
            4,
            id="the file is root's",
        ),
        pytest.param(
            lambda home: _make_roots(home / ".postgresql", 0o700),
            "folder-unreadable",
            3,
            id="the folder is root's",
        ),
    ],
)
def test_what_sudo_left_behind_is_found(
    theirs: Path, forbid: Callable[[Path], None], code: str, exit_code: int
) -> None:
    forbid(theirs)
    report = checked_by_them(theirs)
    assert code in {finding.code for finding in report.findings}
    assert report.exit_code == exit_code
    assert report.root_file.loads is (True if exit_code == 0 else None)


@contextmanager
def as_them() -> Iterator[None]:
    """With their rights, in this process."""
    if sys.platform == "win32":
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_that_may_not_be_read_is_unreadable_and_says_why(theirs: Path) -> None:
    path = theirs / ".postgresql" / "root.crt"
    around = Surroundings("linux", {"HOME": str(theirs)}, str(theirs))
    with as_them():
        assert rootfile.default(around).state == "loads"
    _make_roots(path, 0o600)
    with as_them():
        facts = rootfile.default(around)
    assert (facts.state, facts.readable) == ("unloadable", False)
    assert facts.error == os.strerror(errno.EACCES)
    with as_them():
        assert rootfile.install_command(facts) == "qs-certs install"


@posix
def test_nobody_waits_for_a_pipe_in_place_of_the_file(program: Program) -> None:
    if sys.platform == "win32":
        return  # for the type checker
    program.root_file.unlink()
    os.mkfifo(program.root_file)
    done = program("check", "--json")
    assert (done.code, set(found(done))) == (4, {"root-unreadable"})
    assert "a pipe" in found(done)["root-unreadable"]["message"]
    assert done.document["root_file"]["loads"] is None


def _make_roots(path: pathlib.Path, mode: int) -> None:
    shutil.chown(path, 0, 0)
    path.chmod(mode)


def test_every_pki_of_the_rows_is_unrelated_to_the_default_root(pki: Pki) -> None:
    """A control: the rows would prove nothing with the pinned root in them."""
    assert ROOT.sha256 not in (pki.root.certificate.sha256, pki.other.certificate.sha256)
    assert all(DER not in shape.content for shape in SHAPES)
