"""kill -9 at random moments, while OpenSSL loads the file without pause.

Random kills seldom hit the moments that matter, which tests/faults hits all; but everything here
is real: processes, locks that the kernel gives back, a reader beside them.
By default 20 seconds; with QS_CERTS_LONG=1 an hour, or QS_CERTS_KILL_SECONDS.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("only on POSIX", allow_module_level=True)
assert sys.platform != "win32"  # for mypy

from qs_certs.store import Store  # noqa: E402
from tests.durability.actors import (  # noqa: E402 - they fork
    Acting,
    Outcome,
    Reader,
    install,
    remove,
    root,
    told,
)
from tests.durability.conftest import LONG  # noqa: E402
from tests.faults.counting import Count  # noqa: E402
from tests.faults.scenarios import Place, history_holds, hold, litter  # noqa: E402

SECONDS = float(os.environ.get("QS_CERTS_KILL_SECONDS", "3600" if LONG else "20"))
BASE = b"".join(root(number).pem for number in range(100, 120))
"""Somebody's file.  Long, so that a part of it is likely to load."""
OURS = tuple(root(number) for number in range(3))
LEGAL = frozenset(range(20, 24))
ROUNDS_PER_STORE = 250
"""After so many rounds a new store: journals grow, and every command reads them."""


def place_in(arena: Path, number: int) -> Place:
    place = Place(arena / str(number))
    place.target.parent.mkdir(parents=True)
    place.target.write_bytes(BASE)
    return place


def command(place: Place, chance: random.Random) -> Callable[[], Outcome]:
    certificate = chance.choice(OURS)
    kind = chance.choice(("install", "install", "remove", "rollback"))
    if kind == "install":
        return lambda: told(install(place, certificate))
    if kind == "remove":
        return lambda: told(remove(place, certificate))
    return lambda: told(place.rollback())


@pytest.mark.slow
def test_whoever_is_killed_the_reader_always_finds_a_whole_file(arena: Path, count: Count) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    arena.mkdir()
    kills = rounds = finished = 0
    loads = bad = missing = 0
    end = time.monotonic() + SECONDS
    stores = 0
    while time.monotonic() < end:
        place = place_in(arena, stores)
        stores += 1
        reader = Reader(place.target, LEGAL)
        with place.entered(), Acting() as start_reader:
            start_reader(reader.run)
            took = 0.02
            for number in range(ROUNDS_PER_STORE):
                if time.monotonic() > end:
                    break
                rounds += 1
                with Acting() as start:
                    begun = time.monotonic()
                    actors = [start(command(place, chance)) for _ in range(chance.randint(1, 3))]
                    healthy = number % 25 == 0
                    time.sleep(0 if healthy else chance.uniform(0, took))
                    victims = chance.sample(
                        actors, 0 if healthy else chance.randint(1, len(actors))
                    )
                    for victim in victims:
                        victim.kill()
                    outcomes = [actor.outcome() for actor in actors]
                    if healthy:
                        took = time.monotonic() - begun
                done = [outcome for outcome in outcomes if outcome is not None]
                finished += len(done)
                kills += len(outcomes) - len(done)
                hold(all(each.error is None for each in done), "an error", outcomes)
                if number % 25 == 0:
                    examine(place)
            examine(place)
            found = reader.seen
        loads, bad, missing = loads + found[0], bad + found[1], missing + found[2]
    count("kill -9: seconds", int(SECONDS))
    count("kill -9: processes killed at work", kills)
    count("kill -9: processes that finished", finished)
    count("kill -9: loads by OpenSSL meanwhile", loads)
    count("kill -9: loads that found a part, or no file", bad + missing)
    assert (bad, missing) == (0, 0)
    assert kills > rounds / 4
    assert loads > rounds


def examine(place: Place) -> None:
    """The next run settles what was left, and then everything holds together."""
    with Store(place.store).writing():
        pass
    history_holds(place)
    hold(litter(place.base) == [], "litter", litter(place.base))
    hold((place.content or b"").startswith(BASE), "somebody's certificates are gone")


# --- controls -------------------------------------------------------------------------------------


def writes_in_place(target: Path) -> None:
    new = BASE + OURS[0].pem
    while True:
        for content in (new, BASE):
            with target.open("wb") as file:
                for start in range(0, len(content), 4096):
                    file.write(content[start : start + 4096])
                    file.flush()


def moves_away(target: Path) -> None:
    while True:
        target.rename(target.with_name("old"))
        target.write_bytes(BASE)


@pytest.mark.parametrize(
    ("habit", "sees"),
    [
        pytest.param(writes_in_place, 1, id="a writer in place: a part"),
        pytest.param(moves_away, 2, id="one that moves the old file away: no file"),
    ],
)
def test_the_reader_notices_within_a_second(
    habit: Callable[[Path], None], sees: int, arena: Path
) -> None:
    arena.mkdir()
    place = place_in(arena, 0)
    reader = Reader(place.target, LEGAL)
    with Acting() as start:
        start(reader.run)
        start(lambda: habit(place.target))
        end = time.monotonic() + 1
        while not reader.seen[sees] and time.monotonic() < end:
            time.sleep(0.005)
    assert reader.seen[sees] > 0, reader.seen


def test_the_reader_is_content_with_a_file_that_nobody_touches(arena: Path) -> None:
    arena.mkdir()
    place = place_in(arena, 0)
    reader = Reader(place.target, LEGAL)
    with Acting() as start:
        start(reader.run)
        while reader.seen[0] < 20:
            time.sleep(0.005)
    assert reader.seen[1:] == (0, 0)
