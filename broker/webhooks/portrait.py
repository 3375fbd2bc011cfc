"""Endpoints as the API shows them: neither a secret nor the value of a header is ever part of it."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from broker.caller import Caller
from broker.webhooks import keys, signing
from broker.webhooks.models import EndpointRow
from broker.webhooks.views import EndpointMade, EndpointView, SecretView


async def view(session: AsyncSession, caller: Caller, row: EndpointRow) -> EndpointView:
    """With its secrets' dates, which are read here."""
    secrets = await keys.live(session, caller, [row.id])
    return portray(row, secrets.get(row.id, []))


def portray(row: EndpointRow, secrets: Sequence[SecretView]) -> EndpointView:
    """With the dates of these secrets."""
    return EndpointView(
        id=row.id,
        url=row.url,
        description=row.description,
        event_types=row.event_types,
        grant_ids=row.grant_ids,
        identity_arns=row.identity_arns,
        header_names=row.header_names,
        rate_limit=row.rate_limit,
        shape=row.shape,
        secrets=secrets,
        state=row.state,
        reason=row.reason,
        failing_since=row.failing_since,
        created_at=row.created_at,
    )


def made(row: EndpointRow, secret: bytes) -> EndpointMade:
    """A new one, with its secret, this once."""
    return EndpointMade(
        id=row.id,
        url=row.url,
        description=row.description,
        event_types=row.event_types,
        grant_ids=row.grant_ids,
        identity_arns=row.identity_arns,
        header_names=row.header_names,
        rate_limit=row.rate_limit,
        shape=row.shape,
        state=row.state,
        secret=signing.printable(secret),
        created_at=row.created_at,
    )
