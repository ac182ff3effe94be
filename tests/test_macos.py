"""What macOS does otherwise, as far as a machine without macOS can tell.

Paths are functions of (system, environment, home); the full sync is asked of a stand-in for
`fcntl`; names are tried on a real file system that does not tell upper case from lower case.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from lock import installs
from platformdirs.macos import MacOS

from qs_certs import catalogue, files
from qs_certs.libpq.locations import Surroundings
from tests.program import Program

HOME = "/Users/ana"


# --- paths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "home", "folder"),
    [
        pytest.param({"HOME": HOME}, "/var/ana", f"{HOME}/.postgresql", id="HOME"),
        pytest.param({}, HOME, f"{HOME}/.postgresql", id="the password database"),
        pytest.param({"HOME": ""}, HOME, f"{HOME}/.postgresql", id="empty HOME"),
        pytest.param({}, None, None, id="no home"),
    ],
)
def test_libpq_s_folder_on_macos(env: dict[str, str], home: str | None, folder: str | None) -> None:
    around = Surroundings("darwin", env, home)
    assert around.folder == folder
    assert around.root_file == (None if folder is None else f"{folder}/root.crt")
    assert around.asyncpg_root_file is None  # there it looks where libpq does


def test_homebrew_s_service_files_are_known() -> None:
    around = Surroundings("darwin", {}, HOME)
    assert "/opt/homebrew/etc/postgresql/pg_service.conf" in around.system_service_files
    assert around.system_service_files != Surroundings("linux", {}, HOME).system_service_files


def test_the_store_is_where_the_readme_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", HOME)
    expected = f"{HOME}/Library/Application Support/qs-certs"
    assert MacOS("qs-certs", appauthor=False).user_data_dir == expected
    readme = Path(__file__).parent.parent / "README.md"
    assert expected.replace(HOME, "~") in readme.read_text("utf-8")


# --- syncing --------------------------------------------------------------------------------------


@pytest.fixture
def macos(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What `Disk.fsync` asks for as if on macOS: `full` and `plain` list the descriptors."""
    seen = SimpleNamespace(full=[], plain=[], error=None)

    def fcntl(fd: int, command: int) -> None:
        assert command == 51  # F_FULLFSYNC of <sys/fcntl.h>
        if seen.error is not None:
            raise OSError(seen.error, os.strerror(seen.error))
        seen.full.append(fd)

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setitem(sys.modules, "fcntl", SimpleNamespace(fcntl=fcntl, F_FULLFSYNC=51))
    monkeypatch.setattr(os, "fsync", seen.plain.append)
    return seen


def test_a_file_is_synced_down_to_the_platter(macos: SimpleNamespace) -> None:
    files.Disk().fsync(7)
    assert (macos.full, macos.plain) == ([7], [])


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.EINVAL, errno.ENOTTY])
def test_a_file_system_without_full_sync_gets_a_plain_one(
    macos: SimpleNamespace, code: int
) -> None:
    macos.error = code
    files.Disk().fsync(7)
    assert (macos.full, macos.plain) == ([], [7])


def test_a_failing_disk_is_not_asked_again_in_another_way(macos: SimpleNamespace) -> None:
    macos.error = errno.EIO
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        files.Disk().fsync(7)
    assert macos.plain == []


# --- upper and lower case -------------------------------------------------------------------------


@pytest.fixture
def caseless(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system that takes `ROOT.CRT` for `root.crt`, as APFS does by default."""
    if sys.platform != "linux":
        pytest.skip("only on Linux: lowntfs-3g")
    if os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("needs root and /dev/fuse")
    image, place = tmp_path / "image", tmp_path / "mount"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    try:
        subprocess.run(["mkntfs", "-qF", image], check=True, capture_output=True)
        options = "ignore_case,windows_names,loop"
        mounted = subprocess.run(
            ["lowntfs-3g", "-o", options, image, place], capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("needs ntfs-3g")
    if mounted.returncode != 0:  # a container may have the device and not the right to mount
        pytest.skip(f"needs the right to mount with FUSE: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_where_case_does_not_matter_one_file_is_one_file(caseless: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    program = Program(home)
    small, capital = caseless / "root.crt", caseless / "ROOT.CRT"
    program.ok("install", "--offline", "--target", capital)
    assert small.samefile(capital)  # this file system is what the test wants
    again = program.ok("install", "--offline", "--target", small, "--json").document
    assert again["status"] == "unchanged"
    assert [each.name.lower() for each in caseless.iterdir()] == ["root.crt"]
    program.ok("install", "--offline", catalogue.ROOTS["digicert-global-root-g3"].name,
               "--target", small)  # fmt: skip
    listed = program.ok("list", "--target", capital, "--json").document["certificates"]
    assert len(listed) == 2
    program.ok("rollback", "--target", small)
    program.ok("rollback", "--target", capital)
    assert not small.exists()
    assert list(caseless.iterdir()) == []


# --- wheels ---------------------------------------------------------------------------------------

UV = [sys.executable, "-m", "uv"]


@pytest.mark.parametrize("python", ["3.10", "3.14"])
@pytest.mark.parametrize("system", ["x86_64-apple-darwin", "aarch64-apple-darwin"])
def test_both_kinds_of_macs_install_from_wheels_alone(
    tmp_path: Path, system: str, python: str
) -> None:
    assert installs(UV, "runtime", system, python, str(tmp_path))


def test_a_package_without_a_wheel_for_macs_would_be_seen(tmp_path: Path) -> None:
    command = [*UV, "pip", "install", "--dry-run", "--quiet", "--no-python-downloads"]
    command += ["--only-binary", ":all:", "--target", str(tmp_path), "--python-version", "3.12"]

    def found(system: str) -> bool:
        words = [*command, "--python-platform", system, "cryptography>=49"]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0

    assert found("aarch64-apple-darwin")
    assert not found("x86_64-apple-darwin")
