r"""Set qs-certs up from this kit, without a network and without a package index.

    python3 install.py [OPTIONS OF qs-certs install ...]
    python3 install.py --uninstall

Needs Python 3.10 or newer and nothing else.  Makes a virtual environment of its own, installs the
packages of this folder into it, each only if its hash is the one in requirements.txt, puts
`qs-certs` into ~/.local/bin (Windows: says where it is), then runs `qs-certs install --offline`,
whose exit code it ends with.  Run again, it changes nothing.

--uninstall removes what this script made.  Root files stay as they are, and so does the rollback
store: to take a certificate out again, run `qs-certs rollback` first.

QS_CERTS_HOME names another folder for all of it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from environment import Recipe
from onboard import onboard

KIT = Path(__file__).resolve().parent


def main(arguments: list[str]) -> int:
    """Install from the kit that this file lies in."""
    recipe = Recipe(
        (KIT / "requirements.txt",), editable=False, checkout=KIT, wheels=KIT / "wheels"
    )
    offline = [] if "--offline" in arguments else ["--offline"]
    asked = arguments if arguments in (["--help"], ["-h"]) else [*offline, *arguments]
    return onboard(Path(__file__), __doc__ or "", recipe, asked)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
