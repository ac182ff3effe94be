"""Every disk that a power cut may leave behind: a model of what is durable, and when.

`RecordingDisk` carries calls out and logs what they do to names and contents.  `images` replays a
log up to a point and yields the legal states of the disk after a power cut there:

- content that was not synced may be there not at all, in part, whole, or as zeros;
- "ordered" (ext4, xfs): changes of names reach the disk in their order, and any fsync takes all
  earlier ones along;
- "any" (all that POSIX promises): a change of a name is durable when its own folder was synced,
  and before that any subset of them may be (ALICE: Pillai et al., OSDI 2014).

A rename is one change, and so is an exchange.  Modes, owners and the words in the lock file are not modelled.
"""

# Paths are strings for the seam.
from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.faults.disks import FaultyDisk
from tests.faults.scenarios import Entry, Image

Mode = Literal["ordered", "any"]
MODES: tuple[Mode, ...] = ("ordered", "any")
MOST_SUBSETS = 6
"""With more unsynced changes of names than this, only prefixes and those with one left out."""

Node = int


@dataclass(frozen=True, slots=True)
class Names:
    """One atomic change of names in *folder*: None takes a name away, 0 is a folder."""

    folder: str
    change: dict[str, Node | None]


@dataclass(frozen=True, slots=True)
class Content:
    """A write at *offset*, or, without *data*, a cut to *offset* bytes."""

    node: Node
    offset: int
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Sync:
    """fsync of a file, or of a folder by its path."""

    what: Node | str


Step = Names | Content | Sync


@dataclass(slots=True)
class Log:
    """A starting state, durable as it stands, and what was done since."""

    image: Image
    names: dict[str, Node] = field(default_factory=dict)
    """Where every path leads at the start."""
    contents: dict[Node, bytes] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number, (path, (kind, _, content)) in enumerate(self.image.items(), start=1):
            self.names[path] = 0 if kind == "folder" else number
            if kind != "folder":
                self.contents[number] = content


class RecordingDisk(FaultyDisk):
    """A disk that logs; it can die like a faulty one, and be used again by the next process."""

    def __init__(self, base: Path, image: Image, *, exchanges: bool = True) -> None:
        super().__init__(exchanges=exchanges)
        self._base = str(base)
        self.log = Log(image)
        self._now = dict(self.log.names)
        self._next = len(image) + 1
        self._files: dict[int, tuple[Node, bool]] = {}
        self._folders: dict[int, str] = {}
        self._offsets: dict[int, int] = {}
        self._sizes = {node: len(data) for node, data in self.log.contents.items()}

    def resurrect(self, at: int = 0) -> None:
        """The next process, which has its own call numbers; it dies at call *at*."""
        self.bury()
        self.dead = False
        self.calls.clear()
        self.at = at

    def carry_out(self, name: str, *args: Any) -> Any:
        if name == "open":
            return self._open(*args)
        result = super().carry_out(name, *args)
        match name, args:
            case "write", (fd, data):
                node, append = self._files[fd]
                offset = self._sizes[node] if append else self._offsets[fd]
                self._log(Content(node, offset, bytes(data[:result])))
                self._offsets[fd] = offset + result
                self._sizes[node] = max(self._sizes[node], offset + result)
            case "truncate", (fd, size):
                node, _ = self._files[fd]
                self._log(Content(node, size, None))
                self._sizes[node] = size
            case "fsync", (fd,):
                self._log(Sync(self._folders[fd] if fd in self._folders else self._files[fd][0]))
            case (("rename" | "rename_new"), (source, target)):
                node = self._now[self._path(source)]
                self._name(source, {self._path(source): None, self._path(target): node})
            case "exchange", (one, other):
                pair: dict[str, Node | None] = {
                    self._path(one): self._now[self._path(other)],
                    self._path(other): self._now[self._path(one)],
                }
                self._name(one, pair)
            case (("unlink" | "rmdir"), (path,)):
                self._name(path, {self._path(path): None})
            case "mkdir", (path, _):
                self._name(path, {self._path(path): 0})
        return result

    def _open(self, path: str, flags: int, mode: int = 0o600) -> int:
        fd: int = super().carry_out("open", path, flags, mode)
        relative = self._path(path)
        self._folders.pop(fd, None)
        outside = relative.split(os.sep)[0] in (".", "..")  # the base, and what lies above it
        if outside or self._now.get(relative) == 0:
            self._folders[fd] = relative
            return fd
        if relative not in self._now:
            self._sizes[self._next] = 0
            self._name(path, {relative: self._next})
            self._next += 1
        node = self._now[relative]
        self._files[fd] = node, bool(flags & os.O_APPEND)
        self._offsets[fd] = 0
        if flags & os.O_TRUNC:
            self._log(Content(node, 0, None))
            self._sizes[node] = 0
        return fd

    def _path(self, path: str) -> str:
        return os.path.relpath(path, self._base)

    def _name(self, path: str, change: dict[str, Node | None]) -> None:
        self._log(Names(os.path.dirname(self._path(path)) or ".", change))
        for name, node in change.items():
            if node is None:
                del self._now[name]
            else:
                self._now[name] = node

    def _log(self, step: Step) -> None:
        self.log.steps.append(step)


def images(log: Log, upto: int, mode: Mode) -> Iterator[Image]:
    """The states of the disk after a power cut behind the first *upto* steps."""
    names: dict[str, Node | None] = dict(log.names)
    unsynced: list[Names] = []
    durable = dict(log.contents)
    current = dict(log.contents)
    stages: dict[Node, list[bytes]] = {}
    for step in log.steps[:upto]:
        if isinstance(step, Names):
            unsynced.append(step)
        elif isinstance(step, Content):
            before = current.get(step.node, b"")
            current[step.node] = _written(before, step)
            stages.setdefault(step.node, []).append(before)
        else:
            if not isinstance(step.what, str):
                durable[step.what] = current.get(step.what, b"")
                stages.pop(step.what, None)
            kept = []
            for each in unsynced:
                if mode == "ordered" or each.folder == step.what:
                    names.update(each.change)
                else:
                    kept.append(each)
            unsynced = kept
    for chosen in _chosen(unsynced, mode):
        there = dict(names)
        for each in chosen:
            there.update(each.change)
        yield from _contents(log, there, durable, current, stages)


def _written(before: bytes, step: Content) -> bytes:
    if step.data is None:
        return before[: step.offset]
    return (
        before[: step.offset].ljust(step.offset, b"\0")
        + step.data
        + before[step.offset + len(step.data) :]
    )


def _chosen(unsynced: list[Names], mode: Mode) -> Iterator[tuple[Names, ...]]:
    if mode == "ordered" or len(unsynced) > MOST_SUBSETS:
        for size in range(len(unsynced) + 1):
            yield tuple(unsynced[:size])
    if mode == "any" and len(unsynced) > MOST_SUBSETS:
        for gone in range(len(unsynced)):
            yield (*unsynced[:gone], *unsynced[gone + 1 :])
    elif mode == "any":
        for size in range(len(unsynced) + 1):
            yield from itertools.combinations(unsynced, size)


def _contents(
    log: Log,
    names: dict[str, Node | None],
    durable: dict[Node, bytes],
    current: dict[Node, bytes],
    stages: dict[Node, list[bytes]],
) -> Iterator[Image]:
    paths = [
        path
        for path in sorted(path for path, node in names.items() if node is not None)
        if all(names.get(parent) == 0 for parent in _parents(path))
    ]
    variants: list[list[Entry]] = []
    for path in paths:
        node = names[path]
        assert node is not None
        kind, mode, _ = log.image.get(
            path, ("folder", 0o700, b"") if node == 0 else ("file", 0o600, b"")
        )
        if node == 0:
            variants.append([("folder", mode, b"")])
        elif node not in stages or path.endswith("/lock"):
            variants.append([(kind, mode, current.get(node, b""))])
        else:
            found = _torn(durable.get(node, b""), current[node], stages[node])
            variants.append([(kind, mode, content) for content in found])
    for choice in itertools.product(*variants):
        yield dict(zip(paths, choice, strict=True))


def _parents(path: str) -> Iterator[str]:
    while path := os.path.dirname(path):
        yield path


def _torn(durable: bytes, current: bytes, between: list[bytes]) -> list[bytes]:
    """What may be found of a content that grew from *durable* to *current* without a sync."""
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(durable, current, strict=False))
    shared = sum(1 for _ in same)
    new = current[shared:]
    found = [durable, *between, current]
    for size in {1, len(new) // 2, len(new) - 1}:
        if 0 < size < len(new):
            found.append(current[: shared + size])
    found.append(current[:shared] + bytes(len(new)))
    return list(dict.fromkeys(found))
