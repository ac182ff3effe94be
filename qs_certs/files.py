"""Durable changes of files: atomic replacement, removal, locks.  The only room that writes.

Every system call of a change goes through one small object, `Disk`, so that tests can fail, cut
or kill at any of them.  What holds on a POSIX file system, whatever dies when:

- whoever opens the target sees all of the old content or all of the new, never a part;
- an ordinary error means that nothing was changed; after the swap it is `ChangedUnconfirmed`;
- a finished replacement survives a power cut: data is synced before the rename, the folder
  after it (Windows has no folder sync; there the name is the file system journal's business);
- on Linux, what another program writes between our last look and the swap is seen, since the swap
  exchanges two names, and is put back or kept.  Windows sees it where a file is made or removed.
  Elsewhere such an edit would be lost.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterator

from qs_certs import windows
from qs_certs.errors import (
    ChangedUnconfirmed,
    CouldNotRead,
    CouldNotWrite,
    LockTimeout,
    TargetChanged,
    TargetRefused,
    quoted,
)

MAXIMUM_SIZE = 64 * 1024 * 1024
"""Bytes; a root file beyond this is refused (ten thousand certificates are about 20 MB)."""
MAXIMUM_LINKS = 5
NEW_FILE_MODE = 0o644
NEW_FOLDER_MODE = 0o700
RENAME_PATIENCE = 10.0
"""Seconds: how long Windows is asked again while another program holds the target open."""
HELD_OPEN = frozenset({5, 32, 33})
"""Windows: ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION."""
LONGEST_NAME = 259
"""Windows: characters of a path, unless the machine was told to allow more."""

# No descriptor is inherited by another program: Python sees to that in every open.
if sys.platform == "win32":
    _BINARY, _NOFOLLOW, _NONBLOCK, _DIRECTORY = os.O_BINARY, 0, 0, 0
else:
    _BINARY, _NOFOLLOW, _NONBLOCK, _DIRECTORY = 0, os.O_NOFOLLOW, os.O_NONBLOCK, os.O_DIRECTORY
# renameat2(2), Linux 3.15
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_UNABLE = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM}
"""What kernels, file systems and sandboxes without renameat2 say; a plain rename is tried then."""


class Disk:
    """One method per system call that a change makes.  Tests put another one in its place."""

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        return os.open(path, flags | _BINARY, mode)

    def read(self, fd: int, size: int) -> bytes:
        return os.read(fd, size)

    def write(self, fd: int, data: bytes) -> int:
        return os.write(fd, data)

    def fsync(self, fd: int) -> None:
        if sys.platform == "darwin":
            # On macOS fsync() stops at the drive's cache (Apple's fsync(2)).
            import fcntl

            try:
                fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                    raise
        os.fsync(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def fstat(self, fd: int) -> os.stat_result:
        return os.fstat(fd)

    def lstat(self, path: str) -> os.stat_result:
        return os.lstat(path)

    def readlink(self, path: str) -> str:
        return os.readlink(path)

    def rename(self, source: str, target: str) -> None:
        os.replace(source, target)

    def rename_new(self, source: str, target: str) -> None:
        """Rename, but never over an existing file.  OSError in `_UNABLE` where it cannot be had."""
        if sys.platform == "win32":
            os.rename(source, target)  # MoveFileEx without REPLACE_EXISTING
            return
        self._renameat2(source, target, _RENAME_NOREPLACE)

    def exchange(self, one: str, other: str) -> None:
        """Swap two names in one step.  OSError in `_UNABLE` where it cannot be had."""
        self._renameat2(one, other, _RENAME_EXCHANGE)

    @staticmethod
    def _renameat2(source: str, target: str, flags: int) -> None:
        if sys.platform != "linux":
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        try:
            import ctypes

            call = ctypes.CDLL(None, use_errno=True).renameat2
        except (ImportError, AttributeError):  # no ctypes, or a C library before glibc 2.28
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
        if call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flags) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), source, None, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(path, mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def listdir(self, path: str) -> list[str]:
        return os.listdir(path)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def chmod(self, fd: int, mode: int) -> None:
        if sys.platform != "win32":
            os.fchmod(fd, mode)

    def chown(self, fd: int, uid: int, gid: int) -> None:
        if sys.platform != "win32":
            os.fchown(fd, uid, gid)

    def attributes(self, path: str) -> dict[str, bytes]:
        """Extended attributes: POSIX ACLs, SELinux labels, the user's own (Linux only)."""
        if sys.platform != "linux":
            return {}
        return {name: os.getxattr(path, name) for name in os.listxattr(path)}

    def set_attribute(self, fd: int, name: str, value: bytes) -> None:
        if sys.platform == "linux":
            os.setxattr(fd, name, value)

    def copy_rights(self, source: str, target: str) -> None:
        """Windows: the access list, where it says more than the folder hands down."""
        windows.copy_rights(source, target)

    def lock(self, fd: int) -> bool:
        """Take the lock of an open file without waiting; False where somebody else has it."""
        if sys.platform == "win32":
            import msvcrt

            try:
                os.lseek(fd, 0x7FFF0000, os.SEEK_SET)  # beyond the text that names the holder
                msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
            except OSError:  # "permission denied"; Wine has no number for it
                return False
            finally:
                os.lseek(fd, 0, os.SEEK_SET)  # where that text is read and written
            return True
        import fcntl

        try:
            # flock, not lockf: a POSIX lock vanishes when any descriptor of the file is closed.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


DISK = Disk()


def reason(error: OSError) -> str:
    """The system's own words for *error*, without the path."""
    said = error.strerror or type(error).__name__
    if getattr(error, "winerror", None) in (32, 33):
        return f"{said} (another program has it open)"
    return said


def resolve(path: str, disk: Disk = DISK) -> str:
    """The file behind *path*: a final symbolic link is followed, so that it stays a link.

    Raises TargetRefused for a loop, for more than five links, for a link that another user made
    (as Linux's protected_symlinks does in /tmp; root's are the administrator's), and where the
    link leads to another user's file.
    """
    current = path
    for _ in range(MAXIMUM_LINKS + 1):
        try:
            status = disk.lstat(current)
            link = disk.readlink(current) if stat.S_ISLNK(status.st_mode) else None
        except FileNotFoundError:
            break
        except NotADirectoryError as error:
            folder = os.path.dirname(current)
            raise TargetRefused(
                f"{current} cannot be made: {folder} is not a folder",
                why="a file of that name is in the way",
                fix=(f"move {folder} out of the way", "or name another file with --target"),
            ) from error
        except OSError as error:
            raise CouldNotRead(f"cannot look at {current}", why=reason(error)) from error
        if link is None:
            if current != path and not _ours(status):
                raise TargetRefused(
                    f"{path} is a link to {current}, which belongs to another user",
                    fix=(f"change {current} as its owner", "or name another file with --target"),
                )
            return current
        if not _ours(status) and status.st_uid != 0:
            raise TargetRefused(
                f"{current} is a link that another user made",
                why=f"it leads to {link}, and its owner has the user id {status.st_uid}",
                fix=("remove the link", "or name another file with --target"),
            )
        current = os.path.join(os.path.dirname(current), link)
    else:
        raise TargetRefused(
            f"{path} leads through more than {MAXIMUM_LINKS} symbolic links",
            fix=("name the file itself with --target",),
        )
    if current != path and not os.path.isdir(os.path.dirname(current)):
        raise TargetRefused(
            f"{path} is a link to {current}, whose folder does not exist",
            why="to libpq such a link is a missing file",
            fix=(f"remove the link {path}, or make the folder that it leads to",),
        )
    return current


def _ours(status: os.stat_result) -> bool:
    return sys.platform == "win32" or status.st_uid == os.geteuid()


def read(path: str, disk: Disk = DISK) -> bytes | None:
    """The content of the file *path*, or None where there is none.

    Raises TargetRefused for anything but a regular file (without hanging on a FIFO) and for one
    beyond `MAXIMUM_SIZE`; CouldNotRead where the system refuses.
    """
    try:
        fd = disk.open(path, os.O_RDONLY | _NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if os.path.isdir(path):  # Windows reports a folder as "permission denied"
            raise _refused(path, "a folder") from error
        if error.errno in (errno.ENXIO, errno.ENODEV):
            raise _refused(path, "a socket or a device") from error
        raise CouldNotRead(
            f"cannot read {path}",
            why=reason(error),
            fix=(
                f"look at its owner and rights, and at those of its folder: ls -la {quoted(path)}",
            ),
        ) from error
    try:
        try:
            return _read_regular(path, fd, disk)
        finally:
            disk.close(fd)  # NFS reports here what it could not report before
    except OSError as error:
        raise CouldNotRead(f"cannot read {path}", why=reason(error)) from error


def _read_regular(path: str, fd: int, disk: Disk) -> bytes:
    status = disk.fstat(fd)
    if stat.S_ISDIR(status.st_mode):
        raise _refused(path, "a folder")
    if not stat.S_ISREG(status.st_mode):
        raise _refused(path, "not a regular file (a pipe, a socket or a device)")
    if status.st_size > MAXIMUM_SIZE:
        raise _refused(path, f"larger than {MAXIMUM_SIZE // 2**20} MiB")
    pieces = []
    while piece := disk.read(fd, max(1 << 20, status.st_size)):  # one piece needs no joining
        pieces.append(piece)
    return b"".join(pieces)


def _refused(path: str, what: str) -> TargetRefused:
    return TargetRefused(
        f"{path} is {what}", fix=("move it out of the way", "or name another file with --target")
    )


def mode_of(path: str, disk: Disk = DISK) -> int | None:
    """The permission bits of *path*; None where there is no such file."""
    try:
        return stat.S_IMODE(disk.lstat(path).st_mode)
    except OSError:
        return None


def make_folder(path: str, disk: Disk = DISK) -> bool:
    """Make the folder *path* (0700) and what leads to it, durably; False where it was there."""
    if os.path.isdir(path):
        return False
    parent = os.path.dirname(path)
    if parent and parent != path:
        make_folder(parent, disk)
    try:
        disk.mkdir(path, NEW_FOLDER_MODE)
        _sync_name(path, disk)
    except FileExistsError:
        if os.path.isdir(path):  # somebody else made it at the same moment
            return False
        raise CouldNotWrite(
            f"cannot make the folder {path}",
            why="a file of that name is in the way",
            fix=(f"move {path} out of the way",),
        ) from None
    except OSError as error:
        raise CouldNotWrite(
            f"cannot make the folder {path}", why=reason(error), fix=_fix_of(error, path)
        ) from error
    return True


def sync_folder(path: str, disk: Disk = DISK) -> None:
    """Make the names in *path* durable.  Not known on Windows, where this does nothing."""
    if sys.platform == "win32":
        return
    fd = disk.open(path, os.O_RDONLY | _DIRECTORY)
    try:
        disk.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        disk.close(fd)


def _sync_name(path: str, disk: Disk) -> None:
    """Make the name *path* durable."""
    sync_folder(os.path.dirname(path) or ".", disk)


def sync_folders(path: str, disk: Disk = DISK) -> None:
    """`sync_folder` for *path* and for the folders above it, as far as we may have made them."""
    sync_folder(path, disk)
    while _ours(disk.lstat(path)) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
        try:
            sync_folder(path, disk)
        except PermissionError:
            return  # a folder that we may not read is not one that we made


def write_all(fd: int, data: bytes, disk: Disk = DISK) -> None:
    """Write all of *data*: a nearly full disk takes a part and reports no error."""
    view = memoryview(data)
    while view:
        view = view[disk.write(fd, bytes(view[: 1 << 20])) :]


def create(path: str, data: bytes, mode: int, disk: Disk = DISK) -> None:
    """Put a new file *path* in place, durable and complete or not at all.

    An existing one is replaced.  Raises OSError.
    """
    temporary = _temporary_name(path)
    try:
        fd = disk.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            write_all(fd, data, disk)
            disk.chmod(fd, mode)
            disk.fsync(fd)
        finally:
            disk.close(fd)
        _rename(temporary, path, data, disk)
    except BaseException:
        with contextlib.suppress(OSError):
            disk.unlink(temporary)
        raise
    _sync_name(path, disk)


_TEMPORARY = r"(?s)\.(?P<name>.+)\.qs-[0-9a-f]{8}"


def _temporary_name(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.qs-{os.urandom(4).hex()}")


def remove_litter(
    folder: str,
    name: str | None = None,
    *,
    worthless: Callable[[bytes], bool] | None = None,
    disk: Disk = DISK,
) -> None:
    """Remove what an interrupted run left in *folder*: our temporary files, nothing else.

    Only those that were to become the file *name*, where one is given.  One whose content is not
    *worthless* is another program's edit that an exchange took out; it gets a visible name.
    """
    try:
        entries = disk.listdir(folder or ".")
    except OSError:
        return
    for entry in entries:
        found = re.fullmatch(_TEMPORARY, entry)
        if found is None or name not in (None, found["name"]):
            continue
        litter = os.path.join(folder, entry)
        with contextlib.suppress(OSError):
            status = disk.lstat(litter)
            if not (stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and _ours(status)):
                continue
            with contextlib.suppress(CouldNotRead, TargetRefused):
                if worthless is None or worthless(read(litter, disk) or b""):
                    disk.unlink(litter)
                else:
                    _save(litter, os.path.join(folder, found["name"]), disk)


def _save(temporary: str, path: str, disk: Disk) -> str:
    """Give another program's version of *path* a visible name beside it, durably; returns that."""
    saved = f"{path}.saved-{os.urandom(4).hex()}"
    disk.rename(temporary, saved)
    _sync_name(path, disk)
    return saved


def replace(
    path: str,
    data: bytes,
    *,
    expected: bytes | None,
    verify: Callable[[str], None],
    mode: int | None = None,
    shared: bool = True,
    disk: Disk = DISK,
) -> None:
    """Make *data* the content of the file *path*, in one step, durably.

    *expected* is what must stand there at the last moment before (None: no file); otherwise
    TargetChanged is raised and nothing is changed.  CouldNotWrite names the file in which a
    version of another program is kept that could not be left in place.  *verify* is given the
    path of the complete new file before it goes live, and raises to refuse it.  Mode, owner and
    extended attributes of the old file are kept (on Windows its access list); a new file gets
    *mode* (0644 by default).
    Nobody else writes a file that is not *shared*: a plain rename will do.
    """
    temporary = _temporary_name(path)
    swapped = False
    try:
        with _uninterrupted():
            old = _status(path, disk)
            _refuse_read_only(path, old)
            fd = disk.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            try:
                write_all(fd, data, disk)
                _keep_metadata(path, old, mode, fd, disk)
                disk.fsync(fd)
            finally:
                disk.close(fd)
            if old is not None:
                disk.copy_rights(path, temporary)
            verify(temporary)
            _compare(path, expected, disk)
            if shared:
                exchanged = _swap(temporary, path, data, expected, disk)
            else:
                _rename(temporary, path, data, disk)
                exchanged = False
            swapped = True
            if exchanged:
                _discard(temporary, path, expected, data, disk)
            _sync_name(path, disk)
            _read_back(path, data, disk)
    except OSError as error:
        if swapped:
            raise _unconfirmed(path, error) from error
        raise CouldNotWrite(
            f"cannot write {path}; nothing was changed",
            why=reason(error),
            fix=_fix_of(error, path),
        ) from error
    finally:
        if not swapped:
            with contextlib.suppress(OSError):
                disk.unlink(temporary)


_HISTORY = "qs-certs history   # says whether it was changed"


def _read_back(path: str, data: bytes, disk: Disk) -> None:
    """Raise ChangedUnconfirmed where *path* cannot be seen to hold *data* after the swap."""
    why = "another program wrote it in the same moment, or the disk is failing"
    try:
        if read(path, disk) == data:
            return
    except (CouldNotRead, TargetRefused) as error:
        why = error.why or error.message
    raise ChangedUnconfirmed(
        f"{path} was replaced, but reading it back did not give the new content",
        why=why,
        fix=(_HISTORY, "qs-certs check"),
    )


def remove(path: str, *, expected: bytes, disk: Disk = DISK) -> None:
    """Remove the file *path*, durably.  *expected* is as in `replace`."""
    temporary = _temporary_name(path)
    removed = False
    try:
        with _uninterrupted():
            _refuse_read_only(path, _status(path, disk))
            _compare(path, expected, disk)
            moved = _move_away(path, temporary, disk)
            removed = True
            if moved:
                _discard(temporary, path, expected, None, disk)
            _sync_name(path, disk)
    except OSError as error:
        if removed:
            raise _unconfirmed(path, error) from error
        raise CouldNotWrite(
            f"cannot remove {path}; nothing was changed",
            why=reason(error),
            fix=_fix_of(error, path),
        ) from error


def remove_folder_if_empty(path: str, disk: Disk = DISK) -> None:
    """Remove the folder *path* where it is empty; otherwise leave it."""
    with contextlib.suppress(OSError):
        disk.rmdir(path)


def _status(path: str, disk: Disk) -> os.stat_result | None:
    try:
        return disk.lstat(path)
    except FileNotFoundError:
        return None


def _refuse_read_only(path: str, old: os.stat_result | None) -> None:
    """Raise TargetRefused for a file with the attribute by which Windows protects it from us."""
    if getattr(old, "st_file_attributes", 0) & stat.FILE_ATTRIBUTE_READONLY:
        raise TargetRefused(
            f"{path} has the read-only attribute; nothing was changed",
            why="somebody set it on purpose, or copied the file from a read-only place",
            fix=(f'attrib -R "{path}"',),
        )


def _keep_metadata(
    path: str, old: os.stat_result | None, mode: int | None, fd: int, disk: Disk
) -> None:
    """Give the new file what the old one had: owner, extended attributes, mode, in this order.

    A change of owner clears bits of the mode, and an ACL changes what the mode's group bits mean.
    """
    if old is None:
        disk.chmod(fd, NEW_FILE_MODE if mode is None else mode)
        return
    if sys.platform != "win32":
        now = disk.fstat(fd)
        if (old.st_uid, old.st_gid) != (now.st_uid, now.st_gid):
            try:
                disk.chown(fd, old.st_uid, old.st_gid)
            except PermissionError:
                # Not root: the file becomes ours, as it must to be of use to libpq.  The group
                # can still be kept where we are a member of it.
                with contextlib.suppress(PermissionError):
                    disk.chown(fd, -1, old.st_gid)
    try:
        attributes = disk.attributes(path)
    except OSError:
        attributes = {}  # a file system without extended attributes
    for name, value in attributes.items():
        with contextlib.suppress(OSError):  # security.* needs rights that we may not have
            disk.set_attribute(fd, name, value)
    disk.chmod(fd, stat.S_IMODE(old.st_mode))


def _compare(path: str, expected: bytes | None, disk: Disk) -> None:
    """Raise TargetChanged where *path* is no longer what the plan read."""
    if read(path, disk) != expected:
        raise _changed(path)


def _changed(path: str) -> TargetChanged:
    return TargetChanged(
        f"{path} was changed by another program meanwhile; nothing was changed by us",
        fix=("run the same command again",),
    )


def _swap(temporary: str, path: str, data: bytes, expected: bytes | None, disk: Disk) -> bool:
    """The swap.  True: what stood at *path* stands at *temporary* now, and has to be looked at.

    Between our last look and this call another program may write.  So two names are exchanged,
    and a new one covers no existing one, where the system can do that; otherwise it is a rename.
    """
    try:
        if expected is None:
            _patiently(lambda: disk.rename_new(temporary, path))
        else:
            disk.exchange(temporary, path)
    except OSError as error:
        if error.errno in _UNABLE:
            _rename(temporary, path, data, disk)
            return False
        if error.errno == (errno.EEXIST if expected is None else errno.ENOENT):
            raise _changed(path) from error
        with contextlib.suppress(CouldNotRead, TargetRefused):  # a lost reply, as in `_rename`
            if read(path, disk) == data != read(temporary, disk):
                return expected is not None
        raise
    return expected is not None


def _move_away(path: str, temporary: str, disk: Disk) -> bool:
    """As `_swap`, for a removal."""
    try:
        _patiently(lambda: disk.rename_new(path, temporary))
    except OSError as error:
        if error.errno in _UNABLE:
            _unlink(path, disk)
            return False
        if error.errno == errno.ENOENT:
            raise _changed(path) from error
        with contextlib.suppress(OSError):
            if _status(path, disk) is None and _status(temporary, disk) is not None:
                return True
        raise
    return True


def _discard(
    temporary: str, path: str, expected: bytes | None, data: bytes | None, disk: Disk
) -> None:
    """Throw away what the swap took out of *path*, where that is what was *expected*.

    Anything else is an edit of the last moment: it is put back, and TargetChanged raised with it.  Where
    the file was written once more before that, one version stands and the other is saved.
    """
    try:
        displaced = read(temporary, disk)
        if displaced == expected:
            _unlink(temporary, disk)
            return
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            if data is None:
                disk.rename_new(temporary, path)
            else:
                disk.exchange(temporary, path)
        out = read(temporary, disk)
        if out != data:
            saved = _save(temporary, path, disk)
    except (CouldNotRead, TargetRefused) as error:
        raise ChangedUnconfirmed(
            f"{path} was replaced, but what it held before cannot be read: it is kept in {temporary}",
            why=error.why,
            fix=(_HISTORY, f"look at {temporary}"),
        ) from error
    if out != data:
        refusal = CouldNotWrite(
            f"{path} is being written by another program; nothing was changed by us",
            why=f"one of its versions could not be left in place, and is kept in {saved}",
            fix=(f"compare {path} and {saved}", "then run the same command again"),
        )
    else:
        if out is not None:
            _unlink(temporary, disk)
        _sync_name(path, disk)
        refusal = _changed(path)
    refusal.displaced = displaced
    raise refusal


def _patiently(attempt: Callable[[], None]) -> None:
    """Do *attempt*, again and again on Windows while another program holds the file open.

    A virus scanner or a BI tool that has the file open makes Windows refuse with one of
    `HELD_OPEN`; most let go within a second.
    """
    pauses = _pauses(0.01, 0.5)
    end = time.monotonic() + RENAME_PATIENCE
    while True:
        try:
            return attempt()
        except OSError as error:
            if getattr(error, "winerror", None) not in HELD_OPEN or time.monotonic() >= end:
                raise
        time.sleep(next(pauses))


def _pauses(first: float, longest: float) -> Iterator[float]:
    """Seconds to wait, ever longer; by chance, since several of our programs must not wake in step."""
    pause = first
    while True:
        yield pause * (0.5 + os.urandom(1)[0] / 255)
        pause = min(pause * 2, longest)


def _rename(temporary: str, path: str, data: bytes, disk: Disk) -> None:
    """The swap.  NFS can report a rename that did happen as an error (a lost reply), so the
    content decides."""
    try:
        _patiently(lambda: disk.rename(temporary, path))
    except OSError:
        with contextlib.suppress(CouldNotRead, TargetRefused, OSError):
            if _status(temporary, disk) is None and read(path, disk) == data:
                return
        raise


def _unlink(path: str, disk: Disk) -> None:
    """Remove a name.  As with `_rename`, an error may follow a removal that did happen."""
    try:
        _patiently(lambda: disk.unlink(path))
    except OSError:
        with contextlib.suppress(OSError):
            if _status(path, disk) is None:
                return
        raise


def _unconfirmed(path: str, error: OSError) -> ChangedUnconfirmed:
    return ChangedUnconfirmed(
        f"{path} has the new content, but it is not known to survive a power cut",
        why=reason(error),
        fix=(_HISTORY, "look at the disk and the system's log"),
    )


def _fix_of(error: OSError, path: str) -> tuple[str, ...]:
    """What a person can do about *error*."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return ("free some space, then run the same command again",)
        case errno.EROFS:
            return (f"the file system of {path} is read-only: remount it, or use --target",)
        case errno.EBUSY:
            return (f"{path} is a mounted file: change it outside the container, or use --target",)
        case errno.EPERM if os.path.exists(path):
            return (f"{path} or its folder may be marked immutable: lsattr -d {quoted(path)}",)
        case errno.EACCES | errno.EPERM:
            folder = os.path.dirname(path) or "."
            if getattr(error, "winerror", None) is not None:
                return (
                    f"close the programs that have {path} open, then run the same command again",
                    f'icacls "{path}"   # if it goes on: who has which rights',
                )
            return (
                f"look at owner and rights: ls -la {quoted(folder)}",
                "do not use sudo for your own file",
            )
        case errno.ENOENT if getattr(error, "winerror", 0) and len(path) > LONGEST_NAME:
            return (f"Windows stops at {LONGEST_NAME} characters: name a shorter path",)
        case _:
            return ()


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold back Ctrl-C and termination, so that what is reported matches what was done.

    The file is safe without this; only the message would not be.
    """
    if sys.platform == "win32":  # has no way to hold a signal back
        yield
        return
    import signal

    held = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def locked(path: str, *, timeout: float, disk: Disk = DISK) -> Iterator[None]:
    """Hold the lock file *path*, waiting at most *timeout* seconds.

    The file names its holder, is never removed (removing a held lock gives it two holders), and
    is free again the moment its holder dies.  Raises LockTimeout.
    """
    fd = disk.open(path, os.O_RDWR | os.O_CREAT | _NOFOLLOW)
    try:
        end = time.monotonic() + timeout
        pauses = _pauses(0.005, 0.1)
        while not disk.lock(fd):
            if time.monotonic() >= end:
                holder = disk.read(fd, 200).decode("ascii", "replace").strip() or "unknown"
                raise LockTimeout(
                    f"another qs-certs is at work on this user's files ({holder})",
                    why=f"waited {timeout:g} s for {path}",
                    fix=("run the same command again when it has finished",),
                )
            time.sleep(next(pauses))
        disk.truncate(fd, 0)
        write_all(
            fd,
            f"process {os.getpid()} since {time.strftime('%Y-%m-%dT%H:%M:%S%z')}\n".encode(),
            disk,
        )
        yield
    finally:
        # Whatever close reports, the lock is free; the work under it must not be called failed.
        with contextlib.suppress(OSError):
            disk.close(fd)
