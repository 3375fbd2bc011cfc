"""What the tests of digests share: which days may be cut."""

from datetime import date, timedelta

from broker.clock import now
from broker.webhooks.digests import work


def yesterday(back: int = 1) -> date:
    """The last day that may be cut, or one before it; until a quarter past midnight (UTC), yesterday may not yet be."""
    return (now() - work.CUT_AFTER).date() - timedelta(days=back)
