"""Which topics belong to a route: asked for together, and remembered once found.

The first messages of many topics come at once after a start, and anybody may send us messages of topics that are not
ours: whatever is asked for during one look-up is the next one, so neither costs more than a connection of its own.
"""

import asyncio

from broker import log
from broker.db import Line
from broker.errors import Unavailable

MOST_REMEMBERED = 10_000
MOST_AT_ONCE = 500

logger = log.get(__name__)

_KNOWN = "SELECT arn FROM topics WHERE arn = ANY ($1::text[])"


class KnownTopics:
    """An ARN never changes hands, and each batch looks its topics up again; `line` under the role broker_ingest."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._found: set[str] = set()
        self._asked: dict[str, asyncio.Future[bool]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def has(self, topic_arn: str) -> bool:
        """Whether there is such a topic; `Unavailable` when that cannot be told now."""
        if topic_arn in self._found:
            return True
        answer = self._asked.get(topic_arn)
        if answer is None:
            answer = self._asked[topic_arn] = asyncio.get_running_loop().create_future()
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(answer)

    async def _ask(self) -> None:
        while self._asked:
            batch = {arn: self._asked.pop(arn) for arn in list(self._asked)[:MOST_AT_ONCE]}
            try:
                known = {row["arn"] for row in await self._line.fetch(_KNOWN, list(batch))}
                self._found |= set(list(known)[: MOST_REMEMBERED - len(self._found)])
                for arn, answer in batch.items():
                    answer.set_result(arn in known)
            except Unavailable as error:
                logger.warning("topics cannot be looked up", error=error.detail)
            finally:
                for answer in batch.values():
                    if not answer.done():
                        answer.set_exception(Unavailable("It cannot be told now whether this topic is known."))
                        answer.exception()  # seen, also when nobody waits any more
