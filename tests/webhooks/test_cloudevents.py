"""The body as a CloudEvent, read by the SDK of those who wrote the specification."""

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from standardwebhooks import Webhook

from broker.clock import now
from broker.webhooks import signing
from broker.webhooks.events import EVENT_TYPES, Event, Shape
from broker.webhooks.render import SOURCES, TYPE_PREFIX, Party, content_type, render
from tests.webhooks.conftest import an_event
from tests.webhooks.test_render import BOUNCE, DELEGATE, OWNER

ABOUT = {
    "email": BOUNCE,
    "grant": {"grant_id": "g", "identity": "arn:aws:ses:eu-west-1:111111111111:identity/example.com"},
    "connection": {"connection_id": "c", "state": "verified"},
    "endpoint": {"endpoint_id": "p", "url": "https://hooks.example.com/"},
}


def about(type_: str, view: str = "full", **data: Any) -> Event:
    """An event of this type with what such events tell."""
    told = {**ABOUT[type_.partition(".")[0]], **data}
    return an_event(OWNER, DELEGATE, type=type_, owner_view=view, recipient_hash="ab12", data=told)


def read(event: Event, party: Party = Party.OWNER) -> BaseCloudEvent:
    """As a receiver reads it; the SDK raises for what is no CloudEvent."""
    headers = {"content-type": content_type(Shape.CLOUDEVENTS)}
    return from_structured_event(HTTPMessage(headers, render(event, party, Shape.CLOUDEVENTS)))


@pytest.mark.parametrize("view", ["full", "hashed", "none"])
@pytest.mark.parametrize("type_", sorted(EVENT_TYPES))
def test_every_event_in_every_view_is_a_cloud_event(type_: str, view: str) -> None:
    event = about(type_, view)

    found = read(event)

    known = {"specversion", "id", "source", "type", "subject", "time", "datacontenttype"}
    assert known == found.get_attributes().keys()
    assert ("1.0", str(event.id), "application/json") == (
        found.get_specversion(),
        found.get_id(),
        found.get_datacontenttype(),
    )
    assert (TYPE_PREFIX + type_, SOURCES + "broker") == (found.get_type(), found.get_source())
    assert event.at == found.get_time()


@pytest.mark.parametrize("view", ["full", "hashed", "none"])
@pytest.mark.parametrize("type_", sorted(EVENT_TYPES))
def test_both_shapes_show_the_same_data(type_: str, view: str) -> None:
    event = about(type_, view)

    standard, cloud = (json.loads(render(event, Party.OWNER, shape)) for shape in Shape)

    assert standard["data"] == cloud["data"]
    assert standard["timestamp"] == cloud["time"]


@pytest.mark.parametrize("view", ["hashed", "none"])
def test_a_narrow_view_never_holds_the_address_in_any_attribute(view: str) -> None:
    event = about("email.bounced", view, subject="Dear bob@example.org", grant_id="bob@example.org")

    assert b"bob" not in render(event, Party.OWNER, Shape.CLOUDEVENTS)


@pytest.mark.parametrize(
    ("data", "subject"),
    [
        ({"grant_id": "g", "identity": "arn:i"}, "g"),
        ({"grant_id": None, "identity": "arn:i"}, "arn:i"),
        ({"connection_id": "c"}, "c"),
        ({"endpoint_id": "p"}, "p"),
        ({"state": "active"}, None),
        ({"grant_id": ""}, None),
        ({"grant_id": "g\n"}, None),
    ],
)
def test_the_subject_is_what_the_event_is_about(data: dict[str, Any], subject: str | None) -> None:
    event = an_event(OWNER, type="grant.activated", data=data)

    assert subject == read(event).get_subject()


@pytest.mark.parametrize("source", ["broker", "broker_topic", "tenant_topic"])
def test_the_source_is_an_absolute_uri(source: str) -> None:
    event = an_event(OWNER, source=source)

    found = read(event).get_source()

    assert f"https://ses-delegation-broker.dev/sources/{source}" == found
    assert re.fullmatch(r"[a-z0-9:/.\-_]+", found)


def test_the_signature_covers_either_shape() -> None:
    event, secret = about("email.bounced"), signing.new_secret()

    for shape in Shape:
        body = render(event, Party.OWNER, shape)
        headers = signing.headers(event.id, body, at=now() - timedelta(seconds=1), keys=[secret])

        assert json.loads(body) == Webhook(signing.printable(secret)).verify(body, headers)


def test_the_content_type_tells_the_shape() -> None:
    assert ["application/json", "application/cloudevents+json; charset=utf-8"] == [content_type(one) for one in Shape]
