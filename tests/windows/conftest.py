"""The Windows of scripts/windows.py, for one test session, and what it had to do."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.faults.counting import WINDOWS

if sys.platform != "linux":  # inside/ is for Windows, the rest for a Linux with Wine
    collect_ignore_glob = ["test_*.py"]
else:
    collect_ignore_glob = ["inside/*"]
    if os.environ.get("QS_CERTS_LONG") != "1":  # a minute and a half, for what few would break
        collect_ignore_glob.append("test_single_file.py")

Count = Callable[[str, int], None]


@pytest.fixture
def count(record_property: Callable[[str, object], None]) -> Count:
    return lambda what, number: record_property(WINDOWS, [what, number])


if sys.platform == "linux":
    from windows import Windows, WindowsMissing, cache_folder, ensure

    @pytest.fixture(scope="session")
    def windows() -> Iterator[Windows]:
        try:
            made = ensure(cache_folder())
        except WindowsMissing as missing:
            pytest.skip(str(missing))
        with made.serving():
            yield made
