"""Users of Windows: their names, their folders, and everything that the program does there."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import qs_certs
from qs_certs import accounts, catalogue, windows
from tests.program import Program, assert_one_clear_error, snapshot
from tests.windows import profile
from tests.windows.inside.conftest import Server

EMBEDDED = Path(qs_certs.__file__).parent / "roots" / f"{catalogue.DEFAULT}.pem"
NAMES = ["ana", "Ana Maria", "Anaïs Müller", "Јелена", "ana'(1) & co", "a%b"]

every_name = pytest.mark.parametrize("name", NAMES)


def test_the_program_under_test_is_the_installed_one() -> None:
    assert Path(qs_certs.__file__).is_relative_to(Path(sys.prefix))
    assert sys.platform == "win32"


@every_name
def test_a_whole_life_of_the_root_file(tmp_path: Path, name: str) -> None:
    program = Program(tmp_path / name)
    assert accounts.surroundings().root_file == str(program.root_file)
    assert program("check").code in (1, 3)  # 3: no code page for that name
    done = program.ok("install", "--offline", "--json")
    (target,) = done.document["targets"]
    assert Path(target["path"]) == program.root_file
    assert program.root_file.read_bytes() == EMBEDDED.read_bytes()
    (store,) = program.store.glob("blobs/*.crt")
    assert store.read_bytes() == EMBEDDED.read_bytes()
    before = snapshot(program.home)
    assert program.ok("install", "--offline", "--json").document["status"] == "unchanged"
    assert snapshot(program.home) == before
    (listed,) = program.ok("list", "--json").document["certificates"]
    assert listed["root"] == catalogue.DEFAULT
    program.ok("remove")
    assert not program.root_file.exists()
    program.ok("rollback")
    assert program.root_file.read_bytes() == EMBEDDED.read_bytes()
    program.ok("rollback", "1")
    assert not program.root_file.parent.exists()
    changes = program.ok("history", "--json").document["changes"]
    assert [each["command"] for each in changes] == ["install", "remove", "rollback", "rollback"]
    assert program("rollback", "7").code == 2


@pytest.mark.parametrize(
    ("words", "code"),
    [
        pytest.param("check", 1, id="nothing there"),
        pytest.param("install --offline --dry-run", 1, id="would change"),
        pytest.param("install --nonsense", 2, id="usage"),
        pytest.param("check localhost:1", 4, id="nobody answers"),
        pytest.param("install --from C:\\nothing.pem", 4, id="no source"),
        pytest.param("history", 0, id="no history"),
    ],
)
def test_the_exit_code_is_that_of_the_readme(program: Program, words: str, code: int) -> None:
    done = program(*words.split(), "--json")
    assert (done.code, done.document["exit_code"]) == (code, code)


def test_the_variable_appdata_moves_nothing_and_is_warned_about(program: Program) -> None:
    elsewhere = program.home / "elsewhere"
    moved = Program(program.home, {"APPDATA": str(elsewhere)})
    moved.ok("install", "--offline")
    assert program.root_file.exists()
    assert not elsewhere.exists()

    def codes(of: Program) -> set[str]:
        return {each["code"] for each in of("check", "--json").document["findings"]}

    assert "appdata-redirected" in codes(moved)
    right = Program(program.home, {"APPDATA": str(program.root_file.parent.parent)})
    assert "appdata-redirected" not in codes(right)


def test_the_registry_moves_everything(tmp_path: Path, program: Program) -> None:
    program.ok("install", "--offline")
    other = Program(tmp_path / "redirected")
    assert other("check", "--json").document["root_file"]["exists"] is False
    profile.redirect(program.home)
    assert other("check", "--json").document["root_file"]["exists"] is True


def test_a_name_that_the_code_page_lacks_is_explained(tmp_path: Path) -> None:
    assert windows.code_page() == 1252, "this test knows what that page lacks"
    program = Program(tmp_path / "Јелена")
    install = program.ok("install", "--offline", "--json").document
    assert "code-page-loses-path" in {each["code"] for each in install["findings"]}
    check = program("check", "--json")
    (finding,) = [
        each for each in check.document["findings"] if each["code"] == "code-page-loses-path"
    ]
    assert check.code == 3
    assert "which has no Јелна" in finding["message"]
    assert r"\??????\AppData" in finding["message"]
    fix = finding["fix"][-1]
    assert fix.startswith("setx PGSSLROOTCERT ")
    # Following the advice helps: that name is one that the code page can write.
    named = fix.removeprefix("setx PGSSLROOTCERT ").strip('"')
    assert named.isascii()
    for step in finding["fix"][:-1]:
        assert step.startswith("qs-certs install --target ")
    if len(finding["fix"]) == 1:
        assert Path(named).read_bytes() == EMBEDDED.read_bytes()
        again = Program(program.home, {"PGSSLROOTCERT": named})
        found = {each["code"] for each in again("check", "--json").document["findings"]}
        assert "root-present" in found
        assert "code-page-loses-path" not in found


@pytest.mark.parametrize("name", ["ana", "Ana Maria", "Anaïs Müller"])
def test_a_name_that_the_code_page_has_is_none_of_anybody_s_business(
    tmp_path: Path, name: str
) -> None:
    program = Program(tmp_path / name)
    program.ok("install", "--offline")
    assert program("check").code == 0


def test_the_private_copy_of_a_store_python_is_found(program: Program) -> None:
    local = program.home / "AppData" / "Local"
    package = local / "Packages" / "PythonSoftwareFoundation.Python.3.11_qbz5n2kfra8p0"
    copy = package / "LocalCache" / "Roaming" / "postgresql" / "root.crt"
    with_local = Program(program.home, {"LOCALAPPDATA": str(local)})

    def misplaced() -> list[str]:
        found = with_local("check", "--json").document["findings"]
        return [each["message"] for each in found if each["code"] == "misplaced-root-file"]

    assert misplaced() == []
    copy.parent.mkdir(parents=True)
    copy.write_bytes(EMBEDDED.read_bytes())
    (message,) = misplaced()
    assert message.startswith(str(copy))


# --- servers and drivers --------------------------------------------------------------------------


def test_the_live_check_passes_after_install_only(program: Program, server: Server) -> None:
    before = program("check", server.conninfo(), "--json")
    assert before.code == 3  # nobody knows that root
    assert before.document["servers"][0]["answer"] == "tls"
    program.ok("install", *server.options)
    after = program.ok("check", server.conninfo(), "--json").document
    assert {each["code"] for each in after["findings"]} >= {"verified"}
    program.ok("rollback")
    assert program("check", server.conninfo()).code == 3


asyncpg: Any = importlib.import_module("asyncpg")  # has no types, and is not everywhere


async def _connect(conninfo: str) -> bool:
    connection = await asyncpg.connect(conninfo, timeout=20)
    try:
        return bool(
            await connection.fetchval("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
        )
    finally:
        await connection.close()


def test_one_install_serves_libpq_and_asyncpg(
    program: Program, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    ClientConfigurationError = asyncpg.exceptions.ClientConfigurationError  # noqa: N806
    monkeypatch.setenv("USERPROFILE", str(program.home))
    dsn = f"postgresql://app@localhost:{server.port}/postgres?sslmode=verify-full"
    program.ok("install", *server.options)
    with pytest.raises(ClientConfigurationError, match=r"\.postgresql\\root\.crt"):
        asyncio.run(_connect(dsn))
    program.ok("rollback")

    mine = program.home / ".postgresql" / "root.crt"
    report = program.ok("install", *server.options, "--also", mine, "--json").document
    assert [Path(each["path"]) for each in report["targets"]] == [program.root_file, mine]
    assert len({each["change_id"] for each in report["targets"]}) == 2
    assert mine.read_bytes() == program.root_file.read_bytes()
    assert asyncio.run(_connect(dsn)) is True
    assert program("check", "--strict", server.conninfo()).code == 0  # it is not "misplaced"
    program.ok("rollback", "--target", mine)
    with pytest.raises(ClientConfigurationError):
        asyncio.run(_connect(dsn))
    assert program.root_file.exists()


def test_asyncpg_s_file_alone_is_no_use_to_libpq(program: Program) -> None:
    program.ok("install", "--offline", "--target", program.home / ".postgresql" / "root.crt")
    found = {each["code"] for each in program("check", "--json").document["findings"]}
    assert {"root-missing", "misplaced-root-file"} <= found


# --- what stands there ----------------------------------------------------------------------------


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_crlf_line_ends_stay(program: Program) -> None:
    old = b"# mine\r\n" + EMBEDDED.read_bytes().replace(b"\n", b"\r\n")
    put(program.root_file, old)
    program.ok("install", "--offline", "digicert-global-root-g3")
    assert program.root_file.read_bytes().startswith(old)
    program.ok("remove", "digicert-global-root-g3")
    assert program.root_file.read_bytes() == old


def test_what_powershell_s_redirection_wrote_is_mended(program: Program) -> None:
    old = EMBEDDED.read_text("ascii").replace("\n", "\r\n").encode("utf-16")
    put(program.root_file, old)
    assert program("check").code == 1
    assert not _loads(program.root_file)
    (target,) = program.ok("install", "--offline", "--json").document["targets"]
    assert target["repaired"]
    assert _loads(program.root_file)
    program.ok("rollback")
    assert program.root_file.read_bytes() == old


def _loads(path: Path) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(str(path))
    except ssl.SSLError:
        return False
    return bool(context.get_ca_certs())


def test_a_hidden_extension_is_found(program: Program) -> None:
    put(program.root_file.with_name("root.crt.txt"), EMBEDDED.read_bytes())
    found = {each["code"] for each in program("check", "--json").document["findings"]}
    assert {"root-missing", "misnamed-root-file"} <= found


# --- names of targets -----------------------------------------------------------------------------


def test_a_path_beyond_260_characters(program: Program) -> None:
    target = program.home.joinpath(*["a folder with a name of forty characters"] * 8, "root.crt")
    assert len(str(target)) > 320
    done = program("install", "--offline", "--target", target)
    if done.code == 0:  # Wine always, Windows where long paths are enabled
        assert target.read_bytes() == EMBEDDED.read_bytes()
        program.ok("rollback", "--target", target)
        assert not target.exists()
    else:
        assert_one_clear_error(done, 6, "characters")


def test_a_drive_relative_target_is_in_that_drive_s_current_folder(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(program.home)
    drive = program.home.drive
    (target,) = program.ok(
        "install", "--offline", "--target", f"{drive}mine.crt", "--json"
    ).document["targets"]
    assert Path(target["path"]) == program.home / "mine.crt"
    assert (program.home / "mine.crt").read_bytes() == EMBEDDED.read_bytes()
    monkeypatch.chdir(program.home.parent)
    program.ok("rollback", "--target", program.home / "mine.crt")  # the history knows it as that
    assert not (program.home / "mine.crt").exists()


def test_a_target_on_a_share(program: Program) -> None:
    share = os.environ.get("QS_CERTS_SHARE")
    if share is None:
        pytest.skip("not on Windows by itself: nobody has made a share")
    target = rf"{share}\postgresql\root.crt"
    program.ok("install", "--offline", "--target", target)
    assert Path(target).read_bytes() == EMBEDDED.read_bytes()
    assert program.ok("list", "--target", target, "--json").document["exists"]
    program.ok("rollback", "--target", target)
    assert not Path(target).exists()


def test_upper_and_lower_case_name_the_same_file(program: Program) -> None:
    target = program.home / "Mine" / "Root.crt"
    program.ok("install", "--offline", "--target", target)
    shouted = str(target).upper()
    assert len(program.ok("history", "--target", shouted, "--json").document["changes"]) == 1
    program.ok("rollback", "--target", shouted)
    assert not target.exists()


# --- consoles -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "marks"),
    [("cp437", False), ("cp1252", False), ("utf-8", True)],
)
def test_a_console_that_lacks_our_marks(tmp_path: Path, encoding: str, marks: bool) -> None:
    program = Program(tmp_path / "Јелена", {"PYTHONIOENCODING": encoding})
    with program.start("install", "--offline") as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert b"Traceback" not in err
    assert ("✓" in out.decode(encoding)) is marks
    assert (r"\u0408" in out.decode(encoding)) is not marks


@pytest.mark.parametrize("command", ["install --help", "clients"])
def test_every_text_can_be_printed_in_the_old_console(program: Program, command: str) -> None:
    old = Program(program.home, {"PYTHONIOENCODING": "cp437:strict"})
    with old.start(*command.split()) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.decode("cp437").strip()


def test_the_command_that_pip_made_is_the_program(program: Program) -> None:
    exe = Path(sys.prefix, "Scripts", "qs-certs.exe")
    done = subprocess.run(
        [exe, "roots", "--json"], env=program.environment, capture_output=True, check=True
    )
    assert json.loads(done.stdout)["roots"][0]["name"] == catalogue.DEFAULT
    missing = subprocess.run(
        [exe, "list", "--nonsense"], env=program.environment, capture_output=True, check=False
    )
    assert missing.returncode == 2
