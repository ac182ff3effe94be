"""The root file that decides a connection: which one, what libpq makes of it, what is beside it.

Looks at the disk and never writes.  `look` gathers, `judge` turns what was gathered into findings.
"""

from __future__ import annotations

import ntpath
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from qs_certs import bundle, catalogue, files, openssl, windows
from qs_certs.bundle import Bundle
from qs_certs.catalogue import Root
from qs_certs.errors import ExitCode, QsCertsError, quoted
from qs_certs.libpq import locations
from qs_certs.libpq.locations import CLIENT_CERTIFICATE, CLIENT_KEY, ROOT_CRL, Surroundings
from qs_certs.libpq.outcomes import RootFileState, TrustAnchors
from qs_certs.results import DecidedBy, Finding, RootFile, RootState
from qs_certs.values import Value

SYSTEM = "system"


class Facts(Value):
    """A root file as it lies there.  *error* says why it cannot be read or does not load."""

    path: str | None
    decided_by: DecidedBy
    state: RootFileState
    parsed: Bundle | None = None
    readable: bool = True
    error: str | None = None
    crl_file: str | None = None
    client_certificate_error: str | None = None
    as_libpq_sees: str | None = None
    """What is left of the path where libpq's code page lacks a letter of it; None: all of it."""

    @property
    def anchors(self) -> TrustAnchors:
        path = self.as_libpq_sees or self.path
        if path is not None and self.decided_by == "default":
            path = locations.in_messages(path)
        return TrustAnchors(self.state, path, self.error or "" if self.readable else "")

    @property
    def root_file(self) -> RootFile:
        return RootFile(
            path=self.path,
            decided_by=self.decided_by,
            exists=self.state in ("loads", "unloadable"),
            loads={"loads": True, "unloadable": False}.get(self.state) if self.readable else None,
            certificates=0 if self.parsed is None else len(self.parsed.readable),
            error=self.error,
        )

    @property
    def loaded(self) -> Bundle | None:
        """What libpq takes its anchors from; None where it takes none from a file."""
        return self.parsed if self.state == "loads" else None

    @property
    def trusted(self) -> frozenset[str]:
        """The fingerprints of the anchors that libpq has from here."""
        loaded = self.loaded
        return frozenset() if loaded is None else loaded.fingerprints - loaded.refusing


class ClientCertificate(Value):
    """Where a connection takes its own certificate from: `sslcert`, `sslkey`, `sslcertmode`.

    None is libpq's default place, beside root.crt.  *used* is false for sslcertmode=disable.
    """

    certificate: str | None
    key: str | None
    used: bool


def look(
    path: str | None, decided_by: DecidedBy, around: Surroundings, own: ClientCertificate
) -> Facts:
    """What libpq finds at *path*.

    libpq:fe-secure-openssl.c initialize_SSL: a file of which stat() fails, for whatever reason,
    does not exist; one that exists must load.
    """
    client = _client_certificate_error(around, own)
    if path == SYSTEM:
        return Facts(path, decided_by, "system", client_certificate_error=client)
    if path is None:
        return Facts(None, decided_by, "no-home", client_certificate_error=client)
    if locations.lost_letters(path, around.code_page):
        return Facts(
            path,
            decided_by,
            "absent",
            error=f"code page {around.code_page}, in which libpq names files, cannot write it",
            client_certificate_error=client,
            as_libpq_sees=locations.as_libpq_sees(path, around.code_page),
        )
    try:
        os.stat(path)  # noqa: PTH116 - as libpq asks
    except OSError as error:
        why = None if isinstance(error, FileNotFoundError) else files.reason(error)
        return Facts(path, decided_by, "absent", None, error=why, client_certificate_error=client)
    crl = around.beside_root_file(ROOT_CRL)
    crl = crl if crl is not None and os.path.exists(crl) else None  # noqa: PTH110
    try:
        content = files.read(path) or b""
        if (known := understood(content)) is not None:
            return Facts(path, decided_by, "loads", known, True, None, crl, client)
        loaded = openssl.load(path)
    except (OSError, QsCertsError) as error:
        why = files.reason(error) if isinstance(error, OSError) else error.why or error.message
        readable = os.path.isdir(path)  # noqa: PTH112 - libpq reads a folder and finds nothing
        why = bundle.NOTHING_FOUND if readable else why
        return Facts(path, decided_by, "unloadable", None, readable, why, crl, client)
    parsed = openssl.parse(content)
    # Of an OpenSSL that ends at a Ctrl-Z and one that reads on, each may refuse what the other
    # loads; that of this Python is one of them.
    if loaded.error is not None or (openssl.TEXT_MODE and parsed.problem is not None):
        reason = parsed.problem or loaded.error
        return Facts(path, decided_by, "unloadable", parsed, True, reason, crl, client)
    return Facts(path, decided_by, "loads", parsed, True, None, crl, client)


_understood: dict[bytes, Bundle] = {}


def understand_default() -> None:
    """Remember the file that holds the default root alone, if it loads.

    A run over many accounts meets it in most homes, and a forked child has what its parent knows.
    """
    from qs_certs import sources

    content = bundle.canonical(sources.embedded(catalogue.ROOTS[catalogue.DEFAULT]))
    if openssl.load_bytes(content).error is None:
        _understood[content] = bundle.parse(content)


def understood(content: bytes) -> Bundle | None:
    """What is in *content*, where it is remembered as one that loads."""
    return _understood.get(content)


def default(around: Surroundings, target: str | None = None) -> Facts:
    """The root file of a connection about which nothing else is known."""
    own = ClientCertificate(
        around.env.get("PGSSLCERT"),
        around.env.get("PGSSLKEY"),
        around.env.get("PGSSLCERTMODE") != "disable",
    )
    if target is not None:
        return look(target, "option", around, own)
    if named := around.env.get("PGSSLROOTCERT"):
        return look(named, "PGSSLROOTCERT", around, own)
    return look(around.root_file, "default", around, own)


def healthy(facts: Facts, findings: Iterable[Finding]) -> list[Finding]:
    """The good news, where nothing is wrong with the file."""
    if facts.state != "loads" or any(each.severity == "error" for each in findings):
        return []
    root = catalogue.ROOTS[catalogue.DEFAULT]
    return [Finding("root-present", "ok", f"{root.name} is there, and the file loads")]


def _client_certificate_error(around: Surroundings, own: ClientCertificate) -> str | None:
    """Libpq's message for a client certificate that stops every TLS connection.

    libpq:fe-secure-openssl.c initialize_SSL: a certificate that is there must have its key; one of
    which stat() fails with anything but "no such file" is an error; sslcertmode=disable (libpq 16)
    looks at neither.
    """
    if not own.used:
        return None
    certificate = own.certificate or around.beside_root_file(CLIENT_CERTIFICATE)
    if certificate is None:
        return None
    try:
        os.stat(certificate)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return f'could not open certificate file "{certificate}": {files.reason(error)}'
    key = own.key or around.beside_root_file(CLIENT_KEY)
    if key is not None and not os.path.exists(key):  # noqa: PTH110
        return f'certificate present, but not private key file "{key}"'
    return None


def roots_in(facts: Facts) -> tuple[RootState, ...]:
    """The default root, and whatever other roots of the catalogue the file holds."""
    known = [
        root
        for root in catalogue.ROOTS.values()
        if root.name == catalogue.DEFAULT or root.sha256 in facts.trusted
    ]
    return tuple(
        RootState(
            root.name,
            root.sha256,
            root.sha256 in facts.trusted,
            root.not_after,
            root.distrust_after,
        )
        for root in known
    )


# --- findings -----------------------------------------------------------------------------------


def judge(facts: Facts, around: Surroundings, now: datetime, warn_days: int) -> list[Finding]:
    """What can be said without a server, except whether the default root is needed."""
    return [
        *_about_file(facts, around),
        *_about_content(facts),
        *_about_dates(facts, now, warn_days),
        *_about_siblings(facts, around),
        *_about_environment(facts, around),
    ]


def install_command(facts: Facts, *roots: str) -> str:
    """The command that puts roots into this very file."""
    words = ["qs-certs", "install", *roots]
    if facts.decided_by != "default" and facts.path is not None:
        words += ["--target", quoted(facts.path)]
    if facts.state == "unloadable" and facts.parsed is not None and _needs_repair(facts.parsed):
        words.append("--repair")
    return " ".join(words)


def _needs_repair(parsed: Bundle) -> bool:
    """Whether mending the file would drop something (then `install` alone refuses)."""
    from qs_certs import merging, sources

    der = sources.embedded(catalogue.ROOTS[catalogue.DEFAULT])
    refused = openssl.refused(parsed)
    text_mode = openssl.TEXT_MODE
    return bool(merging.merge(parsed.raw, (der,), refused=refused, text_mode=text_mode).damage)


def missing_default(facts: Facts) -> Finding | None:
    """The default root is not among the anchors; None where it is, or nothing was loaded."""
    root = catalogue.ROOTS[catalogue.DEFAULT]
    loaded = facts.loaded
    if loaded is None or root.sha256 in facts.trusted:
        return None
    if root.sha256 in loaded.refusing:
        return Finding(
            "pinned-root-missing",
            "error",
            f"{facts.path} holds {root.name} with trust settings that exclude TLS servers",
            (f"{install_command(facts)} --repair",),
            ExitCode.ACTION_NEEDED,
        )
    if loaded.fingerprints & set(catalogue.RETIRED.values()):
        return Finding(
            "retired-root-only",
            "error",
            f"{facts.path} holds DigiCert Global Root CA, the root that Query Service left in "
            f"January 2024, and not its successor {root.name}",
            (install_command(facts),),
            ExitCode.ACTION_NEEDED,
        )
    return Finding(
        "pinned-root-missing",
        "error",
        f"{facts.path} does not hold {root.name}, so servers under it cannot be verified",
        (install_command(facts),),
        ExitCode.ACTION_NEEDED,
    )


_CHOSEN_BY = {
    "PGSSLROOTCERT": "the environment variable PGSSLROOTCERT",
    "sslrootcert": "sslrootcert in the connection string",
    "service": "sslrootcert in the service file",
    "option": "--target",
}


def _about_file(facts: Facts, around: Surroundings) -> list[Finding]:
    if facts.state == "system":
        return [
            Finding(
                "system-roots",
                "warning",
                "sslrootcert=system: libpq 16 and newer verifies with the system's roots, older "
                'ones look for a file called "system"',
            )
        ]
    if facts.state == "no-home":
        return [
            Finding(
                "root-missing",
                "error",
                "libpq finds no home folder, so there is no default root file",
                ("export HOME=/path/of/your/home",),
                ExitCode.PERSON_NEEDED,
            )
        ]
    path = facts.path
    assert path is not None  # noqa: S101 - for the type checker
    if facts.as_libpq_sees is not None:
        return [lost_path(path, around)]
    if facts.state == "absent" and facts.error is not None:
        return [
            Finding(
                "folder-unreadable",
                "error",
                f"{path} cannot be looked at ({facts.error}), so libpq acts as if it did not exist",
                (f"ls -ld {quoted(os.path.dirname(path))}",),  # noqa: PTH120
                ExitCode.PERSON_NEEDED,
            )
        ]
    if facts.state == "absent":
        chosen = (
            "" if facts.decided_by == "default" else f" ({_CHOSEN_BY[facts.decided_by]} names it)"
        )
        return [
            Finding(
                "root-missing",
                "error",
                f"there is no root file {path}{chosen}",
                (install_command(facts),),
                ExitCode.ACTION_NEEDED,
            )
        ]
    if not facts.readable:
        return [
            Finding(
                "root-unreadable",
                "error",
                f"{path} cannot be read: {facts.error}",
                (f"ls -l {quoted(path)}", "make this user its owner"),
                ExitCode.UNKNOWN,
            )
        ]
    if facts.state == "unloadable":
        return [_unloadable(facts)]
    return []


def lost_path(path: str, around: Surroundings) -> Finding:
    """The finding that libpq cannot name *path*, with a file that it can name."""
    lost = locations.lost_letters(path, around.code_page)
    named = _short(path) or around.join(
        around.env.get("PROGRAMDATA", "C:\\ProgramData"), "postgresql", locations.ROOT_FILE
    )
    certificate = around.join(ntpath.dirname(named), CLIENT_CERTIFICATE)
    install = () if named == _short(path) else (f"qs-certs install --target {quoted(named)}",)
    return Finding(
        "code-page-loses-path",
        "error",
        f"libpq cannot open {path}: it names files in code page {around.code_page}, which has no "
        f"{lost}; it looks for {locations.as_libpq_sees(path, around.code_page)}, and finds nothing",
        (
            *install,
            f"setx PGSSLROOTCERT {quoted(named)}",
            # Before 16 a path with `?` is an error where a certificate that is not there is none
            # (port/win32error.c: ERROR_INVALID_NAME).  This names the same place, or an empty one.
            f"for libpq before 16 also: setx PGSSLCERT {quoted(certificate)}",
        ),
        ExitCode.PERSON_NEEDED,
    )


def _short(path: str) -> str | None:
    """The file's short name, where it has one that every code page can write."""
    short = windows.short_name(path)
    return short if short is not None and short.isascii() else None


def _unloadable(facts: Facts) -> Finding:
    where = ""
    if facts.parsed is not None and (damaged := facts.parsed.damaged) is not None:
        where = f" at line {damaged.line}, block {damaged.number}"
    folder = facts.parsed is None
    return Finding(
        "root-unloadable",
        "error",
        f"{facts.path} does not load: {facts.error}{where}; every verified connection fails, and "
        "prefer silently falls back to plaintext",
        (f"move the folder {facts.path} away",) if folder else (install_command(facts),),
        ExitCode.PERSON_NEEDED if folder else ExitCode.ACTION_NEEDED,
    )


def _holds_private_key(raw: bytes) -> bool:
    from qs_certs import merging

    return merging.holds_private_key(raw)


def _about_content(facts: Facts) -> list[Finding]:
    if facts.parsed is None:
        return []
    raw = facts.parsed.raw
    found: list[Finding] = []
    if b"PRIVATE KEY-----" in raw and _holds_private_key(raw):
        found.append(
            Finding(
                "private-key-in-root-file",
                "warning",
                f"{facts.path} holds a private key; it does not belong there, and pgjdbc refuses "
                "such a file",
            )
        )
    if raw.startswith(bundle.BOM):
        found.append(
            Finding(
                "byte-order-mark",
                "warning",
                f"{facts.path} begins with a byte-order mark: OpenSSL 1.x, Java and Go do not read "
                "its first certificate",
                (f"{install_command(facts)} --repair",),
            )
        )
    if (behind := _behind_ctrl_z(facts.parsed)) is not None:
        mend = "" if facts.state == "unloadable" else " --repair"
        found.append(
            Finding(
                "hidden-content",
                "warning",
                f"{facts.path} holds a Ctrl-Z (byte 0x1A) in line {behind}: libpq with OpenSSL "
                "before 3.4 takes it for the end of the file, and what stands behind it is not "
                "there; a newer one reads on",
                (f"{install_command(facts)}{mend}",),
            )
        )
    elif facts.state == "loads" and b"\0" in raw:
        found.append(
            Finding(
                "hidden-content",
                "warning",
                f"{facts.path} holds a part (UTF-16 or binary) that libpq silently ignores",
                (f"{install_command(facts)} --repair",),
            )
        )
    if facts.state == "loads" and not facts.trusted & _known() and not _self_signed(facts.parsed):
        found.append(
            Finding(
                "no-self-signed-root",
                "warning",
                f"{facts.path} holds no self-signed certificate, and libpq does not take a leaf or "
                "an intermediate certificate for a trust anchor",
                (install_command(facts),),
            )
        )
    return found


def _behind_ctrl_z(parsed: Bundle) -> int | None:
    """The line of the Ctrl-Z that hides a block from some libpq here; None where none does."""
    raw, stop = parsed.raw, parsed.stop
    if stop is None or not raw.startswith(bundle.CTRL_Z, stop) or bundle.BEGIN not in raw[stop:]:
        return None
    return 1 + raw.count(b"\n", 0, stop)


def _known() -> frozenset[str]:
    return frozenset(root.sha256 for root in catalogue.ROOTS.values())


def _self_signed(parsed: Bundle) -> bool:
    """Whether one of the certificates is its own issuer.

    OpenSSL decodes only the CAs here; a self-signed server certificate is looked at by itself.
    """
    ders = {block.der for block in parsed.readable if block.der is not None}
    context = openssl.holding(ders)
    if any(each["subject"] == each["issuer"] for each in context.get_ca_certs()):
        return True
    return any(map(_is_its_own_issuer, ders - set(context.get_ca_certs(binary_form=True))))


def _is_its_own_issuer(der: bytes) -> bool:
    from cryptography import x509

    try:
        certificate = x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion):  # OpenSSL does not look at the version
        return False
    return certificate.subject == certificate.issuer


def _about_dates(facts: Facts, now: datetime, warn_days: int) -> list[Finding]:
    """The earlier of a root's end and its published distrust date."""
    found = []
    for root in catalogue.ROOTS.values():
        if root.sha256 in facts.trusted and (finding := _date(root, now, warn_days)) is not None:
            found.append(finding)
    return found


def _date(root: Root, now: datetime, warn_days: int) -> Finding | None:
    soon = now + timedelta(days=warn_days)
    if root.not_after <= now:
        return Finding(
            "root-expired",
            "error",
            f"{root.name} expired on {root.not_after:%Y-%m-%d}",
            ("qs-certs roots",),
            ExitCode.PERSON_NEEDED,
        )
    if root.distrust_after is not None and root.distrust_after <= now:
        return Finding(
            "root-distrusted",
            "warning",
            f"{root.name} has been distrusted by browsers since {root.distrust_after:%Y-%m-%d}; libpq "
            "still accepts it, but its servers are moving on",
            ("qs-certs roots",),
        )
    if root.distrust_after is not None and root.distrust_after <= soon:
        return Finding(
            "root-distrust-soon",
            "warning",
            f"{root.name} will be distrusted by browsers from {root.distrust_after:%Y-%m-%d}",
            ("qs-certs roots",),
        )
    if root.not_after <= soon:
        return Finding(
            "root-expires-soon",
            "warning",
            f"{root.name} expires on {root.not_after:%Y-%m-%d}",
            ("qs-certs roots",),
        )
    return None


def _about_siblings(facts: Facts, around: Surroundings) -> list[Finding]:
    found: list[Finding] = []
    for path in around.misplaced:
        if path == around.asyncpg_root_file and facts.state == "loads":
            continue  # asyncpg reads it, and libpq has its own
        if os.path.exists(path) and path != facts.path:  # noqa: PTH110
            misnamed = os.path.dirname(path) == around.folder  # noqa: PTH120
            found.append(
                Finding(
                    "misnamed-root-file" if misnamed else "misplaced-root-file",
                    "warning",
                    f"{path} is never read by libpq; it reads {around.root_file}",
                    (f"qs-certs list --target {quoted(path)}", "qs-certs install"),
                )
            )
    if facts.crl_file is not None and not os.path.isfile(facts.crl_file):  # noqa: PTH113
        found.append(
            Finding(
                "root-crl-present",
                "error",
                f"{facts.crl_file} is not a regular file; if it is a pipe, libpq waits for it "
                "for ever",
                (f"move {quoted(facts.crl_file)} away",),
                ExitCode.PERSON_NEEDED,
            )
        )
    elif facts.crl_file is not None:
        found.append(
            Finding(
                "root-crl-present",
                "warning",
                f"{facts.crl_file} makes libpq check every chain against it: without a current CRL "
                "of each CA in a chain, a good server is refused",
                (f"move {quoted(facts.crl_file)} away if you did not put it there on purpose",),
            )
        )
    if facts.client_certificate_error is not None:
        found.append(
            Finding(
                "stray-client-certificate",
                "error",
                f"libpq stops before it verifies anything: {facts.client_certificate_error}",
                ("move postgresql.crt away, or add its postgresql.key, or set PGSSLCERT",),
                ExitCode.PERSON_NEEDED,
            )
        )
    if around.system != "win32" and around.folder and _writable_by_others(around.folder):
        found.append(
            Finding(
                "folder-writable-by-others",
                "warning",
                f"others can change the files in {around.folder}, and so decide whom you trust",
                (f"chmod go-w {quoted(around.folder)}",),
            )
        )
    return found


def _writable_by_others(folder: str) -> bool:
    try:
        mode = os.stat(folder).st_mode  # noqa: PTH116
    except OSError:
        return False
    return bool(mode & stat.S_IWOTH)


def _about_environment(facts: Facts, around: Surroundings) -> list[Finding]:
    found: list[Finding] = []
    env = around.env
    if facts.decided_by == "PGSSLROOTCERT" and facts.state != "system":
        found.append(
            Finding(
                "environment-overrides",
                "warning",
                f"PGSSLROOTCERT decides: libpq reads {facts.path} and not {around.root_file}",
                ("unset PGSSLROOTCERT",),
            )
        )
    if facts.decided_by == "service" and facts.state != "system":
        found.append(
            Finding(
                "service-overrides",
                "warning",
                f"the service file decides: libpq reads {facts.path} and not {around.root_file}",
            )
        )
    for name in ("PGSSLCRL", "PGSSLCRLDIR"):
        if env.get(name):
            found.append(
                Finding(
                    "environment-overrides",
                    "warning",
                    f"{name} is set: libpq checks every chain against the CRLs in {env[name]}",
                    (f"unset {name}",),
                )
            )
    home = env.get("HOME")
    if around.system != "win32" and around.home and home and _differ(home, around.home):
        found.append(
            Finding(
                "home-differs",
                "warning",
                f"HOME is {home}, the password database says {around.home}: libpq before 15, "
                "pgjdbc and Go's pgx look there instead",
                (f"qs-certs install --target {quoted(around.home)}/.postgresql/root.crt",),
            )
        )
    if around.system == "win32":
        found += _about_windows(around)
    elif _is_wsl():
        found.append(
            Finding(
                "wsl-home",
                "ok",
                "this is the home of WSL: Windows programs (Power BI, a Windows psql) read another file",
            )
        )
    return found


def _about_windows(around: Surroundings) -> Iterable[Finding]:
    appdata = around.env.get("APPDATA")
    if appdata and around.roaming and appdata.rstrip("\\").lower() != around.roaming.lower():
        yield Finding(
            "appdata-redirected",
            "warning",
            f"APPDATA is {appdata}, but libpq asks Windows, which says {around.roaming}; pgjdbc, "
            "Npgsql and Go read APPDATA",
        )
    for path in _private_copies(around):
        yield Finding(
            "misplaced-root-file",
            "warning",
            f"{path} is the private copy of a Python from the Microsoft Store; libpq reads "
            f"{around.root_file}",
            (f"qs-certs list --target {quoted(path)}", "qs-certs install"),
        )
    if "windowsapps" in sys.base_prefix.lower():
        yield Finding(
            "store-python",
            "warning",
            "this Python comes from the Microsoft Store: Windows may put files that it makes under "
            "AppData into a private folder that psql does not see",
            ("install Python from python.org, or name the file with --target",),
        )


def _private_copies(around: Surroundings) -> Iterator[str]:
    """Root files that a Store Python wrote "into AppData" (docs.python.org, using/windows,
    "Redirection of local data, registry, and temporary paths")."""
    local = around.env.get("LOCALAPPDATA")
    if not local:
        return
    packages = around.join(local, "Packages")
    try:
        names = sorted(os.listdir(packages))  # noqa: PTH208
    except OSError:
        return
    for name in names:
        if name.startswith("PythonSoftwareFoundation.Python."):
            parts = (packages, name, "LocalCache", "Roaming", "postgresql", locations.ROOT_FILE)
            if os.path.exists(around.join(*parts)):  # noqa: PTH110
                yield around.join(*parts)


def _differ(one: str, other: str) -> bool:
    try:
        return not os.path.samefile(one, other)  # noqa: PTH121
    except OSError:
        return os.path.normpath(one) != os.path.normpath(other)


def _is_wsl() -> bool:
    try:
        return b"microsoft" in (files.read("/proc/sys/kernel/osrelease") or b"").lower()
    except QsCertsError:
        return False
