"""Write docs/clients.md: what `qs-certs clients` knows, for all three systems on one page.

    python3 scripts/clients_page.py

A test holds the page to the program.
"""

from __future__ import annotations

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
PAGE = CHECKOUT / "docs" / "clients.md"
if str(CHECKOUT) not in sys.path:
    sys.path.insert(0, str(CHECKOUT))

from qs_certs.knowledge import CLIENTS, GUIDES, Client, OnSystem  # noqa: E402 - after the path

INTRODUCTION = """\
# Clients

What `qs-certs clients` says, on one page; made by `python3 scripts/clients_page.py`, so change `qs_certs/knowledge/clients.py` and `guides.py` instead.

How a row is known:

- *tested*: `python3 scripts/test.py tests/matrix` runs that version against a real server, with every root file and sslmode, and holds it to what `check` and this table say;
- *tried*: it was run like that once, by hand;
- *source*, *documentation*: it was read, not run.

`<host>` and `<id>` are what Query Service shows under Credentials.

## All clients

The sslmodes in which a client judges the server by the root file; *no* means that it never reads it.

| client | driver | versions | Linux | macOS | Windows | known |
|---|---|---|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    rows = "".join(f"{_row(client)}\n" for client in CLIENTS)
    sections = "".join(_section(client) for client in CLIENTS if client.slug in GUIDES)
    return f"{INTRODUCTION}{rows}\n## Query Service's own clients, one by one\n{sections}"


def _row(client: Client) -> str:
    systems = (client.linux, client.macos, client.windows)
    known = " ".join((f"*{client.proven}*", ", ".join(client.tested))).rstrip()
    cells = (client.name, client.driver, client.versions, *map(_modes, systems), known)
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _modes(system: OnSystem) -> str:
    if not system.runs_here:
        return "-"
    if not system.root_file_matters:
        return "no"
    if system.sslmodes == ("verify-ca", "verify-full"):
        return "`verify-*`"
    return "all but `disable`" if "allow" in system.sslmodes else f"from `{system.sslmodes[0]}` on"


def _section(client: Client) -> str:
    guide = GUIDES[client.slug]
    named = {"Linux": client.linux, "macOS": client.macos, "Windows": client.windows}
    here = {name: system for name, system in named.items() if system.runs_here}
    lines = ["", f"### {client.name}", "", f"`qs-certs clients {client.slug}`", ""]
    lines += [f"{number}. {_prose(step)}" for number, step in enumerate(guide.steps, 1)]
    lines.append("")
    for name, system in here.items():
        matters = "matters" if system.root_file_matters else "does not matter"
        lines.append(
            f"- On {name} the root file {matters}; it looks in: {_prose(system.looks_in)}."
        )
    if guide.instead:
        lines.append(f"- Instead of the root file: {_prose(guide.instead)}")
    lines.append(f"- To see that it verifies: {_prose(guide.see)}")
    lines += [f"- Note: {_prose(note)}" for note in client.notes]
    lines.append(f"- Known from: {_prose(client.evidence)}.")
    return "\n".join(lines) + "\n"


def _prose(text: str) -> str:
    """*text* with what Markdown would take for markup made visible."""
    return text.replace("\\", "\\\\").replace("<", "\\<").replace("*", "\\*")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: list[str]) -> int:
    if arguments:
        print(__doc__)
        return 0 if arguments in (["--help"], ["-h"]) else 2
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
