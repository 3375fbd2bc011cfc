"""What the API takes about a send, and what it answers."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from broker.grants.sending.items import Item
from broker.policies.calls import Call
from broker.policies.evaluate import Decision

ARN = "arn:aws:ses:eu-west-1:111111111111:identity/example.com"
Text = Annotated[str, Meta(max_length=1_000)]
Short = Annotated[str, Meta(max_length=60)]
Arns = Annotated[tuple[Short, ...], Meta(max_length=5)]
Policies = Annotated[list[dict[str, Any]], Meta(max_length=20)]
SetName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$(?!\n)")]
Address = Annotated[str, Meta(max_length=500)]


class Sending(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, rename={"from_": "from"}
):
    """One send. What is left out is taken as usual: the identity's Region, now, the first principal of the terms.

    `arns` are the names of the parameters or headers that name an identity, as far as they are passed.
    """

    call: Annotated[Call, Meta(description="How the mail is handed to SES", examples=["v2_send_email_simple"])]
    from_: Annotated[
        str, Meta(max_length=500, description="The From header", examples=["Example News <newsletter@example.com>"])
    ]
    recipients: Annotated[
        tuple[Address, ...], Meta(max_length=50, description="To, Cc and Bcc together", examples=[["ann@example.org"]])
    ] = ()
    return_path: Annotated[Address | None, Meta(description="Where bounces go", examples=["bounces@example.com"])] = (
        None
    )
    caller: Annotated[
        Text | None,
        Meta(description="Who calls: account id or ARN", examples=["arn:aws:iam::222222222222:role/mailer"]),
    ] = None
    region: Annotated[Short | None, Meta(description="The Region of the endpoint", examples=["eu-west-1"])] = None
    configuration_set: Annotated[SetName | None, Meta(examples=["agency-news"])] = None
    arns: Annotated[Arns | None, Meta(examples=[["FromEmailAddressIdentityArn"]])] = None
    return_path_arn: Annotated[
        Text | None, Meta(description="Where another identity permits the Return-Path", examples=[ARN])
    ] = None
    source_ip: Annotated[Short | None, Meta(examples=["203.0.113.7"])] = None
    tls: Annotated[bool, Meta(description="Whether the caller speaks TLS to SES")] = True
    at: Annotated[datetime | None, Meta(description="When", examples=["2026-03-01T12:00:00Z"])] = None


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A send, and about what: exactly one of `grant_id`, `identity_id` and `policies`."""

    send: Annotated[Sending, Meta(examples=[{"call": "v2_send_email_simple", "from": "newsletter@example.com"}])]
    grant_id: Annotated[UUID | None, Meta(description="A grant that you are a party to")] = None
    identity_id: Annotated[UUID | None, Meta(description="An identity of yours, with all its policies")] = None
    policies: Annotated[Policies | None, Meta(description="Documents; needs identity_arn")] = None
    identity_arn: Annotated[Text | None, Meta(description="The identity of `policies`", examples=[ARN])] = None
    dns: Annotated[bool, Meta(description="Also look at DMARC, DKIM, MAIL FROM and SPF in the DNS")] = True


class Decided(msgspec.Struct, frozen=True):
    """What the policies say. `basis`: `ses` as last read at `read_at`, `terms` what they would allow, or `pasted`.

    `action` is the one that decided; `policy` and `statement` are None where they are not the caller's to see.
    """

    decision: Decision
    action: str
    basis: str
    policy: str | None
    statement: str | None
    reason: str
    read_at: datetime | None = None


class Simulation(msgspec.Struct, frozen=True):
    """`allowed`: as far as is known here, SES would take the send; items that are `unknown` are for you to look at."""

    allowed: bool
    identity_arn: str
    decision: Decided
    checklist: tuple[Item, ...]


class Puzzle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An error text of AWS to explain; with `grant_id`, in the light of that grant."""

    text: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=4_000,
            description="The text as it came",
            examples=[
                "Email address is not verified. The following identities failed the check in region EU-WEST-1: …"
            ],
        ),
    ]
    grant_id: Annotated[UUID | None, Meta(description="The grant that the send was under")] = None
