"""docs/fleet.md against the program and the files that it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qs_certs import catalogue
from tests import test_readme
from tests.fleet.scripts import FLEET, PAGE, POWERSHELL_SCRIPTS, SHELL_SCRIPTS

LINES = sorted(set(test_readme.command_lines(PAGE)))
ROLE = FLEET / "ansible" / "roles" / "qs_certs"


@pytest.mark.parametrize("line", LINES)
def test_every_command_line_of_the_page_parses(line: str) -> None:
    test_readme.parse(line.replace(" CODE", " root-missing").partition(" > ")[0])


def test_enough_command_lines_are_looked_at() -> None:
    assert len(LINES) >= 8


def test_every_file_of_the_fleet_is_on_the_page() -> None:
    files = [path for path in FLEET.iterdir() if path.is_file()]
    assert {*SHELL_SCRIPTS, *POWERSHELL_SCRIPTS} < set(files)
    assert [path.name for path in files if f"`scripts/fleet/{path.name}`" not in PAGE] == []


def test_the_role_s_page_lists_its_variables_with_their_defaults() -> None:
    told = re.findall(r"^\| `(qs_certs_\w+)` \|", (ROLE / "README.md").read_text("utf-8"), re.M)
    defaults = re.findall(
        r"^(qs_certs_\w+):", (ROLE / "defaults/main.yml").read_text("utf-8"), re.M
    )
    specified = re.findall(
        r"^      (qs_certs_\w+):", (ROLE / "meta/argument_specs.yml").read_text("utf-8"), re.M
    )
    assert told == defaults == specified


@pytest.mark.parametrize("page", [ROLE / "README.md"], ids=["the role's"])
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    assert test_readme.broken_links(page) == []


def test_the_default_root_of_the_role_is_the_program_s() -> None:
    defaults = (ROLE / "defaults/main.yml").read_text("utf-8")
    assert f"\nqs_certs_roots: [{catalogue.DEFAULT}]\n" in defaults
