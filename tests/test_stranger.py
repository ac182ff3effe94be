"""scripts/stranger.py: the way from an error message to its fix, with this checkout's program.

The way from a clone needs the package index; the script itself is how it is measured.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import stranger

from tests.program import SOURCE

if sys.platform == "win32":
    pytest.skip("not on Windows: HOME does not name the home there", allow_module_level=True)

PROGRAM = (sys.executable, "-m", "qs_certs")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """A stranger's environment, without a network: the copy in the package serves."""
    home = tmp_path / "home"
    home.mkdir()
    found = stranger.environment(home, os.environ)
    return {
        **found,
        "PYTHONPATH": str(SOURCE),
        "QS_CERTS_URL": "https://127.0.0.1:1/",
        "HTTPS_PROXY": "",
        "NO_PROXY": "*",
    }


def test_the_first_fix_for_psql_s_message_makes_check_green(
    env: dict[str, str], tmp_path: Path
) -> None:
    seconds, fix = stranger.from_error_to_fix(PROGRAM, stranger.ERROR, env, tmp_path)
    assert fix == "qs-certs install"
    assert 0 < seconds < 60


@pytest.mark.parametrize(
    ("message", "why"),
    [
        pytest.param("no such message of any client", "explain", id="unknown"),
        pytest.param("session limit reached", "check -h", id="another trouble"),
    ],
)
def test_a_message_whose_fix_is_another_leaves_check_red(
    env: dict[str, str], tmp_path: Path, message: str, why: str
) -> None:
    with pytest.raises(stranger.Astray, match=why):
        stranger.from_error_to_fix(PROGRAM, message, env, tmp_path)


def test_a_home_that_is_set_up_already_shows_nothing(env: dict[str, str], tmp_path: Path) -> None:
    stranger.step([*PROGRAM, "install", "--offline"], env, tmp_path)
    with pytest.raises(stranger.Astray, match="check: exit code 0"):
        stranger.from_error_to_fix(PROGRAM, stranger.ERROR, env, tmp_path)


def test_a_stranger_has_none_of_our_settings() -> None:
    given = {"PGSSLMODE": "x", "QS_CERTS_STORE": "x", "SUDO_UID": "0", "PATH": "/bin", "HOME": "x"}
    assert stranger.environment(Path("/home/new"), given) == {
        "PATH": "/bin",
        "HOME": "/home/new",
        "PIP_NO_CACHE_DIR": "1",
    }
