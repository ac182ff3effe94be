"""Disks that are full, read-only or limited: the program says so, and nothing is changed."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("only on Linux", allow_module_level=True)
assert sys.platform == "linux"  # for mypy

import resource  # noqa: E402

from tests.durability.actors import Acting  # noqa: E402
from tests.durability.conftest import LONG  # noqa: E402
from tests.durability.volumes import EXT4, CannotMount, in_memory, mounted, run  # noqa: E402
from tests.faults.counting import Count  # noqa: E402
from tests.faults.scenarios import (  # noqa: E402
    FOREIGN,
    G2,
    LITTER,
    Place,
    history_holds,
    pem,
)
from tests.program import Done, Program, Snapshot, snapshot  # noqa: E402

PAGE = 4096
OLD = FOREIGN + b"\n" + b"# a long file: two pages\n" * 250
NEW = OLD + pem(G2)
INSTALL = ("install", "--offline")


class World:
    """A home on a file system that can be filled."""

    def __init__(self, mount: Path) -> None:
        self.mount = mount
        self.program = Program(mount / "home")
        self._filling = mount / "filling"

    def reset(self) -> None:
        for name in ("home", "filling"):
            shutil.rmtree(self.mount / name, ignore_errors=True)
        self.program.root_file.parent.mkdir(parents=True)
        self.program.root_file.write_bytes(OLD)

    def fill(self, free: int, names: int | None) -> None:
        """Leave room for *free* pages, and for *names* more files and folders."""
        self._filling.mkdir()
        with contextlib.suppress(OSError), (self._filling / "data").open("wb", 0) as file:
            while True:
                file.write(bytes(PAGE))
        with (self._filling / "data").open("r+b") as file:
            file.truncate(max(0, file.seek(0, os.SEEK_END) - free * PAGE))
        if names is None:
            return
        made: list[Path] = []
        with contextlib.suppress(OSError):
            while True:
                path = self._filling / str(len(made))
                path.touch()
                made.append(path)
        for path in made[len(made) - names :] if names else []:
            path.unlink()

    def free(self) -> None:
        shutil.rmtree(self._filling)

    @property
    def litter(self) -> list[str]:
        found = (name for _, _, names in os.walk(self.program.home) for name in names)
        return [name for name in found if LITTER.match(name)]


@contextlib.contextmanager
def full_world(folder: Path, kind: str) -> Iterator[World]:
    try:
        with contextlib.ExitStack() as stack:
            if kind == "tmpfs":
                stack.enter_context(in_memory(folder / "mnt", size=64 * PAGE, names=60))
            else:
                EXT4.create(folder / "disk")
                options = ("-o", EXT4.options, folder / "disk")
                stack.enter_context(mounted(folder / "mnt", *options))
            yield World(folder / "mnt")
    except CannotMount as refusal:
        pytest.skip(f"needs the right to mount: {refusal}")


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[World]:
    with full_world(tmp_path, "tmpfs") as world:
        world.reset()
        yield world


def facts(world: World) -> Snapshot:
    """All about the files beside the target; the folder's own time tells of a temporary one."""
    found = snapshot(world.program.root_file.parent)
    del found["."]
    return found


def judge(
    world: World, done: Done, before: Snapshot, *, why: str, codes: tuple[int, ...] = (6,)
) -> None:
    """Changed and said so, or refused: clearly, with exit code 6, and nothing changed."""
    target = world.program.root_file
    assert world.litter == [], done
    if done.code == 0:
        assert target.read_bytes() == NEW, done
        return
    assert done.code in codes, done
    assert target.read_bytes() == OLD, done
    assert facts(world) == before, done
    assert "not changed" in done.out, done
    assert why in done.err, done
    assert done.err.count("qs-certs: error") == 1, done


def recovers(world: World) -> None:
    """With room again, everything works as if nothing had been."""
    program = world.program
    program.ok(*INSTALL)
    assert program.root_file.read_bytes() == NEW
    program.ok("rollback")
    assert program.root_file.read_bytes() == OLD
    assert world.litter == []


KINDS = ("tmpfs", "ext4") if LONG else ("tmpfs",)
PAGES = range(20)
NAMES = (0, 2, 4, 6, 8, 10, 12, 16, 20)
SHOWN = 20
"""Every so many runs, the whole program is asked instead of its function: that takes longer."""


@pytest.mark.parametrize("kind", KINDS)
def test_on_a_full_disk_the_file_is_old_or_new(kind: str, tmp_path: Path, count: Count) -> None:
    grid = [(pages, names) for pages in PAGES for names in (NAMES if kind == "tmpfs" else (None,))]
    refused = 0
    with full_world(tmp_path, kind) as world:
        place = Place(world.mount)
        for number, (pages, names) in enumerate(grid):
            world.reset()
            before = facts(world)
            world.fill(pages, names)
            if number % SHOWN == 0:
                judge(world, world.program(*INSTALL), before, why=os.strerror(errno.ENOSPC))
            else:
                with place.entered():
                    error = place.install(G2).error
                assert error is None or error.exit_code == 6, error
                assert place.content == (OLD if error else NEW), error
                assert error is None or facts(world) == before, error
                assert world.litter == [], error
            refused += place.content == OLD
            world.free()
            with place.entered():
                # With room again, everything works as if nothing had been.
                assert place.content == NEW or place.install(G2).status == "changed"
                assert place.content == NEW
                assert place.rollback().status == "changed"
                assert place.content == OLD
                history_holds(place)
    count(f"full disk, {kind}: runs", len(grid))
    count(f"full disk, {kind}: refused, and nothing changed", refused)
    assert 0 < refused < len(grid)


@pytest.mark.parametrize("words", [INSTALL, ("rollback",), ("remove",)], ids=" ".join)
def test_on_a_read_only_disk_nothing_happens(tmpfs: World, words: tuple[str, ...]) -> None:
    if words != INSTALL:
        tmpfs.program.ok(*INSTALL)
    before = snapshot(tmpfs.mount)
    run("mount", "-o", "remount,ro", tmpfs.mount)
    done = tmpfs.program(*words)
    assert (done.code, snapshot(tmpfs.mount)) == (6, before), done
    assert os.strerror(errno.EROFS) in done.err
    run("mount", "-o", "remount,rw", tmpfs.mount)
    tmpfs.program.ok(*words)  # the control


# --- limits of the process ------------------------------------------------------------------------


def limited(world: World, which: int, limit: Callable[[], int]) -> Done:
    """`install` in a process with a limit of its own."""

    def work() -> Done:
        soft = limit()
        resource.setrlimit(which, (soft, resource.getrlimit(which)[1]))
        return world.program(*INSTALL)

    with Acting() as start:
        outcome = start(work).outcome()
        assert outcome is not None
        return outcome


@pytest.fixture
def plain(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.reset()
    return world


@pytest.mark.parametrize("size", [0, 1, 100, 700, 1500, 4096, 7000, 8500, 1 << 20])
def test_where_files_may_not_grow_nothing_is_torn(plain: World, size: int, count: Count) -> None:
    """RLIMIT_FSIZE: a real short write, then EFBIG."""
    before = facts(plain)
    done = limited(plain, resource.RLIMIT_FSIZE, lambda: size)
    judge(plain, done, before, why=os.strerror(errno.EFBIG))
    assert (done.code == 0) == (size > len(NEW)), done
    count("limits of the process: runs", 1)
    recovers(plain)


@pytest.mark.parametrize("more", range(7))
def test_without_descriptors_nothing_is_torn(plain: World, more: int, count: Count) -> None:
    """RLIMIT_NOFILE: *more* descriptors can still be opened.  With none, nothing can be read."""

    def limit() -> int:
        free = [os.open(os.devnull, os.O_RDONLY) for _ in range(more + 1)]
        for fd in free:
            os.close(fd)
        return free[-1]

    before = facts(plain)
    done = limited(plain, resource.RLIMIT_NOFILE, limit)
    judge(plain, done, before, why=os.strerror(errno.EMFILE), codes=(4, 6))
    count("limits of the process: runs", 1)
    recovers(plain)
