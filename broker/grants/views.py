"""What the grants' part of the API takes and answers."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from broker.grants.adopting.replaces import Replaces
from broker.grants.lifecycle import Outcome, Party, State
from broker.policies.changes import Change, Effect
from broker.policies.findings import Finding
from broker.policies.terms import Terms

Note = Annotated[str, Meta(max_length=2000, description="A word to the other party")]
TERMS_EXAMPLE = {
    "principals": ["222222222222"],
    "actions": ["send", "send_raw"],
    "from_addresses": ["newsletter@example.com"],
    "expires_at": "2027-02-20T00:00:00Z",
}


class Proposal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new grant, put forward by either party."""

    identity_arn: Annotated[
        str,
        Meta(
            description="The identity to send from",
            examples=["arn:aws:ses:eu-west-1:111111111111:identity/example.com"],
        ),
    ]
    terms: Annotated[Terms, Meta(examples=[TERMS_EXAMPLE])]
    delegate_id: Annotated[
        UUID | None, Meta(description="The delegate's tenant id; needed when the owner proposes")
    ] = None
    note: Note | None = None


class Counter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Other terms in answer to an offer, or an amendment of a live grant."""

    terms: Annotated[Terms, Meta(examples=[TERMS_EXAMPLE])]
    note: Note | None = None


class Reason(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why, in words that the other party sees."""

    note: Note | None = None


class Matching(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which of your live grants to revoke: all that fit every filter given; at least one is needed."""

    delegate_id: Annotated[UUID | None, Meta(description="Grants to this tenant")] = None
    account_id: Annotated[
        str | None, Meta(description="Grants that let this AWS account send", examples=["222222222222"])
    ] = None
    identity_arn: Annotated[
        str | None,
        Meta(
            description="Grants on this identity", examples=["arn:aws:ses:eu-west-1:111111111111:identity/example.com"]
        ),
    ] = None
    dry_run: Annotated[bool, Meta(description="Only say which grants it would be", examples=[True])] = False
    note: Note | None = None


class PartyView(msgspec.Struct, frozen=True):
    """One side of a grant."""

    id: UUID
    name: str


class OfferView(msgspec.Struct, frozen=True):
    """One version of the terms. `etag` is what `If-Match` must carry; `explanation` says in words what it permits.

    `changes` is what it means beside the offer before it, and `effect` what that does to the permission to send.
    `replaces` is the policy whose place the grant is to take.
    """

    id: UUID
    number: int
    made_by: Party
    by_me: bool
    terms: Terms
    note: str | None
    outcome: Outcome | None
    explanation: Sequence[str]
    changes: Sequence[Change]
    effect: Effect
    created_at: datetime
    lapses_at: datetime
    decided_at: datetime | None
    etag: str
    replaces: Replaces | None = None


class GrantView(msgspec.Struct, frozen=True):
    """A grant as one of its parties sees it. `state` is derived from paper, effect and clock.

    `suspended_by` is `owner` or `breaker`, while it is suspended. `protected_by` and `sealed_at` are those of its
    receipt. `verified`: the state is what SES was read to hold; false for one that nobody has read yet, and for the
    word of an owner who applies policies by hand. There the flag `awaiting_owner` says that it is the owner's turn, and
    `commands` are what it has to run to take access back. `replaces` is the policy that somebody wrote without the
    broker, and that is deleted once this grant's own was read back.
    """

    id: UUID
    state: State
    verified: bool
    awaiting: Party | None
    flags: Sequence[str]
    you_are: Party
    owner: PartyView
    delegate: PartyView
    identity_id: UUID
    identity_arn: str
    terms: Terms | None
    open_offer: UUID | None
    latest_offer: UUID
    etag: str
    error: str | None
    commands: Sequence[str]
    recipient_hash_key: str | None
    created_at: datetime
    agreed_at: datetime | None
    activated_at: datetime | None
    expires_at: datetime | None
    ended_at: datetime | None
    suspended_at: datetime | None
    suspended_by: str | None
    protected_by: str | None
    sealed_at: datetime | None
    replaces: Replaces | None = None


class Expected(msgspec.Struct, frozen=True):
    """By when one grant's policy is gone, and by when that is proven by a second read; from the answer on.

    At the rate that SES gives one account and Region. Null where you remove policies by hand. `last_used_at`: about
    when we last heard of mail under it.
    """

    grant_id: UUID
    identity_arn: str
    last_used_at: datetime | None
    removed_within_seconds: int | None
    revoked_within_seconds: int | None


class ExpectedThere(msgspec.Struct, frozen=True):
    """What it takes in one account and Region: calls of SES, about one a second of each kind, and how long in all."""

    account_id: str
    region: str
    by_hand: bool
    identities: int
    grants: int
    creates: int
    deletes: int
    reads: int
    revoked_within_seconds: int | None


class Revoked(msgspec.Struct, frozen=True):
    """The grants that were revoked, or, on a dry run, would be. Each becomes `revoked` by itself.

    All lists are in the order of the work: what was used last goes first.
    """

    dry_run: bool
    grants: Sequence[GrantView]
    expected: Sequence[Expected]
    accounts: Sequence[ExpectedThere]


class Receipt(msgspec.Struct, frozen=True):
    """What happened to the access: when its end was asked for, when SES was first read without it, and when again.

    `asked_by` is `owner`, `delegate` or `clock`, for a suspension `owner` or `breaker`.

    `protected_by`: what keeps a request that SES executes late from bringing it back; `deny`, a Deny of ours that was
    read, `reads`, reading it again and again, or `owner`, whose word it is. `protection` says why it is not a Deny.
    `sealed_at`: every such request is dead, the Deny is gone, and SES was read once more without any policy of this
    grant.

    `statement` says exactly what was observed: AWS gives no bound for its sending hosts, and accepted mail is not
    recalled. `residual_policies` are policies that are not ours and still let the delegate send.
    """

    grant_id: UUID
    state: State
    asked_at: datetime
    asked_by: str
    removed_at: datetime | None
    verified_at: datetime | None
    protected_by: str
    protection: str | None
    sealed_at: datetime | None
    residual_policies: Sequence[str]
    statement: str


class PolicyView(msgspec.Struct, frozen=True):
    """The policy that the agreed terms compile to, what it means, and what the linter has to say about it."""

    document: dict[str, Any]
    bytes: int
    explanation: Sequence[str]
    findings: Sequence[Finding]
