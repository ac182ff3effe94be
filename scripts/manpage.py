"""Make the man page from the program.

    python scripts/manpage.py [--check]

Writes docs/qs-certs.1.  With --check it writes nothing, and exits with 1 where the page is not what
the program says today.
"""

from __future__ import annotations

import re
import sys

import reference
from reference import CHECKOUT, Command, Parameter

from qs_certs import __version__

PAGE = CHECKOUT / "docs" / "qs-certs.1"

_BEFORE = """\
libpq verifies servers with the root certificates of one file.
.B qs-certs
puts the one that a server needs into that file (for Adobe Query Service: DigiCert Global Root G2),
judges the file and your connections, and undoes all of it.
No command asks questions, and none raises its own rights."""


def page() -> str:
    """The whole page, in the macros of man(7)."""
    commands = reference.commands()
    sections = [
        f'.TH QS\\-CERTS 1 "" "qs\\-certs {__version__}" "User Commands"',
        ".ad l\n.nh",  # words and commands stay as they are
        ".SH NAME\nqs\\-certs \\- verified TLS connections to PostgreSQL\\-wire services",
        ".SH SYNOPSIS\n" + "\n.br\n".join(_synopsis(each) for each in commands),
        ".SH DESCRIPTION\n" + _BEFORE,
        ".SH OPTIONS\n" + _parameters(reference.program().options),
        ".SH COMMANDS\n" + "\n".join(_command(each) for each in commands),
        ".SH EXIT STATUS\n"
        + "\n".join(
            _item(f"\\fB{code}\\fP", meaning + (f" ({what})" if what else ""))
            for code, meaning, what in reference.table("Exit codes")
        ),
        ".SH ENVIRONMENT\n"
        + "\n".join(_item(_bold(names), text) for names, text in reference.ENVIRONMENT),
        ".SH FILES\n"
        + "\n".join(
            _item(what.capitalize(), where)
            for what, where in reference.table("What it changes, and how to undo it")
        ),
        ".SH EXAMPLES\n" + "\n".join(_examples(each) for each in commands if each.examples),
        ".SH SEE ALSO\n.BR psql (1),\n.BR openssl\\-x509 (1)",
    ]
    return "\n".join(sections) + "\n"


def escaped(text: str) -> str:
    """*text* so that roff prints it as it stands; `code` is bold."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    text = text.replace("^", "\\(ha").replace("~", "\\(ti")
    text = re.sub(r"`([^`]*)`", r"\\fB\1\\fP", text)
    return "\\&" + text if text.startswith(".") else text


def _bold(names: str) -> str:
    return re.sub(r"[A-Z_]{2,}", lambda found: f"\\fB{found[0]}\\fP", escaped(names))


def _item(tag: str, text: str) -> str:
    return f".TP\n{tag}\n{escaped(text)}"


def _synopsis(command: Command) -> str:
    words = [f"\\fBqs\\-certs {command.name}\\fP", "[\\fIOPTIONS\\fP]"]
    words += [_value(each.value) for each in command.arguments]
    return " ".join(words)


def _value(text: str) -> str:
    return re.sub(r"[A-Z]{1,}[A-Z-]*|[a-z]+", lambda found: f"\\fI{found[0]}\\fP", escaped(text))


def _parameters(parameters: tuple[Parameter, ...]) -> str:
    return "\n".join(_parameter(each) for each in parameters)


def _parameter(parameter: Parameter) -> str:
    names = ", ".join(f"\\fB{escaped(name)}\\fP" for name in parameter.names)
    if not parameter.names[0].startswith("-"):
        tag = _value(parameter.value)
    else:
        tag = f"{names} {_value(parameter.value)}".rstrip()
    default = f" Default: {parameter.default}." if parameter.default is not None else ""
    return _item(tag, parameter.help + default)


def _command(command: Command) -> str:
    head = f".SS {escaped(command.synopsis)}\n{escaped(command.help)}"
    return "\n".join((head, _parameters(command.arguments + command.options)))


def _examples(command: Command) -> str:
    lines = []
    for label, line in command.examples:
        what = command.help.partition(".")[0] if label == "Example" else label
        lines.append(f".PP\n{escaped(what)}:\n.PP\n.RS\n.nf\n{escaped(line)}\n.fi\n.RE")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print(__doc__)
        return 0 if arguments in (["--help"], ["-h"]) else 2
    if not arguments:
        PAGE.write_text(page(), encoding="utf-8", newline="\n")
        return 0
    return int(PAGE.read_text("utf-8") != page())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
