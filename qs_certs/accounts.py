"""Whose file: this user's or that of the one behind sudo, and work done with their rights.

With QS_CERTS_STORE unset the rollback store lies in the home of the user whose target it is.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from qs_certs import windows
from qs_certs.errors import CouldNotWrite, QsCertsError, WrongUsage
from qs_certs.libpq.locations import Surroundings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine, as the user database has it."""

    name: str
    uid: int
    gid: int
    home: str


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
    return Surroundings(sys.platform, {"HOME": account.home}, account.home)


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


def store_folder() -> Path:
    """`$QS_CERTS_STORE`, otherwise platformdirs' user data folder for qs-certs."""
    if named := os.environ.get("QS_CERTS_STORE"):
        return Path(named)
    import platformdirs

    return platformdirs.user_data_path("qs-certs", appauthor=False)


def run_as(account: Account | None, work: Callable[[], T]) -> T:
    """Do *work* with the rights of *account* and return what it returns, or raise what it raises.

    None is this process's own user: *work* is simply called.  For another account a child
    process drops every right of root for good before it touches anything, so no link in that
    home can make root write elsewhere.  It is forked, not executed, because the account may not
    be able to enter the folder that our interpreter lives in; for the same reason everything
    that *work* needs must be imported before.
    """
    if account is None:
        return work()
    if sys.platform == "win32":
        raise WrongUsage("another user's file cannot be changed from here on Windows")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - coverage does not follow the fork
        os.close(reading)
        _work_in_child(account, work, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    if not answer:
        raise CouldNotWrite(f"the work for user {account.name} ended without an answer")
    outcome: _Returned[T] | _Raised = pickle.loads(answer)  # noqa: S301 - written by our own child
    if isinstance(outcome, _Raised):
        raise outcome.error()
    return outcome.value


@dataclass(frozen=True)
class _Returned(Generic[T]):
    value: T


@dataclass(frozen=True, slots=True)
class _Raised:
    """An error's parts: an exception with keyword arguments does not pickle by itself."""

    kind: type[QsCertsError]
    message: str
    why: str | None
    fix: tuple[str, ...]
    attributes: dict[str, object]
    """What a kind holds beside these, as the difference that a rollback would undo."""

    def error(self) -> QsCertsError:
        raised = self.kind(self.message, why=self.why, fix=self.fix)
        vars(raised).update(self.attributes)
        return raised


def _work_in_child(account: Account, work: Callable[[], object], pipe: int) -> None:
    """Become *account*, do the work, send the outcome, end.  Never returns."""
    outcome: _Returned[object] | _Raised
    status = 0
    try:
        _become(account)
        outcome = _Returned(work())
    except QsCertsError as error:
        outcome = _Raised(type(error), error.message, error.why, error.fix, vars(error))
    except BaseException as error:  # noqa: BLE001 - the parent reports it
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f"{place.tb_frame.f_code.co_name}:{place.tb_lineno}" if place else "?"
        why = f"{type(error).__name__} in {where}"
        outcome = _Raised(CouldNotWrite, f"the work for user {account.name} failed", why, (), {})
        status = 1
    with os.fdopen(pipe, "wb") as out:
        out.write(pickle.dumps(outcome))
    os._exit(status)


def _become(account: Account) -> None:
    """Drop every right of root for good, and prove it."""
    if sys.platform == "win32":
        raise AssertionError("unreachable")
    os.setgroups(os.getgrouplist(account.name, account.gid))
    os.setgid(account.gid)
    os.setuid(account.uid)
    if account.uid != 0:
        try:
            os.setuid(0)
        except PermissionError:
            pass
        else:
            raise CouldNotWrite(f"could not drop root's rights for user {account.name}")
    os.umask(0o022)
    os.chdir("/")
    kept = {
        name: os.environ[name] for name in ("PATH", "LANG", "QS_CERTS_STORE") if name in os.environ
    }
    os.environ.clear()
    os.environ.update(kept, HOME=account.home, USER=account.name, LOGNAME=account.name)
