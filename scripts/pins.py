"""Compare every pin of this repository with what is published today.

    python3 scripts/pins.py [roots|locks]

roots: the fingerprint of each root of the catalogue, and the copy in the package, against the
certificate at its publisher's address.  locks: each hash in requirements/, against those that the
package index gives for the same versions now; a hash that the index no longer has is a file that
was taken back or replaced.  Files that were published later are no difference.

Exit codes: 0 all agree; 2 wrong usage; 4 something could not be reached, so nobody can tell; 5
something differs.  Nothing is ever called good because it could not be looked at.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import lock
from environment import CHECKOUT

PATIENCE = 20
"""Seconds for one address."""
LIMIT = 256 * 1024
SAME, UNKNOWN, DIFFERENT = 0, 4, 5


class Verdict(NamedTuple):
    """What came of one pin: SAME, UNKNOWN or DIFFERENT, and what there is to say."""

    name: str
    code: int
    words: str


# --- roots --------------------------------------------------------------------------------------


class Pin(NamedTuple):
    """A root of the catalogue, and the fingerprint of the copy that we ship."""

    name: str
    url: str
    sha256: str
    embedded: str


def catalogue_pins() -> list[Pin]:
    """From the catalogue's own file, which needs no other part of the package."""
    file = CHECKOUT / "qs_certs" / "catalogue.py"
    spec = importlib.util.spec_from_file_location("catalogue", file)
    assert spec is not None  # noqa: S101 - for the type checker
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules["catalogue"] = module
    spec.loader.exec_module(module)
    pems = CHECKOUT / "qs_certs" / "roots"
    return [
        Pin(root.name, root.url, root.sha256, fingerprint((pems / f"{root.name}.pem").read_bytes()))
        for root in module.ROOTS.values()
    ]


def fingerprint(content: bytes) -> str:
    """SHA-256 of the DER bytes of the one certificate in *content*, PEM or DER.

    ValueError where there is none, or more than one.
    """
    if content.startswith(b"\x30\x82"):  # ASN.1: a SEQUENCE of more than 255 bytes
        return hashlib.sha256(content).hexdigest()
    text = content.decode("ascii")
    block = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
    found = block.findall(text)
    if len(found) != 1:
        raise ValueError(f"{len(found)} certificates where one is expected")
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(found[0])).hexdigest()


def download(url: str) -> bytes:
    """What is at *url* now; OSError where it cannot be had."""
    if not url.startswith("https://"):
        raise OSError(f"{url} is not HTTPS")
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310 - HTTPS, see above
        content: bytes = answer.read(LIMIT)
    return content


def judge_root(pin: Pin, fetch: Callable[[str], bytes] = download) -> Verdict:
    """One root of the catalogue."""
    if pin.embedded != pin.sha256:
        return Verdict(pin.name, DIFFERENT, f"the copy in the package is {pin.embedded}")
    try:
        published = fingerprint(fetch(pin.url))
    except OSError as error:
        return Verdict(pin.name, UNKNOWN, f"could not tell: {error}")
    except ValueError as error:
        return Verdict(pin.name, UNKNOWN, f"could not tell: {pin.url} answered with {error}")
    if published != pin.sha256:
        return Verdict(pin.name, DIFFERENT, f"pinned {pin.sha256}, published {published}")
    return Verdict(pin.name, SAME, f"as published at {pin.url}")


# --- locks --------------------------------------------------------------------------------------

_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")


def hashes(text: str) -> dict[str, set[str]]:
    """A lock as `name==version` → hashes."""
    found: dict[str, set[str]] = {}
    pinned: set[str] = set()
    for line in text.splitlines():
        if line and not line.startswith(("#", " ")):
            pinned = found.setdefault(re.split(r"[ ;\\]", line)[0], set())
        pinned.update(_HASH.findall(line))
    return found


def without_hashes(text: str) -> str:
    """A lock as pins alone: uv keeps hashes that it finds, and is to ask for them anew."""
    lines = [line.removesuffix("\\").rstrip() for line in text.splitlines()]
    return "\n".join(line for line in lines if line and not line.startswith((" ", "#"))) + "\n"


def published(uv: list[str], name: str, folder: Path) -> str:
    """The lock *name* as the index would have it now; OSError where that cannot be had."""
    path = folder / f"{name}.txt"
    path.write_text(without_hashes(lock.path_of(name).read_text("utf-8")), encoding="utf-8")
    try:
        lock.lock(uv, name, path, "--refresh")
    except subprocess.CalledProcessError as error:
        raise OSError(f"uv ended with {error.returncode}") from error
    return path.read_text("utf-8")


def compare(name: str, pinned: str, now: str) -> Verdict:
    """One lock with the same pins as they are published *now*."""
    ours, theirs = hashes(pinned), hashes(now)
    if not ours or not all(ours.values()):
        return Verdict(name, DIFFERENT, "a pin has no hash")
    unknown = sorted(ours.keys() - theirs.keys())
    gone = [
        f"{pin} {digest}"
        for pin in sorted(ours.keys() & theirs.keys())
        for digest in sorted(ours[pin] - theirs[pin])
    ]
    if gone:
        return Verdict(name, DIFFERENT, f"no longer published: {', '.join(gone)}")
    if unknown:
        return Verdict(name, UNKNOWN, f"could not tell about {', '.join(unknown)}")
    count = sum(len(digests) for digests in ours.values())
    return Verdict(name, SAME, f"{count} hashes of {len(ours)} packages as published")


def judge_locks() -> list[Verdict]:
    """Every lock; UNKNOWN for each where the index, or uv itself, cannot be had."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            uv = lock.uv_in(str(Path(folder, "uv")))
        except (OSError, subprocess.CalledProcessError) as error:
            return [Verdict(f"{n}.txt", UNKNOWN, f"could not tell: {error}") for n in lock.LOCKS]
        verdicts = []
        for name in lock.LOCKS:
            text = lock.path_of(name).read_text("utf-8")
            try:
                verdicts.append(compare(f"{name}.txt", text, published(uv, name, Path(folder))))
            except OSError as error:
                verdicts.append(Verdict(f"{name}.txt", UNKNOWN, f"could not tell: {error}"))
        return verdicts


# --- the command --------------------------------------------------------------------------------


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """A difference outranks what could not be looked at; nothing at all is no agreement."""
    return max((verdict.code for verdict in verdicts), default=UNKNOWN)


def main(arguments: list[str]) -> int:
    """Print a line for each pin or lock; the exit code."""
    if arguments not in ([], ["roots"], ["locks"]):
        print(__doc__)
        return 0 if arguments in (["--help"], ["-h"]) else 2
    verdicts: list[Verdict] = []
    if arguments != ["locks"]:
        verdicts += [judge_root(pin) for pin in catalogue_pins()]
    if arguments != ["roots"]:
        verdicts += judge_locks()
    for verdict in verdicts:
        mark = {SAME: "same", UNKNOWN: "????", DIFFERENT: "DIFFERENT"}[verdict.code]
        print(f"{mark:<9}  {verdict.name}: {verdict.words}")
    return exit_code(verdicts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
