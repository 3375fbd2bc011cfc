"""Sending authorization policies on an identity: SES version 2's four calls and version 1's four, one store.

Texts of refusals are those that users report and emulators compared with AWS; the limits are of the Developer Guide's
page "policy-anatomy".
"""

import json
import re
import time
from collections.abc import Callable
from typing import Any

from broker.policies.validate import refusals
from broker.sandbox import arns
from broker.sandbox.call import Call
from broker.sandbox.cloud import Cloud
from broker.sandbox.errors import AwsError
from broker.sandbox.state import Identity, PolicyVersion

MAX_POLICIES = 20
MAX_BYTES = 4096


def create(cloud: Cloud, call: Call) -> dict[str, Any]:
    identity, name = _identity(cloud, call), call.params["PolicyName"]
    with cloud.state.lock:
        now = current(identity)
        text = _checked(cloud, identity, name, call.params["Policy"])
        if name in now.policies:
            raise AwsError("AlreadyExistsException", f"Policy {name} already exists.")
        if len(now.policies) >= MAX_POLICIES:
            raise AwsError("LimitExceededException", _too_many(identity))
        _store(cloud, identity, now.policies | {name: text})
    return {}


def update(cloud: Cloud, call: Call) -> dict[str, Any]:
    identity, name = _identity(cloud, call), call.params["PolicyName"]
    with cloud.state.lock:
        text = _checked(cloud, identity, name, call.params["Policy"])
        if _present(cloud, identity, name):
            _store(cloud, identity, current(identity).policies | {name: text})
    return {}


def delete(cloud: Cloud, call: Call) -> dict[str, Any]:
    identity, name = _identity(cloud, call), call.params["PolicyName"]
    with cloud.state.lock:
        if _present(cloud, identity, name):
            _store(cloud, identity, _without(identity, name))
    return {}


def get_all(cloud: Cloud, call: Call) -> dict[str, Any]:
    return {"Policies": readable(cloud, _identity(cloud, call))}


def put_v1(cloud: Cloud, call: Call) -> dict[str, Any]:
    """Version 1 overwrites silently."""
    identity, name = _identity_v1(cloud, call), call.params["PolicyName"]
    if identity is None:
        raise AwsError("InvalidParameterValue", f"Identity {call.params['Identity']} does not exist.")
    with cloud.state.lock:
        text = _checked(cloud, identity, name, call.params["Policy"])
        policies = current(identity).policies | {name: text}
        if len(policies) > MAX_POLICIES:
            raise AwsError("InvalidParameterValue", _too_many(identity))
        _store(cloud, identity, policies)
    return {}


def delete_v1(cloud: Cloud, call: Call) -> dict[str, Any]:
    if identity := _identity_v1(cloud, call):
        with cloud.state.lock:
            _store(cloud, identity, _without(identity, call.params["PolicyName"]))
    return {}


def get_v1(cloud: Cloud, call: Call) -> dict[str, Any]:
    """Names that do not exist are just absent from the answer."""
    wanted = call.params["PolicyNames"]
    if len(wanted) > MAX_POLICIES:
        raise AwsError("InvalidParameterValue", f"PolicyNames may hold at most {MAX_POLICIES} names.")
    identity = _identity_v1(cloud, call)
    found = readable(cloud, identity) if identity else {}
    return {"Policies": {name: text for name, text in found.items() if name in wanted}}


def list_v1(cloud: Cloud, call: Call) -> dict[str, Any]:
    identity = _identity_v1(cloud, call)
    return {"PolicyNames": sorted(readable(cloud, identity)) if identity else []}


def current(identity: Identity) -> PolicyVersion:
    return identity.history[-1]


def readable(cloud: Cloud, identity: Identity) -> dict[str, str]:
    """The policies as a read shows them: perhaps of a while ago, with deleted principals as unique ids."""
    horizon = time.monotonic() - cloud.dialect.stale_reads_seconds
    version = next((each for each in reversed(identity.history) if each.since <= horizon), identity.history[0])
    return {name: _with_ids(cloud, version, name) for name in version.policies}


def effective(cloud: Cloud, identity: Identity) -> dict[str, dict[str, Any]]:
    """The policies as a send is judged by, now."""
    version = current(identity)
    return {name: json.loads(_with_ids(cloud, version, name)) for name in version.policies}


def _identity(cloud: Cloud, call: Call) -> Identity:
    name = call.params["EmailIdentity"]
    if (identity := cloud.state.identity((call.account_id, call.region), name)) is None:
        raise AwsError("NotFoundException", f"Email identity {name} does not exist.", 404)
    return identity


def _identity_v1(cloud: Cloud, call: Call) -> Identity | None:
    """By name or ARN. Version 1 answers for unknown identities as for those without policies."""
    name = call.params["Identity"].rpartition(":identity/")[2]
    return cloud.state.identity((call.account_id, call.region), name)


def _present(cloud: Cloud, identity: Identity, name: str) -> bool:
    if name in current(identity).policies:
        return True
    if cloud.dialect.missing_policy_status == 404:
        raise AwsError("NotFoundException", f"Policy {name} does not exist.", 404)
    return False


def _without(identity: Identity, name: str) -> dict[str, str]:
    return {key: text for key, text in current(identity).policies.items() if key != name}


def _too_many(identity: Identity) -> str:
    return f"Number of policies for {identity.name} exceeds max allowed {MAX_POLICIES}."


def _store(cloud: Cloud, identity: Identity, policies: dict[str, str]) -> None:
    before = current(identity)
    kept = {name: ids for name, ids in before.principal_ids.items() if policies.get(name) is before.policies.get(name)}
    fresh = {name: _unique_ids(cloud, text) for name, text in policies.items() if name not in kept}
    identity.history = [*identity.history[-200:], PolicyVersion(time.monotonic(), policies, kept | fresh)]


def _unique_ids(cloud: Cloud, text: str) -> dict[str, str]:
    named = [arn for arn in _principals(json.loads(text)) if arn.startswith("arn:") and _holder(arn)]
    found = {arn: cloud.accounts.unique_id(_holder(arn)) for arn in named}
    return {arn: unique_id for arn, unique_id in found.items() if unique_id}


def _checked(cloud: Cloud, identity: Identity, name: str, text: str) -> str:
    """The text as SES keeps it, without insignificant whitespace. Raises AwsError InvalidPolicy and its like."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        sentence = "Policy names must only include alpha-numeric characters, dashes, and underscores."
        raise AwsError("InvalidParameterValue", f"PolicyName is invalid. {sentence}")
    if len(text.encode()) > MAX_BYTES:
        raise AwsError("InvalidPolicy", "Policy size exceeds the maximum allowed.")
    if found := refusals(text, identity_arn=identity.arn, name=name):
        raise AwsError("InvalidPolicy", found[0])
    document = json.loads(text)
    _check_dialect(cloud, document)
    for principal in _principals(document):
        if not _known(cloud, principal):
            raise AwsError("InvalidPolicy", f"Invalid principal in policy: {principal}")
    if cloud.dialect.bare_account_as_root:
        _rewrite(
            document, lambda each: f"arn:{arns.partition_of(identity.region)}:iam::{each}:root" if _bare(each) else each
        )
    return _compact(document)


def _check_dialect(cloud: Cloud, document: Any) -> None:
    statements = _list(document["Statement"])
    if cloud.dialect.null_guard_refused and any("Null" in each.get("Condition", {}) for each in statements):
        raise AwsError("InvalidPolicy", "Unknown or unapplicable condition operator 'Null'")
    actions = {action.lower() for each in statements for action in _list(each.get("Action", []))}
    if cloud.dialect.send_bulk_refused and "ses:sendbulkemail" in actions:
        raise AwsError("InvalidPolicy", "Unknown action 'ses:SendBulkEmail'")
    roles = [each for each in _principals(document) if ":role/" in each or ":assumed-role/" in each]
    if cloud.dialect.role_principal_refused and roles:
        raise AwsError("InvalidPolicy", f"Invalid principal in policy: {roles[0]}")


def _known(cloud: Cloud, principal: str) -> bool:
    """Accounts exist once the control API has opened them; users and roles once IAM has made them."""
    if principal == "*" or principal.startswith(("AIDA", "AROA")):
        return True
    if _bare(principal):
        return cloud.accounts.exists(principal)
    named = arns.parse(principal)
    if named.resource == "root":
        return cloud.accounts.exists(named.account_id)
    return cloud.accounts.unique_id(_holder(principal)) is not None


def _bare(principal: str) -> bool:
    return len(principal) == 12 and principal.isdigit()


def _holder(principal: str) -> str:
    """The user or role that a principal stands or falls with; empty for accounts."""
    named = arns.parse(principal)
    if named.resource.startswith("assumed-role/"):
        role = named.resource.split("/")[1]
        return f"arn:{named.partition}:iam::{named.account_id}:role/{role}"
    return "" if named.resource == "root" else principal


def _with_ids(cloud: Cloud, version: PolicyVersion, name: str) -> str:
    text, ids = version.policies[name], version.principal_ids.get(name, {})
    if not cloud.dialect.deleted_principal_as_id:
        return text
    gone = {arn: each for arn, each in ids.items() if cloud.accounts.unique_id(_holder(arn)) != each}
    if not gone:
        return text
    document = json.loads(text)
    _rewrite(document, lambda each: gone.get(each, each))
    return _compact(document)


def _compact(document: Any) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _principals(document: Any) -> list[str]:
    parts = (each.get(key, {}) for each in _list(document["Statement"]) for key in ("Principal", "NotPrincipal"))
    return [each for part in parts if isinstance(part, dict) for each in _list(part.get("AWS", []))]


def _rewrite(document: Any, change: Callable[[str], str]) -> None:
    """Changes every AWS principal in place, keeping strings strings and lists lists."""
    for statement in _list(document["Statement"]):
        for key in ("Principal", "NotPrincipal"):
            part = statement.get(key)
            if isinstance(part, dict) and "AWS" in part:
                named = part["AWS"]
                part["AWS"] = [change(each) for each in named] if isinstance(named, list) else change(named)
