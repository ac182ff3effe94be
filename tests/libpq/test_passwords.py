"""A password appears nowhere: in no value, no message, no traceback, however broken the string is.

Every password here is strewn with one word, so that a piece of it is recognised as well as the
whole.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qs_certs.errors import WrongUsage
from qs_certs.libpq.pasted import corrected_psql, parse_conninfo
from qs_certs.libpq.settings import (
    Given,
    corrected,
    from_environment,
    parse_service_file,
    pgpass_hosts,
    resolve,
    service_names,
)

Write = Callable[[str], str]

WORD = "Zq7Xv"
JWT = f"eyJ{WORD}hbGciOiJSUzI1NiJ9.eyJ{WORD}zdWIiOiIxIn0.{WORD}-_s"

_odd = st.text(
    st.sampled_from(" '\"\\%@:/?#&=+,;$`!|<>()[]{}^~.-_\t\u2018\u2019\u201c\u201d\u00a0éß漢aZ09"),
    max_size=4,
)
passwords = st.one_of(
    st.builds(lambda a, b, c: f"{WORD}{a}{WORD}{b}{WORD}{c}{WORD}", _odd, _odd, _odd),
    st.builds(lambda a: f"{JWT}{a}{WORD}", _odd),
    st.builds(lambda a: f"4F00@techacct.example.com:{WORD}{a}{WORD}", _odd),
)


def conninfo_quoted(password: str) -> str:
    return "'" + password.replace("\\", "\\\\").replace("'", "\\'") + "'"


def wrapped(password: str) -> str:
    """As a terminal breaks it."""
    return "\n".join(password[at : at + 9] for at in range(0, len(password), 9))


# Right ones: each writes a password into a connection string in the string's own notation.
WELL_FORMED: dict[str, Write] = {
    "key/value": lambda p: f"host=h port=80 password={conninfo_quoted(p)} user=u dbname=prod:all",
    "key/value, first": lambda p: f"password = {conninfo_quoted(p)}\n host=h",
    "key/value, last": lambda p: f"host=h password={conninfo_quoted(p)}",
    "sslpassword": lambda p: f"host=h sslpassword={conninfo_quoted(p)}",
    "oauth": lambda p: f"host=h oauth_client_secret={conninfo_quoted(p)}",
    "URI": lambda p: f"postgresql://u:{quote(p, safe='')}@h:80/prod%3Aall?sslmode=require",
    "URI, in the query": lambda p: f"postgres://h?password={quote(p, safe='')}&user=u",
    "JDBC": lambda p: f"jdbc:postgresql://h:80/db?user=u&password={quote(p, safe='')}&ssl=true",
    "psql, double quotes": lambda p: (
        'psql "host=h password='
        + "".join("\\" + c if c in '"\\$`' else c for c in conninfo_quoted(p))
        + ' user=u"'
    ),
    "psql, URI": lambda p: f"$ psql 'postgresql://u:{quote(p, safe='')}@h:80/db'",
    "psql with a variable": lambda p: (
        "PGPASSWORD='" + p.replace("'", "'\\''") + "' PGSSLMODE=require psql -h h -U u db"
    ),
}

# Wrong ones: what people forget.
BROKEN: dict[str, Write] = {
    "not quoted": lambda p: f"host=h password={p} user=u",
    "not quoted, last": lambda p: f"host=h user=u password={p}",
    "not escaped": lambda p: f"host=h password='{p}' user=u",
    "quote doubled": lambda p: "host=h password='" + p.replace("'", "''") + "' user=u",
    "no closing quote": lambda p: f"host=h password='{p} user=u",
    "no opening quote": lambda p: f"host=h password={p}' user=u",
    "curly quotes": lambda p: f"host=h password=\u2018{p}\u2019 user=u",
    "quote of another value missing": lambda p: f"host=h dbname='prod password={p} user=u",
    "quote of another value late": lambda p: f"dbname='prod password={p}' host=h",
    "no separator before": lambda p: f"host=h user=upassword={p} dbname=d",
    "no = at all": lambda p: f"host=h password {p} user=u",
    "no = and no space": lambda p: f"host=h password{p} user=u",
    "misspelt": lambda p: f"host=h pasword={p} user=u",
    "wrong case": lambda p: f"host=h Password={p} user=u",
    "wrapped": lambda p: f"host=h password={wrapped(p)}\nuser=u",
    "wrapped in psql": lambda p: f"psql 'host=h password={wrapped(p)} user=u'",
    "URI, raw": lambda p: f"postgresql://u:{p}@h:80/db?sslmode=require",
    "URI, raw, Adobe's user": lambda p: f"postgresql://ABC@AdobeOrg:{p}@h:80/prod:all",
    "URI, raw, in the query": lambda p: f"postgresql://h/db?password={p}&user=u",
    # With an "@" in it, this would be a good URI whose host is the rest of the password.
    "URI, cut": lambda p: f"postgresql://u:{p.replace('@', '')}",
    "URI, wrong escapes": lambda p: f"postgresql://u:%zz{p}@h/db",
    "URI, wrong scheme": lambda p: f"postgre://u:{p}@h/db",
    "URI, upper case": lambda p: f"POSTGRESQL://u:{p}@h/db",
    "URI as a database": lambda p: f"host=h dbname=postgresql://u:{quote(p, safe='')}@h/db",
    "JDBC, raw": lambda p: f"jdbc:postgresql://h/db?user=u&password={p}&ssl=true",
    "JDBC, in front": lambda p: f"jdbc:postgresql://u:{p}@h/db",
    "JDBC, cut": lambda p: f"jdbc:postgresql://u:{p}",
    "JDBC, no separator": lambda p: f"jdbc:postgresql://h/db?user=upassword={p}",
    "JDBC, other database": lambda p: f"jdbc:mysql://u:{p}@h/db",
    "psql": lambda p: f"psql 'host=h password={p} user=u'",
    "psql, inner quotes": lambda p: f"psql 'host=h password='{p}' user=u'",
    "psql, no quotes": lambda p: f"psql host=h password={p} user=u",
    "psql, no closing quote": lambda p: f"psql 'host=h password={p} user=u",
    "psql, early quote": lambda p: f"psql 'host=h password='{p} user=u",
    "psql, curly quotes": lambda p: f"psql \u2018host=h password={p} user=u\u2019",
    "psql for Windows": lambda p: f'C:\\> psql.exe "host=h password={p} user=u"',
    "psql, mysql's habit": lambda p: f"psql -h h -U u -p{p} db",
    "psql, -W": lambda p: f"psql -h h -U u -W '{p}'".replace("''", "' '"),
    "psql, --password": lambda p: f"psql -h h --password={p.replace(' ', '_')}",
    "psql, variable not quoted": lambda p: f"PGPASSWORD={p} psql -h h",
    "PowerShell": lambda p: f'PS C:\\> $env:PGPASSWORD = "{p}"; psql -h h',
    "cmd": lambda p: f"C:\\> set PGPASSWORD={p} && psql -h h",
    "host:port": lambda p: f"h:{p}",
    "user:password@host": lambda p: f"u:{p}@h:80",
    "a NUL": lambda p: f"host=h password={p}\0",
}


def everything_said(text: str) -> str:
    """All that can be seen of *text* after it went through."""
    try:
        given_ = parse_conninfo(text)
        said = [repr(given_), corrected(given_), corrected_psql(given_)]
        said.append(repr(resolve(given_, None, {})))
    except WrongUsage as error:
        return everything_about(error)
    return "\n".join(said)


def everything_about(error: BaseException) -> str:
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain:
        chain.append(following)
        following = following.__cause__ or following.__context__
    return "\n".join(
        [repr(e) + str(e) + repr(e.args) + repr(vars(e)) for e in chain]
        + traceback.format_exception(error)
    )


@pytest.mark.parametrize("write", WELL_FORMED.values(), ids=WELL_FORMED)
@settings(max_examples=30, deadline=None)
@given(password=passwords)
@example(password=JWT)
def test_a_password_in_a_good_string_is_dropped(write: Write, password: str) -> None:
    text = write(password)
    said = everything_said(text)
    assert WORD not in said
    assert isinstance(parse_conninfo(text), Given)
    assert parse_conninfo(text).values["host"] == "h"


@pytest.mark.parametrize("write", BROKEN.values(), ids=BROKEN)
@settings(max_examples=60, deadline=None)
@given(password=passwords)
@example(password=JWT)
@example(password=f"{WORD} {WORD}")
@example(password=f"{WORD}@{WORD}/{WORD}?{WORD}#{WORD}:{WORD}")
@example(password=f"{WORD}&{WORD}={WORD}")
@example(password=f"{WORD}'{WORD}' {WORD}")
@example(password=f"{WORD}' '{WORD}")
def test_a_password_in_a_broken_string_is_never_shown(write: Write, password: str) -> None:
    assert WORD not in everything_said(write(password))


SLIPS: dict[str, Callable[[str, int], str]] = {
    "cut": lambda text, at: text[:at],
    "one character lost": lambda text, at: text[:at] + text[at + 1 :],
    "one character twice": lambda text, at: text[: at + 1] + text[at:],
    "two characters swapped": lambda text, at: (
        text[:at] + text[at + 1 : at + 2] + text[at : at + 1] + text[at + 2 :]
    ),
    "a space too many": lambda text, at: f"{text[:at]} {text[at:]}",
}


@pytest.mark.parametrize("slip", SLIPS.values(), ids=SLIPS)
@pytest.mark.parametrize("write", WELL_FORMED.values(), ids=WELL_FORMED)
def test_one_slip_anywhere_shows_no_password(write: Write, slip: Callable[[str, int], str]) -> None:
    text = write(f"{WORD}' {WORD}=\\{WORD}@{WORD}")
    # Without this colon, user and password are one long user name.
    colon = text.find("//u:") + 3 if "//u:" in text else -1
    for at in range(len(text)):
        slipped = slip(text, at)
        if at != colon or slipped != text[:at] + text[at + 1 :]:
            assert WORD not in everything_said(slipped), slipped


@pytest.mark.parametrize("keyword", ["host", "hostaddr", "port", "user", "dbname", "service"])
def test_a_password_that_ran_into_a_name_is_refused(keyword: str) -> None:
    run_together = f"x,dbpassword:{WORD}"
    with pytest.raises(WrongUsage, match=f"the value of {keyword} holds") as refused:
        parse_conninfo(f"sslmode=require {keyword}={run_together}")
    assert WORD not in str(refused.value)
    # The control: what is no name may hold such words, as paths do.
    path = f"/etc/{run_together}"
    assert parse_conninfo(f"sslmode=require sslcert={path}").values["sslcert"] == path


@pytest.mark.parametrize(
    ("leaky", "because"),
    [
        (f"host=h user={WORD}", "a value is shown"),
        (f"host={WORD}", "a host is shown"),
        (f"host=h sslmode={WORD}", "a message quotes a plain word"),
        (f"PGSSLROOTCERT=/{WORD} psql -h h", "a variable is kept"),
    ],
)
def test_these_tests_would_see_a_leak(leaky: str, because: str) -> None:
    assert WORD in everything_said(leaky), because


def test_these_tests_would_see_a_leak_in_a_chain() -> None:
    def chained() -> None:
        try:
            int(WORD)
        except ValueError:
            raise WrongUsage("no number")  # noqa: B904 - the chain is the point

    with pytest.raises(WrongUsage) as raised:
        chained()
    assert WORD in everything_about(raised.value)


@settings(deadline=None)
@given(password=passwords)
def test_a_service_file_gives_no_password_away(password: str) -> None:
    line = password.replace("\n", "")
    content = f"[s]\nhost=h\npassword={line}\nsslpassword={line}\nuser=u\n"
    assert parse_service_file(content, "s") == {"host": "h", "user": "u"}
    assert service_names(content) == ("s",)
    for broken in (f"password {line}", f"password = {line}", f" {line}", f"user=upassword={line}"):
        with pytest.raises(WrongUsage) as raised:
            parse_service_file(f"[s]\n{broken}\n", "s")
        assert WORD not in everything_about(raised.value)


@settings(deadline=None)
@given(password=passwords)
def test_pgpass_gives_hosts_away_and_nothing_else(password: str) -> None:
    line = password.replace("\\", "\\\\").replace(":", "\\:")
    assert pgpass_hosts(f"h:80:*:u:{line}\n") == (("h", 80),)
    assert pgpass_hosts(f"*:*:*:u:{line}\n") == ()
    assert WORD not in repr(pgpass_hosts(f"#{line}\nh:u:{password}\n{line}\n"))


def test_the_password_of_the_environment_is_not_read() -> None:
    class Watched(dict[str, str]):
        def __getitem__(self, name: str) -> str:
            assert name != "PGPASSWORD"
            return super().__getitem__(name)

    env = Watched(PGHOST="h", PGPASSWORD=WORD, PGUSER="u")
    assert from_environment(env) == {"host": "h", "user": "u"}
