"""The Security Token Service: who am I, and assuming roles under their trust policies."""

import json
import re
from datetime import timedelta
from typing import Any

from broker.sandbox import arns, authorize, iam_policy
from broker.sandbox.accounts import managed_policy, role_named
from broker.sandbox.call import Call
from broker.sandbox.cloud import Cloud
from broker.sandbox.errors import AwsError, access_denied

ACTION = "sts:AssumeRole"
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
        raise access_denied(call.principal.arn, ACTION, wanted)
    lifetime = timedelta(seconds=call.params.get("DurationSeconds", 3600))
    longest = _CHAINED if call.principal.kind == "role" else timedelta(seconds=int(role.max_session_duration or 3600))
    if not timedelta(minutes=15) <= lifetime <= longest:
        raise AwsError(
            "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
        )
    policies = ((call.params["Policy"],) if "Policy" in call.params else ()) + _by_arn(call)
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


def _by_arn(call: Call) -> tuple[str, ...]:
    """The managed policies that a session is narrowed by; as one document, for they allow together."""
    arns_given = [each["arn"] for each in call.params.get("PolicyArns", [])]
    if not arns_given:
        return ()
    statements = [part for arn in arns_given for part in json.loads(managed_policy(arn))["Statement"]]
    return (json.dumps({"Version": "2012-10-17", "Statement": statements}),)


def _check_policy(text: str) -> None:
    try:
        iam_policy.read(text)
    except ValueError as error:
        raise AwsError("MalformedPolicyDocument", "The policy is not in the valid JSON format.") from error
    if len(text) > 2048:
        raise AwsError("PackedPolicyTooLarge", "Packed policy consumes more than 100% of allotted space.")


def _trusted(cloud: Cloud, call: Call, role: Any, *, same_account: bool) -> bool:
    """The role's trust policy must name the caller, and the caller's own policies must allow the call as well.

    Only in the role's own account is it enough that the trust policy names the user or role itself.
    """
    more = {"sts:ExternalId": call.params["ExternalId"]} if "ExternalId" in call.params else {}
    own = authorize.decision(cloud, call, ACTION, role.arn, more)
    keys = authorize.keys_of(cloud, call, more)
    caller = iam_policy.caller_of(call.principal)
    trust = role.assume_role_policy_document
    if own == "explicit_deny" or iam_policy.decide([trust], ACTION, role.arn, caller=caller, keys=keys) != "allow":
        return False
    direct = same_account and iam_policy.decide([_without_accounts(trust)], ACTION, role.arn, caller=caller, keys=keys)
    return own == "allow" or direct == "allow"


def _without_accounts(trust: str) -> str:
    """The trust policy with only the users and roles that it names themselves."""
    document = json.loads(trust)
    for statement in document["Statement"] if isinstance(document["Statement"], list) else [document["Statement"]]:
        named = statement["Principal"].get("AWS", []) if isinstance(statement.get("Principal"), dict) else []
        direct = [each for each in ([named] if isinstance(named, str) else named) if "/" in each]
        statement["Principal"] = {"AWS": direct}
    return json.dumps(document)
