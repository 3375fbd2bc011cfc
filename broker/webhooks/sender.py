"""What the delivery engine needs of an HTTP client."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Protocol
from uuid import UUID


class Answer(Protocol):
    """The receiver's answer: names of headers in lower case, the beginning of the body."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def body(self) -> bytes: ...

    @property
    def latency_ms(self) -> int: ...


class Sender(Protocol):
    """Posts to a tenant's URL, and nowhere that is not public; raises only `Unavailable` or `Refused`.

    `tenant_id` is whose URL it is: a connection serves one tenant only.
    """

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        timeout: timedelta,  # noqa: ASYNC109 - the total deadline belongs to the client
        tenant_id: UUID,
    ) -> Answer: ...
