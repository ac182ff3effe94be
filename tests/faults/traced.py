"""A command in a process of its own, with one of its system calls killed or failed by strace.

The process is forked from this one, which has loaded everything, and waits until strace has
attached: so its calls are the same in every run, and `when=N` hits the one that was meant.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from qs_certs.errors import ChangedUnconfirmed, QsCertsError
from qs_certs.files import DISK
from tests.faults.scenarios import Stage, hold, judge_answer

assert sys.platform == "linux"

STRACE = shutil.which("strace")
_LIBC = ctypes.CDLL(None)
CALLS = "%file,%desc"
_LINE = re.compile(r"(\w+)\(")
_PR_SET_PTRACER = 0x59616D61
SUCCESS, UNTOUCHED, UNCONFIRMED, ESCAPED = 0, 6, 7, 70


@dataclass(frozen=True, slots=True)
class Point:
    """The *number*-th call of the system call *name*."""

    name: str
    number: int


@dataclass(frozen=True, slots=True)
class Traced:
    """How the process ended, and what strace saw."""

    status: int
    trace: str

    @property
    def killed(self) -> bool:
        return self.status == -signal.SIGKILL

    @property
    def struck(self) -> bool:
        return "(INJECTED)" in self.trace or "+++ killed by SIGKILL" in self.trace


def trace(staged: Stage, log: Path, *options: str) -> Traced:
    """Run the command of *staged*, from its starting state, under strace with *options*."""
    child, strace = launch(staged, log, *options)
    try:
        _, status = os.waitpid(child, 0)
    finally:
        strace.communicate(timeout=20)
    return Traced(os.waitstatus_to_exitcode(status), log.read_text("utf-8", "replace"))


def launch(
    staged: Stage, log: Path, *options: str, ready: Callable[[], None] = lambda: None
) -> tuple[int, subprocess.Popen[str]]:
    """The same, without waiting: the running child, and its strace.  Who calls reaps both.

    *ready* is called between the starting state and the start.
    """
    assert STRACE is not None
    staged.reset()
    ready()
    # Waiting for a signal makes no call that is counted; waiting for a byte would.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    with warnings.catch_warnings():
        # The workers of pytest-xdist have threads; the child uses nothing of theirs.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _run(staged, log.parent)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    strace = subprocess.Popen(
        [STRACE, "-qq", "-y", "-o", str(log), "-p", str(child), *options],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _wait_until_attached(child, strace)
        os.kill(child, signal.SIGUSR1)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        strace.communicate(timeout=20)
        raise
    return child, strace


def _wait_until_attached(child: int, strace: subprocess.Popen[str]) -> None:
    path = Path(f"/proc/{child}/status")
    while f"TracerPid:\t{strace.pid}\n" not in path.read_text():
        if strace.poll() is not None:
            stderr: IO[str] | None = strace.stderr
            raise CannotTrace("" if stderr is None else stderr.read())


class CannotTrace(Exception):
    """This machine does not let strace attach."""


def _run(staged: Stage, folder: Path) -> None:
    code = ESCAPED
    try:
        # Where Yama lets only a parent trace (ptrace(2)), the child has to agree.
        _LIBC.prctl(_PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)
        tempfile.tempdir = str(folder / "tmp")
        signal.sigwait({signal.SIGUSR1})
        error = staged.scenario.command(staged.place, DISK).error
        if error is None:
            code = SUCCESS
        elif isinstance(error, ChangedUnconfirmed):
            code = UNCONFIRMED
        elif isinstance(error, QsCertsError):
            code = UNTOUCHED
    finally:
        os._exit(code)


def points(staged: Stage, folder: Path) -> list[Point]:
    """Every call of the command that touches the arena or its temporary folder."""
    (folder / "tmp").mkdir(exist_ok=True)
    baseline = trace(staged, folder / "trace", "-e", f"trace={CALLS}")
    seen: Counter[str] = Counter()
    found = []
    for line in baseline.trace.splitlines():
        match = _LINE.match(line)
        if match is not None:
            seen[match[1]] += 1
            if str(folder) in line:
                found.append(Point(match[1], seen[match[1]]))
    return found


def strike(staged: Stage, folder: Path, point: Point, fault: str) -> Traced:
    """Run the command with *fault* (`signal=KILL`, `error=EIO`) at *point*, and prove it struck."""
    inject = f"inject={point.name}:{fault}:when={point.number}"
    done = trace(staged, folder / "trace", "-e", f"trace={point.name}", "-e", inject)
    hold(done.struck, "the fault never struck", point, fault)
    return done


def judge_status(staged: Stage, traced: Traced) -> None:
    """What the process said with its exit code must be what it did."""
    if traced.killed:
        return
    said = {
        SUCCESS: None,
        UNCONFIRMED: ChangedUnconfirmed("changed, unconfirmed"),
        UNTOUCHED: QsCertsError("nothing was changed"),
    }
    hold(traced.status in said, "an error that is not ours escaped", traced.status)
    judge_answer(staged, said[traced.status])


ERRNOS = ("EIO", "ENOSPC", "EACCES", "EMFILE")
LONG_ERRNOS = (*ERRNOS, "EROFS", "EDQUOT", "ESTALE", "EPERM", "ENOMEM")
assert all(hasattr(errno, name) for name in LONG_ERRNOS)
