"""The PowerShell scripts, parsed.  No PowerShell runs here: what could be wrong in one is looked for."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.scripts import POWERSHELL_SCRIPTS, VERDICTS

if sys.platform != "linux":
    pytest.skip("only on Linux", allow_module_level=True)

DETECT, REMEDIATE = POWERSHELL_SCRIPTS
every_script = pytest.mark.parametrize("script", POWERSHELL_SCRIPTS, ids=lambda path: path.name)

CMDLETS = {"ForEach-Object", "Get-Command", "Select-Object", "Set-Location", "Write-Output"}
"""What the scripts may call beside their own functions; all of Windows PowerShell 5.1."""

# Read as good by the parser, but PowerShell 7 only.
SEVEN_ONLY = re.compile(r"&&|\|\||\?\?|\?\.|\$Is(Windows|Linux|MacOS)\b|-Parallel\b|\bclean\s*\{")


def parse(text: str) -> Any:
    tree_sitter = pytest.importorskip("tree_sitter", reason="needs tree-sitter")
    language = pytest.importorskip(
        "tree_sitter_powershell", reason="needs tree-sitter-powershell"
    ).language()
    parser = tree_sitter.Parser(tree_sitter.Language(language))
    return parser.parse(text.encode("ascii")).root_node


def nodes(node: Any) -> Iterator[Any]:
    yield node
    for child in node.children:
        yield from nodes(child)


def faults(text: str) -> list[str]:
    """What Windows PowerShell 5.1 would not read, and calls that are on no list."""
    found = []
    functions = set(re.findall(r"^function ([\w-]+)", text, re.MULTILINE))
    for node in nodes(parse(text)):
        where = f"line {node.start_point[0] + 1}: "
        if node.type == "ERROR" or node.is_missing:
            found.append(f"{where}syntax")
        if node.type == "command_name":
            name = node.text.decode("ascii")
            if name not in CMDLETS | functions:
                found.append(f"{where}calls {name}")
    code = re.sub(r"#.*", "", text)
    return found + [f"7 only: {match[0]}" for match in SEVEN_ONLY.finditer(code)]


@every_script
def test_the_scripts_are_windows_powershell_and_call_little(script: Path) -> None:
    assert faults(script.read_text("ascii")) == []


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        pytest.param("if ($x) {", "syntax", id="missing brace"),
        pytest.param("$a = 'x", "syntax", id="open string"),
        pytest.param("$a = $b ?? 1", "syntax", id="null coalescing"),
        pytest.param("$a = $b ? 1 : 2", "syntax", id="ternary"),
        pytest.param("Find-Program && exit 1", "7 only: &&", id="chain"),
        pytest.param("if ($IsWindows) { exit 1 }", "7 only: $IsWindows", id="variable of 7"),
        pytest.param("Invoke-Expression $x", "calls Invoke-Expression", id="not on the list"),
        pytest.param("ls", "calls ls", id="alias"),
    ],
)
def test_a_fault_is_found(line: str, fault: str) -> None:
    found = faults(f"{DETECT.read_text('ascii')}{line}\n")
    assert any(fault in each for each in found), found


@every_script
def test_a_script_is_ascii_without_a_byte_order_mark(script: Path) -> None:
    """5.1 takes a file without the mark for ANSI, and Intune refuses signed ones that have it."""
    content = script.read_bytes()
    assert content.isascii()
    assert content.startswith(b"# Intune remediations, ")
    assert len(content) < 200_000, "Intune takes no more"


@every_script
def test_the_exit_code_is_the_program_s(script: Path) -> None:
    text = script.read_text("ascii")
    assert text.endswith("\nexit $LASTEXITCODE\n")
    exits = re.findall(r"^ +exit (.*)$", text, re.MULTILINE)
    (missing,) = (row for row in VERDICTS if row.check is None)
    assert exits == [str(missing.detection) if script == DETECT else "127"]
    assert "2>&1" in text, "nothing is left on standard error"


def test_intune_remediates_on_1_only_and_detection_passes_codes_on() -> None:
    assert all(row.detection == row.check for row in VERDICTS if row.check is not None)
    assert "'check', '--format', 'intune'" in DETECT.read_text("ascii")
    assert "'install'" in REMEDIATE.read_text("ascii")


def test_what_both_share_is_the_same() -> None:
    shared = re.compile(r"^# --- the same in both.*?^# -+\n", re.MULTILINE | re.DOTALL)
    one, two = (shared.findall(script.read_text("ascii")) for script in POWERSHELL_SCRIPTS)
    assert one == two
    assert len(one) == 1
