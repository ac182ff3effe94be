"""A pytest plugin: with CI=true, a skipped test is a failed one.

A skip says that this machine lacks something.  On the machine that decides, that would be a test
which nobody runs and nobody misses.  Two reasons are good everywhere: another system, written
`only on Windows` or `not on macOS`, and another Python, written `needs Python 3.13`.
A runner that cannot have everything says QS_CERTS_SKIPS=allowed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from typing import Any

import pytest

GOOD_REASON = re.compile(
    r"(Skipped: )?((only|not) on (Linux|macOS|Windows|POSIX)\b|needs Python 3\.\d+)"
)


def strict(environ: dict[str, str] | os._Environ[str]) -> bool:
    return environ.get("CI") == "true" and environ.get("QS_CERTS_SKIPS") != "allowed"


def judge(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn the report of a skip without a good reason into that of a failure."""
    expected_to_fail = hasattr(report, "wasxfail")
    if not report.skipped or expected_to_fail or not isinstance(report.longrepr, tuple):
        return
    path, line, reason = report.longrepr
    if not GOOD_REASON.match(reason):
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
