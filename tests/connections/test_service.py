"""Claiming accounts, and who may see and remove what."""

from datetime import timedelta
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker import clock
from broker.audit import service as audit
from broker.connections import service
from broker.connections.binding import bind
from broker.connections.models import Account, Connection, Kind, State
from broker.connections.templates import Format
from broker.connections.views import Installation, NewConnection
from broker.db import Database
from broker.errors import Conflict, Invalid, NotFound
from broker.settings import Settings
from tests.conftest import MakeTenant

ACCOUNT = "111111111111"


@pytest.fixture
def here(settings: Settings) -> Installation:
    return Installation(settings, "https://sts.eu-west-1.amazonaws.com")


def asked(
    kind: Kind = Kind.ROLE, account_id: str = ACCOUNT, regions: tuple[str, ...] = ("eu-west-1",)
) -> NewConnection:
    return NewConnection(kind=kind, account_id=account_id, regions=regions)


async def nothing_rests_on_it(_session: AsyncSession, _connection_id: UUID) -> None:
    return None


async def grants_rest_on_it(_session: AsyncSession, _connection_id: UUID) -> None:
    raise Conflict("1 grant needs this connection.")


async def test_a_role_connection_says_what_the_owner_has_to_make(
    db: Database, make_tenant: MakeTenant, here: Installation
) -> None:
    owner = await make_tenant("owner")

    view = await service.create(db, owner, asked(), here=here)

    assert view.state is State.PENDING
    assert view.role_arn == f"arn:aws:iam::{ACCOUNT}:role/SesDelegationBroker"
    assert view.trusted_account == here.settings.aws_account_id
    assert view.proof is None
    assert "ses:ListEmailIdentities" in view.unscoped_actions


async def test_every_tenant_gets_an_external_id_of_its_own_for_the_same_account(
    db: Database, make_tenant: MakeTenant, here: Installation
) -> None:
    """Shared or guessable, it would let one tenant work in the account of another (the confused deputy)."""
    views = [await service.create(db, await make_tenant("owner"), asked(), here=here) for _ in range(3)]

    external_ids = {view.external_id for view in views}
    assert len(external_ids) == 3
    assert all(external_id is not None and len(bytes.fromhex(external_id)) * 8 >= 128 for external_id in external_ids)


async def test_a_proof_connection_says_what_to_sign_and_for_how_long(
    db: Database, make_tenant: MakeTenant, here: Installation
) -> None:
    delegate = await make_tenant("delegate")

    view = await service.create(db, delegate, asked(Kind.PROOF, regions=()), here=here)

    assert view.proof is not None
    assert view.proof.url == "https://sts.eu-west-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15"
    assert (view.proof.url_host, view.proof.method) == ("sts.eu-west-1.amazonaws.com", "GET")
    assert timedelta(minutes=5) < view.proof.expires_at - clock.now() <= timedelta(minutes=15)
    assert (view.external_id, view.role_arn) == (None, None)


async def test_claiming_an_account_binds_nothing(db: Database, make_tenant: MakeTenant, here: Installation) -> None:
    squatter, owner = await make_tenant("owner"), await make_tenant("owner")
    await service.create(db, squatter, asked(), here=here)

    view = await service.create(db, owner, asked(), here=here)

    async with db.begin(owner) as session:
        row = await service.find(session, owner, view.id)
        assert await bind(session, row)


async def test_an_account_is_bound_to_whoever_proves_it_first(
    db: Database, make_tenant: MakeTenant, here: Installation
) -> None:
    bound = []
    for caller in (await make_tenant("owner"), await make_tenant("owner")):
        view = await service.create(db, caller, asked(), here=here)
        async with db.begin(caller) as session:
            bound.append(await bind(session, await service.find(session, caller, view.id)))

    assert [True, False] == bound


async def test_an_account_is_connected_once_by_a_tenant(
    db: Database, make_tenant: MakeTenant, here: Installation
) -> None:
    owner = await make_tenant("owner")
    await service.create(db, owner, asked(), here=here)

    with pytest.raises(Conflict):
        await service.create(db, owner, asked(Kind.PROOF), here=here)


@pytest.mark.parametrize(
    ("partition", "regions", "pointer"),
    [
        ("aws", (), "/regions"),
        ("aws", ("eu-west-1", "us-gov-west-1"), "/regions/1"),
        ("aws", ("cn-north-1",), "/regions/0"),
        ("aws-us-gov", ("us-east-1",), "/regions/0"),
        ("aws-us-gov", ("cn-north-1",), "/regions/0"),
    ],
)
async def test_regions_are_those_of_the_partition_that_is_served(
    db: Database,
    make_tenant: MakeTenant,
    here: Installation,
    partition: str,
    regions: tuple[str, ...],
    pointer: str,
) -> None:
    served = msgspec.structs.replace(here, settings=msgspec.structs.replace(here.settings, aws_partition=partition))

    with pytest.raises(Invalid) as refused:
        await service.create(db, await make_tenant("owner"), asked(regions=regions), here=served)

    assert [flaw.pointer for flaw in refused.value.flaws] == [pointer]


async def test_a_stranger_cannot_see_change_or_remove_a_connection(
    db: Database, make_tenant: MakeTenant, here: Installation
) -> None:
    owner, stranger = await make_tenant("owner"), await make_tenant("owner")
    view = await service.create(db, owner, asked(), here=here)

    with pytest.raises(NotFound):
        await service.one(db, stranger, view.id, here=here)
    with pytest.raises(NotFound):
        await service.verify(db, stranger, view.id, here=here)
    with pytest.raises(NotFound):
        await service.template(db, stranger, view.id, here=here, form=Format.YAML)
    with pytest.raises(NotFound):
        await service.remove(db, stranger, view.id, release=nothing_rests_on_it)
    assert await service.page(db, stranger, here=here, after=None, limit=10) == []


async def test_connections_are_listed_in_pages_without_removed_ones(
    db: Database, make_tenant: MakeTenant, here: Installation
) -> None:
    owner = await make_tenant("owner")
    made = [await service.create(db, owner, asked(account_id=f"11111111111{n}"), here=here) for n in range(4)]
    await service.remove(db, owner, made[1].id, release=nothing_rests_on_it)

    first = await service.page(db, owner, here=here, after=None, limit=2)
    rest = await service.page(db, owner, here=here, after=first[-1].id, limit=2)

    assert [made[0].id, made[2].id, made[3].id] == [view.id for view in (*first, *rest)]


async def test_a_removed_account_is_free_for_whoever_proves_it_next(
    db: Database, make_tenant: MakeTenant, here: Installation
) -> None:
    before, after = await make_tenant("owner"), await make_tenant("owner")
    old = await service.create(db, before, asked(), here=here)
    async with db.begin(before) as session:
        await bind(session, await service.find(session, before, old.id))
    new = await service.create(db, after, asked(), here=here)

    await service.remove(db, before, old.id, release=nothing_rests_on_it)

    async with db.begin(after) as session:
        assert await bind(session, await service.find(session, after, new.id))
    with pytest.raises(NotFound):
        await service.one(db, before, old.id, here=here)


async def test_a_connection_that_grants_rest_on_stays(
    db: Database, make_tenant: MakeTenant, here: Installation
) -> None:
    owner = await make_tenant("owner")
    view = await service.create(db, owner, asked(), here=here)
    async with db.begin(owner) as session:
        await bind(session, await service.find(session, owner, view.id))

    with pytest.raises(Conflict):
        await service.remove(db, owner, view.id, release=grants_rest_on_it)

    assert (await service.one(db, owner, view.id, here=here)).state is State.PENDING
    async with db.read(owner) as session:
        assert await session.scalar(select(Account.tenant_id).where(Account.account_id == ACCOUNT)) == owner.tenant


async def test_asking_for_verification_makes_a_role_due(
    db: Database, make_tenant: MakeTenant, here: Installation
) -> None:
    owner = await make_tenant("owner")
    view = await service.create(db, owner, asked(), here=here)

    await service.verify(db, owner, view.id, here=here)

    async with db.read(owner) as session:
        row = (await session.scalars(select(Connection).where(Connection.id == view.id))).one()
        assert row.due_at is not None


async def test_asking_for_verification_of_a_proof_gives_a_fresh_challenge(
    db: Database, make_tenant: MakeTenant, here: Installation
) -> None:
    delegate = await make_tenant("delegate")
    first = await service.create(db, delegate, asked(Kind.PROOF), here=here)

    second = await service.verify(db, delegate, first.id, here=here)

    assert first.proof is not None
    assert second.proof is not None
    assert first.proof.headers != second.proof.headers


async def test_only_a_role_has_a_template(db: Database, make_tenant: MakeTenant, here: Installation) -> None:
    delegate = await make_tenant("delegate")
    view = await service.create(db, delegate, asked(Kind.PROOF), here=here)

    with pytest.raises(Conflict):
        await service.template(db, delegate, view.id, here=here, form=Format.YAML)


async def test_every_change_is_in_the_audit_trail(db: Database, make_tenant: MakeTenant, here: Installation) -> None:
    owner = await make_tenant("owner")
    view = await service.create(db, owner, asked(), here=here)
    await service.verify(db, owner, view.id, here=here)
    await service.remove(db, owner, view.id, release=nothing_rests_on_it)

    entries = await audit.entries(db, owner, audit.Filters(subject_id=view.id))

    assert [
        "connection.created",
        "connection.verification_requested",
        "connection.removed",
    ] == [entry.action for entry in entries]
