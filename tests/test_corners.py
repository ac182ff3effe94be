"""What happens only where something is odd: the branches that no other quick test takes.

`scripts/branches.py` holds that in these rooms none is left.
"""

from __future__ import annotations

import difflib
import errno
import json
import ntpath
import os
import re
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NoReturn

import pytest

from qs_certs import (
    bundle,
    catalogue,
    changes,
    files,
    merging,
    openssl,
    reading,
    render,
    rights,
    rootfile,
    sources,
)
from qs_certs.accounts import Account
from qs_certs.bundle import parse
from qs_certs.changes import Target, Wanted, plan_install
from qs_certs.errors import (
    Bug,
    ChangedUnconfirmed,
    CouldNotRead,
    CouldNotTell,
    CouldNotWrite,
    Interrupted,
    QsCertsError,
    StoreTampered,
    StoreUnusable,
    TargetChanged,
    TargetDamaged,
    TargetRefused,
)
from qs_certs.files import Disk
from qs_certs.journal import Entry, Journal, chained, digest
from qs_certs.libpq import hostname, outcomes
from qs_certs.merging import merge
from qs_certs.results import Change, ChangeReport, ModeOutcome, TargetResult
from qs_certs.rights import Task
from qs_certs.store import Store
from tests.shapes import EMAIL, pem, pki, trust

if sys.platform == "win32":
    pytest.skip("only on POSIX", allow_module_level=True)

P = pki()
RIGHT, OTHER = pem(P.right), pem(P.other)
G2 = catalogue.ROOTS[catalogue.DEFAULT]
DER = sources.embedded(G2)
WANTED = Wanted(G2.sha256, lambda: (DER, "embedded", None))


class OddDisk(Disk):
    """A disk of which one call is replaced: *odd* is given the call's own function.

    It cannot exchange names, so that the plain rename and removal of other systems are tried.
    """

    def __init__(self, name: str, odd: Callable[..., Any]) -> None:
        usual = getattr(self, name)
        setattr(self, name, lambda *args: odd(usual, *args))

    def exchange(self, one: str, other: str) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    def rename_new(self, source: str, target: str) -> None:
        self.exchange(source, target)


def no_check(path: str) -> None:
    pass


def fails(code: int) -> Callable[..., Any]:
    def odd(usual: Callable[..., Any], *args: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return odd


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QS_CERTS_STORE", str(tmp_path / "store"))
    return tmp_path / "home" / "root.crt"


def install(target: Path, **options: Any) -> TargetResult:
    return changes.install((Target(str(target)),), (WANTED,), **options).targets[0]


# --- reading a root file --------------------------------------------------------------------------


def _block(*lines: bytes) -> bytes:
    return b"\n".join((b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----", b""))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(
            RIGHT.replace(b"-----\n", b"-----\nA: b\n\n", 1).replace(b"-----END", b"\n-----END"),
            "bad end line",
            id="a blank line after the data",
        ),
        pytest.param(_block(b"A: b", b"", b"AAAA", b"AAAA"), "bad end line", id="a short line"),
        pytest.param(_block(b"MAUwAwIBAA=="), "wrong tag", id="no certificate inside"),
        pytest.param(_block(b"AgEA"), "wrong tag", id="an integer"),
        pytest.param(
            b"-----BEGIN X509 CRL-----\nAgEA\n-----END X509 CRL-----\n",
            "wrong tag",
            id="an integer for a CRL",
        ),
        pytest.param(
            pem(P.right + b"\x02\x01\x00", "TRUSTED CERTIFICATE"),
            "wrong tag",
            id="an integer for trust settings",
        ),
    ],
)
def test_a_block_that_openssl_gives_up_at(content: bytes, problem: str) -> None:
    assert parse(content).problem == problem
    assert openssl.load_bytes(content).error is not None
    assert openssl.load_bytes(RIGHT).error is None


def test_a_line_that_fills_the_buffer_takes_its_newline_with_it() -> None:
    long = b"-----BEGIN CERTIFICATE-----\nA: " + b"x" * 251 + b"\n\n"
    content = long + RIGHT.partition(b"\n")[2]
    assert parse(content).damaged is not None
    assert openssl.load_bytes(content).error is not None


def test_trust_settings_of_an_unknown_kind_exclude_nobody() -> None:
    odd = pem(P.right + b"\x30\x02\x81\x00", "TRUSTED CERTIFICATE")
    assert not parse(odd).blocks[0].refuses_servers
    assert (
        parse(pem(P.right + trust(trusted=EMAIL), "TRUSTED CERTIFICATE")).blocks[0].refuses_servers
    )


def test_a_damaged_block_may_hold_a_nul_that_hides_nothing() -> None:
    content = b"-----BEGIN CERTIFICATE-----\nA\0B\n-----END CERTIFICATE-----\n" + RIGHT
    parsed = parse(content)
    assert parsed.stop is None
    assert [block.der for block in parsed.blocks] == [None, P.right]


def test_a_nul_at_the_start_of_a_line_of_a_damaged_block_hides_the_rest() -> None:
    content = b"-----BEGIN CERTIFICATE-----\n!\n\0\n-----END CERTIFICATE-----\n" + RIGHT
    parsed = parse(content)
    assert parsed.stop == content.index(b"\0")
    assert len(parsed.blocks) == 1


def test_the_text_of_an_end_line_inside_a_der_certificate_ends_no_block() -> None:
    text = b"-----END CERTIFICATE-----\n"
    inside = b"\x30" + bytes([len(text)]) + text + b"\x30\x00\x03\x01\x00"
    der = b"\x30" + bytes([len(inside)]) + inside
    merged = merge(der + der, [P.third])
    assert merged.data == bundle.canonical(der) * 2 + pem(P.third)


def test_dashes_that_begin_nothing_do_not_end_a_damaged_block() -> None:
    content = b"-----BEGIN CERTIFICATE-----\n!\n-----x\n-----END CERTIFICATE-----\n" + RIGHT
    damaged, whole = parse(content).blocks
    assert content[damaged.start : damaged.end].endswith(b"-----END CERTIFICATE-----\n")
    assert whole.der == P.right


def test_repair_finds_what_a_nul_in_a_line_hides() -> None:
    hidden = RIGHT + b"\0x\n\0\n" + b"#" * 254 + b"\0" + OTHER
    merged = merge(hidden, [P.third], repair=True)
    assert "removed NUL bytes that hid what follows them" in merged.repaired
    assert openssl.load_bytes(merged.data).error is None


def test_repair_takes_trust_settings_that_exclude_servers() -> None:
    content = pem(P.right + trust(trusted=EMAIL), "TRUSTED CERTIFICATE")
    merged = merge(content, [P.right], repair=True)
    assert merged.repaired == ("removed the trust settings of block 1",)
    assert merged.data == RIGHT
    assert merge(content, [P.right]).damage[0].reason == "its trust settings exclude TLS servers"


def test_a_block_that_only_openssl_refuses_is_named_as_damage() -> None:
    (damage,) = merge(RIGHT + OTHER, [P.third], refused=[2]).damage
    assert (damage.number, damage.reason) == (2, "OpenSSL cannot read what it holds")


def test_a_byte_order_mark_is_no_part_of_a_line() -> None:
    content = bundle.BOM + RIGHT
    assert merging.remove(content, parse(content).fingerprints).data == bundle.BOM


def test_what_stands_before_a_block_within_a_line_keeps_the_newline() -> None:
    content = b"#" * 254 + RIGHT + OTHER
    assert parse(content).blocks[0].der == P.right
    removed = merging.remove(content, {parse(content).blocks[0].sha256 or ""})
    assert removed.data == b"#" * 254 + b"\n" + OTHER


def test_bytes_that_only_look_like_utf16_stay() -> None:
    content = b"\xff\xfe" + b"\x00\xd8" * 3 + b"\0" + RIGHT
    assert merge(content, [P.third]).repaired == ()


def test_a_source_may_hold_what_only_looks_like_a_certificate() -> None:
    junk = _block(b"AAAA")
    assert merging.certificates_in(junk + RIGHT) == (P.right,)


# --- files ----------------------------------------------------------------------------------------


def test_a_link_leads_to_the_file_behind_it(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"x")
    (tmp_path / "link").symlink_to("real")
    assert files.resolve(str(tmp_path / "link")) == str(tmp_path / "real")
    (tmp_path / "gone").symlink_to("no/where")
    with pytest.raises(TargetRefused, match="whose folder does not exist"):
        files.resolve(str(tmp_path / "gone"))
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(TargetRefused, match="more than 5 symbolic links"):
        files.resolve(str(tmp_path / "loop"))
    with pytest.raises(TargetRefused, match="is not a folder"):
        files.resolve(str(tmp_path / "real" / "root.crt"))


def test_a_link_to_the_file_of_another_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").write_bytes(b"x")
    (tmp_path / "link").symlink_to("real")
    monkeypatch.setattr(os, "geteuid", lambda: 4711)

    def odd(usual: Callable[..., Any], path: str) -> os.stat_result:
        values = list(usual(path))
        values[4] = 0 if path.endswith("link") else 4712  # the link is the administrator's
        return os.stat_result(values)

    disk = OddDisk("lstat", odd)
    with pytest.raises(TargetRefused, match="belongs to another user"):
        files.resolve(str(tmp_path / "link"), disk)
    assert files.resolve(str(tmp_path / "real"), disk) == str(tmp_path / "real")


def test_what_is_no_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TargetRefused, match="is a folder"):
        files.read(str(tmp_path))
    with pytest.raises(TargetRefused, match="is a folder"):
        files.read(str(tmp_path), OddDisk("open", fails(errno.EACCES)))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TargetRefused, match="not a regular file"):
        files.read(str(tmp_path / "pipe"))
    with socket.socket(socket.AF_UNIX) as unix:
        monkeypatch.chdir(tmp_path)  # the path of a socket must be short
        unix.bind("s")
    with pytest.raises(TargetRefused, match="a socket or a device"):
        files.read("s")
    (tmp_path / "large").write_bytes(b"12345")
    monkeypatch.setattr(files, "MAXIMUM_SIZE", 5)
    assert files.read(str(tmp_path / "large")) == b"12345"
    monkeypatch.setattr(files, "MAXIMUM_SIZE", 4)
    with pytest.raises(TargetRefused, match="larger than"):
        files.read(str(tmp_path / "large"))


def test_a_folder_is_made_with_all_that_leads_to_it(tmp_path: Path) -> None:
    assert files.make_folder(str(tmp_path / "a" / "b"))
    assert not files.make_folder(str(tmp_path / "a" / "b"))
    (tmp_path / "file").touch()
    with pytest.raises(CouldNotWrite, match="cannot make the folder"):
        files.make_folder(str(tmp_path / "file"))


def test_a_folder_without_a_parent_in_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert files.make_folder("plain")
    assert (tmp_path / "plain").is_dir()


def test_a_folder_that_somebody_else_makes_at_the_same_moment_is_a_folder(tmp_path: Path) -> None:
    def odd(usual: Callable[..., Any], path: str, mode: int) -> None:
        usual(path, mode)
        usual(path, mode)

    assert not files.make_folder(str(tmp_path / "a"), OddDisk("mkdir", odd))


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EIO])
def test_a_file_system_that_knows_no_sync_of_folders_is_no_error(tmp_path: Path, code: int) -> None:
    disk = OddDisk("fsync", fails(code))
    if code == errno.EIO:
        with pytest.raises(OSError, match=os.strerror(code)):
            files.sync_folder(str(tmp_path), disk)
    else:
        files.sync_folder(str(tmp_path), disk)


def test_folders_are_synced_as_far_as_they_can_be_opened(tmp_path: Path) -> None:
    synced: list[str] = []

    def odd(usual: Callable[..., Any], path: str, *rest: Any) -> int:
        if path == str(tmp_path.parent):
            raise PermissionError(errno.EACCES, "no")
        synced.append(path)
        fd: int = usual(path, *rest)
        return fd

    files.sync_folders(str(tmp_path), OddDisk("open", odd))
    assert synced == [str(tmp_path)]


def test_a_folder_of_somebody_else_is_where_the_syncing_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    synced: list[int] = []

    def odd(usual: Callable[..., Any], fd: int) -> None:
        synced.append(fd)

    files.sync_folders(str(tmp_path), OddDisk("fsync", odd))
    assert len(synced) == 1


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EROFS, "read-only"),
        (errno.EBUSY, "mounted file"),
        (errno.EPERM, "immutable"),
        (errno.EACCES, "owner and rights"),
        (errno.EIO, None),
    ],
    ids=errno.errorcode.get,
)
def test_every_error_has_its_own_way_out(tmp_path: Path, code: int, said: str | None) -> None:
    path = tmp_path / "root.crt"
    path.write_bytes(b"old")
    with pytest.raises(CouldNotWrite, match="nothing was changed") as refused:
        files.replace(
            str(path),
            b"new",
            expected=b"old",
            verify=no_check,
            disk=OddDisk("open", _only_new(code)),
        )
    assert path.read_bytes() == b"old"
    assert (said in refused.value.fix[0]) if said else not refused.value.fix


def _only_new(code: int) -> Callable[..., Any]:
    def odd(usual: Callable[..., Any], path: str, flags: int, *mode: int) -> Any:
        if flags & os.O_CREAT:
            raise OSError(code, os.strerror(code))
        return usual(path, flags, *mode)

    return odd


def test_reading_back_something_else_is_told(tmp_path: Path) -> None:
    path = tmp_path / "root.crt"

    def odd(usual: Callable[..., Any], source: str, to: str) -> None:
        usual(source, to)
        path.write_bytes(b"somebody else's")

    with pytest.raises(ChangedUnconfirmed, match="reading it back") as told:
        files.replace(
            str(path), b"new", expected=None, verify=no_check, disk=OddDisk("rename", odd)
        )
    assert "another program" in str(told.value.why)


def _after_the_swap(target: Path) -> Callable[..., Any]:
    """Folders that cannot be synced once the target has its new content."""

    def odd(usual: Callable[..., Any], fd: int) -> None:
        if target.exists() and stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        usual(fd)

    return odd


@pytest.mark.parametrize(
    ("disk", "changed", "said"),
    [
        pytest.param(
            lambda target: OddDisk("fsync", _after_the_swap(target)),
            True,
            "changed, but not confirmed",
            id="after the swap",
        ),
        pytest.param(
            lambda _: OddDisk("rename", fails(errno.EACCES)), False, "not changed", id="before it"
        ),
    ],
)
def test_a_change_that_happened_is_not_called_none(
    target: Path, disk: Callable[[Path], Disk], changed: bool, said: str
) -> None:
    """Exit code 6 either way, since a script must not try again; the words tell them apart, and the
    first next step where it happened is to look."""
    report = changes.install((Target(str(target)),), (WANTED,), disk=disk(target))
    (result,) = report.targets
    assert report.exit_code == 6
    assert target.exists() == changed
    assert f"{target}: {said}\n" in render.as_text(report, render.Style()) + "\n"
    assert result.error is not None
    history = f"qs-certs history --target {target}   # says whether it was changed"
    assert (result.error.fix[0] == history) == changed
    found = reading.history(Target(str(target))).run().changes
    assert [each.command for each in found] == ["install"] * changed


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (CouldNotTell("x"), "changed or not: nobody can tell yet"),
        (Bug("x"), "changed or not: nobody can tell yet"),
        (CouldNotWrite("x"), "not changed"),
        (Interrupted("x"), "not changed"),
    ],
    ids=["killed", "a bug", "not written", "its turn never came"],
)
def test_a_failure_says_how_it_leaves_the_file(error: QsCertsError, said: str) -> None:
    report = ChangeReport("install", (TargetResult("/r", None, "failed", error=error),))
    assert f"/r: {said}" in render.as_text(report, render.Style()).splitlines()[0]


def test_a_file_that_cannot_be_removed_stays(tmp_path: Path) -> None:
    path = tmp_path / "root.crt"
    path.write_bytes(b"old")
    with pytest.raises(CouldNotWrite, match="cannot remove"):
        files.remove(str(path), expected=b"old", disk=OddDisk("unlink", fails(errno.EACCES)))
    with pytest.raises(TargetChanged):
        files.remove(str(path), expected=b"older")
    assert path.read_bytes() == b"old"


def test_a_removal_whose_answer_was_lost_has_happened(tmp_path: Path) -> None:
    path = tmp_path / "root.crt"
    path.write_bytes(b"old")

    def odd(usual: Callable[..., Any], name: str) -> None:
        usual(name)
        raise OSError(errno.ESTALE, "lost")

    files.remove(str(path), expected=b"old", disk=OddDisk("unlink", odd))
    assert not path.exists()


def test_a_removal_that_is_not_synced_is_unconfirmed(tmp_path: Path) -> None:
    path = tmp_path / "root.crt"
    path.write_bytes(b"old")
    with pytest.raises(ChangedUnconfirmed):
        files.remove(str(path), expected=b"old", disk=OddDisk("fsync", fails(errno.EIO)))
    assert not path.exists()


@pytest.mark.parametrize("member", [True, False], ids=["of the group", "of neither"])
def test_an_owner_that_cannot_be_kept_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: bool
) -> None:
    path = tmp_path / "root.crt"
    path.write_bytes(b"old")
    asked: list[tuple[int, int]] = []

    def status(usual: Callable[..., Any], fd: int) -> Any:
        found = usual(fd)
        values = list(found)
        values[4] = found.st_uid + 1  # the new file seems to be somebody else's
        return os.stat_result(values)

    def refuse(fd: int, uid: int, gid: int) -> None:
        asked.append((uid, gid))
        if uid != -1 or not member:
            raise PermissionError(errno.EPERM, "no")
        files.DISK.chown(fd, uid, gid)

    disk = OddDisk("fstat", status)
    monkeypatch.setattr(disk, "chown", refuse)
    files.replace(str(path), b"new", expected=b"old", verify=no_check, disk=disk)
    assert path.read_bytes() == b"new"
    assert asked == [(path.stat().st_uid, path.stat().st_gid), (-1, path.stat().st_gid)]


def test_a_rename_that_another_program_holds_up_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    left = [32, 5, 33]

    def odd(usual: Callable[..., Any], source: str, to: str) -> None:
        if left:
            error = OSError(errno.EACCES, "in use")
            setattr(error, "winerror", left.pop())  # noqa: B010 - known on Windows only
            raise error
        usual(source, to)

    path = tmp_path / "root.crt"
    files.replace(str(path), b"new", expected=None, verify=no_check, disk=OddDisk("rename", odd))
    assert path.read_bytes() == b"new"
    assert not left


def held_open(code: int, winerror: int) -> OSError:
    """What Windows says of a file that another program has open."""
    error = OSError(code, "in use")
    setattr(error, "winerror", winerror)  # noqa: B010 - known on Windows only
    return error


def test_a_file_that_another_program_holds_open_is_told_as_such(tmp_path: Path) -> None:
    def why(winerror: int) -> str | None:
        def odd(usual: Callable[..., Any], *args: Any) -> Any:
            raise held_open(errno.EACCES, winerror)

        with pytest.raises(CouldNotRead, match="cannot read") as refused:
            files.read(str(tmp_path / "root.crt"), OddDisk("open", odd))
        return refused.value.why

    assert why(32) == why(33) == "in use (another program has it open)"
    assert why(5) == "in use"


def test_on_windows_the_programs_that_hold_a_file_are_the_way_out(tmp_path: Path) -> None:
    path = str(tmp_path / "root.crt")
    held = files._fix_of(held_open(errno.EACCES, 5), path)
    assert held[0].startswith(f"close the programs that have {path} open")
    assert held[1].startswith(f'icacls "{path}"')
    assert "ls -la" in files._fix_of(PermissionError(errno.EACCES, "no"), path)[0]


def test_on_windows_a_name_can_be_too_long(tmp_path: Path) -> None:
    path = str(tmp_path / ("x" * 200) / ("y" * 100))
    gone = held_open(errno.ENOENT, 3)
    assert files._fix_of(gone, path) == ("Windows stops at 259 characters: name a shorter path",)
    assert files._fix_of(gone, "C:\\root.crt") == ()
    assert files._fix_of(FileNotFoundError(errno.ENOENT, "no"), path) == ()


def test_a_link_that_another_user_made_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"x")
    (tmp_path / "link").symlink_to("real")

    def resolved(owner: int) -> str:
        def odd(usual: Callable[..., Any], path: str) -> os.stat_result:
            values = list(usual(path))
            if path.endswith("link"):
                values[4] = owner
            return os.stat_result(values)

        return files.resolve(str(tmp_path / "link"), OddDisk("lstat", odd))

    with pytest.raises(TargetRefused, match="is a link that another user made") as refused:
        resolved(os.geteuid() + 1)
    assert "it leads to real" in str(refused.value.why)
    assert resolved(0) == resolved(os.geteuid()) == str(tmp_path / "real")


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux: renameat2")
@pytest.mark.parametrize("missing", ["ctypes", "renameat2"])
def test_a_python_or_a_system_that_cannot_exchange_names_still_changes_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    one, other = str(tmp_path / "one"), str(tmp_path / "other")
    Path(one).write_bytes(b"1")
    Path(other).write_bytes(b"2")
    files.DISK.exchange(one, other)
    assert Path(one).read_bytes() == b"2"
    if missing == "ctypes":
        monkeypatch.setitem(sys.modules, "ctypes", None)
    else:
        monkeypatch.setattr("ctypes.CDLL", lambda *args, **options: object())
    with pytest.raises(OSError, match=os.strerror(errno.ENOSYS)):
        files.DISK.exchange(one, other)
    files.replace(one, b"new", expected=b"2", verify=no_check)
    assert Path(one).read_bytes() == b"new"
    files.remove(one, expected=b"new")
    assert [each.name for each in tmp_path.iterdir()] == ["other"]


def and_then(code: int) -> Callable[..., Any]:
    """The call is carried out, and an error is reported all the same: a lost reply."""

    def odd(usual: Callable[..., Any], *args: Any) -> Any:
        usual(*args)
        raise OSError(code, os.strerror(code))

    return odd


def of_linux(name: str, odd: Callable[..., Any]) -> OddDisk:
    """As OddDisk, but it exchanges names as Linux does."""
    disk = OddDisk("open", lambda usual, *args: usual(*args))
    for each in ("exchange", "rename_new"):
        setattr(disk, each, getattr(files.DISK, each))
    usual = getattr(disk, name)
    setattr(disk, name, lambda *args: odd(usual, *args))
    return disk


on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="only on Linux, where two names can be exchanged"
)
CALLS = [
    pytest.param(b"old", OddDisk, "rename", id="a plain rename"),
    pytest.param(b"old", of_linux, "exchange", id="an exchange", marks=on_linux),
    pytest.param(None, of_linux, "rename_new", id="a new name", marks=on_linux),
]


@pytest.mark.parametrize(("old", "disk", "call"), CALLS)
def test_a_swap_whose_answer_was_lost_has_happened(
    tmp_path: Path, old: bytes | None, disk: Callable[..., Disk], call: str
) -> None:
    path = tmp_path / "root.crt"
    if old is not None:
        path.write_bytes(old)
    odd = disk(call, and_then(errno.ESTALE))
    files.replace(str(path), b"new", expected=old, verify=no_check, disk=odd)
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("old", "disk", "call"), CALLS)
def test_a_swap_that_failed_has_not_happened(
    tmp_path: Path, old: bytes | None, disk: Callable[..., Disk], call: str
) -> None:
    path = tmp_path / "root.crt"
    if old is not None:
        path.write_bytes(old)
    odd = disk(call, fails(errno.EIO))
    with pytest.raises(CouldNotWrite, match="nothing was changed"):
        files.replace(str(path), b"new", expected=old, verify=no_check, disk=odd)
    assert [each.read_bytes() for each in tmp_path.iterdir()] == ([] if old is None else [old])


@on_linux
def test_a_removal_by_a_new_name_happened_or_did_not(tmp_path: Path) -> None:
    path = tmp_path / "root.crt"
    path.write_bytes(b"old")
    with pytest.raises(CouldNotWrite, match="cannot remove"):
        files.remove(str(path), expected=b"old", disk=of_linux("rename_new", fails(errno.EIO)))
    assert list(tmp_path.iterdir()) == [path]
    files.remove(str(path), expected=b"old", disk=of_linux("rename_new", and_then(errno.ESTALE)))
    assert not list(tmp_path.iterdir())


@on_linux
@pytest.mark.parametrize(
    ("old", "call", "edit", "new"),
    [
        pytest.param(None, "rename_new", b"theirs", b"new", id="made before it was made"),
        pytest.param(b"old", "exchange", None, b"new", id="gone before it was replaced"),
        pytest.param(b"old", "exchange", b"theirs", b"new", id="written before it was replaced"),
        pytest.param(b"old", "rename_new", None, None, id="gone before it was removed"),
        pytest.param(b"old", "rename_new", b"theirs", None, id="written before it was removed"),
    ],
)
def test_what_another_program_does_at_the_last_moment_stands(
    tmp_path: Path, old: bytes | None, call: str, edit: bytes | None, new: bytes | None
) -> None:
    path = tmp_path / "root.crt"
    edits = [edit]

    def odd(usual: Callable[..., Any], *names: str) -> None:
        while edits:
            path.unlink(missing_ok=True)
            if (content := edits.pop()) is not None:
                path.write_bytes(content)
        usual(*names)

    if old is not None:
        path.write_bytes(old)
    disk = of_linux(call, odd)
    plan = changes.Plan(old, new)
    with pytest.raises(TargetChanged, match="nothing was changed by us") as refused:
        changes._touch(str(path), str(tmp_path), plan, disk)
    assert [each.read_bytes() for each in tmp_path.iterdir()] == ([] if edit is None else [edit])
    # Only an edit that was out of its place for a moment has to be kept.
    assert refused.value.displaced == (edit if old is not None else None)


def test_of_what_an_interrupted_run_left_only_another_program_s_edit_is_kept(target: Path) -> None:
    install(target)
    whole = target.read_bytes()
    litter = {
        "1": whole[:100],
        "2": whole[:100] + b"\0" * 50,
        "3": b"theirs",
    }
    for digit, content in litter.items():
        target.with_name(f".root.crt.qs-{digit * 8}").write_bytes(content)
    changes.rollback((Target(str(target)),))
    (saved,) = target.parent.iterdir()
    assert saved.name.startswith("root.crt.saved-")
    assert saved.read_bytes() == b"theirs"


# --- the store ------------------------------------------------------------------------------------


def test_a_folder_where_a_content_was_is_damage(target: Path) -> None:
    install(target)
    store = Store(target.parent.parent / "store")
    kept = store.changes(str(target))[0].change.after
    assert store.content(kept) == target.read_bytes()
    blob = Path(store.folder, "blobs", f"{kept}.crt")
    blob.unlink()
    blob.mkdir()
    with pytest.raises(StoreTampered) as damaged:
        store.content(kept)
    assert "is a folder" in str(damaged.value.why)


def test_the_first_change_is_number_one_and_its_time_is_utc(target: Path) -> None:
    result = install(target)
    assert result.change_id == 1
    line = target.parent.parent.joinpath("store", "journal.jsonl").read_text().splitlines()[0]
    assert re.search(r'"id": 1, "at": "\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"', line)


def test_the_journal_is_plain_ascii_and_says_its_version(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with store.writing() as session:
        options: dict[str, Any] = dict.fromkeys(("mode", "before", "after"))
        options |= {"added": (), "removed": (), "made_folder": False, "command": "install"}
        for close in (session.done, session.void):
            close(session.record(target="/home/żółw/root.crt", **options))
    lines = (tmp_path / "store" / "journal.jsonl").read_text("ascii").splitlines()
    records = [json.loads(line.rpartition(" ")[0]) for line in lines]
    assert [each["kind"] for each in records] == ["change", "done", "change", "void"]
    assert {each["v"] for each in records} == {1}
    assert [each["id"] for each in records] == [1, 1, 2, 2]


RECORD: dict[str, object] = {
    "kind": "change",
    "id": 1,
    "at": "2026-01-02T03:04:05Z",
    "command": "install",
    "target": "/root.crt",
    "before": None,
    "after": "a" * 64,
    "added": [],
    "removed": [],
    "mode": 0o600,
    "made_folder": False,
}


def journal(*records: dict[str, object]) -> bytes:
    """Lines of right checksums, each of which follows those before."""
    prev = "0" * 64
    return chained(*(json.dumps({"v": 1, **each, "prev": prev}).encode() for each in records))


def read(raw: bytes) -> Journal:
    found = Journal("journal.jsonl")
    found.read(raw)
    found.examine()
    return found


def test_a_record_is_read_as_it_was_written() -> None:
    (entry,) = read(journal(RECORD)).open
    assert (entry.mode, entry.made_folder, entry.applied) == (0o600, False, None)
    assert entry.change.after == "a" * 64
    assert entry.change.at.isoformat() == "2026-01-02T03:04:05+00:00"
    (entry,) = read(journal(RECORD | {"mode": None, "made_folder": True})).open
    assert (entry.mode, entry.made_folder) == (None, True)


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(RECORD | {"id": "1"}, id="a number in quotes"),
        pytest.param(RECORD | {"after": "b" * 63}, id="a short hash"),
        pytest.param(RECORD | {"after": "/" * 64}, id="a path"),
        pytest.param(RECORD | {"after": "X" * 64}, id="no hexadecimal digits"),
        pytest.param(RECORD | {"added": "x"}, id="a text for a list"),
        pytest.param({"kind": "done", "id": 7}, id="the end of no change"),
        pytest.param({"kind": "change", "id": 1}, id="half a record"),
    ],
)
def test_what_is_no_record_is_damage_wherever_it_stands(record: dict[str, object]) -> None:
    for raw in (journal(record), journal(RECORD, record)):
        with pytest.raises(StoreTampered) as damaged:
            read(raw)
        assert "journal.jsonl: qs-certs did not write it" in str(damaged.value.why)


def test_a_last_line_out_of_order_is_torn_and_two_lines_in_one_are_damage() -> None:
    whole = journal(RECORD)
    for torn in (b'{"prev": "x"} deadbeef\n', b'{"prev": "x'):
        assert read(whole + torn).raw == whole
    for damage in (b'{"prev": "x"}{"prev": "y"} beef\n', b'{"prev": "x"} beef\n{}\n'):
        with pytest.raises(StoreTampered) as told_as:
            read(whole + damage)
        assert told_as.value.why == "line 2 of journal.jsonl: its checksum is wrong"


def test_a_content_that_is_gone_is_told_from_one_that_was_changed(target: Path) -> None:
    install(target)
    store = Store(target.parent.parent / "store")
    kept = store.changes(str(target))[0].change.after
    blob = Path(store.folder, "blobs", f"{kept}.crt")
    blob.chmod(0o600)
    blob.write_bytes(b"changed")
    with pytest.raises(StoreTampered) as damaged:
        store.content(kept)
    assert damaged.value.why == f"{blob} is not what was kept there"
    blob.unlink()
    with pytest.raises(StoreTampered) as damaged:
        store.content(kept)
    assert damaged.value.why == f"{blob} is missing"


def test_a_store_that_cannot_be_made_is_told_as_such(target: Path) -> None:
    target.parent.parent.joinpath("store").touch()
    error = install(target).error
    assert isinstance(error, StoreUnusable)
    assert "cannot be made in" in error.message
    assert not target.exists()


def test_every_open_record_is_settled_by_what_its_target_holds(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    odd, new, old = (str(tmp_path / name) for name in ("odd", "new", "old"))
    with store.writing() as session:
        for target in (odd, new, old):
            session.record(
                command="install",
                target=target,
                before=None,
                after=b"new",
                added=(),
                removed=(),
                mode=None,
                made_folder=False,
            )
    Path(odd).mkdir()
    Path(new).write_bytes(b"new")
    with store.writing():
        pass
    assert [each.applied for each in store.changes(odd)] == [None]
    assert [each.applied for each in store.changes(new)] == [True]
    assert len(store.changes(old)) == 0
    assert Path(odd).is_dir()


def test_a_line_that_a_full_disk_cut_short_is_cut_off_by_the_next(target: Path) -> None:
    install(target)
    store = Store(target.parent.parent / "store")
    with store.writing() as session:
        options: dict[str, Any] = dict.fromkeys(("mode", "before", "after"))
        options |= {"added": (), "removed": (), "made_folder": False, "target": str(target)}
        with (store_journal := Path(store.folder, "journal.jsonl")).open("ab") as file:
            file.write(b'{"v": 1, "torn')
        session.void(session.record(command="install", **options))
    assert b"torn" not in store_journal.read_bytes()
    assert len(store.changes(str(target))) == 1


def test_a_walk_along_whole_lines_ends_where_they_end() -> None:
    """`read` needs no walk where the last line vouches for all; torn is what has no newline."""
    whole = journal(RECORD, {"kind": "done", "id": 1})
    assert Journal("journal.jsonl")._walk(whole) == len(whole)
    assert Journal("journal.jsonl")._walk(whole + b"{") == len(whole)


def test_where_case_does_not_matter_a_file_has_one_history(monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(journal(RECORD | {"target": "C:\\Root.crt"}))
    assert not found.of("c:/root.crt")
    monkeypatch.setattr("qs_certs.journal._CASE_MATTERS", False)
    monkeypatch.setattr("os.path.normcase", ntpath.normcase)
    assert found.of("c:/root.crt").ids == [1]
    assert not found.of("c:/other.crt")


def test_a_store_that_is_not_there_has_nothing_broken(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert store.broken() == {}
    store.confirm()
    assert not (tmp_path / "store").exists()


@pytest.fixture
def damaged(target: Path) -> Path:
    """A journal of which one byte is another."""
    install(target)
    path = target.parent.parent / "store" / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"install"', b'"Install"'))
    return path


def test_a_whole_journal_is_not_put_aside(target: Path) -> None:
    install(target)
    store = Store(target.parent.parent / "store")
    assert store.quarantine(str(target), target.read_bytes()) is None
    assert store.broken() == {}
    assert len(store.changes(str(target))) == 1


def test_a_file_that_is_not_there_begins_a_journal_without_content(
    target: Path, damaged: Path
) -> None:
    before = damaged.read_bytes()
    kept = os.listdir(damaged.with_name("blobs"))
    store = Store(damaged.parent)
    aside = store.quarantine(str(target), None)
    assert aside is not None
    assert Path(aside).read_bytes() == before
    (line,) = damaged.read_text().splitlines()
    assert json.loads(line.rpartition(" ")[0])["content"] is None
    assert os.listdir(damaged.with_name("blobs")) == kept
    assert store.damage() is None


def test_the_copy_of_a_run_that_died_is_not_made_again(target: Path, damaged: Path) -> None:
    def odd(usual: Callable[..., Any], source: str, to: str) -> None:
        if to == str(damaged):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        usual(source, to)

    with pytest.raises(CouldNotWrite):
        Store(damaged.parent, OddDisk("rename", odd)).quarantine(str(target), None)
    store = Store(damaged.parent)
    aside = str(damaged.with_name("journal.broken-1.jsonl"))
    assert store.broken() == {1: aside}
    assert store.quarantine(str(target), None) == aside
    assert store.broken() == {1: aside}
    damaged.write_bytes(b"damaged in another way\n{}\n")
    assert store.quarantine(str(target), None) == str(damaged.with_name("journal.broken-2.jsonl"))


def test_where_a_folder_cannot_be_listed_the_first_name_is_offered(
    target: Path, damaged: Path
) -> None:
    damaged.with_name("journal.broken-1.jsonl").write_bytes(b"")
    damaged.unlink()
    damaged.symlink_to("nowhere")
    for disk, number in ((Disk(), 2), (OddDisk("listdir", fails(errno.EACCES)), 1)):
        with pytest.raises(StoreTampered) as refused:
            Store(damaged.parent, disk).changes(str(target))
        aside = damaged.with_name(f"journal.broken-{number}.jsonl")
        assert f"rename what is there to {aside}" in refused.value.fix[-1]


def test_a_journal_in_another_s_place_that_cannot_be_made_durable_is_told(
    target: Path, damaged: Path
) -> None:
    failing = OddDisk("fsync", fails(errno.EIO))
    Store(damaged.parent).quarantine(str(target), None)
    with pytest.raises(StoreUnusable, match="cannot be written") as refused:
        Store(damaged.parent, failing).confirm()
    assert refused.value.why == os.strerror(errno.EIO)
    Store(damaged.parent).confirm()


# --- changes --------------------------------------------------------------------------------------


def test_a_temporary_file_that_cannot_be_read_stops_the_plan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(data: bytes) -> openssl.Loaded:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(openssl, "load_bytes", failing)
    with pytest.raises(CouldNotWrite, match="could not be tested"):
        plan_install(None, {G2.sha256: DER}, "root.crt", repair=False)


def test_openssl_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = openssl.load_bytes
    monkeypatch.setattr(openssl, "load_bytes", lambda data: replace(usual(data), certificates=0))
    with pytest.raises(TargetDamaged, match="would not load") as refused:
        plan_install(None, {G2.sha256: DER}, "root.crt", repair=False)
    assert refused.value.why == "OpenSSL sees 0 of its 1 certificates"


def test_openssls_own_words_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = openssl.load_bytes
    monkeypatch.setattr(openssl, "load_bytes", lambda data: replace(usual(data), error="bad"))
    with pytest.raises(TargetDamaged) as refused:
        plan_install(None, {G2.sha256: DER}, "root.crt", repair=False)
    assert refused.value.why == "bad"


BROKEN = b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BROKEN, "root.crt is damaged at line 1, block 1; nothing was changed"),
        (BROKEN * 2, "root.crt is damaged at line 1, block 1 (and 1 more); nothing was changed"),
        (RIGHT + b"\0" + OTHER, "root.crt is damaged at line {}; nothing was changed"),
    ],
    ids=["one", "two", "a NUL"],
)
def test_damage_is_named_by_line_block_and_number(content: bytes, message: str) -> None:
    with pytest.raises(TargetDamaged) as refused:
        plan_install(content, {G2.sha256: DER}, "root.crt", repair=False)
    assert refused.value.message == message.format(RIGHT.count(b"\n") + 1)


def test_a_file_that_does_not_load_holds_nothing() -> None:
    assert not changes.holds(b"x", [])
    assert not changes.holds(None, [])
    assert changes.holds(RIGHT, [])


def test_replace_leaves_alone_only_what_is_exactly_right() -> None:
    wanted, pem_ = {G2.sha256: DER}, bundle.canonical(DER)
    assert not changes.plan_replace(pem_, wanted).changes
    assert not changes.plan_replace(b"# mine\n" + pem_, wanted).changes
    for content in (pem_ + BROKEN, pem_ + OTHER, OTHER, None):
        assert changes.plan_replace(content, wanted).after == pem_


def test_remove_leaves_alone_what_holds_no_root() -> None:
    assert changes.plan_remove(b"\n", {G2.sha256}, None).after == b"\n"
    assert changes.plan_remove(bundle.canonical(DER), {G2.sha256}, None).after is None


def test_a_difference_is_that_of_the_whole_files() -> None:
    old = b"".join(b"%d\n" % number for number in range(40))
    for new in (old + b"x\n", b"x\n" + old, old.replace(b"20\n", b"x\n"), old.replace(b"\n3", b"")):
        whole = difflib.unified_diff(
            old.decode().splitlines(keepends=True),
            new.decode().splitlines(keepends=True),
            "root.crt",
            "root.crt",
        )
        assert changes.diff(old, new, "root.crt") == "".join(whole)


def past(number: int, before: bytes | None, after: bytes | None, **options: Any) -> Entry:
    made = Change(
        id=number,
        at=datetime(2026, 1, 1, tzinfo=timezone.utc),
        command="install",
        target="root.crt",
        before=None if before is None else digest(before),
        after=None if after is None else digest(after),
        added=(),
        removed=(),
    )
    return Entry(made, True, options.get("mode"), options.get("made_folder", False))


def back(now: bytes | None, history: list[Entry], **options: Any) -> changes.Plan:
    kept = {digest(content): content for content in (b"a", b"b", b"c", b"d")}
    return changes.plan_rollback(
        now,
        history,
        lambda sha256: None if sha256 is None else kept[sha256],
        "root.crt",
        identity=options.get("identity"),
        force=options.get("force", False),
    )


def test_a_forced_rollback_undoes_the_newest_of_many_changes() -> None:
    history = [past(1, None, b"a", made_folder=True), past(2, b"a", b"b"), past(3, b"b", b"c")]
    plan = back(b"somebody else's", history, force=True)
    assert (plan.after, plan.remove_folder) == (b"b", False)
    assert back(b"c", history).after == b"b"
    plan = back(b"c", history, identity=1)
    assert (plan.after, plan.remove_folder) == (None, True)
    with pytest.raises(TargetChanged) as refused:
        back(b"x", history)
    assert "-c" in getattr(refused.value, "diff", "")


def test_a_change_whose_old_content_stands_again_is_still_known() -> None:
    history = [past(1, b"a", b"b"), past(2, b"b", b"a")]
    assert not back(b"a", history, identity=1).changes
    assert back(b"a", history).after == b"b"


def test_a_dry_run_writes_nothing(target: Path) -> None:
    assert install(target, dry_run=True).status == "would-change"
    assert not target.parent.parent.joinpath("store").exists()
    assert install(target).status == "changed"


def test_a_preview_is_what_install_then_writes(target: Path) -> None:
    named = Target(str(target))
    for options in ({"replace_all": False}, {"replace_all": True}):
        target.unlink(missing_ok=True)
        shown = changes.preview(named, [WANTED], repair=False, **options)
        install(target, **options)
        assert target.read_bytes() == shown
    assert changes.preview(named, [WANTED], replace_all=False, repair=False) == shown


def test_a_download_that_failed_is_told_once(target: Path) -> None:
    wanted = Wanted(G2.sha256, lambda: (DER, "embedded", "used the embedded copy"))
    (finding,) = changes.install((Target(str(target)),), (wanted,)).findings
    assert (finding.code, finding.message) == ("could-not-download", "used the embedded copy")


def test_a_file_that_somebody_keeps_changing_is_left_to_them(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target.parent.mkdir()
    tries: list[int] = []

    def interfering(path: str, expected: bytes | None, disk: Disk) -> None:
        tries.append(1)
        raise TargetChanged("changed")

    monkeypatch.setattr(files, "_compare", interfering)
    assert isinstance(install(target).error, TargetChanged)
    assert len(tries) == changes.ATTEMPTS


def test_what_somebody_else_did_meanwhile_need_not_be_done_again(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target.parent.mkdir()
    usual = files.locked

    def locked(*args: Any, **options: Any) -> Any:
        target.write_bytes(bundle.canonical(DER))
        return usual(*args, **options)

    monkeypatch.setattr(files, "locked", locked)
    assert install(target).status == "unchanged"


@pytest.mark.parametrize("error", [OSError(errno.EIO, "no"), None], ids=["unreadable", "refused"])
def test_a_file_that_openssl_cannot_load_is_not_already_there(
    target: Path, monkeypatch: pytest.MonkeyPatch, error: OSError | None
) -> None:
    install(target)
    usual = openssl.load

    def load(path: str) -> openssl.Loaded:
        if error is not None:
            raise error
        return replace(usual(path), error="refused")

    monkeypatch.setattr(openssl, "load", load)
    result = install(target)
    if error is None:
        assert isinstance(result.error, TargetDamaged)
        assert (result.status, result.present) == ("failed", ())
    else:
        assert isinstance(result.error, CouldNotRead)


def test_a_rollback_to_absence_leaves_a_folder_that_was_there(target: Path) -> None:
    target.parent.mkdir()
    install(target)
    changes.rollback((Target(str(target)),))
    assert not target.exists()
    assert target.parent.is_dir()


def test_a_new_file_that_does_not_load_is_never_put_in_place(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = openssl.load

    def load(path: str) -> openssl.Loaded:
        return replace(usual(path), error="bad" if ".qs-" in str(path) else None)

    monkeypatch.setattr(openssl, "load", load)
    error = install(target).error
    assert isinstance(error, CouldNotWrite)
    assert "does not load" in error.message
    assert not target.exists()


def test_remove_takes_back_the_newline_of_the_install(target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"# mine")
    install(target)
    changes.remove((Target(str(target)),), (G2.sha256,))
    assert target.read_bytes() == b"# mine"


def test_repair_has_work_where_a_file_loads_and_holds_something_to_mend(target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(bundle.BOM + bundle.canonical(DER))
    assert install(target).status == "unchanged"
    assert install(target, repair=True).status == "changed"
    assert target.read_bytes() == bundle.canonical(DER)
    assert install(target, repair=True).status == "unchanged"


def test_the_fix_for_the_default_file_names_no_file(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(target.parent.parent))
    default = target.parent.parent / ".postgresql" / "root.crt"
    default.parent.mkdir()
    damaged = b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"
    for path, fix in ((default, "qs-certs install --repair"), (target, f"--target {target}")):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(damaged)
        error = install(path).error
        assert error is not None
        assert error.fix[0].endswith(fix)


@pytest.mark.parametrize(
    "history",
    [
        pytest.param(
            [past(1, b"a", b"b"), past(2, b"b", b"c"), past(3, b"b", b"c")], id="damaged too"
        ),
        pytest.param(
            [past(1, b"a", b"c"), past(2, b"c", b"b"), past(3, b"b", b"c")], id="stands there now"
        ),
    ],
)
def test_what_is_no_other_content_is_not_named_as_a_way_out(history: list[Entry]) -> None:
    asked: list[str | None] = []

    def content(sha256: str | None) -> bytes | None:
        asked.append(sha256)
        if sha256 == digest(b"b"):
            raise StoreTampered("damaged")
        return b"whole"

    with pytest.raises(StoreTampered) as refused:
        changes.plan_rollback(b"c", history, content, "root.crt", identity=None, force=False)
    whole = "the content before 2026-01-01 00:00 UTC is whole"
    assert refused.value.fix == (f"qs-certs rollback 1   # {whole}", "qs-certs history")
    assert asked == [digest(b"b"), digest(b"a")]


class Here:
    """In place of a child process: the work is done in this one."""

    def __init__(self, account: Account, work: Callable[[], object], siblings: object = ()) -> None:
        self.account = account
        self.ended = True
        self._work = Task(None, work)

    def wait(self) -> None:
        """It has ended."""

    def outcome(self) -> object:
        return self._work.run()


@pytest.fixture
def no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rights, "_Child", Here)
    monkeypatch.setattr(rights, "_ended", list)


@pytest.mark.usefixtures("no_child")
@pytest.mark.parametrize(
    ("chosen", "said"),
    [(True, "install --repair --user ann"), (False, "install --repair --target ")],
)
def test_a_way_out_is_for_the_user_whose_file_it_is(target: Path, chosen: bool, said: str) -> None:
    target.parent.mkdir()
    target.write_bytes(BROKEN)
    ann = Account("ann", 1, 1, str(target.parent), chosen=chosen)
    (result,) = changes.install((Target(str(target), ann),), (WANTED,)).targets
    assert result.user == "ann"
    assert result.error is not None
    assert result.error.fix[0].startswith(f"qs-certs {said}")


@pytest.mark.usefixtures("no_child")
@pytest.mark.parametrize(
    ("error", "next_step"),
    [
        (CouldNotTell("the child died"), "qs-certs history --user ann   # says whether"),
        (CouldNotWrite("full", fix=("qs-certs install",)), "qs-certs install --user ann"),
    ],
    ids=["who can tell", "the control"],
)
def test_a_change_that_nobody_can_tell_of_is_not_to_be_made_again(
    target: Path, monkeypatch: pytest.MonkeyPatch, error: QsCertsError, next_step: str
) -> None:
    def refuse(child: object) -> NoReturn:
        raise error

    monkeypatch.setattr(Here, "outcome", refuse)
    ann = Account("ann", 1, 1, str(target.parent), chosen=True)
    (result,) = changes.remove((Target(str(target), ann),), ["ab" * 32]).targets
    assert result.error is not None
    assert result.error.fix[0].startswith(next_step)


@pytest.mark.usefixtures("no_child")
def test_an_interrupt_between_two_users_leaves_the_second_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QS_CERTS_STORE", str(tmp_path / "store"))
    paths = [tmp_path / name / "root.crt" for name in ("ann", "bob")]
    named = [
        Target(str(path), Account(path.parent.name, 1, 1, str(path.parent), chosen=True))
        for path in paths
    ]
    told: list[tuple[int, int]] = []

    def progress(done: int, of: int) -> None:
        told.append((done, of))
        if len(told) == 3:  # two were looked at, and the first of them was changed
            signal.raise_signal(signal.SIGINT)

    try:
        first, second = changes.install(named, (WANTED,), progress=progress).targets
    except KeyboardInterrupt:
        pytest.fail("what was done is not told")
    assert told == [(1, 2), (2, 2), (1, 2), (2, 2)]
    assert (first.user, first.status, paths[0].exists()) == ("ann", "changed", True)
    assert (second.user, second.status, paths[1].exists()) == ("bob", "failed", False)
    assert isinstance(second.error, Interrupted)
    assert second.path == str(paths[1])
    said = "interrupted before the turn of this user came; nothing was changed"
    assert second.error.message == said


@pytest.mark.usefixtures("no_child")
def test_an_interrupt_while_nothing_has_been_changed_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QS_CERTS_STORE", str(tmp_path / "store"))
    path = tmp_path / "ann" / "root.crt"
    ann = Target(str(path), Account("ann", 1, 1, str(path.parent), chosen=True))
    told: list[int] = []

    def progress(done: int, _: int) -> None:
        told.append(done)
        if len(told) == 1:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        changes.install((ann,), (WANTED,), progress=progress)
    assert not path.exists()
    # The control: it is the only thing that stood in the way.
    assert changes.install((ann,), (WANTED,), progress=progress).targets[0].status == "changed"


def test_a_file_that_is_known_to_load_is_not_loaded_again(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(target)
    asked: list[str] = []
    usual = openssl.load

    def load(path: str) -> openssl.Loaded:
        asked.append(path)
        return usual(path)

    monkeypatch.setattr(openssl, "load", load)
    monkeypatch.setattr(rootfile, "_understood", {})
    assert install(target).status == "unchanged"
    assert asked == [str(target)]
    rootfile.understand_default()
    asked.clear()
    assert install(target).status == "unchanged"
    assert asked == []


# --- libpq ----------------------------------------------------------------------------------------


ABSENT = outcomes.TrustAnchors("absent", "/root.crt")


def told(shown: outcomes.Shown, **options: Any) -> dict[str, ModeOutcome]:
    return {each.mode: each for each in outcomes.outcomes(ABSENT, shown, **options)}


def test_something_that_sends_no_byte_and_is_not_postgresql_has_outcomes() -> None:
    by_mode = told(outcomes.Shown("not-postgresql", None, "SSL error: wrong version number"))
    assert {each.outcome for each in by_mode.values()} == {"fails"}
    assert by_mode["disable"].libpq_message is None
    assert by_mode["prefer"].libpq_message == "SSL error: wrong version number"


def test_something_that_is_not_postgresql_is_told_by_its_first_byte() -> None:
    by_mode = told(outcomes.Shown("not-postgresql", ord("H")))
    plain = "expected authentication request from server, but received H"
    asked = "received invalid response to SSL negotiation: H"
    assert [each.libpq_message for each in by_mode.values()] == [plain] * 2 + [asked] * 4
    assert {each.outcome for each in by_mode.values()} == {"fails"}


def test_without_trust_anchors_no_chain_is_refused() -> None:
    by_mode = told(outcomes.Shown("tls", verify_error="unable to get local issuer certificate"))
    assert by_mode["require"].outcome == "encrypted"
    assert by_mode["verify-ca"].outcome == "fails"


def test_a_refusal_is_no_error_where_plaintext_is_allowed() -> None:
    refused = told(outcomes.Shown("refused"))
    failed = told(outcomes.Shown("tls", tls_error="SSL error: no"))
    for mode in ("allow", "prefer"):
        assert (refused[mode].outcome, refused[mode].libpq_message) == ("plaintext", None)
        assert (failed[mode].outcome, failed[mode].libpq_message) == ("plaintext", "SSL error: no")


@pytest.mark.parametrize(
    ("major", "message"),
    [
        (17, "SSL SYSCALL error: EOF detected"),
        (18, "SSL error: unexpected eof while reading"),
    ],
)
def test_the_words_for_a_closed_connection_are_those_of_the_version(
    major: int, message: str
) -> None:
    by_mode = told(outcomes.Shown("closed"), sslnegotiation="direct", libpq_major=major)
    assert by_mode["require"].libpq_message == message
    assert told(outcomes.Shown("closed")) == {}


@pytest.mark.parametrize(
    ("host", "name", "stands"),
    [
        pytest.param("b.a", b"*.a", True, id="the shortest wildcard"),
        pytest.param("b.", b"*.", False, id="no wildcard"),
        pytest.param("zb.example.com", b"ab.example.com", False, id="no star"),
        pytest.param("h\udcff", b"h\xff", True, id="no UTF-8"),
    ],
)
def test_a_name_stands_for_a_host(host: str, name: bytes, stands: bool) -> None:
    names = hostname.CertificateNames((hostname.AlternativeName("dns", name),))
    assert hostname.matches(host, names) is stands


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("255.1", "255.0.0.1"),
        ("0X7f.1", "127.0.0.1"),
        ("256.1", None),
        ("::1", None),
    ],
)
def test_an_ipv4_address_is_what_inet_aton_takes(text: str, address: str | None) -> None:
    assert hostname.ipv4_address(text) == (socket.inet_aton(address) if address else None)
    assert address is None or socket.inet_aton(text) == socket.inet_aton(address)


@pytest.mark.parametrize("text", ["::1", "fe80::1%lo", "[::1]"])
def test_an_ipv6_address_is_what_inet_pton_takes(text: str) -> None:
    try:
        expected = socket.inet_pton(socket.AF_INET6, text)
    except OSError:
        expected = None
    assert hostname.ipv6_address(text) == expected
    assert hostname.is_ip_address(text) == (expected is not None)


@pytest.mark.parametrize(
    "address",
    ["::", "::1", "::1.2.3.4", "::ffff:1.2.3.4", "::abcd:102:304", "1::ffff:1:2", "2001:db8::1"],
)
def test_an_ipv6_address_is_written_as_the_system_writes_it(address: str) -> None:
    value = socket.inet_pton(socket.AF_INET6, address)
    names = hostname.CertificateNames((hostname.AlternativeName("ip", value),))
    message = hostname.mismatch("h", names)
    assert message is not None
    assert f'"{socket.inet_ntop(socket.AF_INET6, value)}"' in message


def test_a_name_that_is_no_text_is_shown_all_the_same() -> None:
    names = hostname.CertificateNames((hostname.AlternativeName("dns", b"\xff"),))
    assert "\ufffd" in str(hostname.mismatch("h", names))


def element(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    assert len(content) < 128
    return bytes((tag, len(content))) + content


def test_a_certificate_may_have_no_names_at_all() -> None:
    message = hostname.mismatch("h", hostname.CertificateNames())
    assert message == "could not get server's host name from server certificate"


SAN = bytes.fromhex("551d11")
DNS = element(0x30, element(0x82, b"a.test"))


@pytest.mark.parametrize(
    ("extensions", "names"),
    [
        pytest.param((), (), id="no extensions"),
        pytest.param((element(0x30, element(6, SAN), element(4, DNS)),), (b"a.test",), id="one"),
        pytest.param(
            (
                element(0x30, element(6, b"\x55\x1d\x0f"), element(4, b"\x03\x01\x00")),
                element(0x30, element(6, SAN), element(4, DNS)),
            ),
            (b"a.test",),
            id="after another",
        ),
        pytest.param((element(0x30, element(6, SAN), element(5, DNS)),), (), id="no octets"),
        pytest.param(
            (element(0x30, element(6, SAN), element(1, b"\xff"), element(4, DNS)),),
            (b"a.test",),
            id="critical",
        ),
    ],
)
def test_names_are_found_where_they_stand(
    extensions: tuple[bytes, ...], names: tuple[bytes, ...]
) -> None:
    empty = element(0x30)
    subject = element(
        0x30, element(0x31, element(0x30, element(6, b"\x55\x04\x03"), element(12, b"cn")))
    )
    fields = [element(2, b"\1"), empty, empty, empty, subject, empty, element(0x81, b"\0")]
    if extensions:
        fields.append(element(0xA3, element(0x30, *extensions)))
    certificate = element(0x30, element(0x30, *fields))
    found = hostname.names_in(certificate)
    assert found.common_name == b"cn"
    assert found.alternative == tuple(hostname.AlternativeName("dns", name) for name in names)
    assert hostname.names_in(certificate[:-1]) == hostname.CertificateNames()


def test_an_attribute_that_is_no_common_name_is_passed_over() -> None:
    names = hostname.names_in(DER)
    assert names.common_name == b"DigiCert Global Root G2"
    nameless = hostname.names_in(DER.replace(b"\x06\x03U\x04\x03", b"\x06\x03U\x04\x0b"))
    assert nameless.common_name is None


def test_a_result_says_what_was_done_and_where_it_came_from(target: Path) -> None:
    shown = changes.install((Target(str(target)),), (WANTED,), dry_run=True).targets[0]
    done = changes.install((Target(str(target)),), (WANTED,)).targets[0]
    again = changes.rollback((Target(str(target)),)).targets[0]
    assert (shown.status, done.status, again.status) == ("would-change", "changed", "changed")
    assert shown.diff == done.diff
    assert done.diff.startswith(f"--- /dev/null\n+++ {target}\n@@ -0,0 +1,22 @@\n")
    assert again.diff.startswith(f"--- {target}\n+++ /dev/null\n@@ -1,22 +0,0 @@\n")
    assert changes.remove((Target(str(target)),), (G2.sha256,)).targets[0].status == "unchanged"


def test_a_rollback_that_is_refused_shows_the_difference(target: Path) -> None:
    install(target)
    target.write_bytes(target.read_bytes() + b"# \xff\n")
    refused = changes.rollback((Target(str(target)),)).targets[0]
    assert (refused.status, refused.source) == ("failed", None)
    assert refused.diff.endswith("+# \\xff\n")
    assert refused.error is not None
    assert [each.replace(f" --target {target}", "") for each in refused.error.fix] == [
        "qs-certs remove   # takes out only the roots that qs-certs added",
        "qs-certs rollback --force   # keeps the present content in the store first",
    ]
    assert all(f" --target {target}   #" in each for each in refused.error.fix)
    other = install(Path(f"{target}.d", "x" * 300))
    assert other.diff == ""
