"""What the program says about itself, as values: for the man page and for the site's reference.

Commands, options and examples are typer's; exit codes and files are the README's tables, which
tests hold to the program; the rest comes out of the rooms that own it.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

CHECKOUT = Path(__file__).resolve().parent.parent
if str(CHECKOUT) not in sys.path:
    sys.path.insert(0, str(CHECKOUT))  # called in an environment without qs-certs, or with another

from qs_certs import cli  # noqa: E402

README = (CHECKOUT / "README.md").read_text("utf-8")

ENVIRONMENT = (
    ("PGSSLROOTCERT", "The root file that `check` judges, unless a connection string names one."),
    (
        "PGHOST, PGPORT, PGSERVICE, PGSSLMODE and the others of libpq",
        (
            "What a connection string leaves open, as libpq reads it; `PGSERVICEFILE`, `PGSYSCONFDIR` "
            "and `PGPASSFILE` say where the servers of `--all` and `--impact` are named."
        ),
    ),
    ("QS_CERTS_URL", "Where `install` downloads a root from, instead of its publisher."),
    ("QS_CERTS_STORE", "The folder of the rollback store."),
    ("HTTPS_PROXY, ALL_PROXY, NO_PROXY", "The proxy of the download."),
    ("REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE", "A file of CAs to trust for the download."),
    (
        "HOME",
        "Where the root file and the store are; on Windows, Windows itself is asked for the folder.",
    ),
    (
        "NO_COLOR, FORCE_COLOR, TERM",
        "No colour; colour also in a pipe; no colour where it is dumb.",
    ),
)
"""Variables, and what they do."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """An option (*names* begin with a dash) or an argument.  *value* is empty for a flag."""

    names: tuple[str, ...]
    value: str
    help: str
    default: str | None


@dataclass(frozen=True, slots=True)
class Command:
    """A command; the program itself has no *name*.  *examples*: what each is for, and its line."""

    name: str
    help: str
    arguments: tuple[Parameter, ...]
    options: tuple[Parameter, ...]
    examples: tuple[tuple[str, str], ...]

    @property
    def synopsis(self) -> str:
        """`qs-certs install [OPTIONS] [ROOT]...`."""
        words = ("qs-certs", self.name, "[OPTIONS]", *(each.value for each in self.arguments))
        return " ".join(word for word in words if word)


def program() -> Command:
    """The options that stand before every command."""
    return _command("", typer.main.get_command(cli.app))


def commands() -> tuple[Command, ...]:
    """In the order of `--help`."""
    group: Any = typer.main.get_command(cli.app)
    return tuple(_command(name, each) for name, each in group.commands.items())


def _command(name: str, command: Any) -> Command:
    shown = [_parameter(each) for each in command.params]
    return Command(
        name=name,
        help=" ".join(command.help.split()),
        arguments=tuple(each for each in shown if not each.names[0].startswith("-")),
        options=tuple(each for each in shown if each.names[0].startswith("-")),
        examples=_examples(command.epilog or ""),
    )


def _parameter(parameter: Any) -> Parameter:
    choices = getattr(parameter.type, "choices", None)
    flag = bool(getattr(parameter, "is_flag", False))
    value = "" if flag else parameter.metavar or "|".join(choices or ())
    default = None if flag else parameter.default
    if default is not None:
        default = str(getattr(default, "value", default)).removesuffix(".0")
    names = tuple(sorted(parameter.opts, key=len))
    return Parameter(names, value, parameter.help, default)


def _examples(epilog: str) -> tuple[tuple[str, str], ...]:
    """One a line: `Further back: qs-certs rollback 3`."""
    return tuple(re.findall(r"^(.+?): (qs-certs .+)$", epilog, re.MULTILINE))


def table(heading: str) -> list[list[str]]:
    """The cells of the README's first table under *heading*."""
    section = README.split(f"\n## {heading}\n", 1)[1]
    first = re.findall(r"(?:^\|.*\|\n)+", section, re.MULTILINE)[0]
    lines = first.splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
