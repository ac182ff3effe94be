"""The one file that needs no Python, for Windows: made and tried under Wine.  The long form only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import single
from windows import WINE, WindowsMissing, cache_folder, ensure

from tests.windows.conftest import Count

LOCK = Path(single.__file__).resolve().parent.parent / "requirements" / "single.txt"


@pytest.mark.slow
def test_one_file_for_windows_installs_checks_and_undoes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: Count
) -> None:
    try:
        made = ensure(cache_folder() / "single")  # its own: PyInstaller is no part of the other
    except WindowsMissing as missing:
        pytest.skip(str(missing))
    packages = made.drive / "Python" / "Lib" / "site-packages"
    subprocess.run(
        [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", str(packages),
         "--python-platform", "x86_64-pc-windows-msvc", "--python-version", "3.11",
         "--only-binary", ":all:", "--require-hashes", "--requirement", str(LOCK)],
        check=True,
    )  # fmt: skip
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in made.environment(None).items():
        monkeypatch.setenv(name, value)
    with made.serving():
        file = single.build([WINE, made.python], tmp_path)
        count("bytes of the one file for Windows", file.stat().st_size)

        def ran(*words: str) -> int:
            return made.run(f"Z:{file}", *words).returncode

        assert made.run(f"Z:{file}", "--version").stdout.startswith(b"qs-certs ")
        assert ran("check") == 1, "the control: nothing is there"
        assert ran("install", "--offline") == 0
        assert ran("check") == 0
        assert ran("rollback") == 0
        assert ran("check") == 1
