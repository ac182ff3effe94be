"""What a stranger's reading of the program found, and what must stay found."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from qs_certs import accounts, api, changes, cli, inspection, rights, sources
from qs_certs.catalogue import Root
from qs_certs.errors import WrongUsage
from qs_certs.results import Finding
from qs_certs.store import Store


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own for libpq's default file and for the store."""
    for name in ("PGSSLROOTCERT", "QS_CERTS_URL", "SUDO_UID", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("QS_CERTS_STORE", str(tmp_path / "store"))
    return tmp_path


def _died_before_it_wrote(home: Path, target: Path, after: bytes) -> None:
    """Leave what a run leaves that dies after it has recorded a change and before it makes it."""
    with Store(home / "store").writing() as session:
        session.record(
            command="install",
            target=str(target),
            before=target.read_bytes() if target.exists() else None,
            after=after,
            added=(),
            removed=(),
            mode=None,
            made_folder=False,
        )


def test_an_open_record_of_a_lost_target_blocks_no_other_target(home: Path) -> None:
    lost = home / "lost.crt"
    _died_before_it_wrote(home, lost, b"never written\n")
    lost.mkdir()
    report = api.install(offline=True)
    assert report.status == "changed", report.targets[0].error
    # The control: the record is still open, and settled as soon as it can be.
    assert Store(home / "store").changes(str(lost))[0].applied is None
    lost.rmdir()
    api.remove()
    assert not Store(home / "store").changes(str(lost))


def test_a_change_that_never_happened_is_nothing_to_roll_back(home: Path) -> None:
    target = home / "root.crt"
    _died_before_it_wrote(home, target, b"never written\n")
    assert api.rollback(target=target).status == "unchanged"
    named = api.rollback(1, target=target).targets[0].error
    assert named is not None
    assert named.code == "wrong-usage"
    # The control: where the new content stands, the change did happen, and is undone.
    target.write_bytes(b"never written\n")
    assert api.rollback(target=target).status == "changed"
    assert not target.exists()


def test_an_error_of_work_done_for_another_user_keeps_what_it_shows(home: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("only on POSIX")
    if os.geteuid() != 0:
        pytest.skip("only root works for another user")

    def work() -> None:
        raise changes._Drift("changed", why=None, fix=("look",), diff="+somebody\n")

    nobody = accounts.Account("nobody", 65534, 65534, "/")
    with pytest.raises(changes._Drift) as caught:
        rights.run_as(nobody, work)
    assert (caught.value.diff, caught.value.fix) == ("+somebody\n", ("look",))


@pytest.mark.parametrize(
    ("elsewhere", "fixes"),
    [
        pytest.param("{home}/.postgresql/root.crt", None, id="the same file"),
        pytest.param("system", ("unset PGSSLROOTCERT",), id="no file at all"),
        pytest.param(
            "{home}/my own.crt",
            ("unset PGSSLROOTCERT", 'qs-certs install --target "{home}/my own.crt"'),
            id="another file",
        ),
    ],
)
def test_pgsslrootcert_is_warned_about_where_it_names_another_file(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    elsewhere: str,
    fixes: tuple[str, ...] | None,
) -> None:
    monkeypatch.setenv("PGSSLROOTCERT", elsewhere.format(home=home))
    report = api.install(offline=True, dry_run=True)
    found = [each.fix for each in report.findings if each.code == "default-overridden"]
    assert found == ([] if fixes is None else [tuple(fix.format(home=home) for fix in fixes)])


@pytest.mark.parametrize("timeout", [float("inf"), float("nan"), 1e300, 0.0, -1.0])
def test_a_timeout_that_no_clock_can_keep_is_wrong_usage(home: Path, timeout: float) -> None:
    with pytest.raises(WrongUsage, match="--timeout"):
        api.install(timeout=timeout, dry_run=True)


@pytest.mark.skipif(os.name != "posix", reason="closes streams with the shell")
@pytest.mark.parametrize(
    ("line", "code"),
    [
        pytest.param("roots >&-", 0, id="nobody reads the answer"),
        pytest.param("explain <&-", 2, id="nothing can be pasted"),
        pytest.param("install --dry-run --from - <&-", 2, id="no certificate can be piped"),
        pytest.param("explain root-missing", 0, id="control"),
    ],
)
def test_a_closed_stream_is_no_bug(home: Path, line: str, code: int) -> None:
    command = ("sh", "-c", f'exec "$0" -m qs_certs {line}', sys.executable)
    root = Path(__file__).parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, check=False, timeout=60)
    assert done.returncode == code, done.stderr


def test_a_bug_under_json_is_one_document_that_holds_no_value(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def bug(*given: object, **named: object) -> None:
        raise KeyError("s3cret")

    monkeypatch.setattr(inspection, "check", bug)
    monkeypatch.setattr(sys, "argv", ["qs-certs", "check", "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert ended.value.code == document["exit_code"] == 70
    assert document["command"] == "check"
    assert "s3cret" not in said.out + said.err


def test_without_a_temporary_file_nothing_is_written(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "mkstemp", full)
        failed = api.install(offline=True)
    assert failed.exit_code == 6
    assert not (home / ".postgresql").exists()
    assert api.install(offline=True).status == "changed"  # the control


def test_the_impact_of_nothing_downloads_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[bool] = []
    real = sources.fetch

    def fetch(root: Root, **named: Any) -> sources.Fetched:
        fetched.append(True)
        return real(root, **named)

    monkeypatch.setattr(sources, "fetch", fetch)
    assert api.install(offline=True, impact=True).status == "changed"
    assert fetched == [True]  # the control
    assert api.install(offline=True, impact=True).status == "unchanged"
    assert fetched == [True]


@pytest.mark.parametrize(("owner", "code"), [(0, 4), (65534, 0)], ids=["of root", "control"])
def test_under_sudo_check_sees_what_the_users_libpq_can_read(
    home: Path, monkeypatch: pytest.MonkeyPatch, owner: int, code: int
) -> None:
    if sys.platform == "win32":
        pytest.skip("only on POSIX")
    if os.geteuid() != 0:
        pytest.skip("only root works for another user")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, ".postgresql")
        file = folder / "root.crt"
        api.install(offline=True, target=file)
        file.chmod(0o600)
        os.chown(file, owner, owner)
        for each in (folder, folder.parent):
            os.chown(each, 65534, 65534)
        account = accounts.Account("nobody", 65534, 65534, name)
        monkeypatch.setattr(accounts, "behind_sudo", lambda: account if os.geteuid() == 0 else None)
        report = inspection.check()
    assert report.exit_code == code
    assert "sudo-target" in {each.code for each in report.findings}


CHOSEN = accounts.Account("DOM\\ana b", 4_242, 4_242, "/home/ana", chosen=True)


@pytest.mark.parametrize("system", ["linux", "win32"])
def test_a_command_with_a_file_is_for_the_user_of_the_file(system: str) -> None:
    steps = ("qs-certs list --target x", "qs-certs install", "unset X")
    finding = Finding("x", "error", "x", steps)
    named, *others = inspection._for_user(finding, CHOSEN, system).fix
    assert named == ("" if system == "win32" else 'sudo -u "DOM\\ana b" ') + steps[0]
    assert others == ['qs-certs install --user "DOM\\ana b"', "unset X"]


def test_what_to_do_next_names_the_file_that_was_worked_on(home: Path) -> None:
    default, other = home / ".postgresql" / "root.crt", home / "my own.crt"
    for target, options in ((other, f' --target "{other}"'), (default, "")):
        api.install(offline=True, target=target)
        target.write_bytes(target.read_bytes() + b"# somebody else's\n")
        error = api.rollback(target=target).targets[0].error
        assert error is not None
        assert f"qs-certs rollback --force{options}" in [
            fix.partition("   #")[0] for fix in error.fix
        ]
