"""A send that is asked about, and the condition keys that SES would find in it."""

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from broker.policies.arns import Principal, is_account_id, parse_principal, plain

Scalar = str | int | float | bool
ContextValue = Scalar | list[Scalar] | None

MAX_TEXT = 4_096  # characters of any one text of a send; the longest that mean anything have far fewer
MAX_VALUES = 1_000  # of one key; SES takes 50 recipients
MAX_TOGETHER = 65_536  # characters of all values of one key; 50 addresses have 16,000 at most (RFC 5321, 4.5.3.1)

# Which address keys SES supplies for an action, where it is not all four (Service Authorization Reference, Amazon SES
# v2).
_ADDRESS_KEYS = ("ses:fromaddress", "ses:fromdisplayname", "ses:feedbackaddress", "ses:recipients")
_SUPPLIED = {"ses:sendbulkemail": (), "ses:sendbounce": ("ses:fromaddress",)}
_PRINCIPAL_TYPES = {
    "account": "Account",
    "user": "User",
    "session": "AssumedRole",
    "role": "AssumedRole",
    "federated": "FederatedUser",
}


class Send(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"from_address": "from"}):
    """One request to SES. What is None is not in the request.

    `action` is the IAM name (`ses:SendEmail`). `caller_arn` is a user, role or session ARN, `caller_service` a service
    principal. `feedback_address` is the Return-Path. `context` adds or replaces condition keys by name; null removes
    one. A time without offset is UTC.
    """

    action: str
    caller_account: str | None = None
    caller_arn: str | None = None
    caller_service: str | None = None
    from_address: str | None = None
    from_display_name: str | None = None
    feedback_address: str | None = None
    recipients: list[str] | None = None
    time: datetime | None = None
    source_ip: str | None = None
    secure_transport: bool | None = None
    context: dict[str, ContextValue] | None = None


class Caller(msgspec.Struct, frozen=True):
    """Who asks: `chain` is every principal that this caller is, account first; a session is also its role."""

    account: str | None
    arn: str | None
    service: str | None
    chain: tuple[str, ...]


class Request(msgspec.Struct, frozen=True):
    """A send as conditions see it: `keys` maps the lower-case names of what is in it to values.

    `multivalued` are the names of those keys that hold a list, however many values are in it.
    """

    caller: Caller
    action: str
    keys: dict[str, tuple[str, ...]]
    multivalued: frozenset[str] = frozenset()

    def single(self, key: str) -> str | None:
        """The value of a key for a policy variable: "You can't use a multivalued condition key as a variable" (IAM User
        Guide, reference_policies_variables).
        """
        name = key.lower()
        values = self.keys.get(name, ())
        return values[0] if len(values) == 1 and name not in self.multivalued else None


def request_of(send: Send) -> Request:
    """Derive the condition keys of a send; ValueError where the caller contradicts itself, the action is no action or a
    text is far too long.
    """
    principal = _principal(send)
    if ":" not in send.action:
        raise ValueError(f"The action {send.action[:80]!r} is not an IAM action such as ses:SendEmail.")
    given = dict(_keys(send, principal))
    supplied = _SUPPLIED.get(send.action.lower(), _ADDRESS_KEYS)
    given |= {key: None for key in _ADDRESS_KEYS if key not in supplied}
    given |= {name.lower(): value for name, value in (send.context or {}).items()}
    keys = {name: _values(name, value) for name, value in given.items() if value is not None}
    lists = frozenset(name for name, value in given.items() if isinstance(value, list))
    return Request(_caller(send, principal), send.action, keys, lists)


def _values(name: str, value: Scalar | list[Scalar]) -> tuple[str, ...]:
    values = tuple(map(_text, value)) if isinstance(value, list) else (_text(value),)
    lengths = [*map(len, values)]
    if len(values) > MAX_VALUES or max(lengths, default=0) > MAX_TEXT or sum(lengths) > MAX_TOGETHER:
        raise ValueError(f"{name[:80]} is too long or has too many values.")
    return values


def _principal(send: Send) -> Principal | None:
    if send.caller_account is not None and not is_account_id(send.caller_account):
        raise ValueError(f"The caller's account {send.caller_account[:80]!r} is not an account id of twelve digits.")
    if send.caller_arn is None:
        return None
    principal = parse_principal(send.caller_arn)
    if send.caller_account not in (None, principal.account_id):
        raise ValueError(f"The caller {send.caller_arn!r} is not in account {send.caller_account!r}.")
    return principal


def _caller(send: Send, principal: Principal | None) -> Caller:
    account = principal.account_id if principal else send.caller_account
    chain = [account] if account else []
    if principal is not None and principal.kind != "account" and send.caller_arn:
        if principal.kind == "session":
            chain.append(_role_arn(principal))
        chain.append(plain(send.caller_arn))
    return Caller(account, send.caller_arn, send.caller_service, tuple(chain))


def _role_arn(session: Principal) -> str:
    # A session's ARN does not tell the path of its role, so a role with a path cannot be given back in full here.
    return f"arn:{session.partition}:iam::{session.account_id}:role/{session.name}"


def _principal_arn(principal: Principal, given: str | None) -> str | None:
    """What aws:PrincipalArn holds: for a session its role, for an account's root user the ARN that ends in `:root`."""
    if principal.kind == "session":
        return _role_arn(principal)
    if principal.kind == "account":
        return f"arn:{principal.partition or 'aws'}:iam::{principal.account_id}:root"
    return given


def _keys(send: Send, principal: Principal | None) -> Iterable[tuple[str, ContextValue]]:
    yield "ses:fromaddress", send.from_address
    yield "ses:fromdisplayname", send.from_display_name
    yield "ses:feedbackaddress", send.feedback_address
    yield "ses:recipients", None if send.recipients is None else [*send.recipients]
    yield "aws:sourceip", send.source_ip
    yield "aws:securetransport", send.secure_transport
    if send.time is not None:
        moment = send.time if send.time.tzinfo else send.time.replace(tzinfo=UTC)
        yield "aws:currenttime", moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
        yield "aws:epochtime", int(moment.timestamp())
    yield from _caller_keys(send, principal)


def _caller_keys(send: Send, principal: Principal | None) -> Iterable[tuple[str, ContextValue]]:
    """What IAM says about the caller (IAM User Guide, reference_policies_condition-keys)."""
    yield "aws:principalaccount", principal.account_id if principal else send.caller_account
    if principal is not None:
        yield "aws:principalarn", _principal_arn(principal, send.caller_arn)
        yield "aws:principaltype", _PRINCIPAL_TYPES[principal.kind]
        yield "aws:username", principal.name if principal.kind == "user" else None
    yield "aws:principalservicename", send.caller_service


def _text(value: Scalar) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
