"""Links and folders that somebody else laid, and names that a shell would act on."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from qs_certs import errors, files, rights
from qs_certs.accounts import Account
from qs_certs.errors import TargetRefused
from tests.faults.counting import Count
from tests.program import Program, assert_one_clear_error, snapshot

if sys.platform == "win32":
    pytest.skip("only on POSIX", allow_module_level=True)

STRANGER = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to act as a stranger")


@needs_root
@pytest.mark.parametrize(
    ("owner", "followed"),
    [
        pytest.param(STRANGER, False, id="a stranger's"),
        pytest.param(0, True, id="control: ours"),
    ],
)
def test_a_link_that_somebody_else_made_in_a_sticky_folder_is_not_followed(
    program: Program, owner: int, followed: bool
) -> None:
    """As Linux's protected_symlinks, which asks at open() and not at readlink()."""
    shared = program.home / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    mine = program.home / "authorized_keys"
    mine.write_text("mine\n")
    link = shared / "root.crt"
    link.symlink_to(mine)
    os.chown(link, owner, owner, follow_symlinks=False)
    for words in (["install", "--offline"], ["install", "--offline", "--replace"]):
        done = program(*words, "--target", link)
        assert (done.code == 0) is followed, done
    assert (mine.read_text() != "mine\n") is followed
    assert link.is_symlink()
    if not followed:
        assert_one_clear_error(done, 6, "another user made", str(STRANGER))


@needs_root
@pytest.mark.parametrize(("maker", "followed"), [(0, True), (STRANGER, True), (12345, False)])
def test_a_user_follows_their_own_links_and_the_administrator_s(maker: int, followed: bool) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        file, link = Path(name, "file"), Path(name, "link")
        file.write_text("x")
        link.symlink_to(file)
        os.chown(file, STRANGER, STRANGER)
        os.chown(link, maker, maker, follow_symlinks=False)
        Path(name).chmod(0o755)
        stranger = Account("nobody", STRANGER, STRANGER, "/")
        if followed:
            assert rights.run_as(stranger, lambda: files.resolve(str(link))) == str(file)
        else:
            with pytest.raises(TargetRefused, match="another user made"):
                rights.run_as(stranger, lambda: files.resolve(str(link)))


HOMES = {
    "a stranger's": (STRANGER, 0o755, False),
    "open to all": (0, 0o777, False),
    "control: root's own": (0, 0o755, True),
    "control: sticky, as /tmp": (0, 0o1777, True),
}


@needs_root
@pytest.mark.parametrize(("owner", "mode", "used"), HOMES.values(), ids=HOMES)
def test_root_writes_into_no_home_that_others_can_change(
    program: Program, owner: int, mode: int, used: bool
) -> None:
    elsewhere = program.home.with_name("etc")
    elsewhere.mkdir()
    (program.home / ".postgresql").symlink_to(elsewhere)
    program.home.chmod(mode)
    os.chown(program.home, owner, owner)
    before, before_here = snapshot(program.home.parent), snapshot(program.home)
    done = program("install", "--offline")
    assert (done.code == 0) is used, done
    assert (elsewhere / "root.crt").exists() is used
    if used:
        return
    assert_one_clear_error(done, 6, "HOME is", "--user NAME")
    for words in (["remove"], ["rollback"], ["install", "--offline", "--target", "/x/y"]):
        assert program(*words).code == 6
    assert snapshot(program.home.parent) == before
    for words in (["list"], ["history"], ["install", "--help"]):  # looking is harmless
        assert program(*words).code == 0
    named = Program(program.home, {"QS_CERTS_STORE": str(elsewhere / "store")})
    named.ok("install", "--offline", "--target", elsewhere / "named.crt")
    assert snapshot(program.home).keys() == before_here.keys()


NAMES = {
    "substitution": "$(touch pwned)",
    "backquotes": "`touch pwned`",
    "quote": '"; touch pwned; "',
    "single quote": "'; touch pwned; '",
    "variable": "$HOME",
    "history": "a!b",
    "blank": "a b",
    "semicolon": "a;touch pwned",
    "newline": "a\ntouch pwned\n",
    "backslash": "a\\b",
    "backslash at the end": "a b\\",
    "plain": "a",
    "nothing": "",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("shell", ["sh", "bash", "zsh"])
def test_a_name_in_a_command_to_paste_is_one_word_for_the_shell(
    shell: str, name: str, tmp_path: Path, count: Count
) -> None:
    path = f"/x/{name}" if name else ""
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    done = subprocess.run(
        [shell, "-c", f"printf '%s|' {errors.quoted(path)}"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == f"{path}|"
    assert list(tmp_path.iterdir()) == []
    count("file names that a shell took for one word", 1)


def test_a_name_in_mere_double_quotes_would_run(tmp_path: Path) -> None:
    """The control."""
    subprocess.run(["sh", "-c", f'printf %s "{NAMES["substitution"]}"'], cwd=tmp_path, check=True)
    assert (tmp_path / "pwned").exists()


def test_what_the_program_says_to_run_runs_nothing_else(program: Program, tmp_path: Path) -> None:
    target = program.home / "a $(touch pwned) `touch pwned`" / "root.crt"
    undo = program.ok("install", "--offline", "--target", target, "--json").document
    commands = [each for finding in undo["findings"] for each in finding["fix"]]
    done = program.ok("install", "--offline", "--target", program.home / "$(touch pwned).crt")
    (line,) = [line for line in done.out.splitlines() if line.strip().startswith("undo")]
    commands.append(line.partition("undo")[2].partition("(this is")[0].strip())
    target.write_text("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
    for words in (
        ["check", "--target"],
        ["install", "--offline", "--target"],
        ["list", "--target"],
    ):
        document = program(*words, target, "--json").document
        commands += [each for finding in document["findings"] for each in finding["fix"]]
        for each in document.get("targets", ()):
            commands += each["error"].get("fix", ()) if each["error"] else ()
    commands = [each for each in commands if each.startswith("qs-certs ")]
    assert any("touch pwned" in each for each in commands)
    here = tmp_path / "here"
    here.mkdir()
    (here / "qs-certs").write_text("#!/bin/sh\n")
    (here / "qs-certs").chmod(0o755)
    for command in commands:
        subprocess.run(
            ["sh", "-c", command], cwd=here, env={"PATH": f"{here}:/usr/bin:/bin"}, check=True
        )
        assert shlex.split(command, comments=True)
    assert [each.name for each in here.iterdir()] == ["qs-certs"]


def test_the_lock_is_no_way_to_another_file(program: Program) -> None:
    program.ok("install", "--offline")
    victim = program.home / "victim"
    victim.write_text("mine\n")
    lock = program.store / "lock"
    lock.unlink()
    lock.symlink_to(victim)
    assert_one_clear_error(program("remove"), 6, "store")
    assert victim.read_text() == "mine\n"
    lock.unlink()
    program.ok("remove")  # the control
