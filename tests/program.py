"""The program as users run it, in a home of its own; and whole trees to compare.

Every refusal is held to the same rule: the right exit code, one clear error, and not a byte, mode
or time changed anywhere in the user's home.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import qs_certs
from qs_certs import cli

if sys.platform == "win32":
    # There the shell names the folder, whatever the environment says: it would be the real one.
    pytest.skip("only on POSIX", allow_module_level=True)

SOURCE: Path = Path(qs_certs.__file__).resolve().parent.parent
"""The folder that holds the package under test."""

# An ordinary user may not be able to enter the folder that our interpreter lives in: everything is
# imported before root's rights are dropped.
_AS_USER = """\
import os, sys
import ctypes, platformdirs.unix, ssl, tempfile
from cryptography import x509
from qs_certs import cli, inspection, openssl, render, sources, userlist
user = int(sys.argv.pop(1))
os.setgroups([])
os.setgid(user)
os.setuid(user)
cli.main()
"""
# Nothing answers at port 9 (discard) of the loopback address: a download fails at once, whatever
# network the machine has.
NO_NETWORK = "http://127.0.0.1:9"
PATIENCE = 60


@dataclass(frozen=True, slots=True)
class Done:
    """How a run of the program ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on standard output; anything beside it raises ValueError."""
        found: dict[str, Any] = json.loads(self.out)
        return found


@dataclass(frozen=True, slots=True)
class Program:
    """qs-certs for the user whose home is *home*; *env* adds to an environment of nothing else.

    Calling it runs the entry point in this process, which takes milliseconds; `process` runs it
    as users do.
    """

    home: Path
    env: Mapping[str, str] = field(default_factory=dict)
    user: int | None = None
    """The user id that a process runs as, where we are root; None: our own."""

    @property
    def root_file(self) -> Path:
        return self.home / ".postgresql" / "root.crt"

    @property
    def dedicated_file(self) -> Path:
        return self.home / ".postgresql" / "qs-root.crt"

    @property
    def store(self) -> Path:
        data = "Library/Application Support" if sys.platform == "darwin" else ".local/share"
        return self.home / data / "qs-certs"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.defpath,
            "HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            "HTTPS_PROXY": NO_NETWORK,
            "PYTHONPATH": str(SOURCE),
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.env,
        }

    def __call__(self, *words: str | Path, stdin: bytes = b"") -> Done:
        """Run it in this process, to its end."""
        assert self.user is None
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
        code: object = None
        with (
            mock.patch.dict(os.environ, self.environment, clear=True),
            mock.patch.object(sys, "argv", ["qs-certs", *map(str, words)]),
            mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8")),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                cli.main()
            except SystemExit as end:
                code = end.code
        assert isinstance(code, int)
        return Done(code, *(_text(stream) for stream in (out, err)))

    def start(self, *words: str | Path, umask: int = -1) -> subprocess.Popen[bytes]:
        """A process of its own."""
        entry = ["-m", "qs_certs"] if self.user is None else ["-c", _AS_USER, str(self.user)]
        return subprocess.Popen(
            [sys.executable, *entry, *map(str, words)],
            env=self.environment,
            cwd="/",
            umask=umask,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def process(self, *words: str | Path, stdin: bytes = b"", umask: int = -1) -> Done:
        """Run it as a process of its own, to its end."""
        with self.start(*words, umask=umask) as process:
            try:
                out, err = process.communicate(stdin, timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return Done(process.returncode, out.decode(), err.decode())

    def ok(self, *words: str | Path, stdin: bytes = b"") -> Done:
        """Run it in this process; it must exit with 0."""
        done = self(*words, stdin=stdin)
        assert done.code == 0, (words, done)
        return done


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.detach()
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()


Snapshot = dict[str, tuple[object, ...]]


def snapshot(folder: Path) -> Snapshot:
    """All there is below *folder*: names, kinds, bytes, modes, owners, modification times."""
    found = {".": _facts(folder)}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            found[str(path.relative_to(folder))] = _facts(path)
    return found


def _facts(path: Path) -> tuple[object, ...]:
    status = path.lstat()
    content: object = None
    if stat.S_ISLNK(status.st_mode):
        content = path.readlink()
    elif stat.S_ISREG(status.st_mode):
        content = path.read_bytes()
    return status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, content


def assert_one_clear_error(done: Done, code: int, *words: str) -> None:
    """Exit code *code*, and one error (what, why or what next) that holds all *words*."""
    assert done.code == code, done
    talk = done.err.splitlines()
    assert all(line.startswith("qs-certs: ") for line in talk), done
    errors = [line for line in talk if line.startswith("qs-certs: error: ")]
    assert len(errors) == 1, done
    told = any(line.startswith("qs-certs: hint: ") for line in talk) or errors[0].count(": ") > 2
    assert told, done
    for word in words:
        assert word in done.err, (word, done)
