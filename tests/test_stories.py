"""What people do with the program, and what it does when it cannot: from words to exit code."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

import qs_certs
from qs_certs import catalogue, openssl, store
from qs_certs.bundle import canonical, parse
from tests.conftest import Pki
from tests.pki import Authority
from tests.program import Program, assert_one_clear_error, snapshot

if sys.platform == "win32":
    pytest.skip("only on POSIX", allow_module_level=True)

G2 = catalogue.ROOTS[catalogue.DEFAULT]
G3 = catalogue.ROOTS["digicert-global-root-g3"]
EMBEDDED = (Path(qs_certs.__file__).parent / "roots" / f"{G2.name}.pem").read_bytes()


@pytest.fixture
def program(tmp_path: Path) -> Program:
    home = tmp_path / "home"
    home.mkdir()
    return Program(home)


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# --- undoing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("undo", ["remove", "rollback"])
@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(b"\n", id="final newline"),
        pytest.param(b"", id="no final newline"),
        pytest.param(b"\n\n\n", id="blank lines at the end"),
        pytest.param(b"\r\n", id="CRLF"),
        pytest.param(b"\n# a comment of mine", id="comment"),
    ],
)
def test_undoing_an_install_brings_back_every_byte(
    program: Program, pki: Pki, ending: bytes, undo: str
) -> None:
    old = b"# mine\n" + pki.other.certificate.pem.rstrip() + ending
    put(program.root_file, old)
    program.ok("install", "--offline")
    assert program.root_file.read_bytes().startswith(old)
    assert program.root_file.read_bytes().endswith(EMBEDDED)
    program.ok(undo)
    assert program.root_file.read_bytes() == old


@pytest.mark.parametrize("undo", ["remove", "rollback"])
@pytest.mark.parametrize("folder", ["absent", "there"])
def test_undoing_the_first_install_leaves_neither_file_nor_folder_of_ours(
    program: Program, undo: str, folder: str
) -> None:
    if folder == "there":
        program.root_file.parent.mkdir()
    program.ok("install", "--offline")
    assert program.root_file.exists()
    program.ok(undo)
    assert not program.root_file.exists()
    assert program.root_file.parent.exists() == (folder == "there")


@pytest.mark.parametrize("undo", ["remove", "rollback"])
def test_undoing_keeps_a_folder_in_which_somebody_else_put_something(
    program: Program, undo: str
) -> None:
    program.ok("install", "--offline")
    other = put(program.root_file.parent / "postgresql.crt", b"mine")
    program.ok(undo)
    assert not program.root_file.exists()
    assert other.read_bytes() == b"mine"


@pytest.mark.parametrize("undo", ["remove", "rollback"])
def test_undoing_an_install_into_an_empty_file_leaves_an_empty_file(
    program: Program, undo: str
) -> None:
    put(program.root_file, b"")
    program.ok("install", "--offline")
    program.ok(undo)
    assert program.root_file.read_bytes() == b""


def test_remove_takes_out_a_root_that_somebody_else_put_there(program: Program, pki: Pki) -> None:
    mine = pki.other.certificate.pem
    put(program.root_file, mine + EMBEDDED)
    program.ok("remove")
    assert program.root_file.read_bytes() == mine
    program.ok("rollback")
    assert program.root_file.read_bytes() == mine + EMBEDDED


def test_remove_of_a_root_that_is_not_there_writes_nothing(program: Program, pki: Pki) -> None:
    put(program.root_file, pki.other.certificate.pem)
    before = snapshot(program.home)
    assert "nothing to do" in program.ok("remove").out
    assert snapshot(program.home) == before


def test_rollback_twice_is_redo_and_goes_on_for_ever(program: Program) -> None:
    seen = []
    program.ok("install", "--offline")
    for change in (2, 3, 4, 5):
        done = program.ok("rollback")
        seen.append(program.root_file.exists())
        # Whichever it did: the command named takes back this very change.
        assert f"  undo    qs-certs rollback   (this is change {change})\n" in done.out
        assert "\n  redo" not in done.out
    assert seen == [False, True, False, True]


def test_rollback_to_an_id_brings_back_the_state_before_that_change(
    program: Program, pki: Pki
) -> None:
    states: list[bytes | None] = [None]
    for name in (G2.name, G3.name, "digicert-tls-rsa4096-root-g5"):
        program.ok("install", "--offline", name)
        states.append(program.root_file.read_bytes())
    for identity in (3, 1, 2):
        program.ok("rollback", str(identity))
        found = program.root_file.read_bytes() if program.root_file.exists() else None
        assert found == states[identity - 1]
    program.ok("rollback", "4")  # the first rollback is a change like any other
    assert program.root_file.read_bytes() == states[3]


def test_rollback_with_nothing_to_undo_says_so_and_makes_no_store(program: Program) -> None:
    before = snapshot(program.home)
    assert "nothing to roll back" in program.ok("rollback").out
    assert snapshot(program.home) == before


def test_history_lists_the_changes_with_their_ids(program: Program) -> None:
    program.ok("install", "--offline")
    program.ok("install", "--offline", G3.name)
    program.ok("remove", G3.name)
    program.ok("rollback")
    changes = program.ok("history", "--json").document["changes"]
    assert [(each["id"], each["command"], each["added"], each["removed"]) for each in changes] == [
        (1, "install", [G2.name], []),
        (2, "install", [G3.name], []),
        (3, "remove", [], [G3.name]),
        (4, "rollback", [G3.name], []),
    ]
    assert all(old["after"] == new["before"] for old, new in pairwise(changes))
    lines = program.ok("history").out.splitlines()[1:]
    assert [line.split()[0] for line in lines[::2]] == ["1", "2", "3", "4"]
    assert "no file -> sha256 " in lines[1]
    for line, change in zip(lines[3::2], changes[1:], strict=True):
        assert f"{change['before'][:16]} -> sha256 {change['after'][:16]}" in line


def test_history_of_one_file_leaves_out_the_others(program: Program) -> None:
    program.ok("install", "--offline")
    program.ok("install", "--offline", "--dedicated")
    assert [each["id"] for each in program("history", "--json").document["changes"]] == [1]
    dedicated = program("history", "--dedicated", "--json").document["changes"]
    assert [each["id"] for each in dedicated] == [2]


def test_the_diff_of_a_change_is_one_that_patch_applies(program: Program, pki: Pki) -> None:
    old = b"".join(b"# line %d\n" % number for number in range(50)) + pki.other.certificate.pem
    put(program.root_file, old)
    program.ok("install", "--offline")
    diff = program.ok("history", "1").out
    copy = put(program.home / "copy.crt", old)
    subprocess.run(["patch", "-s", copy], input=diff.encode(), check=True, capture_output=True)
    assert copy.read_bytes() == program.root_file.read_bytes()


# --- somebody else was there ----------------------------------------------------------------------


def drifted(program: Program) -> bytes:
    program.ok("install", "--offline")
    content = EMBEDDED + b"# by somebody else\n"
    program.root_file.write_bytes(content)
    return content


def test_rollback_refuses_to_undo_what_somebody_else_did_and_shows_it(program: Program) -> None:
    drifted(program)
    before = snapshot(program.home)
    done = program("rollback")
    assert_one_clear_error(done, 6, "somebody else", "--force")
    assert "+# by somebody else" in done.out
    assert snapshot(program.home) == before


def test_a_forced_rollback_keeps_that_content_and_can_be_undone(program: Program) -> None:
    content = drifted(program)
    program.ok("rollback", "--force")
    assert not program.root_file.exists()
    assert content in [path.read_bytes() for path in (program.store / "blobs").iterdir()]
    program.ok("rollback")
    assert program.root_file.read_bytes() == content


def test_a_file_deleted_by_somebody_else_is_a_difference_too(program: Program) -> None:
    put(program.root_file, b"# mine\n")
    program.ok("install", "--offline")
    program.root_file.unlink()
    before = snapshot(program.home)
    assert_one_clear_error(program("rollback"), 6, "somebody else")
    assert snapshot(program.home) == before
    program.ok("rollback", "--force")
    assert program.root_file.read_bytes() == b"# mine\n"


def test_install_and_remove_go_on_where_somebody_else_added_something(program: Program) -> None:
    content = drifted(program)
    program.ok("install", "--offline", G3.name)
    program.ok("remove", G3.name)
    assert program.root_file.read_bytes() == content


# --- ways to install ------------------------------------------------------------------------------


def test_a_dry_run_shows_the_diff_exits_1_and_changes_nothing(program: Program) -> None:
    before = snapshot(program.home)
    done = program("install", "--offline", "--dry-run")
    assert done.code == 1
    assert "+-----BEGIN CERTIFICATE-----" in done.out
    assert "/dev/null" in done.out
    assert snapshot(program.home) == before
    program.ok("install", "--offline")
    before = snapshot(program.home)
    assert program("install", "--offline", "--dry-run").code == 0
    done = program("remove", "--dry-run")
    assert done.code == 1
    assert "------BEGIN CERTIFICATE-----" in done.out
    assert program("rollback", "--dry-run").code == 1
    assert snapshot(program.home) == before


def test_a_dedicated_file_leaves_the_root_file_alone(program: Program) -> None:
    put(program.root_file, b"# mine\n")
    before = snapshot(program.root_file.parent)["root.crt"]
    done = program.ok("install", "--offline", "--dedicated")
    assert program.dedicated_file.read_bytes() == EMBEDDED
    assert snapshot(program.root_file.parent)["root.crt"] == before
    assert f"sslrootcert={program.dedicated_file}" in done.out
    assert f"PGSSLROOTCERT={program.dedicated_file}" in done.out
    assert "there was no root file before" not in done.err
    program.ok("rollback", "--dedicated")
    assert sorted(path.name for path in program.root_file.parent.iterdir()) == ["root.crt"]


def test_the_first_root_file_comes_with_a_warning_about_other_servers(program: Program) -> None:
    assert "silently falls back to plaintext" in program.ok("install", "--offline").err
    assert program.ok("install", "--offline", G3.name).err == ""  # a control: not the second time


def test_a_default_that_libpq_does_not_read_here_is_said(program: Program) -> None:
    elsewhere = program.home / "elsewhere.crt"
    away = Program(program.home, {"PGSSLROOTCERT": str(elsewhere)})
    done = away.ok("install", "--offline")
    assert program.root_file.exists()
    assert not elsewhere.exists()
    assert f"qs-certs install --target {elsewhere}" in done.err


def test_replace_leaves_exactly_the_given_roots(program: Program, pki: Pki) -> None:
    old = pki.other.certificate.pem
    put(program.root_file, old)
    done = program.ok("install", "--offline", "--replace", "--json")
    assert program.root_file.read_bytes() == EMBEDDED
    (target,) = done.document["targets"]
    assert target["added"] == [G2.name]
    assert target["removed"] == [pki.other.certificate.sha256]
    before = snapshot(program.home)
    assert "nothing to do" in program.ok("install", "--offline", "--replace").out
    assert snapshot(program.home) == before
    program.ok("rollback")
    assert program.root_file.read_bytes() == old


def test_a_damaged_file_is_refused_by_block_and_line_and_mended_with_repair(
    program: Program, pki: Pki
) -> None:
    old = pki.other.certificate.pem + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END"
    line = pki.other.certificate.pem.count(b"\n") + 1
    put(program.root_file, old)
    before = snapshot(program.home)
    done = program("install", "--offline")
    assert_one_clear_error(done, 1, f"line {line}, block 2", "qs-certs install --repair")
    assert snapshot(program.home) == before

    done = program.ok("install", "--offline", "--repair")
    assert "mended" in done.out
    assert program.root_file.read_bytes().startswith(pki.other.certificate.pem)
    assert openssl.load(program.root_file).error is None
    assert openssl.load(program.root_file).certificates == 2
    assert old in [path.read_bytes() for path in (program.store / "blobs").iterdir()]
    program.ok("rollback")
    assert program.root_file.read_bytes() == old


def test_damage_that_costs_nothing_to_mend_is_mended_and_reported(
    program: Program, pki: Pki
) -> None:
    glued = pki.other.certificate.pem.rstrip() + pki.root.certificate.pem
    put(program.root_file, glued)
    assert openssl.load(program.root_file).error is not None
    done = program.ok("install", "--offline")
    assert "newline between two blocks" in done.out
    assert openssl.load(program.root_file).certificates == 3


# --- roots of one's own ---------------------------------------------------------------------------


def colons(sha256: str) -> str:
    return ":".join(sha256[at : at + 2] for at in range(0, 64, 2)).upper()


@pytest.mark.parametrize("spelling", [str, str.upper, colons], ids=["hex", "upper", "colons"])
@pytest.mark.parametrize("form", ["pem", "der", "bundle", "stdin"])
def test_a_root_of_one_s_own_is_installed_by_its_fingerprint(
    program: Program, pki: Pki, spelling: Callable[[str], str], form: str
) -> None:
    root = pki.root.certificate
    content = {"der": root.der, "bundle": pki.other.certificate.pem + root.pem}.get(form, root.pem)
    source = "-" if form == "stdin" else str(put(program.home / "source", content))
    words = ("install", "--from", source, "--sha256", spelling(root.sha256))
    program.ok(*words, stdin=content if form == "stdin" else b"")
    assert program.root_file.read_bytes() == canonical(root.der)


def _wrong_pin(pki: Pki) -> tuple[bytes, str]:
    return pki.other.certificate.pem, pki.root.certificate.sha256


def _private_key(pki: Pki) -> tuple[bytes, str]:
    leaf = pki.issuing.leaf(dns=["x.test"])
    return pki.root.certificate.pem + leaf.key_pem, pki.root.certificate.sha256


def _leaf(pki: Pki) -> tuple[bytes, str]:
    return pki.leaf.pem, pki.leaf.sha256


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(_wrong_pin, ["wanted SHA-256", "found"], id="another certificate"),
        pytest.param(_private_key, ["private key"], id="a private key"),
        pytest.param(_leaf, ["CA"], id="a server's certificate"),
    ],
)
def test_a_source_that_must_not_be_installed_is_exit_5_and_nothing_is_written(
    program: Program, pki: Pki, make: Callable[[Pki], tuple[bytes, str]], words: list[str]
) -> None:
    content, pin = make(pki)
    source = put(program.home / "source", content)
    before = snapshot(program.home)
    for extra in ([], ["--repair"], ["--replace"], ["--dry-run"]):
        done = program("install", "--from", source, "--sha256", pin, *extra)
        assert_one_clear_error(done, 5, *words)
    assert snapshot(program.home) == before


def test_a_source_without_any_certificate_is_exit_4(program: Program) -> None:
    source = put(program.home / "source", b"<html>blocked</html>")
    before = snapshot(program.home)
    assert_one_clear_error(program("install", "--from", source), 4, str(source))
    assert_one_clear_error(program("install", "--from", program.home / "no"), 4, "No such file")
    assert_one_clear_error(program("install", "--from", "-"), 4, "standard input")
    assert snapshot(program.home) == before


# --- places that cannot be used -------------------------------------------------------------------


def make_folder(program: Program) -> None:
    program.root_file.mkdir(parents=True)


def make_fifo(program: Program) -> None:
    program.root_file.parent.mkdir()
    os.mkfifo(program.root_file)


def make_socket(program: Program) -> None:
    program.root_file.parent.mkdir()
    place = Path.cwd()
    os.chdir(program.root_file.parent)  # a socket's whole path has at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as endpoint:
            endpoint.bind("root.crt")
    finally:
        os.chdir(place)


def make_link_to_device(program: Program) -> None:
    program.root_file.parent.mkdir()
    program.root_file.symlink_to("/dev/null")


def make_dangling_link(program: Program) -> None:
    program.root_file.parent.mkdir()
    program.root_file.symlink_to(program.home / "nowhere" / "root.crt")


def make_link_loop(program: Program) -> None:
    program.root_file.parent.mkdir()
    other = program.root_file.with_name("other.crt")
    program.root_file.symlink_to(other)
    other.symlink_to(program.root_file)


def make_file_for_folder(program: Program) -> None:
    program.root_file.parent.write_bytes(b"in the way")


def make_huge(program: Program) -> None:
    program.root_file.parent.mkdir()
    with program.root_file.open("wb") as file:
        file.truncate(64 * 2**20 + 1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(make_folder, ["is a folder"], id="folder"),
        pytest.param(make_fifo, ["not a regular file"], id="FIFO"),
        pytest.param(make_socket, ["a socket or a device"], id="socket"),
        pytest.param(make_link_to_device, ["/dev/null"], id="device"),
        pytest.param(make_dangling_link, ["folder does not exist"], id="dangling link"),
        pytest.param(make_link_loop, ["symbolic links"], id="link loop"),
        pytest.param(make_file_for_folder, ["in the way"], id="a file where the folder should be"),
        pytest.param(make_huge, ["larger than"], id="huge file"),
    ],
)
@pytest.mark.parametrize("options", [[], ["--replace"], ["--dry-run"]], ids=" ".join)
def test_a_target_that_is_no_file_is_refused_and_left_alone(
    program: Program, make: Callable[[Program], None], words: list[str], options: list[str]
) -> None:
    make(program)
    before = snapshot(program.home)
    done = program("install", "--offline", *options)
    assert_one_clear_error(done, 6, *words)
    assert snapshot(program.home) == before


@pytest.mark.parametrize("make", [make_folder, make_fifo, make_link_loop])
@pytest.mark.parametrize("command", ["remove", "rollback --force", "list"])
def test_the_other_commands_refuse_it_as_well(
    program: Program, make: Callable[[Program], None], command: str
) -> None:
    make(program)
    before = snapshot(program.home)
    assert_one_clear_error(program(*command.split()), 6)
    assert snapshot(program.home) == before


def test_a_symlinked_target_stays_a_link_and_the_file_behind_is_replaced(program: Program) -> None:
    behind = put(program.home / "dotfiles" / "root.crt", b"# mine\n")
    program.root_file.parent.mkdir()
    program.root_file.symlink_to("../dotfiles/root.crt")
    program.ok("install", "--offline")
    assert program.root_file.readlink() == Path("../dotfiles/root.crt")
    assert behind.read_bytes() == b"# mine\n" + EMBEDDED
    assert [path.name for path in behind.parent.iterdir()] == ["root.crt"]
    program.ok("rollback")
    assert program.root_file.is_symlink()
    assert behind.read_bytes() == b"# mine\n"


def test_a_link_to_a_file_that_is_yet_to_be_made_is_followed_and_stays(program: Program) -> None:
    program.root_file.parent.mkdir()
    (program.home / "dotfiles").mkdir()
    program.root_file.symlink_to("../dotfiles/root.crt")
    program.ok("install", "--offline")
    assert (program.home / "dotfiles" / "root.crt").read_bytes() == EMBEDDED
    program.ok("rollback")
    assert program.root_file.is_symlink()
    assert not (program.home / "dotfiles" / "root.crt").exists()


def test_a_link_to_another_user_s_file_is_refused_and_that_file_left_alone(
    program: Program,
) -> None:
    if os.geteuid() == 0:
        other = put(program.home / "theirs.crt", b"theirs")
        os.chown(other, NOBODY, NOBODY)
    else:
        other = Path("/etc/passwd")
    program.root_file.parent.mkdir()
    program.root_file.symlink_to(other)
    before = snapshot(program.home)
    assert_one_clear_error(program("install", "--offline"), 6, "belongs to another user")
    assert snapshot(program.home) == before


# --- as an ordinary user --------------------------------------------------------------------------

NOBODY = 65534


@dataclass(frozen=True, slots=True)
class Ordinary:
    """A user whom modes stop, and a root to install."""

    program: Program
    words: tuple[str, ...]

    def own(self, path: Path) -> None:
        if self.program.user is not None:
            os.chown(path, self.program.user, self.program.user)


@pytest.fixture
def ordinary(pki: Pki) -> Iterator[Ordinary]:
    # pytest's own folders are closed to others.
    with tempfile.TemporaryDirectory(prefix="qs-certs-story-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        home = folder / "home"
        home.mkdir()
        source = put(folder / "ca.pem", pki.root.certificate.pem)
        words = ("install", "--from", str(source), "--sha256", pki.root.certificate.sha256)
        user = Ordinary(Program(home, user=NOBODY if os.geteuid() == 0 else None), words)
        user.own(home)
        yield user
        for path in (home, *home.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)


def close_home(user: Ordinary) -> None:
    user.program.home.chmod(0o500)


def close_folder(user: Ordinary) -> None:
    user.program.root_file.parent.mkdir()
    user.own(user.program.root_file.parent)
    user.program.root_file.parent.chmod(0o500)
    user.program.store.mkdir(parents=True)
    for path in (*user.program.store.relative_to(user.program.home).parents,):
        user.own(user.program.home / path)
    user.own(user.program.store)
    user.program.store.chmod(0o700)


def close_file(user: Ordinary) -> None:
    put(user.program.root_file, b"secret").chmod(0o000)
    user.own(user.program.root_file.parent)
    user.own(user.program.root_file)


def foreign_folder(user: Ordinary) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a folder of another user")
    user.program.root_file.parent.mkdir(mode=0o755)


def foreign_store(user: Ordinary) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a folder of another user")
    user.program.store.mkdir(parents=True)


def store_for_all(user: Ordinary) -> None:
    close_folder(user)
    user.program.root_file.parent.chmod(0o700)
    user.program.store.chmod(0o777)


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        pytest.param(close_home, 6, ["Permission denied"], id="home cannot be written"),
        pytest.param(close_folder, 6, ["Permission denied"], id="folder cannot be written"),
        pytest.param(foreign_folder, 6, ["Permission denied"], id="folder of another user"),
        pytest.param(close_file, 4, ["Permission denied", "ls -la"], id="file cannot be read"),
        pytest.param(foreign_store, 6, ["QS_CERTS_STORE"], id="store of another user"),
        pytest.param(store_for_all, 6, ["can be changed by others", "chmod go-w"], id="open store"),
    ],
)
def test_where_rights_are_missing_nothing_is_changed(
    ordinary: Ordinary, make: Callable[[Ordinary], None], code: int, words: list[str]
) -> None:
    make(ordinary)
    target = snapshot_of_root_file(ordinary.program)
    done = ordinary.program.process(*ordinary.words)
    assert_one_clear_error(done, code, *words)
    assert snapshot_of_root_file(ordinary.program) == target


def snapshot_of_root_file(program: Program) -> object:
    """All of the home but the store, which may note an attempt that failed."""
    found = snapshot(program.home)
    return {
        name: facts
        for name, facts in found.items()
        if name != "." and not name.startswith(".local")
    }


def test_an_ordinary_user_with_rights_can_do_it_all(ordinary: Ordinary) -> None:
    """The control of the rows above."""
    program = ordinary.program
    assert program.process(*ordinary.words).code == 0
    uid = os.geteuid() if program.user is None else program.user
    made = [program.root_file, program.root_file.parent, *program.store.rglob("*")]
    assert {path.lstat().st_uid for path in made} == {uid}
    assert program.process("rollback").code == 0
    assert not program.root_file.parent.exists()


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A mounted file system that cannot be written."""
    if sys.platform != "linux":
        pytest.skip("only on Linux")
    folder = tmp_path / "mounted"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_read_only_file_system_is_named(program: Program, read_only: Path) -> None:
    target = read_only / "root.crt"
    done = program("install", "--offline", "--target", target)
    assert_one_clear_error(done, 6, "Read-only file system", "remount")
    done = Program(read_only)("install", "--offline")
    assert_one_clear_error(done, 6, "Read-only file system", "QS_CERTS_STORE")
    assert list(read_only.iterdir()) == []


# --- the store ------------------------------------------------------------------------------------


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    mode = stat.S_IMODE(path.stat().st_mode)
    path.chmod(0o600)
    path.write_bytes(content)
    path.chmod(mode)


def test_a_flipped_byte_in_the_journal_stops_every_change(program: Program) -> None:
    program.ok("install", "--offline")
    program.ok("install", "--offline", G3.name)
    flip(program.store / "journal.jsonl", 40)
    before = snapshot(program.home)
    for command in ("rollback", "remove", "history", f"install --offline {G3.name}x"):
        done = program(*command.split())
        assert done.code == (2 if command.endswith("x") else 5), done
    done = program("remove")
    assert_one_clear_error(done, 5, "line 1 of", "qs-certs history --quarantine")
    assert program("list").code == 0  # reads no journal
    assert snapshot(program.home) == before


def test_a_flipped_byte_in_a_kept_content_is_never_written_anywhere(
    program: Program, pki: Pki
) -> None:
    put(program.root_file, pki.other.certificate.pem)
    program.ok("install", "--offline")
    change = program("history", "--json").document["changes"][0]
    flip(program.store / "blobs" / f"{change['before']}.crt", 100)
    before = snapshot(program.home)
    for words in (["rollback"], ["rollback", "--force"], ["rollback", "1"], ["rollback", "-1"]):
        if words[-1] == "-1":
            assert program(*words).code == 2
        else:
            assert_one_clear_error(program(*words), 5, "is not what was kept there")
    assert snapshot(program.home) == before
    program.ok("remove")  # needs no earlier content


def test_a_lost_content_is_exit_5(program: Program, pki: Pki) -> None:
    put(program.root_file, pki.other.certificate.pem)
    program.ok("install", "--offline")
    for blob in (program.store / "blobs").iterdir():
        blob.unlink()
    before = snapshot(program.home)
    assert_one_clear_error(program("rollback"), 5, "is missing")
    assert snapshot(program.home) == before


def test_a_torn_tail_of_the_journal_is_cut_and_the_work_goes_on(program: Program) -> None:
    program.ok("install", "--offline")
    journal = program.store / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"v": 1, "kind": "chan')
    assert len(program("history", "--json").document["changes"]) == 1
    program.ok("install", "--offline", G3.name)
    assert journal.read_bytes().startswith(whole + b'{"v": 1, "kind": "change", "id": 2,')
    program.ok("rollback")
    assert program.root_file.read_bytes() == EMBEDDED


def test_a_store_whose_files_are_links_is_not_followed(program: Program) -> None:
    program.ok("install", "--offline")
    journal = program.store / "journal.jsonl"
    elsewhere = program.home / "elsewhere"
    journal.rename(elsewhere)
    journal.symlink_to(elsewhere)
    before = snapshot(program.home)
    assert_one_clear_error(program("remove"), 5, "is a link")
    assert snapshot(program.home) == before


def test_a_store_that_is_no_folder_is_exit_6(program: Program) -> None:
    put(program.store, b"in the way")
    before = snapshot(program.home)
    assert_one_clear_error(program("install", "--offline"), 6, "store")
    assert snapshot(program.home) == before


def test_a_held_lock_is_exit_6_and_names_its_holder(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    program.ok("install", "--offline")
    before = snapshot(program.home)
    holder = (
        "import sys, time; from qs_certs import files\n"
        "with files.locked(sys.argv[1], timeout=1):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    lock = str(program.store / "lock")
    with subprocess.Popen(
        [sys.executable, "-c", holder, lock],
        env=program.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        waiting = vars(store.Store)["writing"].__wrapped__
        monkeypatch.setattr(waiting, "__defaults__", (0.1,))
        done = program("remove")
        assert_one_clear_error(done, 6, f"process {process.pid} since", "again")
        process.kill()
    after = snapshot(program.home)
    lock_file = str((program.store / "lock").relative_to(program.home))
    assert before.pop(lock_file) != after.pop(lock_file)  # it named another holder
    assert after == before
    program.ok("remove")  # the lock of a killed process is free


def test_the_store_can_be_put_elsewhere(program: Program, tmp_path: Path) -> None:
    away = Program(program.home, {"QS_CERTS_STORE": str(tmp_path / "deep" / "store")})
    away.ok("install", "--offline")
    assert (tmp_path / "deep" / "store" / "journal.jsonl").exists()
    assert not program.store.exists()
    away.ok("rollback")
    assert not program.root_file.exists()


# --- many at once ---------------------------------------------------------------------------------


def test_sixteen_at_once_lose_nothing(program: Program, tmp_path: Path) -> None:
    roots = [Authority.root(f"Root {number}").certificate for number in range(16)]
    old = b"# mine\n"
    put(program.root_file, old)

    def install(number: int) -> int:
        source = put(tmp_path / f"{number}.pem", roots[number].pem)
        words = ("install", "--from", source, "--sha256", roots[number].sha256)
        return program.process(*words).code

    with ThreadPoolExecutor(len(roots)) as pool:
        assert list(pool.map(install, range(len(roots)))) == [0] * len(roots)
    content = program.root_file.read_bytes()
    assert content.startswith(old)
    assert parse(content).fingerprints == {root.sha256 for root in roots}
    assert openssl.load(program.root_file).certificates == len(roots)
    changes = program("history", "--json").document["changes"]
    assert [each["id"] for each in changes] == list(range(1, 17))
    program.ok("rollback", "1")
    assert program.root_file.read_bytes() == old
    assert [path.name for path in program.root_file.parent.iterdir()] == ["root.crt"]


# --- the end of a run -----------------------------------------------------------------------------


def test_an_interrupt_is_exit_130_without_a_traceback(program: Program) -> None:
    os.mkfifo(program.home / "source")
    process = program.start("install", "--from", program.home / "source")
    with (program.home / "source").open("wb"):  # it reads: from here on it can be interrupted
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, (out, err)
    assert err == b"qs-certs: interrupted\n"
    assert not program.root_file.exists()


def test_output_that_nobody_reads_does_not_undo_the_work(program: Program) -> None:
    process = program.start("install", "--offline")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(30) == 0
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    assert process.stdin is not None
    process.stdin.close()
    assert program.root_file.read_bytes() == EMBEDDED


# --- odd words, odd files -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "warned"),
    [(b"", True), (b"\n# nothing here\n", True), (None, False)],
    ids=["empty", "a comment", "no file"],
)
def test_list_says_that_libpq_refuses_a_file_without_certificates(
    program: Program, content: bytes | None, warned: bool
) -> None:
    """It said "0 certificates", and nothing of every TLS connection that fails."""
    program.root_file.parent.mkdir(mode=0o700)
    if content is not None:
        program.root_file.write_bytes(content)
    done = program.ok("list")
    assert ("libpq refuses this file: no certificate or crl found" in done.err) == warned
    assert ("qs-certs: hint: qs-certs install\n" in done.err) == warned
    assert program("check").code == 1
    program.ok("install", "--offline")
    assert program.ok("list").err == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["install", "--from", ""], "--from names nothing"),
        (["roots", ""], "there is no root of that name in the catalogue"),
        (["clients", ""], "there is no client of that name on the list"),
        (["roots", "x"], "there is no root x in the catalogue"),
    ],
    ids=["--from", "root", "client", "a word"],
)
def test_an_empty_word_leaves_no_gap_in_the_message(
    program: Program, words: list[str], said: str
) -> None:
    done = program(*words)
    assert done.code == 2
    assert said in done.err
