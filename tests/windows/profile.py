"""Give this Windows user other AppData folders, as folder redirection does: in the registry.

The shell, and with it libpq and platformdirs, follows at once.  It changes the real user's profile
until this process ends, so it is done only where QS_CERTS_REDIRECT allows it: on machines that are
thrown away.
"""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path

ALLOWED = os.environ.get("QS_CERTS_REDIRECT") == "allowed"

_KEY = r"Software\Microsoft\Windows\CurrentVersion\Explorer\User Shell Folders"
_USUAL = {
    "AppData": r"%USERPROFILE%\AppData\Roaming",
    "Local AppData": r"%USERPROFILE%\AppData\Local",
}


def redirect(home: Path) -> None:
    """AppData lies below *home* from now on, for every program of this user."""
    assert ALLOWED
    atexit.register(_write, _USUAL)
    roaming, local = home / "AppData" / "Roaming", home / "AppData" / "Local"
    for folder in (roaming, local):
        folder.mkdir(parents=True, exist_ok=True)
    _write({"AppData": str(roaming), "Local AppData": str(local)})


def _write(values: dict[str, str]) -> None:
    if sys.platform == "win32":
        import winreg

        with winreg.CreateKey(winreg.HKEY_CURRENT_USER, _KEY) as key:
            for name, value in values.items():
                winreg.SetValueEx(key, name, 0, winreg.REG_EXPAND_SZ, value)
