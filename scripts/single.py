"""Make one file that runs without Python, for the system that this runs on.

    python3 scripts/single.py FOLDER

Writes FOLDER/qs-certs (Windows: qs-certs.exe), starts it once, and says how large it is and how
long it took.  The packages come from requirements/single.txt by hash.  docs/packaging.md has the
numbers, and why it is PyInstaller.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from environment import (
    CHECKOUT,
    Recipe,
    SetupFailed,
    ensure,
    program,
    report,
    say,
    with_new_enough_python,
)

LOCKS = (
    CHECKOUT / "requirements" / "build.txt",
    CHECKOUT / "requirements" / "single.txt",
)
# What no command of ours loads, though something that we use could.  Packages that only the tests
# need are here as well: requests takes chardet where it finds it.
EXCLUDED = (
    *("rich", "pygments", "markdown_it", "mdurl", "click", "colorama", "chardet", "simplejson"),
    *("socks", "OpenSSL", "brotli", "zstandard", "setuptools", "pip", "pkg_resources", "attr"),
    *("tkinter", "unittest", "doctest", "pydoc", "sqlite3", "lzma", "bz2", "curses", "readline"),
    *("xmlrpc", "dbm", "ensurepip", "venv", "lib2to3", "distutils", "test", "tomli"),
)
# Whose versions `--version` reports, which it reads in their metadata.
REPORTED = ("certifi", "cryptography", "platformdirs", "requests", "typer")


def build(python: Sequence[str], folder: Path) -> Path:
    """Make the file in *folder* with *python*, a command that runs a Python with PyInstaller and
    our dependencies; that Python's system is the one that the file is for.

    A Windows Python under Wine works too: every path is relative to the checkout's drive.
    Made twice by the same Python and packages, the file is the same, byte for byte (Linux).
    """
    asked = [*python, "-c", "import sys; print(sys.platform)"]
    system = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory(prefix="qs-certs-single-") as work:
        command = [*python, "-m", "PyInstaller", "--onefile", "--console", "--noupx", "--clean"]
        command += ["--noconfirm", "--log-level", "WARN", "--name", "qs-certs"]
        command += ["--distpath", str(folder), "--workpath", work, "--specpath", work]
        command += ["--paths", str(CHECKOUT), "--collect-data", "qs_certs"]
        command += ["--collect-submodules", "qs_certs"]
        command += ["--runtime-hook", str(CHECKOUT / "scripts" / "single_root.py")]
        command += ["--strip"] if system == "linux" else []
        for module in EXCLUDED:
            command += ["--exclude-module", module]
        for package in REPORTED:
            command += ["--copy-metadata", package]
        command.append(str(CHECKOUT / "qs_certs" / "__main__.py"))
        # The order of sets and the dates inside: PyInstaller, "Creating a Reproducible Build".
        fixed = {"PYTHONHASHSEED": "1", "SOURCE_DATE_EPOCH": "1580601600"}
        environ = {**os.environ, **fixed, "PYINSTALLER_CONFIG_DIR": work}
        done = subprocess.run(
            command, check=False, cwd=CHECKOUT, env=environ, capture_output=True, text=True,
            errors="replace",
        )  # fmt: skip
    made = folder / ("qs-certs.exe" if system == "win32" else "qs-certs")
    if done.returncode != 0 or not made.is_file():
        lines = (done.stdout + done.stderr).strip().splitlines()
        why = "\n".join(lines[-5:]) or f"PyInstaller ended with {done.returncode}"
        raise SetupFailed("cannot make one file", why, ("mend that, then run the same again",))
    return made


def start(made: Path) -> tuple[str, float]:
    """Start *made* once: what `--version` prints, and the seconds that it took."""
    began = time.monotonic()
    done = subprocess.run([str(made), "--version"], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SetupFailed(f"{made} does not start", done.stderr.strip(), ())
    return done.stdout.strip(), time.monotonic() - began


def main(arguments: list[str]) -> int:
    """The exit code: 0 made and started, 2 wrong usage, otherwise what stopped it."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(__doc__)
        return 0 if arguments in (["--help"], ["-h"]) else 2
    try:
        elsewhere = with_new_enough_python(Path(__file__), arguments)
        if elsewhere is not None:
            return elsewhere
        with tempfile.TemporaryDirectory() as folder:
            environment = Path(folder, "env")
            ensure(environment, Recipe(LOCKS, editable=True))
            made = build([str(program(environment, "python"))], Path(arguments[0]).absolute())
        version, seconds = start(made)
    except SetupFailed as failure:
        return report(failure)
    except KeyboardInterrupt:
        return 130
    size = made.stat().st_size / 1e6
    say(f"made {made}: {size:.1f} MB, `--version` took {seconds:.2f} s and says: {version}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
