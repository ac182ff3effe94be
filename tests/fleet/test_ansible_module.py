"""The role's module: how it calls the program, and what it makes of what the program says."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests import test_readme
from tests.fleet.scripts import FLEET
from tests.program import Program

if sys.platform != "linux":
    pytest.skip("only on Linux", allow_module_level=True)

SOURCE = FLEET / "ansible/roles/qs_certs/library/qs_certs_install.py"


@pytest.fixture(scope="module")
def module() -> ModuleType:
    pytest.importorskip("ansible", reason="needs ansible-core")
    spec = importlib.util.spec_from_file_location("qs_certs_install", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def parameters(**given: object) -> dict[str, Any]:
    defaults: dict[str, object] = {
        "roots": [],
        "pem": None,
        "sha256": None,
        "all_users": False,
        "users": [],
    }
    return {"program": "qs-certs", "options": [], **defaults, **given}


@pytest.mark.parametrize(
    ("given", "check_mode", "words"),
    [
        pytest.param({}, False, "", id="nothing"),
        pytest.param({"all_users": True}, False, "--all-users", id="all users"),
        pytest.param({"users": ["a", "b"]}, False, "--user a --user b", id="users"),
        pytest.param({"roots": ["x", "y"]}, False, "-- x y", id="roots"),
        pytest.param({"pem": "PEM", "sha256": "AB"}, False, "--from - --sha256 AB", id="own root"),
        pytest.param({"options": ["--offline"]}, True, "--offline --dry-run", id="check mode"),
    ],
)
def test_the_call(
    module: ModuleType, given: dict[str, object], check_mode: bool, words: str
) -> None:
    command = module.command_line(parameters(**given), check_mode)
    assert " ".join(command) == f"qs-certs install --json {words}".rstrip()
    test_readme.parse(" ".join(command))


def test_the_module_s_documentation_has_its_options(module: ModuleType) -> None:
    yaml = pytest.importorskip("yaml", reason="needs PyYAML, as ansible-core does")
    documented = yaml.safe_load(module.DOCUMENTATION)["options"]
    assert {
        name: {key: value for key, value in each.items() if key != "description"}
        for name, each in documented.items()
    } == module.OPTIONS


def outcome(module: ModuleType, program: Program, *words: str) -> dict[str, Any]:
    done = program("install", "--offline", "--json", *words)
    found: dict[str, Any] = module.outcome(done.code, done.document)
    return found


def test_what_the_program_says_is_what_ansible_reports(module: ModuleType, tmp_path: Path) -> None:
    program = Program(tmp_path)
    checked = outcome(module, program, "--dry-run")
    assert checked["changed"]
    assert "failed" not in checked
    assert not program.root_file.exists()

    changed = outcome(module, program)
    assert changed["changed"]
    assert changed["diff"] == checked["diff"]
    assert "+-----BEGIN CERTIFICATE-----" in changed["diff"][0]["prepared"]
    assert any("prefer" in each for each in changed["warnings"])

    again = outcome(module, program)
    assert (again["changed"], again["diff"], again.get("failed")) == (False, [], None)


@pytest.mark.parametrize("words", [(), ("--dry-run",)], ids=["run", "check mode"])
def test_a_failure_is_one_and_says_why(
    module: ModuleType, tmp_path: Path, words: tuple[str, ...]
) -> None:
    program = Program(tmp_path)
    program.root_file.parent.mkdir(mode=0o700)
    program.root_file.write_text(
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "ascii"
    )
    failed = outcome(module, program, *words)
    assert (failed["failed"], failed["changed"], failed["rc"]) == (True, False, 1)
    assert str(program.root_file) in failed["msg"]


def test_wrong_usage_is_a_failure(module: ModuleType, tmp_path: Path) -> None:
    failed = outcome(module, Program(tmp_path), "--no-such-option")
    assert (failed["failed"], failed["changed"], failed["rc"]) == (True, False, 2)
    assert "No such option" in failed["msg"]
