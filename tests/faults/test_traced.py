"""Real processes, killed before a system call or failing at it, under strace.

By default every few points; with QS_CERTS_LONG=1 all of them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.faults.counting import Count
from tests.faults.scenarios import Scenario, Violation, examine, stage
from tests.faults.test_sweep import every_scenario

if sys.platform != "linux":
    pytest.skip("only on Linux", allow_module_level=True)
assert sys.platform == "linux"  # for mypy, which knows fork and signals of this system only here

from tests.faults.traced import (  # noqa: E402 - only where it can be
    ERRNOS,
    LONG_ERRNOS,
    STRACE,
    CannotTrace,
    judge_status,
    points,
    strike,
)

pytestmark = pytest.mark.skipif(STRACE is None, reason="no strace on this machine")

LONG = os.environ.get("QS_CERTS_LONG") == "1"
KILLS = ("signal=KILL",)
EVERY = 1 if LONG else 2
EVERY_ERROR = 1 if LONG else 5


def _sweep(
    scenario: Scenario, arena: Path, count: Count, faults: tuple[str, ...], every: int, what: str
) -> None:
    staged = stage(scenario, arena)
    broken = []
    runs = 0
    with staged.place.entered():
        try:
            found = points(staged, arena.parent)
        except CannotTrace as refusal:
            pytest.skip(f"strace may not attach on this machine: {refusal}")
        assert len(found) > 10, found  # the shortest: nothing to do
        every_run = [(point, fault) for fault in faults for point in found]
        for point, fault in every_run[::every]:
            runs += 1
            try:
                traced = strike(staged, arena.parent, point, fault)
                judge_status(staged, traced)
                examine(staged)
            except Violation as violation:
                broken.append(f"{fault} at {point}: {violation}"[:500])
    count(f"strace, {what}: runs, each proven to have struck", runs)
    count(f"strace, {what}: violations", len(broken))
    assert not broken, f"{len(broken)} of {runs}:\n" + "\n".join(broken[:20])


@every_scenario
def test_killed_before_any_call_every_promise_holds(
    scenario: Scenario, arena: Path, count: Count
) -> None:
    _sweep(scenario, arena, count, KILLS, EVERY, "killed")


@every_scenario
def test_with_an_error_at_any_call_every_promise_holds(
    scenario: Scenario, arena: Path, count: Count
) -> None:
    errors = tuple(f"error={name}" for name in (LONG_ERRNOS if LONG else ERRNOS))
    _sweep(scenario, arena, count, errors, EVERY_ERROR, "errors")
