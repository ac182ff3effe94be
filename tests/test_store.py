"""The rollback store: nothing false is ever read from it, whatever became of its bytes."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qs_certs import files
from qs_certs.errors import CouldNotRead, LockTimeout, StoreTampered, StoreUnusable, quoted
from qs_certs.files import Disk
from qs_certs.journal import Entry, digest
from qs_certs.store import Session, Store
from tests.faults.disks import LoggedDisk

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


def test_what_is_said_of_a_change_before_it_is_made_is_what_is_read_of_it(
    store: Store, target: Path
) -> None:
    with store.writing() as session:
        told = session.record(
            command="replace",
            target=str(target),
            before=None,
            after=b"one",
            added=("a", "b"),
            removed=("c",),
            mode=0o640,
            made_folder=True,
        )
    assert list(store.changes(str(target))) == [told]


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
    assert note.startswith("The rollback store of qs-certs:")
    assert "journal.jsonl" in note
    # What it says, done: the newest change's `before`, from its file.
    record = json.loads(journal(store).read_text().splitlines()[0].rpartition(" ")[0])
    assert (Path(store.folder) / "blobs" / f"{record['before']}.crt").read_bytes() == b"zero"
    assert files.read(store.folder + "/README.txt") == note.encode()


# --- the order of writing -------------------------------------------------------------------------


SYNC_STORE, SYNC_BLOBS = "fsync store", "fsync store/blobs"
LINE, DURABLE = "write store/journal.jsonl", "fsync store/journal.jsonl"


def test_contents_are_durable_before_the_line_that_names_them_and_it_before_what_follows(
    tmp_path: Path, target: Path
) -> None:
    disk = LoggedDisk(tmp_path)
    store = Store(tmp_path / "store", disk)
    blob = f"rename store/blobs/{digest(b'one')}.crt"
    steps = (blob, SYNC_STORE, SYNC_BLOBS, LINE, DURABLE)
    with store.writing() as session:
        disk.of()
        entry = begin(session, target, None, b"one")
        assert disk.of(*steps) == [blob, SYNC_BLOBS, SYNC_STORE, LINE, DURABLE]
        session.done(entry)
        assert disk.of(*steps) == [LINE, DURABLE]
    with store.writing() as session:
        disk.of()
        begin(session, target, b"one", None)
        # The content is there, but the run that kept it may have been killed before its name was
        # durable; the journal was found with records, and so is known to be.
        assert disk.of(*steps) == [SYNC_BLOBS, LINE, DURABLE]


def test_a_journal_in_another_s_place_is_made_durable_once_before_its_first_record(
    tmp_path: Path, target: Path
) -> None:
    change(Store(tmp_path / "store"), target, None, b"one")
    change(Store(tmp_path / "store"), target, b"one", b"two")
    disk = LoggedDisk(tmp_path)
    steps = (SYNC_STORE, LINE, DURABLE, "fsync .")
    with Store(tmp_path / "store", disk).writing() as session:
        session.prune(str(target), {1})
    with Store(tmp_path / "store", disk).writing() as session:
        disk.of()
        entry = begin(session, target, b"two", None)
        assert disk.of(*steps) == [SYNC_STORE, "fsync .", LINE, DURABLE]
        session.void(entry)
        assert disk.of(*steps) == [LINE, DURABLE]


def test_what_an_interrupted_run_did_is_durable_before_the_record_of_it(
    tmp_path: Path, target: Path
) -> None:
    with Store(tmp_path / "store").writing() as session:
        begin(session, target, None, b"one")
    target.write_bytes(b"one")
    disk = LoggedDisk(tmp_path)
    with Store(tmp_path / "store", disk).writing():
        pass
    assert disk.of("fsync .", LINE, DURABLE) == ["fsync .", LINE, DURABLE]
    with Store(tmp_path / "store", disk).writing():
        pass
    assert disk.of("fsync .", LINE, DURABLE) == [], "a control: it is settled"


def test_a_folder_of_ours_goes_with_a_change_that_never_happened(
    store: Store, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"command": "install", "added": (), "removed": (), "mode": None}
    for name, ours in (("ours", True), ("theirs", False)):
        target = tmp_path / name / "root.crt"
        with store.writing() as session:
            session.record(
                target=str(target), before=None, after=b"new", made_folder=ours, **options
            )
        target.parent.mkdir()
        with store.writing():
            pass
        assert not store.changes(str(target))
        assert target.parent.exists() != ours


def test_the_first_interrupted_change_that_cannot_be_looked_at_does_not_hide_the_next(
    store: Store, target: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.crt"
    with store.writing() as session:
        begin(session, target, b"old", b"new")
        begin(session, other, b"old", b"new")
    target.mkdir()
    other.write_bytes(b"new")
    with store.writing():
        pass
    assert [entry.applied for entry in store.changes(str(other))] == [True]
    assert [entry.applied for entry in store.changes(str(target))] == [None]


# --- what was made, by what the target holds ------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "made"),
    [
        pytest.param(b"one", [1], id="as before"),
        pytest.param(b"two", [1, 2], id="changed"),
        pytest.param(b"other", [1, 2], id="somebody else came after"),
        pytest.param(None, [1, 2], id="gone"),
    ],
)
def test_what_happened_is_told_without_writing_that_down(
    store: Store, target: Path, now: bytes | None, made: list[int]
) -> None:
    change(store, target, None, b"one")
    with store.writing() as session:
        begin(session, target, b"one", b"two")
    before = journal(store).read_bytes()
    assert store.happened(str(target), now).ids == made
    assert journal(store).read_bytes() == before
    assert store.changes(str(target)).ids == [1, 2]


def test_an_interrupted_first_change_of_a_file_that_is_not_there_never_happened(
    store: Store, target: Path
) -> None:
    with store.writing() as session:
        begin(session, target, None, b"one")
    assert store.happened(str(target), None).ids == []
    assert store.happened(str(target), b"one").ids == [1]


# --- what lies beside a target --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "goes"),
    [
        pytest.param(b"# the new one\nABC\n", True, id="the new content"),
        pytest.param(b"# the new", True, id="a torn piece of it"),
        pytest.param(b"# the new\0\0\0", True, id="torn by a power cut"),
        pytest.param(b"", True, id="nothing yet"),
        pytest.param(b"# the old one\n", True, id="what the store keeps"),
        pytest.param(b"# the new one\nABC\n\0", False, id="longer than what was to come"),
        pytest.param(b"# the newX", False, id="a piece that somebody went on with"),
        pytest.param(b"# the old", False, id="a piece of what was there"),
        pytest.param(b"# an editor's\n", False, id="somebody's edit"),
    ],
)
def test_only_what_is_worthless_is_removed_from_beside_a_target(
    store: Store, target: Path, found: bytes, goes: bool
) -> None:
    change(store, target, b"# the old one\n", b"# the new one\nABC\n")
    # A third, of which the content is gone: nothing to compare with, and no obstacle.
    change(store, target, b"# the new one\nABC\n", b"# gone\n")
    (Path(store.folder) / "blobs" / f"{digest(b'# gone' + bytes([10]))}.crt").unlink()
    (Path(store.folder) / "lock").touch()
    for name in ("root.crt", "other.crt"):
        target.with_name(f".{name}.qs-0123abcd").write_bytes(found)
    with store.writing() as session:
        session.remove_litter(str(target), str(target))
    assert not target.with_name(".root.crt.qs-0123abcd").exists()
    assert target.with_name(".other.crt.qs-0123abcd").exists(), "a control: of another file"
    saved = [path.read_bytes() for path in target.parent.glob("root.crt.saved-*")]
    assert saved == ([] if goes else [found])


def test_the_next_run_removes_what_an_interrupted_one_left_of_an_absence(
    store: Store, target: Path
) -> None:
    change(store, target, None, b"one")
    with store.writing() as session:
        begin(session, target, b"one", None)
    target.with_name(".root.crt.qs-0123abcd").write_bytes(b"on")
    with store.writing():
        pass
    assert not target.with_name(".root.crt.qs-0123abcd").exists()


def test_what_a_killed_run_left_in_the_store_goes_and_the_note_is_made_again(
    store: Store, target: Path
) -> None:
    change(store, target, None, b"one")
    folder = Path(store.folder)
    note = folder / "README.txt"
    litter = [each / ".journal.jsonl.qs-0123abcd" for each in (folder, folder / "blobs")]
    for path in litter:
        path.write_bytes(b"x")
    text = note.read_bytes()
    note.write_bytes(b"mine")
    with store.writing():
        pass
    assert [path.exists() for path in litter] == [False, False]
    assert note.read_bytes() == b"mine"
    note.unlink()
    with store.writing():
        pass
    assert note.read_bytes() == text


# --- pruning --------------------------------------------------------------------------------------


def three(store: Store, target: Path) -> None:
    change(store, target, b"zero", b"one")
    change(store, target, b"one", b"two")
    change(store, target, b"two", b"zero")


def test_what_nothing_names_is_told_with_its_size(store: Store, target: Path) -> None:
    assert store.unnamed(b"") == (), "no store, no contents"
    three(store, target)
    blobs = Path(store.folder) / "blobs"
    blobs.joinpath("notes.txt").write_bytes(b"theirs")
    blobs.joinpath(f"{'e' * 64}.crt.bak").write_bytes(b"theirs")
    whole = journal(store).read_bytes()
    assert store.unnamed(whole) == ()
    unnamed = tuple(sorted((digest(each), len(each)) for each in (b"zero", b"one", b"two")))
    assert store.unnamed(b"") == unnamed
    first = whole[: whole.index(b"\n")]
    assert store.unnamed(first) == ((digest(b"two"), 3),)
    assert store.broken() == {}
    Path(store.folder, "journal.broken-x.jsonl").touch()
    assert store.unnamed(first) == ((digest(b"two"), 3),), "a control: no journal put aside"
    Path(store.folder, "journal.broken-12.jsonl").touch()
    assert store.unnamed(first) == (), "nobody can say what that one names"
    assert store.broken() == {12: str(Path(store.folder, "journal.broken-12.jsonl"))}


def test_contents_go_after_the_journal_that_does_without_them_is_durable(
    tmp_path: Path, target: Path
) -> None:
    store = Store(tmp_path / "store")
    three(store, target)
    disk = LoggedDisk(tmp_path)
    renamed = "rename store/journal.jsonl"
    gone = [f"unlink store/blobs/{digest(each)}.crt" for each in (b"one", b"two")]
    steps = (renamed, SYNC_STORE, *gone)
    with Store(tmp_path / "store", disk).writing() as session:
        disk.of()
        assert session.prune(str(target), {2}) == 0
        assert disk.of(*steps) == [renamed, SYNC_STORE]
        assert session.prune(str(target), {1}) == 3
        assert disk.of(*steps) == [renamed, SYNC_STORE, gone[0]]
        assert session.prune(str(target), ()) == 0
        assert disk.of(*steps) == [SYNC_STORE], "a killed run may have left that to us"
        # What follows in the same session is chained to the new journal.
        session.done(begin(session, target, b"zero", b"four"))
    assert store.changes(str(target)).ids == [3, 4]
    record = json.loads(journal(store).read_text().splitlines()[0].rpartition(" ")[0])
    assert (record["target"], record["dropped"]) == (str(target), 1)
    assert record["at"][:2] == "20"
    assert record["at"][-1] == "Z"


def test_the_bytes_of_all_contents_that_go_are_counted(store: Store, target: Path) -> None:
    change(store, target, b"", b"one")
    change(store, target, b"one", b"eleven")
    change(store, target, b"eleven", b"x")
    with store.writing() as session:
        assert session.prune(str(target), {1, 2, 3}) == len(b"" + b"one" + b"eleven" + b"x")


def test_a_content_that_cannot_be_deleted_now_goes_with_the_next_prune(
    tmp_path: Path, target: Path
) -> None:
    store = Store(tmp_path / "store")
    three(store, target)
    change(store, target, b"zero", b"four")

    class Stubborn(Disk):
        def unlink(self, path: str) -> None:
            if path.endswith(f"{digest(b'one')}.crt"):
                raise PermissionError
            super().unlink(path)

    with Store(tmp_path / "store", Stubborn()).writing() as session:
        assert session.prune(str(target), {1, 2, 3}) == len(b"two")
    assert store.unnamed(journal(store).read_bytes()) == ((digest(b"one"), 3),)
    with store.writing() as session:
        assert session.prune(str(target), ()) == len(b"one")
    assert store.unnamed(journal(store).read_bytes()) == ()


def test_a_store_that_was_read_before_sees_what_another_run_did_to_the_journal(
    store: Store, target: Path
) -> None:
    three(store, target)
    assert store.changes(str(target)).ids == [1, 2, 3]
    with Store(Path(store.folder)).writing() as session:
        session.prune(str(target), {1})
    assert store.changes(str(target)).ids == [2, 3]
    whole = journal(store).read_bytes()
    journal(store).write_bytes(whole + b"{}\n{}\n")
    for _ in range(2):  # what a failed reading took in is not known the next time
        with pytest.raises(StoreTampered):
            store.changes(str(target))
    journal(store).write_bytes(whole)
    assert store.changes(str(target)).ids == [2, 3]


# --- a damaged journal put aside ------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"now", None])
def test_a_new_journal_says_where_the_damaged_one_is_and_what_the_target_holds(
    store: Store, target: Path, content: bytes | None
) -> None:
    three(store, target)
    damaged = journal(store).read_bytes().replace(b'"id": 3', b'"id": 4', 1)
    journal(store).write_bytes(damaged)
    kept = set((Path(store.folder) / "blobs").iterdir())
    aside = store.quarantine(str(target), content)
    assert aside == str(Path(store.folder, "journal.broken-1.jsonl"))
    assert Path(aside).read_bytes() == damaged
    for path in (journal(store), Path(aside)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (line,) = journal(store).read_text().splitlines()
    record = json.loads(line.rpartition(" ")[0])
    assert record.pop("at")[-1] == "Z"
    assert record == {
        "v": 1,
        "kind": "quarantine",
        "id": 3,
        "broken": "journal.broken-1.jsonl",
        "head": digest(damaged),
        "target": str(target),
        "content": None if content is None else digest(content),
        "prev": digest(b""),
    }
    blobs = set((Path(store.folder) / "blobs").iterdir())
    assert blobs >= kept
    assert len(blobs) == len(kept) + (content is not None)
    assert content is None or store.content(digest(content)) == content
    change(store, target, b"now", b"next")
    assert store.changes(str(target)).ids == [4]


def test_a_link_in_the_journal_s_place_is_refused_and_a_damaged_journal_put_aside(
    store: Store, target: Path
) -> None:
    change(store, target, None, b"one")
    elsewhere = target.with_name("elsewhere")
    journal(store).rename(elsewhere)
    journal(store).symlink_to(elsewhere)
    held = elsewhere.read_bytes()
    with pytest.raises(StoreTampered) as refused:
        store.quarantine(str(target), b"one")
    assert refused.value.why == f"{journal(store)} is a link"
    assert elsewhere.read_bytes() == held
    # The control: what is a journal, though a damaged one, is put aside.
    journal(store).unlink()
    journal(store).write_bytes(held.replace(b"install", b"instill"))
    assert store.quarantine(str(target), b"one") is not None
    change(store, target, b"one", b"two")
    assert store.changes(str(target)).ids == [2]


def test_the_copy_of_a_killed_run_is_durable_before_the_journal_goes(
    tmp_path: Path, target: Path
) -> None:
    store = Store(tmp_path / "store")
    change(store, target, None, b"one")
    damaged = journal(store).read_bytes().replace(b"install", b"instill")
    copy = Path(store.folder, "journal.broken-1.jsonl")
    for path in (journal(store), copy):
        path.write_bytes(damaged)
    disk = LoggedDisk(tmp_path)
    assert Store(tmp_path / "store", disk).quarantine(str(target), None) == str(copy)
    renamed = "rename store/journal.jsonl"
    assert disk.of(SYNC_STORE, renamed) == [SYNC_STORE, renamed, SYNC_STORE]
    assert store.broken() == {1: str(copy)}


def test_a_second_damaged_journal_has_the_next_number(store: Store, target: Path) -> None:
    for number in (1, 2, 3):
        journal(store).parent.mkdir(mode=0o700, exist_ok=True)
        journal(store).write_bytes(b"damage %d\n{}\n" % number)
        aside = store.quarantine(str(target), None)
        assert aside == str(Path(store.folder, f"journal.broken-{number}.jsonl"))
    assert sorted(store.broken()) == [1, 2, 3]


# --- words ----------------------------------------------------------------------------------------


def test_a_content_is_never_read_through_a_link(store: Store, target: Path) -> None:
    change(store, target, None, b"one")
    (blob,) = (Path(store.folder) / "blobs").iterdir()
    elsewhere = target.with_name("elsewhere")
    blob.rename(elsewhere)
    assert store.damage() is None, "a control: the journal is whole"
    with pytest.raises(StoreTampered) as damaged:
        store.content(digest(b"one"))
    assert damaged.value.why == f"{blob} is missing"
    assert damaged.value.fix == ("qs-certs history",)
    blob.symlink_to(elsewhere)
    with pytest.raises(StoreTampered) as damaged:
        store.content(digest(b"one"))
    assert damaged.value.why == f"{blob} is a link"
    assert damaged.value.fix == (f"ls -la {quoted(store.folder)}",)
    blob.unlink()
    os.mkfifo(blob)
    with pytest.raises(StoreTampered) as damaged:
        store.content(digest(b"one"))
    assert "is not a regular file" in str(damaged.value.why)
    assert damaged.value.fix == (f"ls -la {quoted(store.folder)}",)


def failing(name: str, when: Callable[[str], bool]) -> Disk:
    """A disk of which one call fails for some paths."""

    class Failing(Disk):
        pass

    def call(self: Disk, path: str, *args: Any) -> Any:
        if when(path):
            raise PermissionError(13, "Permission denied")
        return getattr(Disk, name)(self, path, *args)

    setattr(Failing, name, call)
    return Failing()


def test_a_journal_that_may_not_be_read_is_no_damage(store: Store, target: Path) -> None:
    change(store, target, None, b"one")
    closed = Store(Path(store.folder), failing("open", lambda path: path.endswith(".jsonl")))
    with pytest.raises(StoreUnusable, match="cannot be read") as refused:
        closed.damage()
    assert refused.value.why == "Permission denied"
    assert refused.value.fix[0].endswith(f"ls -la {quoted(str(journal(store)))}")
    with pytest.raises(CouldNotRead):
        Store(Path(store.folder), failing("open", lambda path: path.endswith(".crt"))).content(
            digest(b"one")
        )


def test_a_store_that_cannot_be_written_says_why_and_what_to_do(store: Store, target: Path) -> None:
    change(store, target, None, b"one")
    closed = Store(Path(store.folder), failing("open", lambda path: path.endswith("lock")))
    with pytest.raises(StoreUnusable, match="cannot be written") as refused, closed.writing():
        raise AssertionError("used")
    assert refused.value.why == "Permission denied"
    assert "QS_CERTS_STORE" in refused.value.fix[0]


def test_a_store_that_cannot_be_made_says_why_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "store").touch()
    with pytest.raises(StoreUnusable, match="cannot be made") as refused:
        Store(tmp_path / "store").quarantine("root.crt", None)
    assert refused.value.why == "a file of that name is in the way"
    assert "QS_CERTS_STORE" in refused.value.fix[0]
    Store(tmp_path / "deep" / "store").quarantine("root.crt", None)
    assert stat.S_IMODE((tmp_path / "deep" / "store").stat().st_mode) == 0o700


def test_the_way_to_close_a_store_to_others_is_named(store: Store, target: Path) -> None:
    change(store, target, None, b"one")
    Path(store.folder).chmod(0o722)
    with pytest.raises(StoreUnusable) as refused, store.writing():
        raise AssertionError("used")
    assert refused.value.why == f"owner {os.geteuid()}, mode 0722"
    assert refused.value.fix[0] == f"chmod go-w {quoted(store.folder)}"
    Path(store.folder).chmod(0o755)  # others may look
    change(store, target, b"one", b"two")
