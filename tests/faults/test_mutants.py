"""The suite must notice each of these mistakes: named patches for a copy of the package.

A patch says in its first line what the mistake is and in its second which test kills it.
By default a few; with QS_CERTS_LONG=1 all of them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.counting import Count

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
PATCHES = sorted((HERE / "mutants").glob("*.patch"))
GIT = shutil.which("git")
LONG = os.environ.get("QS_CERTS_LONG") == "1"
BY_DEFAULT = {
    # One for each kind of fault that only one of the methods sees.
    "blobs-folder-not-synced",
    "journal-not-synced",
    "no-write-loop",
    "old-content-not-kept",
    "read-back-failure-is-void",
    "target-not-synced",
    "torn-tail-not-cut",
    "exchange-not-looked-at",
    "write-in-place",
}

pytestmark = [
    pytest.mark.skipif(GIT is None, reason="no git on this machine, which applies the patches"),
    pytest.mark.skipif(sys.platform == "win32", reason="not on Windows: line ends of the copy"),
]


def copy(folder: Path) -> Path:
    """The package and its tests, by themselves."""
    skipped = shutil.ignore_patterns("__pycache__")
    for name in ("qs_certs", "tests"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=skipped)
    shutil.copy(CHECKOUT / "pyproject.toml", folder)
    return folder


def run(folder: Path, test: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "PYTHONPATH"))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", "."]
    return subprocess.run(
        [*command, f"tests/faults/{test}"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def killer(patch: Path) -> str:
    words = patch.read_text("utf-8").splitlines()[1]
    return words.removeprefix("Killed by: ")


@pytest.mark.parametrize(
    "patch",
    # Left out, not skipped: a skip would say that this machine lacks something.
    [pytest.param(patch, id=patch.stem) for patch in PATCHES if LONG or patch.stem in BY_DEFAULT],
)
def test_the_suite_kills_the_mutant(patch: Path, tmp_path: Path, count: Count) -> None:
    folder = copy(tmp_path / "copy")
    assert GIT is not None
    subprocess.run([GIT, "apply", str(patch)], cwd=folder, check=True, capture_output=True)
    done = run(folder, killer(patch))
    count("mutants: tried", 1)
    assert done.returncode == 1, f"{patch.stem} survived {killer(patch)}:\n{done.stdout[-2000:]}"
    assert "AssertionError" in done.stdout, done.stdout[-2000:]
    count("mutants: killed", 1)


@pytest.mark.parametrize("test", sorted({killer(patch) for patch in PATCHES})[:2])
def test_what_kills_a_mutant_passes_on_the_unaltered_copy(test: str, tmp_path: Path) -> None:
    done = run(copy(tmp_path / "copy"), test)
    assert done.returncode == 0, done.stdout[-2000:]


def test_the_default_names_mutants_that_exist() -> None:
    assert {patch.stem for patch in PATCHES} >= BY_DEFAULT
