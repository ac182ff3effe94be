"""What is shipped and what it is built from: the wheel, the sdist, the locks, the CI."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import environment
import lock
import pytest
from packaging.requirements import Requirement

# By name, because mypy looks as Python 3.10 with the packages of a newer one.
tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
LOCKS = ("dev", "build", "runtime", "single")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a wheel and an sdist of this checkout."""
    pytest.importorskip("hatchling", reason="needs hatchling, the build backend")
    folder = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def package_files() -> set[str]:
    found = (ROOT / "qs_certs").rglob("*")
    return {
        file.relative_to(ROOT).as_posix()
        for file in found
        if file.is_file() and file.suffix != ".pyc"
    }


def test_the_wheel_holds_the_whole_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    manual = {name for name in names if name.endswith(".data/data/share/man/man1/qs-certs.1")}
    assert len(manual) == 1
    assert names - manual == package_files()
    assert wheel.name.endswith("-py3-none-any.whl")


@pytest.mark.parametrize(
    "pattern",
    [r"qs_certs/roots/.+\.pem", r"qs_certs/schemas/.+\.json", r"qs_certs/py\.typed"],
    ids=["embedded roots", "schemas", "type marker"],
)
def test_the_wheel_holds_the_data(built: Path, pattern: str) -> None:
    (wheel,) = built.glob("*.whl")
    assert any(re.fullmatch(pattern, name) for name in zipfile.ZipFile(wheel).namelist())


def test_the_sdist_holds_what_building_and_testing_needs(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert package_files() <= names
    needed = {"README.md", "LICENSE", "CHANGELOG.md", "scripts/test.py", "requirements/dev.txt"}
    assert needed <= names
    assert not any(name.startswith((".venv", ".mypy_cache", "dist/")) for name in names)


def pins(name: str) -> dict[str, list[Requirement]]:
    """The pins of a lock: one per package, or several with markers that exclude each other."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")
    found: dict[str, list[Requirement]] = {}
    for line in text.splitlines():
        if line and not line.startswith(("#", " ")):
            pin = Requirement(line.rstrip("\\ "))
            found.setdefault(pin.name, []).append(pin)
    return found


def declared(name: str) -> list[Requirement]:
    groups = PYPROJECT["dependency-groups"]
    lists = {
        "runtime": PYPROJECT["project"]["dependencies"],
        "build": groups["build"],
        "single": PYPROJECT["project"]["dependencies"] + groups["single"],
        "dev": [
            text
            for name in (
                "dev",
                *(each["include-group"] for each in groups["dev"] if isinstance(each, dict)),
            )
            for text in groups[name]
            if isinstance(text, str)
        ],
    }
    return [Requirement(text) for text in lists[name]]


MACHINES = {
    "Linux": {"sys_platform": "linux", "platform_machine": "x86_64"},
    "Mac, ARM": {"sys_platform": "darwin", "platform_machine": "arm64"},
    "Mac, Intel": {"sys_platform": "darwin", "platform_machine": "x86_64"},
    "Windows": {"sys_platform": "win32", "platform_machine": "AMD64"},
    "Windows, ARM": {"sys_platform": "win32", "platform_machine": "ARM64"},
}


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_every_declared_dependency_within_its_range(
    name: str, machine: dict[str, str]
) -> None:
    locked = pins(name)
    for version in lock.PYTHONS:
        python = {"python_version": version, "python_full_version": f"{version}.0"}
        where = {**machine, **python}
        for wanted in declared(name):
            if wanted.marker and not wanted.marker.evaluate(where):
                continue
            pinned = [p for p in locked[wanted.name] if not p.marker or p.marker.evaluate(where)]
            assert len(pinned) == 1, f"{wanted} has {len(pinned)} pins for {where}"
            (exact,) = pinned[0].specifier
            assert exact.operator == "=="
            assert wanted.specifier.contains(exact.version), f"{pinned[0]} is not {wanted}"


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_pins_and_hashes_and_no_word_of_where_they_came_from(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")
    hashed = re.compile(r"(?:[^\n\\]+==[^\n\\]+ \\\n)(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+")
    rest = hashed.sub("", text.removeprefix(lock.HEADER))
    assert text.startswith(lock.HEADER)
    assert rest == ""


@pytest.mark.parametrize("name", ["build", "runtime", "single"])
def test_the_locks_agree_with_each_other(name: str) -> None:
    everything = {str(pin.specifier) for many in pins("dev").values() for pin in many}
    assert pins(name).keys() <= pins("dev").keys()
    assert {str(pin.specifier) for many in pins(name).values() for pin in many} <= everything


def test_the_build_group_is_what_the_build_system_requires() -> None:
    assert PYPROJECT["dependency-groups"]["build"] == PYPROJECT["build-system"]["requires"]


def test_one_lowest_python_everywhere() -> None:
    lowest = ".".join(map(str, environment.MINIMUM))
    assert PYPROJECT["project"]["requires-python"] == f">={lowest}"
    assert lock.PYTHONS[0] == lowest
    assert PYPROJECT["tool"]["ruff"]["target-version"] == "py" + lowest.replace(".", "")
    assert tuple(f"python{v}" for v in reversed(lock.PYTHONS)) == environment.NEWER_PYTHONS


@pytest.mark.parametrize(
    "script", ["environment", "onboard", "test", "install_from_kit", "kit", "single"]
)
def test_a_script_can_tell_a_python_that_is_too_old(script: str) -> None:
    source = (ROOT / "scripts" / f"{script}.py").read_text("utf-8")
    ast.parse(source, feature_version=(3, 7))


def test_the_grammar_check_finds_what_python_3_7_cannot_read() -> None:
    with pytest.raises(SyntaxError):
        ast.parse("match 1:\n    case _: pass\n", feature_version=(3, 7))


def test_the_readme_names_both_commands() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert "python3 scripts/test.py" in lines, "`.ci/run` takes its command from there"
    assert any(line.startswith("python3 scripts/onboard.py") for line in lines)


def test_the_workflow_runs_on_every_promised_python() -> None:
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text("utf-8")
    listed = re.search(r"^ +python: (\[.+\])$", workflow, re.MULTILINE)
    assert listed
    assert tuple(ast.literal_eval(listed[1])) == lock.PYTHONS
