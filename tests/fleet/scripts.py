"""The scripts of scripts/fleet, and the page that says what each tool makes of an exit code."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.program import SOURCE, Done, Program

FLEET = SOURCE / "scripts" / "fleet"
PAGE = (SOURCE / "docs" / "fleet.md").read_text("utf-8")

INSTALL = FLEET / "install.sh"
INSTALLCHECK = FLEET / "munki-installcheck.sh"
JAMF = FLEET / "jamf-attribute.sh"
INTUNE = FLEET / "intune-attribute.sh"
SHELL_SCRIPTS = (INSTALL, INSTALLCHECK, JAMF, INTUNE)
POWERSHELL_SCRIPTS = (FLEET / "intune-detect.ps1", FLEET / "intune-remediate.ps1")

SHELLS = {
    "dash": ["dash"],
    "bash as sh": ["bash", "--posix"],
    "bash": ["bash"],
    "zsh": ["zsh", "-f"],
    "busybox": ["busybox", "sh"],
}


PLACES = "/usr/bin:/bin"
"""Where an agent looks for commands."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A row of the page: what each tool's script makes of one exit code of `check`."""

    check: int | None
    """None: there is no qs-certs."""
    detection: int
    installcheck: int
    word: str


def _verdicts() -> Iterator[Verdict]:
    section = PAGE.split("\n## Exit codes\n", 1)[1]
    for row in re.findall(r"^\| (\d+|none) \|(.+)\|$", section.split("\n\n`install", 1)[0], re.M):
        detection, _, installcheck, word = (cell.strip() for cell in row[1].split("|"))
        check = None if row[0] == "none" else int(row[0])
        yield Verdict(check, int(detection), int(installcheck.split(",")[0]), word.strip("`"))


VERDICTS = tuple(_verdicts())


@contextmanager
def _commands(folder: Path, *, root: bool, program: str | None) -> Iterator[str]:
    """A PATH on which `id` says who we are, and `qs-certs` is *program*, or missing."""
    folder.mkdir()
    scripts = {"id": f"#!/bin/sh\necho {0 if root else 1000}\n"}
    if program is not None:
        scripts["qs-certs"] = program
    for name, text in scripts.items():
        (folder / name).write_text(text, "utf-8")
        (folder / name).chmod(0o755)
    yield f"{folder}:{PLACES}"
    shutil.rmtree(folder)


def real(program: Program) -> str:
    """A `qs-certs` that runs the program under test."""
    settings = " ".join(f"{k}='{v}'" for k, v in program.environment.items() if k != "PATH")
    return f'#!/bin/sh\nexec env {settings} {sys.executable} -m qs_certs "$@"\n'


def stub(code: int, said: str = "qs-certs: it says") -> str:
    """A `qs-certs` that notes its words (see `words`), says *said* and ends with *code*."""
    return f'#!/bin/sh\necho "$*" >"$HOME/words"\ncat <<\'EOF\'\n{said}\nEOF\nexit {code}\n'


def words(folder: Path) -> str:
    """What the stub was called with."""
    return (folder / "words").read_text("utf-8").removesuffix("\n")


def run(
    script: Path,
    *arguments: str,
    folder: Path,
    program: str | None,
    shell: str = "dash",
    root: bool = False,
) -> Done:
    """Run *script* as an agent does: in another folder, with little in its environment."""
    with _commands(folder / "bin", root=root, program=program) as path:
        done = subprocess.run(
            [*SHELLS[shell], str(script), *arguments],
            env={"PATH": path, "HOME": str(folder), "LC_ALL": "C.UTF-8"},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def executable(path: Path) -> bool:
    return bool(path.stat().st_mode & stat.S_IXUSR) and os.access(path, os.X_OK)
