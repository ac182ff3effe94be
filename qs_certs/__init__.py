"""Verified TLS connections to PostgreSQL-wire services: install, judge and undo trust anchors.

`check` and `install` are the two functions for programs.  They return the same results that the
commands render, print nothing and never end the process.  Importing this package loads neither
of them, nor anything else: it costs next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qs_certs.api import install
    from qs_certs.inspection import check

__version__ = "0.1.0"
__all__ = ["__version__", "check", "install"]


def __getattr__(name: str) -> object:
    if name == "install":
        from qs_certs.api import install

        return install
    if name == "check":
        from qs_certs.inspection import check

        return check
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
