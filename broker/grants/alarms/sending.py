"""Sending alarms by mail: claim, read where to, send with no transaction open, write down what became of it.

At least once: a worker that ends between sending and writing sends again, under the same Message-ID.
"""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Protocol
from uuid import UUID

import msgspec
from sqlalchemy import func, text
from sqlalchemy.ext.asyncio import AsyncSession

from broker import due
from broker.audit.service import record
from broker.caller import Caller
from broker.db import Database
from broker.due import Claim, back_off, settle
from broker.errors import Refused, Unavailable
from broker.grants.alarms import wording
from broker.grants.alarms.models import Alarm, Fate
from broker.grants.alarms.wording import Stuck
from broker.grants.lifecycle import Party
from broker.grants.models import Grant

KIND = "alarms"
LEASE = timedelta(minutes=2)  # longer than a mail server may take
AT_ONCE = 5
FIRST_RETRY, LONGEST_RETRY = timedelta(seconds=10), timedelta(hours=1)

_ADDRESSES = text("SELECT id, name, address FROM alarm_addresses(:ids)")


class Mailer(Protocol):
    """Hands one mail to a mail server (`broker/gateways/smtp.py`). Raises `Unavailable` or `Refused`."""

    async def send(self, message_id: UUID, *, to: str, subject: str, body: str) -> None: ...


class _Letter(msgspec.Struct, frozen=True):
    to: str
    subject: str
    body: str


async def run(db: Database, mailer: Mailer | None, *, only: Sequence[UUID] | None = None) -> int:
    """Sends what is due (of those in `only`, if given); returns how many there were. Without a mailer none is sent."""
    return await due.work(db, KIND, partial(_send, db, mailer), most=AT_ONCE, lease=LEASE, only=only)


async def _send(db: Database, mailer: Mailer | None, claim: Claim) -> None:
    letter = await _load(db, claim)
    if isinstance(letter, Fate):
        await _settle(db, claim, letter)
    elif mailer is None:
        await _settle(db, claim, Fate.OFF)
    else:
        try:
            await mailer.send(claim.id, to=letter.to, subject=letter.subject, body=letter.body)
        except Unavailable as error:
            await _try_again(db, claim, error.detail)
        except Refused as error:
            await _settle(db, claim, Fate.REFUSED, reason=error.detail)
        else:
            await _settle(db, claim, Fate.SENT)


async def _load(db: Database, claim: Claim) -> _Letter | Fate:
    """What to send now, or why there is nothing to send."""
    async with db.begin(_caller(claim)) as session:
        alarm = await session.get_one(Alarm, claim.id)
        grant = await session.get_one(Grant, alarm.grant_id)
        if grant.stuck_at is None:
            return Fate.OVER
        rows = await session.execute(_ADDRESSES, {"ids": [grant.owner_id, grant.delegate_id]})
        told = {row.id: row for row in rows}
    owner, delegate = told[grant.owner_id], told[grant.delegate_id]
    to: str | None = (owner if alarm.party is Party.OWNER else delegate).address
    if to is None:
        return Fate.UNADDRESSED
    stuck = Stuck(
        grant.id, grant.identity_arn, grant.paper, owner.name, delegate.name, alarm.error, tuple(alarm.commands)
    )
    return _Letter(to, wording.subject(stuck), wording.body(stuck, alarm.party))


async def _settle(db: Database, claim: Claim, fate: Fate, *, reason: str | None = None) -> None:
    async with db.begin(_caller(claim)) as session:
        alarm = await _write(session, claim, reason)
        alarm.outcome, alarm.done_at = fate, func.now()
        grant = await session.get_one(Grant, alarm.grant_id)
        if fate in {Fate.SENT, Fate.REFUSED}:
            subject, party = ("grant", grant.id), alarm.party.value
            other = grant.delegate_id if alarm.party is Party.DELEGATE else None
            caller, what = _caller(claim), f"alarm.{fate.value}"
            await record(session, caller, what, subject=subject, counterpart_id=other, party=party)
        await session.flush()
        await settle(session, claim, again_in=None)


async def _try_again(db: Database, claim: Claim, reason: str) -> None:
    async with db.begin(_caller(claim)) as session:
        await _write(session, claim, reason)
        again_in = back_off(claim.attempts, first=FIRST_RETRY, most=LONGEST_RETRY)
        await session.flush()
        await settle(session, claim, again_in=again_in, failed=True)


async def _write(session: AsyncSession, claim: Claim, reason: str | None) -> Alarm:
    alarm = await session.get_one(Alarm, claim.id)
    alarm.reason = reason
    return alarm


def _caller(claim: Claim) -> Caller:
    return Caller.system(claim.tenant_id, job="alarm")
