"""Replays over HTTP."""

from typing import Annotated
from uuid import UUID

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from broker.caller import Caller, Scope
from broker.db import Database
from broker.quotas import Act
from broker.settings import Settings
from broker.web import COUNTED, Page, after, checked_size, needs, page_of
from broker.webhooks.replays import service
from broker.webhooks.replays.models import State
from broker.webhooks.replays.views import ReplayView, Since, Stretch


class ReplayMoves(Controller):
    """What makes a replay, under its endpoint."""

    path = "/v1/endpoints/{endpoint_id:uuid}"
    tags = ("Webhooks",)

    @post(
        "/replay",
        summary="Send a stretch of events again",
        operation_id="replayEndpoint",
        opt={COUNTED: Act.REPLAYS},
        status_code=202,
        guards=[needs(Scope.WRITE)],
    )
    async def replay(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        settings: NamedDependency[Settings],
        endpoint_id: FromPath[UUID],
        data: JSONBody[Stretch],
    ) -> ReplayView:
        """Every event of that time that the endpoint's filters give it, whether it was delivered, failed or is new.

        One job of an endpoint runs at a time. Under the same ids as before; new events go first.
        """
        return await service.replay(db, caller, endpoint_id, wanted=data, kept=settings.event_retention)

    @post(
        "/recover",
        summary="Send everything that failed again",
        operation_id="recoverEndpoint",
        opt={COUNTED: Act.REPLAYS},
        status_code=202,
        guards=[needs(Scope.WRITE)],
    )
    async def recover(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        endpoint_id: FromPath[UUID],
        data: JSONBody[Since],
    ) -> ReplayView:
        """Every delivery that was given up since a time, with a fresh schedule. One job of an endpoint at a time."""
        return await service.recover(db, caller, endpoint_id, wanted=data)


class ReplayController(Controller):
    """Jobs that send again."""

    path = "/v1/replays"
    tags = ("Webhooks",)

    @get(summary="List replays", operation_id="listReplays", guards=[needs(Scope.READ)])
    async def list_replays(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        endpoint_id: FromQuery[UUID | None] = None,
        replay_state: Annotated[State | None, QueryParameter(name="state")] = None,
        page_token: FromQuery[str | None] = None,
        page_size: FromQuery[int] = 50,
    ) -> Page[ReplayView]:
        """Newest first. Enabling an endpoint makes one, of the kind `catch_up`."""
        size = checked_size(page_size)
        rows = await service.list_some(
            db, caller, endpoint_id=endpoint_id, state=replay_state, after=after(page_token), limit=size + 1
        )
        return page_of(rows, size, lambda job: job.id)

    @get("/{replay_id:uuid}", summary="Show a replay", operation_id="showReplay", guards=[needs(Scope.READ)])
    async def show(
        self, db: NamedDependency[Database], caller: NamedDependency[Caller], replay_id: FromPath[UUID]
    ) -> ReplayView:
        """How far it is: how many are queued, and what became of them."""
        return await service.show(db, caller, replay_id)

    @post(
        "/{replay_id:uuid}/cancel",
        summary="Cancel a replay",
        operation_id="cancelReplay",
        status_code=202,
        guards=[needs(Scope.WRITE)],
    )
    async def cancel(
        self, db: NamedDependency[Database], caller: NamedDependency[Caller], replay_id: FromPath[UUID]
    ) -> ReplayView:
        """Nothing more is queued; what is queued is still sent. 409 when it is done.

        What a catch-up has not brought back yet is given up: listed under `state=dead`, and there to be recovered.
        """
        return await service.cancel(db, caller, replay_id)
