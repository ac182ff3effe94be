"""Make an offline kit: qs-certs and everything it needs, for machines without a network.

    python3 scripts/kit.py make DIR|FILE.zip [--for SYSTEM-PYTHON ...]
    python3 scripts/kit.py targets

The kit holds our wheel, the wheels of every dependency for every system and Python, a lock with the
hash of each, and `install.py`, which needs Python 3.10 or newer and nothing else:

    python3 install.py

--for makes a smaller kit (`--for windows-amd64-3.12`, repeatable); `targets` lists what can be
named.  This command itself needs the package index; what it takes from there has the hash that is
in requirements/runtime.txt.  Made twice from one checkout, a kit is the same, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from environment import (
    CHECKOUT,
    OURS,
    Recipe,
    SetupFailed,
    ensure,
    program,
    report,
    run,
    say,
    with_new_enough_python,
)

LOCK = CHECKOUT / "requirements" / "runtime.txt"
BUILD_LOCK = CHECKOUT / "requirements" / "build.txt"
# What the kit needs of this folder, and what it is called there.
SCRIPTS = {
    "environment.py": "environment.py",
    "onboard.py": "onboard.py",
    "install_from_kit.py": "install.py",
}
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
_DATE = (2020, 2, 2, 0, 0, 0)  # hatchling's, for the same reason: what is the same looks the same


class System(NamedTuple):
    """A kind of machine: what its wheels are tagged with, and what markers see there."""

    platforms: tuple[str, ...]
    markers: Mapping[str, str]
    pythons: tuple[str, ...] = PYTHONS


def _manylinux(machine: str) -> tuple[str, ...]:
    """Every tag of PEP 600 up to glibc 2.28 (Debian 10, RHEL 8), the newest first."""
    newer = (f"manylinux_2_{minor}_{machine}" for minor in range(28, 16, -1))
    return (*newer, f"manylinux2014_{machine}")


def _system(os_name: str, platform: str, name: str, machine: str) -> dict[str, str]:
    return {
        "os_name": os_name,
        "sys_platform": platform,
        "platform_system": name,
        "platform_machine": machine,
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }


SYSTEMS: Mapping[str, System] = {
    "linux-x86_64": System(_manylinux("x86_64"), _system("posix", "linux", "Linux", "x86_64")),
    "linux-aarch64": System(_manylinux("aarch64"), _system("posix", "linux", "Linux", "aarch64")),
    "macos-arm64": System(("macosx_11_0_arm64",), _system("posix", "darwin", "Darwin", "arm64")),
    "macos-x86_64": System(("macosx_11_0_x86_64",), _system("posix", "darwin", "Darwin", "x86_64")),
    "windows-amd64": System(("win_amd64",), _system("nt", "win32", "Windows", "AMD64")),
    # No Python 3.10 was ever published for it, and no wheels.
    "windows-arm64": System(
        ("win_arm64",), _system("nt", "win32", "Windows", "ARM64"), PYTHONS[1:]
    ),
}


class Target(NamedTuple):
    """What a wheel is chosen for."""

    system: str
    python: str

    @property
    def name(self) -> str:
        return f"{self.system}-{self.python}"


TARGETS = tuple(Target(name, python) for name, s in SYSTEMS.items() for python in s.pythons)


def pins(lock: str, target: Target) -> str:
    """The part of a lock that *target* needs, without markers: they were judged here.

    pip would judge them for the machine that it runs on, whatever `--platform` says.
    """
    from packaging.requirements import Requirement

    version = {"python_version": target.python, "python_full_version": f"{target.python}.0"}
    where = {**SYSTEMS[target.system].markers, **version}
    kept: list[str] = []
    wanted = False
    for line in lock.splitlines():
        if line.startswith("    "):
            kept += [line] * wanted
        elif line and not line.startswith("#"):
            pin = Requirement(line.removesuffix("\\"))
            wanted = pin.marker is None or pin.marker.evaluate(where)
            kept += [f"{pin.name}{pin.specifier} \\"] * wanted
    return "\n".join(kept) + "\n"


def fetch(wheels: Path, target: Target, lock: str) -> None:
    """Download what *target* needs into *wheels*; every hash is compared by pip."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder, "wanted.txt")
        wanted.write_text(pins(lock, target), encoding="utf-8")
        command = [sys.executable, "-I", "-m", "pip", "download", "--quiet", "--no-input"]
        command += ["--disable-pip-version-check", "--no-deps", "--require-hashes"]
        command += ["--only-binary", ":all:", "--implementation", "cp"]
        command += ["--python-version", target.python, "--dest", str(wheels), "-r", str(wanted)]
        for platform in SYSTEMS[target.system].platforms:
            command += ["--platform", platform]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SetupFailed(
            f"cannot fetch the wheels for {target.name}",
            done.stderr.strip()[-2000:] or f"pip ended with {done.returncode}",
            ("see whether the package index can be reached, then run the same command again",),
            exit_code=5 if "DO NOT MATCH THE HASHES" in done.stderr else 4,
        )


def build_wheel(folder: Path) -> Path:
    """Our own wheel, in *folder*."""
    command = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "-t",
        "wheel",
        "--directory",
        str(folder),
    ]
    done = subprocess.run(command, check=False, cwd=CHECKOUT, capture_output=True, text=True)
    if done.returncode != 0:
        raise SetupFailed("cannot build the wheel of qs-certs", done.stderr.strip(), ())
    (wheel,) = folder.glob("qs_certs-*.whl")
    return wheel


README = """\
qs-certs {version}, offline kit

    python3 install.py          (Windows: py install.py)

sets qs-certs up from this folder and runs `qs-certs install --offline`: no network, no package
index, no administrator.  It needs one of the Pythons below and nothing else; `install.py --help`
says what it makes and where, `install.py --uninstall` takes it away again.

The kit is for

{targets}

and for the 64-bit builds of CPython there (Linux: glibc 2.28 or newer).

What is installed has the hashes that requirements.txt names: a wheel that was changed on its way
is refused.  Whoever could change requirements.txt as well could change everything, so compare the
kit's own SHA-256 with what its maker told you.
"""


def fill(kit: Path, targets: Iterable[Target]) -> None:
    """Put everything into the empty folder *kit*."""
    targets = tuple(targets)
    wheels = kit / "wheels"
    wheels.mkdir(parents=True)
    wheel = build_wheel(wheels)
    version = wheel.name.split("-")[1]
    lock = LOCK.read_text("utf-8")
    for number, target in enumerate(targets, 1):
        say(f"{number}/{len(targets)}  {target.name}")
        fetch(wheels, target, lock)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    ours = f"qs-certs=={version} \\\n    --hash=sha256:{digest}\n"
    for source, name in SCRIPTS.items():
        shutil.copyfile(CHECKOUT / "scripts" / source, kit / name)
    shutil.copyfile(CHECKOUT / "LICENSE", kit / "LICENSE")
    listed = "\n".join(
        f"    {_listed(name, targets)}" for name in SYSTEMS if _listed(name, targets)
    )
    for name, text in {
        "requirements.txt": lock + ours,
        "README.txt": README.format(version=version, targets=listed),
    }.items():
        (kit / name).write_text(text, encoding="utf-8", newline="\n")


def _listed(system: str, targets: tuple[Target, ...]) -> str:
    pythons = [target.python for target in targets if target.system == system]
    return f"{system:<14} Python {', '.join(pythons)}" if pythons else ""


def pack(kit: Path, file: Path) -> None:
    """*kit* as a ZIP of one folder, the same bytes whenever and wherever it is made."""
    with zipfile.ZipFile(file, "x") as archive:
        for path in sorted(kit.rglob("*")):
            if path.is_file():
                name = f"{file.stem}/{path.relative_to(kit).as_posix()}"
                entry = zipfile.ZipInfo(name, _DATE)
                entry.create_system = 3  # POSIX, so that the mode below counts
                entry.external_attr = 0o100644 << 16
                archive.writestr(entry, path.read_bytes())  # stored: wheels are compressed already


def make(destination: Path, targets: Iterable[Target]) -> None:
    """Make the kit, a folder or a ZIP; *destination* has everything or is not there."""
    if os.path.lexists(destination) and not (
        destination.is_dir() and not any(destination.iterdir())
    ):
        raise SetupFailed(f"{destination} is in the way", "it exists", ("name another place",))
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".kit-") as folder:
        kit = Path(folder, "kit")
        fill(kit, targets)
        if destination.suffix == ".zip":
            packed = Path(folder, destination.name)
            pack(kit, packed)
            packed.replace(destination)
            say(f"sha256 {hashlib.sha256(destination.read_bytes()).hexdigest()}")
        else:
            kit.replace(destination)
    wheels, size = measure(destination)
    say(f"made {destination}: {wheels} wheels, {size / 1e6:.1f} MB")


def measure(kit: Path) -> tuple[int, int]:
    """Wheels in a kit, and its bytes."""
    if kit.is_file():
        names = zipfile.ZipFile(kit).namelist()
        return sum(name.endswith(".whl") for name in names), kit.stat().st_size
    files = [path for path in kit.rglob("*") if path.is_file()]
    return sum(f.suffix == ".whl" for f in files), sum(f.stat().st_size for f in files)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "kit.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("targets", help="list the systems and Pythons")
    making = commands.add_parser("make", help="make a kit")
    making.add_argument("destination", type=Path, metavar="DIR|FILE.zip")
    names = [target.name for target in TARGETS]
    making.add_argument(
        "--for", dest="targets", action="append", choices=names, metavar="SYSTEM-PYTHON",
        help="only for this one, or these",
    )  # fmt: skip
    return parser


def main(arguments: list[str]) -> int:
    """The exit code: 0 made, 2 wrong usage, 4 could not fetch, 5 wrong hash, 6 anything else."""
    try:
        elsewhere = with_new_enough_python(Path(__file__), arguments)
        if elsewhere is not None:
            return elsewhere
        asked = _parser().parse_args(arguments)
        if asked.command == "targets":
            print("\n".join(target.name for target in TARGETS))
            return 0
        if not Path(sys.prefix, OURS).is_file():
            # The build backend, and what judges markers: pinned, as everything in the kit is.
            with tempfile.TemporaryDirectory() as folder:
                ensure(Path(folder, "env"), Recipe((BUILD_LOCK,), editable=True))
                python = str(program(Path(folder, "env"), "python"))
                return run([python, str(Path(__file__).resolve()), *arguments])
        chosen = [t for t in TARGETS if not asked.targets or t.name in asked.targets]
        make(asked.destination.absolute(), chosen)
    except SetupFailed as failure:
        return report(failure)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
