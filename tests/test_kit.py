"""The offline kit: what is in it, that it installs with the network really cut off, what it refuses.

The kit of these tests is made from the package index, for this Python on Linux and for one Python
on each other system.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import environment
import kit
import pytest
from environment import SetupFailed
from kit import Target

from tests.faults.counting import Count

HERE = Target("linux-x86_64", f"3.{sys.version_info[1]}")
CHOSEN = (HERE, Target("windows-amd64", "3.12"), Target("macos-arm64", "3.13"))
LOCK = kit.LOCK.read_text("utf-8")

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only on Linux")


# --- what a target needs ------------------------------------------------------------------------


def chosen(target: Target) -> dict[str, str]:
    """Name → version of what the kit fetches for *target*."""
    lines = kit.pins(LOCK, target).splitlines()
    return dict(line.removesuffix(" \\").split("==") for line in lines if "==" in line)


@pytest.mark.parametrize("target", kit.TARGETS, ids=lambda target: target.name)
def test_markers_are_judged_for_the_target_and_not_for_this_machine(target: Target) -> None:
    found = chosen(target)
    assert {"certifi", "cffi", "platformdirs", "requests", "typer"} <= found.keys()
    assert ("colorama" in found) == target.system.startswith("windows")
    # The last ones that have wheels for these: see pyproject.toml.
    major, minor = map(int, found["cryptography"].split(".")[:2])
    assert (major < 49) or target.system not in ("macos-x86_64", "windows-arm64")
    assert ((major, minor) < (46, 1)) or target.system != "windows-arm64"


def test_every_pin_keeps_all_its_hashes_and_loses_its_marker() -> None:
    text = kit.pins(LOCK, HERE)
    assert ";" not in text
    assert all(line in LOCK for line in text.splitlines() if "--hash" in line)
    assert text.count("--hash") > text.count("==") > 8


def test_the_pythons_and_systems_are_those_of_the_locks() -> None:
    import lock

    assert kit.PYTHONS == lock.PYTHONS
    assert len(kit.TARGETS) == len(kit.SYSTEMS) * len(kit.PYTHONS) - 1
    assert HERE in kit.TARGETS


# --- a kit made from the index ------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a kit."""
    for module in ("hatchling", "pip"):
        pytest.importorskip(module, reason=f"needs {module}")
    folder = tmp_path_factory.mktemp("made") / "kit"
    try:
        kit.make(folder, CHOSEN)
    except SetupFailed as failed:
        if failed.exit_code == 4:
            pytest.skip(f"the package index cannot be reached: {failed.why}")
        raise
    return folder


def test_a_kit_holds_the_wheels_of_each_system(made: Path, count: Count) -> None:
    names = {path.name for path in (made / "wheels").iterdir()}
    assert all(name.endswith(".whl") for name in names)
    for part in ("linux_2_", "win_amd64", "macosx_"):
        assert any(name.startswith("cffi-") and part in name for name in names), part
        assert any(name.startswith("cryptography-") and part in name for name in names), part
    assert sum(name.startswith("qs_certs-") for name in names) == 1
    assert sum(name.startswith("colorama-") for name in names) == 1
    count(f"bytes of an offline kit for {len(CHOSEN)} of {len(kit.TARGETS)} targets",
          kit.measure(made)[1])  # fmt: skip


def test_a_kit_names_what_it_was_made_for(made: Path) -> None:
    about = (made / "README.txt").read_text("utf-8")
    assert "windows-amd64  Python 3.12\n" in about
    assert "linux-aarch64" not in about
    lock = (made / "requirements.txt").read_text("utf-8")
    assert lock.startswith(LOCK)
    assert lock.count("qs-certs==") == 1


def test_a_packed_kit_is_the_same_whenever_and_by_whomever_it_was_made(
    made: Path, tmp_path: Path
) -> None:
    first, copy, second = tmp_path / "a" / "kit.zip", tmp_path / "copy", tmp_path / "b" / "kit.zip"
    shutil.copytree(made, copy)
    for number, path in enumerate(copy.rglob("*")):
        path.chmod(0o700)
        os.utime(path, (number * 86400, number * 86400))
    for folder, file in ((made, first), (copy, second)):
        file.parent.mkdir()
        kit.pack(folder, file)
    assert first.read_bytes() == second.read_bytes()
    assert zipfile.ZipFile(first).testzip() is None
    assert kit.measure(first)[0] == kit.measure(made)[0]

    (copy / "README.txt").write_text("other", encoding="ascii")
    second.unlink()
    kit.pack(copy, second)
    assert first.read_bytes() != second.read_bytes()


def test_a_kit_never_takes_the_place_of_something(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "file").touch()
    with pytest.raises(SetupFailed, match="in the way"):
        kit.make(theirs, CHOSEN)
    assert [path.name for path in theirs.iterdir()] == ["file"]


# --- installing from it -------------------------------------------------------------------------


def cut_off(command: list[str | Path], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run *command* in a network namespace of its own, where not even the loopback is up."""
    if sys.platform == "win32":
        pytest.skip("only on Linux")
    unshare = ["unshare", "--net", *(["--map-root-user"] if os.geteuid() != 0 else [])]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("needs unshare --net")
    return subprocess.run(
        [*unshare, *command],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", **env},
    )


def install(made: Path, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`install.py` without a network, as the user of an empty *home*."""
    home.mkdir(exist_ok=True)
    return cut_off([sys.executable, made / "install.py", *words], {"HOME": str(home)})


@linux_only
def test_a_network_that_is_cut_off_is_cut_off() -> None:
    """The control: what answers here does not answer there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        connect = f"import socket; socket.create_connection({address!r}, 5)"
        command: list[str | Path] = [sys.executable, "-c", connect]
        assert subprocess.run(command, check=False).returncode == 0
        done = cut_off(command, {})
    assert done.returncode == 1
    assert "unreachable" in done.stderr


@linux_only
@pytest.mark.slow
def test_a_kit_installs_without_a_network(made: Path, tmp_path: Path) -> None:
    home = tmp_path / "ana"
    done = install(made, home)
    assert done.returncode == 0, done.stderr
    assert "the copy that comes with qs-certs" in done.stdout
    root_file = home / ".postgresql" / "root.crt"
    assert root_file.read_text("ascii").startswith("-----BEGIN CERTIFICATE-----")
    program = home / ".local" / "bin" / "qs-certs"
    checked = cut_off([program, "check"], {"HOME": str(home)})
    assert checked.returncode == 0, checked.stdout

    again = install(made, home, "--dry-run")
    assert (again.returncode, "setting up" in again.stderr) == (0, False)
    assert install(made, home, "--uninstall").returncode == 0
    assert not program.exists()
    assert root_file.exists()


@linux_only
@pytest.mark.slow
def test_a_wheel_that_was_changed_is_refused(made: Path, tmp_path: Path) -> None:
    broken = tmp_path / "kit"
    shutil.copytree(made, broken)
    (wheel,) = broken.glob("wheels/certifi-*.whl")
    with zipfile.ZipFile(wheel, "a") as archive:  # still a wheel, with one more file in it
        archive.writestr("certifi/more.pem", "mine")
    done = install(broken, tmp_path / "ana")
    assert done.returncode == 5, done.stderr
    assert "why: certifi==" in done.stderr
    assert "next: do not go on: ask whoever made this kit" in done.stderr
    home = tmp_path / "ana"
    left = {path.name for path in home.rglob("*")}
    assert not list(home.rglob("site-packages/certifi"))
    assert not left & {"qs-certs", "root.crt"}


@linux_only
def test_a_wheel_that_is_missing_is_named_and_looked_for_nowhere_else(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "kit"
    shutil.copytree(made, broken)
    monkeypatch.setenv("PIP_FIND_LINKS", str(made / "wheels"))
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    from_kit = ["--no-index", environment.FROM_A_FOLDER, str(broken / "wheels"), "--require-hashes"]
    command = [*pip, *from_kit, "-r", str(broken / "requirements.txt")]
    environment._pip(command)
    (wheel,) = broken.glob("wheels/idna-*.whl")
    wheel.unlink()
    with pytest.raises(SetupFailed) as failed:
        environment._pip(command)
    assert failed.value.exit_code == 6
    assert "idna==" in failed.value.why


# --- the command --------------------------------------------------------------------------------


def test_the_targets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert kit.main(["targets"]) == 0
    assert capsys.readouterr().out.split() == [target.name for target in kit.TARGETS]


def test_an_index_that_cannot_be_reached_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pip", reason="needs pip")
    nothing = subprocess.CompletedProcess([], 1, "", "ERROR: No matching distribution\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: nothing)
    with pytest.raises(SetupFailed, match="linux-x86_64") as failed:
        kit.fetch(tmp_path, HERE, LOCK)
    assert failed.value.exit_code == 4
