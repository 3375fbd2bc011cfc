"""What the hot path notes in the ledger: once for each event stored, and once for each attempt."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from broker.webhooks.ledger.ledger import Count, Ledger, Stage

NO_ANSWER = "none"
_CLASSES = {first: f"{first}xx" for first in range(1, 6)}


def stored(ledger: Ledger, parties: Iterable[UUID | None], *, said: datetime, came: datetime, spent: float) -> None:
    """Notes an event that was committed, for each party that hears of it.

    `said`: the time SES gives it in the payload (of a bounce or complaint, the time of the provider that sent it: SES
    Developer Guide, notification-contents). `came`: when the message came, by our wall clock. `spent`: seconds from
    then to the end of the commit, by the monotonic clock.
    """
    lag = (came - said).total_seconds()
    for party in parties:
        if party is not None:
            ledger.record(party, Stage.SES_TO_RECEIVED, lag)
            ledger.record(party, Stage.RECEIVED_TO_COMMITTED, spent)


def attempted(
    ledger: Ledger,
    tenant_id: UUID,
    *,
    number: int,
    status: int | None,
    waited: float,
    spent: float,
    tried_for: float | None = None,
) -> None:
    """Notes an attempt that has ended. All in seconds.

    `waited`: from the delivery's being made to the POST of this attempt, of number 1 only: what the database said when
    it was fetched, and from there by the monotonic clock. `spent`: on the POST. `tried_for`: from the first attempt to
    the end of this one, of later numbers, in the same way; None where it is not known.
    """
    ledger.count(Count.ATTEMPTS, NO_ANSWER if status is None else _CLASSES.get(status // 100, NO_ANSWER))
    if number == 1:
        ledger.record(tenant_id, Stage.COMMITTED_TO_ATTEMPTED, waited)
    took = spent if number == 1 else tried_for
    if took is not None and status is not None and status // 100 == 2:
        ledger.record(tenant_id, Stage.ATTEMPTED_TO_ACCEPTED, took)
