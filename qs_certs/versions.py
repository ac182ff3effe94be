"""The versions that matter in a report of a bug, without loading what they are of."""

from __future__ import annotations

import platform
from importlib import metadata

from qs_certs import __version__

LIBRARIES = ("certifi", "cryptography", "platformdirs", "requests", "typer")


def versions() -> tuple[tuple[str, str], ...]:
    """Names and versions: our own first, then what we stand on."""
    return (
        ("qs-certs", __version__),
        ("Python", f"{platform.python_version()} ({platform.python_implementation()})"),
        ("OpenSSL", _openssl()),
        ("system", platform.platform()),
        *((name, _installed(name)) for name in LIBRARIES),
    )


def _openssl() -> str:
    """That of Python's `ssl`, which judges; `cryptography` brings another one."""
    try:
        import ssl
    except ImportError:  # a Python that was built without it
        return "missing"
    return ssl.OPENSSL_VERSION.removeprefix("OpenSSL ")


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # packed into one file, without its metadata
        return "unknown"
