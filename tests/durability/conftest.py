"""What these tests share with those of `tests/faults`, and which of them run when."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from tests.faults.conftest import arena
from tests.faults.counting import count

__all__ = ["arena", "count"]

LONG = os.environ.get("QS_CERTS_LONG") == "1"
# They need loop devices and four file systems, which few machines that run tests can lend.
collect_ignore = [] if LONG else ["test_power_cuts.py"]


@pytest.fixture(scope="session", autouse=True)
def clean_end() -> Iterator[None]:
    """Who terminates the tests interrupts them, so that processes and mounts go with them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    yield
    signal.signal(signal.SIGTERM, before)
