"""The requests that only look: check, explain, clients.  None of them knows the store.

Nothing here prints or ends the process: request in, result out.  A local check, which runs before
every connection, loads no more than it needs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime, timezone

from qs_certs import accounts, rootfile, secrecy
from qs_certs.accounts import Account, Progress
from qs_certs.errors import ExitCode, QsCertsError, TargetRefused, WrongUsage, quoted
from qs_certs.libpq.locations import Surroundings
from qs_certs.libpq.outcomes import SSLMODES
from qs_certs.results import (
    AccountReport,
    AccountsReport,
    CheckReport,
    ClientEntry,
    ClientGuide,
    ClientsReport,
    Explained,
    Failure,
    Finding,
    RootFile,
)
from qs_certs.values import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qs_certs.knowledge.clients import System
    from qs_certs.rights import Task
    from qs_certs.rootfile import Facts

SERVER_PATIENCE = 10.0
"""Seconds for each server that is checked."""
WARN_DAYS = 60
"""Days before the end of a certificate, or of browsers' trust in a root, from which to warn."""
LONGEST_PATIENCE = 86_400.0
"""Seconds; the system's own timers end somewhere beyond."""
LONGEST_WARNING = 36_500
"""Days; the calendar ends somewhere beyond."""


def require_patience(seconds: float) -> None:
    """Raise WrongUsage for a `--timeout` that no clock can keep."""
    if not 0 < seconds <= LONGEST_PATIENCE:  # nor is NaN
        raise WrongUsage(f"--timeout must be more than 0 seconds, {LONGEST_PATIENCE:.0f} at most")


def check(
    conninfo: str | None = None,
    *,
    host: str | None = None,
    port: int | None = None,
    service: str | None = None,
    all_servers: bool = False,
    target: str | os.PathLike[str] | None = None,
    sslmode: str = "verify-full",
    timeout: float = SERVER_PATIENCE,
    warn_days: int = WARN_DAYS,
    strict: bool = False,
    progress: Progress | None = None,
) -> CheckReport:
    """Judge the root file and, given a server, the connection to it in all six sslmodes.

    *sslmode* is the goal: the check passes where a connection in that mode would succeed.
    *timeout* is in seconds, for each server; *progress* is told how many of several are done.
    Never sends a user name or a password.  Raises WrongUsage for a connection string that libpq
    would refuse; a state of the world is a finding.
    """
    file = None if target is None else str(target)
    question = Question(
        conninfo, host, port, service, all_servers, file, sslmode, timeout, warn_days, strict
    )
    account = None if target is not None else accounts.behind_sudo()
    if account is None:
        return question.answer(surroundings(), progress)
    from qs_certs import rights

    _import_everything(live=question.live)
    around = accounts.surroundings_of(account)
    report = rights.run_as(account, lambda: question.answer(around))
    message = f"under sudo: this is the file of {account.name}, who called sudo"
    said = Finding("sudo-target", "ok", message)
    return replace(report, findings=(*report.findings, said))


class Question(Value):
    """What a check is asked, whoever it is that libpq would run for.  Raises WrongUsage."""

    conninfo: str | None = None
    host: str | None = None
    port: int | None = None
    service: str | None = None
    all_servers: bool = False
    target: str | None = None
    sslmode: str = "verify-full"
    timeout: float = SERVER_PATIENCE
    warn_days: int = WARN_DAYS
    strict: bool = False

    def __repr__(self) -> str:
        return "Question(...)"  # conninfo may hold a password

    def __post_init__(self) -> None:
        if self.target is not None:
            secrecy.require_file_name("--target", self.target)
        if self.sslmode not in SSLMODES:
            shown = secrecy.repeated(self.sslmode) == self.sslmode
            raise WrongUsage(
                "invalid sslmode value" + (f': "{self.sslmode}"' if shown else ""),
                why="it is one of " + ", ".join(SSLMODES),
            )
        require_patience(self.timeout)
        if not 0 <= self.warn_days <= LONGEST_WARNING:
            raise WrongUsage(f"--warn-days must be from 0 to {LONGEST_WARNING}")
        if self.all_servers and self.named:
            raise WrongUsage("--all checks every known server: leave out the one that is named")

    @property
    def named(self) -> bool:
        """Whether a server is named."""
        given = (self.conninfo, self.host, self.port, self.service)
        return any(each is not None for each in given)

    @property
    def live(self) -> bool:
        """Whether servers are talked to."""
        return self.named or self.all_servers

    def answer(self, around: Surroundings, progress: Progress | None = None) -> CheckReport:
        """The check, with the rights that this process has."""
        require_repeatable(around)
        now = datetime.now(timezone.utc)
        if not self.live:
            return _local(around, self.target, now, self.warn_days, strict=self.strict)
        from qs_certs import diagnosis, servers

        problems: tuple[str, ...] = ()
        if self.named:
            connection = servers.asked_for(
                around, self.conninfo, self.host, self.port, self.service
            )
            connections = [] if connection is None else [connection]
        else:
            found, problems = servers.known(around)
            connections = list(found)
        return diagnosis.check(
            connections,
            around,
            target=self.target,
            goal=self.sslmode,
            timeout=self.timeout,
            warn_days=self.warn_days,
            strict=self.strict,
            now=now,
            problems=problems,
            every=self.all_servers,
            progress=progress,
        )


def check_accounts(
    question: Question,
    users: Sequence[str] = (),
    *,
    all_users: bool = False,
    progress: Progress | None = None,
) -> CheckReport | AccountsReport:
    """The check for each of the chosen accounts, with its own rights; for root.

    An empty CheckReport where there is nobody.  Raises WrongUsage: see `userlist.chosen`.
    """
    if question.target is not None:
        raise WrongUsage("--target names the file itself: leave out --user and --all-users")
    from qs_certs import rights, userlist

    people = userlist.chosen(users, everybody=all_users)
    _import_everything(live=question.live)
    rootfile.understand_default()
    if not people.accounts:
        facts = rootfile.Facts(None, "default", "no-home")
        none = RootFile(None, "default", False, None, 0)
        return CheckReport(none, rootfile.roots_in(facts), (), userlist.findings(people))

    def task(account: Account) -> Task[AccountReport]:
        around = accounts.surroundings_of(account)

        def conclude(answer: Callable[[], CheckReport]) -> AccountReport:
            try:
                report = answer()
            except TargetRefused as error:
                report = _refused_home(around, error)
            except QsCertsError as error:
                return AccountReport(account.name, Failure("check", error))
            findings = tuple(_for_user(each, account, around.system) for each in report.findings)
            return AccountReport(account.name, replace(report, findings=findings))

        return rights.Task(account, lambda: question.answer(around)).then(conclude)

    found = rights.side_by_side(tuple(map(task, people.accounts)), progress)
    return AccountsReport("check", tuple(found), userlist.findings(people))


def _local(
    around: Surroundings, file: str | None, now: datetime, warn_days: int, *, strict: bool
) -> CheckReport:
    """The root file alone."""
    facts, about_service = _without_server(around, file)
    findings = rootfile.judge(facts, around, now, warn_days) + about_service
    missing = rootfile.missing_default(facts)
    findings += rootfile.healthy(facts, findings) if missing is None else [missing]
    return CheckReport(facts.root_file, rootfile.roots_in(facts), (), tuple(findings), strict)


def _import_everything(*, live: bool) -> None:
    """Load what the check in an account's child process needs, while we can still read it.

    As little as that: the more there is in memory, the longer each fork takes.
    """
    import encodings.utf_16
    import encodings.utf_16_be
    import encodings.utf_16_le
    import pkgutil  # noqa: F401

    import cryptography.x509  # noqa: F401

    from qs_certs import sources  # noqa: F401

    if live:
        import encodings.idna  # noqa: F401 - for the names of servers

        from qs_certs import diagnosis, servers  # noqa: F401


def _refused_home(around: Surroundings, error: TargetRefused) -> CheckReport:
    path = around.root_file
    why = f": {error.why}" if error.why else ""
    finding = Finding(
        "home-refused", "error", f"{error.message}{why}", error.fix, ExitCode.PERSON_NEEDED
    )
    facts = rootfile.Facts(path, "default", "absent")
    file = RootFile(path, "default", False, None, 0, error.why)
    return CheckReport(file, rootfile.roots_in(facts), (), (finding,))


def _for_user(finding: Finding, account: Account, system: str) -> Finding:
    """The finding with commands that mean this user's file when root runs them."""

    def meant(step: str) -> str:
        if not step.startswith("qs-certs ") or step.startswith("qs-certs roots"):
            return step
        name = quoted(account.name)
        if " --target " in step:
            return step if system == "win32" else f"sudo -u {name} {step}"
        words, comment, why = step.partition("   #")
        return f"{words} --user {name}{comment}{why}"

    return replace(finding, fix=tuple(meant(step) for step in finding.fix))


def _without_server(around: Surroundings, file: str | None) -> tuple[Facts, list[Finding]]:
    """The root file of a connection about which nothing is said: PGSERVICE may choose it.

    A service that libpq would not find is a finding: it concerns every connection.
    """
    if file is not None or not around.env.get("PGSERVICE"):
        return rootfile.default(around, file), []
    from qs_certs import diagnosis, servers
    from qs_certs.libpq.settings import Given

    try:
        connection = servers.resolved(Given(), around)
    except WrongUsage as error:
        fix = ("unset PGSERVICE",)
        finding = Finding(
            "service-unusable", "error", error.message, fix, exit_code=ExitCode.PERSON_NEEDED
        )
        return rootfile.default(around), [finding]
    return diagnosis.facts_for(connection, around, None), []


_FILES = ("PGSSLROOTCERT", "PGSSLCRL", "PGSSLCRLDIR", "PGSSLCERT", "PGSSLKEY")
_MORE_FILES = ("PGSERVICEFILE", "PGSYSCONFDIR", "PGPASSFILE")


def require_repeatable(around: Surroundings) -> None:
    """Raise WrongUsage where a variable that names a file, which answers repeat, holds a URL or
    what looks like a password."""
    for name in (*_FILES, *_MORE_FILES):
        if value := around.env.get(name):
            secrecy.require_file_name(name, value, fix=(f"unset {name}",))


def surroundings() -> Surroundings:
    """Where libpq would look, for this user or the one behind sudo."""
    account = accounts.behind_sudo()
    return accounts.surroundings() if account is None else accounts.surroundings_of(account)


def explain(text: str) -> Explained:
    """What a finding code or a pasted error message means.  Raises WrongUsage where nobody knows."""
    from qs_certs import knowledge

    found = knowledge.explain(text)
    if found is None:
        raise WrongUsage(
            "nothing is known about that",
            why="it is neither a finding code nor an error message of a known client",
            fix=("paste the whole message in quotes", "qs-certs check HOST:PORT"),
        )
    fix = found.fix_on_windows if accounts.surroundings().system == "win32" else ()
    return Explained(
        found.code, found.severity, found.title, found.meaning, found.causes, fix or found.fix
    )


def clients(names: Sequence[str] = ()) -> ClientsReport:
    """Per client on this system: does the root file matter, where else it looks, what to set."""
    from qs_certs.knowledge import CLIENTS, GUIDES, find_client

    system = accounts.surroundings().system
    known: System = {"win32": "windows", "darwin": "macos"}.get(system, "linux")  # type: ignore[assignment]
    chosen = []
    for name in names:
        found = find_client(name)
        if not found:
            raise WrongUsage(
                f"there is no client {secrecy.repeated(name)} on the list",
                fix=("qs-certs clients",),
            )
        chosen += [each for each in found if each not in chosen]
    entries = []
    for client in chosen or CLIENTS:
        guide = GUIDES.get(client.slug)
        here = client.on(known)
        if names and not here.runs_here:  # asked for by name: tell about the system where it runs
            here = client.windows if client.windows.runs_here else client.macos
        entries.append(
            ClientEntry(
                client.slug,
                client.name,
                client.driver,
                client.versions,
                here.root_file_matters,
                here.looks_in,
                here.sslmodes,
                here.set_instead,
                client.verified_when,
                client.evidence,
                client.notes,
                client.proven,
                client.tested,
                None if guide is None else ClientGuide(guide.steps, guide.instead, guide.see),
            )
        )
    return ClientsReport(known, tuple(entries), bool(names))
