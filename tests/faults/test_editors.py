"""Another program saves the file at the worst moment: before any call of a change, also twice.

Whatever it saved must be found afterwards: in the file, in the store, or beside the file under a
name of its own.  No lock helps here, since other programs do not take ours.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from qs_certs.errors import QsCertsError, TargetChanged
from qs_certs.journal import digest
from qs_certs.store import Store
from tests.faults.counting import Count
from tests.faults.disks import Died, RoutedDisk
from tests.faults.scenarios import BY_NAME, Scenario, Stage, Violation, hold, stage

if sys.platform != "linux":
    pytest.skip("only on Linux, where two names can be exchanged", allow_module_level=True)

LONG = os.environ.get("QS_CERTS_LONG") == "1"
NAMES = ["foreign file", "no file", "rollback to absence", "remove"]
NAMES += ["ours", "link", "rollback", "remove the last"] if LONG else []
Plan = tuple[tuple[int, ...], int]
"""The calls before which the editor saves, and the call before which we die (0: none)."""


class EditedDisk(RoutedDisk):
    """A disk on which an editor saves before each of the calls *at*, and which dies at *death*."""

    def __init__(
        self, target: Path, at: tuple[int, ...] = (), death: int = 0, *, exchanges: bool = True
    ) -> None:
        super().__init__(exchanges=exchanges)
        self._target = target.resolve()
        self._at = at
        self._death = death
        self.calls: list[str] = []
        self.saved: list[bytes] = []
        """Every version of the editor; each continues what it found."""

    def route(self, name: str, *args: Any) -> Any:
        self.calls.append(name)
        if len(self.calls) in self._at:
            self._save()
        if len(self.calls) == self._death:
            raise Died
        return self.carry_out(name, *args)

    def _save(self) -> None:
        number = len(self.saved)
        if not self._target.parent.is_dir():
            return
        found = self._target.read_bytes() if self._target.exists() else b""
        version = b"# edit %d\n" % number + found
        draft = self._target.with_name("draft")
        draft.write_bytes(version)
        draft.replace(self._target)
        self.saved.append(version)


def kept(staged: Stage) -> list[bytes]:
    """Every content that a person can still find: the file, what lies beside it, the store."""
    target = staged.place.target.resolve()
    found = [path.read_bytes() for path in target.parent.glob("root.crt*")]
    found += [path.read_bytes() for path in target.parent.glob("pg-roots.crt*")]
    return found + [path.read_bytes() for path in (staged.place.store / "blobs").glob("*.crt")]


def strike(staged: Stage, disk: EditedDisk) -> None:
    """A change while an editor saves, then the next run; no edit may be gone.  Raises Violation."""
    staged.reset()
    try:
        error: BaseException | None = staged.scenario.command(staged.place, disk).error
    except Died:
        error = None
    hold(error is None or isinstance(error, QsCertsError), "an error that is not ours", error)
    disk.bury()
    with Store(staged.place.store).writing():
        pass
    contents = kept(staged)
    for number, version in enumerate(disk.saved):
        line = b"# edit %d\n" % number
        # Continued by a later version, or by ours; a later one may have left out what it never saw.
        hold(any(line in each for each in contents), "an edit is gone", version[:40], disk.calls)
    litter = [path.name for path in staged.place.target.parent.glob(".*.qs-*")]
    hold(not litter, "litter", litter)


def points(staged: Stage) -> list[str]:
    staged.reset()
    healthy = EditedDisk(staged.place.target)
    assert staged.scenario.command(staged.place, healthy).error is None
    return healthy.calls


def sweep(staged: Stage, plans: list[Plan], *, exchanges: bool) -> list[str]:
    broken = []
    for at, death in plans:
        disk = EditedDisk(staged.place.target, at, death, exchanges=exchanges)
        try:
            strike(staged, disk)
        except Violation as violation:
            broken.append(f"saved before {at}, died at {death}: {violation}"[:600])
    return broken


every_scenario = pytest.mark.parametrize(
    "scenario", [pytest.param(BY_NAME[name], id=name) for name in NAMES]
)


@every_scenario
def test_what_another_program_saves_at_any_moment_is_not_lost(
    scenario: Scenario, arena: Path, count: Count
) -> None:
    staged = stage(scenario, arena)
    with staged.place.entered():
        calls = points(staged)
        last = len(calls)
        swaps = [n for n, name in enumerate(calls, 1) if name in ("exchange", "rename_new")]
        swap = swaps[0] if swaps else last
        plans: list[Plan] = [((at,), 0) for at in range(1, last + 1)]
        # Once more while the first edit is being put back, and dying there.
        near = range(swap, min(swap + 12, last + 1))
        plans += [((swap, second), 0) for second in near if second > swap]
        plans += [((swap,), death) for death in near if death > swap]
        plans += [((swap, swap + 2), death) for death in range(swap + 2, swap + 8)]
        broken = sweep(staged, plans, exchanges=True)
    count("edits by another program: runs", len(plans))
    count("edits by another program: lost", len(broken))
    assert not broken, f"{len(broken)} of {len(plans)}:\n" + "\n".join(broken[:10])


@pytest.mark.parametrize("name", ["foreign file", "no file", "rollback to absence"])
def test_where_names_cannot_be_exchanged_one_moment_is_left(name: str, arena: Path) -> None:
    """The control, and what docs/durability.md says about macOS, Windows and old kernels."""
    staged = stage(BY_NAME[name], arena)
    with staged.place.entered():
        last = len(points(staged))
        plans: list[Plan] = [((at,), 0) for at in range(1, last + 1)]
        broken = sweep(staged, plans, exchanges=False)
        assert broken
        assert all("an edit is gone" in each for each in broken), broken
        # Between the last look's read and the rename there are three calls.
        assert len(broken) <= 6, broken


@every_scenario
@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "plain rename"])
def test_without_an_editor_both_ways_do_the_same(
    scenario: Scenario, exchanges: bool, arena: Path
) -> None:
    staged = stage(scenario, arena)
    with staged.place.entered():
        staged.reset()
        disk = EditedDisk(staged.place.target, exchanges=exchanges)
        assert staged.scenario.command(staged.place, disk).error is None
        assert staged.place.content == staged.new


def test_what_was_out_of_place_for_a_moment_is_kept_in_the_store(arena: Path) -> None:
    """Whoever read the file in that moment may go on without it.  (A rollback refuses to follow.)"""
    staged = stage(BY_NAME["rollback"], arena)
    with staged.place.entered():
        swap = points(staged).index("exchange") + 1
        staged.reset()
        disk = EditedDisk(staged.place.target, (swap,))
        error = staged.scenario.command(staged.place, disk).error
        assert isinstance(error, TargetChanged)
        assert staged.place.content == disk.saved[0]
        assert (staged.place.store / "blobs" / f"{digest(disk.saved[0])}.crt").exists()


def test_a_version_that_cannot_be_left_in_place_is_named(arena: Path) -> None:
    """The editor saves before the exchange, and again before its edit is put back."""
    staged = stage(BY_NAME["foreign file"], arena)
    with staged.place.entered():
        calls = points(staged)
        swap = calls.index("exchange") + 1
        found = None
        for second in range(swap + 1, swap + 8):
            staged.reset()
            disk = EditedDisk(staged.place.target, (swap, second))
            error = staged.scenario.command(staged.place, disk).error
            beside = list(staged.place.target.parent.glob("root.crt.saved-*"))
            if beside:
                assert isinstance(error, QsCertsError)
                assert str(beside[0]) in str(error.why)
                assert disk.saved[1] == beside[0].read_bytes()
                assert staged.place.content == disk.saved[0]
                found = second
        assert found is not None
