"""Windows on a Linux machine, for the tests: Wine with the real CPython and the real libpq.

    python3 scripts/windows.py                 make it, unless it is made; say where it is
    python3 scripts/windows.py -m pytest ...   also run its Python with these arguments

The Python DLL and its extension modules are those that python.org built and signed for Windows, as
one wheel carries them; the library written in Python is this machine's, of the same minor version.
What qs-certs needs comes from requirements/windows.txt, with hashes; qs-certs itself is a wheel of
this checkout that pip installs there, as a user would.  libpq 14, 16 and 18 are those of psycopg's
Windows wheels.

Needs Debian's wine64 and gcc-mingw-w64-x86-64-win32, and `uv` beside this Python.  Nothing is
changed outside of one folder; with the same inputs it is made once.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
WINE = "/usr/lib/wine/wine64"
WINESERVER = "/usr/lib/wine/wineserver64"
COMPILER = "x86_64-w64-mingw32-gcc"
PATIENCE = 120.0
"""Seconds for one program."""

PYTHONS = {
    # panda3d carries python.org's own DLLs; the version of the library need not be the same patch.
    (3, 11): "37acfb92655c4226879f95c988e2ef1449a53c54486d6c1ebc00e2772429af82",
    (3, 12): "f6493e2ecc0d1b7c1556a999556e5278cbc9484fe5fe1e159a1ccc02b870b18f",
    (3, 13): "0e505261bb58d8402d0099c291f1a3459acfdd38f3e7d666e72aa2e1ea5dc46f",
}
LIBPQS = {
    # Of wheels for Python 3.11; only their libpq is used.
    14: ("3.1.18", "780a90bcb69bf27a8b08bc35b958e974cb6ea7a04cdec69e737f66378a344d68"),
    16: ("3.2.13", "6a50db4661fae78779d3cc38a0a68cabc997ca9d485ec27443b109ef8ac1672a"),
    18: ("3.3.9", "75dc9ebbad779969174e59422c71444c2bd8d0362d5758a7b6f500eff11aa4ac"),
}

# No wheel carries python.exe: it is this.
_PYTHON_EXE = """\
#include <wchar.h>
int Py_Main(int, wchar_t **);
int wmain(int count, wchar_t **words) { return Py_Main(count, words); }
"""
# Wine 8 has no bcryptprimitives.dll, of which extensions written in Rust want one function.
_RANDOM_DLL = """\
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE to, SIZE_T size)
{ return SystemFunction036(to, (ULONG)size); }
BOOL WINAPI DllMain(HINSTANCE dll, DWORD reason, LPVOID reserved) { return TRUE; }
"""
_NOT_THE_LIBRARY = (
    "test", "site-packages", "dist-packages", "lib-dynload", "config-*",
    "sitecustomize.py", "_sysconfigdata*", "idlelib", "tkinter", "turtledemo",
)  # fmt: skip


class WindowsMissing(Exception):
    """A machine that cannot be given a Windows; the text says why."""


@dataclass(frozen=True, slots=True)
class Windows:
    """A Wine prefix.  Its programs run while `serving` holds."""

    prefix: Path

    @property
    def drive(self) -> Path:
        """C:, seen from here."""
        return self.prefix / "drive_c"

    @property
    def python(self) -> str:
        return r"C:\Python\python.exe"

    @property
    def program(self) -> str:
        """The command that pip made for users."""
        return r"C:\Python\Scripts\qs-certs.exe"

    @property
    def pqtest(self) -> str:
        """The client: see tests/windows/pqtest.c."""
        return r"C:\libpq\pqtest.exe"

    @property
    def share(self) -> tuple[Path, str]:
        """A network share: seen from here, and its name in there."""
        return self.drive / "share", r"\\server\share"

    def libpq(self, major: int) -> str:
        (library,) = (self.drive / "libpq" / str(major)).glob("libpq*.dll")
        return rf"C:\libpq\{major}\{library.name}"

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """Of a program in there: nothing of ours leaks in, SSL_CERT_FILE and PG* above all."""
        return {
            "PATH": os.defpath,
            "HOME": str(self.prefix),  # Wine links Documents and its like to there
            "LC_ALL": "C.UTF-8",
            "WINEPREFIX": str(self.prefix),
            "WINEARCH": "win64",
            "WINEDEBUG": "-all",
            "WINEDLLOVERRIDES": "mscoree=d;mshtml=d",  # .NET and a browser: not asked for
            **(env or {}),
        }

    def run(
        self,
        *words: str,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        patience: float = PATIENCE,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program to its end.

        Through pipes: Wine hands a plain file or a terminal to Python as an invalid handle.
        """
        return subprocess.run(
            [WINE, *words],
            env=self.environment(env),
            cwd=self.drive,
            input=stdin,
            capture_output=True,
            timeout=patience,
            check=False,
        )

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Keep Wine's server, without which each start of a program takes seconds.

        It ends, and everything that runs in the prefix with it, when the block does.
        """
        server = subprocess.Popen(
            [WINESERVER, "-f", "-p"],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # an interrupt at the terminal is for whoever drives this
        )
        try:
            time.sleep(0.5)
            self.boot()
            yield
        finally:
            server.send_signal(signal.SIGINT)  # SIGTERM would leave the programs behind
            server.wait(30)

    def boot(self, *words: str) -> None:
        """Start Wine's own services where they are not: they must not inherit anybody's pipes."""
        subprocess.run(
            [WINE, "wineboot", *words],
            env=self.environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=True,
        )


def seen_from_windows(path: Path) -> str:
    """The Windows name of a file of this machine: Z: is /."""
    return "Z:" + str(path).replace("/", "\\")


def library() -> tuple[tuple[int, int], Path]:
    """A Python version whose Windows DLL is known, and the folder of its library on this machine."""
    mine = sys.version_info[:2]
    if mine in PYTHONS:
        return mine, Path(sysconfig.get_path("stdlib"))
    for major, minor in PYTHONS:
        folder = Path(f"/usr/lib/python{major}.{minor}")
        if (folder / "os.py").exists():
            return (major, minor), folder
    raise WindowsMissing("no Python 3.11, 3.12 or 3.13 is installed here")


def ensure(cache: Path) -> Windows:
    """Make a Windows below *cache*, or find it made; qs-certs in it is that of this checkout.

    Raises WindowsMissing where this machine lacks what it is made of.
    """
    if sys.platform != "linux":
        raise WindowsMissing("only on Linux")
    if platform.machine() != "x86_64":
        raise WindowsMissing("only on x86-64")
    import fcntl

    for tool in (WINE, WINESERVER, COMPILER):
        if shutil.which(tool) is None:
            raise WindowsMissing(f"{tool} is not installed")
    version, folder = library()
    made_from = [
        Path(__file__),
        CHECKOUT / "tests" / "windows" / "pqtest.c",
        CHECKOUT / "requirements" / "windows.txt",
    ]
    name = f"windows-{version[0]}.{version[1]}-{_digest(made_from)}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        windows = Windows(cache / name)
        complete = windows.prefix / "complete"
        if not complete.exists():
            shutil.rmtree(windows.prefix, ignore_errors=True)
            windows.prefix.mkdir()
            _make(windows, version, folder)
            complete.touch()
        _install_program(windows)
    return windows


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]


def _make(windows: Windows, version: tuple[int, int], folder: Path) -> None:
    with windows.serving():
        windows.boot("-i")
        _checked(windows.run("winecfg", "-v", "win10"))
        windows.share[0].mkdir()
        unc = windows.prefix / "dosdevices" / "unc" / "server"  # where Wine looks for servers
        unc.mkdir(parents=True)
        (unc / "share").symlink_to(windows.share[0])
        _install_python(windows, version, folder)
        _install_libpqs(windows)


def _install_python(windows: Windows, version: tuple[int, int], folder: Path) -> None:
    home = windows.drive / "Python"
    name = f"python{version[0]}{version[1]}"
    python = ".".join(map(str, version))
    (home / "DLLs").mkdir(parents=True)
    with tempfile.TemporaryDirectory() as temporary:
        unpacked = Path(temporary)
        _uv(unpacked, "--no-deps", requirement=f"panda3d==1.10.16 --hash=sha256:{PYTHONS[version]}",
            python=python)  # fmt: skip
        for file in (unpacked / "deploy_libs").iterdir():
            # Wine has the first; the second aborts on Wine 8, and `platform` does without it.
            if file.name.startswith("api-ms-win-") or file.name == "_wmi.pyd":
                continue
            beside = file.name.lower().startswith((name, "vcruntime140"))
            shutil.copyfile(file, (home if beside else home / "DLLs") / file.name)
    shutil.copytree(folder, home / "Lib", ignore=shutil.ignore_patterns(*_NOT_THE_LIBRARY))
    _compile_python(home, name)
    _compile(windows.drive / "windows/system32/bcryptprimitives.dll", _RANDOM_DLL, "-shared",
             libraries=["-ladvapi32"])  # fmt: skip
    _uv(home / "Lib" / "site-packages", python=python)


def _compile_python(home: Path, name: str) -> None:
    """python.exe, and python3.dll: the stable ABI, each of whose names is one of the big DLL's."""
    with tempfile.TemporaryDirectory() as temporary:
        definition = Path(temporary, "python.def")
        archive = Path(temporary, "python.a")
        definition.write_text(f"LIBRARY {name}.dll\nEXPORTS\nPy_Main\n")
        _checked(_tool("x86_64-w64-mingw32-dlltool", "-d", str(definition), "-l", str(archive)))
        _compile(home / "python.exe", _PYTHON_EXE, "-municode", libraries=[str(archive)])
        listed = _checked(_tool("x86_64-w64-mingw32-objdump", "-p", str(home / f"{name}.dll")))
        names = listed.decode().partition("[Ordinal/Name Pointer] Table")[2].splitlines()
        exports = [line.split()[-1] for line in names if line.startswith("\t[")]
        stable = Path(temporary, "python3.def")
        lines = [f"{each} = {name}.{each}" for each in exports]
        stable.write_text("\n".join(["LIBRARY python3.dll", "EXPORTS", *lines, ""]))
        _compile(home / "python3.dll", "int unused;", "-shared", "-nostdlib", "-Wl,--entry=0",
                 libraries=[str(stable)])  # fmt: skip


def _install_libpqs(windows: Windows) -> None:
    place = windows.drive / "libpq"
    for major, (release, sha256) in LIBPQS.items():
        (place / str(major)).mkdir(parents=True)
        with tempfile.TemporaryDirectory() as temporary:
            _uv(Path(temporary), "--no-deps",
                requirement=f"psycopg-binary=={release} --hash=sha256:{sha256}",
                python="3.11")  # fmt: skip
            for file in Path(temporary).glob("psycopg_binary.libs/*.dll"):
                content = file.read_bytes()
                if file.name.startswith("libpq"):
                    # libpq 16 and newer stat() through a function of which Wine 8 lacks a
                    # neighbour, NtFlushBuffersFileEx: every file would "not exist".  libpq never
                    # calls that neighbour.
                    content = content.replace(
                        b"NtFlushBuffersFileEx\0", b"NtFlushBuffersFile\0\0\0"
                    )
                (place / str(major) / file.name).write_bytes(content)
    source = (CHECKOUT / "tests" / "windows" / "pqtest.c").read_text("ascii")
    _compile(place / "pqtest.exe", source)


def _install_program(windows: Windows) -> None:
    """A wheel of this checkout, installed with pip in there unless it is the one that is."""
    sources = [CHECKOUT / "pyproject.toml", *sorted((CHECKOUT / "qs_certs").rglob("*"))]
    digest = _digest([f for f in sources if f.is_file() and f.suffix != ".pyc"])
    installed = windows.prefix / "program"
    if installed.exists() and installed.read_text() == digest:
        return
    wheels = windows.drive / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    _checked(_tool(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)))
    (wheel,) = wheels.glob("*.whl")
    with windows.serving():
        pip = [windows.python, "-m", "pip", "install", "--no-index", "--no-deps"]
        _checked(windows.run(*pip, "--force-reinstall", rf"C:\wheels\{wheel.name}"))
    installed.write_text(digest)


def _uv(target: Path, *options: str, python: str, requirement: str | None = None) -> None:
    """Install what *requirement* pins, or requirements/windows.txt, as for Windows.

    pip would evaluate the markers of a lock for the machine that it runs on.
    """
    with tempfile.TemporaryDirectory() as temporary:
        lock = CHECKOUT / "requirements" / "windows.txt"
        if requirement is not None:
            lock = Path(temporary, "requirements.txt")
            lock.write_text(requirement + "\n")
        command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", str(target)]
        command += ["--python-platform", "x86_64-pc-windows-msvc", "--python-version", python]
        command += ["--no-python-downloads", "--only-binary", ":all:", "--require-hashes"]
        _checked(_tool(*command, "--requirements", str(lock), *options))


def _compile(to: Path, source: str, *options: str, libraries: Sequence[str] = ()) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary, "source.c")
        file.write_text(source)
        command = [COMPILER, "-O1", "-s", *options, "-o", str(to), str(file), *libraries]
        _checked(_tool(*command))


def _tool(*command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=False)


def _checked(done: subprocess.CompletedProcess[bytes]) -> bytes:
    if done.returncode != 0:
        said = (done.stderr + done.stdout).decode(errors="replace").strip()[-2000:]
        raise WindowsMissing(f"{done.args} ended with {done.returncode}: {said}")
    return done.stdout


def cache_folder() -> Path:
    """Beside what else the tests download."""
    named = os.environ.get("QS_CERTS_TEST_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "qs-certs-tests"


def main(arguments: list[str]) -> int:
    if arguments in (["--help"], ["-h"]):
        print(__doc__)
        return 0
    try:
        windows = ensure(cache_folder())
    except WindowsMissing as missing:
        print(missing, file=sys.stderr)
        return 1
    print(windows.prefix, file=sys.stderr)
    if not arguments:
        return 0
    with windows.serving():
        done = windows.run(windows.python, *arguments)
    sys.stdout.buffer.write(done.stdout)
    sys.stderr.buffer.write(done.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
