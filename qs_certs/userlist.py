"""The accounts that `--user` and `--all-users` mean.

A root file concerns people, not the accounts of services; and nobody's home is touched over a
network unless it was asked for by name.  Whoever is left out is named with the reason.  Pure
functions judge what the system's user database says; the last part of this room asks it.
"""

from __future__ import annotations

import ntpath
import os
import plistlib
import posixpath
import re
import stat
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

from qs_certs import secrecy
from qs_certs.accounts import Account
from qs_certs.errors import CouldNotRead, WrongUsage
from qs_certs.results import Finding
from qs_certs.values import Value, replace

if sys.platform != "win32":
    import pwd


class LeftOut(Value):
    """An account that `--all-users` does not mean, and why."""

    name: str
    reason: str


class People(Value):
    """Whom `--all-users` means, and whom it leaves out."""

    accounts: tuple[Account, ...]
    left_out: tuple[LeftOut, ...] = ()


# --- Linux ----------------------------------------------------------------------------------------

NOBODY = 65534
"""The user id that kernels and NFS servers map strangers to."""
_NO_LOGIN = frozenset({"nologin", "false", "sync", "shutdown", "halt"})


def user_ids(login_defs: str) -> range:
    """The user ids of people: UID_MIN to UID_MAX of login.defs(5), whose defaults are 1000 and
    60000."""
    found = {"UID_MIN": 1000, "UID_MAX": 60_000}
    for name, number in re.findall(r"^[ \t]*(UID_M(?:IN|AX))[ \t]+(\d+)", login_defs, re.MULTILINE):
        found[name] = int(number)
    return range(found["UID_MIN"], found["UID_MAX"] + 1)


def mounts(mountinfo: str) -> dict[str, str]:
    """Mount point to type of file system; of several on one point the last, which hides the others.

    proc_pid_mountinfo(5): the fifth field is the mount point, with blanks and backslashes as octal
    escapes; the type follows a field of its own, a hyphen, after a varying number of tags.
    """
    found: dict[str, str] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        found[point] = after.split(" ")[0]
    return found


def file_system(path: str, mounted: Mapping[str, str]) -> str:
    """The type of the file system that *path* lies on; empty where nothing says so."""
    while True:
        if path in mounted:
            return mounted[path]
        if path in ("", "/"):
            return ""
        path = posixpath.dirname(path)


def over_network(kind: str) -> bool:
    """Whether a file system of that type lies on another machine, or at the mercy of a program.

    Every FUSE one counts, with a subtype or without: who runs its program can make each access wait
    for ever.  (`fuseblk` is a disk that root mounted.)
    """
    return kind in _NETWORKED or kind == "fuse" or kind.startswith("fuse.")


_NETWORKED = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "autofs", "afs", "kafs", "ncpfs", "ncp", "coda"),
        *("ceph", "lustre", "gpfs", "glusterfs", "beegfs", "pvfs2", "orangefs", "ocfs2"),
        *("gfs2", "webdav", "davfs", "afpfs"),
    }
)


def on_linux(
    database: Iterable[Account],
    owners: Iterable[Account],
    ids: range,
    kind_of: Callable[[str], str],
    exists: Callable[[str], bool],
) -> People:
    """The people among *database*, and the *owners* of the folders below /home.

    An LDAP or SSSD directory answers for a name and does not list its users, hence the owners; their ids
    lie beyond UID_MAX, which is for accounts that are made on the machine.  *kind_of* gives the
    type of the file system of a home; only a local one is asked whether it *exists*.
    """
    candidates: dict[int, Account] = {}
    system = 0
    for account in database:
        if account.uid in ids:
            candidates.setdefault(account.uid, account)
        else:
            system += account.uid < ids.start or account.uid == NOBODY
    for account in owners:
        if account.uid >= ids.start and account.uid != NOBODY:
            candidates.setdefault(account.uid, account)
    left_out = [LeftOut("", f"{system} system accounts")] if system else []
    return _people(candidates.values(), kind_of, exists, left_out)


def _people(
    candidates: Iterable[Account],
    kind_of: Callable[[str], str],
    exists: Callable[[str], bool],
    left_out: list[LeftOut],
) -> People:
    accounts = []
    for account in sorted(candidates, key=lambda each: each.name):
        kind = kind_of(account.home)
        if posixpath.basename(account.shell) in _NO_LOGIN:
            left_out.append(LeftOut(account.name, "has no login shell"))
        elif over_network(kind):
            left_out.append(LeftOut(account.name, f"has its home on {kind}"))
        elif not exists(account.home):
            left_out.append(LeftOut(account.name, "has no home folder"))
        else:
            accounts.append(account)
    return People(tuple(accounts), tuple(left_out))


# --- macOS ----------------------------------------------------------------------------------------

FIRST_PERSON_ON_MACOS = 501
_ATTRIBUTES = ("RecordName", "UniqueID", "PrimaryGroupID", "NFSHomeDirectory", "UserShell")


def dscl_accounts(plist: bytes) -> tuple[Account, ...]:
    """The accounts in the answer of `dscl -plist . -readall /Users RecordName UniqueID
    PrimaryGroupID NFSHomeDirectory UserShell`.

    An array of records; each maps `dsAttrTypeStandard:NAME` to an array of strings (dscl(1)).  A
    record without number or home is none that files belong to.  Raises ValueError for anything
    else than such a property list.
    """
    try:
        records = plistlib.loads(plist)
    except Exception as error:  # plistlib lets its parser's own exceptions through
        raise ValueError("no property list") from error
    if not isinstance(records, list):
        raise ValueError("no list of records")
    accounts = []
    for record in records:
        values = {name: _first(record, name) for name in _ATTRIBUTES}
        name, home = values["RecordName"], values["NFSHomeDirectory"]
        try:
            uid, gid = int(values["UniqueID"]), int(values["PrimaryGroupID"] or "20")
        except ValueError:
            continue
        if name and home:
            accounts.append(Account(name, uid, gid, home, values["UserShell"]))
    return tuple(accounts)


def _first(record: object, name: str) -> str:
    """The first value of an attribute; a record may have several names, its own first."""
    if not isinstance(record, dict):
        raise ValueError("a record that is none")
    values = record.get(f"dsAttrTypeStandard:{name}")
    return str(values[0]) if isinstance(values, list) and values else ""


def on_macos(
    database: Iterable[Account],
    owners: Iterable[Account],
    kind_of: Callable[[str], str],
    exists: Callable[[str], bool],
) -> People:
    """The people among the accounts of dscl, and the *owners* of the folders below /Users.

    Services have names that begin with `_`; people's ids begin at 501.
    """
    candidates: dict[int, Account] = {}
    system = 0
    for account in database:
        if account.name.startswith("_") or account.uid < FIRST_PERSON_ON_MACOS:
            system += 1
        elif account.name != "Guest":
            candidates.setdefault(account.uid, account)
    for account in owners:
        if account.uid >= FIRST_PERSON_ON_MACOS and account.name != "Guest":
            candidates.setdefault(account.uid, account)
    left_out = [LeftOut("", f"{system} system accounts")] if system else []
    return _people(candidates.values(), kind_of, exists, left_out)


# --- Windows --------------------------------------------------------------------------------------

PERSON = re.compile(r"S-1-(?:5-21|12-1)(?:-\d+)+")
"""Security identifiers of people: local and domain accounts, and those of Entra ID."""
_TEMPORARY_PROFILE = 0x0800
"""userenv.h PT_TEMPORARY, as the value State of a profile has it."""


class Profile(Value):
    """A key of the registry's ProfileList, and what the user's own hive says where it is loaded."""

    sid: str
    path: str
    state: int = 0
    name: str | None = None
    """The account's name, where the system knows it."""
    roaming: str | None = None
    """`AppData` of User Shell Folders in the loaded hive, not expanded."""
    local: str | None = None
    """`Local AppData` likewise."""


def on_windows(profiles: Iterable[Profile], env: Mapping[str, str]) -> People:
    """The people among *profiles*; *env* expands what stands between percent signs.

    A folder of AppData that was redirected to another machine is left out as network homes are.
    """
    accounts: list[Account] = []
    left_out: list[LeftOut] = []
    system = 0
    for profile in profiles:
        if PERSON.fullmatch(profile.sid) is None:  # services, and `.bak` keys of broken profiles
            system += 1
            continue
        home = _expanded(profile.path, {**env, "USERPROFILE": profile.path})
        name = profile.name or ntpath.basename(home) or profile.sid
        variables = {**env, "USERPROFILE": home}
        roaming = _expanded(profile.roaming or r"%USERPROFILE%\AppData\Roaming", variables)
        local = _expanded(profile.local or r"%USERPROFILE%\AppData\Local", variables)
        if profile.state & _TEMPORARY_PROFILE:
            left_out.append(LeftOut(name, "has a temporary profile"))
        elif any(each.startswith("\\\\") for each in (home, roaming, local)):
            left_out.append(LeftOut(name, "has its AppData folder on the network"))
        else:
            accounts.append(Account(name, -1, -1, home, "", False, roaming, local))
    if system:
        left_out.insert(0, LeftOut("", f"{system} system accounts"))
    return People(tuple(sorted(accounts, key=lambda each: each.name.lower())), tuple(left_out))


def _expanded(path: str, variables: Mapping[str, str]) -> str:
    """*path* with %NAME% replaced, whatever the case; unknown names stay, as Windows leaves them."""
    known = {name.lower(): value for name, value in variables.items()}
    return re.sub(r"%([^%]+)%", lambda found: known.get(found[1].lower(), found[0]), path)


# --- saying so ------------------------------------------------------------------------------------

_NAMED = 10
"""So many of those who were left out are named."""


def findings(people: People) -> tuple[Finding, ...]:
    """Who was left out, and whether anybody is left."""
    found = []
    if people.left_out:
        named = [each for each in people.left_out if each.name]
        parts = [each.reason for each in people.left_out if not each.name]
        parts += [f"{each.name} ({each.reason})" for each in named[:_NAMED]]
        if len(named) > _NAMED:
            parts.append(f"{len(named) - _NAMED} more")
        message = "--all-users means people with a home on this machine; left out: "
        found.append(Finding("accounts-left-out", "ok", message + ", ".join(parts)))
    if not people.accounts:
        found.append(Finding("no-accounts", "ok", "there are no users to do this for"))
    return tuple(found)


# --- asking the system --------------------------------------------------------------------------


def chosen(names: Sequence[str], *, everybody: bool) -> People:
    """The accounts of *names*, in their order and once each, then those of all people.

    Raises WrongUsage without an administrator's rights, and for a name that nobody has.
    """
    if not _is_administrator():
        raise WrongUsage(
            "--user and --all-users need root: they work on other people's files",
            fix=("for your own file leave them out", "otherwise run the same command as root"),
        )
    people = _everybody() if everybody or sys.platform == "win32" else People(())
    accounts = [_named(name, people) for name in names]
    left_out: tuple[LeftOut, ...] = ()
    if everybody:
        accounts += people.accounts
        known = {account.name for account in accounts}
        left_out = tuple(each for each in people.left_out if each.name not in known)
    unique = {account.name: account for account in accounts}
    return People(tuple(replace(account, chosen=True) for account in unique.values()), left_out)


def _is_administrator() -> bool:
    if sys.platform == "win32":
        import ctypes

        return bool(ctypes.windll.shell32.IsUserAnAdmin())
    return os.geteuid() == 0


def _named(name: str, people: People) -> Account:
    if sys.platform == "win32":
        wanted = ntpath.basename(name).lower()  # DOMAIN\\name is how Windows shows it
        for account in people.accounts:
            if account.name.lower() == wanted:
                return account
    else:
        try:
            return _account(pwd.getpwnam(name))
        except (KeyError, ValueError):  # ValueError: a null character
            pass
    raise WrongUsage(
        f"there is no user {secrecy.repeated(name)} on this machine; nothing was done",
        fix=("qs-certs check --all-users   # lists the users",),
    )


if sys.platform == "win32":

    def _everybody() -> People:
        """The people of this machine."""
        return on_windows(_profiles(), os.environ)

    def _profiles() -> tuple[Profile, ...]:
        """What the registry's ProfileList holds.  Only hives that are loaded are looked into."""
        import winreg

        place = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion\ProfileList"
        found = []
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, place) as key:
            for number in range(winreg.QueryInfoKey(key)[0]):
                sid = winreg.EnumKey(key, number)
                path = _value(winreg.HKEY_LOCAL_MACHINE, rf"{place}\{sid}", "ProfileImagePath")
                state = _value(winreg.HKEY_LOCAL_MACHINE, rf"{place}\{sid}", "State")
                folders = (
                    rf"{sid}\Software\Microsoft\Windows\CurrentVersion\Explorer\User Shell Folders"
                )
                found.append(
                    Profile(
                        sid,
                        str(path or ""),
                        state if isinstance(state, int) else 0,
                        _text_or_none(
                            _value(winreg.HKEY_USERS, rf"{sid}\Volatile Environment", "USERNAME")
                        ),
                        _text_or_none(_value(winreg.HKEY_USERS, folders, "AppData")),
                        _text_or_none(_value(winreg.HKEY_USERS, folders, "Local AppData")),
                    )
                )
        return tuple(found)

    def _value(root: int, place: str, name: str) -> object:
        import winreg

        try:
            with winreg.OpenKey(root, place) as key:
                return winreg.QueryValueEx(key, name)[0]
        except OSError:
            return None

    def _text_or_none(value: object) -> str | None:
        return value if isinstance(value, str) and value else None

else:

    def _everybody() -> People:
        """The people of this machine, as its system lists them.  Raises CouldNotRead."""
        mounted = mounts(_text("/proc/self/mountinfo"))

        def kind_of(home: str) -> str:
            """Of the file system below *home*, without touching it: a dead server would hang us."""
            kind = file_system(home, mounted)
            if over_network(kind):
                return kind
            folder, name = os.path.split(home)
            return file_system(os.path.join(os.path.realpath(folder), name), mounted)

        if sys.platform == "darwin":
            owners = _owners("/Users", kind_of)
            return on_macos(_dscl(), owners, kind_of, os.path.isdir)
        database = tuple(_account(entry) for entry in pwd.getpwall())
        ids = user_ids(_text("/etc/login.defs"))
        owners = _owners("/home", kind_of)
        return on_linux(database, owners, ids, kind_of, os.path.isdir)

    def _account(entry: pwd.struct_passwd) -> Account:
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir, entry.pw_shell)

    def _owners(folder: str, kind_of: Callable[[str], str]) -> tuple[Account, ...]:
        """The owners of the folders in *folder*, and of those in a domain's folder in it.

        A folder that lies on a network is not looked at.
        """
        found: dict[int, Account] = {}
        places = [folder]
        while places:
            place = places.pop()
            try:
                names = () if over_network(kind_of(place)) else sorted(os.listdir(place))
            except OSError:
                continue
            for name in names:
                path = os.path.join(place, name)
                if over_network(kind_of(path)):
                    continue
                try:
                    status = os.lstat(path)  # no link is followed
                except OSError:  # gone meanwhile
                    continue
                if not stat.S_ISDIR(status.st_mode):
                    continue
                uid = status.st_uid
                if uid == 0:
                    if place == folder:  # /home/DOMAIN/NAME, as SSSD and Winbind lay it out
                        places.append(path)
                elif uid not in found:
                    try:
                        found[uid] = _account(pwd.getpwuid(uid))
                    except KeyError:  # files that somebody left behind
                        continue
        return tuple(found.values())

    def _text(path: str) -> str:
        """A file of the system, which may be missing."""
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    def _dscl() -> tuple[Account, ...]:
        """The local accounts of macOS.  Raises CouldNotRead."""
        import subprocess

        words = ["/usr/bin/dscl", "-plist", ".", "-readall", "/Users", *_ATTRIBUTES]
        try:
            answer = subprocess.run(words, capture_output=True, check=True, timeout=60)  # noqa: S603
            return dscl_accounts(answer.stdout)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            raise CouldNotRead(
                "the users of this machine cannot be listed",
                why=f"dscl: {error}",
                fix=("name them: --user NAME",),
            ) from error
