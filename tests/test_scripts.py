"""The two commands of the README: what they make, what they refuse, what they remove again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import environment
import onboard
import pytest
import test as run_tests
from environment import COMPLETE, OURS, Recipe, SetupFailed, ensure, program
from onboard import Places, places

from tests.program import snapshot

ROOT = Path(__file__).resolve().parent.parent
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="only on POSIX")


# -- where things go ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "environ", "for_others", "app", "launcher"),
    [
        ("linux", {}, False, "/h/.local/share/qs-certs-app", "/h/.local/bin/qs-certs"),
        ("linux", {"XDG_DATA_HOME": "/d"}, False, "/d/qs-certs-app", "/h/.local/bin/qs-certs"),
        ("linux", {"XDG_DATA_HOME": "d"}, False, "/h/.local/share/qs-certs-app",
         "/h/.local/bin/qs-certs"),
        ("linux", {}, True, "/usr/local/lib/qs-certs-app", "/usr/local/bin/qs-certs"),
        ("darwin", {}, False, "/h/Library/Application Support/qs-certs-app",
         "/h/.local/bin/qs-certs"),
        ("darwin", {}, True, "/usr/local/lib/qs-certs-app", "/usr/local/bin/qs-certs"),
        ("win32", {"LOCALAPPDATA": "/l"}, False, "/l/qs-certs-app",
         "/l/qs-certs-app/bin/qs-certs.cmd"),
        ("win32", {}, False, "/h/AppData/Local/qs-certs-app",
         "/h/AppData/Local/qs-certs-app/bin/qs-certs.cmd"),
    ],
    ids=["Linux", "XDG", "relative XDG is ignored", "Linux, root for others", "macOS",
         "macOS, root for others", "Windows", "Windows without LOCALAPPDATA"],
)  # fmt: skip
def test_where_things_go(
    system: str, environ: dict[str, str], for_others: bool, app: str, launcher: str
) -> None:
    assert places(system, environ, Path("/h"), for_others) == Places(Path(app), Path(launcher))


@pytest.mark.parametrize("for_others", [False, True])
def test_one_variable_moves_everything(tmp_path: Path, for_others: bool) -> None:
    where = places("linux", {"QS_CERTS_HOME": str(tmp_path)}, Path("/h"), for_others)
    assert where == Places(tmp_path, tmp_path / "bin" / "qs-certs")


@posix_only
@pytest.mark.parametrize(
    ("uid", "environ", "arguments", "expected"),
    [
        (0, {}, [], False),
        (0, {"SUDO_UID": "1000"}, [], True),
        (0, {}, ["--all-users"], True),
        (0, {}, ["--user=ada"], True),
        (0, {}, ["--user", "ada"], True),
        (1000, {"SUDO_UID": "1000"}, ["--all-users"], False),
    ],
)
def test_root_acts_for_others_under_sudo_or_when_told_to(
    monkeypatch: pytest.MonkeyPatch,
    uid: int,
    environ: dict[str, str],
    arguments: list[str],
    expected: bool,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert onboard.acts_for_others(environ, arguments) is expected


# -- environments ---------------------------------------------------------------------------------


class FakePip:
    """Real environments without pip; *commands* are those that would have installed something."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.interrupted = False

    def make_empty(self, folder: Path) -> list[str]:
        command = [sys.executable, "-I", "-m", "venv", "--without-pip", str(folder)]
        subprocess.run(command, check=True)
        return [str(folder), "install"]

    def pip(self, command: list[str]) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.commands.append(command)
        (site,) = [Path(command[0], "Lib", "site-packages")] if sys.platform == "win32" else (
            Path(command[0]).glob("lib/python*/site-packages")
        )  # fmt: skip
        (site / "checkout.pth").write_text(f"{ROOT}\n", encoding="utf-8")


@pytest.fixture
def fake_pip(monkeypatch: pytest.MonkeyPatch) -> FakePip:
    fake = FakePip()
    monkeypatch.setattr(environment, "_make_empty", fake.make_empty)
    monkeypatch.setattr(environment, "_pip", fake.pip)
    return fake


RECIPE = Recipe(onboard.LOCKS, editable=False)


def test_dependencies_are_installed_by_hash_and_the_package_without_network(
    tmp_path: Path, fake_pip: FakePip
) -> None:
    assert ensure(tmp_path / "env", RECIPE)
    *locks, package = fake_pip.commands
    assert [command[-1] for command in locks] == [str(path) for path in onboard.LOCKS]
    assert all({"--require-hashes", "--only-binary"} < set(command) for command in locks)
    assert {"--no-index", "--no-deps", "--no-build-isolation"} < set(package)


def test_a_complete_environment_is_not_made_again(tmp_path: Path, fake_pip: FakePip) -> None:
    assert ensure(tmp_path / "env", RECIPE)
    done = len(fake_pip.commands)
    assert not ensure(tmp_path / "env", RECIPE)
    assert len(fake_pip.commands) == done


def test_a_half_made_environment_is_remade(tmp_path: Path, fake_pip: FakePip) -> None:
    fake_pip.interrupted = True
    with pytest.raises(KeyboardInterrupt):
        ensure(tmp_path / "env", RECIPE)
    assert (tmp_path / "env" / OURS).exists()
    assert not (tmp_path / "env" / COMPLETE).exists()
    (tmp_path / "env" / "left-over").touch()

    fake_pip.interrupted = False
    assert ensure(tmp_path / "env", RECIPE)
    assert not (tmp_path / "env" / "left-over").exists()


def test_an_environment_whose_python_is_gone_is_remade(tmp_path: Path, fake_pip: FakePip) -> None:
    ensure(tmp_path / "env", RECIPE)
    program(tmp_path / "env", "python").unlink()
    assert ensure(tmp_path / "env", RECIPE)


def test_an_environment_of_somebody_else_is_left_alone(tmp_path: Path, fake_pip: FakePip) -> None:
    theirs = tmp_path / ".venv"
    theirs.mkdir()
    (theirs / "pyvenv.cfg").write_text("theirs", encoding="ascii")
    with pytest.raises(SetupFailed, match="in the way"):
        ensure(theirs, RECIPE)
    assert [path.name for path in theirs.iterdir()] == ["pyvenv.cfg"]
    assert fake_pip.commands == []


def test_the_fingerprint_follows_sources_and_locks(tmp_path: Path) -> None:
    (tmp_path / "qs_certs").mkdir()
    lock, module = tmp_path / "lock.txt", tmp_path / "qs_certs" / "cli.py"
    for file in (lock, module, tmp_path / "pyproject.toml"):
        file.write_text("one", encoding="ascii")
    recipe = Recipe((lock,), editable=False, checkout=tmp_path)
    in_place = recipe._replace(editable=True)
    seen = [recipe.fingerprint()]
    (tmp_path / "qs_certs" / "cli.pyc").touch()
    assert recipe.fingerprint() == seen[-1]
    before = in_place.fingerprint()
    module.write_text("two", encoding="ascii")
    assert in_place.fingerprint() == before, "sources used in place do not count"
    seen.append(recipe.fingerprint())
    lock.write_text("two", encoding="ascii")
    assert in_place.fingerprint() != before
    seen.append(recipe.fingerprint())
    assert len(set(seen)) == 3


def test_a_python_without_ensurepip_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(SetupFailed) as failed:
        ensure(tmp_path / "env", RECIPE)
    assert failed.value.exit_code == 6
    assert "apt install python3-venv" in failed.value.fix[0]


@pytest.mark.parametrize("tool", ["uv", "virtualenv"])
def test_without_ensurepip_another_tool_makes_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    ran: list[list[str]] = []

    def quietly(command: list[str]) -> None:
        ran.append(command)

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", {tool: f"/bin/{tool}"}.get)
    monkeypatch.setattr(environment, "_quietly", quietly)
    environment._make_empty(tmp_path)
    assert [command[0] for command in ran] == [f"/bin/{tool}"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", 5),
        ("error: Hash mismatch for `certifi==1`", 5),
        ("Failed to establish a new connection: [Errno 111]\nERROR: No matching distribution", 4),
        ("error: error sending request for url", 4),
        ("ERROR: Could not find a version that satisfies cffi\nERROR: No matching distribution", 6),
    ],
    ids=["pip: hashes", "uv: hashes", "pip: network", "uv: network", "no wheel"],
)
def test_a_failed_installation_ends_with_the_right_code(words: str, expected: int) -> None:
    command = [sys.executable, "-c", f"import sys; sys.stderr.write({words!r}); sys.exit(1)"]
    with pytest.raises(SetupFailed) as failed:
        environment._pip(command)
    assert failed.value.exit_code == expected
    assert failed.value.why in words.replace("\n", "; ")


def test_an_installation_that_succeeds_does_not_fail() -> None:
    environment._pip([sys.executable, "-c", "print('Retrying after connection broken')"])


# -- too old a Python -----------------------------------------------------------------------------


def test_a_new_enough_python_goes_on() -> None:
    assert environment.with_new_enough_python(Path("script.py"), []) is None


def test_too_old_a_python_hands_over_to_a_newer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "MINIMUM", (99, 0))
    monkeypatch.setattr("shutil.which", {"python3.12": sys.executable}.get)
    script = Path(__file__).with_name("missing.py")
    assert environment.with_new_enough_python(script, []) == 2  # "can't open file"


def test_too_old_a_python_alone_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environment, "MINIMUM", (99, 0))
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert onboard.main([]) == 6
    assert "Python 3.10 or newer" in capsys.readouterr().err


# -- the launcher ---------------------------------------------------------------------------------


@posix_only
def test_the_launcher_follows_a_new_version(tmp_path: Path) -> None:
    launcher, app = tmp_path / "bin" / "qs-certs", tmp_path / "app"
    for version in ("env-1", "env-2"):
        assert onboard.link(launcher, app, app / version) == launcher
        assert launcher.readlink() == app / version / "bin" / "qs-certs"


@posix_only
@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_a_launcher_of_somebody_else_is_never_overwritten(tmp_path: Path, kind: str) -> None:
    launcher, app, theirs = tmp_path / "qs-certs", tmp_path / "app", tmp_path / "theirs"
    if kind == "file":
        launcher.write_text("theirs", encoding="ascii")
    else:
        launcher.symlink_to(theirs)
    if kind == "link":
        theirs.write_text("theirs", encoding="ascii")
    before = os.lstat(launcher)
    assert onboard.link(launcher, app, app / "env-1") == app / "env-1" / "bin" / "qs-certs"
    assert os.path.samestat(os.lstat(launcher), before)


def test_the_batch_file_of_windows_names_no_folder_of_the_user(tmp_path: Path) -> None:
    app = tmp_path / "Zoë"
    onboard.link(app / "bin" / "qs-certs.cmd", app, app / "env-1")
    relative = os.path.relpath(program(app / "env-1", "qs-certs"), app / "bin")
    text = (app / "bin" / "qs-certs.cmd").read_bytes()
    assert text == f'@"%~dp0{relative}" %*\r\n'.encode("ascii")


@posix_only
def test_uninstall_removes_what_was_made_and_nothing_else(tmp_path: Path) -> None:
    where = Places(tmp_path / "app", tmp_path / "bin" / "qs-certs")
    ours, theirs = where.app / "env-1", where.app / "env-theirs"
    for folder in (ours, theirs):
        folder.mkdir(parents=True)
    (ours / OURS).touch()
    onboard.link(where.launcher, where.app, ours)
    assert onboard.uninstall(where) == 0
    assert not ours.exists()
    assert not os.path.lexists(where.launcher)
    assert theirs.exists()

    where.launcher.write_text("theirs", encoding="ascii")
    theirs.rmdir()
    onboard.uninstall(where)
    assert where.launcher.exists()
    assert not where.app.exists()


# -- the commands ---------------------------------------------------------------------------------


def onboarding(home: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, str(ROOT / "scripts" / "onboard.py"), *arguments]
    env = {**os.environ, "QS_CERTS_HOME": str(home), **environ}
    return subprocess.run(script, check=False, capture_output=True, text=True, env=env)


def test_without_a_network_it_says_so_and_standard_output_stays_empty(tmp_path: Path) -> None:
    nowhere = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_FIND_LINKS": "",
        "PIP_INDEX_URL": "http://127.0.0.1:9/",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_RETRIES": "1",
    }
    done = onboarding(tmp_path / "app", "--json", **nowhere)
    assert (done.returncode, done.stdout) == (4, "")
    assert "error: cannot fetch" in done.stderr
    assert "next: " in done.stderr


@pytest.mark.slow
def test_onboarding_for_real_twice_and_back(tmp_path: Path) -> None:
    home, target = tmp_path / "a home", tmp_path / "root.crt"
    arguments = ("--offline", "--target", str(target))
    store = {"QS_CERTS_STORE": str(tmp_path / "store")}
    first = onboarding(home, *arguments, **store)
    if first.returncode == 4:
        pytest.skip("the package index cannot be reached")
    assert first.returncode == 0, first.stderr
    installed = target.read_bytes()
    assert installed.startswith(b"-----BEGIN CERTIFICATE-----")

    again = onboarding(home, *arguments, **store)
    assert again.returncode == 0
    assert "setting up" not in again.stderr
    launcher = home / "bin" / ("qs-certs.cmd" if sys.platform == "win32" else "qs-certs")
    roots = subprocess.run([launcher, "roots"], check=False, capture_output=True, text=True)
    assert "digicert-global-root-g2" in roots.stdout
    wrong = onboarding(home, "--no-such-option")
    assert wrong.returncode == 2, "the exit code is that of `qs-certs install`"

    assert onboarding(home, "--uninstall").returncode == 0
    assert not home.exists()
    assert target.read_bytes() == installed


@pytest.mark.parametrize(
    ("clean", "tested", "expected"), [(True, 0, 0), (False, 0, 1), (True, 1, 1), (False, 5, 5)]
)
def test_the_test_command_fails_where_anything_failed(
    monkeypatch: pytest.MonkeyPatch, clean: bool, tested: int, expected: int
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(run_tests, "ensure", lambda environment, recipe: False)
    monkeypatch.setattr(run_tests, "lint", lambda python: clean)
    monkeypatch.setattr(run_tests, "tests", lambda python, arguments: tested)
    assert run_tests.main([]) == expected


# -- help -----------------------------------------------------------------------------------------

SCRIPTS = sorted(path.name for path in (ROOT / "scripts").glob("*.py"))
PARTS = {"environment.py", "reference.py", "single_root.py", "site_pages.py"}
"""What other scripts and tools import or run; as a command, each does nothing."""


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout once more, for what may be written into it."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("scripts", "qs_certs", "docs", "requirements", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml"):
        shutil.copy(ROOT / name, copy)
    return copy


def asked(copied: Path, home: Path, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    home.mkdir()
    return subprocess.run(
        [sys.executable, f"scripts/{name}", *words],
        cwd=copied,
        env={**os.environ, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@posix_only
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_that_is_asked_for_help_does_nothing_else(
    copied: Path, tmp_path: Path, name: str
) -> None:
    before = snapshot(copied)
    done = asked(copied, tmp_path / "home", name, "--help")
    assert done.returncode == 0, done
    assert snapshot(copied) == before
    assert snapshot(tmp_path / "home").keys() == {"."}
    called = {"install_from_kit.py": "install.py"}.get(name, name)  # as the kit has it
    assert called in done.stdout or name in PARTS
    assert done.stderr == ""


@posix_only
def test_a_script_that_writes_would_be_seen(copied: Path, tmp_path: Path) -> None:
    page = copied / "docs" / "clients.md"
    page.write_text("x", "ascii")
    before = snapshot(copied)
    assert asked(copied, tmp_path / "home", "clients_page.py").returncode == 0
    assert snapshot(copied) != before
    assert page.read_bytes() == (ROOT / "docs" / "clients.md").read_bytes()
