"""How often this process asks the database: counted where the drivers are wrapped, told when the process ends."""

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine


class RoundTrips:
    """One number for the process. A statement is one round trip, and so is each begin, commit and rollback."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, *_: object) -> None:
        """One more."""
        self.count += 1

    def watch(self, engine: AsyncEngine) -> None:
        """Counts what SQLAlchemy sends. Its driver begins a transaction with the first statement, in one of its own."""
        for name in ("begin", "before_cursor_execute", "commit", "rollback"):
            event.listen(engine.sync_engine, name, self.add)


ROUND_TRIPS = RoundTrips()
