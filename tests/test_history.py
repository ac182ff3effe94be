"""The history: as it grows, is pruned, is damaged, and is brought back from.

The store's own tests hold that nothing false is read from it; the faults hold prune and
quarantine against every system call.  Here they are held to what they promise a user.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qs_certs import files, upkeep
from qs_certs.changes import Target
from qs_certs.errors import StoreTampered
from qs_certs.files import Disk
from qs_certs.journal import Entry, digest, named
from qs_certs.results import Change, HistoryReport, TargetResult
from qs_certs.store import Store
from qs_certs.upkeep import dispensable
from qs_certs.values import replace
from tests.faults.counting import Count, count
from tests.faults.disks import LoggedDisk
from tests.faults.scenarios import FOREIGN, G2, G3, Place, capture, pem, restore
from tests.program import Program, assert_one_clear_error, snapshot

__all__ = ["count"]

G5 = "digicert-tls-rsa4096-root-g5"
ECC = "digicert-tls-ecc-p384-root-g5"


class Unsynced(Disk):
    """A disk that need not survive a power cut: thousands of changes are made on it."""

    def fsync(self, fd: int) -> None:
        pass


QUICK = Unsynced()

folders_are_synced = pytest.mark.skipif(
    sys.platform == "win32", reason="not on Windows: a folder is not synced there"
)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    home = tmp_path / "home"
    home.mkdir()
    return Program(home)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path / "base")
    made.target.parent.mkdir(parents=True)
    with made.entered():
        yield made


def grow(store: Path, target: Path, count: int) -> None:
    """A store with *count* changes of *target* between forty contents; written by our own code."""
    contents = [pem(G2) + b"# %d\n" % number for number in range(40)]
    names = [hashlib.sha256(content).hexdigest() for content in contents]
    (store / "blobs").mkdir(parents=True)
    store.chmod(0o700)
    for name, content in zip(names, contents, strict=True):
        (store / "blobs" / f"{name}.crt").write_bytes(content)
    whole = hashlib.sha256()
    lines = []

    def write(record: dict[str, object]) -> None:
        body = json.dumps({"v": 1, **record, "prev": whole.hexdigest()})
        line = f"{body} {hashlib.sha256(body.encode()).hexdigest()}\n"
        whole.update(line.encode())
        lines.append(line)

    for number in range(1, count + 1):
        write(
            {
                "kind": "change",
                "id": number,
                "at": f"2026-01-{1 + number % 28:02}T00:00:00Z",
                "command": "install",
                "target": str(target),
                "before": names[(number - 1) % 40],
                "after": names[number % 40],
                "added": [G2],
                "removed": [],
                "mode": 420,
                "made_folder": False,
            }
        )
        write({"kind": "done", "id": number})
    (store / "journal.jsonl").write_text("".join(lines))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(contents[count % 40])


# --- a history that grows -------------------------------------------------------------------------


def seconds(program: Program, *words: str) -> float:
    """Processor time of a whole process; the clock would also tell what else the machine does."""
    wrapper = (
        "import resource, subprocess, sys\n"
        "subprocess.run([sys.executable, '-m', 'qs_certs', *sys.argv[1:]],"
        " check=True, stdout=subprocess.DEVNULL)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(used.ru_utime + used.ru_stime)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", wrapper, *words],
        env=program.environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def test_ten_thousand_changes_cost_a_run_at_most_half_of_it(tmp_path: Path, count: Count) -> None:
    commands = (
        ("install", "--offline", G3),
        ("rollback",),
        ("history",),
        ("history", "10001"),
        ("check",),
    )
    empty, grown = (Program(tmp_path / name) for name in ("empty", "grown"))
    grow(grown.store, grown.root_file, 10_000)
    empty.root_file.parent.mkdir(parents=True)
    empty.root_file.write_bytes(grown.root_file.read_bytes())
    took: dict[tuple[str, bool], list[float]] = {}
    ratios: dict[str, float] = {}
    for rounds in range(1, 17):  # a machine with other work to do needs more of them
        for words in commands:
            for program in (empty, grown):
                asked = words if program is grown or words[-1] != "10001" else ("history", "1")
                used = seconds(program, *asked)
                took.setdefault((" ".join(words), program is grown), []).append(used)
        names = [" ".join(words) for words in commands]
        ratios = {name: min(took[name, True]) / min(took[name, False]) for name in names}
        if rounds > 1 and max(ratios.values()) <= 1.5:
            break
    assert len(grown("history", "--json").document["changes"]) == 10_000 + 2 * rounds
    for name, ratio in ratios.items():
        count(
            f"history: {name} after 10,000 changes, % of an empty store's time", round(ratio * 100)
        )
        assert ratio <= 1.5, (name, ratio)


def test_history_shows_a_person_the_newest_and_a_script_all(program: Program) -> None:
    grow(program.store, program.root_file, 60)

    def shown(*words: str) -> list[int]:
        lines = program.ok("history", *words).out.splitlines()
        return [int(line.split()[0]) for line in lines if line[:4].strip().isdigit()]

    assert shown() == [*range(11, 61)]
    assert "10 earlier; to see all: qs-certs history --limit 0" in program.ok("history").out
    assert shown("--limit", "3") == [58, 59, 60]
    assert shown("--limit", "0") == [*range(1, 61)]
    assert "earlier" not in program.ok("history", "--limit", "0").out
    document = program.ok("history", "--json").document
    assert (len(document["changes"]), document["earlier"]) == (60, 0)
    document = program.ok("history", "--json", "--limit", "3").document
    assert ([each["id"] for each in document["changes"]], document["earlier"]) == ([58, 59, 60], 57)


# --- what may be dropped --------------------------------------------------------------------------

NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)


def entries(*contents: str | None) -> list[Entry]:
    """Changes from each content to the next, a day apart, the last one yesterday."""
    pairs = itertools.pairwise(contents)
    last = len(contents) - 1
    return [
        Entry(
            Change(number, NOW - timedelta(days=1 + last - number), "install", "t", before, after),
            True,
            None,
            made_folder=before is None,
        )
        for number, (before, after) in enumerate(pairs, start=1)
    ]


@pytest.mark.parametrize(
    ("contents", "now", "keep", "days", "gone"),
    [
        pytest.param("abcdef", "f", 2, None, [2, 3], id="newest stay"),
        pytest.param("abcdef", "f", 0, None, [2, 3, 4], id="the first and the last stay"),
        pytest.param("abcdef", "c", 0, None, [3, 4], id="what leads to the present content stays"),
        pytest.param("abcbef", "b", 0, None, [2, 4], id="the newest that does, and no other"),
        pytest.param("abcdef", "x", 0, None, [2, 3, 4], id="somebody else's content"),
        pytest.param("abcdef", "f", None, 3, [2], id="older"),
        pytest.param("abcdef", "f", None, 99, [], id="none so old"),
        pytest.param("abcdef", "f", 3, 2, [2], id="both conditions"),
        pytest.param("abcdef", "f", 99, 0, [], id="keep more than there are"),
        pytest.param("ab", "b", 0, 0, [], id="one change"),
        pytest.param("a", "a", 0, 0, [], id="no change"),
        pytest.param(["a", "b", None, "c", "d"], "d", 0, None, [2], id="a folder of ours"),
    ],
)
def test_only_what_no_undo_needs_may_go(
    contents: list[str | None], now: str, keep: int | None, days: int | None, gone: list[int]
) -> None:
    before = None if days is None else NOW - timedelta(days=days)
    found = dispensable(entries(*contents), now, keep=keep, before=before)
    assert [entry.change.id for entry in found] == gone


# --- prune ----------------------------------------------------------------------------------------


def changed(place: Place) -> list[bytes | None]:
    """Five changes of somebody's file; returns what stood there before each of them."""
    place.target.write_bytes(FOREIGN)
    stood: list[bytes | None] = []
    steps: tuple[Callable[[], TargetResult], ...] = (
        lambda: place.install(G2),
        lambda: place.install(G3),
        lambda: place.remove(G2),
        lambda: place.install(G5),
        lambda: place.install(G2),
    )
    for step in steps:
        stood.append(place.content)
        assert step().status == "changed"
    return stood


def blobs(store: Path) -> set[str]:
    return {path.stem for path in (store / "blobs").iterdir()}


def programs(place: Place) -> Program:
    """The command line in the same home and store."""
    return Program(place.base / "home", {"QS_CERTS_STORE": str(place.store)})


def test_what_prune_leaves_has_its_number_and_what_it_drops_is_named(place: Place) -> None:
    stood = changed(place)
    program = programs(place)
    kept = program.ok("history", "5").out
    document = program.ok("history", "--prune", "--keep", "2", "--json").document
    assert [each["id"] for each in document["changes"]] == [1, 4, 5]
    assert [each["id"] for each in document["dropped"]] == [2, 3]
    assert document["status"] == "changed"
    assert document["freed"] == len(stood[2] or b"")
    assert place.ids == (1, 4, 5)
    assert program.ok("history", "5").out == kept
    for words in (["rollback", "3"], ["history", "2"]):
        assert_one_clear_error(program(*words), 2, "there is no change", "its changes: 1, 4 to 5")
    assert digest(stood[2] or b"") not in blobs(place.store)
    assert place.remove(G3).change_id == 6
    for identity in (4, 1):
        place.rollback(identity)
        assert place.content == stood[identity - 1]


def test_a_dry_run_of_prune_says_the_same_and_changes_nothing(place: Place) -> None:
    changed(place)
    program = programs(place)
    words = ("history", "--prune", "--keep", "1")
    before = snapshot(place.base)
    planned = program(*words, "--dry-run", "--json")
    assert planned.code == 1
    assert "2 to 4" in program(*words, "--dry-run").out
    assert snapshot(place.base) == before
    done = program.ok(*words, "--json").document
    same = {"status": "would-change", "exit_code": 1}
    assert {**done, **same} == planned.document
    after = snapshot(place.base)
    again = program.ok(*words, "--json").document
    assert (again["status"], again["dropped"], again["freed"]) == ("unchanged", [], 0)
    assert "nothing to do" in program.ok(*words).out
    assert snapshot(place.base) == after


def pruned(place: Place, disk: Disk = QUICK, **options: Any) -> HistoryReport:
    """What `history --prune` makes in this process."""
    asked = {"keep": None, "older_than": None, **options}
    return upkeep.prune(Target(str(place.target)), disk=disk, **asked).run()


def test_a_report_of_prune_says_what_went_and_what_is_left(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    stood = changed(place)
    freed = len(stood[2] or b"")
    before = snapshot(place.base)
    monkeypatch.chdir(place.target.parent)
    for path in (str(place.target), place.target.name):
        planned = upkeep.prune(Target(path), keep=2, older_than=None, dry_run=True).run()
        assert planned.target == str(place.target)
        assert [each.id for each in planned.changes] == [1, 4, 5]
        assert [each.id for each in planned.dropped] == [2, 3]
        assert (planned.status, planned.freed, planned.findings) == ("would-change", freed, ())
    assert snapshot(place.base) == before
    done = pruned(place, keep=2)
    assert done == replace(planned, status="changed")
    after = snapshot(place.base)
    assert place.ids == (1, 4, 5)
    for dry_run in (True, False):
        again = pruned(place, keep=2, dry_run=dry_run)
        assert again == replace(done, status="unchanged", dropped=(), freed=0)
    assert snapshot(place.base) == after


def test_prune_where_there_is_no_store_makes_none(place: Place) -> None:
    report = pruned(place, keep=0)
    assert (report.status, report.changes, report.freed) == ("unchanged", (), 0)
    assert not place.store.exists()


@pytest.mark.parametrize("keep", [None, 2])
def test_prune_by_age_takes_the_whole_days_from_now(place: Place, keep: int | None) -> None:
    changed(place)
    assert pruned(place, keep=keep, older_than=1).status == "unchanged"
    assert place.ids == (1, 2, 3, 4, 5)
    pruned(place, keep=keep, older_than=0)
    assert set(place.ids or ()) == ({1, 5} if keep is None else {1, 4, 5})


def test_the_change_that_removed_the_file_stays_while_it_is_not_there(place: Place) -> None:
    for step in (place.install(G2), place.remove(G2), place.install(G3), place.install(G2)):
        assert step.status == "changed"
    place.target.unlink()  # by hand: the newest change that led there is number 2
    assert [each.id for each in pruned(place, keep=0, dry_run=True).dropped] == [3]
    place.target.parent.mkdir(exist_ok=True)
    place.target.write_bytes(b"# somebody else's\n")
    assert [each.id for each in pruned(place, keep=0, dry_run=True).dropped] == [2, 3]


def test_contents_that_a_killed_prune_left_go_with_the_next_though_no_change_does(
    place: Place,
) -> None:
    changed(place)
    stray = place.store / "blobs" / f"{'e' * 64}.crt"
    stray.write_bytes(b"1234567")
    planned = pruned(place, keep=9, dry_run=True)
    assert (planned.status, planned.dropped, planned.freed) == ("would-change", (), 7)
    assert stray.exists()
    done = pruned(place, keep=9)
    assert (done.status, done.dropped, done.freed) == ("changed", (), 7)
    assert not stray.exists()
    assert place.ids == (1, 2, 3, 4, 5)


def test_a_change_may_go_though_others_name_all_its_contents(place: Place) -> None:
    place.target.write_bytes(FOREIGN)
    for step in (place.install, place.remove, place.install, place.remove):
        assert step(G2).status == "changed"
    done = pruned(place, keep=1)
    assert (done.status, [each.id for each in done.dropped], done.freed) == ("changed", [2, 3], 0)


def test_what_changed_before_the_lock_was_taken_is_pruned_as_it_is_then(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed(place)
    usual = files.locked

    def locked(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(files, "locked", usual)
        assert place.remove(G3, QUICK).change_id == 6
        return usual(*args, **options)

    monkeypatch.setattr(files, "locked", locked)
    done = pruned(place, keep=2)
    assert [each.id for each in done.dropped] == [2, 3, 4]
    assert [each.id for each in done.changes] == [1, 5, 6]
    assert place.ids == (1, 5, 6)


@folders_are_synced
def test_a_prune_with_nothing_to_do_makes_durable_what_a_killed_one_did(place: Place) -> None:
    changed(place)
    disk = LoggedDisk(place.base)
    synced = f"fsync {place.store_at}"
    pruned(place, disk, keep=2)
    assert synced in disk.of(synced)
    pruned(place, disk, keep=2, dry_run=True)
    assert disk.log == [], "a dry run writes nothing"
    pruned(place, disk, keep=2)
    assert disk.log == [synced]


def test_prune_by_age_keeps_what_is_younger(place: Place) -> None:
    changed(place)
    program = programs(place)
    assert program.ok("history", "--prune", "--older-than", "1", "--json").document["dropped"] == []
    document = program.ok("history", "--prune", "--older-than", "0", "--json").document
    assert {each["id"] for each in document["dropped"]} <= {2, 3, 4}


def test_prune_of_one_file_leaves_the_history_of_the_others(place: Place) -> None:
    changed(place)
    program = programs(place)
    other = place.base / "other.crt"
    program.ok("install", "--offline", "--target", other)
    program.ok("install", "--offline", G3, "--target", other)
    program.ok("install", "--offline", G5, "--target", other)
    before = program.ok("history", "--target", other, "--json").document
    program.ok("history", "--prune", "--keep", "0")
    assert program.ok("history", "--target", other, "--json").document == before
    program.ok("rollback", "6", "--target", other)
    assert not other.exists()
    program.ok("history", "--prune", "--keep", "0", "--target", other)
    program.ok("rollback", "--target", other)
    assert other.exists()


def test_a_change_that_never_happened_goes_with_the_next_prune(place: Place) -> None:
    changed(place)
    with Store(place.store).writing() as session:
        session.void(_begin(session, place.target, place.content, b"never"))
    assert digest(b"never") in blobs(place.store)
    assert place.prune(2).error is None
    assert digest(b"never") not in blobs(place.store)
    assert place.remove(G3).change_id == 7  # the number is not given again


def _begin(session: object, target: Path, before: bytes | None, after: bytes) -> Entry:
    from qs_certs.store import Session

    assert isinstance(session, Session)
    return session.record(
        command="install",
        target=str(target),
        before=before,
        after=after,
        added=(),
        removed=(),
        mode=None,
        made_folder=False,
    )


@pytest.mark.parametrize(
    "words",
    [
        "--prune",
        "--keep 3",
        "--older-than 3",
        "--dry-run",
        "--prune --keep -1",
        "--prune --older-than 100001",
        "--limit -1",
        "1 --prune --keep 3",
        "1 --quarantine",
        "--prune --keep 3 --quarantine",
    ],
)
def test_options_that_make_no_sense_together_are_wrong_usage(program: Program, words: str) -> None:
    program.ok("install", "--offline")
    before = snapshot(program.home)
    assert_one_clear_error(program("history", *words.split()), 2)
    assert snapshot(program.home) == before


# --- quarantine -----------------------------------------------------------------------------------


def test_a_damaged_journal_stops_every_change_until_it_is_put_aside(place: Place) -> None:
    stood = changed(place)
    program = programs(place)
    journal = place.store / "journal.jsonl"
    damaged = journal.read_bytes().replace(b"install", b"instill", 1)
    journal.write_bytes(damaged)
    kept = blobs(place.store)
    before = snapshot(place.base)
    for words in (["install", "--offline", ECC], ["rollback"], ["history"], ["remove"]):
        assert_one_clear_error(program(*words), 5, "qs-certs history --quarantine")
    assert_one_clear_error(program("history", "--prune", "--keep", "1"), 5, "--quarantine")
    assert program("history", "--quarantine", "--dry-run").code == 1
    assert snapshot(place.base) == before

    document = program.ok("history", "--quarantine", "--json").document
    aside = place.store / "journal.broken-1.jsonl"
    assert (document["status"], document["aside"]) == ("changed", str(aside))
    assert aside.read_bytes() == damaged
    assert program.ok("history", "--quarantine", "--json").document["status"] == "unchanged"
    assert "journal.broken-1" in program.ok("history").err
    program.ok("remove")
    assert place.ids == (6,)
    program.ok("rollback")
    assert program.ok("history", "--json").document["changes"][0]["before"] in blobs(place.store)
    assert blobs(place.store) >= kept

    # The earlier contents are kept from prune too, and come back as the note in the store says.
    program.ok("install", "--offline", G3)
    program.ok("rollback")
    program.ok("install", "--offline", ECC)
    program.ok("history", "--prune", "--keep", "0")
    assert blobs(place.store) >= kept
    for content in stood:
        blob = place.store / "blobs" / f"{digest(content or b'')}.crt"
        place.target.write_bytes(blob.read_bytes())
        assert place.content == content
    aside.unlink()
    program.ok("history", "--prune", "--keep", "0")
    assert not kept <= blobs(place.store)


def put_aside(place: Place, disk: Disk = QUICK, *, dry_run: bool = False) -> HistoryReport:
    """What `history --quarantine` makes in this process."""
    return upkeep.quarantine(Target(str(place.target)), dry_run=dry_run, disk=disk).run()


@folders_are_synced
def test_a_report_of_quarantine_says_where_the_damaged_journal_is(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed(place)
    disk = LoggedDisk(place.base)
    whole = put_aside(place, disk)
    assert whole == HistoryReport(str(place.target), (), status="unchanged")
    assert disk.log == [], "a control: this journal was always there"
    path = place.store / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b"install", b"instill", 1))
    planned = put_aside(place, disk, dry_run=True)
    assert planned == HistoryReport(str(place.target), (), status="would-change")
    assert disk.log == []

    monkeypatch.chdir(place.target.parent)
    done = upkeep.quarantine(Target(place.target.name), disk=disk).run()
    aside = str(place.store / "journal.broken-1.jsonl")
    assert (done.target, done.changes) == (str(place.target), ())
    assert (done.status, done.aside) == ("changed", aside)
    assert [each.code for each in done.findings] == ["journal-quarantined"]
    assert digest(place.content or b"") in named(path.read_bytes())

    disk.log.clear()
    again = put_aside(place, disk, dry_run=True)
    assert disk.log == []
    assert again == replace(done, status="unchanged", aside=None)
    assert put_aside(place, disk) == again
    assert disk.log == [f"fsync {place.store_at}"], "a killed run may have left that to us"


def test_a_target_that_cannot_be_read_does_not_keep_a_journal_from_being_put_aside(
    place: Place,
) -> None:
    changed(place)
    path = place.store / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b"install", b"instill", 1))
    place.target.unlink()
    place.target.mkdir()
    assert put_aside(place).status == "changed"
    assert named(path.read_bytes()) == set()


def test_a_journal_that_somebody_else_put_aside_meanwhile_is_left_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed(place)
    path = place.store / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b"install", b"instill", 1))
    usual = files.locked

    def locked(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(files, "locked", usual)
        assert place.quarantine(QUICK).error is None
        return usual(*args, **options)

    monkeypatch.setattr(files, "locked", locked)
    report = put_aside(place)
    assert (report.status, report.aside) == ("unchanged", None)
    assert [path.name for path in place.store.glob("journal.broken-*")] == [
        "journal.broken-1.jsonl"
    ]


def _link(journal: Path) -> None:
    journal.rename(journal.parent.parent / "elsewhere")
    journal.symlink_to(journal.parent.parent / "elsewhere")


def _loose_link(journal: Path) -> None:
    journal.unlink()
    journal.symlink_to("nowhere")


def _pipe(journal: Path) -> None:
    journal.unlink()
    if sys.platform != "win32":
        os.mkfifo(journal)


def _folder(journal: Path) -> None:
    journal.rename(journal.with_name("x"))
    journal.mkdir()
    journal.with_name("x").rename(journal / "inside")


def _huge(journal: Path) -> None:
    os.truncate(journal, 1 + (1 << 20))


@pytest.mark.skipif(
    sys.platform == "win32", reason="not on Windows: links and pipes as POSIX has them"
)
@pytest.mark.parametrize("odd", [_link, _loose_link, _pipe, _folder, _huge])
def test_what_is_no_journal_at_all_is_left_to_a_person(
    place: Place, odd: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be copied, and between two renames there would be no journal: as if nothing had
    ever been changed.  So it is refused, nothing is followed, and the way on is named."""
    monkeypatch.setattr(files, "MAXIMUM_SIZE", 1 << 20)  # the bound of a journal, too
    changed(place)
    journal = place.store / "journal.jsonl"
    odd(journal)
    program = programs(place)
    kept = blobs(place.store)
    before = snapshot(place.base)
    aside = place.store / "journal.broken-1.jsonl"
    for words in (
        ["history"],
        ["rollback"],
        ["history", "--prune", "--keep", "1"],
        ["history", "--quarantine", "--dry-run"],
        ["history", "--quarantine"],
    ):
        assert_one_clear_error(program(*words), 5, str(journal), f"to {aside}, and go on")
        assert snapshot(place.base) == before
    if odd is _link:  # the other way on
        journal.unlink()
        (place.store.parent / "elsewhere").rename(journal)
        assert program.ok("history", "--json").document["changes"]
        return
    journal.rename(aside)  # as it says
    assert program.ok("history", "--json").document["changes"] == []
    program.ok("install", "--offline", G3)
    program.ok("history", "--prune", "--keep", "0")
    assert blobs(place.store) >= kept


FLIPS = (lambda place: 1 << place % 8, lambda place: 0xFF)


def test_after_any_damage_of_the_journal_there_is_a_way_on(place: Place, count: Count) -> None:
    """Every byte flipped in two ways, and every truncation: read, put aside where it must be,
    change, undo.  Never another history than a beginning of the true one, and no content lost."""
    place.target.write_bytes(FOREIGN)
    place.install(G2)
    place.install(G3)
    image = capture(place.base)
    now = place.content
    name = os.path.relpath(place.store / "journal.jsonl", place.base)
    _, mode, whole = image[name]
    told = list(Store(place.store).changes(str(place.target)))
    kept = blobs(place.store)
    damages = [whole[:size] for size in range(len(whole))]
    for flip in FLIPS:
        for at in range(len(whole)):
            damages.append(whole[:at] + bytes([whole[at] ^ flip(at)]) + whole[at + 1 :])
    aside = 0
    ways = set()
    for number, damaged in enumerate(damages):
        (place.store / "journal.jsonl").write_bytes(damaged)
        store = Store(place.store, QUICK)
        try:
            found = [entry.change for entry in store.changes(str(place.target))]
        except StoreTampered:
            aside += 1
            assert store.damage() is not None
            if number % 37:  # the way on is the same for all; some go it
                continue
            assert place.quarantine(QUICK).status == "changed"
            (broken,) = place.store.glob("journal.broken-*")
            assert broken.read_bytes() == damaged
            found = []
        assert found == [entry.change for entry in told[: len(found)]], number
        if number % 37 and len(found) == len(told):
            continue
        assert place.remove(G2, QUICK).status == "changed"
        assert place.rollback(disk=QUICK).status == "changed"
        assert place.content == now
        assert blobs(place.store) >= kept
        ways.add(len(found))
        restore(image, place.base)
    assert mode == 0o600
    assert ways == {0, 1, 2}
    count("history: damaged journals, each read", len(damages))
    count("history: damaged journals, refused with exit code 5", aside)


# --- what was interrupted, and what is damaged ----------------------------------------------------


def test_an_interrupted_change_is_in_the_history_only_where_it_happened(place: Place) -> None:
    changed(place)
    content = place.content
    program = programs(place)
    with Store(place.store).writing() as session:
        _begin(session, place.target, content, b"new")
    before = snapshot(place.base)
    assert [each["id"] for each in program.ok("history", "--json").document["changes"]][-1] == 5
    assert_one_clear_error(program("history", "6"), 2, "its changes: 1 to 5")
    assert snapshot(place.base) == before  # to look writes nothing
    place.target.write_bytes(b"new")
    assert [each["id"] for each in program.ok("history", "--json").document["changes"]][-1] == 6
    place.target.unlink()
    place.target.mkdir()
    document = program.ok("history", "--json").document
    assert [each["code"] for each in document["findings"]] == ["change-interrupted"]
    assert "change 6 was interrupted" in program.ok("history").err


def test_where_a_content_is_damaged_the_next_whole_one_is_named_and_comes_back(
    place: Place,
) -> None:
    stood = changed(place)
    program = programs(place)
    for content in stood[3:]:
        blob = place.store / "blobs" / f"{digest(content or b'')}.crt"
        blob.chmod(0o600)
        blob.write_bytes(b"x")
    done = program("rollback")
    assert_one_clear_error(done, 5, "is not what was kept there", "qs-certs rollback 3 ")
    program.ok("rollback", "3")
    assert place.content == stood[2]


def test_where_every_content_is_damaged_none_is_named(place: Place) -> None:
    changed(place)
    for blob in (place.store / "blobs").iterdir():
        blob.unlink()
    assert_one_clear_error(programs(place)("rollback"), 5, "no other earlier content is whole")


# --- the law --------------------------------------------------------------------------------------

STEPS: dict[str, Callable[[Place], TargetResult]] = {
    "install G2": lambda place: place.install(G2, disk=QUICK),
    "install G3": lambda place: place.install(G3, disk=QUICK),
    "install G5": lambda place: place.install(G5, disk=QUICK),
    "remove G2": lambda place: place.remove(G2, QUICK),
    "remove G3": lambda place: place.remove(G3, QUICK),
    "rollback": lambda place: place.rollback(force=True, disk=QUICK),
    "rollback to the first": lambda place: place.rollback(_first(place), force=True, disk=QUICK),
    "prune": lambda place: place.prune(2, QUICK),
}


def _first(place: Place) -> int | None:
    return (place.ids or (None,))[0]


def _somebody_else(place: Place, what: str) -> None:
    if what == "edit":
        place.target.parent.mkdir(exist_ok=True)
        with place.target.open("ab") as file:
            file.write(b"\n# somebody else\n")
    else:
        place.target.unlink(missing_ok=True)


@settings(max_examples=40, deadline=None)
@given(
    foreign=st.booleans(),
    steps=st.lists(st.sampled_from([*STEPS, "edit", "delete"]), min_size=1, max_size=9),
)
def test_rollback_to_any_change_brings_back_the_exact_bytes_or_the_absence(
    tmp_path_factory: pytest.TempPathFactory, foreign: bool, steps: list[str]
) -> None:
    """Law L8, after any commands and anybody's changes between them: the state before change k
    comes back for every k that the history lists, and every content that it names is readable."""
    place = Place(tmp_path_factory.mktemp("law") / "base")
    place.target.parent.mkdir(parents=True)
    if foreign:
        place.target.write_bytes(FOREIGN)
    stood: dict[int, bytes | None] = {}
    with place.entered():
        for step in steps:
            if step not in STEPS:
                _somebody_else(place, step)
                continue
            before = place.content
            result = STEPS[step](place)
            assert result.error is None, result.error
            if result.change_id is not None:
                assert result.change_id not in stood
                stood[result.change_id] = before
        listed = place.ids
        assert listed is not None
        assert set(listed) <= stood.keys()
        if "prune" not in steps:
            assert set(listed) == stood.keys()
        store = Store(place.store)
        for entry in store.changes(str(place.target)):
            assert store.content(entry.change.before) == stood[entry.change.id]
            store.content(entry.change.after)
        for identity in listed:
            result = place.rollback(identity, force=True, disk=QUICK)
            assert result.error is None, result.error
            assert place.content == stood[identity], (identity, steps)
