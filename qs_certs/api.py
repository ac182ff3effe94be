"""The functions for programs, and what the commands are made of: request in, result out.

Nothing here prints or ends the process.  Each function gathers what its request needs from the
rooms below and returns a result of `results`.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from qs_certs import accounts, catalogue, changes, reading
from qs_certs.changes import Target, Wanted
from qs_certs.errors import ExitCode, WrongUsage
from qs_certs.libpq.locations import DEDICATED_FILE, Surroundings
from qs_certs.results import (
    ChangeReport,
    CheckReport,
    ClientEntry,
    ClientsReport,
    Explained,
    Finding,
    HistoryReport,
    Impact,
    ListReport,
    Source,
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
DOWNLOAD_PATIENCE = 10.0
"""Seconds that a whole download may take."""


def _stdin() -> bytes:
    return sys.stdin.buffer.read()


def target_of(named: str | os.PathLike[str] | None, *, dedicated: bool = False) -> Target:
    """The file to work on: the named one, otherwise libpq's default for the user.

    Under sudo that is the user who called sudo, and their rights are used.  Raises WrongUsage
    where libpq would find no home at all.
    """
    if named is not None:
        if dedicated:
            raise WrongUsage("--dedicated names the file itself: leave out --target")
        return Target(str(named))
    account = accounts.behind_sudo()
    around = accounts.surroundings() if account is None else accounts.surroundings_of(account)
    path = around.beside_root_file(DEDICATED_FILE) if dedicated else around.root_file
    if path is None:
        raise WrongUsage(
            "there is no home folder, so libpq has no default root file here",
            why="HOME is unset and the password database has no entry for this user",
            fix=("set HOME", "or name the file: --target FILE"),
        )
    return Target(path, account)


def install(
    roots: Sequence[str] = (),
    *,
    target: str | os.PathLike[str] | None = None,
    origin: str | None = None,
    sha256: str | None = None,
    url: str | None = None,
    offline: bool = False,
    ca_bundle: str | os.PathLike[str] | None = None,
    timeout: float = DOWNLOAD_PATIENCE,
    dedicated: bool = False,
    replace: bool = False,
    repair: bool = False,
    dry_run: bool = False,
    impact: bool = False,
    stdin: Callable[[], bytes] = _stdin,
) -> ChangeReport:
    """Add *roots* (names or fingerprints; the default root where there are none) to the root file.

    *origin* is a file, `-` or an HTTPS address to take the certificate from; with *sha256* it may
    be a root outside the catalogue.  *timeout* is in seconds, for a whole download.  A failure
    that concerns the target is in the result; raises WrongUsage, CouldNotFetch, IntegrityError.
    """
    chosen = target_of(target, dedicated=dedicated)
    bundle_path = None if ca_bundle is None else str(ca_bundle)
    wanted = _wanted(
        roots,
        origin=origin,
        sha256=sha256,
        url=url or os.environ.get("QS_CERTS_URL") or None,
        offline=offline,
        ca_bundle=bundle_path,
        timeout=timeout,
        stdin=stdin,
    )
    if chosen.account is not None:
        _import_everything()
    affected = _impact(chosen, wanted, replace=replace, repair=repair) if impact else None
    report = changes.install(
        (chosen,),
        wanted,
        replace_all=replace,
        repair=repair,
        dry_run=dry_run,
        findings=_about_install(chosen, named=target is not None, dedicated=dedicated),
    )
    report = dataclasses.replace(report, impact=affected)
    return _with_first_file(report, named=target is not None, dedicated=dedicated)


def _impact(
    target: Target, wanted: Sequence[Wanted], *, replace: bool, repair: bool
) -> tuple[Impact, ...]:
    """Probe every known server with the root file as it is, and as it would be."""
    from datetime import datetime, timezone

    from qs_certs import diagnosis, servers

    around = _around_check()
    after = changes.preview(target, wanted, replace_all=replace, repair=repair)
    known, _ = servers.known(around)
    return diagnosis.impact(
        known,
        around,
        target=target.path,
        after=after,
        timeout=SERVER_PATIENCE,
        now=datetime.now(timezone.utc),
    )


def _import_everything() -> None:
    """Load what the work in an account's child process needs, while we can still read it."""
    import ssl  # noqa: F401

    import platformdirs.unix  # noqa: F401

    import qs_certs.openssl  # noqa: F401


def _wanted(
    roots: Sequence[str],
    *,
    origin: str | None,
    sha256: str | None,
    url: str | None,
    offline: bool,
    ca_bundle: str | None,
    timeout: float,
    stdin: Callable[[], bytes],
) -> tuple[Wanted, ...]:
    if timeout <= 0:
        raise WrongUsage("--timeout must be more than 0 seconds")
    if sha256 is not None and origin is None:
        raise WrongUsage(
            "--sha256 pins what --from names", fix=("add --from FILE, --from - or --from URL",)
        )
    if origin is None:
        named = [reading.named(name) for name in (roots or (catalogue.DEFAULT,))]
        if url is not None and len(named) > 1:
            raise WrongUsage("--url serves one root", fix=("install one root at a time",))

        def download(root: catalogue.Root) -> Callable[[], tuple[bytes, Source, str | None]]:
            def fetch() -> tuple[bytes, Source, str | None]:
                from qs_certs import sources

                fetched = sources.fetch(
                    root, url=url, timeout=timeout, ca_bundle=ca_bundle, offline=offline
                )
                return fetched.der, fetched.source, fetched.warning

            return functools.cache(fetch)

        return tuple(Wanted(root.sha256, download(root)) for root in dict.fromkeys(named))
    if offline and "://" in origin:
        raise WrongUsage("--offline and --from URL exclude each other")
    if len(roots) > 1 or (roots and sha256 is not None):
        raise WrongUsage("--from gives one certificate", fix=("name one root, or use --sha256",))
    if sha256 is not None:
        pin = catalogue.fingerprint(sha256)
        if pin is None:
            raise WrongUsage(
                "--sha256 is no SHA-256 fingerprint",
                why="it has 64 hexadecimal digits, with or without colons",
                fix=("openssl x509 -noout -fingerprint -sha256 -in FILE",),
            )
    else:
        pin = reading.named(roots[0] if roots else catalogue.DEFAULT).sha256

    def read() -> tuple[bytes, Source, str | None]:
        from qs_certs import sources

        fetched = sources.read(origin, pin, stdin=stdin, timeout=timeout, ca_bundle=ca_bundle)
        return fetched.der, fetched.source, fetched.warning

    return (Wanted(pin, functools.cache(read)),)


def _about_install(target: Target, *, named: bool, dedicated: bool) -> tuple[Finding, ...]:
    """What a user should know beside what became of the file."""
    found = [*_about_sudo(target)]
    elsewhere = os.environ.get("PGSSLROOTCERT")
    if elsewhere and not named and target.account is None:
        found.append(
            Finding(
                "default-overridden",
                "warning",
                f"PGSSLROOTCERT points to {elsewhere}, so libpq does not read {target.path} here",
                ("unset PGSSLROOTCERT", f"qs-certs install --target {elsewhere}"),
            )
        )
    if dedicated:
        found.append(
            Finding(
                "dedicated-file",
                "ok",
                "libpq reads this file only where it is told to: "
                f"sslrootcert={_conninfo_value(target.path)} in a connection string or service, or "
                f"PGSSLROOTCERT={target.path} in the environment",
            )
        )
    return tuple(found)


def _about_sudo(target: Target) -> tuple[Finding, ...]:
    if target.account is None:
        return ()
    name = target.account.name
    message = f"under sudo: this is the file of {name}, who called it, done with their rights"
    return (Finding("sudo-target", "ok", message),)


def _conninfo_value(text: str) -> str:
    """Quoted as libpq's connection strings want it (libpq:fe-connect.c conninfo_parse)."""
    if text and not set(text) & set(" '\\\t\n"):
        return text
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _with_first_file(report: ChangeReport, *, named: bool, dedicated: bool) -> ChangeReport:
    """Say what it means for other connections that there is a root file now."""
    made = [each for each in report.targets if each.created and each.status != "failed"]
    if named or dedicated or not made:
        return report
    message = (
        "there was no root file before; from now on libpq verifies every TLS server of this user: "
        "sslmode=require fails for a server of another CA, and prefer, the default, silently "
        "falls back to plaintext where that server allows it"
    )
    fixes = (
        "qs-certs rollback && qs-certs install --dedicated   # leaves every other connection alone",
    )
    finding = Finding("first-root-file", "warning", message, fixes)
    return dataclasses.replace(report, findings=(*report.findings, finding))


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
    from datetime import datetime, timezone

    from qs_certs import rootfile
    from qs_certs.libpq.settings import SSLMODES

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
    around = _around_check()
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


def _without_server(around: Surroundings, file: str | None) -> tuple[Facts, list[Finding]]:
    """The root file of a connection about which nothing is said: PGSERVICE may choose it.

    A service that libpq would not find is a finding: it concerns every connection.
    """
    from qs_certs import rootfile

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


def _around_check() -> Surroundings:
    account = accounts.behind_sudo()
    return accounts.surroundings() if account is None else accounts.surroundings_of(account)


def remove(
    roots: Sequence[str] = (),
    *,
    target: str | os.PathLike[str] | None = None,
    dedicated: bool = False,
    dry_run: bool = False,
) -> ChangeReport:
    """Take *roots* (names or fingerprints; the default root where there are none) out again."""
    fingerprints = []
    for name in roots or (catalogue.DEFAULT,):
        known = catalogue.find(name)
        pin = catalogue.fingerprint(name) if known is None else known.sha256
        fingerprints.append(reading.named(name).sha256 if pin is None else pin)
    chosen = target_of(target, dedicated=dedicated)
    if chosen.account is not None:
        _import_everything()
    report = changes.remove((chosen,), fingerprints, dry_run=dry_run)
    return ChangeReport(report.command, report.targets, (*report.findings, *_about_sudo(chosen)))


def rollback(
    identity: int | None = None,
    *,
    target: str | os.PathLike[str] | None = None,
    dedicated: bool = False,
    force: bool = False,
    dry_run: bool = False,
) -> ChangeReport:
    """Undo the last change of the root file, or bring back its state before change *identity*."""
    chosen = target_of(target, dedicated=dedicated)
    if chosen.account is not None:
        _import_everything()
    report = changes.rollback((chosen,), identity=identity, force=force, dry_run=dry_run)
    return ChangeReport(report.command, report.targets, (*report.findings, *_about_sudo(chosen)))


def listing(*, target: str | os.PathLike[str] | None = None, dedicated: bool = False) -> ListReport:
    """The certificates in the root file."""
    return reading.listing(target_of(target, dedicated=dedicated))


def history(
    identity: int | None = None,
    *,
    target: str | os.PathLike[str] | None = None,
    dedicated: bool = False,
) -> HistoryReport:
    """The changes of the root file, or one of them as a diff."""
    return reading.history(target_of(target, dedicated=dedicated), identity)


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
    from qs_certs.knowledge import CLIENTS, find_client

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
            )
        )
    return ClientsReport(known, tuple(entries), bool(names))


def schema_of(command: str) -> str:
    """The JSON Schema of what *command* prints with `--json`."""
    return (Path(__file__).parent / "schemas" / f"{command}.json").read_text("utf-8")
