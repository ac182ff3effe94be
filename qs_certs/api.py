"""The requests that concern the root file and its history: install, remove, rollback, list.

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
from qs_certs.libpq.locations import DEDICATED_FILE, lost_letters
from qs_certs.results import (
    ChangeReport,
    Finding,
    HistoryReport,
    Impact,
    ListReport,
    Source,
)
from qs_certs.rootfile import lost_path, quoted

DOWNLOAD_PATIENCE = 10.0
"""Seconds that a whole download may take."""
LONGEST_PATIENCE = 86_400.0
"""Seconds; the system's own timers end somewhere beyond."""


def _stdin() -> bytes:
    if sys.stdin is None:  # closed, as by a scheduler
        raise WrongUsage("standard input is closed, so there is nothing to read")
    return sys.stdin.buffer.read()


def target_of(named: str | os.PathLike[str] | None, *, dedicated: bool = False) -> Target:
    """The file to work on: the named one, otherwise libpq's default for the user.

    Under sudo that is the user who called sudo, and their rights are used.  Raises WrongUsage
    where libpq would find no home at all.
    """
    if named is not None:
        if dedicated:
            raise WrongUsage("--dedicated names the file itself: leave out --target")
        if str(named).endswith(("/", os.sep)) or not str(named):
            raise WrongUsage(
                "--target names a file, not a folder", fix=("--target FOLDER/root.crt",)
            )
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
    also: Sequence[str | os.PathLike[str]] = (),
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
    be a root outside the catalogue.  The files *also* get the same, each as a change of its own:
    for clients that look elsewhere than libpq.  *timeout* is in seconds, for a whole download.  A failure
    that concerns the target is in the result; raises WrongUsage, CouldNotFetch, IntegrityError.
    """
    chosen = target_of(target, dedicated=dedicated)
    others = tuple(Target(target_of(each).path, chosen.account) for each in also)
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
        tuple(dict.fromkeys((chosen, *others))),
        wanted,
        replace_all=replace,
        repair=repair,
        dry_run=dry_run,
        findings=_about_install(chosen, named=target is not None, dedicated=dedicated),
    )
    report = _with_undo(dataclasses.replace(report, impact=affected), target, dedicated=dedicated)
    report = _with_undo_of_others(report)
    return _with_first_file(report, named=target is not None, dedicated=dedicated, dry_run=dry_run)


def _with_undo(
    report: ChangeReport, named: str | os.PathLike[str] | None, *, dedicated: bool
) -> ChangeReport:
    """Name the command that undoes what was changed, for the very file that was changed."""
    command = "qs-certs rollback"
    if dedicated:
        command += " --dedicated"
    elif named is not None:
        command += f" --target {quoted(str(named))}"
    targets = tuple(
        dataclasses.replace(each, undo=command) if each.status == "changed" else each
        for each in report.targets
    )
    return dataclasses.replace(report, targets=targets)


def _with_undo_of_others(report: ChangeReport) -> ChangeReport:
    """All targets but the first were named with --also, and are undone by that name."""
    first, *others = report.targets
    named = (
        dataclasses.replace(each, undo=f"qs-certs rollback --target {quoted(each.path)}")
        if each.status == "changed"
        else each
        for each in others
    )
    return dataclasses.replace(report, targets=(first, *named))


def _impact(
    target: Target, wanted: Sequence[Wanted], *, replace: bool, repair: bool
) -> tuple[Impact, ...]:
    """Probe every known server with the root file as it is, and as it would be."""
    from datetime import datetime, timezone

    from qs_certs import diagnosis, inspection, servers

    around = inspection.surroundings()
    after = changes.preview(target, wanted, replace_all=replace, repair=repair)
    known, _ = servers.known(around)
    return diagnosis.impact(
        known,
        around,
        target=target.path,
        after=after,
        timeout=inspection.SERVER_PATIENCE,
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
    if not 0 < timeout <= LONGEST_PATIENCE:  # nor is NaN
        raise WrongUsage(f"--timeout must be more than 0 seconds, {LONGEST_PATIENCE:.0f} at most")
    if sha256 is not None and origin is None:
        raise WrongUsage(
            "--sha256 pins what --from names", fix=("add --from FILE, --from - or --from URL",)
        )
    if origin is not None and url is not None and url != os.environ.get("QS_CERTS_URL"):
        raise WrongUsage("--from and --url both say where to take the certificate from")
    if offline and url is not None and url != os.environ.get("QS_CERTS_URL"):
        raise WrongUsage("--offline and --url exclude each other")
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
    around = accounts.surroundings()
    if not named and not dedicated and lost_letters(target.path, around.code_page):
        lost = lost_path(target.path, around)
        found.append(dataclasses.replace(lost, severity="warning", exit_code=ExitCode.OK))
    elsewhere = os.environ.get("PGSSLROOTCERT")
    if (
        elsewhere
        and not named
        and target.account is None
        and os.path.abspath(elsewhere) != os.path.abspath(target.path)  # noqa: PTH100
    ):
        fixes = ["unset PGSSLROOTCERT"]
        if elsewhere != "system":  # no file, but the system's own roots
            fixes.append(f"qs-certs install --target {quoted(elsewhere)}")
        found.append(
            Finding(
                "default-overridden",
                "warning",
                f"PGSSLROOTCERT points to {elsewhere}, so libpq does not read {target.path} here",
                tuple(fixes),
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


def _with_first_file(
    report: ChangeReport, *, named: bool, dedicated: bool, dry_run: bool
) -> ChangeReport:
    """Say what it means for other connections that there is a root file now."""
    made = [each for each in report.targets[:1] if each.created and each.status != "failed"]
    if named or dedicated or not made:
        return report
    begin = (
        "there is no root file yet; with one,"
        if dry_run
        else "there was no root file before; from now on"
    )
    message = (
        f"{begin} libpq verifies every TLS server of this user: sslmode=require fails for a server "
        "of another CA, and prefer, the default, silently falls back to plaintext where that "
        "server allows it"
    )
    # The other way leaves every other connection alone.
    undo = "" if dry_run else "qs-certs rollback && "
    fixes = (f"{undo}qs-certs install --dedicated",)
    finding = Finding("first-root-file", "warning", message, fixes)
    return dataclasses.replace(report, findings=(*report.findings, finding))


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
    report = _with_undo(report, target, dedicated=dedicated)
    return dataclasses.replace(report, findings=(*report.findings, *_about_sudo(chosen)))


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
    report = _with_undo(report, target, dedicated=dedicated)
    return dataclasses.replace(report, findings=(*report.findings, *_about_sudo(chosen)))


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


def schema_of(command: str) -> str:
    """The JSON Schema of what *command* prints with `--json`."""
    return (Path(__file__).parent / "schemas" / f"{command}.json").read_text("utf-8")
