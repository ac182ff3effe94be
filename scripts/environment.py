"""Virtual environments made from the locks, for `onboard.py`, `test.py` and an offline kit's
`install.py`.  Standard library only.

Nothing outside the environment's own folder is touched, so an externally managed Python (PEP 668)
stays as it is.  Dependencies come from locks with hashes and as wheels only: no code of anybody
runs before its hash was compared, and no compiler is needed.

This file is also read by Pythons that are too old for qs-certs, to say so: keep it at 3.7.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

MINIMUM = (3, 10)
NEWER_PYTHONS = ("python3.14", "python3.13", "python3.12", "python3.11", "python3.10")
CHECKOUT = Path(__file__).resolve().parent.parent

# Written before anything else, so that a half-made environment is known as ours and may be remade.
OURS = "qs-certs-made-this"
# Written after everything else; holds the fingerprint of what the environment was made from.
COMPLETE = "qs-certs-complete"

FROM_A_FOLDER = "--find-links"

_NO_NETWORK = (
    "connection",  # "Failed to establish a new connection", "Connection refused", "... reset"
    "name resolution",
    "name or service not known",
    "getaddrinfo",
    "dns error",
    "max retries exceeded",
    "timed out",
    "proxyerror",
    "sslerror",
    "certificate verify failed",
    "error sending request",
)


class SetupFailed(Exception):
    """The set-up stopped: what, why, and what to do next.  *exit_code* is one of the README's."""

    def __init__(self, message: str, why: str, fix: tuple[str, ...], exit_code: int = 6) -> None:
        super().__init__(message)
        self.message = message
        self.why = why
        self.fix = fix
        self.exit_code = exit_code


class Recipe(NamedTuple):
    """What an environment is made from.

    With *wheels*, a folder, everything is in there and in the locks, qs-certs included: no index is
    asked and no checkout needed.
    """

    locks: tuple[Path, ...]
    editable: bool
    checkout: Path = CHECKOUT
    wheels: Path | None = None

    def fingerprint(self) -> str:
        """Twelve hex digits that differ where the environment would.

        The sources count unless they are used in place.
        """
        digest = hashlib.sha256()
        python = f"{sys.version_info[0]}.{sys.version_info[1]} {sys.platform} {sys.base_prefix}"
        digest.update(f"{python} editable={self.editable}\n".encode())
        files = [*self.locks]
        if self.wheels is None:
            files.append(self.checkout / "pyproject.toml")
        if self.wheels is None and not self.editable:
            package = self.checkout / "qs_certs"
            files += (f for f in package.rglob("*") if f.is_file() and f.suffix != ".pyc")
        for file in sorted(files):
            content = file.read_bytes()
            name = file.relative_to(self.checkout).as_posix()
            digest.update(f"{name} {len(content)}\n".encode())
            digest.update(content)
        return digest.hexdigest()[:12]


def say(*lines: str) -> None:
    """Talk goes to standard error: standard output belongs to the command that is run."""
    for line in lines:
        print(f"qs-certs: {line}", file=sys.stderr, flush=True)


def report(failure: SetupFailed) -> int:
    """Print what, why and what next; the exit code to end with."""
    say(f"error: {failure.message}", f"why: {failure.why}", *(f"next: {f}" for f in failure.fix))
    return failure.exit_code


def program(environment: Path, name: str) -> Path:
    """A program of the environment, such as `python` or `qs-certs`."""
    if sys.platform == "win32":
        return environment / "Scripts" / f"{name}.exe"
    return environment / "bin" / name


def with_new_enough_python(script: Path, arguments: list[str]) -> int | None:
    """None where this Python will do.  Otherwise run *script* with one that does: its exit code."""
    if sys.version_info >= MINIMUM:
        return None
    for name in NEWER_PYTHONS:
        found = shutil.which(name)
        if found is not None:
            return run([found, str(script), *arguments])
    raise SetupFailed(
        "this needs Python 3.10 or newer",
        f"{sys.executable} is {sys.version.split()[0]}, and no newer one is on PATH",
        ("install one: `brew install python`, `winget install Python.Python.3.13`, or from",
         "      your distribution, then run the same command again with it"),
    )  # fmt: skip


def run(command: list[str]) -> int:
    """Run *command* on our own standard streams.  Its exit code, 128 + N where signal N ended it."""
    try:
        code = subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:  # the command got it as well, and has said what there is to say
        return 130
    return code if code >= 0 else 128 - code


def ensure(environment: Path, recipe: Recipe) -> bool:
    """Make *environment* unless it is there and complete.  True: it was made.

    One that an interrupted run has left is remade.  A folder that is not ours is refused.
    """
    fingerprint = recipe.fingerprint()
    if _complete(environment, fingerprint):
        return False
    if environment.is_dir() and any(environment.iterdir()):
        if not (environment / OURS).is_file():
            raise SetupFailed(
                f"{environment} is in the way",
                "it was not made by this script, so it is left alone",
                (f"move {environment} away, then run the same command again",),
            )
        shutil.rmtree(environment)
    say(f"setting up {environment} (less than a minute, once) ...")
    try:
        environment.mkdir(parents=True, exist_ok=True)
        (environment / OURS).write_text("Safe to delete.\n", encoding="ascii")
        install = _make_empty(environment)
        offline = ["--no-index", FROM_A_FOLDER, str(recipe.wheels)] if recipe.wheels else []
        for lock in recipe.locks:
            locked = ["--require-hashes", "--only-binary", ":all:", "-r", str(lock)]
            _pip([*install, *offline, *locked])
        if recipe.wheels is None:
            _pip([*install, *_package(recipe)])
        (environment / COMPLETE).write_text(fingerprint, encoding="ascii")
    except OSError as error:
        raise SetupFailed(
            f"cannot set up {environment}",
            str(error),
            ("free some space, or mend the rights on that folder, then run the same again",),
        ) from error
    return True


def _package(recipe: Recipe) -> list[str]:
    """pip's arguments for the checkout itself: nothing is fetched, nothing resolved."""
    # The build backend is in the environment already, out of its lock.
    source = ["--editable", str(recipe.checkout)] if recipe.editable else [str(recipe.checkout)]
    return ["--no-index", "--no-deps", "--no-build-isolation", *source]


def _complete(environment: Path, fingerprint: str) -> bool:
    """It was made from the same things, and its Python still starts (upgrades take it away)."""
    try:
        if (environment / COMPLETE).read_text(encoding="ascii") != fingerprint:
            return False
        python = [str(program(environment, "python")), "-I", "-c", "import qs_certs"]
        return subprocess.run(python, check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def _make_empty(environment: Path) -> list[str]:
    """Make an empty environment with whatever this machine has; the command that installs into it.

    Debian and Ubuntu ship `venv` without `ensurepip`, which is in python3-venv.
    """
    python = str(program(environment, "python"))
    pip = [python, "-I", "-m", "pip", "install", "--quiet", "--no-input"]
    uv = shutil.which("uv")
    virtualenv = shutil.which("virtualenv")
    if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
        _quietly([sys.executable, "-I", "-m", "venv", str(environment)])
        return pip
    if virtualenv is not None:
        _quietly([virtualenv, "--quiet", "--python", sys.executable, str(environment)])
        return pip
    if uv is not None:
        make = [uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable]
        _quietly([*make, str(environment)])
        return [uv, "pip", "install", "--quiet", "--python", python]
    raise SetupFailed(
        "cannot make a virtual environment",
        f"{sys.executable} has no `ensurepip`, and neither `virtualenv` nor `uv` is on PATH",
        ("sudo apt install python3-venv     (Debian, Ubuntu; elsewhere: a Python from python.org)",
         "then run the same command again"),
    )  # fmt: skip


def _quietly(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run *command*; what it printed is shown only if it failed."""
    done = _captured(command)
    if done.returncode != 0:
        raise SetupFailed(
            "cannot make a virtual environment",
            _last_words(done),
            (f"see what is wrong: {subprocess.list2cmdline(command)}",),
        )
    return done


def _captured(command: list[str]) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    environ.setdefault("PIP_RETRIES", "2")  # five, the default, is a minute without a word
    environ.setdefault("UV_NATIVE_TLS", "1")  # the system's CAs: a company's proxy is among them
    for elsewhere in ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT"):
        environ.pop(elsewhere, None)
    if FROM_A_FOLDER in command:
        # Out of that folder and nowhere else, whatever this machine's pip and uv are set up for.
        environ = {k: v for k, v in environ.items() if not k.startswith(("PIP_FIND", "UV_FIND"))}
        environ.update({"PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1"})
    return subprocess.run(
        command, check=False, capture_output=True, text=True, errors="replace", env=environ
    )


def _pip(command: list[str]) -> None:
    done = _captured(command)
    if done.returncode == 0:
        return
    words = (done.stdout + done.stderr).lower()
    why = _last_words(done)
    kit = FROM_A_FOLDER in command
    if "do not match the hashes" in words or "hash mismatch" in words:
        named = re.findall(r"(?m)^\s+(\S+==\S+) from ", done.stderr)  # pip has them on other lines
        raise SetupFailed(
            "a package is not the one whose hash is pinned",
            "; ".join([*named, why]),
            ("do not go on: ask whoever made this kit" if kit else
             "do not go on: ask whoever runs the package index or the proxy of this network",),
            exit_code=5,
        )  # fmt: skip
    if kit:
        raise SetupFailed(
            "this kit lacks a package for this system and Python",
            why,
            ("its README.txt says what it was made for: use one of those Pythons, or copy the kit",
             "again; `python3 scripts/kit.py make` in a checkout makes one for other systems"),
        )  # fmt: skip
    if any(sign in words for sign in _NO_NETWORK):
        raise SetupFailed(
            "cannot fetch the packages that qs-certs is built on",
            next(line.strip() for line in (done.stdout + done.stderr).splitlines()
                 if any(sign in line.lower() for sign in _NO_NETWORK)),
            ("behind a proxy: set HTTPS_PROXY=http://proxy:port, and PIP_CERT=FILE where it",
             "      has a CA of its own; with a mirror of your own: set PIP_INDEX_URL=URL",
             "then run the same command again: nothing else was changed"),
            exit_code=4,
        )  # fmt: skip
    raise SetupFailed(
        "cannot install the packages that qs-certs is built on",
        why,
        (f"see what is wrong: {subprocess.list2cmdline(command)}",),
    )


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    """The lines that say what went wrong: pip's and uv's are the last ones."""
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(?i)(error|cause|\w+error):", line)]
    return "; ".join(errors[-3:] or lines[-3:]) or f"it ended with {done.returncode}"
