"""The journal of changes, held to its own page's words by lines that these tests write themselves."""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from qs_certs import journal
from qs_certs.errors import StoreTampered
from qs_certs.journal import Journal

A, B, C = (hashlib.sha256(text).hexdigest() for text in (b"a", b"b", b"c"))
HOME = "/home/ana/.postgresql/root.crt"


def change(number: int, **others: object) -> dict[str, object]:
    return {
        "kind": "change",
        "id": number,
        "at": "2026-01-02T03:04:05Z",
        "command": "install",
        "target": HOME,
        "before": A,
        "after": B,
        "added": [],
        "removed": [],
        "mode": None,
        "made_folder": False,
        **others,
    }


def end(kind: str, number: int) -> dict[str, object]:
    return {"kind": kind, "id": number}


def written(*records: dict[str, object], before: bytes = b"") -> bytes:
    """The lines of *records* behind *before*, chained as the module says."""
    raw = before
    for record in records:
        body = json.dumps({"v": 1, **record, "prev": hashlib.sha256(raw).hexdigest()}).encode()
        raw += body + b" " + hashlib.sha256(body).hexdigest().encode() + b"\n"
    return raw[len(before) :]


def records(raw: bytes) -> list[dict[str, object]]:
    """What lines say; their chain is looked at by reading them."""
    return [json.loads(line.rpartition(b" ")[0]) for line in raw.splitlines()]


def read(*pieces: bytes) -> Journal:
    """A journal that was read whenever one of *pieces* had come to it."""
    found = Journal("journal.jsonl")
    for number in range(len(pieces)):
        found.read(b"".join(pieces[: number + 1]))
    return found


FOUR = written(change(1), end("done", 1), change(2, before=B, after=None), end("void", 2))
ENDS = [at + 1 for at, byte in enumerate(FOUR) if byte == 10]


# --- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cuts", [ENDS[:1], ENDS[1:2], ENDS[:2], ENDS[:3]], ids=str)
def test_a_journal_that_grew_while_it_was_read_is_the_one_read_at_once(cuts: list[int]) -> None:
    places = [0, *cuts, len(FOUR)]
    grown = read(*(FOUR[at:to] for at, to in itertools.pairwise(places)))
    whole = read(FOUR)
    assert grown.raw == whole.raw == FOUR
    assert [each.change.id for each in grown.of(HOME)] == [1]
    more = written(change(3), before=FOUR)
    for found in (grown, whole):
        assert found.next_id == 3
        assert found.line(change(3)) == more
        assert found.open == ()


def test_what_is_known_of_a_journal_holds_only_for_what_begins_with_all_of_it() -> None:
    known = read(*(FOUR[at:to] for at, to in itertools.pairwise([0, *ENDS])))
    assert known.begins(FOUR)
    assert known.begins(FOUR + b"more")
    for place in range(len(FOUR)):
        assert not known.begins(FOUR[:place])
        assert not known.begins(FOUR[:place] + bytes([FOUR[place] ^ 1]) + FOUR[place + 1 :])


def test_a_whole_journal_is_verified_without_a_walk_along_its_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One hash over the file and one over its last line, or ten thousand changes cost seconds."""
    walked: list[bytes] = []

    def walk(self: Journal, raw: bytes) -> int:
        walked.append(raw)
        return usual(self, raw)

    usual = Journal._walk
    monkeypatch.setattr(Journal, "_walk", walk)
    at, to = ENDS[:2]
    known = read(FOUR[:at], FOUR[at:to], FOUR[to:])
    known.read(FOUR)
    known.read(FOUR + b'{"v": 1, "torn')
    assert read(written(change(1))).next_id == 2
    assert walked == []
    with pytest.raises(StoreTampered):
        known.read(FOUR + b"{}\n{}\n")
    assert len(walked) == 1, "a control: damage is looked for line by line"


def test_after_a_torn_line_that_is_no_line_the_chain_goes_on_from_the_whole_ones() -> None:
    for torn in (b'{"prev": "x"} beef\n', b"{"):
        known = read(FOUR + torn)
        assert known.raw == FOUR
        assert known.line(change(3)) == written(change(3), before=FOUR)
        known = Journal("journal.jsonl")
        known.read(FOUR[: ENDS[1]])
        known.read(FOUR + torn)
        assert known.line(change(3)) == written(change(3), before=FOUR)


def test_a_journal_of_nothing_but_a_torn_line_may_begin_in_any_way() -> None:
    for first in (end("quarantine", 3), change(4)):
        known = Journal("journal.jsonl")
        known.read(b'{"prev": "x"} beef\n')
        assert (known.raw, known.size, known.next_id) == (b"", 0, 1)
        assert known.begins(written(first))
        known.read(written(first))
        assert known.next_id == (4 if first["kind"] == "quarantine" else 5)


@pytest.mark.parametrize("cut", [0, ENDS[0]], ids=["at once", "in two pieces"])
@pytest.mark.parametrize(
    ("records", "line"),
    [
        pytest.param([change(1), end("done", 2)], 2, id="the end of nothing"),
        pytest.param([change(1), end("gone", 1)], 2, id="no kind of ours"),
        pytest.param([change(1), {"kind": 7}], 2, id="no kind at all"),
        pytest.param([change(1), end("done", 1), end("prune", 1)], 3, id="late prune"),
        pytest.param(
            [each for number in (1, 2, 3) for each in (change(number), end("done", number))]
            + [end("gone", 3)],
            7,
            id="behind three pairs",
        ),
        pytest.param([change(1), end("quarantine", 1)], 2, id="late quarantine"),
    ],
)
def test_a_line_of_ours_that_stands_where_it_cannot_is_named_by_its_number(
    records: list[dict[str, object]], line: int, cut: int
) -> None:
    raw = written(*records)
    pieces = (raw[:cut], raw[cut:]) if cut else (raw,)
    with pytest.raises(StoreTampered, match="nothing was changed") as damaged:
        read(*pieces)
    what = "qs-certs did not write it, or it belongs elsewhere"
    assert damaged.value.why == f"line {line} of journal.jsonl: {what}"
    assert damaged.value.fix[-1].startswith("qs-certs history --quarantine ")


CHECKSUM, ORDER = "its checksum is wrong", "it does not follow the line before"


@pytest.mark.parametrize(
    ("damage", "line", "what"),
    [
        pytest.param(lambda raw: raw.replace(b'd": 1,', b'd": 7,', 1), 1, CHECKSUM, id="first"),
        pytest.param(lambda raw: raw[: ENDS[1]] + raw[ENDS[2] :], 3, ORDER, id="one is gone"),
        pytest.param(lambda raw: raw[ENDS[0] :], 1, ORDER, id="the first is gone"),
    ],
)
def test_a_damaged_line_is_named_by_its_number(
    damage: Callable[[bytes], bytes], line: int, what: str
) -> None:
    with pytest.raises(StoreTampered) as damaged:
        read(damage(FOUR))
    assert damaged.value.why == f"line {line} of journal.jsonl: {what}"


# --- entries --------------------------------------------------------------------------------------

ODD = '/home/żółw/a "b"\\c", "before": null'


def test_every_field_of_a_change_is_read_as_it_was_written() -> None:
    full = change(
        7,
        command="replace",
        target=ODD,
        before=None,
        after=C,
        added=["one", 'tw"o', "ž"],
        removed=["three"],
        mode=0o640,
        made_folder=True,
    )
    entry = read(written(full)).entry(7)
    assert entry.change.id == 7
    assert entry.change.at.isoformat() == "2026-01-02T03:04:05+00:00"
    assert (entry.change.command, entry.change.target) == ("replace", ODD)
    assert (entry.change.before, entry.change.after) == (None, C)
    assert (entry.change.added, entry.change.removed) == (("one", 'tw"o', "ž"), ("three",))
    assert (entry.mode, entry.made_folder, entry.applied) == (0o640, True, None)
    plain = read(written(change(1, after=None), end("done", 1))).entry(1)
    assert (plain.change.before, plain.change.after) == (A, None)
    assert (plain.change.added, plain.change.removed) == ((), ())
    assert (plain.mode, plain.made_folder, plain.applied) == (None, False, True)


@pytest.mark.parametrize(
    ("ended", "now", "happened"),
    [
        pytest.param((), A, False, id="open, the old content stands"),
        pytest.param((), B, True, id="open, the new content stands"),
        pytest.param((), C, True, id="open, neither"),
        pytest.param((), None, True, id="open, gone"),
        pytest.param((end("done", 1),), A, True, id="done, whatever stands there"),
        pytest.param((end("void", 1),), B, False, id="void, whatever stands there"),
    ],
)
def test_an_open_change_happened_where_its_old_content_is_gone(
    ended: tuple[dict[str, object], ...], now: str | None, happened: bool
) -> None:
    found = read(written(change(1), *ended))
    assert found.entry(1).happened(now) == happened
    assert len(found.open) == (not ended)


def test_a_file_has_its_own_history_and_nothing_of_a_file_that_is_named_like_it() -> None:
    names = [HOME, f"{HOME}x", ODD, "/home/żółw/a ", f'{HOME}", "before": ']
    raw = written(*(change(number, target=name) for number, name in enumerate(names, start=1)))
    found = read(raw)
    for number, name in enumerate(names, start=1):
        assert found.of(name).ids == [number]
    assert found.of("/home").ids == []
    assert read(written(change(1), change(2))).of("/home").ids == []


def test_no_line_is_decoded_to_find_the_changes_of_one_file_among_those_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """But on Windows, where a file has many spellings: ten thousand lines would cost seconds."""
    found = read(written(change(1), change(2, target="/other")))
    decoded: list[bytes] = []

    def loads(text: bytes) -> Any:
        decoded.append(text)
        return usual(text)

    usual = json.loads
    monkeypatch.setattr(json, "loads", loads)
    if sys.platform != "win32":
        assert found.of(HOME).ids == [1]
        assert decoded == []
    monkeypatch.setattr(journal, "_CASE_MATTERS", False)
    assert found.of(HOME).ids == [1]
    assert decoded == [b'"/other"'], "a control"


def test_changes_that_never_happened_are_in_no_history() -> None:
    found = read(written(change(1), end("void", 1), change(2), end("done", 2), change(3)))
    assert found.of(HOME).ids == [2, 3]
    assert found.of(HOME).without({3}).ids == [2]
    assert found.of(HOME).without(()).ids == [2, 3]
    assert [each.change.id for each in found.of(HOME)[1:]] == [3]
    assert found.of(HOME)[-1].change.id == 3
    assert found.next_id == 4


# --- a journal in another's place -----------------------------------------------------------------


def test_a_pruned_journal_keeps_the_rest_as_it_was_and_says_what_it_took_the_place_of() -> None:
    other = change(3, target="/other")
    kept = [change(2), other, end("done", 2), change(5)]
    raw = written(
        change(1), end("done", 1), *kept[:3], change(4), end("void", 4), kept[3], change(6),
        end("void", 6),
    )  # fmt: skip
    known = read(raw)
    pruned = known.without({1}, {"at": "now", "dropped": 1})
    first, *rest = records(pruned)
    assert {**first, "prev": ""} == {
        "v": 1,
        "kind": "prune",
        "id": 6,
        "at": "now",
        "dropped": 1,
        "head": hashlib.sha256(raw).hexdigest(),
        "prev": "",
    }
    assert pruned == written({key: first[key] for key in first if key not in ("v", "prev")}, *kept)
    assert [each["id"] for each in rest] == [2, 3, 2, 5]

    found = read(pruned)
    assert found.rewritten
    assert not known.rewritten
    assert found.next_id == 7, "a number is not given twice, though its change is gone"
    assert found.of(HOME).ids == [2, 5]
    assert [each.change.id for each in found.open] == [3, 5]
    again = found.without({2, 3}, {})
    assert [(each["kind"], each["id"]) for each in records(again)] == [("prune", 6), ("change", 5)]
    assert read(again).of(HOME).ids == [5]


def test_a_journal_that_begins_anew_goes_on_counting() -> None:
    raw = journal.beginning({"kind": "quarantine", "id": 4, "content": C})
    assert raw == written({"kind": "quarantine", "id": 4, "content": C})
    found = read(raw)
    assert (found.rewritten, found.next_id, found.size) == (True, 5, len(raw))
    assert found.of(HOME).ids == []
    found.appended(found.line(change(5)))
    assert found.raw == raw + written(change(5), before=raw)
    assert found.next_id == 6


@pytest.mark.parametrize(
    ("raw", "highest"),
    [
        pytest.param(b"", 0, id="nothing"),
        pytest.param(b"x\n", 0, id="no line is whole"),
        pytest.param(FOUR, 2, id="all are whole"),
        pytest.param(FOUR[: ENDS[1]] + b"x" + FOUR[ENDS[1] :], 2, id="its end is whole"),
        pytest.param(FOUR[: ENDS[1]] + FOUR[ENDS[1] :].replace(b'd": 2', b'd": 9'), 1, id="none"),
        pytest.param(written({"what": 1}), 0, id="whole, and nothing of ours"),
        pytest.param(written(change(9), end("done", 9), change(3)), 9, id="not the last"),
    ],
)
def test_of_a_damaged_journal_the_whole_lines_say_how_far_it_counted(
    raw: bytes, highest: int
) -> None:
    assert journal.highest_id(raw) == highest


def test_contents_are_named_by_changes_and_by_a_new_beginning_and_by_nothing_else() -> None:
    head = {"kind": "quarantine", "id": 0, "head": "d" * 64, "content": C}
    assert journal.named(written(head)) == {C}
    assert journal.named(written(change(1), end("done", 1))) == {A, B}
    assert journal.named(written(change(1, before=None, after=C))) == {C}
    assert journal.named(FOUR[: ENDS[0]] + b"damaged\n" + FOUR[ENDS[0] :]) == {A, B}
