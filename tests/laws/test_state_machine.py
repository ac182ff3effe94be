"""Any sequence of commands, foreign edits and faults, against a model of a page.

The model knows files as bytes and changes as pairs of them; it looks into a root file only by
searching for the text of whole blocks.  By default 100 sequences of at most 20 steps; with
QS_CERTS_LONG=1 5,000 of 50.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import stat
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from qs_certs import catalogue, changes
from qs_certs.changes import Target, Wanted
from qs_certs.errors import ChangedUnconfirmed, QsCertsError
from qs_certs.files import Disk
from qs_certs.journal import digest
from qs_certs.results import ChangeReport, Source, TargetResult
from qs_certs.store import Store
from tests.faults.counting import Count, count
from tests.faults.disks import FAULTS, Died, Fault, FaultyDisk
from tests.faults.scenarios import G2, G3, Place, history_holds, hold, litter, pem

__all__ = ["count"]

LONG = os.environ.get("QS_CERTS_LONG") == "1"
SEQUENCES, STEPS = (5000, 50) if LONG else (100, 20)
MICROSOFT = "microsoft-rsa-root-ca-2017"
BLOCK = {name: pem(name) for name in (G2, G3, MICROSOFT)}
BROKEN = b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"
"""A block that makes libpq refuse the whole file."""
EDITS: dict[str, Callable[[bytes], bytes]] = {
    "a certificate at the end": lambda old: _line(old) + BLOCK[MICROSOFT],
    "one without a newline": lambda old: _line(old) + BLOCK[G3].rstrip(b"\n"),
    "a comment": lambda old: old + b"# mine",
    "everything anew": lambda old: b"# the platform team's\n" + BLOCK[MICROSOFT],
    "ours by hand": lambda old: BLOCK[G2],
    "empty": lambda old: b"",
    "damage": lambda old: _line(old) + BROKEN,
}


def _line(old: bytes) -> bytes:
    """*old*, ending at the end of a line."""
    return old if old.endswith(b"\n") or not old else old + b"\n"


MODES = (0o600, 0o640, 0o644)


# --- the model ----------------------------------------------------------------------------------


@dataclass
class Past:
    """A change: *open* until a run has noted whether it happened."""

    id: int
    before: bytes | None
    after: bytes | None
    mode: int | None
    made_folder: bool
    open: bool = False


@dataclass
class File:
    """A target: what libpq would read, and all that the history says."""

    path: Path
    content: bytes | None = None
    mode: int = 0o644
    past: list[Past] = field(default_factory=list)


@dataclass(frozen=True)
class Expected:
    """What a command makes of a file; *refused*: it says no and leaves the file."""

    content: bytes | None
    mode: int | None = None
    refused: bool = False
    folder_goes: bool = False


def names(content: bytes | None) -> set[str]:
    return {name for name, block in BLOCK.items() if block.strip() in (content or b"")}


def loads(content: bytes | None) -> bool:
    return bool(names(content)) and BROKEN not in (content or b"")


def install(file: File, wanted: tuple[str, ...], *, replace_all: bool) -> Expected:
    old = file.content
    if replace_all:
        same = loads(old) and names(old) == set(wanted)
        return Expected(old if same else b"".join(BLOCK[name] for name in wanted))
    missing = [name for name in wanted if name not in names(old)]
    if not missing and loads(old):
        return Expected(old)
    if BROKEN in (old or b""):
        return Expected(old, refused=True)
    return Expected(_line(old or b"") + b"".join(BLOCK[name] for name in missing))


def remove(file: File, name: str) -> Expected:
    old = file.content
    if old is None or name not in names(old):
        return Expected(old)
    # A block at the very end may lack its newline.
    left = old.replace(BLOCK[name], b"").replace(BLOCK[name].strip(), b"")
    adding = [each for each in file.past if name in names(each.after) - names(each.before)]
    earlier = adding[-1].before if adding else None
    if earlier and not earlier.endswith(b"\n") and left == earlier + b"\n":
        left = earlier
    if not left.strip() and left != earlier:
        made = any(each.made_folder for each in file.past)
        return Expected(None, folder_goes=made)
    return Expected(left)


def rollback(file: File, identity: int | None, *, force: bool) -> Expected:
    now = file.content
    past = [each for each in file.past if not (each.open and each.before == now)]
    if identity is not None and identity not in [each.id for each in past]:
        return Expected(now, refused=True)
    if not past:
        return Expected(now)
    undone = next((each for each in reversed(past) if each.after == now), None)
    if undone is None and not force:
        return Expected(now, refused=True)
    chosen = undone or past[-1]
    if identity is not None:
        chosen = next(each for each in past if each.id == identity)
    goes = chosen.before is None and any(each.made_folder for each in past)
    return Expected(chosen.before, chosen.mode, folder_goes=goes)


# --- the machine --------------------------------------------------------------------------------

which = st.sampled_from([0, 0, 0, 1, 2])  # mostly one, so that histories get long
some_roots = st.sampled_from([(G2,), (G3,), (G2, G3)])
perhaps_a_fault = st.none() | st.tuples(st.integers(1, 75), st.sampled_from(FAULTS))
Strike = tuple[int, Fault] | None
Tally = dict[str, int]


class StrikingDisk(FaultyDisk):
    """The fault strikes at the call *at*, or at the first one after it at which it makes sense."""

    def route(self, name: str, *args: Any) -> Any:
        due = self.fault is not None and len(self.calls) + 1 == self.at
        if due and self.fault is not None and self.fault.only and name not in self.fault.only:
            self.at += 1
        return super().route(name, *args)

    @property
    def struck(self) -> bool:
        return self.fault is not None and len(self.calls) >= self.at


class Machine(RuleBasedStateMachine):
    """Three root files of one user: the default one, the dedicated one beside it, another."""

    tally: Tally = {}  # noqa: RUF012 - one for all sequences of a test

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=_memory(), ignore_cleanup_errors=True)
        base = Path(self.folder.name).resolve()
        self.place = Place(base)
        self.entered = contextlib.ExitStack()
        self.entered.enter_context(self.place.entered())
        (base / "home").mkdir()
        default = self.place.target
        (base / "elsewhere").mkdir()
        self.files = [
            File(default),
            File(default.with_name("qs-root.crt")),
            File(base / "elsewhere" / "ca.crt"),
        ]

    # Commands

    @rule(at=which, roots=some_roots, fault=perhaps_a_fault)
    def install(self, at: int, roots: tuple[str, ...], fault: Strike) -> None:
        self._run(
            self.files[at],
            install(self.files[at], roots, replace_all=False),
            lambda target, disk: changes.install((target,), _wanted(roots), disk=disk),
            fault,
        )

    @rule(at=which, roots=some_roots, fault=perhaps_a_fault)
    def replace(self, at: int, roots: tuple[str, ...], fault: Strike) -> None:
        self._run(
            self.files[at],
            install(self.files[at], roots, replace_all=True),
            lambda target, disk: changes.install(
                (target,), _wanted(roots), replace_all=True, disk=disk
            ),
            fault,
        )

    @rule(at=which, number=st.integers(0, 1), fault=perhaps_a_fault)
    def remove(self, at: int, number: int, fault: Strike) -> None:
        """One that is there, or else one that is not."""
        there = sorted(names(self.files[at].content) & {G2, G3}) or [G2, G3]
        name = there[number % len(there)]
        pins = (catalogue.ROOTS[name].sha256,)
        self._run(
            self.files[at],
            remove(self.files[at], name),
            lambda target, disk: changes.remove((target,), pins, disk=disk),
            fault,
        )

    @rule(at=which, force=st.booleans(), fault=perhaps_a_fault)
    def rollback(self, at: int, force: bool, fault: Strike) -> None:
        self._rollback(self.files[at], None, force, fault)

    @precondition(lambda self: any(file.past for file in self.files))
    @rule(at=which, back=st.integers(0, 12), force=st.booleans(), fault=perhaps_a_fault)
    def rollback_to(self, at: int, back: int, force: bool, fault: Strike) -> None:
        """A change of this file, or now and then any that the store knows: then it is refused."""
        files = [self.files[at]] if self.files[at].past and back else self.files
        known = sorted(each.id for file in files for each in file.past)
        self._rollback(self.files[at], known[back % len(known)], force, fault)

    @rule(at=which)
    def redo(self, at: int) -> None:
        """What rollback did, rollback takes back."""
        file = self.files[at]
        before, mode = file.content, file.mode
        if not rollback(file, None, force=False).refused:
            self._rollback(file, None, False, None)
            self._rollback(file, None, False, None)
            hold(file.content == before, "rollback twice is not redo", file.content)
            hold(before is None or file.mode == mode, "redo changed the mode", oct(file.mode))

    # Somebody else

    @rule(at=which, edit=st.sampled_from(sorted(EDITS)), mode=st.sampled_from(MODES))
    def edit(self, at: int, edit: str, mode: int) -> None:
        file = self.files[at]
        file.path.parent.mkdir(exist_ok=True, mode=0o700)
        file.content = EDITS[edit](file.content or b"")
        file.path.write_bytes(file.content)
        file.path.chmod(mode)
        file.mode = mode

    @rule(at=which)
    def delete(self, at: int) -> None:
        self.files[at].path.unlink(missing_ok=True)
        self.files[at].content = None

    @rule(at=which, mode=st.sampled_from(MODES))
    def chmod(self, at: int, mode: int) -> None:
        if self.files[at].content is not None:
            self.files[at].path.chmod(mode)
            self.files[at].mode = mode

    # What must hold

    @invariant()
    def files_are_what_the_model_says(self) -> None:
        for file in self.files:
            found = file.path.read_bytes() if file.path.exists() else None
            hold(found == file.content, "another content", file.path.name, found, file.content)
            if found is not None and sys.platform != "win32":
                mode = stat.S_IMODE(file.path.stat().st_mode)
                hold(mode == file.mode, "another mode", file.path.name, oct(mode), oct(file.mode))

    def teardown(self) -> None:
        """Everything that ever stood in a file when a command changed it can be had back."""
        try:
            store = Store(self.place.store)
            with store.writing():
                pass
            self._settle()
            for file in self.files:
                self._history_agrees(file)
                for each in file.past:
                    for content in (each.before, each.after):
                        kept = None if content is None else store.content(digest(content))
                        hold(kept == content, "a version is gone", each.id)
            history_holds(self.place)
            hold(not litter(self.place.base), "litter", litter(self.place.base))
            self.files_are_what_the_model_says()
        finally:
            self.entered.close()
            self.folder.cleanup()

    # How a command is judged

    def _rollback(self, file: File, identity: int | None, force: bool, fault: Strike) -> None:
        self._run(
            file,
            rollback(file, identity, force=force),
            lambda target, disk: changes.rollback(
                (target,), identity=identity, force=force, disk=disk
            ),
            fault,
        )

    def _run(
        self,
        file: File,
        expected: Expected,
        command: Callable[[Target, Disk], ChangeReport],
        fault: Strike,
    ) -> None:
        """One command; with *fault*, at call number fault[0] of it."""
        tally = self.tally
        tally["commands"] = tally.get("commands", 0) + 1
        made_folder = not file.path.parent.exists()
        disk = StrikingDisk(*(fault or (0, None)))
        result: TargetResult | None = None
        try:
            (result,) = command(Target(str(file.path)), disk).targets
        except Died:
            pass
        else:
            hold(not disk.opened, "descriptors stayed open", disk.opened)
        disk.bury()
        struck = disk.struck
        if struck:
            tally["faults that struck"] = tally.get("faults that struck", 0) + 1
        old = file.content
        changes_it = not expected.refused and expected.content != old
        happened = self._happened(file, expected, result, struck=struck)
        hold(happened <= changes_it, "changed what was to stay")
        mode = file.mode if old is not None else expected.mode or 0o644
        entry = Past(0, old, expected.content, None if old is None else file.mode, made_folder)
        if struck:
            self._learn(file, entry, happened=happened)
        elif changes_it:
            self._settle()
            entry.id = self._newest(file)
            file.past.append(entry)
            if expected.folder_goes:
                there = file.path.parent.exists()
                others = any(
                    each.content is not None and each.path.parent == file.path.parent
                    for each in self.files
                    if each is not file
                )
                hold(there == others, "the folder that we made", there)
        if happened:
            file.content = expected.content
            file.mode = mode
        self._history_agrees(file)

    def _happened(
        self, file: File, expected: Expected, result: TargetResult | None, *, struck: bool
    ) -> bool:
        """Whether the file was changed; what the command said must be that."""
        now = file.path.read_bytes() if file.path.exists() else None
        new = expected.content != file.content and now == expected.content
        hold(new or now == file.content, "neither old nor new", now)
        if result is None:  # the process died
            return new
        if result.error is None:
            hold(not expected.refused, "was not refused")
            hold(now == expected.content, "success, and not the new content", result)
            hold((result.status == "changed") == new, "said otherwise", result)
        elif isinstance(result.error, ChangedUnconfirmed):
            hold(new and struck, "said to be changed, and is not", result)
        else:
            hold(isinstance(result.error, QsCertsError), "no error of ours", result)
            hold(not new, "said that nothing was changed", result)
            hold(struck or expected.refused, "refused without a reason", result.error)
        return new

    def _settle(self) -> None:
        """What the next change does first: open records become facts, or never happened."""
        for file in self.files:
            file.past = [
                replace(each, open=False)
                for each in file.past
                if not (each.open and each.before == file.content)
            ]

    def _entries(self, file: File) -> dict[int, bool | None]:
        entries = Store(self.place.store).changes(str(file.path))
        return {entry.change.id: entry.applied for entry in entries}

    def _newest(self, file: File) -> int:
        newest = max(self._entries(file), default=0)
        known = [each.id for other in self.files for each in other.past]
        hold(newest > max(known, default=0), "no change was recorded", newest)
        return newest

    def _learn(self, file: File, entry: Past, *, happened: bool) -> None:
        """After a fault: which records were closed, and whether the new one was written."""
        for other in self.files:
            there = self._entries(other)
            for each in [each for each in other.past if each.open]:
                if each.id not in there:
                    hold(each.before == other.content, "a change was struck out", each)
                    other.past.remove(each)
                elif there[each.id]:
                    hold(each.before != other.content, "never happened, and noted", each)
                    each.open = False
        there = self._entries(file)
        new = there.keys() - {each.id for each in file.past}
        hold(len(new) <= 1, "more than one change", new)
        hold(new or not happened, "changed, and not recorded")
        for number in new:
            hold(happened or not there[number], "recorded, and not changed")
            entry.id, entry.open = number, there[number] is None
            file.past.append(entry)

    def _history_agrees(self, file: File) -> None:
        model = {each.id: None if each.open else True for each in file.past}
        hold(self._entries(file) == model, "another history", self._entries(file), model)


def _wanted(roots: tuple[str, ...]) -> tuple[Wanted, ...]:
    def one(name: str) -> Wanted:
        der = ssl.PEM_cert_to_DER_cert(BLOCK[name].decode())

        def fetch() -> tuple[bytes, Source, str | None]:
            return der, "embedded", None

        return Wanted(catalogue.ROOTS[name].sha256, fetch)

    return tuple(one(name) for name in roots)


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def test_any_sequence_ends_as_the_model_says(count: Count) -> None:
    Machine.tally.clear()
    # Mutants need to be found, not explained: shrinking takes longer than finding.
    shrink = os.environ.get("QS_CERTS_SHRINK", "1") == "1"
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=SEQUENCES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize=not LONG,
            phases=[Phase.generate, *([Phase.shrink] if shrink else [])],
            suppress_health_check=list(HealthCheck),
        ),
    )
    count("laws: sequences", SEQUENCES)
    for what, number in Machine.tally.items():
        count(f"laws: {what}", number)
    assert Machine.tally["faults that struck"] > SEQUENCES, "too few faults to mean anything"
