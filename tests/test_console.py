"""The one way out: colour, and streams that cannot take what is printed."""

from __future__ import annotations

import subprocess
import sys

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


@pytest.fixture
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return Program(tmp_path_factory.mktemp("home"))
