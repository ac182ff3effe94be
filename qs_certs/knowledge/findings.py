"""Every finding code: what it is called, why it matters, and the commands that mend it.

One table.  `diagnosis` and `changes` report these codes, `errors` carries some of them, and
`messages` recognises others in pasted text.  *severity* is the usual one; a finding may differ.
Commands are literal; only what we cannot know stands in <angle brackets>.
"""

from __future__ import annotations

from qs_certs.results import Severity
from qs_certs.values import Value


class FindingKind(Value):
    """What one finding code stands for.

    *meaning* says in one to three sentences why it matters.  *fix* holds commands for a POSIX
    shell, *fix_on_windows* those for PowerShell where they differ (empty: the same).
    """

    code: str
    severity: Severity
    title: str
    meaning: str
    fix: tuple[str, ...]
    fix_on_windows: tuple[str, ...] = ()


_SET_VERIFY_FULL = (
    "export PGSSLMODE=verify-full",
    'qs-certs check "host=<host> port=<port> sslmode=verify-full"',
)
_SET_VERIFY_FULL_ON_WINDOWS = (
    "$Env:PGSSLMODE = 'verify-full'",
    'qs-certs check "host=<host> port=<port> sslmode=verify-full"',
)
_CHECK_SERVER = ("qs-certs check -h <host> -p <port>",)

_ROOT_FILE = (
    FindingKind(
        "root-missing",
        "error",
        "There is no root file",
        "libpq finds no file with trust anchors. verify-ca and verify-full fail, and every other "
        "mode connects without looking at who answers.",
        ("qs-certs install",),
    ),
    FindingKind(
        "root-unreadable",
        "error",
        "The root file cannot be read",
        "The file is there, but this user may not read it; often sudo made it. In prefer, libpq "
        "then silently falls back to plaintext; require and stricter modes fail.",
        (
            'sudo chown "$(id -un)" ~/.postgresql ~/.postgresql/root.crt',
            "chmod 755 ~/.postgresql",
            "chmod 644 ~/.postgresql/root.crt",
        ),
        ('icacls "$Env:APPDATA\\postgresql\\root.crt" /grant "${Env:USERNAME}:R"',),
    ),
    FindingKind(
        "root-unloadable",
        "error",
        "The root file does not load",
        "One block that OpenSSL cannot decode makes the whole file useless, good certificates "
        "included. In prefer, libpq then silently falls back to plaintext.",
        ("qs-certs install --repair", "qs-certs list"),
    ),
    FindingKind(
        "pinned-root-missing",
        "error",
        "The root that the service needs is not in the root file",
        "The file loads, but DigiCert Global Root G2 is not in it. As soon as a root file exists, "
        "libpq checks every chain against it, so even sslmode=require fails.",
        ("qs-certs install",),
    ),
    FindingKind(
        "retired-root-only",
        "error",
        "Only the retired root is there",
        "The file holds DigiCert Global Root CA, which older guides name. Since 24 January 2024 "
        "Query Service's chain ends in DigiCert Global Root G2, so verification fails.",
        ("qs-certs install",),
    ),
    FindingKind(
        "root-expired",
        "error",
        "A root has expired",
        "OpenSSL refuses a chain that ends in an expired root, and no later date of the server's "
        "own certificate makes up for it.",
        ("qs-certs install", "qs-certs list"),
    ),
    FindingKind(
        "root-expires-soon",
        "warning",
        "A root expires soon",
        "From its last day on, every chain that ends in this root fails. The service will have "
        "moved to another root by then, and that one must be in the file first.",
        ("qs-certs roots", "qs-certs install <root>"),
    ),
    FindingKind(
        "root-distrusted",
        "warning",
        "A root is past its published distrust date",
        "Browsers no longer trust this root. libpq knows no such dates and goes on accepting it, "
        "but public services are moving away from it.",
        ("qs-certs roots", "qs-certs install <root>"),
    ),
    FindingKind(
        "root-distrust-soon",
        "warning",
        "A root nears its published distrust date",
        "Browsers stop trusting this root on that day, and services change to another root some "
        "time before. libpq itself does not look at the date.",
        ("qs-certs roots", "qs-certs install <root>"),
    ),
    FindingKind(
        "no-self-signed-root",
        "error",
        "The root file holds no self-signed root",
        "A file with a leaf or an intermediate alone is enough for Java and Go, but not for "
        "libpq: it follows the chain until a self-signed certificate ends it.",
        ("qs-certs install",),
    ),
    FindingKind(
        "private-key-in-root-file",
        "warning",
        "The root file holds a private key",
        "libpq skips it, pgjdbc refuses the whole file, and a key does not belong where everybody "
        "may read. --replace keeps only the named roots; rollback brings the others back.",
        ("qs-certs list", "qs-certs install --replace"),
    ),
    FindingKind(
        "byte-order-mark",
        "warning",
        "The root file has a byte order mark",
        "OpenSSL 3 ignores the mark. With OpenSSL 1 and Go the certificate behind it is silently "
        "lost, and pgjdbc refuses the file.",
        ("qs-certs install --repair",),
    ),
    FindingKind(
        "hidden-content",
        "warning",
        "Part of the root file is invisible to libpq",
        "UTF-16 or NUL bytes, such as PowerShell's >> leaves behind, are passed over without an "
        "error; on Windows, so is all behind a Ctrl-Z, such as copy a+b leaves behind, by an "
        "OpenSSL before 3.4. A certificate in that part looks installed and is not.",
        ("qs-certs install --repair", "qs-certs list"),
    ),
    FindingKind(
        "misplaced-root-file",
        "warning",
        "A root file is in the wrong folder",
        "The folder is close to the right one, but no client reads it. In require everything "
        "seems to work, unverified.",
        ("qs-certs install",),
    ),
    FindingKind(
        "misnamed-root-file",
        "warning",
        "A root file has almost the right name",
        "libpq reads root.crt and nothing else: not root.crt.txt, not root.crt.pem, not the name "
        "under which the file was downloaded.",
        ("qs-certs install", "ls -l ~/.postgresql"),
        ("qs-certs install", "Get-ChildItem $Env:APPDATA\\postgresql"),
    ),
    FindingKind(
        "root-crl-present",
        "warning",
        "There is a revocation list beside the root file",
        "libpq loads root.crl without being asked, and from then on demands a current list for "
        "every certificate of every chain. One that is out of date, or covers only the root, "
        "makes the right root fail.",
        ("mv ~/.postgresql/root.crl ~/.postgresql/root.crl.unused",),
        ("Rename-Item $Env:APPDATA\\postgresql\\root.crl root.crl.unused",),
    ),
    FindingKind(
        "stray-client-certificate",
        "error",
        "There is a client certificate without a usable key",
        "libpq takes postgresql.crt for every server, and then insists on postgresql.key with "
        "private rights. Without it, TLS fails, and prefer silently falls back to plaintext.",
        ("mv ~/.postgresql/postgresql.crt ~/.postgresql/postgresql.crt.unused",),
        ("Rename-Item $Env:APPDATA\\postgresql\\postgresql.crt postgresql.crt.unused",),
    ),
    FindingKind(
        "folder-unreadable",
        "error",
        "The folder of the root file cannot be entered",
        "To libpq a file in a closed folder does not exist. verify-full then reports a missing "
        "file that is there, and prefer silently falls back to plaintext.",
        ('sudo chown "$(id -un)" ~/.postgresql', "chmod 700 ~/.postgresql"),
        ('icacls "$Env:APPDATA\\postgresql" /grant "${Env:USERNAME}:(OI)(CI)RX"',),
    ),
    FindingKind(
        "folder-writable-by-others",
        "warning",
        "Others may write to the folder of the root file",
        "Whoever can replace the root file decides which servers you trust.",
        ("chmod go-w ~/.postgresql",),
        ('icacls "$Env:APPDATA\\postgresql"',),
    ),
    FindingKind(
        "environment-overrides",
        "warning",
        "An environment variable decides",
        "A PGSSL* or SSL_CERT* variable replaces the default file or mode for every connection "
        "that does not name its own.",
        ("env | grep -E '^(PGSSL|PGSERVICE|PGREQUIRESSL|SSL_CERT)'", "unset PGSSLROOTCERT"),
        ("Get-ChildItem Env:PG*, Env:SSL_CERT*", "Remove-Item Env:PGSSLROOTCERT"),
    ),
    FindingKind(
        "service-overrides",
        "warning",
        "A service file decides",
        "The entry names a root file or an sslmode of its own, and it outranks the environment "
        "and the default.",
        ("qs-certs check --service <service>",),
    ),
    FindingKind(
        "home-differs",
        "warning",
        "HOME is not the home of this user's account",
        "libpq 15 and later follow HOME; libpq up to 14, Java and most of Go follow the password "
        "database. The same user then has two default root files.",
        (
            'qs-certs install --target "$HOME/.postgresql/root.crt"',
            "qs-certs install --target ~<user>/.postgresql/root.crt",
        ),
        ("qs-certs install",),
    ),
    FindingKind(
        "wsl-home",
        "ok",
        "Windows and its Linux subsystem have separate homes",
        "A root file installed in one is not seen by the programs of the other.",
        ("qs-certs install", "powershell.exe -Command qs-certs install"),
        ("qs-certs install", "wsl qs-certs install"),
    ),
    FindingKind(
        "appdata-redirected",
        "warning",
        "The roaming folder is not where APPDATA points",
        "libpq asks Windows for the folder; Java, .NET and Go read the variable. The two differ, "
        "so one root file does not serve both.",
        ("qs-certs clients",),
        ("qs-certs install", 'qs-certs install --target "$Env:APPDATA\\postgresql\\root.crt"'),
    ),
    FindingKind(
        "store-python",
        "warning",
        "This Python comes from the Microsoft Store",
        "New files that it writes below AppData land in a private copy, which psql and other "
        "programs do not see.",
        ("qs-certs list",),
        ("winget install Python.Python.3.13", "qs-certs install"),
    ),
    FindingKind(
        "code-page-loses-path",
        "error",
        "libpq cannot write the path of the root file",
        "On Windows libpq names files in the ANSI code page. A letter that this page lacks, as in a "
        "user name of another script, reaches it as a question mark, and the file does not exist "
        "for it. Programs in Unicode, Python among them, see the file all the same.",
        ("qs-certs check",),
        (
            'qs-certs install --target "$Env:ProgramData\\postgresql\\root.crt"',
            'setx PGSSLROOTCERT "$Env:ProgramData\\postgresql\\root.crt"',
        ),
    ),
    FindingKind(
        "system-roots",
        "warning",
        "The system's roots are asked for",
        "sslrootcert=system replaces the root file from libpq 16 on. Up to 15 it is the name of a "
        "file in the current folder, and libraries from Python wheels find no system roots.",
        ("psql --version", "unset PGSSLROOTCERT", "qs-certs install"),
        ("psql --version", "Remove-Item Env:PGSSLROOTCERT", "qs-certs install"),
    ),
    FindingKind(
        "invalid-setting",
        "error",
        "A connection setting is not valid",
        "libpq gives up before it opens a connection. Names of modes are lower case; in a "
        "key=value string a path with spaces needs quotes, and a backslash must be doubled.",
        ('qs-certs check "host=<host> port=<port> sslmode=verify-full"',),
    ),
    FindingKind(
        "service-unusable",
        "error",
        "The service entry cannot be used",
        "The service file is missing, has no such section, or has a line that libpq refuses: no "
        "spaces around the equals sign, no quotes, no comment after a value.",
        ("qs-certs check --service <service>",),
    ),
    FindingKind(
        "no-home",
        "error",
        "There is no home to look for the root file in",
        "This user has no entry in the password database and HOME is not set, as in many "
        "containers. Name the root file instead.",
        (
            "qs-certs install --target /etc/ssl/qs-root.crt",
            "export PGSSLROOTCERT=/etc/ssl/qs-root.crt",
        ),
        (
            "qs-certs install --target C:\\ProgramData\\qs-root.crt",
            "$Env:PGSSLROOTCERT = 'C:\\ProgramData\\qs-root.crt'",
        ),
    ),
    FindingKind(
        "service-account-home",
        "error",
        "The program runs as another user",
        "The path in the message is the home of a service or container user, not yours. The file "
        "must be there, or the program must be told where it is.",
        ("qs-certs install --user <user>", "export PGSSLROOTCERT=<file>"),
        ("qs-certs install --user <user>", "$Env:PGSSLROOTCERT = '<file>'"),
    ),
)

_CONNECTION = (
    FindingKind(
        "weak-sslmode",
        "warning",
        "The sslmode in use protects less than intended",
        "Only verify-full makes sure that the server is the one that was meant. require checks "
        "the chain if there is a root file, never the name; prefer and allow may send the "
        "password in the clear.",
        _SET_VERIFY_FULL,
        _SET_VERIFY_FULL_ON_WINDOWS,
    ),
    FindingKind(
        "weak-sslmode-refused",
        "error",
        "libpq refuses this sslmode together with another setting",
        "sslrootcert=system demands verify-full, and sslnegotiation=direct demands require or "
        "stricter.",
        _SET_VERIFY_FULL,
        _SET_VERIFY_FULL_ON_WINDOWS,
    ),
    FindingKind(
        "plaintext-possible",
        "warning",
        "The connection may end up unencrypted",
        "After a failed verification prefer tries again in plaintext, and allow begins with it. "
        "An attacker needs only to make TLS fail to be sent the password.",
        _SET_VERIFY_FULL,
        _SET_VERIFY_FULL_ON_WINDOWS,
    ),
    FindingKind(
        "public-root-verify-ca",
        "warning",
        "verify-ca with a public root proves little",
        "Anyone can obtain a certificate under a public root. Only verify-full also checks that "
        "it was issued for this host.",
        _SET_VERIFY_FULL,
        _SET_VERIFY_FULL_ON_WINDOWS,
    ),
    FindingKind(
        "verification-failed",
        "error",
        "The server's certificate was not accepted",
        "libpq has one sentence for every fault of a chain: unknown root, expired, not yet valid, "
        "revocation list, missing intermediate. check repeats the handshake and tells which.",
        ("qs-certs check -h <host> -p <port>", "qs-certs install"),
    ),
    FindingKind(
        "verification-failed-then-plaintext",
        "error",
        "Verification failed, and the plaintext attempt was refused",
        "The complaint about pg_hba.conf is only a side effect: prefer or allow tried "
        "twice, once with TLS and once without. What needs mending is the certificate.",
        ("qs-certs check -h <host> -p <port>", "qs-certs install", _SET_VERIFY_FULL[0]),
        ("qs-certs check -h <host> -p <port>", "qs-certs install", _SET_VERIFY_FULL_ON_WINDOWS[0]),
    ),
    FindingKind(
        "untrusted-chain",
        "error",
        "The chain ends in no trusted root",
        "None of the trust anchors in use issued the end of the server's chain.",
        ("qs-certs check -h <host> -p <port>", "qs-certs install"),
    ),
    FindingKind(
        "windows-store-untrusted",
        "error",
        "Windows or .NET does not accept the server's certificate",
        "Power BI and programs with an old Npgsql judge by the system's own certificate store and "
        "never read root.crt; newer Npgsql reads both. Import the root into the store.",
        ("qs-certs clients npgsql", "qs-certs check -h <host> -p <port>"),
        (
            "qs-certs roots --pem digicert-global-root-g2 | Out-File -Encoding ascii g2.crt",
            "certutil -user -addstore Root g2.crt",
            "qs-certs clients power-bi",
        ),
    ),
    FindingKind(
        "provider-failed",
        "error",
        "Power BI's provider gave up, with the reason behind it",
        "This message only wraps another. What follows it says why: a certificate that Windows does "
        "not trust, a wrong port, or an expired token.",
        ("qs-certs clients power-bi", "qs-certs check -h <host> -p <port>"),
    ),
    FindingKind(
        "incomplete-chain",
        "error",
        "The chain has a gap",
        "The server sends its own certificate without the intermediate that issued it, so the "
        "way to the root is missing. The operator of the server must send it.",
        ("qs-certs check -h <host> -p <port>",),
    ),
    FindingKind(
        "impostor-root",
        "error",
        "The right name, but another key",
        "The chain names a root that the file holds too, but it was signed with a different key. "
        "Either the copy in the file is not the real root, or the server's is not.",
        ("qs-certs list", "qs-certs check -h <host> -p <port>"),
    ),
    FindingKind(
        "catalogue-root-would-fix",
        "error",
        "A root of our catalogue would complete the chain",
        "The server is in order; only its trust anchor is missing from the root file.",
        ("qs-certs install <root>",),
    ),
    FindingKind(
        "self-signed-certificate",
        "error",
        "The server signed its own certificate",
        "No root stands behind it. A public service never does that: it is another server, a "
        "test server, or something in between.",
        ("qs-certs check -h <host> -p <port>",),
    ),
    FindingKind(
        "tls-inspection",
        "error",
        "Something on the way answers with its own certificate",
        "The chain ends in a root that no public service uses, as behind a proxy that opens TLS. "
        "It can read everything, the token included. Ask your network's people for an exception "
        "for this host.",
        ("qs-certs check -h <host> -p <port>",),
    ),
    FindingKind(
        "rejected-certificate",
        "error",
        "A certificate in the chain may not be used for servers",
        "A trust setting in the root file, or the certificate's own purpose, forbids it.",
        ("qs-certs list", "qs-certs check -h <host> -p <port>"),
    ),
    FindingKind(
        "expired-certificate",
        "error",
        "A certificate of the server has expired",
        "The operator has to renew it; nothing in the root file can help. If several services "
        "are expired at once, look at this machine's clock.",
        ("date -u", "qs-certs check -h <host> -p <port>"),
        ("Get-Date -AsUTC", "qs-certs check -h <host> -p <port>"),
    ),
    FindingKind(
        "certificate-expires-soon",
        "warning",
        "A certificate of the server expires soon",
        "Unless the operator renews it, connections fail after that day. Root and root file stay "
        "as they are.",
        ("qs-certs check -h <host> -p <port> --warn-days 14",),
    ),
    FindingKind(
        "not-yet-valid",
        "error",
        "A certificate is not valid yet",
        "Nearly always this machine's clock is slow.",
        ("date -u", "timedatectl status"),
        ("w32tm /query /status", "w32tm /resync"),
    ),
    FindingKind(
        "certificate-dates",
        "error",
        "Today is outside the dates of a certificate",
        "It has expired, or is not valid yet because this machine's clock is wrong.",
        ("date -u", "qs-certs check -h <host> -p <port>"),
        ("Get-Date -AsUTC", "qs-certs check -h <host> -p <port>"),
    ),
    FindingKind(
        "host-name-mismatch",
        "error",
        "The certificate is for another host name",
        "The chain is good, but the certificate does not name the host that was asked for. "
        "Connect by the name in the certificate, not by address or alias; through a tunnel give "
        "that name as host and the tunnel's address as hostaddr.",
        ('qs-certs check "host=<host> hostaddr=<address> port=<port> sslmode=verify-full"',),
    ),
    FindingKind(
        "no-host-name",
        "error",
        "There is no host name to compare",
        "verify-full needs host; with hostaddr alone there is nothing that the certificate could "
        "be compared with.",
        ('qs-certs check "host=<host> hostaddr=<address> port=<port> sslmode=verify-full"',),
    ),
    FindingKind(
        "crl-failure",
        "error",
        "A revocation list stands in the way",
        "A list is loaded, so every certificate of the chain needs a current one, and at least "
        "one is missing, out of date or unreadable.",
        (
            "mv ~/.postgresql/root.crl ~/.postgresql/root.crl.unused",
            "unset PGSSLCRL PGSSLCRLDIR",
        ),
        (
            "Rename-Item $Env:APPDATA\\postgresql\\root.crl root.crl.unused",
            "Remove-Item Env:PGSSLCRL, Env:PGSSLCRLDIR",
        ),
    ),
    FindingKind(
        "revoked-certificate",
        "error",
        "A certificate of the server was revoked",
        "Its issuer withdrew it. Do not connect; tell the operator.",
        ("qs-certs check -h <host> -p <port>",),
    ),
    FindingKind(
        "server-without-tls",
        "error",
        "The server offers no TLS",
        "It answered, and declined to encrypt. Query Service always encrypts, so this is another "
        "server, another port, or something in between.",
        _CHECK_SERVER,
    ),
    FindingKind(
        "not-postgresql",
        "error",
        "Something other than PostgreSQL answers",
        "The reply to the request for TLS was not one that a PostgreSQL server gives. Look at "
        "host and port.",
        _CHECK_SERVER,
    ),
    FindingKind(
        "http-proxy",
        "error",
        "A web server or web proxy answers",
        "Port 80 is a port of Query Service, but also one that web proxies take over. Try 5432, "
        "or ask for the host to be let through.",
        ("qs-certs check -h <host> -p 5432",),
    ),
    FindingKind(
        "gss-refused",
        "error",
        "The service does not understand GSS encryption",
        "libpq 12 and later may ask for GSS encryption before TLS. Query Service does not know it.",
        ("export PGGSSENCMODE=disable",),
        ("$Env:PGGSSENCMODE = 'disable'",),
    ),
    FindingKind(
        "old-tls-protocol",
        "error",
        "The two sides share no TLS version",
        "libpq 13 and later ask for TLS 1.2 at least. The server, or what stands in between, "
        "speaks only older versions, or the client was limited.",
        ("qs-certs check -h <host> -p <port>", "env | grep PGSSLM"),
        ("qs-certs check -h <host> -p <port>", "Get-ChildItem Env:PGSSLM*"),
    ),
    FindingKind(
        "handshake-failed",
        "error",
        "The TLS handshake broke off",
        "The two sides did not agree, or one of them was not speaking TLS. The reason usually "
        "stands further down in the message.",
        _CHECK_SERVER,
    ),
    FindingKind(
        "server-error",
        "error",
        "The server answered with an error before TLS",
        "It understood the request and refused it, for instance because it has no free "
        "connections or is starting up. Nothing is known about its certificate.",
        _CHECK_SERVER,
    ),
    FindingKind(
        "closed-at-once",
        "error",
        "The connection was closed in the middle",
        "A firewall, a load balancer or an address list often does that. It also happens where "
        "sslnegotiation=direct meets a server that does not know it.",
        _CHECK_SERVER,
    ),
    FindingKind(
        "timed-out",
        "error",
        "Nothing answered in time",
        "Usually a firewall that drops packets. Nothing is known about the certificate.",
        ("qs-certs check -h <host> -p 80", "qs-certs check -h <host> -p 5432"),
    ),
    FindingKind(
        "unreachable",
        "error",
        "No connection could be made",
        "Nothing listens at that address and port, or the network has no way there.",
        ("qs-certs check -h <host> -p 80", "qs-certs check -h <host> -p 5432"),
    ),
    FindingKind(
        "name-not-resolved",
        "error",
        "The host name is unknown",
        "A typing error, a missing VPN, or a name server that does not answer.",
        ("getent hosts <host>", "qs-certs check -h <host> -p <port>"),
        ("Resolve-DnsName <host>", "qs-certs check -h <host> -p <port>"),
    ),
    FindingKind(
        "unix-socket",
        "warning",
        "The connection goes through a local socket",
        "libpq never uses TLS on a Unix-domain socket, whatever sslmode says. Give a host name "
        "to reach another machine.",
        _CHECK_SERVER,
    ),
    FindingKind(
        "direct-tls-refused",
        "error",
        "The server does not take direct TLS",
        "sslnegotiation=direct starts TLS at once, which PostgreSQL 17 and later understand. "
        "Query Service wants to be asked first.",
        (
            "unset PGSSLNEGOTIATION",
            'qs-certs check "host=<host> port=<port> sslnegotiation=postgres"',
        ),
        (
            "Remove-Item Env:PGSSLNEGOTIATION",
            'qs-certs check "host=<host> port=<port> sslnegotiation=postgres"',
        ),
    ),
    FindingKind(
        "driver-wants-verification",
        "error",
        "Npgsql 6 and 7 do not take Require alone",
        "These versions ask you to say whether to verify. Choose VerifyFull; trusting any "
        "certificate would hand the token to whoever answers.",
        ("qs-certs clients npgsql", "qs-certs install"),
    ),
    FindingKind(
        "plaintext-refused",
        "error",
        "The server refuses connections without TLS",
        "The client came unencrypted: sslmode is disable, or allow or prefer fell back after TLS "
        "had failed.",
        _SET_VERIFY_FULL,
        _SET_VERIFY_FULL_ON_WINDOWS,
    ),
    FindingKind(
        "access-list-refused",
        "error",
        "The server does not let this user in from here",
        "This is not about certificates: TLS worked. Host, user, database or address is missing "
        "from the server's list.",
        _CHECK_SERVER,
    ),
    FindingKind(
        "token-expired",
        "error",
        "The password or token was refused",
        "This is not about certificates: TLS worked. An expiring Query Service token lasts a day "
        "at most; copy a new one from the credentials page.",
        _CHECK_SERVER,
    ),
    FindingKind(
        "wrong-authentication",
        "error",
        "The service wants another kind of login",
        "This is not about certificates: TLS worked. Query Service wants user name and token as "
        "a plain password, which only TLS keeps secret.",
        _CHECK_SERVER,
    ),
    FindingKind(
        "session-limit",
        "error",
        "The service has too many of your sessions",
        "This is not about certificates: TLS worked. Close other clients and dashboards, or lower "
        "their number of connections, and try again.",
        _CHECK_SERVER,
    ),
)

_GOOD = (
    FindingKind(
        "root-present",
        "ok",
        "The root is there, and the file loads",
        "libpq can verify servers under it. To know about one server, check it by name.",
        _CHECK_SERVER,
    ),
    FindingKind(
        "verified",
        "ok",
        "The server was verified",
        "Its chain ends in a certificate of the root file and, in verify-full, its certificate is "
        "for the host that was asked for.",
        _SET_VERIFY_FULL,
        _SET_VERIFY_FULL_ON_WINDOWS,
    ),
    FindingKind(
        "reached",
        "ok",
        "A connection in the mode that was asked for succeeds",
        "The mode is weaker than verify-full, so it does not prove who answers.",
        _SET_VERIFY_FULL,
        _SET_VERIFY_FULL_ON_WINDOWS,
    ),
    FindingKind(
        "goal-missed",
        "error",
        "A connection in the mode that was asked for fails",
        "The server answers, but this machine's own files stand in the way. Another finding of "
        "the same check names the file.",
        ("qs-certs check",),
    ),
    FindingKind(
        "no-known-server",
        "ok",
        "No server is known on this machine",
        "Neither the service files nor .pgpass nor the environment names a host.",
        _CHECK_SERVER,
    ),
)

_CHANGES = (
    FindingKind(
        "dedicated-file",
        "ok",
        "The root went into a file of its own",
        "libpq reads that file only where a connection string, a service or PGSSLROOTCERT names "
        "it. No other connection changes.",
        ("qs-certs install --dedicated",),
    ),
    FindingKind(
        "default-overridden",
        "warning",
        "libpq reads another file than the one written",
        "PGSSLROOTCERT points elsewhere, so libpq does not look at the file that was changed.",
        ('qs-certs install --target "$PGSSLROOTCERT"', "unset PGSSLROOTCERT"),
        ("qs-certs install --target $Env:PGSSLROOTCERT", "Remove-Item Env:PGSSLROOTCERT"),
    ),
    FindingKind(
        "first-root-file",
        "warning",
        "root.crt did not exist before",
        "From now on libpq checks every TLS server against it. require fails for servers under "
        "another root, and prefer falls back to plaintext where the server allows that.",
        (
            "qs-certs install --impact --dry-run",
            "qs-certs rollback",
            "qs-certs install --dedicated",
        ),
    ),
    FindingKind(
        "could-not-download",
        "warning",
        "The copy in the package was used",
        "The download failed, so the root came from this program itself. It is the same "
        "certificate: both are held to the same fingerprint.",
        ("qs-certs install --offline",),
    ),
    FindingKind(
        "sudo-target",
        "ok",
        "The file of the user behind sudo was chosen",
        "Under sudo the root file meant is yours, not root's. Name a user to choose another.",
        ("qs-certs install --user root",),
    ),
    FindingKind(
        "accounts-left-out",
        "ok",
        "Some accounts were left out",
        "--all-users means people with a home on this machine: not the accounts of services, and "
        "no home on a network, where another machine may be in charge. --user includes them.",
        ("qs-certs install --user <name>",),
    ),
    FindingKind(
        "no-accounts",
        "ok",
        "There are no users to do this for",
        "No account here belongs to a person with a home on this machine.",
        ("qs-certs install --user <name>",),
    ),
    FindingKind(
        "home-refused",
        "error",
        "A user's home is missing, or others can change it",
        "The home, and the folder of the root file in it, must belong to the user and be closed to "
        "changes by everybody else; otherwise somebody else decides whom this user trusts.",
        ("ls -ld ~ ~/.postgresql", "chmod go-w ~ ~/.postgresql"),
    ),
    FindingKind(
        "nothing-to-roll-back",
        "warning",
        "There is nothing to undo",
        "No recorded change of this file led to what it holds now.",
        ("qs-certs history",),
    ),
    FindingKind(
        "change-interrupted",
        "warning",
        "A change was interrupted, and may or may not have happened",
        "Only the root file tells, and it cannot be read now.",
        ("qs-certs history",),
    ),
    FindingKind(
        "journal-quarantined",
        "warning",
        "An earlier history of this user's root files was damaged and has been put aside",
        "The rollback store went on with a new journal. Every content that the damaged one names is "
        "still in the store; README.txt there says how to bring one back. Nothing of it is deleted "
        "while the damaged journal lies there.",
        ("qs-certs history", "remove journal.broken-N.jsonl once nobody needs it any more"),
    ),
    FindingKind(
        "repaired",
        "ok",
        "Damage in the root file was mended",
        "Form was put right: line ends, encoding, a missing newline; with --repair, blocks that "
        "could not be read were dropped. The former content is kept.",
        ("qs-certs history", "qs-certs rollback"),
    ),
)

_ERRORS = (
    FindingKind(
        "bug",
        "error",
        "The program has a bug",
        "Something unforeseen happened in the work for one user. The root file has its old "
        "or its new content; the names of the place and the error, which are shown, hold no secret.",
        ("qs-certs history --user <name>",),
    ),
    FindingKind(
        "interrupted",
        "error",
        "The run was interrupted",
        "Ctrl-C ended it. Every root file has its old or its new content, never a part of one; "
        "what was done before stays done, and the same command does the rest.",
        ("qs-certs history",),
    ),
    FindingKind(
        "wrong-usage",
        "error",
        "The command cannot be carried out as it stands",
        "An option or argument is missing, unknown, or contradicts another.",
        ("qs-certs --help",),
    ),
    FindingKind(
        "could-not-fetch",
        "error",
        "The source could not be fetched",
        "It did not answer, or sent nothing that holds a certificate. Trying again may help; "
        "offline needs no network.",
        ("qs-certs install --offline",),
    ),
    FindingKind(
        "could-not-read",
        "error",
        "A file cannot be read",
        "It is there, but this user may not read it, or it is not a plain file.",
        ("ls -l ~/.postgresql", "qs-certs check"),
        ('icacls "$Env:APPDATA\\postgresql\\root.crt"', "qs-certs check"),
    ),
    FindingKind(
        "integrity",
        "error",
        "A certificate or a stored content is not what it should be",
        "Stop and find out why; no option overrides this.",
        ("qs-certs roots", "qs-certs history"),
    ),
    FindingKind(
        "wrong-fingerprint",
        "error",
        "The certificate is not the pinned one",
        "The source sent another certificate than the one expected, as a proxy that opens TLS or "
        "a forged download would. Nothing was written, and no option overrides it.",
        ("qs-certs roots", "qs-certs install --offline"),
    ),
    FindingKind(
        "refused-source",
        "error",
        "The source must not be installed",
        "It holds a private key, or a certificate that is not a certificate authority's.",
        ("qs-certs install --from <file> --sha256 <fingerprint>",),
    ),
    FindingKind(
        "store-tampered",
        "error",
        "The rollback store was altered",
        "A kept content no longer matches its recorded hash, so it is written nowhere. Somebody "
        "or something changed the store.",
        ("qs-certs history", "qs-certs install"),
    ),
    FindingKind(
        "could-not-tell",
        "error",
        "The work for a user ended without an answer",
        "Its process was killed, perhaps for want of memory. The file is whole, with its old or its "
        "new content; its history says which.",
        ("qs-certs history --user <name>",),
    ),
    FindingKind(
        "could-not-write",
        "error",
        "The file could not be written",
        "Rights, a full disk or a read-only file system stand in the way. Nothing was changed.",
        ("ls -ld ~/.postgresql", "df -h ~"),
        ('icacls "$Env:APPDATA\\postgresql"', "Get-PSDrive C"),
    ),
    FindingKind(
        "target-refused",
        "error",
        "The target cannot be replaced",
        "It is a folder, a device, or a link to somebody else's file. Nothing was changed.",
        ("ls -ld ~/.postgresql/root.crt", "qs-certs install --dedicated"),
        ("Get-Item $Env:APPDATA\\postgresql\\root.crt", "qs-certs install --dedicated"),
    ),
    FindingKind(
        "target-damaged",
        "error",
        "Mending the file would drop something",
        "A block in it cannot be decoded, so the file would not load. Only you can say that the "
        "block may go; its content stays in the rollback store.",
        ("qs-certs install --repair --dry-run", "qs-certs install --repair"),
    ),
    FindingKind(
        "target-changed",
        "error",
        "Somebody else changed the file",
        "The file is no longer what it was when the work began, or not what the last change left "
        "behind. Nothing was overwritten.",
        ("qs-certs history", "qs-certs rollback --force"),
    ),
    FindingKind(
        "store-unusable",
        "error",
        "The rollback store cannot be used",
        "Without a safe copy nothing is changed. Another folder can be named.",
        ("export QS_CERTS_STORE=<folder>",),
        ("$Env:QS_CERTS_STORE = '<folder>'",),
    ),
    FindingKind(
        "lock-timeout",
        "error",
        "Another qs-certs is at work",
        "It held the lock for too long. Nothing was changed; trying again is safe.",
        ("qs-certs history",),
    ),
    FindingKind(
        "changed-unconfirmed",
        "error",
        "Changed, but perhaps not yet on disk",
        "The file has its new content, but the system did not confirm that it would survive a "
        "power cut, or it could not be read back. The history says whether it was changed; the "
        "same command again might undo it.",
        ("qs-certs history", "qs-certs check"),
    ),
)

FINDINGS = {kind.code: kind for kind in (*_ROOT_FILE, *_CONNECTION, *_GOOD, *_CHANGES, *_ERRORS)}
"""Every finding code, in the order of the groups above."""
