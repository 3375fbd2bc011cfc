"""Every false claim to an account, by name: refused with a sentence that says what to do (the confused deputy).

IAM User Guide, confused-deputy: the third party makes the ExternalId, and the role's trust policy must demand it.
"""

from collections.abc import Mapping

import pytest
from sqlalchemy import text

from broker.aws_access import RoleAccess
from broker.caller import Caller
from broker.connections import prove, service, verify
from broker.connections.challenge import HEADER
from broker.connections.models import Kind, State
from broker.connections.views import PresignedProof
from broker.db import Database, Role
from broker.errors import BrokerError, Refused
from broker.grants.release import release
from broker.identities.discover import Discovery
from broker.ids import new_id
from tests.conftest import MakeTenant
from tests.connections.aws import Gateways, connected, make_role, presigned
from tests.connections.test_prove import nonce_of, proven
from tests.connections.test_verify import due_again, events_of, trusting, verified
from tests.sandbox.aws import REGION
from tests.sandbox.aws import Aws as LocalAws

OURS = "OUR-EXTERNAL-ID"
"""In a condition of the table, stands for the connection's own."""

READ = '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ses:GetAccount","Resource":"*"}}'
Condition = Mapping[str, Mapping[str, str | list[str]]]

TRUSTS: dict[str, tuple[Condition | None, str]] = {
    "no condition": (None, "without an ExternalId"),
    "only if one is given": ({"StringEqualsIfExists": {"sts:ExternalId": OURS}}, "without an ExternalId"),
    "any but one": ({"StringNotEquals": {"sts:ExternalId": "another"}}, "without an ExternalId"),
    "none or ours": ({"ForAllValues:StringEquals": {"sts:ExternalId": OURS}}, "without an ExternalId"),
    "any": ({"StringLike": {"sts:ExternalId": "*"}}, "with another ExternalId"),
    "any of its length": ({"StringLike": {"sts:ExternalId": "?" * 48}}, "with another ExternalId"),
    "whichever is given": ({"Null": {"sts:ExternalId": "false"}}, "with another ExternalId"),
    "what begins like ours": ({"StringLike": {"sts:ExternalId": f"{OURS}*"}}, "with another ExternalId"),
    "what ends like ours": ({"StringLike": {"sts:ExternalId": f"*{OURS}"}}, "with another ExternalId"),
    "ours or any": ({"StringLike": {"sts:ExternalId": [OURS, "*"]}}, "with another ExternalId"),
}


def with_ours(condition: Condition, external_id: str) -> dict[str, object]:
    def one(value: str | list[str]) -> str | list[str]:
        return value.replace(OURS, external_id) if isinstance(value, str) else [str(one(each)) for each in value]

    return {name: {key: one(value) for key, value in tests.items()} for name, tests in condition.items()}


@pytest.mark.parametrize("name", TRUSTS)
async def test_a_role_that_trusts_us_for_others_too_is_refused(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws, name: str
) -> None:
    condition, said = TRUSTS[name]
    owner, account = await make_tenant("owner"), cloud.account()
    view = await connected(db, owner, gateways, account.id, Kind.ROLE)
    trusting(account, None if condition is None else with_ours(condition, view.external_id or ""))

    view = await verified(db, gateways, owner, view)

    assert State.LOST is view.state
    assert said in (view.reason or "")
    assert "must demand ours, with StringEquals" in (view.reason or "")
    assert await holder(db, account.id) is None


async def holder(db: Database, account_id: str) -> object:
    async with db.read(Caller(tenant_id=None)) as session:
        return await session.scalar(text("SELECT tenant_id FROM account_tenants(:ids)"), {"ids": [account_id]})


async def test_another_tenants_external_id_opens_nothing(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    """The thief claims the victim's account, whose role demands the victim's id: its own is another, of our making."""
    victim, thief, account = await make_tenant("owner"), await make_tenant("owner"), cloud.account()
    mine = await connected(db, victim, gateways, account.id, Kind.ROLE)
    theirs = await connected(db, thief, gateways, account.id, Kind.ROLE)
    make_role(account, mine.external_id or "")
    await verified(db, gateways, victim, mine)

    view = await verified(db, gateways, thief, theirs)

    assert (State.PENDING, victim.tenant) == (view.state, await holder(db, account.id))
    assert "cannot be assumed with its ExternalId" in (view.reason or "")


async def test_an_open_session_of_one_tenant_is_not_anothers(gateways: Gateways, cloud: LocalAws) -> None:
    """Sessions are kept: by tenant and ExternalId too, else the second would act through the first one's."""
    account = cloud.account()
    arn = make_role(account, "e" * 48)
    mine, theirs = (RoleAccess(new_id(), account.id, arn, each * 48, REGION) for each in "ef")
    await gateways.sts.session(mine, READ)

    with pytest.raises(Refused) as refusal:
        await gateways.sts.session(theirs, READ)

    assert "AccessDenied" == refusal.value.code


async def test_a_role_that_trusts_two_tenants_is_the_first_ones(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    first, second, account = await make_tenant("owner"), await make_tenant("owner"), cloud.account()
    views = [await connected(db, each, gateways, account.id, Kind.ROLE) for each in (first, second)]
    trusting(account, {"StringEquals": {"sts:ExternalId": [view.external_id for view in views]}})
    await verified(db, gateways, first, views[0])

    view = await verified(db, gateways, second, views[1])

    assert (State.LOST, first.tenant) == (view.state, await holder(db, account.id))
    assert "ask the operator" in (view.reason or "")


async def test_an_external_id_is_never_used_twice(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    owner, account = await make_tenant("owner"), cloud.account()
    old = await connected(db, owner, gateways, account.id, Kind.ROLE)
    await service.remove(db, owner, old.id, release=release)

    new = await connected(db, owner, gateways, account.id, Kind.ROLE)

    assert new.external_id not in (None, old.external_id)


class Moved:
    """STS, where the role opens sessions in another account."""

    async def assume(self, access: RoleAccess, *, external_id: str | None) -> str:
        if external_id != access.external_id:
            raise Refused("Not authorized.", code="AccessDenied")
        return "000000000001"


@pytest.mark.parametrize(("was_verified", "state"), [(False, State.LOST), (True, State.DEGRADED)])
async def test_an_account_that_changes_under_a_role_is_refused(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws, *, was_verified: bool, state: State
) -> None:
    owner, account = await make_tenant("owner"), cloud.account()
    view = await connected(db, owner, gateways, account.id, Kind.ROLE)
    make_role(account, view.external_id or "")
    if was_verified:
        await verified(db, gateways, owner, view)
    await due_again(db, owner, view.id)

    discovery = Discovery(gateways.ses, partition="aws")
    await verify.run(db.as_role(Role.WORKER), Moved(), discovery, release=release, only=[view.id])

    view = await service.one(db, owner, view.id, here=gateways.here)
    assert state is view.state
    assert "another account than the one that was claimed" in (view.reason or "")
    assert (["connection.verified"] * was_verified + [f"connection.{state}"]) == await events_of(db, owner)


async def test_no_call_is_made_in_another_account_than_the_proven_one(gateways: Gateways, cloud: LocalAws) -> None:
    """Between two checks too: whoever's account the session turns out to be in, it is not used."""
    proven_account, other = cloud.account(), cloud.account()
    access = RoleAccess(new_id(), proven_account.id, make_role(other, "e" * 48), "e" * 48, REGION)

    for _ in range(2):
        with pytest.raises(Refused, match=f"account {other.id}, not in {proven_account.id}") as refusal:
            await gateways.sts.session(access, READ)

    assert "OtherAccount" == refusal.value.code


def _not_a(url: str, old: str, new: str) -> str:
    assert old in url
    return url.replace(old, new)


PROOFS = {
    "another tenant's": "STS refused",
    "another tenant's with its nonce": "nonce of the open challenge",
    "for another host": "must begin with",
    "for the global endpoint": "must begin with",
    "with a header more that is signed": "signed headers must be",
    "without our header signed": "signed headers must be",
    "of another action": "Action must be",
    "of another method": "STS refused",
    "of yesterday": "sign it again",
    "of another account": "signed by account",
}


@pytest.mark.parametrize("name", PROOFS)
async def test_a_false_proof_is_refused(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws, name: str
) -> None:
    """Signed for real where it can be: what is refused is the request, and not that it is ill formed."""
    victim, thief, account, other = await make_tenant(), await make_tenant(), cloud.account(), cloud.account()
    theirs = await connected(db, victim, gateways, account.id, Kind.PROOF)
    mine = await connected(db, thief, gateways, account.id, Kind.PROOF)
    replayed = presigned(cloud, account.keys, nonce_of(theirs))
    good = presigned(cloud, account.keys, nonce_of(mine))
    header = HEADER.replace("-", "%2D") if HEADER not in good else HEADER
    given = {
        "another tenant's": (replayed, None),
        "another tenant's with its nonce": (replayed, nonce_of(theirs)),
        "for another host": (_not_a(good, gateways.sts.endpoint, "https://sts.evil.example"), None),
        "for the global endpoint": (_not_a(good, gateways.sts.endpoint, "https://sts.amazonaws.com"), None),
        "with a header more that is signed": (_not_a(good, header, f"{header}%3Bx-more"), None),
        "without our header signed": (_not_a(good, f"%3B{header}", ""), None),
        "of another action": (_not_a(good, "GetCallerIdentity", "GetSessionToken"), None),
        "of another method": (presigned(cloud, account.keys, nonce_of(mine), method="POST"), None),
        "of yesterday": (_not_a(good, "X-Amz-Date=20", "X-Amz-Date=19"), None),
        "of another account": (presigned(cloud, other.keys, nonce_of(mine)), None),
    }
    url, nonce = given[name]

    with pytest.raises(BrokerError, match=PROOFS[name]) as refusal:
        await proven(db, gateways, thief, mine, url, nonce=nonce)

    assert refusal.value.detail.endswith(".")
    assert await holder(db, account.id) is None
    assert State.PENDING is (await service.one(db, thief, mine.id, here=gateways.here)).state


async def test_a_proof_is_worth_nothing_to_another_tenant_after_it_was_used(
    db: Database, make_tenant: MakeTenant, gateways: Gateways, cloud: LocalAws
) -> None:
    victim, thief, account = await make_tenant(), await make_tenant(), cloud.account()
    theirs = await connected(db, victim, gateways, account.id, Kind.PROOF)
    mine = await connected(db, thief, gateways, account.id, Kind.PROOF)
    url = presigned(cloud, account.keys, nonce_of(theirs))
    await proven(db, gateways, victim, theirs, url)

    for headers in ({HEADER: nonce_of(theirs)}, {HEADER: nonce_of(mine)}):
        with pytest.raises(BrokerError):
            await prove.prove(
                db, thief, mine.id, PresignedProof(url=url, headers=headers), prover=gateways.sts, here=gateways.here
            )

    assert victim.tenant == await holder(db, account.id)
