"""Pin every dependency, with hashes, for all systems and Pythons at once.

    python3 scripts/lock.py [--upgrade]

Writes the locks of requirements/ from pyproject.toml, then proves that each
can be installed from wheels alone on every system that we promise.  Versions that are pinned
already stay unless pyproject.toml no longer allows them; --upgrade takes the newest.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from itertools import product
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
UV = "uv>=0.9,<0.14"

# The first holds everything; the others are parts of it, so that all agree on versions.
LOCKS = {
    "dev": ["pyproject.toml", "--group", "dev"],
    "build": ["--group", "build", "--constraint", "requirements/dev.txt"],
    "runtime": ["pyproject.toml", "--constraint", "requirements/dev.txt"],
    "single": ["pyproject.toml", "--group", "single", "--constraint", "requirements/dev.txt"],
    "windows": ["pyproject.toml", "--group", "windows", "--constraint", "requirements/dev.txt"],
}
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
SYSTEMS = (
    "x86_64-manylinux_2_28",
    "aarch64-manylinux_2_28",
    "x86_64-apple-darwin",
    "aarch64-apple-darwin",
    "x86_64-pc-windows-msvc",
)
HEADER = "# Made by scripts/lock.py from pyproject.toml.  Hashes of wheels only.\n"


def uv_in(folder: str) -> list[str]:
    """Install uv into an environment in the empty *folder*; the command that runs it."""
    venv.create(folder, with_pip=True)
    python = str(Path(folder, "Scripts" if sys.platform == "win32" else "bin", "python"))
    subprocess.run([python, "-m", "pip", "install", "--quiet", UV], check=True)
    return [python, "-m", "uv"]


def path_of(name: str) -> Path:
    """The file of one lock."""
    return CHECKOUT / "requirements" / f"{name}.txt"


def lock(uv: list[str], name: str, path: Path, *options: str) -> None:
    """Write one lock to *path*; pins that are in it already stay."""
    path.parent.mkdir(exist_ok=True)
    command = [*uv, "pip", "compile", *LOCKS[name], "--output-file", str(path), "--quiet"]
    command += ["--universal", "--python-version", PYTHONS[0], "--no-python-downloads"]
    command += ["--generate-hashes", "--only-binary", ":all:", "--no-header", "--no-annotate"]
    subprocess.run([*command, *options], cwd=CHECKOUT, check=True)
    path.write_text(HEADER + path.read_text("utf-8"), encoding="utf-8", newline="\n")


def installs(uv: list[str], name: str, system: str, python: str, target: str) -> bool:
    """Whether one lock has a wheel of everything for one system."""
    command = [*uv, "pip", "install", "--dry-run", "--quiet", "--no-python-downloads"]
    command += ["--require-hashes", "--only-binary", ":all:", "--target", target]
    command += ["--python-platform", system, "--python-version", python]
    command += ["--requirements", f"requirements/{name}.txt"]
    return subprocess.run(command, cwd=CHECKOUT, check=False).returncode == 0


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--upgrade"]):
        print(__doc__)
        return 0 if arguments in (["--help"], ["-h"]) else 2
    with tempfile.TemporaryDirectory() as folder:
        uv = uv_in(folder)
        for name in LOCKS:
            lock(uv, name, path_of(name), *arguments)
        cases = list(product(LOCKS, SYSTEMS, PYTHONS))
        failed = [case for case in cases if not installs(uv, *case, str(Path(folder, "target")))]
    for name, system, version in failed:
        print(f"requirements/{name}.txt does not install on {system} with Python {version}")
    print(f"{len(cases) - len(failed)} of {len(cases)} combinations install from wheels alone")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
