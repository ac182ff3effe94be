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

CMDLETS = {
    *("ForEach-Object", "Get-Acl", "Get-Command", "Get-Item", "Select-Object", "Set-Location"),
    *("Split-Path", "Write-Output"),
}
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


# --- what SYSTEM runs -----------------------------------------------------------------------------

# docs.microsoft.com, FileSystemRights and "Access Mask Format".
RIGHTS = {
    "WriteData, CreateFiles": 0x2,
    "AppendData, CreateDirectories": 0x4,
    "WriteExtendedAttributes": 0x10,
    "DeleteSubdirectoriesAndFiles": 0x40,
    "WriteAttributes": 0x100,
    "Delete": 0x10000,
    "ChangePermissions": 0x40000,
    "TakeOwnership": 0x80000,
    "GENERIC_ALL": 0x10000000,
    "GENERIC_WRITE": 0x40000000,
}
READING = 0x20089 | 0x20 | 0x100000  # ReadAndExecute, Synchronize


def body(text: str, function: str) -> str:
    found = re.search(rf"^function {function}\b.*?^}}$", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[0]


def looked_up(text: str) -> list[str]:
    """What a script lets PATH or an environment of users decide, and where SYSTEM gets to it."""
    code = re.sub(r"#.*", "", text)
    found = []
    for name in re.findall(r"^function ([\w-]+)", text, re.MULTILINE):
        before, command, _ = re.sub(r"#.*", "", body(text, name)).partition("Get-Command")
        stops = re.search(r"if \(Test-System\) \{.*?\breturn\b", before, re.DOTALL)
        if command and stops is None:
            found.append(name)
    outside = re.sub(r"^function .*?^}$", "", code, flags=re.MULTILINE | re.DOTALL)
    return found + ["outside"] * ("Get-Command" in outside)


@every_script
def test_system_takes_nothing_from_a_path(script: Path) -> None:
    """A folder of PATH, or of a profile, that a user can write to would be their way to SYSTEM."""
    text = script.read_text("ascii")
    assert "Get-Command" in text
    assert looked_up(text) == []
    find = re.sub(r"\s+", " ", body(text, "Find-Program"))
    assert find.startswith(
        "function Find-Program { if (Test-System) { if (Get-Refusal $ForSystem) { return } "
        "return $ForSystem } "
    )
    (place,) = re.findall(r"^\$ForSystem = (.*)$", text, re.MULTILINE)
    assert place == '"$env:ProgramW6432\\qs-certs\\qs-certs.exe"'
    # Only what Find-Program gives is run, and pipx, which SYSTEM does not get to.
    assert re.findall(r"& (\S+)", re.sub(r"#.*", "", text)) == ["$py", "$command"]


def test_a_look_at_a_path_as_system_would_be_seen() -> None:
    text = DETECT.read_text("ascii")
    guard = re.search(r"    if \(Test-System\) \{\n.*?^    \}\n", text, re.MULTILINE | re.DOTALL)
    assert guard is not None
    assert looked_up(text.replace(guard[0], "")) == ["Find-Program"]
    assert looked_up(f"{text}\nGet-Command x\n") == ["outside"]


@every_script
def test_every_right_to_change_something_counts(script: Path) -> None:
    (mask,) = re.findall(r"^\$Changing = (0x[0-9A-F]+)$", script.read_text("ascii"), re.MULTILINE)
    assert int(mask, 16) == sum(RIGHTS.values())
    assert int(mask, 16) < 1 << 31, "a number of 32 bits with a sign in 5.1"
    assert int(mask, 16) & READING == 0, "users may read and run it"


@every_script
def test_who_is_trusted_are_system_administrators_and_the_installer_of_windows(
    script: Path,
) -> None:
    text = script.read_text("ascii")
    trusted = re.search(r"^\$Trusted = @\((.*?)^\)", text, re.MULTILINE | re.DOTALL)
    assert trusted is not None
    assert re.findall(r"'(S-[\d-]+)'", trusted[1]) == [
        "S-1-5-18",
        "S-1-5-32-544",
        "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464",
    ]
    refusal = body(text, "Get-Refusal")
    assert "-ErrorAction Stop" in refusal
    assert refusal.rstrip().endswith('} catch {\n        return "$_"\n    }\n}'), "in doubt, no"
