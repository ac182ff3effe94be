"""A pytest plugin: with CI=true, a skipped test is a failed one.

A skip says that this machine lacks something.  On the machine that decides, that would be a test
which nobody runs and nobody misses.  Two reasons are good, where they are true: another system,
written `only on Windows` or `not on macOS`, and another Python, written `needs Python 3.13`.
`only on Linux, with the right to mount` is none on Linux.
A runner that cannot have everything says QS_CERTS_SKIPS=allowed.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Generator
from typing import Any

import pytest

HERE = {
    "Linux": sys.platform == "linux",
    "macOS": sys.platform == "darwin",
    "Windows": sys.platform == "win32",
    "POSIX": os.name == "posix",
    "x86-64": platform.machine().lower() in ("x86_64", "amd64"),
}

_NAMES = rf"(?:{'|'.join(HERE)})\b"
_SYSTEM = re.compile(rf"(only|not) on ({_NAMES}(?: or {_NAMES})*)")
_PYTHON = re.compile(r"needs Python 3\.(\d+)\b( or older)?")


def good(reason: str) -> bool:
    """Whether it is another system or Python that *reason* asks for, and not the one here."""
    reason = reason.removeprefix("Skipped: ")
    if system := _SYSTEM.match(reason):
        is_here = any(HERE[name] for name in system[2].split(" or "))
        return is_here == (system[1] == "not")
    if python := _PYTHON.match(reason):
        ours, theirs = sys.version_info.minor, int(python[1])
        return ours > theirs if python[2] else ours < theirs
    return False


def strict(environ: dict[str, str] | os._Environ[str]) -> bool:
    return environ.get("CI") == "true" and environ.get("QS_CERTS_SKIPS") != "allowed"


def judge(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn the report of a skip without a good reason into that of a failure."""
    expected_to_fail = hasattr(report, "wasxfail")
    if not report.skipped or expected_to_fail or not isinstance(report.longrepr, tuple):
        return
    path, line, reason = report.longrepr
    if not good(reason):
        report.outcome = "failed"
        report.longrepr = f"{path}:{line}: with CI=true nothing may be skipped: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    report = yield
    if strict(os.environ):
        judge(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    """A whole file may skip while it is collected."""
    report = yield
    if strict(os.environ):
        judge(report)
    return report
