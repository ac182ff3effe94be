"""Plan and apply: install, remove, rollback.

A plan is made from bytes by pure functions, shown as it is by `--dry-run`, and applied under the
store's lock only while the target still holds what the plan was made from.  No lock is ever held
across a download.
"""

from __future__ import annotations

import bisect
import contextlib
import difflib
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from qs_certs import accounts, bundle, catalogue, files, merging, openssl, rights, rootfile
from qs_certs.accounts import Account, Progress
from qs_certs.errors import (
    ChangedUnconfirmed,
    CouldNotRead,
    CouldNotTell,
    CouldNotWrite,
    QsCertsError,
    StoreTampered,
    TargetChanged,
    TargetDamaged,
    WrongUsage,
    quoted,
)
from qs_certs.files import DISK, Disk
from qs_certs.journal import Entry, digest
from qs_certs.libpq.locations import DEDICATED_FILE
from qs_certs.results import ChangeReport, ChangeStatus, Finding, Source, TargetResult, spans
from qs_certs.rights import Task
from qs_certs.store import Session, Store
from qs_certs.values import Value, replace

ATTEMPTS = 3
"""How often a change is planned again when somebody else changed the target meanwhile."""


class Target(Value):
    """A file that a command works on.  *account* is None for this process's own user."""

    path: str
    account: Account | None = None

    @property
    def user(self) -> str | None:
        return None if self.account is None else self.account.name

    @property
    def chosen(self) -> bool:
        """Chosen by an administrator, with --user or --all-users."""
        return self.account is not None and self.account.chosen


class Plan(Value):
    """What a command would make of one target.  None is "no file"."""

    before: bytes | None
    after: bytes | None
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    repaired: tuple[str, ...] = ()
    mode: int | None = None
    """The mode of a file that has to be made anew; None: the usual one."""
    remove_folder: bool = False
    """The folder was made by us, and goes with the file where it is empty."""

    @property
    def changes(self) -> bool:
        return self.before != self.after


Outcome = TypeVar("Outcome")

Judge = Callable[[bytes | None, Sequence[Entry]], Plan]
"""Makes a plan from the target's content and its history, oldest first."""


# --- plans: bytes in, plan out ------------------------------------------------------------------


def name_of(sha256: str) -> str:
    """A root's catalogue name, or its fingerprint where the catalogue has none."""
    root = catalogue.by_fingerprint(sha256)
    return sha256 if root is None else root.name


def _names(fingerprints: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name_of(each) for each in fingerprints))


def _fingerprints(content: bytes | None) -> tuple[str, ...]:
    """The certificates in *content*, in order, whether or not the file as a whole would load."""
    if content is None:
        return ()
    found = (block.sha256 for block in openssl.parse(content).readable)
    return tuple(dict.fromkeys(sha256 for sha256 in found if sha256))


def holds(content: bytes | None, fingerprints: Iterable[str]) -> bool:
    """Whether libpq would find all these certificates in *content*, and load it."""
    if content is None:
        return False
    parsed = openssl.parse(content)
    return parsed.problem is None and set(fingerprints) <= parsed.fingerprints - parsed.refusing


def plan_install(
    before: bytes | None, roots: Mapping[str, bytes], path: str, *, repair: bool
) -> Plan:
    """Merge *roots* (fingerprint to DER) into *before*.

    Raises TargetDamaged, naming block and line, where that would mean dropping something.
    """
    try:
        merged, loaded = _merge(before, tuple(roots.values()), repair=repair)
    except OSError as error:  # OpenSSL reads files only, so its judgement needs a temporary one
        raise CouldNotWrite(
            f"what {path} would hold could not be tested; nothing was changed",
            why=files.reason(error),
            fix=("free some space in the folder for temporary files, or set TMPDIR to another",),
        ) from error
    if loaded is None:
        first = merged.damage[0]
        block = "" if first.number is None else f", block {first.number}"
        others = f" (and {len(merged.damage) - 1} more)" if len(merged.damage) > 1 else ""
        raise TargetDamaged(
            f"{path} is damaged at line {first.line}{block}{others}; nothing was changed",
            why=f"{first.reason}; libpq refuses the whole file because of it, and mending it "
            "means dropping what cannot be read",
            fix=("qs-certs install --repair",),
        )
    _prove_loads(loaded, merged.data, path)
    return Plan(before, merged.data, _names(merged.added), (), merged.repaired)


def _merge(
    before: bytes | None, ders: tuple[bytes, ...], *, repair: bool
) -> tuple[merging.Merged, openssl.Loaded | None]:
    """The merged file, and what OpenSSL makes of it; None where it is damaged.  Raises OSError."""
    text_mode = openssl.TEXT_MODE
    merged = merging.merge(before, ders, repair=repair, text_mode=text_mode)
    # Loaded as seldom as can be: OpenSSL 3 takes seconds for ten thousand certificates.
    loaded = None if merged.damage else openssl.load_bytes(merged.data)
    if loaded is not None and loaded.error is not None:
        # Deeper than the PEM layer: ask OpenSSL about each block.
        refused = openssl.refused(openssl.parse(before or b""))
        merged = merging.merge(before, ders, repair=repair, refused=refused, text_mode=text_mode)
        loaded = None if merged.damage else openssl.load_bytes(merged.data)
    return merged, loaded


def _prove_loads(loaded: openssl.Loaded, content: bytes, path: str) -> None:
    """OpenSSL has the last word on what libpq will load."""
    expected = len(openssl.parse(content).fingerprints)
    if loaded.error is not None or loaded.certificates != expected:
        raise TargetDamaged(
            f"{path} would not load after the change; nothing was changed",
            why=loaded.error
            or f"OpenSSL sees {loaded.certificates} of its {expected} certificates",
            fix=("qs-certs list", "qs-certs install --dedicated"),
        )


def plan_replace(before: bytes | None, roots: Mapping[str, bytes]) -> Plan:
    """Exactly *roots*, whatever was there."""
    old = _fingerprints(before)
    if sorted(old) == sorted(roots) and holds(before, roots):
        return Plan(before, before)
    return Plan(
        before,
        merging.replacement(tuple(roots.values())),
        _names(each for each in roots if each not in old),
        _names(each for each in old if each not in roots),
    )


_NOTHING = b" \t\r\n\v\f" + bundle.CTRL_Z


def plan_remove(before: bytes | None, fingerprints: Collection[str], earlier: bytes | None) -> Plan:
    """Take certificates out.  *earlier* is the content before the newest change that added one.

    A file of which nothing is left is removed: as an empty one it would make every TLS
    connection of this user fail, or silently go plaintext with `prefer`.
    """
    if before is None:
        return Plan(None, None)
    removed = merging.remove(before, fingerprints, before=earlier)
    after: bytes | None = removed.data
    if removed.removed and not removed.data.strip(_NOTHING) and removed.data != earlier:
        after = None
    return Plan(before, after, (), _names(removed.removed))


def plan_rollback(
    before: bytes | None,
    history: Sequence[Entry],
    content: Callable[[str | None], bytes | None],
    path: str,
    *,
    identity: int | None,
    force: bool,
) -> Plan:
    """Undo the newest change whose result the target still holds, or go back before *identity*.

    Raises TargetChanged where the target holds something that no change of ours made, unless
    *force* is given; WrongUsage for an unknown change; StoreTampered for a damaged content.
    """
    now = None if before is None else digest(before)
    chosen = None if identity is None else numbered(history, identity, path)
    if not history:
        return Plan(before, before)
    undone = next((entry for entry in reversed(history) if entry.change.after == now), None)
    if undone is None and not force:
        expected = content(history[-1].change.after)
        raise _Drift(
            f"{path} was changed by somebody else since; nothing was changed",
            why="a rollback would undo that change too",
            fix=(
                "qs-certs remove   # takes out only the roots that qs-certs added",
                "qs-certs rollback --force   # keeps the present content in the store first",
            ),
            diff=diff(expected, before, path),
        )
    chosen = chosen or undone or history[-1]
    try:
        after = content(chosen.change.before)
    except StoreTampered as error:
        error.fix = _next_intact(history, chosen, content, now, force=force)
        raise
    old, new = set(_fingerprints(before)), set(_fingerprints(after))
    return Plan(
        before,
        after,
        _names(sorted(new - old)),
        _names(sorted(old - new)),
        mode=chosen.mode,
        remove_folder=after is None and any(entry.made_folder for entry in history),
    )


def numbered(history: Sequence[Entry], identity: int, path: str) -> Entry:
    """The change *identity*.  Raises WrongUsage, naming those that there are."""
    at = bisect.bisect_left(history, identity, key=_id)
    if at < len(history) and _id(history[at]) == identity:
        return history[at]
    raise WrongUsage(
        f"there is no change {identity} of {path}",
        why=f"its changes: {spans(map(_id, history))}" if history else None,
        fix=("qs-certs history",),
    )


def _id(entry: Entry) -> int:
    return entry.change.id


def _next_intact(
    history: Sequence[Entry],
    damaged: Entry,
    content: Callable[[str | None], bytes | None],
    now: str | None,
    *,
    force: bool,
) -> tuple[str, ...]:
    """How to go on where the content before *damaged* is: the next older one, or a newer one."""
    at = bisect.bisect_left(history, _id(damaged), key=_id)
    useless = {damaged.change.before, now}
    for entry in (*reversed(history[:at]), *history[at + 1 :]):
        if entry.change.before in useless:
            continue
        with contextlib.suppress(StoreTampered):
            content(entry.change.before)
            forced = " --force" if force else ""
            whole = f"the content before {entry.change.at:%Y-%m-%d %H:%M} UTC is whole"
            return (f"qs-certs rollback {_id(entry)}{forced}   # {whole}", "qs-certs history")
    return ("qs-certs history", "no other earlier content is whole")


class _Drift(TargetChanged):
    """TargetChanged with the difference that somebody else made."""

    def __init__(
        self, message: str, *, why: str | None, fix: tuple[str, ...], diff: str = ""
    ) -> None:
        super().__init__(message, why=why, fix=fix)
        self.diff = diff


def diff(before: bytes | None, after: bytes | None, path: str) -> str:
    """A unified diff; only the part between the common beginning and end is compared, so that
    its cost does not depend on how long the file is."""
    if before == after:
        return ""
    old, new = _lines(before), _lines(after)
    context = 3
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    end = 0
    while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
        end += 1
    skip = max(0, start - context)
    keep = max(0, end - context)
    lines = difflib.unified_diff(
        old[skip : len(old) - keep],
        new[skip : len(new) - keep],
        "/dev/null" if before is None else path,
        "/dev/null" if after is None else path,
        n=context,
    )
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
        for line in _shifted(lines, skip)
    )


def _lines(content: bytes | None) -> list[str]:
    return (content or b"").decode("utf-8", "backslashreplace").splitlines(keepends=True)


def _shifted(lines: Iterable[str], by: int) -> Iterable[str]:
    """Hunk headers with the line numbers of the whole file."""
    for line in lines:
        if line.startswith("@@ "):
            old, new = line.split()[1:3]
            yield f"@@ {_moved(old, by)} {_moved(new, by)} @@\n"
        else:
            yield line


def _moved(span: str, by: int) -> str:
    first, _, count = span[1:].partition(",")
    return f"{span[0]}{int(first) + by}" + (f",{count}" if count else "")


# --- apply --------------------------------------------------------------------------------------


def change(
    target: Target,
    command: str,
    judge: Judge,
    *,
    dry_run: bool = False,
    source: Source | None = None,
    disk: Disk = DISK,
) -> Task[TargetResult]:
    """Carry out what *judge* makes of *target*, with the rights of its account; never raises a
    QsCertsError: the result holds it, so that one target's failure does not stop the others."""
    path = os.path.abspath(target.path)  # noqa: PTH100 - a link stays a link

    def conclude(changed: Callable[[], TargetResult]) -> TargetResult:
        try:
            result = changed()
        except QsCertsError as error:
            if isinstance(error, CouldNotTell):  # doing it again may be one change too many
                error.fix = ("qs-certs history   # says whether it was changed",)
            error.fix = for_this_file(error.fix, target)
            shown = error.diff if isinstance(error, _Drift) else ""
            return TargetResult(path, target.user, "failed", diff=shown, error=error)
        used = source if result.added and result.status in ("changed", "would-change") else None
        return replace(result, user=target.user, source=used)

    work = Task(target.account, lambda: _change(path, command, judge, dry_run=dry_run, disk=disk))
    return work.then(conclude)


def options_of(target: Target) -> str:
    """The options with which a command means this very file, with a blank before each."""
    account = target.account
    if account is not None and account.chosen:
        dedicated = os.path.basename(target.path) == DEDICATED_FILE  # noqa: PTH119
        return f"{' --dedicated' if dedicated else ''} --user {quoted(account.name)}"
    around = accounts.surroundings() if account is None else accounts.surroundings_of(account)
    path = os.path.abspath(target.path)  # noqa: PTH100
    default = around.root_file
    if default is not None and os.path.normcase(os.path.abspath(default)) == os.path.normcase(path):  # noqa: PTH100
        return ""
    return f" --target {quoted(path)}"


def for_this_file(steps: Iterable[str], target: Target) -> tuple[str, ...]:
    """The *steps* with commands of ours for this very file: as they stand, they mean the default."""
    options = options_of(target)

    def meant(step: str) -> str:
        words, comment, why = step.partition("   #")
        if not words.startswith("qs-certs ") or " --target " in words:
            return step
        own = options
        if " --dedicated" in words or words.startswith("qs-certs check"):
            own = own.removeprefix(" --dedicated")
        if " --dedicated" in words and own.startswith(" --target "):
            own = ""
        return f"{words}{own}{comment}{why}"

    return tuple(map(meant, steps))


def _each(
    targets: Sequence[Target],
    task: Callable[[Target], Task[Outcome]],
    progress: Progress | None,
    *,
    told: bool = True,
) -> list[Outcome]:
    """The result of each target's *task*.  Only those of accounts overlap, and hold back Ctrl-C."""
    tasks = tuple(map(task, targets))
    if not any(target.chosen for target in targets):
        return [each.run() for each in tasks]
    return rights.side_by_side(tasks, progress, told=told)


def _change(path: str, command: str, judge: Judge, *, dry_run: bool, disk: Disk) -> TargetResult:
    store = Store(accounts.store_folder(), disk)
    real = files.resolve(path, disk)
    before = files.read(real, disk)
    plan = judge(before, store.happened(path, before))
    if not plan.changes:
        return TargetResult(path, None, "unchanged")
    if dry_run:
        return _result(path, "would-change", plan)
    with store.writing() as session:
        attempt = 0
        while True:
            attempt += 1
            real = files.resolve(path, disk)
            found = files.read(real, disk)
            if found != plan.before:
                plan = judge(found, store.happened(path, found))
            if not plan.changes:
                return TargetResult(path, None, "unchanged")
            try:
                entry = _apply(path, real, command, plan, session, disk)
            except TargetChanged:
                if attempt == ATTEMPTS:
                    raise
            else:
                return replace(_result(path, "changed", plan), change_id=entry.change.id)


def _result(path: str, status: ChangeStatus, plan: Plan) -> TargetResult:
    return TargetResult(
        path,
        None,
        status,
        added=plan.added,
        removed=plan.removed,
        repaired=plan.repaired,
        diff=diff(plan.before, plan.after, path),
        created=plan.before is None,
    )


def _apply(path: str, real: str, command: str, plan: Plan, session: Session, disk: Disk) -> Entry:
    """Record, then touch.  Raises a CouldNotWrite; only ChangedUnconfirmed means "changed"."""
    folder = os.path.dirname(real)  # noqa: PTH120
    session.remove_litter(path, real)
    entry = session.record(
        command=command,
        target=path,
        before=plan.before,
        after=plan.after,
        added=plan.added,
        removed=plan.removed,
        mode=files.mode_of(real, disk),
        made_folder=not os.path.isdir(folder),  # noqa: PTH112
    )
    try:
        _touch(real, folder, plan, disk)
    except ChangedUnconfirmed:
        raise  # with the record left open: the next change looks again, syncs, and clears up
    except (CouldNotWrite, CouldNotRead) as error:
        if entry.made_folder:
            files.remove_folder_if_empty(folder, disk)
        with contextlib.suppress(OSError):  # the next run settles it
            if isinstance(error, CouldNotWrite) and error.displaced is not None:
                session.keep(error.displaced)
            session.void(entry)
        raise
    try:
        session.done(entry)
    except OSError as error:
        raise ChangedUnconfirmed(
            f"{path} has the new content, but the store could not note that",
            why=files.reason(error),
            fix=("qs-certs history   # says that it was changed; the next change settles it",),
        ) from error
    return entry


def _touch(real: str, folder: str, plan: Plan, disk: Disk) -> None:
    if plan.after is None:
        files.remove(real, expected=plan.before or b"", disk=disk)
        if plan.remove_folder:
            files.remove_folder_if_empty(folder, disk)
        return
    files.make_folder(folder, disk)
    files.replace(
        real,
        plan.after,
        expected=plan.before,
        verify=_verifier(plan),
        mode=plan.mode,
        disk=disk,
    )


def _verifier(plan: Plan) -> Callable[[str], None]:
    """What the complete new file must pass before it goes live: roots that were added load."""

    def verify(path: str) -> None:
        if not plan.added:
            return
        loaded = openssl.load(path)
        if loaded.error is not None:
            raise CouldNotWrite(
                "the new file does not load, so it was not put in place", why=loaded.error
            )

    return verify


# --- commands -----------------------------------------------------------------------------------


class Wanted(Value):
    """A root to install: its fingerprint, and where to get it when a target lacks it."""

    sha256: str
    fetch: Callable[[], tuple[bytes, Source, str | None]]
    """Returns DER, source, and a warning where the source is not the one that was asked for."""


def install(
    targets: Sequence[Target],
    wanted: Sequence[Wanted],
    *,
    replace_all: bool = False,
    repair: bool = False,
    dry_run: bool = False,
    findings: tuple[Finding, ...] = (),
    progress: Progress | None = None,
    disk: Disk = DISK,
) -> ChangeReport:
    """Make every target hold the wanted roots.

    Nothing is fetched where every target already holds them and loads.  Raises what fetching
    raises (CouldNotFetch, IntegrityError): then no target was touched.
    """
    fingerprints = tuple(each.sha256 for each in wanted)
    there = _each(
        targets,
        lambda target: _already(
            target, fingerprints, replace_all=replace_all, repair=repair, disk=disk
        ),
        progress,
        told=False,  # nothing is lost by an interrupt before anything was changed
    )
    missing = [target for target, result in zip(targets, there, strict=True) if result is None]
    roots: dict[str, bytes] = {}
    source: Source | None = None
    warnings: list[Finding] = []
    if missing:
        for each in wanted:
            der, source, warning = each.fetch()
            roots[each.sha256] = der
            if warning is not None:
                warnings.append(Finding("could-not-download", "warning", warning))

    def judge_for(path: str) -> Judge:
        if replace_all:
            return lambda before, _: plan_replace(before, roots)
        return lambda before, _: plan_install(before, roots, path, repair=repair)

    changed = iter(
        _each(
            missing,
            lambda target: change(
                target, "install", judge_for(target.path), dry_run=dry_run, source=source, disk=disk
            ),
            progress,
        )
    )
    results = tuple(result or next(changed) for result in there)
    return ChangeReport("install", results, (*findings, *warnings))


def preview(target: Target, wanted: Sequence[Wanted], *, replace_all: bool, repair: bool) -> bytes:
    """What *target* would hold after `install`; nothing is written."""
    path = os.path.abspath(target.path)  # noqa: PTH100
    before = rights.run_as(target.account, lambda: files.read(files.resolve(path)))
    there = _already(
        target, [each.sha256 for each in wanted], replace_all=replace_all, repair=repair, disk=DISK
    ).run()
    if there is not None and there.error is None:  # nothing will be fetched for it either
        return before or b""
    roots = {each.sha256: each.fetch()[0] for each in wanted}
    plan = (
        plan_replace(before, roots)
        if replace_all
        else plan_install(before, roots, path, repair=repair)
    )
    return plan.after or b""


def _already(
    target: Target, fingerprints: Sequence[str], *, replace_all: bool, repair: bool, disk: Disk
) -> Task[TargetResult | None]:
    """The result where there is nothing to do or nothing can be done; None where there is work."""
    path = os.path.abspath(target.path)  # noqa: PTH100

    def look() -> bool:
        real = files.resolve(path, disk)
        content = files.read(real, disk)
        parsed = rootfile.understood(content or b"")
        if parsed is None or not set(fingerprints) <= parsed.fingerprints - parsed.refusing:
            if not holds(content, fingerprints):
                return False
            try:
                if openssl.load(real).error is not None:
                    return False
            except OSError as error:
                raise CouldNotRead(f"cannot read {real}", why=files.reason(error)) from error
            parsed = openssl.parse(content or b"")
        if repair:
            mended = merging.merge(content, (), repair=True, text_mode=openssl.TEXT_MODE)
            if mended.data != content:
                return False
        return not replace_all or parsed.fingerprints == set(fingerprints)

    def conclude(there: Callable[[], bool]) -> TargetResult | None:
        try:
            if not there():
                return None
        except QsCertsError as error:
            return TargetResult(path, target.user, "failed", error=error)
        return TargetResult(path, target.user, "unchanged", present=_names(fingerprints))

    return Task(target.account, look).then(conclude)


def remove(
    targets: Sequence[Target],
    fingerprints: Sequence[str],
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
    disk: Disk = DISK,
) -> ChangeReport:
    """Take roots out of every target again."""

    def judge(before: bytes | None, history: Sequence[Entry]) -> Plan:
        names = _names(fingerprints)
        adding = next(
            (entry for entry in reversed(history) if set(entry.change.added) & set(names)), None
        )
        earlier = None
        if adding is not None:
            with contextlib.suppress(StoreTampered):  # then one newline may stay behind
                earlier = Store(accounts.store_folder(), disk).content(adding.change.before)
        plan = plan_remove(before, fingerprints, earlier)
        return replace(plan, remove_folder=any(entry.made_folder for entry in history))

    results = _each(
        targets,
        lambda target: change(target, "remove", judge, dry_run=dry_run, disk=disk),
        progress,
    )
    return ChangeReport("remove", tuple(results))


def rollback(
    targets: Sequence[Target],
    *,
    identity: int | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
    disk: Disk = DISK,
) -> ChangeReport:
    """Undo the last change of every target, or bring back its state before change *identity*."""

    def judge_for(path: str) -> Judge:
        def judge(before: bytes | None, history: Sequence[Entry]) -> Plan:
            content = Store(accounts.store_folder(), disk).content
            return plan_rollback(before, history, content, path, identity=identity, force=force)

        return judge

    results = _each(
        targets,
        lambda target: change(
            target, "rollback", judge_for(target.path), dry_run=dry_run, disk=disk
        ),
        progress,
    )
    # A run over accounts says so of each in its own line.
    findings = [
        Finding("nothing-to-roll-back", "ok", f"there is nothing to roll back in {result.path}")
        for target, result in zip(targets, results, strict=True)
        if result.status == "unchanged" and not target.chosen
    ]
    return ChangeReport("rollback", tuple(results), tuple(findings))
