"""Whose file: this user's, that of the one behind sudo, or another's.

Which accounts `--user` and `--all-users` mean is the business of `userlist`, work done with their
rights that of `rights`.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping

from qs_certs import secrecy, windows
from qs_certs.errors import TargetRefused, WrongUsage
from qs_certs.libpq.locations import Surroundings
from qs_certs.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

Progress = Callable[[int, int], None]
"""Told how many accounts are done, of how many."""


class Account(Value):
    """A user of this machine, as the user database has it."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str = ""
    chosen: bool = False
    """An administrator chose it with --user or --all-users: its home is looked at before use."""
    roaming: str | None = None
    """Windows: the user's roaming AppData folder."""
    local: str | None = None
    """Windows: the user's local AppData folder."""


def password_database_home() -> str | None:
    """The home folder that the password database gives the effective user; None without entry."""
    if sys.platform == "win32":
        return os.environ.get("USERPROFILE")
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return None


def roaming_folder() -> str | None:
    """The roaming AppData folder as the Windows shell names it, which is what libpq asks."""
    if sys.platform != "win32":
        return None
    import platformdirs

    return str(platformdirs.user_data_path(roaming=True))


def surroundings(env: Mapping[str, str] | None = None) -> Surroundings:
    """Where libpq would look, for the user that this process runs as."""
    return Surroundings(
        system=sys.platform,
        env=os.environ if env is None else env,
        home=password_database_home(),
        roaming=roaming_folder(),
        code_page=windows.code_page(),
    )


def surroundings_of(account: Account) -> Surroundings:
    """Where libpq would look when *account* runs it: from the user database, not from our
    environment."""
    env = {"USERPROFILE" if sys.platform == "win32" else "HOME": account.home}
    if account.local is not None:
        env["LOCALAPPDATA"] = account.local
    return Surroundings(
        sys.platform, env, account.home, account.roaming, code_page=windows.code_page()
    )


def behind_sudo() -> Account | None:
    """The user who called sudo, where this process is root through sudo; otherwise None."""
    if sys.platform == "win32":
        return None
    uid = os.environ.get("SUDO_UID", "")
    if os.geteuid() != 0 or not uid.isdecimal() or int(uid) == 0:
        return None
    import pwd

    try:
        entry = pwd.getpwuid(int(uid))
    except KeyError:
        raise WrongUsage(
            f"sudo was called by user id {uid}, which has no entry in the password database",
            fix=("run qs-certs without sudo",),
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir)


def refuse_borrowed_rights() -> None:
    """Raise WrongUsage in a program with the set-user-ID or set-group-ID bit: its caller chooses
    HOME, PATH and what Python loads, so whatever it did would be the caller's doing."""
    if sys.platform == "win32" or (os.getuid(), os.getgid()) == (os.geteuid(), os.getegid()):
        return
    raise WrongUsage(
        "qs-certs does not work with rights that its caller lacks",
        why=f"the real user id is {os.getuid()}, the effective one {os.geteuid()}",
        fix=("remove the set-user-ID bit", "for others: qs-certs install --user NAME, as root"),
    )


def refuse_home_of_another(around: Surroundings) -> None:
    """Raise TargetRefused where root would write into a home that others can change.

    HOME may be kept by `su -m` or set in an image.  A link laid there would lead root's hand.
    """
    if sys.platform == "win32" or os.geteuid() != 0 or around.home_folder is None:
        return
    try:
        status = os.stat(around.home_folder)
    except OSError:
        return  # what is made there will be root's own
    by_others = status.st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH
    if status.st_uid == 0 and not by_others:
        return
    raise TargetRefused(
        f"HOME is {around.home_folder}, where another user decides what root would write to",
        why=f"its owner has the user id {status.st_uid}, its mode is "
        f"{stat.S_IMODE(status.st_mode):04o}",
        fix=(
            "for the file of that user: qs-certs install --user NAME",
            "for root's own: set HOME to root's home",
        ),
    )


_profile: Account | None = None
"""The account whose work this process does just now, with its own rights."""


@contextlib.contextmanager
def in_profile(account: Account) -> Iterator[None]:
    """Windows: for as long as it lasts, the store is that of *account*."""
    global _profile  # noqa: PLW0603
    _profile = account
    try:
        yield
    finally:
        _profile = None


def store_folder() -> Path:
    """`$QS_CERTS_STORE`, otherwise platformdirs' user data folder for qs-certs.

    It is that of the user whose work is being done: `rights.run_as` sees to it.
    """
    from pathlib import Path

    if _profile is not None and _profile.local is not None:
        return Path(_profile.local, "qs-certs")
    if named := os.environ.get("QS_CERTS_STORE"):
        secrecy.require_file_name("QS_CERTS_STORE", named, fix=("unset QS_CERTS_STORE",))
        return Path(named)
    import platformdirs

    return platformdirs.user_data_path("qs-certs", appauthor=False)
