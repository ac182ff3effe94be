"""Every fault at every call of every scenario, in this process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.faults.counting import Count
from tests.faults.disks import CALLS, FAULTS, Died, Fault, FaultyDisk
from tests.faults.scenarios import (
    BY_NAME,
    SCENARIOS,
    Scenario,
    Stage,
    Violation,
    capture,
    examine,
    hold,
    judge_answer,
    stage,
)

PLAIN = ("foreign file", "no file", "rollback to absence")
"""The scenarios that are also run as on a system that has only plain renames and removals."""
EXCHANGES = ("exchange", "rename_new")
ENOUGH = 20
"""Violations that are reported; more would not tell more."""

every_scenario = pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(
            scenario,
            id=scenario.name,
            marks=pytest.mark.skipif(
                scenario.name == "link" and sys.platform == "win32",
                reason="not on Windows: links need a right there",
            ),
        )
        for scenario in SCENARIOS
    ],
)


Remains = frozenset[tuple[str, tuple[str, int, bytes]]]


def remains(staged: Stage) -> Remains:
    """All that a run left on the disk, but for the words in the lock file."""
    image = capture(staged.place.base)
    return frozenset(item for item in image.items() if not item[0].endswith("/lock"))


def strike(
    staged: Stage, fault: Fault, at: int, known: set[Remains], *, exchanges: bool = True
) -> None:
    """One run that meets *fault* at call *at*.  Raises Violation.

    *known* are the remains that were examined before: what follows depends on nothing else.
    """
    staged.reset()
    disk = FaultyDisk(at, fault, exchanges=exchanges)
    error: BaseException | None = None
    died = False
    try:
        error = staged.scenario.command(staged.place, disk).error
    except Died:
        died = True
    except Exception as escaped:  # noqa: BLE001 - a violation, told below
        error = escaped
    hold(len(disk.calls) >= at, "the fault never struck", len(disk.calls))
    leaked = set(disk.opened)
    disk.bury()
    if not died:
        hold(not leaked, "descriptors stayed open", leaked)
        if staged.scenario.refused:
            hold(error is not None, "was not refused")
        judge_answer(staged, error)
    left = remains(staged)
    if left not in known:
        examine(staged)
        known.add(left)


def sweep(scenario: Scenario, arena: Path, count: Count, *, exchanges: bool = True) -> None:
    staged = stage(scenario, arena)
    broken: list[str] = []
    runs = 0
    known: set[Remains] = set()
    with staged.place.entered():
        staged.reset()
        healthy = FaultyDisk(exchanges=exchanges)
        scenario.command(staged.place, healthy)
        for at, name in enumerate(healthy.calls, start=1):
            for fault in FAULTS:
                if (fault.only and name not in fault.only) or len(broken) == ENOUGH:
                    continue
                if not exchanges and fault.name == "lost reply" and name in EXCHANGES:
                    continue  # there is no call whose reply could be lost
                runs += 1
                try:
                    strike(staged, fault, at, known, exchanges=exchanges)
                except Violation as violation:
                    broken.append(f"{fault.name} at call {at} ({name}): {violation}"[:500])
    count("in-process faults: runs", runs)
    count("in-process faults: points", len(healthy.calls))
    count("in-process faults: different remains, each examined", len(known))
    count("in-process faults: violations", len(broken))
    assert not broken, f"{len(broken)} of {runs} runs:\n" + "\n".join(broken)


@every_scenario
def test_after_any_fault_at_any_call_every_promise_holds(
    scenario: Scenario, arena: Path, count: Count
) -> None:
    sweep(scenario, arena, count)


@pytest.mark.skipif(sys.platform != "linux", reason="not on macOS or Windows: it is the rule there")
@pytest.mark.parametrize("name", PLAIN)
def test_the_same_where_names_cannot_be_exchanged(name: str, arena: Path, count: Count) -> None:
    sweep(BY_NAME[name], arena, count, exchanges=False)


def test_the_faulty_disk_stands_in_for_every_call() -> None:
    disk = FaultyDisk(1, FAULTS[0])
    for name in CALLS:
        with pytest.raises(Died):
            getattr(disk, name)()
