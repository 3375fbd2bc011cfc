"""What the filters of an endpoint make of mail events, which are stored by a statement of their own."""

import pytest
from sqlalchemy import text

from broker.crypto import Keyring
from broker.feedback.ingest import Ingest
from broker.ids import new_id
from tests.feedback.conftest import Savepoint, World, arrived
from tests.feedback.examples import bounce, notified
from tests.feedback.sns import NOW

OTHER_ARN = "arn:aws:ses:eu-west-1:111111111111:identity/example.org"


@pytest.mark.parametrize(
    ("column", "of", "heard"),
    [
        ("event_types", ["email.*"], True),
        ("event_types", ["email.bounced"], True),
        ("event_types", ["email.complained", "grant.*"], False),
        ("grant_ids", "grant_id", True),
        ("grant_ids", "second_grant_id", False),
        ("identity_arns", "identity_arn", True),
        ("identity_arns", [OTHER_ARN], False),
    ],
)
async def test_a_mail_event_goes_through_the_filters(
    world: World, keyring: Keyring, column: str, of: list[str] | str, *, heard: bool
) -> None:
    """The delegate's endpoint is narrowed; the owner's hears everything as before."""
    wanted = of if isinstance(of, list) else [getattr(world, of)]
    async with world.db.begin(world.delegate) as session:
        await session.execute(text(f"UPDATE endpoints SET {column} = :wanted"), {"wanted": wanted})

    await Ingest(Savepoint(world.db), keyring).take(arrived(world.envelope(notified("Bounce", bounce()))), now=NOW)

    tenants = await world.deliveries()
    assert (1, heard) == (tenants.count(world.owner.tenant), world.delegate.tenant in tenants)


async def test_all_filters_together_must_match(world: World, keyring: Keyring) -> None:
    async with world.db.begin(world.delegate) as session:
        narrow = "UPDATE endpoints SET event_types = '{email.*}', identity_arns = :arns, grant_ids = :grants"
        await session.execute(text(narrow), {"arns": [world.identity_arn], "grants": [new_id()]})

    await Ingest(Savepoint(world.db), keyring).take(arrived(world.envelope(notified("Bounce", bounce()))), now=NOW)

    assert [world.owner.tenant] == await world.deliveries()
