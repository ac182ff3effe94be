"""The room that writes: what is kept, and what is left when any one system call fails.

The fault sweep runs whole changes through a disk that fails at its k-th call, for every k.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import qs_certs
from qs_certs import catalogue, changes, files
from qs_certs.changes import Plan, Target
from qs_certs.errors import (
    ChangedUnconfirmed,
    CouldNotWrite,
    LockTimeout,
    QsCertsError,
    TargetChanged,
)
from qs_certs.files import Disk
from qs_certs.results import ChangeReport, Source
from qs_certs.store import Store

if sys.platform == "win32":
    pytest.skip("only on POSIX", allow_module_level=True)

G2 = catalogue.ROOTS[catalogue.DEFAULT]
EMBEDDED = (Path(qs_certs.__file__).parent / "roots" / f"{G2.name}.pem").read_bytes()


def no_check(path: str) -> None:
    pass


def replace(path: Path, data: bytes, expected: bytes | None, mode: int | None = None) -> None:
    files.replace(str(path), data, expected=expected, verify=no_check, mode=mode)


# --- what is kept ---------------------------------------------------------------------------------


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077], ids=oct)
def test_the_umask_does_not_matter(tmp_path: Path, umask: Callable[[int], int], mask: int) -> None:
    umask(mask)
    folder = tmp_path / "new"
    assert files.make_folder(str(folder))
    replace(folder / "root.crt", b"new", None)
    assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0
    assert stat.S_IMODE((folder / "root.crt").stat().st_mode) == 0o644


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o664, 0o755, 0o444, 0o2644], ids=oct)
def test_the_mode_of_an_old_file_is_kept(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "root.crt"
    path.write_bytes(b"old")
    path.chmod(mode)
    replace(path, b"new", b"old")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_the_owner_of_an_old_file_is_kept(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a file of another user")
    path = tmp_path / "root.crt"
    path.write_bytes(b"old")
    path.chmod(0o640)
    os.chown(path, 12345, 54321)
    replace(path, b"new", b"old")
    status = path.stat()
    assert (status.st_uid, status.st_gid) == (12345, 54321)
    assert stat.S_IMODE(status.st_mode) == 0o640


def test_extended_attributes_are_kept(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only on Linux")
    path = tmp_path / "root.crt"
    path.write_bytes(b"old")
    try:
        os.setxattr(path, "user.colour", b"blue")
    except OSError as error:
        pytest.skip(f"needs a file system with extended attributes: {error.strerror}")
    inode = path.stat().st_ino
    replace(path, b"new", b"old")
    assert path.stat().st_ino != inode  # it is another file, and has them all the same
    assert os.getxattr(path, "user.colour") == b"blue"


def test_other_names_of_an_old_file_keep_the_old_content(tmp_path: Path) -> None:
    path, other = tmp_path / "root.crt", tmp_path / "backup.crt"
    path.write_bytes(b"old")
    os.link(path, other)
    replace(path, b"new", b"old")
    assert (path.read_bytes(), other.read_bytes()) == (b"new", b"old")


def test_who_has_the_old_file_open_reads_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "root.crt"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        assert reader.read(1) == b"o"
        replace(path, b"new", b"old")
        assert reader.read() == b"ld"


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("found", [b"theirs", None], ids=["changed", "deleted"])
def test_a_file_that_is_not_what_was_expected_stays(tmp_path: Path, found: bytes | None) -> None:
    path = tmp_path / "root.crt"
    if found is not None:
        path.write_bytes(found)
    with pytest.raises(TargetChanged):
        replace(path, b"new", b"old")
    with pytest.raises(TargetChanged):
        files.remove(str(path), expected=b"old")
    assert (path.read_bytes() if path.exists() else None) == found
    assert [each.name for each in tmp_path.iterdir()] == ([] if found is None else ["root.crt"])


def test_a_file_that_fails_its_check_never_goes_live(tmp_path: Path) -> None:
    path = tmp_path / "root.crt"
    path.write_bytes(b"old")
    seen = []

    def refuse(temporary: str) -> None:
        seen.append(Path(temporary).read_bytes())
        raise CouldNotWrite("no")

    with pytest.raises(CouldNotWrite, match="no"):
        files.replace(str(path), b"new", expected=b"old", verify=refuse)
    assert seen == [b"new"]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_litter_is_removed_and_nothing_that_only_looks_like_it(tmp_path: Path) -> None:
    ours = tmp_path / ".root.crt.qs-0123abcd"
    others = [
        tmp_path / name
        for name in (".root.crt.qs-0123abcx", ".root.crt.qs-0123abc", "root.crt.qs-0123abcd")
    ]
    folder, link, twice = (tmp_path / f".root.crt.qs-0000000{number}" for number in range(3))
    for path in (ours, *others, twice):
        path.write_bytes(b"x")
    folder.mkdir()
    link.symlink_to(others[0])
    os.link(twice, tmp_path / "other-name")
    files.remove_litter(str(tmp_path), "root.crt")
    assert not ours.exists()
    assert all(path.exists() for path in (*others, folder, link, twice))


def test_a_lock_has_one_holder_at_a_time(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with (
        files.locked(path, timeout=1),
        pytest.raises(LockTimeout, match=f"process {os.getpid()} since"),
        files.locked(path, timeout=0.02),
    ):
        raise AssertionError("two holders")
    with files.locked(path, timeout=0):
        pass


# --- the fault sweep ------------------------------------------------------------------------------


class Crash(BaseException):
    """The process dies here: nothing that would clean up gets to run."""


@dataclass
class Faulty(Disk):
    """Lets *good* calls through, then makes one fail.

    After a crash no later call reaches the disk, as in a process that is gone.
    """

    good: int
    fault: str
    calls: int = 0
    dead: bool = False
    hit: str | None = None

    def fails(self, name: str) -> bool:
        if self.dead:
            raise Crash
        self.calls += 1
        if self.calls != self.good + 1:
            return False
        self.hit = name
        if self.fault == "crash":
            self.dead = True
            raise Crash
        if self.fault == "short":
            return name == "write"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _through(name: str) -> Callable[..., object]:
    def call(self: Faulty, *arguments: object, **options: object) -> object:
        if name == "close":  # closed whatever is reported, and by the system when we are dead
            (fd,) = arguments
            assert isinstance(fd, int)
            os.close(fd)
            if not self.dead:
                self.fails(name)
            return None
        if self.fails(name):  # a nearly full disk takes a part and reports no error
            fd, data = arguments
            assert isinstance(fd, int)
            assert isinstance(data, bytes)
            return Disk.write(self, fd, data[: max(1, len(data) // 2)])
        return getattr(Disk, name)(self, *arguments, **options)

    return call


for _name in [name for name in vars(Disk) if not name.startswith("_")]:
    setattr(Faulty, _name, _through(_name))


STARTS = {
    "absent": None,
    "there": b"# mine\n",
    "installed": b"# mine\n" + EMBEDDED,
}
COMMANDS = {"absent": "install", "there": "install", "installed": "remove"}
ENDS = {"absent": EMBEDDED, "there": b"# mine\n" + EMBEDDED, "installed": b"# mine\n"}


def run(command: str, target: Target, disk: Disk) -> ChangeReport:
    def fetch() -> tuple[bytes, Source, str | None]:
        from qs_certs import sources

        return sources.embedded(G2), "embedded", None

    if command == "install":
        return changes.install((target,), (changes.Wanted(G2.sha256, fetch),), disk=disk)
    if command == "remove":
        return changes.remove((target,), (G2.sha256,), disk=disk)
    return changes.rollback((target,), disk=disk)


def content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def litter(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if ".qs-" in path.name]


@dataclass(frozen=True, slots=True)
class Home:
    """A home in which one fault happens."""

    folder: Path

    @property
    def target(self) -> Path:
        return self.folder / ".postgresql" / "root.crt"


@pytest.fixture
def new_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Home]:
    """Make a fresh home in a starting state, and its store the one in use."""
    count = iter(range(1_000_000))
    # Loading with OpenSSL is no call of the seam, and the slowest part of a change.
    monkeypatch.setattr(changes, "_verifier", lambda plan: no_check)

    def make(start: str) -> Home:
        home = Home(tmp_path / f"{start}-{next(count)}")
        home.folder.mkdir()
        monkeypatch.setenv("QS_CERTS_STORE", str(home.folder / "store"))
        if (before := STARTS[start]) is not None:
            home.target.parent.mkdir()
            home.target.write_bytes(before)
        return home

    return make


def calls_of(start: str, new_home: Callable[[str], Home]) -> int:
    """How many calls the whole change makes."""
    disk = Faulty(1_000_000, "crash")
    report = run(COMMANDS[start], Target(str(new_home(start).target)), disk)
    assert report.exit_code == 0
    assert disk.calls > 30
    return disk.calls


@pytest.mark.parametrize("fault", ["crash", "ENOSPC", "short"])
@pytest.mark.parametrize("start", STARTS)
def test_whatever_call_fails_the_target_is_old_or_new_and_the_next_run_completes(
    new_home: Callable[[str], Home], start: str, fault: str
) -> None:
    before, after, command = STARTS[start], ENDS[start], COMMANDS[start]
    seen: set[str | None] = set()
    for good in range(calls_of(start, new_home)):
        home = new_home(start)
        target = Target(str(home.target))
        disk = Faulty(good, fault)
        where: tuple[object, ...] = (start, fault, good)
        try:
            report = run(command, target, disk)
        except Crash:
            assert fault == "crash", where
            assert content(home.target) in (before, after), where
        else:
            where = (*where, disk.hit)
            (result,) = report.targets
            if isinstance(result.error, ChangedUnconfirmed) or result.error is None:
                assert content(home.target) == after, where
            else:
                assert content(home.target) == before, where
                assert fault != "short", where
                if before is None:
                    assert not home.target.exists(), where
            assert litter(home.folder) == [] or fault != "short", where
        seen.add(disk.hit)

        # The next run completes, whatever the last one left.
        assert run(command, target, files.DISK).exit_code == 0, where
        assert content(home.target) == after, where

        # And what stood there first comes back, byte for byte.  This run changes something, so it
        # also clears up after one that died between its swap and the removal of the old content.
        assert run("rollback", target, files.DISK).exit_code == 0, where
        assert content(home.target) == before, where
        assert litter(home.target.parent) == [], where
        if before is None:
            assert not home.target.parent.exists(), where
        history = Store(home.folder / "store").changes(str(home.target))
        assert [entry.applied for entry in history] == [True, True], where
    assert {"open", "write", "fsync", "rename", "lstat", "close"} <= seen


@pytest.mark.parametrize("start", STARTS)
def test_a_rollback_right_after_a_crash_brings_back_what_was_there(
    new_home: Callable[[str], Home], start: str
) -> None:
    for good in range(calls_of(start, new_home)):
        home = new_home(start)
        target = Target(str(home.target))
        with pytest.raises(Crash):
            run(COMMANDS[start], target, Faulty(good, "crash"))
        assert run("rollback", target, files.DISK).exit_code == 0, good
        assert content(home.target) == STARTS[start], good


@pytest.mark.parametrize("fault", ["crash", "ENOSPC"])
def test_a_rollback_that_fails_anywhere_can_be_done_again(
    new_home: Callable[[str], Home], fault: str
) -> None:
    good, finished = 0, False
    while not finished:
        home = new_home("there")
        target = Target(str(home.target))
        assert run("install", target, files.DISK).exit_code == 0
        disk = Faulty(good, fault)
        with contextlib.suppress(Crash):
            finished = run("rollback", target, disk).exit_code == 0 and disk.hit is None
        now = content(home.target)
        assert now in (STARTS["there"], ENDS["there"]), good
        assert run("rollback", target, files.DISK).exit_code == 0
        # Where the first one did happen, the second is its redo.
        assert content(home.target) != now, good
        assert litter(home.target.parent) == [], good
        good += 1
    assert good > 30


def test_the_sweep_would_see_a_change_that_writes_in_place(tmp_path: Path) -> None:
    """A control: the habit that most programs have fails at the first bad call."""
    path = tmp_path / "root.crt"
    path.write_bytes(b"old")

    def in_place(data: bytes, disk: Disk) -> None:
        fd = disk.open(str(path), os.O_WRONLY | os.O_TRUNC)
        disk.write(fd, data)
        disk.close(fd)

    with pytest.raises(Crash):
        in_place(b"new", Faulty(1, "crash"))
    assert path.read_bytes() not in (b"old", b"new")


def test_an_error_after_the_swap_says_that_the_file_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "root.crt"

    class NoFolderSync(Disk):
        def fsync(self, fd: int) -> None:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            super().fsync(fd)

    with pytest.raises(ChangedUnconfirmed, match="has the new content") as caught:
        files.replace(str(path), b"new", expected=None, verify=no_check, disk=NoFolderSync())
    assert isinstance(caught.value, QsCertsError)
    assert path.read_bytes() == b"new"


def test_a_rename_that_happened_though_it_reported_an_error_counts(tmp_path: Path) -> None:
    """NFS can lose the server's answer."""
    path = tmp_path / "root.crt"

    class LostAnswer(Disk):
        def rename(self, source: str, target: str) -> None:
            super().rename(source, target)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    files.replace(str(path), b"new", expected=None, verify=no_check, disk=LostAnswer())
    assert path.read_bytes() == b"new"


def test_a_change_by_somebody_else_at_the_last_moment_is_not_lost(
    new_home: Callable[[str], Home],
) -> None:
    home = new_home("there")
    theirs = b"# mine\n# theirs\n"
    times: list[int] = []

    class Editor(Disk):
        """Somebody who saves the file while our new one is being written."""

        def chmod(self, fd: int, mode: int) -> None:
            super().chmod(fd, mode)
            if mode == 0o644 and not times:
                times.append(1)
                home.target.write_bytes(theirs)

    home.target.chmod(0o644)
    report = run("install", Target(str(home.target)), Editor())
    assert times == [1]
    assert report.exit_code == 0
    assert content(home.target) == theirs + EMBEDDED
    assert run("rollback", Target(str(home.target)), files.DISK).exit_code == 0
    assert content(home.target) == theirs


def test_a_plan_that_changes_nothing_says_so() -> None:
    assert not Plan(b"a", b"a").changes
    assert Plan(None, b"").changes
