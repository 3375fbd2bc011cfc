"""What ingest remembers of topics and grants between batches; the database tells when it is no longer true."""

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

import msgspec

from broker.db import Line
from broker.feedback import store
from broker.feedback.attribution import Source, Standing
from broker.feedback.sort import Known
from broker.feedback.store import Stamp

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MOST = 10_000
HEARD_AGAIN_AFTER = timedelta(minutes=1)


class Stamps(msgspec.Struct, frozen=True):
    """Under which stamps things are remembered, by ARN."""

    topics: Mapping[str, Stamp]
    identities: Mapping[str, Stamp]


class Memory:
    """At most 10,000 topics and as many identities, the least used forgotten first."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._sources: OrderedDict[str, tuple[Source | None, Stamp]] = OrderedDict()
        self._standings: OrderedDict[str, tuple[Standing, Stamp]] = OrderedDict()
        self._heard: OrderedDict[tuple[UUID, str], datetime] = OrderedDict()

    async def recall(self, topics: Sequence[str], identities: Sequence[str]) -> tuple[Known, Stamps]:
        """What is known of these ARNs; reads what is not."""
        if unknown := [arn for arn in topics if arn not in self._sources]:
            self._sources.update(await store.sources(self._line, unknown))
        if unknown := [arn for arn in identities if arn not in self._standings]:
            self._standings.update(await store.standings(self._line, unknown))
        sources = {arn: self._sources[arn] for arn in topics}
        standings = {arn: self._standings[arn] for arn in identities}
        _keep(self._sources, topics)
        _keep(self._standings, identities)
        return (
            Known(
                {arn: source for arn, (source, _) in sources.items() if source is not None},
                {arn: found for arn, (found, _) in standings.items()},
            ),
            Stamps(
                {arn: stamp for arn, (_, stamp) in sources.items()},
                {arn: stamp for arn, (_, stamp) in standings.items()},
            ),
        )

    def forget(self, topics: Iterable[str], identities: Iterable[str]) -> None:
        """These are to be read again."""
        for arn in topics:
            self._sources.pop(arn, None)
        for arn in identities:
            self._standings.pop(arn, None)

    def not_heard_lately(self, pairs: Iterable[tuple[UUID, str]], *, now: datetime) -> list[tuple[UUID, str]]:
        """Those of these (grant, topic ARN) of which the database was not told within the last minute."""
        since = now - HEARD_AGAIN_AFTER
        return sorted(pair for pair in pairs if pair not in self._heard or self._heard[pair] <= since)

    def heard(self, pairs: Iterable[tuple[UUID, str]], *, now: datetime) -> None:
        """The database was told of these."""
        told = list(pairs)
        self._heard.update(dict.fromkeys(told, now))
        _keep(self._heard, told)


def _keep(remembered: OrderedDict[K, V], used: Iterable[K]) -> None:
    for key in used:
        remembered.move_to_end(key)
    while len(remembered) > MOST:
        remembered.popitem(last=False)
