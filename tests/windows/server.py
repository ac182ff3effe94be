"""A PostgreSQL with TLS for the suite inside Windows, where a hosted machine has PostgreSQL itself.

    python -m tests.windows.server FOLDER      starts it; prints QS_CERTS_SERVER=... for the suite

The programs are those in PGBIN, or on PATH.  The server goes on: `pg_ctl -D FOLDER/data stop`.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from tests.pki import Authority

_CONF = """\
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
ssl = on
ssl_cert_file = 'server.crt'
ssl_key_file = 'server.key'
fsync = off
"""


def start(folder: Path) -> str:
    """Start it in *folder*, which must not exist; what the suite is told of it."""
    path = os.environ.get("PGBIN", "") + os.pathsep + os.environ["PATH"]
    initdb, pg_ctl, psql = (_found(name, path) for name in ("initdb", "pg_ctl", "psql"))
    data = folder / "data"
    folder.mkdir()
    subprocess.run(
        [initdb, "-D", data, "-U", "app", "-A", "trust", "-E", "UTF8", "--no-locale", "-N"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    root = Authority.root("Hosted Root")
    issuing = root.intermediate("Hosted Issuing CA", pathlen=0)
    leaf = issuing.leaf(dns=["localhost"], ips=["127.0.0.1"])
    (data / "server.crt").write_bytes(issuing.chain(leaf))
    (data / "server.key").write_bytes(leaf.key_pem)
    (data / "server.key").chmod(0o600)
    (folder / "root.pem").write_bytes(root.certificate.pem)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with (data / "postgresql.conf").open("a", encoding="ascii") as conf:
        conf.write(_CONF.format(port=port))
    subprocess.run(
        [pg_ctl, "-D", data, "-l", folder / "log", "-w", "start"],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    subprocess.run(
        [psql, f"host=127.0.0.1 port={port} user=app dbname=postgres", "-c", "create database app"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return f"{port}|{folder / 'root.pem'}|{root.certificate.sha256}"


def _found(name: str, path: str) -> str:
    found = shutil.which(name, path=path)
    if found is None:
        raise SystemExit(f"{name} is neither in PGBIN nor on PATH")
    return found


if __name__ == "__main__":
    print(f"QS_CERTS_SERVER={start(Path(sys.argv[1]).resolve())}")
