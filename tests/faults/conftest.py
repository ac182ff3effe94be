"""The counters, and a folder in memory where the machine has one: none of this needs a disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.counting import count

__all__ = ["arena", "count"]

_MEMORY = Path("/dev/shm")


@pytest.fixture
def arena() -> Iterator[Path]:
    memory = str(_MEMORY) if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(
        prefix="qs-certs-", dir=memory, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder).resolve() / "arena"
