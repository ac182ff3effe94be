"""The man page: what the program says today, whole, and in roff that nobody complains about."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import manpage
import pytest
import reference

from qs_certs.errors import ExitCode
from tests.program import SOURCE
from tests.test_readme import COMMANDS, options

PAGE = manpage.PAGE


def test_it_is_what_the_program_says_today() -> None:
    assert PAGE.read_text("utf-8") == manpage.page(), "run python scripts/manpage.py"


def test_a_page_that_is_behind_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert manpage.main(["--check"]) == 0
    monkeypatch.setattr(manpage, "PAGE", tmp_path / "qs-certs.1")
    (tmp_path / "qs-certs.1").write_text(PAGE.read_text("utf-8").replace("strict", "stern"))
    assert manpage.main(["--check"]) == 1
    assert manpage.main([]) == 0
    assert manpage.main(["--check"]) == 0


def test_the_script_speaks_of_its_own_checkout_whatever_is_installed(tmp_path: Path) -> None:
    for folder in ("qs_certs", "scripts"):
        shutil.copytree(SOURCE / folder, tmp_path / folder)
    (tmp_path / "docs").mkdir()
    shutil.copy(PAGE, tmp_path / "docs")
    shutil.copy(SOURCE / "README.md", tmp_path)
    command = [sys.executable, str(tmp_path / "scripts" / "manpage.py"), "--check"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    version = tmp_path / "qs_certs" / "__init__.py"
    version.write_text(version.read_text("utf-8").replace('__version__ = "', '__version__ = "9'))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")


def set_in(width: int, source: str) -> tuple[str, str]:
    """The page as a terminal shows it, without overstriking; and what groff complains of."""
    if shutil.which("groff") is None:
        pytest.skip("needs groff")
    command = ["groff", "-ww", "-man", "-Tutf8", "-P-c", f"-rLL={width}n"]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=True)
    return re.sub(r".\x08", "", done.stdout), done.stderr


def test_groff_has_nothing_to_complain_of() -> None:
    _, complaints = set_in(78, PAGE.read_text("utf-8"))
    assert complaints == ""


def test_groff_would_complain() -> None:
    _, complaints = set_in(78, PAGE.read_text("utf-8") + ".NOSUCH\n\\(qq\n")
    assert "NOSUCH" in complaints


def shown() -> str:
    return " ".join(set_in(200, PAGE.read_text("utf-8"))[0].split())


def test_it_has_every_command_option_exit_code_example_and_variable() -> None:
    page = shown()
    for name in COMMANDS:
        assert f"qs-certs {name} [OPTIONS]" in page, name
    for option in options() - {"--help"}:
        assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", page), option
    for code, meaning, _ in reference.table("Exit codes"):
        assert f" {code} {meaning}".replace("`", "") in page
    assert len(reference.table("Exit codes")) == len(ExitCode)
    for command in reference.commands():
        assert command.examples, command.name
        for _, line in command.examples:
            assert line in page
    for names, _ in reference.ENVIRONMENT:
        assert names in page


def test_every_variable_that_the_program_reads_is_told() -> None:
    """But for libpq's, which are libpq's to describe."""
    texts = [path.read_text("utf-8") for path in (SOURCE / "qs_certs").rglob("*.py")]
    asked = {name for text in texts for name in re.findall(r'env\w*(?:\.get\(|\[)"(\w+)"', text)}
    told = {word for names, _ in reference.ENVIRONMENT for word in re.findall(r"[A-Z_]{4,}", names)}
    assert {"QS_CERTS_URL", "NO_COLOR", "SUDO_UID"} <= asked, "a control"
    # Set by others for programs, not by people.
    private = {"SUDO_UID", "APPDATA", "LOCALAPPDATA", "PROGRAMDATA", "USERPROFILE"}
    assert {name for name in asked if not name.startswith("PG")} - private <= told


def test_lines_are_no_wider_than_a_terminal() -> None:
    text, _ = set_in(78, PAGE.read_text("utf-8"))
    assert [line for line in text.splitlines() if len(line) > 80] == []
