"""Make the README's picture of a terminal again: run the program, draw what it shows.

    python scripts/picture.py

Writes docs/picture-light.svg and docs/picture-dark.svg.  Needs a PostgreSQL server to check, as
the tests do; nothing leaves this machine.  A test holds the text in them to what the program shows.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

if sys.platform == "win32":
    raise SystemExit("this needs a terminal as Linux and macOS have it")

import fcntl
import pty
import termios

CHECKOUT = Path(__file__).resolve().parent.parent
WIDTH = 80
"""Columns."""

ANA = "/home/ana"
"""The home that the picture shows instead of the one that the program ran in."""

THEMES: Mapping[str, Mapping[str, str]] = {
    "light": {
        "paper": "#ffffff",
        "edge": "#d0d7de",
        "ink": "#1f2328",
        "prompt": "#59636e",
        "31": "#cf222e",
        "32": "#116329",
        "33": "#7d4e00",
    },
    "dark": {
        "paper": "#0d1117",
        "edge": "#3d444d",
        "ink": "#e6edf3",
        "prompt": "#9198a1",
        "31": "#ff7b72",
        "32": "#56d364",
        "33": "#e3b341",
    },
}

_ADVANCE, _LINE, _MARGIN = 8.0, 18, 18
"""Pixels: the width of a letter, the height of a line, the space around all."""
_SPACE = "\N{NO-BREAK SPACE}"  # browsers do not agree on how to keep the other one


_COMMANDS = (
    "qs-certs check",
    "qs-certs install --offline",
    'qs-certs check "host=db.example.com user=ana sslmode=require"',
)
# Where the password database agrees with HOME, as on the machine of a user.
_PROGRAM = """\
import os
from qs_certs import accounts, cli
accounts.password_database_home = lambda: os.environ["HOME"]
cli.main()
"""


@dataclass(frozen=True, slots=True)
class Run:
    """Letters that look alike.  *colour* is a code of ECMA-48 8.3.117, or empty."""

    text: str
    colour: str = ""
    bold: bool = False


def shown(command: str, environment: Mapping[str, str]) -> str:
    """What *command*, a line of sh, puts on a terminal of 80 columns: escape sequences and all."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, WIDTH, 0, 0))
    with subprocess.Popen(
        ["/bin/sh", "-c", command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={"TERM": "xterm", **environment},
    ) as process:
        os.close(theirs)
        parts = []
        try:
            while part := os.read(ours, 4096):
                parts.append(part)
        except OSError:  # Linux: the other end is closed
            pass
        os.close(ours)
        process.wait()
    return b"".join(parts).decode().replace("\r\n", "\n")


def runs(text: str) -> list[list[Run]]:
    """The lines of the screen, each of at most 80 columns, as the terminal breaks them."""
    lines: list[list[Run]] = [[]]
    column, colour, bold = 0, "", False
    for part in re.split(r"(\x1b\[[\d;]*m|\n)", text):
        if part == "\n":
            lines.append([])
            column = 0
        elif part.startswith("\x1b"):
            for code in part[2:-1].split(";"):
                colour = code if code in ("31", "32", "33") else "" if code in ("", "0") else colour
                bold = code == "1" or (bold and code not in ("", "0"))
        else:
            left = part
            while left:
                if column == WIDTH:
                    lines.append([])
                    column = 0
                piece, left = left[: WIDTH - column], left[WIDTH - column :]
                lines[-1].append(Run(piece, colour, bold))
                column += len(piece)
    return lines


def drawing(lines: list[list[Run]], theme: str) -> str:
    """*lines* as SVG.  Needs nothing but a monospaced font, and says how wide each run is."""
    colours = THEMES[theme]
    width = round(WIDTH * _ADVANCE) + 2 * _MARGIN
    height = len(lines) * _LINE + 2 * _MARGIN
    title = "qs-certs in a terminal"
    body = "\n".join(_drawn(lines, colours))
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{title}">
<title>{title}</title>
<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8" fill="{colours["paper"]}" stroke="{colours["edge"]}"/>
<g font-family="ui-monospace,'DejaVu Sans Mono','Cascadia Mono',Menlo,Consolas,monospace" font-size="13" fill="{colours["ink"]}">
{body}
</g>
</svg>
"""


def _drawn(lines: list[list[Run]], colours: Mapping[str, str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        y = _MARGIN + number * _LINE + 13
        spans = []
        column = 0
        for run in line:
            look = f' fill="{colours[run.colour]}"' if run.colour else ""
            look += ' font-weight="bold"' if run.bold else ""
            x, length = _MARGIN + column * _ADVANCE, len(run.text) * _ADVANCE
            spans.append(
                f'<tspan x="{x:g}" textLength="{length:g}"{look}>{escape(run.text, quote=False).replace(" ", _SPACE)}</tspan>'
            )
            column += len(run.text)
        yield f'<text y="{y}">{"".join(spans)}</text>'


def written(svg: str) -> str:
    """The text of a picture, line by line."""
    from xml.etree import ElementTree

    root = ElementTree.fromstring(svg)  # noqa: S314 - made here
    lines = root.iter("{http://www.w3.org/2000/svg}text")
    return "\n".join("".join(line.itertext()) for line in lines).replace(_SPACE, " ")


@contextlib.contextmanager
def home_of_ana() -> Iterator[Path]:
    """A folder whose name is as long as the one that the picture shows, since lines are folded."""
    while True:
        folder = Path("/tmp", secrets.token_hex(2))  # noqa: S108 - made here, for us alone
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            break
    assert len(str(folder)) == len(ANA)  # noqa: S101
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def session(home: Path) -> list[list[Run]]:
    """A user's first minutes, in *home*: check, install, check a server."""
    from tests.pki import Authority
    from tests.postgres import Postgres, Settings

    root = Authority.root("Example Root CA")
    issuing = root.intermediate("Example Issuing CA")
    leaf = issuing.leaf(dns=["db.example.com"], common_name="db.example.com")
    (home / "ca.pem").write_bytes(root.certificate.pem)
    program = home / "bin" / "qs-certs"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{_PROGRAM}")
    program.chmod(0o755)
    with Postgres.start() as server:
        server.configure(Settings(chain=issuing.chain(leaf), key=leaf.key_pem))
        environment = {
            "PATH": f"{program.parent}:{os.defpath}",
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PGPORT": str(server.port),
            "PGHOSTADDR": "127.0.0.1",
        }
        add = f"qs-certs install --from ca.pem --sha256 {root.certificate.sha256}"
        screen = ""
        for command in _COMMANDS:
            out = shown(f"cd '{home}' && {command}", environment)
            screen += f"$ \x1b[1m{command}\x1b[0m\n{out}\n"
            if "install" in command:
                shown(f"cd '{home}' && {add}", environment)  # behind the curtain
    screen = screen.replace(str(home), ANA).replace(f":{server.port}", ":5432")
    # The certificates of the tests are of today.
    screen = re.sub(r"(?<=  to )20\d\d-\d\d-\d\d$", "2031-11-24", screen, flags=re.MULTILINE)
    return runs(screen.rstrip("\n"))


def main(arguments: list[str]) -> int:
    if arguments:
        print(__doc__)
        return 0 if arguments in (["--help"], ["-h"]) else 2
    with home_of_ana() as home:
        lines = session(home)
    for theme in THEMES:
        path = CHECKOUT / "docs" / f"picture-{theme}.svg"
        path.write_text(drawing(lines, theme), encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(CHECKOUT))
    sys.exit(main(sys.argv[1:]))
