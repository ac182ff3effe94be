"""Rules that only matter on Windows and can be tried anywhere: values in, values out."""

from __future__ import annotations

import os
import struct
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest

from qs_certs import catalogue, files, rootfile, windows
from qs_certs.errors import CouldNotWrite, TargetRefused
from qs_certs.libpq.locations import (
    Surroundings,
    as_libpq_sees,
    in_messages,
    lost_letters,
)
from qs_certs.rootfile import ClientCertificate
from tests.program import Program

ROAMING = r"C:\Users\ana\AppData\Roaming"


@pytest.mark.parametrize(
    ("path", "code_page", "lost"),
    [
        pytest.param(r"C:\Users\ana", 1252, "", id="ASCII"),
        pytest.param(r"C:\Users\Anaïs Müller", 1252, "", id="western"),
        pytest.param(r"C:\Users\Јелена", 1252, "Јелна", id="Cyrillic in the western page"),
        pytest.param(r"C:\Users\Јелена", 1251, "", id="Cyrillic in its own"),
        pytest.param(r"C:\Users\Łukasz", 1252, "Ł", id="one letter"),
        pytest.param(r"C:\Users\日本", 932, "", id="two bytes a letter"),
        pytest.param(r"C:\Users\日本", 65001, "", id="UTF-8"),
        pytest.param(r"C:\Users\日本", None, "", id="no Windows"),
        pytest.param(r"C:\Users\日本", 12345, "", id="a page that nobody knows"),
    ],
)
def test_the_letters_that_a_code_page_loses(path: str, code_page: int | None, lost: str) -> None:
    assert lost_letters(path, code_page) == lost
    assert (as_libpq_sees(path, code_page) == path) is (not lost)


def test_what_libpq_makes_of_a_lost_letter() -> None:
    assert as_libpq_sees(r"C:\Users\Јелена\x", 1252) == r"C:\Users\??????\x"


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (rf"{ROAMING}\postgresql\root.crt", rf"{ROAMING}/postgresql/root.crt"),
        ("/home/ana/.postgresql/root.crt", "/home/ana/.postgresql/root.crt"),
        (r"C:\postgresql\other.crt", r"C:\postgresql\other.crt"),
    ],
)
def test_messages_spell_the_default_as_libpq_does(path: str, shown: str) -> None:
    assert in_messages(path) == shown


def test_a_lost_default_is_absent_for_libpq_and_told_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "short_name", lambda path: None)
    file = tmp_path / "Јелена.crt"
    file.write_bytes(b"")
    around = Surroundings("win32", {"PROGRAMDATA": r"D:\Data"}, None, ROAMING, 1252)
    own = ClientCertificate(None, None, used=True)
    facts = rootfile.look(str(file), "default", around, own)
    assert facts.state == "absent"
    (finding,) = (
        each
        for each in rootfile.judge(facts, around, datetime.now(timezone.utc), 0)
        if each.code == "code-page-loses-path"
    )
    assert finding.severity == "error"
    assert "has no Јелна; it" in finding.message
    assert finding.fix == (
        r"qs-certs install --target D:\Data\postgresql\root.crt",
        r"setx PGSSLROOTCERT D:\Data\postgresql\root.crt",
        r"for libpq before 16 also: setx PGSSLCERT D:\Data\postgresql\postgresql.crt",
    )
    monkeypatch.setattr(windows, "short_name", lambda path: r"C:\Users\4C2~1\root.crt")
    assert rootfile.lost_path(str(file), around).fix == (
        r"setx PGSSLROOTCERT C:\Users\4C2~1\root.crt",
        r"for libpq before 16 also: setx PGSSLCERT C:\Users\4C2~1\postgresql.crt",
    )
    # A short name that the code page lacks, too, is none.
    monkeypatch.setattr(windows, "short_name", lambda path: r"C:\Users\日~1\root.crt")
    nowhere = Surroundings("win32", {}, None, ROAMING, 1252)
    assert rootfile.lost_path(str(file), nowhere).fix == tuple(
        step.replace(r"D:\Data", r"C:\ProgramData") for step in finding.fix
    )
    cyrillic = Surroundings("win32", {}, None, ROAMING, 1251)
    assert rootfile.look(str(file), "default", cyrillic, own).state != "absent"


def test_asyncpg_s_folder_on_windows() -> None:
    around = Surroundings("win32", {"USERPROFILE": r"C:\Users\ana"}, None, ROAMING)
    assert around.asyncpg_root_file == r"C:\Users\ana\.postgresql\root.crt"
    assert Surroundings("win32", {}, None, ROAMING).asyncpg_root_file is None


def test_only_the_user_s_own_packages_are_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def listdir(path: str) -> list[str]:
        looked.append(path)
        return []

    monkeypatch.setattr(os, "listdir", listdir)
    local = {"LOCALAPPDATA": r"C:\Users\ana\AppData\Local"}
    for env in ({}, local):
        assert list(rootfile._private_copies(Surroundings("win32", env, None, ROAMING))) == []
    assert looked == [r"C:\Users\ana\AppData\Local\Packages"]  # not that of this folder


# --- access lists ---------------------------------------------------------------------------------


def access_list(*flags: int) -> bytes:
    """An ACL of winnt.h with one entry of 8 bytes for each of *flags*."""
    entries = b"".join(struct.pack("<BBHI", 0, each, 8, 0) for each in flags)
    return struct.pack("<BBHHH", 2, 0, 8 + len(entries), len(flags), 0) + entries


@pytest.mark.parametrize(
    ("flags", "protected", "own"),
    [
        pytest.param((), False, False, id="empty"),
        pytest.param((0x10, 0x10), False, False, id="all inherited"),
        pytest.param((0x10, 0x10), True, True, id="protected"),
        pytest.param((0x10, 0x00), False, True, id="one of its own"),
        pytest.param((0x13,), False, False, id="inherited, and handed on"),
    ],
)
def test_a_list_is_kept_where_it_says_more_than_the_folder(
    flags: tuple[int, ...], protected: bool, own: bool
) -> None:
    assert windows.own_rights(access_list(*flags), protected) is own


# --- files that are held open ---------------------------------------------------------------------


def refusal(winerror: int) -> OSError:
    error = PermissionError(13, "no")
    error.winerror = winerror  # type: ignore[attr-defined,unused-ignore]
    return error


@pytest.mark.parametrize("winerror", sorted(files.HELD_OPEN))
def test_a_held_file_is_asked_for_again(winerror: int) -> None:
    answers = [refusal(winerror), refusal(winerror), None]

    def attempt() -> None:
        if (error := answers.pop(0)) is not None:
            raise error

    files._patiently(attempt)
    assert answers == []


@pytest.mark.parametrize(
    "error", [refusal(19), PermissionError(13, "no"), OSError(28, "full")], ids=repr
)
def test_an_error_that_stays_is_not_asked_again(error: OSError) -> None:
    asked = []

    def attempt() -> None:
        asked.append(1)
        raise error

    with pytest.raises(OSError, match=error.strerror):
        files._patiently(attempt)
    assert asked == [1]


class Held(files.Disk):
    """A disk on which another program lets go of a new name at the third attempt."""

    def __init__(self) -> None:
        self.refused = 0

    def _held(self) -> None:
        if self.refused < 2:
            self.refused += 1
            raise refusal(32)

    def rename(self, source: str, target: str) -> None:
        self._held()
        super().rename(source, target)

    def rename_new(self, source: str, target: str) -> None:
        self._held()
        super().rename_new(source, target)

    def unlink(self, path: str) -> None:
        self._held()
        super().unlink(path)


def test_a_new_file_is_asked_for_again_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, stored = tmp_path / "root.crt", tmp_path / "blob"
    disk = Held()
    files.replace(str(made), b"new", expected=None, verify=lambda _: None, disk=disk)
    assert (made.read_bytes(), disk.refused) == (b"new", 2)
    disk = Held()
    files.create(str(stored), b"content", 0o600, disk)
    assert (stored.read_bytes(), disk.refused) == (b"content", 2)
    disk = Held()
    files.remove(str(made), expected=b"new", disk=disk)
    assert (made.exists(), disk.refused) == (False, 2)

    monkeypatch.setattr(files, "RENAME_PATIENCE", 0.0)  # a control
    with pytest.raises(CouldNotWrite, match="nothing was changed"):
        files.replace(str(made), b"new", expected=None, verify=lambda _: None, disk=Held())
    with pytest.raises(PermissionError):
        files.create(str(tmp_path / "other"), b"content", 0o600, Held())
    assert [each.name for each in tmp_path.glob("[!.]*")] == ["blob"]


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "RENAME_PATIENCE", 0.05)
    asked = []

    def attempt() -> None:
        asked.append(1)
        raise refusal(32)

    with pytest.raises(PermissionError):
        files._patiently(attempt)
    assert len(asked) > 1


def test_the_read_only_attribute_is_refused() -> None:
    status = SimpleNamespace(st_file_attributes=0x21)
    with pytest.raises(TargetRefused, match="read-only") as refused:
        files._refuse_read_only(r"C:\root.crt", status)  # type: ignore[arg-type]
    assert refused.value.fix == (r'attrib -R "C:\root.crt"',)
    files._refuse_read_only("x", SimpleNamespace(st_file_attributes=0x20))  # type: ignore[arg-type]
    files._refuse_read_only("x", None)


# --- two files with one command -------------------------------------------------------------------


@pytest.fixture
def program(tmp_path: Path) -> Program:
    home = tmp_path / "home"
    home.mkdir()
    return Program(home)


def test_also_does_the_same_to_other_files_each_as_a_change_of_its_own(program: Program) -> None:
    others = [program.home / "a b.crt", program.home / "c.crt"]
    words = [word for other in others for word in ("--also", str(other))]
    report = program.ok("install", "--offline", *words, "--json").document
    assert [each["path"] for each in report["targets"]] == [
        str(program.root_file),
        *map(str, others),
    ]
    assert [each["change_id"] for each in report["targets"]] == [1, 2, 3]
    assert {path.read_bytes() for path in (program.root_file, *others)} == {
        program.root_file.read_bytes()
    }
    shown = program.ok("install", "--offline", "digicert-global-root-g3", *words).out
    assert f'qs-certs rollback --target "{others[0]}"' in shown
    program.ok("rollback", "--target", others[0])
    program.ok("rollback", "--target", others[0], "2")
    assert not others[0].exists()
    assert others[1].exists()
    assert catalogue.DEFAULT in program.ok("list").out


def test_one_failure_does_not_stop_the_others(program: Program) -> None:
    (program.home / "folder").mkdir()
    other = program.home / "c.crt"
    done = program(
        "install", "--offline", "--also", program.home / "folder", "--also", other, "--json"
    )
    assert done.code == 6
    assert [each["status"] for each in done.document["targets"]] == ["changed", "failed", "changed"]
    assert other.exists()


def test_the_same_file_is_done_once(program: Program) -> None:
    done = program.ok("install", "--offline", "--also", program.root_file, "--json")
    assert len(done.document["targets"]) == 1
    assert program("install", "--also", str(program.home) + os.sep, "--json").code == 2


@pytest.mark.parametrize("option", ["--also", "--target"])
@pytest.mark.parametrize("file", ["folder/", "https://host/root.crt"])
def test_the_option_that_named_no_file_is_the_one_that_is_told(
    program: Program, option: str, file: str
) -> None:
    done = program("install", "--offline", option, file)
    assert done.code == 2, done
    assert f"error: {option} names a file" in done.err
