"""A grant's usage over HTTP."""

from datetime import date, timedelta
from typing import Annotated
from uuid import UUID

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from broker.caller import Caller, Scope
from broker.clock import now
from broker.db import Database
from broker.feedback.usage import service
from broker.feedback.usage.views import GrantUsage
from broker.web import needs


class UsageController(Controller):
    """What came of a grant's mail."""

    path = "/v1/grants/{grant_id:uuid}/usage"
    tags = ("Feedback",)

    @get(summary="Count a grant's feedback", operation_id="showGrantUsage", guards=[needs(Scope.READ)])
    async def usage(
        self,
        db: NamedDependency[Database],
        caller: NamedDependency[Caller],
        grant_id: FromPath[UUID],
        first: Annotated[
            date | None, QueryParameter(name="from", description="First day (UTC); 29 days before")
        ] = None,
        last: Annotated[date | None, QueryParameter(name="until", description="Last day (UTC); today")] = None,
    ) -> GrantUsage:
        """Events by day and type, as far as you hear of them, and the breaker with the rates of the last 24 hours.

        Counted within seconds of an event. Deliveries of webhooks are counted by `/v1/usage`.
        """
        last = last or now().date()
        first = first or max(last, date.min + timedelta(days=29)) - timedelta(days=29)
        return await service.usage(db, caller, grant_id, first=first, last=last)
