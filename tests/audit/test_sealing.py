"""Sealing: every entry once, in the order of the commits, whoever seals and whenever they commit."""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from broker.audit import seal, service
from broker.audit.chain import BEGINNING
from broker.audit.service import Filters
from broker.db import Role
from broker.due import Claim, Superseded
from broker.ids import new_id
from tests.audit.conftest import SIGNER, Trail


async def test_every_entry_gets_its_place_in_the_chain(trail: Trail) -> None:
    """In batches, each of which follows on the one before."""
    await trail.write(5)
    await trail.seal_all(most=2)

    seals = await trail.seals()

    assert [1, 2, 3, 4, 5, 6] == [each.position for each in seals]
    assert [BEGINNING, *(each.hash for each in seals[:-1])] == [each.previous for each in seals]
    assert [] == await trail.findings()


async def test_nothing_is_sealed_before_every_earlier_transaction_has_ended(trail: Trail) -> None:
    """What commits late comes first in the chain if its transaction began first; it is never passed over."""
    await trail.seal_all()
    late = new_id()
    async with trail.db.begin(trail.tenant) as session:
        await service.record(session, trail.tenant, "grant.late", subject=("grant", late))
        await trail.write(2)
        await seal.run(trail.worker, SIGNER, only=[trail.tenant.tenant])
        sealed_meanwhile = await trail.seals()
    await trail.seal_all()

    assert 1 == len(sealed_meanwhile)
    listed = await service.entries(trail.db, trail.tenant, Filters())
    in_order = sorted((entry.seal.position, entry.action) for entry in listed if entry.seal)
    actions = [action for _, action in in_order]
    assert ["tenant.registered", "grant.late", "grant.approved", "grant.approved"] == actions
    assert [] == await trail.findings()


async def test_what_is_rolled_back_leaves_no_gap(trail: Trail) -> None:
    """Places are given to what has been committed."""
    async with trail.db.begin(trail.tenant) as session:
        await service.record(session, trail.tenant, "grant.approved", subject=("grant", new_id()))
        await session.rollback()
    await trail.write(2)
    await trail.seal_all()

    assert [1, 2, 3] == [each.position for each in await trail.seals()]
    assert [] == await trail.findings()


async def test_two_sealers_and_many_writers_make_one_chain(trail: Trail) -> None:
    """No place is given twice, and none is left out."""
    writing = asyncio.gather(*(trail.write(8) for _ in range(4)))
    while not writing.done():
        await asyncio.gather(*(seal.run(trail.worker, SIGNER, only=[trail.tenant.tenant], most=3) for _ in range(2)))
    await trail.seal_all(most=3)

    assert list(range(1, 34)) == [each.position for each in await trail.seals()]
    assert [] == await trail.findings()


async def test_a_sealer_whose_lease_was_taken_over_writes_nothing(trail: Trail) -> None:
    """Its fence has moved on."""
    await trail.seal_all()
    await trail.write()
    await seal.wake(trail.worker)
    async with trail.owner.begin() as connection:
        await connection.execute(
            text("UPDATE audit_chains SET fence = fence + 1, due_at = now() WHERE id = :me"),
            {"me": trail.tenant.tenant},
        )
    claim = Claim(seal.KIND, trail.tenant.tenant, trail.tenant.tenant, 1, 1)
    with pytest.raises(Superseded):
        await seal.seal(trail.worker, SIGNER, claim)

    assert 1 == len(await trail.seals())
    await trail.seal_all()
    assert [1, 2] == [each.position for each in await trail.seals()]


async def test_the_counterpart_sees_the_seal_and_a_stranger_does_not(trail: Trail) -> None:
    """An entry is in the chain of who acted; the other party of the grant is shown its hash there."""
    [subject] = await trail.write()
    await trail.seal_all()

    [mine] = await service.entries(trail.db, trail.tenant, Filters(subject_id=subject))
    [theirs] = await service.entries(trail.db, trail.other, Filters(subject_id=subject))

    assert mine.seal is not None
    assert mine.seal == theirs.seal
    assert trail.tenant.tenant == theirs.seal.chain_id
    assert (await trail.seals())[1].hash == theirs.seal.hash


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("table", ["audit", "audit_seals"])
@pytest.mark.parametrize("change", ["UPDATE {} SET tenant_id = tenant_id", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
async def test_no_role_of_the_broker_changes_the_trail(trail: Trail, role: Role, table: str, change: str) -> None:
    """Append-only by the grants of the database itself."""
    with pytest.raises(ProgrammingError, match="permission denied"):
        async with trail.db.as_role(role).begin(trail.tenant) as session:
            await session.execute(text(change.format(table)))


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("column", ["at", "xact"])
async def test_no_role_says_when_an_entry_was_written(trail: Trail, role: Role, column: str) -> None:
    """Its time and its transaction are the database's: else an entry could be put before others."""
    statement = (
        f"INSERT INTO audit (id, tenant_id, actor, request_id, action, subject_kind, subject_id, details, {column})"
        " SELECT :id, :id, 'key', '', 'x', 'x', :id, '{}', audit." + column + " FROM audit"
    )
    with pytest.raises(ProgrammingError, match="permission denied"):
        async with trail.db.as_role(role).begin(trail.tenant) as session:
            await session.execute(text(statement), {"id": new_id()})


@pytest.mark.parametrize("role", [Role.API, Role.PUMP, Role.INGEST])
async def test_only_the_worker_seals(trail: Trail, role: Role) -> None:
    """Neither who serves requests nor who delivers has a hand in the chain."""
    for statement in ("INSERT INTO audit_seals SELECT * FROM audit_seals", "UPDATE audit_chains SET position = 0"):
        with pytest.raises(ProgrammingError, match="permission denied"):
            async with trail.db.as_role(role).begin(trail.tenant) as session:
                await session.execute(text(statement))
