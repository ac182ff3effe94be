"""Run every suite that breaks things on purpose, and print the table of docs/durability.md.

    python3 scripts/durability.py            what the ordinary tests run: minutes
    python3 scripts/durability.py --long     all of it: hours, on Linux as root, with loop devices
    python3 scripts/durability.py --write    also put the counts into docs/durability.md

QS_CERTS_KILL_SECONDS and QS_CERTS_ROUNDS make the long form shorter.  The exit code is pytest's.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys

from environment import CHECKOUT, program

SUITES = ("tests/faults", "tests/durability", "tests/laws", "tests/fuzz")
PAGE = CHECKOUT / "docs" / "durability.md"
FORMS = ("by default", "QS_CERTS_LONG=1")
HEAD = f"| what ran | {FORMS[0]} | {FORMS[1]} |"
_COUNT = re.compile(r"^ *([\d,]+)  (\S.*)$")
_ROW = re.compile(r"^\| (.+?) \| (.*?) \| (.*?) \|$")

Table = dict[str, tuple[str, str]]
"""What ran, and how often in each form; an empty text is a form that does not run it."""


def counts(output: str) -> dict[str, str]:
    """The counts in what pytest prints at its end, by their names."""
    section = re.split(r"^=+ faults =+$", output, flags=re.MULTILINE)
    lines = section[1].splitlines() if len(section) == 2 else []
    found: dict[str, str] = {}
    for line in lines[1:]:
        match = _COUNT.match(line)
        if match is None:
            break
        found[match[2]] = match[1]
    return found


def read(page: str) -> Table:
    """The table in *page*."""
    _, _, rest = page.partition(HEAD)
    found: Table = {}
    for line in rest.splitlines()[2:]:
        match = _ROW.match(line)
        if match is None:
            break
        found[match[1]] = (match[2], match[3])
    return found


def written(table: Table) -> str:
    """*table* as Markdown."""
    rows = [f"| {name} | {default} | {long} |" for name, (default, long) in table.items()]
    return "\n".join([HEAD, "|---|---:|---:|", *rows])


def merged(table: Table, ran: dict[str, str], *, long: bool) -> Table:
    """*table* with the counts of one form replaced by those of a run."""
    found: Table = {}
    for name in sorted({*table, *ran}):
        old = table.get(name, ("", ""))
        new = ran.get(name, "")
        row = (old[0], new) if long else (new, old[1])
        if any(row):
            found[name] = row
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--long", action="store_true", help="every point and every file system")
    parser.add_argument("--write", action="store_true", help="put the counts into the page")
    options = parser.parse_args(arguments)
    made = program(CHECKOUT / ".venv", "python")
    python = str(made) if made.exists() else sys.executable
    suites = [suite for suite in SUITES if (CHECKOUT / suite).is_dir()]
    environment = {**os.environ, "QS_CERTS_LONG": "1" if options.long else "0"}
    running = subprocess.Popen(
        [python, "-m", "pytest", "-n", "2", "--dist", "loadfile", *suites],
        cwd=CHECKOUT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    output = ""
    with running:
        for line in running.stdout or ():
            print(line, end="", flush=True)
            output += line
    page = PAGE.read_text("utf-8")
    table = read(page)
    new = merged(table, counts(output), long=options.long)
    print(written(new))
    if options.write and running.returncode == 0:
        PAGE.write_text(page.replace(written(table), written(new)), "utf-8")
    return running.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
