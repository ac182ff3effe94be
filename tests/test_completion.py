"""What shells offer: real ones at a real terminal, with a real Tab.

The shells run a `qs-certs` that writes down what it was called with, unless a shell asks it what to
offer.  So a line that ends in Tab and Enter tells what Tab has made of it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import typer

import qs_certs
from qs_certs import catalogue, cli, completion, versions
from qs_certs.knowledge.findings import FINDINGS
from qs_certs.libpq.outcomes import SSLMODES
from tests.program import SOURCE, Program, snapshot

if sys.platform == "win32":
    pytest.skip("only on POSIX", allow_module_level=True)

import fcntl
import pty
import select
import termios

PATIENCE = 60.0
SERVICES = "[reports]\nhost=db.test\n[rep orts]\n[$(touch\tgone)]\n[a;b]\n['a]\n[*]\n"

# How each shell is started without anybody's files, and made to know its own script.
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], '. "{script}"'),
    "zsh": (["zsh", "-f", "-i"], 'autoload -Uz compinit; compinit -u -D; . "{script}"'),
    "zsh, from fpath": (
        ["zsh", "-f", "-i"],
        'cp "{script}" _qs-certs; fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D',
    ),
    "fish": (["fish", "--no-config", "--interactive"], 'source "{script}"'),
}


@dataclass(slots=True)
class Terminal:
    """An interactive shell.  *shown* is all that it has put on the screen."""

    descriptor: int
    folder: Path
    shown: bytes = b""

    def until(self, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not happened():
            assert time.monotonic() < deadline, self.shown.decode(errors="replace")
            if select.select([self.descriptor], [], [], 0.02)[0]:
                self.shown += os.read(self.descriptor, 4096)

    def type(self, line: str) -> None:
        os.write(self.descriptor, line.encode())

    def called(self, line: str) -> list[str]:
        """The words that `qs-certs LINE`, Tab and Enter call it with."""
        called = self.folder / "called"
        called.unlink(missing_ok=True)
        self.type(f"qs-certs {line}\t\n")
        self.until(called.exists)
        return called.read_text().splitlines()


@contextlib.contextmanager
def terminal(shell: str, program: Program) -> Iterator[Terminal]:
    """*shell* with its script, in the home of *program*."""
    start, know = SHELLS[shell]
    if shutil.which(start[0]) is None:
        pytest.skip(f"needs {start[0]}")
    folder = program.home / "bin"
    folder.mkdir()
    script = folder / "script"
    script.write_text(program.ok("--completion", start[0]).out)
    command = folder / "qs-certs"
    command.write_text(
        '#!/bin/sh\n[ -n "$_QS_CERTS_COMPLETE" ] || {\n'
        f'  printf "%s\\n" "$@" >"{folder}/part"; mv "{folder}/part" "{folder}/called"; exit\n}}\n'
        f'exec "{sys.executable}" -m qs_certs "$@"\n'
    )
    command.chmod(0o755)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        start,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**program.environment, "PATH": f"{folder}:{os.environ['PATH']}", "TERM": "xterm"},
        cwd=program.home,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
    )
    os.close(theirs)
    screen = Terminal(ours, folder)
    try:
        screen.type(know.format(script=script) + "; echo rea''dy\n")
        screen.until(lambda: b"ready" in screen.shown)
        yield screen
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.fixture(scope="module", params=SHELLS)
def shell(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Terminal]:
    """Each shell, for a user with one change in the history, and a service file."""
    home = tmp_path_factory.mktemp("home")
    (home / ".pg_service.conf").write_text(SERVICES)
    (home / "ca.pem").touch()
    program = Program(home)
    program.ok("install", "--offline")
    with terminal(request.param, program) as screen:
        yield screen


COMPLETED = {
    "a command": ("rollb", ["rollback"]),
    "an option": ("install --repl", ["install", "--replace"]),
    "a root": ("install micr", ["install", "microsoft-rsa-root-ca-2017"]),
    "a change": ("rollback ", ["rollback", "1"]),
    "a service": ("check --service re", ["check", "--service", "reports"]),
    "a mode": ("check --sslmode req", ["check", "--sslmode", "require"]),
    "a client": ("clients power-b", ["clients", "power-bi"]),
    "a finding": ("explain root-mis", ["explain", "root-missing"]),
    "a format": ("check --format nag", ["check", "--format", "nagios"]),
    "a shell": ("--completion fi", ["--completion", "fish"]),
    "a file": ("list --target ca.p", ["list", "--target", "ca.pem"]),
    "nothing": ("explain nonsense", ["explain", "nonsense"]),
}


@pytest.mark.parametrize(("line", "words"), COMPLETED.values(), ids=COMPLETED)
def test_tab_completes(shell: Terminal, line: str, words: list[str]) -> None:
    assert shell.called(line) == words


def test_names_that_a_shell_could_obey_are_not_offered(shell: Terminal) -> None:
    """zsh evaluates what it is offered."""
    assert shell.called("check --service rep") == ["check", "--service", "reports"]
    assert not any(each.name.startswith("gone") for each in shell.folder.parent.iterdir())


def test_what_begins_several_words_stays_as_it_is(shell: Terminal) -> None:
    """The control of the rows above, in a shell that does not choose for its user."""
    assert shell.called("install --re") in (
        ["install", "--re"],
        ["install", "--rep"],  # fish and zsh: as far as --repair and --replace agree
    )


# --- what is offered, in this process -------------------------------------------------------------


@pytest.fixture
def program(tmp_path: Path) -> Program:
    (tmp_path / ".pg_service.conf").write_text(SERVICES)
    return Program(tmp_path)


def offered(program: Program, line: str) -> list[str]:
    """The words that the program offers for *line*, as typer tells fish."""
    asked = {
        "_QS_CERTS_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": f"qs-certs {line}",
    }
    done = Program(program.home, {**program.env, **asked})()
    assert (done.code, done.err) == (0, "")
    return [each.partition("\t")[0] for each in done.out.splitlines() if each]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("install ", list(catalogue.ROOTS)),
        (f"remove {catalogue.DEFAULT} dig", [r for r in catalogue.ROOTS if r.startswith("dig")][1:]),
        ("explain root-", [code for code in FINDINGS if code.startswith("root-")]),
        ("check --service ", ["reports"]),
        ("rollback ", []),
        ("history --target elsewhere ", []),
    ],
    ids=str,
)  # fmt: skip
def test_what_fits_is_offered(program: Program, line: str, words: list[str]) -> None:
    assert offered(program, line) == words


def test_changes_are_those_of_the_file_that_is_named_newest_first(program: Program) -> None:
    program.ok("install", "--offline")
    program.ok("remove")
    program.ok("install", "--offline", "--dedicated")
    assert offered(program, "rollback ") == ["2", "1"]
    assert offered(program, "rollback --dedicated ") == ["3"]
    assert offered(program, f"history --target {program.dedicated_file} ") == ["3"]
    assert offered(program, "rollback --user somebody ") == []


def test_a_damaged_journal_offers_nothing_and_says_nothing(program: Program) -> None:
    program.ok("install", "--offline")
    assert offered(program, "rollback ") == ["1"]
    (program.store / "journal.jsonl").write_text("nonsense\n" * 2)
    assert program("history").code == 5
    assert offered(program, "rollback ") == []


def test_offering_writes_nothing(program: Program) -> None:
    program.ok("install", "--offline")
    before = snapshot(program.home)
    assert offered(program, "rollback ")
    for shell in completion.SCRIPTS:
        program.ok("--completion", shell)
    assert snapshot(program.home) == before


def test_every_argument_and_option_that_we_know_words_for_offers_them() -> None:
    """Those without are files, numbers and texts; a new one is decided upon here."""
    group: Any = typer.main.get_command(cli.app)
    without = {
        parameter.opts[0]
        for command in group.commands.values()
        for parameter in command.params
        if not parameter._custom_shell_complete and not getattr(parameter, "is_flag", False)
    }
    files = {"--target", "--also", "--ca-bundle", "--from"}
    theirs = {"conninfo", "--host", "--port", "--sha256", "--url", "--user"}
    numbers = {"--timeout", "--warn-days", "--limit", "--keep", "--older-than"}
    chosen = {"--format"}  # typer knows its values
    assert without == files | theirs | numbers | chosen


# --- cost, and the scripts ------------------------------------------------------------------------


def loaded(environment: dict[str, str], *words: str) -> set[str]:
    """The modules that a run of the program loads."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "qs_certs", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


def test_an_ordinary_run_loads_nothing_for_completion(program: Program) -> None:
    typers_own = {"typer.completion", "typer._completion_classes", "qs_certs.completion"}
    program.ok("install", "--offline")
    ordinary = loaded(program.environment, "check")
    asking = {"_QS_CERTS_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "qs-certs install d"}
    tab = loaded({**program.environment, **asking})
    assert "qs_certs.rootfile" in ordinary
    assert typers_own <= tab
    assert "qs_certs.completion" not in ordinary
    assert not tab & {"rich", "requests", "cryptography", "ssl", "qs_certs.api"}


def readable(script: str) -> bool:
    """Whether *script* is PowerShell: parsed where a parser is here; its brackets close at least."""
    opened = []
    for letter in re.sub(r"'[^']*'|\"[^\"]*\"", "", script):
        if letter in "({[":
            opened.append(")}]"["({[".index(letter)])
        elif letter in ")}]" and (not opened or opened.pop() != letter):
            return False
    if importlib.util.find_spec("tree_sitter_powershell") is None:
        return not opened
    parsing = importlib.import_module("tree_sitter")
    grammar = importlib.import_module("tree_sitter_powershell")
    parser = parsing.Parser(parsing.Language(grammar.language()))
    return not opened and not parser.parse(script.encode()).root_node.has_error


def test_the_script_for_powershell_is_powershell() -> None:
    script = completion.SCRIPTS["powershell"]
    assert readable(script)
    assert not readable(script.replace("} finally {", "} finally"))
    used = set(re.findall(r"\b(_\w+_COMPLETE\w*|_TYPER_\w+)", script))
    assert used == {
        "_QS_CERTS_COMPLETE",
        "_TYPER_COMPLETE_ARGS",
        "_TYPER_COMPLETE_WORD_TO_COMPLETE",
    }


@pytest.mark.parametrize(
    ("line", "word", "words"),
    [("qs-certs roll", "roll", ["rollback"]), ("qs-certs check --sslmode ", "", list(SSLMODES)[::-1])],
    ids=str,
)  # fmt: skip
def test_what_powershell_asks_is_answered(
    program: Program, line: str, word: str, words: list[str]
) -> None:
    asked = {
        "_QS_CERTS_COMPLETE": "complete_powershell",
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_WORD_TO_COMPLETE": word,
    }
    done = Program(program.home, asked)()
    assert [each.split(":::")[0] for each in done.out.splitlines()] == words
    assert all(":::" in each for each in done.out.splitlines())


def test_the_scripts_of_the_bourne_family_have_nothing_that_shellcheck_minds(
    tmp_path: Path,
) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck")
    script = tmp_path / "qs-certs.bash"
    # SC2207: split at newlines, as meant; mapfile needs bash 4, and macOS has 3.2.
    command = ["shellcheck", "--shell=bash", "--exclude=SC2207", str(script)]
    script.write_text(completion.SCRIPTS["bash"])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    script.write_text(completion.SCRIPTS["bash"].replace("))", ")"))
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize("words", [["--completion", "tcsh"], ["--completion"]], ids=str)
def test_another_shell_is_wrong_usage(program: Program, words: list[str]) -> None:
    done = program(*words)
    assert (done.code, done.out) == (2, "")


# --- --version ------------------------------------------------------------------------------------


def test_version_names_what_a_bug_report_needs(program: Program) -> None:
    lines = program.ok("--version").out.splitlines()
    assert lines[0] == f"qs-certs {qs_certs.__version__}"
    told = dict(line.split(" ", 1) for line in lines)
    assert told["Python"].startswith(platform.python_version())
    assert told["OpenSSL"] in ssl.OPENSSL_VERSION
    assert told["system"] == platform.platform()
    for name in versions.LIBRARIES:
        assert told[name] == metadata.version(name)


def test_every_dependency_is_named_with_its_version() -> None:
    text = (SOURCE / "pyproject.toml").read_text("utf-8")
    named = text.split("\ndependencies = [\n", 1)[1].split("\n]\n", 1)[0]
    assert tuple(sorted(set(re.findall(r'^    "(\w+)', named, re.MULTILINE)))) == versions.LIBRARIES


def test_a_library_without_metadata_does_not_stop_version(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert "certifi unknown\n" in program.ok("--version").out
