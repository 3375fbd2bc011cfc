"""A hostile delegate publishes to its own topic whatever it likes: nobody else ever hears of it."""

from typing import Any

import msgspec
import pytest
from sqlalchemy import text

from broker.caller import Caller
from broker.crypto import Keyring
from broker.db import Database
from broker.feedback.ingest import Ingest, Tally
from broker.feedback.models import Route, Topic
from broker.feedback.reasons import Reason
from broker.ids import new_id
from tests.feedback.conftest import SECOND_ACCOUNT, Savepoint, World, arrived, as_envelope, make_world
from tests.feedback.examples import DELEGATE_ACCOUNT, OWNER_ACCOUNT, bounce, mail, notified
from tests.feedback.sns import NOW, notification

SET = "agency"


class Hostile(msgspec.Struct, frozen=True):
    """A world whose first delegate has a topic of its own, for the configuration set of a route."""

    world: World
    victims: World
    topic_arn: str

    def says(self, payload: object) -> Any:
        return as_envelope(notification(payload, TopicArn=self.topic_arn))

    def bounce(self, **changes: Any) -> dict[str, Any]:
        """One that is true, but for the changes."""
        tags = {"ses:configuration-set": [SET]}
        return {
            "eventType": "Bounce",
            "bounce": bounce(),
            "mail": mail(**{"sourceArn": self.world.identity_arn, "tags": tags} | changes),
        }

    async def heard(self) -> dict[str, int]:
        """How many events each tenant can read."""
        one, other = self.world, self.victims
        parties = {
            "owner": one.owner,
            "delegate": one.delegate,
            "second": one.second,
            "other owner": other.owner,
            "other delegate": other.delegate,
        }
        return {name: len(await one.events(caller)) for name, caller in parties.items()}


async def add_topic(world: World, tenant: Caller, **values: Any) -> str:
    topic = Topic(
        id=new_id(),
        tenant_id=tenant.tenant,
        region="eu-west-1",
        source="tenant_topic",
        state="confirmed",
        **{"arn": f"arn:aws:sns:eu-west-1:{DELEGATE_ACCOUNT}:t{new_id().hex}", "accounts": []} | values,
    )
    async with world.db.begin(tenant) as session:
        session.add(topic)
        await session.flush()
        return topic.arn or ""


@pytest.fixture
async def hostile(db: Database) -> Hostile:
    world, victims = await make_world(db), await make_world(db, delegate_account="555555555555")
    return Hostile(world, victims, await add_topic(world, world.delegate, configuration_set=SET))


async def take(hostile: Hostile, keyring: Keyring, *payloads: object) -> Tally:
    batch = [hostile.says(payload) for payload in payloads]
    return await Ingest(Savepoint(hostile.world.db), keyring).take(arrived(*batch), now=NOW)


async def test_what_is_true_is_heard_by_both_and_says_where_it_comes_from(hostile: Hostile, keyring: Keyring) -> None:
    assert Tally(stored=1) == await take(hostile, keyring, hostile.bounce())

    (event,) = await hostile.world.events(hostile.world.owner)
    assert ("tenant_topic", "tenant_topic") == (event.source, event.data["source"])
    assert {"owner": 1, "delegate": 1, "second": 0, "other owner": 0, "other delegate": 0} == await hostile.heard()


FORGED: dict[str, tuple[dict[str, Any], Reason]] = {
    "another account": ({"sendingAccountId": SECOND_ACCOUNT}, Reason.foreign_account),
    "the owner's account": ({"sendingAccountId": OWNER_ACCOUNT}, Reason.foreign_account),
    "an account in a list": ({"sendingAccountId": [DELEGATE_ACCOUNT]}, Reason.no_sender),
    "an account that is a number": ({"sendingAccountId": int(DELEGATE_ACCOUNT)}, Reason.no_sender),
    "no account": ({"sendingAccountId": None}, Reason.no_sender),
    "no identity": ({"sourceArn": None}, Reason.no_sender),
    "an identity in an object": ({"sourceArn": {"arn": "x"}}, Reason.no_sender),
    "an identity of nobody": ({"sourceArn": "arn:aws:ses:eu-west-1:999999999999:identity/x.example"}, Reason.no_grant),
    "another set": ({"tags": {"ses:configuration-set": ["other"]}}, Reason.foreign_set),
    "no set": ({"tags": {}}, Reason.foreign_set),
    "a set that comes second": ({"tags": {"ses:configuration-set": ["other", SET]}}, Reason.foreign_set),
    "tags that are a list": ({"tags": [SET]}, Reason.foreign_set),
    "mail of tomorrow": ({"timestamp": "2026-01-06T12:00:00Z"}, Reason.future_mail),
    "no time": ({"timestamp": ["2026-01-05T12:00:00Z"]}, Reason.no_mail),
    "no message": ({"messageId": {"id": "x"}}, Reason.no_mail),
}


@pytest.mark.parametrize("name", FORGED)
async def test_what_is_forged_is_heard_by_nobody(hostile: Hostile, keyring: Keyring, name: str) -> None:
    changes, reason = FORGED[name]

    assert Tally(quarantined=1) == await take(hostile, keyring, hostile.bounce(**changes))
    assert {0} == set((await hostile.heard()).values())
    async with hostile.world.db.read(hostile.world.delegate) as session:
        assert [reason.value] == list(await session.scalars(text("SELECT reason FROM quarantine")))


async def test_another_tenants_identity_is_not_believed(hostile: Hostile, keyring: Keyring) -> None:
    """It has a grant there, but not to this delegate; nor does it help to name the other delegate's account."""
    foreign = hostile.victims.identity_arn
    tally = await take(
        hostile,
        keyring,
        hostile.bounce(sourceArn=foreign),
        hostile.bounce(sourceArn=foreign, sendingAccountId="555555555555"),
    )

    assert Tally(quarantined=2) == tally
    assert {0} == set((await hostile.heard()).values())


async def test_a_message_of_another_topic_that_is_replayed_is_not_believed(hostile: Hostile, keyring: Keyring) -> None:
    """What the second delegate's mail raised at the owner's topic, word for word."""
    seen = notified("Bounce", bounce(), sourceArn=hostile.world.identity_arn, sendingAccountId=SECOND_ACCOUNT)

    assert Tally(quarantined=1) == await take(hostile, keyring, seen)
    assert {0} == set((await hostile.heard()).values())


@pytest.mark.parametrize("payload", [[], "text", 7, {"eventType": ["Bounce"]}, {"mail": []}])
async def test_what_is_no_event_is_heard_by_nobody(hostile: Hostile, keyring: Keyring, payload: object) -> None:
    assert Tally(quarantined=1) == await take(hostile, keyring, payload)
    assert {0} == set((await hostile.heard()).values())


async def test_a_type_of_its_own_making_is_heard_by_its_parties_only(hostile: Hostile, keyring: Keyring) -> None:
    made_up = {"eventType": "Forward", "forward": {"to": "victim@example.org"}}

    assert Tally(stored=1) == await take(hostile, keyring, made_up | {"mail": hostile.bounce()["mail"]})
    assert Tally(quarantined=1) == await take(
        hostile, keyring, made_up | {"mail": hostile.bounce(sendingAccountId=SECOND_ACCOUNT)["mail"]}
    )
    assert {"owner": 1, "delegate": 1, "second": 0, "other owner": 0, "other delegate": 0} == await hostile.heard()


async def test_a_delegates_topic_without_a_set_is_believed_in_nothing(hostile: Hostile, keyring: Keyring) -> None:
    """Also where it names the owner's account as one that may speak through it: the grant's owner is not its tenant."""
    world = hostile.world
    for accounts in ([], [OWNER_ACCOUNT]):
        bare = msgspec.structs.replace(hostile, topic_arn=await add_topic(world, world.delegate, accounts=accounts))
        tally = await take(bare, keyring, hostile.bounce(), hostile.bounce(sendingAccountId=OWNER_ACCOUNT))

        assert 0 == tally.stored
    assert {0} == set((await hostile.heard()).values())


async def test_an_owners_own_topic_speaks_of_its_own_identities_only(hostile: Hostile, keyring: Keyring) -> None:
    world = hostile.world
    arn = await add_topic(world, world.owner, accounts=[OWNER_ACCOUNT])
    own = msgspec.structs.replace(hostile, topic_arn=arn)
    true = notified("Bounce", bounce(), sourceArn=world.identity_arn)
    foreign = notified(
        "Bounce", bounce(), sourceArn=hostile.victims.identity_arn.replace(OWNER_ACCOUNT, "444444444444")
    )
    another_owners = notified("Bounce", bounce(), sourceArn=hostile.victims.identity_arn)

    assert Tally(stored=1, quarantined=1, dropped=1) == await take(own, keyring, true, foreign, another_owners)
    assert {"owner": 1, "delegate": 1, "second": 0, "other owner": 0, "other delegate": 0} == await hostile.heard()


async def test_a_route_of_a_topic_of_its_own_learns_that_it_was_heard(hostile: Hostile, keyring: Keyring) -> None:
    world = hostile.world
    route_id = new_id()
    async with world.db.begin(world.delegate) as session:
        topic_id = await session.scalar(text("SELECT id FROM topics WHERE arn = :arn"), {"arn": hostile.topic_arn})
        session.add(
            Route(
                id=route_id,
                tenant_id=world.owner.tenant,
                delegate_id=world.delegate.tenant,
                grant_id=world.grant_id,
                identity_id=world.identity_id,
                kind="configuration_set",
                topic_id=topic_id,
                state="configured",
            )
        )
    await take(hostile, keyring, hostile.bounce())

    async with world.db.read(world.delegate) as session:
        route = await session.get_one(Route, route_id)
        assert None not in {route.heard_at, route.live_at, route.due_at}
