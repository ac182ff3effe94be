"""Counts of what ran, for pytest's terminal summary; they travel with the reports of the tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

_KEY = "faults"
ORACLE = "oracle"
"""What the oracle suite counts with, noted at the end of each of its tests."""
MATRIX = "matrix"
"""What the matrix of clients counts with."""
Count = Callable[[str, int], None]
"""Note that so many of something ran in this test."""


@pytest.fixture
def count(record_property: Callable[[str, object], None]) -> Count:
    def note(what: str, number: int) -> None:
        record_property(_KEY, [what, number])

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for key, when in ((ORACLE, "teardown"), (_KEY, "call"), (MATRIX, "call")):
        totals: Counter[str] = Counter()
        for reports in terminalreporter.stats.values():
            for report in reports:
                if isinstance(report, pytest.TestReport) and report.when == when:
                    for name, value in report.user_properties:
                        if name == key and isinstance(value, (list, tuple)):
                            totals[str(value[0])] += int(value[1])
        if totals:
            terminalreporter.section(key)
            for what, number in sorted(totals.items()):
                terminalreporter.write_line(f"{number:>8,}  {what}")
