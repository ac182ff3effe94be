"""Connection strings as people have them: pasted, wrapped, for another driver, or `host:port`.

Pure, as `settings` is, which reads libpq's own forms: `parse_conninfo` finds out which form a text
has and gives what it says, `from_words` takes what a shell made of a command that was pasted without
quotes around it.  As in `settings`, a password goes no further than the parser that met it.  What
is accepted beyond libpq are forms that libpq rejects: pasted commands, JDBC URLs, `host:port`,
strings that a terminal has wrapped or an editor has given curly quotes.

Sources: `psql:startup.c`, `pgjdbc:Driver.java parseURL`, `pgjdbc:SslMode.java`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from qs_certs.errors import WrongUsage
from qs_certs.libpq.settings import (
    DEFAULT_PORT,
    KEYWORDS,
    SECRET_KEYWORDS,
    SPACE,
    VARIABLES,
    Given,
    are_ports,
    corrected,
    is_uri,
    key_values,
    sieved,
    uri,
)

# The patterns are compiled where they are used: most connection strings need none of them.
# A line's end, with the mark before it by which a command goes on (POSIX, cmd, PowerShell) and the
# prompt that a shell puts before the next line: bash, PowerShell, cmd, zsh.
_LINE_BREAK = r"(?<![ \t])[ \t]*[\\^`]?(?:\r\n?|\n)[ \t\r\n]*(?:(?:>>?|More\?|[bd]?quote>)[ \t]*)?"
# The backticks of Markdown around the whole.
_FENCE = r"(?s)\A\s*(?:```[^\S\n]*\w*\n(.*)\n[^\S\n]*```|`([^`]*)`)\s*\Z"
# What editors, chat programs and web pages make of plain quotes and spaces.
_CURLY = {
    **dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b\u2032"), "'"),
    **dict.fromkeys(map(ord, "\u201c\u201d\u201e\u201f\u2033"), '"'),
    **dict.fromkeys(map(ord, "\u00a0\u2007\u202f"), " "),
}


def parse_conninfo(text: str) -> Given:
    """The settings that *text* gives, whichever of the known forms it has.

    Raises WrongUsage, in libpq's words where libpq has some, without quoting what may be secret.
    """
    if re.search("&(?:#39|#x27|apos|quot);", text):  # out of a web page's source
        from html import unescape

        text = unescape(text)
    if "`" in text:
        text = re.sub(_FENCE, lambda found: found[1] or found[2] or "", text)
    whole = text.lstrip("\ufeff\u200b" + SPACE)  # at the end, a backslash may escape a space
    text = whole.rstrip("\u200b" + SPACE)
    if "\0" in text:
        raise WrongUsage("the connection string holds a NUL character")
    if "psql" in text and re.match(_PSQL, text):
        return sieved(_first_sound(_psql, (whole, whole.translate(_CURLY))))
    if len(text) > 1 and (text[0] + text[-1]).translate(_CURLY) in ("''", '""'):
        # libpq has no keyword that starts with a quote: this one is what was left of a command.
        whole = text = text[1:-1].strip(SPACE)
    if text[:5].lower() == "jdbc:":
        return sieved(Given(_jdbc(_joined(text)), "JDBC"))
    if is_uri(text):
        return sieved(Given(uri(_joined(text)), "URI"))
    if not text or "=" in text or any(character in SPACE for character in text):
        unwrapped = _unwrapped(whole)
        plain = _unwrapped(whole.translate(_CURLY))
        return sieved(_first_sound(key_values, (whole, unwrapped, plain)))
    return sieved(Given(_host_and_port(text), "host"))


def from_words(words: Sequence[str]) -> str:
    """The connection string in *words*, which a shell has split.

    It is one word; or a whole psql command was pasted without quotes around it, so that the shell
    has taken its own away: `[NAME=value ...] psql CONNINFO`.  Raises WrongUsage for anything else,
    since quotes are missing where a password may be.
    """
    if len(words) == 1:
        return words[0]
    from shlex import quote

    *before, program, conninfo = words
    if (
        re.fullmatch(r"(?:.*[\\/])?psql(?:\.exe)?", program)
        and all(re.fullmatch(r"[A-Za-z_]\w*=.*", word, re.DOTALL) for word in before)
        and (is_uri(conninfo) or re.search(r"\bhost(?:addr)?\s*=", conninfo))
    ):
        parted = (word.partition("=") for word in before)
        assigned = (f"{name}={quote(value)}" for name, _, value in parted)
        return " ".join((*assigned, "psql", quote(conninfo)))
    raise WrongUsage("too many arguments; a connection string goes into quotes")


def _first_sound(parse: Callable[[str], Given], candidates: Iterable[str]) -> Given:
    """The first of *candidates* whose values hold no curly quotes and no other line's setting.

    The text as it stands comes first, so that what libpq takes is taken as libpq takes it; the
    complaint is about that one too.
    """
    fallback: Given | None = None
    complaint: WrongUsage | None = None
    for candidate in dict.fromkeys(candidates):
        try:
            given = parse(candidate)
        except WrongUsage as error:
            complaint = complaint or error
            continue
        if all(
            value == value.translate(_CURLY) and not _setting_below(value)
            for value in given.values.values()
        ):
            return given
        fallback = fallback or given
    if fallback is None and complaint is not None:
        raise complaint from None
    return fallback or Given()


def _setting_below(value: str) -> bool:
    """Whether a backslash at the end of a line has swallowed the next setting."""
    # Of several newlines only the last one stands before a word: the time stays linear.
    return not KEYWORDS.isdisjoint(re.findall(r"\n[^\S\n]*(\w+)\s*=", value))


def _joined(text: str, between: Callable[[re.Match[str]], str] = lambda _: "") -> str:
    """*text* on one line, with *between* in place of each line's end."""
    return re.sub(_LINE_BREAK, between, text) if "\n" in text or "\r" in text else text


def _unwrapped(text: str) -> str:
    """*text* on one line.

    A line that starts with `keyword =` is a setting of its own; any other goes on with the word
    that was broken, be it a token of a thousand characters.
    """

    def between(found: re.Match[str]) -> str:
        ahead = re.compile(r"(\w+)\s*=").match(text, found.end())
        return " " if ahead is not None and ahead[1] in KEYWORDS else ""

    return _joined(text, between)


# host:port, and JDBC

_HOST = (
    r"(?:\[(?P<bracketed>[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<name>[\w.-]+))(?::(?P<port>[0-9]{1,5}))?"
)


def _is_ipv6(text: str) -> bool:
    from ipaddress import IPv6Address

    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _host_and_port(text: str) -> dict[str, str]:
    """`host`, `host:port`, `[::1]:5432`, `::1`, a socket's folder; several with commas."""
    if text.startswith("/") or _is_ipv6(text):
        return {"host": text}
    found = [re.fullmatch(_HOST, part) for part in text.split(",")]
    hosts = [match["bracketed"] or match["name"] for match in found if match]
    ports = [match["port"] or "" for match in found if match]
    if len(hosts) != len(found):
        raise WrongUsage(
            "this is no connection string, no URI and no host:port",
            why='libpq expects "host=... port=... dbname=..." or "postgresql://host:port/dbname"',
        )
    return {"host": ",".join(hosts)} | ({"port": ",".join(ports)} if any(ports) else {})


# pgjdbc's names for what libpq has, in lower case.
_JDBC_NAMES = {
    "user": "user",
    "pghost": "host",
    "pgport": "port",
    "pgdbname": "dbname",
    "service": "service",
    "sslmode": "sslmode",
    "sslrootcert": "sslrootcert",
    "sslcert": "sslcert",
    "sslkey": "sslkey",
    "sslnegotiation": "sslnegotiation",
    "gssencmode": "gssencmode",
    "applicationname": "application_name",
}


def _jdbc(text: str) -> dict[str, str]:
    """`jdbc:postgresql://host:port,host2/db?user=...&ssl=true`.

    `pgjdbc:Driver.java parseURL`: a plus sign is a space, unknown properties are ignored.
    pgjdbc reads no `PG...` variables, so its defaults are given here as if they were written.
    """
    from urllib.parse import unquote_plus

    location, _, query = text.partition("?")
    scheme, _, location = location.partition(":")[2].partition(":")
    if scheme.lower() != "postgresql":
        raise WrongUsage("not a JDBC URL for PostgreSQL (jdbc:postgresql://host:port/dbname)")
    if "@" in location:
        raise WrongUsage(
            'unexpected "@" in the JDBC URL',
            why="pgjdbc takes user and password as ?user=...&password=..., with %40 for @",
        )
    values: dict[str, str] = {}
    ssl: str | None = None
    for parameter in query.split("&"):
        name, _, value = parameter.partition("=")
        name = name.lower()
        if name == "ssl":
            ssl = value
        elif name in _JDBC_NAMES:
            values[_JDBC_NAMES[name]] = unquote_plus(value, errors="surrogateescape")
    if location.startswith("//"):
        hosts, _, dbname = location[2:].partition("/")
        where = _host_and_port(hosts) if hosts else {}
    else:
        where, dbname = {}, location.lstrip("/")
    if dbname:
        values["dbname"] = unquote_plus(dbname, errors="surrogateescape")
    values = {"host": "localhost", "port": str(DEFAULT_PORT)} | values | where
    if not re.fullmatch("[0-9,]*", values["port"]):
        raise WrongUsage("invalid port number in the JDBC URL")
    # `pgjdbc:SslMode.java of`: case does not matter, and ssl alone means verify-full.
    alone = "verify-full" if ssl is not None and ssl.lower() in ("true", "") else "prefer"
    values["sslmode"] = values.get("sslmode", alone).lower()
    return values


# Pasted psql commands

_SHELL_WORD = r"""(?:'[^']*'|"(?:[^"\\]|\\.)*"|\\.|[^\s'";&\\])*"""
_PSQL = rf"""(?xs)
    (?P<prompt> PS\s[^>\n]*>\s* | [A-Za-z]:\\[^>\n]*>\s* | [^\n'"=]*?[$\#%>]\s+ )?
    (?P<assignments> (?:
        (?: (?:export\s+|set\s+)? [A-Za-z_]\w*= | \$env:\w+\s*=\s* ) {_SHELL_WORD} (?:\s*(?:;|&&?))? \s+
    )* )
    (?P<program> (?:&\s*)? (?: "[^"\n]*[\\/]psql(?:\.exe)?" | (?:[^\s'"=:]*[\\/]|[A-Za-z]:[^\s'"=]*[\\/])?
        psql(?:\.exe)? ) )
    (?= \s | $ ) (?P<arguments> .* )
"""
_ASSIGNMENT = rf"(?s)(?:export\s+|set\s+|\$env:)?(?P<name>\w+)\s*=\s*(?P<value>{_SHELL_WORD})(?:\s*(?:;|&&?))?\s+"

# `psql:startup.c parse_psql_options`: options whose argument matters here, others with one, flags.
_TAKEN = {"h": "host", "p": "port", "U": "user", "d": "dbname"}
_LONG_TAKEN = {"host": "host", "port": "port", "username": "user", "dbname": "dbname"}
_WITH_ARGUMENT = frozenset("cfvFLoPRT")
_LONG_WITH_ARGUMENT = (
    "command|file|set|variable|(?:field|record)-separator|log-file|output|pset|table-attr"
)
_LONG_FLAG = (
    "echo-(?:all|errors|queries|hidden)|no-(?:align|readline|psqlrc|password)|list|quiet|expanded|"
    "single-(?:step|line|transaction)|tuples-only|(?:field|record)-separator-zero|csv|html|"
    "password|version|help"
)
_FLAGS = frozenset("aAbeEHlnqsStVwWxXz01?")


def _psql(text: str) -> Given:
    command = re.match(_PSQL, text)
    if command is None:
        raise WrongUsage("not a psql command")
    windows = bool(re.match(r"PS\s|[A-Za-z]:\\", command["prompt"] or "")) or (
        "$env:" in command["assignments"] or ".exe" in command["program"]
    )
    variables: dict[str, str] = {}
    for found in re.finditer(_ASSIGNMENT, command["assignments"]):
        if found["name"] in VARIABLES:
            variables[found["name"]] = "".join(_shell_words(found["value"], windows))
    words = _shell_words(command["arguments"], windows)
    options, operands = _psql_options(words)
    if "dbname" not in options and operands:
        options["dbname"] = operands.pop(0)
    values: dict[str, str] = {}
    dbname = options.pop("dbname", "")
    rest = operands[0] if operands else ""
    if _is_conninfo(dbname):
        if rest and (_holds_secret(dbname) or any("=" in word for word in operands)):
            # psql would take the next word for the user; it is as likely the rest of a password.
            raise WrongUsage(
                "unexpected words after the connection string in the psql command",
                why="the whole connection string needs one pair of quotes around it",
            )
        inner = parse_conninfo(dbname)
        values |= inner.values
    elif dbname:
        values["dbname"] = dbname
    if rest:
        options.setdefault("user", rest)
    if not are_ports(options.get("port", "")):
        # mysql's habit: -pPASSWORD
        raise WrongUsage("invalid port number in the psql command")
    # `libpq:fe-connect.c conninfo_array_parse`: an empty argument is none, and what the connection
    # string in dbname says goes over the other options.
    values = {keyword: value for keyword, value in options.items() if value} | values
    return Given(values, "psql", variables)


def _is_conninfo(text: str) -> bool:
    """`libpq:fe-connect.c recognized_connection_string`, and JDBC."""
    return is_uri(text) or "=" in text


def _holds_secret(text: str) -> bool:
    return any(keyword in text for keyword in SECRET_KEYWORDS) or (
        is_uri(text) and "@" in text and ":" in text.partition("://")[2].partition("@")[0]
    )


def _psql_options(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """getopt_long over psql's options: what was given of host, port, user, dbname; the operands."""
    options: dict[str, str] = {}
    operands: list[str] = []
    waiting = iter(words)
    asks_for_password = False
    for word in waiting:
        dashed = _dashed(word)
        if dashed == "--":
            operands += waiting
        elif dashed.startswith("--"):
            name, given, argument = dashed[2:].partition("=")
            if name in _LONG_TAKEN or re.fullmatch(_LONG_WITH_ARGUMENT, name):
                argument = argument if given else next(waiting, "")
                if name in _LONG_TAKEN:
                    options[_LONG_TAKEN[name]] = argument
            elif not re.fullmatch(_LONG_FLAG, name):
                raise WrongUsage("the psql command has an option that psql does not have")
        elif dashed.startswith("-") and len(dashed) > 1:
            _short_options(dashed[1:], waiting, options)
        elif asks_for_password and not _is_conninfo(word):
            pass  # psql takes it for a database, but who writes -W SECRET means a password
        else:
            operands.append(word)
        if re.match("-W|--password", dashed):
            asks_for_password = True
    return options, operands


def _short_options(letters: str, waiting: Iterator[str], options: dict[str, str]) -> None:
    for number, letter in enumerate(letters):
        if letter in _TAKEN or letter in _WITH_ARGUMENT:
            argument = letters[number + 1 :] or next(waiting, "")
            if letter in _TAKEN:
                options[_TAKEN[letter]] = argument
            return
        if letter not in _FLAGS:
            raise WrongUsage("the psql command has an option that psql does not have")


def _dashed(word: str) -> str:
    """Editors make one long dash of two short ones, and of one before a letter."""
    if word[:1] in ("\u2013", "\u2014"):
        return ("-" if len(word) == 2 else "--") + word[1:]
    return word


# One piece of a word; a single-quoted text is literal.  cmd has no single quotes, but people paste
# them, and PowerShell has them.
_POSIX_PIECE = (
    r"""(?s)(?P<space>\s+)|'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]|\\.)*)"|(?P<escaped>\\.)"""
    r"""|(?P<plain>[^\s'"\\]+)"""
)
_WINDOWS_PIECE = (
    r"""(?s)(?P<space>\s+)|'(?P<single>(?:[^']|'')*)'|"(?P<double>(?:[^"\\`]|""|\\"|\\|`.)*)\""""
    r"""|(?P<escaped>[`^]\n|`.|\\")|(?P<plain>(?:[^\s'"\\`^]|\^(?!\n)|\\(?!"))+)"""
)


def _shell_words(text: str, windows: bool) -> list[str]:
    """The words of a command line, up to a pipe, a redirection or the next command.

    POSIX shells (`XCU 2.2`): a backslash escapes any character, inside double quotes only a quote,
    a backslash, a dollar or a backtick.  Windows: a doubled quote is one quote, a backslash
    escapes only a double quote, PowerShell's backtick any character.
    """
    words: list[str] = []
    word: str | None = None
    at = 0
    text = text.replace("\r\n", "\n")
    pieces = re.compile(_WINDOWS_PIECE if windows else _POSIX_PIECE)
    while at < len(text):
        found = pieces.match(text, at)
        if found is None:
            raise WrongUsage("unterminated quoted string in the psql command")
        at = found.end()
        piece = found[str(found.lastgroup)]
        if found.lastgroup == "escaped" and piece[1:] == "\n":
            continue  # the command goes on in the next line
        if found.lastgroup == "space":
            if word is not None:
                words.append(word)
            word = None
            continue
        if word is None and found.lastgroup == "plain" and re.match("[0-9]?[|;&<>]", piece):
            break
        if found.lastgroup == "escaped":
            piece = piece[1:]
        elif found.lastgroup == "double" and windows:
            piece = re.sub(r"""[\\"](")|`(.)""", lambda m: m[1] or m[2], piece, flags=re.DOTALL)
        elif found.lastgroup == "double":
            piece = re.sub(r"""\\(?:\n|(["\\$`]))""", r"\1", piece)
        elif found.lastgroup == "single" and windows:
            piece = piece.replace("''", "'")
        word = (word or "") + piece
    if word is not None:
        words.append(word)
    return words


# The corrected command


def corrected_psql(given: Given, sslmode: str = "verify-full") -> str:
    """The same as a psql command, for POSIX shells and PowerShell."""
    conninfo = corrected(given, sslmode)
    if "'" not in conninfo:
        return f"psql '{conninfo}'"
    if not re.search(r'["$`\\!]', conninfo):
        return f'psql "{conninfo}"'
    from shlex import quote

    return f"psql {quote(conninfo)}"
