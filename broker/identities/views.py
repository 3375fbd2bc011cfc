"""What the API answers about identities."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec

from broker.identities.facts import Attributes, is_ours
from broker.identities.models import Identity
from broker.policies.pack import Room
from broker.policies.plan import MAX_POLICIES


class PolicyName(msgspec.Struct, frozen=True):
    """A policy on the identity; `ours`: made by this broker."""

    name: str
    ours: bool


class IdentityView(msgspec.Struct, frozen=True):
    """A verified domain or address in one account and Region.

    `room_left`: policies that SES still takes on it. `room`: what is left of that for grants, and what each of them
    takes; only where one identity is asked for, and none where you apply policies by hand. `read_at`: when SES was last
    read. `sync_error`: why the policies could not be made equal to the grants. `own_mail`: you hear of the mail that
    your own account sends from it.
    """

    id: UUID
    connection_id: UUID
    account_id: str
    region: str
    name: str
    kind: str
    arn: str
    verified: bool
    attributes: Attributes
    policies: list[PolicyName]
    room_left: int
    read_at: datetime | None
    sync_error: str | None
    own_mail: bool
    room: Room | None = None


class IdentityChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an owner may change of an identity; absent fields stay."""

    own_mail: (
        Annotated[
            bool,
            msgspec.Meta(
                description="Whether you hear feedback about mail that your own account sends from it", examples=[True]
            ),
        ]
        | msgspec.UnsetType
    ) = msgspec.UNSET


def shown(row: Identity, *, room: Room | None = None) -> IdentityView:
    """The identity as its owner sees it."""
    return IdentityView(
        id=row.id,
        connection_id=row.connection_id,
        account_id=row.account_id,
        region=row.region,
        name=row.name,
        kind=row.kind,
        arn=row.arn,
        verified=row.verified,
        attributes=msgspec.convert(row.attributes, Attributes),
        policies=[PolicyName(name, is_ours(name)) for name in sorted(row.policies)],
        room_left=max(0, MAX_POLICIES - len(row.policies)),
        read_at=row.read_at,
        sync_error=row.sync_error,
        own_mail=row.own_mail,
        room=room,
    )
