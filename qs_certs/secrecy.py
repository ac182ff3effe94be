"""What is not repeated: text that may be, or may hold, a password or an access token.

A connection URL gets into `PGHOST`, `sslrootcert=`, `--target` or `--user` by a slip of the hand or
of a script, with its password.  Whoever takes such a value asks here before a message, a result or
the journal repeats it.  What the notation of a connection string hides is `libpq.settings`' matter.
"""

from __future__ import annotations

import re

from qs_certs.errors import WrongUsage

# Compiled where they are used: most checks have nothing to ask here.
_LEAK = (
    # A setting that a missing quote or separator let slip in.  The name of a key in a token
    # (RFC 7512: `sslkey=pkcs11:token=...;object=...`) is none, unless it brings its PIN.
    r"(?i)(?:password|passwd|secret|(?<![:;])token|pin-value|scram_(?:client|server)_key)\s*="
    r"|\A[^\s/\\:@]+:[^\s/\\@]+@"  # user:password@host
)
# One letter before the colon is a drive.
_URL = r"\A[A-Za-z][A-Za-z0-9+.-]+:/|://"


def suspicious(text: str) -> bool:
    """Whether *text* looks as if it held a secret.  Time is linear in its length."""
    return re.search(_LEAK, text) is not None or _has_credentials(text) or _has_token(text)


def _has_credentials(text: str) -> bool:
    """Whether there is a URL with something before an `@`."""
    if "://" not in text:
        return False
    return any("://" in part for word in text.split() for part in word.split("@")[:-1])


def _has_token(text: str) -> bool:
    """Whether there is an access token (RFC 7519 §3: base64url of `{"`, and a dot behind it)."""
    parts = re.findall(r"(?<![\w-])[\w-]{9,}(?=\.)", text) if "." in text else ()
    return any("eyj" in part[:-6].lower() for part in parts)


def suspicious_file(text: str) -> bool:
    """The same for the name of a file, where any URL is a slip, whatever it holds.

    One slash is enough: `pathlib` makes one of two.
    """
    return re.search(_URL, text) is not None or suspicious(text)


def repeated(name: str) -> str:
    """*name* for a message that says there is nothing of that name; nothing of it where it looks
    like a pair, a setting or a URL, since it may be anything, or where there is nothing to see."""
    pair = re.search("[:=]", name) is not None and re.fullmatch("[0-9A-Fa-f:]+", name) is None
    return "of that name" if pair or suspicious_file(name) or not name.strip() else name


def require_file_name(what: str, text: str, *, fix: tuple[str, ...] = ()) -> None:
    """Raise WrongUsage where *text*, the value of *what*, is a URL or may hold a secret."""
    if suspicious_file(text):
        raise WrongUsage(
            f"{what} names a file, and this is a URL or holds what looks like a password", fix=fix
        )
