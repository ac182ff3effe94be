"""The state machine must notice mistakes in what commands mean: patches for a copy of the package.

By default three; with QS_CERTS_LONG=1 all of them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import test_mutants as faults
from tests.faults.counting import Count, count

__all__ = ["count"]

PATCHES = sorted((Path(__file__).resolve().parent / "mutants").glob("*.patch"))
GIT = shutil.which("git")
BY_DEFAULT = {"drift-ignored", "rollback-id-forgets", "void-is-done"}

pytestmark = [
    pytest.mark.skipif(GIT is None, reason="no git on this machine, which applies the patches"),
    pytest.mark.skipif(sys.platform == "win32", reason="not on Windows: line ends of the copy"),
]


@pytest.mark.parametrize(
    "patch",
    [
        pytest.param(patch, id=patch.stem)
        for patch in PATCHES
        if faults.LONG or patch.stem in BY_DEFAULT
    ],
)
def test_the_state_machine_notices_the_mistake(
    patch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: Count
) -> None:
    monkeypatch.setenv("QS_CERTS_SHRINK", "0")
    folder = faults.copy(tmp_path / "copy")
    assert GIT is not None
    subprocess.run([GIT, "apply", str(patch)], cwd=folder, check=True, capture_output=True)
    done = faults.run(folder, faults.killer(patch))
    count("laws: mutants of meaning tried", 1)
    assert done.returncode == 1, f"{patch.stem} survived:\n{done.stdout[-2000:]}"
    assert "state = Machine()" in done.stdout, done.stdout[-2000:]
    count("laws: mutants of meaning killed", 1)


def test_the_default_names_mutants_that_exist() -> None:
    assert {patch.stem for patch in PATCHES} >= BY_DEFAULT
