"""The table of docs/durability.md names what the suites count, and nothing else."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import durability
import pytest

CHECKOUT = Path(durability.__file__).resolve().parent.parent
FILES = sorted(path for suite in durability.SUITES for path in (CHECKOUT / suite).glob("test_*.py"))
TABLE = durability.read(durability.PAGE.read_text("utf-8"))


def names(source: str) -> set[str]:
    """Patterns of the names that *source* counts with."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "count":
            name = node.args[0]
            if isinstance(name, ast.JoinedStr):
                parts = [
                    re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".+"
                    for part in name.values
                ]
                found.add("".join(parts))
            elif isinstance(name, ast.Constant):
                found.add(re.escape(str(name.value)))
    return found


COUNTED = set[str]().union(*(names(path.read_text("utf-8")) for path in FILES))


def test_every_count_has_a_row() -> None:
    assert len(COUNTED) > 20
    missing = [name for name in COUNTED if not any(re.fullmatch(name, row) for row in TABLE)]
    assert missing == []


@pytest.mark.parametrize("row", TABLE)
def test_every_row_is_counted_and_no_promise_was_broken(row: str) -> None:
    assert any(re.fullmatch(name, row) for name in COUNTED)
    if row.endswith(("violations", "lost")) and "plain rename" not in row:
        assert set(TABLE[row]) <= {"0", ""}


SAID = """\
...                                             [100%]
==================================== faults ====================================
   1,234  cuts: runs
       0  cuts: violations
============================= slowest 8 durations ==============================
      12  no count
"""


def test_counts_are_read_from_what_pytest_prints() -> None:
    assert durability.counts(SAID) == {"cuts: runs": "1,234", "cuts: violations": "0"}
    assert durability.counts("=== other ===\n   1  cuts\n") == {}


def test_a_run_replaces_the_counts_of_its_form() -> None:
    table = {"gone": ("1", ""), "kept": ("2", "20")}
    assert durability.merged(table, {"kept": "3", "new": "4"}, long=False) == {
        "kept": ("3", "20"),
        "new": ("4", ""),
    }
    assert durability.merged(table, {"kept": "30"}, long=True) == {
        "gone": ("1", ""),
        "kept": ("2", "30"),
    }


def test_the_table_is_written_as_it_is_read() -> None:
    page = durability.PAGE.read_text("utf-8")
    assert durability.written(TABLE) in page
    assert durability.read(durability.written(TABLE) + "\n\nafter") == TABLE
