"""Sending authorization policies on an identity: SES version 2's four calls and version 1's four, one store.

The limit is of the Developer Guide's page "policy-anatomy".
"""

import json
import time
from typing import Any

from broker.sandbox import policy_text
from broker.sandbox.call import Call
from broker.sandbox.cloud import Cloud
from broker.sandbox.errors import AwsError
from broker.sandbox.state import Identity, PolicyVersion

MAX_POLICIES = 20


def create(cloud: Cloud, call: Call) -> dict[str, Any]:
    identity, name = _identity(cloud, call), call.params["PolicyName"]
    with cloud.state.lock:
        now = current(identity)
        text = policy_text.checked(cloud, identity, name, call.params["Policy"])
        if name in now.policies:
            raise AwsError("AlreadyExistsException", f"Policy {name} already exists.")
        if len(now.policies) >= MAX_POLICIES:
            raise AwsError("LimitExceededException", _too_many(identity))
        _store(cloud, identity, now.policies | {name: text})
    return {}


def update(cloud: Cloud, call: Call) -> dict[str, Any]:
    identity, name = _identity(cloud, call), call.params["PolicyName"]
    with cloud.state.lock:
        text = policy_text.checked(cloud, identity, name, call.params["Policy"])
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
        text = policy_text.checked(cloud, identity, name, call.params["Policy"])
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
    return {name: _shown(cloud, version, name) for name in version.policies}


def effective(cloud: Cloud, identity: Identity) -> dict[str, dict[str, Any]]:
    """The policies as a send is judged by, now."""
    version = current(identity)
    return {name: json.loads(_shown(cloud, version, name)) for name in version.policies}


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
    fresh = {name: policy_text.unique_ids(cloud, text) for name, text in policies.items() if name not in kept}
    identity.history = [*identity.history[-200:], PolicyVersion(time.monotonic(), policies, kept | fresh)]


def _shown(cloud: Cloud, version: PolicyVersion, name: str) -> str:
    text = version.policies[name]
    if not cloud.dialect.deleted_principal_as_id:
        return text
    return policy_text.with_ids(cloud, text, version.principal_ids.get(name, {}))
