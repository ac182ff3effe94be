"""The mutation tester itself: it makes the mistakes it says, and tells killed from survived."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import mutation
import pytest

SOURCE = '''
"""A docstring stays."""
LIMIT = 3
Alias = list[int]
Kind = TypeVar("Kind")
TYPE_CHECKING = False


class Box:
    size: int = 1

    @property
    def full(self) -> bool:
        """So does this one."""
        return self.size >= LIMIT and not self.broken


def sync(fd: int) -> None:
    if sys.platform == "another":
        only_there(fd)
    else:
        only_here(fd)


def speak(left: int) -> None:
    if left:
        raise WrongUsage("a sentence for people", fix=("word",))
'''


def test_mistakes_are_made_where_one_could_make_them() -> None:
    made = {(each.function, each.change, each.in_function) for each in mutation.mutants(SOURCE)}
    assert made >= {
        ("", "LIMIT = 3 → LIMIT = None", False),
        ("", "3 → 4", False),
        ("Box", "1 → 2", False),
        ("Box.full", "self.size >= LIMIT → self.size > LIMIT", True),
        ("Box.full", "not self.broken → self.broken", True),
        ("speak", "left → not left", True),
        ("speak", "'word' → 'XXword'", True),
    }
    changes = " ".join(change for _, change, _ in made)
    assert "only_here" in changes
    assert "only_there" not in changes
    assert "XXa sentence for people" not in changes
    assert "docstring" not in changes
    assert "Alias" not in changes
    assert "Kind" not in changes
    assert "TYPE_CHECKING" not in changes
    assert "False → True" not in changes


def test_a_mutant_leaves_the_source_as_it_was() -> None:
    assert [each.change for each in mutation.mutants(SOURCE)] == [
        each.change for each in mutation.mutants(SOURCE)
    ]


def tried(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, mutation.__file__, "libpq.outcomes", "--part", "functions"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.skipif(sys.platform == "win32", reason="not on Windows: forks")
@pytest.mark.skipif(importlib.util.find_spec("coverage") is None, reason="coverage is missing")
def test_what_is_tested_is_killed_and_what_makes_no_difference_survives() -> None:
    """A function of one line, and a version of which only a bound matters."""
    lines = (mutation.CHECKOUT / "qs_certs/libpq/outcomes.py").read_text("utf-8").splitlines()
    first = next(at for at, line in enumerate(lines, 1) if "def _verifies" in line)
    done = tried("--lines", f"{first}-{first + 2}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(100.0 %) | 0" in done.stdout, done.stdout

    bound = next(at for at, line in enumerate(lines, 1) if "libpq_major: int = 18" in line)
    done = tried("--lines", f"{bound}-{bound}")
    assert "survived  libpq.outcomes" in done.stdout, done.stdout + done.stderr


def test_the_page_has_figures_of_every_room_or_says_that_it_has_none() -> None:
    figures = mutation.EXPLAINED.read_text("utf-8").split("\n## Figures\n")[1].split("\n## ")[0]
    assert [room for room in mutation.ROOMS if f"`{room}`" not in figures] == []
    assert "`cli`" not in figures, "a control: no room of the tool"
