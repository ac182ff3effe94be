"""A home for each test, and the counters of the terminal summary."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.counting import count
from tests.program import Program

__all__ = ["count", "program"]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    home = tmp_path / "home"
    home.mkdir()
    return Program(home)
