"""Rights and code: whose they are when the program runs, and what may not get in."""

from __future__ import annotations

import ast
import os
import pickle
import subprocess
import sys
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import pytest

from qs_certs import rights
from qs_certs.accounts import Account
from qs_certs.errors import CouldNotTell, ExitCode, TargetRefused
from qs_certs.results import Change, Finding
from tests.program import SOURCE, Program

if sys.platform == "win32":
    pytest.skip("only on POSIX", allow_module_level=True)

STRANGER = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to take other ids")


# --- set-user-ID ----------------------------------------------------------------------------------

_WITH_IDS = """\
import os, sys
kind, words = sys.argv[1], sys.argv[2:]
if kind == "user": os.setresuid(65534, 0, 0)
if kind == "group": os.setresgid(65534, 0, 0)
sys.argv = ["qs-certs", *words]
from qs_certs import cli
cli.main()
"""


@needs_root
@pytest.mark.parametrize(("kind", "code"), [("user", 2), ("group", 2), ("control", 0)])
def test_rights_that_the_caller_lacks_are_not_used(program: Program, kind: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITH_IDS, kind, "install", "--offline"],
        env=program.environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done
    assert program.root_file.exists() is (code == 0)
    assert ("rights that its caller lacks" in done.stderr) is (code == 2)


# --- what a child with a user's rights sends back --------------------------------------------------


class Bomb:
    """Runs a command where it is unpickled without looking."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def sending(sent: bytes) -> AbstractContextManager[object]:
    """Children are taken over: they send this."""

    def work(account: object, groups: object, work: object, pipe: int, foreign: object) -> NoReturn:
        try:
            os.write(pipe, sent)
        finally:
            os._exit(0)

    return mock.patch.object(rights, "_work_in_child", work)


def test_a_child_cannot_make_root_run_anything(tmp_path: Path) -> None:
    account = Account("nobody", STRANGER, STRANGER, "/")
    sent = pickle.dumps(Bomb(tmp_path / "pwned"))
    with (
        sending(sent),
        pytest.raises(CouldNotTell, match="no answer of ours"),
    ):
        rights.run_as(account, lambda: None)
    assert not (tmp_path / "pwned").exists()
    pickle.loads(sent)  # the control
    assert (tmp_path / "pwned").exists()


def _raised(kind: Any, attributes: Any = None) -> bytes:
    return pickle.dumps(rights._Raised(kind, "m", attributes or {}))


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"cqs_certs.rights\nos\n.", id="a module that a room imports"),
        pytest.param(b"\x80\x04\x8c\x0fqs_certs.rights\x8c\x09os.system\x93.", id="a dotted name"),
        pytest.param(b"cqs_certs.rights\nrun_as\n.", id="a function of ours"),
        pytest.param(b"cbuiltins\neval\n.", id="a builtin"),
        pytest.param(b"cqs_certs.rights\nAccount\n.", id="a class of somebody else's"),
        pytest.param(b"cqs_certs.results\nFinding\n.", id="a class of ours, which is no outcome"),
        pytest.param(pickle.dumps(rights._Returned), id="the class of an outcome, and not one"),
        pytest.param(_raised(Finding), id="an error that is none"),
        pytest.param(_raised(TargetRefused, "no attributes"), id="an error with odd attributes"),
        pytest.param(b"cqs_certs.rights\n_Returned\n)\x81.", id="an outcome without a value"),
        pytest.param(b"\x80\x05garbage", id="garbage"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_only_values_of_ours_are_taken_from_a_child(sent: bytes) -> None:
    account = Account("nobody", STRANGER, STRANGER, "/")
    with (
        sending(sent),
        pytest.raises(CouldNotTell, match="answer"),
    ):
        rights.run_as(account, lambda: None)


class Fork:
    """Forks where it is unpickled with all classes of ours."""

    def __reduce__(self) -> tuple[object, ...]:
        return rights._Child, (LooksLikeAnAccount(), Finding)


class LooksLikeAnAccount:
    def __reduce__(self) -> tuple[object, ...]:
        return rights.Task, (None, None), {"name": "root", "uid": 0, "gid": 0}


def test_a_child_cannot_make_root_fork() -> None:
    account = Account("nobody", STRANGER, STRANGER, "/")
    sent = pickle.dumps(rights._Returned(Fork()))
    with sending(sent), mock.patch.object(os, "fork", wraps=os.fork) as forked:
        with pytest.raises(CouldNotTell, match="no answer of ours"):
            rights.run_as(account, lambda: None)
        assert forked.call_count == 1
        pickle.loads(sent).value.wait()  # the control
        assert forked.call_count == 2


VALUES = {
    "a finding": Finding("c", "warning", "m", ("f",), ExitCode.PERSON_NEEDED),
    "bytes": (b"x", None, 1, True, "text"),
    "a date": Change(1, datetime.now(timezone.utc), "install", "t", None, None, (), ()),
}


@needs_root
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_values_of_ours_come_back_from_a_child(value: object) -> None:
    """The control: through a real child, which has dropped root's rights."""
    account = Account("nobody", STRANGER, STRANGER, "/")
    assert rights.run_as(account, lambda: (value, os.geteuid())) == (value, STRANGER)

    def refuse() -> None:
        raise TargetRefused("no", why="because", fix=("this",))

    with pytest.raises(TargetRefused, match="no") as refused:
        rights.run_as(account, refuse)
    assert (refused.value.why, refused.value.fix) == ("because", ("this",))


@needs_root
def test_a_user_in_more_groups_than_a_process_can_be_in_is_served() -> None:
    """macOS takes sixteen, and its first account is in more: here as many as Linux refuses."""
    groups = list(range(STRANGER, STRANGER + 70_000))
    with pytest.raises(ValueError, match="too many groups"):
        os.setgroups(groups)  # the control
    account = Account("nobody", STRANGER, STRANGER, "/")
    with mock.patch.object(os, "getgrouplist", return_value=groups):
        taken = rights.run_as(account, os.getgroups)
    assert STRANGER in taken
    assert len(taken) == os.sysconf("SC_NGROUPS_MAX")


_WORK = f"""\
import os, sys
from qs_certs import accounts, errors, rights
try:
    print(rights.run_as(accounts.Account("nobody", {STRANGER}, {STRANGER}, "/"), os.geteuid))
except errors.QsCertsError as error:
    print(error.message, error.why)
    sys.exit(error.exit_code)
"""


@needs_root
@pytest.mark.parametrize(("withheld", "code"), [("setgid", 6), ("setuid", 6), ("sys_time", 0)])
def test_a_root_that_may_not_take_another_s_rights_does_no_work_for_them(
    program: Program, withheld: str, code: int
) -> None:
    """As in a container without these capabilities; it is no bug of ours."""
    if sys.platform != "linux":
        pytest.skip("only on Linux")
    less = [f"--bounding-set=-{withheld}", f"--inh-caps=-{withheld}"]
    done = subprocess.run(
        ["setpriv", *less, sys.executable, "-c", _WORK],
        env=program.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done
    assert done.stdout.startswith(
        str(STRANGER) if code == 0 else "could not take on the rights of user nobody"
    )
    assert ("Operation not permitted" in done.stdout) is (code == 6)


_RIGHTS = """\
import os
from qs_certs import accounts, rights
os.setgroups([0, 4242])
os.umask(0)
def held():
    mask = os.umask(0)
    os.umask(mask)
    return sorted({os.getgid(), os.getegid(), *os.getgroups()}), mask
print((held(), rights.run_as(accounts.Account("nobody", 65534, 65534, "/"), held)))
"""


@needs_root
def test_a_child_keeps_no_group_of_root_s_and_no_umask(program: Program) -> None:
    """A group of root's would open what the user cannot; the umask may be one that opens all."""
    done = subprocess.run(
        [sys.executable, "-c", _RIGHTS], env=program.environment, capture_output=True, check=True
    )
    ours, the_childs = ast.literal_eval(done.stdout.decode())
    assert ours == ([0, 4242], 0)  # the control
    assert the_childs == (sorted(set(os.getgrouplist("nobody", STRANGER))), 0o022)


_DUMPABLE = """\
import ctypes
from qs_certs import accounts, rights
def dumpable():
    return ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)  # PR_GET_DUMPABLE
print(dumpable(), rights.run_as(accounts.Account("nobody", 65534, 65534, "/"), dumpable))
"""


@needs_root
def test_a_child_cannot_be_traced_by_the_user_whose_rights_it_has(program: Program) -> None:
    """A new process, since one that ever changed its ids cannot be traced either."""
    if sys.platform != "linux":
        pytest.skip("only on Linux")
    if Path("/proc/sys/fs/suid_dumpable").read_text("ascii").strip() == "1":
        pytest.skip("needs fs.suid_dumpable as it is by default; it is 1 here")
    done = subprocess.run(
        [sys.executable, "-c", _DUMPABLE], env=program.environment, capture_output=True, check=True
    )
    ours, the_childs = map(int, done.stdout.split())
    assert ours == 1  # the control
    assert the_childs != 1


# --- code from where somebody else can write -------------------------------------------------------


@pytest.fixture
def hostile_folder(tmp_path: Path) -> Path:
    """A folder with modules of the names that the program imports; each says that it ran."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name in ("typer", "requests", "cryptography", "platformdirs", "ssl", "json", "certifi"):
        (folder / f"{name}.py").write_text("import os; os.write(2, b'OWNED')\n")
    return folder


@pytest.mark.parametrize(
    ("isolated", "owned"),
    [
        pytest.param(True, False, id="as the installed command"),
        pytest.param(False, True, id="control: python -m"),
    ],
)
def test_the_folder_where_it_is_called_gives_it_no_code(
    program: Program, hostile_folder: Path, isolated: bool, owned: bool, tmp_path: Path
) -> None:
    """A console script has its own folder first on `sys.path`; `python -m` has the current one."""
    script = tmp_path / "bin" / "qs-certs"
    script.parent.mkdir()
    script.write_text("import sys\nfrom qs_certs.cli import main\nsys.exit(main())\n")
    words = [str(script)] if isolated else ["-m", "qs_certs"]
    done = subprocess.run(
        [sys.executable, *words, "install", "--url", "https://127.0.0.1:9/", "--timeout", "1"],
        env=program.environment,
        cwd=hostile_folder,
        capture_output=True,
        check=False,
    )
    assert (b"OWNED" in done.stderr) is owned, done
    assert (done.returncode == 0) is not owned
    assert SOURCE.is_dir()
