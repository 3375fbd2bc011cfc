"""Does the caller's side allow a call: the policies of its user or role, narrowed by its session's policies.

What the other side says, an identity's, a topic's or a queue's policy, is asked where that resource is used.
"""

from collections.abc import Mapping

from broker.policies.evaluate import Decision
from broker.sandbox import iam_policy
from broker.sandbox.accounts import policies_of
from broker.sandbox.call import Call
from broker.sandbox.cloud import Cloud
from broker.sandbox.errors import AwsError, access_denied, ses_access_denied

More = Mapping[str, str | tuple[str, ...]]
"""Condition keys that only this kind of call has, by their usual spelling."""


def keys_of(cloud: Cloud, call: Call, more: More | None = None) -> dict[str, tuple[str, ...]]:
    """The condition keys of a call in lower case: the global ones and more."""
    who = call.principal
    keys: dict[str, str | tuple[str, ...]] = {
        "aws:currenttime": call.at.isoformat(),
        "aws:epochtime": str(int(call.at.timestamp())),
        "aws:sourceip": call.source_ip,
        "aws:securetransport": str(cloud.dialect.secure_transport).lower(),
        "aws:principalarn": who.role_arn or who.arn,
        "aws:principalaccount": who.account_id,
        "aws:requestedregion": call.region,
        # The default policy of a topic names its owner by this key, also for calls that no service makes.
        "aws:sourceowner": who.account_id,
    }
    if call.service in {"ses", "sesv2"}:
        keys["ses:apiversion"] = call.api_version
    merged = keys | {key.lower(): value for key, value in (more or {}).items()}
    return {key: (value,) if isinstance(value, str) else value for key, value in merged.items()}


def decision(cloud: Cloud, call: Call, action: str, resource: str, more: More | None = None) -> Decision:
    """What the caller's own policies say about an action on a resource, `*` where the action has no resource level."""
    if call.principal.kind == "admin":
        return Decision.allow
    keys, caller = keys_of(cloud, call, more), iam_policy.caller_of(call.principal)
    found = iam_policy.decide(policies_of(call.principal), action, resource, caller=caller, keys=keys)
    for policy in call.principal.session_policies:
        narrowed = iam_policy.decide([policy], action, resource, caller=caller, keys=keys)
        if Decision.explicit_deny in {found, narrowed}:
            return Decision.explicit_deny
        found = found if narrowed == Decision.allow else Decision.implicit_deny
    return found


def require(cloud: Cloud, call: Call, action: str, resource: str) -> None:
    """Raises AwsError AccessDenied, in the service's own words, unless the caller's side allows."""
    if decision(cloud, call, action, resource) != "allow":
        raise denied(call, action, resource)


def denied(call: Call, action: str, resource: str) -> AwsError:
    """The refusal of a call in the words of its service."""
    if call.service in {"ses", "sesv2"}:
        return ses_access_denied(call.principal.arn, action, resource)
    if call.service == "sns":
        message = access_denied(call.principal.arn, action.replace("sns:", "SNS:"), resource).message
        return AwsError("AuthorizationError", message, 403)
    return access_denied(call.principal.arn, action, resource)
