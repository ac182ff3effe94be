"""The rollback store: every earlier content of every target, and the journal of changes.

    <store>/
      README.txt            how to bring a content back by hand
      lock                  held while something is changed; never removed
      journal.jsonl         one record a line, append-only
      blobs/<sha256>.crt    the exact bytes of one content, once each

A journal line is a JSON object, a space, and the SHA-256 of that object's bytes.  The object
holds the checksum of the line before (`prev`), so a line cannot be altered, dropped or slipped in
by accident; somebody with this user's rights could rewrite all of it, which no secret kept in the
same home could prevent.

The order of writing: blobs, then the `change` record, then the target, then a `done` record.  Each
is durable before the next begins.  Where a run died in between, the target's hash says whether
the change happened, and the next run closes the record: `done` or `void`.  Nobody ever has to write
the target to recover.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from qs_certs import files
from qs_certs.errors import CouldNotRead, QsCertsError, StoreTampered, StoreUnusable, TargetRefused
from qs_certs.files import DISK, Disk
from qs_certs.results import Change

LOCK_PATIENCE = 10.0
"""Seconds that a change waits for another one to finish."""

_START = "0" * 64  # what the first line of a journal names as the line before
_README = """\
The rollback store of qs-certs: every content that a root file had before qs-certs changed it.

    qs-certs history      lists the changes; qs-certs rollback undoes the last one.

By hand: journal.jsonl names, for each change, the SHA-256 of the content before and after it.
Copy blobs/<that sha256>.crt over the target.
"""


def digest(content: bytes) -> str:
    """SHA-256 of *content* in lower-case hex: the name of its blob."""
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """A change as the journal has it.

    *applied* is None while the record is open: only the target's hash knows.  *mode* is what a
    file that has to be made anew gets; *made_folder* says that we made the target's folder.
    """

    change: Change
    applied: bool | None
    mode: int | None
    made_folder: bool


@dataclass(frozen=True, slots=True)
class _Journal:
    entries: tuple[Entry, ...]
    last: str
    """The checksum of the last line."""
    size: int
    """How many bytes of the file are whole lines; what follows is a torn tail."""


class Store:
    """The store in *folder*, which need not exist yet.  Reading never writes or locks."""

    def __init__(self, folder: Path, disk: Disk = DISK) -> None:
        self.folder = str(folder)
        self._disk = disk
        self._journal_path = str(folder / "journal.jsonl")
        self._blobs = str(folder / "blobs")

    # --- reading --------------------------------------------------------------------------------

    def changes(self, target: str) -> tuple[Entry, ...]:
        """The changes of *target*, oldest first.  Changes that never happened are left out.

        Raises StoreTampered where the journal does not hold together.
        """
        return tuple(
            entry
            for entry in self._read_journal().entries
            if entry.change.target == target and entry.applied is not False
        )

    def content(self, sha256: str | None) -> bytes | None:
        """The content with that hash; None for "there was no file".

        Raises StoreTampered where it is missing or is not what was put there.
        """
        if sha256 is None:
            return None
        path = self._blob(sha256)
        found = self._read(path)
        if found is None or digest(found) != sha256:
            raise StoreTampered(
                "the rollback store is damaged; nothing was changed",
                why=f"{path} is missing" if found is None else f"{path} is not what was kept there",
                fix=("qs-certs history",),
            )
        return found

    def _blob(self, sha256: str) -> str:
        return os.path.join(self._blobs, f"{sha256}.crt")

    def _read(self, path: str) -> bytes | None:
        """A file of the store: never through a link, a pipe or a device."""
        with contextlib.suppress(OSError):
            if stat.S_ISLNK(self._disk.lstat(path).st_mode):
                raise StoreTampered(
                    "the rollback store is damaged; nothing was changed", why=f"{path} is a link"
                )
        try:
            return files.read(path, self._disk)
        except TargetRefused as error:
            raise StoreTampered(
                "the rollback store is damaged; nothing was changed", why=error.message
            ) from error

    def _read_journal(self) -> _Journal:
        try:
            raw = self._read(self._journal_path)
        except CouldNotRead as error:
            raise StoreUnusable(
                f"the rollback store cannot be read: {self.folder}", why=error.why, fix=error.fix
            ) from error
        return _parse(raw or b"", self._journal_path)

    # --- writing --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def writing(self, timeout: float = LOCK_PATIENCE) -> Iterator[Session]:
        """Hold the store's lock and hand out the session in which changes are recorded.

        What an interrupted run left is settled first.  Raises LockTimeout, StoreUnusable and
        StoreTampered, and then nothing was changed.
        """
        try:
            self._make()
            lock = os.path.join(self.folder, "lock")
            with files.locked(lock, timeout=timeout, disk=self._disk):
                self._tidy()
                journal = self._read_journal()
                session = Session(self, journal, self._disk)
                session.settle()
                yield session
        except OSError as error:
            raise StoreUnusable(
                f"the rollback store cannot be written: {self.folder}; nothing was changed",
                why=files.reason(error),
                fix=("look at its owner and rights, or set QS_CERTS_STORE to another folder",),
            ) from error

    def _make(self) -> None:
        try:
            files.make_folder(self.folder, self._disk)
            files.make_folder(self._blobs, self._disk)
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
                fix=(f"chmod go-w {self.folder}", f"or own it: ls -ld {self.folder}"),
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

    def __init__(self, store: Store, journal: _Journal, disk: Disk) -> None:
        self._store = store
        self._entries = list(journal.entries)
        self._last = journal.last
        self._size = journal.size
        self._disk = disk

    def settle(self) -> None:
        """Close the record that an interrupted run left open; look at the target, never write it.

        A target that cannot be looked at now leaves its record open: other targets can go on.
        """
        for entry in self._entries:
            if entry.applied is not None:
                continue
            try:
                path = files.resolve(entry.change.target, self._disk)
                files.remove_litter(*os.path.split(path), disk=self._disk)
                found = files.read(path, self._disk)
            except (CouldNotRead, TargetRefused):
                continue
            folder = os.path.dirname(path)
            if os.path.isdir(folder):
                # The swap, and the litter's end, must be as durable as the record of them.
                files.sync_folder(folder, self._disk)
            sha256 = None if found is None else digest(found)
            if sha256 != entry.change.before:
                # Neither the old nor the new content: the change may have happened before
                # somebody else's, so it stays in the history.
                self.done(entry)
                continue
            if entry.made_folder:
                files.remove_folder_if_empty(folder, self._disk)
            self.void(entry)

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
                self._keep(content)
        change = Change(
            id=1 + max((entry.change.id for entry in self._entries), default=0),
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
                "at": change.at.isoformat().replace("+00:00", "Z"),
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
        self._entries.append(entry)
        return entry

    def done(self, entry: Entry) -> None:
        """The target holds the new content."""
        self._close(entry, happened=True)

    def void(self, entry: Entry) -> None:
        """The change did not happen."""
        self._close(entry, happened=False)

    def _close(self, entry: Entry, *, happened: bool) -> None:
        self._append({"kind": "done" if happened else "void", "id": entry.change.id})

    def _keep(self, content: bytes) -> None:
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
        body = json.dumps({"v": 1, **record, "prev": self._last}, ensure_ascii=True)
        checksum = digest(body.encode())
        line = f"{body} {checksum}\n".encode()
        path = self._store._journal_path
        fd = self._disk.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | files._NOFOLLOW)
        try:
            # A torn tail, or a line that a full disk cut short just now, is no record.
            if self._disk.fstat(fd).st_size != self._size:
                self._disk.truncate(fd, self._size)
            if self._size == 0:
                # Before the first record, so that a journal with records is known to be durable.
                files.sync_folders(self._store.folder, self._disk)
            files.write_all(fd, line, self._disk)
            self._disk.fsync(fd)
        finally:
            self._disk.close(fd)
        self._last = checksum
        self._size += len(line)


def _parse(raw: bytes, path: str) -> _Journal:
    """The journal's records.

    A last line that is not whole is a torn tail: its write never finished, so what it would
    have announced never began.  Damage anywhere before raises StoreTampered.
    """
    entries: dict[int, Entry] = {}
    last = _START
    size = 0
    number = 0
    lines = raw.split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        body, _, checksum = line.rpartition(b" ")
        if digest(body) != checksum.decode("ascii", "replace"):
            if number == len(lines) - 1 and body.count(b'"prev": ') <= 1:
                break  # written out of order by a dying disk cache: also torn
            raise _tampered(path, number, "its checksum is wrong")
        try:
            record = json.loads(body)
            if record["prev"] != last:
                raise _tampered(path, number, "it does not follow the line before")
            _apply(record, entries)
        except (ValueError, KeyError, TypeError) as error:
            raise _tampered(path, number, "it is no record of ours") from error
        last = checksum.decode("ascii")
        size += len(line) + 1
    return _Journal(tuple(entries.values()), last, size)


def _apply(record: dict[str, object], entries: dict[int, Entry]) -> None:
    identity = record["id"]
    if not isinstance(identity, int):
        raise TypeError("id")
    if record["kind"] != "change":
        old = entries[identity]
        happened = record["kind"] == "done"
        entries[identity] = Entry(old.change, happened, old.mode, old.made_folder)
        return
    change = Change(
        id=identity,
        at=datetime.fromisoformat(str(record["at"]).replace("Z", "+00:00")),
        command=str(record["command"]),
        target=str(record["target"]),
        before=_optional_text(record["before"]),
        after=_optional_text(record["after"]),
        added=_texts(record["added"]),
        removed=_texts(record["removed"]),
    )
    mode = record["mode"]
    entries[identity] = Entry(
        change, None, mode if isinstance(mode, int) else None, record["made_folder"] is True
    )


def _optional_text(value: object) -> str | None:
    """A blob's name; checked, since it becomes part of a path."""
    if value is None:
        return None
    text = str(value)
    if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise ValueError("not a SHA-256")
    return text


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return tuple(str(item) for item in value)


def _tampered(path: str, number: int, what: str) -> StoreTampered:
    return StoreTampered(
        "the rollback store is damaged; nothing was changed",
        why=f"line {number} of {path}: {what}",
        fix=(
            "find out who changed it",
            f"to go on without this history, rename the folder {os.path.dirname(path)}",
        ),
    )
