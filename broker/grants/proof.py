"""What a signed receipt says, and what it proves, in sentences. Rules, which need neither database nor network."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from broker.audit.signing import PublicKeys
from broker.grants.views import SignedReceipt
from broker.policies.explain import explain
from broker.policies.terms import Terms

KIND = "ses-delegation-broker/grant-receipt/1"


class Tenant(msgspec.Struct, frozen=True):
    """A party, as it was called when the receipt was made."""

    id: str
    name: str


class Agreed(msgspec.Struct, frozen=True):
    """The offer that was approved last, and when."""

    offer_id: str
    at: str
    terms: Terms


class Ended(msgspec.Struct, frozen=True):
    """As in `views.Receipt`."""

    asked_at: str
    asked_by: str
    removed_at: str | None
    verified_at: str | None
    sealed_at: str | None
    protected_by: str
    protection: str | None


class ReadPolicy(msgspec.Struct, frozen=True):
    """A policy of the identity as SES was read to hold it last; `sha256` of its text, in hex."""

    name: str
    sha256: str
    read_at: str


class SealedStep(msgspec.Struct, frozen=True):
    """An entry of the audit trail about the grant, and its place in a tenant's chain."""

    at: str
    action: str
    chain_id: str
    position: int
    hash: str


class GrantReceipt(msgspec.Struct, frozen=True):
    """What is signed. Times are UTC. `verified`: SES was read to be so; false for the word of an owner that
    works `by_hand`.

    `steps` are those that are sealed already, the latest hundred.
    """

    grant_id: str
    issued_at: str
    broker_version: str
    owner: Tenant
    delegate: Tenant
    identity_arn: str
    agreed: Agreed
    state: str
    verified: bool
    by_hand: bool
    activated_at: str | None
    expires_at: str | None
    suspended: bool
    ended: Ended | None
    residual_policies: Sequence[str]
    policies: Sequence[ReadPolicy]
    steps: Sequence[SealedStep]
    statement: str
    kind: str = KIND


def check(signed: SignedReceipt, keys: PublicKeys) -> str | None:
    """What is wrong with a receipt, as a sentence, or None."""
    if signed.receipt.get("kind") != KIND:
        return f"This is no receipt of a grant: its kind is {signed.receipt.get('kind')!r}, and not {KIND!r}."
    if signed.signature.key_id not in keys:
        return f"It is signed with the key {signed.signature.key_id}, which is none of those given."
    if not keys.has_signed(signed.signature, signed.receipt):
        return "It was changed after it was signed, or the service never signed it."
    return None


def read(signed: SignedReceipt) -> GrantReceipt:
    """The receipt in its types; `msgspec.ValidationError` for one of a kind that this version does not know."""
    return msgspec.convert(signed.receipt, GrantReceipt)


def sentences(receipt: GrantReceipt, *, key_id: str) -> Iterator[str]:
    """What the service attests, for people."""
    yield f"Signed by the service with its key {key_id}, and not changed since. Made at {receipt.issued_at}."
    yield (
        f"{receipt.owner.name} ({receipt.owner.id}) let {receipt.delegate.name} ({receipt.delegate.id}) send from"
        f" {receipt.identity_arn}, by offer {receipt.agreed.offer_id}, agreed at {receipt.agreed.at}:"
    )
    for each in explain(receipt.agreed.terms, identity_arn=receipt.identity_arn):
        yield f"  {each}"
    yield _beginning(receipt)
    yield from _end(receipt)
    yield from _found(receipt)
    yield f"At {receipt.issued_at} the grant was {receipt.state}. {receipt.statement}"


def _beginning(receipt: GrantReceipt) -> str:
    if receipt.activated_at is None:
        return "It was never seen in force."
    if receipt.by_hand:
        return f"In force since {receipt.activated_at} by the owner's word; nobody has read SES to see."
    return f"In force since {receipt.activated_at}."


def _end(receipt: GrantReceipt) -> Iterator[str]:
    ended = receipt.ended
    if ended is None:
        return
    what = "suspension" if receipt.suspended else "end"
    yield f"Its {what} was asked for at {ended.asked_at} by the {ended.asked_by}."
    if ended.verified_at is not None:
        yield f"SES was first read without the access at {ended.removed_at}, and again at {ended.verified_at}."
    elif ended.removed_at is not None and ended.protected_by == "owner":
        yield f"The owner said at {ended.removed_at} that the policy is gone. That is its word, and not verified."
    elif ended.removed_at is not None:
        yield f"SES was read without the access once, at {ended.removed_at}. That is no proof yet."
    if ended.sealed_at is not None:
        yield f"Nothing that was asked of SES before can bring it back: read once more without it at {ended.sealed_at}."
    elif ended.protected_by == "deny":
        yield "A Deny of the broker guarded it against what was asked of SES before."


def _found(receipt: GrantReceipt) -> Iterator[str]:
    for each in receipt.policies:
        yield f"SES held the policy {each.name} (SHA-256 {each.sha256}), read at {each.read_at}."
    if receipt.steps:
        last = receipt.steps[-1]
        yield (
            f"{len(receipt.steps)} steps of it are sealed in the audit trail; the last, {last.action} at {last.at}, as"
            f" {last.position} in the chain of {last.chain_id} with the hash {last.hash}."
        )


def as_said(receipt: GrantReceipt) -> Mapping[str, Any]:
    """As JSON, which is what is signed."""
    said: dict[str, Any] = msgspec.to_builtins(receipt)
    return said
