"""Turns agreed terms into the statements of an SES sending-authorization policy."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from broker.policies.terms import ACTION_TO_IAM, Terms

VERSION = "2012-10-17"
MAX_DOCUMENT_BYTES = 4096  # SES Developer Guide, policy-anatomy: 4 KB for one policy
BULK = "ses:SendBulkEmail"

Condition = dict[str, dict[str, str | list[str]]]
Statement = dict[str, object]


def statements(terms: Terms, *, grant_id: UUID, identity_arn: str, null_guard: bool = True) -> list[Statement]:
    """The statements that permit exactly what the terms say, on this one identity.

    There are two only where `send_bulk` stands beside address limits: SES gives SendBulkEmail no address keys, so a
    statement that limited it by address would never match; it gets one of its own with the date, IP and TLS limits, and
    the address limits hold by SendBulkTemplatedEmail, which the call needs as well. Several statements carry the
    letters a, b, … behind the grant's id, since a Sid is unique in a document (IAM User Guide,
    reference_policies_elements_sid).

    `null_guard` adds the condition that the request has recipients at all, without which `ForAllValues` is true for a
    request that has none; it is left out where SES refuses it. Terms must have passed `check`.
    """
    actions = [name for action in ACTION_TO_IAM if action in terms.actions for name in ACTION_TO_IAM[action]]
    addresses, rest = _address_conditions(terms, null_guard=null_guard), _other_conditions(terms)
    if addresses and BULK in actions:
        parts = [([name for name in actions if name != BULK], _merged(addresses, rest)), ([BULK], rest)]
    else:
        parts = [(actions, _merged(addresses, rest))]
    return [
        {
            "Sid": grant_id.hex + ("abcdefgh"[index] if len(parts) > 1 else ""),
            "Effect": "Allow",
            "Principal": {"AWS": _one_or_list(terms.principals)},
            "Action": _one_or_list(names),
            "Resource": identity_arn,
            "Condition": condition,
        }
        for index, (names, condition) in enumerate(parts)
    ]


def document(statements: Sequence[Mapping[str, object]]) -> str:
    """One policy document as canonical JSON: ASCII, no white space, the same text for the same statements."""
    return json.dumps({"Version": VERSION, "Statement": list(statements)}, separators=(",", ":"))


def grant_of(sid: str) -> UUID | None:
    """The grant whose statement carries this Sid, or None where it is not one of ours."""
    digits = sid[:32]
    if len(digits) != 32 or sid[32:] not in ("", *"abcdefgh") or set(digits) - set("0123456789abcdef"):
        return None
    return UUID(digits)


def instant(moment: datetime) -> str:
    """A time as the policy writes it, in whole seconds of UTC (W3C's profile of ISO 8601)."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def first_second(moment: datetime) -> datetime:
    """The first whole second that is not before this moment: a window never opens earlier than agreed."""
    return moment if moment.microsecond == 0 else moment.replace(microsecond=0) + timedelta(seconds=1)


def _address_conditions(terms: Terms, *, null_guard: bool) -> Condition:
    condition: Condition = {}
    for key, values in (
        ("ses:FromAddress", terms.from_addresses),
        ("ses:FromDisplayName", terms.from_display_names),
        ("ses:FeedbackAddress", terms.feedback_addresses),
    ):
        if values:
            # Both operators compare case-sensitively; only StringLike knows wildcards.
            operator = "StringLike" if any(has_wildcard(value) for value in values) else "StringEquals"
            condition.setdefault(operator, {})[key] = _one_or_list(values)
    if terms.recipients:
        condition["ForAllValues:StringLike"] = {"ses:Recipients": _one_or_list(terms.recipients)}
        if null_guard:
            condition["Null"] = {"ses:Recipients": "false"}
    return condition


def _other_conditions(terms: Terms) -> Condition:
    condition: Condition = {}
    if terms.source_ips:
        condition["IpAddress"] = {"aws:SourceIp": _one_or_list(terms.source_ips)}
    if terms.require_tls_to_ses:
        condition["Bool"] = {"aws:SecureTransport": "true"}
    if terms.not_before is not None:
        condition["DateGreaterThanEquals"] = {"aws:CurrentTime": instant(first_second(terms.not_before))}
    # Always there: the grant ends on time even when nobody is left to remove the policy.
    condition["DateLessThan"] = {"aws:CurrentTime": instant(terms.expires_at)}
    return condition


def has_wildcard(pattern: str) -> bool:
    """Whether StringLike would read anything in this pattern as a wildcard."""
    return "*" in pattern or "?" in pattern


def _merged(addresses: Condition, rest: Condition) -> Condition:
    # The two never use the same operator, so nothing can be lost here.
    return {**addresses, **rest}


def _one_or_list(values: Iterable[str]) -> str | list[str]:
    listed = list(values)
    return listed[0] if len(listed) == 1 else listed
