"""What holds for every root file, however mangled: laws, with OpenSSL as the judge.

`QS_CERTS_EXAMPLES` multiplies the number of examples; QS_CERTS_LONG=1 means 50 times as many.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256

from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from qs_certs import openssl
from qs_certs.bundle import (
    NOTHING_FOUND,
    Bundle,
    canonical,
    parse,
)
from qs_certs.merging import Merged, certificates_in, holds_private_key, merge, remove
from tests.shapes import ANY_USAGE, EMAIL, SERVER_AUTH, SHAPES, pem, pki, trust

_LONG = os.environ.get("QS_CERTS_LONG") == "1"
_TIMES = int(os.environ.get("QS_CERTS_EXAMPLES", "50" if _LONG else "1"))


def _law(examples: int) -> settings:
    return settings(
        max_examples=examples * _TIMES,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        derandomize=_TIMES == 1,
        database=None,
    )


def _fingerprint(der: bytes) -> str:
    return sha256(der).hexdigest()


# --- files ----------------------------------------------------------------------------------------

_P = pki()
_TRUSTED = [
    pem(_P.other + settings_, "TRUSTED CERTIFICATE")
    for settings_ in (
        b"",
        trust(trusted=SERVER_AUTH),
        trust(trusted=EMAIL),
        trust(trusted=b""),
        trust(rejected=SERVER_AUTH),
        trust(rejected=EMAIL),
        trust(trusted=EMAIL + ANY_USAGE),
    )
]
_PIECES: list[bytes] = [
    pem(_P.right),
    pem(_P.other),
    pem(_P.intermediate),
    pem(_P.right, "X509 CERTIFICATE"),
    *_TRUSTED,
    pem(_P.crl, "X509 CRL"),
    pem(_P.pkcs7_der, "PKCS7"),
    _P.key,
    b"# a comment: with a colon\n",
    b"x" * 300 + b"\n",
    b"<html>\n",
    b"\n",
]
_WHOLE = [shape.content for shape in SHAPES if shape.number != 65]

_INSERTS = [
    b"\0",
    b"\0\0\0",
    b"\xef\xbb\xbf",
    b"\r",
    b"\n",
    b"\n\n",
    b" ",
    b"    \t",
    b":",
    b"-",
    b"=",
    b"==",
    b"!",
    b"-----",
    b"-----BEGIN ",
    b"-----BEGIN CERTIFICATE-----",
    b"-----BEGIN CERTIFICATE-----\n",
    b"-----BEGIN X-----\n",
    b"-----END ",
    b"-----END CERTIFICATE-----\n",
    b"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF\n\n",
    b"Comment: mine\n\n",
    b" " * 254,
    b"A" * 254,
    b"A" * 253 + b"\n",
    b"# " + b"y" * 252,
]
_JUNCTIONS = [b"\n", b"-----BEGIN ", b"-----END ", b"-----\n", b"-----"]


@st.composite
def _place(draw: st.DrawFn, content: bytes) -> int:
    """A place in *content*: anywhere, or where it matters."""
    if draw(st.booleans()) and content:
        mark = draw(st.sampled_from(_JUNCTIONS))
        places = [at for at in range(len(content)) if content.startswith(mark, at)]
        if places:
            after = draw(st.booleans())
            return draw(st.sampled_from(places)) + (len(mark) if after else 0)
    return draw(st.integers(0, len(content)))


@st.composite
def _mutated(draw: st.DrawFn, content: bytes) -> bytes:
    kind = draw(st.sampled_from(["insert", "cut", "flip", "copy", "truncate", "join", "ends"]))
    at = draw(_place(content))
    if kind == "insert":
        return content[:at] + draw(st.sampled_from(_INSERTS)) + content[at:]
    if kind == "cut":
        return content[:at] + content[at + draw(st.integers(1, 80)) :]
    if kind == "flip" and at < len(content):
        return content[:at] + bytes((draw(st.integers(0, 255)),)) + content[at + 1 :]
    if kind == "copy":
        length = draw(st.integers(1, 900))
        there = draw(_place(content))
        return content[:there] + content[at : at + length] + content[there:]
    if kind == "truncate":
        return content[:at]
    if kind == "join":
        newline = content.find(b"\n", at)
        return content if newline < 0 else content[:newline] + content[newline + 1 :]
    if kind == "ends":
        ends = draw(st.sampled_from([b"\r\n", b"\r", b"  \n", b"\xa0\n"]))
        return content[:at] + content[at:].replace(b"\n", ends)
    return content


@st.composite
def root_files(draw: st.DrawFn, mutations: int = 4) -> bytes:
    """A plausible root file with up to *mutations* accidents."""
    content = draw(
        st.sampled_from(_WHOLE)
        | st.lists(st.sampled_from(_PIECES), max_size=5).map(b"".join)
        | st.lists(st.sampled_from(_PIECES) | st.sampled_from(_INSERTS), max_size=7).map(b"".join)
    )
    for _ in range(draw(st.integers(0, mutations))):
        content = draw(_mutated(content))
    return content


def _tidy() -> st.SearchStrategy[bytes]:
    """Root files that load."""
    return (
        st.lists(st.sampled_from(_PIECES), max_size=6)
        .map(b"".join)
        .flatmap(
            lambda content: st.sampled_from([content, content.rstrip(b"\n"), content + b"# x"])
        )
    )


NEW = pki().third


# --- reading --------------------------------------------------------------------------------------


def _agrees(bundle: Bundle, loaded: openssl.Loaded) -> bool:
    if bundle.problem == loaded.error is None:
        return len(bundle.fingerprints) == loaded.certificates
    if bundle.problem is not None and loaded.error is not None:
        return (bundle.problem == NOTHING_FOUND) == (loaded.error == NOTHING_FOUND) or bool(
            openssl.refused(bundle)
        )
    # What is wrong deep inside a certificate only OpenSSL sees.
    return loaded.error is not None and bool(openssl.refused(bundle))


@_law(400)
@given(root_files())
def test_we_read_what_openssl_reads(content: bytes) -> None:
    bundle, loaded = parse(content), openssl.load_bytes(content)
    event("loads" if loaded.error is None else loaded.error)
    assert _agrees(bundle, loaded), (bundle.problem, loaded)


@_law(120)
@given(root_files() | st.binary(max_size=600))
def test_blocks_are_in_order_and_within_the_file(content: bytes) -> None:
    bundle = parse(content)
    at = 0
    for number, block in enumerate(bundle.blocks, start=1):
        assert at <= block.start < block.end <= len(content)
        assert content.startswith(b"-----BEGIN ", block.start)
        assert block.line == 1 + content.count(b"\n", 0, block.start)
        assert block.number == number
        at = block.end
    assert b"".join(_split(bundle)) == content


def _split(bundle: Bundle) -> list[bytes]:
    marks = [0, *(at for block in bundle.blocks for at in (block.start, block.end))]
    return [
        bundle.raw[start:end]
        for start, end in zip(marks, [*marks[1:], len(bundle.raw)], strict=True)
    ]


@_law(120)
@given(root_files(), st.sampled_from([None, b"\xff\xfe", b"0", b"\x30\x82"]))
def test_nothing_makes_us_raise(content: bytes, prefix: bytes | None) -> None:
    content = (prefix or b"") + content
    parse(content)
    certificates_in(content)
    holds_private_key(content)
    remove(content, {_fingerprint(pki().right)})
    for repair in (False, True):
        merge(content, [NEW], repair=repair)


# --- merging --------------------------------------------------------------------------------------


@_law(150)
@given(root_files())
def test_what_merge_writes_loads_with_old_and_new_or_merge_refuses(content: bytes) -> None:
    before = parse(content)
    refused = openssl.refused(before) if openssl.load_bytes(content).error is not None else ()
    merged = merge(content, [NEW], refused=refused)
    event("damage" if merged.damage else "mended" if merged.repaired else "added")
    if merged.damage:
        assert merged.data == content
        assert not merged.added
        return
    loaded = openssl.load_bytes(merged.data)
    after = parse(merged.data)
    if loaded.error is not None:  # a mend brought out what OpenSSL refuses
        assert merged.repaired
        assert merge(merged.data, [NEW], refused=openssl.refused(after)).damage
        return
    assert after.fingerprints >= before.fingerprints | {_fingerprint(NEW)}
    assert loaded.certificates == len(after.fingerprints)


@_law(120)
@given(root_files())
def test_repair_always_ends_in_a_file_that_loads(content: bytes) -> None:
    merged = merge(content, [NEW], repair=True)
    for _ in range(3):
        loaded = openssl.load_bytes(merged.data)
        if loaded.error is None:
            break
        refused = openssl.refused(parse(merged.data))
        assert refused
        merged = merge(merged.data, [NEW], repair=True, refused=refused)
    assert openssl.load_bytes(merged.data).error is None
    assert _fingerprint(NEW) in parse(merged.data).fingerprints
    assert merge(merged.data, [NEW], repair=True).data == merged.data


@_law(150)
@given(root_files())
def test_what_was_there_stays_in_front_unless_a_mend_is_reported(content: bytes) -> None:
    merged = merge(content, [NEW])
    assume(not merged.damage)
    if not merged.repaired:
        glue = b"" if content.endswith(b"\n") or not content else b"\n"
        assert merged.data == content + glue + canonical(NEW)


@_law(150)
@given(root_files(), st.lists(st.integers(0, 4000), max_size=3))
def test_on_windows_both_openssls_read_what_merge_writes(content: bytes, at: list[int]) -> None:
    """The older ends its reading at the first Ctrl-Z, the newer one reads on."""
    for place in at:
        content = content[:place] + b"\x1a" + content[place:]
    merged = merge(content, [NEW], text_mode=True)
    event("damage" if merged.damage else "mended" if merged.repaired else "added")
    if merged.damage:
        assert merged.data == content
        return
    assert b"\x1a" not in merged.data
    assert parse(merged.data, text_mode=True) == parse(merged.data)
    before = parse(content, text_mode=True).fingerprints
    assert parse(merged.data).fingerprints >= before | {_fingerprint(NEW)}
    assert merge(merged.data, [NEW], text_mode=True) == Merged(merged.data)
    if not merged.repaired:
        glue = b"" if content.endswith(b"\n") or not content else b"\n"
        assert merged.data == content + glue + canonical(NEW)


@_law(120)
@given(root_files())
def test_merging_twice_is_merging_once(content: bytes) -> None:
    once = merge(content, [NEW])
    assume(not once.damage)
    twice = merge(once.data, [NEW])
    assert (twice.data, twice.added, twice.repaired) == (once.data, (), ())


@_law(100)
@given(root_files(), st.sampled_from([pki().right, pki().leaf, pki().cross]))
def test_the_order_of_two_installs_does_not_matter(content: bytes, der: bytes) -> None:
    def both(first: bytes, second: bytes) -> frozenset[str] | None:
        merged = merge(content, [first])
        if not merged.damage:
            merged = merge(merged.data, [second])
        return None if merged.damage else parse(merged.data).fingerprints

    together = merge(content, [NEW, der])
    expected = None if together.damage else parse(together.data).fingerprints
    assert both(NEW, der) == both(der, NEW) == expected


# --- removing -------------------------------------------------------------------------------------


@_law(150)
@given(root_files())
def test_remove_undoes_install_byte_for_byte(content: bytes) -> None:
    merged = merge(content, [NEW])
    assume(not merged.damage and not merged.repaired and merged.added)
    removed = remove(merged.data, merged.added, before=content)
    assert removed.data == content
    assert removed.removed == merged.added
    if content and not content.endswith(b"\n"):  # without the journal the newline stays
        assert remove(merged.data, merged.added).data == content + b"\n"


@_law(120)
@given(root_files(), st.sampled_from([pki().right, pki().other, pki().intermediate]))
def test_remove_cuts_only_blocks_of_that_certificate(content: bytes, der: bytes) -> None:
    before = parse(content)
    cut = [block for block in before.readable if block.der == der]
    removed = remove(content, {_fingerprint(der)})

    assert len(removed.removed) == len(cut)
    after = parse(removed.data)
    if before.damaged is None:
        assert after.damaged is None
        assert after.fingerprints == before.fingerprints - {_fingerprint(der)}
    left = content
    for block in reversed(cut):
        left = left[: block.start] + left[block.end :]
    assert removed.data.replace(b"\n", b"") == left.replace(b"\n", b"")
    assert 0 <= len(removed.data) - len(left) <= len(cut)


@_law(100)
@given(_tidy())
def test_remove_leaves_the_rest_of_a_tidy_file_untouched(content: bytes) -> None:
    right = pki().right
    assume(parse(content).damaged is None)
    blocks = [block for block in parse(content).readable if block.der == right]
    expected = content
    for block in reversed(blocks):
        expected = expected[: block.start] + expected[block.end :]
    assert remove(content, {_fingerprint(right)}).data == expected


# --- sources --------------------------------------------------------------------------------------

_CLOTHES: list[Callable[[bytes], bytes]] = [
    lambda text: text,
    lambda text: text.replace(b"\n", b"\r\n"),
    lambda text: text.replace(b"\n", b"\r"),
    lambda text: b"\xef\xbb\xbf" + text,
    lambda text: b"\xff\xfe" + text.decode().encode("utf-16-le"),
    lambda text: b"\xfe\xff" + text.decode().encode("utf-16-be"),
    lambda text: text.decode().encode("utf-16-le"),
    lambda text: b"<html>\n" + text + b"</html>",
    lambda text: text.rstrip(b"\n"),
    lambda text: b"".join(b"    " + line for line in text.splitlines(keepends=True)),
    lambda text: text.replace(b"\n", b"\\n"),
]


@_law(100)
@given(
    st.lists(st.sampled_from([_P.right, _P.other, _P.third, _P.leaf]), max_size=4, unique=True),
    st.sampled_from(_CLOTHES),
)
def test_every_certificate_of_a_source_is_found_in_any_clothes(
    ders: list[bytes], dressed: Callable[[bytes], bytes]
) -> None:
    source = dressed(b"".join(pem(der) for der in ders))
    assert certificates_in(source) == tuple(ders)
    assert not holds_private_key(source)
    assert holds_private_key(dressed(b"".join(pem(der) for der in ders) + _P.key))
