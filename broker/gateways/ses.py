"""SES in tenants' accounts: identities, their policies, notification topics, and listening to topics set before."""

import json
from collections.abc import Sequence
from typing import Any, Protocol

from broker import log
from broker.aws_access import RoleAccess
from broker.errors import Refused
from broker.gateways.aws import Aws, SessionEnded
from broker.gateways.sns import RETRIES
from broker.gateways.sts import StsGateway

logger = log.get(__name__)

READ = (
    "ListEmailIdentities",
    "GetAccount",
    "GetEmailIdentity",
    "GetEmailIdentityPolicies",
    "GetIdentityNotificationAttributes",
)
"""Looking is done under one session per account and Region."""

WRITE = ("CreateEmailIdentityPolicy", "DeleteEmailIdentityPolicy")
"""Writing policies is done under one session per identity, which can touch no other."""

NOTIFY = ("SetIdentityNotificationTopic",)
SUPPRESS = ("PutSuppressedDestination",)

LISTEN = ("GetTopicAttributes", "Subscribe")
"""Listening to a topic of the owner's is done under one session per topic."""

KINDS = ("bounce", "complaint", "delivery")
_PAGE = 1000
_BATCH = 100
"""Most identities of one GetIdentityNotificationAttributes call (SES API Reference)."""


class SessionPolicy(Protocol):
    """Makes the session policy that allows just these operations on just these resources."""

    def __call__(self, operations: Sequence[str], resources: Sequence[str]) -> str: ...


class SesGateway:
    """Every call acts as the tenant's role, narrowed by a session policy. `identity` is always a name, not an ARN."""

    def __init__(self, aws: Aws, sts: StsGateway, session_policy: SessionPolicy, *, partition: str) -> None:
        self._aws = aws
        self._sts = sts
        self._session_policy = session_policy
        self._partition = partition

    async def read_policies(self, access: RoleAccess, identity: str) -> dict[str, str]:
        """All policies on the identity, name → JSON text. `Refused` NotFoundException: no such identity."""
        answer = await self._read(access, "get_email_identity_policies", EmailIdentity=identity)
        return dict(answer.get("Policies", {}))

    async def create_policy(self, access: RoleAccess, identity: str, name: str, document: str) -> None:
        """`Refused` AlreadyExistsException, LimitExceededException, BadRequestException. Success proves nothing."""
        await self._write(
            access, "create_email_identity_policy", EmailIdentity=identity, PolicyName=name, Policy=document
        )

    async def delete_policy(self, access: RoleAccess, identity: str, name: str) -> None:
        """Deleting what is not there is success: SES is documented to answer 200 and was seen to answer 404."""
        try:
            await self._write(access, "delete_email_identity_policy", EmailIdentity=identity, PolicyName=name)
        except Refused as error:
            if error.code != "NotFoundException":
                raise

    async def identity(self, access: RoleAccess, identity: str) -> dict[str, Any]:
        """GetEmailIdentity's answer, with `Policies` in it."""
        return await self._read(access, "get_email_identity", EmailIdentity=identity)

    async def list_identities(self, access: RoleAccess) -> list[dict[str, Any]]:
        """Every identity of the Region: `IdentityName`, `IdentityType`, `VerificationStatus`, `SendingEnabled`."""
        found: list[dict[str, Any]] = []
        token: dict[str, str] = {}
        while True:
            answer = await self._read(access, "list_email_identities", PageSize=_PAGE, **token)
            found += answer.get("EmailIdentities", [])
            if not answer.get("NextToken"):
                return found
            token = {"NextToken": answer["NextToken"]}

    async def account(self, access: RoleAccess) -> dict[str, Any]:
        """GetAccount's answer: `ProductionAccessEnabled`, `SendingEnabled`, `EnforcementStatus`, `SendQuota` …"""
        return await self._read(access, "get_account")

    async def notification_topics_of(
        self, access: RoleAccess, identities: Sequence[str]
    ) -> dict[str, dict[str, str | None]]:
        """By name: topic ARNs under `bounce`, `complaint` and `delivery`, None where none is set; in few calls."""
        return {name: topics for name, (topics, _) in (await self.notifications_of(access, identities)).items()}

    async def notifications_of(
        self, access: RoleAccess, identities: Sequence[str]
    ) -> dict[str, tuple[dict[str, str | None], bool]]:
        """By name: the topics as above, and whether bounces and complaints are forwarded by e-mail too."""
        found: dict[str, tuple[dict[str, str | None], bool]] = {}
        for start in range(0, len(identities), _BATCH):
            names = list(identities[start : start + _BATCH])
            answer = await self._read(access, "get_identity_notification_attributes", service="ses", Identities=names)
            for name, told in answer.get("NotificationAttributes", {}).items():
                topics = {kind: told.get(f"{kind.title()}Topic") or None for kind in KINDS}
                found[name] = (topics, bool(told.get("ForwardingEnabled", True)))
        return found

    async def set_notification_topic(self, access: RoleAccess, identity: str, kind: str, topic_arn: str | None) -> None:
        """Sets or (None) clears the topic of `bounce`, `complaint` or `delivery`; may belong to another account."""
        given = {} if topic_arn is None else {"SnsTopic": topic_arn}
        await self._call(
            access,
            "set_identity_notification_topic",
            service="ses",
            policy=self._session_policy(NOTIFY, ["*"]),
            Identity=identity,
            NotificationType=kind.title(),
            **given,
        )

    async def topic_attributes(self, access: RoleAccess, topic_arn: str) -> dict[str, str]:
        """SNS's GetTopicAttributes for a topic of the account. `Refused` NotFound, AuthorizationError."""
        answer = await self._topic(access, "get_topic_attributes", topic_arn, TopicArn=topic_arn)
        return dict(answer.get("Attributes", {}))

    async def subscribe(self, access: RoleAccess, topic_arn: str, protocol: str, endpoint: str) -> str | None:
        """Subscribes us to a topic of the account; the subscription's ARN once it is confirmed, None while it waits.

        Asking again has SNS send the confirmation message again; what is confirmed stays as it is. HTTPS gets our retry
        policy; where somebody has set another one, SNS says that the subscription exists with other attributes
        (InvalidParameter), and it is left so.
        """
        given = {"TopicArn": topic_arn, "Protocol": protocol, "Endpoint": endpoint}
        retries = json.dumps({"healthyRetryPolicy": RETRIES}, sort_keys=True)
        policy = {} if protocol == "sqs" else {"Attributes": {"DeliveryPolicy": retries}}
        try:
            answer = await self._topic(access, "subscribe", topic_arn, **given, **policy)
        except Refused as error:
            if not policy or not error.code.startswith("InvalidParameter"):
                raise
            logger.warning("subscription keeps another retry policy", topic_arn=topic_arn, reason=error.detail)
            answer = await self._topic(access, "subscribe", topic_arn, **given)
        arn = str(answer.get("SubscriptionArn", ""))
        return arn if arn.startswith("arn:") else None

    async def unsubscribe(self, access: RoleAccess, subscription_arn: str) -> None:
        """Ends a subscription to a topic of the account."""
        policy = self._session_policy(("Unsubscribe",), ["*"])
        await self._call(access, "unsubscribe", service="sns", policy=policy, SubscriptionArn=subscription_arn)

    async def _topic(self, access: RoleAccess, operation: str, topic_arn: str, **parameters: Any) -> dict[str, Any]:
        policy = self._session_policy(LISTEN, [topic_arn])
        return await self._call(access, operation, service="sns", policy=policy, **parameters)

    async def suppress(self, access: RoleAccess, address: str, *, reason: str) -> None:
        """Puts an address into the account's suppression list, as `BOUNCE` or `COMPLAINT`. `Refused`."""
        await self._call(
            access,
            "put_suppressed_destination",
            service="sesv2",
            policy=self._session_policy(SUPPRESS, ["*"]),
            EmailAddress=address,
            Reason=reason,
        )

    async def _read(
        self, access: RoleAccess, operation: str, *, service: str = "sesv2", **parameters: Any
    ) -> dict[str, Any]:
        policy = self._session_policy(READ, [self._arn(access, "*")])
        return await self._call(access, operation, service=service, policy=policy, **parameters)

    async def _write(self, access: RoleAccess, operation: str, **parameters: Any) -> None:
        policy = self._session_policy(WRITE, [self._arn(access, parameters["EmailIdentity"])])
        await self._call(access, operation, service="sesv2", policy=policy, **parameters)

    async def _call(
        self, access: RoleAccess, operation: str, *, service: str, policy: str, **parameters: Any
    ) -> dict[str, Any]:
        """One call under a kept session, and once more under a new one when the kept one turned out to be over."""
        try:
            return await self._call_once(access, operation, service=service, policy=policy, **parameters)
        except SessionEnded:
            self._sts.forget(access)
            return await self._call_once(access, operation, service=service, policy=policy, **parameters)

    async def _call_once(
        self, access: RoleAccess, operation: str, *, service: str, policy: str, **parameters: Any
    ) -> dict[str, Any]:
        credentials = await self._sts.session(access, policy)
        return await self._aws.call(
            service,
            operation,
            region=access.region,
            account_id=access.account_id,
            credentials=credentials,
            **parameters,
        )

    def _arn(self, access: RoleAccess, name: str) -> str:
        return f"arn:{self._partition}:ses:{access.region}:{access.account_id}:identity/{name}"
