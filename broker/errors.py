"""What can go wrong, as values that carry a sentence for the tenant and a stable type (RFC 9457)."""

from datetime import timedelta
from typing import ClassVar

import msgspec


class Flaw(msgspec.Struct, frozen=True):
    """One wrong field of a request: `pointer` is a JSON pointer (RFC 6901) into the body, `detail` a sentence."""

    pointer: str
    detail: str


class BrokerError(Exception):
    """Base of all errors that a tenant may see. `detail` never holds a secret."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something went wrong on our side"

    def __init__(self, detail: str, *, flaws: tuple[Flaw, ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.flaws = flaws


class BadRequest(BrokerError):
    status = 400
    slug = "bad-request"
    title = "The request cannot be read"


class Unauthenticated(BrokerError):
    status = 401
    slug = "unauthenticated"
    title = "No valid API key"


class Forbidden(BrokerError):
    status = 403
    slug = "forbidden"
    title = "This key may not do that"


class NotFound(BrokerError):
    """Also what somebody else's row answers: a stranger learns nothing."""

    status = 404
    slug = "not-found"
    title = "No such resource"


class Conflict(BrokerError):
    status = 409
    slug = "conflict"
    title = "The state does not allow this"


class PreconditionFailed(BrokerError):
    status = 412
    slug = "precondition-failed"
    title = "Changed since you looked"


class TooLarge(BrokerError):
    status = 413
    slug = "too-large"
    title = "The body is too large"


class Invalid(BrokerError):
    status = 422
    slug = "invalid"
    title = "The body is not valid"


class PreconditionRequired(BrokerError):
    status = 428
    slug = "precondition-required"
    title = "If-Match is missing"


class TooManyRequests(BrokerError):
    status = 429
    slug = "too-many-requests"
    title = "Too many requests"

    def __init__(self, detail: str, *, retry_after: timedelta = timedelta(seconds=1)) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Unavailable(BrokerError):
    """Try again later: a time-out, throttling, a 5xx of somebody else, or our own trouble."""

    status = 503
    slug = "unavailable"
    title = "Not available right now"

    def __init__(self, detail: str, *, retry_after: timedelta = timedelta(seconds=2)) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Refused(BrokerError):
    """Never will work as asked: the outside system said no. `code` is its own error code."""

    status = 409
    slug = "refused"
    title = "The other side refused"

    def __init__(self, detail: str, *, code: str = "") -> None:
        super().__init__(detail)
        self.code = code
