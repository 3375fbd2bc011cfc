"""The Security Token Service: who am I, and assuming roles under their trust policies."""

import re
from datetime import timedelta
from typing import Any

from broker.sandbox import arns, authorize, iam_policy
from broker.sandbox.accounts import role_named
from broker.sandbox.call import Call, Principal
from broker.sandbox.cloud import Cloud
from broker.sandbox.errors import AwsError, access_denied

_CHAINED = timedelta(hours=1)
"""Longest session that a session may open (IAM User Guide, role chaining)."""

_PATTERNS = {
    "RoleSessionName": r"[\w+=,.@-]{2,64}",
    "ExternalId": r"[\w+=,.@:/-]{2,1224}",
}


def get_caller_identity(_cloud: Cloud, call: Call) -> dict[str, Any]:
    who = call.principal
    return {"UserId": who.user_id, "Account": who.account_id, "Arn": who.arn}


def assume_role(cloud: Cloud, call: Call) -> dict[str, Any]:
    """Missing role, missing trust and wrong ExternalId are the same AccessDenied on purpose."""
    _check_shape(call)
    wanted = call.params["RoleArn"]
    role = role_named(wanted)
    same_account = arns.parse(wanted).account_id == call.account_id
    if role is None or not _trusted(cloud, call, role, same_account=same_account):
        raise access_denied(call.principal.arn, "sts:AssumeRole", wanted)
    lifetime = timedelta(seconds=call.params.get("DurationSeconds", 3600))
    longest = _CHAINED if call.principal.kind == "role" else timedelta(seconds=int(role.max_session_duration or 3600))
    if not timedelta(minutes=15) <= lifetime <= longest:
        raise AwsError("ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
    policies = (call.params["Policy"],) if "Policy" in call.params else ()
    name = call.params["RoleSessionName"]
    session = cloud.accounts.open_session(role, name, policies=policies, lifetime=lifetime, now=call.at)
    return {
        "Credentials": {
            "AccessKeyId": session.access_key_id,
            "SecretAccessKey": session.secret_access_key,
            "SessionToken": session.token,
            "Expiration": session.expires_at,
        },
        "AssumedRoleUser": {"AssumedRoleId": session.principal.user_id, "Arn": session.principal.arn},
        "PackedPolicySize": 1,
    }


def _check_shape(call: Call) -> None:
    for name, pattern in _PATTERNS.items():
        value = call.params.get(name)
        if value is not None and not re.fullmatch(pattern, value, re.ASCII):
            sentence = f"Value '{value}' at '{name[0].lower()}{name[1:]}' failed to satisfy constraint: {pattern}"
            raise AwsError("ValidationError", f"1 validation error detected: {sentence}")
    if "Policy" in call.params:
        _check_policy(call.params["Policy"])


def _check_policy(text: str) -> None:
    try:
        iam_policy.decide([text], "sts:GetCallerIdentity", "*", context={}, caller=iam_policy.anybody)
    except (ValueError, AttributeError, KeyError) as error:
        raise AwsError("MalformedPolicyDocument", "The policy is not in the valid JSON format.") from error
    if len(text) > 2048:
        raise AwsError("PackedPolicyTooLarge", "Packed policy consumes more than 100% of allotted space.")


def _trusted(cloud: Cloud, call: Call, role: Any, *, same_account: bool) -> bool:
    """The role's trust policy must name the caller; from another account its own policies must allow the call as well."""
    more = {"sts:ExternalId": call.params["ExternalId"]} if "ExternalId" in call.params else {}
    own = authorize.decision(cloud, call, "sts:AssumeRole", role.arn, more)
    context = authorize.context_of(cloud, call, more)
    trust = [role.assume_role_policy_document]
    named = iam_policy.names(*identifiers(call.principal))
    by_account = iam_policy.decide(trust, "sts:AssumeRole", role.arn, context=context, caller=named)
    if by_account != "allow" or own == "explicit_deny":
        return False
    directly = iam_policy.names(*identifiers(call.principal, account=False))
    if same_account and iam_policy.decide(trust, "sts:AssumeRole", role.arn, context=context, caller=directly) == "allow":
        return True
    return own == "allow"


def identifiers(who: Principal, *, account: bool = True) -> list[str]:
    """The names under which a policy's Principal element may mean this caller."""
    partition = arns.parse(who.arn).partition
    found = [who.arn]
    if who.kind == "role":
        found.append(_role_arn(who, partition))
    if account:
        found += [who.account_id, f"arn:{partition}:iam::{who.account_id}:root"]
    return found


def _role_arn(who: Principal, partition: str) -> str:
    return f"arn:{partition}:iam::{who.account_id}:role/{who.name}"
