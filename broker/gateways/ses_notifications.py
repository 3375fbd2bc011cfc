"""An identity's notification settings in full, in the owner's account or by its ARN in a delegate's."""

from typing import Any

from broker.aws_access import RoleAccess
from broker.gateways.as_role import AsRole, SessionPolicy
from broker.gateways.aws import Aws
from broker.gateways.sts import StsGateway


class NotificationsGateway:
    """The calls that only version 1 of the SES API has. They raise `Unavailable` or `Refused`.

    `identity` is a name in the account's own Region; or the ARN of another account's identity, by which old
    cross-account notifications are meant (Developer Guide, sending-authorization-delegate-sender-tasks-notifications).
    """

    def __init__(self, aws: Aws, sts: StsGateway, session_policy: SessionPolicy) -> None:
        self._v1_calls = AsRole(aws, sts, session_policy, service="ses")
        self._v2_calls = AsRole(aws, sts, session_policy, service="sesv2")

    async def notification_settings(self, access: RoleAccess, identity: str) -> dict[str, Any]:
        """SES's answer about one identity: `BounceTopic`, `ForwardingEnabled`, `HeadersInBounceNotificationsEnabled` …

        Empty where SES knows nothing of it. Only one is asked for, so it does not matter under which key it comes.
        """
        answer = await self._v1(access, "GetIdentityNotificationAttributes", Identities=[identity])
        return dict(next(iter(answer.get("NotificationAttributes", {}).values()), {}))

    async def set_topic(self, access: RoleAccess, identity: str, kind: str, topic_arn: str | None) -> None:
        """Sets or (None) clears the topic of `bounce`, `complaint` or `delivery`."""
        given = {} if topic_arn is None else {"SnsTopic": topic_arn}
        named = {"Identity": identity, "NotificationType": kind.title()}
        await self._v1(access, "SetIdentityNotificationTopic", **named, **given)

    async def set_headers(self, access: RoleAccess, identity: str, kind: str, *, enabled: bool) -> None:
        """Whether the original headers are in the notifications of one kind; only where a topic is set."""
        named = {"Identity": identity, "NotificationType": kind.title()}
        await self._v1(access, "SetIdentityHeadersInNotificationsEnabled", **named, Enabled=enabled)

    async def set_forwarding(self, access: RoleAccess, identity: str, *, enabled: bool) -> None:
        """Feedback by e-mail; off only where bounces and complaints both have a topic (SES API Reference)."""
        await self._v1(access, "SetIdentityFeedbackForwardingEnabled", Identity=identity, ForwardingEnabled=enabled)

    async def send_test(
        self,
        access: RoleAccess,
        *,
        from_address: str,
        identity_arn: str,
        recipient: str,
        configuration_set_arn: str | None = None,
    ) -> str:
        """Sends a short test from another account's identity; SES's message id. `recipient`: of the mailbox simulator.

        `Refused` with AccessDenied where the role has not got the optional right to do so.
        """
        resources = [identity_arn] + ([configuration_set_arn] if configuration_set_arn else [])
        set_name = configuration_set_arn.rpartition("/")[2] if configuration_set_arn else None
        text = {"Data": "A test of the delegation broker."}
        answer = await self._v2_calls.call(
            access,
            "send_email",
            allowed=("SendEmail",),
            resources=resources,
            FromEmailAddress=from_address,
            FromEmailAddressIdentityArn=identity_arn,
            Destination={"ToAddresses": [recipient]},
            Content={"Simple": {"Subject": text, "Body": {"Text": text}}},
            **({"ConfigurationSetName": set_name} if set_name else {}),
        )
        return str(answer["MessageId"])

    async def _v1(self, access: RoleAccess, operation: str, **parameters: Any) -> dict[str, Any]:
        """None of them has a resource level (Service Authorization Reference, Amazon SES)."""
        method = _METHODS[operation]
        return await self._v1_calls.call(access, method, allowed=(operation,), resources=("*",), **parameters)


_METHODS = {
    "GetIdentityNotificationAttributes": "get_identity_notification_attributes",
    "SetIdentityNotificationTopic": "set_identity_notification_topic",
    "SetIdentityHeadersInNotificationsEnabled": "set_identity_headers_in_notifications_enabled",
    "SetIdentityFeedbackForwardingEnabled": "set_identity_feedback_forwarding_enabled",
}
