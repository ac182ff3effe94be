"""The journal of changes as text: from lines to entries and back.  Bytes in, values out.

A line is a JSON object, a space, and the SHA-256 of the object's bytes.  The object ends with
`prev`, the SHA-256 of all bytes of the file before the line: so a line cannot be altered, dropped
or slipped in by accident, and every run verifies every byte with one hash over the file and one
over its last line (ten thousand changes, 7 MB: 5 ms).  Where that fails, a walk along the lines
finds the place.  A change becomes an `Entry`, and its form is looked at, when somebody asks for it.

    change       what is about to happen: the content before and after, by hash
    done, void   how it ended; without one of them, only the target's hash knows
    prune        first line: older changes were dropped here; `head` is the hash of what stood here
    quarantine   first line: the journal before this one was damaged, and lies beside it
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Sequence
from datetime import datetime, timezone
from typing import overload

from qs_certs.errors import StoreTampered
from qs_certs.results import Change
from qs_certs.values import Value

_HEAD = re.compile(rb'\{"v": 1, "kind": "([a-z]+)", "id": (\d{1,15})[,}]')
# A change and its end in one step, since nearly all lines are such pairs; or any line.
_LINES = re.compile(
    rb'(?:(\{"v": 1, "kind": "change", "id": (\d{1,15}),[^\n]*)\n'
    rb'\{"v": 1, "kind": "done", "id": \2,[^\n]*|([^\n]*))\n'
)
_KEPT = frozenset({b"change", b"done"})
_TEXT = rb'"([^"\\]*(?:\\.[^"\\]*)*)"'
_HASH = rb'(?:null|"([0-9a-f]{64})")'
_LIST = rb'\[((?:"[^"\\]*(?:\\.[^"\\]*)*"(?:, )?)*)\]'
_CHANGE = re.compile(
    rb'\{"v": 1, "kind": "change", "id": (\d+), "at": "([-0-9T:]{19})Z", '
    rb'"command": "([a-z]+)", "target": ' + _TEXT + rb', "before": ' + _HASH + rb', "after": '
    + _HASH + rb', "added": ' + _LIST + rb', "removed": ' + _LIST
    + rb', "mode": (?:null|(\d{1,4})), "made_folder": (true|false), "prev": "[0-9a-f]{64}"\}'
)  # fmt: skip
_NAMED = re.compile(rb'"(?:before|after|content)": "([0-9a-f]{64})"')


def digest(content: bytes) -> str:
    """SHA-256 of *content* in lower-case hex: the name of its blob."""
    return hashlib.sha256(content).hexdigest()


class Entry(Value):
    """A change as the journal has it.

    *applied* is None while the record is open: only the target's hash knows.  *mode* is what a
    file that has to be made anew gets; *made_folder* says that we made the target's folder.
    """

    change: Change
    applied: bool | None
    mode: int | None
    made_folder: bool

    def happened(self, now: str | None) -> bool:
        """Whether the change was made, where the target now holds the content *now*.

        An open record whose old content still stands is of a change that never happened.  With
        neither content there it may have happened before somebody else's change.
        """
        return self.change.before != now if self.applied is None else self.applied


class Journal:
    """The verified lines of the journal in the file *path*; it only grows."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.rewritten = False
        """The first line says that this journal took the place of another one."""
        self.size = 0
        """How many bytes of the file are whole lines; what follows is a torn tail."""
        self._pieces: list[bytes] = []  # to join them for a new line would cost milliseconds
        self._hash = hashlib.sha256()
        self._floor = 0
        self._changes: dict[int, bytes] = {}
        self._ended: dict[int, bool] = {}

    @property
    def raw(self) -> bytes:
        """The bytes of its whole lines."""
        return b"".join(self._pieces)

    @property
    def next_id(self) -> int:
        """The number of the next change; one that was given once is not given again."""
        return 1 + max(self._floor, max(self._changes, default=0))

    @property
    def open(self) -> tuple[Entry, ...]:
        """The changes of which only the target's hash knows whether they happened."""
        return tuple(self.entry(each) for each in self._changes if each not in self._ended)

    def begins(self, raw: bytes) -> bool:
        """Whether *raw* is this journal, perhaps with more behind it."""
        at = 0
        for piece in self._pieces:
            if not raw.startswith(piece, at):
                return False
            at += len(piece)
        return True

    def entry(self, identity: int) -> Entry:
        """The change *identity*, which is there.  Raises StoreTampered for one of another form."""
        found = _CHANGE.fullmatch(self._changes[identity][:-65])
        try:
            if found is None:
                raise ValueError
            _, at, command, target, before, after, added, removed, mode, made = found.groups()
            change = Change(
                id=identity,
                at=datetime.fromisoformat(at.decode()).replace(tzinfo=timezone.utc),
                command=command.decode(),
                target=_text(target),
                before=None if before is None else before.decode(),
                after=None if after is None else after.decode(),
                added=_texts(added),
                removed=_texts(removed),
            )
        except ValueError as error:
            why = f"change {identity} in {self.path}: qs-certs did not write it"
            raise tampered(why) from error
        number = None if mode is None else int(mode)
        return Entry(change, self._ended.get(identity), number, made == b"true")

    def examine(self) -> None:
        """Look at the form of every change.  Raises StoreTampered."""
        for identity in self._changes:
            self.entry(identity)

    def of(self, target: str) -> History:
        """The changes of *target*, oldest first, without those that never happened."""
        void = {each for each, done in self._ended.items() if not done}
        # In a JSON string no quote stands bare, so this cannot be part of another value.
        named = b'"target": ' + json.dumps(target).encode() + b', "before": '
        if sum(piece.count(named) for piece in self._pieces) == len(self._changes):
            found = list(self._changes)  # most stores know one target
        else:
            found = [
                each
                for each, line in self._changes.items()
                if named in line or _spelled_otherwise(line, target)
            ]
        return History(self, found).without(void)

    def read(self, raw: bytes) -> None:
        """Take in what *raw*, which begins as this journal does, has more.

        A last line that is not whole is a torn tail: its write never finished, so what it would
        have announced never began.  Damage anywhere before raises StoreTampered.
        """
        new = raw[self.size : raw.rfind(b"\n") + 1]
        if not new:
            return
        if not self._vouched(new):
            new = raw[self.size : self._walk(raw)]
            self._hash.update(new)
        self._add(new)

    def _vouched(self, new: bytes) -> bool:
        """Whether the last line of *new* is whole, and vouches for every byte before it.

        If so, they are taken into the hash.
        """
        start = new.rfind(b"\n", 0, -1) + 1
        line = new[start:-1]
        whole = self._hash.copy()
        whole.update(memoryview(new)[:start])
        vouched = _whole(line) and line[-131:-67] == whole.hexdigest().encode()
        if vouched:
            whole.update(new[start:])
            self._hash = whole
        return vouched

    def _add(self, new: bytes) -> None:
        """Take in the verified lines *new*."""
        changes, ended = self._changes, self._ended
        number = -1
        for change, its_id, line in _LINES.findall(new):
            number += 1
            if its_id:
                identity = int(its_id)
                changes[identity] = change
                ended[identity] = True
                number += 1
                continue
            found = _HEAD.match(line)
            kind, digits = found.groups() if found else (line, b"0")
            identity = int(digits)
            if kind == b"change":
                changes[identity] = line
            elif kind in (b"done", b"void") and identity in changes:
                ended[identity] = kind == b"done"
            elif kind in (b"prune", b"quarantine") and not number and not self.size:
                self._floor = identity
                self.rewritten = True
            else:
                where = self.raw.count(b"\n") + number + 1
                raise self._bad(where, "qs-certs did not write it, or it belongs elsewhere")
        self._pieces.append(new)
        self.size += len(new)

    def _walk(self, raw: bytes) -> int:
        """Where the whole lines of *raw* end.  Raises StoreTampered at the first damaged one."""
        lines = raw.split(b"\n")[:-1]
        before = hashlib.sha256()
        size = 0
        for number, line in enumerate(lines, start=1):
            if not _whole(line):
                if number == len(lines) and line.count(b'"prev": ') <= 1:
                    return size  # written out of order by a dying disk cache: also torn
                raise self._bad(number, "its checksum is wrong")
            if line[-131:-67] != before.hexdigest().encode():
                raise self._bad(number, "it does not follow the line before")
            before.update(line + b"\n")
            size += len(line) + 1
        return size

    def _bad(self, number: int, what: str) -> StoreTampered:
        return tampered(f"line {number} of {self.path}: {what}")

    def line(self, record: dict[str, object]) -> bytes:
        """The line that appends *record*."""
        return _line(record, self._hash.hexdigest())

    def appended(self, line: bytes) -> None:
        """*line* is durable."""
        self._hash.update(line)
        self._add(line)

    def without(self, dropped: Collection[int], record: dict[str, object]) -> bytes:
        """The bytes of a journal that begins with *record*, a `prune`, and lacks *dropped*.

        Records of changes that never happened are left out too.
        """
        gone = {*dropped, *(each for each, done in self._ended.items() if not done)}
        first = {"kind": "prune", "id": self.next_id - 1, **record, "head": self._hash.hexdigest()}
        rest = []
        for line in self.raw.split(b"\n")[:-1]:
            found = _HEAD.match(line)
            if found is not None and found[1] in _KEPT and int(found[2]) not in gone:
                rest.append(line[:-65])
        return chained(_body(first), *rest)


class History(Sequence[Entry]):
    """Changes of a journal, oldest first; each is decoded when it is looked at."""

    def __init__(self, journal: Journal, identities: list[int]) -> None:
        self._journal = journal
        self.ids = identities

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> History: ...
    def __getitem__(self, index: int | slice) -> Entry | History:
        if isinstance(index, slice):
            return History(self._journal, self.ids[index])
        return self._journal.entry(self.ids[index])

    def without(self, identities: Collection[int]) -> History:
        """The same without the changes *identities*."""
        if not identities:
            return self
        return History(self._journal, [each for each in self.ids if each not in identities])


_CASE_MATTERS = os.path.normcase("A") == "A"


def _spelled_otherwise(line: bytes, target: str) -> bool:
    """Whether the change *line* is one of *target* in another of the spellings that Windows takes."""
    if _CASE_MATTERS:
        return False
    raw: str = json.loads(line.partition(b'"target": ')[2].partition(b', "before": ')[0])
    return os.path.normcase(raw) == os.path.normcase(target)


def named(raw: bytes) -> set[str]:
    """The contents that the journal *raw* names, by hash; whole or damaged."""
    return {each.decode() for each in _NAMED.findall(raw)}


def highest_id(raw: bytes) -> int:
    """The highest number of a change in those lines of *raw*, a damaged journal, that are whole."""
    heads = (_HEAD.match(line) for line in raw.split(b"\n") if _whole(line))
    return max((int(head[2]) for head in heads if head is not None), default=0)


def _whole(line: bytes) -> bool:
    """Whether *line* ends with the checksum of its object."""
    return line[-65:] == b" " + digest(line[:-65]).encode()


def beginning(record: dict[str, object]) -> bytes:
    """The bytes of a journal that holds nothing but *record*."""
    return chained(_body(record))


def chained(*bodies: bytes) -> bytes:
    """The lines of a journal: *bodies*, each with its own `prev` in place of what it had."""
    lines = []
    hash_ = hashlib.sha256()
    for former in bodies:
        body = former[:-66] + hash_.hexdigest().encode() + former[-2:]
        line = body + b" " + digest(body).encode() + b"\n"
        hash_.update(line)
        lines.append(line)
    return b"".join(lines)


def _body(record: dict[str, object], prev: str = "0" * 64) -> bytes:
    return json.dumps({"v": 1, **record, "prev": prev}, ensure_ascii=True).encode()


def _line(record: dict[str, object], prev: str) -> bytes:
    body = _body(record, prev)
    return body + b" " + digest(body).encode() + b"\n"


def _text(inside: bytes) -> str:
    """The value of a JSON string, given without its quotes."""
    return inside.decode() if b"\\" not in inside else str(json.loads(b'"' + inside + b'"'))


def _texts(inside: bytes) -> tuple[str, ...]:
    return tuple(json.loads(b"[" + inside + b"]"))


def tampered(why: str, *fix: str) -> StoreTampered:
    """The store is not what was written; nothing was changed."""
    return StoreTampered(
        "the rollback store is damaged; nothing was changed",
        why=why,
        fix=fix
        or (
            "find out who changed it",
            "qs-certs history --quarantine   # puts the journal aside and keeps every content",
        ),
    )
