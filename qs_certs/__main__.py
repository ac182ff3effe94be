"""`python -m qs_certs`."""

from __future__ import annotations

from qs_certs.cli import main

if __name__ == "__main__":
    main()
