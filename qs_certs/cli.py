"""The command line: parses words, and hands the one function that they ask for to `console`.

Nothing is decided here.  Everything heavy is imported inside the command that needs it.
"""

from __future__ import annotations

import contextlib
import copy
import io
import os
import re
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from qs_certs import console
from qs_certs.errors import ExitCode, WrongUsage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typer.models import CommandInfo

app = typer.Typer(
    name="qs-certs",
    help="Install, check and undo the root certificate that libpq verifies servers with.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help"]},
)

LARGEST_PASTE = 1 << 20
"""Bytes; a connection string or an error message is far smaller."""


def _offer(kind: str) -> Callable[[typer.Context, str], list[tuple[str, str]]]:
    """What Tab offers; nothing is loaded for it until then."""

    def offer(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
        from qs_certs import completion

        return completion.offered(kind, ctx.params, incomplete)

    return offer


Roots = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ROOT]...",
        help="Names from `qs-certs roots`, or SHA-256 fingerprints.",
        autocompletion=_offer("roots"),
    ),
]
TargetOption = Annotated[
    str | None,
    typer.Option(
        "--target", metavar="FILE", help="Work on FILE instead of libpq's default root file."
    ),
]
Users = Annotated[
    list[str] | None,
    typer.Option("--user", metavar="NAME", help="For root: the file of NAME; may be repeated."),
]
AllUsers = Annotated[
    bool,
    typer.Option("--all-users", help="For root: the files of all people with a home here."),
]
Dedicated = Annotated[
    bool,
    typer.Option(
        "--dedicated",
        help="Work on qs-root.crt beside root.crt, which only connections use that name it.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Show what would change as a diff; exit 1 if something would."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
JsonSchema = Annotated[
    bool, typer.Option("--json-schema", help="Print the JSON Schema of --json and stop.")
]
Change = Annotated[
    int | None,
    typer.Argument(
        metavar="[ID]",
        help="A change, as `qs-certs history` numbers it.",
        autocompletion=_offer("changes"),
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        from qs_certs.versions import versions

        console.say("\n".join(f"{name} {version}" for name, version in versions()))
        raise typer.Exit


class Shell(str, Enum):
    """The shells that can complete our words."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"
    powershell = "powershell"


def _completion(shell: Shell | None) -> None:
    if shell is not None:
        from qs_certs.completion import SCRIPTS

        console.say(SCRIPTS[shell.value].removesuffix("\n"))
        raise typer.Exit


@app.callback()
def _qs_certs(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            help="Print the versions that a bug report needs.",
        ),
    ] = False,
    completion: Annotated[
        Shell | None,
        typer.Option(
            "--completion",
            metavar="SHELL",
            callback=_completion,
            is_eager=True,
            help="Print the completion script of bash, zsh, fish or powershell.",
        ),
    ] = None,
) -> None:
    pass


@app.command(
    epilog="\b\nExample: qs-certs install\nAnother CA: qs-certs install --from ca.pem --sha256 AB:CD:..."
)
def install(
    roots: Roots = None,
    origin: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="FILE|-|URL", help="Take the certificate from there; no fallback."
        ),
    ] = None,
    sha256: Annotated[
        str | None,
        typer.Option(
            "--sha256", metavar="FINGERPRINT", help="With --from: pin a root outside the catalogue."
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url", metavar="URL", help="Download from there instead (or set QS_CERTS_URL)."
        ),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Use the copy that comes with qs-certs.")
    ] = False,
    ca_bundle: Annotated[
        Path | None,
        typer.Option(
            "--ca-bundle", metavar="FILE", help="Trust these CAs for the download (TLS inspection)."
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="Limit for the whole download.")
    ] = 10.0,
    target: TargetOption = None,
    users: Users = None,
    all_users: AllUsers = False,
    also: Annotated[
        list[str] | None,
        typer.Option(
            "--also",
            metavar="FILE",
            help="Do the same to FILE, for a client that looks there; may be repeated.",
        ),
    ] = None,
    dedicated: Dedicated = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Leave exactly these roots in the file.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Drop blocks that cannot be read, rather than refuse.")
    ] = False,
    dry_run: DryRun = False,
    impact: Annotated[
        bool,
        typer.Option(
            "--impact", help="Probe every known server, and show what changes for each connection."
        ),
    ] = False,
    json: Json = False,
    json_schema: JsonSchema = False,
) -> None:
    """Add roots to the root file; by default DigiCert Global Root G2."""
    from qs_certs import api

    _schema("install", json_schema)
    console.finish(
        "install",
        lambda: api.install(
            roots or (),
            target=target,
            users=users or (),
            all_users=all_users,
            also=also or (),
            origin=origin,
            sha256=sha256,
            url=url,
            offline=offline,
            ca_bundle=ca_bundle,
            timeout=timeout,
            dedicated=dedicated,
            replace=replace,
            repair=repair,
            dry_run=dry_run,
            impact=impact,
            progress=console.progress(),
        ),
        json=json,
    )


class Format(str, Enum):
    """How `check` prints its result."""

    text = "text"
    json = "json"
    nagios = "nagios"
    intune = "intune"


@app.command(
    epilog="\b\nExample: qs-certs check ORG.platform-query.adobe.io:80\n"
    "Or paste what the product shows: qs-certs check -"
)
def check(
    conninfo: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONNINFO]",
            help="A connection string, URI, JDBC URL, pasted psql command or HOST:PORT; - reads it from standard input.",
        ),
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", "-h", metavar="HOST", help="The server.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", "-p", metavar="PORT", help="Its port.")
    ] = None,
    service: Annotated[
        str | None,
        typer.Option(
            "--service",
            metavar="NAME",
            help="A service of the service file.",
            autocompletion=_offer("services"),
        ),
    ] = None,
    all_servers: Annotated[
        bool,
        typer.Option(
            "--all", help="Every server in the service files, .pgpass and the environment."
        ),
    ] = False,
    sslmode: Annotated[
        str,
        typer.Option(
            "--sslmode",
            metavar="MODE",
            help="The goal: pass if a connection in this mode would succeed.",
            autocompletion=_offer("sslmodes"),
        ),
    ] = "verify-full",
    target: TargetOption = None,
    users: Users = None,
    all_users: AllUsers = False,
    warn_days: Annotated[
        int,
        typer.Option("--warn-days", metavar="N", help="Warn N days before a certificate ends."),
    ] = 60,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="Limit for each server.")
    ] = 10.0,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 3 on any warning.")] = False,
    form: Annotated[
        Format, typer.Option("--format", help="How to print the result.")
    ] = Format.text,
    json: Json = False,
    json_schema: JsonSchema = False,
) -> None:
    """Judge the root file and, given a server, all six sslmodes."""
    from qs_certs import inspection

    def judge() -> object:
        text = _connection(conninfo)
        if users or all_users:
            question = inspection.Question(
                text,
                host,
                port,
                service,
                all_servers,
                target,
                sslmode,
                timeout,
                warn_days,
                strict,
            )
            return inspection.check_accounts(
                question, users or (), all_users=all_users, progress=console.progress()
            )
        return inspection.check(
            text,
            host=host,
            port=port,
            service=service,
            all_servers=all_servers,
            sslmode=sslmode,
            target=target,
            warn_days=warn_days,
            timeout=timeout,
            strict=strict,
            progress=console.progress("servers", at_least=2),
        )

    _schema("check", json_schema)
    console.finish(
        "check",
        judge,
        json=json or form is Format.json,
        form=form.value,
    )


@app.command(epilog="Example: qs-certs remove digicert-global-root-g2")
def remove(
    roots: Roots = None,
    target: TargetOption = None,
    users: Users = None,
    all_users: AllUsers = False,
    dedicated: Dedicated = False,
    dry_run: DryRun = False,
    json: Json = False,
    json_schema: JsonSchema = False,
) -> None:
    """Take roots out of the root file; every other byte stays."""
    from qs_certs import api

    _schema("remove", json_schema)
    console.finish(
        "remove",
        lambda: api.remove(
            roots or (),
            target=target,
            users=users or (),
            all_users=all_users,
            dedicated=dedicated,
            dry_run=dry_run,
            progress=console.progress(),
        ),
        json=json,
    )


@app.command(epilog="\b\nExample: qs-certs rollback\nFurther back: qs-certs rollback 3")
def rollback(
    change: Change = None,
    target: TargetOption = None,
    users: Users = None,
    all_users: AllUsers = False,
    dedicated: Dedicated = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Also where somebody else changed the file since; that content is kept in the store.",
        ),
    ] = False,
    dry_run: DryRun = False,
    json: Json = False,
    json_schema: JsonSchema = False,
) -> None:
    """Undo the last change, or go back to the state before change ID.  Run it twice to redo."""
    from qs_certs import api

    _schema("rollback", json_schema)
    console.finish(
        "rollback",
        lambda: api.rollback(
            change,
            target=target,
            users=users or (),
            all_users=all_users,
            dedicated=dedicated,
            force=force,
            dry_run=dry_run,
            progress=console.progress(),
        ),
        json=json,
    )


_NEWEST = 50
"""How many changes `history` shows to a person who names no limit."""


@app.command(epilog="\b\nExample: qs-certs history\nOne change as a diff: qs-certs history 3")
def history(
    change: Change = None,
    target: TargetOption = None,
    users: Users = None,
    all_users: AllUsers = False,
    dedicated: Dedicated = False,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", metavar="N", help="The newest N; 0 for all.  By default 50, in JSON all."
        ),
    ] = None,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Drop old changes; what a rollback now needs always stays."),
    ] = False,
    keep: Annotated[
        int | None, typer.Option("--keep", metavar="N", help="Never prune the newest N.")
    ] = None,
    older_than: Annotated[
        int | None,
        typer.Option("--older-than", metavar="DAYS", help="Prune only what is older."),
    ] = None,
    quarantine: Annotated[
        bool,
        typer.Option(
            "--quarantine", help="Put a damaged journal aside and begin anew; no content is lost."
        ),
    ] = False,
    dry_run: DryRun = False,
    json: Json = False,
    json_schema: JsonSchema = False,
) -> None:
    """List the changes of the root file, or show one as a diff."""
    from qs_certs import api

    _schema("history", json_schema)
    console.finish(
        "history",
        lambda: api.history(
            change,
            target=target,
            users=users or (),
            all_users=all_users,
            progress=console.progress(),
            dedicated=dedicated,
            limit=_NEWEST if limit is None and not json else limit,
            prune=prune,
            keep=keep,
            older_than=older_than,
            quarantine=quarantine,
            dry_run=dry_run,
        ),
        json=json,
    )


@app.command("list", epilog="Example: qs-certs list --target /etc/ssl/certs/ca-certificates.crt")
def list_(
    target: TargetOption = None,
    users: Users = None,
    all_users: AllUsers = False,
    dedicated: Dedicated = False,
    json: Json = False,
    json_schema: JsonSchema = False,
) -> None:
    """List the certificates in the root file."""
    from qs_certs import api

    _schema("list", json_schema)
    console.finish(
        "list",
        lambda: api.listing(
            target=target,
            users=users or (),
            all_users=all_users,
            dedicated=dedicated,
            progress=console.progress(),
        ),
        json=json,
    )


@app.command(epilog="\b\nExample: qs-certs roots\nFor an image: qs-certs roots --pem > root.crt")
def roots(
    roots: Roots = None,
    pem: Annotated[
        bool, typer.Option("--pem", help="Print the certificates; without ROOT, the default one.")
    ] = False,
    json: Json = False,
    json_schema: JsonSchema = False,
) -> None:
    """Show the catalogue: names, fingerprints, dates, who needs which."""
    from qs_certs import catalogue, reading

    _schema("roots", json_schema)
    names = roots or ([catalogue.DEFAULT] if pem else [])
    console.finish("roots", lambda: reading.roots(names, pem=pem), json=json)


@app.command(epilog="Example: qs-certs clients power-bi")
def clients(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Clients or drivers; without a name, all of them.",
            autocompletion=_offer("clients"),
        ),
    ] = None,
    json: Json = False,
    json_schema: JsonSchema = False,
) -> None:
    """Say which clients read the root file, and what else to set."""
    from qs_certs import inspection

    _schema("clients", json_schema)
    console.finish("clients", lambda: inspection.clients(names or ()), json=json)


@app.command(epilog='Example: qs-certs explain "SSL error: certificate verify failed"')
def explain(
    text: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CODE-OR-MESSAGE",
            help="As pasted from psql, JDBC, Npgsql, Node...; - or nothing reads standard input.",
            autocompletion=_offer("codes"),
        ),
    ] = None,
    json: Json = False,
    json_schema: JsonSchema = False,
) -> None:
    """Explain a finding code, or an error message of a client."""
    from qs_certs import inspection

    _schema("explain", json_schema)
    words = " ".join(text or ["-"])
    console.finish(
        "explain",
        lambda: inspection.explain(_pasted() if words == "-" else words),
        json=json,
    )


# --- reading the words --------------------------------------------------------------------------


def _schema(command: str, wanted: bool) -> None:
    if wanted:
        from qs_certs import api

        console.say(api.schema_of(command).removesuffix("\n"))
        raise typer.Exit


def _connection(words: list[str] | None) -> str | None:
    if not words:
        return None
    if words == ["-"]:
        return _pasted()
    from qs_certs.libpq.pasted import from_words

    return from_words(words)


def _pasted() -> str:
    """Standard input, whatever its bytes are; PowerShell pipes UTF-16."""
    if sys.stdin is None:  # closed, as by a scheduler
        raise WrongUsage("standard input is closed, so there is nothing to read")
    raw = sys.stdin.buffer.read(LARGEST_PASTE + 1)
    if len(raw) > LARGEST_PASTE:
        raise WrongUsage(f"what was pasted is larger than {LARGEST_PASTE} bytes")
    wide = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
    return raw.decode("utf-16" if wide else "utf-8", "replace")


# typer carries its own copy of click from 0.26 on, so its classes are reached through typer.
_ClickException: type[Exception] = typer.BadParameter.__mro__[2]


def main() -> NoReturn:
    """Read the command line, and do what it asks for."""
    arguments = sys.argv[1:]
    if "_QS_CERTS_COMPLETE" in os.environ:  # a shell asks what to offer
        from qs_certs.completion import know_shells

        know_shells()

    def work() -> int | None:
        try:
            status = _parsed(arguments)
        except _ClickException as error:
            _usage(error, arguments)
        except typer.Abort as error:
            raise KeyboardInterrupt from error
        return status if isinstance(status, int) else None

    console.run(work, _command(arguments), json="--json" in arguments)


def _parsed(arguments: list[str]) -> object:
    """What typer returns; its help is printed like any answer, since where nobody reads that, typer
    would end with a code of ours that means something else."""
    app = _app_for(arguments)
    if "--help" not in arguments:
        return app(args=arguments, prog_name="qs-certs", standalone_mode=False)
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            return app(args=arguments, prog_name="qs-certs", standalone_mode=False)
    finally:
        if said := text.getvalue():
            console.say(said.removesuffix("\n"))


def _app_for(arguments: list[str]) -> typer.Typer:
    """The app with the one command that was asked for, or with all of them.

    typer makes parameters of the signatures of all commands, whichever is called: 1 ms for each.
    """
    one = [each for each in app.registered_commands if [_name(each)] == arguments[:1]]
    if not one:
        return app
    narrowed = copy.copy(app)
    narrowed.registered_commands = one
    return narrowed


def _usage(error: Exception, arguments: list[str]) -> NoReturn:
    """Wrong usage: what typer says, and one JSON document where one was asked for.

    Without the words themselves: where the quotes around a connection string were forgotten, one
    of them holds the password.
    """
    if said := getattr(error, "message", None):
        error.message = _without_values(said)  # type: ignore[attr-defined]
    message = getattr(error, "format_message", lambda: str(error))()
    if {"nagios", "--format=nagios"} & set(arguments):  # 2 would be CRITICAL there
        from qs_certs import render
        from qs_certs.results import Failure

        line, code = render.as_nagios(Failure("check", WrongUsage(message)))
        console.say(line)
        sys.exit(code)
    if {"--json", "json", "--format=json"} & set(arguments):
        from qs_certs import render
        from qs_certs.results import Failure

        console.say(render.as_json(Failure(_command(arguments), WrongUsage(message))))
    elif message:
        show = getattr(error, "show", None)
        if callable(show):
            with contextlib.redirect_stderr(io.StringIO()) as text:
                show()
            console.talk(text.getvalue().removesuffix("\n"))
    sys.exit(int(ExitCode.USAGE))


def _command(arguments: list[str]) -> str:
    known = {_name(each) for each in app.registered_commands}
    return next((each for each in arguments if each in known), "qs-certs")


def _name(command: CommandInfo) -> str:
    return command.name or command.callback.__name__  # type: ignore[union-attr]


def _without_values(message: str) -> str:
    """What typer says about an argument, without repeating it."""
    if "unexpected extra argument" in message:
        return "too many arguments; a connection string goes into quotes"
    if message.startswith("No such command"):
        return "No such command"
    if message.startswith("No such option"):
        option = re.search("--?[a-z-]*", message)
        return f"No such option: {option[0] if option else ''}"
    return re.sub(r"^.*(?= is not )", "this value", message, flags=re.DOTALL)
