"""Values behave as the frozen dataclasses do that they stand in for."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest

from qs_certs.results import ClientGuide, Finding
from qs_certs.values import Value, replace


class Point(Value):
    x: int
    y: int = 0
    label: str | None = None

    @property
    def sum(self) -> int:
        return self.x + self.y


@dataclasses.dataclass(frozen=True)
class Twin:
    x: int
    y: int = 0
    label: str | None = None


class Even(Value):
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError("odd")


CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((1,), {}),
    ((1, 2), {}),
    ((), {"x": 1}),
    ((1,), {"label": "a"}),
    ((1, 2, "a"), {}),
    ((), {}),
    ((1, 2, "a", 4), {}),
    ((1,), {"x": 2}),
    ((1,), {"z": 2}),
]


@pytest.mark.parametrize(("args", "fields"), CALLS, ids=repr)
def test_making_one_gives_what_a_dataclass_gives_or_refuses_what_it_refuses(
    args: tuple[Any, ...], fields: dict[str, Any]
) -> None:
    try:
        twin = Twin(*args, **fields)
    except TypeError:
        with pytest.raises(TypeError):
            Point(*args, **fields)
    else:
        made = Point(*args, **fields)
        assert dataclasses.asdict(made) == dataclasses.asdict(twin)
        assert repr(made) == repr(twin).replace("Twin", "Point")
        assert made.sum == twin.x + twin.y


def test_equal_ones_are_one_key_and_others_are_not() -> None:
    assert Point(1, 2) == Point(1, y=2)
    assert len({Point(1, 2), Point(1, 2), Point(2, 1)}) == 2
    assert Point(1) != Point(2)
    assert Point(1) != Twin(1)
    assert Even(2) != Point(2)


def test_nothing_can_be_set_or_deleted() -> None:
    point = Point(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.z = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        del point.x
    assert point == Point(1)


def test_a_copy_differs_in_what_was_replaced_only() -> None:
    assert replace(Point(1, 2, "a"), y=3) == Point(1, 3, "a")
    assert dataclasses.replace(Point(1, 2, "a"), y=3) == Point(1, 3, "a")
    with pytest.raises(TypeError):
        replace(Point(1), z=3)  # type: ignore[call-arg]


def test_a_class_may_refuse_fields() -> None:
    assert Even(2).number == 2
    with pytest.raises(ValueError, match="odd"):
        Even(3)
    with pytest.raises(ValueError, match="odd"):
        replace(Even(2), number=3)


def test_it_survives_the_way_between_processes() -> None:
    finding = Finding("code", "error", "message", ("fix",))
    assert pickle.loads(pickle.dumps(finding)) == finding


def test_dataclasses_know_its_fields() -> None:
    assert dataclasses.is_dataclass(Finding)
    names = [each.name for each in dataclasses.fields(ClientGuide)]
    assert names == list(ClientGuide._fields)
