"""The rollback store: nothing false is ever read from it, whatever became of its bytes."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from qs_certs import files
from qs_certs.errors import LockTimeout, StoreTampered, StoreUnusable
from qs_certs.journal import Entry, digest
from qs_certs.store import Session, Store

if sys.platform == "win32":
    pytest.skip("only on POSIX", allow_module_level=True)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "root.crt"


def begin(session: Session, target: Path, before: bytes | None, after: bytes | None) -> Entry:
    return session.record(
        command="install",
        target=str(target),
        before=before,
        after=after,
        added=("a",),
        removed=(),
        mode=None,
        made_folder=False,
    )


def change(store: Store, target: Path, before: bytes | None, after: bytes) -> None:
    with store.writing() as session:
        entry = begin(session, target, before, after)
        target.write_bytes(after)
        session.done(entry)


def journal(store: Store) -> Path:
    return Path(store.folder) / "journal.jsonl"


def test_what_is_recorded_is_read_again(store: Store, target: Path) -> None:
    assert not store.changes(str(target))
    change(store, target, None, b"one")
    change(store, target, b"one", b"two")
    first, second = store.changes(str(target))
    assert (first.change.id, first.change.before, first.change.after) == (1, None, digest(b"one"))
    assert (second.change.id, second.change.before) == (2, digest(b"one"))
    assert [store.content(second.change.before), store.content(second.change.after)] == [
        b"one",
        b"two",
    ]
    assert store.content(None) is None
    assert not store.changes(str(target) + "x")


def test_everything_in_it_is_closed_to_others(store: Store, target: Path) -> None:
    change(store, target, None, b"one")
    for path in (Path(store.folder), *Path(store.folder).rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_content_is_kept_once(store: Store, target: Path) -> None:
    change(store, target, None, b"one")
    (blob,) = (Path(store.folder) / "blobs").iterdir()
    written = blob.stat().st_mtime_ns
    change(store, target, b"one", b"two")
    change(store, target, b"two", b"one")
    assert blob.stat().st_mtime_ns == written
    assert len(list(blob.parent.iterdir())) == 2


def test_reading_makes_nothing(store: Store, target: Path) -> None:
    assert not store.changes(str(target))
    with pytest.raises(StoreTampered):
        store.content(digest(b"one"))
    assert not Path(store.folder).exists()


# --- damage ---------------------------------------------------------------------------------------


def test_no_flipped_byte_of_the_journal_goes_unseen(store: Store, target: Path) -> None:
    change(store, target, None, b"one")
    change(store, target, b"one", b"two")
    whole = journal(store).read_bytes()
    told = list(store.changes(str(target)))
    lines = whole.count(b"\n")
    last = whole.rindex(b"\n", 0, -1) + 1
    torn = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        journal(store).write_bytes(damaged)
        try:
            found = list(store.changes(str(target)))
        except StoreTampered:
            continue
        # Only the last line can pass for one whose write never finished, and then its
        # record is missing: never another one in its place.
        assert place >= last, place
        assert [entry.change for entry in found] == [entry.change for entry in told]
        assert found[-1].applied is None
        torn += 1
    assert lines == 4
    assert torn > 0


def test_a_journal_cut_anywhere_holds_a_beginning_of_the_truth(store: Store, target: Path) -> None:
    change(store, target, None, b"one")
    change(store, target, b"one", b"two")
    whole = journal(store).read_bytes()
    told = [entry.change for entry in store.changes(str(target))]
    for size in range(len(whole)):
        journal(store).write_bytes(whole[:size])
        found = [entry.change for entry in store.changes(str(target))]
        assert found == told[: len(found)]


@pytest.mark.parametrize("drop", [0, 1, 2])
def test_a_line_taken_out_is_seen(store: Store, target: Path, drop: int) -> None:
    change(store, target, None, b"one")
    change(store, target, b"one", b"two")
    lines = journal(store).read_bytes().splitlines(keepends=True)
    journal(store).write_bytes(b"".join(lines[:drop] + lines[drop + 1 :]))
    with pytest.raises(StoreTampered, match="damaged"):
        store.changes(str(target))


@pytest.mark.parametrize(
    "change_record",
    [
        pytest.param({"id": "1"}, id="another type"),
        pytest.param({"before": "../../etc/passwd"}, id="a path for a hash"),
        pytest.param({"before": "A" * 64}, id="upper case"),
        pytest.param({"added": "a"}, id="text for a list"),
        pytest.param({"at": "yesterday"}, id="no time"),
        pytest.param({"kind": "done", "id": 7}, id="the end of nothing"),
    ],
)
def test_a_record_that_is_none_of_ours_is_seen_though_its_checksum_is_right(
    store: Store, target: Path, change_record: dict[str, object]
) -> None:
    change(store, target, None, b"one")
    first, second = journal(store).read_bytes().splitlines()
    record = json.loads(first.rpartition(b" ")[0]) | change_record
    body = json.dumps(record).encode()
    journal(store).write_bytes(body + b" " + digest(body).encode() + b"\n" + second + b"\n")
    with pytest.raises(StoreTampered):
        list(store.changes(str(target)))  # an entry's form is looked at with the entry
    assert store.damage() is not None


def test_no_flipped_bit_of_a_content_goes_unseen(store: Store, target: Path) -> None:
    change(store, target, None, b"one")
    (blob,) = (Path(store.folder) / "blobs").iterdir()
    for place in range(3):
        for bit in range(8):
            damaged = bytearray(b"one")
            damaged[place] ^= 1 << bit
            blob.chmod(0o600)
            blob.write_bytes(damaged)
            with pytest.raises(StoreTampered, match="damaged"):
                store.content(digest(b"one"))
    change(store, target, b"two", b"one")  # who holds the right bytes mends it
    assert store.content(digest(b"one")) == b"one"


# --- interrupted runs -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "applied"),
    [
        pytest.param(b"old", False, id="the target is as before"),
        pytest.param(b"new", True, id="the target is changed"),
        pytest.param(b"other", True, id="somebody else came after"),
        pytest.param(None, True, id="somebody deleted it"),
    ],
)
def test_the_target_says_whether_an_interrupted_change_happened(
    store: Store, target: Path, now: bytes | None, applied: bool
) -> None:
    with store.writing() as session:
        begin(session, target, b"old", b"new")
    if now is not None:
        target.write_bytes(now)
    (entry,) = store.changes(str(target))
    assert entry.applied is None
    with store.writing():
        pass
    assert [entry.applied for entry in store.changes(str(target))] == ([True] if applied else [])
    assert (target.read_bytes() if target.exists() else None) == now


def test_an_interrupted_change_of_a_file_that_cannot_be_looked_at_stops_no_other(
    store: Store, target: Path, tmp_path: Path
) -> None:
    with store.writing() as session:
        begin(session, target, b"old", b"new")
    target.mkdir()
    other = tmp_path / "other.crt"
    change(store, other, None, b"one")
    assert len(store.changes(str(other))) == 1
    target.rmdir()
    target.write_bytes(b"new")
    with store.writing():
        pass
    assert [entry.applied for entry in store.changes(str(target))] == [True]


# --- refusals -------------------------------------------------------------------------------------


def test_two_sessions_at_once_there_are_not(store: Store, target: Path) -> None:
    with (
        store.writing(),
        pytest.raises(LockTimeout, match=str(os.getpid())),
        store.writing(timeout=0.02),
    ):
        raise AssertionError("two sessions")
    change(store, target, None, b"one")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777], ids=oct)
def test_a_store_that_others_can_change_is_not_used(store: Store, target: Path, mode: int) -> None:
    change(store, target, None, b"one")
    Path(store.folder).chmod(mode)
    with pytest.raises(StoreUnusable, match="can be changed by others"), store.writing():
        raise AssertionError("used")
    Path(store.folder).chmod(0o700)
    change(store, target, b"one", b"two")


def test_a_store_of_another_user_is_not_used(store: Store, target: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a folder of another user")
    change(store, target, None, b"one")
    os.chown(store.folder, 12345, 12345)
    with pytest.raises(StoreUnusable, match="can be changed by others"), store.writing():
        raise AssertionError("used")


@pytest.mark.parametrize("name", ["journal.jsonl", "lock"])
def test_a_link_in_the_store_is_not_followed(store: Store, target: Path, name: str) -> None:
    change(store, target, None, b"one")
    path = Path(store.folder) / name
    elsewhere = target.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    with pytest.raises((StoreTampered, StoreUnusable)), store.writing():
        raise AssertionError("used")
    assert elsewhere.read_bytes() == before


def test_a_readable_note_says_how_to_do_without_us(store: Store, target: Path) -> None:
    change(store, target, b"zero", b"one")
    note = (Path(store.folder) / "README.txt").read_text()
    assert "journal.jsonl" in note
    # What it says, done: the newest change's `before`, from its file.
    record = json.loads(journal(store).read_text().splitlines()[0].rpartition(" ")[0])
    assert (Path(store.folder) / "blobs" / f"{record['before']}.crt").read_bytes() == b"zero"
    assert files.read(store.folder + "/README.txt") == note.encode()
