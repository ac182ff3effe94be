"""The laws that bytes alone do not show: the second run writes nothing, and reading is linear.

The others are in tests/test_bundle_laws.py: lossless, idempotent, prefix, commutes, inverse, others
kept, OpenSSL's word, total.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from qs_certs import bundle, merging
from qs_certs.files import DISK
from qs_certs.libpq import pasted
from qs_certs.libpq import settings as connection
from tests.faults.conftest import arena
from tests.faults.disks import FaultyDisk
from tests.faults.scenarios import G2, Place
from tests.fuzz.targets import _read_journal as read_journal
from tests.fuzz.targets import _sealed as sealed
from tests.shapes import pem, pki
from tests.test_bundle_laws import root_files

__all__ = ["arena"]

RIGHT_PEM = pem(pki().right)
MUTATING = {"write", "rename", "unlink", "mkdir", "rmdir", "truncate", "chmod", "chown", "fsync"}


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(root_files(mutations=2))
def test_the_second_install_makes_no_call_that_changes_anything(
    arena: Path, content: bytes
) -> None:
    place = Place(arena)
    place.target.parent.mkdir(parents=True, exist_ok=True)
    place.target.write_bytes(content)
    with place.entered():
        first = FaultyDisk()
        if place.install(G2, disk=first).status != "changed":
            return
        assert set(first.calls) & MUTATING
        second = FaultyDisk()
        assert place.install(G2, disk=second).status == "unchanged"
        assert not set(second.calls) & MUTATING, second.calls
        assert place.install(G2, disk=DISK).status == "unchanged"


_RECORD = b'{"v": 1, "kind": "void", "id": 1, "prev": "@"}\n'
READERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "certificates": (bundle.parse, RIGHT_PEM),
    "begin lines": (bundle.parse, b"-----BEGIN CERTIFICATE-----\n"),
    "end lines": (bundle.parse, b"-----END CERTIFICATE-----\n"),
    "NUL bytes": (bundle.parse, b"x\0"),
    "one long line": (bundle.parse, b"A"),
    "merge, damaged blocks": (
        lambda data: merging.merge(data, [b"\x30\x00"]),
        b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
    ),
    "merge, indented": (lambda data: merging.merge(data, [b"\x30\x00"]), b"  " + RIGHT_PEM),
    "merge, literal newlines": (
        lambda data: merging.merge(data, [b"\x30\x00"]),
        RIGHT_PEM.replace(b"\n", b"\\n"),
    ),
    "remove": (lambda data: merging.remove(data, {"x"}), RIGHT_PEM),
    "source": (merging.certificates_in, RIGHT_PEM),
    "a key/value string": (
        lambda data: pasted.parse_conninfo(data.decode()),
        b"host=h ",
    ),
    "a service file": (
        lambda data: connection.parse_service_file(data.decode(), "s"),
        b"[s]\nhost=h\n",
    ),
    "a password file": (lambda data: connection.pgpass_hosts(data.decode()), b"h:1:d:u:p\n"),
}


@pytest.mark.parametrize("name", READERS)
def test_ten_times_the_length_takes_about_ten_times_as_long(name: str) -> None:
    read, piece = READERS[name]

    def seconds(length: int) -> float:
        data = piece * (length // len(piece) + 1)
        best = 1e9
        for _ in range(3):
            started = time.thread_time()
            read(data)
            best = min(best, time.thread_time() - started)
        return best

    short, long = seconds(20_000), seconds(200_000)
    assert long < 30 * max(short, 0.0005), (short, long)


def test_a_reader_that_is_quadratic_is_noticed() -> None:
    READERS["quadratic"] = (
        lambda data: [data[at:].count(b"x") for at in range(0, len(data), 20)],
        b"x",
    )
    try:
        with pytest.raises(AssertionError):
            test_ten_times_the_length_takes_about_ten_times_as_long("quadratic")
    finally:
        del READERS["quadratic"]


def test_a_long_journal_is_read_in_linear_time() -> None:
    opened = (
        b'{"v": 1, "kind": "change", "id": 1, "at": "2026-01-02T03:04:05Z", "command": "install", '
        b'"target": "/r", "before": null, "after": null, "added": [], "removed": [], '
        b'"mode": null, "made_folder": false, "prev": "@"}\n'
    )
    raw = sealed(opened + _RECORD * 20_000)[:-66]
    started = time.thread_time()
    assert read_journal(raw).next_id == 2
    assert time.thread_time() - started < 5
