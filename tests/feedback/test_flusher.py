"""Group commit: nobody is told before the commit, and one bad message does not hold up the others."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
import pytest_asyncio

from broker.errors import Unavailable
from broker.feedback.envelope import Arrival, Envelope
from broker.feedback.flusher import Flusher, Unstorable
from tests.feedback.conftest import as_envelope
from tests.feedback.sns import notification


class Store:
    """Stores when it is let; refuses messages that say "bad"."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.batches: list[list[str]] = []
        self.stored: list[str] = []
        self.down = False

    async def __call__(self, batch: Sequence[Arrival]) -> None:
        self.batches.append([each.envelope.message for each in batch])
        await self.go.wait()
        if self.down:
            raise Unavailable("The database cannot be reached.")
        if any(each.envelope.message == "bad" for each in batch):
            raise ValueError("this cannot be stored")
        self.stored += [each.envelope.message for each in batch]


def message(number: object, *, topic: str = "one") -> Envelope:
    envelope = as_envelope(notification(str(number)))
    return msgspec.structs.replace(envelope, topic_arn=f"arn:aws:sns:eu-west-1:999999999999:{topic}")


@pytest.fixture
def store() -> Store:
    return Store()


@pytest_asyncio.fixture
async def flusher(store: Store) -> AsyncIterator[Flusher]:
    flusher = Flusher(store, most=3, room=10)
    await flusher.start()
    yield flusher
    store.go.set()
    await flusher.stop()


async def adding(flusher: Flusher, *numbers: object, topic: str = "one") -> list[asyncio.Task[None]]:
    """Tasks that have all had their turn."""
    tasks = [asyncio.create_task(flusher.add(message(number, topic=topic))) for number in numbers]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


async def test_nobody_is_told_before_the_commit(flusher: Flusher, store: Store) -> None:
    (task,) = await adding(flusher, 1)
    assert not task.done()

    store.go.set()
    await task

    assert ["1"] == store.stored


async def test_what_arrives_during_a_commit_is_the_next_batch(flusher: Flusher, store: Store) -> None:
    first = await adding(flusher, 1)
    rest = await adding(flusher, 2, 3, 4, 5)
    store.go.set()
    await asyncio.gather(*first, *rest)

    assert [["1"], ["2", "3", "4"], ["5"]] == store.batches


async def test_a_full_queue_takes_no_more(flusher: Flusher) -> None:
    await adding(flusher, 0)
    await adding(flusher, *range(1, 6), topic="two")
    await adding(flusher, *range(6, 11))

    with pytest.raises(Unavailable):
        await flusher.add(message(11, topic="three"))


async def test_one_topic_does_not_take_all_the_room(flusher: Flusher, store: Store) -> None:
    await adding(flusher, 0)
    await adding(flusher, *range(1, 9))

    with pytest.raises(Unavailable):
        await flusher.add(message(9))
    (other,) = await adding(flusher, "other", topic="two")
    store.go.set()
    await other

    assert ["0", "1", "other", "2"] == store.stored[:4]


async def test_one_bad_message_does_not_hold_up_the_others(flusher: Flusher, store: Store) -> None:
    store.go.set()
    tasks = await adding(flusher, 1, "bad", 2)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert [None, Unstorable, None] == [outcome and type(outcome) for outcome in outcomes]
    assert ["1", "2"] == store.stored


async def test_trouble_of_the_database_is_told_to_all(flusher: Flusher, store: Store) -> None:
    store.down = True
    store.go.set()
    outcomes = await asyncio.gather(*await adding(flusher, 1, 2), return_exceptions=True)

    assert [Unavailable, Unavailable] == [type(outcome) for outcome in outcomes]
    assert 1 == len(store.batches)


async def test_a_caller_that_gives_up_does_not_stop_the_others(flusher: Flusher, store: Store) -> None:
    gone, stays = await adding(flusher, 1, 2)
    gone.cancel()
    store.go.set()
    await stays

    assert ["1", "2"] == store.stored


async def test_stopping_stores_what_waits_and_takes_no_more(store: Store) -> None:
    flusher = Flusher(store, most=1)
    await flusher.start()
    tasks = await adding(flusher, 1, 2, 3)
    store.go.set()
    await flusher.stop()
    await asyncio.gather(*tasks)

    assert ["1", "2", "3"] == store.stored
    with pytest.raises(Unavailable):
        await flusher.add(message(4))
