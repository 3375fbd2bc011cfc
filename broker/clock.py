"""The wall clock, for what is shown or signed; what is scheduled is compared in the database only."""

from datetime import UTC, datetime


def now() -> datetime:
    """Aware UTC time of this process."""
    return datetime.now(UTC)
