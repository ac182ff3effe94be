"""Error messages of PostgreSQL clients, and the finding code that each stands for.

Only letters, digits and the tilde count: pasted text is folded until nothing else is left, so
that prefixes, line breaks in the middle of a word, quotes of any kind, capitals and
SHOUTED_ERROR_CODES make no difference.  What remains is searched for fixed strings, which takes
time in proportion to its length, whatever was pasted; no pattern can be made to backtrack.
"""

from __future__ import annotations

import re
from functools import cache

from qs_certs.values import Value

GAP = "…"
WHOLE = "="


class Message(Value):
    """Phrases that give away one kind of trouble, and its likely causes, the likeliest first.

    In a phrase GAP stands for anything.  One that begins with WHOLE must be all there is.
    """

    code: str
    causes: tuple[str, ...]
    phrases: tuple[str, ...]


_NOT_TLS = "The certificate was accepted; only the login failed."
_WRONG_PORT = "Host or port is not the service's: Query Service listens on 80 and 5432."
_PROXY = "A web proxy or firewall has taken over port 80; try 5432."
_SOMETHING_BETWEEN = "A TLS-inspecting proxy signs with its own root."
_NO_G2 = "The root file lacks DigiCert Global Root G2, or holds the retired Global Root CA."
_OTHER_PRODUCT = "Another product wrote its own root into the file and replaced what was there."
_CLOCK = "This machine's clock is wrong."
_CRL = "A root.crl lies beside the root file."
_WRONG_FILE = "PGSSLROOTCERT, a service file or the connection string names another file."
_OTHER_HOME = "It was installed for another user or another HOME: compare the path in the message."
_LOCKED_FOLDER = "A folder on the way may not be entered; often sudo made it."
_TILDE = "The path begins with a tilde, which no client expands: write it out."
_BACKSLASH = "The path was given with single backslashes, which key=value strings swallow."
_SYSTEM = "sslrootcert=system was given, which this driver or a libpq before 16 takes for a name."
_TOO_NEW_NAME = "The file has another name: root.crt.txt, root.crt.pem."
_DER = "The file is in DER, UTF-16, PKCS#7 or HTML, or it is empty or a folder."
_GLUED = "A certificate was appended to a last line without a line break."
_BROKEN = "A block was cut off or altered while copying; libpq then drops the whole file."
_GO_STORE = "Go drivers and Npgsql ask the system's own roots where they find no root file."
_NODE_STORE = "Node asks its own list of roots and never reads root.crt."
_OPERATOR = "The operator has not renewed it; the root file cannot help."
_ALIAS = "The connection goes to an address, an alias or a tunnel instead of the real name."

MESSAGES: tuple[Message, ...] = (
    # From the specific to the general: the first that matches is the answer.
    # --- The settings, before any connection ---
    Message(
        "weak-sslmode-refused",
        (
            "sslrootcert=system or sslnegotiation=direct stands beside a weaker sslmode.",
            "PGSSLMODE or a service file sets the weaker mode.",
        ),
        (
            "weak sslmode … may not be used with sslrootcert=system",
            "weak sslmode … may not be used with sslnegotiation=direct",
        ),
    ),
    Message(
        "system-roots",
        (
            "This libpq is 15 or older and looks for a file called system.",
            "The driver knows no such setting.",
            "This build of OpenSSL knows no store of the operating system.",
        ),
        (
            'root certificate file "system" does not exist',
            "FileNotFoundException: system (",
            "=Could not open SSL root certificate file system.",
            "SSL error: unregistered scheme",
        ),
    ),
    Message(
        "invalid-setting",
        (
            "The mode is misspelt: verify-full has a hyphen and no capitals.",
            "PGSSLMODE is set but empty.",
            "A path with spaces stands without quotes.",
        ),
        (
            "invalid sslmode value",
            "unsupported sslmode",
            "sslmode is invalid",
            "sslmode parameter must be one of",
            "in connection info string",
            "invalid connection option",
            "unterminated quoted string in connection",
        ),
    ),
    Message(
        "service-unusable",
        (
            "The name of the service is misspelt.",
            "PGSERVICEFILE points to a file that is not there.",
            "The line in the message has spaces around its equals sign.",
        ),
        (
            "definition of service … not found",
            "syntax error in service file",
            "service file … not found",
        ),
    ),
    # --- The root file ---
    Message(
        "no-home",
        ("The user of this container or service has no home: HOME is unset, no passwd entry.",),
        ("could not get home directory to locate",),
    ),
    Message(
        "folder-unreadable",
        (
            "HOME is another user's, for instance /root in a container that runs as somebody else.",
            "sudo made ~/.postgresql, so it belongs to root.",
        ),
        (
            "could not open certificate file … permission denied",
            "postgresql.crt: permission denied",  # lib/pq before 1.12
        ),
    ),
    Message(
        "stray-client-certificate",
        (
            "postgresql.crt lies in the folder without its postgresql.key.",
            "The key may be read by others: it needs mode 0600.",
        ),
        (
            "certificate present, but not private key file",
            "private key file … has group or world access",
            "private key file … must be owned by",
            "could not load private key file",
            "could not open certificate file",
        ),
    ),
    Message(
        "service-account-home",
        (
            "The program runs in a container or as a service, with a home of its own.",
            "sudo runs it as root.",
            "You are root, and the file has not been installed for root.",
        ),
        tuple(
            f"root certificate file {home} {GAP} {reason}"
            for home in (
                "/root/.postgresql",
                "/nonexistent/",
                "/var/www/",
                "/var/lib/",
                "C:\\Windows\\System32\\config\\systemprofile",
                "C:\\Windows\\ServiceProfiles",
            )
            for reason in ("does not exist", "permission denied", "no such file")
        ),
    ),
    Message(
        "root-unreadable",
        ("sudo wrote the file, so it belongs to root.", "Its mode does not let this user read it."),
        (
            # Python does not name the file.
            "=PermissionError: [Errno 13] Permission denied",
            "load_verify_locations … PermissionError: [Errno 13]",
            "could not read root certificate file … permission denied",
            "could not open ssl root certificate file … permission denied",
            "could not open ssl root certificate file … access is denied",
            "unable to read CA file … permission denied",
            "unable to read CA file … access is denied",
            "pq: open … permission denied",
        ),
    ),
    Message(
        "root-unloadable",
        (_DER, _BROKEN, _GLUED),
        (
            "could not open ssl root certificate file … is a directory",
            "unable to read CA file … is a directory",
            "=IsADirectoryError: [Errno 21] Is a directory",
            "load_verify_locations … IsADirectoryError: [Errno 21]",
        ),
    ),
    Message(
        "root-missing",
        (_TILDE, _WRONG_FILE),
        ("root certificate file ~ … does not exist", "open ssl root certificate file ~"),
    ),
    Message(
        "root-missing",
        (
            "The file has not been installed yet.",
            _OTHER_HOME,
            _TOO_NEW_NAME,
            _LOCKED_FOLDER,
            _BACKSLASH,
            _WRONG_FILE,
            _SYSTEM,
        ),
        (
            "root certificate file … does not exist",
            "or change sslmode to disable server certificate verification",
            "could not open ssl root certificate file",
            "unable to read CA file",
            "ENOENT: no such file or directory, open … .crt",
            ".crt: no such file or directory",  # Go
            "make sure … root.crt … exists and is readable",
            "=FileNotFoundError: [Errno 2] No such file or directory",
            "load_verify_locations … FileNotFoundError: [Errno 2]",
        ),
    ),
    Message(
        "private-key-in-root-file",
        ("A private key stands in the file; Java refuses that.",),
        ("into a TrustManager failed … signed fields invalid",),
    ),
    Message(
        "byte-order-mark",
        ("The file was saved with a byte order mark.",),
        ("into a TrustManager failed … Illegal header: -----END CERTIFICATE",),
    ),
    Message(
        "root-unloadable",
        (_GLUED, _BROKEN),
        (
            "could not read root certificate file … bad end line",
            "Header and footer do not match",
        ),
    ),
    Message(
        "root-unloadable",
        (_BROKEN, "A blank line stands inside a block."),
        (
            "could not read root certificate file … bad base64 decode",
            "could not read root certificate file … too long",
            "could not read root certificate file … not proc type",
            "into a TrustManager failed … Illegal footer",
        ),
    ),
    Message(
        "root-unloadable",
        (_DER, "The lines are indented, or end in carriage returns alone.", _BROKEN),
        (
            "could not read root certificate file … no certificate or crl found",
            "could not read root certificate file … no SSL error reported",
            "NO_CERTIFICATE_OR_CRL_FOUND",
            "the trustAnchors parameter must be non-empty",
        ),
    ),
    Message(
        "root-unloadable",
        (
            "Nothing, or nonsense, after the colon: the file may not be read; often sudo wrote it.",
            _DER,
            _BROKEN,
            _GLUED,
        ),
        (
            "could not read root certificate file",
            "Loading the SSL root certificate",
            "unable to add CA to cert pool",
            "couldn't parse pem from sslrootcert",
            "[X509] PEM lib",
            "CryptographicException",
        ),
    ),
    # --- Verification failed, then something else was tried ---
    Message(
        "verification-failed-then-plaintext",
        (_NO_G2, _OTHER_PRODUCT, _SOMETHING_BETWEEN, _CRL),
        (
            "certificate verify failed … no pg_hba.conf entry … no encryption",
            "no pg_hba.conf entry … no encryption … certificate verify failed",
            "certificate verify failed … no pg_hba.conf entry … SSL off",
            "no pg_hba.conf entry … SSL off … certificate verify failed",
        ),
    ),
    # --- The name ---
    Message(
        "host-name-mismatch",
        (
            _ALIAS,
            "The certificate names its host only in the old common-name field, which Go refuses.",
            "The certificate holds no addresses, and an address was asked for.",
        ),
        (
            "server certificate for … does not match host name",
            "server common name … does not match host name",
            "Hostname mismatch, certificate is not valid for",
            "IP address mismatch, certificate is not valid for",
            "CertificateError: hostname",
            "could not be verified by hostnameverifier",
            "No subject alternative DNS name matching",
            "No subject alternative names matching IP address",
            "No subject alternative names present",
            "No name matching … found",
            "x509: certificate is valid for",
            "x509: certificate is not valid for any names",
            "certificate relies on legacy Common Name field",
            "because it doesn't contain any IP SANs",
            "does not match certificate's altnames",
            "ERR_TLS_CERT_ALTNAME_INVALID",
            "RemoteCertificateNameMismatch",
        ),
    ),
    Message(
        "no-host-name",
        ("Only hostaddr was given.",),
        ("host name must be specified for a verified SSL connection",),
    ),
    # --- One fault of the chain, told apart ---
    Message(
        "revoked-certificate",
        ("The issuer withdrew the certificate.",),
        (
            "certificate verify failed: certificate revoked",
            "CERT_REVOKED",
            "CertificateRevokedException",
            "Certificate has been revoked",
        ),
    ),
    Message(
        "crl-failure",
        (_CRL, "PGSSLCRL or PGSSLCRLDIR names a list that is out of date."),
        (
            "unable to get certificate CRL",
            "CRL has expired",
            "CRL is not yet valid",
            "CRL signature failure",
            "UNABLE_TO_GET_CRL",
            "Could not determine revocation status",
        ),
    ),
    Message(
        "not-yet-valid",
        (_CLOCK, "The certificate was put in place too early."),
        (
            "certificate has expired or is not yet valid … is before",
            "certificate is not yet valid",
            "CERT_NOT_YET_VALID",
            "CertificateNotYetValidException",
        ),
    ),
    Message(
        "expired-certificate",
        (_OPERATOR, _CLOCK, "An old copy of the root, expired by now, is all that the file holds."),
        (
            "certificate has expired or is not yet valid … is after",
            "verify failed: certificate has expired",
            "CERT_HAS_EXPIRED",
            "CertificateExpiredException",
        ),
    ),
    Message(
        "certificate-dates",
        (_OPERATOR, _CLOCK),
        (
            "certificate has expired or is not yet valid",
            "validity check failed",
            "NotTimeValid",
        ),
    ),
    Message(
        "expired-certificate",
        (_OPERATOR, _CLOCK),
        ("certificate has expired",),
    ),
    Message(
        "tls-inspection",
        (_SOMETHING_BETWEEN, "The server belongs to somebody with a root of their own.", _NO_G2),
        (
            "self-signed certificate in certificate chain",
            "SELF_SIGNED_CERT_IN_CHAIN",
        ),
    ),
    Message(
        "self-signed-certificate",
        (
            "The server made its own certificate, as a fresh PostgreSQL does.",
            _WRONG_PORT,
            _SOMETHING_BETWEEN,
        ),
        (
            "verify failed: self-signed certificate",
            "error: self-signed certificate",
            "DEPTH_ZERO_SELF_SIGNED_CERT",
            "=self-signed certificate",
        ),
    ),
    Message(
        "impostor-root",
        (
            "The copy in the root file is not the real root.",
            _SOMETHING_BETWEEN,
        ),
        (
            "does not chain with any of the trust anchors",
            "while trying to verify candidate authority certificate",
            "certificate signature failure",
            "CERT_SIGNATURE_FAILURE",
        ),
    ),
    Message(
        "rejected-certificate",
        (
            "The root stands in the file as a TRUSTED CERTIFICATE that excludes servers.",
            "The server uses a certificate made for another purpose.",
        ),
        (
            "certificate verify failed: certificate rejected",
            "unsupported certificate purpose",
            "unsuitable certificate purpose",
            "INVALID_PURPOSE",
            "CERT_REJECTED",
        ),
    ),
    Message(
        "incomplete-chain",
        (
            "The server does not send its intermediate.",
            _NODE_STORE + " A private root must be given in its ca setting.",
        ),
        ("unable to verify the first certificate", "UNABLE_TO_VERIFY_LEAF_SIGNATURE"),
    ),
    Message(
        "untrusted-chain",
        (_NO_G2, _OTHER_PRODUCT, _SOMETHING_BETWEEN, _GO_STORE, _NODE_STORE),
        (
            "unable to get local issuer certificate",
            "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
            "PKIX path building failed",
            "unable to find valid certification path",
            "PKIX path validation failed",
            "certificate signed by unknown authority",
            "certificate is not trusted",
        ),
    ),
    Message(
        "no-self-signed-root",
        ("The file holds an intermediate but not the root above it.",),
        ("unable to get issuer certificate", "UNABLE_TO_GET_ISSUER_CERT"),
    ),
    Message(
        "windows-store-untrusted",
        (
            "The root is not in the system's certificate store, or the store could not fetch it.",
            "Power BI and Npgsql up to 4 never read root.crt.",
            "Npgsql 10 reads only root.crt once it exists, and the root is not in it.",
            _SOMETHING_BETWEEN,
        ),
        (
            "remote certificate was rejected by the provided RemoteCertificateValidationCallback",
            "remote certificate is invalid according to the validation procedure",
            "remote certificate is invalid because of errors in the certificate chain",
            "RemoteCertificateChainErrors",
            "certificate chain was issued by an authority that is not trusted",
        ),
    ),
    # --- The answer was no TLS at all ---
    Message(
        "gss-refused",
        ("This libpq asks for GSS encryption first.",),
        ("received invalid response to GSSAPI negotiation",),
    ),
    Message(
        "http-proxy",
        (_PROXY, _WRONG_PORT),
        (
            "received invalid response to SSL negotiation: H",
            "Received unknown response H for SSLRequest",
        ),
    ),
    Message(
        "not-postgresql",
        (_WRONG_PORT, _PROXY),
        (
            "received invalid response to SSL negotiation",
            "received unknown response … for SSLRequest",
            "An error occurred while setting up the SSL connection",
            "There was an error establishing an SSL connection",
            "expected authentication request from server, but received",
            "wrong version number",
            "first record does not look like a TLS handshake",
            "Unsupported or unrecognized SSL message",
        ),
    ),
    Message(
        "direct-tls-refused",
        ("sslnegotiation=direct or PGSSLNEGOTIATION is set.",),
        (
            "direct SSL connection was established without ALPN",
            "received direct SSL connection request without ALPN",
            "no application protocol",
        ),
    ),
    Message(
        "old-tls-protocol",
        (
            "The server or a device in between is too old for TLS 1.2.",
            "PGSSLMINPROTOCOLVERSION, PGSSLMAXPROTOCOLVERSION or OpenSSL's own file narrows it.",
        ),
        (
            "alert protocol version",
            "does not support any SSL protocol version between",
            "Received fatal alert: protocol_version",
            "tls: protocol version not supported",
            "server selected unsupported protocol version",
            "SSL error: unsupported protocol",
            "SSL: UNSUPPORTED_PROTOCOL",
            "no protocols available",
        ),
    ),
    Message(
        "server-without-tls",
        (
            _WRONG_PORT,
            "A local test server or a tunnel answers instead.",
            "Some drivers say the same when the answer is not PostgreSQL's, as a web proxy's.",
        ),
        (
            "server does not support SSL",
            "rejected SSL upgrade",
            "Server refuses SSL",
            "server refused TLS connection",
            "SSL is not enabled on the server",
            "No SSL enabled connection from this host is configured",
            "sslmode value … invalid when SSL support is not compiled in",
        ),
    ),
    # --- The login: TLS was fine ---
    Message(
        "session-limit",
        (_NOT_TLS, "Dashboards and notebooks keep their sessions open."),
        ("Session Limit Reached", "SQLSTATE 53400", "FATAL: 53400", "too many clients already"),
    ),
    Message(
        "token-expired",
        (
            _NOT_TLS,
            "The token is older than a day, or its session has ended.",
            "The token was cut short or broken over lines while copying.",
            "User name and token belong to different organisations.",
        ),
        (
            "28P01",
            "password authentication failed",
            "token has expired",
            "token is expired",
            "token expired",
            "expired token",
        ),
    ),
    Message(
        "wrong-authentication",
        (_NOT_TLS, "The client does not send the password as the service asks for it."),
        (
            "AuthenticationCleartextPassword",
            "authentication method requirement … failed",
            "no password supplied",
            "The authentication type … is not supported",
        ),
    ),
    Message(
        "plaintext-refused",
        (
            "sslmode is disable.",
            "prefer or allow fell back to plaintext after TLS had failed.",
            "The driver does not use TLS unless told to.",
        ),
        (
            "no pg_hba.conf entry … no encryption",
            "no pg_hba.conf entry … SSL off",
            "SSL connection is required",
        ),
    ),
    Message(
        "access-list-refused",
        (_NOT_TLS, "Your address is not on the list, for instance without the VPN."),
        (
            "no pg_hba.conf entry",
            "pg_hba.conf rejects connection",
            "SQLSTATE 28000",
            "FATAL: 28000",
        ),
    ),
    Message(
        "server-error",
        ("The service is starting, stopping, or out of connections.",),
        (
            "the database system is starting up",
            "the database system is shutting down",
            "remaining connection slots are reserved",
            "server sent an error response during SSL exchange",
        ),
    ),
    # --- The network ---
    Message(
        "name-not-resolved",
        ("The host name is misspelt.", "The VPN is not connected.", "No name server answers."),
        (
            "could not translate host name",
            "Name or service not known",
            "nodename nor servname provided",
            "Temporary failure in name resolution",
            "getaddrinfo ENOTFOUND",
            "getaddrinfo EAI_AGAIN",
            "getaddrinfo failed",
            "UnknownHostException",
            "no such host",
            "No such host is known",
        ),
    ),
    Message(
        "unix-socket",
        ("No host was given, so the client looked for a server on this machine.",),
        (
            "connections on that socket",
            "connections on Unix domain socket",
        ),
    ),
    Message(
        "timed-out",
        ("A firewall drops the packets.", "The VPN is not connected.", _WRONG_PORT),
        (
            "timeout expired",
            "Connection timed out",
            "connect timed out",
            "connect ETIMEDOUT",
            "dial tcp … i/o timeout",
            "failed to connect to … context deadline exceeded",
            "Timeout during connection attempt",
            "did not properly respond after a period of time",
            "The operation has timed out",
        ),
    ),
    Message(
        "unreachable",
        (_WRONG_PORT, "The VPN is not connected.", "A firewall refuses the connection."),
        (
            "Connection refused",
            "ECONNREFUSED",
            "target machine actively refused it",
            "Network is unreachable",
            "ENETUNREACH",
            "No route to host",
            "EHOSTUNREACH",
            "Check that the hostname and port are correct and that the postmaster",
            "Can't create a connection to host",  # pg8000, for a name without an address, too
        ),
    ),
    Message(
        "closed-at-once",
        (
            "A firewall or an address list cuts the connection off.",
            _PROXY,
            "sslnegotiation=direct meets a server that does not know it.",
            "The server crashed or was restarted.",
        ),
        (
            "server closed the connection unexpectedly",
            "unexpected connection_lost() call",
            "SSL SYSCALL error: EOF detected",
            "SSL SYSCALL error: Success",
            "unexpected eof while reading",
            "EOF occurred in violation of protocol",
            "UNEXPECTED_EOF_WHILE_READING",
            "Remote host terminated the handshake",
            "java.io.EOFException",
            "tls error: EOF",
            "startup message: unexpected EOF",
            "Connection terminated unexpectedly",
            "Client network socket disconnected before secure TLS connection",
            "Connection reset by peer",
            "forcibly closed by the remote host",
            "read ECONNRESET",
            "Attempted to read past the end of the stream",
            "=EOF",
            "=pq: EOF",
            "=unexpected EOF",
            "=The connection attempt failed.",
            "PSQLException: The connection attempt failed",
        ),
    ),
    # --- Wrappings and catch-alls ---
    Message(
        "driver-wants-verification",
        ("SSL Mode=Require is set with Npgsql 6 or 7.",),
        ("please use VerifyFull or VerifyCA instead of Require",),
    ),
    Message(
        "verification-failed",
        (_NO_G2, _OTHER_PRODUCT, _CRL, _CLOCK, _SOMETHING_BETWEEN, _WRONG_FILE),
        (
            "certificate verify failed",
            "tls: failed to verify certificate",
        ),
    ),
    Message(
        "handshake-failed",
        (
            "The certificate was not accepted: look for the inner message.",
            _PROXY,
            "The two sides share no cipher.",
        ),
        (
            "Exception while performing SSL handshake",
            "Authentication failed, see inner exception",
            "handshake failure",
            "SSLHandshakeException",
            "could not initiate SSL connection",
        ),
    ),
    Message(
        "provider-failed",
        (
            "Windows does not trust the root: the words after it speak of a remote certificate.",
            "The token has expired.",
            "Server lacks its port: <host>:80.",
        ),
        (
            "An error happened while reading data from the provider",
            "We couldn't authenticate with the credentials provided",
        ),
    ),
)


_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_NEITHER_LETTER_NOR_DIGIT = re.compile(r"[^\w~]+|_+")


def fold(text: str) -> str:
    """The letters, digits and tildes of *text*, without difference of case; colours are dropped."""
    return _NEITHER_LETTER_NOR_DIGIT.sub("", _COLOUR.sub("", text)).casefold()


def recognise(text: str) -> Message | None:
    """The most specific message in *text*, or None.  Linear in the length of *text*."""
    pasted = fold(text)
    for message, phrases in _folded_messages():
        if any(phrase.occurs_in(pasted) for phrase in phrases):
            return message
    return None


class _Phrase(Value):
    parts: tuple[str, ...]
    whole: bool

    def occurs_in(self, pasted: str) -> bool:
        if self.whole:
            return pasted == self.parts[0]
        end = 0
        for part in self.parts:
            # The earliest place of each part leaves the most room for the next one, so there is
            # never a reason to go back.
            start = pasted.find(part, end)
            if start < 0:
                return False
            end = start + len(part)
        return True


@cache
def _folded_messages() -> tuple[tuple[Message, tuple[_Phrase, ...]], ...]:
    return tuple((message, tuple(map(_folded, message.phrases))) for message in MESSAGES)


def _folded(phrase: str) -> _Phrase:
    return _Phrase(tuple(map(fold, phrase.split(GAP))), whole=phrase.startswith(WHOLE))
