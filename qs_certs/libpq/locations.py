"""Where libpq looks for its files: functions of (system, environment, home), nothing else.

*system* is Python's `sys.platform`; *home* is the home folder of the password database; *roaming*
is the roaming AppData folder as the Windows shell names it, which is what libpq asks (never the
APPDATA variable).  All three systems can be asked on any one of them.
"""

from __future__ import annotations

import ntpath
import posixpath
from collections.abc import Mapping

from qs_certs.values import Value

# libpq:libpq-int.h ROOT_CERT_FILE, ROOT_CRL_FILE, USER_CERT_FILE, USER_KEY_FILE
ROOT_FILE = "root.crt"
ROOT_CRL = "root.crl"
CLIENT_CERTIFICATE = "postgresql.crt"
CLIENT_KEY = "postgresql.key"
DEDICATED_FILE = "qs-root.crt"
"""Our own neighbour of root.crt, which libpq reads only where it is told to."""


def in_messages(default: str) -> str:
    """The *default* root file as libpq's messages spell it: on Windows with two slashes.

    libpq:fe-connect.c pqGetHomeDirectory joins "%s/postgresql", libpq:fe-secure-openssl.c
    initialize_SSL "%s/%s".
    """
    tail = f"\\postgresql\\{ROOT_FILE}"
    return (
        default.removesuffix(tail) + tail.replace("\\", "/") if default.endswith(tail) else default
    )


def lost_letters(path: str, code_page: int | None) -> str:
    """The characters of *path* that the ANSI *code_page* lacks, each once, in order.

    libpq asks Windows for its folder, and opens files, with the functions that speak this code
    page (libpq:fe-connect.c pqGetHomeDirectory calls SHGetFolderPath in a build without UNICODE):
    each such character reaches it as `?`, or as another letter that looks alike, and the file
    "does not exist".  Nothing is lost in UTF-8 (65001), nor told of a page that nobody knows.
    """
    if code_page is None or path.isascii():
        return ""
    encoding = "utf-8" if code_page == 65001 else f"cp{code_page}"
    try:
        return "".join(each for each in dict.fromkeys(path) if not _has(encoding, each))
    except LookupError:
        return ""


def _has(encoding: str, letter: str) -> bool:
    try:
        letter.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def as_libpq_sees(path: str, code_page: int | None) -> str:
    """*path* with `?` for each character that its code page lacks."""
    lost = lost_letters(path, code_page)
    return "".join("?" if each in lost else each for each in path)


class Surroundings(Value):
    """What libpq's search depends on."""

    system: str
    env: Mapping[str, str]
    home: str | None
    """The home of the password database; None where the user has no entry there."""
    roaming: str | None = None
    """Windows: the roaming AppData folder, from the shell API."""
    code_page: int | None = None
    """Windows: the ANSI code page, from GetACP."""

    def join(self, *parts: str) -> str:
        return ntpath.join(*parts) if self.system == "win32" else posixpath.join(*parts)

    @property
    def home_folder(self) -> str | None:
        """`$HOME` if it is set and not empty, else the password database's.

        libpq:fe-connect.c pqGetHomeDirectory, 15 and newer.  Before 15 HOME was ignored.
        """
        return self.env.get("HOME") or self.home

    @property
    def folder(self) -> str | None:
        """The folder of root.crt and its siblings, or None where libpq would find no home.

        libpq:fe-connect.c pqGetHomeDirectory: on Windows postgresql under the roaming folder,
        elsewhere `.postgresql` in the home folder.
        """
        if self.system == "win32":
            return None if self.roaming is None else self.join(self.roaming, "postgresql")
        return None if self.home_folder is None else self.join(self.home_folder, ".postgresql")

    @property
    def root_file(self) -> str | None:
        """libpq's default root file."""
        return None if self.folder is None else self.join(self.folder, ROOT_FILE)

    @property
    def asyncpg_root_file(self) -> str | None:
        """Windows: where asyncpg looks, which has another home there than libpq.

        asyncpg:connect_utils.py _dot_postgresql_path: `Path.home() / ".postgresql"`.
        """
        profile = self.env.get("USERPROFILE")
        if self.system != "win32" or not profile:
            return None
        return self.join(profile, ".postgresql", ROOT_FILE)

    def beside_root_file(self, name: str) -> str | None:
        return None if self.folder is None else self.join(self.folder, name)

    @property
    def user_service_file(self) -> str | None:
        """libpq:fe-connect.c parseServiceInfo: $PGSERVICEFILE, else `.pg_service.conf` in the
        home folder (Windows: in the postgresql folder)."""
        if named := self.env.get("PGSERVICEFILE"):
            return named
        folder = self.folder if self.system == "win32" else self.home_folder
        return None if folder is None else self.join(folder, ".pg_service.conf")

    @property
    def system_service_files(self) -> tuple[str, ...]:
        """libpq:fe-connect.c parseServiceInfo: `$PGSYSCONFDIR/pg_service.conf`, else the one in
        the folder that was set when libpq was built, which only that libpq knows: the places
        that the usual packages were built with."""
        if folder := self.env.get("PGSYSCONFDIR"):
            return (self.join(folder, "pg_service.conf"),)
        if self.system == "win32":
            return ()
        folders = ["/etc/postgresql-common", "/etc/sysconfig/pgsql", "/etc"]
        if self.system == "darwin":
            folders = ["/opt/homebrew/etc/postgresql", "/usr/local/etc/postgresql", "/etc"]
        return tuple(posixpath.join(folder, "pg_service.conf") for folder in folders)

    @property
    def password_file(self) -> str | None:
        """libpq:fe-connect.c: $PGPASSFILE, else `~/.pgpass`, on Windows pgpass.conf in that folder."""
        if named := self.env.get("PGPASSFILE"):
            return named
        if self.system == "win32":
            return self.beside_root_file("pgpass.conf")
        return None if self.home_folder is None else self.join(self.home_folder, ".pgpass")

    @property
    def misplaced(self) -> tuple[str, ...]:
        """Files that people make by mistake, and that libpq never reads.

        The places come from published instructions: a folder without its dot, `.postgres`, the
        other system's folder, an extension that a file manager hides.
        """
        if self.folder is None:
            return ()
        found: list[str] = []
        if self.system == "win32":
            roaming = self.roaming or ""
            profile = self.env.get("USERPROFILE")
            names = (".postgresql", ".postgres", "postgres")
            folders = [self.join(roaming, name) for name in names]
            if profile:
                folders.append(self.join(profile, ".postgresql"))
        else:
            home = self.home_folder or ""
            folders = [self.join(home, name) for name in ("postgresql", ".postgres")]
        found += [self.join(folder, ROOT_FILE) for folder in folders]
        found += [
            self.join(self.folder, name)
            for name in (
                "root.crt.txt",
                "root.crt.pem",
                "root.crt.crt",
                "root.pem",
                "root.cer",
                "DigiCertGlobalRootG2.crt.pem",
                "DigiCertGlobalRootG2.crt",
            )
        ]
        return tuple(found)
