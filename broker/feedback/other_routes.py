"""What the owner's other routes want of the identities and topics of an `identity_topic`, read when it matters."""

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import select

from broker.caller import Caller
from broker.db import Database
from broker.feedback import holders
from broker.feedback.handling import RouteWork
from broker.feedback.holders import Rival
from broker.feedback.models import Route
from broker.feedback.slots import KINDS, Slots
from broker.feedback.views import RouteKind, RouteState
from broker.identities.models import Identity

Approved = Mapping[str, Sequence[Rival]]
"""By identity the routes of kind `foreign_topic`, ended and removed ones too."""


class OtherRoutes:
    """Reads as the owner, who is a party to all of them."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def foreign(self, work: RouteWork, slots: Mapping[str, Slots], *, ours: str | None) -> Approved:
        """Routes to topics of delegates, on those of these identities where a slot holds a topic that is not ours."""
        names = [name for name, each in slots.items() if any(each.get(kind) not in {None, "", ours} for kind in KINDS)]
        if not names:
            return {}
        async with self._db.read(Caller.system(work.owner_id, job="routes")) as session:
            here = select(Identity.connection_id).where(Identity.id == work.identity_id).scalar_subquery()
            same_place = (Identity.connection_id == here, Identity.region == work.region, Identity.name.in_(names))
            found: dict[str, list[Rival]] = {}
            for name, identity_id in (
                await session.execute(select(Identity.name, Identity.id).where(*same_place))
            ).all():
                others = await holders.rivals(session, identity_id=identity_id, besides=work.id)
                found.setdefault(name, []).extend(each for each in holders.on(name, others) if each.foreign)
        return found

    async def needed(self, work: RouteWork, topics: Iterable[str]) -> frozenset[str]:
        """Those of these topics of the owner's that another of its routes comes through and is not about to leave."""
        mine = (
            Route.tenant_id == work.owner_id,
            Route.kind == RouteKind.identity_topic,
            Route.id != work.id,
            Route.wanted,
            Route.state != RouteState.removed,
        )
        async with self._db.read(Caller.system(work.owner_id, job="routes")) as session:
            others = list(await session.scalars(select(Route.found).where(*mine)))
        held = {arn for found in others for arn in set(found.get("topics", ())) - set(found.get("leaving", ()))}
        return frozenset(held & set(topics))


def without(slots: Slots, routes: Iterable[Rival]) -> dict[str, str | None]:
    """The slots without the topics of delegates: what their routes set is theirs to set again, never ours."""
    rivals = tuple(routes)
    return {kind: None if any(each.topics.get(kind) == arn for each in rivals) else arn for kind, arn in slots.items()}
