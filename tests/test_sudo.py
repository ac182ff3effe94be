"""Under sudo the file is that of the user who called it, and so are all rights."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import qs_certs
from qs_certs import accounts, catalogue
from qs_certs.accounts import Account
from qs_certs.errors import TargetRefused, WrongUsage
from tests.people import made, real_sudo
from tests.program import Done, Program, assert_one_clear_error, snapshot

if sys.platform == "win32":
    pytest.skip("only on POSIX", allow_module_level=True)

G2 = catalogue.ROOTS[catalogue.DEFAULT]
EMBEDDED = (Path(qs_certs.__file__).parent / "roots" / f"{G2.name}.pem").read_bytes()


@dataclass(frozen=True, slots=True)
class Person:
    """A real account of this machine, made for the test, and the home of root beside it."""

    account: Account
    roots_home: Path
    sudo: str | None = None
    """The real sudo; None: what it would set is set by us."""

    @property
    def home(self) -> Path:
        return Path(self.account.home)

    @property
    def program(self) -> Program:
        return Program(self.home)

    def __call__(self, *words: str, kept_home: bool = False, store: Path | None = None) -> Done:
        """Run qs-certs as root on this person's behalf."""
        home = self.home if kept_home else self.roots_home
        env = {**Program(home).environment, "USER": "root", "LOGNAME": "root"}
        env["XDG_DATA_HOME"] = str(self.roots_home / "data")  # root's own, not this person's
        if store is not None:
            env["QS_CERTS_STORE"] = str(store)
        command = [sys.executable, "-m", "qs_certs", *words]
        if self.sudo is not None:
            command = [self.sudo, "-n", "env", *(f"{k}={v}" for k, v in env.items()), *command]
            return self.themselves(command)
        env["SUDO_UID"] = str(self.account.uid)
        env["SUDO_GID"] = str(self.account.gid)
        env["SUDO_USER"] = self.account.name
        done = subprocess.run(command, env=env, cwd="/", capture_output=True, check=False)
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def themselves(self, command: list[str]) -> Done:
        """Run a command with this person's rights."""
        done = subprocess.run(
            command,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.home)},
            cwd="/",
            user=self.account.uid,
            group=self.account.gid,
            extra_groups=[],
            capture_output=True,
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def nothing_is_roots(self) -> bool:
        everything = [self.home, *self.home.rglob("*")]
        return {path.lstat().st_uid for path in everything} == {self.account.uid}


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    """A locked account with a home of its own, gone after the module."""
    with made(["certs"]) as accounts_made:
        yield accounts_made[0]


@pytest.fixture(params=["as sudo sets it", "real sudo"])
def person(request: pytest.FixtureRequest, account: Account) -> Iterator[Person]:
    """The account with an empty home, behind what sudo sets or behind sudo itself."""
    home = Path(account.home)
    roots_home = home.with_name("root")
    for folder in (home, roots_home):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o755)
    os.chown(home, account.uid, account.gid)
    if request.param == "as sudo sets it":
        yield Person(account, roots_home)
        return
    with real_sudo(account) as sudo:
        yield Person(account, roots_home, sudo)


def test_the_store_is_that_of_the_caller_or_the_one_that_is_named(person: Person) -> None:
    """XDG_DATA_HOME, which may be root's own, moves it nowhere; QS_CERTS_STORE does."""
    elsewhere = person.home / "elsewhere"
    assert person("install", "--offline", store=elsewhere).code == 0
    assert (elsewhere / "journal.jsonl").stat().st_uid == person.account.uid
    assert not person.program.store.exists()
    assert "nothing to roll back" in person("rollback").out
    assert person.program.root_file.exists()
    assert person("rollback", store=elsewhere).code == 0
    assert not person.program.root_file.exists()
    assert person("install", "--offline").code == 0
    assert (person.program.store / "journal.jsonl").stat().st_uid == person.account.uid
    assert list(person.roots_home.iterdir()) == []


@pytest.mark.parametrize("kept_home", [True, False], ids=["HOME kept", "HOME reset"])
def test_everything_is_made_in_the_caller_s_home_and_belongs_to_them(
    person: Person, kept_home: bool
) -> None:
    before = snapshot(person.roots_home)
    done = person("install", "--offline", kept_home=kept_home)
    assert done.code == 0, done
    assert f"under sudo: this is the file of {person.account.name}" in done.out
    assert person.program.root_file.read_bytes() == EMBEDDED
    assert (person.program.store / "journal.jsonl").exists()
    assert person.nothing_is_roots()
    assert snapshot(person.roots_home) == before
    assert person.program.root_file.parent.stat().st_mode & 0o777 == 0o700
    assert person.program.root_file.stat().st_mode & 0o777 == 0o644

    assert "nothing to do" in person("install", kept_home=kept_home).out
    for words, shown in (("history", "install"), ("list", "DigiCert Global Root G2")):
        told = person(words, kept_home=kept_home).out
        assert shown in told
        assert f"under sudo: this is the file of {person.account.name}" in told
    assert person("rollback", kept_home=kept_home).code == 0
    assert not person.program.root_file.parent.exists()
    assert person("rollback", kept_home=kept_home).code == 0
    assert person("remove", kept_home=kept_home).code == 0
    assert person.nothing_is_roots()
    assert snapshot(person.roots_home) == before


def test_json_names_the_user(person: Person) -> None:
    (target,) = person("install", "--offline", "--json").document["targets"]
    assert target["user"] == person.account.name
    assert target["path"] == str(person.program.root_file)
    assert target["source"] == "embedded"


def test_what_somebody_else_did_is_shown_under_sudo_too(person: Person) -> None:
    assert person("install", "--offline").code == 0
    with person.program.root_file.open("ab") as file:
        file.write(b"# by somebody else\n")
    done = person("rollback")
    assert_one_clear_error(done, 6, "somebody else", "--force")
    assert "+# by somebody else" in done.out


def test_a_link_in_the_home_leads_root_nowhere(person: Person) -> None:
    etc = person.roots_home / "etc"  # like /etc: root's, open to all, and nobody else changes it
    etc.mkdir(mode=0o755)
    passwd = etc / "passwd"
    passwd.write_bytes(b"root:x:0:0")
    before = snapshot(person.roots_home)
    folder = person.program.root_file.parent
    folder.symlink_to(etc)
    done = person("install", "--offline")
    assert_one_clear_error(done, 6, "Permission denied")
    folder.unlink()
    folder.mkdir()
    os.chown(folder, person.account.uid, person.account.gid)
    person.program.root_file.symlink_to(passwd)
    assert_one_clear_error(person("install", "--offline"), 6, "belongs to another user")
    person.program.root_file.unlink()
    (person.home / ".local").rename(person.home / "set-aside")
    (person.home / ".local").symlink_to(etc)
    assert_one_clear_error(person("install", "--offline"), 6, "store")
    assert snapshot(person.roots_home) == before


def test_a_named_file_under_sudo_is_root_s_business(person: Person) -> None:
    """`--target` says which file, and root may write it: sudo was called for exactly that."""
    target = person.roots_home / "system-root.crt"
    done = person("install", "--offline", "--target", str(target))
    assert done.code == 0, done
    assert target.stat().st_uid == 0
    assert list(person.home.glob(".postgresql")) == []


def test_without_sudo_root_works_on_its_own_file(account: Account, tmp_path: Path) -> None:
    """A control: root by login has no SUDO_UID."""
    program = Program(tmp_path)
    assert program.process("install", "--offline").code == 0
    assert program.root_file.stat().st_uid == 0


@pytest.mark.parametrize("uid", ["", "0", "-1", "x", "1e3"])
def test_a_caller_that_is_none_is_ignored(uid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_UID", uid)
    assert accounts.behind_sudo() is None


def test_a_caller_without_an_account_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_UID", "4123456789")
    with pytest.raises(WrongUsage, match="no entry in the password database"):
        accounts.behind_sudo()


def test_an_ordinary_user_cannot_pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("SUDO_UID", str(os.getuid() or 1))
    assert accounts.behind_sudo() is None


def test_an_error_comes_back_from_the_account_as_it_was(account: Account) -> None:
    code = (
        "import sys; from qs_certs import accounts, rights; from qs_certs.errors import *\n"
        "def work():\n"
        "    raise TargetRefused('what', why='why', fix=('a', 'b'))\n"
        "account = accounts.Account(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), '/')\n"
        "try:\n"
        "    rights.run_as(account, work)\n"
        "except QsCertsError as error:\n"
        "    print(type(error).__name__, str(error), error.message, error.why, error.fix)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, account.name, str(account.uid), str(account.gid)],
        env=Program(Path("/")).environment,
        capture_output=True,
        text=True,
        check=True,
    )
    error = TargetRefused("what", why="why", fix=("a", "b"))
    assert done.stdout.strip() == f"TargetRefused what {error.message} {error.why} {error.fix}"
