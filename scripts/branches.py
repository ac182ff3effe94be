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
ROOMS = ("bundle", "store", "files", "changes", "libpq/outcomes", "libpq/hostname")
TESTS = (
    "test_bundle.py",
    "test_changes.py",
    "test_corners.py",
    "test_files.py",
    "test_store.py",
    "libpq/test_hostname.py",
    "libpq/test_outcomes.py",
)


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
        run = [*coverage, "run", "--branch", f"--include={include}", *pytest, *paths]
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


def main() -> int:
    code, said = measure()
    print(said)
    return code


if __name__ == "__main__":
    sys.exit(main())
