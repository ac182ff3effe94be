"""The report of many machines: what it reads, what it shows, what hostile documents do to it.

The page is looked at by a real browser, in which an injected script would run if it could.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import report
from report import READY, STATES, Row, rows_of, table

from qs_certs.errors import ExitCode
from qs_certs.results import worst
from tests.browser import BrowserMissing, Page, chromium
from tests.faults.counting import Count

SCRIPT = Path(report.__file__)


def document(code: int = 0, message: str = "", fix: tuple[str, ...] = (), **more: object) -> Any:
    """What `check --json` prints, as far as the report reads it."""
    finding = {"code": "root-missing", "severity": "error", "message": message, "fix": list(fix),
               "advice": []}  # fmt: skip
    return {
        "schema": 1, "command": "check", "exit_code": code, "status": "ok",
        "findings": [finding] if message else [], **more,
    }  # fmt: skip


def rows(content: object, machine: str = "lab") -> list[Row]:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return list(rows_of(raw, machine))


# --- reading ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Documents that the program prints today: before and after `install`, and a wrong call."""
    home = tmp_path_factory.mktemp("home")
    found: dict[str, Any] = {}
    for name, words in {
        "before": ["check", "--json"],
        "install": ["install", "--offline", "--json"],
        "after": ["check", "--json"],
        "wrong": ["check", "--no-such-option", "--json"],
    }.items():
        done = subprocess.run(
            [sys.executable, "-m", "qs_certs", *words],
            env={"HOME": str(home), "PYTHONPATH": str(SCRIPT.parent.parent), "PATH": ""},
            check=False,
            capture_output=True,
        )
        found[name] = json.loads(done.stdout)
    return found


def test_what_the_program_prints_is_understood(real: dict[str, Any]) -> None:
    (before,) = rows(real["before"])
    assert before.state == STATES[1]
    assert "qs-certs install" in before.todo
    assert any("[root-missing]" in problem for problem in before.problems)
    (after,) = rows(real["after"])
    assert after.state == READY
    (wrong,) = rows(real["wrong"])
    assert wrong.state == STATES[2]
    assert "--no-such-option" in wrong.problems[0]
    (other,) = rows(real["install"])
    assert other.state.slug == "unreadable"


def test_every_exit_code_of_check_has_a_state() -> None:
    assert {code for code in STATES if isinstance(code, int)} == set(ExitCode) - {130}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(a, b, id=f"{a}-{b}")
        for a, b in itertools.combinations([c for c in STATES if isinstance(c, int)], 2)
    ],
)
def test_what_comes_first_is_what_the_program_calls_worse(first: int, second: int) -> None:
    assert worst([ExitCode(second), ExitCode(first)]) == first
    both = table([Row("a", "", STATES[second], (), ()), Row("b", "", STATES[first], (), ())])
    assert [row.machine for row in both] == ["b", "a"]


BARE = document(1, "no file", ("qs-certs install",))


@pytest.mark.parametrize(
    ("content", "machine", "user"),
    [
        pytest.param(BARE, "lab", "", id="bare: the file's name"),
        pytest.param({"machine": "m", "user": "ana", "check": BARE}, "m", "ana", id="wrapped"),
        pytest.param({"machine": "m", "check": BARE}, "m", "", id="without a user"),
        pytest.param({"machine": "m", "user": None, "check": BARE}, "m", "", id="user null"),
        pytest.param({"machine": "m", "check": json.dumps(BARE)}, "m", "", id="a string"),
        pytest.param(b"\xef\xbb\xbf" + json.dumps(BARE).encode(), "lab", "", id="with a BOM"),
        pytest.param(json.dumps(BARE, indent=2).encode("utf-16"), "lab", "", id="UTF-16"),
        pytest.param(json.dumps(BARE, indent=2).replace("\n", "\r\n").encode(), "lab", "",
                     id="CRLF"),
        pytest.param({**BARE, "accounts": None}, "lab", "", id="no accounts asked for"),
        pytest.param({**BARE, "accounts": [{**BARE, "user": "ana"}]}, "lab", "ana",
                     id="an account"),
    ],
)  # fmt: skip
def test_a_document_is_found_in_every_wrapping(content: object, machine: str, user: str) -> None:
    expected = Row(machine, user, STATES[1], ("no file [root-missing]",), ("qs-certs install",))
    assert rows(content) == [expected]


def test_lines_are_documents_and_a_bad_one_costs_no_other() -> None:
    lines = [
        json.dumps({"machine": name, "check": document(code)})
        for name, code in [("a", 0), ("b", 3), ("c", 1)]
    ]
    lines.insert(2, '{"machine": "x", "check": {"schema": 1')
    found = rows("\n".join(lines).encode())
    assert [(row.machine, row.state.slug) for row in found] == [
        ("a", "ready"), ("b", "person"), ("lab", "unreadable"), ("c", "install"),
    ]  # fmt: skip
    assert found[2].problems[0].startswith("entry 3: ")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"Traceback (most recent call last):\n", id="text"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b"1" * 5000, id="a huge number"),
        pytest.param(json.dumps(BARE).encode()[:-20], id="cut off"),
        pytest.param(document(schema=2), id="another schema"),
        pytest.param(document(99), id="unknown exit code"),
        pytest.param(document(exit_code=True), id="true is not 1"),
        pytest.param(document(exit_code=[]), id="a list as exit code"),
        pytest.param({**BARE, "accounts": ["ana"]}, id="an account without document"),
        pytest.param({"machine": "lab", "check": None}, id="nothing in the wrapping"),
        pytest.param({"machine": "lab", "check": "{"}, id="half a string"),
        pytest.param(b"\xff\xfe\x00", id="broken UTF-16"),
    ],
)
def test_what_cannot_be_read_is_a_row_that_is_not_ready(content: object) -> None:
    (row,) = rows(content)
    assert (row.machine, row.state.slug) == ("lab", "unreadable")
    assert row.problems[0]


def test_odd_values_in_findings_are_passed_over() -> None:
    odd = document(1, findings=[None, {"severity": "error", "message": 7, "code": "x", "fix": [1]}])
    assert rows(odd)[0].problems == (" [x]",)
    assert rows(document(0, findings="none"))[0].state == READY


def test_the_later_of_two_counts_and_who_is_silent_is_listed() -> None:
    stale, fresh = Row("a", "", STATES[3], (), ()), Row("a", "", READY, (), ())
    found = table([stale, fresh], ["A", "b", "b"])
    assert [(row.machine, row.state.slug) for row in found] == [("b", "silent"), ("a", "ready")]


# --- the command --------------------------------------------------------------------------------


def run(*words: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The script, with nothing but the standard library."""
    command = [sys.executable, "-I", "-S", str(SCRIPT), *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, input=stdin)


def test_a_folder_a_file_and_standard_input(tmp_path: Path) -> None:
    folder = tmp_path / "all" / "north"
    folder.mkdir(parents=True)
    (folder / "one.json").write_text(json.dumps(document()), encoding="utf-8")
    (folder / "notes.txt").write_text("not a document", encoding="utf-8")
    (tmp_path / "two.log").write_text(json.dumps(document(1, "no")), encoding="utf-8")
    done = run(tmp_path / "all", tmp_path / "two.log", "-", "--format", "json",
               stdin=json.dumps({"machine": "three", "check": document(3, "x")}).encode())  # fmt: skip
    assert done.returncode == 1
    shown = json.loads(done.stdout)
    assert [row["machine"] for row in shown["rows"]] == ["three", "two", "one"]
    assert shown["counts"] == {"person": 1, "install": 1, "ready": 1}
    assert run(folder).returncode == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        pytest.param([], 2, id="nothing named"),
        pytest.param(["--format", "xml", "x"], 2, id="no such format"),
        pytest.param(["no-such-file.json"], 1, id="a file that is not there is somebody not ready"),
        pytest.param(["--expected", "no-such-file", "x"], 4, id="no list"),
    ],
)
def test_wrong_calls(words: list[str], code: int) -> None:
    done = run(*words)
    assert done.returncode == code
    assert b"Traceback" not in done.stderr


def test_an_empty_folder_is_not_everybody_ready(tmp_path: Path) -> None:
    assert run(tmp_path).returncode == 4


# --- hostile documents --------------------------------------------------------------------------

HOSTILE = (
    "</script><script>document.title='ran'</script>",
    "<img src=x onerror=\"document.title='ran'\">",
    "'\"><svg onload=document.title='ran'>",
    "--></style><script>document.title='ran'</script>",
    "\x1b]0;ran\x07\u202egnp.exe\x00\r\nSet-Cookie: a",
    "=cmd|' /C calc'!A0",
    "&lt;b&gt; ${document.title='ran'} {{7*7}}",
    "\ud800",
)


def hostile_rows() -> list[Row]:
    return table(
        row
        for number, text in enumerate(HOSTILE)
        for row in rows(
            {
                "machine": f"{text}{number}",
                "user": text,
                "check": document(3, f"subject {text}", (text, f"qs-certs {text}")),
            }
        )
    )


@pytest.mark.parametrize("name", report.FORMATS)
def test_no_format_passes_control_characters_on(name: str) -> None:
    shown = report.FORMATS[name](hostile_rows())
    assert not {"\x1b", "\x07", "\x00", "\u202e"} & set(shown)
    assert b"\\x1b" in shown.encode("utf-8", "backslashreplace") or "\\u001b" in shown


def test_a_spreadsheet_takes_no_cell_for_a_formula() -> None:
    shown = list(csv.reader(io.StringIO(report.as_csv(hostile_rows()))))
    assert len(shown) == len(HOSTILE) + 1
    cells = [cell for row in shown for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t"))]
    assert any(cell.startswith("'=cmd") for cell in cells)


def test_ten_thousand_machines_are_fast(tmp_path: Path, count: Count) -> None:
    lines = [
        json.dumps({"machine": f"laptop-{number:05}", "user": "ana",
                    "check": document(number % 5 and 1, "no file" if number % 5 else "", ("a",))})
        for number in range(10_000)
    ]  # fmt: skip
    file = tmp_path / "all.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8")
    began = time.monotonic()
    done = run(file, "--format", "html", "--output", tmp_path / "page.html")
    seconds = time.monotonic() - began
    assert done.returncode == 1
    assert b"2,000 of 10,000 ready; 8,000 run install" in done.stderr
    assert seconds < 10
    count("milliseconds for a page of 10,000 machines", int(seconds * 1000))


# --- in a browser -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    try:
        with chromium(tmp_path_factory.mktemp("chromium")) as opened:
            yield opened
    except BrowserMissing as missing:
        pytest.skip(str(missing))


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "page.html"
    file.write_bytes(text.encode("utf-8", "backslashreplace"))
    return file


VISIBLE = "[...document.querySelectorAll('tbody tr:not([hidden]) th')].map(e => e.textContent)"
FLEET = [
    Row("laptop-1", "ana", STATES[1], ("no root file [root-missing]",), ("qs-certs install",)),
    Row("laptop-2", "bob", STATES[3], ("db:80: untrusted [untrusted-chain]",), ("ask IT",)),
    Row("laptop-3", "ana", READY, (), ()),
    Row("server-1", "", STATES[4], ("cannot be reached",), ()),
]


def test_the_page_filters_as_one_types(page: Page, tmp_path: Path) -> None:
    page.open(written(tmp_path, report.as_html(table(FLEET))))
    everybody = ["laptop-2", "server-1", "laptop-1", "laptop-3"]
    assert page.value(VISIBLE) == everybody
    page.type("#query", "ANA lap")
    assert page.value(VISIBLE) == ["laptop-1", "laptop-3"]
    assert page.value("document.querySelector('output').value") == "2 of 4 shown"
    choose = "const s = document.querySelector('select'); s.value = {!r};"
    choose += "s.dispatchEvent(new Event('change'))"
    page.value("{" + choose.format("not-ready") + "}")
    assert page.value(VISIBLE) == ["laptop-1"]
    page.type("#query", " ")
    assert page.value(VISIBLE) == everybody[:3]
    page.value("{" + choose.format("ready") + "}")
    assert page.value(VISIBLE) == ["laptop-3"]
    assert page.complaints == []


def test_the_page_asks_for_nothing_from_elsewhere(page: Page, tmp_path: Path) -> None:
    page.open(written(tmp_path, report.as_html(table(FLEET))))
    assert page.value("performance.getEntriesByType('resource').length") == 0
    assert page.value("document.querySelectorAll('[src], link, iframe, object').length") == 0


def test_an_injected_script_does_not_run(page: Page, tmp_path: Path) -> None:
    shown = hostile_rows()
    page.open(written(tmp_path, report.as_html(shown, HOSTILE[0])))
    assert page.value("document.querySelector('h1').textContent") == HOSTILE[0]
    assert page.value("document.title") == HOSTILE[0]
    assert page.value("document.scripts.length") == 1
    assert page.value("document.querySelectorAll('img, svg, b').length") == 0
    assert page.value("document.querySelectorAll('tbody tr').length") == len(HOSTILE)
    assert f"{HOSTILE[1]}1" in page.value(VISIBLE)
    assert page.complaints == []


def test_what_would_run_without_the_escaping_is_stopped_by_the_policy_and_seen(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above: first without escaping, then without the policy as well."""
    monkeypatch.setattr("html.escape", lambda text: text)
    unescaped = report.as_html(hostile_rows()[:3], "who")
    page.open(written(tmp_path, unescaped))
    assert page.value("document.title") == "who"
    assert any("Content Security Policy" in each for each in page.complaints)

    page.open(written(tmp_path, unescaped.replace("Content-Security-Policy", "X-Nothing")))
    assert page.value("document.title") == "ran"


def test_the_page_says_what_its_parts_are(page: Page, tmp_path: Path) -> None:
    """Names for who cannot see it, from the tree that a screen reader is given."""
    page.open(written(tmp_path, report.as_html(table(FLEET))))
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    named = {
        (node.get("role", {}).get("value"), node.get("name", {}).get("value")) for node in nodes
    }
    assert ("searchbox", "Find a machine, a user, a word") in named
    assert ("combobox", "State") in named
    assert ("rowheader", "laptop-1") in named
    assert {name for role, name in named if role == "columnheader"} == {
        "Machine", "User", "State", "What was found", "What to do",
    }  # fmt: skip
    assert any(role in ("cell", "gridcell") and "needs a person" in name for role, name in named)


CONTRAST = """(() => {
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(v => v / 255).map(
    v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const back = light(getComputedStyle(document.body).backgroundColor);
  return [...document.querySelectorAll('h1, p, label, caption, th, td')].map(e => {
    const own = light(getComputedStyle(e).color);
    return (Math.max(own, back) + 0.05) / (Math.min(own, back) + 0.05); });
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_can_be_read_in_the_light_and_in_the_dark(
    page: Page, tmp_path: Path, scheme: str
) -> None:
    page.open(written(tmp_path, report.as_html(table(FLEET))))
    picture = tmp_path / f"{scheme}.png"
    page.picture(picture, scheme)
    assert picture.stat().st_size > 5000
    back = page.value("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") == (scheme == "light")
    assert min(page.value(CONTRAST)) >= 4.5  # WCAG 2.2 §1.4.3


def test_ten_thousand_machines_are_filtered_at_once(
    page: Page, tmp_path: Path, count: Count
) -> None:
    many = [row._replace(machine=f"{row.machine}-{n}") for n in range(2_500) for row in FLEET]
    page.open(written(tmp_path, report.as_html(table(many))))
    began = time.monotonic()
    page.type("#query", "laptop-2-77")
    shown = page.value(VISIBLE)
    seconds = time.monotonic() - began
    assert len(shown) == 11
    assert page.complaints == []
    count("milliseconds to filter 10,000 machines in Chromium", int(seconds * 1000))
    assert seconds < 10
