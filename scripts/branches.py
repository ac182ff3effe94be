"""Every line and every branch of the rooms that hold the promises is executed by a test, or this fails.

    python scripts/branches.py

Runs the quick tests of these rooms under coverage and ends with 1 below 100 %.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
ROOMS = (
    "bundle",
    "merging",
    "store",
    "journal",
    "files",
    "changes",
    "libpq/outcomes",
    "libpq/hostname",
)
TESTS = (
    "test_bundle.py",
    "test_changes.py",
    "test_corners.py",
    "test_files.py",
    "test_history.py",
    "test_journal.py",
    "test_merging.py",
    "test_store.py",
    "test_windows_rules.py",
    "faults/test_editors.py::test_a_version_that_cannot_be_left_in_place_is_named",
    "faults/test_editors.py::test_what_was_out_of_place_for_a_moment_is_kept_in_the_store",
    "libpq/test_hostname.py",
    "libpq/test_outcomes.py",
)
SLOW = (
    "test_history.py::test_ten_thousand_changes_cost_a_run_at_most_half_of_it",
    "test_history.py::test_after_any_damage_of_the_journal_there_is_a_way_on",
    "test_history.py::test_rollback_to_any_change_brings_back_the_exact_bytes_or_the_absence",
)
"""Left out of those: they take seconds, and no branch that the others leave."""

OTHER_SYSTEMS = r"""
[report]
exclude_also =
    if sys\.platform == "(win32|darwin)"
    if sys\.platform != "linux"
partial_also =
    if sys\.platform (==|!=) "(win32|linux)"
"""
"""What is left out: blocks for Windows and macOS, and the ways around blocks for Linux."""


def measure(rooms: tuple[str, ...] = ROOMS, tests: tuple[str, ...] = TESTS) -> tuple[int, str]:
    """coverage's exit code (0: all of it), and its table; the tests' own words where they fail."""
    with tempfile.TemporaryDirectory() as folder:
        env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        env["COVERAGE_FILE"] = str(Path(folder, "coverage"))
        env["COVERAGE_RCFILE"] = str(Path(folder, "coveragerc"))
        Path(folder, "coveragerc").write_text(OTHER_SYSTEMS)
        include = ",".join(str(CHECKOUT / "qs_certs" / f"{room}.py") for room in rooms)
        coverage = [sys.executable, "-m", "coverage"]
        pytest = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
        paths = [str(CHECKOUT / "tests" / test) for test in tests]
        left_out = [f"--deselect=tests/{test}" for test in SLOW]
        run = [*coverage, "run", "--branch", f"--include={include}", *pytest, *left_out, *paths]
        tested = subprocess.run(
            run, cwd=CHECKOUT, env=env, capture_output=True, text=True, check=False
        )
        if tested.returncode != 0:
            return tested.returncode, tested.stdout + tested.stderr
        report = [*coverage, "report", "--show-missing", "--fail-under=100", "--precision=2"]
        told = subprocess.run(
            report, cwd=CHECKOUT, env=env, capture_output=True, text=True, check=False
        )
        return told.returncode, told.stdout + told.stderr


def main(arguments: list[str]) -> int:
    if arguments:
        print(__doc__)
        return 0 if arguments in (["--help"], ["-h"]) else 2
    code, said = measure()
    print(said)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
