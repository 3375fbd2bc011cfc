"""A delegate's own configuration set: made by the API, named by its mail, heard by both parties, and removed."""

import msgspec

from tests.journeys.conftest import MakeWorld
from tests.journeys.party import AGREED
from tests.journeys.world import World


async def with_set(world: World, grant_id: str) -> tuple[str, str]:
    """The path of the route and the name of its set, once it is set up."""
    made = await world.first.post("/v1/routes", {"grant_id": grant_id, "kind": "configuration_set"})
    path = f"/v1/routes/{made['id']}"
    route = await world.broker.reach(world.first, path, "configured", "live")
    return path, str(route["found"]["configuration_set"])


async def test_mail_that_names_the_set_is_heard_by_both_parties_as_the_terms_say(make_world: MakeWorld) -> None:
    """Only a configuration set tells of sends (Developer Guide, monitor-using-event-publishing)."""
    world = await make_world(delegates_role=True)
    feedback = {"delegate_events": ["send", "delivery", "bounce"], "owner_events": ["delivery"], "owner_view": "none"}
    grant_id = await world.activate(feedback=feedback)
    path, name = await with_set(world, grant_id)

    message_id = await world.first.send(world.arn, msgspec.structs.replace(AGREED, configuration_set=name))
    sent = await world.broker.hear(world.first, "email.sent", message_id=message_id)
    delivered = await world.broker.hear(world.first, "email.delivered", message_id=message_id)
    owners = await world.broker.hear(world.owner, "email.delivered", message_id=message_id)
    await world.conserve()

    assert {"grant_id": grant_id, "configuration_set": name, "source": "tenant_topic"}.items() <= sent.data.items()
    assert (AGREED.to, None) == (delivered.data["recipient"], owners.data["recipient"])
    assert (delivered.id, False) == (owners.id, AGREED.to in owners.body)
    assert [[], []] == [world.owner.inbox.of("email.sent"), world.second.inbox.of_grants()]
    for type_ in ("email.sent", "email.delivered"):
        assert 1 == len(world.first.inbox.of(type_, message_id=message_id))
    topic = (await world.broker.reach(world.first, path, "live"))["topic_arn"]
    assert topic.endswith(f":{name}")
    assert topic not in str(await world.owner.items("/v1/routes", grant_id=grant_id))

    assert 202 == (await world.first.http.delete(path)).status_code
    await world.broker.reach(world.first, path, "removed")
    assert [] == (await world.first.call("sesv2", "list_configuration_sets"))["ConfigurationSets"]
    assert [] == (await world.first.call("sns", "list_topics"))["Topics"]
    assert "NotFoundException" == await world.first.refusal(
        world.arn, msgspec.structs.replace(AGREED, configuration_set=name)
    )
    assert "" == await world.first.refusal(world.arn, AGREED)


async def test_the_sending_kit_names_the_set_that_the_route_has_made(make_world: MakeWorld) -> None:
    """Another of the delegate's own if it asks for that one, and a placeholder while there is none."""
    world = await make_world(delegates_role=True)
    grant_id = await world.activate()
    kit = f"/v1/grants/{grant_id}/kit"
    before = await world.first.get(kit)

    path, name = await with_set(world, grant_id)
    after, asked = await world.first.get(kit), await world.first.get(kit, configuration_set="own")
    assert 202 == (await world.first.http.delete(path)).status_code
    removed = await world.first.get(kit)

    assert ["YOUR-CONFIGURATION-SET", name, "own", "YOUR-CONFIGURATION-SET"] == [
        each["configuration_set"] for each in (before, after, asked, removed)
    ]
    (iam,) = [each["text"] for each in after["snippets"] if each["format"] == "iam"]
    assert f":configuration-set/{name}" in iam
    assert not [note for note in after["notes"] if "Replace YOUR-CONFIGURATION-SET" in note]
