"""Replacing the signing secret of an endpoint while its receiver moves over."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy.orm.attributes import flag_modified

from broker.audit.service import record
from broker.caller import Caller
from broker.crypto import Keyring
from broker.db import Database
from broker.idempotency import remember
from broker.webhooks import keys, signing
from broker.webhooks.endpoints import find
from broker.webhooks.views import SecretMade


async def rotate(
    db: Database, caller: Caller, endpoint_id: UUID, *, overlap_hours: int, keyring: Keyring
) -> SecretMade:
    """A new secret, in the answer and never again; the one before signs beside it for `overlap_hours` (0: not at all).

    Two sign at most: rotating again within an overlap ends the older of the two at once. Ends are by the clock of the
    database; a batch of deliveries that is under way keeps, for less than its lease, the secrets it began with.
    """
    secret = signing.new_secret()
    async with db.begin(caller) as session:
        endpoint = await find(session, caller, endpoint_id, locked=True)
        endpoint.secret = None
        flag_modified(endpoint, "secret")  # a pump that holds the lane sees that the endpoint is another one now
        until = await keys.retire(session, caller, endpoint_id, after=timedelta(hours=overlap_hours))
        new = await keys.add(session, caller, endpoint_id, sealed=keyring.seal(secret))
        await record(
            session,
            caller,
            "endpoint.secret_rotated",
            subject=("endpoint", endpoint_id),
            secret_id=str(new.id),
            overlap_hours=overlap_hours,
        )
        made = SecretMade(
            id=new.id,
            endpoint_id=endpoint_id,
            secret=signing.printable(secret),
            created_at=new.created_at,
            previous_until=until,
        )
        return await remember(session, caller, made, keyring=keyring)
