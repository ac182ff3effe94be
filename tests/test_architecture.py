"""The house rules that a reader relies on, read from the syntax trees."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import qs_certs

PACKAGE = Path(qs_certs.__file__).parent

HOUSE = (PACKAGE.parent / "docs" / "architecture.md").read_text("utf-8")
ROWS = [re.findall(r"`([\w.]+)`", row) for row in re.findall(r"^\| \d \| ([^|]+) \|", HOUSE, re.M)]
LEVELS = {room: number for number, row in enumerate(ROWS) for room in row}
"""The plan of the house, as docs/architecture.md draws it.  A room imports only from rows above."""

ENTRANCES = {"", "__main__", "libpq"}
"""Packages and the door for `python -m`: what they import is held by tests of their own."""

SYSTEMS = {
    *("libpq.locations", "windows", "files", "openssl", "accounts", "store", "userlist"),
    *("console", "rights"),
}
"""The rooms that may ask which system they are on."""


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


TREES = {
    name_of(path): ast.parse(path.read_text("utf-8"), str(path))
    for path in sorted(PACKAGE.rglob("*.py"))
}
ROOMS = sorted(TREES.keys() - ENTRANCES)

every_room = pytest.mark.parametrize("room", ROOMS)


def imported(tree: ast.AST) -> set[str]:
    """Our own modules that *tree* imports, wherever in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "qs_certs":
                inside = name.split(".")[1:]
                # `from qs_certs.files import Disk` names a module and something in it.
                while inside and ".".join(inside) not in TREES:
                    inside.pop()
                found.add(".".join(inside))
    return found - {""}


def level(room: str) -> int:
    """The row of *room*; the parts of `knowledge` are one room."""
    return LEVELS.get("knowledge" if room.startswith("knowledge.") else room, 99)


def upward(room: str, tree: ast.AST) -> set[str]:
    """What *room* may not import: neighbours and what lies above."""
    return {
        other
        for other in imported(tree)
        if level(other) >= level(room)
        and not (room.startswith("knowledge") and other.startswith("knowledge."))
    }


def test_every_room_is_in_the_plan_once() -> None:
    planned = [room for row in ROWS for room in row]
    assert len(planned) == len(LEVELS)
    assert {room for room in ROOMS if level(room) == 99} == set()


@every_room
def test_a_room_imports_only_from_below(room: str) -> None:
    assert upward(room, TREES[room]) == set()


@pytest.mark.parametrize(
    ("room", "text", "found"),
    [
        pytest.param("store", "from qs_certs import changes", {"changes"}, id="above"),
        pytest.param("files", "import qs_certs.store", {"store"}, id="import"),
        pytest.param("rootfile", "from qs_certs.servers import known", {"servers"}, id="neighbour"),
        pytest.param("bundle", "def f():\n  from qs_certs.cli import main", {"cli"}, id="inside"),
        pytest.param("changes", "from qs_certs.store import Store", set(), id="below"),
        pytest.param("changes", "import os", set(), id="not ours"),
    ],
)
def test_an_import_from_above_would_be_seen(room: str, text: str, found: set[str]) -> None:
    assert upward(room, ast.parse(text)) == found


def test_there_are_no_cycles() -> None:
    left = {room: imported(TREES[room]) & set(ROOMS) for room in ROOMS}
    while left:
        free = [room for room, needs in left.items() if not needs & left.keys()]
        assert free, f"a cycle among {sorted(left)}"
        for room in free:
            del left[room]


def names(tree: ast.AST) -> Iterator[str]:
    """Every dotted name in *tree*: `os.path.join`, `print`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            yield ast.unparse(node)


@every_room
def test_only_few_rooms_ask_for_the_system(room: str) -> None:
    asked = {"sys.platform", "os.name", "platform.system"} & set(names(TREES[room]))
    assert asked <= ({"sys.platform"} if room in SYSTEMS else set())


@every_room
def test_only_the_console_prints_and_ends_the_process(room: str) -> None:
    mine = set(names(TREES[room]))
    talk = {"print", "typer.echo", "sys.exit", "sys.stdout", "sys.stderr", "exit", "quit"} & mine
    assert talk <= ({"sys.exit"} if room == "cli" else set()) or room == "console"


def test_the_rules_on_names_find_something() -> None:
    """A control: the rooms that may, do."""
    assert {room for room in ROOMS if "sys.platform" in set(names(TREES[room]))} >= SYSTEMS - {
        "libpq.locations"  # it is told the system
    }
    assert {"typer.echo", "sys.exit", "sys.stdout"} <= set(names(TREES["console"]))


def missing_docstrings(tree: ast.Module) -> list[str]:
    """Public functions and classes of *tree* without a docstring.

    Methods may go without: many are one system call, or a property whose name says it.
    """
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and ast.get_docstring(node) is None
    ]


@pytest.mark.parametrize("module", sorted(TREES))
def test_every_public_function_and_class_says_its_contract(module: str) -> None:
    assert ast.get_docstring(TREES[module])
    assert missing_docstrings(TREES[module]) == []


def test_a_missing_docstring_would_be_seen() -> None:
    text = "def a(): pass\nclass B: pass\ndef _c(): pass\ndef d():\n  'said'"
    assert missing_docstrings(ast.parse(text)) == ["a", "B"]


# --- writing ------------------------------------------------------------------------------------

WRITING = {
    *("open", "write", "rename", "replace", "renames", "unlink", "remove", "removedirs", "rmdir"),
    *("mkdir", "makedirs", "chmod", "fchmod", "lchmod", "chown", "fchown", "lchown", "fsync"),
    *("fdatasync", "truncate", "ftruncate", "link", "symlink", "mkfifo", "mknod", "utime"),
    *("setxattr", "removexattr", "sendfile", "copy_file_range", "posix_fallocate", "pwrite"),
}
PATH_WRITING = {
    *("write_bytes", "write_text", "touch", "symlink_to", "hardlink_to", "unlink", "rmdir"),
    *("mkdir", "chmod", "rename"),
}
WRITERS = {
    "files": {f"os.{name}" for name in WRITING},
    "openssl": {"os.unlink"},  # its temporary file: OpenSSL's loader reads files only
    "console": {"os.open"},  # the null device, where nobody reads our output
}


def writing_calls(tree: ast.AST) -> set[str]:
    """Calls in *tree* that change the disk, by their names."""
    return {
        ast.unparse(node.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and writes(node)
    }


def writes(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    owner, _, method = name.rpartition(".")
    if name == "open":
        mode = call.args[1] if len(call.args) > 1 else ast.Constant("r")
        return not (isinstance(mode, ast.Constant) and mode.value in ("r", "rb"))
    if owner in ("os", "shutil"):
        return owner == "shutil" or method in WRITING
    through_seam = owner.endswith(("disk", "self")) or owner == "files"
    return bool(owner) and method in PATH_WRITING and not through_seam


@every_room
def test_only_the_disk_seam_writes(room: str) -> None:
    assert writing_calls(TREES[room]) <= WRITERS.get(room, set())


def test_in_files_only_the_seam_makes_these_calls() -> None:
    (seam,) = [
        node
        for node in TREES["files"].body
        if isinstance(node, ast.ClassDef) and node.name == "Disk"
    ]
    inside = writing_calls(seam)
    assert {"os.open", "os.replace", "os.unlink", "os.mkdir", "os.fchmod", "os.fsync"} <= inside
    rest = [node for node in TREES["files"].body if node is not seam]
    assert set().union(*(writing_calls(node) for node in rest)) == set()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("os.rename(a, b)", {"os.rename"}),
        ("Path(a).write_text(b)", {"Path(a).write_text"}),
        ("open(a, 'w')", {"open"}),
        ("open(a, mode)", {"open"}),
        ("open(a, 'rb')", set()),
        ("shutil.move(a, b)", {"shutil.move"}),
        ("disk.rename(a, b)", set()),
        ("os.path.join(a, b)", set()),
    ],
)
def test_a_write_past_the_seam_would_be_seen(text: str, found: set[str]) -> None:
    assert writing_calls(ast.parse(text)) == found


# --- what is loaded -------------------------------------------------------------------------------


def loaded(code: str, tmp_path: Path, *words: str) -> set[str]:
    """The modules in a fresh interpreter after *code*; *words* are its arguments."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    report = "import sys\ntry:\n    {}\nexcept SystemExit: pass\nfinally:\n"
    report += "    print('\\n' + ' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", report.format(code), *words],
        env={"HOME": str(home), "PYTHONPATH": str(PACKAGE.parent), "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_importing_the_package_loads_none_of_its_rooms(tmp_path: Path) -> None:
    bare = loaded("pass", tmp_path)
    assert loaded("import qs_certs", tmp_path) - bare == {"__future__", "qs_certs"}
    assert "qs_certs.files" in loaded("import qs_certs.files", tmp_path)  # a control


HEAVY = {"requests", "certifi", "urllib3", "rich", "pydantic", "cryptography"}


@pytest.mark.parametrize(
    ("words", "may"),
    [
        ("roots", set()),
        ("roots --pem", {"cryptography"}),
        ("history", set()),
        ("list", {"cryptography"}),
        ("remove", set()),
        ("rollback", set()),
        ("install --offline", set()),
        ("install --offline --dry-run", set()),
        ("install --offline --json", set()),
        ("--version", set()),
        ("--help", set()),
    ],
    ids=str,
)
def test_a_command_without_network_loads_nothing_for_it(
    tmp_path: Path, words: str, may: set[str]
) -> None:
    run = "from qs_certs.cli import main; main()"
    loaded(run, tmp_path, "install", "--offline")
    assert loaded(run, tmp_path, *words.split()) & HEAVY <= may


def test_only_a_change_loads_ctypes_which_some_pythons_lack(tmp_path: Path) -> None:
    run = "from qs_certs.cli import main; main()"
    assert "ctypes" not in loaded(run, tmp_path, "check") | loaded(run, tmp_path, "history")
    if sys.platform == "linux":  # a control
        assert "ctypes" in loaded(run, tmp_path, "install", "--offline")
    lacking = "import sys; sys.modules['_ctypes'] = None; " + run
    loaded(lacking, tmp_path, "rollback")
    loaded(lacking, tmp_path, "install", "--offline")
    assert (tmp_path / "home" / ".postgresql" / "root.crt").exists()


def test_a_download_loads_requests(tmp_path: Path) -> None:
    """The control of the rows above."""
    run = "from qs_certs.cli import main; main()"
    seen = loaded(run, tmp_path, "install", "--url", "https://127.0.0.1:9/", "--timeout", "1")
    assert {"requests", "certifi"} <= seen
