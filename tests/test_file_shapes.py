"""Every content of a root file that we know the outcome of, against OpenSSL itself."""

from __future__ import annotations

import contextlib
import ssl
import tempfile
from functools import cache
from hashlib import sha256
from pathlib import Path

import pytest

from qs_certs import openssl
from qs_certs.bundle import NOTHING_FOUND, parse
from qs_certs.merging import certificates_in, merge, remove
from tests.shapes import HOST, SHAPES, Shape, pem, pki

every_shape = pytest.mark.parametrize(
    "shape", SHAPES, ids=[f"{shape.number}-{shape.title}" for shape in SHAPES]
)


@cache
def server_context() -> ssl.SSLContext:
    """A server under *right*; it sends leaf and intermediate, as in the table."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        chain, key = Path(folder, "chain.pem"), Path(folder, "key.pem")
        chain.write_bytes(pem(pki().leaf) + pem(pki().intermediate))
        key.write_bytes(pki().leaf_key)
        context.load_cert_chain(chain, key)
    return context


@pytest.fixture(scope="session")
def server() -> ssl.SSLContext:
    return server_context()


def verifies(root_file: bytes, server: ssl.SSLContext) -> bool:
    """Whether a verify-full connection with this root file succeeds; a handshake in memory."""
    loaded = openssl.load_bytes(root_file)
    if loaded.error is not None:
        return False
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_side = loaded.context.wrap_bio(to_client, to_server, server_hostname=HOST)
    server_side = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(8):
        try:
            client_side.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLCertVerificationError:
            return False
        else:
            return True
        with contextlib.suppress(ssl.SSLWantReadError):
            server_side.do_handshake()
    raise AssertionError("the handshake does not end")


def test_the_table_has_65_rows() -> None:
    assert [shape.number for shape in SHAPES] == list(range(1, 66))


@every_shape
def test_we_read_what_openssl_reads(shape: Shape) -> None:
    bundle, loaded = parse(shape.content), openssl.load_bytes(shape.content)

    assert (bundle.problem is None) == (loaded.error is None) == shape.loads
    assert len(bundle.fingerprints) == loaded.certificates


@every_shape
def test_the_reason_is_the_one_that_libpq_gives(shape: Shape) -> None:
    expected = {"ok": None, "V": None, "N": NOTHING_FOUND}.get(shape.mark, shape.mark)
    assert parse(shape.content).problem == expected


@every_shape
def test_a_server_verifies_exactly_where_the_table_says(
    shape: Shape, server: ssl.SSLContext
) -> None:
    assert verifies(shape.content, server) == shape.verifies


def _installed(content: bytes, der: bytes) -> bytes:
    """The content after `install`, with `--repair` where plain `install` refuses."""
    merged = merge(content, [der])
    if merged.damage:
        assert merged.data == content
        assert not merged.added
        merged = merge(content, [der], repair=True)
        assert merged.repaired
    assert not merged.damage
    return merged.data


@every_shape
def test_after_install_openssl_has_the_old_certificates_and_the_new_one(shape: Shape) -> None:
    third = sha256(pki().third).hexdigest()
    before = parse(shape.content)
    after = _installed(shape.content, pki().third)

    loaded = openssl.load_bytes(after)
    assert loaded.error is None
    assert parse(after).fingerprints >= before.fingerprints | {third}
    assert loaded.certificates == len(parse(after).fingerprints)
    assert pki().third in loaded.ca_ders


@every_shape
def test_after_install_of_the_right_root_the_server_verifies(
    shape: Shape, server: ssl.SSLContext
) -> None:
    after = _installed(shape.content, pki().right)
    # OpenSSL takes the first issuer of that name and key: behind its own cross-signed copy, whose
    # issuer is not in the file, a root is not found.  In front of it, it is.
    hidden_by_cross_signed_copy = shape.number == 63
    assert verifies(after, server) != hidden_by_cross_signed_copy
    assert verifies(pem(pki().right) + pem(pki().cross), server)
    assert merge(after, [pki().right]).data == after


@every_shape
def test_what_was_there_stays_in_front_where_nothing_was_mended(shape: Shape) -> None:
    merged = merge(shape.content, [pki().third])
    if not merged.damage and not merged.repaired:
        glue = b"" if shape.content.endswith(b"\n") or not shape.content else b"\n"
        assert merged.data == shape.content + glue + pem(pki().third)
        assert remove(merged.data, merged.added, before=shape.content).data == shape.content
    else:
        assert shape.number in MENDED | DAMAGED


MENDED = {10, 12, 13, 14, 17, 23, 24, 25, 26, 27, 28, 52}
DAMAGED = {*range(36, 43), 51}


@every_shape
def test_mends_happen_exactly_where_they_cost_nothing(shape: Shape) -> None:
    merged = merge(shape.content, [pki().third])
    assert bool(merged.repaired) == (shape.number in MENDED)
    if shape.number != 30:  # whether a NUL starts a line of a binary file is up to its signature
        assert bool(merged.damage) == (shape.number in DAMAGED)


@pytest.mark.parametrize("number", sorted(MENDED))
def test_a_mend_saves_every_certificate(number: int) -> None:
    content = SHAPES[number - 1].content
    after = merge(content, [pki().third]).data
    held = {sha256(der).hexdigest() for der in certificates_in(content)}
    assert parse(after).fingerprints >= held
    assert pki().right in openssl.load_bytes(after).ca_ders


@pytest.mark.parametrize("number", [33, 34])
def test_a_root_whose_trust_settings_exclude_servers_is_no_root(
    number: int, server: ssl.SSLContext
) -> None:
    content = SHAPES[number - 1].content
    (damage,) = merge(content, [pki().right]).damage
    assert (damage.number, damage.line) == (1, 1)

    repaired = merge(content, [pki().right], repair=True)
    assert repaired.data == pem(pki().right)
    assert not verifies(content, server)
    assert verifies(repaired.data, server)


@every_shape
def test_repair_keeps_every_certificate_that_can_be_read(shape: Shape) -> None:
    after = merge(shape.content, [pki().third], repair=True)
    assert not after.damage
    kept = {block.sha256 for block in parse(after.data).certificates}
    assert kept >= {block.sha256 for block in parse(shape.content).readable}
    assert merge(after.data, [pki().third], repair=True).data == after.data


@every_shape
def test_remove_takes_all_copies_and_nothing_else(shape: Shape) -> None:
    content = shape.content
    bundle = parse(content)
    right = sha256(pki().right).hexdigest()
    result = remove(content, {right})

    assert result.removed.count(right) == len(result.removed)
    assert (right in bundle.fingerprints) <= bool(result.removed)
    assert right not in parse(result.data).fingerprints
    assert parse(result.data).fingerprints >= bundle.fingerprints - {right}
