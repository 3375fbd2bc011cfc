"""What a pump has in memory when a recipient is erased: it does not go out, and nothing is done before that is so."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text

from broker.crypto import Keyring
from broker.db import Database, Role
from broker.feedback.erasures import service, work
from broker.feedback.erasures.in_flight import GRACE
from broker.feedback.erasures.models import Stage, State
from broker.feedback.erasures.views import ErasureView, Recipient
from broker.gateways.http import Answer
from broker.ids import new_id
from broker.webhooks.holding import Lines
from broker.webhooks.leases import LEASE
from broker.webhooks.pacing import FIRST_WINDOW
from broker.webhooks.pump import Pump
from tests.feedback.conftest import World, make_world
from tests.feedback.recipients import JANE
from tests.feedback.test_erasures import MARY, arrive, erase, finish, of, reckon, rows
from tests.webhooks.conftest import lines, make_endpoint, pump  # noqa: F401 - fixtures
from tests.webhooks.pumping import Scripted, a_pump, resident
from tests.webhooks.waiting import until, until_told


class Reader(Scripted):
    """Notes what was posted to its own endpoint."""

    def __init__(self, mine: str) -> None:
        super().__init__(lambda _: None, mine=mine)
        self.bodies: list[str] = []

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        timeout: timedelta,  # noqa: ASYNC109 - as the protocol says
        tenant_id: UUID,
    ) -> Answer:
        if url.startswith(self.mine):
            self.bodies.append(body.decode().lower())
        return await super().post(url, headers, body, timeout=timeout, tenant_id=tenant_id)


async def until_recalled(world: World, keyring: Keyring, erasure_id: UUID) -> ErasureView:
    """As workers do, in their own time."""
    worker = world.db.as_role(Role.WORKER)

    async def there() -> bool:
        await work.run(worker, keyring, only=[erasure_id])
        return bool(await rows(world, world.owner, "SELECT id FROM erasures WHERE recalled_at IS NOT NULL"))

    await until_told(there)
    return await service.show(world.db, world.owner, erasure_id)


async def leased(world: World, endpoint_id: UUID) -> datetime:
    """Until when the lane is."""
    query = "SELECT claimed_until FROM lanes WHERE id = :id"
    (lane,) = await rows(world, world.delegate, query, id=endpoint_id)
    until_when: datetime = lane.claimed_until
    return until_when


async def test_what_a_pump_has_in_memory_of_an_erased_recipient_does_not_go_out(
    committed_db: Database,
    pump: Database,  # noqa: F811
    lines: Lines,  # noqa: F811
    keyring: Keyring,
) -> None:
    """It hears of the erasure with its lease, forgets what waits, and reads what is left of it."""
    world = await make_world(committed_db)
    sender = Reader(f"https://hooks.example.com/{world.delegate.tenant}")
    endpoint = await make_endpoint(committed_db, world.delegate, keyring, sender.mine)
    await arrive(world, keyring, *(of(MARY) for _ in range(FIRST_WINDOW)))
    await arrive(world, keyring, of(JANE), of(MARY, commonHeaders={"subject": f"For {JANE}", "from": ["n@e.com"]}))
    await reckon(world, keyring)
    async with resident(a_pump(Pump, lines, pump, sender, keyring)) as working:
        working.ring([endpoint.id])
        await until(lambda: len(sender.sent) == FIRST_WINDOW)
        asked = await service.erase(world.db, world.owner, Recipient(JANE), keyring=keyring)
        waiting = await until_recalled(world, keyring, asked.id)
        for _ in range(2):  # the answer to the first has come when the second is asked for
            before = await leased(world, endpoint.id)

            async def prolonged(before: datetime = before) -> bool:
                return await leased(world, endpoint.id) > before

            await until_told(prolonged)
        sender.go.set()
        await until(lambda: len(set(sender.ids())) == FIRST_WINDOW + 1)
    still = await service.show(world.db, world.owner, asked.id)
    done = await finish(world, keyring, world.owner, asked.id)

    assert not [body for body in sender.bodies if "jane" in body]
    assert len(sender.bodies) == FIRST_WINDOW + 1  # Jane's is not sent any more, and nothing was sent twice
    assert (State.RUNNING, Stage.IN_FLIGHT, 2) == (waiting.state, still.stage, waiting.erased.mentions + 1)
    assert (State.DONE, None) == (done.state, done.stage)


async def test_an_erasure_waits_for_the_longest_that_anything_may_be_in_flight(
    committed_db: Database, keyring: Keyring
) -> None:
    """A lease, and the deadline of an attempt that began under it (15 s)."""
    world = await make_world(committed_db)
    await arrive(world, keyring, of(JANE))
    await reckon(world, keyring)
    asked = await service.erase(world.db, world.owner, Recipient(JANE), keyring=keyring)
    await until_recalled(world, keyring, asked.id)

    query = "SELECT due_at - recalled_at AS wait, lanes FROM erasures"
    (job,) = await rows(world, world.owner, query)
    assert GRACE >= LEASE + timedelta(seconds=15)
    # It counts from the recall, and the next look from the beginning of the transaction that recalled.
    assert LEASE + timedelta(seconds=15) <= job.wait <= GRACE
    assert {world.endpoints[world.owner.tenant], world.endpoints[world.delegate.tenant]} == set(job.lanes)


async def test_where_nothing_was_pending_nothing_is_waited_for(committed_db: Database, keyring: Keyring) -> None:
    world = await make_world(committed_db)

    await erase(world, keyring, world.owner)

    (job,) = await rows(world, world.owner, "SELECT recalled_at, lanes FROM erasures")
    assert (None, []) == tuple(job)


async def test_nobody_learns_of_the_lanes_of_strangers(committed_db: Database, keyring: Keyring) -> None:
    """The function looks whether the event is the caller's."""
    world = await make_world(committed_db)
    await arrive(world, keyring, of(JANE))
    (event,) = await world.events(world.owner)

    found = []
    for caller in (world.second, world.owner):
        async with world.db.as_role(Role.WORKER).begin(caller) as session:
            asked = {"ids": [event.id, new_id()], "ats": [event.at, event.at]}
            found.append(set(await session.scalars(text("SELECT lanes_with(:ids, :ats)"), asked)))

    assert [set(), {world.endpoints[world.owner.tenant], world.endpoints[world.delegate.tenant]}] == found
