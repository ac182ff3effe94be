"""The rollback store: every earlier content of every target, and the journal of changes.

    <store>/
      README.txt               how to bring a content back by hand
      lock                     held while something is changed; never removed
      journal.jsonl            one record a line (`journal`); appended to, or replaced as a whole
      journal.broken-1.jsonl   a damaged one that `history --quarantine` put aside
      blobs/<sha256>.crt       the exact bytes of one content, once each

Every run that looks into the journal verifies all of it, and every content is hashed when it is
read.  Somebody with this user's rights could rewrite all of it, which no secret kept in the same
home could prevent.

The order of writing: blobs, then the `change` record, then the target, then a `done` record.  Each
is durable before the next begins.  Where a run died in between, the target's hash says whether
the change happened, and the next run closes the record: `done` or `void`.  Nobody ever has to write
the target to recover.  Where history is pruned, the shorter journal is durable before the first
content goes.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
from collections.abc import Collection, Iterator
from datetime import datetime, timezone
from pathlib import Path

from qs_certs import files, journal
from qs_certs.errors import (
    CouldNotRead,
    QsCertsError,
    StoreTampered,
    StoreUnusable,
    TargetRefused,
    quoted,
)
from qs_certs.files import DISK, Disk
from qs_certs.journal import Entry, History, Journal, digest
from qs_certs.results import Change

LOCK_PATIENCE = 10.0
"""Seconds that a change waits for another one to finish."""

_BLOB = re.compile(r"([0-9a-f]{64})\.crt")
_BROKEN = re.compile(r"journal\.broken-(\d{1,6})\.jsonl")
_README = """\
The rollback store of qs-certs: every content that a root file had before qs-certs changed it.

    qs-certs history      lists the changes; qs-certs rollback undoes the last one.

By hand: journal.jsonl names, for each change, the SHA-256 of the content before and after it.
Copy blobs/<that sha256>.crt over the target.  A journal.broken-N.jsonl is an earlier journal that
was damaged; the contents that it names are all there, too.
"""


class Store:
    """The store in *folder*, which need not exist yet.  Reading never writes or locks."""

    def __init__(self, folder: Path, disk: Disk = DISK) -> None:
        self.folder = str(folder)
        self._disk = disk
        self._journal_path = str(folder / "journal.jsonl")
        self._blobs = str(folder / "blobs")
        self._known = Journal(self._journal_path)

    # --- reading --------------------------------------------------------------------------------

    def changes(self, target: str) -> History:
        """The changes of *target*, oldest first.  Changes that never happened are left out.

        An open one is there: `happened` looks at the target.  Raises StoreTampered where the
        journal does not hold together.
        """
        return self._read_journal().of(target)

    def happened(self, target: str, content: bytes | None) -> History:
        """The changes of *target* that were made, where it now holds *content*; oldest first."""
        now = None if content is None else digest(content)
        known = self._read_journal()
        unmade = {each.change.id for each in known.open if not each.happened(now)}
        return known.of(target).without(unmade)

    def content(self, sha256: str | None) -> bytes | None:
        """The content with that hash; None for "there was no file".

        Raises StoreTampered where it is missing or is not what was put there.
        """
        if sha256 is None:
            return None
        path = self._blob(sha256)
        found = self._read(path)
        if found is None or digest(found) != sha256:
            raise journal.tampered(
                f"{path} is missing" if found is None else f"{path} is not what was kept there",
                "qs-certs history",
            )
        return found

    def _blob(self, sha256: str) -> str:
        return os.path.join(self._blobs, f"{sha256}.crt")

    def _read(self, path: str) -> bytes | None:
        """A file of the store: never through a link, a pipe or a device."""
        with contextlib.suppress(OSError):
            if stat.S_ISLNK(self._disk.lstat(path).st_mode):
                raise journal.tampered(f"{path} is a link", f"ls -la {quoted(self.folder)}")
        try:
            return files.read(path, self._disk)
        except TargetRefused as error:
            raise journal.tampered(error.message, f"ls -la {quoted(self.folder)}") from error

    def _raw_journal(self) -> bytes:
        """The journal's bytes.  Raises StoreTampered where a link, a pipe, a folder or a file that
        is far too large is in its place: nobody can copy that, so nobody but a person moves it."""
        try:
            return self._read(self._journal_path) or b""
        except StoreTampered as error:
            aside = f"or rename what is there to {quoted(self._free_name())}, and go on"
            error.fix = (
                f"ls -la {quoted(self.folder)}",
                "put the journal itself there, if you know where it is",
                f"{aside} without the earlier history: every content stays",
            )
            raise
        except CouldNotRead as error:
            raise StoreUnusable(
                f"the rollback store cannot be read: {self.folder}", why=error.why, fix=error.fix
            ) from error

    def _read_journal(self) -> Journal:
        """The journal as it is now; what this object verified before need not be verified again."""
        return self._taken_in(self._raw_journal())

    def _taken_in(self, raw: bytes) -> Journal:
        known = self._known if self._known.begins(raw) else Journal(self._journal_path)
        self._known = Journal(self._journal_path)  # what a failed reading leaves is not known
        known.read(raw)
        self._known = known
        return known

    def broken(self) -> dict[int, str]:
        """The damaged journals that were put aside: number and path.  Raises OSError."""
        try:
            names = self._disk.listdir(self.folder)
        except FileNotFoundError:
            return {}
        found = filter(None, map(_BROKEN.fullmatch, names))
        return {int(each[1]): os.path.join(self.folder, each[0]) for each in found}

    def unnamed(self, raw: bytes) -> tuple[tuple[str, int], ...]:
        """The contents that a journal *raw* does not name: hash, and size in bytes.

        Empty where a damaged journal lies beside it, since nobody can say what that one named, and
        where the folders cannot be listed.
        """
        found = []
        with contextlib.suppress(OSError):
            if self.broken():
                return ()
            named = journal.named(raw)
            for name in sorted(self._disk.listdir(self._blobs)):
                match = _BLOB.fullmatch(name)
                if match is not None and match[1] not in named:
                    found.append((match[1], self._disk.lstat(self._blob(match[1])).st_size))
        return tuple(found)

    def pruned(self, target: str, dropped: Collection[int]) -> bytes:
        """The journal without the changes *dropped* of *target*."""
        known = self._read_journal()
        if not dropped:
            return known.raw
        return known.without(dropped, {"at": _now(), "target": target, "dropped": len(dropped)})

    # --- writing --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def writing(self, timeout: float = LOCK_PATIENCE) -> Iterator[Session]:
        """Hold the store's lock and hand out the session in which changes are recorded.

        What an interrupted run left is settled first.  Raises LockTimeout, StoreUnusable and
        StoreTampered, and then nothing was changed.
        """
        with self._locked(timeout):
            session = Session(self, self._read_journal(), self._disk)
            session.settle()
            yield session

    @contextlib.contextmanager
    def _locked(self, timeout: float) -> Iterator[None]:
        try:
            self._make()
            lock = os.path.join(self.folder, "lock")
            with files.locked(lock, timeout=timeout, disk=self._disk):
                self._tidy()
                yield
        except OSError as error:
            raise StoreUnusable(
                f"the rollback store cannot be written: {self.folder}; nothing was changed",
                why=files.reason(error),
                fix=("look at its owner and rights, or set QS_CERTS_STORE to another folder",),
            ) from error

    def damage(self) -> StoreTampered | None:
        """What is wrong with the journal; None where it is whole.  Raises StoreUnusable, and
        StoreTampered where it is no file that could be put aside."""
        raw = self._raw_journal()
        try:
            self._taken_in(raw).examine()
        except StoreTampered as error:
            return error
        return None

    def confirm(self) -> None:
        """Make durable that this journal took another one's place: a killed run may not have."""
        if not self._read_journal().rewritten:
            return
        try:
            files.sync_folder(self.folder, self._disk)
        except OSError as error:
            raise StoreUnusable(
                f"the rollback store cannot be written: {self.folder}", why=files.reason(error)
            ) from error

    def quarantine(self, target: str, content: bytes | None) -> str | None:
        """Put a damaged journal aside and begin a new one, with *content*, which *target* holds.

        Returns its new path, or None where the journal is whole.  No content is deleted, and
        changes are numbered on from those that can still be read.
        """
        with self._locked(LOCK_PATIENCE):
            if self.damage() is None:
                return None
            raw, aside = self._set_aside()
            session = Session(self, Journal(self._journal_path), self._disk)
            if content is not None:
                session.keep(content)
            record: dict[str, object] = {
                "kind": "quarantine",
                "id": journal.highest_id(raw),
                "at": _now(),
                "broken": os.path.basename(aside),
                "head": digest(raw),
                "target": target,
                "content": None if content is None else digest(content),
            }
            session.replace_journal(journal.beginning(record))
            return aside

    def _set_aside(self) -> tuple[bytes, str]:
        """A durable copy of the damaged journal, and where it is.

        A copy, so that there is always a journal: the damaged one, or the new one.
        """
        raw = self._raw_journal()
        for each in self.broken().values():
            if self._read(each) == raw:  # the copy of a killed run
                files.sync_folder(self.folder, self._disk)
                return raw, each
        aside = self._free_name()
        files.create(aside, raw, 0o600, self._disk)
        return raw, aside

    def _free_name(self) -> str:
        """Where the next damaged journal goes."""
        try:
            number = 1 + max(self.broken(), default=0)
        except OSError:
            number = 1
        return os.path.join(self.folder, f"journal.broken-{number}.jsonl")

    def _make(self) -> None:
        try:
            files.make_folder(self._blobs, self._disk)  # and what leads to it
        except QsCertsError as error:
            raise StoreUnusable(
                f"the rollback store cannot be made in {self.folder}; nothing was changed",
                why=error.why,
                fix=("set QS_CERTS_STORE to a folder that you can write",),
            ) from error
        status = self._disk.lstat(self.folder)
        if sys.platform != "win32" and (status.st_uid != os.geteuid() or status.st_mode & 0o022):
            raise StoreUnusable(
                f"the rollback store {self.folder} can be changed by others; nothing was changed",
                why=f"owner {status.st_uid}, mode {stat.S_IMODE(status.st_mode):04o}",
                fix=(
                    f"chmod go-w {quoted(self.folder)}",
                    f"or own it: ls -ld {quoted(self.folder)}",
                ),
            )

    def _tidy(self) -> None:
        """Under the lock, since the temporary files of a run at work are no litter."""
        for folder in (self.folder, self._blobs):
            files.remove_litter(folder, disk=self._disk)
        readme = os.path.join(self.folder, "README.txt")
        if files.mode_of(readme, self._disk) is None:
            files.create(readme, _README.encode(), 0o600, self._disk)


class Session:
    """The store while its lock is held."""

    def __init__(self, store: Store, known: Journal, disk: Disk) -> None:
        self._store = store
        self._journal = known
        self._disk = disk
        self._appended = False

    def settle(self) -> None:
        """Close the record that an interrupted run left open; look at the target, never write it.

        A target that cannot be looked at now leaves its record open: other targets can go on.
        """
        for entry in self._journal.open:
            try:
                path = files.resolve(entry.change.target, self._disk)
                self.remove_litter(entry.change.target, path)
                found = files.read(path, self._disk)
            except (CouldNotRead, TargetRefused):
                continue
            folder = os.path.dirname(path)
            if os.path.isdir(folder):
                # The swap, and the litter's end, must be as durable as the record of them.
                files.sync_folder(folder, self._disk)
            if entry.happened(None if found is None else digest(found)):
                self.done(entry)
                continue
            if entry.made_folder:
                files.remove_folder_if_empty(folder, self._disk)
            self.void(entry)

    def remove_litter(self, target: str, path: str) -> None:
        """Remove what interrupted runs left beside *path*, the file behind *target*.

        Worthless is what the store keeps, or a torn piece of what was to become the target.
        """

        def worthless(found: bytes) -> bool:
            names = {digest(found)}
            history = self._journal.of(target)
            names.update(each.change.after for each in history if each.change.after is not None)
            for name in names:
                with contextlib.suppress(StoreTampered):
                    whole = self._store.content(name) or b""
                    # After a power cut the end of a torn piece may be zeros.
                    if len(found) <= len(whole) and whole.startswith(found.rstrip(b"\0")):
                        return True
            return False

        files.remove_litter(*os.path.split(path), worthless=worthless, disk=self._disk)

    def record(
        self,
        *,
        command: str,
        target: str,
        before: bytes | None,
        after: bytes | None,
        added: tuple[str, ...],
        removed: tuple[str, ...],
        mode: int | None,
        made_folder: bool,
    ) -> Entry:
        """Keep both contents, then say durably what is about to happen.  Raises OSError."""
        for content in (before, after):
            if content is not None:
                self.keep(content)
        change = Change(
            id=self._journal.next_id,
            at=datetime.now(timezone.utc).replace(microsecond=0),
            command=command,
            target=target,
            before=None if before is None else digest(before),
            after=None if after is None else digest(after),
            added=added,
            removed=removed,
        )
        entry = Entry(change, None, mode, made_folder)
        self._append(
            {
                "kind": "change",
                "id": change.id,
                "at": change.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "command": command,
                "target": target,
                "before": change.before,
                "after": change.after,
                "added": list(added),
                "removed": list(removed),
                "mode": mode,
                "made_folder": made_folder,
            }
        )
        return entry

    def done(self, entry: Entry) -> None:
        """The target holds the new content."""
        self._close(entry, happened=True)

    def void(self, entry: Entry) -> None:
        """The change did not happen."""
        self._close(entry, happened=False)

    def _close(self, entry: Entry, *, happened: bool) -> None:
        self._append({"kind": "done" if happened else "void", "id": entry.change.id})

    def keep(self, content: bytes) -> None:
        """Make sure that *content* is in the store, durably.  Raises OSError."""
        sha256 = digest(content)
        try:
            self._store.content(sha256)
        except StoreTampered:
            # Missing, or damaged: we hold the right bytes and put them there.
            files.create(self._store._blob(sha256), content, 0o400, self._disk)
        else:
            # Its run may have been killed before this, so it is never taken for granted.
            files.sync_folder(self._store._blobs, self._disk)

    def _append(self, record: dict[str, object]) -> None:
        known = self._journal
        line = known.line(record)
        fd = self._disk.open(
            self._store._journal_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | files._NOFOLLOW
        )
        try:
            # A torn tail, or a line that a full disk cut short just now, is no record.
            if self._disk.fstat(fd).st_size != known.size:
                self._disk.truncate(fd, known.size)
            if known.size == 0 or (known.rewritten and not self._appended):
                # Before the first record, so that a journal with records is known to be durable.
                files.sync_folders(self._store.folder, self._disk)
            files.write_all(fd, line, self._disk)
            self._disk.fsync(fd)
        finally:
            self._disk.close(fd)
        known.appended(line)
        self._appended = True

    # --- upkeep ---------------------------------------------------------------------------------

    def prune(self, target: str, dropped: Collection[int]) -> int:
        """Drop the changes *dropped* of *target*, and every content that no change names then.

        Returns how many bytes of contents went.  The shorter journal is durable before the first
        of them goes; one that cannot be deleted now goes with the next prune.  Raises
        CouldNotWrite where nothing was dropped, ChangedUnconfirmed as `files.replace` does.
        """
        store = self._store
        raw = store.pruned(target, dropped)
        if dropped:
            self.replace_journal(raw)
        freed = 0
        unnamed = store.unnamed(raw)
        if not dropped:
            # A killed run may have put this journal in place, and not have made that durable.
            files.sync_folder(store.folder, self._disk)
        for sha256, size in unnamed:
            with contextlib.suppress(OSError):
                self._disk.unlink(store._blob(sha256))
                freed += size
        return freed

    def replace_journal(self, raw: bytes) -> None:
        """Put a journal *raw* in place of this one.  Raises as `files.replace` does."""
        path = self._store._journal_path
        now = files.read(path, self._disk)
        files.replace(
            path,
            raw,
            expected=now,
            verify=lambda _: None,
            mode=0o600,
            shared=False,
            disk=self._disk,
        )
        self._journal = Journal(path)
        self._journal.read(raw)


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
