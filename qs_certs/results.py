"""What commands return: frozen values, no wording of their own, no I/O.

Text, JSON, nagios and intune output are views of these (`render`), and the exit code is a
property of them.  Times are aware UTC datetimes; fingerprints are lower-case hex SHA-256 of the
DER bytes; paths are strings as the user would type them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from qs_certs.errors import ExitCode, QsCertsError
from qs_certs.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Severity = Literal["ok", "warning", "error"]
    ChangeStatus = Literal["changed", "unchanged", "would-change", "failed"]
    Source = Literal["download", "embedded", "file"]
    DecidedBy = Literal["default", "PGSSLROOTCERT", "sslrootcert", "service", "option"]
    Answer = Literal[
        "tls", "refused", "error", "not-postgresql", "closed", "timed-out", "unreachable"
    ]
    Outcome = Literal["encrypted", "plaintext", "fails"]
else:
    Severity = ChangeStatus = Source = DecidedBy = Answer = Outcome = str

_SEVERITY_OF_CODE = (
    # The order in which one exit code outranks another where several targets or servers ended
    # differently: what must stop a script first.
    ExitCode.INTERRUPTED,
    ExitCode.BUG,
    ExitCode.INTEGRITY,
    ExitCode.NOT_WRITTEN,
    ExitCode.PERSON_NEEDED,
    ExitCode.UNKNOWN,
    ExitCode.ACTION_NEEDED,
    ExitCode.USAGE,
    ExitCode.OK,
)


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """The code that a script must act on first; OK where there are none."""
    return min(codes, key=_SEVERITY_OF_CODE.index, default=ExitCode.OK)


class Finding(Value):
    """One established fact.

    *code* is stable and explained by `qs-certs explain CODE`.  *fix* holds the steps that mend it,
    the best one first: `commands` are those to run as they stand, `advice` is for a person.
    *exit_code* is what this fact alone would make `check` end with; warnings and good news are OK.
    """

    code: str
    severity: Severity
    message: str
    fix: tuple[str, ...] = ()
    exit_code: ExitCode = ExitCode.OK

    @property
    def commands(self) -> tuple[str, ...]:
        return tuple(step for step in self.fix if _is_command(step))

    @property
    def advice(self) -> tuple[str, ...]:
        return tuple(step for step in self.fix if not _is_command(step))


_PROGRAMS = frozenset(
    {
        "qs-certs",
        "unset",
        "export",
        "chmod",
        "chown",
        "sudo",
        "ls",
        "psql",
        "openssl",
        "icacls",
        "attrib",
        "setx",
    }
)


def _is_command(step: str) -> bool:
    return step.partition(" ")[0] in _PROGRAMS


class TargetResult(Value):
    """What became of one target."""

    path: str
    user: str | None
    status: ChangeStatus
    change_id: int | None = None
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    repaired: tuple[str, ...] = ()
    diff: str = ""
    source: Source | None = None
    error: QsCertsError | None = None
    created: bool = False
    """The target did not exist before: its existence now changes other connections."""
    present: tuple[str, ...] = ()
    """Roots that were asked for and were there already."""
    undo: str | None = None
    """The command that undoes the change."""

    @property
    def exit_code(self) -> ExitCode:
        if self.error is not None:
            return self.error.exit_code
        return ExitCode.ACTION_NEEDED if self.status == "would-change" else ExitCode.OK


class ChangeReport(Value):
    """What `install`, `remove` and `rollback` return."""

    command: Literal["install", "remove", "rollback"]
    targets: tuple[TargetResult, ...]
    findings: tuple[Finding, ...] = ()
    impact: tuple[Impact, ...] | None = None
    accounts: bool = False
    """Accounts were chosen: a line for each, and a summary."""
    undo: str | None = None
    """The command that undoes it for all accounts that were changed."""

    @property
    def exit_code(self) -> ExitCode:
        return worst(target.exit_code for target in self.targets)

    @property
    def status(self) -> ChangeStatus:
        states = {target.status for target in self.targets}
        order: tuple[ChangeStatus, ...] = ("failed", "changed", "would-change", "unchanged")
        return next((state for state in order if state in states), "unchanged")


class Change(Value):
    """One entry of the journal.  *before* and *after* are SHA-256 of contents; None: no file."""

    id: int
    at: datetime
    command: str
    target: str
    before: str | None
    after: str | None
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def spans(numbers: Iterable[int]) -> str:
    """Ascending *numbers* as people write them: `1, 4 to 7`."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in found)


class HistoryReport(Value):
    """What `history` returns; *diff* is given when one change was asked for.

    *earlier* changes were not asked for.  With `--prune`, *dropped* are those that went, and
    *freed* is how many bytes of contents went with them; with `--quarantine`, *aside* is where the
    damaged journal is now.
    """

    target: str
    changes: tuple[Change, ...]
    diff: str | None = None
    findings: tuple[Finding, ...] = ()
    status: Literal["ok", "changed", "unchanged", "would-change"] = "ok"
    earlier: int = 0
    dropped: tuple[Change, ...] = ()
    freed: int = 0
    aside: str | None = None

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode.ACTION_NEEDED if self.status == "would-change" else ExitCode.OK


class ListedCertificate(Value):
    """A certificate in a root file.  *position* and *line* count from 1; *root* is a catalogue name."""

    position: int
    line: int
    subject: str
    sha256: str
    not_before: datetime | None
    not_after: datetime | None
    root: str | None


class ListReport(Value):
    """What `list` returns."""

    target: str
    exists: bool
    certificates: tuple[ListedCertificate, ...]
    findings: tuple[Finding, ...] = ()
    exit_code: ExitCode = ExitCode.OK

    @property
    def status(self) -> Literal["ok"]:
        return "ok"


class RootEntry(Value):
    """A root of the catalogue as `roots` shows it."""

    name: str
    subject: str
    sha256: str
    sha1: str
    serial: str
    not_before: datetime
    not_after: datetime
    distrust_after: datetime | None
    url: str
    needed_by: tuple[str, ...]


class RootsReport(Value):
    """What `roots` returns.  *pem* is set when the certificates themselves were asked for."""

    roots: tuple[RootEntry, ...]
    pem: str | None = None
    exit_code: ExitCode = ExitCode.OK


class RootFile(Value):
    """The root file that decides a connection, and which rule chose it.

    *path* is None where libpq would find none at all (`sslrootcert=system`, no home).
    *loads* is None where the file is not there or cannot be read.
    """

    path: str | None
    decided_by: DecidedBy
    exists: bool
    loads: bool | None
    certificates: int
    error: str | None = None


class RootState(Value):
    """A root that `check` looked for."""

    name: str
    sha256: str
    present: bool
    not_after: datetime
    distrust_after: datetime | None


class ServedCertificate(Value):
    """A certificate as a server sent it.  Names are RFC 4514-like text, unescaped."""

    subject: str
    issuer: str
    sha256: str
    not_before: datetime
    not_after: datetime


class Anchor(Value):
    """The certificate of the root file on which a chain ended; *position* counts from 1."""

    subject: str
    sha256: str
    position: int | None = None


class ModeOutcome(Value):
    """What a libpq connection with one sslmode ends as.

    *outcome* is for a server that also accepts plaintext sessions, *outcome_if_plaintext_refused*
    for one that does not (as Query Service).  *libpq_message* is libpq's own for the failure.
    """

    mode: str
    outcome: Outcome
    outcome_if_plaintext_refused: Outcome
    chain_verified: bool
    host_name_verified: bool
    libpq_message: str | None
    resists_eavesdropping: bool
    resists_man_in_the_middle: bool


class ServerReport(Value):
    """What `check` established about one server."""

    host: str
    port: int
    address: str | None
    goal: str
    answer: Answer
    tls_version: str | None
    cipher: str | None
    chain: tuple[ServedCertificate, ...]
    anchor: Anchor | None
    host_name_ok: bool | None
    verify_error: str | None
    effective_sslmode: str
    sslmodes: tuple[ModeOutcome, ...]
    conninfo: str | None = None
    """The connection string to use: verify-full, without a password."""
    origin: str | None = None
    """Where the server was found: a service, a line of .pgpass, the environment."""


class CheckReport(Value):
    """What `check` returns."""

    root_file: RootFile
    roots: tuple[RootState, ...]
    servers: tuple[ServerReport, ...]
    findings: tuple[Finding, ...]
    strict: bool = False

    @property
    def exit_code(self) -> ExitCode:
        found = worst(finding.exit_code for finding in self.findings)
        warned = any(finding.severity == "warning" for finding in self.findings)
        if self.strict and warned and found == ExitCode.OK:
            return ExitCode.PERSON_NEEDED
        return found

    @property
    def status(self) -> Literal["ok", "action-needed", "unknown"]:
        if self.exit_code == ExitCode.OK:
            return "ok"
        return "unknown" if self.exit_code == ExitCode.UNKNOWN else "action-needed"


class AccountReport(Value):
    """What `check`, `list` or `history` established for one account."""

    user: str
    report: CheckReport | ListReport | HistoryReport | Failure


class AccountsReport(Value):
    """What `check`, `list` and `history` return for accounts that an administrator chose.

    *findings* concern the choice.  There is at least one account.
    """

    command: Literal["check", "list", "history"]
    accounts: tuple[AccountReport, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def worst(self) -> CheckReport | ListReport | HistoryReport | Failure:
        """The report that decides how the command ends; the first of several like it."""
        code = self.exit_code
        return next(each.report for each in self.accounts if each.report.exit_code == code)

    @property
    def exit_code(self) -> ExitCode:
        return worst(each.report.exit_code for each in self.accounts)

    @property
    def status(self) -> str:
        return self.worst.status


class Impact(Value):
    """What a change of the root file would do to one known server, in its effective sslmode."""

    origin: str
    host: str
    port: int
    effective_sslmode: str
    before: Outcome | None
    after: Outcome | None
    verified_before: bool
    verified_after: bool
    fix: tuple[str, ...] = ()
    note: str | None = None


class Explained(Value):
    """What `explain` returns.  Holds nothing of the text that was asked about."""

    code: str
    severity: Severity
    title: str
    meaning: str
    causes: tuple[str, ...]
    fix: tuple[str, ...]
    exit_code: ExitCode = ExitCode.OK


class ClientGuide(Value):
    """How to connect to Query Service; *instead* is empty where the root file does it."""

    steps: tuple[str, ...]
    instead: str
    see: str


class ClientEntry(Value):
    """One client on one system.  *sslmodes* are those in which it judges by the root file.

    *proven* is "tested" where the project's own suite runs it, in *tested_versions*.
    """

    slug: str
    name: str
    driver: str
    versions: str
    root_file_matters: bool
    looks_in: str
    sslmodes: tuple[str, ...]
    set_instead: str
    verified_when: str
    evidence: str
    notes: tuple[str, ...]
    proven: Literal["tested", "tried", "source", "documentation"] = "documentation"
    tested_versions: tuple[str, ...] = ()
    guide: ClientGuide | None = None
    """Where Query Service names the client."""


class ClientsReport(Value):
    """What `clients` returns; *named* where certain clients were asked for."""

    system: str
    clients: tuple[ClientEntry, ...]
    named: bool = False
    exit_code: ExitCode = ExitCode.OK


class Failure(Value):
    """A command that could not do what was asked."""

    command: str
    error: QsCertsError
    findings: tuple[Finding, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        return self.error.exit_code

    @property
    def status(self) -> Literal["failed"]:
        return "failed"
