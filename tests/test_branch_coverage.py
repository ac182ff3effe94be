"""No line and no branch of the rooms that hold the promises is without a test."""

from __future__ import annotations

import importlib.util
import sys

import branches
import pytest

from tests.faults.counting import Count, count

__all__ = ["count"]

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only on Linux: the branches taken there"),
    pytest.mark.skipif(
        importlib.util.find_spec("coverage") is None, reason="coverage is not installed"
    ),
]


def test_every_branch_is_taken(count: Count) -> None:
    code, said = branches.measure()
    assert code == 0, said
    total = next(line for line in said.splitlines() if line.startswith("TOTAL")).split()
    assert total[-1] == "100.00%"
    count("branch coverage: lines, all executed", int(total[1]))
    count("branch coverage: branches, all taken", int(total[3]))


def test_what_is_left_out_for_its_time_is_there() -> None:
    """pytest says nothing of a name to leave out that no test has."""
    for slow in branches.SLOW:
        path, _, name = slow.partition("::")
        assert path in branches.TESTS
        assert f"\ndef {name}(" in (branches.CHECKOUT / "tests" / path).read_text()


def test_a_branch_without_a_test_is_noticed() -> None:
    code, said = branches.measure(("store",), ("test_changes.py",))
    assert code != 0
    assert "is less than fail-under=100" in said
