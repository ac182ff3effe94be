"""The requests that concern the root file and its history: install, remove, rollback, list.

Nothing here prints or ends the process.  Each function gathers what its request needs from the
rooms below and returns a result of `results`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from qs_certs import (
    accounts,
    catalogue,
    changes,
    inspection,
    reading,
    rights,
    rootfile,
    secrecy,
    upkeep,
    values,
)
from qs_certs.accounts import Progress
from qs_certs.changes import Target, Wanted
from qs_certs.errors import ExitCode, QsCertsError, WrongUsage, quoted
from qs_certs.libpq.locations import DEDICATED_FILE, lost_letters
from qs_certs.results import (
    AccountReport,
    AccountsReport,
    ChangeReport,
    Failure,
    Finding,
    HistoryReport,
    Impact,
    ListReport,
    Source,
)
from qs_certs.rights import Task
from qs_certs.rootfile import lost_path
from qs_certs.values import Value

DOWNLOAD_PATIENCE = 10.0
"""Seconds that a whole download may take."""
LARGEST_NUMBER = 100_000
"""Of changes, or of days: two and a half centuries."""


Report = TypeVar("Report", bound=ListReport | HistoryReport)


def _stdin() -> bytes:
    if sys.stdin is None:  # closed, as by a scheduler
        raise WrongUsage("standard input is closed, so there is nothing to read")
    from qs_certs import sources

    return sys.stdin.buffer.read(sources.FILE_LIMIT + 1)


def target_of(
    named: str | os.PathLike[str] | None, *, dedicated: bool = False, option: str = "--target"
) -> Target:
    """The file to work on: the one named with *option*, otherwise libpq's default for the user.

    Under sudo that is the user who called sudo, and their rights are used.  Raises WrongUsage
    where libpq would find no home at all.
    """
    if named is not None:
        if dedicated:
            raise WrongUsage("--dedicated names the file itself: leave out --target")
        if str(named).endswith(("/", os.sep)) or not str(named):
            raise WrongUsage(
                f"{option} names a file, not a folder", fix=(f"{option} FOLDER/root.crt",)
            )
        secrecy.require_file_name(option, str(named))
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


class Choice(Value):
    """The files that a command works on, and how they were chosen."""

    targets: tuple[Target, ...]
    findings: tuple[Finding, ...]
    """What should be known about the choice."""
    options: str = ""
    """The options that choose the same once more, with a blank before each."""
    dedicated: bool = False
    named: bool = False
    """The file itself was named."""
    accounts: bool = False
    """Accounts were chosen."""


def choose(
    target: str | os.PathLike[str] | None,
    *,
    dedicated: bool = False,
    users: Sequence[str] = (),
    all_users: bool = False,
    changing: bool = True,
) -> Choice:
    """The files to work on: those of the chosen accounts, otherwise that of `target_of`.

    Raises WrongUsage: see `target_of` and `userlist.chosen`; TargetRefused where the home that
    would be written to (if *changing*) is not root's own, and root is who we are.
    """
    options = " --dedicated" if dedicated else ""
    if not users and not all_users:
        one = target_of(target, dedicated=dedicated)
        in_home = target is None or not os.environ.get("QS_CERTS_STORE")
        if changing and in_home and one.account is None:
            accounts.refuse_home_of_another(accounts.surroundings())
        if one.account is not None:
            _import_everything()
        if target is not None:
            options = f" --target {quoted(str(target))}"
        return Choice((one,), _about_sudo(one), options, dedicated, target is not None)
    if target is not None:
        raise WrongUsage("--target names the file itself: leave out --user and --all-users")
    from qs_certs import userlist

    people = userlist.chosen(users, everybody=all_users)
    _import_everything()
    rootfile.understand_default()
    options += "".join(f" --user {quoted(name)}" for name in users)
    targets = []
    for account in people.accounts:
        around = accounts.surroundings_of(account)
        path = around.beside_root_file(DEDICATED_FILE) if dedicated else around.root_file
        targets.append(Target(path or "", account))
    options += " --all-users" if all_users else ""
    return Choice(tuple(targets), userlist.findings(people), options, dedicated, accounts=True)


def install(
    roots: Sequence[str] = (),
    *,
    target: str | os.PathLike[str] | None = None,
    users: Sequence[str] = (),
    all_users: bool = False,
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
    progress: Progress | None = None,
) -> ChangeReport:
    """Add *roots* (names or fingerprints; the default root where there are none) to the root file.

    *origin* is a file, `-` or an HTTPS address to take the certificate from; with *sha256* it may
    be a root outside the catalogue.  The files *also* get the same, each as a change of its own:
    for clients that look elsewhere than libpq.  *timeout* is in seconds, for a whole download.
    *users* and *all_users* choose the files of other accounts, for root; *progress* is told how
    far it got.  A failure that concerns a target is in the result; raises WrongUsage,
    CouldNotFetch, IntegrityError.
    """
    if impact and (users or all_users):
        raise WrongUsage(
            "--impact probes the servers of one user",
            fix=("leave out --user and --all-users", "or leave out --impact"),
        )
    if also and (users or all_users):
        raise WrongUsage(
            "--also names one file, and each user has their own",
            fix=("leave out --user and --all-users", "or leave out --also"),
        )
    chosen = choose(target, dedicated=dedicated, users=users, all_users=all_users)
    others = [
        Target(target_of(each, option="--also").path, chosen.targets[0].account) for each in also
    ]
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
    affected = None
    if impact:
        affected = _impact(chosen.targets[0], wanted, replace=replace, repair=repair)
    report = changes.install(
        tuple(dict.fromkeys((*chosen.targets, *others))),
        wanted,
        replace_all=replace,
        repair=repair,
        dry_run=dry_run,
        findings=_about_install(chosen),
        progress=progress,
    )
    report = _with_undo(values.replace(report, impact=affected), chosen)
    if others:
        report = _with_undo_of_others(report)
    return _with_first_file(report, chosen, dry_run=dry_run)


def _with_undo(report: ChangeReport, chosen: Choice) -> ChangeReport:
    """Name the command that undoes what was changed, for the very file that was changed."""
    own = " --dedicated" if chosen.dedicated else ""

    def undo(user: str | None) -> str:
        options = f"{own} --user {quoted(user or '')}" if chosen.accounts else chosen.options
        return f"qs-certs rollback{options}"

    targets = tuple(
        values.replace(each, undo=undo(each.user)) if each.status == "changed" else each
        for each in report.targets
    )
    report = values.replace(report, targets=targets, accounts=chosen.accounts)
    if chosen.accounts and (options := _options_of_changed(report, chosen)) is not None:
        return values.replace(report, undo=f"qs-certs rollback{options}")
    return report


_NAMED = 10
"""So many users are named in one command."""


def _options_of_changed(report: ChangeReport, chosen: Choice) -> str | None:
    """The options that choose the accounts which were changed; None where none was.

    Never more of them: a rollback would undo an earlier change of the others.
    """
    changed = [each.user or "" for each in report.targets if each.status == "changed"]
    own = " --dedicated" if chosen.dedicated else ""
    if not changed:
        return None
    if len(changed) == len(report.targets):
        return chosen.options
    if len(changed) > _NAMED:
        return f"{own} --user NAME   # for each user that was changed"
    return own + "".join(f" --user {quoted(name)}" for name in changed)


def _with_undo_of_others(report: ChangeReport) -> ChangeReport:
    """All targets but the first were named with --also, and are undone by that name."""
    first, *others = report.targets
    named = (
        values.replace(each, undo=f"qs-certs rollback --target {quoted(each.path)}")
        if each.status == "changed"
        else each
        for each in others
    )
    return values.replace(report, targets=(first, *named))


def _impact(
    target: Target, wanted: Sequence[Wanted], *, replace: bool, repair: bool
) -> tuple[Impact, ...]:
    """Probe every known server with the root file as it is, and as it would be."""
    from datetime import datetime, timezone

    from qs_certs import diagnosis, servers

    around = inspection.surroundings()
    inspection.require_repeatable(around)
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
    """Load what a change in an account's child process needs, while we can still read it."""
    import encodings.utf_16
    import encodings.utf_16_be
    import encodings.utf_16_le  # noqa: F401

    import platformdirs.unix  # noqa: F401

    with contextlib.suppress(ImportError):  # some Pythons lack it, and rename plainly
        import ctypes  # noqa: F401


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
    inspection.require_patience(timeout)
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
                "--sha256 is not a SHA-256 fingerprint",
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


def _about_install(chosen: Choice) -> tuple[Finding, ...]:
    """What a user should know beside what became of the file."""
    found = [*chosen.findings]
    target = chosen.targets[0] if chosen.targets else Target("")
    around = accounts.surroundings()
    if not chosen.named and not chosen.dedicated and lost_letters(target.path, around.code_page):
        lost = lost_path(target.path, around)
        found.append(values.replace(lost, severity="warning", exit_code=ExitCode.OK))
    elsewhere = os.environ.get("PGSSLROOTCERT")
    if (
        elsewhere
        and not chosen.named
        and not chosen.accounts
        and target.account is None
        and os.path.abspath(elsewhere) != os.path.abspath(target.path)  # noqa: PTH100
    ):
        fixes = ["unset PGSSLROOTCERT"]
        repeatable = not secrecy.suspicious_file(elsewhere)
        where = f"to {elsewhere}" if repeatable else "elsewhere"
        if elsewhere != "system" and repeatable:  # that is no file, but the system's own roots
            fixes.append(f"qs-certs install --target {quoted(elsewhere)}")
        found.append(
            Finding(
                "default-overridden",
                "warning",
                f"PGSSLROOTCERT points {where}, so libpq does not read {target.path} here",
                tuple(fixes),
            )
        )
    if chosen.dedicated and chosen.targets:
        from qs_certs.libpq.settings import quoted_value

        told = (
            "libpq reads this file only where it is told to: "
            f"sslrootcert={quoted_value(target.path)} in a connection string or service, or "
            f"PGSSLROOTCERT={target.path} in the environment"
        )
        if len(chosen.targets) > 1:
            told += f"; so for user {target.user}, and alike for the others"
        found.append(Finding("dedicated-file", "ok", told))
    return tuple(found)


def _about_sudo(target: Target) -> tuple[Finding, ...]:
    if target.account is None:
        return ()
    message = (
        f"under sudo: this is the file of {target.user}, who called sudo; done with their rights"
    )
    return (Finding("sudo-target", "ok", message),)


def _with_first_file(report: ChangeReport, chosen: Choice, *, dry_run: bool) -> ChangeReport:
    """Say what it means for other connections that there is a root file now."""
    own = report.targets if chosen.accounts else report.targets[:1]
    made = [each for each in own if each.created and each.status != "failed"]
    if chosen.named or chosen.dedicated or not made:
        return report
    begin = (
        "there is no root file yet; with one,"
        if dry_run
        else "there was no root file before; from now on"
    )
    whom = "this user" if len(made) == 1 else f"these {len(made)} users"
    message = (
        f"{begin} libpq verifies every TLS server of {whom}: sslmode=require fails for a server "
        "of another CA, and prefer, the default, silently falls back to plaintext where that "
        "server allows it"
    )
    # The other way leaves every other connection alone.
    options = chosen.options
    if chosen.accounts and not dry_run:
        options = _options_of_changed(report, chosen) or ""
    undo = "" if dry_run else f"qs-certs rollback{options} && "
    fixes: tuple[str, ...] = (f"{undo}qs-certs install --dedicated{options}",)
    if "#" in options:  # two commands, each with the same remark
        fixes = (f"qs-certs rollback{options}", f"qs-certs install --dedicated{options}")
    finding = Finding("first-root-file", "warning", message, fixes)
    return values.replace(report, findings=(*report.findings, finding))


def remove(
    roots: Sequence[str] = (),
    *,
    target: str | os.PathLike[str] | None = None,
    users: Sequence[str] = (),
    all_users: bool = False,
    dedicated: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> ChangeReport:
    """Take *roots* (names or fingerprints; the default root where there are none) out again."""
    fingerprints = []
    for name in roots or (catalogue.DEFAULT,):
        known = catalogue.find(name)
        pin = catalogue.fingerprint(name) if known is None else known.sha256
        fingerprints.append(reading.named(name).sha256 if pin is None else pin)
    chosen = choose(target, dedicated=dedicated, users=users, all_users=all_users)
    report = changes.remove(chosen.targets, fingerprints, dry_run=dry_run, progress=progress)
    report = _with_undo(report, chosen)
    return values.replace(report, findings=(*report.findings, *chosen.findings))


def rollback(
    identity: int | None = None,
    *,
    target: str | os.PathLike[str] | None = None,
    users: Sequence[str] = (),
    all_users: bool = False,
    dedicated: bool = False,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> ChangeReport:
    """Undo the last change of the root file, or bring back its state before change *identity*."""
    chosen = choose(target, dedicated=dedicated, users=users, all_users=all_users)
    _one_history(chosen, identity)
    report = changes.rollback(
        chosen.targets, identity=identity, force=force, dry_run=dry_run, progress=progress
    )
    report = _with_undo(report, chosen)
    return values.replace(report, findings=(*report.findings, *chosen.findings))


def _one_history(chosen: Choice, identity: int | None) -> None:
    """Raise WrongUsage where the number of a change could mean several."""
    if identity is not None and len(chosen.targets) > 1:
        raise WrongUsage(
            "each user has a history of their own, so a change ID belongs to one user",
            fix=("choose one user with --user",),
        )


def listing(
    *,
    target: str | os.PathLike[str] | None = None,
    users: Sequence[str] = (),
    all_users: bool = False,
    dedicated: bool = False,
    progress: Progress | None = None,
) -> ListReport | AccountsReport:
    """The certificates in the root file."""
    chosen = choose(target, dedicated=dedicated, users=users, all_users=all_users, changing=False)
    if chosen.accounts:
        return _each("list", chosen, reading.listing, progress)
    one = chosen.targets[0]
    report = _for_its_file(one, reading.listing(one)).run()
    return values.replace(report, findings=(*report.findings, *chosen.findings))


def history(
    identity: int | None = None,
    *,
    target: str | os.PathLike[str] | None = None,
    users: Sequence[str] = (),
    all_users: bool = False,
    dedicated: bool = False,
    limit: int | None = None,
    prune: bool = False,
    keep: int | None = None,
    older_than: int | None = None,
    quarantine: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> HistoryReport | AccountsReport:
    """The changes of the root file (the newest *limit*; None or 0: all), or one as a diff.

    *prune* drops those that are neither among the newest *keep* nor younger than *older_than*
    days, where these are given; *quarantine* puts a damaged journal aside.
    """
    _agree_on_history(identity, limit, prune, keep, older_than, quarantine, dry_run)
    chosen = choose(
        target,
        dedicated=dedicated,
        users=users,
        all_users=all_users,
        changing=prune or quarantine,
    )
    _one_history(chosen, identity)

    def look(one: Target) -> Task[HistoryReport]:
        if prune:
            return upkeep.prune(one, keep=keep, older_than=older_than, dry_run=dry_run)
        if quarantine:
            return upkeep.quarantine(one, dry_run=dry_run)
        return reading.history(one, identity, limit=limit or None)

    if chosen.accounts:
        return _each("history", chosen, look, progress)
    one = chosen.targets[0]
    report = _for_its_file(one, look(one)).run()
    return values.replace(report, findings=(*report.findings, *chosen.findings))


def _agree_on_history(
    identity: int | None,
    limit: int | None,
    prune: bool,
    keep: int | None,
    older_than: int | None,
    quarantine: bool,
    dry_run: bool,
) -> None:
    """Raise WrongUsage where the options of `history` contradict one another."""
    problem = None
    if prune and quarantine:
        problem = "--prune and --quarantine cannot be combined: run one after the other"
    elif (prune or quarantine) and identity is not None:
        problem = "an ID shows one change; --prune and --quarantine take none"
    elif prune and keep is None and older_than is None:
        problem = "--prune needs --keep N, --older-than DAYS, or both"
    elif not prune and (keep is not None or older_than is not None):
        problem = "--keep and --older-than belong to --prune"
    elif dry_run and not (prune or quarantine):
        problem = "--dry-run belongs to --prune or --quarantine; history itself changes nothing"
    for name, number in (("--limit", limit), ("--keep", keep), ("--older-than", older_than)):
        if number is not None and not 0 <= number <= LARGEST_NUMBER:
            problem = f"{name} must be from 0 to {LARGEST_NUMBER}"
    if problem is not None:
        raise WrongUsage(
            problem, fix=("qs-certs history --help", "qs-certs history --prune --keep 50")
        )


def _for_its_file(target: Target, task: Task[Report]) -> Task[Report]:
    """The *task*; what its errors say to do next means the file of *target*."""

    def conclude(report: Callable[[], Report]) -> Report:
        try:
            return report()
        except QsCertsError as error:
            error.fix = changes.for_this_file(error.fix, target)
            raise

    return task.then(conclude)


def _each(
    command: Literal["list", "history"],
    chosen: Choice,
    look: Callable[[Target], Task[Report]],
    progress: Progress | None,
) -> AccountsReport:
    """What *look* finds for each account.  Raises WrongUsage where there is none."""
    if not chosen.targets:
        raise WrongUsage("there are no users to do this for", fix=("name a user: --user NAME",))

    def task(target: Target) -> Task[AccountReport]:
        user = target.user or ""

        def conclude(report: Callable[[], Report]) -> AccountReport:
            try:
                return AccountReport(user, report())
            except QsCertsError as error:
                return AccountReport(user, Failure(command, error))

        return _for_its_file(target, look(target)).then(conclude)

    found = rights.side_by_side(tuple(map(task, chosen.targets)), progress)
    return AccountsReport(command, tuple(found), chosen.findings)


def schema_of(command: str) -> str:
    """The JSON Schema of what *command* prints with `--json`."""
    return (Path(__file__).parent / "schemas" / f"{command}.json").read_text("utf-8")
