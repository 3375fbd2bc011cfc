"""Makes a send of which a statement decides, to show what a sentence about it says."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from broker.policies.arns import ANYBODY
from broker.policies.context import Send
from broker.policies.document import Condition, Statement
from broker.policies.evaluate import names_action
from broker.policies.lint_what import SENDING
from broker.policies.witness import Values, candidates, sample, satisfied

STRANGER = "000000000000"

_FIELDS = {
    "ses:fromaddress": "from_address",
    "ses:fromdisplayname": "from_display_name",
    "ses:feedbackaddress": "feedback_address",
    "aws:sourceip": "source_ip",
}
_FLAGS: dict[Values, bool | None] = {("true",): True, ("false",): False, None: None}


def by_key(statement: Statement) -> dict[str, list[Condition]]:
    """The conditions of a statement, those on one key together."""
    found: dict[str, list[Condition]] = {}
    for condition in statement.conditions:
        found.setdefault(condition.key.lower(), []).append(condition)
    return found


def example_of(statement: Statement, now: datetime, *, against: Condition | None = None) -> Send | None:
    """A send that the statement is about; with `against`, one that fails just that condition."""
    who, action = caller_of(statement), _action(statement)
    if who is None or action is None:
        return None
    send = msgspec.structs.replace(_PLAIN, action=action, time=now, **who)
    for key, conditions in by_key(statement).items():
        found, values = _failing(conditions, against) if against in conditions else _fitting(send, key, conditions)
        if not found:
            return None
        send = _with(send, key, values)
    return send


_PLAIN = Send(
    action="ses:SendEmail",
    from_address="someone@example.com",
    from_display_name="Someone",
    feedback_address="bounces@example.com",
    recipients=["ann@example.org"],
    source_ip="198.51.100.1",
    secure_transport=True,
)


def _fitting(send: Send, key: str, conditions: Sequence[Condition]) -> tuple[bool, Values]:
    """The time as it is where that will do; else whatever satisfies all conditions on the key."""
    if key == "aws:currenttime" and send.time is not None and satisfied(conditions, (send.time.isoformat(),)):
        return True, (send.time.isoformat(),)
    return sample(conditions)


def _failing(conditions: Sequence[Condition], against: Condition) -> tuple[bool, Values]:
    """Values that fail one condition, and satisfy the other ones on the key where that can be."""
    others = [each for each in conditions if each is not against]
    failing = [values for values in candidates(conditions) if not satisfied([against], values)]
    kept = [values for values in failing if satisfied(others, values)]
    return (True, (kept or failing)[0]) if failing else (False, None)


def _with(send: Send, key: str, values: Values) -> Send:
    if key == "ses:recipients":
        return msgspec.structs.replace(send, recipients=None if values is None else list(values))
    if key in _FIELDS:
        return msgspec.structs.replace(send, **{_FIELDS[key]: None if values is None else values[0]})
    # A field that says one thing beside a context that says another would mislead whoever looks at it.
    if key == "aws:securetransport" and values in _FLAGS:
        return msgspec.structs.replace(send, secure_transport=_FLAGS[values])
    value = None if values is None else list(values) if len(values) != 1 else values[0]
    return msgspec.structs.replace(send, context={**(send.context or {}), key: value})


def caller_of(statement: Statement) -> dict[str, str] | None:
    """The fields of a send that make one of the statement's principals its caller."""
    if statement.not_principal:
        return {"caller_account": STRANGER}
    if not statement.principals:
        return None
    kind, text = statement.principals[0]
    if kind != "AWS":
        return {"caller_service": text} if kind == "Service" else None
    if text == ANYBODY:
        return {"caller_account": STRANGER}
    if ":" in text:
        return {"caller_arn": text}
    return {"caller_account": text} if text.isdigit() else None  # a deleted principal is nobody any more


def _action(statement: Statement) -> str | None:
    return next((name for name in SENDING if names_action(statement, name)), None)
