"""SECURITY.md and docs/threats.md name tests; each exists, and every test of this folder is named
or stands beside one that is."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.program import SOURCE
from tests.test_readme import broken_links

SECURITY = SOURCE / "SECURITY.md"
THREATS = SOURCE / "docs" / "threats.md"
NODE = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def named(page: Path) -> list[tuple[str, str]]:
    return NODE.findall(page.read_text("utf-8"))


@cache
def functions_of(file: str) -> frozenset[str]:
    path = SOURCE / file
    if not path.is_file():
        return frozenset()
    body = ast.parse(path.read_text("utf-8")).body
    return frozenset(
        each.name
        for each in body
        if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")
    )


def missing(names: list[tuple[str, str]]) -> list[str]:
    return [f"{file}::{name}" for file, name in names if name not in functions_of(file)]


@pytest.mark.parametrize("page", [SECURITY, THREATS], ids=lambda page: page.name)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    assert len(named(page)) > 20
    assert missing(named(page)) == []
    assert broken_links(page) == []


def test_a_test_that_does_not_exist_would_be_noticed() -> None:
    text = "`tests/test_store.py::test_nothing` `tests/none.py::test_x` `tests/x.py`"
    assert missing(NODE.findall(text)) == [
        "tests/test_store.py::test_nothing",
        "tests/none.py::test_x",
    ]


def test_every_promise_names_a_test_and_is_numbered_in_turn() -> None:
    promises = SECURITY.read_text("utf-8").partition("## What is promised")[2].partition("\n## ")[0]
    items = re.split(r"^(\d+)\. ", promises, flags=re.MULTILINE)[1:]
    assert [int(each) for each in items[::2]] == list(range(1, len(items) // 2 + 1))
    assert all(NODE.search(each) for each in items[1::2])


def test_every_row_of_the_threats_names_a_test_or_says_that_nobody_holds_it() -> None:
    rows = re.findall(r"^\| (.+) \|$", THREATS.read_text("utf-8"), re.MULTILINE)
    threats = [row for row in rows if not row.startswith("threat |")]
    assert len(threats) > 50
    unheld = [row for row in threats if not NODE.search(row)]
    assert [row.rpartition(" | ")[2] for row in unheld] == ["nobody"]
    assert all(row.count(" | ") == 2 for row in threats)


def test_every_file_of_this_folder_holds_a_threat() -> None:
    here = {f"tests/threats/{path.name}" for path in Path(__file__).parent.glob("test_*.py")}
    assert here - {file for file, _ in named(THREATS)} == {"tests/threats/test_pages.py"}
