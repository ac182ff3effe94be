"""A change of the root file while Windows has other plans: held files, locks, kills, rights."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

import qs_certs
from qs_certs import catalogue, files, windows
from qs_certs.bundle import parse
from qs_certs.errors import LockTimeout, TargetChanged
from tests.pki import Authority
from tests.program import Program, assert_one_clear_error

EMBEDDED = Path(qs_certs.__file__).parent / "roots" / f"{catalogue.DEFAULT}.pem"
LONG = bool(os.environ.get("QS_CERTS_LONG"))
OTHERS = b"# other people's certificates\n"


_HOLD = """\
import sys
file = open(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def held(program: Program) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has the root file open, as a BI tool may; one line ends it."""
    program.root_file.parent.mkdir(exist_ok=True)
    program.root_file.write_bytes(OTHERS)
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(program.root_file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"open"
        yield process
        let_go(process)


def let_go(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError, ValueError):
        process.stdin.write(b"\n")
        process.stdin.close()
    process.wait(20)


def test_a_file_that_is_let_go_in_time_is_replaced(
    program: Program, held: subprocess.Popen[bytes]
) -> None:
    threading.Timer(1.0, let_go, [held]).start()
    start = time.monotonic()
    program.ok("install", "--offline")
    assert time.monotonic() - start > 0.8
    assert program.root_file.read_bytes() == OTHERS + EMBEDDED.read_bytes()


def test_a_file_that_stays_open_is_a_clear_error_and_nothing_is_lost(
    program: Program, held: subprocess.Popen[bytes]
) -> None:
    with mock.patch.object(files, "RENAME_PATIENCE", 0.5):
        done = program("install", "--offline")
    assert_one_clear_error(done, 6, "nothing was changed", "close the programs", "icacls")
    assert program.root_file.read_bytes() == OTHERS
    assert [each.name for each in program.root_file.parent.iterdir()] == ["root.crt"]
    let_go(held)
    program.ok("install", "--offline")  # a control: it was the other program
    assert program.root_file.read_bytes() == OTHERS + EMBEDDED.read_bytes()
    assert len(program.ok("history", "--json").document["changes"]) == 1


def test_a_file_that_stays_open_is_not_removed_either(program: Program) -> None:
    program.ok("install", "--offline")
    with program.root_file.open("rb"), mock.patch.object(files, "RENAME_PATIENCE", 0.3):
        assert_one_clear_error(program("rollback"), 6, "cannot remove")
    assert program.root_file.read_bytes() == EMBEDDED.read_bytes()
    program.ok("rollback")
    assert not program.root_file.exists()


@pytest.mark.parametrize("there", [False, True], ids=["made", "removed"])
def test_what_another_program_saves_at_the_last_moment_is_not_lost(
    tmp_path: Path, there: bool
) -> None:
    path = tmp_path / "root.crt"

    class Editor(files.Disk):
        saved = False

        def rename_new(self, source: str, target: str) -> None:
            if not self.saved:
                path.write_bytes(OTHERS)
                self.saved = True
            super().rename_new(source, target)

    def change(disk: files.Disk) -> None:
        if there:
            path.write_bytes(b"old")
            files.remove(str(path), expected=b"old", disk=disk)
        else:
            files.replace(str(path), b"new", expected=None, verify=lambda _: None, disk=disk)

    with pytest.raises(TargetChanged):
        change(Editor())
    assert path.read_bytes() == OTHERS
    assert [each.name for each in tmp_path.iterdir()] == ["root.crt"]
    path.unlink()
    change(files.DISK)  # a control: it was the other program
    assert path.exists() is not there


def test_only_errors_that_may_pass_are_asked_again() -> None:
    asked = []

    def attempt() -> None:
        asked.append(1)
        raise PermissionError(13, "no", "x", 19)  # ERROR_WRITE_PROTECT

    with pytest.raises(PermissionError):
        files._patiently(attempt)
    assert len(asked) == 1


def test_a_read_only_file_is_refused_with_the_command_that_clears_it(program: Program) -> None:
    program.root_file.parent.mkdir()
    program.root_file.write_bytes(OTHERS)
    subprocess.run(["attrib", "+R", str(program.root_file)], check=True, stdin=subprocess.DEVNULL)
    for words in (["install", "--offline"], ["install", "--offline", "--replace"]):
        assert_one_clear_error(program(*words), 6, "read-only", f'attrib -R "{program.root_file}"')
    assert program.root_file.read_bytes() == OTHERS
    subprocess.run(["attrib", "-R", str(program.root_file)], check=True, stdin=subprocess.DEVNULL)
    program.ok("install", "--offline")


# --- rights ---------------------------------------------------------------------------------------


def test_windows_takes_what_copy_rights_gives_it(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.touch()
    new.touch()
    windows.copy_rights(str(old), str(new))
    with pytest.raises(FileNotFoundError):
        windows.copy_rights(str(tmp_path / "none"), str(new))


# --- locks ----------------------------------------------------------------------------------------


def test_the_lock_names_its_holder_and_stays_small(program: Program) -> None:
    program.ok("install", "--offline")
    lock = program.store / "lock"
    assert lock.read_bytes().startswith(b"process ")
    assert lock.stat().st_size < 100
    with (
        files.locked(str(lock), timeout=1),
        pytest.raises(LockTimeout, match=r"\(process \d+ since"),
        files.locked(str(lock), timeout=0.1),
    ):
        pass
    with files.locked(str(lock), timeout=0.1):  # a control: it is free again
        pass


def test_processes_at_once_lose_nothing(program: Program, tmp_path: Path) -> None:
    made = [Authority.root(f"Root {number}").certificate for number in range(4)]
    running = []
    for number, each in enumerate(made):
        file = tmp_path / f"{number}.pem"
        file.write_bytes(each.pem)
        running.append(program.start("install", "--from", file, "--sha256", each.sha256))
    for process in running:
        with process:
            _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    content = program.root_file.read_bytes()
    assert parse(content).fingerprints == {each.sha256 for each in made}
    changes = program.ok("history", "--json").document["changes"]
    assert len(changes) == len(made)
    assert [each["before"] for each in changes][1:] == [each["after"] for each in changes][:-1]


# --- kills ----------------------------------------------------------------------------------------

_KILLED = """\
import os, sys
from qs_certs import files
left = int(sys.argv.pop(1))
def counted(name):
    real = getattr(files.Disk, name)
    def call(self, *words):
        global left
        left -= 1
        if left == 0:
            os._exit(99)  # as TerminateProcess: nothing is cleaned up
        return real(self, *words)
    return call
for name, each in list(vars(files.Disk).items()):
    if callable(each):
        setattr(files.Disk, name, counted(name))
from qs_certs.cli import main
main()
"""


@pytest.mark.parametrize("at", range(1, 90) if LONG else (20, 40, 55, 70))
def test_whatever_call_it_dies_at_the_file_is_whole_and_the_next_run_goes_on(
    program: Program, at: int
) -> None:
    program.root_file.parent.mkdir()
    program.root_file.write_bytes(OTHERS)
    new = OTHERS + EMBEDDED.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(at), "install", "--offline"],
        env=program.environment,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode in (99, 0), done
    assert program.root_file.read_bytes() in (OTHERS, new)
    program.ok("install", "--offline")
    assert program.root_file.read_bytes() == new
    assert [each.name for each in program.root_file.parent.iterdir()] == ["root.crt"]
    assert len(program.ok("history", "--json").document["changes"]) == 1
    program.ok("rollback")
    assert program.root_file.read_bytes() == OTHERS
