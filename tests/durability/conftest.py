"""What these tests share with those of `tests/faults`, and which of them run when."""

from __future__ import annotations

import os

from tests.faults.conftest import arena
from tests.faults.counting import count

__all__ = ["arena", "count"]

LONG = os.environ.get("QS_CERTS_LONG") == "1"
# They need loop devices and four file systems, which few machines that run tests can lend.
collect_ignore = [] if LONG else ["test_power_cuts.py"]
