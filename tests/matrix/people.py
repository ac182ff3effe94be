"""Real users of this machine, each with a home of its own in the password database.

    with people("ana", "ben") as them:
        them["ana"].uid, them["ana"].home

Only root can make users; they are gone when the block ends.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path


class PeopleMissing(Exception):
    """No users can be made here; the text says why."""


@dataclass(frozen=True, slots=True)
class Person:
    """A user.  *home* is the one in the password database; processes run in a group of the same
    number, whoever's it is.
    """

    uid: int
    home: Path

    def give(self, path: Path) -> None:
        """Make *path*, and all that is in it, this user's."""
        for each in (path, *path.rglob("*")):
            shutil.chown(each, self.uid, self.uid)


@contextmanager
def people(*names: str) -> Iterator[dict[str, Person]]:
    """Users by these names, on the machine called after this process.  Raises PeopleMissing."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("useradd") is None:
        raise PeopleMissing("only root can make the users whose homes the clients look into")
    _forget_the_dead()
    base = Path(tempfile.mkdtemp(prefix="qs-certs-homes-"))
    base.chmod(0o755)
    made: dict[str, Person] = {}
    try:
        for name in names:
            made[name] = _made(f"qs-{os.getpid()}-{name}", base)
        yield made
    finally:
        for name in made:
            _run("userdel", "--force", f"qs-{os.getpid()}-{name}")
        shutil.rmtree(base)


def _forget_the_dead() -> None:
    """Remove the users of tests that were killed: the number in their names is no process's."""
    with open("/etc/passwd", encoding="utf-8") as passwd:
        logins = [line.partition(":")[0] for line in passwd]
    for login in logins:
        of_ours = re.fullmatch(r"qs-(\d+)-(?:ana|ben|cleo)", login)
        if of_ours is not None and not Path("/proc", of_ours[1]).exists():
            with suppress(PeopleMissing):  # others may be at it, too
                _run("userdel", "--force", login)


def _made(login: str, base: Path) -> Person:
    home = base / login
    _run("useradd", "--create-home", "--home-dir", str(home), "--user-group", login)
    return Person(home.stat().st_uid, home)


def _run(*command: str) -> None:
    """Somebody else may hold the lock of the password database for a moment."""
    for last in (False,) * 20 + (True,):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        if last or "lock" not in done.stderr:
            raise PeopleMissing(f"{command[0]}: {done.stderr.strip()}")
        time.sleep(0.1)
