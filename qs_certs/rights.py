"""Work done with another user's rights: in a process that has given up root's, one or several at once.

Windows has neither fork nor setuid: there the work is done in the other's profile, where no link may
lead it elsewhere.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, NoReturn, TypeVar, cast

from qs_certs import accounts
from qs_certs.accounts import Account, Progress, surroundings_of
from qs_certs.errors import (
    Bug,
    CouldNotTell,
    CouldNotWrite,
    ExitCode,
    Interrupted,
    QsCertsError,
    TargetRefused,
    quoted,
)
from qs_certs.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

T = TypeVar("T")
Result = TypeVar("Result")


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
    with interrupts_held():
        try:
            child = _Child(account, work)
        except OSError as error:
            raise _could_not_begin(account, error) from error
        child.wait()
    return cast("T", child.outcome())


class Task(Generic[T]):
    """Work to do with an account's rights, and what this process then makes of the outcome."""

    def __init__(self, account: Account | None, work: Callable[[], T]) -> None:
        self.account = account
        self.work: Callable[[], object] = work
        self.conclude: Callable[[Callable[[], Any]], T] = lambda outcome: cast("T", outcome())
        """Given what returns or raises the outcome of the work, the result of the task."""

    def then(self, conclude: Callable[[Callable[[], T]], Result]) -> Task[Result]:
        """The same work; its result so far, returned or raised by a call, goes on to *conclude*."""
        task = cast("Task[Result]", Task(self.account, self.work))
        task.conclude = lambda outcome: conclude(lambda: self.conclude(outcome))
        return task

    def run(self) -> T:
        """Do it now, and wait.  Raises what `run_as` raises, and what it is concluded with."""
        return self.conclude(lambda: run_as(self.account, self.work))


AT_ONCE = 8
"""How many accounts are worked for at a time.

Work on a disk keeps as many busy as there are processors, and no more than three or four, since
forking them is this one process's work.  A live check waits for servers, so more would gain; but
accounts tend to ask the same server, which should not take a check for an attack, and each child
has a few MiB of its own.
"""


def side_by_side(
    tasks: Sequence[Task[T]], progress: Progress | None = None, *, told: bool = True
) -> list[T]:
    """The results of *tasks*, in their order; at most AT_ONCE of them are at work at a time.

    They begin in their order.  Two for the same user never overlap, so that the second finds what
    the first did.  Fewer are at work where the machine has no process or pipe to spare.  What this
    process does with its own rights it does alone: on Windows, and for its own user.

    After Ctrl-C those at work end, and no other begins: it is concluded with Interrupted, so that
    what was done stays known.  Where the results are not to be *told* then, KeyboardInterrupt is
    raised.  Every child has been waited for in the end, whatever was raised.
    """
    results: dict[int, T] = {}
    at_work: dict[_Child, int] = {}

    def conclude(number: int, outcome: Callable[[], object]) -> None:
        results[number] = tasks[number].conclude(outcome)
        if progress is not None:
            progress(len(results), len(tasks))

    def began(number: int) -> bool:
        """Whether it did, or never will; not where one at work has to end before."""
        account, work = tasks[number].account, tasks[number].work
        if stop():
            what = "interrupted before the turn of this user came; nothing was changed"
            conclude(number, _raising(Interrupted(what)))
        elif account is None or sys.platform == "win32":
            conclude(number, lambda: run_as(account, work))
        elif len(at_work) >= AT_ONCE or account.uid in {each.account.uid for each in at_work}:
            return False
        else:
            try:
                child = _Child(account, work, at_work)
            except OSError as error:
                if at_work:
                    return False
                conclude(number, _raising(_could_not_begin(account, error)))
            else:
                at_work[child] = number
        return True

    def hear() -> None:
        for child in _ended(at_work):
            conclude(at_work.pop(child), child.outcome)

    gc.freeze()  # a collection in a child would copy every page that it looks at
    try:
        with interrupts_held() as stop:
            try:
                for number in range(len(tasks)):
                    while not began(number):
                        hear()
                while at_work:
                    hear()
            finally:
                for child in at_work:
                    child.wait()
            if told and stop():  # taken: the results tell of it
                _take_interrupt()
    finally:
        gc.unfreeze()
    return [results[number] for number in range(len(tasks))]


def _raising(error: QsCertsError) -> Callable[[], NoReturn]:
    def outcome() -> NoReturn:
        raise error

    return outcome


def _could_not_begin(account: Account, error: OSError) -> CouldNotWrite:
    """No process or pipe is to be had just now; others may get theirs."""
    return CouldNotWrite(
        f"the work for user {account.name} could not begin",
        why=error.strerror,
        fix=("run the same command again",),
    )


def _could_not_tell(account: Account, how: str, why: str | None) -> CouldNotTell:
    return CouldNotTell(
        f"the work for user {account.name} ended {how}; their file is whole, old or new",
        why=why,
        fix=("run the same command again",),
    )


def _read_answer(answer: bytes) -> _Returned[object] | _Raised:
    """What a child sent: our values, errors and dates.  To call anything else, as a class that
    forks, is not for it to say.

    The child is our own code, but it runs as a user who may have found a way into it.
    """
    import pickle

    class Answer(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> object:
            if module in _VALUES and "." not in name:
                found = getattr(sys.modules.get(module), name, None)
                if isinstance(found, type) and found.__module__ in _VALUES and _is_plain(found):
                    return found
            raise pickle.UnpicklingError("not one of our values")

    outcome = Answer(io.BytesIO(answer)).load()
    if not isinstance(outcome, _Returned | _Raised):
        raise pickle.UnpicklingError("not an outcome")
    return outcome


_VALUES = {"datetime", "qs_certs.rights", "qs_certs.errors", "qs_certs.journal"}
_VALUES |= {"qs_certs.results", "qs_certs.changes"}


def _is_plain(found: type) -> bool:
    """Whether to make one of these does nothing else."""
    return found.__module__ == "datetime" or issubclass(found, (Value, QsCertsError, ExitCode))


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


class _Child:
    """A process at work for an account; its pickled outcome comes through a pipe."""

    account: Account
    ended: bool
    _process: int
    _pipe: int
    _answer: bytearray

    def __init__(
        self, account: Account, work: Callable[[], object], siblings: Iterable[_Child] = ()
    ) -> None:
        """Fork it.  Raises OSError where there is no process or pipe to be had."""
        if sys.platform == "win32":
            raise AssertionError("unreachable")
        # Before the fork, as everything that the child needs.
        import pickle  # noqa: F401
        import tempfile  # noqa: F401

        # Asked before the fork: a thread that still waits for a name server holds locks of the same
        # library, and nobody would release them in the child.
        groups = os.getgrouplist(account.name, account.gid)
        self._pipe, writing = os.pipe()
        try:
            self._process = os.fork()
        except OSError:
            os.close(self._pipe)
            os.close(writing)
            raise
        if self._process == 0:  # pragma: no cover - coverage does not follow the fork
            # What another user's child says is none of this one's business.
            foreign = [self._pipe, *(each._pipe for each in siblings)]
            _work_in_child(account, groups, work, writing, foreign)
        os.close(writing)
        self.account, self.ended, self._answer = account, False, bytearray()

    def fileno(self) -> int:
        return self._pipe

    def listen(self) -> None:
        """Take what it has sent, or wait for something; and for its end, where that was all."""
        piece = os.read(self._pipe, 1 << 16)
        self._answer += piece
        if not piece:
            self.ended = True
            os.close(self._pipe)
            with contextlib.suppress(ChildProcessError):  # none is kept where SIGCHLD is ignored
                os.waitpid(self._process, 0)

    def wait(self) -> None:
        """Wait for its end."""
        while not self.ended:
            self.listen()

    def outcome(self) -> object:
        """What its work returned, or raised."""
        if not self._answer:
            raise _could_not_tell(self.account, "without an answer", "its process was killed")
        raised: QsCertsError | None = None
        returned: object = None
        try:
            outcome = _read_answer(bytes(self._answer))
            if isinstance(outcome, _Raised):
                raised = outcome.error()
            else:
                returned = outcome.value
        except Exception as error:
            raise _could_not_tell(self.account, "with no answer of ours", None) from error
        if raised is not None:
            raise raised
        return returned


def _ended(children: Iterable[_Child]) -> list[_Child]:
    """Those that have ended, once there is one.

    All are listened to meanwhile: a pipe takes 64 KiB, and then its child would wait for us.
    """
    if sys.platform == "win32":
        raise AssertionError("unreachable")
    import select

    poll = select.poll()
    by_pipe = {child.fileno(): child for child in children}
    for pipe in by_pipe:
        poll.register(pipe, select.POLLIN)
    while not any(child.ended for child in by_pipe.values()):
        for pipe, _ in poll.poll():
            by_pipe[pipe].listen()
    return [child for child in by_pipe.values() if child.ended]


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
    account: Account,
    groups: list[int],
    work: Callable[[], object],
    pipe: int,
    foreign: Iterable[int],
) -> NoReturn:
    """Close what is *foreign*, become *account*, do the work, send the outcome, end."""
    import pickle

    outcome: _Returned[object] | _Raised
    answer = b""
    try:
        try:
            for each in foreign:
                os.close(each)
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
        try:
            with os.fdopen(pipe, "wb", buffering=0) as out:
                while answer:
                    answer = answer[out.write(answer) :]
        finally:
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
    """What is said about an account whose work Ctrl-C ended."""
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
    kept = {"PATH", "LANG"} if account.chosen else {"PATH", "LANG", "QS_CERTS_STORE"}
    # One by one: clear() and update() look at so much that a tenth of the child's pages is copied.
    for name in set(os.environ) - kept:
        del os.environ[name]
    for name, value in (("HOME", account.home), ("USER", account.name), ("LOGNAME", account.name)):
        os.environ[name] = value
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


def _in_profile(account: Account, work: Callable[[], T]) -> T:
    """Do *work* in the profile of *account*.  Raises TargetRefused where a link or a junction in
    it could lead an administrator's hand elsewhere (CWE-1386)."""
    for folder in (account.roaming, account.local):
        if folder is not None:
            refuse_reparse_points(account, folder)
    with accounts.in_profile(account):
        return work()


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
