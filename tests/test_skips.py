"""With CI=true a skip is a failure, unless it is for another system or Python than this one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import skips

ROOT = Path(__file__).resolve().parent.parent


def outcome(folder: Path, source: str, **environ: str) -> int:
    """The exit code of pytest on *source*: 0 all passed or skipped, 1 failed, 5 none ran."""
    (folder / "test_it.py").write_text(source, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.skips", "-p", "no:cacheprovider"]
    env = {k: v for k, v in os.environ.items() if k not in ("CI", "QS_CERTS_SKIPS")}
    env |= {"PYTHONPATH": str(ROOT), **environ}
    command += ["--rootdir", str(folder), str(folder)]
    done = subprocess.run(command, check=False, env=env, cwd=folder, capture_output=True)
    return done.returncode


SKIP = "import pytest\ndef test_it():\n    pytest.skip({reason!r})\ndef test_other(): pass\n"
WHOLE_FILE = "import pytest\npytest.skip('no psql', allow_module_level=True)\n"
HERE = next(name for name in ("Linux", "macOS", "Windows") if skips.HERE[name])
ELSEWHERE = "Windows" if HERE == "Linux" else "Linux"
OURS = sys.version_info.minor
EXPECTED = "import pytest\n@pytest.mark.xfail\ndef test_it():\n    assert False\n"


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("no psql on this machine", 1),
        ("psql is only on Linux", 1),
        (f"only on {ELSEWHERE}", 0),
        (f"only on {HERE}, with the right to mount", 1),
        (f"not on {HERE}: no setpriv", 0),
        (f"not on {ELSEWHERE}: no setpriv", 1),
        (f"not on {ELSEWHERE} or {HERE}: it is the rule there", 0),
        (f"only on {ELSEWHERE} or {HERE}, as root", 1),
        (f"needs Python 3.{OURS + 1}", 0),
        (f"needs Python 3.{OURS}", 1),
        (f"needs Python 3.{OURS - 1} or older: atheris", 0),
        (f"needs Python 3.{OURS} or older: atheris", 1),
    ],
)
def test_on_ci_a_skip_needs_a_good_reason(tmp_path: Path, reason: str, expected: int) -> None:
    assert outcome(tmp_path, SKIP.format(reason=reason), CI="true") == expected


@pytest.mark.parametrize("environ", [{}, {"CI": "true", "QS_CERTS_SKIPS": "allowed"}])
def test_elsewhere_any_reason_is_good(tmp_path: Path, environ: dict[str, str]) -> None:
    assert outcome(tmp_path, SKIP.format(reason="no psql on this machine"), **environ) == 0


def test_on_ci_a_whole_file_may_not_skip(tmp_path: Path) -> None:
    assert outcome(tmp_path, WHOLE_FILE) == 5
    assert outcome(tmp_path, WHOLE_FILE, CI="true") in (1, 2)


def test_an_expected_failure_is_not_a_skip(tmp_path: Path) -> None:
    assert outcome(tmp_path, EXPECTED, CI="true") == 0
