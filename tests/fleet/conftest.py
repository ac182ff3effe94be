"""What the role and the image are installed from."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import qs_certs
from tests.fleet.hosts import PYTHON

SOURCE = Path(qs_certs.__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kit for the hosts' Python, in the form that the role wants."""
    folder = tmp_path_factory.mktemp("kit")
    wheels = folder / "wheels"
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)]
    subprocess.run(build, cwd=SOURCE, check=True, capture_output=True)
    (ours,) = wheels.glob("qs_certs-*.whl")
    subprocess.run([PYTHON, "-m", "venv", folder / "venv"], check=True)
    pip = [str(folder / "venv/bin/python"), "-I", "-m", "pip", "-q", "--disable-pip-version-check"]
    lock = SOURCE / "requirements" / "runtime.txt"
    fetch = [*pip, "download", "--require-hashes", "--only-binary", ":all:", "-r", str(lock)]
    fetched = subprocess.run(
        [*fetch, "-d", str(wheels)], check=False, capture_output=True, text=True
    )
    if fetched.returncode != 0:
        pytest.skip(f"the package index cannot be reached: {fetched.stderr.strip()[-200:]}")
    digest = hashlib.sha256(ours.read_bytes()).hexdigest()
    version = ours.name.split("-")[1]
    (folder / "requirements.txt").write_text(
        f"{lock.read_text('utf-8')}qs-certs=={version} --hash=sha256:{digest}\n", "utf-8"
    )
    archive = folder / "lab-kit.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in (folder / "requirements.txt", *wheels.iterdir()):
            file.write(path, f"lab-kit/{path.relative_to(folder)}")
    return archive
