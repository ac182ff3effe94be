"""File systems of our own: in memory, or in an image file behind a loop device.

What is mounted here is unmounted at the end, lazily where it is still in use.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


class CannotMount(Exception):
    """This machine does not let us mount, or lacks the file system."""


def run(*words: str | Path) -> None:
    """Raises CannotMount with what the tool said."""
    try:
        done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    except OSError as error:
        raise CannotMount(str(error)) from error
    if done.returncode != 0:
        raise CannotMount(f"{' '.join(map(str, words))}: {done.stderr.strip()}")


def unmount(folder: Path) -> None:
    """For good: the loop device goes with it.  Raises CannotMount."""
    try:
        run("umount", folder)
    except CannotMount:
        run("umount", "-l", folder)
        raise


@contextlib.contextmanager
def mounted(folder: Path, *words: str | Path) -> Iterator[Path]:
    """`mount *words* folder`, until the end.  Raises CannotMount."""
    folder.mkdir(exist_ok=True)
    run("mount", *words, folder)
    try:
        yield folder
    finally:
        if os.path.ismount(folder):
            unmount(folder)


def in_memory(folder: Path, *, size: int, names: int) -> contextlib.AbstractContextManager[Path]:
    """A file system of *size* bytes that can hold *names* files and folders."""
    options = f"size={size},nr_inodes={names},mode=0755"
    return mounted(folder, "-t", "tmpfs", "-o", options, "tmpfs")


@dataclass(frozen=True, slots=True)
class Kind:
    """A file system as it is made and mounted.  *size* is the least that its tool makes, or more."""

    name: str
    make: tuple[str, ...]
    size: int
    options: str = "loop"
    before: tuple[tuple[str, ...], ...] = ()
    """Commands before a mount."""

    def create(self, image: Path) -> None:
        image.unlink(missing_ok=True)
        with image.open("wb") as file:
            file.truncate(self.size)
        run(*self.make, image)

    def mount(self, image: Path, folder: Path) -> None:
        for words in self.before:
            run(*words)
        run("mount", "-o", self.options, image, folder)


MIB = 1024 * 1024
EXT4 = Kind("ext4", ("mkfs.ext4", "-q", "-F"), 16 * MIB)
KINDS = (
    EXT4,
    Kind("ext4, noauto_da_alloc", EXT4.make, EXT4.size, "loop,noauto_da_alloc"),
    Kind("xfs", ("mkfs.xfs", "-q", "-f"), 300 * MIB, "loop,nouuid"),
    # The kernel remembers devices, and takes a copy of an older state for a stale one.
    Kind(
        "btrfs",
        ("mkfs.btrfs", "-q", "-f", "--mixed"),
        64 * MIB,
        before=(("btrfs", "device", "scan", "--forget"),),
    ),
)
