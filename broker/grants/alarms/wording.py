"""What the mail about a grant that cannot be taken away says to each party. Rules only."""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from broker.grants.lifecycle import Paper, Party

LONGEST_NAME = 60  # characters, in a subject

_OWNER_DID = {
    Paper.REVOKED: "You revoked this grant",
    Paper.RELINQUISHED: "The delegate handed this grant back",
    Paper.EXPIRED: "This grant has reached its end",
    Paper.PAUSED: "This grant was suspended",
    Paper.AGREED: "This grant begins again later, by its new terms",
}
_DELEGATE_DID = {**_OWNER_DID, Paper.REVOKED: "The owner revoked this grant", Paper.RELINQUISHED: "You handed it back"}
_TRYING = "The broker goes on trying until it has seen that the access is gone, and tells you then."


class Stuck(msgspec.Struct, frozen=True):
    """A grant that has to go, with the names of its parties and what SES says."""

    grant_id: UUID
    identity_arn: str
    paper: Paper
    owner: str
    delegate: str
    error: str
    commands: Sequence[str]


def subject(stuck: Stuck) -> str:
    """One line for either party."""
    identity = stuck.identity_arn.rpartition("/")[2]
    return f"Access to {identity} could not be taken back from {stuck.delegate[:LONGEST_NAME]}"


def body(stuck: Stuck, party: Party) -> str:
    """The mail as plain text. The owner reads what it can do by itself; the delegate reads no commands."""
    owner = party is Party.OWNER
    did = (_OWNER_DID if owner else _DELEGATE_DID).get(stuck.paper, "This grant has ended")
    facts = {
        "Grant": stuck.grant_id,
        "Identity": stuck.identity_arn,
        "Owner": stuck.owner,
        "Delegate": stuck.delegate,
        "Reason": stuck.error,
    }
    paragraphs = [
        f"{did}, but Amazon SES does not let the broker take the access away.",
        "\n".join(f"{name + ':':<10}{fact}" for name, fact in facts.items()),
        *(_to_owner(stuck.commands) if owner else ["You must not send under this grant any more."]),
        _TRYING,
    ]
    return "\n\n".join(paragraphs) + "\n"


def _to_owner(commands: Sequence[str]) -> list[str]:
    risk = "Until it is gone the delegate may be able to send in your name."
    if not commands:
        return [risk, "Look at the policies of the identity in the SES console: ours begin with delegation-broker-."]
    listed = "\n".join(f"    {command}" for command in commands)
    return [f"{risk} To take it away without the broker, run this in the identity's AWS account:", listed]
