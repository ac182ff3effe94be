"""Power cuts on real file systems, with QS_CERTS_LONG=1 only.

A process is stopped after one of its system calls; the image behind its file system is copied as it
is, without what still waits in memory; the copy is mounted, so that its journal is replayed, and
examined.  The model of `tests/faults/crash_states.py` knows more states; this is its reality check.
"""

from __future__ import annotations

import os
import re
import signal
import stat
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

if sys.platform != "linux":
    pytest.skip("only on Linux", allow_module_level=True)
assert sys.platform == "linux"  # for mypy

from qs_certs.files import Disk  # noqa: E402
from tests.durability.volumes import KINDS, CannotMount, Kind, run, unmount  # noqa: E402
from tests.faults.counting import Count  # noqa: E402
from tests.faults.scenarios import BY_NAME, Stage, Violation, examine, hold, stage  # noqa: E402
from tests.faults.traced import CALLS, STRACE, SUCCESS, Point, launch, trace  # noqa: E402

NAMES = ("foreign file", "no folder", "rollback to absence", "ours")
WRITING = "rename|renameat2|unlink|unlinkat|mkdir|rmdir|write|fsync|ftruncate|fchmod|fsetxattr"
_CALL = re.compile(rf"({WRITING}|openat)\(")
_COUNTED = re.compile(r"(\w+)\(")
PATIENCE = 20.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount"),
    pytest.mark.skipif(STRACE is None, reason="no strace on this machine"),
]


class Machine:
    """A file system in an image, always mounted at the same place: journals name paths."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind = kind
        self._image = folder / "disk"
        self._copy = folder / "copy"
        self.mount = folder / "mnt"
        self.scratch = folder / "scratch"

    def boot(self) -> None:
        self.mount.mkdir()
        (self.scratch / "tmp").mkdir(parents=True)
        self.kind.create(self._image)
        self.kind.mount(self._image, self.mount)

    def sync(self) -> None:
        run("sync", "--file-system", self.mount)

    def copy(self) -> None:
        """What is on the disk in this moment."""
        run("cp", "--sparse=always", "--reflink=auto", self._image, self._copy)

    def come_back(self) -> None:
        """Start again from the copy."""
        unmount(self.mount)
        self._copy.replace(self._image)
        self.kind.mount(self._image, self.mount)

    def shut_down(self) -> None:
        if os.path.ismount(self.mount):
            unmount(self.mount)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder in memory: a disk of its own would add its own delays."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="qs-certs-", dir="/dev/shm") as folder:
        yield Path(folder).resolve()


@pytest.fixture(params=[pytest.param(kind, id=kind.name) for kind in KINDS])
def machine(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Machine]:
    found = Machine(request.param, scratch)
    try:
        found.boot()
        yield found
    except CannotMount as refusal:
        pytest.skip(f"needs loop devices and {found.kind.name}: {refusal}")
    finally:
        found.shut_down()


def points(staged: Stage, machine: Machine) -> list[Point]:
    """The calls that change something on the disk."""
    baseline = trace(staged, machine.scratch / "trace", "-e", f"trace={CALLS}")
    assert baseline.status == SUCCESS
    seen: Counter[str] = Counter()
    found = []
    for line in baseline.trace.splitlines():
        counted = _COUNTED.match(line)
        if counted is None:
            continue
        seen[counted[1]] += 1
        if str(staged.place.base) in line and _CALL.match(line):
            if counted[1] == "openat" and "O_CREAT" not in line:
                continue
            found.append(Point(counted[1], seen[counted[1]]))
    return found


def cut(staged: Stage, machine: Machine, point: Point) -> None:
    """Cut the power after *point*, and examine what comes back.  Raises Violation."""
    inject = f"inject={point.name}:signal=STOP:when={point.number}"
    log = machine.scratch / "trace"
    log.unlink(missing_ok=True)
    options = ("-e", f"trace={point.name}", "-e", inject)
    child, strace = launch(staged, log, *options, ready=machine.sync)
    try:
        _wait_until_stopped(machine.scratch / "trace")
        machine.copy()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        strace.communicate(timeout=20)
    machine.come_back()
    examine(staged)


def _wait_until_stopped(log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while "--- stopped by SIGSTOP ---" not in log.read_text("utf-8", "replace"):
        hold(time.monotonic() < end, "the stop never struck", log.read_text("utf-8", "replace"))
        time.sleep(0.002)


def cut_after_success(staged: Stage, machine: Machine) -> None:
    """Cut the power when the command has just reported success."""
    log = machine.scratch / "trace"
    child, strace = launch(staged, log, "-e", "trace=rename", ready=machine.sync)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    machine.copy()
    strace.communicate(timeout=20)
    hold(status == SUCCESS, "the command failed", status)
    machine.come_back()
    hold(staged.place.content == staged.new, "success was reported, and the change is gone")
    examine(staged)


def prepared(name: str, machine: Machine) -> Stage:
    """The scenario on the mounted disk; what it starts from is durable before each run."""
    return stage(BY_NAME[name], machine.mount / name.replace(" ", "-"))


def test_after_a_power_cut_on_a_real_file_system_every_promise_holds(
    machine: Machine, count: Count
) -> None:
    broken: list[str] = []
    cuts = 0
    for name in NAMES:
        staged = prepared(name, machine)
        with staged.place.entered():
            for point in points(staged, machine):
                cuts += 1
                try:
                    cut(staged, machine, point)
                except Violation as violation:
                    broken.append(f"{name}, after {point}: {violation}"[:500])
            cuts += 1
            try:
                cut_after_success(staged, machine)
            except Violation as violation:
                broken.append(f"{name}, after success: {violation}"[:500])
    count(f"power cuts on {machine.kind.name}: cuts", cuts)
    count("power cuts on real file systems: violations", len(broken))
    assert not broken, f"{len(broken)} of {cuts}:\n" + "\n".join(broken[:20])
    assert cuts >= 100


@pytest.mark.parametrize(
    "machine", [pytest.param(kind, id=kind.name) for kind in KINDS[1:3]], indirect=True
)
def test_without_syncs_of_files_the_same_cuts_do_damage(machine: Machine, count: Count) -> None:
    """The control."""
    sync = Disk.fsync

    def folders_only(disk: Disk, fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            sync(disk, fd)

    broken = 0
    with mock.patch.object(Disk, "fsync", folders_only):
        staged = prepared("foreign file", machine)
        with staged.place.entered():
            for point in points(staged, machine):
                try:
                    cut(staged, machine, point)
                except Violation:
                    broken += 1
    count("power cuts without syncs of files: damage that is seen", broken)
    assert broken > 0
