"""The states from which a change starts, and what must hold after it died anywhere.

A scenario lives in one folder, since the journal names targets by their absolute path; its
starting state is an `Image`, made once by real commands and put back before each run.
"""

# Thousands of trees are put back: the calls themselves are faster.
from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import ssl
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from qs_certs import catalogue, changes, upkeep
from qs_certs.changes import Target, Wanted
from qs_certs.errors import ChangedUnconfirmed, QsCertsError, StoreTampered
from qs_certs.files import DISK, Disk
from qs_certs.results import ChangeReport, HistoryReport, Source, TargetResult
from qs_certs.store import Store

ROOTS = Path(changes.__file__).parent / "roots"
G2 = "digicert-global-root-g2"
G3 = "digicert-global-root-g3"
LITTER = re.compile(r"^\..*\.qs-[0-9a-f]{8}$")


def pem(name: str) -> bytes:
    return (ROOTS / f"{name}.pem").read_bytes()


FOREIGN = b"# the platform team's\n" + pem("microsoft-rsa-root-ca-2017").rstrip(b"\n")
"""Somebody's own file, without a newline at its end."""

Entry = tuple[str, int, bytes]
"""Kind ("file", "link" or "folder"), mode, and content or where the link leads."""
Image = dict[str, Entry]
"""All there is in a folder, by relative path; a folder stands before what it holds."""


def capture(base: Path) -> Image:
    found: Image = {}
    _capture(str(base), "", found)
    return found


def _capture(folder: str, prefix: str, found: Image) -> None:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda each: each.name):
            relative = prefix + entry.name
            mode = stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode)
            if entry.is_symlink():
                found[relative] = ("link", 0, os.fsencode(os.readlink(entry.path)))
            elif entry.is_dir():
                found[relative] = ("folder", mode, b"")
                _capture(entry.path, relative + "/", found)
            else:
                with open(entry.path, "rb", buffering=0) as file:
                    found[relative] = ("file", mode, file.read())


def restore(image: Image, base: Path) -> None:
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir()
    for relative, (kind, mode, content) in image.items():
        path = os.path.join(base, relative)
        if kind == "link":
            os.symlink(os.fsdecode(content), path)
        elif kind == "folder":
            os.mkdir(path, mode)
        else:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0), mode)
            os.write(fd, content)
            os.close(fd)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one scenario happens."""

    base: Path
    store_at: str = "home/.local/share/qs-certs"

    @property
    def target(self) -> Path:
        return self.base / "home" / ".postgresql" / "root.crt"

    @property
    def store(self) -> Path:
        return self.base / self.store_at

    @property
    def content(self) -> bytes | None:
        """What libpq would read."""
        try:
            return self.target.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    @property
    def ids(self) -> tuple[int, ...] | None:
        """The changes that the history of the target lists; None where it is damaged."""
        try:
            return tuple(Store(self.store).changes(str(self.target)).ids)
        except StoreTampered:
            return None

    @property
    def changes(self) -> int:
        """How many changes the history of the target lists."""
        return len(self.ids or ())

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        with mock.patch.dict(os.environ, {"QS_CERTS_STORE": str(self.store)}):
            yield

    # Commands, as the program makes them, on a disk of choice.

    def _one(self, report: ChangeReport) -> TargetResult:
        (result,) = report.targets
        return result

    def install(self, *names: str, disk: Disk = DISK) -> TargetResult:
        def wanted(name: str) -> Wanted:
            root = catalogue.ROOTS[name]
            der = ssl.PEM_cert_to_DER_cert(pem(name).decode())

            def fetch() -> tuple[bytes, Source, str | None]:
                return der, "embedded", None

            return Wanted(root.sha256, fetch)

        wants = tuple(wanted(name) for name in names)
        return self._one(changes.install((Target(str(self.target)),), wants, disk=disk))

    def remove(self, name: str, disk: Disk = DISK) -> TargetResult:
        pins = (catalogue.ROOTS[name].sha256,)
        return self._one(changes.remove((Target(str(self.target)),), pins, disk=disk))

    def rollback(
        self, identity: int | None = None, *, force: bool = False, disk: Disk = DISK
    ) -> TargetResult:
        return self._one(
            changes.rollback((Target(str(self.target)),), identity=identity, force=force, disk=disk)
        )

    def _upkeep(self, work: Callable[[], HistoryReport]) -> TargetResult:
        try:
            work()
        except QsCertsError as error:
            return TargetResult(str(self.target), None, "failed", error=error)
        return TargetResult(str(self.target), None, "changed")

    def prune(self, keep: int, disk: Disk = DISK) -> TargetResult:
        target = Target(str(self.target))
        return self._upkeep(
            lambda: upkeep.prune(target, keep=keep, older_than=None, disk=disk).run()
        )

    def quarantine(self, disk: Disk = DISK) -> TargetResult:
        target = Target(str(self.target))
        return self._upkeep(lambda: upkeep.quarantine(target, disk=disk).run())


Command = Callable[[Place, Disk], TargetResult]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A starting state and a command.

    *words* are the command line of the same command.  *refused*: it is, whatever the disk does.
    *upkeep*: of the store; the target stays as it is.
    """

    name: str
    prepare: Callable[[Place], None]
    command: Command
    words: tuple[str, ...]
    store_at: str = "home/.local/share/qs-certs"
    refused: bool = False
    upkeep: bool = False


def _nothing(place: Place) -> None:
    (place.base / "home").mkdir()


def _empty_folder(place: Place) -> None:
    place.target.parent.mkdir(parents=True, mode=0o700)


def _foreign(place: Place) -> None:
    _empty_folder(place)
    place.target.write_bytes(FOREIGN)


def _linked(place: Place) -> None:
    _empty_folder(place)
    behind = place.base / "home" / "dotfiles"
    behind.mkdir()
    (behind / "pg-roots.crt").write_bytes(FOREIGN)
    place.target.symlink_to(os.path.join("..", "dotfiles", "pg-roots.crt"))


def _then(first: Callable[[Place], None], *commands: Command) -> Callable[[Place], None]:
    def prepare(place: Place) -> None:
        first(place)
        for command in commands:
            result = command(place, DISK)
            assert result.status == "changed", result

    return prepare


def _install(place: Place, disk: Disk) -> TargetResult:
    return place.install(G2, disk=disk)


def _install_second(place: Place, disk: Disk) -> TargetResult:
    return place.install(G3, disk=disk)


def _remove(place: Place, disk: Disk) -> TargetResult:
    return place.remove(G2, disk)


def _rollback(place: Place, disk: Disk) -> TargetResult:
    return place.rollback(disk=disk)


def _rollback_first(place: Place, disk: Disk) -> TargetResult:
    return place.rollback(1, disk=disk)


def _force(place: Place, disk: Disk) -> TargetResult:
    return place.rollback(force=True, disk=disk)


def _drifted(place: Place) -> None:
    _then(_foreign, _install)(place)
    with place.target.open("ab") as file:
        file.write(b"# somebody else was here\n" + pem(G3))


def _damaged(place: Place) -> None:
    _then(_foreign, _install, _install_second)(place)
    journal = place.store / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b"install", b"instill", 1))


def _install_third(place: Place, disk: Disk) -> TargetResult:
    return place.install("digicert-tls-rsa4096-root-g5", disk=disk)


def _prune(place: Place, disk: Disk) -> TargetResult:
    return place.prune(1, disk)


def _quarantine(place: Place, disk: Disk) -> TargetResult:
    return place.quarantine(disk)


INSTALL = ("install", "--offline")
SCENARIOS = (
    Scenario("no folder", _nothing, _install, INSTALL),
    Scenario("no file", _empty_folder, _install, INSTALL),
    Scenario("foreign file", _foreign, _install, INSTALL),
    Scenario("ours", _then(_nothing, _install), _install_second, (*INSTALL, G3)),
    Scenario("already there", _then(_foreign, _install), _install, INSTALL),
    Scenario("link", _linked, _install, INSTALL),
    Scenario("store elsewhere", _foreign, _install, INSTALL, store_at="else where/deep/store"),
    Scenario("rollback", _then(_foreign, _install), _rollback, ("rollback",)),
    Scenario("rollback to absence", _then(_nothing, _install), _rollback, ("rollback",)),
    Scenario("redo", _then(_foreign, _install, _rollback), _rollback, ("rollback",)),
    Scenario(
        "rollback past two",
        _then(_foreign, _install, _install_second),
        _rollback_first,
        ("rollback", "1"),
    ),
    Scenario("drift", _drifted, _rollback, ("rollback",), refused=True),
    Scenario("drift, forced", _drifted, _force, ("rollback", "--force")),
    Scenario("remove", _then(_foreign, _install), _remove, ("remove",)),
    Scenario("remove the last", _then(_nothing, _install), _remove, ("remove",)),
    Scenario(
        "prune",
        _then(_foreign, _install, _install_second, _rollback, _install_third),
        _prune,
        ("history", "--prune", "--keep", "1"),
        upkeep=True,
    ),
    Scenario("quarantine", _damaged, _quarantine, ("history", "--quarantine"), upkeep=True),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


@dataclass(frozen=True, slots=True)
class Stage:
    """A scenario with its starting state made, and what the command does where nothing fails.

    *old* and *new* are the target's content before and after; *undone* what a rollback then
    brings back; *ids* are the changes that the history lists at the start, *left* those at the end
    (None: the journal is damaged).
    """

    scenario: Scenario
    place: Place
    image: Image
    old: bytes | None
    new: bytes | None
    undone: bytes | None
    ids: tuple[int, ...] | None
    left: tuple[int, ...] | None

    def reset(self, image: Image | None = None) -> None:
        restore(self.image if image is None else image, self.place.base)


def stage(scenario: Scenario, base: Path) -> Stage:
    """Make the starting state of *scenario* in the folder *base*."""
    place = Place(base, scenario.store_at)
    base.mkdir(exist_ok=True)
    with place.entered():
        scenario.prepare(place)
        image = capture(base)
        old = place.content
        ids = place.ids
        result = scenario.command(place, DISK)
        new = place.content
        left = place.ids
        if scenario.refused:
            assert result.status == "failed", result
            return Stage(scenario, place, image, old, new, old, ids, left)
        assert result.error is None, result
        place.rollback()
        undone = place.content
    return Stage(scenario, place, image, old, new, undone, ids, left)


# --- what must hold -----------------------------------------------------------------------------


class Violation(AssertionError):
    """A promise was broken."""


def hold(condition: object, promise: str, *facts: object) -> None:
    if not condition:
        raise Violation(": ".join((promise, *map(repr, facts))))


def judge_answer(stage: Stage, error: BaseException | None) -> None:
    """What the command said must be what it did.  *error* is None for success."""
    now: object = stage.place.content
    old: object = stage.old
    new: object = stage.new
    if stage.scenario.upkeep:
        hold(now == old, "upkeep changed the target", now)
        now, old, new = stage.place.ids, stage.ids, stage.left
    if error is None:
        hold(now == new, "success, but it is not the new one", now)
    elif isinstance(error, ChangedUnconfirmed):
        hold(now == new, "said to be changed, but is not", error)
    elif isinstance(error, QsCertsError):
        hold(now == old, "said that nothing was changed", error)
    else:
        raise Violation(f"not an error of ours: {error!r}") from error


def examine(stage: Stage) -> None:
    """After any fault, with a healthy disk: every promise about the target and its history."""
    place = stage.place
    if stage.scenario.upkeep:
        _examine_upkeep(stage)
        return
    now = place.content
    hold(now in (stage.old, stage.new), "neither old nor new", now)
    linked = stage.image.get(os.path.relpath(place.target, place.base), ("", 0, b""))[0] == "link"

    before = _identity(place.target)
    with Store(place.store).writing():
        pass
    hold(_identity(place.target) == before, "recovery wrote the target")
    history_holds(place)
    happened = place.changes - len(stage.ids or ())
    hold(happened == int(now != stage.old), "the history tells another story", happened)
    hold(litter(place.base) == [], "litter", litter(place.base))

    if stage.scenario.refused:
        return
    if now == stage.old != stage.new:
        result = stage.scenario.command(place, DISK)
        hold(result.status == "changed", "the same command again", result)
    elif stage.scenario.words[0] == "install":
        result = stage.scenario.command(place, DISK)
        hold(result.status == "unchanged", "installed, and changed again", result)
        hold(_identity(place.target) == before, "unchanged, but written")
    hold(place.content == stage.new, "not the new one in the end", place.content)

    result = place.rollback()
    hold(result.status == "changed", "rollback", result)
    hold(place.content == stage.undone, "rollback brought something else", place.content)
    hold(place.target.is_symlink() == linked, "a link became a file")
    if "home/.postgresql" not in stage.image and sys.platform != "win32":
        hold(not place.target.parent.exists(), "a folder of ours stayed behind")
    history_holds(place)
    hold(litter(place.base) == [], "litter", litter(place.base))


def _examine_upkeep(stage: Stage) -> None:
    """The target is untouched; its history is the old one or the new one, and the new one works."""
    place = stage.place
    identity = _identity(place.target)
    hold(place.content == stage.old, "upkeep changed the target", place.content)
    hold(place.ids in (stage.ids, stage.left), "neither the old nor the new history", place.ids)
    pruned = stage.ids is not None
    if pruned:
        history_holds(place)

    result = stage.scenario.command(place, DISK)
    hold(result.error is None, "the same command again", result)
    hold(place.ids == stage.left, "not the new history in the end", place.ids)
    hold(_identity(place.target) == identity, "upkeep wrote the target")
    hold(litter(place.base) == [], "litter", litter(place.base))
    history_holds(place)
    blobs = {path.name[:64] for path in (place.store / "blobs").iterdir()}
    named = {
        each.decode() for each in _HASHES.findall((place.store / "journal.jsonl").read_bytes())
    }
    broken = sorted(path.name for path in place.store.glob("journal.broken-*"))
    if pruned:
        hold(blobs == named & blobs, "a content that nothing names stayed", blobs - named)
    else:
        hold(broken == ["journal.broken-1.jsonl"], "not one damaged journal aside", broken)
        aside = (place.store / broken[0]).read_bytes()
        journal = os.path.relpath(place.store / "journal.jsonl", place.base)
        hold(aside == stage.image[journal][2], "the damaged journal is not what it was")
        hold(set(_blobs(stage.image)) <= blobs, "a content is gone", blobs)
        result = place.remove(G2)
        hold(result.change_id == 3, "a number was given twice", result)

    result = place.rollback()
    hold(result.status == "changed", "rollback", result)
    undone = stage.undone if pruned else stage.old
    hold(place.content == undone, "rollback brought something else", place.content)
    if pruned:
        result = place.rollback(1)
        hold(place.content == FOREIGN, "the first content is gone", result)
    history_holds(place)


_HASHES = re.compile(rb'"([0-9a-f]{64})"')


def _blobs(image: Image) -> Iterator[str]:
    return (os.path.basename(path)[:64] for path in image if "/blobs/" in path)


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode


def litter(base: Path) -> list[str]:
    found = (name for _, _, names in os.walk(base) for name in names)
    return [name for name in found if LITTER.match(name)]


def history_holds(place: Place) -> None:
    """Read by this function's own code: the chain, closed records, and every content named."""
    journal = place.store / "journal.jsonl"
    raw = journal.read_bytes() if journal.exists() else b""
    before = b""
    opened: set[int] = set()
    whole = raw[: raw.rfind(b"\n") + 1]
    lines = whole.splitlines()
    for number, line in enumerate(lines):
        body, _, checksum = line.rpartition(b" ")
        if hashlib.sha256(body).hexdigest().encode() != checksum:
            hold(number == len(lines) - 1, "the chain is broken", line)
            break
        record = json.loads(body)
        named = hashlib.sha256(before).hexdigest()
        hold(record["prev"] == named, "the chain is broken", record)
        before += line + b"\n"
        if record["kind"] != "change":
            opened.discard(record["id"])
            continue
        opened.add(record["id"])
        for name in (record["before"], record["after"]):
            if name is not None:
                blob = place.store / "blobs" / f"{name}.crt"
                hold(blob.exists(), "a content is gone", record)
                hold(hashlib.sha256(blob.read_bytes()).hexdigest() == name, "a blob is damaged")
    hold(not opened, "a record stayed open", opened)
