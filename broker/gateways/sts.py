"""Sessions of tenants' roles, and who signed a presigned request."""

import asyncio
import re
from collections import OrderedDict
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import msgspec

from broker import clock
from broker.aws_access import RoleAccess
from broker.errors import Refused, Unavailable
from broker.gateways.aws import Aws, Credentials
from broker.gateways.http import HttpFetcher
from broker.settings import Settings

LIFETIME = timedelta(minutes=15)
"""The shortest session that AssumeRole gives (STS API Reference, AssumeRole)."""

SPARE = timedelta(minutes=5)
MOST_SESSIONS = 1024
CHALLENGE_HEADER = "x-broker-challenge"
_ANSWER_LIMIT = 16_384
_DENY_ALL = '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}'


class ProvenCaller(msgspec.Struct, frozen=True):
    """Who signed: the account id and the ARN, as STS says it."""

    account_id: str
    arn: str


class _Slot:
    """The session of one role and one policy, and the lock under which it is opened."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.credentials: Credentials | None = None


class StsGateway:
    """Assumes roles at the home Region's endpoint and keeps their sessions until five minutes before they end."""

    def __init__(self, aws: Aws, fetcher: HttpFetcher, settings: Settings) -> None:
        self._aws = aws
        self._fetcher = fetcher
        self._region = settings.aws_region
        self._timeout = settings.aws_call_timeout
        self._endpoint = aws.regional_sts(settings.aws_region).rstrip("/")
        self._slots: OrderedDict[tuple[RoleAccess, str], _Slot] = OrderedDict()

    async def session(self, access: RoleAccess, policy: str) -> Credentials:
        """Credentials of the tenant's role, narrowed to `policy` (JSON); who asks for the same shares one AssumeRole.

        Raises `Unavailable`, or `Refused` with STS's code (AccessDenied: no such role, no trust or a wrong ExternalId,
        which STS does not tell apart on purpose; OtherAccount: the session is not in the account that was proven).
        """
        slot = self._slots.setdefault((access, policy), _Slot())
        self._slots.move_to_end((access, policy))
        if len(self._slots) > MOST_SESSIONS:
            self._slots.popitem(last=False)
        async with slot.lock:
            if slot.credentials is None or _ends_soon(slot.credentials):
                made, account_id = await self._assume(access, external_id=access.external_id, policy=policy)
                if account_id != access.account_id:
                    text = (
                        f"The role opens sessions in account {account_id}, not in {access.account_id}; make it there."
                    )
                    raise Refused(text, code="OtherAccount")
                slot.credentials = made
            return slot.credentials

    def forget(self, access: RoleAccess) -> None:
        """Drops the kept sessions of this role."""
        for (kept, _), slot in self._slots.items():
            if kept.role_arn == access.role_arn:
                slot.credentials = None

    async def assume(self, access: RoleAccess, *, external_id: str | None) -> str:
        """Assumes the role with this ExternalId (None: without any) and returns the account that the session is in.

        Nothing is kept, and the session may do nothing: it is opened to see whether it can be.
        """
        credentials, _ = await self._assume(access, external_id=external_id, policy=_DENY_ALL)
        # Allowed whatever the policies say (STS API Reference, GetCallerIdentity).
        answer = await self._aws.call(
            "sts",
            "get_caller_identity",
            region=self._region,
            account_id=access.account_id,
            credentials=credentials,
        )
        return str(answer["Account"])

    @property
    def endpoint(self) -> str:
        """The Regional endpoint that presigned requests must be for, without a trailing slash."""
        return self._endpoint

    async def prove(self, url: str, nonce: str) -> ProvenCaller:
        """Sends the presigned GetCallerIdentity request with our challenge header and reads who signed it.

        The caller has checked the address; it is refused here again when it is not the home Region's STS.
        """
        if not url.startswith((f"{self._endpoint}/?", f"{self._endpoint}?")):
            raise Refused("The address is not that of the STS endpoint that was asked for.", code="WrongEndpoint")
        status, body = await self._get(url, {CHALLENGE_HEADER: nonce})
        if status == 429 or status >= 500:
            raise Unavailable("STS did not answer the presigned request; try again.")
        if status != 200:
            raise Refused(_first(body, "Message") or f"STS answered {status}.", code=_first(body, "Code"))
        account_id, arn = _first(body, "Account"), _first(body, "Arn")
        if not re.fullmatch(r"[0-9]{12}", account_id) or not arn:
            raise Refused("STS's answer names no account.", code="UnreadableAnswer")
        return ProvenCaller(account_id=account_id, arn=arn)

    async def _assume(self, access: RoleAccess, *, external_id: str | None, policy: str) -> tuple[Credentials, str]:
        """A session, and the account that it is in."""
        given: dict[str, Any] = {} if external_id is None else {"ExternalId": external_id}
        answer = await self._aws.call(
            "sts",
            "assume_role",
            region=self._region,
            account_id=access.account_id,
            RoleArn=access.role_arn,
            RoleSessionName=f"delegation-broker-{access.tenant_id.hex}",  # what owners see in CloudTrail
            DurationSeconds=int(LIFETIME.total_seconds()),
            Policy=policy,
            **given,
        )
        made = answer["Credentials"]
        credentials = Credentials(
            made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"], made["Expiration"]
        )
        return credentials, str(answer["AssumedRoleUser"]["Arn"]).split(":")[4]

    async def _get(self, url: str, headers: dict[str, str]) -> tuple[int, str]:
        """Status and body. No redirects, no proxies: the signature holds for this address only."""
        host = urlsplit(self._endpoint).hostname or ""
        answer = await self._fetcher.fetch(
            url, headers, max_bytes=_ANSWER_LIMIT, timeout=self._timeout, allowed_hosts={host}
        )
        return answer.status, answer.body.decode(errors="replace")


def _ends_soon(credentials: Credentials) -> bool:
    return credentials.ends_at is not None and credentials.ends_at - clock.now() < SPARE


def _first(body: str, element: str) -> str:
    """The text of the first such element of STS's XML; empty without one."""
    found = re.search(rf"<{element}>([^<]{{1,2048}})</{element}>", body)
    return found.group(1).strip() if found else ""
