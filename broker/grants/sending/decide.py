"""Asks the policies about one send: each action that its call is checked against has to be allowed. A rule."""

from collections.abc import Mapping
from datetime import datetime
from email.utils import parseaddr

import msgspec

from broker.grants.sending.asked import Decided, Sending
from broker.policies.arns import parse_principal
from broker.policies.calls import CALLS, Call
from broker.policies.context import Send
from broker.policies.document import Document
from broker.policies.evaluate import Decision, Verdict, evaluate

V1 = frozenset(call for call in Call if call.value.startswith("v1_"))  # SMTP counts as version 2 (control-user-access)
_WORST_LAST = (Decision.allow, Decision.implicit_deny, Decision.explicit_deny)


class Basis(msgspec.Struct, frozen=True):
    """Policies by name, and where they are from."""

    kind: str
    policies: Mapping[str, str | Document]
    read_at: datetime | None = None


def decide(send: Sending, basis: Basis, *, identity_arn: str, caller: str, now: datetime) -> Decided:
    """The action that fares worst; DocumentError and ValueError as `evaluate` raises them."""
    documents, names = list(basis.policies.values()), list(basis.policies)
    verdicts = [
        (action, evaluate(documents, _question(send, action, caller, now), identity_arn=identity_arn))
        for action in CALLS[send.call].actions
    ]
    action, verdict = max(verdicts, key=lambda each: _WORST_LAST.index(each[1].decision))
    return Decided(
        decision=verdict.decision,
        action=action,
        basis=basis.kind,
        policy=_name(verdict, names),
        statement=verdict.statement,
        reason=verdict.reason,
        read_at=basis.read_at,
    )


def _name(verdict: Verdict, names: list[str]) -> str | None:
    return None if verdict.policy is None else names[verdict.policy]


def _question(send: Sending, action: str, caller: str, now: datetime) -> Send:
    name, address = parseaddr(send.from_)
    who = parse_principal(caller)
    return Send(
        action=action,
        caller_account=who.account_id,
        caller_arn=None if who.kind == "account" else caller,
        from_address=address,
        from_display_name=name or None,
        # Without one SES may take From or leave the key out; the latter is the safer assumption.
        feedback_address=parseaddr(send.return_path)[1] if send.return_path else None,
        recipients=list(send.recipients) or None,
        time=send.at or now,
        source_ip=send.source_ip,
        secure_transport=send.tls,
        context={"ses:ApiVersion": "1" if send.call in V1 else "2"},
    )
