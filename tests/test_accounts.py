"""--user and --all-users: real accounts, real homes, and root's rights given up for each.

The accounts that `--all-users` finds on the machine that runs the tests are somebody's: the run is
told of those that were made for it, and of the system's own.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import jsonschema
import pytest

import qs_certs
from qs_certs import catalogue
from qs_certs.accounts import Account
from qs_certs.rights import AT_ONCE
from tests.faults.counting import Count, count  # noqa: F401 - a fixture
from tests.libpq.servers import Server, hold, serving
from tests.people import empty_home, made, real_sudo
from tests.program import Done, Program, assert_one_clear_error, snapshot
from tests.shapes import SHAPES

if sys.platform == "win32":
    pytest.skip("only on POSIX", allow_module_level=True)

PACKAGE = Path(qs_certs.__file__).parent
G2 = catalogue.ROOTS[catalogue.DEFAULT]
EMBEDDED = (PACKAGE / "roots" / f"{G2.name}.pem").read_bytes()

# The user database with nobody in it but the system's accounts and ours.
_MACHINE = """\
import pwd, sys
from qs_certs import cli, userlist
ours = sys.argv.pop(1).split()
everybody, owners = pwd.getpwall, userlist._owners
pwd.getpwall = lambda: [e for e in everybody() if e.pw_name in ours or e.pw_uid < 1000]
userlist._owners = lambda folder, kind_of: ()
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """Root's view of a machine with these people."""

    people: tuple[Account, ...]
    root: Program
    before: str = ""
    """Python that runs before the program."""
    env: dict[str, str] = field(default_factory=dict)

    def command(self, *words: str) -> list[str]:
        names = " ".join(account.name for account in self.people)
        return [sys.executable, "-c", f"{_MACHINE}{self.before}\ncli.main()", names, *words]

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*words),
            env={**self.root.environment, **self.env},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __call__(self, *words: str) -> Done:
        with self.start(*words) as process:
            out, err = process.communicate(timeout=300)
        return Done(process.returncode, out, err)

    def with_code(self, code: str) -> Machine:
        return Machine(self.people, self.root, code, self.env)


@pytest.fixture(scope="module")
def accounts_made() -> Iterator[list[Account]]:
    with made(["ana", "ben", "cam"]) as accounts:
        yield accounts


@pytest.fixture
def people(accounts_made: list[Account]) -> tuple[Account, ...]:
    """Ana, Ben and Cam, with empty homes."""
    for account in accounts_made:
        empty_home(account)
    return tuple(accounts_made)


@pytest.fixture
def machine(people: tuple[Account, ...], tmp_path: Path) -> Machine:
    home = tmp_path / "root"
    home.mkdir(mode=0o700)
    return Machine(people, Program(home))


def file_of(account: Account) -> Path:
    return Path(account.home, ".postgresql", "root.crt")


def store_of(account: Account) -> Path:
    return Program(Path(account.home)).store


def owners_in(home: str | Path) -> set[tuple[int, int]]:
    places = [Path(home), *Path(home).rglob("*")]
    return {(place.lstat().st_uid, place.lstat().st_gid) for place in places}


def users(*accounts: Account) -> list[str]:
    return [word for account in accounts for word in ("--user", account.name)]


def valid(document: object, command: str) -> None:
    schema = json.loads((PACKAGE / "schemas" / f"{command}.json").read_text("utf-8"))
    jsonschema.Draft202012Validator(schema).validate(document)


# --- everybody ----------------------------------------------------------------------------------


def test_all_users_get_the_root_and_everything_belongs_to_them(machine: Machine) -> None:
    before = snapshot(machine.root.home)
    done = machine("install", "--offline", "--all-users", "--json")
    assert done.code == 0, done
    valid(done.document, "install")
    targets = done.document["targets"]
    assert [each["user"] for each in targets] == [each.name for each in machine.people]
    assert {each["status"] for each in targets} == {"changed"}
    for account in machine.people:
        assert file_of(account).read_bytes() == EMBEDDED
        assert (store_of(account) / "journal.jsonl").exists()
        assert owners_in(account.home) == {(account.uid, account.gid)}
        assert stat.S_IMODE(file_of(account).stat().st_mode) == 0o644
        assert stat.S_IMODE(file_of(account).parent.stat().st_mode) == 0o700
    assert snapshot(machine.root.home) == before


def test_every_command_takes_accounts_and_rollback_ends_where_it_began(machine: Machine) -> None:
    homes = [snapshot(Path(account.home)) for account in machine.people]
    assert machine("check", "--all-users").code == 1
    assert machine("install", "--offline", "--all-users").code == 0
    untouched = [snapshot(Path(account.home)) for account in machine.people]
    done = machine("install", "--all-users")
    assert done.out.count("nothing to do") == len(machine.people)
    assert "\n3 unchanged" in done.out
    assert done.err == ""
    assert [snapshot(Path(account.home)) for account in machine.people] == untouched
    done = machine("check", "--all-users")
    assert (done.code, done.out.count("is there, and the file loads")) == (0, 3)
    assert "\n3 ok" in done.out
    assert machine("list", "--all-users").out.count("DigiCert Global Root G2") == 3
    for account in machine.people:
        assert f"user {account.name}\n{file_of(account)}" in machine("history", "--all-users").out
    for words in (["remove"], ["rollback"], ["rollback"]):
        done = machine(*words, "--all-users")
        assert (done.code, "\n3 changed" in done.out) == (0, True), done
    for account, before in zip(machine.people, homes, strict=True):
        shutil.rmtree(Path(account.home, ".local"))
        now = snapshot(Path(account.home))
        assert now.keys() == before.keys()


def test_what_is_in_a_user_s_file_is_decoded_with_that_user_s_rights(machine: Machine) -> None:
    ana, ben, _ = machine.people
    assert machine("install", "--offline", *users(ana, ben)).code == 0
    file_of(ben).write_bytes(b"nothing in it")
    told = machine.with_code(
        "import os; from qs_certs import reading\n"
        "reading._described = lambda der: (f'seen as {os.geteuid()}', None, None)\n"
    )
    assert f"seen as {ana.uid}" in told("list", *users(ana)).out
    assert "seen as 0" in told("list", "--target", str(file_of(ana))).out  # the control
    # Without the stand-in: the child finds all that it needs, OpenSSL's opinion included.
    assert "DigiCert Global Root G2" in machine("list", *users(ana)).out
    assert "libpq refuses this file" in machine("list", *users(ben)).err


def test_the_undo_names_only_those_who_were_changed(machine: Machine) -> None:
    """A rollback for everybody would undo an earlier change of the others."""
    ana, *others = machine.people
    assert machine("install", "--offline", *users(ana)).code == 0
    done = machine("install", "--offline", "--all-users")
    assert "\n2 changed, 1 unchanged" in done.out
    undo = re.search(r"^  undo    qs-certs (.*)$", done.out, re.MULTILINE)
    assert undo is not None
    assert undo[1].split() == ["rollback", *users(*others)]
    assert machine(*undo[1].split()).code == 0
    assert [file_of(account).exists() for account in machine.people] == [True, False, False]


def test_the_one_undo_of_all_is_in_the_document_too(machine: Machine) -> None:
    ana, ben, _ = machine.people
    done = machine("install", "--offline", "--json", *users(ana, ben))
    valid(done.document, "install")
    undo = done.document["undo"]
    assert undo == f"qs-certs rollback {' '.join(users(ana, ben))}"
    assert machine(*undo.split()[1:]).code == 0
    assert not file_of(ana).exists()
    single = machine.root.ok("install", "--offline", "--json").document
    assert (single["undo"], single["targets"][0]["undo"]) == (None, "qs-certs rollback")


def test_names_are_taken_once_and_in_their_order(machine: Machine) -> None:
    ana, ben, _ = machine.people
    done = machine("install", "--offline", "--json", *users(ben, ana, ben))
    assert [each["user"] for each in done.document["targets"]] == [ben.name, ana.name]


def test_root_itself_can_be_named(machine: Machine, tmp_path: Path) -> None:
    """Its home is that of the password database, not of HOME."""
    done = machine("list", "--user", "root", "--json")
    import pwd

    assert done.document["target"] == f"{pwd.getpwnam('root').pw_dir}/.postgresql/root.crt"


def test_dedicated_files_are_for_everybody_too(machine: Machine) -> None:
    done = machine("install", "--offline", "--dedicated", "--all-users")
    assert done.code == 0, done
    for account in machine.people:
        assert not file_of(account).exists()
        assert file_of(account).with_name("qs-root.crt").read_bytes() == EMBEDDED
    assert machine("rollback", "--dedicated", "--all-users").code == 0
    assert not any(file_of(account).parent.exists() for account in machine.people)


def test_a_dry_run_changes_nobody(machine: Machine) -> None:
    before = [snapshot(Path(account.home)) for account in machine.people]
    done = machine("install", "--offline", "--dry-run", "--all-users")
    assert done.code == 1
    assert "\n3 would change" in done.out
    assert [snapshot(Path(account.home)) for account in machine.people] == before


def test_a_source_that_is_read_once_serves_everybody(machine: Machine) -> None:
    source = machine.root.home / "root.pem"
    os.mkfifo(source)
    with machine.start("install", "--from", str(source), "--all-users") as process:
        source.write_bytes(EMBEDDED)  # a second reader would wait for ever
        assert process.wait(30) == 0
    assert all(file_of(account).read_bytes() == EMBEDDED for account in machine.people)


def test_a_wrong_source_touches_nobody(machine: Machine) -> None:
    before = [snapshot(Path(account.home)) for account in machine.people]
    wrong = PACKAGE / "roots" / "digicert-global-root-g3.pem"
    assert_one_clear_error(machine("install", "--from", str(wrong), "--all-users"), 5)
    assert [snapshot(Path(account.home)) for account in machine.people] == before


# --- one failure --------------------------------------------------------------------------------


def _open_to_the_group(home: Path) -> None:
    home.chmod(0o775)


def _open_to_all(home: Path) -> None:
    home.chmod(0o757)


def _of_root(home: Path) -> None:
    os.chown(home, 0, 0)


def _missing(home: Path) -> None:
    home.rmdir()


def _no_folder(home: Path) -> None:
    home.rmdir()
    home.write_bytes(b"")


def _folder_open_to_all(home: Path) -> None:
    folder = home / ".postgresql"
    folder.mkdir()
    os.chown(folder, home.stat().st_uid, home.stat().st_gid)
    folder.chmod(0o777)


ODD_HOMES = pytest.mark.parametrize(
    ("spoil", "why"),
    [
        pytest.param(_open_to_the_group, "can be changed by others", id="group may write"),
        pytest.param(_open_to_all, "can be changed by others", id="all may write"),
        pytest.param(_of_root, "does not belong", id="of another"),
        pytest.param(_missing, "cannot be used", id="missing"),
        pytest.param(_no_folder, "is not a folder", id="no folder"),
        pytest.param(_folder_open_to_all, "can be changed by others", id="folder open to all"),
    ],
)


@ODD_HOMES
def test_an_odd_home_is_refused_and_the_others_go_on(
    machine: Machine, spoil: Callable[[Path], None], why: str
) -> None:
    ana, ben, cam = machine.people
    spoil(Path(ben.home))
    parent = Path(ben.home).parent
    before = {name: facts for name, facts in snapshot(parent).items() if ben.name in name}
    done = machine("install", "--offline", *users(ana, ben, cam))
    assert done.code == 6, done
    *_, failure = [line for line in done.out.splitlines() if not line.startswith("    fix ")]
    assert f"(user {ben.name}): not changed" in failure
    assert why in failure
    assert "\n2 changed, 1 failed\n" in done.out
    assert "qs-certs: error: failed for 1 of 3 users" in done.err
    assert file_of(ana).read_bytes() == file_of(cam).read_bytes() == EMBEDDED
    after = {name: facts for name, facts in snapshot(parent).items() if ben.name in name}
    assert after == before

    done = machine("check", "--json", *users(ana, ben, cam))
    valid(done.document, "check")
    assert (done.code, done.document["exit_code"]) == (3, 3)
    found = {each["user"]: each["findings"][0]["code"] for each in done.document["accounts"]}
    assert found == {ana.name: "root-present", ben.name: "home-refused", cam.name: "root-present"}
    assert done.document["root_file"]["path"] == str(file_of(ben))

    empty_home(ben)  # a control: nothing else was wrong
    assert machine("install", "--offline", *users(ana, ben, cam)).code == 0
    assert file_of(ben).read_bytes() == EMBEDDED


def test_a_damaged_file_is_that_user_s_failure_and_the_fix_names_the_user(machine: Machine) -> None:
    ben = machine.people[1]
    file_of(ben).parent.mkdir()
    file_of(ben).write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n")
    for path in (file_of(ben).parent, file_of(ben)):
        os.chown(path, ben.uid, ben.gid)
    done = machine("install", "--offline", "--all-users")
    assert done.code == 1, done
    fix = re.search(r"^    fix   qs-certs (.*)$", done.out, re.MULTILINE)
    assert fix is not None
    assert fix[1].split() == ["install", "--repair", *users(ben)]
    assert machine(*fix[1].split(), "--offline").code == 0
    assert machine("check", "--all-users").code == 0


def test_each_hint_is_for_the_file_that_it_was_said_of(machine: Machine) -> None:
    ben = machine.people[1]
    assert machine("install", "--offline", "--dedicated", *users(ben)).code == 0
    own = file_of(ben).with_name("qs-root.crt")
    own.write_bytes(own.read_bytes() + b"-----BEGIN CERTIFICATE-----\nAAAA\n")
    mend = f"qs-certs install --repair --dedicated --user {ben.name}"
    assert f"hint: {mend}" in machine("list", "--dedicated", *users(ben)).err
    done = machine("install", "--offline", "--dedicated", *users(ben))
    assert (done.code, f"fix   {mend}" in done.out) == (1, True), done
    assert machine(*mend.split()[1:], "--offline").code == 0
    assert own.read_bytes() == EMBEDDED
    assert not file_of(ben).exists()

    journal = store_of(ben) / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"install"', b'"INSTALL"'))
    done = machine("history", *users(ben))
    assert done.code == 5, done
    way_on = f"qs-certs history --quarantine --user {ben.name}"
    assert f"fix   {way_on}   #" in done.out
    assert machine(*way_on.split()[1:]).code == 0
    assert machine("history", *users(ben)).code == 0


def test_the_worst_account_decides_and_each_has_its_own_entry(machine: Machine) -> None:
    ana, ben, cam = machine.people
    assert machine("install", "--offline", *users(ana, cam)).code == 0
    Path(cam.home, ".postgresql", "root.crt").chmod(0)
    done = machine("check", "--all-users", "--json")
    valid(done.document, "check")
    codes = {each["user"]: each["exit_code"] for each in done.document["accounts"]}
    assert codes == {ana.name: 0, ben.name: 1, cam.name: 4}
    assert done.code == 4
    fixes = [
        fix for each in done.document["accounts"] for one in each["findings"] for fix in one["fix"]
    ]
    assert f"qs-certs install --user {ben.name}" in fixes
    done = machine("check", "--all-users", "--format", "nagios")
    assert (done.code, done.out.count("\n")) == (3, 1)
    assert done.out.startswith(
        "QS-CERTS UNKNOWN - 3 users: 1 ok, 1 need action, 1 could not be told"
    )
    done = machine("check", "--all-users", "--format", "intune")
    assert (done.code, done.out.count("\n")) == (4, 1)
    assert ana.name not in done.out
    assert ben.name in done.out


# --- wrong usage --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param("install --offline ANA --user qs-nobody", "no user qs-nobody", id="unknown"),
        pytest.param("remove --user qs-nobody ANA", "no user qs-nobody", id="unknown first"),
        pytest.param("install --offline ANA --target x", "--target", id="and a file"),
        pytest.param("check ANA --target x", "--target", id="check and a file"),
        pytest.param("install --offline ANA --impact", "--impact", id="impact"),
        pytest.param("rollback 1 ANA BEN", "history of their own", id="number of a change"),
        pytest.param("history 1 --all-users", "history of their own", id="number in history"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_changed(
    machine: Machine, words: str, told: str
) -> None:
    ana, ben, _ = machine.people
    words = words.replace("ANA", f"--user {ana.name}").replace("BEN", f"--user {ben.name}")
    before = [snapshot(Path(account.home)) for account in machine.people]
    done = machine(*words.split())
    assert done.code == 2, done
    assert told in done.err
    assert [snapshot(Path(account.home)) for account in machine.people] == before


@pytest.mark.parametrize("command", ["install", "remove", "rollback", "check", "list", "history"])
@pytest.mark.parametrize("option", ["--all-users", "--user"])
def test_only_root_may(people: tuple[Account, ...], command: str, option: str) -> None:
    ana, ben, _ = people
    program = Program(Path(ana.home), user=ana.uid)
    words = [option, ben.name] if option == "--user" else [option]
    done = program.process(command, *words)
    assert_one_clear_error(done, 2, "need root", "run the same command as root")


# --- links --------------------------------------------------------------------------------------


@pytest.fixture
def outside(machine: Machine) -> Path:
    """A folder like /etc: root's, open to all for reading, with a secret in it."""
    etc = Path(machine.people[0].home).with_name("etc")
    shutil.rmtree(etc, ignore_errors=True)
    etc.mkdir(mode=0o755)
    (etc / "shadow").write_bytes(b"root:*:1::::::\n")
    (etc / "shadow").chmod(0o600)
    (etc / "passwd").write_bytes(b"root:x:0:0\n")
    (etc / "sub").mkdir(mode=0o755)
    return etc


Trap = Callable[[Path, Path], None]


def _folder_is_link(home: Path, outside: Path) -> None:
    (home / ".postgresql").symlink_to(outside)


def _file_is_link(name: str) -> Trap:
    def lay(home: Path, outside: Path) -> None:
        (home / ".postgresql").mkdir()
        (home / ".postgresql" / "root.crt").symlink_to(outside / name)

    return lay


def _file_is_hard_link(name: str) -> Trap:
    def lay(home: Path, outside: Path) -> None:
        (home / ".postgresql").mkdir()
        (home / ".postgresql" / "root.crt").hardlink_to(outside / name)

    return lay


def _store_is_link(depth: int) -> Trap:
    def lay(home: Path, outside: Path) -> None:
        path = home.joinpath(*(".local", "share", "qs-certs", "blobs")[:depth])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(outside / "sub")

    return lay


def _home_is_link(home: Path, outside: Path) -> None:
    home.rmdir()
    home.symlink_to(outside)


TRAPS = {
    "folder": _folder_is_link,
    "file to shadow": _file_is_link("shadow"),
    "file to passwd": _file_is_link("passwd"),
    "file to nothing yet": _file_is_link("new"),
    "hard link to shadow": _file_is_hard_link("shadow"),
    "store": _store_is_link(3),
    "folder above the store": _store_is_link(2),
    "data folder": _store_is_link(1),
    "blobs": _store_is_link(4),
    "home": _home_is_link,
}


def lay(trap: Trap, account: Account, outside: Path) -> None:
    """Lay the trap as *account* would have; no folder in it is left to root."""
    trap(Path(account.home), outside)
    for place in Path(account.home).rglob("*"):
        if place.is_symlink() or place.is_dir() or place.stat().st_nlink == 1:
            os.chown(place, account.uid, account.gid, follow_symlinks=False)


@pytest.mark.parametrize("name", TRAPS)
def test_no_link_in_a_home_leads_root_anywhere(machine: Machine, outside: Path, name: str) -> None:
    ana, ben, cam = machine.people
    lay(TRAPS[name], ben, outside)
    before = snapshot(outside)
    for words in (["install", "--offline"], ["remove"], ["rollback"], ["rollback", "--force"]):
        done = machine(*words, *users(ana, ben, cam))
        assert snapshot(outside) == before, words
        if words[0] == "install":
            assert done.code in (4, 6), done
            assert "\n2 changed, 1 failed" in done.out
        assert "root:*" not in done.out + done.err
    for words in (["check"], ["list"], ["history"]):
        done = machine(*words, *users(ana, ben, cam))
        assert "root:*" not in done.out + done.err
    assert snapshot(outside) == before


@pytest.mark.parametrize("name", ["folder", "file to passwd", "file to nothing yet"])
def test_the_trap_is_a_real_one(machine: Machine, outside: Path, name: str) -> None:
    """A control: with root's own rights, the same link leads outside.

    One to a file must be root's then: tests/threats holds that another user's is not followed.
    """
    ben = machine.people[1]
    lay(TRAPS[name], ben, outside)
    if file_of(ben).is_symlink():
        os.chown(file_of(ben), 0, 0, follow_symlinks=False)
    before = snapshot(outside)
    machine("install", "--offline", "--target", str(file_of(ben)))
    assert snapshot(outside) != before


def test_a_hard_link_to_a_readable_file_is_left_as_it_is(machine: Machine, outside: Path) -> None:
    """Its content is everybody's to read; the new file takes the name, and the old stays."""
    ben = machine.people[1]
    lay(_file_is_hard_link("passwd"), ben, outside)
    kept = (outside / "passwd").read_bytes()
    assert machine("install", "--offline", *users(ben)).code == 0
    assert (outside / "passwd").read_bytes() == kept
    assert (outside / "passwd").stat().st_uid == 0
    assert file_of(ben).read_bytes() == kept + EMBEDDED
    assert file_of(ben).stat().st_uid == ben.uid


def test_a_link_within_the_home_is_followed(machine: Machine) -> None:
    """A control: it is where it leads that is looked at."""
    ben = machine.people[1]
    inside = Path(ben.home, "config")
    inside.mkdir()
    os.chown(inside, ben.uid, ben.gid)
    Path(ben.home, ".postgresql").symlink_to(inside)
    assert machine("install", "--offline", *users(ben)).code == 0
    assert (inside / "root.crt").stat().st_uid == ben.uid


TRIES = 300

_FLIPPER = """\
import os, random, sys, time
os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
os.chdir(sys.argv[1])
print("ready", flush=True)
while True:
    try:
        os.rename(".postgresql", "aside")
        os.symlink(sys.argv[3], ".postgresql")
        os.unlink(".postgresql")
        os.rename("aside", ".postgresql")
    except OSError:
        pass
    if random.random() < 0.3:
        time.sleep(random.random() / 10)
"""

_TRIES = """\
import collections
from qs_certs import api
counts = collections.Counter()
name, tries = sys.argv[1], int(sys.argv[2])
for number in range(tries):
    words = (["digicert-global-root-g3"] if number % 2 else [])
    report = (api.install if number % 4 < 2 else api.remove)(words, users=[name], **({"offline": True} if number % 4 < 2 else {}))
    counts[report.status] += 1
import json
print(json.dumps(counts))
sys.exit()
"""


def test_a_folder_that_turns_into_a_link_while_root_works_leads_nowhere(
    machine: Machine,
    outside: Path,
    count: Count,  # noqa: F811
) -> None:
    ben = machine.people[1]
    file_of(ben).parent.mkdir()
    os.chown(file_of(ben).parent, ben.uid, ben.gid)
    before = snapshot(outside)
    flipper = subprocess.Popen(
        [sys.executable, "-c", _FLIPPER, ben.home, str(ben.uid), str(outside)],
        stdout=subprocess.PIPE,
    )
    try:
        assert flipper.stdout is not None
        flipper.stdout.readline()
        ended: Counter[str] = Counter()
        for _ in range(20):  # which of the two is met is chance: until both were
            done = machine.with_code(_TRIES)(ben.name, str(TRIES))
            met = Counter(json.loads(done.out))
            assert met.total() == TRIES, done
            ended.update(met)
            if ended["failed"] and ended["changed"]:
                break
        assert flipper.poll() is None, "it went on to the end"
    finally:
        flipper.kill()
        flipper.wait()
        assert flipper.stdout is not None
        flipper.stdout.close()
    assert snapshot(outside) == before
    assert ended["failed"] > 0, "the link was met"
    assert ended["changed"] > 0, "and the folder, too"
    assert owners_in(ben.home) <= {(ben.uid, ben.gid)}
    count(
        "changes against a folder that turns into a link, none of which led outside",
        ended.total(),
    )


# --- who is meant -------------------------------------------------------------------------------


def test_services_and_homes_on_a_network_are_left_out_unless_they_are_named(
    machine: Machine,
) -> None:
    ana, ben, cam = machine.people
    mounted = f"1 2 0:3 / {ben.home} rw - nfs4 server:/ben rw\n"
    away = machine.with_code(
        "text = userlist._text\n"
        f"userlist._text = lambda path: {mounted!r} if 'mountinfo' in path else text(path)\n"
    )
    with made(["bot"], "/usr/sbin/nologin") as (bot,):
        here = Machine((*machine.people, bot), machine.root, away.before)
        done = here("install", "--offline", "--all-users", "--json")
        assert [each["user"] for each in done.document["targets"]] == [ana.name, cam.name]
        (left_out,) = [e for e in done.document["findings"] if e["code"] == "accounts-left-out"]
        assert f"{ben.name} (has its home on nfs4)" in left_out["message"]
        assert f"{bot.name} (has no login shell)" in left_out["message"]
        assert "system accounts" in left_out["message"]
        assert not file_of(ben).exists()
        assert not file_of(bot).exists()
        assert left_out["message"] in here("install", "--all-users").out

        done = here("install", "--offline", "--all-users", *users(ben, bot), "--json")
        assert done.code == 0, done
        names = [each["user"] for each in done.document["targets"]]
        assert names == [ben.name, bot.name, ana.name, cam.name]
        assert file_of(bot).stat().st_uid == bot.uid


def test_nobody_to_work_for_is_no_error(machine: Machine) -> None:
    """A fresh image, before its first user."""
    nobody = Machine((), machine.root)
    for command in ("install", "remove", "rollback", "check"):
        done = nobody(command, "--all-users", "--json")
        assert done.code == 0, done
        valid(done.document, command)
        assert "no-accounts" in {each["code"] for each in done.document["findings"]}
    assert_one_clear_error(nobody("list", "--all-users"), 2, "no users")


@pytest.mark.parametrize("kept_home", [True, False], ids=["HOME kept", "HOME reset"])
def test_through_sudo_the_named_user_counts_and_not_the_caller(
    machine: Machine, kept_home: bool
) -> None:
    ana, ben, _ = machine.people
    home = ana.home if kept_home else machine.root.home
    env = {**machine.root.environment, "HOME": str(home), "QS_CERTS_STORE": f"{home}/store"}
    variables = [f"{name}={value}" for name, value in env.items()]
    words = ["install", "--offline", *users(ben)]
    before = snapshot(Path(ana.home)), snapshot(machine.root.home)
    with real_sudo(ana) as sudo:
        done = subprocess.run(
            [sudo, "-n", "env", *variables, sys.executable, "-m", "qs_certs", *words],
            env={"PATH": "/usr/bin:/bin"},
            user=ana.uid,
            group=ana.gid,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done
    assert "under sudo" not in done.stdout
    assert file_of(ben).read_bytes() == EMBEDDED
    assert owners_in(ben.home) == {(ben.uid, ben.gid)}
    assert (store_of(ben) / "journal.jsonl").exists(), "not where root's variable says"
    assert (snapshot(Path(ana.home)), snapshot(machine.root.home)) == before


# --- the child ----------------------------------------------------------------------------------


def test_a_bug_in_the_child_is_exit_70_and_the_others_go_on(machine: Machine) -> None:
    ana, ben, cam = machine.people
    broken = machine.with_code(
        "from qs_certs import changes\n"
        "change = changes._change\n"
        "def breaking(path, *words, **more):\n"
        f"    if {ben.name!r} in path: raise ValueError('a secret')\n"
        "    return change(path, *words, **more)\n"
        "changes._change = breaking"
    )
    done = broken("install", "--offline", "--all-users", "--json")
    valid(done.document, "install")
    assert done.code == 70, done
    errors = {each["user"]: each["error"] for each in done.document["targets"]}
    assert errors[ben.name]["code"] == "bug"
    assert "ValueError in breaking:" in errors[ben.name]["why"]
    assert "a secret" not in done.out + done.err
    assert (errors[ana.name], errors[cam.name]) == (None, None)
    assert file_of(cam).exists()
    done = broken("install", "--offline", *users(ben))
    assert done.code == 70
    assert "please report this" in done.out


def test_a_child_that_dies_is_no_success(machine: Machine) -> None:
    dying = machine.with_code(
        "from qs_certs import changes\n"
        "import os, signal\n"
        "changes._change = lambda *words, **more: os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = dying("install", "--offline", *users(machine.people[0]))
    assert done.code == 4, done
    assert "ended without an answer" in done.out


@pytest.mark.parametrize("when", ["before", "after"])
def test_of_a_child_that_is_killed_nobody_says_that_it_changed_nothing(
    machine: Machine, when: str
) -> None:
    """Exit code 6 would mean just that; the command that is named tells old from new."""
    ana, ben, _ = machine.people
    dying = machine.with_code(
        "from qs_certs import files\n"
        "import os, signal\n"
        "replace = files.replace\n"
        "def killed(path, *words, **more):\n"
        f"    fatal = {ana.name!r} in path\n"
        f"    if not fatal or {when!r} == 'after': replace(path, *words, **more)\n"
        "    if fatal: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.replace = killed"
    )
    done = dying("install", "--offline", *users(ana, ben), "--json")
    valid(done.document, "install")
    assert done.code == 4, done
    assert file_of(ana).exists() == (when == "after")
    assert file_of(ben).exists(), "the others go on"
    error = done.document["targets"][0]["error"]
    assert error["code"] == "could-not-tell"
    assert error["message"].endswith("their file is whole, old or new")
    command = error["fix"][0].partition("   #")[0]
    assert command == f"qs-certs history --user {ana.name}"
    told = machine(*command.split()[1:], "--json").document["accounts"][0]
    assert len(told["changes"]) == (when == "after")
    control = machine("install", "--offline", *users(ana), "--json")
    assert control.code == 0
    assert control.document["status"] == ("unchanged" if when == "after" else "changed")


def test_a_process_that_cannot_be_had_is_one_user_s_failure(machine: Machine) -> None:
    ana, ben, cam = machine.people
    crowded = machine.with_code(
        "import os\n"
        "fork, groups, asked = os.fork, os.getgrouplist, []\n"
        "def asking(name, *more):\n"
        "    asked.append(name)\n"
        "    return groups(name, *more)\n"
        "def forking():\n"
        f"    if asked[-1] == {ben.name!r}: raise OSError(11, 'Resource temporarily unavailable')\n"
        "    return fork()\n"
        "os.getgrouplist, os.fork = asking, forking"
    )
    done = crowded("install", "--offline", *users(ana, ben, cam), "--json")
    valid(done.document, "install")
    assert done.code == 6, done
    errors = {each["user"]: each["error"] for each in done.document["targets"]}
    assert (errors[ana.name], errors[cam.name]) == (None, None)
    assert errors[ben.name]["message"] == f"the work for user {ben.name} could not begin"
    assert errors[ben.name]["why"] == "Resource temporarily unavailable"
    assert [file_of(each).exists() for each in (ana, ben, cam)] == [True, False, True]


def test_the_child_imports_nothing_whatever_the_file_is_like(machine: Machine) -> None:
    """It may not be able to read our interpreter's folders any more."""
    ana = machine.people[0]
    file_of(ana).parent.mkdir()
    closed = machine.with_code(
        "from qs_certs import api, inspection, rights\n"
        "become = rights._become\n"
        "class Closed:\n"
        "    def find_spec(self, name, *more): raise MemoryError(name)\n"
        "def becoming(*words):\n"
        "    become(*words)\n"
        "    sys.meta_path.insert(0, Closed())\n"
        "rights._become = becoming\n"
        "name, folder = sys.argv[1:]\n"
        "import os, shutil\n"
        "path = folder + '/.postgresql/root.crt'\n"
        "for shape in sorted(os.listdir('shapes')):\n"
        "    shutil.copy('shapes/' + shape, path)\n"
        "    for repair in (False, True):\n"
        "        report = api.install(offline=True, users=[name], repair=repair)\n"
        "        assert report.exit_code != 70, (shape, report.targets)\n"
        "    shutil.copy('shapes/' + shape, path)\n"
        "    report = inspection.check_accounts(inspection.Question(), [name])\n"
        "    assert report.exit_code != 70, (shape, report)\n"
        "print('done')\n"
        "sys.exit()"
    )
    shapes = machine.root.home / "shapes"
    shapes.mkdir()
    for shape in SHAPES:
        (shapes / f"{shape.number:02}").write_bytes(shape.content)
    closed = Machine(
        closed.people, closed.root, f"import os; os.chdir({str(shapes.parent)!r})\n{closed.before}"
    )
    for place in (file_of(ana).parent,):
        os.chown(place, ana.uid, ana.gid)
    done = closed(ana.name, ana.home)
    assert done.out == "done\n", done


def test_root_s_folder_for_temporary_files_is_not_the_child_s(machine: Machine) -> None:
    closed = machine.root.home / "tmp"
    closed.mkdir(mode=0o700)
    own = Machine(
        machine.people,
        machine.root,
        "import tempfile; assert tempfile.gettempdir() == os.environ['TMPDIR']",
        {"TMPDIR": str(closed)},
    )
    own = Machine(own.people, own.root, f"import os\n{own.before}", own.env)
    done = own("install", "--offline", "--all-users")
    assert done.code == 0, done


@contextlib.contextmanager
def held(account: Account) -> Iterator[None]:
    """Hold the lock of the account's store, so that the work for it waits."""
    store = store_of(account)
    store.mkdir(parents=True)
    for place in (store, *list(store.parents)[:2]):
        os.chown(place, account.uid, account.gid)
    with (store / "lock").open("w") as lock:
        os.chown(store / "lock", account.uid, account.gid)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def waiting_child(process: subprocess.Popen[str], account: Account) -> int:
    """Wait until the child that works for *account* waits for the lock that `held` holds."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            for child in children.read_text().split():
                open_files = {os.readlink(each) for each in Path(f"/proc/{child}/fd").iterdir()}
                if str(store_of(account) / "lock") in open_files:
                    return int(child)
        time.sleep(0.01)
    raise AssertionError("no child waits for the lock")


FEW = pytest.mark.parametrize("at_once", [1, 2], ids=["one at work", "two at work"])


@FEW
def test_ctrl_c_ends_the_work_and_one_document_tells_who_was_reached(
    machine: Machine, at_once: int
) -> None:
    ana, ben, cam = machine.people
    few = machine.with_code(f"from qs_certs import rights; rights.AT_ONCE = {at_once}")
    at_work = [ana, ben][-at_once:]
    with contextlib.ExitStack() as locks:
        for account in at_work:
            locks.enter_context(held(account))
        with few.start("install", "--offline", "--json", "--all-users") as process:
            children = [waiting_child(process, account) for account in at_work]
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            out, err = process.communicate(timeout=20)
    document = json.loads(out)
    valid(document, "install")
    assert (process.returncode, document["exit_code"]) == (130, 130), (out, err)
    ended = {each["user"]: each["error"] and each["error"]["code"] for each in document["targets"]}
    reached = None if at_once == 1 else "interrupted"
    assert ended == {ana.name: reached, ben.name: "interrupted", cam.name: "interrupted"}
    for child in children:
        assert not Path(f"/proc/{child}").exists(), "it was waited for"
    assert [file_of(each).exists() for each in (ana, ben, cam)] == [at_once == 1, False, False]
    assert "nothing was changed" in document["targets"][2]["error"]["message"]
    done = machine("install", "--offline", "--all-users")  # the same command does the rest
    assert f"\n{1 + at_once} changed" in done.out


@FEW
def test_an_interrupt_of_the_parent_alone_waits_for_the_child(
    machine: Machine, at_once: int
) -> None:
    at_work, others = machine.people[:at_once], machine.people[at_once:]
    few = machine.with_code(f"from qs_certs import rights; rights.AT_ONCE = {at_once}")
    with contextlib.ExitStack() as locks:
        for account in at_work:
            locks.enter_context(held(account))
        with few.start("install", "--offline", *users(*machine.people)) as process:
            children = [waiting_child(process, account) for account in at_work]
            process.send_signal(signal.SIGINT)
            time.sleep(0.3)
            assert process.poll() is None
            assert all(Path(f"/proc/{child}").exists() for child in children)
            locks.close()
            out, err = process.communicate(timeout=20)
    assert process.returncode == 130, (out, err)
    assert f"{at_once} changed, {len(others)} not done, interrupted" in out
    assert err.splitlines()[-1] == "qs-certs: interrupted"
    for account in at_work:
        assert file_of(account).read_bytes() == EMBEDDED
        told = machine("history", *users(account), "--json").document["accounts"][0]
        assert len(told["changes"]) == 1
    assert not any(file_of(account).exists() for account in others)


def test_under_sudo_too_the_child_is_waited_for(machine: Machine) -> None:
    ana = machine.people[0]
    env = {"SUDO_UID": str(ana.uid), "SUDO_GID": str(ana.gid), "SUDO_USER": ana.name}
    sudo = Machine(machine.people, machine.root, "", env)
    with held(ana), sudo.start("install", "--offline", "--json") as process:
        child = waiting_child(process, ana)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130, (out, err)
    document = json.loads(out)
    valid(document, "install")
    assert document["error"]["code"] == "interrupted"
    assert not Path(f"/proc/{child}").exists()
    assert not file_of(ana).exists()


def test_an_interrupted_download_is_one_document(machine: Machine) -> None:
    source = machine.root.home / "source"
    os.mkfifo(source)
    process = machine.start("install", "--from", str(source), "--json")
    with process, source.open("wb"):  # it reads: from here on it can be interrupted
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130, (out, err)
    valid(json.loads(out), "install")
    assert json.loads(out)["error"]["code"] == "interrupted"
    assert err == ""


# --- live ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [AT_ONCE, 1], ids=["as it is", "control: one at a time"])
def test_all_accounts_ask_a_server_at_the_same_time(machine: Machine, at_once: int) -> None:
    """It answers nobody before all three have asked; one at a time, two have given up by then."""
    everybody = threading.Barrier(len(machine.people))

    def refuse(connection: socket.socket, _server: Server) -> None:
        connection.recv(8)
        with contextlib.suppress(threading.BrokenBarrierError):
            everybody.wait(60)
        connection.sendall(b"N")

    few = machine.with_code(f"from qs_certs import rights; rights.AT_ONCE = {at_once}")
    patience = "30" if at_once > 1 else "1"
    with serving(refuse) as server:
        try:
            words = ("check", f"127.0.0.1:{server.port}", "--all-users", "--timeout", patience)
            done = few(*words, "--json")
        finally:
            everybody.abort()
    valid(done.document, "check")
    codes = [{one["code"] for one in each["findings"]} for each in done.document["accounts"]]
    answered = ["server-without-tls" in each for each in codes]
    assert answered == ([True] * 3 if at_once > 1 else [False, False, True]), codes


def test_silent_servers_do_not_add_up(machine: Machine) -> None:
    """Each account of three waits its second, at the same time as the others."""
    took = []
    with serving(lambda connection, _server: hold(connection)) as server:
        for at_once in (AT_ONCE, 1):
            few = machine.with_code(f"from qs_certs import rights; rights.AT_ONCE = {at_once}")
            begin = time.monotonic()
            done = few("check", f"127.0.0.1:{server.port}", "--all-users", "--timeout", "1")
            took.append(time.monotonic() - begin)
            assert done.code == 4, done
    assert took[1] - took[0] > 1, took


# --- many ---------------------------------------------------------------------------------------

_MANY = """\
import os
from qs_certs import accounts, api, inspection, rights
folder, number = sys.argv[1], int(sys.argv[2])
made = tuple(accounts.Account(f"user{i:04}", 300000 + i, 300000 + i, f"{folder}/user{i:04}")
             for i in range(number))
userlist._everybody = lambda: userlist.People(made)
def spent():
    return sum(os.times()[:4])
for name, work in (
    ("start", lambda: None),
    ("check", lambda: inspection.check_accounts(inspection.Question(), all_users=True)),
    ("install", lambda: api.install(offline=True, all_users=True)),
    ("fork", lambda: [rights.run_as(each, bool) for each in made]),
):
    begin = spent()
    report = work()
    code = getattr(report, "exit_code", 0)
    print(name, int((spent() - begin) * 1e6 / number), int(code), getattr(report, "status", ""))
sys.exit()
"""
MANY = 1000

_CROWD = """\
from qs_certs import accounts
made = tuple(accounts.Account(f"user{i}", 300000 + i, 300000 + i, "/nonexistent") for i in range(30))
userlist._everybody = lambda: userlist.People(made)
"""


def test_a_terminal_shows_how_far_the_work_is(machine: Machine) -> None:
    crowd = machine.with_code(_CROWD)
    leader, follower = os.openpty()
    done = subprocess.run(
        crowd.command("check", "--all-users"),
        env=machine.root.environment,
        stdout=subprocess.PIPE,
        stderr=follower,
        check=False,
    )
    os.close(follower)
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while piece := os.read(leader, 4096):
            shown += piece
    os.close(leader)
    assert shown.startswith(b"\r1 of 30 users")
    assert shown.endswith(b"\r29 of 30 users\r\x1b[K")
    assert b"of 30 users" not in done.stdout
    assert crowd("check", "--all-users").err == "", "a control: nobody looks"


def test_a_thousand_homes_take_seconds(machine: Machine, count: Count) -> None:  # noqa: F811
    folder = Path(machine.people[0].home).with_name("many")
    folder.mkdir(mode=0o755)
    try:
        for number in range(MANY):
            home = folder / f"user{number:04}"
            file = home / ".postgresql" / "root.crt"
            file.parent.mkdir(parents=True)
            file.write_bytes(EMBEDDED)
            for path in (home, file.parent, file):
                os.chown(path, 300_000 + number, 300_000 + number)
            home.chmod(0o700)
        done = machine.with_code(_MANY)(str(folder), str(MANY))
        _, check, install, fork = (line.split() for line in done.out.splitlines())
        assert check[2:] == ["0", "ok"], done
        assert install[2:] == ["0", "unchanged"], done
        for name, microseconds in (check[:2], install[:2]):
            # Held against the fork itself: both are slow where others keep the machine busy.
            assert int(microseconds) < 4 * int(fork[1]), done
            count(f"microseconds of processor for each of {MANY} homes: {name}", int(microseconds))
        count(f"microseconds of processor for each of {MANY} homes: a bare fork", int(fork[1]))
    finally:
        shutil.rmtree(folder)
