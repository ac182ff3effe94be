"""Accounts are worked for side by side: which results come back, in which order, and what is left.

The accounts need no entry in the user database and no home: their numbers are enough.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from qs_certs import rights
from qs_certs.accounts import Account
from qs_certs.errors import CouldNotTell, CouldNotWrite, QsCertsError, TargetRefused
from qs_certs.rights import AT_ONCE, Task, side_by_side
from tests.people import made, name_of
from tests.program import SOURCE

if sys.platform != "linux":
    pytest.skip("only on Linux: /proc tells what is left", allow_module_level=True)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to work for others")

PATIENCE = 20
"""Seconds after which a child that waits in vain is killed."""


def user(number: int) -> Account:
    return Account(f"user{number}", 300_000 + number, 300_000 + number, "/")


def outcome(account: Account, work: Callable[[], object]) -> Task[object]:
    """What *work* returns, or the error that it raises."""

    def conclude(returned: Callable[[], object]) -> object:
        try:
            return returned()
        except QsCertsError as error:
            return error

    return Task(account, work).then(conclude)


def in_parallel(*works: Callable[[], object]) -> list[object]:
    """Each for a user of its own."""
    return side_by_side([outcome(user(number), work) for number, work in enumerate(works)])


def open_files() -> set[int]:
    """Found without /proc, which a process that gave up root's rights cannot look at."""
    found = set()
    for number in range(256):
        with contextlib.suppress(OSError):
            os.fstat(number)
            found.add(number)
    return found


def children() -> set[str]:
    """Those of this process, also the dead that nobody waited for."""
    here = os.getpid()
    return set(Path(f"/proc/{here}/task/{here}/children").read_text("ascii").split())


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = open_files(), children()
    yield
    assert (open_files(), children()) == before


class Relay:
    """Runners of whom each waits for the next one to have run: none ends unless all are at work."""

    def __init__(self, length: int, patience: int = PATIENCE) -> None:
        self._pipes = [os.pipe() for _ in range(length)]
        self._patience = patience
        self.finish, self._line = os.pipe()

    def run(self, number: int) -> int:
        signal.alarm(self._patience)
        for reading, _ in self._pipes[number + 1 : number + 2]:
            os.read(reading, 1)
        os.write(self._line, bytes([number]))
        os.write(self._pipes[number][1], b".")
        return number

    def works(self) -> list[Callable[[], object]]:
        return [partial(self.run, number) for number in range(len(self._pipes))]

    def close(self) -> bytes:
        """The order in which they finished."""
        os.close(self._line)
        order = os.read(self.finish, 256)
        for each in (self.finish, *(end for pipe in self._pipes for end in pipe)):
            os.close(each)
        return order


# --- order and number -----------------------------------------------------------------------------


def test_all_of_a_window_are_at_work_and_the_results_are_in_the_order_of_the_accounts() -> None:
    told: list[tuple[int, int]] = []
    relay = Relay(AT_ONCE)
    try:
        tasks = [outcome(user(number), work) for number, work in enumerate(relay.works())]
        found = side_by_side(tasks, lambda done, of: told.append((done, of)))
    finally:
        order = relay.close()
    assert found == list(range(AT_ONCE))
    assert list(order) == list(reversed(range(AT_ONCE))), "a control: they ended the other way"
    assert told == [(done, AT_ONCE) for done in range(1, AT_ONCE + 1)]


def test_no_more_than_a_window_are_at_work() -> None:
    """One more than that, and the first wait for one that never begins."""
    relay = Relay(AT_ONCE + 1, patience=1)
    try:
        found = in_parallel(*relay.works())
    finally:
        relay.close()
    assert isinstance(found[0], CouldNotTell)
    assert found[-1] == AT_ONCE, "its turn came when one of them had died"


@pytest.mark.parametrize("window", [1, 3])
def test_the_window_is_what_it_says(monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    monkeypatch.setattr(rights, "AT_ONCE", window)
    before, parent = len(children()), os.getpid()

    def work() -> int:
        time.sleep(0.02)
        return len(Path(f"/proc/{parent}/task/{parent}/children").read_text("ascii").split())

    most = [found - before for found in in_parallel(*[work] * 12) if isinstance(found, int)]
    assert len(most) == 12
    assert 1 <= max(most) <= window


@pytest.mark.parametrize(
    ("numbers", "order"),
    [
        pytest.param((1, 1), b"12", id="the same user"),
        pytest.param((1, 2), b"21", id="control: two users"),
    ],
)
def test_two_for_the_same_user_never_overlap(numbers: tuple[int, int], order: bytes) -> None:
    reading, writing = os.pipe()

    def work(mark: bytes, seconds: float) -> None:
        time.sleep(seconds)
        os.write(writing, mark)

    first, second = (user(number) for number in numbers)
    try:
        side_by_side(
            [Task(first, lambda: work(b"1", 1.0)), Task(second, lambda: work(b"2", 0.0))],
        )
        assert os.read(reading, 2) == order
    finally:
        os.close(reading)
        os.close(writing)


def test_own_work_is_done_here_among_that_for_others() -> None:
    tasks: list[Task[object]] = [
        outcome(user(1), os.getpid),
        Task(None, lambda: (os.getpid(), os.geteuid())),
        outcome(user(2), os.geteuid),
    ]
    first, own, other = side_by_side(tasks)
    assert own == (os.getpid(), 0)
    assert (first != os.getpid(), other) == (True, 300_002)


def test_what_is_concluded_is_what_the_work_returned_or_raised() -> None:
    def refuse() -> NoReturn:
        raise TargetRefused("no", why="because")

    task = Task(user(1), lambda: 20).then(lambda returned: returned() + 1)
    refused: Task[int] = Task(user(2), refuse).then(lambda returned: returned())
    assert (task.run(), side_by_side([task.then(lambda so_far: so_far() * 2)])) == (21, [42])
    with pytest.raises(TargetRefused, match="no"):
        side_by_side([task, refused])
    with pytest.raises(TargetRefused, match="no"):
        refused.run()


# --- the pipes ------------------------------------------------------------------------------------


def test_a_child_has_nobody_else_s_pipe_and_none_of_root_s_rights() -> None:
    """The last of a window is forked while all the others are at work."""
    before = open_files()
    relay = Relay(AT_ONCE)
    shared = open_files() - before

    def looking(work: Callable[[], object]) -> Callable[[], object]:
        def look() -> object:
            found = open_files()
            work()
            return len(found - before - shared), os.getresuid(), os.getresgid()

        return look

    try:
        found = in_parallel(*map(looking, relay.works()))
    finally:
        relay.close()
    ids = [(number,) * 3 for number in range(300_000, 300_000 + AT_ONCE)]
    assert found == [(1, each, each) for each in ids]


def test_answers_that_no_pipe_holds_come_whole() -> None:
    size = 1 << 20
    assert in_parallel(*[lambda: b"x" * size] * 12) == [b"x" * size] * 12


def test_a_long_answer_is_taken_while_an_earlier_child_is_still_at_work() -> None:
    """Otherwise the second would be held up by the first, which waits for it to be gone."""
    reading, writing = os.pipe()

    def first() -> bool:
        signal.alarm(PATIENCE)
        other = os.read(reading, 16).decode()
        while Path("/proc", other).exists():
            time.sleep(0.01)
        return True

    def second() -> bytes:
        signal.alarm(PATIENCE)
        os.write(writing, str(os.getpid()).encode())
        return b"x" * (1 << 20)

    try:
        assert in_parallel(first, second) == [True, b"x" * (1 << 20)]
    finally:
        os.close(reading)
        os.close(writing)


# --- what goes wrong ------------------------------------------------------------------------------


def test_a_child_that_is_killed_leaves_the_others_of_its_window_alone() -> None:
    relay = Relay(AT_ONCE)
    works = relay.works()

    def killed() -> None:
        relay.run(3)
        os.kill(os.getpid(), signal.SIGKILL)

    works[3] = killed
    try:
        found = in_parallel(*works, os.geteuid)
    finally:
        relay.close()
    died = found.pop(3)
    assert isinstance(died, CouldNotTell)
    assert "user3 ended without an answer" in died.message
    assert found == [0, 1, 2, 4, 5, 6, 7, 300_008]


@pytest.mark.parametrize("call", ["fork", "pipe"])
@pytest.mark.parametrize("ever", [False, True], ids=["while others are at work", "for ever"])
def test_what_the_machine_does_not_spare_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, call: str, ever: bool
) -> None:
    usual, asked = getattr(os, call), os.getgrouplist
    at: list[str] = []
    failures: list[str] = []

    def asking(name: str, gid: int) -> list[int]:
        at.append(name)
        return asked(name, gid)

    def failing() -> object:
        if at[-1] == "user3" and (ever or not failures):
            failures.append(at[-1])
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        return usual()

    monkeypatch.setattr(os, "getgrouplist", asking)
    monkeypatch.setattr(os, call, failing)
    found = in_parallel(*[os.geteuid] * 6)
    third = found.pop(3)
    assert found == [300_000, 300_001, 300_002, 300_004, 300_005]
    assert failures
    if ever:
        assert isinstance(third, CouldNotWrite)
        assert (third.message, third.why) == (
            "the work for user user3 could not begin",
            "Resource temporarily unavailable",
        )
    else:
        assert third == 300_003


def test_every_child_is_waited_for_whatever_is_raised_here(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The first is concluded with a bug while the others are at work; they end in their own time."""

    def conclude(returned: Callable[[], object]) -> NoReturn:
        returned()
        raise ZeroDivisionError

    def slow() -> None:
        time.sleep(0.3)
        os.write(1, b"ended\n")

    bug: Task[None] = Task(user(0), os.getpid).then(conclude)
    tasks = [bug, *(Task(user(number), slow) for number in (1, 2, 3))]
    with pytest.raises(ZeroDivisionError):
        side_by_side(tasks)
    assert capfd.readouterr().out == "ended\n" * 3


def test_children_that_the_system_waits_for_are_no_surprise() -> None:
    """SIGCHLD is ignored where the program that called this one said so."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert in_parallel(os.geteuid, os.geteuid) == [300_000, 300_001]
        assert rights.run_as(user(2), os.geteuid) == 300_002
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.mark.parametrize("told", [True, False])
def test_after_ctrl_c_those_at_work_end_and_no_other_begins(
    monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    """The signal comes to this process alone, while two are at work; each work is done once."""
    monkeypatch.setattr(rights, "AT_ONCE", 2)
    reading, writing = os.pipe()

    def work(mark: bytes) -> bytes:
        if mark == b"b":
            os.write(writing, b"!")
            time.sleep(0.2)
        os.write(writing, mark)
        return mark

    def progress(done: int, of: int) -> None:
        if done == 1:
            # To this thread, as in a program of one: another might take it.
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    marks = (b"a", b"b", b"c", b"d")
    tasks = [outcome(user(n), partial(work, mark)) for n, mark in enumerate(marks)]
    try:
        if told:
            found = side_by_side(tasks, progress)
            assert found[:2] == [b"a", b"b"]
            assert [str(each) for each in found[2:]] == [
                "interrupted before the turn of this user came; nothing was changed"
            ] * 2
        else:
            with pytest.raises(KeyboardInterrupt):
                side_by_side(tasks, progress, told=False)
        assert sorted(os.read(reading, 16)) == sorted(b"!ab")
        assert signal.SIGINT not in signal.sigpending()
        assert side_by_side(tasks[:1]) == [b"a"], "a control: nothing is held back any more"
    finally:
        os.close(reading)
        os.close(writing)


# --- the accounts that tests make -----------------------------------------------------------------

_KILLED = """\
import sys, time
from tests.people import made, real_sudo
with made(["gone"]) as (gone,), real_sudo(gone):
    print(gone.name, gone.home, flush=True)
    time.sleep(60)
"""


def test_the_accounts_of_a_killed_run_are_gone_after_the_next() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED], cwd=SOURCE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        line = run.stdout.readline().split()
        if not line:
            pytest.skip("needs useradd and sudo")
        name, home = line
        rule = Path("/etc/sudoers.d", f"qs-certs-{name}")
        with made(["here"]) as (here,):
            assert (Path(home).exists(), rule.exists()) == (True, True), "it lives"
            assert here.name == name_of("here")
            run.kill()
            run.wait()
            with made(["there"]):
                assert (Path(home).parent.exists(), rule.exists()) == (False, False)
                assert Path(here.home).exists(), "a control: this run lives"
    assert name not in Path("/etc/passwd").read_text("utf-8")
