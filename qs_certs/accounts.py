"""Whose file: this user's, that of the one behind sudo, or another's; and work done with their rights.

Which accounts `--user` and `--all-users` mean is the business of `userlist`.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Generic, NoReturn, TypeVar, cast

from qs_certs import secrecy, windows
from qs_certs.errors import (
    Bug,
    CouldNotTell,
    CouldNotWrite,
    Interrupted,
    QsCertsError,
    TargetRefused,
    WrongUsage,
    quoted,
)
from qs_certs.libpq.locations import Surroundings
from qs_certs.values import Value

T = TypeVar("T")
Item = TypeVar("Item")

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


def store_folder() -> Path:
    """`$QS_CERTS_STORE`, otherwise platformdirs' user data folder for qs-certs.

    It is that of the user whose work is being done: `run_as` sees to it.
    """
    if _profile is not None and _profile.local is not None:
        return Path(_profile.local, "qs-certs")
    if named := os.environ.get("QS_CERTS_STORE"):
        secrecy.require_file_name("QS_CERTS_STORE", named, fix=("unset QS_CERTS_STORE",))
        return Path(named)
    import platformdirs

    return platformdirs.user_data_path("qs-certs", appauthor=False)


# --- with another user's rights -----------------------------------------------------------------


def run_as(account: Account | None, work: Callable[[], T]) -> T:
    """Do *work* with the rights of *account* and return what it returns, or raise what it raises.

    None is this process's own user: *work* is simply called.  For another account a child
    process drops every right of root for good before it touches anything, so no link in that
    home can make root write elsewhere.  It is forked, not executed, because the account may not
    be able to enter the folder that our interpreter lives in; for the same reason everything
    that *work* needs must be imported before.  The child is always waited for: Ctrl-C reaches it
    from the terminal, and this process when the child has ended.

    Raises TargetRefused where the home of an account that was chosen is not to be trusted,
    CouldNotTell where the child ends without an answer, as one that was killed, and Bug for an
    exception in it that nobody foresaw.
    """
    if account is None:
        return work()
    if sys.platform == "win32":
        return _in_profile(account, work)
    # Before the fork, as everything that the child needs.
    import pickle  # noqa: F401
    import tempfile  # noqa: F401

    with interrupts_held():
        try:
            answer = _answer_of_child(account, work)
        except OSError as error:  # no process or pipe to be had just now; others may get theirs
            raise CouldNotWrite(
                f"the work for user {account.name} could not begin",
                why=error.strerror,
                fix=("run the same command again",),
            ) from error
    if not answer:
        raise _could_not_tell(account, "without an answer", "its process was killed")
    try:
        outcome = cast("_Returned[T] | _Raised", _read_answer(answer))
    except Exception as error:
        raise _could_not_tell(account, "with no answer of ours", None) from error
    if isinstance(outcome, _Raised):
        raise outcome.error()
    return outcome.value


def _could_not_tell(account: Account, how: str, why: str | None) -> CouldNotTell:
    return CouldNotTell(
        f"the work for user {account.name} ended {how}; their file is whole, old or new",
        why=why,
        fix=("run the same command again",),
    )


def _read_answer(answer: bytes) -> _Returned[object] | _Raised:
    """What a child sent: our values and dates, and nothing that could be called.

    The child is our own code, but it runs as a user who may have found a way into it.
    """
    import pickle

    class Answer(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> object:
            if module in _VALUES and "." not in name:
                found = getattr(sys.modules.get(module), name, None)
                if isinstance(found, type) and found.__module__ in _VALUES:
                    return found
            raise pickle.UnpicklingError("not one of our values")

    outcome = Answer(io.BytesIO(answer)).load()
    if not isinstance(outcome, _Returned | _Raised):
        raise pickle.UnpicklingError("not an outcome")
    return outcome


_VALUES = {"datetime", "qs_certs.accounts", "qs_certs.errors", "qs_certs.journal"}
_VALUES |= {"qs_certs.results", "qs_certs.changes"}


def in_turn(
    items: Sequence[Item],
    work: Callable[[Item], T],
    stopped: Callable[[Item], T] | None = None,
    progress: Progress | None = None,
) -> list[T]:
    """What *work* makes of each item.  After Ctrl-C the one at work ends, and the others are
    *stopped*: what was done stays known.  Where that is None, KeyboardInterrupt is raised."""
    results: list[T] = []
    gc.freeze()  # a collection in a child would copy every page that it looks at
    try:
        with interrupts_held() as interrupted:
            for number, item in enumerate(items):
                if interrupted():
                    if stopped is not None:
                        results += map(stopped, items[number:])
                    break
                results.append(work(item))
                if progress is not None:
                    progress(len(results), len(items))
            if interrupted() and stopped is not None:  # taken: the results tell of it
                _take_interrupt()
    finally:
        gc.unfreeze()
    return results


@contextlib.contextmanager
def interrupts_held() -> Iterator[Callable[[], bool]]:
    """Hold back Ctrl-C; what is yielded says whether there was one.  Windows cannot: never."""
    if sys.platform == "win32":
        yield lambda: False
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield lambda: signal.SIGINT in signal.sigpending()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _take_interrupt() -> None:
    if sys.platform != "win32":
        signal.sigwait({signal.SIGINT})


def _answer_of_child(account: Account, work: Callable[[], object]) -> bytes:
    """Fork, and wait for the child's pickled outcome and its end."""
    if sys.platform == "win32":
        raise AssertionError("unreachable")
    # Asked before the fork: a thread that still waits for a name server holds locks of the same
    # library, and nobody would release them in the child.
    groups = os.getgrouplist(account.name, account.gid)
    reading, writing = os.pipe()
    try:
        child = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        raise
    if child == 0:  # pragma: no cover - coverage does not follow the fork
        os.close(reading)
        _work_in_child(account, groups, work, writing)
    try:
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            return pipe.read()
    finally:
        os.waitpid(child, 0)


class _Returned(Value, Generic[T]):
    value: T


class _Raised(Value):
    """An error's parts: an exception with keyword arguments does not pickle by itself."""

    kind: type[QsCertsError]
    message: str
    attributes: dict[str, object]
    """`why`, `fix`, and what else a kind holds, as the difference that a rollback would undo."""

    def error(self) -> QsCertsError:
        raised = self.kind(self.message, why=None, fix=())
        vars(raised).update(self.attributes)
        return raised


def _work_in_child(
    account: Account, groups: list[int], work: Callable[[], object], pipe: int
) -> NoReturn:
    """Become *account*, do the work, send the outcome, end."""
    import pickle

    outcome: _Returned[object] | _Raised
    answer = b""
    try:
        try:
            _become(account, groups)
            if account.chosen:
                refuse_odd_home(account)
            outcome = _Returned(work())
        except QsCertsError as error:
            outcome = _raised(error)
        except KeyboardInterrupt:
            outcome = _raised(interrupted(account))
        answer = pickle.dumps(outcome)
    except BaseException as error:  # noqa: BLE001 - the parent reports it
        answer = pickle.dumps(_raised(_bug(account, error)))
    finally:
        # Whatever happens, no frame of the parent's may go on in the child.
        with contextlib.suppress(OSError), os.fdopen(pipe, "wb") as out:
            out.write(answer)
        os._exit(0)


def _raised(error: QsCertsError) -> _Raised:
    return _Raised(type(error), error.message, vars(error))


def _bug(account: Account, error: BaseException) -> Bug:
    """Where it happened, without any value: what a message or a variable holds may be secret."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{place.tb_frame.f_code.co_name}:{place.tb_lineno}" if place else "?"
    return Bug(
        f"a bug: the work for user {account.name} failed",
        why=f"{type(error).__name__} in {where}",
        fix=("please report this with these lines",),
    )


def interrupted(account: Account) -> Interrupted:
    """What is said about an account whose work Ctrl-C ended, or kept from beginning."""
    return Interrupted(f"interrupted; the file of user {account.name} is whole, old or new")


def _become(account: Account, groups: list[int]) -> None:
    """Drop every right of root for good, and prove it."""
    if sys.platform == "win32":
        raise AssertionError("unreachable")
    signal.signal(signal.SIGINT, _interrupt_once)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        # macOS takes 16 groups, its own first, and many an administrator is in more.
        os.setgroups(groups[: os.sysconf("SC_NGROUPS_MAX")])
        os.setgid(account.gid)
        os.setuid(account.uid)
    except OSError as error:  # a container may withhold these rights even from root
        raise CouldNotWrite(
            f"could not take on the rights of user {account.name}; nothing was changed",
            why=error.strerror,
            fix=("run qs-certs as that user",),
        ) from error
    if account.uid != 0:
        try:
            os.setuid(0)
        except PermissionError:
            pass
        else:
            raise CouldNotWrite(f"could not drop root's rights for user {account.name}")
    os.umask(0o022)
    os.chdir("/")
    # One store cannot serve several users: each has it at home.
    names = ("PATH", "LANG") if account.chosen else ("PATH", "LANG", "QS_CERTS_STORE")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    os.environ.clear()
    os.environ.update(kept, HOME=account.home, USER=account.name, LOGNAME=account.name)
    import tempfile

    tempfile.tempdir = None  # root's own may be closed to others, as pam_tmpdir makes it


def _interrupt_once(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    """A second Ctrl-C must not end the tidying up after the first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def refuse_odd_home(account: Account) -> None:
    """Raise TargetRefused where somebody else decides what is in the home of *account*.

    As sshd's StrictModes: the home, and the folder of the root file where there is one, belong to
    the user and can be changed by nobody else.
    """
    home = account.home
    if not os.path.isabs(home):
        raise TargetRefused(f"user {account.name} has no home folder")
    try:
        status = os.stat(home)
    except OSError as error:
        raise TargetRefused(
            f"the home {home} of user {account.name} cannot be used",
            why=error.strerror,
            fix=(f"ls -ld {quoted(home)}",),
        ) from error
    if not stat.S_ISDIR(status.st_mode):
        raise TargetRefused(f"the home {home} of user {account.name} is not a folder")
    _refuse_others(home, status, account)
    folder = surroundings_of(account).folder or home
    try:
        status = os.stat(folder)
    except OSError:
        return  # there is none yet, or what stands there is met by the work itself
    _refuse_others(folder, status, account)


def _refuse_others(folder: str, status: os.stat_result, account: Account) -> None:
    if status.st_uid != account.uid:
        raise TargetRefused(
            f"{folder} does not belong to user {account.name}",
            why=f"its owner has the user id {status.st_uid}",
            fix=(f"ls -ld {quoted(folder)}",),
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise TargetRefused(
            f"{folder} of user {account.name} can be changed by others",
            why=f"its mode is {stat.S_IMODE(status.st_mode):04o}",
            fix=(f"chmod go-w {quoted(folder)}",),
        )


# --- Windows, which has no fork and no setuid ---------------------------------------------------

_profile: Account | None = None
"""The account whose work this process does just now, with its own rights."""


def _in_profile(account: Account, work: Callable[[], T]) -> T:
    """Do *work* in the profile of *account*.  Raises TargetRefused where a link or a junction in
    it could lead an administrator's hand elsewhere (CWE-1386)."""
    global _profile  # noqa: PLW0603
    for folder in (account.roaming, account.local):
        if folder is not None:
            refuse_reparse_points(account, folder)
    _profile = account
    try:
        return work()
    finally:
        _profile = None


REPARSE_POINT = 0x0400
"""winnt.h FILE_ATTRIBUTE_REPARSE_POINT: symbolic links, junctions, and what a driver adds."""


def refuse_reparse_points(
    account: Account, folder: str, look: Callable[[str], os.stat_result] = os.lstat
) -> None:
    """Raise TargetRefused where anything from below the profile down to our own files in *folder*
    is a reparse point."""
    ours = [
        os.path.join(folder, *parts)
        for parts in (
            ("postgresql", "root.crt"),
            ("postgresql", "qs-root.crt"),
            ("qs-certs", "blobs"),
            ("qs-certs", "journal.jsonl"),
            ("qs-certs", "lock"),
        )
    ]
    seen: set[str] = set()
    for path in ours:
        while path not in seen and path != os.path.dirname(path):
            if os.path.normcase(path) == os.path.normcase(account.home):
                break
            seen.add(path)
            try:
                attributes = getattr(look(path), "st_file_attributes", 0)
            except FileNotFoundError:
                attributes = 0
            except OSError as error:
                raise TargetRefused(
                    f"{path} of user {account.name} cannot be looked at", why=error.strerror
                ) from error
            if attributes & REPARSE_POINT:
                raise TargetRefused(
                    f"{path} of user {account.name} is a link or a junction",
                    why="an administrator does not follow what a user may have laid",
                    fix=("run qs-certs as that user",),
                )
            path = os.path.dirname(path)  # noqa: PLW2901
