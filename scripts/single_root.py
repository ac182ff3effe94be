"""Runs first in the one file that `single.py` makes: what it unpacked becomes readable to others.

PyInstaller unpacks into a folder that only its owner may enter.  Root's work for another user is
done with that user's rights, and what it loads then comes out of that folder.  Nothing in there is
secret, and nobody else gets to write.
"""

import os
import sys
from pathlib import Path

folder = getattr(sys, "_MEIPASS", None)  # PyInstaller's; without it, nothing was unpacked
if folder is not None and sys.platform != "win32" and os.geteuid() == 0:
    unpacked = Path(folder)
    for path in (unpacked, *unpacked.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755)
