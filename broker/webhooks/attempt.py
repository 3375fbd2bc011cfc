"""One attempt at one delivery: render for the party, sign, post, decide what follows."""

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from broker import log
from broker.clock import now
from broker.errors import Refused, Unavailable
from broker.points import reach
from broker.webhooks import signing
from broker.webhooks.events import Shape
from broker.webhooks.pending import Parcel, Result
from broker.webhooks.render import content_type, party_of, render
from broker.webhooks.retries import Next, Verdict, decide, read_retry_after
from broker.webhooks.sender import Answer, Sender

_MOST_KEPT = 2_048

logger = log.get(__name__)


class Addressee(msgspec.Struct, frozen=True):
    """Whose webhook it is, where it is, and with what to sign: every key (by the id of its secret) signs.

    `headers` are the tenant's own, names in lower case; ours win.
    """

    tenant_id: UUID
    url: str
    keys: Mapping[UUID, bytes]
    headers: Mapping[str, str] = {}
    shape: Shape = Shape.STANDARD


class NotKept(Exception):
    """There is nothing to send any more."""


class Attempts:
    """Makes attempts: the client, its deadline, and the dice for the jitter (numbers from 0 to 1)."""

    def __init__(self, sender: Sender, *, timeout: timedelta, dice: Callable[[], float]) -> None:
        self.timeout = timeout
        self._sender = sender
        self._dice = dice

    async def make(self, to: Addressee, parcel: Parcel) -> tuple[Result, Next]:
        """Sends one parcel. Raises for nothing that a row or a receiver can do: that is a result, too."""
        at = now()
        try:
            body = _body(to, parcel)
        except NotKept as error:
            return _failed(parcel, Next(Verdict.DEAD, ours=True), at=at, error=str(error))
        except Exception:
            logger.exception("an event cannot be rendered", event_id=str(parcel.event_id))
            return self._stumbled(parcel, at=at, error="The event could not be rendered; it was logged on our side.")
        return await self._post(to, parcel, body, at=at)

    def _stumbled(self, parcel: Parcel, *, at: datetime, error: str) -> tuple[Result, Next]:
        step = decide(parcel.number, None, retry_after=None, chance=self._dice())
        return _failed(parcel, msgspec.structs.replace(step, ours=True), at=at, error=error)

    async def _post(self, to: Addressee, parcel: Parcel, body: bytes, *, at: datetime) -> tuple[Result, Next]:
        headers = {
            **to.headers,
            "content-type": content_type(to.shape),
            **signing.headers(parcel.event_id, body, at=at, keys=tuple(to.keys.values())),
        }
        began = time.monotonic()
        reach("deliveries.sending")
        try:
            answer = await self._sender.post(to.url, headers, body, timeout=self.timeout, tenant_id=to.tenant_id)
        except (Unavailable, Refused) as error:
            step = decide(parcel.number, None, retry_after=None, chance=self._dice())
            spent = round((time.monotonic() - began) * 1000)
            return _failed(parcel, step, at=at, error=error.detail, latency_ms=spent)
        except Exception:
            logger.exception("an attempt failed on our side", event_id=str(parcel.event_id))
            return self._stumbled(parcel, at=at, error="It could not be sent; that was logged on our side.")
        reach("deliveries.sent")
        wanted = read_retry_after(answer.headers.get("retry-after"), now=now())
        step = decide(parcel.number, answer.status, retry_after=wanted, chance=self._dice())
        return _answered(parcel, step, answer, at=at)


def _body(to: Addressee, parcel: Parcel) -> bytes:
    party = party_of(parcel.event, to.tenant_id) if parcel.event else None
    if parcel.event is None or party is None:
        raise NotKept("The event is no longer kept.")
    return render(parcel.event, party, to.shape)


def _failed(parcel: Parcel, step: Next, *, at: datetime, error: str, latency_ms: int = 0) -> tuple[Result, Next]:
    result = Result(
        lane_id=parcel.lane_id,
        event_id=parcel.event_id,
        number=parcel.number,
        at=at,
        verdict=step.verdict,
        again_in=step.again_in,
        latency_ms=latency_ms,
        error=error,
    )
    return result, step


def _answered(parcel: Parcel, step: Next, answer: Answer, *, at: datetime) -> tuple[Result, Next]:
    result = Result(
        lane_id=parcel.lane_id,
        event_id=parcel.event_id,
        number=parcel.number,
        at=at,
        verdict=step.verdict,
        again_in=step.again_in,
        latency_ms=answer.latency_ms,
        status=answer.status,
        answer=_text(answer.body),
    )
    return result, step


def _text(body: bytes) -> str:
    """The beginning of an answer as text that Postgres takes (no NUL)."""
    return body[:_MOST_KEPT].decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
