"""The matrix's fixtures: users, drivers, and the count of cells at the end of the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.faults.counting import MATRIX, Count
from tests.matrix.people import PeopleMissing, Person, people
from tests.matrix.rig import Rig

__all__ = ["Count"]


@pytest.fixture
def count(record_property: Callable[[str, object], None]) -> Count:
    """Note that so many of something ran in this test."""
    return lambda what, number: record_property(MATRIX, [what, number])


@pytest.fixture(scope="session")
def persons() -> Iterator[dict[str, Person]]:
    try:
        with people("ana", "ben", "cleo") as them:
            yield them
    except PeopleMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def rig() -> Iterator[Rig]:
    with Rig.made() as made:
        yield made
