"""The one way out: run what was asked for, print the views of its result, end the process.

Whoever read the words hands over what to do, so nothing here knows how a command line is read.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable

from qs_certs.errors import ExitCode, Interrupted, QsCertsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, TextIO

    from qs_certs.render import Style

MANY_ACCOUNTS = 20
"""From so many on, a terminal shows how far the work is."""

_NARROWEST = 30
"""Columns; text is folded for no terminal that has fewer."""


def run(work: Callable[[], int | None], command: str, *, json: bool) -> NoReturn:
    """Do *work*, whatever it raises, and end the process: with the status that it returns, or as
    it wants to.  *command* and *json* are what a document about a failure says, and is."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the encoding has no letters for
            stream.reconfigure(errors="backslashreplace")
    try:
        status = work()
    except KeyboardInterrupt:
        status = int(ExitCode.INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - a bug must not look like "action needed"
        _bug(error, command, json=json)
    if status == ExitCode.INTERRUPTED:
        if json:
            _interrupted(command)
        talk("qs-certs: interrupted")
    sys.exit(status or 0)


def finish(
    command: str, operation: Callable[[], object], *, json: bool = False, form: str = "text"
) -> NoReturn:
    """Do *operation*, print the views of its result, exit with its code.

    *form* is text, json, nagios or intune.  Raises KeyboardInterrupt where text was asked for.
    """
    from qs_certs import accounts, render
    from qs_certs.results import AccountsReport, CheckReport, Failure

    try:
        accounts.refuse_borrowed_rights()
        result = operation()
    except QsCertsError as error:
        result = Failure(command, error)
    except KeyboardInterrupt:
        if not json:
            raise
        _interrupted(command)
    assert isinstance(result, render.Result)  # noqa: S101 - for the type checker
    if json:
        say(render.as_json(result))
    elif form in ("nagios", "intune") and isinstance(
        result, CheckReport | AccountsReport | Failure
    ):
        line, code = render.as_nagios(result)
        if form == "intune":
            line, code = render.as_intune(result), int(result.exit_code)
        say(line)
        sys.exit(code)
    else:
        for line in render.talk(result, _width(sys.stderr)):
            talk(line)
        if text := render.as_text(result, _style()):
            say(text)
    if result.exit_code == ExitCode.INTERRUPTED:
        talk("qs-certs: interrupted")
    sys.exit(int(result.exit_code))


def progress(
    what: str = "users", *, at_least: int = MANY_ACCOUNTS
) -> Callable[[int, int], None] | None:
    """Shows on a terminal how many accounts or servers are done; None where nobody looks."""
    if sys.stderr is None or not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        if total >= at_least:
            line = f"\r{done} of {total} {what}" if done < total else "\r\x1b[K"
            with contextlib.suppress(OSError):
                _write(line, sys.stderr)

    return show


def say(text: str) -> None:
    """Print the answer.  Where who reads it has gone, whatever was to be done is done all the
    same."""
    try:
        _write(f"{text}\n", sys.stdout)
    except BrokenPipeError:
        _silence(sys.stdout)
    except OSError as error:
        _silence(sys.stdout)
        talk(f"qs-certs: warning: the answer could not be written: {error.strerror}")


def talk(line: str) -> None:
    """Print a line of talk; the result does not depend on anybody hearing it."""
    try:
        _write(f"{line}\n", sys.stderr)
    except OSError:
        _silence(sys.stderr)


def _write(text: str, stream: TextIO | None) -> None:
    if stream is None:  # closed, as by a scheduler
        return
    if sys.platform == "win32" and "\x1b" in text and stream.isatty():
        # A console takes escape sequences only from a program that has asked for it.
        import typer

        typer.echo(text, stream, nl=False)
        return
    stream.write(text)
    stream.flush()


def _silence(stream: TextIO) -> None:
    """Leave nothing in the buffer of *stream* that the interpreter could stumble over at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _style() -> Style:
    from qs_certs.render import Style

    if sys.stdout is None:  # closed: nobody reads it
        return Style()
    colour = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    if os.environ.get("NO_COLOR"):
        colour = False
    elif os.environ.get("FORCE_COLOR"):
        colour = True
    try:
        "✓✗└─".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return Style(colour=colour, unicode=False, width=_width(sys.stdout))
    return Style(colour=colour, unicode=True, width=_width(sys.stdout))


def _width(stream: TextIO | None) -> int | None:
    """The columns of a terminal that is wide enough to fold text for; None where there is none."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns if stream is not None else 0
    except (OSError, ValueError):  # not a terminal, no file at all, closed
        return None
    return columns if columns >= _NARROWEST else None


def _interrupted(command: str) -> NoReturn:
    """The one document of a run that Ctrl-C ended."""
    from qs_certs import render
    from qs_certs.results import Failure

    why = "every root file has its old or its new content, never a part of one"
    say(render.as_json(Failure(command, Interrupted("interrupted", why=why))))
    sys.exit(int(ExitCode.INTERRUPTED))


def _bug(error: Exception, command: str, *, json: bool) -> NoReturn:
    """Where it happened, without any value: what a message or a variable holds may be secret."""
    import traceback

    talk(f"qs-certs: bug: {type(error).__name__}")
    for frame in traceback.extract_tb(error.__traceback__):
        talk(f"  {frame.filename}:{frame.lineno} in {frame.name}")
    talk("qs-certs: hint: please report this with these lines")
    if json:
        from qs_certs import render
        from qs_certs.results import Failure

        say(render.as_json(Failure(command, QsCertsError(f"a bug: {type(error).__name__}"))))
    sys.exit(int(ExitCode.BUG))
