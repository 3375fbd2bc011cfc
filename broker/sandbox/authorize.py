"""Does the caller's side allow a call: the policies of its user or role, narrowed by its session's policies.

What the other side says, an identity's, a topic's or a queue's policy, is asked where that resource is used.
"""

from collections.abc import Mapping

from broker.sandbox import iam_policy
from broker.sandbox.accounts import policies_of
from broker.sandbox.call import Call
from broker.sandbox.cloud import Cloud
from broker.sandbox.errors import AwsError, access_denied, ses_access_denied


def context_of(cloud: Cloud, call: Call, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The global condition keys of a call, in lower case, and more of the same kind."""
    who = call.principal
    context = {
        "aws:currenttime": call.at.isoformat(),
        "aws:epochtime": str(int(call.at.timestamp())),
        "aws:sourceip": call.source_ip,
        "aws:securetransport": str(cloud.dialect.secure_transport).lower(),
        "aws:principalarn": who.arn,
        "aws:principalaccount": who.account_id,
        "aws:requestedregion": call.region,
        "aws:sourceowner": who.account_id,
    }
    if call.service in {"ses", "sesv2"}:
        context["ses:apiversion"] = call.api_version
    return context | {key.lower(): value for key, value in (more or {}).items()}


def decision(cloud: Cloud, call: Call, action: str, resource: str, more: Mapping[str, str] | None = None) -> iam_policy.Decision:
    """What the caller's own policies say about an action on a resource, `*` where the action has no resource level."""
    if call.principal.kind == "admin":
        return "allow"
    context = context_of(cloud, call, more)
    own = iam_policy.decide(policies_of(call.principal), action, resource, context=context, caller=iam_policy.anybody)
    for policy in call.principal.session_policies:
        narrowed = iam_policy.decide([policy], action, resource, context=context, caller=iam_policy.anybody)
        if narrowed != "allow":
            return "explicit_deny" if "explicit_deny" in {own, narrowed} else "implicit_deny"
    return own


def require(cloud: Cloud, call: Call, action: str, resource: str) -> None:
    """Raises AwsError AccessDenied, in the service's own words, unless the caller's side allows."""
    if decision(cloud, call, action, resource) != "allow":
        raise denied(call, action, resource)


def denied(call: Call, action: str, resource: str) -> AwsError:
    """The refusal of a call in the words of its service."""
    if call.service in {"ses", "sesv2"}:
        return ses_access_denied(call.principal.arn, action, resource)
    error = access_denied(call.principal.arn, action, resource)
    if call.service == "sns":
        return AwsError("AuthorizationError", error.message, 403)
    return error
