"""Disks that fail, die or keep a log: each takes the place of `qs_certs.files.Disk`."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qs_certs.files import Disk

CALLS = tuple(name for name in vars(Disk) if not name.startswith("_"))


class Died(BaseException):
    """The process is dead.  No OSError, so that nothing can catch it by accident."""


class RoutedDisk(Disk):
    """A disk whose every call passes `route`; it knows which descriptors are open.

    *exchanges* says whether names can be exchanged: on Linux, but not on every file system.
    """

    def __init__(self, *, exchanges: bool = True) -> None:
        self.opened: set[int] = set()
        self._exchanges = exchanges

    def route(self, name: str, *args: Any) -> Any:
        return self.carry_out(name, *args)

    def carry_out(self, name: str, *args: Any) -> Any:
        if not self._exchanges and name in ("exchange", "rename_new"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        result = getattr(Disk, name)(self, *args)
        if name == "open":
            self.opened.add(result)
        elif name == "close":
            self.opened.discard(args[0])
        return result

    def bury(self) -> None:
        """What the kernel does for a dead process."""
        for fd in self.opened:
            os.close(fd)
        self.opened.clear()


def _routed(name: str) -> Callable[..., Any]:
    def call(self: RoutedDisk, *args: Any) -> Any:
        return self.route(name, *args)

    return call


for _name in CALLS:
    setattr(RoutedDisk, _name, _routed(_name))


class LoggedDisk(RoutedDisk):
    """A disk that says what it did, each with the names below *top*; looking is left out."""

    def __init__(self, top: Path) -> None:
        super().__init__()
        self._top = str(top)
        self._names: dict[int, str] = {}
        self.log: list[str] = []

    def route(self, name: str, *args: Any) -> Any:
        result = self.carry_out(name, *args)
        path = self._names.get(args[0], "") if isinstance(args[0], int) else args[0]
        if name == "open":
            self._names[result] = path
        elif name in ("fsync", "write", "unlink", "rename", "mkdir", "rmdir", "truncate"):
            path = args[-1] if name == "rename" else path
            self.log.append(f"{name} {os.path.relpath(path, self._top)}")
        return result

    def of(self, *wanted: str) -> list[str]:
        """What was done, of that which is *wanted*."""
        found = [each for each in self.log if each in wanted]
        self.log.clear()
        return found


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at one call.  *only* names the calls at which it makes sense; empty: all."""

    name: str
    strike: Callable[[FaultyDisk, str, tuple[Any, ...]], Any]
    only: frozenset[str] = frozenset()


class FaultyDisk(RoutedDisk):
    """A disk on which *fault* strikes at call number *at*, counted from 1; 0 is a healthy one."""

    def __init__(self, at: int = 0, fault: Fault | None = None, *, exchanges: bool = True) -> None:
        super().__init__(exchanges=exchanges)
        self.at = at
        self.fault = fault
        self.calls: list[str] = []
        self.dead = False
        self.broken: Callable[[str, tuple[Any, ...]], int | None] = lambda name, args: None
        """The errno with which a call fails from now on."""

    def route(self, name: str, *args: Any) -> Any:
        if self.dead:
            raise Died
        self.calls.append(name)
        if self.fault is not None and len(self.calls) == self.at:
            return self.fault.strike(self, name, args)
        code = self.broken(name, args)
        if code is not None:
            self.fail(name, args, code)
        return self.carry_out(name, *args)

    def fail(self, name: str, args: tuple[Any, ...], code: int) -> None:
        if name == "close":  # gives the descriptor back, whatever it reports (close(2), Linux)
            self.carry_out(name, *args)
        raise OSError(code, os.strerror(code))

    def die(self) -> None:
        self.dead = True
        raise Died


def _error(code: int) -> Callable[[FaultyDisk, str, tuple[Any, ...]], Any]:
    return lambda disk, name, args: disk.fail(name, args, code)


def _half(disk: FaultyDisk, args: tuple[Any, ...]) -> int:
    fd, data = args
    written: int = disk.carry_out("write", fd, data[: max(1, len(data) // 2)])
    return written


def _torn(disk: FaultyDisk, name: str, args: tuple[Any, ...]) -> None:
    _half(disk, args)
    disk.die()


def _full(disk: FaultyDisk, name: str, args: tuple[Any, ...]) -> int:
    """A nearly full disk takes a part without an error, and nothing after that."""
    disk.broken = lambda name, args: errno.ENOSPC if name == "write" else None
    return _half(disk, args)


def _dying(disk: FaultyDisk, name: str, args: tuple[Any, ...]) -> None:
    disk.broken = lambda name, args: errno.EIO
    disk.fail(name, args, errno.EIO)


def _lost_reply(disk: FaultyDisk, name: str, args: tuple[Any, ...]) -> None:
    """NFS: the server did it, and the client hears of an error."""
    disk.carry_out(name, *args)
    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))


ERRNOS = ("EIO", "ENOSPC", "EDQUOT", "EACCES", "EROFS", "EMFILE", "ESTALE", "EINTR")
WRITES = frozenset({"write"})
CHANGES_OF_NAMES = frozenset({"rename", "rename_new", "exchange", "unlink", "mkdir"})
FAULTS = (
    Fault("crash", lambda disk, name, args: disk.die()),
    *(Fault(name, _error(getattr(errno, name, errno.EIO))) for name in ERRNOS),
    Fault("short write", lambda disk, name, args: _half(disk, args), WRITES),
    Fault("torn write", _torn, WRITES),
    Fault("disk full", _full, WRITES),
    Fault("disk dying", _dying),
    Fault("lost reply", _lost_reply, CHANGES_OF_NAMES),
)
