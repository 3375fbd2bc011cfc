"""Live grants by the hundred, written straight into the tables: negotiating them is tested elsewhere."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from broker.caller import Caller
from broker.db import Database
from broker.ids import new_id
from broker.policies.compile import document, statements
from broker.policies.plan import policy_name
from broker.policies.terms import Action, Terms
from tests.grants.conftest import connect_account

_OFFER = text(
    "INSERT INTO offers (id, grant_id, owner_id, delegate_id, number, made_by, terms, outcome, lapses_at, decided_at)"
    " VALUES (:offer, :grant, :owner, :delegate, 1, 'owner', :terms, 'approved', now() + interval '7 days', now())"
)
_OFFERED = ("offer", "grant", "owner", "delegate", "terms")
_GRANT = text(
    "INSERT INTO grants (id, owner_id, delegate_id, identity_id, identity_arn, paper, effect, latest_offer_id,"
    " agreed_offer_id, terms, accounts, expires_at, slot, agreed_at, activated_at)"
    " VALUES (:grant, :owner, :delegate, :identity, :arn, 'agreed', 'applied', :offer, :offer, :terms, :accounts,"
    " :expires, :slot, now(), now())"
)
_IDENTITY = text(
    "INSERT INTO identities (id, tenant_id, connection_id, account_id, region, name, kind, arn, verified, attributes,"
    " policies) VALUES (:id, :tenant, :connection, :account, 'eu-west-1', :name, 'domain', :arn, true, '{}', :policies)"
)


class Many(msgspec.Struct, frozen=True):
    """Identities with the ids of the grants on each, by identity in the order in which they were made."""

    accounts: tuple[str, ...]
    arns: tuple[str, ...]
    identities: tuple[UUID, ...]
    grants: tuple[tuple[UUID, ...], ...]


async def make_many(
    db: Database, owner: Caller, senders: Sequence[tuple[Caller, str]], *, accounts: int, identities: int, grants: int
) -> Many:
    """So many accounts, identities in each, and active grants on each of them, to the senders in turn."""
    places = [await connect_account(db, owner, "role") for _ in range(accounts)]
    made: list[tuple[str, UUID, tuple[UUID, ...]]] = []
    async with db.begin(owner) as session:
        for connection, account in places:
            for number in range(identities):
                name = f"domain{number}.example.com"
                arn = f"arn:aws:ses:eu-west-1:{account}:identity/{name}"
                identity, ids = new_id(), tuple(new_id() for _ in range(grants))
                rows = [
                    _row(owner, *senders[slot % len(senders)], (identity, arn), (grant, slot + 1))
                    for slot, grant in enumerate(ids)
                ]
                policies = {policy_name(row["slot"], 1): row.pop("document") for row in rows}
                named = {"id": identity, "tenant": owner.tenant, "connection": connection, "account": account}
                await session.execute(_IDENTITY, {**named, "name": name, "arn": arn, "policies": json.dumps(policies)})
                await session.execute(_GRANT, rows)
                await session.execute(_OFFER, [{key: row[key] for key in _OFFERED} for row in rows])
                made.append((arn, identity, ids))
    return Many(
        accounts=tuple(account for _, account in places),
        arns=tuple(arn for arn, _, _ in made),
        identities=tuple(identity for _, identity, _ in made),
        grants=tuple(ids for _, _, ids in made),
    )


def _row(
    owner: Caller, delegate: Caller, account: str, identity: tuple[UUID, str], grant: tuple[UUID, int]
) -> dict[str, Any]:
    terms = Terms(
        principals=(account,),
        actions=(Action.send,),
        from_addresses=(f"a@{identity[1].rpartition('/')[2]}",),
        expires_at=datetime.now(UTC).replace(microsecond=0) + timedelta(days=30),
    )
    return {
        "grant": grant[0],
        "owner": owner.tenant,
        "delegate": delegate.tenant,
        "identity": identity[0],
        "arn": identity[1],
        "offer": new_id(),
        "terms": msgspec.json.encode(terms).decode(),
        "accounts": [account],
        "expires": terms.expires_at,
        "slot": grant[1],
        "document": document(statements(terms, grant_id=grant[0], identity_arn=identity[1])),
    }


async def use(session: AsyncSession, grant_id: UUID, owner: UUID, at: datetime) -> None:
    """Feedback about mail of this grant was counted at this time."""
    await session.execute(
        text(
            "INSERT INTO usage_windows (grant_id, begins_at, vouched, owner_id, delegate_id, sent, delivered, bounced,"
            " complained) SELECT id, :at, true, owner_id, delegate_id, 1, 0, 0, 0 FROM grants"
            " WHERE id = :grant AND owner_id = :owner"
        ),
        {"grant": grant_id, "owner": owner, "at": at},
    )
