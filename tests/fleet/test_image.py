"""The Dockerfile fragment, without Docker: its steps in root file systems of their own.

Each stage is an overlay of this machine's root in a namespace, so what RUN does is done for real
and is gone afterwards.  What is not tried is Docker itself: base images, layers, the builder.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from qs_certs import catalogue
from tests.conftest import Pki
from tests.fleet.hosts import PYTHON
from tests.fleet.scripts import FLEET
from tests.postgres import DATABASE, ROLE, Postgres
from tests.program import SOURCE

if sys.platform != "linux":
    pytest.skip("only on Linux", allow_module_level=True)

FRAGMENT = FLEET / "Dockerfile.fragment"


def hadolint(path: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("needs hadolint")
    return subprocess.run(
        [program, "--no-color", str(path)], capture_output=True, text=True, check=False
    )


def test_hadolint_finds_nothing() -> None:
    found = hadolint(FRAGMENT)
    assert (found.returncode, found.stdout) == (0, "")


def test_hadolint_would_find_what_is_no_dockerfile(tmp_path: Path) -> None:
    wrong = tmp_path / "Dockerfile"
    wrong.write_text(FRAGMENT.read_text().replace("RUN qs-certs", "RUNS qs-certs"), "utf-8")
    assert hadolint(wrong).returncode != 0


@dataclass(frozen=True, slots=True)
class Stage:
    """One FROM of a Dockerfile: its name and its instructions, continued lines joined."""

    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)


def stages(text: str) -> Iterator[Stage]:
    stage: Stage | None = None
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    for line in filter(None, joined.splitlines()):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            if stage is not None:
                yield stage
            stage = Stage(rest.partition(" AS ")[2] or "image")
        else:
            assert stage is not None
            stage.steps.append((word, rest))
    assert stage is not None
    yield stage


# $1: a folder.  Every stage gets the root of this machine with a layer of memory over it.
_PRELUDE = """\
set -eu
layers=$1
mount -t tmpfs tmpfs "$layers"
stage() {
    root=$layers/$1/root
    mkdir -p "$root" "$layers/$1/upper" "$layers/$1/work"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$layers/$1/upper,workdir=$layers/$1/work" "$root"
    mount --bind /dev "$root/dev"
    mount -t proc proc "$root/proc"
    mount -t tmpfs tmpfs "$root/tmp"
}
"""


def script(context: Path) -> str:
    """A script of shell that does what `docker build` would; `$root` is the image at its end."""
    lines = [_PRELUDE]
    environment: list[str] = []
    for stage in stages(FRAGMENT.read_text("utf-8")):
        lines.append(f"stage {stage.name}")
        environment = ["PATH=/usr/bin:/bin:/usr/sbin:/sbin", "HOME=/root", "LC_ALL=C.UTF-8"]
        if stage.name == "root-certificate":
            # Stands in for the image python:3.13-slim, whose pip may install anywhere.
            lines.append(f'chroot "$root" {PYTHON} -m venv /python')
            environment[0] = "PATH=/python/bin:/usr/bin:/bin"
        for word, rest in stage.steps:
            if word == "RUN":
                command = ["env", "-i", *environment, "/bin/sh", "-ec", rest]
                lines.append(f'chroot "$root" {shlex.join(command)}')
            elif word == "ENV":
                environment += shlex.split(rest)
            elif word == "COPY":
                *options, source, target = rest.split()
                origin = f"{context}/{source}"
                mode = "0755"
                for option in options:
                    name, _, value = option.partition("=")
                    if name == "--from":
                        origin = f"$layers/{value}/root{source}"
                    else:
                        assert name == "--chmod"
                        mode = value
                lines.append(f'mkdir -p "$root$(dirname {target})"')
                if source.endswith("/"):
                    lines.append(f'cp -r "{origin}" "$root{target.rstrip("/")}"')
                else:
                    lines.append(f'install -m {mode} "{origin}" "$root{target}"')
            else:
                raise AssertionError(f"the test does not know {word}")
    lines.append(f"set -- env -i {shlex.join(environment)}")
    return "\n".join(lines)


def test_the_image_verifies_whoever_runs_in_it(
    tmp_path: Path, kit: Path, pki: Pki, postgres: Postgres
) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root, and namespaces")
    with zipfile.ZipFile(kit) as archive:
        archive.extractall(tmp_path)
    (tmp_path / "lab-kit").rename(tmp_path / "qs-certs-kit")
    (tmp_path / "layers").mkdir()
    (tmp_path / "ca.pem").write_bytes(pki.root.certificate.pem)
    conninfo = f"host=db.test hostaddr=127.0.0.1 port={postgres.port} user={ROLE} dbname={DATABASE}"
    psql = f"psql -XAtc 'select 42' '{conninfo}'"
    as_nobody = 'chroot --userspec=65534:65534 "$root" "$@" HOME=/nonexistent'
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c",
         f"""{script(tmp_path)}
         cat "$root/usr/local/share/qs-certs/root.crt"
         chroot "$root" useradd -m -p '*' kim
         chroot "$root" stat -c '%U %a %n' /home/kim/.postgresql/root.crt
         cmp "$root/home/kim/.postgresql/root.crt" "$root/usr/local/share/qs-certs/root.crt"
         {as_nobody} {psql} 2>&1 && exit 9
         {as_nobody} {psql.replace("host=", "sslmode=require host=", 1)} 2>&1 && exit 9
         {as_nobody} env -u PGSSLROOTCERT -u PGSSLMODE {psql}
         cat '{tmp_path}/ca.pem' >> "$root/usr/local/share/qs-certs/root.crt"
         {as_nobody} {psql}
         """, "sh", str(tmp_path / "layers")],
        env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done
    root = (SOURCE / "qs_certs" / "roots" / f"{catalogue.DEFAULT}.pem").read_text("ascii")
    built, certificate, rest = done.stdout.partition(root)
    assert "present" in built, "`check` in the first stage found it"
    assert certificate, done.stdout
    lines = rest.splitlines()
    assert lines[0] == "kim 644 /home/kim/.postgresql/root.crt"
    refusals = [line for line in lines if "certificate verify failed" in line]
    assert len(refusals) == 2, "a server under another root is refused, also with `require`"
    assert lines[-2:] == ["42", "42"], "without the variables, or with that root, it connects"
    assert not Path("/usr/local/share/qs-certs").exists()
