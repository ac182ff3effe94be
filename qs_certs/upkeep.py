"""Upkeep of the rollback store: pruning the history, and a way on where the journal is damaged.

No target is ever written here, and what the undo of a target's present content needs stays.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Literal

from qs_certs import accounts, files
from qs_certs.changes import Target
from qs_certs.errors import CouldNotRead, TargetRefused
from qs_certs.files import DISK, Disk
from qs_certs.journal import Entry, digest
from qs_certs.reading import quarantined
from qs_certs.results import HistoryReport
from qs_certs.rights import Task
from qs_certs.store import Store


def dispensable(
    history: Sequence[Entry], now: str | None, *, keep: int | None, before: datetime | None
) -> tuple[Entry, ...]:
    """The changes that may be dropped: not among the newest *keep*, and older than *before*.

    Never dropped, whatever is asked: the first change (it names the first content ever seen), the
    last one, the newest that led to *now*, the hash of what the target holds (it is the one that
    `rollback` undoes), and the newest that made the target's folder.
    """
    needed = set()
    if history:
        needed = {history[0].change.id, history[-1].change.id}
    for wanted in (lambda entry: entry.change.after == now, lambda entry: entry.made_folder):
        needed.update(entry.change.id for entry in [*filter(wanted, history)][-1:])
    older = history if keep is None else history[: max(0, len(history) - keep)]
    return tuple(
        entry
        for entry in older
        if entry.change.id not in needed and (before is None or entry.change.at < before)
    )


def prune(
    target: Target,
    *,
    keep: int | None,
    older_than: int | None,
    dry_run: bool = False,
    disk: Disk = DISK,
) -> Task[HistoryReport]:
    """Drop changes of *target* from its history, and the contents that nothing names any more.

    *older_than* is in days.  With both conditions, a change goes where both let it.  Raises
    CouldNotRead and TargetRefused where the target cannot be looked at, what `Store.writing`
    raises, and ChangedUnconfirmed.
    """
    path = os.path.abspath(target.path)  # noqa: PTH100 - a link stays a link
    before = None
    if older_than is not None:
        before = datetime.now(timezone.utc) - timedelta(days=older_than)

    def plan(store: Store) -> tuple[Sequence[Entry], frozenset[int]]:
        content = files.read(files.resolve(path, disk), disk)
        history = tuple(store.happened(path, content))
        now = None if content is None else digest(content)
        dropped = dispensable(history, now, keep=keep, before=before)
        return history, frozenset(entry.change.id for entry in dropped)

    def work() -> HistoryReport:
        store = Store(accounts.store_folder(), disk)
        history, gone = plan(store)
        unnamed = store.unnamed(store.pruned(path, gone))
        freed = sum(size for _, size in unnamed)
        status: Literal["unchanged", "would-change", "changed"] = "unchanged"
        if gone or unnamed:
            status = "would-change"
            if not dry_run:
                with store.writing() as session:
                    history, gone = plan(store)
                    freed = session.prune(path, gone)
                status = "changed"
        elif not dry_run:
            store.confirm()
        return HistoryReport(
            path,
            tuple(entry.change for entry in history if entry.change.id not in gone),
            status=status,
            dropped=tuple(entry.change for entry in history if entry.change.id in gone),
            freed=freed,
            findings=quarantined(store),
        )

    return Task(target.account, work)


def quarantine(target: Target, *, dry_run: bool = False, disk: Disk = DISK) -> Task[HistoryReport]:
    """Put a damaged journal aside; every content stays.  Nothing is done where it is whole.

    What *target* holds now is kept as the first content of the new journal.
    """
    path = os.path.abspath(target.path)  # noqa: PTH100

    def work() -> HistoryReport:
        store = Store(accounts.store_folder(), disk)
        if store.damage() is None:
            if not dry_run:
                store.confirm()
            return HistoryReport(path, (), status="unchanged", findings=quarantined(store))
        if dry_run:
            return HistoryReport(path, (), status="would-change")
        content = None
        with contextlib.suppress(CouldNotRead, TargetRefused):  # other targets can go on
            content = files.read(files.resolve(path, disk), disk)
        aside = store.quarantine(path, content)
        return HistoryReport(
            path,
            (),
            status="unchanged" if aside is None else "changed",
            aside=aside,
            findings=quarantined(store),
        )

    return Task(target.account, work)
