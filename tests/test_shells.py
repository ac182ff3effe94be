"""Shell scripts that users run, under the shells of all systems: macOS has zsh and bash 3.2."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
# shellcheck finds what bash 3.2, which no Debian has, lacks of bash: a script for sh uses none.
READERS = {
    "dash": ["dash", "-n"],
    "zsh": ["zsh", "--emulate", "sh", "-n"],
    "bash": ["bash", "--posix", "-n"],
    "shellcheck": ["shellcheck", "-s", "sh"],
}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="not on Windows: no shells")


def complaints(reader: str, script: Path) -> str:
    command = READERS[reader]
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    done = subprocess.run([*command, script], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr or "refused"


def scripts() -> list[Path]:
    """What lies in scripts/ for a shell: by its name, or by its first line."""
    return [
        file
        for file in sorted(SCRIPTS.rglob("*"))
        if file.is_file()
        and "__pycache__" not in file.parts
        and (file.suffix == ".sh" or file.read_bytes().startswith(b"#!/bin/sh"))
    ]


@pytest.mark.parametrize("reader", READERS)
def test_every_shell_reads_every_script(reader: str) -> None:
    assert {str(each): complaints(reader, each) for each in scripts()} == {
        str(each): "" for each in scripts()
    }


@pytest.mark.parametrize(
    ("reader", "text"),
    [
        *((name, "if true; then\n") for name in READERS),
        ("shellcheck", 'declare -A made\nmade[a]=b\necho "${made[a]}"\n'),
        ("shellcheck", 'name=Ana\necho "${name,,}"\n'),
        ("shellcheck", "[[ -n $HOME ]] && echo yes\n"),
    ],
)
def test_a_script_that_one_of_them_cannot_read_would_be_seen(
    tmp_path: Path, reader: str, text: str
) -> None:
    script = tmp_path / "script.sh"
    script.write_text("#!/bin/sh\n" + text)
    assert complaints(reader, script)
    script.write_text("#!/bin/sh\nset -eu\nprintf '%s\\n' \"$HOME\"\n")
    assert not complaints(reader, script)


def test_scripts_are_found_by_name_and_by_first_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.sh").write_text("")
    (tmp_path / "b").write_text("#!/bin/sh\n")
    (tmp_path / "c.py").write_text("#!/usr/bin/env python3\n")
    monkeypatch.setattr(sys.modules[__name__], "SCRIPTS", tmp_path)
    assert [each.name for each in scripts()] == ["a.sh", "b"]
