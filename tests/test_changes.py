"""Plans: from bytes and history to what would be written.  The stories hold the whole commands."""

from __future__ import annotations

import difflib
import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qs_certs
from qs_certs import accounts, bundle, catalogue, changes, files, openssl, rootfile
from qs_certs.changes import Wanted, plan_install, plan_remove, plan_replace, plan_rollback
from qs_certs.errors import (
    ChangedUnconfirmed,
    CouldNotRead,
    CouldNotWrite,
    QsCertsError,
    StoreTampered,
    TargetChanged,
    TargetDamaged,
    TargetRefused,
    WrongUsage,
    quoted,
)
from qs_certs.journal import Entry, digest
from qs_certs.libpq.locations import Surroundings
from qs_certs.results import Change, ChangeReport, Source, TargetResult
from qs_certs.sources import embedded
from qs_certs.store import Store
from qs_certs.values import replace
from tests import shapes
from tests.conftest import Pki
from tests.faults.disks import FaultyDisk

G2 = catalogue.ROOTS[catalogue.DEFAULT]
G3 = catalogue.ROOTS["digicert-global-root-g3"]
EMBEDDED = (Path(qs_certs.__file__).parent / "roots" / f"{G2.name}.pem").read_bytes()


def wanted() -> dict[str, bytes]:
    return {G2.sha256: embedded(G2)}


# --- install, replace, remove ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "text_mode",
    [
        pytest.param(True, id="ends at a Ctrl-Z"),
        pytest.param(
            False,
            id="reads on",
            marks=pytest.mark.skipif(sys.platform == "win32", reason="only on POSIX"),
        ),
    ],
)
def test_a_plan_counts_on_no_root_that_some_openssl_does_not_reach(
    monkeypatch: pytest.MonkeyPatch, text_mode: bool
) -> None:
    monkeypatch.setattr(openssl, "TEXT_MODE", text_mode)
    other = shapes.pem(shapes.pki().other)
    before = other + b"\x1a\n" + EMBEDDED
    assert changes.holds(before, wanted()) is not text_mode
    plan = plan_install(before, wanted(), "root.crt", repair=False)
    assert plan.after == (other + b"\n" + EMBEDDED if text_mode else before)
    assert len(plan.repaired) == text_mode
    damaged = EMBEDDED + b"\x1a\n" + other[:200]
    if text_mode:
        with pytest.raises(TargetDamaged, match=r"at line 24, block 2"):
            plan_install(damaged, wanted(), "root.crt", repair=False)
    assert plan_install(damaged, wanted(), "root.crt", repair=True).after == (
        EMBEDDED + (b"\n" if text_mode else b"\x1a\n")
    )


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
    assert (plan.after, plan.removed) == (None, (G2.name,))
    assert plan_remove(EMBEDDED, [G2.sha256], b"").after == b""  # it was empty before us
    assert plan_remove(b"# mine\n" + EMBEDDED, [G2.sha256], None).after == b"# mine\n"
    assert plan_remove(EMBEDDED + b"\x1a", [G2.sha256], None).after is None  # cmd's end of file
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
    assert once == "qs-certs install --dedicated" + (
        f" --user {quoted(account.name)}" if account.chosen else ""
    )


def test_where_libpq_has_no_default_the_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    homeless = Surroundings("linux", {}, None)
    assert homeless.root_file is None
    monkeypatch.setattr(accounts, "surroundings", lambda: homeless)
    target = changes.Target(os.path.abspath("root.crt"))
    (step,) = changes.for_this_file(("qs-certs list",), target)
    assert step == f"qs-certs list --target {quoted(target.path)}"


@pytest.mark.parametrize(
    ("old", "new", "compared"),
    [
        pytest.param("{0}a\n{0}", "{0}b\n{0}", (7, 7), id="a line in the middle"),
        pytest.param("{0}{0}", "{0}b\n{0}", (6, 7), id="a new line in the middle"),
        pytest.param("{0}", "{0}b\n", (3, 4), id="at the end"),
        pytest.param("{0}", "b\n{0}", (3, 4), id="at the beginning"),
        pytest.param("{0}x\ny\n{0}", "{0}{0}", (8, 6), id="two are gone"),
        pytest.param("z\nz\nz\n", "z\nz\n", (3, 2), id="one of the same"),
        pytest.param("a\n{0}b\n", "c\n{0}d\n", (11, 11), id="at both ends"),
        pytest.param("", "{0}", (0, 9), id="all is new"),
    ],
)
def test_only_what_differs_is_compared_and_the_lines_around_it(
    monkeypatch: pytest.MonkeyPatch, old: str, new: str, compared: tuple[int, int]
) -> None:
    """Comparing lines costs their number squared: this is what a long file's diff may cost."""
    asked: list[tuple[int, int]] = []
    usual = difflib.unified_diff

    def watched(one: list[str], other: list[str], *names: Any, **options: Any) -> Iterator[str]:
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


# --- whole changes, in this process ---------------------------------------------------------------

THEIRS = b"# theirs\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QS_CERTS_STORE", str(tmp_path / "store"))
    return tmp_path / "home" / "root.crt"


def wanting(root: catalogue.Root, warning: str | None = None) -> Wanted:
    return Wanted(root.sha256, lambda: (embedded(root), "embedded", warning))


def install(path: Path, *names: str, **options: Any) -> ChangeReport:
    """Install roots of the catalogue, embedded; the default one where none is named."""
    wants = [wanting(catalogue.ROOTS[name]) for name in names or (catalogue.DEFAULT,)]
    return changes.install((changes.Target(str(path)),), wants, **options)


def remove(path: Path, *fingerprints: str, **options: Any) -> TargetResult:
    (result,) = changes.remove((changes.Target(str(path)),), fingerprints, **options).targets
    return result


def store_of(path: Path) -> Store:
    return Store(path.parent.parent / "store")


def lines_of(path: Path) -> int:
    return Path(store_of(path).folder, "journal.jsonl").read_bytes().count(b"\n")


def meanwhile(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> None:
    """Let *work* be done between the look at the target and the lock."""
    usual = files.locked

    def locked(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(files, "locked", usual)
        work()
        return usual(*args, **options)

    monkeypatch.setattr(files, "locked", locked)


def test_what_somebody_saved_before_the_lock_is_planned_for_at_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root.parent.mkdir()
    meanwhile(monkeypatch, lambda: root.write_bytes(THEIRS))
    (result,) = install(root).targets
    assert (result.status, result.change_id, result.created) == ("changed", 1, False)
    assert root.read_bytes() == THEIRS + EMBEDDED
    assert lines_of(root) == 2, "no attempt came to nothing before"
    (entry,) = store_of(root).changes(str(root))
    assert entry.change.before == digest(THEIRS)


def test_a_file_is_judged_once_where_nobody_else_is_at_work(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL takes its time for each judgement."""
    asked: list[bytes | None] = []
    usual = changes.plan_install

    def planned(before: bytes | None, *args: Any, **options: Any) -> changes.Plan:
        asked.append(before)
        return usual(before, *args, **options)

    monkeypatch.setattr(changes, "plan_install", planned)
    install(root)
    assert asked == [None]
    asked.clear()
    root.unlink()
    meanwhile(monkeypatch, lambda: root.write_bytes(THEIRS))
    install(root)
    assert asked == [None, THEIRS], "a control"


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_source_is_told_where_something_came_from_it(root: Path, dry_run: bool) -> None:
    (result,) = install(root, dry_run=dry_run).targets
    assert (result.source, result.created, result.added) == ("embedded", True, (G2.name,))
    install(root)
    install(root, G3.name)
    (result,) = install(root, G3.name, replace_all=True, dry_run=dry_run).targets
    assert (result.source, result.created, result.added) == (None, False, ())
    assert result.removed == (G2.name,)
    assert result.status == ("would-change" if dry_run else "changed")
    (result,) = install(root, G3.name).targets
    assert (result.status, result.source, result.present) == ("unchanged", None, (G3.name,))


def test_a_warning_of_a_source_is_passed_on_as_one(root: Path) -> None:
    wants = (wanting(G2, "used the embedded copy"), wanting(G3))
    report = changes.install((changes.Target(str(root)),), wants)
    (finding,) = report.findings
    assert (finding.code, finding.severity) == ("could-not-download", "warning")
    assert finding.message == "used the embedded copy"
    assert changes.install((changes.Target(str(root)),), wants).findings == (), "nothing is fetched"


def test_a_report_says_which_command_it_is_of(root: Path) -> None:
    target = (changes.Target(str(root)),)
    assert install(root).command == "install"
    assert changes.rollback(target).command == "rollback"
    assert changes.remove(target, (G2.sha256,)).command == "remove"
    (first, second) = store_of(root).changes(str(root))
    assert (first.change.command, second.change.command) == ("install", "rollback")
    install(root)
    changes.remove(target, (G2.sha256,))
    assert store_of(root).changes(str(root))[-1].change.command == "remove"


@pytest.mark.parametrize("status", ["unchanged", "changed", "failed"])
def test_nothing_to_roll_back_is_said_but_in_a_run_over_accounts(
    monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """A run over accounts says so of each in its own line."""

    def each(targets: tuple[changes.Target, ...], *_: object, **__: object) -> list[TargetResult]:
        return [TargetResult(target.path, target.user, status) for target in targets]  # type: ignore[arg-type]

    monkeypatch.setattr(changes, "_each", each)
    ana = accounts.Account("ana", 1, 1, "/home/ana")
    for account in (None, ana):  # this process's own, and one behind sudo
        findings = changes.rollback((changes.Target("root.crt", account),)).findings
        if status == "unchanged":
            (finding,) = findings
            assert (finding.code, finding.severity) == ("nothing-to-roll-back", "ok")
            assert finding.message == "there is nothing to roll back in root.crt"
        else:
            assert findings == ()
    chosen = changes.Target("root.crt", replace(ana, chosen=True))
    assert changes.rollback((chosen,)).findings == ()


BOTH = EMBEDDED + bundle.canonical(embedded(G3))


@pytest.mark.parametrize("known", [False, True], ids=["unknown", "known to load"])
@pytest.mark.parametrize(
    ("content", "options", "status"),
    [
        pytest.param(EMBEDDED, {}, "unchanged", id="there"),
        pytest.param(BOTH, {}, "unchanged", id="there, with another"),
        pytest.param(bundle.canonical(embedded(G3)), {}, "changed", id="another"),
        pytest.param(EMBEDDED, {"replace_all": True}, "unchanged", id="exactly that"),
        pytest.param(THEIRS + EMBEDDED, {"replace_all": True}, "unchanged", id="and a comment"),
        pytest.param(BOTH, {"replace_all": True}, "changed", id="more than that"),
        pytest.param(EMBEDDED, {"repair": True}, "unchanged", id="nothing to repair"),
        pytest.param(bundle.BOM + EMBEDDED, {"repair": True}, "changed", id="a mark to take out"),
        pytest.param(bundle.BOM + EMBEDDED, {}, "unchanged", id="a mark that does no harm"),
        pytest.param(None, {}, "changed", id="no file"),
        pytest.param(b"", {"replace_all": True}, "changed", id="an empty file"),
    ],
)
def test_nothing_is_fetched_for_a_file_that_is_as_it_should_be(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes | None,
    options: dict[str, Any],
    status: str,
    known: bool,
) -> None:
    monkeypatch.setattr(rootfile, "_understood", {})
    if known:
        rootfile.understand_default()
    root.parent.mkdir()
    if content is not None:
        root.write_bytes(content)
    fetched: list[str] = []

    def fetch() -> tuple[bytes, Source, str | None]:
        fetched.append(G2.name)
        return embedded(G2), "embedded", None

    target = (changes.Target(str(root)),)
    (result,) = changes.install(target, (Wanted(G2.sha256, fetch),), **options).targets
    assert result.status == status
    assert fetched == ([] if status == "unchanged" else [G2.name])
    assert result.present == ((G2.name,) if status == "unchanged" else ())


def test_a_target_that_cannot_be_looked_at_is_told_and_nothing_is_fetched_for_it(
    root: Path,
) -> None:
    root.mkdir(parents=True)

    def fetch() -> Any:
        raise AssertionError("fetched")

    target = (changes.Target(str(root)),)
    (result,) = changes.install(target, (Wanted(G2.sha256, fetch),)).targets
    assert result.status == "failed"
    assert isinstance(result.error, TargetRefused)
    assert remove(root, G2.sha256).status == "failed"


def test_a_root_that_was_taken_out_leaves_the_file_as_it_was_before_it_came(root: Path) -> None:
    """To the byte, though other changes came after: an install into it had ended its last line."""
    root.parent.mkdir()
    root.write_bytes(b"# mine")
    install(root)
    install(root, G3.name)
    assert remove(root, G3.sha256).removed == (G3.name,)
    assert root.read_bytes() == b"# mine\n" + EMBEDDED
    assert remove(root, G2.sha256).removed == (G2.name,)
    assert root.read_bytes() == b"# mine"
    root.write_bytes(b"# mine\n" + EMBEDDED)
    assert remove(root, G2.sha256, G2.sha256).removed == (G2.name,)


def test_a_root_that_somebody_else_put_there_is_taken_out_too(root: Path) -> None:
    root.parent.mkdir()
    root.write_bytes(b"# mine\n" + EMBEDDED)
    assert remove(root, G2.sha256).removed == (G2.name,)
    assert root.read_bytes() == b"# mine\n"
    assert remove(root, G2.sha256).status == "unchanged"


def test_where_the_content_before_is_damaged_one_newline_may_stay(root: Path) -> None:
    root.parent.mkdir()
    root.write_bytes(b"# mine")
    install(root)
    blob = Path(store_of(root).folder, "blobs", f"{digest(b'# mine')}.crt")
    blob.chmod(0o600)
    blob.write_bytes(b"x")
    assert remove(root, G2.sha256).removed == (G2.name,)
    assert root.read_bytes() == b"# mine\n"


def test_a_preview_fetches_nothing_for_what_is_there(root: Path) -> None:
    def fetch() -> Any:
        raise AssertionError("fetched")

    root.parent.mkdir()
    root.write_bytes(THEIRS + EMBEDDED)
    known = changes.Target(str(root))
    options = {"replace_all": False, "repair": False}
    assert changes.preview(known, [Wanted(G2.sha256, fetch)], **options) == THEIRS + EMBEDDED
    with pytest.raises(AssertionError, match="fetched"):
        changes.preview(known, [Wanted(G3.sha256, fetch)], **options)
    with_both = changes.preview(known, [wanting(G3)], **options)
    assert with_both.startswith(THEIRS + EMBEDDED)
    assert changes.holds(with_both, [G2.sha256, G3.sha256])
    exactly = changes.preview(known, [wanting(G3)], replace_all=True, repair=False)
    assert bundle.parse(exactly).fingerprints == {G3.sha256}
    assert root.read_bytes() == THEIRS + EMBEDDED


def test_a_preview_of_what_cannot_be_judged_in_place_is_planned(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(root)
    install(root, G3.name)

    def load(path: str) -> openssl.Loaded:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(openssl, "load", load)
    monkeypatch.setattr(rootfile, "understood", lambda content: None)
    known = changes.Target(str(root))
    shown = changes.preview(known, [wanting(G2)], replace_all=True, repair=False)
    assert shown == EMBEDDED


# --- a disk that fails in the middle --------------------------------------------------------------


def breaking(when: Callable[[str, tuple[Any, ...]], bool]) -> FaultyDisk:
    """A disk on which the calls fail for which *when* holds."""
    disk = FaultyDisk()
    disk.broken = lambda name, args: errno.EIO if when(name, args) else None
    return disk


@pytest.mark.parametrize("there", [True, False], ids=["their folder", "our folder"])
def test_a_change_that_failed_leaves_nothing_behind(root: Path, there: bool) -> None:
    if there:
        root.parent.mkdir()
    disk = breaking(lambda name, args: name == "open" and ".root.crt.qs-" in args[0])
    (result,) = install(root, disk=disk).targets
    assert isinstance(result.error, CouldNotWrite)
    assert root.parent.exists() == there
    assert lines_of(root) == 2, "the end of the change is on record"
    assert store_of(root).changes(str(root)).ids == []
    (result,) = install(root).targets
    assert (result.status, result.change_id) == ("changed", 2), "a control"


def test_a_change_that_is_not_known_to_be_durable_stays_on_record_as_open(root: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("not on Windows: a folder is not synced there")
    disk = breaking(lambda name, args: name == "open" and args[0] == str(root.parent))
    (result,) = install(root, disk=disk).targets
    assert isinstance(result.error, ChangedUnconfirmed)
    assert root.read_bytes() == EMBEDDED
    assert [each.applied for each in store_of(root).changes(str(root))] == [None]
    install(root, G3.name)
    assert [each.applied for each in store_of(root).changes(str(root))] == [True, True]


def test_a_change_whose_end_cannot_be_noted_is_said_to_be_made(root: Path) -> None:
    disk = breaking(
        lambda name, args: name == "open" and args[0].endswith(".jsonl") and root.exists()
    )
    (result,) = install(root, disk=disk).targets
    assert isinstance(result.error, ChangedUnconfirmed)
    assert "the store could not note that" in result.error.message
    assert result.error.why == os.strerror(errno.EIO)
    assert root.read_bytes() == EMBEDDED
    assert [each.applied for each in store_of(root).changes(str(root))] == [None]


def displaced(content: bytes) -> QsCertsError:
    error = TargetChanged("changed")
    error.displaced = content
    return error


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        pytest.param(TargetChanged("changed"), [], id="nothing was out of place"),
        pytest.param(CouldNotRead("cannot read"), [], id="it cannot be read"),
        pytest.param(displaced(b"# an edit\n"), [b"# an edit\n"], id="an edit was out of place"),
    ],
)
def test_what_was_out_of_place_when_a_change_failed_is_kept(
    root: Path, monkeypatch: pytest.MonkeyPatch, error: QsCertsError, kept: list[bytes]
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(files, "replace", refuse)
    (result,) = install(root).targets
    assert result.error is error
    blobs = {path.stem for path in Path(store_of(root).folder, "blobs").iterdir()}
    assert blobs == {digest(EMBEDDED), *map(digest, kept)}
    assert store_of(root).changes(str(root)).ids == []


@pytest.mark.parametrize("undo", ["rollback", "remove"])
@pytest.mark.parametrize("there", [True, False], ids=["their folder", "our folder"])
def test_a_folder_of_ours_goes_with_the_last_of_what_it_was_made_for(
    root: Path, there: bool, undo: str
) -> None:
    if there:
        root.parent.mkdir()
    install(root)
    if undo == "rollback":
        changes.rollback((changes.Target(str(root)),))
    else:
        assert remove(root, G2.sha256).removed == (G2.name,)
    assert not root.exists()
    assert root.parent.exists() == there


def test_a_plan_of_no_change_names_nothing(pki: Pki) -> None:
    nothing: dict[str, Any] = {"added": (), "removed": (), "repaired": (), "mode": None}
    for plan in (
        plan_replace(EMBEDDED, wanted()),
        plan_install(EMBEDDED, wanted(), "root.crt", repair=False),
        plan_remove(None, [G2.sha256], None),
        plan_remove(pki.other.certificate.pem, [G2.sha256], None),
        plan_rollback(
            THEIRS, [], lambda _: None, "root.crt", identity=None, force=False
        ),
    ):  # fmt: skip
        assert plan == changes.Plan(plan.before, plan.before, **nothing, remove_folder=False)


def test_only_a_repair_is_told_as_one(root: Path) -> None:
    root.parent.mkdir()
    root.write_bytes(bundle.BOM + EMBEDDED)
    (mended,) = install(root, repair=True).targets
    assert len(mended.repaired) == 1
    (back,) = changes.rollback((changes.Target(str(root)),)).targets
    (replaced,) = install(root, G3.name, replace_all=True).targets
    gone = remove(root, G3.sha256)
    for result in (back, replaced, gone):
        assert (result.status, result.repaired) == ("changed", ())


def test_after_three_attempts_a_file_is_left_to_whoever_keeps_changing_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise TargetChanged("changed")

    monkeypatch.setattr(files, "replace", refuse)
    (result,) = install(root).targets
    assert isinstance(result.error, TargetChanged)
    assert lines_of(root) == 3 * 2, "each attempt, and its end"


def test_a_file_that_is_known_to_load_may_lack_what_is_wanted(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rootfile, "_understood", {})
    rootfile.understand_default()
    install(root)
    assert install(root).targets[0].status == "unchanged", "a control"
    assert install(root, G3.name).targets[0].status == "changed"
    assert root.read_bytes() == BOTH
