"""Run every test of qs-certs, on a machine that has only Python 3.10 or newer.

    python3 scripts/test.py [PYTEST ARGUMENTS ...]

Makes .venv in the checkout from the lock, looks at the code with ruff and with mypy (as on Linux,
macOS and Windows), then runs pytest, whose closing line comes last.  The exit code is not 0 if
anything failed.  pytest runs even where ruff or mypy complained: one round shows everything.

Some tests need Debian packages (see .ci/run) and skip without them.
"""

from __future__ import annotations

import os
import subprocess
import sys

from environment import (
    CHECKOUT,
    Recipe,
    SetupFailed,
    ensure,
    program,
    report,
    run,
    say,
    with_new_enough_python,
)

ENVIRONMENT = CHECKOUT / ".venv"
LOCKS = (CHECKOUT / "requirements" / "dev.txt",)
SYSTEMS = ("linux", "darwin", "win32")


def lint(python: str) -> bool:
    """ruff, and mypy as on each system, side by side; what the failing ones say is printed."""
    mypy = ["mypy", "--strict", "--no-error-summary", "--python-version", "3.10"]
    commands = [
        ["ruff", "check", "--quiet", "."],
        ["ruff", "format", "--check", "--quiet", "."],
        *([*mypy, "--platform", s, "--cache-dir", f".mypy_cache/{s}"] for s in SYSTEMS),
    ]
    running = [
        subprocess.Popen(
            [python, "-m", *command],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        for command in commands
    ]
    clean = True
    for command, process in zip(commands, running, strict=True):
        output, _ = process.communicate()
        say(f"{'ok    ' if process.returncode == 0 else 'FAILED'} {' '.join(command)}")
        if process.returncode != 0:
            clean = False
            print(output, flush=True)
    return clean


def tests(python: str, arguments: list[str]) -> int:
    """Run pytest on all processors, files kept together: each file's servers are started once."""
    workers = str(min(os.cpu_count() or 1, 4))
    parallel = ["-n", workers, "--dist", "loadfile"] if not arguments else []
    return run([python, "-m", "pytest", "-p", "tests.skips", *parallel, *arguments])


def main(arguments: list[str]) -> int:
    if arguments in (["--help"], ["-h"]):
        print(__doc__)
        return 0
    try:
        os.chdir(CHECKOUT)
        elsewhere = with_new_enough_python(CHECKOUT / "scripts" / "test.py", arguments)
        if elsewhere is not None:
            return elsewhere
        ensure(ENVIRONMENT, Recipe(LOCKS, editable=True))
        python = str(program(ENVIRONMENT, "python"))
        clean = lint(python)
    except SetupFailed as failure:
        return report(failure)
    except KeyboardInterrupt:
        return 130
    tested = tests(python, arguments)
    return tested if tested != 0 else int(not clean)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
