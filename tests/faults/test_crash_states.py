"""Power cuts: every state that the disk may be left in, for one process and for two in a row."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from qs_certs.store import Store
from tests.faults.counting import Count
from tests.faults.crash_states import MODES, Mode, Names, RecordingDisk, images
from tests.faults.disks import FAULTS, Died
from tests.faults.scenarios import (
    BY_NAME,
    Image,
    Scenario,
    Stage,
    Violation,
    examine,
    hold,
    judge_answer,
    stage,
)
from tests.faults.test_sweep import PLAIN, every_scenario

CRASH = FAULTS[0]


def judge(staged: Stage, image: Image, *, finished: bool) -> None:
    """A machine that comes up with *image*.  *finished*: the command had reported success."""
    staged.reset(image)
    now = staged.place.content
    hold(now in (staged.old, staged.new), "neither old nor new", now)
    if finished:
        judge_answer(staged, None)
    examine(staged)


class Judged:
    """Judges every different image once, and keeps what is broken."""

    def __init__(self, staged: Stage) -> None:
        self._staged = staged
        self._known: set[tuple[object, bool]] = set()
        self.broken: list[str] = []

    def __len__(self) -> int:
        return len(self._known)

    def judge(self, image: Image, where: str, *, finished: bool) -> None:
        key = frozenset(item for item in image.items() if not item[0].endswith("/lock")), finished
        if key in self._known:
            return
        self._known.add(key)
        try:
            judge(self._staged, image, finished=finished)
        except Violation as violation:
            self.broken.append(f"{where}: {violation}"[:500])

    def settle(self, count: Count, what: str) -> None:
        count(f"power cuts, {what}: different disks", len(self))
        count(f"power cuts, {what}: violations", len(self.broken))
        assert not self.broken, f"{len(self.broken)} of {len(self)}:\n" + "\n".join(
            self.broken[:20]
        )


def cut(scenario: Scenario, mode: Mode, arena: Path, count: Count, *, exchanges: bool) -> None:
    staged = stage(scenario, arena)
    judged = Judged(staged)
    with staged.place.entered():
        staged.reset()
        disk = RecordingDisk(arena, staged.image, exchanges=exchanges)
        error = staged.scenario.command(staged.place, disk).error
        last = len(disk.log.steps)
        for upto in range(last + 1):
            finished = upto == last and error is None
            for image in images(disk.log, upto, mode):
                judged.judge(image, f"step {upto}", finished=finished)
    judged.settle(count, mode)


@pytest.mark.parametrize("mode", MODES)
@every_scenario
def test_after_a_power_cut_at_any_step_every_promise_holds(
    scenario: Scenario, mode: Mode, arena: Path, count: Count
) -> None:
    cut(scenario, mode, arena, count, exchanges=True)


@pytest.mark.skipif(sys.platform != "linux", reason="not on macOS or Windows: it is the rule there")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", PLAIN)
def test_the_same_where_names_cannot_be_exchanged(
    name: str, mode: Mode, arena: Path, count: Count
) -> None:
    cut(BY_NAME[name], mode, arena, count, exchanges=False)


@every_scenario
def test_after_a_kill_then_a_finished_run_then_a_power_cut_every_promise_holds(
    scenario: Scenario, arena: Path, count: Count
) -> None:
    """What the killed run left unsynced is still unsynced when the next one builds on it."""
    staged = stage(scenario, arena)
    judged = Judged(staged)
    target = os.path.relpath(os.path.realpath(staged.place.target), arena)
    if scenario.upkeep:
        target = os.path.relpath(staged.place.store / "journal.jsonl", arena)
    with staged.place.entered():
        at = 0
        died = True
        while died:
            at += 1
            staged.reset()
            disk = RecordingDisk(arena, staged.image)
            disk.fault = CRASH
            disk.at = at
            died = False
            try:
                staged.scenario.command(staged.place, disk)
            except Died:
                died = True
            first = len(disk.log.steps)
            disk.resurrect()
            if not staged.scenario.upkeep:
                with Store(staged.place.store, disk).writing():
                    pass
            again = staged.place.content == staged.old and not staged.scenario.refused
            finished = again
            if again:
                result = staged.scenario.command(staged.place, disk)
                assert result.error is None, result
            swaps = [
                number
                for number, step in enumerate(disk.log.steps[first:], start=first + 1)
                if isinstance(step, Names) and target in step.change
            ]
            for upto in {*swaps, len(disk.log.steps)}:
                done = finished and upto == len(disk.log.steps)
                for image in images(disk.log, upto, "any"):
                    judged.judge(image, f"killed at call {at}, step {upto}", finished=done)
            disk.bury()
    judged.settle(count, "after a kill")
