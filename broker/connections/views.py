"""What the API takes and answers about connections."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec

from broker.connections import challenge
from broker.connections.models import Connection, Kind, State
from broker.connections.permissions import Role, unscoped
from broker.connections.templates import RolePlan, quick_create_url
from broker.settings import Settings

# `$` alone would let a line end through behind it.
AccountId = Annotated[
    str,
    msgspec.Meta(pattern=r"^[0-9]{12}$(?!\n)", description="AWS account id, twelve digits", examples=["111111111111"]),
]
Region = Annotated[
    str,
    msgspec.Meta(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]{1,2}$(?!\n)", description="AWS Region", examples=["eu-west-1"]),
]


class NewConnection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An AWS account to connect. Claiming it gives nothing: it counts once it is verified or proven."""

    kind: Annotated[
        Kind,
        msgspec.Meta(
            description="role: we assume a role that you create; proof: you prove the account and give no rights;"
            " manual: you prove it and apply the policies yourself",
            examples=["role"],
        ),
    ]
    account_id: AccountId
    regions: Annotated[
        tuple[Region, ...],
        msgspec.Meta(max_length=40, description="Regions with your SES identities; may be empty for a proof"),
    ] = ()
    roles: Annotated[
        tuple[Role, ...],
        msgspec.Meta(
            max_length=2,
            description="What the role is for; left out: owner where your tenant is one, else delegate",
            examples=[["delegate"]],
        ),
    ] = ()


class PresignedProof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A presigned GetCallerIdentity request, made with credentials of the account."""

    url: Annotated[
        str,
        msgspec.Meta(
            max_length=challenge.LONGEST_URL,
            description="The presigned URL, method GET",
            examples=[f"https://sts.eu-west-1.amazonaws.com/?{challenge.QUERY}&X-Amz-Algorithm=AWS4-HMAC-SHA256&…"],
        ),
    ]
    headers: Annotated[
        dict[str, str],
        msgspec.Meta(max_length=8, description="The headers that were signed", examples=[{challenge.HEADER: "nonce"}]),
    ]


class Challenge(msgspec.Struct, frozen=True):
    """What to sign to prove the account: `method`, `url` and exactly these `headers`, for service sts in `region`."""

    url_host: str
    url: str
    region: str
    method: str
    headers: dict[str, str]
    expires_at: datetime


class ConnectionView(msgspec.Struct, frozen=True):
    """A connection. `reason` says why it is not verified; `unscoped_actions` are rights that AWS cannot limit."""

    id: UUID
    kind: Kind
    account_id: str
    regions: list[str]
    roles: list[Role]
    state: State
    reason: str | None
    external_id: str | None
    role_arn: str | None
    trusted_account: str | None
    template_url: str | None
    unscoped_actions: list[str]
    proof: Challenge | None
    created_at: datetime
    verified_at: datetime | None


class Installation(msgspec.Struct, frozen=True):
    """What tenants must know of this broker: its account, its Region, and the STS endpoint that proofs go to."""

    settings: Settings
    proof_endpoint: str


def shown(row: Connection, here: Installation) -> ConnectionView:
    """The connection as its tenant sees it."""
    is_role = row.kind == Kind.ROLE
    return ConnectionView(
        id=row.id,
        kind=Kind(row.kind),
        account_id=row.account_id,
        regions=row.regions,
        roles=roles_of(row),
        state=State(row.state),
        reason=row.reason,
        external_id=row.external_id if is_role else None,
        role_arn=row.role_arn,
        trusted_account=here.settings.aws_account_id if is_role else None,
        template_url=_quick_create(row, here) if is_role else None,
        unscoped_actions=_unscoped(row) if is_role else [],
        proof=_challenge(row, here),
        created_at=row.created_at,
        verified_at=row.verified_at,
    )


def roles_of(row: Connection) -> list[Role]:
    """What the connection's role is for."""
    return [Role(each) for each in row.roles]


def _unscoped(row: Connection) -> list[str]:
    return sorted({right.action for role in roles_of(row) for right in unscoped(role)})


def role_plan(row: Connection, here: Installation) -> RolePlan:
    """What the template of this connection says."""
    return RolePlan(
        account_id=row.account_id,
        broker_account_id=here.settings.aws_account_id,
        external_id=row.external_id,
        role_name=here.settings.role_name,
        partition=here.settings.aws_partition,
        roles=tuple(roles_of(row)),
    )


def _quick_create(row: Connection, here: Installation) -> str | None:
    if not here.settings.template_url:
        return None
    return quick_create_url(role_plan(row, here), here.settings.template_url, row.regions[0])


def _challenge(row: Connection, here: Installation) -> Challenge | None:
    if row.nonce is None or row.nonce_expires_at is None:
        return None
    return Challenge(
        url_host=challenge.host_of(here.proof_endpoint),
        url=challenge.unsigned_url(here.proof_endpoint),
        region=here.settings.aws_region,
        method="GET",
        headers={challenge.HEADER: row.nonce},
        expires_at=row.nonce_expires_at,
    )
