"""Who gets a delivery of an event, and who does not; what each may read of it afterwards."""

import asyncio
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from broker.caller import Caller
from broker.crypto import Keyring
from broker.db import Database, Role, sessions
from broker.ids import new_id
from broker.webhooks import deliveries, endpoints
from broker.webhooks.events import EVENT_TYPES, FAMILIES
from broker.webhooks.fanout import publish
from broker.webhooks.feed import feed
from broker.webhooks.views import DeliveryState, DeliveryView, EndpointChange
from tests.webhooks.conftest import an_event, happened, make_endpoint, rows

URL = "https://hooks.example.com/ses"


async def pending(db: Database, caller: Caller) -> list[DeliveryView]:
    return list(await deliveries.list_some(db, caller, state=DeliveryState.PENDING))


async def test_both_parties_get_it_and_a_stranger_does_not(
    committed_db: Database, tenant: Caller, stranger: Caller, keyring: Keyring, third: Caller
) -> None:
    made = {caller.tenant: await make_endpoint(committed_db, caller, keyring, URL) for caller in (tenant, third)}
    await make_endpoint(committed_db, stranger, keyring, URL)

    await happened(committed_db, tenant, an_event(owner=tenant, delegate=third))

    heard = [await pending(committed_db, caller) for caller in (tenant, third, stranger)]
    assert [[made[tenant.tenant].id], [made[third.tenant].id], []] == [
        [one.endpoint_id for one in few] for few in heard
    ]


async def test_a_party_without_a_view_gets_nothing(
    committed_db: Database, tenant: Caller, third: Caller, keyring: Keyring
) -> None:
    for caller in (tenant, third):
        await make_endpoint(committed_db, caller, keyring, URL)

    await happened(committed_db, tenant, an_event(owner=tenant, delegate=third, delegate_view=None))

    assert (1, 0) == (len(await pending(committed_db, tenant)), len(await pending(committed_db, third)))
    assert (await feed(committed_db, third, after=None, limit=10)).items == []


async def test_who_is_both_parties_gets_it_once(committed_db: Database, tenant: Caller, keyring: Keyring) -> None:
    await make_endpoint(committed_db, tenant, keyring, URL)

    await happened(committed_db, tenant, an_event(owner=tenant, delegate=tenant))

    assert len(await pending(committed_db, tenant)) == 1
    assert len((await feed(committed_db, tenant, after=None, limit=10)).items) == 1


@pytest.mark.parametrize(
    ("wanted", "heard"),
    [
        (None, True),
        (["email.bounced"], True),
        (["email.*"], True),
        (["grant.*", "email.bounced"], True),
        (["grant.*"], False),
        (["email.complained"], False),
    ],
)
async def test_an_endpoint_gets_the_types_that_it_asked_for(
    committed_db: Database, tenant: Caller, keyring: Keyring, wanted: list[str] | None, *, heard: bool
) -> None:
    await make_endpoint(committed_db, tenant, keyring, URL, event_types=wanted)

    await happened(committed_db, tenant, an_event(owner=tenant, type="email.bounced"))

    assert heard == bool(await pending(committed_db, tenant))


async def test_every_type_is_heard_under_its_name_and_its_family_and_no_other(
    committed_db: Database, tenant: Caller, keyring: Keyring
) -> None:
    named = [*sorted(FAMILIES), "email.bounced", "grant.revoked"]
    made = {name: await make_endpoint(committed_db, tenant, keyring, URL, event_types=[name]) for name in named}
    events = {type_: an_event(owner=tenant, type=type_) for type_ in EVENT_TYPES}

    await happened(committed_db, tenant, *events.values())

    got = {(one.endpoint_id, one.event_id) for one in await pending(committed_db, tenant)}
    assert {
        (made[name].id, events[type_].id)
        for name in named
        for type_ in EVENT_TYPES
        if name in (type_, f"{type_.partition('.')[0]}.*")
    } == got


ARN = "arn:aws:ses:eu-west-1:111111111111:identity/example.com"
OTHER_ARN = "arn:aws:ses:eu-west-1:111111111111:identity/example.org"
GRANT, OTHER_GRANT = new_id(), new_id()


@pytest.mark.parametrize(
    ("wanted", "heard"),
    [
        ({}, {"both", "identity", "neither"}),
        ({"grant_ids": [GRANT, OTHER_GRANT]}, {"both"}),
        ({"grant_ids": [OTHER_GRANT]}, set()),
        ({"identity_arns": [ARN]}, {"both", "identity"}),
        ({"identity_arns": [OTHER_ARN]}, set()),
        ({"grant_ids": [GRANT], "identity_arns": [OTHER_ARN, ARN]}, {"both"}),
        ({"grant_ids": [GRANT], "identity_arns": [OTHER_ARN]}, set()),
        ({"grant_ids": [GRANT], "event_types": ["connection.*"]}, set()),
    ],
)
async def test_an_endpoint_gets_the_grants_and_identities_that_it_asked_for(
    committed_db: Database, tenant: Caller, keyring: Keyring, wanted: dict[str, Any], heard: set[str]
) -> None:
    """What has no grant or no identity goes only where that is not asked for."""
    await make_endpoint(committed_db, tenant, keyring, URL, **wanted)
    events = {
        "both": an_event(owner=tenant, grant_id=GRANT, data={"identity": ARN}),
        "identity": an_event(owner=tenant, type="email.sent", data={"identity": ARN}),
        "neither": an_event(owner=tenant, type="connection.lost"),
    }

    await happened(committed_db, tenant, *events.values())

    got = {one.event_id for one in await pending(committed_db, tenant)}
    assert heard == {name for name, event in events.items() if event.id in got}


async def test_a_filter_of_one_party_does_not_narrow_what_the_other_hears(
    committed_db: Database, tenant: Caller, third: Caller, keyring: Keyring
) -> None:
    await make_endpoint(committed_db, tenant, keyring, URL, grant_ids=[OTHER_GRANT])
    await make_endpoint(committed_db, third, keyring, URL)

    await happened(committed_db, tenant, an_event(owner=tenant, delegate=third, grant_id=GRANT))

    assert (0, 1) == (len(await pending(committed_db, tenant)), len(await pending(committed_db, third)))


async def test_filters_can_be_changed_and_taken_away(committed_db: Database, tenant: Caller, keyring: Keyring) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, URL, grant_ids=[GRANT], identity_arns=[ARN])
    wanted = EndpointChange(grant_ids=None, identity_arns=[OTHER_ARN])

    changed = await endpoints.change(
        committed_db, tenant, made.id, wanted=wanted, keyring=keyring, allow_loopback=False
    )
    await happened(committed_db, tenant, an_event(owner=tenant, data={"identity": OTHER_ARN}))

    assert (None, [OTHER_ARN]) == (changed.grant_ids, changed.identity_arns)
    assert 1 == len(await pending(committed_db, tenant))


async def test_a_disabled_endpoint_gets_nothing_new(committed_db: Database, tenant: Caller, keyring: Keyring) -> None:
    made = await make_endpoint(committed_db, tenant, keyring, URL)
    async with committed_db.begin(tenant) as session:
        (await endpoints.find(session, tenant, made.id)).state = "disabled"

    await happened(committed_db, tenant, an_event(owner=tenant))

    assert await pending(committed_db, tenant) == []


class Heard:
    """A bell that remembers."""

    def __init__(self) -> None:
        self.rung: list[tuple[str, set[UUID]]] = []

    async def ring(self, kind: str, ids: Iterable[UUID]) -> None:
        self.rung.append((kind, set(ids)))


async def test_the_bell_rings_for_the_lanes_touched_once_it_is_committed(
    engine: AsyncEngine, committed_db: Database, tenant: Caller, third: Caller, keyring: Keyring
) -> None:
    bell = Heard()
    db = Database(sessions(engine), role=Role.API, bell=bell)
    made = [await make_endpoint(committed_db, caller, keyring, URL) for caller in (tenant, third)]

    async with db.begin(tenant) as session:
        await publish(session, [an_event(owner=tenant, delegate=third)])
        before = list(bell.rung)

    assert before == []
    assert [("lanes", {endpoint.id for endpoint in made})] == bell.rung


async def test_an_event_of_a_use_case_that_fails_was_never_there(
    committed_db: Database, tenant: Caller, keyring: Keyring
) -> None:
    await make_endpoint(committed_db, tenant, keyring, URL)

    async def fail() -> None:
        async with committed_db.begin(tenant) as session:
            await publish(session, [an_event(owner=tenant)])
            raise LookupError

    with pytest.raises(LookupError):
        await fail()

    assert await pending(committed_db, tenant) == []
    assert (await feed(committed_db, tenant, after=None, limit=10)).items == []


async def test_many_fan_outs_over_the_same_lanes_do_not_wait_for_each_other_in_a_ring(
    committed_db: Database, tenant: Caller, third: Caller, keyring: Keyring
) -> None:
    for caller in (tenant, third) * 3:
        await make_endpoint(committed_db, caller, keyring, URL)

    await asyncio.gather(
        *(happened(committed_db, tenant, an_event(owner=tenant, delegate=third)) for _ in range(10)),
        *(happened(committed_db, third, an_event(owner=third, delegate=tenant)) for _ in range(10)),
    )

    assert [60, 60] == [len(await deliveries.list_some(committed_db, caller, state=DeliveryState.PENDING, limit=100))
                        for caller in (tenant, third)]  # fmt: skip


@pytest.mark.parametrize("role", list(Role))
async def test_every_role_may_publish(
    committed_db: Database, tenant: Caller, third: Caller, keyring: Keyring, role: Role
) -> None:
    await make_endpoint(committed_db, third, keyring, URL)

    await happened(committed_db.as_role(role), tenant, an_event(owner=tenant, delegate=third))

    assert len(await pending(committed_db, third)) == 1


@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
async def test_every_event_has_a_priority(committed_db: Database, tenant: Caller, name: str) -> None:
    (row,) = await rows(committed_db, tenant, "SELECT event_priority(:name) AS priority", name=name)

    assert row.priority in range(4)
