"""Real accounts of this machine, made for a test and gone after it.

Each is named after the process that made it, so that the next run removes those of killed ones.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from qs_certs.accounts import Account

if sys.platform == "win32":
    pytest.skip("only on POSIX", allow_module_level=True)


def administer(*command: str) -> subprocess.CompletedProcess[bytes]:
    """Change the user database; again, while somebody else is changing it."""
    for _ in range(50):
        done = subprocess.run(
            command,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            capture_output=True,
            check=False,
        )
        if b"lock" not in done.stderr:
            break
        time.sleep(0.1)
    return done


def name_of(who: str) -> str:
    """The account of *who*, for as long as this process lives."""
    return f"qs{who}{os.getpid()}"


def forget_the_dead() -> None:
    """Remove the accounts of runs that were killed, with their homes and their rules for sudo."""
    import pwd

    for entry in pwd.getpwall():
        folder = Path(entry.pw_dir).parent
        if _of_the_dead(entry.pw_name) and folder.name.startswith(_FOLDER):
            administer("userdel", "-f", entry.pw_name)  # unless another run is at it, too
            shutil.rmtree(folder, ignore_errors=True)
    for rule in _RULES.glob(f"{_RULE}*"):
        if _of_the_dead(rule.name.removeprefix(_RULE)):
            rule.unlink(missing_ok=True)


def _of_the_dead(name: str) -> bool:
    maker = re.fullmatch(r"qs[a-z]+([0-9]+)", name)
    return maker is not None and not Path("/proc", maker[1]).exists()


_FOLDER = "qs-certs-accounts-"
_RULES = Path("/etc/sudoers.d")
_RULE = "qs-certs-"


@contextlib.contextmanager
def made(people: Sequence[str], shell: str = "/bin/sh") -> Iterator[list[Account]]:
    """Locked accounts for these *people*, whose homes lie side by side in a folder of their own."""
    if sys.platform != "linux":
        pytest.skip("only on Linux: its tools make accounts")
    if os.geteuid() != 0:
        pytest.skip("needs root, to make an account")
    if shutil.which("useradd", path="/usr/sbin:/sbin") is None:
        pytest.skip("needs useradd")
    import pwd

    forget_the_dead()
    names = [name_of(who) for who in people]
    folder = Path(tempfile.mkdtemp(prefix=_FOLDER))
    folder.chmod(0o755)
    there: list[str] = []
    try:
        for name in names:
            done = administer("useradd", "-m", "-d", str(folder / name), "-s", shell, name)
            if done.returncode != 0:
                pytest.skip(f"needs useradd to work: {done.stderr.decode().strip()}")
            there.append(name)
        yield [
            Account(each.pw_name, each.pw_uid, each.pw_gid, each.pw_dir)
            for each in map(pwd.getpwnam, names)
        ]
    finally:
        for name in there:
            administer("userdel", "-f", name).check_returncode()
        shutil.rmtree(folder)


def empty_home(account: Account) -> Path:
    """The home of *account* as useradd leaves it, but empty."""
    home = Path(account.home)
    if home.is_symlink() or home.is_file():
        home.unlink()
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(mode=0o755)
    home.chmod(0o755)
    os.chown(home, account.uid, account.gid)
    return home


@contextlib.contextmanager
def real_sudo(account: Account) -> Iterator[str]:
    """Let *account* call sudo without a password, for as long as this lasts."""
    sudo = shutil.which("sudo")
    if sudo is None or not _RULES.is_dir():
        pytest.skip("needs sudo")
    rule = _RULES / f"{_RULE}{account.name}"
    rule.write_text(f"{account.name} ALL=(root) NOPASSWD: ALL\n")
    rule.chmod(0o440)
    try:
        yield sudo
    finally:
        rule.unlink()
