"""`broker listen` beside a webhook: the same events, byte for byte, on the developer's own machine, each once."""

import asyncio
import socket
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.local.asking import Asking
from broker.local.child import StartError
from broker.local.forwarded import Forwarded
from broker.local.listen import Listener, Options, Start
from broker.local.listen_state import find_secret
from tests.journeys.conftest import MakeWorld, served
from tests.journeys.inbox import Inbox
from tests.journeys.party import Party
from tests.journeys.test_bounce import BOUNCED, with_route
from tests.journeys.world import World
from tests.local.helpers import reserved_port
from tests.webhooks.waiting import until


class Screen:
    """Remembers what it was told; presses Ctrl-C after so many events."""

    def __init__(self, stop_after: int = -1) -> None:
        self.said: list[str] = []
        self.shown: list[Forwarded] = []
        self._stop_after = stop_after

    def say(self, sentence: str) -> None:
        """A sentence."""
        self.said.append(sentence)

    def show(self, forwarded: Forwarded) -> None:
        """An event."""
        self.shown.append(forwarded)
        if len(self.shown) == self._stop_after:
            raise KeyboardInterrupt


class Developer:
    """Somebody with a tenant's key, a state directory, and a server of their own."""

    def __init__(self, world: World, party: Party, directory: Path) -> None:
        self.url = world.broker.parts.settings.public_url
        self.key = party.http.headers["authorization"].removeprefix("Bearer ")
        self.directory = directory
        self.inbox: Inbox = world.broker.inboxes.open()
        self.inbox.secret = find_secret(directory)

    async def listen(self, screen: Screen | None = None, key: str | None = None, **options: Any) -> Listener:
        """Everything that there is, forwarded; the listener is then closed."""
        wanted = Options(
            **{"target": self.inbox.url, "secret": self.inbox.secret, "directory": self.directory, **options}
        )
        with closing(Asking(self.url, key or self.key)) as api:
            with closing(await asyncio.to_thread(Listener, api, wanted, screen or Screen())) as listener:
                while await asyncio.to_thread(listener.forward_some):
                    pass
            return listener


async def after_a_bounce(make_world: MakeWorld) -> World:
    """Both parties heard of a grant's life and of one bounce."""
    world = await make_world()
    await with_route(world)
    message_id = await world.first.send(world.arn, BOUNCED)
    for party in (world.owner, world.first):
        await world.broker.hear(party, "email.bounced", message_id=message_id)
    await world.conserve()  # nothing is under way to either of them any more
    return world


def bodies(inbox: Inbox) -> dict[str, str]:
    """By event, what came in with a good signature."""
    return {heard.id: heard.body for heard in inbox.read()}


async def test_a_developer_gets_what_the_webhook_gets_byte_for_byte(make_world: MakeWorld, tmp_path: Path) -> None:
    world = await after_a_bounce(make_world)
    for name in ("owner", "first"):
        party = getattr(world, name)
        developer = Developer(world, party, tmp_path / name)

        listener = await developer.listen(start=Start.FIRST)

        events = [each["id"] for each in await party.items("/v1/events", page_size="100")]
        assert bodies(party.inbox) == bodies(developer.inbox)
        assert events == [heard.id for heard in developer.inbox.read()]
        assert (len(events), 0) == (listener.accepted, listener.refused)


async def test_only_what_is_asked_for_comes(make_world: MakeWorld, tmp_path: Path) -> None:
    world = await after_a_bounce(make_world)
    developer = Developer(world, world.first, tmp_path)

    await developer.listen(start=Start.FIRST, types=["email.*", "grant.activated"])

    assert ["grant.activated", "email.bounced"] == [heard.type for heard in developer.inbox.read()]


async def test_the_next_run_goes_on_in_the_middle_of_a_stretch(make_world: MakeWorld, tmp_path: Path) -> None:
    world = await after_a_bounce(make_world)
    developer = Developer(world, world.first, tmp_path)

    with pytest.raises(KeyboardInterrupt):
        await developer.listen(Screen(stop_after=2), start=Start.FIRST)
    second = await developer.listen()

    events = [each["id"] for each in await world.first.items("/v1/events", page_size="100")]
    assert len(events) > 3
    assert events == [heard.id for heard in developer.inbox.read()]
    assert (True, len(events) - 2) == (second.resumed, second.accepted)


async def test_the_first_run_begins_now(make_world: MakeWorld, tmp_path: Path) -> None:
    world = await after_a_bounce(make_world)
    developer = Developer(world, world.first, tmp_path)
    first = await developer.listen()

    message_id = await world.first.send(world.arn, BOUNCED)
    await world.broker.hear(world.first, "email.bounced", message_id=message_id)
    second = await developer.listen()

    [heard] = developer.inbox.read()
    assert (False, 0, True) == (first.resumed, first.accepted, second.resumed)
    assert message_id == heard.data["message_id"]


async def test_a_run_may_begin_anew_now_or_at_a_time(make_world: MakeWorld, tmp_path: Path) -> None:
    world = await after_a_bounce(make_world)
    developer = Developer(world, world.first, tmp_path)

    counts = [
        (await developer.listen(start=start)).accepted
        for start in (Start.FIRST, Start.NOW, datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC))
    ]

    events = len(await world.first.items("/v1/events", page_size="100"))
    assert [events, 0, events, 0] == counts


async def test_events_wait_until_the_developers_server_is_up(make_world: MakeWorld, tmp_path: Path) -> None:
    world = await after_a_bounce(make_world)
    developer, screen = Developer(world, world.first, tmp_path), Screen()
    path = developer.inbox.url.removeprefix(world.broker.inboxes.url)

    with reserved_port() as port:
        listening = asyncio.create_task(
            developer.listen(screen, target=f"http://localhost:{port}{path}", start=Start.FIRST, types=["email.*"])
        )
        await until(lambda: bool(screen.said), seconds=30)
        with socket.create_server(("127.0.0.1", port)) as server:
            async with served(world.broker.inboxes, server):
                await listening

    assert [f"Nothing listens at http://localhost:{port} (Connection refused); waiting for it."] == screen.said
    assert [(200, "email.bounced")] == [(each.status, each.type) for each in screen.shown]
    assert 1 == len(developer.inbox.read())


async def test_what_is_not_accepted_is_shown_and_not_sent_again(make_world: MakeWorld, tmp_path: Path) -> None:
    world = await after_a_bounce(make_world)
    developer, screen = Developer(world, world.first, tmp_path), Screen()
    nowhere = f"{world.broker.inboxes.url}/nowhere"

    first = await developer.listen(screen, target=nowhere, start=Start.FIRST, types=["email.*"])
    second = await developer.listen(screen, target=nowhere)

    assert [404] == [each.status for each in screen.shown if each.type == "email.bounced"][:1]
    assert (0, 1, 0) == (first.accepted, first.refused, second.accepted + second.refused)


async def test_reading_is_all_that_the_key_must_allow(make_world: MakeWorld, tmp_path: Path) -> None:
    world = await after_a_bounce(make_world)
    developer = Developer(world, world.first, tmp_path)
    reads, writes = [
        (await world.first.post("/v1/api-keys", {"name": scope, "scopes": [scope]}))["secret"]
        for scope in ("read", "write")
    ]

    listener = await developer.listen(key=reads, start=Start.FIRST, types=["email.*"])
    with pytest.raises(StartError, match="answers 403 to GET /v1/tenant: This API key lacks the scope read"):
        await developer.listen(key=writes)
    with pytest.raises(StartError, match="does not accept this key"):
        await developer.listen(key="sdb_nobody")

    assert 1 == listener.accepted


@pytest.mark.parametrize("since", ["2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00", "yesterday"])
async def test_the_feed_refuses_a_time_that_it_cannot_compare(make_world: MakeWorld, since: str) -> None:
    world = await make_world()

    answer = await world.first.http.get("/v1/events", params={"since": since})

    assert 400 == answer.status_code, answer.text
