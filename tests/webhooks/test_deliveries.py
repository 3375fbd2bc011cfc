"""The lists of deliveries, and ids that name none."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from broker.caller import Caller
from broker.clock import now
from broker.crypto import Keyring
from broker.db import Database, Role
from broker.errors import NotFound
from broker.ids import new_id
from broker.webhooks import deliveries
from broker.webhooks.deliveries import DeliveryId
from broker.webhooks.views import DeliveryState
from tests.webhooks.conftest import an_event, happened, make_endpoint

URL = "https://hooks.example.com/ses"


async def test_deliveries_are_listed_in_pages(committed_db: Database, tenant: Caller, keyring: Keyring) -> None:
    for _ in range(2):
        await make_endpoint(committed_db, tenant, keyring, URL)
    await happened(committed_db, tenant, *(an_event(owner=tenant) for _ in range(3)))

    seen: list[str] = []
    after = None
    while few := await deliveries.list_some(committed_db, tenant, state=DeliveryState.PENDING, after=after, limit=2):
        seen.extend(one.id for one in few)
        after = DeliveryId.read(few[-1].id)

    assert len(set(seen)) == len(seen) == 6


@pytest.mark.parametrize("text", ["", ".", "a.b", "01961e2d-1b2c-7d4e-8f6a-7b8c9d0e1f2a", "a" * 5000])
def test_what_is_not_the_id_of_a_delivery_is_not_found(text: str) -> None:
    with pytest.raises(NotFound):
        DeliveryId.read(text)


async def test_a_delivery_that_never_was_is_not_found(committed_db: Database, tenant: Caller, keyring: Keyring) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, URL)

    with pytest.raises(NotFound):
        await deliveries.attempts(committed_db, tenant, DeliveryId(made.id, new_id()))
    with pytest.raises(NotFound):
        await deliveries.replay(committed_db, tenant, DeliveryId(made.id, new_id()))


async def test_a_delivery_that_waits_has_no_attempts_yet(
    committed_db: Database, tenant: Caller, keyring: Keyring
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, URL)
    event = an_event(owner=tenant)
    await happened(committed_db, tenant, event)

    assert await deliveries.attempts(committed_db, tenant, DeliveryId(made.id, event.id)) == []


async def test_a_delivery_tells_the_type_of_its_event_pending_dead_or_sent_again(
    committed_db: Database, tenant: Caller, keyring: Keyring
) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, URL)
    first, second = an_event(owner=tenant, type="email.bounced"), an_event(owner=tenant, type="grant.activated")
    await happened(committed_db, tenant, first, second)
    pending = await deliveries.list_some(committed_db, tenant, state=DeliveryState.PENDING)
    await bury(committed_db, tenant)

    dead = await deliveries.list_some(committed_db, tenant, state=DeliveryState.DEAD)
    again = await deliveries.replay(committed_db, tenant, DeliveryId(made.id, first.id))

    assert ["email.bounced", "grant.activated"] == [one.type for one in pending] == [one.type for one in dead]
    assert "email.bounced" == again.type


async def test_a_delivery_whose_event_is_no_longer_kept_has_no_type(
    committed_db: Database, tenant: Caller, keyring: Keyring
) -> None:
    """Days are dropped with all their events; what is dead is listed a while longer."""
    await make_endpoint(committed_db, tenant, keyring, URL)
    await happened(committed_db, tenant, an_event(owner=tenant, at=now() - timedelta(days=4000)))
    await bury(committed_db, tenant, later_by=timedelta(seconds=1))

    (dead,) = await deliveries.list_some(committed_db, tenant, state=DeliveryState.DEAD)

    assert (DeliveryState.DEAD, None) == (dead.state, dead.type)


async def bury(db: Database, caller: Caller, *, later_by: timedelta = timedelta()) -> None:
    """All that is pending is dead; `later_by` makes its event one that there is not."""
    async with db.as_role(Role.PUMP).begin(caller) as session:
        await session.execute(
            text(
                "WITH gone AS (DELETE FROM deliveries WHERE tenant_id = :me RETURNING *) INSERT INTO dead_deliveries"
                " (endpoint_id, event_id, event_at, tenant_id, attempts, reason)"
                " SELECT endpoint_id, event_id, event_at + :by, tenant_id, 10, 'The endpoint answered 500.' FROM gone"
            ),
            {"me": caller.tenant, "by": later_by},
        )
