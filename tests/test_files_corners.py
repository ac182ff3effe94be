"""What the room that writes does in each corner.

Made from the mutants that survived: each test here kills some.
"""

from __future__ import annotations

import errno
import functools
import itertools
import os
import re
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qs_certs import files
from qs_certs.errors import (
    ChangedUnconfirmed,
    CouldNotRead,
    CouldNotWrite,
    LockTimeout,
    TargetChanged,
    TargetRefused,
)
from qs_certs.files import DISK, Disk

if sys.platform == "win32":
    pytest.skip("only on POSIX", allow_module_level=True)


def no_check(path: str) -> None:
    pass


class Watched(Disk):
    """The real disk, with a note of each call that a power cut or another program would notice.

    A descriptor is noted by the name of its file: `new` for our temporary one.
    """

    def __init__(self, *, exchanges: bool = True) -> None:
        self.notes: list[str] = []
        self.exchanges = exchanges
        self._names: dict[int, str] = {}

    def _name(self, path: str) -> str:
        return "new" if ".qs-" in path else os.path.basename(path)

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        fd = super().open(path, flags, mode)
        self._names[fd] = self._name(path)
        if flags & os.O_CREAT:
            self.notes.append(f"make {self._names[fd]}")
        return fd

    def close(self, fd: int) -> None:
        super().close(fd)
        del self._names[fd]

    @property
    def left_open(self) -> list[str]:
        return list(self._names.values())

    def write(self, fd: int, data: bytes) -> int:
        self.notes.append(f"write {self._names[fd]}")
        return super().write(fd, data)

    def fsync(self, fd: int) -> None:
        self.notes.append(f"sync {self._names[fd]}")
        super().fsync(fd)

    def chmod(self, fd: int, mode: int) -> None:
        self.notes.append(f"mode {self._names[fd]}")
        super().chmod(fd, mode)

    def rename(self, source: str, target: str) -> None:
        self.notes.append(f"rename {self._name(source)} {self._name(target)}")
        super().rename(source, target)

    def rename_new(self, source: str, target: str) -> None:
        self._refuse()
        self.notes.append(f"name {self._name(source)} {self._name(target)}")
        super().rename_new(source, target)

    def exchange(self, one: str, other: str) -> None:
        self._refuse()
        self.notes.append(f"exchange {self._name(one)} {self._name(other)}")
        super().exchange(one, other)

    def unlink(self, path: str) -> None:
        self.notes.append(f"unlink {self._name(path)}")
        super().unlink(path)

    def mkdir(self, path: str, mode: int) -> None:
        self.notes.append(f"make {self._name(path)}")
        super().mkdir(path, mode)

    def _refuse(self) -> None:
        if not self.exchanges:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


class Odd(Disk):
    """The real disk, but for some calls: each *odd* is given the call's own function."""

    def __init__(self, *names: str, odd: Callable[..., Any]) -> None:
        for name in names:
            setattr(self, name, functools.partial(odd, getattr(self, name)))


def fails(code: int, *, of: str = "") -> Callable[..., Any]:
    """The call fails with *code*; only where its first argument ends with *of*."""

    def odd(usual: Callable[..., Any], *args: Any) -> Any:
        if str(args[0]).endswith(of):
            raise OSError(code, os.strerror(code))
        return usual(*args)

    return odd


# --- the disk itself ------------------------------------------------------------------------------


def test_a_file_is_its_makers_alone_until_it_gets_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "new"
    before = os.umask(0)
    try:
        DISK.close(DISK.open(str(path), os.O_WRONLY | os.O_CREAT))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_sync_reaches_the_system(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
            DISK.fsync(writing)  # a pipe cannot be synced
    finally:
        os.close(reading)
        os.close(writing)
    fd = DISK.open(str(tmp_path), os.O_RDONLY)
    DISK.fsync(fd)
    DISK.close(fd)


def test_an_empty_folder_is_removed_and_another_one_stays(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for name in ("empty", "full", "missing"):
        files.remove_folder_if_empty(str(tmp_path / name))
    assert [each.name for each in tmp_path.iterdir()] == ["full"]


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux: renameat2")
def test_an_error_of_an_exchange_names_both_files(tmp_path: Path) -> None:
    one, other = str(tmp_path / "one"), str(tmp_path / "other")
    for call in (DISK.exchange, DISK.rename_new):
        with pytest.raises(FileNotFoundError) as missing:
            call(one, other)
        assert (missing.value.filename, missing.value.filename2) == (one, other)


def test_the_access_list_is_copied_before_the_new_file_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "root.crt"
    path.write_bytes(b"old")
    copied: list[tuple[str, str]] = []
    monkeypatch.setattr("qs_certs.windows.copy_rights", lambda *both: copied.append(both))

    def verify(temporary: str) -> None:
        assert copied == [(str(path), temporary)]

    files.replace(str(path), b"new", expected=b"old", verify=verify)
    files.replace(str(tmp_path / "b"), b"new", expected=None, verify=no_check)
    assert len(copied) == 1, "a new file has what its folder hands down"


# --- looking --------------------------------------------------------------------------------------


def test_an_error_without_words_is_told_by_its_name() -> None:
    assert files.reason(PermissionError()) == "PermissionError"
    assert files.reason(OSError(errno.EIO, "no luck")) == "no luck"


def test_five_links_are_followed_and_a_sixth_is_not(tmp_path: Path) -> None:
    (tmp_path / "0").write_bytes(b"x")
    for number in range(6):
        (tmp_path / str(number + 1)).symlink_to(str(number))
    assert files.resolve(str(tmp_path / "5")) == str(tmp_path / "0")
    with pytest.raises(TargetRefused, match="more than 5"):
        files.resolve(str(tmp_path / "6"))


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "root.crt"
    with pytest.raises(TargetRefused) as refused:
        files.resolve(str(path))
    assert refused.value.message == f"{path} cannot be made: {tmp_path / 'file'} is not a folder"
    assert refused.value.fix[0] == f"move {tmp_path / 'file'} out of the way"


def test_a_link_leads_from_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "link").symlink_to("../b/real")
    (tmp_path / "b").mkdir()
    found = files.resolve(str(tmp_path / "a" / "link"))
    assert os.path.normpath(found) == str(tmp_path / "b" / "real")
    monkeypatch.chdir(tmp_path)
    Path("bare").symlink_to("no/where")
    with pytest.raises(TargetRefused, match="link to"):
        files.resolve("bare")
    assert files.resolve("missing") == "missing"
    (tmp_path / "early").symlink_to(tmp_path / "b" / "not yet")
    assert files.resolve(str(tmp_path / "early")) == str(tmp_path / "b" / "not yet")


def test_a_link_of_ones_own_is_followed_whoever_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to("missing")

    def of(owner: int) -> Disk:
        def odd(usual: Callable[..., Any], path: str) -> os.stat_result:
            values = list(usual(path))
            values[4] = owner
            return os.stat_result(values)

        return Odd("lstat", odd=odd)

    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    link = str(tmp_path / "link")
    assert files.resolve(link, of(4711)) == files.resolve(link, of(0)) == str(tmp_path / "missing")
    with pytest.raises(TargetRefused, match="another user made"):
        files.resolve(link, of(4712))


def test_what_cannot_be_looked_at_is_told(tmp_path: Path) -> None:
    with pytest.raises(CouldNotRead, match="cannot look at") as told:
        files.resolve(str(tmp_path / "x"), Odd("lstat", odd=fails(errno.EACCES)))
    assert told.value.why == os.strerror(errno.EACCES)
    assert files.mode_of(str(tmp_path / "x"), Odd("lstat", odd=fails(errno.EACCES))) is None


def test_the_mode_is_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.touch()
    path.chmod(0o640)
    assert files.mode_of(str(path)) == 0o640
    assert files.mode_of(str(tmp_path / "missing")) is None


@pytest.mark.parametrize("code", [errno.ENXIO, errno.ENODEV], ids=errno.errorcode.get)
def test_a_device_without_a_driver_is_no_file(tmp_path: Path, code: int) -> None:
    with pytest.raises(TargetRefused, match="a socket or a device"):
        files.read(str(tmp_path / "x"), Odd("open", odd=fails(code)))
    with pytest.raises(CouldNotRead):
        files.read(str(tmp_path / "x"), Odd("open", odd=fails(errno.EACCES)))


@pytest.mark.parametrize("call", ["fstat", "read"])
def test_a_file_that_fails_while_it_is_read_is_closed_and_told(tmp_path: Path, call: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x")
    descriptors = sorted(os.listdir("/dev/fd"))
    with pytest.raises(CouldNotRead, match="cannot read") as told:
        files.read(str(path), Odd(call, odd=fails(errno.EIO)))
    assert told.value.why == os.strerror(errno.EIO)
    assert sorted(os.listdir("/dev/fd")) == descriptors


def test_the_size_from_which_on_a_file_is_refused_is_the_one_that_is_promised() -> None:
    page = Path(files.__file__).parent.parent / "docs" / "threats.md"
    (promised,) = re.findall(r"kept whole up to (\d+) MiB", page.read_text("utf-8"))
    assert int(promised) << 20 == files.MAXIMUM_SIZE


def test_a_file_is_read_in_pieces_and_a_growing_one_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"1234567")
    asked: list[int] = []

    def odd(usual: Callable[..., Any], fd: int, size: int) -> bytes:
        asked.append(size)
        return bytes(usual(fd, 3))

    assert files.read(str(path), Odd("read", odd=odd)) == b"1234567"
    assert len(asked) == 4
    assert min(asked) > 1 << 16, "a file of usual size is one piece"


# --- folders --------------------------------------------------------------------------------------


def test_each_new_folder_is_durable_in_the_one_that_holds_it(tmp_path: Path) -> None:
    disk = Watched()
    before = os.umask(0)
    try:
        assert files.make_folder(str(tmp_path / "a" / "b"), disk)
    finally:
        os.umask(before)
    assert disk.notes == ["make a", f"sync {tmp_path.name}", "make b", "sync a"]
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    assert not files.make_folder(str(tmp_path / "a" / "b"), disk)
    assert disk.left_open == []
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        files.sync_folder(str(tmp_path / "file"), disk)


def test_a_folder_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    with pytest.raises(CouldNotWrite, match="cannot make the folder") as told:
        files.make_folder(path, Odd("mkdir", odd=fails(errno.ENOSPC)))
    assert (told.value.why, told.value.fix) == (
        os.strerror(errno.ENOSPC),
        ("free some space, then run the same command again",),
    )
    (tmp_path / "file").touch()
    with pytest.raises(CouldNotWrite) as told:
        files.make_folder(str(tmp_path / "file"))
    assert told.value.why == "a file of that name is in the way"
    assert told.value.fix == (f"move {tmp_path / 'file'} out of the way",)


def test_folders_are_synced_up_to_the_root(tmp_path: Path) -> None:
    disk = Watched()
    files.sync_folders(str(tmp_path), disk)
    names = [f"sync {name}" for name in reversed(tmp_path.parts[1:])]
    mine = tmp_path.parent.stat().st_uid == Path("/").stat().st_uid == os.geteuid()
    assert disk.notes == ([*names, "sync "] if mine else disk.notes)
    assert disk.notes[0] == f"sync {tmp_path.name}"


# --- writing --------------------------------------------------------------------------------------


def test_what_a_disk_takes_in_parts_arrives_whole(tmp_path: Path) -> None:
    path = tmp_path / "x"
    data = bytes(range(256)) * (5 << 12)  # 5 MiB
    sizes: list[int] = []

    def odd(usual: Callable[..., Any], fd: int, piece: bytes) -> int:
        sizes.append(len(piece))
        return int(usual(fd, piece[: 700 * 1024]))

    files.create(str(path), data, 0o640, Odd("write", odd=odd))
    assert path.read_bytes() == data
    assert max(sizes) == 1 << 20
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_file_is_created_durably_and_then_named(tmp_path: Path) -> None:
    disk = Watched()
    path = tmp_path / "x"
    path.write_bytes(b"an older one")
    files.create(str(path), b"content", 0o600, disk)
    steps = ["make new", "write new", "mode new", "sync new", "rename new x"]
    assert disk.notes == [*steps, f"sync {tmp_path.name}"]
    assert disk.left_open == []
    assert path.read_bytes() == b"content"


@pytest.mark.parametrize("call", ["write", "chmod", "fsync", "rename"])
def test_a_file_that_cannot_be_created_leaves_nothing(tmp_path: Path, call: str) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        files.create(str(tmp_path / "x"), b"content", 0o600, Odd(call, odd=fails(errno.EIO)))
    assert not list(tmp_path.iterdir())


SWAPS = [
    pytest.param(b"old", True, ["exchange new x", "unlink new"], id="an exchange"),
    pytest.param(None, True, ["name new x"], id="a new name"),
    pytest.param(b"old", False, ["rename new x"], id="a plain rename"),
    pytest.param(None, False, ["rename new x"], id="a plain rename to a new name"),
]
only_linux = pytest.mark.skipif(sys.platform != "linux", reason="only on Linux: renameat2")


@only_linux
@pytest.mark.parametrize(("old", "exchanges", "swap"), SWAPS)
def test_a_file_is_replaced_durably_and_in_this_order(
    tmp_path: Path, old: bytes | None, exchanges: bool, swap: list[str]
) -> None:
    disk = Watched(exchanges=exchanges)
    path = tmp_path / "x"
    if old is not None:
        path.write_bytes(old)
    seen: list[bytes] = []

    def verify(temporary: str) -> None:
        disk.notes.append("verify")
        seen.append(Path(temporary).read_bytes())

    files.replace(str(path), b"content", expected=old, verify=verify, disk=disk)
    steps = ["make new", "write new", "mode new", "sync new", "verify"]
    assert disk.notes == [*steps, *swap, f"sync {tmp_path.name}"]
    assert disk.left_open == []
    assert seen == [b"content"]
    assert [each.name for each in tmp_path.iterdir()] == ["x"]


@only_linux
def test_a_file_that_nobody_else_writes_is_replaced_by_a_plain_rename(tmp_path: Path) -> None:
    disk = Watched()
    path = tmp_path / "x"
    path.write_bytes(b"old")
    files.replace(str(path), b"new", expected=b"old", verify=no_check, shared=False, disk=disk)
    assert disk.notes[-2:] == ["rename new x", f"sync {tmp_path.name}"]
    assert path.read_bytes() == b"new"


@only_linux
@pytest.mark.parametrize(
    ("exchanges", "steps"),
    [(True, ["name x new", "unlink new"]), (False, ["unlink x"])],
    ids=["by a new name", "plainly"],
)
def test_a_file_is_removed_durably(tmp_path: Path, exchanges: bool, steps: list[str]) -> None:
    disk = Watched(exchanges=exchanges)
    path = tmp_path / "x"
    path.write_bytes(b"old")
    files.remove(str(path), expected=b"old", disk=disk)
    assert disk.notes == [*steps, f"sync {tmp_path.name}"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("given", [None, 0o600, 0o664])
def test_a_new_file_gets_the_mode_that_was_asked_for(tmp_path: Path, given: int | None) -> None:
    path = tmp_path / "x"
    files.replace(str(path), b"new", expected=None, verify=no_check, mode=given)
    assert stat.S_IMODE(path.stat().st_mode) == (0o644 if given is None else given)
    files.replace(str(path), b"newer", expected=b"new", verify=no_check, mode=0o640)
    assert stat.S_IMODE(path.stat().st_mode) == (0o644 if given is None else given)


def test_attributes_that_cannot_be_read_or_kept_are_let_go(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"0")
    path.chmod(0o640)
    kept: list[str] = []

    def some(usual: Callable[..., Any], fd: int, name: str, value: bytes) -> None:
        if name == "security.no":
            raise PermissionError(errno.EPERM, "no")
        kept.append(name)

    rows = {"security.no": b"1", "user.yes": b"2"}
    disk = Odd("set_attribute", odd=some)
    setattr(disk, "attributes", lambda path: rows)  # noqa: B010 - a method, to mypy
    for number, each in enumerate((disk, Odd("attributes", odd=fails(errno.ENOTSUP)))):
        files.replace(
            str(path), b"%d" % (number + 1), expected=b"%d" % number, verify=no_check, disk=each
        )
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert kept == ["user.yes"]


# --- litter ---------------------------------------------------------------------------------------


def litter(folder: Path, name: str = ".x.qs-01234567") -> Path:
    path = folder / name
    path.write_bytes(b"edit")
    return path


def test_only_what_is_surely_ours_is_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked = litter(tmp_path)
    os.link(linked, tmp_path / "also")
    (tmp_path / ".x.qs-89abcdef").mkdir()
    (tmp_path / ".x.qs-0000000f").symlink_to("also")
    others = litter(tmp_path, ".y.qs-01234567")
    gone = litter(tmp_path, ".x.qs-76543210")
    files.remove_litter(str(tmp_path), "x")
    assert not gone.exists()
    assert linked.exists()
    assert others.exists()
    assert len(list(tmp_path.iterdir())) == 5
    linked.unlink()
    left = litter(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    files.remove_litter(str(tmp_path))
    assert left.exists()
    monkeypatch.undo()
    files.remove_litter(str(tmp_path))
    assert not left.exists()
    assert not others.exists()
    files.remove_litter(str(tmp_path / "missing"))


def test_litter_that_holds_an_edit_gets_a_visible_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []

    def worthless(content: bytes) -> bool:
        asked.append(content)
        return False

    disk = Watched()
    litter(tmp_path)
    files.remove_litter(str(tmp_path), worthless=worthless, disk=disk)
    (saved,) = tmp_path.iterdir()
    assert saved.name.startswith("x.saved-")
    assert saved.read_bytes() == b"edit"
    assert asked == [b"edit"]
    assert disk.notes == [f"rename new {saved.name}", f"sync {tmp_path.name}"]
    saved.unlink()

    # In the folder where we are, which has no name.
    monkeypatch.chdir(tmp_path)
    litter(tmp_path)
    files.remove_litter("", worthless=lambda _: True)
    assert not list(tmp_path.iterdir())
    litter(tmp_path)
    files.remove_litter("", worthless=worthless)
    assert [each.name[:8] for each in tmp_path.iterdir()] == ["x.saved-"]


def test_litter_that_cannot_be_read_stays_and_the_rest_goes(tmp_path: Path) -> None:
    first, second = litter(tmp_path), litter(tmp_path, ".x.qs-76543210")
    for unread in (first, second):
        disk = Odd("open", odd=fails(errno.EACCES, of=unread.name))
        files.remove_litter(str(tmp_path), worthless=lambda _: True, disk=disk)
        assert list(tmp_path.iterdir()) == [unread]
        first.write_bytes(b"edit")
        second.write_bytes(b"edit")


def test_litter_that_is_gone_in_the_meantime_is_no_edit(tmp_path: Path) -> None:
    asked: list[bytes] = []

    def worthless(content: bytes) -> bool:
        asked.append(content)
        return True

    def odd(usual: Callable[..., Any], path: str, *rest: int) -> Any:
        os.unlink(path)
        return usual(path, *rest)

    litter(tmp_path)
    files.remove_litter(str(tmp_path), worthless=worthless, disk=Odd("open", odd=odd))
    assert asked == [b""]


# --- another program ------------------------------------------------------------------------------


def edited(disk: Disk, path: Path, call: str, *contents: bytes | None) -> Disk:
    """*disk*, on which another program makes *path* hold one of these before each *call*."""
    left = list(contents)
    usual = getattr(disk, call)

    def odd(*args: Any) -> Any:
        if left:
            content = left.pop(0)
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content)
        return usual(*args)

    setattr(disk, call, odd)
    return disk


@only_linux
@pytest.mark.parametrize(
    ("old", "edit", "call"),
    [
        pytest.param(b"old", b"edit", "exchange", id="an edit"),
        pytest.param(b"old", None, "exchange", id="a removal"),
        pytest.param(None, b"edit", "rename_new", id="a new file"),
    ],
)
def test_what_comes_in_at_the_last_moment_stands(
    tmp_path: Path, old: bytes | None, edit: bytes | None, call: str
) -> None:
    path = tmp_path / "x"
    if old is not None:
        path.write_bytes(old)
    disk = Watched()
    with pytest.raises(TargetChanged) as refused:
        files.replace(
            str(path),
            b"new",
            expected=old,
            verify=no_check,
            disk=edited(disk, path, call, edit),
        )
    assert [each.read_bytes() for each in tmp_path.iterdir()] == ([] if edit is None else [edit])
    back = old is not None and edit is not None
    assert refused.value.displaced == (edit if back else None)
    if back:
        again = "exchange new x"
        assert disk.notes[-4:] == [again, again, "unlink new", f"sync {tmp_path.name}"]


@only_linux
def test_an_edit_at_the_moment_of_a_removal_stands(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    disk = Watched()
    with pytest.raises(TargetChanged) as refused:
        files.remove(str(path), expected=b"old", disk=edited(disk, path, "rename_new", b"edit"))
    assert refused.value.displaced == b"edit"
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"edit"]
    assert disk.notes == ["name x new", "name new x", f"sync {tmp_path.name}"]


@only_linux
@pytest.mark.parametrize("call", ["exchange", "rename_new"], ids=["a change", "a removal"])
def test_of_two_edits_in_a_row_one_stands_and_the_other_is_saved(tmp_path: Path, call: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    disk = Watched()
    edited(disk, path, call, b"first", b"second")

    def change() -> None:
        if call == "rename_new":
            files.remove(str(path), expected=b"old", disk=disk)
        else:
            files.replace(str(path), b"new", expected=b"old", verify=no_check, disk=disk)

    with pytest.raises(CouldNotWrite, match="written by another program") as refused:
        change()
    assert refused.value.displaced == b"first"
    (saved,) = tmp_path.glob("x.saved-*")
    assert {path.read_bytes(), saved.read_bytes()} == {b"first", b"second"}
    assert refused.value.fix[0] == f"compare {path} and {saved}"
    assert len(list(tmp_path.iterdir())) == 2
    assert disk.notes[-2:] == [f"rename new {saved.name}", f"sync {tmp_path.name}"]


@only_linux
def test_what_was_taken_out_and_cannot_be_read_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def odd(usual: Callable[..., Any], name: str, flags: int, *mode: int) -> Any:
        if ".qs-" in name and not flags & os.O_CREAT:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return usual(name, flags, *mode)

    with pytest.raises(ChangedUnconfirmed, match="is kept in") as told:
        files.replace(
            str(path), b"new", expected=b"old", verify=no_check, disk=Odd("open", odd=odd)
        )
    assert told.value.why == os.strerror(errno.EIO)
    (kept,) = tmp_path.glob(".x.qs-*")
    assert told.value.fix[-1] == f"look at {kept}"
    assert (path.read_bytes(), kept.read_bytes()) == (b"new", b"old")


@only_linux
def test_what_is_not_as_expected_is_not_moved_even_for_a_moment(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"edit")
    disk = Watched()
    with pytest.raises(TargetChanged):
        files.remove(str(path), expected=b"old", disk=disk)
    assert disk.notes == []
    with pytest.raises(TargetChanged):
        files.replace(str(path), b"new", expected=b"old", verify=no_check, disk=disk)
    assert disk.notes == ["make new", "write new", "mode new", "sync new", "unlink new"]


@only_linux
@pytest.mark.parametrize("left", [None, b"edit"], ids=["gone", "made again"])
def test_a_removal_that_fails_while_another_program_is_at_it(
    tmp_path: Path, left: bytes | None
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def odd(usual: Callable[..., Any], source: str, target: str) -> None:
        if left is None:
            path.unlink()
        else:
            usual(source, target)
            path.write_bytes(left)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(CouldNotWrite, match="cannot remove"):
        files.remove(str(path), expected=b"old", disk=Odd("rename_new", odd=odd))
    assert (path.read_bytes() if path.exists() else None) == left


def test_a_file_that_is_protected_from_us_is_refused_before_anything_is_made(
    tmp_path: Path,
) -> None:
    """Windows' attribute, as Python tells it there."""
    path = tmp_path / "x"
    path.write_bytes(b"old")
    disk = Watched()
    protected = SimpleNamespace(st_file_attributes=stat.FILE_ATTRIBUTE_READONLY)
    setattr(disk, "lstat", lambda path: protected)  # noqa: B010 - a method, to mypy
    with pytest.raises(TargetRefused, match="read-only attribute"):
        files.replace(str(path), b"new", expected=b"old", verify=no_check, disk=disk)
    with pytest.raises(TargetRefused, match="read-only attribute"):
        files.remove(str(path), expected=b"old", disk=disk)
    assert (path.read_bytes(), disk.notes) == (b"old", ["unlink new"])


def test_reading_back_tells_why_it_did_not_give_the_new_content(tmp_path: Path) -> None:
    path = tmp_path / "x"

    def become(odd: Callable[[], None]) -> str:
        def rename(usual: Callable[..., Any], source: str, target: str) -> None:
            usual(source, target)
            path.unlink()
            odd()

        disk = Odd("rename", "rename_new", odd=rename)
        with pytest.raises(ChangedUnconfirmed, match="reading it back") as told:
            files.replace(str(path), b"new", expected=None, verify=no_check, disk=disk)
        return str(told.value.why)

    assert become(lambda: None).startswith("another program wrote it")
    assert become(path.mkdir) == f"{path} is a folder"
    path.rmdir()
    with pytest.raises(ChangedUnconfirmed) as told:
        files.replace(
            str(path),
            b"new",
            expected=None,
            verify=no_check,
            disk=Odd("fstat", odd=fails(errno.EIO)),
        )
    assert told.value.why == os.strerror(errno.EIO)


def test_a_name_without_a_folder_is_one_in_the_folder_where_we_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files.create("x", b"1", 0o644)
    files.replace("x", b"2", expected=b"1", verify=no_check)
    assert Path("x").read_bytes() == b"2"
    files.remove("x", expected=b"2")
    assert files.make_folder("folder")
    assert os.listdir() == ["folder"]


@pytest.mark.parametrize("kept", [True, False], ids=["not at all", "by losing it"])
def test_a_rename_that_failed_is_an_error_even_where_the_content_would_do(
    tmp_path: Path, kept: bool
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"same" if kept else b"another")

    def odd(usual: Callable[..., Any], source: str, target: str) -> None:
        if not kept:
            os.unlink(source)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        files.create(str(path), b"same", 0o644, Odd("rename", odd=odd))
    assert list(tmp_path.iterdir()) == [path]


# --- ways out -------------------------------------------------------------------------------------


def test_a_refusal_names_the_folder_whose_rights_matter(tmp_path: Path) -> None:
    for code in (errno.EACCES, errno.EPERM):
        error = OSError(code, os.strerror(code))
        rights, sudo = files._fix_of(error, str(tmp_path / "missing"))
        assert rights == f"look at owner and rights: ls -la {tmp_path}"
        assert sudo == "do not use sudo for your own file"
        assert files._fix_of(error, "missing")[0] == "look at owner and rights: ls -la ."


def test_windows_takes_259_characters_and_no_more() -> None:
    """Its MAX_PATH is 260, with the NUL at the end."""
    error = FileNotFoundError(errno.ENOENT, "no")
    setattr(error, "winerror", 3)  # noqa: B010 - known on Windows only
    assert files._fix_of(error, "x" * 259) == ()
    assert files._fix_of(error, "x" * 260)


# --- waiting --------------------------------------------------------------------------------------


def test_who_holds_a_file_is_asked_often_at_first_and_for_ten_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [1000.0]
    asked: list[float] = []

    def attempt() -> None:
        asked.append(clock[0])
        error = OSError(errno.EACCES, "in use")
        setattr(error, "winerror", 32)  # noqa: B010 - known on Windows only
        raise error

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    with pytest.raises(OSError, match="in use"):
        files._patiently(attempt)
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert 10 <= asked[-1] - asked[0] <= 11
    assert 0 < pauses[0] < 0.02
    assert max(pauses) <= 0.75
    assert len(asked) < 60
    assert len(set(pauses)) > len(pauses) / 2, "by chance"


def test_a_lock_that_is_not_free_in_time_names_who_has_it(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with files.locked(path, timeout=0):
        started = time.monotonic()
        with pytest.raises(LockTimeout) as held, files.locked(path, timeout=0.2):
            pass
        waited = time.monotonic() - started
    assert waited >= 0.2
    assert f"(process {os.getpid()} since 20" in held.value.message
    assert held.value.why == f"waited 0.2 s for {path}"
    assert len(held.value.message) < 300
    Path(path).write_bytes(b"")
    holder = os.open(path, os.O_RDWR)
    try:
        assert DISK.lock(holder)
        with pytest.raises(LockTimeout, match=r"\(unknown\)"), files.locked(path, timeout=0):
            pass
        os.pwrite(holder, b"\xff\0 by another program" + b"x" * 9000, 0)
        with pytest.raises(LockTimeout) as odd, files.locked(path, timeout=0):
            pass
        assert "by another program" in odd.value.message
        assert len(odd.value.message) < 400
    finally:
        os.close(holder)


def test_who_waits_for_a_lock_does_not_keep_the_processor_busy(tmp_path: Path) -> None:
    asked: list[int] = []

    def odd(usual: Callable[..., Any], fd: int) -> bool:
        asked.append(fd)
        return False

    with (
        pytest.raises(LockTimeout),
        files.locked(str(tmp_path / "lock"), timeout=0.2, disk=Odd("lock", odd=odd)),
    ):
        pass
    assert 2 <= len(asked) < 20


def test_a_lock_is_taken_as_soon_as_it_is_free(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    freed: list[float] = []
    with files.locked(path, timeout=0):
        content = Path(path).read_bytes()
        holder = os.open(path, os.O_RDWR)
    assert DISK.lock(holder)

    def let_go() -> None:
        time.sleep(0.05)
        freed.append(time.monotonic())
        os.close(holder)

    waiting = threading.Thread(target=let_go)
    waiting.start()
    with files.locked(path, timeout=60):
        assert freed
        assert time.monotonic() - freed[0] < 30
    waiting.join()
    assert content.startswith(b"process %d since " % os.getpid())
    assert Path(path).read_bytes().count(b"\n") == 1


def test_a_shorter_name_of_a_holder_leaves_nothing_of_a_longer_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_bytes(b"x" * 500)
    with files.locked(str(path), timeout=0):
        assert b"x" not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 & ~0o044 == 0


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    """What it leads to would be emptied."""
    (tmp_path / "precious").write_bytes(b"x")
    (tmp_path / "lock").symlink_to("precious")
    with (
        pytest.raises(OSError, match=os.strerror(errno.ELOOP)),
        files.locked(str(tmp_path / "lock"), timeout=0),
    ):
        pass
    assert (tmp_path / "precious").read_bytes() == b"x"


def test_work_under_a_lock_is_done_whatever_its_end_reports(tmp_path: Path) -> None:
    done: list[int] = []
    closed: list[int] = []

    def odd(usual: Callable[..., Any], fd: int) -> None:
        usual(fd)
        closed.append(fd)
        raise OSError(errno.EIO, "no")

    with files.locked(str(tmp_path / "lock"), timeout=0, disk=Odd("close", odd=odd)):
        done.append(1)
    assert (done, len(closed)) == ([1], 1)
    with files.locked(str(tmp_path / "lock"), timeout=0):
        pass


def test_an_interrupt_waits_until_the_change_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    arrived: list[bytes] = []
    before = signal.getsignal(signal.SIGINT)
    masks: list[set[int]] = []

    def interrupt(temporary: str) -> None:
        masks.append(set(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)  # no other thread may take it

    signal.signal(signal.SIGINT, lambda *_: arrived.append(path.read_bytes()))
    try:
        files.replace(str(path), b"new", expected=b"old", verify=interrupt)
        assert arrived == [b"new"]
        assert masks[0] >= {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
        with pytest.raises(ZeroDivisionError):
            files.replace(str(path), b"", expected=b"new", verify=lambda _: print(1 // 0))
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.signal(signal.SIGINT, before)
