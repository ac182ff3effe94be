r"""Put `qs-certs check --json` of many machines together: who is not ready, and what to do.

    python3 scripts/report.py [OPTIONS] FILE|FOLDER|- ...

    --format text|csv|json|html   text is the default; html is one page that needs nothing else
    --output FILE                 write there instead of to standard output
    --expected FILE               names of machines, one a line: those without a document are listed
    --title TITLE                 of the page

A file holds one document, or one a line (JSON Lines); a folder is read with all that is below it
and ends in .json, .jsonl or .ndjson; - is standard input.  The machine is the file's name without
its ending, unless the document is wrapped:

    {"machine": "NAME", "user": "NAME", "check": DOCUMENT}

*user* may be missing or null, and *check* may also be the document as a string.  Where a machine
and user occur twice, the later one counts: folders are read in the order of their names.

Exit codes: 0 everybody is ready; 1 somebody is not; 2 wrong usage; 4 there was no document.
Standard library only: copy this file to wherever the documents are.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import html
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ENDINGS = (".json", ".jsonl", ".ndjson")


class State(NamedTuple):
    """How a user of a machine stands: a slug, its mark, and what it is called."""

    slug: str
    mark: str
    name: str


# By the exit code of `check`, what must be looked at first in front: the order is the program's
# own.  What has no exit code, because there is no document, comes between those that need somebody
# and those that are fixed by a command.
STATES: Mapping[int | str, State] = {
    70: State("bug", "✗", "a bug: report it"),
    5: State("integrity", "✗", "stop: integrity"),
    6: State("mend", "✗", "mend this machine"),
    3: State("person", "✗", "needs a person"),
    4: State("unknown", "?", "could not tell"),
    "unreadable": State("unreadable", "?", "unreadable report"),
    "silent": State("silent", "?", "no report"),
    1: State("install", "→", "run install"),
    2: State("usage", "?", "check was called wrongly"),
    0: State("ready", "✓", "ready"),
}
ORDER = {state: number for number, state in enumerate(STATES.values())}
READY = STATES[0]


class Row(NamedTuple):
    """One user of one machine.  Texts are as they came: whoever shows them escapes them."""

    machine: str
    user: str
    state: State
    problems: tuple[str, ...]
    todo: tuple[str, ...]


# --- reading ------------------------------------------------------------------------------------


def decoded(content: bytes) -> str:
    """*content* as text: UTF-8, or UTF-16 as Windows PowerShell's `>` writes it."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    return content.decode("utf-8-sig", "replace")


def rows_of(content: bytes, machine: str) -> Iterator[Row]:
    """The rows of one file: a document, or one a line.  What cannot be read is a row as well."""
    text = decoded(content).strip()
    try:
        yield from rows_of_document(_parsed(text), machine)
        return
    except ValueError as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2 or not lines[0].rstrip().endswith("}"):
            yield _unreadable(machine, str(error))
            return
    for number, line in enumerate(lines, 1):
        try:
            yield from rows_of_document(_parsed(line), machine)
        except ValueError as error:
            yield _unreadable(machine, f"entry {number}: {error}")


def _parsed(text: str) -> object:
    """JSON, or ValueError: also where it is nested so deeply that reading it would not end well."""
    try:
        parsed: object = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return parsed


def rows_of_document(document: object, machine: str, user: str = "") -> Iterator[Row]:
    """The rows of one document, wrapped or bare; one for each account that it has."""
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    if "check" in document:
        machine = _text(document.get("machine")) or machine
        user = _text(document.get("user"))
        inner = document["check"]
        try:
            inner = _parsed(inner) if isinstance(inner, str) else inner
            yield from rows_of_document(inner, machine, user)
        except ValueError as error:
            yield _unreadable(machine, str(error), user)
        return
    if document.get("command") != "check" or document.get("schema") != 1:
        raise ValueError("not the output of `qs-certs check --json`, schema 1")
    accounts = document.get("accounts")
    if isinstance(accounts, list) and accounts:
        for each in accounts:
            own = _text(each.get("user")) if isinstance(each, dict) else ""
            try:
                yield _row(each, machine, own)
            except ValueError as error:
                yield _unreadable(machine, str(error), own)
    else:
        yield _row(document, machine, user)


def _row(document: object, machine: str, user: str) -> Row:
    code = document.get("exit_code") if isinstance(document, dict) else None
    if not isinstance(document, dict) or type(code) is not int or code not in STATES:
        raise ValueError(f"unknown exit code {code!r}")
    problems: list[str] = []
    todo: list[str] = []
    error = document.get("error")
    if isinstance(error, dict):
        problems.append(": ".join(_texts([error.get("message"), error.get("why")])))
        todo += _texts(error.get("fix"))
    findings = document.get("findings")
    for finding in findings if isinstance(findings, list) else []:
        if isinstance(finding, dict) and finding.get("severity") in ("error", "warning"):
            problems.append(f"{_text(finding.get('message'))} [{_text(finding.get('code'))}]")
            todo += _texts(finding.get("fix")) + _texts(finding.get("advice"))
    return Row(machine, user, STATES[code], tuple(problems), tuple(dict.fromkeys(todo)))


def _unreadable(machine: str, why: str, user: str = "") -> Row:
    state = STATES["unreadable"]
    return Row(machine, user, state, (why,), ("collect the document of this machine again",))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: object) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def read(sources: Iterable[str]) -> Iterator[Row]:
    """The rows of files, folders, and standard input (-)."""
    for source in sources:
        if source == "-":
            yield from rows_of(sys.stdin.buffer.read(), "standard input")
            continue
        path = Path(source)
        found = [path] if not path.is_dir() else sorted(
            each for each in path.rglob("*") if each.suffix.lower() in ENDINGS and each.is_file()
        )  # fmt: skip
        for file in found:
            try:
                content = file.read_bytes()
            except OSError as error:
                yield _unreadable(file.stem, error.strerror or str(error))
                continue
            yield from rows_of(content, file.stem)


def table(rows: Iterable[Row], expected: Iterable[str] = ()) -> list[Row]:
    """One row per machine and user, whoever is not ready first."""
    last = {(row.machine, row.user): row for row in rows}
    heard = {machine.casefold() for machine, _ in last}
    silent = [name for name in dict.fromkeys(expected) if name.casefold() not in heard]
    todo = ("collect `qs-certs check --json` there", "or take it off the list")
    added = [Row(name, "", STATES["silent"], (), todo) for name in silent]
    return sorted(
        [*last.values(), *added], key=lambda row: (ORDER[row.state], row.machine, row.user)
    )


# --- showing ------------------------------------------------------------------------------------


def visible(text: str) -> str:
    """*text* on one line, with control and direction characters made visible."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
        for each in text
    )


def counts(rows: list[Row]) -> str:
    """`2 of 5 ready; 1 run install, ...`: the line that people want first."""
    found = Counter(row.state for row in rows)
    others = [
        f"{found[state]:,} {state.name}" for state in ORDER if state != READY and found[state]
    ]
    return "; ".join([f"{found[READY]:,} of {len(rows):,} ready", ", ".join(others)]).rstrip("; ")


def as_text(rows: list[Row]) -> str:
    """A table for the terminal: a line for each row, then one for each thing to do."""
    width = max((len(visible(row.machine)) for row in rows), default=0)
    users = max((len(visible(row.user)) for row in rows), default=0)
    lines = []
    for row in rows:
        state = f"{row.state.mark} {row.state.name}"
        cells = f"{visible(row.machine):<{width}}  {visible(row.user):<{users}}  {state}"
        lines += [cells, *(f"    {visible(text)}" for text in row.problems)]
        lines += [
            f"    {'next' if i == 0 else 'or  '} {visible(t)}" for i, t in enumerate(row.todo)
        ]
    return "\n".join([*lines, "", counts(rows), ""])


def as_csv(rows: list[Row]) -> str:
    """A spreadsheet; what one would take for a formula is marked as text."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["machine", "user", "state", "problems", "to do"])
    for row in rows:
        cells = (
            row.machine,
            row.user,
            row.state.slug,
            "; ".join(row.problems),
            "; ".join(row.todo),
        )
        writer.writerow([_no_formula(visible(cell)) for cell in cells])
    return out.getvalue()


def _no_formula(cell: str) -> str:
    return f"'{cell}" if cell.lstrip().startswith(("=", "+", "-", "@", "|")) else cell


def as_json(rows: list[Row]) -> str:
    """For other programs."""
    found = Counter(row.state.slug for row in rows)
    shown = [
        {**row._asdict(), "state": row.state.slug, "problems": row.problems, "todo": row.todo}
        for row in rows
    ]
    return json.dumps({"schema": 1, "counts": dict(found), "rows": shown}, indent=1) + "\n"


STYLE = """\
:root { color-scheme: light dark; --text: #1b1b1f; --back: #fff; --line: #d5d5dc; --soft: #5a5a66;
  --bar: #f3f3f7; --bad: #a3121f; --ask: #7a4b00; --do: #0b4fa8; --good: #14662f; }
@media (prefers-color-scheme: dark) { :root { --text: #e8e8ee; --back: #16161a; --line: #3a3a44;
  --soft: #a8a8b5; --bar: #212128; --bad: #ff9aa2; --ask: #ffc66b; --do: #8fc1ff; --good: #86dba0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 80rem; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; }
p { margin: 0 0 1rem; }
form { display: flex; flex-wrap: wrap; gap: 1rem; align-items: end; margin-bottom: 1rem;
  padding: .75rem 1rem; background: var(--bar); border-radius: .5rem; }
label { display: grid; gap: .2rem; font-size: .85rem; color: var(--soft); }
input, select { font: inherit; font-size: 1rem; padding: .3rem .5rem; color: var(--text);
  background: var(--back); border: 1px solid var(--soft); border-radius: .3rem; }
input, select { height: 2.3rem; max-width: 100%; }
input { width: 22rem; }
:focus-visible { outline: 3px solid var(--do); outline-offset: 1px; }
output { margin-left: auto; color: var(--soft); }
table { width: 100%; border-collapse: collapse; }
caption { text-align: left; color: var(--soft); padding-bottom: .5rem; }
th, td { text-align: left; vertical-align: top; padding: .5rem .75rem .5rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
thead th { position: sticky; top: 0; background: var(--back); }
td.state { white-space: nowrap; font-weight: 600; color: var(--bad); overflow-wrap: normal; }
[data-state=ready] td.state { color: var(--good); }
[data-state=install] td.state { color: var(--do); }
[data-state=unknown] td.state, [data-state=unreadable] td.state, [data-state=silent] td.state,
[data-state=usage] td.state { color: var(--ask); }
ul { margin: 0; padding: 0; list-style: none; }
code { font: .875em ui-monospace, monospace; }
[hidden] { display: none; }
@media (max-width: 52rem) { .wide { overflow-x: auto; } table { min-width: 46rem; } }
"""

# Texts of the documents are in the page as text only; the script reads them and writes none.
SCRIPT = """\
const rows = [...document.querySelectorAll("tbody tr")];
const texts = rows.map(row => row.textContent.toLowerCase());
const [query, state, shown] = ["query", "state", "shown"].map(id => document.getElementById(id));
function filter() {
  const words = query.value.toLowerCase().split(/\\s+/).filter(Boolean);
  let count = 0;
  rows.forEach((row, i) => {
    const is = row.dataset.state;
    const fits = !state.value || is === state.value || (state.value === "not-ready" && is !== "ready");
    row.hidden = !(fits && words.every(word => texts[i].includes(word)));
    count += !row.hidden;
  });
  shown.value = `${count.toLocaleString("en")} of ${rows.length.toLocaleString("en")} shown`;
}
query.addEventListener("input", filter);
state.addEventListener("change", filter);
document.forms[0].addEventListener("submit", event => event.preventDefault());
document.forms[0].hidden = false;
filter();
"""


def as_html(rows: list[Row], title: str = "qs-certs: who is ready") -> str:
    """One page without any other file.  Nothing in it runs but the script above: the policy in its
    head names that script by its hash, so an injected one would not, even past the escaping."""
    policy = f"default-src 'none'; script-src '{_hashed(SCRIPT)}'; style-src '{_hashed(STYLE)}'"
    present = {row.state for row in rows}
    choices = "".join(
        f'<option value="{state.slug}">{html.escape(state.name)}</option>'
        for state in ORDER
        if state in present
    )
    body = "\n".join(_html_row(row) for row in rows)
    return f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width">
<meta name="referrer" content="no-referrer">
<title>{_shown(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{_shown(title)}</h1>
<p>{_shown(counts(rows))}</p>
<form hidden role="search">
<label>Find a machine, a user, a word<input id="query" type="search" autocomplete="off"></label>
<label>State<select id="state"><option value="">all</option>
<option value="not-ready">everybody who is not ready</option>{choices}</select></label>
<output id="shown" role="status"></output>
</form>
<div class="wide" role="region" aria-label="Machines" tabindex="0">
<table>
<caption>Whoever is not ready comes first.</caption>
<thead><tr><th scope="col">Machine</th><th scope="col">User</th><th scope="col">State</th>\
<th scope="col">What was found</th><th scope="col">What to do</th></tr></thead>
<tbody>
{body}
</tbody>
</table>
</div>
</main>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _html_row(row: Row) -> str:
    state = f'<span aria-hidden="true">{row.state.mark}</span> {html.escape(row.state.name)}'
    return (
        f'<tr data-state="{row.state.slug}"><th scope="row">{_shown(row.machine)}</th>'
        f'<td>{_shown(row.user)}</td><td class="state">{state}</td>'
        f"<td>{_items(row.problems)}</td><td>{_items(row.todo)}</td></tr>"
    )


def _items(texts: tuple[str, ...]) -> str:
    shown = [
        f"<code>{_shown(text)}</code>" if text.startswith("qs-certs ") else _shown(text)
        for text in texts
    ]
    return f"<ul>{''.join(f'<li>{each}</li>' for each in shown)}</ul>" if shown else ""


def _shown(text: str) -> str:
    return html.escape(visible(text))


def _hashed(text: str) -> str:
    """The source expression of CSP for an inline element with exactly this text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


# --- the command --------------------------------------------------------------------------------


FORMATS: Mapping[str, Callable[[list[Row]], str]] = {
    "text": as_text,
    "csv": as_csv,
    "json": as_json,
    "html": as_html,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "report.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="report.py [OPTIONS] FILE|FOLDER|- ...",
    )  # fmt: skip
    parser.add_argument("sources", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--format", choices=FORMATS, default="text", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--expected", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--title", default="qs-certs: who is ready", help=argparse.SUPPRESS)
    return parser


def main(arguments: list[str]) -> int:
    """Write the report; the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        lines = decoded(asked.expected.read_bytes()).splitlines() if asked.expected else []
        expected = [line.strip() for line in lines if line.strip()]
        rows = table(read(asked.sources), expected)
        shown = (
            as_html(rows, asked.title) if asked.format == "html" else FORMATS[asked.format](rows)
        )
        content = shown.encode("utf-8", "backslashreplace")  # a lone surrogate is no UTF-8
        if asked.output:
            asked.output.write_bytes(content)
        else:
            sys.stdout.buffer.write(content)
    except OSError as error:
        print(f"report.py: error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 4
    if not rows:
        print("report.py: error: there is no document in there", file=sys.stderr)
        return 4
    if asked.output:
        print(f"{counts(rows)}: see {asked.output}", file=sys.stderr)
    return int(any(row.state != READY for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
