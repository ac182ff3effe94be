"""What `qs_certs.libpq.settings` and `pasted` know beyond the libpq of the test machine.

Pasted commands, JDBC URLs, wrapped strings; libpq 16 and 17; the values themselves.  What can be
compared with the real libpq is in `test_settings_oracle`.
"""

from __future__ import annotations

import dataclasses
import sys
import time
import zipfile
from pathlib import Path

import pytest

from qs_certs.errors import WrongUsage
from qs_certs.libpq.pasted import corrected_psql, parse_conninfo
from qs_certs.libpq.settings import (
    Given,
    Server,
    Settings,
    corrected,
    from_environment,
    parse_service_file,
    pgpass_hosts,
    resolve,
    service_names,
    service_of,
)

ADOBE = {
    "sslmode": "require",
    "host": "acme.platform-query.adobe.io",
    "port": "80",
    "dbname": "prod:all",
    "user": "0123456789ABCDEF01234567@AdobeOrg",
}
COPIED = " ".join(f"{name}={value}" for name, value in ADOBE.items())
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"

PASTED = {
    "as Adobe's page copies it": f"psql '{COPIED} password={JWT}'",
    "bare": f"{COPIED} password={JWT}",
    "double quotes": f'psql "{COPIED} password={JWT}"',
    "curly quotes": f"psql \u2018{COPIED} password={JWT}\u2019",
    "curly double quotes": f"psql \u201c{COPIED} password={JWT}\u201d",
    "left over quotes": f"'{COPIED} password={JWT}'",
    "left over curly quotes": f"\u201c{COPIED}\u201d",
    "a prompt": f"me@laptop:~$ psql '{COPIED}'",
    "a prompt in brackets": f"[me@laptop ~]$ psql '{COPIED}'",
    "one dollar": f"$ psql '{COPIED}'",
    "a path": f"/usr/lib/postgresql/15/bin/psql '{COPIED}'",
    "cmd": f'C:\\Users\\me>"C:\\Program Files\\PostgreSQL\\17\\bin\\psql.exe" "{COPIED}"',
    "cmd, single quotes": f"C:\\> psql '{COPIED}'",
    "PowerShell": f"PS C:\\Users\\me> & 'psql' '{COPIED}'".replace("'psql'", "psql.exe"),
    "no-break spaces": f"psql '{COPIED}'".replace(" ", "\u00a0").replace("psql\u00a0", "psql "),
    "no-break spaces, bare": COPIED.replace(" ", "\u00a0"),
    "wrapped between settings": f"psql '{COPIED}'".replace(" host", "\nhost"),
    "wrapped, indented": f"psql '{COPIED}'".replace(" host", "\r\n     host"),
    "wrapped in a value": f"psql '{COPIED}'".replace("platform-", "platform-\n"),
    "wrapped in a keyword": COPIED.replace("dbname", "db\nname"),
    "wrapped at an =": COPIED.replace("port=", "port\n="),
    "wrapped password": f"psql 'password={JWT[:20]}\n{JWT[20:40]}\n{JWT[40:]} {COPIED}'",
    "wrapped password before a setting": f"password={JWT[:20]}\n{JWT[20:]}\n{COPIED}",
    "options": (
        "psql -h acme.platform-query.adobe.io -p 80 -U 0123456789ABCDEF01234567@AdobeOrg "
        "-d 'dbname=prod:all sslmode=require'"
    ),
    "long dashes": (
        "psql \u2013h acme.platform-query.adobe.io \u2014port 80 -d "
        "'user=0123456789ABCDEF01234567@AdobeOrg dbname=prod:all sslmode=require'"
    ),
    "URI": (
        "postgresql://0123456789ABCDEF01234567%40AdobeOrg:secret@acme.platform-query.adobe.io:80"
        "/prod%3Aall?sslmode=require"
    ),
    "URI, wrapped": (
        "postgresql://0123456789ABCDEF01234567%40AdobeOrg:sec\nret@acme.platform-query\n  .adobe.io"
        ":80/prod%3Aall?sslmode=require"
    ),
    "JDBC": (
        "jdbc:postgresql://acme.platform-query.adobe.io:80/prod:all?user="
        "0123456789ABCDEF01234567@AdobeOrg&password=secret&sslmode=require"
    ),
    "a byte order mark": f"\ufeff{COPIED}\n",
}


@pytest.mark.parametrize("text", PASTED.values(), ids=PASTED)
def test_what_people_paste_is_understood(text: str) -> None:
    assert parse_conninfo(text).values == ADOBE


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("host=h", "key/value"),
        ("postgresql://h", "URI"),
        ("psql -h h", "psql"),
        ("jdbc:postgresql://h/", "JDBC"),
        ("h", "host"),
    ],
)
def test_the_form_is_told(text: str, form: str) -> None:
    assert parse_conninfo(text).form == form


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("h.example:80", {"host": "h.example", "port": "80"}),
        ("h.example", {"host": "h.example"}),
        ("192.0.2.1:5432", {"host": "192.0.2.1", "port": "5432"}),
        ("[::1]:5432", {"host": "::1", "port": "5432"}),
        ("[::1]", {"host": "::1"}),
        ("::1", {"host": "::1"}),
        ("fe80::1%eth0", {"host": "fe80::1%eth0"}),
        ("/var/run/postgresql", {"host": "/var/run/postgresql"}),
        ("a:1,b", {"host": "a,b", "port": "1,"}),
    ],
)
def test_a_host_and_a_port(text: str, values: dict[str, str]) -> None:
    assert parse_conninfo(text).values == values


@pytest.mark.parametrize(
    "text",
    ["h:", "h:port", "h:123456", "h/db", "http://h", "mysql://h/db", "a:b:c", "[::1", "h?x", "@h"],
)
def test_what_is_none_of_the_forms_is_refused(text: str) -> None:
    with pytest.raises(WrongUsage, match="no connection string"):
        parse_conninfo(text)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("//h/d", {"host": "h", "dbname": "d"}),
        ("//h:1,[::1]:2,i/d", {"host": "h,::1,i", "port": "1,2,", "dbname": "d"}),
        ("d", {"dbname": "d"}),
        ("/", {}),
        ("///d", {"dbname": "d"}),
        ("//h/d%20e+f", {"host": "h", "dbname": "d e f"}),
        ("//h/d?user=a+b%2B", {"host": "h", "dbname": "d", "user": "a b+"}),
        ("//h/d?sslrootcert=/r&loggerLevel=OFF", {"host": "h", "dbname": "d", "sslrootcert": "/r"}),
        ("//h/d?sslMode=VERIFY-CA", {"host": "h", "dbname": "d", "sslmode": "verify-ca"}),
        ("//h/d?ssl=true", {"host": "h", "dbname": "d", "sslmode": "verify-full"}),
        ("//h/d?ssl=TRUE", {"host": "h", "dbname": "d", "sslmode": "verify-full"}),
        ("//h/d?ssl", {"host": "h", "dbname": "d", "sslmode": "verify-full"}),
        ("//h/d?ssl=false", {"host": "h", "dbname": "d"}),
        ("//h/d?ssl=true&sslmode=require", {"host": "h", "dbname": "d", "sslmode": "require"}),
    ],
)
def test_a_jdbc_url_means_what_pgjdbc_makes_of_it(text: str, values: dict[str, str]) -> None:
    defaults = {"host": "localhost", "port": "5432", "sslmode": "prefer"}
    assert parse_conninfo("jdbc:postgresql:" + text).values == {**defaults, **values}


# What a URL may say of libpq's settings, as pgjdbc writes it (PGProperty.java); sslNegotiation is
# pgjdbc 42.7.4's.
PROPERTIES = {
    "user": "user",
    "PGHOST": "host",
    "PGPORT": "port",
    "PGDBNAME": "dbname",
    "service": "service",
    "sslmode": "sslmode",
    "sslrootcert": "sslrootcert",
    "sslcert": "sslcert",
    "sslkey": "sslkey",
    "sslNegotiation": "sslnegotiation",
    "gssEncMode": "gssencmode",
    "ApplicationName": "application_name",
}
PGJDBC = Path("/usr/share/java/postgresql.jar")


@pytest.mark.parametrize(("name", "keyword"), PROPERTIES.items(), ids=PROPERTIES)
def test_a_property_of_pgjdbc_is_a_setting_of_libpq(name: str, keyword: str) -> None:
    assert parse_conninfo(f"jdbc:postgresql:?{name}=54").values[keyword] == "54"
    assert "54" not in parse_conninfo(f"jdbc:postgresql:?my{name}=54").values.values()


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux: Debian's pgjdbc")
def test_these_properties_are_pgjdbc_s() -> None:
    if not PGJDBC.exists():
        pytest.skip("needs pgjdbc: Debian's libpostgresql-jdbc-java")
    with zipfile.ZipFile(PGJDBC) as jar:
        known = jar.read("org/postgresql/PGProperty.class")
    assert [name for name in PROPERTIES if name.encode() not in known] in ([], ["sslNegotiation"])
    assert b"myuser" not in known


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("```\nhost=h port=80\n```", id="a block"),
        pytest.param("  ```sh\nhost=h port=80\n  ```\n", id="a block of a language"),
        pytest.param("`host=h port=80`", id="inline"),
        pytest.param("\n`host=h port=80` ", id="inline, with space around"),
    ],
)
def test_markdown_around_the_whole_is_taken_off(text: str) -> None:
    assert parse_conninfo(text).values == {"host": "h", "port": "80"}


@pytest.mark.parametrize(
    "text", ["jdbc:mysql://h/d", "jdbc:postgresql://u@h/d", "jdbc:postgresql://h/d?PGPORT=x"]
)
def test_a_jdbc_url_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(WrongUsage, match="JDBC URL"):
        parse_conninfo(text)


def test_pgjdbc_reads_no_variables() -> None:
    env = {"PGSSLMODE": "disable", "PGPORT": "9"}
    assert resolve(parse_conninfo("jdbc:postgresql://h/"), None, env).sslmode == "prefer"
    assert resolve(parse_conninfo("postgresql://h/"), None, env).sslmode == "disable"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("psql host=h port=1", "one pair of quotes"),
        ("psql 'host=h", "unterminated"),
        ("psql -h h -p x", "invalid port number"),
        ("psql -h h -y", "an option that psql does not have"),
        ("psql 'host=h password=a' b", "one pair of quotes"),
    ],
)
def test_a_psql_command_that_would_go_wrong_is_refused(text: str, words: str) -> None:
    with pytest.raises(WrongUsage) as raised:
        parse_conninfo(text)
    assert words in f"{raised.value.message} {raised.value.why}"


@pytest.mark.parametrize(
    ("text", "root"),
    [
        ('psql.exe "host=h sslrootcert=C:/a/root.crt"', "C:/a/root.crt"),
        ("psql.exe \"host=h sslrootcert='C:\\\\a b\\\\root.crt'\"", "C:\\a b\\root.crt"),
        ('psql.exe "host=h dbname=""a"" sslrootcert=x"', "x"),
        ('psql.exe "host=h dbname=\\"a\\" sslrootcert=x"', "x"),
        ("PS C:\\> psql 'host=h dbname=''a b'' sslrootcert=x'", "x"),
        ('PS C:\\> psql "host=h dbname=`"a`" sslrootcert=x"', "x"),
        ("PS C:\\> psql `\n 'host=h sslrootcert=x'", "x"),
        ('C:\\> psql ^\r\n "host=h sslrootcert=x"', "x"),
        ("$ psql \\\n 'host=h sslrootcert=x'", "x"),
    ],
)
def test_windows_shells_quote_in_their_own_ways(text: str, root: str) -> None:
    values = parse_conninfo(text).values
    assert (values["host"], values["sslrootcert"]) == ("h", root)


@pytest.mark.parametrize(
    "text",
    [
        "PGSSLMODE=require PGPORT=80 psql -h h",
        "PGSSLMODE='require' PGPORT=\"80\" PGPASSWORD='x y' psql -h h",
        "export PGSSLMODE=require; export PGPORT=80; psql -h h",
        "export PGSSLMODE=require\nexport PGPORT=80\npsql -h h",
        "PS C:\\> $env:PGSSLMODE = 'require'; $env:PGPORT=\"80\"; psql -h h",
        "C:\\> set PGSSLMODE=require&& set PGPORT=80&& psql -h h",
    ],
)
def test_variables_before_psql_count_as_environment(text: str) -> None:
    given = parse_conninfo(text)
    assert given.variables == {"PGSSLMODE": "require", "PGPORT": "80"}
    settings = resolve(given, {"port": "81"}, {"PGSSLMODE": "disable", "PGUSER": "u"})
    assert (settings.sslmode, settings.sslmode_origin) == ("require", "environment")
    assert settings.servers == (Server("h", None, 81),)
    assert settings.user == "u"


def test_a_hint_names_the_keyword_of_libpq_and_not_the_text_given() -> None:
    with pytest.raises(WrongUsage) as raised:
        parse_conninfo("host=h sslmod=require")
    assert raised.value.message == (
        "invalid connection option at character 8 of the connection string"
    )
    assert raised.value.why == 'there is one named "sslmode"'
    with pytest.raises(WrongUsage) as raised:
        parse_conninfo("host=h sesame=require")
    assert raised.value.why is None


def test_spaces_in_a_uri_are_treated_as_libpq_18_treats_them() -> None:
    assert parse_conninfo("postgresql://h? user = u & port  = 1 ").values == {
        "host": "h",
        "user": "u",
        "port": "1",
    }
    with pytest.raises(WrongUsage, match="unexpected spaces"):
        parse_conninfo("postgresql://h?user=a b")


@pytest.mark.parametrize(
    "text",
    [
        "PGUSER=u" + " " * 60_000 + "x",
        "host=h" + " " * 60_000 + "x",
        "$ " * 30_000,
        "'" * 60_000,
        "host='h" + "\n" * 60_000 + "x'",
        "host='" + "://" * 60_000 + "'",
        "host='=" + "eyJhbGci" * 20_000 + "'",
    ],
    ids=[
        "blanks after a variable",
        "blanks",
        "prompts",
        "quotes",
        "newlines in quotes",
        "URLs",
        "tokens",
    ],
)
def test_a_hostile_string_is_refused_at_once(text: str) -> None:
    started = time.process_time()
    with pytest.raises(WrongUsage):
        parse_conninfo(text)
    assert time.process_time() - started < 2


# Precedence and what follows from it


def resolved(text: str, env: dict[str, str] | None = None) -> Settings:
    return resolve(parse_conninfo(text), None, env or {})


def test_the_strongest_source_wins_and_is_named() -> None:
    env = {"PGSSLMODE": "allow", "PGSSLROOTCERT": "/env", "PGSSLCRL": "/crl"}
    service = {"sslmode": "require", "sslrootcert": "/svc", "password": "never"}
    settings = resolve(parse_conninfo("host=h sslmode=verify-ca"), service, env)
    assert (settings.sslmode, settings.sslmode_origin) == ("verify-ca", "connection string")
    assert (settings.sslrootcert, settings.sslrootcert_origin) == ("/svc", "service")
    assert (settings.sslcrl, settings.origins["sslcrl"]) == ("/crl", "environment")
    assert (settings.gssencmode, settings.origins["gssencmode"]) == ("prefer", "default")
    assert "password" not in settings.values


def test_an_empty_sslrootcert_is_the_default_file_and_beats_the_variable() -> None:
    env = {"PGSSLROOTCERT": "/env"}
    settings = resolved("host=h sslrootcert=''", env)
    assert (settings.sslrootcert, settings.sslrootcert_origin) == (None, "default")
    assert resolved("host=h", env).sslrootcert == "/env"


def test_system_roots_mean_verify_full_unless_a_mode_is_given() -> None:
    settings = resolved("host=h sslrootcert=system")
    assert (settings.sslmode, settings.sslmode_origin) == ("verify-full", "default")
    assert resolved("host=h sslrootcert=system sslmode=verify-full").sslmode == "verify-full"
    assert resolved("host=h", {"PGSSLROOTCERT": "system"}).sslmode == "verify-full"
    with pytest.raises(WrongUsage) as raised:
        resolved("host=h sslrootcert=system sslmode=require")
    assert raised.value.message == (
        'weak sslmode "require" may not be used with sslrootcert=system (use "verify-full")'
    )
    with pytest.raises(WrongUsage, match="weak sslmode"):
        resolved("host=h sslrootcert=system", {"PGREQUIRESSL": "1"})


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
def test_direct_negotiation_needs_a_strong_mode(mode: str) -> None:
    with pytest.raises(WrongUsage) as raised:
        resolved(f"host=h sslnegotiation=direct sslmode={mode}")
    assert raised.value.message == (
        f'weak sslmode "{mode}" may not be used with sslnegotiation=direct '
        '(use "require", "verify-ca", or "verify-full")'
    )
    assert resolved("host=h sslnegotiation=direct sslmode=require").sslnegotiation == "direct"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sslnegotiation=postgresql", 'invalid sslnegotiation value: "postgresql"'),
        ("sslcertmode=no", 'invalid sslcertmode value: "no"'),
        ("sslmode=''", 'invalid sslmode value: ""'),
        ("sslmode='a long story with spaces'", "invalid sslmode value:"),
    ],
)
def test_values_that_libpq_refuses(text: str, message: str) -> None:
    with pytest.raises(WrongUsage) as raised:
        resolved(text)
    assert raised.value.message == message


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("host=a,b port=1,2", [("a", None, 1), ("b", None, 2)]),
        ("host=a,b port=1", [("a", None, 1), ("b", None, 1)]),
        ("host=a,b port=,2", [("a", None, 5432), ("b", None, 2)]),
        ("host=a,b", [("a", None, 5432), ("b", None, 5432)]),
        ("host=a hostaddr=192.0.2.1", [("a", "192.0.2.1", 5432)]),
        ("hostaddr=192.0.2.1,192.0.2.2", [("", "192.0.2.1", 5432), ("", "192.0.2.2", 5432)]),
        ("host=a,b hostaddr=,192.0.2.2", [("a", None, 5432), ("b", "192.0.2.2", 5432)]),
        ("", [("", None, 5432)]),
        ("port=1", [("", None, 1)]),
    ],
)
def test_hosts_addresses_and_ports_are_paired(
    text: str, servers: list[tuple[str, str | None, int]]
) -> None:
    assert resolved(text).servers == tuple(Server(*server) for server in servers)


@pytest.mark.parametrize(
    ("server", "socket", "default"),
    [
        (Server("/tmp", None, 1), True, False),
        (Server("@name", None, 1), True, False),
        (Server("h", None, 1), False, False),
        (Server("/tmp", "192.0.2.1", 1), False, False),
        (Server("", None, 1), False, True),
        (Server("", "192.0.2.1", 1), False, False),
    ],
)
def test_sockets_and_the_default_are_told_apart(
    server: Server, socket: bool, default: bool
) -> None:
    assert (server.is_socket, server.is_default) == (socket, default)


def test_every_property_of_the_settings_reads_its_keyword() -> None:
    values = {
        "sslcert": "/c",
        "sslkey": "/k",
        "sslcrl": "/l",
        "sslcrldir": "/d",
        "ssl_min_protocol_version": "TLSv1.1",
        "ssl_max_protocol_version": "TLSv1.2",
        "dbname": "d",
        "user": "u",
        "service": "s",
        "gssencmode": "disable",
    }
    settings = resolve(Given(values))
    assert {name: getattr(settings, name) for name in values} == values
    assert resolve(Given()).sslsni
    assert not resolve(Given({"sslsni": "0"})).sslsni
    assert not resolve(Given({"sslsni": ""})).sslsni
    bare = resolve(Given())
    assert (bare.dbname, bare.user, bare.service, bare.sslcert, bare.sslcrl) == (None,) * 5
    assert (bare.ssl_min_protocol_version, bare.ssl_max_protocol_version) == ("TLSv1.2", None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        bare.values = {}  # type: ignore[misc]


def test_the_service_comes_from_the_string_then_the_variables() -> None:
    env = {"PGSERVICE": "e"}
    assert service_of(parse_conninfo("service=s"), env) == "s"
    assert service_of(parse_conninfo("PGSERVICE=v psql"), env) == "v"
    assert service_of(parse_conninfo("host=h"), env) == "e"
    assert service_of(parse_conninfo("host=h"), {}) is None


def test_variables_are_read_by_keyword() -> None:
    env = {"PGHOST": "h", "PGSSLROOTCERT": "", "PGREQUIRESSL": "1", "PATH": "/bin", "PGX": "y"}
    assert from_environment(env) == {"host": "h", "sslrootcert": "", "sslmode": "require"}


# Service files and .pgpass


def test_services_are_listed() -> None:
    content = "# [no]\n[a]\nhost=h\n  [b c] more\r\n[a]\n[broken\n[]\n"
    assert service_names(content) == ("a", "b c", "")
    assert parse_service_file(content, "a") == {"host": "h"}
    assert parse_service_file(content, "b c") == {}
    assert parse_service_file(content, "no") is None


@pytest.mark.parametrize("line", ["ldap://directory/query", "ldapx=y"])
def test_a_service_in_a_directory_is_said_to_be_out_of_reach(line: str) -> None:
    with pytest.raises(WrongUsage) as raised:
        parse_service_file(f"[s]\n{line}\n", "s", path="/etc/pg_service.conf")
    assert raised.value.message == 'LDAP lookup in service file "/etc/pg_service.conf", line 2'
    assert parse_service_file(f"[t]\n{line}\n[s]\nhost=h\n", "s") == {"host": "h"}


def test_pgpass_gives_each_server_once() -> None:
    content = (
        "# comment:1:*:*:x\nlocalhost:5432:*:u:x\nh:80:a:u:x\nh:80:b:u:y\r\nh:*:*:*:z\n*:80:*:*:x\n"
        "h:eighty:*:*:x\nh:\u0668\u0660:*:*:x\nnot a line\n\n"
    )
    assert pgpass_hosts(content) == (("localhost", 5432), ("h", 80), ("h", None))


# The corrected string


@pytest.mark.parametrize(
    ("text", "conninfo", "command"),
    [
        (
            f"psql '{COPIED} password={JWT}'",
            COPIED.replace("require", "verify-full"),
            f"psql '{COPIED.replace('require', 'verify-full')}'",
        ),
        ("h:80", "host=h port=80 sslmode=verify-full", "psql 'host=h port=80 sslmode=verify-full'"),
        (
            "host=h dbname='a b'",
            "host=h dbname='a b' sslmode=verify-full",
            "psql \"host=h dbname='a b' sslmode=verify-full\"",
        ),
        (
            "host=h sslrootcert=''",
            "host=h sslrootcert='' sslmode=verify-full",
            "psql \"host=h sslrootcert='' sslmode=verify-full\"",
        ),
        (
            "PGGSSENCMODE=disable psql -h h",
            "gssencmode=disable host=h sslmode=verify-full",
            "psql 'gssencmode=disable host=h sslmode=verify-full'",
        ),
    ],
)
def test_the_corrected_string_verifies_and_holds_no_password(
    text: str, conninfo: str, command: str
) -> None:
    given = parse_conninfo(text)
    assert corrected(given) == conninfo
    assert corrected_psql(given) == command
    assert parse_conninfo(command).values == parse_conninfo(conninfo).values


def test_a_secret_that_was_put_in_by_hand_is_left_out_all_the_same() -> None:
    assert corrected(Given({"host": "h", "password": "x"})) == "host=h sslmode=verify-full"
    assert "password" not in resolve(Given({"host": "h", "password": "x"})).values


# What mutants survived


@pytest.mark.parametrize(
    ("text", "values"),
    [
        pytest.param("X.example", {"host": "X.example"}, id="a host in capitals"),
        pytest.param("example.X", {"host": "example.X"}, id="and at its end"),
        pytest.param("''", {}, id="two quotes"),
        pytest.param("psql -d a b", {"dbname": "a", "user": "b"}, id="-d and an operand"),
        pytest.param("psql a b", {"dbname": "a", "user": "b"}, id="two operands"),
        pytest.param(
            '$env:PGSSLMODE = "require"; psql "host=h dbname=a""b"',
            {"host": "h", "dbname": 'a"b'},
            id="PowerShell without a prompt",
        ),
    ],
)
def test_odd_strings_are_read(text: str, values: dict[str, str]) -> None:
    assert dict(parse_conninfo(text).values) == values


@pytest.mark.parametrize(
    ("text", "keyword", "value"),
    [
        ("jdbc:postgresql://h/\ndb", "dbname", "db"),
        ("jdbc:postgresql://h/%ff", "dbname", "\udcff"),
        ("jdbc:postgresql://h/d?user=%ff", "user", "\udcff"),
        ("jdbc:postgresql:Xdb", "dbname", "Xdb"),
        ("jdbc:postgresql:/db", "dbname", "db"),
    ],
)
def test_odd_jdbc_urls_are_read(text: str, keyword: str, value: str) -> None:
    assert parse_conninfo(text).values[keyword] == value


@pytest.mark.parametrize(("text", "message"), [("'", "no connection string"), ("host=h\0", "NUL")])
def test_odd_strings_are_refused(text: str, message: str) -> None:
    with pytest.raises(WrongUsage, match=message):
        parse_conninfo(text)


@pytest.mark.parametrize(
    "keyword", ["ssl_min_protocol_version", "ssl_max_protocol_version", "dbname", "user", "sslcert"]
)
def test_what_is_given_as_nothing_is_not_given(keyword: str) -> None:
    assert getattr(resolve(Given({keyword: ""})), keyword) is None
    assert getattr(resolve(Given({keyword: "TLSv1.2"})), keyword) == "TLSv1.2"


@pytest.mark.parametrize(
    "text",
    [
        "application_name='a password=x' host=h",
        "host=h dbname=a=b",
        "host='a;b'",
        "psql 'postgresql://u:p@h/db' rest",
        "psql 'host=h password=p' rest",
        "psql 'host=h' more=1",
    ],
)
def test_what_may_be_a_piece_of_a_password_is_refused(text: str) -> None:
    with pytest.raises(WrongUsage):
        parse_conninfo(text)


@pytest.mark.parametrize(
    ("text", "user"),
    [("psql postgresql://h/db rest", "rest"), ("psql 'host=h' ana", "ana")],
)
def test_a_word_after_a_string_without_a_password_is_the_user(text: str, user: str) -> None:
    assert parse_conninfo(text).values["user"] == user


def test_a_value_that_is_no_name_may_hold_an_equals_sign() -> None:
    values = parse_conninfo("host=h application_name=a=b options=-csearch_path=x").values
    assert (values["application_name"], values["options"]) == ("a=b", "-csearch_path=x")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        pytest.param("psql --command 'select 1' db", {"dbname": "db"}, id="a long option's word"),
        pytest.param("psql --csv db", {"dbname": "db"}, id="a long flag"),
        pytest.param("psql --host", {}, id="no word after a long option"),
        pytest.param("psql -h", {}, id="no word after a short option"),
        pytest.param("psql -c 'select 1' -h h", {"host": "h"}, id="a short option's word"),
        pytest.param("psql -", {"dbname": "-"}, id="a dash is a name"),
        pytest.param("psql -W 'host=h'", {"host": "h"}, id="-W and a string"),
        pytest.param("psql -W secret db", {}, id="-W and words"),
        pytest.param("psql a \nb", {"dbname": "a", "user": "b"}, id="words on two lines"),
        pytest.param("psql a\\\nb", {"dbname": "ab"}, id="a word on two lines"),
        pytest.param("psql db | less", {"dbname": "db"}, id="a pipe"),
        pytest.param("psql db 2>err x", {"dbname": "db"}, id="a redirection"),
        pytest.param("psql db '|'", {"dbname": "db", "user": "|"}, id="a quoted pipe"),
        pytest.param("psql 'dbname=a''b'", {"dbname": "ab"}, id="two POSIX quotes"),
        pytest.param("PS C:\\> psql 'dbname=a''b'", {"dbname": "a'b"}, id="PowerShell's quotes"),
        pytest.param('psql.exe "dbname=a\\"b"', {"dbname": 'a"b'}, id="a Windows quote"),
        pytest.param('psql.exe "dbname=a`$b"', {"dbname": "a$b"}, id="a backtick"),
        pytest.param("psql 'postgresql://u@h/db' x", {"user": "u", "host": "h", "dbname": "db"}),
        pytest.param("dbname=\u2019a host=h", {"dbname": "\u2019a", "host": "h"}, id="one curly"),
        pytest.param("host=h\nuser=\u2018a\u2019", {"host": "h", "user": "a"}, id="curly, wrapped"),
    ],
)
def test_odd_commands_are_read(text: str, values: dict[str, str]) -> None:
    assert dict(parse_conninfo(text).values) == values


def test_the_complaint_is_about_the_string_as_it_stands() -> None:
    with pytest.raises(WrongUsage, match='missing "="'):
        parse_conninfo("bad\nkey=1 x")


def test_an_option_that_psql_does_not_have_is_refused() -> None:
    for text in ("psql --nothing", "psql --no-such-thing db", "psql -Z"):
        with pytest.raises(WrongUsage, match="psql does not have"):
            parse_conninfo(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[s]\nservice", 'syntax error in service file "pg_service.conf", line 2'),
        ("[s]\nservice=x", 'nested .* "pg_service.conf", line 2'),
        ("[s]\nhost = h", 'syntax error in service file "pg_service.conf", line 2'),
    ],
)
def test_a_broken_service_file_is_told_by_its_line(content: str, message: str) -> None:
    with pytest.raises(WrongUsage, match=message):
        parse_service_file(content, "s")


def test_a_service_file_may_hold_empty_lines_and_bytes_that_are_no_text() -> None:
    assert parse_service_file("[s]\n\n# x\ndbname=\udcff\n", "s") == {"dbname": "\udcff"}


@pytest.mark.parametrize(
    ("port", "found"),
    [("65432", 65432), ("123456", ()), ("\u0661\u0662", ()), ("1x", ()), ("*", None)],
)
def test_a_port_of_a_password_file_is_a_number_or_a_star(port: str, found: object) -> None:
    assert pgpass_hosts(f"h:{port}:d:u:p") == (() if found == () else (("h", found),))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("postgresql://%zz@h/db", "in the user of the URI"),
        ("postgresql://u:%zz@h/db", "in the password of the URI"),
        ("postgresql://%zz/db", "in the host of the URI"),
        ("postgresql://h:%zz/db", "in the port of the URI"),
        ("postgresql://h/%zz", "in the dbname of the URI"),
        ("postgresql://h/a@b", 'unescaped "@" or "/" in the URI'),
        ("postgresql://[::1", 'looking for matching "]"'),
        ("postgresql://[]/", "may not be empty"),
        ("postgresql://[::1]x/", "unexpected character after"),
        ("host port=1", 'missing "=" after "host"'),
        ("postgresql://h?requiresl=1", "invalid URI query parameter 1"),
    ],
)
def test_a_refusal_names_the_part_that_is_wrong(text: str, message: str) -> None:
    with pytest.raises(WrongUsage) as refused:
        parse_conninfo(text)
    assert message in refused.value.message


def test_a_misspelt_keyword_is_answered_with_the_right_one() -> None:
    with pytest.raises(WrongUsage) as refused:
        parse_conninfo("requiresl=1")
    assert refused.value.why == 'there is one named "requiressl"'


@pytest.mark.parametrize("rest", ["", "/", "?sslmode=require", ":80", ",h"])
def test_an_address_in_brackets_may_be_followed_by(rest: str) -> None:
    assert parse_conninfo(f"postgresql://[::1]{rest}").values["host"].startswith("::1")


@pytest.mark.parametrize(
    ("port", "said"),
    [
        ("", 5432),
        ("1", 1),
        ("65535", 65535),
        ("0", "invalid port number"),
        ("65536", "invalid port number"),
        ("2147483647", "invalid port number"),
        ("2147483648", "invalid integer value"),
        ("x", "invalid integer value"),
        ("1" * 5000, "invalid integer value"),
    ],
)
def test_a_port_is_a_number_up_to_65535(port: str, said: object) -> None:
    given = Given({"host": "h", "port": port})
    if isinstance(said, int):
        assert resolve(given).servers == (Server("h", None, said),)
    else:
        with pytest.raises(WrongUsage, match=str(said)):
            resolve(given)


def test_one_bound_of_the_tls_versions_is_a_range() -> None:
    for low, high in (("", "TLSv1.1"), ("TLSv1.3", ""), ("TLSv1.2", "TLSv1.2")):
        values = {"ssl_min_protocol_version": low, "ssl_max_protocol_version": high}
        assert resolve(Given(values)).ssl_max_protocol_version == (high or None)
    values = {"ssl_min_protocol_version": "TLSv1.3", "ssl_max_protocol_version": "TLSv1.2"}
    with pytest.raises(WrongUsage, match="invalid SSL protocol version range"):
        resolve(Given(values))


def test_a_uri_may_have_spaces_around_its_parts_and_one_separator_in_each_parameter() -> None:
    assert parse_conninfo("postgresql://h/ db ").values["dbname"] == "db"
    assert parse_conninfo("postgresql://Xh/dbX").values == {"host": "Xh", "dbname": "dbX"}
    with pytest.raises(WrongUsage, match="extra key/value separator"):
        parse_conninfo("postgresql://h?application_name=b=c")


@pytest.mark.parametrize("variable", ["PGHOST", "PGHOSTADDR", "PGSERVICE", "PGSSLROOTCERT", "PGSSLKEY"])  # fmt: skip
def test_a_url_in_a_variable_is_refused_and_the_variable_named(variable: str) -> None:
    env = {variable: "postgresql://ana:s3cret@db/prod"}
    with pytest.raises(WrongUsage) as refused:
        resolve(Given({"user": "u"}), {}, env)
    assert str(refused.value) == (
        f"{variable} holds a URL, or what looks like a password or another setting"
    )
    assert refused.value.fix == (f"unset {variable}",)
    resolve(Given({"user": "u"}), {}, {"PGSSLROOTCERT": "/etc/root.crt"})  # the control


@pytest.mark.parametrize("keyword", ["host", "hostaddr"])
@pytest.mark.parametrize("value", ["a b=c", "h;x"])
def test_a_service_that_names_no_host_is_refused_without_its_words(
    keyword: str, value: str
) -> None:
    with pytest.raises(WrongUsage, match=rf"^the value of {keyword} holds") as refused:
        resolve(Given(), {keyword: value}, {})
    assert refused.value.fix == ()
    assert value not in f"{refused.value} {refused.value.why}"
    resolve(Given(), {keyword: "h,i" if keyword == "host" else "::1"}, {})  # the control


KEY = "pkcs11:token=My%20Token;object=key"


def test_a_key_in_a_token_is_named_but_not_with_its_pin() -> None:
    """`libpq:fe-secure-openssl.c initialize_SSL`: what has a colon is `engine:key`, no file."""
    assert resolve(parse_conninfo(f"host=h sslkey={KEY}"), None, {}).sslkey == KEY
    assert resolve(Given({"host": "h"}), None, {"PGSSLKEY": KEY}).sslkey == KEY
    for wrong in (f"{KEY}?pin-value=1234", f"{KEY} token=abc"):
        with pytest.raises(WrongUsage) as refused:
            resolve(Given({"host": "h"}), None, {"PGSSLKEY": wrong})
        assert "1234" not in f"{refused.value} {refused.value.why}"
