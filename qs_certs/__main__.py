"""Where the program begins: `qs-certs` and `python -m qs_certs`."""

from __future__ import annotations

import gc
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Run the command line.

    Without the collector of cycles: loading makes much that stays and no garbage, and to look for
    it there, and once more at the end, is a tenth of what a local `check` costs.
    """
    gc.disable()
    try:
        _check_without_options(sys.argv[1:])
        from qs_certs.cli import main

        main()
    finally:
        gc.freeze()


def _check_without_options(words: list[str]) -> None:
    """`check` and `check CONNINFO`: where there is no option there is nothing to parse.

    It stands before every connection, and loading a parser is more than half of what it costs.
    Returns where there is more to read.
    """
    if words[:1] != ["check"] or len(words) > 2 or words[-1].startswith("-"):
        return
    from qs_certs import console, inspection

    def work() -> NoReturn:
        console.finish("check", lambda: inspection.check(*words[1:]))

    console.run(work, "check", json=False)


if __name__ == "__main__":
    main()
