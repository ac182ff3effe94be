"""Machines for Ansible: an sshd each, in namespaces of its own, on addresses of 127.0.0.0/8.

What a host writes to /etc, /home, /opt, /root, /usr/local and /var stays in its memory and is gone
with it, so each has its own users and its own programs; the rest of the disk is this machine's.
They die with the tests, however those die.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

PYTHON = "/usr/bin/python3"
"""The hosts' Python: the system's, because users must be able to run it."""

USER = "ana"
_PROGRAMS = ("setpriv", "unshare", "mount", "ssh", "ssh-keygen", "useradd", "sudo")
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_DEADLINE = 20.0
_PLACES = ("etc", "home", "opt", "usr/local", "var")

_SSHD = """\
Port {port}
ListenAddress {address}
HostKey {folder}/key
AuthorizedKeysFile {folder}/key.pub
PidFile none
PasswordAuthentication no
PermitRootLogin prohibit-password
UsePAM no
StrictModes no
Subsystem sftp internal-sftp
"""

_BOOT = """\
set -eu
folder=$1 name=$2
hostname "$name"
mkdir -p "$folder/disk" /run/sshd
mount -t tmpfs tmpfs "$folder/disk"
for place in $4 root; do
    mkdir -p "$folder/disk/$place/upper" "$folder/disk/$place/work"
    mount -t overlay overlay -o "lowerdir=/$place,upperdir=$folder/disk/$place/upper,\
workdir=$folder/disk/$place/work" "/$place"
done
useradd -m -s /bin/sh -p '*' "$3"
exec /usr/sbin/sshd -D -f "$folder/sshd_config" -E "$folder/log"
"""


class HostsMissing(Exception):
    """This machine cannot play several; the text says why."""


@dataclass(frozen=True, slots=True)
class Host:
    """A machine that answers ssh for root and for USER."""

    name: str
    address: str
    port: int
    key: Path

    @property
    def options(self) -> tuple[str, ...]:
        settings = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR",
                    "ConnectTimeout=10", "IdentitiesOnly=yes")  # fmt: skip
        return ("-F", "none", *(word for each in settings for word in ("-o", each)))

    @property
    def inventory(self) -> str:
        """Its line in an inventory."""
        return (
            f"{self.name} ansible_host={self.address} ansible_port={self.port}"
            f" ansible_ssh_private_key_file={self.key} ansible_python_interpreter={PYTHON}"
            f" ansible_ssh_common_args='{' '.join(self.options)}'"
        )

    def run(self, command: str, user: str = "root") -> subprocess.CompletedProcess[str]:
        """Run a line of shell there."""
        where = ["-p", str(self.port), "-i", str(self.key), f"{user}@{self.address}"]
        return subprocess.run(
            ["ssh", *self.options, *where, command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def written(self) -> set[str]:
        """Everything that was written there since it started: files with sizes and times, folders.

        Without what logging in and Ansible themselves leave: root's home, logs, `.ansible`.
        """
        places = " ".join(f"{self.key.parent}/disk/{each}/upper" for each in _PLACES)
        find = (
            f"find {places} \\( -name .ansible -o -path '*/var/upper/log' \\) -prune"
            r" -o -type d -printf '%p %m %u\n' -o -printf '%p %y %m %u %s %T@ %l\n'"
        )
        return {f"{self.name} {line}" for line in self.ok(find).splitlines()}

    def ok(self, command: str, user: str = "root") -> str:
        done = self.run(command, user)
        assert done.returncode == 0, (self.name, command, done)
        return done.stdout


@contextmanager
def running(names: tuple[str, ...]) -> Iterator[tuple[Host, ...]]:
    """Hosts of these names, gone when the block ends.  Raises HostsMissing."""
    _look()
    with ExitStack() as stack:
        made = stack.enter_context(tempfile.TemporaryDirectory(prefix="qs-certs-hosts-"))
        folder = Path(made)
        folder.chmod(0o755)  # sshd reads the authorized key with the rights of who logs in
        hosts = tuple(
            stack.enter_context(_running(folder / name, name, f"127.0.0.{number}"))
            for number, name in enumerate(names, 11)
        )
        for host in hosts:
            _wait_for(host, folder / host.name / "out")
        yield hosts


def _look() -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        raise HostsMissing("needs Linux, and root")
    for program in _PROGRAMS:
        if shutil.which(program, path=_PATH) is None:
            raise HostsMissing(f"needs {program}")
    if not os.access("/usr/sbin/sshd", os.X_OK) or not os.access(PYTHON, os.X_OK):
        raise HostsMissing("needs sshd and the system's own Python")
    tried = subprocess.run(
        ["unshare", "--mount", "--uts", "true"], check=False, capture_output=True
    )
    if tried.returncode != 0:
        raise HostsMissing(f"needs namespaces: {tried.stderr.decode().strip()}")


@contextmanager
def _running(folder: Path, name: str, address: str) -> Iterator[Host]:
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    (folder / "sshd_config").write_text(_SSHD.format(port=port, address=address, folder=folder))
    unshare = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *unshare, "sh", "-c", _BOOT, "boot",
             str(folder), name, USER, " ".join(_PLACES)],
            env={"PATH": _PATH},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield Host(name, address, port, key)
    finally:
        # The first process of the namespace: all others of it go with it.
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            os.kill(int(child), 9)  # SIGKILL
        process.wait()


def _wait_for(host: Host, out: Path) -> None:
    end = time.monotonic() + _DEADLINE
    while time.monotonic() < end:
        try:
            socket.create_connection((host.address, host.port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise HostsMissing(f"{host.name} does not answer: {out.read_text(errors='replace').strip()}")
