"""Query Service's clients one by one: what to set, what instead of a root file, how to see it.

By the slug of the client's row, which says whether the root file matters.  `<host>` and `<id>` are
what Query Service shows under Credentials; the password is never written down here.
"""

from __future__ import annotations

from qs_certs.values import Value


class Guide(Value):
    """*steps* in order; *instead* where the root file does not matter; *see*: whether it verifies."""

    steps: tuple[str, ...]
    see: str
    instead: str = ""


_INSTALL = "Run qs-certs install."
_CONNECTING_IS_PROOF = "With verify-full, connecting at all is the proof. Counter-check: "
_NO_FILE_SAYS = "must fail with: root certificate file does not exist."
_JAVA_NO_FILE_SAYS = "must fail with: Could not open SSL root certificate file."

GUIDES: dict[str, Guide] = {
    "psql": Guide(
        (
            _INSTALL,
            (
                "Copy the command that Query Service shows, and give it to qs-certs check - on "
                "standard input: it prints it with sslmode=verify-full, on one line, without the "
                "password."
            ),
            "Set PGGSSENCMODE=disable (psql 12 and later).",
            "Run the printed command; psql asks for the password, which is the token.",
        ),
        _CONNECTING_IS_PROOF + "the same command after PGSSLROOTCERT=/missing.crt " + _NO_FILE_SAYS,
    ),
    "psycopg2": Guide(
        (
            _INSTALL,
            (
                "psycopg2.connect('sslmode=verify-full host=<host> port=80 dbname=prod:all "
                "user=<id>@AdobeOrg', password=...)"
            ),
        ),
        _CONNECTING_IS_PROOF + "with sslrootcert=/missing.crt in the string it " + _NO_FILE_SAYS,
    ),
    "sqlalchemy": Guide(
        (
            _INSTALL,
            (
                "URL.create('postgresql+psycopg2', '<id>@AdobeOrg', password, '<host>', 80, "
                "'prod:all') quotes what needs it, a token of many lines too."
            ),
            "create_engine(url, connect_args={'sslmode': 'verify-full'})",
        ),
        _CONNECTING_IS_PROOF
        + "with 'sslrootcert': '/missing.crt' among connect_args it "
        + _NO_FILE_SAYS,
    ),
    "jupyter": Guide(
        (
            "In a cell, run !qs-certs install: the file must be where the kernel runs.",
            (
                "psycopg2.connect('sslmode=verify-full host=<host> port=80 dbname=prod:all "
                "user=<id>@AdobeOrg', password=getpass.getpass())"
            ),
        ),
        _CONNECTING_IS_PROOF + "with sslrootcert=/missing.crt in the string it " + _NO_FILE_SAYS,
    ),
    "rstudio-rpostgres": Guide(
        (
            _INSTALL,
            (
                "dbConnect(RPostgres::Postgres(), host = '<host>', port = 80, dbname = 'prod:all', "
                "user = '<id>@AdobeOrg', password = rstudioapi::askForPassword(), "
                "sslmode = 'verify-full')"
            ),
        ),
        _CONNECTING_IS_PROOF + "with sslrootcert = '/missing.crt' it " + _NO_FILE_SAYS,
    ),
    "rstudio-rjdbc": Guide(
        (
            _INSTALL,
            (
                "In the URL, change sslmode=require to sslmode=verify-full: "
                "jdbc:postgresql://<host>:80/prod:all?sslmode=verify-full"
            ),
            "Give user and password to dbConnect, not to the URL.",
        ),
        _CONNECTING_IS_PROOF + "with &sslrootcert=/missing.crt in the URL it " + _JAVA_NO_FILE_SAYS,
    ),
    "dbvisualizer": Guide(
        (
            _INSTALL,
            "Server <host>, port 80 or 5432, database prod:all, user <id>@AdobeOrg.",
            "Properties, Driver Properties: sslmode = verify-full.",
        ),
        _CONNECTING_IS_PROOF
        + "with the driver property sslrootcert = /missing.crt it "
        + _JAVA_NO_FILE_SAYS,
    ),
    "aqua-data-studio": Guide(
        (
            _INSTALL,
            "Host <host>, port 80, database prod:all, login name <id>@AdobeOrg.",
            "Driver tab, Parameters: ?sslmode=verify-full",
        ),
        _CONNECTING_IS_PROOF
        + "with ?sslmode=verify-full&sslrootcert=/missing.crt it "
        + _JAVA_NO_FILE_SAYS,
    ),
    "tableau": Guide(
        (
            (
                "Connector PostgreSQL: server <host>, port 80 or 5432, database prod:all, "
                "user <id>@AdobeOrg."
            ),
            "Tick Require SSL, which encrypts and verifies nothing.",
        ),
        "Tableau does not show it. Without the setting of its JDBC guide, assume that it does not "
        "verify.",
        "Give the root to Tableau itself: its help page on SSL for JDBC names the certificate "
        "stores. qs-certs roots --pem digicert-global-root-g2 prints the root.",
    ),
    "power-bi": Guide(
        (
            "Get data, PostgreSQL database: server <host>:80, database prod:all.",
            "User <id>@AdobeOrg and the token as password, kind Database.",
            "Leave the encryption on: without it Query Service refuses.",
        ),
        "Npgsql 4 verifies whenever it encrypts: with a root that Windows does not trust, it fails "
        "with: The remote certificate is invalid according to the validation procedure.",
        "Windows must trust the root. In cmd: qs-certs roots --pem digicert-global-root-g2 > g2.pem, then "
        "certutil -user -addstore Root g2.pem; for a gateway, as administrator and without -user.",
    ),
    "looker": Guide(
        (
            "Connection with dialect PostgreSQL: host <host>, port 80, database prod:all, SSL on.",
            "Additional JDBC parameters: sslmode=verify-full&sslrootcert=<file on Looker's server>",
        ),
        "Test the connection: the parameters that it lists must hold sslmode=verify-full and no "
        "NonValidatingFactory.",
        "Only the server's administrator can put a root file there; on a hosted Looker ask its "
        "maker. Your own machine's file plays no part.",
    ),
    "postico": Guide(
        ("Host <host>, port 80 or 5432, user <id>@AdobeOrg, database prod:all.",),
        "It warns before connecting to a server whose certificate the keychain does not trust.",
        "Nothing for Query Service: macOS trusts DigiCert Global Root G2. A root of your own goes "
        "into the keychain, marked as trusted for SSL.",
    ),
    "vscode-sqltools": Guide(
        (
            "Server <host>, port 80, database prod:all, user <id>@AdobeOrg, SSL Enabled.",
            "Password: Ask on connect, since Save as plaintext puts the token into the settings.",
            "In the settings of the connection, pgOptions: ssl: rejectUnauthorized: true.",
        ),
        "Counter-check: with a ca file that holds another root only, it must fail with: unable to "
        "get local issuer certificate, or: unable to verify the first certificate.",
        "Nothing for Query Service: Node's list holds DigiCert Global Root G2. A root of your own "
        "goes into the ca setting.",
    ),
}
"""One per client that Adobe's guides name."""
