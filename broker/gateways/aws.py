"""One door to AWS: kept-alive clients with explicit credentials, one deadline per call, two kinds of error."""

import asyncio
import time
from contextlib import AsyncExitStack
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any

import aioboto3
import msgspec
from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioCredentials
from botocore.exceptions import BotoCoreError, ClientError, InvalidRegionError, ParamValidationError
from botocore.parsers import ResponseParserError

from broker import log
from broker.errors import Refused, Unavailable
from broker.gateways.aws_http import SharedTlsSession, tls_context
from broker.gateways.turns import Turns, takes_turns
from broker.settings import Settings

logger = log.get(__name__)


def _config(read_timeout: int) -> AioConfig:
    return AioConfig(
        # Who calls us decides about trying again; the SDK would do it inside the deadline and hide it.
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=3,
        read_timeout=read_timeout,
        max_pool_connections=100,
        user_agent_extra="ses-delegation-broker",
        http_session_cls=SharedTlsSession,
    )


_CONFIG = _config(5)
_PATIENT = _config(30)  # for SQS, which waits up to 20 s for a message before it answers
_SUFFIXES = {"aws": "amazonaws.com", "aws-us-gov": "amazonaws.com", "aws-cn": "amazonaws.com.cn"}
# Codes that pass by themselves (AWS General Reference, common errors; SES, STS and SNS API references).
_PASSING = frozenset(
    {
        "BandwidthLimitExceeded",
        "ConcurrentModificationException",
        "InternalError",
        "InternalFailure",
        "PriorRequestNotComplete",
        "KmsThrottled",
        "OverLimit",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttled",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_SESSION_ENDED = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"}
)


class Credentials(msgspec.Struct, frozen=True):
    """What a call is signed with; `token` and `ends_at` only for a role's session."""

    access_key_id: str
    secret_access_key: str
    token: str | None = None
    ends_at: datetime | None = None

    def __repr__(self) -> str:
        """The key's id only, so that no log or trace can show the secret."""
        return f"Credentials({self.access_key_id})"


class SessionEnded(Unavailable):
    """The session behind the credentials is over (expired, or its role was made anew): open another and try again."""


class Aws:
    """All AWS calls of one process: one SDK client for each service and Region, whoever's account a call is for.

    A client takes milliseconds to make and its first call a TLS handshake; a revocation that is the first call in its
    account for a while must wait for neither. So each call brings its own credentials to a shared client. `own` are
    the broker's; without them the SDK's usual chain finds them (environment, task role …).
    """

    def __init__(self, settings: Settings, *, own: Credentials | None = None) -> None:
        self._session = aioboto3.Session()
        self._endpoint = settings.aws_endpoint_url or None
        self._suffix = _SUFFIXES[settings.aws_partition]
        self._deadline = settings.aws_call_timeout
        self._own = own
        self._turns = Turns(settings.ses_call_rate)
        self._clients: dict[tuple[str, str], Any] = {}
        self._open = AsyncExitStack()
        self._making = asyncio.Lock()

    async def warm(self, region: str) -> None:
        """Loads certificates and service models, about 0.1 s each the first time, before anybody waits for a call."""
        tls_context(verify=True)
        for service in ("sts", "sesv2", "ses", "sns"):
            await self._client(service, region)

    async def close(self) -> None:
        """Closes every client."""
        self._clients.clear()
        await self._open.aclose()

    async def call(
        self,
        service: str,
        operation: str,
        *,
        region: str,
        account_id: str,
        credentials: Credentials | None = None,
        waits: timedelta = timedelta(0),
        **parameters: Any,
    ) -> dict[str, Any]:
        """One call of the SDK's method `operation`; `account_id` is for the log.

        `waits`: how long AWS itself may wait before it answers, on top of the deadline.

        Raises `SessionEnded`, `Unavailable` (also after the deadline) or `Refused` with AWS's own text and code.
        """
        if takes_turns(service, operation):
            await self._turns.take(account_id, region, operation)
        began = time.perf_counter()
        outcome = "ok"
        try:
            async with asyncio.timeout((self._deadline + waits).total_seconds()):
                sdk = await self._client(service, region)
                _SIGN_WITH.set(credentials)
                answer: dict[str, Any] = await getattr(sdk, operation)(**parameters)
        except TimeoutError as error:
            outcome = "timeout"
            raise Unavailable(f"AWS did not answer {service} {operation} in time.") from error
        except ClientError as error:
            outcome = str(error.response.get("Error", {}).get("Code", "?"))
            raise translated(error) from error
        except (ParamValidationError, InvalidRegionError) as error:
            outcome = type(error).__name__
            raise Refused(f"The SDK refused the call: {error}", code=outcome) from error
        except (BotoCoreError, ResponseParserError, OSError) as error:
            outcome = type(error).__name__
            raise Unavailable(f"AWS cannot be reached for {service} {operation}: {error}") from error
        finally:
            ms = round((time.perf_counter() - began) * 1000, 1)
            # Queues are asked all the time; what went well there is of no interest.
            tell = logger.debug if service == "sqs" and outcome == "ok" else logger.info
            tell(
                "aws call",
                service=service,
                operation=operation,
                region=region,
                account_id=account_id,
                outcome=outcome,
                ms=ms,
            )
        answer.pop("ResponseMetadata", None)
        return answer

    def regional_sts(self, region: str) -> str:
        """STS of one Region: sessions of the global endpoint fail in opt-in Regions (IAM User Guide, STS Regions)."""
        return self._endpoint or f"https://sts.{region}.{self._suffix}"

    async def _client(self, service: str, region: str) -> Any:
        async with self._making:
            if (service, region) not in self._clients:
                self._clients[service, region] = await self._make(service, region)
        return self._clients[service, region]

    async def _make(self, service: str, region: str) -> Any:
        own = _signing(self._own) if self._own else {}
        url = self.regional_sts(region) if service == "sts" else self._endpoint
        config = _PATIENT if service == "sqs" else _CONFIG
        made = self._session.client(service, region_name=region, endpoint_url=url, config=config, **own)
        client = await self._open.enter_async_context(made)
        client.meta.events.register("before-sign", _bring_credentials)
        return client


# A task's own: what is called side by side does not see each other's.
_SIGN_WITH: ContextVar[Credentials | None] = ContextVar("sign_with", default=None)


def _bring_credentials(request: Any, **_: Any) -> None:
    """The SDK signs a request with these instead of its client's, as it does for S3 Express sessions."""
    if credentials := _SIGN_WITH.get():
        signer = AioCredentials(credentials.access_key_id, credentials.secret_access_key, credentials.token)
        request.context.setdefault("signing", {})["request_credentials"] = signer


def _signing(credentials: Credentials) -> dict[str, str | None]:
    return {
        "aws_access_key_id": credentials.access_key_id,
        "aws_secret_access_key": credentials.secret_access_key,
        "aws_session_token": credentials.token,
    }


def translated(error: ClientError) -> Unavailable | Refused:
    """AWS's answer as one of ours: throttling, 429 and 5xx pass by themselves, an ended session needs a new one."""
    told = error.response.get("Error", {})
    code = str(told.get("Code", ""))
    message = str(told.get("Message", "") or code or "AWS refused the call.")
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _SESSION_ENDED:
        return SessionEnded(message)
    if code in _PASSING or status == 429 or status >= 500:
        return Unavailable(f"AWS asks to come back later: {message}", retry_after=timedelta(seconds=1))
    return Refused(message, code=code)
