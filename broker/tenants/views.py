"""What the tenants' part of the API takes and answers."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from broker.caller import Scope


class TenantRole(StrEnum):
    OWNER = "owner"
    DELEGATE = "delegate"


Name = Annotated[
    str, Meta(min_length=1, max_length=200, description="Shown to the other party", examples=["Example AG"])
]
Email = Annotated[
    str,
    Meta(
        pattern=r"^[^@\s]+@[^@\s]+$(?!\n)",  # `$` alone would let a line end through behind it
        max_length=254,
        description="Where people reach you",
        examples=["ops@example.com"],
    ),
]


# The WHATWG's "valid e-mail address" (HTML, section 4.10.5.1.5): what a mail server can be given as it is.
_LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
AlarmAddress = Annotated[
    str,
    Meta(
        pattern=rf"^[a-zA-Z0-9.!#$%&'*+/=?^_`{{|}}~-]+@{_LABEL}(?:\.{_LABEL})*$(?!\n)",
        max_length=254,
        description="Where a mail goes when access that was taken back cannot be removed from SES",
        examples=["alarm@example.com"],
    ),
]


class Registration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new tenant."""

    name: Name
    roles: Annotated[
        Sequence[TenantRole], Meta(min_length=1, max_length=2, description="What you want to be", examples=[["owner"]])
    ]
    contact_email: Email | None = None


class TenantChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a tenant may change of itself; absent fields stay."""

    name: Name | msgspec.UnsetType = msgspec.UNSET
    contact_email: Email | msgspec.UnsetType | None = msgspec.UNSET
    alarm_address: AlarmAddress | msgspec.UnsetType | None = msgspec.UNSET


class TenantView(msgspec.Struct, frozen=True):
    """Oneself."""

    id: UUID
    name: str
    roles: Sequence[str]
    contact_email: str | None
    created_at: datetime
    alarm_address: str | None = None


class NewApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A further key."""

    name: Annotated[str, Meta(min_length=1, max_length=100, examples=["ci"])]
    scopes: Annotated[Sequence[Scope], Meta(min_length=1, description="No wider than your own", examples=[["read"]])]
    expires_at: datetime | None = None


class ApiKeyView(msgspec.Struct, frozen=True):
    """A key without its secret; `prefix` is how to recognise it."""

    id: UUID
    name: str
    prefix: str
    scopes: Sequence[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class ApiKeyMade(msgspec.Struct, frozen=True):
    """A key with its secret, which is shown this once."""

    key: ApiKeyView
    secret: str


class Registered(msgspec.Struct, frozen=True):
    """The new tenant and its first key, whose secret is shown this once."""

    tenant: TenantView
    key: ApiKeyView
    secret: str
