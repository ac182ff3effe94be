"""Where the program begins: `qs-certs` and `python -m qs_certs`."""

from __future__ import annotations

import gc
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line.

    Without the collector of cycles until everything is loaded: loading makes much that stays and
    no garbage, and looking for it there is a tenth of what a local `check` costs.
    """
    gc.disable()
    from qs_certs.cli import main

    main()


if __name__ == "__main__":
    main()
