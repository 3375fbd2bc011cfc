"""The control API under `/_sandbox/`: what no AWS API offers, for the demo and the tests. Not part of AWS."""

from collections.abc import Callable
from typing import Any

import msgspec

from broker.sandbox import notifications, synthetic
from broker.sandbox.answers import Answer
from broker.sandbox.cloud import Cloud
from broker.sandbox.dialect import Dialect
from broker.sandbox.errors import AwsError
from broker.sandbox.faults import Fault

PREFIX = "/_sandbox/"


class Opened(msgspec.Struct, forbid_unknown_fields=True):
    account_id: str


class Verified(msgspec.Struct, forbid_unknown_fields=True):
    account_id: str
    region: str
    identity: str


class Attached(msgspec.Struct, forbid_unknown_fields=True):
    """Cross-account notifications as an account could attach them years ago; types are Bounce, Complaint, Delivery."""

    account_id: str
    identity_arn: str
    topics: dict[notifications.Type, str]
    headers_in: set[notifications.Type] = msgspec.field(default_factory=set)


class Production(msgspec.Struct, forbid_unknown_fields=True):
    account_id: str
    region: str
    enabled: bool = True


def answer(cloud: Cloud, route: tuple[str, str], query: dict[str, str], body: bytes) -> Answer:
    """`route` is method and path below the prefix. Bad bodies are 400 with a sentence, unknown routes 404."""
    handler = _ROUTES.get(route)
    if handler is None:
        return _json(404, {"error": f"There is no {route[0]} {PREFIX}{route[1]}"})
    try:
        return _json(200, handler(cloud, query, body))
    except (msgspec.MsgspecError, AwsError) as error:
        return _json(400, {"error": str(error)})


def _json(status: int, found: Any) -> Answer:
    return status, {"Content-Type": "application/json"}, msgspec.json.encode(found)


def _health(_cloud: Cloud, _query: dict[str, str], _body: bytes) -> Any:
    return {"ok": True}


def _open_account(cloud: Cloud, _query: dict[str, str], body: bytes) -> Any:
    made = cloud.accounts.open(msgspec.json.decode(body, type=Opened).account_id)
    return {"access_key_id": made.access_key_id, "secret_access_key": made.secret_access_key, "arn": made.principal.arn}


def _verify_identity(cloud: Cloud, _query: dict[str, str], body: bytes) -> Any:
    given = msgspec.json.decode(body, type=Verified)
    cloud.accounts.open(given.account_id)
    identity = cloud.state.add_identity((given.account_id, given.region), given.identity, verified=True)
    return {"arn": identity.arn}


def _set_production(cloud: Cloud, _query: dict[str, str], body: bytes) -> Any:
    given = msgspec.json.decode(body, type=Production)
    place = (given.account_id, given.region)
    (cloud.state.production.add if given.enabled else cloud.state.production.discard)(place)
    return {"enabled": given.enabled}


def _attach_legacy(cloud: Cloud, _query: dict[str, str], body: bytes) -> Any:
    given = msgspec.json.decode(body, type=Attached)
    notifications.attach_legacy(cloud, given.account_id, given.identity_arn, given.topics, given.headers_in)
    return {"attached": sorted(given.topics)}


def _get_dialect(cloud: Cloud, _query: dict[str, str], _body: bytes) -> Any:
    return cloud.dialect


def _patch_dialect(cloud: Cloud, _query: dict[str, str], body: bytes) -> Any:
    changed = msgspec.to_builtins(cloud.dialect) | msgspec.json.decode(body, type=dict[str, Any])
    cloud.dialect = msgspec.convert(changed, type=Dialect)
    return cloud.dialect


def _add_fault(cloud: Cloud, _query: dict[str, str], body: bytes) -> Any:
    cloud.faults.add(msgspec.json.decode(body, type=Fault))
    return cloud.faults.listed()


def _clear_faults(cloud: Cloud, _query: dict[str, str], _body: bytes) -> Any:
    cloud.faults.clear()
    return []


def _list_faults(cloud: Cloud, _query: dict[str, str], _body: bytes) -> Any:
    return cloud.faults.listed()


def _carry_out_late(cloud: Cloud, _query: dict[str, str], _body: bytes) -> Any:
    return {"carried_out": cloud.faults.carry_out_late()}


def _mailbox(cloud: Cloud, query: dict[str, str], _body: bytes) -> Any:
    wanted = query.get("recipient")
    with cloud.state.lock:
        return [mail for mail in cloud.state.mailbox if wanted is None or wanted in mail.recipients]


def _published(cloud: Cloud, query: dict[str, str], _body: bytes) -> Any:
    with cloud.state.lock:
        return [each for each in cloud.state.published if all(getattr(each, key, None) == query[key] for key in query)]


def _calls(cloud: Cloud, query: dict[str, str], _body: bytes) -> Any:
    with cloud.state.lock:
        return [each for each in cloud.state.calls if all(getattr(each, key, None) == query[key] for key in query)]


def _make_event(cloud: Cloud, _query: dict[str, str], body: bytes) -> Any:
    return synthetic.publish(cloud, msgspec.json.decode(body, type=synthetic.Event))


_Handler = Callable[[Cloud, dict[str, str], bytes], Any]
_ROUTES: dict[tuple[str, str], _Handler] = {
    ("GET", "health"): _health,
    ("POST", "accounts"): _open_account,
    ("POST", "identities"): _verify_identity,
    ("POST", "production"): _set_production,
    ("POST", "legacy"): _attach_legacy,
    ("GET", "dialect"): _get_dialect,
    ("PATCH", "dialect"): _patch_dialect,
    ("POST", "faults"): _add_fault,
    ("GET", "faults"): _list_faults,
    ("DELETE", "faults"): _clear_faults,
    ("POST", "late"): _carry_out_late,
    ("POST", "events"): _make_event,
    ("GET", "mailbox"): _mailbox,
    ("GET", "published"): _published,
    ("GET", "calls"): _calls,
}
