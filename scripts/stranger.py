"""Time a stranger's ways: from a clone to a green `check`, and from an error message to its fix.

    python3 scripts/stranger.py [--tests]

Clones what is committed here, takes an empty home, and types what the README says; --tests also
times `python3 scripts/test.py` in the clone.  Everything lies in a temporary folder.  Packages come
from the package index, without a cache.  Prints a Markdown table.

Exit codes: 0 every step ended as it must; 2 wrong usage; 6 one did not, and is shown.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent

ERROR = (
    'connection to server at "ORG.platform-query.adobe.io", port 80 failed: root certificate file '
    '"/home/ana/.postgresql/root.crt" does not exist'
)
"""What psql says with sslmode=verify-full where nothing is set up."""


class Astray(Exception):
    """A step ended otherwise than it must."""


def environment(home: Path, given: Mapping[str, str]) -> dict[str, str]:
    """*given* as somebody has it who has set nothing up: no settings of libpq's, ours or sudo's."""
    ours = ("PG", "QS_CERTS_", "SUDO_", "XDG_", "PYTHON", "VIRTUAL_ENV")
    kept = {name: value for name, value in given.items() if not name.startswith(ours)}
    return {**kept, "HOME": str(home), "PIP_NO_CACHE_DIR": "1"}


def step(words: Sequence[str], env: Mapping[str, str], folder: Path, ends_with: int = 0) -> str:
    """Run *words* in *folder*; what it prints.  Raises Astray where it does not end as it must."""
    done = subprocess.run(
        words, env=env, cwd=folder, capture_output=True, encoding="utf-8", check=False
    )
    if done.returncode != ends_with:
        said = f"{done.stdout}{done.stderr}".strip()
        raise Astray(f"{shlex.join(words)}: exit code {done.returncode}\n{said}")
    return done.stdout


def from_clone_to_check(place: Path, env: Mapping[str, str]) -> float:
    """Seconds from `git clone` to a `check` that finds the root in a file that loads."""
    began = time.monotonic()
    step(["git", "clone", "--quiet", str(CHECKOUT), "clone"], env, place)
    step([sys.executable, "scripts/onboard.py"], env, place / "clone")
    step([str(launcher(env)), "check"], env, place)
    return time.monotonic() - began


def launcher(env: Mapping[str, str]) -> Path:
    """Where `onboard.py` puts the program."""
    return Path(env["HOME"], ".local", "bin", "qs-certs")


def from_error_to_fix(
    program: Sequence[str], message: str, env: Mapping[str, str], place: Path
) -> tuple[float, str]:
    """Seconds from *message* to a green `check`, by way of the first fix that `explain` names; and
    that fix.  Before it, `check` must fail, or nothing is shown."""
    step([*program, "check"], env, place, ends_with=1)
    began = time.monotonic()
    explained = json.loads(step([*program, "explain", message, "--json"], env, place))
    fix: str = explained["fix"][0]
    if not fix.startswith("qs-certs "):
        raise Astray(f"explain names {fix!r} first")
    step([*program, *shlex.split(fix)[1:]], env, place)
    step([*program, "check"], env, place)
    return time.monotonic() - began, fix


def from_clone_to_tests(place: Path, env: Mapping[str, str]) -> float:
    """Seconds that all tests take in the clone, their environment included."""
    began = time.monotonic()
    step([sys.executable, "scripts/test.py"], env, place / "clone")
    return time.monotonic() - began


def main(arguments: list[str]) -> int:
    """Walk the ways and print the table; the exit code."""
    if arguments not in ([], ["--tests"]):
        print(__doc__)
        return 0 if arguments in (["--help"], ["-h"]) else 2
    if sys.platform == "win32":
        print("this needs a system where HOME names the home", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="stranger-") as folder:
        place = Path(folder)
        homes = place / "first", place / "second"
        for home in homes:
            home.mkdir()
        first, second = (environment(home, os.environ) for home in homes)
        rows = []
        try:
            seconds = from_clone_to_check(place, first)
            rows.append(("a clone", "a root in place and a green `check`", seconds))
            seconds, fix = from_error_to_fix([str(launcher(first))], ERROR, second, place)
            rows.append(("an error message", f"its fix (`{fix}`) and a green `check`", seconds))
            if arguments:
                seconds = from_clone_to_tests(place, first)
                rows.append(("a clone", "all tests passed", seconds))
        except Astray as trouble:
            print(trouble, file=sys.stderr)
            return 6
    print("| from | to | seconds |", "|---|---|---|", sep="\n")
    for begin, end, seconds in rows:
        print(f"| {begin} | {end} | {seconds:.1f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
