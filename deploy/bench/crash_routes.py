"""Scenarios of the crash matrix about the kinds of route that a delegate asks for."""

from typing import Any

import msgspec

from bench.crash_scenarios import KINDS, Run
from bench.crash_world import DELEGATE_ACCOUNT, OWNER_ACCOUNT, Tenant, World, until
from broker.local.aws import REGION
from broker.sandbox.state import Identity, Legacy

_UP = ("configured", "live")
_TYPES = ("Bounce", "Complaint", "Delivery")


def configuration_set(run: Run) -> None:
    """A set is made, somebody changes it, it is mended; then it is removed, and nothing of it is left."""
    delegate = run.world.delegate
    grant_id, _ = _active(run)
    path, name = _made_set(run, grant_id)
    _change_by_hand(delegate, name)
    delegate.ask("POST", f"{path}/check")
    until("the set is as it was", lambda: _is_whole(delegate, name))
    delegate.wait(path, *_UP)
    run.done()
    _remove(run, delegate, path)
    until("nothing of it is left", lambda: name not in _sets(delegate) and _topic_arn(name) not in _topics(delegate))


def shared_set(run: Run) -> None:
    """A set in which the delegate has a destination of its own stays, without ours; the topic goes."""
    delegate = run.world.delegate
    grant_id, _ = _active(run)
    path, name = _made_set(run, grant_id)
    ses = delegate.aws.client("sesv2")
    own = {"Enabled": True, "MatchingEventTypes": ["SEND"], "SnsDestination": {"TopicArn": _topic(run, "own")}}
    given = {"ConfigurationSetName": name, "EventDestinationName": "own"}
    ses.create_configuration_set_event_destination(**given, EventDestination=own)
    _remove(run, delegate, path)
    until("their destination alone is left", lambda: _destinations(delegate, name) == ["own"])
    until("our topic is gone", lambda: _topic_arn(name) not in _topics(delegate))


def foreign_topic(run: Run) -> None:
    """The delegate's topics take the place of one of the owner's and of e-mail; removed, all is as it was before."""
    identity, own, grant_id = _without_ours(run)
    identity.topics["Bounce"] = own
    _take_turns(run, identity, grant_id)


def quiet_owner(run: Run) -> None:
    """The same for an owner whom SES sends no e-mail, before or after."""
    identity, own, grant_id = _without_ours(run)
    identity.topics.update({"Bounce": own, "Complaint": own})
    identity.forwarding = False
    _take_turns(run, identity, grant_id)


def _take_turns(run: Run, identity: Identity, grant_id: str) -> None:
    world, before = run.world, (dict(identity.topics), identity.forwarding)
    topic = _topic(run, "feedback", owner=OWNER_ACCOUNT)
    asked = {**{kind: {"topic_arn": topic} for kind in KINDS}, "forwarding": "off"}
    path = _make(world, {"grant_id": grant_id, "kind": "foreign_topic", "settings": asked})
    world.owner.ask("POST", f"{path}/approve", {"replace": True})
    world.delegate.wait(path, *_UP)
    run.done()
    after = (dict.fromkeys(_TYPES, topic), False)
    until("SES tells the delegate alone", lambda: (identity.topics, identity.forwarding) == after)
    _remove(run, world.owner, path)
    until("SES is as it was before", lambda: (identity.topics, identity.forwarding) == before)


def legacy(run: Run) -> None:
    """Old notifications are found and edited, one is dropped by SES and asked for again, the rest is removed."""
    world, delegate = run.world, run.world.delegate
    grant_id, name = _active(run)
    old, new = _topic(run, "old"), _topic(run, "new")
    path, held = _found(world, grant_id, name, old)
    run.done()
    delegate.ask("PATCH", f"{path}/legacy", {"bounce": {"topic_arn": new}, "complaint": {"include_headers": True}})
    until("they are changed", lambda: held.topics["Bounce"] == new and "Complaint" in held.headers_in)
    delegate.wait(path, "configured")
    run.done()
    del held.topics["Delivery"]
    delegate.ask("POST", f"{path}/check")
    until("it is told", lambda: delegate.get(path)["found"].get("gone"))
    run.done()
    _remove(run, delegate, path)
    until("none is left", lambda: not held.topics)


def migrated(run: Run) -> None:
    """Old notifications move to a configuration set; they go once a test came through it."""
    world, delegate = run.world, run.world.delegate
    grant_id, name = _active(run)
    path, held = _found(world, grant_id, name, _topic(run, "old"))
    run.done()
    made = delegate.ask("POST", f"{path}/migrate", {"to": "configuration_set"})
    run.done()
    delegate.wait(path, "removed")
    run.done()
    until("none is left", lambda: not held.topics)
    _remove(run, delegate, f"/v1/routes/{made['new_route']['id']}")


def _active(run: Run) -> tuple[str, str]:
    """The id of a grant that is active, and the name of its identity."""
    world = run.world
    name = world.next_identity()
    grant_id = world.propose(name)
    world.approve(grant_id)
    world.owner.wait(f"/v1/grants/{grant_id}", "active")
    run.done()
    return grant_id, name


def _make(world: World, asked: dict[str, Any]) -> str:
    return f"/v1/routes/{world.delegate.ask('POST', '/v1/routes', asked)['id']}"


def _remove(run: Run, tenant: Tenant, path: str) -> None:
    tenant.ask("DELETE", path)
    tenant.wait(path, "removed")
    run.done()


def _made_set(run: Run, grant_id: str) -> tuple[str, str]:
    """The path of a route that is set up, and the name of its set."""
    asked = {"grant_id": grant_id, "kind": "configuration_set", "settings": {"tls_policy": "require"}}
    path = _make(run.world, asked)
    found = run.world.delegate.wait(path, *_UP)
    run.done()
    return path, str(found["found"]["configuration_set"])


def _change_by_hand(delegate: Tenant, name: str) -> None:
    """What somebody may do to a set, to its destination and to its topic."""
    sns, ses, arn = delegate.aws.client("sns"), delegate.aws.client("sesv2"), _topic_arn(name)
    for key, value in (("SignatureVersion", "1"), ("Policy", _open_to_ses(arn, DELEGATE_ACCOUNT))):
        sns.set_topic_attributes(TopicArn=arn, AttributeName=key, AttributeValue=value)
    ses.put_configuration_set_delivery_options(ConfigurationSetName=name, TlsPolicy="OPTIONAL")
    (ours,) = _destinations(delegate, name)
    ses.delete_configuration_set_event_destination(ConfigurationSetName=name, EventDestinationName=ours)


def _is_whole(delegate: Tenant, name: str) -> bool:
    found = delegate.aws.client("sesv2").get_configuration_set(ConfigurationSetName=name)
    told = delegate.aws.client("sns").get_topic_attributes(TopicArn=_topic_arn(name))["Attributes"]
    required = found["DeliveryOptions"]["TlsPolicy"] == "REQUIRE"
    return required and told["SignatureVersion"] == "2" and len(_destinations(delegate, name)) == 1


def _destinations(delegate: Tenant, name: str) -> list[str]:
    ses = delegate.aws.client("sesv2")
    told = ses.get_configuration_set_event_destinations(ConfigurationSetName=name)["EventDestinations"]
    return [each["Name"] for each in told]


def _sets(delegate: Tenant) -> list[str]:
    found: list[str] = delegate.aws.client("sesv2").list_configuration_sets(PageSize=1000)["ConfigurationSets"]
    return found


def _topic_arn(name: str) -> str:
    return f"arn:aws:sns:{REGION}:{DELEGATE_ACCOUNT}:{name}"


def _topics(delegate: Tenant) -> list[str]:
    pages = delegate.aws.client("sns").get_paginator("list_topics").paginate()
    return [each["TopicArn"] for page in pages for each in page["Topics"]]


def _topic(run: Run, name: str, *, of: Tenant | None = None, owner: str = DELEGATE_ACCOUNT) -> str:
    """A new topic that SES may publish to on behalf of an account."""
    sns = (of or run.world.delegate).aws.client("sns")
    arn: str = sns.create_topic(Name=f"{name}-{run.dice.getrandbits(48):x}")["TopicArn"]
    sns.set_topic_attributes(TopicArn=arn, AttributeName="Policy", AttributeValue=_open_to_ses(arn, owner))
    return arn


def _open_to_ses(arn: str, account_id: str) -> str:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "ses.amazonaws.com"},
        "Action": "sns:Publish",
        "Resource": arn,
        "Condition": {"StringEquals": {"aws:SourceAccount": account_id}},
    }
    return msgspec.json.encode({"Version": "2012-10-17", "Statement": [statement]}).decode()


def _without_ours(run: Run) -> tuple[Identity, str, str]:
    """An identity of an active grant whose notifications are nobody's, a topic of its owner's, and the grant."""
    world = run.world
    grant_id, name = _active(run)
    ours = world.route(world.owner, grant_id, *_UP)
    _remove(run, world.owner, f"/v1/routes/{ours['id']}")
    identity = world.place.aws.cloud.state.identity((OWNER_ACCOUNT, REGION), name)
    if identity is None:
        raise LookupError(f"SES has no identity {name}.")
    until("SES is as it was before us", lambda: not identity.topics)
    return identity, _topic(run, "owners", of=world.owner, owner=OWNER_ACCOUNT), grant_id


def _found(world: World, grant_id: str, name: str, topic: str) -> tuple[str, Legacy]:
    """The path of a route that has found what the delegate set years ago, and what SES holds of it."""
    arn = f"arn:aws:ses:{REGION}:{OWNER_ACCOUNT}:identity/{name}"
    state = world.place.aws.cloud.state
    held = state.legacy[DELEGATE_ACCOUNT, arn] = Legacy(arn, dict.fromkeys(_TYPES, topic))
    path = _make(world, {"grant_id": grant_id, "kind": "legacy"})
    world.delegate.wait(path, "configured")
    return path, held
