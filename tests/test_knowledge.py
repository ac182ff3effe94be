"""`explain` and `clients`: the table of knowledge, against messages and against the real clients."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qs_certs import knowledge
from qs_certs.errors import QsCertsError
from qs_certs.knowledge import CLIENTS, FINDINGS, MESSAGES, explain, find_client, find_code
from qs_certs.knowledge.messages import GAP, WHOLE, fold

PACKAGE = Path(str(knowledge.__file__)).parent

# --- The codes ---

PROMISED_CODES = """
root-missing root-unreadable root-unloadable pinned-root-missing retired-root-only root-expired
root-expires-soon root-distrusted root-distrust-soon no-self-signed-root private-key-in-root-file
byte-order-mark hidden-content misplaced-root-file misnamed-root-file root-crl-present
stray-client-certificate folder-unreadable folder-writable-by-others environment-overrides
service-overrides home-differs wsl-home appdata-redirected store-python system-roots weak-sslmode
plaintext-possible untrusted-chain incomplete-chain impostor-root catalogue-root-would-fix
tls-inspection expired-certificate certificate-expires-soon not-yet-valid host-name-mismatch
no-host-name crl-failure revoked-certificate server-without-tls not-postgresql http-proxy
old-tls-protocol server-error closed-at-once timed-out unreachable name-not-resolved unix-socket
direct-tls-refused public-root-verify-ca default-overridden first-root-file could-not-download
sudo-target nothing-to-roll-back repaired change-interrupted journal-quarantined
""".split()  # noqa: SIM905 - a paragraph reads better than sixty lines

OPTIONS = {
    # The contract: every command, with the options that a fix may use.
    "install": {
        "--target", "--user", "--all-users", "--dedicated", "--from", "--url", "--offline",
        "--ca-bundle", "--timeout", "--sha256", "--repair", "--replace", "--dry-run", "--impact",
    },
    "check": {
        "-h", "--host", "-p", "--port", "--service", "--all", "--sslmode", "--warn-days",
        "--strict", "--format", "--target",
    },
    "remove": {"--target", "--user"},
    "rollback": {"--target", "--user", "--force"},
    "history": {
        "--target", "--user", "--limit", "--prune", "--keep", "--older-than", "--quarantine",
        "--dry-run",
    },
    "list": {"--target", "--user"},
    "roots": {"--pem"},
    "clients": set(),
    "explain": set(),
    "--help": set(),
}  # fmt: skip


def errors_below(parent: type[QsCertsError]) -> Iterator[type[QsCertsError]]:
    for error in parent.__subclasses__():
        yield error
        yield from errors_below(error)


def test_every_promised_code_and_every_code_of_an_error_is_known() -> None:
    assert set(PROMISED_CODES) <= set(FINDINGS)
    codes = {
        error.code
        for error in errors_below(QsCertsError)
        if error.__module__.startswith("qs_certs.")
    }
    assert "wrong-fingerprint" in codes
    assert codes <= set(FINDINGS)
    assert "error" not in FINDINGS  # the code of the class that is never raised


@pytest.mark.parametrize("code", FINDINGS)
def test_a_code_has_every_field(code: str) -> None:
    kind = FINDINGS[code]
    assert kind.code == code
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
    assert kind.severity in ("ok", "warning", "error")
    assert kind.title
    assert kind.title[-1] not in ".:"
    assert kind.meaning.endswith(".")
    assert 1 <= len(re.findall(r"\.(?:\s|$)", kind.meaning)) <= 4
    assert kind.fix


def test_no_code_is_defined_twice() -> None:
    source = (PACKAGE / "findings.py").read_text(encoding="utf-8")
    written = re.findall(r'FindingKind\(\s*"([a-z-]+)"', source)
    assert sorted(written) == sorted(FINDINGS)  # a dictionary would hide the first of two


def own_commands() -> Iterator[tuple[str, str]]:
    for kind in FINDINGS.values():
        for command in (*kind.fix, *kind.fix_on_windows):
            if re.search(r"\bqs-certs\b", command):
                yield kind.code, command


@pytest.mark.parametrize(("code", "command"), list(own_commands()))
def test_a_fix_uses_only_commands_and_options_of_the_contract(code: str, command: str) -> None:
    unquoted = re.sub(r"\"[^\"]*\"|'[^']*'", "QUOTED", command.partition("|")[0])
    words = unquoted.split()
    subcommand, *arguments = words[words.index("qs-certs") + 1 :]
    assert {word for word in arguments if word.startswith("-")} <= OPTIONS[subcommand]


@pytest.mark.parametrize("code", FINDINGS)
def test_a_code_explains_itself_however_it_is_typed(code: str) -> None:
    for typed in (code, f" {code}\n", code.upper(), f"[{code}]", f"“{code}”"):
        explanation = explain(typed)
        assert explanation is not None
        assert explanation.code == code
        assert explanation.causes == ()
        assert explanation.fix == FINDINGS[code].fix


def test_a_line_of_our_own_output_is_explained_by_the_code_it_names() -> None:
    assert find_code("error: home-differs: two homes") == "home-differs"
    assert find_code("[store-python] this Python ...") == "store-python"
    assert find_code("it timed-out and root-missing is a code.") is None
    assert code_of("qs-certs: warning: wsl-home: two homes") == "wsl-home"


# --- The messages ---

PATH = "/home/me/.postgresql/root.crt"
HOST = "acme.platform-query.adobe.io"
NO_FILE_15 = "Either provide the file or change sslmode to disable server certificate verification."
NO_FILE_16 = (
    "Either provide the file, use the system's trusted roots with sslrootcert=system, or change "
    "sslmode to disable server certificate verification."
)
NO_FILE_ASYNCPG = (
    f'asyncpg.exceptions._base.ClientConfigurationError: root certificate file "{PATH}" does not '
    f"exist or cannot be accessed\nHINT: Provide the certificate file directly or make sure "
    f'"{PATH}" exists and is readable.'
)
NO_ENCRYPTION = (
    'FATAL:  no pg_hba.conf entry for host "203.0.113.9", user "u", database "prod:all", '
    "no encryption"
)
UNREADABLE = f'could not read root certificate file "{PATH}": '
PYTHON = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: "
JAVA_FILE = f"Could not open SSL root certificate file {PATH}."
JAVA_CAUSE = f"{JAVA_FILE}\nCaused by: java.io.FileNotFoundException: {PATH} "
JAVA_LOAD = f"Loading the SSL root certificate {PATH} into a TrustManager failed."
JAVA_PATH = (
    "SSL error: PKIX path validation failed: java.security.cert.CertPathValidatorException: "
)
PGX = f"failed to connect to `host={HOST} user=u database=prod:all`: "
GO_DATES = (
    "x509: certificate has expired or is not yet valid: current time 2026-07-01T00:00:00Z is "
)

MESSAGES_OF_SECTION_6 = [
    # libpq
    ("root-missing", f'root certificate file "{PATH}" does not exist\n{NO_FILE_15}'),
    ("root-missing", f'root certificate file "{PATH}" does not exist\n{NO_FILE_16}'),
    ("root-missing", 'root certificate file "C:\\Users\\me\\AppData\\Roaming/postgresql/root.crt" does not exist'),
    ("root-missing", 'root certificate file "~/.postgresql/root.crt" does not exist'),
    ("root-missing", 'root certificate file "C:Usersmeroot.crt" does not exist'),
    ("no-home", f"could not get home directory to locate root certificate file\n{NO_FILE_15}"),
    ("service-account-home", f'root certificate file "/root/.postgresql/root.crt" does not exist\n{NO_FILE_15}'),
    ("service-account-home", 'root certificate file "/nonexistent/.postgresql/root.crt" does not exist'),
    ("system-roots", f'root certificate file "system" does not exist\n{NO_FILE_15}'),
    ("system-roots", "SSL error: unregistered scheme"),
    ("weak-sslmode-refused", 'weak sslmode "require" may not be used with sslrootcert=system (use "verify-full")'),
    ("weak-sslmode-refused", 'weak sslmode "prefer" may not be used with sslnegotiation=direct (use "require", "verify-ca", or "verify-full")'),
    ("invalid-setting", 'invalid sslmode value: "VERIFY-FULL"'),
    ("invalid-setting", 'missing "=" after "dir/root.crt" in connection info string'),
    ("service-unusable", 'service file "/home/me/.pg_service.conf" not found'),
    ("service-unusable", 'definition of service "qs" not found'),
    ("service-unusable", 'syntax error in service file "/home/me/.pg_service.conf", line 3'),
    ("verification-failed", "SSL error: certificate verify failed"),
    ("verification-failed-then-plaintext", f"SSL error: certificate verify failed\n{NO_ENCRYPTION}"),
    ("verification-failed-then-plaintext", f"{NO_ENCRYPTION}\nSSL error: certificate verify failed"),
    ("host-name-mismatch", f'server certificate for "*.example.com" does not match host name "{HOST}"'),
    ("host-name-mismatch", f'server certificate for "a.example.com" (and 1 other name) does not match host name "{HOST}"'),
    ("host-name-mismatch", f'server certificate for "a.example.com" (and 12 other names) does not match host name "{HOST}"'),
    ("host-name-mismatch", f'server common name "a.example.com" does not match host name "{HOST}"'),
    ("no-host-name", "host name must be specified for a verified SSL connection"),
    ("server-without-tls", "server does not support SSL, but SSL was required"),
    ("root-unloadable", UNREADABLE + "no certificate or crl found"),
    ("root-unloadable", UNREADABLE + "bad end line"),
    ("root-unloadable", UNREADABLE + "bad base64 decode"),
    ("root-unloadable", UNREADABLE + "too long"),
    ("root-unloadable", UNREADABLE + "not proc type"),
    ("root-unloadable", UNREADABLE + "no SSL error reported"),
    ("root-unloadable", UNREADABLE),
    ("root-unreadable", UNREADABLE + "Permission denied"),
    ("http-proxy", "received invalid response to SSL negotiation: H"),
    ("not-postgresql", "received invalid response to SSL negotiation: 5"),
    ("closed-at-once", "server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally\n\tbefore or while processing the request."),
    ("closed-at-once", "SSL SYSCALL error: EOF detected"),
    ("closed-at-once", "SSL error: unexpected eof while reading"),
    ("old-tls-protocol", "SSL error: tlsv1 alert protocol version\nThis may indicate that the server does not support any SSL protocol version between TLSv1.2 and TLSv1.3."),
    ("folder-unreadable", 'could not open certificate file "/root/.postgresql/postgresql.crt": Permission denied'),
    ("stray-client-certificate", 'certificate present, but not private key file "/home/me/.postgresql/postgresql.key"'),
    ("stray-client-certificate", 'private key file "/home/me/.postgresql/postgresql.key" has group or world access; file must have permissions u=rw (0600) or less'),
    ("plaintext-refused", NO_ENCRYPTION),
    ("access-list-refused", 'FATAL:  no pg_hba.conf entry for host "203.0.113.9", user "u", database "d", SSL encryption'),
    # Python's ssl, asyncpg, pg8000
    ("root-missing", NO_FILE_ASYNCPG),
    ("untrusted-chain", PYTHON + "unable to get local issuer certificate (_ssl.c:1006)"),
    ("self-signed-certificate", PYTHON + "self-signed certificate (_ssl.c:1006)"),
    ("self-signed-certificate", PYTHON + "self signed certificate (_ssl.c:1129)"),
    ("tls-inspection", PYTHON + "self-signed certificate in certificate chain (_ssl.c:1006)"),
    ("expired-certificate", PYTHON + "certificate has expired (_ssl.c:1006)"),
    ("not-yet-valid", PYTHON + "certificate is not yet valid (_ssl.c:1006)"),
    ("no-self-signed-root", PYTHON + "unable to get issuer certificate (_ssl.c:1006)"),
    ("rejected-certificate", PYTHON + "certificate rejected (_ssl.c:1006)"),
    ("crl-failure", PYTHON + "unable to get certificate CRL (_ssl.c:1006)"),
    ("revoked-certificate", PYTHON + "certificate revoked (_ssl.c:1006)"),
    ("host-name-mismatch", PYTHON + f"Hostname mismatch, certificate is not valid for '{HOST}'. (_ssl.c:1006)"),
    ("host-name-mismatch", PYTHON + "IP address mismatch, certificate is not valid for '203.0.113.9'. (_ssl.c:1006)"),
    ("server-without-tls", f'ConnectionError: PostgreSQL server at "{HOST}:80" rejected SSL upgrade'),
    ("server-without-tls", "pg8000.exceptions.InterfaceError: Server refuses SSL"),
    ("root-unloadable", "ssl.SSLError: [X509: NO_CERTIFICATE_OR_CRL_FOUND] no certificate or crl found (_ssl.c:4149)"),
    ("root-unloadable", "ssl.SSLError: [X509] PEM lib (_ssl.c:4149)"),
    ("closed-at-once", "ConnectionError: unexpected connection_lost() call"),
    ("old-tls-protocol", "[SSL: TLSV1_ALERT_PROTOCOL_VERSION] tlsv1 alert protocol version (_ssl.c:1006)"),
    ("invalid-setting", "ClientConfigurationError: `sslmode` parameter must be one of: disable, allow, prefer, require, verify-ca, verify-full"),
    ("root-unreadable", "  context.load_verify_locations(cafile=sslrootcert)\nPermissionError: [Errno 13] Permission denied"),
    ("root-missing", "  context.load_verify_locations(cafile=sslrootcert)\nFileNotFoundError: [Errno 2] No such file or directory"),
    ("root-unloadable", "  context.load_verify_locations(cafile=sslrootcert)\nIsADirectoryError: [Errno 21] Is a directory"),
    ("unreachable", f"InterfaceError: Can't create a connection to host {HOST} and port 80 (timeout is None and source_address is None)."),
    # pgjdbc
    ("root-missing", JAVA_FILE),
    ("root-missing", JAVA_CAUSE + "(No such file or directory)"),
    ("root-unreadable", JAVA_CAUSE + "(Permission denied)"),
    ("root-unloadable", JAVA_CAUSE + "(Is a directory)"),
    ("untrusted-chain", "SSL error: PKIX path building failed: sun.security.provider.certpath.SunCertPathBuilderException: unable to find valid certification path to requested target"),
    ("impostor-root", JAVA_PATH + "Path does not chain with any of the trust anchors"),
    ("certificate-dates", JAVA_PATH + "validity check failed"),
    ("host-name-mismatch", f"The hostname {HOST} could not be verified by hostnameverifier PgjdbcHostnameVerifier."),
    ("server-without-tls", "The server does not support SSL."),
    ("root-unloadable", JAVA_LOAD),
    ("root-unloadable", "SSL error: Unexpected error: java.security.InvalidAlgorithmParameterException: the trustAnchors parameter must be non-empty"),
    ("private-key-in-root-file", f"{JAVA_LOAD}\nCaused by: java.security.cert.CertificateParsingException: signed fields invalid"),
    ("not-postgresql", "An error occurred while setting up the SSL connection."),
    ("closed-at-once", "The connection attempt failed.\nCaused by: java.io.EOFException"),
    ("old-tls-protocol", "SSL error: Received fatal alert: protocol_version"),
    # pgx and lib/pq
    ("untrusted-chain", "tls: failed to verify certificate: x509: certificate signed by unknown authority"),
    ("untrusted-chain", PGX + "failed to write startup message: write failed: x509: certificate signed by unknown authority"),
    ("impostor-root", 'x509: certificate signed by unknown authority (possibly because of "crypto/rsa: verification error" while trying to verify candidate authority certificate "DigiCert Global Root G2")'),
    ("expired-certificate", GO_DATES + "after 2026-01-01T00:00:00Z"),
    ("not-yet-valid", GO_DATES + "before 2026-09-01T00:00:00Z"),
    ("host-name-mismatch", f"x509: certificate is valid for a.example.com, b.example.com, not {HOST}"),
    ("host-name-mismatch", "x509: certificate relies on legacy Common Name field, use SANs instead"),
    ("host-name-mismatch", "x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs"),
    ("server-without-tls", PGX + "tls error: server refused TLS connection"),
    ("server-without-tls", "pq: SSL is not enabled on the server"),
    ("root-unloadable", "cannot parse `host=x`: failed to configure TLS (unable to add CA to cert pool)"),
    ("root-unloadable", "pq: couldn't parse pem from sslrootcert"),
    ("root-missing", f"unable to read CA file: open {PATH}: no such file or directory"),
    ("root-missing", f"open {PATH}: no such file or directory"),
    ("folder-unreadable", "stat /home/me/.postgresql/postgresql.crt: permission denied"),
    ("closed-at-once", PGX + "tls error: EOF"),
    ("old-tls-protocol", "remote error: tls: protocol version not supported"),
    # node-postgres
    ("untrusted-chain", "Error: unable to get local issuer certificate\n  code: 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY'"),
    ("untrusted-chain", "UNABLE_TO_GET_ISSUER_CERT_LOCALLY"),
    ("incomplete-chain", "Error: unable to verify the first certificate"),
    ("self-signed-certificate", "Error: self-signed certificate\n  code: 'DEPTH_ZERO_SELF_SIGNED_CERT'"),
    ("self-signed-certificate", "Error: self-signed certificate"),
    ("expired-certificate", "Error: certificate has expired\n  code: 'CERT_HAS_EXPIRED'"),
    ("not-yet-valid", "Error: certificate is not yet valid\n  code: 'CERT_NOT_YET_VALID'"),
    ("no-self-signed-root", "code: 'UNABLE_TO_GET_ISSUER_CERT'"),
    ("rejected-certificate", "code: 'INVALID_PURPOSE'"),
    ("host-name-mismatch", f"Error [ERR_TLS_CERT_ALTNAME_INVALID]: Hostname/IP does not match certificate's altnames: Host: {HOST}. is not in the cert's altnames: DNS:a.example.com, DNS:b.example.com"),
    ("server-without-tls", "Error: The server does not support SSL connections"),
    ("not-postgresql", "Error: There was an error establishing an SSL connection"),
    ("closed-at-once", "Error: Connection terminated unexpectedly"),
    ("old-tls-protocol", "Error: write EPROTO 4017:error:0A00042E:SSL routines:ssl3_read_bytes:tlsv1 alert protocol version"),
    ("root-missing", f"Error: ENOENT: no such file or directory, open '{PATH}'"),
    # Npgsql and Power BI
    ("windows-store-untrusted", "Npgsql.NpgsqlException: Exception while performing SSL handshake\n ---> System.Security.Authentication.AuthenticationException: The remote certificate was rejected by the provided RemoteCertificateValidationCallback."),
    ("windows-store-untrusted", "The remote certificate is invalid according to the validation procedure."),
    ("windows-store-untrusted", "DataSource.Error: PostgreSQL: An error happened while reading data from the provider: 'The remote certificate is invalid according to the validation procedure.'"),
    ("provider-failed", "An error happened while reading data from the provider: 'No details'"),
    ("server-without-tls", "SSL connection requested. No SSL enabled connection from this host is configured."),
    ("http-proxy", "Received unknown response H for SSLRequest (expecting S or N)"),
    ("not-postgresql", "Received unknown response X for SSLRequest (expecting S or N)"),
    ("root-unloadable", "System.Security.Cryptography.CryptographicException: Cannot find the requested object."),
    ("driver-wants-verification", "To validate server certificates, please use VerifyFull or VerifyCA instead of Require. To disable validation, explicitly set 'Trust Server Certificate' to true."),
    ("handshake-failed", "Exception while performing SSL handshake"),
    # Query Service's own, and the way there
    ("token-expired", "28P01: Invalid token"),
    ("token-expired", 'FATAL:  password authentication failed for user "0123@AdobeOrg"'),
    ("wrong-authentication", "ErrorCode: 28000 Must be AuthenticationCleartextPassword"),
    ("session-limit", "FATAL: Session Limit Reached"),
    ("timed-out", "timeout expired"),
    ("unreachable", "Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?"),
    ("name-not-resolved", f'could not translate host name "{HOST}" to address: Name or service not known'),
    ("name-not-resolved", f"Error: getaddrinfo ENOTFOUND {HOST}"),
]  # fmt: skip

PREFIXES = {
    "bare": "",
    "psql 13": "psql: error: could not connect to server: ",
    "psql 15": f'psql: error: connection to server at "{HOST}" (203.0.113.9), port 80 failed: ',
    "psycopg": "psycopg.OperationalError: connection failed: ",
    "sqlalchemy": "sqlalchemy.exc.OperationalError: (psycopg2.OperationalError) ",
    "odbc": "[08001][unixODBC]",
    "jdbc": "Exception in thread “main” org.postgresql.util.PSQLException: ",
}


def code_of(text: str) -> str | None:
    explanation = explain(text)
    return explanation.code if explanation else None


@pytest.mark.parametrize("prefix", PREFIXES.values(), ids=PREFIXES)
def test_every_message_is_recognised_behind_any_prefix(prefix: str) -> None:
    for code, message in MESSAGES_OF_SECTION_6:
        assert code_of(prefix + message + "\n") == code, message


@pytest.mark.parametrize(("code", "message"), MESSAGES_OF_SECTION_6)
def test_a_message_is_recognised_with_another_host_path_and_case(code: str, message: str) -> None:
    other = (
        message.replace(HOST, "10.1.2.3")
        .replace(PATH, "D:\\Data\\My Certs/root.crt")
        .replace("a.example.com", "db-7.internal")
        .replace('"', "”")
        .replace("'", "\u2019")
    )
    assert code_of(other) == code
    assert code_of(other.upper()) == code


@pytest.mark.parametrize("width", [40, 17])
@pytest.mark.parametrize(("code", "message"), MESSAGES_OF_SECTION_6)
def test_a_message_is_recognised_across_line_breaks(code: str, message: str, width: int) -> None:
    for end in ("\n", "\r\n    ", "\n> "):
        assert code_of(end.join(textwrap.wrap(message, width))) == code
    # A terminal breaks lines wherever it ends.
    pieces = [message[start : start + width] for start in range(0, len(message), width)]
    assert code_of("\n".join(pieces)) == code
    assert code_of("\x1b[31m" + "\x1b[0m\n\x1b[1;31m".join(pieces)) == code


UNRELATED = {
    "nothing": "",
    "blanks": " \n\t ",
    "punctuation": "!!! --- ???",
    "success of psql": (
        "psql (15.18, server 0.1.0)\nSSL connection (protocol: TLSv1.3, cipher: "
        'TLS_AES_256_GCM_SHA384, compression: off)\nType "help" for help.\n\nall=>'
    ),
    "success of check": "The root file loads and holds DigiCert Global Root G2.",
    "success of openssl": "Verify return code: 0 (ok)",
    "a syntax error": 'ERROR:  syntax error at or near "SELEC"\nLINE 1: SELEC 1',
    "a missing table": 'ERROR:  relation "root" does not exist',
    "a missing file": "cat: notes.txt: No such file or directory",
    "a denied file": "bash: ./run.sh: Permission denied",
    "a traceback": "Traceback (most recent call last):\n  File \"x.py\", line 1\nKeyError: 'host'",
    "a wrapper without a reason": 'connection to server at "h" (1.2.3.4), port 80 failed: ',
    "a certificate": "-----BEGIN CERTIFICATE-----\nMIIDjjCCAnagAwIBA\n-----END CERTIFICATE-----",
    "prose about EOF": "Put EOF at the end of the here-document.",
    "part of a message": "the certificate for the server",
    "parts in the wrong order": "does not match host name; server certificate for",
}


@pytest.mark.parametrize("text", UNRELATED.values(), ids=UNRELATED)
def test_what_is_not_a_known_error_is_not_explained(text: str) -> None:
    assert explain(text) is None


def test_a_short_word_is_a_message_only_where_it_is_everything() -> None:
    assert code_of("EOF") == "closed-at-once"
    assert code_of("pq: EOF\n") == "closed-at-once"
    assert code_of("unexpected EOF in file x") is None


def test_a_tilde_that_nobody_expands_is_the_first_cause_only_where_the_path_begins_with_it() -> (
    None
):
    literal = explain('root certificate file "~/.postgresql/root.crt" does not exist')
    short_name = explain('root certificate file "C:/LONGNA~1/root.crt" does not exist')
    assert literal is not None
    assert short_name is not None
    assert "tilde" in literal.causes[0]
    assert not any("tilde" in cause for cause in short_name.causes)


def test_of_several_messages_the_most_specific_is_explained() -> None:
    general = "Exception while performing SSL handshake"
    special = "The remote certificate is invalid according to the validation procedure."
    assert code_of(general) == "handshake-failed"
    assert code_of(f"{general}\n{special}") == "windows-store-untrusted"
    assert code_of(f"{special}\n{general}") == "windows-store-untrusted"


def test_an_explanation_holds_nothing_of_the_pasted_text() -> None:
    secret = "eyJhbGciOi-SECRET-\x1b[31m"
    text = f'psql: error: FATAL: password authentication failed for user "{secret}" {secret}'
    explanation = explain(text)
    assert explanation is not None
    assert explanation.causes
    shown = repr(dataclasses.asdict(explanation))
    assert "SECRET" not in shown
    assert "x1b" not in shown
    assert explain(text.replace(secret, "me")) == explanation


def test_every_message_has_a_known_code_causes_and_phrases_that_are_long_enough() -> None:
    for message in MESSAGES:
        assert message.code in FINDINGS
        assert message.causes
        assert all(cause.endswith(".") for cause in message.causes), message.causes
        for phrase in message.phrases:
            parts = [fold(part) for part in phrase.removeprefix(WHOLE).split(GAP)]
            assert all(parts), phrase
            assert phrase.startswith(WHOLE) or max(map(len, parts)) >= 5, phrase


def test_no_phrase_is_hidden_behind_an_earlier_one() -> None:
    for message in MESSAGES:
        for phrase in message.phrases:
            example = phrase.removeprefix(WHOLE).replace(GAP, " something ")
            assert code_of(example) == message.code, phrase


MEGABYTES = {
    "one letter": "a" * 1_000_000,
    "one word": "certificate " * 83_000,
    "first parts": 'server certificate for "' * 42_000,
    "first parts of another": "no pg_hba entry " * 60_000,
    "broken colours": "\x1b[" * 500_000,
    "an endless colour": "\x1b[0;" + "0" * 1_000_000,
    "underscores and blanks": " _ " * 330_000,
    "brackets": "(possibly " * 100_000,
    "not ASCII": "“é…" * 330_000,
}


@pytest.mark.parametrize("text", MEGABYTES.values(), ids=MEGABYTES)
def test_a_megabyte_of_anything_is_judged_within_a_second(text: str) -> None:
    explain("warm up")
    start = time.process_time()
    assert explain(text) is None
    assert time.process_time() - start < 1
    assert explain(text + "\nSSL error: certificate verify failed") is not None


# --- The same, from the clients' own mouths ---

PSQL = shutil.which("psql")
NODE = shutil.which("node")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Root files in various states, and what a server for localhost needs."""
    trustme = pytest.importorskip("trustme")
    right, other = trustme.CA(), trustme.CA()
    leaf = right.issue_cert("localhost")
    pem = right.cert_pem.bytes()
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    contents = {
        "right": pem,
        "other": other.cert_pem.bytes(),
        "empty": b"",
        "glued": pem.rstrip(b"\n") + pem,
        "damaged": pem.replace(b"\n", b"\n!!!!\n", 3),
        "leaf": chain,
        "server": leaf.private_key_pem.bytes() + chain,
    }
    folder = tmp_path_factory.mktemp("trust")
    for name, content in contents.items():
        (folder / f"{name}.crt").write_bytes(content)
    return {name: folder / f"{name}.crt" for name in contents}


@pytest.fixture(scope="module")
def tls(certificates: dict[str, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates["server"])
    return context


def answer_once(connection: socket.socket, answer: bytes, tls: ssl.SSLContext | None) -> None:
    with connection, contextlib.suppress(OSError):
        connection.settimeout(5)
        if connection.recv(8) and answer:
            connection.sendall(answer)
        if tls is not None:
            with tls.wrap_socket(connection, server_side=True) as secured:
                secured.recv(1)


@contextlib.contextmanager
def server(answer: bytes, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A loopback server that gives *answer* to SSLRequest, then TLS or the end.  Yields its port."""

    def serve() -> None:
        with contextlib.suppress(OSError):  # the listener was shut down
            while True:
                answer_once(listener.accept()[0], answer, tls)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
    thread.join(6)
    assert not thread.is_alive()


def psql_says(conninfo: str, home: Path) -> str:
    assert PSQL is not None
    done = subprocess.run(
        [PSQL, "-X", "-w", "-c", "select 1", "-d", f"user=u dbname=d connect_timeout=5 {conninfo}"],
        env={"PATH": os.environ["PATH"], "HOME": str(home), "PGGSSENCMODE": "disable"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode != 0
    return done.stderr


@pytest.mark.psql
@pytest.mark.skipif(PSQL is None, reason="psql is not installed")
@pytest.mark.parametrize(
    ("expected", "answer", "settings"),
    [
        ("server-without-tls", b"N", "sslmode=require"),
        ("http-proxy", b"HTTP/1.1 400 Bad Request\r\n\r\n", "sslmode=require"),
        ("not-postgresql", b"5", "sslmode=require"),
        ("closed-at-once", b"", "sslmode=require"),
        ("root-missing", b"S", "sslmode=verify-full"),
        ("root-missing", b"S", "sslmode=verify-full sslrootcert=~/.postgresql/root.crt"),
        ("root-unloadable", b"S", "sslmode=verify-full sslrootcert={empty}"),
        ("root-unloadable", b"S", "sslmode=verify-full sslrootcert={glued}"),
        ("root-unloadable", b"S", "sslmode=require sslrootcert={damaged}"),
        ("verification-failed", b"S", "sslmode=verify-full sslrootcert={other}"),
        ("verification-failed", b"S", "sslmode=require sslrootcert={leaf}"),
        ("host-name-mismatch", b"S", "host=db.example.com sslmode=verify-full sslrootcert={right}"),
        ("no-host-name", b"S", "host='' sslmode=verify-full sslrootcert={right}"),
        ("closed-at-once", b"S", "sslmode=verify-full sslrootcert={right}"),
        ("invalid-setting", b"S", "sslmode=VERIFY-FULL"),
        ("invalid-setting", b"S", "sslmode=verify-full sslrootcert=/my certs/root.crt"),
        ("service-unusable", b"S", "service=nowhere"),
    ],
)
def test_what_psql_says_is_recognised(
    expected: str,
    answer: bytes,
    settings: str,
    certificates: dict[str, Path],
    tls: ssl.SSLContext,
    tmp_path: Path,
) -> None:
    host = "" if "host=" in settings else "host=localhost "
    with server(answer, tls if answer == b"S" else None) as port:
        conninfo = f"{host}hostaddr=127.0.0.1 port={port} {settings.format(**certificates)}"
        said = psql_says(conninfo, tmp_path)
    assert code_of(said) == expected, said


@pytest.mark.psql
@pytest.mark.skipif(PSQL is None, reason="psql is not installed")
@pytest.mark.parametrize(
    ("expected", "conninfo"),
    [
        ("unreachable", "host=127.0.0.1 port={closed}"),
        ("unix-socket", "host=/nonexistent port=5432"),
        ("name-not-resolved", "host=nowhere.invalid port=5432"),
    ],
)
def test_what_psql_says_about_the_network_is_recognised(
    expected: str, conninfo: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]
    said = psql_says(conninfo.format(closed=closed), tmp_path)
    assert code_of(said) == expected, said


@pytest.mark.parametrize(
    ("expected", "root_file", "host"),
    [
        ("untrusted-chain", "other", "localhost"),
        ("host-name-mismatch", "right", "db.example.com"),
        ("host-name-mismatch", "right", "127.0.0.1"),
        (None, "right", "localhost"),
        ("root-unloadable", "empty", "localhost"),
        ("root-unloadable", "glued", "localhost"),
    ],
)
def test_what_python_says_is_recognised(
    expected: str | None,
    root_file: str,
    host: str,
    certificates: dict[str, Path],
    tls: ssl.SSLContext,
) -> None:
    said = "no error"
    with server(b"S", tls) as port, socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(bytes.fromhex("0000000804d2162f"))
        assert connection.recv(1) == b"S"
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(cafile=str(certificates[root_file]))
            context.wrap_socket(connection, server_hostname=host).close()
        except ssl.SSLError as error:
            said = f"{type(error).__name__}: {error}"
    assert code_of(said) == expected, said


NODE_CLIENT = """
const net = require('net'), tls = require('tls'), fs = require('fs');
const [port, ca, servername] = process.argv.slice(1);
const socket = net.connect(+port, '127.0.0.1', () => {
  socket.write(Buffer.from('0000000804d2162f', 'hex'));
  socket.once('data', () => {
    const secured = tls.connect({socket, servername, ca: ca ? fs.readFileSync(ca) : undefined},
      () => { console.log('no error'); secured.destroy(); });
    secured.on('error', (error) => { console.log(error); secured.destroy(); });
  });
});
"""


@pytest.mark.skipif(NODE is None, reason="Node is not installed")
@pytest.mark.parametrize(
    ("expected", "root_file", "host"),
    [
        ("incomplete-chain", "other", "localhost"),
        ("incomplete-chain", None, "localhost"),
        ("host-name-mismatch", "right", "db.example.com"),
        (None, "right", "localhost"),
    ],
)
def test_what_node_says_is_recognised(
    expected: str | None,
    root_file: str | None,
    host: str,
    certificates: dict[str, Path],
    tls: ssl.SSLContext,
) -> None:
    assert NODE is not None
    ca = str(certificates[root_file]) if root_file else ""
    with server(b"S", tls) as port:
        done = subprocess.run(
            [NODE, "-e", NODE_CLIENT, str(port), ca, host],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    assert code_of(done.stdout) == expected, done.stdout


JAVA = shutil.which("java")
JDBC_DRIVERS = [
    *filter(Path.is_file, [Path("/usr/share/java/postgresql.jar")]),
    *sorted(Path.home().glob(".m2/repository/org/postgresql/postgresql/*/*[0-9].jar")),
]
JAVA_CLIENT = """
class Client {
  public static void main(String[] urls) {
    for (String url : urls) {
      try { java.sql.DriverManager.getConnection(url); }
      catch (Throwable error) {
        for (; error != null; error = error.getCause()) System.out.println(error);
      }
      System.out.println("---");
    }
  }
}
"""


@pytest.mark.skipif(JAVA is None or not JDBC_DRIVERS, reason="needs Java and pgjdbc")
def test_what_pgjdbc_says_is_recognised(
    certificates: dict[str, Path], tls: ssl.SSLContext, tmp_path: Path
) -> None:
    assert JAVA is not None
    settings = {
        "untrusted-chain": "sslrootcert={other}",
        "host-name-mismatch": "sslrootcert={right}",
        "root-missing": f"sslrootcert={tmp_path}/none.crt",
        "root-unloadable": "sslrootcert={empty}",
    }
    client = tmp_path / "Client.java"
    client.write_text(JAVA_CLIENT)
    with server(b"S", tls) as port, server(b"N") as plain, server(b"H") as web:
        urls = [
            f"jdbc:postgresql://127.0.0.1:{port}/d?user=u&gssEncMode=disable&sslmode=verify-full&"
            + setting.format(**certificates)
            for setting in settings.values()
        ]
        urls += [
            f"jdbc:postgresql://127.0.0.1:{other}/d?user=u&gssEncMode=disable&sslmode=require"
            for other in (plain, web)
        ]
        done = subprocess.run(
            [JAVA, "-cp", str(JDBC_DRIVERS[-1]), str(client), *urls],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    said = done.stdout.split("---\n")[:-1]
    expected = [*settings, "server-without-tls", "not-postgresql"]
    assert list(map(code_of, said)) == expected, done.stdout


# --- The clients ---

SLUGS = """
psql libpq psycopg psycopg2 sqlalchemy jupyter asyncpg pgjdbc dbvisualizer aqua-data-studio dbeaver
datagrip looker rstudio-rjdbc rstudio-rpostgres tableau power-bi npgsql-4 npgsql-5 npgsql-6
npgsql-10 pgx pgx-4 lib-pq lib-pq-1.11 node-postgres vscode-sqltools pg8000 psqlodbc excel postico pgadmin
dbd-pg ruby-pg php rpostgresql
""".split()  # noqa: SIM905 - a paragraph reads better than sixty lines


def test_the_list_of_clients_is_complete_and_slugs_are_unique() -> None:
    assert sorted(client.slug for client in CLIENTS) == sorted(SLUGS)


def test_every_client_that_query_service_names_is_there() -> None:
    named = [client.name for client in CLIENTS if client.query_service]
    for name in (
        "psql", "Jupyter", "psycopg2", "SQLAlchemy", "RStudio", "DbVisualizer", "Aqua Data Studio",
        "Tableau", "Power BI", "Looker", "Postico", "VS Code",
    ):  # fmt: skip
        assert any(name in full for full in named), name
    assert not any("pgAdmin" in full for full in named)  # which the service does not support


@pytest.mark.parametrize("slug", SLUGS)
def test_a_client_has_every_field_and_an_entry_per_system(slug: str) -> None:
    (client,) = (client for client in CLIENTS if client.slug == slug)
    assert all((client.name, client.driver, client.versions, client.verified_when))
    assert re.match("tested: |tried: .*[0-9]|source|documentation", client.evidence)
    assert (client.proven == "tested") is bool(client.tested)
    systems = (client.on("linux"), client.on("macos"), client.on("windows"))
    assert systems == (client.linux, client.macos, client.windows)
    assert any(system.runs_here for system in systems)
    for system in systems:
        assert system.set_instead
        assert bool(system.looks_in) == system.runs_here
        assert system.root_file_matters == bool(system.sslmodes)
        assert "disable" not in system.sslmodes
        if system.root_file_matters:
            assert {"verify-ca", "verify-full"} <= set(system.sslmodes)
            assert "root.crt" in system.looks_in


@pytest.mark.parametrize(
    ("text", "slugs"),
    [
        ("power-bi", ["power-bi"]),
        ("Power BI", ["power-bi"]),
        ("PowerBI", ["power-bi"]),
        ("npgsql", ["npgsql-4", "npgsql-5", "npgsql-6", "npgsql-10"]),
        ("libpq", ["libpq"]),
        ("lib/pq", ["lib-pq", "lib-pq-1.11"]),
        ("RStudio", ["rstudio-rpostgres", "rstudio-rjdbc"]),
        ("jdbc", ["pgjdbc"]),
        ("vs code", ["vscode-sqltools"]),
        ("psycopg3", ["psycopg"]),
        ("DataGr", ["datagrip"]),
        ("Npgsql 4.0", ["power-bi"]),
        ("mysql", []),
        ("", []),
        ("-", []),
        ("p", []),
    ],
)
def test_a_client_is_found_by_slug_name_alias_driver_or_part(text: str, slugs: list[str]) -> None:
    assert [client.slug for client in find_client(text)] == slugs


def test_where_require_looks_at_the_root_file_and_where_nothing_does() -> None:
    (psql,) = find_client("psql")
    (pgjdbc,) = find_client("pgjdbc")
    (power_bi,) = find_client("power-bi")
    assert "require" in psql.linux.sslmodes
    assert "require" not in pgjdbc.linux.sslmodes
    assert power_bi.windows.sslmodes == ()
    assert not power_bi.linux.runs_here


def test_importing_knowledge_loads_nothing_heavy_and_folds_nothing() -> None:
    code = (
        "import sys; import qs_certs.knowledge.messages as messages; "
        "print(messages._folded_messages.cache_info().currsize, *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        cwd=PACKAGE.parents[1],
    )
    folded, *loaded = done.stdout.split()
    assert folded == "0"
    assert "qs_certs.knowledge.clients" in loaded
    assert not {"ssl", "socket", "requests", "cryptography", "rich", "typer"} & set(loaded)
