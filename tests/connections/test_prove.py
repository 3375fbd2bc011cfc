"""Proving accounts against the local STS, and every way of not proving one."""

import pytest
from sqlalchemy import text

from broker.caller import Caller
from broker.connections import prove, service
from broker.connections.challenge import HEADER
from broker.connections.models import Kind, State
from broker.connections.views import ConnectionView, PresignedProof
from broker.db import Database
from broker.errors import Conflict, Invalid, NotFound, Unavailable
from tests.conftest import MakeTenant
from tests.connections.aws import Gateways, connected, presigned
from tests.sandbox.aws import Aws as LocalAws
from tests.sandbox.aws import Keys


def nonce_of(view: ConnectionView) -> str:
    assert view.proof is not None
    return view.proof.headers[HEADER]


async def proven(
    db: Database, gateways: Gateways, caller: Caller, view: ConnectionView, url: str, *, nonce: str | None = None
) -> ConnectionView:
    sent = PresignedProof(url=url, headers={HEADER: nonce or nonce_of(view)})
    return await prove.prove(db, caller, view.id, sent, prover=gateways.sts, here=gateways.here)


async def test_an_account_is_proven_by_its_signature(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    delegate, account = await make_tenant("delegate"), cloud.account()
    view = await connected(db, delegate, gateways, account.id, Kind.PROOF)

    after = await proven(db, gateways, delegate, view, presigned(cloud, account.keys, nonce_of(view)))

    assert (State.VERIFIED, None) == (after.state, after.proof)
    assert after.verified_at is not None


async def test_a_user_without_any_right_can_prove_its_account(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    """GetCallerIdentity needs no permission (STS API Reference)."""
    delegate, account = await make_tenant("delegate"), cloud.account()
    _, keys = account.make_user("nobody")
    view = await connected(db, delegate, gateways, account.id, Kind.PROOF)

    after = await proven(db, gateways, delegate, view, presigned(cloud, keys, nonce_of(view)))

    assert after.state is State.VERIFIED


async def test_a_proof_works_once(db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws) -> None:
    delegate, account = await make_tenant("delegate"), cloud.account()
    view = await connected(db, delegate, gateways, account.id, Kind.PROOF)
    url = presigned(cloud, account.keys, nonce_of(view))
    await proven(db, gateways, delegate, view, url)

    with pytest.raises(Conflict, match="No challenge is open"):
        await proven(db, gateways, delegate, view, url)


async def test_an_account_that_another_tenant_has_proven_is_refused(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    first, second, account = await make_tenant("delegate"), await make_tenant("delegate"), cloud.account()
    mine = await connected(db, first, gateways, account.id, Kind.PROOF)
    await proven(db, gateways, first, mine, presigned(cloud, account.keys, nonce_of(mine)))
    theirs = await connected(db, second, gateways, account.id, Kind.PROOF)

    with pytest.raises(Conflict, match="already bound to another tenant"):
        await proven(db, gateways, second, theirs, presigned(cloud, account.keys, nonce_of(theirs)))


async def test_whoever_claims_an_account_cannot_prove_it_with_another(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    stranger, account, own = await make_tenant("delegate"), cloud.account(), cloud.account()
    view = await connected(db, stranger, gateways, account.id, Kind.PROOF)

    with pytest.raises(Conflict, match=f"signed by account {own.id}"):
        await proven(db, gateways, stranger, view, presigned(cloud, own.keys, nonce_of(view)))

    assert (await service.one(db, stranger, view.id, here=gateways.here)).state is State.PENDING


async def test_a_signature_over_another_nonce_is_refused(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    """A request that was signed for somebody else's challenge proves nothing here."""
    delegate, account = await make_tenant("delegate"), cloud.account()
    view = await connected(db, delegate, gateways, account.id, Kind.PROOF)
    url = presigned(cloud, account.keys, "nonce-of-somebody-else")

    with pytest.raises(Conflict, match="STS refused"):
        await proven(db, gateways, delegate, view, url)
    with pytest.raises(Invalid):
        await proven(db, gateways, delegate, view, url, nonce="nonce-of-somebody-else")


async def test_unknown_keys_prove_nothing(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    delegate, account = await make_tenant("delegate"), cloud.account()
    view = await connected(db, delegate, gateways, account.id, Kind.PROOF)
    url = presigned(cloud, Keys("AKIAAAAAAAAAAAAAAAAA", "guessed"), nonce_of(view))

    with pytest.raises(Conflict, match="STS refused"):
        await proven(db, gateways, delegate, view, url)


async def test_a_challenge_ends(db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws) -> None:
    delegate, account = await make_tenant("delegate"), cloud.account()
    view = await connected(db, delegate, gateways, account.id, Kind.PROOF)
    async with db.begin(delegate) as session:
        await session.execute(text("UPDATE connections SET nonce_expires_at = now() WHERE id = :id"), {"id": view.id})

    with pytest.raises(Conflict, match="No challenge is open"):
        await proven(db, gateways, delegate, view, presigned(cloud, account.keys, nonce_of(view)))


async def test_a_replaced_challenge_is_worth_nothing(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    delegate, account = await make_tenant("delegate"), cloud.account()
    old = await connected(db, delegate, gateways, account.id, Kind.PROOF)
    new = await service.verify(db, delegate, old.id, here=gateways.here)

    with pytest.raises(Invalid):
        await proven(db, gateways, delegate, old, presigned(cloud, account.keys, nonce_of(old)))

    after = await proven(db, gateways, delegate, new, presigned(cloud, account.keys, nonce_of(new)))
    assert after.state is State.VERIFIED


async def test_a_stranger_cannot_prove_for_somebody_else(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    delegate, stranger, account = await make_tenant("delegate"), await make_tenant("delegate"), cloud.account()
    view = await connected(db, delegate, gateways, account.id, Kind.PROOF)

    with pytest.raises(NotFound):
        await proven(db, gateways, stranger, view, presigned(cloud, account.keys, nonce_of(view)))


async def test_a_role_connection_is_not_proven_but_verified(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    owner, account = await make_tenant("owner"), cloud.account()
    view = await connected(db, owner, gateways, account.id, Kind.ROLE)

    with pytest.raises(Conflict, match="verified by its role"):
        await proven(db, gateways, owner, view, presigned(cloud, account.keys, "any"), nonce="any")


async def test_an_account_that_is_applied_by_hand_is_proven_the_same_way(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    owner, account = await make_tenant("owner"), cloud.account()
    view = await connected(db, owner, gateways, account.id, Kind.MANUAL)

    after = await proven(db, gateways, owner, view, presigned(cloud, account.keys, nonce_of(view)))

    assert after.state is State.VERIFIED


async def test_sts_being_slow_leaves_the_challenge_open(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    delegate, account = await make_tenant("delegate"), cloud.account()
    view = await connected(db, delegate, gateways, account.id, Kind.PROOF)
    url = presigned(cloud, account.keys, nonce_of(view))
    cloud.control("POST", "faults", {"operation": "GetCallerIdentity", "error": "500", "times": 1})

    with pytest.raises(Unavailable):
        await proven(db, gateways, delegate, view, url)

    assert (await proven(db, gateways, delegate, view, url)).state is State.VERIFIED
