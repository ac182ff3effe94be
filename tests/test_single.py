"""The one file without Python: made here, then run where there is no Python at all.

Building takes half a minute of one processor, so it is done once.  With QS_CERTS_LONG=1 it is
built a second time, in another folder, and compared.
"""

from __future__ import annotations

import ast
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import single
import trustme
from environment import SetupFailed

import qs_certs
from qs_certs.versions import versions
from tests import https
from tests.faults.counting import Count
from tests.program import Done, Program

if sys.platform != "linux":
    pytest.skip("only on Linux", allow_module_level=True)

SOURCE = Path(qs_certs.__file__).parent
G2 = (SOURCE / "roots" / "digicert-global-root-g2.pem").read_bytes()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("PyInstaller", reason="needs PyInstaller")
    return single.build([sys.executable], tmp_path_factory.mktemp("single"))


def ran(made: Path, home: Path, *words: str, **env: str) -> Done:
    """Run the file with nothing on PATH."""
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        [made, *words],
        check=False,
        capture_output=True,
        env={"HOME": str(home), "PATH": "/nowhere", "LC_ALL": "C.UTF-8", **env},
        cwd="/",
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def test_it_starts_and_knows_its_version(made: Path, tmp_path: Path, count: Count) -> None:
    began = time.monotonic()
    done = ran(made, tmp_path, "--version")
    seconds = time.monotonic() - began
    assert (done.code, done.err) == (0, "")
    # What a report of a bug needs, as the packages here have it; the C library is named differently.
    told = dict(line.split(" ", 1) for line in done.out.splitlines())
    assert told | {"system": ""} == dict(versions()) | {"system": ""}
    assert "unknown" not in told.values()
    count("bytes of the one file without Python", made.stat().st_size)
    count("milliseconds that the one file takes to start", int(seconds * 1000))
    assert made.stat().st_size < 32_000_000


# What glibc is made of, and zlib: all that the file needs of the system.
LIBRARIES = ("libc", "libm", "libdl", "libpthread", "librt", "libutil", "libresolv", "libz")


@pytest.fixture
def bare(made: Path, tmp_path: Path) -> Path:
    """A root folder with the C library and our file in it, and nothing else."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to change the root folder")
    root = tmp_path / "bare"
    loader = Path("/lib64/ld-linux-x86-64.so.2")
    if not loader.exists():
        pytest.skip("needs an x86-64 machine with glibc")
    for library in (
        loader,
        *(next(Path("/lib/x86_64-linux-gnu").glob(f"{name}.so.?")) for name in LIBRARIES),
    ):
        copy = root / library.relative_to("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, copy)
    for folder in ("tmp", "home", "etc", "bin"):
        (root / folder).mkdir()
    shutil.copy(made, root / "bin" / "qs-certs")
    (root / "etc" / "hosts").write_text("127.0.0.1 localhost\n", encoding="ascii")
    (root / "etc" / "passwd").write_text("root:x:0:0::/home:/bin/sh\n", encoding="ascii")
    return root


def chrooted(root: Path, *words: str, **env: str) -> Done:
    """The file in *root*."""
    done = subprocess.run(
        [shutil.which("chroot", path="/usr/sbin:/sbin") or "chroot", root, "/bin/qs-certs", *words],
        check=False,
        capture_output=True,
        env={"HOME": "/home", "PATH": "/bin", "LC_ALL": "C.UTF-8", **env},
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.slow
def test_where_there_is_nothing_but_the_c_library_it_does_everything(bare: Path) -> None:
    assert not [path for path in bare.rglob("*") if "python" in path.name]
    authority = trustme.CA()
    with https.serving(authority, {"/root.pem": https.answer(G2)}) as site:
        shutil.copy(https.authority_file(authority, bare / "etc"), bare / "etc" / "ca.pem")
        url = {"QS_CERTS_URL": site.url("/root.pem")}
        # The roots of certifi know nothing of this server: the download fails, for that reason.
        doubted = chrooted(bare, "install", "--dry-run", **url)
        assert "used the embedded copy" in doubted.err
        assert "certificate" in doubted.err.split("could not download")[1].split("\n")[0]
        assert doubted.code == 1
        assert site.seen == []

        installed = chrooted(bare, "install", "--ca-bundle", "/etc/ca.pem", **url)
        assert installed.code == 0, installed
        assert "downloaded, fingerprint verified" in installed.out
        assert len(site.seen) == 1
    assert (bare / "home" / ".postgresql" / "root.crt").read_bytes() == G2
    assert chrooted(bare, "check").code == 0
    assert "digicert-global-root-g2" in chrooted(bare, "list").out
    assert chrooted(bare, "check", "127.0.0.1:1").code == 4
    assert "qs-certs install" in chrooted(bare, "explain", "root-missing").out
    assert chrooted(bare, "check", "--json-schema").out.startswith("{")
    assert chrooted(bare, "rollback").code == 0
    assert not (bare / "home" / ".postgresql").exists()
    assert chrooted(bare, "check").code == 1
    assert list((bare / "tmp").iterdir()) == [], "what it unpacks, it removes"


@pytest.mark.parametrize("words", ["check --json", "roots --json", "clients psql --json",
                                   "install --offline --dry-run --json", "history --json", "--version"])  # fmt: skip
def test_it_says_what_the_program_says(made: Path, tmp_path: Path, words: str) -> None:
    program = Program(tmp_path / "home", {"PATH": "/nowhere", "HTTPS_PROXY": ""})
    program.home.mkdir()
    ours = program.process(*words.split())
    assert ran(made, program.home, *words.split()) == ours
    assert ours.code in (0, 1)


def test_under_sudo_the_work_is_done_with_the_user_s_rights(made: Path) -> None:
    """What is unpacked belongs to root, and that user has to load from it.

    The home under test is that of an account in a user database of our own: a whole /etc, in a
    mount namespace.  The file alone would not do, because a mount on it goes away without a word
    when somebody outside replaces that file, as useradd does.
    """
    if os.geteuid() != 0:
        pytest.skip("needs root")
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        home, etc, program = folder / "home", folder / "etc", folder / "qs-certs"
        shutil.copy(made, program)
        home.mkdir()
        etc.mkdir()
        os.chown(home, nobody.pw_uid, nobody.pw_gid)
        account = f"nobody:x:{nobody.pw_uid}:{nobody.pw_gid}::{home}:/bin/sh\n"
        (etc / "passwd").write_text(f"root:x:0:0::/root:/bin/sh\n{account}", encoding="utf-8")

        def as_sudo(*words: str) -> Done:
            script = 'mount --bind "$1" /etc && shift && exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", script, "sh"]
            command += [str(etc), str(program), *words]
            env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "SUDO_USER": "nobody",
                   "SUDO_UID": str(nobody.pw_uid), "SUDO_GID": str(nobody.pw_gid)}  # fmt: skip
            done = subprocess.run(command, check=False, capture_output=True, env=env, cwd="/")
            return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

        installed = as_sudo("install", "--offline")
        assert installed.code == 0, installed
        root_file = home / ".postgresql" / "root.crt"
        assert root_file.read_bytes() == G2
        assert {path.lstat().st_uid for path in home.rglob("*")} == {nobody.pw_uid}
        for words in ("list", "check", "history", "check 127.0.0.1:1", "rollback"):
            done = as_sudo(*words.split())
            assert done.code == (4 if "127.0.0.1:1" in words else 0), done
        assert not root_file.exists(), done


def test_what_is_left_out_is_nothing_that_the_program_imports() -> None:
    imported = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    assert {"requests", "typer", "ssl"} <= imported
    assert imported & set(single.EXCLUDED) == set()


def test_a_build_that_fails_says_why(tmp_path: Path) -> None:
    script = "import sys; print(sys.platform) if '-c' in sys.argv else sys.exit('no PyInstaller')"
    fake = tmp_path / "python"
    fake.write_text(f"#!{sys.executable}\n{script}\n", encoding="utf-8")
    fake.chmod(0o755)
    with pytest.raises(SetupFailed, match="cannot make one file") as failed:
        single.build([str(fake)], tmp_path)
    assert failed.value.why == "no PyInstaller"


if os.environ.get("QS_CERTS_LONG") == "1":

    @pytest.mark.slow
    def test_built_twice_it_is_the_same_byte_for_byte(made: Path, tmp_path: Path) -> None:
        again = single.build([sys.executable], tmp_path / "elsewhere")
        assert again.read_bytes() == made.read_bytes()
