"""Entering an identity by hand, where no role lets the broker find it."""

from typing import Annotated
from uuid import UUID

import msgspec
from sqlalchemy import Select, func, select
from sqlalchemy.exc import IntegrityError

from broker.audit.service import record
from broker.caller import Caller
from broker.connections.models import Connection, Kind, State
from broker.connections.service import find
from broker.db import Database
from broker.errors import Conflict, Flaw, Invalid
from broker.idempotency import remember
from broker.identities.facts import Attributes, kind_of
from broker.identities.models import Identity
from broker.identities.views import IdentityView, shown
from broker.ids import new_id
from broker.policies.arns import parse_identity_arn
from broker.quotas import Quota
from broker.room import leave_room


class NewIdentity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An identity that you have verified in SES, in an account that you have proven and connected as manual."""

    connection_id: Annotated[UUID, msgspec.Meta(description="A verified connection of kind manual")]
    region: Annotated[str, msgspec.Meta(description="One of the connection's Regions", examples=["eu-west-1"])]
    name: Annotated[str, msgspec.Meta(max_length=320, description="The domain or address", examples=["example.com"])]


async def enter(db: Database, caller: Caller, asked: NewIdentity, *, partition: str) -> IdentityView:
    """The identity as its owner says it is; nobody reads SES for it, so `read_at` stays empty."""
    async with db.begin(caller) as session:
        await leave_room(session, caller, Quota.IDENTITIES, _entered(caller))
        connection = await find(session, caller, asked.connection_id, lock=True)
        if connection.kind != Kind.MANUAL:
            raise Conflict("Only a connection of kind manual takes identities; those of a role are found by us.")
        if connection.state != State.VERIFIED:
            raise Conflict("Prove the account of this connection first.")
        if asked.region not in connection.regions:
            detail = f"The connection names {', '.join(connection.regions)} only."
            raise Invalid(detail, flaws=(Flaw("/region", detail),))
        name = asked.name if "@" in asked.name else asked.name.lower()  # addresses keep their spelling in SES
        row = Identity(
            id=new_id(),
            tenant_id=caller.tenant,
            connection_id=connection.id,
            account_id=connection.account_id,
            region=asked.region,
            name=name,
            kind=kind_of(name),
            arn=_arn(partition, asked.region, connection.account_id, name),
            verified=True,
            attributes=msgspec.to_builtins(Attributes()),
            policies={},
        )
        session.add(row)
        try:
            await session.flush()
        except IntegrityError as error:
            raise Conflict("This identity is connected already.") from error
        await session.refresh(row)
        await record(session, caller, "identity.entered", subject=("identity", row.id), arn=row.arn)
        return await remember(session, caller, shown(row))


def _entered(caller: Caller) -> Select[int]:
    mine = select(func.count()).select_from(Identity).join(Connection, Connection.id == Identity.connection_id)
    kept = (Identity.tenant_id == caller.tenant, Identity.removed_at.is_(None))
    return mine.where(*kept, Connection.kind == Kind.MANUAL)


def _arn(partition: str, region: str, account_id: str, name: str) -> str:
    arn = f"arn:{partition}:ses:{region}:{account_id}:identity/{name}"
    try:
        return str(parse_identity_arn(arn))
    except ValueError as error:
        raise Invalid(str(error), flaws=(Flaw("/name", str(error)),)) from error
