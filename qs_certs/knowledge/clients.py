"""Clients and drivers: whether the root file matters to each, and what does where it does not.

One entry per client; a driver whose behaviour changed has one per range of versions.
"""

from __future__ import annotations

from typing import Literal

from qs_certs.knowledge.messages import fold
from qs_certs.values import Value

System = Literal["linux", "macos", "windows"]
Proof = Literal["tested", "tried", "source", "documentation"]
"""How a row is known, the best first: `tests/matrix` runs it with a real server every time; it was
run once, by hand; its source was read; its documentation was."""

_ALL_BUT_DISABLE = ("allow", "prefer", "require", "verify-ca", "verify-full")
_FROM_REQUIRE = ("require", "verify-ca", "verify-full")
_VERIFY_ONLY = ("verify-ca", "verify-full")
_NEVER: tuple[str, ...] = ()


class OnSystem(Value):
    """How one client behaves on one system.

    *sslmodes* are those in which it judges the server by the root file; none: it never reads it.
    *set_instead* is what to set for a verified connection, in place of or beside the file.
    """

    looks_in: str
    sslmodes: tuple[str, ...]
    set_instead: str
    runs_here: bool = True

    @property
    def root_file_matters(self) -> bool:
        return bool(self.sslmodes)


class Client(Value):
    """A client or driver.

    *tested* holds the versions that `tests/matrix` runs, by their first numbers; *evidence* tells
    the rest of how we know, and begins with the word for it: see Proof.
    """

    slug: str
    name: str
    driver: str
    versions: str
    linux: OnSystem
    macos: OnSystem
    windows: OnSystem
    verified_when: str
    evidence: str
    aliases: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    query_service: bool = False
    """Adobe's guides for Query Service name it."""
    tested: tuple[str, ...] = ()

    @property
    def proven(self) -> Proof:
        """How this row is known."""
        words: tuple[Proof, ...] = ("tested", "tried", "source", "documentation")
        return next(word for word in words if self.evidence.startswith(word))

    def on(self, system: System) -> OnSystem:
        """The behaviour on *system*."""
        return {"linux": self.linux, "macos": self.macos, "windows": self.windows}[system]


def find_client(text: str) -> tuple[Client, ...]:
    """The clients that *text* names: by slug, name or alias; else by driver; else by part of these.

    Case does not matter, and punctuation only where it tells libpq from lib/pq.  `npgsql` finds
    every range of its versions.
    """
    wanted = fold(text)
    if not wanted:
        return ()
    typed = text.strip().casefold()
    return (
        tuple(client for client in CLIENTS if typed in (client.slug, *client.aliases))
        or tuple(client for client in CLIENTS if wanted in _names(client))
        or tuple(client for client in CLIENTS if wanted == fold(client.driver))
        or tuple(
            client
            for client in CLIENTS
            if len(wanted) > 2
            and any(wanted in name for name in (*_names(client), fold(client.driver)))
        )
    )


def _names(client: Client) -> tuple[str, ...]:
    return tuple(map(fold, (client.slug, client.name, *client.aliases)))


def _everywhere(one: OnSystem) -> tuple[OnSystem, OnSystem, OnSystem]:
    return one, one, one


_NOT_HERE = OnSystem("", _NEVER, "Does not run on this system.", runs_here=False)
_PROOF = (
    "In verify-full a connection that succeeds is verified. Counter-check: with the root file "
    "set to /missing.crt it must fail."
)

# --- libpq: everything that links it looks alike ---


def _libpq(set_instead: str) -> tuple[OnSystem, OnSystem, OnSystem]:
    posix = OnSystem(
        "~/.postgresql/root.crt; from libpq 15 on HOME decides, before that the password database",
        _ALL_BUT_DISABLE,
        set_instead,
    )
    windows = OnSystem(
        "postgresql\\root.crt in the roaming folder, asked of Windows and not of APPDATA",
        _ALL_BUT_DISABLE,
        set_instead,
    )
    return posix, posix, windows


_LIBPQ = (
    Client(
        "psql",
        "psql",
        "libpq",
        "9.6 to 18",
        *_libpq("sslmode=verify-full; PGSSLROOTCERT or sslrootcert for another file"),
        _PROOF + " The banner's SSL line only says that the session is encrypted.",
        "tested: 15 on Linux; tried: 13.16, 15.18, 17.11, 18.6; source for macOS and Windows",
        notes=(
            "Query Service's copied command says require: change it to verify-full.",
            "From version 12 on also set PGGSSENCMODE=disable for Query Service.",
        ),
        query_service=True,
        tested=("15",),
    ),
    Client(
        "libpq",
        "libpq",
        "libpq",
        "9.6 to 18",
        *_libpq("sslmode=verify-full; PGSSLROOTCERT or sslrootcert for another file"),
        _PROOF,
        "tested: 13.3 to 18.6 on Linux; tried: 9.6.2 to 12; source for macOS and Windows",
        notes=(
            "Once the file exists, every mode but disable checks the chain.",
            "Only verify-full checks the name.",
            "After a failed check prefer, the default, goes on in plaintext if the server lets it.",
            "sslrootcert=system needs libpq 16 and a build that knows the system's roots.",
        ),
        tested=("13", "14", "15", "16", "17", "18"),
    ),
    Client(
        "psycopg",
        "psycopg 3",
        "libpq",
        "3.1 and later",
        *_libpq("sslmode='verify-full' among the connection arguments"),
        _PROOF,
        "tested: with the libpq 18 of its wheel on Linux; tried: wheels of 3.1 and 3.2",
        aliases=("psycopg3", "psycopg-binary"),
        notes=("sslrootcert=system fails with the libpq in wheels unless SSL_CERT_FILE is set.",),
        tested=("3.3",),
    ),
    Client(
        "psycopg2",
        "psycopg2",
        "libpq",
        "2.7 and later",
        *_libpq("sslmode='verify-full' among the connection arguments"),
        _PROOF,
        "tested: with the libpq 17 of its wheel on Linux; tried: wheels from 2.7 on",
        aliases=("psycopg2-binary", "python", "aepp"),
        notes=("psycopg2-binary brings its own libpq, so psql's version says nothing about it.",),
        query_service=True,
        tested=("2.9",),
    ),
    Client(
        "sqlalchemy",
        "SQLAlchemy",
        "libpq through psycopg or psycopg2",
        "with either of the two",
        *_libpq("connect_args={'sslmode': 'verify-full'}"),
        _PROOF,
        "tested: over psycopg2 on Linux",
        notes=("With asyncpg or pg8000 as driver, see these.",),
        query_service=True,
        tested=("2",),
    ),
    Client(
        "jupyter",
        "Jupyter Notebook",
        "libpq through psycopg2",
        "with psycopg2",
        *_libpq("sslmode=verify-full in the string for psycopg2.connect"),
        _PROOF,
        "documentation; libpq itself tested",
        aliases=("jupyterlab", "notebook"),
        notes=("The file must be where the kernel runs: on a hosted notebook, not your laptop.",),
        query_service=True,
    ),
    Client(
        "rstudio-rpostgres",
        "RStudio with RPostgres",
        "libpq",
        "any RPostgres",
        *_libpq("sslmode = 'verify-full' in dbConnect"),
        _PROOF,
        "documentation; libpq itself tested",
        aliases=("rpostgres", "rstudio", "r"),
        query_service=True,
    ),
    Client(
        "rpostgresql",
        "R RPostgreSQL",
        "libpq",
        "any",
        *_libpq("dbname = 'host=... sslmode=verify-full' in dbConnect, or PGSSLMODE"),
        _PROOF,
        "tested: on Linux, with the libpq of the system",
        notes=(
            "It has no argument for sslmode; a dbname with an equals sign goes to libpq whole.",
        ),
        tested=("0.7",),
    ),
    Client(
        "psqlodbc",
        "psqlODBC",
        "libpq",
        "13 to 18",
        *_libpq("SSLmode=verify-full in the DSN; pqopt={sslrootcert=...}"),
        _PROOF,
        "tested: 13.02 on Linux; tried: 17.00.0004, 18.00.0005",
        aliases=("odbc", "unixodbc", "postgresql-odbc"),
        notes=(
            "Its default mode is disable, and PGSSLMODE never applies.",
            "A plain sslrootcert attribute is silently ignored.",
        ),
        tested=("13.02",),
    ),
    Client(
        "excel",
        "Excel through psqlODBC",
        "libpq through psqlODBC",
        "with psqlODBC",
        _NOT_HERE,
        *_libpq("SSLmode=verify-full in the DSN")[1:],
        _PROOF,
        "documentation; psqlODBC itself tested",
        aliases=("microsoft excel",),
        notes=(
            "Power Query's own PostgreSQL connector in Excel uses Npgsql: see power-bi.",
            "A 32-bit Excel needs the 32-bit driver; both read the same file.",
        ),
    ),
    Client(
        "pgadmin",
        "pgAdmin 4",
        "libpq",
        "4",
        *_libpq("Parameters: SSL mode verify-full"),
        _PROOF,
        "documentation; libpq itself tested",
        notes=("Query Service does not support pgAdmin.",),
    ),
    Client(
        "dbd-pg",
        "Perl DBD::Pg",
        "libpq",
        "any",
        *_libpq("sslmode=verify-full in the DSN"),
        _PROOF,
        "tested: on Linux, with the libpq of the system",
        aliases=("perl",),
        tested=("3.16",),
    ),
    Client(
        "ruby-pg",
        "Ruby pg",
        "libpq",
        "any",
        *_libpq("sslmode: 'verify-full' for PG.connect"),
        _PROOF,
        "tested: on Linux, with the libpq of the system",
        aliases=("ruby", "rails", "activerecord"),
        tested=("1.4",),
    ),
    Client(
        "php",
        "PHP pgsql and PDO",
        "libpq",
        "any",
        *_libpq("sslmode=verify-full in the connection string"),
        _PROOF,
        "tested: pg_connect and PDO on Linux, with the libpq of the system",
        aliases=("pdo", "pdo_pgsql", "laravel"),
        notes=("Under a web server the home is the server's, often /var/www: name the file.",),
        tested=("8.2",),
    ),
)

# --- pgjdbc ---


def _pgjdbc(set_instead: str) -> tuple[OnSystem, OnSystem, OnSystem]:
    posix = OnSystem(
        "~/.postgresql/root.crt in Java's user.home; HOME is not looked at",
        _VERIFY_ONLY,
        set_instead,
    )
    windows = OnSystem(
        "postgresql\\root.crt in the folder that APPDATA names", _VERIFY_ONLY, set_instead
    )
    return posix, posix, windows


_JAVA_STORE = (
    "sslfactory=org.postgresql.ssl.DefaultJavaSSLFactory takes Java's own roots instead of the "
    "file."
)
_REQUIRE_VERIFIES_NOTHING = "require, as Adobe's guide has it, verifies nothing here."

_PGJDBC = (
    Client(
        "pgjdbc",
        "PostgreSQL JDBC driver",
        "pgjdbc",
        "42.2 and later",
        *_pgjdbc("sslmode=verify-full; sslrootcert for another file"),
        _PROOF,
        "tested: 42.5 on Linux; tried: 42.2.15, 42.7.7, 42.7.14; source for Windows",
        aliases=("jdbc", "postgresql-jdbc", "java"),
        notes=(
            "Reads none of the PGSSL* variables.",
            "Takes DER, PKCS #7, and a leaf or an intermediate as root, which libpq does not.",
            (
                "Refuses a byte order mark, a private key and most TRUSTED CERTIFICATE blocks, which "
                "libpq takes."
            ),
            "ssl=true without an sslmode means verify-full.",
            _JAVA_STORE,
        ),
        tested=("42.5",),
    ),
    Client(
        "dbvisualizer",
        "DbVisualizer",
        "pgjdbc",
        "any",
        *_pgjdbc("Driver properties: sslmode = verify-full"),
        _PROOF,
        "documentation; pgjdbc itself tested",
        aliases=("dbvis", "dbvisulaizer"),
        notes=(_REQUIRE_VERIFIES_NOTHING, "With ssl=1 and an empty sslmode it is verify-full."),
        query_service=True,
    ),
    Client(
        "aqua-data-studio",
        "Aqua Data Studio",
        "pgjdbc",
        "any",
        *_pgjdbc("Driver tab, Parameters: ?sslmode=verify-full"),
        _PROOF,
        "documentation; pgjdbc itself tested",
        aliases=("ads", "aqua"),
        notes=(
            _REQUIRE_VERIFIES_NOTHING,
            "Its maker points to the certificate store of the Java that it brings along.",
        ),
        query_service=True,
    ),
    Client(
        "dbeaver",
        "DBeaver",
        "pgjdbc",
        "any",
        *_pgjdbc("SSL tab: SSL mode verify-full"),
        _PROOF,
        "source; pgjdbc itself tested",
        notes=("SSL without a chosen mode already means verify-full.",),
    ),
    Client(
        "datagrip",
        "DataGrip",
        "pgjdbc",
        "any",
        *_pgjdbc("SSH/SSL: mode Verify Full, CA file root.crt"),
        _PROOF,
        "documentation; pgjdbc itself tested",
        aliases=("intellij", "jetbrains"),
    ),
    Client(
        "rstudio-rjdbc",
        "RStudio with RJDBC",
        "pgjdbc",
        "any",
        *_pgjdbc("sslmode=verify-full in the JDBC URL"),
        _PROOF,
        "documentation; pgjdbc itself tested",
        aliases=("rjdbc", "rstudio", "r"),
        notes=(_REQUIRE_VERIFIES_NOTHING,),
        query_service=True,
    ),
    Client(
        "looker",
        "Looker",
        "pgjdbc",
        "hosted or self-hosted",
        OnSystem(
            "the home of the account that runs Looker's server, not your machine",
            _NEVER,
            "Additional parameters on the server: sslmode=verify-full and its own root file",
        ),
        OnSystem(
            "nothing on your Mac: Looker runs in a browser", _NEVER, "See Linux: the server's"
        ),
        OnSystem("nothing on your PC: Looker runs in a browser", _NEVER, "See Linux: the server's"),
        "Not as shipped: its usual setting accepts any certificate.",
        "documentation",
        notes=("The server's administrator decides.",),
        query_service=True,
    ),
    Client(
        "tableau",
        "Tableau Desktop",
        "pgjdbc",
        "connectors with JDBC; older ones use psqlODBC",
        _NOT_HERE,
        OnSystem(
            "its own settings, then the keychain; not root.crt",
            _NEVER,
            "Require SSL encrypts; for verification give Tableau the root as its JDBC guide says",
        ),
        OnSystem(
            "its own settings, then the Windows certificate store; not root.crt",
            _NEVER,
            "Require SSL encrypts; for verification give Tableau the root as its JDBC guide says",
        ),
        "Not with Require SSL alone, which is sslmode=require.",
        "documentation",
        aliases=("tableau desktop", "tableau server", "tableau prep"),
        notes=("Tableau Server on Linux judges by its own Java's roots.",),
        query_service=True,
    ),
)

# --- Npgsql ---

_WINDOWS_STORE = (
    "Import the root into Trusted Root Certification Authorities: "
    "qs-certs roots --pem digicert-global-root-g2, then certutil -user -addstore Root"
)
_NPGSQL_POSIX = "~/.postgresql/root.crt by HOME alone"
_NPGSQL_WINDOWS = "postgresql\\root.crt in the folder that APPDATA names"
_NPGSQL_SET = "SSL Mode=VerifyFull; Root Certificate or PGSSLROOTCERT for another file"

_NPGSQL = (
    Client(
        "power-bi",
        "Power BI Desktop and gateway",
        "Npgsql 4.0",
        "Desktop since December 2019, gateway since June 2025",
        _NOT_HERE,
        _NOT_HERE,
        OnSystem("the Windows certificate store only; never root.crt", _NEVER, _WINDOWS_STORE),
        "It always verifies when the connection is encrypted: an untrusted root is an error.",
        "source: Npgsql 4.0.17; documentation",
        aliases=("powerbi", "pbi", "power query", "power bi desktop"),
        notes=(
            "Give the server with its port: <host>:80.",
            "The gateway runs under an account of its own: import for the machine there.",
        ),
        query_service=True,
    ),
    Client(
        "npgsql-4",
        "Npgsql 4",
        "Npgsql",
        "up to 4.1",
        OnSystem("the system's roots; never root.crt", _NEVER, "Add the root to the system's"),
        OnSystem("the keychain; never root.crt", _NEVER, "Add the root to the keychain"),
        OnSystem("the Windows certificate store; never root.crt", _NEVER, _WINDOWS_STORE),
        "SSL Mode=Require without Trust Server Certificate verifies.",
        "source: 4.0.17, 4.1.14",
        aliases=("npgsql", ".net"),
    ),
    Client(
        "npgsql-5",
        "Npgsql 5",
        "Npgsql",
        "5",
        OnSystem(
            _NPGSQL_POSIX + ", which helps to build the chain but trusts nothing",
            _NEVER,
            "Add the root to the system's",
        ),
        OnSystem(
            _NPGSQL_POSIX + ", which helps to build the chain but trusts nothing",
            _NEVER,
            "Add the root to the keychain",
        ),
        OnSystem(
            _NPGSQL_WINDOWS + ", which helps to build the chain but trusts nothing",
            _NEVER,
            _WINDOWS_STORE,
        ),
        "SSL Mode=Require without Trust Server Certificate verifies.",
        "source: 5.0.18",
        aliases=("npgsql", ".net"),
    ),
    Client(
        "npgsql-6",
        "Npgsql 6 to 9",
        "Npgsql",
        "6 to 9",
        OnSystem(_NPGSQL_POSIX + ", beside the system's roots", _VERIFY_ONLY, _NPGSQL_SET),
        OnSystem(_NPGSQL_POSIX + ", beside the keychain", _VERIFY_ONLY, _NPGSQL_SET),
        OnSystem(
            _NPGSQL_WINDOWS + ", beside the Windows certificate store", _VERIFY_ONLY, _NPGSQL_SET
        ),
        "In VerifyFull a connection that succeeds is verified.",
        "source: 6.0.13, 9.0.5",
        aliases=("npgsql", ".net"),
        notes=("6 and 7 refuse Require unless told to trust any certificate: use VerifyFull.",),
    ),
    Client(
        "npgsql-10",
        "Npgsql 10",
        "Npgsql",
        "10 and later",
        OnSystem(_NPGSQL_POSIX + "; alone, once it exists", _VERIFY_ONLY, _NPGSQL_SET),
        OnSystem(_NPGSQL_POSIX + "; alone, once it exists", _VERIFY_ONLY, _NPGSQL_SET),
        OnSystem(_NPGSQL_WINDOWS + "; alone, once it exists", _VERIFY_ONLY, _NPGSQL_SET),
        "In VerifyFull a connection that succeeds is verified.",
        "source: 10.0.0",
        aliases=("npgsql", ".net"),
        notes=("A root.crt that lacks a server's root now breaks what worked with 9.",),
    ),
)

# --- Go, Python without libpq, Node, others ---

_GO_SET = "sslmode=verify-full; sslrootcert or PGSSLROOTCERT for another file"
_SSL_CONTEXT = "ssl_context=ssl.create_default_context(cafile=...)"
_NODE_SET = "ssl: {ca: fs.readFileSync('<file>')}, or NODE_EXTRA_CA_CERTS=<file>"

_OTHERS = (
    Client(
        "pgx",
        "Go pgx",
        "pgx",
        "5",
        OnSystem("~/.postgresql/root.crt by the password database", _FROM_REQUIRE, _GO_SET),
        OnSystem("~/.postgresql/root.crt by the password database", _FROM_REQUIRE, _GO_SET),
        OnSystem("postgresql\\root.crt in the folder that APPDATA names", _FROM_REQUIRE, _GO_SET),
        _PROOF,
        "tried: 5.5.0 and 5.9.2 on Linux; source for macOS and Windows",
        aliases=("go", "golang"),
        notes=(
            "Without a root file verify-full takes the system's roots.",
            "A root file without any usable certificate breaks every mode, from 5.9 even disable.",
            "Skips a damaged block where libpq gives up the whole file.",
            "Takes a leaf or an intermediate as root, which libpq does not.",
        ),
    ),
    Client(
        "pgx-4",
        "Go pgx 4",
        "pgx",
        "4",
        OnSystem("~/.postgresql/root.crt by the password database", _FROM_REQUIRE, _GO_SET),
        OnSystem("~/.postgresql/root.crt by the password database", _FROM_REQUIRE, _GO_SET),
        OnSystem("postgresql\\root.crt in the folder that APPDATA names", _FROM_REQUIRE, _GO_SET),
        _PROOF,
        "tested: 4.15 on Linux; source for macOS and Windows",
        aliases=("go", "golang"),
        notes=(
            "Without a root file verify-full takes the system's roots.",
            "A root file without any usable certificate breaks every mode but disable.",
            "With allow it does not get as far as TLS where the server refuses plaintext.",
            "Skips a damaged block where libpq gives up the whole file.",
            "Takes a leaf or an intermediate as root, which libpq does not.",
        ),
        tested=("4.15",),
    ),
    Client(
        "lib-pq",
        "Go lib/pq",
        "lib/pq",
        "1.12 and later",
        OnSystem("~/.postgresql/root.crt by HOME", ("prefer", *_FROM_REQUIRE), _GO_SET),
        OnSystem("~/.postgresql/root.crt by HOME", ("prefer", *_FROM_REQUIRE), _GO_SET),
        OnSystem(
            "postgresql\\root.crt in the folder that APPDATA names",
            ("prefer", *_FROM_REQUIRE),
            _GO_SET,
        ),
        _PROOF,
        "tried: 1.12.3 on Linux; source for macOS and Windows",
        aliases=("lib/pq", "go", "golang"),
        notes=("The default file counts only when sslmode is given explicitly.",),
    ),
    Client(
        "lib-pq-1.11",
        "Go lib/pq before 1.12",
        "lib/pq",
        "up to 1.11",
        OnSystem(
            "no file by default; sslrootcert, else the system's roots",
            _NEVER,
            "sslmode=verify-full; sslrootcert or PGSSLROOTCERT to name the file",
        ),
        OnSystem(
            "no file by default; sslrootcert, else the keychain",
            _NEVER,
            "sslmode=verify-full; sslrootcert or PGSSLROOTCERT to name the file",
        ),
        OnSystem(
            "no file by default; sslrootcert, else the Windows certificate store",
            _NEVER,
            "sslmode=verify-full; sslrootcert or PGSSLROOTCERT to name the file",
        ),
        "In verify-full a connection that succeeds is verified.",
        "tested: 1.10 on Linux; tried: 1.11.2",
        aliases=("lib/pq", "lib-pq", "go", "golang"),
        notes=("With sslrootcert given, require checks the chain, too.",),
        tested=("1.10",),
    ),
    Client(
        "asyncpg",
        "asyncpg",
        "asyncpg",
        "0.25 and later",
        OnSystem(
            "~/.postgresql/root.crt by HOME",
            _FROM_REQUIRE,
            "sslmode=verify-full in the DSN, or PGSSLMODE",
        ),
        OnSystem(
            "~/.postgresql/root.crt by HOME",
            _FROM_REQUIRE,
            "sslmode=verify-full in the DSN, or PGSSLMODE",
        ),
        OnSystem(
            ".postgresql\\root.crt in the user's profile folder, not in AppData",
            _FROM_REQUIRE,
            "qs-certs install --also %USERPROFILE%\\.postgresql\\root.crt, or PGSSLROOTCERT; and "
            "sslmode=verify-full in the DSN",
        ),
        _PROOF,
        "tested: 0.32 on Linux, and in the Windows Python under Wine",
        notes=("There is no sslrootcert argument: use the DSN or the environment.",),
        tested=("0.32",),
    ),
    Client(
        "pg8000",
        "pg8000",
        "pg8000",
        "1.31",
        *_everywhere(OnSystem("nowhere: the program gives a context", _NEVER, _SSL_CONTEXT)),
        "Only with such a context; ssl_context=True encrypts and verifies nothing.",
        "tested: 1.31 on Linux",
        notes=("Without a context it goes on in plaintext where the server declines TLS.",),
        tested=("1.31",),
    ),
    Client(
        "node-postgres",
        "node-postgres (pg)",
        "node-postgres",
        "8",
        *_everywhere(
            OnSystem("Node's own list of roots, which has G2; never root.crt", _NEVER, _NODE_SET)
        ),
        "With ssl: true a connection that succeeds is verified; not with "
        "rejectUnauthorized: false.",
        "tested: 8.23 with Node 20 on Linux",
        aliases=("node", "nodejs", "pg", "javascript", "typescript"),
        notes=(
            "PGSSLROOTCERT is ignored.",
            "sslmode or sslrootcert in a connection string replaces the ssl object.",
            "prefer, require and verify-ca in a connection string all mean verify-full.",
        ),
        tested=("8.23",),
    ),
    Client(
        "vscode-sqltools",
        "VS Code with SQLTools",
        "node-postgres",
        "with its PostgreSQL driver",
        *_everywhere(
            OnSystem("Node's own list of roots; never root.crt", _NEVER, "SSL: Enabled; ca: <file>")
        ),
        "SSL Enabled with rejectUnauthorized left on.",
        "source; node-postgres itself tested",
        aliases=("vscode", "vs code", "visual studio code", "sqltools", "github copilot"),
        notes=("Adobe's guide saves the token as plain text in the settings: better not.",),
        query_service=True,
    ),
    Client(
        "postico",
        "Postico",
        "its own, with Apple's TLS",
        "1 and 2",
        _NOT_HERE,
        OnSystem(
            "the keychain; never root.crt",
            _NEVER,
            "Nothing for a public root; a private one goes into the keychain",
        ),
        _NOT_HERE,
        "It warns about a certificate that the keychain does not trust.",
        "documentation",
        aliases=("postico 2",),
        query_service=True,
    ),
)

CLIENTS: tuple[Client, ...] = (*_LIBPQ, *_PGJDBC, *_NPGSQL, *_OTHERS)
"""Every client, drivers beside the tools that use them."""
