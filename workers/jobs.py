"""arq's jobs: each unpacks its context and makes one loop look at what is due."""

import asyncio
from typing import Any


async def look(ctx: dict[str, Any], queue: str) -> None:
    """The doorbell rang for this queue."""
    bells: dict[str, list[asyncio.Event]] = ctx["bells"]
    for bell in bells.get(queue, []):
        bell.set()
