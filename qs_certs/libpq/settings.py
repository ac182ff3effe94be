"""Which server a connection would go to, and with which settings, as libpq decides it.

Pure: the connection string, the contents of a service file or of `.pgpass`, and the environment
come in as values.  The way through is `pasted.parse_conninfo` → `Given`, `parse_service_file`, then
`resolve` → `Settings`; here are the forms that libpq has itself.

**A password goes no further than the parser that met it.**  It is read over, never stored, and no
message quotes text whose borders are in doubt, since that may be the rest of one.  Where libpq
would take what is likely a piece of a password for a host or a database (`user:pa@ss@host`), the
string is refused instead; apart from that, whatever libpq accepts is accepted here, and means the
same.

Sources: `libpq:fe-connect.c` of PostgreSQL 15 to 18 (`PQconninfoOptions`, `conninfo_parse`,
`conninfo_uri_parse_options`, `conninfo_add_defaults`, `parseServiceFile`, `pwdfMatchesString`,
`connectOptions2`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from qs_certs import secrecy
from qs_certs.errors import WrongUsage
from qs_certs.libpq.outcomes import SSLMODES
from qs_certs.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, NoReturn

    Origin = Literal["connection string", "service", "environment", "default"]
    Form = Literal["key/value", "URI", "psql", "JDBC", "host"]

DEFAULT_PORT = 5432


class _Keyword(Value):
    """One row of `libpq:fe-connect.c PQconninfoOptions`."""

    variable: str | None = None
    default: str | None = None
    secret: bool = False


# user has no default here: the name of the operating system's user is not this module's to ask.
# channel_binding, sslmode and gssencmode as in a libpq built with SSL and GSSAPI.
_KEYWORDS: dict[str, _Keyword] = {
    "service": _Keyword("PGSERVICE"),
    "user": _Keyword("PGUSER"),
    "password": _Keyword(secret=True),  # PGPASSWORD is never looked at
    "passfile": _Keyword("PGPASSFILE"),
    "channel_binding": _Keyword("PGCHANNELBINDING", "prefer"),
    "connect_timeout": _Keyword("PGCONNECT_TIMEOUT"),
    "dbname": _Keyword("PGDATABASE"),
    "host": _Keyword("PGHOST"),
    "hostaddr": _Keyword("PGHOSTADDR"),
    "port": _Keyword("PGPORT", str(DEFAULT_PORT)),
    "client_encoding": _Keyword("PGCLIENTENCODING"),
    "options": _Keyword("PGOPTIONS", ""),
    "application_name": _Keyword("PGAPPNAME"),
    "fallback_application_name": _Keyword(),
    "keepalives": _Keyword(),
    "keepalives_idle": _Keyword(),
    "keepalives_interval": _Keyword(),
    "keepalives_count": _Keyword(),
    "tcp_user_timeout": _Keyword(),
    "sslmode": _Keyword("PGSSLMODE", "prefer"),
    "sslnegotiation": _Keyword("PGSSLNEGOTIATION", "postgres"),  # 17
    "sslcompression": _Keyword("PGSSLCOMPRESSION", "0"),
    "sslcert": _Keyword("PGSSLCERT"),
    "sslkey": _Keyword("PGSSLKEY"),
    "sslcertmode": _Keyword("PGSSLCERTMODE"),  # 16
    "sslpassword": _Keyword(secret=True),
    "sslrootcert": _Keyword("PGSSLROOTCERT"),
    "sslcrl": _Keyword("PGSSLCRL"),
    "sslcrldir": _Keyword("PGSSLCRLDIR"),
    "sslsni": _Keyword("PGSSLSNI", "1"),
    "sslkeylogfile": _Keyword(),  # 18
    "requirepeer": _Keyword("PGREQUIREPEER"),
    "require_auth": _Keyword("PGREQUIREAUTH"),  # 16
    "min_protocol_version": _Keyword("PGMINPROTOCOLVERSION"),  # 18
    "max_protocol_version": _Keyword("PGMAXPROTOCOLVERSION"),  # 18
    "ssl_min_protocol_version": _Keyword("PGSSLMINPROTOCOLVERSION", "TLSv1.2"),
    "ssl_max_protocol_version": _Keyword("PGSSLMAXPROTOCOLVERSION"),
    "gssencmode": _Keyword("PGGSSENCMODE", "prefer"),
    "krbsrvname": _Keyword("PGKRBSRVNAME", "postgres"),
    "gsslib": _Keyword("PGGSSLIB"),
    "gssdelegation": _Keyword("PGGSSDELEGATION", "0"),  # 16
    "replication": _Keyword(),
    "target_session_attrs": _Keyword("PGTARGETSESSIONATTRS", "any"),
    "load_balance_hosts": _Keyword("PGLOADBALANCEHOSTS", "disable"),  # 16
    "scram_client_key": _Keyword(secret=True),  # 18
    "scram_server_key": _Keyword(secret=True),  # 18
    "oauth_issuer": _Keyword(),  # 18
    "oauth_client_id": _Keyword(),  # 18
    "oauth_client_secret": _Keyword(secret=True),  # 18
    "oauth_scope": _Keyword(),  # 18
}
KEYWORDS = frozenset(_KEYWORDS)
SECRET_KEYWORDS = frozenset(name for name, row in _KEYWORDS.items() if row.secret)

SPACE = " \t\n\v\f\r"  # C's isspace() in the "C" locale
_INTEGER = re.compile(r"[ \t\n\v\f\r]*[+-]?[0-9]+[ \t\n\v\f\r]*", re.ASCII)
# What has no business in a name, and what a host or a socket's folder looks like.
_NAMES = frozenset({"host", "hostaddr", "port", "user", "dbname", "service"})
_NOT_IN_A_NAME = re.compile("=|//|password|^postgres(?:ql)?[:/]", re.IGNORECASE)
_HOST_SHAPE = re.compile(r"[@/\\].*|[A-Za-z]:[\\/].*|[\w.:%-]*", re.DOTALL)
# What answers repeat of a connection, wherever it came from.
_REPEATED_NAMES = ("host", "hostaddr", "service")
_FILES = ("sslrootcert", "sslcrl", "sslcrldir", "sslcert", "sslkey")


class Server(Value):
    """One server that libpq would try.

    *host* is the name that verify-full compares, empty where only an address was given or nothing
    at all; libpq then uses its default: a socket, or `localhost` on Windows.
    """

    host: str
    hostaddr: str | None
    port: int

    @property
    def is_socket(self) -> bool:
        """No TLS here.  `libpq:fe-connect.c connectOptions2`, `is_unixsock_path`."""
        return self.hostaddr is None and self.host.startswith(("/", "@"))

    @property
    def is_default(self) -> bool:
        """Neither host nor address was given."""
        return not self.host and self.hostaddr is None


class Given(Value):
    """What a connection string says, by libpq's keywords and without any secret.

    *variables* are the assignments before a pasted `psql` (`PGSSLMODE=require psql ...`), again
    without secrets.
    """

    values: Mapping[str, str] = MappingProxyType({})
    form: Form = "key/value"
    variables: Mapping[str, str] = MappingProxyType({})


class Settings(Value):
    """The settings of one connection, defaults included, and where each came from.

    Made by `resolve`, which has checked them: no property raises.
    """

    values: Mapping[str, str]
    origins: Mapping[str, Origin]
    servers: tuple[Server, ...]
    """In the order in which libpq tries them; never empty."""

    def _file(self, keyword: str) -> str | None:
        # libpq takes an empty file name for none given: `fe-secure-openssl.c initialize_SSL`.
        return self.values.get(keyword) or None

    @property
    def sslmode(self) -> str:
        return self.values["sslmode"]

    @property
    def sslmode_origin(self) -> Origin:
        return self.origins["sslmode"]

    @property
    def sslrootcert(self) -> str | None:
        """The path as given (`~` is not expanded), `system`, or None for the default file."""
        return self._file("sslrootcert")

    @property
    def sslrootcert_origin(self) -> Origin:
        return self.origins["sslrootcert"] if self.sslrootcert is not None else "default"

    @property
    def sslcrl(self) -> str | None:
        return self._file("sslcrl")

    @property
    def sslcrldir(self) -> str | None:
        return self._file("sslcrldir")

    @property
    def sslcert(self) -> str | None:
        return self._file("sslcert")

    @property
    def sslkey(self) -> str | None:
        return self._file("sslkey")

    @property
    def sslsni(self) -> bool:
        """`fe-secure-openssl.c initialize_SSL`: anything that starts with 1."""
        return self.values["sslsni"].startswith("1")

    @property
    def sslnegotiation(self) -> str:
        return self.values["sslnegotiation"]

    @property
    def ssl_min_protocol_version(self) -> str | None:
        return self.values["ssl_min_protocol_version"] or None

    @property
    def ssl_max_protocol_version(self) -> str | None:
        return self.values.get("ssl_max_protocol_version") or None

    @property
    def gssencmode(self) -> str:
        return self.values["gssencmode"]

    @property
    def dbname(self) -> str | None:
        return self.values.get("dbname") or None

    @property
    def user(self) -> str | None:
        return self.values.get("user") or None

    @property
    def service(self) -> str | None:
        return self.values.get("service")


# Connection strings


def is_uri(text: str) -> bool:
    """`libpq:fe-connect.c uri_prefix_length`: lower case only."""
    return text.startswith(("postgresql://", "postgres://"))


def sieved(given: Given) -> Given:
    """*given*, unless a value shows that another one, likely a password, ran into it."""
    for keyword, value in given.values.items():
        if secrecy.suspicious(value) or (keyword in _NAMES and _NOT_IN_A_NAME.search(value)):
            raise WrongUsage(
                f"the value of {keyword} holds what looks like a password or another setting",
                why="a quote or a separator is missing in the connection string",
            )
        if keyword == "host" and not _are_hosts(value):
            raise WrongUsage("a host name holds what no host name can hold")
    return given


def _are_hosts(value: str) -> bool:
    return all(map(_HOST_SHAPE.fullmatch, value.split(",")))


def _repeatable(values: Mapping[str, str], origins: Mapping[str, Origin]) -> None:
    """Raise WrongUsage where what answers repeat may hold a secret: a URL in PGHOST, say, which
    libpq would take for a name, and ask the resolver for."""
    for keyword in (*_REPEATED_NAMES, *_FILES):
        value = values.get(keyword, "")
        wrong = secrecy.suspicious_file(value) or (
            keyword in ("host", "hostaddr") and not _are_hosts(value)
        )
        if wrong:
            variable = _KEYWORDS[keyword].variable
            in_environment = origins[keyword] == "environment"
            what = variable if in_environment else f"the value of {keyword}"
            raise WrongUsage(
                f"{what} holds a URL, or what looks like a password or another setting",
                why="it is one name, which qs-certs would repeat",
                fix=(f"unset {variable}",) if in_environment else (),
            )


def _store(values: dict[str, str], keyword: str, value: str) -> bool:
    """Store what may be stored; False if libpq has no such keyword.  `conninfo_storeval`."""
    if keyword == "requiressl":
        keyword, value = "sslmode", "require" if value.startswith("1") else "prefer"
    if keyword not in KEYWORDS:
        return False
    if keyword not in SECRET_KEYWORDS:
        values[keyword] = value
    return True


def key_values(text: str) -> Given:
    """The key/value form.  `libpq:fe-connect.c conninfo_parse`."""
    values: dict[str, str] = {}
    at, end = 0, len(text)
    while True:
        at = _skip_spaces(text, at)
        if at == end:
            return Given(values)
        start = at
        while at < end and text[at] != "=" and text[at] not in SPACE:
            at += 1
        keyword = text[start:at]
        at = _skip_spaces(text, at)
        if at == end or text[at] != "=":
            _missing_equals(keyword, start)
        at = _skip_spaces(text, at + 1)
        value, at = _value(text, at)
        if not _store(values, keyword, value):
            _invalid_option(keyword, start)


def _skip_spaces(text: str, at: int) -> int:
    while at < len(text) and text[at] in SPACE:
        at += 1
    return at


def _value(text: str, at: int) -> tuple[str, int]:
    """The value that starts at *at*, and where the text goes on."""
    quoted = text[at : at + 1] == "'"
    at += quoted
    value: list[str] = []
    while at < len(text):
        character = text[at]
        at += 1
        if character == "'" if quoted else character in SPACE:
            return "".join(value), at
        if character == "\\":  # takes the next character as it is; at the end it is nothing
            value.append(text[at : at + 1])
            at += 1
        else:
            value.append(character)
    if quoted:
        raise WrongUsage("unterminated quoted string in connection info string")
    return "".join(value), len(text)


def _missing_equals(keyword: str, position: int) -> NoReturn:
    if keyword in KEYWORDS:
        raise WrongUsage(f'missing "=" after "{keyword}" in connection info string')
    raise WrongUsage(
        f'missing "=" in connection info string, in the word at character {position + 1}',
        why="a value with a space in it needs single quotes around it, "
        "with \\' and \\\\ for a quote and a backslash of its own",
    )


def _invalid_option(keyword: str, position: int) -> NoReturn:
    raise WrongUsage(
        f"invalid connection option at character {position + 1} of the connection string",
        why=_nearest(keyword),
    )


def _nearest(keyword: str) -> str | None:
    """A hint for a misspelt keyword; it shows libpq's, never the one that was given."""
    from difflib import get_close_matches

    found = get_close_matches(keyword[:32].lower(), KEYWORDS | {"requiressl"}, 1, 0.8)
    return f'there is one named "{found[0]}"' if found else None


def uri(text: str) -> dict[str, str]:
    """`postgresql://[user[:password]@][host][:port][,...][/dbname][?keyword=value&...]`.

    `libpq:fe-connect.c conninfo_uri_parse_options`.  Unlike libpq, a second `@` or a port that is
    no number is refused at once: what stands there is likely the rest of a password.
    """
    values: dict[str, str] = {}
    rest = text.partition("://")[2]
    before_slash = rest.partition("/")[0]
    if "@" in before_slash:
        credentials, _, rest = rest.partition("@")
        user, _, password = credentials.partition(":")
        if user:
            values["user"] = _percent_decoded(user, "user")
        _percent_decoded(password, "password")  # for its errors; never kept
    names, ports, end = _hosts_of_uri(rest)
    path, question, query = rest[end:].partition("?")
    dbname = path[1:]
    if "@" in names + ports + dbname:
        raise WrongUsage(
            'unescaped "@" or "/" in the URI',
            why="in a user name or a password, write %40 for @, %2F for /, %3A for : and %25 for %",
        )
    if names:
        values["host"] = _percent_decoded(names, "host")
    if ports:
        values["port"] = _percent_decoded(ports, "port")
        if not are_ports(values["port"]):
            raise WrongUsage("invalid port number in the URI")
    if dbname:
        values["dbname"] = _percent_decoded(dbname, "dbname")
    if question:
        _uri_query(query, values)
    return values


def _hosts_of_uri(text: str) -> tuple[str, str, int]:
    """The hosts and the ports, each separated by commas as libpq keeps them, and where they end."""
    names: list[str] = []
    ports: list[str] = []
    at = 0
    while True:
        if text[at : at + 1] == "[":
            close = text.find("]", at)
            if close < 0:
                raise WrongUsage(
                    'end of string reached when looking for matching "]" in IPv6 host address in URI'
                )
            if close == at + 1:
                raise WrongUsage("IPv6 host address may not be empty in URI")
            names.append(text[at + 1 : close])
            at = close + 1
            if text[at : at + 1] not in ("", ":", "/", "?", ","):
                raise WrongUsage(
                    'unexpected character after the IPv6 host address in URI (expected ":" or "/")'
                )
        else:
            names.append(re.split("[:/?,]", text[at:], maxsplit=1)[0])
            at += len(names[-1])
        ports.append("")
        if text[at : at + 1] == ":":
            ports[-1] = re.split("[/?,]", text[at + 1 :], maxsplit=1)[0]
            at += 1 + len(ports[-1])
        if text[at : at + 1] != ",":
            return ",".join(names), ",".join(ports), at
        at += 1


def are_ports(text: str) -> bool:
    """Whether *text* is numbers separated by commas; each may be missing."""
    return all(not port or _INTEGER.fullmatch(port) for port in text.split(","))


def _uri_query(query: str, values: dict[str, str]) -> None:
    """`libpq:fe-connect.c conninfo_uri_parse_params`."""
    parameters = query.split("&")
    if not parameters[-1]:
        parameters.pop()  # one "&" at the end is forgiven
    for number, parameter in enumerate(parameters, 1):
        keyword, separator, value = parameter.partition("=")
        if not separator:
            raise WrongUsage(f'missing key/value separator "=" in URI query parameter {number}')
        if "=" in value:
            raise WrongUsage(f'extra key/value separator "=" in URI query parameter {number}')
        keyword = _percent_decoded(keyword, f"query parameter {number}")
        value = _percent_decoded(value, f"query parameter {number}")
        if (keyword, value) == ("ssl", "true"):
            keyword, value = "sslmode", "require"
        if not _store(values, keyword, value):
            raise WrongUsage(f"invalid URI query parameter {number}", why=_nearest(keyword))


def _percent_decoded(text: str, part: str) -> str:
    """`libpq:fe-connect.c conninfo_uri_decode`; bytes that are no UTF-8 stay as surrogates.

    Spaces around are dropped and others refused, as libpq 18 does; before, they were kept.
    """
    text = text.strip(" ")
    if " " in text:
        raise WrongUsage(
            f"unexpected spaces found in the {part} of the URI, "
            "use percent-encoded spaces (%20) instead"
        )
    wrong = re.search("%(?:00|(?![0-9A-Fa-f]{2}))", text)
    if wrong and wrong[0] == "%00":
        raise WrongUsage(f"forbidden value %00 in the {part} of the URI")
    if wrong:
        raise WrongUsage(f"invalid percent-encoded token in the {part} of the URI")
    from urllib.parse import unquote_to_bytes

    return unquote_to_bytes(text).decode("utf-8", "surrogateescape")


# Service files and .pgpass


def parse_service_file(
    text: str, service: str, *, path: str = "pg_service.conf"
) -> dict[str, str] | None:
    """What the section [*service*] sets, without secrets; None where there is no such section.

    `libpq:fe-connect.c parseServiceFile`: no spaces around `=`, comments on lines of their own
    only, quotes are literal, the first setting of a keyword counts, the section ends at the next
    one.  Raises WrongUsage that names *path* and the line, never its text.
    """
    values: dict[str, str] = {}
    found = False
    for number, raw in enumerate(re.findall("[^\n]*\n|[^\n]+", text), 1):
        # fgets into 1,024 bytes: the longest line has 1,022, its end among them.
        if len(raw.encode("utf-8", "surrogateescape")) >= 1023:
            raise WrongUsage(f'line {number} too long in service file "{path}"')
        line = raw.strip(SPACE)
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            if found:
                break
            found = line.startswith(f"[{service}]")
        elif found:
            keyword, separator, value = line.partition("=")
            if line.startswith("ldap"):
                raise WrongUsage(
                    f'LDAP lookup in service file "{path}", line {number}',
                    why="qs-certs does not ask LDAP servers; give host and port instead",
                )
            if keyword == "service" and separator:
                raise WrongUsage(
                    "nested service specifications not supported in service file "
                    f'"{path}", line {number}'
                )
            if not separator or keyword not in KEYWORDS:
                raise WrongUsage(
                    f'syntax error in service file "{path}", line {number}',
                    why='libpq expects keyword=value, without spaces around the "="',
                )
            if keyword not in values:
                _store(values, keyword, value)
    if not found:
        return None
    sieved(Given(values))
    return values


def service_names(text: str) -> tuple[str, ...]:
    """The sections of a service file that libpq could find, each once, in order."""
    lines = (line.strip(SPACE) for line in text.split("\n"))
    names = (line[1 : line.index("]")] for line in lines if line[:1] == "[" and "]" in line)
    return tuple(dict.fromkeys(names))


def pgpass_hosts(text: str) -> tuple[tuple[str, int | None], ...]:
    """Hosts and ports named in a `.pgpass`, each pair once; port None where it is `*`.

    `libpq:fe-connect.c passwordFromFile`, `pwdfMatchesString`.  Only the first two fields of a
    line are ever taken out of it.  Hosts that are `*`, and lines that libpq could not match, are
    passed over; a folder is a socket's.
    """
    pairs: dict[tuple[str, int | None], None] = {}
    for line in text.split("\n"):
        found = re.match(_PGPASS_LINE, line)
        if not found or line.startswith("#") or found["host"] in ("*", ""):
            continue
        host = re.sub(r"\\(.)", r"\1", found["host"])
        port = found["port"]
        if port == "*":
            pairs[host, None] = None
        elif port.isdecimal() and port.isascii() and len(port) <= 5:
            pairs[host, int(port)] = None
    return tuple(pairs)


_PGPASS_FIELD = r"(?:[^:\\\r\n]|\\.)*"
_PGPASS_LINE = (
    rf"(?P<host>{_PGPASS_FIELD}):(?P<port>{_PGPASS_FIELD}):{_PGPASS_FIELD}:{_PGPASS_FIELD}:"
)


# Environment, precedence, the result

VARIABLES = frozenset(row.variable for row in _KEYWORDS.values() if row.variable) | {
    "PGREQUIRESSL",
    "PGSERVICEFILE",
    "PGSYSCONFDIR",
}


def from_environment(env: Mapping[str, str]) -> dict[str, str]:
    """What the environment sets, by keyword.  A variable that is set but empty counts.

    `libpq:fe-connect.c conninfo_add_defaults`.  PGPASSWORD is never looked at.
    """
    values = {
        keyword: env[row.variable]
        for keyword, row in _KEYWORDS.items()
        if row.variable is not None and row.variable in env
    }
    if env.get("PGREQUIRESSL", "").startswith("1"):
        values.setdefault("sslmode", "require")
    return values


def service_of(given: Given, env: Mapping[str, str]) -> str | None:
    """The service that libpq would look up, if any.  `libpq:fe-connect.c parseServiceInfo`."""
    return given.values.get("service", {**env, **given.variables}.get("PGSERVICE"))


def resolve(
    given: Given, service: Mapping[str, str] | None = None, env: Mapping[str, str] | None = None
) -> Settings:
    """The settings of the connection: *given*, then *service*, then *env*, then libpq's defaults.

    *service* is what `parse_service_file` found, *env* the process's environment; variables that
    *given* brought along go over it.  Raises WrongUsage where libpq would refuse to connect.
    """
    layers: tuple[tuple[Origin, Mapping[str, str]], ...] = (
        ("connection string", given.values),
        ("service", service or {}),
        ("environment", from_environment({**(env or {}), **given.variables})),
        (
            "default",
            {name: row.default for name, row in _KEYWORDS.items() if row.default is not None},
        ),
    )
    values: dict[str, str] = {}
    origins: dict[str, Origin] = {}
    for origin, layer in layers:
        for keyword, value in layer.items():
            if keyword not in values and keyword not in SECRET_KEYWORDS:
                values[keyword] = value
                origins[keyword] = origin
    if values.get("sslrootcert") == "system" and origins["sslmode"] == "default":
        values["sslmode"] = "verify-full"  # since libpq 16
    _repeatable(values, origins)
    servers = _servers(values)
    _check_values(values)
    return Settings(values, origins, servers)


def _servers(values: Mapping[str, str]) -> tuple[Server, ...]:
    """`libpq:fe-connect.c connectOptions2`: as many servers as addresses, else as hosts."""
    addresses = _elements(values.get("hostaddr"))
    hosts = _elements(values.get("host"))
    ports = _elements(values.get("port"))
    count = len(addresses or hosts) or 1
    if hosts and len(hosts) != count:
        raise WrongUsage(f"could not match {len(hosts)} host names to {count} hostaddr values")
    if len(ports) > 1 and len(ports) != count:
        raise WrongUsage(f"could not match {len(ports)} port numbers to {count} hosts")
    if len(ports) <= 1:
        ports = (ports or ("",)) * count
    return tuple(
        Server(host, address or None, _port(port))
        for host, address, port in zip(
            hosts or ("",) * count, addresses or ("",) * count, ports, strict=True
        )
    )


def _elements(value: str | None) -> tuple[str, ...]:
    return tuple(value.split(",")) if value else ()


def _port(text: str) -> int:
    """`libpq:fe-connect.c PQconnectPoll`, `pqParseIntParam`: strtol, so spaces and a sign are fine."""
    if not text:
        return DEFAULT_PORT
    if not _INTEGER.fullmatch(text) or len(text) > 20 or abs(int(text)) >= 1 << 31:
        raise WrongUsage(f'invalid integer value{_shown(text)} for connection option "port"')
    port = int(text)
    if not 1 <= port <= 65535:
        raise WrongUsage(f"invalid port number:{_shown(text)}")
    return port


_CHOICES = {
    "channel_binding": ("disable", "prefer", "require"),
    "sslmode": SSLMODES,
    "sslnegotiation": ("postgres", "direct"),
    "sslcertmode": ("disable", "allow", "require"),
    "gssencmode": ("disable", "prefer", "require"),
}
_TLS_VERSIONS = ("tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3")


def _check_values(values: Mapping[str, str]) -> None:
    """`libpq:fe-connect.c connectOptions2`, in its order."""
    _check_choice("channel_binding", values)
    _check_choice("sslmode", values)
    _check_choice("sslnegotiation", values)
    sslmode = values["sslmode"]
    if values["sslnegotiation"] == "direct" and sslmode in ("disable", "allow", "prefer"):
        raise WrongUsage(
            f'weak sslmode "{sslmode}" may not be used with sslnegotiation=direct '
            '(use "require", "verify-ca", or "verify-full")'
        )
    if values.get("sslrootcert") == "system" and sslmode != "verify-full":
        raise WrongUsage(
            f'weak sslmode "{sslmode}" may not be used with sslrootcert=system (use "verify-full")'
        )
    bounds: list[int | None] = []
    for keyword in ("ssl_min_protocol_version", "ssl_max_protocol_version"):
        version = values.get(keyword, "").lower()
        if version and version not in _TLS_VERSIONS:
            raise WrongUsage(f'invalid "{keyword}" value:{_shown(values[keyword])}')
        bounds.append(_TLS_VERSIONS.index(version) if version else None)
    lowest, highest = bounds
    if lowest is not None and highest is not None and lowest > highest:
        raise WrongUsage("invalid SSL protocol version range")
    _check_choice("sslcertmode", values)
    _check_choice("gssencmode", values)


def _check_choice(keyword: str, values: Mapping[str, str]) -> None:
    value = values.get(keyword)
    if value is not None and value not in _CHOICES[keyword]:
        raise WrongUsage(f"invalid {keyword} value:{_shown(value)}")


def _shown(value: str) -> str:
    """*value* in quotes, if it is one short word: anything else may hold more than it should."""
    return f' "{value}"' if re.fullmatch(r"[\w.+-]{0,16}", value, re.ASCII) else ""


# The corrected string


def corrected(given: Given, sslmode: str = "verify-full") -> str:
    """*given* in libpq's key/value form with *sslmode*, and without any secret.

    Variables that were assigned before a pasted psql are settings like the others here.
    """
    values = {**from_environment(given.variables), **given.values, "sslmode": sslmode}
    return " ".join(
        f"{keyword}={quoted_value(value)}"
        for keyword, value in values.items()
        if keyword not in SECRET_KEYWORDS
    )


def quoted_value(value: str) -> str:
    """*value* as a connection string wants it.  `libpq.sgml`, "Keyword/Value Connection Strings"."""
    if value and not re.search(r"['\\ \t\n\v\f\r]", value):
        return value
    return "'" + re.sub(r"(['\\])", r"\\\1", value) + "'"
