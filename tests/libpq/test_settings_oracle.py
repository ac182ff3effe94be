"""`qs_certs.libpq.settings` and `pasted` beside the real libpq and the real psql.

`PQconninfoParse` says what a connection string gives, `PQconnectStart` with `PQconninfo` what a
connection would use.  Every server named here is a closed port or a missing socket on this machine.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import itertools
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from qs_certs.errors import WrongUsage
from qs_certs.libpq.outcomes import SSLMODES
from qs_certs.libpq.pasted import corrected_psql, parse_conninfo
from qs_certs.libpq.settings import (
    KEYWORDS,
    SECRET_KEYWORDS,
    VARIABLES,
    Given,
    corrected,
    from_environment,
    parse_service_file,
    pgpass_hosts,
    resolve,
    service_of,
)
from tests.clients import YARDSTICK, ClientMissing, Libpqs, Option

CLOSED = "host=127.0.0.1 port=1"


class _Option(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_char_p) for name in ("keyword", "envvar", "compiled", "val", "label")),
        ("dispchar", ctypes.c_char_p),
        ("dispsize", ctypes.c_int),
    ]


class Libpq:
    """The few functions of libpq that these tests ask."""

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path)
        self._library = library
        library.PQconninfoParse.restype = ctypes.POINTER(_Option)
        library.PQconninfo.restype = ctypes.POINTER(_Option)
        library.PQconninfo.argtypes = [ctypes.c_void_p]
        library.PQconndefaults.restype = ctypes.POINTER(_Option)
        library.PQconninfoFree.argtypes = [ctypes.POINTER(_Option)]
        library.PQfreemem.argtypes = [ctypes.c_void_p]
        library.PQconnectStart.restype = ctypes.c_void_p
        for function in ("PQerrorMessage", "PQpass"):
            getattr(library, function).restype = ctypes.c_char_p
            getattr(library, function).argtypes = [ctypes.c_void_p]
        library.PQstatus.argtypes = [ctypes.c_void_p]
        library.PQfinish.argtypes = [ctypes.c_void_p]
        options = library.PQconndefaults()
        self.keywords = frozenset(keyword for keyword, _ in self._rows(options))
        library.PQconninfoFree(options)

    @staticmethod
    def _rows(options: ctypes._Pointer[_Option]) -> Iterator[tuple[str, str | None]]:
        for number in itertools.count():
            option = options[number]
            if not option.keyword:
                return
            value = option.val
            yield (
                option.keyword.decode(),
                None if value is None else value.decode("utf-8", "surrogateescape"),
            )

    def _without_secrets(self, options: ctypes._Pointer[_Option]) -> dict[str, str]:
        values = {
            keyword: value
            for keyword, value in self._rows(options)
            if value is not None and keyword not in SECRET_KEYWORDS
        }
        self._library.PQconninfoFree(options)
        return values

    def parse(self, text: str) -> dict[str, str] | str:
        """What *text* gives, or libpq's complaint."""
        message = ctypes.c_char_p()
        options = self._library.PQconninfoParse(
            text.encode("utf-8", "surrogateescape"), ctypes.byref(message)
        )
        if options:
            return self._without_secrets(options)
        complaint = (message.value or b"").decode("utf-8", "replace").strip()
        self._library.PQfreemem(message)
        return complaint

    def connect(self, text: str) -> dict[str, str] | str:
        """What a connection would use, or why libpq would not even try."""
        connection = self._library.PQconnectStart(text.encode())
        try:
            message = self._library.PQerrorMessage(connection).decode()
            if self._library.PQstatus(connection) == 1 and not re.search(
                "refused|No such file", message
            ):
                return str(message).strip()
            return self._without_secrets(self._library.PQconninfo(connection))
        finally:
            self._library.PQfinish(connection)

    def password(self, text: str) -> str:
        """The password that libpq takes from `.pgpass` for the first server of *text*."""
        connection = self._library.PQconnectStart(text.encode())
        try:
            return str(self._library.PQpass(connection).decode())
        finally:
            self._library.PQfinish(connection)


def _load() -> Libpq | None:
    found = ctypes.util.find_library("pq")
    return Libpq(found) if found else None


LIBPQ = _load()
needs_libpq = pytest.mark.skipif(LIBPQ is None, reason="no libpq on this machine")
needs_psql = pytest.mark.skipif(
    shutil.which("psql") is None or shutil.which("sh") is None, reason="needs psql and a shell"
)


@pytest.fixture
def libpq(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Libpq:
    assert LIBPQ is not None
    for name in list(os.environ):
        if name.startswith("PG"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PGSYSCONFDIR", str(tmp_path))
    monkeypatch.setenv("LC_ALL", "C")
    return LIBPQ


def ours(text: str) -> dict[str, str] | str:
    try:
        return dict(parse_conninfo(text).values)
    except WrongUsage as error:
        return error.message


# The refusals that libpq does not have: see the module's docstring.
_FOR_SECRECY = re.compile(
    'unescaped "@"|invalid port number in the URI|what looks like a password|no host name'
)


def assert_same(libpq: Libpq, text: str) -> None:
    theirs, mine = libpq.parse(text), ours(text)
    if isinstance(mine, str) and _FOR_SECRECY.search(mine):
        return
    if isinstance(theirs, str):
        assert isinstance(mine, str), f"libpq refuses {text!r}: {theirs}"
        assert mine.split()[:2] == theirs.split()[:2], f"{text!r}: {theirs}"
    else:
        assert mine == theirs, repr(text)


# What a connection string says


@needs_libpq
@pytest.mark.libpq
@pytest.mark.parametrize(
    "text",
    [
        "",
        "host=a port=80",
        "host = a   port\t=\n80",
        "host='a b' dbname='it\\'s' user=\\\\me",
        "host=a\\ b",
        "host=a\\",
        "host=a\\ ",
        "host='a'port=1",
        "host='' port=''",
        "host= port=1",
        "host=",
        "host=a host=b",
        "requiressl=1 host=a",
        "requiressl=0",
        "sslmode=require requiressl=yes",
        "host='a",
        "host='a\\'",
        "host host",
        "host a",
        "=a",
        "host=a b=c",
        "host=a Port=1",
        "password=two words host=a",
        "sslrootcert=C:\\Users\\me\\root.crt",
        "sslrootcert='C:\\Users\\me\\root.crt'",
        "sslrootcert=/a dir/root.crt",
        "sslmode=VERIFY-FULL",
        "postgresql://",
        "postgres://h",
        "POSTGRESQL://h=",
        "postgresql://u@h",
        "postgresql://u:p@h:1/d",
        "postgresql://u:@h",
        "postgresql://:p@h",
        "postgresql://@h",
        "postgresql://u%40o:p%2f%3A@h/prod%3Aall",
        "postgresql://h:1,i:2,j/d",
        "postgresql://h,i:2",
        "postgresql://,",
        "postgresql:///d",
        "postgresql:///d?host=/tmp&port=5433",
        "postgresql://%2Ftmp/d",
        "postgresql://[::1]:5/d",
        "postgresql://[::1],[fe80::1%25eth0]:6",
        "postgresql://[::1",
        "postgresql://[]",
        "postgresql://[::1]x",
        "postgresql://[a?b/c]/d",
        "postgresql://h?",
        "postgresql://h?sslmode=require&",
        "postgresql://h?&sslmode=require",
        "postgresql://h?sslmode=require&&user=u",
        "postgresql://h?ssl=true",
        "postgresql://h?ssl=false",
        "postgresql://h?SSL=true",
        "postgresql://h?ss%6C=tru%65",
        "postgresql://h?requiressl=1",
        "postgresql://h?user",
        "postgresql://h?user=a=b",
        "postgresql://h?uzer=a",
        "postgresql://h/%zz",
        "postgresql://h/%4",
        "postgresql://h/%",
        "postgresql://h/a%00",
        "postgresql://h/%ff",
        "postgresql://h/d?sslrootcert=C:%5Croot.crt",
        "postgresql://h/d?sslrootcert=C:\\root.crt",
        "postgresql://h/d?options=-c%20a",
        "postgresql://h/d+e?user=a+b",
        "postgresql://h/d#e",
    ],
)
def test_a_connection_string_means_what_libpq_says_it_means(libpq: Libpq, text: str) -> None:
    assert_same(libpq, text)


@needs_libpq
@pytest.mark.libpq
def test_the_comparison_sees_a_difference(libpq: Libpq) -> None:
    with pytest.raises(AssertionError):
        assert_same(libpq, "bare-host-name")  # ours is a host, libpq misses a "="


_WORDS = sorted(KEYWORDS & (LIBPQ.keywords if LIBPQ else KEYWORDS))
_KEY_VALUE_PIECES = st.sampled_from(
    [
        *_WORDS,
        *["=", "=", "=", " ", " ", "'", "'", "\\", "\t", "x", "é", "requiressl", "80", "nokey"],
    ]
)
_URI_PIECES = st.sampled_from(
    [
        *"@:/?&=,[]%+#/?&=",
        *("h", "80", "::1", "%41", "%2F", "%00", "%f", "%C3%A9", "é", "\\"),
        *("host", "port", "sslmode", "ssl", "true", "password", "user", "dbname", "nokey"),
    ]
)
_quick = settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@needs_libpq
@pytest.mark.libpq
@_quick
@given(st.lists(_KEY_VALUE_PIECES, max_size=14).map("".join))
@example("a=b\\ ")
def test_any_key_value_string_is_read_as_libpq_reads_it(libpq: Libpq, text: str) -> None:
    assert_same(libpq, "user=u " + text)


@needs_libpq
@pytest.mark.libpq
@_quick
@given(st.lists(_URI_PIECES, max_size=14).map("".join))
def test_any_uri_is_read_as_libpq_reads_it(libpq: Libpq, text: str) -> None:
    assert_same(libpq, "postgresql://" + text)


_values = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@needs_libpq
@pytest.mark.libpq
@_quick
@given(st.dictionaries(st.sampled_from(sorted(set(_WORDS) - {"sslmode"})), _values, max_size=4))
def test_libpq_reads_the_corrected_string_as_it_was_meant(
    libpq: Libpq, values: dict[str, str]
) -> None:
    kept = {name: value for name, value in values.items() if name not in SECRET_KEYWORDS}
    assert libpq.parse(corrected(Given(values))) == {**kept, "sslmode": "verify-full"}


@needs_libpq
@pytest.mark.libpq
def test_every_keyword_of_libpq_is_known(libpq: Libpq) -> None:
    assert libpq.keywords - KEYWORDS == set()


# Of libpq's words, those that are no setting of a connection: the password's variable is never
# looked at, and the user is the system's to tell.  A build without GSSAPI has another gssencmode.
PASSWORD_S_VARIABLE = "PGPASSWORD"
NOT_SHOWN_EITHER = {"scram_client_key", "scram_server_key"}
DEPENDS_ON_THE_BUILD = {"gssencmode"}


@pytest.mark.libpq
@pytest.mark.parametrize("major", YARDSTICK)
def test_every_keyword_variable_and_default_is_libpq_s(libpqs: Libpqs, major: int) -> None:
    try:
        options = libpqs[major].options()
    except ClientMissing as missing:
        pytest.skip(str(missing))
    assert options["sslmode"] == Option("PGSSLMODE", "prefer", secret=False)
    assert set(options) <= KEYWORDS
    if major == YARDSTICK[-1]:
        assert set(options) == KEYWORDS
        variables = {each.variable for each in options.values()} - {None, PASSWORD_S_VARIABLE}
        assert variables == VARIABLES - {"PGREQUIRESSL", "PGSERVICEFILE", "PGSYSCONFDIR"}
    defaults = resolve(Given()).values
    for keyword, option in options.items():
        secret = option.secret or keyword in NOT_SHOWN_EITHER
        assert (keyword in SECRET_KEYWORDS) is secret, keyword
        if keyword not in DEPENDS_ON_THE_BUILD:
            assert defaults.get(keyword) == option.default, keyword
        if option.variable is not None:
            given = {} if option.variable == PASSWORD_S_VARIABLE else {keyword: "x"}
            assert from_environment({option.variable: "x"}) == given


CHOOSING = ("channel_binding", "sslmode", "sslnegotiation", "sslcertmode", "gssencmode")
CHOICES = (*SSLMODES, "postgres", "direct", "Prefer", "on", "1", "")


@pytest.mark.libpq
@pytest.mark.parametrize("keyword", CHOOSING)
def test_a_keyword_takes_the_words_that_libpq_takes(libpqs: Libpqs, keyword: str) -> None:
    try:
        libpq17 = libpqs[17]
    except ClientMissing as missing:
        pytest.skip(str(missing))
    strict = "" if keyword == "sslmode" else " sslmode=require"
    taken = {True: 0, False: 0}
    for word in CHOICES:
        text = f"{CLOSED}{strict} {keyword}='{word}'"
        theirs = f"invalid {keyword} value" not in libpq17.connect(text).message.replace('"', "")
        mine = f"invalid {keyword} value" not in str(effective(text))
        assert mine is theirs, text
        taken[mine] += 1
    assert all(taken.values())


# What a connection would use


def effective(text: str) -> dict[str, str] | str:
    """What `resolve` makes of *text*, this process's environment and its service file."""
    given_ = parse_conninfo(text)
    try:
        service = service_of(given_, os.environ)
        section: Mapping[str, str] | None = None
        if service is not None:
            path = os.environ["PGSERVICEFILE"]
            section = parse_service_file(
                Path(path).read_text(encoding="utf-8", errors="surrogateescape"), service, path=path
            )
            if section is None:
                return f'definition of service "{service}" not found'
        return dict(resolve(given_, section, os.environ).values)
    except WrongUsage as error:
        return error.message


def assert_same_connection(libpq: Libpq, text: str) -> None:
    theirs, mine = libpq.connect(text), effective(text)
    if isinstance(theirs, str) or isinstance(mine, str):
        # libpq 15 has no quotes around the keyword in one message, 16 has.
        assert str(mine).replace('"', "") == str(theirs).replace('"', "")
        return
    # libpq fills in the user of the system and the database from it; the service is not part of
    # what PQconninfo tells, and of newer keywords this libpq knows nothing.
    known = libpq.keywords - SECRET_KEYWORDS - {"user", "dbname", "service", "passfile"}
    known -= {"hostaddr"} if "hostaddr" not in mine else set()
    assert {k: v for k, v in mine.items() if k in known and v} == {
        k: v for k, v in theirs.items() if k in known and v
    }


@needs_libpq
@pytest.mark.libpq
@pytest.mark.parametrize(
    ("text", "env"),
    [
        (CLOSED, {}),
        (CLOSED, {"PGSSLMODE": "verify-ca", "PGSSLROOTCERT": "/e", "PGSSLCRL": "/c"}),
        (CLOSED + " sslmode=allow sslrootcert=/s", {"PGSSLMODE": "require", "PGSSLROOTCERT": "/e"}),
        (CLOSED + " sslrootcert=''", {"PGSSLROOTCERT": "/e"}),
        (CLOSED, {"PGSSLMODE": ""}),
        (CLOSED, {"PGREQUIRESSL": "1"}),
        (CLOSED, {"PGREQUIRESSL": "yes"}),
        (CLOSED, {"PGREQUIRESSL": "1", "PGSSLMODE": "verify-ca"}),
        (CLOSED + " sslmode=VERIFY-FULL", {}),
        (CLOSED + " sslmode=verify_full", {}),
        (CLOSED + " sslmode=''", {}),
        (CLOSED + " gssencmode=no", {}),
        (CLOSED + " channel_binding=no", {}),
        (CLOSED + " ssl_min_protocol_version=SSLv3", {}),
        (CLOSED + " ssl_min_protocol_version=tlsv1.3 ssl_max_protocol_version=TLSv1.2", {}),
        (CLOSED + " ssl_min_protocol_version=TLSv1.1 ssl_max_protocol_version=TLSv1", {}),
        (CLOSED + " ssl_min_protocol_version=TLSv1 ssl_max_protocol_version=TLSv1", {}),
        (CLOSED + " ssl_min_protocol_version='' ssl_max_protocol_version=''", {}),
        (CLOSED, {"PGSSLMINPROTOCOLVERSION": "TLSv1.3", "PGSSLSNI": "0", "PGSSLCERT": "/n"}),
        (CLOSED, {"PGHOST": "elsewhere", "PGPORT": "9", "PGUSER": "u", "PGDATABASE": "d"}),
        ("", {"PGHOST": "127.0.0.1", "PGPORT": "1", "PGGSSENCMODE": "disable"}),
        ("", {"PGHOSTADDR": "127.0.0.1", "PGHOST": "name", "PGPORT": "1"}),
        ("host=127.0.0.1,127.0.0.1 port=1,1", {}),
        ("host=127.0.0.1,127.0.0.1 port=1", {}),
        ("host=127.0.0.1,127.0.0.1 port=1,", {}),
        ("host=127.0.0.1,127.0.0.1 port=1,1,1", {}),
        ("host=127.0.0.1,127.0.0.1,127.0.0.1 port=1,1", {}),
        ("host=a,b hostaddr=127.0.0.1 port=1", {}),
        ("host=a hostaddr=127.0.0.1,127.0.0.1 port=1", {}),
        ("hostaddr=127.0.0.1,127.0.0.1 port=1,1,1", {}),
        ("host=/nonexistent,127.0.0.1 port=1", {}),
        ("port=1,2", {}),
        ("host=127.0.0.1 port=0", {}),
        ("host=127.0.0.1 port=65536", {}),
        ("host=127.0.0.1 port=-1", {}),
        ("host=127.0.0.1 port=1x", {}),
        ("host=127.0.0.1 port=' +1 '", {}),
        ("host=127.0.0.1 port=99999999999", {}),
        ("host=a,b hostaddr=127.0.0.1 port=1,1 sslmode=no", {}),
    ],
)
def test_settings_and_refusals_are_those_of_a_connection(
    libpq: Libpq, monkeypatch: pytest.MonkeyPatch, text: str, env: dict[str, str]
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert_same_connection(libpq, text)


SERVICE_FILES = {
    "plain": "[s]\nhost=127.0.0.1\nport=1\nsslmode=verify-ca\nsslrootcert=/svc\n",
    "first of two": "[s]\nhost=127.0.0.1\nport=1\n[s]\nsslmode=disable\n",
    "first setting counts": "[s]\nhost=127.0.0.1\nport=1\nsslmode=allow\nsslmode=require\n",
    "blanks around lines": "\n  # comment\n\t[s] and more \n  host=127.0.0.1 \r\n port=1\n",
    "literal quotes": "[s]\nhost=127.0.0.1\nport=1\nsslrootcert='/a b' # no comment\n",
    "backslashes": "[s]\nhost=127.0.0.1\nport=1\nsslrootcert=C:\\Users\\me\n",
    "empty value": "[s]\nhost=127.0.0.1\nport=1\nsslrootcert=\n",
    "empty sslmode": "[s]\nhost=127.0.0.1\nport=1\nsslmode=\n",
    "empty section": "[s]\n",
    "no such section": "[t]\nhost=127.0.0.1\n",
    "longer name": "[ss]\nhost=127.0.0.1\n",
    "prefix": "[s\nhost=127.0.0.1\n",
    "spaces around =": "[s]\nhost=127.0.0.1\nsslmode = require\n",
    "no =": "[s]\nhost\n",
    "unknown": "[s]\nhostt=a\n",
    "requiressl": "[s]\nrequiressl=1\n",
    "nested": "[s]\nservice=t\n",
    "damage elsewhere": "nonsense\n[t]\nmore = nonsense\n[s]\nhost=127.0.0.1\nport=1\n",
    "damage after": "[s]\nhost=127.0.0.1\nport=1\n[t]\nmore = nonsense\n",
    "longest line": f"[s]\nhost=127.0.0.1\nport=1\n#{'x' * 1020}\n",
    "longest line without an end": f"[s]\nhost=127.0.0.1\nport=1\n#{'x' * 1021}",
    "line too long": f"[s]\nhost=127.0.0.1\nport=1\n#{'x' * 1021}\n",
    "line too long, in bytes": f"[s]\nhost=127.0.0.1\nport=1\n#{'é' * 511}\n",
    "line too long without an end": f"[s]\nhost=127.0.0.1\nport=1\n#{'x' * 1022}",
    "line too long, before": f"#{'x' * 1022}\n[s]\nhost=127.0.0.1\nport=1\n",
    "line too long, after": f"[s]\nhost=127.0.0.1\nport=1\n[t]\n#{'x' * 1022}\n",
    "byte order mark": "\ufeff[s]\nhost=127.0.0.1\nport=1\n",
    "weak": "[s]\nhost=127.0.0.1\nport=1\nsslmode=no\n",
}


@needs_libpq
@pytest.mark.libpq
@pytest.mark.parametrize("content", SERVICE_FILES.values(), ids=SERVICE_FILES)
@pytest.mark.parametrize("text", ["service=s", "service=s sslmode=require sslrootcert=''", ""])
def test_a_service_file_is_read_as_libpq_reads_it(
    libpq: Libpq, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str, text: str
) -> None:
    file = tmp_path / "services"
    file.write_bytes(content.encode())
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    monkeypatch.setenv("PGHOST", "/nonexistent")
    monkeypatch.setenv("PGPORT", "2")
    monkeypatch.setenv("PGSSLROOTCERT", "/env")
    if not text:
        monkeypatch.setenv("PGSERVICE", "s")
    assert_same_connection(libpq, text)


PGPASS = {
    "plain": "h.example:80:*:u:found",
    "any port": "h.example:*:*:*:found",
    "escaped colon": "fe80\\:\\:1:80:*:*:found",
    "escaped backslash": "a\\\\b:80:*:*:found",
    "escaped letter": "\\h:80:*:*:found",
    "escaped star": "\\*:80:*:*:found",
    "star and more": "*h:80:*:*:found",
    "carriage return": "h:80:*:*:found\r",
    "socket": "/nonexistent:80:*:*:found",
    "more fields": "h:80:*:*:found:more",
    "escaped colon further on": "h:80:a\\:b:*:found",
}


@needs_libpq
@pytest.mark.libpq
@pytest.mark.parametrize("line", PGPASS.values(), ids=PGPASS)
def test_a_host_of_pgpass_is_one_that_libpq_finds(libpq: Libpq, tmp_path: Path, line: str) -> None:
    file = tmp_path / "pgpass"
    file.write_text(line + "\n")
    file.chmod(0o600)
    ((host, port),) = pgpass_hosts(line + "\n")

    def found(name: str) -> str:
        values = {"host": name, "port": str(port or 80), "hostaddr": "127.0.0.1"}
        values |= {"user": "u", "dbname": "a:b", "passfile": str(file)}
        return libpq.password(corrected(Given(values), "disable"))

    assert found(host) == "found"
    assert found(host + "x") == ""


@needs_libpq
@pytest.mark.libpq
@pytest.mark.parametrize("line", ["#h:80:*:*:found", "h:80:*:found", "", ":80:*:*:found"])
def test_a_line_of_pgpass_that_is_passed_over_is_none_for_libpq(
    libpq: Libpq, tmp_path: Path, line: str
) -> None:
    file = tmp_path / "pgpass"
    file.write_text(line + "\n")
    file.chmod(0o600)
    assert pgpass_hosts(line) == ()
    given_ = Given({"host": "h", "hostaddr": "127.0.0.1", "port": "80", "passfile": str(file)})
    assert libpq.password(corrected(given_, "disable")) == ""


# What psql makes of its command line


def the_shell_gives(command: str) -> list[str]:
    script = f'psql() {{ printf "%s\\0" "$@"; }}\n{command}\n'
    shell = subprocess.run(["sh", "-c", script], capture_output=True, check=True, text=True)
    return shell.stdout.split("\0")[:-1]


COMMANDS = [
    "psql 'host=127.0.0.1 port=1'",
    'psql "host=127.0.0.1 port=1"',
    "psql -h 127.0.0.1 -p 1 -U u -d db",
    "psql -h127.0.0.1 -p1 db u",
    "psql --host=127.0.0.1 --port 1 --username=u --dbname db",
    "psql -Xqh 127.0.0.1 -p 1",
    "psql -h elsewhere -p 2 'host=127.0.0.1 port=1'",
    "psql -h elsewhere -d postgresql://127.0.0.1:1/db",
    "psql -p 1 host=127.0.0.1",
    "psql -h 127.0.0.1 -p 1 -c 'select 1' -v a=b",
    "psql -h '' -d 'host=127.0.0.1 port=1'",
    "psql -h 127.0.0.1 \\\n  -p 1",
    "psql 'host=127.0.0.1 port=1' u extra",
    "PGPORT=1 PGSSLMODE=require psql -h 127.0.0.1",
    "PGHOST='127.0.0.1' psql -p 1",
    "psql -h 127.0.0.1 -p 1 >/dev/null",
    'psql host="127.0"".0.1"\\ port=1',
    "psql -- 'host=127.0.0.1 port=1'",
]


@needs_psql
@pytest.mark.psql
@pytest.mark.parametrize("command", COMMANDS)
def test_psql_goes_where_its_pasted_command_is_said_to_go(command: str) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    shell = subprocess.run(
        ["sh", "-c", command],
        capture_output=True,
        text=True,
        env={**clean, "LC_ALL": "C"},
        check=False,
    )
    (server,) = resolve(parse_conninfo(command)).servers
    assert f'at "{server.host}", port {server.port} failed' in shell.stderr


@needs_psql
@pytest.mark.psql
def test_psql_says_where_it_goes() -> None:
    """The control of the test above: its message does depend on the port."""
    shell = subprocess.run(
        ["psql", "host=127.0.0.1 port=3"], capture_output=True, text=True, check=False
    )
    assert 'at "127.0.0.1", port 3 failed' in shell.stderr
    assert "port 1 failed" not in shell.stderr


_SHELL_PIECES = st.sampled_from(
    [*"abc:/.", " ", " ", "'", "'", '"', '"', "\\", "\\\n", "host=h", "port=1", "-h ", "-p 1", "é"]
)


@needs_psql
@pytest.mark.psql
@settings(max_examples=150, deadline=None)
@given(st.lists(_SHELL_PIECES, max_size=8).map("".join))
def test_words_are_split_as_the_shell_splits_them(text: str) -> None:
    # The shell would wait for the next line, or take it for the next command.
    assume(not text.endswith("\\") and "\\\\\n" not in text)
    command = f"psql {text}"
    try:
        words = the_shell_gives(command)
    except subprocess.CalledProcessError:
        return  # unterminated: the shell would wait for more
    assert ours(command) == ours(f"psql {shlex.join(words)}")


@needs_psql
@pytest.mark.psql
@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["user", "dbname", "sslrootcert"]),
        st.text(st.sampled_from("ab '\"\\$`!{*é"), max_size=8),
    )
)
def test_the_corrected_command_survives_the_shell(values: dict[str, str]) -> None:
    given_ = Given({"host": "h", **values})
    assert the_shell_gives(corrected_psql(given_)) == [corrected(given_)]


SETTINGS = {"HOSTNAME": "host", "PORT": "port", "USERNAME": "user", "DBNAME": "dbname"}


def options_of_psql() -> Iterator[tuple[str, str]]:
    """Each option that psql's own help names, and what it calls the argument ("" without one)."""
    shown = subprocess.run(["psql", "--help"], capture_output=True, text=True, check=True).stdout
    for line in re.findall("^ +(-.*)", shown, re.MULTILINE):
        named = re.search("=([A-Z]+)", line)
        argument = named[1] if named else ""
        for option in re.findall(r"(?<![\w-])(--[a-z-]+|-[\w?])(?=[=,\[ ]|$)", line.split("  ")[0]):
            yield option, argument


@needs_psql
def test_every_option_of_psql_is_known_with_its_argument() -> None:
    options = dict(options_of_psql())
    assert {"-h", "--host", "-W", "--set", "-?", "--echo-all", "--record-separator"} <= set(options)
    assert (options["-U"], options["--csv"], options["--help"]) == ("USERNAME", "", "")
    for option, argument in options.items():
        forms = [option]
        if argument:
            forms = [f"{option} 54", f"{option}{'=' if option.startswith('--') else ''}54"]
        keyword = SETTINGS.get(argument)
        for form in forms:
            expected = {keyword: "54"} if keyword else {"application_name": "a"}
            rest = "" if keyword else " application_name=a"
            assert parse_conninfo(f"psql {form}{rest}").values == expected, form
    with pytest.raises(WrongUsage, match="an option that psql does not have"):
        parse_conninfo("psql --no-such")
