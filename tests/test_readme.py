"""The README and docs/ against the program: commands, options, transcripts, tables, links.

What the README shows as a transcript is run again, line by line.  What it calls an option exists,
and every option of the program is in the README.
"""

from __future__ import annotations

import re
import shlex
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import typer

from qs_certs import cli
from qs_certs.catalogue import DEFAULT
from qs_certs.completion import SCRIPTS
from qs_certs.errors import ExitCode
from qs_certs.knowledge import find_client
from tests import https
from tests.pki import Authority
from tests.postgres import Postgres
from tests.program import NO_NETWORK, SOURCE, Program

README = (SOURCE / "README.md").read_text("utf-8")
PAGES = (
    SOURCE / "README.md",
    SOURCE / "CHANGELOG.md",
    *sorted((SOURCE / "docs").glob("*.md")),
)
# typer's own types: which click they come from depends on its version.
GROUP: Any = typer.main.get_command(cli.app)
COMMANDS: dict[str, Any] = GROUP.commands
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]

linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="only on Linux: its paths are shown"
)

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [body for name, body in FENCE.findall(README) if name == language]


def inline_code(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", text))


# --- commands and options -----------------------------------------------------------------------


def simple_commands(line: str) -> Iterator[list[str]]:
    """The words of each command in a line of shell, without comments and redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for token in lexer:
        if set(token) <= set("|&;<>"):
            yield words
            words = []
        else:
            words.append(token)
    yield words


def command_lines(text: str, languages: tuple[str, ...] = ("sh", "console")) -> list[str]:
    """Every call of qs-certs: in code blocks, in transcripts, in running text."""
    fenced = [
        line
        for name, body in FENCE.findall(text)
        if name in languages
        for line in body.splitlines()
    ]
    lines = [line.removeprefix("$ ") for line in fenced if line.startswith(("$ ", "qs-certs "))]
    return [line for line in (*lines, *inline_code(text)) if line.startswith("qs-certs ")]


def parse(line: str) -> None:
    """As the program would; raises where it would call it wrong usage."""
    for words in simple_commands(line):
        if words[:1] != ["qs-certs"]:
            continue
        if words[1:] == ["--version"]:
            continue
        if words[1] == "--completion":
            if words[2:] not in ([each] for each in (*SCRIPTS, "SHELL")):
                raise USAGE_ERROR(f"no such shell: {words[2:]}")
            continue
        if words[1] not in COMMANDS:
            raise USAGE_ERROR(f"no such command: {words[1]}")
        COMMANDS[words[1]].make_context(words[1], words[2:])


@pytest.mark.parametrize("line", sorted(set(command_lines(README))))
def test_every_command_line_of_the_readme_parses(line: str) -> None:
    parse(line)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("qs-certs install --no-such-option", id="unknown option"),
        pytest.param("qs-certs uninstall", id="unknown command"),
        pytest.param("qs-certs rollback && qs-certs rollback x", id="wrong value in the second"),
        pytest.param("qs-certs check --sslmode", id="missing value"),
        pytest.param("qs-certs --completion tcsh", id="unknown shell"),
        pytest.param("qs-certs list a b", id="too many words"),
    ],
)
def test_a_wrong_command_line_is_noticed(line: str) -> None:
    with pytest.raises(USAGE_ERROR):
        parse(line)


def test_enough_command_lines_are_looked_at() -> None:
    found = set(command_lines(README))
    assert len(found) > 25
    for name in COMMANDS:
        assert any(line.startswith(f"qs-certs {name}") for line in found), name


def options() -> set[str]:
    """Every option of every command, as `--help` shows it."""
    found = {"--help"}
    for command in (GROUP, *COMMANDS.values()):
        for parameter in command.params:
            found.update(each for each in parameter.opts if each.startswith("-"))
    return found


def options_named(text: str) -> set[str]:
    code = [*inline_code(text), *(body for _, body in FENCE.findall(text))]
    return {word for each in code for word in re.findall(r"(?<![\w/-])--?[a-z][a-z0-9-]*", each)}


def test_every_option_of_the_program_is_in_the_readme() -> None:
    assert options() - options_named(README) == set()


OF_OTHER_PROGRAMS = {
    "--uninstall",  # scripts/onboard.py
    *("--output", "--expected"),  # scripts/report.py
    *("-noout", "-fingerprint", "-sha256", "-in"),  # openssl
}


def test_the_readme_names_no_option_that_does_not_exist() -> None:
    assert options_named(README) - options() == OF_OTHER_PROGRAMS


def test_the_defaults_are_the_program_s() -> None:
    def default(command: str, option: str) -> object:
        (found,) = (each for each in COMMANDS[command].params if option in each.opts)
        return found.default

    rows = re.findall(r"^\| `(--[\w-]+) \w+` \|.*\((\d+)\) \|$", README, re.MULTILINE)
    shown = [(option, float(value)) for option, value in rows]
    assert shown == [
        ("--warn-days", default("check", "--warn-days")),
        ("--timeout", default("check", "--timeout")),
        ("--timeout", default("install", "--timeout")),
    ]


# --- transcripts --------------------------------------------------------------------------------


def replay(transcript: str, program: Program, tidy: Callable[[str], str]) -> str:
    """What the program shows today for the commands of a transcript."""
    shown = ""
    for line in transcript.splitlines():
        if line.startswith("$ "):
            (words,) = simple_commands(line.removeprefix("$ "))
            done = program(*words[1:])
            shown += f"{line}\n{done.err}{done.out}"
    return tidy(shown)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """The program of a user whose password database agrees with HOME."""
    home = tmp_path / "ana"
    home.mkdir()
    monkeypatch.setattr("qs_certs.accounts.password_database_home", lambda: str(home))
    return Program(home)


def at_home(program: Program) -> Callable[[str], str]:
    return lambda text: text.replace(str(program.home), "/home/ana")


@linux_only
def test_the_first_screen_is_what_the_program_shows(program: Program, tmp_path: Path) -> None:
    authority = trustme.CA()
    pem = (SOURCE / "qs_certs" / "roots" / f"{DEFAULT}.pem").read_bytes()
    with https.serving(authority, {"/root.pem": https.answer(pem)}) as site:
        env = {
            "HTTPS_PROXY": "",
            "QS_CERTS_URL": site.url("/root.pem"),
            "REQUESTS_CA_BUNDLE": str(https.authority_file(authority, tmp_path)),
        }
        shown = replay(blocks("console")[0], Program(program.home, env), at_home(program))
    assert shown == blocks("console")[0]
    assert site.seen, "the certificate was downloaded"


@linux_only
def test_a_replay_notices_what_has_changed(program: Program) -> None:
    """Without the download, as a control: another source, and a warning."""
    shown = replay(blocks("console")[0], program, at_home(program))
    assert shown != blocks("console")[0]
    assert NO_NETWORK not in shown


@pytest.mark.psql
@linux_only
def test_the_live_check_is_what_the_program_shows(
    program: Program, postgres_server: Postgres
) -> None:
    root = Authority.root("Example Root CA")
    issuing = root.intermediate("Example Issuing CA")
    leaf = issuing.leaf(dns=["db.example.com"], common_name="db.example.com")
    postgres_server.set_tls(issuing.chain(leaf), leaf.key_pem)
    ca = program.home / "ca.pem"
    ca.write_bytes(root.certificate.pem)
    program.ok("install", "--offline")
    program.ok("install", "--from", ca, "--sha256", root.certificate.sha256)

    def tidy(text: str) -> str:
        text = text.replace(f":{postgres_server.port}", ":5432")
        return re.sub(r"(O=qs-certs tests|CN=db\.example\.com)  to [\d-]+", r"\1  to DATE", text)

    transcript = blocks("console")[1]
    elsewhere = Program(program.home, {"PGPORT": str(postgres_server.port)})
    assert replay(transcript, elsewhere, lambda text: tidy(at_home(program)(text))) == tidy(
        transcript
    )


def test_there_is_no_transcript_that_is_not_replayed() -> None:
    assert len(blocks("console")) == 2


def test_the_python_example_runs(
    program: Program, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("the example uses the network")

    monkeypatch.setattr(socket, "create_connection", unreachable)
    monkeypatch.setenv("HOME", str(program.home))
    monkeypatch.delenv("PGSSLROOTCERT", raising=False)
    monkeypatch.delenv("QS_CERTS_STORE", raising=False)
    monkeypatch.delenv("SUDO_UID", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    (example,) = blocks("python")
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("ok root-present ")
    assert program.root_file.exists()


# --- tables -------------------------------------------------------------------------------------


def table(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its two header lines."""
    section = README.split(f"\n## {heading}\n", 1)[1]
    rows = re.search(r"(?:^\|.*\|\n)+", section, re.MULTILINE)
    assert rows is not None
    lines = rows[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_exit_codes_are_those_of_the_program() -> None:
    assert [int(row[0]) for row in table("Exit codes")] == [int(code) for code in ExitCode]


@pytest.mark.parametrize(
    ("words", "prepare", "code"),
    [
        pytest.param("check", "", 1, id="install would fix it"),
        pytest.param("install --offline --dry-run", "", 1, id="changes with --dry-run"),
        pytest.param("check", "install --offline", 0, id="healthy"),
        pytest.param("install", "install --offline", 0, id="nothing to do"),
        pytest.param("install --no-such-option", "", 2, id="wrong usage"),
        pytest.param("check 127.0.0.1:1", "install --offline", 4, id="could not tell"),
        pytest.param("install --from -", "", 4, id="nothing in the source"),
        pytest.param("install --from LICENSE", "", 4, id="no certificate"),
        pytest.param(
            "install --from qs_certs/roots/digicert-global-root-g3.pem", "", 5, id="wrong pin"
        ),
    ],
)
def test_an_exit_code_is_met_where_the_table_says(
    program: Program, monkeypatch: pytest.MonkeyPatch, words: str, prepare: str, code: int
) -> None:
    monkeypatch.chdir(SOURCE)
    if prepare:
        program.ok(*prepare.split())
    assert program(*words.split()).code == code


@pytest.mark.psql
def test_the_trap_of_prefer_is_what_check_finds_at_a_server_of_another_root(
    program: Program, postgres: Postgres
) -> None:
    def modes() -> dict[str, tuple[str, str]]:
        (server,) = program("check", postgres.conninfo(), "--json").document["servers"]
        return {
            each["mode"]: (each["outcome"], each["outcome_if_plaintext_refused"])
            for each in server["sslmodes"]
        }

    rows = {
        mode: row[1]
        for row in table("Before you install: the trap of `prefer`")
        for mode in re.findall(r"`([a-z-]+)`", row[0])
    }
    before = modes()
    program.ok("install", "--offline")
    after = modes()
    assert list(rows) == list(after)
    for mode, told in rows.items():
        assert ("no change" in told) == (before[mode] == after[mode] and "failed" not in told)
        assert ("was encrypted without" in told) == (before[mode][0] == "encrypted"), mode
        assert ("failed before" in told) == (before[mode] == ("fails", "fails")), mode
        assert ("plaintext" in told) == (after[mode][0] == "plaintext"), mode
        if mode != "disable":
            assert "fails" in told, mode
            assert after[mode][1] == "fails", mode


COMMON = ["schema", "command", "exit_code", "status"]
RUNS = {
    "install": ["--offline", "--dry-run"],
    "explain": ["root-missing"],
}


def keys_in_readme() -> dict[str, list[str]]:
    rows = table("JSON")
    return {
        command: re.findall(r"`(\w+)`", row[1])
        for row in rows
        for command in re.findall(r"`(\w+)`", row[0]) or ["failed"]
    }


def test_the_common_json_keys_are_named() -> None:
    assert "All documents have " + ", ".join(f"`{key}`" for key in COMMON[:-1]) in README


@pytest.mark.parametrize("command", COMMANDS)
def test_the_json_keys_are_those_of_the_program(program: Program, command: str) -> None:
    document = program(command, *RUNS.get(command, []), "--json").document
    assert list(document) == COMMON + keys_in_readme()[command]
    failed = program(command, "--no-such-option", "--json").document
    assert list(failed) == COMMON + keys_in_readme()["failed"]


def test_the_keys_of_a_finding_are_those_of_the_program(program: Program) -> None:
    (finding,) = program("check", "--json").document["findings"]
    assert list(finding) == ["code", "severity", "message", "fix", "advice"]
    sentence = "A finding has `code`, `severity` (`ok`, `warning` or `error`), `message`, `fix` and `advice`."
    assert sentence in README


def test_clients_that_the_readme_calls_blind_are_blind() -> None:
    sentence = re.search(r"^  (.*) verify by other means or not at all", README, re.MULTILINE)
    assert sentence is not None
    named = ["power-bi", "tableau", "looker", "postico", "node-postgres"]
    assert all(name.split("-")[0] in sentence[1].lower() for name in named)
    for name in named:
        for client in find_client(name):
            assert not client.linux.root_file_matters, name
            assert not client.windows.root_file_matters, name
    assert any(client.linux.root_file_matters for client in find_client("psql"))


# Good news explains itself.
BAD_NEWS = re.findall(r"^[✗!] .*\[([a-z-]+)\]$", README, re.MULTILINE)


@pytest.mark.parametrize("code", BAD_NEWS)
def test_a_finding_code_in_the_readme_can_be_explained(program: Program, code: str) -> None:
    assert f"[{code}]" in program.ok("explain", code).out


# --- the two commands, and links ----------------------------------------------------------------


def test_the_test_command_is_there_once_and_ci_runs_it() -> None:
    assert blocks("sh").count("python3 scripts/test.py\n") == 1
    script = (SOURCE / ".ci" / "run").read_text("utf-8")
    pattern = re.search(r"grep -x '([^']+)' README\.md", script)
    assert pattern is not None
    found = [line for line in README.splitlines() if re.fullmatch(pattern[1], line)]
    assert found == ["python3 scripts/test.py"]


def test_the_onboarding_command_is_a_block_of_its_own() -> None:
    assert blocks("sh").count("python3 scripts/onboard.py\n") == 1
    onboard = (SOURCE / "scripts" / "onboard.py").read_text("utf-8")
    assert '"--uninstall" in arguments' in onboard


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def broken_links(page: Path) -> list[str]:
    text = FENCE.sub("", page.read_text("utf-8"))
    broken = []
    for link in re.findall(r"\]\(([^)]+)\)", text):
        name, _, fragment = link.partition("#")
        if "://" in link:
            continue
        target = page if not name else (page.parent / name).resolve()
        if not target.exists() or (fragment and fragment not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def test_a_broken_link_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A Heading\n[a](#a-heading) [b](#b) [c](missing.md) [d](page.md)\n", "utf-8")
    assert broken_links(page) == ["#b", "missing.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:qs_certs|tests|scripts|docs|requirements)/[\w./-]*)`", page.read_text("utf-8")
    )
    assert [each for each in named if not (SOURCE / each).exists()] == []


@linux_only
def test_the_store_is_where_the_readme_says(program: Program) -> None:
    program.ok("install", "--offline")
    assert (program.store / "journal.jsonl").exists()
    assert (program.store / "README.txt").exists()
    assert str(program.store.relative_to(program.home)) in README
