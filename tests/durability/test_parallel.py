"""Many at once: our own processes, two stores on one file, and editors that take no lock."""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import re
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest

if sys.platform == "win32":
    pytest.skip("only on POSIX", allow_module_level=True)
assert sys.platform != "win32"  # for mypy

from qs_certs import bundle, files  # noqa: E402
from qs_certs.errors import CouldNotWrite, LockTimeout, StoreTampered  # noqa: E402
from qs_certs.journal import digest  # noqa: E402
from qs_certs.store import Store  # noqa: E402
from tests.durability.actors import (  # noqa: E402 - they fork
    Acting,
    Outcome,
    gate,
    install,
    remove,
    root,
    told,
)
from tests.durability.conftest import LONG  # noqa: E402
from tests.faults.counting import Count  # noqa: E402
from tests.faults.scenarios import Place, history_holds, litter  # noqa: E402
from tests.faults.test_editors import EditedDisk  # noqa: E402

ROUNDS = int(os.environ.get("QS_CERTS_ROUNDS", "200" if LONG else "1"))
SECONDS = 60.0 if LONG else 3.0
OTHERS = root(999)
BASE = b"# somebody's\n" + OTHERS.pem
PATIENT = 120.0
"""Seconds: nobody may fail because this machine is busy."""


@pytest.fixture
def place(arena: Path) -> Iterator[Place]:
    with fresh(arena) as found:
        yield found


@contextmanager
def fresh(arena: Path) -> Iterator[Place]:
    arena.mkdir(exist_ok=True)
    place = Place(arena / str(time.monotonic_ns()))
    place.target.parent.mkdir(parents=True)
    place.target.write_bytes(BASE)
    with place.entered():
        yield place


def fingerprints(content: bytes | None) -> frozenset[str]:
    return frozenset(bundle.parse(content or b"").fingerprints)


def at_once(works: list[Callable[[], Outcome]]) -> list[Outcome]:
    """Every work in a process of its own, all let go in one moment."""
    with gate() as (wait, let_go), Acting() as start:

        def waiting(work: Callable[[], Outcome]) -> Callable[[], Outcome]:
            def run() -> Outcome:
                wait()
                return work()

            return run

        actors = [start(waiting(work)) for work in works]
        let_go()
        outcomes = [actor.outcome() for actor in actors]
    found = [outcome for outcome in outcomes if outcome is not None]
    assert len(found) == len(works)
    return found


# --- our own processes ------------------------------------------------------------------------


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 64 processes on a busy machine the last one waits longer than users would."""
    waiting = Store.writing.__wrapped__  # type: ignore[attr-defined]
    monkeypatch.setattr(waiting, "__defaults__", (PATIENT,))


@pytest.mark.usefixtures("patience")
def test_64_at_once_all_survive(arena: Path, count: Count) -> None:
    roots = [root(number) for number in range(64)]
    for _ in range(ROUNDS):
        with fresh(arena) as place:
            outcomes = at_once([lambda each=each: told(install(place, each)) for each in roots])  # type: ignore[misc]
            assert [each.error for each in outcomes] == [None] * 64, outcomes
            assert fingerprints(place.content) == {OTHERS.sha256, *(r.sha256 for r in roots)}
            assert place.changes == 64
            history_holds(place)
    count("parallel: rounds of 64 processes, with all 64 roots at the end", ROUNDS)


@pytest.mark.usefixtures("patience")
def test_32_mixed_commands_are_as_if_done_one_after_the_other(arena: Path, count: Count) -> None:
    for _ in range(ROUNDS):
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        chance = random.Random(seed)
        with fresh(arena) as place:
            works = [_command(place, chance) for _ in range(32)]
            outcomes = at_once(works)
            assert [each.error for each in outcomes] == [None] * 32, outcomes
            replay(place)
            reported = sorted(each.change for each in outcomes if each.change is not None)
            entries = Store(place.store).changes(str(place.target))
            assert reported == [entry.change.id for entry in entries]
            history_holds(place)
            assert litter(place.base) == []
    count("parallel: rounds of 32 mixed commands, equal to a serial order", ROUNDS)


def _command(place: Place, chance: random.Random) -> Callable[[], Outcome]:
    certificate = root(chance.randrange(6))
    kind = chance.choice(("install", "install", "remove", "rollback"))
    if kind == "install":
        return lambda: told(install(place, certificate))
    if kind == "remove":
        return lambda: told(remove(place, certificate))
    return lambda: told(place.rollback())


def replay(place: Place) -> None:
    """Carry out the journal on a model: each change does to sets of roots what its command means."""
    store = Store(place.store)
    now, roots = digest(BASE), fingerprints(BASE)
    earlier: list[tuple[str | None, str | None]] = []
    for entry in store.changes(str(place.target)):
        change = entry.change
        assert change.before == now, change
        after = fingerprints(store.content(change.after))
        added = {_fingerprint(name) for name in change.added}
        removed = {_fingerprint(name) for name in change.removed}
        assert after == (roots | added) - removed, change
        match change.command:
            case "install":
                assert len(added) == 1
                assert not removed
            case "remove":
                assert len(removed) == 1
                assert not added
            case _:
                assert (change.after, change.before) in earlier, change
        earlier.append((change.before, change.after))
        assert change.after is not None
        now, roots = change.after, after
    assert digest(place.content or b"") == now


def _fingerprint(name: str) -> str:
    assert re.fullmatch("[0-9a-f]{64}", name)  # no root of the catalogue is used here
    return name


def test_a_history_out_of_order_is_seen(place: Place) -> None:
    """The control of the replay."""
    install(place, root(0))
    install(place, root(1))
    replay(place)
    changed = (place.content or b"") + b"# later\n"
    place.target.write_bytes(changed)
    with pytest.raises(AssertionError):
        replay(place)


# --- waiting for the lock -------------------------------------------------------------------------


def _hold(place: Place, ready: mmap.mmap) -> None:
    with Store(place.store).writing():
        ready[0] = 1
        time.sleep(600)


def test_waiting_has_an_end_and_names_the_holder(place: Place) -> None:
    ready = mmap.mmap(-1, 8)
    with Acting() as start:
        holder = start(lambda: _hold(place, ready))
        while not ready[0]:
            time.sleep(0.002)
        begun = time.monotonic()
        named = pytest.raises(LockTimeout, match=f"process {holder.pid} since")
        with named, Store(place.store).writing(timeout=0.3):
            pass
        assert 0.3 <= time.monotonic() - begun < 3
        assert place.content == BASE


def test_a_killed_holder_blocks_nobody(place: Place, count: Count) -> None:
    longest = 0.0
    for _ in range(20):
        ready = mmap.mmap(-1, 8)
        with Acting() as start:
            holder = start(lambda ready=ready: _hold(place, ready))  # type: ignore[misc]
            while not ready[0]:
                time.sleep(0.002)

            def waits() -> float:
                with Store(place.store).writing():
                    return time.monotonic()

            waiter = start(waits)
            time.sleep(0.05)
            killed = time.monotonic()
            holder.kill()
            got = waiter.outcome()
            assert got is not None
            longest = max(longest, got - killed)
    count("parallel: locks freed by killing their holder", 20)
    count("parallel: milliseconds until the waiter had one, at most", round(longest * 1000))
    assert longest < 2


# --- two stores on one file -----------------------------------------------------------------------

NOBODY = 65534


def _as(user: int, work: Callable[[], Outcome]) -> Callable[[], Outcome]:
    def run() -> Outcome:
        if user:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        return work()

    return run


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux, where names are exchanged")
@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize(
    "second",
    [
        0,
        pytest.param(
            NOBODY,
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="needs root: two users"),
        ),
    ],
    ids=["two stores", "two users"],
)
def test_two_stores_on_one_file_lose_nothing(second: int, arena: Path, count: Count) -> None:
    """Their locks do not know each other."""
    lost = refused = 0
    for _ in range(max(1, ROUNDS // 10)):
        with fresh(arena) as place:
            other = Place(place.base, "other/store")
            (place.base / "other").mkdir()
            for folder in (place.base, place.base.parent, place.base.parent.parent):
                folder.chmod(0o755)
            if second:
                place.target.parent.chmod(0o777)
                (place.base / "home").chmod(0o755)
                os.chown(place.base / "other", second, second)

            def work(number: int) -> Callable[[], Outcome]:
                mine = (place, other)[number % 2]  # noqa: B023 - called within the round
                certificate = root(number)

                def run() -> Outcome:
                    with mine.entered():
                        return told(install(mine, certificate))

                return _as(second if number % 2 else 0, run)

            outcomes = at_once([work(number) for number in range(16)])
            beside = [path.read_bytes() for path in place.target.parent.glob("root.crt*")]
            there = frozenset[str]().union(*(fingerprints(content) for content in beside))
            assert OTHERS.sha256 in fingerprints(place.content)
            for number, outcome in enumerate(outcomes):
                refused += outcome.error is not None
                assert outcome.error in (
                    *(None, "target-changed", "could-not-write", "changed-unconfirmed"),
                ), outcome
                lost += outcome.error is None and root(number).sha256 not in there
            if not second:  # another user's store is not ours to use
                for each in (place, other):
                    with each.entered(), Store(each.store).writing():
                        pass
                    history_holds(each)
    count("two stores on one file: roots that were installed", 16 * max(1, ROUNDS // 10) - refused)
    count("two stores on one file: refused, and said so", refused)
    count("two stores on one file: lost", lost)
    assert lost == 0
    assert refused < 16 * max(1, ROUNDS // 10)


# --- an editor that takes no lock ---------------------------------------------------------------


class Editor:
    """Reads, changes its own line, replaces the file; without pause, and without looking again.

    Whatever version it finds gone at its next look is suspect, until it turns up again.
    """

    def __init__(self, place: Place) -> None:
        self._target = place.target
        self._shared = mmap.mmap(-1, 16)

    @property
    def edits(self) -> int:
        number: int = struct.unpack_from("Q", self._shared, 0)[0]
        return number

    def run(self) -> list[int]:
        draft = self._target.with_name("draft")
        suspects: set[int] = set()
        number = 0
        while not self._shared[8]:
            found = self._target.read_bytes()
            present = re.findall(rb"# edit (\d+)\n", found)
            suspects -= {int(each) for each in present}
            if number and b"%d" % number not in present:
                suspects.add(number)
            number += 1
            rest = re.sub(rb"# edit \d+\n", b"", found)
            draft.write_bytes(b"# edit %d\n" % number + rest)
            draft.replace(self._target)
            struct.pack_into("Q", self._shared, 0, number)
        return sorted(suspects)

    def stop(self) -> None:
        self._shared[8] = 1


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux, where names are exchanged")
@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "plain rename"])
def test_edits_by_a_program_that_ignores_our_lock(
    exchanges: bool, place: Place, count: Count
) -> None:
    """None is lost without a trace; the control, a plain rename, loses some."""
    how = "exchange" if exchanges else "plain rename"
    disk = EditedDisk(place.target, exchanges=exchanges)
    editor = Editor(place)
    path = str(place.target)
    ours = noticed = 0
    displaced: list[bytes] = []
    with Acting() as start:
        editing = start(editor.run)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            before = files.read(path) or b""
            mine = b"# ours\n"
            after = before.replace(mine, b"") if mine in before else before + mine
            try:
                files.replace(path, after, expected=before, verify=lambda path: None, disk=disk)
                ours += 1
            except CouldNotWrite as error:
                noticed += 1
                if error.displaced is not None:
                    displaced.append(error.displaced)
        editor.stop()
        suspects = editing.outcome()
    assert suspects is not None
    kept = [each.read_bytes() for each in place.target.parent.glob("root.crt*")]
    kept += displaced  # a change keeps them in the store: see tests/faults/test_editors.py
    seen = {int(each) for content in kept for each in re.findall(rb"# edit (\d+)\n", content)}
    lost = [number for number in suspects if number not in seen]
    count(f"edits without a lock, {how}: edits", editor.edits)
    count(f"edits without a lock, {how}: changes of ours", ours)
    count(f"edits without a lock, {how}: refused, and said so", noticed)
    count(f"edits without a lock, {how}: edits lost", len(lost))
    assert editor.edits > 100
    assert ours > 0
    if exchanges:
        assert lost == []
    elif LONG:  # three seconds may be too few on some machine: test_editors.py is always sure
        assert lost


def test_the_store_s_own_lock_is_what_all_this_rests_on(place: Place, count: Count) -> None:
    """The control: without the lock, processes overwrite each other."""

    def unlocked(disk: files.Disk, fd: int) -> bool:
        return True

    roots = [root(number) for number in range(32)]
    with mock.patch.object(files.Disk, "lock", unlocked):
        outcomes = at_once(
            [lambda each=each: told(install(place, each)) for each in roots]  # type: ignore[misc]
        )
    history = 0
    with contextlib.suppress(StoreTampered):
        history = len(Store(place.store).changes(str(place.target)))
    errors = [each for each in outcomes if each.error is not None]
    assert errors or history != 32 or len(fingerprints(place.content)) != 33
