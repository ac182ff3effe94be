"""Nothing in the rooms of a change goes past the seam."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from qs_certs import changes, files, store, upkeep

ALLOWED = {
    # Names and words only.
    "os.fsdecode",
    "os.fspath",
    "os.getpid",
    "os.geteuid",
    "os.strerror",
    "os.urandom",
    "os.path.abspath",
    "os.path.basename",
    "os.path.dirname",
    "os.path.join",
    "os.path.normcase",
    "os.path.split",
    # Looks that a fault can only make look again, or refuse.
    "os.path.exists",
    "os.path.isdir",
}
"""What may be called outside `Disk`; everything else of `os`, and every other door, may not."""
DOORS = {"open", "os", "shutil", "tempfile", "pathlib", "io", "fcntl", "msvcrt"}


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def past_the_seam(source: str) -> Iterator[str]:
    """The calls outside of class Disk that reach the file system."""
    tree = ast.parse(source)
    tree.body = [
        node for node in tree.body if not (isinstance(node, ast.ClassDef) and node.name == "Disk")
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = _dotted(node.func)
            if name.split(".")[0] in DOORS and name not in ALLOWED:
                yield f"{name} in line {node.lineno}"


@pytest.mark.parametrize("room", [files, store, changes, upkeep], ids=lambda room: room.__name__)
def test_every_call_of_a_change_goes_through_the_disk(room: object) -> None:
    path = getattr(room, "__file__", "")
    assert list(past_the_seam(Path(path).read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "line",
    ["os.unlink(path)", "open(path, 'w')", "shutil.rmtree(path)", "os.makedirs(path)"],
)
def test_the_guard_sees_a_way_past(line: str) -> None:
    assert len(list(past_the_seam(f"def f(path):\n    {line}\n"))) == 1


def test_the_guard_lets_the_disk_itself_pass() -> None:
    assert not list(past_the_seam("class Disk:\n    def unlink(self, p): os.unlink(p)\n"))
