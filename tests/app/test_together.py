"""Keys from where keys are guessed are looked up together: few statements, fair places, and nobody is left waiting."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import pytest

from broker.caller import Caller
from broker.errors import Unavailable
from broker.ids import new_id
from broker.tenants.together import EVERY, LOOKS, PLACES, Together, placed

GUESSER, OWNER = "192.0.2.1", "198.51.100.9"


class Keys:
    """Which digests are of valid keys, and what was asked; `during` each look-up something else happens."""

    def __init__(self, *valid: bytes, during: Callable[[], Awaitable[None]] | None = None) -> None:
        self.callers = {digest: Caller(tenant_id=new_id()) for digest in valid}
        self.asked: list[Sequence[bytes]] = []
        self._during = during

    async def find(self, digests: Sequence[bytes]) -> Mapping[bytes, Caller]:
        """The valid ones."""
        self.asked.append(digests)
        if self._during is not None:
            await self._during()
        return {digest: self.callers[digest] for digest in digests if digest in self.callers}


def digests_of(count: int, start: int = 0) -> list[bytes]:
    return [b"%08d" % number for number in range(start, start + count)]


async def test_all_who_wait_are_looked_up_at_once() -> None:
    """One statement, whoever asks and how often; each gets its own caller, or none."""
    keys = Keys(b"right", b"other")
    together = Together(keys.find)

    found = await asyncio.gather(
        together.caller_of(GUESSER, b"right"),
        together.caller_of(GUESSER, b"right"),
        together.caller_of(OWNER, b"right"),
        together.caller_of(OWNER, b"other"),
        together.caller_of(OWNER, b"wrong"),
    )

    right, other = keys.callers[b"right"], keys.callers[b"other"]
    assert [right, right, right, other, None] == list(found)
    assert [[b"other", b"right", b"wrong"]] == keys.asked


async def test_a_flood_is_one_bounded_statement_every_now_and_then() -> None:
    """However many connections guess: so many statements, and so many keys in each."""
    keys = Keys()
    together = Together(keys.find)
    began = time.monotonic()

    async def guess(number: int) -> None:
        for each in range(4):
            await together.caller_of(GUESSER, b"%d %d" % (number, each))

    await asyncio.gather(*(guess(number) for number in range(2 * PLACES)))
    took = time.monotonic() - began

    assert 4 <= len(keys.asked) <= 1 + took / EVERY
    assert PLACES == max(len(asked) for asked in keys.asked)


async def test_a_look_up_waits_for_the_end_of_the_one_before() -> None:
    """Of a slow database one connection is taken, and not one more every tenth of a second."""
    under_way, beside = 0, asyncio.Event()
    later: list[asyncio.Task[Caller | None]] = []

    async def look() -> None:
        """Somebody comes meanwhile, and there is time enough to look that up beside it, if that may be."""
        nonlocal under_way
        under_way += 1
        if under_way > 1:
            beside.set()
        if not later:
            later.append(asyncio.create_task(together.caller_of(OWNER, b"late")))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EVERY * 2):
                await beside.wait()
        under_way -= 1

    keys = Keys(b"late", during=look)
    together = Together(keys.find)

    await together.caller_of(GUESSER, b"wrong")

    assert keys.callers[b"late"] == await later[0]
    assert [[b"wrong"], [b"late"]] == keys.asked
    assert not beside.is_set()


async def test_who_had_no_place_waits_for_the_next_look_up_and_not_for_ever() -> None:
    """More than have places in all: each key is asked for once at most, and the rest is told no after the last."""
    many = digests_of(LOOKS * PLACES + 50)
    keys = Keys(*many)
    together = Together(keys.find)

    found = await asyncio.gather(*(together.caller_of(GUESSER, digest) for digest in many))

    asked = [digest for digests in keys.asked for digest in digests]
    assert [PLACES] * LOOKS == [len(each) for each in keys.asked]
    assert len(asked) == len(set(asked))
    assert set(asked) == {digest for digest, caller in zip(many, found, strict=True) if caller is not None}


async def test_who_gives_up_takes_nobody_along() -> None:
    """A client that closes its connection while keys are looked up ends its own request only."""

    async def leave() -> None:
        first.cancel()

    keys = Keys(b"right", during=leave)
    together = Together(keys.find)
    first = asyncio.create_task(together.caller_of(GUESSER, b"wrong"))
    second = asyncio.create_task(together.caller_of(OWNER, b"right"))

    assert keys.callers[b"right"] == await second
    assert [[b"right", b"wrong"]] == keys.asked
    assert first.cancelled()


async def test_a_failure_is_told_to_all_and_the_next_look_up_is_another_one() -> None:
    """503, not 429: they may be right."""
    keys = Keys(b"right")
    failing = True

    async def find(digests: Sequence[bytes]) -> Mapping[bytes, Caller]:
        if failing:
            raise Unavailable("The database cannot be reached right now; nothing was changed.")
        return await keys.find(digests)

    together = Together(find)
    answers = await asyncio.gather(
        *(together.caller_of(OWNER, digest) for digest in (b"right", b"wrong")), return_exceptions=True
    )
    failing = False

    assert [Unavailable, Unavailable] == [type(answer) for answer in answers]
    assert keys.callers[b"right"] == await together.caller_of(OWNER, b"right")


def test_an_address_has_a_place_however_many_another_one_wants() -> None:
    """In turn one of each address; what is left goes to who wants more."""
    few, many = digests_of(5), digests_of(10 * PLACES, start=100)

    chosen = placed([many, few])

    assert set(few) <= set(chosen)
    assert PLACES == len(chosen) == len(set(chosen))
    assert sorted(chosen) == chosen


@pytest.mark.parametrize("position", [0, 200, 4 * PLACES - 1])
def test_chance_decides_between_the_keys_of_one_address(position: int) -> None:
    """One in four where four times as many wait (400 draws; five deviations off once in a million)."""
    many = digests_of(4 * PLACES)

    drawn = sum(many[position] in placed([many]) for _ in range(400))

    assert abs(drawn - 100) <= 5 * (400 * 0.25 * 0.75) ** 0.5


def test_more_addresses_than_places_are_drawn_too() -> None:
    """Not those that came first."""
    chosen = [placed([[digest] for digest in digests_of(2 * PLACES)]) for _ in range(2)]

    assert [PLACES, PLACES] == [len(each) for each in chosen]
    assert chosen[0] != chosen[1]
