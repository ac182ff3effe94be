"""The requests that only look: check, explain, clients.  None of them knows the store.

Nothing here prints or ends the process: request in, result out.  A local check, which runs before
every connection, loads no more than it needs.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from datetime import datetime, timezone

from qs_certs import accounts, rootfile
from qs_certs.accounts import Account
from qs_certs.errors import ExitCode, WrongUsage
from qs_certs.libpq.locations import Surroundings
from qs_certs.libpq.outcomes import SSLMODES
from qs_certs.results import (
    CheckReport,
    ClientEntry,
    ClientGuide,
    ClientsReport,
    Explained,
    Finding,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qs_certs.knowledge.clients import System
    from qs_certs.rootfile import Facts

SERVER_PATIENCE = 10.0
"""Seconds for each server that is checked."""
WARN_DAYS = 60
"""Days before the end of a certificate, or of browsers' trust in a root, from which to warn."""
LONGEST_PATIENCE = 86_400.0
"""Seconds; the system's own timers end somewhere beyond."""
LONGEST_WARNING = 36_500
"""Days; the calendar ends somewhere beyond."""


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
) -> CheckReport:
    """Judge the root file and, given a server, the connection to it in all six sslmodes.

    *sslmode* is the goal: the check passes where a connection in that mode would succeed.
    *timeout* is in seconds, for each server.  Never sends a user name or a password.  Raises
    WrongUsage for a connection string that libpq would refuse; a state of the world is a finding.
    """
    if sslmode not in SSLMODES:
        raise WrongUsage(
            f'invalid sslmode value: "{sslmode}"', why="it is one of " + ", ".join(SSLMODES)
        )
    if not 0 < timeout <= LONGEST_PATIENCE:  # nor is NaN
        raise WrongUsage(f"--timeout must be more than 0 seconds, {LONGEST_PATIENCE:.0f} at most")
    if not 0 <= warn_days <= LONGEST_WARNING:
        raise WrongUsage(f"--warn-days must be from 0 to {LONGEST_WARNING}")
    named = any(each is not None for each in (conninfo, host, port, service))
    if all_servers and named:
        raise WrongUsage("--all checks every known server: leave out the one that is named")
    account = accounts.behind_sudo()
    if account is not None and target is None:
        again = functools.partial(
            check,
            conninfo,
            host=host,
            port=port,
            service=service,
            all_servers=all_servers,
            sslmode=sslmode,
            timeout=timeout,
            warn_days=warn_days,
            strict=strict,
        )
        return _behind_sudo(account, again)
    around = surroundings()
    file = None if target is None else str(target)
    now = datetime.now(timezone.utc)
    if not named and not all_servers:
        facts, about_service = _without_server(around, file)
        findings = rootfile.judge(facts, around, now, warn_days) + about_service
        missing = rootfile.missing_default(facts)
        findings += rootfile.healthy(facts, findings) if missing is None else [missing]
        return CheckReport(facts.root_file, rootfile.roots_in(facts), (), tuple(findings), strict)
    from qs_certs import diagnosis, servers

    if named:
        connection = servers.asked_for(around, conninfo, host, port, service)
        connections = [] if connection is None else [connection]
        problems: tuple[str, ...] = ()
    else:
        found, problems = servers.known(around)
        connections = list(found)
    return diagnosis.check(
        connections,
        around,
        target=file,
        goal=sslmode,
        timeout=timeout,
        warn_days=warn_days,
        strict=strict,
        now=now,
        problems=problems,
        every=all_servers,
    )


def _behind_sudo(account: Account, again: Callable[[], CheckReport]) -> CheckReport:
    """The check with the rights of the user who called sudo: root reads what their libpq cannot."""
    # All that the child needs, while we can still read it.
    import encodings.idna  # noqa: F401 - for the names of servers

    import cryptography.x509  # noqa: F401

    from qs_certs import diagnosis, servers, sources  # noqa: F401

    report = accounts.run_as(account, again)
    message = f"under sudo: this is what {account.name}, who called it, has"
    said = Finding("sudo-target", "ok", message)
    return dataclasses.replace(report, findings=(*report.findings, said))


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
            raise WrongUsage(f"there is no client {name} on the list", fix=("qs-certs clients",))
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
