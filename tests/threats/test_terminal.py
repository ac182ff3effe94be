"""Text from outside, through every command: nothing in what is printed acts on a terminal."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Sequence

import pytest

from qs_certs.libpq.settings import service_names
from tests.faults.counting import Count
from tests.pki import Authority
from tests.program import Done, Program

if sys.platform == "win32":
    pytest.skip("only on POSIX", allow_module_level=True)

EVIL = "evil\x1b]0;owned\x07\x9b2J\u202e\u2066\u200b\ufeff\u2028\x7f\x08"
"""Title, erasure, bidirectional override and isolate, zero-width, line separator, backspace."""

ACTING = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def acting(text: str) -> list[str]:
    """Characters that a terminal obeys or hides; a newline is ours."""
    return [each for each in text if each != "\n" and unicodedata.category(each) in ACTING]


def test_the_measure_sees_each_of_them() -> None:
    assert len(acting(EVIL)) == len(EVIL) - len("evil]0;owned2J")


@pytest.fixture(scope="module")
def evil_pem() -> bytes:
    return Authority.root(EVIL[:64]).certificate.pem


@pytest.fixture
def hostile(program: Program, evil_pem: bytes) -> Program:
    """Hostile in every file: the root file's text and names, its history, services, `.pgpass`."""
    folder = program.home / ".postgresql"
    folder.mkdir(mode=0o700)
    program.root_file.write_bytes(evil_pem + f"# {EVIL}\n".encode())
    program.ok("install", "--offline")
    (program.home / ".pg_service.conf").write_text(
        f"[{EVIL}]\nhost=/{EVIL}\nsslrootcert=/{EVIL}\n[bad]\nport={EVIL}\n[worse{EVIL}]\n{EVIL}\n"
    )
    (program.home / ".pgpass").write_text(f"/{EVIL}:1:*:u:p\n{EVIL}:x:*\n")
    (folder / f"root.crt.{EVIL}").write_text("x")
    return program


# Words, the exit code, and whether "evil" must have come through (then visibly).
COMMANDS: dict[str, tuple[Sequence[str], int, bool]] = {
    "list": (["list"], 0, True),
    "history": (["history"], 0, False),
    "history 1": (["history", "1"], 0, True),
    "install --replace": (["install", "--offline", "--replace", "--dry-run"], 1, True),
    "remove": (["remove", "--dry-run"], 1, True),
    "rollback": (["rollback", "--dry-run"], 1, True),
    "check": (["check"], 0, False),
    "check --all": (["check", "--all", "--timeout", "1"], 0, True),
    "check --service": (["check", "--service", EVIL], 1, True),
    "check -h": (["check", "-h", f"/{EVIL}"], 0, True),
    "check --target": (["check", "--target", EVIL], 1, True),
    "check sslrootcert": (["check", f"host=/x sslrootcert='{EVIL}'"], 1, True),
    "check sslmode": (["check", f"host=/x sslmode='{EVIL}'"], 2, False),
    "check keyword": (["check", f"host=/x {EVIL.replace(' ', '')}=1"], 2, False),
    "impact": (["install", "--offline", "--impact", "--dry-run"], 0, False),
    "install --target": (["install", "--offline", "--dry-run", "--target", EVIL], 1, True),
    "install --from": (["install", "--from", EVIL, "--replace"], 4, True),
    "install --url": (["install", "--url", f"https://127.0.0.1:9/{EVIL}", "--replace"], 0, False),
    "install --url, no URL": (["install", "--url", EVIL, "--replace"], 2, False),
    "install --ca-bundle": (["install", "--replace", "--ca-bundle", EVIL], 2, True),
    "install --user": (["install", "--user", EVIL], 2, True),
    "install ROOT": (["install", EVIL], 2, True),
    "remove ROOT": (["remove", EVIL], 2, True),
    "roots ROOT": (["roots", EVIL], 2, True),
    "roots": (["roots"], 0, False),
    "clients NAME": (["clients", EVIL], 2, True),
    "explain": (["explain", EVIL], 2, False),
    "explain, known": (["explain", f"certificate verify failed {EVIL}"], 0, False),
    "unknown command": ([EVIL], 2, False),
    "unknown option": (["check", f"--{EVIL}"], 2, False),
    "wrong choice": (["check", "--format", EVIL], 2, False),
    "wrong number": (["rollback", EVIL], 2, False),
}


@pytest.mark.parametrize(("words", "code", "shown"), COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("json_too", [False, True], ids=["text", "json"])
def test_no_text_from_outside_acts_on_a_terminal(
    hostile: Program,
    words: Sequence[str],
    code: int,
    shown: bool,
    json_too: bool,
    count: Count,
) -> None:
    done: Done = hostile(*words, *(["--json"] if json_too else []))
    assert done.code == code, done
    assert acting(done.out + done.err) == []
    assert "Traceback" not in done.err
    if json_too:
        assert done.out.isascii()
        assert done.document["exit_code"] == done.code
    if shown:
        assert "evil" in done.out + done.err, done
        assert "\\u001b" in done.out + done.err, done
    count("runs with hostile text that printed none of it raw", 1)


def test_json_gives_the_text_itself_back(hostile: Program) -> None:
    """What is escaped for a terminal is not lost for a program."""
    (first, _) = hostile.ok("list", "--json").document["certificates"]
    assert "\x1b]0\\;owned\x07" in first["subject"]
    assert f"# {EVIL[:4]}" in hostile.ok("history", "1", "--json").document["diff"]
    assert "\x1b" in json.loads(hostile("roots", EVIL, "--json").out)["error"]["message"]


def test_raw_text_does_come_in(hostile: Program) -> None:
    """The control: the hostile text is in what the program reads."""
    (name, *_) = service_names((hostile.home / ".pg_service.conf").read_text())
    assert acting(name)
    assert acting(hostile.root_file.read_text())
    assert hostile("check", "--service", name).code == 1  # its sslrootcert does not exist
