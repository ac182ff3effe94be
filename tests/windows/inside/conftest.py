"""Fixtures of the suite that runs in Windows itself, where nothing of the Linux bench is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.program import Program


@dataclass(frozen=True, slots=True)
class Server:
    """The PostgreSQL that whoever runs this suite has started, and the root of its chain."""

    port: int
    root: Path
    sha256: str

    def conninfo(self, sslmode: str = "verify-full") -> str:
        return f"host=localhost hostaddr=127.0.0.1 port={self.port} user=app sslmode={sslmode}"

    @property
    def options(self) -> tuple[str, ...]:
        """Of `install`, for that root."""
        return ("--from", str(self.root), "--sha256", self.sha256)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path / "Users" / "ana")


@pytest.fixture
def server() -> Server:
    told = os.environ.get("QS_CERTS_SERVER")
    if told is None:
        pytest.skip("not on Windows by itself: nobody has started a server")
    port, root, sha256 = told.split("|")
    return Server(int(port), Path(root), sha256)
