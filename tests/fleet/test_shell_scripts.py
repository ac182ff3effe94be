"""The shell scripts for Intune, Jamf and Munki, in the shells that may run them.

Where states are told apart they run the real program; where shells and exit codes are, a stub
that ends with the code.  What each tool should see comes from the table in docs/fleet.md.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from qs_certs.errors import ExitCode
from tests.fleet.scripts import (
    INSTALL,
    INSTALLCHECK,
    INTUNE,
    JAMF,
    PLACES,
    SHELL_SCRIPTS,
    SHELLS,
    VERDICTS,
    Verdict,
    executable,
    real,
    run,
    stub,
    words,
)
from tests.program import Program, snapshot

if sys.platform == "win32":
    pytest.skip("only on POSIX", allow_module_level=True)

every_script = pytest.mark.parametrize("script", SHELL_SCRIPTS, ids=lambda path: path.name)
every_verdict = pytest.mark.parametrize("row", VERDICTS, ids=lambda row: str(row.check))


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if shutil.which(SHELLS[name][0], path=PLACES) is None:
        pytest.skip(f"needs {SHELLS[name][0]}")
    return name


# --- the text -----------------------------------------------------------------------------------


@every_script
def test_shellcheck_finds_nothing(script: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck")
    found = subprocess.run(
        ["shellcheck", "--shell=sh", "--enable=all", "--exclude=SC2250,SC2310,SC2312", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stdout) == (0, "")


def test_shellcheck_would_find_what_only_bash_has(tmp_path: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck")
    wrong = tmp_path / "wrong.sh"
    wrong.write_text("#!/bin/sh\ndeclare -A x\n[[ $x ]]\n", "ascii")
    found = subprocess.run(["shellcheck", "-s", "sh", wrong], capture_output=True, check=False)
    assert found.returncode == 1


# shellcheck says nothing of these; GNU and BSD differ in them.
UNPORTABLE = re.compile(r"\bsed -i|\breadlink -f|\bstat -|\bdate -d|\becho -|\bmktemp\b|\bgetent\b")


@every_script
def test_a_script_is_one_file_that_says_what_exit_codes_mean(script: Path) -> None:
    text = script.read_text("ascii")
    assert text.startswith("#!/bin/sh\n# ")
    header = text.split("\n\n", 1)[0]
    assert re.search(r"[Ee]xit code", header)
    assert executable(script)
    assert "\r" not in text
    assert not UNPORTABLE.search(text)
    assert UNPORTABLE.search("readlink -f x")


def test_what_the_scripts_share_is_the_same_in_all() -> None:
    """Each is uploaded alone, so none can read another."""
    shared = re.compile(r"^# --- the same in every script.*?^# -+\n", re.MULTILINE | re.DOTALL)
    blocks = {match[0] for script in SHELL_SCRIPTS if (match := shared.search(script.read_text()))}
    assert len(blocks) == 1
    assert all(shared.search(script.read_text()) for script in SHELL_SCRIPTS)


# --- every exit code in every shell -------------------------------------------------------------


def test_the_page_says_something_about_every_exit_code_of_check() -> None:
    told = {row.check for row in VERDICTS}
    never = {ExitCode.NOT_WRITTEN, ExitCode.INTERRUPTED}  # `check` writes nothing
    assert told == {None, *(set(ExitCode) - never)}


@every_verdict
def test_munki_installs_where_the_page_says(tmp_path: Path, shell: str, row: Verdict) -> None:
    program = None if row.check is None else stub(row.check)
    done = run(INSTALLCHECK, folder=tmp_path, program=program, shell=shell)
    assert done.code == row.installcheck
    assert done.out == ("qs-certs is not installed\n" if program is None else "qs-certs: it says\n")
    assert (done.code == 0) == (row.check in (1, None)), "0 asks Munki to install"


@every_verdict
def test_attributes_begin_with_the_word_of_the_page(
    tmp_path: Path, shell: str, row: Verdict
) -> None:
    program = None if row.check is None else stub(row.check)
    value = row.word if program is None else f"{row.word} qs-certs: it says"
    jamf = run(JAMF, folder=tmp_path, program=program, shell=shell)
    assert (jamf.code, jamf.out, jamf.err) == (0, f"<result>{value}</result>\n", "")
    intune = run(INTUNE, folder=tmp_path, program=program, shell=shell)
    assert (intune.code, intune.out, intune.err) == (0, f"{value}\n", "")


@pytest.mark.parametrize("code", [0, 1, 4, 5, 6, 70, None], ids=str)
def test_install_passes_the_exit_code_on(tmp_path: Path, shell: str, code: int | None) -> None:
    program = None if code is None else stub(code)
    done = run(INSTALL, folder=tmp_path, program=program, shell=shell)
    assert done.code == (127 if code is None else code)
    assert done.out == ("" if code is None else "qs-certs: it says\n")
    assert done.err == ("qs-certs is not installed\n" if code is None else "")


@pytest.mark.parametrize(
    ("arguments", "passed"),
    [
        pytest.param((), "install", id="Intune, Munki"),
        pytest.param(("/", "mac-7", "ana"), "install", id="Jamf"),
        pytest.param(("/", "mac 7", ""), "install", id="Jamf, nobody logged in"),
        pytest.param(("/", "mac-7", "ana", *[""] * 8), "install", id="Jamf, empty parameters"),
        pytest.param(
            ("/", "mac-7", "ana", "--offline", "", "--ca-bundle", "/a b/ca.pem"),
            "install --offline --ca-bundle /a b/ca.pem",
            id="Jamf, options",
        ),
        pytest.param(("/", "m", "a", "*", "$HOME"), "install * $HOME", id="nothing is expanded"),
    ],
)
def test_install_takes_its_options_as_jamf_passes_them(
    tmp_path: Path, shell: str, arguments: tuple[str, ...], passed: str
) -> None:
    run(INSTALL, *arguments, folder=tmp_path, program=stub(0), shell=shell)
    assert words(tmp_path) == passed


def test_text_from_a_certificate_cannot_end_jamf_s_element(tmp_path: Path, shell: str) -> None:
    program = stub(3, "evil</result><result>compliant %s \\n & 'x' \"y\" $(id) `id`")
    done = run(JAMF, folder=tmp_path, program=program, shell=shell)
    assert done.out.count("<") == 2
    assert done.out.startswith("<result>person-needed evil /result  result compliant %s \\n ")
    assert done.out.endswith("'x' \"y\" $(id) `id`</result>\n")


# --- root ---------------------------------------------------------------------------------------


@pytest.fixture
def as_root(tmp_path: Path) -> Path:
    """A folder that is root's, and a word on why there is none."""
    if tmp_path.stat().st_uid != 0:
        pytest.skip("needs root, whose program root runs")
    return tmp_path


@every_script
def test_root_works_on_all_accounts(as_root: Path, shell: str, script: Path) -> None:
    run(script, folder=as_root, program=stub(0), shell=shell)
    alone = words(as_root)
    assert alone == ("install" if script == INSTALL else "check --format intune")
    run(script, folder=as_root, program=stub(0), shell=shell, root=True)
    assert words(as_root) == f"{alone} --all-users"


@pytest.mark.parametrize("option", ["--user", "--user=ana", "--target"])
def test_root_works_on_whom_the_options_name(as_root: Path, shell: str, option: str) -> None:
    arguments = ("/", "m", "a", option, "x")
    run(INSTALL, *arguments, folder=as_root, program=stub(0), shell=shell, root=True)
    assert words(as_root) == f"install {option} x"


def _theirs(path: Path) -> None:
    shutil.chown(path, "nobody")


def _link_to_theirs(program: Path) -> None:
    elsewhere = program.parent.parent / "elsewhere"
    program.rename(elsewhere)
    _theirs(elsewhere)
    program.symlink_to(elsewhere)


def _link_into_their_folder(program: Path) -> None:
    """What it leads to is root's, but they can put something else there."""
    folder = program.parent.parent / "venv"
    folder.mkdir()
    program.rename(folder / "qs-certs")
    _theirs(folder)
    program.symlink_to("../venv/qs-certs")


def _their_interpreter(program: Path) -> None:
    """As pip writes it: a program of root's, for a Python in somebody's home."""
    python = program.parent.parent / "python"
    python.symlink_to("/bin/sh")
    os.chown(python, 65534, 65534, follow_symlinks=False)
    home = program.parent.parent / "home"
    home.mkdir()
    python.rename(home / "python")
    _theirs(home)
    program.write_text(program.read_text().replace("#!/bin/sh", f"#! {home}/python -E"), "ascii")


def _their_interpreter_on_the_path(program: Path) -> None:
    """Of what is root's, `env` starts the first Python on PATH."""
    _their_interpreter(program)
    (program.parent / "qs-python").symlink_to(program.parent.parent / "home" / "python")
    text = program.read_text("ascii").partition("\n")[2]
    program.write_text(f"#!/usr/bin/env qs-python\n{text}", "ascii")


def _their_interpreter_below(quote: str, program: Path) -> None:
    """As pip and uv write it where the path is longer than a first line may be."""
    _their_interpreter(program)
    python = program.parent.parent / "home" / "python"
    text = program.read_text("ascii").partition("\n")[2]
    line = f"'''exec' {quote}{python}{quote} \"$0\" \"$@\"\n' '''\n"
    program.write_text(f"#!/bin/sh\n{line}{text}", "ascii")
    # sh, which stands in for Python, would read the line again, and for ever.
    python.unlink()
    python.write_text(f"#!/bin/sh\n{text}", "ascii")
    python.chmod(0o755)


def _roots_interpreter_below(program: Path) -> None:
    python = program.with_name("python")
    program.rename(python)
    program.write_text(f"#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n", "ascii")
    program.chmod(0o755)


def _roots_interpreter_on_the_path(program: Path) -> None:
    text = program.read_text("ascii").partition("\n")[2]
    program.write_text(f"#!/usr/bin/env sh\n{text}", "ascii")


def _folder_above(program: Path) -> None:
    above = program.parent.parent / "above"
    above.mkdir()
    program.parent.rename(above / "bin")
    program.parent.symlink_to(above / "bin")
    _theirs(above)


def _group(path: Path) -> None:
    shutil.chown(path, group="nogroup")
    path.chmod(0o775)


TRAPS: dict[str, Callable[[Path], None]] = {
    "program": _theirs,
    "folder": lambda program: _theirs(program.parent),
    "folder above": _folder_above,
    "writable": lambda program: program.parent.chmod(0o777),
    "writable program": lambda program: program.chmod(0o757),
    "writable for a group": lambda program: _group(program.parent),
    "program, writable for a group": _group,
    "link": _link_to_theirs,
    "link into their folder": _link_into_their_folder,
    "interpreter": _their_interpreter,
    "interpreter on PATH": _their_interpreter_on_the_path,
    "interpreter in the second line": partial(_their_interpreter_below, ""),
    "quoted": partial(_their_interpreter_below, '"'),
    "quoted once": partial(_their_interpreter_below, "'"),
}
HARMLESS: dict[str, Callable[[Path], None]] = {
    "sticky": lambda program: program.parent.chmod(0o1777),
    "writable for root's group": lambda program: program.parent.chmod(0o775),
    "interpreter on PATH": _roots_interpreter_on_the_path,
    "interpreter in the second line": _roots_interpreter_below,
    "link to root's": lambda program: program.symlink_to(program.rename(program.with_name("x"))),
}


def _ran(script: Path, folder: Path, spoil: Callable[[Path], None], shell: str) -> tuple[bool, int]:
    """Whether root's script ran the program after *spoil*, and its exit code."""
    ran = folder / "ran"
    program = folder / "place" / "qs-certs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n: >'{ran}'\n", "ascii")
    program.chmod(0o755)
    spoil(program)
    done = subprocess.run(
        [*SHELLS[shell], script],
        env={"PATH": f"{program.parent}:{PLACES}", "HOME": str(folder)},
        cwd="/",
        capture_output=True,
        check=False,
    )
    return ran.exists(), done.returncode


@every_script
@pytest.mark.parametrize("trap", TRAPS.values(), ids=TRAPS)
def test_root_runs_no_program_that_somebody_else_can_change(
    as_root: Path, script: Path, trap: Callable[[Path], None]
) -> None:
    assert _ran(script, as_root, trap, "dash") == (False, {INSTALL: 127}.get(script, 0))


@pytest.mark.parametrize("trap", [*TRAPS])
def test_in_every_shell(as_root: Path, shell: str, trap: str) -> None:
    assert _ran(INSTALL, as_root, TRAPS[trap], shell) == (False, 127)


@pytest.mark.parametrize("state", HARMLESS.values(), ids=HARMLESS)
def test_root_runs_its_own_program(
    as_root: Path, shell: str, state: Callable[[Path], None]
) -> None:
    """The control."""
    assert _ran(INSTALL, as_root, state, shell) == (True, 0)


# --- the real program ---------------------------------------------------------------------------

State = Callable[[Program], None]


def missing(program: Program) -> None:
    assert not program.root_file.exists()


def compliant(program: Program) -> None:
    program.ok("install", "--offline")


def could_not_tell(program: Program) -> None:
    """Nobody can say what is in a pipe."""
    program.root_file.parent.mkdir(mode=0o700)
    os.mkfifo(program.root_file)


def broken_store(program: Program) -> None:
    program.store.parent.mkdir(parents=True)
    program.store.write_text("a file in the way", "ascii")


def damaged(program: Program) -> None:
    program.root_file.parent.mkdir(mode=0o700)
    program.root_file.write_text(
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "ascii"
    )


STATES = [
    # state, the word of `check`, what `install` ends with, the word afterwards
    pytest.param(missing, "install-needed", 0, "compliant", id="missing"),
    pytest.param(compliant, "compliant", 0, "compliant", id="compliant"),
    pytest.param(could_not_tell, "could-not-tell", 6, "could-not-tell", id="could not tell"),
    pytest.param(broken_store, "install-needed", 6, "install-needed", id="broken store"),
    pytest.param(damaged, "install-needed", 1, "install-needed", id="damaged"),
]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    home = tmp_path / "ana"
    home.mkdir()
    return Program(home)


@pytest.mark.parametrize(("state", "before", "code", "after"), STATES)
def test_detection_and_installation_agree_with_the_real_program(
    program: Program, tmp_path: Path, state: State, before: str, code: int, after: str
) -> None:
    state(program)
    found = {row.word: row for row in VERDICTS}
    seen = snapshot(program.home)
    for word in (before, after):
        jamf = run(JAMF, folder=tmp_path, program=real(program))
        intune = run(INTUNE, folder=tmp_path, program=real(program))
        munki = run(INSTALLCHECK, folder=tmp_path, program=real(program))
        assert jamf.out.startswith(f"<result>{word} qs-certs: "), jamf
        assert jamf.out == f"<result>{intune.out.rstrip()}</result>\n"
        assert munki.code == found[word].installcheck, munki
        assert munki.out in intune.out
        if word is before:
            assert snapshot(program.home) == seen, "detection changes nothing"
            install = run(INSTALL, folder=tmp_path, program=real(program))
            assert install.code == code, install


@pytest.mark.parametrize("shell", ["zsh", "busybox"])
def test_installing_twice_changes_nothing_the_second_time(
    program: Program, tmp_path: Path, shell: str
) -> None:
    if shutil.which(SHELLS[shell][0], path=PLACES) is None:
        pytest.skip(f"needs {shell}")
    first = run(INSTALL, folder=tmp_path, program=real(program), shell=shell)
    assert (first.code, "added digicert-global-root-g2" in first.out) == (0, True)
    after = snapshot(program.home)
    second = run(INSTALL, folder=tmp_path, program=real(program), shell=shell)
    assert (second.code, "nothing to do" in second.out) == (0, True)
    assert snapshot(program.home) == after
