"""Who the people of a machine are, from what each system says of its accounts."""

from __future__ import annotations

import os
import plistlib
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from qs_certs import accounts, rights, userlist
from qs_certs.accounts import Account
from qs_certs.errors import TargetRefused
from qs_certs.userlist import LeftOut, Profile

ANYWHERE = "ext4"


def account(name: str, uid: int, shell: str = "/bin/bash", home: str = "") -> Account:
    return Account(name, uid, uid, home or f"/home/{name}", shell)


def linux(
    database: list[Account],
    owners: list[Account] | None = None,
    kinds: dict[str, str] | None = None,
    missing: frozenset[str] = frozenset(),
) -> userlist.People:
    return userlist.on_linux(
        database,
        owners or [],
        range(1000, 60_001),
        lambda home: (kinds or {}).get(home, ANYWHERE),
        lambda home: home not in missing,
    )


def names(people: userlist.People) -> list[str]:
    return [each.name for each in people.accounts]


# --- Linux --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        pytest.param("", range(1000, 60_001), id="nothing said"),
        pytest.param("UID_MIN 500\nUID_MAX\t 6000\n", range(500, 6001), id="both"),
        pytest.param("#UID_MIN 1\n  UID_MIN   2000 # why\n", range(2000, 60_001), id="a comment"),
        pytest.param("SYS_UID_MIN 100\nSUB_UID_MAX 9\n", range(1000, 60_001), id="others"),
        pytest.param("UID_MIN many\n", range(1000, 60_001), id="no number"),
    ],
)
def test_the_range_of_people_s_ids_is_that_of_login_defs(text: str, ids: range) -> None:
    assert userlist.user_ids(text) == ids


@pytest.mark.parametrize(
    ("one", "meant"),
    [
        pytest.param(account("ana", 1000), True, id="the first"),
        pytest.param(account("ana", 60_000), True, id="the last"),
        pytest.param(account("daemon", 999), False, id="of the system"),
        pytest.param(account("root", 0), False, id="root"),
        pytest.param(account("nobody", 65_534), False, id="nobody"),
        pytest.param(account("container", 100_000), False, id="beyond"),
        pytest.param(account("bot", 1001, "/usr/sbin/nologin"), False, id="nologin"),
        pytest.param(account("bot", 1001, "/bin/false"), False, id="false"),
        pytest.param(account("bot", 1001, "/bin/sync"), False, id="sync"),
        pytest.param(account("bot", 1001, "/sbin/shutdown"), False, id="shutdown"),
        pytest.param(account("bot", 1001, "/sbin/halt"), False, id="halt"),
        pytest.param(account("ana", 1001, ""), True, id="the default shell"),
    ],
)
def test_a_person_has_an_id_in_the_range_and_a_shell(one: Account, meant: bool) -> None:
    assert names(linux([one])) == [one.name] * meant


def test_owners_of_homes_are_people_whom_the_database_does_not_list() -> None:
    """SSSD answers for a name, and lists nobody; its ids are beyond the range."""
    owners = [account("lea", 1_234_000_001), account("ana", 1000), account("git", 998)]
    assert names(linux([account("ana", 1000)], [*owners, account("nobody", 65_534)])) == [
        "ana",
        "lea",
    ]


def test_those_who_are_left_out_are_named_with_the_reason() -> None:
    people = linux(
        [
            account("root", 0),
            account("ana", 1000),
            account("ben", 1001),
            account("cam", 1002),
            account("dan", 1003, "/sbin/nologin"),
            account("eve", 1004),
        ],
        kinds={"/home/ben": "nfs4", "/home/eve": "fuse.sshfs"},
        missing=frozenset({"/home/cam", "/home/ben"}),
    )
    assert names(people) == ["ana"]
    assert people.left_out == (
        LeftOut("", "1 system accounts"),
        LeftOut("ben", "has its home on nfs4"),
        LeftOut("cam", "has no home folder"),
        LeftOut("dan", "has no login shell"),
        LeftOut("eve", "has its home on fuse.sshfs"),
    )
    (told,) = userlist.findings(people)
    assert told.code == "accounts-left-out"
    assert all(each.reason in told.message for each in people.left_out)


def test_a_home_on_a_network_is_not_touched() -> None:
    """A dead server would hang us for ever."""

    def exists(home: str) -> bool:
        raise AssertionError(home)

    people = userlist.on_linux(
        [account("ben", 1001)], [], range(1000, 2000), lambda _: "nfs", exists
    )
    assert people.accounts == ()


def test_who_is_left_out_is_counted_where_there_are_many() -> None:
    people = linux([account(f"bot{i}", 1000 + i, "/bin/false") for i in range(30)])
    (left_out, nobody) = userlist.findings(people)
    assert left_out.message.endswith(", 20 more")
    assert nobody.code == "no-accounts"


@pytest.mark.parametrize(
    ("kind", "networked"),
    [
        (each, True)
        for each in ("nfs", "nfs4", "cifs", "autofs", "afs", "fuse.sshfs", "fuse", "smb3")
    ]
    + [
        (each, False) for each in ("ext4", "xfs", "btrfs", "zfs", "overlay", "tmpfs", "fuseblk", "")
    ],
)
def test_a_file_system_is_on_a_network_or_not(kind: str, networked: bool) -> None:
    assert userlist.over_network(kind) is networked


MOUNTINFO = r"""21 28 0:19 / /proc rw,nosuid - proc proc rw
28 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 28 0:30 / /home rw shared:5 master:2 - autofs systemd-1 rw,fd=50
41 40 0:31 / /home/ben rw - nfs4 server:/ben rw
42 28 0:32 / /srv/a\040b\134c rw - cifs //server/a rw
43 28 0:33 / /mnt rw - nfs server:/x rw
44 43 0:34 / /mnt rw - tmpfs tmpfs rw
broken
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/root", "ext4"),
        ("/home/ana", "autofs"),
        ("/home/ben", "nfs4"),
        ("/home/ben/x", "nfs4"),
        ("/home/bennet", "autofs"),
        ("/srv/a b\\c/d", "cifs"),
        ("/srv/a", "ext4"),
        ("/mnt/x", "tmpfs"),
        ("/", "ext4"),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount_point(path: str, kind: str) -> None:
    assert userlist.file_system(path, userlist.mounts(MOUNTINFO)) == kind


def test_a_file_system_that_nothing_tells_of_is_local() -> None:
    assert userlist.file_system("/home/ana", {}) == ""


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux: /proc")
@pytest.mark.parametrize("path", ["/", "/proc/self", "/dev/shm", "/sys", "/tmp", "/dev/pts"])
def test_findmnt_sees_the_same_file_system(path: str) -> None:
    if shutil.which("findmnt") is None:
        pytest.skip("needs findmnt")
    words = ["findmnt", "-n", "-o", "FSTYPE", "-T", os.path.realpath(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    mounted = userlist.mounts(Path("/proc/self/mountinfo").read_text())
    kinds = done.stdout.split()
    assert userlist.file_system(os.path.realpath(path), mounted) == kinds[-1]


def test_owners_are_found_below_home_and_in_a_domain_s_folder(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("not on Windows: owners of another kind")
    if os.geteuid() != 0:
        pytest.skip("needs root, to give folders away")
    for name, uid in (
        ("ana", 1),
        ("DOMAIN", 0),
        ("DOMAIN/lea", 2),
        ("DOMAIN/deep", 0),
        ("gone", 4_000_001),
    ):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        os.chown(tmp_path / name, uid, uid)
    (tmp_path / "DOMAIN" / "deep" / "x").mkdir()
    os.chown(tmp_path / "DOMAIN" / "deep" / "x", 3, 3)
    (tmp_path / "link").symlink_to(tmp_path / "DOMAIN" / "deep" / "x")
    (tmp_path / "file").touch()
    found = userlist._owners(str(tmp_path), lambda _: ANYWHERE)
    assert {each.uid for each in found} == {1, 2}
    assert userlist._owners(str(tmp_path), lambda _: "nfs") == ()
    assert userlist._owners(str(tmp_path / "nothing"), lambda _: ANYWHERE) == ()


@pytest.mark.parametrize("looks", [0, 1, 2])
def test_a_home_that_goes_while_it_is_looked_at_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    if sys.platform == "win32":
        pytest.skip("not on Windows: owners of another kind")
    if os.geteuid() != 0:
        pytest.skip("needs root, to give folders away")
    for name, uid in (("ana", 1), ("ben", 2), ("cam", 3)):
        (tmp_path / name).mkdir()
        os.chown(tmp_path / name, uid, uid)
    ben = str(tmp_path / "ben")
    looked: list[str] = []

    def watch(of: Callable[[str], os.stat_result]) -> Callable[[str], os.stat_result]:
        def look(path: str) -> os.stat_result:
            if path == ben:
                if len(looked) == looks:
                    os.rmdir(ben)
                looked.append(path)
            return of(path)

        return look

    with monkeypatch.context() as patched:
        patched.setattr(os, "lstat", watch(os.lstat))
        patched.setattr(os, "stat", watch(os.stat))
        found = userlist._owners(str(tmp_path), lambda _: ANYWHERE)
    assert looked
    assert {each.uid for each in found} == ({1, 3} if looks == 0 else {1, 2, 3})


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of one user, ana, whose home is homes/ana; disk is local, net is a server's."""
    if sys.platform == "win32":
        pytest.skip("not on Windows: no such mounts")
    for name in ("disk", "net"):
        (tmp_path / name / "ana").mkdir(parents=True)
    texts = {
        "/proc/self/mountinfo": "1 0 0:1 / / rw - ext4 /dev/sda rw\n"
        f"2 1 0:2 / {tmp_path}/net rw - nfs4 server:/ rw\n"
    }
    import pwd

    entry = pwd.struct_passwd(
        ("ana", "x", 1001, 1001, "", str(tmp_path / "homes" / "ana"), "/bin/sh")
    )
    monkeypatch.setattr(userlist, "_text", lambda path: texts.get(path, ""))
    monkeypatch.setattr(userlist, "_owners", lambda *_: ())
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(pwd, "getpwall", lambda: [entry])
    return tmp_path / "homes"


@pytest.mark.parametrize("place", ["disk", "net"])
def test_a_link_on_the_way_to_a_home_is_followed_to_its_file_system(
    homes: Path, place: str
) -> None:
    """`/home -> /net/home`: what is mounted is where the link leads."""
    homes.symlink_to(homes.with_name(place))
    people = userlist._everybody()
    assert names(people) == (["ana"] if place == "disk" else [])
    assert people.left_out == (() if place == "disk" else (LeftOut("ana", "has its home on nfs4"),))


def test_a_home_below_a_server_is_not_touched_to_learn_that(
    homes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead server would hang whoever asks it, were it for a link alone."""
    homes.symlink_to(homes.with_name("net"))
    asked: list[str] = []
    usual = os.path.realpath

    def realpath(path: str) -> str:
        asked.append(path)
        return usual(path)

    monkeypatch.setattr(os.path, "realpath", realpath)
    assert names(userlist._everybody()) == []
    assert asked == [str(homes)], "the folder, and not the home"
    text = f"2 1 0:2 / {homes} rw - nfs4 server:/ rw\n"
    monkeypatch.setattr(userlist, "_text", lambda path: text if "mountinfo" in path else "")
    asked.clear()
    assert names(userlist._everybody()) == []
    assert asked == []


# --- macOS --------------------------------------------------------------------------------------


def record(
    name: str, uid: str | None, home: str = "", shell: str = "/bin/zsh"
) -> dict[str, object]:
    values = {
        "RecordName": [name, f"{name}@icloud.example"],
        "PrimaryGroupID": ["20"],
        "NFSHomeDirectory": [home or f"/Users/{name}"],
        "UserShell": [shell],
    }
    if uid is not None:
        values["UniqueID"] = [uid]
    return {f"dsAttrTypeStandard:{key}": value for key, value in values.items()}


DSCL = plistlib.dumps(
    [
        record("_www", "70", "/Library/WebServer", "/usr/bin/false"),
        record("daemon", "1", "/var/root"),
        record("nobody", "-2", "/var/empty", "/usr/bin/false"),
        record("ana", "501"),
        record("ben", "502"),
        record("Guest", "201"),
        record("_mdm", "560", "/var/mdm"),
        record("nameless", None),
        {"dsAttrTypeStandard:RecordName": ["homeless"], "dsAttrTypeStandard:UniqueID": ["503"]},
    ]
)


def test_the_people_of_macos_are_those_of_dscl_from_501_on_and_the_owners() -> None:
    database = userlist.dscl_accounts(DSCL)
    assert database[3] == Account("ana", 501, 20, "/Users/ana", "/bin/zsh")
    assert {each.name for each in database}.isdisjoint({"nameless", "homeless"})
    lea = account("lea", 1_873_000_001, home="/Users/lea")  # a mobile account of a directory
    people = userlist.on_macos(database, [lea, database[3]], lambda _: "", lambda _: True)
    assert names(people) == ["ana", "ben", "lea"]
    assert people.left_out == (LeftOut("", "5 system accounts"),)


@pytest.mark.parametrize(
    ("group", "gid"),
    [
        pytest.param(["80"], 80, id="its own"),
        pytest.param(None, 20, id="none: staff, as macOS gives to people"),
        pytest.param([], 20, id="empty"),
    ],
)
def test_the_group_of_an_account_of_dscl(group: list[str] | None, gid: int) -> None:
    one = record("ana", "501")
    del one["dsAttrTypeStandard:PrimaryGroupID"]
    if group is not None:
        one["dsAttrTypeStandard:PrimaryGroupID"] = group
    (account,) = userlist.dscl_accounts(plistlib.dumps([one]))
    assert account.gid == gid


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"No such key: x\n", id="a message"),
        pytest.param(DSCL[:300], id="cut off"),
        pytest.param(plistlib.dumps({}), id="no list"),
        pytest.param(plistlib.dumps(["ana"]), id="no records"),
    ],
)
def test_an_answer_of_dscl_that_is_none_is_an_error(answer: bytes) -> None:
    with pytest.raises(ValueError, match=r"no |a record"):
        userlist.dscl_accounts(answer)


# --- Windows ------------------------------------------------------------------------------------

ANA = "S-1-5-21-111-222-333-1001"
ENTRA = "S-1-12-1-1-2-3-4"
ENV = {"SystemDrive": "C:", "SystemRoot": r"C:\Windows"}


def windows(*profiles: Profile) -> userlist.People:
    return userlist.on_windows(profiles, ENV)


def test_the_people_of_windows_have_profiles() -> None:
    people = windows(
        Profile("S-1-5-18", r"%systemroot%\system32\config\systemprofile"),
        Profile("S-1-5-19", r"%systemroot%\ServiceProfiles\LocalService"),
        Profile("S-1-5-80-1-2-3", r"C:\Users\MSSQL"),
        Profile(ANA, r"%SystemDrive%\Users\ana.CORP", name="ana"),
        Profile(ENTRA, r"C:\Users\BenMiller"),
        Profile(f"{ANA[:-1]}2.bak", r"C:\Users\old"),
        Profile(f"{ANA[:-1]}3", r"C:\Users\TEMP", 0x0800, "cam"),
    )
    ana, ben = people.accounts
    assert (ana.name, ana.home) == ("ana", r"C:\Users\ana.CORP")
    assert ana.roaming == r"C:\Users\ana.CORP\AppData\Roaming"
    assert ana.local == r"C:\Users\ana.CORP\AppData\Local"
    assert ben.name == "BenMiller"
    assert people.left_out == (
        LeftOut("", "4 system accounts"),
        LeftOut("cam", "has a temporary profile"),
    )


def test_a_redirected_folder_of_a_loaded_hive_counts_unless_it_is_on_the_network() -> None:
    near = Profile(ANA, r"C:\Users\ana", 0, "ana", r"D:\AppData\%USERNAME%", r"%userprofile%\L")
    far = Profile(ENTRA, r"C:\Users\ben", 0, "ben", r"\\server\home\ben")
    people = windows(near, far)
    assert people.accounts[0].roaming == r"D:\AppData\%USERNAME%"  # unknown names stay
    assert people.accounts[0].local == r"C:\Users\ana\L"
    assert people.left_out == (LeftOut("ben", "has its AppData folder on the network"),)


class _Status:
    def __init__(self, attributes: int) -> None:
        self.st_file_attributes = attributes


@pytest.mark.parametrize(
    ("link", "refused"),
    [
        pytest.param("/u/ana", False, id="the profile itself is the administrator's"),
        pytest.param("/u/ana/AppData", True, id="a folder above"),
        pytest.param("/u/ana/AppData/Roaming", True, id="the roaming folder"),
        pytest.param("/u/ana/AppData/Roaming/postgresql", True, id="libpq's folder"),
        pytest.param("/u/ana/AppData/Roaming/postgresql/root.crt", True, id="the root file"),
        pytest.param("/u/ana/AppData/Roaming/qs-certs", True, id="the store"),
        pytest.param("/u/ana/AppData/Roaming/other", False, id="another's folder"),
    ],
)
def test_a_junction_below_a_profile_is_refused(link: str, refused: bool) -> None:
    ana = Account("ana", -1, -1, "/u/ana")

    def look(path: str) -> os.stat_result:
        if path.endswith("blobs"):
            raise FileNotFoundError
        return _Status(rights.REPARSE_POINT if path.replace("\\", "/") == link else 0)  # type: ignore[return-value]

    def ask() -> None:
        rights.refuse_reparse_points(ana, "/u/ana/AppData/Roaming", look)

    if refused:
        with pytest.raises(TargetRefused, match="a link or a junction"):
            ask()
    else:
        ask()


def test_a_profile_that_cannot_be_looked_at_is_that_user_s_failure() -> None:
    ana = Account("ana", -1, -1, "/u/ana")

    def look(error: OSError, path: str) -> os.stat_result:
        raise error

    forbidden = partial(look, PermissionError(13, "Access is denied"))
    with pytest.raises(TargetRefused, match="cannot be looked at") as refused:
        rights.refuse_reparse_points(ana, "/u/ana/AppData/Roaming", forbidden)
    assert refused.value.why == "Access is denied"
    absent = partial(look, FileNotFoundError(2, "no"))
    rights.refuse_reparse_points(ana, "/u/ana/AppData/Roaming", absent)


def test_other_users_have_the_machine_s_code_page_and_a_folder_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("qs_certs.windows.code_page", lambda: 1252)
    monkeypatch.setenv("LOCALAPPDATA", r"C:\Users\root\AppData\Local")
    ana = Account("ana", -1, -1, r"C:\Users\ana", local=r"C:\Users\ana\AppData\Local")
    around = accounts.surroundings_of(ana)
    assert around.code_page == accounts.surroundings().code_page == 1252
    assert around.env["LOCALAPPDATA"] == ana.local
    without = accounts.surroundings_of(Account("ana", -1, -1, r"C:\Users\ana"))
    assert "LOCALAPPDATA" not in without.env


def test_the_attribute_of_a_junction_is_that_of_windows() -> None:
    assert stat.FILE_ATTRIBUTE_REPARSE_POINT == rights.REPARSE_POINT
