"""The exceptions of qs-certs: what went wrong, why, and what to do next.

    QsCertsError                 never raised itself
    |-- WrongUsage               2   the call cannot be carried out as it stands
    |-- CouldNotFetch            4   trying again may help
    |   `-- CouldNotRead         4   a file that is there cannot be read
    |-- CouldNotTell             4   another process ended without an answer: look, then go on
    |-- IntegrityError           5   stop and ask: never retry, never override
    |   |-- WrongFingerprint         a source holds certificates, but not the pinned one
    |   |-- RefusedSource            a source holds something that must not be installed
    |   `-- StoreTampered            the rollback store does not hold what it recorded
    |-- CouldNotWrite            6   this machine needs mending; nothing was changed, but for the last
    |   |-- TargetRefused            the target is something that we do not replace
    |   |-- TargetDamaged        1   the target would not load, and mending it would drop something
    |   |-- TargetChanged            somebody else changed the target meanwhile
    |   |-- StoreUnusable            the rollback store cannot be used
    |   |-- LockTimeout              another process holds the lock
    |   `-- ChangedUnconfirmed       the target *is* changed, but not known to be durable
    |-- Bug                     70   something in us that nobody foresaw
    `-- Interrupted            130   stopped by Ctrl-C

They are ordinary exceptions: a frozen dataclass breaks inside a context manager.  `cli` is the
only place that turns one into words and an exit code.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a script can do next; the table is in the README."""

    OK = 0
    ACTION_NEEDED = 1
    USAGE = 2
    PERSON_NEEDED = 3
    UNKNOWN = 4
    INTEGRITY = 5
    NOT_WRITTEN = 6
    BUG = 70
    INTERRUPTED = 130


def quoted(path: str) -> str:
    """*path* as one word of a command line, for a person to paste.

    Double quotes are read alike by cmd, PowerShell and the shells of POSIX; where the name holds
    what the latter act on within them, the quotes are single ones.
    """
    backslash = "\\" if path.startswith("/") else ""  # elsewhere it separates folders
    if (
        path
        and all(each.isalnum() or each in "/._-~:\\" for each in path)
        and (not backslash or backslash not in path)
    ):
        return path
    if any(each in path for each in ("$", "`", '"', "!", *backslash)):
        from shlex import quote

        return quote(path)
    return '"' + path + '"'


class QsCertsError(Exception):
    """Something that was asked for could not be done.

    *message* says what, *why* the cause (the system's own words where it has some), and *fix*
    holds what to do next: literal commands where there are any.  *code* is stable, for scripts
    and for `qs-certs explain`.
    """

    code = "error"
    exit_code = ExitCode.BUG

    def __init__(self, message: str, *, why: str | None = None, fix: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.why = why
        self.fix = fix


class WrongUsage(QsCertsError):
    """The call cannot be carried out as it stands."""

    code = "wrong-usage"
    exit_code = ExitCode.USAGE


class CouldNotFetch(QsCertsError):
    """A source could not be reached, or sent nothing that holds a certificate."""

    code = "could-not-fetch"
    exit_code = ExitCode.UNKNOWN


class CouldNotRead(CouldNotFetch):
    """A file cannot be read."""

    code = "could-not-read"


class CouldNotTell(QsCertsError):
    """A process that worked for an account ended without an answer: what it was to change may be
    changed or not, and is whole."""

    code = "could-not-tell"
    exit_code = ExitCode.UNKNOWN


class IntegrityError(QsCertsError):
    """Stop and ask.  No option overrides this."""

    code = "integrity"
    exit_code = ExitCode.INTEGRITY


class WrongFingerprint(IntegrityError):
    """A source holds certificates, but not the one whose fingerprint is pinned."""

    code = "wrong-fingerprint"


class RefusedSource(IntegrityError):
    """A source holds something that must not be installed: a private key, or no CA certificate."""

    code = "refused-source"


class StoreTampered(IntegrityError):
    """The rollback store does not hold what it recorded."""

    code = "store-tampered"


class CouldNotWrite(QsCertsError):
    """Not written: this machine needs mending.  Nothing was changed, but for ChangedUnconfirmed."""

    code = "could-not-write"
    exit_code = ExitCode.NOT_WRITTEN
    displaced: bytes | None = None
    """What another program wrote, where it was out of place for a moment: it stands again, but who
    read the file in that moment may go on without it."""


class TargetRefused(CouldNotWrite):
    """The target is something that is not to be replaced: a folder, a device, a mounted file."""

    code = "target-refused"


class TargetDamaged(CouldNotWrite):
    """The target would not load, and mending it would drop something: see `--repair`."""

    code = "target-damaged"
    exit_code = ExitCode.ACTION_NEEDED  # `install --repair` would mend it


class TargetChanged(CouldNotWrite):
    """Somebody else changed the target."""

    code = "target-changed"


class StoreUnusable(CouldNotWrite):
    """The rollback store cannot be used, so nothing may be changed."""

    code = "store-unusable"


class LockTimeout(CouldNotWrite):
    """Another process holds the lock of the store."""

    code = "lock-timeout"


class ChangedUnconfirmed(CouldNotWrite):
    """The target *has* the new content, but it is not known to be durable, or could not be seen.

    Its exit code is that of a machine to be mended, and not CouldNotTell's: a script would try
    again, and a second `rollback` undoes the first.
    """

    code = "changed-unconfirmed"


class Bug(QsCertsError):
    """Something in us that nobody foresaw, in work that another process did.  Please report it."""

    code = "bug"


class Interrupted(QsCertsError):
    """Stopped by Ctrl-C before it was done."""

    code = "interrupted"
    exit_code = ExitCode.INTERRUPTED
