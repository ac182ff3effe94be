"""A root file with a Ctrl-Z in it, as `copy a.pem+b.pem root.crt` and `>>` leave behind.

An OpenSSL before 3.4 ends its reading there; the one of this Python may be older or newer.
"""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

import qs_certs
from qs_certs import bundle, catalogue, openssl
from tests.program import Done, Program, assert_one_clear_error
from tests.shapes import pem, pki
from tests.windows.inside.conftest import Server

ROOT = (Path(qs_certs.__file__).parent / "roots" / f"{catalogue.DEFAULT}.pem").read_bytes()
OTHER, THIRD = pem(pki().other), pem(pki().third)
READS_ON = ssl.OPENSSL_VERSION_INFO >= (3, 4)

AT_THE_END = "removed a Ctrl-Z (byte 0x1A) at the end"
READ_AGAIN = "removed a Ctrl-Z (byte 0x1A); what stands behind it is read again"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(ROOT + OTHER, id="none"),
        pytest.param(ROOT + OTHER + b"\x1a", id="at the end"),
        pytest.param(ROOT + b"\x1a" + OTHER, id="between, glued"),
        pytest.param(ROOT + b"\x1a\r\n" + OTHER, id="between, on a line of its own"),
        pytest.param(b"\x1a\n" + ROOT, id="at the beginning"),
        pytest.param(ROOT + OTHER[:200] + b"\x1a" + OTHER[200:], id="in a block"),
        pytest.param(ROOT + b"\x1a\n" + OTHER[:200], id="damage behind"),
    ],
)
def test_openssl_here_ends_at_a_ctrl_z_or_reads_on(content: bytes) -> None:
    seen = bundle.parse(content if READS_ON else content.split(b"\x1a")[0])
    loaded = openssl.load_bytes(content)
    assert (loaded.error is None) == (seen.problem is None)
    if loaded.error is None:
        assert loaded.certificates == len(seen.fingerprints)


def codes(done: Done) -> dict[str, dict[str, Any]]:
    return {each["code"]: each for each in done.document["findings"]}


def subjects(program: Program) -> int:
    return len(program.ok("list", "--json").document["certificates"])


def write(program: Program, content: bytes) -> None:
    program.root_file.parent.mkdir(parents=True, exist_ok=True)
    program.root_file.write_bytes(content)


@pytest.mark.parametrize(
    ("content", "listed", "after", "said"),
    [
        pytest.param(OTHER, 1, OTHER, [], id="none"),
        pytest.param(OTHER + THIRD + b"\x1a", 2, OTHER + THIRD, [AT_THE_END], id="at the end"),
        pytest.param(OTHER + b"\x1a" + THIRD, 1, OTHER + THIRD, [READ_AGAIN], id="between"),
        pytest.param(b"\x1a\n" + OTHER, 0, b"\n" + OTHER, [READ_AGAIN], id="at the beginning"),
    ],
)
def test_install_writes_nothing_behind_it_and_rollback_brings_it_back(
    program: Program, content: bytes, listed: int, after: bytes, said: list[str]
) -> None:
    write(program, content)
    assert subjects(program) == listed
    check = program("check", "--json")
    assert check.document["root_file"]["loads"] == (listed > 0)
    hidden = READ_AGAIN in said
    assert ("hidden-content" in codes(check)) == hidden
    (target,) = program.ok("install", "--offline", "--json").document["targets"]
    assert target["repaired"] == said
    assert program.root_file.read_bytes() == after + ROOT
    assert openssl.load(program.root_file).error is None
    assert subjects(program) == (after + ROOT).count(b"BEGIN")
    assert "hidden-content" not in codes(program("check", "--json"))
    program.ok("rollback")
    assert program.root_file.read_bytes() == content


def test_what_cmd_makes_of_copy_and_of_append_is_mended(program: Program, tmp_path: Path) -> None:
    parts = {"a.pem": OTHER, "b.pem": THIRD, "new.pem": ROOT}
    for name, content in parts.items():
        (tmp_path / name).write_bytes(content)

    def cmd(words: str) -> bytes:
        subprocess.run(f"cmd /c {words}", cwd=tmp_path, check=True, capture_output=True)
        return (tmp_path / "root.crt").read_bytes()

    copied = cmd("copy a.pem+b.pem root.crt")
    assert copied == OTHER + THIRD + b"\x1a"
    appended = cmd('"type new.pem >> root.crt"')
    assert appended == copied + ROOT
    write(program, appended)
    assert codes(program("check", "--json")).keys() >= {"hidden-content", "pinned-root-missing"}
    program.ok("install", "--offline")
    assert program.root_file.read_bytes() == OTHER + THIRD + ROOT


def test_a_root_behind_a_ctrl_z_is_missing_and_install_brings_it_back(program: Program) -> None:
    write(program, OTHER + b"\x1a\r\n" + ROOT)
    found = codes(program("check", "--json"))
    assert found.keys() >= {"hidden-content", "pinned-root-missing"}
    line = OTHER.count(b"\n") + 1
    assert f"in line {line}:" in found["hidden-content"]["message"]
    program.ok("install", "--offline")
    assert program.root_file.read_bytes() == OTHER + b"\r\n" + ROOT
    assert program("check").code == 0


def test_where_the_root_is_in_front_the_finding_names_the_command_that_mends(
    program: Program,
) -> None:
    content = ROOT + b"\x1a" + OTHER
    write(program, content)
    check = program("check", "--json")
    assert check.code == 0
    assert codes(check)["hidden-content"]["fix"] == ["qs-certs install --repair"]
    assert program.ok("install", "--offline", "--json").document["status"] == "unchanged"
    assert program.root_file.read_bytes() == content
    program.ok("install", "--offline", "--repair")
    assert program.root_file.read_bytes() == ROOT + OTHER
    assert "hidden-content" not in codes(program("check", "--json"))


def test_damage_behind_it_is_refused_until_repair_is_asked_for(program: Program) -> None:
    content = ROOT + b"\x1a\n" + OTHER[:200] + b"\n"
    write(program, content)
    found = codes(program("check", "--json"))
    assert found["root-unloadable"]["fix"] == ["qs-certs install --repair"]
    assert_one_clear_error(program("install", "--offline"), 1, "line 24, block 2")
    assert program.root_file.read_bytes() == content
    program.ok("install", "--offline", "--repair")
    assert program("check").code == 0
    program.ok("rollback")
    assert program.root_file.read_bytes() == content


def test_remove_leaves_no_file_of_a_ctrl_z_alone(program: Program) -> None:
    write(program, ROOT + b"\x1a")
    program.ok("remove")
    assert not program.root_file.exists()
    program.ok("rollback")
    assert program.root_file.read_bytes() == ROOT + b"\x1a"


@pytest.mark.parametrize("behind", [False, True], ids=["in front", "behind"])
def test_a_server_s_root_counts_only_in_front_of_it(
    program: Program, server: Server, behind: bool
) -> None:
    root = server.root.read_bytes()
    write(program, OTHER + b"\x1a\n" + root if behind else root + b"\x1a\n" + OTHER)
    (checked,) = program("check", server.conninfo(), "--json").document["servers"]
    assert checked["sslmodes"][-1]["outcome"] == ("fails" if behind else "encrypted")
    program.ok("install", *server.options)
    (checked,) = program("check", server.conninfo(), "--json").document["servers"]
    assert checked["sslmodes"][-1]["outcome"] == "encrypted"
