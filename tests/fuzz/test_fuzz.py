"""A few seconds of fuzzing for each target, and every seed by itself, also where there is no fuzzer.

`python scripts/fuzz.py` runs for longer.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys

import fuzz
import pytest

from tests.faults.counting import Count, count
from tests.fuzz import targets

__all__ = ["count"]

SECONDS = 600 if os.environ.get("QS_CERTS_LONG") == "1" else 3
THERE = importlib.util.find_spec("atheris") is not None

needs_atheris = [
    pytest.mark.skipif(sys.platform != "linux", reason="only on Linux: atheris"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="only on x86-64: atheris"),
    pytest.mark.skipif(sys.version_info >= (3, 14), reason="needs Python 3.13 or older: atheris"),
    pytest.mark.skipif(not THERE, reason="atheris is not installed (dependency group fuzz)"),
]


def seeds(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((fuzz.CORPUS / name).iterdir())]


def _slow(data: bytes) -> None:
    sum(range(3_000_000))


@pytest.mark.parametrize("name", targets.TARGETS)
def test_every_seed_holds_the_promises(name: str) -> None:
    found = seeds(name)
    assert found
    for data in [b"", *found, *(data[: len(data) // 2] for data in found)]:
        targets.timed(targets.TARGETS[name])(data)


def test_what_hangs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "HANG", 0.01)
    with pytest.raises(AssertionError, match="hangs"):
        targets.timed(_slow)(b"")
    targets.timed(lambda data: None)(b"")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs_atheris) for name in targets.TARGETS]
)
def test_the_fuzzer_finds_no_broken_promise(name: str, count: Count) -> None:
    executed, sound, said = fuzz.fuzz(name, SECONDS, seed=int(SECONDS < 60))
    count("fuzzing: executions", executed)
    assert sound, said[-4000:]
    assert executed > len(seeds(name)), said[-4000:]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs_atheris) for name in targets.CONTROL]
)
def test_the_fuzzer_finds_a_reader_that_forgets_what_may_be_missing(name: str) -> None:
    for data in seeds(name):
        targets.CONTROL[name](data)
    _, sound, said = fuzz.fuzz(name, 60, seed=1)
    assert not sound
    assert "KeyError" in said or "TypeError" in said or "ValueError" in said
