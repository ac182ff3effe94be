"""OpenSSL's own loader, through Python's `ssl`: the last word on what libpq loads.

`load_verify_locations(cafile=)` of a bare context is the call that libpq makes
(libpq:fe-secure-openssl.c `initialize_SSL`).  `create_default_context` is not (it adds flags and
the system's roots), nor is `cadata=` (another parser).
"""

from __future__ import annotations

import contextlib
import os
import re
import ssl
import sys
from collections.abc import Iterable, Iterator

from qs_certs import bundle
from qs_certs.bundle import NOTHING_FOUND, Bundle
from qs_certs.errors import CouldNotWrite
from qs_certs.values import Value

TEXT_MODE = sys.platform == "win32"
"""Some libpq here may end its reading at a Ctrl-Z: that of an OpenSSL before 3.4 on Windows.

Later ones read on (openssl/openssl#25716), and the OpenSSL of this Python may be either.  What
nobody overlooks is what stands in front of it.
"""


def parse(content: bytes) -> Bundle:
    """What every libpq on this system reads in *content*."""
    return bundle.parse(content, text_mode=TEXT_MODE)


class Loaded(Value):
    """What OpenSSL made of a root file: distinct certificates and CRLs, or its *error*."""

    certificates: int
    crls: int
    error: str | None
    context: ssl.SSLContext
    """The context, with these trust anchors and no others."""

    @property
    def ca_ders(self) -> frozenset[bytes]:
        """The loaded certificates that are CAs."""
        return frozenset(self.context.get_ca_certs(binary_form=True))


def load(path: str | os.PathLike[str]) -> Loaded:
    """Load the root file *path*.  OSError where it cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    error: str | None = None
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError as refusal:
        error = re.sub(r"^\[[^]]*\] | \(_ssl\.c:\d+\)$", "", refusal.strerror or str(refusal))
    stats = context.cert_store_stats()
    return Loaded(stats["x509"], stats["crl"], error, context)


@contextlib.contextmanager
def scratch(data: bytes) -> Iterator[str]:
    """The path of a temporary file that holds *data*: only a file is read as libpq reads it.

    CouldNotWrite where none can be made.
    """
    import tempfile

    path = None
    try:
        try:
            handle, path = tempfile.mkstemp(prefix="qs-certs-", suffix=".crt")
            # Closed before it is loaded: Windows opens no file twice.
            with os.fdopen(handle, "wb") as file:
                file.write(data)
        except OSError as error:
            raise CouldNotWrite(
                "a temporary file for OpenSSL cannot be written; nothing was changed",
                why=error.strerror,
                fix=("free some space, or set TMPDIR to a folder that you can write",),
            ) from error
        yield path
    finally:
        if path is not None:
            with contextlib.suppress(OSError):
                os.unlink(path)  # noqa: PTH108 (pathlib is not needed for one call)


def holding(ders: Iterable[bytes]) -> ssl.SSLContext:
    """A context that holds these certificates, all of which OpenSSL has loaded before."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if data := b"".join(ders):
        context.load_verify_locations(cadata=data)
    return context


def load_bytes(data: bytes) -> Loaded:
    """Load *data* as if it were a root file.  CouldNotWrite where no temporary file can be made."""
    with scratch(data) as path:
        return load(path)


def refused(parsed: Bundle) -> frozenset[int]:
    """Numbers of the blocks that OpenSSL refuses although `parse` found nothing wrong with them."""
    return frozenset(
        block.number
        for block in parsed.blocks
        if block.problem is None
        and load_bytes(parsed.raw[block.start : block.end]).error not in (None, NOTHING_FOUND)
    )
