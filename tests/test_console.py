"""The one way out: colour, and streams that cannot take what is printed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.program import SOURCE, Program


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ({"FORCE_COLOR": ""}, False),
    ],
    ids=["a pipe", "forced", "forbidden", "empty is unset"],
)
def test_a_pipe_has_colour_only_where_it_is_forced(
    program: Program, environment: dict[str, str], coloured: bool
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qs_certs", "check"],
        check=False,
        env=program.environment | environment,
        cwd=SOURCE,
        capture_output=True,
    )
    assert (b"\x1b[" in done.stdout) == coloured
    assert b"root-missing" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="only on POSIX: redirections of sh")
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("--help >/dev/full", 0),
        ("check --help >/dev/full", 0),
        ("check --help | true", 0),
        ("--version >/dev/full", 0),
        ("list >/dev/full", 0),
        ("chek 2>/dev/full", 2),
        ("2>/dev/full", 2),
    ],
)
def test_an_answer_that_nobody_can_read_changes_no_exit_code(
    program: Program, line: str, code: int
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("only on systems with /dev/full")
    words, _, after = line.partition(" |")
    # The status of the program itself, whatever reads it.
    script = f'{{ "$0" -m qs_certs {words}; echo "ended with $?" >&3; }} {after and "|"}{after}'
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec 3>&1; {script} >/dev/null", sys.executable],
        check=False,
        env=program.environment,
        cwd=SOURCE,
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"ended with {code}\n"


def test_help_ends_as_typer_prints_it(program: Program) -> None:
    done = program.ok("check", "--help")
    assert done.out.startswith("Usage: qs-certs check [OPTIONS]")
    assert done.out.endswith("\n")
    assert not done.out.endswith("\n\n")
    assert done.err == ""


@pytest.fixture
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return Program(tmp_path_factory.mktemp("home"))
