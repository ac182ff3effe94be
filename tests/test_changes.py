"""Plans: from bytes and history to what would be written.  The stories hold the whole commands."""

from __future__ import annotations

import difflib
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qs_certs
from qs_certs import accounts, bundle, catalogue, changes, openssl
from qs_certs.changes import plan_install, plan_remove, plan_replace, plan_rollback
from qs_certs.errors import StoreTampered, TargetChanged, TargetDamaged, WrongUsage
from qs_certs.journal import Entry, digest
from qs_certs.results import Change
from tests import shapes
from tests.conftest import Pki

G2 = catalogue.ROOTS[catalogue.DEFAULT]
EMBEDDED = (Path(qs_certs.__file__).parent / "roots" / f"{G2.name}.pem").read_bytes()


def wanted() -> dict[str, bytes]:
    from qs_certs import sources

    return {G2.sha256: sources.embedded(G2)}


# --- install, replace, remove ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(None, EMBEDDED, id="absent"),
        pytest.param(b"", EMBEDDED, id="empty"),
        pytest.param(b"# mine\n", b"# mine\n" + EMBEDDED, id="comment"),
        pytest.param(b"# mine", b"# mine\n" + EMBEDDED, id="no final newline"),
        pytest.param(EMBEDDED, EMBEDDED, id="there"),
        pytest.param(EMBEDDED.replace(b"\n", b"\r\n"), None, id="there with CRLF"),
    ],
)
def test_install_adds_the_root_at_the_end(before: bytes | None, after: bytes | None) -> None:
    plan = plan_install(before, wanted(), "root.crt", repair=False)
    assert plan.after == (before if after is None else after)
    assert plan.changes == (plan.after != before)
    assert plan.added == ((G2.name,) if plan.changes else ())


def test_install_refuses_what_it_would_have_to_drop(pki: Pki) -> None:
    damaged = pki.other.certificate.pem + b"-----BEGIN CERTIFICATE-----\nAA\n"
    line = pki.other.certificate.pem.count(b"\n") + 1
    with pytest.raises(TargetDamaged, match=f"root.crt is damaged at line {line}, block 2"):
        plan_install(damaged, wanted(), "root.crt", repair=False)
    plan = plan_install(damaged, wanted(), "root.crt", repair=True)
    assert plan.repaired
    assert changes.holds(plan.after, [G2.sha256, pki.other.certificate.sha256])


def test_install_notices_a_certificate_that_only_openssl_refuses(pki: Pki) -> None:
    from qs_certs.bundle import canonical, parse

    der = pki.other.certificate.der
    # An object identifier may not begin with 0x80 (X.690 §8.19.2).
    broken = canonical(der.replace(b"\x06\x07\x2a", b"\x06\x07\x80", 1))
    assert broken != canonical(der)
    assert parse(broken).problem is None  # the PEM layer sees nothing
    with pytest.raises(TargetDamaged, match="block 1"):
        plan_install(broken, wanted(), "root.crt", repair=False)
    plan = plan_install(broken, wanted(), "root.crt", repair=True)
    assert plan.after is not None
    assert plan.after.endswith(EMBEDDED)
    assert parse(plan.after).fingerprints == {G2.sha256}


def test_replace_leaves_exactly_the_roots(pki: Pki) -> None:
    old = pki.other.certificate
    plan = plan_replace(old.pem, wanted())
    assert (plan.after, plan.added, plan.removed) == (EMBEDDED, (G2.name,), (old.sha256,))
    assert not plan_replace(b"# a comment\n" + EMBEDDED, wanted()).changes
    assert not plan_replace(EMBEDDED + EMBEDDED, wanted()).changes  # a copy adds no trust
    assert plan_replace(None, wanted()).after == EMBEDDED


def test_remove_of_the_last_certificate_removes_the_file() -> None:
    plan = plan_remove(EMBEDDED, [G2.sha256], None)
    assert (plan.after, plan.removed, plan.remove_folder) == (None, (G2.name,), True)
    assert plan_remove(EMBEDDED, [G2.sha256], b"").after == b""  # it was empty before us
    assert plan_remove(b"# mine\n" + EMBEDDED, [G2.sha256], None).after == b"# mine\n"
    assert not plan_remove(None, [G2.sha256], None).changes
    assert not plan_remove(b"# mine\n", [G2.sha256], None).changes


# --- rollback -------------------------------------------------------------------------------------


def entry(
    identity: int, before: bytes | None, after: bytes | None, *, applied: bool | None = True
) -> Entry:
    change = Change(
        identity,
        datetime(2026, 1, 1, tzinfo=timezone.utc),
        "install",
        "root.crt",
        None if before is None else digest(before),
        None if after is None else digest(after),
    )
    return Entry(change, applied, None, made_folder=before is None)


CONTENTS = {digest(content): content for content in (b"a", b"b", b"c")}


def rollback(
    before: bytes | None, history: list[Entry], identity: int | None = None, *, force: bool = False
) -> bytes | None:
    now = None if before is None else digest(before)
    return plan_rollback(
        before,
        [each for each in history if each.happened(now)],  # as the store hands them out
        lambda sha256: None if sha256 is None else CONTENTS[sha256],
        "root.crt",
        identity=identity,
        force=force,
    ).after


ONE_TWO_THREE = [entry(1, None, b"a"), entry(2, b"a", b"b"), entry(3, b"b", b"c")]


@pytest.mark.parametrize(
    ("before", "history", "identity", "after"),
    [
        pytest.param(b"x", [], None, b"x", id="no history"),
        pytest.param(b"c", ONE_TWO_THREE, None, b"b", id="the last change"),
        pytest.param(b"c", ONE_TWO_THREE, 2, b"a", id="an older one"),
        pytest.param(b"c", ONE_TWO_THREE, 1, None, id="all"),
        pytest.param(b"b", ONE_TWO_THREE, None, b"a", id="somebody undid the last one by hand"),
        pytest.param(
            b"b", [*ONE_TWO_THREE, entry(4, b"c", b"b")], None, b"c", id="undoing an undo"
        ),
        pytest.param(
            b"a", [entry(1, b"a", b"b", applied=None)], None, b"a", id="it never happened"
        ),
        pytest.param(b"b", [entry(1, b"a", b"b", applied=None)], None, b"a", id="it did happen"),
    ],
)
def test_rollback_undoes_the_newest_change_whose_result_is_there(
    before: bytes | None, history: list[Entry], identity: int | None, after: bytes | None
) -> None:
    assert rollback(before, history, identity) == after


@pytest.mark.parametrize("before", [b"x", None], ids=["changed", "deleted"])
def test_rollback_refuses_to_undo_what_others_did(before: bytes | None) -> None:
    history = ONE_TWO_THREE[1:]
    with pytest.raises(TargetChanged) as caught:
        rollback(before, history)
    assert "-c" in getattr(caught.value, "diff", "")
    assert rollback(before, history, force=True) == b"b"
    assert rollback(before, history, 2, force=True) == b"a"


@pytest.mark.parametrize("identity", [0, 4, 99])
def test_rollback_knows_only_its_own_changes(identity: int) -> None:
    with pytest.raises(WrongUsage, match=f"no change {identity} "):
        rollback(b"c", ONE_TWO_THREE, identity)
    never = entry(4, b"c", b"a", applied=None)
    with pytest.raises(WrongUsage):
        rollback(b"c", [*ONE_TWO_THREE, never], 4)


# --- diffs ----------------------------------------------------------------------------------------

lines = st.lists(st.sampled_from(["a", "b", "c", "-", "+", "@@ -1 +1 @@"]), max_size=30)


@settings(max_examples=25, deadline=None)
@given(old=lines, new=lines, ends=st.tuples(st.booleans(), st.booleans()))
def test_a_diff_is_what_patch_needs(
    tmp_path_factory: pytest.TempPathFactory,
    old: list[str],
    new: list[str],
    ends: tuple[bool, bool],
) -> None:
    before, after = (
        ("\n".join(each) + ("\n" if end and each else "")).encode()
        for each, end in zip((old, new), ends, strict=True)
    )
    diff = changes.diff(before, after, "root.crt")
    assert (diff == "") == (before == after)
    if not diff:
        return
    path = tmp_path_factory.mktemp("patch") / "root.crt"
    path.write_bytes(before)
    try:
        done = subprocess.run(
            ["patch", "-s", "-E", "--posix", path],
            input=diff.encode(),
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("needs patch(1)")
    assert done.returncode == 0, (diff, done.stdout)
    assert (path.read_bytes() if path.exists() else b"") == after


def test_a_diff_costs_nothing_for_what_is_the_same() -> None:
    old = b"".join(b"line %d\n" % number for number in range(200_000))
    diff = changes.diff(old, old + b"new\n", "root.crt")
    assert diff.splitlines()[2:] == [
        "@@ -199998,3 +199998,4 @@",
        " line 199997",
        " line 199998",
        " line 199999",
        "+new",
    ]


ANA = accounts.Account("ana", 4_242, 4_242, "/home/ana")
CHOSEN = accounts.Account("DOM\\ana b", 4_242, 4_242, "/home/ana", chosen=True)


@pytest.mark.parametrize(
    ("name", "account", "options"),
    [
        pytest.param("root.crt", ANA, "", id="behind sudo"),
        pytest.param("qs-root.crt", ANA, " --target /home/ana/.postgresql/qs-root.crt", id="own"),
        pytest.param("root.crt", CHOSEN, ' --user "DOM\\ana b"', id="chosen"),
        pytest.param("qs-root.crt", CHOSEN, ' --dedicated --user "DOM\\ana b"', id="chosen, own"),
    ],
)
def test_a_command_of_ours_is_for_the_very_file(
    name: str, account: accounts.Account, options: str
) -> None:
    if sys.platform == "win32":
        pytest.skip("only on POSIX")
    target = changes.Target(f"/home/ana/.postgresql/{name}", account)
    steps = ("qs-certs list   # why", "qs-certs check", "ls -l x", "qs-certs list --target x")
    listed, checked, *others = changes.for_this_file(steps, target)
    assert listed == f"qs-certs list{options}   # why"
    assert checked == f"qs-certs check{options.removeprefix(' --dedicated')}"  # which has none
    assert others == list(steps[2:])
    (once,) = changes.for_this_file(("qs-certs install --dedicated",), target)
    assert once.count(" --") == 1 + account.chosen


@pytest.mark.parametrize(
    ("old", "new", "compared"),
    [
        pytest.param("{0}a\n{0}", "{0}b\n{0}", (7, 7), id="a line in the middle"),
        pytest.param("{0}{0}", "{0}b\n{0}", (6, 7), id="a new line in the middle"),
        pytest.param("{0}", "{0}b\n", (3, 4), id="at the end"),
        pytest.param("{0}", "b\n{0}", (3, 4), id="at the beginning"),
        pytest.param("{0}x\ny\n{0}", "{0}{0}", (8, 6), id="two are gone"),
        pytest.param("z\nz\nz\n", "z\nz\n", (3, 2), id="one of the same"),
        pytest.param("", "{0}", (0, 9), id="all is new"),
    ],
)
def test_only_what_differs_is_compared_and_the_lines_around_it(
    monkeypatch: pytest.MonkeyPatch, old: str, new: str, compared: tuple[int, int]
) -> None:
    """Comparing lines costs their number squared: this is what a long file's diff may cost."""
    asked: list[tuple[int, int]] = []
    usual = difflib.unified_diff

    def watched(one: list[str], other: list[str], *names: str, **options: Any) -> Iterator[str]:
        asked.append((len(one), len(other)))
        return usual(one, other, *names, **options)

    common = "".join(f"{number}\n" for number in range(9))
    before, after = (text.format(common).encode() for text in (old, new))
    whole = "".join(
        usual(
            before.decode().splitlines(keepends=True),
            after.decode().splitlines(keepends=True),
            "root.crt",
            "root.crt",
        )
    )
    monkeypatch.setattr(difflib, "unified_diff", watched)
    assert changes.diff(before, after, "root.crt") == whole
    assert asked == [compared]


# --- what OpenSSL is asked ------------------------------------------------------------------------


def test_a_healthy_file_is_loaded_once_and_no_block_of_it_by_itself(
    pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL 3 takes seconds for ten thousand certificates."""
    asked: list[str] = []
    loading, refusing = openssl.load_bytes, openssl.refused

    def load_bytes(content: bytes) -> openssl.Loaded:
        asked.append("all")
        return loading(content)

    def refused(parsed: bundle.Bundle) -> Any:
        asked.append("each")
        return refusing(parsed)

    monkeypatch.setattr(openssl, "load_bytes", load_bytes)
    monkeypatch.setattr(openssl, "refused", refused)
    assert plan_install(pki.other.certificate.pem, wanted(), "root.crt", repair=False).changes
    assert asked == ["all"]
    asked.clear()
    # A control: an object identifier may not begin with 0x80, which only OpenSSL sees.
    der = pki.other.certificate.der.replace(b"\x06\x07\x2a", b"\x06\x07\x80", 1)
    with pytest.raises(TargetDamaged):
        plan_install(bundle.canonical(der), wanted(), "root.crt", repair=False)
    assert "each" in asked


def test_a_root_that_refuses_servers_is_not_held() -> None:
    roots = shapes.pki()
    right = sha256_of(roots.right)
    refusing = shapes.pem(
        roots.right + shapes.trust(rejected=shapes.SERVER_AUTH), "TRUSTED CERTIFICATE"
    )
    assert bundle.parse(refusing).problem is None
    assert not changes.holds(refusing, [right])
    assert changes.holds(shapes.pem(roots.right), [right])
    assert not changes.holds(shapes.pem(roots.right), [right, sha256_of(roots.other)])


def sha256_of(der: bytes) -> str:
    return hashlib.sha256(der).hexdigest()


# --- the way back ---------------------------------------------------------------------------------


def test_a_change_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(WrongUsage) as refused:
        rollback(b"c", ONE_TWO_THREE, 4)
    assert refused.value.why == "its changes: 1 to 3"
    assert refused.value.fix == ("qs-certs history",)
    with pytest.raises(WrongUsage) as refused:
        rollback(b"c", [], 4)
    assert refused.value.why is None


FIVE = [
    entry(1, None, b"a"),
    entry(2, b"a", b"d"),
    entry(3, b"d", b"b"),
    entry(4, b"b", b"c"),
    entry(5, b"e", b"f"),
]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("history", "damaged", "identity", "named"),
    [
        pytest.param(FIVE, b"b", None, 3, id="the next older one"),
        pytest.param(FIVE, b"bd", None, 2, id="that is whole"),
        pytest.param(FIVE, b"bdae", None, 1, id="the absence is always whole"),
        pytest.param(FIVE, b"a", 2, 1, id="older than the one asked for"),
        pytest.param(FIVE[1:], b"a", 2, 3, id="the next newer one"),
        pytest.param(FIVE[2:], b"db", 3, 5, id="that is whole, too"),
    ],
)
def test_where_a_content_is_damaged_the_next_whole_one_is_named(
    history: list[Entry], damaged: bytes, identity: int | None, named: int, force: bool
) -> None:
    def content(sha256: str | None) -> bytes | None:
        if sha256 in [digest(bytes([each])) for each in damaged]:
            raise StoreTampered("damaged")
        return None if sha256 is None else b"whole"

    with pytest.raises(StoreTampered) as refused:
        plan_rollback(b"c", history, content, "root.crt", identity=identity, force=force)
    first, last = refused.value.fix
    forced = " --force" if force else ""
    assert first == (
        f"qs-certs rollback {named}{forced}   # the content before 2026-01-01 00:00 UTC is whole"
    )
    assert last == "qs-certs history"


def test_where_no_content_is_whole_that_is_said() -> None:
    def content(sha256: str | None) -> bytes | None:
        raise StoreTampered("damaged")

    with pytest.raises(StoreTampered) as refused:
        plan_rollback(b"c", ONE_TWO_THREE, content, "root.crt", identity=None, force=False)
    assert refused.value.fix == ("qs-certs history", "no other earlier content is whole")
