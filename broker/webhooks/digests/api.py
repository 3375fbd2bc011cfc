"""Digests over HTTP, and how a receiver verifies one."""

import base64
from datetime import date
from uuid import UUID

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery

from broker.caller import Caller, Scope
from broker.db import Database
from broker.errors import BadRequest, NotFound
from broker.web import Page, checked_size, needs
from broker.webhooks.digests import service
from broker.webhooks.digests.views import Digest

HOW_TO_VERIFY = '''
Which events this endpoint was to get in a day: how many, and a hash over their ids, by type and all together. It is
also sent to the endpoint as a signed `endpoint.digest`, about a quarter of an hour after midnight (UTC).

To prove that nothing is missing, keep the `webhook-id` and the type of what you verified, and compare:

```python
import hashlib
from datetime import datetime, timezone


def complete(digest: dict, received: dict[str, str]) -> bool:
    """`digest` is the data of `endpoint.digest`; `received` maps the `webhook-id` of all you got to their type."""
    def day(webhook_id: str) -> str:
        return str(datetime.fromtimestamp(int(webhook_id.replace("-", "")[:12], 16) / 1000, timezone.utc).date())

    addressed = {"endpoint.digest", "endpoint.test"}  # to this endpoint alone, and not counted
    ids = sorted(id for id, type in received.items() if type not in addressed and day(id) == digest["day"])
    return hashlib.sha256("".join(f"{id}\\n" for id in ids).encode()).hexdigest() == digest["sha256"]
```

The day of an event is that of its id, not its `timestamp`. Events that are still being retried, or that happened while
the endpoint was paused or disabled, count too: they are yet to come, and what you lack is in `GET /v1/events`. When
filters were changed in that day, `filters_changed_at` says so. In the shape `cloudevents` take the prefix off the type.
'''


class DigestController(Controller):
    """What an endpoint was to get, day by day."""

    path = "/v1/endpoints/{endpoint_id:uuid}/digests"
    tags = ("Webhooks",)

    @get(summary="List daily digests", operation_id="listDigests", guards=[needs(Scope.READ)])
    async def list_digests(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        endpoint_id: FromPath[UUID],
        page_token: FromQuery[str | None] = None,
        page_size: FromQuery[int] = 50,
    ) -> Page[Digest]:
        """Newest first, beginning with the endpoint's first whole day (UTC). How to verify one: see `showDigest`."""
        size = checked_size(page_size)
        rows = await service.list_some(db, caller, endpoint_id, before=_before(page_token), limit=size + 1)
        if len(rows) <= size:
            return Page(items=rows)
        return Page(items=rows[:size], next_page_token=_token(rows[size - 1].day))

    @get(
        "/{day:str}",
        summary="Show the digest of a day",
        description=HOW_TO_VERIFY,
        operation_id="showDigest",
        guards=[needs(Scope.READ)],
    )
    async def show(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        endpoint_id: FromPath[UUID],
        day: FromPath[str],
    ) -> Digest:
        """`day` as in 2026-12-01; 404 while it is not over."""
        try:
            wanted = date.fromisoformat(day)
        except ValueError as error:
            raise NotFound("There is no digest of this day; write it as 2026-12-01.") from error
        return await service.show(db, caller, endpoint_id, day=wanted)


def _token(day: date) -> str:
    return base64.urlsafe_b64encode(day.isoformat().encode()).decode()


def _before(page_token: str | None) -> date | None:
    if page_token is None:
        return None
    try:
        return date.fromisoformat(base64.urlsafe_b64decode(page_token).decode())
    except ValueError as error:
        raise BadRequest("page_token is not one that this API gave out.") from error
